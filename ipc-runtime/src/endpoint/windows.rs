//! A pipe's name. A pipe needs no place: its name lives as long as its instances.

use super::access::Access;
use super::words::Words;
use crate::error::IpcError;
use crate::transport::current_user;

pub(crate) const WORDS: Words = Words {
    name: "pipe name",
    missing: "no server has made this pipe: start it, or correct endpoint_path",
    abandoned: "no server listens on this pipe any more: start it again",
    denied: "run as the server's user: its pipe admits nobody else",
    stranger: "find out who listens there; if it is right, allow it with ChannelBuilder::allow",
};

const PREFIX: &str = r"\\.\pipe\";

/// Of the whole name, in UTF-16 (`CreateNamedPipeW`).
const MAX_NAME_UNITS: usize = 256;

pub(super) fn check(endpoint: &str) -> Result<(), IpcError> {
    let prefixed = endpoint.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if !prefixed || endpoint.len() == PREFIX.len() {
        return Err(IpcError::invalid_input(format!(
            r"endpoint_path {endpoint:?} is no pipe name; use one such as \\.\pipe\my-app\server"
        )));
    }
    let units = endpoint.encode_utf16().count();
    if units > MAX_NAME_UNITS {
        return Err(IpcError::invalid_input(format!(
            "endpoint_path {endpoint:?} has {units} characters, a pipe name at most {MAX_NAME_UNITS}; use a shorter one"
        )));
    }
    Ok(())
}

/// The default of an application's server.
pub(crate) fn default_path(app: &str, server: &str) -> String {
    format!(r"{PREFIX}{app}\{server}")
}

/// The default of a server that runs for one user, named by the security identifier: an environment variable could
/// say anything.
pub(crate) fn user_path(app: &str, server: &str) -> String {
    format!(r"{PREFIX}{app}-{}\{server}", current_user().unwrap_or("unknown"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_names_are_taken_as_they_are_and_others_refused() {
        check(r"\\.\pipe\my-app\server").unwrap();
        check(r"\\.\PIPE\server").unwrap();
        for name in ["server", r"\\.\pipe\", r"\\host\pipe\server", "/run/server.sock"] {
            assert!(check(name).unwrap_err().to_string().contains("is no pipe name"), "{name}");
        }
        let name = |units: usize| format!("{PREFIX}{}", "\u{e4}".repeat(units - PREFIX.len()));
        check(&name(256)).unwrap();
        assert!(check(&name(257)).unwrap_err().to_string().contains("257 characters"));
    }

    #[test]
    fn defaults_have_one_prefix_and_name_the_user_by_its_identifier() {
        assert_eq!(default_path("app", "server"), r"\\.\pipe\app\server");
        let user = current_user().unwrap();
        assert!(user.starts_with("S-1-5-"), "{user}");
        assert_eq!(user_path("app", "server"), format!(r"\\.\pipe\app-{user}\server"));
    }
}
