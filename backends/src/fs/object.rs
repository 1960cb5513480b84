//! Objects: finding them, and the step in which a write takes effect.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs,
    io::Errno,
};

use super::{
    Store,
    attributes::{self, NewObject, Record},
    bucket::Bucket,
    crash::{self, Call},
    dir::{self, Entry, Meta},
    error::Error,
    intent::Intent,
    read::{FsReader, Opened},
    side::{Side, SideFile, remove_side_file},
    staging::{Staged, close_later},
};
use crate::{
    BackendError, CopyObject, ETag, Key, ObjectInfo, OpenObject, WriteCondition,
    key_codec::{self, Names, StorageName},
};

/// How often a commit starts again because a directory went away, or came, under it.
const MAX_ATTEMPTS: usize = 64;

/// A file of more bytes than this is written to the disk before its writer joins others who sync.
const LARGE: u64 = 4 * 1024 * 1024;

/// What a commit is to do.
struct Write<'a> {
    key: &'a Key,
    name: StorageName,
    condition: &'a WriteCondition,
    staged: Staged,
}

/// What a commit did.
struct Committed {
    /// The directories on the way to the one that holds the object now.
    dirs: Vec<Box<str>>,
    dir: OwnedFd,
    /// The side file of what was there before.
    displaced_side: Option<DisplacedSide>,
    /// What was there before, if it was large: closing it is for later.
    replaced: Option<OwnedFd>,
}

/// A side file that has to go, and the note of that.
struct DisplacedSide {
    name: Box<str>,
    intent: Option<Intent>,
}

impl DisplacedSide {
    /// Removes it if the displacement is durable. If that is not known, the next start judges.
    fn settle(self, sides: &OwnedFd, durable: Result<(), Error>) -> Result<(), Error> {
        match durable {
            Ok(()) => remove_side_file(sides, &self.name),
            Err(_) => self.intent.into_iter().for_each(Intent::leave),
        }
        durable
    }
}

impl Store {
    /// The file that is the object of `key`: the plain name goes before the escape.
    pub(super) fn find(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        key: &Key,
    ) -> Result<Option<(OwnedFd, Meta)>, Error> {
        let name = StorageName::of(key.as_str());
        if let Some(found) = find_once(bucket_dir, &name)? {
            return Ok(Some(found));
        }
        // It may just be moving from one of its names to the other.
        let _guard = self.keys.lock(&bucket.name, key.as_str());
        find_once(bucket_dir, &name)
    }

