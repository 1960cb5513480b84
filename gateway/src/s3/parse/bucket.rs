//! Operations on buckets.

use t2gate_backends::{BucketName, CannedAcl};

use super::{Input, new_bucket};
use crate::s3::{
    S3Error, S3ErrorCode, conditional,
    operation::{CreateBucket, DeleteObjects, PutBucketAcl},
};

/// The canned ACLs that S3 has beside those of T2 (S3 User Guide, "Canned ACL").
const OTHER_CANNED_ACLS: [&str; 6] = [
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
];

/// Whether S3 knows the canned ACL and T2 does not.
pub(super) fn is_other_canned_acl(text: &str) -> bool {
    OTHER_CANNED_ACLS.contains(&text)
}

pub(super) fn unknown_canned_acl(text: &str) -> S3Error {
    S3Error::invalid_argument("The canned ACL is not known.", "x-amz-acl", text)
}

pub(super) fn create_bucket(input: Input<'_>) -> Result<CreateBucket, S3Error> {
    conditional::no_condition(input.request.headers)?;
    Ok(CreateBucket {
        bucket: new_bucket(input.raw_bucket(), input.request.dialect)?,
        acl: bucket_acl(input)?.unwrap_or_default(),
    })
}

pub(super) fn put_bucket_acl(input: Input<'_>) -> Result<PutBucketAcl, S3Error> {
    conditional::no_condition(input.request.headers)?;
    let acl = bucket_acl(input)?;
    judge_acl_body(input, acl.is_some())?;
    Ok(PutBucketAcl {
        bucket: input.bucket()?,
        acl,
    })
}

pub(super) fn put_bucket_versioning(input: Input<'_>) -> Result<BucketName, S3Error> {
    conditional::no_condition(input.request.headers)?;
    input.require_digest(true)?;
    input.bucket()
}

/// An ACL comes in the header or in the body, and one of them must be there.
pub(super) fn judge_acl_body(input: Input<'_>, has_header: bool) -> Result<(), S3Error> {
    match (has_header, input.request.has_body) {
        (true, false) => Ok(()),
        // s3cmd protects the document by the signed SHA-256 alone.
        (false, true) => input.require_digest(true),
        (true, true) => Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "An ACL can be given by x-amz-acl or in the body, not by both.",
        )),
        (false, false) => Err(S3Error::new(
            S3ErrorCode::MissingSecurityHeader,
            "Your request was missing a required header",
        )
        .with_field("MissingHeaderName", "x-amz-acl")),
    }
}

pub(super) fn delete_objects(input: Input<'_>) -> Result<DeleteObjects, S3Error> {
    conditional::no_condition(input.request.headers)?;
    input.require_digest(false)?;
    Ok(DeleteObjects {
        bucket: input.bucket()?,
    })
}

fn bucket_acl(input: Input<'_>) -> Result<Option<CannedAcl>, S3Error> {
    let Some(text) = input.header("x-amz-acl")? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(acl) => Ok(Some(acl)),
        Err(_) if is_other_canned_acl(text) => Err(S3Error::not_implemented(
            "The canned ACLs of a bucket are private and public-read; others are not implemented.",
        )),
        Err(_) => Err(unknown_canned_acl(text)),
    }
}
