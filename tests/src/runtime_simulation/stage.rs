//! The stage: runtimes that take turns on one thread, the server, the channels, and the faults that befall them.
//!
//! Only one runtime has its turn at a time; the others stand still, and the time goes on for them when they come next. The
//! time is moved by the stage alone: tokio's paused clock never advances by itself, because somebody is always ready.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use ipc_runtime::simulation_hooks::{self, Halves};
use ipc_runtime::tables::{self, ServerTables};
use ipc_runtime::{Channel, ChannelState, Code, IpcError, Shutdown};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::SimulatedServer;
use super::call::Call;
use super::connector::{self, Endpoint};
use super::crowd::{Crowd, User};
use super::network::Handle;
use super::plan::Plan;
use super::random::Random;
use super::report::{Event, Report};
use super::service::Handlers;
use super::settings::Settings;
use super::world::{Shared, lock};

/// The time at which everything begins, so that clocks of runtimes that are made later are behind it.
const HEAD_START: Duration = Duration::from_secs(600);

/// No seed makes more calls.
const MAX_CALLS: usize = 60;

/// A runtime and those who use it.
#[derive(Default)]
struct Place {
    runtime: Option<Runtime>,
    crowd: Crowd,
}

/// The server that runs, and where.
struct Serving {
    place: usize,
    task: JoinHandle<Result<Shutdown, IpcError>>,
    stop: Option<oneshot::Sender<()>>,
    tables: ServerTables,
}

/// How a runtime's turns go.
#[derive(Clone, Copy)]
struct Slice {
    turns: usize,
    /// In so many of a thousand turns the time moves on.
    steps: usize,
    longest_step: usize,
    /// It stops right after a user was polled.
    is_abrupt: bool,
}

impl Slice {
    const CALM: Self = Self { turns: 6, steps: 1000, longest_step: 10, is_abrupt: false };
}

pub(super) struct Stage {
    shared: Arc<Shared>,
    random: Random,
    now: Instant,
    places: Vec<Place>,
    endpoint: Endpoint,
    channels: Vec<Channel>,
    serving: Option<Serving>,
    /// Servers that drain while another one listens already.
    draining: Vec<Serving>,
    was_served: bool,
    /// Clients that say nothing.
    silent: Vec<Halves>,
    /// Users whose runtime is gone, to be dropped.
    orphans: Vec<User>,
}

fn runtime() -> Runtime {
    match Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    }
}

