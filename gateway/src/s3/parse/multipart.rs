//! Multipart uploads.

use t2gate_backends::PartNumber;

use super::{
    Input,
    list::{encoding_type, integer, page_size},
    object::{content_headers, object_acl, part_marker, part_number, refuse_body, storage_class, user_metadata},
};
use crate::s3::{
    S3Error, S3ErrorCode, checksum, conditional,
    operation::{CompleteMultipartUpload, CopySource, CreateMultipartUpload, ListParts, UploadPart, UploadPartCopy},
    range::parse_copy_source_range,
};

pub(super) fn create(input: Input<'_>) -> Result<CreateMultipartUpload, S3Error> {
    conditional::no_condition(input.request.headers)?;
    storage_class(input)?;
    Ok(CreateMultipartUpload {
        bucket: input.bucket()?,
        key: input.key()?,
        content: content_headers(input)?,
        user_metadata: user_metadata(input)?,
        checksum: checksum::declared(input.request.headers)?,
        acl: object_acl(input)?,
    })
}

pub(super) fn upload_part(input: Input<'_>) -> Result<UploadPart, S3Error> {
    conditional::no_condition(input.request.headers)?;
    Ok(UploadPart {
        upload: input.upload()?,
        part_number: required_part_number(input)?,
    })
}

pub(super) fn upload_part_copy(input: Input<'_>, source: CopySource) -> Result<UploadPartCopy, S3Error> {
    conditional::no_condition(input.request.headers)?;
    refuse_body(input)?;
    Ok(UploadPartCopy {
        upload: input.upload()?,
        part_number: required_part_number(input)?,
        source,
        range: input
            .header("x-amz-copy-source-range")?
            .map(parse_copy_source_range)
            .transpose()?,
    })
}

pub(super) fn complete(input: Input<'_>) -> Result<CompleteMultipartUpload, S3Error> {
    let headers = input.request.headers;
    let size = match input.header("x-amz-mp-object-size")? {
        None => None,
        Some(text) => Some(
            Some(text)
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| {
                    S3Error::new(
                        S3ErrorCode::InvalidRequest,
                        "Value for x-amz-mp-object-size header is invalid.",
                    )
                })?,
        ),
    };
    Ok(CompleteMultipartUpload {
        upload: input.upload()?,
        condition: conditional::write_condition(headers)?,
        checksum: checksum::value(headers)?,
        checksum_type: checksum::checksum_type(headers)?,
        size,
        url: input.request.url.into(),
    })
}

pub(super) fn list_parts(input: Input<'_>) -> Result<ListParts, S3Error> {
    let marker = input
        .parameter("part-number-marker")?
        .map(|text| integer(text, "part-number-marker"))
        .transpose()?;
    Ok(ListParts {
        upload: input.upload()?,
        part_number_marker: marker.map_or(0, part_marker),
        max_parts: page_size(input.parameter("max-parts")?, "max-parts")?,
        encoding_type: encoding_type(input)?,
    })
}

fn required_part_number(input: Input<'_>) -> Result<PartNumber, S3Error> {
    part_number(input.request.query.get("partNumber")?.unwrap_or_default())
}
