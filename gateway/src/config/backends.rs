//! All `[[backend]]`, or the one `[backend]`, and `[[bucket]]`, which says what lies where.

use std::{
    collections::BTreeMap,
    fs, iter,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use t2gate_backends::{AccountId, Adoption, BucketPattern, Routes};

use super::{
    backend::{Backend, BackendKind, RawBackend},
    fault::Faults,
    raw::Numbered,
    source::BACKENDS,
};

/// The storages behind the gateway. There is one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The one that has every bucket which no `[[bucket]]` gives to another. Below its root lies what the gateway keeps
    /// for itself.
    pub default: Backend,
    /// The others, in the order of the configuration.
    pub others: Vec<Backend>,
    /// Which bucket lies where: 0 is the default, then come the others.
    pub routes: Routes,
    /// The accounts that `[[bucket]]` entries name, by the numbers of these.
    pub(super) accounts: Vec<(usize, AccountId)>,
}

impl Backends {
    /// All, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        iter::once(&self.default).chain(&self.others)
    }
}

/// `[[bucket]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBucket {
    name: String,
    backend: Option<String>,
    account: Option<String>,
}

/// What was written.
pub(super) struct RawBackends {
    /// `[backend]`, which counts unless there is a list.
    pub(super) single: RawBackend,
    /// The keys that were given for it.
    pub(super) single_keys: Vec<String>,
    /// `[[backend]]`, where there is any.
    pub(super) listed: Option<Numbered<RawBackend>>,
    pub(super) buckets: Numbered<RawBucket>,
}

impl RawBackends {
    pub(super) fn check(self, found: &mut Vec<(String, String)>) -> Option<Backends> {
        let before = found.len();
        let backends = if let Some(Numbered(listed)) = self.listed {
            for key in self.single_keys {
                let problem =
                    "there are [[backend]] entries: say which of them is meant, as in T2GATE_BACKEND__0__ROOT";
                found.push((format!("backend.{key}"), problem.to_owned()));
            }
            if listed.is_empty() {
                found.push(("backend".to_owned(), "is empty".to_owned()));
            }
            check_list(listed, found)
        } else {
            let mut faults = Faults::of("backend");
            let backend = self.single.check(&mut faults);
            found.extend(faults.into_found());
            backend.into_iter().collect()
        };
        // What follows would only repeat what is wrong.
        if found.len() > before {
            return None;
        }
        let names: Vec<&str> = backends.iter().map(|backend| &*backend.name).collect();
        let buckets = check_buckets(self.buckets, &names, found);
        if found.len() > before {
            return None;
        }
        let owners: Vec<_> = buckets
            .iter()
            .map(|bucket| (bucket.pattern.clone(), bucket.account.clone()))
            .collect();
        let accounts = buckets.iter().enumerate();
        let accounts = accounts.filter_map(|(i, bucket)| Some((i, bucket.account.clone()?)));
        let accounts = accounts.collect();
        let routes = Routes::new(
            buckets
                .into_iter()
                .map(|bucket| (bucket.pattern, bucket.backend))
                .collect(),
        );
        let mut backends = backends.into_iter().map(|backend| Backend {
            adoption: Adoption::new(owners.clone(), backend.adoption.others().cloned()),
            ..backend
        });
        Some(Backends {
            default: backends.next()?,
            others: backends.collect(),
            routes,
            accounts,
        })
    }
}

/// A `[[bucket]]` that is right.
struct Bucket {
    pattern: BucketPattern,
    /// The number of its backend.
    backend: usize,
    account: Option<AccountId>,
}

/// A fault where the numbers of a list have a gap, which only a variable can make.
fn check_numbers<T>(list: &str, entries: &BTreeMap<usize, T>, found: &mut Vec<(String, String)>) {
    if let Some((gap, number)) = entries.keys().enumerate().find(|&(i, &number)| i != number) {
        let problem = format!("there is no number {gap}: entries are numbered from 0, in the order of the file");
        found.push((format!("{list}.{number}"), problem));
    }
}

