//! Operations of the control plane and of the server itself: what they mean and how they answer.

use api::Code::{
    AccessTokenNotFound, BadPath, BasinDeletionPending, BasinNotFound, HotServer, Invalid, Other, QuotaExhausted,
    ResourceAlreadyExists, StreamDeletionPending, StreamNotFound,
};
use api::query::ListQuery;
use api::schema::{Parameter, list_of, reference};
use api::usage::{AccountSet, BasinSet, StreamSet, UsageQuery};
use http::Method;
use model::limits::REQUEST_TOKEN_BYTES_MAX;
use serde_json::{Value, json};

use super::parts::{BASINS, HEALTH, LOCATIONS, METRICS, Operation, STREAMS, TOKENS};

pub(super) fn health() -> Operation {
    let plain =
        |about: &str| json!({ "description": about, "content": { "text/plain": { "schema": { "type": "string" } } } });
    let about = "For load balancers and scripts. The paths `/health` and `/ping` are the same.";
    Operation::outside(HEALTH, "health", "Whether it serves", about)
        .answers_with(200, plain("It serves: `OK`."))
        .answers_with(503, plain("It is stopping: new requests are refused."))
}

pub(super) fn scrape() -> Operation {
    let page = json!({
        "description": "The text format of Prometheus, version 0.0.4.",
        "content": { "text/plain": { "schema": { "type": "string" } } },
    });
    let about = "What the server measures of itself, for a monitoring system. Where tokens are required it needs one, unless the \
        settings open it.";
    Operation::outside(HEALTH, "scrape", "Metrics of the server", about)
        .answers_with(200, page)
        .errors(&[api::Code::Authn, api::Code::PermissionDenied])
}

pub(super) fn openapi() -> Operation {
    let about =
        "What this server answers, as OpenAPI 3.1. It needs no token and is served while the server stops, too.";
    Operation::outside(HEALTH, "openapi", "This document", about).answers(
        200,
        "An OpenAPI document.",
        json!({ "type": "object", "required": ["openapi", "info", "paths"], "additionalProperties": true }),
    )
}

fn request_token() -> Parameter {
    let about = "Makes a creation safe to repeat: the same token with the same configuration answers 201 again and changes \
        nothing. At most 36 bytes.";
    Parameter::optional("s2-request-token", about, json!({ "type": "string", "maxLength": REQUEST_TOKEN_BYTES_MAX }))
}

pub(super) fn basins(method: &Method) -> Operation {
    if method == Method::GET {
        return Operation::new(
            BASINS,
            "list_basins",
            "List basins",
            "A page of the basins that the token may see, in order.",
        )
        .query(ListQuery::parameters())
        .answers(200, "A page.", reference("ListBasinsResponse"));
    }
    let about = "Answers once it is durable. A location other than the server's is refused.";
    Operation::new(BASINS, "create_basin", "Create a basin", about)
        .header(request_token())
        .json("CreateBasinRequest")
        .provisions(201, "It is there.", "BasinInfo")
        .errors(&[Invalid, ResourceAlreadyExists, BasinDeletionPending, HotServer])
}

pub(super) fn basin(method: &Method) -> Operation {
    let named = |id, summary, about| Operation::new(BASINS, id, summary, about).errors(&[BadPath]);
    let changing = |id, summary, about| named(id, summary, about).errors(&[HotServer]);
    match *method {
        Method::GET => named("get_basin_config", "Get the configuration of a basin", "Every key is there, set or not.")
            .answers(200, "Its configuration.", reference("BasinConfig"))
            .errors(&[BasinNotFound]),
        Method::PUT => {
            let about = "Creates the basin, or replaces its configuration: what is not mentioned gets its default.";
            changing("ensure_basin", "Ensure a basin", about)
                .optional_json("EnsureBasinRequest")
                .provisions(200, "It was there; `updated` or `noop`.", "BasinInfo")
                .provisions(201, "It was created.", "BasinInfo")
                .errors(&[Invalid, BasinDeletionPending])
        }
        Method::PATCH => {
            let about =
                "What is absent stays as it is, what is null goes back to nothing set. Streams that exist keep theirs.";
            changing("reconfigure_basin", "Reconfigure a basin", about)
                .json("BasinReconfiguration")
                .answers(200, "The whole configuration after the change.", reference("BasinConfig"))
                .errors(&[Invalid, BasinNotFound, BasinDeletionPending])
        }
        _ => {
            let about = "Begins to delete the basin with all of its streams. The name stays taken until that is done.";
            changing("delete_basin", "Delete a basin", about)
                .answers_empty(202, "The deletion has begun, or had begun before.")
                .errors(&[BasinNotFound])
        }
    }
}

pub(super) fn streams(method: &Method) -> Operation {
    if method == Method::GET {
        let about =
            "A page of the streams of a basin that the token may see, in order; those that are being deleted as well.";
        return Operation::new(STREAMS, "list_streams", "List streams", about)
            .in_basin()
            .query(ListQuery::parameters())
            .answers(200, "A page.", reference("ListStreamsResponse"));
    }
    let about =
        "Answers once it is durable. What its configuration leaves open it gets from the basin, now and for good.";
    Operation::new(STREAMS, "create_stream", "Create a stream", about)
        .in_basin()
        .header(request_token())
        .json("CreateStreamRequest")
        .provisions(201, "It is there.", "StreamInfo")
        .errors(&[Invalid, ResourceAlreadyExists, BasinDeletionPending, StreamDeletionPending, HotServer])
}

