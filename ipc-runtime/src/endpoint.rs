//! Where a server listens: default paths, checks of the name, and who may listen there.
//!
//! It prepares the path for binding and cleans it up afterwards. The transport connects and accepts.

mod access;
mod policy;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
mod words;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

pub(crate) use self::access::Access;
pub(crate) use self::platform::{Place, WORDS};
use self::platform::{default_path, user_path};
pub(crate) use self::policy::{Policy, this_process};
use crate::config::IpcConfig;
use crate::error::IpcError;

impl IpcConfig {
    /// The default settings with a system-wide endpoint for one server of an application. On Unix it is
    /// `/var/run/APP/SERVER.sock`, on Windows `\\.\pipe\APP\SERVER`.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` if a name can't be part of a path.
    pub fn for_app(app: &str, server: &str) -> Result<Self, IpcError> {
        named(app, server, default_path)
    }

    /// The default settings with an endpoint for the current user alone. On Windows it is `\\.\pipe\APP-USER\SERVER`.
    ///
    /// On Unix it is `APP/SERVER.sock` below `XDG_RUNTIME_DIR`. If that is not set, the socket is in a directory named
    /// after the application and the user, below the temporary directory. `bind` refuses this directory if it belongs to
    /// another user.
    ///
    /// # Errors
    ///
    /// Like [`for_app`](Self::for_app).
    pub fn for_user(app: &str, server: &str) -> Result<Self, IpcError> {
        named(app, server, user_path)
    }
}

fn named(app: &str, server: &str, path: fn(&str, &str) -> String) -> Result<IpcConfig, IpcError> {
    check_part("the application", app)?;
    check_part("the server", server)?;
    Ok(IpcConfig { endpoint_path: path(app, server), ..IpcConfig::default() })
}

/// Checks an endpoint's name, without asking the system.
///
/// # Errors
///
/// [`IpcError::Io`] of kind `InvalidInput` that says what is wrong with the name.
pub(crate) fn check(endpoint: &str) -> Result<(), IpcError> {
    if endpoint.is_empty() {
        return Err(IpcError::invalid_input(format!("endpoint_path is empty; set it to a {}", WORDS.name)));
    }
    if endpoint.contains('\0') {
        return Err(IpcError::invalid_input(format!(
            "endpoint_path {endpoint:?} has a NUL character; remove it"
        )));
    }
    platform::check(endpoint)
}

/// Checks a name that becomes part of a default path.
fn check_part(what: &str, part: &str) -> Result<(), IpcError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if part.is_empty() || part.starts_with('.') || !part.chars().all(allowed) {
        return Err(IpcError::invalid_input(format!(
            "{what} {part:?} can't be part of a path; use letters, digits, '-', '_' and '.', and no '.' at the front"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_endpoints_are_refused_with_the_reason() {
        let name = if cfg!(windows) { "pipe name" } else { "socket path" };
        assert_eq!(check("").unwrap_err().to_string(), format!("endpoint_path is empty; set it to a {name}"));
        assert_eq!(
            check("/run/a\0b").unwrap_err().to_string(),
            r#"endpoint_path "/run/a\0b" has a NUL character; remove it"#
        );
        for part in ["", ".", "..", ".hidden", "a/b", "a\\b", "ü"] {
            assert!(check_part("the application", part).is_err(), "{part}");
        }
        check_part("the application", "daemon-eye_2.0").unwrap();
    }
}
