//! Tells somebody of every call: which, how it went, how long it took.

use std::{
    fmt,
    ops::Range,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use tokio::time::Instant;

use crate::{
    AccountId, Backend, BackendError, BodyError, BodyEvent, BodySource, BucketInfo, BucketName, BucketSetting,
    ByteStream, Capabilities, CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject,
    DeleteObjectOutcome, ListMultipartUploads, ListObjectVersions, ListObjects, ListParts, MultipartUpload, ObjectBody,
    ObjectInfo, ObjectPage, ObjectPart, ObjectReader, ObjectRef, OpenObject, Part, PartNumber, PartPage, PutObject,
    UploadId, UploadPage, UploadRef, VersionPage,
};

/// How a call of a backend went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    Ok,
    /// Something that the contract foresees and the client is told: no such key, a precondition that does not hold, a
    /// body that broke off. The storage is well.
    Refused,
    /// The storage could not do it: it failed, is busy, or takes no writes.
    Failed,
}

impl CallOutcome {
    /// One lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    fn of<T>(result: &Result<T, BackendError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(error) => match error {
                BackendError::NoSuchBucket
                | BackendError::BucketAlreadyExists { .. }
                | BackendError::BucketNotEmpty
                | BackendError::TooManyBuckets { .. }
                | BackendError::NoSuchKey
                | BackendError::NoSuchVersion
                | BackendError::DeleteMarker { .. }
                | BackendError::NoSuchUpload
                | BackendError::PreconditionFailed
                | BackendError::WouldDestroy
                | BackendError::Conflict
                | BackendError::Assemble(_)
                | BackendError::Body(_)
                | BackendError::UnsupportedKey(_)
                | BackendError::NotSupported { .. } => Self::Refused,
                BackendError::Busy { .. } | BackendError::ReadOnly | BackendError::Internal { .. } => Self::Failed,
            },
        }
    }
}

/// Who is told of calls. It must not block.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// `operation` is the name of the method; `read_object` and `read_object_parts` are those of an opened object.
    /// `time` leaves out what the storage waited for a body to come or for its bytes to be taken. A call whose future
    /// is dropped is not told of.
    fn observe(&self, operation: &'static str, outcome: CallOutcome, time: Duration);
}

/// A [`Backend`] that is watched.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Backend>,
    observer: Arc<dyn Observer>,
}

impl Metered {
    pub fn new(inner: Arc<dyn Backend>, observer: Arc<dyn Observer>) -> Self {
        Self { inner, observer }
    }

    async fn observed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, BackendError>> + Send,
    ) -> Result<T, BackendError> {
        let start = Instant::now();
        let result = call.await;
        self.observer
            .observe(operation, CallOutcome::of(&result), start.elapsed());
        result
    }

    /// As [`observed`](Self::observed), for a call that reads a body.
    async fn observed_with_body<T, F>(
        &self,
        operation: &'static str,
        body: ObjectBody,
        call: impl FnOnce(ObjectBody) -> F + Send,
    ) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, BackendError>> + Send,
    {
        let waited = Arc::new(AtomicU64::new(0));
        let body = ObjectBody::new(
            body.length(),
            AwaitedBody {
                body,
                since: None,
                waited: waited.clone(),
            },
        );
        let start = Instant::now();
        let result = call(body).await;
        let waited = Duration::from_nanos(waited.load(Relaxed));
        let time = start.elapsed().saturating_sub(waited);
        self.observer.observe(operation, CallOutcome::of(&result), time);
        result
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Metered {
    fn capabilities(&self, bucket: Option<&BucketName>) -> Capabilities {
        self.inner.capabilities(bucket)
    }

    fn copies_between(&self, source: &BucketName, destination: &BucketName) -> bool {
        self.inner.copies_between(source, destination)
    }

    async fn ready(&self) -> Result<(), BackendError> {
        self.observed("ready", self.inner.ready()).await
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        self.observed("create_bucket", self.inner.create_bucket(request)).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        self.observed("head_bucket", self.inner.head_bucket(bucket)).await
    }

    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        let call = self.inner.list_buckets(owner, prefix, start_after, max);
        self.observed("list_buckets", call).await
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        let call = self.inner.put_bucket_setting(bucket, setting);
        self.observed("put_bucket_setting", call).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        self.observed("delete_bucket", self.inner.delete_bucket(bucket)).await
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        let call = |body| self.inner.put_object(request, body);
        self.observed_with_body("put_object", body, call).await
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        let OpenObject { info, reader } = self.observed("open_object", self.inner.open_object(object)).await?;
        let observer = self.observer.clone();
        let reader = Box::new(MeteredReader { reader, observer });
        Ok(OpenObject { info, reader })
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        self.observed("copy_object", self.inner.copy_object(request)).await
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        self.observed("delete_object", self.inner.delete_object(request)).await
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        self.observed("list_objects", self.inner.list_objects(request)).await
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        self.observed("list_object_versions", self.inner.list_object_versions(request))
            .await
    }

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        let call = self.inner.create_multipart_upload(request);
        self.observed("create_multipart_upload", call).await
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        let call = self.inner.head_multipart_upload(upload);
        self.observed("head_multipart_upload", call).await
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        let call = |body| self.inner.upload_part(upload, part_number, body);
        self.observed_with_body("upload_part", body, call).await
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        let call = self.inner.complete_multipart_upload(request);
        self.observed("complete_multipart_upload", call).await
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        let call = self.inner.abort_multipart_upload(upload);
        self.observed("abort_multipart_upload", call).await
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        self.observed("list_parts", self.inner.list_parts(request)).await
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        let call = self.inner.list_multipart_uploads(request);
        self.observed("list_multipart_uploads", call).await
    }
}

