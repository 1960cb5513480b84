//! Finding and opening objects, and copying them.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{
    BackendError, CopyObject, Key, MAX_PART_NUMBER, ObjectInfo, ObjectRef, OpenObject, Version, VersionId,
    fs::{
        Store,
        attributes::{self, NewObject, Record},
        bucket::Bucket,
        dir::{self, Meta},
        error::Error,
        keeping::Keeping,
        names::{is_of, is_unnameable},
        read::{FsReader, Opened},
        side::Side,
        staging::Staged,
        versions::{Kept, marker_error},
    },
    key_codec::StorageName,
};

/// A file that was found, and where.
struct At {
    file: OwnedFd,
    meta: Meta,
    /// What it is in the history. `None` where it is current.
    kept: Option<Kept>,
}

impl At {
    fn current((file, meta): (OwnedFd, Meta)) -> Self {
        Self { file, meta, kept: None }
    }
}

/// What a key names.
enum Found {
    /// With its version, where that was found out.
    Object(At, Option<Version>),
    /// The newest version is a delete marker.
    Marker(Kept),
    Nothing,
}

/// How to look for what a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Under its names first. What has one may be replaced or deleted by the time that it is open.
    Quick,
    /// Under the lock of the key.
    Locked,
}

impl Found {
    fn into_object(self) -> Result<(At, Option<Version>), Error> {
        match self {
            Self::Object(at, version) => Ok((at, version)),
            Self::Marker(kept) => Err(marker_error(kept)),
            Self::Nothing => Err(BackendError::NoSuchKey.into()),
        }
    }
}

impl Store {
    /// The file that is the object of `key`: the plain name goes before the escape.
    pub(in crate::fs) fn find(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
    ) -> Result<Option<(OwnedFd, Meta)>, Error> {
        Ok(match self.find_current(bucket, bucket_dir, key, Look::Quick)? {
            Found::Object(At { file, meta, .. }, _) => Some((file, meta)),
            Found::Marker(_) | Found::Nothing => None,
        })
    }

    fn find_current(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key, look: Look) -> Result<Found, Error> {
        let name = self.own_name(key.as_str());
        // An interrupted delete leaves the name of what it has deleted, which stays where nothing may be changed.
        let may_be_deleted = bucket.versioning().is_some()
            && self.durable.check_writable().is_err()
            && self.has_history(bucket, &name)?;
        if look == Look::Quick
            && !may_be_deleted
            && let Some(found) = find_once(bucket_dir.as_fd(), &name, self.is_folding())?
            && (!self.is_folding() || is_of(&found.0, key.as_str())?)
        {
            return Ok(Found::Object(At::current(found), None));
        }
        // It may just be moving from one of its names to the other, or from its history to one of them.
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        self.current_locked(bucket, bucket_dir, key)
    }

    /// Under the lock of the key.
    fn current_locked(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key) -> Result<Found, Error> {
        let name = self.name_of(bucket_dir, key.as_str())?;
        if bucket.versioning().is_none() {
            let found = find_once(bucket_dir.as_fd(), &name, self.is_folding())?;
            return Ok(found.map_or(Found::Nothing, |found| Found::Object(At::current(found), None)));
        }
        let versions = self.seen_versions(bucket, bucket_dir.as_fd(), key, &name)?;
        let version = versions.current_version();
        Ok(match (versions.current, versions.newest) {
            (Some(current), _) => Found::Object(At::current((current.file, current.meta)), version),
            (None, Some(marker)) if marker.marker => Found::Marker(marker),
            (None, _) => Found::Nothing,
        })
    }

    /// The file of a version.
    fn find_version(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key, id: &VersionId) -> Result<At, Error> {
        let missing = || Err(BackendError::NoSuchVersion.into());
        if bucket.versioning().is_none() {
            let found = id.is_null().then(|| self.find(bucket, bucket_dir, key)).transpose()?;
            return found.flatten().map(At::current).map_or_else(missing, Ok);
        }
        let stamp = id.stamp();
        if stamp.is_none() && !id.is_null() {
            return missing();
        }
        let name = self.own_name(key.as_str());
        if let Some((file, meta)) = find_once(bucket_dir.as_fd(), &name, self.is_folding())? {
            let recorded = self.recorded(bucket, key, (&file, &meta), None)?;
            let version = recorded.record.and_then(|record| record.version(key));
            if version.is_some_and(|version| version.id() == *id) {
                return Ok(At::current((file, meta)));
            }
        }
        if let Some(stamp) = stamp
            && let Some((kept, file, meta)) = self.kept_file(bucket, &name, Version { stamp, null: false })?
        {
            return if kept.marker {
                Err(marker_error(kept))
            } else {
                let kept = Some(kept);
                Ok(At { file, meta, kept })
            };
        }
        // It may just be moving between the two, or say nothing of its version.
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        self.version_locked(bucket, bucket_dir, key, id)
    }

