//! The messages of `proto/ipc/wire/v1/wire.proto` as they are on the wire.
//!
//! Most are derived by prost. Those with metadata or details are written by hand, because these are judged while they are
//! read ([`Pairs`], [`Details`]). Nothing here judges calls.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, WireType, bool, bytes as field, int32, message, skip_field, string, uint64,
};
use prost::{DecodeError, Message};
use prost_types::Any;

use crate::metadata::Metadata;
use crate::status::{Code, Status};
use crate::text::ByteStr;

/// Metadata of one kind counts at most this (wire protocol, section 5).
pub(crate) const MAX_METADATA: usize = 64 * 1024;

/// What a pair counts beyond its key and value.
const PAIR_OVERHEAD: usize = 32;

/// A status keeps its details up to this number. The frame bounds what is in them, but an empty one is two bytes on the
/// wire and a hundred in memory.
const MAX_DETAILS: usize = 1024;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(uint64, tag = "1")]
    pub(crate) call_id: u64,
    #[prost(oneof = "WireBody", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(crate) body: Option<WireBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum WireBody {
    #[prost(message, tag = "2")]
    Hello(Hello),
    #[prost(message, tag = "3")]
    Open(WireOpen),
    #[prost(message, tag = "4")]
    Headers(WireHeaders),
    #[prost(message, tag = "5")]
    Item(WireItem),
    #[prost(message, tag = "6")]
    HalfClose(Empty),
    #[prost(message, tag = "7")]
    Close(WireClose),
    #[prost(message, tag = "8")]
    Cancel(Empty),
    #[prost(message, tag = "9")]
    Credit(WireCredit),
    #[prost(message, tag = "10")]
    Ping(Nonce),
    #[prost(message, tag = "11")]
    Pong(Nonce),
    #[prost(message, tag = "12")]
    GoAway(GoAway),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) max_frame_bytes: u64,
    /// Kept as a number, so that a variant from the future is told apart and refused.
    #[prost(int32, tag = "3")]
    pub(crate) crc32_variant: i32,
    #[prost(uint32, tag = "4")]
    pub(crate) max_concurrent_calls: u32,
    #[prost(uint64, tag = "5")]
    pub(crate) initial_credit: u64,
    #[prost(fixed64, tag = "6")]
    pub(crate) instance_id: u64,
    #[prost(message, repeated, tag = "7")]
    pub(crate) services: Vec<ServiceInfo>,
    #[prost(string, tag = "8")]
    pub(crate) peer_version: String,
    #[prost(uint64, tag = "9")]
    pub(crate) max_request_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ServiceInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) fingerprint: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WireItem {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) message: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct WireCredit {
    #[prost(uint64, tag = "1")]
    pub(crate) amount: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Nonce {
    #[prost(fixed64, tag = "1")]
    pub(crate) nonce: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GoAway {
    #[prost(uint64, tag = "1")]
    pub(crate) last_call_id: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) status: Option<WireStatus>,
    #[prost(uint32, tag = "3")]
    pub(crate) retry_after_ms: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WireStatus {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) details: Details,
}

impl WireStatus {
    pub(crate) fn of(status: &Status) -> Self {
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Details { list: status.details().to_vec(), seen: status.details().len() },
        }
    }

    pub(crate) fn into_status(self) -> Status {
        Status::new(Code::from(self.code), self.message).with_details(self.details.list)
    }
}

