//! How much memory the requests under way take together. Over the budget a request is refused before any of its body is
//! read; once let in, it never runs out.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Layer;

use super::{
    parse::Parsed,
    reserve::{self, Exhausted, Pool, Reserve},
};
use crate::{body::UnverifiedBody, limits::MAX_XML_BYTES, s3::Operation};

/// What the budget is counted in.
const UNIT: u64 = 1024;

/// Object bytes on their way: the connection's buffer, pieces being hashed, pieces being written or read ahead.
const STREAM: u64 = 512 * 1024;
/// A list of parts of the greatest size, with what is read out of it; a page of buckets.
const DOCUMENT: u64 = 4 << 20;
/// An entry of a page with a key of the longest, as the storage gives it and percent-encoded in XML.
const LISTED: u64 = 5 * 1024;
/// The same with a version id.
const LISTED_VERSION: u64 = LISTED + 512;
/// An entry of a page with a key of the longest, where the answer is written in one go more.
const LISTED_UPLOAD: u64 = 10 * 1024;
/// The bytes held for each byte of a DeleteObjects document: itself, the keys read out of it, twice, and the answer,
/// which names them again and escapes each `"` in six.
const DELETED: u64 = 10;
/// Headers, an object's attributes, a short answer.
const SMALL: u64 = 64 * 1024;

/// Memory that can be given to requests. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    total: u64,
}

impl MemoryBudget {
    /// `bytes` in whole KiB.
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT).unwrap_or(usize::MAX);
        let units = units.min(Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(units)),
            total: units as u64 * UNIT,
        }
    }

    /// All of it, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What is given out at the moment, in bytes.
    pub fn in_use(&self) -> u64 {
        self.total - self.units.available_permits() as u64 * UNIT
    }

    /// At most all there is: what needs more than that runs alone.
    pub(super) fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.min(self.total).div_ceil(UNIT)).ok()?;
        self.units.clone().try_acquire_many_owned(units).ok()
    }
}

/// The most that an operation holds at any moment, in bytes. It does not depend on the size of the object.
pub(super) fn need(operation: &Operation, body: &UnverifiedBody) -> u64 {
    let entries = |count: usize, bytes: u64| SMALL + bytes * count as u64;
    match operation {
        Operation::DeleteObjects(_) => SMALL + DELETED * body.document_length(MAX_XML_BYTES as u64),
        Operation::ListObjects(list) => entries(list.max_keys, LISTED),
        Operation::ListObjectsV2(list) => entries(list.max_keys, LISTED),
        Operation::ListObjectVersions(list) => entries(list.max_keys, LISTED_VERSION),
        Operation::ListMultipartUploads(list) => entries(list.max_uploads, LISTED_UPLOAD),
        // All parts up to that one are looked at.
        Operation::GetObject(get) | Operation::HeadObject(get) if get.part_number.is_some() => DOCUMENT,
        Operation::PutObject(_)
        | Operation::GetObject(_)
        | Operation::CopyObject(_)
        | Operation::UploadPart(_)
        | Operation::UploadPartCopy(_) => STREAM,
        Operation::CreateBucket(_)
        | Operation::PutBucketAcl(_)
        | Operation::PutBucketVersioning(_)
        | Operation::PutObjectAcl(_)
        | Operation::CompleteMultipartUpload(_)
        | Operation::ListBuckets(_)
        | Operation::ListParts(_)
        | Operation::GetObjectAttributes(_) => DOCUMENT,
        Operation::HeadBucket(_)
        | Operation::DeleteBucket(_)
        | Operation::GetBucketLocation(_)
        | Operation::GetBucketAcl(_)
        | Operation::GetBucketVersioning(_)
        | Operation::GetUnsetBucketConfiguration(..)
        | Operation::DeleteUnsetBucketConfiguration(..)
        | Operation::HeadObject(_)
        | Operation::DeleteObject(_)
        | Operation::GetObjectAcl(_)
        | Operation::GetObjectTagging(_)
        | Operation::GetUnsetObjectLock(..)
        | Operation::CreateMultipartUpload(_)
        | Operation::AbortMultipartUpload(_)
        | Operation::NotImplemented(_) => SMALL,
    }
}

impl Pool<Parsed> for MemoryBudget {
    type Taken = OwnedSemaphorePermit;

    fn take(&self, request: &Parsed) -> Result<Option<OwnedSemaphorePermit>, Exhausted> {
        let permit = self.reserve(need(&request.operation, &request.body));
        permit.map(Some).ok_or(Exhausted)
    }
}

/// Reserves what an operation needs until [both bodies](reserve) have ended.
pub fn layer<S>(budget: MemoryBudget) -> impl Layer<S, Service = Reserve<S, MemoryBudget>> + Clone {
    reserve::layer(budget)
}

