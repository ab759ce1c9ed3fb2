//! New connections: how many there may be, the Hello, and the refusals.
//!
//! It counts and greets. What happens on a connection afterwards is for its driver and the calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Core;
use super::connection::{ServerConnection, ServerHost};
use super::places::{Place, Places, User, user_of};
use crate::background::Task;
use crate::error::IpcError;
use crate::link::driver::Driver;
use crate::link::{Link, greet};
use crate::protocol::ending::Ending;
use crate::protocol::envelope::{Body, Hello};
use crate::protocol::frame::FrameReader;
use crate::protocol::handshake::{self, HELLO_ENCODER, Role, Terms};
use crate::status::Status;
use crate::transport::ByteStream;

/// Connections that have not said Hello yet; there may be this many, or `max_connections` if that is more.
const MIN_WAITING: usize = 16;

/// Refused connections that are told why. Above it they are simply closed.
const MAX_FAREWELLS: usize = 64;

/// Connections that have written everything and wait for the peer to read. Above it they are closed at once. Those that
/// still write count as served.
const MAX_ENDINGS: usize = 64;

/// What a client that is refused for want of room is asked to wait.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Connections that nobody has looked at yet. While there are so many, no more are accepted. In a flood their tasks would
/// pile up otherwise, and those of served clients would have to wait behind them.
const MAX_NEWCOMERS: usize = 16;

/// How many there are of what a server has a limit for.
#[derive(Debug)]
pub(crate) struct Counts {
    newcomers: Arc<Semaphore>,
    waiting: Arc<Places>,
    serving: Arc<Places>,
    pub(super) endings: Arc<Places>,
    farewells: Arc<Places>,
}

/// Held by a connection that nobody has looked at yet.
pub(crate) type Newcomer = OwnedSemaphorePermit;

impl Counts {
    /// `is_shared` says whether several users may connect.
    pub(super) fn new(max_connections: usize, is_shared: bool) -> Self {
        Self {
            newcomers: Arc::new(Semaphore::new(MAX_NEWCOMERS)),
            waiting: Places::new(MIN_WAITING.max(max_connections), is_shared),
            serving: Places::new(max_connections, is_shared),
            endings: Places::new(MAX_ENDINGS, is_shared),
            farewells: Places::new(MAX_FAREWELLS, is_shared),
        }
    }

    /// Waits until another connection may be accepted.
    pub(crate) async fn newcomer(&self) -> Option<Newcomer> {
        Arc::clone(&self.newcomers).acquire_owned().await.ok()
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
    let allowed = core.options.policy.check(&stream.peer);
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
            tracing::debug!(cause = %ending.cause, "a client did not say Hello");
            let Some(status) = ending.go_away else { return Ok(()) };
            return Err(Refused::new(stream, status, Duration::ZERO));
        }
    };
    let own = core.hello();
    let (place, terms) = match admit(core, user, &own, &hello) {
        Ok(admitted) => admitted,
        Err((status, retry_after)) => {
            tracing::debug!(%status, "a client is refused");
            return Err(Refused::new(stream, status, retry_after));
        }
    };
    drop(waiting);
    let ByteStream { input, output, peer } = stream;
    let peer = peer.with_own_words(&hello.peer_version, hello.instance_id, std::iter::empty());
    // Nothing else of what the client said is kept.
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
        tracing::debug!(%error, "a client left before the server's Hello");
        return;
    }
    tracing::debug!(client = stream.peer.version, "a client has connected");
    let link = Arc::new(Link::new(stream.output, terms));
    let peer = Arc::new(stream.peer);
    let connection = Arc::new(ServerConnection::new(Arc::clone(&link), Arc::clone(&core), peer));
    let host = ServerHost::new(Arc::clone(&connection), place);
    let driver = Driver::new(host, link, stream.input, reader);
    let _registered = core.register(&connection);
    drop(connection);
    driver.run().await;
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

    /// Tells it. In a flood, the connection is just closed.
    async fn see_off(self: Box<Self>, core: &Core, user: User) {
        let Self { stream, status, retry_after } = *self;
        if let Some(_farewell) = core.counts.farewells.take(user) {
            greet::refuse(stream, &HELLO_ENCODER, &status, retry_after).await;
        }
    }
}

/// Whether every service's name fits the server's Hello.
pub(crate) fn check_hello(hello: Hello) -> Result<(), IpcError> {
    handshake::encode_hello(hello).map(drop).map_err(|error| {
        IpcError::invalid_input(format!("the services' names do not fit the server's Hello: {error}"))
    })
}
