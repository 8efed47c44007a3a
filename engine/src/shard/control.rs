//! Streams and basins: create, ensure, reconfigure, delete, and the deletion of what is in a basin (s2-wire.md 1.8, 4.9).

use std::sync::Arc;

use model::config::{BasinConfig, BasinReconfiguration, ResolvedStreamConfig, StreamConfig, StreamReconfiguration};
use model::{BasinId, BasinName, Failure, GroupId, Rejected, ShardId};

use crate::event::{
    BasinInfo, Effect, Effects, Now, Provision, Reply, ReplyTo, ShardMessage, StreamInfo, StreamSpec, Target,
};
use crate::metadata::Basin;
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::shard::append::{Place, Refusal, deleting, not_found};
use crate::shard::state::now_s;
use crate::shard::timer::Chore;
use crate::stream::op::ControlOp;
use crate::stream::state::Life;

impl Shard {
    pub(crate) fn create_stream(
        &mut self,
        now: Now,
        to: ReplyTo,
        target: &Target,
        spec: StreamSpec,
        request_key: Option<u64>,
        effects: &mut Effects,
    ) {
        let existing = match self.live_place(target) {
            Ok(existing) => existing,
            Err(refusal) => return self.fail(to, refusal, effects),
        };
        let Some(place) = existing else {
            if let Err(refusal) = self.stage_create(now, target, spec, request_key, Some(to)) {
                self.fail(to, refusal, effects);
            }
            return;
        };
        let stream = self.stream(place);
        let reply = if request_key.is_some() && stream.request_key == request_key {
            Reply::Stream(stream.info(), Provision::Noop)
        } else {
            Reply::Failed(Rejected::StreamExists(target.basin.clone(), target.stream.clone()).into())
        };
        let ticket = if Mutation::CreateRepeatedEarly.is_on() { 0 } else { stream.touched };
        self.reply_after(ticket, to, reply, effects);
    }

