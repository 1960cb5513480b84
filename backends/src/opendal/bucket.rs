//! Buckets: a record each, under a name that no key reaches. What lies in the store without one is nobody's.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Core, Level,
    key::{StoreDir, StoreKey},
    record::BucketRecord,
    store::{Dress, Precondition, StoreError, Token},
};
use crate::{
    AccountId, BackendError, BucketInfo, BucketName, BucketSetting, CannedAcl, CreateBucket, Stamp, UploadId,
    VersioningStatus,
};

/// The most that a bucket's record can have.
pub(super) const MAX_RECORD_BYTES: u64 = 64 << 10;
/// So many records are read at once.
const READS: usize = 16;

/// A bucket as a request found it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) record: BucketRecord,
    pub(super) info: BucketInfo,
    token: Option<Token>,
    changes: u64,
}

impl Core {
    pub(super) async fn bucket(&self, bucket: &BucketName) -> Result<Bucket, BackendError> {
        let changes = self.locks.changes(bucket);
        let key = StoreKey::bucket_record(bucket);
        let known = |bytes: &Bytes| {
            let record = BucketRecord::of_bytes(bytes)?;
            Some((record.info(bucket)?, record))
        };
        let Some((known, token)) = self.store.read_as(&key, MAX_RECORD_BYTES, known).await? else {
            return Err(BackendError::NoSuchBucket);
        };
        let (mut info, record) = known.ok_or_else(|| {
            BackendError::internal("a bucket's record is damaged, or of a later version", key.to_string())
        })?;
        info.versioning = self.versioning(info.versioning);
        Ok(Bucket {
            record,
            info,
            token,
            changes,
        })
    }

    /// Whether it is still the same bucket, and its versioning now; to be asked by who holds its lock. `long`: so much
    /// time may have gone by since it was found that another process may have changed it.
    pub(super) async fn confirm_bucket(
        &self,
        bucket: &Bucket,
        long: bool,
    ) -> Result<Option<VersioningStatus>, BackendError> {
        let name = &bucket.info.bucket;
        if !long && self.locks.changes(name) == bucket.changes {
            return Ok(bucket.info.versioning);
        }
        let now = self.bucket(name).await?;
        if now.record.id == bucket.record.id {
            Ok(now.info.versioning)
        } else {
            Err(BackendError::NoSuchBucket)
        }
    }

