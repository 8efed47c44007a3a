//! From a request to its answer: routes it, and adds what all answers share.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use api::{ApiError, Code, negotiate};
use bytes::Bytes;
use engine::event::BasinInfo;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ORIGIN};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use model::{Failure, Unavailable};

use super::answer::{self, Answer, header};
use super::control::{Request, basin_name, stream_name};
use super::limits::{BodyLimit, CONTROL_BYTES_MAX, drain, read_body};
use super::route::{Route, UNKNOWN_ROW};
use super::watch::{Connection, OpenRequest};
use super::{Front, Phase, append, lease, read};
use crate::meters::Meter;

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
        Route::Scrape => plain(answer::full(StatusCode::OK, "text/plain; version=0.0.4", (front.scrape)())),
        _ if is_draining => {
            refuse(body);
            Err(Failure::from(Unavailable::Draining).into())
        }
        Route::Records(segment) => records(front, connection, parts, body, segment).await,
        Route::FirstForm(basin, stream) => {
            first_form(front, connection, parts, body, basin, stream).await.map(|answer| (None, answer))
        }
        Route::Tail(segment) => tail(front, parts, segment).await.map(|answer| (None, answer)),
        Route::Basins
        | Route::Basin(_)
        | Route::Streams
        | Route::Stream(_)
        | Route::Lease(_)
        | Route::AccessTokens
        | Route::AccessToken(_)
        | Route::Usage(..)
        | Route::Locations
        | Route::DefaultLocation => control(front, connection, parts, body, route).await.map(|answer| (None, answer)),
    };
    (row, answered)
}

async fn records(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    segment: &str,
) -> Answered {
    let stream = stream_name(segment).and_then(|name| {
        let basin = basin_of(front, parts, Route::Records(segment))?;
        Ok((basin, name))
    });
    let (row, answer) = if parts.method == Method::POST {
        append::append(front, connection, parts, body, stream).await?
    } else {
        let (basin, name) = stream?;
        read::read(front, connection, parts, &basin, name).await?
    };
    Ok((Some(row), answer))
}

async fn first_form(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    basin: &str,
    stream: &str,
) -> Result<Answer, ApiError> {
    let stream = stream_name(stream).and_then(|name| {
        let basin = front.router.basin_named(&basin_name(basin)?)?;
        front.meters.basin((basin.id, &basin.name), Meter::operation(APPEND), 1);
        Ok((basin, name))
    });
    append::first_form(front, connection, parts, body, stream).await
}

async fn tail(front: &Front, parts: &Parts, segment: &str) -> Result<Answer, ApiError> {
    let name = stream_name(segment)?;
    let basin = basin_of(front, parts, Route::Tail(segment))?;
    read::check_tail(front, &basin, name).await
}

async fn control(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    route: Route<'_>,
) -> Result<Answer, ApiError> {
    let encoding = negotiate::content_encoding(header(&parts.headers, CONTENT_ENCODING))?;
    let body = if parts.method == Method::GET || parts.method == Method::DELETE {
        Bytes::new()
    } else {
        let limit = BodyLimit { bytes_max: CONTROL_BYTES_MAX, code: Code::BadJson };
        read_body(&front.budgets.bodies, connection, body, encoding, limit).await?.bytes
    };
    let basin = || basin_of(front, parts, route);
    if !matches!(route, Route::Streams | Route::Stream(_)) {
        route.operation(&parts.method).into_iter().for_each(|number| front.meters.account(Meter::operation(number)));
    }
    let request = Request { front, parts, body };
    match route {
        Route::Basins => request.basins().await,
        Route::Basin(segment) => request.basin(segment).await,
        Route::Streams => request.streams(&*basin()?).await,
        Route::Stream(segment) => {
            let name = stream_name(segment)?;
            request.stream(&*basin()?, name).await
        }
        Route::Lease(segment) => {
            let name = stream_name(segment)?;
            lease::serve(front, parts, &request.body, &*basin()?, name).await
        }
        Route::AccessTokens => request.access_tokens(),
        Route::AccessToken(segment) => request.access_token(segment),
        Route::Usage(basin, stream) => request.usage(basin, stream).await,
        Route::Locations => Ok(request.locations()),
        Route::DefaultLocation => request.default_location(),
        Route::Health | Route::Scrape | Route::Records(_) | Route::Tail(_) | Route::FirstForm(..) => {
            unreachable!("these are no control-plane routes")
        }
    }
}

/// The basin that a request means, for which it is metered as well.
fn basin_of(front: &Front, parts: &Parts, route: Route<'_>) -> Result<Arc<BasinInfo>, ApiError> {
    let basin = front.router.basin(&parts.headers, parts.uri.authority().map(http::uri::Authority::as_str))?;
    if let Some(number) = route.operation(&parts.method) {
        front.meters.basin((basin.id, &basin.name), Meter::operation(number), 1);
    }
    Ok(basin)
}

/// The number of the operation.
const APPEND: u8 = 15;

/// The request is answered without its body; the rest of it is read so that the client sees the answer.
fn refuse(body: Incoming) {
    if !http_body::Body::is_end_stream(&body) {
        tokio::task::spawn_local(drain(body));
    }
}
