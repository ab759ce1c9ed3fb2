//! Generates the stubs of the services that the tests call.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    ipc_codegen::compile_protos(&["../proto/grpc/testing/test.proto"], &["../proto"])?;
    Ok(())
}
