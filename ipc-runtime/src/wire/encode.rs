//! Envelopes into the write buffer: header and message in one pass, the message never into a buffer of its
//! own first.
//!
//! [`Encoder`] knows the limits of both sides. It appends whole frames or nothing.

use bytes::BytesMut;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::{Body, Close, Envelope, GoAway, Pair, WireStatus};
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::frame::FrameCodec;
use crate::metadata::Metadata;
use crate::status::Status;

const CALL_ID: u32 = 1;
const OPEN: u32 = 3;
const ITEM: u32 = 5;
const CLOSE: u32 = 7;

/// A message about to be encoded, its type forgotten: what surrounds a call is compiled once, not for each method.
pub(crate) trait Encode: Send + Sync {
    /// How many bytes [`put`](Self::put) appends.
    fn length(&self) -> usize;

    fn put(&self, buffer: &mut BytesMut);
}

impl<M: Message> Encode for M {
    fn length(&self) -> usize {
        self.encoded_len()
    }

    fn put(&self, buffer: &mut BytesMut) {
        self.encode_raw(buffer);
    }
}

/// Appends envelopes as frames of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    codec: FrameCodec,
    limit: usize,
}

/// A request about to be written.
pub(crate) struct OpenParts<'a> {
    pub(crate) method: &'a str,
    pub(crate) timeout_us: u64,
    pub(crate) metadata: &'a Metadata,
    /// The only message of the request, after which the stream ends; `None` where items follow.
    pub(crate) message: Option<&'a dyn Encode>,
}

impl Encoder {
    /// An encoder for frames of at most `limit` message bytes, the smaller of both sides' limits.
    pub(crate) const fn new(variant: Crc32Variant, limit: usize) -> Self {
        Self { codec: FrameCodec::new(variant, limit), limit }
    }

    /// Appends any envelope, the way for frames that carry no message.
    pub(crate) fn put(&self, buffer: &mut BytesMut, call_id: u64, body: Body) -> Result<(), IpcError> {
        self.codec.encode(&Envelope { call_id, body: Some(body) }, buffer)
    }

    pub(crate) fn put_open(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        open: &OpenParts<'_>,
    ) -> Result<(), IpcError> {
        let message_len = open.message.map(Encode::length);
        let body_len = bytes_len(open.method.len(), false)
            + if open.timeout_us == 0 { 0 } else { 1 + encoded_len_varint(open.timeout_us) }
            + metadata_len(open.metadata)
            + if message_len.is_some() { 2 } else { 0 }
            + message_len.map_or(0, |len| bytes_len(len, true));
        self.envelope(buffer, call_id, OPEN, body_len, |buffer| {
            put_bytes(buffer, 1, open.method.as_bytes());
            if open.timeout_us != 0 {
                encode_key(2, WireType::Varint, buffer);
                encode_varint(open.timeout_us, buffer);
            }
            put_metadata(buffer, 3, open.metadata);
            if message_len.is_some() {
                encode_key(4, WireType::Varint, buffer);
                encode_varint(1, buffer);
            }
            put_message(buffer, 5, open.message.zip(message_len));
        })
    }

    /// Appends an item of `len` message bytes.
    pub(crate) fn put_item(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        message: &dyn Encode,
        len: usize,
    ) -> Result<(), IpcError> {
        let body_len = bytes_len(len, false);
        self.envelope(buffer, call_id, ITEM, body_len, |buffer| {
            if len > 0 {
                put_message(buffer, 1, Some((message, len)));
            }
        })
    }

    /// Appends the successful end of a call.
    pub(crate) fn put_close(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        headers: &Metadata,
        trailers: &Metadata,
        message: Option<&dyn Encode>,
    ) -> Result<(), IpcError> {
        let message_len = message.map(Encode::length);
        let body_len = metadata_len(headers)
            + metadata_len(trailers)
            + message_len.map_or(0, |len| bytes_len(len, true));
        self.envelope(buffer, call_id, CLOSE, body_len, |buffer| {
            put_metadata(buffer, 2, headers);
            put_metadata(buffer, 3, trailers);
            put_message(buffer, 4, message.zip(message_len));
        })
    }