impl Stage {
    pub(super) fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::draw(&mut random);
        let mut theirs = random.fork();
        simulation_hooks::seed(move || theirs.next());
        let shared = Shared::new(seed, settings, is_told);
        shared.note(&format!("{settings:?}"));
        let places: Vec<_> = (0..settings.runtimes)
            .map(|_| Place { runtime: Some(runtime()), crowd: Crowd::default() })
            .collect();
        let begin = places[0].runtime.as_ref().map(|runtime| runtime.block_on(async { Instant::now() }));
        let endpoint = Endpoint::default();
        let channels =
            (0..settings.channels).map(|_| connector::channel(&shared, &endpoint, random.fork())).collect();
        Self {
            shared,
            random,
            now: begin.unwrap_or_else(Instant::now) + HEAD_START,
            places,
            endpoint,
            channels,
            serving: None,
            draining: Vec::new(),
            was_served: false,
            silent: Vec::new(),
            orphans: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Report {
        for _ in 0..self.random.between(40, 200) {
            self.disturb();
        }
        self.calm_down();
        self.probe();
        self.replace_server();
        self.stop();
        self.leave()
    }

    /// Gives one runtime its turns. `act` is done first, in the runtime's context.
    fn slice<R>(&mut self, at: usize, slice: Slice, act: impl FnOnce(&mut Self, &mut Crowd) -> R) -> R {
        let mut place = std::mem::take(&mut self.places[at]);
        let Some(runtime) = &place.runtime else { panic!("a runtime has its turn") };
        let crowd = &mut place.crowd;
        let result = runtime.block_on(async {
            let behind = self.now.saturating_duration_since(Instant::now());
            if !behind.is_zero() {
                tokio::time::advance(behind).await;
            }
            let result = act(self, crowd);
            let shared = Arc::clone(&self.shared);
            for turn in 0..slice.turns {
                shared.wake_due();
                crowd.turn(&shared, &mut self.random);
                // Tokio wakes those who have used the turn's budget up when the root future yields, and only then.
                if slice.is_abrupt && turn + 1 == slice.turns && tokio::task::coop::has_budget_remaining() {
                    break;
                }
                tokio::task::yield_now().await;
                if self.random.chance(slice.steps) {
                    let step = self.random.millis(1, slice.longest_step);
                    tokio::time::advance(step).await;
                }
            }
            self.now = Instant::now();
            result
        });
        self.places[at] = place;
        self.shared.report(|report| report.turns += slice.turns as u64);
        if let Some(broken) = self.shared.broken().or_else(super::take_panic) {
            panic!("{broken}");
        }
        result
    }

    /// Some turns of some runtime, and perhaps a fault.
    fn disturb(&mut self) {
        let at = self.random.below(self.places.len());
        let read_timeout = usize::try_from(self.shared.settings.read_timeout).unwrap_or(usize::MAX);
        let mut slice = Slice {
            turns: self.random.between(1, 30),
            steps: self.random.pick(&[0, 200, 500, 1000]),
            longest_step: self.random.pick(&[1, 1, 5, 30]),
            is_abrupt: self.random.chance(300),
        };
        if self.random.chance(10) {
            slice = Slice { turns: 100, steps: 1000, longest_step: read_timeout / 20, is_abrupt: false };
            if self.places.len() > 1 {
                self.shared.count(Event::Frozen);
            }
        }
        if self.random.chance(8) {
            self.shared.count(Event::TimeJumped);
            self.now += Duration::from_millis(read_timeout as u64 + 1) + self.random.millis(0, read_timeout);
        }
        self.slice(at, slice, |stage, crowd| stage.act(at, crowd));
        self.see_server();
        if at > 0 && self.random.chance(if slice.is_abrupt { 150 } else { 20 }) {
            self.vanish(at, slice.is_abrupt);
        }
    }

    /// A runtime vanishes, with everything on it. Its clock is right, for it has just had its turn.
    fn vanish(&mut self, at: usize, is_early: bool) {
        self.shared.note(&format!("runtime {at} vanishes"));
        self.shared.lose_runtime();
        self.shared.count(if is_early { Event::RuntimeVanishedEarly } else { Event::RuntimeVanished });
        let mut place = std::mem::take(&mut self.places[at]);
        let users = std::iter::from_fn(|| place.crowd.take_one(&mut self.random));
        let users: Vec<User> = users.collect();
        let Some(gone) = place.runtime else { return };
        if self.random.chance(500) {
            let context = gone.enter();
            drop(users);
            drop(context);
        } else {
            self.orphans.extend(users);
        }
        drop(gone);
        self.places[at].runtime = Some(runtime());
        if self.serving.as_ref().is_some_and(|serving| serving.place == at) {
            self.shared.count(Event::ServerVanished);
            self.serving = None;
        }
        self.draining.retain(|serving| serving.place != at);
    }

    /// What happens to those on a runtime, and to what they share.
    fn act(&mut self, at: usize, crowd: &mut Crowd) {
        self.orphans.clear();
        let shared = Arc::clone(&self.shared);
        if self.random.chance(300) {
            for _ in 0..self.random.between(1, 3) {
                self.add_user(crowd);
            }
        }
        if self.random.chance(15) {
            shared.count(Event::Burst);
            for _ in 0..12 {
                self.add_user(crowd);
            }
        }
        if self.random.chance(40)
            && let Some(user) = crowd.take_one(&mut self.random)
        {
            shared.note(&format!("call {} is dropped", user.call));
            shared.count(Event::Cancelled);
        }
        if self.random.chance(30) {
            let longest = usize::try_from(2 * shared.settings.read_timeout).unwrap_or(usize::MAX);
            let time = self.random.millis(1, longest);
            if crowd.freeze_one(&mut self.random, time) {
                shared.count(Event::Forgot);
            }
        }
        if self.random.chance(80) && crowd.wake_one(&mut self.random) {
            shared.count(Event::SpuriousPoll);
        }
        if self.random.chance(15) {
            let streams: Vec<Handle> =
                lock(&self.endpoint.streams).iter().filter(|stream| stream.is_open()).cloned().collect();
            if !streams.is_empty() {
                shared.note("a stream is reset");
                shared.count(Event::Reset);
                streams[self.random.below(streams.len())].reset();
            }
        }
        if self.random.chance(15) {
            self.add_silent();
        }
        if self.random.chance(50) && !self.silent.is_empty() {
            self.silent.swap_remove(self.random.below(self.silent.len()));
        }
        if self.random.chance(15) {
            self.replace_channel();
        }
        self.act_on_server(at);
    }

    fn act_on_server(&mut self, at: usize) {
        match &mut self.serving {
            None if self.random.chance(600) => self.serve(at),
            Some(serving) if serving.place == at => {
                if self.random.chance(8) {
                    self.shared.note("the server is dropped");
                    self.shared.count(Event::ServerDropped);
                    serving.task.abort();
                    self.serving = None;
                } else if self.random.chance(15) {
                    self.shared.note("the server is asked to stop");
                    drop(serving.stop.take());
                    if self.random.chance(400) {
                        self.hand_over(at);
                    }
                }
            }
            None | Some(_) => {}
        }
    }

    /// The next server listens while the last one drains.
    fn hand_over(&mut self, at: usize) {
        self.shared.count(Event::ServerHandedOver);
        self.draining.extend(self.serving.take());
        self.serve(at);
    }

    fn serve(&mut self, at: usize) {
        let mut config = self.shared.settings.config();
        if self.shared.is_calm() {
            // A channel that nobody uses keeps its connection, and the others must not wait for that.
            config.max_connections = 1000;
        }
        let service = SimulatedServer::new(Handlers(Arc::clone(&self.shared)));
        let made = simulation_hooks::server(self.shared.settings.server().add_service(service), &config);
        let (server, listening) =
            made.unwrap_or_else(|error| self.shared.violation(&format!("no server: {error}")));
        let tables = ServerTables::of(&server);
        let (stop, stopped) = oneshot::channel::<()>();
        self.shared.note(&format!("a server starts on runtime {at}"));
        if std::mem::replace(&mut self.was_served, true) {
            self.shared.count(Event::ServerRestarted);
        }
        *lock(&self.endpoint.listening) = Some(listening);
        let task = tokio::spawn(server.serve_with_shutdown(stopped));
        self.serving = Some(Serving { place: at, task, stop: Some(stop), tables });
    }

    /// Sees whether the server has come to its end.
    fn see_server(&mut self) -> Option<Shutdown> {
        while let Some(place) = self.draining.iter().position(|serving| serving.task.is_finished()) {
            let serving = self.draining.swap_remove(place);
            self.see_end(serving);
        }
        let serving = self.serving.take_if(|serving| serving.task.is_finished())?;
        Some(self.see_end(serving))
    }

    fn see_end(&self, serving: Serving) -> Shutdown {
        let shutdown = match serving.task.now_or_never() {
            Some(Ok(Ok(shutdown))) => shutdown,
            other => self.shared.violation(&format!("the server ended: {other:?}")),
        };
        let is_cut = shutdown.calls_cut > 0;
        self.shared.count(if is_cut { Event::ServerCut } else { Event::ServerDrained });
        shutdown
    }

    fn add_silent(&mut self) {
        let mut random = self.random.fork();
        if let Ok(halves) = self.endpoint.connect(&self.shared, &mut random) {
            self.shared.count(Event::SilentClient);
            self.silent.push(halves);
        }
    }

    fn replace_channel(&mut self) {
        let place = self.random.below(self.channels.len());
        if self.random.chance(300) {
            self.shared.count(Event::ChannelClosed);
            self.channels[place].close();
        } else {
            self.shared.count(Event::ChannelDropped);
        }
        self.channels[place] = connector::channel(&self.shared, &self.endpoint, self.random.fork());
    }

    fn add_user(&mut self, crowd: &mut Crowd) {
        let all = self.places.iter().map(|place| place.crowd.calls().len()).sum::<usize>();
        if all + crowd.calls().len() < MAX_CALLS {
            let plan = Plan::draw(&mut self.random);
            let channel = self.channels[self.random.below(self.channels.len())].clone();
            self.add_call(crowd, plan, channel);
        }
    }

    fn add_call(&mut self, crowd: &mut Crowd, plan: Plan, channel: Channel) -> u64 {
        let call = self.shared.add_call(plan);
        self.shared.note(&format!("call {call}: {plan:?}"));
        let shared = Arc::clone(&self.shared);
        let place = usize::try_from(call).unwrap_or(usize::MAX);
        crowd.add(place, channel.clone(), Call { shared, number: call, plan, channel }.run());
        call
    }

    /// Every runtime has some turns.
    fn round(&mut self) -> Option<Shutdown> {
        for at in 0..self.places.len() {
            self.slice(at, Slice::CALM, |_, _| ());
        }
        self.see_server()
    }

    /// Goes on until something holds. No call gets on for so long at most.
    fn until(&mut self, what: &str, limit: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let mut end = self.now + limit;
        let mut progress = self.shared.progress();
        while !holds(self) {
            if progress != self.shared.progress() {
                progress = self.shared.progress();
                end = self.now + limit;
            }
            if self.now > end {
                let calls: String = self.places.iter().map(|place| place.crowd.what_waits()).collect();
                let running = self.shared.running();
                self.places.iter().for_each(|place| place.crowd.wake_all());
                for _ in 0..10 {
                    self.round();
                }
                let left: Vec<_> = self.places.iter().map(|place| place.crowd.calls()).collect();
                self.shared.violation(&format!(
                    "everything is quiet for {limit:?}, and still {what}: {calls}{running} handlers run; when all \
                     were polled, there were still calls {left:?}"
                ));
            }
            self.round();
        }
    }

    /// No more faults: everything comes to its end by itself.
    fn calm_down(&mut self) {
        self.slice(0, Slice::CALM, |stage, _| {
            stage.shared.note("now it is calm");
            stage.shared.calm_down();
            for stream in &*lock(&stage.endpoint.streams) {
                stream.calm_down();
            }
            stage.silent.clear();
            stage.orphans.clear();
            if let Some(serving) = &mut stage.serving {
                drop(serving.stop.take());
            }
        });
        for at in 0..self.places.len() {
            self.slice(at, Slice::CALM, |_, crowd| crowd.thaw());
        }
        self.until("the server has not stopped", Duration::from_secs(20), |stage| {
            stage.serving.is_none() && stage.draining.is_empty()
        });
        let at = self.random.below(self.places.len());
        self.slice(at, Slice::CALM, |stage, _| stage.serve(at));
        self.until("calls are pending", Duration::from_secs(60), |stage| {
            stage.places.iter().all(|place| place.crowd.is_empty())
        });
        self.until("handlers run", Duration::from_secs(30), |stage| stage.shared.running() == 0);
    }

    /// Every channel works, and nothing is left of any call.
    fn probe(&mut self) {
        for channel in self.channels.clone() {
            let call = self
                .slice(0, Slice::CALM, |stage, crowd| stage.add_call(crowd, Plan::probe(), channel.clone()));
            self.until("a probe is pending", Duration::from_secs(30), |stage| {
                stage.places[0].crowd.is_empty()
            });
            if !self.shared.has_succeeded(call) {
                let failure = self.shared.failure(call);
                self.shared.violation(&format!("a probe failed: {failure:?}"));
            }
            if channel.state() != ChannelState::Ready {
                self.shared.violation(&format!("a channel that works is {:?}", channel.state()));
            }
        }
        self.until("calls are in the tables", Duration::from_secs(10), |stage| {
            let open: usize =
                stage.channels.iter().filter_map(tables::of_channel).map(|(open, _)| open).sum();
            let served = stage
                .serving
                .as_ref()
                .map_or(0, |serving| serving.tables.calls() + serving.tables.counted_calls());
            open + served == 0
        });
    }

    /// While a server drains, new calls go to the one that listens.
    fn replace_server(&mut self) {
        let patience = Duration::from_millis(500);
        if self.shared.settings.drain_timeout < 2 * patience {
            return;
        }
        let channel = self.channels[0].clone();
        self.slice(0, Slice::CALM, |stage, crowd| stage.add_call(crowd, Plan::forever(), channel.clone()));
        self.until("a handler has not begun", Duration::from_secs(5), |stage| stage.shared.running() == 1);
        let probe = self.slice(0, Slice::CALM, |stage, crowd| {
            if let Some(serving) = &mut stage.serving {
                drop(serving.stop.take());
            }
            stage.hand_over(0);
            stage.add_call(crowd, Plan::probe(), channel)
        });
        let begin = self.now;
        self.until("a server drains", Duration::from_secs(5), |stage| {
            if stage.now > begin + patience && !stage.shared.has_succeeded(probe) {
                stage.shared.violation("a call waits for a server that drains while another one listens");
            }
            stage.draining.is_empty() && stage.places[0].crowd.is_empty()
        });
    }

    /// The server stops in time, though a client says nothing and calls would run for ever; each of these has its answer.
    fn stop(&mut self) {
        let channel = self.channels[0].clone();
        let many = self.random.below(3);
        let calls: Vec<u64> = (0..many)
            .map(|_| {
                let channel = channel.clone();
                self.slice(0, Slice::CALM, |stage, crowd| stage.add_call(crowd, Plan::forever(), channel))
            })
            .collect();
        let patience = Duration::from_secs(10);
        let mut rounds = 0;
        while rounds < 100 {
            self.round();
            rounds += 1;
        }
        let running = self.shared.running();
        self.slice(0, Slice::CALM, |stage, _| {
            stage.add_silent();
            if let Some(serving) = &mut stage.serving {
                drop(serving.stop.take());
            }
        });
        let began = self.now;
        let cut = began + self.shared.settings.drain_timeout;
        // Neither side may give the other up meanwhile.
        let is_impatient = self.shared.settings.write_timeout.min(self.shared.settings.read_timeout) < 1000;
        let mut is_blocked = running == 0 || is_impatient;
        let mut shutdown = None;
        while shutdown.is_none() && self.now < began + patience {
            shutdown = self.round();
            if !is_blocked && self.now + Duration::from_millis(250) > cut {
                is_blocked = true;
                self.shared.count(Event::AnswersWaited);
                for stream in &*lock(&self.endpoint.streams) {
                    stream.block_server(cut + Duration::from_millis(300));
                }
            }
        }
        let took = self.now - began;
        let Some(shutdown) = shutdown else { self.shared.violation("the server does not stop") };
        let drain = if running > 0 { self.shared.settings.drain_timeout } else { Duration::ZERO };
        // A client has a second to read why it is refused.
        if took > drain + Duration::from_millis(1600) {
            self.shared.violation(&format!("the server took {took:?} to stop, its calls {drain:?}"));
        }
        if shutdown.calls_cut != running {
            self.shared.violation(&format!("{} calls were cut of {running}", shutdown.calls_cut));
        }
        self.until("calls that were cut are pending", Duration::from_secs(5), |stage| {
            stage.places[0].crowd.calls().len() <= many.saturating_sub(running)
        });
        let answered = calls
            .iter()
            .filter(|call| self.shared.failure(**call) == Some((true, Code::Unavailable)))
            .count();
        if answered < running {
            self.shared.violation(&format!("{running} calls were cut, and {answered} have their answer"));
        }
        if channel.state() != ChannelState::Idle && running == many {
            self.shared.violation(&format!("after a farewell the channel is {:?}", channel.state()));
        }
    }

    /// When all have left, nothing stays behind.
    fn leave(mut self) -> Report {
        self.slice(0, Slice::CALM, |stage, crowd| {
            stage.silent.clear();
            stage.channels.clear();
            while crowd.take_one(&mut stage.random).is_some() {}
        });
        self.until("streams are open", Duration::from_secs(10), |stage| {
            lock(&stage.endpoint.streams).iter().all(|stream| !stream.is_open())
        });
        let Self { shared, places, endpoint, .. } = self;
        drop(places);
        drop(endpoint);
        let owners = Arc::strong_count(&shared);
        if owners > 1 {
            shared.violation(&format!("something stays behind: {} still have what all shared", owners - 1));
        }
        shared.take_report()
    }
}
