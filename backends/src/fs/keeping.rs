//! Where the attributes of objects lie. Chosen when a root is first opened, and kept in `.t2/format`.
//!
//! - **Extended attributes**, wherever the file system has them and room enough: they go with the file.
//! - **Side files**, one for each object that the gateway wrote, in `.t2/attributes`, under a name made of bucket, key,
//!   size and modification time. It is by these four that a reader finds it, so that the commit is still one step: as the
//!   file takes its place, it has its attributes. No two versions of an object have one name at the same time: a time
//!   is set for which there is no side file yet, and read back, as file systems round. A side file stays as long as its
//!   file has any name, that of a kept version too. A file that something else changes has no attributes any more, and
//!   its side file is for `doctor` to find. What something else puts there may have the size and time of a version that
//!   is kept: the attributes are that version's then ([`Store::is_own`](super::Store::is_own)). No other process shares
//!   the root.

use std::sync::Arc;

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs,
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{
    attributes::{self, ATTRIBUTE, NewObject, Record},
    crash::{self, Call},
    dir::{self, Meta},
    error::Error,
    intent::Intent,
    multipart::PartRecord,
    side::{self, Found, Named, Side, SideFile},
    staging, sys, xattr,
};
use crate::{BucketName, Key, ObjectInfo, Version};

/// Bytes of a file. Where these fit, attributes do not lack room on the disk: XFS wants some dozens of blocks for one.
const ENOUGH: usize = 1024 * 1024;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    Extended,
    SideFiles,
}

