//! What happened in a simulation: every kind of fault, and every way in which calls end, is counted.

use std::fmt;

macro_rules! events {
    ($($name:ident = $words:literal,)+) => {
        /// What can happen in a simulation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event {
            $(#[doc = concat!("`", $words, "`")] $name,)+
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
    ReadSplit = "network: a read got a part of what was there",
    WriteSplit = "network: a write took a part",
    WriteBlocked = "network: a write took nothing for a while",
    Delayed = "network: bytes took their time",
    Stall = "network: a direction stood still for a while",
    Reset = "network: the stream was reset",
    WriteBroken = "network: one direction broke, the other went on",
    HalfClosed = "network: one direction ended, perhaps inside a frame",
    Damaged = "network: a byte was damaged",
    NotConnected = "connect: nobody listened",
    ConnectFailed = "connect: failed",
    ConnectHung = "connect: took longer than a Hello may",
    ConnectPanicked = "connect: panicked",
    SilentClient = "connect: a client said nothing",
    Frozen = "time: a runtime stood still for longer than read_timeout",
    TimeJumped = "time: it jumped by more than read_timeout",
    RuntimeVanished = "runtime: one that drove connections or users vanished",
    RuntimeVanishedEarly = "runtime: vanished before a task that was spawned on it was polled",
    ServerVanished = "runtime: the server's vanished",
    ServerDropped = "server: was dropped",
    ServerDrained = "server: drained, and all calls ended",
    ServerCut = "server: cut what still ran",
    AnswersWaited = "server: cut calls while the transport took nothing",
    ServerHandedOver = "server: another one listened while it drained",
    ServerRestarted = "server: was started again",
    ChannelDropped = "client: the channel was dropped while its calls ran",
    ChannelClosed = "client: the channel was closed",
    Cancelled = "user: dropped a call",
    Forgot = "user: did not poll for a while",
    SpuriousPoll = "user: polled without being woken",
    ReadSlowly = "user: read slowly",
    SentSlowly = "user: had the next item later",
    StoppedReading = "user: dropped a stream unread",
    Burst = "user: many calls at once",
    HandlerFailed = "handler: failed",
    HandlerPanicked = "handler: panicked",
    HandlerEndless = "handler: ran until it was told to end",
    HandlerHeld = "handler: was not polled for a while",
    HandlerDropped = "handler: was dropped before its end",
    HandlerReadNothing = "handler: read nothing of its requests",
    HandlerReadSlowly = "handler: read slowly",
    Succeeded = "call: succeeded",
    Failed = "call: failed with a status",
    TooLarge = "call: had a message that is too large",
    Limited = "call: refused for a limit",
    Expired = "call: its deadline passed",
    LostSent = "call: lost, perhaps processed",
    LostUnsent = "call: not sent",
    RanTwice = "call: ran twice, as it may",
    StreamWhole = "stream: arrived whole, many items",
    StreamCut = "stream: ended early",
}

/// How often everything happened in one simulation, or in many.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// How many turns the runtimes had in all.
    pub turns: u64,
    /// How many calls were made.
    pub calls: u64,
    /// How many connections were made.
    pub connections: u64,
    counts: [u64; Event::ALL.len()],
}

impl Default for Report {
    fn default() -> Self {
        Self { seeds: 0, turns: 0, calls: 0, connections: 0, counts: [0; Event::ALL.len()] }
    }
}

impl Report {
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
        self.turns += other.turns;
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
        let Self { seeds, turns, calls, connections, .. } = self;
        writeln!(f, "{seeds} seeds, {turns} turns, {calls} calls, {connections} connections")?;
        for event in Event::ALL {
            writeln!(f, "{:>12}  {}", self.of(*event), event.words())?;
        }
        Ok(())
    }
}
