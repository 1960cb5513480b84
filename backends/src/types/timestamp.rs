//! Points in time.

use std::time::{Duration, SystemTime};

/// Nanoseconds since 1970-01-01T00:00:00Z; before that negative. Reaches from 1677 to 2262; what lies outside is
/// clamped, for file systems can hold any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// `seconds` and `nanos` as `stat` gives them.
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos)))
    }

    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down: the precision of `Last-Modified` and of conditions on it.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Whole milliseconds, rounded down: the precision of listings.
    pub const fn unix_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self(nanos(since)),
            Err(before) => Self(-nanos(before.duration())),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 < 0 {
            Self::UNIX_EPOCH - distance
        } else {
            Self::UNIX_EPOCH + distance
        }
    }
}
