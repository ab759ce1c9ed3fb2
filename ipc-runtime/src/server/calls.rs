//! The server's side of one connection: which calls run on it, and what arrives for them.
//!
//! It admits, refuses and cancels; handlers are started through the router and end in [`dispatch`].
//!
//! [`dispatch`]: super::dispatch

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Core;
use super::dispatch::{Around, ServerCall, Slot};
use crate::connection::Connection;
use crate::connection::call::{self, CallState, End, Lost};
use crate::connection::driver::{Ending, Side};
use crate::connection::ids::ById;
use crate::connection::writer::{Class, Refusal, lock};
use crate::error::IpcError;
use crate::layer::Path;
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

impl ServerConnection {
    pub(crate) fn new(connection: Arc<Connection>, core: Arc<Core>, peer: Arc<PeerInfo>) -> Self {
        Self { connection, core, peer, calls: Mutex::default() }
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

    /// Ends an accepted call: takes it off the books, then writes its `Close`, for which `write` is called unless
    /// the call has been ended otherwise.
    pub(crate) async fn close(
        &self,
        id: u64,
        mut write: impl FnMut(&mut BytesMut) -> Result<(), IpcError>,
    ) -> Result<(), IpcError> {
        let sent = self
            .connection
            .send_call(|buffer, _| {
                if self.calls_contains(id) {
                    write(buffer)?;
                    self.remove(id);
                }
                Ok(())
            })
            .await;
        if let Err(Refusal::Ended) = sent {
            // Nobody can be told, but it counts no longer.
            self.remove(id);
        }
        self.wake_if_drained();
        match sent {
            Err(Refusal::Frame(error)) => Err(error),
            Ok(_) | Err(Refusal::Full | Refusal::Ended) => Ok(()),
        }
    }

    /// As [`close`](Self::close) for a call whose task ends without having said how.
    pub(crate) fn abort(&self, id: u64, status: &Status) {
        if self.remove(id) {
            self.refuse(Class::Control, id, status, false);
            self.connection.writer.flush();
            self.wake_if_drained();
        }
    }

    /// How many calls there are on the connection.
    pub(crate) fn running(&self) -> usize {
        lock(&self.calls).running.len()
    }

    fn calls_contains(&self, id: u64) -> bool {
        lock(&self.calls).running.contains_key(&id)
    }

    fn remove(&self, id: u64) -> bool {
        let removed = lock(&self.calls).running.remove(&id);
        if let Some(state) = &removed {
            self.core.calls_ended(1);
            state.put_end(End::Over);
        }
        removed.is_some()
    }

    fn is_drained(&self) -> bool {
        let calls = lock(&self.calls);
        calls.draining && calls.running.is_empty()
    }

    fn wake_if_drained(&self) {
        if self.is_drained() {
            self.connection.writer.wake_driver();
        }
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
    /// Gives the connection's place back when the side is dropped.
    _place: super::accept::Place,
}

impl ServerSide {
    pub(crate) const fn new(connection: Arc<ServerConnection>, place: super::accept::Place) -> Self {
        Self { connection, last_seen: 0, _place: place }
    }

    fn open(&mut self, id: u64, open: Open) -> Result<(), Status> {
        if id <= self.last_seen {
            return Err(Status::internal(format!("Open with id {id} after {}", self.last_seen)));
        }
        self.last_seen = id;
        let connection = &self.connection;
        let core = &connection.core;
        let path = std::str::from_utf8(&open.method).unwrap_or_default();
        let metadata = wire::metadata(open.metadata);
        let admitted = core.router.find(path).and_then(|route| {
            if let Some(why) = metadata.first_bad_key() {
                return Err(Status::invalid_argument(why));
            }
            Ok((route, self.admit(id, deadline_of(open.timeout_us))?))
        });
        match admitted {
            Ok((route, Some(state))) => {
                let mut message = open.message;
                if open.end_of_stream {
                    state.put_end(End::HalfClosed);
                } else if let Some(first) = message.take() {
                    state.put_free(first);
                }
                let around =
                    Around { layers: core.layers.clone(), path: Path::Shared(Arc::clone(&route.path)) };
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

    /// Puts a call on the books; `None` where the connection is draining.
    fn admit(&self, id: u64, deadline: Option<Instant>) -> Result<Option<Arc<CallState>>, Status> {
        let (connection, core) = (&self.connection, &self.connection.core);
        let mut calls = lock(&connection.calls);
        if calls.draining {
            return Ok(None);
        }
        let limit = usize::try_from(core.options.max_concurrent_calls).unwrap_or(usize::MAX);
        if calls.running.len() >= limit {
            return Err(Status::resource_exhausted(format!(
                "limit of {limit} calls at once on a connection"
            )));
        }
        core.call_begins()?;
        let state = Arc::new(connection.connection.call_state(deadline));
        calls.running.insert(id, Arc::clone(&state));
        calls.last_accepted = id;
        // The driver itself is at work here, and looks at its alarm before it sleeps.
        _ = connection.connection.alarm.set(deadline);
        Ok(Some(state))
    }

    fn lose(&mut self, cause: &Arc<IpcError>) {
        let mut calls = lock(&self.connection.calls);
        calls.draining = true;
        let running: Vec<_> = calls.running.values().cloned().collect();
        drop(calls);
        // They stay on the books until their handlers have really ended.
        for state in running {
            state.put_end(End::Lost(Lost { cause: Arc::clone(cause), sent: true, begun: false }));
        }
    }
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
            Body::Open(open) => return self.open(id, open),
            Body::Headers(_) | Body::Close(_) => {
                return Err(Status::internal(format!("{} from a client", body.name())));
            }
            other => other,
        };
        let Some(state) = lock(&self.connection.calls).running.get(&id).cloned() else { return Ok(()) };
        match body {
            Body::Item(item) => state.put_item(item.message),
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

    fn on_hot(&mut self, id: u64, hot: Hot) -> Result<(), Status> {
        let Hot::Item(message) = hot else { return Err(Status::internal("Close from a client")) };
        let Some(state) = lock(&self.connection.calls).running.get(&id).cloned() else { return Ok(()) };
        state.put_item(message)
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
