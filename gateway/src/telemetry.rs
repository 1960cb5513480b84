//! Where log lines go. What they say is written where it happens.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat};

/// Starts logging to standard error. Does nothing if the process logs already, as in a test.
pub fn init(log: &Log) {
    // The level was checked with the configuration.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let pretty = match log.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if pretty {
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        registry.with(lines).try_init()
    } else {
        let lines = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
        registry.with(lines).try_init()
    };
    // The one failure that there is: somebody was first.
    drop(started);
}
