//! `t2gate check`: is this configuration right?

use std::{path::Path, process::ExitCode, sync::Arc};

use t2gate_backends::{Clock as _, OpendalBackend, SystemClock};

use super::{failed, say, wrong_configuration};
use crate::{
    app,
    config::{Backend, BackendKind, Config, Overrides},
    server::tls::{Tls, TlsOptions},
};

/// Says what is wrong, or that nothing is. A certificate that is named is loaded too, and each
/// store that is named is probed, if `with_stores`; nothing else is made or changed.
pub(super) fn run(file: &Path, with_stores: bool) -> ExitCode {
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
    for backend in config
        .backends
        .iter()
        .filter(|backend| with_stores && backend.kind == BackendKind::Opendal)
    {
        if let Err(error) = probe(backend) {
            return failed(format_args!("{}: backend {}: {error:#}", file.display(), backend.name));
        }
    }
    say(format_args!("{}: nothing wrong\n", file.display()));
    ExitCode::SUCCESS
}

/// Shows what the store keeps, and fails where a start would refuse it. It writes below `.t2/probe/` there, and removes that again.
fn probe(backend: &Backend) -> Result<(), anyhow::Error> {
    let options = app::store_options(backend, Arc::new(SystemClock));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let check = runtime.block_on(OpendalBackend::check(&options))?;
    say(format_args!(
        "{} ({}):\n{}\n",
        backend.name, check.report.service, check.report
    ));
    match check.refusal {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}
