//! A batch of an append session that a limit makes wait. A single append is refused instead; a session is slowed down, as
//! S2 does it: its inputs are ordered, so a refusal of one would throw away all that the client has sent behind it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::admission::{Limited, Limits, Subject};

/// How a batch stands in line. It has not asked yet when it is new.
#[derive(Default)]
pub(crate) struct InLine {
    refusals_count: u32,
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl InLine {
    /// Ready when the batch is admitted, or has waited for [`WAIT_MAX`] in vain.
    pub(crate) fn poll_admitted(
        &mut self,
        limits: &Limits,
        subject: &Subject,
        metered_bytes: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Limited>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
            }
            let Err(limited) = limits.admit_in_line(subject, metered_bytes, self.refusals_count) else {
                return Poll::Ready(Ok(()));
            };
            self.refusals_count += 1;
            let now = Instant::now();
            let last = *self.since.get_or_insert(now) + WAIT_MAX;
            if now >= last {
                return Poll::Ready(Err(limited));
            }
            let until = last.min(now + Duration::from_nanos(limited.retry_after_ns));
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(until),
                none => *none = Some(Box::pin(tokio::time::sleep_until(until))),
            }
        }
    }
}

/// No client waits longer for an ack; beyond it the session ends with 429 `rate_limited`, and the batch is not applied.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;
    use crate::admission::Shared;
    use crate::admission::setting::NameLimits;
    use crate::metrics::FrontMetrics;

    fn limits(stream: &str) -> (Limits, Subject, Arc<FrontMetrics>) {
        let stream = stream.parse().expect("limits");
        let metrics: Arc<FrontMetrics> = Arc::default();
        let limits = Limits::new(Shared::new([&NameLimits::off(), &NameLimits::off(), &stream]), Arc::clone(&metrics));
        let basin = model::BasinName::try_from("a-basin-of-ours").expect("a name");
        let subject = limits.subject(None, &basin, &model::StreamName::try_from("s").expect("a name"));
        (limits, subject, metrics)
    }

    #[tokio::test]
    async fn a_batch_waits_for_its_turn_and_is_counted_once() {
        let (limits, subject, metrics) = limits("appends-per-second=20, burst-ms=1");
        let begun = std::time::Instant::now();
        for _ in 0..4 {
            let mut turn = InLine::default();
            let admitted = poll_fn(|cx| turn.poll_admitted(&limits, &subject, 10, cx)).await;
            assert_eq!(admitted, Ok(()));
        }
        assert!(begun.elapsed() >= Duration::from_millis(150), "one at once and three at 50 ms");
        assert!(
            crate::metrics::render(&[&metrics], &[])
                .contains("millrace_limit_waits_total{scope=\"stream\",kind=\"appends\"} 3\n")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let (limits, subject, _) = limits("bytes-per-second=1");
        limits.admit(&subject, 1 << 20).expect("larger than the burst, but the bucket is full");
        let mut turn = InLine::default();
        let begun = Instant::now();
        let refused = poll_fn(|cx| turn.poll_admitted(&limits, &subject, 10, cx)).await;
        assert!(refused.is_err());
        assert_eq!(begun.elapsed().as_secs(), WAIT_MAX.as_secs());
    }
}
