//! The frames that most traffic is made of, found byte by byte: an item, and the plain request and answer of a call.
//!
//! Whatever is not exactly as this crate writes it is left to the general decoder, invalid UTF-8 included. A property
//! test holds that both agree.

use std::ops::Range;

/// A frame that was recognised. Its message is the rest of the frame from the given place on.
#[derive(Debug, PartialEq)]
pub(super) enum Plain {
    Item {
        message: usize,
    },
    /// `Close` with a message and nothing else.
    Answer {
        message: usize,
    },
    /// `Open` with the whole request and no metadata.
    Request {
        method: Range<usize>,
        timeout_us: u64,
        message: usize,
    },
}

const CALL_ID: u8 = 1 << 3;
const OPEN: u8 = 3 << 3 | 2;
const ITEM: u8 = 5 << 3 | 2;
const CLOSE: u8 = 7 << 3 | 2;
const OPEN_METHOD: u8 = 1 << 3 | 2;
const OPEN_TIMEOUT: u8 = 2 << 3;
const OPEN_END: [u8; 2] = [4 << 3, 1];
const OPEN_MESSAGE: u8 = 5 << 3 | 2;
const ITEM_MESSAGE: u8 = 1 << 3 | 2;
const CLOSE_MESSAGE: u8 = 4 << 3 | 2;

/// The call's id and what the frame says, if it is one of them.
pub(super) fn recognise(frame: &[u8]) -> Option<(u64, Plain)> {
    let rest = frame.strip_prefix(&[CALL_ID])?;
    let (id, rest) = varint(rest)?;
    let (&kind, rest) = rest.split_first()?;
    let (length, rest) = varint(rest)?;
    if id == 0 || length != rest.len() as u64 {
        return None;
    }
    let plain = match kind {
        ITEM => Plain::Item { message: item(frame)?.1 },
        CLOSE => Plain::Answer { message: frame.len() - message(rest, CLOSE_MESSAGE)? },
        OPEN => request(frame, rest)?,
        _ => return None,
    };
    Some((id, plain))
}

/// The call's id and where the message begins, if this is an item.
pub(crate) fn item(frame: &[u8]) -> Option<(u64, usize)> {
    let (id, rest) = varint(frame.strip_prefix(&[CALL_ID])?)?;
    let (length, rest) = varint(rest.strip_prefix(&[ITEM])?)?;
    if id == 0 || length != rest.len() as u64 {
        return None;
    }
    let message = if rest.is_empty() { 0 } else { message(rest, ITEM_MESSAGE)? };
    Some((id, frame.len() - message))
}

fn request(frame: &[u8], body: &[u8]) -> Option<Plain> {
    let (length, rest) = varint(body.strip_prefix(&[OPEN_METHOD])?)?;
    let length = usize::try_from(length).ok()?;
    let start = frame.len() - rest.len();
    let (method, rest) = rest.split_at_checked(length)?;
    let (timeout_us, rest) = match rest.strip_prefix(&[OPEN_TIMEOUT]) {
        Some(rest) => varint(rest)?,
        None => (0, rest),
    };
    let message = frame.len() - message(rest.strip_prefix(&OPEN_END)?, OPEN_MESSAGE)?;
    method.is_ascii().then_some(Plain::Request { method: start..start + length, timeout_us, message })
}

/// The length of the message in a body that has nothing else.
fn message(body: &[u8], key: u8) -> Option<usize> {
    let (length, message) = varint(body.strip_prefix(&[key])?)?;
    (length == message.len() as u64).then_some(message.len())
}

/// A number of at most nine bytes. Longer ones are left to the general decoder.
#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    if let [byte @ ..0x80, rest @ ..] = bytes {
        return Some((u64::from(*byte), rest));
    }
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::wire::{Envelope, WireBody, WireClose, WireItem, WireOpen};
    use super::*;

    /// What a plain frame says, with its bytes.
    type Said = (u64, WireBody);

    fn recognised(frame: &[u8]) -> Option<Said> {
        let (id, plain) = recognise(frame)?;
        let bytes = |at: usize| Bytes::copy_from_slice(&frame[at..]);
        let body = match plain {
            Plain::Item { message } => WireBody::Item(WireItem { message: bytes(message) }),
            Plain::Answer { message } => {
                WireBody::Close(WireClose { message: Some(bytes(message)), ..WireClose::default() })
            }
            Plain::Request { method, timeout_us, message } => WireBody::Open(WireOpen {
                method: Bytes::copy_from_slice(&frame[method]),
                timeout_us,
                end_of_stream: true,
                message: Some(bytes(message)),
                ..WireOpen::default()
            }),
        };
        Some((id, body))
    }

    fn encoded(call_id: u64, body: &WireBody) -> Vec<u8> {
        Envelope { call_id, body: Some(body.clone()) }.encode_to_vec()
    }

    proptest! {
        #[test]
        fn what_this_crate_writes_is_recognised(
            id in 1..u64::MAX >> 1,
            message in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let message = Bytes::from(message);
            let method = Bytes::from_static(b"/a.B/C");
            let open = |timeout_us| WireOpen {
                method: method.clone(),
                timeout_us,
                end_of_stream: true,
                message: Some(message.clone()),
                ..WireOpen::default()
            };
            let bodies = [
                WireBody::Item(WireItem { message: message.clone() }),
                WireBody::Close(WireClose { message: Some(message.clone()), ..WireClose::default() }),
                WireBody::Open(open(0)),
                WireBody::Open(open(1)),
                WireBody::Open(open(id)),
            ];
            for body in bodies {
                prop_assert_eq!(recognised(&encoded(id, &body)), Some((id, body)));
            }
        }

        #[test]
        fn whatever_is_recognised_is_what_the_general_decoder_says(
            id in prop::collection::vec(any::<u8>(), 1..4),
            kind in prop::sample::select(vec![ITEM, CLOSE, OPEN, 0x22]),
            rest in prop::collection::vec(
                prop::sample::select(vec![0_u8, 1, 2, 3, 0x0a, 0x10, 0x20, 0x22, 0x80, 0x2a]),
                0..10,
            ),
        ) {
            let frame = [&[CALL_ID][..], &id, &[kind], &rest].concat();
            if let Some((id, body)) = recognised(&frame) {
                let general = Envelope::decode(&frame[..]);
                prop_assert_eq!(general, Ok(Envelope { call_id: id, body: Some(body) }));
            }
        }
    }
}