    /// In a bucket with versioning, under the lock of the key.
    fn version_locked(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key, id: &VersionId) -> Result<At, Error> {
        let missing = || Err(BackendError::NoSuchVersion.into());
        let name = self.name_of(bucket_dir, key.as_str())?;
        let versions = self.seen_versions(bucket, bucket_dir.as_fd(), key, &name)?;
        if versions.current_version().is_some_and(|version| version.id() == *id)
            && let Some(current) = versions.current
        {
            return Ok(At::current((current.file, current.meta)));
        }
        match (versions.kept(id)?, &versions.history) {
            (Some(kept), _) if kept.marker => Err(marker_error(kept)),
            (Some(kept), Some(history)) => {
                let found = history.open_file(kept)?;
                let kept = Some(kept);
                found.map_or_else(missing, |(file, meta)| Ok(At { file, meta, kept }))
            }
            _ => missing(),
        }
    }

    /// What clients call the version that an open object is. `None` where it is not current any more.
    pub(in crate::fs) fn version_id_of(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
        meta: &Meta,
    ) -> Result<Option<VersionId>, Error> {
        if !self.has_history(bucket, &self.own_name(key.as_str()))? {
            // Nothing has displaced it yet, nor anything before it.
            return Ok(Some(VersionId::null()));
        }
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let name = self.name_of(bucket_dir, key.as_str())?;
        let versions = self.seen_versions(bucket, bucket_dir.as_fd(), key, &name)?;
        let is_it = versions
            .current
            .as_ref()
            .is_some_and(|current| current.meta.is_file_of(meta));
        Ok(versions.current_version().filter(|_| is_it).map(|version| version.id()))
    }

