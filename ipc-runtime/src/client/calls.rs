//! The client's side of one connection: which calls are open on it, and what arrives for them.
//!
//! It knows call ids and what a lost connection means for each call; whether a call is repeated is decided
//! by its caller, and methods are strings here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::Instant;

use super::shared::Shared;
use crate::connection::Connection;
use crate::connection::call::{self, CallState, End, Inbox, Lost, Next};
use crate::connection::driver::{Ending, Side};
use crate::connection::ids::ById;
use crate::connection::writer::{Class, Refusal, lock};
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::peer::PeerInfo;
use crate::status::{Code, Status};
use crate::wire::encode::{Encode, OpenParts};
use crate::wire::hot::Hot;
use crate::wire::{self, Body, Close, Empty, GoAway, Hello};

/// A connection to a server, past the Hellos.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    pub(crate) connection: Arc<Connection>,
    pub(crate) peer: PeerInfo,
    max_concurrent_calls: u32,
    table: Mutex<Table>,
    /// One permit for each call that the server lets this connection have open.
    slots: Semaphore,
}

#[derive(Debug, Default)]
struct Table {
    calls: ById<Entry>,
    last_opened: u64,
    /// No new calls: the server goes away, or the connection has ended.
    closed: bool,
    /// No channel uses the connection any more.
    unused: bool,
    /// The lowest `last_call_id` of the server's `GoAway`s.
    last_accepted: Option<u64>,
}

