//! `t2gate authority`: the certificate that clients have to trust, from where no other program can read it: an image has no
//! shell.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{failed, say, serve::own_tls, wrong_configuration};
use crate::{
    config::{Config, Overrides},
    server::self_signed,
};

/// To standard output, in PEM: of the gateway with this configuration, or with this data directory.
pub(super) fn run(file: Option<&Path>, data: Option<PathBuf>) -> ExitCode {
    let overrides = Overrides {
        data,
        ..Overrides::default()
    };
    let config = match Config::load(file, &overrides) {
        Ok(config) => config,
        Err(error) => return wrong_configuration(&error),
    };
    if let Some(files) = &config.tls.certificate {
        return failed(format_args!(
            "the certificate is that of tls.certificate, {}: clients have to trust whoever made it",
            files.certificate.display()
        ));
    }
    let path = self_signed::authority(&own_tls(&config));
    match fs::read_to_string(&path) {
        Ok(pem) => {
            say(pem);
            ExitCode::SUCCESS
        }
        Err(error) => failed(format_args!(
            "cannot read {}, which the first start makes: {error}",
            path.display()
        )),
    }
}
