//! Listing in the byte order of keys: a walk over sorted directories, which begins and ends where the page does.

use std::ops::ControlFlow;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::FileType,
    io::Errno,
};

use super::{
    Store,
    attributes::{self, Record},
    bucket::Bucket,
    dir::{self, Meta},
    error::Error,
    locks::Moves,
};
use crate::{
    Key, ListEntry, ListObjects, MAX_KEY_BYTES, ObjectInfo, ObjectPage,
    key_codec::{self, Name, Names},
};

/// What a directory holds, in the words of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// A segment; of a directory with `/` behind, so that entries sort as the keys that begin so.
    name: Box<str>,
    /// Lies under its second name.
    forced: bool,
}

impl Entry {
    fn is_dir(&self) -> bool {
        self.name.ends_with('/')
    }

    fn names(&self) -> Names {
        match self.name.strip_suffix('/') {
            Some(segment) => key_codec::segment(segment),
            None if self.forced => key_codec::forced(&self.name),
            None => key_codec::segment(&self.name),
        }
    }
}

/// All entries of a directory, by name, each once.
fn sorted_entries(dir: &OwnedFd) -> Result<Vec<Entry>, Errno> {
    let mut entries = Vec::new();
    scan_entries(dir, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })?;
    // Of two files of one key, `false` comes first: the plain name.
    entries.sort_unstable();
    entries.dedup_by(|b, a| a.name == b.name);
    Ok(entries)
}

