//! The simplest backend that keeps the contract: ordered maps under one lock. The oracle of the tests, and good for
//! nothing that has to outlive the process or to be larger than its memory.

mod listing;
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
    versions::{Record, position_after},
};
use crate::{
    AccountId, Backend, BackendError, BodyEvent, BodySummary, BucketInfo, BucketName, BucketSetting, ByteStream,
    Capabilities, Clock, CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject,
    DeleteObjectOutcome, ETag, Key, ListEntry, ListMultipartUploads, ListObjectVersions, ListObjects, ListParts,
    MultipartUpload, ObjectAttributes, ObjectBody, ObjectInfo, ObjectPage, ObjectPart, ObjectReader, ObjectRef,
    OpenObject, Part, PartNumber, PartPage, PutObject, StoredPart, Timestamp, UploadEntry, UploadId, UploadPage,
    UploadRef, VersionEntry, VersionPage, assemble,
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

struct Upload {
    info: MultipartUpload,
    attributes: ObjectAttributes,
    parts: BTreeMap<PartNumber, UploadedPart>,
}

struct UploadedPart {
    stored: StoredPart,
    last_modified: Timestamp,
    bytes: Bytes,
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
        let upload_id = UploadId::random().map_err(|e| BackendError::internal("no randomness for an upload id", e))?;
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &request.bucket)?;
        let info = MultipartUpload {
            key: request.key,
            upload_id: upload_id.clone(),
            initiated: self.clock.now(),
            initiator: request.initiator,
            checksum: request.checksum,
        };
        let upload = Upload {
            info,
            attributes: request.attributes,
            parts: BTreeMap::new(),
        };
        bucket.uploads.insert(upload_id.clone(), upload);
        Ok(upload_id)
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        let buckets = self.lock();
        Ok(find(&buckets, &upload.bucket)?.upload(upload)?.info.clone())
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        let (bytes, summary) = collect(body).await?;
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &upload.bucket)?;
        bucket.upload(upload)?;
        let upload = bucket
            .uploads
            .get_mut(&upload.upload_id)
            .ok_or(BackendError::NoSuchUpload)?;
        let part = UploadedPart {
            stored: StoredPart {
                part_number,
                size: summary.size,
                md5: summary.md5,
                checksum: Some(summary.checksum),
            },
            last_modified: self.clock.now(),
            bytes,
        };
        let answer = part.to_part();
        upload.parts.insert(part_number, part);
        Ok(answer)
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &request.upload.bucket)?;
        let key = &request.upload.key;
        let made = bucket
            .current(key)
            .filter(|object| object.made_by.as_ref() == Some(&request.upload.upload_id));
        if let Some(object) = made {
            return Ok(bucket.info_of(object));
        }
        let upload = bucket.upload(&request.upload)?;
        let assembled = assemble(&request, upload.info.checksum, |number| {
            upload.parts.get(&number).map(|part| part.stored.clone())
        })?;
        let commit = bucket.plan(key, &request.condition, request.versions.as_ref())?;
        let pieces = assembled.parts.iter().filter_map(|p| upload.parts.get(&p.part_number));
        let mut bytes = BytesMut::new();
        pieces.for_each(|piece| bytes.extend_from_slice(&piece.bytes));
        let info = ObjectInfo {
            key: key.clone(),
            version_id: None,
            size: assembled.size,
            etag: assembled.etag,
            last_modified: self.clock.now(),
            attributes: ObjectAttributes {
                checksum: assembled.checksum,
                ..upload.attributes.clone()
            },
            parts_count: u16::try_from(assembled.parts.len()).ok(),
        };
        bucket.uploads.remove(&request.upload.upload_id);
        Ok(bucket.commit(
            commit,
            Object {
                info,
                bytes: bytes.freeze(),
                parts: assembled.parts,
                made_by: Some(request.upload.upload_id),
            },
        ))
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &upload.bucket)?;
        bucket.upload(upload)?;
        bucket.uploads.remove(&upload.upload_id);
        Ok(())
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        let buckets = self.lock();
        let upload = find(&buckets, &request.upload.bucket)?.upload(&request.upload)?;
        let mut rest = upload
            .parts
            .values()
            .filter(|part| part.stored.part_number.get() > request.part_number_marker);
        let parts: Vec<Part> = rest
            .by_ref()
            .take(request.max_parts)
            .map(UploadedPart::to_part)
            .collect();
        Ok(PartPage {
            upload: upload.info.clone(),
            parts,
            is_truncated: request.max_parts > 0 && rest.next().is_some(),
        })
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        let buckets = self.lock();
        let bucket = find(&buckets, &request.bucket)?;
        let mut uploads: Vec<&MultipartUpload> = bucket.uploads.values().map(|upload| &upload.info).collect();
        uploads.sort_by_key(|upload| (&upload.key, upload.initiated, &upload.upload_id));
        let listing = Listing {
            prefix: &request.prefix,
            delimiter: request.delimiter.as_deref(),
            max: request.max_uploads,
        };
        let key_marker = request.key_marker.as_deref();
        let id_marker = request.upload_id_marker.as_ref();
        // The place of the marked upload; where that is gone, before all others of its key.
        let reached = id_marker.map(|id| {
            let marked = uploads.iter().find(|upload| upload.upload_id == *id);
            marked
                .filter(|upload| Some(upload.key.as_str()) == key_marker)
                .map(|upload| (upload.initiated, &upload.upload_id))
        });
        let is_after = |upload: &MultipartUpload| match reached {
            Some(reached) if Some(upload.key.as_str()) == key_marker => {
                Some((upload.initiated, &upload.upload_id)) > reached
            }
            _ => listing.is_after(upload.key.as_str(), key_marker),
        };
        let (entries, is_truncated) = listing.page(
            uploads
                .into_iter()
                .filter(|upload| is_after(upload))
                .map(|upload| (upload.key.as_str(), upload)),
        );
        let entries = entries.into_iter().map(|entry| match entry {
            Entry::Item(upload) => UploadEntry::Upload(upload.clone()),
            Entry::CommonPrefix(prefix) => UploadEntry::CommonPrefix(prefix.into()),
        });
        Ok(UploadPage {
            entries: entries.collect(),
            is_truncated,
        })
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

impl Bucket {
    fn upload(&self, upload: &UploadRef) -> Result<&Upload, BackendError> {
        self.uploads
            .get(&upload.upload_id)
            .filter(|found| found.info.key == upload.key)
            .ok_or(BackendError::NoSuchUpload)
    }
}

impl UploadedPart {
    fn to_part(&self) -> Part {
        Part {
            part_number: self.stored.part_number,
            size: self.stored.size,
            etag: ETag::from_md5(self.stored.md5),
            last_modified: self.last_modified,
            checksum: self.stored.checksum.clone(),
        }
    }
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
