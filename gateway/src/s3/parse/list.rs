//! Listings of buckets, objects and uploads.

use t2gate_backends::UploadId;

use super::{Input, version_id_of};
use crate::{
    limits::{MAX_BUCKETS_PAGE, MAX_INTEGER, MAX_LIST_ARGUMENT_BYTES, MAX_PAGE},
    s3::{
        Operation, S3Error, S3ErrorCode,
        operation::{EncodingType, ListBuckets, ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2},
        token,
    },
};

pub(super) fn list_buckets(input: Input<'_>) -> Result<ListBuckets, S3Error> {
    let max_buckets = match input.parameter("max-buckets")? {
        None => None,
        Some(text) => Some(
            // `parse` alone would take a sign.
            Some(text)
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|max| (1..=MAX_BUCKETS_PAGE).contains(max))
                .ok_or_else(|| {
                    S3Error::invalid_argument(
                        format!("Argument max-buckets must be an integer between 1 and {MAX_BUCKETS_PAGE}"),
                        "max-buckets",
                        text,
                    )
                })?,
        ),
    };
    Ok(ListBuckets {
        prefix: text(input, "prefix")?.unwrap_or_default(),
        start_after: input
            .parameter("continuation-token")?
            .map(continuation_token)
            .transpose()?,
        max_buckets,
        bucket_region: input.parameter("bucket-region")?.map(Into::into),
    })
}

/// `list-type` chooses the version.
pub(super) fn list_objects(input: Input<'_>) -> Result<Operation, S3Error> {
    match input.parameter("list-type")? {
        None | Some("1") => Ok(Operation::ListObjects(ListObjects {
            bucket: input.bucket()?,
            prefix: text(input, "prefix")?.unwrap_or_default(),
            delimiter: text(input, "delimiter")?,
            marker: text(input, "marker")?,
            max_keys: page_size(input.parameter("max-keys")?, "max-keys")?,
            encoding_type: encoding_type(input)?,
        })),
        Some("2") => {
            // An empty token is none, but it is given back.
            let continuation_token = input.request.query.get("continuation-token")?;
            let decoded = continuation_token
                .filter(|token| !token.is_empty())
                .map(self::continuation_token);
            Ok(Operation::ListObjectsV2(ListObjectsV2 {
                bucket: input.bucket()?,
                prefix: text(input, "prefix")?.unwrap_or_default(),
                delimiter: text(input, "delimiter")?,
                continuation_token: continuation_token.map(Into::into),
                continue_after: decoded.transpose()?,
                start_after: text(input, "start-after")?,
                fetch_owner: boolean(input, "fetch-owner")?,
                max_keys: page_size(input.parameter("max-keys")?, "max-keys")?,
                encoding_type: encoding_type(input)?,
            }))
        }
        Some(other) => Err(S3Error::invalid_argument(
            "Invalid List Type specified in Request",
            "list-type",
            other,
        )),
    }
}

pub(super) fn list_object_versions(input: Input<'_>) -> Result<ListObjectVersions, S3Error> {
    const ID_MARKER: &str = "version-id-marker";
    let key_marker = text(input, "key-marker")?;
    let version_id_marker = match input.request.query.get(ID_MARKER)? {
        None => None,
        Some("") => {
            return Err(S3Error::invalid_argument(
                "A version-id marker cannot be empty.",
                ID_MARKER,
                "",
            ));
        }
        Some(id) if key_marker.is_none() => {
            return Err(S3Error::invalid_argument(
                "A version-id marker cannot be specified without a key marker.",
                ID_MARKER,
                id,
            ));
        }
        Some(id) => Some(version_id_of(ID_MARKER, id)?),
    };
    Ok(ListObjectVersions {
        bucket: input.bucket()?,
        prefix: text(input, "prefix")?.unwrap_or_default(),
        delimiter: text(input, "delimiter")?,
        key_marker,
        version_id_marker,
        max_keys: page_size(input.parameter("max-keys")?, "max-keys")?,
        encoding_type: encoding_type(input)?,
    })
}

pub(super) fn list_multipart_uploads(input: Input<'_>) -> Result<ListMultipartUploads, S3Error> {
    let upload_id_marker = match input.parameter("upload-id-marker")? {
        None => None,
        Some(text) => Some(
            UploadId::parse(text)
                .map_err(|_| S3Error::invalid_argument("Invalid uploadId marker", "upload-id-marker", text))?,
        ),
    };
    Ok(ListMultipartUploads {
        bucket: input.bucket()?,
        prefix: text(input, "prefix")?.unwrap_or_default(),
        delimiter: text(input, "delimiter")?,
        key_marker: text(input, "key-marker")?,
        upload_id_marker,
        max_uploads: page_size(input.parameter("max-uploads")?, "max-uploads")?,
        encoding_type: encoding_type(input)?,
    })
}

/// How many entries a page may have: 0 to [`MAX_PAGE`], which is also what is given where nothing is asked. Error:
/// `InvalidArgument` for what is no number that S3 takes.
pub(super) fn page_size(text: Option<&str>, name: &'static str) -> Result<usize, S3Error> {
    match text {
        None => Ok(MAX_PAGE),
        Some(text) => integer(text, name).map(|asked| usize::try_from(asked).unwrap_or(MAX_PAGE).min(MAX_PAGE)),
    }
}

/// A number from 0 to [`MAX_INTEGER`]: digits alone.
pub(super) fn integer(text: &str, name: &'static str) -> Result<u64, S3Error> {
    Some(text)
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|number| *number <= MAX_INTEGER)
        .ok_or_else(|| {
            S3Error::invalid_argument(
                format!("Argument {name} must be an integer between 0 and {MAX_INTEGER}"),
                name,
                text,
            )
        })
}

pub(super) fn encoding_type(input: Input<'_>) -> Result<EncodingType, S3Error> {
    match input.parameter("encoding-type")? {
        None => Ok(EncodingType::Plain),
        Some(text) if text.eq_ignore_ascii_case("url") => Ok(EncodingType::Url),
        Some(text) => Err(S3Error::invalid_argument(
            "Invalid Encoding Method specified in Request",
            "encoding-type",
            text,
        )),
    }
}

fn continuation_token(token: &str) -> Result<Box<str>, S3Error> {
    token::decode(token).ok_or_else(|| {
        S3Error::invalid_argument(
            "The continuation token provided is incorrect",
            "continuation-token",
            token,
        )
    })
}

/// A prefix, delimiter or marker; an empty one is none.
fn text(input: Input<'_>, name: &'static str) -> Result<Option<Box<str>>, S3Error> {
    let Some(text) = input.parameter(name)? else {
        return Ok(None);
    };
    if text.len() > MAX_LIST_ARGUMENT_BYTES {
        return Err(S3Error::new(S3ErrorCode::KeyTooLongError, "Your key is too long").with_field("ArgumentName", name));
    }
    if text.contains('\0') {
        return Err(S3Error::invalid_argument(
            "The argument must not hold a NUL character.",
            name,
            "",
        ));
    }
    Ok(Some(text.into()))
}

fn boolean(input: Input<'_>, name: &'static str) -> Result<bool, S3Error> {
    match input.parameter(name)? {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(S3Error::invalid_argument(
            "The argument must be true or false",
            name,
            text,
        )),
    }
}
