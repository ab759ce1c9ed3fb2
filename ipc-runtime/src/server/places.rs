//! Limited numbers of places for connections. If rules admit several users, some places are reserved for users who have
//! none, so that one user can't take all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::peer::PeerInfo;
use crate::sync::lock;

/// One of this many places is reserved for users who have none.
const KEPT_OF: usize = 4;

/// The user who takes a place; `None` if the system does not report it.
pub(super) type User = Option<u32>;

/// The user of a peer.
pub(super) const fn user_of(peer: &PeerInfo) -> User {
    peer.uid
}

/// A limited number of places.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    /// Places that only users who have none may take.
    kept: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Counted only if places are reserved.
    by_user: HashMap<User, usize>,
}

/// One of the places; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    user: User,
}

impl Places {
    /// `limit` places. `is_shared` says whether several users may connect.
    pub(super) fn new(limit: usize, is_shared: bool) -> Arc<Self> {
        let kept = if is_shared { limit / KEPT_OF } else { 0 };
        Arc::new(Self { limit, kept, taken: Mutex::default() })
    }

    /// Takes a place; `None` if the user may have no more.
    pub(super) fn take(self: &Arc<Self>, user: User) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let free = self.limit.saturating_sub(taken.all);
        if self.kept > 0 {
            let own = taken.by_user.entry(user).or_default();
            let is_first = *own == 0;
            if free == 0 || free <= self.kept && !is_first {
                if is_first {
                    taken.by_user.remove(&user);
                }
                return None;
            }
            *own += 1;
        } else if free == 0 {
            return None;
        }
        taken.all += 1;
        Some(Place { places: Arc::clone(self), user })
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        lock(&self.taken).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        taken.all -= 1;
        if self.places.kept > 0
            && let Some(own) = taken.by_user.get_mut(&self.user)
        {
            *own -= 1;
            if *own == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_alone_may_take_all_where_nobody_else_may_come() {
        let places = Places::new(4, false);
        let taken: Vec<_> = (0..4).map(|_| places.take(Some(1)).unwrap()).collect();
        assert!(places.take(Some(1)).is_none());
        drop(taken);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_quarter_is_kept_for_users_who_have_none() {
        let places = Places::new(8, true);
        let six: Vec<_> = (0..6).map(|_| places.take(Some(1)).unwrap()).collect();
        assert!(places.take(Some(1)).is_none());
        let second = places.take(Some(2)).unwrap();
        assert!(places.take(Some(2)).is_none(), "the last is for a third user");
        let third = places.take(Some(3)).unwrap();
        assert!(places.take(Some(4)).is_none());
        drop((six, second, third));
        assert_eq!((places.taken(), lock(&places.taken).by_user.len()), (0, 0));
    }
}
