//! Operations on the records of a stream, and on its lease: what they mean and how they answer.

use api::Code::{
    BadFrame, BadJson, BadPath, BadProto, BasinDeletionPending, DecryptionFailed, HotServer, Invalid, Other,
    StreamDeletionPending, StreamNotFound, TransactionConflict,
};
use api::query::ReadQuery;
use api::schema::{self, Parameter, reference};
use http::Method;
use serde_json::{Value, json};

use super::parts::{LEASES, Operation, RECORDS};
use crate::encryption;

/// What `s2-format` may say.
fn format() -> Parameter {
    let about = "How names and values of headers, and bodies, stand in JSON: as text (`raw`, the default; what is not UTF-8 is \
        shown as U+FFFD) or in base64. `json` and `json-binsafe` are older names of the two.";
    let names = ["raw", "base64", "json", "json-binsafe"];
    Parameter::optional("s2-format", about, json!({ "type": "string", "enum": names, "default": "raw" }))
}

fn encryption_key() -> Parameter {
    let about = "The key of the records: base64 of 32 bytes. Needed where the stream has a cipher, ignored elsewhere. It is never \
        stored.";
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": encryption::HEADER_BYTES_MAX });
    Parameter::optional("s2-encryption-key", about, schema)
}

/// JSON in a header. What it may be is named in words: a header's schema sees text.
fn stream_config() -> Parameter {
    let about =
        "A `StreamConfigInput` in JSON. It counts if this request creates the stream, and is ignored otherwise.";
    Parameter::optional("s2-stream-config", about, json!({ "type": "string", "contentMediaType": "application/json" }))
}

/// What all operations on records have in common.
fn on_records(id: &'static str, summary: &'static str, about: &'static str) -> Operation {
    Operation::new(RECORDS, id, summary, about).in_basin().errors(&[
        BadPath,
        StreamNotFound,
        StreamDeletionPending,
        BasinDeletionPending,
        HotServer,
    ])
}

/// Bytes that no JSON Schema describes.
fn opaque(about: &str) -> Value {
    json!({ "schema": { "type": "string", "format": "binary", "description": about } })
}

fn condition_failed() -> Value {
    json!({
        "description": "A condition of the append failed: the token in force is another, or the next number is. Nothing was \
            appended. There is no `code`.",
        "content": { "application/json": { "schema": reference("AppendConditionFailed") } },
    })
}

pub(super) fn append() -> Operation {
    let about = "Appends a batch as one, and answers once it is durable. The content type says how the batch comes: JSON, the \
        protobuf message `s2.v1.AppendInput`, or `s2s/proto` for a session: frames of batches one way, frames of acks the \
        other, both open at once. `accept` says how a single answer comes. A stream that is missing is created where its basin \
        says so. A session that was opened is answered 200; what fails later stands in its last frame.";
    let input = json!({
        "application/json": { "schema": reference("AppendInput") },
        "application/protobuf": opaque("`s2.v1.AppendInput`; `application/x-protobuf` is the same."),
        "s2s/proto": opaque("Frames, each with an `s2.v1.AppendInput`."),
    });
    let ack = json!({
        "description": "The batch is durable; or the session is open.",
        "content": {
            "application/json": { "schema": reference("AppendAck") },
            "application/protobuf": opaque("`s2.v1.AppendAck`."),
            "s2s/proto": opaque("Frames, each with an `s2.v1.AppendAck`; after a failure a last one with status and error."),
        },
        "headers": streaming_headers(),
    });
    on_records("append", "Append records", about)
        .header(format())
        .header(encryption_key())
        .header(stream_config())
        .body(true, input)
        .answers_with(200, ack)
        .answers_with(412, condition_failed())
        .errors(&[BadJson, BadProto, BadFrame, Invalid, TransactionConflict, Other])
}

