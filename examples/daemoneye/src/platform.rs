//! Everything that differs between platforms: images of processes, what stands at an endpoint, users,
//! stop requests, default places. No other module asks which platform this is.
//!
//! It must not know messages, services or tables.

mod endpoint;
mod image;
mod stop;

use std::path::{Path, PathBuf};

pub use self::endpoint::{EndpointFile, Holder};
pub use self::image::{Image, running_image};
pub use self::stop::StopRequest;

/// Where the agent listens unless it is told otherwise.
pub const AGENT_ENDPOINT: &str =
    if cfg!(windows) { r"\\.\pipe\daemoneye\agent" } else { "/var/run/daemoneye/agent.sock" };

/// Folders that every user may write to, where no installed program runs from.
pub const TEMPORARY_FOLDERS: &[&str] =
    if cfg!(windows) { &[r"C:\Windows\Temp"] } else { &["/tmp", "/var/tmp", "/dev/shm"] };

/// Where a configuration file is looked for, the user's own first.
#[must_use]
pub fn config_places() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folders = if cfg!(windows) {
        [variable("APPDATA"), variable("PROGRAMDATA")]
    } else {
        let own = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        [own, Some("/etc".into())]
    };
    folders.into_iter().flatten().map(|folder| folder.join("daemoneye").join("daemoneye.yaml")).collect()
}

/// An endpoint that belongs to a private folder.
#[must_use]
pub fn endpoint_in(folder: &Path) -> String {
    if cfg!(windows) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        format!(r"\\.\pipe\{name}\procmond")
    } else {
        folder.join("procmond.sock").to_string_lossy().into_owned()
    }
}

/// The user that this program runs as, as people write it: `root (0)`.
#[must_use]
pub fn current_user() -> String {
    #[cfg(unix)]
    return user_name(rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    return std::env::var("USERNAME").unwrap_or_else(|_| "unknown".into());
}

/// The users that this machine knows by name, where they can be listed.
///
/// On Windows sysinfo 0.38 reads through a null pointer where the system lists none; a process's
/// user is its security identifier there.
#[must_use]
pub fn users() -> Option<sysinfo::Users> {
    cfg!(unix).then(sysinfo::Users::new_with_refreshed_list)
}

/// The name and number of a Unix user.
#[cfg(unix)]
fn user_name(id: u32) -> String {
    let users = users();
    let text = id.to_string();
    users
        .as_ref()
        .and_then(|users| users.iter().find(|user| user.id().to_string() == text))
        .map_or_else(|| format!("user {id}"), |user| format!("{} ({id})", user.name()))
}
