//! Locks inside this process and, where several serve one root, between processes.
//!
//! The order, each before those below it; of one level nobody holds two:
//! 1. the sweep's (between processes alone; nobody waits for it)
//! 2. the administration's: buckets are created, changed, deleted
//! 3. an upload's, then its claims'
//! 4. a bucket's: shared by what creates anything in it, exclusive for its deletion and for a change of its settings
//! 5. a key's
//! 6. that of moves
//!
//! At each level the lock inside the process comes first, so that its threads wait for each other there; then the lock
//! file's. No move's is held across a sync. A key's is
//!
//! - where a writer has lost six races for it, or a version cannot be linked;
//! - where a version goes for good whose name must not go, or stay, without another change: a kept `null` that is replaced, a
//!   current one with two names, and one that the current object only looks like;
//! - with side files, where a record is written again: of a new version whose stamp was too old, and, also by who only
//!   reads, of a file that came with the record of another version.
//!
//! An upload's, a bucket's (while something steps aside for a directory, or its settings change) and the
//! administration's may be.
//!
//! Lock files lie in `.t2/locks`, those of an upload with it. What they are called, and how keys and buckets are
//! distributed over them, is part of the format: all processes have to agree.

pub(super) mod file;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fd::OwnedFd,
    fs::{self, FlockOperation},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use self::file::{Gated, LockFile};
use super::{
    crash::{self, Call},
    dir::Meta,
    error::Error,
};
use crate::{BackendError, BucketName, PartNumber, UploadId};

/// One for each first byte of a digest.
const KEY_SHARDS: usize = 256;
const BUCKET_SHARDS: u8 = 64;

/// Makes the lock files that are many: on a full disk they are not to be missing.
pub(super) fn make_files(dir: &OwnedFd) -> Result<(), Errno> {
    for shard in 0..=u8::MAX {
        file::open(dir, &key_name(shard))?;
    }
    for shard in 0..BUCKET_SHARDS {
        open_bucket(dir, shard)?;
    }
    Ok(())
}

fn key_name(shard: u8) -> String {
    format!("key.{shard:02x}")
}

fn open_bucket(dir: &OwnedFd, shard: u8) -> Result<Gated, Errno> {
    Gated::open(dir, &format!("gate.{shard:02x}"), &format!("bucket.{shard:02x}"))
}

/// Serialises what is judged and changed together under one key.
#[derive(Debug)]
pub(super) struct KeyLocks {
    /// Where the lock files are.
    dir: Option<Arc<OwnedFd>>,
    lock_file: LockFile,
    /// All keys of a bucket share one: where several of them may have one name, the kernel alone knows which.
    by_bucket: bool,
    /// With the lock file, once it was used.
    shards: Box<[Mutex<Option<OwnedFd>>]>,
}

impl KeyLocks {
    /// With the directory of the lock files, if there are other processes.
    pub(super) fn new(dir: Option<Arc<OwnedFd>>, lock_file: LockFile, by_bucket: bool) -> Self {
        Self {
            dir,
            lock_file,
            by_bucket,
            shards: (0..KEY_SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    pub(super) fn lock(&self, bucket: &BucketName, key: &str) -> Result<KeyGuard<'_>, Error> {
        let digest = Sha256::new()
            .chain_update(bucket.as_str())
            .chain_update("/")
            .chain_update(if self.by_bucket { "" } else { key })
            .finalize();
        // What is guarded lies on the disk, where a panic left it as a crash would: in order.
        let mut file = self.shards[usize::from(digest[0])]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &self.dir {
            let opened = || self.lock_file.open(dir, &key_name(digest[0]));
            wait_for_key(opened, &mut file).map_err(Error::io("could not lock a key"))?;
        }
        Ok(KeyGuard(file))
    }
}

fn wait_for_key(open: impl FnOnce() -> Result<OwnedFd, Errno>, file: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let file = match file {
        Some(file) => file,
        none => none.insert(open()?),
    };
    file::wait_for(file, FlockOperation::LockExclusive)
}

/// A key is locked until this is dropped.
#[derive(Debug)]
pub(super) struct KeyGuard<'a>(MutexGuard<'a, Option<OwnedFd>>);

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        if let Some(file) = &*self.0
            && let Err(error) = file::wait_for(file, FlockOperation::Unlock)
        {
            tracing::warn!(%error, "could not unlock a key");
            // Closed, it is unlocked too.
            *self.0 = None;
        }
    }
}

