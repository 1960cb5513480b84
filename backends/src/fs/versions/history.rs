//! The directory that holds what is kept of a key.

use std::{iter, sync::Arc};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs,
    io::Errno,
};

use super::Kept;
use crate::{
    BackendError, ETag, Stamp, Version,
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir::{self, Meta},
        durable::Spot,
        error::Error,
        listing::{Position, Snapshot, Tree},
        object::strs,
        sys,
    },
    key_codec::{Names, StorageName},
};

/// Where the version named `null` lies in its history.
pub(in crate::fs) const NULL: &str = "null";
/// How often a directory is made again that went away meanwhile.
const MAX_ATTEMPTS: usize = 64;
/// So many of the newest names are looked at for one of an object that is away: nothing newer than a marker is added before
/// that is ended.
const NEWEST: usize = 4;

/// What is kept of one key.
#[derive(Debug)]
pub(in crate::fs) struct History {
    dir: OwnedFd,
    nulls_dir: Option<OwnedFd>,
    /// Those with ids of their own, the newest first.
    stamped: Arc<Snapshot>,
    /// Those named `null`, the newest first. More than one only until somebody tidies up.
    pub(super) nulls: Vec<Kept>,
    /// An object that is [away](Kept::away_name).
    pub(in crate::fs) away: Option<Kept>,
    /// The same where it counts as kept, and nobody may give it the name for that.
    kept_away: Option<Kept>,
}

/// A directory in which names have changed.
#[derive(Debug)]
pub(in crate::fs) struct Changed {
    in_history: bool,
    pub(in crate::fs) names: Names,
    pub(in crate::fs) dir: OwnedFd,
}

impl Changed {
    /// Below the bucket's directory.
    pub(in crate::fs) fn in_bucket(names: Names, dir: OwnedFd) -> Self {
        Self {
            in_history: false,
            names,
            dir,
        }
    }

    /// Below `.t2/versions`.
    pub(in crate::fs) fn in_history(names: Names, dir: OwnedFd) -> Self {
        Self {
            in_history: true,
            names,
            dir,
        }
    }

    pub(in crate::fs) fn is_in_bucket(&self) -> bool {
        !self.in_history
    }

    pub(in crate::fs) fn spot<'a>(&'a self, store: &'a Store, bucket_dir: BorrowedFd<'a>) -> Spot<'a> {
        Spot {
            base: if self.in_history {
                store.versions.as_fd()
            } else {
                bucket_dir
            },
            names: &self.names,
            dir: &self.dir,
        }
    }
}

/// The name that the current object has in its history already, so that it can lose the other.
#[derive(Debug)]
pub(in crate::fs) struct Linked {
    pub(in crate::fs) kept: Kept,
    /// Whatever has to be durable before.
    pub(in crate::fs) place: Changed,
    /// Of the object, with this name.
    pub(in crate::fs) meta: Meta,
    /// What it was before: the tag of a file that nobody wrote through the gateway changes with the number of its names.
    pub(in crate::fs) etag: ETag,
}

