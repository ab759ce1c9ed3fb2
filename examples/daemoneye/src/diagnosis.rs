//! Why an endpoint does not answer, and what to do: [`diagnose`] tells cases apart by the error and by
//! what the file system says.
//!
//! Pure; it must not connect, look or print.

use std::error::Error;
use std::fmt;
use std::io;

use ipc_runtime::{Code, Crc32Variant, IpcError};

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
    /// The daemon is shutting down, or has ended in the middle of a call.
    Gone,
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
    let cause = innermost(error);
    match cause {
        IpcError::Status(status) => match status.code() {
            Code::PermissionDenied => Problem::NoPermission,
            Code::ResourceExhausted if !error.request_sent() => Problem::ConnectionLimit,
            Code::ResourceExhausted => Problem::TooLarge,
            Code::FailedPrecondition => Problem::WrongChecksum,
            Code::DeadlineExceeded => Problem::NoAnswer,
            Code::Unimplemented => Problem::WrongProgram,
            Code::Unavailable => Problem::Gone,
            _ => Problem::Other,
        },
        IpcError::Timeout => Problem::NoAnswer,
        IpcError::PeerClosed => Problem::Gone,
        IpcError::TooLarge { .. } if matches!(error, IpcError::TooLarge { .. }) => Problem::TooLarge,
        // While connecting: what came is no greeting of this protocol.
        IpcError::TooLarge { .. } | IpcError::InvalidLength { .. } | IpcError::Decode(_) => {
            Problem::WrongProgram
        }
        IpcError::Io(io) => io_problem(io.kind(), file),
        _ => Problem::Other,
    }
}

fn io_problem(kind: io::ErrorKind, file: &EndpointFile) -> Problem {
    match (kind, file) {
        (io::ErrorKind::PermissionDenied, _) => Problem::NoPermission,
        (io::ErrorKind::TimedOut, _) => Problem::NoAnswer,
        (io::ErrorKind::NotFound, _) => Problem::NoSocket,
        (io::ErrorKind::ConnectionRefused, EndpointFile::NotASocket) => Problem::NotASocket,
        // It was there a moment ago.
        (io::ErrorKind::ConnectionRefused, EndpointFile::Missing | EndpointFile::FolderMissing) => {
            Problem::NoSocket
        }
        (io::ErrorKind::ConnectionRefused, EndpointFile::Socket { holder: Holder::Nobody, .. }) => {
            Problem::StaleSocket
        }
        (io::ErrorKind::ConnectionRefused, _) => Problem::Refused,
        _ => Problem::Other,
    }
}

/// The error that others were wrapped around: what the platform or the other side said.
fn innermost(error: &IpcError) -> &IpcError {
    let mut found = error;
    let mut next = error.source();
    while let Some(error) = next {
        found = error.downcast_ref().unwrap_or(found);
        next = error.source();
    }
    found
}

/// What the other side said, in its own words.
fn said(error: &IpcError) -> Option<&str> {
    match innermost(error) {
        IpcError::Status(status) => Some(status.message()),
        _ => None,
    }
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
        Problem::NoPermission => match (said(error), file) {
            (None, EndpointFile::Socket { mode, owner, .. }) => {
                format!("{user} may not connect to {endpoint}, which belongs to {owner} with mode {mode:04o}")
            }
            (None, EndpointFile::Hidden) => format!("{user} may not look into the folder of {endpoint}"),
            (None, _) => format!("{user} may not connect to {endpoint}"),
            (Some(said), _) => format!("{program} does not serve {user}: {said}"),
        },
        Problem::ConnectionLimit | Problem::WrongChecksum => {
            let said = said(error).unwrap_or("it does not say why");
            format!("{program} at {endpoint} refuses this connection: {said}")
        }
        Problem::NoAnswer => format!("{program} at {endpoint} does not answer: {}", innermost(error)),
        Problem::WrongProgram => format!("what listens at {endpoint} does not speak as {program} does"),
        Problem::Gone => {
            let said = said(error).map_or_else(|| innermost(error).to_string(), str::to_owned);
            format!("{program} at {endpoint} went away: {said}")
        }
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
        Problem::Gone => format!("see whether {program} runs again, and repeat this"),
        Problem::TooLarge => "set ipc.max_frame_bytes to the same on both sides, or send less".into(),
        Problem::WrongProgram => format!("name {program}'s endpoint with {flag}"),
        Problem::Other => format!("look into {program}'s log"),
    }
}

#[cfg(test)]
mod tests {
    use ipc_runtime::Status;

    use super::*;