pub(super) fn read() -> Operation {
    let about = "Reads records from a start on. `accept` says how: JSON, the protobuf message `s2.v1.ReadBatch`, or \
        `text/event-stream` for events (`batch`, `ping`, `error`, and `[DONE]` at the end). The content type `s2s/proto`, on a \
        request without a body, asks for a session of frames instead. A single answer has what is there up to the limits, and \
        waits for at least one record where `wait` says so. Events and sessions go on until a limit is reached; without limits \
        they follow the stream for ever.";
    let batch = json!({
        "description": "Records; or the session is open.",
        "content": {
            "application/json": { "schema": reference("ReadBatch") },
            "application/protobuf": opaque("`s2.v1.ReadBatch`."),
            "text/event-stream": { "schema": { "type": "string", "description": "Events. The data of a `batch` is a `ReadBatch`; \
                its id is `seq_num,count,bytes`, for `last-event-id`. A `ping` comes at the tail, every 5 to 15 seconds." } },
            "s2s/proto": opaque("Frames, each with an `s2.v1.ReadBatch`; after a failure a last one with status and error."),
        },
        "headers": streaming_headers(),
    });
    let unwritten = json!({
        "description": "The start lies at the tail or beyond it, and the read may not wait. There is no `code`.",
        "content": { "application/json": { "schema": reference("TailResponse") } },
    });
    let resume = "With events: the id of the last one that came. The read goes on behind it, and what came before counts \
        towards the limits.";
    on_records("read", "Read records", about)
        .query(ReadQuery::parameters())
        .header(format())
        .header(encryption_key())
        .header(stream_config())
        .header(Parameter::optional(
            "last-event-id",
            resume,
            json!({ "type": "string", "pattern": "^\\d+,\\d+,\\d+$" }),
        ))
        .answers_with(200, batch)
        .answers_with(416, unwritten)
        .errors(&[Invalid, DecryptionFailed])
}

/// Headers of sessions; single answers do not have them.
fn streaming_headers() -> Value {
    json!({
        "cache-control": { "description": "On sessions: `no-cache, no-transform`.", "schema": { "type": "string" } },
        "x-accel-buffering": { "description": "On sessions: `no`.", "schema": { "type": "string" } },
    })
}

pub(super) fn check_tail() -> Operation {
    let about = "Where the next record goes. All that was acknowledged before lies before it.";
    on_records("check_tail", "Check the tail", about).answers(200, "The tail.", reference("TailResponse"))
}

pub(super) fn first_form() -> Operation {
    let about = "The call of S2's first public page, for clients as old as that: names, values and bodies are base64, whatever \
        the content type. Where no access tokens are required it makes a basin that is missing, which makes its streams.";
    Operation::new(RECORDS, "append_first_form", "Append records, the first form", about)
        .header(encryption_key())
        .header(stream_config())
        .body(true, json!({ "application/json": { "schema": reference("FirstFormInput") } }))
        .answers(200, "The batch is durable.", reference("FirstFormAck"))
        .answers_with(412, condition_failed())
        .errors(&[BadPath, BadJson, Invalid, api::Code::BasinNotFound, StreamNotFound, StreamDeletionPending])
        .errors(&[BasinDeletionPending, HotServer, TransactionConflict, Other])
}

pub(super) fn lease(method: &Method) -> Operation {
    let named = |id, summary, about| {
        Operation::new(LEASES, id, summary, about).in_basin().errors(&[
            BadPath,
            StreamNotFound,
            StreamDeletionPending,
            BasinDeletionPending,
            HotServer,
        ])
    };
    match *method {
        Method::GET => named("inspect_lease", "See who has the lease", "It does not tell the token.").answers(
            200,
            "Who has it, if anybody has.",
            reference("LeaseStatus"),
        ),
        Method::POST => {
            let about = "Gives the lease to the caller, with a fresh fencing token that is in force from now on; whoever had \
                another one can append with it no more. While somebody has the lease, the caller waits, then gets 409.";
            named("acquire_lease", "Acquire the lease", about)
                .json("AcquireLeaseRequest")
                .answers(200, "The caller has it.", reference("AcquiredLease"))
                .answers(409, "- `lease_held`: somebody else has it.", reference("LeaseHeld"))
                .errors(&[Invalid, Other])
        }
        Method::PUT => {
            named("renew_lease", "Renew the lease", "Makes it hold for its duration, or another one, from now on.")
                .json("RenewLeaseRequest")
                .answers(200, "It holds for longer.", reference("Lease"))
                .answers(409, LOST, reference("LeaseLost"))
                .errors(&[Invalid])
        }
        _ => {
            let token = schema::fencing_token("The token that came with the lease.");
            named("release_lease", "Release the lease", "Gives it back; its token is in force no more.")
                .query(vec![Parameter::required("token", "The token that came with the lease.", token)])
                .answers_empty(204, "It is given back.")
                .answers(409, LOST, reference("LeaseLost"))
                .errors(&[Invalid])
        }
    }
}

const LOST: &str = "- `lease_lost`: the token is of no lease that is in force.";
