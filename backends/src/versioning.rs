//! Versions over any backend that can keep what a commit displaces.
//!
//! - [`Versioned`] is the overlay: it asks the backend below to keep versions, and hands out their ids.
//! - [`KeyState`] decides what each write does to the versions of its key; the backend asks it in its commit step.
//!
//! A version is [current, or kept](crate::Version); where the newest is a delete marker nothing is current.

mod overlay;
mod plan;
#[cfg(test)]
mod tests;
mod unversioned;

use std::{fmt, sync::Arc};

pub(crate) use self::unversioned::list_unversioned;
pub use self::{
    overlay::Versioned,
    plan::{CurrentVersion, DeletePlan, Displaced, KeyState, WritePlan},
};
use crate::{BackendError, Clock, Stamp};

/// Gives the versions that a request makes their stamps. Its presence in a request says that the bucket's versioning
/// status is to be followed; without it the status is passed over, and what is replaced is gone.
#[derive(Clone)]
pub struct VersionClock(Arc<dyn Clock>);

impl VersionClock {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }

    /// A stamp for a version that is about to be written.
    pub fn stamp(&self) -> Result<Stamp, BackendError> {
        let random =
            getrandom::u64().map_err(|error| BackendError::internal("no randomness for a version id", error))?;
        Ok(Stamp::new(self.0.now(), random))
    }
}

impl fmt::Debug for VersionClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VersionClock").finish_non_exhaustive()
    }
}
