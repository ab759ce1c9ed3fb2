//! The frames that most traffic is made of, taken apart without building an envelope: an item, and the plain request and
//! answer of a call. Whatever is not exactly as this crate writes it goes the general way, [`decode`](super::decode).

use bytes::{Buf, Bytes};

/// A frame that was recognised.
#[derive(Debug, PartialEq)]
pub(crate) enum Hot {
    Item(Bytes),
    /// `Close` with a message and nothing else.
    Answer(Bytes),
    /// `Open` with the whole request and no metadata.
    Request {
        method: Bytes,
        timeout_us: u64,
        message: Bytes,
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

/// The call id and what the frame says, if it is one of them; the frame, if it is not.
pub(crate) fn recognise(frame: Bytes) -> Result<(u64, Hot), Bytes> {
    match look(&frame) {
        Some((id, found)) => Ok((id, found.take(frame))),
        None => Err(frame),
    }
}

/// What was recognised: the message is the last so many bytes of the frame.
enum Found {
    Item(usize),
    Answer(usize),
    Request { method: (usize, usize), timeout_us: u64, message: usize },
}

impl Found {
    fn take(self, mut frame: Bytes) -> Hot {
        let last = |mut frame: Bytes, length| {
            frame.advance(frame.len() - length);
            frame
        };
        match self {
            Self::Item(length) => Hot::Item(last(frame, length)),
            Self::Answer(length) => Hot::Answer(last(frame, length)),
            Self::Request { method: (start, length), timeout_us, message } => {
                frame.advance(start);
                let method = frame.split_to(length);
                Hot::Request { method, timeout_us, message: last(frame, message) }
            }
        }
    }
}

fn look(frame: &[u8]) -> Option<(u64, Found)> {
    let rest = frame.strip_prefix(&[CALL_ID])?;
    let (id, rest) = varint(rest)?;
    let (&kind, rest) = rest.split_first()?;
    let (length, rest) = varint(rest)?;
    if id == 0 || length != rest.len() as u64 {
        return None;
    }
    let found = match kind {
        ITEM if rest.is_empty() => Found::Item(0),
        ITEM => Found::Item(message(rest, ITEM_MESSAGE)?),
        CLOSE => Found::Answer(message(rest, CLOSE_MESSAGE)?),
        OPEN => request(frame, rest)?,
        _ => return None,
    };
    Some((id, found))
}

fn request(frame: &[u8], body: &[u8]) -> Option<Found> {
    let (length, rest) = varint(body.strip_prefix(&[OPEN_METHOD])?)?;
    let length = usize::try_from(length).ok()?;
    let start = frame.len() - rest.len();
    let (method, rest) = rest.split_at_checked(length)?;
    let (timeout_us, rest) = match rest.strip_prefix(&[OPEN_TIMEOUT]) {
        Some(rest) => varint(rest)?,
        None => (0, rest),
    };
    let message = message(rest.strip_prefix(&OPEN_END)?, OPEN_MESSAGE)?;
    // Text that is none is judged the general way.
    method.is_ascii().then_some(Found::Request { method: (start, length), timeout_us, message })
}

/// The length of the message in a body that has nothing else.
fn message(body: &[u8], key: u8) -> Option<usize> {
    let (length, message) = varint(body.strip_prefix(&[key])?)?;
    (length == message.len() as u64).then_some(message.len())
}

/// A number of at most nine bytes: longer ones go the general way.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
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
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::{Body, Close, Envelope, Item, Open, decode};
    use super::*;

    fn general(frame: Bytes) -> Option<(u64, Hot)> {
        let Envelope { call_id, body } = decode(frame).ok()?;
        match body? {
            Body::Item(item) => Some((call_id, Hot::Item(item.message))),
            Body::Close(close) => {
                let message = close.message.clone()?;
                let plain = Close { message: Some(message.clone()), ..Close::default() };
                (close == plain).then_some((call_id, Hot::Answer(message)))
            }
            Body::Open(open) => {
                let Open { method, timeout_us, metadata, end_of_stream, message } = open;
                let message = message.filter(|_| metadata.is_empty() && end_of_stream)?;
                Some((call_id, Hot::Request { method, timeout_us, message }))
            }
            _ => None,
        }
    }

    fn encoded(call_id: u64, body: Body) -> Bytes {
        Envelope { call_id, body: Some(body) }.encode_to_vec().into()
    }

    proptest! {
        #[test]
        fn what_this_crate_writes_is_recognised(id in 1..u64::MAX >> 1, message in prop::collection::vec(any::<u8>(), 0..300)) {
            let message = Bytes::from(message);
            let item = encoded(id, Body::Item(Item { message: message.clone() }));
            prop_assert_eq!(recognise(item), Ok((id, Hot::Item(message.clone()))));
            let close = Close { message: Some(message.clone()), ..Close::default() };
            let answer = encoded(id, Body::Close(close));
            prop_assert_eq!(recognise(answer), Ok((id, Hot::Answer(message.clone()))));
            for timeout_us in [0, 1, id] {
                let method = Bytes::from_static(b"/a.B/C");
                let whole = Open { method: method.clone(), timeout_us, end_of_stream: true, message: Some(message.clone()), ..Open::default() };
                let request = Hot::Request { method, timeout_us, message: message.clone() };
                prop_assert_eq!(recognise(encoded(id, Body::Open(whole))), Ok((id, request)));
            }
        }

        #[test]
        fn whatever_is_recognised_is_what_the_general_way_says(
            id in prop::collection::vec(any::<u8>(), 1..4),
            kind in prop::sample::select(vec![ITEM, CLOSE, OPEN, 0x22]),
            rest in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 3, 0x0a, 0x10, 0x20, 0x22, 0x80, 0x2a]), 0..10),
        ) {
            let frame: Bytes = [&[CALL_ID][..], &id, &[kind], &rest].concat().into();
            if let Ok(hot) = recognise(frame.clone()) {
                prop_assert_eq!(general(frame), Some(hot));
            }
        }
    }
}
