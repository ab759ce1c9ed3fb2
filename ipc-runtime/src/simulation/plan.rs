//! What a seed decides beforehand: the limits of connections, how bad the weather is, and what each call does.

use std::time::Duration;

use super::message::Sizes;
use super::random::Random;
use crate::config::Crc32Variant;
use crate::protocol::handshake::{CallLimits, Role, Terms};

/// What holds for all connections of a simulation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) variant: Crc32Variant,
    pub(super) max_frame_bytes: usize,
    /// The credit that the client gives, and the server.
    pub(super) windows: [u64; 2],
    pub(super) limits: CallLimits,
    pub(super) read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) capacity: usize,
    /// Faults, in a thousand steps.
    pub(super) faults: usize,
    /// Calls at once.
    pub(super) max_users: usize,
}

impl Settings {
    pub(super) fn draw(random: &mut Random) -> Self {
        const WINDOWS: [u64; 9] = [0, 0, 1, 100, 1000, 3000, 10_000, 100_000, 1 << 62];
        let max_frame_bytes = random.pick(&[4096, 4096, 8192, 16_384, 16_384, 40_000]);
        let many = random.chance(30);
        let calls = if many { 150 } else { random.pick(&[1, 1, 2, 3, 4, 8]) };
        let request_bytes = random.pick(&[1, 500, 5000, 12_000, 20_000, 30_000, u64::MAX, u64::MAX]);
        Self {
            variant: random.pick(&[Crc32Variant::Ieee, Crc32Variant::Castagnoli]),
            max_frame_bytes,
            windows: [random.pick(&WINDOWS), random.pick(&WINDOWS)],
            limits: CallLimits { calls, request_bytes },
            read_timeout: Duration::from_millis(random.pick(&[60, 300, 3000])),
            write_timeout: Duration::from_millis(random.pick(&[20, 100, 1000])),
            capacity: random.pick(&[64, 500, 4096, 20_000, 200_000]),
            faults: random.pick(&[0, 5, 10, 20, 40]),
            max_users: if many { 30 } else { random.between(1, 12) },
        }
    }

    /// One side's view.
    pub(super) fn terms(&self, role: Role, limits: CallLimits) -> Terms {
        const NONE: CallLimits = CallLimits { calls: 0, request_bytes: 0 };
        let [client, server] = self.windows;
        let is_client = role == Role::Client;
        Terms {
            role,
            variant: self.variant,
            max_frame_bytes: self.max_frame_bytes,
            send_limit: self.max_frame_bytes,
            window: if is_client { client } else { server },
            peer_window: if is_client { server } else { client },
            own_limits: if is_client { NONE } else { limits },
            peer_limits: if is_client { limits } else { NONE },
            read_timeout: self.read_timeout,
            write_timeout: self.write_timeout,
        }
    }
}

/// The four kinds of call, and a method that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    ServerStreaming,
    ClientStreaming,
    Bidi,
    Unknown,
}

impl Kind {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Unary => "/sim.Sim/Unary",
            Self::ServerStreaming => "/sim.Sim/Server",
            Self::ClientStreaming => "/sim.Sim/Client",
            Self::Bidi => "/sim.Sim/Bidi",
            Self::Unknown => "/sim.Sim/None",
        }
    }

    pub(super) const fn streams_requests(self) -> bool {
        matches!(self, Self::ClientStreaming | Self::Bidi)
    }

    pub(super) const fn streams_answers(self) -> bool {
        matches!(self, Self::ServerStreaming | Self::Bidi)
    }
}

/// How a handler behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    Answers,
    Fails,
    Panics,
    /// It does not look whether its call is over.
    Deaf,
    /// It answers when the simulation ends.
    Endless,
    Refused,
}

/// What one call does.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) is_idempotent: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) request: usize,
    pub(super) answer: usize,
    /// Items each way.
    pub(super) requests: u32,
    pub(super) answers: u32,
    pub(super) sizes: Sizes,
    pub(super) has_metadata: bool,
    pub(super) has_headers: bool,
    /// Pauses between items.
    pub(super) read_pause: Option<Duration>,
    pub(super) send_pause: Option<Duration>,
    pub(super) keeps_deadline: bool,
    /// Which of its items is too large.
    pub(super) bad_item: Option<u32>,
    pub(super) conduct: Conduct,
    pub(super) work: Duration,
}

const fn micros(micros: usize) -> Duration {
    Duration::from_micros(micros as u64)
}

impl Plan {
    pub(super) fn draw(random: &mut Random, settings: &Settings) -> Self {
        let kind = random.pick(&[
            Kind::Unary,
            Kind::Unary,
            Kind::Unary,
            Kind::ServerStreaming,
            Kind::ClientStreaming,
            Kind::Bidi,
        ]);
        let kind = if random.chance(15) { Kind::Unknown } else { kind };
        let max = settings.max_frame_bytes;
        let timeout = match random.below(10) {
            0..=3 => None,
            4..=5 => Some(micros(random.between(1, 3000))),
            6..=8 => Some(micros(random.between(3000, 200_000))),
            _ => Some(Duration::from_secs(30)),
        };
        let items = match random.below(50) {
            0..=4 => 0,
            5 => random.between(100, 300),
            _ => random.between(1, 12),
        };
        let sizes = random.pick(&[Sizes::Tiny, Sizes::Small, Sizes::Mixed, Sizes::Mixed, Sizes::Large]);
        Self {
            kind,
            is_idempotent: random.chance(400),
            timeout,
            request: size(random, max, 12),
            answer: size(random, max, 0),
            requests: if kind.streams_requests() { number(items) } else { 0 },
            answers: if kind.streams_answers() { number(random.below(items + 3)) } else { 0 },
            sizes: if items > 12 { Sizes::Tiny } else { sizes },
            has_metadata: random.chance(150),
            has_headers: random.chance(300),
            read_pause: random.chance(150).then(|| micros(random.between(10, 3000))),
            send_pause: random.chance(150).then(|| micros(random.between(10, 3000))),
            keeps_deadline: random.chance(300),
            bad_item: random.chance(30).then(|| number(random.below(items + 1))),
            conduct: conduct(random),
            work: micros(if random.chance(500) { 0 } else { random.between(1, 5000) }),
        }
    }

    /// Many of these wait at once.
    pub(super) fn flood(random: &mut Random, settings: &Settings) -> Self {
        Self { kind: Kind::Unknown, timeout: None, request: 12, ..Self::draw(random, settings) }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

/// The length of a request or an answer: mostly small, seldom too large.
fn size(random: &mut Random, max: usize, min: usize) -> usize {
    match random.below(40) {
        0 => random.between(max + 1, max + 1000),
        1 => random.between(max - 80, max),
        2..=6 => random.between(max / 2, max - 200),
        7..=14 => random.between(500, 3000),
        15 => min,
        _ => random.between(min, 200),
    }
}

fn conduct(random: &mut Random) -> Conduct {
    match random.below(100) {
        0..=9 => Conduct::Fails,
        10..=13 => Conduct::Panics,
        14..=18 => Conduct::Deaf,
        19..=22 => Conduct::Endless,
        23..=25 => Conduct::Refused,
        _ => Conduct::Answers,
    }
}
