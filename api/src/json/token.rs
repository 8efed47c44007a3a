//! Access tokens in JSON: what is asked for, and what a listing shows (s2-wire.md 1.13).

use std::sync::Arc;

use model::token::{OpGroups, Operation, Operations, ReadWrite, ResourceSet};
use model::{AccessToken, InvalidName, Scope, TokenId};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::bad_json;
use super::object::Object;
use super::resource::list;
use super::text::Json;
use super::time::{parse_rfc3339, rfc3339_ns};
use crate::schema::{self, boolean, list_of, nullable, object, text, time};
use crate::status::{ApiError, Code};

/// POST `/access-tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueAccessToken {
    /// Its id.
    pub id: TokenId,
    /// In milliseconds since the Unix epoch; as long as its issuer when absent.
    pub expires_at_ms: Option<u64>,
    /// Nanoseconds below those milliseconds.
    pub expires_sub_ns: u32,
    /// Whether stream names get the prefix of the scope.
    pub auto_prefix_streams: bool,
    /// What it may do. Not yet compared with what its issuer may.
    pub scope: Scope,
}

/// Decodes POST `/access-tokens`.
///
/// # Errors
/// 400 `bad_json` when it is not one, or has a name, time or operation that cannot be.
pub fn parse_issue_access_token(body: &[u8]) -> Result<IssueAccessToken, ApiError> {
    let Object(request): Object<IssueJson> = serde_json::from_slice(body).map_err(bad_json)?;
    let Object(scope) = request.scope;
    let bad = |why: String| ApiError::new(Code::BadJson, why);
    let bad_name = |error: InvalidName| ApiError::new(Code::BadJson, error.0);
    let expires_at = match request.expires_at {
        None => None,
        Some(text) => Some(parse_rfc3339(&text).ok_or_else(|| {
            bad("expires_at must be a time as RFC 3339 writes it, such as 2030-01-31T12:00:00Z".to_owned())
        })?),
    };
    let mut ops = Operations::NONE;
    for name in scope.ops.unwrap_or_default() {
        let op = Operation::parse(&name).ok_or_else(|| bad(format!("unknown operation `{name}` in scope.ops")))?;
        ops = ops.union(Operations::of(&[op]));
    }
    let Object(groups) = scope.op_groups.unwrap_or_default();
    let group = |json: Option<Object<ReadWriteJson>>| {
        let Object(ReadWriteJson { read, write }) = json.unwrap_or_default();
        ReadWrite { read: read.unwrap_or(false), write: write.unwrap_or(false) }
    };
    let set = |json: Option<SetJson>| json.map(ResourceSet::from);
    Ok(IssueAccessToken {
        id: TokenId::try_from(request.id.as_str()).map_err(bad_name)?,
        expires_at_ms: expires_at.map(|(ms, _)| ms),
        expires_sub_ns: expires_at.map_or(0, |(_, sub_ns)| sub_ns),
        auto_prefix_streams: request.auto_prefix_streams.unwrap_or(false),
        scope: Scope {
            basins: set(scope.basins).map(ResourceSet::of_basins).transpose().map_err(bad_name)?,
            streams: set(scope.streams).map(ResourceSet::of_streams).transpose().map_err(bad_name)?,
            access_tokens: set(scope.access_tokens).map(ResourceSet::of_tokens).transpose().map_err(bad_name)?,
            op_groups: OpGroups {
                account: group(groups.account),
                basin: group(groups.basin),
                stream: group(groups.stream),
            },
            ops,
        },
    })
}

/// An access token to be issued.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "IssueAccessTokenRequest")]
pub(super) struct IssueJson {
    #[schemars(schema_with = "schema::token_id_field")]
    id: String,
    #[schemars(schema_with = "schema::expires_at_field", default)]
    expires_at: Option<String>,
    /// Whether the names of streams that its bearer gives get the prefix of the scope's streams. Needs such a prefix.
    auto_prefix_streams: Option<bool>,
    scope: Object<ScopeJson>,
}

