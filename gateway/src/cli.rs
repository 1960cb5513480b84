//! The command line; one command a file.
//!
//! Exit codes: 0 done, 1 it could not be done, 2 the configuration or the command line is wrong. Those of `doctor` are 0
//! nothing wrong, 1 something found, repaired or not, 2 it could not examine.

mod authority;
mod check;
mod doctor;
mod health;
mod recover;
mod serve;

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Overrides};

/// It could not be done.
const FAILED: u8 = 1;
/// The configuration is wrong. (clap ends with the same code when the command line is.)
const WRONG_CONFIGURATION: u8 = 2;

/// `doctor` has found something.
const FOUND: u8 = 1;
/// `doctor` could not do its work.
const CANNOT_EXAMINE: u8 = 2;

/// A reverse gateway that speaks S3 in front of storage that you already have.
#[derive(Debug, Parser)]
#[command(name = "t2gate", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve S3 over HTTPS. Without a configuration: on loopback, onto ./t2-data, with a certificate and keys made there.
    Serve(ServeArguments),
    /// Check a configuration and say everything that is wrong with it.
    Check(CheckArguments),
    /// Ask a running gateway how it is. Exit code 0: well.
    Health(HealthArguments),
    /// Print the certificate that clients have to trust, where the gateway has made its own (PEM).
    Authority(AuthorityArguments),
    /// Examine a data directory that no gateway serves. Exit code 0: nothing wrong; 1: something found; 2: cannot examine.
    Doctor(DoctorArguments),
    /// Bring back what was deleted: take away the delete markers in a bucket with versioning.
    Undelete(recover::RecoverArguments),
    /// Make a bucket with versioning what it was at a point in time. Nothing is lost by it: it adds versions.
    Restore(recover::RestoreArguments),
}

#[derive(Debug, clap::Args)]
struct ServeArguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, instead of backend.root.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where S3 is served, instead of listen.address.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where health and metrics are served, instead of listen.admin_address.
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// t2 or aws, instead of s3.dialect.
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<String>,
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do not try the stores that it names: they are out of reach from here.
    #[arg(long)]
    no_probe: bool,
}

#[derive(Debug, clap::Args)]
struct HealthArguments {
    /// The configuration file (TOML) of that gateway, which says where it listens.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its admin listener, host and port, instead of listen.admin_address.
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    address: Option<String>,
    /// Ask whether it is ready for requests, not only whether it lives.
    #[arg(long)]
    ready: bool,
}

#[derive(Debug, clap::Args)]
struct AuthorityArguments {
    /// The configuration file (TOML) of that gateway.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its data directory, instead of backend.root.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct DoctorArguments {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Repair what can be repaired without losing bytes.
    #[arg(long)]
    repair: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(arguments) => {
            let ServeArguments {
                config,
                data,
                listen,
                admin_listen,
                dialect,
            } = arguments;
            serve::run(
                config.as_deref(),
                &Overrides {
                    data,
                    listen,
                    admin_listen,
                    dialect,
                },
            )
        }
        Command::Check(arguments) => check::run(&arguments.config, !arguments.no_probe),
        Command::Health(arguments) => health::run(
            arguments.config.as_deref(),
            arguments.address.as_deref(),
            arguments.ready,
        ),
        Command::Authority(arguments) => authority::run(arguments.config.as_deref(), arguments.data),
        Command::Doctor(arguments) => doctor::run(&arguments.data, arguments.repair, arguments.json),
        Command::Undelete(arguments) => recover::undelete(arguments),
        Command::Restore(arguments) => recover::restore(arguments),
    }
}

/// To standard output. One that is closed is no reason to stop.
fn say(text: impl fmt::Display) {
    let mut output = io::stdout().lock();
    drop(write!(output, "{text}").and_then(|()| output.flush()));
}

/// One line per fault on standard error.
fn wrong_configuration(error: &ConfigError) -> ExitCode {
    for fault in &error.faults {
        complain(fault);
    }
    ExitCode::from(WRONG_CONFIGURATION)
}

fn failed(error: impl fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::from(FAILED)
}

fn complain(error: impl fmt::Display) {
    drop(writeln!(io::stderr(), "t2gate: {error}"));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_takes_its_options() {
        let arguments =
            "t2gate serve --config a.toml --data d --listen 127.0.0.1:0 --admin-listen [::1]:0 --dialect aws";
        let Command::Serve(serve) = Arguments::try_parse_from(arguments.split(' ')).unwrap().command else {
            panic!("not serve");
        };
        assert_eq!(serve.config, Some("a.toml".into()));
        assert_eq!(serve.dialect.as_deref(), Some("aws"));
        assert!(
            Arguments::try_parse_from(["t2gate", "check"]).is_err(),
            "check needs a file"
        );
    }
}
