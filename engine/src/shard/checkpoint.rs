//! Checkpoints: the state of a shard in a file, so that recovery replays little (docs/format.md).
//!
//! A checkpoint is written in pieces while appends go on, so its rows are of different ages. Each piece says up to which
//! entry of its group it is current; recovery replays the log from where the checkpoint was begun, and an entry is
//! applied to a row only if it is newer than the row.
//!
//! ```text
//! file   magic "MRCKPT01", piece*          piece  kind u8 | payload_bytes u32 | payload_crc u32 | payload
//! 1 head  directory_id u128, shard u16, segment_bytes u64, replay: end u64, prev_lsn u64, prev_header_crc u32, epoch u32
//! 2 group group u32, applied_index u64, applied_term u64, term u64, vote u64, commit u64, generation u32, dropped basins
//! 7 rows  group u32, applied_index u64, count u32, streams; 3 likewise, of before entries had metered bytes
//! 4 basins applied_index u64, last_id u64, count u32, basins
//! 6 tokens count u32, access tokens; as current as the basins of the same head
//! 5 end   durable_lsn u64, (group u32, applied_index u64)*
//! ```

use std::sync::Arc;

use bytes::Bytes;
use model::config::StreamConfig;
use model::{BasinId, FencingToken, GroupId, Position, ShardId, StreamId, StreamName};
use replication::HardState;

use crate::event::{BasinInfo, CheckpointPart, Effect, Effects, Now, TokenChange};
use crate::log::codec::{Malformed, Reader, Writer};
use crate::log::writer::LogEnd;
use crate::log::{Lsn, SegmentNo};
use crate::metadata::Basin;
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::shard::append::FULL_BYTES;
use crate::stream::index::{IndexEntry, StreamIndex};
use crate::stream::lease::Lease;
use crate::stream::op::{get_basin, get_cipher, get_stream_config, put_basin, put_cipher, put_stream_config};
use crate::stream::state::{Life, Stream};
use crate::stream::token_codec::{get_token, put_token};

/// How far the checkpoint in the making has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// None is being made.
    Idle,
    /// The file was begun.
    Begun,
    /// Rows of this group from this place on are next.
    Rows(usize, usize),
    /// The end was written.
    Ended,
    /// The file is being put into force.
    Committing,
}

/// The making of checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    stage: Stage,
    /// Where recovery begins with the one in the making.
    replay: LogEnd,
    /// Where the log was when the last one was begun, and the one before that.
    last_begun: (Lsn, Lsn),
    /// The last attempt failed; the next is made no earlier.
    retry_at_us: u64,
}

impl Checkpoint {
    pub(crate) const fn new(last_begun: Lsn) -> Self {
        Self {
            stage: Stage::Idle,
            replay: LogEnd { end: Lsn(0), prev_lsn: Lsn(0), prev_header_crc: 0, epoch: 0 },
            last_begun: (last_begun, last_begun),
            retry_at_us: 0,
        }
    }
}

impl Shard {
    /// Begins a checkpoint if enough log was written since the last, or if one would free segments that are needed.
    pub(crate) fn consider_checkpoint(&mut self, now: Now, effects: &mut Effects) {
        if self.checkpoint.stage != Stage::Idle || now.mono_us < self.checkpoint.retry_at_us {
            return;
        }
        let last_begun = self.checkpoint.last_begun.0;
        let written = self.writer.end().0.saturating_sub(last_begun.0);
        let is_tight = || {
            let room = self.space.room_bytes(self.writer.end(), self.replay_from);
            let tight_bytes = (3 * self.config.segment_bytes).max(FULL_BYTES + self.config.segment_bytes);
            room < tight_bytes && self.space.waits_for_checkpoint(self.replay_from)
        };
        if written >= self.config.checkpoint_log_bytes || (written > 0 && is_tight()) {
            self.checkpoint.stage = Stage::Begun;
            self.checkpoint.last_begun = (self.writer.end(), last_begun);
            effects.push(Effect::Checkpoint(CheckpointPart::Begin));
        }
    }

