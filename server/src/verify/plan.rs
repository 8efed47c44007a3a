//! What a client does next: drawn by chance from a seed, with a guess of the stream's tail and token.

use sim::history::{Append, BodyHash};

/// Numbers from a seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice of one client; those of different clients differ.
    pub(super) fn new(seed: u64, client: u64) -> Self {
        let mut dice = Self(seed ^ client.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What the clients believe of a stream, from the last answer about it.
#[derive(Debug, Clone, Default)]
pub(super) struct Guess {
    pub(super) tail: u64,
    pub(super) token: String,
}

/// The next operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    Append(Batch),
    /// From there to the tail.
    Read {
        from: u64,
    },
    CheckTail,
}

/// An append as it will be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) match_seq_num: Option<u64>,
    pub(super) fencing_token: Option<String>,
    /// The batch is one fence command, whose body is the token.
    pub(super) is_fence: bool,
}

impl Batch {
    /// The batch as the history knows it.
    pub(super) fn recorded(&self) -> Append {
        let token = self.is_fence.then(|| self.bodies.first().map(|body| String::from_utf8_lossy(body).into_owned()));
        Append {
            bodies: self.bodies.iter().map(|body| BodyHash::of(body)).collect(),
            match_seq_num: self.match_seq_num,
            fencing_token: self.fencing_token.clone(),
            sets_fencing_token: token.flatten(),
            trims_to: None,
        }
    }
}

/// Draws operation `number` of `client`. Bodies and tokens differ between all operations.
pub(super) fn draw(dice: &mut Dice, guess: &Guess, client: u64, number: u64) -> Plan {
    match dice.below(20) {
        0..5 => Plan::CheckTail,
        5 if guess.tail <= WHOLE_READ_RECORDS_MAX => Plan::Read { from: 0 },
        // One beyond the tail at most.
        5..11 => Plan::Read { from: guess.tail.saturating_add(2).saturating_sub(1 + dice.below(READ_BACK_RECORDS)) },
        11 => Plan::Append(fence(dice, guess, client, number)),
        _ => Plan::Append(batch(dice, guess, client, number)),
    }
}

fn batch(dice: &mut Dice, guess: &Guess, client: u64, number: u64) -> Batch {
    let count = match dice.below(32) {
        0 => 50,
        1..10 => 2 + dice.below(4),
        _ => 1,
    };
    let bodies = (0..count).map(|record| {
        let mut body = format!("record {record} of {number} of {client} ").into_bytes();
        let padding = dice.below(120);
        body.extend((0..padding).map(|_| dice.next().to_le_bytes()[0]));
        body
    });
    let bodies = bodies.collect();
    let mut batch = Batch { bodies, ..Batch::default() };
    match dice.below(4) {
        0 => batch.match_seq_num = Some(guess.tail),
        1 => batch.fencing_token = Some(demanded_token(dice, guess)),
        _ => {}
    }
    if dice.one_in(16) {
        batch.match_seq_num = Some(guess.tail);
    }
    batch
}

fn fence(dice: &mut Dice, guess: &Guess, client: u64, number: u64) -> Batch {
    let mut batch =
        Batch { bodies: vec![format!("token {number} of {client}").into_bytes()], is_fence: true, ..Batch::default() };
    match dice.below(3) {
        0 => batch.match_seq_num = Some(guess.tail),
        1 => batch.fencing_token = Some(demanded_token(dice, guess)),
        _ => {}
    }
    batch
}

/// The token that should be in force, and at times one that nobody ever set. The empty one is not asked for: the model of
/// s2-porcupine has none.
fn demanded_token(dice: &mut Dice, guess: &Guess) -> String {
    if guess.token.is_empty() || dice.one_in(8) { "nobody set this".to_owned() } else { guess.token.clone() }
}

/// Longer streams are read from their beginning only at the end of a run.
const WHOLE_READ_RECORDS_MAX: u64 = 3000;

/// How far before the tail other reads begin at most.
const READ_BACK_RECORDS: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed() {
        let draw_all = |seed| {
            let mut dice = Dice::new(seed, 1);
            let guess = Guess { tail: 100, token: "t".to_owned() };
            (0..200).map(|number| draw(&mut dice, &guess, 1, number)).collect::<Vec<_>>()
        };
        assert_eq!(draw_all(7), draw_all(7));
        assert_ne!(draw_all(7), draw_all(8));
    }

    #[test]
    fn all_kinds_of_operations_are_drawn_and_no_body_twice() {
        let mut bodies = std::collections::BTreeSet::new();
        let (mut count, mut kinds) = (0, [0; 6]);
        for client in 0..3 {
            let mut dice = Dice::new(1, client);
            let guess = Guess { tail: 100, token: "t".to_owned() };
            for number in 0..400 {
                match draw(&mut dice, &guess, client, number) {
                    Plan::CheckTail => kinds[0] += 1,
                    Plan::Read { from: 0 } => kinds[1] += 1,
                    Plan::Read { from } => {
                        kinds[2] += 1;
                        assert!((71..=101).contains(&from), "{from}");
                    }
                    Plan::Append(batch) => {
                        kinds[3] += usize::from(batch.is_fence);
                        kinds[4] += usize::from(batch.match_seq_num.is_some());
                        kinds[5] += usize::from(batch.fencing_token.is_some());
                        count += batch.bodies.len();
                        bodies.extend(batch.bodies);
                    }
                }
            }
        }
        assert!(kinds.iter().all(|kind| *kind > 20), "{kinds:?}");
        assert_eq!(bodies.len(), count);
        assert!(bodies.iter().all(|body| body.len() < 200));
    }
}
