//! A layer that takes something for each request, or refuses it before any of its body is read. What was taken is held
//! until both bodies have ended: the answer's, not just its headers, and the request's, which a write may still be reading
//! when its client has gone.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use tower::{Layer, Service};

use super::{parse::Parsed, respond::Received, watched_body::WatchedBody};
use crate::{
    body::RequestBody,
    s3::{S3Error, S3ErrorCode, encode::ResponseBody},
};

/// There is not enough of it at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

/// Something that requests take and give back.
pub trait Pool<R>: Clone + Send + 'static {
    /// Given back when it is dropped.
    type Taken: Send + Sync + 'static;

    /// What `request` needs; `None`: nothing. Does not wait.
    fn take(&self, request: &R) -> Result<Option<Self::Taken>, Exhausted>;
}

/// A request with its body.
pub trait Carries {
    fn body(&self) -> &RequestBody;
}

impl Carries for Received {
    fn body(&self) -> &RequestBody {
        &self.body
    }
}

impl Carries for Parsed {
    fn body(&self) -> &RequestBody {
        &self.body.body
    }
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Reserve<S, P> {
    inner: S,
    pool: P,
}

/// Takes from `pool`, or refuses with `SlowDown`.
pub fn layer<S, P: Clone>(pool: P) -> impl Layer<S, Service = Reserve<S, P>> + Clone {
    tower::layer::layer_fn(move |inner| Reserve {
        inner,
        pool: pool.clone(),
    })
}

impl<R, S, P> Service<R> for Reserve<S, P>
where
    R: Carries,
    P: Pool<R>,
    S: Service<R, Response = Response<ResponseBody>, Error = S3Error>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S3Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S3Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let taken = match self.pool.take(&request) {
            Ok(Some(taken)) => Arc::new(taken),
            Ok(None) => return Box::pin(self.inner.call(request)),
            Err(Exhausted) => {
                let refusal = S3Error::new(S3ErrorCode::SlowDown, "Please reduce your request rate.");
                return Box::pin(async { Err(refusal) });
            }
        };
        request.body().keep_alive(taken.clone());
        let future = self.inner.call(request);
        Box::pin(async move {
            let (parts, body) = future.await?.into_parts();
            let body = WatchedBody::new(body, move |_| drop(taken));
            Ok(Response::from_parts(parts, ResponseBody::new(body)))
        })
    }
}
