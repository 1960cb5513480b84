//! What a record says of versions: which one it is, and which are kept under a head.

use minicbor::{Decode, Encode};

use crate::{Stamp, Version};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(in crate::opendal) struct StoredVersion {
    #[n(0)]
    stamp: (u64, u64),
    #[n(1)]
    null: bool,
}

impl From<Version> for StoredVersion {
    fn from(version: Version) -> Self {
        Self {
            stamp: halves(version.stamp),
            null: version.null,
        }
    }
}

impl From<StoredVersion> for Version {
    fn from(stored: StoredVersion) -> Self {
        Self {
            stamp: whole(stored.stamp),
            null: stored.null,
        }
    }
}

fn halves(stamp: Stamp) -> (u64, u64) {
    let bits = stamp.to_bits();
    let low = bits & u128::from(u64::MAX);
    (u64::try_from(bits >> 64).unwrap_or(0), u64::try_from(low).unwrap_or(0))
}

fn whole((high, low): (u64, u64)) -> Stamp {
    Stamp::from_bits(u128::from(high) << 64 | u128::from(low))
}

/// What a head says of the versions that are kept under it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(in crate::opendal) struct Keeping {
    /// Another one for each write of the head: so no two are equal in bytes, and a write knows its own work again.
    #[n(0)]
    pub(in crate::opendal) turn: Box<str>,
    /// Another one whenever a version that is kept was removed.
    #[n(1)]
    pub(in crate::opendal) epoch: Box<str>,
    /// What is newer than this is not kept. `None`: nothing is.
    #[n(2)]
    newest: Option<(u64, u64)>,
    /// Which of those that are kept is the version `null`; any other that says so is dead.
    #[n(3)]
    null: Option<(u64, u64)>,
    /// Dead, whatever lies in the history, until their tombstones are sure to lie there.
    #[n(4)]
    gone: Vec<(u64, u64)>,
    /// The history may hold the head's own version too.
    #[n(5)]
    pub(in crate::opendal) promoted: bool,
}

impl Keeping {
    /// For the next write of a head: what was there, without those that are gone.
    pub(in crate::opendal) fn after(before: Option<&Self>, turn: Stamp) -> Self {
        let turn: Box<str> = turn.to_string().into();
        Self {
            epoch: before.map_or_else(|| turn.clone(), |before| before.epoch.clone()),
            newest: before.and_then(|before| before.newest),
            null: before.and_then(|before| before.null),
            gone: Vec::new(),
            promoted: false,
            turn,
        }
    }

    pub(in crate::opendal) fn newest(&self) -> Option<Stamp> {
        self.newest.map(whole)
    }

    pub(in crate::opendal) fn set_newest(&mut self, newest: Option<Stamp>) {
        self.newest = newest.map(halves);
    }

    pub(in crate::opendal) fn null(&self) -> Option<Stamp> {
        self.null.map(whole)
    }

    pub(in crate::opendal) fn set_null(&mut self, null: Option<Stamp>) {
        self.null = null.map(halves);
    }

    pub(in crate::opendal) fn gone(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.gone.iter().copied().map(whole)
    }

    pub(in crate::opendal) fn add_gone(&mut self, stamp: Stamp) {
        self.gone.push(halves(stamp));
    }

    /// Whoever reads the history while this is written has to begin anew.
    pub(in crate::opendal) fn begin_epoch(&mut self) {
        self.epoch = self.turn.clone();
    }

    /// Whether what the history holds of `version` is there.
    pub(in crate::opendal) fn keeps(&self, version: Version) -> bool {
        if version.null {
            return self.null() == Some(version.stamp);
        }
        self.newest().is_some_and(|newest| version.stamp <= newest) && self.gone().all(|gone| gone != version.stamp)
    }
}
