//! What a server is made of: its settings, its services, and what is checked before it listens.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Options};
use super::listen::{Server, Source};
use super::router::{Router, Service};
use crate::config::{DEFAULT_SERVER_CREDIT, IpcConfig};
use crate::endpoint::{self, Place, Policy};
use crate::error::IpcError;
use crate::layer::{Layers, ServerLayer};
use crate::peer::PeerInfo;
use crate::protocol::envelope::{Hello, MAX_CREDIT};
use crate::protocol::handshake;
use crate::status::Status;
use crate::transport::Listener;

/// The bytes of requests that one connection may have open, unless the builder says otherwise.
const DEFAULT_REQUEST_BYTES: u64 = 16 * 1024 * 1024;

/// What the requests of one connection, and of all of them, may take once they are decoded. Texts that fill
/// [`DEFAULT_REQUEST_BYTES`] fit.
const DEFAULT_DECODED_BYTES: u64 = 136 * 1024 * 1024;
const DEFAULT_TOTAL_DECODED_BYTES: u64 = 4 * DEFAULT_DECODED_BYTES;

/// Settings of a server beyond [`IpcConfig`], and its services.
#[derive(Debug)]
#[must_use = "a builder does nothing until `bind`"]
pub struct ServerBuilder {
    router: Router,
    options: Options,
    layers: Layers<Status>,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }
}

impl ServerBuilder {
    fn new() -> Self {
        Self {
            router: Router::default(),
            layers: Layers::default(),
            options: Options {
                max_concurrent_calls: 256,
                max_total_calls: usize::MAX,
                max_request_bytes: DEFAULT_REQUEST_BYTES,
                max_decoded_bytes: DEFAULT_DECODED_BYTES,
                max_total_decoded_bytes: DEFAULT_TOTAL_DECODED_BYTES,
                initial_credit: DEFAULT_SERVER_CREDIT,
                drain_timeout: Duration::from_secs(10),
                peer_version: String::new(),
                policy: Policy::default(),
            },
        }
    }

    /// Serves `service`, a generated `…Server` around an implementation, too.
    pub fn add_service<S: Service>(mut self, service: S) -> Self {
        self.router.add(service);
        self
    }

    /// Puts `layer` around every call of every service, inside those added before it. For one service alone, see
    /// [`Layered`](crate::Layered).
    pub fn layer(mut self, layer: impl ServerLayer) -> Self {
        self.layers = self.layers.with(&Layers::one(layer));
        self
    }

    /// How many calls one connection may have open; clients queue their calls beyond it. Default: 256. With 0 the
    /// server accepts no calls.
    pub const fn max_concurrent_calls(mut self, calls: u32) -> Self {
        self.options.max_concurrent_calls = calls;
        self
    }

    /// How many calls all connections together may have running; one more is answered `RESOURCE_EXHAUSTED` and
    /// not processed. Default: as many as the connections' own limits add up to.
    pub const fn max_total_calls(mut self, calls: usize) -> Self {
        self.options.max_total_calls = calls;
        self
    }

    /// How many bytes the requests of one connection's open calls may have together; clients queue their calls beyond it,
    /// and one request always fits. It counts requests as they are on the wire, and no streamed messages. Default: 16 MiB.
    ///
    /// 0 means no limit.
    pub const fn max_request_bytes(mut self, bytes: u64) -> Self {
        self.options.max_request_bytes = bytes;
        self
    }

    /// How much memory the requests of one connection, and of all connections together, may take once they are decoded.
    /// It is estimated from the worst that their bytes can become, before they are decoded. A call beyond it is answered
    /// `RESOURCE_EXHAUSTED` and not processed; one request always fits. A request with one large string or `bytes` field
    /// counts eight times its size and a little more. Default: 136 MiB and 544 MiB.
    pub const fn max_decoded_bytes(mut self, per_connection: u64, total: u64) -> Self {
        self.options.max_decoded_bytes = per_connection;
        self.options.max_total_decoded_bytes = total;
        self
    }

    /// How many bytes of streamed messages, 32 more for each, a client may send on a call before the handler has
    /// taken them. One message may go beyond it. It bounds what an unread stream costs in memory. Default: 256 KiB.
    pub const fn initial_credit(mut self, bytes: u64) -> Self {
        self.options.initial_credit = bytes;
        self
    }

    /// How long calls that run may go on after a shutdown has begun; then they are ended with `UNAVAILABLE`.
    /// Default: 10 seconds.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Lets processes of this user connect, too. By default only the server's own user and root may: the kernel's word
    /// for who connects is checked before a byte is read. With any such rule the socket gets mode 0666, and a directory
    /// that is made for it 0711, because the file system would keep them out otherwise. On Windows no rule lets anybody
    /// else in: the pipe admits the server's own user alone.
    pub fn allow_uid(self, uid: u32) -> Self {
        self.allow(move |peer| peer.uid == Some(uid))
    }

