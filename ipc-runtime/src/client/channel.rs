//! [`Channel`]: the client's handle to a server.
//!
//! What is behind it is in [`shared`](super::shared), what is called over it in [`invoke`](super::invoke).

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
/// It connects when the first call needs it, carries any number of calls at once, and connects again by itself
/// when the server went away and came back. While no server can be reached, calls fail after one attempt.
/// While the server is full, they ask again within their timeout. A call can choose otherwise with
/// [`with_wait_for_ready`](crate::Request::with_wait_for_ready).
///
/// Calls run on the tokio runtime that they are made on.
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
    /// [`IpcError::Io`] of kind `InvalidInput` for a setting out of its bounds.
    pub fn new(config: &IpcConfig) -> Result<Self, IpcError> {
        Self::builder(config).build()
    }

    /// A channel that is connected when this returns. A server that is full is asked again for `read_timeout_ms`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and why the server could not be reached, or how it refused.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing stays behind.
    pub async fn connect(config: &IpcConfig) -> Result<Self, IpcError> {
        Self::builder(config).connect().await
    }

    /// A channel that is connected when this returns, to a server that may only start meanwhile: it is tried until
    /// `timeout` is over, with the backoff of [`ChannelState::BackingOff`] in between.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), how the server refused for good, and why it could not be reached in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing stays behind.
    pub async fn connect_or_wait(config: &IpcConfig, timeout: Duration) -> Result<Self, IpcError> {
        let channel = Self::new(config)?;
        channel.wait_until_ready(timeout).await?;
        Ok(channel)
    }

    /// Waits until the channel is connected, and connects it if need be.
    ///
    /// # Errors
    ///
    /// How the server refused for good, and why it could not be reached in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing changes.
    pub async fn wait_until_ready(&self, timeout: Duration) -> Result<(), IpcError> {
        let deadline = after(tokio::time::Instant::now(), timeout);
        let mut wait = ReadyWait::new(ReadyPolicy::Wait);
        match tokio::time::timeout_at(deadline, self.shared.ready(&mut wait)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(self.shared.never_ready(ReadyPolicy::Wait)),
        }
    }

    /// A channel with more settings than a configuration file has.
    pub fn builder(config: &IpcConfig) -> ChannelBuilder {
        ChannelBuilder::new(config)
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

    pub(crate) fn over(builder: ChannelBuilder, target: impl FnOnce(&IpcConfig) -> Target) -> Self {
        let target = target(&builder.config);
        let ChannelBuilder { config, options, layers } = builder;
        Self { shared: Arc::new(Shared::new(config, options, target)), layers }
    }

    /// The same channel, on the same connection, with one more layer around each call, inside those it has.
    #[must_use]
    pub fn layered(&self, layer: impl ClientLayer) -> Self {
        Self { shared: Arc::clone(&self.shared), layers: self.layers.with(&Layers::one(layer)) }
    }

    /// Who the server is, while a connection to it is open; [`connect`](Self::connect) makes one.
    #[must_use]
    pub fn peer_info(&self) -> Option<PeerInfo> {
        self.shared.peer_info()
    }

    /// Where the channel stands.
    #[must_use]
    pub fn state(&self) -> ChannelState {
        self.shared.state()
    }

    /// Where the channel stands, now and whenever that changes.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.shared.state_changes()
    }

    /// Makes no connection any more: calls that run come to their end, later ones fail. All clones of the channel are
    /// closed with it.
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
    /// The channel, connected when this returns. Whether it waits for a server that does not serve it now,
    /// [`wait_for_ready`](Self::wait_for_ready) says.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and why the server could not be reached, or how it refused.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing stays behind.
    pub async fn connect(self) -> Result<Channel, IpcError> {
        let policy = self.options.ready_policy();
        let channel = self.build()?;
        channel.shared.ready(&mut ReadyWait::new(policy)).await?;
        Ok(channel)
    }

    /// The channel. It connects when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` for a setting out of its bounds.
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