impl Message for WireStatus {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if self.code != 0 {
            int32::encode(1, &self.code, buffer);
        }
        if !self.message.is_empty() {
            string::encode(2, &self.message, buffer);
        }
        message::encode_repeated(3, &self.details.list, buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => int32::merge(wire_type, &mut self.code, buffer, context),
            2 => string::merge(wire_type, &mut self.message, buffer, context),
            3 => self.details.merge(wire_type, buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let code = if self.code == 0 { 0 } else { int32::encoded_len(1, &self.code) };
        let message = if self.message.is_empty() { 0 } else { string::encoded_len(2, &self.message) };
        code + message + message::encoded_len_repeated(3, &self.details.list)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The details of a status. Above [`MAX_DETAILS`] they are counted and none is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Details {
    pub(crate) list: Vec<Any>,
    /// How many have arrived.
    seen: usize,
}

impl Details {
    /// Drops all details.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn merge(
        &mut self,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut detail = Any::default();
        message::merge(wire_type, &mut detail, buffer, context)?;
        self.seen = self.seen.saturating_add(1);
        if self.seen > MAX_DETAILS {
            self.list = Vec::new();
        } else {
            self.list.push(detail);
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Text.
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

impl Message for Pair {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if !self.key.is_empty() {
            field::encode(1, &self.key, buffer);
        }
        if !self.value.is_empty() {
            field::encode(2, &self.value, buffer);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => merge_text(wire_type, &mut self.key, buffer, context),
            2 => field::merge(wire_type, &mut self.value, buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let key = if self.key.is_empty() { 0 } else { field::encoded_len(1, &self.key) };
        let value = if self.value.is_empty() { 0 } else { field::encoded_len(2, &self.value) };
        key + value
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Metadata of one kind. What is above [`MAX_METADATA`] is counted and not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    pub(crate) pairs: Vec<Pair>,
    cost: usize,
}

impl Pairs {
    /// Whether there is more than the protocol allows; then no pair was kept.
    pub(crate) const fn is_too_large(&self) -> bool {
        self.cost > MAX_METADATA
    }

    /// Drops all pairs.
    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
        self.cost = 0;
    }

    /// The pairs as metadata. Of a frame of `frame_len` bytes that is much larger than they are, nothing is kept alive.
    pub(crate) fn into_metadata(self, frame_len: usize) -> Metadata {
        let mut metadata = Metadata::new();
        if self.pairs.is_empty() {
            return metadata;
        }
        let copied = (frame_len > 2 * self.cost).then(|| {
            let bytes = self.pairs.iter().flat_map(|pair| [&pair.key[..], &pair.value]);
            let mut all = BytesMut::with_capacity(self.cost);
            bytes.for_each(|part| all.extend_from_slice(part));
            all.freeze()
        });
        let mut rest = copied;
        for Pair { key, value } in self.pairs {
            let (key, value) = match &mut rest {
                Some(rest) => (rest.split_to(key.len()), rest.split_to(value.len())),
                None => (key, value),
            };
            // It was found to be text when it was read.
            if let Some(key) = ByteStr::from_utf8(key) {
                metadata.push_unchecked(key, value);
            }
        }
        metadata
    }

    fn merge(
        &mut self,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut pair = Pair::default();
        message::merge(wire_type, &mut pair, buffer, context)?;
        self.cost = self.cost.saturating_add(pair.key.len() + pair.value.len() + PAIR_OVERHEAD);
        if self.is_too_large() {
            self.pairs = Vec::new();
        } else {
            self.pairs.push(pair);
        }
        Ok(())
    }
}

impl From<&Metadata> for Pairs {
    fn from(metadata: &Metadata) -> Self {
        let pair = |(key, value): (&str, &Bytes)| Pair {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.clone(),
        };
        Self { pairs: metadata.iter().map(pair).collect(), cost: cost_of(metadata) }
    }
}

/// What metadata counts towards [`MAX_METADATA`].
pub(crate) fn cost_of(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len() + PAIR_OVERHEAD).sum()
}

/// A string field that stays a part of the frame.
///
/// # Errors
///
/// It is not UTF-8, even if the same field follows once more.
fn merge_text(
    wire_type: WireType,
    text: &mut Bytes,
    buffer: &mut impl Buf,
    context: DecodeContext,
) -> Result<(), DecodeError> {
    field::merge(wire_type, text, buffer, context)?;
    if std::str::from_utf8(text).is_err() {
        return Err(not_text());
    }
    Ok(())
}

/// prost keeps the constructor of its error to itself: let it judge a string field of its own.
fn not_text() -> DecodeError {
    match String::decode(&[0x0a, 0x01, 0xff][..]) {
        Err(error) => error,
        Ok(_) => unreachable!("a byte of 0xff is not UTF-8"),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WireOpen {
    pub(crate) method: Bytes,
    pub(crate) timeout_us: u64,
    pub(crate) metadata: Pairs,
    pub(crate) end_of_stream: bool,
    pub(crate) message: Option<Bytes>,
}

impl Message for WireOpen {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if !self.method.is_empty() {
            field::encode(1, &self.method, buffer);
        }
        if self.timeout_us != 0 {
            uint64::encode(2, &self.timeout_us, buffer);
        }
        message::encode_repeated(3, &self.metadata.pairs, buffer);
        if self.end_of_stream {
            bool::encode(4, &self.end_of_stream, buffer);
        }
        if let Some(message) = &self.message {
            field::encode(5, message, buffer);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => merge_text(wire_type, &mut self.method, buffer, context),
            2 => uint64::merge(wire_type, &mut self.timeout_us, buffer, context),
            3 => self.metadata.merge(wire_type, buffer, context),
            4 => bool::merge(wire_type, &mut self.end_of_stream, buffer, context),
            5 => field::merge(wire_type, self.message.get_or_insert_default(), buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let method = if self.method.is_empty() { 0 } else { field::encoded_len(1, &self.method) };
        let timeout = if self.timeout_us == 0 { 0 } else { uint64::encoded_len(2, &self.timeout_us) };
        let end = if self.end_of_stream { 2 } else { 0 };
        let message = self.message.as_ref().map_or(0, |message| field::encoded_len(5, message));
        method + timeout + message::encoded_len_repeated(3, &self.metadata.pairs) + end + message
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WireHeaders {
    pub(crate) metadata: Pairs,
}

impl Message for WireHeaders {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        message::encode_repeated(1, &self.metadata.pairs, buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => self.metadata.merge(wire_type, buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        message::encoded_len_repeated(1, &self.metadata.pairs)
    }

    fn clear(&mut self) {
        self.metadata.clear();
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WireClose {
    pub(crate) status: Option<WireStatus>,
    pub(crate) headers: Pairs,
    pub(crate) trailers: Pairs,
    pub(crate) message: Option<Bytes>,
    pub(crate) not_processed: bool,
}

impl Message for WireClose {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if let Some(status) = &self.status {
            message::encode(1, status, buffer);
        }
        message::encode_repeated(2, &self.headers.pairs, buffer);
        message::encode_repeated(3, &self.trailers.pairs, buffer);
        if let Some(message) = &self.message {
            field::encode(4, message, buffer);
        }
        if self.not_processed {
            bool::encode(5, &self.not_processed, buffer);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => message::merge(wire_type, self.status.get_or_insert_default(), buffer, context),
            2 => self.headers.merge(wire_type, buffer, context),
            3 => self.trailers.merge(wire_type, buffer, context),
            4 => field::merge(wire_type, self.message.get_or_insert_default(), buffer, context),
            5 => bool::merge(wire_type, &mut self.not_processed, buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        self.status.as_ref().map_or(0, |status| message::encoded_len(1, status))
            + message::encoded_len_repeated(2, &self.headers.pairs)
            + message::encoded_len_repeated(3, &self.trailers.pairs)
            + self.message.as_ref().map_or(0, |message| field::encoded_len(4, message))
            + if self.not_processed { 2 } else { 0 }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_with(details: usize) -> WireStatus {
        let details = vec![Any::default(); details];
        let status = Status::aborted("why").with_details(details);
        WireStatus::decode(&*WireStatus::of(&status).encode_to_vec()).unwrap()
    }

    #[test]
    fn a_status_with_too_many_details_keeps_its_code_and_message_alone() {
        let most = status_with(MAX_DETAILS).into_status();
        assert_eq!(most.details().len(), MAX_DETAILS);
        let wire = status_with(MAX_DETAILS + 1);
        assert_eq!(wire.details.list.capacity(), 0);
        let status = wire.into_status();
        assert_eq!((status.code(), status.message(), status.details().len()), (Code::Aborted, "why", 0));
    }

    #[test]
    fn one_large_detail_is_kept() {
        let detail = Any { type_url: "type".to_owned(), value: vec![7; 1 << 20] };
        let wire = WireStatus::of(&Status::aborted("why").with_any(detail.clone()));
        let status = WireStatus::decode(&*wire.encode_to_vec()).unwrap().into_status();
        assert_eq!(status.details(), [detail]);
    }
}
