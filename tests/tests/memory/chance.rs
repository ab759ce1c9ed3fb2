//! Protobuf messages out of any bytes: fields of every wire type with small tags, some of them nested, some repeated.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use prost::encoding::{WireType, encode_key, encode_varint};

/// Hands messages from chance to `judge`: as many as said, always the same ones; or with `FUZZ_SECONDS` in the
/// environment for so long, each time other ones.
pub(crate) fn run(cases: u32, judge: impl Fn(&[u8])) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let ran = |mut runner: TestRunner| {
        let inputs = prop::collection::vec(any::<u8>(), 0..200);
        let ran = runner.run(&inputs, |input| {
            judge(&message(&input));
            Ok::<(), TestCaseError>(())
        });
        ran.unwrap();
    };
    let Ok(seconds) = std::env::var("FUZZ_SECONDS") else {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        return ran(TestRunner::new_with_rng(config, rng));
    };
    let time = std::time::Duration::from_secs(seconds.parse().unwrap());
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        ran(TestRunner::new(config.clone()));
    }
}

fn message(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !input.is_empty() {
        put_field(&mut out, &mut input, 0);
    }
    out
}

fn byte(input: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = input.split_first() else { return 0 };
    *input = rest;
    byte
}

fn put_field(out: &mut Vec<u8>, input: &mut &[u8], depth: usize) {
    let tag = u32::from(byte(input) % 12) + 1;
    let start = out.len();
    match byte(input) % 10 {
        0 => {
            encode_key(tag, WireType::Varint, out);
            encode_varint(u64::from(byte(input)), out);
        }
        1 => {
            encode_key(tag, WireType::SixtyFourBit, out);
            out.extend([byte(input); 8]);
        }
        2 => {
            encode_key(tag, WireType::ThirtyTwoBit, out);
            out.extend([byte(input); 4]);
        }
        3 => {
            encode_key(tag, WireType::StartGroup, out);
            encode_key(tag, WireType::EndGroup, out);
        }
        4 | 5 => {
            // Valid as text, and as a list of numbers.
            let length = usize::from(byte(input)) * if byte(input).is_multiple_of(8) { 40 } else { 1 };
            put_sized(out, tag, &vec![byte(input) & 0x7f; length]);
        }
        _ => {
            let mut inner = Vec::new();
            if depth < 12 {
                for _ in 0..byte(input) % 4 {
                    put_field(&mut inner, input, depth + 1);
                }
            }
            put_sized(out, tag, &inner);
        }
    }
    if byte(input).is_multiple_of(8) {
        let again = out[start..].to_vec();
        let times = if again.len() < 40 { usize::from(byte(input)) * 8 } else { 2 };
        out.extend(again.repeat(times));
    }
}

pub(crate) fn put_sized(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}
