//! Why a connection ends, and what the peer is told about it (wire protocol, sections 2 and 8).
//!
//! It knows errors and statuses, and not the connection that ends.

use crate::error::IpcError;
use crate::status::{Code, Status};

/// Why a connection ends, and what the peer is told about it.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) cause: IpcError,
    /// The status of the last `GoAway`; `None` sends none.
    pub(crate) go_away: Option<Status>,
}

impl Ending {
    pub(crate) const fn silent(cause: IpcError) -> Self {
        Self { cause, go_away: None }
    }

    /// The peer broke the protocol.
    pub(crate) fn breach(status: Status) -> Self {
        Self { cause: IpcError::Status(status.clone()), go_away: Some(status) }
    }

    /// A frame was invalid (wire protocol, the table of section 2).
    pub(crate) fn frame(cause: IpcError) -> Self {
        let go_away = frame_error_code(&cause).map(|code| Status::new(code, cause.to_string()));
        Self { cause, go_away }
    }
}

/// The code that the peer is sent for a frame error. `None` if the stream itself ended.
pub(crate) const fn frame_error_code(error: &IpcError) -> Option<Code> {
    match error {
        IpcError::InvalidLength { .. } | IpcError::Decode(_) => Some(Code::InvalidArgument),
        IpcError::TooLarge { .. } => Some(Code::ResourceExhausted),
        IpcError::CrcMismatch { .. } => Some(Code::DataLoss),
        IpcError::Timeout => Some(Code::DeadlineExceeded),
        IpcError::Io(_) | IpcError::Encode(_) | IpcError::PeerClosed | IpcError::Status(_) => None,
    }
}
