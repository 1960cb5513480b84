//! Objects that cannot have two names: the file system has no links, or the file is somebody else's and the system is told
//! to refuse (`fs.protected_hardlinks`), or it has too many already.
//!
//! Such an object is moved into its history under the key's lock, before what displaces it is put in its place. Readers
//! who miss it look again under that lock. A note tells the next start of it.

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

use super::strs;
use crate::{
    Key, Version,
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir,
        error::Error,
        intent::Intent,
        sys,
        versions::{Changed, Current, Kept},
    },
    key_codec::StorageName,
};

/// An object that has only its name in the history, while nothing has taken its place yet.
pub(super) struct Away {
    pub(super) place: Changed,
    kept: Kept,
    from: OwnedFd,
    leaf: Box<str>,
    /// Dropped when it is settled.
    _intent: Option<Intent>,
}

impl Store {
    pub(super) fn move_away(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
        name: &StorageName,
        current: &Current,
        version: Version,
    ) -> Result<Away, Error> {
        let (leaf, dirs) = current.path(name);
        let from =
            dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).map_err(Error::io("could not open a directory"))?;
        let intent = Intent::back(&self.staging, &bucket.name, key.as_str());
        let kept = Kept { version, marker: false };
        let place = self.move_into_history(bucket, name, kept, &from, leaf)?;
        Ok(Away {
            place,
            kept,
            from,
            leaf: leaf.into(),
            _intent: intent,
        })
    }

    /// Where nothing has taken its place.
    pub(super) fn bring_back(&self, away: Away) -> Result<(), Error> {
        crash::fault(Call::Add)
            .and_then(|()| sys::renameat(&away.place.dir, &away.kept.name(), &away.from, &away.leaf))
            .map_err(Error::io("could not bring an object back"))?;
        crash::point();
        Ok(())
    }

    /// After a crash: what went into the history, and nothing has taken its place.
    pub(in crate::fs) fn bring_back_after_crash(&self, bucket: &Bucket, key: &Key) -> Result<(), Error> {
        const FAILED: &str = "could not bring an object back";
        let name = StorageName::of(key.as_str());
        let bucket_dir = self.bucket_dir(bucket)?;
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        if super::find::find_once(bucket_dir.as_fd(), &name, self.is_folding())?.is_some() {
            return Ok(());
        }
        let Some((newest, from)) = self.newest_kept(bucket, &name)? else {
            return Ok(());
        };
        if newest.marker {
            return Ok(());
        }
        for last in [&name.plain, &name.forced] {
            let (leaf, dirs) = super::split(&name.parents, last);
            let Ok(to) = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)) else {
                continue;
            };
            match sys::renameat(&from, &newest.name(), &to, leaf) {
                Ok(()) => return self.durable.after_all(&[to.as_fd(), from.as_fd()]),
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(Error::io(FAILED)(error)),
            }
        }
        Ok(())
    }
}
