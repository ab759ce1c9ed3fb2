//! The server: [`Server`] and its builder, and the [`Core`] that its connections share.

pub(crate) mod accept;
#[cfg(unix)]
mod adopt;
pub(crate) mod calls;
pub(crate) mod dispatch;
mod layered;
pub(crate) mod reply;
pub(crate) mod router;
mod shutdown;
mod task;
mod work;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::accept::{Counts, Newcomer};
use self::calls::ServerConnection;
use self::dispatch::ServerCall;
use self::router::{Router, Service};
pub use self::shutdown::Shutdown;
use crate::client::builder::DEFAULT_CREDIT;
use crate::client::reconnect::random;
use crate::config::IpcConfig;
use crate::connection::handshake;
use crate::connection::writer::lock;
use crate::endpoint::{self, Place};
use crate::error::IpcError;
use crate::layer::{Layers, ServerLayer};
use crate::peer::{PeerInfo, Policy};
use crate::status::Status;
use crate::transport::{ByteStream, Listener};
use crate::wire::{Hello, MAX_CREDIT};

/// How long accepting pauses when the system can't give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Settings of a server beyond [`IpcConfig`], and its services.
#[derive(Debug)]
#[must_use = "a builder does nothing until `bind`"]
pub struct ServerBuilder {
    router: Router,
    options: Options,
    layers: Layers<Status>,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) max_concurrent_calls: u32,
    max_total_calls: usize,
    initial_credit: u64,
    drain_timeout: Duration,
    peer_version: String,
    pub(crate) policy: Policy,
}

impl ServerBuilder {
    /// Serves `service`, a generated `…Server` around an implementation, too.
    pub fn add_service<S: Service>(mut self, service: S) -> Self {
        self.router.add(service);
        self
    }

    /// Puts `layer` around every call of every service, inside those added before it. For one service alone, see
    /// [`Layered`].
    pub fn layer(mut self, layer: impl ServerLayer) -> Self {
        self.layers = self.layers.with(&Layers::one(layer));
        self
    }

    /// How many calls one connection may have open; clients queue their calls beyond it. Default: 128. With 0 the
    /// server accepts no calls.
    pub const fn max_concurrent_calls(mut self, calls: u32) -> Self {
        self.options.max_concurrent_calls = calls;
        self
    }

    /// How many calls all connections together may have open; one more is answered `RESOURCE_EXHAUSTED` and not
    /// processed. Default: as many as the connections' own limits add up to.
    pub const fn max_total_calls(mut self, calls: usize) -> Self {
        self.options.max_total_calls = calls;
        self
    }

    /// How many bytes of streamed messages, 32 more for each, a client may send on a call before the handler has
    /// taken them. It bounds what an unread stream costs in memory. Default: 1 MiB.
    pub const fn initial_credit(mut self, bytes: u64) -> Self {
        self.options.initial_credit = bytes;
        self
    }

    /// How long calls that run may go on after a shutdown has begun; then they are ended with `UNAVAILABLE`.
    /// Default: 10 seconds.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Lets processes of this user connect, too. By default only the server's own user and root may: the kernel's word
    /// for who connects is checked before a byte is read. With any such rule the socket gets mode 0666, and a directory
    /// that is made for it 0711, because the file system would keep them out otherwise. On Windows no rule lets anybody
    /// else in: the pipe admits the server's own user alone.
    pub fn allow_uid(self, uid: u32) -> Self {
        self.allow(move |peer| peer.uid == Some(uid))
    }

    /// Lets processes whose effective group is this connect, too.
    pub fn allow_gid(self, gid: u32) -> Self {
        self.allow(move |peer| peer.gid == Some(gid))
    }

    /// Lets processes connect, too, of which `rule` says so. At that time what the peer says of itself is not known
    /// yet.
    pub fn allow(mut self, rule: impl Fn(&PeerInfo) -> bool + Send + Sync + 'static) -> Self {
        self.options.policy.allow(rule);
        self
    }

