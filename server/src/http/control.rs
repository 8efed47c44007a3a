//! Basins and streams as resources: list, create, ensure, reconfigure, delete (s2-wire.md 1.2-1.8).

use std::rc::Rc;
use std::sync::Arc;

use api::query::ListQuery;
use api::{ApiError, Code, json, negotiate};
use bytes::Bytes;
use engine::event::{BasinInfo, Op, Provision, Reply, StreamInfo};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::limits::REQUEST_TOKEN_BYTES_MAX;
use model::token::{On, Operation};
use model::{BasinConfig, BasinName, Failure, NamePrefix, StreamConfig, StreamName};
use xxhash_rust::xxh3::Xxh3;

use super::Front;
use super::answer::{self, Answer, header};
use super::route::decode_segment;
use super::usage;
use crate::access::Access;
use crate::access::page::{Shown, narrow};
use crate::router::{METADATA_SHARD, Router, not_deleting, stream_spec};
use crate::store::{Store, unexpected};

/// A control-plane request, its body read whole.
pub(crate) struct Request<'a> {
    /// The front it came to.
    pub(crate) front: &'a Rc<Front>,
    /// Its head.
    pub(crate) parts: &'a Parts,
    /// Its body.
    pub(crate) body: Bytes,
    /// What the caller may do.
    pub(crate) access: Access,
}

