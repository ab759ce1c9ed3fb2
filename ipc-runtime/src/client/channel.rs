//! [`Channel`]: the client's handle to a server, and the state behind it.
//!
//! It owns the current connection, makes one when it is needed, and waits out the backoff. What is called over
//! it, and what is repeated, is in [`invoke`](super::invoke).

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::calls::ClientConnection;
use super::reconnect::{self, Backoff, Refused, Target};
use crate::config::IpcConfig;
use crate::connection::writer::lock;
use crate::endpoint;
use crate::error::IpcError;
use crate::layer::{ClientLayer, Layers};
use crate::peer::{PeerInfo, Policy};
use crate::request::Timeout;
use crate::server::ServerBuilder;
use crate::wire::MAX_CREDIT;

/// The item credit a call starts with, unless the builder says otherwise.
pub(crate) const DEFAULT_CREDIT: u64 = 256 * 1024;

/// A client's handle to one server. Cheap to clone: all clones share one connection.
///
/// It connects when the first call needs it, carries any number of calls at once, and connects again by itself
/// when the server went away and came back. While no server can be reached, calls fail after one attempt
/// unless they [wait for ready](crate::Request::with_wait_for_ready).
///
/// Calls run on the tokio runtime that they are made on.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
    layers: Layers<IpcError>,
}

/// What a channel shares with its connection's driver and its connect task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: IpcConfig,
    pub(crate) options: ChannelOptions,
    pub(crate) endpoint: Arc<str>,
    target: Target,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Clone, Debug)]
pub(crate) struct ChannelOptions {
    pub(crate) wait_for_ready: bool,
    pub(crate) unary_timeout: Timeout,
    pub(crate) streaming_timeout: Timeout,
    pub(crate) initial_credit: u64,
    pub(crate) peer_version: String,
    pub(crate) policy: Policy,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    backoff: Backoff,
    /// Attempts that have ended, and how the last did if it failed.
    attempts: u64,
    refused: Option<Arc<Refused>>,
}

#[derive(Debug)]
enum Phase {
    /// No connection; none is made before the instant, if there is one.
    Idle(Option<Instant>),
    Connecting,
    Ready(Arc<ClientConnection>, Instant),
}

/// What a call finds when it asks for a connection.
enum Found {
    Ready(Arc<ClientConnection>),
    Refused(Arc<Refused>),
    WaitForChange,
    WaitUntil(Instant),
}

/// How a call asks for a connection.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Waits for a server that can't be reached.
    pub(crate) wait_for_ready: bool,
    /// Has been tried on a connection before: it waits out a backoff before its one attempt.
    pub(crate) again: bool,
    attempts_seen: Option<u64>,
}

impl Wish {
    pub(crate) const fn new(wait_for_ready: bool) -> Self {
        Self { wait_for_ready, again: false, attempts_seen: None }
    }

    pub(crate) const fn again(&mut self) {
        self.again = true;
        self.attempts_seen = None;
    }
}

impl Channel {
    /// A channel to the server at `config.endpoint_path`. It connects when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` for a setting out of its bounds.
    pub fn new(config: &IpcConfig) -> Result<Self, IpcError> {
        Self::builder(config).build()
    }

    /// A channel that is connected when this returns.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and why the server could not be reached, or how it refused.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing stays behind.
    pub async fn connect(config: &IpcConfig) -> Result<Self, IpcError> {
        let channel = Self::new(config)?;
        channel.shared.ready(&mut Wish::new(false)).await?;
        Ok(channel)
    }

    /// A channel with more settings than a configuration file has.
    pub fn builder(config: &IpcConfig) -> ChannelBuilder {
        ChannelBuilder {
            config: config.clone(),
            layers: Layers::default(),
            options: ChannelOptions {
                wait_for_ready: false,
                unary_timeout: Timeout::Default,
                streaming_timeout: Timeout::Default,
                initial_credit: DEFAULT_CREDIT,
                peer_version: String::new(),
                policy: Policy::default(),
            },
        }
    }

    /// A channel to a server that lives in this process, over memory instead of a socket: the same frames,
    /// limits and deadlines. Made for tests; the server ends with the channel.
    ///
    /// Both sides run on [`IpcConfig::default`]; see [`in_memory_with`](Self::in_memory_with).
    #[must_use]
    pub fn in_memory(server: ServerBuilder) -> Self {
        let builder = Self::builder(&IpcConfig::default());
        Self::over(builder, |config| Target::Memory(server.into_core(config)))
    }