    /// The application's own version, which clients see. Default: empty.
    pub fn peer_version(mut self, version: impl Into<String>) -> Self {
        self.options.peer_version = version.into();
        self
    }

    /// Binds `config.endpoint_path` and listens: clients can connect when this returns.
    ///
    /// On Unix a missing directory is made (mode 0700); one that others may write in is refused. A lock file beside the
    /// socket, held until the server is dropped or the process ends, keeps a second server away, and under it a socket
    /// that nobody listens on any more is replaced. The socket has mode 0600 from the moment it exists, and is removed
    /// when the server is dropped.
    ///
    /// On Windows the pipe belongs to the server's user, admits this user alone, and only from this machine. It must be
    /// the first of its name, so nobody else can have it meanwhile; the name goes with the last connection.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`]: of kind `InvalidInput` for a setting out of its bounds or a service added twice,
    /// `AddrInUse` where a server has the endpoint, with its pid; `PermissionDenied` for a directory or a socket that
    /// belongs to somebody else; `AlreadyExists` for a file that is no socket; and what else the system says.
    pub async fn bind(self, config: &IpcConfig) -> Result<Server, IpcError> {
        config.validate()?;
        self.check()?;
        let endpoint = config.endpoint_path.as_str();
        endpoint::check(endpoint)?;
        let access = self.options.policy.access();
        let mut place = Place::prepare(endpoint, access).await?;
        let listener = Listener::bind(endpoint, access.socket_mode()).map_err(|error| {
            IpcError::Io(std::io::Error::new(error.kind(), format!("binding {endpoint}: {error}")))
        })?;
        place.bound()?;
        tracing::info!(endpoint, "listening");
        Ok(Server { core: self.into_core(config), listener, _place: Some(place) })
    }

    pub(crate) fn check(&self) -> Result<(), IpcError> {
        self.router.check()?;
        if self.options.initial_credit > MAX_CREDIT {
            return Err(IpcError::invalid_input(format!(
                "initial_credit is {}; set it to at most 2^62",
                self.options.initial_credit
            )));
        }
        accept::check_hello(Hello {
            services: self.router.services().to_vec(),
            peer_version: self.options.peer_version.clone(),
            ..Hello::default()
        })
    }

    pub(crate) fn into_core(self, config: &IpcConfig) -> Arc<Core> {
        Arc::new(Core {
            config: config.clone(),
            router: self.router,
            options: self.options,
            layers: self.layers,
            instance_id: random(),
            counts: Counts::default(),
            calls: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            next_connection: AtomicU64::new(0),
            connections: Mutex::default(),
            one_left: Notify::new(),
        })
    }
}

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
    instance_id: u64,
    calls: AtomicUsize,
    draining: AtomicBool,
    next_connection: AtomicU64,
    connections: Mutex<HashMap<u64, Weak<ServerConnection>>>,
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
            instance_id: self.instance_id,
            services: self.router.services().to_vec(),
            ..handshake::hello(&self.config, self.options.initial_credit, &self.options.peer_version)
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Counts one more call.
    ///
    /// # Errors
    ///
    /// All connections together have as many as they may.
    pub(crate) fn call_begins(&self) -> Result<(), Status> {
        let limit = self.options.max_total_calls;
        self.calls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| (calls < limit).then_some(calls + 1))
            .map(drop)
            .map_err(|_| Status::resource_exhausted(format!("limit of {limit} calls at once on the server")))
    }

    pub(crate) fn calls_ended(&self, calls: usize) {
        self.calls.fetch_sub(calls, Ordering::AcqRel);
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

/// A server that listens. Clients can connect already; their calls are answered while it serves.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    listener: Listener,
    // Dropped after the listener: the socket file goes when nobody listens on it.
    _place: Option<Place>,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            router: Router::default(),
            layers: Layers::default(),
            options: Options {
                max_concurrent_calls: 128,
                max_total_calls: usize::MAX,
                initial_credit: DEFAULT_CREDIT,
                drain_timeout: Duration::from_secs(10),
                peer_version: String::new(),
                policy: Policy::default(),
            },
        }
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
