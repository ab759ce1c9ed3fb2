//! The server's side of one connection: calls that arrive are counted and handed to the router.
//!
//! The core has already applied the connection's own limits. This module applies the limits that all connections share.

use std::sync::Arc;

use tokio::time::Instant;

use super::connection::ServerConnection;
use super::core::Core;
use super::dispatch::{Dispatcher, ServerCall};
use super::growth::Charge;
use super::places::{Place, user_of};
use super::slot::CallSlot;
use crate::link::driver::Host;
use crate::protocol::envelope::Target;
use crate::protocol::growth;
use crate::protocol::roles::Arrival;
use crate::protocol::table::CallKey;
use crate::status::Status;

/// Answers the driver's questions on behalf of the server.
pub(super) struct ServerHost {
    core: Arc<Core>,
    connection: Arc<ServerConnection>,
    dispatcher: Arc<Dispatcher>,
    /// The route of the last call. The next call often has the same.
    last_route: usize,
    /// The connection's place among those that are served, and then among those that wait for their peer to read.
    place: Option<Place>,
    ending: Option<Place>,
}

impl ServerHost {
    pub(super) fn new(core: Arc<Core>, connection: Arc<ServerConnection>, place: Place) -> Self {
        let dispatcher = Arc::new(Dispatcher::new(core.router.paths()));
        Self { core, connection, dispatcher, last_route: 0, place: Some(place), ending: None }
    }

    fn begin(&self, arrival: Arrival) {
        let connection = &self.connection;
        let Arrival { key, id, target, metadata, message, deadline } = arrival;
        if let Err(status) = connection.calls.begin() {
            return self.refuse(key, &status);
        }
        let grows_to = message.as_ref().map_or(0, |message| growth::estimate(message));
        let (charge, waits_for) = match Charge::take(&connection.growth, grows_to) {
            Some(charge) => (charge, 0),
            None => (Charge::none(), grows_to),
        };
        // From here on, dropping the slot ends the count of this call.
        let slot = CallSlot::new(Arc::clone(connection), key, id, deadline, charge);
        let route = target as usize;
        let (layers, dispatcher) = (self.core.layers.clone(), Arc::clone(&self.dispatcher));
        let call = ServerCall { slot, message, waits_for, metadata, layers, route, dispatcher };
        self.core.router.route(route).dispatch(call);
    }

    fn refuse(&self, key: CallKey, status: &Status) {
        self.connection.link.update(Instant::now().into_std(), |core, now| core.refuse(now, key, status));
    }
}

impl Host for ServerHost {
    fn resolve(&mut self, method: &[u8]) -> Target {
        let found = self.core.router.find(method, &mut self.last_route);
        found.map(|route| u32::try_from(route).unwrap_or(u32::MAX)).map_err(Box::new)
    }

    fn on_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        for arrival in arrivals.drain(..) {
            self.begin(arrival);
        }
    }

    fn on_closed(&mut self) {
        self.dispatcher.close();
    }

    fn on_written(&mut self) -> bool {
        if self.place.take().is_some() {
            let user = user_of(&self.connection.peer);
            self.ending = self.core.counts.endings.take(user);
        }
        self.ending.is_some()
    }
}
