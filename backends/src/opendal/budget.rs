//! Memory for bodies on their way to the store, counted in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BackendError;

/// What is counted: less is rounded up.
const UNIT: u64 = 1 << 10;

/// So many bytes, for all requests together. Who needs more than there is waits.
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

    /// Waits for `bytes`. All that a request needs is taken at once: nobody who holds some waits for more.
    pub(super) async fn take(&self, bytes: u64) -> Result<Reserved, BackendError> {
        let busy = BackendError::Busy {
            context: "a body needs more memory than the backend may use",
        };
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok();
        let Some(units) = units.filter(|units| *units <= self.total) else {
            return Err(busy);
        };
        let taken = Arc::clone(&self.free).acquire_many_owned(units).await;
        taken.map(Reserved).map_err(|_| busy)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

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
