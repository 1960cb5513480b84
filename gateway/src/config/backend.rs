//! `[backend]`, or one of several `[[backend]]`: a storage behind the gateway.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use t2gate_backends::{AccountId, DEFAULT_ABANDONED_UPLOAD_AGE, DEFAULT_LISTING_CACHE_BYTES, Durability};

use super::{
    fault::Faults,
    limits::{MAX_CONCURRENT_REQUESTS, MAX_MEMORY_BUDGET, MIN_MEMORY_BUDGET},
    raw::{Period, Size, Switch, Whole},
};

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// In the log, in metrics, and in `[[bucket]]`.
    pub name: Box<str>,
    pub kind: BackendKind,
    /// The data directory: the tree that `fs` serves, and, below `.t2/`, what the gateway keeps for itself.
    pub root: PathBuf,
    /// The account that gets the directories under `root` that are nobody's bucket yet.
    pub adopt_account: Option<AccountId>,
    /// What an acknowledged write to `fs` survives.
    pub durability: Durability,
    /// How many bytes of names of directories are kept, in order, for listings.
    pub listing_cache: usize,
    /// After how long a multipart upload that no part comes to is ended. `None`: never.
    pub abandoned_upload_age: Option<Duration>,
    /// Whether other processes may serve the same `root` of `fs` at the same time.
    pub shared: bool,
    /// Requests on its buckets at a time. `None`: as many as there can be at all.
    pub concurrent_requests: Option<usize>,
    /// Bytes of memory that the requests on its buckets may take together. `None`: as many as there are.
    pub memory_budget: Option<u64>,
}

/// The kinds of storage that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// A directory tree.
    Fs,
    /// Nothing is kept when the process ends: for tests.
    Memory,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBackend {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) root: String,
    pub(super) adopt_account: String,
    pub(super) durability: String,
    pub(super) listing_cache: Size,
    pub(super) abandoned_upload_age: Period,
    pub(super) shared: Switch,
    pub(super) concurrent_requests: Option<Whole>,
    pub(super) memory_budget: Option<Whole>,
}

impl Default for RawBackend {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: "fs".to_owned(),
            root: "./t2-data".to_owned(),
            adopt_account: String::new(),
            durability: "power-safe".to_owned(),
            listing_cache: Size(DEFAULT_LISTING_CACHE_BYTES as u64),
            abandoned_upload_age: Period(DEFAULT_ABANDONED_UPLOAD_AGE),
            shared: Switch(false),
            concurrent_requests: None,
            memory_budget: None,
        }
    }
}

impl RawBackend {
    /// Where it has no name, it is called as its kind.
    pub(super) fn check(self, faults: &mut Faults) -> Option<Backend> {
        let kind = match self.kind.as_str() {
            "fs" => Some(BackendKind::Fs),
            "memory" => Some(BackendKind::Memory),
            other => faults.expect("kind", other, "\"fs\" or \"memory\"", None),
        };
        let name = match self.name.as_str() {
            "" => Some(self.kind.as_str()),
            name => {
                let valid = name.len() <= 32
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                let expected = "1 to 32 ASCII letters, digits, '-' and '_'";
                faults.expect("name", name, expected, valid.then_some(name))
            }
        };
        if self.root.is_empty() {
            faults.add("root", "must name a directory");
        }
        let adopt_account = match self.adopt_account.as_str() {
            "" => Some(None),
            id => {
                let account = AccountId::parse(id).ok().map(Some);
                faults.expect("adopt_account", id, "the id of an account, or nothing", account)
            }
        };
        let durability = match self.durability.as_str() {
            "power-safe" => Some(Durability::PowerSafe),
            "process-safe" => Some(Durability::ProcessSafe),
            other => faults.expect("durability", other, "\"power-safe\" or \"process-safe\"", None),
        };
        let listing_cache = faults.within("listing_cache", self.listing_cache.0, 0, 1 << 40);
        let concurrent_requests = match self.concurrent_requests {
            Some(Whole(most)) => faults
                .within("concurrent_requests", most, 1, MAX_CONCURRENT_REQUESTS)
                .map(Some),
            None => Some(None),
        };
        let memory_budget = match self.memory_budget {
            Some(Whole(bytes)) => faults
                .within("memory_budget", bytes, MIN_MEMORY_BUDGET, MAX_MEMORY_BUDGET)
                .map(Some),
            None => Some(None),
        };
        let Period(age) = self.abandoned_upload_age;
        if self.shared.0 && kind == Some(BackendKind::Memory) {
            faults.add(
                "shared",
                "cannot be with kind = \"memory\": nobody else sees what is there",
            );
        }
        Some(Backend {
            name: name?.into(),
            kind: kind?,
            root: self.root.into(),
            adopt_account: adopt_account?,
            durability: durability?,
            listing_cache: listing_cache?,
            abandoned_upload_age: (!age.is_zero()).then_some(age),
            shared: self.shared.0,
            concurrent_requests: concurrent_requests?,
            memory_budget: memory_budget?,
        })
    }
}
