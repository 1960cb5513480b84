//! The layers in order, outermost first. A request passes them from top to bottom, its answer from bottom to top.

use std::{convert::Infallible, error::Error, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use t2gate_backends::Backend;
use tower::{Service, ServiceBuilder};

use crate::{
    dialect::Dialect,
    dispatch::{self, Dispatch, Writes},
    layer::{
        admission, authenticate, authorize,
        backend_limits::{self, BackendLimits},
        memory_budget::{self, MemoryBudget},
        parse,
        rate_limit::{self, RateLimits},
        request_id, respond, route, telemetry,
    },
    metrics::Metrics,
    s3::encode::ResponseBody,
};

/// What each layer is set up with.
#[derive(Debug)]
pub struct Parts {
    pub dialect: Dialect,
    pub respond: respond::Settings,
    /// Requests at once.
    pub max_requests: usize,
    /// Bytes at once.
    pub memory: MemoryBudget,
    /// Of each backend.
    pub backend_limits: BackendLimits,
    pub rate_limits: Arc<RateLimits>,
    pub metrics: Arc<Metrics>,
    pub route: route::Route,
    pub authenticate: authenticate::Authenticate,
    pub dispatch: dispatch::Settings,
    pub backend: Arc<dyn Backend>,
    /// Those that the service begins.
    pub writes: Writes,
}

/// The whole service for one connection's requests. Fails where the system has no random numbers to give.
pub fn stack<B>(
    parts: Parts,
) -> Result<
    impl Service<Request<B>, Response = Response<ResponseBody>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    getrandom::Error,
>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Ok(ServiceBuilder::new()
        // First, so that whatever is logged below carries the id.
        .layer(request_id::layer()?)
        // Outside of everything that refuses, so that refusals are counted too.
        .layer(telemetry::layer(parts.metrics))
        // Below here errors are S3Errors; above they are answers.
        .layer(respond::layer(parts.respond))
        // Before anything is spent on a request.
        .layer(admission::layer(parts.max_requests))
        // Before a signature is looked at, for that costs more than an address.
        .layer(rate_limit::by_address(parts.rate_limits.clone()))
        // One host, for the signature and for the bucket alike.
        .layer(route::layer(parts.route))
        // Before parsing: nobody unknown learns what is understood.
        .layer(authenticate::layer(parts.authenticate))
        // Nobody uses up another's tokens: the signature was good.
        .layer(rate_limit::by_key(parts.rate_limits.clone()))
        .layer(parse::layer(parse::Parse { dialect: parts.dialect }))
        // Now it is known whether it reads, writes or lists, and how much memory that takes.
        .layer(rate_limit::by_class(parts.rate_limits))
        .layer(memory_budget::layer(parts.memory))
        // Of what there is for all, a backend with limits gives its own buckets so much.
        .layer(backend_limits::layer(parts.backend_limits))
        // The one way to a Permitted, which is all that dispatch takes.
        .layer(authorize::layer(parts.backend.clone(), parts.dialect))
        .service(Dispatch::new(parts.backend, parts.dispatch, parts.writes)))
}