fn check_list(listed: BTreeMap<usize, RawBackend>, found: &mut Vec<(String, String)>) -> Vec<Backend> {
    check_numbers(BACKENDS, &listed, found);
    let mut backends: Vec<(usize, Backend)> = Vec::new();
    for (i, raw) in listed {
        let mut faults = Faults::of(&format!("{BACKENDS}.{i}"));
        let is_named = !raw.name.is_empty();
        if !is_named {
            faults.add(
                "name",
                "is missing: [[bucket]] entries, the log and metrics call a backend by its name",
            );
        }
        if let Some(backend) = raw.check(&mut faults) {
            let same_name = backends
                .iter()
                .find(|(_, other)| is_named && other.name == backend.name);
            if let Some((other, _)) = same_name {
                faults.add("name", format!("backend.{other} is called \"{}\" too", backend.name));
            }
            // The root of the first holds what the gateway keeps for itself, whatever its kind.
            let keeps_files = |i: usize, backend: &Backend| i == 0 || backend.kind == BackendKind::Fs;
            let overlaps = backends.iter().find(|(j, other)| {
                keeps_files(i, &backend) && keeps_files(*j, other) && overlap(&backend.root, &other.root)
            });
            if let Some((other, _)) = overlaps {
                let problem = format!(
                    "{} is the root of backend.{other}, or one is inside the other: a tree is served once",
                    backend.root.display()
                );
                faults.add("root", problem);
            }
            let same_store = backends.iter().find(|(_, other)| {
                [&backend, other].map(|backend| backend.kind) == [BackendKind::Opendal; 2]
                    && backend.store.overlaps(&other.store)
            });
            if let Some((other, _)) = same_store {
                let problem = format!(
                    "name the store of backend.{other}, and one root is the other, or inside it: a store is served once"
                );
                faults.add("options", problem);
            }
            backends.push((i, backend));
        }
        found.extend(faults.into_found());
    }
    backends.into_iter().map(|(_, backend)| backend).collect()
}

/// Which backend has which bucket, and who gets it. Every entry has to have an effect, and every backend has to have a
/// bucket that it could be asked for. What is given back counts only where nothing is found.
fn check_buckets(Numbered(raw): Numbered<RawBucket>, names: &[&str], found: &mut Vec<(String, String)>) -> Vec<Bucket> {
    check_numbers("bucket", &raw, found);
    let mut entries: Vec<Bucket> = Vec::new();
    let before = found.len();
    for (i, RawBucket { name, backend, account }) in raw {
        let mut faults = Faults::of(&format!("bucket.{i}"));
        let expected = "the name of a bucket, or a pattern for names with '*' and '?'";
        let pattern = BucketPattern::parse(&*name).ok();
        let pattern = faults.expect("name", &name, expected, pattern);
        let known = format!("the name of a backend: {}", names.join(", "));
        let number = match (backend, &account) {
            // It is there for the account's sake.
            (None, Some(_)) => Some(0),
            (backend, _) => {
                let backend = backend.unwrap_or_default();
                let number = names.iter().position(|known| *known == backend);
                faults.expect("backend", &backend, &known, number)
            }
        };
        let account = account.map(|id| {
            let parsed = AccountId::parse(&*id).ok();
            faults.expect("account", &id, "the id of an account", parsed)
        });
        if let (Some(pattern), Some(backend)) = (pattern, number) {
            if let Some(covering) = entries.iter().position(|earlier| earlier.pattern.covers(&pattern)) {
                let problem = format!(
                    "never matches: bucket.{covering}, \"{}\", takes all that it could",
                    entries[covering].pattern
                );
                faults.add("name", problem);
            }
            entries.push(Bucket {
                pattern,
                backend,
                account: account.flatten(),
            });
        }
        found.extend(faults.into_found());
    }
    if found.len() > before {
        return entries;
    }
    let takes_all = entries
        .iter()
        .any(|bucket| bucket.pattern.as_str().bytes().all(|b| b == b'*'));
    for (number, name) in names.iter().enumerate() {
        let is_named = entries.iter().any(|bucket| bucket.backend == number);
        if !is_named && (number > 0 || takes_all) {
            let problem = format!("no bucket can be in \"{name}\": no [[bucket]] gives it one");
            found.push((format!("{BACKENDS}.{number}"), problem));
        }
    }
    entries
}

/// Whether two directories are one, or one holds the other. Symbolic links are followed as far as there is something.
fn overlap(a: &Path, b: &Path) -> bool {
    let (a, b) = (resolved(a), resolved(b));
    a.starts_with(&b) || b.starts_with(&a)
}

/// The absolute path, of what is there without symbolic links.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut resolved = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            other => {
                resolved.push(other);
                if let Ok(real) = fs::canonicalize(&resolved) {
                    resolved = real;
                }
            }
        }
    }
    resolved
}

#[cfg(test)]
mod tests;