    const TARGET: Target<'_> = Target {
        program: "procmond",
        endpoint: "/run/p.sock",
        flag: "--endpoint",
        crc: Crc32Variant::Ieee,
        user: "ann (1000)",
    };

    /// An error wrapped as the runtime wraps it: the outer kind, and the cause as the source.
    #[derive(Debug, thiserror::Error)]
    #[error("connecting to /run/p.sock: {0}")]
    struct Connecting(#[source] IpcError);

    fn connecting(cause: IpcError) -> IpcError {
        IpcError::Io(io::Error::new(io::ErrorKind::ConnectionAborted, Connecting(cause)))
    }

    fn os(kind: io::ErrorKind) -> IpcError {
        connecting(IpcError::Io(kind.into()))
    }

    fn socket(holder: Holder) -> EndpointFile {
        EndpointFile::Socket { mode: 0o600, owner: "root (0)".into(), holder }
    }

    #[track_caller]
    fn check(error: &IpcError, file: &EndpointFile, problem: Problem, text: &str) {
        let diagnosis = diagnose(error, TARGET, file);
        assert_eq!((diagnosis.problem, diagnosis.to_string().as_str()), (problem, text));
    }

    #[test]
    fn nothing_there() {
        let remedy = "\n  remedy: start it with `procmond --endpoint /run/p.sock`, or name its endpoint with \
                      --endpoint";
        let text = format!("procmond is not running: there is no /run/p.sock{remedy}");
        check(&os(io::ErrorKind::NotFound), &EndpointFile::Missing, Problem::NoSocket, &text);
        check(&os(io::ErrorKind::ConnectionRefused), &EndpointFile::Missing, Problem::NoSocket, &text);
        let text = format!("procmond is not running: there is no /run/p.sock, nor its folder{remedy}");
        check(&os(io::ErrorKind::NotFound), &EndpointFile::FolderMissing, Problem::NoSocket, &text);
    }

    #[test]
    fn something_there_that_does_not_accept() {
        let refused = os(io::ErrorKind::ConnectionRefused);
        check(
            &refused,
            &socket(Holder::Nobody),
            Problem::StaleSocket,
            "procmond is not running: /run/p.sock is left over from one that did not end cleanly\n  \
             remedy: start procmond again; it replaces the socket",
        );
        for holder in [Holder::Bound, Holder::Listening, Holder::Unknown] {
            check(
                &refused,
                &socket(holder),
                Problem::Refused,
                "/run/p.sock refuses connections, though a process holds it\n  \
                 remedy: wait until procmond has started or ended, or restart it",
            );
        }
        check(
            &refused,
            &EndpointFile::NotASocket,
            Problem::NotASocket,
            "/run/p.sock is not a socket\n  \
             remedy: name procmond's endpoint with --endpoint, or move that file away",
        );
    }

    #[test]
    fn no_permission() {
        let denied = os(io::ErrorKind::PermissionDenied);
        check(
            &denied,
            &socket(Holder::Listening),
            Problem::NoPermission,
            "ann (1000) may not connect to /run/p.sock, which belongs to root (0) with mode 0600\n  \
             remedy: run this as root (0)",
        );
        check(
            &denied,
            &EndpointFile::Hidden,
            Problem::NoPermission,
            "ann (1000) may not look into the folder of /run/p.sock\n  \
             remedy: run this as the user that runs procmond",
        );
        check(
            &connecting(Status::permission_denied("not you").into()),
            &socket(Holder::Listening),
            Problem::NoPermission,
            "procmond does not serve ann (1000): not you\n  remedy: run this as root (0)",
        );
    }

    #[test]
    fn refused_with_a_reason() {
        let limit = connecting(Status::resource_exhausted("2 of 2 connections").into());
        check(
            &limit,
            &socket(Holder::Listening),
            Problem::ConnectionLimit,
            "procmond at /run/p.sock refuses this connection: 2 of 2 connections\n  \
             remedy: end other clients, or raise ipc.max_connections and restart procmond",
        );
        let checksum = connecting(Status::failed_precondition("ieee here, castagnoli there").into());
        check(
            &checksum,
            &socket(Holder::Listening),
            Problem::WrongChecksum,
            "procmond at /run/p.sock refuses this connection: ieee here, castagnoli there\n  \
             remedy: pass `--crc castagnoli`, or set ipc.crc32_variant to the same on both sides",
        );
        let other =
            diagnose(&checksum, Target { crc: Crc32Variant::Castagnoli, ..TARGET }, &EndpointFile::Unknown);
        assert!(other.remedy.starts_with("pass `--crc ieee`"), "{other}");
    }

    #[test]
    fn connected_and_still_no_answer() {
        let remedy = "\n  remedy: see whether procmond is stopped or busy, or raise ipc.read_timeout_ms";
        let text = format!("procmond at /run/p.sock does not answer: {}{remedy}", IpcError::Timeout);
        check(&IpcError::Timeout, &socket(Holder::Listening), Problem::NoAnswer, &text);
        check(&connecting(IpcError::Timeout), &socket(Holder::Listening), Problem::NoAnswer, &text);
    }

    #[test]
    fn gone_in_the_middle() {
        let remedy = "\n  remedy: see whether procmond runs again, and repeat this";
        let stopping = IpcError::Status(Status::unavailable("procmond is stopping"));
        let text = format!("procmond at /run/p.sock went away: procmond is stopping{remedy}");
        check(&stopping, &EndpointFile::Missing, Problem::Gone, &text);
        let text = format!("procmond at /run/p.sock went away: {}{remedy}", IpcError::PeerClosed);
        check(&connecting(IpcError::PeerClosed), &EndpointFile::Missing, Problem::Gone, &text);
    }

    #[test]
    fn a_large_message_is_a_setting_and_a_large_greeting_a_stranger() {
        let large = || IpcError::TooLarge { size: 2, max_size: 1 };
        check(
            &large(),
            &socket(Holder::Listening),
            Problem::TooLarge,
            &format!(
                "{}\n  remedy: set ipc.max_frame_bytes to the same on both sides, or send less",
                large()
            ),
        );
        check(
            &connecting(large()),
            &socket(Holder::Listening),
            Problem::WrongProgram,
            "what listens at /run/p.sock does not speak as procmond does\n  \
             remedy: name procmond's endpoint with --endpoint",
        );
    }

    #[test]
    fn anything_else_is_said_as_it_is() {
        check(
            &IpcError::Status(Status::internal("it broke")),
            &socket(Holder::Listening),
            Problem::Other,
            &format!("{}\n  remedy: look into procmond's log", Status::internal("it broke")),
        );
    }
}
