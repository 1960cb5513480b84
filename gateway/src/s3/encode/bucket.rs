//! Answers about buckets.

use http::{Response, header::LOCATION};
use t2gate_backends::{BucketName, VersioningStatus};

use super::{ResponseBody, document, no_content, ok, set};
use crate::s3::{S3Error, S3ErrorCode, operation::UnsetConfiguration};

/// CreateBucket.
pub fn create_bucket(bucket: &BucketName) -> Response<ResponseBody> {
    let mut response = ok();
    set(response.headers_mut(), LOCATION, &format!("/{bucket}"));
    response
}

/// HeadBucket. `region` is the configured one.
pub fn head_bucket(region: &str) -> Response<ResponseBody> {
    let mut response = ok();
    set(response.headers_mut(), "x-amz-bucket-region", region);
    set(response.headers_mut(), "x-amz-access-point-alias", "false");
    response
}

/// DeleteBucket.
pub fn delete_bucket() -> Response<ResponseBody> {
    no_content()
}

/// A delete of a setting that is not there, where that is no error.
pub fn delete_unset_bucket_configuration() -> Response<ResponseBody> {
    no_content()
}

/// PutBucketAcl.
pub fn put_bucket_acl() -> Response<ResponseBody> {
    ok()
}

/// PutBucketVersioning.
pub fn put_bucket_versioning() -> Response<ResponseBody> {
    ok()
}

/// GetBucketLocation. `region` is the configured one. S3 leaves the element empty for its first region, and clients know that.
pub fn get_bucket_location(region: &str) -> Response<ResponseBody> {
    let location = if region == "us-east-1" { "" } else { region };
    document("LocationConstraint", |xml| xml.characters(location))
}

/// GetBucketVersioning. There is no `Status` of a bucket that never had versioning.
pub fn get_bucket_versioning(status: Option<VersioningStatus>) -> Response<ResponseBody> {
    let status = status.map(|status| match status {
        VersioningStatus::Enabled => "Enabled",
        VersioningStatus::Suspended => "Suspended",
    });
    document("VersioningConfiguration", |xml| xml.optional("Status", status))
}

/// What S3 says of a bucket where nothing is configured: an empty document, or the 404 of that setting.
pub fn get_unset_bucket_configuration(
    bucket: &BucketName,
    configuration: UnsetConfiguration,
) -> Result<Response<ResponseBody>, S3Error> {
    use UnsetConfiguration as Unset;
    let empty_list = |root: &str| Ok(document(root, |xml| xml.text("IsTruncated", "false")));
    let (code, message) = match configuration {
        Unset::Accelerate => return Ok(document("AccelerateConfiguration", |_| {})),
        Unset::Logging => return Ok(document("BucketLoggingStatus", |_| {})),
        Unset::Notification => return Ok(document("NotificationConfiguration", |_| {})),
        Unset::RequestPayment => {
            return Ok(document("RequestPaymentConfiguration", |xml| {
                xml.text("Payer", "BucketOwner");
            }));
        }
        Unset::AnalyticsList => return empty_list("ListBucketAnalyticsConfigurationResult"),
        Unset::InventoryList => return empty_list("ListInventoryConfigurationsResult"),
        Unset::MetricsList => return empty_list("ListMetricsConfigurationsResult"),
        Unset::IntelligentTieringList => return empty_list("ListBucketIntelligentTieringConfigurationsOutput"),
        Unset::Analytics | Unset::Inventory | Unset::Metrics | Unset::IntelligentTiering => (
            S3ErrorCode::NoSuchConfiguration,
            "The specified configuration does not exist.",
        ),
        Unset::Cors => (
            S3ErrorCode::NoSuchCORSConfiguration,
            "The CORS configuration does not exist",
        ),
        Unset::Encryption => (
            S3ErrorCode::ServerSideEncryptionConfigurationNotFoundError,
            "The server side encryption configuration was not found",
        ),
        Unset::Lifecycle => (
            S3ErrorCode::NoSuchLifecycleConfiguration,
            "The lifecycle configuration does not exist",
        ),
        Unset::ObjectLock => (
            S3ErrorCode::ObjectLockConfigurationNotFoundError,
            "Object Lock configuration does not exist for this bucket",
        ),
        Unset::OwnershipControls => (
            S3ErrorCode::OwnershipControlsNotFoundError,
            "The bucket ownership controls were not found",
        ),
        Unset::Policy | Unset::PolicyStatus => (S3ErrorCode::NoSuchBucketPolicy, "The bucket policy does not exist"),
        Unset::PublicAccessBlock => (
            S3ErrorCode::NoSuchPublicAccessBlockConfiguration,
            "The public access block configuration was not found",
        ),
        Unset::Replication => (
            S3ErrorCode::ReplicationConfigurationNotFoundError,
            "The replication configuration was not found",
        ),
        Unset::Tagging => (S3ErrorCode::NoSuchTagSet, "The TagSet does not exist"),
        Unset::Website => (
            S3ErrorCode::NoSuchWebsiteConfiguration,
            "The specified bucket does not have a website configuration",
        ),
    };
    Err(S3Error::new(code, message).with_field("BucketName", bucket.as_str()))
}

/// GetObjectLegalHold and GetObjectRetention of any object.
pub fn get_unset_object_lock() -> S3Error {
    S3Error::new(
        S3ErrorCode::NoSuchObjectLockConfiguration,
        "The specified object does not have a ObjectLock configuration",
    )
}
