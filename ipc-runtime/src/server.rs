//! The server, and the [`Core`] that its connections share.

pub(crate) mod accept;
#[cfg(unix)]
mod adopt;
mod builder;
pub(crate) mod connection;
pub(crate) mod dispatch;
mod growth;
mod layered;
mod places;
pub(crate) mod reply;
pub(crate) mod router;
mod runners;
mod shutdown;
mod stall;
mod task;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::accept::{Counts, Newcomer};
pub(crate) use self::builder::Options;
pub use self::builder::ServerBuilder;
use self::connection::ServerConnection;
use self::dispatch::ServerCall;
use self::growth::TotalBudget;
use self::router::{Router, Service};
pub use self::shutdown::Shutdown;
use crate::config::IpcConfig;
use crate::endpoint::Place;
use crate::error::IpcError;
use crate::layer::{Layers, ServerLayer};
use crate::protocol::envelope::Hello;
use crate::protocol::handshake;
use crate::status::Status;
use crate::sync::lock;
use crate::transport::{ByteStream, Listener};

/// How long accepting pauses when the system can't give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A service with layers of its own, inside the server's.
///
/// ```
/// # use ipc_runtime::{CallContext, Layered, Next, Server, ServerLayer, Status};
/// # fn add(service: impl ipc_runtime::codegen::Service, token: impl ServerLayer) {
/// // service: GreeterServer::new(MyGreeter)
/// let builder = Server::builder().add_service(Layered::new(service, token));
/// # drop(builder);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Layered<S> {
    service: S,
    layers: Layers<Status>,
}

impl<S: Service> Layered<S> {
    /// `service` with `layer` around each of its calls. Wrapped again, the outer layer sees a call first.
    pub fn new(service: S, layer: impl ServerLayer) -> Self {
        Self { service, layers: Layers::one(layer) }
    }
}

impl<S: Service> Service for Layered<S> {
    const NAME: &'static str = S::NAME;
    const METHODS: &'static [&'static str] = S::METHODS;
    const FINGERPRINT: u64 = S::FINGERPRINT;

    fn dispatch(&self, method: usize, mut call: ServerCall) {
        call.add_layers(&self.layers);
        self.service.dispatch(method, call);
    }
}

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: IpcConfig,
    pub(crate) router: Router,
    pub(crate) options: Options,
    pub(crate) layers: Layers<Status>,
    pub(crate) counts: Counts,
    growth: TotalBudget,
    instance_id: u64,
    calls: AtomicUsize,
    draining: watch::Sender<bool>,
    next_connection: AtomicU64,
    connections: Mutex<BTreeMap<u64, Weak<ServerConnection>>>,
    /// A connection has left `connections`.
    one_left: Notify,
}

/// A connection's entry among those that a shutdown drains; removed when dropped.
pub(crate) struct Registered<'a> {
    core: &'a Core,
    key: u64,
}

impl Core {
    /// Serves a connection that was made without a listener.
    pub(crate) fn accept(self: Arc<Self>, stream: ByteStream) {
        tokio::spawn(accept::serve(self, stream, None));
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            max_concurrent_calls: self.options.max_concurrent_calls,
            max_request_bytes: self.options.max_request_bytes,
            instance_id: self.instance_id,
            services: self.router.services().to_vec(),
            ..handshake::hello(&self.config, self.options.initial_credit, &self.options.peer_version)
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until a shutdown begins.
    pub(crate) async fn draining(&self) {
        // It ends with an error only if the sender is gone, which is here.
        _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Counts one more call.
    ///
    /// # Errors
    ///
    /// All connections together have as many as they may.
    fn call_begins(&self) -> Result<(), Status> {
        let limit = self.options.max_total_calls;
        self.calls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| (calls < limit).then_some(calls + 1))
            .map(drop)
            .map_err(|_| Status::resource_exhausted(format!("limit of {limit} calls at once on the server")))
    }

    /// A call that was counted has really ended.
    fn call_ended(&self) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
    }

    /// Makes a connection known to a shutdown, which may have begun already.
    pub(crate) fn register(&self, connection: &Arc<ServerConnection>) -> Registered<'_> {
        let key = self.next_connection.fetch_add(1, Ordering::Relaxed);
        lock(&self.connections).insert(key, Arc::downgrade(connection));
        if self.is_draining() {
            connection.drain();
        }
        Registered { core: self, key }
    }

    /// Calls of all connections together.
    pub(crate) fn counted_calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    pub(crate) fn connections(&self) -> Vec<Arc<ServerConnection>> {
        lock(&self.connections).values().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.core.connections).remove(&self.key);
        // One who asks later finds it gone already.
        self.core.one_left.notify_one();
    }
}

/// Where a server's connections come from.
#[derive(Debug)]
pub(crate) enum Source {
    Socket(Listener),
    #[cfg(feature = "simulation-hooks")]
    Simulated(crate::simulation_hooks::Arriving),
}

impl Source {
    async fn accept(&self) -> std::io::Result<ByteStream> {
        match self {
            Self::Socket(listener) => listener.accept().await,
            #[cfg(feature = "simulation-hooks")]
            Self::Simulated(arriving) => arriving.accept().await,
        }
    }
}

/// A server that listens. Clients can connect already; their calls are answered while it serves.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    listener: Source,
    // Dropped after the listener: the socket file goes when nobody listens on it.
    _place: Option<Place>,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// A server whose streams come from the simulation.
    #[cfg(feature = "simulation-hooks")]
    pub(crate) const fn simulated(core: Arc<Core>, arriving: crate::simulation_hooks::Arriving) -> Self {
        Self { core, listener: Source::Simulated(arriving), _place: None }
    }

    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.core.config.endpoint_path
    }

    /// Serves until the future is dropped. All connections are closed then, and their handlers dropped.
    ///
    /// # Errors
    ///
    /// None so far: what accepting a connection reports is logged and tried again.
    pub async fn serve(self) -> Result<Shutdown, IpcError> {
        self.serve_with_shutdown(std::future::pending::<()>()).await
    }

    /// Serves until `signal` is ready, then shuts down: clients are told to go, calls that run may end within the
    /// drain timeout, new connections are refused with `UNAVAILABLE`.
    ///
    /// A handler that streams without end holds the shutdown up for the whole drain timeout and is then cut: have it
    /// watch the same signal and end its stream.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, all connections are closed and their handlers dropped.
    pub async fn serve_with_shutdown(self, signal: impl Future) -> Result<Shutdown, IpcError> {
        let mut connections = JoinSet::new();
        {
            let accepting = self.accept_into(&mut connections);
            tokio::pin!(accepting);
            tokio::pin!(signal);
            tokio::select! {
                never = &mut accepting => match never {},
                _ = signal => {}
            }
        }
        Ok(self.shut_down(connections).await)
    }

    async fn next(&self) -> (Option<Newcomer>, std::io::Result<ByteStream>) {
        (self.core.counts.newcomer().await, self.listener.accept().await)
    }

    /// Accepts for ever; finished connections are cleared away meanwhile.
    async fn accept_into(&self, connections: &mut JoinSet<()>) -> std::convert::Infallible {
        loop {
            tokio::select! {
                (newcomer, accepted) = self.next() => match accepted {
                    Ok(stream) => {
                        connections.spawn(accept::serve(Arc::clone(&self.core), stream, newcomer));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection; pausing");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}
