//! Listings. Nothing of one is held but the store's page.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, TryStreamExt as _};
use opendal::{ErrorKind, Lister, Operator, options::ListOptions};

use super::{Found, Meta, Store, StoreError, again::Attempts, error::failed};
use crate::opendal::key::StoreDir;

impl Store {
    /// What lies in `dir`, in the store's order: with `recursive` all that lies below, elsewhere directories for what
    /// lies deeper. After `start_after`, a path, where the store can; a hint of how many are wanted goes with it.
    pub(in crate::opendal) fn list<'s>(
        &'s self,
        dir: &StoreDir,
        beginning: &str,
        recursive: bool,
        start_after: Option<&str>,
        wanted: Option<usize>,
    ) -> Entries<'s> {
        let capability = self.capability();
        let beginning = format!("{}{beginning}", dir.as_str());
        // Where the store does not look deeper, opendal would, and its retries would lose the directory that failed.
        let walks = recursive && !capability.list_with_recursive;
        let path = match beginning.rsplit_once('/') {
            Some((parent, _)) if walks => format!("{parent}/"),
            None if walks || beginning.is_empty() => "/".to_owned(),
            _ => beginning.clone(),
        };
        let options = ListOptions {
            recursive: recursive && !walks,
            start_after: start_after
                .filter(|_| capability.list_with_start_after)
                .map(str::to_owned),
            limit: wanted.filter(|_| capability.list_with_limit),
            ..ListOptions::default()
        };
        Entries {
            store: self,
            dir: dir.clone(),
            beginning,
            walks,
            under_way: vec![self.directory(path, options)],
        }
    }

    fn directory(&self, path: String, options: ListOptions) -> Directory {
        Directory {
            // A connection's listing does not go on behind what broke it.
            op: if self.service() == "sftp" { &self.once } else { &self.op }.clone(),
            path,
            options,
            lister: None,
            has_begun: false,
            attempts: self.attempts("list"),
        }
    }
}

/// A listing under way.
pub(in crate::opendal) struct Entries<'s> {
    store: &'s Store,
    dir: StoreDir,
    /// Of the path of all that is wanted.
    beginning: String,
    /// Directories are listed by themselves, when they are found.
    walks: bool,
    /// Each lies in the one before it.
    under_way: Vec<Directory>,
}

impl Entries<'_> {
    pub(in crate::opendal) async fn next(&mut self) -> Result<Option<Found>, StoreError> {
        tokio::task::consume_budget().await;
        while let Some(directory) = self.under_way.last_mut() {
            let Some(entry) = directory.next(self.store).await? else {
                self.under_way.pop();
                continue;
            };
            let (path, metadata) = entry.into_parts();
            if !path.starts_with(&self.beginning) {
                continue;
            }
            if self.walks && path.ends_with('/') && path != directory.path {
                let options = directory.options.clone();
                self.under_way.push(self.store.directory(path.clone(), options));
            }
            if let Some(name) = self.dir.name(&path) {
                return Ok(Some(Found {
                    name: name.to_owned(),
                    meta: Meta::of(&metadata, self.store.tokens),
                }));
            }
        }
        Ok(None)
    }
}

/// One call's listing.
struct Directory {
    op: Operator,
    path: String,
    options: ListOptions,
    lister: Option<Lister>,
    /// Something of it was given: it cannot begin anew.
    has_begun: bool,
    attempts: Attempts,
}

impl Directory {
    async fn next(&mut self, store: &Store) -> Result<Option<opendal::Entry>, StoreError> {
        loop {
            let error = match self.step().await {
                Ok(entry) => {
                    self.has_begun = true;
                    return Ok(entry);
                }
                Err(error) => error,
            };
            // One that is not there is empty.
            if error.kind() == ErrorKind::NotFound {
                return Ok(None);
            }
            if self.has_begun || !error.is_temporary() || !self.attempts.another(store, &self.path, &error).await {
                return Err(failed(error));
            }
            self.lister = None;
        }
    }

    async fn step(&mut self) -> opendal::Result<Option<opendal::Entry>> {
        let lister = match self.lister.take() {
            Some(lister) => lister,
            None => self.op.lister_options(&self.path, self.options.clone()).await?,
        };
        let next = AssertUnwindSafe(self.lister.insert(lister).try_next());
        // sftp's adapter panics at a name that is no UTF-8.
        next.catch_unwind().await.unwrap_or_else(|_| {
            self.lister = None;
            Err(opendal::Error::new(
                ErrorKind::Unexpected,
                "the adapter of the store panicked in a listing: is there a name that is no UTF-8?",
            ))
        })
    }
}
