//! Memory for bodies on their way to the store, counted in bytes.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::BackendError;

/// What is counted: less is rounded up.
const UNIT: u64 = 1 << 10;
/// How long a request waits while nobody gives memory back. Most clients wait a minute for an answer: who is told before
/// that comes again.
pub(super) const PATIENCE: Duration = Duration::from_secs(50);
/// How long it waits in a line that moves. A client that does not wait as long goes away, and its place in the line with it.
const LONGEST: Duration = Duration::from_secs(600);

/// So many bytes, for all requests together. Who needs more than there is waits for a while.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
    given_back: Arc<Mutex<Option<Instant>>>,
}

/// Bytes that were taken, given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    #[allow(dead_code, reason = "held, not read")]
    bytes: OwnedSemaphorePermit,
    given_back: Arc<Mutex<Option<Instant>>>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        *self.given_back.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
            given_back: Arc::default(),
        }
    }

    /// Waits for `bytes`, in the order of coming. All that a request needs is taken at once, and before a lock that others
    /// may wait for while they hold some: nobody who holds some waits for more.
    ///
    /// # Errors
    /// [`Busy`](BackendError::Busy) for more than there is at all, when nobody gives any back for [`PATIENCE`], and after
    /// [`LONGEST`].
    pub(super) async fn take(&self, bytes: u64) -> Result<Reserved, BackendError> {
        let busy = BackendError::Busy {
            context: "a body needs more memory than the backend may use",
        };
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok();
        let Some(units) = units.filter(|units| *units <= self.total) else {
            return Err(busy);
        };
        let mut taking = pin!(Arc::clone(&self.free).acquire_many_owned(units));
        let begun = Instant::now();
        loop {
            let until = self.moved().map_or(begun, |moved| moved.max(begun)) + PATIENCE;
            match timeout_at(until.min(begun + LONGEST), &mut taking).await {
                Ok(Ok(bytes)) => {
                    return Ok(Reserved {
                        bytes,
                        given_back: Arc::clone(&self.given_back),
                    });
                }
                Ok(Err(_)) => return Err(busy),
                Err(_) if begun.elapsed() < LONGEST && self.moved().is_some_and(|moved| moved + PATIENCE > until) => {}
                Err(_) => {
                    return Err(BackendError::Busy {
                        context: "other bodies have all the memory that the backend may use",
                    });
                }
            }
        }
    }

    /// When some was given back last.
    fn moved(&self) -> Option<Instant> {
        *self.given_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let budget = Budget::new(10 * UNIT);
        let held = budget.take(UNIT).await.unwrap();
        let (refused, taken) = tokio::join!(budget.take(10 * UNIT), async {
            tokio::time::sleep(PATIENCE / 2).await;
            budget.take(9 * UNIT).await
        });
        assert!(matches!(refused, Err(BackendError::Busy { .. })));
        // It came later, and did not have to wait once the first one had gone.
        drop((taken.unwrap(), held));
        assert!(budget.take(10 * UNIT).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_a_line_that_moves_comes_to_its_turn_or_is_told_in_the_end() {
        let budget = Budget::new(10 * UNIT);
        let turn = PATIENCE - Duration::from_secs(1);
        let others = futures::future::join_all((0..5).map(|_| async {
            let _held = budget.take(10 * UNIT).await.unwrap();
            tokio::time::sleep(turn).await;
        }));
        let begun = Instant::now();
        let (_, taken) = tokio::join!(others, budget.take(10 * UNIT));
        assert!(taken.is_ok());
        assert_eq!(begun.elapsed(), 5 * turn);
        drop(taken);

        // What is given back is never enough.
        let held = budget.take(UNIT).await.unwrap();
        let begun = Instant::now();
        let large = async {
            let refused = budget.take(10 * UNIT).await;
            assert!(matches!(refused, Err(BackendError::Busy { .. })));
            begun.elapsed()
        };
        let small = async {
            for _ in 0..30 {
                tokio::time::sleep(PATIENCE / 2).await;
                *budget.given_back.lock().unwrap() = Some(Instant::now());
            }
        };
        let (waited, ()) = tokio::join!(large, small);
        assert_eq!(waited, LONGEST);
        drop(held);
    }

    #[tokio::test]
    async fn what_is_taken_is_missing_until_it_is_given_back() {
        let budget = Budget::new(10 * UNIT);
        let held = budget.take(9 * UNIT + 1).await.unwrap();
        assert!(budget.take(1).now_or_never().is_none(), "the last unit is taken");
        drop(held);
        assert!(budget.take(1).now_or_never().is_some());
        assert!(matches!(budget.take(11 * UNIT).await, Err(BackendError::Busy { .. })));
    }
}
