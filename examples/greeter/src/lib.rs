//! What `proto/greeter.proto` describes, and where its server listens. The programs are in `src/bin`.

use ipc_runtime::IpcConfig;

/// The messages, the trait `Greeter`, its server and its client.
pub mod v1 {
    ipc_runtime::include_proto!("greeter.v1");
}

/// The configuration that server and client share.
#[must_use]
pub fn config() -> IpcConfig {
    let endpoint_path = if cfg!(windows) {
        r"\\.\pipe\greeter".to_owned()
    } else {
        std::env::temp_dir().join("greeter/greeter.sock").display().to_string()
    };
    IpcConfig { endpoint_path, ..IpcConfig::default() }
}
