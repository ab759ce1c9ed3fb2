//! Frames: length, checksum, message. Pure and incremental; does no I/O and knows no envelope.
//!
//! ```text
//! 0        4        8                      8+N
//! +--------+--------+----------------------+
//! | length | crc32  | message (N bytes)    |
//! | u32 LE | u32 LE |                      |
//! +--------+--------+----------------------+
//! ```
//!
//! `length` is N; the checksum covers the N message bytes. The codec is public because deployed `DaemonEye`
//! components speak these frames with a bare message and the Castagnoli checksum.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::config::Crc32Variant;
use crate::error::IpcError;

/// Bytes of a frame before its message.
pub(crate) const HEADER_LEN: usize = 8;

/// What a read makes room for at first. A header's promise alone never costs more.
pub(crate) const READ_STEP: usize = 16 * 1024;

/// Puts messages into frames and takes them out again.
///
/// ```
/// use bytes::BytesMut;
/// use ipc_runtime::{Crc32Variant, FrameCodec};
///
/// # fn main() -> Result<(), ipc_runtime::IpcError> {
/// let codec = FrameCodec::new(Crc32Variant::Castagnoli, 1024);
/// let mut buffer = BytesMut::new();
/// codec.encode(&"hello".to_owned(), &mut buffer)?;
/// let message: String = codec.decode(&mut buffer)?.expect("a whole frame is there");
/// assert_eq!(message, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCodec {
    variant: Crc32Variant,
    max_frame_bytes: usize,
}

impl FrameCodec {
    /// A codec for frames with this checksum and at most `max_frame_bytes` message bytes.
    #[must_use]
    pub const fn new(variant: Crc32Variant, max_frame_bytes: usize) -> Self {
        Self { variant, max_frame_bytes }
    }

    /// Appends one frame that carries `message`.
    ///
    /// # Errors
    ///
    /// [`IpcError::InvalidLength`] if the message encodes to nothing, [`IpcError::TooLarge`] if it is above
    /// the limit; nothing is appended then.
    pub fn encode(&self, message: &impl Message, buffer: &mut BytesMut) -> Result<(), IpcError> {
        self.encode_with(message.encoded_len(), buffer, |buffer| message.encode_raw(buffer))
    }

