//! Layers that decide at once: a request of one kind in, a request of the next kind out, or a refusal.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::s3::S3Error;

/// What such a layer does. It must not wait for anything.
pub trait Step<Request> {
    /// What the next layer gets: the proof that this one was passed.
    type Next;

    fn step(&self, request: Request) -> Result<Self::Next, S3Error>;
}

/// Makes a [`Step`] a layer.
#[derive(Debug)]
pub struct StepLayer<P>(Arc<P>);

impl<P> StepLayer<P> {
    pub fn new(step: P) -> Self {
        Self(Arc::new(step))
    }
}

impl<P> Clone for StepLayer<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P, S> Layer<S> for StepLayer<P> {
    type Service = StepService<P, S>;

    fn layer(&self, inner: S) -> Self::Service {
        StepService {
            step: self.0.clone(),
            inner,
        }
    }
}

/// A [`Step`] in front of a service.
#[derive(Debug)]
pub struct StepService<P, S> {
    step: Arc<P>,
    inner: S,
}

impl<P, S: Clone> Clone for StepService<P, S> {
    fn clone(&self) -> Self {
        Self {
            step: self.step.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<P, S, Request> Service<Request> for StepService<P, S>
where
    P: Step<Request>,
    S: Service<P::Next, Error = S3Error>,
{
    type Response = S::Response;
    type Error = S3Error;
    type Future = Either<Ready<Result<S::Response, S3Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.step.step(request) {
            Ok(next) => Either::Right(self.inner.call(next)),
            Err(refusal) => Either::Left(ready(Err(refusal))),
        }
    }
}
