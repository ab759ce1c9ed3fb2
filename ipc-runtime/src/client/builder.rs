//! [`ChannelBuilder`]: a channel's settings that are made in code.

use super::options::ChannelOptions;
use crate::config::{DEFAULT_CHANNEL_CREDIT, IpcConfig};
use crate::endpoint::Policy;
use crate::error::IpcError;
use crate::layer::{ClientLayer, Layers};
use crate::peer::PeerInfo;
use crate::request::Timeout;

/// Settings of a [`Channel`](crate::Channel) beyond [`IpcConfig`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ChannelBuilder {
    pub(crate) config: IpcConfig,
    pub(super) options: ChannelOptions,
    pub(super) layers: Layers<IpcError>,
}

impl ChannelBuilder {
    pub(super) fn new(config: &IpcConfig) -> Self {
        Self {
            config: config.clone(),
            layers: Layers::default(),
            options: ChannelOptions {
                wait_for_ready: None,
                unary_timeout: Timeout::Default,
                streaming_timeout: Timeout::Default,
                initial_credit: DEFAULT_CHANNEL_CREDIT,
                peer_version: String::new(),
                policy: Policy::default(),
                fallbacks: Vec::new(),
            },
        }
    }

    /// Adds another endpoint of the same server. Each attempt to connect begins at `endpoint_path`, and tries the others
    /// in the order in which they were added.
    pub fn fallback_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.options.fallbacks.push(endpoint.into());
        self
    }

    /// Whether calls wait, within their timeout, for a server that does not serve them now. A request can override it.
    ///
    /// - Not set: calls wait for a server that is full, or that is shutting down and says when to try again. Without a
    ///   timeout they wait for `read_timeout_ms`. They fail after one attempt if no server can be reached.
    /// - `true`: calls wait for any server.
    /// - `false`: calls wait for no server and fail after one attempt.
    pub const fn wait_for_ready(mut self, wait: bool) -> Self {
        self.options.wait_for_ready = Some(wait);
        self
    }

    /// The timeout of unary calls that set none. Default: `read_timeout_ms`.
    pub const fn unary_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.options.unary_timeout = Timeout::After(timeout);
        self
    }

    /// The timeout of streaming calls that set none. Default: no timeout.
    pub const fn streaming_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.options.streaming_timeout = Timeout::After(timeout);
        self
    }

    /// How many bytes of streamed messages a server may send on one call before the application has taken them. Each
    /// message counts its size + 32. One message may go beyond the limit. It bounds the memory of an unread stream.
    /// Default: 1 MiB.
    pub const fn initial_credit(mut self, bytes: u64) -> Self {
        self.options.initial_credit = bytes;
        self
    }

    /// Puts `layer` around every call, inside the layers that were added before it.
    pub fn layer(mut self, layer: impl ClientLayer) -> Self {
        self.layers = self.layers.with(&Layers::one(layer));
        self
    }

    /// Also accepts a server that runs as this user. By default, only servers of the channel's own user and of root are
    /// accepted. The kernel says who listens, and this is checked before anything is sent.
    ///
    /// On Windows the owner of the server's pipe is checked. `SYSTEM` and the administrators count as root. To accept
    /// other users, use [`allow`](Self::allow) with [`PeerInfo::sid`].
    pub fn allow_uid(self, uid: u32) -> Self {
        self.allow(move |peer| peer.uid == Some(uid))
    }

    /// Also accepts a server with this effective group.
    pub fn allow_gid(self, gid: u32) -> Self {
        self.allow(move |peer| peer.gid == Some(gid))
    }

    /// Also accepts servers for which `rule` returns `true`.
    pub fn allow(mut self, rule: impl Fn(&PeerInfo) -> bool + Send + Sync + 'static) -> Self {
        self.options.policy.allow(rule);
        self
    }

    /// The application's own version, which the server sees in logs. Default: empty.
    pub fn peer_version(mut self, version: impl Into<String>) -> Self {
        self.options.peer_version = version.into();
        self
    }
}
