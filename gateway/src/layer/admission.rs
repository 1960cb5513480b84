//! How many requests run at once. Over the limit a request is refused before any of its body is read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::{respond::Received, watched_body::WatchedBody};
use crate::s3::{S3Error, S3ErrorCode, encode::ResponseBody};

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Admission<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

/// Admits `max_requests` at once. A permit is held until the response's body has ended, not just its headers, and until
/// the last handle on the request's body is gone.
pub fn layer<S>(max_requests: usize) -> impl Layer<S, Service = Admission<S>> + Clone {
    let permits = Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS)));
    tower::layer::layer_fn(move |inner| Admission {
        inner,
        permits: permits.clone(),
    })
}

impl<S> Service<Received> for Admission<S>
where
    S: Service<Received, Response = Response<ResponseBody>, Error = S3Error>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S3Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S3Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Received) -> Self::Future {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let refusal = S3Error::new(S3ErrorCode::SlowDown, "Please reduce your request rate.");
            return Box::pin(async { Err(refusal) });
        };
        // A write goes on when its client has gone: it counts until it is done.
        let permit = Arc::new(permit);
        request.body.keep_alive(permit.clone());
        let future = self.inner.call(request);
        Box::pin(async move {
            let (parts, body) = future.await?.into_parts();
            let body = WatchedBody::new(body, move |_| drop(permit));
            Ok(Response::from_parts(parts, ResponseBody::new(body)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::{BodyExt as _, Empty};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        body::{BodyPace, BoxBody, RequestBody},
        layer::record::RequestRecord,
        s3::encode,
    };

    fn received() -> Received {
        let pace = BodyPace {
            idle_timeout: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            min_bytes_per_second: 0,
        };
        Received {
            parts: Request::new(()).into_parts().0,
            body: RequestBody::new(BoxBody::new(Empty::new().map_err(|never| match never {})), pace),
            record: RequestRecord::default(),
        }
    }

    #[tokio::test]
    async fn a_permit_is_held_until_the_answer_has_been_sent() {
        let service = layer(1).layer(service_fn(|_: Received| async {
            Ok(Response::new(encode::full(Bytes::from_static(b"answer"))))
        }));
        let answer = service.clone().oneshot(received()).await.unwrap();
        let refused = service.clone().oneshot(received()).await.unwrap_err();
        assert_eq!(refused.code(), S3ErrorCode::SlowDown);
        answer.into_body().collect().await.unwrap();
        service.oneshot(received()).await.unwrap();
    }

    #[tokio::test]
    async fn a_permit_is_held_while_work_goes_on_for_a_client_that_has_gone() {
        let (finish, finished) = tokio::sync::watch::channel(false);
        let service = layer(1).layer(service_fn(move |request: Received| {
            let mut finished = finished.clone();
            // As dispatch does with a write.
            let work = tokio::spawn(async move {
                finished.wait_for(|finished| *finished).await.unwrap();
                drop(request);
            });
            async move {
                work.await.unwrap();
                Ok(Response::new(encode::empty()))
            }
        }));
        let gone = tokio::time::timeout(Duration::from_millis(1), service.clone().oneshot(received()));
        gone.await.unwrap_err();
        let refused = service.clone().oneshot(received()).await.unwrap_err();
        assert_eq!(refused.code(), S3ErrorCode::SlowDown);
        finish.send(true).unwrap();
        while service.clone().oneshot(received()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
