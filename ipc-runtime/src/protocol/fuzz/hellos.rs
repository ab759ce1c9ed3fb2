//! The first frame: whatever it says, it is agreed to or refused, and terms that are agreed to keep within both sides'
//! limits.

use bytes::BytesMut;

use super::{Source, grammar, run};
use crate::config::{Crc32Variant, IpcConfig, MIN_MAX_FRAME_BYTES};
use crate::protocol::encode::Encoder;
use crate::protocol::envelope::{Body, MAX_CREDIT, decode};
use crate::protocol::frame::Frame;
use crate::protocol::handshake::{HELLO_ENCODER, Role, Terms, first_body, hello};
use crate::status::{Code, Status};

const CORPUS: &str = include_str!("../../../testdata/fuzz/hellos.txt");

fn assert_can_be_told(encoder: &Encoder, status: &Status) {
    assert!(status.message().len() < 1024, "{status}");
    encoder.put_go_away(&mut BytesMut::new(), 0, status, u32::MAX).unwrap();
}

fn judge_first(bytes: &[u8], role: Role, config: &IpcConfig) {
    let Ok(inbound) = decode(Frame::Small(bytes), &mut |_| Ok(0)) else { return };
    let peer = match first_body(inbound) {
        Ok(Body::Hello(peer)) => peer,
        Ok(Body::GoAway(go_away)) => {
            _ = go_away.status.unwrap_or_default().into_status();
            return;
        }
        Ok(other) => panic!("{} as a first frame", other.name()),
        Err(status) => {
            assert_eq!(status.code(), Code::Internal);
            return assert_can_be_told(&HELLO_ENCODER, &status);
        }
    };
    let own = hello(config, 1000, "");
    match Terms::agree(role, config, &own, &peer) {
        Ok(terms) => {
            assert!(peer.version > 0 && peer.initial_credit <= MAX_CREDIT);
            assert!((MIN_MAX_FRAME_BYTES..=config.max_frame_bytes).contains(&terms.send_limit));
            assert!(terms.send_limit as u64 <= peer.max_frame_bytes);
            assert_eq!(terms.peer_limits.calls, peer.max_concurrent_calls);
            assert!(terms.peer_limits.request_bytes > 0);
        }
        Err(status) => {
            assert!(matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument));
            assert_can_be_told(&HELLO_ENCODER, &status);
        }
    }
}

fn judge(input: &[u8]) {
    let mut source = Source(input);
    let role = source.pick(&[Role::Client, Role::Server]);
    let config = IpcConfig {
        max_frame_bytes: source.pick(&[MIN_MAX_FRAME_BYTES, 1 << 20, u32::MAX as usize]),
        crc32_variant: source.pick(&[Crc32Variant::Ieee, Crc32Variant::Castagnoli]),
        ..IpcConfig::default()
    };
    let bytes = if source.below(2) == 0 { source.0.to_vec() } else { grammar::hello(&mut source) };
    judge_first(&bytes, role, &config);
}

#[test]
fn any_first_frame_is_agreed_to_or_refused() {
    run(CORPUS, 5_000, 60, judge);
}
