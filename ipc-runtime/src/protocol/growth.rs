//! Estimates how much memory a message may take after decoding, from its bytes alone.
//!
//! Two bytes on the wire can become an empty message of hundreds of bytes. So a server counts the estimated memory of a
//! request before it decodes it. The estimate knows no schema. It walks the bytes as far as they can be protobuf, and
//! assumes the worst case for each field. Its assumptions:
//!
//! - The struct of a nested message has up to 64 bytes, or 128 if there are many in one list. A list reserves room for four
//!   of them at first, and later for twice as many as it has.
//! - Maps are hash maps, the default of prost.
//! - The spare room of a list of numbers is counted only up to [`SPARE`]. It is at the end of the list and never written,
//!   so the system gives no memory for it. If it were counted in full, every string would count sixteen times its size,
//!   because its bytes could also be numbers.
//!
//! `tests/tests/memory/growth.rs` compares the estimate with the memory that prost allocates.

/// The memory of a nested message: its struct, and the spare room of its list.
const NESTED: u64 = 256;

/// The memory of a number in a list that has as much spare room as numbers.
const NUMBER: u64 = 16;

/// The memory of a string or an empty list in addition to its bytes.
const BLOCK: u64 = 64;

/// The memory per byte of a packed list of numbers, without spare room. The spare room can be as large again.
const PACKED: u64 = 8;

/// At most this much spare room of one list of numbers is counted.
const SPARE: u64 = 16 * 1024;

/// Shorter messages are not walked. They count as if every two bytes were a nested message.
const WALKED_FROM: usize = 256;

/// The depth to which nested messages are walked. It is prost's limit.
const MAX_DEPTH: u32 = 100;

/// The most memory that a message of these bytes takes after decoding.
pub(crate) fn estimate(message: &[u8]) -> u64 {
    if message.len() < WALKED_FROM {
        return NESTED + message.len() as u64 * (NESTED / 2);
    }
    // What is no message at all does not decode, so nothing of it is kept.
    NESTED + walk(message, MAX_DEPTH).unwrap_or(0)
}

/// The memory of a message's fields. `None` if the bytes are not a message.
fn walk(message: &[u8], depth: u32) -> Option<u64> {
    let (total, rest) = walk_until(message, None, depth)?;
    rest.is_empty().then_some(total)
}

/// What the fields take up to the end of a group, or of the message where there is none; and the bytes behind it.
fn walk_until(mut rest: &[u8], group: Option<u64>, depth: u32) -> Option<(u64, &[u8])> {
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        let field = key >> 3;
        if field == 0 {
            return None;
        }
        let cost = match key & 7 {
            0 => {
                rest = varint(after)?.1;
                NUMBER
            }
            1 => {
                rest = after.get(8..)?;
                NUMBER
            }
            5 => {
                rest = after.get(4..)?;
                NUMBER
            }
            2 => {
                let (length, after) = varint(after)?;
                let (field, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                rest = after;
                length_delimited(field, depth)
            }
            3 => {
                let (fields, after) = walk_until(after, Some(field), depth.checked_sub(1)?)?;
                rest = after;
                NESTED.saturating_add(fields)
            }
            4 if group == Some(field) => return Some((total, after)),
            _ => return None,
        };
        total = total.saturating_add(cost);
    }
    group.is_none().then_some((total, rest))
}

/// A string, bytes, a packed list, or a message: whichever takes the most.
fn length_delimited(field: &[u8], depth: u32) -> u64 {
    let numbers = field.len() as u64 * PACKED;
    let packed = BLOCK + numbers + numbers.min(SPARE);
    let nested = depth.checked_sub(1).and_then(|depth| walk(field, depth));
    nested.map_or(packed, |nested| packed.max(NESTED.saturating_add(nested)))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_nested_messages_count_for_what_they_become() {
        let million = [0x0a, 0].repeat(500_000);
        assert_eq!(estimate(&million), NESTED + 500_000 * (NESTED));
    }

    #[test]
    fn a_group_counts_with_its_end_alone() {
        let groups = [0x0b, 0x10, 1, 0x0c].repeat(1000);
        assert_eq!(estimate(&groups), NESTED + 1000 * (NESTED + NUMBER));
        // Begun and not ended, ended and not begun, ended as another, too deep: none of it decodes.
        let deep = [[0x0b].repeat(101), [0x0c].repeat(101), vec![0x10; 100]].concat();
        for bytes in [vec![b'#'; 1000], vec![b'$'; 1000], [0x0b, 0x14].repeat(500), deep] {
            assert_eq!(estimate(&bytes), NESTED);
        }
    }

    #[test]
    fn one_large_field_counts_little_more_than_eight_times() {
        let mut message = vec![0x0a, 0x80, 0x80, 0x40];
        message.resize(4 + (1 << 20), 0);
        assert_eq!(estimate(&message), NESTED + BLOCK + SPARE + (8 << 20));
    }

    #[test]
    fn nested_lists_count_at_every_depth_and_what_is_no_message_is_not_walked_twice() {
        let mut message = [0x0a, 0].repeat(60);
        for _ in 0..3 {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(message.len() as u64, &mut outer);
            outer.extend_from_slice(&message);
            message = outer.repeat(4);
        }
        assert!(estimate(&message) >= 60 * 64 * NESTED);
        assert_eq!(estimate(&vec![0xff; 5000]), NESTED);
    }
}
