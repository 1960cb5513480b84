//! Objects: what is there, and the one step that replaces it.

use bytes::Bytes;

use super::{
    Core, Level, StoreLayout,
    answer::heard,
    blob::{self, Blob, NewBlob},
    bucket::Bucket,
    budget::Reserved,
    head::Recorded,
    history::Target,
    key::{MAX_NAME_BYTES, Named, StoreKey},
    read::StoredReader,
    record::{Kind, MAX_HEADER_BYTES, NewObject, Owner, Record},
    store::{Dress, Meta, Piece, Precondition, StoreError, Token},
    store_versions::Stated,
};
use crate::{
    BackendError, BodySummary, BucketName, CopyObject, CurrentVersion, DeleteObject, DeleteObjectOutcome, DeletePlan,
    ETag, Key, KeyState, ObjectAttributes, ObjectBody, ObjectInfo, ObjectRef, OpenObject, PutObject, Stamp, Timestamp,
    VersionClock, VersionId, WriteCondition, stored::Rest,
};

/// In the encoded layout bodies up to so many bytes lie behind the object's header.
const MAX_INLINE_BYTES: u64 = 64 << 10;
/// The most that is read of an object of the encoded layout.
pub(super) const MAX_OBJECT_BYTES: u64 = MAX_HEADER_BYTES + MAX_INLINE_BYTES;

/// The object that is under a key.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) place: StoreKey,
    pub(super) info: ObjectInfo,
    /// Of this state of it.
    pub(super) token: Option<Token>,
    /// Which of the store's own versions it is, where those are used.
    pub(super) version: Option<VersionId>,
    /// `None` where something else wrote it.
    pub(super) record: Option<Record>,
    /// Of the encoded layout, where no blobs hold them.
    pub(super) inline: Bytes,
}

/// The bytes of a new object.
#[derive(Debug)]
pub(super) enum Data {
    Whole(Bytes),
    /// One after the other.
    Blobs(Vec<Blob>),
    /// Those of another object of the store.
    Object(Piece),
}

/// The bytes of a new object, held until it is there.
#[derive(Debug)]
enum Received {
    Whole(Bytes, Reserved),
    Blob(NewBlob),
}

impl Core {
    // ---- what is there

    /// Where the object `key` lies. [`BackendError::UnsupportedKey`] where that cannot be.
    pub(super) fn place(&self, bucket: &BucketName, key: &Key) -> Result<StoreKey, BackendError> {
        let place = self.layout.object(bucket, key)?;
        if self.store.root_bytes() + place.as_str().len() > MAX_NAME_BYTES {
            return Err(BackendError::UnsupportedKey(
                "the store's root, the bucket's name and the key together are longer than the store holds",
            ));
        }
        Ok(place)
    }

    /// The object under a key, with all that is known of it.
    pub(super) async fn current(&self, bucket: &BucketName, key: &Key) -> Result<Option<Current>, BackendError> {
        // What cannot be there is not there.
        let place = match self.place(bucket, key) {
            Err(BackendError::UnsupportedKey(_)) => return Ok(None),
            place => place?,
        };
        match self.layout {
            StoreLayout::Transparent => {
                let mut alone = None;
                loop {
                    let Some(meta) = self.store.stat(&place).await? else {
                        return Ok(None);
                    };
                    let record = Record::of_metadata(&meta);
                    let side = self.side_of(record.as_ref()).await?;
                    let aside = record.as_ref().filter(|record| record.rest.is_none());
                    // Its side object goes after it: it was replaced since, unless it is as before.
                    if let Some(record) = aside.filter(|_| side.is_none())
                        && alone.as_ref() != Some(&record.nonce)
                    {
                        alone = Some(record.nonce.clone());
                        continue;
                    }
                    return Ok(Some(self.with_side(place, key.clone(), meta, record, side)));
                }
            }
            StoreLayout::Encoded => {
                let head = self.head(bucket, key).await?;
                Ok(head.and_then(|head| head.into_current(None)))
            }
        }
    }

    /// An object of the transparent layout, or a version of one.
    pub(super) async fn plain(&self, place: StoreKey, key: Key, meta: Meta) -> Result<Current, BackendError> {
        let record = Record::of_metadata(&meta);
        let side = self.side_of(record.as_ref()).await?;
        Ok(self.with_side(place, key, meta, record, side))
    }

