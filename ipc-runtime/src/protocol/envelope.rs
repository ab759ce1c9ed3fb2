//! The envelope: the content of a frame's message.
//!
//! [`decode`] turns a frame into an [`Inbound`]. Encoding is in [`encode`](super::encode). The connection checks whether an
//! envelope is legal in the state of its call.

#[cfg(test)]
mod golden;
mod plain;
pub(crate) mod wire;

use bytes::Bytes;
use prost::Message as _;

pub(crate) use self::plain::item as plain_item;
use self::wire::{Envelope, WireBody, WireClose, WireOpen};
pub(crate) use self::wire::{GoAway, Hello, ServiceInfo, WireStatus};
use super::frame::Frame;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::{Code, Status};

/// The highest protocol version this crate speaks.
pub(crate) const VERSION: u32 = 1;

/// The upper limit for the sum of all credit of a call (wire protocol, section 6).
pub(crate) const MAX_CREDIT: u64 = 1 << 62;

/// The content of a frame that has arrived.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// The id of its call; 0 for the connection itself.
    pub(crate) id: u64,
    pub(crate) body: Body,
}

/// The bodies of an envelope. A large part does not keep other memory alive.
#[derive(Debug)]
pub(crate) enum Body {
    Hello(Box<Hello>),
    Open(Open),
    Headers(Limited<Metadata>),
    Item(Bytes),
    /// Consecutive items of one call.
    Items(Vec<Bytes>),
    HalfClose,
    Close(Close),
    Cancel,
    Credit(u64),
    Ping(u64),
    /// The nonce is not kept, because any input shows that the peer is alive.
    Pong,
    GoAway(Box<GoAway>),
}

/// The target of a call: the index of its method, or an error if there is no such method.
pub(crate) type Target = Result<u32, Box<Status>>;

/// Metadata, or a mark that there was more than the protocol allows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Limited<T> {
    Within(T),
    TooLarge,
}

/// A call as its caller opens it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) target: Target,
    pub(crate) timeout_us: u64,
    pub(crate) metadata: Limited<Metadata>,
    pub(crate) end_of_stream: bool,
    pub(crate) message: Option<Bytes>,
}

/// The end of a call as its callee says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Close {
    pub(crate) message: Option<Bytes>,
    /// Parts that most ends don't have.
    pub(crate) more: Option<Box<CloseDetails>>,
}

/// The parts of a `Close` except its message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CloseDetails {
    /// `None` means OK.
    pub(crate) error: Option<Status>,
    pub(crate) metadata: Limited<CloseMetadata>,
    pub(crate) not_processed: bool,
}

/// The metadata of a `Close`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CloseMetadata {
    pub(crate) headers: Metadata,
    pub(crate) trailers: Metadata,
}

impl Body {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Open(_) => "Open",
            Self::Headers(_) => "Headers",
            Self::Item(_) | Self::Items(_) => "Item",
            Self::HalfClose => "HalfClose",
            Self::Close(_) => "Close",
            Self::Cancel => "Cancel",
            Self::Credit(_) => "Credit",
            Self::Ping(_) => "Ping",
            Self::Pong => "Pong",
            Self::GoAway(_) => "GoAway",
        }
    }

    /// Whether the body is about the connection itself, so that its call id is 0.
    pub(crate) const fn is_about_connection(&self) -> bool {
        matches!(self, Self::Hello(_) | Self::Ping(_) | Self::Pong | Self::GoAway(_))
    }
}

