//! What makes an object of parts: the rules of CompleteMultipartUpload, the same for every backend. Pure.

use crate::{
    Checksum, ChecksumAlgorithm, ChecksumType, CompleteMultipartUpload, ETag, ObjectPart, PartNumber,
    combine_full_object,
};

/// A part as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    pub part_number: PartNumber,
    pub size: u64,
    pub md5: [u8; 16],
    pub checksum: Option<Checksum>,
}

/// What the completed object will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    /// In order; their data, one after the other, is the object.
    pub parts: Vec<ObjectPart>,
}

/// Why parts do not make an object. (S3 API reference, CompleteMultipartUpload.)
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    #[error("no parts are named")]
    NoParts,
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    #[error("part {0} is not there, or has another ETag or checksum")]
    InvalidPart(PartNumber),
    #[error("part {part_number} has {size} bytes, fewer than {min}")]
    EntityTooSmall {
        part_number: PartNumber,
        size: u64,
        min: u64,
    },
    #[error("the parts together are too large")]
    EntityTooLarge,
    #[error("the checksum of part {0} is missing in the request, and this upload demands it")]
    MissingPartChecksum(PartNumber),
    #[error("the upload's checksum type is {}", .0.as_str())]
    ChecksumTypeMismatch(ChecksumType),
    #[error("the checksum of the whole object does not match")]
    BadDigest,
    #[error("the parts together have {actual} bytes, not {expected}")]
    SizeMismatch { expected: u64, actual: u64 },
}

/// Judges `request` against the parts that are there. `stored` looks a part up; `declared` is what the upload was
/// created with.
pub fn assemble(
    request: &CompleteMultipartUpload,
    declared: Option<(ChecksumAlgorithm, ChecksumType)>,
    stored: impl Fn(PartNumber) -> Option<StoredPart>,
) -> Result<Assembled, AssembleError> {
    let (algorithm, kind) = declared.unwrap_or((ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject));
    if request.parts.is_empty() {
        return Err(AssembleError::NoParts);
    }
    if !request.parts.is_sorted_by(|a, b| a.part_number < b.part_number) {
        return Err(AssembleError::InvalidPartOrder);
    }
    let mut parts = Vec::with_capacity(request.parts.len());
    let mut size = 0_u64;
    for (index, named) in request.parts.iter().enumerate() {
        let invalid = || AssembleError::InvalidPart(named.part_number);
        let part = stored(named.part_number).ok_or_else(invalid)?;
        if ETag::from_md5(part.md5) != named.etag {
            return Err(invalid());
        }
        match (&named.checksum, &part.checksum) {
            (Some(named), Some(stored)) if named.algorithm == stored.algorithm && named.value != stored.value => {
                return Err(invalid());
            }
            // Without a declared algorithm the part was verified by the client's when it came, and keeps ours.
            (Some(named), Some(stored)) if named.algorithm != stored.algorithm && declared.is_some() => {
                return Err(invalid());
            }
            (Some(_), None) => return Err(invalid()),
            (None, _) if declared.is_some() && kind == ChecksumType::Composite => {
                return Err(AssembleError::MissingPartChecksum(named.part_number));
            }
            _ => {}
        }
        if index + 1 < request.parts.len() && part.size < request.min_part_size {
            return Err(AssembleError::EntityTooSmall {
                part_number: part.part_number,
                size: part.size,
                min: request.min_part_size,
            });
        }
        size = size.checked_add(part.size).ok_or(AssembleError::EntityTooLarge)?;
        parts.push(part);
    }
    if let Some(expected) = request.size.filter(|expected| *expected != size) {
        return Err(AssembleError::SizeMismatch { expected, actual: size });
    }
    if request.checksum_type.is_some_and(|asked| asked != kind) {
        return Err(AssembleError::ChecksumTypeMismatch(kind));
    }
    let checksum = whole_checksum(algorithm, kind, &parts);
    if let Some(expected) = &request.checksum {
        match &checksum {
            Some(actual) if actual.algorithm == expected.algorithm && actual.value == expected.value => {}
            _ => return Err(AssembleError::BadDigest),
        }
    }
    let etag = ETag::of_parts(parts.iter().map(|part| &part.md5));
    let parts = parts.into_iter().map(|part| ObjectPart {
        part_number: part.part_number,
        size: part.size,
        checksum: part.checksum,
    });
    Ok(Assembled {
        size,
        etag,
        checksum,
        parts: parts.collect(),
    })
}

/// `None` where a part has no value of the upload's algorithm.
fn whole_checksum(algorithm: ChecksumAlgorithm, kind: ChecksumType, parts: &[StoredPart]) -> Option<Checksum> {
    let values: Option<Vec<(&[u8], u64)>> = parts
        .iter()
        .map(|part| {
            let checksum = part.checksum.as_ref().filter(|c| c.algorithm == algorithm)?;
            Some((&*checksum.value, part.size))
        })
        .collect();
    let values = values?;
    match kind {
        ChecksumType::FullObject => combine_full_object(algorithm, values),
        ChecksumType::Composite => Some(Checksum::composite(
            algorithm,
            values.into_iter().map(|(value, _)| value),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BodySummary, BucketName, CompletedPart, Key, UploadId, UploadRef, WriteCondition};

    fn request(parts: Vec<CompletedPart>) -> CompleteMultipartUpload {
        CompleteMultipartUpload {
            upload: UploadRef {
                bucket: BucketName::parse("bucket").unwrap(),
                key: Key::parse("key").unwrap(),
                upload_id: UploadId::parse("id").unwrap(),
            },
            parts,
            condition: WriteCondition::default(),
            checksum: None,
            checksum_type: None,
            size: None,
            min_part_size: 0,
            versions: None,
        }
    }

    /// Completes one part that is kept with `kept`, named with a checksum by `named`.
    fn complete(
        declared: Option<(ChecksumAlgorithm, ChecksumType)>,
        kept: ChecksumAlgorithm,
        named: Option<ChecksumAlgorithm>,
    ) -> Result<Assembled, AssembleError> {
        let summary = BodySummary::of(b"part", kept);
        let part_number = PartNumber::new(1).unwrap();
        let part = CompletedPart {
            part_number,
            etag: ETag::from_md5(summary.md5),
            checksum: named.map(|algorithm| BodySummary::of(b"part", algorithm).checksum),
        };
        assemble(&request(vec![part]), declared, |_| {
            Some(StoredPart {
                part_number,
                size: summary.size,
                md5: summary.md5,
                checksum: Some(summary.checksum.clone()),
            })
        })
    }

    #[test]
    fn a_checksum_of_another_algorithm_holds_up_only_an_upload_that_declared_one() {
        use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha256};
        assert!(complete(None, Crc64Nvme, Some(Crc32)).is_ok());
        let invalid = Err(AssembleError::InvalidPart(PartNumber::new(1).unwrap()));
        assert_eq!(
            complete(Some((Sha256, ChecksumType::Composite)), Sha256, Some(Crc32)),
            invalid
        );
        assert!(complete(Some((Sha256, ChecksumType::Composite)), Sha256, Some(Sha256)).is_ok());
    }

    #[test]
    fn a_composite_upload_demands_the_checksum_of_each_part() {
        let composite = Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite));
        let missing = Err(AssembleError::MissingPartChecksum(PartNumber::new(1).unwrap()));
        assert_eq!(complete(composite, ChecksumAlgorithm::Crc32, None), missing);
        let full = Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject));
        assert!(complete(full, ChecksumAlgorithm::Crc32, None).is_ok());
    }
}
