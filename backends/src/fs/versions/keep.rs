//! The current object's names: the one that it gets in the history, and those that it loses in its bucket.

use rustix::fd::BorrowedFd;

use super::{Changed, Current, Kept, KeyVersions, Linked};
use crate::{
    Key, Version,
    fs::{
        Store,
        bucket::Bucket,
        dir::{self, Meta},
        error::Error,
        intent::Intent,
        object::{split, strs},
    },
    key_codec::StorageName,
};

impl Store {
    /// Removes the names that a key has in its bucket.
    pub(in crate::fs) fn drop_names(
        &self,
        bucket_dir: BorrowedFd<'_>,
        name: &StorageName,
        found: &KeyVersions,
    ) -> Result<Vec<Changed>, Error> {
        const FAILED: &str = "could not delete the object";
        let mut changed = Vec::new();
        // The escape first: as long as the plain name is there it is not seen.
        for (last, there) in [(&name.forced, found.has_forced), (&name.plain, found.has_plain)] {
            if there {
                let (leaf, dirs) = split(&name.parents, last);
                let dir = dir::resolve_dir(bucket_dir, strs(&dirs)).map_err(Error::io(FAILED))?;
                dir::unlink(&dir, leaf).map_err(Error::io(FAILED))?;
                changed.push(Changed::in_bucket(dirs, dir));
            }
        }
        Ok(changed)
    }

    /// Gives the current object the name that it will have as this version. `None` where it cannot have two names.
    pub(in crate::fs) fn keep(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        key: &Key,
        name: &StorageName,
        versions: &KeyVersions,
        version: Version,
    ) -> Result<Option<Linked>, Error> {
        let Some(current) = &versions.current else {
            return Ok(None);
        };
        // Directories are about to be made.
        let intent = versions
            .history
            .is_none()
            .then(|| Intent::tidy(&self.staging, &bucket.name, key.as_str()));
        let linked = self.link_current(bucket, bucket_dir, name, current, version);
        if intent.is_some() && !matches!(linked, Ok(Some(_))) {
            self.prune_history(bucket, name);
        }
        linked
    }

    fn link_current(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        name: &StorageName,
        current: &Current,
        version: Version,
    ) -> Result<Option<Linked>, Error> {
        let kept = Kept { version, marker: false };
        let (leaf, dirs) = current.path(name);
        let from = dir::resolve_dir(bucket_dir, strs(&dirs)).map_err(Error::io("could not open a directory"))?;
        let Some(place) = self.link_into_history(bucket, name, kept, &from, leaf, &current.meta)? else {
            return Ok(None);
        };
        Ok(Some(Linked {
            kept,
            place,
            meta: Meta::of(&current.file).map_err(Error::io("could not look at a version"))?,
            etag: current.etag.clone(),
        }))
    }
}

impl Current {
    /// Whether it is what was linked, and unchanged since.
    pub(in crate::fs) fn is_linked_as(&self, linked: &Linked) -> bool {
        self.linked == Some(linked.kept) && self.meta.is_file_of(&linked.meta)
    }

    /// What was judged before it was linked has the tag that it had then.
    pub(in crate::fs) fn take_tag_of(&mut self, linked: &Linked) {
        if self.meta == linked.meta {
            self.etag = linked.etag.clone();
        }
    }
}
