//! GET records and GET tail: one answer, or the opening of a session (s2-wire.md 1.10, 2.6, 3, 4.5-4.7).

use std::rc::Rc;
use std::time::Duration;

use api::compression::Compressor;
use api::negotiate::{self, ReadKind};
use api::query::{self, ReadQuery};
use api::sse::EventId;
use api::{ApiError, json};
use bytes::{Bytes, BytesMut};
use engine::event::{BasinInfo, Follow, Op, Read, ReadBatch, ReadLimits, ReadReply, ReadStart, Reply, Target};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use model::stored::tail_field;
use model::{Failure, Position, ShardId, StreamName, Unavailable};

use super::answer::{self, Answer, header};
use super::append::stream_config_header;
use super::cursor::{Cursor, READ_BATCHES, Wait};
use super::limits::{Budget, Reserved};
use super::payload::Kind;
use super::read_session::{ReadSession, Wire};
use super::session::Place;
use super::watch::Connection;
use super::{Front, Phase, route};
use crate::access::Access;
use crate::access::guard::Guard;
use crate::encryption::{self, Sealer};
use crate::meters::Meter;
use crate::resource::Caller;
use crate::router::{not_deleting, stream_spec};
use crate::store::unexpected;

/// GET `/streams/{stream}/records/tail`.
///
/// # Errors
/// As the spec says.
pub(crate) async fn check_tail(caller: Caller<'_>, basin: &BasinInfo, stream: StreamName) -> Result<Answer, ApiError> {
    let tail = caller.check_tail(basin, stream).await?;
    Ok(answer::json(StatusCode::OK, json::tail_response(tail)))
}

/// What a read was opened with.
pub(crate) struct Opened {
    shard: ShardId,
    target: Target,
    query: ReadQuery,
    limits: ReadLimits,
    /// For a stream with a cipher.
    sealer: Option<Sealer>,
    /// The first answer, and its place in memory.
    first: (Reserved, ReadReply),
}

/// GET `/streams/{stream}/records`. Returns the row of the metrics beside the answer.
///
/// # Errors
/// As the spec says; once a session is open its errors are part of its body.
pub(crate) async fn read(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    basin: &BasinInfo,
    stream: StreamName,
    access: &Access,
) -> Result<(usize, Answer), ApiError> {
    let headers = &parts.headers;
    let format = negotiate::format(header(headers, "s2-format"))?;
    let query = ReadQuery::parse(parts.uri.query().unwrap_or_default())?;
    let kind = negotiate::read_kind(header(headers, http::header::CONTENT_TYPE), header(headers, http::header::ACCEPT));
    let (wire, content_type, query) = match kind {
        ReadKind::Unary(wire) => {
            let opened = open(front, headers, basin, stream, query.unary(), (1, &front.budgets.answers)).await?;
            front.meters.basin((basin.id, &basin.name), Meter::READ_UNARY, 1);
            let answer = unary(front, opened, wire, format).await?;
            // It may have waited for a minute.
            Guard::new(&front.gate, access).check()?;
            return Ok((7, answer));
        }
        ReadKind::S2s => {
            let compression = negotiate::session_compression(header(headers, http::header::ACCEPT_ENCODING));
            (Wire::S2s(compression, Compressor::new(compression)), "s2s/proto", query)
        }
        ReadKind::Sse => {
            let resumed = header(headers, "last-event-id").map(EventId::parse).transpose()?;
            let query = resumed.map_or(query, |id| id.resume(query));
            (Wire::Sse(format, resumed.unwrap_or_default()), "text/event-stream", query)
        }
    };
    let place = front.sessions.enter(&front.watch, connection)?.guarded(Guard::new(&front.gate, access));
    let place = place.seated(front.limits.seat_for(access.token_id(), &basin.name, &stream)?);
    let opened = open(front, headers, basin, stream, query, (READ_BATCHES, &front.budgets.sessions)).await?;
    let session = session(front, connection, basin, (place, opened), wire);
    Ok((route::READ_SESSION_ROW, answer::streaming(content_type, Kind::Read(Box::new(session)))))
}

/// The session of a read that was opened.
pub(crate) fn session(
    front: &Rc<Front>,
    connection: &Connection,
    basin: &BasinInfo,
    (place, opened): (Place, Opened),
    wire: Wire,
) -> ReadSession {
    let wait = match opened.query.wait_secs {
        Some(secs) if secs > 0 => Wait::For(Duration::from_secs(secs.into())),
        // Without limits and without a wait a read follows for ever; with `wait=0` it ends at the tail.
        None if opened.query.may_follow() => Wait::Forever,
        Some(_) | None => Wait::Never,
    };
    let basin = (basin.id, basin.name.clone());
    let place_at = (opened.shard, opened.target);
    let limits = (opened.limits, wait);
    let cursor = Cursor::new(&front.store, &front.budgets.sessions, place_at, limits, opened.first, connection.id());
    ReadSession::new(front, basin, place, cursor, opened.sealer, wire)
}

