//! What a scenario did, as a line of the table.

use std::{fmt, time::Duration};

const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    /// Bytes of an operation.
    size: usize,
    elapsed: Duration,
    /// Of each operation, in ascending order; at least one.
    latencies: Vec<Duration>,
    /// What the gateway used in that time.
    cpu: Duration,
    pub(crate) peak_mib: f64,
}

impl Report {
    pub(crate) fn new(
        name: &'static str,
        size: usize,
        elapsed: Duration,
        mut latencies: Vec<Duration>,
        cpu: Duration,
        peak_mib: f64,
    ) -> Self {
        latencies.sort_unstable();
        Self {
            name,
            size,
            elapsed,
            latencies,
            cpu,
            peak_mib,
        }
    }

    pub(crate) fn heading() -> String {
        format!(
            "{:<24}{:>9}{:>11}{:>10}{:>10}{:>10}{:>14}{:>11}",
            "", "ops", "ops/s", "MiB/s", "p50 ms", "p99 ms", "CPU ms/op", "peak MiB"
        )
    }

    /// Of the quickest operation.
    pub(crate) fn best_mib_per_second(&self) -> f64 {
        self.size as f64 / MIB / self.percentile(0).as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.latencies.len();
        let per_second = operations as f64 / self.elapsed.as_secs_f64();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "{:<24}{operations:>9}{per_second:>11.1}{:>10.1}{:>10.2}{:>10.2}{:>14.3}{:>11.1}",
            self.name,
            per_second * self.size as f64 / MIB,
            milliseconds(self.percentile(50)),
            milliseconds(self.percentile(99)),
            milliseconds(self.cpu) / operations as f64,
            self.peak_mib,
        )
    }
}
