//! `t2gate check`: is this configuration right?

use std::{path::Path, process::ExitCode};

use t2gate_backends::{Clock as _, SystemClock};

use super::{failed, say, wrong_configuration};
use crate::{
    config::{Config, Overrides},
    server::tls::{Tls, TlsOptions},
};

/// Says what is wrong, or that nothing is. A certificate that is named is loaded too; nothing is made or changed.
pub(super) fn run(file: &Path) -> ExitCode {
    let config = match Config::load(Some(file), &Overrides::default()) {
        Ok(config) => config,
        Err(error) => return wrong_configuration(&error),
    };
    if let Some(files) = &config.tls.certificate {
        let options = TlsOptions {
            min_version: config.tls.min_version,
            http2: config.tls.http2,
        };
        if let Err(error) = Tls::load(files, options, SystemClock.now()) {
            return failed(format_args!("{}: {error}", file.display()));
        }
    }
    say(format_args!("{}: nothing wrong\n", file.display()));
    ExitCode::SUCCESS
}