/// Decodes a frame's message. `None` if it has no body of a known kind. `resolve` finds the target of a method's calls.
///
/// # Errors
///
/// [`IpcError::Decode`] if the bytes are not an envelope, for example because a string is not UTF-8.
pub(crate) fn decode(
    frame: Frame<'_>,
    resolve: &mut dyn FnMut(&[u8]) -> Target,
) -> Result<Option<Inbound>, IpcError> {
    let bytes = match &frame {
        Frame::Small(bytes) => *bytes,
        Frame::Large(bytes) => &bytes[..],
    };
    if let Some((id, plain)) = plain::recognise(bytes) {
        let message = |at: usize| match &frame {
            Frame::Small(bytes) => Bytes::copy_from_slice(&bytes[at..]),
            Frame::Large(bytes) => bytes.slice(at..),
        };
        let body = match plain {
            plain::Plain::Item { message: at } => Body::Item(message(at)),
            plain::Plain::Answer { message: at } => {
                Body::Close(Close { message: Some(message(at)), more: None })
            }
            plain::Plain::Request { method, timeout_us, message: at } => Body::Open(Open {
                target: resolve(&bytes[method]),
                timeout_us,
                metadata: Limited::Within(Metadata::new()),
                end_of_stream: true,
                message: Some(message(at)),
            }),
        };
        return Ok(Some(Inbound { id, body }));
    }
    let bytes = match frame {
        Frame::Small(bytes) => Bytes::copy_from_slice(bytes),
        Frame::Large(bytes) => bytes,
    };
    decode_any(bytes, resolve)
}

/// Decodes whatever protobuf allows, which is more than this crate writes.
fn decode_any(frame: Bytes, resolve: &mut dyn FnMut(&[u8]) -> Target) -> Result<Option<Inbound>, IpcError> {
    let length = frame.len();
    let Envelope { call_id: id, body } = Envelope::decode(frame)?;
    let Some(body) = body else { return Ok(None) };
    let body = match body {
        WireBody::Hello(hello) => Body::Hello(Box::new(hello)),
        WireBody::Open(open) => {
            let WireOpen { method, timeout_us, metadata, end_of_stream, message } = open;
            Body::Open(Open {
                target: resolve(&method),
                timeout_us,
                metadata: limited(metadata, length),
                end_of_stream,
                message: message.map(|message| released(message, length)),
            })
        }
        WireBody::Headers(headers) => Body::Headers(limited(headers.metadata, length)),
        WireBody::Item(item) => Body::Item(released(item.message, length)),
        WireBody::HalfClose(_) => Body::HalfClose,
        WireBody::Close(close) => Body::Close(close_of(close, length)),
        WireBody::Cancel(_) => Body::Cancel,
        WireBody::Credit(credit) => Body::Credit(credit.amount),
        WireBody::Ping(ping) => Body::Ping(ping.nonce),
        WireBody::Pong(_) => Body::Pong,
        WireBody::GoAway(go_away) => Body::GoAway(Box::new(go_away)),
    };
    Ok(Some(Inbound { id, body }))
}

fn limited(pairs: wire::Pairs, frame_len: usize) -> Limited<Metadata> {
    if pairs.is_too_large() { Limited::TooLarge } else { Limited::Within(pairs.into_metadata(frame_len)) }
}

fn close_of(close: WireClose, frame_len: usize) -> Close {
    let WireClose { status, headers, trailers, message, not_processed } = close;
    let error = status.map(WireStatus::into_status).filter(|status| status.code() != Code::Ok);
    let metadata = match (limited(headers, frame_len), limited(trailers, frame_len)) {
        (Limited::Within(headers), Limited::Within(trailers)) => {
            Limited::Within(CloseMetadata { headers, trailers })
        }
        (Limited::TooLarge, _) | (_, Limited::TooLarge) => Limited::TooLarge,
    };
    let message = message.filter(|_| error.is_none()).map(|message| released(message, frame_len));
    let plain = error.is_none() && !not_processed && metadata == Limited::Within(CloseMetadata::default());
    let more = (!plain).then(|| Box::new(CloseDetails { error, metadata, not_processed }));
    Close { message, more }
}

/// A message from a frame of `frame_len` bytes. If the frame is much larger than the message, the message is copied, so
/// that it does not keep the frame alive.
fn released(message: Bytes, frame_len: usize) -> Bytes {
    // What an envelope has beside its message, and what a short copy costs anyway.
    const FRAME_OVERHEAD: usize = 32;
    if frame_len > message.len() + message.len() / 8 + FRAME_OVERHEAD {
        Bytes::copy_from_slice(&message)
    } else {
        message
    }
}
