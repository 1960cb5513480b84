//! `t2gate check`: is this configuration right?

use std::{fs, io, path::Path, process::ExitCode, sync::Arc};

use rustix::fs::{Access, access};
use t2gate_backends::{Clock as _, OpendalBackend, SystemClock};

use super::{FAILED, complain, say, wrong_configuration};
use crate::{
    app,
    config::{Backend, BackendKind, Config, Overrides},
    server::tls::{Tls, TlsOptions},
};

/// Says all that is wrong, or that nothing is. A certificate that is named is loaded too, a directory that is served is
/// looked at, and each store that is named is probed, if `with_stores`; nothing else is made or changed.
pub(super) fn run(file: &Path, with_stores: bool) -> ExitCode {
    let config = match Config::load(Some(file), &Overrides::default()) {
        Ok(config) => config,
        Err(error) => return wrong_configuration(&error),
    };
    let mut faults: Vec<String> = Vec::new();
    if let Some(files) = &config.tls.certificate {
        let options = TlsOptions {
            min_version: config.tls.min_version,
            http2: config.tls.http2,
        };
        if let Err(error) = Tls::load(files, options, SystemClock.now()) {
            faults.push(error.to_string());
        }
    }
    for backend in config.backends.iter() {
        let checked = match backend.kind {
            BackendKind::Opendal if with_stores => probe(backend),
            BackendKind::Fs => look_at(&backend.root),
            BackendKind::Opendal | BackendKind::Memory => Ok(()),
        };
        if let Err(error) = checked {
            faults.push(format!("backend {}: {error:#}", backend.name));
        }
    }
    for fault in &faults {
        complain(format_args!("{}: {fault}", file.display()));
    }
    if !faults.is_empty() {
        return ExitCode::from(FAILED);
    }
    say(format_args!("{}: nothing wrong\n", file.display()));
    ExitCode::SUCCESS
}

/// Whether a directory can be served by whoever asks. One that is not there is made by the first start.
fn look_at(root: &Path) -> Result<(), anyhow::Error> {
    let cannot = |what| move |error| anyhow::Error::new(error).context(format!("cannot {what} {}", root.display()));
    match fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot("look at")(error)),
        Ok(there) if !there.is_dir() => anyhow::bail!("{} is no directory", root.display()),
        Ok(_) => {}
    }
    access(root, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| cannot("read and write")(error.into()))
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
