//! Operations on objects.

use http::header;
use t2gate_backends::{ChecksumType, ContentHeaders, PartNumber, UserMetadata};

use super::{
    Input,
    bucket::{is_other_canned_acl, judge_acl_body, unknown_canned_acl},
    list::{integer, page_size},
};
use crate::{
    limits::MAX_USER_METADATA_BYTES,
    s3::{
        S3Error, S3ErrorCode, checksum, conditional,
        headers::{self, META_PREFIX},
        operation::{
            CopyObject, CopySource, DeleteObject, GetObject, GetObjectAttributes, ObjectAcl, PutObject, PutObjectAcl,
            Range, ResponseOverrides,
        },
    },
};

pub(super) fn put_object(input: Input<'_>) -> Result<PutObject, S3Error> {
    storage_class(input)?;
    if checksum::checksum_type(input.request.headers)? == Some(ChecksumType::Composite) {
        return Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "The checksum of an object that is put in one piece has the type FULL_OBJECT.",
        ));
    }
    Ok(PutObject {
        bucket: input.bucket()?,
        key: input.key()?,
        content: content_headers(input)?,
        user_metadata: user_metadata(input)?,
        condition: conditional::write_condition(input.request.headers)?,
        acl: object_acl(input)?,
    })
}

pub(super) fn get_object(input: Input<'_>) -> Result<GetObject, S3Error> {
    let headers = input.request.headers;
    // Several lines are several ranges, which are answered with the whole object.
    let mut lines = headers.get_all(header::RANGE).iter();
    let range = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().and_then(Range::parse),
        _ => None,
    };
    let part_number = input.request.query.get("partNumber")?.map(part_number).transpose()?;
    if part_number.is_some() && headers.contains_key(header::RANGE) {
        return Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        ));
    }
    let checksum_mode = match input.header("x-amz-checksum-mode")? {
        None => false,
        Some(mode) if mode.eq_ignore_ascii_case("ENABLED") => true,
        Some(mode) => {
            return Err(S3Error::invalid_argument(
                "The checksum mode can only be ENABLED.",
                "x-amz-checksum-mode",
                mode,
            ));
        }
    };
    Ok(GetObject {
        object: input.object()?,
        condition: conditional::read_condition(headers)?,
        range,
        if_range: conditional::if_range(headers)?,
        part_number,
        checksum_mode,
        overrides: overrides(input)?,
    })
}

pub(super) fn copy_object(input: Input<'_>, source: CopySource) -> Result<CopyObject, S3Error> {
    let storage_class = storage_class(input)?;
    if input.header("x-amz-copy-source-range")?.is_some() {
        return Err(S3Error::header_not_implemented("x-amz-copy-source-range"));
    }
    refuse_body(input)?;
    let replace_metadata = match input.header("x-amz-metadata-directive")? {
        None | Some("COPY") => None,
        Some("REPLACE") => Some((content_headers(input)?, user_metadata(input)?)),
        Some(other) => {
            return Err(S3Error::invalid_argument(
                "Unknown metadata directive.",
                "x-amz-metadata-directive",
                other,
            ));
        }
    };
    let checksum_algorithm = checksum::checksum_algorithm(input.request.headers)?;
    Ok(CopyObject {
        source,
        bucket: input.bucket()?,
        key: input.key()?,
        changes_something: replace_metadata.is_some() || checksum_algorithm.is_some() || storage_class,
        replace_metadata,
        checksum_algorithm,
        condition: conditional::write_condition(input.request.headers)?,
        acl: object_acl(input)?,
    })
}

/// A copy has no bytes of its own; some, sent by mistake, would vanish.
pub(super) fn refuse_body(input: Input<'_>) -> Result<(), S3Error> {
    if input.request.has_body {
        return Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "A copy request must not have a body.",
        ));
    }
    Ok(())
}

pub(super) fn delete_object(input: Input<'_>) -> Result<DeleteObject, S3Error> {
    Ok(DeleteObject {
        object: input.object()?,
        condition: conditional::delete_condition(input.request.headers)?,
    })
}

pub(super) fn put_object_acl(input: Input<'_>) -> Result<PutObjectAcl, S3Error> {
    conditional::no_condition(input.request.headers)?;
    let acl = object_acl(input)?;
    judge_acl_body(input, acl.is_some())?;
    Ok(PutObjectAcl {
        object: input.object()?,
        acl,
    })
}

pub(super) fn get_object_attributes(input: Input<'_>) -> Result<GetObjectAttributes, S3Error> {
    let name = header::HeaderName::from_static("x-amz-object-attributes");
    let names = headers::joined(input.request.headers, &name)?.ok_or_else(|| {
        S3Error::new(
            S3ErrorCode::InvalidRequest,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        )
    })?;
    let marker = input
        .header("x-amz-part-number-marker")?
        .map(|text| integer(text, "x-amz-part-number-marker"))
        .transpose()?;
    let mut attributes = GetObjectAttributes {
        object: input.object()?,
        etag: false,
        checksum: false,
        object_parts: false,
        storage_class: false,
        object_size: false,
        max_parts: page_size(input.header("x-amz-max-parts")?, "x-amz-max-parts")?,
        part_number_marker: marker.map_or(0, part_marker),
    };
    for name in names.split(',').map(str::trim) {
        match name {
            "ETag" => attributes.etag = true,
            "Checksum" => attributes.checksum = true,
            "ObjectParts" => attributes.object_parts = true,
            "StorageClass" => attributes.storage_class = true,
            "ObjectSize" => attributes.object_size = true,
            other => {
                return Err(S3Error::invalid_argument(
                    "Invalid attribute name specified.",
                    "x-amz-object-attributes",
                    other,
                ));
            }
        }
    }
    Ok(attributes)
}

