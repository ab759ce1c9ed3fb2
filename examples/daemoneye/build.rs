//! Generates the messages and stubs of `daemoneye.ipc.v1`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    ipc_codegen::configure()
        .type_attribute("ProcessRecord", "#[derive(::serde::Serialize)]")
        .type_attribute("Alert", "#[derive(::serde::Serialize)]")
        .compile_protos(&["../../proto/daemoneye/ipc/v1/services.proto"], &["../../proto"])?;
    Ok(())
}
