//! The envelope: what a frame's message says. Decoding here, encoding in [`encode`].
//!
//! Mirrors `proto/ipc/wire/v1/wire.proto` with structs that keep payloads as slices of the frame. It does
//! no I/O and judges no call; what is legal when is for the connection and its two sides.

pub(crate) mod encode;
#[cfg(test)]
mod golden;
pub(crate) mod hot;
pub(crate) mod message;

use bytes::Bytes;
use prost::Message;
use prost_types::Any;

use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::{Code, Status};
use crate::text::ByteStr;

/// The highest protocol version this crate speaks.
pub(crate) const VERSION: u32 = 1;

/// Credits add up to this at most (wire protocol, section 6).
pub(crate) const MAX_CREDIT: u64 = 1 << 62;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(uint64, tag = "1")]
    pub(crate) call_id: u64,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "2")]
    Hello(Hello),
    #[prost(message, tag = "3")]
    Open(Open),
    #[prost(message, tag = "4")]
    Headers(Headers),
    #[prost(message, tag = "5")]
    Item(Item),
    #[prost(message, tag = "6")]
    HalfClose(Empty),
    #[prost(message, tag = "7")]
    Close(Close),
    #[prost(message, tag = "8")]
    Cancel(Empty),
    #[prost(message, tag = "9")]
    Credit(Credit),
    #[prost(message, tag = "10")]
    Ping(Nonce),
    #[prost(message, tag = "11")]
    Pong(Nonce),
    #[prost(message, tag = "12")]
    GoAway(GoAway),
}

impl Body {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Open(_) => "Open",
            Self::Headers(_) => "Headers",
            Self::Item(_) => "Item",
            Self::HalfClose(_) => "HalfClose",
            Self::Close(_) => "Close",
            Self::Cancel(_) => "Cancel",
            Self::Credit(_) => "Credit",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::GoAway(_) => "GoAway",
        }
    }

    /// Whether the body is about the connection itself and so has call id 0.
    pub(crate) const fn is_about_connection(&self) -> bool {
        matches!(self, Self::Hello(_) | Self::Ping(_) | Self::Pong(_) | Self::GoAway(_))
    }
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
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ServiceInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) fingerprint: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Open {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) method: Bytes,
    #[prost(uint64, tag = "2")]
    pub(crate) timeout_us: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<Pair>,
    #[prost(bool, tag = "4")]
    pub(crate) end_of_stream: bool,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) message: Option<Bytes>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Headers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Item {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) message: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Close {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<WireStatus>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) headers: Vec<Pair>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) trailers: Vec<Pair>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) message: Option<Bytes>,
    #[prost(bool, tag = "5")]
    pub(crate) not_processed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Credit {
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

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WireStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

impl WireStatus {
    pub(crate) fn of(status: &Status) -> Self {
        Self {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: status.details().to_vec(),
        }
    }

    pub(crate) fn into_status(self) -> Status {
        Status::new(Code::from(self.code), self.message).with_details(self.details)
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// Decodes a frame's message.
///
/// # Errors
///
/// [`IpcError::Decode`] if the bytes are no envelope, text that is not UTF-8 included.
pub(crate) fn decode(frame: Bytes) -> Result<Envelope, IpcError> {
    let envelope = Envelope::decode(frame)?;
    let pairs: [&[Pair]; 2] = match &envelope.body {
        Some(Body::Open(open)) => {
            check_text(&open.method)?;
            [&open.metadata, &[]]
        }
        Some(Body::Headers(headers)) => [&headers.metadata, &[]],
        Some(Body::Close(close)) => [&close.headers, &close.trailers],
        _ => [&[], &[]],
    };
    for pair in pairs.into_iter().flatten() {
        check_text(&pair.key)?;
    }
    Ok(envelope)
}

/// Metadata from pairs whose keys [`decode`] has found to be text.
pub(crate) fn metadata(pairs: Vec<Pair>) -> Metadata {
    let mut metadata = Metadata::new();
    for pair in pairs {
        if let Some(key) = ByteStr::from_utf8(pair.key) {
            metadata.push_unchecked(key, pair.value);
        }
    }
    metadata
}

fn check_text(bytes: &Bytes) -> Result<(), IpcError> {
    if std::str::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    // prost keeps the constructor of its error to itself: let it judge a string field of its own.
    String::decode(&[0x0a, 0x01, 0xff][..])?;
    Ok(())
}
