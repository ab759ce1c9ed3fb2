//! Where a test takes place: [`Real`], our server in a directory of its own, and [`Played`], our client facing a
//! server that the test plays.

#![expect(clippy::missing_panics_doc, reason = "what a test waits for fails it by a panic")]

use std::time::Duration;

use bytes::Bytes;
use ipc_runtime::tables::ServerTables;
use ipc_runtime::{
    Channel, ChannelBuilder, Code, Crc32Variant, IpcConfig, IpcError, Request, Response, Server,
    ServerBuilder, Shutdown,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::local;
use crate::probe::{Controls, Handlers, Note, ProbeClient, ProbeServer};
use crate::raw::{RawPeer, RawServer, soon};
use crate::wire::{self, Checksum, Hello};

/// What a call over a stub gives.
pub type Outcome<T> = Result<Response<T>, IpcError>;

/// Settings for a test: the defaults, and an endpoint of its own.
#[must_use]
pub fn place() -> (IpcConfig, TempDir) {
    let (endpoint_path, directory) = local::endpoint();
    (IpcConfig { endpoint_path, ..IpcConfig::default() }, directory)
}

/// Our server, serving [`Handlers`].
#[derive(Debug)]
pub struct Real {
    /// What it runs on.
    pub config: IpcConfig,
    /// Its handlers' controls.
    pub probe: Controls,
    /// How full its tables are.
    pub tables: ServerTables,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Shutdown, IpcError>>,
    _directory: TempDir,
}

impl Real {
    /// A server with all defaults.
    pub async fn start() -> Self {
        Self::with(|_| {}, |builder| builder).await
    }

    /// A server with other settings.
    pub async fn with(
        change: impl FnOnce(&mut IpcConfig),
        build: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let (mut config, directory) = place();
        change(&mut config);
        let probe = Controls::default();
        let builder = build(Server::builder().add_service(ProbeServer::new(Handlers(probe.clone()))));
        let server = builder.bind(&config).await.expect("a server");
        let tables = ServerTables::of(&server);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve_with_shutdown(stopped));
        Self { config, probe, tables, stop: Some(stop), task, _directory: directory }
    }

    /// A client that has said nothing yet.
    pub async fn silent(&self) -> RawPeer {
        RawPeer::connect(&self.config.endpoint_path).await
    }

    /// A client past the Hellos, with all defaults but the server's checksum.
    pub async fn raw(&self) -> RawPeer {
        let checksum = match self.config.crc32_variant {
            Crc32Variant::Ieee => Checksum::Ieee,
            Crc32Variant::Castagnoli => Checksum::Castagnoli,
        };
        self.raw_with(Hello { crc32_variant: checksum.number(), ..wire::hello() }).await
    }

    /// A client past the Hellos.
    pub async fn raw_with(&self, hello: Hello) -> RawPeer {
        let mut peer = self.silent().await;
        peer.greet(hello).await;
        peer
    }

    /// A client of ours.
    #[must_use]
    pub fn client(&self) -> ProbeClient {
        ProbeClient::new(Channel::new(&self.config).expect("valid settings"))
    }

    /// Asks the server to shut down, and goes on.
    pub fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has shut down, having asked for it.
    pub async fn stopped(mut self) -> Shutdown {
        self.ask_to_stop();
        soon("the server's end", self.task).await.expect("no panic").expect("no error")
    }
}

/// Our client, and the server that the test plays.
#[derive(Debug)]
pub struct Played {
    /// What the client runs on.
    pub config: IpcConfig,
    /// Where the test accepts it.
    pub server: RawServer,
    /// The client.
    pub client: ProbeClient,
    /// What it calls through.
    pub channel: Channel,
    _directory: TempDir,
}

impl Played {
    /// A client with all defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|_| {}, |builder| builder)
    }

    /// A client with other settings.
    pub fn with(
        change: impl FnOnce(&mut IpcConfig),
        build: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    ) -> Self {
        let (mut config, directory) = place();
        change(&mut config);
        let server = RawServer::bind(&config.endpoint_path);
        let channel = build(Channel::builder(&config)).build().expect("valid settings");
        Self { config, server, client: ProbeClient::new(channel.clone()), channel, _directory: directory }
    }

    /// Begins a call of `Echo`.
    #[must_use]
    pub fn echo(&self) -> JoinHandle<Outcome<Note>> {
        self.call(async |client| client.echo(text(4)).await)
    }

    /// Begins a call of `Echo` that does not wait for a better time to connect.
    #[must_use]
    pub fn hasty_echo(&self) -> JoinHandle<Outcome<Note>> {
        self.call(async |client| client.echo(hasty(4)).await)
    }

    /// Begins any call.
    pub fn call<T: Send + 'static, F>(&self, call: impl FnOnce(ProbeClient) -> F) -> JoinHandle<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        tokio::spawn(call(self.client.clone()))
    }
}

/// A note with this much text.
#[must_use]
pub fn text(bytes: usize) -> Note {
    Note { text: Bytes::from(vec![b'x'; bytes]) }
}

/// A request with this much text that does not wait for a better time to connect.
#[must_use]
pub fn hasty(bytes: usize) -> Request<Note> {
    Request::new(text(bytes)).with_wait_for_ready(false)
}

/// What a task gave.
pub async fn done<T>(task: JoinHandle<T>) -> T {
    soon("a call's end", task).await.expect("a call that does not panic")
}

/// Fails the test unless the call failed with this code, and says this of whether its request left.
pub fn failed<T: std::fmt::Debug>(outcome: Result<T, IpcError>, code: Code, request_sent: bool) -> IpcError {
    let error = outcome.expect_err("a call that fails");
    assert_eq!((error.code(), error.request_sent()), (code, request_sent), "{error}");
    error
}

/// The first cause of an error that is an [`IpcError`] of its own.
#[must_use]
pub fn cause(error: &IpcError) -> Option<&IpcError> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(cause) = error.downcast_ref() {
            return Some(cause);
        }
        source = error.source();
    }
    None
}

/// So many milliseconds.
#[must_use]
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
