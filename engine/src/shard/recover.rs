//! A shard from what its log and checkpoint say: load, replay what is newer, find the end, count what is in use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use model::limits::BATCH_RECORDS_MAX;
use model::stored::StoredRecords;
use model::{GroupId, Position, ShardId, StreamId};
use replication::{GroupConsensus, HardState, Restored};

use crate::log::codec::Reader;
use crate::log::frame::{FLAG_COMMANDS, FrameHeader, FrameKind};
use crate::log::recovery::{Damage, LogImage, ProvedExtent, is_segment_of, scan};
use crate::log::space::Space;
use crate::log::writer::{LogEnd, LogWriter};
use crate::log::{Geometry, Lsn, SegmentNo};
use crate::metadata::Basin;
use crate::mutation::Mutation;
use crate::read::cache::TailCache;
use crate::read::waiters::Waiters;
use crate::shard::checkpoint::{Checkpoint, GroupRow, Loaded, load};
use crate::shard::stage::Stage;
use crate::shard::state::{Group, Indexing, Phase, State};
use crate::shard::timer::Timer;
use crate::shard::{Recovered, RecoveryError, Shard, ShardConfig, ShardStats, segment_header};
use crate::stream::catalog::{Catalog, generation_of};
use crate::stream::index::ENTRY_BYTES;
use crate::stream::op::{BatchOp, ControlOp};
use crate::stream::state::Stream;

/// A group while its log is replayed.
struct Replayed {
    hard_state: HardState,
    applied_index: u64,
    applied_term: u64,
    catalog: Catalog,
    /// Operations that no entry covers yet.
    pending: Vec<(Lsn, Replay)>,
    /// See [`GroupRow::end_index`].
    end_index: u64,
}

enum Replay {
    Batch(BatchOp),
    Control(ControlOp),
}

struct Replayer {
    ids: Vec<GroupId>,
    groups: Vec<Replayed>,
    state: State,
    basins_index: u64,
    indexing: Indexing,
    contradiction: Option<String>,
}

impl Shard {
    /// Builds the shard from what its log and checkpoint say. A new log is an image without segments.
    ///
    /// # Errors
    /// When something that was durable is damaged.
    pub fn recover(config: ShardConfig, image: &dyn LogImage) -> Result<(Self, Recovered), RecoveryError> {
        let geometry = Geometry { segment_bytes: config.segment_bytes };
        let header = segment_header(&config);
        let mut segments: BTreeSet<SegmentNo> = image.segments().into_iter().collect();
        let named = segments.clone();
        segments.retain(|segment| is_segment_of(image, *segment, &header));
        let loaded = load_checkpoint(&config, image, &segments)?;
        let (from, durable_lsn) =
            loaded.as_ref().map_or_else(|| (first_extent(geometry), Lsn(0)), |l| (l.replay, l.durable_lsn));
        let mut replayer = Replayer::new(&config, geometry, loaded);
        let scanned = scan(image, geometry, from, durable_lsn, |extent| replayer.extent(&extent));
        let (end, lost) = match scanned {
            Ok(end) => (end, None),
            Err(damage) => replayer.accept(&config, damage, image, geometry, from)?,
        };
        replayer.compare_groups();
        if let Some(contradiction) = replayer.contradiction.take() {
            return Err(RecoveryError(format!("shard {}: {contradiction}. {ONLY_WAY_OUT}", config.shard.0)));
        }
        // A file gets its name only with its header, so where the log may go on a file without one is damage.
        let last = geometry.segment(Lsn(end.log.end.0.saturating_sub(1)));
        let damaged = [last, SegmentNo(last.0 + 1)].into_iter().find(|s| named.contains(s) && !segments.contains(s));
        if let Some(SegmentNo(no)) = damaged.filter(|_| !config.accept_data_loss) {
            return Err(RecoveryError(format!(
                "shard {}: segment {no:016x}.seg does not begin with its header, and the log may go on in it. {WAY_OUT}",
                config.shard.0
            )));
        }
        let state = replayer.finish();
        let streams_count = state.streams_count() as u64;
        let recovered = Recovered {
            replayed_bytes: end.bytes,
            extents_count: end.extents_count,
            torn_count: end.torn_count,
            streams_count,
            end: end.log.end,
            lost,
        };
        let replay_from = geometry.segment(from.end).max(SegmentNo(1));
        let (space, index_bytes) = space_of(&config, geometry, &state, &segments, end.log.end)?;
        let stage = Stage::new();
        let writer = LogWriter::new(geometry, end.log, config.extent_bytes_max, config.in_flight_max);
        let shard = Self {
            geometry,
            state,
            writer,
            space,
            replay_from,
            stage,
            sealed: VecDeque::new(),
            applied_ticket: 0,
            held: BTreeMap::new(),
            deferred: VecDeque::new(),
            poisoned: BTreeSet::new(),
            cache: TailCache::new(config.cache_bytes_max, config.extent_bytes_max),
            waiters: Waiters::default(),
            reads: BTreeMap::new(),
            last_read: 0,
            index_bytes,
            checkpoint: Checkpoint::new(from.end),
            chores: VecDeque::new(),
            timer: Timer::default(),
            is_draining: false,
            started_us: 0,
            wants_room: false,
            stats: ShardStats::default(),
            timestamps: Box::new([0; BATCH_RECORDS_MAX]),
            config,
        };
        Ok((shard, recovered))
    }
}

