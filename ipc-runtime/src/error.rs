//! [`IpcError`]: every error of a client, or of binding, with a remedy.
//!
//! `Failure` is the context (endpoint, phase, remedy) that travels inside [`IpcError::Io`]. Nothing here
//! does I/O or decides about retries.

use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;

use crate::metadata::{self, Metadata};
use crate::status::{Code, Status};

/// An error of this side, or an error that the other side sent.
///
/// | variant | when | [`code`](Self::code) |
/// |---|---|---|
/// | `Timeout` | the call's deadline passed after the request was sent | `DEADLINE_EXCEEDED` |
/// | `TooLarge` | a message is above a frame limit; none of it was sent | `RESOURCE_EXHAUSTED` |
/// | `CrcMismatch` | a frame was damaged | `DATA_LOSS` |
/// | `Io` | no connection, or the connection was lost; the message names endpoint, cause and remedy | `UNAVAILABLE`, mostly |
/// | `Decode` | the bytes are not a valid message of the expected type | `INTERNAL` |
/// | `Encode` | something can't be put on the wire, such as a bad metadata key | `INVALID_ARGUMENT` |
/// | `PeerClosed` | the stream ended where a frame was expected | `UNAVAILABLE` |
/// | `InvalidLength` | a frame header announces an empty message | `INVALID_ARGUMENT` |
/// | `Status` | the other side answered with an error | its own |
///
/// `Debug` gives the same words as `Display`, because that is what a `main` that returns an error prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum IpcError {
    /// The deadline passed after the request was sent, or a frame did not arrive completely in time.
    #[error(
        "timed out after the request was sent, so it may have been processed; \
         allow more time with Request::with_timeout or read_timeout_ms"
    )]
    Timeout,
    /// A message is larger than the limit of a frame.
    #[error(
        "message of {size} bytes is above the limit of {max_size}; \
         raise max_frame_bytes on both sides, or stream it in parts"
    )]
    TooLarge {
        /// The size in bytes, envelope included.
        size: usize,
        /// The smaller of both sides' `max_frame_bytes`.
        max_size: usize,
    },
    /// The checksum of a frame does not match its bytes.
    #[error(
        "frame damaged: its header says checksum {expected:08x}, its bytes give {actual:08x}; \
         if this repeats, check that both sides use the same crc32_variant"
    )]
    CrcMismatch {
        /// The checksum in the frame's header.
        expected: u32,
        /// The checksum of the bytes that arrived.
        actual: u32,
    },
    /// Connecting, binding, reading or writing failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The bytes are not a valid protobuf message of the expected type.
    #[error("cannot decode: {0}; check that both sides were built from the same schema")]
    Decode(#[from] prost::DecodeError),
    /// Something can't be put on the wire.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The other side closed the stream.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// A frame header gives a length that no frame has.
    #[error("frame header gives a length of {length}; is the peer speaking this protocol?")]
    InvalidLength {
        /// The length in the header.
        length: usize,
    },
    /// The error with which the other side answered.
    #[error("{0}")]
    Status(#[from] Status),
}

impl fmt::Debug for IpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl IpcError {
    /// The gRPC code of this error. For [`IpcError::Status`], it is the code that the other side sent.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Timeout => Code::DeadlineExceeded,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::CrcMismatch { .. } => Code::DataLoss,
            Self::Io(error) => match Failure::of(error) {
                Some(failure) => failure.code,
                None if error.kind() == io::ErrorKind::InvalidInput => Code::InvalidArgument,
                None => Code::Unavailable,
            },
            Self::Decode(_) => Code::Internal,
            Self::Encode(_) | Self::InvalidLength { .. } => Code::InvalidArgument,
            Self::PeerClosed => Code::Unavailable,
            Self::Status(status) => status.code(),
        }
    }

    /// Whether the server can have seen the request. If this is `false`, it is safe to send the request again.
    #[must_use]
    pub fn request_sent(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Encode(_) => false,
            Self::Io(error) => Failure::of(error).is_some_and(|failure| failure.request_sent),
            Self::Status(status) => status.request_sent(),
            Self::Timeout
            | Self::CrcMismatch { .. }
            | Self::InvalidLength { .. }
            | Self::Decode(_)
            | Self::PeerClosed => true,
        }
    }

    /// Whether a frame was damaged, as this side found or the other side reported.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::CrcMismatch { .. } => true,
            Self::Status(status) => status.code() == Code::DataLoss,
            _ => false,
        }
    }

    pub(crate) fn invalid_input(message: String) -> Self {
        Self::Io(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

impl From<io::Error> for IpcError {
    /// The end of a stream becomes [`IpcError::PeerClosed`], for every way in which a platform reports it.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
                if Failure::of(&error).is_none() =>
            {
                Self::PeerClosed
            }
            _ => Self::Io(error),
        }
    }
}

