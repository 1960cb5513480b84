//! One line in the log for each request, and its share in the metrics, when its answer has ended.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header::CONTENT_LENGTH};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{Span, info};

use super::{
    counted_body::CountedBody,
    record::RequestRecord,
    watched_body::{BodyEnd, WatchedBody},
};
use crate::{
    metrics::{Metrics, OpenRequest},
    s3::{S3ErrorCode, encode::ResponseBody},
    server::ConnectionInfo,
};

/// What every access line is logged as, so that a filter can tell it from the rest.
pub const ACCESS: &str = "t2gate::access";

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Telemetry<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

/// Expects a [`RequestRecord`] in each request's extensions.
pub fn layer<S>(metrics: Arc<Metrics>) -> impl Layer<S, Service = Telemetry<S>> + Clone {
    tower::layer::layer_fn(move |inner| Telemetry {
        inner,
        metrics: metrics.clone(),
    })
}

impl<S, B> Service<Request<B>> for Telemetry<S>
where
    S: Service<Request<CountedBody<B>>, Response = Response<ResponseBody>>,
    S::Future: Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let record = request.extensions().get::<RequestRecord>().cloned().unwrap_or_default();
        let mut exchange = Exchange {
            start: Instant::now(),
            method: request.method().clone(),
            peer: request.extensions().get::<ConnectionInfo>().map(|info| info.peer),
            answer: None,
            end: None,
            open: Some(self.metrics.request(record.clone())),
            record: record.clone(),
            span: Span::current(),
        };
        let received = self.metrics.received_bytes();
        let sent = self.metrics.sent_bytes();
        let future = self
            .inner
            .call(request.map(|body| CountedBody::new(body, record, received)));
        Box::pin(async move {
            let (parts, body) = future.await?.into_parts();
            exchange.answered(parts.status);
            let announced = parts.headers.get(CONTENT_LENGTH);
            let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
            let body = WatchedBody::new(body, move |end| exchange.ended(end))
                .announced(announced)
                .counted(sent);
            Ok(Response::from_parts(parts, ResponseBody::new(body)))
        })
    }
}

/// A request from its headers to the end of its answer. Tells of it when it is dropped, which may be early: a client can
/// go away at any time.
#[derive(Debug)]
struct Exchange {
    start: Instant,
    method: Method,
    peer: Option<SocketAddr>,
    /// The status, and how long it took.
    answer: Option<(StatusCode, Duration)>,
    end: Option<BodyEnd>,
    open: Option<OpenRequest>,
    record: RequestRecord,
    span: Span,
}

impl Exchange {
    fn answered(&mut self, status: StatusCode) {
        let first_byte = self.start.elapsed();
        self.answer = Some((status, first_byte));
        if let Some(open) = &mut self.open {
            open.answered(status, first_byte);
        }
    }

    fn ended(mut self, end: BodyEnd) {
        // Behind a status that said otherwise.
        if end.failed {
            self.record.set_code(S3ErrorCode::InternalError);
        }
        self.end = Some(end);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let total = self.start.elapsed();
        if let Some(open) = self.open.take() {
            open.ended(total);
        }
        let (record, end) = (&self.record, self.end);
        let _entered = self.span.enter();
        info!(
            target: ACCESS,
            method = self.method.as_str(),
            operation = record.operation().unwrap_or("-"),
            bucket = record.bucket().unwrap_or("-"),
            key = record.key().unwrap_or("-"),
            access_key_id = record.access_key_id().unwrap_or("-"),
            peer = self.peer.map(|peer| tracing::field::display(peer.ip())),
            client = record.client().map(tracing::field::display),
            status = self.answer.map(|(status, _)| status.as_u16()),
            code = record.code().map(|code| code.as_str()),
            bytes_in = record.received_bytes(),
            bytes_out = end.map_or(0, |end| end.bytes),
            complete = end.is_some_and(|end| end.complete),
            first_byte_ms = self.answer.map(|(_, first_byte)| millis(first_byte)),
            total_ms = millis(total),
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
