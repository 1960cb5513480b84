//! Which action a request is: one table of level, method and sub-resource. A sub-resource that is known anywhere never
//! falls through to the object or the bucket itself.

use http::{HeaderValue, Method, header::ALLOW};

use super::{
    Query, S3Error, S3ErrorCode,
    operation::{UnsetConfiguration as Unset, UnsetObjectLock},
};

/// What the path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Bucket,
    Object,
}

/// The row that a request belongs to. A copy shares the row of what it is a form of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketLocation,
    GetBucketAcl,
    PutBucketAcl,
    GetBucketVersioning,
    PutBucketVersioning,
    Unset(Unset),
    /// With the action's name.
    DeleteUnset(Unset, &'static str),
    /// The second where an `id` is given, else the first.
    UnsetList(Unset, Unset),
    /// Version 2 where `list-type=2` is given.
    ListObjects,
    ListObjectVersions,
    DeleteObjects,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    GetObjectAcl,
    PutObjectAcl,
    GetObjectAttributes,
    GetObjectTagging,
    UnsetObjectLock(UnsetObjectLock),
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    /// 501, with the action's name.
    Refused(&'static str),
}

type Row = (Level, &'static str, &'static str, Route);

/// Every action of S3's API (S3 API reference, 2026 model), with an empty sub-resource for the thing itself.
#[rustfmt::skip]
const ROWS: &[Row] = {
    use Level::{Bucket, Object, Root};
    use Route::{Refused, Unset as U, UnsetList};
    &[
        (Root, "GET", "", Route::ListBuckets),

        (Bucket, "PUT", "", Route::CreateBucket),
        (Bucket, "HEAD", "", Route::HeadBucket),
        (Bucket, "DELETE", "", Route::DeleteBucket),
        (Bucket, "GET", "", Route::ListObjects),
        (Bucket, "POST", "", Refused("PostObject")),
        (Bucket, "POST", "delete", Route::DeleteObjects),
        (Bucket, "GET", "uploads", Route::ListMultipartUploads),
        (Bucket, "GET", "versions", Route::ListObjectVersions),
        (Bucket, "GET", "location", Route::GetBucketLocation),
        (Bucket, "GET", "acl", Route::GetBucketAcl),
        (Bucket, "PUT", "acl", Route::PutBucketAcl),
        (Bucket, "GET", "versioning", Route::GetBucketVersioning),
        (Bucket, "PUT", "versioning", Route::PutBucketVersioning),
        (Bucket, "GET", "cors", U(Unset::Cors)),
        (Bucket, "PUT", "cors", Refused("PutBucketCors")),
        (Bucket, "DELETE", "cors", Route::DeleteUnset(Unset::Cors, "DeleteBucketCors")),
        (Bucket, "GET", "encryption", U(Unset::Encryption)),
        (Bucket, "PUT", "encryption", Refused("PutBucketEncryption")),
        (Bucket, "DELETE", "encryption", Route::DeleteUnset(Unset::Encryption, "DeleteBucketEncryption")),
        (Bucket, "GET", "lifecycle", U(Unset::Lifecycle)),
        (Bucket, "PUT", "lifecycle", Refused("PutBucketLifecycleConfiguration")),
        (Bucket, "DELETE", "lifecycle", Route::DeleteUnset(Unset::Lifecycle, "DeleteBucketLifecycle")),
        (Bucket, "GET", "object-lock", U(Unset::ObjectLock)),
        (Bucket, "PUT", "object-lock", Refused("PutObjectLockConfiguration")),
        (Bucket, "GET", "logging", U(Unset::Logging)),
        (Bucket, "PUT", "logging", Refused("PutBucketLogging")),
        (Bucket, "GET", "tagging", U(Unset::Tagging)),
        (Bucket, "PUT", "tagging", Refused("PutBucketTagging")),
        (Bucket, "DELETE", "tagging", Refused("DeleteBucketTagging")),
        (Bucket, "GET", "policy", U(Unset::Policy)),
        (Bucket, "PUT", "policy", Refused("PutBucketPolicy")),
        (Bucket, "DELETE", "policy", Refused("DeleteBucketPolicy")),
        (Bucket, "GET", "policyStatus", U(Unset::PolicyStatus)),
        (Bucket, "GET", "website", U(Unset::Website)),
        (Bucket, "PUT", "website", Refused("PutBucketWebsite")),
        (Bucket, "DELETE", "website", Refused("DeleteBucketWebsite")),
        (Bucket, "GET", "replication", U(Unset::Replication)),
        (Bucket, "PUT", "replication", Refused("PutBucketReplication")),
        (Bucket, "DELETE", "replication", Refused("DeleteBucketReplication")),
        (Bucket, "GET", "notification", U(Unset::Notification)),
        (Bucket, "PUT", "notification", Refused("PutBucketNotificationConfiguration")),
        (Bucket, "GET", "requestPayment", U(Unset::RequestPayment)),
        (Bucket, "PUT", "requestPayment", Refused("PutBucketRequestPayment")),
        (Bucket, "GET", "accelerate", U(Unset::Accelerate)),
        (Bucket, "PUT", "accelerate", Refused("PutBucketAccelerateConfiguration")),
        (Bucket, "GET", "ownershipControls", U(Unset::OwnershipControls)),
        (Bucket, "PUT", "ownershipControls", Refused("PutBucketOwnershipControls")),
        (Bucket, "DELETE", "ownershipControls", Refused("DeleteBucketOwnershipControls")),
        (Bucket, "GET", "publicAccessBlock", U(Unset::PublicAccessBlock)),
        (Bucket, "PUT", "publicAccessBlock", Refused("PutPublicAccessBlock")),
        (Bucket, "DELETE", "publicAccessBlock", Refused("DeletePublicAccessBlock")),
        (Bucket, "GET", "analytics", UnsetList(Unset::AnalyticsList, Unset::Analytics)),
        (Bucket, "PUT", "analytics", Refused("PutBucketAnalyticsConfiguration")),
        (Bucket, "DELETE", "analytics", Refused("DeleteBucketAnalyticsConfiguration")),
        (Bucket, "GET", "inventory", UnsetList(Unset::InventoryList, Unset::Inventory)),
        (Bucket, "PUT", "inventory", Refused("PutBucketInventoryConfiguration")),
        (Bucket, "DELETE", "inventory", Refused("DeleteBucketInventoryConfiguration")),
        (Bucket, "GET", "metrics", UnsetList(Unset::MetricsList, Unset::Metrics)),
        (Bucket, "PUT", "metrics", Refused("PutBucketMetricsConfiguration")),
        (Bucket, "DELETE", "metrics", Refused("DeleteBucketMetricsConfiguration")),
        (Bucket, "GET", "intelligent-tiering", UnsetList(Unset::IntelligentTieringList, Unset::IntelligentTiering)),
        (Bucket, "PUT", "intelligent-tiering", Refused("PutBucketIntelligentTieringConfiguration")),
        (Bucket, "DELETE", "intelligent-tiering", Refused("DeleteBucketIntelligentTieringConfiguration")),
        (Bucket, "GET", "abac", Refused("GetBucketAbac")),
        (Bucket, "PUT", "abac", Refused("PutBucketAbac")),
        (Bucket, "POST", "metadataConfiguration", Refused("CreateBucketMetadataConfiguration")),
        (Bucket, "GET", "metadataConfiguration", Refused("GetBucketMetadataConfiguration")),
        (Bucket, "DELETE", "metadataConfiguration", Refused("DeleteBucketMetadataConfiguration")),
        (Bucket, "POST", "metadataTable", Refused("CreateBucketMetadataTableConfiguration")),
        (Bucket, "GET", "metadataTable", Refused("GetBucketMetadataTableConfiguration")),
        (Bucket, "DELETE", "metadataTable", Refused("DeleteBucketMetadataTableConfiguration")),
        (Bucket, "PUT", "metadataInventoryTable", Refused("UpdateBucketMetadataInventoryTableConfiguration")),
        (Bucket, "PUT", "metadataJournalTable", Refused("UpdateBucketMetadataJournalTableConfiguration")),
        (Bucket, "PUT", "metadataAnnotationTable", Refused("UpdateBucketMetadataAnnotationTableConfiguration")),
        (Bucket, "GET", "session", Refused("CreateSession")),

        (Object, "PUT", "", Route::PutObject),
        (Object, "GET", "", Route::GetObject),
        (Object, "HEAD", "", Route::HeadObject),
        (Object, "DELETE", "", Route::DeleteObject),
        (Object, "GET", "acl", Route::GetObjectAcl),
        (Object, "PUT", "acl", Route::PutObjectAcl),
        (Object, "GET", "attributes", Route::GetObjectAttributes),
        (Object, "GET", "tagging", Route::GetObjectTagging),
        (Object, "PUT", "tagging", Refused("PutObjectTagging")),
        (Object, "DELETE", "tagging", Refused("DeleteObjectTagging")),
        (Object, "GET", "legal-hold", Route::UnsetObjectLock(UnsetObjectLock::LegalHold)),
        (Object, "PUT", "legal-hold", Refused("PutObjectLegalHold")),
        (Object, "GET", "retention", Route::UnsetObjectLock(UnsetObjectLock::Retention)),
        (Object, "PUT", "retention", Refused("PutObjectRetention")),
        (Object, "POST", "uploads", Route::CreateMultipartUpload),
        (Object, "PUT", "uploadId", Route::UploadPart),
        (Object, "POST", "uploadId", Route::CompleteMultipartUpload),
        (Object, "DELETE", "uploadId", Route::AbortMultipartUpload),
        (Object, "GET", "uploadId", Route::ListParts),
        (Object, "POST", "restore", Refused("RestoreObject")),
        (Object, "POST", "select", Refused("SelectObjectContent")),
        (Object, "GET", "torrent", Refused("GetObjectTorrent")),
        (Object, "PUT", "renameObject", Refused("RenameObject")),
        (Object, "PUT", "encryption", Refused("UpdateObjectEncryption")),
        (Object, "GET", "annotation", Refused("GetObjectAnnotation")),
        (Object, "PUT", "annotation", Refused("PutObjectAnnotation")),
        (Object, "DELETE", "annotation", Refused("DeleteObjectAnnotation")),
    ]
};

/// Finds the row. Errors: 405 with `Allow` for a method that the thing has not, `InvalidArgument` for several
/// sub-resources at once and for one that such a thing cannot have.
pub(super) fn route(level: Level, method: &Method, query: &Query) -> Result<Route, S3Error> {
    let mut named = ROWS
        .iter()
        .map(|row| row.2)
        .filter(|name| !name.is_empty() && query.contains(name));
    let subresource = named.next().unwrap_or_default();
    if let Some(other) = named.find(|name| *name != subresource) {
        return Err(S3Error::invalid_argument(
            format!("Conflicting query string parameters: {subresource}, {other}"),
            "ResourceType",
            subresource,
        ));
    }
    if !subresource.is_empty() {
        // Refuses it when it is given twice.
        query.get(subresource)?;
    }
    let rows = ROWS.iter().filter(|row| row.0 == level && row.2 == subresource);
    if let Some(row) = rows.clone().find(|row| row.1 == method.as_str()) {
        return Ok(row.3);
    }
    let methods: Vec<&str> = rows.map(|row| row.1).collect();
    if methods.is_empty() {
        let what = match level {
            Level::Root => "the service",
            Level::Bucket => "a bucket",
            Level::Object => "a key",
        };
        return Err(S3Error::invalid_argument(
            format!("There is no such thing as the ?{subresource} sub-resource for {what}"),
            "ResourceType",
            subresource,
        ));
    }
    let error = S3Error::new(
        S3ErrorCode::MethodNotAllowed,
        "The specified method is not allowed against this resource.",
    )
    .with_field("Method", method.as_str());
    Err(match HeaderValue::try_from(methods.join(", ")) {
        Ok(allow) => error.with_header(ALLOW, allow),
        Err(_) => error,
    })
}
