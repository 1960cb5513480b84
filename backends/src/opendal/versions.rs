//! Commits in the encoded layout: each is one write of the key's head, from the state that was read, or nothing.
//!
//! Where many gateways write, the store compares and sets; who was slower begins again with what is there then. Where
//! one does, its lock of the key stands for that.

mod delete;

use std::time::Duration;

use bytes::Bytes;

use super::{
    ATTEMPTS, Core, Level,
    head::{Recorded, state},
    history::Target,
    key::StoreKey,
    object::{Data, unknown},
    record::{Keeping, Kind, Record, StoredVersion},
    store::{Precondition, StoreError},
};
use crate::{
    BackendError, BucketName, Displaced, ObjectInfo, Stamp, UploadId, Version, VersionClock, VersioningStatus,
    WriteCondition,
};

/// What a write puts on top of a key's versions, and what becomes of them.
#[derive(Debug, Clone, Copy)]
struct Push {
    version: Option<Version>,
    displaced: Displaced,
    drops_kept_null: bool,
    /// Its sender has asked for a condition, and is to be told of it only what is so.
    is_conditional: bool,
}

/// What is written as a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newness {
    /// No head had its nonce before, so that it may be known again in the history too. `only_once`: it must not be written
    /// again where it may have been there.
    New { only_once: bool },
    /// It changes what is said of the head that is there.
    Known,
}

/// What has been the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept(Version),
    Dropped,
    /// There was nothing.
    None,
}

impl Push {
    fn fate(&self, head: &Recorded) -> Fate {
        match (head.kind, self.displaced) {
            (Kind::Object, Displaced::Kept(version)) => Fate::Kept(version),
            (Kind::Object, _) => Fate::Dropped,
            // A marker counts as one of those that are kept: a new version `null` drops it as such.
            (Kind::DeleteMarker, _) => match head.record.version() {
                Some(marker) if !(marker.null && self.drops_kept_null) => Fate::Kept(marker),
                _ => Fate::Dropped,
            },
            (Kind::Nothing | Kind::Tombstone, _) => Fate::None,
        }
    }
}

