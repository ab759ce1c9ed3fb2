//! A socket's place in the file system: its directory, its lock, its life.
//!
//! Everything is looked at through the directory's descriptor, so that a path that changes meanwhile changes
//! nothing here. The lock file stays behind: removing it would let two servers hold locks on different files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawMode, Stat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::Pid;

use super::access::Access;
use super::words::Words;
use crate::error::IpcError;

pub(crate) const WORDS: Words = Words {
    name: "socket path",
    missing: "no server has made this socket: start it, or correct endpoint_path",
    abandoned: "no server listens on this socket any more: start it again",
    denied: "run as the server's user; or have the server allow yours, at a path whose directories yours may enter",
    stranger: "find out who listens there; if it is right, allow it with ChannelBuilder::allow_uid",
};

/// Room in `sockaddr_un.sun_path` before its closing NUL (unix(7); 104 bytes on macOS and the BSDs).
const MAX_PATH_BYTES: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// Whether a socket has its mode from the moment it exists. Elsewhere it gets it right after binding: meanwhile others
/// may get into the queue of a socket in a directory that lets them pass, and their credentials keep them out.
const BOUND_WITH_MODE: bool = cfg!(any(target_os = "linux", target_os = "android"));

const LOCK_MODE: RawMode = 0o600;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// How often, and how long apart, a lock is tried whose holder has not said who it is: it has only just taken it, or
/// is about to give it back.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// How often a socket is asked whether a server listens on it, the pauses between growing from [`PAUSE`] to twice each
/// time (254 ms in all): a server that has just ended, and released its lock, may still listen for a moment, as the
/// kernel closes one descriptor after the other, and a child that it was starting has copies until its exec.
const ASKED: u32 = 8;

pub(super) fn check(endpoint: &str) -> Result<(), IpcError> {
    if endpoint.len() > MAX_PATH_BYTES {
        return Err(IpcError::invalid_input(format!(
            "endpoint_path {endpoint:?} has {} bytes, a socket path at most {MAX_PATH_BYTES}; use a shorter one",
            endpoint.len()
        )));
    }
    Ok(())
}

/// The system-wide default of an application's server.
pub(crate) fn default_path(app: &str, server: &str) -> String {
    format!("/var/run/{app}/{server}.sock")
}

/// The default of a server that runs for one user: below `XDG_RUNTIME_DIR` (XDG Base Directory Specification),
/// or a directory in the temporary directory that only this user can have made.
pub(crate) fn user_path(app: &str, server: &str) -> String {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = runtime.map_or_else(
        || std::env::temp_dir().join(format!("{app}-{}", rustix::process::geteuid().as_raw())),
        |runtime| runtime.join(app),
    );
    directory.join(format!("{server}.sock")).display().to_string()
}

/// The place of a listening server. While it lives no other server can have it; dropped, the socket is removed
/// if it is still the one that was bound.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    directory: OwnedFd,
    name: PathBuf,
    access: Access,
    bound: Option<Identity>,
    // Released by the kernel when the process ends, however it ends.
    lock: File,
}

