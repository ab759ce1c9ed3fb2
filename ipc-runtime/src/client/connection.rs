//! One connection to a server, and the calls that a client makes on it.
//!
//! It knows how a call is opened, read and given up. Its caller decides whether a call is repeated. Methods are strings
//! here.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep};

use crate::error::IpcError;
use crate::link::driver::Host;
use crate::link::reader::{CallReader, Received};
use crate::link::{Link, scratch};
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::protocol::caller::{OpenError, Opening};
use crate::protocol::connection::Connection;
use crate::protocol::encode::Encode;
use crate::protocol::envelope::Target;
use crate::protocol::queue::Payload;
use crate::protocol::roles::Arrival;
use crate::protocol::table::CallKey;
use crate::status::Status;

/// A connection to a server, after the Hellos.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    pub(crate) link: Arc<Link>,
    pub(crate) peer: PeerInfo,
}

/// Why a call could not be opened on a connection.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The connection takes no more calls. Another connection may.
    Closed,
    /// The request can't be sent on any connection.
    Failed(IpcError),
}

/// The parts of a request that are the same on every connection.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'static str,
    pub(crate) metadata: &'a Metadata,
    pub(crate) deadline: Option<Instant>,
    /// The current time, if it was already read.
    pub(crate) now: Option<Instant>,
}

impl ClientConnection {
    /// How many calls are open, and how many more may be.
    pub(crate) fn places(&self) -> (u32, u32) {
        self.link.peek(|core| core.places())
    }

    /// Whether new calls may be opened.
    pub(crate) fn takes_calls(&self) -> bool {
        self.link.peek(|core| core.takes_calls())
    }

    /// No more calls will be opened here. The connection ends with its last call.
    pub(crate) fn release(&self) {
        self.link.update(Instant::now().into_std(), Connection::release);
    }

    /// Opens a call. It is sent as soon as the server admits it. `message` is the whole request; if it is `None`, items
    /// follow. `reader` is woken when a part of the answer has arrived.
    ///
    /// # Errors
    ///
    /// [`Unopened`]; nothing was sent.
    pub(crate) fn open(
        self: &Arc<Self>,
        head: &Head<'_>,
        message: Option<&dyn Encode>,
        reader: Option<&Waker>,
    ) -> Result<ClientCall, Unopened> {
        let link = &self.link;
        let message = message.map(|message| (message, message.length()));
        let length = message.map_or(0, |(_, length)| length);
        let opened = scratch::encode(
            length,
            |buffer| link.encoder().put_open_rest(buffer, head.metadata, message),
            |rest| {
                let sum = match &rest {
                    Payload::Small(_) => None,
                    Payload::Large(bytes) => Some(link.terms().variant.checksum(bytes)),
                };
                let opening = Opening {
                    method: head.method,
                    rest,
                    sum,
                    request_bytes: length as u64,
                    deadline: head.deadline.map(Instant::into_std),
                    reader,
                };
                let now = head.now.unwrap_or_else(Instant::now).into_std();
                link.update(now, |core, now| core.open(now, opening))
            },
        );
        match opened.map_err(Unopened::Failed)? {
            Ok(key) => Ok(ClientCall::new(Arc::clone(self), key, head.deadline)),
            Err(OpenError::Closed) => Err(Unopened::Closed),
            Err(OpenError::NotAccepted) => {
                let words = "the server accepts no calls (max_concurrent_calls is 0)";
                let status = Status::resource_exhausted(words).not_processed();
                Err(Unopened::Failed(IpcError::Status(status)))
            }
        }
    }
}

/// One open call. Dropping it cancels it, unless its end has arrived.
#[derive(Debug)]
pub(crate) struct ClientCall {
    pub(crate) connection: Arc<ClientConnection>,
    reader: CallReader,
    deadline: Option<Instant>,
    /// Watches the deadline if another runtime drives the connection.
    timer: Timer,
    is_over: bool,
}

/// What watches a call's deadline.
#[derive(Debug)]
enum Timer {
    /// Not known yet.
    Undecided,
    /// The connection's driver, on the runtime that also awaits the call.
    Driver,
    Own(Pin<Box<Sleep>>),
}

impl ClientCall {
    fn new(connection: Arc<ClientConnection>, key: CallKey, deadline: Option<Instant>) -> Self {
        let reader = CallReader::new(Arc::clone(&connection.link), key);
        Self { connection, reader, deadline, timer: Timer::Undecided, is_over: false }
    }

    pub(crate) const fn key(&self) -> CallKey {
        self.reader.key()
    }

    /// The next part of the answer. Credit for the items taken is given back.
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        loop {
            if let Poll::Ready(received) = self.reader.poll_next(cx) {
                self.is_over = matches!(received, Received::End(_));
                return Poll::Ready(received);
            }
            if self.poll_deadline(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = Timer::Driver;
            let key = self.key();
            self.connection.link.update(Instant::now().into_std(), |core, now| core.expire(now, key));
        }
    }

    /// Ready when the deadline has passed, if this call watches it itself.
    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        loop {
            match &mut self.timer {
                Timer::Driver => return Poll::Pending,
                Timer::Own(sleep) => return sleep.as_mut().poll(cx),
                Timer::Undecided if self.connection.link.is_driven_here() => self.timer = Timer::Driver,
                Timer::Undecided => {
                    self.timer = Timer::Own(Box::pin(tokio::time::sleep_until(deadline)));
                }
            }
        }
    }
}

impl Drop for ClientCall {
    fn drop(&mut self) {
        if !self.is_over && !self.reader.has_end() {
            let key = self.key();
            self.connection.link.update(Instant::now().into_std(), |core, now| core.abandon(now, key));
        }
    }
}

/// The user of a connection, which is told when the connection takes no more calls.
pub(super) trait ConnectionOwner: Send + Sync {
    fn on_closed(&self, connection: &Arc<ClientConnection>);
}

/// Answers the driver's questions on behalf of the channel.
pub(super) struct ClientHost {
    connection: Arc<ClientConnection>,
    channel: Weak<dyn ConnectionOwner>,
}

impl ClientHost {
    pub(super) fn new(connection: Arc<ClientConnection>, channel: Weak<dyn ConnectionOwner>) -> Self {
        Self { connection, channel }
    }
}

impl Host for ClientHost {
    fn resolve(&mut self, _: &[u8]) -> Target {
        Err(Box::new(Status::unimplemented("this side answers no calls")))
    }

    fn on_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        arrivals.clear();
    }

    fn on_closed(&mut self) {
        if let Some(channel) = self.channel.upgrade() {
            channel.on_closed(&self.connection);
        }
    }

    fn on_written(&mut self) -> bool {
        true
    }
}
