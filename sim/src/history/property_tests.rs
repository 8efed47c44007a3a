//! Histories by chance: those of a linearizable stream are called good, and the same with one lie in them bad.

use super::*;

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).expect("an index"))
    }
}

/// A linearizable stream and its clients. An operation is started, takes effect, and finishes, each at a time of its own;
/// appends whose client gave up may still take effect.
struct Model {
    dice: Dice,
    history: StreamHistory,
    contents: Vec<(BodyHash, u64)>,
    token: String,
    trim_point: u64,
    /// Started and not finished; with the outcome once it took effect.
    in_flight: Vec<(OpId, Option<Outcome>)>,
    /// Without a client that waits, and without effect so far.
    abandoned: Vec<OpId>,
    names: u64,
}

impl Model {
    fn run(seed: u64, operations: usize) -> StreamHistory {
        let mut model = Self {
            dice: Dice(seed),
            history: StreamHistory::default(),
            contents: Vec::new(),
            token: String::new(),
            trim_point: 0,
            in_flight: Vec::new(),
            abandoned: Vec::new(),
            names: 0,
        };
        let clients = 1 + model.dice.below(8);
        while model.history.ops.len() < operations {
            if (model.in_flight.len() as u64) < clients && model.dice.one_in(3) {
                let call = model.call();
                let client = model.in_flight.len() as u64;
                let op = model.history.start(client, call);
                model.in_flight.push((op, None));
            }
            model.step();
        }
        while !model.in_flight.is_empty() {
            model.step();
        }
        model.history
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("name {}", self.names)
    }

    fn call(&mut self) -> Call {
        let tail = self.contents.len() as u64;
        match self.dice.below(4) {
            0 => Call::CheckTail,
            // Not from everywhere: what is read grows with the square of the history otherwise.
            1 => Call::Read { from: (tail + 2).saturating_sub(self.dice.below(200)) },
            _ => Call::Append(self.append(tail)),
        }
    }

    fn append(&mut self, tail: u64) -> Append {
        let mut append = Append::default();
        for _ in 0..=self.dice.below(4) {
            append.bodies.push(BodyHash::of(self.name().as_bytes()));
        }
        if self.dice.one_in(3) {
            append.match_seq_num = Some(tail + self.dice.below(3).saturating_sub(1));
        }
        if self.dice.one_in(3) {
            append.fencing_token = Some(if self.dice.one_in(4) { "stale".to_owned() } else { self.token.clone() });
        }
        if self.dice.one_in(6) {
            let token = if self.dice.one_in(4) { String::new() } else { self.name() };
            append.bodies = vec![BodyHash::of(token.as_bytes())];
            append.sets_fencing_token = Some(token);
        } else if self.dice.one_in(20) {
            append.trims_to = Some(tail.saturating_sub(self.dice.below(9)) + self.dice.below(4));
        }
        append
    }

    fn step(&mut self) {
        if self.dice.one_in(9) && !self.abandoned.is_empty() {
            let place = usize::try_from(self.dice.below(self.abandoned.len() as u64)).expect("an index");
            let op = self.abandoned.swap_remove(place);
            drop(self.effect(op));
        }
        if self.in_flight.is_empty() {
            return;
        }
        let place = usize::try_from(self.dice.below(self.in_flight.len() as u64)).expect("an index");
        let (op, outcome) = self.in_flight[place].clone();
        let is_append = matches!(self.history.op(op).call, Call::Append(_));
        let gives_up = self.dice.one_in(8);
        match outcome {
            None if gives_up && is_append && self.dice.one_in(4) => {
                self.history.finish(op, Outcome::Refused(Refusal::Other("busy".to_owned())));
            }
            None if gives_up => {
                self.give_up(op, is_append);
                if is_append {
                    self.abandoned.push(op);
                }
            }
            None => {
                self.in_flight[place].1 = Some(self.effect(op));
                return;
            }
            Some(_) if gives_up => self.give_up(op, is_append),
            Some(mut outcome) => {
                if let Outcome::Appended(ack) = &mut outcome
                    && self.dice.one_in(2)
                {
                    ack.tail = Some(self.contents.len() as u64);
                }
                self.history.finish(op, outcome);
            }
        }
        self.in_flight.swap_remove(place);
    }

