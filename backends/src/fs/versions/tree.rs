//! The directories of histories: whether anything is kept below one, and their end.

use std::ops::ControlFlow;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags},
    io::Errno,
};

use super::{
    Kept,
    history::{NULL, path_of},
};
use crate::{
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir::{self, Meta},
        error::Error,
        object::strs,
        sys,
    },
    key_codec::{Names, StorageName},
};

impl Store {
    /// Removes the directories of a key's history that are empty, and those on the way there. To be called under the lock of
    /// the key, when it has no version: whoever lists versions relies on it.
    pub(in crate::fs) fn prune_history(&self, bucket: &Bucket, name: &StorageName) {
        let mut names = path_of(bucket, name);
        names.push(NULL.into());
        for depth in (1..names.len()).rev() {
            let parent = match dir::resolve_dir(self.versions.as_fd(), strs(&names[..depth])) {
                Ok(parent) => parent,
                Err(Errno::NOENT) => continue,
                Err(_) => return,
            };
            match crash::fault(Call::Remove).and_then(|()| sys::unlinkat(&parent, &names[depth], AtFlags::REMOVEDIR)) {
                Ok(()) => crash::point(),
                Err(Errno::NOENT) => {}
                Err(_) => return,
            }
        }
    }

    /// Whether anything is kept below a directory of histories, at `path` from `.t2/versions` on.
    pub(in crate::fs) fn has_kept_below(&self, path: &[Box<str>]) -> Result<bool, Error> {
        const FAILED: &str = "could not read a history";
        /// So many directories are tried first, rather than all that there are.
        const SOME: usize = 64;
        let mut left: Vec<Names> = vec![path.to_vec()];
        while let Some(path) = left.pop() {
            let dir = match dir::resolve_dir(self.versions.as_fd(), strs(&path)) {
                Err(Errno::NOENT) => continue,
                outcome => outcome.map_err(Error::io(FAILED))?,
            };
            for most in [SOME, usize::MAX] {
                let (mut dirs, mut found): (Vec<Names>, bool) = (Vec::new(), false);
                let cut = dir::scan(&dir, |name, kind| {
                    let kind = match kind {
                        fs::FileType::Unknown => Meta::in_dir(&dir, name).map_or(kind, |meta| meta.file_type),
                        known => known,
                    };
                    match kind {
                        fs::FileType::Directory if dirs.len() == most => return ControlFlow::Break(()),
                        fs::FileType::Directory => dirs.push(path.iter().cloned().chain([name.into()]).collect()),
                        fs::FileType::RegularFile if is_version(name) => {
                            found = true;
                            return ControlFlow::Break(());
                        }
                        _ => {}
                    }
                    ControlFlow::Continue(())
                })
                .map_err(Error::io(FAILED))?;
                if found {
                    return Ok(true);
                }
                if !cut {
                    left.append(&mut dirs);
                    break;
                }
                for some in dirs {
                    if self.has_kept_below(&some)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Whether anything is kept in a bucket.
    pub(in crate::fs) fn has_kept(&self, bucket: &Bucket) -> Result<bool, Error> {
        self.has_kept_below(&[bucket.name.as_str().into()])
    }
}

fn is_version(name: &str) -> bool {
    Kept::parse(name, false)
        .or_else(|| Kept::parse_away(name, false))
        .is_some()
}

/// Removes the directories below `.t2/versions/BUCKET`, and that itself, as far as they are empty.
pub(in crate::fs) fn remove_empty_histories(versions: &OwnedFd, bucket: &str) {
    crate::fs::bucket::for_each_directory(versions, &[bucket.into()], |parent, name| {
        remove_directory(parent, name);
    });
    remove_directory(versions, bucket);
}

/// What is not empty stays.
fn remove_directory(parent: &OwnedFd, name: &str) {
    match crash::fault(Call::Remove).and_then(|()| sys::unlinkat(parent, name, AtFlags::REMOVEDIR)) {
        Ok(()) => crash::point(),
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => tracing::debug!(%error, "a directory of a history stays"),
    }
}
