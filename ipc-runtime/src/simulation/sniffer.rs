//! What a transport sees of the frames that pass: which, of which call, and whether a byte of one was taken.

use std::collections::VecDeque;

use super::message::{NAME_BYTES, Name};
use crate::protocol::frame::HEADER_LEN;

/// What is looked at of a frame.
const PEEKED: usize = 160;

/// What a frame says, as far as a transport wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Which call and attempt it opens; `None` for a call of which the simulation knows nothing.
    Open(Option<(u32, u8)>),
    Ping,
    Other,
}

/// A frame that was handed to the transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenFrame {
    pub(super) seen: Seen,
    pub(super) id: u64,
    /// Its length, header included.
    pub(super) length: usize,
}

/// The frames that one side writes.
#[derive(Debug, Default)]
pub(super) struct Sniffer {
    /// What is missing of a frame that was begun.
    begun: usize,
    /// Frames that were handed over, of which no byte was taken.
    handed: VecDeque<SeenFrame>,
}

impl Sniffer {
    /// Looks at what is handed over.
    pub(super) fn hand_over(&mut self, parts: [&[u8]; 2]) -> &VecDeque<SeenFrame> {
        self.handed.clear();
        let total = parts[0].len() + parts[1].len();
        let mut at = self.begun;
        while at < total {
            let mut bytes = [0; PEEKED];
            let peeked = peek(parts, at, &mut bytes);
            let frame = read(&bytes[..peeked]);
            at += frame.length;
            self.handed.push_back(frame);
        }
        &self.handed
    }

    /// Frames of which no byte was taken.
    pub(super) const fn untaken(&self) -> &VecDeque<SeenFrame> {
        &self.handed
    }

    /// Notes that so many bytes were taken. Frames whose first byte is among them go to `taken`.
    pub(super) fn take(&mut self, mut bytes: usize, mut taken: impl FnMut(SeenFrame)) {
        loop {
            let part = bytes.min(self.begun);
            self.begun -= part;
            bytes -= part;
            if bytes == 0 {
                return;
            }
            let Some(frame) = self.handed.pop_front() else { return };
            self.begun = frame.length;
            taken(frame);
        }
    }

    /// What was handed over has come back.
    pub(super) fn come_back(&mut self) {
        self.handed.clear();
    }
}

fn peek(parts: [&[u8]; 2], at: usize, bytes: &mut [u8; PEEKED]) -> usize {
    let first = parts[0].get(at..).unwrap_or_default();
    let second = &parts[1][at.saturating_sub(parts[0].len()).min(parts[1].len())..];
    let from_first = first.len().min(PEEKED);
    bytes[..from_first].copy_from_slice(&first[..from_first]);
    let from_second = second.len().min(PEEKED - from_first);
    bytes[from_first..from_first + from_second].copy_from_slice(&second[..from_second]);
    from_first + from_second
}

fn read(bytes: &[u8]) -> SeenFrame {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let mut rest = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut id = 0;
    if rest.first() == Some(&0x08) {
        rest = &rest[1..];
        id = varint(&mut rest).unwrap_or(0);
    }
    let kind = rest.first().map_or(0, |key| key >> 3);
    let seen = match kind {
        3 => {
            rest = &rest[1..];
            _ = varint(&mut rest);
            Seen::Open(name(rest))
        }
        10 => Seen::Ping,
        _ => Seen::Other,
    };
    SeenFrame { seen, id, length: HEADER_LEN + length }
}

/// Finds what names the call in the body of an `Open`: the value of its first metadata pair, or its message.
fn name(mut body: &[u8]) -> Option<(u32, u8)> {
    loop {
        let (&key, rest) = body.split_first()?;
        body = rest;
        match key >> 3 {
            2 | 4 => _ = varint(&mut body)?,
            3 => {
                _ = varint(&mut body)?;
                // A key of one letter, then the value.
                let value = body.get(5..)?;
                return Name::read(value.get(..NAME_BYTES)?);
            }
            5 => {
                _ = varint(&mut body)?;
                return Name::read(body);
            }
            _ => {
                let length = usize::try_from(varint(&mut body)?).ok()?;
                body = body.get(length..)?;
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
