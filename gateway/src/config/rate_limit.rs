//! `[rate_limit]`: how many requests a second, by address, by key and by kind of operation.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::{fault::Faults, raw::Whole};
use crate::rate_limit::{KeyLimits, Limit, Quota};

/// Requests a second, by whom they are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Of one client address, before anything is known of the request.
    pub per_address: Limit,
    /// Of one application key.
    pub per_key: Limit,
    /// Of one application key, or of one address without a key: operations that read.
    pub read: Limit,
    /// Operations that write.
    pub write: Limit,
    /// Operations that list.
    pub list: Limit,
    /// How many buckets are kept for addresses, for keys, and for keys by kind of operation, each.
    pub max_entries: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRateLimit {
    pub(super) per_address: RawQuota,
    pub(super) per_key: RawQuota,
    pub(super) read: RawQuota,
    pub(super) write: RawQuota,
    pub(super) list: RawQuota,
    pub(super) max_entries: Whole,
}

/// What is left out comes from the default of where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawQuota {
    rate: Option<Whole>,
    burst: Option<Whole>,
}

/// `rate_limit` of a key. Nothing has a default here: what is left out is not overridden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKeyLimits {
    rate: Option<Whole>,
    burst: Option<Whole>,
    read: Option<RawQuota>,
    write: Option<RawQuota>,
    list: Option<RawQuota>,
}

impl Default for RawRateLimit {
    fn default() -> Self {
        Self {
            per_address: PER_ADDRESS,
            per_key: PER_KEY,
            read: READ,
            write: WRITE,
            list: LIST,
            max_entries: Whole(65_536),
        }
    }
}

const PER_ADDRESS: RawQuota = RawQuota::of(6000, 12_000);
const PER_KEY: RawQuota = RawQuota::of(6000, 12_000);
const READ: RawQuota = RawQuota::of(5500, 11_000);
const WRITE: RawQuota = RawQuota::of(3500, 7000);
const LIST: RawQuota = RawQuota::of(500, 1000);

/// Of a rate and of a burst.
const MOST: u64 = 1_000_000;

impl RawRateLimit {
    pub(super) fn check(self, faults: &mut Faults) -> Option<RateLimit> {
        let per_address = self.per_address.check("per_address", PER_ADDRESS, faults);
        let per_key = self.per_key.check("per_key", PER_KEY, faults);
        let read = self.read.check("read", READ, faults);
        let write = self.write.check("write", WRITE, faults);
        let list = self.list.check("list", LIST, faults);
        let max_entries = faults.within("max_entries", self.max_entries.0, 1024, 100_000_000);
        Some(RateLimit {
            per_address: per_address?,
            per_key: per_key?,
            read: read?,
            write: write?,
            list: list?,
            max_entries: max_entries?,
        })
    }
}

impl RawKeyLimits {
    pub(super) fn check(self, faults: &mut Faults) -> Option<KeyLimits> {
        let requests = RawQuota {
            rate: self.rate,
            burst: self.burst,
        };
        let given = (requests != RawQuota::default()).then_some(requests);
        let mut check = |key: &str, quota: Option<RawQuota>| match quota {
            Some(quota) => quota.check(key, RawQuota::default(), faults).map(Some),
            None => Some(None),
        };
        let requests = check("rate_limit", given);
        let read = check("rate_limit.read", self.read);
        let write = check("rate_limit.write", self.write);
        let list = check("rate_limit.list", self.list);
        Some(KeyLimits {
            requests: requests?,
            read: read?,
            write: write?,
            list: list?,
        })
    }
}

impl RawQuota {
    const fn of(rate: u64, burst: u64) -> Self {
        Self {
            rate: Some(Whole(rate)),
            burst: Some(Whole(burst)),
        }
    }

    fn check(self, key: &str, default: Self, faults: &mut Faults) -> Option<Limit> {
        let Some(Whole(rate)) = self.rate.or(default.rate) else {
            faults.add(&format!("{key}.rate"), "is missing beside burst");
            return None;
        };
        let rate = faults.within::<u32>(&format!("{key}.rate"), rate, 0, MOST);
        let burst = match (self.burst, self.rate, default.burst) {
            (Some(Whole(burst)), _, _) | (None, None, Some(Whole(burst))) => {
                faults.within::<u32>(&format!("{key}.burst"), burst, 1, MOST)
            }
            (None, ..) => rate.map(|rate| rate.saturating_mul(2).clamp(1, MOST as u32)),
        };
        let (rate, burst) = (rate?, NonZeroU32::new(burst?)?);
        Some(NonZeroU32::new(rate).map_or(Limit::Unlimited, |rate| Limit::Quota(Quota::new(rate, burst))))
    }
}