    pub(super) async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        if let Some(status) = request.versioning {
            self.judge_versioning(&BucketSetting::Versioning(status))?;
        }
        // Before anything is locked: most of those who ask only make sure of their bucket, and it may be busy.
        self.refuse_existing(&request.bucket).await?;
        let _creation = self.locks.creation.lock().await;
        let _lock = self.locks.bucket(&request.bucket).await?;
        self.refuse_existing(&request.bucket).await?;
        let max = request.max_buckets as usize;
        if max < u32::MAX as usize && self.list_buckets(&request.owner, "", None, max).await?.len() >= max {
            return Err(BackendError::TooManyBuckets {
                limit: request.max_buckets,
            });
        }
        // Something else's objects become nobody's by accident.
        if self.holds_anything(&request.bucket).await? {
            let owner = self.adoption.owner(&request.bucket).cloned();
            return Err(BackendError::BucketAlreadyExists {
                owner: owner.unwrap_or(request.owner),
            });
        }
        let info = BucketInfo {
            bucket: request.bucket,
            owner: request.owner,
            created: self.clock.now(),
            acl: request.acl,
            versioning: self.versioning(request.versioning),
        };
        self.write_new_record(&info).await?;
        Ok(info)
    }

    async fn refuse_existing(&self, bucket: &BucketName) -> Result<(), BackendError> {
        match self.bucket(bucket).await {
            Ok(bucket) => Err(BackendError::BucketAlreadyExists {
                owner: bucket.info.owner,
            }),
            Err(BackendError::NoSuchBucket) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fails with [`BackendError::BucketAlreadyExists`] where another was faster.
    async fn write_new_record(&self, info: &BucketInfo) -> Result<(), BackendError> {
        let id = self.nonce()?;
        let record = BucketRecord::new(id, info);
        let key = StoreKey::bucket_record(&info.bucket);
        let precondition = if self.level >= Level::CreateIfAbsent {
            Precondition::Absent
        } else {
            Precondition::None
        };
        let written = self
            .store
            .write(&key, record.to_bytes(), Dress::default(), &precondition)
            .await;
        let Err(error) = written else { return Ok(()) };
        // The reply to a write that took place may have been lost.
        match self.bucket(&info.bucket).await {
            Ok(found) if found.record.id == record.id => Ok(()),
            Ok(found) => Err(BackendError::BucketAlreadyExists {
                owner: found.info.owner,
            }),
            Err(BackendError::NoSuchBucket) => Err(error.into()),
            Err(unknown) => Err(unknown),
        }
    }

    pub(super) async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        let mut names = Vec::new();
        let mut entries = self.store.list(&StoreDir::bucket_records(), "", false, None, None);
        while let Some(found) = entries.next().await? {
            let Ok(name) = BucketName::parse(found.name) else {
                continue;
            };
            if name.as_str().starts_with(prefix) && start_after.is_none_or(|after| name.as_str() > after) {
                names.push(name);
            }
        }
        names.sort();
        let infos = stream::iter(names.into_iter().map(|name| async move {
            match self.bucket(&name).await {
                Ok(bucket) => Ok(Some(bucket.info).filter(|info| info.owner == *owner)),
                Err(BackendError::NoSuchBucket) => Ok(None),
                Err(error) => Err(error),
            }
        }));
        let infos = infos.buffered(READS).try_filter_map(async |info| Ok(info));
        infos.take(max).try_collect().await
    }

    pub(super) async fn put_bucket_setting(
        &self,
        bucket: &BucketName,
        setting: BucketSetting,
    ) -> Result<(), BackendError> {
        self.judge_versioning(&setting)?;
        // Who commits goes by the versioning, and by nothing else of the record.
        let _bucket = match setting {
            BucketSetting::Versioning(_) => Some(self.locks.bucket(bucket).await?),
            BucketSetting::Acl(_) => None,
        };
        let _settings = self.locks.settings(bucket).await;
        for _ in 0..super::ATTEMPTS {
            let Bucket { mut record, token, .. } = self.bucket(bucket).await?;
            match setting {
                BucketSetting::Acl(acl) => record.set_acl(acl),
                BucketSetting::Versioning(status) => record.set_versioning(status),
            }
            let precondition = self.replacing(token)?;
            let key = StoreKey::bucket_record(bucket);
            match self
                .store
                .write(&key, record.to_bytes(), Dress::default(), &precondition)
                .await
            {
                // Whoever was faster may have been this write, whose reply was lost: to write it again is no harm.
                Err(StoreError::ConditionFailed) => {}
                outcome => {
                    self.locks.note_change(bucket);
                    return Ok(outcome.map(drop)?);
                }
            }
        }
        Err(BackendError::Conflict)
    }

    pub(super) async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        // A bucket that is not empty need not be locked to be refused.
        self.bucket(bucket).await?;
        if self.holds_anything(bucket).await? {
            return Err(BackendError::BucketNotEmpty);
        }
        let _bucket = self.locks.bucket(bucket).await?;
        let _settings = self.locks.settings(bucket).await;
        let found = self.bucket(bucket).await?;
        if self.holds_anything(bucket).await? {
            return Err(BackendError::BucketNotEmpty);
        }
        let uploads = self.upload_ids(bucket).await?;
        let precondition = if self.profile.conditional_deletes {
            self.replacing(found.token)?
        } else {
            Precondition::None
        };
        if let Err(error) = self.store.delete(&StoreKey::bucket_record(bucket), &precondition).await {
            // The reply may have been lost, and a second attempt met nothing.
            match self.bucket(bucket).await {
                Err(BackendError::NoSuchBucket) => {}
                Err(_) | Ok(_) => return Err(error.into()),
            }
        }
        self.locks.note_change(bucket);
        for id in uploads {
            let ended = async {
                match self.recorded_upload(bucket, &id).await? {
                    Some(record) => self.end_upload(bucket, &record).await.map(drop),
                    None => self.remove_upload_but(bucket, &id, &[]).await,
                }
            };
            if let Err(error) = ended.await {
                tracing::warn!(%bucket, upload = %id, %error, "an upload of a bucket that is gone is left to the sweeper");
            }
        }
        Ok(())
    }

    async fn upload_ids(&self, bucket: &BucketName) -> Result<Vec<UploadId>, BackendError> {
        let mut ids = Vec::new();
        let mut entries = self.store.list(&StoreDir::uploads(bucket), "", false, None, None);
        while let Some(found) = entries.next().await? {
            ids.extend(UploadId::parse(found.name).ok());
        }
        Ok(ids)
    }

    /// Whether anything at all lies in the bucket's directory, also what is no object for the gateway; but not what is
    /// left of a key that has no version any more.
    async fn holds_anything(&self, bucket: &BucketName) -> Result<bool, BackendError> {
        if self.is_native() {
            return self.holds_any_version(bucket).await;
        }
        let mut entries = self.store.list(&StoreDir::bucket(bucket), "", true, None, Some(2));
        while let Some(found) = entries.next().await? {
            match self.layout {
                super::StoreLayout::Transparent => return Ok(true),
                // File systems keep directories that have become empty.
                super::StoreLayout::Encoded if found.name.ends_with('/') => {}
                super::StoreLayout::Encoded => {
                    if !self.is_left_over(bucket, &found.name).await? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Whether the store answers.
    pub(super) async fn ready(&self) -> Result<(), BackendError> {
        let mut entries = self.store.list(&StoreDir::bucket_records(), "", false, None, Some(1));
        entries.next().await?;
        Ok(())
    }

    /// Looks for directories that are nobody's bucket and could be one. Those that have an owner become private
    /// buckets of that account. The names of the others are given back, in order: nobody sees them.
    pub(super) async fn adopt(&self) -> Result<Vec<BucketName>, BackendError> {
        let mut unclaimed = Vec::new();
        let mut entries = self.store.list(&StoreDir::root(), "", false, None, None);
        while let Some(found) = entries.next().await? {
            let name = found.name.strip_suffix('/').map(BucketName::parse);
            let Some(Ok(name)) = name else { continue };
            match self.bucket(&name).await {
                Err(BackendError::NoSuchBucket) => match self.holds_anything(&name).await {
                    Ok(true) => unclaimed.push(name),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%name, %error, "a directory cannot be read, and is nobody's"),
                },
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        unclaimed.sort();
        unclaimed.dedup();
        let mut nobodys = Vec::new();
        for bucket in unclaimed {
            let Some(owner) = self.adoption.owner(&bucket) else {
                nobodys.push(bucket);
                continue;
            };
            let info = BucketInfo {
                bucket,
                owner: owner.clone(),
                created: self.clock.now(),
                acl: CannedAcl::Private,
                versioning: self.versioning(None),
            };
            match self.write_new_record(&info).await {
                // Another gateway on the same store.
                Ok(()) | Err(BackendError::BucketAlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
            tracing::info!(bucket = %info.bucket, %owner, "what was in the store is a bucket now");
        }
        Ok(nobodys)
    }

    /// Replaces only what `token` is about, where the store can judge that; there it is an error if it has told none, for
    /// then it would replace whatever is there.
    pub(super) fn replacing(&self, token: Option<Token>) -> Result<Precondition, BackendError> {
        match token {
            _ if self.level < Level::CompareAndSet => Ok(Precondition::None),
            Some(token) => Ok(Precondition::Is(token)),
            None => Err(BackendError::internal(
                "the store does not tell which state of an object it gives",
                "its answer has no tag",
            )),
        }
    }

    pub(super) fn nonce(&self) -> Result<Stamp, BackendError> {
        let random =
            getrandom::u64().map_err(|error| BackendError::internal("no randomness for a name in the store", error))?;
        Ok(Stamp::new(self.clock.now(), random))
    }
}
