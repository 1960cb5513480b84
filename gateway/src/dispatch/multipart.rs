//! Multipart uploads.

use t2gate_backends::{
    AssembleError, ChecksumAlgorithm, CompleteMultipartUpload as BackendComplete,
    CreateMultipartUpload as BackendCreate, ListMultipartUploads as BackendListUploads, ListParts as BackendListParts,
    MultipartUpload, ObjectAttributes, ObjectRef, Part, UploadRef,
};

use super::{
    Carrier, Reply,
    object::{Refused, guarded},
};
use crate::{
    body::{UnverifiedBody, copied_body},
    layer::authorize::Grant,
    limits,
    s3::{
        S3Error, S3ErrorCode, encode,
        operation::{
            CompleteMultipartUpload, CreateMultipartUpload, ListMultipartUploads, ListParts, UploadPart, UploadPartCopy,
        },
        xml,
    },
};

impl Carrier {
    pub(super) async fn create_multipart_upload(&self, request: CreateMultipartUpload, grant: &Grant) -> Reply {
        self.judge_object_acl(request.acl, grant)?;
        let create = BackendCreate {
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            initiator: grant.account()?.clone(),
            attributes: ObjectAttributes {
                content: request.content.clone(),
                user_metadata: request.user_metadata.clone(),
                checksum: None,
            },
            checksum: request.checksum,
        };
        let upload_id = self.backend.create_multipart_upload(create).await?;
        Ok(encode::create_multipart_upload(&request, &upload_id))
    }

    pub(super) async fn upload_part(&self, request: UploadPart, body: UnverifiedBody) -> Reply {
        let expectation = body.expectation(limits::MAX_PUT_BYTES)?;
        let upload = self.backend.head_multipart_upload(&request.upload).await?;
        let theirs = expectation.checksum.as_ref().map(|checksum| checksum.algorithm());
        if let (Some((declared, _)), Some(theirs)) = (upload.checksum, theirs)
            && declared != theirs
        {
            return Err(S3Error::new(
                S3ErrorCode::InvalidRequest,
                format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    declared.as_str().to_lowercase(),
                    theirs.as_str().to_lowercase()
                ),
            ));
        }
        let (body, verified) = body.into_object_body(expectation, Some(kept_algorithm(&upload)))?;
        let part = self
            .backend
            .upload_part(&request.upload, request.part_number, body)
            .await?;
        // The client is told of its own checksum, whichever is kept.
        let checksum = verified.get().cloned().or(part.checksum);
        Ok(encode::upload_part(&Part { checksum, ..part }))
    }

    pub(super) async fn upload_part_copy(&self, request: UploadPartCopy, grant: &Grant) -> Reply {
        let upload = self.backend.head_multipart_upload(&request.upload).await?;
        let source = self.open_source(&request.source, grant).await?;
        let size = source.info.size;
        let range = match request.range {
            None => 0..size,
            // Unlike a read's, the range of a copy has to lie within the source.
            Some(range) if *range.end() < size => *range.start()..*range.end() + 1,
            Some(_) => {
                return Err(S3Error::new(
                    S3ErrorCode::InvalidArgument,
                    format!("Range specified is not valid for source object of size: {size}"),
                ));
            }
        };
        let length = range.end - range.start;
        if length > limits::MAX_PUT_BYTES {
            return Err(S3Error::new(
                S3ErrorCode::EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size",
            ));
        }
        let body = copied_body(length, source.reader.read(range), kept_algorithm(&upload));
        let part = self
            .backend
            .upload_part(&request.upload, request.part_number, body)
            .await?;
        Ok(encode::upload_part_copy(&part, source.info.version_id.as_ref()))
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: CompleteMultipartUpload,
        grant: &Grant,
        body: UnverifiedBody,
    ) -> Reply {
        let condition = guarded(request.condition, grant);
        // A checksum in the headers is that of the whole object, which is in the request already.
        let document = body.without_checksum_headers().collect(limits::MAX_XML_BYTES).await?;
        let parts = xml::parse_complete_multipart_upload(&document)?;
        if parts.is_empty() {
            return Err(AssembleError::NoParts.into());
        }
        let refused = Refused::of(&condition);
        let object = ObjectRef {
            bucket: request.upload.bucket.clone(),
            key: request.upload.key.clone(),
            version_id: None,
        };
        let complete = BackendComplete {
            upload: request.upload.clone(),
            parts,
            condition,
            checksum: request.checksum,
            checksum_type: request.checksum_type,
            size: request.size,
            min_part_size: limits::MIN_PART_BYTES,
            versions: None,
        };
        let info = self.backend.complete_multipart_upload(complete).await;
        let info = info.map_err(|error| refused.error(error, &object, grant))?;
        Ok(encode::complete_multipart_upload(
            &request.upload.bucket,
            &info,
            &request.url,
        ))
    }

    pub(super) async fn abort_multipart_upload(&self, upload: UploadRef) -> Reply {
        self.backend.abort_multipart_upload(&upload).await?;
        Ok(encode::abort_multipart_upload())
    }

    pub(super) async fn list_parts(&self, request: ListParts, grant: &Grant) -> Reply {
        let list = BackendListParts {
            upload: request.upload.clone(),
            part_number_marker: request.part_number_marker,
            max_parts: request.max_parts,
        };
        let page = self.backend.list_parts(list).await?;
        encode::list_parts(&request, &page, &grant.bucket()?.owner)
    }

    pub(super) async fn list_multipart_uploads(&self, request: ListMultipartUploads, grant: &Grant) -> Reply {
        let list = BackendListUploads {
            bucket: request.bucket.clone(),
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone(),
            key_marker: request.key_marker.clone(),
            upload_id_marker: request.upload_id_marker.clone(),
            max_uploads: request.max_uploads,
        };
        let page = self.backend.list_multipart_uploads(list).await?;
        encode::list_multipart_uploads(&request, &page, &grant.bucket()?.owner)
    }
}

/// The algorithm whose value is kept with each part, so that the whole object's follows from them.
fn kept_algorithm(upload: &MultipartUpload) -> ChecksumAlgorithm {
    upload
        .checksum
        .map_or(ChecksumAlgorithm::Crc64Nvme, |(algorithm, _)| algorithm)
}
