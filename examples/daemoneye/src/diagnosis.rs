//! Why an endpoint does not answer, and what to do: [`diagnose`] tells cases apart by the error and by
//! what the file system says.
//!
//! Pure; it must not connect, look or print.

use std::error::Error;
use std::fmt;
use std::io;

use ipc_runtime::{Code, Crc32Variant, IpcError, Status};

use crate::platform::{EndpointFile, Holder};

/// A daemon that was to be reached, and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its program's name.
    pub program: &'a str,
    /// Its endpoint.
    pub endpoint: &'a str,
    /// The flag that names another endpoint.
    pub flag: &'a str,
    /// The checksum on this side.
    pub crc: Crc32Variant,
    /// The user on this side.
    pub user: &'a str,
}

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nothing stands at the endpoint.
    NoSocket,
    /// Something that is no socket stands there.
    NotASocket,
    /// A socket stands there that no process holds.
    StaleSocket,
    /// A process holds the socket and does not accept.
    Refused,
    /// The file system, or the daemon, does not let this user in.
    NoPermission,
    /// The daemon serves as many clients as it may.
    ConnectionLimit,
    /// Both sides are set to different checksums.
    WrongChecksum,
    /// The daemon accepts and does not answer.
    NoAnswer,
    /// A message does not fit into a frame of both sides.
    TooLarge,
    /// Something that speaks another protocol, or without the service.
    WrongProgram,
    /// Nothing of these; the error says it.
    Other,
}

/// A problem in words, with its remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Its kind.
    pub problem: Problem,
    /// What is wrong, in one sentence.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  remedy: {}", self.cause, self.remedy)
    }
}

impl Error for Diagnosis {}

/// Tells why `target` did not answer.
#[must_use]
pub fn diagnose(error: &IpcError, target: Target<'_>, file: &EndpointFile) -> Diagnosis {
    let problem = problem(error, file);
    Diagnosis { problem, cause: cause(problem, error, target, file), remedy: remedy(problem, target, file) }
}

fn problem(error: &IpcError, file: &EndpointFile) -> Problem {
    if let Some(status) = status(error) {
        return match status.code() {
            Code::PermissionDenied => Problem::NoPermission,
            Code::ResourceExhausted if !error.request_sent() => Problem::ConnectionLimit,
            Code::ResourceExhausted => Problem::TooLarge,
            Code::FailedPrecondition => Problem::WrongChecksum,
            Code::DeadlineExceeded => Problem::NoAnswer,
            Code::Unimplemented => Problem::WrongProgram,
            _ => Problem::Other,
        };
    }
    match (error, io_kind(error)) {
        (IpcError::Timeout, _) => Problem::NoAnswer,
        (IpcError::TooLarge { .. }, _) => Problem::TooLarge,
        (IpcError::InvalidLength { .. } | IpcError::Decode(_), _) => Problem::WrongProgram,
        (_, Some(io::ErrorKind::PermissionDenied)) => Problem::NoPermission,
        (_, Some(io::ErrorKind::TimedOut)) => Problem::NoAnswer,
        (_, Some(io::ErrorKind::NotFound)) => Problem::NoSocket,
        (_, Some(io::ErrorKind::ConnectionRefused)) => match file {
            EndpointFile::NotASocket => Problem::NotASocket,
            // Gone since: the daemon ended in between.
            EndpointFile::Missing | EndpointFile::FolderMissing => Problem::NoSocket,
            EndpointFile::Socket { holder: Holder::Nobody, .. } => Problem::StaleSocket,
            _ => Problem::Refused,
        },
        _ => Problem::Other,
    }
}

/// What the other side said, wherever in the error it stands.
fn status(error: &IpcError) -> Option<&Status> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(IpcError::Status(status)) = error.downcast_ref() {
            return Some(status);
        }
        next = error.source();
    }
    None
}

/// The innermost kind: what the platform said, not what it was wrapped into.
fn io_kind(error: &IpcError) -> Option<io::ErrorKind> {
    let mut kind = None;
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        kind = error.downcast_ref().map(io::Error::kind).or(kind);
        next = error.source();
    }
    kind
}

fn cause(problem: Problem, error: &IpcError, target: Target<'_>, file: &EndpointFile) -> String {
    let Target { program, endpoint, user, .. } = target;
    match problem {
        Problem::NoSocket if *file == EndpointFile::FolderMissing => {
            format!("{program} is not running: there is no {endpoint}, nor its folder")
        }
        Problem::NoSocket => format!("{program} is not running: there is no {endpoint}"),
        Problem::NotASocket => format!("{endpoint} is not a socket"),
        Problem::StaleSocket => {
            format!("{program} is not running: {endpoint} is left over from one that did not end cleanly")
        }
        Problem::Refused => format!("{endpoint} refuses connections, though a process holds it"),
        Problem::NoPermission => match (status(error), file) {
            (None, EndpointFile::Socket { mode, owner, .. }) => {
                format!("{user} may not connect to {endpoint}: it is {owner}'s, with mode {mode:04o}")
            }
            (None, EndpointFile::Hidden) => format!("{user} may not look into the folder of {endpoint}"),
            (None, _) => format!("{user} may not connect to {endpoint}"),
            (Some(status), _) => format!("{program} does not serve {user}: {}", status.message()),
        },
        Problem::ConnectionLimit | Problem::WrongChecksum => {
            let said = status(error).map_or_else(|| error.to_string(), |status| status.message().to_owned());
            format!("{program} at {endpoint} refuses this connection: {said}")
        }
        Problem::NoAnswer => format!("{program} at {endpoint} does not answer: {error}"),
        Problem::WrongProgram => format!("what listens at {endpoint} is not {program}: {error}"),
        Problem::TooLarge | Problem::Other => error.to_string(),
    }
}

fn remedy(problem: Problem, target: Target<'_>, file: &EndpointFile) -> String {
    let Target { program, endpoint, flag, crc, .. } = target;
    match problem {
        Problem::NoSocket => {
            format!("start it with `{program} {flag} {endpoint}`, or name its endpoint with {flag}")
        }
        Problem::NotASocket => format!("name {program}'s endpoint with {flag}, or move that file away"),
        Problem::StaleSocket => format!("start {program} again; it replaces the socket"),
        Problem::Refused => format!("wait until {program} has started or ended, or restart it"),
        Problem::NoPermission => match file {
            EndpointFile::Socket { owner, .. } => format!("run this as {owner}"),
            _ => format!("run this as the user that runs {program}"),
        },
        Problem::ConnectionLimit => {
            format!("end other clients, or raise ipc.max_connections and restart {program}")
        }
        Problem::WrongChecksum => {
            let other = match crc {
                Crc32Variant::Ieee => Crc32Variant::Castagnoli,
                Crc32Variant::Castagnoli => Crc32Variant::Ieee,
            };
            format!("pass `--crc {other}`, or set ipc.crc32_variant to the same on both sides")
        }
        Problem::NoAnswer => {
            format!("see whether {program} is stopped or busy, or raise ipc.read_timeout_ms")
        }
        Problem::TooLarge => "set ipc.max_frame_bytes to the same on both sides, or send less".into(),
        Problem::WrongProgram => format!("name {program}'s endpoint with {flag}"),
        Problem::Other => format!("look into {program}'s log"),
    }
}
