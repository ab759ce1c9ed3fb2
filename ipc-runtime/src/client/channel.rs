//! [`Channel`]: the client's handle to a server.
//!
//! Its state is in [`shared`](super::shared). Calls are in [`invoke`](super::invoke).

use std::sync::Arc;
use std::time::Duration;

use super::builder::ChannelBuilder;
use super::connect::Target;
use super::shared::{ReadyWait, Shared, after};
use super::state::{ChannelState, StateChanges};
use crate::config::IpcConfig;
use crate::endpoint;
use crate::error::IpcError;
use crate::layer::{ClientLayer, Layers};
use crate::peer::PeerInfo;
use crate::protocol::envelope::MAX_CREDIT;
use crate::protocol::retry::ReadyPolicy;
use crate::server::ServerBuilder;

/// A client's handle to one server. Cheap to clone: all clones share one connection.
///
/// It connects when the first call needs it, carries any number of calls at once, and connects again by itself after a
/// server was restarted. If no server can be reached, a call fails after one attempt. If the server is full, the call
/// tries again within its timeout. [`with_wait_for_ready`](crate::Request::with_wait_for_ready) changes this for a call.
///
/// Calls run on the tokio runtime on which they are made.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
    layers: Layers<IpcError>,
}

impl Channel {
    /// A channel to the server at `config.endpoint_path`. It connects when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` if a setting is out of its bounds.
    pub fn new(config: &IpcConfig) -> Result<Self, IpcError> {
        Self::builder(config).build()
    }

    /// Makes a channel and connects it. If the server is full, it tries again for `read_timeout_ms`.
    ///
    /// # Errors
    ///
    /// Like [`new`](Self::new). Also if the server could not be reached, or refused.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing is left behind.
    pub async fn connect(config: &IpcConfig) -> Result<Self, IpcError> {
        Self::builder(config).connect().await
    }

    /// Makes a channel and connects it to a server that may still have to start. It tries until `timeout` has passed,
    /// with the backoff of [`ChannelState::BackingOff`] between attempts.
    ///
    /// # Errors
    ///
    /// Like [`new`](Self::new). Also if the server refused permanently, or could not be reached in time.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing is left behind.
    pub async fn connect_or_wait(config: &IpcConfig, timeout: Duration) -> Result<Self, IpcError> {
        let channel = Self::new(config)?;
        channel.wait_until_ready(timeout).await?;
        Ok(channel)
    }

    /// Waits until the channel is connected, and connects it if necessary.
    ///
    /// # Errors
    ///
    /// If the server refused permanently, or could not be reached in time.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing changes.
    pub async fn wait_until_ready(&self, timeout: Duration) -> Result<(), IpcError> {
        let deadline = after(tokio::time::Instant::now(), timeout);
        let mut wait = ReadyWait::new(ReadyPolicy::Wait);
        match tokio::time::timeout_at(deadline, self.shared.ready(&mut wait)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(self.shared.never_ready(ReadyPolicy::Wait)),
        }
    }

    /// A builder for a channel, with the settings that a configuration file does not have.
    pub fn builder(config: &IpcConfig) -> ChannelBuilder {
        ChannelBuilder::new(config)
    }

    /// A channel to a server in this process. Memory takes the place of the socket; frames, limits and deadlines are the
    /// same. Made for tests. The server ends with the channel.
    ///
    /// Both sides use [`IpcConfig::default`]; see [`in_memory_with`](Self::in_memory_with).
    #[must_use]
    pub fn in_memory(server: ServerBuilder) -> Self {
        let builder = Self::builder(&IpcConfig::default());
        Self::over(builder, |config| Target::Memory(server.into_core(config)))
    }

    /// Like [`in_memory`](Self::in_memory), with settings for each side.
    ///
    /// # Errors
    ///
    /// Like [`Server::bind`](crate::ServerBuilder::bind) and [`new`](Self::new), except for errors of the endpoint.
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

    pub(crate) fn over(builder: ChannelBuilder, target: impl FnOnce(&IpcConfig) -> Target) -> Self {
        let target = target(&builder.config);
        let ChannelBuilder { config, options, layers } = builder;
        Self { shared: Arc::new(Shared::new(config, options, target)), layers }
    }

    /// The same channel on the same connection, with one more layer around each call, inside the existing layers.
    #[must_use]
    pub fn layered(&self, layer: impl ClientLayer) -> Self {
        Self { shared: Arc::clone(&self.shared), layers: self.layers.with(&Layers::one(layer)) }
    }

    /// Who the server is; `None` while there is no connection. [`connect`](Self::connect) makes one.
    #[must_use]
    pub fn peer_info(&self) -> Option<PeerInfo> {
        self.shared.peer_info()
    }

    /// The channel's state.
    #[must_use]
    pub fn state(&self) -> ChannelState {
        self.shared.state()
    }

    /// The channel's state, now and whenever it changes.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.shared.state_changes()
    }

    /// Closes the channel and all its clones. Running calls go on to their end, later calls fail.
    pub fn close(&self) {
        self.shared.close();
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

impl ChannelBuilder {
    /// Builds the channel and connects it. [`wait_for_ready`](Self::wait_for_ready) says whether this waits for a server
    /// that does not serve it now.
    ///
    /// # Errors
    ///
    /// Like [`build`](Self::build). Also if the server could not be reached, or refused.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing is left behind.
    pub async fn connect(self) -> Result<Channel, IpcError> {
        let policy = self.options.ready_policy();
        let channel = self.build()?;
        channel.shared.ready(&mut ReadyWait::new(policy)).await?;
        Ok(channel)
    }

    /// Builds the channel. It connects when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` if a setting is out of its bounds.
    pub fn build(self) -> Result<Channel, IpcError> {
        self.config.validate()?;
        let endpoints: Vec<_> = std::iter::once(&self.config.endpoint_path)
            .chain(&self.options.fallbacks)
            .map(|endpoint| endpoint::check(endpoint).map(|()| Arc::from(endpoint.as_str())))
            .collect::<Result<_, _>>()?;
        if self.options.initial_credit > MAX_CREDIT {
            return Err(IpcError::invalid_input(format!(
                "initial_credit is {}; set it to at most 2^62",
                self.options.initial_credit
            )));
        }
        Ok(Channel::over(self, |_| Target::Endpoints(endpoints)))
    }
}
