//! An access token's bytes in control frames and checkpoints (docs/format.md).

use std::sync::Arc;

use model::token::{OpGroups, Operations, ResourceSet};
use model::{AccessToken, Scope, SecretHash, TokenId};

use crate::log::codec::{Malformed, Reader, Writer};

/// Writes a token.
pub(crate) fn put_token(w: &mut Writer, token: &AccessToken) {
    w.bytes(token.id.as_str().as_bytes()).raw(&token.secret.0).option_u64(token.expires_at_ms);
    w.u32(token.expires_sub_ns).u64(token.created_at_ms);
    w.u8(u8::from(token.auto_prefix_streams)).u8(token.scope.op_groups.bits()).u32(token.scope.ops.bits());
    for set in [&token.scope.basins, &token.scope.streams, &token.scope.access_tokens] {
        let (kind, name) = match set {
            None => (0, ""),
            Some(ResourceSet::Exact(name)) => (1, &**name),
            Some(ResourceSet::Prefix(prefix)) => (2, &**prefix),
        };
        w.u8(kind).bytes(name.as_bytes());
    }
}

/// Reads what [`put_token`] wrote.
pub(crate) fn get_token(r: &mut Reader<'_>) -> Result<AccessToken, Malformed> {
    let id = TokenId::try_from(r.str()?).map_err(|_| Malformed)?;
    let secret = SecretHash(r.take(32)?.try_into().map_err(|_| Malformed)?);
    let (expires_at_ms, expires_sub_ns, created_at_ms) = (r.option_u64()?, r.u32()?, r.u64()?);
    let auto_prefix_streams = r.u8()? != 0;
    let op_groups = OpGroups::from_bits(r.u8()?).ok_or(Malformed)?;
    let ops = Operations::from_bits(r.u32()?).ok_or(Malformed)?;
    let (basins, streams, access_tokens) = (get_set(r)?, get_set(r)?, get_set(r)?);
    let scope = Scope { basins, streams, access_tokens, op_groups, ops };
    Ok(AccessToken { id, secret, expires_at_ms, expires_sub_ns, auto_prefix_streams, scope, created_at_ms })
}

fn get_set(r: &mut Reader<'_>) -> Result<Option<ResourceSet>, Malformed> {
    let kind = r.u8()?;
    let name: Arc<str> = r.str()?.into();
    match kind {
        0 => Ok(None),
        1 => Ok(Some(ResourceSet::Exact(name))),
        2 => Ok(Some(ResourceSet::Prefix(name))),
        _ => Err(Malformed),
    }
}
