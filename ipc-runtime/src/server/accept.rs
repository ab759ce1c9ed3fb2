//! New connections: how many there may be, the Hello, and the refusals.
//!
//! It counts and greets; what happens on a connection afterwards is the driver's and the calls'.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Core;
use super::calls::{ServerConnection, ServerSide};
use crate::background::Task;
use crate::connection::Connection;
use crate::connection::driver::{Driver, Ending};
use crate::connection::handshake::{self, Agreed};
use crate::error::IpcError;
use crate::status::Status;
use crate::transport::ByteStream;
use crate::wire::{Body, Hello};

/// Connections that have not said Hello yet; there may be this many, or `max_connections` if that is more.
const MIN_WAITING: usize = 16;

/// Refused connections that are seen off; above it they are simply closed.
const MAX_FAREWELLS: usize = 64;

/// What a client that is refused for want of room is asked to wait.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Connections that nobody has looked at yet; while there are so many, no more are accepted. In a flood their tasks would
/// pile up otherwise, and those of served clients would have to wait behind them.
const MAX_NEWCOMERS: usize = 16;

/// How many there are of what a server has a limit for.
#[derive(Debug)]
pub(crate) struct Counts {
    newcomers: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    serving: Arc<AtomicUsize>,
    farewells: Arc<AtomicUsize>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            newcomers: Arc::new(Semaphore::new(MAX_NEWCOMERS)),
            waiting: Arc::default(),
            serving: Arc::default(),
            farewells: Arc::default(),
        }
    }
}

/// Held by a connection that nobody has looked at yet.
pub(crate) type Newcomer = OwnedSemaphorePermit;

impl Counts {
    /// Waits until another connection may be accepted.
    pub(crate) async fn newcomer(&self) -> Option<Newcomer> {
        Arc::clone(&self.newcomers).acquire_owned().await.ok()
    }
}

/// One of a limited number of places; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    count: Arc<AtomicUsize>,
}

impl Place {
    fn take(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < limit).then_some(taken + 1))
            .ok()
            .map(|_| Self { count: Arc::clone(count) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a new connection to its end, or refuses it.
pub(crate) fn serve(core: Arc<Core>, stream: ByteStream, newcomer: Option<Newcomer>) -> Task {
    Box::pin(async move {
        if let Err(refused) = receive(&core, stream, newcomer).await {
            refused.see_off(&core).await;
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
    let limit = MIN_WAITING.max(core.config.max_connections);
    let Some(waiting) = Place::take(&core.counts.waiting, limit) else {
        let words = format!("limit of {limit} connections that have not said Hello");
        return Err(Refused::new(stream, Status::resource_exhausted(words), RETRY_AFTER));
    };
    let (hello, buffer) = match greeting(core, &mut stream).await {
        Ok(greeting) => greeting,
        Err(ending) => {
            tracing::debug!(cause = %ending.cause, "a client did not say Hello");
            let Some(status) = ending.go_away else { return Ok(()) };
            return Err(Refused::new(stream, *status, Duration::ZERO));
        }
    };
    let (place, agreed) = match admit(core, &hello) {
        Ok(admitted) => admitted,
        Err((status, retry_after)) => {
            tracing::debug!(%status, "a client is refused");
            return Err(Refused::new(stream, status, retry_after));
        }
    };
    drop(waiting);
    run(Arc::clone(core), stream, buffer, &hello, agreed, place).await;
    Ok(())
}

async fn greeting(core: &Core, stream: &mut ByteStream) -> Result<(Hello, BytesMut), Ending> {
    let mut buffer = BytesMut::new();
    match handshake::read_first(&mut stream.input, &mut buffer, core.config.hello_timeout()).await? {
        Body::Hello(hello) => Ok((hello, buffer)),
        other => {
            Err(Ending::breach(Status::internal(format!("the first frame is no Hello: {}", other.name()))))
        }
    }
}

fn admit(core: &Core, hello: &Hello) -> Result<(Place, Agreed), (Status, Duration)> {
    if core.is_draining() {
        return Err((Status::unavailable("the server is shutting down"), RETRY_AFTER));
    }
    let agreed = Agreed::check(&core.config, core.options.initial_credit, hello)
        .map_err(|status| (status, Duration::ZERO))?;
    let limit = core.config.max_connections;
    let place = Place::take(&core.counts.serving, limit).ok_or_else(|| {
        let words = format!("limit of {limit} connections reached; raise max_connections on the server");
        (Status::resource_exhausted(words), RETRY_AFTER)
    })?;
    Ok((place, agreed))
}

async fn run(
    core: Arc<Core>,
    mut stream: ByteStream,
    buffer: BytesMut,
    hello: &Hello,
    agreed: Agreed,
    place: Place,
) {
    let greeted = match handshake::encode_hello(core.hello()) {
        Ok(own) => handshake::write_all(&mut stream.output, &own, core.config.write_timeout()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = greeted {
        tracing::debug!(%error, "a client left before the server's Hello");
        return;
    }
    tracing::debug!(client = hello.peer_version, "a client has connected");
    let shared = Arc::new(Connection::new(stream.output, &agreed));
    let connection = Arc::new(ServerConnection::new(
        Arc::clone(&shared),
        Arc::clone(&core),
        Arc::new(stream.peer.greeted(hello)),
    ));
    let side = ServerSide::new(Arc::clone(&connection), place);
    let driver = Driver::new(side, shared, stream.input, buffer);
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

    /// Tells it; in a flood, the connection is just closed.
    async fn see_off(self: Box<Self>, core: &Core) {
        let Self { stream, status, retry_after } = *self;
        if let Some(_farewell) = Place::take(&core.counts.farewells, MAX_FAREWELLS) {
            handshake::refuse(stream.input, stream.output, None, &status, retry_after).await;
        }
    }
}

/// Whether every service's name fits the server's Hello.
pub(crate) fn check_hello(hello: Hello) -> Result<(), IpcError> {
    handshake::encode_hello(hello).map(drop).map_err(|error| {
        IpcError::invalid_input(format!("the services' names do not fit the server's Hello: {error}"))
    })
}
