//! How many requests run at once. Over the limit a request is refused before any of its body is read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::watched_body::WatchedBody;
use crate::s3::{S3Error, S3ErrorCode, encode::ResponseBody};

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

/// Admits `max_requests` at once. A permit is held until the response's body has ended, not just its headers.
pub fn layer<S>(max_requests: usize) -> impl Layer<S, Service = Admission<S>> + Clone {
    let permits = Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)));
    tower::layer::layer_fn(move |inner| Admission {
        inner,
        permits: permits.clone(),
    })
}

impl<S, R> Service<R> for Admission<S>
where
    S: Service<R, Response = Response<ResponseBody>, Error = S3Error>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S3Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S3Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let refusal = S3Error::new(S3ErrorCode::SlowDown, "Please reduce your request rate.");
            return Box::pin(async { Err(refusal) });
        };
        let future = self.inner.call(request);
        Box::pin(async move {
            let (parts, body) = future.await?.into_parts();
            let body = WatchedBody::new(body, move |_| drop(permit));
            Ok(Response::from_parts(parts, ResponseBody::new(body)))
        })
    }
}
