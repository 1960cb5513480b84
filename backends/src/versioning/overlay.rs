//! The overlay.

use std::sync::Arc;

use async_trait::async_trait;

use super::VersionClock;
use crate::{
    AccountId, Backend, BackendError, BucketInfo, BucketName, BucketSetting, Capabilities, Clock,
    CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject, DeleteObjectOutcome,
    ListMultipartUploads, ListObjectVersions, ListObjects, ListParts, MultipartUpload, ObjectBody, ObjectInfo,
    ObjectPage, ObjectRef, OpenObject, Part, PartNumber, PartPage, PutObject, UploadId, UploadPage, UploadRef,
    VersionPage,
};

/// A backend whose buckets can have versioning. Writes go down with a [`VersionClock`]; the backend below keeps what
/// they displace, as [`KeyState`](crate::KeyState) decides.
#[derive(Debug)]
pub struct Versioned<B> {
    inner: B,
    clock: VersionClock,
}

impl<B: Backend> Versioned<B> {
    /// Over a backend with [`Capabilities::history`]; gives any other back.
    pub fn new(inner: B, clock: Arc<dyn Clock>) -> Result<Self, B> {
        if inner.capabilities(None).history {
            Ok(Self {
                inner,
                clock: VersionClock::new(clock),
            })
        } else {
            Err(inner)
        }
    }

    fn versions(&self) -> Option<VersionClock> {
        Some(self.clock.clone())
    }
}

#[async_trait]
impl<B: Backend> Backend for Versioned<B> {
    fn capabilities(&self, bucket: Option<&BucketName>) -> Capabilities {
        Capabilities {
            versioning: true,
            ..self.inner.capabilities(bucket)
        }
    }

    fn copies_between(&self, source: &BucketName, destination: &BucketName) -> bool {
        self.inner.copies_between(source, destination)
    }

    async fn ready(&self) -> Result<(), BackendError> {
        self.inner.ready().await
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        self.inner.create_bucket(request).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        self.inner.head_bucket(bucket).await
    }

    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        self.inner.list_buckets(owner, prefix, start_after, max).await
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        self.inner.put_bucket_setting(bucket, setting).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        self.inner.delete_bucket(bucket).await
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        let versions = self.versions();
        self.inner.put_object(PutObject { versions, ..request }, body).await
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        self.inner.open_object(object).await
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        let versions = self.versions();
        self.inner.copy_object(CopyObject { versions, ..request }).await
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let versions = self.versions();
        self.inner.delete_object(DeleteObject { versions, ..request }).await
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        self.inner.list_objects(request).await
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        self.inner.list_object_versions(request).await
    }

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        self.inner.create_multipart_upload(request).await
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        self.inner.head_multipart_upload(upload).await
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        self.inner.upload_part(upload, part_number, body).await
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        let request = CompleteMultipartUpload {
            versions: self.versions(),
            ..request
        };
        self.inner.complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        self.inner.abort_multipart_upload(upload).await
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        self.inner.list_parts(request).await
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        self.inner.list_multipart_uploads(request).await
    }
}