/// A marker beyond all parts leaves none, like the last of them.
pub(super) fn part_marker(marker: u64) -> u16 {
    u16::try_from(marker).unwrap_or(u16::MAX)
}

pub(in crate::s3) fn part_number(text: &str) -> Result<PartNumber, S3Error> {
    PartNumber::parse(text).map_err(|_| {
        S3Error::invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
            "partNumber",
            text,
        )
    })
}

/// The content headers to keep with an object.
pub(super) fn content_headers(input: Input<'_>) -> Result<ContentHeaders, S3Error> {
    let headers = input.request.headers;
    let one = |name| {
        Ok::<_, S3Error>(
            headers::one(headers, &name)?
                .filter(|text| !text.is_empty())
                .map(Into::into),
        )
    };
    let list = |name| headers::joined(headers, &name);
    Ok(ContentHeaders {
        content_type: one(header::CONTENT_TYPE)?,
        content_encoding: list(header::CONTENT_ENCODING)?.and_then(|text| without_aws_chunked(&text)),
        content_language: list(header::CONTENT_LANGUAGE)?
            .filter(|text| !text.is_empty())
            .map(Into::into),
        content_disposition: one(header::CONTENT_DISPOSITION)?,
        cache_control: list(header::CACHE_CONTROL)?
            .filter(|text| !text.is_empty())
            .map(Into::into),
        expires: one(header::EXPIRES)?,
    })
}

/// `aws-chunked` says how the request was framed, not what the object is. The rest stays as it was sent.
fn without_aws_chunked(text: &str) -> Option<Box<str>> {
    let is_framing = |token: &&str| token.trim().eq_ignore_ascii_case("aws-chunked");
    if !text.split(',').any(|token| is_framing(&token)) {
        return Some(text).filter(|text| !text.is_empty()).map(Into::into);
    }
    let rest: Vec<&str> = text
        .split(',')
        .filter(|token| !is_framing(token))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect();
    if rest.is_empty() {
        None
    } else {
        Some(rest.join(",").into())
    }
}

/// The `x-amz-meta-*` headers, as they were sent. A repeated one is a list. Error: `MetadataTooLarge`.
pub(super) fn user_metadata(input: Input<'_>) -> Result<UserMetadata, S3Error> {
    let headers = input.request.headers;
    let mut metadata = UserMetadata::new();
    let mut size = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(META_PREFIX) else {
            continue;
        };
        if short.is_empty() {
            return Err(S3Error::invalid_argument("A metadata name is empty.", META_PREFIX, ""));
        }
        let value = headers::joined(headers, name)?.unwrap_or_default();
        size += short.len() + value.len();
        metadata.push((short.into(), value.into()));
    }
    if size > MAX_USER_METADATA_BYTES {
        return Err(S3Error::new(
            S3ErrorCode::MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size",
        )
        .with_field("Size", size.to_string())
        .with_field("MaxSizeAllowed", MAX_USER_METADATA_BYTES.to_string()));
    }
    metadata.sort();
    Ok(metadata)
}

/// Whether a storage class is named; there is just the one.
pub(super) fn storage_class(input: Input<'_>) -> Result<bool, S3Error> {
    match input.header("x-amz-storage-class")? {
        None => Ok(false),
        Some("STANDARD") => Ok(true),
        Some(other) => Err(S3Error::new(
            S3ErrorCode::InvalidStorageClass,
            "The storage class you specified is not valid",
        )
        .with_field("StorageClassRequested", other)),
    }
}

pub(super) fn object_acl(input: Input<'_>) -> Result<Option<ObjectAcl>, S3Error> {
    let Some(text) = input.header("x-amz-acl")? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(acl) => Ok(Some(ObjectAcl::Bucket(acl))),
        Err(_) if is_other_canned_acl(text) => Ok(Some(ObjectAcl::Other)),
        Err(_) => Err(unknown_canned_acl(text)),
    }
}

fn overrides(input: Input<'_>) -> Result<ResponseOverrides, S3Error> {
    let value = |name: &'static str| -> Result<Option<Box<str>>, S3Error> {
        let Some(text) = input.parameter(name)? else {
            return Ok(None);
        };
        match header::HeaderValue::from_bytes(text.as_bytes()) {
            Ok(_) => Ok(Some(text.into())),
            Err(_) => Err(S3Error::invalid_argument("The value can be no header.", name, text)),
        }
    };
    Ok(ResponseOverrides(ContentHeaders {
        content_type: value("response-content-type")?,
        content_encoding: value("response-content-encoding")?,
        content_language: value("response-content-language")?,
        content_disposition: value("response-content-disposition")?,
        cache_control: value("response-cache-control")?,
        expires: value("response-expires")?,
    }))
}
