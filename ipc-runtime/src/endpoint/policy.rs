//! Who may be at the other end of a connection: the own user, root, and whom rules let in.
//!
//! It judges what the operating system says about a peer, and nothing that the peer says about itself.

use std::fmt;
use std::sync::Arc;

use super::access::Access;
use crate::peer::PeerInfo;
use crate::status::Status;

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
    let mut peer = PeerInfo::default();
    peer.pid = Some(std::process::id());
    #[cfg(unix)]
    {
        peer.uid = Some(rustix::process::geteuid().as_raw());
        peer.gid = Some(rustix::process::getegid().as_raw());
    }
    peer
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn user(uid: u32, gid: u32) -> PeerInfo {
        let mut peer = PeerInfo::default();
        peer.uid = Some(uid);
        peer.gid = Some(gid);
        peer
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
        let mut peer = PeerInfo::default();
        peer.sid = Some(sid.to_owned());
        peer
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