    /// Appends the end of a call that failed, cut to fit: details, trailers and headers first, then the
    /// message.
    pub(crate) fn put_error(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        headers: &Metadata,
        status: &Status,
        not_processed: bool,
    ) -> Result<(), IpcError> {
        let mut close = Close {
            status: Some(WireStatus::of(status)),
            headers: pairs(headers),
            trailers: pairs(status.metadata()),
            message: None,
            not_processed,
        };
        let cuts: [fn(&mut Close); 3] = [
            |close| close.status.iter_mut().for_each(|status| status.details.clear()),
            |close| close.trailers.clear(),
            |close| close.headers.clear(),
        ];
        for cut in cuts {
            if self.fits(call_id, &Body::Close(close.clone())) {
                break;
            }
            cut(&mut close);
        }
        let mut message =
            close.status.as_mut().map(|status| std::mem::take(&mut status.message)).unwrap_or_default();
        self.cut_message(call_id, &Body::Close(close.clone()), &mut message);
        if let Some(status) = &mut close.status {
            status.message = message;
        }
        self.put(buffer, call_id, Body::Close(close))
    }

    /// Appends a `GoAway`, cut to fit.
    pub(crate) fn put_go_away(
        &self,
        buffer: &mut BytesMut,
        last_call_id: u64,
        status: &Status,
        retry_after_ms: u32,
    ) -> Result<(), IpcError> {
        let mut wire = WireStatus { details: Vec::new(), ..WireStatus::of(status) };
        let go_away = |status| Body::GoAway(GoAway { last_call_id, status: Some(status), retry_after_ms });
        let rest = go_away(WireStatus { message: String::new(), ..wire.clone() });
        self.cut_message(0, &rest, &mut wire.message);
        self.put(buffer, 0, go_away(wire))
    }

    fn fits(&self, call_id: u64, body: &Body) -> bool {
        Envelope { call_id, body: Some(body.clone()) }.encoded_len() <= self.limit
    }

    /// Shortens `message` so that it fits beside `rest`, which is the envelope without it.
    fn cut_message(&self, call_id: u64, rest: &Body, message: &mut String) {
        let rest = Envelope { call_id, body: Some(rest.clone()) }.encoded_len();
        // The message adds its own key and length, and its bytes may lengthen three lengths around it.
        let room = self.limit.saturating_sub(rest + 16);
        if message.len() > room {
            // `str::floor_char_boundary` does this from Rust 1.91 on. Byte 0 is always a boundary.
            let boundary = (0..=room).rev().find(|&at| message.is_char_boundary(at));
            message.truncate(boundary.unwrap_or(0));
        }
    }

    fn envelope(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        tag: u32,
        body_len: usize,
        body: impl FnOnce(&mut BytesMut),
    ) -> Result<(), IpcError> {
        let length = 1 + encoded_len_varint(call_id) + bytes_len(body_len, true);
        self.codec.encode_with(length, buffer, |buffer| {
            encode_key(CALL_ID, WireType::Varint, buffer);
            encode_varint(call_id, buffer);
            encode_key(tag, WireType::LengthDelimited, buffer);
            encode_varint(body_len as u64, buffer);
            body(buffer);
        })
    }
}

/// A field of `len` bytes with a one-byte key; an empty one is left out unless its presence counts.
const fn bytes_len(len: usize, presence: bool) -> usize {
    if len == 0 && !presence { 0 } else { 1 + encoded_len_varint(len as u64) + len }
}

fn pair_len(key: &str, value: &[u8]) -> usize {
    bytes_len(key.len(), false) + bytes_len(value.len(), false)
}

fn metadata_len(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| bytes_len(pair_len(key, value), true)).sum()
}

fn put_metadata(buffer: &mut BytesMut, tag: u32, metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint(pair_len(key, value) as u64, buffer);
        put_bytes(buffer, 1, key.as_bytes());
        put_bytes(buffer, 2, value);
    }
}

