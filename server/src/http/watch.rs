//! Watches connections for clients that stand still, without a timer per connection or request.
//!
//! A connection notes the front's coarse clock (1 s) as it reads and writes; one sweep per second looks for those
//! beyond their time and cuts them. Sessions may be silent for ever; TCP keep-alive finds their dead peers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::Phase;
use crate::access::Shown;
use crate::meters::front::CountedMinutes;
use crate::metrics::FrontMetrics;

/// From the first byte of a request head to its last, and from accepting a connection to its first request, in seconds.
const HEAD_SECS_MAX: u32 = 10;
/// Between two pieces of a unary request's body, in seconds.
const BODY_SECS_MAX: u32 = 30;
/// A client that takes nothing although there is something to send is cut after this many seconds.
pub(crate) const WRITE_SECS_MAX: u32 = 60;
/// Between two requests on an HTTP/1.1 connection; clients keep theirs for 90 s.
const IDLE_SECS_MAX: u32 = 180;
/// Without any byte (not even a ping) on an HTTP/2 connection without open streams.
const IDLE_H2_SECS_MAX: u32 = 600;

/// The preface of an HTTP/2 connection and the head of the settings frame that must follow it.
const H2_START_BYTES: usize = 24 + 9;

/// The connections of a front.
pub(crate) struct Watch {
    seconds: Cell<u32>,
    next_id: Cell<u64>,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    metrics: Arc<FrontMetrics>,
    phase: Cell<Phase>,
    emptied: Notify,
}

/// One connection, as its front watches it.
#[derive(Default)]
pub(crate) struct Connection {
    id: u64,
    seconds_at_start: u32,
    is_h2: Cell<bool>,
    read_bytes: Cell<usize>,
    /// Whether a request has come.
    asked: Cell<bool>,
    /// Whether an answer said that the server is draining.
    pub(crate) told: Cell<bool>,
    /// Requests whose answer is not finished.
    open: Cell<u32>,
    /// Answers that are whole and not yet taken.
    answers: Cell<u32>,
    /// When one of them was last made or taken.
    answer_at: Cell<u32>,
    /// Unary bodies that are being read.
    bodies: Cell<u32>,
    last_read: Cell<u32>,
    head_since: Cell<Option<u32>>,
    /// Since when the client takes nothing of what there is to send.
    pub(super) blocked_since: Cell<Option<u32>>,
    cut: Cell<bool>,
    /// Minutes of appends that are metered.
    pub(crate) counted: CountedMinutes,
    waker: RefCell<Option<Waker>>,
    /// The access token that its last request showed.
    pub(crate) shown: Shown,
}

impl Watch {
    /// Watches nothing yet.
    #[must_use]
    pub(crate) fn new(metrics: Arc<FrontMetrics>) -> Self {
        Self {
            seconds: Cell::new(0),
            next_id: Cell::new(0),
            connections: RefCell::default(),
            metrics,
            phase: Cell::new(Phase::Serving),
            emptied: Notify::new(),
        }
    }

    /// Seconds since the front started.
    #[must_use]
    pub(crate) const fn seconds(&self) -> u32 {
        self.seconds.get()
    }

    /// Connections that are open.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Takes a new connection under watch until the guard is dropped.
    pub(crate) fn open(self: &Rc<Self>) -> Watched {
        let (id, now) = (self.next_id.get(), self.seconds.get());
        self.next_id.set(id + 1);
        let connection = Rc::new(Connection {
            id,
            seconds_at_start: now,
            last_read: Cell::new(now),
            head_since: Cell::new(Some(now)),
            ..Connection::default()
        });
        self.connections.borrow_mut().insert(id, Rc::clone(&connection));
        self.metrics.connections.add(1);
        self.metrics.connections_total.add(1);
        Watched { watch: Rc::clone(self), connection }
    }

    /// Returns when there is no connection.
    pub(crate) async fn emptied(&self) {
        while self.len() > 0 {
            self.emptied.notified().await;
        }
    }

    /// How far the front is on its way out.
    #[must_use]
    pub(crate) const fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Wakes every connection's task: it shall see the new phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        connections.iter().for_each(|c| c.wake());
    }

    /// Ticks the coarse clock and cuts whoever stands still, for ever. `also` is called at each tick.
    pub(crate) async fn sweep(&self, mut also: impl FnMut(u32)) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = self.seconds.get() + 1;
            self.seconds.set(now);
            let stalled: Vec<_> = self.connections.borrow().values().filter(|c| c.is_stalled(now)).cloned().collect();
            stalled.iter().for_each(|c| self.cut(c));
            also(now);
        }
    }

    /// Ends a connection whose client stands still.
    pub(crate) fn cut(&self, connection: &Connection) {
        if !connection.cut.replace(true) {
            self.metrics.connections_stalled_total.add(1);
            tracing::debug!(
                connection = connection.id,
                age_secs = self.seconds.get() - connection.seconds_at_start,
                "cut a silent connection"
            );
            connection.wake();
        }
    }
}

impl Connection {
    /// Numbers the connections of a front.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Whether this is HTTP/2 between two requests.
    pub(crate) fn is_idle_h2(&self) -> bool {
        self.is_h2.get() && self.asked.get() && self.open.get() == 0
    }

    /// Whether this is HTTP/1.1 between two requests: all answers are sent, and nothing of the next head has come.
    pub(crate) fn is_idle_h1(&self) -> bool {
        !self.is_h2.get()
            && self.asked.get()
            && self.open.get() == 0
            && self.head_since.get().is_none()
            && self.blocked_since.get().is_none()
    }

