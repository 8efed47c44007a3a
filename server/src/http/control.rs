//! Basins and streams as resources: list, create, ensure, reconfigure, delete (s2-wire.md 1.2-1.8).

use std::rc::Rc;
use std::sync::Arc;

use api::query::ListQuery;
use api::{ApiError, Code, json, negotiate};
use bytes::Bytes;
use engine::event::{BasinInfo, Provision};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::{BasinName, ResolvedStreamConfig, StreamName};

use super::Front;
use super::answer::{self, Answer, header};
use super::route::decode_segment;
use super::usage;
use crate::access::Access;
use crate::resource::{Caller, request_token};

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
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { front: self.front, access: &self.access }
    }

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
            let (basins, has_more) = self.caller().list_basins(ListQuery::parse_basins(self.query())?);
            let basins: Vec<_> = basins.iter().map(|b| self.shown_basin(b)).collect();
            return Ok(answer::json(StatusCode::OK, json::basin_list(&basins, has_more)));
        }
        let token = request_token(self.headers())?;
        let wanted = json::parse_create_basin(self.required_json()?)?;
        let (basin, provision) = self.caller().create_basin(wanted, token).await?;
        Ok(provisioned(StatusCode::CREATED, provision, json::basin_info(&self.shown_basin(&basin))))
    }

    /// `/basins/{basin}`
    pub(crate) async fn basin(&self, segment: &str) -> Result<Answer, ApiError> {
        let name = basin_name(segment)?;
        match self.parts.method {
            Method::GET => {
                let basin = self.front.router.basin_named(&name)?;
                Ok(answer::json(StatusCode::OK, json::basin_config(&basin.config)))
            }
            Method::PUT => {
                let wanted = json::parse_ensure_basin(self.optional_json()?)?;
                let (basin, provision) = self.caller().ensure_basin(name, wanted).await?;
                Ok(provisioned(ensured(provision), provision, json::basin_info(&self.shown_basin(&basin))))
            }
            Method::PATCH => {
                let change = json::parse_basin_reconfiguration(self.required_json()?)?;
                let basin = self.caller().reconfigure_basin(name, change).await?;
                Ok(answer::json(StatusCode::OK, json::basin_config(&basin.config)))
            }
            _ => {
                self.caller().delete_basin(name).await?;
                Ok(answer::empty(StatusCode::ACCEPTED))
            }
        }
    }

    /// `/streams`
    pub(crate) async fn streams(&self, basin: &BasinInfo) -> Result<Answer, ApiError> {
        if self.parts.method == Method::GET {
            let page = ListQuery::parse_streams(self.query())?;
            let (streams, has_more) = self.caller().list_streams(basin, page).await?;
            return Ok(answer::json(StatusCode::OK, json::stream_list(&streams, has_more)));
        }
        let token = request_token(self.headers())?;
        let wanted = json::parse_create_stream(self.required_json()?)?;
        let name = self.access.stream_in(wanted.stream).map_err(|e| ApiError::new(Code::BadJson, e.0))?;
        let (stream, provision) = self.caller().create_stream(basin, (name, wanted.config), token).await?;
        Ok(provisioned(StatusCode::CREATED, provision, json::stream_info(&stream)))
    }

    /// `/streams/{stream}`
    pub(crate) async fn stream(&self, basin: &BasinInfo, name: StreamName) -> Result<Answer, ApiError> {
        match self.parts.method {
            Method::GET => Ok(stream_config(&*self.caller().stream_config(basin, name).await?)),
            Method::PUT => {
                let config = json::parse_ensure_stream(self.optional_json()?)?;
                let (stream, provision) = self.caller().ensure_stream(basin, (name, config)).await?;
                Ok(provisioned(ensured(provision), provision, json::stream_info(&stream)))
            }
            Method::PATCH => {
                let change = json::parse_stream_reconfiguration(self.required_json()?)?;
                Ok(stream_config(&*self.caller().reconfigure_stream(basin, name, change).await?))
            }
            _ => {
                self.caller().delete_stream(basin, name).await?;
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
            self.caller().check_location(Some(&json::parse_location(self.required_json()?)?))?;
        }
        Ok(answer::json(StatusCode::OK, json::location_info(&self.shown_location())))
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

fn stream_config(config: &ResolvedStreamConfig) -> Answer {
    answer::json(StatusCode::OK, json::resolved_stream_config(config))
}
