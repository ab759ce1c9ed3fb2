//! Frames: length, checksum, message. Pure and incremental. It does no I/O and knows no envelope.
//!
//! ```text
//! 0        4        8                      8+N
//! +--------+--------+----------------------+
//! | length | crc32  | message (N bytes)    |
//! | u32 LE | u32 LE |                      |
//! +--------+--------+----------------------+
//! ```
//!
//! `length` is N. The checksum covers the N message bytes. The codec is public because deployed `DaemonEye`
//! components use these frames with a bare message and the Castagnoli checksum.

use bytes::buf::Limit;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use super::prefix::Prefix;
use super::spare::Spare;
use crate::config::Crc32Variant;
use crate::error::IpcError;

/// Bytes of a frame before its message.
pub(crate) const HEADER_LEN: usize = 8;

/// A message above this size is read into its own buffer.
pub(crate) const LARGE_MESSAGE: usize = 16 * 1024;

/// How much room a read reserves at first. Any frame that is not large fits. A header alone never reserves more.
const READ_STEP: usize = LARGE_MESSAGE + HEADER_LEN;

/// The most room that one read reserves.
const MAX_READ_STEP: usize = 16 * READ_STEP;

/// How much room a large message gets at first. After that, the room grows with the bytes that have arrived.
const FIRST_ROOM: usize = 128 * 1024;

/// After a large message, another is likely. This much of it is read ahead and copied. The rest is read directly into its
/// buffer.
const STEP_AFTER_LARGE: usize = 4 * 1024;

