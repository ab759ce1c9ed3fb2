//! Frames and envelopes, made independently of the runtime: prost-build's messages and a framing of their own.
//!
//! It must not use anything of `ipc-runtime`, so that a mistake there does not excuse itself.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

#[expect(missing_docs, clippy::pedantic, reason = "generated; wire.proto documents it")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/ipc.wire.v1.rs"));
}

pub use generated::envelope::Body;
pub use generated::*;

/// Which checksum a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// IEEE 802.3.
    Ieee,
    /// CRC-32C.
    Castagnoli,
}

impl Checksum {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u32 {
        match self {
            Self::Ieee => crc32fast::hash(bytes),
            Self::Castagnoli => crc32c::crc32c(bytes),
        }
    }

    /// The number in a Hello.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Ieee => 0,
            Self::Castagnoli => 1,
        }
    }
}

/// A frame around any message bytes.
///
/// # Panics
///
/// If the message is longer than a frame can say.
#[must_use]
pub fn frame(checksum: Checksum, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a length of 32 bits");
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(checksum.of(message).to_le_bytes());
    frame.extend_from_slice(message);
    frame
}

/// A frame around an envelope.
#[must_use]
pub fn frame_of(checksum: Checksum, call_id: u64, body: impl Into<Body>) -> Vec<u8> {
    let envelope = Envelope { call_id, body: Some(body.into()) };
    frame(checksum, &envelope.encode_to_vec())
}

/// Takes a whole frame's message off the front of `input`, and checks it.
///
/// # Panics
///
/// If what the runtime wrote breaks the protocol.
pub fn take_frame(checksum: Checksum, input: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(u32::from_le_bytes(*input.first_chunk::<4>()?)).expect("64 bits");
    if input.len() < 8 + length {
        return None;
    }
    assert!(length > 0, "the runtime wrote a frame of no bytes");
    input.advance(4);
    let said = input.get_u32_le();
    let message = input.split_to(length).freeze();
    assert_eq!(said, checksum.of(&message), "the runtime wrote a frame with another checksum");
    Some(message)
}

macro_rules! bodies {
    ($($name:ident)*) => { $(
        impl From<$name> for Body {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        }
    )* };
}

bodies! { Hello Open Headers Item HalfClose Close Cancel Credit Ping Pong GoAway }

/// A Hello that every side accepts: version 1, IEEE, 1 MiB frames, 1 MiB of credit, 100 calls at once.
#[must_use]
pub fn hello() -> Hello {
    Hello {
        version: 1,
        max_frame_bytes: 1 << 20,
        max_concurrent_calls: 100,
        initial_credit: 1 << 20,
        ..Hello::default()
    }
}

/// A whole unary request.
#[must_use]
pub fn open(method: &str, message: impl Into<Bytes>) -> Open {
    Open { end_of_stream: true, message: Some(message.into()), ..open_stream(method) }
}

/// The beginning of a request whose messages follow.
#[must_use]
pub fn open_stream(method: &str) -> Open {
    Open { method: format!("/test.probe.v1.Probe/{method}"), ..Open::default() }
}

/// An item.
#[must_use]
pub fn item(message: impl Into<Bytes>) -> Item {
    Item { message: message.into() }
}

/// A successful end with a message.
#[must_use]
pub fn answer(message: impl Into<Bytes>) -> Close {
    Close { message: Some(message.into()), ..Close::default() }
}

/// An end with an error.
#[must_use]
pub fn refusal(code: i32, not_processed: bool) -> Close {
    Close { status: Some(status(code)), not_processed, ..Close::default() }
}

/// A status with some words.
#[must_use]
pub fn status(code: i32) -> Status {
    Status { code, message: "as the test says".to_owned(), details: Vec::new() }
}

/// A farewell.
#[must_use]
pub fn go_away(code: i32, last_call_id: u64) -> GoAway {
    GoAway { last_call_id, status: Some(status(code)), retry_after_ms: 0 }
}

/// Metadata of one pair.
#[must_use]
pub fn pair(key: &str, value: impl Into<Bytes>) -> Vec<Metadata> {
    vec![Metadata { key: key.to_owned(), value: value.into() }]
}

/// Permission to send more.
#[must_use]
pub const fn credit(amount: u64) -> Credit {
    Credit { amount }
}

/// A Ping.
#[must_use]
pub const fn ping(nonce: u64) -> Ping {
    Ping { nonce }
}

/// gRPC's status codes, by number.
#[expect(missing_docs, reason = "their names say it")]
pub mod code {
    pub const OK: i32 = 0;
    pub const CANCELLED: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const DEADLINE_EXCEEDED: i32 = 4;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const UNIMPLEMENTED: i32 = 12;
    pub const INTERNAL: i32 = 13;
    pub const UNAVAILABLE: i32 = 14;
    pub const DATA_LOSS: i32 = 15;
}
