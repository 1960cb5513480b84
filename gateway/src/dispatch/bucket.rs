//! Operations on buckets, and on many objects of one.

use futures::{StreamExt as _, stream};
use t2gate_backends::{
    AccountId, BackendError, BucketInfo, BucketName, BucketSetting, CreateBucket as BackendCreate, DeleteObjectOutcome,
    ListObjectVersions as BackendListVersions, ListObjects as BackendList, ObjectRef, VersioningStatus,
};

use super::{Carrier, Reply};
use crate::{
    acl::{self, Denied, Wanted},
    body::UnverifiedBody,
    keys::Capability,
    layer::{authorize::Grant, record::RequestRecord},
    limits,
    s3::{
        S3Error, S3ErrorCode,
        encode::{self, DeleteResult},
        operation::{
            CreateBucket, DeleteObject, DeleteObjects, ListBuckets, ListObjectVersions, ListObjects, ListObjectsV2,
            PutBucketAcl, UnsetConfiguration, delete_access,
        },
        xml::{self, DeleteEntry, DeleteTarget},
    },
};

/// Buckets looked at in one call to the backend while those that a restricted key may see are picked out.
const BUCKETS_AT_ONCE: usize = 1000;

/// Deletes of one DeleteObjects that run at the same time.
const DELETES_AT_ONCE: usize = 16;

impl Carrier {
    pub(super) async fn list_buckets(&self, request: ListBuckets, grant: &Grant) -> Reply {
        let account = grant.account()?;
        if request
            .bucket_region
            .as_deref()
            .is_some_and(|region| region != &*self.settings.region)
        {
            return Ok(encode::list_buckets(
                &request,
                &[],
                false,
                account,
                &self.settings.region,
            ));
        }
        let max = request.max_buckets.unwrap_or(limits::MAX_BUCKETS_PAGE);
        let mut found: Vec<BucketInfo> = Vec::new();
        let mut after = request.start_after.clone();
        loop {
            let some = self
                .backend
                .list_buckets(account, &request.prefix, after.as_deref(), BUCKETS_AT_ONCE)
                .await?;
            let was_last = some.len() < BUCKETS_AT_ONCE;
            after = some.last().map(|info| info.bucket.as_str().into());
            found.extend(some.into_iter().filter(|info| grant.sees(&info.bucket)));
            // One more than asked tells whether that is all.
            if was_last || found.len() > max {
                break;
            }
        }
        let is_truncated = found.len() > max;
        found.truncate(max);
        Ok(encode::list_buckets(
            &request,
            &found,
            is_truncated,
            account,
            &self.settings.region,
        ))
    }