/// Encodes messages as frames and decodes frames.
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
    /// the limit. Nothing is appended then.
    pub fn encode(&self, message: &impl Message, buffer: &mut BytesMut) -> Result<(), IpcError> {
        self.encode_with(message.encoded_len(), buffer, |buffer| message.encode_raw(buffer))
    }

    /// Appends one frame of `length` message bytes. `write` appends the message.
    pub(crate) fn encode_with(
        &self,
        length: usize,
        buffer: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), IpcError> {
        self.encode_after(length, buffer, |buffer, header| {
            header.put(buffer);
            write(buffer);
        })
    }

    /// Appends one frame of `length` message bytes. `write` gets the header. It may add to the header, and appends the
    /// header and then the message.
    pub(super) fn encode_after(
        &self,
        length: usize,
        buffer: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut, Prefix),
    ) -> Result<(), IpcError> {
        let header = self.header(length)?;
        buffer.reserve(HEADER_LEN + length);
        let start = buffer.len() + HEADER_LEN;
        write(buffer, header);
        if buffer.len() - start != length {
            let written = buffer.len() - start;
            buffer.truncate(start - HEADER_LEN);
            return Err(IpcError::Encode(format!(
                "a message says that it has {length} bytes and writes {written}; \
                 check its implementation of prost::Message"
            )));
        }
        let checksum = self.variant.checksum(&buffer[start..]);
        buffer[start - 4..start].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// Takes the next message off the front of `buffer` and decodes it. `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// Like [`decode_frame`](Self::decode_frame). Also [`IpcError::Decode`] if the bytes are not a valid `M`.
    pub fn decode<M: Message + Default>(&self, buffer: &mut BytesMut) -> Result<Option<M>, IpcError> {
        Ok(self.decode_frame(buffer)?.map(M::decode).transpose()?)
    }

    /// Takes the next message's bytes off the front of `buffer`. `None` while they are incomplete.
    ///
    /// The bytes share the buffer's memory. The length is checked as soon as its four bytes have arrived.
    ///
    /// # Errors
    ///
    /// [`IpcError::InvalidLength`] for a length of 0, [`IpcError::TooLarge`] for one above the limit,
    /// [`IpcError::CrcMismatch`] for a damaged message. After any of these errors, the stream can't be used any further.
    pub fn decode_frame(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, IpcError> {
        let Some(length) = self.announced(buffer)? else { return Ok(None) };
        if buffer.len() < HEADER_LEN + length {
            return Ok(None);
        }
        let mut frame = buffer.split_to(HEADER_LEN + length).freeze();
        frame.advance(4);
        let expected = frame.get_u32_le();
        self.check_sum(expected, &frame)?;
        Ok(Some(frame))
    }

    fn check_sum(&self, expected: u32, message: &[u8]) -> Result<(), IpcError> {
        let actual = self.variant.checksum(message);
        if expected == actual { Ok(()) } else { Err(IpcError::CrcMismatch { expected, actual }) }
    }

    fn announced(&self, buffer: &[u8]) -> Result<Option<usize>, IpcError> {
        let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        self.check_length(length)?;
        Ok(Some(length))
    }

    /// The header of a frame of `length` message bytes. Its checksum is filled in later.
    pub(super) fn header(&self, length: usize) -> Result<Prefix, IpcError> {
        let [a, b, c, d] = self.check_length(length)?.to_le_bytes();
        Ok(Prefix::after([a, b, c, d, 0, 0, 0, 0]))
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

/// A message taken out of its frame.
#[derive(Clone, Debug)]
pub(crate) enum Frame<'a> {
    /// In the reader's own buffer. The next read overwrites it.
    Small(&'a [u8]),
    /// In a buffer of its own.
    Large(Bytes),
}

/// Takes the frames of one connection out of the bytes that arrive.
///
/// Small frames share one buffer, which is reused. A large message is read into a buffer of exactly its size, so keeping it
/// does not keep other memory alive.
#[derive(Debug)]
pub(crate) struct FrameReader {
    codec: FrameCodec,
    buffer: Vec<u8>,
    /// The bytes before this position were handed out.
    start: usize,
    step: usize,
    large: Option<LargeMessage>,
    spare: Spare,
}

/// A large message that has partly arrived.
#[derive(Debug)]
struct LargeMessage {
    expected_sum: u32,
    length: usize,
    bytes: Vec<u8>,
}

impl FrameReader {
    pub(crate) fn new(codec: FrameCodec) -> Self {
        Self { codec, buffer: Vec::new(), start: 0, step: READ_STEP, large: None, spare: Spare::default() }
    }

    /// Switches to another codec, after the Hellos. Bytes that have already arrived are kept.
    pub(crate) const fn switch(&mut self, codec: FrameCodec) {
        self.codec = codec;
    }

    /// The buffer for the next read.
    pub(crate) fn room(&mut self) -> Limit<&mut Vec<u8>> {
        if let Some(large) = &mut self.large {
            let missing = large.length - large.bytes.len();
            if large.bytes.capacity() == large.bytes.len() {
                large.bytes.reserve_exact(missing.min(large.bytes.len().max(FIRST_ROOM)));
            }
            let room = missing.min(large.bytes.capacity() - large.bytes.len());
            return (&mut large.bytes).limit(room);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start.., 0);
            self.buffer.truncate(self.buffer.len() - self.start);
            self.start = 0;
        }
        let capacity = self.step.max(READ_STEP);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * capacity {
            self.buffer = Vec::new();
        }
        if self.buffer.capacity() < capacity {
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        // A frame that is not large fits, however little is read ahead.
        let room = if self.buffer.len() < self.step { self.step } else { self.buffer.capacity() };
        let room = room.min(self.buffer.capacity()) - self.buffer.len();
        (&mut self.buffer).limit(room)
    }

    /// Notes that a read into [`room`](Self::room) got `read` bytes. If it filled the room, the next room is larger.
    pub(crate) const fn note_read(&mut self, read: usize) {
        if self.large.is_some() {
            self.step = STEP_AFTER_LARGE;
        } else if self.buffer.len() >= self.step {
            self.step = if self.step * 2 > MAX_READ_STEP { MAX_READ_STEP } else { self.step * 2 };
        } else if read < self.step / 8 && self.step > READ_STEP {
            self.step /= 2;
        }
    }

    /// The next complete message. `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// Like [`FrameCodec::decode_frame`]. The length is checked as soon as its four bytes have arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, IpcError> {
        if let Some(large) = self.large.take_if(|large| large.bytes.len() == large.length) {
            self.codec.check_sum(large.expected_sum, &large.bytes)?;
            let room = large.bytes.capacity();
            let bytes = Bytes::from(large.bytes);
            self.spare.keep(&bytes, room);
            return Ok(Some(Frame::Large(bytes)));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let rest = &self.buffer[self.start..];
        let Some(length) = self.codec.announced(rest)? else { return Ok(None) };
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let expected_sum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let Some(message) = rest.get(..length) else {
            if length > LARGE_MESSAGE {
                let mut bytes = self
                    .spare
                    .take(length)
                    .map_or_else(|| Vec::with_capacity(length.min(rest.len().max(FIRST_ROOM))), Vec::from);
                bytes.extend_from_slice(rest);
                self.large = Some(LargeMessage { expected_sum, length, bytes });
                self.start = self.buffer.len();
            }
            return Ok(None);
        };
        self.start += HEADER_LEN + length;
        self.codec.check_sum(expected_sum, message)?;
        Ok(Some(if length > LARGE_MESSAGE {
            Frame::Large(Bytes::copy_from_slice(message))
        } else {
            Frame::Small(message)
        }))
    }

    /// Passes the next messages in the reader's own buffer to `is_wanted`, until it returns `false`. Returns how many bytes
    /// the wanted messages have, with their headers. A damaged frame is left to [`next`](Self::next).
    ///
    /// The messages stay in the buffer until [`skip`](Self::skip).
    pub(crate) fn run<'a>(&'a self, mut is_wanted: impl FnMut(&'a [u8]) -> bool) -> usize {
        let mut end = self.start;
        while let Some((header, rest)) = self.buffer[end..].split_first_chunk::<HEADER_LEN>() {
            let Ok(Some(length)) = self.codec.announced(header) else { break };
            let expected_sum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let Some(message) = rest.get(..length) else { break };
            // Most messages are not wanted, and that costs less to find out.
            if !is_wanted(message) || self.codec.check_sum(expected_sum, message).is_err() {
                break;
            }
            end += HEADER_LEN + length;
        }
        end - self.start
    }

    /// The next bytes of the reader's own buffer.
    pub(crate) fn peek(&self, length: usize) -> &[u8] {
        &self.buffer[self.start..self.start + length]
    }

    /// Skips `length` bytes, whose frames were already taken.
    pub(crate) const fn skip(&mut self, length: usize) {
        self.start += length;
    }

    /// How many bytes of an incomplete frame have arrived; 0 between frames.
    pub(crate) fn partial(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |large| HEADER_LEN + large.bytes.len());
        large + self.buffer.len() - self.start
    }

    /// How many bytes of an incomplete frame are missing, if its length is known.
    pub(crate) fn missing(&self) -> Option<usize> {
        if let Some(large) = &self.large {
            return Some(large.length - large.bytes.len());
        }
        let rest = &self.buffer[self.start..];
        let length = self.codec.announced(rest).ok()??;
        (HEADER_LEN + length).checked_sub(rest.len())
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
    fn a_header_alone_reserves_no_more_than_the_first_room() {
        let mut reader = FrameReader::new(FrameCodec::new(Crc32Variant::Ieee, usize::MAX));
        reader.room().put_slice(&[u32::MAX.to_le_bytes(), [0; 4]].concat());
        assert!(reader.next().unwrap().is_none());
        assert!(reader.room().remaining_mut() <= FIRST_ROOM);
        let large = reader.large.as_ref().unwrap();
        assert!(large.bytes.capacity() <= FIRST_ROOM, "{}", large.bytes.capacity());
    }

    #[test]
    fn a_large_message_has_a_buffer_of_exactly_its_size() {
        let codec = FrameCodec::new(Crc32Variant::Ieee, usize::MAX);
        let mut wire = BytesMut::new();
        codec.encode_with(700_001, &mut wire, |buffer| buffer.put_bytes(7, 700_001)).unwrap();
        let mut reader = FrameReader::new(codec);
        while !wire.is_empty() {
            let mut room = reader.room();
            let part = wire.split_to(room.remaining_mut().min(wire.len()).min(40_000));
            room.put_slice(&part);
            reader.note_read(part.len());
            if let Some(frame) = reader.next().unwrap() {
                let Frame::Large(message) = frame else { panic!("a large message") };
                assert_eq!(Vec::from(message).capacity(), 700_001);
                assert!(wire.is_empty());
            }
        }
        assert_eq!(reader.partial(), 0);
    }

    #[test]
    fn a_message_that_lies_about_its_length_leaves_the_buffer_as_it_was() {
        let mut buffer = frame_of(3).unwrap();
        let before = buffer.clone();
        let lies = CODEC.encode_with(5, &mut buffer, |buffer| buffer.put_bytes(7, 6));
        assert!(matches!(lies, Err(IpcError::Encode(_))), "{lies:?}");
        assert_eq!(buffer, before);
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
        fn frames_survive_any_split(
            sizes in prop::collection::vec(prop_oneof![1_usize..100, 16_000_usize..40_000], 1..8),
            step in prop_oneof![1_usize..40, 1_000_usize..70_000],
        ) {
            let codec = FrameCodec::new(Crc32Variant::Castagnoli, 40_000);
            let mut wire = BytesMut::new();
            for (size, byte) in sizes.iter().zip(0..) {
                codec.encode_with(*size, &mut wire, |buffer| buffer.put_bytes(byte, *size)).unwrap();
            }
            let mut reader = FrameReader::new(codec);
            let mut seen = Vec::new();
            while !wire.is_empty() {
                let mut room = reader.room();
                let part = wire.split_to(step.min(room.remaining_mut()).min(wire.len()));
                room.put_slice(&part);
                reader.note_read(part.len());
                while let Some(frame) = reader.next().unwrap() {
                    let message = match &frame {
                        Frame::Small(message) => *message,
                        Frame::Large(message) => &message[..],
                    };
                    prop_assert!(message.iter().all(|byte| usize::from(*byte) == seen.len()));
                    seen.push(message.len());
                }
            }
            prop_assert_eq!(seen, sizes);
            prop_assert_eq!((reader.partial(), reader.missing()), (0, None));
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new(CODEC);
            reader.room().put_slice(&bytes);
            while let Ok(Some(_)) = reader.next() {}
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = CODEC.decode_frame(&mut buffer) {}
        }
    }
}
