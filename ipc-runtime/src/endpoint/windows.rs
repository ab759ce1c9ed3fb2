//! A pipe's name. A pipe needs no place: its name lives as long as its instances.

use super::Access;
use crate::error::IpcError;

const PREFIX: &str = r"\\.\pipe\";

pub(super) fn check(endpoint: &str) -> Result<(), IpcError> {
    if endpoint.starts_with(PREFIX) && endpoint.len() > PREFIX.len() {
        return Ok(());
    }
    Err(IpcError::invalid_input(format!(
        r"endpoint_path {endpoint:?} is no pipe name; use one such as \\.\pipe\my-app\server"
    )))
}

/// The default of an application's server.
pub(crate) fn default_path(app: &str, server: &str) -> String {
    format!(r"{PREFIX}{app}\{server}")
}

/// The default of a server that runs for one user.
pub(crate) fn user_path(app: &str, server: &str) -> String {
    let user = std::env::var("USERNAME").unwrap_or_default();
    format!(r"{PREFIX}{app}-{user}\{server}")
}

/// What a listening server holds.
#[derive(Debug)]
pub(crate) struct Place;

impl Place {
    #[expect(clippy::unused_async, reason = "other platforms can fail here, and may have to wait")]
    pub(crate) async fn prepare(_: &str, _: Access) -> Result<Self, IpcError> {
        Ok(Self)
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "other platforms check the socket")]
    pub(crate) fn bound(&mut self) -> Result<(), IpcError> {
        Ok(())
    }
}