impl Keeping {
    /// What a file system has room for: for the largest attributes that cannot lie in a side file. Tried on a file in
    /// staging. Fails with NOSPC where the disk is full, which is not for ever.
    pub(super) fn probe(staging: &OwnedFd) -> Result<Self, Errno> {
        let largest = Record::largest().encode();
        let fits = on_a_file(staging, |file| {
            xattr::set(file, ATTRIBUTE, &largest)?;
            xattr::set(file, PartRecord::ATTRIBUTE, &PartRecord::largest())
        })?;
        match fits {
            Ok(()) => Ok(Self::Extended),
            Err(Errno::NOTSUP | Errno::PERM | Errno::TOOBIG | Errno::RANGE) => Ok(Self::SideFiles),
            // So are refused both what never fits and what does not fit any more.
            Err(Errno::NOSPC) => {
                on_a_file(staging, |file| dir::write_at(file, &vec![0; ENOUGH], 0))??;
                Ok(Self::SideFiles)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether there are extended attributes at all, however small.
    pub(super) fn has_extended(staging: &OwnedFd) -> Result<bool, Errno> {
        match on_a_file(staging, |file| xattr::set(file, "user.t2gate.probe", b"1"))? {
            Ok(()) => Ok(true),
            Err(Errno::NOTSUP | Errno::PERM) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// `attempt` on a new file, which goes again.
fn on_a_file(
    staging: &OwnedFd,
    attempt: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<Result<(), Errno>, Errno> {
    let name = staging::random_name().map_err(|_| Errno::IO)?;
    let file = dir::create_file(staging, &name)?;
    let outcome = attempt(&file);
    dir::unlink(staging, &name)?;
    Ok(outcome)
}

/// The attributes of all objects of a root.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) keeping: Keeping,
    /// `.t2/attributes`.
    pub(super) dir: Arc<OwnedFd>,
}

/// What a new file is with its attributes.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) meta: Meta,
    pub(super) record: Record,
    pub(super) side: Option<SideFile>,
}

/// What is recorded of an object.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// `None` where nothing holds for the file as it is.
    pub(super) record: Option<Record>,
    /// The side file that has to go when the object goes.
    pub(super) side_id: Option<Box<str>>,
    /// The side file that is looked for, also if it is that of another file of which this is a copy.
    pub(super) named_side: Option<Box<str>>,
}

impl Attributes {
    /// In a directory that is there. Makes those that side files lie in.
    pub(super) fn new(keeping: Keeping, dir: OwnedFd) -> Result<Self, Errno> {
        if keeping == Keeping::SideFiles {
            for shelf in 0..=u8::MAX {
                match sys::mkdirat(&dir, &format!("{shelf:02x}"), 0o700) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            fs::fsync(&dir)?;
        }
        Ok(Self {
            keeping,
            dir: Arc::new(dir),
        })
    }

    /// Gives `file`, which is complete, its attributes, and returns what it is then. Nothing of that is synced yet.
    /// `there`: the object that the key has now. With side files the new one is told from that by its time.
    pub(super) fn store(
        &self,
        file: &OwnedFd,
        (bucket, key): (&BucketName, &Key),
        new: &NewObject,
        there: Option<&Meta>,
        intent: impl Fn(&str) -> Option<Intent>,
    ) -> Result<Stored, Error> {
        match self.keeping {
            Keeping::Extended => {
                let meta = Meta::of(file).map_err(Error::io("could not look at a new file"))?;
                let (record, side) = Record::store(file, &meta, (bucket, key), new, &self.dir, intent)?;
                Ok(Stored { meta, record, side })
            }
            Keeping::SideFiles => {
                let (meta, (record, side)) = at_a_time_of_its_own(file, |meta| match there {
                    // Somebody else put it there: it has no side file, and must not get this one.
                    Some(there) if (there.size, there.mtime) == (meta.size, meta.mtime) => Ok(None),
                    _ => self.create_side(bucket, key, meta, new, &intent),
                })?;
                Ok(Stored {
                    meta,
                    record,
                    side: Some(side),
                })
            }
        }
    }

    /// `None` where there is one of that name.
    fn create_side(
        &self,
        bucket: &BucketName,
        key: &Key,
        meta: &Meta,
        new: &NewObject,
        intent: impl Fn(&str) -> Option<Intent>,
    ) -> Result<Option<(Record, SideFile)>, Error> {
        let id = side_id(bucket, key.as_str(), meta);
        let (shelf, name) = self
            .locate(&id)
            .map_err(Error::io("could not open a directory in .t2"))?;
        // Before the note: that of another one is not ours to remove.
        match Meta::in_dir(&shelf, name) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Ok(None),
            Err(error) => return Err(Error::io("could not look for a file of attributes")(error)),
        }
        let record = Record::new(meta, key, new);
        let head = attributes::minicbor_bytes(&record);
        match SideFile::create(shelf, name, intent(&id), &head, &new.parts) {
            Err(Error::Io {
                source: Errno::EXIST, ..
            }) => Ok(None),
            outcome => outcome.map(|side| Some((record, side))),
        }
    }

    /// Writes the record of a new file again, with another version. What has to be synced before the file is an object's.
    pub(super) fn set_version<'s>(
        &self,
        file: &OwnedFd,
        record: &mut Record,
        side: Option<&'s SideFile>,
        version: Option<Version>,
    ) -> Result<Option<BorrowedFd<'s>>, Error> {
        match (self.keeping, side) {
            (Keeping::SideFiles, Some(side)) => {
                record.note_version(version);
                side.set_head(&attributes::minicbor_bytes(record)).map(Some)
            }
            _ => record.set_version(file, version).map(|()| None),
        }
    }

    /// Writes the record of an object that names another's version again, in one step: without one, or in a side file, where
    /// that tells whose it is, with its `own`. `sync` makes a file durable.
    pub(super) fn forget_version(
        &self,
        staging: &OwnedFd,
        file: &OwnedFd,
        (record, side_id): (&mut Record, Option<&str>),
        own: Option<Version>,
        sync: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let id = match (self.keeping, side_id) {
            (Keeping::SideFiles, Some(id)) => id,
            _ => return record.set_version(file, None),
        };
        record.note_version(own);
        self.write_again(staging, id, record, sync).map(drop)
    }

    /// Writes the record of a version that is kept again, in one step: with the file that it is of, so that it is of no other
    /// one that has the same size and time; or, of `None`, without. Nothing where the attributes are part of the file. `sync`
    /// makes files and directories durable.
    pub(super) fn name_file(
        &self,
        staging: &OwnedFd,
        (record, side_id): (&mut Record, &str),
        file: Option<(&BucketName, &Meta)>,
        sync: impl Fn(&[BorrowedFd<'_>]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.keeping == Keeping::Extended {
            return Ok(());
        }
        record.name_file(file);
        // With the entry of the new file the note about it.
        let shelf = self.write_again(staging, side_id, record, |file| sync(&[file, staging.as_fd()]))?;
        sync(&[shelf.as_fd()])
    }

    /// The directory that has changed.
    fn write_again(
        &self,
        staging: &OwnedFd,
        id: &str,
        record: &Record,
        sync: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<Arc<OwnedFd>, Error> {
        let (shelf, name) = self
            .locate(id)
            .map_err(Error::io("could not open a directory in .t2"))?;
        side::replace_head(&shelf, name, staging, &attributes::minicbor_bytes(record), sync)?;
        Ok(shelf)
    }

    /// What is recorded of a file of `key`, found by size and time with side files: it may be of another file, see
    /// [`Store::recorded`](super::Store::recorded).
    pub(super) fn recorded(
        &self,
        bucket: &BucketName,
        key: &Key,
        file: &OwnedFd,
        meta: &Meta,
    ) -> Result<Recorded, Error> {
        match self.keeping {
            Keeping::Extended => {
                let record = Record::load_any(file)?;
                let own = record.as_ref().and_then(|record| record.own_side(bucket, key, meta));
                Ok(Recorded {
                    side_id: own.map(Into::into),
                    named_side: record.as_ref().and_then(|record| record.side.clone()),
                    record: record.filter(|record| record.holds_for(meta)),
                })
            }
            Keeping::SideFiles => {
                let id = side_id(bucket, key.as_str(), meta);
                let record = match self.open_side(&id)? {
                    Found::Whole(_, head) => decode_head(&head, key, meta),
                    Found::Damaged => None,
                    Found::Absent => return Ok(Recorded::default()),
                };
                Ok(Recorded {
                    record,
                    side_id: Some(id.as_str().into()),
                    named_side: Some(id.into()),
                })
            }
        }
    }

    /// The record that holds for the file, and its side file. With side files alone the two are of this version only if
    /// the file still has its name afterwards, and if [no other](super::Store::is_own) has them.
    pub(super) fn load(
        &self,
        bucket: &BucketName,
        key: &Key,
        file: &OwnedFd,
        meta: &Meta,
    ) -> Result<(Option<Record>, Option<Side>), Error> {
        match self.keeping {
            Keeping::Extended => {
                let record = Record::load(file, meta)?;
                let side = match record.as_ref().and_then(|record| record.side.as_deref()) {
                    Some(name) => match Side::open(&self.dir, name)? {
                        Named::Whole(side) => Some(side),
                        // The bytes are whole, and are served as if it were gone.
                        Named::Damaged => {
                            tracing::warn!(
                                name,
                                "a file of attributes is damaged; `t2gate doctor` tells whose it is"
                            );
                            None
                        }
                        Named::Absent => None,
                    },
                    None => None,
                };
                Ok((record, side))
            }
            Keeping::SideFiles => {
                let Found::Whole(side, head) = self.open_side(&side_id(bucket, key.as_str(), meta))? else {
                    return Ok((None, None));
                };
                let record = decode_head(&head, key, meta);
                let side = record.is_some().then_some(side);
                Ok((record, side))
            }
        }
    }

    /// Whether they are part of the file.
    pub(super) fn go_with_files(&self) -> bool {
        self.keeping == Keeping::Extended
    }

    /// What a listing says of a file of `key`. `buffer` is for what is read, from one to the next. The key again
    /// where there is no side file, or half of one, which may also mean that the object was replaced just now; or where
    /// the record, which names this, is not the file's own.
    pub(super) fn describe_listed(
        &self,
        bucket: &BucketName,
        key: Key,
        file: impl AsFd,
        meta: &Meta,
        buffer: &mut Vec<u8>,
        is_own: impl FnOnce(&Key, attributes::Named) -> Result<bool, Error>,
    ) -> Result<Result<ObjectInfo, Key>, Error> {
        match self.keeping {
            Keeping::Extended => attributes::describe_listed(key, file, meta, buffer).map(Ok),
            Keeping::SideFiles => {
                // Of a later version it can only be if that has the same size and time: then it is that one's line.
                match self.open_side(&side_id(bucket, key.as_str(), meta))? {
                    Found::Whole(_, head) => attributes::describe_head(key, meta, &head, is_own),
                    Found::Damaged | Found::Absent => Ok(Err(key)),
                }
            }
        }
    }

    /// Removes the side file of what is no object any more. A failure leaves litter, nothing worse.
    pub(super) fn remove_side(&self, id: &str) {
        if let Err(error) = self.try_remove_side(id) {
            tracing::warn!(%error, id, "could not remove a file of attributes");
        }
    }

    /// As [`remove_side`](Self::remove_side). That it is not there is no error.
    pub(super) fn try_remove_side(&self, id: &str) -> Result<(), Error> {
        match self.locate(id).and_then(|(dir, name)| dir::unlink(&dir, name)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("could not remove a file of attributes")(error)),
        }
    }

    /// The side file of a new object, if there is one that has its name of the object.
    pub(super) fn side_of_new(&self, bucket: &BucketName, record: &Record) -> Option<String> {
        (self.keeping == Keeping::SideFiles).then(|| named_by(bucket, &record.key, record.size, record.mtime))
    }

    fn open_side(&self, id: &str) -> Result<Found, Error> {
        let (shelf, name) = split_id(id);
        Side::open_whole(&self.dir, [shelf, name])
    }

    /// The directory and the name of a side file.
    fn locate<'a>(&self, id: &'a str) -> Result<(Arc<OwnedFd>, &'a str), Errno> {
        match self.keeping {
            Keeping::Extended => Ok((Arc::clone(&self.dir), id)),
            Keeping::SideFiles => {
                let (shelf, name) = split_id(id);
                let dir = dir::resolve_dir(self.dir.as_fd(), [shelf])?;
                Ok((Arc::new(dir), name))
            }
        }
    }
}

/// Side files lie in 256 directories: some file systems hold only so many names in one.
fn split_id(id: &str) -> (&str, &str) {
    id.split_at_checked(2).unwrap_or((id, ""))
}

/// The name of the side file of an object with this size and time.
pub(super) fn side_id(bucket: &BucketName, key: &str, meta: &Meta) -> String {
    named_by(bucket, key, meta.size, meta.mtime)
}

fn named_by(bucket: &BucketName, key: &str, size: u64, mtime: (i64, u32)) -> String {
    let mut hasher = Sha256::new();
    for text in [bucket.as_str(), key] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.update(size.to_be_bytes());
    hasher.update(mtime.0.to_be_bytes());
    hasher.update(mtime.1.to_be_bytes());
    hex::encode(&hasher.finalize()[..16])
}

fn decode_head(head: &[u8], key: &Key, meta: &Meta) -> Option<Record> {
    let record: Record = minicbor::decode(head).ok()?;
    (record.holds_for(meta) && *record.key == *key.as_str()).then_some(record)
}

/// Gives `file` a modification time for which `take` gives something: its own, or the next ones that the file system
/// can tell from it.
fn at_a_time_of_its_own<T>(
    file: &OwnedFd,
    mut take: impl FnMut(&Meta) -> Result<Option<T>, Error>,
) -> Result<(Meta, T), Error> {
    /// So many versions of an object with one size and almost one time are being written at most.
    const MAX_ATTEMPTS: usize = 1000;
    /// Nanoseconds. FAT has two seconds.
    const MAX_TICK: i64 = 8_000_000_000;
    const FAILED: &str = "could not set the time of a new file";
    let mut meta = Meta::of(file).map_err(Error::io(FAILED))?;
    // Also the one that it has: some file systems say another one until it is set.
    meta = set_time(file, meta.mtime, 0).map_err(Error::io(FAILED))?;
    let mut tick = 1;
    for _ in 0..MAX_ATTEMPTS {
        if let Some(taken) = take(&meta)? {
            return Ok((meta, taken));
        }
        let before = meta.mtime;
        loop {
            meta = set_time(file, before, tick).map_err(Error::io(FAILED))?;
            if meta.mtime > before {
                break;
            }
            if tick > MAX_TICK {
                return Err(Error::io(FAILED)(Errno::OVERFLOW));
            }
            tick *= 2;
        }
    }
    Err(Error::io(FAILED)(Errno::EXIST))
}

/// Sets the modification time to so many nanoseconds after `from`, and reads it back.
fn set_time(file: &OwnedFd, from: (i64, u32), later: i64) -> Result<Meta, Errno> {
    const SECOND: i64 = 1_000_000_000;
    let nanos = crash::rounded(i64::from(from.1) + later);
    let times = fs::Timestamps {
        last_access: fs::Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT,
        },
        last_modification: fs::Timespec {
            tv_sec: from.0.saturating_add(nanos / SECOND),
            tv_nsec: nanos % SECOND,
        },
    };
    crash::fault(Call::Add)?;
    fs::futimens(file, &times)?;
    crash::point();
    Meta::of(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_tried_until_one_is_free_and_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let file: OwnedFd = std::fs::File::create(temp.path().join("file")).unwrap().into();
        let mut tried = Vec::new();
        let (meta, ()) = at_a_time_of_its_own(&file, |meta| {
            assert_eq!(Meta::of(&file), Ok(*meta));
            tried.push(meta.mtime);
            Ok((tried.len() == 20).then_some(()))
        })
        .unwrap();
        assert_eq!(meta, Meta::of(&file).unwrap());
        assert!(tried.is_sorted_by(|a, b| a < b), "{tried:?}");
        let never = at_a_time_of_its_own(&file, |_| Ok(None::<()>));
        assert!(matches!(
            never,
            Err(Error::Io {
                source: Errno::EXIST,
                ..
            })
        ));
    }

    #[test]
    fn side_files_are_named_by_all_that_tells_versions_apart() {
        let temp = tempfile::tempdir().unwrap();
        let meta = Meta::of(std::fs::File::create(temp.path().join("file")).unwrap()).unwrap();
        let bucket = |name| BucketName::parse(name).unwrap();
        let (a, b) = (bucket("aaa"), bucket("bbb"));
        let mut ids = vec![
            side_id(&a, "k", &meta),
            side_id(&b, "k", &meta),
            side_id(&a, "l", &meta),
            side_id(&a, "k", &Meta { size: 1, ..meta }),
            side_id(
                &a,
                "k",
                &Meta {
                    mtime: (meta.mtime.0, meta.mtime.1 ^ 1),
                    ..meta
                },
            ),
            side_id(
                &a,
                "k",
                &Meta {
                    mtime: (meta.mtime.0 + 1, meta.mtime.1),
                    ..meta
                },
            ),
        ];
        assert!(ids.iter().all(|id| id.len() == 32));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6);
        // Nothing else tells: a copy of the tree keeps its attributes.
        let copied = Meta {
            ino: meta.ino + 1,
            dev: (9, 9),
            ctime: (0, 0),
            btime: (0, 0),
            ..meta
        };
        assert!(ids.contains(&side_id(&a, "k", &copied)));
    }
}