    /// Appends one frame of `length` message bytes, which `write` appends.
    pub(crate) fn encode_with(
        &self,
        length: usize,
        buffer: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), IpcError> {
        let header = self.check_length(length)?;
        buffer.reserve(HEADER_LEN + length);
        buffer.put_u32_le(header);
        buffer.put_u32_le(0);
        let start = buffer.len();
        write(buffer);
        debug_assert_eq!(buffer.len() - start, length, "a message that encodes to another length");
        let checksum = self.variant.checksum(&buffer[start..]);
        buffer[start - 4..start].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// Takes the next message off the front of `buffer` and decodes it; `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// As [`decode_frame`](Self::decode_frame), and [`IpcError::Decode`] if the bytes are no `M`.
    pub fn decode<M: Message + Default>(&self, buffer: &mut BytesMut) -> Result<Option<M>, IpcError> {
        Ok(self.decode_frame(buffer)?.map(M::decode).transpose()?)
    }

    /// Takes the next message's bytes off the front of `buffer`; `None` while they are incomplete.
    ///
    /// The bytes share the buffer's memory. The length is judged as soon as its four bytes are there.
    ///
    /// # Errors
    ///
    /// [`IpcError::InvalidLength`] for a length of 0, [`IpcError::TooLarge`] for one above the limit,
    /// [`IpcError::CrcMismatch`] for a damaged message. The stream can't be trusted after any of them.
    pub fn decode_frame(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, IpcError> {
        let Some(length) = self.announced(buffer)? else { return Ok(None) };
        if buffer.len() < HEADER_LEN + length {
            return Ok(None);
        }
        let mut frame = buffer.split_to(HEADER_LEN + length).freeze();
        frame.advance(4);
        let expected = frame.get_u32_le();
        let actual = self.variant.checksum(&frame);
        if expected != actual {
            return Err(IpcError::CrcMismatch { expected, actual });
        }
        Ok(Some(frame))
    }

    /// How many bytes of the frame at the front of `buffer` are still to come; `None` where it has not begun
    /// or its length is not known yet.
    pub(crate) fn missing(&self, buffer: &BytesMut) -> Option<usize> {
        let length = self.announced(buffer).ok()??;
        (HEADER_LEN + length).checked_sub(buffer.len())
    }

    /// Makes room for the next read: `step`, and more the more of a frame has already arrived.
    pub(crate) fn reserve(&self, buffer: &mut BytesMut, step: usize) {
        let missing = self.missing(buffer).unwrap_or(0);
        let room = missing.min(buffer.len()).max(step);
        if buffer.capacity() - buffer.len() < room.min(missing.max(step / 4)) {
            buffer.reserve(room);
        }
    }

    fn announced(&self, buffer: &BytesMut) -> Result<Option<usize>, IpcError> {
        let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        self.check_length(length)?;
        Ok(Some(length))
    }

    fn check_length(&self, length: usize) -> Result<u32, IpcError> {
        if length == 0 {
            return Err(IpcError::InvalidLength { length });
        }
        match u32::try_from(length) {
            Ok(header) if length <= self.max_frame_bytes => Ok(header),
            _ => Err(IpcError::TooLarge { size: length, max_size: self.max_frame_bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODEC: FrameCodec = FrameCodec::new(Crc32Variant::Ieee, 64);

    fn frame_of(length: usize) -> Result<BytesMut, IpcError> {
        let mut buffer = BytesMut::new();
        CODEC.encode_with(length, &mut buffer, |b| b.put_bytes(7, length))?;
        Ok(buffer)
    }

    #[test]
    fn the_limit_holds_at_its_edges_in_both_directions() {
        for length in [1, 63, 64] {
            let mut buffer = frame_of(length).unwrap();
            assert_eq!(CODEC.decode_frame(&mut buffer).unwrap().unwrap().len(), length);
            assert!(buffer.is_empty());
        }
        assert!(matches!(frame_of(65), Err(IpcError::TooLarge { size: 65, max_size: 64 })));
        assert!(matches!(frame_of(0), Err(IpcError::InvalidLength { length: 0 })));
        let mut buffer = BytesMut::from(&65_u32.to_le_bytes()[..]);
        assert!(matches!(
            CODEC.decode_frame(&mut buffer),
            Err(IpcError::TooLarge { size: 65, max_size: 64 })
        ));
    }

    #[test]
    fn a_header_alone_reserves_no_more_than_a_read_step() {
        let codec = FrameCodec::new(Crc32Variant::Ieee, usize::MAX);
        let mut buffer = BytesMut::with_capacity(HEADER_LEN);
        buffer.put_u32_le(u32::MAX);
        buffer.put_u32_le(0);
        codec.reserve(&mut buffer, READ_STEP);
        assert!(buffer.capacity() <= 2 * READ_STEP, "{}", buffer.capacity());
    }

    #[test]
    fn an_encoded_message_that_fails_leaves_the_buffer_as_it_was() {
        let mut buffer = frame_of(3).unwrap();
        let before = buffer.clone();
        assert!(CODEC.encode(&vec![0_u8; 100], &mut buffer).is_err());
        assert_eq!(buffer, before);
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(sizes in prop::collection::vec(1_usize..=64, 1..8), step in 1_usize..40) {
            let mut wire = BytesMut::new();
            for size in &sizes {
                wire.extend_from_slice(&frame_of(*size).unwrap());
            }
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(step) {
                CODEC.reserve(&mut buffer, READ_STEP);
                buffer.extend_from_slice(part);
                while let Some(frame) = CODEC.decode_frame(&mut buffer).unwrap() {
                    seen.push(frame.len());
                }
            }
            prop_assert_eq!(seen, sizes);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = CODEC.decode_frame(&mut buffer) {}
        }
    }
}
