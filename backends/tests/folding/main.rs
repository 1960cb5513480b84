//! The filesystem backend keeps its contract where names that differ in letter case or normal form are one: on a file
//! system in between that folds names, for all of this process.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "../model/any_keys.rs"]
mod any_keys;
#[path = "../model/harness.rs"]
mod harness;
#[path = "../model/op.rs"]
mod op;
#[path = "../model/versions.rs"]
mod random_versions;
#[path = "../model/reference.rs"]
mod reference;
mod tree;
mod versions;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use t2gate_backends::{
    Backend, Durability, FsBackend, FsOptions, SimulatedFolding, SystemClock, Versioned, VersioningStatus,
    conformance::Subject, conformance_suite, simulate_folding, versions_suite,
};
use tempfile::TempDir;

/// Set for a run of this binary: names are cut and refused too.
const NARROW: &str = "T2GATE_TEST_NARROW";

fn simulate() {
    simulate_folding(match std::env::var_os(NARROW) {
        Some(_) => SimulatedFolding::Narrow,
        None => SimulatedFolding::Folding,
    });
}

fn open() -> (Arc<dyn Backend>, TempDir) {
    let root = tempfile::tempdir().unwrap();
    let backend = open_at(root.path());
    (Arc::new(backend), root)
}

fn open_at(root: &Path) -> FsBackend {
    simulate();
    FsBackend::open(options(root)).unwrap()
}

/// Without syncs, which nothing here can tell from their absence.
fn options(root: &Path) -> FsOptions {
    FsOptions {
        durability: Durability::ProcessSafe,
        ..FsOptions::new(root, Arc::new(SystemClock))
    }
}

conformance_suite!(open);

mod overlay {
    use super::*;

    fn open() -> (Arc<dyn Backend>, TempDir) {
        let root = tempfile::tempdir().unwrap();
        let backend = versioned(open_at(root.path()));
        (backend, root)
    }

    versions_suite!(open);
}

/// By itself, in a root that others may share.
mod shared {
    use super::*;

    fn open() -> (Arc<dyn Backend>, TempDir) {
        simulate();
        let root = tempfile::tempdir().unwrap();
        let options = FsOptions {
            shared: true,
            ..options(root.path())
        };
        (versioned(FsBackend::open(options).unwrap()), root)
    }

    t2gate_backends::conformance_version_cases!([t2gate_backends::conformance_tests](open, None));
}

fn versioned(backend: FsBackend) -> Arc<dyn Backend> {
    Arc::new(Versioned::new(backend, Arc::new(SystemClock)).expect("fs keeps what is displaced"))
}

#[test]
fn a_folding_file_system_does_what_the_reference_does() {
    harness::check(open, 64);
}

#[test]
fn a_folding_file_system_keeps_the_versions_that_memory_keeps() {
    simulate();
    random_versions::check(&[
        "a", "A", "a/b", "A/b", "a/B", "a-", "d/e", "D/e", "d/E", "\u{e9}", "e\u{301}", "a.",
    ]);
}

#[test]
fn keys_of_all_kinds_are_kept_as_in_memory() {
    any_keys::check(open);
}

#[test]
fn a_narrow_file_system_keeps_the_contract_too() {
    if std::env::var_os(NARROW).is_some() {
        return;
    }
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "tree::",
            "versions::",
            "keeps_the_versions_that_memory_keeps",
            "keys::",
            "does_what_the_reference_does",
            "keys_of_all_kinds",
            "--skip",
            "a_hostile_key_alone",
        ])
        .env(NARROW, "1")
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}

/// A backend with a bucket, and the directory that it lies in.
struct Tree {
    subject: Subject,
    root: TempDir,
}

impl Tree {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let subject = Subject::new(Arc::new(open_at(root.path()))).await;
        Self { subject, root }
    }

    /// The bucket keeps versions.
    async fn versioned() -> Self {
        let root = tempfile::tempdir().unwrap();
        let backend = versioned(open_at(root.path()));
        let subject = Subject::with_versioning(backend, Some(VersioningStatus::Enabled)).await;
        Self { subject, root }
    }

    /// As it is after a restart, with what was done before that.
    async fn reopened(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { subject, root } = self;
        let bucket = subject.bucket.clone();
        drop(subject);
        meanwhile(root.path());
        let subject = Subject::of(versioned(open_at(root.path())), bucket).await;
        Self { subject, root }
    }

    /// Of the bucket.
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(self.subject.bucket.as_str()).join(name)
    }

    /// Of the bucket's histories.
    fn history(&self, name: &str) -> PathBuf {
        let histories = self.root.path().join(".t2/versions");
        histories.join(self.subject.bucket.as_str()).join(name)
    }

    /// All files and directories, by their names from the bucket on.
    fn entries(&self) -> Vec<String> {
        entries_of(&self.path(""))
    }
}

fn entries_of(base: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![base.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(base).unwrap();
            found.push(name.to_str().unwrap().to_owned());
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

impl std::ops::Deref for Tree {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}
