//! The async face of the shards: a front asks with an [`Op`] and awaits the [`Reply`].
//!
//! One per front, `!Send`, no locks. Requests wait in a slab whose places are used again; a place's generation is part
//! of the token, so an answer to somebody who has left finds nobody. Bounded by what the lanes of the port take.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use engine::driver::FrontPort;
use engine::event::{Op, Reply, SessionId};
use model::{Failure, ShardId, Unavailable};

/// A front's way to its shards. Clones are the same.
#[derive(Clone)]
pub(crate) struct Store(Rc<Inner>);

struct Inner {
    front: u16,
    port: RefCell<FrontPort>,
    places: RefCell<Places>,
    /// The pump, while it sleeps.
    pump: RefCell<Option<Waker>>,
    /// Whoever found a lane full.
    room: RefCell<Vec<Waker>>,
    sessions: Cell<u64>,
}

/// A request that is on its way. Dropping it forgets the answer, and cancels a follow.
pub(crate) struct Pending {
    store: Store,
    token: u64,
    /// The shard to tell when this is dropped unanswered.
    follows: Option<ShardId>,
    answered: bool,
}

impl Store {
    /// A store over `port`. Somebody must run [`Store::pump`].
    #[must_use]
    pub(crate) fn new(port: FrontPort) -> Self {
        Self(Rc::new(Inner {
            front: port.front(),
            port: RefCell::new(port),
            places: RefCell::default(),
            pump: RefCell::default(),
            room: RefCell::default(),
            sessions: Cell::new(0),
        }))
    }

    /// Sends a request. It leaves with all others of this turn of the runtime.
    ///
    /// # Errors
    /// Gives the op back when the lane is full; see [`Store::poll_room`].
    #[expect(clippy::result_large_err, reason = "the refused op goes back whole, for another try without a copy")]
    pub(crate) fn submit(&self, shard: ShardId, op: Op) -> Result<Pending, Op> {
        let follows = matches!(op, Op::Follow(_)).then_some(shard);
        let token = self.0.places.borrow_mut().take();
        let sent = {
            let mut port = self.0.port.borrow_mut();
            let now_us = port.now_us();
            port.send(shard, token, now_us, op)
        };
        match sent {
            Ok(()) => {
                self.wake_pump();
                Ok(Pending { store: self.clone(), token, follows, answered: false })
            }
            Err(op) => {
                self.0.places.borrow_mut().leave(token);
                Err(op)
            }
        }
    }

    /// Sends a request and awaits the answer.
    ///
    /// # Errors
    /// What the shard says, or busy when the lane is full.
    pub(crate) async fn ask(&self, shard: ShardId, op: Op) -> Result<Reply, Failure> {
        let Ok(pending) = self.submit(shard, op) else {
            return Err(Unavailable::Busy { retry_after_ms: RETRY_AFTER_MS }.into());
        };
        let reply = pending.await;
        if let Reply::Failed(failure) = reply { Err(failure) } else { Ok(reply) }
    }

    /// A session id of this front that was never used.
    #[must_use]
    pub(crate) fn new_session(&self) -> SessionId {
        let number = self.0.sessions.get();
        self.0.sessions.set(number + 1);
        SessionId { front: self.0.front, number }
    }

    /// Tells the shard that a session is over.
    pub(crate) fn end_session(&self, shard: ShardId, session: SessionId) {
        self.send_unanswered(shard, Op::EndSession(session));
    }

    /// Wakes the caller when a full lane may have room again.
    pub(crate) fn wait_for_room(&self, cx: &Context<'_>) {
        self.0.room.borrow_mut().push(cx.waker().clone());
        self.wake_pump();
    }

    /// Microseconds on the clock of all arrival times.
    #[must_use]
    pub(crate) fn now_us(&self) -> u64 {
        self.0.port.borrow().now_us()
    }

