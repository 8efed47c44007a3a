//! Runs a shard as a task of its front's runtime (the inline driver): bursts while there is work, else sleeps on its eventfd.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use engine::driver::{HostedRest, RunningShard};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

/// Runs the shard until the node stops, and then never ends: what still runs on this front may count on it.
pub(crate) async fn run(shard: RunningShard) {
    match Host::new(shard) {
        Ok(mut host) => poll_fn(|cx| host.poll(cx)).await,
        Err(error) => tracing::error!("a front cannot hear its shard: {error}"),
    }
}

struct Host {
    shard: RunningShard,
    rang: AsyncFd<std::os::fd::OwnedFd>,
    timer: Pin<Box<Sleep>>,
    asleep: bool,
}

impl Host {
    fn new(shard: RunningShard) -> std::io::Result<Self> {
        let fd = shard.eventfd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; OwnedFd's does not"
        )]
        let rang = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { shard, rang, timer: Box::pin(sleep_until(Instant::now())), asleep: false })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.asleep {
            self.asleep = false;
            self.shard.woken(self.take_ring(cx).is_some());
        }
        if self.shard.burst() {
            // Whoever was answered runs first; what they ask comes with the next burst.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let until = match self.shard.rest(cx.waker()) {
            HostedRest::None => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            HostedRest::Until(until) => until,
            HostedRest::Stop => return Poll::Pending,
        };
        self.asleep = true;
        if let Some(at_us) = until {
            let left = Duration::from_micros(at_us.saturating_sub(self.shard.now_us()));
            self.timer.as_mut().reset(Instant::now() + left);
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        // Readiness of an earlier ring is stale: the eventfd was emptied since.
        while self.take_ring(cx).is_some() {}
        Poll::Pending
    }

    /// Takes the readiness of the eventfd, or registers for it.
    fn take_ring(&self, cx: &mut Context<'_>) -> Option<()> {
        match self.rang.poll_read_ready(cx) {
            Poll::Ready(Ok(mut guard)) => {
                guard.clear_ready();
                Some(())
            }
            Poll::Ready(Err(error)) => panic!("an eventfd of ours cannot be watched: {error}"),
            Poll::Pending => None,
        }
    }
}
