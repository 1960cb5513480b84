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
        object::strs,
    },
    key_codec::{self, Names},
};

/// Goes over all keys that have an object or a history. Of each directory the bucket's is read first, then that of the
/// histories: so no key is missed that moves from one to the other.
struct Walk<'a> {
    store: &'a Store,
    bucket: &'a Bucket,
    bucket_dir: &'a OwnedFd,
    /// Of all keys in the innermost directory: empty, or the way to it and a `/`.
    prefix: String,
    levels: Vec<Level>,
    bound: Bound,
}

struct Level {
    /// How much of [`Walk::prefix`] belongs to the levels outside.
    outer_prefix: usize,
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
            levels: Vec::new(),
            bound,
        };
        walk.enter(directory);
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
                    self.levels.pop();
                }
            }
        }
    }

    /// Goes on inside the directory that `next` gave: `name` with its `/`.
    fn enter(&mut self, name: &str) {
        let outer_prefix = self.prefix.len();
        if outer_prefix + name.len() > MAX_KEY_BYTES {
            return;
        }
        self.prefix.push_str(name);
        self.levels.push(Level {
            outer_prefix,
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
        let dir = match tree {
            Tree::Objects => self.objects_in(&self.prefix)?,
            Tree::Histories => {
                match dir::resolve_dir(self.store.versions.as_fd(), strs(&self.histories_in(&self.prefix))) {
                    Ok(dir) => Some(dir),
                    // One that is gone, or that may not be read, has no keys.
                    Err(error) if dir::is_no_object(error) => None,
                    Err(error) => return Err(Error::io("could not open a directory")(error)),
                }
            }
        };
        let Some(dir) = dir else {
            return Ok(Arc::default());
        };
        self.store
            .listing_cache
            .entries(tree, &dir, &self.store.moves, from)
            .map_err(Error::io("could not read a directory"))
    }

    /// The directory of the objects whose keys begin with `prefix`. Looked for anew each time: where names are folded it
    /// may have been made, under whatever name is free then, since its histories were seen.
    fn objects_in(&self, prefix: &str) -> Result<Option<OwnedFd>, Error> {
        match prefix.strip_suffix('/') {
            Some(path) => self.store.open_directory(self.bucket, self.bucket_dir, path),
            None => dir::resolve_dir(self.bucket_dir.as_fd(), [])
                .map(Some)
                .map_err(Error::io("could not open a directory")),
        }
    }

    /// The way to their histories, from `.t2/versions` on.
    fn histories_in(&self, prefix: &str) -> Names {
        let path = prefix.strip_suffix('/');
        let names = path.map(|path| key_codec::history_directories(path, self.store.is_folding()));
        std::iter::once(self.bucket.name.as_str().into())
            .chain(names.unwrap_or_default())
            .collect()
    }

    /// Whether the directory `name`, which the walk has come to, holds any version.
    fn holds_versions(&self, name: &str) -> Result<bool, Error> {
        let prefix = [self.prefix.as_str(), name].concat();
        let folded = self.store.is_folding();
        if let Some(dir) = self.objects_in(&prefix)?
            && has_objects_in(&dir, folded, Names::new(), prefix.len(), &mut |_, _, _| {})?
        {
            return Ok(true);
        }
        self.store.has_kept_below(&self.histories_in(&prefix))
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
            let is_dir = found.ends_with('/');
            let may_hold = name.starts_with(prefix) || (is_dir && prefix.starts_with(&name));
            if !may_hold {
                if *name > *prefix {
                    break;
                }
                continue;
            }
            let common = rolled_up(&name);
            if is_dir {
                let Some(common) = common.filter(|_| walk.bound.admits_prefix(&name)) else {
                    walk.enter(&found);
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
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        let name = self.name_of(bucket_dir, key.as_str())?;
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