    /// As [`in_memory`](Self::in_memory), with settings for each side.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`](crate::ServerBuilder::bind) and [`new`](Self::new), the endpoint aside.
    pub fn in_memory_with(
        server: ServerBuilder,
        server_config: &IpcConfig,
        client: ChannelBuilder,
    ) -> Result<Self, IpcError> {
        server_config.validate()?;
        server.check()?;
        client.config.validate()?;
        Ok(Self::over(client, |_| Target::Memory(server.into_core(server_config))))
    }

    fn over(builder: ChannelBuilder, target: impl FnOnce(&IpcConfig) -> Target) -> Self {
        let target = target(&builder.config);
        let shared = Shared {
            endpoint: target.name(),
            target,
            config: builder.config,
            options: builder.options,
            state: Mutex::new(State {
                phase: Phase::Idle(None),
                backoff: Backoff::default(),
                attempts: 0,
                refused: None,
            }),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared), layers: builder.layers }
    }

    /// The same channel, on the same connection, with one more layer around each call, inside those it has.
    #[must_use]
    pub fn layered(&self, layer: impl ClientLayer) -> Self {
        Self { shared: Arc::clone(&self.shared), layers: self.layers.with(&Layers::one(layer)) }
    }

    /// Who the server is, while a connection to it is open; [`connect`](Self::connect) makes one.
    #[must_use]
    pub fn peer_info(&self) -> Option<PeerInfo> {
        match &lock(&self.shared.state).phase {
            Phase::Ready(connection, _) => Some(connection.peer.clone()),
            _ => None,
        }
    }

    pub(crate) const fn layers(&self) -> &Layers<IpcError> {
        &self.layers
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("endpoint", &self.shared.endpoint).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    /// No channel is left: the connection ends once its calls have.
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut lock(&self.state).phase, Phase::Idle(None));
        if let Phase::Ready(connection, _) = phase {
            connection.release();
        }
    }
}

impl Shared {
    /// A connection that takes calls, made if there is none.
    ///
    /// # Errors
    ///
    /// Why there is none, as far as `wish` does not wait for a better time.
    pub(crate) async fn ready(self: &Arc<Self>, wish: &mut Wish) -> Result<Arc<ClientConnection>, IpcError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.find(wish) {
                Found::Ready(connection) => return Ok(connection),
                Found::Refused(refused) => return Err(refused.to_error(&self.endpoint)),
                Found::WaitForChange => changed.await,
                Found::WaitUntil(instant) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(instant) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    fn find(self: &Arc<Self>, wish: &mut Wish) -> Found {
        let mut state = lock(&self.state);
        let seen = *wish.attempts_seen.get_or_insert(state.attempts);
        if let Phase::Ready(connection, _) = &state.phase {
            // A closed one is about to be reported lost by its driver.
            return if connection.is_open() {
                Found::Ready(Arc::clone(connection))
            } else {
                Found::WaitForChange
            };
        }
        let failed = state.refused.clone().filter(|refused| {
            let tried = state.attempts > seen;
            tried && (refused.fatal || !wish.wait_for_ready)
        });
        match (&state.phase, failed) {
            (_, Some(refused)) => Found::Refused(refused),
            (Phase::Idle(Some(instant)), None) if *instant > Instant::now() => match state.refused.clone() {
                Some(refused) if !wish.wait_for_ready && !wish.again => Found::Refused(refused),
                _ => Found::WaitUntil(*instant),
            },
            (Phase::Idle(_), None) => {
                state.phase = Phase::Connecting;
                tokio::spawn(Arc::clone(self).connect());
                Found::WaitForChange
            }
            _ => Found::WaitForChange,
        }
    }

    /// One attempt, in a task of its own: the calls that wait for it may be dropped meanwhile.
    async fn connect(self: Arc<Self>) {
        let attempt = Attempt { shared: &self };
        let channel = Arc::downgrade(&self);
        let result = reconnect::attempt(&self.target, &self.config, &self.options, channel).await;
        attempt.finish(result);
    }

    fn ended(self: &Arc<Self>, result: Result<Arc<ClientConnection>, Refused>) {
        let mut state = lock(&self.state);
        state.attempts += 1;
        match result {
            Ok(connection) => {
                tracing::debug!(endpoint = %self.endpoint, "connected");
                state.refused = None;
                state.phase = Phase::Ready(connection, Instant::now());
            }
            Err(refused) => {
                tracing::debug!(endpoint = %self.endpoint, error = %refused.error, "cannot connect");
                let next = state.backoff.next(refused.retry_after_ms);
                state.phase = Phase::Idle(Some(next));
                state.refused = Some(Arc::new(refused));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A call has been answered: the server is well.
    pub(crate) fn note_answer(&self) {
        lock(&self.state).backoff.reset();
    }

    /// `connection` takes no calls any more. After a graceful farewell the next is made at once.
    pub(crate) fn on_lost(
        &self,
        connection: &Arc<ClientConnection>,
        graceful: bool,
        retry_after_ms: u32,
        cause: &Arc<IpcError>,
    ) {
        let mut state = lock(&self.state);
        let since = match &state.phase {
            Phase::Ready(current, since) if Arc::ptr_eq(current, connection) => *since,
            _ => return,
        };
        tracing::debug!(endpoint = %self.endpoint, graceful, %cause, "connection lost");
        state.phase = if graceful && retry_after_ms == 0 {
            Phase::Idle(None)
        } else {
            Phase::Idle(Some(state.backoff.after_loss(since, retry_after_ms)))
        };
        drop(state);
        self.changed.notify_waiters();
    }

    /// How long a call that was not processed waits before it is tried again.
    pub(crate) fn retry_at(&self) -> Instant {
        lock(&self.state).backoff.next(0)
    }

    /// Why the last attempt to connect failed, for the error of a call that waited too long.
    pub(crate) fn last_refusal(&self) -> Option<Arc<Refused>> {
        lock(&self.state).refused.clone()
    }
}

/// Ends the attempt even if its task is dropped with the runtime, so that nobody waits for it for ever.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
}

impl Attempt<'_> {
    fn finish(self, result: Result<Arc<ClientConnection>, Refused>) {
        self.shared.ended(result);
        std::mem::forget(self);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        lock(&self.shared.state).phase = Phase::Idle(None);
        self.shared.changed.notify_waiters();
    }
}

/// Settings of a [`Channel`] beyond [`IpcConfig`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ChannelBuilder {
    config: IpcConfig,
    options: ChannelOptions,
    layers: Layers<IpcError>,
}

impl ChannelBuilder {
    /// Whether calls wait, within their timeout, for a server that can't be reached. Default: `false`, they fail
    /// after one attempt. A request can say otherwise for itself.
    pub const fn wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = wait;
        self
    }