/// What a token may do, and to what. It must permit some operation, and no more than the token that issues it.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AccessTokenScopeInput")]
struct ScopeJson {
    /// Null or absent: none.
    basins: Option<SetJson>,
    /// Null or absent: none.
    streams: Option<SetJson>,
    /// Null or absent: none.
    access_tokens: Option<SetJson>,
    op_groups: Option<Object<GroupsJson>>,
    #[schemars(schema_with = "schema::operations_field", default)]
    ops: Option<Vec<String>>,
}

/// Names that a token may use.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ResourceSet")]
#[serde(rename_all = "snake_case")]
enum SetJson {
    /// This name; the empty one stands for none.
    Exact(String),
    /// All names that begin so; the empty one stands for all.
    Prefix(String),
}

impl From<SetJson> for ResourceSet {
    fn from(json: SetJson) -> Self {
        match json {
            SetJson::Exact(name) => Self::Exact(Arc::from(name)),
            SetJson::Prefix(prefix) => Self::Prefix(Arc::from(prefix)),
        }
    }
}

/// Operations by what they are on.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "OperationGroupsInput")]
struct GroupsJson {
    account: Option<Object<ReadWriteJson>>,
    basin: Option<Object<ReadWriteJson>>,
    stream: Option<Object<ReadWriteJson>>,
}

/// Operations of a group: those that read and those that write. Null or absent: no.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "ReadWriteInput")]
struct ReadWriteJson {
    read: Option<bool>,
    write: Option<bool>,
}

