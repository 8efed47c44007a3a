//! Operations: what the entries of a group do to its state. The same on the way in and at recovery.

use std::sync::Arc;

use model::config::{BasinConfig, Cipher, ResolvedStreamConfig, RetentionPolicy, StreamConfig, TimestampingMode};
use model::{BasinId, BasinName, Command, Position, StreamId, StreamName, TokenId};

use crate::event::{BasinInfo, TokenChange};
use crate::log::codec::{Malformed, Reader, Writer};
use crate::stream::lease::{Held, get_held, put_held};
use crate::stream::token_codec::{get_token, put_token};

/// Records of one stream, as the frame that holds them tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOp {
    /// The stream.
    pub stream: StreamId,
    /// The first record.
    pub first: Position,
    /// The number behind the last record, with the last record's timestamp.
    pub end: Position,
    /// Metered size of the records.
    pub metered_bytes: u32,
    /// When it arrived, in seconds since the Unix epoch.
    pub arrived_s: u32,
    /// Where in its extent the frame is.
    pub offset: u32,
    /// Bytes of the frame, header included.
    pub frame_bytes: u32,
    /// Commands among the records, with their numbers.
    pub commands: Vec<(u64, Command)>,
}

/// Any other change of a group's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlOp {
    /// A stream is there.
    CreateStream {
        /// Its incarnation.
        id: StreamId,
        /// Its basin.
        basin: BasinId,
        /// Its name.
        name: StreamName,
        /// Its configuration.
        config: Arc<ResolvedStreamConfig>,
        /// Its cipher.
        cipher: Option<Cipher>,
        /// Milliseconds since the Unix epoch.
        created_ms: u64,
        /// Idempotency key of the request.
        request_key: Option<u64>,
    },
    /// It has another configuration.
    ConfigureStream {
        /// The stream.
        id: StreamId,
        /// Its configuration from now on.
        config: Arc<ResolvedStreamConfig>,
    },
    /// It is being deleted: the name stays taken, nothing else works.
    DeleteStream {
        /// The stream.
        id: StreamId,
        /// Milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// It is gone and the name is free.
    PurgeStream {
        /// The stream.
        id: StreamId,
    },
    /// Records below this number have expired.
    TrimStream {
        /// The stream.
        id: StreamId,
        /// The first number to keep.
        up_to: u64,
    },
    /// All streams of the basin are gone, and none may be created in it.
    DropBasin {
        /// The basin.
        basin: BasinId,
    },
    /// Its lease is given or renewed. Its token is the fencing token in force.
    PutLease {
        /// The stream.
        id: StreamId,
        /// Who holds it, and for how long.
        held: Held,
        /// How often it was given.
        generation: u64,
    },
    /// Metadata group: a basin is there, or has another configuration or state.
    PutBasin {
        /// As it is from now on.
        info: Arc<BasinInfo>,
        /// Idempotency key of the request that created it.
        request_key: Option<u64>,
    },
    /// Metadata group: a basin is gone and its name is free.
    PurgeBasin {
        /// Its name.
        name: BasinName,
    },
    /// Metadata group: an access token is there, or is gone.
    ChangeToken(TokenChange),
}

