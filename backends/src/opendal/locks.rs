//! What keeps the requests of one process apart. Between processes only the store's own conditions do.

use std::{
    array,
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex as Table, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
    time::timeout,
};

use super::budget::PATIENCE;
use crate::{BackendError, BucketName, Key, UploadId};

/// What the counters of changes are shared out over.
const COUNTERS: usize = 256;

/// How long a bucket's record waits for those who commit into the bucket: for small objects, and not for a join. Whoever comes
/// meanwhile waits for it.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// Locks by name. To be taken in the order upload, bucket, settings, key, and one of each at most.
///
/// Some are held for as long as a store joins an object of many gigabytes. So each name has a lock of its own: nobody
/// waits for a request that has nothing to do with what he asks for. And nobody waits for ever for a bucket or a key, for
/// he may hold memory that others need: then it is [`Busy`](BackendError::Busy).
#[derive(Debug)]
pub(super) struct Locks {
    hasher: RandomState,
    /// Taken to create a bucket, so that the number of an account's buckets stands still.
    pub(super) creation: Mutex<()>,
    buckets: Named<RwLock<()>>,
    settings: Named<Mutex<()>>,
    /// How often, of the buckets whose names share a counter, one was deleted or got another versioning status, by this
    /// process.
    changes: [AtomicU64; COUNTERS],
    uploads: Named<RwLock<()>>,
    keys: Named<Mutex<()>>,
}

impl Locks {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            creation: Mutex::default(),
            buckets: Named::default(),
            settings: Named::default(),
            changes: array::from_fn(|_| AtomicU64::new(0)),
            uploads: Named::default(),
            keys: Named::default(),
        }
    }

    /// Held by who commits into the bucket.
    pub(super) async fn in_bucket(&self, bucket: &BucketName) -> Result<OwnedRwLockReadGuard<()>, BackendError> {
        let lock = self.buckets.of(self.hasher.hash_one(bucket));
        let busy = "the bucket is being changed";
        within(PATIENCE, busy, lock.read_owned()).await
    }

    /// Held by who creates or deletes the bucket, or changes whether it keeps versions.
    pub(super) async fn bucket(&self, bucket: &BucketName) -> Result<OwnedRwLockWriteGuard<()>, BackendError> {
        let lock = self.buckets.of(self.hasher.hash_one(bucket));
        let busy = "objects are being made in the bucket";
        within(RECORD_PATIENCE, busy, lock.write_owned()).await
    }

    /// Held by who changes the bucket's record.
    pub(super) async fn settings(&self, bucket: &BucketName) -> OwnedMutexGuard<()> {
        self.settings.of(self.hasher.hash_one(bucket)).lock_owned().await
    }

    /// Moves when the bucket is deleted, or its versioning set.
    pub(super) fn changes(&self, bucket: &BucketName) -> u64 {
        self.counter(bucket).load(Ordering::SeqCst)
    }

    /// To be called by who holds [`bucket`](Self::bucket).
    pub(super) fn note_change(&self, bucket: &BucketName) {
        self.counter(bucket).fetch_add(1, Ordering::SeqCst);
    }

    fn counter(&self, bucket: &BucketName) -> &AtomicU64 {
        let at = usize::try_from(self.hasher.hash_one(bucket) % COUNTERS as u64);
        &self.changes[at.unwrap_or(0)]
    }

    /// Held by who adds a part.
    pub(super) async fn in_upload(&self, id: &UploadId) -> OwnedRwLockReadGuard<()> {
        self.uploads.of(self.hasher.hash_one(id)).read_owned().await
    }

    /// Held by who completes or aborts.
    pub(super) async fn upload(&self, id: &UploadId) -> OwnedRwLockWriteGuard<()> {
        self.uploads.of(self.hasher.hash_one(id)).write_owned().await
    }

    pub(super) async fn key(&self, bucket: &BucketName, key: &Key) -> Result<OwnedMutexGuard<()>, BackendError> {
        let lock = self.keys.of(self.hasher.hash_one((bucket, key)));
        let busy = "the key is being written by another request";
        within(PATIENCE, busy, lock.lock_owned()).await
    }
}