#[cfg(test)]
pub(super) use tests::parsed as parsed_for_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Response};
    use http_body_util::{BodyExt as _, Empty};
    use t2gate_backends::BucketName;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        acl::Requester,
        body::{BodyPace, BoxBody, RequestBody, UnverifiedBody},
        layer::record::RequestRecord,
        s3::{
            S3Error, S3ErrorCode,
            encode::{self, ResponseBody},
            operation::{DeleteObjects, ListBuckets},
        },
        sigv4::PayloadMode,
    };

    pub(in crate::layer) fn parsed(operation: Operation) -> Parsed {
        let pace = BodyPace {
            idle_timeout: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            min_bytes_per_second: 0,
        };
        Parsed {
            operation,
            requester: Requester::Anonymous,
            body: UnverifiedBody {
                body: RequestBody::new(BoxBody::new(Empty::new().map_err(|never| match never {})), pace),
                headers: HeaderMap::new(),
                payload: PayloadMode::of_anonymous(&HeaderMap::new()).unwrap(),
                signer: None,
            },
            record: RequestRecord::default(),
        }
    }

    /// Takes [`DOCUMENT`].
    fn document() -> Parsed {
        parsed(Operation::ListBuckets(ListBuckets {
            prefix: "".into(),
            start_after: None,
            max_buckets: None,
            bucket_region: None,
        }))
    }

    fn delete_of(length: Option<u64>) -> Parsed {
        let bucket = BucketName::parse("bucket").unwrap();
        let mut request = parsed(Operation::DeleteObjects(DeleteObjects { bucket }));
        let headers = &mut request.body.headers;
        match length {
            Some(length) => headers.insert("content-length", length.into()),
            None => headers.insert("transfer-encoding", HeaderValue::from_static("chunked")),
        };
        request
    }

    #[tokio::test]
    async fn a_document_takes_what_its_length_says_and_the_most_where_none_is_said() {
        let budget = MemoryBudget::new(64 << 20);
        for (length, expected) in [
            (Some(0), SMALL),
            (Some(1024), SMALL + DELETED * 1024),
            (Some(1 << 40), SMALL + DELETED * MAX_XML_BYTES as u64),
            (None, SMALL + DELETED * MAX_XML_BYTES as u64),
        ] {
            let answer = ask(&budget, delete_of(length)).await.unwrap();
            assert_eq!(budget.in_use(), expected, "{length:?}");
            drop(answer);
            assert_eq!(budget.in_use(), 0);
        }
    }

    #[tokio::test]
    async fn what_needs_more_than_there_is_runs_alone() {
        let budget = MemoryBudget::new(DOCUMENT);
        let answer = ask(&budget, delete_of(None)).await.unwrap();
        assert_eq!(budget.in_use(), DOCUMENT);
        assert_eq!(ask(&budget, document()).await.unwrap_err(), S3ErrorCode::SlowDown);
        drop(answer);
        ask(&budget, document()).await.unwrap();
    }

    async fn ask(budget: &MemoryBudget, request: Parsed) -> Result<Response<ResponseBody>, S3ErrorCode> {
        let inner = service_fn(|_: Parsed| async { Ok(Response::new(encode::full(Bytes::from_static(b"answer")))) });
        let answer = layer(budget.clone()).layer(inner).oneshot(request).await;
        answer.map_err(|error| error.code())
    }

    #[tokio::test]
    async fn memory_is_held_until_the_answer_has_been_sent() {
        let budget = MemoryBudget::new(DOCUMENT);
        let answer = ask(&budget, document()).await.unwrap();
        assert_eq!(budget.in_use(), DOCUMENT);
        assert_eq!(ask(&budget, document()).await.unwrap_err(), S3ErrorCode::SlowDown);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "answer");
        assert_eq!(budget.in_use(), 0);
        ask(&budget, document()).await.unwrap();
    }

    #[tokio::test]
    async fn memory_is_held_while_the_requests_body_may_be_read() {
        let budget = MemoryBudget::new(DOCUMENT);
        let request = document();
        let body = request.body.body.clone();
        drop(ask(&budget, request).await.unwrap());
        assert_eq!(budget.in_use(), DOCUMENT);
        drop(body);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_refusal_gives_back_what_was_reserved() {
        let budget = MemoryBudget::new(DOCUMENT);
        let refuse = service_fn(|_: Parsed| async { Err(S3Error::new(S3ErrorCode::AccessDenied, "no")) });
        let refused = layer(budget.clone()).layer(refuse).oneshot(document()).await;
        assert_eq!(refused.unwrap_err().code(), S3ErrorCode::AccessDenied);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_small_request_fits_where_a_large_one_does_not() {
        let budget = MemoryBudget::new(DOCUMENT + SMALL);
        let head = || parsed(Operation::HeadBucket(BucketName::parse("bucket").unwrap()));
        let large = ask(&budget, document()).await.unwrap();
        let small = ask(&budget, head()).await.unwrap();
        assert_eq!(ask(&budget, head()).await.unwrap_err(), S3ErrorCode::SlowDown);
        assert_eq!((budget.in_use(), budget.total()), (DOCUMENT + SMALL, DOCUMENT + SMALL));
        drop((large, small));
        assert_eq!(budget.in_use(), 0);
    }
}
