//! What a client sees of a storage error.

use t2gate_backends::{AssembleError, BackendError, BodyError};

use super::{S3Error, S3ErrorCode};

impl From<BackendError> for S3Error {
    fn from(error: BackendError) -> Self {
        use S3ErrorCode as Code;
        let (code, message) = match error {
            BackendError::NoSuchBucket => (Code::NoSuchBucket, "The specified bucket does not exist"),
            BackendError::BucketAlreadyExists { .. } => (
                Code::BucketAlreadyExists,
                "The requested bucket name is not available. The bucket namespace is shared by all users of the \
                 system. Please select a different name and try again.",
            ),
            BackendError::BucketNotEmpty => (Code::BucketNotEmpty, "The bucket you tried to delete is not empty."),
            BackendError::TooManyBuckets { limit } => {
                let message = format!("You have attempted to create more buckets than allowed ({limit}).");
                return Self::new(Code::TooManyBuckets, message);
            }
            BackendError::NoSuchKey | BackendError::DeleteMarker { .. } => {
                (Code::NoSuchKey, "The specified key does not exist.")
            }
            BackendError::NoSuchVersion => (Code::NoSuchVersion, "The specified version does not exist."),
            BackendError::NoSuchUpload => (
                Code::NoSuchUpload,
                "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart \
                 upload might have been aborted or completed.",
            ),
            BackendError::PreconditionFailed => (
                Code::PreconditionFailed,
                "At least one of the pre-conditions you specified did not hold",
            ),
            BackendError::WouldDestroy => (
                Code::AccessDenied,
                "Access Denied. No older version is kept here, so this destroys bytes, and the application key lacks \
                 the capability deleteFiles.",
            ),
            BackendError::Conflict => (
                Code::ConditionalRequestConflict,
                "A conflicting operation occurred during this request. Please try again.",
            ),
            BackendError::Assemble(error) => return error.into(),
            BackendError::Body(error) => return error.into(),
            BackendError::UnsupportedKey(why) => {
                return Self::new(
                    Code::InvalidArgument,
                    format!("This storage cannot hold that key: {why}"),
                );
            }
            BackendError::NotSupported { operation, backend } => {
                let message = format!("{operation} is not supported by the storage behind this bucket ({backend}).");
                return Self::new(Code::NotImplemented, message);
            }
            error @ BackendError::Busy { .. } => {
                return Self::new(Code::SlowDown, "Please reduce your request rate.").with_source(error);
            }
            error @ BackendError::ReadOnly => {
                return Self::new(Code::ServiceUnavailable, "The service is read-only at the moment.")
                    .with_source(error);
            }
            error @ BackendError::Internal { .. } => return Self::internal(error),
        };
        Self::new(code, message)
    }
}

impl From<AssembleError> for S3Error {
    fn from(error: AssembleError) -> Self {
        use S3ErrorCode as Code;
        match error {
            AssembleError::NoParts => Self::new(
                Code::MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema",
            ),
            AssembleError::InvalidPartOrder => Self::new(
                Code::InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number.",
            ),
            AssembleError::InvalidPart(part_number) => Self::new(
                Code::InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the \
                 specified entity tag may not match the part's entity tag.",
            )
            .with_field("PartNumber", part_number.to_string()),
            AssembleError::EntityTooSmall { part_number, size, min } => Self::new(
                Code::EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size",
            )
            .with_field("ProposedSize", size.to_string())
            .with_field("MinSizeAllowed", min.to_string())
            .with_field("PartNumber", part_number.to_string()),
            AssembleError::EntityTooLarge => Self::new(
                Code::EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size",
            ),
            AssembleError::MissingPartChecksum(part_number) => Self::new(
                Code::InvalidRequest,
                format!(
                    "The upload was created using a composite checksum. The complete request must include the checksum \
                     for each part. It was missing for part {part_number} in the request."
                ),
            ),
            AssembleError::ChecksumTypeMismatch(kind) => Self::new(
                Code::InvalidRequest,
                format!("The checksum type of this upload is {}.", kind.as_str()),
            ),
            AssembleError::BadDigest => Self::new(
                Code::BadDigest,
                "The checksum you specified did not match the calculated checksum.",
            ),
            AssembleError::SizeMismatch { expected, actual } => Self::new(
                Code::InvalidRequest,
                format!("The x-amz-mp-object-size header says {expected} bytes, but the parts have {actual}."),
            ),
        }
    }
}

impl From<BodyError> for S3Error {
    fn from(error: BodyError) -> Self {
        match error.0.downcast() {
            Ok(error) => *error,
            Err(other) => Self::internal(other),
        }
    }
}