    /// The timeout of unary calls that set none. Default: `read_timeout_ms`.
    pub const fn unary_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.options.unary_timeout = Timeout::After(timeout);
        self
    }

    /// The timeout of streaming calls that set none. Default: none, they take as long as it takes.
    pub const fn streaming_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.options.streaming_timeout = Timeout::After(timeout);
        self
    }

    /// How many bytes of streamed messages, 32 more for each, a server may send on a call before the application
    /// has taken them. It bounds what an unread stream costs in memory. Default: 256 KiB.
    pub const fn initial_credit(mut self, bytes: u64) -> Self {
        self.options.initial_credit = bytes;
        self
    }

    /// Puts `layer` around every call, inside those added before it.
    pub fn layer(mut self, layer: impl ClientLayer) -> Self {
        self.layers = self.layers.with(&Layers::one(layer));
        self
    }

    /// Also accepts a server that runs as this user. By default only one of the channel's own user or of root is: the
    /// kernel's word for who listens is checked before anything is sent.
    pub fn allow_uid(self, uid: u32) -> Self {
        self.allow(move |peer| peer.uid == Some(uid))
    }

    /// Also accepts a server whose effective group is this.
    pub fn allow_gid(self, gid: u32) -> Self {
        self.allow(move |peer| peer.gid == Some(gid))
    }

    /// Also accepts servers of which `rule` says so.
    pub fn allow(mut self, rule: impl Fn(&PeerInfo) -> bool + Send + Sync + 'static) -> Self {
        self.options.policy.allow(rule);
        self
    }

    /// The application's own version, which the server sees in logs. Default: empty.
    pub fn peer_version(mut self, version: impl Into<String>) -> Self {
        self.options.peer_version = version.into();
        self
    }

    /// The channel. It connects when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` for a setting out of its bounds.
    pub fn build(self) -> Result<Channel, IpcError> {
        self.config.validate()?;
        endpoint::check(&self.config.endpoint_path)?;
        if self.options.initial_credit > MAX_CREDIT {
            return Err(IpcError::invalid_input(format!(
                "initial_credit is {}; set it to at most 2^62",
                self.options.initial_credit
            )));
        }
        Ok(Channel::over(self, |config| Target::Endpoint(Arc::from(config.endpoint_path.as_str()))))
    }
}