    fn is_stalled(&self, now: u32) -> bool {
        let older = |since: u32, max: u32| now.saturating_sub(since) > max;
        if self.blocked_since.get().is_some_and(|s| older(s, WRITE_SECS_MAX)) {
            return true;
        }
        if self.answers.get() > 0 && older(self.answer_at.get(), WRITE_SECS_MAX) {
            return true;
        }
        if self.bodies.get() > 0 && older(self.last_read.get(), BODY_SECS_MAX) {
            return true;
        }
        if self.open.get() > 0 {
            return false;
        }
        let idle_max = if self.is_h2.get() { IDLE_H2_SECS_MAX } else { IDLE_SECS_MAX };
        self.head_since.get().is_some_and(|s| older(s, HEAD_SECS_MAX)) || older(self.last_read.get(), idle_max)
    }

    /// Whether the connection shall end now; else its task is woken when it shall.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> bool {
        match &mut *self.waker.borrow_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        self.cut.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Bytes have come.
    pub(super) fn has_read(&self, now: u32, bytes: &[u8]) {
        self.last_read.set(now);
        let before = self.read_bytes.get();
        self.read_bytes.set(before.saturating_add(bytes.len()));
        if before == 0 {
            self.is_h2.set(bytes.starts_with(b"PRI"));
        }
        if self.is_h2.get() {
            if self.read_bytes.get() >= H2_START_BYTES {
                self.head_since.set(None);
            }
        } else if self.open.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(now));
        }
    }

    /// Counts a unary body as being read, until the guard is dropped.
    pub(crate) fn reading_body(self: &Rc<Self>) -> impl Drop + use<> {
        self.bodies.set(self.bodies.get() + 1);
        Reading(Rc::clone(self))
    }
}

struct Reading(Rc<Connection>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.bodies.set(self.0.bodies.get() - 1);
    }
}

/// A connection under watch.
pub(crate) struct Watched {
    /// What watches it.
    pub(crate) watch: Rc<Watch>,
    /// The connection.
    pub(crate) connection: Rc<Connection>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.connections.borrow_mut().remove(&self.connection.id);
        self.watch.metrics.connections.sub(1);
        if self.watch.len() == 0 {
            self.watch.emptied.notify_waiters();
        }
    }
}

/// A request whose answer is not finished. Lives in the answer's body.
pub(crate) struct OpenRequest {
    watch: Rc<Watch>,
    connection: Rc<Connection>,
    is_answered: bool,
}

impl OpenRequest {
    /// The head of a request has come.
    #[must_use]
    pub(crate) fn new(watch: &Rc<Watch>, connection: &Rc<Connection>) -> Self {
        connection.open.set(connection.open.get() + 1);
        connection.asked.set(true);
        watch.metrics.requests_open.add(1);
        connection.head_since.set(None);
        Self { watch: Rc::clone(watch), connection: Rc::clone(connection), is_answered: false }
    }

    /// The answer is there, whole: the client has to take it in time.
    pub(crate) fn answered(&mut self) {
        assert!(!self.is_answered, "a request is answered once");
        self.is_answered = true;
        self.connection.answers.set(self.connection.answers.get() + 1);
        self.connection.answer_at.set(self.watch.seconds.get());
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.is_answered {
            self.connection.answers.set(self.connection.answers.get() - 1);
            self.connection.answer_at.set(self.watch.seconds.get());
        }
        self.connection.open.set(self.connection.open.get() - 1);
        self.watch.metrics.requests_open.sub(1);
        self.connection.last_read.set(self.watch.seconds.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalled(connection: &Connection) -> u32 {
        (0..1000).find(|now| connection.is_stalled(*now)).unwrap_or(u32::MAX)
    }

    #[test]
    fn each_kind_of_silence_has_its_time() {
        let fresh = Connection { head_since: Cell::new(Some(0)), ..Connection::default() };
        assert_eq!(stalled(&fresh), HEAD_SECS_MAX + 1);
        let idle = Connection::default();
        assert_eq!(stalled(&idle), IDLE_SECS_MAX + 1);
        let following = Connection { open: Cell::new(1), ..Connection::default() };
        assert_eq!(stalled(&following), u32::MAX);
        let uploading = Connection { open: Cell::new(1), bodies: Cell::new(1), ..Connection::default() };
        assert_eq!(stalled(&uploading), BODY_SECS_MAX + 1);
        let answered = Connection { open: Cell::new(1), answers: Cell::new(1), ..Connection::default() };
        assert_eq!(stalled(&answered), WRITE_SECS_MAX + 1);
        let not_taking = Connection { open: Cell::new(1), blocked_since: Cell::new(Some(0)), ..Connection::default() };
        assert_eq!(stalled(&not_taking), WRITE_SECS_MAX + 1);
    }

    #[test]
    fn a_request_head_must_come_in_one_go() {
        let connection = Connection::default();
        connection.has_read(5, b"GET /");
        connection.has_read(14, b"x");
        assert!(!connection.is_stalled(15) && connection.is_stalled(16));
        let h2 = Connection::default();
        h2.head_since.set(Some(5));
        h2.has_read(5, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(h2.is_stalled(16));
        h2.has_read(6, &[0; 9]);
        assert!(!h2.is_stalled(16));
    }
}
