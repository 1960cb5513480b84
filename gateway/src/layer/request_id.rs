//! Gives every request an id: in the answer's headers, in every line of the log, and in the body of an error.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::Map};
use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument as _, error_span, instrument::Instrumented};

use super::record::RequestRecord;

const X_AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const X_AMZ_ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");

/// Unique among all requests of all gateways, for all practical purposes: 48 random bits of the process, then a
/// counter, which makes the lines of a log sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds a [`RequestId`] and a [`RequestRecord`] to each request's extensions.
#[derive(Debug, Clone)]
pub struct RequestIds<S> {
    inner: S,
    counter: std::sync::Arc<Counter>,
}

#[derive(Debug)]
struct Counter {
    process: u64,
    next: AtomicU64,
}

impl Counter {
    fn next(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{:012x}-{count:016x}", self.process))
    }
}

/// Fails where the system has no random numbers to give.
pub fn layer<S>() -> Result<impl Layer<S, Service = RequestIds<S>> + Clone, getrandom::Error> {
    let random = getrandom::u64()?;
    let counter = std::sync::Arc::new(Counter {
        process: random >> 16,
        next: AtomicU64::new(0),
    });
    Ok(tower::layer::layer_fn(move |inner| RequestIds {
        inner,
        counter: counter.clone(),
    }))
}

type Stamp<R, E> = Box<dyn FnOnce(Result<R, E>) -> Result<R, E> + Send>;

impl<S, B, D> Service<Request<B>> for RequestIds<S>
where
    S: Service<Request<B>, Response = Response<D>>,
{
    type Response = Response<D>;
    type Error = S::Error;
    type Future = Map<Instrumented<S::Future>, Stamp<Response<D>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = self.counter.next();
        // Of the highest level, so that no filter takes the id from the lines that it lets through.
        let span = error_span!("request", id = id.as_str());
        let value = HeaderValue::from_str(id.as_str());
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(RequestRecord::default());
        let stamp: Stamp<Response<D>, S::Error> = Box::new(move |result| {
            result.map(|mut response| {
                if let Ok(value) = value {
                    response.headers_mut().insert(X_AMZ_ID_2, value.clone());
                    response.headers_mut().insert(X_AMZ_REQUEST_ID, value);
                }
                response
            })
        });
        let future = span.in_scope(|| self.inner.call(request));
        future.instrument(span).map(stamp)
    }
}
