//! Servers on listeners that somebody else made: the caller, or systemd.

#[cfg(target_os = "linux")]
use std::env;
use std::os::unix::net::UnixListener;

use super::builder::ServerBuilder;
use super::listen::{Server, Source};
use crate::config::IpcConfig;
use crate::error::IpcError;
use crate::transport::Listener;

impl Server {
    /// A server on a listener that the caller has bound. `config.endpoint_path` only names it in logs and errors; its
    /// directory, mode and life are the caller's affair. Who connects is checked as on any server.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`]: of kind `InvalidInput` for a setting out of its bounds or a service added twice, and what the
    /// system says of the listener.
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
        // Otherwise nobody could ever connect, and only the log would say so.
        if !rustix::net::sockopt::socket_acceptconn(&listener).map_err(|error| fail(error.into()))? {
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it does not listen")));
        }
        let listener = Listener::adopt(listener).map_err(fail)?;
        tracing::info!(endpoint = config.endpoint_path, "listening on a given socket");
        let listener = Source::Socket(listener);
        Ok(Self { core: builder.into_core(config), listener, _place: None })
    }

    /// A server on the socket that systemd has made for this process (`sd_listen_fds(3)`): the first of them, which must
    /// be a listening Unix stream socket. `config.endpoint_path` only names it in logs and errors. `None` if the process
    /// was not started by socket activation, which `LISTEN_PID` with its id says; [`bind`](ServerBuilder::bind) then.
    ///
    /// Call it once, early: it takes the socket over, and sees to it that no child process inherits it.
    ///
    /// # Errors
    ///
    /// As [`from_listener`](Self::from_listener), and where the descriptor is no such socket.
    #[cfg(target_os = "linux")]
    pub fn from_activation(builder: ServerBuilder, config: &IpcConfig) -> Result<Option<Self>, IpcError> {
        let fail = |error: std::io::Error| {
            let words = format!("taking the socket of {} from systemd: {error}", config.endpoint_path);
            IpcError::Io(std::io::Error::new(error.kind(), words))
        };
        // Without it, or with another's, the variables were inherited, and so may be any descriptor 3. listenfd would
        // take none for everybody's.
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