pub(super) fn stream(method: &Method) -> Operation {
    let named = |id, summary, about| Operation::new(STREAMS, id, summary, about).in_basin().errors(&[BadPath]);
    let changing = |id, summary, about| named(id, summary, about).errors(&[HotServer]);
    match *method {
        Method::GET => {
            named("get_stream_config", "Get the configuration of a stream", "As it was resolved; every key is there.")
                .answers(200, "Its configuration.", reference("StreamConfig"))
                .errors(&[StreamNotFound, StreamDeletionPending])
        }
        Method::PUT => {
            let about = "Creates the stream, or replaces its configuration: what is not mentioned gets its default.";
            changing("ensure_stream", "Ensure a stream", about)
                .optional_json("StreamConfigInput")
                .provisions(200, "It was there; `updated` or `noop`.", "StreamInfo")
                .provisions(201, "It was created.", "StreamInfo")
                .errors(&[Invalid, BasinDeletionPending, StreamDeletionPending])
        }
        Method::PATCH => {
            let about = "What is absent stays as it is, what is null goes back to the basin's default of now.";
            changing("reconfigure_stream", "Reconfigure a stream", about)
                .json("StreamReconfiguration")
                .answers(200, "The whole configuration after the change.", reference("StreamConfig"))
                .errors(&[Invalid, StreamNotFound, StreamDeletionPending])
        }
        _ => {
            let about = "Begins to delete the stream. The name stays taken until that is done.";
            changing("delete_stream", "Delete a stream", about)
                .answers_empty(202, "The deletion has begun, or had begun before.")
                .errors(&[StreamNotFound])
        }
    }
}

pub(super) fn access_tokens(method: &Method) -> Operation {
    if method == Method::GET {
        let about = "A page of the access tokens that the token may see, in order of their ids, without secrets.";
        return Operation::new(TOKENS, "list_access_tokens", "List access tokens", about)
            .query(ListQuery::parameters())
            .answers(200, "A page.", reference("ListAccessTokensResponse"));
    }
    let about = "The secret is shown this one time. A token can permit no more, and live no longer, than the one that issues it.";
    Operation::new(TOKENS, "issue_access_token", "Issue an access token", about)
        .json("IssueAccessTokenRequest")
        .answers(201, "It is in force.", reference("IssueAccessTokenResponse"))
        .errors(&[Invalid, ResourceAlreadyExists, QuotaExhausted, HotServer, Other])
}

pub(super) fn access_token() -> Operation {
    let about = "Ends it at once: no further request, and no further piece of a session, is served to its bearer.";
    Operation::new(TOKENS, "revoke_access_token", "Revoke an access token", about)
        .answers_empty(204, "It is revoked.")
        .errors(&[BadPath, AccessTokenNotFound, HotServer])
}

pub(super) fn usage(of_basin: bool, of_stream: bool) -> Operation {
    let about = "A set of metrics over a range of time. Points are as wide as `interval` says; those in which nothing happened \
        are left out. A stream's `storage` has a point for the minute of now at most; of a basin's, every hour is kept.";
    let operation = match (of_basin, of_stream) {
        (false, _) => Operation::new(METRICS, "account_metrics", "Metrics of the account", about)
            .query(UsageQuery::<AccountSet>::parameters()),
        (true, false) => Operation::new(METRICS, "basin_metrics", "Metrics of a basin", about)
            .query(UsageQuery::<BasinSet>::parameters())
            .errors(&[BadPath]),
        (true, true) => Operation::new(METRICS, "stream_metrics", "Metrics of a stream", about)
            .query(UsageQuery::<StreamSet>::parameters())
            .errors(&[BadPath]),
    };
    operation.answers(200, "The metrics.", reference("MetricSetResponse")).errors(&[Invalid, Other])
}

pub(super) fn locations() -> Operation {
    let about = "A server is one location, so the list has one.";
    let list: Value = list_of("All locations.", reference("LocationInfo"));
    Operation::new(LOCATIONS, "list_locations", "List locations", about).answers(200, "The list.", list)
}

pub(super) fn default_location(method: &Method) -> Operation {
    let info = reference("LocationInfo");
    if method == Method::GET {
        let about = "Where basins are when nothing is said.";
        return Operation::new(LOCATIONS, "get_default_location", "Get the default location", about).answers(
            200,
            "The location.",
            info,
        );
    }
    let about = "It can only be set to what it is; any other name is refused with 422.";
    let name = api::schema::location();
    Operation::new(LOCATIONS, "set_default_location", "Set the default location", about)
        .body(true, json!({ "application/json": { "schema": name } }))
        .answers(200, "The location.", info)
        .errors(&[api::Code::BadJson, Invalid])
}