/// Resolves the start: after this the answer is 200.
///
/// # Errors
/// As the spec says.
pub(crate) async fn open(
    front: &Front,
    headers: &HeaderMap,
    basin: &BasinInfo,
    stream: StreamName,
    query: ReadQuery,
    (batches, budget): (usize, &Rc<Budget>),
) -> Result<Opened, ApiError> {
    encryption::check_header(headers)?;
    let config = stream_config_header(headers)?;
    not_deleting(basin)?;
    let create = basin.config.create_stream_on_read.then(|| stream_spec(basin, &config));
    let (shard, target) = front.router.target(basin, stream);
    let limits = ReadLimits { count: query.count, bytes: query.bytes, until: query.until, batches };
    let start = match query.start {
        query::ReadStart::SeqNum(seq_num) => ReadStart::SeqNum(seq_num),
        query::ReadStart::Timestamp(timestamp) => ReadStart::Timestamp(timestamp),
        query::ReadStart::TailOffset(offset) => ReadStart::TailOffset(offset),
    };
    // Who wants nothing gets nothing, even from beyond the tail.
    let clamp = query.clamp || query.wants_nothing();
    let may_follow = query.may_follow() || query.wants_nothing();
    let read = Read { target: target.clone(), create, start, clamp, may_follow, limits };
    let reserved = budget.reserve_soon(batches << 20).await?;
    let first = read_reply(front.store.ask(shard, Op::Read(read)).await?);
    let sealer = encryption::sealer(headers, first.cipher, &target, first.stream)?;
    let target = Target { incarnation: Some(first.stream), ..target };
    Ok(Opened { shard, target, query, limits, sealer, first: (reserved, first) })
}

fn read_reply(reply: Reply) -> ReadReply {
    let Reply::Read(read) = reply else { unexpected("a read", &reply) };
    read
}

/// What a single read found.
pub(crate) struct Found {
    /// Records, opened; none when there are none within the limits, or none in time.
    pub(crate) batch: Option<ReadBatch>,
    /// The tail, when the records were waited for.
    pub(crate) tail: Option<Position>,
    /// The tail, when the read got there and found nothing.
    pub(crate) nothing_before: Option<Position>,
    /// The memory of the records.
    pub(crate) reserved: Reserved,
}

/// One batch, as soon as there is one or the wait is over; it is metered.
///
/// # Errors
/// As the spec says.
pub(crate) async fn first_batch(front: &Front, opened: Opened) -> Result<Found, ApiError> {
    let Opened { shard, target, query, limits, sealer, first: (mut reserved, first) } = opened;
    let wait = Duration::from_secs(query.wait_secs.unwrap_or(0).into());
    // Whoever waits needs no memory for that.
    reserved.settle(first.batches.iter().flat_map(|b| &b.runs).map(Bytes::len).sum());
    let waited = async {
        let mut reply = first;
        let mut tail = None;
        // Each turn gets further; a chunk may be empty when all it covered was trimmed meanwhile.
        while reply.batches.is_empty() && !reply.done && !query.wants_nothing() {
            let at = reply.next_seq_num;
            let is_at_tail = at >= reply.tail.seq_num;
            if is_at_tail && !query.may_follow() {
                return Ok((None, None, Some(reply.tail)));
            }
            let target = target.clone();
            let op = if is_at_tail {
                Op::Follow(Follow { target, from_seq_num: at, limits })
            } else {
                let start = ReadStart::SeqNum(at);
                Op::Read(Read { target, create: None, start, clamp: false, may_follow: true, limits })
            };
            reply = read_reply(front.store.ask(shard, op).await?);
            tail = is_at_tail.then_some(reply.tail);
        }
        Ok::<_, ApiError>((reply.batches.into_iter().next(), tail, None))
    };
    let (batch, tail, nothing_before) = if wait.is_zero() {
        waited.await?
    } else {
        // Nobody waits for what a server that stops will not get.
        match front.before(Phase::Draining, tokio::time::timeout(wait, waited)).await {
            Some(Ok(read)) => read?,
            Some(Err(_)) => (None, None, None),
            None => return Err(Failure::from(Unavailable::Draining).into()),
        }
    };
    if let Some(batch) = &batch {
        front.meters.basin((target.basin_id, &target.basin), Meter::READ_BYTES, batch.metered_bytes);
    }
    let tail = tail.filter(|_| batch.is_some());
    let batch = match (batch, &sealer) {
        (Some(batch), Some(sealer)) => Some(sealer.open(&batch)?),
        (batch, _) => batch,
    };
    Ok(Found { batch, tail, nothing_before, reserved })
}

async fn unary(front: &Front, opened: Opened, wire: negotiate::Wire, format: api::Format) -> Result<Answer, ApiError> {
    let Found { batch, tail, nothing_before: _, mut reserved } = first_batch(front, opened).await?;
    let mut answer = encode(batch, tail, wire, format)?;
    reserved
        .settle(http_body::Body::size_hint(answer.body()).exact().map_or(0, |len| usize::try_from(len).unwrap_or(0)));
    answer.body_mut().keep(reserved);
    Ok(answer)
}

fn encode(
    batch: Option<ReadBatch>,
    tail: Option<Position>,
    wire: negotiate::Wire,
    format: api::Format,
) -> Result<Answer, ApiError> {
    let runs = batch.map(|b| b.runs).unwrap_or_default();
    let body = match wire {
        negotiate::Wire::Json => {
            let runs: Vec<&[u8]> = runs.iter().map(|run| &**run).collect();
            Bytes::from(json::read_batch(&runs, tail, format)?)
        }
        negotiate::Wire::Proto => match (<[Bytes; 1]>::try_from(runs), tail) {
            (Ok([run]), None) => run,
            (Ok([run]), Some(tail)) => concat(&[run], Some(tail)),
            (Err(runs), tail) => concat(&runs, tail),
        },
    };
    Ok(answer::full(StatusCode::OK, wire.content_type(), body))
}

fn concat(runs: &[Bytes], tail: Option<Position>) -> Bytes {
    let tail = tail.map(tail_field).unwrap_or_default();
    let mut out = BytesMut::with_capacity(runs.iter().map(Bytes::len).sum::<usize>() + tail.len());
    runs.iter().for_each(|run| out.extend_from_slice(run));
    out.extend_from_slice(&tail);
    out.freeze()
}
