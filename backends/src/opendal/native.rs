//! Versions that the store keeps by itself, in the transparent layout: a version of an object is the store's own, under
//! the store's own id. The gateway writes down nothing of them.
//!
//! What an object's attributes have beside it stays as long as a version names it: the sweeper looks.

use std::collections::HashSet;

use super::{
    ATTEMPTS, Core,
    key::StoreKey,
    object::{Current, last_modified},
    record::Record,
    store::{Precondition, StoreError},
    store_versions::{FoundVersion, STORE_PAGE, Stated},
};
use crate::{
    BackendError, BucketName, BucketSetting, DeleteObject, DeleteObjectOutcome, Key, ObjectRef, Stamp, VersionId,
    VersioningStatus,
};

/// So many nonces are remembered as those of versions.
const MAX_KNOWN: usize = 100_000;

impl Core {
    /// Whether versions are the store's own.
    pub(super) fn is_native(&self) -> bool {
        self.store.keeps_versions()
    }

    /// What a bucket's versioning is. The store keeps versions of everything, so every bucket has it.
    pub(super) fn versioning(&self, recorded: Option<VersioningStatus>) -> Option<VersioningStatus> {
        if self.is_native() {
            Some(VersioningStatus::Enabled)
        } else {
            recorded
        }
    }

    /// What cannot be for all buckets together is refused.
    pub(super) fn judge_versioning(&self, setting: &BucketSetting) -> Result<(), BackendError> {
        match setting {
            BucketSetting::Versioning(VersioningStatus::Suspended) if self.is_native() => {
                Err(self.not_supported("Suspending versioning in a store that keeps versions of everything by itself"))
            }
            BucketSetting::Versioning(_) if !self.is_native() && !self.keeps_history() => {
                Err(self.not_supported("versioning of buckets"))
            }
            BucketSetting::Versioning(_) | BucketSetting::Acl(_) => Ok(()),
        }
    }

    /// A bucket of this layout with versioning was made when the store kept versions. Where it does so no more, nothing is
    /// replaced or deleted there.
    pub(super) fn judge_kept(&self, versioning: Option<VersioningStatus>) -> Result<(), BackendError> {
        if versioning.is_some() && !self.is_native() {
            return Err(
                self.not_supported("A write to a bucket with versioning in a store that keeps no versions any more")
            );
        }
        Ok(())
    }

    /// What is there: by name, or as a version. [`BackendError::NoSuchKey`], [`BackendError::NoSuchVersion`] or
    /// [`BackendError::DeleteMarker`] where there is no object.
    pub(super) async fn find_native(&self, object: &ObjectRef) -> Result<Current, BackendError> {
        let id = object.version_id.as_ref();
        let missing = || match id {
            Some(_) => BackendError::NoSuchVersion,
            None => BackendError::NoSuchKey,
        };
        let place = match self.place(&object.bucket, &object.key) {
            // What cannot be there is not there.
            Err(BackendError::UnsupportedKey(_)) => {
                self.bucket(&object.bucket).await?;
                return Err(missing());
            }
            place => place?,
        };
        let (bucket, stated) = futures::join!(self.bucket(&object.bucket), self.store.stat_version(&place, id));
        bucket?;
        let mut stated = stated?;
        for _ in 0..ATTEMPTS {
            let named = match stated {
                Stated::Object(meta) => return self.plain(place, object.key.clone(), *meta).await,
                Stated::DeleteMarker(named) => named,
                Stated::Nothing if id.is_some() || self.profile.names_markers => return Err(missing()),
                Stated::Nothing => None,
            };
            match self.native_marker(&place, named.as_ref()).await? {
                Some(found) if found.is_marker => {
                    return Err(BackendError::DeleteMarker {
                        version_id: found.id(),
                        last_modified: last_modified(&found.meta),
                    });
                }
                None if named.is_none() => return Err(missing()),
                // It has changed since.
                _ => stated = self.store.stat_version(&place, id).await?,
            }
        }
        Err(BackendError::Conflict)
    }

