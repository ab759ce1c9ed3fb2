//! The golden frames of `wire-vectors.json`, as far as tests of whole connections want them.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a vector that can't be read fails the test"
)]

use ipc_runtime::{Crc32Variant, IpcError};
use serde_json::Value;

use crate::wire::{Checksum, code};

const FILE: &str = include_str!("../../ipc-runtime/testdata/wire-vectors.json");

/// Bytes that end a connection.
#[derive(Debug)]
pub struct Invalid {
    /// What is wrong with them.
    pub name: String,
    /// The connection's checksum.
    pub checksum: Checksum,
    /// The receiver's limit.
    pub max_frame_bytes: usize,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// `eof`, `stall` or `open`.
    pub then: String,
    /// The code of the answer, if there is one.
    pub go_away: Option<i32>,
    error: Value,
}

impl Invalid {
    /// The same checksum as the runtime names it.
    #[must_use]
    pub const fn variant(&self) -> Crc32Variant {
        match self.checksum {
            Checksum::Ieee => Crc32Variant::Ieee,
            Checksum::Castagnoli => Crc32Variant::Castagnoli,
        }
    }

    /// Fails the test unless this is the error that the receiver should have.
    pub fn assert_error(&self, error: Option<&IpcError>) {
        let error = error.unwrap_or_else(|| panic!("{}: an error without its cause", self.name));
        let number =
            |name: &str| self.error[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", self.name));
        let fits = match (self.error["kind"].as_str().unwrap(), error) {
            ("InvalidLength", IpcError::InvalidLength { length }) => *length as u64 == number("length"),
            ("TooLarge", IpcError::TooLarge { size, max_size }) => {
                (*size as u64, *max_size as u64) == (number("size"), number("max_size"))
            }
            ("CrcMismatch", IpcError::CrcMismatch { expected, actual }) => {
                (u64::from(*expected), u64::from(*actual)) == (number("expected"), number("actual"))
            }
            ("Decode", IpcError::Decode(_))
            | ("PeerClosed", IpcError::PeerClosed)
            | ("Timeout", IpcError::Timeout) => true,
            _ => false,
        };
        assert!(fits, "{}: {} expected, not {error:?}", self.name, self.error);
    }
}

/// All vectors that a connection of ours can be sent: the one for a limit below 4096 has a test of its own.
#[must_use]
pub fn invalid() -> Vec<Invalid> {
    let vectors = all("invalid").into_iter().map(|vector| Invalid {
        name: text(&vector, "name"),
        checksum: checksum(&vector),
        max_frame_bytes: usize::try_from(vector["max_frame_bytes"].as_u64().unwrap()).unwrap(),
        bytes: bytes(&vector, "bytes_hex"),
        then: text(&vector, "then"),
        go_away: vector["go_away"].as_str().map(code_named),
        error: vector["error"].clone(),
    });
    vectors.filter(|vector| vector.max_frame_bytes >= 4096).collect()
}

/// The frames that are not canonical but must be taken: name, checksum, bytes.
#[must_use]
pub fn accepted() -> Vec<(String, Checksum, Vec<u8>)> {
    let vectors = all("accepted").into_iter();
    vectors.map(|vector| (text(&vector, "name"), checksum(&vector), bytes(&vector, "frame_hex"))).collect()
}

fn all(list: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(FILE).unwrap();
    file[list].as_array().unwrap().clone()
}

fn text(vector: &Value, field: &str) -> String {
    vector[field].as_str().unwrap().to_owned()
}

fn checksum(vector: &Value) -> Checksum {
    if vector["crc32_variant"] == "CRC32_VARIANT_IEEE" { Checksum::Ieee } else { Checksum::Castagnoli }
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    let hex = vector[field].as_str().unwrap();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn code_named(name: &str) -> i32 {
    match name {
        "INVALID_ARGUMENT" => code::INVALID_ARGUMENT,
        "RESOURCE_EXHAUSTED" => code::RESOURCE_EXHAUSTED,
        "DATA_LOSS" => code::DATA_LOSS,
        "DEADLINE_EXCEEDED" => code::DEADLINE_EXCEEDED,
        other => panic!("a code for {other}"),
    }
}