    /// Carries requests and answers, for as long as it is polled.
    pub(crate) async fn pump(&self) {
        let mut ready = Vec::new();
        let mut asleep = false;
        let mut retry = Box::pin(tokio::time::sleep(Duration::ZERO));
        std::future::poll_fn(move |cx| {
            match &mut *self.0.pump.borrow_mut() {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            if asleep {
                self.0.port.borrow().awake_task();
                asleep = false;
            }
            if self.turn(&mut ready) > 0 {
                // Whoever got an answer runs first and may ask again; then we look once more before we sleep.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.0.room.borrow().is_empty() {
                // A lane can be full of requests that are not answered, so time has to wake us, too.
                if retry.is_elapsed() {
                    retry.as_mut().reset(tokio::time::Instant::now() + ROOM_RETRY);
                }
                if retry.as_mut().poll(cx).is_ready() {
                    self.0.room.take().into_iter().for_each(Waker::wake);
                }
            }
            asleep = self.0.port.borrow_mut().prepare_sleep_of(cx.waker());
            if !asleep {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Sends what is queued, takes what was answered; returns how much that was.
    fn turn(&self, ready: &mut Vec<Waker>) -> usize {
        let count = {
            let mut port = self.0.port.borrow_mut();
            let mut places = self.0.places.borrow_mut();
            port.flush();
            port.drain(|token, reply| ready.extend(places.answer(token, reply)))
        };
        if count > 0 {
            ready.append(&mut self.0.room.borrow_mut());
        }
        ready.drain(..).for_each(Waker::wake);
        count
    }

    fn send_unanswered(&self, shard: ShardId, op: Op) {
        let sent = self.0.port.borrow_mut().send(shard, 0, 0, op);
        assert!(sent.is_ok(), "ops that are not answered are never refused");
        self.wake_pump();
    }

    fn wake_pump(&self) {
        if let Some(pump) = self.0.pump.borrow_mut().take() {
            pump.wake();
        }
    }
}

impl Future for Pending {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        assert!(!self.answered, "a request is answered once");
        let polled = self.store.0.places.borrow_mut().poll(self.token, cx);
        self.answered = polled.is_ready();
        if let Poll::Ready(Reply::Failed(Failure::Corrupt(what))) = &polled {
            tracing::error!("a read met damaged data: {what}");
        }
        polled
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let left = self.store.0.places.borrow_mut().leave(self.token);
        drop(left);
        if let Some(shard) = self.follows {
            self.store.send_unanswered(shard, Op::CancelFollow(self.token));
        }
    }
}

/// Stops: a shard answers each kind of request with its own kind of reply, or a failure.
pub(crate) fn unexpected(request: &str, reply: &Reply) -> ! {
    panic!("{request} was answered with {reply:?}")
}

/// The requests that wait. A token is the place's generation above its index.
#[derive(Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    state: State,
}

enum State {
    Free,
    Waiting(Option<Waker>),
    Answered(Reply),
}

impl Places {
    fn take(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, state: State::Free });
            u32::try_from(self.places.len() - 1).expect("the lanes bound how many wait")
        });
        let place = &mut self.places[index as usize];
        place.state = State::Waiting(None);
        u64::from(place.generation) << 32 | u64::from(index)
    }

    /// The place of a token, unless its owner has left.
    fn of(&mut self, token: u64) -> Option<&mut Place> {
        let place = self.places.get_mut(usize::try_from(token & u64::from(u32::MAX)).ok()?)?;
        (u64::from(place.generation) == token >> 32).then_some(place)
    }

    fn answer(&mut self, token: u64, reply: Reply) -> Option<Waker> {
        let place = self.of(token)?;
        match std::mem::replace(&mut place.state, State::Answered(reply)) {
            State::Waiting(waker) => waker,
            State::Free | State::Answered(_) => panic!("a request that is open is waiting for its one answer"),
        }
    }

    fn poll(&mut self, token: u64, cx: &Context<'_>) -> Poll<Reply> {
        let place = self.of(token).expect("the owner is here");
        if let State::Waiting(waker) = &mut place.state {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match self.leave(token) {
            Some(reply) => Poll::Ready(reply),
            None => panic!("a place that is taken waits or is answered"),
        }
    }

    /// Frees the place; returns the answer if it was there.
    fn leave(&mut self, token: u64) -> Option<Reply> {
        let place = self.of(token).expect("the owner is here");
        place.generation = place.generation.wrapping_add(1);
        let state = std::mem::replace(&mut place.state, State::Free);
        self.free.push(u32::try_from(token & u64::from(u32::MAX)).expect("masked"));
        match state {
            State::Answered(reply) => Some(reply),
            State::Free | State::Waiting(_) => None,
        }
    }
}

/// What a client is told to wait when a lane is full.
const RETRY_AFTER_MS: u32 = 50;
/// How often a full lane is tried again when nothing is answered.
const ROOM_RETRY: Duration = Duration::from_millis(2);