/// Adds a row of a checkpoint. Rows are of different ages: a stream that was purged after its row was written may have given
/// its name to one whose row came later. Then only the later one is there.
fn insert_row(catalog: &mut Catalog, stream: Stream) {
    match catalog.find(stream.basin, &stream.name) {
        Some(holder) if generation_of(holder) > generation_of(stream.id) => {}
        Some(holder) => {
            catalog.remove(holder);
            catalog.insert(stream);
        }
        None => {
            catalog.insert(stream);
        }
    }
}

const fn first_extent(geometry: Geometry) -> LogEnd {
    LogEnd { end: geometry.start(SegmentNo(1)), prev_lsn: Lsn(0), prev_header_crc: 0, epoch: 0 }
}

fn load_checkpoint(
    config: &ShardConfig,
    image: &dyn LogImage,
    segments: &BTreeSet<SegmentNo>,
) -> Result<Option<Loaded>, RecoveryError> {
    let shard = config.shard.0;
    let Some(bytes) = image.checkpoint() else {
        // Without a checkpoint the log must be whole.
        return match segments.first() {
            None | Some(SegmentNo(1)) => Ok(None),
            Some(first) => Err(RecoveryError(format!(
                "shard {shard}: the checkpoint is missing and the log begins with segment {:016x}.seg. {ONLY_WAY_OUT}",
                first.0
            ))),
        };
    };
    let expected = (config.directory_id, config.shard, config.segment_bytes);
    load(bytes, expected).map(Some).map_err(|what| RecoveryError(format!("shard {shard}: {what}. {ONLY_WAY_OUT}")))
}

/// Counts what the indices retain, and proves that it is there.
fn space_of(
    config: &ShardConfig,
    geometry: Geometry,
    state: &State,
    segments: &BTreeSet<SegmentNo>,
    end: Lsn,
) -> Result<(Space, usize), RecoveryError> {
    let current = segments.contains(&geometry.segment(end)).then(|| geometry.segment(end));
    // A log that ends exactly with its segment goes on in the next.
    let current =
        current.filter(|_| geometry.offset(end) != 0).unwrap_or(SegmentNo(geometry.segment(end).0.saturating_sub(1)));
    let written = segments.range(..=current).copied();
    let ready = (current.0 + 1..).map(SegmentNo).take_while(|s| segments.contains(s)).collect();
    // A log without an extent has written nothing, so its first segment is ready rather than written.
    let mut space = Space::new(geometry, config.segments_max, written, ready);
    let mut index_bytes = 0;
    for group in &state.groups {
        for (_, stream) in group.catalog.from_place(0) {
            for entry in stream.index.entries() {
                let segment = geometry.segment(entry.lsn);
                if !space.has(segment) {
                    return Err(RecoveryError(format!(
                        "shard {}: segment {:016x}.seg is missing or damaged, but holds records of stream `{}` from {} on. {ONLY_WAY_OUT}",
                        config.shard.0, segment.0, stream.name, entry.first_seq_num
                    )));
                }
                space.retain(entry.lsn);
                index_bytes += ENTRY_BYTES;
            }
        }
    }
    Ok((space, index_bytes))
}

