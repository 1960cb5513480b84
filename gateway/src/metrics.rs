//! Every metric's name and labels. One set per gateway, in a registry of its own: nothing here is global.
//!
//! Labels are words of ours: names of operations, error codes, statuses. Nothing that a client or an object is called
//! ever becomes one, so that no client can make series.

mod pulled;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector, process_collector::ProcessCollector,
};
use t2gate_backends::{CallOutcome, Observer, StoreCallOutcome, StoreObserver, Timestamp};

use self::pulled::Pulled;
use crate::{
    layer::{memory_budget::MemoryBudget, rate_limit::RateLimits, record::RequestRecord},
    server::{ConnectionStats, Tls},
};

/// The operation of a request that was refused before it was understood.
const UNKNOWN: &str = "Unknown";

/// The status of a request whose client went away before there was one.
const ABORTED: &str = "aborted";

/// Upper bounds in seconds: from what a cache answers to what a slow disk takes.
const LATENCY: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Upper bounds in seconds of whole requests, which last as long as their bodies.
const DURATION: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// Upper bounds in seconds of calls of a store, which lies behind a network; a part of a body may take 300.
const STORE_CALL: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0, 300.0,
];

/// All metrics of a gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    errors: IntCounterVec,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    first_byte: HistogramVec,
    duration: HistogramVec,
    in_flight: IntGauge,
    rate_limited: IntCounterVec,
    authentication_failures: IntCounterVec,
    backend_calls: HistogramVec,
    store_calls: HistogramVec,
    store_bytes: IntCounterVec,
    store_retries: IntCounterVec,
}

