//! The server's side of one connection: calls that arrive are counted and handed to the router.
//!
//! Admission by the connection's own limits has happened in the core. Here are the limits that all connections share.

use std::sync::Arc;

use tokio::time::Instant;

use super::Core;
use super::dispatch::{CallSlot, ServerCall};
use super::growth::Charge;
use super::places::{Place, user_of};
use super::runners::Runners;
use crate::link::Link;
use crate::link::driver::Host;
use crate::peer::PeerInfo;
use crate::protocol::connection::Connection;
use crate::protocol::envelope::Target;
use crate::protocol::growth;
use crate::protocol::roles::Arrival;
use crate::status::Status;

/// A connection of a client, past the Hellos.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    pub(crate) link: Arc<Link>,
    pub(super) core: Arc<Core>,
    pub(super) peer: Arc<PeerInfo>,
    pub(super) runners: Arc<Runners>,
    /// What the requests of this connection may have grown to.
    pub(super) growth: super::growth::Budget,
}

impl ServerConnection {
    pub(super) fn new(link: Arc<Link>, core: Arc<Core>, peer: Arc<PeerInfo>) -> Self {
        let growth = core.growth.of_connection();
        Self { link, core, peer, runners: Arc::default(), growth }
    }

    /// Says `GoAway` and lets what runs come to its end.
    pub(crate) fn drain(&self) {
        self.link.update(Instant::now().into_std(), Connection::drain);
    }

    /// Ends the calls that still run, whatever their handlers do; returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        self.link.update(Instant::now().into_std(), Connection::cut)
    }

    /// How many calls there are on the connection.
    pub(crate) fn running(&self) -> usize {
        self.link.peek(|core| core.running() as usize)
    }
}

/// What the connection's driver asks the server.
pub(super) struct ServerHost {
    connection: Arc<ServerConnection>,
    /// Where the last call went; the next often goes there, too.
    last_route: usize,
    /// The connection's place among those that are served, and then among those that wait for their peer to read.
    place: Option<Place>,
    ending: Option<Place>,
}

impl ServerHost {
    pub(super) const fn new(connection: Arc<ServerConnection>, place: Place) -> Self {
        Self { connection, last_route: 0, place: Some(place), ending: None }
    }

    fn begin(&self, arrival: Arrival) {
        let connection = &self.connection;
        let Arrival { key, id, target, metadata, message, deadline } = arrival;
        if let Err(status) = connection.core.call_begins() {
            return self.refuse(key, &status);
        }
        let grows_to = message.as_ref().map_or(0, |message| growth::estimate(message));
        let charge = match Charge::take(&connection.growth, grows_to) {
            Ok(charge) => charge,
            Err(status) => {
                connection.core.call_ended();
                return self.refuse(key, &status);
            }
        };
        // From here on the slot counts the call down.
        let slot = CallSlot::new(Arc::clone(connection), key, id, deadline, charge);
        let layers = connection.core.layers.clone();
        let call = ServerCall { slot, message, metadata, layers, route: target as usize };
        connection.core.router.route(target as usize).dispatch(call);
    }

    fn refuse(&self, key: crate::protocol::table::CallKey, status: &Status) {
        self.connection.link.update(Instant::now().into_std(), |core, now| core.refuse(now, key, status));
    }
}

impl Host for ServerHost {
    fn resolve(&mut self, method: &[u8]) -> Target {
        let found = self.connection.core.router.find(method, &mut self.last_route);
        found.map(|route| u32::try_from(route).unwrap_or(u32::MAX)).map_err(Box::new)
    }

    fn on_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        for arrival in arrivals.drain(..) {
            self.begin(arrival);
        }
    }

    fn on_closed(&mut self) {
        self.connection.runners.close();
    }

    fn on_written(&mut self) -> bool {
        if self.place.take().is_some() {
            let user = user_of(&self.connection.peer);
            self.ending = self.connection.core.counts.endings.take(user);
        }
        self.ending.is_some()
    }
}
