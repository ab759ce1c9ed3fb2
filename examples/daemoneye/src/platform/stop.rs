//! Being asked to stop: by a signal, by the console, or by a parent that closes standard input.

use std::io::{self, Read};

use tokio::sync::oneshot;

/// Notices a request to stop from the moment it is made.
#[derive(Debug)]
pub struct StopRequest {
    signals: Signals,
    stdin: Option<oneshot::Receiver<()>>,
}

impl StopRequest {
    /// Begins to listen; with `with_stdin` also for the end of standard input.
    ///
    /// # Errors
    ///
    /// The platform's, when it lets no handler be installed.
    pub fn listen(with_stdin: bool) -> io::Result<Self> {
        Ok(Self { signals: Signals::listen()?, stdin: with_stdin.then(end_of_stdin) })
    }

    /// Waits for the request, and logs what it was.
    pub async fn requested(mut self) {
        let stdin = async {
            match self.stdin.take() {
                // A sender that is gone means that standard input can't be read: it has ended.
                Some(end) => drop(end.await),
                None => std::future::pending().await,
            }
        };
        let request = tokio::select! {
            signal = self.signals.next() => signal,
            () = stdin => "the end of standard input",
        };
        tracing::info!("stopping on {request}");
    }
}

/// A thread of its own: tokio's standard input would keep the program from ending.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while matches!(input.read(&mut [0; 256]), Ok(1..)) {}
        let _ = ended.send(());
    });
    end
}

#[cfg(unix)]
#[derive(Debug)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(windows)]
#[derive(Debug)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    close: tokio::signal::windows::CtrlClose,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_c, ctrl_close};
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_close()? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.close.recv() => "the closing of the console",
        }
    }
}
