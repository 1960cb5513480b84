//! Making way for an object: the directories that its key needs, and what is in their way.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs,
    io::Errno,
};

use super::{MAX_ATTEMPTS, last_segment, make_path, split, strs, unsupported};
use crate::{
    Key,
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir::{self, Meta},
        error::Error,
    },
    key_codec::{self, Names, StorageName},
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
        let mut steps: Vec<(Box<str>, Option<&str>)> = Vec::new();
        for (end, _) in key.match_indices('/') {
            let ancestor = &key[..end];
            let mut names = key_codec::segment(last_segment(ancestor)).into_iter().peekable();
            while let Some(name) = names.next() {
                let object = (names.peek().is_none() && !ancestor.is_empty()).then_some(ancestor);
                steps.push((name, object));
            }
        }
        steps.extend(last[..last.len() - 1].iter().map(|name| (name.clone(), None)));

        let mut reached: Option<OwnedFd> = None;
        for (name, object) in steps {
            let from = reached.as_ref().unwrap_or(bucket_dir);
            reached = match self.step_into(bucket, from, &name, object)? {
                Some(dir) => Some(dir),
                None => return Ok(None),
            };
        }
        match reached {
            Some(dir) => Ok(Some(dir)),
            None => self.bucket_dir(bucket).map(Some),
        }
    }

    /// Opens or makes the directory `name`. A file that has this name, the one of `object`, steps aside.
    fn step_into(
        &self,
        bucket: &Bucket,
        from: &OwnedFd,
        name: &str,
        object: Option<&str>,
    ) -> Result<Option<OwnedFd>, Error> {
        for _ in 0..MAX_ATTEMPTS {
            match dir::make_dir(from.as_fd(), name) {
                Ok(dir) => return Ok(Some(dir)),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let object = object.ok_or_else(unsupported)?;
                    self.move_aside(bucket, from, name, object)?;
                }
                Err(error) => return Err(Error::io("could not create a directory")(error)),
            }
        }
        Ok(None)
    }

    /// Gives the object `key`, which has the name `name` in `dir`, its other name. Readers who miss the first find the
    /// second.
    fn move_aside(&self, bucket: &Bucket, dir: &OwnedFd, name: &str, key: &str) -> Result<(), Error> {
        let target = {
            let _guard = self.keys.lock(&bucket.name, key)?;
            match Meta::in_dir(dir, name) {
                Ok(meta) if meta.is_file() => {}
                Ok(meta) if meta.is_dir() => return Ok(()),
                Err(Errno::NOENT) => return Ok(()),
                Ok(_) => return Err(unsupported()),
                Err(error) => return Err(Error::io("could not look at a file")(error)),
            }
            let segment = last_segment(key);
            // `dir` is where the last of the plain names lies: of a long one the names before are on the way there, and
            // those of its other spelling are the same.
            let forced = key_codec::forced(segment).split_off(key_codec::segment(segment).len() - 1);
            let (leaf, dirs) = split(&[], &forced);
            let target = match make_path(dir, &[], &forced) {
                Err(Errno::NOENT) => return Ok(()),
                outcome => outcome.map_err(Error::io("could not create a directory"))?,
            };
            let _moving = self.moves.begin()?;
            match crash::fault(Call::Add).and_then(|()| fs::renameat(dir, name, &target, leaf)) {
                Ok(()) => crash::point(),
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => return Err(unsupported()),
                Err(error) => return Err(Error::io("could not move an object aside")(error)),
            }
            (!dirs.is_empty()).then_some(target)
        };
        // Durable before the directory that takes its place.
        let mut dirs = vec![dir.as_fd()];
        dirs.extend(target.as_ref().map(AsFd::as_fd));
        self.durable.after_all(&dirs)
    }
}