/// The lock of a bucket between processes, which it shares with some others.
pub(super) fn of_bucket(dir: &OwnedFd, bucket: &BucketName) -> Result<Gated, Errno> {
    open_bucket(dir, Sha256::digest(bucket.as_str())[0] % BUCKET_SHARDS)
}

/// What the calls under way in this process for one upload have in common.
#[derive(Debug, Default)]
pub(super) struct UploadLock {
    /// Whether the upload is over. Shared by the writers of parts for each step that changes anything, exclusive for
    /// Complete and Abort.
    pub(super) ended: RwLock<bool>,
    /// The places that parts are being written to: of parts of a size, a number.
    claims: Mutex<BTreeSet<(u64, PartNumber)>>,
    /// For which sizes of parts the names of their files are known to be durable.
    named: Mutex<BTreeSet<u64>>,
}

impl UploadLock {
    /// As long as this is held the upload is not ended by this process.
    pub(super) fn under_way(&self) -> Result<RwLockReadGuard<'_, bool>, BackendError> {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Err(BackendError::NoSuchUpload);
        }
        Ok(ended)
    }

    pub(super) fn named(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
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
///
/// Between processes the size of a file is the count: it is odd while something moves, and grows when that begins and
/// when it ends. A process that was killed leaves it odd: until the next move all readers wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Moves {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Shared by what moves.
    pause: RwLock<()>,
    /// Locked by whoever moves something, shared by readers that others have to wait for. Neither is inside more than
    /// one thread of a process at a time: what moves has the mutex, and a reader has `pause` alone.
    file: Option<(OwnedFd, Mutex<()>)>,
}

impl Moves {
    /// Where there are other processes: with the directory of the lock files.
    pub(super) fn between_processes(dir: &OwnedFd, lock_file: LockFile) -> Result<Self, Errno> {
        Ok(Self {
            file: Some((lock_file.open(dir, "moves")?, Mutex::default())),
            ..Self::default()
        })
    }

    /// To be held while the names change.
    pub(super) fn begin(&self) -> Result<Moving<'_>, Error> {
        let running = self.pause.read().unwrap_or_else(PoisonError::into_inner);
        let counted = match &self.file {
            Some((file, turn)) => {
                let turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                let counted = Counted::begin(file, turn);
                Some(counted.map_err(Error::io("could not count a move"))?)
            }
            None => None,
        };
        self.begun.fetch_add(1, Ordering::SeqCst);
        Ok(Moving {
            moves: self,
            _counted: counted,
            _running: running,
        })
    }

    /// `read`, repeated until nothing moved while it ran. For the last of a few attempts what moves has to wait.
    pub(super) fn undisturbed<T>(&self, mut read: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        const ATTEMPTS: usize = 8;
        for _ in 1..ATTEMPTS {
            let Some(before) = self.count()? else {
                break;
            };
            let outcome = read()?;
            if self.count()? == Some(before) {
                return Ok(outcome);
            }
        }
        let _paused = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        let Some((file, _)) = &self.file else {
            return read();
        };
        file::wait_for(file, FlockOperation::LockShared)?;
        let outcome = read();
        file::wait_for(file, FlockOperation::Unlock)?;
        outcome
    }

    /// After the end of a process that may have left the count odd.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let is_odd = self.count().map_err(Error::io("could not look for moves"))?.is_none();
        if is_odd {
            drop(self.begin()?);
        }
        Ok(())
    }

    /// How many moves there have been. `None` while one is under way.
    fn count(&self) -> Result<Option<u64>, Errno> {
        if let Some((file, _)) = &self.file {
            let size = Meta::brief(file)?.size;
            return Ok((size % 2 == 0).then_some(size));
        }
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        Ok((begun == ended).then_some(begun))
    }
}

/// A move under way.
#[derive(Debug)]
pub(super) struct Moving<'a> {
    moves: &'a Moves,
    _counted: Option<Counted<'a>>,
    _running: RwLockReadGuard<'a, ()>,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.moves.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A move under way that other processes can see.
