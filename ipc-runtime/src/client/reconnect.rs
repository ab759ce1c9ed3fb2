//! Making a connection: one attempt, and how long to wait before the next.
//!
//! It knows the Hello and the protocol's backoff (wire protocol, section 9). Who waits for the connection, and
//! whether anybody does, is the channel's affair.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::builder::ChannelOptions;
use super::calls::{ClientConnection, ClientSide};
use super::shared::Shared;
use crate::background;
use crate::config::IpcConfig;
use crate::connection::Connection;
use crate::connection::clock::later;
use crate::connection::driver::{Driver, Ending, frame_error_code};
use crate::connection::handshake::{self, Agreed};
use crate::endpoint::WORDS;
use crate::error::{Failure, IpcError};
use crate::peer::PeerInfo;
use crate::server::Core;
use crate::status::{Code, Status};
use crate::transport::{self, ByteStream};
use crate::wire::encode::Encoder;
use crate::wire::{Body, GoAway};

/// What an in-memory stream holds in each direction.
const MEMORY_STREAM_BYTES: usize = 256 * 1024;

/// How long a client waits before it asks a busy server again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A connection that has lasted this long starts the backoff over when it is lost.
const LASTING: Duration = Duration::from_secs(5);

/// No `retry_after_ms` of a server holds a client off for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// In the order of preference.
    Endpoints(Vec<Arc<str>>),
    /// A server in this process, reached over memory.
    Memory(Arc<Core>),
}

impl Target {
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Endpoints(endpoints) => endpoints.join(", ").into(),
            Self::Memory(_) => Arc::from("the in-memory server"),
        }
    }

    fn places(&self) -> Vec<Place<'_>> {
        match self {
            Self::Endpoints(endpoints) => {
                endpoints.iter().map(|endpoint| Place::Endpoint(endpoint)).collect()
            }
            Self::Memory(core) => vec![Place::Memory(core)],
        }
    }
}

/// One place where the server may be.
#[derive(Clone, Copy)]
enum Place<'a> {
    Endpoint(&'a str),
    Memory(&'a Arc<Core>),
}

impl Place<'_> {
    /// Connects; a server whose queue of waiting connections is full is asked again.
    async fn connect(self) -> io::Result<ByteStream> {
        match self {
            Self::Endpoint(endpoint) => loop {
                match transport::connect(endpoint).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tracing::debug!(endpoint, "the server is busy; asking again");
                        tokio::time::sleep(BUSY_PAUSE).await;
                    }
                    other => return other,
                }
            },
            Self::Memory(core) => {
                let (client, server) = ByteStream::pair(MEMORY_STREAM_BYTES);
                Arc::clone(core).accept(server);
                Ok(client)
            }
        }
    }
}

/// Why an attempt failed, and what that means for the next.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Arc<IpcError>,
    pub(crate) kind: io::ErrorKind,
    code: Code,
    /// Trying again can't help: the server said that this client does not fit it.
    pub(crate) fatal: bool,
    pub(crate) retry_after_ms: u32,
    remedy: &'static str,
}

impl Refused {
    fn local(error: IpcError) -> Self {
        let kind = match &error {
            IpcError::Io(error) => error.kind(),
            IpcError::Timeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::ConnectionReset,
        };
        let code = if error.is_damage() { Code::DataLoss } else { Code::Unavailable };
        Self { remedy: remedy(kind), error: Arc::new(error), kind, code, fatal: false, retry_after_ms: 0 }
    }

    /// What listens there is not whom this client takes for its server.
    fn of_stranger(peer: &PeerInfo) -> Self {
        let user = match (peer.uid, &peer.sid) {
            (Some(uid), _) => format!("user {uid}"),
            (None, Some(sid)) => format!("user {sid}"),
            (None, None) => "an unknown user".to_owned(),
        };
        let words = format!("the server runs as {user}, which this client does not accept");
        let error = IpcError::Io(io::Error::new(io::ErrorKind::PermissionDenied, words));
        Self { remedy: WORDS.stranger, code: Code::PermissionDenied, fatal: true, ..Self::local(error) }
    }

