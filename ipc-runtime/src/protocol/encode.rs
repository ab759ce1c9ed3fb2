//! Encodes envelopes: header and message in one pass.
//!
//! [`Encoder`] knows the limits of both sides. It appends a whole frame or nothing. Only an `Open` is written in two steps,
//! because its id is not known when its message is encoded.

use bytes::BytesMut;
use prost::Message;
use prost::encoding::encoded_len_varint;

use super::checksum;
use super::envelope::wire::{self, Envelope, GoAway, Pairs, WireBody, WireClose, WireHeaders, WireStatus};
use super::frame::{FrameCodec, HEADER_LEN};
use super::prefix::Prefix;
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::Status;

const CALL_ID: u8 = 1;
const OPEN: u8 = 3;
const ITEM: u8 = 5;
const CLOSE: u8 = 7;

/// A message to encode, as a trait object. So the code around a call is compiled once, not for each method.
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
    variant: Crc32Variant,
    limit: usize,
}

/// The rest of an `Open`, as [`Encoder::put_open_rest`] wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OpenRest<'a> {
    /// Bytes to copy into the frame.
    Inline(&'a [u8]),
    /// A large rest in its own buffer, with its checksum.
    Apart { length: usize, sum: u32 },
}

impl Encoder {
    /// An encoder for frames of at most `limit` message bytes, the smaller of both sides' limits.
    pub(crate) const fn new(variant: Crc32Variant, limit: usize) -> Self {
        Self { codec: FrameCodec::new(variant, limit), variant, limit }
    }

    /// Appends any envelope. Used for frames without a message.
    pub(crate) fn put(&self, buffer: &mut BytesMut, call_id: u64, body: WireBody) -> Result<(), IpcError> {
        self.codec.encode(&Envelope { call_id, body: Some(body) }, buffer)
    }

    /// Appends the part of an `Open` after its method and timeout: metadata, and the whole request if there is one. It can
    /// be encoded before the call has an id.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` for metadata above the protocol's limit, and [`IpcError::TooLarge`].
    pub(crate) fn put_open_rest(
        &self,
        buffer: &mut BytesMut,
        metadata: &Metadata,
        message: Option<(&dyn Encode, usize)>,
    ) -> Result<(), IpcError> {
        check_metadata("request", metadata)?;
        let length = metadata_len(metadata) + message.map_or(0, |(_, len)| 2 + bytes_len(len, true));
        if length > self.limit {
            return Err(IpcError::TooLarge { size: length, max_size: self.limit });
        }
        buffer.reserve(length);
        let start = buffer.len();
        put_metadata(buffer, 3, metadata);
        if let Some((message, length)) = message {
            let mut prefix = Prefix::new();
            prefix.number(4, 1);
            prefix.length(5, length);
            prefix.put(buffer);
            message.put(buffer);
        }
        let written = buffer.len() - start;
        if written != length {
            buffer.truncate(start);
            return Err(wrong_length(length, written));
        }
        Ok(())
    }

