//! Answers about objects.

use std::ops;

use http::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
        CONTENT_RANGE, CONTENT_TYPE, EXPIRES,
    },
};
use t2gate_backends::{
    BackendError, ContentHeaders, DeleteObjectOutcome, ObjectInfo, ObjectPart, PartNumber, ReadRefusal, Timestamp,
    VersionId,
};

use super::{
    ResponseBody, STANDARD, Selection, document, document_of, empty, iso_date, no_content, ok, quoted, set,
    set_checksum, set_etag, set_last_modified, set_version, write_checksum,
};
use crate::s3::{
    S3Error, S3ErrorCode,
    headers::META_PREFIX,
    operation::{GetObject, GetObjectAttributes},
    xml::writer::escaped_len,
};

/// What an object takes in the answer to DeleteObjects beside its key, in bytes.
const DELETED_BYTES: usize = 512;

/// What S3 says where nobody said what the bytes are.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// PutObject: tag and checksum of what was stored.
pub fn put_object(info: &ObjectInfo) -> Response<ResponseBody> {
    let mut response = ok();
    let headers = response.headers_mut();
    set_etag(headers, &info.etag);
    set_version(headers, info.version_id.as_ref());
    set_checksum(headers, info.attributes.checksum.as_ref());
    response
}

/// Status and headers of GetObject; the caller adds the bytes of `selection`.
pub fn get_object(op: &GetObject, info: &ObjectInfo, selection: &Selection) -> Response<()> {
    let mut response = Response::new(());
    let bytes = selection.bytes(info.size);
    let headers = response.headers_mut();
    set(headers, ACCEPT_RANGES, "bytes");
    set(headers, CONTENT_LENGTH, &(bytes.end - bytes.start).to_string());
    set_etag(headers, &info.etag);
    set_last_modified(headers, info.last_modified);
    set_version(headers, info.version_id.as_ref());
    set_content(headers, &info.attributes.content, &op.overrides.0);
    set_user_metadata(headers, info);
    match selection {
        Selection::Part(_, _) => {
            if let Some(count) = info.parts_count {
                set(headers, "x-amz-mp-parts-count", &count.to_string());
            }
        }
        Selection::Whole | Selection::Range(_) => {}
    }
    if op.checksum_mode {
        set_read_checksum(headers, info, selection);
    }
    let is_partial = !matches!(selection, Selection::Whole) && !bytes.is_empty();
    if is_partial {
        let last = bytes.end - 1;
        set(
            headers,
            CONTENT_RANGE,
            &format!("bytes {}-{last}/{}", bytes.start, info.size),
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// HeadObject: what GetObject would say, without the bytes.
pub fn head_object(op: &GetObject, info: &ObjectInfo, selection: &Selection) -> Response<ResponseBody> {
    get_object(op, info, selection).map(|()| empty())
}

/// The selection of `partNumber`. `parts` are the object's parts up to that number at least, as the backend tells
/// them; empty where it was written in one piece, which is then its own part 1. Error: 416 for a part that is not
/// there.
pub fn select_part(info: &ObjectInfo, parts: &[ObjectPart], part_number: PartNumber) -> Result<Selection, S3Error> {
    if parts.is_empty() && info.parts_count.is_none() && part_number.get() == 1 {
        return Ok(Selection::Part(0..info.size, None));
    }
    let mut start = 0_u64;
    for part in parts {
        let end = start.saturating_add(part.size);
        if part.part_number == part_number && end <= info.size {
            return Ok(Selection::Part(start..end, Some(part.clone())));
        }
        start = end;
    }
    Err(S3Error::new(
        S3ErrorCode::InvalidPartNumber,
        "The requested partnumber is not satisfiable",
    )
    .with_field("PartNumberRequested", part_number.to_string())
    .with_field("ActualPartCount", info.parts_count.unwrap_or(1).to_string()))
}

/// The answer to a conditional read that does not go through: 304, which keeps what a cache needs, or 412.
pub fn read_refused(refusal: ReadRefusal, info: &ObjectInfo) -> S3Error {
    let error = match refusal {
        ReadRefusal::NotModified => S3Error::new(S3ErrorCode::NotModified, "Not Modified"),
        ReadRefusal::PreconditionFailed => S3Error::new(
            S3ErrorCode::PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold",
        ),
    };
    let mut headers = HeaderMap::new();
    set_etag(&mut headers, &info.etag);
    set_last_modified(&mut headers, info.last_modified);
    set_version(&mut headers, info.version_id.as_ref());
    let content = &info.attributes.content;
    for (name, value) in [(CACHE_CONTROL, &content.cache_control), (EXPIRES, &content.expires)] {
        if let Some(value) = value {
            set(&mut headers, name, value);
        }
    }
    with_headers(error, headers)
}

fn with_headers(error: S3Error, headers: HeaderMap) -> S3Error {
    headers.into_iter().fold(error, |error, (name, value)| match name {
        Some(name) => error.with_header(name, value),
        None => error,
    })
}

/// CopyObject. `source_version` is the version that was copied, where the source's bucket keeps versions.
pub fn copy_object(info: &ObjectInfo, source_version: Option<&VersionId>) -> Response<ResponseBody> {
    let checksum = info.attributes.checksum.as_ref();
    let mut response = document("CopyObjectResult", |xml| {
        xml.text("LastModified", &iso_date(info.last_modified));
        xml.text("ETag", &quoted(&info.etag));
        if let Some(checksum) = checksum {
            xml.text("ChecksumType", checksum.kind.as_str());
        }
        write_checksum(xml, checksum);
    });
    let headers = response.headers_mut();
    set_version(headers, info.version_id.as_ref());
    if let Some(version) = source_version {
        set(headers, "x-amz-copy-source-version-id", version.as_str());
    }
    response
}

/// DeleteObject. Whether it was there at all is judged before: the dialects differ.
pub fn delete_object(outcome: &DeleteObjectOutcome) -> Response<ResponseBody> {
    let mut response = no_content();
    set_version(response.headers_mut(), outcome.version_id.as_ref());
    if outcome.delete_marker {
        set(response.headers_mut(), "x-amz-delete-marker", "true");
    }
    response
}

/// What became of one object of DeleteObjects.
#[derive(Debug)]
pub struct DeleteResult {
    /// As the client sent it.
    pub key: String,
    pub version_id: Option<String>,
    pub outcome: Result<DeleteObjectOutcome, S3Error>,
}

/// DeleteObjects. `quiet` leaves out what went well.
pub fn delete_objects(results: &[DeleteResult], quiet: bool) -> Response<ResponseBody> {
    let bytes = results
        .iter()
        .map(|result| escaped_len(&result.key) + DELETED_BYTES)
        .sum();
    document_of(bytes, "DeleteResult", |xml| {
        for result in results {
            match &result.outcome {
                Ok(_) if quiet => {}
                Ok(outcome) => xml.element("Deleted", |xml| {
                    xml.text("Key", &result.key);
                    xml.optional("VersionId", result.version_id.as_deref());
                    if outcome.delete_marker {
                        xml.text("DeleteMarker", "true");
                        xml.optional(
                            "DeleteMarkerVersionId",
                            outcome.version_id.as_ref().map(VersionId::as_str),
                        );
                    }
                }),
                Err(error) => xml.element("Error", |xml| {
                    xml.text("Key", &result.key);
                    xml.optional("VersionId", result.version_id.as_deref());
                    xml.text("Code", error.code().as_str());
                    xml.text("Message", error.message());
                }),
            }
        }
    })
}

/// GetObjectAttributes. `parts` are those after the marker, at most `max_parts` of them, and `is_truncated` says that more follow; all
/// ignored unless they were asked for.
pub fn get_object_attributes(
    op: &GetObjectAttributes,
    info: &ObjectInfo,
    parts: &[ObjectPart],
    is_truncated: bool,
) -> Response<ResponseBody> {
    let mut response = document("GetObjectAttributesResponse", |xml| {
        if op.etag {
            // Without quotes, in this document alone.
            xml.text("ETag", info.etag.as_str());
        }
        if let Some(checksum) = info.attributes.checksum.as_ref().filter(|_| op.checksum) {
            xml.element("Checksum", |xml| {
                write_checksum(xml, Some(checksum));
                xml.text("ChecksumType", checksum.kind.as_str());
            });
        }
        if let Some(count) = info.parts_count.filter(|_| op.object_parts) {
            xml.element("ObjectParts", |xml| {
                xml.value("PartsCount", count);
                xml.value("PartNumberMarker", op.part_number_marker);
                if let Some(last) = parts.last() {
                    xml.value("NextPartNumberMarker", last.part_number);
                }
                xml.value("MaxParts", op.max_parts);
                xml.value("IsTruncated", is_truncated);
                for part in parts {
                    xml.element("Part", |xml| {
                        xml.value("PartNumber", part.part_number);
                        xml.value("Size", part.size);
                        write_checksum(xml, part.checksum.as_ref());
                    });
                }
            });
        }
        if op.storage_class {
            xml.text("StorageClass", STANDARD);
        }
        if op.object_size {
            xml.value("ObjectSize", info.size);
        }
    });
    set_last_modified(response.headers_mut(), info.last_modified);
    set_version(response.headers_mut(), info.version_id.as_ref());
    response
}

/// PutObjectAcl: there is nothing to tell but which version it was.
pub fn put_object_acl(version_id: Option<&VersionId>) -> Response<ResponseBody> {
    let mut response = ok();
    set_version(response.headers_mut(), version_id);
    response
}

/// What is said where a delete marker stands. It hides what is asked for by name; itself, asked for by its id, it can only
/// be deleted.
pub fn delete_marker(by_id: bool, version_id: &VersionId, last_modified: Timestamp) -> S3Error {
    let mut headers = HeaderMap::new();
    let error = if by_id {
        set(&mut headers, ALLOW, "DELETE");
        set_last_modified(&mut headers, last_modified);
        let message = "The specified method is not allowed against this resource.";
        S3Error::new(S3ErrorCode::MethodNotAllowed, message).with_field("ResourceType", "DeleteMarker")
    } else {
        BackendError::NoSuchKey.into()
    };
    set(&mut headers, "x-amz-delete-marker", "true");
    set_version(&mut headers, Some(version_id));
    with_headers(error, headers)
}

/// GetObjectTagging: no object has tags.
pub fn get_object_tagging(version_id: Option<&VersionId>) -> Response<ResponseBody> {
    let mut response = document("Tagging", |xml| xml.element("TagSet", |_| {}));
    set_version(response.headers_mut(), version_id);
    response
}

/// The content headers; `overrides` stand above what is stored.
fn set_content(headers: &mut HeaderMap, stored: &ContentHeaders, overrides: &ContentHeaders) {
    let default_type = Some(DEFAULT_CONTENT_TYPE);
    for (name, stored, over, default) in [
        (
            CONTENT_TYPE,
            &stored.content_type,
            &overrides.content_type,
            default_type,
        ),
        (
            CONTENT_ENCODING,
            &stored.content_encoding,
            &overrides.content_encoding,
            None,
        ),
        (
            CONTENT_LANGUAGE,
            &stored.content_language,
            &overrides.content_language,
            None,
        ),
        (
            CONTENT_DISPOSITION,
            &stored.content_disposition,
            &overrides.content_disposition,
            None,
        ),
        (CACHE_CONTROL, &stored.cache_control, &overrides.cache_control, None),
        (EXPIRES, &stored.expires, &overrides.expires, None),
    ] {
        if let Some(value) = over.as_deref().or(stored.as_deref()).or(default) {
            set(headers, name, value);
        }
    }
}

/// What can be no header is counted, as S3 does, for it is there all the same.
fn set_user_metadata(headers: &mut HeaderMap, info: &ObjectInfo) {
    let mut missing = 0_usize;
    for (name, value) in &info.attributes.user_metadata {
        if !set(headers, format!("{META_PREFIX}{name}"), value) {
            missing += 1;
        }
    }
    if missing > 0 {
        set(headers, "x-amz-missing-meta", &missing.to_string());
    }
}

/// The checksum of exactly the bytes that are answered with, where there is one.
fn set_read_checksum(headers: &mut HeaderMap, info: &ObjectInfo, selection: &Selection) {
    let whole: ops::Range<u64> = 0..info.size;
    let stored = info.attributes.checksum.as_ref();
    match selection {
        Selection::Part(_, Some(part)) => {
            if let Some(checksum) = &part.checksum {
                set(headers, checksum.algorithm.header_name(), &checksum.to_string());
                let kind = stored.map_or(checksum.kind, |stored| stored.kind);
                set(headers, "x-amz-checksum-type", kind.as_str());
            }
        }
        Selection::Whole | Selection::Part(_, None) => set_checksum(headers, stored),
        Selection::Range(range) if *range == whole => set_checksum(headers, stored),
        Selection::Range(_) => {}
    }
}
