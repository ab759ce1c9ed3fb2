//! `ipc-codegen` as a plugin of `protoc`; see [`ipc_codegen::protoc_plugin`].

use std::io::{self, Read as _, Write as _};

fn main() -> io::Result<()> {
    let mut request = Vec::new();
    io::stdin().read_to_end(&mut request)?;
    io::stdout().write_all(&ipc_codegen::protoc_plugin(&request))
}
