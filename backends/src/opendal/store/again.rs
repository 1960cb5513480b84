//! What is tried again as a whole, where opendal's retries of its single calls would not do.

use std::time::Duration;

use super::Store;
use crate::opendal::answer;

/// Calls that fail for a passing reason are tried again so often.
pub(super) const RETRIES: usize = 4;
/// Each delay is so many times the one before: all of them are 85 times the first, and up to twice as long.
pub(super) const RETRY_FACTOR: u16 = 4;

/// The attempts at something that are left. They are told of and counted as those of opendal's retries.
#[derive(Debug)]
pub(in crate::opendal) struct Attempts {
    operation: &'static str,
    left: usize,
    delay: Duration,
}

impl Attempts {
    /// Waits for another attempt, behind one that failed with `error`. `false`: there is none.
    pub(in crate::opendal) async fn another(
        &mut self,
        store: &Store,
        what: &str,
        error: &impl std::fmt::Debug,
    ) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        tracing::warn!(
            operation = self.operation,
            what,
            ?error,
            "a call of the store is tried again"
        );
        answer::asked_again();
        if let Some(observer) = &store.observer {
            observer.retry(self.operation);
        }
        tokio::time::sleep(self.delay + part_of(self.delay)).await;
        self.delay *= u32::from(RETRY_FACTOR);
        true
    }
}

impl Store {
    /// `operation` is one of [`StoreObserver::retry`](crate::StoreObserver::retry).
    pub(in crate::opendal) fn attempts(&self, operation: &'static str) -> Attempts {
        Attempts {
            operation,
            left: RETRIES,
            delay: self.retry_delay,
        }
    }
}

/// Any part of `most`, for chance to part those who failed together. All of it where there is no chance to be had.
fn part_of(most: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_failed_together_do_not_come_again_together() {
        let most = Duration::from_millis(100);
        let parts: std::collections::BTreeSet<Duration> = (0..100).map(|_| part_of(most)).collect();
        assert!(parts.len() > 50 && parts.iter().all(|part| *part <= most), "{parts:?}");
    }
}