    /// Writes the next piece of the checkpoint, or takes it into force.
    pub(crate) fn checkpoint_written(&mut self, now: Now, effects: &mut Effects) {
        let part = match self.checkpoint.stage {
            Stage::Idle => unreachable!("a part is written only while a checkpoint is made"),
            Stage::Begun => {
                self.checkpoint.replay = self.writer.replay_from();
                if Mutation::ReplayFromTooSoon.is_on() {
                    self.replay_from = self.geometry.segment(self.checkpoint.replay.end).max(SegmentNo(1));
                }
                self.checkpoint.stage = Stage::Rows(0, 0);
                CheckpointPart::Bytes(self.head())
            }
            Stage::Rows(group, place) => CheckpointPart::Bytes(self.rows(group, place)),
            Stage::Ended => {
                self.checkpoint.stage = Stage::Committing;
                CheckpointPart::Commit
            }
            Stage::Committing => {
                self.checkpoint.stage = Stage::Idle;
                self.stats.checkpoints_total += 1;
                self.replay_from = self.geometry.segment(self.checkpoint.replay.end).max(SegmentNo(1));
                self.consider_checkpoint(now, effects);
                return self.go_on(now, effects);
            }
        };
        effects.push(Effect::Checkpoint(part));
    }

    /// Gives up on the checkpoint in the making; the one in force stays, and another attempt is made when its time has come.
    pub(crate) const fn checkpoint_failed(&mut self, now: Now) {
        self.checkpoint.stage = Stage::Idle;
        self.checkpoint.last_begun.0 = self.checkpoint.last_begun.1;
        self.checkpoint.retry_at_us = now.mono_us + RETRY_US;
    }

    fn head(&self) -> Bytes {
        let mut file = Pieces::begin();
        let replay = self.checkpoint.replay;
        let mut w = Writer::new();
        w.u128(self.config.directory_id).u16(self.config.shard.0).u64(self.config.segment_bytes);
        w.u64(replay.end.0).u64(replay.prev_lsn.0).u32(replay.prev_header_crc).u32(replay.epoch);
        file.push(PieceKind::Head, w);
        for group in &self.state.groups {
            let HardState { term, vote, commit } = group.consensus.hard_state();
            let mut w = Writer::new();
            w.u32(group.id.0).u64(group.applied_index).u64(group.applied_term);
            let term = if Mutation::HardStateNotInCheckpoint.is_on() { 0 } else { term };
            w.u64(term).u64(vote).u64(commit).u32(if Mutation::GenerationNotInCheckpoint.is_on() {
                0
            } else {
                group.catalog.generation()
            });
            let dropped: Vec<BasinId> = group.catalog.dropped().collect();
            w.u32(u32::try_from(dropped.len()).expect("fewer than four billion basins"));
            for basin in dropped {
                w.u64(basin.0);
            }
            file.push(PieceKind::Group, w);
        }
        if self.config.shard == ShardId(0) {
            file.push(PieceKind::Basins, self.basins());
            // Without tokens the file is one that older programs read, too.
            if self.state.tokens.committed().next().is_some() && !Mutation::TokenNotInCheckpoint.is_on() {
                file.push(PieceKind::Tokens, self.tokens());
            }
        }
        file.finish()
    }

    fn basins(&self) -> Writer {
        let mut w = Writer::new();
        w.u64(self.state.groups[0].applied_index).u64(self.state.metadata.last_id());
        // A change that is only on its way is in the log that will be replayed, if it ever gets there.
        let ahead = |b: &'_ Basin| Mutation::BasinInCheckpointAhead.is_on().then(|| Arc::clone(&b.info));
        let committed = |b: &'_ Basin| ahead(b).or_else(|| b.committed.clone()).map(|info| (info, b.request_key));
        let basins: Vec<_> = self.state.metadata.iter().filter_map(committed).collect();
        w.u32(u32::try_from(basins.len()).expect("fewer than four billion basins"));
        for (info, request_key) in basins {
            put_basin(&mut w, &info);
            w.option_u64(request_key);
        }
        w
    }

    fn tokens(&self) -> Writer {
        let mut w = Writer::new();
        let count = self.state.tokens.committed().count();
        w.u32(u32::try_from(count).expect("tokens are bounded"));
        self.state.tokens.committed().for_each(|token| put_token(&mut w, token));
        w
    }