    /// The version with this id; without one, the newest.
    async fn native_marker(
        &self,
        place: &StoreKey,
        id: Option<&VersionId>,
    ) -> Result<Option<FoundVersion>, BackendError> {
        let page = if id.is_some() { STORE_PAGE } else { 1 };
        let mut versions = self.store.versions_of(place, page).await?;
        while let Some(found) = versions.next().await? {
            if id.is_none_or(|id| found.id() == *id) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The version that the write of `record` has made, also where others have come since: the newest thousand are looked
    /// through, and asked for where they could be it.
    pub(super) async fn settle_version(
        &self,
        bucket: &BucketName,
        key: &Key,
        record: &Record,
    ) -> Result<Option<Current>, BackendError> {
        let place = self.place(bucket, key)?;
        let mut versions = self.store.versions_of(&place, STORE_PAGE).await?;
        for _ in 0..STORE_PAGE {
            let Some(found) = versions.next().await? else { break };
            if found.is_marker || found.meta.size != record.size {
                continue;
            }
            if let Stated::Object(meta) = self.store.stat_version(&place, Some(&found.id())).await? {
                let found = self.plain(place.clone(), key.clone(), *meta).await?;
                if found.record.as_ref().is_some_and(|found| found.nonce == record.nonce) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    pub(super) async fn delete_native(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let DeleteObject { object, condition, .. } = &request;
        if let Some(id) = &object.version_id {
            return self.delete_native_version(&request, id).await;
        }
        for _ in 0..ATTEMPTS {
            let current = self.current(&object.bucket, &object.key).await?;
            condition.judge(current.as_ref().map(|current| &current.info.etag))?;
            if current.is_none() && !request.mark_missing {
                return Ok(DeleteObjectOutcome::default());
            }
            let precondition = match &current {
                Some(current) if condition.if_match.is_some() => self.replacing(current.token.clone())?,
                _ => Precondition::None,
            };
            let place = self.place(&object.bucket, &object.key)?;
            match self.store.mark_deleted(&place, &precondition).await {
                Err(StoreError::ConditionFailed) => {}
                marker => {
                    let version_id = marker?;
                    return Ok(DeleteObjectOutcome {
                        existed: current.is_some(),
                        delete_marker: version_id.is_some(),
                        version_id,
                    });
                }
            }
        }
        Err(BackendError::Conflict)
    }

    /// The bytes and attributes of a version never change: what is judged of it holds until it goes.
    async fn delete_native_version(
        &self,
        request: &DeleteObject,
        id: &VersionId,
    ) -> Result<DeleteObjectOutcome, BackendError> {
        let (found, is_marker) = match self.find_native(&request.object).await {
            Ok(found) => (Some(found), false),
            Err(BackendError::DeleteMarker { .. }) => (None, true),
            Err(BackendError::NoSuchVersion) => (None, false),
            Err(error) => return Err(error),
        };
        let there = found.is_some() || is_marker;
        request.condition.judge(found.as_ref().map(|found| &found.info.etag))?;
        request.condition.judge_loss(there)?;
        if !there {
            return Ok(DeleteObjectOutcome::default());
        }
        let place = self.place(&request.object.bucket, &request.object.key)?;
        self.store.delete_version(&place, id).await?;
        Ok(DeleteObjectOutcome {
            existed: true,
            version_id: Some(id.clone()),
            delete_marker: is_marker,
        })
    }

    /// Whether anything at all lies under the bucket's name, delete markers among it.
    pub(super) async fn holds_any_version(&self, bucket: &BucketName) -> Result<bool, BackendError> {
        let dir = super::key::StoreDir::bucket(bucket);
        let mut versions = self.store.list_versions(&dir, "", true, None, 1).await?;
        Ok(versions.next().await?.is_some())
    }

    /// Whether a version of `key` names the side object of this nonce. `known`: nonces that versions were found to name.
    pub(super) async fn is_side_of_version(
        &self,
        bucket: &BucketName,
        key: &Key,
        nonce: Stamp,
        known: &mut HashSet<Stamp>,
    ) -> Result<bool, BackendError> {
        if known.contains(&nonce) {
            return Ok(true);
        }
        let place = match self.place(bucket, key) {
            Err(BackendError::UnsupportedKey(_)) => return Ok(false),
            place => place?,
        };
        let mut versions = self.store.versions_of(&place, STORE_PAGE).await?;
        while let Some(found) = versions.next().await? {
            if found.is_marker {
                continue;
            }
            let Stated::Object(meta) = self.store.stat_version(&place, Some(&found.id())).await? else {
                continue;
            };
            let named = Record::of_metadata(&meta).and_then(|record| record.nonce());
            if named == Some(nonce) {
                return Ok(true);
            }
            known.extend(named.filter(|_| known.len() < MAX_KNOWN));
        }
        Ok(false)
    }
}
