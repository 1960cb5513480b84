//! The simplest backend that keeps the contract: ordered maps under one lock. The oracle of the tests, and good for
//! nothing that has to outlive the process or to be larger than its memory.

mod listing;
mod multipart;
mod versions;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream;

use self::{
    listing::{Entry, Listing},
    multipart::Upload,
    versions::{Record, position_after},
};
use crate::{
    AccountId, Backend, BackendError, BodyEvent, BodySummary, BucketInfo, BucketName, BucketSetting, ByteStream,
    Capabilities, Clock, CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject,
    DeleteObjectOutcome, ETag, Key, ListEntry, ListMultipartUploads, ListObjectVersions, ListObjects, ListParts,
    MultipartUpload, ObjectAttributes, ObjectBody, ObjectInfo, ObjectPage, ObjectPart, ObjectReader, ObjectRef,
    OpenObject, Part, PartNumber, PartPage, PutObject, UploadId, UploadPage, UploadRef, VersionEntry, VersionPage,
};

/// Holds everything in memory. Each method takes effect under one lock, which no `await` is ever under.
pub struct MemoryBackend {
    clock: Arc<dyn Clock>,
    buckets: Mutex<Buckets>,
}

type Buckets = BTreeMap<BucketName, Bucket>;

struct Bucket {
    info: BucketInfo,
    /// Which bucket of its name it is.
    identity: Arc<()>,
    /// The versions of each key, of which there is one at least, the newest first.
    versions: BTreeMap<Key, Vec<Record>>,
    uploads: BTreeMap<UploadId, Upload>,
}

#[derive(Clone)]
struct Object {
    info: ObjectInfo,
    bytes: Bytes,
    parts: Vec<ObjectPart>,
    /// The upload that made it, by which a repeated CompleteMultipartUpload is known.
    made_by: Option<UploadId>,
}

