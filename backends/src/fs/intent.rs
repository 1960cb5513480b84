//! Notes in staging of what a write is about to do, so that whoever sweeps after a crash knows where to tidy up without
//! looking at the whole tree.
//!
//! A note is a symbolic link that nobody follows: made and removed in one step each. It is not synced: after a loss of
//! power it may be missing, and what it would have told of is then for `doctor` to find.
//!
//! | name | target | means |
//! |---|---|---|
//! | `tidy.RANDOM` | `BUCKET/KEY` | directories on the way to the key may be empty, or the key have two files, or its object be away |
//! | `tidy.RANDOM` | `BUCKET/` | the bucket is being made or removed |
//! | `side.ID` | `BUCKET/KEY` | the side file ID is the object's, or nobody's |

use std::sync::Arc;

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
};

use super::{
    Store,
    attributes::Record,
    bucket::{Bucket, Entered},
    crash::{self, Call},
    dir::{self, Entry, Meta},
    error::Error,
    marks::MAKING,
    object::{find_once, prune, split, strs},
    peers::PROCESS,
    staging, sys,
    versions::{Current, remove_empty_histories},
};
use crate::{BackendError, BucketName, Key};

const TIDY: &str = "tidy.";
const SIDE: &str = "side.";
/// A directory that was made within so many nanoseconds after a note about it is ours, also if the process ended before it
/// could be marked.
const JUST_AFTER: i128 = 2_000_000_000;

fn is_note(name: &str) -> bool {
    name.starts_with(TIDY) || name.starts_with(SIDE)
}

fn holds_notes(staging: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let names = match dir::resolve_dir(staging.as_fd(), [name]) {
        // Somebody else's.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        outcome => dir::names(&outcome?)?,
    };
    Ok(names.iter().any(|name| is_note(name)))
}

/// A note, removed when this is dropped, unless it is [left](Self::leave).
#[derive(Debug)]
pub(super) struct Intent {
    staging: Arc<OwnedFd>,
    name: String,
    left: bool,
}

impl Intent {
    /// Names of `key` may come or go. `None` where no note could be made, which is no reason not to go on.
    pub(super) fn tidy(staging: &Arc<OwnedFd>, bucket: &BucketName, key: &str) -> Option<Self> {
        let random = staging::random_name().ok()?;
        Self::note(staging, format!("{TIDY}{random}"), bucket, key)
    }

    /// The side file `id` comes or goes with the object `key`.
    pub(super) fn side(staging: &Arc<OwnedFd>, id: &str, bucket: &BucketName, key: &str) -> Option<Self> {
        Self::note(staging, format!("{SIDE}{id}"), bucket, key)
    }

    /// Leaves it for the next start.
    pub(super) fn leave(mut self) {
        self.left = true;
    }

    fn note(staging: &Arc<OwnedFd>, name: String, bucket: &BucketName, key: &str) -> Option<Self> {
        match crash::fault(Call::Add).and_then(|()| sys::symlinkat(&format!("{bucket}/{key}"), staging, &name)) {
            Ok(()) => {
                crash::point();
                Some(Self {
                    staging: Arc::clone(staging),
                    name,
                    left: false,
                })
            }
            Err(error) => {
                tracing::debug!(%error, "could not note what a write is about to do");
                None
            }
        }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        if let Err(error) = dir::unlink(&self.staging, &self.name) {
            tracing::warn!(%error, name = self.name, "could not remove a note");
        }
    }
}