impl ControlOp {
    /// The stream it is about, if it is about one.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        match self {
            Self::CreateStream { id, .. }
            | Self::ConfigureStream { id, .. }
            | Self::DeleteStream { id, .. }
            | Self::PurgeStream { id }
            | Self::TrimStream { id, .. }
            | Self::PutLease { id, .. } => Some(*id),
            Self::DropBasin { .. } | Self::PutBasin { .. } | Self::PurgeBasin { .. } | Self::ChangeToken(_) => None,
        }
    }

    /// Its bytes in a control frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::CreateStream { id, basin, name, config, cipher, created_ms, request_key } => {
                w.u8(1).u64(id.0).u64(basin.0).bytes(name.as_str().as_bytes());
                put_stream_config(&mut w, &config.to_config());
                put_cipher(&mut w, *cipher);
                w.u64(*created_ms).option_u64(*request_key);
            }
            Self::ConfigureStream { id, config } => {
                w.u8(2).u64(id.0);
                put_stream_config(&mut w, &config.to_config());
            }
            Self::DeleteStream { id, at_ms } => {
                w.u8(3).u64(id.0).u64(*at_ms);
            }
            Self::PurgeStream { id } => {
                w.u8(4).u64(id.0);
            }
            Self::TrimStream { id, up_to } => {
                w.u8(5).u64(id.0).u64(*up_to);
            }
            Self::DropBasin { basin } => {
                w.u8(6).u64(basin.0);
            }
            Self::PutBasin { info, request_key } => {
                w.u8(7);
                put_basin(&mut w, info);
                w.option_u64(*request_key);
            }
            Self::PurgeBasin { name } => {
                w.u8(8).bytes(name.as_str().as_bytes());
            }
            Self::PutLease { id, held, generation } => {
                w.u8(9).u64(id.0);
                put_held(&mut w, held);
                w.u64(*generation);
            }
            Self::ChangeToken(TokenChange::Put(token)) => {
                w.u8(10);
                put_token(&mut w, token);
            }
            Self::ChangeToken(TokenChange::Removed(id)) => {
                w.u8(11).bytes(id.as_str().as_bytes());
            }
        }
        w.finish()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When the bytes are not what [`ControlOp::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let op = match r.u8()? {
            1 => Self::CreateStream {
                id: StreamId(r.u64()?),
                basin: BasinId(r.u64()?),
                name: StreamName::try_from(r.str()?).map_err(|_| Malformed)?,
                config: Arc::new(get_stream_config(&mut r)?.resolve(&StreamConfig::default())),
                cipher: get_cipher(&mut r)?,
                created_ms: r.u64()?,
                request_key: r.option_u64()?,
            },
            2 => Self::ConfigureStream {
                id: StreamId(r.u64()?),
                config: Arc::new(get_stream_config(&mut r)?.resolve(&StreamConfig::default())),
            },
            3 => Self::DeleteStream { id: StreamId(r.u64()?), at_ms: r.u64()? },
            4 => Self::PurgeStream { id: StreamId(r.u64()?) },
            5 => Self::TrimStream { id: StreamId(r.u64()?), up_to: r.u64()? },
            6 => Self::DropBasin { basin: BasinId(r.u64()?) },
            7 => Self::PutBasin { info: Arc::new(get_basin(&mut r)?), request_key: r.option_u64()? },
            8 => Self::PurgeBasin { name: BasinName::try_from(r.str()?).map_err(|_| Malformed)? },
            9 => Self::PutLease { id: StreamId(r.u64()?), held: get_held(&mut r)?, generation: r.u64()? },
            10 => Self::ChangeToken(TokenChange::Put(Arc::new(get_token(&mut r)?))),
            11 => Self::ChangeToken(TokenChange::Removed(TokenId::try_from(r.str()?).map_err(|_| Malformed)?)),
            _ => return Err(Malformed),
        };
        if r.is_empty() { Ok(op) } else { Err(Malformed) }
    }
}

/// Writes a configuration: a bit per field that is set, then all fields.
pub(crate) fn put_stream_config(w: &mut Writer, config: &StreamConfig) {
    let set = [
        config.storage_class.is_some(),
        config.retention.is_some(),
        config.timestamping_mode.is_some(),
        config.timestamping_uncapped.is_some(),
        config.delete_on_empty_min_age_secs.is_some(),
        config.retention == Some(RetentionPolicy::Infinite),
        config.timestamping_uncapped == Some(true),
    ];
    w.u8(set.iter().rev().fold(0, |bits, set| bits << 1 | u8::from(*set)));
    w.bytes(config.storage_class.as_deref().unwrap_or("").as_bytes());
    w.u64(match config.retention {
        Some(RetentionPolicy::AgeSecs(secs)) => secs,
        Some(RetentionPolicy::Infinite) | None => 0,
    });
    w.u8(match config.timestamping_mode {
        Some(TimestampingMode::ClientPrefer) | None => 0,
        Some(TimestampingMode::ClientRequire) => 1,
        Some(TimestampingMode::Arrival) => 2,
    });
    w.u64(config.delete_on_empty_min_age_secs.unwrap_or(0));
}

/// Reads what [`put_stream_config`] wrote.
pub(crate) fn get_stream_config(r: &mut Reader<'_>) -> Result<StreamConfig, Malformed> {
    let bits = r.u8()?;
    let set = |bit: u8| bits & (1 << bit) != 0;
    let class = r.str()?;
    let age_secs = r.u64()?;
    let mode = match r.u8()? {
        0 => TimestampingMode::ClientPrefer,
        1 => TimestampingMode::ClientRequire,
        2 => TimestampingMode::Arrival,
        _ => return Err(Malformed),
    };
    let min_age_secs = r.u64()?;
    let retention = if set(5) { RetentionPolicy::Infinite } else { RetentionPolicy::AgeSecs(age_secs) };
    Ok(StreamConfig {
        storage_class: set(0).then(|| class.into()),
        retention: set(1).then_some(retention),
        timestamping_mode: set(2).then_some(mode),
        timestamping_uncapped: set(3).then_some(set(6)),
        delete_on_empty_min_age_secs: set(4).then_some(min_age_secs),
    })
}

/// Writes a cipher as one byte.
pub(crate) fn put_cipher(w: &mut Writer, cipher: Option<Cipher>) {
    w.u8(match cipher {
        None => 0,
        Some(Cipher::Aegis256) => 1,
        Some(Cipher::Aes256Gcm) => 2,
    });
}

/// Reads what [`put_cipher`] wrote.
pub(crate) fn get_cipher(r: &mut Reader<'_>) -> Result<Option<Cipher>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Cipher::Aegis256)),
        2 => Ok(Some(Cipher::Aes256Gcm)),
        _ => Err(Malformed),
    }
}

/// Writes a basin.
pub(crate) fn put_basin(w: &mut Writer, info: &BasinInfo) {
    w.u64(info.id.0).bytes(info.name.as_str().as_bytes()).u64(info.created_at_ms).option_u64(info.deleted_at_ms);
    w.u8(u8::from(info.config.create_stream_on_append)).u8(u8::from(info.config.create_stream_on_read));
    put_cipher(w, info.config.stream_cipher);
    w.u8(u8::from(info.config.default_stream_config.is_some()));
    put_stream_config(w, info.config.default_stream_config.as_ref().unwrap_or(&StreamConfig::default()));
}

/// Reads what [`put_basin`] wrote.
pub(crate) fn get_basin(r: &mut Reader<'_>) -> Result<BasinInfo, Malformed> {
    let id = BasinId(r.u64()?);
    let name = BasinName::try_from(r.str()?).map_err(|_| Malformed)?;
    let created_at_ms = r.u64()?;
    let deleted_at_ms = r.option_u64()?;
    let create_stream_on_append = r.u8()? != 0;
    let create_stream_on_read = r.u8()? != 0;
    let stream_cipher = get_cipher(r)?;
    let has_default = r.u8()? != 0;
    let default = get_stream_config(r)?;
    let default_stream_config = has_default.then_some(default);
    let config = BasinConfig { default_stream_config, stream_cipher, create_stream_on_append, create_stream_on_read };
    Ok(BasinInfo { id, name, config, created_at_ms, deleted_at_ms })
}

#[cfg(test)]
mod tests {
    use model::token::ResourceSet;
    use model::{AccessToken, Scope, SecretHash};

    use super::*;

    fn samples() -> Vec<ControlOp> {
        let id = StreamId(7 << 32 | 3);
        let config = StreamConfig {
            storage_class: Some("native".into()),
            retention: Some(RetentionPolicy::Infinite),
            timestamping_mode: Some(TimestampingMode::Arrival),
            timestamping_uncapped: Some(true),
            delete_on_empty_min_age_secs: Some(9),
        };
        let resolved = Arc::new(config.resolve(&StreamConfig::default()));
        let plain = Arc::new(ResolvedStreamConfig::default());
        let info = BasinInfo {
            id: BasinId(5),
            name: BasinName::try_from("basin-name").expect("valid"),
            config: BasinConfig { default_stream_config: Some(config), ..BasinConfig::default() },
            created_at_ms: 1,
            deleted_at_ms: Some(2),
        };
        let bare = BasinInfo { config: BasinConfig::default(), deleted_at_ms: None, ..info.clone() };
        let name = StreamName::try_from("a/b").expect("valid");
        vec![
            ControlOp::CreateStream {
                id,
                basin: BasinId(5),
                name: name.clone(),
                config: resolved.clone(),
                cipher: Some(Cipher::Aes256Gcm),
                created_ms: 8,
                request_key: Some(1),
            },
            ControlOp::CreateStream {
                id,
                basin: BasinId(5),
                name,
                config: plain,
                cipher: None,
                created_ms: 8,
                request_key: None,
            },
            ControlOp::ConfigureStream { id, config: resolved },
            ControlOp::DeleteStream { id, at_ms: 3 },
            ControlOp::PurgeStream { id },
            ControlOp::TrimStream { id, up_to: 12 },
            ControlOp::PutLease {
                id,
                held: Held { holder: "a holder".try_into().expect("valid"), duration: 5000.try_into().expect("valid") },
                generation: 3,
            },
            ControlOp::DropBasin { basin: BasinId(5) },
            ControlOp::PutBasin { info: Arc::new(info), request_key: None },
            ControlOp::PutBasin { info: Arc::new(bare), request_key: Some(4) },
            ControlOp::PurgeBasin { name: BasinName::try_from("basin-name").expect("valid") },
            ControlOp::ChangeToken(TokenChange::Put(largest_token().into())),
            ControlOp::ChangeToken(TokenChange::Put(
                AccessToken { scope: Scope::all(), expires_at_ms: None, ..largest_token() }.into(),
            )),
            ControlOp::ChangeToken(TokenChange::Removed(largest_token().id)),
        ]
    }

    fn largest_token() -> AccessToken {
        let prefix = |bytes: usize| Some(ResourceSet::Prefix("x".repeat(bytes).into()));
        AccessToken {
            id: TokenId::try_from("i".repeat(96).as_str()).expect("valid"),
            secret: SecretHash([3; 32]),
            expires_at_ms: Some(1),
            auto_prefix_streams: true,
            scope: Scope { basins: prefix(48), streams: prefix(512), access_tokens: prefix(96), ..Scope::default() },
            expires_sub_ns: 7,
            created_at_ms: 2,
        }
    }

    #[test]
    fn the_largest_token_fits_what_is_set_aside_for_a_control_frame() {
        let bytes = ControlOp::ChangeToken(TokenChange::Put(largest_token().into())).encode().len();
        assert!(bytes <= crate::shard::CONTROL_BYTES_MAX - 2 * crate::log::frame::FRAME_HEADER_BYTES, "{bytes}");
    }

    #[test]
    fn every_operation_reads_back_and_no_cut_one_does() {
        for op in samples() {
            let bytes = op.encode();
            assert_eq!(ControlOp::decode(&bytes), Ok(op));
            for len in 0..bytes.len() {
                assert_eq!(ControlOp::decode(&bytes[..len]), Err(Malformed));
            }
        }
    }
}
