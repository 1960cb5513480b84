//! `[log]`: what is logged, and how it looks.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::fault::Faults;

/// The log goes to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives per module: `info,t2gate::sigv4=debug`.
    pub level: Box<str>,
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    Pretty,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: "auto".to_owned(),
        }
    }
}

impl RawLog {
    pub(super) fn check(self, faults: &mut Faults) -> Option<Log> {
        let expected = "a level (error, warn, info, debug, trace) or a list such as \"info,t2gate::sigv4=debug\"";
        let valid = !self.level.is_empty() && EnvFilter::try_new(&self.level).is_ok();
        let level = faults.expect(
            "level",
            &self.level,
            expected,
            valid.then(|| self.level.as_str().into()),
        );
        let format = match self.format.as_str() {
            "auto" => Some(LogFormat::Auto),
            "pretty" => Some(LogFormat::Pretty),
            "json" => Some(LogFormat::Json),
            other => faults.expect("format", other, "\"auto\", \"pretty\" or \"json\"", None),
        };
        Some(Log {
            level: level?,
            format: format?,
        })
    }
}
