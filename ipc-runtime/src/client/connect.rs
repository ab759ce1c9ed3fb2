//! Making a connection: one attempt, and how long to wait before the next.
//!
//! It knows the Hello and the protocol's backoff (wire protocol, section 9). The channel knows which calls wait for the
//! connection.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::connection::{ClientConnection, ClientHost, ConnectionOwner};
use super::options::ChannelOptions;
use crate::background;
use crate::config::IpcConfig;
use crate::endpoint::{WORDS, this_process};
use crate::error::{Failure, IpcError};
use crate::link::driver::Driver;
use crate::link::{Link, greet};
use crate::peer::PeerInfo;
use crate::protocol::encode::Encoder;
use crate::protocol::ending::{Ending, frame_error_code};
use crate::protocol::envelope::{Body, GoAway};
use crate::protocol::handshake::{self, Role, Terms};
use crate::protocol::retry::RefusedPolicy;
use crate::server::Core;
#[cfg(feature = "simulation-hooks")]
use crate::simulation_hooks::Connector;
use crate::status::{Code, Status};
use crate::transport::{self, ByteStream};

/// How many bytes an in-memory stream holds in each direction.
const MEMORY_STREAM_BYTES: usize = 256 * 1024;

/// How long a client waits before it tries a busy server again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// In order of preference.
    Endpoints(Vec<Arc<str>>),
    /// A server in this process, reached over memory.
    Memory(Arc<Core>),
    #[cfg(feature = "simulation-hooks")]
    Simulated(Connector),
}

impl Target {
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Self::Endpoints(endpoints) => endpoints.join(", ").into(),
            Self::Memory(_) => Arc::from("the in-memory server"),
            #[cfg(feature = "simulation-hooks")]
            Self::Simulated(_) => Arc::from("the simulated server"),
        }
    }

    fn addresses(&self) -> Vec<Address<'_>> {
        match self {
            Self::Endpoints(endpoints) => {
                endpoints.iter().map(|endpoint| Address::Endpoint(endpoint)).collect()
            }
            Self::Memory(core) => vec![Address::Memory(core)],
            #[cfg(feature = "simulation-hooks")]
            Self::Simulated(connector) => vec![Address::Simulated(connector)],
        }
    }
}

/// One endpoint at which the server may listen.
#[derive(Clone, Copy)]
enum Address<'a> {
    Endpoint(&'a str),
    Memory(&'a Arc<Core>),
    #[cfg(feature = "simulation-hooks")]
    Simulated(&'a Connector),
}

impl Address<'_> {
    /// Connects. If the server's queue of waiting connections is full, it tries again.
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
                let (client, server) = ByteStream::pair(MEMORY_STREAM_BYTES, &this_process());
                Arc::clone(core).accept(server);
                Ok(client)
            }
            #[cfg(feature = "simulation-hooks")]
            Self::Simulated(connector) => connector.connect().await,
        }
    }
}

