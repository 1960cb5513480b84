//! `[backend]`: the storage behind the gateway.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use t2gate_backends::{AccountId, DEFAULT_ABANDONED_UPLOAD_AGE, DEFAULT_LISTING_CACHE_BYTES, Durability};

use super::{
    fault::Faults,
    raw::{Period, Size, Switch},
};

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
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
}

/// The storages that there are.
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
    pub(super) kind: String,
    pub(super) root: String,
    pub(super) adopt_account: String,
    pub(super) durability: String,
    pub(super) listing_cache: Size,
    pub(super) abandoned_upload_age: Period,
    pub(super) shared: Switch,
}

impl Default for RawBackend {
    fn default() -> Self {
        Self {
            kind: "fs".to_owned(),
            root: "./t2-data".to_owned(),
            adopt_account: String::new(),
            durability: "power-safe".to_owned(),
            listing_cache: Size(DEFAULT_LISTING_CACHE_BYTES as u64),
            abandoned_upload_age: Period(DEFAULT_ABANDONED_UPLOAD_AGE),
            shared: Switch(false),
        }
    }
}

impl RawBackend {
    pub(super) fn check(self, faults: &mut Faults) -> Option<Backend> {
        let kind = match self.kind.as_str() {
            "fs" => Some(BackendKind::Fs),
            "memory" => Some(BackendKind::Memory),
            other => faults.expect("kind", other, "\"fs\" or \"memory\"", None),
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
        let Period(age) = self.abandoned_upload_age;
        if self.shared.0 && kind == Some(BackendKind::Memory) {
            faults.add(
                "shared",
                "cannot be with kind = \"memory\": nobody else sees what is there",
            );
        }
        Some(Backend {
            kind: kind?,
            root: self.root.into(),
            adopt_account: adopt_account?,
            durability: durability?,
            listing_cache: listing_cache?,
            abandoned_upload_age: (!age.is_zero()).then_some(age),
            shared: self.shared.0,
        })
    }
}
