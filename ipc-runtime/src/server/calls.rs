//! The server's side of one connection: which calls run on it, and what arrives for them.
//!
//! It admits, refuses and cancels; handlers are started through the router and end in [`dispatch`].
//!
//! [`dispatch`]: super::dispatch

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Core;
use super::dispatch::{Around, ServerCall, Slot};
use super::runners::Runners;
use crate::connection::Connection;
use crate::connection::call::{self, CallState, End, Lost};
use crate::connection::driver::{Ending, Side};
use crate::connection::ids::ById;
use crate::connection::writer::{Class, Refusal, lock};
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::status::Status;
use crate::wire::hot::Hot;
use crate::wire::{self, Body, GoAway, Open};

/// A connection of a client, past the Hellos.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    pub(crate) connection: Arc<Connection>,
    core: Arc<Core>,
    pub(crate) peer: Arc<PeerInfo>,
    pub(super) runners: Arc<Runners>,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    running: ById<Arc<CallState>>,
    /// The highest id that was accepted; what a `GoAway` says.
    last_accepted: u64,
    /// No call above this is accepted: a `GoAway` said so.
    draining: bool,
}

impl Calls {
    fn is_drained(&self) -> bool {
        self.draining && self.running.is_empty()
    }
}

impl ServerConnection {
    pub(crate) fn new(connection: Arc<Connection>, core: Arc<Core>, peer: Arc<PeerInfo>) -> Self {
        Self { connection, core, peer, runners: Arc::default(), calls: Mutex::default() }
    }

    /// Says `GoAway` and lets what runs come to its end.
    pub(crate) fn drain(&self) {
        let status = Status::unavailable("the server is shutting down");
        // What the GoAway says and what is accepted from here on change together.
        let said = self.connection.writer.append(Class::Control, |buffer, _| {
            let mut calls = lock(&self.calls);
            if std::mem::replace(&mut calls.draining, true) {
                return Ok(());
            }
            self.connection.wind_up();
            self.connection.encoder.put_go_away(buffer, calls.last_accepted, &status, 0)
        });
        if let Err(Refusal::Frame(error)) = said {
            tracing::error!(%error, "GoAway not sent");
        }
        self.connection.writer.flush();
        self.connection.writer.wake_driver();
    }

