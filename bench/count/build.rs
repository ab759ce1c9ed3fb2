fn main() -> Result<(), Box<dyn std::error::Error>> {
    ipc_codegen::compile_protos(&["../proto/bench.proto"], &["../proto"])?;
    Ok(())
}
