//! From a request to its answer: routes it, and adds what all answers share.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use api::{ApiError, Code, negotiate};
use bytes::Bytes;
use engine::event::BasinInfo;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use hyper::body::Incoming;
use model::token::On;
use model::{BasinName, Failure, StreamName, Unavailable};

use super::answer::{self, Answer, header};
use super::control::{Request, basin_name, stream_name};
use super::limits::{BodyLimit, CONTROL_BYTES_MAX, drain, read_body};
use super::route::{Route, UNKNOWN_ROW};
use super::watch::{Connection, OpenRequest};
use super::{Front, Phase, append, lease, read};
use crate::access::{Access, operation};
use crate::grpc;
use crate::meters::Meter;
use crate::resource::Caller;
use crate::router::Router;

/// Answers one request.
///
/// # Errors
/// Never.
pub(crate) async fn serve(
    front: Rc<Front>,
    connection: Rc<Connection>,
    request: http::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let open = OpenRequest::new(&front.watch, &connection);
    let (parts, body) = request.into_parts();
    if grpc::is_call(&parts) {
        let (row, status, answer) = grpc::serve(&front, &connection, &parts, body).await;
        if front.phase.get() > Phase::Serving {
            connection.told.set(status == StatusCode::SERVICE_UNAVAILABLE.as_u16());
        }
        front.metrics.request(row, status);
        tracing::debug!(path = parts.uri.path(), status, "answered a call");
        return Ok(answer.map(|payload| payload.of_request(open)));
    }
    let (row, answered) = route(&front, &connection, &parts, body).await;
    let (row, mut answer) = match answered {
        Ok((special, answer)) => (special.unwrap_or(row), answer),
        Err(error) => (row, answer::error(&error)),
    };
    answer = answer::compressed(answer, header(&parts.headers, ACCEPT_ENCODING));
    if front.cors
        && let Some(origin) = parts.headers.get(ORIGIN)
    {
        answer::allow_origin(&mut answer, origin.clone());
    }
    if front.phase.get() > Phase::Serving {
        connection.told.set(answer.status() == StatusCode::SERVICE_UNAVAILABLE);
        if parts.version < Version::HTTP_2 {
            // The next request needs another connection, and finds another server or none. HTTP/2 has no such header.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    front.metrics.request(row, answer.status().as_u16());
    tracing::debug!(method = %parts.method, path = parts.uri.path(), status = answer.status().as_u16(), "answered");
    Ok(answer.map(|payload| payload.of_request(open)))
}

/// An answer, with another row of the metrics where the route does not tell it.
type Answered = Result<(Option<usize>, Answer), ApiError>;

async fn route(front: &Rc<Front>, connection: &Rc<Connection>, parts: &Parts, body: Incoming) -> (usize, Answered) {
    let plain = |answer| Ok((None, answer));
    let Some(route) = Route::parse(parts.uri.path()) else {
        refuse(body);
        return (UNKNOWN_ROW, plain(answer::no_such_route()));
    };
    let row = route.metrics_row(&parts.method);
    if parts.method == Method::OPTIONS
        && front.cors
        && let Some(preflight) = answer::preflight(&parts.headers)
    {
        return (row, plain(preflight));
    }
    if !route.allow().split(", ").any(|method| method == parts.method.as_str()) {
        refuse(body);
        return (row, plain(answer::method_not_allowed(route.allow())));
    }
    let is_draining = front.phase.get() > Phase::Serving;
    let answered = match route {
        Route::Health if is_draining => {
            plain(answer::full(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the server is draining\n"))
        }
        Route::Health => plain(answer::full(StatusCode::OK, "text/plain", "OK")),
        Route::Scrape if !front.open_metrics => scrape(front, connection, parts, &route).map(|answer| (None, answer)),
        Route::Scrape => plain(answer::full(StatusCode::OK, "text/plain; version=0.0.4", (front.scrape)())),
        Route::OpenApi => plain(answer::json(StatusCode::OK, crate::openapi::document())),
        _ if is_draining => {
            refuse(body);
            Err(Failure::from(Unavailable::Draining).into())
        }
        Route::Basins
        | Route::Basin(_)
        | Route::Streams
        | Route::Stream(_)
        | Route::Records(_)
        | Route::Tail(_)
        | Route::Lease(_)
        | Route::FirstForm(..)
        | Route::AccessTokens
        | Route::AccessToken(_)
        | Route::Usage(..)
        | Route::Locations
        | Route::DefaultLocation => match front.gate.access(&parts.headers, &connection.shown) {
            Ok(access) => served(front, connection, parts, body, route, &access).await.map_err(|mut error| {
                access.error_out(&mut error);
                error
            }),
            Err(error) => {
                refuse(body);
                Err(error)
            }
        },
    };
    (row, answered)
}

/// Serves a route of `/v1` to who may be let in.
async fn served(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    route: Route<'_>,
    access: &Access,
) -> Answered {
    let named = named(access, parts, &route);
    match route {
        Route::Records(_) => {
            let stream = in_basin(front, parts, route, named);
            records(front, connection, parts, body, stream, access).await
        }
        Route::FirstForm(..) => {
            // Where nobody has to say who he is, the first call of all works by itself.
            let named_basin = named.as_ref().ok().and_then(|named| named.basin.clone());
            let missing = named_basin.filter(|name| access.is_open() && front.router.basins().get(name).is_none());
            let locate = || in_basin(front, parts, route, named);
            append::first_form(front, connection, parts, body, (missing, locate), access)
                .await
                .map(|answer| (None, answer))
        }
        Route::Tail(_) => {
            let (basin, stream) = in_basin(front, parts, route, named)?;
            read::check_tail(Caller { front, access }, &basin, stream).await.map(|answer| (None, answer))
        }
        Route::Basins
        | Route::Basin(_)
        | Route::Streams
        | Route::Stream(_)
        | Route::Lease(_)
        | Route::AccessTokens
        | Route::AccessToken(_)
        | Route::Usage(..)
        | Route::Locations
        | Route::DefaultLocation => {
            control(front, connection, parts, body, route, named, access).await.map(|answer| (None, answer))
        }
        Route::Health | Route::Scrape | Route::OpenApi => unreachable!("these are no routes of /v1"),
    }
}

/// What the path and the headers of a request name: streams by their whole names.
#[derive(Default)]
struct Named {
    basin: Option<BasinName>,
    stream: Option<StreamName>,
}

/// The names of a request, once it is permitted on them. This is the one place where a REST request's operation, basin
/// and stream are known; names in a body are seen by whoever reads it.
fn named(access: &Access, parts: &Parts, route: &Route<'_>) -> Result<Named, ApiError> {
    let stream = |segment: &str| {
        access.stream_in(stream_name(segment)?).map_err(|e| ApiError::new(Code::BadPath, e.0)).map(Some)
    };
    let header =
        || Router::basin_name(&parts.headers, parts.uri.authority().map(http::uri::Authority::as_str)).map(Some);
    let named = match route {
        Route::Records(segment) | Route::Tail(segment) | Route::Stream(segment) | Route::Lease(segment) => {
            let stream = stream(segment)?;
            Named { basin: header()?, stream }
        }
        Route::Streams => Named { basin: header()?, stream: None },
        Route::Basin(segment) | Route::Usage(Some(segment), None) => {
            Named { basin: Some(basin_name(segment)?), stream: None }
        }
        Route::Usage(Some(basin), Some(segment)) | Route::FirstForm(basin, segment) => {
            Named { basin: Some(basin_name(basin)?), stream: stream(segment)? }
        }
        Route::Basins
        | Route::AccessTokens
        | Route::AccessToken(_)
        | Route::Usage(None, _)
        | Route::Locations
        | Route::DefaultLocation
        | Route::Health
        | Route::Scrape
        | Route::OpenApi => Named::default(),
    };
    let on = On { basin: named.basin.as_ref(), stream: named.stream.as_ref(), token: None };
    access.permit_any(operation::operations(route, &parts.method), on)?;
    operation::also(route, &parts.method).map_or(Ok(()), |operation| access.permit(operation, on))?;
    Ok(named)
}

/// The basin and the stream that a request means; it is metered for the basin.
fn in_basin(
    front: &Front,
    parts: &Parts,
    route: Route<'_>,
    named: Result<Named, ApiError>,
) -> Result<(Arc<BasinInfo>, StreamName), ApiError> {
    let Named { basin, stream } = named?;
    let (basin, stream) = (basin.expect("the route names one"), stream.expect("the route names one"));
    let basin = front.router.basin_named(&basin)?;
    front.meters.basin((basin.id, &basin.name), Meter::operation(operation::metered(&route, &parts.method)), 1);
    Ok((basin, stream))
}

/// `/metrics` where it is not for everybody.
fn scrape(front: &Front, connection: &Connection, parts: &Parts, route: &Route<'_>) -> Result<Answer, ApiError> {
    let access = front.gate.access(&parts.headers, &connection.shown)?;
    access.permit_any(operation::operations(route, &parts.method), On::default())?;
    Ok(answer::full(StatusCode::OK, "text/plain; version=0.0.4", (front.scrape)()))
}

async fn records(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    stream: Result<(Arc<BasinInfo>, StreamName), ApiError>,
    access: &Access,
) -> Answered {
    let (row, answer) = if parts.method == Method::POST {
        append::append(front, connection, parts, body, stream, access).await?
    } else {
        let (basin, name) = stream?;
        read::read(front, connection, parts, &basin, name, access).await?
    };
    Ok((Some(row), answer))
}

async fn control(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    route: Route<'_>,
    named: Result<Named, ApiError>,
    access: &Access,
) -> Result<Answer, ApiError> {
    let encoding = negotiate::content_encoding(header(&parts.headers, CONTENT_ENCODING))?;
    let body = if parts.method == Method::GET || parts.method == Method::DELETE {
        Bytes::new()
    } else {
        let limit = BodyLimit { bytes_max: CONTROL_BYTES_MAX, code: Code::BadJson };
        read_body(front, connection, body, encoding, limit).await?.bytes
    };
    let Named { basin, stream } = named?;
    let metered = Meter::operation(operation::metered(&route, &parts.method));
    let in_basin = || {
        let basin = front.router.basin_named(basin.as_ref().expect("the route names one"))?;
        front.meters.basin((basin.id, &basin.name), metered, 1);
        Ok::<_, ApiError>(basin)
    };
    if !matches!(route, Route::Streams | Route::Stream(_) | Route::Lease(_)) {
        front.meters.account(metered);
    }
    let request = Request { front, parts, body, access: access.clone() };
    match route {
        Route::Basins => request.basins().await,
        Route::Basin(segment) => request.basin(segment).await,
        Route::Streams => request.streams(&*in_basin()?).await,
        Route::Stream(_) => request.stream(&*in_basin()?, stream.expect("the route names one")).await,
        Route::Lease(_) => {
            let stream = stream.expect("the route names one");
            lease::serve(front, parts, &request.body, &*in_basin()?, stream).await
        }
        Route::AccessTokens if parts.method == Method::GET => request.list_tokens(),
        Route::AccessTokens => request.issue_token().await,
        Route::AccessToken(segment) => request.revoke_token(segment).await,
        Route::Usage(..) => request.usage(basin, stream).await,
        Route::Locations => Ok(request.locations()),
        Route::DefaultLocation => request.default_location(),
        Route::Health | Route::Scrape | Route::OpenApi | Route::Records(_) | Route::Tail(_) | Route::FirstForm(..) => {
            unreachable!("these are no control-plane routes")
        }
    }
}

/// The request is answered without its body; the rest of it is read so that the client sees the answer.
fn refuse(body: Incoming) {
    if !http_body::Body::is_end_stream(&body) {
        tokio::task::spawn_local(drain(body));
    }
}