async fn within<G>(
    patience: Duration,
    context: &'static str,
    lock: impl Future<Output = G>,
) -> Result<G, BackendError> {
    timeout(patience, lock)
        .await
        .map_err(|_| BackendError::Busy { context })
}

/// The locks that are held or waited for, and at most about as many others. A name is known by its hash, keyed at random:
/// should two ever have the same, they share a lock, and no harm is done.
#[derive(Debug)]
struct Named<L>(Table<InUse<L>>);

#[derive(Debug)]
struct InUse<L> {
    locks: HashMap<u64, Weak<L>>,
    /// With so many, those that nobody holds any more are thrown out.
    full: usize,
}

impl<L> Default for Named<L> {
    fn default() -> Self {
        Self(Table::new(InUse {
            locks: HashMap::new(),
            full: InUse::<L>::LEAST,
        }))
    }
}

impl<L> InUse<L> {
    const LEAST: usize = 64;
}

impl<L: Default> Named<L> {
    fn of(&self, name: u64) -> Arc<L> {
        // A panic leaves the table whole.
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = table.locks.get(&name).and_then(Weak::upgrade) {
            return lock;
        }
        if table.locks.len() >= table.full {
            table.locks.retain(|_, lock| lock.strong_count() > 0);
            table.full = (2 * table.locks.len()).max(InUse::<L>::LEAST);
        }
        let lock = Arc::new(L::default());
        table.locks.insert(name, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_with;

    use futures::FutureExt as _;

    use super::*;

    fn key(number: usize) -> Key {
        Key::parse(format!("k/{number}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let locks = Locks::new();
        let bucket = BucketName::parse("bkt").unwrap();
        let (one, upload) = (key(1), UploadId::parse("u").unwrap());
        let joining = locks.in_bucket(&bucket).await.unwrap();
        let _key = locks.key(&bucket, &one).await.unwrap();
        let (record, committer, second) = futures::join!(
            locks.bucket(&bucket),
            locks.in_bucket(&bucket),
            locks.key(&bucket, &one)
        );
        assert!(matches!(record, Err(BackendError::Busy { .. })));
        assert!(committer.is_ok(), "it waits for who waits, and for no longer");
        assert!(matches!(second, Err(BackendError::Busy { .. })));
        drop(futures::join!(locks.settings(&bucket), locks.upload(&upload)));
        drop((joining, committer));
        assert!(locks.bucket(&bucket).await.is_ok());
    }

    #[test]
    fn other_names_are_never_waited_for() {
        // For the time that they wait. Not in a task: one that takes thousands of locks at once would be made to yield.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let locks = Locks::new();
        let bucket = BucketName::parse("bkt").unwrap();
        let held: Vec<_> = (0..5_000)
            .map(|number| locks.key(&bucket, &key(number)).now_or_never().unwrap().unwrap())
            .collect();
        assert!(locks.key(&bucket, &key(7)).now_or_never().is_none());
        drop(held);
        assert!(locks.key(&bucket, &key(7)).now_or_never().is_some());
        let other = BucketName::parse("other").unwrap();
        let _one = locks.bucket(&bucket).now_or_never().unwrap().unwrap();
        assert!(locks.in_bucket(&bucket).now_or_never().is_none());
        assert!(locks.in_bucket(&other).now_or_never().is_some());
    }

    #[test]
    fn what_nobody_holds_is_not_kept() {
        let named = Named::<Mutex<()>>::default();
        let held: Vec<_> = (0..1_000).map(|name| named.of(name)).collect();
        for name in 0..100_000 {
            named.of(1_000 + name);
        }
        let kept = named.0.lock().unwrap().locks.len();
        assert!(kept <= 2 * held.len(), "{kept}");
        // Those that are held are still the same.
        assert!(
            held.iter()
                .zip(0..)
                .all(|(lock, name)| Arc::ptr_eq(lock, &named.of(name)))
        );
        drop(held);
        repeat_with(|| named.of(7)).take(3).for_each(drop);
        for name in 200_000..203_000 {
            named.of(name);
        }
        assert!(named.0.lock().unwrap().locks.len() <= InUse::<Mutex<()>>::LEAST);
    }
}
