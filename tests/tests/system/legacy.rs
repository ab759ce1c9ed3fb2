//! Section 10: frames with a bare message, as deployed components speak them.

use bytes::BytesMut;
use ipc_runtime::{Crc32Variant, FrameCodec, IpcError};
use ipc_tests::probe::{Note, note};
use ipc_tests::setup::text;
use ipc_tests::wire::{self, Checksum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const LIMIT: usize = 4096;
const CODEC: FrameCodec = FrameCodec::new(Crc32Variant::Castagnoli, LIMIT);

#[test]
fn a_frame_is_length_castagnoli_and_the_bare_message() {
    let mut buffer = BytesMut::new();
    CODEC.encode(&text(5), &mut buffer).unwrap();
    assert_eq!(buffer, wire::frame(Checksum::Castagnoli, &note(5))[..]);
    assert_eq!(CODEC.decode::<Note>(&mut buffer).unwrap(), Some(text(5)));
    assert!(buffer.is_empty());
}

#[tokio::test]
async fn one_request_and_one_response_in_turn() {
    let (mut client, mut server) = UnixStream::pair().unwrap();
    for size in [1, 100, LIMIT - 3] {
        let mut request = BytesMut::new();
        CODEC.encode(&text(size), &mut request).unwrap();
        client.write_all(&request).await.unwrap();
        let mut input = BytesMut::new();
        let message: Note = loop {
            if let Some(message) = CODEC.decode(&mut input).unwrap() {
                break message;
            }
            assert!(server.read_buf(&mut input).await.unwrap() > 0);
        };
        assert_eq!(message, text(size));
        server.write_all(&wire::frame(Checksum::Castagnoli, &note(1))).await.unwrap();
        let mut input = BytesMut::new();
        client.read_buf(&mut input).await.unwrap();
        assert_eq!(CODEC.decode::<Note>(&mut input).unwrap(), Some(text(1)));
    }
}

#[test]
fn what_is_wrong_with_a_frame_is_said() {
    let decode = |bytes: &[u8]| CODEC.decode::<Note>(&mut BytesMut::from(bytes));
    assert!(matches!(decode(&[0; 8]), Err(IpcError::InvalidLength { length: 0 })));
    let large = wire::frame(Checksum::Castagnoli, &vec![0; LIMIT + 1]);
    assert!(matches!(decode(&large[..4]), Err(IpcError::TooLarge { size: 4097, max_size: 4096 })));
    let other = wire::frame(Checksum::Ieee, &note(5));
    let (expected, actual) = (Checksum::Ieee.of(&note(5)), Checksum::Castagnoli.of(&note(5)));
    match decode(&other) {
        Err(IpcError::CrcMismatch { expected: e, actual: a }) => assert_eq!((e, a), (expected, actual)),
        other => panic!("a mismatch, not {other:?}"),
    }
    assert!(matches!(decode(&wire::frame(Checksum::Castagnoli, &[0xff; 4])), Err(IpcError::Decode(_))));
    let whole = wire::frame(Checksum::Castagnoli, &note(5));
    for length in 0..whole.len() {
        assert!(matches!(decode(&whole[..length]), Ok(None)), "{length} bytes");
    }
}

#[test]
fn a_message_above_the_limit_is_not_encoded() {
    let mut buffer = BytesMut::new();
    CODEC.encode(&text(LIMIT - 3), &mut buffer).unwrap();
    let before = buffer.clone();
    let error = CODEC.encode(&text(LIMIT - 2), &mut buffer).unwrap_err();
    assert!(matches!(error, IpcError::TooLarge { size: 4097, max_size: 4096 }), "{error:?}");
    assert_eq!(buffer, before);
}