    fn by_server(go_away: GoAway) -> Self {
        let status = go_away.status.unwrap_or_default().into_status().not_processed();
        let (code, fatal) = (status.code(), is_fatal(&status));
        let error = Arc::new(IpcError::Status(status));
        let kind = io::ErrorKind::ConnectionRefused;
        Self { error, kind, code, fatal, retry_after_ms: go_away.retry_after_ms, remedy: "" }
    }

    /// The error of a call that needed this connection.
    pub(crate) fn to_error(&self, endpoint: &Arc<str>) -> IpcError {
        // A server that broke the protocol has refused nothing: its connection is lost as any other.
        if let (IpcError::Status(status), io::ErrorKind::ConnectionRefused) = (&*self.error, self.kind) {
            // The server's own words, and its code; only what was being done is added.
            let words = format!("refused by {endpoint}: {}", status.message());
            return IpcError::Status(Status::new(status.code(), words).not_processed());
        }
        let failure = Failure {
            endpoint: Arc::clone(endpoint),
            phase: "connecting to",
            cause: Arc::clone(&self.error),
            remedy: self.remedy,
            code: self.code,
            request_sent: false,
        };
        failure.into_error(self.kind)
    }
}

const fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => WORDS.missing,
        io::ErrorKind::ConnectionRefused => WORDS.abandoned,
        io::ErrorKind::PermissionDenied => WORDS.denied,
        io::ErrorKind::WouldBlock => "the server is busy: try again, or use wait_for_ready",
        io::ErrorKind::TimedOut => "the server is busy, or what listens there does not speak this protocol",
        _ => "see the server's log for why it closed the connection",
    }
}

fn is_fatal(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied)
}

/// Tries each place in turn until there is a connection. Where there is none, says why the first failed.
///
/// # Errors
///
/// Fatal only if every place refused for good.
pub(crate) async fn attempt(
    target: &Target,
    config: &IpcConfig,
    options: &ChannelOptions,
    channel: &Weak<Shared>,
) -> Result<Arc<ClientConnection>, Refused> {
    let mut first: Option<Refused> = None;
    for place in target.places() {
        match greet(place, config, options, Weak::clone(channel)).await {
            Ok(connection) => return Ok(connection),
            Err(refused) => match &mut first {
                Some(first) => first.fatal &= refused.fatal,
                None => first = Some(refused),
            },
        }
    }
    Err(first.unwrap_or_else(|| Refused::local(IpcError::PeerClosed)))
}

/// Connects and exchanges Hellos, and starts the connection's driver.
async fn greet(
    place: Place<'_>,
    config: &IpcConfig,
    options: &ChannelOptions,
    channel: Weak<Shared>,
) -> Result<Arc<ClientConnection>, Refused> {
    let limit = config.hello_timeout();
    let connecting = tokio::time::timeout(limit, place.connect());
    let mut stream = connecting
        .await
        .map_err(|_| Refused::local(timed_out("connecting", limit)))?
        .map_err(|error| Refused::local(IpcError::Io(error)))?;
    options.policy.check(&stream.peer).map_err(|_| Refused::of_stranger(&stream.peer))?;
    let window = options.initial_credit;
    let own = handshake::hello(config, window, &options.peer_version);
    let own = handshake::encode_hello(own).map_err(Refused::local)?;
    // A server that refuses closes at once: what it said may be there although this write fails.
    let written = handshake::write_all(&mut stream.output, &own, config.write_timeout().min(limit)).await;
    let mut buffer = BytesMut::new();
    let hello = match handshake::read_first(&mut stream.input, &mut buffer, limit).await {
        Ok(Body::GoAway(go_away)) => return Err(Refused::by_server(go_away)),
        Ok(Body::Hello(hello)) => hello,
        Ok(body) => return Err(Refused::local(IpcError::Encode(format!("unexpected {}", body.name())))),
        Err(ending) => {
            written.map_err(Refused::local)?;
            return Err(turn_away(stream, config, ending));
        }
    };
    let agreed = match Agreed::check(config, window, &hello) {
        Ok(agreed) => agreed,
        Err(status) => {
            background::spawn(see_off(stream, later_frames(config), status.clone()));
            let go_away = GoAway { status: Some(crate::wire::WireStatus::of(&status)), ..GoAway::default() };
            return Err(Refused::by_server(go_away));
        }
    };
    let shared = Arc::new(Connection::new(stream.output, &agreed));
    let connection = Arc::new(ClientConnection::new(Arc::clone(&shared), stream.peer, &hello));
    let side = ClientSide::new(Arc::clone(&connection), channel);
    background::spawn(Driver::new(side, shared, stream.input, buffer).run());
    Ok(connection)
}