impl History {
    /// `None` where nothing is kept, or ever was.
    pub(in crate::fs) fn open(store: &Store, bucket: &Bucket, name: &StorageName) -> Result<Option<Self>, Error> {
        const FAILED: &str = "could not open a history";
        let path = path_of(bucket, name);
        let dir = match dir::resolve_dir(store.versions.as_fd(), strs(&path)) {
            Err(Errno::NOENT) => return Ok(None),
            outcome => outcome.map_err(Error::io(FAILED))?,
        };
        let nulls_dir = match dir::resolve_dir(dir.as_fd(), [NULL]) {
            Err(Errno::NOENT) => None,
            outcome => Some(outcome.map_err(Error::io(FAILED))?),
        };
        let (mut nulls, mut away): (Vec<Kept>, Option<Kept>) = (Vec::new(), None);
        if let Some(dir) = &nulls_dir {
            let names = dir::names(dir).map_err(Error::io(FAILED))?;
            away = names.iter().find_map(|name| Kept::parse_away(name, true));
            nulls.extend(names.iter().filter_map(|name| Kept::parse(name, true)));
            nulls.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.version.stamp));
        }
        let stamped = store
            .listing_cache
            .entries(Tree::Objects, &dir, &store.moves, "")
            .map_err(Error::io(FAILED))?;
        let mut at = stamped.partition_point(|_| false);
        let mut newest = iter::from_fn(|| {
            let name = stamped.get(at)?.name;
            at = stamped.after(at);
            Some(name)
        });
        let away = away.or_else(|| {
            newest
                .by_ref()
                .take(NEWEST)
                .find_map(|name| Kept::parse_away(name, false))
        });
        Ok(Some(Self {
            dir,
            nulls_dir,
            stamped,
            nulls,
            away,
            kept_away: None,
        }))
    }

    /// From here on what is away counts as a version like others.
    pub(super) fn count_away(&mut self) {
        self.kept_away = self.away;
        self.nulls.extend(self.away.filter(|away| away.version.null));
        self.nulls
            .sort_unstable_by_key(|kept| std::cmp::Reverse(kept.version.stamp));
    }

    /// What a name in it means, beside those named `null`.
    fn parse(name: &str, kept_away: Option<Kept>) -> Option<Kept> {
        let away = || Kept::parse_away(name, false).filter(|away| kept_away == Some(*away));
        Kept::parse(name, false).or_else(away)
    }

    fn name(&self, kept: Kept) -> String {
        if self.kept_away == Some(kept) {
            kept.away_name()
        } else {
            kept.name()
        }
    }

    /// Those with ids of their own that are older than `after`, the newest first; as many as memory has.
    pub(super) fn stamped(&self, after: Option<Stamp>) -> impl Iterator<Item = Kept> {
        stamped_in(&self.stamped, after, self.kept_away)
    }

    /// All that is kept, older than `after`, the newest first; but `skip`.
    pub(in crate::fs) fn all<'a>(
        &'a self,
        store: &'a Store,
        after: Option<Stamp>,
        skip: &'a [Kept],
    ) -> impl Iterator<Item = Result<Kept, Error>> + 'a {
        let is_older = move |kept: &Kept| after.is_none_or(|after| kept.version.stamp < after);
        let mut nulls = self.nulls.iter().copied().filter(is_older).peekable();
        let mut stamped = Windows {
            store,
            history: self,
            snapshot: Arc::clone(&self.stamped),
            after,
            next: None,
        }
        .peekable();
        iter::from_fn(move || match (stamped.peek(), nulls.peek()) {
            (Some(Err(_)), _) => stamped.next(),
            (Some(Ok(own)), Some(null)) if own.version.stamp < null.version.stamp => nulls.next().map(Ok),
            (None, Some(_)) => nulls.next().map(Ok),
            _ => stamped.next(),
        })
        .filter(move |kept| kept.as_ref().map_or(true, |kept| !skip.contains(kept)))
    }

    /// Whether it is there, and what.
    pub(super) fn find(&self, stamp: Stamp) -> Result<Option<Kept>, Error> {
        for marker in [false, true] {
            let kept = Kept {
                version: Version { stamp, null: false },
                marker,
            };
            if self.meta(kept)?.is_some() {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }

    pub(in crate::fs) fn meta(&self, kept: Kept) -> Result<Option<Meta>, Error> {
        let Some(dir) = self.dir_of(kept) else {
            return Ok(None);
        };
        match Meta::in_dir(dir, &self.name(kept)) {
            Ok(meta) if meta.is_file() => Ok(Some(meta)),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("could not look at a version")(error)),
        }
    }

    pub(in crate::fs) fn open_file(&self, kept: Kept) -> Result<Option<(OwnedFd, Meta)>, Error> {
        let Some(dir) = self.dir_of(kept) else {
            return Ok(None);
        };
        let entry = dir::look_up_in(dir.as_fd(), &self.name(kept)).map_err(Error::io("could not open a version"))?;
        Ok(entry.into_file())
    }

    /// The directory that it lies in.
    pub(in crate::fs) fn dir_of(&self, kept: Kept) -> Option<&OwnedFd> {
        if kept.version.null {
            self.nulls_dir.as_ref()
        } else {
            Some(&self.dir)
        }
    }
}

