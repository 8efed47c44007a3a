//! Wakes a thread that sleeps on an eventfd, or a task of it, and costs a busy one nothing.
//!
//! Promise: no wake is lost. The sleeper announces itself and then looks at its queues once more; the one that wakes it
//! fills the queue and then looks for the announcement. Between a store and a load of each side stands a full fence, so
//! at least one of the two sees the other (Dekker).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// The eventfd of one thread and whether that thread is about to sleep on it.
#[derive(Debug)]
pub(super) struct Doorbell {
    fd: OwnedFd,
    sleeping: AtomicBool,
    /// Whom to wake instead of signalling the eventfd: a task of an async runtime, for whose own thread that is no system
    /// call.
    task: Mutex<Option<Waker>>,
}

impl Doorbell {
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { fd, sleeping: AtomicBool::new(false), task: Mutex::new(None) })
    }

    /// Called after something was put into a queue of the sleeper. A system call only when it sleeps.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            match &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(task) => task.wake_by_ref(),
                None => self.signal(),
            }
        }
    }

    /// Says which task sleeps, from the next [`Doorbell::announce_sleep`] on.
    pub(super) fn sleeper(&self, task: &Waker) {
        match &mut *self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    /// Makes the eventfd readable, sleeping or not.
    fn signal(&self) {
        match rustix::io::write(&self.fd, &1u64.to_ne_bytes()) {
            // EAGAIN: the counter is at its end, so it is readable already.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => panic!("an eventfd of ours cannot be written: {errno}"),
        }
    }

    /// Announces sleep. The caller looks at all its queues after this and calls [`Doorbell::awake`] if one has something.
    pub(super) fn announce_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Makes the eventfd unreadable again. The caller looks at its queues after this.
    pub(super) fn clear(&self) {
        let mut count = [0u8; 8];
        match rustix::io::read(&self.fd, &mut count) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => panic!("an eventfd of ours cannot be read: {errno}"),
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