    pub(super) fn open_object(&self, bucket: &Bucket, key: Key) -> Result<OpenObject, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let opened = self.open_with_attributes(bucket, &bucket_dir, &key)?;
        let (info, file, side) = opened.into_parts(key);
        Ok(OpenObject {
            info,
            reader: Box::new(FsReader::new(file, side)),
        })
    }

    /// The object with all its attributes, of one version.
    fn open_with_attributes(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key) -> Result<Opened, Error> {
        let mut before = None;
        loop {
            let Some((file, meta)) = self.find(bucket, bucket_dir.as_fd(), key)? else {
                return Err(BackendError::NoSuchKey.into());
            };
            let record = Record::load(&file, &meta)?;
            let side = match record.as_ref().and_then(|record| record.side.as_deref()) {
                Some(name) => Side::open(&self.attributes, name)?,
                None => None,
            };
            let lost_side = side.is_none() && record.as_ref().is_some_and(|record| record.side.is_some());
            // Either the object was replaced since we found it, or the side file is lost for good.
            if lost_side && before != Some((meta.dev, meta.ino)) {
                before = Some((meta.dev, meta.ino));
                continue;
            }
            return Ok(Opened {
                file,
                meta,
                record,
                side,
            });
        }
    }

    /// Makes a complete staging file the object of `key`.
    pub(super) fn publish(
        &self,
        bucket: &Bucket,
        key: Key,
        condition: &WriteCondition,
        staged: Staged,
        new: NewObject,
    ) -> Result<ObjectInfo, Error> {
        let meta = Meta::of(staged.file()).map_err(Error::io("could not look at a new file"))?;
        let side = Record::store(staged.file(), &meta, &key, &new, &self.attributes, |id| {
            Intent::side(&self.staging, id, &bucket.name, key.as_str())
        })?;
        if meta.size > LARGE {
            self.durable.flush_data(staged.file())?;
        }
        let mut new_files = vec![staged.file().as_fd()];
        new_files.extend(side.iter().flat_map(SideFile::to_sync));
        self.durable.before_all(&new_files)?;
        self.commit(bucket, &key, condition, staged, side)?;
        Ok(ObjectInfo {
            key,
            version_id: None,
            size: meta.size,
            etag: new.etag,
            last_modified: meta.last_modified(),
            attributes: new.attributes,
            parts_count: (!new.parts.is_empty()).then(|| u16::try_from(new.parts.len()).unwrap_or(u16::MAX)),
        })
    }

    fn commit(
        &self,
        bucket: &Bucket,
        key: &Key,
        condition: &WriteCondition,
        staged: Staged,
        side: Option<SideFile>,
    ) -> Result<(), Error> {
        self.durable.check_writable()?;
        let write = Write {
            key,
            name: StorageName::of(key.as_str()),
            condition,
            staged,
        };
        let (bucket_dir, committed) = {
            let _alive = bucket.enter()?;
            let bucket_dir = self.bucket_dir(bucket)?;
            let mut attempt = 1;
            let mut intent = None;
            loop {
                let error = match self.try_commit(bucket, &bucket_dir, &write, &mut intent) {
                    Ok(Some(committed)) => break (bucket_dir, committed),
                    Ok(None) if attempt < MAX_ATTEMPTS => {
                        attempt += 1;
                        continue;
                    }
                    Ok(None) => BackendError::Conflict.into(),
                    Err(error) => error,
                };
                // Directories that were made for it are not left behind.
                let name = &write.name;
                for last in [&name.forced, &name.plain] {
                    prune(&bucket_dir, &split(&name.parents, last).1);
                }
                return Err(error);
            }
        };
        write.staged.moved();
        if let Some(side) = side {
            side.keep();
        }
        let dirs = committed.dirs.iter().map(|name| &**name);
        let durable = self.durable.after_in(bucket_dir.as_fd(), dirs, &committed.dir);
        if let Some(replaced) = committed.replaced {
            close_later(replaced);
        }
        match committed.displaced_side {
            Some(side) => side.settle(&self.attributes, durable),
            None => durable,
        }
    }

    /// `None` where a directory went away or came meanwhile.
    fn try_commit(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        write: &Write<'_>,
        intent: &mut Option<Intent>,
    ) -> Result<Option<Committed>, Error> {
        const FAILED: &str = "could not put the object in its place";
        let Write {
            key,
            name,
            condition,
            staged,
        } = write;
        let note = || Intent::tidy(&self.staging, &bucket.name, key.as_str());
        let (leaf, plain_dirs) = split(&name.parents, &name.plain);
        let parent = match dir::resolve_dir(bucket_dir.as_fd(), strs(&plain_dirs)) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                // Without its directory there is no object. What would be refused need not move anything.
                condition.judge(None)?;
                *intent = intent.take().or_else(note);
                match self.make_directories(bucket, bucket_dir, key, &name.plain)? {
                    Some(parent) => parent,
                    None => return Ok(None),
                }
            }
            Err(error) => return Err(Error::io("could not open a directory")(error)),
        };

        let _guard = self.keys.lock(&bucket.name, key.as_str());
        let looking = Error::io("could not look for the current object");
        let plain = dir::look_up(parent.as_fd(), [leaf]).map_err(looking)?;
        let forced_path = name.parents.iter().chain(&name.forced).map(|n| &**n);
        let forced = dir::look_up(bucket_dir.as_fd(), forced_path)
            .map_err(Error::io("could not look for the current object"))?;
        let taken = matches!(plain, Entry::Other);
        let has_forced = matches!(forced, Entry::File(..));
        let current = plain.into_file().or(forced.into_file());
        let displaced = judge(condition, current.as_ref())?;
        let displaced_side = displaced.and_then(|record| self.displaced_side(bucket, key, &record));
        let replaced = current.and_then(|(file, meta)| (meta.size > LARGE).then_some(file));
        if taken || has_forced {
            *intent = intent.take().or_else(note);
        }

        if !taken {
            let _moving = has_forced.then(|| self.moves.begin());
            match staged.rename(&parent, leaf) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => return Ok(None),
                Err(error) => return Err(Error::io(FAILED)(error)),
            }
            if has_forced {
                // What it held is replaced, and no longer seen: the plain name goes before it.
                let (leaf, dirs) = split(&name.parents, &name.forced);
                let removed = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).and_then(|dir| dir::unlink(dir, leaf));
                if let Err(error) = removed {
                    tracing::warn!(%error, "could not remove an object's other name");
                }
            }
            return Ok(Some(Committed {
                dirs: plain_dirs,
                dir: parent,
                displaced_side,
                replaced,
            }));
        }
        let (leaf, dirs) = split(&name.parents, &name.forced);
        let dir = match make_path(bucket_dir, &name.parents, &name.forced) {
            Err(Errno::NOENT) => return Ok(None),
            outcome => outcome.map_err(Error::io("could not create a directory"))?,
        };
        match staged.rename(&dir, leaf) {
            Ok(()) => Ok(Some(Committed {
                dirs,
                dir,
                displaced_side,
                replaced,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => Err(unsupported()),
            Err(error) => Err(Error::io(FAILED)(error)),
        }
    }

    /// Makes the directories on the way to `key` and those that the name of its last segment begins with. Files that
    /// are in the way, objects all, step aside. `None` where something of it went away meanwhile.
    fn make_directories(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
        last: &Names,
    ) -> Result<Option<OwnedFd>, Error> {
        let key = key.as_str();
        let mut steps: Vec<(Box<str>, Option<&str>)> = Vec::new();
        for (end, _) in key.match_indices('/') {
            let ancestor = &key[..end];
            let mut names = key_codec::segment(last_segment(ancestor)).into_iter().peekable();
            while let Some(name) = names.next() {
                let object = (names.peek().is_none() && !ancestor.is_empty()).then_some(ancestor);
                steps.push((name, object));
            }
        }
        steps.extend(last[..last.len() - 1].iter().map(|name| (name.clone(), None)));

        let mut reached: Option<OwnedFd> = None;
        for (name, object) in steps {
            let from = reached.as_ref().unwrap_or(bucket_dir);
            reached = match self.step_into(bucket, from, &name, object)? {
                Some(dir) => Some(dir),
                None => return Ok(None),
            };
        }
        match reached {
            Some(dir) => Ok(Some(dir)),
            None => self.bucket_dir(bucket).map(Some),
        }
    }

    /// Opens or makes the directory `name`. A file that has this name, the one of `object`, steps aside.
    fn step_into(
        &self,
        bucket: &Bucket,
        from: &OwnedFd,
        name: &str,
        object: Option<&str>,
    ) -> Result<Option<OwnedFd>, Error> {
        for _ in 0..MAX_ATTEMPTS {
            match dir::make_dir(from.as_fd(), name) {
                Ok(dir) => return Ok(Some(dir)),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let object = object.ok_or_else(unsupported)?;
                    self.move_aside(bucket, from, name, object)?;
                }
                Err(error) => return Err(Error::io("could not create a directory")(error)),
            }
        }
        Ok(None)
    }

    /// Gives the object `key`, which has the name `name` in `dir`, its other name. Readers who miss the first find the
    /// second.
    fn move_aside(&self, bucket: &Bucket, dir: &OwnedFd, name: &str, key: &str) -> Result<(), Error> {
        let target = {
            let _guard = self.keys.lock(&bucket.name, key);
            match Meta::in_dir(dir, name) {
                Ok(meta) if meta.is_file() => {}
                Ok(meta) if meta.is_dir() => return Ok(()),
                Err(Errno::NOENT) => return Ok(()),
                Ok(_) => return Err(unsupported()),
                Err(error) => return Err(Error::io("could not look at a file")(error)),
            }
            let segment = last_segment(key);
            // `dir` is where the last of the plain names lies: of a long one the names before are on the way there, and
            // those of its other spelling are the same.
            let forced = key_codec::forced(segment).split_off(key_codec::segment(segment).len() - 1);
            let (leaf, dirs) = split(&[], &forced);
            let target = match make_path(dir, &[], &forced) {
                Err(Errno::NOENT) => return Ok(()),
                outcome => outcome.map_err(Error::io("could not create a directory"))?,
            };
            let _moving = self.moves.begin();
            match crash::fault(Call::Add).and_then(|()| fs::renameat(dir, name, &target, leaf)) {
                Ok(()) => crash::point(),
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => return Err(unsupported()),
                Err(error) => return Err(Error::io("could not move an object aside")(error)),
            }
            (!dirs.is_empty()).then_some(target)
        };
        // Durable before the directory that takes its place.
        let mut dirs = vec![dir.as_fd()];
        dirs.extend(target.as_ref().map(AsFd::as_fd));
        self.durable.after_all(&dirs)
    }

    pub(super) fn copy_object(
        &self,
        source: &Bucket,
        target: &Bucket,
        request: CopyObject,
    ) -> Result<ObjectInfo, Error> {
        self.durable.check_writable()?;
        let source_dir = self.bucket_dir(source)?;
        let Some((file, meta)) = self.find(source, source_dir.as_fd(), &request.source.key)? else {
            return Err(match request.source.version_id {
                Some(_) => BackendError::NoSuchVersion.into(),
                None => BackendError::NoSuchKey.into(),
            });
        };
        let record = Record::load(&file, &meta)?;
        if attributes::etag(&meta, record.as_ref()) != request.source_etag {
            return Err(BackendError::Conflict.into());
        }
        let staged = Staged::create(self)?;
        let copied = dir::copy_range(&file, staged.file(), 0, meta.size).map_err(Error::io("could not copy data"))?;
        let after = Meta::of(&file).map_err(Error::io("could not look at the source"))?;
        // Somebody wrote to it.
        if copied != meta.size || (after.size, after.mtime) != (meta.size, meta.mtime) {
            return Err(BackendError::Conflict.into());
        }
        let new = NewObject {
            etag: request.source_etag,
            attributes: request.attributes,
            parts: Vec::new(),
            upload_id: None,
        };
        self.publish(target, request.key, &request.condition, staged, new)
    }

    fn displaced_side(&self, bucket: &Bucket, key: &Key, record: &Record) -> Option<DisplacedSide> {
        let name: Box<str> = record.own_side(key)?.into();
        Some(DisplacedSide {
            intent: Intent::side(&self.staging, &name, &bucket.name, key.as_str()),
            name,
        })
    }

    /// Whether there was an object.
    pub(super) fn delete_object(&self, bucket: &Bucket, key: &Key, condition: &WriteCondition) -> Result<bool, Error> {
        const FAILED: &str = "could not delete the object";
        self.durable.check_writable()?;
        let bucket_dir = self.bucket_dir(bucket)?;
        let name = StorageName::of(key.as_str());
        let mut changed = Vec::new();
        let (displaced, intent) = {
            let _alive = bucket.enter()?;
            let _guard = self.keys.lock(&bucket.name, key.as_str());
            let look = |last: &Names| {
                dir::look_up(bucket_dir.as_fd(), name.parents.iter().chain(last).map(|n| &**n))
                    .map_err(Error::io("could not look for the current object"))
            };
            let plain = look(&name.plain)?.into_file();
            let forced = look(&name.forced)?.into_file();
            let there = [(&name.forced, forced.is_some()), (&name.plain, plain.is_some())];
            let displaced = judge(condition, plain.or(forced).as_ref())?;
            let displaced = displaced.and_then(|record| self.displaced_side(bucket, key, &record));
            // A directory may become empty, and of two names one be left.
            let nested = !name.parents.is_empty() || name.plain.len() > 1 || there[0].1;
            let intent = (nested && there.iter().any(|(_, there)| *there))
                .then(|| Intent::tidy(&self.staging, &bucket.name, key.as_str()))
                .flatten();
            // The escape first: as long as the plain name is there it is not seen.
            for (last, _) in there.into_iter().filter(|(_, there)| *there) {
                let (leaf, dirs) = split(&name.parents, last);
                let dir = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).map_err(Error::io(FAILED))?;
                dir::unlink(&dir, leaf).map_err(Error::io(FAILED))?;
                changed.push((dirs, dir));
            }
            (displaced, intent)
        };
        let dirs: Vec<_> = changed.iter().map(|(_, dir)| dir.as_fd()).collect();
        let durable = self.durable.after_all(&dirs);
        let outcome = match displaced {
            Some(side) => side.settle(&self.attributes, durable),
            None => durable,
        };
        if let Err(error) = outcome {
            intent.into_iter().for_each(Intent::leave);
            return Err(error);
        }
        for (dirs, _) in &changed {
            prune(&bucket_dir, dirs);
        }
        Ok(!changed.is_empty())
    }
}

