//! The buckets of one kind, by key, in bounded memory.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, Hash, RandomState},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Quota, RetryAfter};

/// How far ahead, in nanoseconds, those who are refused queue up. SDKs do not wait for much longer on a server's word.
const QUEUE: u64 = 5_000_000_000;

/// So that threads rarely wait for each other.
const SHARDS: usize = 16;

/// Token buckets by key.
///
/// A key that is not known has a full bucket, so full buckets need not be kept: they are forgotten in passing, at a
/// constant cost per request. Where there is no room, the buckets that went unused for longest are forgotten although
/// they are not full; that gives their owners a burst once more, and is the price of the bound.
pub struct TokenBuckets<K> {
    shards: Box<[Mutex<Generations<K>>]>,
    hasher: RandomState,
    epoch: Instant,
    max_per_generation: usize,
}

impl<K: Hash + Eq> TokenBuckets<K> {
    /// Keeps at most `max_entries` buckets, but always two. No time before `epoch` is told from it.
    pub fn new(max_entries: usize, epoch: Instant) -> Self {
        let max_entries = max_entries.max(2);
        let shards = SHARDS.min(max_entries / 2);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            epoch,
            max_per_generation: max_entries / 2 / shards,
        }
    }

    /// Takes a token, or says when to come back. A refusal takes nothing.
    pub fn take(&self, key: K, quota: Quota, now: Instant) -> Result<(), RetryAfter> {
        self.book(key, quota, now, Duration::ZERO).map(|_| ())
    }

    /// Takes a token that is there now or will be within `patience`: whoever gets one is to wait for so long before he
    /// uses it. Otherwise takes nothing.
    pub fn book(&self, key: K, quota: Quota, now: Instant, patience: Duration) -> Result<Duration, RetryAfter> {
        let now = nanos(now.saturating_duration_since(self.epoch));
        let mut shard = self.shard(&key);
        let mut bucket = shard.bucket(&key, now);
        bucket.full_at = bucket.full_at.max(now);
        // The token that is taken is there once the bucket, without it, is full but for `burst - 1` others.
        let then = bucket.full_at + quota.interval();
        let first = then.saturating_sub(quota.window()).max(now);
        let wait = Duration::from_nanos(first - now);
        let booked = if wait <= patience {
            bucket.full_at = then;
            Ok(wait)
        } else {
            let after_others = (bucket.told + quota.interval()).min(now + QUEUE);
            bucket.told = first.max(after_others);
            Err(RetryAfter(Duration::from_nanos(bucket.told - now)))
        };
        // Refused ones too: whoever hammers at the limit must not be forgotten for it.
        shard.set(key, bucket, self.max_per_generation);
        booked
    }

    /// How many buckets are kept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Generations<K>> {
        // The upper bits, for the maps inside use the lower ones of a hash of their own.
        let hash = self.hasher.hash_one(key);
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

impl<K> fmt::Debug for TokenBuckets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the keys: they may be many, and are nobody's business.
        f.debug_struct("TokenBuckets").finish_non_exhaustive()
    }
}

fn lock<K>(shard: &Mutex<Generations<K>>) -> MutexGuard<'_, Generations<K>> {
    // Nothing in here is left half done by a panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> u64 {
    // 584 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Buckets in two generations. What is used moves to the young one. When that is full, or when everything in the old
/// one is, the old one is dropped, the young one grows old, and a new one begins.
#[derive(Debug)]
struct Generations<K> {
    young: Generation<K>,
    old: Generation<K>,
}

#[derive(Debug)]
struct Generation<K> {
    buckets: HashMap<K, Bucket>,
    /// When all of them are full again.
    all_full_at: u64,
}

/// Times are in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// When it is full again, unless something is taken.
    full_at: u64,
    /// The moment that the last one who was refused was told.
    told: u64,
}

impl<K> Default for Generations<K> {
    fn default() -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
        }
    }
}

impl<K> Default for Generation<K> {
    fn default() -> Self {
        Self {
            buckets: HashMap::new(),
            all_full_at: 0,
        }
    }
}

impl<K: Hash + Eq> Generations<K> {
    /// A full one where it is not known.
    fn bucket(&mut self, key: &K, now: u64) -> Bucket {
        if self.old.all_full_at <= now {
            self.age();
        }
        let bucket = self.young.buckets.get(key).or_else(|| self.old.buckets.get(key));
        bucket.copied().unwrap_or_default()
    }

    fn set(&mut self, key: K, bucket: Bucket, max: usize) {
        self.old.buckets.remove(&key);
        if self.young.buckets.len() >= max && !self.young.buckets.contains_key(&key) {
            self.age();
        }
        self.young.all_full_at = self.young.all_full_at.max(bucket.full_at);
        self.young.buckets.insert(key, bucket);
    }

    fn age(&mut self) {
        self.old = mem::take(&mut self.young);
    }

    fn len(&self) -> usize {
        self.young.buckets.len() + self.old.buckets.len()
    }
}
