//! The opendal backend keeps the contract, over stores of every level.
//!
//! Over opendal's own memory always; over servers, which are started on loopback, with the feature `store-tests`. A
//! store that is missing then fails its tests: `backends/tests/stores/install` gets them all.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[expect(clippy::duplicate_mod, reason = "what is run over one store is run over the other")]
mod by_version;
mod failures;
mod listings;
mod many_parts;
mod memory;
mod simulated;
#[cfg(feature = "store-tests")]
mod stores;
mod tokens;
mod versions;

use std::sync::Arc;

use t2gate_backends::{Backend, OpendalBackend, OpendalOptions, SystemClock, Versioned};

/// Opens a store from where no test can wait for it.
fn open(options: OpendalOptions) -> Arc<dyn Backend> {
    Arc::new(open_store(options))
}

/// With versions.
fn versioned(options: OpendalOptions) -> Arc<dyn Backend> {
    let store = open_store(options);
    Arc::new(Versioned::new(store, Arc::new(SystemClock)).unwrap())
}

fn open_store(options: OpendalOptions) -> OpendalBackend {
    let opened =
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(OpendalBackend::open(options)));
    opened.unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

fn options(service: &str, options: &[(&str, &str)]) -> OpendalOptions {
    let own = options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    OpendalOptions {
        options: own.collect(),
        ..OpendalOptions::new(service, Arc::new(SystemClock))
    }
}