    /// Some rows of a group, or the end.
    fn rows(&mut self, group_at: usize, place: usize) -> Bytes {
        let mut file = Pieces::default();
        let Some(group) = self.state.groups.get(group_at) else {
            let mut w = Writer::new();
            let ahead = Mutation::CheckpointDurableAhead.is_on();
            w.u64(if ahead { self.writer.end().0 } else { self.writer.durable_lsn().0 });
            for group in &self.state.groups {
                w.u32(group.id.0).u64(group.applied_index);
            }
            file.push(PieceKind::End, w);
            self.checkpoint.stage = Stage::Ended;
            return file.finish();
        };
        let mut rows = Writer::new();
        let mut count = 0;
        let mut next = Stage::Rows(group_at + 1, 0);
        for (at, stream) in group.catalog.from_place(place) {
            if rows.len() >= PIECE_BYTES {
                next = Stage::Rows(group_at, at + usize::from(Mutation::RowLostBetweenPieces.is_on()));
                break;
            }
            // A stream that is only being created is in the log that will be replayed.
            if stream.is_visible() || Mutation::CreatingInCheckpoint.is_on() {
                put_row(&mut rows, stream);
                count += 1;
            }
        }
        let mut w = Writer::new();
        w.u32(group.id.0).u64(group.applied_index).u32(count).raw(&rows.finish());
        file.push(PieceKind::Rows, w);
        self.checkpoint.stage = next;
        file.finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum PieceKind {
    Head = 1,
    Group = 2,
    /// 3 was rows whose entries have no metered bytes.
    Rows = 7,
    Basins = 4,
    End = 5,
    Tokens = 6,
}

/// Pieces of the file, one after the other.
#[derive(Default)]
struct Pieces(Vec<u8>);

impl Pieces {
    fn begin() -> Self {
        Self(MAGIC.to_vec())
    }

    fn push(&mut self, kind: PieceKind, payload: Writer) {
        let payload = payload.finish();
        let mut w = Writer::new();
        w.u8(kind as u8).u32(u32::try_from(payload.len()).expect("a piece is far below 4 GiB"));
        w.u32(crc32c::crc32c(&payload)).raw(&payload);
        self.0.extend_from_slice(&w.finish());
    }

    fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// In front of a lease, in the place of the cipher.
const HAS_LEASE: u8 = 0x80;

pub(super) fn put_row(w: &mut Writer, stream: &Stream) {
    w.u64(stream.id.0).u64(stream.basin.0).bytes(stream.name.as_str().as_bytes()).u64(stream.created_ms);
    w.option_u64(stream.request_key);
    // A deletion that is not applied yet is in the log that will be replayed.
    w.u64(if stream.life == Life::Deleting && !Mutation::DeletionNotInCheckpoint.is_on() {
        stream.deleted_ms.max(1)
    } else {
        0
    });
    let tail = if Mutation::TailInCheckpointAhead.is_on() { stream.next } else { stream.tail };
    let trim_point = if Mutation::TrimNotInCheckpoint.is_on() { 0 } else { stream.trim_point };
    w.u64(tail.seq_num).u64(tail.timestamp).u64(trim_point);
    let token = stream.token.as_ref().filter(|_| !Mutation::FenceNotInCheckpoint.is_on());
    let written_s = if Mutation::AgeNotInCheckpoint.is_on() { 0 } else { stream.written_s };
    w.bytes(token.map_or("", FencingToken::as_str).as_bytes()).u32(written_s);
    if let Some(lease) = stream.lease.as_ref().filter(|_| !Mutation::LeaseNotInCheckpoint.is_on()) {
        w.u8(HAS_LEASE);
        lease.encode(w);
    }
    put_cipher(w, stream.cipher.filter(|_| !Mutation::CipherNotInCheckpoint.is_on()));
    let ahead = Mutation::ConfigInCheckpointAhead.is_on();
    put_stream_config(w, &if ahead { &stream.config } else { &stream.committed_config }.to_config());
    w.u32(u32::try_from(stream.index.entries().len()).expect("an index is bounded by memory"));
    for entry in stream.index.entries() {
        w.u64(entry.first_seq_num).u64(entry.first_timestamp).u64(entry.lsn.0);
        let metered_bytes = if Mutation::StorageNotInCheckpoint.is_on() { 0 } else { entry.metered_bytes };
        w.u32(entry.span_bytes).u32(entry.last_arrived_s).u32(metered_bytes);
    }
}

/// Whether entries of rows have metered bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metered {
    Known,
    Unknown,
}

fn get_row(r: &mut Reader<'_>, metered: Metered) -> Result<Stream, Malformed> {
    let (id, basin) = (StreamId(r.u64()?), BasinId(r.u64()?));
    let name = StreamName::try_from(r.str()?).map_err(|_| Malformed)?;
    let created_ms = r.u64()?;
    let request_key = r.option_u64()?;
    let deleted_ms = r.u64()?;
    let tail = Position { seq_num: r.u64()?, timestamp: r.u64()? };
    let trim_point = r.u64()?;
    let token = FencingToken::try_from(r.str()?).map_err(|_| Malformed)?;
    let token = (!token.as_str().is_empty()).then_some(token);
    let written_s = r.u32()?;
    // Checkpoints of before there were leases have the cipher here; it is never this byte.
    let mut lease = None;
    if r.rest().first() == Some(&HAS_LEASE) {
        r.u8()?;
        lease = Some(Box::new(Lease::decode(r)?));
    }
    let cipher = get_cipher(r)?;
    let config = get_stream_config(r)?.resolve(&StreamConfig::default());
    let mut entries = Vec::new();
    for _ in 0..r.u32()? {
        entries.push(IndexEntry {
            first_seq_num: r.u64()?,
            first_timestamp: r.u64()?,
            lsn: Lsn(r.u64()?),
            span_bytes: r.u32()?,
            last_arrived_s: r.u32()?,
            metered_bytes: match metered {
                Metered::Known => r.u32()?,
                Metered::Unknown => 0,
            },
        });
    }
    let entries = StreamIndex::try_from_entries(entries).ok_or(Malformed)?;
    let mut stream = Stream::new(id, basin, name, config.into(), created_ms);
    stream.life = if deleted_ms == 0 { Life::Active } else { Life::Deleting };
    (stream.request_key, stream.deleted_ms, stream.cipher) = (request_key, deleted_ms, cipher);
    (stream.tail, stream.next, stream.trim_point) = (tail, tail, trim_point);
    (stream.next_token, stream.token) = (token.clone(), token);
    stream.written_s = written_s;
    stream.lease = lease;
    stream.index = entries;
    Ok(stream)
}

/// A stream as a checkpoint gives it back.
#[cfg(test)]
pub(super) fn row_there_and_back(stream: &Stream) -> Stream {
    let mut w = Writer::new();
    put_row(&mut w, stream);
    let bytes = w.finish();
    let mut r = Reader::new(&bytes);
    let read = get_row(&mut r, Metered::Known).expect("it was just written");
    assert!(r.is_empty());
    read
}

/// A group as a checkpoint has it.
#[derive(Debug)]
pub(crate) struct GroupRow {
    pub(crate) id: GroupId,
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    pub(crate) hard_state: HardState,
    pub(crate) generation: u32,
    pub(crate) dropped: Vec<BasinId>,
    /// Up to here, operations may be on streams that were gone before their row was written.
    pub(crate) end_index: u64,
}

/// A checkpoint, read back.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) replay: LogEnd,
    pub(crate) durable_lsn: Lsn,
    pub(crate) groups: Vec<GroupRow>,
    /// Streams with their group, and the entry up to which they are current.
    pub(crate) streams: Vec<(GroupId, u64, Stream)>,
    pub(crate) basins: Vec<(BasinInfo, Option<u64>)>,
    pub(crate) basins_index: u64,
    pub(crate) last_basin_id: u64,
    /// As current as the basins.
    pub(crate) tokens: Vec<TokenChange>,
}

/// Reads a checkpoint of the shard that `expected` names: directory, shard, segment size.
pub(crate) fn load(bytes: &[u8], expected: (u128, ShardId, u64)) -> Result<Loaded, String> {
    let damaged = |_: Malformed| "the checkpoint is damaged".to_string();
    let body = bytes.strip_prefix(MAGIC).ok_or("the checkpoint is damaged or of another version")?;
    let mut loaded = Loaded {
        replay: LogEnd { end: Lsn(0), prev_lsn: Lsn(0), prev_header_crc: 0, epoch: 0 },
        durable_lsn: Lsn(0),
        groups: Vec::new(),
        streams: Vec::new(),
        basins: Vec::new(),
        basins_index: 0,
        last_basin_id: 0,
        tokens: Vec::new(),
    };
    let mut r = Reader::new(body);
    let mut has_ended = false;
    while !r.is_empty() {
        let kind = r.u8().map_err(damaged)?;
        let (payload_bytes, crc) = (r.u32().map_err(damaged)?, r.u32().map_err(damaged)?);
        let payload = r.take(payload_bytes as usize).map_err(damaged)?;
        if crc32c::crc32c(payload) != crc {
            return Err(damaged(Malformed));
        }
        let mut p = Reader::new(payload);
        match kind {
            1 => {
                let found = (p.u128().map_err(damaged)?, ShardId(p.u16().map_err(damaged)?), p.u64().map_err(damaged)?);
                if found != expected {
                    return Err("the checkpoint belongs to another data directory or shard".into());
                }
                loaded.replay = get_log_end(&mut p).map_err(damaged)?;
            }
            2 => loaded.groups.push(get_group(&mut p).map_err(damaged)?),
            3 => get_rows(&mut p, &mut loaded.streams, Metered::Unknown).map_err(damaged)?,
            4 => get_basins(&mut p, &mut loaded).map_err(damaged)?,
            5 => {
                get_end(&mut p, &mut loaded).map_err(damaged)?;
                has_ended = true;
            }
            7 => get_rows(&mut p, &mut loaded.streams, Metered::Known).map_err(damaged)?,
            6 => get_tokens(&mut p, &mut loaded.tokens).map_err(damaged)?,
            _ => return Err("the checkpoint is of a newer version".into()),
        }
    }
    if has_ended { Ok(loaded) } else { Err("the checkpoint is cut off".into()) }
}

fn get_log_end(p: &mut Reader<'_>) -> Result<LogEnd, Malformed> {
    Ok(LogEnd { end: Lsn(p.u64()?), prev_lsn: Lsn(p.u64()?), prev_header_crc: p.u32()?, epoch: p.u32()? })
}

fn get_group(p: &mut Reader<'_>) -> Result<GroupRow, Malformed> {
    let id = GroupId(p.u32()?);
    let (applied_index, applied_term) = (p.u64()?, p.u64()?);
    let hard_state = HardState { term: p.u64()?, vote: p.u64()?, commit: p.u64()? };
    let generation = p.u32()?;
    let dropped = (0..p.u32()?).map(|_| p.u64().map(BasinId)).collect::<Result<_, _>>()?;
    Ok(GroupRow { id, applied_index, applied_term, hard_state, generation, dropped, end_index: applied_index })
}

fn get_rows(p: &mut Reader<'_>, streams: &mut Vec<(GroupId, u64, Stream)>, metered: Metered) -> Result<(), Malformed> {
    let (group, applied_index) = (GroupId(p.u32()?), p.u64()?);
    for _ in 0..p.u32()? {
        streams.push((group, applied_index, get_row(p, metered)?));
    }
    Ok(())
}

fn get_basins(p: &mut Reader<'_>, loaded: &mut Loaded) -> Result<(), Malformed> {
    (loaded.basins_index, loaded.last_basin_id) = (p.u64()?, p.u64()?);
    for _ in 0..p.u32()? {
        loaded.basins.push((get_basin(p)?, p.option_u64()?));
    }
    Ok(())
}

fn get_tokens(p: &mut Reader<'_>, tokens: &mut Vec<TokenChange>) -> Result<(), Malformed> {
    for _ in 0..p.u32()? {
        tokens.push(TokenChange::Put(Arc::new(get_token(p)?)));
    }
    Ok(())
}

fn get_end(p: &mut Reader<'_>, loaded: &mut Loaded) -> Result<(), Malformed> {
    loaded.durable_lsn = Lsn(p.u64()?);
    while !p.is_empty() {
        let (id, index) = (GroupId(p.u32()?), p.u64()?);
        let group = loaded.groups.iter_mut().find(|g| g.id == id).ok_or(Malformed)?;
        group.end_index = index;
    }
    Ok(())
}

/// Pause after a checkpoint could not be written.
const RETRY_US: u64 = 1_000_000;
const MAGIC: &[u8; 8] = b"MRCKPT01";
/// A piece takes rows until it has this many bytes: well under a millisecond of work.
const PIECE_BYTES: usize = 64 << 10;
