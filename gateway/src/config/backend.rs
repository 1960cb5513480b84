//! `[backend]`: the storage behind the gateway.

use std::path::PathBuf;

use serde::Deserialize;

use super::fault::Faults;

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub kind: BackendKind,
    /// The data directory: the tree that `fs` serves, and, below `.t2/`, what the gateway keeps for itself.
    pub root: PathBuf,
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
}

impl Default for RawBackend {
    fn default() -> Self {
        Self {
            kind: "fs".to_owned(),
            root: "./t2-data".to_owned(),
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
        Some(Backend {
            kind: kind?,
            root: self.root.into(),
        })
    }
}
