//! Where log lines go and how they look. What they say is written where it happens.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::{ParseError, filter_fn},
    fmt::{self, MakeWriter},
    layer::{Layer, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// Lets the span of a request through whatever else is filtered, so that every line of a request carries its id.
const REQUEST_SPAN: &str = "t2gate::layer::request_id=error";

/// What signs requests to stores tells the credentials that it was given in its lines below `warn`. They are never written.
const TELLS_SECRETS: &str = "reqsign";

/// The log of this process.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// The level was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SetLevelError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The process does not log by this filter.
    #[error(transparent)]
    Reload(#[from] reload::Error),
}

/// Starts logging to standard error. Does nothing if the process logs already, as in a test.
pub fn init(log: &Log) -> Logging {
    let pretty = match log.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    // The level was checked with the configuration.
    let filter = filter(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (subscriber, logging) = subscriber(filter, pretty, io::stderr().is_terminal(), io::stderr);
    // The one failure that there is: somebody was first.
    drop(subscriber.try_init());
    logging
}

impl Logging {
    /// Logs by `level` from now on: a level, or directives per module.
    pub fn set_level(&self, level: &str) -> Result<(), SetLevelError> {
        let filter = filter(level)?;
        Ok(self.filter.reload(filter)?)
    }
}

fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    Ok(EnvFilter::try_new(level)?.add_directive(REQUEST_SPAN.parse()?))
}

fn subscriber<W>(filter: EnvFilter, pretty: bool, colours: bool, writer: W) -> (impl Subscriber + Send + Sync, Logging)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let lines = if pretty {
        fmt::layer().with_ansi(colours).with_writer(writer).boxed()
    } else {
        // The spans' fields stand in "spans"; the innermost of them once more in "span" would say nothing new.
        let json = fmt::layer().json().flatten_event(true).with_current_span(false);
        json.with_writer(writer).boxed()
    };
    let discreet = filter_fn(|line| !line.target().starts_with(TELLS_SECRETS) || *line.level() <= Level::WARN);
    let subscriber = Registry::default().with(filter).with(discreet).with(lines);
    (subscriber, Logging { filter: handle })
}

#[cfg(test)]
mod tests;
