//! Whose turn it is with an upload: its locks, inside the process and between processes.
//!
//! Writers of parts share the lock of their upload for each step, and Complete and Abort have it alone. Between processes
//! that is two files in the upload's directory, so that it goes with it. A writer who has it after the upload has ended
//! finds its directory gone; one whose data another process has begun to make an object of (and was killed before it
//! came to the end) finds a second name of that.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard, TryLockError},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

use crate::{
    BackendError, PartNumber, UploadRef,
    fs::{
        Store,
        dir::{self, Meta},
        error::Error,
        locks::{
            UploadLock,
            file::{FileLock, Gated, Held},
        },
    },
};

const GATE: &str = "gate";
const LOCK: &str = "lock";
/// Held by who looks for a place for a part.
const CLAIMS: &str = "claims";
const CLAIM_PREFIX: &str = "claim.";
const FAILED: &str = "could not lock an upload";

/// As long as this is held the upload does not end.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    _others: Option<Held>,
    _own: RwLockReadGuard<'a, bool>,
}

/// As long as this is held nobody else does anything to the upload.
#[derive(Debug)]
pub(in crate::fs) struct Alone<'a> {
    _others: Option<Held>,
    /// Whether the upload is over.
    pub(in crate::fs) ended: RwLockWriteGuard<'a, bool>,
}

impl Store {
    /// For a step of a writer of parts. Whether the upload is there is to be looked at afterwards.
    pub(super) fn under_way<'a>(&self, lock: &'a UploadLock, upload: &UploadRef) -> Result<UnderWay<'a>, Error> {
        let own = lock.under_way()?;
        let others = match self.gated(upload)? {
            Some(Some(gated)) => Some(Held::shared(gated).map_err(Error::io(FAILED))?),
            Some(None) => return Err(BackendError::NoSuchUpload.into()),
            None => None,
        };
        Ok(UnderWay {
            _others: others,
            _own: own,
        })
    }

    /// For the end of an upload. That it is not there is for the caller to see.
    pub(super) fn alone<'a>(&self, lock: &'a UploadLock, upload: &UploadRef) -> Result<Alone<'a>, Error> {
        let ended = lock.ended.write().unwrap_or_else(PoisonError::into_inner);
        let others = match self.gated(upload)?.flatten() {
            Some(gated) => Some(Held::alone(gated).map_err(Error::io(FAILED))?),
            None => None,
        };
        Ok(Alone { _others: others, ended })
    }

    /// `None` where it is busy.
    pub(in crate::fs) fn try_alone<'a>(
        &self,
        lock: &'a UploadLock,
        upload: &UploadRef,
    ) -> Result<Option<Alone<'a>>, Error> {
        let ended = match lock.ended.try_write() {
            Ok(ended) => ended,
            Err(TryLockError::Poisoned(ended)) => ended.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let others = match self.gated(upload)?.flatten() {
            Some(gated) => match Held::try_alone(gated).map_err(Error::io(FAILED))? {
                None => return Ok(None),
                held => held,
            },
            None => None,
        };
        Ok(Some(Alone { _others: others, ended }))
    }

    /// The lock between processes. `None` where there are no others, `Some(None)` where there is no such upload.
    fn gated(&self, upload: &UploadRef) -> Result<Option<Option<Gated>>, Error> {
        if self.peers.is_none() {
            return Ok(None);
        }
        let open = || {
            let names = [upload.bucket.as_str(), upload.upload_id.as_str()];
            let dir = dir::resolve_dir(self.uploads.as_fd(), names)?;
            open_gated(&dir)
        };
        match open() {
            Ok(gated) => Ok(Some(Some(gated))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Some(None)),
            Err(error) => Err(Error::io(FAILED)(error)),
        }
    }

    /// What a writer in place needs beside the lock in this process, if there are others. To be called with that.
    pub(super) fn stand(&self, upload: &UploadRef, dir: &OwnedFd) -> Result<Option<Stand>, Error> {
        if self.peers.is_none() {
            return Ok(None);
        }
        let open = || {
            Ok(Stand {
                gated: open_gated(dir)?,
                dir: dir::resolve_dir(dir.as_fd(), [])?,
                uploads: Arc::clone(&self.uploads),
                path: format!("{}/{}", upload.bucket, upload.upload_id),
            })
        };
        open().map(Some).map_err(Error::io(FAILED))
    }
}

/// Makes the files of the lock, or opens them.
pub(super) fn open_gated(dir: &OwnedFd) -> Result<Gated, Errno> {
    Gated::open(dir, GATE, LOCK)
}

/// A writer in place among those of other processes.
#[derive(Debug)]
pub(super) struct Stand {
    gated: Gated,
    dir: OwnedFd,
    /// Of all buckets.
    uploads: Arc<OwnedFd>,
    /// Of the upload in there.
    path: String,
}

impl Stand {
    /// Keeps the upload from ending while `data`, its file of this name, is written to.
    pub(super) fn under_way(&self, name: &str, data: &OwnedFd) -> Result<Held<&Gated>, Error> {
        let failed = || Error::io("could not look at parts");
        let held = Held::shared(&self.gated).map_err(Error::io(FAILED))?;
        let there = match Meta::in_dir(&*self.uploads, &format!("{}/{name}", self.path)) {
            Err(Errno::NOENT) => return Err(BackendError::NoSuchUpload.into()),
            outcome => outcome.map_err(failed())?,
        };
        if there.ino != Meta::brief(data).map_err(failed())?.ino {
            return Err(BackendError::NoSuchUpload.into());
        }
        // It is an object already, or is about to be one, of somebody who was killed.
        if there.nlink != 1 {
            return Err(BackendError::Conflict.into());
        }
        Ok(held)
    }

    /// Nobody else looks for a place meanwhile.
    pub(super) fn claims(&self) -> Result<FileLock, Error> {
        FileLock::wait(&self.dir, CLAIMS).map_err(Error::io(FAILED))
    }

    /// `None` where another process has it.
    pub(super) fn claim(&self, number: PartNumber) -> Result<Option<Claim>, Error> {
        let name = format!("{CLAIM_PREFIX}{number}");
        let open = || {
            let Some(lock) = FileLock::try_now(&self.dir, &name)? else {
                return Ok(None);
            };
            let dir = dir::resolve_dir(self.dir.as_fd(), [])?;
            Ok(Some(Claim { dir, name, _lock: lock }))
        };
        open().map_err(Error::io(FAILED))
    }
}

/// The place of a part is ours among all processes, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    dir: OwnedFd,
    name: String,
    /// Given back when the name is gone.
    _lock: FileLock,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = dir::unlink(&self.dir, &self.name) {
            tracing::debug!(%error, "the file of a claim stays until its upload ends");
        }
    }
}

/// The parts that anybody is writing in place, in this process or another.
pub(in crate::fs) fn claimed(dir: &OwnedFd, lock: &UploadLock) -> Result<BTreeSet<PartNumber>, Errno> {
    let mut claimed: BTreeSet<PartNumber> = lock.claims().iter().map(|claim| claim.1).collect();
    for name in dir::names(dir)? {
        let number = name
            .strip_prefix(CLAIM_PREFIX)
            .and_then(|number| PartNumber::parse(number).ok());
        if let Some(number) = number
            && FileLock::is_held(dir, &name)?
        {
            claimed.insert(number);
        }
    }
    Ok(claimed)
}
