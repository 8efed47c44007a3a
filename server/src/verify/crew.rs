//! The clients: they share the streams, the history and a guess of what each stream holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use model::FencingToken;
use sim::history::{Call, History, Outcome, Refusal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::client::{self, Done};
use super::plan::{self, Dice, Guess, Plan};
use super::wire::{Access, Wire};

/// What clients saw that is not part of the history.
#[derive(Debug)]
pub(super) struct Notes {
    /// The longest time in which no client got an answer.
    pub(super) outage_max: Duration,
    /// Answers that break the protocol; the first few.
    pub(super) breaches: Vec<String>,
    /// Why the run ended before its time, in words.
    pub(super) ended_early: Option<&'static str>,
}

/// All clients together.
#[derive(Debug)]
pub(super) struct Crew(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    streams: Vec<String>,
    operations_max: u64,
    operations: Cell<u64>,
    records_read: Cell<usize>,
    is_over: Cell<bool>,
    over: Notify,
    history: RefCell<History>,
    /// One for each stream.
    guesses: RefCell<Vec<Guess>>,
    answered_at: Cell<Instant>,
    notes: RefCell<Notes>,
}

impl Crew {
    pub(super) fn new(streams: &[String], operations_max: u64) -> Self {
        let mut history = History::default();
        for stream in streams {
            history.stream(stream);
        }
        Self(Rc::new(Shared {
            streams: streams.to_vec(),
            operations_max,
            operations: Cell::new(0),
            records_read: Cell::new(0),
            is_over: Cell::new(false),
            over: Notify::new(),
            history: RefCell::new(history),
            guesses: RefCell::new(vec![Guess::default(); streams.len()]),
            answered_at: Cell::new(Instant::now()),
            notes: RefCell::new(Notes { outage_max: Duration::ZERO, breaches: Vec::new(), ended_early: None }),
        }))
    }

    /// Lets `count` clients work until the time is over, a bound is reached or the user interrupts. A second interrupt ends
    /// the process.
    pub(super) async fn work(&self, access: &Rc<Access>, count: u64, seed: u64, duration: Duration) {
        self.0.answered_at.set(Instant::now());
        let mut clients = JoinSet::new();
        for client in 0..count {
            let (shared, wire) = (Rc::clone(&self.0), Wire::new(Rc::clone(access)));
            clients.spawn_local(work(shared, wire, Dice::new(seed, client), client));
        }
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.0.over.notified() => {}
            _ = tokio::signal::ctrl_c() => {
                self.0.end_early("interrupted");
                tokio::task::spawn_local(async {
                    if tokio::signal::ctrl_c().await.is_ok() {
                        std::process::exit(EXIT_INTERRUPTED);
                    }
                });
            }
        }
        self.0.is_over.set(true);
        // Each ends after the answer it waits for, which takes some seconds at most.
        while let Some(ended) = clients.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.0.note_outage();
    }

    /// Reads each stream from the first record to the tail, as `client`.
    ///
    /// # Errors
    /// When a stream cannot be read for a long time; in words.
    pub(super) async fn read_everything(&self, access: &Rc<Access>, client: u64) -> Result<(), String> {
        let mut wire = Wire::new(Rc::clone(access));
        for stream in &self.0.streams {
            let deadline = Instant::now() + FINAL_READ_MAX;
            let plan = Plan::Read { from: 0 };
            loop {
                if wire.connect().await.is_ok() {
                    let done = self.0.recorded(&mut wire, stream, &plan, client, usize::MAX).await;
                    if matches!(done.outcome, Outcome::Read(_)) {
                        break;
                    }
                }
                if Instant::now() > deadline {
                    return Err(format!("stream {stream} gives no answer"));
                }
                tokio::time::sleep(PAUSE_MAX).await;
            }
        }
        Ok(())
    }

    /// What was recorded.
    pub(super) fn finish(self) -> (History, Notes) {
        let notes = Notes {
            outage_max: self.0.notes.borrow().outage_max,
            breaches: self.0.notes.borrow().breaches.clone(),
            ended_early: self.0.notes.borrow().ended_early,
        };
        (self.0.history.take(), notes)
    }
}

