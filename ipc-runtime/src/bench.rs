//! A way for `bench/micro` to what is private here. It is no API: the feature `bench-internals` is for this repository
//! alone, and this changes whenever the insides do.

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::server::router::{Router, Service};
use crate::wire::encode::{Encoder, OpenParts};
use crate::wire::{self, hot};

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
        let open = OpenParts { method, timeout_us, metadata: &Metadata::new(), message: Some(message) };
        _ = self.0.put_open(buffer, id, &open);
    }

    /// One item of a stream.
    pub fn item(&self, buffer: &mut BytesMut, id: u64, message: &impl Message) {
        _ = self.0.put_item(buffer, id, message, message.encoded_len());
    }

    /// The answer of a unary call.
    pub fn close(&self, buffer: &mut BytesMut, id: u64, message: &impl Message) {
        let empty = Metadata::new();
        _ = self.0.put_close(buffer, id, &empty, &empty, Some(message));
    }
}

/// The call id of any envelope.
///
/// # Errors
///
/// [`IpcError::Decode`] if the bytes are no envelope.
pub fn decode(frame: Bytes) -> Result<u64, IpcError> {
    wire::decode(frame).map(|envelope| envelope.call_id)
}

/// Whether the frame is one of those that most traffic is made of.
#[must_use]
pub fn recognise(frame: &Bytes) -> bool {
    hot::recognise(frame.clone()).is_ok()
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
