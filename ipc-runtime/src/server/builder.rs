//! A server's settings and services, and the checks before it listens.

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

/// The default limit for the bytes of one connection's open requests.
const DEFAULT_REQUEST_BYTES: u64 = 16 * 1024 * 1024;

/// The default limits for the memory of decoded requests, of one connection and of all. Strings that fill
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
    /// A builder for a server.
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

    /// Adds a service: a generated `…Server` around an implementation.
    pub fn add_service<S: Service>(mut self, service: S) -> Self {
        self.router.add(service);
        self
    }

    /// Puts `layer` around every call of every service, inside the layers that were added before it. For a layer around
    /// one service, see [`Layered`](crate::Layered).
    pub fn layer(mut self, layer: impl ServerLayer) -> Self {
        self.layers = self.layers.with(&Layers::one(layer));
        self
    }

    /// How many calls one connection may have open. Clients queue further calls. Default: 256. With 0 the server accepts
    /// no calls.
    pub const fn max_concurrent_calls(mut self, calls: u32) -> Self {
        self.options.max_concurrent_calls = calls;
        self
    }

    /// How many calls may run on all connections together. Further calls fail with `RESOURCE_EXHAUSTED` and are not
    /// processed. Default: only the limits of the connections apply.
    pub const fn max_total_calls(mut self, calls: usize) -> Self {
        self.options.max_total_calls = calls;
        self
    }

    /// How many bytes the requests of one connection's open calls may have together. Clients queue further calls. One
    /// request always fits. It counts bytes on the wire, without streamed messages. Default: 16 MiB.
    ///
    /// 0 means no limit.
    pub const fn max_request_bytes(mut self, bytes: u64) -> Self {
        self.options.max_request_bytes = bytes;
        self
    }

    /// How much memory decoded requests may take, on one connection and on all connections together. Default: 136 MiB and
    /// 544 MiB.
    ///
    /// The memory of a request is estimated for the worst case before the request is decoded. A request with one large
    /// string or `bytes` field counts a little more than eight times its size. One request always fits. A call beyond the
    /// limit waits for its turn. After `write_timeout_ms` it fails with `RESOURCE_EXHAUSTED` and is not processed.
    ///
    /// A streamed message waits in the same way, and counts until the handler asks for the next one. So this does not limit
    /// the memory of a handler that collects the messages of a stream.
    pub const fn max_decoded_bytes(mut self, per_connection: u64, total: u64) -> Self {
        self.options.max_decoded_bytes = per_connection;
        self.options.max_total_decoded_bytes = total;
        self
    }

    /// How many bytes of streamed messages a client may send on one call before the handler has taken them. Each message
    /// counts its size + 32. One message may go beyond the limit. It bounds the memory of an unread stream. Default:
    /// 256 KiB.
    pub const fn initial_credit(mut self, bytes: u64) -> Self {
        self.options.initial_credit = bytes;
        self
    }

    /// How long running calls may go on after a shutdown has begun. Then they are ended with `UNAVAILABLE`. Default:
    /// 10 seconds.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Also lets processes of this user connect. By default, only the server's own user and root may connect. The kernel
    /// says who connects, and this is checked before a byte is read.
    ///
    /// With any such rule, the socket gets mode 0666, and a directory that is created for it gets 0711. Otherwise the
    /// file system would keep the allowed users out. On Windows no rule admits other users: the pipe only admits the
    /// server's own user.
    pub fn allow_uid(self, uid: u32) -> Self {
        self.allow(move |peer| peer.uid == Some(uid))
    }

    /// Also lets processes with this effective group connect.
    pub fn allow_gid(self, gid: u32) -> Self {
        self.allow(move |peer| peer.gid == Some(gid))
    }

    /// Also lets processes connect if `rule` returns `true` for them. It is called before the peer has said anything, so
    /// [`PeerInfo`] only has what the system knows.
    ///
    /// With any such rule, a quarter of all connections is reserved for users who have none, so that one user can't take
    /// all.
    ///
    /// It runs on a thread of the server's runtime, as a handler does, so it should not block for long.
    pub fn allow(mut self, rule: impl Fn(&PeerInfo) -> bool + Send + Sync + 'static) -> Self {
        self.options.policy.allow(rule);
        self
    }

    /// The application's own version, which clients see. Default: empty.
    pub fn peer_version(mut self, version: impl Into<String>) -> Self {
        self.options.peer_version = version.into();
        self
    }

    /// Binds `config.endpoint_path` and listens. Clients can connect when this returns.
    ///
    /// On Unix a missing directory is created (mode 0700). A directory in which others may write is refused. A lock file
    /// beside the socket prevents a second server. It is locked until the server is dropped or the process ends. While it
    /// holds the lock, the server replaces a socket on which no server listens. The socket has mode 0600 from the moment
    /// it exists. It is removed when the server is dropped.
    ///
    /// On Windows the pipe belongs to the server's user, and admits only this user and only from this machine. It must be
    /// the first of its name, so no other server can have the name. The name disappears with the last connection.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of one of these kinds, or another error of the system:
    ///
    /// - `InvalidInput`: a setting is out of its bounds, or a service was added twice.
    /// - `AddrInUse`: a server has the endpoint. The message has its pid.
    /// - `PermissionDenied`: the directory or the socket belongs to another user.
    /// - `AlreadyExists`: a file that is not a socket has the path.
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

    /// A message with one field of `length` bytes.
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
