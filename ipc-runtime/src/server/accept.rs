//! New connections: their limits, the Hello, and refusals.
//!
//! It greets. What happens on a connection afterwards is for its driver and the calls.

use std::sync::Arc;
use std::time::Duration;

use super::connection::ServerConnection;
use super::core::Core;
use super::counts::Newcomer;
use super::host::ServerHost;
use super::places::{Place, User, user_of};
use super::stall;
use crate::background::Task;
use crate::link::driver::Driver;
use crate::link::{Link, greet};
use crate::protocol::ending::Ending;
use crate::protocol::envelope::{Body, Hello};
use crate::protocol::frame::FrameReader;
use crate::protocol::handshake::{self, HELLO_ENCODER, Role, Terms};
use crate::status::Status;
use crate::transport::ByteStream;

/// How long a client is asked to wait if it is refused because the server is full.
const RETRY_AFTER: Duration = Duration::from_millis(250);

impl Core {
    /// Serves a connection that was made without a listener.
    pub(crate) fn accept(self: Arc<Self>, stream: ByteStream) {
        tokio::spawn(serve(self, stream, None));
    }
}

/// Serves a new connection to its end, or refuses it.
pub(crate) fn serve(core: Arc<Core>, stream: ByteStream, newcomer: Option<Newcomer>) -> Task {
    Box::pin(async move {
        let user = user_of(&stream.peer);
        if let Err(refused) = receive(&core, stream, newcomer).await {
            refused.see_off(&core, user).await;
        }
    })
}

async fn receive(
    core: &Arc<Core>,
    mut stream: ByteStream,
    newcomer: Option<Newcomer>,
) -> Result<(), Box<Refused>> {
    // A rule may compute, or ask a service for names.
    let allowed = stall::watched(|| core.options.policy.check(&stream.peer));
    drop(newcomer);
    if let Err(status) = allowed {
        return Err(Refused::new(stream, status, Duration::ZERO));
    }
    let user = user_of(&stream.peer);
    let Some(waiting) = core.counts.waiting.take(user) else {
        let words = format!("limit of {} connections that have not said Hello", core.counts.waiting.limit());
        return Err(Refused::new(stream, Status::resource_exhausted(words), RETRY_AFTER));
    };
    let mut reader = handshake::hello_reader();
    let greeted = tokio::select! {
        biased;
        greeted = greeting(core, &mut stream, &mut reader) => greeted,
        // Who has not said Hello by now does not hold the shutdown up.
        () = core.draining() => return Err(Refused::new(stream, shutting_down(), RETRY_AFTER)),
    };
    let hello = match greeted {
        Ok(hello) => hello,
        Err(ending) => {
            let (pid, uid) = (stream.peer.pid, stream.peer.uid);
            tracing::debug!(pid, uid, cause = %ending.cause, "a client did not say Hello");
            let Some(status) = ending.go_away else { return Ok(()) };
            return Err(Refused::new(stream, status, Duration::ZERO));
        }
    };
    let own = core.hello();
    let (place, terms) = match admit(core, user, &own, &hello) {
        Ok(admitted) => admitted,
        Err((status, retry_after)) => {
            return Err(Refused::new(stream, status, retry_after));
        }
    };
    drop(waiting);
    let ByteStream { input, output, peer } = stream;
    let peer = peer.with_own_words(&hello.peer_version, hello.instance_id, std::iter::empty());
    // Nothing else of the client's Hello is kept.
    drop(hello);
    let stream = ByteStream { input, output, peer };
    run(Arc::clone(core), stream, reader, own, terms, place).await;
    Ok(())
}

async fn greeting(core: &Core, stream: &mut ByteStream, reader: &mut FrameReader) -> Result<Hello, Ending> {
    match greet::read_first(&mut stream.input, reader, core.config.hello_timeout()).await? {
        Body::Hello(hello) => Ok(*hello),
        other => {
            let words = format!("the first frame is not a Hello: {}", other.name());
            Err(Ending::breach(Status::internal(words)))
        }
    }
}

fn admit(core: &Core, user: User, own: &Hello, hello: &Hello) -> Result<(Place, Terms), (Status, Duration)> {
    if core.is_draining() {
        return Err((shutting_down(), RETRY_AFTER));
    }
    let terms =
        Terms::agree(Role::Server, &core.config, own, hello).map_err(|status| (status, Duration::ZERO))?;
    let place = core.counts.serving.take(user).ok_or_else(|| {
        let limit = core.counts.serving.limit();
        let words = format!("limit of {limit} connections reached; raise max_connections on the server");
        (Status::resource_exhausted(words), RETRY_AFTER)
    })?;
    Ok((place, terms))
}

fn shutting_down() -> Status {
    Status::unavailable("the server is shutting down")
}

async fn run(
    core: Arc<Core>,
    mut stream: ByteStream,
    reader: FrameReader,
    own: Hello,
    terms: Terms,
    place: Place,
) {
    let greeted = match handshake::encode_hello(own) {
        Ok(own) => greet::write_all(&mut stream.output, &own, core.config.write_timeout()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = greeted {
        tracing::debug!(pid = stream.peer.pid, uid = stream.peer.uid, %error, "a client left before the server's Hello");
        return;
    }
    let (pid, uid) = (stream.peer.pid, stream.peer.uid);
    tracing::debug!(pid, uid, version = stream.peer.version, "a client has connected");
    let link = Arc::new(Link::new(stream.output, terms));
    let peer = Arc::new(stream.peer);
    let (growth, calls) = (core.growth.of_connection(), Arc::clone(&core.calls));
    let connection = Arc::new(ServerConnection { link: Arc::clone(&link), peer, growth, calls });
    let host = ServerHost::new(Arc::clone(&core), Arc::clone(&connection), place);
    let driver = Driver::new(host, link, stream.input, reader);
    let _registered = core.register(&connection);
    drop(connection);
    driver.run().await;
    tracing::debug!(pid, uid, "a client has left");
}

/// A client that is not served, and why.
struct Refused {
    stream: ByteStream,
    status: Status,
    retry_after: Duration,
}

impl Refused {
    fn new(stream: ByteStream, status: Status, retry_after: Duration) -> Box<Self> {
        Box::new(Self { stream, status, retry_after })
    }

    /// Tells the client why. In a flood, the connection is closed without a `GoAway`.
    async fn see_off(self: Box<Self>, core: &Core, user: User) {
        let Self { stream, status, retry_after } = *self;
        let (pid, uid) = (stream.peer.pid, stream.peer.uid);
        let (why, reason) = (status.code(), status.message());
        if retry_after.is_zero() {
            tracing::info!(pid, uid, code = ?why, reason, "a client is refused");
        } else {
            // It asks again, and again.
            tracing::debug!(pid, uid, code = ?why, reason, "a client is refused for now");
        }
        if let Some(_farewell) = core.counts.farewells.take(user) {
            greet::refuse(stream, &HELLO_ENCODER, &status, retry_after).await;
        }
    }
}