impl Request<'_> {
    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    pub(crate) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    pub(crate) fn required_json(&self) -> Result<&[u8], ApiError> {
        negotiate::required_json(header(self.headers(), http::header::CONTENT_TYPE), &self.body)
    }

    fn optional_json(&self) -> Result<&[u8], ApiError> {
        negotiate::optional_json(header(self.headers(), http::header::CONTENT_TYPE), &self.body)
    }

    /// `/basins`
    ///
    /// # Errors
    /// As the spec says; so do all others here.
    pub(crate) async fn basins(&self) -> Result<Answer, ApiError> {
        if self.parts.method == Method::GET {
            let (basins, has_more) = self.list_basins()?;
            let basins: Vec<_> = basins.iter().map(|b| self.shown_basin(b)).collect();
            return Ok(answer::json(StatusCode::OK, json::basin_list(&basins, has_more)));
        }
        let token = request_token(self.headers())?;
        let wanted = json::parse_create_basin(self.required_json()?)?;
        self.access.permit(Operation::CreateBasin, On { basin: Some(&wanted.basin), ..On::default() })?;
        self.check_location(wanted.location.as_deref())?;
        let request_key = token.map(|token| request_key(token, &json::basin_config(&wanted.config)));
        let op = Op::CreateBasin { basin: wanted.basin, config: wanted.config, request_key };
        let (basin, provision) = basin(self.front.store.ask(METADATA_SHARD, op).await?);
        Ok(provisioned(StatusCode::CREATED, provision, json::basin_info(&self.shown_basin(&basin))))
    }

    /// A page of those in scope.
    fn list_basins(&self) -> Result<(Vec<Arc<BasinInfo>>, bool), ApiError> {
        let page = ListQuery::parse_basins(self.query())?;
        let of = |name: &str| NamePrefix::of_basin(name).expect("a scope has names of basins");
        let page = match &self.access {
            Access::Open => Shown::Page(page),
            Access::Token(token) => narrow(token.scope.basins.as_ref(), page, of),
        };
        let basins = self.front.router.basins();
        Ok(match page {
            Shown::Nothing => (vec![], false),
            Shown::Page(page) => basins.list(&page.prefix, &page.start_after, page.limit),
            Shown::One(name) => {
                let name = BasinName::try_from(name.as_str()).expect("a scope has names of basins");
                (basins.get(&name).into_iter().collect(), false)
            }
        })
    }

    /// `/basins/{basin}`
    pub(crate) async fn basin(&self, segment: &str) -> Result<Answer, ApiError> {
        let name = basin_name(segment)?;
        let store = &self.front.store;
        match self.parts.method {
            Method::GET => {
                let basin = self.front.router.basin_named(&name)?;
                Ok(answer::json(StatusCode::OK, json::basin_config(&basin.config)))
            }
            Method::PUT => {
                let wanted = json::parse_ensure_basin(self.optional_json()?)?;
                self.check_location(wanted.location.as_deref())?;
                let (basin, provision) = ensure_basin(store, name, wanted.config).await?;
                Ok(provisioned(ensured(provision), provision, json::basin_info(&self.shown_basin(&basin))))
            }
            Method::PATCH => {
                let change = json::parse_basin_reconfiguration(self.required_json()?)?;
                let (basin, _) = basin(store.ask(METADATA_SHARD, Op::ReconfigureBasin { basin: name, change }).await?);
                Ok(answer::json(StatusCode::OK, json::basin_config(&basin.config)))
            }
            _ => {
                store.ask(METADATA_SHARD, Op::DeleteBasin { basin: name }).await?;
                Ok(answer::empty(StatusCode::ACCEPTED))
            }
        }
    }

    /// `/streams`
    pub(crate) async fn streams(&self, basin: &BasinInfo) -> Result<Answer, ApiError> {
        if self.parts.method == Method::GET {
            return self.list_streams(basin).await;
        }
        let token = request_token(self.headers())?;
        let wanted = json::parse_create_stream(self.required_json()?)?;
        let stream_name = self.access.stream_in(wanted.stream).map_err(|e| ApiError::new(Code::BadJson, e.0))?;
        let on = On { basin: Some(&basin.name), stream: Some(&stream_name), token: None };
        self.access.permit(Operation::CreateStream, on)?;
        not_deleting(basin)?;
        let request_key = token.map(|token| request_key(token, &json::stream_config(&wanted.config)));
        let spec = stream_spec(basin, &wanted.config);
        let (shard, target) = self.front.router.target(basin, stream_name);
        let reply = self.front.store.ask(shard, Op::CreateStream { target, spec, request_key }).await?;
        let (stream, provision) = stream(reply);
        Ok(provisioned(StatusCode::CREATED, provision, json::stream_info(&self.shown_stream(stream))))
    }

    /// Asks every shard for its part of the page.
    async fn list_streams(&self, basin: &BasinInfo) -> Result<Answer, ApiError> {
        let (ListQuery { prefix, start_after, limit }, only) = match self.streams_page()? {
            Shown::Nothing => return Ok(answer::json(StatusCode::OK, json::stream_list(&[], false))),
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
        let streams: Vec<_> = streams.into_iter().filter_map(|stream| self.listed_stream(stream)).collect();
        Ok(answer::json(StatusCode::OK, json::stream_list(&streams, has_more)))
    }

    /// The page as whole names, within the scope.
    fn streams_page(&self) -> Result<Shown, ApiError> {
        let page = ListQuery::parse_streams(self.query())?;
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

    fn shown_stream(&self, stream: StreamInfo) -> json::StreamInfo {
        self.listed_stream(stream).expect("the caller named it")
    }

    /// `/streams/{stream}`
    pub(crate) async fn stream(&self, basin: &BasinInfo, name: StreamName) -> Result<Answer, ApiError> {
        let store = &self.front.store;
        if self.parts.method == Method::PUT {
            let config = json::parse_ensure_stream(self.optional_json()?)?;
            not_deleting(basin)?;
            let (info, provision) = ensure_stream(store, &self.front.router, basin, name, &config).await?;
            return Ok(provisioned(ensured(provision), provision, json::stream_info(&self.shown_stream(info))));
        }
        let (shard, target) = self.front.router.target(basin, name);
        match self.parts.method {
            Method::GET => Ok(stream_config(store.ask(shard, Op::GetStreamConfig { target }).await?)),
            Method::PATCH => {
                let change = json::parse_stream_reconfiguration(self.required_json()?)?;
                let defaults: StreamConfig = basin.config.default_stream_config.clone().unwrap_or_default();
                Ok(stream_config(store.ask(shard, Op::ReconfigureStream { target, change, defaults }).await?))
            }
            _ => {
                store.ask(shard, Op::DeleteStream { target }).await?;
                Ok(answer::empty(StatusCode::ACCEPTED))
            }
        }
    }

    /// `/metrics` of the account, a basin or a stream.
    pub(crate) async fn usage(&self, basin: Option<BasinName>, stream: Option<StreamName>) -> Result<Answer, ApiError> {
        let metrics = match (basin, stream) {
            (None, _) => usage::account(self.front, &self.access, self.query()).await?,
            (Some(basin), None) => usage::basin(self.front, basin, self.query()).await?,
            (Some(basin), Some(stream)) => usage::stream(self.front, &basin, stream, self.query()).await?,
        };
        Ok(answer::json(StatusCode::OK, api::usage::response(&metrics)))
    }

    /// `/locations`
    pub(crate) fn locations(&self) -> Answer {
        answer::json(StatusCode::OK, json::location_list(&[self.shown_location()]))
    }

    /// `/locations/default`: the one that there is, which is all that it can be set to.
    pub(crate) fn default_location(&self) -> Result<Answer, ApiError> {
        if self.parts.method == Method::PUT {
            self.check_location(Some(&json::parse_location(self.required_json()?)?))?;
        }
        Ok(answer::json(StatusCode::OK, json::location_info(&self.shown_location())))
    }

    fn check_location(&self, wanted: Option<&str>) -> Result<(), ApiError> {
        match wanted {
            Some(wanted) if *wanted != *self.front.location => {
                let why = format!("location `{wanted}` is not served here: `{}` is", self.front.location);
                Err(ApiError::new(Code::Invalid, why))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn shown_location(&self) -> json::LocationInfo {
        json::LocationInfo { name: Arc::clone(&self.front.location), storage_classes: &["native"] }
    }

    fn shown_basin(&self, basin: &BasinInfo) -> json::BasinInfo {
        json::BasinInfo {
            name: basin.name.clone(),
            location: Some(Arc::clone(&self.front.location)),
            created_at_ms: basin.created_at_ms,
            deleted_at_ms: basin.deleted_at_ms,
        }
    }
}

/// Makes a basin, or gives one that exists this configuration.
///
/// # Errors
/// What the shard says.
pub(crate) async fn ensure_basin(
    store: &Store,
    name: BasinName,
    config: BasinConfig,
) -> Result<(BasinInfo, Provision), Failure> {
    Ok(basin(store.ask(METADATA_SHARD, Op::EnsureBasin { basin: name, config }).await?))
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
    Ok(stream(store.ask(shard, Op::EnsureStream { target, spec }).await?))
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

/// A basin's name from a path.
///
/// # Errors
/// 400 `bad_path`.
pub(crate) fn basin_name(segment: &str) -> Result<BasinName, ApiError> {
    BasinName::try_from(&*decode_segment(segment)?).map_err(|e| ApiError::new(Code::BadPath, e.0))
}

/// A stream's name from a path.
///
/// # Errors
/// 400 `bad_path`.
pub(crate) fn stream_name(segment: &str) -> Result<StreamName, ApiError> {
    StreamName::try_from(&*decode_segment(segment)?).map_err(|e| ApiError::new(Code::BadPath, e.0))
}

fn request_token(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    match headers.get("s2-request-token").map(HeaderValue::as_bytes) {
        Some(token) if token.len() > REQUEST_TOKEN_BYTES_MAX => {
            let why = "Invalid header `s2-request-token`: request token must not exceed 36 bytes in length";
            Err(ApiError::new(Code::BadHeader, why))
        }
        token => Ok(token),
    }
}

/// The same token with the same configuration gives the same key. It is stored, so it must never change.
fn request_key(token: &[u8], config: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(token);
    hash.update(&[0]);
    hash.update(config.as_bytes());
    hash.digest()
}

const fn ensured(provision: Provision) -> StatusCode {
    match provision {
        Provision::Created => StatusCode::CREATED,
        Provision::Updated | Provision::Noop => StatusCode::OK,
    }
}

fn provisioned(status: StatusCode, provision: Provision, body: String) -> Answer {
    let result = match provision {
        Provision::Created => "created",
        Provision::Updated => "updated",
        Provision::Noop => "noop",
    };
    let mut answer = answer::json(status, body);
    answer.headers_mut().insert("s2-provision-result", HeaderValue::from_static(result));
    answer
}

fn basin(reply: Reply) -> (BasinInfo, Provision) {
    let Reply::Basin(basin, provision) = reply else { unexpected("a basin request", &reply) };
    (basin, provision)
}

fn stream(reply: Reply) -> (StreamInfo, Provision) {
    let Reply::Stream(stream, provision) = reply else { unexpected("a stream request", &reply) };
    (stream, provision)
}

fn stream_config(reply: Reply) -> Answer {
    let Reply::StreamConfig(config) = reply else { unexpected("a stream config request", &reply) };
    answer::json(StatusCode::OK, json::resolved_stream_config(&config))
}
