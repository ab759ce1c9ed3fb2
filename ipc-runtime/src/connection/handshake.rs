//! The first frame each way: Hello, or a refusal in its place (wire protocol, section 3).
//!
//! It checks what a peer says of itself and works out what the connection runs on. It must not know
//! services or calls, nor who counts connections.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::driver::{BoxedRead, Ending, linger};
use super::writer::{BoxedWrite, Class, Writer};
use crate::config::{Crc32Variant, IpcConfig, MIN_MAX_FRAME_BYTES};
use crate::error::IpcError;
use crate::frame::FrameCodec;
use crate::status::Status;
use crate::wire::encode::Encoder;
use crate::wire::{self, Body, Envelope, Hello, MAX_CREDIT, VERSION};

/// No Hello, and no `GoAway` in place of one, is larger.
const MAX_HELLO_BYTES: usize = 65_536;

const ENCODER: Encoder = Encoder::new(Crc32Variant::Ieee, MAX_HELLO_BYTES);

/// What the two Hellos come to, from this side's view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) variant: Crc32Variant,
    pub(crate) max_frame_bytes: usize,
    /// The smaller of both sides' limits.
    pub(crate) send_limit: usize,
    pub(crate) window: u64,
    pub(crate) peer_window: u64,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
}

impl Agreed {
    /// Checks a peer's Hello against the own settings.
    ///
    /// # Errors
    ///
    /// The refusal that the protocol's table gives for it.
    pub(crate) fn check(config: &IpcConfig, window: u64, hello: &Hello) -> Result<Self, Status> {
        if hello.version == 0 {
            return Err(Status::failed_precondition(format!(
                "protocol version 0 is not spoken here, version {VERSION} is"
            )));
        }
        let own = config.crc32_variant;
        if hello.crc32_variant != number(own) {
            return Err(Status::failed_precondition(format!(
                "checksum variants differ: {own} here, {} there; set crc32_variant alike on both sides",
                name(hello.crc32_variant)
            )));
        }
        if hello.max_frame_bytes < MIN_MAX_FRAME_BYTES as u64 {
            return Err(Status::invalid_argument(format!(
                "max_frame_bytes is {}, below {MIN_MAX_FRAME_BYTES}",
                hello.max_frame_bytes
            )));
        }
        if hello.initial_credit > MAX_CREDIT {
            return Err(Status::invalid_argument(format!(
                "initial_credit is {}, above 2^62",
                hello.initial_credit
            )));
        }
        let peer_limit = usize::try_from(hello.max_frame_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            variant: own,
            max_frame_bytes: config.max_frame_bytes,
            send_limit: config.max_frame_bytes.min(peer_limit),
            window,
            peer_window: hello.initial_credit,
            read_timeout: config.read_timeout(),
            write_timeout: config.write_timeout(),
        })
    }
}

/// What every Hello says; a server adds its own to it.
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

/// Encodes a Hello, to be written as it is.
///
/// # Errors
///
/// [`IpcError::TooLarge`] where the services or the version do not fit a Hello.
pub(crate) fn encode_hello(hello: Hello) -> Result<BytesMut, IpcError> {
    let mut frame = BytesMut::new();
    ENCODER.put(&mut frame, 0, Body::Hello(hello))?;
    Ok(frame)
}

/// Writes bytes whole.
///
/// # Errors
///
/// What the stream says, and a timeout after `write_timeout`.
pub(crate) async fn write_all(
    output: &mut BoxedWrite,
    bytes: &[u8],
    write_timeout: Duration,
) -> Result<(), IpcError> {
    tokio::time::timeout(write_timeout, output.write_all(bytes)).await.map_err(|_| IpcError::Timeout)??;
    Ok(())
}

/// Reads the peer's first frame; what came after it stays in `buffer`.
///
/// # Errors
///
/// Why the connection ends, and what the peer is told of it.
pub(crate) async fn read_first(
    input: &mut BoxedRead,
    buffer: &mut BytesMut,
    limit: Duration,
) -> Result<Body, Ending> {
    let codec = FrameCodec::new(Crc32Variant::Ieee, MAX_HELLO_BYTES);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(frame) = codec.decode_frame(buffer).map_err(Ending::frame)? {
            return first_body(wire::decode(frame).map_err(Ending::frame)?);
        }
        codec.reserve(buffer, MIN_MAX_FRAME_BYTES);
        match tokio::time::timeout_at(deadline, input.read_buf(buffer)).await {
            Ok(Ok(0)) => return Err(Ending::silent(IpcError::PeerClosed)),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Ending::silent(error.into())),
            Err(_) => {
                let words = format!("no Hello within {} ms", limit.as_millis());
                let cause = io::Error::new(io::ErrorKind::TimedOut, words.clone());
                let go_away = Some(Box::new(Status::deadline_exceeded(words)));
                return Err(Ending { cause: IpcError::Io(cause), go_away });
            }
        }
    }
}

fn first_body(envelope: Envelope) -> Result<Body, Ending> {
    match envelope.body {
        Some(body @ (Body::Hello(_) | Body::GoAway(_))) if envelope.call_id == 0 => Ok(body),
        Some(body) => {
            Err(Ending::breach(Status::internal(format!("the first frame is no Hello: {}", body.name()))))
        }
        None => Err(Ending::breach(Status::internal("the first frame is no Hello"))),
    }
}

/// Says `GoAway` in place of a Hello or after it, and sees the connection off, so that the peer reads why.
pub(crate) async fn refuse(
    input: BoxedRead,
    output: BoxedWrite,
    encoder: Option<&Encoder>,
    status: &Status,
    retry_after: Duration,
) {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    let writer = Writer::new(output);
    let appended = writer.append(Class::Control, |buffer, _| {
        encoder.unwrap_or(&ENCODER).put_go_away(buffer, 0, status, retry_after_ms)
    });
    if appended.is_ok() {
        writer.end();
        linger(&writer, input).await;
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
