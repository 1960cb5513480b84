//! What listings have said of files, kept from one page to the next.
//!
//! A line follows from the file's attributes, size and times. It holds as long as the file's change time is what it was:
//! every write sets that, every change of an attribute too, and nobody can set it back. It is no finer than the tick of
//! a clock: so the line is kept only where, before it was read, that time was further back than a tick. Where another
//! machine may write, its clock and its caches are not ours: there no line is kept.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use minicbor::{Decode, Encode};

use super::cache::is_settled;
use crate::{
    BucketName, ETag, Key, ObjectAttributes, ObjectInfo, VersionId,
    fs::dir::{self, Meta},
    stored::{StoredChecksum, minicbor_bytes},
};

/// What a line costs, in bytes.
const LINE_COST: usize = size_of::<Line>() + 144;
/// So many lines share a place.
const WAYS: usize = 16;

/// The lines of all buckets.
#[derive(Debug)]
pub(super) struct Lines {
    hasher: RandomState,
    places: Box<[Mutex<Vec<Line>>]>,
}

#[derive(Debug)]
struct Line {
    dev: (u32, u32),
    ino: u64,
    ctime: (i64, u32),
    /// The hash of the bucket and the key that the file has this line under: by another name it may have another.
    name: u64,
    /// [`Said`] in CBOR: less than half of its size.
    said: Box<[u8]>,
}

impl Line {
    fn is_of(&self, meta: &Meta) -> bool {
        (self.dev, self.ino) == (meta.dev, meta.ino)
    }
}

#[derive(Debug, Encode, Decode)]
struct Said<'a> {
    #[b(0)]
    etag: &'a str,
    #[n(1)]
    checksum: Option<StoredChecksum>,
    #[n(2)]
    parts_count: Option<u16>,
    #[b(3)]
    version_id: Option<&'a str>,
}

impl Lines {
    /// Keeps at most about `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            places: (0..limit / LINE_COST / WAYS).map(|_| Mutex::default()).collect(),
        }
    }

    /// `None` where there is no memory for any.
    fn place(&self, meta: &Meta) -> Option<MutexGuard<'_, Vec<Line>>> {
        let hash = self.hasher.hash_one((meta.dev, meta.ino));
        let place = hash.checked_rem(self.places.len() as u64)?;
        let place = self.places.get(usize::try_from(place).ok()?)?;
        Some(place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, bucket: &BucketName, key: Key, meta: &Meta) -> Result<ObjectInfo, Key> {
        let Some(place) = self.place(meta) else {
            return Err(key);
        };
        let name = self.hasher.hash_one((bucket, &key));
        let holds = |line: &Line| line.is_of(meta) && (line.ctime, line.name) == (meta.ctime, name);
        let Some(at) = place.iter().position(holds) else {
            return Err(key);
        };
        let Ok(said) = minicbor::decode::<Said<'_>>(&place[at].said) else {
            return Err(key);
        };
        let (Ok(etag), Ok(version_id)) = (
            ETag::parse(said.etag),
            said.version_id.map(VersionId::parse).transpose(),
        ) else {
            return Err(key);
        };
        let info = ObjectInfo {
            key,
            version_id,
            size: meta.size,
            etag,
            last_modified: meta.last_modified(),
            attributes: ObjectAttributes {
                checksum: said.checksum.as_ref().and_then(StoredChecksum::to_checksum),
                ..ObjectAttributes::default()
            },
            parts_count: said.parts_count,
        };
        Ok(info)
    }

    fn keep(&self, bucket: &BucketName, meta: &Meta, info: &ObjectInfo) {
        let said = Said {
            etag: info.etag.as_str(),
            checksum: info.attributes.checksum.as_ref().map(StoredChecksum::from),
            parts_count: info.parts_count,
            version_id: info.version_id.as_ref().map(VersionId::as_str),
        };
        let line = Line {
            dev: meta.dev,
            ino: meta.ino,
            ctime: meta.ctime,
            name: self.hasher.hash_one((bucket, &info.key)),
            said: minicbor_bytes(&said).into(),
        };
        let Some(mut place) = self.place(meta) else {
            return;
        };
        place.retain(|line| !line.is_of(meta));
        if place.len() >= WAYS {
            // Any of them: if the one used longest ago went, who pages through more than there is room for would find none.
            let any = line.name % WAYS as u64;
            place.swap_remove(usize::try_from(any).unwrap_or(0));
        }
        place.push(line);
    }
}

