//! How many requests run at once. Over the limit a request is refused before any of its body is read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

use super::{
    reserve::{self, Exhausted, Pool, Reserve},
    respond::Received,
};

/// Room for so many requests.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Pool<Received> for Places {
    type Taken = OwnedSemaphorePermit;

    fn take(&self, _: &Received) -> Result<Option<OwnedSemaphorePermit>, Exhausted> {
        self.0.clone().try_acquire_owned().map(Some).map_err(|_| Exhausted)
    }
}

/// Admits `max_requests` at once, each until [both its bodies](reserve) have ended.
pub fn layer<S>(max_requests: usize) -> impl Layer<S, Service = Reserve<S, Places>> + Clone {
    let places = Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS));
    reserve::layer(Places(Arc::new(places)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        body::{BodyPace, BoxBody, RequestBody},
        layer::record::RequestRecord,
        s3::{S3ErrorCode, encode},
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
