//! gRPC's interoperability cases: over memory and between two processes, on both checksums; and how the server ends.

#![expect(clippy::unwrap_used, reason = "a test that panics says why")]

mod ending;
mod processes;
mod programs;
mod uncharged;

use ipc_runtime::{Channel, Crc32Variant, IpcConfig, Server};
use ipc_tests::interop::cases::Case;
use ipc_tests::interop::proto::TestServiceServer;
use ipc_tests::interop::service::Interop;

#[tokio::test]
async fn all_cases_pass_over_memory_on_ieee() {
    all_cases_pass_over_memory(Crc32Variant::Ieee).await;
}

#[tokio::test]
async fn all_cases_pass_over_memory_on_castagnoli() {
    all_cases_pass_over_memory(Crc32Variant::Castagnoli).await;
}

async fn all_cases_pass_over_memory(crc32_variant: Crc32Variant) {
    let config = IpcConfig { crc32_variant, ..IpcConfig::default() };
    let server = Server::builder().add_service(TestServiceServer::new(Interop));
    let channel = Channel::in_memory_with(server, &config, Channel::builder(&config)).unwrap();
    for case in Case::all() {
        assert_eq!(case.run(&channel).await, Ok(()), "{case}");
    }
}

#[test]
fn there_are_fifteen_cases_under_their_published_names() {
    let names: Vec<String> = Case::all().iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "empty_unary",
            "large_unary",
            "client_streaming",
            "server_streaming",
            "ping_pong",
            "empty_stream",
            "custom_metadata",
            "status_code_and_message",
            "special_status_message",
            "unimplemented_method",
            "unimplemented_service",
            "cancel_after_begin",
            "cancel_after_first_response",
            "timeout_on_sleeping_server",
            "concurrent_large_unary",
        ]
    );
}