fn stamped_in(
    snapshot: &Arc<Snapshot>,
    after: Option<Stamp>,
    kept_away: Option<Kept>,
) -> impl Iterator<Item = Kept> + use<> {
    let snapshot = Arc::clone(snapshot);
    let from = after.map(super::name::inverted);
    let mut at = snapshot.partition_point(|entry| {
        let stamp = entry.name.get(..32).unwrap_or(entry.name);
        from.as_deref().is_some_and(|from| stamp <= from)
    });
    iter::from_fn(move || {
        loop {
            let entry = snapshot.get(at)?;
            at = snapshot.after(at);
            if let Some(kept) = History::parse(entry.name, kept_away) {
                return Some(kept);
            }
        }
    })
}

/// All with ids of their own, read again where memory does not have them all.
struct Windows<'a> {
    store: &'a Store,
    history: &'a History,
    snapshot: Arc<Snapshot>,
    after: Option<Stamp>,
    next: Option<Position>,
}

impl Iterator for Windows<'_> {
    type Item = Result<Kept, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.after.map(super::name::inverted);
            if self.next.is_none() {
                if let Some(from) = &from
                    && !self.snapshot.covers(from)
                    && let Err(error) = self.load(from)
                {
                    return Some(Err(error));
                }
                self.next = Some(self.snapshot.partition_point(|entry| {
                    let stamp = entry.name.get(..32).unwrap_or(entry.name);
                    from.as_deref().is_some_and(|from| stamp <= from)
                }));
            }
            let at = self.next?;
            match self.snapshot.get(at) {
                Some(entry) => {
                    self.next = Some(self.snapshot.after(at));
                    if let Some(kept) = History::parse(entry.name, self.history.kept_away) {
                        self.after = Some(kept.version.stamp);
                        return Some(Ok(kept));
                    }
                }
                None => {
                    let to: Box<str> = self.snapshot.to()?.into();
                    if let Err(error) = self.load(&to) {
                        return Some(Err(error));
                    }
                    self.next = Some(self.snapshot.partition_point(|entry| *entry.name < *to));
                }
            }
        }
    }
}

impl Windows<'_> {
    fn load(&mut self, from: &str) -> Result<(), Error> {
        self.snapshot = self
            .store
            .listing_cache
            .entries(Tree::Objects, &self.history.dir, &self.store.moves, from)
            .map_err(Error::io("could not read a history"))?;
        Ok(())
    }
}

/// From `.t2/versions` on.
pub(in crate::fs) fn path_of(bucket: &Bucket, name: &StorageName) -> Names {
    iter::once(bucket.name.as_str().into())
        .chain(name.history.iter().cloned())
        .collect()
}

impl Store {
    /// The file of a version, if it is kept; or that it is a marker.
    pub(in crate::fs) fn kept_file(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        version: Version,
    ) -> Result<Option<(Kept, OwnedFd, Meta)>, Error> {
        let mut path = path_of(bucket, name);
        path.extend(version.null.then(|| NULL.into()));
        for marker in [false, true] {
            let kept = Kept { version, marker };
            let leaf = kept.name();
            let entry = dir::look_up(self.versions.as_fd(), strs(&path).chain([leaf.as_str()]))
                .map_err(Error::io("could not open a version"))?;
            if let Some((file, meta)) = entry.into_file() {
                return Ok(Some((kept, file, meta)));
            }
        }
        Ok(None)
    }