impl Replayer {
    fn new(config: &ShardConfig, geometry: Geometry, loaded: Option<Loaded>) -> Self {
        let metadata = (config.shard == ShardId(0)).then_some(GroupId::METADATA);
        let ids: Vec<GroupId> = metadata.into_iter().chain(config.placement.groups_of(config.shard)).collect();
        let mut replayer = Self {
            groups: ids.iter().map(|_| Replayed::new(None)).collect(),
            ids,
            state: State::default(),
            basins_index: 0,
            indexing: Indexing { geometry, window_bytes: REPLAY_WINDOW_BYTES },
            contradiction: None,
        };
        let Some(loaded) = loaded else { return replayer };
        for row in loaded.groups {
            match replayer.group(row.id) {
                Some(at) => replayer.groups[at] = Replayed::new(Some(row)),
                None => replayer.contradict(format!(
                    "the checkpoint has group {}, which is not on this shard: it was written by another number of shards",
                    row.id.0
                )),
            }
        }
        for (group, applied_index, mut stream) in loaded.streams {
            // Until recovery ends, `touched` says how current the row is.
            stream.touched = applied_index;
            if let Some(at) = replayer.group(group) {
                insert_row(&mut replayer.groups[at].catalog, stream);
            }
        }
        for (info, request_key) in loaded.basins {
            replayer.state.metadata.put(Basin::durable(info.into(), request_key));
        }
        loaded.tokens.iter().for_each(|token| replayer.state.tokens.restore(token));
        replayer.state.metadata.skip_ids(loaded.last_basin_id);
        replayer.basins_index = loaded.basins_index;
        replayer
    }

    fn group(&self, id: GroupId) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// All groups of a shard promise something in its first extent. So a log with promises of some of the groups that are
    /// expected here, or of others, was written by another number of shards.
    fn compare_groups(&mut self) {
        let (new, old): (Vec<_>, Vec<_>) = self.ids.iter().zip(&self.groups).partition(|(_, g)| g.hard_state.term == 0);
        if let (Some((new, _)), Some(_), false) = (new.first(), old.first(), Mutation::ForeignGroupsTaken.is_on()) {
            let id = new.0;
            self.contradict(format!("the log has nothing of group {id}: it was written by another number of shards"));
        }
    }

    fn contradict(&mut self, what: String) {
        self.contradiction.get_or_insert(what);
    }

    fn extent(&mut self, extent: &ProvedExtent<'_>) {
        for (frame, payload, offset) in &extent.frames {
            let Some(group) = self.group(frame.group) else {
                self.contradict(format!("the log has a frame of group {}, which is not on this shard", frame.group.0));
                return;
            };
            let lsn = extent.header.lsn.plus(*offset as u64);
            if self.frame(group, frame, payload, *offset, lsn).is_none() {
                self.contradict(format!("the frame at lsn {} is intact, but not as this version writes it", lsn.0));
            }
        }
    }

    fn frame(&mut self, group: usize, frame: &FrameHeader, payload: &[u8], offset: usize, lsn: Lsn) -> Option<()> {
        let mut r = Reader::new(payload);
        let replayed = &mut self.groups[group];
        match frame.kind {
            FrameKind::Batch => {
                let op = batch_op(frame, payload, offset)?;
                replayed.pending.push((lsn, Replay::Batch(op)));
            }
            FrameKind::Control => {
                replayed.pending.push((lsn, Replay::Control(ControlOp::decode(payload).ok()?)));
            }
            FrameKind::HardState => {
                replayed.hard_state = HardState { term: r.u64().ok()?, vote: r.u64().ok()?, commit: r.u64().ok()? };
            }
            FrameKind::Entry => {
                let (term, index) = (r.u64().ok()?, r.u64().ok()?);
                let has_payload = !r.bytes().ok()?.is_empty();
                self.entry(group, term, index, has_payload);
            }
        }
        Some(())
    }

