//! One call from beginning to end: its deadline, its connections, and what may be repeated.
//!
//! The four kinds of call in terms of [`ClientCall`]s. It decides by the protocol's table (section 9); how
//! connections are made and frames written is below it. Messages are bytes here, so that all this is compiled once.

mod kinds;
mod outbound;
mod streaming;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use self::outbound::Outbound;
use self::streaming::while_sending;
use super::calls::{ClientCall, ClientConnection, Head, OpenError};
use super::shared::{Shared, Wish};
use crate::codegen::{Idempotency, Method};
use crate::connection::call::{End, Inbox, Lost, Next};
use crate::connection::clock::later;
use crate::deadline;
use crate::error::{Failure, IpcError};
use crate::metadata::Metadata;
use crate::request::{CallOptions, Response, Timeout};
use crate::status::{Code, Status};
use crate::wire::encode::Encode;
use crate::wire::{self, Close, message};

/// A call is written to at most this many connections.
const MAX_ATTEMPTS: u32 = 3;

/// What a call keeps across the connections it is tried on.
struct Invocation<'a> {
    shared: &'a Arc<Shared>,
    method: Method,
    deadline: Option<Instant>,
    wish: Wish,
    attempts: u32,
    /// The request is on its way, on some connection.
    sent: bool,
    /// An earlier attempt may have been processed: its request was written and never answered.
    perhaps_processed: bool,
}

/// What a call sends.
enum Sending<'a> {
    Message(&'a dyn Encode),
    Stream(Outbound),
}

impl Sending<'_> {
    const fn message(&self) -> Option<&dyn Encode> {
        match self {
            Self::Message(message) => Some(*message),
            Self::Stream(_) => None,
        }
    }

    /// Whether everything sent so far can be sent again; if so, makes ready for that.
    fn rewind(&mut self) -> bool {
        match self {
            Self::Message(_) => true,
            Self::Stream(outbound) => outbound.rewind(),
        }
    }
}

/// Why a call that was opened has no answer.
enum Unanswered {
    Lost(Lost),
    /// The server closed the call with an error.
    Refused {
        status: Box<Status>,
        not_processed: bool,
    },
    Expired,
    /// Something else, that no repetition mends.
    Failed(IpcError),
}

impl<'a> Invocation<'a> {
    fn new(shared: &'a Arc<Shared>, method: Method, options: CallOptions, default: Option<Duration>) -> Self {
        let timeout = match options.timeout {
            Timeout::Default => default,
            Timeout::Never => None,
            Timeout::After(timeout) => Some(timeout),
        };
        Self {
            shared,
            method,
            deadline: deadline::within(
                timeout.map(|timeout| later(Instant::now(), timeout)),
                options.inherits_deadline,
            ),
            wish: Wish::new(options.wait_for_ready.unwrap_or(shared.options.wait_for_ready)),
            attempts: 0,
            sent: false,
            perhaps_processed: false,
        }
    }

    /// Makes the call, more than once where that is safe, until `read` has what it waits for.
    async fn run<T>(
        &mut self,
        metadata: &Metadata,
        sending: &mut Sending<'_>,
        read: impl AsyncFn(&ClientCall) -> Result<T, Unanswered>,
    ) -> Result<(ClientCall, T), IpcError> {
        loop {
            let call = match self.try_open(metadata, sending.message())? {
                Some(call) => call,
                // Boxed, as all that seldom happens, so that the usual call is small.
                None => Box::pin(self.open(metadata, sending.message())).await?,
            };
            self.attempts += 1;
            self.sent = true;
            let answer = match sending {
                Sending::Message(_) => read(&call).await,
                Sending::Stream(outbound) => {
                    Box::pin(while_sending(self.shared, &call, outbound, read(&call))).await
                }
            };
            match answer {
                Ok(answer) => return Ok((call, answer)),
                Err(unanswered) => {
                    let repeatable = sending.rewind();
                    Box::pin(self.may_repeat(unanswered, repeatable, &call.connection)).await?;
                }
            }
        }
    }

    /// Opens the call at once; `None` where it must wait for something.
    fn try_open(
        &mut self,
        metadata: &Metadata,
        message: Option<&dyn Encode>,
    ) -> Result<Option<ClientCall>, IpcError> {
        let Some(connection) = self.shared.current() else { return Ok(None) };
        match connection.try_open(&self.head(metadata), message) {
            Ok(call) => Ok(call),
            Err(OpenError::Closed) => {
                self.wish.again();
                Ok(None)
            }
            Err(error) => Err(self.unopened(error)),
        }
    }

