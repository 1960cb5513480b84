//! A walk over the keys below a directory, in byte order, from a bound on.

use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};

use super::{
    cache::ListingCache,
    lines::PageLines,
    snapshot::{Entry, Position, Snapshot, Tree},
};
use crate::{
    MAX_KEY_BYTES,
    fs::{Store, dir, error::Error, locks::Moves},
    key_codec::{Form, Names},
};

/// Where a listing goes on.
#[derive(Debug, Clone)]
pub(in crate::fs) enum Bound {
    AtLeast(Box<str>),
    After(Box<str>),
    /// After everything that begins so.
    PastPrefix(Box<str>),
}

impl Bound {
    pub(in crate::fs) fn text(&self) -> &str {
        match self {
            Self::AtLeast(text) | Self::After(text) | Self::PastPrefix(text) => text,
        }
    }

    pub(in crate::fs) fn leaves_out_key(&self, key: &str) -> bool {
        match self {
            Self::AtLeast(bound) => key < &**bound,
            Self::After(bound) => key <= &**bound,
            Self::PastPrefix(prefix) => key < &**prefix || key.starts_with(&**prefix),
        }
    }

    /// Whether no key that begins with `prefix` counts.
    pub(in crate::fs) fn leaves_out_prefix(&self, prefix: &str) -> bool {
        match self {
            Self::AtLeast(bound) | Self::After(bound) => prefix < &**bound && !bound.starts_with(prefix),
            Self::PastPrefix(past) => prefix.starts_with(&**past) || (prefix < &**past && !past.starts_with(prefix)),
        }
    }

    /// Whether all keys that begin with `prefix` count.
    pub(in crate::fs) fn admits_prefix(&self, prefix: &str) -> bool {
        match self {
            // `prefix` itself may be a key.
            Self::AtLeast(bound) => prefix >= &**bound,
            Self::After(bound) => prefix > &**bound,
            Self::PastPrefix(past) => prefix > &**past && !prefix.starts_with(&**past),
        }
    }
}

/// A walk over all keys below a directory in byte order. Keeps the names of one directory for each level, as long as
/// they are not too many together, and one directory open.
pub(super) struct Walk<'a> {
    cache: &'a ListingCache,
    moves: &'a Moves,
    pub(super) bucket_dir: &'a OwnedFd,
    /// Of all keys in the innermost directory.
    pub(super) prefix: String,
    /// The way to it.
    pub(super) names: Names,
    levels: Vec<Level>,
    pub(super) bound: Bound,
    /// For attributes.
    pub(super) buffer: Vec<u8>,
    pub(super) lines: PageLines<'a>,
}

struct Level {
    /// How much of [`Walk::prefix`] and [`Walk::names`] belongs to the levels outside.
    outer_prefix: usize,
    outer_names: usize,
    /// `None` where there is none yet, or it was given back: then all up to `passed` has been seen.
    entries: Option<Arc<Snapshot>>,
    next: Position,
    passed: Option<Arc<str>>,
    /// Kept for the innermost level.
    dir: Option<OwnedFd>,
}

/// An entry that a walk has come to.
pub(super) struct Found {
    name: Arc<str>,
    form: Form,
}

impl Found {
    pub(super) fn as_entry(&self) -> Entry<'_> {
        Entry {
            name: &self.name,
            form: self.form,
        }
    }
}

impl<'a> Walk<'a> {
    /// `directory`: empty, or a prefix that ends with `/`.
    pub(super) fn begin(
        store: &'a Store,
        bucket_dir: &'a OwnedFd,
        directory: &str,
        bound: Bound,
    ) -> Result<Self, Error> {
        let with_files = store.attributes.go_with_files();
        let lines = store.listing_cache.lines(bucket_dir, with_files);
        let mut walk = Self {
            cache: &store.listing_cache,
            moves: &store.moves,
            bucket_dir,
            prefix: String::new(),
            names: Names::new(),
            levels: Vec::new(),
            bound,
            buffer: Vec::new(),
            lines: lines.map_err(Error::io("could not look at a bucket's directory"))?,
        };
        let names = match directory.strip_suffix('/') {
            Some(path) => store.directories_of(bucket_dir, path)?,
            None => Names::new(),
        };
        walk.enter(directory, names);
        Ok(walk)
    }

