//! A channel's settings that are made in code, as its modules see them.

use crate::endpoint::Policy;
use crate::protocol::retry::ReadyPolicy;
use crate::request::Timeout;

/// Settings beyond [`IpcConfig`](crate::IpcConfig).
#[derive(Clone, Debug)]
pub(crate) struct ChannelOptions {
    pub(crate) wait_for_ready: Option<bool>,
    pub(crate) unary_timeout: Timeout,
    pub(crate) streaming_timeout: Timeout,
    pub(crate) initial_credit: u64,
    pub(crate) peer_version: String,
    pub(crate) policy: Policy,
    pub(super) fallbacks: Vec<String>,
}

impl ChannelOptions {
    /// How a call waits for a connection, unless its request says otherwise.
    pub(crate) const fn ready_policy(&self) -> ReadyPolicy {
        ReadyPolicy::of(self.wait_for_ready)
    }
}