/// The life of one client.
async fn work(shared: Rc<Shared>, mut wire: Wire, mut dice: Dice, client: u64) {
    let mut pause = PAUSE_MIN;
    for number in 0.. {
        if shared.is_over.get() {
            return;
        }
        if wire.connect().await.is_err() {
            // Nothing has left this client: there is nothing to record.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            continue;
        }
        let index = usize::try_from(dice.below(shared.streams.len() as u64)).expect("an index");
        let plan = plan::draw(&mut dice, &shared.guesses.borrow()[index], client, number);
        let done = shared.recorded(&mut wire, &shared.streams[index], &plan, client, READ_RECORDS_MAX).await;
        if done.was_answered {
            pause = PAUSE_MIN;
            shared.learn(index, &plan, &done.outcome);
        }
        if matches!(done.outcome, Outcome::Unknown | Outcome::Failed | Outcome::Refused(Refusal::Other(_))) {
            tokio::time::sleep(pause).await;
        }
        shared.operations.set(shared.operations.get() + 1);
        if shared.operations.get() >= shared.operations_max {
            shared.end_early("as many operations as --operations-max allows");
        }
        if shared.records_read.get() >= RECORDS_READ_MAX {
            shared.end_early("as many records were read as are held in memory");
        }
    }
}

impl Shared {
    /// Carries out an operation and records its start and finish.
    async fn recorded(&self, wire: &mut Wire, stream: &str, plan: &Plan, client: u64, records_max: usize) -> Done {
        let call: Call = client::call(plan);
        let op = self.history.borrow_mut().stream(stream).start(client, call);
        let done = client::carry_out(wire, stream, plan, records_max).await;
        self.history.borrow_mut().stream(stream).finish(op, done.outcome.clone());
        if done.was_answered {
            self.note_outage();
        }
        if let Outcome::Read(answer) = &done.outcome {
            self.records_read.set(self.records_read.get() + answer.records.len());
        }
        if let Some(breach) = &done.breach {
            let breaches = &mut self.notes.borrow_mut().breaches;
            if breaches.len() < BREACHES_MAX {
                breaches.push(format!("stream {stream}: {breach}"));
            }
        }
        done
    }

    /// An answer ends an outage, if there was one.
    fn note_outage(&self) {
        let now = Instant::now();
        let outage = now - self.answered_at.replace(now);
        let longest = &mut self.notes.borrow_mut().outage_max;
        *longest = outage.max(*longest);
    }

    /// Guesses the tail and the token from an answer. A wrong guess costs a refused condition, which is worth a test too.
    fn learn(&self, index: usize, plan: &Plan, outcome: &Outcome) {
        let guess = &mut self.guesses.borrow_mut()[index];
        match outcome {
            Outcome::Appended(ack) => {
                guess.tail = ack.tail.unwrap_or(ack.end);
                if let Plan::Append(batch) = plan
                    && let Some(token) = batch.recorded().sets_fencing_token
                {
                    guess.token = token;
                }
            }
            Outcome::Tail(tail) => guess.tail = *tail,
            Outcome::Read(answer) => guess.tail = answer.tail.unwrap_or(guess.tail),
            Outcome::Refused(Refusal::SeqNumMismatch { actual }) => guess.tail = *actual,
            Outcome::Refused(Refusal::FencingTokenMismatch { actual }) if FencingToken::try_from(&**actual).is_ok() => {
                guess.token.clone_from(actual);
            }
            // No token that a client can have set.
            Outcome::Refused(Refusal::FencingTokenMismatch { .. }) => {}
            Outcome::Refused(Refusal::Other(_)) | Outcome::Unknown | Outcome::Failed => {}
        }
    }

    fn end_early(&self, why: &'static str) {
        self.notes.borrow_mut().ended_early.get_or_insert(why);
        self.is_over.set(true);
        self.over.notify_one();
    }
}

/// Pauses after failures double from here.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Pauses after failures are never longer, so that an outage is seen to end soon after it did.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long a stream may be unreadable at the end.
const FINAL_READ_MAX: Duration = Duration::from_secs(30);
/// A read that has so many records ends there; the final one does not.
const READ_RECORDS_MAX: usize = 10_000;
/// Records of all reads together, at 24 bytes each; the run ends early when there are more.
const RECORDS_READ_MAX: usize = 16_000_000;
/// Further broken answers are not kept: one is enough for the verdict.
const BREACHES_MAX: usize = 5;
/// Like a shell's for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