/// A body that adds up how long it was waited for.
struct AwaitedBody {
    body: ObjectBody,
    since: Option<Instant>,
    /// In nanoseconds.
    waited: Arc<AtomicU64>,
}

impl BodySource for AwaitedBody {
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
        // The future may be made anew for each poll, for it is cancel-safe.
        let polled = pin!(self.body.next()).poll(cx);
        if polled.is_pending() {
            self.since.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.since.take() {
            self.waited.fetch_add(nanos(since.elapsed()), Relaxed);
        }
        polled
    }
}

#[derive(Debug)]
struct MeteredReader {
    reader: Box<dyn ObjectReader>,
    observer: Arc<dyn Observer>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectReader for MeteredReader {
    fn read(self: Box<Self>, range: Range<u64>) -> ByteStream {
        Box::pin(MeteredStream {
            stream: self.reader.read(range),
            observer: self.observer,
            outcome: Some(CallOutcome::Ok),
            since: None,
            busy: Duration::ZERO,
        })
    }

    async fn parts(&self, part_number_marker: u16, max_parts: usize) -> Result<Vec<ObjectPart>, BackendError> {
        let start = Instant::now();
        let result = self.reader.parts(part_number_marker, max_parts).await;
        self.observer
            .observe("read_object_parts", CallOutcome::of(&result), start.elapsed());
        result
    }
}

/// Told of when it ends, fails, or is given up.
struct MeteredStream {
    stream: ByteStream,
    observer: Arc<dyn Observer>,
    /// `None` once it was told of.
    outcome: Option<CallOutcome>,
    /// Since when bytes are waited for.
    since: Option<Instant>,
    busy: Duration,
}

impl MeteredStream {
    fn tell(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.observer.observe("read_object", outcome, self.busy);
        }
    }
}

