//! All connections of a listener, and which of them makes room when there are too many.
//!
//! A peer that opens connections and says nothing, or asks now and then, must not keep others out: the connection that has
//! waited for its peer the longest ends for the new one. One that is being served never does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::activity::Activity;

/// Who has kept the gateway waiting for less than this is about to ask.
const LEAST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Members>);

#[derive(Debug, Default)]
struct Members {
    next: u64,
    all: HashMap<u64, Arc<Activity>>,
}

/// One connection, for as long as this lives.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Crowd {
    pub(super) fn join(self: &Arc<Self>, activity: Arc<Activity>) -> Member {
        let mut members = self.lock();
        let number = members.next;
        members.next += 1;
        members.all.insert(number, activity);
        Member {
            crowd: self.clone(),
            number,
        }
    }

    /// Tells the one that has waited the longest to end. Whether there is one; it goes soon, if it is not asked something
    /// meanwhile. Looks at all.
    pub(super) fn make_room(&self, now: Instant) -> bool {
        let members = self.lock();
        let longest = members
            .all
            .values()
            .filter_map(|activity| Some((activity.waiting_since()?, activity)))
            .min_by_key(|(since, _)| *since);
        match longest {
            Some((since, activity)) if now.duration_since(since) >= LEAST_WAIT => {
                activity.give_way();
                true
            }
            Some(_) | None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.lock().all.remove(&self.number);
    }
}