    /// An entry covers what is pending: with one voter it is committed by being durable.
    fn entry(&mut self, group: usize, term: u64, index: u64, has_payload: bool) {
        let replayed = &mut self.groups[group];
        if index != replayed.applied_index + 1 {
            let (id, applied) = (self.ids[group].0, replayed.applied_index);
            return self.contradict(format!("group {id} has entry {index} behind entry {applied}"));
        }
        (replayed.applied_index, replayed.applied_term) = (index, term);
        replayed.hard_state.term = replayed.hard_state.term.max(term);
        if !has_payload {
            return;
        }
        for (lsn, op) in std::mem::take(&mut self.groups[group].pending) {
            self.apply(group, index, lsn, op);
        }
    }

    fn apply(&mut self, group: usize, index: u64, lsn: Lsn, op: Replay) {
        let stream = match &op {
            Replay::Batch(op) => Some(op.stream),
            Replay::Control(op) => op.stream(),
        };
        match stream {
            Some(id) if !self.applies_to(group, index, id, &op) => return,
            None if self.ids[group] == GroupId::METADATA && index <= self.basins_index => return,
            Some(_) | None => {}
        }
        // Operations work on a state of groups; lend it this one.
        let lent = Group {
            id: self.ids[group],
            consensus: GroupConsensus::single_voter(Restored::default()),
            applied_index: 0,
            applied_term: 0,
            written_vote: (0, 0),
            catalog: std::mem::take(&mut self.groups[group].catalog),
        };
        self.state.groups.push(lent);
        match &op {
            Replay::Batch(op) => drop(self.state.apply_batch(0, op, lsn, self.indexing)),
            Replay::Control(op) => drop(self.state.apply_control(0, op, Phase::Replay)),
        }
        self.groups[group].catalog = self.state.groups.pop().expect("just lent").catalog;
    }

    /// Whether the operation is newer than the stream's row, and the stream is there.
    fn applies_to(&mut self, group: usize, index: u64, id: StreamId, op: &Replay) -> bool {
        let replayed = &self.groups[group];
        let creates = matches!(op, Replay::Control(ControlOp::CreateStream { .. }));
        match replayed.catalog.at_place_of(id) {
            Some(stream) if stream.id == id => {
                let next = stream.tail.seq_num;
                let applies = (index > stream.touched || Mutation::OldOperationsReplayed.is_on()) && !creates;
                if let Replay::Batch(op) = op
                    && applies
                    && op.first.seq_num != next
                {
                    let name = stream.name.clone();
                    self.contradict(format!("stream `{name}` has record {} behind record {next}", op.first.seq_num));
                    return false;
                }
                applies
            }
            // Its name was given to a later stream, whose row was written after this one was gone.
            None if self.is_superseded(group, id, op) => false,
            // The place is free, or was given to a later stream before its row was written.
            None if creates => true,
            Some(_) | None if index <= replayed.end_index && !Mutation::GoneStreamRefused.is_on() => false,
            Some(_) | None => {
                self.contradict(format!(
                    "group {} has an operation on stream {}, which is not there",
                    self.ids[group].0, id.0
                ));
                false
            }
        }
    }

    /// Whether a creation is of a name that a later stream has by now.
    fn is_superseded(&self, group: usize, id: StreamId, op: &Replay) -> bool {
        let Replay::Control(ControlOp::CreateStream { basin, name, .. }) = op else { return false };
        let holder = self.groups[group].catalog.find(*basin, name);
        holder.is_some_and(|holder| generation_of(holder) > generation_of(id))
    }

