//! The two frames that most traffic is made of, taken apart without building an envelope: an item, and the plain answer
//! of a call. Whatever is not exactly as this crate writes it goes the general way, [`decode`](super::decode).

use bytes::Bytes;

/// A frame that was recognised.
#[derive(Debug, PartialEq)]
pub(crate) enum Hot {
    Item(Bytes),
    /// `Close` with a message and nothing else.
    Answer(Bytes),
}

const CALL_ID: u8 = 1 << 3;
const ITEM: u8 = 5 << 3 | 2;
const CLOSE: u8 = 7 << 3 | 2;
const ITEM_MESSAGE: u8 = 1 << 3 | 2;
const CLOSE_MESSAGE: u8 = 4 << 3 | 2;

/// The call id and what the frame says, if it is one of the two; `None` says nothing about the frame.
pub(crate) fn recognise(frame: &Bytes) -> Option<(u64, Hot)> {
    let rest = frame.strip_prefix(&[CALL_ID])?;
    let (id, rest) = varint(rest)?;
    let (&kind, rest) = rest.split_first()?;
    let (length, rest) = varint(rest)?;
    if id == 0 || length != rest.len() as u64 {
        return None;
    }
    match kind {
        ITEM if rest.is_empty() => Some((id, Hot::Item(Bytes::new()))),
        ITEM => Some((id, Hot::Item(message(frame, rest, ITEM_MESSAGE)?))),
        CLOSE => Some((id, Hot::Answer(message(frame, rest, CLOSE_MESSAGE)?))),
        _ => None,
    }
}

/// The message in a body that has nothing else.
fn message(frame: &Bytes, body: &[u8], key: u8) -> Option<Bytes> {
    let (length, message) = varint(body.strip_prefix(&[key])?)?;
    (length == message.len() as u64).then(|| frame.slice(frame.len() - message.len()..))
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

    use super::super::{Body, Close, Envelope, Item, decode};
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
            prop_assert_eq!(recognise(&item), Some((id, Hot::Item(message.clone()))));
            let close = Close { message: Some(message.clone()), ..Close::default() };
            let answer = encoded(id, Body::Close(close));
            prop_assert_eq!(recognise(&answer), Some((id, Hot::Answer(message))));
        }

        #[test]
        fn whatever_is_recognised_is_what_the_general_way_says(
            id in prop::collection::vec(any::<u8>(), 1..4),
            kind in prop::sample::select(vec![ITEM, CLOSE, 0x1a, 0x22]),
            rest in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 3, 0x0a, 0x22, 0x80, 0x2a]), 0..8),
        ) {
            let frame: Bytes = [&[CALL_ID][..], &id, &[kind], &rest].concat().into();
            if let Some(hot) = recognise(&frame) {
                prop_assert_eq!(general(frame), Some(hot));
            }
        }
    }
}