/// The server's first frame was wrong: it is told so, and the attempt has failed.
fn turn_away(stream: ByteStream, config: &IpcConfig, ending: Ending) -> Refused {
    if let Some(status) = ending.go_away {
        background::spawn(see_off(stream, later_frames(config), *status));
    }
    let strange = frame_error_code(&ending.cause).is_some();
    let refused = Refused::local(ending.cause);
    if strange {
        let remedy = "its first bytes are no Hello, so what listens there may not speak this protocol: check endpoint_path";
        return Refused { remedy, ..refused };
    }
    refused
}

/// This side has said Hello: what it says now has the configured checksum.
const fn later_frames(config: &IpcConfig) -> Encoder {
    Encoder::new(config.crc32_variant, config.max_frame_bytes)
}

async fn see_off(stream: ByteStream, encoder: Encoder, status: Status) {
    handshake::refuse(stream.input, stream.output, Some(&encoder), &status, Duration::ZERO).await;
}

fn timed_out(what: &str, limit: Duration) -> IpcError {
    let words = format!("{what} took longer than {} ms", limit.as_millis());
    IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words))
}

/// How long to wait before the next attempt: 50 ms × 1.6ⁿ, at most 5 s, ± 20 %, and at least what the server
/// asked for.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a lost connection that was made at `since`.
    pub(crate) fn after_loss(&mut self, since: Instant, retry_after_ms: u32) -> Instant {
        if since.elapsed() >= LASTING {
            self.reset();
        }
        self.next(retry_after_ms)
    }

    /// Counts a failure and says when the next attempt may begin.
    pub(crate) fn next(&mut self, retry_after_ms: u32) -> Instant {
        let wait = delay(self.failures, random_unit());
        self.failures = self.failures.saturating_add(1);
        let asked = Duration::from_millis(retry_after_ms.into()).min(MAX_RETRY_AFTER);
        later(Instant::now(), wait.max(asked))
    }
}

/// `unit` is between 0 and 1 and spreads the jitter.
pub(crate) fn delay(failures: u32, unit: f64) -> Duration {
    let steps = i32::try_from(failures.min(64)).unwrap_or(64);
    let base = (0.05 * 1.6_f64.powi(steps)).min(5.0);
    Duration::from_secs_f64(base * (0.8 + 0.4 * unit))
}

/// A random number between 0 and 1. The standard library's hasher keys are all the randomness a jitter needs.
pub(crate) fn random_unit() -> f64 {
    let number = u32::try_from(random() >> 32).unwrap_or(u32::MAX);
    f64::from(number) / f64::from(u32::MAX)
}

/// A random number, from the keys that the standard library draws for its hash tables.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_by_1_6_up_to_5_seconds_with_a_fifth_of_jitter() {
        let millis = |failures, unit| delay(failures, unit).as_millis();
        assert_eq!([millis(0, 0.5), millis(1, 0.5), millis(2, 0.5)], [50, 80, 128]);
        assert_eq!([millis(0, 0.0), millis(0, 1.0)], [40, 60]);
        assert_eq!([millis(9, 0.5), millis(10, 0.5), millis(u32::MAX, 0.5)], [3435, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_ask_for_more_but_not_for_more_than_a_minute() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(2_000) - Instant::now(), Duration::from_secs(2));
        assert_eq!(backoff.next(u32::MAX) - Instant::now(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_lasted_5_seconds_starts_the_backoff_over() {
        let mut backoff = Backoff { failures: 9 };
        let since = Instant::now();
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert!(backoff.after_loss(since, 0) - Instant::now() > Duration::from_secs(2));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(backoff.after_loss(since, 0) - Instant::now() < Duration::from_millis(61));
    }
}
