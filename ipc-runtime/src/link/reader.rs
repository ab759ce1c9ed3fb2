//! Reads the headers, items and end of a call. It is the same for both roles of a call.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::Link;
use crate::metadata::Metadata;
use crate::protocol::call::{self, End, Next, Waiting};
use crate::protocol::table::CallKey;

/// Reads one call. It does not keep the call alive.
#[derive(Debug)]
pub(crate) struct CallReader {
    link: Arc<Link>,
    key: CallKey,
    /// Items that were taken out of the connection together.
    items: VecDeque<Waiting>,
    /// The cost of items that the application has taken and that are not yet granted to the sender again.
    taken: u64,
    /// The end that follows them, if it is already known.
    end: Option<End>,
    has_read: bool,
}

/// The next part of a call.
#[derive(Debug)]
pub(crate) enum Received {
    Headers(Metadata),
    Item(Bytes),
    End(End),
}

impl CallReader {
    pub(crate) const fn new(link: Arc<Link>, key: CallKey) -> Self {
        Self { link, key, items: VecDeque::new(), taken: 0, end: None, has_read: false }
    }

    pub(crate) const fn key(&self) -> CallKey {
        self.key
    }

    /// How long a write on the call's connection may make no progress.
    pub(crate) fn write_timeout(&self) -> std::time::Duration {
        self.link.terms().write_timeout
    }

    /// Whether the end of the call is known. Items before it may still be unread.
    pub(crate) const fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// The next part: headers, then items, then the end. Credit for items is given back as they are taken.
    ///
    /// It uses tokio's task budget, so a loop over it lets other tasks run.
    #[inline]
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        // The first item is free: most calls have but one.
        if self.has_read {
            ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
        }
        match self.unread() {
            Some(item) => Poll::Ready(Received::Item(item)),
            None => self.poll_core(cx),
        }
    }

    /// Takes the call's next parts out of the connection.
    fn poll_core(&mut self, cx: &Context<'_>) -> Poll<Received> {
        if let Some(end) = &self.end {
            return Poll::Ready(Received::End(end.clone()));
        }
        let Self { link, key, items, .. } = self;
        let mut state = link.lock();
        let next = state.core.next(*key, items, cx.waker());
        if state.core.can_transmit() {
            link.settle(state, Instant::now().into_std());
        } else {
            drop(state);
        }
        match next {
            None => Poll::Pending,
            Some(Next::Headers(headers)) => Poll::Ready(Received::Headers(headers)),
            Some(Next::End(end)) => Poll::Ready(Received::End(end)),
            Some(Next::Item(item, end)) => {
                self.end = end;
                self.note_taken(item.cost);
                Poll::Ready(Received::Item(item.message))
            }
            Some(Next::Items(end)) => {
                self.end = end;
                match self.unread() {
                    Some(item) => Poll::Ready(Received::Item(item)),
                    None => Poll::Ready(Received::End(End::Over)),
                }
            }
        }
    }

    #[inline]
    fn unread(&mut self) -> Option<Bytes> {
        let Waiting { message, cost } = self.items.pop_front()?;
        self.note_taken(cost);
        Some(message)
    }

    #[inline]
    fn note_taken(&mut self, cost: u64) {
        self.has_read = true;
        self.taken = self.taken.saturating_add(cost);
        if self.end.is_none() && call::is_grant_due(self.taken, self.link.terms().window) {
            let taken = std::mem::take(&mut self.taken);
            let key = self.key;
            self.link.update(Instant::now().into_std(), |core, _| core.taken(key, taken));
        }
    }
}