impl Metrics {
    /// Fails only if two metrics had one name.
    pub fn new() -> Result<Arc<Self>, Error> {
        let registry = Registry::new();
        let metrics = Self {
            requests: register(
                &registry,
                IntCounterVec::new(
                    opts("requests_total", "Requests that have ended, by operation and status."),
                    &["operation", "status"],
                )?,
            )?,
            errors: register(
                &registry,
                IntCounterVec::new(
                    opts(
                        "errors_total",
                        "Requests that were refused or failed, by S3 error code.",
                    ),
                    &["code"],
                )?,
            )?,
            received_bytes: register(
                &registry,
                IntCounter::with_opts(opts(
                    "received_bytes_total",
                    "Bytes of request bodies, as they came in.",
                ))?,
            )?,
            sent_bytes: register(
                &registry,
                IntCounter::with_opts(opts("sent_bytes_total", "Bytes of response bodies, as they went out."))?,
            )?,
            first_byte: register(
                &registry,
                HistogramVec::new(
                    histogram(
                        "request_first_byte_seconds",
                        "From the headers of a request to those of its answer, by operation.",
                        LATENCY,
                    ),
                    &["operation"],
                )?,
            )?,
            duration: register(
                &registry,
                HistogramVec::new(
                    histogram(
                        "request_duration_seconds",
                        "From the headers of a request to the end of its answer, by operation.",
                        DURATION,
                    ),
                    &["operation"],
                )?,
            )?,
            in_flight: register(
                &registry,
                IntGauge::with_opts(opts("requests_in_flight", "Requests that have begun and not ended."))?,
            )?,
            rate_limited: register(
                &registry,
                IntCounterVec::new(
                    opts("rate_limited_total", "Requests over a rate limit, by the limit."),
                    &["kind"],
                )?,
            )?,
            authentication_failures: register(
                &registry,
                IntCounterVec::new(
                    opts(
                        "authentication_failures_total",
                        "Requests whose credentials do not hold, by reason.",
                    ),
                    &["reason"],
                )?,
            )?,
            backend_calls: register(
                &registry,
                HistogramVec::new(
                    histogram(
                        "backend_call_seconds",
                        "Time that calls of the storage took, waiting for clients not counted, by result: ok, refused for \
                     a reason that the client is told, or failed.",
                        LATENCY,
                    ),
                    &["backend", "operation", "result"],
                )?,
            )?,
            store_calls: register(
                &registry,
                HistogramVec::new(
                    histogram(
                        "store_call_seconds",
                        "Time that calls of a store behind an opendal backend took, each attempt by itself, by result: \
                         ok, not_found, refused (a condition, or nothing that the store can do), denied (the gateway's \
                         own credentials), busy, or failed.",
                        STORE_CALL,
                    ),
                    &["backend", "service", "operation", "result"],
                )?,
            )?,
            store_bytes: register(
                &registry,
                IntCounterVec::new(
                    opts(
                        "store_bytes_total",
                        "Bytes that were read from a store, written to it, or copied inside it.",
                    ),
                    &["backend", "service", "operation"],
                )?,
            )?,
            store_retries: register(
                &registry,
                IntCounterVec::new(
                    opts("store_retries_total", "Calls of a store that were tried once more."),
                    &["backend", "service", "operation"],
                )?,
            )?,
            registry,
        };
        // What alerts look at is there from the start, as zero.
        for kind in ["address", "key", "read", "write", "list"] {
            metrics.rate_limited.with_label_values(&[kind]);
        }
        let build = register(
            &metrics.registry,
            Gauge::with_opts(
                opts("build_info", "1, with what was built.").const_label("version", env!("CARGO_PKG_VERSION")),
            )?,
        )?;
        build.set(1.0);
        metrics.registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Arc::new(metrics))
    }

    /// What is scraped.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds what a server counts of its connections. Once.
    pub fn watch_connections(&self, stats: &Arc<ConnectionStats>) -> Result<(), Error> {
        type Field = fn(&ConnectionStats) -> &AtomicU64;
        let pull = |field: Field| {
            let stats = stats.clone();
            move || field(&stats).load(Relaxed)
        };
        let counters: [(&str, &str, Field); 6] = [
            (
                "connections_accepted_total",
                "Connections that were accepted, refused ones too.",
                |s| &s.accepted,
            ),
            (
                "connections_refused_total",
                "Connections that were closed at once, for there were too many.",
                |s| &s.refused,
            ),
            (
                "connections_displaced_total",
                "Connections that waited for their peers and were closed, for there were too many and another one came.",
                |s| &s.displaced,
            ),
            (
                "connection_timeouts_total",
                "Connections that were cut because their peer was too slow.",
                |s| &s.timeouts,
            ),
            (
                "accept_errors_total",
                "Times that no connection could be accepted, for lack of resources.",
                |s| &s.accept_errors,
            ),
            ("tls_handshakes_total", "TLS handshakes that succeeded.", |s| {
                &s.handshakes
            }),
        ];
        for (name, help, field) in counters {
            let counter = Pulled::counter(opts(name, help), &[], vec![(Vec::new(), Box::new(pull(field)))])?;
            self.registry.register(Box::new(counter))?;
        }
        let failures = Pulled::counter(
            opts(
                "tls_handshake_failures_total",
                "TLS handshakes that did not come about, by reason.",
            ),
            &["reason"],
            vec![
                (vec!["handshake"], Box::new(pull(|s| &s.handshake_failures))),
                (vec!["plain_text"], Box::new(pull(|s| &s.plain_text))),
            ],
        )?;
        self.registry.register(Box::new(failures))?;
        self.gauge("connections", "Connections now.", pull(|s| &s.open))
    }

    /// Adds how much of the memory budget is given out. Once.
    pub fn watch_memory(&self, budget: &MemoryBudget) -> Result<(), Error> {
        let (used, total) = (budget.clone(), budget.total());
        self.gauge(
            "memory_budget_bytes",
            "Bytes that requests may reserve together.",
            move || total,
        )?;
        self.gauge(
            "memory_budget_used_bytes",
            "Bytes that requests have reserved.",
            move || used.in_use(),
        )
    }

    /// Adds from when until when the certificate in force is valid: how near its end is too near goes by how long it
    /// was made for. Once.
    pub fn watch_certificate(&self, tls: &Arc<Tls>) -> Result<(), Error> {
        let seconds = |time: Timestamp| u64::try_from(time.unix_seconds()).unwrap_or(0);
        let (begins, expires) = (tls.clone(), tls.clone());
        let help = "From when the certificate in force is valid, in seconds since 1970.";
        self.gauge("certificate_not_before_timestamp_seconds", help, move || {
            seconds(begins.begins())
        })?;
        let help = "When the certificate in force expires, in seconds since 1970.";
        self.gauge("certificate_expiry_timestamp_seconds", help, move || {
            seconds(expires.expires())
        })
    }

    /// Adds how much is remembered for the rate limits. Once.
    pub fn watch_rate_limits(&self, limits: &Arc<RateLimits>) -> Result<(), Error> {
        let limits = limits.clone();
        let help = "Addresses, keys, and keys by kind of operation that are remembered for rate limits.";
        self.gauge("rate_limit_buckets", help, move || limits.len() as u64)
    }

    fn gauge(&self, name: &str, help: &str, value: impl Fn() -> u64 + Send + Sync + 'static) -> Result<(), Error> {
        let gauge = Pulled::gauge(opts(name, help), value)?;
        self.registry.register(Box::new(gauge))
    }

    /// A request has begun. It ends when what is returned is dropped, and is counted as aborted unless it was told how
    /// it ended.
    pub(crate) fn request(self: &Arc<Self>, record: RequestRecord) -> OpenRequest {
        self.in_flight.inc();
        OpenRequest {
            metrics: self.clone(),
            record,
            status: None,
            first_byte: None,
            total: None,
        }
    }

    pub(crate) fn received_bytes(&self) -> IntCounter {
        self.received_bytes.clone()
    }

    pub(crate) fn sent_bytes(&self) -> IntCounter {
        self.sent_bytes.clone()
    }

    /// What is told of the calls of a storage; `backend` is its name in the configuration.
    pub fn backend_observer(self: &Arc<Self>, backend: &str) -> Arc<dyn Observer> {
        Arc::new(BackendObserver {
            metrics: self.clone(),
            backend: backend.into(),
        })
    }

    /// What is told of the calls of a store; `backend` is its name in the configuration.
    pub fn store_observer(self: &Arc<Self>, backend: &str, service: &str) -> Arc<dyn StoreObserver> {
        Arc::new(StoreMetrics {
            metrics: self.clone(),
            backend: backend.into(),
            service: service.into(),
        })
    }
}

