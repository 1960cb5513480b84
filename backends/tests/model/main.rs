//! Random histories, run on a backend and on a reference that is nothing but a map; after each step all that can be
//! seen of the two is compared.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod harness;
mod op;
mod reference;
mod versions;

use std::sync::Arc;

use t2gate_backends::{Backend, Durability, FsBackend, FsOptions, MemoryBackend, SystemClock};
use tempfile::TempDir;

fn memory() -> (Arc<dyn Backend>, ()) {
    (Arc::new(MemoryBackend::new(Arc::new(SystemClock))), ())
}

#[test]
fn memory_does_what_the_reference_does() {
    harness::check(memory, 256);
}

/// Without syncs, which nothing here can tell from their absence.
fn fs() -> (Arc<dyn Backend>, TempDir) {
    let root = tempfile::tempdir().unwrap();
    let options = FsOptions {
        durability: Durability::ProcessSafe,
        ..FsOptions::new(root.path(), Arc::new(SystemClock))
    };
    (Arc::new(FsBackend::open(options).unwrap()), root)
}

#[test]
fn fs_does_what_the_reference_does() {
    harness::check(fs, 64);
}

#[test]
fn fs_keeps_the_versions_that_memory_keeps() {
    versions::check(&["a", "a/", "a/b", "a/b/c", "a-", "d/e", ".t2"]);
}

/// With attributes in side files: as a process for which extended attributes fail. With versions too.
#[test]
fn fs_does_so_without_extended_attributes_too() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fs_does_what_the_reference_does",
            "fs_keeps_the_versions_that_memory_keeps",
        ])
        .env("T2GATE_TEST_XATTRS", "none")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("2 passed"), "{said}");
}
