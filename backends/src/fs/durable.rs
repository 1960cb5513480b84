//! What makes a change survive, and what follows when that fails.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs,
    io::Errno,
};

use super::{
    dir::{self, Meta},
    error::Error,
};
use crate::BackendError;

/// What an acknowledged change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The loss of power: data, attributes and names are synced before the answer.
    #[default]
    PowerSafe,
    /// The end of the process, however it ends; the loss of power only as far as the system has written by then.
    ProcessSafe,
}

/// How many directories are remembered as durable.
const MAX_KNOWN: usize = 32 * 1024;

/// Which directory: an inode number is used again, a birth time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct DirId {
    dev: (u32, u32),
    ino: u64,
    btime: (i64, u32),
}

#[derive(Debug)]
pub(super) struct Durable {
    durability: Durability,
    /// Directories whose own entries are durable, up to the bucket.
    known: Mutex<HashSet<DirId>>,
    /// A sync failed after a change: what is on the disk is not what readers were shown.
    broken: AtomicBool,
}

impl Durable {
    pub(super) fn new(durability: Durability) -> Self {
        Self {
            durability,
            known: Mutex::new(HashSet::new()),
            broken: AtomicBool::new(false),
        }
    }

    /// Before any write.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        if self.broken.load(Ordering::Acquire) {
            return Err(BackendError::ReadOnly.into());
        }
        Ok(())
    }

    /// Syncs what is not visible yet.
    pub(super) fn before(&self, fd: impl AsFd) -> Result<(), Error> {
        self.sync(fd).map_err(Error::io("could not sync a new file"))
    }

    /// Syncs a directory in which a change has become visible.
    pub(super) fn after(&self, dir: impl AsFd) -> Result<(), Error> {
        self.sync(dir).map_err(|source| self.failed(source))
    }

    /// As [`after`](Self::after) for `dir`, which lies at `names` below the bucket; with the entry of every directory
    /// on the way there that is not known to be durable.
    pub(super) fn after_in<'a>(
        &self,
        bucket: BorrowedFd<'_>,
        names: impl IntoIterator<Item = &'a str>,
        dir: &OwnedFd,
    ) -> Result<(), Error> {
        if self.durability == Durability::ProcessSafe {
            return Ok(());
        }
        self.after(dir)?;
        let last = Self::id(dir)?;
        if self.known().contains(&last) {
            return Ok(());
        }
        match self.sync_ancestors(bucket, names) {
            // Removed meanwhile, and so was what lay in it.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn sync_ancestors<'a>(
        &self,
        bucket: BorrowedFd<'_>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Errno> {
        let mut passed = Vec::new();
        let mut parent: Option<OwnedFd> = None;
        for name in names {
            let from = parent.as_ref().map_or(bucket, AsFd::as_fd);
            let child = dir::resolve_dir(from, [name])?;
            let id = DirId::from(Meta::of(&child)?);
            if !self.known().contains(&id) {
                self.sync(from)?;
                passed.push(id);
            }
            parent = Some(child);
        }
        let mut known = self.known();
        if known.len() + passed.len() > MAX_KNOWN {
            known.clear();
        }
        known.extend(passed);
        Ok(())
    }

    fn id(dir: &OwnedFd) -> Result<DirId, Error> {
        Meta::of(dir)
            .map(DirId::from)
            .map_err(Error::io("could not look at a directory"))
    }

    fn sync(&self, fd: impl AsFd) -> Result<(), Errno> {
        match self.durability {
            Durability::PowerSafe => fs::fsync(fd),
            Durability::ProcessSafe => Ok(()),
        }
    }

    fn failed(&self, source: Errno) -> Error {
        self.broken.store(true, Ordering::Release);
        Error::NotDurable {
            action: "could not sync a directory",
            source,
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<DirId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Meta> for DirId {
    fn from(meta: Meta) -> Self {
        Self {
            dev: meta.dev,
            ino: meta.ino,
            btime: meta.btime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_sync_of_a_change_nothing_is_written_any_more() {
        let temp = tempfile::tempdir().unwrap();
        let open = |flags| fs::open(temp.path(), flags | fs::OFlags::DIRECTORY, fs::Mode::empty()).unwrap();
        // What is open as a path alone cannot be synced.
        let (good, bad) = (open(fs::OFlags::RDONLY), open(fs::OFlags::PATH));
        let durable = Durable::new(Durability::PowerSafe);
        assert!(matches!(durable.before(&bad), Err(Error::Io { .. })));
        durable.after(&good).unwrap();
        durable.check_writable().unwrap();
        assert!(matches!(durable.after(&bad), Err(Error::NotDurable { .. })));
        let refused = durable.check_writable().map_err(BackendError::from);
        assert!(matches!(refused, Err(BackendError::ReadOnly)));
    }
}
