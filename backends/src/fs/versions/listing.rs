//! Listing versions: a walk over the directories of a bucket and of its histories at once, in the byte order of keys.

use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};

use super::{last_modified, name::Kept};
use crate::{
    DeleteMarker, Key, ListObjectVersions, MAX_KEY_BYTES, ObjectInfo, Stamp, Version, VersionEntry, VersionId,
    VersionPage,
    fs::{
        Store, attributes,
        bucket::Bucket,
        dir::{self, Meta},
        error::Error,
        listing::{Bound, Snapshot, Tree, has_objects_in, rolled_up},
    },
    key_codec::{self, Names, StorageName},
};

/// Goes over all keys that have an object or a history. Of each directory the bucket's is read first, then that of the
/// histories: so no key is missed that moves from one to the other.
struct Walk<'a> {
    store: &'a Store,
    bucket: &'a Bucket,
    bucket_dir: &'a OwnedFd,
    /// Of all keys in the innermost directory.
    prefix: String,
    /// The way to it, from the bucket on.
    names: Names,
    levels: Vec<Level>,
    bound: Bound,
}

struct Level {
    /// How much of [`Walk::prefix`] and [`Walk::names`] belongs to the levels outside.
    outer_prefix: usize,
    outer_names: usize,
    /// Of the bucket, and of the histories; from a name on that both have, up to the first that one leaves out.
    entries: Option<[Arc<Snapshot>; 2]>,
    passed: Option<Box<str>>,
}

impl<'a> Walk<'a> {
    fn begin(store: &'a Store, bucket: &'a Bucket, bucket_dir: &'a OwnedFd, directory: &str, bound: Bound) -> Self {
        let mut walk = Self {
            store,
            bucket,
            bucket_dir,
            prefix: String::new(),
            names: Names::new(),
            levels: Vec::new(),
            bound,
        };
        let names = directory.strip_suffix('/').map(key_codec::directories);
        walk.enter(directory, names.unwrap_or_default());
        walk
    }

    /// The next name that may be that of a key that counts, or with `/` behind of a directory that holds some. Directories
    /// are passed over unless [entered](Self::enter).
    fn next(&mut self) -> Result<Option<Box<str>>, Error> {
        loop {
            let Some(level) = self.levels.last() else {
                return Ok(None);
            };
            let Some(entries) = &level.entries else {
                let from = self.first_to_read();
                self.load(&from)?;
                continue;
            };
            let (prefix, bound, passed) = (&self.prefix, &self.bound, level.passed.as_deref());
            let left_out = |name: &str| {
                let full = [prefix.as_str(), name].concat();
                passed.is_some_and(|passed| name <= passed)
                    || if name.ends_with('/') {
                        bound.leaves_out_prefix(&full)
                    } else {
                        bound.leaves_out_key(&full)
                    }
            };
            let first = |snapshot: &Arc<Snapshot>| {
                let at = snapshot.partition_point(|entry| left_out(entry.name));
                snapshot.get(at).map(|entry| Box::<str>::from(entry.name))
            };
            let next = entries.iter().filter_map(first).min();
            let end: Option<Box<str>> = entries.iter().filter_map(|entries| entries.to()).min().map(Into::into);
            match (next, end) {
                (next, Some(end)) if next.as_ref().is_none_or(|next| *next >= end) => self.load(&end)?,
                (Some(next), _) => {
                    if let Some(level) = self.levels.last_mut() {
                        level.passed = Some(next.clone());
                    }
                    return Ok(Some(next));
                }
                (None, _) => {
                    self.prefix.truncate(level.outer_prefix);
                    self.names.truncate(level.outer_names);
                    self.levels.pop();
                }
            }
        }
    }

    /// Goes on inside the directory that `next` gave: `name` with its `/`.
    fn enter(&mut self, name: &str, names: Names) {
        let (outer_prefix, outer_names) = (self.prefix.len(), self.names.len());
        if outer_prefix + name.len() > MAX_KEY_BYTES {
            return;
        }
        self.prefix.push_str(name);
        self.names.extend(names);
        self.levels.push(Level {
            outer_prefix,
            outer_names,
            entries: None,
            passed: None,
        });
        // Levels that are far out and large are read again on the way back, rather than all kept.
        let mut bytes = 0;
        for level in self.levels.iter_mut().rev() {
            bytes += level
                .entries
                .iter()
                .flatten()
                .map(|entries| entries.bytes())
                .sum::<usize>();
            if bytes > 2 * self.store.listing_cache.window() {
                level.entries = None;
            }
        }
    }

