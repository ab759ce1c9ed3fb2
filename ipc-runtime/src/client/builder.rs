//! [`ChannelBuilder`]: what can be set of a channel in code.

use std::sync::Arc;

use super::channel::Channel;
use super::reconnect::Target;
use crate::config::IpcConfig;
use crate::endpoint;
use crate::error::IpcError;
use crate::layer::{ClientLayer, Layers};
use crate::peer::{PeerInfo, Policy};
use crate::request::Timeout;
use crate::wire::MAX_CREDIT;

/// The item credit a call starts with, unless the builder says otherwise.
pub(crate) const DEFAULT_CREDIT: u64 = 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct ChannelOptions {
    pub(crate) wait_for_ready: bool,
    pub(crate) unary_timeout: Timeout,
    pub(crate) streaming_timeout: Timeout,
    pub(crate) initial_credit: u64,
    pub(crate) peer_version: String,
    pub(crate) policy: Policy,
    fallbacks: Vec<String>,
}

/// Settings of a [`Channel`] beyond [`IpcConfig`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ChannelBuilder {
    pub(super) config: IpcConfig,
    pub(super) options: ChannelOptions,
    pub(super) layers: Layers<IpcError>,
}

impl ChannelBuilder {
    pub(super) fn new(config: &IpcConfig) -> Self {
        Self {
            config: config.clone(),
            layers: Layers::default(),
            options: ChannelOptions {
                wait_for_ready: false,
                unary_timeout: Timeout::Default,
                streaming_timeout: Timeout::Default,
                initial_credit: DEFAULT_CREDIT,
                peer_version: String::new(),
                policy: Policy::default(),
                fallbacks: Vec::new(),
            },
        }
    }

    /// Another endpoint of the same server, tried where those before it can't be reached: each new connection is
    /// tried at `endpoint_path` first.
    pub fn fallback_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.options.fallbacks.push(endpoint.into());
        self
    }

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
    /// has taken them. It bounds what an unread stream costs in memory. Default: 1 MiB.
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
    /// kernel's word for who listens is checked before anything is sent. On Windows that is the owner of the server's
    /// pipe, `SYSTEM` and the administrators stand for root, and [`allow`](Self::allow) with
    /// [`PeerInfo::sid`] admits others.
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
