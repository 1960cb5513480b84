//! `t2gate undelete` and `t2gate restore`: what was deleted or overwritten comes back.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
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

/// Prints a line for each key that is changed, then a count. On a terminal the count is kept up to date meanwhile.
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
    let outcome = runtime.block_on(async {
        match at {
            None => recover::undelete(&*backend, &scope, tell).await,
            Some(time) => recover::restore(&*backend, &scope, time, tell).await,
        }
    });
    if io::stderr().is_terminal() {
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

fn tell(progress: Progress, change: Option<&Change>) {
    // A key may hold what a terminal would obey.
    match change {
        Some(Change::Undelete { key, .. }) => say(format_args!("undelete  {}\n", key.as_str().escape_debug())),
        Some(Change::Restore { key, version_id }) => {
            say(format_args!(
                "restore   {}  {version_id}\n",
                key.as_str().escape_debug()
            ));
        }
        Some(Change::Delete { key }) => say(format_args!("delete    {}\n", key.as_str().escape_debug())),
        None if io::stderr().is_terminal() => {
            let Progress { examined, changed } = progress;
            drop(write!(io::stderr(), "\r{examined} keys examined, {changed} changed"));
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