impl Core {
    /// Makes `record` the head of `key`, if `condition` holds in that step.
    pub(super) async fn commit_encoded(
        &self,
        at: Target<'_>,
        versioning: Option<VersioningStatus>,
        mut record: Record,
        data: &Data,
        condition: &WriteCondition,
        versions: Option<&VersionClock>,
    ) -> Result<ObjectInfo, BackendError> {
        let inline = match data {
            Data::Whole(bytes) => bytes.clone(),
            Data::Blobs(blobs) => {
                record.blobs = blobs.iter().filter(|blob| blob.size > 0).cloned().collect();
                Bytes::new()
            }
            Data::Object(_) => return Err(self.not_supported("copying inside the store")),
        };
        let mut versioning = versioning;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await?;
            let head = self.head(at.bucket, at.key).await?;
            versioning = self.versioning_now(at.bucket, head.as_ref(), versioning).await?;
            if let Some(upload) = &record.upload_id {
                self.refuse_second(at, head.as_ref(), upload).await?;
            }
            let stamp = versions.map(VersionClock::stamp).transpose()?;
            let plan = state(head.as_ref(), versioning).write(condition, stamp)?;
            let push = Push {
                version: plan.version,
                displaced: plan.displaced,
                drops_kept_null: plan.drops_kept_null,
                is_conditional: !condition.is_none(),
            };
            // Blobs of its own: another write that displaced it has removed them, should its reply have been lost.
            let careful = versions.is_some() || !condition.is_none() || !record.blobs.is_empty();
            if self
                .push(at, head.as_ref(), push, careful, &mut record, &inline)
                .await?
            {
                let info = record.describe(at.key.clone(), record.modified(), None);
                let info =
                    info.ok_or_else(|| BackendError::internal("an object's record is damaged", "its tag is none"))?;
                return Ok(ObjectInfo {
                    version_id: push.version.map(Version::id),
                    ..info
                });
            }
        }
        Err(BackendError::Conflict)
    }

    /// The bucket's versioning as it is known; where what lies under a key proves that too old, and where a version
    /// would be replaced by it, as it is now. To be asked behind the head: who has changed it since has changed that too,
    /// or has nothing there to lose.
    async fn versioning_now(
        &self,
        bucket: &BucketName,
        head: Option<&Recorded>,
        known: Option<VersioningStatus>,
    ) -> Result<Option<VersioningStatus>, BackendError> {
        let is_too_old = known.is_none() && head.is_some_and(|head| head.record.version().is_some());
        let replaces = known == Some(VersioningStatus::Suspended) && self.level >= Level::CompareAndSet;
        if is_too_old || replaces {
            return Ok(self.bucket(bucket).await?.info.versioning);
        }
        Ok(known)
    }

    /// What the write of a head that was read so depends on, where the store can judge that.
    fn if_still(&self, head: Option<&Recorded>) -> Result<Precondition, BackendError> {
        match head {
            _ if self.level < Level::CompareAndSet => Ok(Precondition::None),
            Some(head) => self.replacing(head.token.clone()),
            None => Ok(Precondition::Absent),
        }
    }

    /// Puts `record` on top. `careful`: only as long as the head is what was read; `false` says that it is not.
    async fn push(
        &self,
        at: Target<'_>,
        head: Option<&Recorded>,
        push: Push,
        careful: bool,
        record: &mut Record,
        inline: &Bytes,
    ) -> Result<bool, BackendError> {
        let before = head.and_then(Recorded::keeping);
        let fate = head.map_or(Fate::None, |head| push.fate(head));
        let dropped_null = before.and_then(Keeping::null).filter(|_| push.drops_kept_null);
        let dropped = head.filter(|_| fate == Fate::Dropped);
        record.version = push.version.map(StoredVersion::from);
        record.keeping = None;
        if push.version.is_some() || head.is_some_and(|head| before.is_some() || head.record.version().is_some()) {
            let mut next = Keeping::after(before, self.nonce()?);
            if let Some(null) = dropped_null {
                next.set_null(None);
                next.add_gone(null);
                next.begin_epoch();
            }
            if let Some(gone) = dropped.and_then(in_history) {
                next.add_gone(gone);
            }
            if let (Some(head), Fate::Kept(version)) = (head, fate) {
                self.keep(at, head, version).await?;
                next.set_newest(Some(version.stamp));
                if version.null {
                    next.set_null(Some(version.stamp));
                }
            }
            self.bury_again(at, before).await?;
            record.keeping = Some(next);
        }
        let precondition = if careful {
            self.if_still(head)?
        } else {
            Precondition::None
        };
        record.modified = Some(self.clock.now().unix_nanos());
        if let Some(head) = dropped {
            self.forget_upload(at, &head.record).await?;
        }
        // Data of its own: another write that displaced it has removed them, and it must not come again.
        let only_once = push.is_conditional || !record.blobs.is_empty();
        let newness = Newness::New { only_once };
        if !self.write_head(at, record, inline, &precondition, newness).await? {
            return Ok(false);
        }
        if let Some(null) = dropped_null {
            self.drop_null(at, null).await;
        }
        if let Some(head) = dropped {
            self.clear(at, head).await;
        }
        Ok(true)
    }

    /// Writes a head; `false` says that what `precondition` names is there no more.
    async fn write_head(
        &self,
        at: Target<'_>,
        record: &Record,
        inline: &[u8],
        precondition: &Precondition,
        newness: Newness,
    ) -> Result<bool, BackendError> {
        let place = self.place(at.bucket, at.key)?;
        let object = record.to_object(inline);
        let mut attempts = self.store.attempts("write");
        // Whether an attempt before may have taken effect, and its reply was lost.
        let mut unclear = false;
        loop {
            let Err((error, passing)) = self.store.write_once(&place, object.clone(), precondition).await else {
                return Ok(true);
            };
            let is_refused = matches!(
                error,
                StoreError::ConditionFailed | StoreError::Failed(BackendError::Conflict)
            );
            if is_refused && !unclear {
                return Ok(false);
            }
            match self.took_effect(at, record, newness).await {
                Ok(true) => return Ok(true),
                Ok(false) if is_refused && newness == (Newness::New { only_once: true }) => return Err(unknown()),
                Ok(false) if is_refused => return Ok(false),
                Err(error) if is_refused => return Err(error),
                _ => {}
            }
            if !passing || !attempts.another(&self.store, place.as_str(), &error).await {
                return Err(error.into());
            }
            unclear = true;
        }
    }

    /// Whether the write of `record` is there, or was.
    async fn took_effect(&self, at: Target<'_>, record: &Record, newness: Newness) -> Result<bool, BackendError> {
        let turn = |record: &Record| record.keeping.as_ref().map(|keeping| keeping.turn.clone());
        if let Some(head) = self.head(at.bucket, at.key).await?
            && head.record.nonce == record.nonce
            && turn(&head.record) == turn(record)
        {
            return Ok(true);
        }
        // Displaced since, and deleted perhaps.
        let is_new = matches!(newness, Newness::New { .. });
        let Some(version) = record.version().filter(|version| is_new && !version.null) else {
            return Ok(false);
        };
        let place = StoreKey::history(at.bucket, at.key, version.stamp);
        let found = self.recorded(place, at.key).await?;
        Ok(found.is_some_and(|found| found.kind == Kind::Tombstone || found.record.nonce == record.nonce))
    }

    /// Before a version goes that an upload has made: what is left of that must not make it again, without its data.
    async fn forget_upload(&self, at: Target<'_>, record: &Record) -> Result<(), BackendError> {
        let id = record.upload_id.clone().and_then(|id| UploadId::parse(id).ok());
        if let Some(id) = id {
            let place = StoreKey::upload(at.bucket, &id);
            self.store.delete(&place, &Precondition::None).await?;
        }
        Ok(())
    }

    /// Removes what has been the head and is not kept. What fails is left to the next write, and to the sweeper: `false`
    /// says that the head has to stay for that.
    async fn clear(&self, at: Target<'_>, head: &Recorded) -> bool {
        if let Some(gone) = in_history(head)
            && let Err(error) = self.bury(at, gone).await
        {
            tracing::warn!(%error, "a version that is gone is left to the next write of its key");
            return false;
        }
        self.drop_data(&head.record).await;
        true
    }
}

/// Under which stamp the history may hold what is the head, or may come to when somebody is late with it. A version
/// `null` that somebody is late with is dead as it is: no head names its stamp.
fn in_history(head: &Recorded) -> Option<Stamp> {
    let promoted = head.keeping().is_some_and(|keeping| keeping.promoted);
    let version = head.version().filter(|version| promoted || !version.null);
    version.map(|version| version.stamp)
}

/// Who lost several times waits for chance to part it from the others.
async fn pause(attempt: usize) -> Result<(), BackendError> {
    if attempt < 3 {
        return Ok(());
    }
    let random = getrandom::u64().map_err(|error| BackendError::internal("no randomness for a pause", error))?;
    let most = 10_u64 << attempt.min(6);
    tokio::time::sleep(Duration::from_millis(random % most)).await;
    Ok(())
}
