//! The cases between two processes, and what the client says of those that fail.

use ipc_tests::interop::cases::Case;
use ipc_tests::local;

use super::programs::{Ended, ServerProgram, run_client};

#[tokio::test]
async fn all_cases_pass_on_ieee() {
    all_cases_pass("ieee").await;
}

#[tokio::test]
async fn all_cases_pass_on_castagnoli() {
    all_cases_pass("castagnoli").await;
}

async fn all_cases_pass(crc: &str) {
    let mut server = ServerProgram::start(&["--crc", crc]).await;
    let client = run_client(&server.socket(), &["--crc", crc]).await;
    let wanted: Vec<String> = Case::all().iter().map(|case| format!("ok {case}")).collect();
    assert_eq!((client.lines(), client.code), (wanted, Some(0)));
    server.terminate();
    assert_eq!(server.ended().await, Ended::well(0));
}

#[tokio::test]
async fn one_case_is_run_by_name() {
    let server = ServerProgram::start(&[]).await;
    let client = run_client(&server.socket(), &["--case", "ping_pong"]).await;
    assert_eq!((client.lines(), client.code), (vec!["ok ping_pong".to_owned()], Some(0)));
}

#[tokio::test]
async fn a_case_that_fails_says_why() {
    let server = ServerProgram::start(&["--max-frame-bytes", "300000"]).await;
    let client = run_client(&server.socket(), &["--case", "large_unary"]).await;
    assert!(client.printed.starts_with("FAIL large_unary: RESOURCE_EXHAUSTED: "), "{}", client.printed);
    assert_eq!(client.code, Some(1));
}

#[tokio::test]
async fn checksums_that_differ_fail_the_case_and_both_are_named() {
    let server = ServerProgram::start(&["--crc", "castagnoli"]).await;
    let client = run_client(&server.socket(), &["--case", "empty_unary"]).await;
    assert!(client.printed.starts_with("FAIL empty_unary: FAILED_PRECONDITION: "), "{}", client.printed);
    for variant in ["ieee", "castagnoli"] {
        assert!(client.printed.contains(variant), "{}", client.printed);
    }
    assert_eq!(client.code, Some(1));
}

#[tokio::test]
async fn without_a_server_every_case_fails_at_once() {
    let (nobodys, _directory) = local::endpoint();
    let client = run_client(&nobodys, &[]).await;
    let lines = client.lines();
    assert_eq!(lines.len(), Case::all().len());
    for (line, case) in lines.iter().zip(Case::all()) {
        assert!(line.starts_with(&format!("FAIL {case}: UNAVAILABLE: ")), "{line}");
    }
    assert_eq!(client.code, Some(1));
}