impl Stream for MeteredStream {
    type Item = Result<Bytes, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let polled = self.stream.as_mut().poll_next(cx);
        let Poll::Ready(item) = &polled else {
            return polled;
        };
        self.since = None;
        self.busy += since.elapsed();
        match item {
            Some(Ok(_)) => {}
            Some(result @ Err(_)) => {
                self.outcome = self.outcome.map(|_| CallOutcome::of(result));
                self.tell();
            }
            None => self.tell(),
        }
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl Drop for MeteredStream {
    fn drop(&mut self) {
        self.tell();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::{StreamExt as _, stream};
    use tokio::time::sleep;

    use super::*;
    use crate::{
        BodySummary, CannedAcl, ChecksumAlgorithm, Key, MemoryBackend, ObjectAttributes, SystemClock, WriteCondition,
    };

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<(&'static str, CallOutcome, Duration)>>);

    impl Told {
        fn take(&self) -> Vec<(&'static str, CallOutcome, Duration)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Observer for Told {
        fn observe(&self, operation: &'static str, outcome: CallOutcome, time: Duration) {
            self.0.lock().unwrap().push((operation, outcome, time));
        }
    }

    async fn metered() -> (Metered, Arc<Told>) {
        let told = Arc::new(Told::default());
        let backend = Metered::new(Arc::new(MemoryBackend::new(Arc::new(SystemClock))), told.clone());
        backend
            .create_bucket(CreateBucket {
                bucket: bucket(),
                owner: AccountId::parse("one").unwrap(),
                acl: CannedAcl::Private,
                max_buckets: 100,
                versioning: None,
            })
            .await
            .unwrap();
        assert_eq!(told.take(), [("create_bucket", CallOutcome::Ok, Duration::ZERO)]);
        (backend, told)
    }

    fn bucket() -> BucketName {
        BucketName::parse("bucket").unwrap()
    }

    fn object() -> ObjectRef {
        ObjectRef {
            bucket: bucket(),
            key: Key::parse("key").unwrap(),
            version_id: None,
        }
    }

    fn put() -> PutObject {
        PutObject {
            bucket: bucket(),
            key: Key::parse("key").unwrap(),
            attributes: ObjectAttributes::default(),
            condition: WriteCondition::default(),
            versions: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_client_is_told_is_no_failure_of_the_storage() {
        let (backend, told) = metered().await;
        backend.open_object(&object()).await.unwrap_err();
        assert_eq!(told.take(), [("open_object", CallOutcome::Refused, Duration::ZERO)]);
        let busy: Result<(), _> = Err(BackendError::Busy { context: "test" });
        assert_eq!(CallOutcome::of(&busy), CallOutcome::Failed);
    }

    /// Comes after ten seconds.
    struct Slow(Pin<Box<tokio::time::Sleep>>);

    impl BodySource for Slow {
        fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
            let summary = BodySummary::of(b"", ChecksumAlgorithm::Crc64Nvme);
            self.0.as_mut().poll(cx).map(|()| Ok(BodyEvent::End(summary)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_body_is_not_the_storages_time() {
        let (backend, told) = metered().await;
        let start = Instant::now();
        let slow = Slow(Box::pin(sleep(Duration::from_secs(10))));
        backend.put_object(put(), ObjectBody::new(0, slow)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        assert_eq!(told.take(), [("put_object", CallOutcome::Ok, Duration::ZERO)]);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_is_told_of_once_when_it_ends_or_is_given_up() {
        let (backend, told) = metered().await;
        backend
            .put_object(put(), ObjectBody::from_bytes("hello"))
            .await
            .unwrap();
        told.take();
        let opened = || async { backend.open_object(&object()).await.unwrap().reader };
        let read = ("read_object", CallOutcome::Ok, Duration::ZERO);
        let open = ("open_object", CallOutcome::Ok, Duration::ZERO);

        let mut bytes = opened().await.read(0..5);
        assert_eq!(bytes.next().await.unwrap().unwrap(), "hello");
        // The client takes its time.
        sleep(Duration::from_secs(5)).await;
        assert!(bytes.next().await.is_none());
        drop(bytes);
        assert_eq!(told.take(), [open, read]);

        drop(opened().await.read(0..5));
        assert_eq!(told.take(), [open, read]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_breaks_off_is_a_failure_and_has_taken_its_time() {
        let told = Arc::new(Told::default());
        let failing = stream::once(async {
            sleep(Duration::from_secs(3)).await;
            Err(BackendError::internal("cannot read", "test"))
        });
        let stream = MeteredStream {
            stream: Box::pin(failing),
            observer: told.clone(),
            outcome: Some(CallOutcome::Ok),
            since: None,
            busy: Duration::ZERO,
        };
        assert_eq!(stream.collect::<Vec<_>>().await.len(), 1);
        let expected = ("read_object", CallOutcome::Failed, Duration::from_secs(3));
        assert_eq!(told.take(), [expected]);
    }
}