fn find_once(bucket_dir: BorrowedFd<'_>, name: &StorageName) -> Result<Option<(OwnedFd, Meta)>, Error> {
    for last in [&name.plain, &name.forced] {
        let path = name.parents.iter().chain(last).map(|n| &**n);
        let entry = dir::look_up(bucket_dir, path).map_err(Error::io("could not open the object"))?;
        if let Some(found) = entry.into_file() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Judges a write against the current object, and returns what is recorded of that.
fn judge(condition: &WriteCondition, current: Option<&(OwnedFd, Meta)>) -> Result<Option<Record>, Error> {
    let Some((file, meta)) = current else {
        condition.judge(None)?;
        return Ok(None);
    };
    let record = Record::load_any(file)?;
    let valid = record
        .as_ref()
        .filter(|record| record.size == meta.size && record.mtime == meta.mtime);
    let etag: ETag = attributes::etag(meta, valid);
    condition.judge(Some(&etag))?;
    Ok(record)
}

/// Removes directories of ours that have become empty, the innermost of those that are there first. A writer who has one
/// of them open finds it gone and makes it anew.
pub(super) fn prune(bucket_dir: &OwnedFd, dirs: &[Box<str>]) {
    for depth in (0..dirs.len()).rev() {
        let parent = match dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs[..depth])) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => continue,
            Err(_) => break,
        };
        let removed = dir::remove_if_ours(parent.as_fd(), &dirs[depth]);
        if !removed && !matches!(Meta::in_dir(&parent, &dirs[depth]), Err(Errno::NOENT)) {
            break;
        }
    }
}

/// Opens the directory of `last` in that of `parents`, which is there; what `last` begins with is made.
fn make_path(base: &OwnedFd, parents: &[Box<str>], last: &Names) -> Result<OwnedFd, Errno> {
    let mut dir = dir::resolve_dir(base.as_fd(), strs(parents))?;
    for name in &last[..last.len() - 1] {
        dir = dir::make_dir(dir.as_fd(), name)?;
    }
    Ok(dir)
}

/// The last name of a path, and the directories before it.
pub(super) fn split<'a>(parents: &[Box<str>], last: &'a Names) -> (&'a str, Vec<Box<str>>) {
    let (leaf, chunks) = last.split_last().expect("a segment has at least one name");
    (leaf, parents.iter().chain(chunks).cloned().collect())
}

pub(super) fn strs(names: &[Box<str>]) -> impl Iterator<Item = &str> {
    names.iter().map(|name| &**name)
}

fn last_segment(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, last)| last)
}

fn unsupported() -> Error {
    BackendError::UnsupportedKey("a name on its way is taken by what is neither a file nor a directory").into()
}
