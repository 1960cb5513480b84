//! `[backend]`, or one of several `[[backend]]`: a storage behind the gateway.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, time::Duration};

use serde::Deserialize;
use t2gate_backends::{
    AccountId, Adoption, DEFAULT_ABANDONED_UPLOAD_AGE, DEFAULT_LISTING_CACHE_BYTES, DEFAULT_STORE_MEMORY_BYTES,
    Durability, StoreLayout, StoreLevel, missing_service, store_services,
};

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
    /// Who gets the directories that are nobody's bucket yet.
    pub adoption: Adoption,
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
    /// Of `opendal`.
    pub store: Store,
}

/// The kinds of storage that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// A directory tree.
    Fs,
    /// Any store that opendal reaches.
    Opendal,
    /// Nothing is kept when the process ends: for tests.
    Memory,
}

/// Which store `opendal` is to reach, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub service: String,
    pub options: StoreOptions,
    /// `None`: as the service is.
    pub layout: Option<StoreLayout>,
    pub least_level: StoreLevel,
    /// What bodies on their way to the store may have of memory, in bytes.
    pub memory: u64,
}

impl Store {
    /// Whether both are surely one store, and what one keeps lies in what the other keeps: they differ in nothing but
    /// their directories, if in these. Stores in memory are each their own.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let elsewhere = |store: &Self| -> Vec<_> {
            let options = store.options.0.iter();
            options.filter(|(name, _)| name != ROOT_OPTION).cloned().collect()
        };
        let (a, b) = (self.root(), other.root());
        self.service != IN_MEMORY
            && self.service == other.service
            && elsewhere(self) == elsewhere(other)
            && (a.starts_with(&b) || b.starts_with(&a))
    }

    /// Where in the service all of it lies.
    fn root(&self) -> PathBuf {
        let given = self.options.0.iter().find(|(name, _)| name == ROOT_OPTION);
        let given = given.map_or("", |(_, root)| root);
        given.split('/').filter(|segment| !segment.is_empty()).collect()
    }
}

/// What every service calls the directory that it works in.
const ROOT_OPTION: &str = "root";
/// A service that keeps nothing outside of the process.
const IN_MEMORY: &str = "memory";

/// The service's own options. Secrets are among them: only their names are shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct StoreOptions(pub Vec<(String, String)>);

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
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
    pub(super) service: String,
    pub(super) layout: String,
    pub(super) least_level: String,
    pub(super) store_memory: Size,
    pub(super) options: RawOptions,
}

/// As they are written; not to be shown.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct RawOptions(BTreeMap<String, RawOption>);

impl fmt::Debug for RawOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// opendal takes text for everything.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum RawOption {
    Text(String),
    Switch(bool),
    Number(i64),
}

impl RawOptions {
    /// An option `NAME_file` is the option `NAME`, and its value the first line of that file.
    fn check(self, faults: &mut Faults) -> StoreOptions {
        const FILE: &str = "_file";
        /// Options of services that are paths, and are called so.
        const PATHS: [&str; 1] = ["oidc_token_file"];
        let mut options = BTreeMap::new();
        for (name, value) in self.0 {
            let value = match value {
                RawOption::Text(text) => text,
                RawOption::Switch(switch) => switch.to_string(),
                RawOption::Number(number) => number.to_string(),
            };
            let key = format!("options.{name}");
            let option = name.strip_suffix(FILE).filter(|_| !PATHS.contains(&name.as_str()));
            let (name, value) = match option {
                None => (name, value),
                Some(option) => match fs::read_to_string(&value) {
                    Ok(text) => (option.to_owned(), text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(error) => {
                        faults.add(&key, format!("cannot read {value}: {error}"));
                        continue;
                    }
                },
            };
            if options.insert(name, value).is_some() {
                faults.add(&key, "is given twice: by itself and as a file");
            }
        }
        StoreOptions(options.into_iter().collect())
    }
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
            service: String::new(),
            layout: "auto".to_owned(),
            least_level: "L0".to_owned(),
            store_memory: Size(DEFAULT_STORE_MEMORY_BYTES),
            options: RawOptions::default(),
        }
    }
}

impl RawBackend {
    /// Where it has no name, it is called as its kind.
    pub(super) fn check(self, faults: &mut Faults) -> Option<Backend> {
        let kind = match self.kind.as_str() {
            "fs" => Some(BackendKind::Fs),
            "opendal" => Some(BackendKind::Opendal),
            "memory" => Some(BackendKind::Memory),
            other => faults.expect("kind", other, "\"fs\", \"opendal\" or \"memory\"", None),
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
        let layout = match self.layout.as_str() {
            "auto" => Some(None),
            "transparent" => Some(Some(StoreLayout::Transparent)),
            "encoded" => Some(Some(StoreLayout::Encoded)),
            other => faults.expect("layout", other, "\"auto\", \"transparent\" or \"encoded\"", None),
        };
        let least_level = match self.least_level.as_str() {
            "L0" => Some(StoreLevel::Blobs),
            "L1" => Some(StoreLevel::CreateIfAbsent),
            "L2" => Some(StoreLevel::CompareAndSet),
            other => faults.expect("least_level", other, "\"L0\", \"L1\" or \"L2\"", None),
        };
        // One body of 8 MiB in parts holds 24 MiB.
        let memory = faults.within("store_memory", self.store_memory.0, 32 << 20, 1 << 40);
        let options = self.options.check(faults);
        if kind == Some(BackendKind::Opendal) && !store_services().contains(&self.service) {
            match self.service.as_str() {
                "" => faults.add("service", format!("is missing: one of {}", store_services().join(", "))),
                service => faults.add("service", missing_service(service)),
            }
        }
        if kind != Some(BackendKind::Opendal) && !(self.service.is_empty() && options.0.is_empty()) {
            faults.add("service", "and options are for kind = \"opendal\" alone");
        }
        let Period(age) = self.abandoned_upload_age;
        if self.shared.0 && kind == Some(BackendKind::Opendal) {
            faults.add(
                "shared",
                "is for kind = \"fs\": several gateways may serve a store that keeps level L2, see least_level",
            );
        }
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
            adoption: adopt_account?.map(Adoption::from).unwrap_or_default(),
            durability: durability?,
            listing_cache: listing_cache?,
            abandoned_upload_age: (!age.is_zero()).then_some(age),
            shared: self.shared.0,
            concurrent_requests: concurrent_requests?,
            memory_budget: memory_budget?,
            store: Store {
                service: self.service,
                options,
                layout: layout?,
                least_level: least_level?,
                memory: memory?,
            },
        })
    }
}
