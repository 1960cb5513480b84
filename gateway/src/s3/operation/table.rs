//! The tables over [`Operation`]: none has a `_` arm.

use t2gate_backends::{BucketName, Key, ObjectRef};

use super::{Operation, UnsetConfiguration, UnsetObjectLock};
use crate::keys::Capability;

/// What kind of work an operation is: for rate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationClass {
    Read,
    Write,
    List,
}

impl OperationClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
        }
    }
}

/// What an operation is about, and so what a restricted key must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The account. ListBuckets shows a restricted key its own buckets only; CreateBucket names a bucket that is not
    /// there yet.
    Account,
    /// The bucket as such.
    Bucket,
    /// One object, within the key's name prefix.
    Object,
    /// The objects that the body names: each is judged by [`delete_access`].
    EachObject,
    /// Nothing: any valid key learns that the action is not there.
    Nothing,
}

/// What credentials must hold for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub scope: Scope,
    /// All of these. Empty: any capability will do.
    pub needs: &'static [Capability],
    /// It destroys bytes where the bucket keeps no older versions: there [`Capability::DeleteFiles`] is needed too,
    /// if there is something to destroy.
    pub may_destroy: bool,
}

/// What somebody without credentials may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousAccess {
    Never,
    /// Where the bucket is public-read.
    ReadObject,
    /// Where the bucket is public-read and the dialect lets everybody list it.
    ListObjects,
}

/// What deleting one object takes.
pub fn delete_access(by_version_id: bool) -> Access {
    let (needs, may_destroy): (&[Capability], bool) = if by_version_id {
        (&[Capability::DeleteFiles], false)
    } else {
        (&[Capability::WriteFiles], true)
    };
    Access {
        scope: Scope::Object,
        needs,
        may_destroy,
    }
}