    /// Of a record that has its attributes in a side object, that.
    async fn side_of(&self, record: Option<&Record>) -> Result<Option<Record>, BackendError> {
        let aside = record.filter(|record| record.rest.is_none());
        match aside.and_then(Record::nonce) {
            Some(nonce) => self.side(nonce).await,
            None => Ok(None),
        }
    }

    /// One whose side object is gone was renamed or copied by something else, and has lost its attributes: it is as what
    /// that wrote.
    fn with_side(
        &self,
        place: StoreKey,
        key: Key,
        meta: Meta,
        record: Option<Record>,
        side: Option<Record>,
    ) -> Current {
        let modified = last_modified(&meta);
        let rest = side.and_then(|side| side.rest);
        let record = record.filter(|record| record.rest.is_some() || rest.is_some());
        let info = record
            .as_ref()
            .and_then(|record| record.describe(key.clone(), modified, rest));
        let record = record.filter(|_| info.is_some());
        let mut info = info.unwrap_or_else(|| foreign(key, modified, &meta));
        // What the store does not name is the version `null`.
        let version = self.is_native().then(|| meta.version.unwrap_or_else(VersionId::null));
        info.version_id.clone_from(&version);
        Current {
            place,
            info,
            token: meta.token,
            version,
            record,
            inline: Bytes::new(),
        }
    }

    pub(super) async fn side(&self, nonce: Stamp) -> Result<Option<Record>, BackendError> {
        let of = |bytes: &Bytes| Record::of_side(bytes);
        let read = self.store.read_as(&StoreKey::side(nonce), MAX_HEADER_BYTES, of).await?;
        Ok(read.and_then(|(record, _)| record))
    }

    /// The key of an object whose name in the store has not all of it.
    pub(super) async fn cut_key(&self, bucket: &BucketName, name: &str) -> Result<Option<String>, BackendError> {
        let Some(Named::Cut) = self.layout.key(name) else {
            return Ok(None);
        };
        let place = StoreKey::cut(bucket, name);
        let read = self.store.read_as(&place, MAX_OBJECT_BYTES, Record::of_object).await?;
        let record = read.and_then(|(found, _)| found).map(|(record, _)| record);
        // A copy that something else has made under another name is none.
        let key = record.and_then(|record| record.key).filter(|key| {
            let key = Key::parse(key.clone()).ok();
            key.and_then(|key| self.layout.object(bucket, &key).ok()).as_ref() == Some(&place)
        });
        Ok(key.map(String::from))
    }

