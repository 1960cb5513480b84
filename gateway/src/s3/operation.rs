//! One enum for all that a client can ask, a variant per S3 action, and the tables over it. A new operation does not
//! compile until it has a row in each.

use std::ops::RangeInclusive;

use t2gate_backends::{
    BucketName, CannedAcl, Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, ETag, Key, ObjectInfo, ObjectRef,
    PartNumber, ReadCondition, Timestamp, UploadId, UploadRef, UserMetadata, VersionId, WriteCondition,
};

use super::error::{S3Error, S3ErrorCode};

/// A request, understood. What is in an XML body is read later, in `dispatch.rs`, for it must be verified first.
#[derive(Debug, Clone)]
pub enum Operation {
    ListBuckets(ListBuckets),
    CreateBucket(CreateBucket),
    HeadBucket(BucketName),
    DeleteBucket(BucketName),
    GetBucketLocation(BucketName),
    GetBucketAcl(BucketName),
    PutBucketAcl(PutBucketAcl),
    GetBucketVersioning(BucketName),
    PutBucketVersioning(BucketName),
    /// The sub-resource is never set here; the answer is the one that S3 gives then.
    GetUnsetBucketConfiguration(BucketName, UnsetConfiguration),
    /// With the action's name. There is nothing to delete.
    DeleteUnsetBucketConfiguration(BucketName, UnsetConfiguration, &'static str),

    ListObjects(ListObjects),
    ListObjectsV2(ListObjectsV2),
    ListObjectVersions(ListObjectVersions),
    DeleteObjects(DeleteObjects),

    PutObject(PutObject),
    GetObject(GetObject),
    HeadObject(GetObject),
    CopyObject(CopyObject),
    DeleteObject(DeleteObject),
    GetObjectAcl(ObjectRef),
    PutObjectAcl(PutObjectAcl),
    GetObjectAttributes(GetObjectAttributes),
    GetObjectTagging(ObjectRef),
    /// Never set here: 404 `NoSuchObjectLockConfiguration`.
    GetUnsetObjectLock(ObjectRef, UnsetObjectLock),

    CreateMultipartUpload(CreateMultipartUpload),
    UploadPart(UploadPart),
    UploadPartCopy(UploadPartCopy),
    CompleteMultipartUpload(CompleteMultipartUpload),
    AbortMultipartUpload(UploadRef),
    ListParts(ListParts),
    ListMultipartUploads(ListMultipartUploads),

    /// Understood and refused with 501.
    NotImplemented(NotImplemented),
}

mod table;

pub use table::{Access, AnonymousAccess, OperationClass, Scope, delete_access};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBuckets {
    pub prefix: Box<str>,
    /// What the continuation token stands for: only buckets with greater names.
    pub start_after: Option<Box<str>>,
    /// 1 to 10,000; `None` where the client did not page.
    pub max_buckets: Option<usize>,
    /// Only buckets in this region: all of them or none.
    pub bucket_region: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateBucket {
    pub bucket: BucketName,
    pub acl: CannedAcl,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBucketAcl {
    pub bucket: BucketName,
    /// From `x-amz-acl`; `None`: the body says it.
    pub acl: Option<CannedAcl>,
}

/// Bucket sub-resources whose "not configured" answer is all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsetConfiguration {
    Accelerate,
    AnalyticsList,
    Analytics,
    Cors,
    Encryption,
    IntelligentTieringList,
    IntelligentTiering,
    InventoryList,
    Inventory,
    Lifecycle,
    Logging,
    MetricsList,
    Metrics,
    Notification,
    ObjectLock,
    OwnershipControls,
    Policy,
    PolicyStatus,
    PublicAccessBlock,
    Replication,
    RequestPayment,
    Tagging,
    Website,
}

/// Object sub-resources that tell of object lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsetObjectLock {
    LegalHold,
    Retention,
}

/// How keys are written in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodingType {
    #[default]
    Plain,
    Url,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListObjects {
    pub bucket: BucketName,
    pub prefix: Box<str>,
    pub delimiter: Option<Box<str>>,
    pub marker: Option<Box<str>>,
    /// 0 to 1000: more is cut down to that, and the answer says so, as S3's does.
    pub max_keys: usize,
    pub encoding_type: EncodingType,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListObjectsV2 {
    pub bucket: BucketName,
    pub prefix: Box<str>,
    pub delimiter: Option<Box<str>>,
    /// As sent, for the answer.
    pub continuation_token: Option<Box<str>>,
    /// What the token stands for.
    pub continue_after: Option<Box<str>>,
    pub start_after: Option<Box<str>>,
    pub fetch_owner: bool,
    /// As in [`ListObjects`].
    pub max_keys: usize,
    pub encoding_type: EncodingType,
}

impl ListObjectsV2 {
    /// After which name the page begins: a token stands above `start-after`.
    pub fn after(&self) -> Option<&str> {
        self.continue_after.as_deref().or(self.start_after.as_deref())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListObjectVersions {
    pub bucket: BucketName,
    pub prefix: Box<str>,
    pub delimiter: Option<Box<str>>,
    pub key_marker: Option<Box<str>>,
    /// Never without `key_marker`.
    pub version_id_marker: Option<VersionId>,
    /// As in [`ListObjects`].
    pub max_keys: usize,
    pub encoding_type: EncodingType,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteObjects {
    pub bucket: BucketName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObject {
    pub bucket: BucketName,
    pub key: Key,
    pub content: ContentHeaders,
    pub user_metadata: UserMetadata,
    pub condition: WriteCondition,
    pub acl: Option<ObjectAcl>,
}

/// `x-amz-acl` on an object; judged against the bucket's (dialect D8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectAcl {
    /// One of those that buckets can have.
    Bucket(CannedAcl),
    /// One that S3 has and T2 has not: `authenticated-read`, `bucket-owner-full-control`, ...
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetObject {
    pub object: ObjectRef,
    pub condition: ReadCondition,
    /// `None` where absent, or in a form that RFC 9110 says to ignore.
    pub range: Option<Range>,
    /// The range counts only while this holds; ask [`GetObject::effective_range`].
    pub if_range: Option<IfRange>,
    /// Never together with a range.
    pub part_number: Option<PartNumber>,
    /// `x-amz-checksum-mode: ENABLED`
    pub checksum_mode: bool,
    pub overrides: ResponseOverrides,
}

impl GetObject {
    /// The range to answer with, now that the object is known: `None` for all of it.
    pub fn effective_range(&self, info: &ObjectInfo) -> Option<&Range> {
        let unchanged = match &self.if_range {
            None => true,
            Some(IfRange::Tag(etag)) => *etag == info.etag,
            Some(IfRange::Date(date)) => date.unix_seconds() == info.last_modified.unix_seconds(),
            Some(IfRange::Never) => false,
        };
        self.range.as_ref().filter(|_| unchanged)
    }
}

/// `If-Range` (RFC 9110, section 13.1.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfRange {
    Tag(ETag),
    Date(Timestamp),
    /// A weak tag, or nothing that could be understood: the whole object is the answer that cannot be wrong.
    Never,
}

/// One byte range as asked, before the size is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// `bytes=first-last`
    Inclusive(RangeInclusive<u64>),
    /// `bytes=first-`
    From(u64),
    /// `bytes=-length`
    Suffix(u64),
}

/// The `response-*` parameters: header values to answer with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseOverrides(pub ContentHeaders);

impl ResponseOverrides {
    pub fn is_empty(&self) -> bool {
        self.0 == ContentHeaders::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    pub object: ObjectRef,
    /// `x-amz-copy-source-if-*`. Whatever fails is 412.
    pub condition: ReadCondition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyObject {
    pub source: CopySource,
    pub bucket: BucketName,
    pub key: Key,
    /// `None`: the source's (`x-amz-metadata-directive: COPY`).
    pub replace_metadata: Option<(ContentHeaders, UserMetadata)>,
    /// `x-amz-checksum-algorithm`; `None` keeps the source's.
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    /// A header that makes a copy onto itself a change (storage class, ...).
    pub changes_something: bool,
    pub condition: WriteCondition,
    pub acl: Option<ObjectAcl>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteObject {
    pub object: ObjectRef,
    pub condition: WriteCondition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObjectAcl {
    pub object: ObjectRef,
    /// From `x-amz-acl`; `None`: the body says it.
    pub acl: Option<ObjectAcl>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetObjectAttributes {
    pub object: ObjectRef,
    pub etag: bool,
    pub checksum: bool,
    pub object_parts: bool,
    pub storage_class: bool,
    pub object_size: bool,
    /// 0 to 1000.
    pub max_parts: usize,
    pub part_number_marker: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateMultipartUpload {
    pub bucket: BucketName,
    pub key: Key,
    pub content: ContentHeaders,
    pub user_metadata: UserMetadata,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    pub acl: Option<ObjectAcl>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPart {
    pub upload: UploadRef,
    pub part_number: PartNumber,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPartCopy {
    pub upload: UploadRef,
    pub part_number: PartNumber,
    pub source: CopySource,
    /// `x-amz-copy-source-range`
    pub range: Option<RangeInclusive<u64>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteMultipartUpload {
    pub upload: UploadRef,
    pub condition: WriteCondition,
    pub checksum: Option<Checksum>,
    pub checksum_type: Option<ChecksumType>,
    /// `x-amz-mp-object-size`
    pub size: Option<u64>,
    /// The object's URL, as the client wrote it, for the answer.
    pub url: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListParts {
    pub upload: UploadRef,
    pub part_number_marker: u16,
    /// 0 to 1000.
    pub max_parts: usize,
    pub encoding_type: EncodingType,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListMultipartUploads {
    pub bucket: BucketName,
    pub prefix: Box<str>,
    pub delimiter: Option<Box<str>>,
    pub key_marker: Option<Box<str>>,
    pub upload_id_marker: Option<UploadId>,
    /// 0 to 1000.
    pub max_uploads: usize,
    pub encoding_type: EncodingType,
}

/// An action that this service has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotImplemented {
    /// The S3 action's name.
    pub action: &'static str,
    /// For the client.
    pub message: String,
    pub bucket: Option<BucketName>,
}

impl From<NotImplemented> for S3Error {
    fn from(refused: NotImplemented) -> Self {
        Self::new(S3ErrorCode::NotImplemented, refused.message)
    }
}
