//! Opening a store: its service, and the layers that every call of it passes.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use opendal::{
    Operator,
    layers::{CapabilityCheckLayer, CapabilityOverrideLayer, RetryLayer},
};

use super::{
    Store,
    again::{RETRIES, RETRY_FACTOR},
    token::TokenKind,
};
use crate::opendal::{
    answer::AnswerLayer,
    secrets::Secrets,
    timeouts::{StoreTimeouts, TimeoutLayer},
    watch::{Retries, StoreObserver, WatchLayer},
};

/// Set when it is known that a client for HTTP can be had: to find out takes a while.
static HAS_TLS: OnceLock<()> = OnceLock::new();

/// Services that are no matter of HTTP.
const WITHOUT_HTTP: [&str; 2] = ["memory", "sftp"];
/// Services whose objects are never seen half written. Of others that is not known: WebDAV's servers write files in place.
const WRITES_WHOLE: [&str; 10] = [
    "azblob", "b2", "cos", "gcs", "memory", "obs", "oss", "s3", "sftp", "swift",
];
/// Services that make a file first and write it then: who is told that there is one already need not find all of it. So
/// they create nothing only where there is none.
const CREATES_FIRST: [&str; 3] = ["azdls", "sftp", "webhdfs"];

impl Store {
    /// Opens the service `scheme` with its own options. No error says what is secret among them. `retry_delay` and
    /// `timeouts` are as in [`OpendalOptions`](crate::OpendalOptions).
    pub(in crate::opendal) fn open(
        scheme: &str,
        options: &[(String, String)],
        observer: Option<Arc<dyn StoreObserver>>,
        retry_delay: Duration,
        timeouts: StoreTimeouts,
    ) -> Result<Self, String> {
        opendal::install_default();
        // opendal makes one for all, at the first call, and panics where there is none to be had.
        if !WITHOUT_HTTP.contains(&scheme) && HAS_TLS.get().is_none() {
            reqwest::Client::builder().build().map_err(|error| {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                format!("there can be no TLS, also SSL_CERT_FILE names no root certificates: {error}{cause}")
            })?;
            HAS_TLS.get_or_init(|| ());
        }
        let secrets = Secrets::among(options);
        let op = Operator::via_iter(scheme, options.iter().cloned())
            .map_err(|error| secrets.masked(&error.to_string()).into_owned())?;
        let writes_in_place = op.info().scheme() == "sftp";
        let takes_limits = matches!(scheme, "azblob" | "azdls");
        let creates_first = CREATES_FIRST.contains(&scheme);
        let op = op
            .layer(CapabilityOverrideLayer::new(move |mut capability| {
                capability.write_with_if_not_exists &= !creates_first;
                // Their listers take one, and say so nowhere. Without it an answer has five times as much as is asked for, and a
                // page would end before the objects of its first answer.
                capability.list_with_limit |= takes_limits;
                capability
            }))
            .layer(CapabilityCheckLayer::default())
            .layer(TimeoutLayer(timeouts))
            .layer(WatchLayer::new(observer.clone(), secrets))
            .layer(AnswerLayer);
        let once = op.clone();
        let op = op.layer(
            RetryLayer::new()
                .with_jitter()
                .with_min_delay(retry_delay)
                .with_factor(f32::from(RETRY_FACTOR))
                .with_max_times(RETRIES)
                .with_notify(Retries(observer.clone())),
        );
        let joining = op.clone().layer(CapabilityOverrideLayer::new(|mut capability| {
            capability.write_multi_min_size = Some(1);
            capability
        }));
        let streaming = op.clone().layer(CapabilityOverrideLayer::new(|mut capability| {
            capability.write_can_copy_from = false;
            capability
        }));
        let capability = op.info().capability();
        let tokens = TokenKind::by(&capability);
        // What it is composed of is held by versions, and so is what it replaces.
        let composes = capability.compose
            && capability.compose_with_user_metadata
            && capability.compose_with_source_version
            && capability.compose_with_if_not_exists
            && capability.compose_with_if_version_match
            && tokens == TokenKind::Version;
        let joins_inside = AtomicBool::new(capability.write_can_copy_from || composes);
        Ok(Self {
            op,
            once,
            joining,
            streaming,
            joins_inside,
            composes,
            tokens,
            keeps_versions: AtomicBool::new(false),
            writes_in_place,
            shows_half_written: !WRITES_WHOLE.contains(&scheme),
            observer,
            retry_delay,
        })
    }
}

/// What the store's own rule is called that ends uploads in parts which nobody completes or aborts: the gateway cannot
/// list them. azblob needs none, it forgets blocks after a week; and of swift, which keeps segments below `.segments/`,
/// none is known.
pub(in crate::opendal) fn upload_rule(scheme: &str) -> Option<&'static str> {
    match scheme {
        "s3" | "gcs" | "cos" | "obs" => Some("AbortIncompleteMultipartUpload"),
        "oss" => Some("AbortMultipartUpload"),
        "b2" => Some("daysFromStartingToCancelingUnfinishedLargeFiles"),
        _ => None,
    }
}

/// What this build reaches, in order.
pub(in crate::opendal) fn services() -> Vec<String> {
    opendal::install_default();
    let mut services: Vec<String> = opendal::OperatorRegistry::get().schemes().into_iter().collect();
    services.sort_unstable();
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_before_it_is_written_is_not_created_if_absent() {
        let open = |service: &str, options: &[(&str, &str)]| {
            let options: Vec<(String, String)> = options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            Store::open(service, &options, None, Duration::ZERO, StoreTimeouts::default()).unwrap()
        };
        let account = [
            ("endpoint", "https://127.0.0.1:1"),
            ("account_name", "a"),
            ("account_key", "a2V5"),
        ];
        let lake = open("azdls", &[&account[..], &[("filesystem", "f")]].concat());
        assert!(!lake.capability().write_with_if_not_exists);
        let blob = open("azblob", &[&account[..], &[("container", "c")]].concat());
        assert!(blob.capability().write_with_if_not_exists);
    }
}
