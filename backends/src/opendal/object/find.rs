//! Finding an object: where it lies, and what is there.

use bytes::Bytes;

use super::{Current, MAX_OBJECT_BYTES};
use crate::{
    BackendError, BucketName, ETag, Key, ObjectAttributes, ObjectInfo, ObjectRef, OpenObject, Stamp, Timestamp,
    VersionId,
    opendal::{
        Core, StoreLayout,
        head::Recorded,
        history::Target,
        key::{MAX_NAME_BYTES, Named, StoreKey},
        read::StoredReader,
        record::{Kind, MAX_HEADER_BYTES, METADATA, Record},
        store::Meta,
    },
    stored::Rest,
};

impl Core {
    /// Where the object `key` lies. [`BackendError::UnsupportedKey`] where that cannot be.
    pub(in crate::opendal) fn place(&self, bucket: &BucketName, key: &Key) -> Result<StoreKey, BackendError> {
        let place = self.layout.object(bucket, key)?;
        if self.store.root_bytes() + place.as_str().len() > MAX_NAME_BYTES {
            return Err(BackendError::UnsupportedKey(
                "the store's root, the bucket's name and the key together are longer than the store holds",
            ));
        }
        if !self.store.takes_segments_of(&place) {
            return Err(BackendError::UnsupportedKey(
                "with the store's root and the bucket it has more segments, between slashes, than the store takes",
            ));
        }
        Ok(place)
    }

    /// The object under a key, with all that is known of it.
    pub(in crate::opendal) async fn current(
        &self,
        bucket: &BucketName,
        key: &Key,
    ) -> Result<Option<Current>, BackendError> {
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
    pub(in crate::opendal) async fn plain(
        &self,
        place: StoreKey,
        key: Key,
        meta: Meta,
    ) -> Result<Current, BackendError> {
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

    pub(in crate::opendal) async fn side(&self, nonce: Stamp) -> Result<Option<Record>, BackendError> {
        let of = |bytes: &Bytes| Record::of_side(bytes);
        let read = self.store.read_as(&StoreKey::side(nonce), MAX_HEADER_BYTES, of).await?;
        Ok(read.and_then(|(record, _)| record))
    }

    /// The key of an object whose name in the store has not all of it.
    pub(in crate::opendal) async fn cut_key(
        &self,
        bucket: &BucketName,
        name: &str,
    ) -> Result<Option<String>, BackendError> {
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

    pub(in crate::opendal) async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
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
}

/// Stores tell it in seconds in some answers and in fractions in others.
pub(in crate::opendal) fn last_modified(meta: &Meta) -> Timestamp {
    meta.last_modified.map_or(Timestamp::from_unix_nanos(0), seconds)
}

pub(super) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_unix(time.unix_seconds(), 0)
}

/// An object that something else wrote, as the store tells it.
pub(in crate::opendal) fn foreign(key: Key, last_modified: Timestamp, meta: &Meta) -> ObjectInfo {
    let rest = Rest::default();
    let mut user_metadata: Vec<(Box<str>, Box<str>)> = meta
        .user
        .iter()
        .filter(|(name, _)| name.as_str() != METADATA)
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
