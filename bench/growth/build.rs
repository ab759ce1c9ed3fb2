//! The messages and the service of `proto/bench.proto`, and a hundred names to register it under.

use std::fmt::Write as _;

const SERVICES: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    ipc_codegen::compile_protos(&["../proto/bench.proto"], &["../proto"])?;
    let mut code = format!("const NAMES: [&str; {SERVICES}] = [");
    for service in 0..SERVICES {
        write!(code, "\"growth.v1.S{service}\", ")?;
    }
    writeln!(code, "];\nconst TENS: [fn(ServerBuilder) -> ServerBuilder; {SERVICES}] = [")?;
    for service in 0..SERVICES {
        writeln!(code, "    ten::<{service}>,")?;
    }
    code.push_str("];\n");
    std::fs::write(format!("{}/many.rs", std::env::var("OUT_DIR")?), code)?;
    Ok(())
}
