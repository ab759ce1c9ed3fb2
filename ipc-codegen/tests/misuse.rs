//! What the compiler says about handlers that are not what a generated trait asks for.
//!
//! The `.stderr` files are what it says; `TRYBUILD=overwrite` refreshes them.

#[test]
fn each_mistake_is_told() {
    if std::env::var_os("WINDOWS_CHECK_WINE").is_some() {
        eprintln!("skipped: trybuild runs cargo, and wine has none");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