impl Table {
    /// Whether the call has ever been opened.
    fn check(&self, id: u64) -> Result<(), Status> {
        if id > self.last_opened {
            return Err(Status::internal(format!("an answer to call {id}, which was never opened")));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Entry {
    state: Arc<CallState>,
    /// Where its `Open` begins in the stream: once more than that was handed to the transport, the server can have seen
    /// the call.
    open_at: u64,
    answer_begun: bool,
    /// The server has been told that nobody waits for the call.
    cancelled: bool,
}

/// Why a call could not be opened on a connection.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The connection takes no calls any more; another one may.
    Closed,
    /// The request can't be sent on any connection.
    Failed(IpcError),
    /// The deadline passed first.
    Expired,
}

/// A call that was opened.
struct Opened {
    call: ClientCall,
    /// Its deadline is the next one that the driver must look at.
    sooner: bool,
}

/// What a request is sent with, whichever connection it goes to.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'static str,
    pub(crate) metadata: &'a Metadata,
    pub(crate) deadline: Option<Instant>,
}

impl ClientConnection {
    pub(crate) fn new(connection: Arc<Connection>, peer: PeerInfo, hello: &Hello) -> Self {
        let slots = usize::try_from(hello.max_concurrent_calls).unwrap_or(usize::MAX);
        Self {
            connection,
            peer: peer.greeted(hello),
            max_concurrent_calls: hello.max_concurrent_calls,
            table: Mutex::default(),
            slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// How many calls are open, and how many more may be.
    pub(crate) fn tables(&self) -> (usize, usize) {
        (lock(&self.table).calls.len(), self.slots.available_permits())
    }

    /// Whether new calls may be opened.
    pub(crate) fn is_open(&self) -> bool {
        !lock(&self.table).closed
    }

    /// The channel is gone: the connection ends when its last call has.
    pub(crate) fn release(&self) {
        lock(&self.table).unused = true;
        self.connection.wind_up();
        self.connection.writer.wake_driver();
    }

    /// Opens a call if there is a free slot and room to write; `None` where it must wait for either. `message` is the
    /// whole request; without it items follow.
    pub(crate) fn try_open(
        self: &Arc<Self>,
        head: &Head<'_>,
        message: Option<&dyn Encode>,
    ) -> Result<Option<ClientCall>, OpenError> {
        let slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(TryAcquireError::NoPermits) => return Ok(None),
            Err(TryAcquireError::Closed) => return Err(OpenError::Closed),
        };
        let mut opened = None;
        let sent = self.connection.writer.append(Class::Call, |buffer, offset| {
            opened = Some(self.write_open(buffer, offset, head, message)?);
            Ok(())
        });
        self.connection.writer.flush();
        if let Err(Refusal::Full) = sent {
            return Ok(None);
        }
        self.opened(slot, sent, opened).map(Some)
    }

    /// Opens a call: waits for a free slot and for room to write.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, no call was opened.
    pub(crate) async fn open(
        self: &Arc<Self>,
        head: &Head<'_>,
        message: Option<&dyn Encode>,
    ) -> Result<ClientCall, OpenError> {
        if self.max_concurrent_calls == 0 {
            let status =
                Status::resource_exhausted("the server accepts no calls (max_concurrent_calls is 0)");
            return Err(OpenError::Failed(IpcError::Status(status.not_processed())));
        }
        let slot = self.slots.acquire().await.map_err(|_| OpenError::Closed)?;
        let mut opened = None;
        let sent = self
            .connection
            .send_call(|buffer, offset| {
                opened = Some(self.write_open(buffer, offset, head, message)?);
                Ok(())
            })
            .await;
        self.opened(slot, sent, opened)
    }

    fn opened(
        &self,
        slot: SemaphorePermit<'_>,
        sent: Result<u64, Refusal>,
        opened: Option<Result<Opened, OpenError>>,
    ) -> Result<ClientCall, OpenError> {
        match (sent, opened) {
            (Ok(_), Some(Ok(opened))) => {
                // The call holds the slot now, until its Close arrives.
                slot.forget();
                if opened.sooner {
                    self.connection.writer.wake_driver();
                }
                Ok(opened.call)
            }
            (_, Some(Err(error))) => Err(error),
            (Err(Refusal::Frame(error)), _) => Err(OpenError::Failed(error)),
            _ => Err(OpenError::Closed),
        }
    }

    fn write_open(
        self: &Arc<Self>,
        buffer: &mut BytesMut,
        offset: u64,
        head: &Head<'_>,
        message: Option<&dyn Encode>,
    ) -> Result<Result<Opened, OpenError>, IpcError> {
        let Some(timeout_us) = remaining_us(head.deadline) else { return Ok(Err(OpenError::Expired)) };
        let mut table = lock(&self.table);
        if table.closed {
            return Ok(Err(OpenError::Closed));
        }
        let id = table.last_opened + 1;
        let open = OpenParts { method: head.method, timeout_us, metadata: head.metadata, message };
        self.connection.encoder.put_open(buffer, id, &open)?;
        table.last_opened = id;
        let state = Arc::new(self.connection.call_state(head.deadline));
        let entry =
            Entry { state: Arc::clone(&state), open_at: offset, answer_begun: false, cancelled: false };
        table.calls.insert(id, entry);
        let sooner = self.connection.alarm.set(head.deadline);
        Ok(Ok(Opened { call: ClientCall { connection: Arc::clone(self), id, state }, sooner }))
    }

    /// Cancels a call that nobody waits for any more, unless it is over.
    pub(crate) fn cancel(&self, id: u64) {
        let cancelled =
            lock(&self.table).calls.get_mut(&id).map(|entry| std::mem::replace(&mut entry.cancelled, true));
        if cancelled == Some(false) {
            self.connection.send(Class::Control, id, Body::Cancel(Empty {}));
        }
    }
}

/// What is left until `deadline`, in microseconds, rounded up; 0 where there is none. `None`: nothing is left.
fn remaining_us(deadline: Option<Instant>) -> Option<u64> {
    let Some(deadline) = deadline else { return Some(0) };
    let left = deadline.saturating_duration_since(Instant::now());
    let micros = left.as_nanos().div_ceil(1000);
    (micros > 0).then(|| u64::try_from(micros).unwrap_or(u64::MAX))
}

/// One open call. Dropping it cancels it, unless its end has arrived.
#[derive(Debug)]
pub(crate) struct ClientCall {
    pub(crate) connection: Arc<ClientConnection>,
    pub(crate) id: u64,
    pub(crate) state: Arc<CallState>,
}

impl ClientCall {
    /// The next item, if it is in the inbox already.
    pub(crate) fn unread(&self, inbox: &mut Inbox) -> Option<Bytes> {
        let (item, grant) = self.state.unread(inbox)?;
        self.connection.connection.grant(self.id, grant);
        Some(item)
    }

    /// What the server sent next. Credit for what was taken is given back.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<Next> {
        let (next, grant) = self.state.poll_next(cx, inbox);
        self.connection.connection.grant(self.id, grant);
        next
    }
}

impl Drop for ClientCall {
    fn drop(&mut self) {
        if !self.state.abandon() {
            self.connection.cancel(self.id);
        }
    }
}

/// The driver's view of a client's connection.
pub(crate) struct ClientSide {
    connection: Arc<ClientConnection>,
    channel: Weak<Shared>,
    /// The channel is told that the server is well.
    answered: Arc<AtomicBool>,
    retry_after_ms: u32,
    graceful: bool,
    /// The connection's end has been judged and told.
    ended: bool,
}

impl ClientSide {
    pub(crate) fn new(connection: Arc<ClientConnection>, channel: Weak<Shared>) -> Self {
        let answered = channel.upgrade().map(|channel| Arc::clone(&channel.answered)).unwrap_or_default();
        Self { connection, channel, answered, retry_after_ms: 0, graceful: false, ended: false }
    }

