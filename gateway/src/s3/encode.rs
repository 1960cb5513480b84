//! Outcomes into responses: headers, status, XML. One function per operation; who sends it, and with which request id,
//! is for the layers.

mod acl;
mod bucket;
mod error;
mod list;
mod multipart;
mod object;

use std::{
    borrow::Cow,
    convert::Infallible,
    ops,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use t2gate_backends::{AccountId, Checksum, ETag, ObjectPart, Timestamp, VersionId};

pub use acl::{get_bucket_acl, get_object_acl};
pub use bucket::{
    create_bucket, delete_bucket, delete_unset_bucket_configuration, get_bucket_location, get_bucket_versioning,
    get_unset_bucket_configuration, get_unset_object_lock, head_bucket, put_bucket_acl, put_bucket_versioning,
};
pub use error::{json_code, json_error, xml_error};
pub use list::{list_buckets, list_multipart_uploads, list_object_versions, list_objects, list_objects_v2, list_parts};
pub use multipart::{
    abort_multipart_upload, complete_multipart_upload, create_multipart_upload, upload_part, upload_part_copy,
};
pub use object::{
    DeleteResult, copy_object, delete_marker, delete_object, delete_objects, get_object, get_object_attributes,
    get_object_tagging, head_object, put_object, put_object_acl, read_refused, select_part,
};

use super::{
    S3Error, S3ErrorCode,
    operation::EncodingType,
    xml::writer::{XmlWriter, escaped_len, is_representable},
};

/// The body of every answer. An error breaks the connection off, so that a short answer is never taken for a whole one.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The only storage class.
const STANDARD: &str = "STANDARD";

/// What S3 leaves as it is under `encoding-type=url`. A space becomes `%20`, which readers of both conventions decode.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// Which bytes of an object a read answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Whole,
    /// Not empty, within the object.
    Range(ops::Range<u64>),
    /// By `partNumber`: where it lies, and what is known of it. `None` for the one part of an object that was written
    /// in one piece.
    Part(ops::Range<u64>, Option<ObjectPart>),
}

impl Selection {
    /// The bytes, of an object of `size`.
    pub fn bytes(&self, size: u64) -> ops::Range<u64> {
        match self {
            Self::Whole => 0..size,
            Self::Range(range) | Self::Part(range, _) => range.clone(),
        }
    }
}

/// A body without a byte.
pub fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body at hand. What has been given away waits in the connection's buffer, however slowly a client reads: so it is
/// given away in slices, and whoever holds something until the body has ended holds it until most of that is sent.
pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Slices(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The most that is given away at once, in bytes.
const SLICE: usize = 64 * 1024;

#[derive(Debug)]
struct Slices(Bytes);

impl Body for Slices {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let len = self.0.len().min(SLICE);
        // A copy: a slice of it would keep all of the document for as long as it waits.
        Poll::Ready((len > 0).then(|| Ok(Frame::data(Bytes::copy_from_slice(&self.0.split_to(len))))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

fn no_content() -> Response<ResponseBody> {
    with_status(StatusCode::NO_CONTENT)
}

fn ok() -> Response<ResponseBody> {
    with_status(StatusCode::OK)
}

fn with_status(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// 200 with a document.
fn document(root: &str, content: impl FnOnce(&mut XmlWriter)) -> Response<ResponseBody> {
    xml_answer(XmlWriter::document(root, content))
}

/// 200 with a document of about so many bytes.
fn document_of(bytes: usize, root: &str, content: impl FnOnce(&mut XmlWriter)) -> Response<ResponseBody> {
    xml_answer(XmlWriter::document_of(bytes, root, content))
}

fn xml_answer(bytes: Bytes) -> Response<ResponseBody> {
    let length = bytes.len();
    let mut response = Response::new(full(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Sets a header to what may come from a client or a disk. What can be no header is left out; the answer says whether.
fn set(headers: &mut HeaderMap, name: impl TryInto<HeaderName>, value: &str) -> bool {
    match (name.try_into(), HeaderValue::from_bytes(value.as_bytes())) {
        (Ok(name), Ok(value)) => {
            headers.insert(name, value);
            true
        }
        _ => false,
    }
}

fn set_etag(headers: &mut HeaderMap, etag: &ETag) {
    set(headers, ETAG, &quoted(etag));
}

fn set_last_modified(headers: &mut HeaderMap, time: Timestamp) {
    set(headers, LAST_MODIFIED, &http_date(time));
}

fn set_version(headers: &mut HeaderMap, version_id: Option<&VersionId>) {
    if let Some(version_id) = version_id {
        set(headers, "x-amz-version-id", version_id.as_str());
    }
}

/// The value, and over what it runs.
fn set_checksum(headers: &mut HeaderMap, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        set(headers, checksum.algorithm.header_name(), &checksum.to_string());
        set(headers, "x-amz-checksum-type", checksum.kind.as_str());
    }
}

fn write_checksum(xml: &mut XmlWriter, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        xml.value(&format!("Checksum{}", checksum.algorithm.as_str()), checksum);
    }
}

/// An account by id. Some readers demand a name, and ours have no other.
fn write_account(xml: &mut XmlWriter, element: &str, account: &AccountId) {
    xml.element(element, |xml| {
        xml.text("ID", account.as_str());
        xml.text("DisplayName", account.as_str());
    });
}

fn quoted(etag: &ETag) -> String {
    format!("\"{etag}\"")
}

/// `2026-01-02T03:04:05.000Z`
fn iso_date(time: Timestamp) -> String {
    // Every Timestamp lies within what jiff knows.
    let time = jiff::Timestamp::from_millisecond(time.unix_millis()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// RFC 9110, section 5.6.7. The format begins in 1970: what is older is clamped.
fn http_date(time: Timestamp) -> String {
    httpdate::fmt_http_date(time.max(Timestamp::from_unix_nanos(0)).into())
}

/// A key, prefix, delimiter or marker as a listing shows it. Error: `InvalidRequest` where XML cannot say it and the
/// client did not ask for an encoding that can: a listing that shows another key than there is would do harm.
fn listed<'a>(text: &'a str, encoding_type: EncodingType) -> Result<Cow<'a, str>, S3Error> {
    check_listed(text, encoding_type)?;
    Ok(match encoding_type {
        EncodingType::Url => utf8_percent_encode(text, URL_ENCODED).into(),
        EncodingType::Plain => text.into(),
    })
}

/// Whether [`write_listed`] can say it; errors as [`listed`].
fn check_listed(text: &str, encoding_type: EncodingType) -> Result<(), S3Error> {
    match encoding_type {
        EncodingType::Url => Ok(()),
        EncodingType::Plain if is_representable(text) => Ok(()),
        EncodingType::Plain => Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "The listing has a key that XML cannot represent; ask for it with encoding-type=url.",
        )),
    }
}

/// An element with what [`listed`] gives, without making a copy of it: a page has a thousand of them.
fn write_listed(xml: &mut XmlWriter, element: &str, text: &str, encoding_type: EncodingType) {
    match encoding_type {
        EncodingType::Url => xml.pieces(element, utf8_percent_encode(text, URL_ENCODED)),
        EncodingType::Plain => xml.text(element, text),
    }
}

/// How many bytes [`write_listed`] writes beside the element's tags.
fn listed_len(text: &str, encoding_type: EncodingType) -> usize {
    match encoding_type {
        EncodingType::Url => utf8_percent_encode(text, URL_ENCODED).map(str::len).sum(),
        EncodingType::Plain => escaped_len(text),
    }
}

#[cfg(test)]
mod tests;