/// Why an attempt failed, and what this means for the next one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Arc<IpcError>,
    kind: io::ErrorKind,
    code: Code,
    /// What the calls that wait for the connection do.
    pub(crate) policy: RefusedPolicy,
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
        let policy = RefusedPolicy::Unreachable;
        Self { remedy: remedy(kind), error: Arc::new(error), kind, code, policy, retry_after_ms: 0 }
    }

    /// The server closed the connection, or ended it, before its Hello.
    fn closed(error: IpcError) -> Self {
        let policy = if matches!(error, IpcError::PeerClosed) {
            RefusedPolicy::Closed
        } else {
            RefusedPolicy::Unreachable
        };
        Self { policy, ..Self::local(error) }
    }

    /// The attempt panicked, in a rule of the application or because a part of its runtime was not enabled.
    pub(super) fn panicked() -> Self {
        let words = "the attempt to connect panicked; the panic's message was printed when that happened";
        let error = IpcError::Io(io::Error::other(words));
        let remedy = "check the channel's allow rules, and that the tokio runtime has enable_all()";
        Self { remedy, ..Self::local(error) }
    }

    /// The runtime that ran the attempt was dropped, more than once in a row.
    pub(super) fn vanished() -> Self {
        let error = IpcError::Io(io::Error::other("the tokio runtime is shutting down"));
        Self { remedy: "call from a runtime that stays", ..Self::local(error) }
    }

    /// The process that listens there runs as a user whom this client does not accept.
    fn of_stranger(peer: &PeerInfo) -> Self {
        let user = match (peer.uid, &peer.sid) {
            (Some(uid), _) => format!("user {uid}"),
            (None, Some(sid)) => format!("user {sid}"),
            (None, None) => "an unknown user".to_owned(),
        };
        let words = format!("the server runs as {user}, which this client does not accept");
        let error = IpcError::Io(io::Error::new(io::ErrorKind::PermissionDenied, words));
        let (code, policy) = (Code::PermissionDenied, RefusedPolicy::Fatal);
        Self { remedy: WORDS.stranger, code, policy, ..Self::local(error) }
    }

    fn by_server(go_away: GoAway) -> Self {
        let retry_after_ms = go_away.retry_after_ms;
        let status = go_away.status.unwrap_or_default().into_status().not_processed();
        Self { retry_after_ms, ..Self::of_status(status) }.with_policy()
    }

    fn of_status(status: Status) -> Self {
        let code = status.code();
        let error = Arc::new(IpcError::Status(status));
        let kind = io::ErrorKind::ConnectionRefused;
        let policy = RefusedPolicy::of_go_away(code, 0);
        Self { error, kind, code, policy, retry_after_ms: 0, remedy: "" }
    }

    fn with_policy(self) -> Self {
        Self { policy: RefusedPolicy::of_go_away(self.code, self.retry_after_ms), ..self }
    }

    /// The error of a call that needed this connection.
    pub(crate) fn to_error(&self, endpoint: &Arc<str>) -> IpcError {
        // A server that broke the protocol has refused nothing. Its connection is lost like any other.
        if let (IpcError::Status(status), io::ErrorKind::ConnectionRefused) = (&*self.error, self.kind) {
            // The server's own message and code. Only the phase is added.
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

/// Tries each endpoint in turn until there is a connection.
///
/// # Errors
///
/// The error of the first endpoint. It is fatal only if every endpoint refused permanently.
pub(super) async fn attempt(
    target: &Target,
    config: &IpcConfig,
    options: &ChannelOptions,
    channel: &Weak<dyn ConnectionOwner>,
) -> Result<Arc<ClientConnection>, Refused> {
    let mut first: Option<Refused> = None;
    for address in target.addresses() {
        match greet(address, config, options, Weak::clone(channel)).await {
            Ok(connection) => return Ok(connection),
            Err(refused) => match &mut first {
                Some(first) if first.policy == RefusedPolicy::Fatal => first.policy = refused.policy,
                Some(_) => {}
                None => first = Some(refused),
            },
        }
    }
    Err(first.unwrap_or_else(|| Refused::local(IpcError::PeerClosed)))
}

/// Connects and exchanges Hellos, and starts the connection's driver.
async fn greet(
    address: Address<'_>,
    config: &IpcConfig,
    options: &ChannelOptions,
    channel: Weak<dyn ConnectionOwner>,
) -> Result<Arc<ClientConnection>, Refused> {
    let limit = config.hello_timeout();
    let connecting = tokio::time::timeout(limit, address.connect());
    let mut stream = connecting
        .await
        .map_err(|_| Refused::local(timed_out("connecting", limit)))?
        .map_err(|error| Refused::local(IpcError::Io(error)))?;
    options.policy.check(&stream.peer).map_err(|_| Refused::of_stranger(&stream.peer))?;
    let own = handshake::hello(config, options.initial_credit, &options.peer_version);
    let frame = handshake::encode_hello(own.clone()).map_err(Refused::local)?;
    // A server that refuses closes at once, so its `GoAway` may have arrived although this write fails.
    let written = greet::write_all(&mut stream.output, &frame, config.write_timeout().min(limit)).await;
    let mut reader = handshake::hello_reader();
    let hello = match greet::read_first(&mut stream.input, &mut reader, limit).await {
        Ok(Body::GoAway(go_away)) => return Err(Refused::by_server(*go_away)),
        Ok(Body::Hello(hello)) => hello,
        Ok(body) => return Err(Refused::local(IpcError::Encode(format!("unexpected {}", body.name())))),
        Err(ending) => {
            written.map_err(Refused::closed)?;
            return Err(turn_away(stream, config, ending));
        }
    };
    let terms = match Terms::agree(Role::Client, config, &own, &hello) {
        Ok(terms) => terms,
        Err(status) => {
            background::spawn(see_off(stream, later_frames(config), status.clone()));
            return Err(Refused::of_status(status.not_processed()));
        }
    };
    let services = hello.services.iter().map(|service| (service.name.clone(), service.fingerprint));
    let peer = stream.peer.with_own_words(&hello.peer_version, hello.instance_id, services);
    let link = Arc::new(Link::new(stream.output, terms));
    let connection = Arc::new(ClientConnection { link: Arc::clone(&link), peer });
    let host = ClientHost::new(Arc::clone(&connection), channel);
    background::spawn(Driver::new(host, link, stream.input, reader).run());
    Ok(connection)
}

/// Tells the server that its first frame was wrong. The attempt has failed.
fn turn_away(stream: ByteStream, config: &IpcConfig, ending: Ending) -> Refused {
    let Ending { cause, go_away } = ending;
    if let Some(status) = go_away {
        background::spawn(see_off(stream, later_frames(config), status));
    }
    let is_strange = frame_error_code(&cause).is_some();
    let refused = Refused::closed(cause);
    if is_strange {
        let remedy = "its first bytes are not a Hello, so what listens there may not speak this protocol: check \
                      endpoint_path";
        return Refused { remedy, ..refused };
    }
    refused
}

/// This side has already said Hello, so the `GoAway` has the configured checksum.
const fn later_frames(config: &IpcConfig) -> Encoder {
    Encoder::new(config.crc32_variant, config.max_frame_bytes)
}

async fn see_off(stream: ByteStream, encoder: Encoder, status: Status) {
    greet::refuse(stream, &encoder, &status, Duration::ZERO).await;
}

fn timed_out(what: &str, limit: Duration) -> IpcError {
    let words = format!("{what} took longer than {} ms", limit.as_millis());
    IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words))
}