    /// Appends an `Open`. If its rest is in its own buffer, that buffer must be written directly after it.
    ///
    /// # Errors
    ///
    /// [`IpcError::TooLarge`]. Nothing is appended then.
    pub(crate) fn put_open(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        method: &str,
        timeout_us: u64,
        rest: OpenRest<'_>,
    ) -> Result<(), IpcError> {
        let rest_len = match rest {
            OpenRest::Inline(bytes) => bytes.len(),
            OpenRest::Apart { length, .. } => length,
        };
        let timeout_len = if timeout_us == 0 { 0 } else { 1 + encoded_len_varint(timeout_us) };
        let body_len = bytes_len(method.len(), false) + timeout_len + rest_len;
        let length = 1 + encoded_len_varint(call_id) + bytes_len(body_len, true);
        let mut prefix = self.codec.header(length)?;
        let start = buffer.len();
        prefix.number(CALL_ID, call_id);
        prefix.length(OPEN, body_len);
        prefix.put(buffer);
        put_bytes(buffer, 1, method.as_bytes());
        if timeout_us != 0 {
            let mut timeout = Prefix::new();
            timeout.number(2, timeout_us);
            timeout.put(buffer);
        }
        let sum = match rest {
            OpenRest::Inline(bytes) => {
                buffer.extend_from_slice(bytes);
                self.variant.checksum(&buffer[start + HEADER_LEN..])
            }
            OpenRest::Apart { length, sum } => {
                checksum::with_rest(self.variant, &buffer[start + HEADER_LEN..], sum, length)
            }
        };
        buffer[start + 4..start + HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    /// Appends the metadata before an answer's first message.
    pub(crate) fn put_headers(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        headers: &Metadata,
    ) -> Result<(), IpcError> {
        check_metadata("response", headers)?;
        self.put(buffer, call_id, WireBody::Headers(WireHeaders { metadata: Pairs::from(headers) }))
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

    /// Appends the successful end of a call. A message comes with its length.
    pub(crate) fn put_close(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        headers: &Metadata,
        trailers: &Metadata,
        message: Option<(&dyn Encode, usize)>,
    ) -> Result<(), IpcError> {
        check_metadata("response", headers)?;
        check_metadata("response's trailers", trailers)?;
        let body_len = metadata_len(headers)
            + metadata_len(trailers)
            + message.map_or(0, |(_, len)| bytes_len(len, true));
        self.envelope(buffer, call_id, CLOSE, body_len, |buffer| {
            put_metadata(buffer, 2, headers);
            put_metadata(buffer, 3, trailers);
            put_message(buffer, 4, message);
        })
    }

    /// Appends the end of a call that failed. If it does not fit a frame, details, trailers and headers are left out in
    /// this order, and then the message is cut. Metadata above the protocol's limit is left out.
    pub(crate) fn put_error(
        &self,
        buffer: &mut BytesMut,
        call_id: u64,
        headers: &Metadata,
        status: &Status,
        not_processed: bool,
    ) -> Result<(), IpcError> {
        let mut close = WireClose {
            status: Some(WireStatus::of(status)),
            headers: Pairs::from(headers),
            trailers: Pairs::from(status.metadata()),
            message: None,
            not_processed,
        };
        if close.trailers.is_too_large() {
            close.trailers.clear();
        }
        if close.headers.is_too_large() {
            close.headers.clear();
        }
        let cuts: [fn(&mut WireClose); 3] = [
            |close| close.status.iter_mut().for_each(|status| status.details.clear()),
            |close| close.trailers.clear(),
            |close| close.headers.clear(),
        ];
        for cut in cuts {
            if envelope_len(call_id, close.encoded_len()) <= self.limit {
                break;
            }
            cut(&mut close);
        }
        let mut message =
            close.status.as_mut().map(|status| std::mem::take(&mut status.message)).unwrap_or_default();
        self.cut_message(envelope_len(call_id, close.encoded_len()), &mut message);
        if let Some(status) = &mut close.status {
            status.message = message;
        }
        self.put(buffer, call_id, WireBody::Close(close))
    }

    /// Appends a `GoAway`. Its message is cut to fit a frame.
    pub(crate) fn put_go_away(
        &self,
        buffer: &mut BytesMut,
        last_call_id: u64,
        status: &Status,
        retry_after_ms: u32,
    ) -> Result<(), IpcError> {
        let mut message = status.message().to_owned();
        let mut go_away = GoAway {
            last_call_id,
            status: Some(WireStatus { code: status.code() as i32, ..WireStatus::default() }),
            retry_after_ms,
        };
        self.cut_message(envelope_len(0, go_away.encoded_len()), &mut message);
        if let Some(status) = &mut go_away.status {
            status.message = message;
        }
        self.put(buffer, 0, WireBody::GoAway(go_away))
    }

    /// Shortens `message` so that it fits beside the `rest` of its envelope.
    fn cut_message(&self, rest: usize, message: &mut String) {
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
        tag: u8,
        body_len: usize,
        body: impl FnOnce(&mut BytesMut),
    ) -> Result<(), IpcError> {
        let length = 1 + encoded_len_varint(call_id) + bytes_len(body_len, true);
        self.codec.encode_after(length, buffer, |buffer, mut prefix| {
            prefix.number(CALL_ID, call_id);
            prefix.length(tag, body_len);
            prefix.put(buffer);
            body(buffer);
        })
    }
}

/// The size of a field of `len` bytes with a one-byte key. An empty field is left out unless its presence matters.
const fn bytes_len(len: usize, presence: bool) -> usize {
    if len == 0 && !presence { 0 } else { 1 + encoded_len_varint(len as u64) + len }
}

fn pair_len(key: &str, value: &[u8]) -> usize {
    bytes_len(key.len(), false) + bytes_len(value.len(), false)
}

fn metadata_len(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| bytes_len(pair_len(key, value), true)).sum()
}

fn put_metadata(buffer: &mut BytesMut, tag: u8, metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        put_length(buffer, tag, pair_len(key, value));
        put_bytes(buffer, 1, key.as_bytes());
        put_bytes(buffer, 2, value);
    }
}

fn put_length(buffer: &mut BytesMut, tag: u8, length: usize) {
    let mut prefix = Prefix::new();
    prefix.length(tag, length);
    prefix.put(buffer);
}

fn put_bytes(buffer: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_length(buffer, tag, bytes.len());
        buffer.extend_from_slice(bytes);
    }
}

fn put_message(buffer: &mut BytesMut, tag: u8, message: Option<(&dyn Encode, usize)>) {
    if let Some((message, len)) = message {
        put_length(buffer, tag, len);
        message.put(buffer);
    }
}