/// Entries in no order until `visit` breaks; whether it did. The pieces of long segments are put together.
fn scan_entries(dir: &OwnedFd, visit: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<bool, Errno> {
    // Directories that pieces go on in: their names on the way, and the text so far.
    let mut continued: Vec<(Names, String)> = Vec::new();
    if scan_piece(dir, &[], "", &mut continued, visit)? {
        return Ok(true);
    }
    while let Some((names, text)) = continued.pop() {
        match dir::resolve_dir(dir.as_fd(), names.iter().map(|n| &**n)) {
            Ok(piece) => {
                if scan_piece(&piece, &names, &text, &mut continued, visit)? {
                    return Ok(true);
                }
            }
            Err(error) if dir::is_no_object(error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn scan_piece(
    dir: &OwnedFd,
    before: &[Box<str>],
    text_before: &str,
    continued: &mut Vec<(Names, String)>,
    visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<bool, Errno> {
    dir::scan(dir, |name, file_type| {
        let parsed = Name::parse(name);
        if parsed == Name::Foreign || (parsed == Name::Plain && !before.is_empty()) {
            return ControlFlow::Continue(());
        }
        let file_type = match file_type {
            FileType::Unknown => Meta::in_dir(dir, name).map_or(FileType::Unknown, |meta| meta.file_type),
            known => known,
        };
        let is_dir = match file_type {
            FileType::RegularFile => false,
            FileType::Directory => true,
            _ => return ControlFlow::Continue(()),
        };
        let path = || -> Names {
            let name: Box<str> = name.into();
            before.iter().cloned().chain([name]).collect()
        };
        let (mut text, forced) = match parsed {
            Name::Foreign => return ControlFlow::Continue(()),
            Name::Plain => (name.to_owned(), false),
            Name::Escaped(rest) => {
                let text = format!("{text_before}{rest}");
                if key_codec::segment(&text) != path() {
                    return ControlFlow::Continue(());
                }
                (text, false)
            }
            Name::Forced(rest) => {
                let text = format!("{text_before}{rest}");
                if is_dir || key_codec::forced(&text) != path() {
                    return ControlFlow::Continue(());
                }
                (text, true)
            }
            Name::Continued(chunk) => {
                let text = format!("{text_before}{chunk}");
                if is_dir && text.len() < MAX_KEY_BYTES {
                    continued.push((path(), text));
                }
                return ControlFlow::Continue(());
            }
        };
        if is_dir {
            text.push('/');
        }
        visit(Entry {
            name: text.into(),
            forced,
        })
    })
}

/// Where a listing goes on.
#[derive(Debug, Clone)]
enum Bound {
    AtLeast(Box<str>),
    After(Box<str>),
    /// After everything that begins so.
    PastPrefix(Box<str>),
}

impl Bound {
    fn leaves_out_key(&self, key: &str) -> bool {
        match self {
            Self::AtLeast(bound) => key < &**bound,
            Self::After(bound) => key <= &**bound,
            Self::PastPrefix(prefix) => key < &**prefix || key.starts_with(&**prefix),
        }
    }

    /// Whether no key that begins with `prefix` counts.
    fn leaves_out_prefix(&self, prefix: &str) -> bool {
        match self {
            Self::AtLeast(bound) | Self::After(bound) => prefix < &**bound && !bound.starts_with(prefix),
            Self::PastPrefix(past) => prefix.starts_with(&**past) || (prefix < &**past && !past.starts_with(prefix)),
        }
    }

    /// Whether all keys that begin with `prefix` count.
    fn admits_prefix(&self, prefix: &str) -> bool {
        match self {
            // `prefix` itself may be a key.
            Self::AtLeast(bound) => prefix >= &**bound,
            Self::After(bound) => prefix > &**bound,
            Self::PastPrefix(past) => prefix > &**past && !prefix.starts_with(&**past),
        }
    }
}

/// A walk over all keys below a directory in byte order. Keeps the names of one directory for each level, and one
/// directory open.
struct Walk<'a> {
    moves: &'a Moves,
    bucket_dir: &'a OwnedFd,
    /// Of all keys in the innermost directory.
    prefix: String,
    /// The way to it.
    names: Names,
    levels: Vec<Level>,
    bound: Bound,
}

struct Level {
    /// How much of [`Walk::prefix`] and [`Walk::names`] belongs to the levels outside.
    outer_prefix: usize,
    outer_names: usize,
    entries: Vec<Entry>,
    next: usize,
    /// Kept for the innermost level.
    dir: Option<OwnedFd>,
}

impl<'a> Walk<'a> {
    /// `directory`: empty, or a prefix that ends with `/`.
    fn begin(moves: &'a Moves, bucket_dir: &'a OwnedFd, directory: &str, bound: Bound) -> Result<Self, Error> {
        let mut walk = Self {
            moves,
            bucket_dir,
            prefix: String::new(),
            names: Names::new(),
            levels: Vec::new(),
            bound,
        };
        let names = directory.strip_suffix('/').map(key_codec::directories);
        walk.enter(directory, names.unwrap_or_default())?;
        Ok(walk)
    }

    /// The next entry that may hold keys that count. Directories are passed over unless [entered](Self::enter).
    fn next(&mut self) -> Option<Entry> {
        loop {
            let level = self.levels.last_mut()?;
            let (prefix, bound) = (&self.prefix, &self.bound);
            let left_out = |entry: &Entry| {
                let full = [prefix.as_str(), &entry.name].concat();
                if entry.is_dir() {
                    bound.leaves_out_prefix(&full)
                } else {
                    bound.leaves_out_key(&full)
                }
            };
            let rest = &level.entries[level.next..];
            match rest.first() {
                Some(entry) if !left_out(entry) => {
                    level.next += 1;
                    return Some(entry.clone());
                }
                Some(_) => level.next += rest.partition_point(left_out),
                None => {
                    self.prefix.truncate(level.outer_prefix);
                    self.names.truncate(level.outer_names);
                    self.levels.pop();
                }
            }
        }
    }

    /// Goes on inside the directory that `next` gave: `name` with its `/`. One that is gone, or that may not be read,
    /// has no keys.
    fn enter(&mut self, name: &str, names: Names) -> Result<(), Error> {
        let (outer_prefix, outer_names) = (self.prefix.len(), self.names.len());
        if outer_prefix + name.len() > MAX_KEY_BYTES {
            return Ok(());
        }
        if let Some(level) = self.levels.last_mut() {
            level.dir = None;
        }
        self.prefix.push_str(name);
        self.names.extend(names);
        let opened = dir::resolve_dir(self.bucket_dir.as_fd(), self.names.iter().map(|n| &**n));
        let (entries, dir) = match opened {
            Ok(dir) => (
                self.moves
                    .undisturbed(|| sorted_entries(&dir))
                    .map_err(Error::io("could not read a directory"))?,
                Some(dir),
            ),
            Err(error) if dir::is_no_object(error) => (Vec::new(), None),
            Err(error) => return Err(Error::io("could not open a directory")(error)),
        };
        self.levels.push(Level {
            outer_prefix,
            outer_names,
            entries,
            next: 0,
            dir,
        });
        Ok(())
    }

    /// The innermost directory.
    fn dir(&mut self) -> Result<Option<&OwnedFd>, Error> {
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
}

impl Store {
    pub(super) fn list_objects(&self, bucket: &Bucket, request: &ListObjects) -> Result<ObjectPage, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let prefix = &*request.prefix;
        let delimiter = request.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let mut page = ObjectPage::default();
        if request.max_keys == 0 || prefix.contains('\0') {
            return Ok(page);
        }
        let rolled_up = |name: &str| -> Option<Box<str>> {
            let delimiter = delimiter?;
            let at = name.strip_prefix(prefix)?.find(delimiter)?;
            Some(name[..prefix.len() + at + delimiter.len()].into())
        };
        let bound = match request.start_after.as_deref() {
            Some(after) if after >= prefix => match rolled_up(after) {
                Some(common) if *common == *after => Bound::PastPrefix(common),
                _ => Bound::After(after.into()),
            },
            _ => Bound::AtLeast(prefix.into()),
        };
        let directory = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        let mut walk = Walk::begin(&self.moves, &bucket_dir, directory, bound)?;
        while let Some(entry) = walk.next() {
            let name = [walk.prefix.as_str(), &entry.name].concat();
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
                    walk.enter(&entry.name, entry.names())?;
                    continue;
                };
                // One key is enough, whichever.
                let path: Names = walk.names.iter().cloned().chain(entry.names()).collect();
                if !has_objects_in(&bucket_dir, path, name.len())? {
                    continue;
                }
                ListEntry::CommonPrefix(common)
            } else {
                let Some(info) = self.entry_info(bucket, &bucket_dir, &mut walk, &entry, name)? else {
                    continue;
                };
                common.map_or_else(|| ListEntry::Object(info), ListEntry::CommonPrefix)
            };
            if page.entries.len() == request.max_keys {
                page.is_truncated = true;
                break;
            }
            walk.bound = match &listed {
                ListEntry::CommonPrefix(common) => Bound::PastPrefix(common.clone()),
                ListEntry::Object(info) => Bound::After(info.key.as_str().into()),
            };
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
        entry: &Entry,
        key: String,
    ) -> Result<Option<ObjectInfo>, Error> {
        let Ok(key) = Key::parse(key) else {
            return Ok(None);
        };
        let found = match walk.dir()? {
            Some(dir) => dir::look_up(dir.as_fd(), entry.names().iter().map(|n| &**n))
                .map_err(Error::io("could not open an object"))?
                .into_file(),
            None => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => self.find(bucket, bucket_dir.as_fd(), &key)?,
        };
        let Some((file, meta)) = found else {
            return Ok(None);
        };
        let record = Record::load(&file, &meta)?;
        Ok(Some(attributes::describe(key, &meta, record.as_ref(), None)))
    }

    /// Whether there is any object in a bucket's directory.
    pub(super) fn has_objects(&self, bucket_dir: &OwnedFd) -> Result<bool, Error> {
        has_objects_in(bucket_dir, Names::new(), 0)
    }
}

/// Whether there is any object below the directory at `path`; the keys there begin with `prefix_len` bytes.
fn has_objects_in(bucket_dir: &OwnedFd, path: Names, prefix_len: usize) -> Result<bool, Error> {
    struct Level {
        path: Names,
        prefix_len: usize,
        left: Vec<Box<str>>,
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some((path, prefix_len));
    loop {
        if let Some((path, prefix_len)) = next.take()
            && prefix_len <= MAX_KEY_BYTES
        {
            let mut left = Vec::new();
            match find_file(bucket_dir, &path, prefix_len, &mut left) {
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
            Some(segment) => {
                let path = level.path.iter().cloned().chain(key_codec::segment(&segment)).collect();
                next = Some((path, level.prefix_len + segment.len() + 1));
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
    path: &[Box<str>],
    prefix_len: usize,
    dirs: &mut Vec<Box<str>>,
) -> Result<bool, Error> {
    let dir = dir::resolve_dir(bucket_dir.as_fd(), path.iter().map(|n| &**n))
        .map_err(Error::io("could not open a directory"))?;
    let mut failed = None;
    let broke = scan_entries(&dir, &mut |entry| {
        if let Some(segment) = entry.name.strip_suffix('/') {
            dirs.push(segment.into());
            return ControlFlow::Continue(());
        }
        let in_reach = (1..=MAX_KEY_BYTES).contains(&(prefix_len + entry.name.len()));
        match dir::look_up(dir.as_fd(), entry.names().iter().map(|n| &**n)) {
            Ok(dir::Entry::File(..)) if in_reach => ControlFlow::Break(()),
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
