//! Local sockets: the only file that names `interprocess` and tokio's sockets.
//!
//! Gives byte streams as boxed halves, so that everything above is the same for a socket, a pipe and memory.
//! It must not know frames.

use std::io;

use interprocess::local_socket::tokio::{Listener as RawListener, Stream as RawStream};
use interprocess::local_socket::traits::tokio::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, Name, ToFsName as _};

use crate::connection::driver::BoxedRead;
use crate::connection::writer::BoxedWrite;
use crate::peer::{self, PeerInfo};

/// Both halves of a byte stream. Shutting the write half down is seen by the peer as end of stream, where the
/// platform can.
pub(crate) struct ByteStream {
    pub(crate) input: BoxedRead,
    pub(crate) output: BoxedWrite,
    /// Whom the operating system names as the other end.
    pub(crate) peer: PeerInfo,
}

impl ByteStream {
    /// Two ends of a stream that lives in memory, each direction of which holds `capacity` bytes.
    pub(crate) fn pair(capacity: usize) -> (Self, Self) {
        let (a, b) = tokio::io::duplex(capacity);
        (Self::of_duplex(a), Self::of_duplex(b))
    }

    fn of_duplex(stream: tokio::io::DuplexStream) -> Self {
        let (input, output) = tokio::io::split(stream);
        Self { input: Box::new(input), output: Box::new(output), peer: peer::this_process() }
    }
}

/// Connects to the server at `endpoint`.
///
/// # Errors
///
/// What the operating system says; `WouldBlock` where the server's backlog is full.
pub(crate) async fn connect(endpoint: &str) -> io::Result<ByteStream> {
    let stream = RawStream::connect(name_of(endpoint)?).await?;
    platform::is_connected(&stream)?;
    platform::opened(stream)
}

/// A socket or pipe that clients can connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    raw: RawListener,
}

impl Listener {
    /// Binds and listens; clients can connect when it returns. On Unix the socket has this mode from the moment it
    /// exists.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn bind(endpoint: &str, mode: u16) -> io::Result<Self> {
        // The name is given back by whoever knows that it is still ours.
        let options = ListenerOptions::new().name(name_of(endpoint)?).reclaim_name(false);
        Ok(Self { raw: platform::with_mode(options, mode).create_tokio()? })
    }

    /// A listener that somebody else made and bound.
    ///
    /// # Errors
    ///
    /// It can't be made non-blocking, or there is no tokio runtime.
    #[cfg(unix)]
    pub(crate) fn adopt(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let raw = platform::adopt(std::os::fd::OwnedFd::from(listener))?;
        Ok(Self { raw })
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
        platform::opened(self.raw.accept().await?)
    }
}

fn name_of(endpoint: &str) -> io::Result<Name<'_>> {
    endpoint.to_fs_name::<GenericFilePath>()
}

#[cfg(unix)]
mod platform {
    use std::io;
    use std::os::fd::OwnedFd;

    use interprocess::local_socket::ListenerOptions;
    use interprocess::local_socket::tokio::{Listener, Stream};
    use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
    use tokio::net::UnixStream;

    use super::ByteStream;
    use crate::peer::PeerInfo;

    /// On a full backlog `connect` returns a socket that is not connected, of which Linux would say that its peer is
    /// user 4294967295.
    pub(super) fn is_connected(stream: &Stream) -> io::Result<()> {
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
    pub(super) fn opened(stream: Stream) -> io::Result<ByteStream> {
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

    pub(super) fn adopt(listener: OwnedFd) -> io::Result<Listener> {
        interprocess::os::unix::uds_local_socket::tokio::Listener::try_from(listener).map(Listener::from)
    }

    pub(super) fn with_mode(options: ListenerOptions<'_>, mode: u16) -> ListenerOptions<'_> {
        options.mode(mode.into())
    }
}

#[cfg(windows)]
mod platform {
    use std::io;

    use interprocess::local_socket::ListenerOptions;
    use interprocess::local_socket::tokio::Stream;
    use interprocess::local_socket::traits::StreamCommon as _;

    use super::ByteStream;
    use crate::peer::PeerInfo;

    #[expect(clippy::unnecessary_wraps, reason = "other platforms can fail here")]
    pub(super) fn is_connected(_: &Stream) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn with_mode(options: ListenerOptions<'_>, _: u16) -> ListenerOptions<'_> {
        options
    }

    pub(super) fn opened(stream: Stream) -> io::Result<ByteStream> {
        let mut peer = PeerInfo::default();
        peer.pid = stream.peer_creds()?.pid();
        let (input, output) = tokio::io::split(stream);
        Ok(ByteStream { input: Box::new(input), output: Box::new(output), peer })
    }
}
