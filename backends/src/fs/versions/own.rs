//! Which file of a key a record is of, where it lies in a side file.
//!
//! That is found by size and time, which files that the gateway wrote never have in common. A file that something else
//! put there may have those of a version that is kept, as a copy of it has, or of one of other bytes. So a record is:
//!
//! - that of the version that it names, which the name in the history tells;
//! - where it names none, for it is from before there was versioning, that of the version `null`;
//! - and that of the object under the key's own name only where no such version is kept beside it, and where it names no
//!   other file: it names its own while its version is being deleted and the object looks like that.
//!
//! Whatever else has that size and time is a file of which nothing is recorded.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::OFlags,
    io::Errno,
};

use super::{Kept, NULL, path_of};
use crate::{
    Key,
    fs::{
        Store,
        attributes::Named,
        bucket::Bucket,
        dir::{self, Meta},
        error::Error,
        keeping::Recorded,
        object::strs,
    },
    key_codec::StorageName,
};

const FAILED: &str = "could not look at a version";

impl Store {
    /// What is recorded of a file of `key`. `kept`: what it is in the history; `None` for one under the key's own name.
    pub(in crate::fs) fn recorded(
        &self,
        bucket: &Bucket,
        key: &Key,
        (file, meta): (&OwnedFd, &Meta),
        kept: Option<Kept>,
    ) -> Result<Recorded, Error> {
        let recorded = self.attributes.recorded(&bucket.name, key, file, meta)?;
        match &recorded.record {
            Some(record) if !self.is_own(bucket, key, record.named(key), meta, kept)? => Ok(Recorded::default()),
            _ => Ok(recorded),
        }
    }

    /// Whether a record that was found for a file is of that file. `named`: what it says it is of.
    pub(in crate::fs) fn is_own(
        &self,
        bucket: &Bucket,
        key: &Key,
        named: Named,
        meta: &Meta,
        kept: Option<Kept>,
    ) -> Result<bool, Error> {
        if self.attributes.go_with_files() || bucket.versioning().is_none() {
            return Ok(true);
        }
        let name = self.own_name(key.as_str());
        if kept.is_none()
            && let Some(is_file) = named.is_file(meta)
        {
            return Ok(is_file);
        }
        match (named.version, kept) {
            (Some(named), Some(kept)) => Ok(named == kept.version),
            (Some(version), None) => {
                let there = self.kept_meta(bucket, &name, Kept { version, marker: false })?;
                Ok(there.is_none_or(|there| there.is_file_of(meta)))
            }
            (None, Some(kept)) => Ok(kept.version.null),
            (None, None) => Ok(!self.keeps_null_like(bucket, &name, meta)?),
        }
    }

    /// What a version is that is kept under its name.
    pub(in crate::fs) fn kept_meta(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        kept: Kept,
    ) -> Result<Option<Meta>, Error> {
        let mut path = path_of(bucket, name);
        path.extend(kept.version.null.then(|| NULL.into()));
        path.push(kept.name().into());
        let there = dir::resolve(self.versions.as_fd(), strs(&path), OFlags::PATH | OFlags::NOFOLLOW);
        let meta = match there.and_then(Meta::of) {
            Err(Errno::NOENT) => return Ok(None),
            outcome => outcome.map_err(Error::io(FAILED))?,
        };
        Ok(Some(meta).filter(Meta::is_file))
    }

    /// Whether another file of this size and time is kept as a version `null`.
    fn keeps_null_like(&self, bucket: &Bucket, name: &StorageName, meta: &Meta) -> Result<bool, Error> {
        let mut path = path_of(bucket, name);
        path.push(NULL.into());
        let dir = match dir::resolve_dir(self.versions.as_fd(), strs(&path)) {
            Err(Errno::NOENT) => return Ok(false),
            outcome => outcome.map_err(Error::io(FAILED))?,
        };
        for name in dir::names(&dir).map_err(Error::io(FAILED))? {
            if Kept::parse(&name, true).is_none_or(|kept| kept.marker) {
                continue;
            }
            match Meta::in_dir(&dir, &name) {
                Ok(there) if (there.size, there.mtime) == (meta.size, meta.mtime) && !there.is_file_of(meta) => {
                    return Ok(true);
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(Error::io(FAILED)(error)),
            }
        }
        Ok(false)
    }
}
