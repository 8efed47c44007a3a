//! One thread that adds up what the fronts count, writes minutes that are over, and answers what is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use api::{ApiError, Code};
use tokio::sync::oneshot;

use super::file::{Files, day_of, write_line};
use super::front::minute_now;
use super::meter::{Meter, Scope};
use super::query::{Question, Series};

/// A minute since the Unix epoch, whose it is, and what is counted.
pub(crate) type Key = (u32, Scope, Meter);

/// What was counted and is not written yet.
#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<BTreeMap<Key, u64>>);

/// The thread, as long as the process serves.
pub(crate) struct Keeper {
    totals: Arc<Totals>,
    jobs: SyncSender<Job>,
    thread: Option<JoinHandle<()>>,
}

/// A way to ask.
#[derive(Clone)]
pub(crate) struct Asker(SyncSender<Job>);

enum Job {
    Answer(Question, oneshot::Sender<Result<Series, ApiError>>),
    Stop,
}

impl Totals {
    /// Adds what a front has counted.
    pub(crate) fn add(&self, deltas: Vec<(Key, u64)>) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, n) in deltas {
            let (_, _, meter) = key;
            let total = totals.entry(key).or_default();
            *total = meter.together(*total, n);
        }
        let excess = totals.len().saturating_sub(TOTALS_MAX);
        if excess > 0 {
            tracing::warn!("the meters cannot be written: {excess} numbers of the oldest minutes are given up");
            for _ in 0..excess {
                totals.pop_first();
            }
        }
    }

    /// Takes what belongs to minutes before this one.
    fn take_before(&self, minute: u32) -> BTreeMap<Key, u64> {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = totals.split_off(&(minute, Scope::Account, Meter::all().next().expect("there are meters")));
        std::mem::replace(&mut totals, rest)
    }
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(crate) fn start(data: &Path) -> std::io::Result<Self> {
        let totals = Arc::<Totals>::default();
        let (jobs, inbox) = sync_channel(JOBS_MAX);
        let (files, kept) = (Files::new(data), Arc::clone(&totals));
        let thread =
            std::thread::Builder::new().name("meters".to_owned()).spawn(move || keep(&files, &kept, &inbox))?;
        Ok(Self { totals, jobs, thread: Some(thread) })
    }

    /// Where fronts put what they count.
    #[must_use]
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// A way to ask.
    #[must_use]
    pub(crate) fn asker(&self) -> Asker {
        Asker(self.jobs.clone())
    }

    /// Writes everything and ends the thread.
    pub(crate) fn stop(mut self) {
        if self.jobs.send(Job::Stop).is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the meters' thread has panicked");
        }
    }
}

impl Asker {
    /// What was counted.
    ///
    /// # Errors
    /// 422 when the answer would be too long, 429 when too many ask, 500 when the files cannot be read.
    pub(crate) async fn ask(&self, question: Question) -> Result<Series, ApiError> {
        let (to, answer) = oneshot::channel();
        match self.0.try_send(Job::Answer(question, to)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let error = ApiError::new(Code::RateLimited, "too many requests for metrics at once, try later");
                return Err(ApiError { retry_after_ms: Some(RETRY_AFTER_MS), ..error });
            }
            Err(TrySendError::Disconnected(_)) => return Err(gone()),
        }
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> ApiError {
    ApiError::new(Code::Other, "the meters have stopped; the log says why")
}

fn keep(files: &Files, totals: &Totals, inbox: &Receiver<Job>) {
    let mut today = 0;
    loop {
        let minute = minute_now();
        if std::mem::replace(&mut today, day_of(minute)) != day_of(minute)
            && let Err(error) = files.forget_before(today)
        {
            tracing::warn!("cannot remove old files of the meters: {error}");
        }
        // A front hands over a moment after the minute has ended.
        let wait = Duration::from_secs(WRITE_SECS);
        match inbox.recv_timeout(wait) {
            Ok(Job::Answer(question, to)) => {
                // Who asked may be gone: then nobody needs the answer.
                let _ = to.send(answer(files, totals, &question));
            }
            Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => {
                write(files, totals, u32::MAX);
                return;
            }
            Err(RecvTimeoutError::Timeout) => write(files, totals, minute),
        }
    }
}

/// Writes what belongs to minutes before this one. What cannot be written stays.
fn write(files: &Files, totals: &Totals, minute: u32) {
    let taken = totals.take_before(minute);
    let mut days: BTreeMap<u32, (String, Vec<(Key, u64)>)> = BTreeMap::new();
    for (key, value) in taken {
        let (lines, entries) = days.entry(day_of(key.0)).or_default();
        write_line(lines, &key, value);
        entries.push((key, value));
    }
    for (day, (lines, entries)) in days {
        if let Err(error) = files.append(day, &lines) {
            tracing::warn!("cannot write the meters, will try again: {error}");
            totals.add(entries);
        }
    }
}

fn answer(files: &Files, totals: &Totals, question: &Question) -> Result<Series, ApiError> {
    let mut series = Series::default();
    let mut failed = Ok(());
    let read = files.read(question.minutes(), |key, value| {
        if failed.is_ok() {
            failed = series.add(question, &key, value);
        }
    });
    failed?;
    read.map_err(|error| {
        tracing::error!("cannot read the meters: {error}");
        ApiError::new(Code::Storage, "the metrics cannot be read; the server's log says why")
    })?;
    let unwritten = totals.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (key, value) in unwritten.into_iter().filter(|(key, _)| question.minutes().contains(&key.0)) {
        series.add(question, &key, value)?;
    }
    Ok(series)
}

/// Numbers that wait to be written; beyond it the oldest are given up.
const TOTALS_MAX: usize = 500_000;
/// Questions that wait; more are answered 429.
const JOBS_MAX: usize = 64;
const RETRY_AFTER_MS: u32 = 1000;
/// How often minutes that are over are written, in seconds.
const WRITE_SECS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meters::query::Wanted;

    fn totals_of(entries: &[(u32, u64)]) -> Totals {
        let totals = Totals::default();
        totals.add(entries.iter().map(|(minute, n)| ((*minute, Scope::Account, Meter::READ_UNARY), *n)).collect());
        totals
    }

    #[test]
    fn what_was_written_and_what_was_not_add_up_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::new(dir.path());
        let totals = totals_of(&[(10, 1), (11, 2), (11, 3), (12, 4)]);
        let question = Question {
            scope: Some(Scope::Account),
            wanted: Wanted::Meters(vec![Meter::READ_UNARY]),
            start_s: 600,
            end_s: 780,
            step_s: 60,
        };
        for written_before in [0, 11, 12, 13, 13] {
            write(&files, &totals, written_before);
            let series = answer(&files, &totals, &question).expect("an answer");
            assert_eq!(series.points(Meter::READ_UNARY), [(600, 1), (660, 5), (720, 4)], "{written_before}");
        }
        assert!(totals.0.lock().expect("whole").is_empty());
    }

    #[test]
    fn what_cannot_be_written_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("meters"), "in the way").expect("written");
        let totals = totals_of(&[(10, 1)]);
        write(&Files::new(dir.path()), &totals, 11);
        assert_eq!(totals.0.lock().expect("whole").len(), 1);
    }
}
