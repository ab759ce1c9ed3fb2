//! Who is at the other end: [`PeerInfo`], and the policy that says who may be.
//!
//! The operating system says who a process is; what it says of itself is kept apart. Nothing here does I/O.

use std::fmt;
use std::sync::Arc;

use crate::endpoint::Access;
use crate::status::Status;
use crate::wire::{Hello, ServiceInfo};

/// Who is at the other end of a connection.
///
/// Process and user are what the operating system says (`SO_PEERCRED` and its kin): for a client the process that
/// listens, for a server the one that connected, at that time. The rest is what the peer says of itself in its
/// Hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The process id; `None` where the system does not tell.
    pub pid: Option<u32>,
    /// The effective user id; `None` on Windows.
    pub uid: Option<u32>,
    /// The effective group id; supplementary groups are not told. `None` on Windows.
    pub gid: Option<u32>,
    /// On Windows' clients: the security identifier of the user to whom the server's pipe belongs, such as `S-1-5-18`.
    /// `None` on servers, whose pipe admits their own user alone, and on Unix.
    pub sid: Option<String>,
    /// The application's own version, as the peer gives it; may be empty.
    pub version: String,
    /// On clients: drawn by the server when it started, so another value means that it was started again.
    pub instance_id: u64,
    services: Vec<ServiceInfo>,
}

impl PeerInfo {
    /// On clients: the full names of the services that the server has.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.name.as_str())
    }

    /// On clients: the fingerprint of the server's schema of a service; `None` if it does not have the service or
    /// gives no fingerprint.
    #[must_use]
    pub fn fingerprint(&self, service: &str) -> Option<u64> {
        let service = self.services.iter().find(|known| known.name == service)?;
        (service.fingerprint != 0).then_some(service.fingerprint)
    }

    /// On clients: whether the server's schema of a service is the same as this one, which generated clients have as
    /// `SCHEMA`. `None` if either side does not say.
    ///
    /// ```
    /// # use ipc_runtime::{PeerInfo, Schema};
    /// # fn warn(server: &PeerInfo, schema: Schema) {
    /// if server.has_schema(schema) == Some(false) {
    ///     eprintln!("the server was built from another version of {}", schema.service());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn has_schema(&self, schema: Schema) -> Option<bool> {
        let theirs = self.fingerprint(schema.service)?;
        (schema.fingerprint != 0).then_some(theirs == schema.fingerprint)
    }

    pub(crate) fn greeted(mut self, hello: &Hello) -> Self {
        self.version.clone_from(&hello.peer_version);
        self.instance_id = hello.instance_id;
        self.services.clone_from(&hello.services);
        self
    }
}

/// Which schema of a service a program was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    service: &'static str,
    fingerprint: u64,
}

impl Schema {
    /// The schema with this fingerprint (0: unknown) of a service, given by its full name. Generated code calls it.
    #[must_use]
    pub const fn new(service: &'static str, fingerprint: u64) -> Self {
        Self { service, fingerprint }
    }

    /// The service's full name, such as `greeter.v1.Greeter`.
    #[must_use]
    pub const fn service(self) -> &'static str {
        self.service
    }

    /// Equal for equal schemas: methods, their kinds, and all messages they use. 0: unknown.
    #[must_use]
    pub const fn fingerprint(self) -> u64 {
        self.fingerprint
    }
}

/// Who may be at the other end. By default the same user, and root.
#[derive(Clone, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
}

type Rule = Arc<dyn Fn(&PeerInfo) -> bool + Send + Sync>;

impl Policy {
    pub(crate) fn allow(&mut self, rule: impl Fn(&PeerInfo) -> bool + Send + Sync + 'static) {
        self.rules.push(Arc::new(rule));
    }

    /// Whether some rule lets other users in.
    pub(crate) fn access(&self) -> Access {
        if self.rules.is_empty() { Access::Private } else { Access::Open }
    }

    /// # Errors
    ///
    /// `PERMISSION_DENIED`, with nothing about the policy: it goes to the peer.
    pub(crate) fn check(&self, peer: &PeerInfo) -> Result<(), Status> {
        if is_own(peer) || self.rules.iter().any(|rule| rule(peer)) {
            return Ok(());
        }
        tracing::warn!(
            pid = peer.pid,
            uid = peer.uid,
            gid = peer.gid,
            sid = peer.sid,
            "a peer is not allowed"
        );
        Err(Status::permission_denied("this user may not connect"))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "own user, root and {} more rules", self.rules.len())
    }
}

/// Whether the peer is the same user or root.
#[cfg(unix)]
fn is_own(peer: &PeerInfo) -> bool {
    peer.uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
}

/// Whether the server's pipe belongs to the same user, to the system or the administrators. Of a server's clients no
/// user is told: the pipe's access list has judged already.
#[cfg(windows)]
fn is_own(peer: &PeerInfo) -> bool {
    peer.sid.as_deref().is_none_or(crate::transport::is_trusted)
}

/// This process, for connections within it.
pub(crate) fn this_process() -> PeerInfo {
    PeerInfo {
        pid: Some(std::process::id()),
        #[cfg(unix)]
        uid: Some(rustix::process::geteuid().as_raw()),
        #[cfg(unix)]
        gid: Some(rustix::process::getegid().as_raw()),
        ..PeerInfo::default()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn user(uid: u32, gid: u32) -> PeerInfo {
        PeerInfo { uid: Some(uid), gid: Some(gid), ..PeerInfo::default() }
    }

    #[test]
    fn the_own_user_and_root_pass_and_others_need_a_rule() {
        let own = this_process();
        let other = user(own.uid.unwrap() + 1, 7);
        let mut policy = Policy::default();
        policy.check(&own).unwrap();
        policy.check(&user(0, 0)).unwrap();
        let refused = policy.check(&other).unwrap_err();
        assert_eq!(refused, Status::permission_denied("this user may not connect"));
        assert!(policy.check(&PeerInfo::default()).is_err());
        policy.allow(|peer| peer.gid == Some(7));
        policy.check(&other).unwrap();
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    fn owner(sid: &str) -> PeerInfo {
        PeerInfo { sid: Some(sid.to_owned()), ..PeerInfo::default() }
    }

    #[test]
    fn pipes_of_the_own_user_and_the_system_pass_and_others_need_a_rule() {
        let other = owner("S-1-5-21-1-2-3-1001");
        let mut policy = Policy::default();
        policy.check(&this_process()).unwrap();
        policy.check(&owner(crate::transport::current_user().unwrap())).unwrap();
        policy.check(&owner("S-1-5-18")).unwrap();
        policy.check(&owner("S-1-5-32-544")).unwrap();
        let refused = policy.check(&other).unwrap_err();
        assert_eq!(refused, Status::permission_denied("this user may not connect"));
        policy.allow(|peer| peer.sid.as_deref() == Some("S-1-5-21-1-2-3-1001"));
        policy.check(&other).unwrap();
    }
}
