//! Where a server listens: default locations, checks of the name, and the socket file's life.
//!
//! It prepares the place and gives it back; connecting and accepting are the transport's.

use crate::error::IpcError;

/// `DaemonEye`'s endpoint, the default of [`IpcConfig`](crate::IpcConfig).
pub(crate) const DEFAULT_ENDPOINT: &str =
    if cfg!(windows) { r"\\.\pipe\daemoneye\procmond" } else { "/var/run/daemoneye/procmond.sock" };

pub(crate) use platform::Place;

/// Checks what holds on every platform.
pub(crate) fn check(endpoint: &str) -> Result<(), IpcError> {
    if endpoint.is_empty() {
        return Err(IpcError::invalid_input("endpoint_path is empty; set it to a socket path".to_owned()));
    }
    if endpoint.contains('\0') {
        return Err(IpcError::invalid_input(format!(
            "endpoint_path {endpoint:?} has a NUL character; remove it"
        )));
    }
    platform::check(endpoint)
}

#[cfg(unix)]
mod platform {
    use std::fs::{self, DirBuilder, Metadata};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};

    use crate::error::IpcError;

    /// Room in `sockaddr_un.sun_path` before its closing NUL (unix(7); 104 bytes on macOS and the BSDs).
    const MAX_PATH_BYTES: usize =
        if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

    pub(super) fn check(endpoint: &str) -> Result<(), IpcError> {
        if endpoint.len() > MAX_PATH_BYTES {
            return Err(IpcError::invalid_input(format!(
                "endpoint_path {endpoint:?} has {} bytes, a socket path at most {MAX_PATH_BYTES}; use a shorter one",
                endpoint.len()
            )));
        }
        Ok(())
    }

    /// The socket file of a listening server; removed when dropped, if it is still the same file.
    #[derive(Debug)]
    pub(crate) struct Place {
        path: PathBuf,
        inode: Option<(u64, u64)>,
    }

    impl Place {
        /// Makes a missing directory (mode 0700) and removes a socket that no server listens on.
        ///
        /// # Errors
        ///
        /// A server listens there already, something else is at the path, or the system refuses.
        pub(crate) fn prepare(endpoint: &str) -> Result<Self, IpcError> {
            let path = PathBuf::from(endpoint);
            if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)
                    .map_err(|error| binding(&path, &error, "cannot make its directory"))?;
            }
            match fs::symlink_metadata(&path) {
                Ok(found) => remove_stale(&path, &found)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(binding(&path, &error, "cannot look at it")),
            }
            Ok(Self { path, inode: None })
        }

        /// Remembers which file the bound socket is.
        pub(crate) fn bound(&mut self) {
            self.inode = fs::symlink_metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let found = fs::symlink_metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
            if self.inode.is_some() && found == self.inode {
                _ = fs::remove_file(&self.path);
            }
        }
    }

    fn remove_stale(path: &Path, found: &Metadata) -> Result<(), IpcError> {
        if !found.file_type().is_socket() {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket");
            return Err(binding(path, &error, "move it away or choose another endpoint_path"));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(path = %path.display(), "removing a socket that no server listens on");
                fs::remove_file(path).map_err(|error| binding(path, &error, "cannot remove the stale socket"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(binding(path, &error, "cannot tell whether a server listens there")),
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::AddrInUse, "a server already listens there");
                Err(binding(path, &error, "stop it or choose another endpoint_path"))
            }
        }
    }

    fn binding(path: &Path, error: &io::Error, what: &str) -> IpcError {
        IpcError::Io(io::Error::new(error.kind(), format!("binding {}: {error}; {what}", path.display())))
    }
}

#[cfg(windows)]
mod platform {
    use crate::error::IpcError;

    pub(super) fn check(endpoint: &str) -> Result<(), IpcError> {
        if endpoint.starts_with(r"\\.\pipe\") && endpoint.len() > r"\\.\pipe\".len() {
            return Ok(());
        }
        Err(IpcError::invalid_input(format!(
            r"endpoint_path {endpoint:?} is no pipe name; use one such as \\.\pipe\my-app\server"
        )))
    }

    /// A pipe needs no place: its name lives as long as its instances.
    #[derive(Debug)]
    pub(crate) struct Place;

    impl Place {
        #[expect(clippy::unnecessary_wraps, reason = "other platforms can fail here")]
        pub(crate) fn prepare(_: &str) -> Result<Self, IpcError> {
            Ok(Self)
        }

        #[expect(clippy::unused_self, reason = "other platforms remember the socket file")]
        pub(crate) fn bound(&mut self) {}
    }
}