    /// Takes a call that has ended off the table and gives its slot back; `None` if it was over before.
    fn take(&self, id: u64) -> Result<Option<Entry>, Status> {
        let mut table = lock(&self.connection.table);
        let entry = table.calls.remove(&id);
        if entry.is_none() {
            table.check(id)?;
        } else if !table.closed {
            self.connection.slots.add_permits(1);
        }
        Ok(entry)
    }

    fn close(&self, id: u64, close: Close) -> Result<(), Status> {
        let Some(entry) = self.take(id)? else { return Ok(()) };
        if !close.not_processed {
            self.note_answer();
        }
        let succeeded = close.status.as_ref().is_none_or(|status| status.code == Code::Ok as i32);
        if succeeded && let Some(message) = &close.message {
            entry.state.put_free(message.clone());
        }
        entry.state.put_end(End::Closed(Box::new(close)));
        Ok(())
    }

    fn note_answer(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// A call that ended with a message and nothing else.
    fn answer(&self, id: u64, message: Bytes) -> Result<(), Status> {
        if let Some(entry) = self.take(id)? {
            self.note_answer();
            entry.state.put_answer(message);
        }
        Ok(())
    }

    fn begin_answer(entry: &mut Entry) -> bool {
        std::mem::replace(&mut entry.answer_begun, true)
    }
}

impl Side for ClientSide {
    fn on_call(&mut self, id: u64, body: Body) -> Result<(), Status> {
        if matches!(body, Body::Open(_) | Body::HalfClose(_) | Body::Cancel(_)) {
            return Err(Status::internal(format!("{} from a server", body.name())));
        }
        let mut table = lock(&self.connection.table);
        if id > table.last_opened {
            return Err(Status::internal(format!("{} for call {id}, which was never opened", body.name())));
        }
        let Some(entry) = table.calls.get_mut(&id) else { return Ok(()) };
        match body {
            Body::Headers(headers) => {
                if Self::begin_answer(entry) {
                    return Err(Status::internal(format!("Headers of call {id} after Headers or an Item")));
                }
                entry.state.put_headers(wire::metadata(headers.metadata));
                Ok(())
            }
            Body::Item(item) => {
                drop(table);
                self.on_items(id, &mut vec![item.message])
            }
            Body::Credit(credit) => entry.state.add_credit(credit.amount),
            Body::Close(close) => {
                drop(table);
                self.close(id, close)
            }
            _ => Ok(()),
        }
    }

    fn on_items(&mut self, id: u64, items: &mut Vec<Bytes>) -> Result<(), Status> {
        let mut table = lock(&self.connection.table);
        let items = items.drain(..);
        table.check(id)?;
        let Some(entry) = table.calls.get_mut(&id) else { return Ok(()) };
        Self::begin_answer(entry);
        let state = Arc::clone(&entry.state);
        drop(table);
        state.put_items(items)
    }

    fn on_hot(&mut self, id: u64, hot: Hot) -> Result<(), Status> {
        match hot {
            Hot::Item(message) => self.on_items(id, &mut vec![message]),
            Hot::Answer(message) => self.answer(id, message),
            Hot::Request { .. } => Err(Status::internal("Open from a server")),
        }
    }

