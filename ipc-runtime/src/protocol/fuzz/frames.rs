//! Any bytes in any splits: the reader and the codec see the same frames, and the reader asks for no more room than it may.

use bytes::{BufMut as _, BytesMut};

use super::{Source, run};
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::protocol::frame::{Frame, FrameCodec, FrameReader, HEADER_LEN, LARGE_MESSAGE};

const CORPUS: &str = include_str!("../../../testdata/fuzz/frames.txt");

const LIMIT: usize = 3 * LARGE_MESSAGE;

/// What a reader may have room for at once.
const MOST_ROOM: usize = 16 * (LARGE_MESSAGE + HEADER_LEN);

/// What came out of a stream, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    messages: Vec<Vec<u8>>,
    error: Option<String>,
}

/// Frames, right and wrong, and bytes that are none.
fn stream(source: &mut Source<'_>, codec: FrameCodec) -> Vec<u8> {
    let mut stream = BytesMut::new();
    while !source.is_empty() && stream.len() < 8 * LIMIT {
        let length = match source.below(8) {
            0 => LARGE_MESSAGE - 1 + source.below(3),
            1 => LIMIT - 1 + source.below(3),
            2 => source.below(256) * 191,
            3 => {
                stream.put_u8(source.byte());
                continue;
            }
            _ => source.below(256),
        };
        let byte = source.byte();
        let before = stream.len();
        if codec.encode_with(length, &mut stream, |buffer| buffer.put_bytes(byte, length)).is_err() {
            stream.put_u32_le(u32::try_from(length).unwrap());
        } else if source.below(16) == 0 {
            let at = before + 4 + source.below(5);
            stream[at] ^= 1;
        }
    }
    stream.to_vec()
}

fn by_codec(codec: FrameCodec, stream: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = BytesMut::from(stream);
    loop {
        match codec.decode_frame(&mut buffer) {
            Ok(Some(message)) => seen.messages.push(message.to_vec()),
            Ok(None) => return seen,
            Err(error) => {
                seen.error = Some(error.to_string());
                return seen;
            }
        }
    }
}

/// Takes small messages together, as a driver does with the items of a call.
fn take_run(reader: &mut FrameReader, seen: &mut Seen) {
    let mut ends = Vec::new();
    let mut end = 0;
    let length = reader.run(|message| {
        let is_wanted = message.len() < 200;
        if is_wanted {
            end += HEADER_LEN + message.len();
            ends.push((end - message.len(), end));
        }
        is_wanted
    });
    if end == length {
        let bytes = reader.peek(length);
        seen.messages.extend(ends.into_iter().map(|(start, end)| bytes[start..end].to_vec()));
        reader.skip(length);
    }
}

fn take_all(reader: &mut FrameReader, seen: &mut Seen) -> Result<(), IpcError> {
    while let Some(frame) = reader.next()? {
        let message = match frame {
            Frame::Small(message) => message.to_vec(),
            Frame::Large(message) => {
                assert!(message.len() > LARGE_MESSAGE);
                let message = Vec::from(message);
                assert_eq!(message.capacity(), message.len(), "it keeps nothing else alive");
                message
            }
        };
        assert!((1..=LIMIT).contains(&message.len()));
        seen.messages.push(message);
    }
    Ok(())
}

fn by_reader(codec: FrameCodec, mut stream: &[u8], source: &mut Source<'_>) -> Seen {
    let mut seen = Seen::default();
    let mut reader = FrameReader::new(codec);
    while !stream.is_empty() {
        let step = match source.below(4) {
            0 => 1,
            1 => 1 + source.below(256),
            2 => 1 + source.below(256) * 251,
            _ => usize::MAX,
        };
        let mut room = reader.room();
        let offered = room.remaining_mut();
        assert!((1..=MOST_ROOM).contains(&offered), "room for {offered} bytes");
        let (part, rest) = stream.split_at(step.min(offered).min(stream.len()));
        room.put_slice(part);
        stream = rest;
        reader.note_read(part.len());
        if source.below(2) == 0 {
            take_run(&mut reader, &mut seen);
        }
        if let Err(error) = take_all(&mut reader, &mut seen) {
            seen.error = Some(error.to_string());
            return seen;
        }
        assert_eq!(reader.missing().is_some(), reader.partial() >= 4);
    }
    seen
}

fn judge(input: &[u8]) {
    let mut source = Source(input);
    let variant = source.pick(&[Crc32Variant::Ieee, Crc32Variant::Castagnoli]);
    let codec = FrameCodec::new(variant, LIMIT);
    let is_raw = source.below(2) == 0;
    let (splits, rest) = source.0.split_at(source.0.len() / 2);
    let stream = if is_raw { rest.to_vec() } else { stream(&mut Source(rest), codec) };
    assert_eq!(by_reader(codec, &stream, &mut Source(splits)), by_codec(codec, &stream));
}

#[test]
fn any_stream_in_any_splits_gives_the_same_frames() {
    run(CORPUS, 1_000, 120, judge);
}