    /// Ends the calls that still run, whatever their handlers do; returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        let running = std::mem::take(&mut lock(&self.calls).running);
        self.core.calls_ended(running.len());
        let status = Status::unavailable("the server is shutting down and the call took too long to end");
        for (id, state) in &running {
            state.put_end(End::cancelled(status.clone()));
            self.refuse(Class::Control, *id, &status, false);
        }
        self.connection.writer.flush();
        self.connection.writer.wake_driver();
        running.len()
    }

    /// Ends an accepted call: takes it off the books and writes its `Close`, for which `write` is called unless
    /// the call has been ended otherwise.
    pub(crate) async fn close(
        &self,
        id: u64,
        mut write: impl FnMut(&mut BytesMut) -> Result<(), IpcError>,
    ) -> Result<(), IpcError> {
        let mut drained = false;
        let sent = self
            .connection
            .send_call(|buffer, _| {
                drained = self.write_close(id, || write(buffer))?;
                Ok(())
            })
            .await;
        self.closed(id, sent, drained)
    }

    /// As [`close`](Self::close), without waiting; `false` where there is no room.
    pub(crate) fn try_close(
        &self,
        id: u64,
        write: impl FnOnce(&mut BytesMut) -> Result<(), IpcError>,
    ) -> Result<bool, IpcError> {
        let mut drained = false;
        let sent = self.connection.writer.append(Class::Call, |buffer, _| {
            drained = self.write_close(id, || write(buffer))?;
            Ok(())
        });
        self.connection.writer.flush();
        match sent {
            Err(Refusal::Full) => Ok(false),
            sent => self.closed(id, sent, drained).map(|()| true),
        }
    }

    /// Returns whether this was the last call of a connection that takes no more.
    fn write_close(&self, id: u64, write: impl FnOnce() -> Result<(), IpcError>) -> Result<bool, IpcError> {
        let mut calls = lock(&self.calls);
        if !calls.running.contains_key(&id) {
            return Ok(false);
        }
        write()?;
        let state = calls.running.remove(&id);
        let drained = calls.is_drained();
        drop(calls);
        self.ended(state);
        Ok(drained)
    }

    fn closed(&self, id: u64, sent: Result<u64, Refusal>, drained: bool) -> Result<(), IpcError> {
        match sent {
            // Nobody can be told, but it counts no longer.
            Err(Refusal::Ended) => _ = self.remove(id),
            Err(Refusal::Frame(error)) => return Err(error),
            _ if drained => self.connection.writer.wake_driver(),
            _ => {}
        }
        Ok(())
    }

    /// Puts a call on the books; `None` where the connection is draining.
    fn admit(
        &self,
        id: u64,
        deadline: Option<Instant>,
        half_closed: bool,
    ) -> Result<Option<Arc<CallState>>, Status> {
        let mut calls = lock(&self.calls);
        if calls.draining {
            return Ok(None);
        }
        let limit = usize::try_from(self.core.options.max_concurrent_calls).unwrap_or(usize::MAX);
        if calls.running.len() >= limit {
            return Err(Status::resource_exhausted(format!(
                "limit of {limit} calls at once on a connection"
            )));
        }
        self.core.call_begins()?;
        let state = self.connection.call_state(deadline);
        let state = Arc::new(if half_closed { state.half_closed() } else { state });
        calls.running.insert(id, Arc::clone(&state));
        calls.last_accepted = id;
        // The driver itself is at work here, and looks at its alarm before it sleeps.
        _ = self.connection.alarm.set(deadline);
        Ok(Some(state))
    }

    /// As [`close`](Self::close) for a call whose task ends without having said how.
    pub(crate) fn abort(&self, id: u64, status: &Status) {
        if self.remove(id) {
            self.refuse(Class::Control, id, status, false);
            self.connection.writer.flush();
            if self.is_drained() {
                self.connection.writer.wake_driver();
            }
        }
    }

    /// As [`Router::is_quick`](super::router::Router::is_quick).
    pub(super) fn is_quick(&self, route: usize) -> bool {
        self.core.router.is_quick(route)
    }

    /// As [`Router::note_pace`](super::router::Router::note_pace).
    pub(super) fn note_pace(&self, route: usize, paused_after: Duration) {
        self.core.router.note_pace(route, paused_after);
    }

    /// The path of one of the router's methods.
    pub(super) fn path(&self, route: usize) -> Arc<str> {
        self.core.router.path(route)
    }

    /// How many calls there are on the connection.
    pub(crate) fn running(&self) -> usize {
        lock(&self.calls).running.len()
    }

    fn remove(&self, id: u64) -> bool {
        let removed = lock(&self.calls).running.remove(&id);
        self.ended(removed)
    }

    /// A call, if it was one, is off the books.
    fn ended(&self, call: Option<Arc<CallState>>) -> bool {
        let Some(state) = call else { return false };
        self.core.calls_ended(1);
        state.put_end(End::Over);
        true
    }

    fn is_drained(&self) -> bool {
        lock(&self.calls).is_drained()
    }

    fn refuse(&self, class: Class, id: u64, status: &Status, not_processed: bool) {
        let appended = self.connection.writer.append(class, |buffer, _| {
            self.connection.encoder.put_error(buffer, id, &Metadata::new(), status, not_processed)
        });
        if let Err(Refusal::Frame(error)) = appended {
            tracing::error!(%error, "Close not sent");
        }
    }
}

/// The driver's view of a server's connection.
pub(crate) struct ServerSide {
    connection: Arc<ServerConnection>,
    last_seen: u64,
    /// Where the last call went; the next often goes there, too.
    last_route: usize,
    /// Gives the connection's place back when the side is dropped.
    _place: super::accept::Place,
}

impl ServerSide {
    pub(crate) const fn new(connection: Arc<ServerConnection>, place: super::accept::Place) -> Self {
        Self { connection, last_seen: 0, last_route: 0, _place: place }
    }

    fn open(&mut self, id: u64, open: Opening<'_>) -> Result<(), Status> {
        if id <= self.last_seen {
            return Err(Status::internal(format!("Open with id {id} after {}", self.last_seen)));
        }
        self.last_seen = id;
        let connection = &self.connection;
        let Opening { method, timeout_us, metadata, end_of_stream, mut message } = open;
        let admitted = connection.core.router.find(method, &mut self.last_route).and_then(|route| {
            if let Some(why) = metadata.first_bad_key() {
                return Err(Status::invalid_argument(why));
            }
            Ok((route, connection.admit(id, deadline_of(timeout_us), end_of_stream)?))
        });
        match admitted {
            Ok((route, Some(state))) => {
                if !end_of_stream && let Some(first) = message.take() {
                    state.put_free(first);
                }
                let layers = connection.core.layers.clone();
                let around = Around { layers, route: self.last_route };
                let slot = Slot::new(Arc::clone(connection), id, state);
                route.dispatch(ServerCall::new(slot, message, metadata, around));
            }
            // It is above what the GoAway said: the client knows that it was not processed.
            Ok((_, None)) => {}
            Err(_) if lock(&connection.calls).draining => {}
            Err(status) => connection.refuse(Class::Reply, id, &status, true),
        }
        Ok(())
    }

