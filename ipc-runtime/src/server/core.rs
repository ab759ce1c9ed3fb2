//! What all connections of a server share: its settings, its services, its limits, and who is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::calls::CallCount;
use super::connection::ServerConnection;
use super::counts::Counts;
use super::growth::TotalBudget;
use super::router::Router;
use crate::config::IpcConfig;
use crate::endpoint::{Access, Policy};
use crate::layer::Layers;
use crate::protocol::envelope::Hello;
use crate::protocol::handshake;
use crate::random::random;
use crate::status::Status;
use crate::sync::lock;

/// Settings of a server beyond [`IpcConfig`].
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) max_concurrent_calls: u32,
    pub(super) max_total_calls: usize,
    pub(super) max_request_bytes: u64,
    pub(super) max_decoded_bytes: u64,
    pub(super) max_total_decoded_bytes: u64,
    pub(super) initial_credit: u64,
    pub(super) drain_timeout: Duration,
    pub(super) peer_version: String,
    pub(crate) policy: Policy,
}

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: IpcConfig,
    pub(crate) router: Router,
    pub(crate) options: Options,
    pub(crate) layers: Layers<Status>,
    pub(crate) counts: Counts,
    pub(super) growth: TotalBudget,
    instance_id: u64,
    pub(super) calls: Arc<CallCount>,
    draining: watch::Sender<bool>,
    next_connection: AtomicU64,
    connections: Mutex<BTreeMap<u64, Weak<ServerConnection>>>,
    /// A connection has left `connections`.
    one_left: Notify,
}

/// A connection's entry in the list that a shutdown drains. Dropping this removes the entry.
pub(crate) struct Registered<'a> {
    core: &'a Core,
    key: u64,
}

impl Core {
    pub(super) fn new(config: IpcConfig, router: Router, options: Options, layers: Layers<Status>) -> Self {
        let is_shared = options.policy.access() == Access::Open;
        Self {
            counts: Counts::new(config.max_connections, is_shared),
            growth: TotalBudget::new(options.max_decoded_bytes, options.max_total_decoded_bytes),
            calls: Arc::new(CallCount::new(options.max_total_calls)),
            config,
            router,
            layers,
            options,
            instance_id: random(),
            draining: watch::Sender::new(false),
            next_connection: AtomicU64::new(0),
            connections: Mutex::default(),
            one_left: Notify::new(),
        }
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

    /// No new connections and calls are accepted from here on.
    pub(super) fn begin_draining(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until a shutdown begins.
    pub(crate) async fn draining(&self) {
        // It fails only if the sender was dropped, and `self` holds the sender.
        _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Adds a connection to the list that a shutdown drains. The shutdown may already have begun.
    pub(crate) fn register(&self, connection: &Arc<ServerConnection>) -> Registered<'_> {
        let key = self.next_connection.fetch_add(1, Ordering::Relaxed);
        lock(&self.connections).insert(key, Arc::downgrade(connection));
        if self.is_draining() {
            connection.drain();
        }
        Registered { core: self, key }
    }

    /// The number of calls on all connections.
    pub(crate) fn counted_calls(&self) -> usize {
        self.calls.running()
    }

    /// Waits until a connection has left, unless one has since this was last asked.
    pub(super) async fn one_left(&self) {
        self.one_left.notified().await;
    }

    pub(crate) fn connections(&self) -> Vec<Arc<ServerConnection>> {
        lock(&self.connections).values().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.core.connections).remove(&self.key);
        // A task that checks later finds the entry already removed.
        self.core.one_left.notify_one();
    }
}