    fn give_up(&mut self, op: OpId, is_append: bool) {
        if self.dice.one_in(2) {
            self.history.finish(op, if is_append { Outcome::Unknown } else { Outcome::Failed });
        }
    }

    /// Lets an operation take effect.
    fn effect(&mut self, op: OpId) -> Outcome {
        let tail = self.contents.len() as u64;
        match self.history.op(op).call.clone() {
            Call::CheckTail => Outcome::Tail(tail),
            Call::Read { from } => {
                let trimmed = if self.dice.one_in(2) { self.trim_point } else { 0 };
                let first = from.max(trimmed).min(tail);
                let is_limited = self.dice.one_in(4);
                let end = if is_limited { (first + self.dice.below(5)).min(tail) } else { tail };
                let seen = |seq_num: u64| {
                    let (body, timestamp) = self.contents[usize::try_from(seq_num).expect("an index")];
                    Seen { seq_num, timestamp, body }
                };
                let records = (first..end).map(seen).collect();
                Outcome::Read(ReadAnswer { records, tail: (!is_limited).then_some(tail) })
            }
            Call::Append(append) => self.admit(append, tail),
        }
    }

    fn admit(&mut self, append: Append, tail: u64) -> Outcome {
        if append.fencing_token.is_some_and(|demanded| demanded != self.token) {
            return Outcome::Refused(Refusal::FencingTokenMismatch { actual: self.token.clone() });
        }
        if append.match_seq_num.is_some_and(|demanded| demanded != tail) {
            return Outcome::Refused(Refusal::SeqNumMismatch { actual: tail });
        }
        for body in append.bodies {
            let before = self.contents.last().map_or(0, |(_, timestamp)| *timestamp);
            self.contents.push((body, before + self.dice.below(3)));
        }
        let end = self.contents.len() as u64;
        self.token = append.sets_fencing_token.unwrap_or_else(|| self.token.clone());
        self.trim_point = self.trim_point.max(append.trims_to.unwrap_or(0).min(end));
        Outcome::Appended(Ack { start: tail, end, tail: None })
    }
}

