//! How a version that was kept gets its key's own name again.

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

use super::Deletion;
use crate::{
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir,
        error::Error,
        object::strs,
        staging::Staged,
        sys,
        versions::{Changed, Current, History, Kept, KeyVersions},
    },
    key_codec::StorageName,
};

const FAILED: &str = "could not put a version in its place";

/// How far a version beneath a delete marker came.
pub(super) enum Projected {
    /// It has both names.
    Linked(Changed),
    /// It cannot have two.
    Unlinkable,
    /// A directory is missing, or came.
    Again,
}

impl Store {
    /// Puts a kept version in the place of the current object, in one step.
    pub(super) fn replace(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        name: &StorageName,
        current: &Current,
        history: &History,
        next: Kept,
    ) -> Result<Vec<Changed>, Error> {
        let (leaf, dirs) = current.path(name);
        let to = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).map_err(Error::io(FAILED))?;
        let (from, file) = self.open_kept(history, next)?;
        let place = self.place_of(bucket, name, history, next)?;
        match Staged::link(self, from, &next.name(), file) {
            Ok(staged) => {
                staged.rename(&to, leaf).map_err(Error::io(FAILED))?;
                staged.moved();
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {
                // One step, and nothing that could be lost.
                crash::fault(Call::Add)
                    .and_then(|()| sys::renameat(from, &next.name(), &to, leaf))
                    .map_err(Error::io(FAILED))?;
                crash::point();
            }
            Err(error) => return Err(Error::io(FAILED)(error)),
        }
        let mut changed = vec![Changed::in_bucket(dirs, to)];
        changed.extend(place);
        Ok(changed)
    }

    /// Gives a kept version the key's own name beside that in the history, where nothing has it.
    pub(super) fn project(
        &self,
        bucket_dir: &OwnedFd,
        deletion: &Deletion<'_>,
        versions: &KeyVersions,
        history: &History,
        next: Kept,
    ) -> Result<Projected, Error> {
        let name = &deletion.name;
        let Some(parent) = self.parent_of(bucket_dir, name)? else {
            return Ok(Projected::Again);
        };
        let (from, file) = self.open_kept(history, next)?;
        let staged = match Staged::link(self, from, &next.name(), file) {
            Ok(staged) => staged,
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => return Ok(Projected::Unlinkable),
            Err(error) => return Err(Error::io(FAILED)(error)),
        };
        Ok(match self.place(bucket_dir, name, &parent, versions, &staged)? {
            Some(placed) => {
                staged.moved();
                Projected::Linked(placed)
            }
            None => Projected::Again,
        })
    }

    fn open_kept<'h>(&self, history: &'h History, kept: Kept) -> Result<(&'h OwnedFd, OwnedFd), Error> {
        let file = history.open_file(kept)?.map(|(file, _)| file);
        history
            .dir_of(kept)
            .zip(file)
            .ok_or(Error::Damaged { what: "a history" })
    }
}
