//! Deletes in the encoded layout: a delete marker is pushed as an object is; a version that is removed is buried, and
//! where it was the head, the next one takes its place.

use bytes::Bytes;

use super::{Newness, Push, in_history, pause};
use crate::{
    BackendError, DeleteObject, DeleteObjectOutcome, DeletePlan, Version, VersionClock, VersionId, VersioningStatus,
    opendal::{
        ATTEMPTS, Core, Level,
        head::{Recorded, state},
        history::Target,
        key::StoreKey,
        record::{Keeping, Kind, Record},
        store::{Dress, Precondition, StoreError},
    },
};

impl Core {
    pub(in crate::opendal) async fn delete_encoded(
        &self,
        request: &DeleteObject,
        versioning: Option<VersioningStatus>,
    ) -> Result<DeleteObjectOutcome, BackendError> {
        let at = Target {
            bucket: &request.object.bucket,
            key: &request.object.key,
        };
        let mut versioning = versioning;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await?;
            let head = self.head(at.bucket, at.key).await?;
            versioning = self.versioning_now(at.bucket, head.as_ref(), versioning).await?;
            let done = match &request.object.version_id {
                Some(id) => self.delete_version(at, request, id, head, versioning).await?,
                None => self.delete_current(at, request, head, versioning).await?,
            };
            if let Some(outcome) = done {
                return Ok(outcome);
            }
        }
        Err(BackendError::Conflict)
    }

    /// Whether only what was read may be deleted. Where the store cannot judge that, and the bucket never had versions,
    /// there is nothing to be lost, and no head is left behind.
    fn is_careful_delete(&self, request: &DeleteObject, versioning: Option<VersioningStatus>) -> bool {
        let versioned = request.versions.is_some() && (versioning.is_some() || self.profile.conditional_deletes);
        versioned || !request.condition.is_none()
    }

    /// By name. `None`: another was faster.
    async fn delete_current(
        &self,
        at: Target<'_>,
        request: &DeleteObject,
        head: Option<Recorded>,
        versioning: Option<VersioningStatus>,
    ) -> Result<Option<DeleteObjectOutcome>, BackendError> {
        let stamp = request.versions.as_ref().map(VersionClock::stamp).transpose()?;
        let state = state(head.as_ref(), versioning);
        let existed = state.current.is_some();
        match (state.delete(&request.condition, stamp, request.mark_missing)?, &head) {
            (DeletePlan::Nothing, _) | (DeletePlan::Remove, None) => Ok(Some(DeleteObjectOutcome::default())),
            (DeletePlan::Remove, Some(head)) => {
                let careful = self.is_careful_delete(request, versioning);
                let removed = self.remove_head(at, head, careful).await?;
                Ok(removed.then(|| DeleteObjectOutcome {
                    existed,
                    ..DeleteObjectOutcome::default()
                }))
            }
            (
                DeletePlan::Mark {
                    marker,
                    displaced,
                    drops_kept_null,
                },
                head,
            ) => {
                let push = Push {
                    version: Some(marker),
                    displaced,
                    drops_kept_null,
                    is_conditional: !request.condition.is_none(),
                };
                let mut record =
                    Record::of_kind(Kind::DeleteMarker, self.nonce()?, at.bucket, at.key, self.clock.now());
                let none = Bytes::new();
                let pushed = self.push(at, head.as_ref(), push, true, &mut record, &none).await?;
                Ok(pushed.then(|| DeleteObjectOutcome {
                    existed,
                    version_id: Some(marker.id()),
                    delete_marker: true,
                }))
            }
        }
    }

    /// By id. `None`: another was faster.
    async fn delete_version(
        &self,
        at: Target<'_>,
        request: &DeleteObject,
        id: &VersionId,
        head: Option<Recorded>,
        versioning: Option<VersioningStatus>,
    ) -> Result<Option<DeleteObjectOutcome>, BackendError> {
        let mut kept = None;
        let is_head = head
            .as_ref()
            .is_some_and(|head| head.version().is_some_and(|version| version.id() == *id));
        if let Some(keeping) = head.as_ref().and_then(Recorded::keeping).filter(|_| !is_head) {
            kept = self.kept(at, keeping, id).await?;
        }
        let found = match &kept {
            Some((_, kept)) => Some(kept),
            None => head.as_ref().filter(|_| is_head),
        };
        let etag = found.and_then(|found| found.info(None)).map(|info| info.etag);
        request.condition.judge(etag.as_ref())?;
        request.condition.judge_loss(found.is_some())?;
        let (Some(found), Some(head)) = (found, &head) else {
            return Ok(Some(DeleteObjectOutcome::default()));
        };
        let outcome = DeleteObjectOutcome {
            existed: true,
            // In a bucket that never had versioning there is nothing to be told of one.
            version_id: versioning.map(|_| id.clone()),
            delete_marker: found.kind == Kind::DeleteMarker,
        };
        let careful = self.is_careful_delete(request, versioning);
        let removed = match &kept {
            Some((version, kept)) => self.remove_kept(at, head, *version, kept).await?,
            None => self.remove_head(at, head, careful).await?,
        };
        Ok(removed.then_some(outcome))
    }

    /// Removes a version that lies in the history. `false`: the head is not what was read any more.
    async fn remove_kept(
        &self,
        at: Target<'_>,
        head: &Recorded,
        version: Version,
        kept: &Recorded,
    ) -> Result<bool, BackendError> {
        let before = head.keeping();
        let mut next = Keeping::after(before, self.nonce()?);
        next.promoted = before.is_some_and(|before| before.promoted);
        next.begin_epoch();
        next.add_gone(version.stamp);
        if version.null {
            next.set_null(None);
        }
        self.bury_again(at, before).await?;
        self.forget_upload(at, &kept.record).await?;
        let record = Record {
            keeping: Some(next),
            ..head.record.clone()
        };
        let precondition = self.if_still(Some(head))?;
        if !self
            .write_head(at, &record, &head.inline, &precondition, Newness::Known)
            .await?
        {
            return Ok(false);
        }
        if let Err(error) = self.bury(at, version.stamp).await {
            tracing::warn!(%error, "a version that is gone is left to the next write of its key");
            return Ok(true);
        }
        self.drop_data(&kept.record).await;
        Ok(true)
    }

    /// Removes the newest version; the next one is the head then. `false`: the head is not what was read any more.
    async fn remove_head(&self, at: Target<'_>, head: &Recorded, careful: bool) -> Result<bool, BackendError> {
        self.forget_upload(at, &head.record).await?;
        let gone = in_history(head);
        let before = head.keeping();
        let own = head.version().map(|version| version.stamp);
        let kept = match before {
            Some(keeping) => self.kept_below(at, keeping, own, 2).await?,
            None => Vec::new(),
        };
        // Nobody can have kept it, so nobody can come late with it.
        let never_kept = gone.is_none();
        let deletes = self.level < Level::CompareAndSet || self.profile.conditional_deletes || !careful;
        // Whoever read that there is no head, or has written this one and does not know it, is to find another: with
        // none it would come again, without its data.
        let leaves_head = self.level >= Level::CompareAndSet
            && (!head.record.blobs.is_empty() || before.is_some() && never_kept && kept.is_empty());
        if kept.is_empty()
            && never_kept
            && deletes
            && !leaves_head
            && before.is_none_or(|before| before.gone().next().is_none())
        {
            let precondition = if careful && self.profile.conditional_deletes {
                self.if_still(Some(head))?
            } else {
                Precondition::None
            };
            match self.store.delete(&head.place, &precondition).await {
                Err(StoreError::ConditionFailed) => return Ok(false),
                outcome => outcome?,
            }
            self.clear(at, head).await;
            return Ok(true);
        }
        let mut next = Keeping::after(before, self.nonce()?);
        next.begin_epoch();
        if let Some(gone) = gone {
            next.add_gone(gone);
        }
        let mut kept = kept.into_iter();
        let promoted = kept.next();
        next.set_newest(kept.next().map(|(version, _)| version.stamp));
        let (record, inline) = match &promoted {
            Some((version, kept)) => {
                next.promoted = true;
                if version.null {
                    next.set_null(None);
                }
                let Some((_, found)) = self.kept_at(at, version.stamp).await? else {
                    return Ok(false);
                };
                (kept.record.clone(), found.inline)
            }
            None => {
                let nothing = Record::of_kind(Kind::Nothing, self.nonce()?, at.bucket, at.key, self.clock.now());
                (nothing, Bytes::new())
            }
        };
        self.bury_again(at, before).await?;
        let record = Record {
            keeping: Some(next),
            ..record
        };
        let precondition = self.if_still(Some(head))?;
        if !self
            .write_head(at, &record, &inline, &precondition, Newness::Known)
            .await?
        {
            return Ok(false);
        }
        if self.clear(at, head).await && promoted.is_none() && self.can_drop_heads() {
            let left = if leaves_head {
                self.leave_empty_head(&record).await
            } else {
                self.drop_empty_head(at, &record).await
            };
            if let Err(error) = left {
                tracing::warn!(%error, "the head of a key that has nothing stays");
            }
        }
        Ok(true)
    }

    /// Notes a head whose key has nothing for the sweeper, which drops it when nobody comes late any more.
    async fn leave_empty_head(&self, written: &Record) -> Result<(), BackendError> {
        let place = StoreKey::burial(self.nonce()?);
        let none = Precondition::None;
        self.store
            .write(&place, written.to_object(&[]), Dress::default(), &none)
            .await?;
        Ok(())
    }

    /// Removes a head whose key has nothing, if it is still that. What it said was gone is buried.
    pub(in crate::opendal) async fn drop_empty_head(
        &self,
        at: Target<'_>,
        written: &Record,
    ) -> Result<(), BackendError> {
        let Some(head) = self.head(at.bucket, at.key).await? else {
            return Ok(());
        };
        if head.record != *written || !self.can_drop_heads() {
            return Ok(());
        }
        match self.store.delete(&head.place, &self.if_still(Some(&head))?).await {
            Err(StoreError::ConditionFailed) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Whether a head can go without another's being lost.
    pub(in crate::opendal) fn can_drop_heads(&self) -> bool {
        self.level < Level::CompareAndSet || self.profile.conditional_deletes
    }
}
