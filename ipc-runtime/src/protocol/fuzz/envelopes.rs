//! Any bytes as an envelope: no panic, and what comes out is what a decoder that prost derives from the same schema says.

use bytes::Bytes;
use prost::Message;
use prost_types::Any;

use super::{Source, grammar, run};
use crate::metadata::Metadata;
use crate::protocol::envelope::wire::MAX_METADATA;
use crate::protocol::envelope::{
    Body, Close, CloseDetails, CloseMetadata, Inbound, Limited, Open, WireStatus, decode,
};
use crate::protocol::frame::Frame;
use crate::status::{Code, Status};

const CORPUS: &str = include_str!("../../../testdata/fuzz/envelopes.txt");

#[derive(Clone, PartialEq, Message)]
struct Reference {
    #[prost(uint64, tag = "1")]
    call_id: u64,
    #[prost(oneof = "Said", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    body: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Said {
    #[prost(message, tag = "2")]
    Hello(SaidHello),
    #[prost(message, tag = "3")]
    Open(SaidOpen),
    #[prost(message, tag = "4")]
    Headers(SaidHeaders),
    #[prost(message, tag = "5")]
    Item(SaidItem),
    #[prost(message, tag = "6")]
    HalfClose(Nothing),
    #[prost(message, tag = "7")]
    Close(SaidClose),
    #[prost(message, tag = "8")]
    Cancel(Nothing),
    #[prost(message, tag = "9")]
    Credit(Amount),
    #[prost(message, tag = "10")]
    Ping(Nonce),
    #[prost(message, tag = "11")]
    Pong(Nonce),
    #[prost(message, tag = "12")]
    GoAway(SaidGoAway),
}

