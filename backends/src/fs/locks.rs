//! Locks inside this process. None is held across a sync, except an upload's, which is nobody else's.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{BackendError, BucketName, PartNumber, UploadId};

const SHARDS: usize = 256;

/// Serialises what is judged and changed together under one key. At most one is held by a thread, and it is taken
/// after the bucket's.
#[derive(Debug)]
pub(super) struct KeyLocks {
    hasher: RandomState,
    shards: Box<[Mutex<()>]>,
}

impl KeyLocks {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(())).collect(),
        }
    }

    pub(super) fn lock(&self, bucket: &BucketName, key: &str) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one((bucket, key));
        let shard = &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)];
        // What is guarded lies on the disk, where a panic left it as a crash would: in order.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the calls under way for one upload have in common.
#[derive(Debug, Default)]
pub(super) struct UploadLock {
    /// Whether the upload is over. Shared by the writers of parts for each step that changes anything, exclusive for
    /// Complete and Abort.
    pub(super) ended: RwLock<bool>,
    /// The places that parts are being written to: of parts of a size, a number.
    claims: Mutex<BTreeSet<(u64, PartNumber)>>,
}

impl UploadLock {
    /// As long as this is held the upload does not end.
    pub(super) fn under_way(&self) -> Result<RwLockReadGuard<'_, bool>, BackendError> {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Err(BackendError::NoSuchUpload);
        }
        Ok(ended)
    }

    /// Taken after `ended`.
    pub(super) fn claims(&self) -> MutexGuard<'_, BTreeSet<(u64, PartNumber)>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock for each upload in use. Taken before the bucket's.
#[derive(Debug, Default)]
pub(super) struct UploadLocks(Mutex<HashMap<UploadId, Arc<UploadLock>>>);

impl UploadLocks {
    pub(super) fn of(&self, upload: &UploadId) -> Arc<UploadLock> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds are dropped once in a while, at a cost that the insertions in between have paid for.
        if locks.len() >= 64 && locks.len().is_power_of_two() {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(locks.entry(upload.clone()).or_default())
    }
}

/// Counts objects that change from one of their two names to the other, so that whoever reads a directory meanwhile,
/// and may have seen neither, knows to read it again.
#[derive(Debug, Default)]
pub(super) struct Moves {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Shared by what moves.
    pause: RwLock<()>,
}

impl Moves {
    /// To be held while the names change.
    pub(super) fn begin(&self) -> Moving<'_> {
        let running = self.pause.read().unwrap_or_else(PoisonError::into_inner);
        self.begun.fetch_add(1, Ordering::SeqCst);
        Moving {
            moves: self,
            _running: running,
        }
    }

    /// `read`, repeated until nothing moved while it ran. For the last of a few attempts what moves has to wait.
    pub(super) fn undisturbed<T, E>(&self, mut read: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        const ATTEMPTS: usize = 8;
        for _ in 1..ATTEMPTS {
            let ended = self.ended.load(Ordering::SeqCst);
            let begun = self.begun.load(Ordering::SeqCst);
            let outcome = read()?;
            if begun == ended && self.begun.load(Ordering::SeqCst) == begun {
                return Ok(outcome);
            }
        }
        let _paused = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        read()
    }
}

/// A move under way.
#[derive(Debug)]
pub(super) struct Moving<'a> {
    moves: &'a Moves,
    _running: RwLockReadGuard<'a, ()>,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.moves.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_during_a_move_is_read_again() {
        let moves = Moves::default();
        let mut reads = 0;
        let read = moves.undisturbed(|| {
            reads += 1;
            if reads < 3 {
                drop(moves.begin());
            }
            Ok::<_, ()>(reads)
        });
        assert_eq!(read, Ok(3));
        // One that goes on and on is waited for.
        let (began, has_begun) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let moving = moves.begin();
                began.send(()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(50));
                drop(moving);
            });
            has_begun.recv().unwrap();
            let still = moves.undisturbed(|| Ok::<_, ()>(moves.pause.try_read().is_err()));
            assert_eq!(still, Ok(true));
        });
    }

    #[test]
    fn locks_of_uploads_that_nobody_holds_are_dropped() {
        let locks = UploadLocks::default();
        let held = locks.of(&UploadId::parse("held").unwrap());
        for n in 0..1000 {
            drop(locks.of(&UploadId::parse(format!("upload-{n}")).unwrap()));
        }
        assert!(locks.0.lock().unwrap().len() <= 64);
        assert!(Arc::ptr_eq(&held, &locks.of(&UploadId::parse("held").unwrap())));
    }
}
