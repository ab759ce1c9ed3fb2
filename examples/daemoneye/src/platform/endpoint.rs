//! What the file system says about an endpoint, for diagnosis and health checks.

use std::fmt;

/// What stands at an endpoint's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointFile {
    /// Nothing, though its folder exists.
    Missing,
    /// Not even its folder.
    FolderMissing,
    /// Something that is no socket.
    NotASocket,
    /// A socket.
    Socket {
        /// Its permission bits.
        mode: u32,
        /// Its owner, as `root (0)`.
        owner: String,
        /// Who holds it.
        holder: Holder,
    },
    /// The folder may not be looked into.
    Hidden,
    /// This platform has no files for endpoints, or the path can't be looked at.
    Unknown,
}

/// Whether a process holds a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One that listens.
    Listening,
    /// One that has bound it and does not listen (yet, or no more).
    Bound,
    /// None: the file was left behind.
    Nobody,
    /// This platform does not tell.
    Unknown,
}

impl fmt::Display for EndpointFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing | Self::FolderMissing => f.write_str("missing"),
            Self::NotASocket => f.write_str("not a socket"),
            Self::Socket { mode, owner, .. } => write!(f, "{mode:04o} {owner}"),
            Self::Hidden => f.write_str("no access"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(unix)]
impl EndpointFile {
    /// Looks at `path` without connecting.
    #[must_use]
    pub fn look(path: &str) -> Self {
        use std::io::ErrorKind;
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        use std::path::Path;

        match std::fs::metadata(path) {
            Ok(file) if file.file_type().is_socket() => Self::Socket {
                mode: file.mode() & 0o7777,
                owner: super::user_name(file.uid()),
                holder: holder(path),
            },
            Ok(_) => Self::NotASocket,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Self::Hidden,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
                if folder.is_none_or(Path::exists) { Self::Missing } else { Self::FolderMissing }
            }
            Err(_) => Self::Unknown,
        }
    }
}

#[cfg(not(unix))]
impl EndpointFile {
    /// Pipes are no files: a look would be a connection.
    #[must_use]
    pub fn look(_path: &str) -> Self {
        Self::Unknown
    }
}

#[cfg(target_os = "linux")]
fn holder(path: &str) -> Holder {
    std::fs::read_to_string("/proc/net/unix").map_or(Holder::Unknown, |table| holder_in(&table, path))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn holder(_path: &str) -> Holder {
    Holder::Unknown
}

/// Finds `path` in the kernel's table: `Num RefCount Protocol Flags Type St Inode Path`.
#[cfg(any(target_os = "linux", test))]
fn holder_in(table: &str, path: &str) -> Holder {
    /// `__SO_ACCEPTCON`: the socket listens.
    const LISTENS: u32 = 0x1_0000;

    let mut found = Holder::Nobody;
    for line in table.lines().skip(1) {
        let Some(fields) = line.strip_suffix(path).and_then(|fields| fields.strip_suffix(' ')) else {
            continue;
        };
        let mut fields = fields.split_ascii_whitespace();
        let flags = fields.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        match (flags, fields.count()) {
            (Some(flags), 3) if flags & LISTENS != 0 => return Holder::Listening,
            (Some(_), 3) => found = Holder::Bound,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 26521 /run/live.sock
0000000000000000: 00000003 00000000 00000000 0001 03 26522 /run/live.sock
0000000000000000: 00000002 00000000 00000000 0001 01 26523 /run/bound.sock
0000000000000000: 00000003 00000000 00000000 0001 03 26524
";

    #[test]
    fn the_kernels_table_tells_listening_bound_and_nobody() {
        assert_eq!(holder_in(TABLE, "/run/live.sock"), Holder::Listening);
        assert_eq!(holder_in(TABLE, "/run/bound.sock"), Holder::Bound);
        assert_eq!(holder_in(TABLE, "/run/gone.sock"), Holder::Nobody);
        assert_eq!(holder_in(TABLE, "live.sock"), Holder::Nobody);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_stands_at_an_endpoint_is_seen() {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::net::UnixListener;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let text = path.to_str().unwrap();
        assert_eq!(EndpointFile::look(text), EndpointFile::Missing);
        assert_eq!(EndpointFile::look(&format!("{text}/b.sock")), EndpointFile::FolderMissing);

        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let owner = super::super::current_user();
        let listening = EndpointFile::Socket { mode: 0o600, owner: owner.clone(), holder: Holder::Listening };
        assert_eq!(EndpointFile::look(text), listening);
        assert_eq!(EndpointFile::look(text).to_string(), format!("0600 {owner}"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(EndpointFile::look(text), EndpointFile::NotASocket);
    }
}
