//! The filesystem backend keeps the contract, and what it promises beyond.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "../model/any_keys.rs"]
mod any_keys;
mod beside;
mod commit;
mod copied;
mod crash;
mod damaged;
mod doctor;
mod everywhere;
mod faults;
mod full;
mod half_done;
mod hostile_names;
mod in_turn;
mod kept_lines;
mod kept_order;
mod large;
mod look;
mod mounted;
mod opening;
mod ops;
mod pages;
mod parts;
mod power_cut;
mod register;
mod shared;
mod strays;
mod tree;
mod unreadable;
mod versioned;
mod versions;
mod winners;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use t2gate_backends::{
    Backend, Durability, FsBackend, FsOpenError, FsOptions, SystemClock, Versioned, conformance::Subject,
    conformance_suite, versions_suite,
};
use tempfile::TempDir;

fn open() -> (Arc<dyn Backend>, TempDir) {
    let root = tempfile::tempdir().unwrap();
    let options = FsOptions::new(root.path(), Arc::new(SystemClock));
    (Arc::new(FsBackend::open(options).unwrap()), root)
}

conformance_suite!(open);

mod overlay {
    use super::*;

    fn open() -> (Arc<dyn Backend>, TempDir) {
        let root = dir_in_memory();
        let fs = FsBackend::open(options(root.path())).unwrap();
        let versioned = Versioned::new(fs, Arc::new(SystemClock)).expect("fs keeps what is displaced");
        (Arc::new(versioned), root)
    }

    versions_suite!(open);
}

/// For tests that would mostly wait for a disk, which is not what they are about. On a disk all the same where `TMPDIR`
/// says so, and where memory has no user extended attributes (before Linux 6.6) or less than 1 GiB of room.
pub(crate) fn dir_in_memory() -> TempDir {
    const ROOM: u64 = 1 << 30;
    static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let is_good = || -> Option<()> {
            let stat = rustix::fs::statvfs(memory).ok()?;
            let probe = tempfile::tempdir_in(memory).ok()?;
            rustix::fs::setxattr(probe.path(), "user.t2gate", b"x", rustix::fs::XattrFlags::empty()).ok()?;
            (stat.f_bavail.saturating_mul(stat.f_frsize) >= ROOM).then_some(())
        };
        if std::env::var_os("TMPDIR").is_none() && is_good().is_some() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        }
    });
    tempfile::tempdir_in(&*PLACE).unwrap()
}

/// A backend with a bucket, and the directory that it lies in. It does not sync, so that tests are quick.
struct Tree {
    subject: Subject,
    root: TempDir,
}

impl Tree {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::with(root, |_| {}).await
    }

    async fn with(root: TempDir, set: impl FnOnce(&mut FsOptions)) -> Self {
        let mut options = options(root.path());
        set(&mut options);
        let backend = FsBackend::open(options).unwrap();
        let subject = Subject::new(Arc::new(backend)).await;
        Self { subject, root }
    }

    /// Of the bucket.
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(self.subject.bucket.as_str()).join(name)
    }

    /// How many side files there are beyond those that objects with no more than a few attributes have.
    fn extra_sides(&self, objects: usize) -> usize {
        let expected = if beside::has_side_files(self.root.path()) {
            objects
        } else {
            0
        };
        beside::side_files(self.root.path()).len() - expected
    }

    /// How many entries a directory of the gateway's own has.
    fn count(&self, part: &str) -> usize {
        std::fs::read_dir(self.root.path().join(".t2").join(part))
            .unwrap()
            .count()
    }
}

impl std::ops::Deref for Tree {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}

/// Opens a root that was closed. A process that another test is just starting may hold the lock for a moment: it has all
/// descriptors until it is another program.
pub(crate) fn again<T>(mut open: impl FnMut() -> Result<T, FsOpenError>) -> T {
    for _ in 0..500 {
        match open() {
            Err(FsOpenError::Locked(_) | FsOpenError::NotShared(_)) => {
                std::thread::sleep(std::time::Duration::from_millis(10))
            }
            outcome => return outcome.unwrap(),
        }
    }
    open().unwrap()
}

/// Runs `test`, which is for a process of its own, in one; unless this is that process: then it says so.
pub(crate) fn is_child(test: &str) -> bool {
    is_child_with(test, [])
}

/// The same, with more in the environment of that process.
pub(crate) fn is_child_with<'a>(test: &str, set: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
    const CHILD: &str = "T2GATE_FS_CHILD";
    if std::env::var(CHILD).is_ok() {
        return true;
    }
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(CHILD, "1")
        .envs(set)
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(said.contains("1 passed"), "{test}: {said}");
    false
}

/// Whether names fold, for all of this process: see `T2GATE_TEST_FOLDING`.
pub(crate) fn names_fold() -> bool {
    std::env::var_os(FOLDING).is_some()
}

/// Set to `folding` or `narrow` for a process that is to find names folded, and for all that it starts.
pub(crate) const FOLDING: &str = "T2GATE_TEST_FOLDING";

fn open_at(root: &Path) -> Result<FsBackend, FsOpenError> {
    FsBackend::open(options(root))
}

fn options(root: &Path) -> FsOptions {
    FsOptions {
        durability: Durability::ProcessSafe,
        ..FsOptions::new(root, Arc::new(SystemClock))
    }
}
