//! What a call will be: its method, its messages, its time, and what its user and its handler do.

use std::time::Duration;

use bytes::Bytes;

use super::Piece;
use super::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Once,
    Again,
    Many,
    ManyAgain,
    Gather,
    GatherAgain,
    Chat,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Once, Self::Again, Self::Many, Self::ManyAgain, Self::Gather, Self::GatherAgain, Self::Chat];

    pub(super) const fn is_idempotent(self) -> bool {
        matches!(self, Self::Again | Self::ManyAgain | Self::GatherAgain)
    }
}

/// What a handler does with its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    Answers,
    Fails,
    Panics,
    /// It runs until the simulation becomes calm.
    Endless,
    /// It runs until it is dropped.
    Forever,
    /// It answers without a look at its requests.
    ReadsNothing,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) timeout: Option<Duration>,
    pub(super) wait: Option<bool>,
    /// How long the filler of each piece is.
    pub(super) filler: usize,
    pub(super) requests: u64,
    pub(super) answers: u64,
    pub(super) conduct: Conduct,
    pub(super) work: Duration,
    /// Between the items that are read.
    pub(super) read_pause: Option<Duration>,
    /// Between the items that are sent.
    pub(super) send_pause: Option<Duration>,
    /// The user reads so many answers and drops the rest.
    pub(super) stops_after: Option<u64>,
}

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Self {
        let many = |random: &mut Random| match random.below(10) {
            0 => 0,
            1 => 200,
            _ => random.below(12) as u64,
        };
        let pause = |random: &mut Random| random.chance(200).then(|| random.millis(1, 60));
        let conduct = match random.below(20) {
            0 => Conduct::Fails,
            1 => Conduct::Panics,
            2 => Conduct::Endless,
            3 => Conduct::ReadsNothing,
            _ => Conduct::Answers,
        };
        Self {
            kind: random.pick(&Kind::ALL),
            timeout: random.chance(700).then(|| random.millis(1, 3000)),
            wait: random.pick(&[None, None, Some(true), Some(true), Some(false)]),
            filler: random.pick(&[0, 1, 30, 30, 30, 900, 3000, 3000, 20_000, 70_000]),
            requests: many(random),
            answers: many(random),
            conduct,
            work: if random.chance(300) { random.millis(1, 500) } else { Duration::ZERO },
            read_pause: pause(random),
            send_pause: pause(random),
            stops_after: random.chance(80).then(|| random.below(4) as u64),
        }
    }

    /// A call that must succeed where everything works.
    pub(super) const fn probe() -> Self {
        Self {
            kind: Kind::Once,
            timeout: Some(Duration::from_secs(20)),
            wait: Some(true),
            filler: 10,
            requests: 0,
            answers: 0,
            conduct: Conduct::Answers,
            work: Duration::ZERO,
            read_pause: None,
            send_pause: None,
            stops_after: None,
        }
    }

    /// A call that only the end of the server ends.
    pub(super) const fn forever() -> Self {
        Self { timeout: None, conduct: Conduct::Forever, ..Self::probe() }
    }

    pub(super) fn piece(&self, call: u64, index: u64) -> Piece {
        let filler: Vec<u8> = (0..self.filler).map(|place| byte(call, index, place)).collect();
        Piece { call, index, filler: Bytes::from(filler) }
    }

    pub(super) fn is_piece(&self, piece: &Piece, call: u64, index: u64) -> bool {
        let filler = piece.filler.iter().enumerate();
        piece.call == call
            && piece.index == index
            && piece.filler.len() == self.filler
            && filler.step_by(97).all(|(place, found)| *found == byte(call, index, place))
    }
}

fn byte(call: u64, index: u64, place: usize) -> u8 {
    (call.wrapping_mul(31) ^ index.wrapping_mul(7) ^ place as u64).to_le_bytes()[0]
}