    pub(super) async fn create_bucket(&self, request: CreateBucket, grant: &Grant, body: UnverifiedBody) -> Reply {
        let document = body.collect(limits::MAX_XML_BYTES).await?;
        if !document.is_empty() {
            let location = xml::parse_create_bucket_configuration(&document)?;
            if location
                .as_deref()
                .is_some_and(|location| location != &*self.settings.region)
            {
                return Err(S3Error::new(
                    S3ErrorCode::InvalidLocationConstraint,
                    "The specified location-constraint is not valid",
                ));
            }
        }
        let owner = grant.account()?.clone();
        let create = BackendCreate {
            bucket: request.bucket.clone(),
            owner: owner.clone(),
            acl: request.acl,
            max_buckets: self.max_buckets(&owner),
            versioning: self.new_bucket_versioning(&request.bucket),
        };
        match self.backend.create_bucket(create).await {
            Ok(_) => Ok(encode::create_bucket(&request.bucket)),
            Err(BackendError::BucketAlreadyExists { owner: theirs }) if theirs == owner => Err(S3Error::new(
                S3ErrorCode::BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it.",
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn new_bucket_versioning(&self, bucket: &BucketName) -> Option<VersioningStatus> {
        let versioning = self.settings.dialect.rules().new_bucket_versioning;
        versioning.filter(|_| self.backend.capabilities(Some(bucket)).versioning)
    }

    fn max_buckets(&self, account: &AccountId) -> u32 {
        let account = self.settings.keys.account(account);
        account
            .and_then(|account| account.max_buckets)
            .unwrap_or(self.settings.max_buckets)
    }

    pub(super) fn head_bucket(&self) -> Reply {
        Ok(encode::head_bucket(&self.settings.region))
    }

    pub(super) async fn delete_bucket(&self, bucket: BucketName, grant: &Grant) -> Reply {
        let is_versioned = grant.bucket()?.versioning.is_some();
        self.backend.delete_bucket(&bucket).await.map_err(|error| match error {
            BackendError::NoSuchBucket => S3Error::no_such_bucket(bucket.as_str()),
            BackendError::BucketNotEmpty if is_versioned => S3Error::new(
                S3ErrorCode::BucketNotEmpty,
                "The bucket you tried to delete is not empty. You must delete all versions in the bucket.",
            ),
            other => other.into(),
        })?;
        Ok(encode::delete_bucket())
    }

    pub(super) fn get_bucket_location(&self) -> Reply {
        Ok(encode::get_bucket_location(&self.settings.region))
    }

    pub(super) fn get_bucket_acl(&self, grant: &Grant) -> Reply {
        let bucket = grant.bucket()?;
        Ok(encode::get_bucket_acl(&bucket.owner, bucket.acl))
    }

    pub(super) async fn put_bucket_acl(&self, request: PutBucketAcl, grant: &Grant, body: UnverifiedBody) -> Reply {
        let acl = match request.acl {
            Some(acl) => acl,
            None => {
                let document = body.collect(limits::MAX_XML_BYTES).await?;
                self.check_same_bucket(grant).await?;
                xml::parse_access_control_policy(&document, &grant.bucket()?.owner)?
            }
        };
        self.backend
            .put_bucket_setting(&request.bucket, BucketSetting::Acl(acl))
            .await?;
        Ok(encode::put_bucket_acl())
    }

    /// There is none: an error, or nothing to be done (dialect D1).
    pub(super) fn delete_unset(&self, bucket: &BucketName, configuration: UnsetConfiguration) -> Reply {
        if self.settings.dialect.rules().delete_missing_is_an_error {
            encode::get_unset_bucket_configuration(bucket, configuration)
        } else {
            Ok(encode::delete_unset_bucket_configuration())
        }
    }

    pub(super) fn get_bucket_versioning(&self, grant: &Grant) -> Reply {
        Ok(encode::get_bucket_versioning(grant.bucket()?.versioning))
    }

    pub(super) async fn put_bucket_versioning(&self, bucket: BucketName, grant: &Grant, body: UnverifiedBody) -> Reply {
        let capabilities = self.backend.capabilities(Some(&bucket));
        if !capabilities.versioning {
            return Err(BackendError::NotSupported {
                operation: "PutBucketVersioning",
                backend: capabilities.name,
            }
            .into());
        }
        let document = body.collect(limits::MAX_XML_BYTES).await?;
        self.check_same_bucket(grant).await?;
        let status = xml::parse_versioning_configuration(&document)?;
        // From then on writes destroy what they replace.
        if status == VersioningStatus::Suspended && !grant.may_destroy {
            return Err(Denied::Capability(Capability::DeleteFiles).into());
        }
        self.backend
            .put_bucket_setting(&bucket, BucketSetting::Versioning(status))
            .await?;
        Ok(encode::put_bucket_versioning())
    }

    pub(super) async fn list_objects(&self, request: ListObjects, grant: &Grant) -> Reply {
        let list = BackendList {
            bucket: request.bucket.clone(),
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone(),
            start_after: request.marker.clone(),
            max_keys: request.max_keys,
        };
        let page = self.backend.list_objects(list).await?;
        encode::list_objects(&request, &page, &grant.bucket()?.owner)
    }

    pub(super) async fn list_objects_v2(&self, request: ListObjectsV2, grant: &Grant) -> Reply {
        let list = BackendList {
            bucket: request.bucket.clone(),
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone(),
            // A token continues a listing that start-after began.
            start_after: request.continue_after.clone().or_else(|| request.start_after.clone()),
            max_keys: request.max_keys,
        };
        let page = self.backend.list_objects(list).await?;
        encode::list_objects_v2(&request, &page, &grant.bucket()?.owner)
    }

    pub(super) async fn list_object_versions(&self, request: ListObjectVersions, grant: &Grant) -> Reply {
        let list = BackendListVersions {
            bucket: request.bucket.clone(),
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone(),
            key_marker: request.key_marker.clone(),
            version_id_marker: request.version_id_marker.clone(),
            max_keys: request.max_keys,
        };
        let page = self.backend.list_object_versions(list).await?;
        encode::list_object_versions(&request, &page, &grant.bucket()?.owner)
    }

    pub(super) async fn delete_objects(
        &self,
        request: DeleteObjects,
        grant: &Grant,
        body: UnverifiedBody,
        record: &RequestRecord,
    ) -> Reply {
        let document = body.collect(limits::MAX_XML_BYTES).await?;
        self.check_same_bucket(grant).await?;
        let delete = xml::parse_delete(&document, self.settings.dialect)?;
        // From here on it has a result of its own for each object: no client has to find an error of the whole under a 200.
        record.set_takes_long(());
        // Several at once, so that they share what the disk takes; in the order of the request all the same.
        let results: Vec<_> = stream::iter(delete.objects)
            .map(|entry| self.delete_entry(&request.bucket, entry, grant))
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await;
        Ok(encode::delete_objects(&results, delete.quiet))
    }

    async fn delete_entry(&self, bucket: &BucketName, entry: DeleteEntry, grant: &Grant) -> DeleteResult {
        let outcome = match entry.target {
            Ok(target) => self.delete_one_of_many(bucket, target, grant).await,
            Err(refused) => Err(refused),
        };
        if let Err(error) = &outcome
            && error.is_failure()
        {
            tracing::error!(
                error = error as &dyn std::error::Error,
                key = entry.key,
                "an object was not deleted"
            );
        }
        DeleteResult {
            key: entry.key,
            version_id: entry.version_id,
            outcome,
        }
    }

    /// What is not there counts as deleted, so that bulk deletes can be repeated (dialect D1).
    async fn delete_one_of_many(
        &self,
        bucket: &BucketName,
        target: DeleteTarget,
        grant: &Grant,
    ) -> Result<DeleteObjectOutcome, S3Error> {
        let wanted = Wanted {
            capabilities: delete_access(target.version_id.is_some()).needs,
            name: Some(target.key.as_str()),
            public: false,
        };
        acl::reaches(&grant.requester, wanted, Some(bucket))?;
        let delete = DeleteObject {
            condition: target.condition,
            object: ObjectRef {
                bucket: bucket.clone(),
                key: target.key,
                version_id: target.version_id,
            },
        };
        self.delete(delete, grant).await
    }
}