    /// Opens the call once there is a connection, with a free slot, and with room.
    async fn open(
        &mut self,
        metadata: &Metadata,
        message: Option<&dyn Encode>,
    ) -> Result<ClientCall, IpcError> {
        let head = self.head(metadata);
        let opening = async {
            loop {
                let connection = self.shared.ready(&mut self.wish).await.map_err(OpenError::Failed)?;
                match connection.open(&head, message).await {
                    Err(OpenError::Closed) => self.wish.again(),
                    opened => return opened,
                }
            }
        };
        let opened = match head.deadline {
            None => opening.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline, opening).await.unwrap_or(Err(OpenError::Expired))
            }
        };
        opened.map_err(|error| self.unopened(error))
    }

    const fn head<'h>(&self, metadata: &'h Metadata) -> Head<'h> {
        Head { method: self.method.path(), metadata, deadline: self.deadline }
    }

    fn unopened(&self, error: OpenError) -> IpcError {
        match error {
            OpenError::Failed(error) => self.confess(error),
            OpenError::Expired | OpenError::Closed => self.late(),
        }
    }

    /// The error of a call whose deadline has passed.
    fn late(&self) -> IpcError {
        if self.sent { IpcError::Timeout } else { self.shared.never_ready() }
    }

    /// Returns where the call may be sent again, once it is time to; `repeatable` says whether its whole
    /// request is still at hand.
    async fn may_repeat(
        &mut self,
        unanswered: Unanswered,
        repeatable: bool,
        connection: &ClientConnection,
    ) -> Result<(), IpcError> {
        let may = repeatable && self.attempts < MAX_ATTEMPTS;
        let error = match unanswered {
            Unanswered::Lost(lost) => {
                let harmless = self.method.level() != Idempotency::Unknown;
                if may && !lost.begun && (!lost.sent || harmless) {
                    self.perhaps_processed |= lost.sent;
                    self.wish_again();
                    return Ok(());
                }
                lost_error(&self.shared.endpoint, &lost)
            }
            Unanswered::Refused { status, not_processed: true } => {
                if may && status.code() == Code::Unavailable {
                    self.wish_again();
                    return self.wait_until(self.shared.retry_at()).await;
                }
                IpcError::Status(self.explain(*status, connection).not_processed())
            }
            Unanswered::Refused { status, not_processed: false } => IpcError::Status(*status),
            Unanswered::Expired => IpcError::Timeout,
            Unanswered::Failed(error) => error,
        };
        Err(self.confess(error))
    }

    async fn wait_until(&self, instant: Instant) -> Result<(), IpcError> {
        match self.deadline {
            Some(deadline) if deadline < instant => {
                tokio::time::sleep_until(deadline).await;
                Err(self.late())
            }
            _ => {
                tokio::time::sleep_until(instant).await;
                Ok(())
            }
        }
    }

    fn wish_again(&mut self) {
        self.sent = self.perhaps_processed;
        self.wish.again();
    }

    /// An error that says of the last attempt that its request was not seen must not say so of the call, if an
    /// earlier attempt may have been processed.
    fn confess(&self, error: IpcError) -> IpcError {
        if !self.perhaps_processed || error.request_sent() {
            return error;
        }
        if let IpcError::Status(status) = error {
            return IpcError::Status(status.perhaps_processed());
        }
        let kind = if let IpcError::Io(error) = &error { error.kind() } else { std::io::ErrorKind::Other };
        let failure = Failure {
            endpoint: Arc::clone(&self.shared.endpoint),
            phase: "repeating a call to",
            code: error.code(),
            cause: Arc::new(error),
            remedy: "an earlier attempt may have been processed, so repeat it only if that does no harm",
            request_sent: true,
        };
        failure.into_error(kind)
    }

    /// An answer that the method is unknown says so if the server was built from another schema.
    fn explain(&self, status: Status, connection: &ClientConnection) -> Status {
        match connection.peer.fingerprint(self.method.service()) {
            Some(theirs)
                if status.code() == Code::Unimplemented
                    && self.method.fingerprint() != 0
                    && theirs != self.method.fingerprint() =>
            {
                let words = format!(
                    "{}; the server was built from another schema of {} and may be older than this client",
                    status.message(),
                    self.method.service()
                );
                Status::new(Code::Unimplemented, words).with_metadata(status.metadata().clone())
            }
            _ => status,
        }
    }
}

