//! A local byte stream and its listener: a Unix socket, or on Windows a named pipe.
//!
//! A pipe has no halves: shut down, it is closed, and nothing more can be read from it.

#[cfg(unix)]
pub use tokio::net::{UnixListener as Listener, UnixStream as Stream};

#[cfg(windows)]
pub use self::pipes::{Listener, Stream};

/// An endpoint of its own, in a directory of its own where an endpoint is a file.
///
/// # Panics
///
/// Where no directory can be made.
#[must_use]
pub fn endpoint() -> (String, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = if cfg!(windows) {
        let name = directory.path().file_name().expect("a name").to_string_lossy();
        format!(r"\\.\pipe\ipc-tests\{name}")
    } else {
        directory.path().join("test.sock").to_str().expect("a path that is text").to_owned()
    };
    (path, directory)
}

#[cfg(windows)]
mod pipes {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use bytes::BufMut;
    use ipc_runtime::create_pipe;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer};
    use tokio::sync::Mutex;

    /// `ERROR_PIPE_BUSY`: every instance has its client.
    const BUSY: i32 = 231;

    /// One end of a pipe, `None` once it is closed.
    #[derive(Debug)]
    pub struct Stream(Option<Pipe>);

    #[derive(Debug)]
    enum Pipe {
        Client(NamedPipeClient),
        Server(NamedPipeServer),
    }

    /// The same on either end; on a closed one, `$closed`.
    macro_rules! on_pipe {
        ($stream:expr, $closed:expr, $end:ident => $call:expr) => {
            match &mut $stream.0 {
                Some(Pipe::Client($end)) => $call,
                Some(Pipe::Server($end)) => $call,
                None => $closed,
            }
        };
    }

    impl Stream {
        /// Connects, as soon as an instance is free.
        ///
        /// # Errors
        ///
        /// What the system says.
        pub async fn connect(name: impl AsRef<str>) -> io::Result<Self> {
            loop {
                match ClientOptions::new().open(name.as_ref()) {
                    // The server is making its next instance.
                    Err(error) if error.raw_os_error() == Some(BUSY) => tokio::task::yield_now().await,
                    opened => return Ok(Self(Some(Pipe::Client(opened?)))),
                }
            }
        }

        /// Writes what can be written without waiting.
        ///
        /// # Errors
        ///
        /// `WouldBlock`, `BrokenPipe` if either side has closed, and what else the system says.
        pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            on_pipe!(self, Err(io::ErrorKind::BrokenPipe.into()), end => end.try_write(bytes))
        }

        /// Reads what has come.
        ///
        /// # Errors
        ///
        /// `WouldBlock`, and what else the system says.
        pub fn try_read_buf(&mut self, buffer: &mut impl BufMut) -> io::Result<usize> {
            ended(on_pipe!(self, Ok(0), end => end.try_read_buf(buffer)), 0)
        }
    }

    /// A pipe that the peer has closed is at its end.
    fn ended<T>(outcome: io::Result<T>, end: T) -> io::Result<T> {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(end),
            other => other,
        }
    }

    impl AsyncRead for Stream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let read = on_pipe!(self, return Poll::Ready(Ok(())), end => Pin::new(end).poll_read(cx, buffer));
            Poll::Ready(ended(ready!(read), ()))
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let closed = Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            on_pipe!(self, closed, end => Pin::new(end).poll_write(cx, bytes))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        /// Closes the pipe, once what was written has been taken.
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let taken = on_pipe!(self, return Poll::Ready(Ok(())), end => ready!(end.poll_write_ready(cx)));
            self.0 = None;
            Poll::Ready(ended(taken, ()))
        }
    }

    /// A pipe that clients can connect to.
    #[derive(Debug)]
    pub struct Listener {
        name: String,
        /// The instance that waits for a client.
        waiting: Mutex<NamedPipeServer>,
    }

    impl Listener {
        /// Makes the pipe.
        ///
        /// # Errors
        ///
        /// What the system says.
        pub fn bind(name: impl AsRef<str>) -> io::Result<Self> {
            let first = create_pipe(name.as_ref(), true)?;
            Ok(Self { name: name.as_ref().to_owned(), waiting: Mutex::new(first) })
        }

        /// The next client.
        ///
        /// # Errors
        ///
        /// What the system says.
        pub async fn accept(&self) -> io::Result<(Stream, ())> {
            let mut waiting = self.waiting.lock().await;
            waiting.connect().await?;
            let next = create_pipe(&self.name, false)?;
            Ok((Stream(Some(Pipe::Server(std::mem::replace(&mut *waiting, next)))), ()))
        }
    }
}