impl Operation {
    /// The S3 action's name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ListBuckets(_) => "ListBuckets",
            Self::CreateBucket(_) => "CreateBucket",
            Self::HeadBucket(_) => "HeadBucket",
            Self::DeleteBucket(_) => "DeleteBucket",
            Self::GetBucketLocation(_) => "GetBucketLocation",
            Self::GetBucketAcl(_) => "GetBucketAcl",
            Self::PutBucketAcl(_) => "PutBucketAcl",
            Self::GetBucketVersioning(_) => "GetBucketVersioning",
            Self::PutBucketVersioning(_) => "PutBucketVersioning",
            Self::GetUnsetBucketConfiguration(_, configuration) => configuration.action(),
            Self::DeleteUnsetBucketConfiguration(_, _, action) => action,
            Self::ListObjects(_) => "ListObjects",
            Self::ListObjectsV2(_) => "ListObjectsV2",
            Self::ListObjectVersions(_) => "ListObjectVersions",
            Self::DeleteObjects(_) => "DeleteObjects",
            Self::PutObject(_) => "PutObject",
            Self::GetObject(_) => "GetObject",
            Self::HeadObject(_) => "HeadObject",
            Self::CopyObject(_) => "CopyObject",
            Self::DeleteObject(_) => "DeleteObject",
            Self::GetObjectAcl(_) => "GetObjectAcl",
            Self::PutObjectAcl(_) => "PutObjectAcl",
            Self::GetObjectAttributes(_) => "GetObjectAttributes",
            Self::GetObjectTagging(_) => "GetObjectTagging",
            Self::GetUnsetObjectLock(_, UnsetObjectLock::LegalHold) => "GetObjectLegalHold",
            Self::GetUnsetObjectLock(_, UnsetObjectLock::Retention) => "GetObjectRetention",
            Self::CreateMultipartUpload(_) => "CreateMultipartUpload",
            Self::UploadPart(_) => "UploadPart",
            Self::UploadPartCopy(_) => "UploadPartCopy",
            Self::CompleteMultipartUpload(_) => "CompleteMultipartUpload",
            Self::AbortMultipartUpload(_) => "AbortMultipartUpload",
            Self::ListParts(_) => "ListParts",
            Self::ListMultipartUploads(_) => "ListMultipartUploads",
            Self::NotImplemented(refused) => refused.action,
        }
    }

    /// Whether it may take minutes though all of it has been received: to copy bytes, to join parts. Their clients have to
    /// look for an error under a 200 (S3 API reference, CopyObject). Those of DeleteObjects, which may take as long, do not all.
    pub fn takes_long(&self) -> bool {
        matches!(
            self,
            Self::CopyObject(_) | Self::UploadPartCopy(_) | Self::CompleteMultipartUpload(_)
        )
    }

    /// The bucket that it works on; a copy's destination.
    pub fn bucket(&self) -> Option<&BucketName> {
        match self {
            Self::ListBuckets(_) => None,
            Self::CreateBucket(op) => Some(&op.bucket),
            Self::HeadBucket(bucket)
            | Self::DeleteBucket(bucket)
            | Self::GetBucketLocation(bucket)
            | Self::GetBucketAcl(bucket)
            | Self::GetBucketVersioning(bucket)
            | Self::PutBucketVersioning(bucket)
            | Self::GetUnsetBucketConfiguration(bucket, _)
            | Self::DeleteUnsetBucketConfiguration(bucket, ..) => Some(bucket),
            Self::PutBucketAcl(op) => Some(&op.bucket),
            Self::ListObjects(op) => Some(&op.bucket),
            Self::ListObjectsV2(op) => Some(&op.bucket),
            Self::ListObjectVersions(op) => Some(&op.bucket),
            Self::DeleteObjects(op) => Some(&op.bucket),
            Self::PutObject(op) => Some(&op.bucket),
            Self::GetObject(op) | Self::HeadObject(op) => Some(&op.object.bucket),
            Self::CopyObject(op) => Some(&op.bucket),
            Self::DeleteObject(op) => Some(&op.object.bucket),
            Self::GetObjectAcl(object) | Self::GetObjectTagging(object) | Self::GetUnsetObjectLock(object, _) => {
                Some(&object.bucket)
            }
            Self::PutObjectAcl(op) => Some(&op.object.bucket),
            Self::GetObjectAttributes(op) => Some(&op.object.bucket),
            Self::CreateMultipartUpload(op) => Some(&op.bucket),
            Self::UploadPart(op) => Some(&op.upload.bucket),
            Self::UploadPartCopy(op) => Some(&op.upload.bucket),
            Self::CompleteMultipartUpload(op) => Some(&op.upload.bucket),
            Self::AbortMultipartUpload(upload) => Some(&upload.bucket),
            Self::ListParts(op) => Some(&op.upload.bucket),
            Self::ListMultipartUploads(op) => Some(&op.bucket),
            Self::NotImplemented(refused) => refused.bucket.as_ref(),
        }
    }

    /// The key that it works on; a copy's destination.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::ListBuckets(_)
            | Self::CreateBucket(_)
            | Self::HeadBucket(_)
            | Self::DeleteBucket(_)
            | Self::GetBucketLocation(_)
            | Self::GetBucketAcl(_)
            | Self::PutBucketAcl(_)
            | Self::GetBucketVersioning(_)
            | Self::PutBucketVersioning(_)
            | Self::GetUnsetBucketConfiguration(..)
            | Self::DeleteUnsetBucketConfiguration(..)
            | Self::ListObjects(_)
            | Self::ListObjectsV2(_)
            | Self::ListObjectVersions(_)
            | Self::DeleteObjects(_)
            | Self::ListMultipartUploads(_)
            | Self::NotImplemented(_) => None,
            Self::PutObject(op) => Some(&op.key),
            Self::GetObject(op) | Self::HeadObject(op) => Some(&op.object.key),
            Self::CopyObject(op) => Some(&op.key),
            Self::DeleteObject(op) => Some(&op.object.key),
            Self::GetObjectAcl(object) | Self::GetObjectTagging(object) | Self::GetUnsetObjectLock(object, _) => {
                Some(&object.key)
            }
            Self::PutObjectAcl(op) => Some(&op.object.key),
            Self::GetObjectAttributes(op) => Some(&op.object.key),
            Self::CreateMultipartUpload(op) => Some(&op.key),
            Self::UploadPart(op) => Some(&op.upload.key),
            Self::UploadPartCopy(op) => Some(&op.upload.key),
            Self::CompleteMultipartUpload(op) => Some(&op.upload.key),
            Self::AbortMultipartUpload(upload) => Some(&upload.key),
            Self::ListParts(op) => Some(&op.upload.key),
        }
    }

    /// What a copy reads. It is authorized like a GetObject of it.
    pub fn copy_source(&self) -> Option<&ObjectRef> {
        match self {
            Self::CopyObject(op) => Some(&op.source.object),
            Self::UploadPartCopy(op) => Some(&op.source.object),
            Self::ListBuckets(_)
            | Self::CreateBucket(_)
            | Self::HeadBucket(_)
            | Self::DeleteBucket(_)
            | Self::GetBucketLocation(_)
            | Self::GetBucketAcl(_)
            | Self::PutBucketAcl(_)
            | Self::GetBucketVersioning(_)
            | Self::PutBucketVersioning(_)
            | Self::GetUnsetBucketConfiguration(..)
            | Self::DeleteUnsetBucketConfiguration(..)
            | Self::ListObjects(_)
            | Self::ListObjectsV2(_)
            | Self::ListObjectVersions(_)
            | Self::DeleteObjects(_)
            | Self::PutObject(_)
            | Self::GetObject(_)
            | Self::HeadObject(_)
            | Self::DeleteObject(_)
            | Self::GetObjectAcl(_)
            | Self::PutObjectAcl(_)
            | Self::GetObjectAttributes(_)
            | Self::GetObjectTagging(_)
            | Self::GetUnsetObjectLock(..)
            | Self::CreateMultipartUpload(_)
            | Self::UploadPart(_)
            | Self::CompleteMultipartUpload(_)
            | Self::AbortMultipartUpload(_)
            | Self::ListParts(_)
            | Self::ListMultipartUploads(_)
            | Self::NotImplemented(_) => None,
        }
    }

    /// Whether it changes state. A refused action changes none.
    pub fn is_write(&self) -> bool {
        self.class() == OperationClass::Write
    }

    pub fn class(&self) -> OperationClass {
        match self {
            Self::ListBuckets(_)
            | Self::ListObjects(_)
            | Self::ListObjectsV2(_)
            | Self::ListObjectVersions(_)
            | Self::ListParts(_)
            | Self::ListMultipartUploads(_) => OperationClass::List,
            Self::HeadBucket(_)
            | Self::GetBucketLocation(_)
            | Self::GetBucketAcl(_)
            | Self::GetBucketVersioning(_)
            | Self::GetUnsetBucketConfiguration(..)
            | Self::GetObject(_)
            | Self::HeadObject(_)
            | Self::GetObjectAcl(_)
            | Self::GetObjectAttributes(_)
            | Self::GetObjectTagging(_)
            | Self::GetUnsetObjectLock(..)
            | Self::NotImplemented(_) => OperationClass::Read,
            Self::CreateBucket(_)
            | Self::DeleteBucket(_)
            | Self::PutBucketAcl(_)
            | Self::PutBucketVersioning(_)
            | Self::DeleteUnsetBucketConfiguration(..)
            | Self::DeleteObjects(_)
            | Self::PutObject(_)
            | Self::CopyObject(_)
            | Self::DeleteObject(_)
            | Self::PutObjectAcl(_)
            | Self::CreateMultipartUpload(_)
            | Self::UploadPart(_)
            | Self::UploadPartCopy(_)
            | Self::CompleteMultipartUpload(_)
            | Self::AbortMultipartUpload(_) => OperationClass::Write,
        }
    }

    /// What credentials must hold.
    pub fn access(&self) -> Access {
        let of = |scope, needs| Access {
            scope,
            needs,
            may_destroy: false,
        };
        let overwrite = Access {
            scope: Scope::Object,
            needs: &[Capability::WriteFiles],
            may_destroy: true,
        };
        match self {
            Self::ListBuckets(_) => of(Scope::Account, &[Capability::ListBuckets]),
            Self::CreateBucket(_) => of(Scope::Account, &[Capability::WriteBuckets]),
            Self::HeadBucket(_) => of(Scope::Bucket, &[]),
            Self::DeleteBucket(_) => of(Scope::Bucket, &[Capability::DeleteBuckets]),
            Self::GetBucketLocation(_) | Self::GetBucketAcl(_) | Self::GetBucketVersioning(_) => {
                of(Scope::Bucket, &[Capability::ReadBuckets])
            }
            Self::PutBucketAcl(_) | Self::PutBucketVersioning(_) => of(Scope::Bucket, &[Capability::WriteBuckets]),
            Self::GetUnsetBucketConfiguration(_, configuration) => of(Scope::Bucket, configuration.needs()),
            Self::DeleteUnsetBucketConfiguration(_, UnsetConfiguration::Encryption, _) => {
                of(Scope::Bucket, &[Capability::WriteBucketEncryption])
            }
            Self::DeleteUnsetBucketConfiguration(..) => of(Scope::Bucket, &[Capability::WriteBuckets]),
            Self::ListObjects(_)
            | Self::ListObjectsV2(_)
            | Self::ListObjectVersions(_)
            | Self::ListMultipartUploads(_) => of(Scope::Bucket, &[Capability::ListFiles]),
            Self::DeleteObjects(_) => of(Scope::EachObject, &[]),
            Self::PutObject(_) | Self::CopyObject(_) | Self::CompleteMultipartUpload(_) => overwrite,
            Self::DeleteObject(op) => delete_access(op.object.version_id.is_some()),
            Self::GetObject(_)
            | Self::HeadObject(_)
            | Self::GetObjectAcl(_)
            | Self::GetObjectAttributes(_)
            | Self::GetObjectTagging(_) => of(Scope::Object, &[Capability::ReadFiles]),
            Self::GetUnsetObjectLock(_, UnsetObjectLock::LegalHold) => {
                of(Scope::Object, &[Capability::ReadFileLegalHolds])
            }
            Self::GetUnsetObjectLock(_, UnsetObjectLock::Retention) => {
                of(Scope::Object, &[Capability::ReadFileRetentions])
            }
            Self::PutObjectAcl(_)
            | Self::CreateMultipartUpload(_)
            | Self::UploadPart(_)
            | Self::UploadPartCopy(_)
            | Self::AbortMultipartUpload(_)
            | Self::ListParts(_) => of(Scope::Object, &[Capability::WriteFiles]),
            Self::NotImplemented(_) => of(Scope::Nothing, &[]),
        }
    }

    /// What somebody without credentials may do.
    pub fn anonymous_access(&self) -> AnonymousAccess {
        match self {
            Self::GetObject(_) | Self::HeadObject(_) => AnonymousAccess::ReadObject,
            Self::ListObjects(_) | Self::ListObjectsV2(_) | Self::ListObjectVersions(_) => AnonymousAccess::ListObjects,
            Self::ListBuckets(_)
            | Self::CreateBucket(_)
            | Self::HeadBucket(_)
            | Self::DeleteBucket(_)
            | Self::GetBucketLocation(_)
            | Self::GetBucketAcl(_)
            | Self::PutBucketAcl(_)
            | Self::GetBucketVersioning(_)
            | Self::PutBucketVersioning(_)
            | Self::GetUnsetBucketConfiguration(..)
            | Self::DeleteUnsetBucketConfiguration(..)
            | Self::DeleteObjects(_)
            | Self::PutObject(_)
            | Self::CopyObject(_)
            | Self::DeleteObject(_)
            | Self::GetObjectAcl(_)
            | Self::PutObjectAcl(_)
            | Self::GetObjectAttributes(_)
            | Self::GetObjectTagging(_)
            | Self::GetUnsetObjectLock(..)
            | Self::CreateMultipartUpload(_)
            | Self::UploadPart(_)
            | Self::UploadPartCopy(_)
            | Self::CompleteMultipartUpload(_)
            | Self::AbortMultipartUpload(_)
            | Self::ListParts(_)
            | Self::ListMultipartUploads(_)
            | Self::NotImplemented(_) => AnonymousAccess::Never,
        }
    }
}