/// The lines that a page may take from those kept, and adds to them.
#[derive(Debug)]
pub(super) struct PageLines<'a> {
    lines: &'a Lines,
    /// Files elsewhere have no lines that are kept.
    device: Option<(u32, u32)>,
    /// The last line was known: then the next may be.
    warm: bool,
}

impl<'a> PageLines<'a> {
    /// `device`: of the file system that this kernel alone writes to, and where attributes go with the file.
    pub(super) fn new(lines: &'a Lines, device: Option<(u32, u32)>) -> Self {
        Self {
            lines,
            device: device.filter(|_| !lines.places.is_empty()),
            warm: true,
        }
    }

    /// The line of the file at `name`, by one look at it without opening it, and what it is. The key again where it is not
    /// known; then no other is looked for so before [`of_file`](Self::of_file) has found one.
    pub(super) fn of_name(
        &mut self,
        dir: Option<&OwnedFd>,
        name: Option<&str>,
        bucket: &BucketName,
        key: Key,
    ) -> Result<(ObjectInfo, Meta), Key> {
        let (Some(dir), Some(name), true) = (dir, name, self.warm && self.device.is_some()) else {
            return Err(key);
        };
        let line = match dir::look_at(dir, name) {
            Ok(meta) if meta.is_file() && Some(meta.dev) == self.device => {
                self.lines.get(bucket, key, &meta).map(|line| (line, meta))
            }
            _ => Err(key),
        };
        self.warm = line.is_ok();
        line
    }

    /// The line of an open file. The key again where it is not known.
    pub(super) fn of_file(&mut self, bucket: &BucketName, key: Key, meta: &Meta) -> Result<ObjectInfo, Key> {
        if Some(meta.dev) != self.device {
            return Err(key);
        }
        let line = self.lines.get(bucket, key, meta);
        self.warm = line.is_ok();
        line
    }

    /// Whether what is read from now on may be kept: to be asked before it is.
    pub(super) fn may_keep(&self, meta: &Meta) -> bool {
        Some(meta.dev) == self.device && is_settled(meta.ctime, true, &mut None)
    }

    pub(super) fn keep(&self, bucket: &BucketName, meta: &Meta, info: &ObjectInfo) {
        self.lines.keep(bucket, meta, info);
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use rustix::{
        fs::{Mode, OFlags, open},
        time::{ClockId, clock_gettime},
    };

    use super::*;
    use crate::{Checksum, ChecksumAlgorithm, ChecksumType};

    fn info(key: &Key, meta: &Meta, tag: [u8; 16]) -> ObjectInfo {
        ObjectInfo {
            key: key.clone(),
            version_id: None,
            size: meta.size,
            etag: ETag::from_md5(tag),
            last_modified: meta.last_modified(),
            attributes: ObjectAttributes::default(),
            parts_count: None,
        }
    }

    fn open_dir(path: &Path) -> OwnedFd {
        open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_line_holds_until_its_file_changes_and_for_one_name() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let dir = open_dir(temp.path());
        let meta = dir::look_at(&dir, "file").unwrap();
        let bucket = BucketName::parse("bucket").unwrap();
        let [key, other] = ["file", "other"].map(|key| Key::parse(key).unwrap());
        let lines = Lines::new(1 << 20);
        let mut page = PageLines::new(&lines, Some(meta.dev));
        let line = info(&key, &meta, [7; 16]);
        page.keep(&bucket, &meta, &line);
        let of_name =
            |page: &mut PageLines<'_>, key: &Key| page.of_name(Some(&dir), Some("file"), &bucket, key.clone());
        assert_eq!(of_name(&mut page, &key), Ok((line.clone(), meta)));
        assert_eq!(of_name(&mut page, &other), Err(other.clone()));
        assert_eq!(
            of_name(&mut page, &key),
            Err(key.clone()),
            "after one that was not known"
        );
        assert_eq!(page.of_file(&bucket, key.clone(), &meta), Ok(line.clone()));
        assert!(of_name(&mut page, &key).is_ok(), "after one that was");
        // Of the same size, and with the old time.
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, "two").unwrap();
        let before = std::time::UNIX_EPOCH + Duration::new(meta.mtime.0.try_into().unwrap(), meta.mtime.1);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(before)
            .unwrap();
        let changed = dir::look_at(&dir, "file").unwrap();
        assert_eq!((changed.size, changed.mtime), (meta.size, meta.mtime));
        assert_eq!(of_name(&mut page, &key), Err(key.clone()));
        assert_eq!(page.of_file(&bucket, key.clone(), &changed), Err(key.clone()));
        // On another file system nothing is known, and nothing kept.
        let mut elsewhere = PageLines::new(&lines, None);
        assert_eq!(elsewhere.of_file(&bucket, key.clone(), &meta), Err(key));
        assert!(!elsewhere.may_keep(&Meta { ctime: (0, 1), ..meta }));
    }

