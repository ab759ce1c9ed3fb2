//! A way for the simulation in `tests/` to give channels and servers a transport of its own, and to seed what is random.
//!
//! It is no API: the feature `simulation-hooks` is for this repository alone. It knows nothing of what is simulated.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc};

use crate::client::builder::ChannelBuilder;
use crate::client::channel::Channel;
use crate::client::connect::Target;
use crate::config::IpcConfig;
use crate::endpoint::this_process;
use crate::error::IpcError;
use crate::server::{Server, ServerBuilder};
use crate::transport::ByteStream;

/// Where one end of a stream is read, and where it is written.
pub type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// One attempt to connect.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Halves>> + Send>>;

/// How a channel connects.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) async fn connect(&self) -> io::Result<ByteStream> {
        Ok(stream((self.0)().await?))
    }
}

fn stream((input, output): Halves) -> ByteStream {
    ByteStream { input, output, peer: this_process() }
}

/// A channel that connects by this.
///
/// # Errors
///
/// A setting is out of its bounds.
pub fn channel(
    builder: ChannelBuilder,
    connect: impl Fn() -> Connecting + Send + Sync + 'static,
) -> Result<Channel, IpcError> {
    builder.config.validate()?;
    let connector = Connector(Arc::new(connect));
    Ok(Channel::over(builder, |_| Target::Simulated(connector)))
}

/// The streams that a simulated server accepts.
pub(crate) struct Arriving(Mutex<mpsc::UnboundedReceiver<ByteStream>>);

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving").finish_non_exhaustive()
    }
}

impl Arriving {
    /// Like a listener's: dropped before it is ready, no connection is lost.
    pub(crate) async fn accept(&self) -> io::Result<ByteStream> {
        match self.0.lock().await.recv().await {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }
}

/// Where streams are handed to a server.
#[derive(Clone)]
pub struct Listening(mpsc::UnboundedSender<ByteStream>);

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}

impl Listening {
    /// Whether the server listens.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// A client connects.
    pub fn connect(&self, halves: Halves) {
        // A server that has just gone drops the stream, which its client sees.
        _ = self.0.send(stream(halves));
    }
}

/// A server that listens for what is handed to it.
///
/// # Errors
///
/// A setting is out of its bounds.
pub fn server(builder: ServerBuilder, config: &IpcConfig) -> Result<(Server, Listening), IpcError> {
    config.validate()?;
    builder.check()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let arriving = Arriving(Mutex::new(receiver));
    Ok((Server::simulated(builder.into_core(config), arriving), Listening(sender)))
}

type Draw = Box<dyn FnMut() -> u64>;

thread_local! {
    static DRAW: RefCell<Option<Draw>> = const { RefCell::new(None) };
}

/// From now on, what is random on this thread is drawn from this.
pub fn seed(draw: impl FnMut() -> u64 + 'static) {
    DRAW.with(|current| *current.borrow_mut() = Some(Box::new(draw)));
}

pub(crate) fn seeded() -> Option<u64> {
    DRAW.with(|draw| draw.borrow_mut().as_mut().map(|draw| draw()))
}
