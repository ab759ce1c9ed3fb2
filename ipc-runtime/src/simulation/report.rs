//! What happened in a simulation: every kind of fault, and every way in which calls and connections end, is counted.

use std::fmt;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)+) => {
        /// What can happen in a simulation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* #[doc = $words] $name,)+
        }

        impl Event {
            /// Every kind, in the order of the report.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// In words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)+
                }
            }
        }
    };
}

events! {
    ReadSplit = "network: a read got a part of what was on its way",
    WriteSplit = "network: a write took a part",
    WriteBlocked = "network: a write took nothing",
    WriteInterleaved = "network: something else happened while a write was under way",
    Stall = "network: a direction stood still for a while",
    Reset = "network: the stream was reset",
    WriteBroken = "network: one direction broke",
    EndInsideFrame = "network: the stream ended inside a frame",
    ClientFrozen = "time: the client was frozen",
    ServerFrozen = "time: the server was frozen",
    FrozenForLong = "time: a side was frozen for longer than the peer may be silent",
    TimeJumped = "time: it jumped",
    ClientVanished = "runtime: the client's vanished",
    ServerVanished = "runtime: the server's vanished",
    Released = "client: the channel was dropped",
    NotConnected = "client: the server was not there",
    Cancelled = "user: cancelled a call",
    CancelledEarly = "user: cancelled a call of which nothing was written",
    CancelledMany = "user: many cancelled at once",
    Forgot = "user: did not poll for a while",
    ForgotForever = "user: never polled again",
    SpuriousPoll = "user: polled without being woken",
    ReadSlowly = "user: read slowly",
    SentSlowly = "user: had the next item to send later",
    OwnTimer = "user: kept its deadline itself",
    RequestTooLarge = "user: had a request that is too large",
    ItemTooLarge = "user: had an item that is too large",
    UnknownMethod = "user: called an unknown method",
    Flood = "user: made very many calls at once",
    HandlerFailed = "handler: failed",
    HandlerPanicked = "handler: panicked",
    HandlerDeaf = "handler: did not hear that its call was over",
    HandlerEndless = "handler: ran until it was told to end",
    HandlerVanished = "handler: vanished with its runtime",
    AnswerTooLarge = "handler: answered with too much",
    CallRefused = "server: refused a call for a limit of its own",
    Drained = "server: drained",
    Cut = "server: cut what still ran",
    NoCallsAccepted = "server: accepts no calls",
    InputStopped = "connection: read nothing, for too many replies waited",
    PingSent = "connection: asked whether the peer is there",
    EndedForSilence = "connection: ended for silence",
    EndedForWrite = "connection: ended because a write made no progress",
    EndedForFrame = "connection: ended because a frame was not complete in time",
    EndedByPeer = "connection: ended because the stream did",
    EndedByGoAway = "connection: ended because the peer said so",
    OpenTakenBack = "call: its Open was handed over and came back unwritten",
    OpenDropped = "call: its Open was dropped after it was handed over once",
    Waited = "call: waited for a place",
    Succeeded = "call: succeeded",
    Failed = "call: failed with a status",
    NotProcessed = "call: was refused, not processed",
    LostSent = "call: lost, perhaps processed",
    LostUnsent = "call: lost, not sent",
    LostBegun = "call: lost after its answer had begun",
    RuledOut = "call: ruled out by the server's farewell after it was written",
    ExpiredSent = "call: expired, perhaps processed",
    ExpiredUnsent = "call: expired, not sent",
    Repeated = "call: repeated on another connection",
    RepeatedSent = "call: repeated though it may have been processed",
    RepeatedLater = "call: repeated after a backoff",
    RepeatedStream = "call: repeated with the items it had sent",
    RanTwice = "call: ran twice, as it may",
    StreamWhole = "stream: arrived whole, many items",
    StreamCut = "stream: ended early",
    NoWindow = "stream: without a window",
    LargeMessage = "message: more than is copied",
    EmptyMessage = "message: empty",
}

/// How often everything happened in one simulation, or in many.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// How many events there were in all.
    pub steps: u64,
    /// How many calls were made.
    pub calls: u64,
    /// How many connections were made.
    pub connections: u64,
    counts: [u64; Event::ALL.len()],
}

impl Default for Report {
    fn default() -> Self {
        Self { seeds: 0, steps: 0, calls: 0, connections: 0, counts: [0; Event::ALL.len()] }
    }
}

impl Report {
    pub(super) fn of_one_seed() -> Self {
        Self { seeds: 1, ..Self::default() }
    }

    pub(super) const fn count(&mut self, event: Event) {
        self.counts[event as usize] += 1;
    }

    /// How often this happened.
    #[must_use]
    pub const fn of(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    /// Adds what happened in another simulation.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.calls += other.calls;
        self.connections += other.connections;
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// What never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<Event> {
        Event::ALL.iter().copied().filter(|event| self.of(*event) == 0).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, steps, calls, connections, .. } = self;
        writeln!(f, "{seeds} seeds, {steps} events, {calls} calls, {connections} connections")?;
        for event in Event::ALL {
            writeln!(f, "{:>12}  {}", self.of(*event), event.words())?;
        }
        Ok(())
    }
}