    /// Whether the key has a history's directory at all.
    pub(in crate::fs) fn has_history(&self, bucket: &Bucket, name: &StorageName) -> Result<bool, Error> {
        match dir::resolve(self.versions.as_fd(), strs(&path_of(bucket, name)), fs::OFlags::PATH) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Error::io("could not open a history")(error)),
        }
    }

    /// Opens or makes the directory in which a version lies.
    fn make_history(&self, bucket: &Bucket, name: &StorageName, null: bool) -> Result<Changed, Error> {
        let mut names = path_of(bucket, name);
        if null {
            names.push(NULL.into());
        }
        for _ in 0..MAX_ATTEMPTS {
            let dir = match dir::resolve_dir(self.versions.as_fd(), strs(&names)) {
                Err(Errno::NOENT) => make_all(&self.versions, &names),
                outcome => outcome,
            };
            match dir {
                // Of another key that has the same way, and went: its directories with it.
                Err(Errno::NOENT) => {}
                outcome => {
                    let dir = outcome.map_err(Error::io("could not make a history"))?;
                    return Ok(Changed::in_history(names, dir));
                }
            }
        }
        Err(BackendError::Conflict.into())
    }

    /// Gives a file a name in the history. Whether it did: some cannot have two names.
    pub(super) fn link_into_history(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        kept: Kept,
        from: &OwnedFd,
        leaf: &str,
        meta: &Meta,
    ) -> Result<Option<Changed>, Error> {
        const FAILED: &str = "could not keep a version";
        for _ in 0..MAX_ATTEMPTS {
            let place = self.make_history(bucket, name, kept.version.null)?;
            let linked = crash::fault(Call::Add)
                .and_then(|()| crash::link_fault())
                .and_then(|()| sys::linkat(from, leaf, &place.dir, &kept.name()));
            match linked {
                Ok(()) => crash::point(),
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => return Ok(None),
                // The directory went, or the object did.
                Err(Errno::NOENT) if Meta::in_dir(from, leaf).is_ok() => continue,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io(FAILED)(error)),
            }
            let there = Meta::in_dir(&place.dir, &kept.name()).map_err(Error::io(FAILED))?;
            if there.is_file_of(meta) {
                return Ok(Some(place));
            }
            if linked.is_ok() {
                // Somebody put another file there just now.
                dir::unlink(&place.dir, &kept.name()).map_err(Error::io(FAILED))?;
            }
            return Err(BackendError::Conflict.into());
        }
        Err(BackendError::Conflict.into())
    }

    /// Moves a file that cannot have two names, or need not, into the history, under one of the names of `kept`.
    pub(in crate::fs) fn move_into_history(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        (kept, new): (Kept, &str),
        from: &OwnedFd,
        leaf: &str,
    ) -> Result<Changed, Error> {
        let place = self.make_history(bucket, name, kept.version.null)?;
        crash::fault(Call::Add)
            .and_then(|()| sys::renameat(from, leaf, &place.dir, new))
            .map_err(Error::io("could not keep a version"))?;
        crash::point();
        Ok(place)
    }

    /// Adds a delete marker.
    pub(in crate::fs) fn add_marker(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        marker: Version,
    ) -> Result<Changed, Error> {
        let kept = Kept {
            version: marker,
            marker: true,
        };
        for _ in 0..MAX_ATTEMPTS {
            let place = self.make_history(bucket, name, marker.null)?;
            match dir::create_file(&place.dir, &kept.name()) {
                Err(Errno::NOENT) => {}
                outcome => {
                    outcome.map_err(Error::io("could not add a delete marker"))?;
                    return Ok(place);
                }
            }
        }
        Err(BackendError::Conflict.into())
    }

    /// Removes a name from the history. The directory that it was in.
    pub(in crate::fs) fn remove_kept(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        history: &History,
        kept: Kept,
    ) -> Result<Option<Changed>, Error> {
        const FAILED: &str = "could not remove a version";
        let Some(dir) = history.dir_of(kept) else {
            return Ok(None);
        };
        let place = self.place_of(bucket, name, history, kept)?;
        dir::unlink(dir, &kept.name()).map_err(Error::io(FAILED))?;
        Ok(place)
    }

    /// The directory of a version, as one that has changed.
    pub(in crate::fs) fn place_of(
        &self,
        bucket: &Bucket,
        name: &StorageName,
        history: &History,
        kept: Kept,
    ) -> Result<Option<Changed>, Error> {
        let Some(dir) = history.dir_of(kept) else {
            return Ok(None);
        };
        let mut names = path_of(bucket, name);
        if kept.version.null {
            names.push(NULL.into());
        }
        let dir = dir::again(dir).map_err(Error::io("could not remove a version"))?;
        Ok(Some(Changed::in_history(names, dir)))
    }
}

/// Opens `names`, each in the one before, and makes what is missing.
fn make_all(base: &OwnedFd, names: &[Box<str>]) -> Result<OwnedFd, Errno> {
    let mut reached: Option<OwnedFd> = None;
    for name in names {
        let from = reached.as_ref().unwrap_or(base);
        match crash::fault(Call::Add).and_then(|()| sys::mkdirat(from, name, 0o700)) {
            Ok(()) => crash::point(),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        reached = Some(dir::resolve_dir(from.as_fd(), [&**name])?);
    }
    reached.ok_or(Errno::NOENT)
}
