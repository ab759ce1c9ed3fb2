//! The golden frames: encoding is canonical, decoding is lenient, and what is wrong fails as it must.

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use serde_json::Value;

use prost::Message as _;

use super::wire::{Empty, Envelope, GoAway, Hello, Nonce, Pair, Pairs, ServiceInfo, WireBody, WireClose};
use super::wire::{WireCredit, WireHeaders, WireItem, WireOpen, WireStatus};
use super::{Frame, decode};
use crate::config::Crc32Variant;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::protocol::ending::frame_error_code;
use crate::protocol::frame::FrameCodec;
use crate::status::{Code, Status};

fn vectors(section: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../testdata/wire-vectors.json")).unwrap();
    let found = all[section].as_array().unwrap().clone();
    assert!(!found.is_empty());
    found
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn variant(value: &Value) -> Crc32Variant {
    match value["crc32_variant"].as_str().unwrap() {
        "CRC32_VARIANT_IEEE" => Crc32Variant::Ieee,
        "CRC32_VARIANT_CASTAGNOLI" => Crc32Variant::Castagnoli,
        other => panic!("{other}"),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str().map(|text| text.parse().unwrap())).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn blob(value: &Value) -> Option<Bytes> {
    let text = value.as_str()?;
    Some(base64::engine::general_purpose::STANDARD.decode(text).unwrap().into())
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().map(|items| items.iter().map(item).collect()).unwrap_or_default()
}

fn pairs(value: &Value) -> Pairs {
    let mut metadata = Metadata::new();
    for Pair { key, value } in list(value, |pair| Pair {
        key: text(&pair["key"]).into(),
        value: blob(&pair["value"]).unwrap_or_default(),
    }) {
        metadata.push_unchecked(crate::text::ByteStr::from_utf8(key).unwrap(), value);
    }
    Pairs::from(&metadata)
}

fn any(value: &Value) -> prost_types::Any {
    let type_url = text(&value["@type"]);
    assert_eq!(type_url, "type.googleapis.com/google.protobuf.StringValue");
    prost_types::Any { type_url, value: prost::Message::encode_to_vec(&text(&value["value"])) }
}

fn status(value: &Value) -> Option<WireStatus> {
    value.is_object().then(|| {
        let code = i32::try_from(value["code"].as_i64().unwrap_or(0)).unwrap();
        let status = Status::new(Code::from(code), text(&value["message"]));
        let details = list(&value["details"], any);
        WireStatus { code, ..WireStatus::of(&status.with_details(details)) }
    })
}

fn hello(value: &Value) -> Hello {
    let service = |value: &Value| ServiceInfo {
        name: text(&value["name"]),
        fingerprint: number(&value["fingerprint"]),
    };
    Hello {
        version: u32::try_from(number(&value["version"])).unwrap(),
        max_frame_bytes: number(&value["maxFrameBytes"]),
        crc32_variant: match &value["crc32Variant"] {
            Value::String(name) => i32::from(name == "CRC32_VARIANT_CASTAGNOLI"),
            other => i32::try_from(number(other)).unwrap(),
        },
        max_concurrent_calls: u32::try_from(number(&value["maxConcurrentCalls"])).unwrap(),
        initial_credit: number(&value["initialCredit"]),
        instance_id: number(&value["instanceId"]),
        services: list(&value["services"], service),
        peer_version: text(&value["peerVersion"]),
        max_request_bytes: number(&value["maxRequestBytes"]),
    }
}

fn body(kind: &str, value: &Value) -> WireBody {
    let flag = |key: &str| value[key].as_bool().unwrap_or_default();
    let nonce = || Nonce { nonce: number(&value["nonce"]) };
    match kind {
        "hello" => WireBody::Hello(hello(value)),
        "open" => WireBody::Open(WireOpen {
            method: text(&value["method"]).into(),
            timeout_us: number(&value["timeoutUs"]),
            metadata: pairs(&value["metadata"]),
            end_of_stream: flag("endOfStream"),
            message: blob(&value["message"]),
        }),
        "headers" => WireBody::Headers(WireHeaders { metadata: pairs(&value["metadata"]) }),
        "item" => WireBody::Item(WireItem { message: blob(&value["message"]).unwrap_or_default() }),
        "halfClose" => WireBody::HalfClose(Empty {}),
        "close" => WireBody::Close(WireClose {
            status: status(&value["status"]),
            headers: pairs(&value["headers"]),
            trailers: pairs(&value["trailers"]),
            message: blob(&value["message"]),
            not_processed: flag("notProcessed"),
        }),
        "cancel" => WireBody::Cancel(Empty {}),
        "credit" => WireBody::Credit(WireCredit { amount: number(&value["amount"]) }),
        "ping" => WireBody::Ping(nonce()),
        "pong" => WireBody::Pong(nonce()),
        "goAway" => WireBody::GoAway(GoAway {
            last_call_id: number(&value["lastCallId"]),
            status: status(&value["status"]),
            retry_after_ms: u32::try_from(number(&value["retryAfterMs"])).unwrap(),
        }),
        other => panic!("{other}"),
    }
}

fn envelope(value: &Value) -> Envelope {
    let fields = value.as_object().unwrap();
    let body = fields.iter().find(|(key, _)| *key != "callId").map(|(kind, value)| body(kind, value));
    Envelope { call_id: number(&value["callId"]), body }
}

fn decoded(codec: FrameCodec, bytes: &[u8]) -> Result<Option<Envelope>, IpcError> {
    let Some(message) = codec.decode_frame(&mut BytesMut::from(bytes))? else { return Ok(None) };
    // The decoder that connections use must say the same, as far as it says anything.
    decode(Frame::Small(&message), &mut |_| Ok(0))?;
    Ok(Some(Envelope::decode(message)?))
}

#[test]
fn golden_frames_are_encoded_exactly_and_decoded_back() {
    for vector in vectors("frames") {
        let codec = FrameCodec::new(variant(&vector), 1 << 20);
        let (expected, frame) = (envelope(&vector["envelope"]), hex(&vector["frame_hex"]));
        let mut encoded = BytesMut::new();
        codec.encode(&expected, &mut encoded).unwrap();
        assert_eq!(encoded, frame, "{}", vector["name"]);
        assert_eq!(decoded(codec, &frame).unwrap(), Some(expected), "{}", vector["name"]);
    }
}

#[test]
fn frames_that_are_not_canonical_are_accepted() {
    for vector in vectors("accepted") {
        let codec = FrameCodec::new(variant(&vector), 1 << 20);
        let found = decoded(codec, &hex(&vector["frame_hex"])).unwrap();
        assert_eq!(found, Some(envelope(&vector["envelope"])), "{}", vector["name"]);
    }
}

#[test]
fn wrong_frames_fail_with_their_error_and_their_answer() {
    for vector in vectors("invalid") {
        let name = &vector["name"];
        let limit = usize::try_from(number(&vector["max_frame_bytes"])).unwrap();
        let result = decoded(FrameCodec::new(variant(&vector), limit), &hex(&vector["bytes_hex"]));
        let wanted = &vector["error"];
        let (size, max_size) = (number(&wanted["size"]), number(&wanted["max_size"]));
        match (wanted["kind"].as_str().unwrap(), &result) {
            ("InvalidLength", Err(IpcError::InvalidLength { length })) => assert_eq!(*length, 0),
            ("TooLarge", Err(IpcError::TooLarge { size: s, max_size: m })) => {
                assert_eq!((*s as u64, *m as u64), (size, max_size), "{name}");
            }
            ("CrcMismatch", Err(IpcError::CrcMismatch { expected, actual })) => {
                let wanted = (number(&wanted["expected"]), number(&wanted["actual"]));
                assert_eq!((u64::from(*expected), u64::from(*actual)), wanted, "{name}");
            }
            ("Decode", Err(IpcError::Decode(_))) => {}
            // What the end of the stream or its silence means is the connection's to say.
            ("PeerClosed" | "Timeout", Ok(None)) => continue,
            (_, other) => panic!("{name}: {other:?}"),
        }
        let code = frame_error_code(&result.unwrap_err()).unwrap();
        assert_eq!(code.as_str(), vector["go_away"].as_str().unwrap(), "{name}");
    }
}
