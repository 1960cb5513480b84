//! The time. Nothing else in either crate asks the system for it, so that tests can set it.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::SystemTime,
};

use crate::Timestamp;

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.unix_nanos()))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.unix_nanos(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.0.load(Ordering::SeqCst))
    }
}
