//! Streams: list, create, ensure, reconfigure, delete.

use std::sync::Arc;

use api::query::ListQuery;
use api::{ApiError, Code, json};
use engine::event::{BasinInfo, Op, Provision, Reply, StreamInfo};
use model::config::StreamReconfiguration;
use model::token::{On, Operation};
use model::{Failure, NamePrefix, Position, ResolvedStreamConfig, StreamConfig, StreamName};

use super::{Caller, request_key};
use crate::access::Access;
use crate::access::page::{Shown, narrow};
use crate::http::Front;
use crate::router::{Router, not_deleting, stream_spec};
use crate::store::{Store, unexpected};

impl Caller<'_> {
    /// A page of those in scope, by the names that the caller knows; whether there are more. Asks every shard for its part.
    ///
    /// # Errors
    /// As the spec says; so do all others here.
    pub(crate) async fn list_streams(
        &self,
        basin: &BasinInfo,
        page: ListQuery,
    ) -> Result<(Vec<json::StreamInfo>, bool), ApiError> {
        let (ListQuery { prefix, start_after, limit }, only) = match self.streams_page(page)? {
            Shown::Nothing => return Ok((Vec::new(), false)),
            Shown::Page(page) => (page, None),
            Shown::One(name) => {
                let page = ListQuery { prefix: name.clone(), start_after: NamePrefix::empty(), limit: 1 };
                (page, Some(name))
            }
        };
        let mut parts = Vec::new();
        for shard in self.front.router.shards() {
            let (prefix, start_after) = (prefix.clone(), start_after.clone());
            let op = Op::ListStreams { basin_id: basin.id, prefix, start_after, limit };
            parts.push(Box::pin(self.front.store.ask(shard, op)));
        }
        // They are all sent before the first is awaited.
        let mut streams = Vec::new();
        let mut has_more = false;
        for reply in join_all(parts).await {
            let reply = reply?;
            let Reply::Streams(part, more) = reply else { unexpected("a listing", &reply) };
            streams.extend(part);
            has_more |= more;
        }
        streams.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        has_more |= streams.len() > limit;
        streams.truncate(limit);
        if let Some(only) = only {
            // Of names that begin so, the name itself comes first.
            streams.retain(|stream| stream.name.as_str() == only.as_str());
            has_more = false;
        }
        Ok((streams.into_iter().filter_map(|stream| self.listed_stream(stream)).collect(), has_more))
    }

    /// Creates a stream that is named in a body. The same `token` with the same configuration creates it once.
    pub(crate) async fn create_stream(
        &self,
        basin: &BasinInfo,
        (name, config): (StreamName, StreamConfig),
        token: Option<&[u8]>,
    ) -> Result<(json::StreamInfo, Provision), ApiError> {
        let on = On { basin: Some(&basin.name), stream: Some(&name), token: None };
        self.access.permit(Operation::CreateStream, on)?;
        not_deleting(basin)?;
        let request_key = token.map(|token| request_key(token, &json::stream_config(&config)));
        let spec = stream_spec(basin, &config);
        let (shard, target) = self.front.router.target(basin, name);
        self.provisioned(self.front.store.ask(shard, Op::CreateStream { target, spec, request_key }).await?)
    }

    /// Creates a stream, or gives it this configuration.
    pub(crate) async fn ensure_stream(
        &self,
        basin: &BasinInfo,
        (name, config): (StreamName, StreamConfig),
    ) -> Result<(json::StreamInfo, Provision), ApiError> {
        not_deleting(basin)?;
        let Front { store, router, .. } = self.front;
        let (stream, provision) = ensure_stream(store, router, basin, name, &config).await?;
        Ok((self.listed_stream(stream).expect("the caller named it"), provision))
    }

    /// A stream's configuration.
    pub(crate) async fn stream_config(
        &self,
        basin: &BasinInfo,
        name: StreamName,
    ) -> Result<Arc<ResolvedStreamConfig>, ApiError> {
        let (shard, target) = self.front.router.target(basin, name);
        config(self.front.store.ask(shard, Op::GetStreamConfig { target }).await?)
    }

    /// Changes a stream's configuration; what is reset becomes what is the basin's default now.
    pub(crate) async fn reconfigure_stream(
        &self,
        basin: &BasinInfo,
        name: StreamName,
        change: StreamReconfiguration,
    ) -> Result<Arc<ResolvedStreamConfig>, ApiError> {
        let defaults: StreamConfig = basin.config.default_stream_config.clone().unwrap_or_default();
        let (shard, target) = self.front.router.target(basin, name);
        config(self.front.store.ask(shard, Op::ReconfigureStream { target, change, defaults }).await?)
    }

    /// Begins a stream's deletion.
    pub(crate) async fn delete_stream(&self, basin: &BasinInfo, name: StreamName) -> Result<(), ApiError> {
        let (shard, target) = self.front.router.target(basin, name);
        self.front.store.ask(shard, Op::DeleteStream { target }).await?;
        Ok(())
    }

    /// A stream's tail.
    pub(crate) async fn check_tail(&self, basin: &BasinInfo, name: StreamName) -> Result<Position, ApiError> {
        not_deleting(basin)?;
        let create = basin.config.create_stream_on_read.then(|| stream_spec(basin, &StreamConfig::default()));
        let (shard, target) = self.front.router.target(basin, name);
        let reply = self.front.store.ask(shard, Op::CheckTail { target, create }).await?;
        let Reply::Tail(tail) = reply else { unexpected("a check-tail", &reply) };
        Ok(tail)
    }

    /// The page as whole names, within the scope.
    fn streams_page(&self, page: ListQuery) -> Result<Shown, ApiError> {
        let Access::Token(token) = &self.access else { return Ok(Shown::Page(page)) };
        let of = |name: &str| NamePrefix::of_stream(name);
        let whole = |name: &NamePrefix| {
            of(&format!("{}{name}", token.stream_prefix())).map_err(|e| ApiError::new(Code::BadQuery, e.0))
        };
        // The stream whose name is the prefix alone has no name for this caller: a page begins behind it.
        let page = ListQuery { prefix: whole(&page.prefix)?, start_after: whole(&page.start_after)?, ..page };
        Ok(narrow(token.scope.streams.as_ref(), page, |name| of(name).expect("a scope has names of streams")))
    }

    fn listed_stream(&self, stream: StreamInfo) -> Option<json::StreamInfo> {
        let StreamInfo { name, created_at_ms, deleted_at_ms, cipher } = stream;
        Some(json::StreamInfo { name: self.access.stream_out(name)?, created_at_ms, deleted_at_ms, cipher })
    }

    fn provisioned(&self, reply: Reply) -> Result<(json::StreamInfo, Provision), ApiError> {
        let Reply::Stream(stream, provision) = reply else { unexpected("a stream request", &reply) };
        Ok((self.listed_stream(stream).expect("the caller named it"), provision))
    }
}

fn config(reply: Reply) -> Result<Arc<ResolvedStreamConfig>, ApiError> {
    let Reply::StreamConfig(config) = reply else { unexpected("a stream config request", &reply) };
    Ok(config)
}

/// Makes a stream of a basin that is not being deleted, or gives one that exists this configuration.
///
/// # Errors
/// What the shard says.
pub(crate) async fn ensure_stream(
    store: &Store,
    router: &Router,
    basin: &BasinInfo,
    name: StreamName,
    config: &StreamConfig,
) -> Result<(StreamInfo, Provision), Failure> {
    let (shard, target) = router.target(basin, name);
    let spec = stream_spec(basin, config);
    let reply = store.ask(shard, Op::EnsureStream { target, spec }).await?;
    let Reply::Stream(stream, provision) = reply else { unexpected("a stream request", &reply) };
    Ok((stream, provision))
}

/// Awaits all, polling those that are still open whenever one of them wakes us: for a few, such as one per shard.
pub(crate) async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = std::pin::Pin::new(future).poll(cx) {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
