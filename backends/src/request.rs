//! What goes into a backend and what comes out. Plain data, in S3's words.

use crate::{
    AccountId, BucketName, CannedAcl, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Key, ObjectAttributes,
    PartNumber, Timestamp, UploadId, VersionClock, VersionId, VersioningStatus, WriteCondition,
};

// ---- buckets

#[derive(Debug, Clone)]
pub struct CreateBucket {
    pub bucket: BucketName,
    pub owner: AccountId,
    pub acl: CannedAcl,
    pub versioning: Option<VersioningStatus>,
    /// How many buckets `owner` may have, this one included; judged in the same step as the creation.
    pub max_buckets: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketInfo {
    pub bucket: BucketName,
    pub owner: AccountId,
    pub created: Timestamp,
    pub acl: CannedAcl,
    /// `None`: never had any.
    pub versioning: Option<VersioningStatus>,
}

/// One setting of a bucket, replaced whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketSetting {
    Acl(CannedAcl),
    /// In force for every write that is committed after it. Only of the [`Versioned`](crate::Versioned) overlay.
    Versioning(VersioningStatus),
}

// ---- objects

/// Names one version of an object: the current one without `version_id`. In a bucket that never had versioning `null`
/// names the object, and any other id names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    pub bucket: BucketName,
    pub key: Key,
    pub version_id: Option<VersionId>,
}

/// What is known of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: Key,
    /// `None` in a bucket that never had versioning.
    pub version_id: Option<VersionId>,
    /// Length in bytes, as the client wrote them.
    pub size: u64,
    pub etag: ETag,
    pub last_modified: Timestamp,
    pub attributes: ObjectAttributes,
    /// Of how many parts a multipart upload made it.
    pub parts_count: Option<u16>,
}

#[derive(Debug, Clone)]
pub struct PutObject {
    pub bucket: BucketName,
    pub key: Key,
    /// The checksum comes with the body's end; [`ObjectAttributes::checksum`] is ignored here.
    pub attributes: ObjectAttributes,
    pub condition: WriteCondition,
    /// With it the bucket's versioning status is followed.
    pub versions: Option<VersionClock>,
}

/// Copies inside the store: same bytes, same ETag, same parts.
#[derive(Debug, Clone)]
pub struct CopyObject {
    pub source: ObjectRef,
    /// The source must still have this tag, else [`BackendError::Conflict`](crate::BackendError::Conflict).
    pub source_etag: ETag,
    pub bucket: BucketName,
    pub key: Key,
    /// All attributes of the copy, its checksum included.
    pub attributes: ObjectAttributes,
    pub condition: WriteCondition,
    /// With it the bucket's versioning status is followed.
    pub versions: Option<VersionClock>,
}

