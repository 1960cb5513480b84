//! Multipart uploads: their parts, and the object that they make.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{
    Bucket, MemoryBackend, Object, find, find_mut,
    listing::{Entry, Listing},
};
use crate::{
    BackendError, BodySummary, CompleteMultipartUpload, CreateMultipartUpload, ETag, ListMultipartUploads, ListParts,
    MultipartUpload, ObjectAttributes, ObjectInfo, Part, PartNumber, PartPage, StoredPart, Timestamp, UploadEntry,
    UploadId, UploadPage, UploadRef, assemble,
};

pub(super) struct Upload {
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
    pub(super) fn create_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
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

    pub(super) fn head_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        let buckets = self.lock();
        Ok(find(&buckets, &upload.bucket)?.upload(upload)?.info.clone())
    }

    /// Keeps a part whose body has ended well.
    pub(super) fn keep_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        bytes: Bytes,
        summary: BodySummary,
    ) -> Result<Part, BackendError> {
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

    pub(super) fn complete_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
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

    pub(super) fn abort_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        let mut buckets = self.lock();
        let bucket = find_mut(&mut buckets, &upload.bucket)?;
        bucket.upload(upload)?;
        bucket.uploads.remove(&upload.upload_id);
        Ok(())
    }

    pub(super) fn parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
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

    pub(super) fn uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
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