/// `{"access_token":…}`, the one time that a secret is shown.
#[must_use]
pub fn issued_access_token(secret: &str) -> String {
    let mut json = Json::new();
    json.raw(r#"{"access_token":"#).string(secret).raw("}");
    json.into_string()
}

/// `{"access_tokens":[…],"has_more":…}`
#[must_use]
pub fn access_token_list(tokens: &[Arc<AccessToken>], has_more: bool) -> String {
    list("access_tokens", tokens, |json, token| put_token(json, token), has_more)
}

/// The schemas of what is shown.
pub(super) fn answer_schemas() -> [(&'static str, Value); 3] {
    let set = |about: &str| {
        let mut set = nullable(schema::reference("ResourceSet"));
        set["description"] = about.into();
        set
    };
    let group = object(
        "Operations of a group.",
        [("read", boolean("Those that read.")), ("write", boolean("Those that write."))],
    );
    let groups = object(
        "Operations by what they are on.",
        [("account", group.clone()), ("basin", group.clone()), ("stream", group)],
    );
    let scope = object(
        "What a token may do, and to what.",
        [
            ("basins", set("Basins it may use; null: none.")),
            ("streams", set("Streams it may use, by their whole names; null: none.")),
            ("access_tokens", set("Access tokens it may use; null: none.")),
            ("op_groups", groups),
            ("ops", list_of("Operations beside those of the groups.", schema::operation())),
        ],
    );
    let token = object(
        "An access token, without its secret.",
        [
            ("id", schema::token_id()),
            ("expires_at", nullable(time("When it ends; null: never."))),
            ("auto_prefix_streams", boolean("Whether the names of streams get the prefix of the scope's streams.")),
            ("scope", scope),
        ],
    );
    let issued = object(
        "The one time that the secret is shown.",
        [("access_token", text("What its bearer sends as `Authorization: Bearer …`."))],
    );
    [
        ("AccessTokenInfo", token),
        ("IssueAccessTokenResponse", issued),
        ("ListAccessTokensResponse", schema::page("access_tokens", "AccessTokenInfo")),
    ]
}

fn put_token(json: &mut Json, token: &AccessToken) {
    json.raw(r#"{"id":"#).string(token.id.as_str());
    json.raw(r#","expires_at":"#)
        .optional(token.expires_at_ms.map(|ms| rfc3339_ns(ms, token.expires_sub_ns)).as_deref());
    json.raw(r#","auto_prefix_streams":"#).boolean(token.auto_prefix_streams);
    json.raw(r#","scope":{"#);
    let Scope { basins, streams, access_tokens, op_groups, ops } = &token.scope;
    for (key, set) in [("basins", basins), ("streams", streams), ("access_tokens", access_tokens)] {
        json.string(key).raw(":");
        match set {
            None => json.raw("null"),
            Some(ResourceSet::Exact(name)) => json.raw(r#"{"exact":"#).string(name).raw("}"),
            Some(ResourceSet::Prefix(prefix)) => json.raw(r#"{"prefix":"#).string(prefix).raw("}"),
        };
        json.raw(",");
    }
    json.raw(r#""op_groups":{"#);
    let mut separator = "";
    for (key, group) in [("account", op_groups.account), ("basin", op_groups.basin), ("stream", op_groups.stream)] {
        json.raw(separator).string(key).raw(r#":{"read":"#).boolean(group.read);
        json.raw(r#","write":"#).boolean(group.write).raw("}");
        separator = ",";
    }
    json.raw(r#"},"ops":["#);
    let mut separator = "";
    for op in ops.iter() {
        json.raw(separator).string(op.as_str());
        separator = ",";
    }
    json.raw("]}}");
}

#[cfg(test)]
mod tests {
    use model::SecretHash;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_what_it_says_and_a_listing_says_it_again() {
        let body = br#"{"id":"app","expires_at":"2030-01-31T12:00:00.5Z","auto_prefix_streams":true,"x":1,"scope":{
            "basins":{"exact":"my-basin"},"streams":{"prefix":"a/"},"access_tokens":null,
            "op_groups":{"account":null,"stream":{"read":true}},"ops":["trim","list-basins"]}}"#;
        let issue = parse_issue_access_token(body).expect("valid");
        assert_eq!((issue.id.as_str(), issue.expires_at_ms), ("app", Some(1_896_091_200_500)));
        let token = AccessToken {
            id: issue.id,
            secret: SecretHash([0xab; 32]),
            expires_at_ms: issue.expires_at_ms,
            auto_prefix_streams: issue.auto_prefix_streams,
            scope: issue.scope,
            expires_sub_ns: 0,
            created_at_ms: 0,
        };
        let shown = concat!(
            r#"{"access_tokens":[{"id":"app","expires_at":"2030-01-31T12:00:00.500Z","auto_prefix_streams":true,"#,
            r#""scope":{"basins":{"exact":"my-basin"},"streams":{"prefix":"a/"},"access_tokens":null,"#,
            r#""op_groups":{"account":{"read":false,"write":false},"basin":{"read":false,"write":false},"#,
            r#""stream":{"read":true,"write":false}},"ops":["list-basins","trim"]}}],"has_more":true}"#
        );
        assert_eq!(access_token_list(&[token.into()], true), shown);
        assert_eq!(issued_access_token("mr_x"), r#"{"access_token":"mr_x"}"#);
        let least = parse_issue_access_token(br#"{"id":"a","scope":{}}"#).expect("valid");
        assert_eq!((least.scope, least.expires_at_ms, least.auto_prefix_streams), (Scope::default(), None, false));
    }

    #[test]
    fn what_is_wrong_is_bad_json_and_says_what() {
        for (body, text) in [
            ("", "EOF"),
            ("{}", "missing field `id`"),
            (r#"{"id":"a"}"#, "missing field `scope`"),
            (r#"{"id":"","scope":{}}"#, "must not be empty"),
            (r#"{"id":"..","scope":{}}"#, "must not be"),
            (r#"{"id":"a\u0000","scope":{}}"#, "NUL"),
            (r#"{"id":"a","scope":{},"expires_at":"soon"}"#, "RFC 3339"),
            (r#"{"id":"a","scope":{"ops":["fly"]}}"#, "unknown operation `fly`"),
            (r#"{"id":"a","scope":{"basins":{"exact":"No"}}}"#, "basin name"),
            (r#"{"id":"a","scope":{"basins":{"suffix":"a"}}}"#, "unknown variant"),
        ] {
            let error = parse_issue_access_token(body.as_bytes()).expect_err(body);
            assert_eq!(error.code(), Some(Code::BadJson), "{body}");
            assert!(error.body_json().contains(text), "{} should say {text}", error.body_json());
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..100), time in "[0-9TZ:+. -]{0,30}") {
            let _ = parse_issue_access_token(&body);
            let body = format!(r#"{{"id":"a","scope":{{}},"expires_at":"{time}"}}"#);
            let _ = parse_issue_access_token(body.as_bytes());
        }
    }
}
