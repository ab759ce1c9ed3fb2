//! How channels connect: to the server that listens at the moment, unless the seed says otherwise. It checks that attempts
//! that failed are a backoff apart.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_runtime::Channel;
use ipc_runtime::simulation_hooks::{self, Halves, Listening};
use tokio::time::Instant;

use super::network::{self, Handle};
use super::random::Random;
use super::report::Event;
use super::world::{Pause, Shared, lock};

/// The least that a channel waits after an attempt that failed: 50 ms and a fifth less, rounded down.
const LEAST_BACKOFF: Duration = Duration::from_millis(39);

/// Where channels connect to.
#[derive(Clone, Default)]
pub(super) struct Endpoint {
    pub(super) listening: Arc<Mutex<Option<Listening>>>,
    pub(super) streams: Arc<Mutex<Vec<Handle>>>,
}

impl Endpoint {
    /// A stream to the server; the client's end.
    pub(super) fn connect(&self, shared: &Arc<Shared>, random: &mut Random) -> io::Result<Halves> {
        let listening = lock(&self.listening).clone().filter(Listening::is_open);
        let Some(listening) = listening else {
            shared.count(Event::NotConnected);
            return Err(io::ErrorKind::NotFound.into());
        };
        shared.report(|report| report.connections += 1);
        shared.note("a connection is made");
        let (client, server, handle) = network::stream(shared, random);
        let mut streams = lock(&self.streams);
        streams.retain(Handle::is_open);
        streams.push(handle);
        drop(streams);
        listening.connect(server);
        Ok(client)
    }
}

struct Connector {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    random: Mutex<Random>,
    /// The next attempt must not come sooner.
    not_before: Mutex<Option<Instant>>,
}

impl Connector {
    fn note_failed(&self) {
        *lock(&self.not_before) = Some(Instant::now() + LEAST_BACKOFF);
    }

    async fn connect(self: Arc<Self>) -> io::Result<Halves> {
        let not_before = lock(&self.not_before).take();
        if not_before.is_some_and(|instant| Instant::now() < instant) {
            self.shared.violation("an attempt to connect came without a backoff after one that failed");
        }
        let (fate, pause) = {
            let mut random = lock(&self.random);
            (random.below(if self.shared.is_calm() { 1 } else { 40 }), random.millis(1, 30))
        };
        match fate {
            1 | 2 => {
                self.shared.count(Event::ConnectFailed);
                self.note_failed();
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            3 | 4 => {
                self.shared.count(Event::ConnectPanicked);
                self.note_failed();
                panic!("as the simulation wants it");
            }
            5 => {
                self.shared.count(Event::ConnectHung);
                Pause::new(&self.shared, 2 * self.shared.settings.hello_timeout()).await;
            }
            6..=12 => Pause::new(&self.shared, pause).await,
            _ => {}
        }
        let mut random = lock(&self.random).fork();
        self.endpoint.connect(&self.shared, &mut random).inspect_err(|_| self.note_failed())
    }
}

/// A channel to the endpoint.
pub(super) fn channel(shared: &Arc<Shared>, endpoint: &Endpoint, random: Random) -> Channel {
    let connector = Arc::new(Connector {
        shared: Arc::clone(shared),
        endpoint: endpoint.clone(),
        random: Mutex::new(random),
        not_before: Mutex::default(),
    });
    let connect = move || -> simulation_hooks::Connecting { Box::pin(Arc::clone(&connector).connect()) };
    match simulation_hooks::channel(shared.settings.channel(), connect) {
        Ok(channel) => channel,
        Err(error) => shared.violation(&format!("no channel: {error}")),
    }
}