    /// Where the innermost directory is to be read from.
    fn first_to_read(&self) -> Box<str> {
        let passed = self.levels.last().and_then(|level| level.passed.clone());
        passed.unwrap_or_else(|| {
            // The first that can count is a directory on the way to the bound, or the bound.
            let rest = self.bound.text().strip_prefix(self.prefix.as_str()).unwrap_or("");
            let end = rest.find('/').map_or(rest.len(), |slash| slash + 1);
            rest[..end].into()
        })
    }

    /// Reads the innermost directory, of both trees in this order.
    fn load(&mut self, from: &str) -> Result<(), Error> {
        let objects = self.read(Tree::Objects, from)?;
        let histories = self.read(Tree::Histories, from)?;
        if let Some(level) = self.levels.last_mut() {
            level.entries = Some([objects, histories]);
        }
        Ok(())
    }

    fn read(&self, tree: Tree, from: &str) -> Result<Arc<Snapshot>, Error> {
        let names = self.names.iter().map(|n| &**n);
        let opened = match tree {
            Tree::Objects => dir::resolve_dir(self.bucket_dir.as_fd(), names),
            Tree::Histories => {
                let names = std::iter::once(self.bucket.name.as_str()).chain(names);
                dir::resolve_dir(self.store.versions.as_fd(), names)
            }
        };
        match opened {
            Ok(dir) => self
                .store
                .listing_cache
                .entries(tree, &dir, &self.store.moves, from)
                .map_err(Error::io("could not read a directory")),
            // One that is gone, or that may not be read, has no keys.
            Err(error) if dir::is_no_object(error) => Ok(Arc::default()),
            Err(error) => Err(Error::io("could not open a directory")(error)),
        }
    }

    /// Whether the directory `name`, which the walk has come to, holds any version.
    fn holds_versions(&self, name: &str) -> Result<bool, Error> {
        let segment = name.strip_suffix('/').unwrap_or(name);
        let path: Names = self.names.iter().cloned().chain(key_codec::segment(segment)).collect();
        let prefix_len = self.prefix.len() + name.len();
        if has_objects_in(
            self.bucket_dir,
            self.store.is_folding(),
            path.clone(),
            prefix_len,
            &mut |_, _, _| {},
        )? {
            return Ok(true);
        }
        let path: Names = std::iter::once(self.bucket.name.as_str().into()).chain(path).collect();
        self.store.has_kept_below(&path)
    }
}

/// Of one key, what a page wants.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    after: After,
    max: usize,
}

#[derive(Debug, Clone, Copy)]
enum After {
    Start,
    Stamp(Stamp),
    /// The version named `null`; all versions where there is none.
    Null,
}

