//! The open sessions of a front: counted, bounded, woken for a drain, and cut when their client takes nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use api::{ApiError, Code};

use super::watch::{Connection, WRITE_SECS_MAX, Watch};
use crate::access::guard::Guard;
use crate::admission::{Seat, Subject};
use crate::metrics::FrontMetrics;

/// The sessions of a front.
pub(crate) struct Sessions {
    max: usize,
    next_id: Cell<u64>,
    open: RefCell<BTreeMap<u64, Rc<Session>>>,
    metrics: Arc<FrontMetrics>,
}

struct Session {
    connection: Rc<Connection>,
    waker: RefCell<Option<Waker>>,
    /// Since when the last piece waits to be taken, on the clock of [`Watch::seconds`].
    gave_at: Cell<Option<u32>>,
    /// When its token expires, in milliseconds since the Unix epoch.
    expires_at_ms: Cell<Option<u64>>,
}

/// A place among the sessions, given back on drop.
pub(crate) struct Place {
    sessions: Rc<Sessions>,
    watch: Rc<Watch>,
    id: u64,
    session: Rc<Session>,
    guard: Option<Guard>,
    /// Its place within the limits of token, basin and stream.
    seat: Option<Seat>,
}

impl Sessions {
    /// Room for `max` sessions.
    #[must_use]
    pub(crate) fn new(max: usize, metrics: Arc<FrontMetrics>) -> Self {
        Self { max, next_id: Cell::new(0), open: RefCell::default(), metrics }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 429 `rate_limited` when there is none: nothing has happened, the client may try again.
    pub(crate) fn enter(self: &Rc<Self>, watch: &Rc<Watch>, connection: &Rc<Connection>) -> Result<Place, ApiError> {
        if self.open.borrow().len() >= self.max {
            let error =
                ApiError::new(Code::RateLimited, format!("too many open sessions: at most {} per front", self.max));
            return Err(ApiError { retry_after_ms: Some(RETRY_AFTER_MS), ..error });
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let session = Rc::new(Session {
            connection: Rc::clone(connection),
            waker: RefCell::default(),
            gave_at: Cell::new(None),
            expires_at_ms: Cell::new(None),
        });
        self.open.borrow_mut().insert(id, Rc::clone(&session));
        self.metrics.sessions.add(1);
        Ok(Place { sessions: Rc::clone(self), watch: Rc::clone(watch), id, session, guard: None, seat: None })
    }

    /// Wakes every session.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<_> = self.open.borrow().values().filter_map(|s| s.waker.borrow().clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes the sessions whose token has expired.
    pub(crate) fn wake_expired(&self, now_ms: u64) {
        let expired = |s: &&Rc<Session>| s.expires_at_ms.get().is_some_and(|at| at <= now_ms);
        let wakers: Vec<_> =
            self.open.borrow().values().filter(expired).filter_map(|s| s.waker.borrow().clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Cuts the connections of clients that did not take the last piece in time.
    pub(crate) fn sweep(&self, watch: &Watch, now: u32) {
        let stalled = |s: &&Rc<Session>| s.gave_at.get().is_some_and(|at| now.saturating_sub(at) > WRITE_SECS_MAX);
        let connections: Vec<_> =
            self.open.borrow().values().filter(stalled).map(|s| Rc::clone(&s.connection)).collect();
        connections.iter().for_each(|connection| watch.cut(connection));
    }
}

impl Place {
    /// Ties the session to the token that opened it.
    #[must_use]
    pub(crate) fn guarded(mut self, guard: Guard) -> Self {
        self.session.expires_at_ms.set(guard.expires_at_ms());
        self.guard = Some(guard);
        self
    }

    /// Counts the session within the limits of its names.
    #[must_use]
    pub(crate) fn seated(mut self, seat: Seat) -> Self {
        self.seat = Some(seat);
        self
    }

    /// What the session's batches are limited by. Whoever opens a session of a stream takes a seat first.
    #[must_use]
    pub(crate) fn subject(&self) -> Subject {
        self.seat.as_ref().expect("a session that appends is counted within the limits of its names").subject()
    }

    /// Whether the session's token still stands.
    ///
    /// # Errors
    /// 401 `authn`.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        self.guard.as_ref().map_or(Ok(()), Guard::check)
    }

    /// The session's body is being polled: whatever it gave before was taken.
    pub(crate) fn polled(&self, cx: &Context<'_>) {
        self.session.gave_at.set(None);
        match &mut *self.session.waker.borrow_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// The session's body gave a piece and wants to be asked for more.
    pub(crate) fn gave(&self) {
        self.session.gave_at.set(Some(self.watch.seconds()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.open.borrow_mut().remove(&self.id);
        self.sessions.metrics.sessions.sub(1);
    }
}

/// What a client is told to wait when there is no place.
const RETRY_AFTER_MS: u32 = 1000;