/// A request that is counted as in flight, and once it is dropped as what it became.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    metrics: Arc<Metrics>,
    record: RequestRecord,
    status: Option<http::StatusCode>,
    first_byte: Option<Duration>,
    total: Option<Duration>,
}

impl OpenRequest {
    /// The headers of the answer are known.
    pub(crate) fn answered(&mut self, status: http::StatusCode, first_byte: Duration) {
        self.status = Some(status);
        self.first_byte = Some(first_byte);
    }

    /// The answer has ended, well or not.
    pub(crate) fn ended(mut self, total: Duration) {
        self.total = Some(total);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let (metrics, record) = (&self.metrics, &self.record);
        let operation = record.operation().unwrap_or(UNKNOWN);
        metrics.in_flight.dec();
        let status = self.status.as_ref().map_or(ABORTED, |status| status.as_str());
        metrics.requests.with_label_values(&[operation, status]).inc();
        let observe = |histogram: &HistogramVec, time: Option<Duration>| {
            if let Some(time) = time {
                let histogram: Histogram = histogram.with_label_values(&[operation]);
                histogram.observe(time.as_secs_f64());
            }
        };
        observe(&metrics.first_byte, self.first_byte);
        observe(&metrics.duration, self.total);
        let count = |counter: &IntCounterVec, label: Option<&str>| {
            if let Some(label) = label {
                counter.with_label_values(&[label]).inc();
            }
        };
        count(&metrics.errors, record.code().map(|code| code.as_str()));
        count(&metrics.rate_limited, record.rate_limited());
        count(&metrics.authentication_failures, record.authentication_failure());
    }
}

#[derive(Debug)]
struct BackendObserver {
    metrics: Arc<Metrics>,
    backend: Box<str>,
}

impl Observer for BackendObserver {
    fn observe(&self, operation: &'static str, outcome: CallOutcome, time: Duration) {
        let labels = [&*self.backend, operation, outcome.as_str()];
        let calls = &self.metrics.backend_calls;
        calls.with_label_values(&labels).observe(time.as_secs_f64());
    }
}

#[derive(Debug)]
struct StoreMetrics {
    metrics: Arc<Metrics>,
    backend: Box<str>,
    service: Box<str>,
}

impl StoreObserver for StoreMetrics {
    fn call(&self, operation: &'static str, outcome: StoreCallOutcome, time: Duration) {
        let labels = [&*self.backend, &*self.service, operation, outcome.as_str()];
        let calls = &self.metrics.store_calls;
        calls.with_label_values(&labels).observe(time.as_secs_f64());
    }

    fn bytes(&self, operation: &'static str, bytes: u64) {
        let labels = [&*self.backend, &*self.service, operation];
        self.metrics.store_bytes.with_label_values(&labels).inc_by(bytes);
    }

    fn retry(&self, operation: &'static str) {
        let labels = [&*self.backend, &*self.service, operation];
        self.metrics.store_retries.with_label_values(&labels).inc();
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("t2gate")
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace("t2gate")
        .buckets(buckets.to_vec())
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests;