#[derive(Clone, PartialEq, Message)]
struct SaidHello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    max_frame_bytes: u64,
    #[prost(int32, tag = "3")]
    crc32_variant: i32,
    #[prost(uint32, tag = "4")]
    max_concurrent_calls: u32,
    #[prost(uint64, tag = "5")]
    initial_credit: u64,
    #[prost(fixed64, tag = "6")]
    instance_id: u64,
    #[prost(message, repeated, tag = "7")]
    services: Vec<SaidService>,
    #[prost(string, tag = "8")]
    peer_version: String,
    #[prost(uint64, tag = "9")]
    max_request_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SaidService {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(fixed64, tag = "2")]
    fingerprint: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SaidPair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SaidOpen {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(uint64, tag = "2")]
    timeout_us: u64,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<SaidPair>,
    #[prost(bool, tag = "4")]
    end_of_stream: bool,
    #[prost(bytes = "vec", optional, tag = "5")]
    message: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct SaidHeaders {
    #[prost(message, repeated, tag = "1")]
    metadata: Vec<SaidPair>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SaidItem {
    #[prost(bytes = "vec", tag = "1")]
    message: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct SaidClose {
    #[prost(message, optional, tag = "1")]
    status: Option<SaidStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<SaidPair>,
    #[prost(message, repeated, tag = "3")]
    trailers: Vec<SaidPair>,
    #[prost(bytes = "vec", optional, tag = "4")]
    message: Option<Vec<u8>>,
    #[prost(bool, tag = "5")]
    not_processed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Amount {
    #[prost(uint64, tag = "1")]
    amount: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Nonce {
    #[prost(fixed64, tag = "1")]
    nonce: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SaidGoAway {
    #[prost(uint64, tag = "1")]
    last_call_id: u64,
    #[prost(message, optional, tag = "2")]
    status: Option<SaidStatus>,
    #[prost(uint32, tag = "3")]
    retry_after_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SaidStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

fn metadata(pairs: &[SaidPair]) -> Limited<Metadata> {
    let cost: usize = pairs.iter().map(|pair| pair.key.len() + pair.value.len() + 32).sum();
    if cost > MAX_METADATA {
        return Limited::TooLarge;
    }
    let mut metadata = Metadata::new();
    for SaidPair { key, value } in pairs {
        metadata.push_unchecked(key.as_str().into(), Bytes::copy_from_slice(value));
    }
    Limited::Within(metadata)
}

fn status(said: &SaidStatus) -> Status {
    let details = if said.details.len() > 1024 { Vec::new() } else { said.details.clone() };
    Status::new(Code::from(said.code), said.message.clone()).with_details(details)
}

fn close(said: &SaidClose) -> Close {
    let error = said.status.as_ref().map(status).filter(|status| status.code() != Code::Ok);
    let metadata = match (metadata(&said.headers), metadata(&said.trailers)) {
        (Limited::Within(headers), Limited::Within(trailers)) => {
            Limited::Within(CloseMetadata { headers, trailers })
        }
        (Limited::TooLarge, _) | (_, Limited::TooLarge) => Limited::TooLarge,
    };
    let message = said.message.clone().filter(|_| error.is_none()).map(Bytes::from);
    let more = CloseDetails { error, metadata, not_processed: said.not_processed };
    let nothing = CloseDetails {
        error: None,
        metadata: Limited::Within(CloseMetadata::default()),
        not_processed: false,
    };
    Close { message, more: (more != nothing).then(|| Box::new(more)) }
}

fn assert_agree(inbound: &Inbound, said: &Reference) {
    assert_eq!(inbound.id, said.call_id);
    match (&inbound.body, said.body.as_ref().unwrap()) {
        (Body::Hello(hello), Said::Hello(said)) => assert_eq!(hello.encode_to_vec(), said.encode_to_vec()),
        (Body::Open(open), Said::Open(said)) => {
            let Open { target, timeout_us, metadata: pairs, end_of_stream, message } = open;
            let method = target.as_ref().unwrap_err();
            assert_eq!(method.message(), said.method);
            assert_eq!((*timeout_us, *end_of_stream), (said.timeout_us, said.end_of_stream));
            assert_eq!(message.as_deref(), said.message.as_deref());
            assert_eq!(*pairs, metadata(&said.metadata));
        }
        (Body::Headers(headers), Said::Headers(said)) => assert_eq!(*headers, metadata(&said.metadata)),
        (Body::Item(message), Said::Item(said)) => assert_eq!(*message, said.message),
        (Body::HalfClose, Said::HalfClose(_))
        | (Body::Cancel, Said::Cancel(_))
        | (Body::Pong, Said::Pong(_)) => {}
        (Body::Close(found), Said::Close(said)) => assert_eq!(*found, close(said)),
        (Body::Credit(amount), Said::Credit(said)) => assert_eq!(*amount, said.amount),
        (Body::Ping(nonce), Said::Ping(said)) => assert_eq!(*nonce, said.nonce),
        (Body::GoAway(found), Said::GoAway(said)) => {
            assert_eq!((found.last_call_id, found.retry_after_ms), (said.last_call_id, said.retry_after_ms));
            assert_eq!(found.status.clone().map(WireStatus::into_status), said.status.as_ref().map(status));
        }
        (found, said) => panic!("{} where the reference says {said:?}", found.name()),
    }
}

fn assert_as_the_reference_says(bytes: &[u8]) {
    let reference = Reference::decode(bytes);
    for frame in [Frame::Small(bytes), Frame::Large(Bytes::copy_from_slice(bytes))] {
        let mut resolve = |method: &[u8]| {
            let method = String::from_utf8(method.to_vec()).expect("a method is text");
            Err(Box::new(Status::unimplemented(method)))
        };
        match (decode(frame, &mut resolve), &reference) {
            (Ok(Some(inbound)), Ok(said)) => assert_agree(&inbound, said),
            (Ok(None), Ok(said)) => assert_eq!(said.body, None),
            (Err(_), Err(_)) => {}
            (found, said) => panic!("{found:?} where the reference says {said:?}"),
        }
    }
}

#[test]
fn any_bytes_mean_what_a_derived_decoder_says() {
    run(CORPUS, 2_500, 60, assert_as_the_reference_says);
}

#[test]
fn almost_right_envelopes_mean_what_a_derived_decoder_says() {
    run("", 2_500, 80, |input| assert_as_the_reference_says(&grammar::envelope(&mut Source(input))));
}

#[test]
fn the_golden_frames_mean_what_a_derived_decoder_says() {
    let all: serde_json::Value =
        serde_json::from_str(include_str!("../../../testdata/wire-vectors.json")).unwrap();
    for section in ["frames", "accepted", "invalid"] {
        for vector in all[section].as_array().unwrap() {
            let hex = vector["frame_hex"].as_str().or_else(|| vector["bytes_hex"].as_str()).unwrap();
            let frame = super::bytes_of(&format!("golden: {hex}")).unwrap();
            if let Some(message) = frame.get(8..) {
                assert_as_the_reference_says(message);
            }
        }
    }
}