    pub(super) async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        let current = match self.layout {
            StoreLayout::Transparent if self.is_native() => self.find_native(object).await,
            StoreLayout::Transparent => self.find_plain(object).await,
            StoreLayout::Encoded => self.find_encoded(object).await,
        }?;
        Ok(OpenObject {
            info: current.info.clone(),
            reader: Box::new(StoredReader::new(self.clone(), current)),
        })
    }

    /// Where the store keeps no versions, there are none in this layout.
    async fn find_plain(&self, object: &ObjectRef) -> Result<Current, BackendError> {
        let (bucket, current) = futures::join!(self.bucket(&object.bucket), self.current(&object.bucket, &object.key));
        bucket?;
        let missing = match &object.version_id {
            None => BackendError::NoSuchKey,
            Some(id) if id.is_null() => BackendError::NoSuchVersion,
            Some(_) => return Err(BackendError::NoSuchVersion),
        };
        current?.ok_or(missing)
    }

    /// What is there at the moment at which the head is read; of what lies in the history, at the moment at which that
    /// is, if the head says that it is kept.
    async fn find_encoded(&self, object: &ObjectRef) -> Result<Current, BackendError> {
        let at = Target {
            bucket: &object.bucket,
            key: &object.key,
        };
        let (bucket, head) = futures::join!(self.bucket(at.bucket), self.head(at.bucket, at.key));
        let versioning = bucket?.info.versioning;
        let mut head = head?;
        let mut version = head.as_ref().and_then(Recorded::version);
        let found = match &object.version_id {
            None => head.ok_or(BackendError::NoSuchKey)?,
            Some(id) if version.is_some_and(|version| version.id() == *id) => {
                head.take().ok_or(BackendError::NoSuchVersion)?
            }
            Some(id) => {
                let keeping = head.as_ref().and_then(Recorded::keeping);
                let kept = match keeping {
                    Some(keeping) => self.kept(at, keeping, id).await?,
                    None => None,
                };
                let (kept_version, kept) = kept.ok_or(BackendError::NoSuchVersion)?;
                version = Some(kept_version);
                kept
            }
        };
        if let (Kind::DeleteMarker, Some(version)) = (found.kind, version) {
            return Err(BackendError::DeleteMarker {
                version_id: version.id(),
                last_modified: found.modified(),
            });
        }
        let told = version.filter(|_| versioning.is_some() || found.record.version().is_some());
        found.into_current(told).ok_or(BackendError::NoSuchKey)
    }

    // ---- writes

    pub(super) async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        self.judge_support(&request.condition)?;
        // Refused before the body is asked for.
        self.place(&request.bucket, &request.key)?;
        let bucket = self.bucket(&request.bucket).await?;
        let nonce = self.nonce()?;
        let versions = request.versions;
        let long = body.length() > blob::WHOLE_BYTES;
        let owner = Owner {
            bucket: request.bucket.as_str().into(),
            key: request.key.as_str().into(),
            part: None,
        };
        let (received, summary) = self.receive(nonce, &owner, body).await?;
        let new = NewObject {
            nonce,
            size: summary.size,
            etag: ETag::from_md5(summary.md5),
            attributes: ObjectAttributes {
                checksum: Some(summary.checksum),
                ..request.attributes
            },
            parts: Vec::new(),
            upload_id: None,
        };
        let core = self.clone();
        run_to_end(async move {
            let (data, blob, _reserved) = match received {
                Received::Whole(bytes, reserved) => (Data::Whole(bytes), None, Some(reserved)),
                Received::Blob(new) => (Data::Blobs(new.blob().cloned().into_iter().collect()), Some(new), None),
            };
            let written = core
                .commit(
                    &bucket,
                    &request.key,
                    new,
                    data,
                    &request.condition,
                    versions.as_ref(),
                    long,
                )
                .await;
            if let Some(blob) = blob
                && core.layout == StoreLayout::Encoded
                && keeps_data(&written)
            {
                blob.keep();
            }
            written
        })
        .await
    }

    async fn receive(
        &self,
        nonce: Stamp,
        owner: &Owner,
        body: ObjectBody,
    ) -> Result<(Received, BodySummary), BackendError> {
        let whole = match self.layout {
            StoreLayout::Transparent => blob::WHOLE_BYTES,
            StoreLayout::Encoded => MAX_INLINE_BYTES,
        };
        if body.length() <= whole {
            let (bytes, summary, reserved) = blob::collect(body, &self.budget).await?;
            return Ok((Received::Whole(bytes, reserved), summary));
        }
        let (blob, summary) = self.receive_blob(nonce, owner, body).await?;
        Ok((Received::Blob(blob), summary))
    }

    /// A body, laid aside.
    pub(super) async fn receive_blob(
        &self,
        nonce: Stamp,
        owner: &Owner,
        body: ObjectBody,
    ) -> Result<(NewBlob, BodySummary), BackendError> {
        let received = blob::write(&self.store, &self.budget, nonce, owner, body).await?;
        let latest = nonce
            .time()
            .unix_nanos()
            .saturating_add_unsigned(u64::try_from(self.longest_body.as_nanos()).unwrap_or(u64::MAX));
        if self.clock.now().unix_nanos() > latest {
            return Err(BackendError::Busy {
                context: "the body took so long that what came of it first may be swept",
            });
        }
        Ok(received)
    }

    pub(super) async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        if !self.profile.copies {
            return Err(self.not_supported("copying inside the store"));
        }
        self.judge_support(&request.condition)?;
        self.place(&request.bucket, &request.key)?;
        let source = self.open_source(&request).await?;
        let bucket = self.bucket(&request.bucket).await?;
        let new = NewObject {
            nonce: self.nonce()?,
            size: source.info.size,
            etag: source.info.etag.clone(),
            attributes: request.attributes,
            parts: self.parts_of(&source).await?,
            upload_id: None,
        };
        let core = self.clone();
        let named = Some(request.source).filter(|source| self.is_native() && source.version_id.is_some());
        let copied = run_to_end(async move {
            let data = if new.size == 0 {
                Data::Whole(Bytes::new())
            } else {
                Data::Object(Piece {
                    key: source.place,
                    size: new.size,
                    token: source.token,
                    version: source.version,
                })
            };
            core.commit(&bucket, &request.key, new, data, &request.condition, None, true)
                .await
        })
        .await;
        if let (Err(BackendError::Conflict), Some(source)) = (&copied, &named) {
            // It was removed meanwhile.
            self.find_native(source).await?;
        }
        copied
    }

    async fn open_source(&self, request: &CopyObject) -> Result<Current, BackendError> {
        let source = &request.source;
        if self.is_native() {
            let found = self.find_native(source).await?;
            return Some(found)
                .filter(|found| found.info.etag == request.source_etag)
                .ok_or(BackendError::Conflict);
        }
        self.bucket(&source.bucket).await?;
        if source.version_id.as_ref().is_some_and(|id| !id.is_null()) {
            return Err(BackendError::NoSuchVersion);
        }
        let missing = match &source.version_id {
            None => BackendError::NoSuchKey,
            Some(_) => BackendError::NoSuchVersion,
        };
        let current = self.current(&source.bucket, &source.key).await?.ok_or(missing)?;
        if current.info.etag != request.source_etag {
            return Err(BackendError::Conflict);
        }
        Ok(current)
    }

    /// Makes `new` the object under `key`, in one step of the store's, if `condition` holds in that step: what is there
    /// is read and judged, and replaced only as long as it is that; else once more. To be called where nothing drops
    /// it.
    #[expect(clippy::too_many_arguments, reason = "what a request says, and what was made of it")]
    pub(super) async fn commit(
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
        let _bucket = self.locks.in_bucket(name).await;
        let _key = self.locks.key(name, key).await;
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
        for _ in 0..super::ATTEMPTS {
            // Without a condition nothing depends on what is there.
            let current = if condition.is_none() {
                None
            } else {
                self.current(name, key).await?
            };
            match &current {
                // Nothing is lost by it.
                _ if self.is_native() => condition.judge(current.as_ref().map(|current| &current.info.etag))?,
                _ => state(current.as_ref()).write(condition, None).map(drop)?,
            }
            let precondition = match &current {
                _ if condition.is_none() => Precondition::None,
                Some(current) => self.replacing(current.token.clone()),
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
                    None => {
                        refused_absent += usize::from(precondition == Precondition::Absent);
                        continue;
                    }
                },
                Err(error) => match self.settle(name, key, record, true).await {
                    Ok(Some(found)) => Some(found),
                    Ok(None) => return Err(error.into()),
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
        if refused_absent == super::ATTEMPTS {
            return Err(self.not_supported("A conditional write to a name that the store takes for a directory"));
        }
        Err(BackendError::Conflict)
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
        let _reserved = self.budget.take(self.store.joining_bytes(pieces, inside)).await?;
        self.store.join(place, pieces, inside, dress, precondition).await
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
    pub(super) async fn drop_data(&self, record: &Record) {
        blob::remove_each(&self.store, &record.blobs).await;
        if let Some(nonce) = record.nonce().filter(|_| record.has_side) {
            self.drop_side(nonce).await;
        }
    }

    // ---- deletes

    pub(super) async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let core = self.clone();
        run_to_end(async move { core.delete(request).await }).await
    }

    async fn delete(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let bucket = self.bucket(&request.object.bucket).await?;
        if request.condition.if_match.is_some() && !self.judges_deletes() {
            return Err(self.not_supported("A conditional delete"));
        }
        let _bucket = self.locks.in_bucket(&request.object.bucket).await;
        let _key = self.locks.key(&request.object.bucket, &request.object.key).await;
        let versioning = self.confirm_bucket(&bucket, false).await?;
        match self.layout {
            StoreLayout::Encoded => self.delete_encoded(&request, versioning).await,
            StoreLayout::Transparent if self.is_native() => self.delete_native(request).await,
            StoreLayout::Transparent => {
                self.judge_kept(versioning)?;
                self.delete_plain(request).await
            }
        }
    }

    async fn delete_plain(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let DeleteObject { object, condition, .. } = request;
        let unknown = object.version_id.as_ref().is_some_and(|id| !id.is_null());
        for _ in 0..super::ATTEMPTS {
            let current = if unknown {
                None
            } else {
                self.current(&object.bucket, &object.key).await?
            };
            // Nothing is there to mark: the bucket never had versioning.
            let plan = state(current.as_ref()).delete(&condition, None, false)?;
            let (DeletePlan::Remove, Some(current)) = (plan, current) else {
                return Ok(DeleteObjectOutcome::default());
            };
            let precondition = if condition.is_none() || !self.profile.conditional_deletes {
                Precondition::None
            } else {
                self.replacing(current.token.clone())
            };
            match self.store.delete(&current.place, &precondition).await {
                Err(StoreError::ConditionFailed) => {}
                outcome => {
                    outcome?;
                    if let Some(record) = &current.record {
                        self.drop_data(record).await;
                    }
                    return Ok(DeleteObjectOutcome {
                        existed: true,
                        ..DeleteObjectOutcome::default()
                    });
                }
            }
        }
        Err(BackendError::Conflict)
    }

    /// Whether a delete can be conditional. In the encoded layout it can be a write.
    pub(super) fn judges_deletes(&self) -> bool {
        let by_writing = self.layout == StoreLayout::Encoded && self.level >= Level::CompareAndSet;
        by_writing || self.profile.conditional_deletes
    }

    /// What the store cannot judge is refused.
    pub(super) fn judge_support(&self, condition: &WriteCondition) -> Result<(), BackendError> {
        if condition.is_none() || self.level >= Level::CompareAndSet {
            Ok(())
        } else {
            Err(self.not_supported("A conditional write"))
        }
    }
}

/// Does not stop half-way where its caller does.
pub(super) async fn run_to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, BackendError>> + Send + 'static,
) -> Result<T, BackendError> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| BackendError::internal("the task of a write has ended, and its outcome is unknown", error))?
}

