//! What makes a change survive, and what follows when that fails.

mod group;

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs,
    io::Errno,
};

use self::group::SyncGroup;
use super::{
    crash::{self, Call},
    dir::{self, Meta},
    error::Error,
    object::strs,
    xattr,
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

/// Of so many directories at most the descriptors are held for one sync. On a way with more that are new, a key of hundreds of
/// segments, the whole file system is synced.
const MAX_HOLDERS: usize = 32;

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
    /// Set where a sync may be content on a file system that has stopped: a file that such a one refuses to change.
    witness: Option<OwnedFd>,
    /// Set where writers may share syncs.
    shared: Option<Shared>,
    /// Directories whose own entries are durable, up to the bucket.
    known: Mutex<HashSet<DirId>>,
    /// Every write is refused. A sync failed after a change, and what is on the disk is not what readers were shown; or
    /// nothing was ever to be changed.
    refusing: AtomicBool,
    /// How many syncs the kernel was asked for.
    syncs: AtomicU64,
}

/// A file system on which one sync can be for many.
#[derive(Debug)]
struct Shared {
    /// Open for as long as the backend is: the kernel tells an open file of each failure once, and of none from before.
    root: OwnedFd,
    dev: (u32, u32),
    group: SyncGroup,
}

impl Shared {
    /// `None` where `syncfs` does not say enough: before Linux 5.8 it kept errors to itself.
    fn of(root: &OwnedFd) -> Option<Self> {
        if !kernel_reports_errors() {
            return None;
        }
        let root = dir::resolve_dir(root.as_fd(), []).ok()?;
        let dev = Meta::of(&root).ok()?.dev;
        Some(Self {
            root,
            dev,
            group: SyncGroup::default(),
        })
    }
}

/// A file of ours where `syncfs` is known to mean what it says, but for what [`confirm`] is for. On file systems that we do
/// not know it may mean less.
fn witness(root: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    const EXT4: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683E;
    if !matches!(fs::fstatfs(root)?.f_type, EXT4 | XFS | BTRFS) {
        return Ok(None);
    }
    let lock = dir::resolve(root.as_fd(), [".t2", "lock"], fs::OFlags::RDWR)?;
    confirm(&lock)?;
    Ok(Some(lock))
}

/// Syncs the whole file system of `root`, and fails where that is not to be [believed](confirm).
pub(super) fn sync_root(root: &OwnedFd) -> Result<(), Errno> {
    let witness = witness(root)?;
    fs::syncfs(root)?;
    witness.as_ref().map_or(Ok(()), confirm)
}

/// To be asked after a sync that succeeded. On a file system that was shut down, or whose journal has failed meanwhile,
/// `syncfs`, and on XFS the `fsync` of a directory, may find nothing left to do and be content. Such a state is for
/// good, and then no file can be changed: so a change is tried.
fn confirm(witness: &OwnedFd) -> Result<(), Errno> {
    let set = crash::fault(Call::Add).and_then(|()| xattr::set(witness, "user.t2gate.synced", b"1"));
    match set {
        // XFS and btrfs have no room for it on a disk that is full. No error of ext4's journal is told of a change of times,
        // but that it has stopped is.
        Err(Errno::NOTSUP | Errno::NOSPC | Errno::DQUOT) => {
            crash::fault(Call::Add)?;
            fs::futimens(
                witness,
                &fs::Timestamps {
                    last_access: time(fs::UTIME_OMIT),
                    last_modification: time(fs::UTIME_NOW),
                },
            )
        }
        outcome => outcome,
    }
}

/// One of the values that stand for no time of their own.
fn time(nanos: i64) -> fs::Timespec {
    fs::Timespec {
        tv_sec: 0,
        tv_nsec: nanos,
    }
}

impl Durable {
    /// Fails where it cannot be had what this file system needs so that its syncs are to be believed.
    pub(super) fn new(durability: Durability, root: &OwnedFd) -> Result<Self, Errno> {
        let witness = witness(root)?;
        let may_share = witness.is_some() && durability == Durability::PowerSafe;
        Ok(Self {
            durability,
            shared: may_share.then(|| Shared::of(root)).flatten(),
            witness,
            known: Mutex::new(HashSet::new()),
            refusing: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        })
    }

    /// For a root in which nothing is to be changed.
    pub(super) fn refusing() -> Self {
        Self {
            durability: Durability::ProcessSafe,
            witness: None,
            shared: None,
            known: Mutex::default(),
            refusing: AtomicBool::new(true),
            syncs: AtomicU64::new(0),
        }
    }

    /// Whether anything is synced but what must be.
    pub(super) fn is_power_safe(&self) -> bool {
        self.durability == Durability::PowerSafe
    }

