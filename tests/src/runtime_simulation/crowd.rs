//! The users of one runtime, polled in the order that the seed says: several that are ready wait for each other, some are
//! polled without need, some not for a while. All of them live in the runtime's root future, so that a runtime can be
//! stopped right after one of them, before anything that it has spawned has run.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use ipc_runtime::{Channel, tables};
use tokio::time::Instant;

use super::random::Random;
use super::report::Event;
use super::world::{Shared, lock};

/// A call that is pending for so many turns after its deadline is late.
const PATIENCE: u32 = 60;

type Ready = Arc<Mutex<BTreeSet<usize>>>;

struct Alarm {
    user: usize,
    ready: Ready,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.user);
    }
}

pub(super) struct User {
    pub(super) call: usize,
    channel: Channel,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    waker: Waker,
    frozen_until: Option<Instant>,
    late_turns: u32,
}

#[derive(Default)]
pub(super) struct Crowd {
    users: Vec<Option<User>>,
    ready: Ready,
}

impl Crowd {
    pub(super) fn add(
        &mut self,
        call: usize,
        channel: Channel,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let place = self.users.iter().position(Option::is_none).unwrap_or(self.users.len());
        if place == self.users.len() {
            self.users.push(None);
        }
        let waker = Waker::from(Arc::new(Alarm { user: place, ready: Arc::clone(&self.ready) }));
        let future = Box::pin(future);
        self.users[place] = Some(User { call, channel, future, waker, frozen_until: None, late_turns: 0 });
        lock(&self.ready).insert(place);
    }

    pub(super) fn calls(&self) -> Vec<usize> {
        self.users.iter().flatten().map(|user| user.call).collect()
    }

    /// Who waits, for what, in words.
    pub(super) fn what_waits(&self) -> String {
        let words = |user: &User| {
            let (state, open) = (user.channel.state(), tables::of_channel(&user.channel));
            format!("call {} on a channel that is {state:?} and has {open:?}; ", user.call)
        };
        self.users.iter().flatten().map(words).collect()
    }

    /// Polls everybody, woken or not.
    pub(super) fn wake_all(&self) {
        lock(&self.ready).extend(0..self.users.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.iter().all(Option::is_none)
    }

    fn one(&self, random: &mut Random) -> Option<usize> {
        let there: Vec<usize> = self
            .users
            .iter()
            .enumerate()
            .filter(|(_, user)| user.is_some())
            .map(|(place, _)| place)
            .collect();
        (!there.is_empty()).then(|| random.pick(&there))
    }

    /// Takes somebody out, with the call.
    pub(super) fn take_one(&mut self, random: &mut Random) -> Option<User> {
        let place = self.one(random)?;
        lock(&self.ready).remove(&place);
        self.users[place].take()
    }

    pub(super) fn freeze_one(&mut self, random: &mut Random, time: Duration) -> bool {
        let Some(place) = self.one(random) else { return false };
        if let Some(user) = &mut self.users[place] {
            user.frozen_until = Some(Instant::now() + time);
        }
        true
    }

    pub(super) fn wake_one(&self, random: &mut Random) -> bool {
        self.one(random).is_some_and(|place| lock(&self.ready).insert(place))
    }

    pub(super) fn thaw(&mut self) {
        for user in self.users.iter_mut().flatten() {
            user.frozen_until = None;
        }
    }

    /// Polls some of those who are ready.
    pub(super) fn turn(&mut self, shared: &Shared, random: &mut Random) {
        let now = Instant::now();
        let mut ready: Vec<usize> = lock(&self.ready).iter().copied().collect();
        ready.retain(|place| self.is_awake(*place, now));
        let count = if ready.is_empty() { 0 } else { random.between(1, ready.len()) };
        for _ in 0..count {
            let place = ready.swap_remove(random.below(ready.len()));
            lock(&self.ready).remove(&place);
            let Some(user) = &mut self.users[place] else { continue };
            let waker = user.waker.clone();
            if user.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.users[place] = None;
            }
        }
        for user in self.users.iter_mut().flatten() {
            let is_frozen = user.frozen_until.is_some_and(|until| until > now);
            if !is_frozen && shared.is_late(user.call, now) {
                user.late_turns += 1;
                if user.late_turns > PATIENCE {
                    shared.violation(&format!("call {} is pending after its deadline", user.call));
                }
            }
        }
    }

    fn is_awake(&mut self, place: usize, now: Instant) -> bool {
        match &mut self.users[place] {
            Some(user) if user.frozen_until.is_some_and(|until| until > now) => false,
            Some(user) => {
                user.frozen_until = None;
                true
            }
            None => {
                lock(&self.ready).remove(&place);
                false
            }
        }
    }
}

/// A future that somebody polls late, and sometimes without need.
pub(super) struct Unsteady<F> {
    inner: Pin<Box<F>>,
    shared: Arc<Shared>,
    random: Random,
    held_until: Option<Instant>,
}

impl<F> Unsteady<F> {
    pub(super) fn new(shared: &Arc<Shared>, random: Random, inner: F) -> Self {
        Self { inner: Box::pin(inner), shared: Arc::clone(shared), random, held_until: None }
    }
}

impl<F: Future> Future for Unsteady<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> std::task::Poll<F::Output> {
        let this = &mut *self;
        if !this.shared.is_calm() {
            let now = Instant::now();
            if this.held_until.is_none() && this.random.chance(100) {
                this.shared.count(Event::HandlerHeld);
                this.held_until = Some(now + this.random.millis(0, 40));
            }
            if let Some(until) = this.held_until.filter(|until| *until > now) {
                this.shared.wake_at(until, cx.waker());
                return std::task::Poll::Pending;
            }
            this.held_until = None;
            if this.random.chance(100) {
                this.shared.count(Event::SpuriousPoll);
                cx.waker().wake_by_ref();
            }
        }
        this.inner.as_mut().poll(cx)
    }
}
