//! A shard that is asked and never writes: what recovery made of a disk, seen through the shard's own door. It is started as
//! any other; what it would write to its disk is lost.

use engine::event::{
    Effect, Effects, Event, Now, Op, Read, ReadLimits, ReadReply, ReadStart, Reply, ReplyTo, Request, Target,
};
use engine::shard::{LogImage, Recovered, RecoveryError, Shard, ShardConfig};

use crate::disk::Disk;

/// A recovered shard over an image.
#[derive(Debug)]
pub(crate) struct Scratch {
    shard: Shard,
    /// What recovery said.
    pub recovered: Recovered,
    now: Now,
    last_token: u64,
}

impl Scratch {
    /// Recovers what is on the disk.
    ///
    /// # Errors
    /// When the shard refuses.
    pub(crate) fn recover(config: ShardConfig, disk: &Disk, now: Now) -> Result<Self, RecoveryError> {
        let (mut shard, recovered) = Shard::recover(config, disk)?;
        shard.start(now, &mut Effects::default());
        Ok(Self { shard, recovered, now, last_token: 0 })
    }

    /// When it was started, on its monotonic clock.
    #[must_use]
    pub(crate) const fn started_us(&self) -> u64 {
        self.now.mono_us
    }

    /// Streams that exist.
    #[must_use]
    pub(crate) fn streams_count(&self) -> u64 {
        self.shard.stats().streams_count
    }

    /// Asks; `None` when the answer would wait for a write.
    pub(crate) fn ask(&mut self, disk: &Disk, op: Op) -> Option<Reply> {
        self.last_token += 1;
        let reply_to = ReplyTo { front: 0, token: self.last_token };
        let mut effects = Effects::default();
        let request = Request { reply_to, arrived_us: self.now.mono_us, op };
        self.shard.step(self.now, Event::Request(request), &mut effects);
        loop {
            let mut next = None;
            for effect in effects.drain() {
                match effect {
                    Effect::Reply { to, reply } if to == reply_to => return Some(reply),
                    Effect::ReadLog { id, segment, offset, len } => next = Some((id, segment, offset, len)),
                    Effect::Reply { .. }
                    | Effect::Publish(_)
                    | Effect::PublishToken(_)
                    | Effect::WriteExtent { .. }
                    | Effect::PrepareSegment { .. }
                    | Effect::Checkpoint(_)
                    | Effect::SetTimer { .. }
                    | Effect::SendShard { .. } => {}
                }
            }
            let (id, segment, offset, len) = next?;
            let offset = usize::try_from(offset).expect("segments fit memory");
            let bytes = disk.bytes(segment).get(offset..offset + len as usize);
            let result = bytes.map(bytes::Bytes::copy_from_slice).ok_or_else(|| "no such file".to_owned());
            self.shard.step(self.now, Event::LogRead { id, result }, &mut effects);
        }
    }

    /// Reads on from a number.
    pub(crate) fn read(&mut self, disk: &Disk, target: Target, from: u64) -> Option<Reply> {
        let limits = ReadLimits { batches: 4, ..ReadLimits::default() };
        let start = ReadStart::SeqNum(from);
        self.ask(disk, Op::Read(Read { target, create: None, start, clamp: false, may_follow: true, limits }))
    }
}

/// Whether a read has seen all there is.
#[must_use]
pub(crate) const fn is_at_end(reply: &ReadReply) -> bool {
    reply.next_seq_num >= reply.tail.seq_num
}
