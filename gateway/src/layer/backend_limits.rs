//! How much of one backend the requests under way take together: its places and its share of memory. So one storage that
//! is slow does not take all that there is from the others.

use std::sync::Arc;

use t2gate_backends::Routes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

use super::{
    memory_budget::{MemoryBudget, need},
    parse::Parsed,
    reserve::{self, Exhausted, Pool, Reserve},
};
use crate::s3::Operation;

/// What one backend has for requests on its buckets.
#[derive(Debug, Clone)]
pub struct BackendLimit {
    requests: Option<Arc<Semaphore>>,
    memory: Option<MemoryBudget>,
}

impl BackendLimit {
    /// Requests at a time, and bytes of memory; `None` is no limit beside that of all requests.
    pub fn new(requests: Option<usize>, memory: Option<u64>) -> Self {
        Self {
            requests: requests.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            memory: memory.map(MemoryBudget::new),
        }
    }

    /// A place and `bytes` of memory, where there are bounds to them. `None`: there is no more of one of them.
    fn reserve(&self, bytes: u64) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut reserved = Vec::new();
        if let Some(requests) = &self.requests {
            reserved.push(requests.clone().try_acquire_owned().ok()?);
        }
        if let Some(memory) = &self.memory {
            reserved.push(memory.reserve(bytes)?);
        }
        Some(reserved)
    }
}

/// The limits of all backends, by their numbers in the routes.
#[derive(Debug, Clone)]
pub struct BackendLimits {
    routes: Arc<Routes>,
    limits: Arc<[BackendLimit]>,
}

impl BackendLimits {
    pub fn new(routes: Routes, limits: impl IntoIterator<Item = BackendLimit>) -> Self {
        Self {
            routes: Arc::new(routes),
            limits: limits.into_iter().collect(),
        }
    }

    /// What an operation takes of the backend of its bucket, and of that of its source if that is another one. One that
    /// names no bucket asks all of them, and takes from none.
    fn reserve(&self, operation: &Operation, bytes: u64) -> Option<Vec<OwnedSemaphorePermit>> {
        let bucket = operation.bucket().map(|bucket| self.routes.store_of(bucket));
        let source = operation
            .copy_source()
            .map(|source| self.routes.store_of(&source.bucket));
        let mut reserved = Vec::new();
        for backend in bucket.into_iter().chain(source.filter(|_| source != bucket)) {
            if let Some(limit) = self.limits.get(backend) {
                reserved.extend(limit.reserve(bytes)?);
            }
        }
        Some(reserved)
    }
}

impl Pool<Parsed> for BackendLimits {
    type Taken = Vec<OwnedSemaphorePermit>;

    fn take(&self, request: &Parsed) -> Result<Option<Vec<OwnedSemaphorePermit>>, Exhausted> {
        let bytes = need(&request.operation, &request.body);
        let reserved = self.reserve(&request.operation, bytes).ok_or(Exhausted)?;
        Ok(Some(reserved).filter(|reserved| !reserved.is_empty()))
    }
}

