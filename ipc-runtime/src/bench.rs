//! A way for `bench/micro`, and for tests that count memory, to what is private here. It is no API: the feature
//! `bench-internals` is for this repository alone, and this changes whenever the insides do.

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::protocol::encode::{Encoder, OpenRest};
use crate::protocol::envelope::{self, Inbound};
use crate::protocol::frame::{Frame, LARGE_MESSAGE};
use crate::protocol::growth;
use crate::server::router::{Router, Service};

/// Writes whole frames; one that is above the limit is left out.
#[derive(Debug)]
pub struct Envelopes(Encoder);

impl Envelopes {
    /// For frames of at most `limit` message bytes.
    #[must_use]
    pub const fn new(variant: Crc32Variant, limit: usize) -> Self {
        Self(Encoder::new(variant, limit))
    }

    /// The request of a unary call.
    pub fn open(
        &self,
        buffer: &mut BytesMut,
        id: u64,
        method: &str,
        timeout_us: u64,
        message: &impl Message,
    ) {
        let mut rest = BytesMut::new();
        if self.0.put_open_rest(&mut rest, &Metadata::new(), Some((message, message.encoded_len()))).is_ok() {
            _ = self.0.put_open(buffer, id, method, timeout_us, OpenRest::Inline(&rest));
        }
    }

    /// One item of a stream.
    pub fn item(&self, buffer: &mut BytesMut, id: u64, message: &impl Message) {
        _ = self.0.put_item(buffer, id, message, message.encoded_len());
    }

    /// The answer of a unary call.
    pub fn close(&self, buffer: &mut BytesMut, id: u64, message: &impl Message) {
        let empty = Metadata::new();
        _ = self.0.put_close(buffer, id, &empty, &empty, Some((message, message.encoded_len())));
    }
}

/// The call id of any envelope.
///
/// # Errors
///
/// [`IpcError::Decode`] if the bytes are no envelope.
pub fn decode(frame: &Bytes) -> Result<u64, IpcError> {
    let inbound = envelope::decode(Frame::Small(frame), &mut |_| Ok(0))?;
    Ok(inbound.map_or(0, |inbound| inbound.id))
}

/// What a connection keeps of an envelope.
#[derive(Debug)]
pub struct Kept(#[expect(dead_code, reason = "it is held, not read")] Inbound);

/// Decodes a frame's message as a connection does; `None` where it is not an envelope or has no body.
#[must_use]
pub fn keep(message: &[u8]) -> Option<Kept> {
    let frame = if message.len() > LARGE_MESSAGE {
        Frame::Large(Bytes::copy_from_slice(message))
    } else {
        Frame::Small(message)
    };
    envelope::decode(frame, &mut |_| Ok(0)).ok()?.map(Kept)
}

/// What a server charges for a message before it decodes it.
#[must_use]
pub fn estimate(message: &[u8]) -> u64 {
    growth::estimate(message)
}

/// The methods of a server.
#[derive(Debug, Default)]
pub struct Routes(Router);

impl Routes {
    /// With one more service.
    #[must_use]
    pub fn with(mut self, service: impl Service) -> Self {
        self.0.add(service);
        self
    }

    /// Whether somebody answers at this path.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.0.find(path.as_bytes(), &mut { usize::MAX }).is_ok()
    }
}
