//! What the file of a kept version is called.

use crate::{Stamp, Version};

/// Behind the name of a delete marker.
const MARKER: &str = ".d";
/// Behind the name of an object that is [away](Kept::away_name).
const AWAY: &str = ".away";

/// A version that is kept beside the current object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) struct Kept {
    pub(in crate::fs) version: Version,
    /// A delete marker. Its time is its stamp's.
    pub(in crate::fs) marker: bool,
}

impl Kept {
    /// The stamp, every bit of it turned round, in 32 hex digits: the newest sorts first.
    pub(in crate::fs) fn name(&self) -> String {
        let mut name = inverted(self.version.stamp);
        if self.marker {
            name.push_str(MARKER);
        }
        name
    }

    /// Its name while it is in the history only because it cannot have two names: its object is on its way out of its place
    /// or back to it. As long as nothing newer is there it is still what is current.
    pub(in crate::fs) fn away_name(&self) -> String {
        inverted(self.version.stamp) + AWAY
    }

    /// What is away under this name.
    pub(in crate::fs) fn parse_away(name: &str, null: bool) -> Option<Self> {
        Self::parse(name.strip_suffix(AWAY)?, null).filter(|kept| !kept.marker)
    }

    /// `None` for what is no such name. `null`: it lies among those.
    pub(in crate::fs) fn parse(name: &str, null: bool) -> Option<Self> {
        let (digits, marker) = match name.strip_suffix(MARKER) {
            Some(digits) => (digits, true),
            None => (name, false),
        };
        let stamp = Stamp::from_bits(!Stamp::parse(digits)?.to_bits());
        Some(Self {
            version: Version { stamp, null },
            marker,
        })
    }
}

/// What the names of a version with this stamp begin with.
pub(in crate::fs) fn inverted(stamp: Stamp) -> String {
    Stamp::from_bits(!stamp.to_bits()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn names_tell_versions_and_sort_the_newest_first() {
        let at = |nanos, random, marker| Kept {
            version: Version {
                stamp: Stamp::new(Timestamp::from_unix_nanos(nanos), random),
                null: false,
            },
            marker,
        };
        let kept = [
            at(i64::MAX, 1, true),
            at(7, 9, false),
            at(7, 8, true),
            at(1, u64::MAX, false),
            at(0, 0, true),
        ];
        for pair in kept.windows(2) {
            assert!(pair[0].name() < pair[1].name());
        }
        for kept in kept {
            assert_eq!(Kept::parse(&kept.name(), false), Some(kept));
            assert_eq!(Kept::parse_away(&kept.name(), false), None);
            assert_eq!(Kept::parse(&kept.away_name(), false), None);
            let object = Kept { marker: false, ..kept };
            assert_eq!(Kept::parse_away(&kept.away_name(), false), Some(object));
        }
        for bad in [
            "",
            "null",
            ".d",
            "0",
            &"F".repeat(32),
            &"0".repeat(33),
            &format!("{}.x", "0".repeat(32)),
            &format!("{}.d.away", "0".repeat(32)),
            ".away",
        ] {
            assert_eq!(Kept::parse(bad, false), None, "{bad}");
            assert_eq!(Kept::parse_away(bad, false), None, "{bad}");
        }
    }
}
