//! A connection of a client, as its calls and a shutdown see it.

use std::sync::Arc;

use tokio::time::Instant;

use super::calls::CallCount;
use super::growth::Budget;
use crate::link::Link;
use crate::peer::PeerInfo;
use crate::protocol::connection::Connection;

/// A connection of a client, after the Hellos.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    pub(super) link: Arc<Link>,
    pub(super) peer: Arc<PeerInfo>,
    /// The budget for the memory of this connection's decoded requests.
    pub(super) growth: Budget,
    /// The calls of all connections.
    pub(super) calls: Arc<CallCount>,
}

impl ServerConnection {
    /// Says `GoAway` and lets running calls end.
    pub(crate) fn drain(&self) {
        self.link.update(Instant::now().into_std(), Connection::drain);
    }

    /// Ends the calls that still run, whatever their handlers do. Returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        self.link.update(Instant::now().into_std(), Connection::cut)
    }

    /// How many calls run on the connection.
    pub(crate) fn running(&self) -> usize {
        self.link.peek(|core| core.running() as usize)
    }
}
