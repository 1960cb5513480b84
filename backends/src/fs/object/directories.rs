//! Making way for an object: the directories that its key needs, and what is in their way.

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

use super::{MAX_ATTEMPTS, prune, split, strs, unsupported};
use crate::{
    Key,
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir::{self, Meta},
        error::Error,
        sys,
    },
    key_codec::{Names, StorageName},
};

impl Store {
    /// The directory that the plain name of `key` lies in. `None` where there is none.
    pub(super) fn parent_of(&self, bucket_dir: &OwnedFd, name: &StorageName) -> Result<Option<OwnedFd>, Error> {
        match dir::resolve_dir(bucket_dir.as_fd(), strs(&split(&name.parents, &name.plain).1)) {
            Ok(parent) => Ok(Some(parent)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(Error::io("could not open a directory")(error)),
        }
    }

    /// Makes the directories on the way to `key` and those that the name of its last segment begins with. Files that
    /// are in the way, objects all, step aside. `None` where something of it went away meanwhile.
    pub(super) fn make_directories(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
        last: &Names,
    ) -> Result<Option<OwnedFd>, Error> {
        let key = key.as_str();
        let mut reached: Option<OwnedFd> = None;
        for (end, _) in key.match_indices('/') {
            let from = reached.as_ref().unwrap_or(bucket_dir);
            reached = match self.step_into(bucket, from, &key[..end])? {
                Some(dir) => Some(dir),
                None => return Ok(None),
            };
        }
        let from = reached.as_ref().unwrap_or(bucket_dir);
        match self.make_path(from, &[], last) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(unsupported()),
            Err(error) => Err(Error::io("could not create a directory")(error)),
        }
    }

    /// Opens or makes the directory of the last segment of `path`, the names of which begin in `from`. A file that has
    /// its name, an object, steps aside.
    fn step_into(&self, bucket: &Bucket, from: &OwnedFd, path: &str) -> Result<Option<OwnedFd>, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let made = {
                // Nobody makes another spelling of it meanwhile.
                let _guard = self
                    .is_folding()
                    .then(|| self.keys.lock(&bucket.name, path))
                    .transpose()?;
                self.make_names(from, &[], &self.directory_in(from, path)?)
            };
            match made {
                Ok(dir) => return Ok(Some(dir)),
                Err(Errno::NOENT) => return Ok(None),
                // No key is empty.
                Err(Errno::NOTDIR | Errno::LOOP) if path.is_empty() => return Err(unsupported()),
                Err(Errno::NOTDIR | Errno::LOOP) => self.move_aside(bucket, from, path)?,
                Err(error) => return Err(Error::io("could not create a directory")(error)),
            }
        }
        Ok(None)
    }

    /// Opens the directory of `last` in that of `parents`, which is there; what `last` begins with is made.
    pub(super) fn make_path(&self, base: &OwnedFd, parents: &[Box<str>], last: &Names) -> Result<OwnedFd, Errno> {
        self.make_names(base, parents, &last[..last.len() - 1])
    }

    /// Makes `names`, each in the one before, in the directory of `parents`, which is there.
    pub(super) fn make_names(
        &self,
        base: &OwnedFd,
        parents: &[Box<str>],
        names: &[Box<str>],
    ) -> Result<OwnedFd, Errno> {
        let mut made: Option<OwnedFd> = match (parents, names) {
            ([], [_, ..]) => None,
            _ => Some(dir::resolve_dir(base.as_fd(), strs(parents))?),
        };
        for name in names {
            let from = made.as_ref().unwrap_or(base);
            made = Some(self.marks.make_dir(from.as_fd(), name)?);
        }
        made.map_or_else(|| dir::resolve_dir(base.as_fd(), []), Ok)
    }

    /// Gives the object `key`, the names of whose last segment begin in `base`, its other name. Readers who miss the first
    /// find the second.
    fn move_aside(&self, bucket: &Bucket, base: &OwnedFd, key: &str) -> Result<(), Error> {
        let (dir, target, left) = {
            let _guard = self.keys.lock(&bucket.name, key)?;
            let names = self.directory_in(base, key)?;
            let (name, dirs) = split(&[], &names);
            let left = dirs.clone();
            let dir = match dir::resolve_dir(base.as_fd(), strs(&dirs)) {
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(unsupported()),
                outcome => outcome.map_err(Error::io("could not open a directory"))?,
            };
            match Meta::in_dir(&dir, name) {
                Ok(meta) if meta.is_file() => {}
                Ok(meta) if meta.is_dir() => return Ok(()),
                Err(Errno::NOENT) => return Ok(()),
                Ok(_) => return Err(unsupported()),
                Err(error) => return Err(Error::io("could not look at a file")(error)),
            }
            let forced = self.forced_in(base, key)?;
            let (leaf, dirs) = split(&[], &forced);
            let target = match self.make_path(base, &[], &forced) {
                Err(Errno::NOENT) => return Ok(()),
                outcome => outcome.map_err(Error::io("could not create a directory"))?,
            };
            let failed = || Error::io("could not move an object aside");
            let entry = Meta::in_dir(&dir, name).map_err(failed())?;
            let is_there = match Meta::in_dir(&target, leaf) {
                Err(Errno::NOENT) => false,
                // A rename would leave two names of one file as they are.
                Ok(there) if there.is_file_of(&entry) => true,
                // The object itself lies there already, and what has its name is none.
                Ok(_) if !matches!(dir::look_up_in(dir.as_fd(), name), Ok(dir::Entry::File(..))) => {
                    return Err(unsupported());
                }
                // Somebody has put another object there since. What it hides may be a version that is nowhere else.
                Ok(_) => {
                    let key = Key::parse(key).map_err(|_| unsupported())?;
                    let bucket_dir = self.bucket_dir(bucket)?;
                    let name = self.name_of(&bucket_dir, key.as_str())?;
                    self.key_versions(bucket, bucket_dir.as_fd(), &key, &name)?;
                    false
                }
                Err(error) => return Err(failed()(error)),
            };
            let _moving = self.moves.begin()?;
            let moved = if is_there {
                dir::unlink(&dir, name)
            } else {
                let moved = crash::fault(Call::Add).and_then(|()| sys::renameat(&dir, name, &target, leaf));
                moved.inspect(|()| crash::point())
            };
            match moved {
                Ok(()) => {}
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => return Err(unsupported()),
                Err(error) => return Err(failed()(error)),
            }
            (dir, (!dirs.is_empty()).then_some(target), left)
        };
        // Durable before the directory that takes its place.
        let mut dirs = vec![dir.as_fd()];
        dirs.extend(target.as_ref().map(AsFd::as_fd));
        self.durable.after_all(&dirs)?;
        if self.is_folding() {
            // Its other name need not be beside the first, nor need what takes its place.
            prune(&self.marks, base, &left);
        }
        Ok(())
    }
}
