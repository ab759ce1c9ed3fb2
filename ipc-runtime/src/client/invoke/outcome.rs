//! How a call that was opened came out: what its end says, and the errors of those that have no answer.

use std::sync::Arc;

use crate::error::{Failure, IpcError};
use crate::metadata::Metadata;
use crate::protocol::call::{End, Lost};
use crate::protocol::envelope::{CloseDetails, CloseMetadata, Limited};
use crate::protocol::retry;
use crate::status::{Code, Status};

/// Why a call that was opened has no answer.
pub(super) enum Unanswered {
    Lost(Lost),
    /// The server closed the call with an error.
    Refused {
        status: Box<Status>,
        not_processed: bool,
    },
    Expired {
        sent: bool,
        admitted: bool,
    },
    /// Another error, which repeating the call can't correct.
    Failed(IpcError),
}

impl Unanswered {
    pub(super) fn judged(&self) -> retry::Unanswered {
        match self {
            Self::Lost(lost) => retry::Unanswered::Lost { sent: lost.sent, begun: lost.begun },
            Self::Refused { status, not_processed } => {
                retry::Unanswered::Refused { code: status.code(), not_processed: *not_processed }
            }
            Self::Expired { .. } | Self::Failed(_) => retry::Unanswered::Failed,
        }
    }
}

/// The error of a call whose connection ended before its answer.
pub(super) fn lost_error(endpoint: &Arc<str>, lost: &Lost) -> IpcError {
    let code = if lost.cause.is_damage() { Code::DataLoss } else { Code::Unavailable };
    let failure = Failure {
        endpoint: Arc::clone(endpoint),
        phase: "lost the connection to",
        cause: Arc::clone(&lost.cause),
        remedy: if lost.sent {
            "the request may have been processed, so repeat it only if that does no harm"
        } else {
            "the request was not processed, so it can be sent again"
        },
        code,
        request_sent: lost.sent,
    };
    failure.into_error(std::io::ErrorKind::ConnectionReset)
}

/// The metadata of the server's `Close`, if it is a success.
pub(super) fn closed(end: End) -> Result<CloseMetadata, Unanswered> {
    match end {
        End::Closed(None) => Ok(CloseMetadata::default()),
        End::Closed(Some(details)) => {
            let CloseDetails { error, metadata, not_processed } = *details;
            let metadata = match metadata {
                Limited::Within(metadata) => metadata,
                // The connection has already ended such a call.
                Limited::TooLarge => CloseMetadata::default(),
            };
            match error {
                None => Ok(metadata),
                Some(status) => Err(refused(status, metadata, not_processed)),
            }
        }
        End::Lost(lost) => Err(Unanswered::Lost(lost)),
        End::Cancelled(status) => Err(Unanswered::Failed(IpcError::Status(*status))),
        End::Expired { sent, admitted } => Err(Unanswered::Expired { sent, admitted }),
        End::Unsendable(error) => Err(Unanswered::Failed(unsendable(&error))),
        End::HalfClosed | End::Over => Err(Unanswered::Failed(IpcError::PeerClosed)),
    }
}

/// The error of a request that can't be put on the wire.
pub(super) fn unsendable(error: &IpcError) -> IpcError {
    match error {
        IpcError::TooLarge { size, max_size } => IpcError::TooLarge { size: *size, max_size: *max_size },
        other => IpcError::Encode(other.to_string()),
    }
}

fn refused(status: Status, metadata: CloseMetadata, not_processed: bool) -> Unanswered {
    let CloseMetadata { mut headers, trailers } = metadata;
    headers.merge(trailers);
    if let Err(error) = check_keys(&headers) {
        return Unanswered::Failed(error);
    }
    Unanswered::Refused { status: Box::new(status.with_metadata(headers)), not_processed }
}

pub(super) fn check_keys(metadata: &Metadata) -> Result<(), IpcError> {
    match metadata.first_bad_key() {
        None => Ok(()),
        Some(why) => Err(IpcError::Status(Status::internal(format!("the server sent bad metadata: {why}")))),
    }
}

pub(super) fn wrong_count(what: &str) -> Unanswered {
    let words = format!("the server sent {what} where the method has exactly one");
    Unanswered::Failed(IpcError::Status(Status::internal(words)))
}