impl Store {
    /// Finishes or undoes what notes of processes that have ended tell of, then removes what they left in staging.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        const FAILED: &str = "could not clear .t2/staging";
        if self.peers.is_some() {
            return self.sweep_peers().map(drop);
        }
        // Only this process can have anything there now, also where several have had.
        for name in dir::names(&self.staging).map_err(Error::io(FAILED))? {
            if name.starts_with(PROCESS)
                && let Ok(left) = dir::resolve_dir(self.staging.as_fd(), [&*name])
            {
                self.clear(&left).map_err(Error::io(FAILED))?;
            }
        }
        self.clear(&self.staging).map_err(Error::io(FAILED))?;
        self.marks.recovered();
        Ok(())
    }

    /// Follows the notes in a directory of staging, and removes all that is there, but notes that could not be followed.
    /// Whether nothing is left.
    pub(super) fn clear(&self, staging: &OwnedFd) -> Result<bool, Errno> {
        let names = dir::names(staging)?;
        self.clear_names(staging, names)
    }

    pub(super) fn clear_names(&self, staging: &OwnedFd, mut names: Vec<Box<str>>) -> Result<bool, Errno> {
        // Who was killed may have replaced an object and not have made that durable: after a loss of power it would be
        // there again, and its side file must be.
        if names.iter().any(|name| name.starts_with(SIDE)) {
            self.durable.all_that_is_visible(&self.root)?;
        }
        // Notes first: what else is there may be a mark that following them puts back.
        names.sort_unstable_by(|a, b| (!is_note(a), a).cmp(&(!is_note(b), b)));
        let mut is_empty = true;
        for name in names {
            if is_note(&name)
                && let Err(error) = self.follow(staging, &name)
            {
                tracing::warn!(%error, "something that a crash left stays until the next start, or longer; `t2gate doctor` finds it");
                is_empty = false;
                continue;
            }
            if name.starts_with(MAKING) {
                // With its mark.
                self.marks.remove_if_ours(staging.as_fd(), &name);
            }
            // Of a process that has ended, with a note that stays.
            if name.starts_with(PROCESS) && holds_notes(staging, &name)? {
                is_empty = false;
                continue;
            }
            dir::remove_tree(staging.as_fd(), &name, 3)?;
        }
        Ok(is_empty)
    }

    fn follow(&self, staging: &OwnedFd, name: &str) -> Result<(), Error> {
        let target = sys::readlinkat(staging, name).map_err(Error::io("could not read a note"))?;
        let Some((bucket, key)) = target.to_str().ok().and_then(|target| target.split_once('/')) else {
            return Ok(());
        };
        let Ok(bucket) = BucketName::parse(bucket) else {
            return Ok(());
        };
        match (name.strip_prefix(SIDE), key) {
            (Some(id), key) => self.follow_side(id, &bucket, key),
            (None, key) => {
                let noted = Meta::in_dir(staging, name)
                    .map_err(Error::io("could not look at a note"))?
                    .mtime;
                if key.is_empty() {
                    self.tidy_bucket(&bucket, noted)
                } else {
                    self.tidy_key(&bucket, key, noted)
                }
            }
        }
    }

    /// Keeps the bucket of a note from being deleted. `None` where it just was.
    fn enter_noted<'a>(&self, bucket: &'a Bucket) -> Result<Option<Entered<'a>>, Error> {
        match self.enter(bucket) {
            Err(Error::Answer(BackendError::NoSuchBucket)) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    fn follow_side(&self, id: &str, bucket: &BucketName, key: &str) -> Result<(), Error> {
        if !self.is_side_of(id, bucket, key)? {
            self.attributes.try_remove_side(id)?;
        }
        Ok(())
    }

    /// Whether the object `key` names this side file, or a version of it does: also as a copy of another's file, which may
    /// be somewhere else. What was being deleted then, and stays, names its file no more.
    fn is_side_of(&self, id: &str, bucket: &BucketName, key: &str) -> Result<bool, Error> {
        let (Some(bucket), Ok(key)) = (self.bucket(bucket).ok(), Key::parse(key)) else {
            return Ok(false);
        };
        let Some(_alive) = self.enter_noted(&bucket)? else {
            return Ok(false);
        };
        let bucket_dir = self.bucket_dir(&bucket)?;
        let names_it = |(file, meta): &(OwnedFd, Meta), kept| -> Result<bool, Error> {
            let recorded = self.recorded(&bucket, &key, (file, meta), kept)?;
            if recorded.named_side.as_deref() != Some(id) {
                return Ok(false);
            }
            if let Some(mut record) = recorded.record.filter(Record::names_file) {
                let sync = |files: &[BorrowedFd<'_>]| self.durable.before_all(files);
                self.attributes
                    .name_file(&self.staging, (&mut record, id), None, sync)?;
            }
            Ok(true)
        };
        // Under the lock: what is moving between its places is in none for a moment.
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let name = self.name_of(&bucket_dir, key.as_str())?;
        if bucket.versioning().is_none() {
            let found = find_once(bucket_dir.as_fd(), &name, self.is_folding())?;
            return found.as_ref().map_or(Ok(false), |found| names_it(found, None));
        }
        let versions = self.seen_versions(&bucket, bucket_dir.as_fd(), &key, &name)?;
        if let Some(current) = versions.current
            && names_it(&(current.file, current.meta), None)?
        {
            return Ok(true);
        }
        for kept in versions.history.iter().flat_map(|history| history.all(self, None, &[])) {
            let kept = kept?;
            if !kept.marker
                && let Some(found) = versions
                    .history
                    .as_ref()
                    .map_or(Ok(None), |history| history.open_file(kept))?
                && names_it(&found, Some(kept))?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One file for the key, and no empty directories of ours on the way there.
    fn tidy_key(&self, bucket: &BucketName, key: &str, noted: (i64, u32)) -> Result<(), Error> {
        let Ok(bucket) = self.bucket(bucket) else {
            return Ok(());
        };
        let Some(_alive) = self.enter_noted(&bucket)? else {
            return Ok(());
        };
        let bucket_dir = self.bucket_dir(&bucket)?;
        let versioned = Key::parse(key).ok().filter(|_| bucket.versioning().is_some());
        let name = {
            let _guard = self.keys.lock(&bucket.name, key)?;
            let name = self.name_of(&bucket_dir, key)?;
            let is_file = |last: &[Box<str>]| {
                let path = name.parents.iter().chain(last).map(|n| &**n);
                dir::look_up(bucket_dir.as_fd(), path)
                    .map(|entry| matches!(entry, Entry::File(..)))
                    .map_err(Error::io("could not look for an object"))
            };
            if let Some(key) = &versioned {
                // What is a version is put where it belongs first.
                self.key_versions(&bucket, bucket_dir.as_fd(), key, &name)?;
            }
            if is_file(&name.plain)? && is_file(&name.forced)? {
                let (leaf, dirs) = split(&name.parents, &name.forced);
                dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs))
                    .and_then(|dir| dir::unlink(dir, leaf))
                    .map_err(Error::io("could not remove an object's other name"))?;
            }
            name
        };
        for last in self.last_names(key) {
            let dirs = split(&name.parents, &last).1;
            for depth in 1..=dirs.len() {
                match dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs[..depth])) {
                    Ok(made) => self.mark_if_made_after(&made, noted),
                    Err(_) => break,
                }
            }
            prune(&self.marks, &bucket_dir, &dirs);
        }
        versioned.map_or(Ok(()), |key| self.tidy_versions(&bucket, &bucket_dir, &key))
    }

    /// What is newest is current, and nothing has more names than it needs.
    fn tidy_versions(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key) -> Result<(), Error> {
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let name = &self.name_of(bucket_dir, key.as_str())?;
        let versions = self.key_versions(bucket, bucket_dir.as_fd(), key, name)?;
        if let Some(history) = &versions.history {
            let second = versions.current.as_ref().and_then(Current::needless_name);
            if second.is_some() || !versions.litter.is_empty() {
                // The other name, and what has replaced the litter, may be seen without being durable.
                let synced = self.durable.all_that_is_visible(&self.root);
                synced.map_err(Error::io("could not sync what a crash has left"))?;
            }
            if let Some(second) = second {
                self.remove_kept(bucket, name, history, second)?;
            }
            for kept in &versions.litter {
                let file = history.open_file(*kept)?;
                // This first: nothing would tell of it afterwards.
                if let Some((file, meta)) = file.filter(|_| !kept.marker)
                    && let Some(side) = self.recorded(bucket, key, (&file, &meta), Some(*kept))?.side_id
                {
                    self.attributes.remove_side(&side);
                }
                self.remove_kept(bucket, name, history, *kept)?;
            }
        }
        // At a start nobody is reading yet, so it may go as soon as it is empty.
        if self.peers.is_none() || versions.is_gone() || versions.history.is_none() {
            self.prune_history(bucket, name);
        }
        // It may have been a name that is gone now.
        for last in self.last_names(key.as_str()) {
            prune(&self.marks, bucket_dir, &split(&name.parents, &last).1);
        }
        Ok(())
    }

    /// What is no bucket, though the gateway made it, goes if it is empty.
    fn tidy_bucket(&self, bucket: &BucketName, noted: (i64, u32)) -> Result<(), Error> {
        // Another process may be making it.
        let _serial = self.administer()?;
        if self.bucket(bucket).is_ok() {
            return Ok(());
        }
        match dir::resolve_dir(self.root.as_fd(), [bucket.as_str()]) {
            Ok(directory) => {
                self.mark_if_made_after(&directory, noted);
                self.remove_bucket_directory(bucket, directory);
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(Error::io("could not open a bucket's directory")(error)),
        }
        remove_empty_histories(&self.versions, bucket.as_str());
        self.drop_uploads(bucket)
    }

    fn mark_if_made_after(&self, directory: &OwnedFd, noted: (i64, u32)) {
        let nanos = |time: (i64, u32)| i128::from(time.0) * 1_000_000_000 + i128::from(time.1);
        let made_after =
            |meta: Meta| meta.btime.0 != 0 && (0..JUST_AFTER).contains(&(nanos(meta.btime) - nanos(noted)));
        if Meta::of(directory).is_ok_and(made_after)
            && !self.marks.is_marked(directory)
            && let Err(error) = self.marks.mark(directory)
        {
            tracing::warn!(%error, "a directory stays that could not be marked");
        }
    }
}