impl From<IpcError> for Status {
    /// The status with which a handler answers if a call that it made has failed.
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Status(status) => status,
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

/// Changes that can fail. They are here because the module `metadata` does not know errors.
impl Metadata {
    /// Adds a pair after all others.
    ///
    /// # Errors
    ///
    /// [`IpcError::Encode`] if the key is empty or has a character outside `[0-9a-z_.-]`; nothing is added.
    pub fn append(&mut self, key: &str, value: impl Into<Bytes>) -> Result<(), IpcError> {
        metadata::check_key(key).map_err(IpcError::Encode)?;
        self.push(key, value.into());
        Ok(())
    }

    /// Replaces all pairs with this key by one pair at the end.
    ///
    /// # Errors
    ///
    /// Like [`append`](Self::append). Nothing is changed then.
    pub fn insert(&mut self, key: &str, value: impl Into<Bytes>) -> Result<(), IpcError> {
        metadata::check_key(key).map_err(IpcError::Encode)?;
        self.remove(key);
        self.push(key, value.into());
        Ok(())
    }
}

/// Why a call or an attempt to connect failed on this side.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) endpoint: Arc<str>,
    /// What was being done, such as "connecting to". The endpoint follows it.
    pub(crate) phase: &'static str,
    pub(crate) cause: Arc<IpcError>,
    /// What the reader can do. Empty if the cause says it.
    pub(crate) remedy: &'static str,
    pub(crate) code: Code,
    pub(crate) request_sent: bool,
}

impl Failure {
    /// The failure inside an [`io::Error`], if there is one.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(crate) fn into_error(self, kind: io::ErrorKind) -> IpcError {
        IpcError::Io(io::Error::new(kind, self))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.phase, self.endpoint, self.cause)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_that_returns_an_error_prints_words() {
        let failure = Failure {
            endpoint: "/run/x.sock".into(),
            phase: "connecting to",
            cause: Arc::new(IpcError::PeerClosed),
            remedy: "start it",
            code: Code::Unavailable,
            request_sent: false,
        };
        let error: Box<dyn std::error::Error> = failure.into_error(io::ErrorKind::Other).into();
        assert_eq!(
            format!("{error:?}"),
            "connecting to /run/x.sock: the peer closed the connection; start it"
        );
    }

    #[test]
    fn every_variant_has_its_code_and_says_whether_the_request_left() {
        let cases = [
            (IpcError::Timeout, Code::DeadlineExceeded, true),
            (IpcError::TooLarge { size: 2, max_size: 1 }, Code::ResourceExhausted, false),
            (IpcError::CrcMismatch { expected: 1, actual: 2 }, Code::DataLoss, true),
            (IpcError::Io(io::Error::other("x")), Code::Unavailable, false),
            (IpcError::Encode("x".into()), Code::InvalidArgument, false),
            (IpcError::PeerClosed, Code::Unavailable, true),
            (IpcError::InvalidLength { length: 0 }, Code::InvalidArgument, true),
            (IpcError::Status(Status::aborted("x")), Code::Aborted, true),
            (IpcError::Status(Status::unavailable("x").not_processed()), Code::Unavailable, false),
        ];
        for (error, code, sent) in cases {
            assert_eq!((error.code(), error.request_sent()), (code, sent), "{error}");
        }
    }

    #[test]
    fn a_failure_keeps_its_words_code_and_cause_through_io_and_status() {
        let failure = Failure {
            endpoint: "/run/app.sock".into(),
            phase: "connecting to",
            cause: Arc::new(IpcError::PeerClosed),
            remedy: "start the server",
            code: Code::Unavailable,
            request_sent: false,
        };
        let error = failure.into_error(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            error.to_string(),
            "connecting to /run/app.sock: the peer closed the connection; start the server"
        );
        assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, false));
        assert_eq!(Status::from(error).code(), Code::Unavailable);
    }
}