impl Store {
    pub(in crate::fs) fn list_object_versions(
        &self,
        bucket: &Bucket,
        request: &ListObjectVersions,
    ) -> Result<VersionPage, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let prefix = &*request.prefix;
        let delimiter = request.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let mut page = VersionPage::default();
        if request.max_keys == 0 || prefix.contains('\0') {
            return Ok(page);
        }
        let rolled_up = |name: &str| rolled_up(prefix, delimiter, name);
        let after = request.version_id_marker.as_ref().map(|id| match id.stamp() {
            Some(stamp) => After::Stamp(stamp),
            None => After::Null,
        });
        let bound = match request.key_marker.as_deref() {
            Some(marker) if marker >= prefix => match rolled_up(marker) {
                Some(common) if *common == *marker => Bound::PastPrefix(common),
                _ if after.is_some() => Bound::AtLeast(marker.into()),
                _ => Bound::After(marker.into()),
            },
            _ => Bound::AtLeast(prefix.into()),
        };
        let directory = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        let mut walk = Walk::begin(self, bucket, &bucket_dir, directory, bound);
        let mut buffer = Vec::new();
        while let Some(found) = walk.next()? {
            let name = [walk.prefix.as_str(), &found].concat();
            let segment = found.strip_suffix('/');
            let may_hold = name.starts_with(prefix) || (segment.is_some() && prefix.starts_with(&name));
            if !may_hold {
                if *name > *prefix {
                    break;
                }
                continue;
            }
            let common = rolled_up(&name);
            if let Some(segment) = segment {
                let Some(common) = common.filter(|_| walk.bound.admits_prefix(&name)) else {
                    walk.enter(&found, key_codec::segment(segment));
                    continue;
                };
                if walk.holds_versions(&found)? && !push(&mut page, request, VersionEntry::CommonPrefix(common.clone()))
                {
                    break;
                }
                walk.bound = Bound::PastPrefix(common);
                continue;
            }
            let Ok(key) = Key::parse(name) else {
                continue;
            };
            let is_marker = request.key_marker.as_deref() == Some(key.as_str());
            let wanted = Wanted {
                after: after.filter(|_| is_marker).unwrap_or(After::Start),
                // One more tells whether there is more.
                max: if common.is_some() {
                    1
                } else {
                    request.max_keys - page.entries.len() + 1
                },
            };
            let versions = self.versions_of(bucket, &bucket_dir, key, wanted, &mut buffer)?;
            if versions.is_empty() {
                continue;
            }
            let entries = match &common {
                Some(common) => vec![VersionEntry::CommonPrefix(common.clone())],
                None => versions,
            };
            walk.bound = match common {
                Some(common) => Bound::PastPrefix(common),
                None => Bound::After([walk.prefix.as_str(), &found].concat().into()),
            };
            if !entries.into_iter().all(|entry| push(&mut page, request, entry)) {
                break;
            }
        }
        Ok(page)
    }

    /// The versions of a key at one moment, the newest first.
    fn versions_of(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: Key,
        wanted: Wanted,
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<VersionEntry>, Error> {
        let name = StorageName::of(key.as_str());
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let versions = self.seen_versions(bucket, bucket_dir.as_fd(), &key, &name)?;
        let current = versions.current.as_ref().zip(versions.current_version());
        let after = match wanted.after {
            After::Start => None,
            After::Stamp(stamp) => Some(stamp),
            After::Null => {
                let null = current.map(|(_, version)| version).filter(|version| version.null);
                null.or(versions.null.map(|kept| kept.version))
                    .map(|version| version.stamp)
            }
        };
        let is_wanted = |version: Version| after.is_none_or(|after| version.stamp < after);
        let mut entries = Vec::new();
        if let Some((current, version)) = current.filter(|(_, version)| is_wanted(*version)) {
            let info = self.line_of(bucket, key.clone(), (&current.file, &current.meta), None, buffer)?;
            entries.push(object(info, version.id(), true));
        }
        let Some(history) = &versions.history else {
            return Ok(entries);
        };
        for kept in versions.all_kept(self, after) {
            if entries.len() >= wanted.max {
                break;
            }
            let kept: Kept = kept?;
            let is_latest = current.is_none() && versions.newest == Some(kept);
            if kept.marker {
                entries.push(VersionEntry::DeleteMarker(DeleteMarker {
                    key: key.clone(),
                    version_id: kept.version.id(),
                    last_modified: last_modified(kept),
                    is_latest,
                }));
                continue;
            }
            // Somebody else may have removed it.
            if let Some((file, meta)) = history.open_file(kept)? {
                let info = self.line_of(bucket, key.clone(), (&file, &meta), Some(kept), buffer)?;
                entries.push(object(info, kept.version.id(), is_latest));
            }
        }
        Ok(entries)
    }

    /// Of one version. Under the lock of the key.
    fn line_of(
        &self,
        bucket: &Bucket,
        key: Key,
        (file, meta): (&OwnedFd, &Meta),
        kept: Option<Kept>,
        buffer: &mut Vec<u8>,
    ) -> Result<ObjectInfo, Error> {
        let is_own = |key: &Key, named| self.is_own(bucket, key, named, meta, kept);
        let line = self
            .attributes
            .describe_listed(&bucket.name, key, file, meta, buffer, is_own)?;
        Ok(line.unwrap_or_else(|key| attributes::describe_unknown(key, meta)))
    }
}

fn object(info: ObjectInfo, id: VersionId, is_latest: bool) -> VersionEntry {
    VersionEntry::Object {
        info: ObjectInfo {
            version_id: Some(id),
            ..info
        },
        is_latest,
    }
}

/// Whether there was room for it.
fn push(page: &mut VersionPage, request: &ListObjectVersions, entry: VersionEntry) -> bool {
    if page.entries.len() == request.max_keys {
        page.is_truncated = true;
        return false;
    }
    page.entries.push(entry);
    true
}