/// Without a version id the current object: in a bucket with versioning it is kept, and a delete marker becomes the
/// newest version. With one, that version or marker is gone; where it was the newest, the next one is then.
#[derive(Debug, Clone)]
pub struct DeleteObject {
    pub object: ObjectRef,
    /// Judged against the current object; with a version id, against that version.
    pub condition: WriteCondition,
    /// By name: a delete marker is added also where there is no object.
    pub mark_missing: bool,
    /// With it the bucket's versioning status is followed.
    pub versions: Option<VersionClock>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteObjectOutcome {
    /// Whether there was anything to delete.
    pub existed: bool,
    /// The version removed, or the marker added.
    pub version_id: Option<VersionId>,
    /// A delete marker was added, or the version removed was one.
    pub delete_marker: bool,
}

/// One page of the current objects of a bucket, in byte order of their keys.
#[derive(Debug, Clone)]
pub struct ListObjects {
    pub bucket: BucketName,
    /// Only keys that begin so. May be empty, and need not be a valid key.
    pub prefix: Box<str>,
    /// Keys that hold it after the prefix are rolled up into one common prefix, which ends with it. Not empty.
    pub delimiter: Option<Box<str>>,
    /// Only keys after this one. Where it equals a common prefix of this listing, all keys under that are left out.
    pub start_after: Option<Box<str>>,
    /// At most so many entries, common prefixes included.
    pub max_keys: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEntry {
    Object(ObjectInfo),
    CommonPrefix(Box<str>),
}

impl ListEntry {
    /// The key or the common prefix: what a next page starts after.
    pub fn name(&self) -> &str {
        match self {
            Self::Object(info) => info.key.as_str(),
            Self::CommonPrefix(prefix) => prefix,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectPage {
    /// In byte order of their names.
    pub entries: Vec<ListEntry>,
    /// More follow after the last entry. Exact: never true where nothing follows.
    pub is_truncated: bool,
}

/// One page of the versions and delete markers of a bucket: by key, and of each key the newest first.
#[derive(Debug, Clone)]
pub struct ListObjectVersions {
    pub bucket: BucketName,
    /// Only keys that begin so.
    pub prefix: Box<str>,
    /// As in [`ListObjects`].
    pub delimiter: Option<Box<str>>,
    /// Only keys after this one, or with `version_id_marker` also older versions of the same key. Equal to a common
    /// prefix it leaves out all keys under that.
    pub key_marker: Option<Box<str>>,
    /// Ignored without `key_marker`. Where it is `null` and the key has no such version (any more), all versions of
    /// the key are listed: whoever deletes what a page shows and goes on from its end reaches every version.
    pub version_id_marker: Option<VersionId>,
    /// At most so many entries, common prefixes included.
    pub max_keys: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionEntry {
    Object {
        /// As in [`list_objects`](crate::Backend::list_objects). Its version id is there, `null` at least.
        info: ObjectInfo,
        is_latest: bool,
    },
    DeleteMarker(DeleteMarker),
    CommonPrefix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteMarker {
    pub key: Key,
    pub version_id: VersionId,
    pub last_modified: Timestamp,
    pub is_latest: bool,
}

impl VersionEntry {
    /// The key or the common prefix.
    pub fn name(&self) -> &str {
        match self {
            Self::Object { info, .. } => info.key.as_str(),
            Self::DeleteMarker(marker) => marker.key.as_str(),
            Self::CommonPrefix(prefix) => prefix,
        }
    }

    /// `None` for a common prefix.
    pub fn version_id(&self) -> Option<&VersionId> {
        match self {
            Self::Object { info, .. } => info.version_id.as_ref(),
            Self::DeleteMarker(marker) => Some(&marker.version_id),
            Self::CommonPrefix(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionPage {
    pub entries: Vec<VersionEntry>,
    /// More follow after the last entry. Exact: never true where nothing follows.
    pub is_truncated: bool,
}

// ---- multipart uploads

/// Names an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRef {
    pub bucket: BucketName,
    pub key: Key,
    pub upload_id: UploadId,
}

#[derive(Debug, Clone)]
pub struct CreateMultipartUpload {
    pub bucket: BucketName,
    pub key: Key,
    pub initiator: AccountId,
    pub attributes: ObjectAttributes,
    /// What the client asked for; `None` keeps a full-object CRC64NVME.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartUpload {
    pub key: Key,
    pub upload_id: UploadId,
    pub initiated: Timestamp,
    pub initiator: AccountId,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// An uploaded part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub part_number: PartNumber,
    pub size: u64,
    pub etag: ETag,
    pub last_modified: Timestamp,
    pub checksum: Option<Checksum>,
}

/// A part of a completed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPart {
    pub part_number: PartNumber,
    pub size: u64,
    pub checksum: Option<Checksum>,
}

/// A part as CompleteMultipartUpload names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    pub part_number: PartNumber,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
}

#[derive(Debug, Clone)]
pub struct CompleteMultipartUpload {
    pub upload: UploadRef,
    pub parts: Vec<CompletedPart>,
    pub condition: WriteCondition,
    /// The whole object's checksum as the client computed it.
    pub checksum: Option<Checksum>,
    /// The checksum type that the client believes the upload to have.
    pub checksum_type: Option<ChecksumType>,
    /// The whole object's size as the client counted it.
    pub size: Option<u64>,
    /// Every part but the last has at least so many bytes. S3: 5 MiB.
    pub min_part_size: u64,
    /// With it the bucket's versioning status is followed.
    pub versions: Option<VersionClock>,
}

#[derive(Debug, Clone)]
pub struct ListParts {
    pub upload: UploadRef,
    /// Only parts with a greater number; 0 for all.
    pub part_number_marker: u16,
    pub max_parts: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPage {
    pub upload: MultipartUpload,
    /// By ascending number.
    pub parts: Vec<Part>,
    pub is_truncated: bool,
}

/// One page of the uploads under way in a bucket, by key, then by time of initiation, then by id.
#[derive(Debug, Clone)]
pub struct ListMultipartUploads {
    pub bucket: BucketName,
    pub prefix: Box<str>,
    pub delimiter: Option<Box<str>>,
    /// Only keys after this one, or with `upload_id_marker` also later uploads of the same key. Equal to a common
    /// prefix it leaves out all keys under that.
    pub key_marker: Option<Box<str>>,
    /// Ignored without `key_marker`. Where it names no upload under way with that key (any more), all uploads of the
    /// key are listed: whoever aborts what a page shows and goes on from its end reaches every upload.
    pub upload_id_marker: Option<UploadId>,
    pub max_uploads: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadEntry {
    Upload(MultipartUpload),
    CommonPrefix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadPage {
    pub entries: Vec<UploadEntry>,
    pub is_truncated: bool,
}
