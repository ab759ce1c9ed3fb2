//! How full the tables of a server and of a channel are, so that tests can hold that nothing stays behind. Not for
//! programs: it changes whenever the tables do.

use std::sync::{Arc, Weak};

use crate::client::channel::Channel;
use crate::server::{Core, Server};

/// Looks into a server's tables, for as long as it lives; afterwards they are empty.
#[derive(Clone, Debug)]
pub struct ServerTables(Weak<Core>);

impl ServerTables {
    /// Of this server.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        Self(Arc::downgrade(server.core()))
    }

    /// Connections that serve calls.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.upgrade().map_or(0, |core| core.connections().len())
    }

    /// Calls in the tables of these connections.
    #[must_use]
    pub fn calls(&self) -> usize {
        let core = self.0.upgrade();
        core.map_or(0, |core| core.connections().iter().map(|connection| connection.running()).sum())
    }

    /// Calls that count towards the server's limit for all connections.
    #[must_use]
    pub fn counted_calls(&self) -> usize {
        self.0.upgrade().map_or(0, |core| core.counted_calls())
    }
}

/// Calls in the table of a channel's connection, and how many more the server lets it open. `None` while there is no
/// connection.
#[must_use]
pub fn of_channel(channel: &Channel) -> Option<(usize, usize)> {
    channel.shared().places().map(|(open, free)| (open as usize, free as usize))
}