impl MemoryBackend {
    /// An empty store. `clock` stamps what is written.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            buckets: Mutex::default(),
        }
    }

    /// A panic under the lock leaves nothing half done that matters to tests, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn capabilities(&self, _: Option<&BucketName>) -> Capabilities {
        Capabilities {
            name: "memory",
            conditional_writes: true,
            conditional_deletes: true,
            stable_reads: true,
            history: true,
            versioning: false,
            always_versioned: false,
            encryption: false,
        }
    }

    fn copies_between(&self, _: &BucketName, _: &BucketName) -> bool {
        true
    }

    async fn ready(&self) -> Result<(), BackendError> {
        Ok(())
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        let mut buckets = self.lock();
        if let Some(bucket) = buckets.get(&request.bucket) {
            return Err(BackendError::BucketAlreadyExists {
                owner: bucket.info.owner.clone(),
            });
        }
        let owned = buckets.values().filter(|b| b.info.owner == request.owner).count();
        if owned >= request.max_buckets as usize {
            return Err(BackendError::TooManyBuckets {
                limit: request.max_buckets,
            });
        }
        let info = BucketInfo {
            bucket: request.bucket.clone(),
            owner: request.owner,
            created: self.clock.now(),
            acl: request.acl,
            versioning: request.versioning,
        };
        let bucket = Bucket {
            info: info.clone(),
            identity: Arc::default(),
            versions: BTreeMap::new(),
            uploads: BTreeMap::new(),
        };
        buckets.insert(request.bucket, bucket);
        Ok(info)
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        Ok(find(&self.lock(), bucket)?.info.clone())
    }

    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        let buckets = self.lock();
        let wanted = buckets
            .values()
            .map(|bucket| &bucket.info)
            .filter(|info| info.owner == *owner && info.bucket.as_str().starts_with(prefix))
            .filter(|info| start_after.is_none_or(|after| info.bucket.as_str() > after));
        Ok(wanted.take(max).cloned().collect())
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, bucket)?;
        match setting {
            BucketSetting::Acl(acl) => bucket.info.acl = acl,
            BucketSetting::Versioning(status) => bucket.info.versioning = Some(status),
        }
        Ok(())
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        let mut buckets = self.lock();
        if !find(&buckets, bucket)?.versions.is_empty() {
            return Err(BackendError::BucketNotEmpty);
        }
        buckets.remove(bucket);
        Ok(())
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        let identity = find(&self.lock(), &request.bucket)?.identity.clone();
        let (bytes, summary) = collect(body).await?;
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &request.bucket)?;
        if !Arc::ptr_eq(&bucket.identity, &identity) {
            return Err(BackendError::NoSuchBucket);
        }
        let commit = bucket.plan(&request.key, &request.condition, request.versions.as_ref())?;
        let info = ObjectInfo {
            key: request.key,
            version_id: None,
            size: summary.size,
            etag: ETag::from_md5(summary.md5),
            last_modified: self.clock.now(),
            attributes: ObjectAttributes {
                checksum: Some(summary.checksum),
                ..request.attributes
            },
            parts_count: None,
        };
        Ok(bucket.commit(
            commit,
            Object {
                info,
                bytes,
                parts: Vec::new(),
                made_by: None,
            },
        ))
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        let buckets = self.lock();
        let bucket = find(&buckets, &object.bucket)?;
        let object = bucket.object(object)?;
        Ok(OpenObject {
            info: bucket.info_of(object),
            reader: Box::new(MemoryReader {
                bytes: object.bytes.clone(),
                parts: object.parts.clone(),
            }),
        })
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        let mut buckets = self.lock();
        let source = find(&buckets, &request.source.bucket)?.object(&request.source)?.clone();
        let bucket = find_mut(&mut buckets, &request.bucket)?;
        if source.info.etag != request.source_etag {
            return Err(BackendError::Conflict);
        }
        let commit = bucket.plan(&request.key, &request.condition, request.versions.as_ref())?;
        let info = ObjectInfo {
            key: request.key,
            last_modified: self.clock.now(),
            attributes: request.attributes,
            ..source.info
        };
        Ok(bucket.commit(
            commit,
            Object {
                info,
                made_by: None,
                ..source
            },
        ))
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &request.object.bucket)?;
        match &request.object.version_id {
            None => bucket.delete_current(&request, self.clock.now()),
            Some(id) => bucket.delete_version(&request.object.key, id, &request.condition),
        }
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        let buckets = self.lock();
        let listing = Listing {
            prefix: &request.prefix,
            delimiter: request.delimiter.as_deref(),
            max: request.max_keys,
        };
        let bucket = find(&buckets, &request.bucket)?;
        let (entries, is_truncated) = listing.page(
            bucket
                .versions
                .keys()
                .filter_map(|key| Some((key.as_str(), bucket.current(key)?)))
                .filter(|(key, _)| listing.is_after(key, request.start_after.as_deref())),
        );
        let entries = entries.into_iter().map(|entry| match entry {
            Entry::Item(object) => ListEntry::Object(bucket.info_of(object)),
            Entry::CommonPrefix(prefix) => ListEntry::CommonPrefix(prefix.into()),
        });
        Ok(ObjectPage {
            entries: entries.collect(),
            is_truncated,
        })
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        let buckets = self.lock();
        let listing = Listing {
            prefix: &request.prefix,
            delimiter: request.delimiter.as_deref(),
            max: request.max_keys,
        };
        let bucket = find(&buckets, &request.bucket)?;
        let key_marker = request.key_marker.as_deref();
        let after = |key: &Key, records: &[Record]| match &request.version_id_marker {
            // A key that is itself a common prefix is passed with all that is rolled up into it.
            Some(id)
                if Some(key.as_str()) == key_marker && listing.common_prefix(key.as_str()) != Some(key.as_str()) =>
            {
                position_after(records, id)
            }
            _ if listing.is_after(key.as_str(), key_marker) => 0,
            _ => records.len(),
        };
        let (entries, is_truncated) = listing.page(bucket.versions.iter().flat_map(|(key, records)| {
            let rest = records.iter().enumerate().skip(after(key, records));
            rest.map(move |(at, record)| (key.as_str(), record.to_entry(key, at == 0)))
        }));
        let entries = entries.into_iter().map(|entry| match entry {
            Entry::Item(version) => version,
            Entry::CommonPrefix(prefix) => VersionEntry::CommonPrefix(prefix.into()),
        });
        Ok(VersionPage {
            entries: entries.collect(),
            is_truncated,
        })
    }
    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        self.create_upload(request)
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        self.head_upload(upload)
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        let (bytes, summary) = collect(body).await?;
        self.keep_part(upload, part_number, bytes, summary)
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        self.complete_upload(request)
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        self.abort_upload(upload)
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        self.parts(request)
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        self.uploads(request)
    }
}

#[derive(Debug)]
struct MemoryReader {
    bytes: Bytes,
    parts: Vec<ObjectPart>,
}

#[async_trait]
impl ObjectReader for MemoryReader {
    fn read(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let slice = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .filter(|(start, end)| start <= end && *end <= self.bytes.len())
            .map(|(start, end)| self.bytes.slice(start..end))
            .ok_or_else(|| BackendError::internal("read of a range", "the range is not within the object"));
        let empty = slice.as_ref().is_ok_and(Bytes::is_empty);
        Box::pin(stream::iter((!empty).then_some(slice)))
    }

    async fn parts(&self, part_number_marker: u16, max_parts: usize) -> Result<Vec<ObjectPart>, BackendError> {
        let after = self
            .parts
            .iter()
            .filter(|part| part.part_number.get() > part_number_marker);
        Ok(after.take(max_parts).cloned().collect())
    }
}

fn find<'a>(buckets: &'a Buckets, bucket: &BucketName) -> Result<&'a Bucket, BackendError> {
    buckets.get(bucket).ok_or(BackendError::NoSuchBucket)
}

fn find_mut<'a>(buckets: &'a mut Buckets, bucket: &BucketName) -> Result<&'a mut Bucket, BackendError> {
    buckets.get_mut(bucket).ok_or(BackendError::NoSuchBucket)
}

/// The whole body, once it has ended well.
async fn collect(mut body: ObjectBody) -> Result<(Bytes, BodySummary), BackendError> {
    let mut bytes = BytesMut::new();
    loop {
        match body.next().await? {
            BodyEvent::Data(data) => bytes.extend_from_slice(&data),
            BodyEvent::End(summary) => return Ok((bytes.freeze(), summary)),
        }
    }
}
