//! Answers about multipart uploads.

use http::Response;
use t2gate_backends::{BucketName, ObjectInfo, Part, UploadId, VersionId};

use super::{ResponseBody, document, iso_date, no_content, ok, quoted, set, set_etag, set_version, write_checksum};
use crate::s3::operation::CreateMultipartUpload;

/// CreateMultipartUpload: the id, and the checksum that was declared.
pub fn create_multipart_upload(op: &CreateMultipartUpload, upload_id: &UploadId) -> Response<ResponseBody> {
    let mut response = document("InitiateMultipartUploadResult", |xml| {
        xml.text("Bucket", op.bucket.as_str());
        xml.text("Key", op.key.as_str());
        xml.text("UploadId", upload_id.as_str());
    });
    if let Some((algorithm, kind)) = op.checksum {
        set(response.headers_mut(), "x-amz-checksum-algorithm", algorithm.as_str());
        set(response.headers_mut(), "x-amz-checksum-type", kind.as_str());
    }
    response
}

/// UploadPart: tag and checksum of what was stored.
pub fn upload_part(part: &Part) -> Response<ResponseBody> {
    let mut response = ok();
    let headers = response.headers_mut();
    set_etag(headers, &part.etag);
    if let Some(checksum) = &part.checksum {
        set(headers, checksum.algorithm.header_name(), &checksum.to_string());
    }
    response
}

/// UploadPartCopy. `source_version` is the version that was copied, where the source's bucket keeps versions.
pub fn upload_part_copy(part: &Part, source_version: Option<&VersionId>) -> Response<ResponseBody> {
    let mut response = document("CopyPartResult", |xml| {
        xml.text("LastModified", &iso_date(part.last_modified));
        xml.text("ETag", &quoted(&part.etag));
        write_checksum(xml, part.checksum.as_ref());
    });
    if let Some(version) = source_version {
        set(response.headers_mut(), "x-amz-copy-source-version-id", version.as_str());
    }
    response
}

/// CompleteMultipartUpload. `location` is the object's URL.
pub fn complete_multipart_upload(bucket: &BucketName, info: &ObjectInfo, location: &str) -> Response<ResponseBody> {
    let checksum = info.attributes.checksum.as_ref();
    let mut response = document("CompleteMultipartUploadResult", |xml| {
        xml.text("Location", location);
        xml.text("Bucket", bucket.as_str());
        xml.text("Key", info.key.as_str());
        xml.text("ETag", &quoted(&info.etag));
        write_checksum(xml, checksum);
        if let Some(checksum) = checksum {
            xml.text("ChecksumType", checksum.kind.as_str());
        }
    });
    set_version(response.headers_mut(), info.version_id.as_ref());
    response
}

/// AbortMultipartUpload.
pub fn abort_multipart_upload() -> Response<ResponseBody> {
    no_content()
}