/// The error of a call whose connection ended before its answer.
pub(crate) fn lost_error(endpoint: &Arc<str>, lost: &Lost) -> IpcError {
    let code = if lost.cause.is_damage() { Code::DataLoss } else { Code::Unavailable };
    let failure = Failure {
        endpoint: Arc::clone(endpoint),
        phase: "lost the connection to",
        cause: Arc::clone(&lost.cause),
        remedy: if lost.sent {
            "the request may have been processed, so repeat it only if that does no harm"
        } else {
            "the request was not processed, so it can be sent again"
        },
        code,
        request_sent: lost.sent,
    };
    failure.into_error(std::io::ErrorKind::ConnectionReset)
}

impl Shared {
    fn unary_timeout(&self) -> Option<Duration> {
        match self.options.unary_timeout {
            Timeout::After(timeout) => Some(timeout),
            Timeout::Default => Some(self.config.read_timeout()),
            Timeout::Never => None,
        }
    }

    fn streaming_timeout(&self) -> Option<Duration> {
        match self.options.streaming_timeout {
            Timeout::After(timeout) => Some(timeout),
            Timeout::Default | Timeout::Never => None,
        }
    }
}

/// An answer of one message.
struct Answer {
    metadata: Metadata,
    message: Bytes,
    trailers: Metadata,
}

impl Answer {
    fn decode<R: Message + Default>(self) -> Result<Response<R>, IpcError> {
        Ok(Response::received(message::decode(&self.message)?, self.metadata, self.trailers))
    }
}

/// The answer of a call whose method streams no responses: exactly one message, however it is split.
async fn single_answer(call: &ClientCall) -> Result<Answer, Unanswered> {
    let (mut metadata, mut message, mut inbox) = (Metadata::new(), None, Inbox::default());
    loop {
        match poll_fn(|cx| call.poll_next(cx, &mut inbox)).await {
            Next::Headers(headers) => metadata = headers,
            Next::Item(item) if message.is_none() => message = Some(item),
            Next::Item(_) => return Err(wrong_count("more than one message")),
            Next::End(end) => {
                let close = closed(end)?;
                let Some(message) = message else { return Err(wrong_count("no message")) };
                let Some(close) = close else {
                    check_keys(&metadata).map_err(Unanswered::Failed)?;
                    return Ok(Answer { metadata, message, trailers: Metadata::new() });
                };
                if metadata.is_empty() {
                    metadata = wire::metadata(close.headers);
                }
                let trailers = wire::metadata(close.trailers);
                for part in [&metadata, &trailers] {
                    check_keys(part).map_err(Unanswered::Failed)?;
                }
                return Ok(Answer { metadata, message, trailers });
            }
        }
    }
}

/// The server's `Close` if it is a success; `None` where that says nothing.
fn closed(end: End) -> Result<Option<Box<Close>>, Unanswered> {
    match end {
        End::Answered => Ok(None),
        End::Closed(mut close) => match close.status.take() {
            Some(status) if status.code != Code::Ok as i32 => Err(refused(status, *close)),
            _ => Ok(Some(close)),
        },
        End::Lost(lost) => Err(Unanswered::Lost(lost)),
        End::Cancelled(status) => Err(Unanswered::Failed(IpcError::Status(*status))),
        End::Expired => Err(Unanswered::Expired),
        End::HalfClosed | End::Over => Err(Unanswered::Failed(IpcError::PeerClosed)),
    }
}

fn refused(status: wire::WireStatus, close: Close) -> Unanswered {
    let mut metadata = wire::metadata(close.headers);
    metadata.merge(wire::metadata(close.trailers));
    if let Err(error) = check_keys(&metadata) {
        return Unanswered::Failed(error);
    }
    let status = status.into_status().with_metadata(metadata);
    Unanswered::Refused { status: Box::new(status), not_processed: close.not_processed }
}

fn check_keys(metadata: &Metadata) -> Result<(), IpcError> {
    match metadata.first_bad_key() {
        None => Ok(()),
        Some(why) => Err(IpcError::Status(Status::internal(format!("the server sent bad metadata: {why}")))),
    }
}

fn wrong_count(what: &str) -> Unanswered {
    let words = format!("the server sent {what} where the method has exactly one");
    Unanswered::Failed(IpcError::Status(Status::internal(words)))
}
