//! One call from beginning to end: its deadline, its connections, and what may be repeated.
//!
//! It builds the four kinds of call on [`ClientCall`]. [`retry`](crate::protocol::retry) decides whether a call is
//! repeated, and this module repeats it. Messages are bytes here, so this code is compiled once.

mod kinds;
mod outbound;
mod outcome;
mod streaming;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use self::outbound::Outbound;
use self::outcome::{Unanswered, check_keys, closed, lost_error, wrong_count};
use self::streaming::while_sending;
use super::connection::{ClientCall, ClientConnection, Head, Unopened};
use super::shared::{ReadyWait, Shared, after};
use crate::client::method::{Idempotency, Method};
use crate::deadline;
use crate::error::{Failure, IpcError};
use crate::link::reader::Received;
use crate::message;
use crate::metadata::Metadata;
use crate::protocol::encode::Encode;
use crate::protocol::envelope::CloseMetadata;
use crate::protocol::retry::{CallAttempts, ReadyPolicy, Verdict};
use crate::request::{CallOptions, Response, Timeout};
use crate::status::{Code, Status};

/// The state of a call that is the same on every connection it is tried on.
struct Invocation<'a> {
    shared: &'a Arc<Shared>,
    method: Method,
    deadline: Option<Instant>,
    ready: ReadyPolicy,
    wait: ReadyWait,
    attempts: CallAttempts,
    /// The call was opened on some connection, so its request may be on its way.
    is_open: bool,
    /// When the call began. Only needed until its first attempt.
    began: Option<Instant>,
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

    /// Prepares to send everything again. Returns `false` if that is not possible.
    fn rewind(&mut self) -> bool {
        match self {
            Self::Message(_) => true,
            Self::Stream(outbound) => outbound.rewind(),
        }
    }
}

impl<'a> Invocation<'a> {
    fn new(shared: &'a Arc<Shared>, method: Method, options: CallOptions, default: Option<Duration>) -> Self {
        let timeout = match options.timeout {
            Timeout::Default => default,
            Timeout::Never => None,
            Timeout::After(timeout) => Some(timeout),
        };
        let now = Instant::now();
        let own = timeout.map(|timeout| after(now, timeout));
        let ready =
            options.wait_for_ready.map_or(shared.options.ready_policy(), |wait| ReadyPolicy::of(Some(wait)));
        Self {
            shared,
            method,
            deadline: deadline::within(own, options.inherits_deadline),
            ready,
            wait: ReadyWait::new(ready),
            attempts: CallAttempts::new(method.level() != Idempotency::Unknown),
            is_open: false,
            began: Some(now),
        }
    }

    /// Makes the call, more than once if that is safe, until `read` has its result.
    async fn run<T>(
        &mut self,
        metadata: &Metadata,
        sending: &mut Sending<'_>,
        read: impl AsyncFn(&mut ClientCall) -> Result<T, Unanswered>,
    ) -> Result<(ClientCall, T), IpcError> {
        loop {
            let message = sending.message();
            let mut opened = None;
            poll_fn(|cx| self.poll_open(cx, metadata, message, &mut opened)).await?;
            let mut call = match opened {
                Some(call) => call,
                // Rare paths are boxed, so that the usual call is small.
                None => Box::pin(self.open(metadata, message)).await?,
            };
            let answer = match sending {
                Sending::Message(_) => read(&mut call).await,
                Sending::Stream(outbound) => {
                    let lane = outbound::Lane::of(&call);
                    Box::pin(while_sending(self.shared, lane, outbound, read(&mut call))).await
                }
            };
            match answer {
                Ok(answer) => return Ok((call, answer)),
                Err(unanswered) => {
                    let is_held = sending.rewind();
                    Box::pin(self.after_failure(unanswered, is_held, &call.connection)).await?;
                }
            }
        }
    }