    /// Before any write.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        if self.refusing.load(Ordering::Acquire) {
            return Err(BackendError::ReadOnly.into());
        }
        Ok(())
    }

    /// How many syncs the kernel was asked for, of whatever kind.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Syncs what is not visible yet.
    pub(super) fn before(&self, fd: impl AsFd) -> Result<(), Error> {
        self.before_all(&[fd.as_fd()])
    }

    /// As [`before`](Self::before), for several at the price of one.
    pub(super) fn before_all(&self, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.sync(fds).map_err(Error::io("could not sync a new file"))
    }

    /// Writes the data of a file that is not visible yet to the disk, without others: they need not wait for a large
    /// one. It is not durable before it is [synced](Self::before).
    pub(super) fn flush_data(&self, file: impl AsFd) -> Result<(), Error> {
        match self.durability {
            Durability::PowerSafe => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
                let outcome = crash::fault(Call::Sync).and_then(|()| fs::fdatasync(file));
                outcome.map_err(Error::io("could not sync a new file"))
            }
            Durability::ProcessSafe => Ok(()),
        }
    }

    /// Makes all durable that is visible below `root`: before anything is removed that it may replace.
    pub(super) fn all_that_is_visible(&self, root: &OwnedFd) -> Result<(), Errno> {
        if self.durability == Durability::ProcessSafe {
            return Ok(());
        }
        self.sync_all(root.as_fd())
    }

    fn sync_all(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        crash::fault(Call::Sync)?;
        fs::syncfs(root)?;
        self.confirm()
    }

    /// After a sync that succeeded: whether it is to be believed.
    fn confirm(&self) -> Result<(), Errno> {
        self.witness.as_ref().map_or(Ok(()), confirm)
    }

    /// As [`all_that_is_visible`](Self::all_that_is_visible), for what an answer says is there.
    pub(super) fn after_all_that_is_visible(&self, root: &OwnedFd) -> Result<(), Error> {
        self.all_that_is_visible(root).map_err(|source| self.failed(source))
    }

    /// Syncs now, whatever the level: for the few records without which nothing can be served.
    pub(super) fn always(&self, fd: impl AsFd) -> Result<(), Errno> {
        crash::point();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        crash::fault(Call::Sync)?;
        fs::fsync(fd)?;
        self.confirm()
    }

    /// As [`after`](Self::after), whatever the level.
    pub(super) fn always_after(&self, dir: impl AsFd) -> Result<(), Error> {
        self.always(dir).map_err(|source| self.failed(source))
    }

    /// Syncs a directory in which a change has become visible.
    pub(super) fn after(&self, dir: impl AsFd) -> Result<(), Error> {
        self.after_all(&[dir.as_fd()])
    }

    /// As [`after`](Self::after), for several at the price of one.
    pub(super) fn after_all(&self, dirs: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.sync(dirs).map_err(|source| self.failed(source))
    }

    /// As [`after_all`](Self::after_all) for files, and for directories, with the entry of every directory on the way there
    /// that is not known to be durable; at the price of one.
    pub(super) fn after_spots(&self, files: &[BorrowedFd<'_>], spots: &[Spot<'_>]) -> Result<(), Error> {
        self.sync_spots(files, spots).map_err(|source| self.failed(source))
    }

    /// As [`after_spots`](Self::after_spots), for what is not visible yet.
    pub(super) fn before_spots(&self, files: &[BorrowedFd<'_>], spots: &[Spot<'_>]) -> Result<(), Error> {
        self.sync_spots(files, spots)
            .map_err(Error::io("could not sync a new file"))
    }

    fn sync_spots(&self, files: &[BorrowedFd<'_>], spots: &[Spot<'_>]) -> Result<(), Errno> {
        if self.durability == Durability::ProcessSafe {
            return self.sync(files);
        }
        let mut ways = Vec::new();
        let mut lost = Vec::new();
        for spot in spots {
            let last = Meta::of(spot.dir).map(DirId::from)?;
            if self.known().contains(&last) {
                continue;
            }
            match self.unknown_on_the_way(spot.base, strs(spot.names)) {
                Ok(way) => {
                    lost.extend(way.is_long.then_some(spot.base));
                    ways.push((spot.base, way));
                }
                // Removed meanwhile, or an object has taken its name since: and so what lay in it went.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                // No descriptor is left, say: nothing failed to be synced, and the whole file system can be.
                Err(_) => lost.push(spot.base),
            }
        }
        let mut all = files.to_vec();
        all.extend(spots.iter().map(|spot| spot.dir.as_fd()));
        for (base, way) in &ways {
            all.extend(way.bucket.then_some(*base));
            all.extend(way.holders.iter().map(AsFd::as_fd));
        }
        self.sync(&all)?;
        lost.into_iter().try_for_each(|base| self.sync_all(base))?;
        let mut known = self.known();
        for (_, way) in ways {
            if known.len() + way.passed.len() > MAX_KNOWN {
                known.clear();
            }
            // Without times of birth a directory cannot be told from one that had its number before.
            known.extend(way.passed.into_iter().filter(|id| id.btime != (0, 0)));
        }
        Ok(())
    }

    /// The directories whose entries are not known to be durable, and those that hold these entries.
    fn unknown_on_the_way<'a>(
        &self,
        bucket: BorrowedFd<'_>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Way, Errno> {
        let mut way = Way::default();
        let mut parent: Option<OwnedFd> = None;
        for name in names {
            let child = dir::resolve_dir(parent.as_ref().map_or(bucket, AsFd::as_fd), [name])?;
            let id = DirId::from(Meta::of(&child)?);
            if !self.known().contains(&id) {
                way.passed.push(id);
                match parent {
                    _ if way.is_long => {}
                    Some(_) if way.holders.len() == MAX_HOLDERS => {
                        way.is_long = true;
                        way.holders.clear();
                    }
                    Some(parent) => way.holders.push(parent),
                    None => way.bucket = true,
                }
            }
            parent = Some(child);
        }
        Ok(way)
    }

    /// Makes all of `fds` durable, with data, attributes and entries.
    fn sync(&self, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        if self.durability == Durability::ProcessSafe {
            return Ok(());
        }
        crash::point();
        let own = || {
            fds.iter().try_for_each(|fd| {
                self.syncs.fetch_add(1, Ordering::Relaxed);
                crash::fault(Call::Sync)?;
                fs::fsync(fd)
            })
        };
        let confirmed = |outcome: Result<(), Errno>| outcome.and_then(|()| self.confirm());
        let Some(shared) = self.shared.as_ref().filter(|shared| lie_on(fds, shared.dev)) else {
            return confirmed(own());
        };
        let all = || {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            fs::syncfs(&shared.root)
        };
        shared.group.sync(|| confirmed(own()), || confirmed(all()))
    }

    fn failed(&self, source: Errno) -> Error {
        if !self.refusing.swap(true, Ordering::AcqRel) {
            tracing::error!(
                error = %source,
                "a sync failed after a change: nothing more is written by this process; look at the disk, then start the gateway again"
            );
        }
        Error::NotDurable {
            action: "could not sync a directory",
            source,
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<DirId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory, and the way to it from one whose own entry is durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) base: BorrowedFd<'a>,
    pub(super) names: &'a [Box<str>],
    pub(super) dir: &'a OwnedFd,
}

