//! One line in the log for each request, when its answer has ended.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{Span, info};

use super::{record::RequestRecord, watched_body::WatchedBody};
use crate::{s3::encode::ResponseBody, server::ConnectionInfo};

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Telemetry<S> {
    inner: S,
}

/// Expects a [`RequestRecord`] in each request's extensions.
pub fn layer<S>() -> impl Layer<S, Service = Telemetry<S>> + Clone {
    tower::layer::layer_fn(|inner| Telemetry { inner })
}

impl<S, B> Service<Request<B>> for Telemetry<S>
where
    S: Service<Request<B>, Response = Response<ResponseBody>>,
    S::Future: Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let start = Instant::now();
        let record = request.extensions().get::<RequestRecord>().cloned().unwrap_or_default();
        let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer);
        let method = request.method().clone();
        let future = self.inner.call(request);
        let span = Span::current();
        Box::pin(async move {
            let (parts, body) = future.await?.into_parts();
            let status = parts.status.as_u16();
            let first_byte = start.elapsed();
            let body = WatchedBody::new(body, move |end| {
                let _entered = span.enter();
                info!(
                    target: "t2gate::access",
                    method = method.as_str(),
                    operation = record.operation().unwrap_or("-"),
                    bucket = record.bucket().unwrap_or("-"),
                    key = record.key().unwrap_or("-"),
                    access_key_id = record.access_key_id().unwrap_or("-"),
                    peer = peer.map(|peer| tracing::field::display(peer.ip())),
                    status,
                    code = record.code().map(|code| code.as_str()),
                    bytes_out = end.bytes,
                    complete = end.complete,
                    first_byte_ms = millis(first_byte),
                    total_ms = millis(start.elapsed()),
                );
            });
            Ok(Response::from_parts(parts, ResponseBody::new(body)))
        })
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