    /// Opens the call at once if there is a connection. With a message, the first poll ends after that: the call wakes its
    /// task when there is something to read, so reading now would find nothing.
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        metadata: &Metadata,
        message: Option<&dyn Encode>,
        opened: &mut Option<ClientCall>,
    ) -> Poll<Result<(), IpcError>> {
        if opened.is_some() {
            return Poll::Ready(Ok(()));
        }
        let now = self.began.take();
        let Some(connection) = self.shared.current() else { return Poll::Ready(Ok(())) };
        let head = Head { now, ..self.head(metadata) };
        match connection.open(&head, message, message.map(|_| cx.waker())) {
            Ok(call) => {
                self.note_opened();
                let call = opened.insert(call);
                if message.is_some() && call.poll_deadline(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Err(Unopened::Closed) => self.wait.again(),
            Err(Unopened::Failed(error)) => return Poll::Ready(Err(self.with_history(error))),
        }
        Poll::Ready(Ok(()))
    }

    /// Opens the call once there is a connection.
    async fn open(
        &mut self,
        metadata: &Metadata,
        message: Option<&dyn Encode>,
    ) -> Result<ClientCall, IpcError> {
        let head = self.head(metadata);
        let opening = async {
            loop {
                let connection = self.shared.ready(&mut self.wait).await?;
                match connection.open(&head, message, None) {
                    Err(Unopened::Closed) => self.wait.again(),
                    Err(Unopened::Failed(error)) => return Err(error),
                    Ok(call) => return Ok(call),
                }
            }
        };
        let opened = match head.deadline {
            None => Ok(opening.await),
            Some(deadline) => tokio::time::timeout_at(deadline, opening).await,
        };
        match opened {
            Ok(Ok(opened)) => {
                self.note_opened();
                Ok(opened)
            }
            Ok(Err(error)) => Err(self.with_history(error)),
            Err(_) => Err(self.with_history(self.shared.never_ready(self.ready))),
        }
    }

    const fn note_opened(&mut self) {
        self.attempts.note_opened();
        self.is_open = true;
    }

    const fn head<'h>(&self, metadata: &'h Metadata) -> Head<'h> {
        Head { method: self.method.path(), metadata, deadline: self.deadline, now: None }
    }

    /// The error of a call whose deadline has passed.
    fn late(&self) -> IpcError {
        if self.is_open || self.attempts.maybe_processed() {
            IpcError::Timeout
        } else {
            self.shared.never_ready(self.ready)
        }
    }

    /// Returns `Ok` when it is time to send the call again. `is_held` says whether the whole request is still available.
    /// [`retry`] decides what may be repeated.
    async fn after_failure(
        &mut self,
        unanswered: Unanswered,
        is_held: bool,
        connection: &ClientConnection,
    ) -> Result<(), IpcError> {
        match self.attempts.judge(unanswered.judged(), is_held) {
            Verdict::Again => {
                self.open_again();
                Ok(())
            }
            Verdict::AgainAfterBackoff => {
                self.open_again();
                self.wait_until(self.shared.retry_at()).await
            }
            Verdict::Fail => Err(self.with_history(self.error_of(unanswered, connection))),
        }
    }

    fn error_of(&self, unanswered: Unanswered, connection: &ClientConnection) -> IpcError {
        match unanswered {
            Unanswered::Lost(lost) => lost_error(&self.shared.endpoint, &lost),
            Unanswered::Refused { status, not_processed: true } => {
                IpcError::Status(self.explain(*status, connection).not_processed())
            }
            Unanswered::Refused { status, not_processed: false } => IpcError::Status(*status),
            Unanswered::Expired { sent: true, .. } => IpcError::Timeout,
            Unanswered::Expired { sent: false, admitted } => self.shared.never_sent(admitted),
            Unanswered::Failed(error) => error,
        }
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

    const fn open_again(&mut self) {
        self.is_open = false;
        self.wait.again();
    }

    /// Corrects the error of the last attempt. It may say that the request was not seen, but that is not true of the call
    /// if an earlier attempt may have been processed.
    fn with_history(&self, error: IpcError) -> IpcError {
        if !self.attempts.maybe_processed() || error.request_sent() {
            return error;
        }
        if let IpcError::Status(status) = error {
            return IpcError::Status(status.maybe_processed());
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

    /// If the server does not know the method, adds to the error that the server was built from another schema.
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

/// The answer of a call whose method streams no responses.
struct UnaryResponse {
    metadata: Metadata,
    message: Bytes,
    trailers: Metadata,
}

impl UnaryResponse {
    fn decode<R: Message + Default>(self) -> Result<Response<R>, IpcError> {
        Ok(Response::received(message::decode(&self.message)?, self.metadata, self.trailers))
    }
}

/// Reads the answer of a call whose method streams no responses. It is exactly one message, in an item or in the `Close`.
async fn single_response(call: &mut ClientCall) -> Result<UnaryResponse, Unanswered> {
    let mut metadata = Metadata::new();
    let mut message = None;
    loop {
        match poll_fn(|cx| call.poll_next(cx)).await {
            Received::Headers(headers) => metadata = headers,
            Received::Item(item) if message.is_none() => message = Some(item),
            Received::Item(_) => return Err(wrong_count("more than one message")),
            Received::End(end) => {
                let close = closed(end)?;
                let Some(message) = message else { return Err(wrong_count("no message")) };
                let CloseMetadata { headers, trailers } = close;
                if metadata.is_empty() {
                    metadata = headers;
                }
                for part in [&metadata, &trailers] {
                    check_keys(part).map_err(Unanswered::Failed)?;
                }
                return Ok(UnaryResponse { metadata, message, trailers });
            }
        }
    }
}
