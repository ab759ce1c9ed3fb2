//! What the compiler says about handlers that are not what a generated trait asks for.
//!
//! The `.stderr` files are what it says; `TRYBUILD=overwrite` refreshes them.

#[test]
fn each_mistake_is_told() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
