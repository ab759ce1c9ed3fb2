//! Generates the code that `src/lib.rs` includes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    ipc_codegen::compile_protos(&["../../proto/greeter.proto"], &["../../proto"])?;
    Ok(())
}