    fn on_go_away(&mut self, go_away: GoAway) -> Result<(), Ending> {
        let status = go_away.status.unwrap_or_default().into_status();
        self.retry_after_ms = self.retry_after_ms.max(go_away.retry_after_ms);
        let mut table = lock(&self.connection.table);
        let last = table.last_accepted.map_or(go_away.last_call_id, |last| last.min(go_away.last_call_id));
        table.last_accepted = Some(last);
        if status.code() != Code::Unavailable {
            return Err(Ending::silent(IpcError::Status(status)));
        }
        table.closed = true;
        self.connection.connection.wind_up();
        self.graceful = true;
        self.connection.slots.close();
        let refused: Vec<_> = table.calls.extract_if(|id, _| *id > last).collect();
        drop(table);
        let cause = Arc::new(IpcError::Status(status));
        for (_, entry) in refused {
            let begun = entry.answer_begun;
            entry.state.put_end(End::Lost(Lost { cause: Arc::clone(&cause), sent: false, begun }));
        }
        if let Some(channel) = self.channel.upgrade() {
            channel.on_lost(&self.connection, true, self.retry_after_ms, &cause);
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        let table = lock(&self.connection.table);
        let calls = table.calls.values().map(|entry| &entry.state);
        call::expire(calls, now, &self.connection.connection.alarm);
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<Ending> {
        let table = lock(&self.connection.table);
        if (table.closed || table.unused) && table.calls.values().all(|entry| entry.state.is_abandoned()) {
            return Poll::Ready(Ending::silent(IpcError::PeerClosed));
        }
        Poll::Pending
    }

    fn callers(&self, taken: usize) -> usize {
        // Those whose answers were taken will call again, if anybody does.
        lock(&self.connection.table).calls.len() + taken
    }

    fn last_call_id(&self) -> u64 {
        0
    }

    fn on_end(&mut self, cause: &Arc<IpcError>) {
        self.ended = true;
        let mut table = lock(&self.connection.table);
        // From here on no Open is appended, so that none is missing from what is dropped and judged below.
        table.closed = true;
        self.connection.connection.wind_up();
        self.connection.slots.close();
        let last = table.last_accepted.unwrap_or(u64::MAX);
        let calls = std::mem::take(&mut table.calls);
        drop(table);
        let handed = self.connection.connection.writer.drop_unsent();
        for (id, entry) in calls {
            let sent = entry.open_at < handed && id <= last;
            let begun = entry.answer_begun;
            entry.state.put_end(End::Lost(Lost { cause: Arc::clone(cause), sent, begun }));
        }
        if let Some(channel) = self.channel.upgrade() {
            channel.on_lost(&self.connection, self.graceful, self.retry_after_ms, cause);
        }
    }
}

impl Drop for ClientSide {
    /// The runtime that drove the connection is gone: calls must not wait for ever, and the channel must not take the
    /// connection for a live one.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The server is well: the next connection need not wait.
        self.graceful = true;
        self.on_end(&Arc::new(IpcError::PeerClosed));
        self.connection.connection.writer.close();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Waker;
    use std::thread;
    use std::time::Duration;

    use tokio::io::AsyncWrite;

    use super::*;
    use crate::config::Crc32Variant;
    use crate::connection::handshake::Agreed;

    /// A transport that takes all it is given, and returns when it is told to.
    struct Slow {
        taken: Sender<()>,
        go_on: Receiver<()>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.taken.send(()).unwrap();
            self.go_on.recv().unwrap();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    const AGREED: Agreed = Agreed {
        variant: Crc32Variant::Ieee,
        max_frame_bytes: 4096,
        send_limit: 4096,
        window: 0,
        peer_window: 0,
        read_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_secs(1),
    };

    fn open_one(connection: &Arc<ClientConnection>) -> ClientCall {
        let head = Head { method: "/test.Echo/Unary", metadata: &Metadata::new(), deadline: None };
        connection.try_open(&head, Some(&String::new())).unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_request_counts_as_sent_while_its_write_has_not_returned() {
        let (taken, was_taken) = channel();
        let (may_go_on, go_on) = channel();
        let shared = Arc::new(Connection::new(Box::new(Slow { taken, go_on }), &AGREED));
        let hello = Hello { max_concurrent_calls: 1, ..Hello::default() };
        let connection = Arc::new(ClientConnection::new(Arc::clone(&shared), PeerInfo::default(), &hello));
        // Only then do callers write by themselves.
        _ = shared.writer.drive(&mut Context::from_waker(Waker::noop()));
        let caller = Arc::clone(&connection);
        let caller = thread::spawn(move || open_one(&caller));
        was_taken.recv().unwrap();
        // The server has read the request and closed, and the driver sees that first.
        let mut side = ClientSide::new(Arc::clone(&connection), Weak::new());
        let driver = thread::spawn(move || side.on_end(&Arc::new(IpcError::PeerClosed)));
        assert!(connection.slots.acquire().await.is_err(), "the end has begun");
        may_go_on.send(()).unwrap();
        driver.join().unwrap();
        let call = caller.join().unwrap();
        match call.poll_next(&mut Context::from_waker(Waker::noop()), &mut Inbox::default()) {
            Poll::Ready(Next::End(End::Lost(lost))) => assert!(lost.sent),
            other => panic!("a lost call, not {other:?}"),
        }
    }
}
