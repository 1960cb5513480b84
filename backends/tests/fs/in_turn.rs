//! Several backends on one root as one: each call goes to the next of them, so that whatever one has done another one has
//! to know.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use t2gate_backends::{
    AccountId, Backend, BackendError, BucketInfo, BucketName, BucketSetting, Capabilities, CompleteMultipartUpload,
    CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject, DeleteObjectOutcome, ListMultipartUploads,
    ListObjectVersions, ListObjects, ListParts, MultipartUpload, ObjectBody, ObjectInfo, ObjectPage, ObjectRef,
    OpenObject, Part, PartNumber, PartPage, PutObject, UploadId, UploadPage, UploadRef, VersionPage,
};

#[derive(Debug)]
pub(crate) struct InTurn {
    backends: Vec<Arc<dyn Backend>>,
    calls: AtomicUsize,
}

impl InTurn {
    pub(crate) fn new(backends: Vec<Arc<dyn Backend>>) -> Self {
        Self {
            backends,
            calls: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> &dyn Backend {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.backends[call % self.backends.len()]
    }
}

#[async_trait]
impl Backend for InTurn {
    fn capabilities(&self, bucket: Option<&BucketName>) -> Capabilities {
        self.next().capabilities(bucket)
    }

    fn copies_between(&self, source: &BucketName, destination: &BucketName) -> bool {
        self.next().copies_between(source, destination)
    }

    async fn ready(&self) -> Result<(), BackendError> {
        self.next().ready().await
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        self.next().create_bucket(request).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        self.next().head_bucket(bucket).await
    }

    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        self.next().list_buckets(owner, prefix, start_after, max).await
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        self.next().put_bucket_setting(bucket, setting).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        self.next().delete_bucket(bucket).await
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        self.next().put_object(request, body).await
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        self.next().open_object(object).await
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        self.next().copy_object(request).await
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        self.next().delete_object(request).await
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        self.next().list_objects(request).await
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        self.next().list_object_versions(request).await
    }

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        self.next().create_multipart_upload(request).await
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        self.next().head_multipart_upload(upload).await
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        self.next().upload_part(upload, part_number, body).await
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        self.next().complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        self.next().abort_multipart_upload(upload).await
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        self.next().list_parts(request).await
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        self.next().list_multipart_uploads(request).await
    }
}