    pub(in crate::fs) fn open_object(&self, bucket: &Bucket, object: &ObjectRef) -> Result<OpenObject, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let opened = self.open_with_attributes(bucket, &bucket_dir, object)?;
        let (info, file, side) = opened.into_parts(object.key.clone());
        Ok(OpenObject {
            info,
            reader: Box::new(FsReader::new(file, side)),
        })
    }

    /// The object with all its attributes, of one version.
    pub(in crate::fs) fn open_with_attributes(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        object: &ObjectRef,
    ) -> Result<Opened, Error> {
        /// How often what has side files may be replaced while it is looked at, before that is kept from happening.
        const ATTEMPTS: usize = 4;
        let ObjectRef { key, version_id, .. } = object;
        let mut before = None;
        let mut attempts = 0;
        let mut look = Look::Quick;
        loop {
            let (at, version) = match version_id {
                Some(id) => (self.find_version(bucket, bucket_dir, key, id)?, None),
                None => self.find_current(bucket, bucket_dir, key, look)?.into_object()?,
            };
            let (record, side) = self.load(bucket, key, &at)?;
            match self.attributes.keeping {
                Keeping::Extended => {
                    let lost_side = side.is_none() && record.as_ref().is_some_and(|record| record.side.is_some());
                    // Either the object was replaced since we found it, or the side file is lost for good.
                    if lost_side && before != Some((at.meta.dev, at.meta.ino)) {
                        before = Some((at.meta.dev, at.meta.ino));
                        continue;
                    }
                }
                Keeping::SideFiles if attempts == ATTEMPTS => {
                    return self.open_object_locked(bucket, bucket_dir, object);
                }
                Keeping::SideFiles if !self.is_still(bucket, bucket_dir, key, &at)? => {
                    attempts += 1;
                    continue;
                }
                Keeping::SideFiles => {}
            }
            let known = version.or_else(|| record.as_ref()?.version(key));
            let version_id = match (bucket.versioning(), version_id, known) {
                (None, ..) => None,
                (Some(_), Some(named), _) => Some(named.clone()),
                (Some(_), None, Some(known)) => Some(known.id()),
                (Some(_), None, None) => match self.version_id_of(bucket, bucket_dir, key, &at.meta)? {
                    Some(id) => Some(id),
                    // Replaced since, or deleted: the next look knows its version.
                    None => {
                        look = Look::Locked;
                        continue;
                    }
                },
            };
            return Ok(Opened {
                file: at.file,
                meta: at.meta,
                record,
                side,
                version_id,
            });
        }
    }

    /// What is recorded of a file, and its side file.
    fn load(&self, bucket: &Bucket, key: &Key, at: &At) -> Result<(Option<Record>, Option<Side>), Error> {
        let (record, side) = self.attributes.load(&bucket.name, key, &at.file, &at.meta)?;
        match &record {
            Some(record) if !self.is_own(bucket, key, record.named(key), &at.meta, at.kept)? => Ok((None, None)),
            _ => Ok((record, side)),
        }
    }

    /// Whether a file has its name still. Its side file does not go before that, nor has another file a side file of that
    /// name until then; and as long as we have it open, no other file has its number.
    fn is_still(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key, at: &At) -> Result<bool, Error> {
        let name = self.own_name(key.as_str());
        let now = match at.kept {
            None => find_once(bucket_dir.as_fd(), &name, self.is_folding())?.map(|(_, meta)| meta),
            Some(kept) => self.kept_meta(bucket, &name, kept)?,
        };
        Ok(now.is_some_and(|now| now.is_file_of(&at.meta)))
    }

    /// What has side files, while nobody writes its key.
    fn open_object_locked(&self, bucket: &Bucket, bucket_dir: &OwnedFd, object: &ObjectRef) -> Result<Opened, Error> {
        let ObjectRef { key, version_id, .. } = object;
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let versioning = bucket.versioning();
        let (at, version) = match version_id.as_ref().filter(|_| versioning.is_some()) {
            Some(id) => (self.version_locked(bucket, bucket_dir, key, id)?, None),
            None => match (self.current_locked(bucket, bucket_dir, key)?, version_id) {
                (Found::Nothing, Some(_)) => return Err(BackendError::NoSuchVersion.into()),
                (found, _) => found.into_object()?,
            },
        };
        let (record, side) = self.load(bucket, key, &at)?;
        let told = version_id.clone().or_else(|| version.map(Version::id));
        Ok(Opened {
            file: at.file,
            meta: at.meta,
            record,
            side,
            version_id: told.filter(|_| versioning.is_some()),
        })
    }

    pub(in crate::fs) fn copy_object(
        &self,
        source: &Bucket,
        target: &Bucket,
        request: CopyObject,
    ) -> Result<ObjectInfo, Error> {
        self.durable.check_writable()?;
        let source_dir = self.bucket_dir(source)?;
        let opened = self.open_with_attributes(source, &source_dir, &request.source)?;
        let Opened {
            file,
            meta,
            record,
            side,
            ..
        } = opened;
        if attributes::etag(&meta, record.as_ref()) != request.source_etag {
            return Err(BackendError::Conflict.into());
        }
        let staged = Staged::create(self)?;
        let copied = dir::copy_range(&file, staged.file(), 0, meta.size).map_err(Error::io("could not copy data"))?;
        let after = Meta::of(&file).map_err(Error::io("could not look at the source"))?;
        // Somebody wrote to it.
        if copied != meta.size || (after.size, after.mtime) != (meta.size, meta.mtime) {
            return Err(BackendError::Conflict.into());
        }
        let parts = match side.map(|side| side.parts(0, usize::from(MAX_PART_NUMBER))) {
            Some(Err(Error::Damaged { what })) => {
                tracing::warn!("{what} is damaged, and the copy has none");
                Vec::new()
            }
            parts => parts.transpose()?.unwrap_or_default(),
        };
        let new = NewObject {
            etag: request.source_etag,
            attributes: request.attributes,
            parts,
            upload_id: None,
            version: None,
        };
        self.publish(
            target,
            request.key,
            &request.condition,
            request.versions.as_ref(),
            staged,
            new,
        )
    }
}

pub(in crate::fs) fn find_once(
    bucket_dir: BorrowedFd<'_>,
    name: &StorageName,
    folded: bool,
) -> Result<Option<(OwnedFd, Meta)>, Error> {
    for last in [&name.plain, &name.forced] {
        let path = name.parents.iter().chain(last).map(|n| &**n);
        let entry = match dir::look_up(bucket_dir, path) {
            Err(error) if folded && is_unnameable(error) => continue,
            outcome => outcome.map_err(Error::io("could not open the object"))?,
        };
        if let Some(found) = entry.into_file() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
