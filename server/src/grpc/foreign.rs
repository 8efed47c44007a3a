//! Services that are not ours, as tonic has them: health (which follows the drain) and reflection, v1 and v1alpha.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::ApiError;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use model::{Failure, Unavailable};
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::codegen::Service;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::body::{GrpcBody, Kind};
use super::refused::Refused;
use super::{begun, rpc};
use crate::access::Access;
use crate::http::answer::Answer;
use crate::http::payload::Kind as PayloadKind;
use crate::http::session::Place;
use crate::http::watch::Connection;
use crate::http::{Front, Phase};

/// The services of one front.
pub(crate) struct Services {
    services: Vec<(&'static str, RefCell<Serve>)>,
    reporter: HealthReporter,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;
type Serve = Box<dyn FnMut(Request<Incoming>) -> Answering>;

impl Services {
    /// Healthy, and able to tell what is served.
    ///
    /// # Errors
    /// When the descriptors do not fit each other, which is our mistake.
    pub(crate) async fn new() -> Result<Self, tonic_reflection::server::Error> {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(api::grpc::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        // Clients that compress do so whatever they call.
        let health =
            health.accept_compressed(Gzip).accept_compressed(Zstd).max_decoding_message_size(REQUEST_BYTES_MAX);
        let v1 = builder().build_v1()?.accept_compressed(Gzip).accept_compressed(Zstd);
        let v1 = v1.max_decoding_message_size(REQUEST_BYTES_MAX);
        let v1alpha = builder().build_v1alpha()?.accept_compressed(Gzip).accept_compressed(Zstd);
        let v1alpha = v1alpha.max_decoding_message_size(REQUEST_BYTES_MAX);
        let services = vec![
            ("/grpc.health.v1.Health/", RefCell::new(boxed(health))),
            ("/grpc.reflection.v1.ServerReflection/", RefCell::new(boxed(v1))),
            ("/grpc.reflection.v1alpha.ServerReflection/", RefCell::new(boxed(v1alpha))),
        ];
        let services = Self { services, reporter };
        services.report(ServingStatus::Serving).await;
        Ok(services)
    }

    /// Tells those who watch the health that the front is on its way out.
    pub(crate) async fn drain(&self) {
        self.report(ServingStatus::NotServing).await;
    }

    async fn report(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        for service in rpc::SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

fn boxed<S>(mut service: S) -> Serve
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + 'static,
    S::Future: 'static,
{
    Box::new(move |request| Box::pin(service.call(request)))
}

/// Answers a call that is none of the package. No access token is needed: nothing is told that the documentation does not
/// say. Whoever stays has a place among the sessions.
///
/// # Errors
/// When there is no such method, or no place.
pub(crate) async fn serve(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
) -> Result<Answer, Refused> {
    let path = parts.uri.path();
    let Some((_, service)) = front.services.services.iter().find(|(prefix, _)| path.starts_with(prefix)) else {
        return Err(Refused::no_such_method(path));
    };
    let stays = !matches!(path, "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/List");
    let place = stays.then(|| front.sessions.enter(&front.watch, connection)).transpose()?;
    let answering = service.borrow_mut()(Request::from_parts(parts.clone(), body));
    let Ok(answered) = tokio::time::timeout(REQUEST_TIME_MAX, answering).await else {
        return Err(Refused::too_late(false));
    };
    let (answered, body) = answered.unwrap_or_else(|never| match never {}).into_parts();
    // An answer that has nothing but a status ends with its head.
    let kind = if body.is_end_stream() {
        PayloadKind::Empty
    } else {
        let foreign = Foreign { body, place, front: Rc::clone(front) };
        PayloadKind::Grpc(Box::new(GrpcBody::new(Kind::Foreign(Box::new(foreign)), None, &Access::Open)))
    };
    let mut answer = begun(kind);
    *answer.headers_mut() = answered.headers;
    Ok(answer)
}

/// What such a service answers.
pub(crate) struct Foreign {
    body: Body,
    /// For those that stay.
    place: Option<Place>,
    front: Rc<Front>,
}

impl Foreign {
    /// The next frame.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, ApiError>> {
        if let Some(place) = &self.place {
            place.polled(cx);
        }
        if self.front.phase.get() == Phase::Ending {
            return Poll::Ready(Err(Failure::from(Unavailable::Draining).into()));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(place) = &self.place {
            place.gave();
        }
        Poll::Ready(match frame {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame)),
            Some(Err(status)) => Err(ApiError::new(api::Code::Other, status.message())),
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// Largest message of a request: a name. A larger one is refused.
const REQUEST_BYTES_MAX: usize = 4096;
/// The first message of a request has to come within this time, or the call ends.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
