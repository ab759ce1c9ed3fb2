//! Unix domain sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use interprocess::local_socket::tokio::{Listener as RawListener, Stream};
use interprocess::local_socket::traits::tokio::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, Name, ToFsName as _};
use tokio::net::UnixStream;

use super::ByteStream;
use crate::peer::PeerInfo;

/// Connects to the server at `endpoint`.
///
/// # Errors
///
/// What the operating system says; `WouldBlock` where the server's backlog is full.
pub(crate) async fn connect(endpoint: &str) -> io::Result<ByteStream> {
    let stream = Stream::connect(name_of(endpoint)?).await?;
    is_connected(&stream)?;
    opened(stream)
}

/// A socket that clients can connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    raw: RawListener,
}

impl Listener {
    /// Binds and listens; clients can connect when it returns. Where the system can, the socket has this mode from the
    /// moment it exists; elsewhere its place gives it the mode right after.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn bind(endpoint: &str, mode: u16) -> io::Result<Self> {
        // The name is given back by whoever knows that it is still ours.
        let options = ListenerOptions::new().name(name_of(endpoint)?).reclaim_name(false);
        Ok(Self { raw: with_mode(options, mode).create_tokio()? })
    }

    /// A listener that somebody else made and bound.
    ///
    /// # Errors
    ///
    /// It can't be made non-blocking, or there is no tokio runtime.
    pub(crate) fn adopt(listener: UnixListener) -> io::Result<Self> {
        let listener = OwnedFd::from(listener);
        let raw = interprocess::os::unix::uds_local_socket::tokio::Listener::try_from(listener)?;
        Ok(Self { raw: raw.into() })
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// What the operating system says; some errors pass by waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, no connection is lost.
    pub(crate) async fn accept(&self) -> io::Result<ByteStream> {
        opened(self.raw.accept().await?)
    }
}

fn name_of(endpoint: &str) -> io::Result<Name<'_>> {
    endpoint.to_fs_name::<GenericFilePath>()
}

/// On a full backlog `connect` returns a socket that is not connected, of which Linux would say that its peer is
/// user 4294967295.
fn is_connected(stream: &Stream) -> io::Result<()> {
    let Stream::UdSocket(stream) = stream;
    match stream.inner().peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "the server's queue of waiting connections is full",
        )),
        other => other.map(drop),
    }
}

/// The halves of a stream, and its peer.
fn opened(stream: Stream) -> io::Result<ByteStream> {
    let Stream::UdSocket(stream) = stream;
    let stream = UnixStream::from(stream);
    let credentials = stream.peer_cred()?;
    let mut peer = PeerInfo::default();
    peer.pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    peer.uid = Some(credentials.uid());
    peer.gid = Some(credentials.gid());
    let (input, output) = stream.into_split();
    Ok(ByteStream { input: Box::new(input), output: Box::new(output), peer })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn with_mode(options: ListenerOptions<'_>, mode: u16) -> ListenerOptions<'_> {
    use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
    options.mode(mode.into())
}

/// A socket's mode can't be set before it is bound: macOS and others ignore `fchmod` on it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const fn with_mode(options: ListenerOptions<'_>, _: u16) -> ListenerOptions<'_> {
    options
}
