//! Multipart uploads: a record of the upload, a record and a blob for each part.

mod listing;

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::{
    Core, Level, StoreLayout,
    blob::{self, Blob},
    bucket::{Bucket, MAX_RECORD_BYTES},
    head::Recorded,
    history::Target,
    key::{StoreDir, StoreKey},
    object::{Current, Data, run_to_end},
    record::{NewObject, Owner, PartRecord, UploadRecord},
    store::{Dress, Precondition},
};
use crate::{
    BackendError, BucketName, CompleteMultipartUpload, CreateMultipartUpload, ETag, Key, MultipartUpload, ObjectBody,
    ObjectInfo, Part, PartNumber, Stamp, StoredPart, Timestamp, UploadId, UploadRef, assemble,
};

/// So many records are read at once.
const READS: usize = 16;
/// The clocks of gateways differ by less.
const MAX_SKEW_NANOS: i64 = 15 * 60 * 1_000_000_000;

impl Core {
    pub(super) async fn create_multipart_upload(
        &self,
        request: CreateMultipartUpload,
    ) -> Result<UploadId, BackendError> {
        self.place(&request.bucket, &request.key)?;
        let bucket = self.bucket(&request.bucket).await?;
        let upload_id = UploadId::random().map_err(|e| BackendError::internal("no randomness for an upload id", e))?;
        let upload = MultipartUpload {
            key: request.key,
            upload_id: upload_id.clone(),
            initiated: self.clock.now(),
            initiator: request.initiator,
            checksum: request.checksum,
        };
        let record = UploadRecord::new(&upload, &request.attributes, bucket.record.id.clone());
        let _bucket = self.locks.in_bucket(&request.bucket).await?;
        self.confirm_bucket(&bucket, false).await?;
        let key = StoreKey::upload(&request.bucket, &upload_id);
        let none = Precondition::None;
        self.store
            .write(&key, record.to_bytes(), Dress::default(), &none)
            .await?;
        Ok(upload_id)
    }

