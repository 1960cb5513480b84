//! Versions of objects: their ids, and their order.

use std::fmt;

use super::{Timestamp, VersionId};

/// Whether a bucket keeps versions. A bucket that never did has neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersioningStatus {
    /// Every write makes a version with an id of its own.
    Enabled,
    /// Every write makes the version `null`, in place of the one before; all others stay.
    Suspended,
}

/// What versions of one key are ordered by: time, then chance. Written as 32 lower-case hex digits, which sort alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Nanoseconds since 1970.
    nanos: u64,
    random: u64,
}

impl Stamp {
    pub fn new(time: Timestamp, random: u64) -> Self {
        Self {
            nanos: u64::try_from(time.unix_nanos()).unwrap_or(0),
            random,
        }
    }

    /// This stamp, or where that is not newer than `other`, the next that is.
    #[must_use]
    pub fn after(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if self.nanos <= other.nanos => Self {
                nanos: other.nanos.saturating_add(1),
                ..self
            },
            _ => self,
        }
    }

    /// When it was written, as the gateway's clock had it then: a clock that stepped back does not reorder versions,
    /// so it may be later than that.
    pub fn time(self) -> Timestamp {
        Timestamp::from_unix_nanos(i64::try_from(self.nanos).unwrap_or(i64::MAX))
    }

    /// As one number, which sorts alike.
    pub(crate) fn to_bits(self) -> u128 {
        u128::from(self.nanos) << 64 | u128::from(self.random)
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    pub(crate) fn from_bits(bits: u128) -> Self {
        Self {
            nanos: (bits >> 64) as u64,
            random: bits as u64,
        }
    }

    /// Of 32 lower-case hex digits, as [`Display`](fmt::Display) writes them.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (nanos, random) = text.split_at_checked(16).filter(|_| lower && text.len() == 32)?;
        Some(Self {
            nanos: u64::from_str_radix(nanos, 16).ok()?,
            random: u64::from_str_radix(random, 16).ok()?,
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.nanos, self.random)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One version of a key: its place among the others, and whether its name is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    pub stamp: Stamp,
    /// Clients know it as `null`. Of one key at most one version is.
    pub null: bool,
}

impl Version {
    /// What clients call it.
    pub fn id(self) -> VersionId {
        if self.null {
            VersionId::null()
        } else {
            VersionId::of(self.stamp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: i64, random: u64) -> Stamp {
        Stamp::new(Timestamp::from_unix_nanos(nanos), random)
    }

    #[test]
    fn stamps_are_written_as_they_sort() {
        let stamps = [at(-5, 7), at(0, 9), at(1, 0), at(1, u64::MAX), at(i64::MAX, 0)];
        for pair in stamps.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string());
        }
        for stamp in stamps {
            assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
            assert_eq!(Stamp::from_bits(stamp.to_bits()), stamp);
        }
        for bad in [
            "",
            "null",
            "0",
            &"0".repeat(31),
            &"0".repeat(33),
            &"A".repeat(32),
            &"+".repeat(32),
            &"ä".repeat(16),
        ] {
            assert_eq!(Stamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_stamp_is_raised_only_where_it_has_to_be() {
        assert_eq!(at(5, 1).after(None), at(5, 1));
        assert_eq!(at(5, 1).after(Some(at(4, 9))), at(5, 1));
        assert_eq!(at(5, 1).after(Some(at(5, 0))), at(6, 1));
        assert_eq!(at(5, 1).after(Some(at(900, 0))), at(901, 1));
        let last = Stamp::parse(&"f".repeat(32));
        assert!(
            last.is_some_and(|last| at(5, 1).after(Some(last)) <= last),
            "there is no later one, and no panic"
        );
    }
}
