//! One version on top of its own key, once more: with the same bytes, ETag, attributes, checksums and parts.

use t2gate_backends::{
    AccountId, Backend, BackendError, BucketName, ChecksumAlgorithm, CompleteMultipartUpload, CompletedPart,
    CopyObject, CreateMultipartUpload, Key, MAX_PART_NUMBER, ObjectInfo, ObjectPart, ObjectRef, OpenObject, PutObject,
    UploadRef, VersionId, WriteCondition,
};

use super::version;
use crate::body::copied_body;

/// Inside the store where that can; else through this process.
pub(super) async fn copy_version(
    backend: &dyn Backend,
    bucket: &BucketName,
    key: &Key,
    version_id: &VersionId,
    condition: WriteCondition,
) -> Result<(), BackendError> {
    let source = version(bucket, key, Some(version_id));
    let OpenObject { info, reader } = backend.open_object(&source).await?;
    if backend.copies_between(bucket, bucket) {
        let request = CopyObject {
            source,
            source_etag: info.etag,
            bucket: bucket.clone(),
            key: key.clone(),
            attributes: info.attributes,
            condition,
            versions: None,
        };
        return backend.copy_object(request).await.map(drop);
    }
    if info.parts_count.is_some() {
        let parts = reader.parts(0, usize::from(MAX_PART_NUMBER)).await?;
        let owner = backend.head_bucket(bucket).await?.owner;
        return upload_again(backend, &source, &info, &parts, owner, condition).await;
    }
    let body = copied_body(info.size, reader.read(0..info.size), kept_algorithm(&info));
    let request = PutObject {
        bucket: bucket.clone(),
        key: key.clone(),
        attributes: info.attributes,
        condition,
        versions: None,
    };
    backend.put_object(request, body).await.map(drop)
}

fn kept_algorithm(info: &ObjectInfo) -> ChecksumAlgorithm {
    let checksum = info.attributes.checksum.as_ref();
    checksum.map_or(ChecksumAlgorithm::Crc64Nvme, |checksum| checksum.algorithm)
}

/// Makes an object of parts anew, part by part: only so it gets its ETag.
async fn upload_again(
    backend: &dyn Backend,
    source: &ObjectRef,
    info: &ObjectInfo,
    parts: &[ObjectPart],
    initiator: AccountId,
    condition: WriteCondition,
) -> Result<(), BackendError> {
    let checksum = info.attributes.checksum.as_ref();
    let create = CreateMultipartUpload {
        bucket: source.bucket.clone(),
        key: source.key.clone(),
        initiator,
        attributes: info.attributes.clone(),
        checksum: checksum.map(|checksum| (checksum.algorithm, checksum.kind)),
    };
    let upload = UploadRef {
        bucket: source.bucket.clone(),
        key: source.key.clone(),
        upload_id: backend.create_multipart_upload(create).await?,
    };
    let outcome = async {
        let mut completed = Vec::with_capacity(parts.len());
        let mut at = 0;
        for part in parts {
            // Whoever reads takes the reader with him.
            let opened = backend.open_object(source).await?;
            let range = at..at + part.size;
            if opened.info.etag != info.etag || range.end > info.size {
                return Err(BackendError::Conflict);
            }
            at = range.end;
            let body = copied_body(part.size, opened.reader.read(range), kept_algorithm(info));
            let uploaded = backend.upload_part(&upload, part.part_number, body).await?;
            completed.push(CompletedPart {
                part_number: part.part_number,
                etag: uploaded.etag,
                checksum: uploaded.checksum,
            });
        }
        let complete = CompleteMultipartUpload {
            upload: upload.clone(),
            parts: completed,
            condition,
            checksum: checksum.cloned(),
            checksum_type: None,
            size: Some(info.size),
            // They were large enough when they came.
            min_part_size: 0,
            versions: None,
        };
        backend.complete_multipart_upload(complete).await.map(drop)
    };
    let outcome = outcome.await;
    if outcome.is_err()
        && let Err(error) = backend.abort_multipart_upload(&upload).await
    {
        tracing::warn!(%error, upload = upload.upload_id.as_str(), "a multipart upload was left behind");
    }
    outcome
}
