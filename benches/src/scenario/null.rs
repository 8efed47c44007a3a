//! The generator's own ceiling: the same clients against a server that does nothing. A figure near it says more
//! about the generator than about the server.

use super::sessions::{self, SessionLoad};
use super::{Context, Measure, unary};
use crate::null_server::NullServer;
use crate::payload::Payload;
use crate::settings::Endpoint;

pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let server = match NullServer::start() {
        Ok(server) => server,
        Err(error) => {
            let mut measure = Measure::new("null", 0.0, "op/s");
            measure.failures = 1;
            measure.failure_kinds.insert(format!("null server: {error}"), 1);
            return vec![measure];
        }
    };
    let context = Context {
        endpoint: Endpoint::local(server.address),
        basin: context.basin.clone(),
        stop: context.stop.clone(),
        progress: context.progress.clone(),
        ..*context
    };
    let small = unary::drive(&context, unary::small_load(&context));
    let load =
        SessionLoad { sessions: 1, window: context.settings.concurrency.unwrap_or(sessions::SINGLE_CONCURRENCY) };
    let payload = Payload::single(context.settings.record_bytes_or(100));
    let single = sessions::drive(&context, load, &payload);
    vec![
        Measure::new("null/unary-small", small.per_second(small.load.operations), "op/s").seen_in(&small),
        Measure::new("null/session-single", single.per_second(single.load.records), "rec/s").seen_in(&single),
    ]
}
