//! What keeps the requests of one process apart. Between processes only the store's own conditions do.

use std::{
    array,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{BucketName, Key, UploadId};

const STRIPES: usize = 256;

/// Locks by name; some names share one. To be taken in the order bucket, upload, key, and one of each at most.
#[derive(Debug)]
pub(super) struct Locks {
    hasher: RandomState,
    /// Taken to create a bucket, so that the number of an account's buckets stands still.
    pub(super) creation: Mutex<()>,
    buckets: [RwLock<()>; STRIPES],
    /// How often, of the buckets whose names share a lock, one was deleted or got another versioning status, by this
    /// process.
    changes: [AtomicU64; STRIPES],
    uploads: [RwLock<()>; STRIPES],
    keys: [Mutex<()>; STRIPES],
}

impl Locks {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            creation: Mutex::default(),
            buckets: array::from_fn(|_| RwLock::default()),
            changes: array::from_fn(|_| AtomicU64::new(0)),
            uploads: array::from_fn(|_| RwLock::default()),
            keys: array::from_fn(|_| Mutex::default()),
        }
    }

    fn stripe(&self, name: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(name) % STRIPES as u64).unwrap_or(0)
    }

    /// Held by who commits into the bucket.
    pub(super) async fn in_bucket(&self, bucket: &BucketName) -> RwLockReadGuard<'_, ()> {
        self.buckets[self.stripe(bucket)].read().await
    }

    /// Held by who deletes the bucket or changes its record.
    pub(super) async fn bucket(&self, bucket: &BucketName) -> RwLockWriteGuard<'_, ()> {
        self.buckets[self.stripe(bucket)].write().await
    }

    /// Moves when the bucket is deleted, or its versioning set.
    pub(super) fn changes(&self, bucket: &BucketName) -> u64 {
        self.changes[self.stripe(bucket)].load(Ordering::SeqCst)
    }

    /// To be called by who holds [`bucket`](Self::bucket).
    pub(super) fn note_change(&self, bucket: &BucketName) {
        self.changes[self.stripe(bucket)].fetch_add(1, Ordering::SeqCst);
    }

    /// Held by who adds a part.
    pub(super) async fn in_upload(&self, id: &UploadId) -> RwLockReadGuard<'_, ()> {
        self.uploads[self.stripe(id)].read().await
    }

    /// Held by who completes or aborts.
    pub(super) async fn upload(&self, id: &UploadId) -> RwLockWriteGuard<'_, ()> {
        self.uploads[self.stripe(id)].write().await
    }

    pub(super) async fn key(&self, bucket: &BucketName, key: &Key) -> MutexGuard<'_, ()> {
        self.keys[self.stripe((bucket, key))].lock().await
    }
}
