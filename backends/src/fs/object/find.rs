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
        staging::Staged,
        versions::{Kept, marker_error},
    },
    key_codec::StorageName,
};

/// What a key names.
enum Found {
    /// With its version, where that was found out.
    Object(OwnedFd, Meta, Option<Version>),
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

impl Store {
    /// The file that is the object of `key`: the plain name goes before the escape.
    pub(in crate::fs) fn find(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
    ) -> Result<Option<(OwnedFd, Meta)>, Error> {
        Ok(match self.find_current(bucket, bucket_dir, key, Look::Quick)? {
            Found::Object(file, meta, _) => Some((file, meta)),
            Found::Marker(_) | Found::Nothing => None,
        })
    }

    fn find_current(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key, look: Look) -> Result<Found, Error> {
        let name = StorageName::of(key.as_str());
        // An interrupted delete leaves the name of what it has deleted, which stays where nothing may be changed.
        let may_be_deleted = bucket.versioning().is_some()
            && self.durable.check_writable().is_err()
            && self.has_history(bucket, &name)?;
        if look == Look::Quick
            && !may_be_deleted
            && let Some((file, meta)) = find_once(bucket_dir.as_fd(), &name, self.is_folding())?
            && (!self.is_folding() || is_of(&file, key.as_str())?)
        {
            return Ok(Found::Object(file, meta, None));
        }
        // It may just be moving from one of its names to the other, or from its history to one of them.
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let name = if self.is_folding() {
            self.name_of(bucket_dir, key.as_str())?
        } else {
            name
        };
        if bucket.versioning().is_none() {
            let found = find_once(bucket_dir.as_fd(), &name, self.is_folding())?;
            return Ok(found.map_or(Found::Nothing, |(file, meta)| Found::Object(file, meta, None)));
        }
        let versions = self.seen_versions(bucket, bucket_dir.as_fd(), key, &name)?;
        let version = versions.current_version();
        Ok(match (versions.current, versions.newest) {
            (Some(current), _) => Found::Object(current.file, current.meta, version),
            (None, Some(marker)) if marker.marker => Found::Marker(marker),
            (None, _) => Found::Nothing,
        })
    }

    /// The file of a version, and which it is if it had to be found out.
    fn find_version(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
        id: &VersionId,
    ) -> Result<(OwnedFd, Meta), Error> {
        let missing = || Err(BackendError::NoSuchVersion.into());
        if bucket.versioning().is_none() {
            let found = id.is_null().then(|| self.find(bucket, bucket_dir, key)).transpose()?;
            return found.flatten().map_or_else(missing, Ok);
        }
        let stamp = id.stamp();
        if stamp.is_none() && !id.is_null() {
            return missing();
        }
        let name = StorageName::of(key.as_str());
        if let Some((file, meta)) = find_once(bucket_dir.as_fd(), &name, self.is_folding())? {
            let version = Record::load(&file, &meta)?.and_then(|record| record.version(key));
            if version.is_some_and(|version| version.id() == *id) {
                return Ok((file, meta));
            }
        }
        if let Some(stamp) = stamp
            && let Some((kept, file, meta)) = self.kept_file(bucket, &name, Version { stamp, null: false })?
        {
            return if kept.marker {
                Err(marker_error(kept))
            } else {
                Ok((file, meta))
            };
        }
        // It may just be moving between the two, or say nothing of its version.
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let versions = self.seen_versions(bucket, bucket_dir.as_fd(), key, &name)?;
        if versions.current_version().is_some_and(|version| version.id() == *id)
            && let Some(current) = versions.current
        {
            return Ok((current.file, current.meta));
        }
        match (versions.kept(id)?, &versions.history) {
            (Some(kept), _) if kept.marker => Err(marker_error(kept)),
            (Some(kept), Some(history)) => history.open_file(kept)?.map_or_else(missing, Ok),
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
        let name = StorageName::of(key.as_str());
        if !self.has_history(bucket, &name)? {
            // Nothing has displaced it yet, nor anything before it.
            return Ok(Some(VersionId::null()));
        }
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
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
        match self.attributes.keeping {
            Keeping::Extended => self.open_extended(bucket, bucket_dir, object),
            Keeping::SideFiles => self.open_beside(bucket, bucket_dir, object),
        }
    }

    fn open_extended(&self, bucket: &Bucket, bucket_dir: &OwnedFd, object: &ObjectRef) -> Result<Opened, Error> {
        let ObjectRef { key, version_id, .. } = object;
        let mut before = None;
        let mut look = Look::Quick;
        loop {
            let (file, meta, version) = match version_id {
                Some(id) => {
                    let (file, meta) = self.find_version(bucket, bucket_dir, key, id)?;
                    (file, meta, None)
                }
                None => match self.find_current(bucket, bucket_dir, key, look)? {
                    Found::Object(file, meta, version) => (file, meta, version),
                    Found::Marker(kept) => return Err(marker_error(kept)),
                    Found::Nothing => return Err(BackendError::NoSuchKey.into()),
                },
            };
            let (record, side) = self.attributes.load(&bucket.name, key, &file, &meta)?;
            let lost_side = side.is_none() && record.as_ref().is_some_and(|record| record.side.is_some());
            // Either the object was replaced since we found it, or the side file is lost for good.
            if lost_side && before != Some((meta.dev, meta.ino)) {
                before = Some((meta.dev, meta.ino));
                continue;
            }
            let known = version.or_else(|| record.as_ref()?.version(key));
            let version_id = match (bucket.versioning(), version_id, known) {
                (None, ..) => None,
                (Some(_), Some(named), _) => Some(named.clone()),
                (Some(_), None, Some(known)) => Some(known.id()),
                (Some(_), None, None) => match self.version_id_of(bucket, bucket_dir, key, &meta)? {
                    Some(id) => Some(id),
                    // Replaced since, or deleted: the next look knows its version.
                    None => {
                        look = Look::Locked;
                        continue;
                    }
                },
            };
            return Ok(Opened {
                file,
                meta,
                record,
                side,
                version_id,
            });
        }
    }

    /// A side file is of the file that was opened if that is the object's still when the side file is open: its name is
    /// nobody else's until then. There are no versions here, but what is named `null`.
    fn open_beside(&self, bucket: &Bucket, bucket_dir: &OwnedFd, object: &ObjectRef) -> Result<Opened, Error> {
        const ATTEMPTS: usize = 4;
        let ObjectRef { key, version_id, .. } = object;
        let open = |(file, meta): (OwnedFd, Meta)| -> Result<Opened, Error> {
            let (record, side) = self.attributes.load(&bucket.name, key, &file, &meta)?;
            Ok(Opened {
                file,
                meta,
                record,
                side,
                version_id: None,
            })
        };
        let name = StorageName::of(key.as_str());
        for _ in 0..ATTEMPTS {
            let found = match version_id {
                Some(id) => self.find_version(bucket, bucket_dir, key, id)?,
                None => self.find(bucket, bucket_dir, key)?.ok_or(BackendError::NoSuchKey)?,
            };
            let opened = open(found)?;
            let now = find_once(bucket_dir.as_fd(), &name, self.is_folding())?;
            // As long as we have it open, no other file has its number.
            if now.is_some_and(|(_, meta)| (meta.dev, meta.ino) == (opened.meta.dev, opened.meta.ino)) {
                return Ok(opened);
            }
        }
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        match find_once(bucket_dir.as_fd(), &name, self.is_folding())? {
            Some(found) => open(found),
            None if version_id.is_some() => Err(BackendError::NoSuchVersion.into()),
            None => Err(BackendError::NoSuchKey.into()),
        }
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