    /// Cuts the log before the damage if the settings accept that, else refuses.
    fn accept(
        &mut self,
        config: &ShardConfig,
        damage: Damage,
        image: &dyn LogImage,
        geometry: Geometry,
        from: LogEnd,
    ) -> Result<(crate::log::recovery::ScanEnd, Option<String>), RecoveryError> {
        let mut text = format!("shard {}: {damage}", config.shard.0);
        let mut names = Vec::new();
        for (group, id) in &damage.streams {
            let stream = self.group(*group).and_then(|at| self.groups[at].catalog.get(*id));
            names.push(stream.map_or_else(|| format!("stream id {}", id.0), |s| format!("`{}`", s.name)));
        }
        if names.is_empty() {
            text.push_str("; its streams cannot be told");
        } else {
            let _ = write!(text, "; it holds records of {}", names.join(", "));
        }
        if !config.accept_data_loss {
            return Err(RecoveryError(format!("{text}. {WAY_OUT}")));
        }
        let cut = CutImage { image, geometry, end: damage.lsn };
        // What was visited was applied; only the end is still to be found, with nothing behind it.
        let end = scan(&cut, geometry, from, Lsn(0), |_: ProvedExtent<'_>| {});
        let mut end = end.map_err(|again| RecoveryError(format!("shard {}: {again}. {WAY_OUT}", config.shard.0)))?;
        end.log.epoch = end.log.epoch.saturating_add(EPOCHS_BEHIND_DAMAGE);
        Ok((end, Some(text)))
    }

    fn finish(mut self) -> State {
        for (id, mut replayed) in self.ids.into_iter().zip(self.groups) {
            let Replayed { hard_state, applied_index, applied_term, .. } = replayed;
            replayed.catalog.settle();
            self.state.groups.push(Group {
                id,
                consensus: GroupConsensus::single_voter(match Mutation::HardStateForgotten.is_on() {
                    true => Restored { applied_index, ..Restored::default() },
                    false => Restored { hard_state, applied_index, applied_term },
                }),
                applied_index,
                applied_term,
                written_vote: (hard_state.term, hard_state.vote),
                catalog: replayed.catalog,
            });
        }
        self.state
    }
}

impl Replayed {
    fn new(row: Option<GroupRow>) -> Self {
        let mut catalog = Catalog::default();
        let Some(row) = row else {
            return Self {
                hard_state: HardState::default(),
                applied_index: 0,
                applied_term: 0,
                catalog,
                pending: vec![],
                end_index: 0,
            };
        };
        catalog.skip_generations(row.generation);
        for basin in row.dropped {
            catalog.drop_basin(basin);
        }
        Self {
            hard_state: row.hard_state,
            applied_index: row.applied_index,
            applied_term: row.applied_term,
            catalog,
            pending: vec![],
            end_index: row.end_index,
        }
    }
}

/// A log image that ends before a place.
struct CutImage<'a> {
    image: &'a dyn LogImage,
    geometry: Geometry,
    end: Lsn,
}

impl LogImage for CutImage<'_> {
    fn segments(&self) -> Vec<SegmentNo> {
        let last = self.geometry.segment(self.end);
        self.image.segments().into_iter().filter(|s| *s <= last).collect()
    }

    fn bytes(&self, segment: SegmentNo) -> &[u8] {
        let bytes = self.image.bytes(segment);
        if segment < self.geometry.segment(self.end) {
            return bytes;
        }
        let end = usize::try_from(self.geometry.offset(self.end)).unwrap_or(usize::MAX);
        bytes.get(..end).unwrap_or(bytes)
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        self.image.checkpoint()
    }
}

