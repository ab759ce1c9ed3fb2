//! Local sockets: the only module that names `interprocess` and tokio's sockets and pipes.
//!
//! Gives byte streams as boxed halves, so that everything above is the same for a socket, a pipe and memory.
//! It must not know frames.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(windows)]
pub use self::platform::create as create_pipe;
pub(crate) use self::platform::{Listener, connect};
#[cfg(windows)]
pub(crate) use self::platform::{current_user, is_trusted};
use crate::peer::PeerInfo;

/// Where a stream is read, and where it is written.
pub(crate) type BoxedRead = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type BoxedWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Both halves of a byte stream. Shutting the write half down is seen by the peer as end of stream, where the
/// platform can.
pub(crate) struct ByteStream {
    pub(crate) input: BoxedRead,
    pub(crate) output: BoxedWrite,
    /// Whom the operating system names as the other end.
    pub(crate) peer: PeerInfo,
}

impl ByteStream {
    /// Two ends of a stream that lives in memory, each direction of which holds `capacity` bytes. `peer` is at both.
    pub(crate) fn pair(capacity: usize, peer: &PeerInfo) -> (Self, Self) {
        let (a, b) = tokio::io::duplex(capacity);
        (Self::of_duplex(a, peer.clone()), Self::of_duplex(b, peer.clone()))
    }

    fn of_duplex(stream: tokio::io::DuplexStream, peer: PeerInfo) -> Self {
        let (input, output) = tokio::io::split(stream);
        Self { input: Box::new(input), output: Box::new(output), peer }
    }
}
