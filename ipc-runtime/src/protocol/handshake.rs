//! The first frame in each direction: a Hello, or a refusal in its place (wire protocol, section 3).
//!
//! It checks the peer's Hello and computes the terms of the connection. It must not know services, calls or the limits of
//! connections. It does no I/O.

use std::time::Duration;

use bytes::BytesMut;

use super::encode::Encoder;
use super::envelope::wire::WireBody;
use super::envelope::{Body, Hello, Inbound, MAX_CREDIT, VERSION};
use super::frame::{FrameCodec, FrameReader};
use crate::config::{Crc32Variant, IpcConfig, MIN_MAX_FRAME_BYTES};
use crate::error::IpcError;
use crate::status::Status;

/// The largest Hello, and the largest `GoAway` in place of one.
const MAX_HELLO_BYTES: usize = 65_536;

/// Encodes Hellos, and a `GoAway` in place of one.
pub(crate) const HELLO_ENCODER: Encoder = Encoder::new(Crc32Variant::Ieee, MAX_HELLO_BYTES);

/// Reads the first frame.
pub(crate) fn hello_reader() -> FrameReader {
    FrameReader::new(FrameCodec::new(Crc32Variant::Ieee, MAX_HELLO_BYTES))
}

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It connected.
    Client,
    /// It accepted.
    Server,
}

/// The limits of one side for calls that the other side opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallLimits {
    /// How many calls may be open at once.
    pub(crate) calls: u32,
    /// The total size of the messages in the `Open`s of all open calls.
    pub(crate) request_bytes: u64,
}

/// The agreed terms of a connection, from this side's view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) role: Role,
    pub(crate) variant: Crc32Variant,
    /// The largest frame this side accepts.
    pub(crate) max_frame_bytes: usize,
    /// The largest frame this side may send: the smaller of both sides' limits.
    pub(crate) send_limit: usize,
    /// The credit with which each call starts: the credit this side gives, and the credit the peer gives.
    pub(crate) window: u64,
    pub(crate) peer_window: u64,
    /// This side's limits, and the peer's limits.
    pub(crate) own_limits: CallLimits,
    pub(crate) peer_limits: CallLimits,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
}

impl Terms {
    /// Checks a peer's Hello against this side's Hello.
    ///
    /// # Errors
    ///
    /// The refusal that the protocol's table prescribes.
    pub(crate) fn agree(role: Role, config: &IpcConfig, own: &Hello, peer: &Hello) -> Result<Self, Status> {
        if peer.version == 0 {
            return Err(Status::failed_precondition(format!(
                "protocol version 0 is not spoken here, version {VERSION} is"
            )));
        }
        let variant = config.crc32_variant;
        if peer.crc32_variant != number(variant) {
            return Err(Status::failed_precondition(format!(
                "checksum variants differ: {variant} here, {} there; set crc32_variant alike on both sides",
                name(peer.crc32_variant)
            )));
        }
        if peer.max_frame_bytes < MIN_MAX_FRAME_BYTES as u64 {
            return Err(Status::invalid_argument(format!(
                "max_frame_bytes is {}, below {MIN_MAX_FRAME_BYTES}",
                peer.max_frame_bytes
            )));
        }
        if peer.initial_credit > MAX_CREDIT {
            return Err(Status::invalid_argument(format!(
                "initial_credit is {}, above 2^62",
                peer.initial_credit
            )));
        }
        let peer_limit = usize::try_from(peer.max_frame_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            role,
            variant,
            max_frame_bytes: config.max_frame_bytes,
            send_limit: config.max_frame_bytes.min(peer_limit),
            window: own.initial_credit,
            peer_window: peer.initial_credit,
            own_limits: limits(own),
            peer_limits: limits(peer),
            read_timeout: config.read_timeout(),
            write_timeout: config.write_timeout(),
        })
    }
}

/// The limits for calls in a Hello. If it has no limit for bytes, there is none.
const fn limits(hello: &Hello) -> CallLimits {
    let request_bytes = if hello.max_request_bytes == 0 { u64::MAX } else { hello.max_request_bytes };
    CallLimits { calls: hello.max_concurrent_calls, request_bytes }
}

/// The fields of every Hello. A server adds its own fields.
pub(crate) fn hello(config: &IpcConfig, window: u64, peer_version: &str) -> Hello {
    Hello {
        version: VERSION,
        max_frame_bytes: config.max_frame_bytes as u64,
        crc32_variant: number(config.crc32_variant),
        initial_credit: window,
        peer_version: peer_version.to_owned(),
        ..Hello::default()
    }
}

/// Encodes a Hello.
///
/// # Errors
///
/// [`IpcError::TooLarge`] if the services or the version do not fit a Hello.
pub(crate) fn encode_hello(hello: Hello) -> Result<BytesMut, IpcError> {
    let mut frame = BytesMut::new();
    HELLO_ENCODER.put(&mut frame, 0, WireBody::Hello(hello))?;
    Ok(frame)
}

/// The body of a first frame: a Hello, or a `GoAway` in place of one.
///
/// # Errors
///
/// A protocol error for any other frame.
pub(crate) fn first_body(inbound: Option<Inbound>) -> Result<Body, Status> {
    match inbound {
        Some(Inbound { id: 0, body: body @ (Body::Hello(_) | Body::GoAway(_)) }) => Ok(body),
        Some(Inbound { body, .. }) => {
            Err(Status::internal(format!("the first frame is not a Hello: {}", body.name())))
        }
        None => Err(Status::internal("the first frame is not a Hello")),
    }
}

const fn number(variant: Crc32Variant) -> i32 {
    match variant {
        Crc32Variant::Ieee => 0,
        Crc32Variant::Castagnoli => 1,
    }
}

fn name(number: i32) -> String {
    match number {
        0 => Crc32Variant::Ieee.to_string(),
        1 => Crc32Variant::Castagnoli.to_string(),
        other => format!("the unknown variant {other}"),
    }
}