    /// Lets processes whose effective group is this connect, too.
    pub fn allow_gid(self, gid: u32) -> Self {
        self.allow(move |peer| peer.gid == Some(gid))
    }

    /// Lets processes connect, too, if `rule` returns `true` for them. It is asked before the peer has said anything, so
    /// of [`PeerInfo`] only what the system knows is there.
    ///
    /// With any such rule, a quarter of all connections is kept for users who have none, so that one user can't take all.
    pub fn allow(mut self, rule: impl Fn(&PeerInfo) -> bool + Send + Sync + 'static) -> Self {
        self.options.policy.allow(rule);
        self
    }

    /// The application's own version, which clients see. Default: empty.
    pub fn peer_version(mut self, version: impl Into<String>) -> Self {
        self.options.peer_version = version.into();
        self
    }

    /// Binds `config.endpoint_path` and listens: clients can connect when this returns.
    ///
    /// On Unix a missing directory is made (mode 0700); one that others may write in is refused. A lock file beside the
    /// socket, held until the server is dropped or the process ends, keeps a second server away, and under it a socket
    /// that nobody listens on any more is replaced. The socket has mode 0600 from the moment it exists, and is removed
    /// when the server is dropped.
    ///
    /// On Windows the pipe belongs to the server's user, admits this user alone, and only from this machine. It must be
    /// the first of its name, so nobody else can have it meanwhile; the name goes with the last connection.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`]: of kind `InvalidInput` for a setting out of its bounds or a service added twice,
    /// `AddrInUse` where a server has the endpoint, with its pid; `PermissionDenied` for a directory or a socket that
    /// belongs to somebody else; `AlreadyExists` for a file that is no socket; and what else the system says.
    pub async fn bind(self, config: &IpcConfig) -> Result<Server, IpcError> {
        config.validate()?;
        self.check()?;
        let endpoint = config.endpoint_path.as_str();
        endpoint::check(endpoint)?;
        let access = self.options.policy.access();
        let mut place = Place::prepare(endpoint, access).await?;
        let listener = Listener::bind(endpoint, access.socket_mode()).map_err(|error| {
            IpcError::Io(std::io::Error::new(error.kind(), format!("binding {endpoint}: {error}")))
        })?;
        place.bound()?;
        tracing::info!(endpoint, "listening");
        let listener = Source::Socket(listener);
        Ok(Server { core: self.into_core(config), listener, _place: Some(place) })
    }

    pub(crate) fn check(&self) -> Result<(), IpcError> {
        self.router.check()?;
        if self.options.initial_credit > MAX_CREDIT {
            return Err(IpcError::invalid_input(format!(
                "initial_credit is {}; set it to at most 2^62",
                self.options.initial_credit
            )));
        }
        check_hello(Hello {
            services: self.router.services().to_vec(),
            peer_version: self.options.peer_version.clone(),
            ..Hello::default()
        })
    }

    pub(crate) fn into_core(self, config: &IpcConfig) -> Arc<Core> {
        Arc::new(Core::new(config.clone(), self.router, self.options, self.layers))
    }
}

/// Whether every service's name fits the server's Hello.
fn check_hello(hello: Hello) -> Result<(), IpcError> {
    handshake::encode_hello(hello).map(drop).map_err(|error| {
        IpcError::invalid_input(format!("the services' names do not fit the server's Hello: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::growth::estimate;

    /// A message with one field of so many bytes.
    fn text(length: usize) -> Vec<u8> {
        prost::Message::encode_to_vec(&"x".repeat(length))
    }

    #[test]
    fn texts_that_fill_the_bytes_of_requests_fit_when_they_are_decoded() {
        const CALLS: usize = 256;
        let whole = usize::try_from(DEFAULT_REQUEST_BYTES).unwrap();
        // Few large ones, many small ones, and both.
        for length in [(1 << 20) - 64, 600_000, 100_000, whole / CALLS - 8] {
            let count = whole / (length + 8);
            let taken = count as u64 * estimate(&text(length));
            assert!(taken <= DEFAULT_DECODED_BYTES, "{count} of {length} bytes count {taken}");
        }
        let mixed = 240 * estimate(&text(2048)) + 15 * estimate(&text((1 << 20) - 64));
        assert!(mixed <= DEFAULT_DECODED_BYTES, "{mixed}");
    }
}
