//! Envelopes that are almost right: the schema's fields, and now and then what protobuf allows or forbids beside them.

use prost::encoding::{WireType, encode_key};

use super::Source;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Varint,
    Fixed,
    Bytes,
    Text,
    Message(&'static [(u32, Kind)]),
}

const METADATA: &[(u32, Kind)] = &[(1, Kind::Text), (2, Kind::Bytes)];
const SERVICE: &[(u32, Kind)] = &[(1, Kind::Text), (2, Kind::Fixed)];
const ANY: &[(u32, Kind)] = &[(1, Kind::Text), (2, Kind::Bytes)];
const STATUS: &[(u32, Kind)] = &[(1, Kind::Varint), (2, Kind::Text), (3, Kind::Message(ANY))];
const NONCE: &[(u32, Kind)] = &[(1, Kind::Fixed)];
const HELLO: &[(u32, Kind)] = &[
    (1, Kind::Varint),
    (2, Kind::Varint),
    (3, Kind::Varint),
    (4, Kind::Varint),
    (5, Kind::Varint),
    (6, Kind::Fixed),
    (7, Kind::Message(SERVICE)),
    (8, Kind::Text),
    (9, Kind::Varint),
];
const OPEN: &[(u32, Kind)] =
    &[(1, Kind::Text), (2, Kind::Varint), (3, Kind::Message(METADATA)), (4, Kind::Varint), (5, Kind::Bytes)];
const CLOSE: &[(u32, Kind)] = &[
    (1, Kind::Message(STATUS)),
    (2, Kind::Message(METADATA)),
    (3, Kind::Message(METADATA)),
    (4, Kind::Bytes),
    (5, Kind::Varint),
];
const ENVELOPE: &[(u32, Kind)] = &[
    (1, Kind::Varint),
    (2, Kind::Message(HELLO)),
    (3, Kind::Message(OPEN)),
    (4, Kind::Message(&[(1, Kind::Message(METADATA))])),
    (5, Kind::Message(&[(1, Kind::Bytes)])),
    (6, Kind::Message(&[])),
    (7, Kind::Message(CLOSE)),
    (8, Kind::Message(&[])),
    (9, Kind::Message(&[(1, Kind::Varint)])),
    (10, Kind::Message(NONCE)),
    (11, Kind::Message(NONCE)),
    (12, Kind::Message(&[(1, Kind::Varint), (2, Kind::Message(STATUS)), (3, Kind::Varint)])),
];

const WIRE_TYPES: [WireType; 6] = [
    WireType::Varint,
    WireType::SixtyFourBit,
    WireType::LengthDelimited,
    WireType::StartGroup,
    WireType::EndGroup,
    WireType::ThirtyTwoBit,
];

/// What makes a text, right and wrong.
const TEXTS: [&[u8]; 9] =
    [b"", b"k", b"key", b"K!", b"/a.B/C", "\u{fc}\u{4e2d}".as_bytes(), &[0xff], &[0xc3], &[0xed, 0xa0, 0x80]];

/// An envelope.
pub(super) fn envelope(source: &mut Source<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if source.one_in(8) {
        put_fields(&mut out, ENVELOPE, source);
    }
    let (body, extra) = (1 + source.below(ENVELOPE.len() - 1), source.one_in(4));
    for (tag, kind) in [ENVELOPE[0], ENVELOPE[body]] {
        put_field(&mut out, tag, kind, source);
    }
    if extra {
        put_fields(&mut out, ENVELOPE, source);
    }
    out
}

/// A Hello, in its envelope.
pub(super) fn hello(source: &mut Source<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_field(&mut out, 2, Kind::Message(HELLO), source);
    out
}

fn put_fields(out: &mut Vec<u8>, fields: &[(u32, Kind)], source: &mut Source<'_>) {
    for _ in 0..source.below(6) {
        if source.is_empty() {
            return;
        }
        match source.below(64) {
            63 | 62 => put_unknown(out, source),
            61 => {
                let start = out.len();
                put_unknown(out, source);
                repeat(out, start, source);
            }
            60 => put_groups(out, source),
            59 => out.extend((0..source.below(4)).map(|_| source.byte())),
            58 if !fields.is_empty() => {
                let (tag, _) = source.pick(fields);
                put_any(out, tag, source);
            }
            known if !fields.is_empty() => {
                let start = out.len();
                let (tag, kind) = source.pick(fields);
                put_field(out, tag, kind, source);
                if known > 50 {
                    repeat(out, start, source);
                }
            }
            _ => {}
        }
    }
}

