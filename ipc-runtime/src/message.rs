//! Messages out of frames: read as fast as from a slice, and `Bytes` fields are parts of the frame all the same.

use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};

/// Decodes a message.
///
/// # Errors
///
/// The bytes are no `M`.
pub(crate) fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, DecodeError> {
    M::decode(Rest { rest: bytes, whole: bytes })
}

/// What is left of a message. `Bytes` itself keeps more in step with each byte that is read.
struct Rest<'a> {
    rest: &'a [u8],
    whole: &'a Bytes,
}

impl Buf for Rest<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        self.rest
    }

    fn advance(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.whole.slice_ref(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Fields {
        #[prost(bytes = "bytes", tag = "1")]
        shared: Bytes,
        #[prost(string, tag = "2")]
        text: String,
        #[prost(bytes = "bytes", repeated, tag = "3")]
        list: Vec<Bytes>,
    }

    #[test]
    fn bytes_are_parts_of_the_frame_and_the_rest_is_copied() {
        let fields = Fields {
            shared: Bytes::from_static(b"abc"),
            text: "def".to_owned(),
            list: vec![Bytes::new(), Bytes::from_static(b"g")],
        };
        let frame = Bytes::from(fields.encode_to_vec());
        let decoded: Fields = decode(&frame).unwrap();
        assert_eq!(decoded, fields);
        assert_eq!(decoded.shared.as_ptr(), frame[2..].as_ptr());
        for cut in 1..frame.len() {
            assert_eq!(decode(&frame.slice(..cut)), Fields::decode(frame.slice(..cut)));
        }
    }
}
