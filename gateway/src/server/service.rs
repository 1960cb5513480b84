//! Between hyper and the stack: says where a request came from, and keeps count of requests until their bodies end.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};

use super::{ConnectionInfo, activity::Activity};

/// The service of one connection.
#[derive(Debug)]
pub(super) struct ConnectionService<S> {
    inner: S,
    info: ConnectionInfo,
    activity: Arc<Activity>,
    requests: AtomicU64,
}

impl<S> ConnectionService<S> {
    pub(super) fn new(inner: S, info: ConnectionInfo, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            info,
            activity,
            requests: AtomicU64::new(0),
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<WatchedBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let running = Running::new(Arc::clone(&self.activity), self.requests.fetch_add(1, Relaxed));
        request.extensions_mut().insert(self.info.clone());
        let answer = self.inner.clone().oneshot(request);
        Box::pin(async move { Ok(answer.await?.map(|inner| WatchedBody { inner, running })) })
    }
}

/// A request that runs, until this is dropped.
#[derive(Debug)]
struct Running {
    activity: Arc<Activity>,
    number: u64,
}

impl Running {
    fn new(activity: Arc<Activity>, number: u64) -> Self {
        activity.request_started();
        Self { activity, number }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.activity.request_ended(self.number, Instant::now());
    }
}

pin_project! {
    /// A response's body that tells when it is asked, when it gives, and when it is over.
    #[derive(Debug)]
    pub(super) struct WatchedBody<B> {
        #[pin]
        inner: B,
        running: Running,
    }
}

impl<B: Body> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.running.activity.body_polled(this.running.number);
        let frame = this.inner.poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = frame {
            this.running.activity.body_gave(this.running.number, Instant::now());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
