//! One operation on one stream: sent, waited for and recorded.

use api::AppendConditions;
use api::proto::AppendRecord;
use model::FencingToken;
use sim::history::{Call, Outcome, ReadAnswer, Refusal};

use super::answer::{self, Breach, Page};
use super::plan::{Batch, Plan};
use super::wire::Wire;

/// What came of an operation, and whether the server gave any answer.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) was_answered: bool,
    pub(super) breach: Option<Breach>,
}

impl Done {
    fn answered(outcome: Outcome) -> Self {
        Self { outcome, was_answered: true, breach: None }
    }

    /// No answer, or none that can be understood.
    fn lost(outcome: Outcome, breach: Option<Breach>) -> Self {
        Self { outcome, was_answered: false, breach }
    }
}

/// The operation as the history knows it.
pub(super) fn call(plan: &Plan) -> Call {
    match plan {
        Plan::Append(batch) => Call::Append(batch.recorded()),
        Plan::Read { from } => Call::Read { from: *from },
        Plan::CheckTail => Call::CheckTail,
    }
}

/// Carries out a plan. The wire must be connected.
pub(super) async fn carry_out(wire: &mut Wire, stream: &str, plan: &Plan, records_max: usize) -> Done {
    match plan {
        Plan::Append(batch) => append(wire, stream, batch).await,
        Plan::Read { from } => read(wire, stream, *from, records_max).await,
        Plan::CheckTail => check_tail(wire, stream).await,
    }
}

async fn append(wire: &mut Wire, stream: &str, batch: &Batch) -> Done {
    let conditions = AppendConditions {
        match_seq_num: batch.match_seq_num,
        fencing_token: batch.fencing_token.as_deref().map(|token| {
            FencingToken::try_from(token).expect("our own tokens are short, and so are those the server took")
        }),
    };
    let command: &[(&[u8], &[u8])] = &[(b"", b"fence")];
    let headers = if batch.is_fence { command } else { &[] };
    let records: Vec<AppendRecord<'_>> =
        batch.bodies.iter().map(|body| AppendRecord { timestamp: None, headers, body }).collect();
    let body = api::proto::encode_append_input(&records, &conditions);
    match wire.ask("POST", &format!("/v1/streams/{stream}/records"), PROTO, &body).await {
        Ok((status, body)) => match answer::append(status, &body) {
            Ok(Outcome::Unknown) => Done::lost(Outcome::Unknown, None),
            Ok(outcome) => Done::answered(outcome),
            Err(breach) if status == 412 => Done {
                outcome: Outcome::Refused(Refusal::Other("412".to_owned())),
                was_answered: true,
                breach: Some(breach),
            },
            Err(breach) => Done::lost(Outcome::Unknown, Some(breach)),
        },
        Err(_) => Done::lost(Outcome::Unknown, None),
    }
}

async fn check_tail(wire: &mut Wire, stream: &str) -> Done {
    match wire.ask("GET", &format!("/v1/streams/{stream}/records/tail"), "application/json", b"").await {
        Ok((status, body)) => match answer::tail(status, &body) {
            Ok(Some(tail)) => Done::answered(Outcome::Tail(tail)),
            Ok(None) => Done::lost(Outcome::Failed, None),
            Err(breach) => Done::lost(Outcome::Failed, Some(breach)),
        },
        Err(_) => Done::lost(Outcome::Failed, None),
    }
}

/// Reads page by page until the server says that this is the tail, or until there are `records_max` records. What is
/// written stays as it is, so the pages together are as good as one read at the moment of the last.
async fn read(wire: &mut Wire, stream: &str, from: u64, records_max: usize) -> Done {
    let mut answer = ReadAnswer::default();
    let mut next = from;
    while answer.records.len() < records_max {
        let path = format!("/v1/streams/{stream}/records?seq_num={next}&count={PAGE_RECORDS}");
        let Ok((status, body)) = wire.ask("GET", &path, PROTO, b"").await else {
            return Done::lost(Outcome::Failed, None);
        };
        match answer::page(status, &body) {
            Ok(Page::Records(records)) => match records.last() {
                // A number that does not move on is for the checker to object to; here it only must not go on for ever.
                Some(last) if last.seq_num >= next => {
                    next = last.seq_num.saturating_add(1);
                    answer.records.extend(records);
                }
                Some(_) => {
                    answer.records.extend(records);
                    break;
                }
                // Nothing though not at the tail: that would be all there is, and the checker shall see it so.
                None => {
                    answer.tail = Some(next);
                    break;
                }
            },
            Ok(Page::End { tail }) => {
                answer.tail = Some(tail);
                break;
            }
            Ok(Page::Failed) => return Done::lost(Outcome::Failed, None),
            Err(breach) => return Done::lost(Outcome::Failed, Some(breach)),
        }
    }
    Done::answered(Outcome::Read(answer))
}

const PROTO: &str = "application/protobuf";
const PAGE_RECORDS: u64 = 1000;
