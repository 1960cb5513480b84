//! Memory for bodies on their way to the store, counted in bytes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::BackendError;

/// What is counted: less is rounded up.
const UNIT: u64 = 1 << 10;
/// How long a request waits for memory. Most clients wait a minute for an answer: who is told before that comes again.
pub(super) const PATIENCE: Duration = Duration::from_secs(50);

/// So many bytes, for all requests together. Who needs more than there is waits for a while.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    total: u32,
}

/// Bytes that were taken, given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved(#[allow(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits for `bytes`. All that a request needs is taken at once, and before a lock that others may wait for while they
    /// hold some: nobody who holds some waits for more.
    ///
    /// # Errors
    /// [`Busy`](BackendError::Busy) for more than there is at all, and when others keep it for [`PATIENCE`].
    pub(super) async fn take(&self, bytes: u64) -> Result<Reserved, BackendError> {
        let busy = BackendError::Busy {
            context: "a body needs more memory than the backend may use",
        };
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok();
        let Some(units) = units.filter(|units| *units <= self.total) else {
            return Err(busy);
        };
        match timeout(PATIENCE, Arc::clone(&self.free).acquire_many_owned(units)).await {
            Ok(Ok(taken)) => Ok(Reserved(taken)),
            Ok(Err(_)) => Err(busy),
            Err(_) => Err(BackendError::Busy {
                context: "other bodies have all the memory that the backend may use",
            }),
        }
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
