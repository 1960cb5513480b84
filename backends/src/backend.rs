//! The contract between the gateway and storage.

use std::{fmt, ops::Range, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

use crate::{
    AccountId, BackendError, BucketInfo, BucketName, BucketSetting, Capabilities, CompleteMultipartUpload, CopyObject,
    CreateBucket, CreateMultipartUpload, DeleteObject, DeleteObjectOutcome, ListMultipartUploads, ListObjectVersions,
    ListObjects, ListParts, MultipartUpload, ObjectBody, ObjectInfo, ObjectPage, ObjectPart, ObjectRef, Part,
    PartNumber, PartPage, PutObject, UploadId, UploadPage, UploadRef, VersionPage,
};

/// Bytes of an object on their way to the client. An error ends it.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BackendError>> + Send>>;

/// An object opened for reading: what is known of it, and its bytes. Both are of one version, however long the
/// reading takes and whatever is written under the key meanwhile.
#[derive(Debug)]
pub struct OpenObject {
    pub info: ObjectInfo,
    pub reader: Box<dyn ObjectReader>,
}

/// Reads an opened object.
#[async_trait]
pub trait ObjectReader: fmt::Debug + Send + Sync {
    /// The bytes of `range`, which lies within the object. The stream gives exactly these or an error: a store that
    /// runs short is an error, never a short answer.
    fn read(self: Box<Self>, range: Range<u64>) -> ByteStream;

    /// The parts of an object that a multipart upload made, by number, those after `part_number_marker`; at most
    /// `max_parts`. Empty where the object was not made so.
    async fn parts(&self, part_number_marker: u16, max_parts: usize) -> Result<Vec<ObjectPart>, BackendError>;
}

/// Storage, as the gateway needs it, and not one call more.
///
/// What holds for all methods:
/// - **All or nothing** (P1). A write takes effect in one step after its body has ended in a
///   [`BodySummary`](crate::BodySummary). If the body fails, or the future is dropped before that step, what was there
///   stays, and nothing is left behind. Readers see the old state or the new one.
/// - **Durable** (P2). When a mutating method returns `Ok`, the change survives what the configured durability names.
/// - **One winner** (P4). [`WriteCondition`](crate::WriteCondition)s are judged in the same step as the commit, where
///   [`Capabilities::conditional_writes`] is set; elsewhere they are [`BackendError::NotSupported`].
/// - **No version lost** (P3). Where [`Capabilities::history`] is set, a write that comes with a
///   [`VersionClock`](crate::VersionClock) asks [`KeyState`](crate::KeyState) in its commit step what becomes of the
///   versions of its key, and does that in the same step: what it displaces is kept, not copied. The versions of one
///   key are ordered by their [`Stamp`](crate::Stamp)s; the newest decides what is current.
/// - **Bounded memory** (P5). No method holds an object, a listing or a bucket whole.
/// - A bucket that is not there is [`BackendError::NoSuchBucket`] from every method that names one.
/// - Every [`Key`](crate::Key) works, or is refused with [`BackendError::UnsupportedKey`]; none leaves its bucket.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What can be done in a bucket of this name, whether or not there is one: a backend may be made of several stores
    /// that differ ([`Routed`](crate::Routed)). Without a name: what can be done in every bucket.
    fn capabilities(&self, bucket: Option<&BucketName>) -> Capabilities;

    /// Whether [`copy_object`](Self::copy_object) can copy from the one bucket into the other. Where not, it is
    /// [`BackendError::NotSupported`], and the gateway streams.
    fn copies_between(&self, source: &BucketName, destination: &BucketName) -> bool;

    /// Whether the store answers, cheaply: for readiness.
    async fn ready(&self) -> Result<(), BackendError>;

    /// [`BackendError::BucketAlreadyExists`] with its owner if it does.
    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError>;

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError>;

    /// The buckets of an account by name, after `start_after`, with names that begin with `prefix`; at most `max`.
    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError>;

    /// Replaces one setting in one step. [`BackendError::NotSupported`] for versioning without
    /// [`Capabilities::versioning`], and for its suspension with [`Capabilities::always_versioned`].
    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError>;

    /// [`BackendError::BucketNotEmpty`] while it holds any object, version, marker. Uploads under way go with it.
    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError>;

    /// Creates or replaces the object in one step.
    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError>;

    /// [`BackendError::NoSuchKey`] where there is no such object, [`BackendError::NoSuchVersion`] where a version id
    /// was given, [`BackendError::DeleteMarker`] where it is one. Reads nothing of the bytes yet.
    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError>;

    /// Copies inside the store in one step, where [`copies_between`](Self::copies_between) says so. Source and
    /// destination may be the same. A copy of what a multipart upload made has its parts too.
    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError>;

    /// Deletes in one step. Nothing there is no error: [`DeleteObjectOutcome::existed`] says so (but an `If-Match`
    /// then is [`BackendError::NoSuchKey`]).
    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError>;

    /// A page. Of each object at least key, size, ETag, time, version id, and checksum where known without reading
    /// the object; content headers and user metadata may be left out, and the version id where that is the store's own
    /// ([`Capabilities::always_versioned`]).
    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError>;

    /// A page of all versions, delete markers among them. Of each version what [`list_objects`](Self::list_objects)
    /// tells of an object. Each key is of one moment: exactly one of its versions is the latest. In a bucket that
    /// never had versioning each object is its version `null`.
    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError>;

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError>;

    /// What the upload was created with.
    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError>;

    /// Stores or replaces a part in one step. Different parts may come at once.
    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError>;

    /// Makes the parts an object in one step, judged by [`assemble`](crate::assemble). Repeated after success, while
    /// the object that it made is still current, it answers the same again; of racing calls one does the work. If
    /// refused, the upload stays as it was.
    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError>;

    /// Drops the upload and its parts. A part still being written then fails with [`BackendError::NoSuchUpload`].
    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError>;

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError>;

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError>;
}