/// Reserves until [both bodies](reserve) have ended.
pub fn layer<S>(limits: BackendLimits) -> impl Layer<S, Service = Reserve<S, BackendLimits>> + Clone {
    reserve::layer(limits)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use http_body_util::BodyExt as _;
    use t2gate_backends::{BucketName, BucketPattern, Key, ObjectRef, PartNumber, UploadId, UploadRef};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        layer::memory_budget::parsed_for_tests as parsed,
        s3::{
            S3ErrorCode,
            encode::{self, ResponseBody},
            operation::{CopySource, ListBuckets, UploadPartCopy},
        },
    };

    /// `logs-*` lies in the second of two backends.
    fn limits(first: BackendLimit, second: BackendLimit) -> BackendLimits {
        let logs = BucketPattern::parse("logs-*").unwrap();
        BackendLimits::new(Routes::new(vec![(logs, 1)]), [first, second])
    }

    fn unlimited() -> BackendLimit {
        BackendLimit::new(None, None)
    }

    fn bucket(name: &str) -> BucketName {
        BucketName::parse(name).unwrap()
    }

    fn head(name: &str) -> Operation {
        Operation::HeadBucket(bucket(name))
    }

    fn copy(source: &str, to: &str) -> Operation {
        let key = Key::parse("key").unwrap();
        Operation::UploadPartCopy(UploadPartCopy {
            upload: UploadRef {
                bucket: bucket(to),
                key: key.clone(),
                upload_id: UploadId::random().unwrap(),
            },
            part_number: PartNumber::new(1).unwrap(),
            source: CopySource {
                object: ObjectRef {
                    bucket: bucket(source),
                    key,
                    version_id: None,
                },
                condition: t2gate_backends::ReadCondition::default(),
            },
            range: None,
        })
    }

    async fn ask(limits: &BackendLimits, operation: Operation) -> Result<Response<ResponseBody>, S3ErrorCode> {
        let inner = service_fn(|_: Parsed| async { Ok(Response::new(encode::full(Bytes::from_static(b"answer")))) });
        let answer = layer(limits.clone()).layer(inner).oneshot(parsed(operation)).await;
        answer.map_err(|error| error.code())
    }

    #[tokio::test]
    async fn a_backend_that_is_full_leaves_the_others_alone() {
        let limits = limits(unlimited(), BackendLimit::new(Some(2), None));
        let first = ask(&limits, head("logs-a")).await.unwrap();
        let _second = ask(&limits, head("logs-b")).await.unwrap();
        assert_eq!(ask(&limits, head("logs-a")).await.unwrap_err(), S3ErrorCode::SlowDown);
        ask(&limits, head("data")).await.unwrap();
        let every = ListBuckets {
            prefix: "".into(),
            start_after: None,
            max_buckets: None,
            bucket_region: None,
        };
        ask(&limits, Operation::ListBuckets(every)).await.unwrap();
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "answer");
        ask(&limits, head("logs-a")).await.unwrap();
    }

    #[tokio::test]
    async fn a_backend_has_its_share_of_memory() {
        // As much as one copy takes.
        let limits = limits(BackendLimit::new(None, Some(512 * 1024)), unlimited());
        let held = ask(&limits, copy("data", "data")).await.unwrap();
        assert_eq!(ask(&limits, head("data")).await.unwrap_err(), S3ErrorCode::SlowDown);
        ask(&limits, copy("logs-a", "logs-b")).await.unwrap();
        drop(held);
        ask(&limits, head("data")).await.unwrap();
    }

    #[tokio::test]
    async fn a_copy_takes_a_place_in_both_backends_and_one_where_they_are_the_same() {
        let one = || BackendLimit::new(Some(1), None);
        let limits = limits(one(), one());
        let held = ask(&limits, copy("data", "logs-a")).await.unwrap();
        for full in ["data", "logs-a"] {
            assert_eq!(ask(&limits, head(full)).await.unwrap_err(), S3ErrorCode::SlowDown);
        }
        drop(held);
        ask(&limits, copy("data", "data-2")).await.unwrap();
        // What is refused for one of them gives the other back.
        let held = ask(&limits, head("logs-a")).await.unwrap();
        assert_eq!(
            ask(&limits, copy("logs-a", "data")).await.unwrap_err(),
            S3ErrorCode::SlowDown
        );
        ask(&limits, head("data")).await.unwrap();
        drop(held);
    }

    #[tokio::test]
    async fn a_place_is_held_while_the_requests_body_may_be_read() {
        let limits = limits(BackendLimit::new(Some(1), None), unlimited());
        let inner = service_fn(|_: Parsed| async { Ok(Response::new(encode::full(Bytes::new()))) });
        let request = parsed(head("data"));
        let body = request.body.body.clone();
        drop(layer(limits.clone()).layer(inner).oneshot(request).await.unwrap());
        assert_eq!(ask(&limits, head("data")).await.unwrap_err(), S3ErrorCode::SlowDown);
        drop(body);
        ask(&limits, head("data")).await.unwrap();
    }
}