    #[test]
    fn what_changed_within_a_tick_is_not_kept() {
        let lines = Lines::new(1 << 20);
        let temp = tempfile::tempdir().unwrap();
        let meta = Meta::of(open_dir(temp.path())).unwrap();
        let page = PageLines::new(&lines, Some(meta.dev));
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        let ahead = now + 1;
        assert!(!page.may_keep(&Meta {
            ctime: (ahead, 1),
            ..meta
        }));
        assert!(page.may_keep(&Meta {
            ctime: (ahead - 10, 1),
            ..meta
        }));
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let lines = Lines::new(WAYS * LINE_COST - 1);
        assert_eq!(PageLines::new(&lines, Some((0, 0))).device, None);
    }

    #[test]
    fn paging_through_more_than_there_is_room_for_finds_some() {
        let lines = Lines::new(WAYS * LINE_COST);
        assert_eq!(lines.places.len(), 1);
        let temp = tempfile::tempdir().unwrap();
        let of = Meta::of(open_dir(temp.path())).unwrap();
        let bucket = BucketName::parse("bucket").unwrap();
        let mut found = 0;
        for _ in 0..100 {
            for ino in 0..WAYS as u64 + 4 {
                let (meta, key) = (Meta { ino, ..of }, Key::parse(ino.to_string()).unwrap());
                let line = info(&key, &meta, [ino.try_into().unwrap(); 16]);
                match lines.get(&bucket, key.clone(), &meta) {
                    Ok(known) => {
                        assert_eq!(known, line);
                        found += 1;
                    }
                    Err(_) => lines.keep(&bucket, &meta, &line),
                }
                assert_eq!(lines.get(&bucket, key, &meta), Ok(line));
                assert!(lines.places[0].lock().unwrap().len() <= WAYS);
            }
        }
        assert!(found > 500, "{found} of 2000");
    }

    #[test]
    fn all_that_a_line_says_comes_back() {
        let lines = Lines::new(1 << 20);
        let temp = tempfile::tempdir().unwrap();
        let meta = Meta::of(open_dir(temp.path())).unwrap();
        let bucket = BucketName::parse("bucket").unwrap();
        let key = Key::parse("key").unwrap();
        let line = ObjectInfo {
            version_id: Some(VersionId::null()),
            etag: ETag::parse("0123456789abcdef0123456789abcdef-3").unwrap(),
            attributes: ObjectAttributes {
                checksum: Some(Checksum {
                    algorithm: ChecksumAlgorithm::Sha256,
                    kind: ChecksumType::Composite,
                    value: [9; 32].into(),
                    parts: Some(3),
                }),
                ..ObjectAttributes::default()
            },
            parts_count: Some(3),
            ..info(&key, &meta, [0; 16])
        };
        lines.keep(&bucket, &meta, &line);
        assert_eq!(lines.get(&bucket, key, &meta), Ok(line));
    }
}
