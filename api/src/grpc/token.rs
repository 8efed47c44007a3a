//! Access tokens (s2-wire.md 5.2).

use std::sync::Arc;

use model::token::{OpGroups, Operation, Operations, ReadWrite, ResourceSet};
use model::{AccessToken, Scope, TokenId};

use super::{bad_name, invalid, v1alpha};
use crate::json::IssueAccessToken;
use crate::status::ApiError;
use v1alpha::resource_set::Matching;

/// What is asked for when a token is issued.
///
/// # Errors
/// 422 `invalid` when a name, number or time cannot be.
pub fn issue_access_token(info: v1alpha::AccessTokenInfo) -> Result<IssueAccessToken, ApiError> {
    let v1alpha::AccessTokenScope { basins, streams, access_tokens, op_groups, ops } = info.scope.unwrap_or_default();
    let mut operations = Operations::NONE;
    for number in ops {
        operations = operations.union(Operations::of(&[operation(number)?]));
    }
    let v1alpha::PermittedOperationGroups { account, basin, stream } = op_groups.unwrap_or_default();
    let group = |group: Option<v1alpha::ReadWritePermissions>| {
        let v1alpha::ReadWritePermissions { read, write } = group.unwrap_or_default();
        ReadWrite { read, write }
    };
    Ok(IssueAccessToken {
        id: TokenId::try_from(info.id.as_str()).map_err(bad_name)?,
        expires_at_ms: info.expires_at.map(|secs| u64::from(secs) * 1000),
        expires_sub_ns: 0,
        auto_prefix_streams: info.auto_prefix_streams,
        scope: Scope {
            basins: set(basins).map(ResourceSet::of_basins).transpose().map_err(bad_name)?,
            streams: set(streams).map(ResourceSet::of_streams).transpose().map_err(bad_name)?,
            access_tokens: set(access_tokens).map(ResourceSet::of_tokens).transpose().map_err(bad_name)?,
            op_groups: OpGroups { account: group(account), basin: group(basin), stream: group(stream) },
            ops: operations,
        },
    })
}

/// A token as clients see it. One that never expires is shown as expiring at the end of the 32 bits, in 2106: released
/// clients stop where there is no expiry. Operations that the package does not know are left out.
#[must_use]
pub fn access_token_info(token: &AccessToken) -> v1alpha::AccessTokenInfo {
    let Scope { basins, streams, access_tokens, op_groups, ops } = &token.scope;
    let group = |ReadWrite { read, write }| Some(v1alpha::ReadWritePermissions { read, write });
    v1alpha::AccessTokenInfo {
        id: token.id.as_str().to_owned(),
        expires_at: Some(token.expires_at_ms.map_or(u32::MAX, seconds)),
        auto_prefix_streams: token.auto_prefix_streams,
        scope: Some(v1alpha::AccessTokenScope {
            basins: shown_set(basins.as_ref()),
            streams: shown_set(streams.as_ref()),
            access_tokens: shown_set(access_tokens.as_ref()),
            op_groups: Some(v1alpha::PermittedOperationGroups {
                account: group(op_groups.account),
                basin: group(op_groups.basin),
                stream: group(op_groups.stream),
            }),
            ops: ops.iter().map(|op| op as i32).filter(|op| v1alpha::Operation::try_from(*op).is_ok()).collect(),
        }),
    }
}

/// Milliseconds since the Unix epoch as seconds; what lies beyond 2106 is shown as that.
#[must_use]
pub fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

/// The package's numbers are the model's.
fn operation(number: i32) -> Result<Operation, ApiError> {
    let known = v1alpha::Operation::try_from(number).is_ok();
    let found = Operation::ALL.into_iter().find(|op| *op as i32 == number);
    found.filter(|_| known).ok_or_else(|| invalid(format!("unknown operation {number} in scope.ops")))
}

fn set(set: Option<v1alpha::ResourceSet>) -> Option<ResourceSet> {
    match set?.matching? {
        Matching::Exact(name) => Some(ResourceSet::Exact(Arc::from(name))),
        Matching::Prefix(prefix) => Some(ResourceSet::Prefix(Arc::from(prefix))),
    }
}

fn shown_set(set: Option<&ResourceSet>) -> Option<v1alpha::ResourceSet> {
    let matching = match set? {
        ResourceSet::Exact(name) => Matching::Exact(name.to_string()),
        ResourceSet::Prefix(prefix) => Matching::Prefix(prefix.to_string()),
    };
    Some(v1alpha::ResourceSet { matching: Some(matching) })
}

#[cfg(test)]
mod tests {
    use model::SecretHash;
    use proptest::prelude::*;

    use super::*;

    fn issued(issue: IssueAccessToken) -> AccessToken {
        AccessToken {
            id: issue.id,
            secret: SecretHash([0; 32]),
            expires_at_ms: issue.expires_at_ms,
            expires_sub_ns: issue.expires_sub_ns,
            auto_prefix_streams: issue.auto_prefix_streams,
            scope: issue.scope,
            created_at_ms: 0,
        }
    }

    proptest! {
        #[test]
        fn a_token_is_shown_as_it_was_asked_for(
            expires_at in any::<Option<u32>>(), auto_prefix_streams in any::<bool>(), read in any::<bool>(),
            mut ops in prop::collection::vec(1..=21i32, 0..5),
        ) {
            ops.sort_unstable();
            ops.dedup();
            let set = |matching| Some(v1alpha::ResourceSet { matching: Some(matching) });
            let group = Some(v1alpha::ReadWritePermissions { read, write: !read });
            let info = v1alpha::AccessTokenInfo {
                id: "app".into(),
                expires_at,
                auto_prefix_streams,
                scope: Some(v1alpha::AccessTokenScope {
                    basins: set(Matching::Exact("my-basin".into())),
                    streams: set(Matching::Prefix("a/".into())),
                    access_tokens: None,
                    op_groups: Some(v1alpha::PermittedOperationGroups { account: group, basin: group, stream: group }),
                    ops,
                }),
            };
            let shown = access_token_info(&issued(issue_access_token(info.clone()).expect("valid")));
            prop_assert_eq!(shown, v1alpha::AccessTokenInfo { expires_at: Some(expires_at.unwrap_or(u32::MAX)), ..info });
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_cannot_be_said_is_left_out() {
        let with = |ops| v1alpha::AccessTokenInfo {
            id: "app".into(),
            scope: Some(v1alpha::AccessTokenScope { ops, ..Default::default() }),
            ..Default::default()
        };
        for ops in [vec![0], vec![22], vec![-1]] {
            assert!(issue_access_token(with(ops.clone())).is_err(), "{ops:?}");
        }
        assert!(issue_access_token(v1alpha::AccessTokenInfo::default()).is_err(), "an id is needed");
        let mut issue = issue_access_token(with(vec![1])).expect("valid");
        issue.scope.ops = issue.scope.ops.union(Operations::of(&[Operation::ListLocations]));
        assert_eq!(access_token_info(&issued(issue)).scope.expect("set").ops, [1]);
    }

    #[test]
    fn the_package_knows_operations_by_the_numbers_of_the_model() {
        for number in 1..=21 {
            let here = v1alpha::Operation::try_from(number).expect("known").as_str_name();
            let there = operation(number).expect("known").as_str().replace('-', "_").to_uppercase();
            assert_eq!(here, format!("OPERATION_{there}"));
        }
    }
}