    /// The next entry that may hold keys that count. Directories are passed over unless [entered](Self::enter).
    pub(super) fn next(&mut self) -> Result<Option<Found>, Error> {
        loop {
            if self.levels.last().is_some_and(|level| level.entries.is_none()) {
                self.load()?;
            }
            let Some(level) = self.levels.last_mut() else {
                return Ok(None);
            };
            let Some(entries) = &level.entries else {
                continue;
            };
            let (prefix, bound) = (&self.prefix, &self.bound);
            // What follows one that counted is behind the bound, unless that has gone on past a prefix since.
            let is_behind = level.passed.is_some() && !matches!(bound, Bound::PastPrefix(_));
            let left_out = |entry: &Entry<'_>| {
                let full = [prefix.as_str(), entry.name].concat();
                if entry.is_dir() {
                    bound.leaves_out_prefix(&full)
                } else {
                    bound.leaves_out_key(&full)
                }
            };
            match entries.get(level.next) {
                // A key that has both names was found by the first.
                Some(entry) if level.passed.as_deref() == Some(entry.name) => level.next = entries.after(level.next),
                Some(entry) if is_behind || !left_out(&entry) => {
                    level.next = entries.after(level.next);
                    let name: Arc<str> = entry.name.into();
                    level.passed = Some(Arc::clone(&name));
                    return Ok(Some(Found { name, form: entry.form }));
                }
                Some(_) => level.next = entries.partition_point(left_out),
                None if entries.to().is_some() => {
                    // What comes next begins where this ends.
                    let from: Box<str> = entries.to().unwrap_or_default().into();
                    self.load_from(&from, None)?;
                }
                None => {
                    self.prefix.truncate(level.outer_prefix);
                    self.names.truncate(level.outer_names);
                    self.levels.pop();
                }
            }
        }
    }

    /// Goes on inside the directory that `next` gave: `name` with its `/`.
    pub(super) fn enter(&mut self, name: &str, names: Names) {
        let (outer_prefix, outer_names) = (self.prefix.len(), self.names.len());
        if outer_prefix + name.len() > MAX_KEY_BYTES {
            return;
        }
        if let Some(level) = self.levels.last_mut() {
            level.dir = None;
        }
        self.prefix.push_str(name);
        self.names.extend(names);
        self.levels.push(Level {
            outer_prefix,
            outer_names,
            entries: None,
            next: Position::default(),
            passed: None,
            dir: None,
        });
        // Levels that are far out and large are read again on the way back, rather than all kept.
        let mut bytes = 0;
        for level in self.levels.iter_mut().rev() {
            bytes += level.entries.as_ref().map_or(0, |entries| entries.bytes());
            if bytes > 2 * self.cache.window() {
                level.entries = None;
            }
        }
    }

    /// Reads the names of the innermost level from where it is on.
    fn load(&mut self) -> Result<(), Error> {
        let passed = self.levels.last().and_then(|level| level.passed.clone());
        let from: Box<str> = match &passed {
            Some(passed) => (**passed).into(),
            // The first that can count is a directory on the way to the bound, or the bound.
            None => self
                .bound
                .text()
                .strip_prefix(self.prefix.as_str())
                .map_or_else(Box::default, |rest| {
                    let end = rest.find('/').map_or(rest.len(), |slash| slash + 1);
                    rest[..end].into()
                }),
        };
        self.load_from(&from, passed.as_deref())
    }

    /// A directory that is gone, or that may not be read, has no keys: it is left.
    fn load_from(&mut self, from: &str, passed: Option<&str>) -> Result<(), Error> {
        let (cache, moves) = (self.cache, self.moves);
        let entries = match self.dir()? {
            Some(dir) => cache
                .entries(Tree::Objects, dir, moves, from)
                .map_err(Error::io("could not read a directory"))?,
            None => Arc::default(),
        };
        if let Some(level) = self.levels.last_mut() {
            level.next = entries.partition_point(|entry| match passed {
                Some(passed) => *entry.name <= *passed,
                None => *entry.name < *from,
            });
            level.entries = Some(entries);
        }
        Ok(())
    }

    /// The innermost directory.
    pub(super) fn dir(&mut self) -> Result<Option<&OwnedFd>, Error> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(None);
        };
        if level.dir.is_none() {
            level.dir = match dir::resolve_dir(self.bucket_dir.as_fd(), self.names.iter().map(|n| &**n)) {
                Ok(dir) => Some(dir),
                Err(error) if dir::is_no_object(error) => None,
                Err(error) => return Err(Error::io("could not open a directory")(error)),
            };
        }
        Ok(level.dir.as_ref())
    }

    /// The innermost directory, and the lines that are known.
    pub(super) fn dir_and_lines(&mut self) -> Result<(Option<&OwnedFd>, &mut PageLines<'a>), Error> {
        self.dir()?;
        let dir = self.levels.last().and_then(|level| level.dir.as_ref());
        Ok((dir, &mut self.lines))
    }
}
