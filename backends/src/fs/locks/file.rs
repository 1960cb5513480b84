//! Locks between processes: `flock` on files that nobody reads. The kernel frees them when their holder ends, however it
//! does. Each belongs to an open file, so that two backends in one process exclude each other as two processes do.

use std::borrow::Borrow;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::fs::{
    crash::{self, Call},
    dir::Meta,
    sys,
};

/// How often a lock file is opened again that its last holder removed meanwhile.
const MAX_ATTEMPTS: usize = 16;

/// Whether a lock file is made where it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum LockFile {
    Made,
    Existing,
}

impl LockFile {
    pub(in crate::fs) fn open(self, dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
        match self {
            Self::Made => open(dir, name),
            Self::Existing => open_existing(dir, name),
        }
    }
}

/// Opens a lock file, which is made if it is not there.
pub(in crate::fs) fn open(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    crash::fault(Call::Open)?;
    crash::fault(Call::Add)?;
    let file = sys::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    crash::point();
    Ok(file)
}

/// Opens a lock file that is there.
pub(in crate::fs) fn open_existing(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    crash::fault(Call::Open)?;
    sys::openat(dir, name, flags, Mode::empty())
}

/// Waits as long as it takes.
pub(in crate::fs) fn wait_for(file: impl AsFd, operation: FlockOperation) -> Result<(), Errno> {
    if operation != FlockOperation::Unlock {
        crash::fault(Call::Lock)?;
    }
    loop {
        match fs::flock(&file, operation) {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// Does not wait: `false` where somebody else has it.
pub(in crate::fs) fn try_for(file: impl AsFd, operation: FlockOperation) -> Result<bool, Errno> {
    match wait_for(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(in crate::fs) struct FileLock(OwnedFd);

impl FileLock {
    /// Of that file, alone or shared. Does not wait: `None` where somebody else's keeps it out.
    pub(in crate::fs) fn take(file: OwnedFd, operation: FlockOperation) -> Result<Option<Self>, Errno> {
        let taken = try_for(&file, operation)?;
        Ok(taken.then(|| Self(file)))
    }

    pub(in crate::fs) fn wait(dir: impl AsFd, name: &str) -> Result<Self, Errno> {
        let file = open(dir, name)?;
        wait_for(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// `None` where somebody else has it. For files that their holder removes: what is held is still there by its name.
    pub(in crate::fs) fn try_now(dir: impl AsFd, name: &str) -> Result<Option<Self>, Errno> {
        for _ in 0..MAX_ATTEMPTS {
            let file = open(&dir, name)?;
            if !try_for(&file, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(None);
            }
            let lock = Self(file);
            if Meta::brief(&lock.0)?.nlink > 0 {
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }

    /// Whether somebody holds the lock of this name. One that is not there nobody holds.
    pub(in crate::fs) fn is_held(dir: impl AsFd, name: &str) -> Result<bool, Errno> {
        match open_existing(dir, name) {
            Ok(file) => Ok(!try_for(&file, FlockOperation::NonBlockingLockShared)?),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        release(&self.0);
    }
}

/// To close the file is not enough: a process that is just being started has it open too, until it is another program.
fn release(file: &OwnedFd) {
    if let Err(error) = wait_for(file, FlockOperation::Unlock) {
        tracing::warn!(%error, "could not release a lock between processes");
    }
}

/// A lock that many share and one may have alone. Whoever wants it alone closes the gate first, so that it is not kept
/// from it for ever by newcomers.
#[derive(Debug)]
pub(in crate::fs) struct Gated {
    gate: OwnedFd,
    lock: OwnedFd,
}

impl Gated {
    /// Its two files in `dir`.
    pub(in crate::fs) fn open(dir: impl AsFd, gate: &str, lock: &str) -> Result<Self, Errno> {
        Ok(Self {
            gate: open(&dir, gate)?,
            lock: open(&dir, lock)?,
        })
    }
}

/// A [`Gated`] that is held, shared or alone, until this is dropped. No other thread uses the same one meanwhile.
#[derive(Debug)]
pub(in crate::fs) struct Held<G: Borrow<Gated> = Gated>(G);

impl<G: Borrow<Gated>> Held<G> {
    pub(in crate::fs) fn shared(gated: G) -> Result<Self, Errno> {
        let held = Self(gated);
        let Gated { gate, lock } = held.0.borrow();
        wait_for(gate, FlockOperation::LockShared)?;
        // Who has it alone has the gate: this does not wait.
        wait_for(lock, FlockOperation::LockShared)?;
        wait_for(gate, FlockOperation::Unlock)?;
        Ok(held)
    }

    pub(in crate::fs) fn alone(gated: G) -> Result<Self, Errno> {
        let held = Self(gated);
        let Gated { gate, lock } = held.0.borrow();
        wait_for(gate, FlockOperation::LockExclusive)?;
        wait_for(lock, FlockOperation::LockExclusive)?;
        Ok(held)
    }

    /// `None` where anybody else has it.
    pub(in crate::fs) fn try_alone(gated: G) -> Result<Option<Self>, Errno> {
        let held = Self(gated);
        let Gated { gate, lock } = held.0.borrow();
        let taken = try_for(gate, FlockOperation::NonBlockingLockExclusive)?
            && try_for(lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(taken.then_some(held))
    }
}

impl<G: Borrow<Gated>> Drop for Held<G> {
    fn drop(&mut self) {
        let Gated { gate, lock } = self.0.borrow();
        release(lock);
        release(gate);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    fn dir() -> (tempfile::TempDir, OwnedFd) {
        let temp = tempfile::tempdir().unwrap();
        let dir = fs::open(temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped_and_one_that_was_removed_is_none() {
        let (temp, dir) = dir();
        assert!(!FileLock::is_held(&dir, "a").unwrap());
        let held = FileLock::try_now(&dir, "a").unwrap().unwrap();
        assert!(FileLock::is_held(&dir, "a").unwrap());
        assert!(FileLock::try_now(&dir, "a").unwrap().is_none());
        std::fs::remove_file(temp.path().join("a")).unwrap();
        drop(held);
        assert!(!FileLock::is_held(&dir, "a").unwrap());
        assert!(FileLock::try_now(&dir, "a").unwrap().is_some());
    }

    /// As it is while another thread starts a program, between `fork` and `exec`.
    #[test]
    fn a_lock_that_is_dropped_is_free_though_its_file_is_open_elsewhere() {
        let (_temp, dir) = dir();
        for (operation, other) in [
            (
                FlockOperation::NonBlockingLockExclusive,
                FlockOperation::NonBlockingLockShared,
            ),
            (
                FlockOperation::NonBlockingLockShared,
                FlockOperation::NonBlockingLockExclusive,
            ),
        ] {
            let file = open(&dir, "a").unwrap();
            let _elsewhere = file.try_clone().unwrap();
            let held = FileLock::take(file, operation).unwrap().unwrap();
            assert!(FileLock::take(open(&dir, "a").unwrap(), other).unwrap().is_none());
            drop(held);
            assert!(FileLock::take(open(&dir, "a").unwrap(), other).unwrap().is_some());
        }
    }

    #[test]
    fn one_who_wants_it_alone_gets_it_though_others_come_and_go_without_end() {
        let (_temp, dir) = dir();
        let done = AtomicBool::new(false);
        let open = || Gated::open(&dir, "gate", "lock").unwrap();
        thread::scope(|scope| {
            let first = Held::shared(open()).unwrap();
            for _ in 0..8 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        let held = Held::shared(open()).unwrap();
                        thread::sleep(Duration::from_micros(500));
                        drop(held);
                    }
                });
            }
            assert!(Held::try_alone(open()).unwrap().is_none());
            drop(first);
            let alone = Held::alone(open()).unwrap();
            done.store(true, Ordering::SeqCst);
            assert!(Held::try_alone(open()).unwrap().is_none());
            drop(alone);
        });
        assert!(Held::try_alone(open()).unwrap().is_some());
    }
}
