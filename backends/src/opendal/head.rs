//! What lies under a key's name in the encoded layout: its head.
//!
//! The head is the current object, or where the newest version is a delete marker, that; and it says which versions
//! are kept beside. Whatever becomes of a key's versions is one write of its head.

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::{
    Core, StoreLayout,
    key::{Named, StoreKey},
    object::{Current, MAX_OBJECT_BYTES},
    record::{Keeping, Kind, Record},
    store::Token,
};
use crate::{
    BackendError, BucketName, CurrentVersion, Key, KeyState, ObjectInfo, Stamp, Timestamp, Version, VersioningStatus,
};

/// A record of the encoded layout as it was read: a head, or a version in a history.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) place: StoreKey,
    pub(super) record: Record,
    pub(super) kind: Kind,
    pub(super) inline: Bytes,
    /// Of this state of it.
    pub(super) token: Option<Token>,
    /// Of an object, without a version id.
    info: Option<ObjectInfo>,
}

impl Core {
    pub(super) async fn head(&self, bucket: &BucketName, key: &Key) -> Result<Option<Recorded>, BackendError> {
        match self.place(bucket, key) {
            // What cannot be there is not there.
            Err(BackendError::UnsupportedKey(_)) => Ok(None),
            place => self.recorded(place?, key).await,
        }
    }

    /// What lies at `place`, if it is of `key`: some stores fold names, and two keys may share a hash.
    pub(super) async fn recorded(&self, place: StoreKey, key: &Key) -> Result<Option<Recorded>, BackendError> {
        // Where a write is under way there may be a header of one object, and bytes of another as long.
        let judges_bytes = self.store.shows_half_written();
        let known = |bytes: &Bytes| {
            let (record, inline) = Record::of_object(bytes)?;
            let kind = record.kind()?;
            let info = match kind {
                Kind::Object => Some(record.describe(key.clone(), record.modified(), None)?),
                Kind::DeleteMarker | Kind::Nothing | Kind::Tombstone => None,
            };
            let is_whole =
                !judges_bytes || !record.blobs.is_empty() || info.as_ref().is_none_or(|info| is_of(&inline, info));
            is_whole.then_some((record, inline, kind, info))
        };
        let Some((known, token)) = self.store.read_as(&place, MAX_OBJECT_BYTES, known).await? else {
            return Ok(None);
        };
        let (record, inline, kind, info) = known.ok_or_else(|| {
            BackendError::internal(
                "an object's header is damaged, or of a later version",
                place.to_string(),
            )
        })?;
        Ok((record.key.as_deref() == Some(key.as_str())).then_some(Recorded {
            place,
            record,
            kind,
            inline,
            token,
            info,
        }))
    }

    /// Whether what is called `name` in the bucket's directory is the head of a key that has nothing any more.
    pub(super) async fn is_left_over(&self, bucket: &BucketName, name: &str) -> Result<bool, BackendError> {
        let place = match self.layout.key(name) {
            None => return Ok(false),
            Some(Named::Key(key)) => StoreLayout::Encoded.object(bucket, &key)?,
            Some(Named::Cut) => StoreKey::cut(bucket, name),
        };
        let read = self.store.read_as(&place, MAX_OBJECT_BYTES, Record::of_object).await?;
        let Some((found, _)) = read else {
            // Deleted meanwhile.
            return Ok(true);
        };
        let record = found.map(|(record, _)| record);
        Ok(record.is_some_and(|record| record.kind() == Some(Kind::Nothing)))
    }
}

impl Recorded {
    pub(super) fn keeping(&self) -> Option<&Keeping> {
        self.record.keeping.as_ref()
    }

    /// What decisions ask of a head.
    pub(super) fn state(&self, versioning: Option<VersioningStatus>) -> KeyState<'_> {
        let keeping = self.keeping();
        let marker = self.record.version().filter(|_| self.kind == Kind::DeleteMarker);
        KeyState {
            versioning,
            current: self.info.as_ref().map(|info| CurrentVersion {
                etag: &info.etag,
                version: self.record.version(),
                stamp: self.record.nonce().unwrap_or(Stamp::new(info.last_modified, 0)),
            }),
            newest_kept: marker
                .map(|marker| marker.stamp)
                .or_else(|| keeping.and_then(Keeping::newest)),
            keeps_null: marker.is_some_and(|marker| marker.null)
                || keeping.is_some_and(|keeping| keeping.null().is_some()),
        }
    }

    /// Which version a head is. `None` where its key has nothing.
    pub(super) fn version(&self) -> Option<Version> {
        match self.kind {
            Kind::Object => self.state(None).current_version(),
            Kind::DeleteMarker => self.record.version(),
            Kind::Nothing | Kind::Tombstone => None,
        }
    }

    /// When it was written.
    pub(super) fn modified(&self) -> Timestamp {
        self.record.modified()
    }

    /// Of an object which is this version.
    pub(super) fn info(&self, version: Option<Version>) -> Option<ObjectInfo> {
        Some(ObjectInfo {
            version_id: version.map(Version::id),
            ..self.info.clone()?
        })
    }

    /// The object as a reader wants it.
    pub(super) fn into_current(self, version: Option<Version>) -> Option<Current> {
        let info = self.info(version)?;
        Some(Current {
            place: self.place,
            info,
            token: self.token,
            version: None,
            record: Some(self.record),
            inline: self.inline,
        })
    }
}

/// Whether the bytes are those that the tag is of. One that is no MD5 is believed.
fn is_of(bytes: &Bytes, info: &ObjectInfo) -> bool {
    info.etag.as_md5().is_none_or(|md5| md5[..] == Md5::digest(bytes)[..])
}

/// What decisions ask where a key may have no head.
pub(super) fn state(head: Option<&Recorded>, versioning: Option<VersioningStatus>) -> KeyState<'_> {
    let nothing = KeyState {
        versioning,
        ..KeyState::default()
    };
    head.map_or(nothing, |head| head.state(versioning))
}