/// What the frame of a batch says; `None` when header and payload contradict each other.
pub(super) fn batch_op(frame: &FrameHeader, payload: &[u8], offset: usize) -> Option<BatchOp> {
    let end_seq_num = frame.first_seq_num.checked_add(frame.records_count.into())?;
    let mut commands = Vec::new();
    if frame.flags & FLAG_COMMANDS != 0 {
        for record in StoredRecords::new(payload) {
            let record = record.ok()?;
            commands.extend(record.command().map(|command| (record.position.seq_num, command)));
        }
    }
    Some(BatchOp {
        stream: frame.stream,
        first: Position { seq_num: frame.first_seq_num, timestamp: frame.first_timestamp },
        end: Position { seq_num: end_seq_num, timestamp: frame.last_timestamp },
        metered_bytes: frame.metered_bytes,
        arrived_s: frame.arrived_s,
        offset: u32::try_from(offset).ok()?,
        frame_bytes: u32::try_from(frame.frame_bytes()).ok()?,
        commands,
    })
}

/// Said behind every refusal to start.
const WAY_OUT: &str = "Nothing was changed. Restore this data directory from a copy, or start once with --accept-data-loss to cut \
                       the log before the damage: everything from there on is lost, also of other streams; \
                       `millrace inspect DIR` shows what is there";
/// Said where no cut of the log helps.
const ONLY_WAY_OUT: &str =
    "Nothing was changed. Restore this data directory from a copy; `millrace inspect DIR` shows what is there";
/// Index windows at recovery: as small as live ones are at first.
const REPLAY_WINDOW_BYTES: u32 = 256 << 10;
/// Extents that lie behind a cut must never be taken for a continuation, whatever epoch they have.
const EPOCHS_BEHIND_DAMAGE: u32 = 1000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{BasinId, StreamName};

    use super::*;
    use crate::shard::rig::config;

    fn stream(generation: u64, place: u64, name: &str) -> Stream {
        let id = StreamId(generation << 32 | place);
        Stream::new(id, BasinId(1), StreamName::try_from(name).expect("valid"), Arc::default(), 0)
    }

    fn replayer(rows: Vec<(u64, Stream)>) -> Replayer {
        let streams = rows.into_iter().map(|(index, stream)| (GroupId(1), index, stream)).collect();
        let row = GroupRow {
            id: GroupId(1),
            applied_index: 100,
            applied_term: 1,
            hard_state: HardState::default(),
            generation: 9,
            dropped: vec![],
            end_index: 200,
        };
        let loaded = Loaded {
            replay: first_extent(Geometry { segment_bytes: 8 << 20 }),
            durable_lsn: Lsn(0),
            groups: vec![row],
            streams,
            basins: vec![],
            basins_index: 0,
            last_basin_id: 1,
            tokens: vec![],
        };
        Replayer::new(&config(), Geometry { segment_bytes: 8 << 20 }, Some(loaded))
    }

    fn holder(replayer: &Replayer, name: &str) -> Option<u64> {
        let at = replayer.group(GroupId(1)).expect("ours");
        let id = replayer.groups[at].catalog.find(BasinId(1), &StreamName::try_from(name).expect("valid"))?;
        Some(id.0 >> 32)
    }

    #[test]
    fn of_two_rows_with_one_name_the_later_stream_is_there() {
        for rows in [
            [(100, stream(3, 5, "a")), (150, stream(7, 900, "a"))],
            [(150, stream(7, 2, "a")), (160, stream(3, 5, "a"))],
        ] {
            assert_eq!(holder(&replayer(rows.into()), "a"), Some(7));
        }
    }

    #[test]
    fn a_creation_whose_name_a_later_row_has_is_passed_over_with_all_that_follows() {
        let mut replayer = replayer(vec![(150, stream(7, 900, "a"))]);
        let at = replayer.group(GroupId(1)).expect("ours");
        let gone = stream(4, 5, "a");
        let create = ControlOp::CreateStream {
            id: gone.id,
            basin: gone.basin,
            name: gone.name.clone(),
            config: Arc::default(),
            cipher: None,
            created_ms: 0,
            request_key: None,
        };
        replayer.apply(at, 110, Lsn(1), Replay::Control(create));
        replayer.apply(at, 120, Lsn(2), Replay::Control(ControlOp::PurgeStream { id: gone.id }));
        assert_eq!((holder(&replayer, "a"), replayer.contradiction), (Some(7), None));
    }
}
