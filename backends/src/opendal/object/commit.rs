//! The step that makes a new object, and knowing it again where the reply was lost.

use super::{Current, Data, find::seconds};
use crate::{
    BackendError, BucketName, CurrentVersion, Key, KeyState, ObjectInfo, Stamp, VersionClock, VersionId,
    WriteCondition,
    opendal::{
        ATTEMPTS, Core, Level, StoreLayout,
        answer::heard,
        blob::{self, Blob},
        bucket::Bucket,
        budget::Reserved,
        history::Target,
        key::StoreKey,
        record::{NewObject, Record},
        store::{Dress, Piece, Precondition, StoreError},
        store_versions::Stated,
    },
};

/// How often what takes the store's time to make is made anew, for another was faster.
const JOIN_ATTEMPTS: usize = 8;

impl Core {
    /// Makes `new` the object under `key`, in one step of the store's, if `condition` holds in that step: what is there
    /// is read and judged, and replaced only as long as it is that; else once more. To be called where nothing drops
    /// it.
    #[expect(clippy::too_many_arguments, reason = "what a request says, and what was made of it")]
    pub(in crate::opendal) async fn commit(
        &self,
        bucket: &Bucket,
        key: &Key,
        new: NewObject,
        data: Data,
        condition: &WriteCondition,
        versions: Option<&VersionClock>,
        long: bool,
    ) -> Result<ObjectInfo, BackendError> {
        let name = &bucket.info.bucket;
        let place = self.place(name, key)?;
        // Before the locks: those who wait for them may hold what this would wait for.
        let _reserved = match self.layout {
            StoreLayout::Encoded => None,
            StoreLayout::Transparent => self.reserve_joining(&data).await?,
        };
        let _bucket = self.locks.in_bucket(name).await?;
        let _key = self.locks.key(name, key).await?;
        let versioning = self.confirm_bucket(bucket, long).await?;
        let record = Record::new(name, key, &new);
        match self.layout {
            StoreLayout::Encoded => {
                let target = Target { bucket: name, key };
                self.commit_encoded(target, versioning, record, &data, condition, versions)
                    .await
            }
            StoreLayout::Transparent => {
                self.judge_kept(versioning)?;
                let side = self.write_side(&record, new.nonce).await?;
                let committed = self.replace(name, key, &place, &record, &new, &data, condition).await;
                if side && !keeps_data(&committed) {
                    self.drop_side(new.nonce).await;
                }
                committed
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the step of `commit`, cut off from it")]
    async fn replace(
        &self,
        name: &BucketName,
        key: &Key,
        place: &StoreKey,
        record: &Record,
        new: &NewObject,
        data: &Data,
        condition: &WriteCondition,
    ) -> Result<ObjectInfo, BackendError> {
        let mut refused_absent = 0;
        let mut written = None;
        // Another gateway may have been asked for the same: then what it made, and what came behind that, has to stay.
        let upload = new.upload_id.as_ref().filter(|_| self.level >= Level::CompareAndSet);
        let is_free = condition.is_none() && upload.is_none();
        let attempts = match data {
            Data::Whole(_) => ATTEMPTS,
            Data::Object(_) | Data::Blobs(_) => JOIN_ATTEMPTS,
        };
        for _ in 0..attempts {
            // Without a condition nothing depends on what is there.
            let current = if is_free { None } else { self.current(name, key).await? };
            if let Some(upload) = upload {
                self.refuse_made(name, upload, current.as_ref()).await?;
            }
            match &current {
                // Nothing is lost by it.
                _ if self.is_native() => condition.judge(current.as_ref().map(|current| &current.info.etag))?,
                _ => state(current.as_ref()).write(condition, None).map(drop)?,
            }
            let precondition = match &current {
                _ if is_free => Precondition::None,
                Some(current) => self.replacing(current.token.clone())?,
                None if self.level < Level::CompareAndSet => Precondition::None,
                None => Precondition::Absent,
            };
            let (outcome, answer) = heard(self.write_plain(place, record, new, data, &precondition)).await;
            let found = match outcome {
                Ok(version) => {
                    written = version;
                    let settled = self.settle_written(name, key, record, written.as_ref()).await;
                    settled.unwrap_or_default()
                }
                // The reply may have been lost, and a second attempt met the first.
                Err(StoreError::ConditionFailed) => match self.settle(name, key, record, answer.repeated).await? {
                    Some(found) => Some(found),
                    // Versions of the store would have told.
                    None if answer.repeated && !condition.is_none() && !self.is_native() => return Err(unknown()),
                    // It would be refused for that again and again.
                    None if self.has_lost_its_source(data).await? => {
                        return Err(BackendError::Conflict);
                    }
                    None => {
                        refused_absent += usize::from(precondition == Precondition::Absent);
                        continue;
                    }
                },
                Err(error) => match self.settle(name, key, record, true).await {
                    Ok(Some(found)) => Some(found),
                    Ok(None) => {
                        // Whoever was faster has removed the parts.
                        if let (StoreError::NotFound, Some(upload)) = (&error, upload) {
                            let current = self.current(name, key).await?;
                            self.refuse_made(name, upload, current.as_ref()).await?;
                        }
                        return Err(error.into());
                    }
                    // It may be there: what it consists of has to stay.
                    Err(unknown) => {
                        tracing::warn!(%place, %unknown, "whether an object was written is unknown");
                        return match error.into() {
                            error @ (BackendError::Internal { .. } | BackendError::Busy { .. }) => Err(error),
                            error => Err(BackendError::internal(
                                "the store failed amid a write, and its outcome is unknown",
                                error,
                            )),
                        };
                    }
                },
            };
            if let Some(displaced) = current.and_then(|current| current.record).filter(|_| !self.is_native()) {
                self.drop_data(&displaced).await;
            }
            // Where another writer was here since, nobody will ask for this object's time again.
            let modified = found
                .as_ref()
                .map_or_else(|| seconds(self.clock.now()), |found| found.info.last_modified);
            let version_id = found.and_then(|found| found.version).or(written);
            let info = record.describe(key.clone(), modified, None);
            let info =
                info.ok_or_else(|| BackendError::internal("an object's record is damaged", "its tag is none"))?;
            return Ok(ObjectInfo {
                version_id: self.is_native().then(|| version_id.unwrap_or_else(VersionId::null)),
                ..info
            });
        }
        // SeaweedFS takes a directory for an object there.
        if refused_absent == attempts {
            return Err(self.not_supported("A conditional write to a name that the store takes for a directory"));
        }
        Err(BackendError::Conflict)
    }

    /// Whether what is copied has been replaced since it was looked at.
    async fn has_lost_its_source(&self, data: &Data) -> Result<bool, BackendError> {
        let Data::Object(piece) = data else {
            return Ok(false);
        };
        if piece.token.is_none() || piece.version.is_some() {
            return Ok(false);
        }
        let there = self.store.stat(&piece.key).await?;
        Ok(there.is_none_or(|there| there.token != piece.token))
    }

    /// The version that the write of `record` has made, by its id where the store has told it: another writer may have
    /// come since.
    async fn settle_written(
        &self,
        bucket: &BucketName,
        key: &Key,
        record: &Record,
        id: Option<&VersionId>,
    ) -> Result<Option<Current>, BackendError> {
        if let Some(id) = id.filter(|_| self.is_native()) {
            let place = self.place(bucket, key)?;
            if let Stated::Object(meta) = self.store.stat_version(&place, Some(id)).await? {
                return self.plain(place, key.clone(), *meta).await.map(Some);
            }
        }
        self.settle(bucket, key, record, false).await
    }

    /// What is there, if the write of `record` put it there. `beneath`: it may also be a version of the store's own on
    /// which another writer has put another.
    async fn settle(
        &self,
        bucket: &BucketName,
        key: &Key,
        record: &Record,
        beneath: bool,
    ) -> Result<Option<Current>, BackendError> {
        if beneath && self.is_native() {
            return self.settle_version(bucket, key, record).await;
        }
        let current = self.current(bucket, key).await?;
        Ok(current.filter(|current| current.record.as_ref().is_some_and(|found| found.nonce == record.nonce)))
    }

    async fn write_plain(
        &self,
        place: &StoreKey,
        record: &Record,
        new: &NewObject,
        data: &Data,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        let dress = Dress::new(&new.attributes, record.to_metadata().0);
        match data {
            Data::Whole(bytes) => self.store.write(place, bytes.clone(), dress, precondition).await,
            Data::Object(piece) => {
                let pieces = std::slice::from_ref(piece);
                match self
                    .join(place, pieces, self.store.joins_inside(), dress.clone(), precondition)
                    .await
                {
                    // Some stores do not find a source whose name has to be escaped.
                    Err(StoreError::NotFound) => match self.join(place, pieces, false, dress, precondition).await {
                        Err(StoreError::NotFound) => Err(BackendError::Conflict.into()),
                        outcome => outcome,
                    },
                    outcome => outcome,
                }
            }
            Data::Blobs(blobs) => {
                let pieces: Vec<Piece> = blobs.iter().flat_map(Blob::pieces).collect();
                let inside = self.store.joins_inside();
                self.join(place, &pieces, inside, dress, precondition).await
            }
        }
    }

    async fn join(
        &self,
        place: &StoreKey,
        pieces: &[Piece],
        inside: bool,
        dress: Dress,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        // What is joined otherwise than was thought takes more.
        let _reserved = match inside == self.store.joins_inside() {
            true => None,
            false => Some(self.budget.take(self.store.joining_bytes(pieces, inside)).await?),
        };
        self.store.join(place, pieces, inside, dress, precondition).await
    }

    /// What [`join`](Self::join) needs, where there is something to join.
    async fn reserve_joining(&self, data: &Data) -> Result<Option<Reserved>, BackendError> {
        let inside = self.store.joins_inside();
        let bytes = match data {
            Data::Whole(_) => return Ok(None),
            Data::Object(piece) => self.store.joining_bytes(std::slice::from_ref(piece), inside),
            Data::Blobs(blobs) => {
                let pieces: Vec<Piece> = blobs.iter().flat_map(Blob::pieces).collect();
                self.store.joining_bytes(&pieces, inside)
            }
        };
        self.budget.take(bytes).await.map(Some)
    }

    /// Before the object that it belongs to. Says whether there is any.
    async fn write_side(&self, record: &Record, nonce: Stamp) -> Result<bool, BackendError> {
        let Some(side) = record.to_metadata().1 else {
            return Ok(false);
        };
        let key = StoreKey::side(nonce);
        self.store
            .write(&key, side, Dress::default(), &Precondition::None)
            .await?;
        Ok(true)
    }

    async fn drop_side(&self, nonce: Stamp) {
        if let Err(error) = self.store.delete(&StoreKey::side(nonce), &Precondition::None).await {
            tracing::warn!(%nonce, ?error, "a side object is left to the sweeper");
        }
    }

    /// Removes what an object, which is there no more, consisted of beside itself.
    pub(in crate::opendal) async fn drop_data(&self, record: &Record) {
        blob::remove_each(&self.store, &record.blobs).await;
        if let Some(nonce) = record.nonce().filter(|_| record.has_side) {
            self.drop_side(nonce).await;
        }
    }
}

/// A request was sent again, and what it asked for may have been there between the two.
pub(in crate::opendal) fn unknown() -> BackendError {
    BackendError::internal(
        "the outcome of a write to the store is unknown",
        "its reply was lost, and another write came behind it",
    )
}

/// Whether the object may be there: then its data stay, and if it is not, the sweeper finds them.
pub(super) fn keeps_data(written: &Result<ObjectInfo, BackendError>) -> bool {
    matches!(
        written,
        Ok(_) | Err(BackendError::Internal { .. } | BackendError::Busy { .. })
    )
}

/// What the decision on a commit in the transparent layout asks, where nothing has versions.
pub(super) fn state(current: Option<&Current>) -> KeyState<'_> {
    KeyState {
        versioning: None,
        current: current.map(|current| CurrentVersion {
            etag: &current.info.etag,
            version: None,
            stamp: Stamp::new(current.info.last_modified, 0),
        }),
        newest_kept: None,
        keeps_null: false,
    }
}
