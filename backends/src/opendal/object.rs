//! Objects: what a PUT and a copy make of them, finding them, and the one step that replaces one.

mod commit;
mod delete;
mod find;

use bytes::Bytes;

use self::commit::keeps_data;
pub(super) use self::commit::unknown;
pub(super) use self::find::{foreign, last_modified};
use super::{
    Core, Level, StoreLayout,
    blob::{self, Blob, NewBlob},
    budget::Reserved,
    key::StoreKey,
    record::{MAX_HEADER_BYTES, NewObject, Owner, Record},
    store::{Piece, Token},
};
use crate::{
    BackendError, BodySummary, CopyObject, ETag, ObjectAttributes, ObjectBody, ObjectInfo, PutObject, Stamp, VersionId,
    WriteCondition,
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

    /// What the store cannot judge is refused. What would be lost is judged under the key's lock, as of a delete.
    pub(super) fn judge_support(&self, condition: &WriteCondition) -> Result<(), BackendError> {
        if !condition.is_of_object() || self.level >= Level::CompareAndSet {
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