impl Place {
    /// Makes a missing directory, checks it, locks the place, and removes a socket that no server
    /// listens on.
    ///
    /// # Errors
    ///
    /// Somebody else may write in the directory, a server has the place, or something that is no socket of ours
    /// is there; nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the place is given back.
    pub(crate) async fn prepare(endpoint: &str, access: Access) -> Result<Self, IpcError> {
        let path = PathBuf::from(endpoint);
        let Some(name) = path.file_name().map(PathBuf::from) else {
            return Err(IpcError::invalid_input(format!("endpoint_path {endpoint:?} names no file")));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = open_directory(&path, parent, access)?;
        let lock = lock(&path, &directory, &name).await?;
        let place = Self { path, directory, name, access, bound: None, lock };
        place.clear().await?;
        Ok(place)
    }

    /// Checks what was bound and remembers it.
    ///
    /// # Errors
    ///
    /// The socket is not where it should be, or others could connect to it.
    pub(crate) fn bound(&mut self) -> Result<(), IpcError> {
        let wanted = RawMode::from(self.access.socket_mode());
        let fail = |error: io::Error, what: &str| binding(&self.path, &error, what);
        let moved = "the directory was exchanged while binding; check who may write above it";
        let mut found = self.look().map_err(|error| fail(error, moved))?;
        // The umask has taken rights away; none was there that should not be.
        let narrowed = mode(&found) & !wanted == 0;
        if mode(&found) != wanted && (narrowed || !BOUND_WITH_MODE) {
            let mode = Mode::from_raw_mode(wanted);
            rustix::fs::chmodat(&self.directory, &self.name, mode, AtFlags::empty())
                .map_err(|error| fail(error.into(), "cannot set its mode"))?;
            found = self.look().map_err(|error| fail(error, moved))?;
        }
        if !is_socket(&found) || !is_ours(&found) || mode(&found) != wanted {
            let words = format!("mode {:o}, owner {}", mode(&found), found.st_uid);
            return Err(fail(
                io::Error::new(io::ErrorKind::PermissionDenied, words),
                "something has changed the socket while it was bound",
            ));
        }
        self.bound = Some(identity(&found));
        Ok(())
    }

    fn look(&self) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Whether somebody listens there and goes on listening.
    async fn is_served(&self) -> io::Result<bool> {
        for pause in (0..ASKED - 1).map(|asked| PAUSE * (1 << asked)) {
            if !is_served(&self.path)? {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
        }
        is_served(&self.path)
    }

    /// Removes what is at the place if it is a socket of ours without a server. The lock is held.
    async fn clear(&self) -> Result<(), IpcError> {
        let refuse =
            |kind, words: &str, remedy| Err(binding(&self.path, &io::Error::new(kind, words), remedy));
        let found = match self.look() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(binding(&self.path, &error, "cannot look at it")),
        };
        if !is_socket(&found) {
            let words = format!("there is a {} at this path", kind_of(&found));
            return refuse(
                io::ErrorKind::AlreadyExists,
                &words,
                "move it away or choose another endpoint_path",
            );
        }
        if !is_ours(&found) {
            let words = format!("there is a socket of user {}", found.st_uid);
            return refuse(io::ErrorKind::PermissionDenied, &words, "have its owner remove it");
        }
        if self
            .is_served()
            .await
            .map_err(|error| binding(&self.path, &error, "cannot tell whether it is served"))?
        {
            let words = "a program listens there that does not take the lock";
            return refuse(io::ErrorKind::AddrInUse, words, "stop it or choose another endpoint_path");
        }
        tracing::info!(path = %self.path.display(), "removing a socket that no server listens on");
        rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty())
            .map_err(|error| binding(&self.path, &error.into(), "cannot remove the stale socket"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.bound.is_some() && self.look().ok().map(|found| identity(&found)) == self.bound {
            _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
        // Nobody shall be told a pid that is gone.
        _ = self.lock.set_len(0);
        // Closing is not enough while a child that is being started has a copy of the descriptor.
        _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Opens the socket's directory, made if it is missing, and checks that nobody else may change it.
fn open_directory(path: &Path, parent: &Path, access: Access) -> Result<OwnedFd, IpcError> {
    make_directory(parent, access)
        .map_err(|error| binding(path, &error.into(), "cannot make its directory"))?;
    let fail = |error: rustix::io::Errno| binding(path, &error.into(), "cannot open its directory");
    let directory = rustix::fs::openat(rustix::fs::CWD, parent, DIRECTORY, Mode::empty()).map_err(fail)?;
    let found = rustix::fs::fstat(&directory).map_err(fail)?;
    let refuse = |words: String, remedy: &str| {
        Err(binding(path, &io::Error::new(io::ErrorKind::PermissionDenied, words), remedy))
    };
    if !is_ours(&found) && found.st_uid != 0 {
        let words = format!("its directory belongs to user {}", found.st_uid);
        return refuse(words, "use a directory of your own, such as one that does not exist yet");
    }
    if mode(&found) & 0o022 != 0 {
        let words = format!("others may write in its directory (mode {:o})", mode(&found));
        return refuse(
            words,
            "use a directory of its own, which is made with mode 0700 if it does not exist yet",
        );
    }
    Ok(directory)
}

/// Makes a directory and those above it, as far as they are missing, with this mode whatever the umask.
fn make_directory(directory: &Path, access: Access) -> Result<(), rustix::io::Errno> {
    if directory.as_os_str().is_empty() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(RawMode::from(access.directory_mode()));
    let mut outcome = rustix::fs::mkdir(directory, mode);
    if outcome == Err(rustix::io::Errno::NOENT)
        && let Some(above) = directory.parent()
    {
        make_directory(above, access)?;
        outcome = rustix::fs::mkdir(directory, mode);
    }
    match outcome {
        // The umask may have taken rights away, from those who are allowed to pass or even from us.
        Ok(()) => {
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            rustix::fs::fchmod(rustix::fs::open(directory, flags, Mode::empty())?, mode)
        }
        // Whether it will do is found out once it is open.
        Err(error) if error == rustix::io::Errno::EXIST || directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the lock beside the socket, which says who has the place.
async fn lock(path: &Path, directory: &OwnedFd, name: &Path) -> Result<File, IpcError> {
    let mut file_name = name.as_os_str().to_owned();
    file_name.push(".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fail =
        |error: io::Error| binding(path, &error, "cannot take its lock file (its name with .lock added)");
    let mut attempts = 0;
    loop {
        attempts += 1;
        let opened = rustix::fs::openat(directory, &file_name, flags, Mode::from_raw_mode(LOCK_MODE));
        let mut file = File::from(opened.map_err(|error| fail(error.into()))?);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = holder(&mut file);
                if holder.is_some_and(is_alive) || attempts == ATTEMPTS {
                    return Err(taken(path, holder));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(fail(error.into())),
        }
        // Somebody may have removed the file meanwhile: a lock on a file without a name locks nothing.
        let held = rustix::fs::fstat(&file).map_err(|error| fail(error.into()))?;
        let named = rustix::fs::statat(directory, &file_name, AtFlags::SYMLINK_NOFOLLOW);
        if named.is_ok_and(|named| identity(&named) == identity(&held)) {
            // Without its rights, which a umask may have taken, the next server could not open it.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(LOCK_MODE)).map_err(|error| fail(error.into()))?;
            let said = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            said.map_err(fail)?;
            return Ok(file);
        }
    }
}

/// Who has the lock, as far as its file says; it may still name the one before.
fn holder(file: &mut File) -> Option<Pid> {
    let mut pid = String::new();
    _ = file.take(32).read_to_string(&mut pid);
    pid.trim().parse().ok().and_then(Pid::from_raw)
}

fn is_alive(process: Pid) -> bool {
    rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH)
}

fn taken(path: &Path, holder: Option<Pid>) -> IpcError {
    let words = holder.map_or_else(
        || "another server has this endpoint".to_owned(),
        |pid| format!("the server with pid {pid} has this endpoint"),
    );
    let error = io::Error::new(io::ErrorKind::AddrInUse, words);
    binding(path, &error, "stop it or choose another endpoint_path")
}

/// Whether somebody listens on a socket now.
fn is_served(path: &Path) -> io::Result<bool> {
    // Not with flags of the call, which macOS does not have.
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(socket.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(socket.as_fd(), true)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_socket(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Socket
}

fn is_ours(found: &Stat) -> bool {
    found.st_uid == rustix::process::geteuid().as_raw()
}

const fn mode(found: &Stat) -> RawMode {
    found.st_mode & 0o7777
}

/// Device and number of a file. Systems differ in how wide they are, and in the sign.
type Identity = (i128, u64);

fn identity(found: &Stat) -> Identity {
    (found.st_dev.into(), found.st_ino)
}

fn kind_of(found: &Stat) -> &'static str {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        _ => "file that is no socket",
    }
}

fn binding(path: &Path, error: &io::Error, remedy: &str) -> IpcError {
    IpcError::Io(io::Error::new(error.kind(), format!("binding {}: {error}; {remedy}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Binds at a place of which something is changed meanwhile.
    async fn bound_with(mode: u32, meanwhile: impl FnOnce(&Path)) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("own/server.sock");
        let mut place = Place::prepare(path.to_str().unwrap(), Access::Private).await.unwrap();
        meanwhile(path.parent().unwrap());
        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let bound = place.bound().map_err(|error| error.to_string().replace(path.to_str().unwrap(), "PATH"));
        drop(place);
        // What was not checked is not taken for ours.
        assert_eq!(path.exists(), bound.is_err());
        bound
    }

    #[tokio::test]
    async fn what_was_bound_is_checked() {
        bound_with(0o600, |_| {}).await.unwrap();
        // Rights that the umask took away are given back; none that should not be there are let pass.
        bound_with(0o200, |_| {}).await.unwrap();
        assert_eq!(
            bound_with(0o622, |_| {}).await.unwrap_err(),
            format!(
                "binding PATH: mode 622, owner {}; something has changed the socket while it was bound",
                rustix::process::geteuid().as_raw()
            )
        );
    }

    #[tokio::test]
    async fn a_directory_that_is_exchanged_while_binding_is_noticed() {
        let exchange = |directory: &Path| {
            std::fs::rename(directory, directory.with_extension("moved")).unwrap();
            std::fs::create_dir(directory).unwrap();
        };
        assert_eq!(
            bound_with(0o600, exchange).await.unwrap_err(),
            "binding PATH: No such file or directory (os error 2); the directory was exchanged while binding; check \
             who may write above it"
        );
    }
}
