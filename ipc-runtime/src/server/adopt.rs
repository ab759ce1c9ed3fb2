//! Servers on listeners that the caller or systemd has made.

#[cfg(target_os = "linux")]
use std::env;
use std::os::unix::net::UnixListener;

use super::builder::ServerBuilder;
use super::listen::{Server, Source};
use crate::config::IpcConfig;
use crate::error::IpcError;
use crate::transport::Listener;

impl Server {
    /// A server on a listener that the caller has bound. `config.endpoint_path` only names it in logs and errors. The
    /// caller is responsible for the directory, mode and removal. Clients are checked as on any server.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`]: of kind `InvalidInput` if a setting is out of its bounds or a service was added twice, and the
    /// system's errors about the listener.
    pub fn from_listener(
        builder: ServerBuilder,
        listener: UnixListener,
        config: &IpcConfig,
    ) -> Result<Self, IpcError> {
        config.validate()?;
        builder.check()?;
        let fail = |error: std::io::Error| {
            let words = format!("listening on the given socket for {}: {error}", config.endpoint_path);
            IpcError::Io(std::io::Error::new(error.kind(), words))
        };
        #[cfg(not(target_vendor = "apple"))] // which does not tell
        // Otherwise no client could ever connect, and only the log would say so.
        if !rustix::net::sockopt::socket_acceptconn(&listener).map_err(|error| fail(error.into()))? {
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it does not listen")));
        }
        let listener = Listener::adopt(listener).map_err(fail)?;
        tracing::info!(endpoint = config.endpoint_path, "listening on a given socket");
        let listener = Source::Socket(listener);
        Ok(Self { core: builder.into_core(config), listener, _place: None })
    }

    /// A server on the socket that systemd has made for this process (`sd_listen_fds(3)`). It takes the first socket,
    /// which must be a listening Unix stream socket. `config.endpoint_path` only names it in logs and errors.
    ///
    /// `None` if the process was not started by socket activation: then `LISTEN_PID` is not the process's id. Use
    /// [`bind`](ServerBuilder::bind) in this case.
    ///
    /// Call it once, and early. It takes the socket, and prevents child processes from inheriting it.
    ///
    /// # Errors
    ///
    /// Like [`from_listener`](Self::from_listener). Also if the descriptor is not such a socket.
    #[cfg(target_os = "linux")]
    pub fn from_activation(builder: ServerBuilder, config: &IpcConfig) -> Result<Option<Self>, IpcError> {
        let fail = |error: std::io::Error| {
            let words = format!("taking the socket of {} from systemd: {error}", config.endpoint_path);
            IpcError::Io(std::io::Error::new(error.kind(), words))
        };
        // Without `LISTEN_PID`, or with another process's id, the variables were inherited, and descriptor 3 may be
        // anything. listenfd would accept variables without a `LISTEN_PID`.
        if env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return Ok(None);
        }
        let Some(listener) = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(fail)? else {
            return Ok(None);
        };
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC)
            .map_err(|error| fail(error.into()))?;
        Self::from_listener(builder, listener, config).map(Some)
    }
}