    fn lose(&mut self, cause: &Arc<IpcError>) {
        let mut calls = lock(&self.connection.calls);
        calls.draining = true;
        self.connection.connection.wind_up();
        let running: Vec<_> = calls.running.values().cloned().collect();
        drop(calls);
        self.connection.runners.close();
        // They stay on the books until their handlers have really ended.
        for state in running {
            state.put_end(End::Lost(Lost { cause: Arc::clone(cause), sent: true, begun: false }));
        }
    }
}

/// A call as its client opens it.
struct Opening<'a> {
    method: &'a [u8],
    timeout_us: u64,
    metadata: Metadata,
    end_of_stream: bool,
    message: Option<Bytes>,
}

/// When the caller stops waiting; a value beyond the clock means never.
fn deadline_of(timeout_us: u64) -> Option<Instant> {
    if timeout_us == 0 {
        return None;
    }
    Instant::now().checked_add(Duration::from_micros(timeout_us))
}

impl Side for ServerSide {
    fn on_call(&mut self, id: u64, body: Body) -> Result<(), Status> {
        let body = match body {
            Body::Open(open) => {
                let Open { method, timeout_us, metadata, end_of_stream, message } = open;
                let metadata = wire::metadata(metadata);
                let open = Opening { method: &method, timeout_us, metadata, end_of_stream, message };
                return self.open(id, open);
            }
            Body::Headers(_) | Body::Close(_) => {
                return Err(Status::internal(format!("{} from a client", body.name())));
            }
            other => other,
        };
        let Some(state) = lock(&self.connection.calls).running.get(&id).cloned() else { return Ok(()) };
        match body {
            Body::Item(item) => state.put_items(std::iter::once(item.message)),
            Body::Credit(credit) => state.add_credit(credit.amount),
            Body::HalfClose(_) => {
                state.put_end(End::HalfClosed);
                Ok(())
            }
            Body::Cancel(_) => {
                state.put_end(End::cancelled(Status::cancelled("the client cancelled the call")));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_items(&mut self, id: u64, items: &mut Vec<Bytes>) -> Result<(), Status> {
        let state = lock(&self.connection.calls).running.get(&id).cloned();
        let items = items.drain(..);
        state.map_or(Ok(()), |state| state.put_items(items))
    }

    fn on_hot(&mut self, id: u64, hot: Hot) -> Result<(), Status> {
        match hot {
            Hot::Item(message) => self.on_items(id, &mut vec![message]),
            Hot::Answer(_) => Err(Status::internal("Close from a client")),
            Hot::Request { method, timeout_us, message } => {
                let (metadata, message) = (Metadata::new(), Some(message));
                let open = Opening { method: &method, timeout_us, metadata, end_of_stream: true, message };
                self.open(id, open)
            }
        }
    }

    fn on_go_away(&mut self, go_away: GoAway) -> Result<(), Ending> {
        let status = go_away.status.unwrap_or_default().into_status();
        tracing::debug!(%status, "the client goes away");
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let calls = lock(&self.connection.calls);
        let alarm = &self.connection.connection.alarm;
        call::expire(calls.running.values(), now, alarm);
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<Ending> {
        if self.connection.is_drained() {
            return Poll::Ready(Ending::silent(IpcError::Status(Status::unavailable("shut down"))));
        }
        Poll::Pending
    }

    fn callers(&self, _: usize) -> usize {
        self.connection.running()
    }

    fn last_call_id(&self) -> u64 {
        lock(&self.connection.calls).last_accepted
    }

    fn on_end(&mut self, cause: &Arc<IpcError>) {
        self.lose(cause);
    }
}

impl Drop for ServerSide {
    /// Also where the driver was dropped before it ended.
    fn drop(&mut self) {
        self.lose(&Arc::new(IpcError::PeerClosed));
    }
}