impl UnsetConfiguration {
    /// The action that reads it.
    fn action(self) -> &'static str {
        match self {
            Self::Accelerate => "GetBucketAccelerateConfiguration",
            Self::AnalyticsList => "ListBucketAnalyticsConfigurations",
            Self::Analytics => "GetBucketAnalyticsConfiguration",
            Self::Cors => "GetBucketCors",
            Self::Encryption => "GetBucketEncryption",
            Self::IntelligentTieringList => "ListBucketIntelligentTieringConfigurations",
            Self::IntelligentTiering => "GetBucketIntelligentTieringConfiguration",
            Self::InventoryList => "ListBucketInventoryConfigurations",
            Self::Inventory => "GetBucketInventoryConfiguration",
            Self::Lifecycle => "GetBucketLifecycleConfiguration",
            Self::Logging => "GetBucketLogging",
            Self::MetricsList => "ListBucketMetricsConfigurations",
            Self::Metrics => "GetBucketMetricsConfiguration",
            Self::Notification => "GetBucketNotificationConfiguration",
            Self::ObjectLock => "GetObjectLockConfiguration",
            Self::OwnershipControls => "GetBucketOwnershipControls",
            Self::Policy => "GetBucketPolicy",
            Self::PolicyStatus => "GetBucketPolicyStatus",
            Self::PublicAccessBlock => "GetPublicAccessBlock",
            Self::Replication => "GetBucketReplication",
            Self::RequestPayment => "GetBucketRequestPayment",
            Self::Tagging => "GetBucketTagging",
            Self::Website => "GetBucketWebsite",
        }
    }

    fn needs(self) -> &'static [Capability] {
        match self {
            Self::Encryption => &[Capability::ReadBucketEncryption],
            Self::ObjectLock => &[Capability::ReadBucketRetentions],
            Self::Accelerate
            | Self::AnalyticsList
            | Self::Analytics
            | Self::Cors
            | Self::IntelligentTieringList
            | Self::IntelligentTiering
            | Self::InventoryList
            | Self::Inventory
            | Self::Lifecycle
            | Self::Logging
            | Self::MetricsList
            | Self::Metrics
            | Self::Notification
            | Self::OwnershipControls
            | Self::Policy
            | Self::PolicyStatus
            | Self::PublicAccessBlock
            | Self::Replication
            | Self::RequestPayment
            | Self::Tagging
            | Self::Website => &[Capability::ReadBuckets],
        }
    }
}
