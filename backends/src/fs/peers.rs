//! One of several processes that serve a root: what each has to itself.

use std::sync::Arc;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::AtFlags,
    io::Errno,
};

use super::{
    Store,
    dir::{self, Meta},
    error::Error,
    layout,
    locks::{
        self,
        file::{FileLock, Held},
    },
    staging, sys,
};
use crate::BucketName;

/// Of the directories of processes in staging, and of their lock files.
pub(super) const PROCESS: &str = "process.";

/// A process among others.
#[derive(Debug)]
pub(super) struct Peers {
    /// The lock files.
    locks: Arc<OwnedFd>,
    /// Of all processes.
    staging: OwnedFd,
    /// `None` in one that changes nothing.
    own: Option<Own>,
}

/// What is this process's own in staging.
#[derive(Debug)]
struct Own {
    name: String,
    #[expect(
        dead_code,
        reason = "held, never looked at: as long as it is, nobody sweeps our staging"
    )]
    lock: FileLock,
}

impl Peers {
    /// Joins those that are there: with a directory of its own in staging, which is returned.
    pub(super) fn join(locks: OwnedFd, staging: OwnedFd) -> Result<(Self, OwnedFd), Errno> {
        locks::make_files(&locks)?;
        let name = format!("{PROCESS}{}", staging::random_name().map_err(|_| Errno::IO)?);
        // The lock first, so that nobody ever sees the directory without it.
        let lock = FileLock::try_now(&locks, &name)?.ok_or(Errno::AGAIN)?;
        let dir = layout::own_dir(&staging, &name)?;
        let peers = Self {
            locks: Arc::new(locks),
            staging,
            own: Some(Own { name, lock }),
        };
        Ok((peers, dir))
    }

    /// Looks at what those do that are there, and changes nothing.
    pub(super) fn watch(locks: OwnedFd, staging: OwnedFd) -> Self {
        Self {
            locks: Arc::new(locks),
            staging,
            own: None,
        }
    }

    pub(super) fn locks(&self) -> &Arc<OwnedFd> {
        &self.locks
    }

    /// For what only one process at a time may do to buckets.
    pub(super) fn administer(&self) -> Result<FileLock, Error> {
        administer(&self.locks).map_err(Error::io("could not lock the buckets"))
    }

    /// Locks a bucket against its deletion.
    pub(super) fn enter(&self, bucket: &BucketName) -> Result<Held, Error> {
        locks::of_bucket(&self.locks, bucket)
            .and_then(Held::shared)
            .map_err(Error::io("could not lock a bucket"))
    }

    /// Locks a bucket for its deletion.
    pub(super) fn close(&self, bucket: &BucketName) -> Result<Held, Error> {
        locks::of_bucket(&self.locks, bucket)
            .and_then(Held::alone)
            .map_err(Error::io("could not lock a bucket"))
    }
}

pub(super) fn administer(locks: &OwnedFd) -> Result<FileLock, Errno> {
    FileLock::wait(locks, "administration")
}

impl Drop for Peers {
    fn drop(&mut self) {
        // With something in it, it is for another to sweep.
        if let Some(Own { name, .. }) = &self.own
            && sys::unlinkat(&self.staging, name, AtFlags::REMOVEDIR).is_ok()
            && let Err(error) = dir::unlink(&self.locks, name)
        {
            tracing::warn!(%error, "could not remove a lock file");
        }
    }
}

impl Store {
    /// Clears the staging of processes that have ended, and what is there of one that served the root alone. How many
    /// processes those were. 0 where another one is just doing it.
    pub(super) fn sweep_peers(&self) -> Result<usize, Error> {
        const FAILED: &str = "could not clear .t2/staging";
        let Some(peers) = &self.peers else {
            return Ok(0);
        };
        let Some(Own { name: own, .. }) = &peers.own else {
            return Ok(0);
        };
        // What ended processes have left tells what is to be changed.
        if self.durable.check_writable().is_err() {
            return Ok(0);
        }
        let failed = || Error::io(FAILED);
        let Some(_sweeping) = FileLock::try_now(&*peers.locks, "sweep").map_err(failed())? else {
            return Ok(0);
        };
        let mut swept = 0;
        let (processes, rest): (Vec<_>, Vec<_>) = dir::names(&peers.staging)
            .map_err(failed())?
            .into_iter()
            .partition(|name| name.starts_with(PROCESS));
        if !rest.is_empty() {
            self.clear_names(&peers.staging, rest).map_err(failed())?;
        }
        for name in processes {
            if *name == **own {
                continue;
            }
            let Some(_ended) = FileLock::try_now(&*peers.locks, &name).map_err(failed())? else {
                continue;
            };
            match dir::resolve_dir(peers.staging.as_fd(), [&*name]) {
                // What stays is for the next round.
                Ok(left) if !self.clear(&left).map_err(failed())? => continue,
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed()(error)),
            }
            dir::remove_tree(peers.staging.as_fd(), &name, 1).map_err(failed())?;
            dir::unlink(&*peers.locks, &name).map_err(failed())?;
            swept += 1;
        }
        // Locks of processes that ended between the two steps of their beginning, or of their end.
        for name in dir::names(&*peers.locks).map_err(failed())? {
            if name.starts_with(PROCESS)
                && *name != **own
                && let Some(_ended) = FileLock::try_now(&*peers.locks, &name).map_err(failed())?
                && !is_there(&peers.staging, &name).map_err(failed())?
            {
                dir::unlink(&*peers.locks, &name).map_err(failed())?;
            }
        }
        self.moves.settle()?;
        Ok(swept)
    }
}

fn is_there(dir: &OwnedFd, name: &str) -> Result<bool, Errno> {
    match Meta::in_dir(dir, name) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