#[derive(Debug)]
struct Counted<'a> {
    file: &'a OwnedFd,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Counted<'a> {
    fn begin(file: &'a OwnedFd, turn: MutexGuard<'a, ()>) -> Result<Self, Errno> {
        file::wait_for(file, FlockOperation::LockExclusive)?;
        let counted = Self { file, _turn: turn };
        // From one that was even, or that somebody left odd, to the next odd one.
        let size = Meta::brief(file)?.size;
        set_count(file, (size + 1) | 1)?;
        Ok(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // Where it stays odd, readers wait for their turn: slower, and right.
        let end = || -> Result<(), Errno> {
            let size = Meta::brief(self.file)?.size;
            set_count(self.file, size + size % 2)
        };
        let ended = end();
        if let Err(error) = ended.and(file::wait_for(self.file, FlockOperation::Unlock)) {
            tracing::warn!(%error, "could not say that a move has ended");
        }
    }
}

fn set_count(file: &OwnedFd, count: u64) -> Result<(), Errno> {
    crash::fault(Call::Add)?;
    fs::ftruncate(file, count)?;
    crash::point();
    Ok(())
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
                drop(moves.begin().unwrap());
            }
            Ok(reads)
        });
        assert_eq!(read, Ok(3));
        // One that goes on and on is waited for.
        let (began, has_begun) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let moving = moves.begin().unwrap();
                began.send(()).unwrap();
                // Until it is waited for: then nobody else gets in.
                while moves.pause.try_read().is_ok() {
                    std::thread::yield_now();
                }
                drop(moving);
            });
            has_begun.recv().unwrap();
            let still = moves.undisturbed(|| Ok(moves.pause.try_read().is_err()));
            assert_eq!(still, Ok(true));
        });
    }

    fn dir() -> (tempfile::TempDir, OwnedFd) {
        let temp = tempfile::tempdir().unwrap();
        let dir = fs::open(
            temp.path(),
            fs::OFlags::RDONLY | fs::OFlags::DIRECTORY,
            fs::Mode::empty(),
        )
        .unwrap();
        (temp, dir)
    }

    #[test]
    fn what_another_process_moved_during_a_reading_is_read_again() {
        let (temp, dir) = dir();
        let [ours, theirs] = [(); 2].map(|()| Moves::between_processes(&dir, LockFile::Made).unwrap());
        let mut reads = 0;
        let read = ours.undisturbed(|| {
            reads += 1;
            if reads < 3 {
                drop(theirs.begin().unwrap());
            }
            Ok(reads)
        });
        assert_eq!(read, Ok(3));
        // One under way is waited for, and the next has to wait for the reader.
        let moved = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let moving = theirs.begin().unwrap();
            let reader = scope.spawn(|| ours.undisturbed(|| Ok(moved.load(Ordering::SeqCst))));
            std::thread::sleep(std::time::Duration::from_millis(50));
            moved.store(1, Ordering::SeqCst);
            drop(moving);
            assert_eq!(reader.join().unwrap(), Ok(1));
        });
        // One that was killed is not waited for, and forgotten after the next.
        std::fs::File::options()
            .write(true)
            .open(temp.path().join("moves"))
            .unwrap()
            .set_len(7)
            .unwrap();
        assert_eq!(ours.count(), Ok(None));
        assert_eq!(ours.undisturbed(|| Ok(())), Ok(()));
        theirs.settle().unwrap();
        assert_eq!(ours.count(), Ok(Some(10)));
    }

    #[test]
    fn a_key_that_another_process_has_locked_is_waited_for() {
        waits_for("key", false, "key");
    }

    #[test]
    fn where_names_are_folded_all_keys_of_a_bucket_are_one_for_other_processes_too() {
        waits_for("key", true, "KEY");
        waits_for("key", true, "another");
    }

    fn waits_for(held: &str, by_bucket: bool, wanted: &str) {
        let (_temp, dir) = dir();
        let dir = Arc::new(dir);
        let [ours, theirs] = [(); 2].map(|()| KeyLocks::new(Some(Arc::clone(&dir)), LockFile::Made, by_bucket));
        let bucket = BucketName::parse("bucket").unwrap();
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let held = theirs.lock(&bucket, held).unwrap();
            let waiting = scope.spawn(|| {
                let _guard = ours.lock(&bucket, wanted).unwrap();
                done.load(Ordering::SeqCst)
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            done.store(1, Ordering::SeqCst);
            drop(held);
            assert_eq!(waiting.join().unwrap(), 1);
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