fn put_bytes(buffer: &mut BytesMut, tag: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint(bytes.len() as u64, buffer);
        buffer.extend_from_slice(bytes);
    }
}

fn put_message(buffer: &mut BytesMut, tag: u32, message: Option<(&dyn Encode, usize)>) {
    if let Some((message, len)) = message {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint(len as u64, buffer);
        message.put(buffer);
    }
}

pub(crate) fn pairs(metadata: &Metadata) -> Vec<Pair> {
    let pair = |(key, value): (&str, &bytes::Bytes)| Pair {
        key: bytes::Bytes::copy_from_slice(key.as_bytes()),
        value: value.clone(),
    };
    metadata.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Headers, decode};
    use super::*;

    fn envelope_of(buffer: &mut BytesMut, limit: usize) -> Envelope {
        let codec = FrameCodec::new(Crc32Variant::Ieee, limit);
        decode(codec.decode_frame(buffer).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_in_place_is_what_prost_would_write() {
        let encoder = Encoder::new(Crc32Variant::Ieee, 4096);
        let mut metadata = Metadata::new();
        metadata.append("k", "v").unwrap();
        metadata.append("empty", "").unwrap();
        for message in [String::new(), "x".repeat(300)] {
            let mut buffer = BytesMut::new();
            let open =
                OpenParts { method: "/a.B/C", timeout_us: 5, metadata: &metadata, message: Some(&message) };
            encoder.put_open(&mut buffer, 300, &open).unwrap();
            encoder.put_item(&mut buffer, 1, &message, message.encoded_len()).unwrap();
            encoder.put_close(&mut buffer, 1, &metadata, &Metadata::new(), Some(&message)).unwrap();
            let mut again = BytesMut::new();
            let mut rest = buffer.clone();
            for _ in 0..3 {
                let envelope = envelope_of(&mut rest, 4096);
                encoder.put(&mut again, envelope.call_id, envelope.body.unwrap()).unwrap();
            }
            assert_eq!(buffer, again);
        }
    }

    #[test]
    fn an_error_is_cut_to_fit_and_everything_else_is_refused() {
        let encoder = Encoder::new(Crc32Variant::Ieee, 4096);
        let mut headers = Metadata::new();
        headers.append("h", vec![b'h'; 5000]).unwrap();
        let status = Status::internal("ü".repeat(5000)).with_any(prost_types::Any::default());
        let mut buffer = BytesMut::new();
        encoder.put_error(&mut buffer, u64::MAX, &headers, &status, true).unwrap();
        let Some(Body::Close(close)) = envelope_of(&mut buffer, 4096).body else { panic!("a Close") };
        assert!(close.headers.is_empty() && close.not_processed);
        let wire = close.status.unwrap();
        assert!(wire.details.is_empty());
        assert!(wire.message.len() > 4000, "{}", wire.message.len());

        encoder.put_go_away(&mut buffer, u64::MAX, &status, u32::MAX).unwrap();
        assert!(matches!(envelope_of(&mut buffer, 4096).body, Some(Body::GoAway(_))));

        let body = Body::Headers(Headers { metadata: pairs(&headers) });
        assert!(matches!(encoder.put(&mut buffer, 1, body), Err(IpcError::TooLarge { max_size: 4096, .. })));
        assert!(buffer.is_empty());
    }

    #[test]
    fn short_errors_keep_everything() {
        let encoder = Encoder::new(Crc32Variant::Ieee, 4096);
        let mut trailers = Metadata::new();
        trailers.append("t", "1").unwrap();
        let status = Status::aborted("m").with_any(prost_types::Any::default()).with_metadata(trailers);
        let mut buffer = BytesMut::new();
        encoder.put_error(&mut buffer, 1, status.metadata(), &status, false).unwrap();
        let Some(Body::Close(close)) = envelope_of(&mut buffer, 4096).body else { panic!("a Close") };
        assert_eq!((close.headers.len(), close.trailers.len(), close.not_processed), (1, 1, false));
        assert_eq!(close.status.unwrap().details.len(), 1);
    }
}
