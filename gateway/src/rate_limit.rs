//! Token buckets: how many requests a second something may make, and how many at once. Pure; the time is an argument.
//!
//! A bucket is the generic cell rate algorithm: instead of a number of tokens and the time of the last look, it is one
//! moment, the one at which it is full again. The whole state is a bounded map from keys to such moments.
//!
//! Written here rather than taken from a library because three things are asked of it at once: a quota that can differ
//! from key to key, state with a fixed bound that needs no sweep, and a wait that is known to the nanosecond and can be
//! booked.

mod buckets;

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

pub use buckets::TokenBuckets;

/// A rate and a burst.
///
/// In any stretch of time `t` at most `burst + rate * t` requests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    rate: NonZeroU32,
    burst: NonZeroU32,
}

impl Quota {
    /// `rate` tokens a second, and room for `burst` of them.
    pub const fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { rate, burst }
    }

    /// Tokens a second.
    pub const fn rate(self) -> NonZeroU32 {
        self.rate
    }

    /// Tokens in a full bucket.
    pub const fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// Nanoseconds from one token to the next. Rounded up: a limit errs on the side of the limit.
    fn interval(self) -> u64 {
        1_000_000_000_u64.div_ceil(self.rate.get().into())
    }

    /// Nanoseconds in which an empty bucket is full again. At most 2^32 * 10^9, which 64 bits hold.
    fn window(self) -> u64 {
        self.interval() * u64::from(self.burst.get())
    }
}

/// A quota, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Unlimited,
    Quota(Quota),
}

/// Where one application key has other limits than the rest. `None`: it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Requests of all kinds.
    pub requests: Option<Limit>,
    pub read: Option<Limit>,
    pub write: Option<Limit>,
    pub list: Option<Limit>,
}

/// No token: how long until there is one.
///
/// Whoever asks alone is told the first moment at which there is one. Where several are refused, each is told a moment of
/// his own, one token after the other: if all of them come as they were told, all of them get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over the rate limit for another {0:?}")]
pub struct RetryAfter(pub Duration);

/// An address as far as one client can be told from another.
///
/// Of IPv6 that is the first 64 bits: whoever has one address of such a network has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(u64, bool);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        // `::ffff:192.0.2.1` is a client of IPv4 on a socket of IPv6.
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u32::from(v4).into(), false),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                let network = [a, b, c, d]
                    .into_iter()
                    .fold(0, |bits, segment| bits << 16 | u64::from(segment));
                Self(network, true)
            }
        }
    }
}

#[cfg(test)]
mod tests;