/// Whether the object may be there: then its data stay, and if it is not, the sweeper finds them.
fn keeps_data(written: &Result<ObjectInfo, BackendError>) -> bool {
    matches!(
        written,
        Ok(_) | Err(BackendError::Internal { .. } | BackendError::Busy { .. })
    )
}

/// What the decision on a commit in the transparent layout asks, where nothing has versions.
fn state(current: Option<&Current>) -> KeyState<'_> {
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

/// Stores tell it in seconds in some answers and in fractions in others.
pub(super) fn last_modified(meta: &Meta) -> Timestamp {
    meta.last_modified.map_or(Timestamp::from_unix_nanos(0), seconds)
}

fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_unix(time.unix_seconds(), 0)
}

/// An object that something else wrote, as the store tells it.
pub(super) fn foreign(key: Key, last_modified: Timestamp, meta: &Meta) -> ObjectInfo {
    let rest = Rest::default();
    let mut user_metadata: Vec<(Box<str>, Box<str>)> = meta
        .user
        .iter()
        .filter(|(name, _)| name.as_str() != super::record::METADATA)
        .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
        .collect();
    user_metadata.sort();
    ObjectInfo {
        key,
        version_id: None,
        size: meta.size,
        etag: foreign_etag(meta),
        last_modified,
        attributes: ObjectAttributes {
            content: meta.content.clone(),
            user_metadata,
            ..ObjectAttributes::from(rest)
        },
        parts_count: None,
    }
}

/// The store's own tag, where clients can take that; else one of what else it tells.
fn foreign_etag(meta: &Meta) -> ETag {
    let own = meta.etag.as_ref().and_then(|etag| ETag::parse(etag.clone()).ok());
    own.unwrap_or_else(|| {
        let text = format!("t2-{}-{}", meta.size, last_modified(meta).unix_nanos());
        ETag::parse(text).unwrap_or_else(|_| ETag::from_md5([0; 16]))
    })
}
