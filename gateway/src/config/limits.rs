//! `[limits]`: how much one peer, and all of them together, may take.

use std::time::Duration;

use serde::Deserialize;

use super::{
    fault::Faults,
    raw::{Period, Whole},
};

/// Bounds on connections and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Requests at a time, until their bodies have ended; one more is told to come back later.
    pub concurrent_requests: usize,
    /// Bytes of memory that the requests under way may take together; one that does not fit is told to come back later.
    pub memory_budget: u64,
    /// Bytes of request line and headers.
    pub header_bytes: usize,
    /// From the accepted connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body.
    pub idle_body_timeout: Duration,
    /// Between two requests on a connection.
    pub keep_alive_timeout: Duration,
    /// How long a peer may take nothing of an answer that waits for it.
    pub write_timeout: Duration,
    /// Bytes a second in either direction that a peer has to keep up while the gateway waits for it.
    pub least_throughput: u64,
    /// The time over which `least_throughput` is measured, and before which it is not asked for.
    pub throughput_grace: Duration,
    /// How long running requests may take to finish once the gateway was told to stop.
    pub drain_deadline: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) connections: Whole,
    pub(super) concurrent_requests: Whole,
    pub(super) memory_budget: Whole,
    pub(super) header_bytes: Whole,
    pub(super) handshake_timeout: Period,
    pub(super) header_timeout: Period,
    pub(super) idle_body_timeout: Period,
    pub(super) keep_alive_timeout: Period,
    pub(super) write_timeout: Period,
    pub(super) least_throughput: Whole,
    pub(super) throughput_grace: Period,
    pub(super) drain_deadline: Period,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            connections: Whole(1000),
            concurrent_requests: Whole(256),
            memory_budget: Whole(256 << 20),
            header_bytes: Whole(16 * 1024),
            handshake_timeout: Period::seconds(10),
            header_timeout: Period::seconds(10),
            idle_body_timeout: Period::seconds(30),
            keep_alive_timeout: Period::seconds(75),
            write_timeout: Period::seconds(30),
            least_throughput: Whole(1024),
            throughput_grace: Period::seconds(30),
            drain_deadline: Period::seconds(25),
        }
    }
}

/// What `concurrent_requests` can be at most.
pub(super) const MAX_CONCURRENT_REQUESTS: u64 = 1_000_000;
/// What `memory_budget` has to be: less would not hold one upload and one listing beside each other.
pub(super) const MIN_MEMORY_BUDGET: u64 = 8 << 20;
/// What `memory_budget` can be at most.
pub(super) const MAX_MEMORY_BUDGET: u64 = 1 << 40;

impl RawLimits {
    pub(super) fn check(self, faults: &mut Faults) -> Option<Limits> {
        let connections = faults.within("connections", self.connections.0, 1, 1_000_000);
        let concurrent_requests = faults.within(
            "concurrent_requests",
            self.concurrent_requests.0,
            1,
            MAX_CONCURRENT_REQUESTS,
        );
        let memory_budget = faults.within(
            "memory_budget",
            self.memory_budget.0,
            MIN_MEMORY_BUDGET,
            MAX_MEMORY_BUDGET,
        );
        // S3 itself takes 8 KiB of headers, of which 2 KiB are metadata; hyper's buffer is the upper bound here.
        let header_bytes = faults.within("header_bytes", self.header_bytes.0, 4096, 64 * 1024);
        let least_throughput = faults.within("least_throughput", self.least_throughput.0, 0, 1 << 30);
        let mut period = |key, Period(period)| {
            let fits = (Duration::from_millis(1)..=Duration::from_hours(24)).contains(&period);
            if !fits {
                faults.add(key, "must be between 1ms and 24h");
            }
            fits.then_some(period)
        };
        let handshake_timeout = period("handshake_timeout", self.handshake_timeout);
        let header_timeout = period("header_timeout", self.header_timeout);
        let idle_body_timeout = period("idle_body_timeout", self.idle_body_timeout);
        let keep_alive_timeout = period("keep_alive_timeout", self.keep_alive_timeout);
        let write_timeout = period("write_timeout", self.write_timeout);
        let throughput_grace = period("throughput_grace", self.throughput_grace);
        let drain_deadline = period("drain_deadline", self.drain_deadline);
        Some(Limits {
            connections: connections?,
            concurrent_requests: concurrent_requests?,
            memory_budget: memory_budget?,
            header_bytes: header_bytes?,
            handshake_timeout: handshake_timeout?,
            header_timeout: header_timeout?,
            idle_body_timeout: idle_body_timeout?,
            keep_alive_timeout: keep_alive_timeout?,
            write_timeout: write_timeout?,
            least_throughput: least_throughput?,
            throughput_grace: throughput_grace?,
            drain_deadline: drain_deadline?,
        })
    }
}