    pub(crate) fn ensure_stream(
        &mut self,
        now: Now,
        to: ReplyTo,
        target: &Target,
        spec: StreamSpec,
        effects: &mut Effects,
    ) {
        match self.live_place(target) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(None) => {
                if let Err(refusal) = self.stage_create(now, target, spec, None, Some(to)) {
                    self.fail(to, refusal, effects);
                }
            }
            Ok(Some(place)) => {
                let stream = self.stream(place);
                let (info, ticket) = (stream.info(), stream.touched);
                if stream.config == spec.config {
                    self.reply_after(ticket, to, Reply::Stream(info, Provision::Noop), effects);
                } else {
                    self.stage_configure(place, spec.config, Some((to, Reply::Stream(info, Provision::Updated))));
                }
            }
        }
    }

    pub(crate) fn reconfigure_stream(
        &mut self,
        to: ReplyTo,
        target: &Target,
        change: StreamReconfiguration,
        defaults: &StreamConfig,
        effects: &mut Effects,
    ) {
        match self.existing_place(target) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(place) => {
                let mut config = self.stream(place).config.to_config();
                change.apply(&mut config);
                let config = Arc::new(config.resolve(defaults));
                self.stage_configure(place, Arc::clone(&config), Some((to, Reply::StreamConfig(config))));
            }
        }
    }

    fn stage_configure(
        &mut self,
        (group, id): Place,
        config: Arc<ResolvedStreamConfig>,
        reply: Option<(ReplyTo, Reply)>,
    ) {
        let ticket = self.stage.ticket;
        // New appends follow it at once.
        self.state.groups[group].configure(id, &config);
        self.state.groups[group].catalog.get_mut(id).expect("just found").touched = ticket;
        self.stage_control(group, ControlOp::ConfigureStream { id, config }, reply);
    }

    pub(crate) fn get_stream_config(&mut self, to: ReplyTo, target: &Target, effects: &mut Effects) {
        match self.existing_place(target) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(place) => {
                let stream = self.stream(place);
                let (config, ticket) = (Arc::clone(&stream.config), stream.touched);
                let ticket = if Mutation::ConfigToldEarly.is_on() { 0 } else { ticket };
                self.reply_after(ticket, to, Reply::StreamConfig(config), effects);
            }
        }
    }

    pub(crate) fn delete_stream(&mut self, now: Now, to: ReplyTo, target: &Target, effects: &mut Effects) {
        let place = match self.find(target) {
            Ok(Some(place)) => place,
            Ok(None) => return self.fail(to, (not_found(target), 0), effects),
            Err(refusal) => return self.fail(to, refusal, effects),
        };
        let stream = self.stream(place);
        match stream.life {
            Life::Creating | Life::Active => self.stage_delete(now, place, Some((to, Reply::Done))),
            Life::DeletingSoon | Life::DeletingUnseen | Life::Deleting => {
                let ticket = if Mutation::DeleteRepeatedEarly.is_on() { 0 } else { stream.touched };
                self.reply_after(ticket, to, Reply::Done, effects)
            }
        }
    }

    pub(crate) fn stage_delete(&mut self, now: Now, (group, id): Place, reply: Option<(ReplyTo, Reply)>) {
        let ticket = self.stage.ticket;
        let catalog = &mut self.state.groups[group].catalog;
        let stream = catalog.get_mut(id).expect("just found");
        stream.delete_soon(ticket);
        catalog.set_deadline(id, 0);
        self.stage_control(group, ControlOp::DeleteStream { id, at_ms: now.wall_ms }, reply);
    }

    /// The stream if there is one; being deleted is a refusal.
    fn live_place(&self, target: &Target) -> Result<Option<Place>, Refusal> {
        let Some(place) = self.find(target)? else { return Ok(None) };
        let stream = self.stream(place);
        match stream.life {
            Life::Creating | Life::Active => Ok(Some(place)),
            Life::DeletingSoon | Life::DeletingUnseen | Life::Deleting => Err((deleting(target), stream.touched)),
        }
    }

    pub(crate) fn existing_place(&self, target: &Target) -> Result<Place, Refusal> {
        self.live_place(target)?.ok_or_else(|| (not_found(target), 0))
    }

    /// The basin if there is one; being deleted is a refusal.
    fn live_basin(&self, name: &BasinName) -> Result<Option<&Basin>, Refusal> {
        if self.is_draining {
            return Err((model::Unavailable::Draining.into(), 0));
        }
        match self.state.metadata.get(name) {
            Some(basin) if basin.info.deleted_at_ms.is_some() => {
                Err((Rejected::BasinDeleting(name.clone()).into(), basin.touched))
            }
            other => Ok(other),
        }
    }

    pub(crate) fn create_basin(
        &mut self,
        now: Now,
        to: ReplyTo,
        name: BasinName,
        config: BasinConfig,
        request_key: Option<u64>,
        effects: &mut Effects,
    ) {
        match self.live_basin(&name) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(None) => {
                let info = self.new_basin(now, name, config);
                self.stage_basin(info, request_key, to, Provision::Created);
            }
            Ok(Some(basin)) => {
                let reply = if request_key.is_some() && basin.request_key == request_key {
                    Reply::Basin(BasinInfo::clone(&basin.info), Provision::Noop)
                } else {
                    Reply::Failed(Failure::Rejected(Rejected::BasinExists(name)))
                };
                self.reply_after(basin.touched, to, reply, effects);
            }
        }
    }

    pub(crate) fn ensure_basin(
        &mut self,
        now: Now,
        to: ReplyTo,
        name: BasinName,
        config: BasinConfig,
        effects: &mut Effects,
    ) {
        match self.live_basin(&name) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(None) => {
                let info = self.new_basin(now, name, config);
                self.stage_basin(info, None, to, Provision::Created);
            }
            Ok(Some(basin)) if basin.info.config == config => {
                let reply = Reply::Basin(BasinInfo::clone(&basin.info), Provision::Noop);
                self.reply_after(basin.touched, to, reply, effects);
            }
            Ok(Some(basin)) => {
                let (info, key) = (BasinInfo { config, ..BasinInfo::clone(&basin.info) }, basin.request_key);
                self.stage_basin(info, key, to, Provision::Updated);
            }
        }
    }

    pub(crate) fn reconfigure_basin(
        &mut self,
        to: ReplyTo,
        name: &BasinName,
        change: BasinReconfiguration,
        effects: &mut Effects,
    ) {
        match self.live_basin(name) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(None) => self.fail(to, (Rejected::BasinNotFound(name.clone()).into(), 0), effects),
            Ok(Some(basin)) => {
                let (mut info, key) = (BasinInfo::clone(&basin.info), basin.request_key);
                change.apply(&mut info.config);
                self.stage_basin(info, key, to, Provision::Updated);
            }
        }
    }

    pub(crate) fn delete_basin(&mut self, now: Now, to: ReplyTo, name: &BasinName, effects: &mut Effects) {
        match self.live_basin(name) {
            // Deleting it again is as good as deleting it.
            Err((Failure::Rejected(_), ticket)) => self.reply_after(ticket, to, Reply::Done, effects),
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(None) => self.fail(to, (Rejected::BasinNotFound(name.clone()).into(), 0), effects),
            Ok(Some(basin)) => {
                let info = BasinInfo { deleted_at_ms: Some(now.wall_ms), ..BasinInfo::clone(&basin.info) };
                let drop_at_s = now_s(now).saturating_add(DROP_DELAY_S);
                let basin = Basin { info: Arc::new(info), drop_at_s, ..basin.clone() };
                self.stage_put_basin(basin, Some((to, Reply::Done)));
            }
        }
    }

    fn new_basin(&mut self, now: Now, name: BasinName, config: BasinConfig) -> BasinInfo {
        BasinInfo { id: self.state.metadata.allocate(), name, config, created_at_ms: now.wall_ms, deleted_at_ms: None }
    }

    fn stage_basin(&mut self, info: BasinInfo, request_key: Option<u64>, to: ReplyTo, provision: Provision) {
        let reply = Reply::Basin(info.clone(), provision);
        self.stage_put_basin(Basin::new(Arc::new(info), request_key), Some((to, reply)));
    }

    fn stage_put_basin(&mut self, basin: Basin, reply: Option<(ReplyTo, Reply)>) {
        let op = ControlOp::PutBasin { info: Arc::clone(&basin.info), request_key: basin.request_key };
        // A checkpoint that is made meanwhile must not forget it.
        let committed = self.state.metadata.get(&basin.info.name).and_then(|before| before.committed.clone());
        let committed = committed.filter(|_| !Mutation::ChangedBasinForgotten.is_on());
        self.state.metadata.put(Basin { touched: self.stage.ticket, committed, ..basin });
        self.stage_control(METADATA, op, reply);
    }

    /// Shard 0: tells all shards to drop the streams of basins whose deletion is durable and has been seen.
    pub(crate) fn drop_basins(&mut self, now: Now, effects: &mut Effects) {
        if self.config.shard != ShardId(0) {
            return;
        }
        for basin in self.state.metadata.to_drop(now_s(now)) {
            let shards = (0..self.config.placement.shards_count).map(ShardId);
            self.state.metadata.dropping(basin, shards.clone());
            for to in shards {
                effects.push(Effect::SendShard { to, message: ShardMessage::DropBasin(basin) });
            }
        }
    }

    pub(crate) fn shard_message(&mut self, now: Now, message: ShardMessage, effects: &mut Effects) {
        match message {
            ShardMessage::DropBasin(basin) => {
                let groups = self.state.groups.iter().enumerate().filter(|(_, g)| g.id != GroupId::METADATA);
                self.chores.extend(groups.map(|(group, _)| Chore::DropBasin(group, basin)));
            }
            ShardMessage::BasinDropped(basin, shard) => {
                if let Some(name) = self.state.metadata.dropped(basin, shard) {
                    self.chores.push_back(Chore::PurgeBasin(name));
                }
            }
        }
        self.do_chores(now, effects);
    }

    /// One group of this shard has dropped a basin; when all have, shard 0 is told.
    pub(crate) fn dropped_in_one_group(&self, basin: BasinId, effects: &mut Effects) {
        let mut data_groups = self.state.groups.iter().filter(|g| g.id != GroupId::METADATA);
        if data_groups.all(|g| g.catalog.is_dropped(basin)) {
            let message = ShardMessage::BasinDropped(basin, self.config.shard);
            effects.push(Effect::SendShard { to: ShardId(0), message });
        }
    }
}

/// One page out of the pages of several groups.
pub(crate) fn merge_lists(lists: impl Iterator<Item = (Vec<StreamInfo>, bool)>, limit: usize) -> Reply {
    let mut page = Vec::new();
    let mut has_more = false;
    for (part, more) in lists {
        page.extend(part);
        has_more |= more;
    }
    page.sort_by(|a: &StreamInfo, b| a.name.cmp(&b.name));
    has_more |= page.len() > limit;
    page.truncate(limit);
    Reply::Streams(page, has_more)
}

/// The position of the metadata group on shard 0: it has the lowest number.
const METADATA: usize = 0;
/// How long a deleted basin keeps its streams, so that its deletion can be seen.
const DROP_DELAY_S: u32 = 1;
