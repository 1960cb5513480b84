//! `CompleteMultipartUpload`, the list of parts.

use t2gate_backends::{Checksum, ChecksumAlgorithm, CompletedPart, ETag};

use super::{reader::XmlReader, set};
use crate::{
    limits::MAX_PARTS,
    s3::{S3Error, S3ErrorCode, parse},
};

/// The parts that the client names, in its order. Errors: `MalformedXML`, also for no part and for too many; 501 for a
/// checksum that S3 has and this service has not; `InvalidArgument`, `InvalidRequest` and `InvalidPart` for values.
pub fn parse_complete_multipart_upload(body: &[u8]) -> Result<Vec<CompletedPart>, S3Error> {
    let mut reader = XmlReader::open(body, "CompleteMultipartUpload")?;
    let mut parts = Vec::new();
    while let Some(element) = reader.child()? {
        if element.name != "Part" || parts.len() == MAX_PARTS {
            return Err(S3Error::malformed_xml());
        }
        parts.push(read_part(&mut reader)?);
    }
    reader.finish()?;
    if parts.is_empty() {
        return Err(S3Error::malformed_xml());
    }
    Ok(parts)
}

fn read_part(reader: &mut XmlReader<'_>) -> Result<CompletedPart, S3Error> {
    let (mut part_number, mut etag, mut checksum) = (None, None, None);
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "PartNumber" => set(&mut part_number, reader.word()?)?,
            "ETag" => set(&mut etag, reader.word()?)?,
            name => {
                let algorithm = checksum_algorithm(name)?;
                let value = reader.word()?;
                let value = Checksum::parse(algorithm, &value)
                    .map_err(|_| S3Error::new(S3ErrorCode::InvalidRequest, format!("Value for {name} is invalid.")))?;
                set(&mut checksum, value)?;
            }
        }
    }
    let part_number = part_number.ok_or_else(S3Error::malformed_xml)?;
    let etag = etag.ok_or_else(S3Error::malformed_xml)?;
    let bare = etag
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&etag);
    Ok(CompletedPart {
        part_number: parse::part_number(&part_number)?,
        // What can be no tag is the tag of no part.
        etag: ETag::parse(bare).map_err(|_| invalid_part(&part_number))?,
        checksum,
    })
}

fn checksum_algorithm(element: &str) -> Result<ChecksumAlgorithm, S3Error> {
    let name = element.strip_prefix("Checksum").ok_or_else(S3Error::malformed_xml)?;
    match crate::s3::checksum::algorithm(name) {
        Ok(algorithm) if algorithm.as_str() == name => Ok(algorithm),
        Err(error) if error.code() == S3ErrorCode::NotImplemented => Err(error),
        Ok(_) | Err(_) => Err(S3Error::malformed_xml()),
    }
}

fn invalid_part(part_number: &str) -> S3Error {
    S3Error::new(
        S3ErrorCode::InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified \
         entity tag may not match the part's entity tag.",
    )
    .with_field("PartNumber", part_number)
}