/// The length of an envelope around a body of `body_len` bytes.
const fn envelope_len(call_id: u64, body_len: usize) -> usize {
    let id_len = if call_id == 0 { 0 } else { 1 + encoded_len_varint(call_id) };
    id_len + bytes_len(body_len, true)
}

fn check_metadata(whose: &str, metadata: &Metadata) -> Result<(), IpcError> {
    let cost = if metadata.is_empty() { 0 } else { wire::cost_of(metadata) };
    if cost <= wire::MAX_METADATA {
        return Ok(());
    }
    let words = format!(
        "the metadata of the {whose} counts {cost} bytes (key, value and 32 for each pair), above the limit of {}; \
         put large things into the message",
        wire::MAX_METADATA
    );
    Err(IpcError::Status(Status::resource_exhausted(words).not_processed()))
}

fn wrong_length(promised: usize, written: usize) -> IpcError {
    IpcError::Encode(format!(
        "a message says that the frame needs {promised} bytes and writes {written}; \
         check its implementation of prost::Message"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope_of(buffer: &mut BytesMut, limit: usize) -> Envelope {
        let codec = FrameCodec::new(Crc32Variant::Ieee, limit);
        Envelope::decode(codec.decode_frame(buffer).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_in_place_is_what_prost_would_write() {
        let encoder = Encoder::new(Crc32Variant::Ieee, 4096);
        let mut metadata = Metadata::new();
        metadata.append("k", "v").unwrap();
        metadata.append("empty", "").unwrap();
        for message in [String::new(), "x".repeat(300)] {
            let mut rest = BytesMut::new();
            encoder.put_open_rest(&mut rest, &metadata, Some((&message, message.encoded_len()))).unwrap();
            let mut buffer = BytesMut::new();
            encoder.put_open(&mut buffer, 300, "/a.B/C", 5, OpenRest::Inline(&rest)).unwrap();
            let apart = OpenRest::Apart { length: rest.len(), sum: Crc32Variant::Ieee.checksum(&rest) };
            encoder.put_open(&mut buffer, 301, "/a.B/C", 0, apart).unwrap();
            buffer.extend_from_slice(&rest);
            encoder.put_item(&mut buffer, 1, &message, message.encoded_len()).unwrap();
            encoder
                .put_close(
                    &mut buffer,
                    1,
                    &metadata,
                    &Metadata::new(),
                    Some((&message, Encode::length(&message))),
                )
                .unwrap();
            let mut again = BytesMut::new();
            let mut left = buffer.clone();
            for _ in 0..4 {
                let envelope = envelope_of(&mut left, 4096);
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
        let Some(WireBody::Close(close)) = envelope_of(&mut buffer, 4096).body else { panic!("a Close") };
        assert!(close.headers.pairs.is_empty() && close.not_processed);
        let wire = close.status.unwrap();
        assert!(wire.details.list.is_empty());
        assert!(wire.message.len() > 4000, "{}", wire.message.len());

        encoder.put_go_away(&mut buffer, u64::MAX, &status, u32::MAX).unwrap();
        assert!(matches!(envelope_of(&mut buffer, 4096).body, Some(WireBody::GoAway(_))));

        let body = WireBody::Headers(wire::WireHeaders { metadata: Pairs::from(&headers) });
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
        let Some(WireBody::Close(close)) = envelope_of(&mut buffer, 4096).body else { panic!("a Close") };
        let pairs = (close.headers.pairs.len(), close.trailers.pairs.len());
        assert_eq!((pairs, close.not_processed), ((1, 1), false));
        assert_eq!(close.status.unwrap().details.list.len(), 1);
    }

    #[test]
    fn metadata_above_its_limit_is_refused_before_anything_is_written_and_cut_from_an_error() {
        let encoder = Encoder::new(Crc32Variant::Ieee, 1 << 20);
        let mut metadata = Metadata::new();
        metadata.append("k", vec![0; wire::MAX_METADATA - 33]).unwrap();
        let mut buffer = BytesMut::new();
        encoder.put_open_rest(&mut buffer, &metadata, None).unwrap();
        metadata.append("k", "").unwrap();
        buffer.clear();
        let refused = encoder.put_open_rest(&mut buffer, &metadata, None).unwrap_err();
        assert_eq!(refused.code(), crate::status::Code::ResourceExhausted);
        assert!(buffer.is_empty() && !refused.request_sent());
        let status = Status::aborted("m").with_metadata(metadata);
        encoder.put_error(&mut buffer, 1, &Metadata::new(), &status, false).unwrap();
        let Some(WireBody::Close(close)) = envelope_of(&mut buffer, 1 << 20).body else { panic!("a Close") };
        assert!(close.trailers.pairs.is_empty());
    }
}