/// What began at `start` once more, or so often that limits are passed.
fn repeat(out: &mut Vec<u8>, start: usize, source: &mut Source<'_>) {
    let is_short = out.len() - start < 64;
    let times = if is_short && source.one_in(3) { 500 + 20 * source.below(100) } else { 1 };
    let again = out[start..].repeat(times);
    out.extend(again);
}

fn put_field(out: &mut Vec<u8>, tag: u32, kind: Kind, source: &mut Source<'_>) {
    match kind {
        Kind::Varint => {
            encode_key(tag, WireType::Varint, out);
            put_varint(out, source);
        }
        Kind::Fixed => {
            encode_key(tag, WireType::SixtyFourBit, out);
            out.extend(source.number().to_le_bytes());
        }
        Kind::Bytes => {
            encode_key(tag, WireType::LengthDelimited, out);
            let length = if source.one_in(8) { source.below(256) * 300 } else { source.below(20) };
            put_sized(out, &vec![source.byte(); length], source);
        }
        Kind::Text => {
            encode_key(tag, WireType::LengthDelimited, out);
            let text = source.pick(&TEXTS);
            put_sized(out, text, source);
        }
        Kind::Message(fields) => {
            encode_key(tag, WireType::LengthDelimited, out);
            let mut inner = Vec::new();
            put_fields(&mut inner, fields, source);
            put_sized(out, &inner, source);
        }
    }
}

/// A field that the schema has not.
fn put_unknown(out: &mut Vec<u8>, source: &mut Source<'_>) {
    let tag = source.pick(&[13, 15, 16, 100, 19_000, 536_870_911]);
    put_any(out, tag, source);
}

fn put_any(out: &mut Vec<u8>, tag: u32, source: &mut Source<'_>) {
    let wire_type = source.pick(&WIRE_TYPES);
    encode_key(tag, wire_type, out);
    match wire_type {
        WireType::Varint => put_varint(out, source),
        WireType::SixtyFourBit => out.extend(source.number().to_le_bytes()),
        WireType::ThirtyTwoBit => out.extend([source.byte(); 4]),
        WireType::LengthDelimited => {
            let length = source.below(64);
            put_sized(out, &vec![source.byte(); length], source);
        }
        WireType::StartGroup => {
            if !source.one_in(4) {
                encode_key(tag, WireType::EndGroup, out);
            }
        }
        WireType::EndGroup => {}
    }
}

/// Groups in groups, about as deep as prost follows them.
fn put_groups(out: &mut Vec<u8>, source: &mut Source<'_>) {
    let depth = source.pick(&[1, 2, 97, 98, 99, 100, 101, 3000]);
    let tag = source.pick(&[1, 13, 536_870_911]);
    for _ in 0..depth {
        encode_key(tag, WireType::StartGroup, out);
    }
    for _ in 0..depth - source.below(2) {
        encode_key(tag, WireType::EndGroup, out);
    }
}

/// Bytes behind their length, which is now and then wrong.
fn put_sized(out: &mut Vec<u8>, bytes: &[u8], source: &mut Source<'_>) {
    let length = bytes.len() as u64;
    let said = match source.below(64) {
        63 => length + 1,
        62 => length.saturating_sub(1),
        61 => u64::MAX,
        _ => length,
    };
    put_long(out, said, if source.one_in(16) { source.below(10) } else { 0 });
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, source: &mut Source<'_>) {
    let value = match source.below(4) {
        3 => source.number(),
        2 => u64::from(source.byte()) << source.below(57),
        _ => u64::from(source.byte() & 0x0f),
    };
    put_long(out, value, if source.one_in(8) { source.below(10) } else { 0 });
}

/// A varint that is longer than it need be.
fn put_long(out: &mut Vec<u8>, mut value: u64, more: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    for _ in 0..more {
        *out.last_mut().unwrap() |= 0x80;
        out.push(0);
    }
}
