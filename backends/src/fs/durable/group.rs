//! Syncs that several writers share: group commit.
//!
//! Whoever finds the disk idle syncs at once, and alone: `fsync` of its own file. Whoever comes meanwhile waits, and the
//! first of those who wait makes one `syncfs` for all of them: for the new data of some and for the new names of
//! others alike. It is the same disk work for one as for many, and on a file system with a journal it is nearly the same
//! as an `fsync`.
//!
//! - **Errors.** A `syncfs` that fails says that something on the file system could not be written, and not whose that
//!   is. So everybody in that batch then syncs their own files, and has the answer of that: nobody is told that theirs is
//!   durable who was not told so by the kernel, and a stranger's bad block stops nobody.
//! - **Neighbours.** `syncfs` writes what anything has in memory for that file system. Where that takes much longer
//!   than the batch's own files would, twice in a row, everybody syncs alone for a while.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::io::Errno;

/// The longest that a leader waits for others who are expected.
const MAX_GATHER: Duration = Duration::from_millis(2);
/// A shared sync that is quicker than this is never found too slow.
const QUICK: Duration = Duration::from_millis(200);
/// How much longer than its members' own syncs, one after the other, a shared one may take.
const PATIENCE: u32 = 4;
/// How long a shared sync is not tried again, in terms of what the last one took; and at most.
const REST: u32 = 10;
const MAX_REST: Duration = Duration::from_secs(60);

/// Brings together those who want to sync at the same time.
#[derive(Debug, Default)]
pub(super) struct SyncGroup {
    state: Mutex<State>,
    /// Somebody came who the gathering leader may have been waiting for.
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody is gathering or syncing.
    led: bool,
    /// Who comes now belongs to this one.
    open: Arc<Batch>,
    /// In the open batch.
    members: u32,
    /// In the batch before.
    expected: u32,
    /// What the last shared sync took.
    took: Duration,
    /// What one writer's own sync takes, smoothed.
    alone: Option<Duration>,
    /// The last shared sync was too slow. One alone may be chance.
    slow: bool,
    crowded_until: Option<Instant>,
}

/// Its fields are guarded by the group's lock.
#[derive(Debug, Default)]
struct Batch {
    verdict: Mutex<Option<Verdict>>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Durable,
    /// Everybody for themselves.
    Unknown,
}

