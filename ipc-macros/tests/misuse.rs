//! What `#[ipc_service]` refuses, each with the error at the place where it has to be mended.
//!
//! The `.stderr` files are what the compiler says; `TRYBUILD=overwrite` refreshes them.

#[test]
fn misuse_is_refused_where_it_stands() {
    if std::env::var_os("WINDOWS_CHECK_WINE").is_some() {
        eprintln!("skipped: trybuild runs cargo, and wine has none");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