    pub(super) async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        let bucket = self.bucket(&upload.bucket).await?;
        let record = self.upload(&bucket, upload).await?;
        record.info().ok_or(BackendError::NoSuchUpload)
    }

    async fn upload(&self, bucket: &Bucket, upload: &UploadRef) -> Result<UploadRecord, BackendError> {
        let record = self.upload_record(&upload.bucket, &upload.upload_id).await?;
        record
            .filter(|record| *record.key == *upload.key.as_str() && record.bucket_id == bucket.record.id)
            .ok_or(BackendError::NoSuchUpload)
    }

    /// `None` also where it has ended.
    async fn upload_record(&self, bucket: &BucketName, id: &UploadId) -> Result<Option<UploadRecord>, BackendError> {
        let record = self.recorded_upload(bucket, id).await?;
        Ok(record.filter(|record| record.ended.is_none()))
    }

    /// What is recorded of an upload, ended or not.
    pub(super) async fn recorded_upload(
        &self,
        bucket: &BucketName,
        id: &UploadId,
    ) -> Result<Option<UploadRecord>, BackendError> {
        let key = StoreKey::upload(bucket, id);
        let of = |bytes: &Bytes| UploadRecord::of_bytes(bytes);
        let read = self.store.read_as(&key, MAX_RECORD_BYTES, of).await?;
        let record = read.and_then(|(record, _)| record);
        // Some stores fold names that differ in case.
        Ok(record.filter(|record| *record.id == *id.as_str()))
    }

    pub(super) async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        let bucket = self.bucket(&upload.bucket).await?;
        self.upload(&bucket, upload).await?;
        let owner = Owner {
            bucket: upload.bucket.as_str().into(),
            key: upload.key.as_str().into(),
            part: Some((upload.upload_id.as_str().into(), part_number.get())),
        };
        let (new, summary) = self.receive_blob(self.nonce()?, &owner, body).await?;
        let (core, upload) = (self.clone(), upload.clone());
        run_to_end(async move {
            let Some(blob) = new.blob().cloned() else {
                return Err(BackendError::internal("a part has no blob", "it was just written"));
            };
            let _upload = core.locks.in_upload(&upload.upload_id).await;
            // Parts of one number, one after the other: each removes what it replaces.
            let _part = core.locks.key(&upload.bucket, &upload.key).await?;
            let uploading = core.upload(&bucket, &upload).await?;
            let record = PartRecord::new(blob, summary.md5, &summary.checksum, core.clock.now());
            let replaced = core.part(&upload.bucket, &upload.upload_id, part_number).await?;
            // An upload that could not be removed when it had become an object: that may consist of this part.
            if replaced.is_some() && core.made_of(&upload.bucket, &uploading).await?.is_some() {
                return Err(BackendError::NoSuchUpload);
            }
            let key = StoreKey::part(&upload.bucket, &upload.upload_id, part_number);
            let none = Precondition::None;
            // Before the record: that may be there though its reply is lost.
            new.keep();
            core.store
                .write(&key, record.to_bytes(), Dress::default(), &none)
                .await?;
            // Where there may be other gateways, one of them may just now make an object of it: the sweeper knows.
            if let Some(replaced) = replaced.filter(|_| core.level < Level::CompareAndSet) {
                blob::remove(&core.store, &replaced.blob).await;
            }
            let part = to_part(part_number, &record);
            part.ok_or_else(|| BackendError::internal("a part's record is damaged", "it was just written"))
        })
        .await
    }

    pub(super) async fn part(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        part_number: PartNumber,
    ) -> Result<Option<PartRecord>, BackendError> {
        let key = StoreKey::part(bucket, id, part_number);
        let of = |bytes: &Bytes| PartRecord::of_bytes(bytes);
        let read = self.store.read_as(&key, MAX_RECORD_BYTES, of).await?;
        Ok(read.and_then(|(record, _)| record))
    }

    async fn parts(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        numbers: Vec<PartNumber>,
    ) -> Result<BTreeMap<PartNumber, PartRecord>, BackendError> {
        let mut parts = BTreeMap::new();
        for numbers in numbers.chunks(READS) {
            let reads = numbers.iter().map(|number| self.part(bucket, id, *number));
            let found = futures::future::try_join_all(reads).await?;
            let found = numbers.iter().copied().zip(found);
            parts.extend(found.filter_map(|(number, part)| Some((number, part?))));
        }
        Ok(parts)
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: CompleteMultipartUpload,
    ) -> Result<ObjectInfo, BackendError> {
        self.judge_support(&request.condition)?;
        let core = self.clone();
        run_to_end(async move { core.complete(request).await }).await
    }

    async fn complete(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        let upload = &request.upload;
        let bucket = self.bucket(&upload.bucket).await?;
        // No part is added, and nobody else completes or aborts, in this process.
        let _upload = self.locks.upload(&upload.upload_id).await;
        let record = match self.upload(&bucket, upload).await {
            Ok(record) => record,
            Err(BackendError::NoSuchUpload) => return self.completed(&bucket, upload).await,
            Err(error) => return Err(error),
        };
        if let Ok(done) = self.completed(&bucket, upload).await {
            // Committed, and cut off before the upload was removed.
            self.remove_completed(upload, None).await;
            return Ok(done);
        }
        let numbers = request.parts.iter().map(|part| part.part_number).collect();
        let parts = self.parts(&upload.bucket, &upload.upload_id, numbers).await?;
        let stored: HashMap<PartNumber, StoredPart> = parts
            .iter()
            .filter_map(|(number, part)| Some((*number, part.stored(*number)?)))
            .collect();
        let assembled = assemble(&request, record.declared(), |number| stored.get(&number).cloned())?;
        let blobs: Vec<Blob> = assembled
            .parts
            .iter()
            .filter_map(|part| Some(parts.get(&part.part_number)?.blob.clone()))
            .collect();
        let new = NewObject {
            nonce: self.nonce()?,
            size: assembled.size,
            etag: assembled.etag,
            attributes: record.attributes(assembled.checksum),
            parts: assembled.parts,
            upload_id: Some(upload.upload_id.clone()),
        };
        let committed = self
            .commit(
                &bucket,
                &upload.key,
                new,
                Data::Blobs(blobs.clone()),
                &request.condition,
                request.versions.as_ref(),
                true,
            )
            .await;
        let info = match committed {
            Err(BackendError::NoSuchUpload) => {
                // Another was faster.
                let done = self.completed(&bucket, upload).await;
                self.end_upload(&upload.bucket, &record).await?;
                return done;
            }
            committed => committed?,
        };
        // In the encoded layout the object is made of them.
        let used = (self.layout == StoreLayout::Encoded).then_some(&blobs[..]);
        self.remove_completed(upload, used).await;
        Ok(info)
    }

    /// The object that the upload has made already, if it is still there.
    async fn completed(&self, bucket: &Bucket, upload: &UploadRef) -> Result<ObjectInfo, BackendError> {
        let current = match self.layout {
            StoreLayout::Transparent => self.current(&upload.bucket, &upload.key).await?,
            StoreLayout::Encoded => {
                let head = self.head(&upload.bucket, &upload.key).await?;
                head.and_then(|head| {
                    let version = head.version().filter(|_| bucket.info.versioning.is_some());
                    head.into_current(version)
                })
            }
        };
        let made = current.filter(|current| {
            let record = current.record.as_ref();
            record.is_some_and(|record| record.upload_id.as_deref() == Some(upload.upload_id.as_str()))
        });
        made.map(|current| current.info).ok_or(BackendError::NoSuchUpload)
    }

    /// Removes an upload that has become an object, and the parts that are not `used`; without that, of the encoded
    /// layout those that the object does not name. What fails is left to the sweeper.
    async fn remove_completed(&self, upload: &UploadRef, used: Option<&[Blob]>) {
        let removed = async {
            match used {
                Some(used) => self.remove_upload_but(&upload.bucket, &upload.upload_id, used).await,
                None => match self.upload_record(&upload.bucket, &upload.upload_id).await? {
                    Some(record) => self.end_upload(&upload.bucket, &record).await.map(drop),
                    None => Ok(()),
                },
            }
        };
        if let Err(error) = removed.await {
            tracing::warn!(upload = %upload.upload_id, %error, "a completed upload is left to the sweeper");
        }
    }

    pub(super) async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        let (core, upload) = (self.clone(), upload.clone());
        run_to_end(async move {
            let bucket = core.bucket(&upload.bucket).await?;
            let _upload = core.locks.upload(&upload.upload_id).await;
            let record = core.upload(&bucket, &upload).await?;
            if core.end_upload(&upload.bucket, &record).await? {
                return Err(BackendError::NoSuchUpload);
            }
            Ok(())
        })
        .await
    }

    /// Ends an upload, which is none from then on: says whether there is an object that it made. Its parts are removed, but
    /// for what that object consists of. Where another gateway may just now be making one of them, they stay for the
    /// sweeper, which [removes](Self::remove_ended) them when no write can be that old.
    pub(super) async fn end_upload(&self, bucket: &BucketName, record: &UploadRecord) -> Result<bool, BackendError> {
        let Ok(id) = UploadId::parse(record.id.clone()) else {
            return Ok(false);
        };
        let made = self.made_of(bucket, record).await?;
        if made.is_none() && self.layout == StoreLayout::Encoded && self.level >= Level::CompareAndSet {
            let ended = record.ended_at(self.clock.now());
            let key = StoreKey::upload(bucket, &id);
            let none = Precondition::None;
            self.store
                .write(&key, ended.to_bytes(), Dress::default(), &none)
                .await?;
            return Ok(false);
        }
        self.remove_upload_but(bucket, &id, made.as_deref().unwrap_or_default())
            .await?;
        Ok(made.is_some())
    }

    /// Removes an upload and its parts, but for what an object consists of. To be called where no commit is under way.
    pub(super) async fn remove_ended(&self, bucket: &BucketName, record: &UploadRecord) -> Result<(), BackendError> {
        let Ok(id) = UploadId::parse(record.id.clone()) else {
            return Ok(());
        };
        let made = self.made_of(bucket, record).await?;
        self.remove_upload_but(bucket, &id, &made.unwrap_or_default()).await
    }

    /// The blobs of the version that the upload has made, if it has. In the transparent layout an object has bytes of its
    /// own.
    async fn made_of(&self, bucket: &BucketName, record: &UploadRecord) -> Result<Option<Vec<Blob>>, BackendError> {
        match (self.layout, Key::parse(record.key.clone())) {
            (StoreLayout::Encoded, Ok(key)) => {
                let head = self.head(bucket, &key).await?;
                self.made(Target { bucket, key: &key }, head.as_ref(), record).await
            }
            _ => Ok(None),
        }
    }

    /// The blobs of the version that the upload has made, if it has.
    async fn made(
        &self,
        at: Target<'_>,
        head: Option<&Recorded>,
        upload: &UploadRecord,
    ) -> Result<Option<Vec<Blob>>, BackendError> {
        let made = |found: &Recorded| found.record.upload_id.as_deref() == Some(&*upload.id);
        let Some(head) = head else { return Ok(None) };
        if made(head) {
            return Ok(Some(head.record.blobs.clone()));
        }
        let Some(keeping) = head.keeping() else { return Ok(None) };
        // What is older was there before it.
        let since = upload.initiated.saturating_sub(MAX_SKEW_NANOS);
        let mut below = None;
        loop {
            let kept = self.kept_below(at, keeping, below, READS).await?;
            if let Some((_, found)) = kept.iter().find(|(_, found)| made(found)) {
                return Ok(Some(found.record.blobs.clone()));
            }
            match kept.last() {
                Some((version, _)) if version.stamp.time().unix_nanos() >= since => below = Some(version.stamp),
                _ => return Ok(None),
            }
        }
    }

    /// [`BackendError::NoSuchUpload`] where an upload has made its object already, or is aborted. `head` was read
    /// before: whatever it is replaced by, is replaced from that.
    pub(super) async fn refuse_second(
        &self,
        at: Target<'_>,
        head: Option<&Recorded>,
        upload: &str,
    ) -> Result<(), BackendError> {
        let id = UploadId::parse(upload).map_err(|_| BackendError::NoSuchUpload)?;
        let record = self.upload_record(at.bucket, &id).await?;
        let record = record.ok_or(BackendError::NoSuchUpload)?;
        match self.made(at, head, &record).await? {
            Some(_) => Err(BackendError::NoSuchUpload),
            None => Ok(()),
        }
    }

    /// The same in the transparent layout. `current` was read before.
    pub(super) async fn refuse_made(
        &self,
        bucket: &BucketName,
        upload: &UploadId,
        current: Option<&Current>,
    ) -> Result<(), BackendError> {
        let record = current.and_then(|current| current.record.as_ref());
        let is_made = record.is_some_and(|record| record.upload_id.as_deref() == Some(upload.as_str()));
        if is_made || self.upload_record(bucket, upload).await?.is_none() {
            return Err(BackendError::NoSuchUpload);
        }
        Ok(())
    }

    /// Removes an upload and all its parts that are not `used`.
    pub(super) async fn remove_upload_but(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        used: &[Blob],
    ) -> Result<(), BackendError> {
        // First, so that there is no upload without its parts.
        let none = Precondition::None;
        self.store.delete(&StoreKey::upload(bucket, id), &none).await?;
        let used: HashSet<Stamp> = used.iter().filter_map(Blob::id).collect();
        for numbers in self.part_numbers(bucket, id).await?.chunks(blob::REMOVALS) {
            let removals = numbers
                .iter()
                .map(|number| self.remove_part_but(bucket, id, *number, &used));
            // All of these end before one of them tells that it failed.
            let removed = futures::future::join_all(removals).await;
            removed.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Removes a part, and its blob if that is not `used`.
    async fn remove_part_but(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        number: PartNumber,
        used: &HashSet<Stamp>,
    ) -> Result<(), BackendError> {
        let part = self.part(bucket, id, number).await?;
        let is_used = |part: &PartRecord| part.blob.id().is_some_and(|blob| used.contains(&blob));
        if let Some(part) = part.filter(|part| !is_used(part)) {
            blob::remove(&self.store, &part.blob).await;
        }
        let key = StoreKey::part(bucket, id, number);
        Ok(self.store.delete(&key, &Precondition::None).await?)
    }

    /// In order.
    pub(super) async fn part_numbers(
        &self,
        bucket: &BucketName,
        id: &UploadId,
    ) -> Result<Vec<PartNumber>, BackendError> {
        let mut numbers = Vec::new();
        let mut entries = self.store.list(&StoreDir::parts(bucket, id), "", false, None, None);
        while let Some(found) = entries.next().await? {
            numbers.extend(PartNumber::parse(&found.name).ok());
        }
        numbers.sort();
        numbers.dedup();
        Ok(numbers)
    }
    /// The time of the last part, or of the upload itself.
    pub(super) async fn last_activity(&self, upload: &UploadRef, begun: Timestamp) -> Result<Timestamp, BackendError> {
        let newest = self.newest_part(&upload.bucket, &upload.upload_id).await?;
        Ok(newest.map_or(begun, |newest| newest.max(begun)))
    }

    /// The time of the last part. `None` where there is none that can be read.
    pub(super) async fn newest_part(
        &self,
        bucket: &BucketName,
        id: &UploadId,
    ) -> Result<Option<Timestamp>, BackendError> {
        let numbers = self.part_numbers(bucket, id).await?;
        let parts = self.parts(bucket, id, numbers).await?;
        Ok(parts.values().map(PartRecord::modified).max())
    }
}

fn to_part(part_number: PartNumber, record: &PartRecord) -> Option<Part> {
    let stored = record.stored(part_number)?;
    Some(Part {
        part_number,
        size: stored.size,
        etag: ETag::from_md5(stored.md5),
        last_modified: record.modified(),
        checksum: stored.checksum,
    })
}
