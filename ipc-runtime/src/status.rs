//! How a call ended, in gRPC's terms: [`Code`] and [`Status`].
//!
//! Codes and their meanings are gRPC's (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
//! Nothing here knows frames or connections.

use std::fmt;

use prost::Name;
use prost_types::Any;

use crate::metadata::Metadata;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The call was cancelled, usually by the caller.
    Cancelled = 1,
    /// Something failed and no other code fits.
    Unknown = 2,
    /// The request is wrong, whatever the state of the server.
    InvalidArgument = 3,
    /// The deadline passed before the call ended.
    DeadlineExceeded = 4,
    /// The thing that the request names does not exist.
    NotFound = 5,
    /// The thing that the request would create already exists.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A limit is reached: connections, calls, bytes.
    ResourceExhausted = 8,
    /// The system is not in the state that the call needs.
    FailedPrecondition = 9,
    /// The call was aborted, for example by a conflict.
    Aborted = 10,
    /// The request goes past the valid range.
    OutOfRange = 11,
    /// The server has no such service or method.
    Unimplemented = 12,
    /// An invariant of the server is broken.
    Internal = 13,
    /// The server can't be reached or is going away; trying again may help.
    Unavailable = 14,
    /// Data was lost or corrupted.
    DataLoss = 15,
    /// The caller did not say who it is.
    Unauthenticated = 16,
}

impl Code {
    /// The name as gRPC writes it, such as `NOT_FOUND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl From<i32> for Code {
    /// A number outside 0 to 16 is [`Code::Unknown`], as the wire protocol says.
    fn from(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call failed. A handler sends it and a client reads it.
///
/// ```
/// use ipc_runtime::{Code, Status};
///
/// let status = Status::not_found("no process with pid 7");
/// assert_eq!(status.code(), Code::NotFound);
/// assert_eq!(status.to_string(), "NOT_FOUND: no process with pid 7");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    code: Code,
    message: String,
    details: Vec<Any>,
    metadata: Metadata,
    request_sent: bool,
}

impl Status {
    /// A status of `code` with a message for people.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            metadata: Metadata::new(),
            request_sent: true,
        }
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The message for people. May be empty.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The metadata that belongs to the status (gRPC's trailers).
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A mutable reference to the metadata.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// The same status with `metadata` in place of its own.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The error details in order, as they are on the wire.
    #[must_use]
    pub fn details(&self) -> &[Any] {
        &self.details
    }

    /// The same status with one more detail, a message of a named type.
    #[must_use]
    pub fn with_detail<M: Name>(mut self, detail: &M) -> Self {
        self.details.push(Any { type_url: M::type_url(), value: detail.encode_to_vec() });
        self
    }

    /// The same status with one more detail that is already packed.
    #[must_use]
    pub fn with_any(mut self, detail: Any) -> Self {
        self.details.push(detail);
        self
    }

    /// The first detail of type `M`, if there is one and it decodes.
    #[must_use]
    pub fn detail<M: Name + Default>(&self) -> Option<M> {
        self.details.iter().find_map(|detail| detail.to_msg().ok())
    }

    pub(crate) fn with_details(mut self, details: Vec<Any>) -> Self {
        self.details = details;
        self
    }

    pub(crate) const fn not_processed(mut self) -> Self {
        self.request_sent = false;
        self
    }

    pub(crate) const fn maybe_processed(mut self) -> Self {
        self.request_sent = true;
        self
    }

    pub(crate) const fn request_sent(&self) -> bool {
        self.request_sent
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

macro_rules! constructors {
    ($($name:ident $code:ident)*) => {
        impl Status {
            $(
                #[doc = concat!("A status of [`Code::", stringify!($code), "`].")]
                #[must_use]
                pub fn $name(message: impl Into<String>) -> Self {
                    Self::new(Code::$code, message)
                }
            )*
        }
    };
}

constructors! {
    cancelled Cancelled
    unknown Unknown
    invalid_argument InvalidArgument
    deadline_exceeded DeadlineExceeded
    not_found NotFound
    already_exists AlreadyExists
    permission_denied PermissionDenied
    resource_exhausted ResourceExhausted
    failed_precondition FailedPrecondition
    aborted Aborted
    out_of_range OutOfRange
    unimplemented Unimplemented
    internal Internal
    unavailable Unavailable
    data_loss DataLoss
    unauthenticated Unauthenticated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_numbers_and_others_are_unknown() {
        for number in 0..=16 {
            assert_eq!(Code::from(number) as i32, number);
        }
        for number in [-1, 17, i32::MIN, i32::MAX] {
            assert_eq!(Code::from(number), Code::Unknown);
        }
    }

    #[test]
    fn a_detail_is_found_by_its_type() {
        let duration = prost_types::Duration { seconds: 3, nanos: 0 };
        let status = Status::unavailable("later")
            .with_detail(&prost_types::Timestamp { seconds: 1, nanos: 2 })
            .with_detail(&duration);
        assert_eq!(status.detail::<prost_types::Duration>(), Some(duration));
        assert_eq!(status.detail::<String>(), None);
        assert_eq!(status.details().len(), 2);
    }
}
