//! Generates the messages and stubs of `daemoneye.ipc.v1`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fds = protox::compile(
        ["../../proto/daemoneye/ipc/v1/detection.proto", "../../proto/daemoneye/ipc/v1/services.proto"],
        ["../../proto"],
    )?;
    prost_build::Config::new()
        .bytes(["."])
        .type_attribute(".daemoneye.ipc.v1.ProcessRecord", "#[derive(::serde::Serialize)]")
        .compile_fds(fds)?;
    Ok(())
}
