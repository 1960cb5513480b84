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

use minicbor::{Decode, Encode, bytes::ByteSlice};

use super::cache::is_settled;
use crate::{
    BucketName, ETag, Key, ObjectAttributes, ObjectInfo, Stamp, VersionId,
    fs::dir::{self, Meta},
    stored::{StoredChecksum, minicbor_bytes},
};

/// What a line costs that has no more words than most, in bytes.
const LINE_COST: usize = size_of::<Line>() + 64;
/// So many lines share a place.
const WAYS: usize = 32;
/// A derived ETag is this with hex digits behind.
const DERIVED: &str = "t2-";

/// The lines of all buckets.
#[derive(Debug)]
pub(super) struct Lines {
    hasher: RandomState,
    places: Box<[Mutex<Vec<Line>>]>,
}

/// There are so many of these that each byte counts.
#[derive(Debug)]
struct Line {
    ino: u64,
    /// In nanoseconds since 1970.
    ctime: i64,
    /// The hash of the file system, the bucket and the key that the file has this line under: by another name it may have
    /// another.
    name: u64,
    /// [`Said`] in CBOR.
    said: Box<[u8]>,
}

impl Line {
    /// In bytes, with what the allocator adds.
    fn cost(&self) -> usize {
        size_of::<Self>() + (self.said.len() + 8).next_multiple_of(16)
    }
}

/// In nanoseconds; `None` before 1678 and after 2261.
fn nanos(time: (i64, u32)) -> Option<i64> {
    time.0.checked_mul(1_000_000_000)?.checked_add(time.1.into())
}

/// The words of a line. What is not there at the end takes no room.
#[derive(Debug, Default, Encode, Decode)]
struct Said<'a> {
    /// What hex digits at the beginning of the ETag stand for: 16 bytes of an MD5, or 20 behind [`DERIVED`].
    #[b(0)]
    digest: Option<&'a ByteSlice>,
    /// What is behind them, or all of it.
    #[b(1)]
    etag: Option<&'a str>,
    /// The stamp; of no bytes for `null`.
    #[b(2)]
    version: Option<&'a ByteSlice>,
    #[n(3)]
    parts_count: Option<u16>,
    #[n(4)]
    checksum: Option<StoredChecksum>,
}

/// The bytes that an ETag's hex digits stand for, how many, and the rest of it.
fn digest_of(etag: &str) -> ([u8; 20], usize, &str) {
    let (digits, len) = match etag.strip_prefix(DERIVED) {
        Some(digits) => (digits, 20),
        None => (etag, 16),
    };
    let mut digest = [0; 20];
    if let Some((digits, rest)) = digits.split_at_checked(2 * len)
        && !digits.bytes().any(|b| b.is_ascii_uppercase())
        && hex::decode_to_slice(digits, &mut digest[..len]).is_ok()
    {
        return (digest, len, rest);
    }
    (digest, 0, etag)
}

impl Said<'_> {
    fn etag(&self) -> Option<ETag> {
        let rest = self.etag.unwrap_or_default();
        let text = match self.digest {
            None => rest.to_owned(),
            Some(digest) => {
                let prefix = if digest.len() == 20 { DERIVED } else { "" };
                let mut text = String::with_capacity(prefix.len() + 2 * digest.len() + rest.len());
                text.push_str(prefix);
                text.push_str(&hex::encode(&**digest));
                text.push_str(rest);
                text
            }
        };
        ETag::parse(text).ok()
    }

    /// `None` where it is damaged.
    fn version_id(&self) -> Option<Option<VersionId>> {
        let Some(version) = self.version else {
            return Some(None);
        };
        let id = match **version {
            [] => VersionId::null(),
            ref stamp => VersionId::of(Stamp::from_bits(u128::from_be_bytes(stamp.try_into().ok()?))),
        };
        Some(Some(id))
    }
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

    fn name_of(&self, bucket: &BucketName, key: &Key, meta: &Meta) -> u64 {
        self.hasher.hash_one((meta.dev, bucket, key))
    }

    fn get(&self, bucket: &BucketName, key: Key, meta: &Meta) -> Result<ObjectInfo, Key> {
        let Some(place) = self.place(meta) else {
            return Err(key);
        };
        let (name, ctime) = (self.name_of(bucket, &key, meta), nanos(meta.ctime));
        let holds = |line: &&Line| (line.ino, line.name, Some(line.ctime)) == (meta.ino, name, ctime);
        let said = place.iter().find(holds).and_then(|line| {
            let said = minicbor::decode::<Said<'_>>(&line.said).ok()?;
            let checksum = said.checksum.as_ref().and_then(StoredChecksum::to_checksum);
            Some((said.etag()?, said.version_id()?, checksum, said.parts_count))
        });
        let Some((etag, version_id, checksum, parts_count)) = said else {
            return Err(key);
        };
        Ok(ObjectInfo {
            key,
            version_id,
            size: meta.size,
            etag,
            last_modified: meta.last_modified(),
            attributes: ObjectAttributes {
                checksum,
                ..ObjectAttributes::default()
            },
            parts_count,
        })
    }

    fn keep(&self, bucket: &BucketName, meta: &Meta, info: &ObjectInfo) {
        let (digest, len, rest) = digest_of(info.etag.as_str());
        let stamp = match &info.version_id {
            Some(id) if id.is_null() => Some(None),
            Some(id) => match id.stamp() {
                Some(stamp) => Some(Some(stamp.to_bits().to_be_bytes())),
                // None that the gateway gave.
                None => return,
            },
            None => None,
        };
        let stamp = stamp
            .as_ref()
            .map(|stamp| stamp.as_ref().map_or(&[][..], |bits| &bits[..]));
        let said = Said {
            digest: (len > 0).then(|| digest[..len].into()),
            etag: (!rest.is_empty()).then_some(rest),
            version: stamp.map(Into::into),
            parts_count: info.parts_count,
            checksum: info.attributes.checksum.as_ref().map(StoredChecksum::from),
        };
        let Some(ctime) = nanos(meta.ctime) else {
            return;
        };
        let line = Line {
            ino: meta.ino,
            ctime,
            name: self.name_of(bucket, &info.key, meta),
            said: minicbor_bytes(&said).into(),
        };
        let Some(mut place) = self.place(meta) else {
            return;
        };
        place.retain(|other| (other.ino, other.name) != (line.ino, line.name));
        let is_full = |place: &[Line]| {
            let cost = place.iter().map(Line::cost).sum::<usize>() + line.cost();
            place.len() >= WAYS || cost > WAYS * LINE_COST
        };
        while !place.is_empty() && is_full(&place) {
            // Any of them: if the one used longest ago went, who pages through more than there is room for would find none.
            let any = line.name % place.len() as u64;
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
mod tests;