impl SyncGroup {
    /// Makes durable what was written before the call: by `own`, which syncs the caller's files, or by `all`, which syncs
    /// the whole file system, for many callers at once. One and the same `all` must come from everybody.
    pub(super) fn sync(
        &self,
        own: impl Fn() -> Result<(), Errno>,
        all: impl Fn() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.crowded_until.is_some_and(|until| Instant::now() < until) {
            drop(state);
            return self.timed(own);
        }
        let batch = Arc::clone(&state.open);
        state.members += 1;
        self.arrived.notify_one();
        while state.led {
            state = batch.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            match batch.verdict() {
                None => {}
                Some(Verdict::Durable) => return Ok(()),
                Some(Verdict::Unknown) => {
                    drop(state);
                    return own();
                }
            }
        }
        // The batch is still the open one: only a leader closes it, and there was none.
        state.led = true;
        let (members, mut lead) = self.gather(state, batch);
        if members == 1 {
            let outcome = self.timed(own);
            lead.verdict = Verdict::Durable;
            return outcome;
        }
        let start = Instant::now();
        let outcome = all();
        self.judge(members, start.elapsed());
        match outcome {
            Ok(()) => {
                lead.verdict = Verdict::Durable;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "could not sync the file system as a whole; every writer syncs their own");
                drop(lead);
                own()
            }
        }
    }

    /// Closes the open batch, after a moment for those who were in the last one and are likely to come again.
    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>, batch: Arc<Batch>) -> (u32, Lead<'a>) {
        let deadline = Instant::now() + state.took.min(MAX_GATHER);
        while state.members < state.expected {
            let Some(left) = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            let waited = self.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let members = std::mem::take(&mut state.members);
        state.expected = members;
        state.open = Arc::default();
        drop(state);
        let lead = Lead {
            group: self,
            batch,
            verdict: Verdict::Unknown,
        };
        (members, lead)
    }

    /// Whether a shared sync pays.
    fn judge(&self, members: u32, took: Duration) {
        let mut state = self.lock();
        state.took = took;
        let fair = state.alone.map(|alone| alone * members * PATIENCE);
        let slow = took > QUICK && fair.is_some_and(|fair| took > fair);
        if std::mem::replace(&mut state.slow, slow) && slow {
            state.crowded_until = Some(Instant::now() + (took * REST).min(MAX_REST));
            tracing::debug!(
                ?took,
                members,
                "shared syncs are slow: others write to this file system"
            );
        }
    }

    fn timed(&self, own: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        let start = Instant::now();
        let outcome = own();
        let took = start.elapsed();
        let mut state = self.lock();
        state.alone = Some(state.alone.map_or(took, |before| (before * 7 + took) / 8));
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn verdict(&self) -> Option<Verdict> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever syncs for a batch. When this is dropped its members hear how it went, and one of the next batch leads.
struct Lead<'a> {
    group: &'a SyncGroup,
    batch: Arc<Batch>,
    verdict: Verdict,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut state = self.group.lock();
        *self.batch.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.verdict);
        state.led = false;
        self.batch.changed.notify_all();
        state.open.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread::{scope, sleep},
    };

    use super::*;

    /// A disk that takes its time, and counts.
    #[derive(Default)]
    struct Disk {
        group: SyncGroup,
        own: AtomicU32,
        all: AtomicU32,
        all_fails: bool,
        all_takes: Duration,
    }

    impl Disk {
        fn sync(&self) -> Result<(), Errno> {
            let own = || {
                self.own.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(4));
                Ok(())
            };
            let all = || {
                self.all.fetch_add(1, Ordering::SeqCst);
                sleep(self.all_takes.max(Duration::from_millis(6)));
                if self.all_fails { Err(Errno::IO) } else { Ok(()) }
            };
            self.group.sync(own, all)
        }

        fn counts(&self) -> (u32, u32) {
            (self.own.load(Ordering::SeqCst), self.all.load(Ordering::SeqCst))
        }

        fn run(&self, writers: u32, rounds: u32) {
            scope(|scope| {
                for _ in 0..writers {
                    scope.spawn(|| (0..rounds).for_each(|_| self.sync().unwrap()));
                }
            });
        }
    }

    #[test]
    fn one_writer_syncs_its_own_files_alone() {
        let disk = Disk::default();
        disk.run(1, 20);
        assert_eq!(disk.counts(), (20, 0));
    }

    #[test]
    fn sixteen_writers_share_their_syncs() {
        // Nobody waits long for others: where threads get no turn for a while, they do not meet.
        let counts = (0..3).map(|_| {
            let disk = Disk::default();
            disk.run(16, 50);
            disk.counts()
        });
        let (own, all) = counts.min_by_key(|(own, all)| own + all).unwrap();
        // A write makes two of these, and at most a quarter of a sync comes on a write.
        assert!(f64::from(own + all) <= 0.125 * 16.0 * 50.0, "{own} alone, {all} shared");
    }

    #[test]
    fn nothing_is_durable_that_was_written_after_its_sync_began() {
        // What is durable is what was written when the last sync began; every caller checks it for its own write.
        let group = SyncGroup::default();
        let written: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let durable: Vec<AtomicU32> = (0..8).map(|_| AtomicU32::new(0)).collect();
        let all = || {
            let seen: Vec<u32> = written.iter().map(|w| w.load(Ordering::SeqCst)).collect();
            sleep(Duration::from_micros(300));
            for (durable, seen) in durable.iter().zip(seen) {
                durable.fetch_max(seen, Ordering::SeqCst);
            }
            Ok(())
        };
        scope(|scope| {
            for writer in 0..8 {
                let (group, written, durable) = (&group, &written, &durable);
                scope.spawn(move || {
                    for round in 1..200 {
                        written[writer].store(round, Ordering::SeqCst);
                        let own = || {
                            sleep(Duration::from_micros(100));
                            durable[writer].fetch_max(round, Ordering::SeqCst);
                            Ok(())
                        };
                        group.sync(own, all).unwrap();
                        assert!(durable[writer].load(Ordering::SeqCst) >= round);
                    }
                });
            }
        });
    }

    #[test]
    fn after_a_shared_sync_that_failed_everybody_has_an_answer_of_their_own() {
        let disk = Disk {
            all_fails: true,
            ..Disk::default()
        };
        disk.run(8, 10);
        let (own, all) = disk.counts();
        assert!(all > 0);
        assert_eq!(own, 80);
    }

    #[test]
    fn a_shared_sync_that_has_to_wait_for_strangers_is_given_up_for_a_while() {
        let disk = Disk {
            all_takes: Duration::from_millis(300),
            ..Disk::default()
        };
        // What a sync takes that shares nothing.
        disk.group.lock().alone = Some(Duration::from_millis(4));
        disk.run(4, 30);
        let (_, all) = disk.counts();
        assert!((2..=4).contains(&all), "{all}");
    }
}
