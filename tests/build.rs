//! Generates the raw peer's messages with prost-build alone, and the test services' stubs with `ipc-codegen`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wire = protox::compile(["ipc/wire/v1/wire.proto"], ["../proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(wire)?;
    println!("cargo:rerun-if-changed=../proto/ipc/wire/v1/wire.proto");
    let services = [
        "../proto/test/probe.proto",
        "../proto/test/actor.proto",
        "../proto/test/simulation.proto",
        "../proto/grpc/testing/test.proto",
    ];
    ipc_codegen::compile_protos(&services, &["../proto"])?;
    // What the README shows, for its code to be tested.
    ipc_codegen::compile_protos(&["../proto/greeter.proto"], &["../proto"])?;
    Ok(())
}
