//! Named pipes, on tokio's.
//!
//! A pipe has no half that could be shut down alone, and closing it keeps what the peer has not read yet: so a stream
//! whose writing ends reads no more, and is closed as soon as what was written has been taken.

mod security;

use std::io;
use std::os::windows::io::AsHandle as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer};
use tokio::sync::Mutex;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY};

pub use self::security::create;
pub(crate) use self::security::{current_user, is_trusted};
use super::ByteStream;
use crate::peer::PeerInfo;

/// What is given to a pipe at once, the size of its buffer. It copies all it is given and says that it has taken it,
/// long before the peer can have it; the writer counts what was taken.
const WRITE_BYTES: usize = 64 * 1024;

/// Connects to the server at `endpoint`, which learns who this process is but can't act in its name: tokio opens pipes
/// with `SECURITY_IDENTIFICATION`.
///
/// # Errors
///
/// What the operating system says; `WouldBlock` where every instance of the pipe has its client.
pub(crate) async fn connect(endpoint: &str) -> io::Result<ByteStream> {
    let pipe = ClientOptions::new().open(endpoint).map_err(|error| {
        if is(&error, ERROR_PIPE_BUSY) { io::Error::new(io::ErrorKind::WouldBlock, error) } else { error }
    })?;
    let mut peer = PeerInfo::default();
    peer.pid = security::server_process(pipe.as_handle());
    peer.sid = Some(security::owner(pipe.as_handle())?);
    Ok(opened(Pipe::Client(pipe), peer))
}

/// A pipe that clients can connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: String,
    /// The instance that waits for a client. There is always one, so that the name is never free.
    waiting: Mutex<NamedPipeServer>,
}

impl Listener {
    /// Makes the pipe; clients can connect when it returns. It admits this user alone, from this machine.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where there is such a pipe already, and what else the operating system says.
    pub(crate) fn bind(endpoint: &str, _: u16) -> io::Result<Self> {
        let first = security::create(endpoint, true).map_err(|error| {
            if is(&error, ERROR_ACCESS_DENIED) {
                let words = "another server has this pipe; stop it or choose another endpoint_path";
                io::Error::new(io::ErrorKind::AddrInUse, words)
            } else {
                error
            }
        })?;
        Ok(Self { endpoint: endpoint.to_owned(), waiting: Mutex::new(first) })
    }

    /// The next connection. Its client may have left already.
    ///
    /// # Errors
    ///
    /// What the operating system says; some errors pass by waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, no connection is lost.
    pub(crate) async fn accept(&self) -> io::Result<ByteStream> {
        let mut waiting = self.waiting.lock().await;
        waiting.connect().await?;
        // Where this fails, the client stays connected to the one that waits, and is accepted the next time.
        let next = security::create(&self.endpoint, false)?;
        let pipe = std::mem::replace(&mut *waiting, next);
        let mut peer = PeerInfo::default();
        peer.pid = security::client_process(pipe.as_handle());
        Ok(opened(Pipe::Server(pipe), peer))
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error().is_some_and(|number| number.cast_unsigned() == code)
}

enum Pipe {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// The same on either end.
macro_rules! on_pipe {
    ($pipe:expr, $end:ident => $call:expr) => {
        match $pipe {
            Pipe::Server($end) => $call,
            Pipe::Client($end) => $call,
        }
    };
}

/// What both halves share.
struct Shared {
    pipe: Pipe,
    /// Writing has ended, and so has reading.
    ended: AtomicBool,
}

struct Input(Arc<Shared>);

struct Output(Arc<Shared>);

fn opened(pipe: Pipe, peer: PeerInfo) -> ByteStream {
    let shared = Arc::new(Shared { pipe, ended: AtomicBool::new(false) });
    ByteStream { input: Box::new(Input(Arc::clone(&shared))), output: Box::new(Output(shared)), peer }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.0.ended.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            match on_pipe!(&self.0.pipe, end => end.try_read_buf(buffer)) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer has closed its end, and nothing is left to be read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(on_pipe!(&self.0.pipe, end => end.poll_read_ready(cx)))?;
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES)];
        loop {
            ready!(on_pipe!(&self.0.pipe, end => end.poll_write_ready(cx)))?;
            match on_pipe!(&self.0.pipe, end => end.try_write(bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// What the pipe has taken goes its way; waiting for the peer to read it would be another thing.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Writable again: the last write has been taken, and survives the end of this process.
        let taken = ready!(on_pipe!(&self.0.pipe, end => end.poll_write_ready(cx)));
        self.0.ended.store(true, Ordering::Release);
        Poll::Ready(taken)
    }
}
