//! Listing in the byte order of keys: a walk over sorted directories, which begins and ends where the page does.

mod cache;
mod lines;
mod snapshot;
mod walk;
mod watch;

use std::ops::ControlFlow;

use rustix::fd::{AsFd, OwnedFd};

use self::walk::Walk;
pub(super) use self::{
    cache::{ListingCache, is_settled},
    snapshot::{Entry, Position, Snapshot, Tree},
    walk::Bound,
    watch::is_local,
};
use super::{
    Store,
    bucket::Bucket,
    dir::{self, Meta},
    error::Error,
    names::is_of_another,
};
use crate::{
    BackendError, Key, ListEntry, ListObjects, MAX_KEY_BYTES, ObjectAttributes, ObjectInfo, ObjectPage, ObjectRef,
    VersionId, key_codec::Names,
};

impl Store {
    pub(super) fn list_objects(&self, bucket: &Bucket, request: &ListObjects) -> Result<ObjectPage, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let prefix = &*request.prefix;
        let delimiter = request.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let mut page = ObjectPage::default();
        if request.max_keys == 0 || prefix.contains('\0') {
            return Ok(page);
        }
        let rolled_up = |name: &str| rolled_up(prefix, delimiter, name);
        let bound = match request.start_after.as_deref() {
            Some(after) if after >= prefix => match rolled_up(after) {
                Some(common) if *common == *after => Bound::PastPrefix(common),
                _ => Bound::After(after.into()),
            },
            _ => Bound::AtLeast(prefix.into()),
        };
        let directory = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        let mut walk = Walk::begin(self, &bucket_dir, directory, bound)?;
        while let Some(found) = walk.next()? {
            let entry = found.as_entry();
            let name = [walk.prefix.as_str(), entry.name].concat();
            let may_hold = name.starts_with(prefix) || (entry.is_dir() && prefix.starts_with(&name));
            if !may_hold {
                if *name > *prefix {
                    break;
                }
                continue;
            }
            let common = rolled_up(&name);
            let listed = if entry.is_dir() {
                let Some(common) = common.filter(|_| walk.bound.admits_prefix(&name)) else {
                    walk.enter(entry.name, entry.names());
                    continue;
                };
                if !self.holds_objects(&mut walk, entry, name.len())? {
                    continue;
                }
                ListEntry::CommonPrefix(common)
            } else {
                let Some(info) = self.entry_info(bucket, &bucket_dir, &mut walk, entry, name)? else {
                    continue;
                };
                common.map_or_else(|| ListEntry::Object(info), ListEntry::CommonPrefix)
            };
            if page.entries.len() == request.max_keys {
                page.is_truncated = true;
                break;
            }
            match &listed {
                ListEntry::CommonPrefix(common) => walk.bound = Bound::PastPrefix(common.clone()),
                ListEntry::Object(info) if matches!(walk.bound, Bound::PastPrefix(_)) => {
                    walk.bound = Bound::After(info.key.as_str().into());
                }
                // What follows is behind it anyway.
                ListEntry::Object(_) => {}
            }
            page.entries.push(listed);
        }
        Ok(page)
    }

    /// `None` where it went away, is no object, or is one that no key can name.
    fn entry_info(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        walk: &mut Walk<'_>,
        entry: Entry<'_>,
        key: String,
    ) -> Result<Option<ObjectInfo>, Error> {
        let Ok(key) = Key::parse(key) else {
            return Ok(None);
        };
        let (dir, lines) = walk.dir_and_lines()?;
        let (mut info, meta) = match lines.of_name(dir, entry.own_name(), &bucket.name, key) {
            Ok(known) => known,
            Err(key) => match self.read_line(bucket, bucket_dir, walk, entry, key)? {
                Some(read) => read,
                None => return Ok(None),
            },
        };
        info.version_id = match (bucket.versioning(), info.version_id) {
            (None, _) => None,
            (Some(_), Some(recorded)) => Some(recorded),
            // Where it was replaced meanwhile, it was what it was.
            (Some(_), None) => {
                let id = self.version_id_of(bucket, bucket_dir, &info.key, &meta)?;
                Some(id.unwrap_or_else(VersionId::null))
            }
        };
        Ok(Some(info))
    }

    /// The line of an object whose file is opened, and what the file was then.
    fn read_line(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        walk: &mut Walk<'_>,
        entry: Entry<'_>,
        key: Key,
    ) -> Result<Option<(ObjectInfo, Meta)>, Error> {
        let found = match walk.dir()? {
            Some(dir) => match entry.own_name() {
                Some(name) => dir::look_up_in(dir.as_fd(), name),
                None => dir::look_up(dir.as_fd(), entry.names().iter().map(|n| &**n)),
            }
            .map_err(Error::io("could not open an object"))?
            .into_file(),
            None => None,
        };
        let found = match found {
            // Another spelling may have got the entry meanwhile.
            Some((file, _)) if self.is_folding() && is_of_another(&file, key.as_str())? => {
                self.find(bucket, bucket_dir, &key)?
            }
            Some(found) => Some(found),
            None => self.find(bucket, bucket_dir, &key)?,
        };
        let Some((file, meta)) = found else {
            return Ok(None);
        };
        let key = match walk.lines.of_file(&bucket.name, key, &meta) {
            Ok(known) => return Ok(Some((known, meta))),
            Err(key) => key,
        };
        let may_keep = walk.lines.may_keep(&meta);
        let is_own = |key: &Key, named| self.is_own(bucket, key, named, &meta, None);
        let described = self
            .attributes
            .describe_listed(&bucket.name, key, &file, &meta, &mut walk.buffer, is_own)?;
        match described {
            Ok(info) => {
                if may_keep {
                    walk.lines.keep(&bucket.name, &meta, &info);
                }
                Ok(Some((info, meta)))
            }
            Err(key) => {
                let described = self.describe_opened(bucket, bucket_dir, key)?;
                Ok(described.map(|info| (info, meta)))
            }
        }
    }

    /// The line of an object whose side file was not there, or half written, or another's: of one version.
    fn describe_opened(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: Key) -> Result<Option<ObjectInfo>, Error> {
        let object = ObjectRef {
            bucket: bucket.name.clone(),
            key,
            version_id: None,
        };
        let opened = match self.open_with_attributes(bucket, bucket_dir, &object) {
            Ok(opened) => opened,
            Err(Error::Answer(BackendError::NoSuchKey | BackendError::DeleteMarker { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut info = opened.into_parts(object.key).0;
        // As in all lines of a listing.
        info.attributes = ObjectAttributes {
            checksum: info.attributes.checksum,
            ..ObjectAttributes::default()
        };
        Ok(Some(info))
    }

    /// Whether the directory `entry`, which the walk has come to, holds any object. The keys there begin with
    /// `prefix_len` bytes.
    fn holds_objects(&self, walk: &mut Walk<'_>, entry: Entry<'_>, prefix_len: usize) -> Result<bool, Error> {
        let names = entry.names();
        if let ([name], Some(dir)) = (names.as_slice(), walk.dir()?)
            && let Ok(meta) = Meta::in_dir(dir, name)
            && self
                .listing_cache
                .holds_object(&meta, MAX_KEY_BYTES.saturating_sub(prefix_len))
        {
            return Ok(true);
        }
        // One key is enough, whichever.
        let path: Names = walk.names.iter().cloned().chain(names).collect();
        has_objects_in(
            walk.bucket_dir,
            self.is_folding(),
            path,
            prefix_len,
            &mut |dir, meta, name| {
                self.listing_cache.found_object(dir, meta, name);
            },
        )
    }

    /// Whether there is any object in a bucket's directory.
    pub(super) fn has_objects(&self, bucket_dir: &OwnedFd) -> Result<bool, Error> {
        has_objects_in(bucket_dir, self.is_folding(), Names::new(), 0, &mut |_, _, _| {})
    }
}

/// The common prefix that `name` is rolled up into.
pub(super) fn rolled_up(prefix: &str, delimiter: Option<&str>, name: &str) -> Option<Box<str>> {
    let delimiter = delimiter?;
    let at = name.strip_prefix(prefix)?.find(delimiter)?;
    Some(name[..prefix.len() + at + delimiter.len()].into())
}

/// The names of a directory, and how much longer keys in it are.
type Directory = (Names, usize);

/// Is told of a directory, as it was before it was read, that holds an object, and of the length of its name.
pub(super) type OnFound<'a> = dyn FnMut(&OwnedFd, &Meta, usize) + 'a;

/// Whether there is any object below the directory at `path`; the keys there begin with `prefix_len` bytes.
pub(super) fn has_objects_in(
    bucket_dir: &OwnedFd,
    folded: bool,
    path: Names,
    prefix_len: usize,
    on_found: &mut OnFound<'_>,
) -> Result<bool, Error> {
    struct Level {
        path: Names,
        prefix_len: usize,
        left: Vec<Directory>,
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some((path, prefix_len));
    loop {
        if let Some((path, prefix_len)) = next.take()
            && prefix_len <= MAX_KEY_BYTES
        {
            let mut left = Vec::new();
            match find_file(bucket_dir, folded, &path, prefix_len, &mut left, on_found) {
                Ok(true) => return Ok(true),
                Ok(false) => levels.push(Level { path, prefix_len, left }),
                Err(Error::Io { source, .. }) if dir::is_no_object(source) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(level) = levels.last_mut() else {
            return Ok(false);
        };
        match level.left.pop() {
            Some((names, len)) => {
                let path = level.path.iter().cloned().chain(names).collect();
                next = Some((path, level.prefix_len + len));
            }
            None => {
                levels.pop();
            }
        }
    }
}

/// Whether a directory holds an object itself; if not, what directories.
fn find_file(
    bucket_dir: &OwnedFd,
    folded: bool,
    path: &[Box<str>],
    prefix_len: usize,
    dirs: &mut Vec<Directory>,
    on_found: &mut OnFound<'_>,
) -> Result<bool, Error> {
    let dir = dir::resolve_dir(bucket_dir.as_fd(), path.iter().map(|n| &**n))
        .map_err(Error::io("could not open a directory"))?;
    let before = Meta::of(&dir).map_err(Error::io("could not look at a directory"))?;
    let mut failed = None;
    let broke = snapshot::scan(Tree::Objects, &dir, folded, &mut Vec::new(), &mut |entry| {
        if entry.is_dir() {
            dirs.push((entry.names(), entry.name.len()));
            return ControlFlow::Continue(());
        }
        let in_reach = (1..=MAX_KEY_BYTES).contains(&(prefix_len + entry.name.len()));
        let names = entry.names();
        match dir::look_up(dir.as_fd(), names.iter().map(|n| &**n)) {
            Ok(dir::Entry::File(..)) if in_reach => {
                // Of a name in pieces this directory's change time does not tell.
                if names.len() == 1 {
                    on_found(&dir, &before, entry.name.len());
                }
                ControlFlow::Break(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })
    .map_err(Error::io("could not read a directory"))?;
    match failed {
        Some(error) => Err(Error::io("could not open an object")(error)),
        None => Ok(broke),
    }
}