#[test]
fn histories_of_a_linearizable_stream_are_good() {
    let mut total = Summary::default();
    for seed in 0..4000 {
        let history = Model::run(seed, 20 + usize::try_from(seed % 200).expect("small"));
        match check(&history) {
            Ok(summary) => total += summary,
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(
        total.unknown_found > 1000 && total.unknown_unseen > 1000,
        "doubt is worth a test only if it arises: {total:?}"
    );
}

#[test]
fn a_lie_in_a_history_is_found() {
    let lies: [(&str, Lie); 7] = [
        ("an acknowledged append is dropped", drop_an_append),
        ("two records change places", swap_two),
        ("a record is there twice", double_a_record),
        ("a tail is too high", raise_a_tail),
        ("a tail is too low", lower_a_tail),
        ("a body is another", change_a_body),
        ("a refused append is there", refuse_what_was_read),
    ];
    for (what, lie) in lies {
        let mut told = 0;
        for seed in 0..1500 {
            let mut history = Model::run(seed, 60);
            let mut dice = Dice(seed ^ 0xabcd);
            if lie(&mut history, &mut dice).is_some() {
                told += 1;
                let verdict = check(&history);
                assert!(verdict.is_err(), "seed {seed}: not noticed: {what}");
            }
        }
        assert!(told > 200, "{what}: only {told} histories had room for it");
    }
}

/// Puts one lie into a history; `None` when there is no room for it.
type Lie = fn(&mut StreamHistory, &mut Dice) -> Option<()>;

fn acked(history: &StreamHistory) -> Vec<(OpId, Ack)> {
    history.ops.iter().filter_map(|op| Some((op.id, op.ack()?))).collect()
}

/// Reads with records, with their index.
fn reads(history: &StreamHistory) -> Vec<(OpId, ReadAnswer)> {
    let answer = |op: &Op| match op.outcome() {
        Some(Outcome::Read(answer)) if !answer.records.is_empty() => Some((op.id, answer.clone())),
        _ => None,
    };
    history.ops.iter().filter_map(answer).collect()
}

fn set_answer(history: &mut StreamHistory, op: OpId, answer: ReadAnswer) {
    history.ops[op.index()].finished.as_mut().expect("was answered").1 = Outcome::Read(answer);
}

/// A read that began after an ack, and the ack, whose batch it returned as a whole.
fn read_of_acked(history: &StreamHistory, dice: &mut Dice) -> Option<(OpId, ReadAnswer, OpId, Ack)> {
    let acked = acked(history);
    let mut found = Vec::new();
    for (read, answer) in reads(history) {
        let (first, last) = (answer.records.first()?.seq_num, answer.records.last()?.seq_num);
        for (append, ack) in &acked {
            let is_before = history.op(*append).ended() < history.op(read).started;
            if is_before && first <= ack.start && ack.end <= last + 1 && answer.tail.is_some() {
                found.push((read, answer.clone(), *append, *ack));
            }
        }
    }
    dice.pick(&found).cloned()
}

fn drop_an_append(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let (read, mut answer, _, ack) = read_of_acked(history, dice)?;
    let count = ack.end - ack.start;
    answer.records.retain(|record| record.seq_num < ack.start || record.seq_num >= ack.end);
    for record in answer.records.iter_mut().filter(|record| record.seq_num >= ack.end) {
        record.seq_num -= count;
    }
    answer.tail = answer.tail.map(|tail| tail - count);
    set_answer(history, read, answer);
    Some(())
}

fn swap_two(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let (read, mut answer, _, ack) = read_of_acked(history, dice)?;
    let other = answer.records.iter().position(|record| record.seq_num < ack.start)?;
    let mine = answer.records.iter().position(|record| record.seq_num == ack.start)?;
    let (a, b) = (answer.records[other].body, answer.records[mine].body);
    if a == b {
        return None;
    }
    (answer.records[other].body, answer.records[mine].body) = (b, a);
    set_answer(history, read, answer);
    Some(())
}

fn double_a_record(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let (read, mut answer, append, _) = read_of_acked(history, dice)?;
    let Call::Append(append) = &history.op(append).call else { return None };
    if append.sets_fencing_token.is_some() {
        return None;
    }
    let seq_num = answer.records.last()?.seq_num + 1;
    let timestamp = answer.records.last()?.timestamp;
    answer.records.push(Seen { seq_num, timestamp, body: append.bodies[0] });
    answer.tail = answer.tail.map(|tail| tail + 1);
    set_answer(history, read, answer);
    Some(())
}

fn tails(history: &StreamHistory) -> Vec<OpId> {
    history.ops.iter().filter(|op| matches!(op.outcome(), Some(Outcome::Tail(_)))).map(|op| op.id).collect()
}

fn raise_a_tail(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let op = *dice.pick(&tails(history))?;
    let ended = history.op(op).ended();
    let sent: u64 =
        history.ops.iter().filter(|o| o.started < ended).filter_map(Op::append_that_may_be).map(Append::len).sum();
    history.ops[op.index()].finished = Some((ended, Outcome::Tail(sent + 1)));
    Some(())
}

fn lower_a_tail(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let op = *dice.pick(&tails(history))?;
    let Op { started, .. } = *history.op(op);
    let acked = acked(history).into_iter().filter(|(append, _)| history.op(*append).ended() < started);
    let known = acked.map(|(_, ack)| ack.end).max()?;
    history.ops[op.index()].finished = Some((history.op(op).ended(), Outcome::Tail(known - 1)));
    Some(())
}

fn change_a_body(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let (read, mut answer) = dice.pick(&reads(history))?.clone();
    let place = usize::try_from(dice.below(answer.records.len() as u64)).expect("an index");
    answer.records[place].body = BodyHash(dice.next());
    set_answer(history, read, answer);
    Some(())
}

fn refuse_what_was_read(history: &mut StreamHistory, dice: &mut Dice) -> Option<()> {
    let (_, _, append, _) = read_of_acked(history, dice)?;
    let Call::Append(Append { sets_fencing_token: None, .. }) = history.op(append).call else { return None };
    let ended = history.op(append).ended();
    history.ops[append.index()].finished = Some((ended, Outcome::Refused(Refusal::Other("busy".to_owned()))));
    Some(())
}

/// A figure, not a test: `cargo test --release -p millrace-sim -- --ignored --nocapture millions`.
#[test]
#[ignore = "prints how long a million operations take"]
fn millions_of_operations_are_checked_in_seconds() {
    for operations in [250_000, 500_000, 1_000_000, 2_000_000] {
        let history = Model::run(1, operations);
        let started = std::time::Instant::now();
        let summary = check(&history).expect("good");
        println!("{operations} operations, {} records read: {:?}", summary.records_read, started.elapsed());
    }
}

/// Histories of which some are wrong by a little, for a second opinion by S2's own checker: the file's name says what ours
/// thinks. They hold only what that one looks at. `MILLRACE_JSONL=dir cargo test -p millrace-sim -- --ignored second_opinion`.
#[test]
#[ignore = "writes files for s2-porcupine"]
fn histories_for_a_second_opinion() {
    let folder = std::path::PathBuf::from(std::env::var("MILLRACE_JSONL").expect("the directory to write to"));
    for seed in 0..600 {
        let mut history = Model::run(seed, 40);
        history.ops.iter_mut().for_each(keep_what_both_check);
        if seed % 8 != 0 {
            shift_an_answer(&mut history, &mut Dice(seed));
        }
        let verdict = if check(&history).is_ok() { "good" } else { "bad" };
        let mut out = Vec::new();
        write_jsonl(&history, &mut out).expect("memory");
        std::fs::write(folder.join(format!("{verdict}-{seed}.jsonl")), out).expect("a writable file");
    }
}

fn keep_what_both_check(op: &mut Op) {
    if let Call::Append(append) = &mut op.call {
        append.trims_to = None;
        append.fencing_token = append.fencing_token.take().filter(|token| !token.is_empty());
    }
    let Some((_, outcome)) = &mut op.finished else { return };
    match outcome {
        Outcome::Appended(ack) => ack.tail = None,
        Outcome::Refused(refusal) => *refusal = Refusal::Other("whatever".to_owned()),
        Outcome::Read(answer) => {
            let is_whole = answer.tail == Some(answer.records.len() as u64);
            if !is_whole {
                *outcome = Outcome::Failed;
            }
        }
        Outcome::Unknown | Outcome::Tail(_) | Outcome::Failed => {}
    }
    if let (Call::Read { from }, Some((_, Outcome::Read(_)))) = (&mut op.call, &op.finished) {
        *from = 0;
    }
}

fn shift_an_answer(history: &mut StreamHistory, dice: &mut Dice) {
    let place = usize::try_from(dice.below(history.ops.len() as u64)).expect("an index");
    let shifted = |n: u64, dice: &mut Dice| if dice.one_in(2) { n + 1 } else { n.saturating_sub(1) };
    let answered = history.ops.iter_mut().skip(place).filter_map(|op| op.finished.as_mut());
    for (_, outcome) in answered {
        match outcome {
            Outcome::Tail(tail) => *tail = shifted(*tail, dice),
            Outcome::Appended(ack) => {
                let length = ack.end - ack.start;
                ack.start = shifted(ack.start, dice);
                ack.end = ack.start + length;
            }
            Outcome::Read(answer) if answer.records.len() > 1 => {
                answer.records.pop();
                answer.tail = answer.tail.map(|tail| tail - 1);
            }
            Outcome::Read(_) | Outcome::Refused(_) | Outcome::Unknown | Outcome::Failed => continue,
        }
        return;
    }
}