/// From a bucket to a directory in it.
#[derive(Debug, Default)]
struct Way {
    /// Not yet known to be durable.
    passed: Vec<DirId>,
    /// Whether the bucket holds one of them.
    bucket: bool,
    /// The other directories that do.
    holders: Vec<OwnedFd>,
    /// There are too many of them: so they are not here.
    is_long: bool,
}

/// What is mounted inside a bucket is another file system's.
fn lie_on(fds: &[BorrowedFd<'_>], dev: (u32, u32)) -> bool {
    fds.iter().all(|fd| Meta::of(fd).is_ok_and(|meta| meta.dev == dev))
}

fn kernel_reports_errors() -> bool {
    let release = rustix::system::uname();
    let Ok(release) = release.release().to_str() else {
        return false;
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 8),
        _ => false,
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
    fn a_way_of_many_new_directories_takes_few_descriptors_and_few_syncs() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join(".t2")).unwrap();
        std::fs::write(temp.path().join(".t2/lock"), "").unwrap();
        let names = vec![Box::from("d"); 200];
        std::fs::create_dir_all(temp.path().join(names.join("/"))).unwrap();
        let root: OwnedFd = std::fs::File::open(temp.path()).unwrap().into();
        let durable = Durable::new(Durability::PowerSafe, &root).unwrap();
        let deepest = dir::resolve_dir(root.as_fd(), strs(&names)).unwrap();
        let spot = Spot {
            base: root.as_fd(),
            names: &names,
            dir: &deepest,
        };
        let way = durable.unknown_on_the_way(root.as_fd(), strs(&names)).unwrap();
        assert_eq!(way.passed.len(), names.len());
        assert!(way.holders.len() < 50, "{}", way.holders.len());
        for few in [4, 1] {
            let before = durable.syncs();
            durable.after_spots(&[], &[spot]).unwrap();
            assert!(durable.syncs() - before <= few, "{}", durable.syncs() - before);
        }
    }

    #[test]
    fn after_a_failed_sync_of_a_change_nothing_is_written_any_more() {
        let temp = tempfile::tempdir().unwrap();
        let open = |flags| fs::open(temp.path(), flags | fs::OFlags::DIRECTORY, fs::Mode::empty()).unwrap();
        // What is open as a path alone cannot be synced.
        let (good, bad) = (open(fs::OFlags::RDONLY), open(fs::OFlags::PATH));
        std::fs::create_dir(temp.path().join(".t2")).unwrap();
        let refused = Durable::new(Durability::PowerSafe, &good).map(|_| ());
        std::fs::write(temp.path().join(".t2/lock"), "").unwrap();
        let durable = Durable::new(Durability::PowerSafe, &good).unwrap();
        // On a file system that we know nothing is begun without a witness.
        assert_eq!(refused.is_err(), durable.witness.is_some());
        assert!(matches!(durable.before(&bad), Err(Error::Io { .. })));
        durable.after(&good).unwrap();
        durable.check_writable().unwrap();
        assert!(matches!(durable.after(&bad), Err(Error::NotDurable { .. })));
        let refused = durable.check_writable().map_err(BackendError::from);
        assert!(matches!(refused, Err(BackendError::ReadOnly)));
    }
}
