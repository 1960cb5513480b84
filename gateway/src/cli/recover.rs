//! `t2gate undelete` and `t2gate restore`: what was deleted or overwritten comes back.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use t2gate_backends::{BucketName, Timestamp};

use super::{complain, failed, say, wrong_configuration};
use crate::{
    app,
    config::{Config, Overrides},
    recover::{self, Change, Progress, Scope},
};

/// Where, and how much.
#[derive(Debug, clap::Args)]
pub(super) struct RecoverArguments {
    /// The configuration file (TOML) of the gateway that serves the bucket.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, instead of backend.root.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[arg(long, value_name = "BUCKET", value_parser = bucket_name)]
    bucket: BucketName,
    /// Only keys that begin so.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: Box<str>,
    /// Change nothing; print what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    recover: RecoverArguments,
    /// The point in time, as 2026-01-31T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Timestamp,
}

fn bucket_name(text: &str) -> Result<BucketName, String> {
    BucketName::parse(text).map_err(|error| error.to_string())
}

/// RFC 3339, with an offset.
fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Ok(Timestamp::from_unix(
        time.as_second(),
        time.subsec_nanosecond().try_into().unwrap_or(0),
    ))
}

pub(super) fn undelete(arguments: RecoverArguments) -> ExitCode {
    run(arguments, None)
}

pub(super) fn restore(arguments: RestoreArguments) -> ExitCode {
    run(arguments.recover, Some(arguments.at))
}

/// Prints a line for each key that is changed, then a count. Meanwhile the count is told on standard error: kept up to
/// date on a terminal, elsewhere a line every 10 seconds.
fn run(arguments: RecoverArguments, at: Option<Timestamp>) -> ExitCode {
    let overrides = Overrides {
        data: arguments.data,
        ..Overrides::default()
    };
    let config = match Config::load(arguments.config.as_deref(), &overrides) {
        Ok(config) => config,
        Err(error) => return wrong_configuration(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(format_args!("cannot start threads: {error}")),
    };
    let scope = Scope {
        bucket: arguments.bucket,
        prefix: arguments.prefix,
        dry_run: arguments.dry_run,
    };
    let backend = match runtime.block_on(app::open_storage_of(&config, &scope.bucket, scope.dry_run)) {
        Ok(backend) => backend,
        Err(error) => return failed(format_args!("{error:#}")),
    };
    let is_terminal = io::stderr().is_terminal();
    let mut counter = Counter::new(Instant::now());
    let tell = |progress: Progress, change: Option<&Change>| match change {
        Some(change) => say_change(change),
        None if is_terminal => drop(write!(io::stderr(), "\r{}", count(progress))),
        None if counter.is_due(Instant::now()) => complain(count(progress)),
        None => {}
    };
    let outcome = runtime.block_on(async {
        match at {
            None => recover::undelete(&*backend, &scope, tell).await,
            Some(time) => recover::restore(&*backend, &scope, time, tell).await,
        }
    });
    if is_terminal {
        drop(writeln!(io::stderr()));
    }
    match outcome {
        Ok(Progress { examined, changed }) => {
            let done = if scope.dry_run { "would be changed" } else { "changed" };
            say(format_args!("{examined} keys examined, {changed} {done}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain("stopped; what is printed above is done, and the command can be run again");
            failed(error)
        }
    }
}

fn say_change(change: &Change) {
    // A key may hold what a terminal would obey.
    match change {
        Change::Undelete { key, .. } => say(format_args!("undelete  {}\n", key.as_str().escape_debug())),
        Change::Restore { key, version_id } => {
            say(format_args!(
                "restore   {}  {version_id}\n",
                key.as_str().escape_debug()
            ));
        }
        Change::Delete { key } => say(format_args!("delete    {}\n", key.as_str().escape_debug())),
    }
}

fn count(Progress { examined, changed }: Progress) -> String {
    format!("{examined} keys examined, {changed} changed")
}

/// When the count is told in a log, which keeps each line.
struct Counter {
    told: Instant,
}

impl Counter {
    const EVERY: Duration = Duration::from_secs(10);

    fn new(now: Instant) -> Self {
        Self { told: now }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.told) >= Self::EVERY;
        if is_due {
            self.told = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let start = Instant::now();
        let mut counter = Counter::new(start);
        let told: Vec<_> = (0..=35)
            .filter(|second| counter.is_due(start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(told, [10, 20, 30]);
    }

    #[test]
    fn times_are_points_in_time() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(Timestamp::from_unix(1, 0)));
        assert_eq!(
            time("1970-01-01T01:00:01.5+01:00"),
            Ok(Timestamp::from_unix(1, 500_000_000))
        );
        for bad in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-01-31T18:00:00",
            "2026-02-30T00:00:00Z",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
