//! What is known of an object beside its bytes, as it lies on the disk.
//!
//! The extended attribute [`ATTRIBUTE`] of the file holds a version byte and a [`Record`] in CBOR. It counts only while
//! the file has the size and modification time that the record names: otherwise somebody else has changed the file.
//! What is too large for it, and the table of parts, lies in a side file.

mod describe;

use std::sync::Arc;

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

pub(super) use self::describe::{describe, describe_head, describe_listed, describe_unknown, etag};
use super::{
    crash::{self, Call},
    dir::Meta,
    error::Error,
    intent::Intent,
    side::SideFile,
    xattr,
};
pub(super) use crate::stored::{
    Rest, StoredChecksum, VERSION, algorithm, checksum_codes, decode, encode, from_checksum_codes, minicbor_bytes,
};
use crate::{BucketName, ETag, Key, MAX_KEY_BYTES, ObjectAttributes, ObjectPart, Stamp, UploadId, Version};

/// Where the record lies. `user.`: what a process without privileges may set.
pub(super) const ATTRIBUTE: &str = "user.t2gate";
/// Records up to so many bytes are tried as an attribute. ext4 holds about 4 KB with all names.
const MAX_INLINE: usize = 3000;
/// The most an attribute can have (the kernel's limit).
const MAX_ATTRIBUTE: usize = 64 * 1024;
/// The most bytes of a bucket's name.
const MAX_BUCKET_NAME: usize = 63;
/// An object's record. Indexes are for ever: new fields get new ones, 9 is kept for an object's immutable id.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Record {
    #[n(0)]
    pub(super) size: u64,
    #[n(1)]
    pub(super) mtime: (i64, u32),
    #[n(2)]
    pub(super) etag: Box<str>,
    #[n(3)]
    pub(super) checksum: Option<StoredChecksum>,
    /// The exact key, which the file's name is not on every file system.
    #[n(4)]
    pub(super) key: Box<str>,
    #[n(5)]
    pub(super) parts_count: Option<u16>,
    /// Of the multipart upload that made the object.
    #[n(6)]
    pub(super) upload_id: Option<Box<str>>,
    /// Names the side file.
    #[n(7)]
    pub(super) side: Option<Box<str>>,
    #[n(8)]
    pub(super) rest: Option<Rest>,
    /// Nothing where it was written without versioning.
    #[n(10)]
    version: Option<StoredVersion>,
    /// Where there is a side file. Nothing where it was written before there was this field. In a side file: while the version
    /// that it is of is being deleted, and something that looks like it is there.
    #[n(11)]
    owner: Option<Owner>,
}

/// The file that a record was written for: who has a copy of the file has a copy of the record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Owner {
    /// It may have other names, in other buckets.
    #[n(0)]
    bucket: Box<str>,
    #[n(1)]
    ino: u64,
    /// Tells it from a later one with the same number. Zeros where the file system has none.
    #[n(2)]
    btime: (i64, u32),
}

/// What of an [`Owner`] tells the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Decode)]
struct OwnerFile {
    #[n(1)]
    ino: u64,
    #[n(2)]
    btime: (i64, u32),
}

impl OwnerFile {
    fn is(self, meta: &Meta) -> bool {
        let unknown = self.btime == (0, 0) || meta.btime == (0, 0);
        self.ino == meta.ino && (unknown || self.btime == meta.btime)
    }
}

/// What a record says it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) version: Option<Version>,
    owner: Option<OwnerFile>,
}

impl Named {
    /// Whether it is this file, where it names one.
    pub(super) fn is_file(&self, meta: &Meta) -> Option<bool> {
        self.owner.map(|owner| owner.is(meta))
    }
}

impl Owner {
    fn new(bucket: &BucketName, meta: &Meta) -> Self {
        Self {
            bucket: bucket.as_str().into(),
            ino: meta.ino,
            btime: meta.btime,
        }
    }

    fn is(&self, bucket: &BucketName, meta: &Meta) -> bool {
        *self.bucket == *bucket.as_str() && self.file().is(meta)
    }

    fn file(&self) -> OwnerFile {
        let &Self { ino, btime, .. } = self;
        OwnerFile { ino, btime }
    }
}

/// A [`Version`] on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct StoredVersion {
    /// The halves of the stamp.
    #[n(0)]
    stamp: (u64, u64),
    #[n(1)]
    null: bool,
}

impl StoredVersion {
    fn largest() -> Self {
        Self {
            stamp: (u64::MAX, u64::MAX),
            null: true,
        }
    }
}

impl From<Version> for StoredVersion {
    #[allow(clippy::cast_possible_truncation, reason = "halves")]
    fn from(version: Version) -> Self {
        let bits = version.stamp.to_bits();
        Self {
            stamp: ((bits >> 64) as u64, bits as u64),
            null: version.null,
        }
    }
}

impl From<StoredVersion> for Version {
    fn from(stored: StoredVersion) -> Self {
        let (high, low) = stored.stamp;
        Self {
            stamp: Stamp::from_bits(u128::from(high) << 64 | u128::from(low)),
            null: stored.null,
        }
    }
}

/// What a write makes of an object.
#[derive(Debug)]
pub(super) struct NewObject {
    pub(super) etag: ETag,
    /// With the checksum.
    pub(super) attributes: ObjectAttributes,
    /// Empty unless a multipart upload made it.
    pub(super) parts: Vec<ObjectPart>,
    pub(super) upload_id: Option<UploadId>,
    /// Nothing in a bucket that never had versioning.
    pub(super) version: Option<Version>,
}

impl Record {
    /// With everything in it, and no side file.
    pub(super) fn new(meta: &Meta, key: &Key, new: &NewObject) -> Self {
        Self {
            size: meta.size,
            mtime: meta.mtime,
            etag: new.etag.as_str().into(),
            checksum: new.attributes.checksum.as_ref().map(StoredChecksum::from),
            key: key.as_str().into(),
            parts_count: (!new.parts.is_empty()).then(|| u16::try_from(new.parts.len()).unwrap_or(u16::MAX)),
            upload_id: new.upload_id.as_ref().map(|id| id.as_str().into()),
            side: None,
            rest: Some(Rest::from(&new.attributes)),
            version: new.version.map(StoredVersion::from),
            owner: None,
        }
    }

    /// About the largest with its [`Rest`] in a side file.
    pub(super) fn largest() -> Self {
        let text = |len| "x".repeat(len).into();
        Self {
            size: u64::MAX,
            mtime: (i64::MIN, u32::MAX),
            etag: text(64),
            checksum: Some(StoredChecksum {
                algorithm: u8::MAX,
                kind: u8::MAX,
                value: vec![0; 32],
                parts: Some(u16::MAX),
            }),
            key: text(MAX_KEY_BYTES),
            parts_count: Some(u16::MAX),
            upload_id: Some(text(64)),
            side: Some(text(32)),
            rest: None,
            version: Some(StoredVersion::largest()),
            owner: Some(Owner {
                bucket: text(MAX_BUCKET_NAME),
                ino: u64::MAX,
                btime: (i64::MIN, u32::MAX),
            }),
        }
    }

    /// Gives `file`, which is complete, its attributes. Neither they nor the side file are synced yet.
    pub(super) fn store(
        file: &OwnedFd,
        meta: &Meta,
        (bucket, key): (&BucketName, &Key),
        new: &NewObject,
        sides: &Arc<OwnedFd>,
        intent: impl Fn(&str) -> Option<Intent>,
    ) -> Result<(Self, Option<SideFile>), Error> {
        let mut record = Self::new(meta, key, new);
        let mut side = None;
        if !new.parts.is_empty() {
            let written = SideFile::write(sides, &intent, None, &new.parts)?;
            record.side = Some(written.name().into());
            record.owner = Some(Owner::new(bucket, meta));
            side = Some(written);
        }
        let bytes = record.encode();
        if bytes.len() <= MAX_INLINE {
            match set(file, &bytes) {
                Ok(()) => return Ok((record, side)),
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
                Err(error) => return Err(Error::io("could not set attributes")(error)),
            }
        }
        let written = SideFile::write(sides, &intent, record.rest.take().as_ref(), &new.parts)?;
        record.side = Some(written.name().into());
        record.owner = Some(Owner::new(bucket, meta));
        set(file, &record.encode()).map_err(Error::io("could not set attributes"))?;
        Ok((record, Some(written)))
    }

    /// The version that the object of `key` is, where the record says so and is that object's own: a file that was copied
    /// or renamed by other means carries another's. The record is one that holds.
    pub(super) fn version(&self, key: &Key) -> Option<Version> {
        self.version.filter(|_| *self.key == *key.as_str()).map(Version::from)
    }

    pub(super) fn named(&self, key: &Key) -> Named {
        Named {
            version: self.version(key),
            owner: self.owner.as_ref().map(Owner::file),
        }
    }

    /// Whether it names the file that it is of.
    pub(super) fn names_file(&self) -> bool {
        self.owner.is_some()
    }

    pub(super) fn name_file(&mut self, file: Option<(&BucketName, &Meta)>) {
        self.owner = file.map(|(bucket, meta)| Owner::new(bucket, meta));
    }

    pub(super) fn note_version(&mut self, version: Option<Version>) {
        self.version = version.map(StoredVersion::from);
    }

    /// Whether it is of this version.
    pub(super) fn has_version(&self, version: Version) -> bool {
        self.version == Some(version.into())
    }

    /// Writes the record again, with another version, to the file itself.
    pub(super) fn set_version(&mut self, file: &OwnedFd, version: Option<Version>) -> Result<(), Error> {
        self.note_version(version);
        set(file, &encode(&*self)).map_err(Error::io("could not set attributes"))
    }

    /// The record that lies with `file`, whether or not it still fits.
    pub(super) fn load_any(file: impl AsFd) -> Result<Option<Self>, Error> {
        let mut bytes = Vec::new();
        let there = read(file, &mut bytes)?;
        Ok(decode(&bytes).filter(|_| there))
    }

    /// The record that holds for `file` as it is.
    pub(super) fn load(file: impl AsFd, meta: &Meta) -> Result<Option<Self>, Error> {
        Ok(Self::load_any(file)?.filter(|record| record.holds_for(meta)))
    }

    /// Whether it is of the file as it is.
    pub(super) fn holds_for(&self, meta: &Meta) -> bool {
        self.size == meta.size && self.mtime == meta.mtime
    }

    /// The side file, if it is this object's own, which has this file, and goes with it. A copy of a file by other means
    /// carries another's, and which of the two an old record is of cannot be told: better it stays for `doctor` to find.
    pub(super) fn own_side(&self, bucket: &BucketName, key: &Key, meta: &Meta) -> Option<&str> {
        let is_own = *self.key == *key.as_str() && self.owner.as_ref().is_some_and(|owner| owner.is(bucket, meta));
        self.side.as_deref().filter(|_| is_own)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Reads the attribute. `false` where there is none.
fn read(file: impl AsFd, bytes: &mut Vec<u8>) -> Result<bool, Error> {
    bytes.clear();
    // Most fit, and the kernel clears as much as it is offered.
    bytes.reserve(1024);
    let outcome = match xattr::get(&file, ATTRIBUTE, bytes) {
        Err(Errno::RANGE) => {
            bytes.reserve(MAX_ATTRIBUTE);
            xattr::get(&file, ATTRIBUTE, bytes)
        }
        outcome => outcome,
    };
    match outcome {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(Error::io("could not read attributes")(error)),
    }
}

fn set(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    crash::fault(Call::Add)?;
    xattr::set(file, ATTRIBUTE, bytes)?;
    crash::point();
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    #[test]
    fn a_side_file_is_that_of_the_file_that_the_record_was_written_for() {
        let temp = tempfile::tempdir().unwrap();
        let meta = Meta::of(std::fs::File::create(temp.path().join("file")).unwrap()).unwrap();
        let bucket = |name| BucketName::parse(name).unwrap();
        let key = |key: &str| Key::parse(key).unwrap();
        let record = Record {
            key: "key".into(),
            owner: Some(Owner::new(&bucket("aaa"), &meta)),
            ..Record::largest()
        };
        let read: Record = decode(&record.encode()).unwrap();
        assert_eq!(read, record);
        assert!(record.own_side(&bucket("aaa"), &key("key"), &meta).is_some());
        let without_birth = Meta { btime: (0, 0), ..meta };
        assert!(record.own_side(&bucket("aaa"), &key("key"), &without_birth).is_some());
        let another = Meta {
            ino: meta.ino + 1,
            ..meta
        };
        let later = Meta {
            btime: (i64::MAX, 0),
            ..meta
        };
        for (bucket, key, meta) in [
            (bucket("bbb"), key("key"), meta),
            (bucket("aaa"), key("another"), meta),
            (bucket("aaa"), key("key"), another),
            (bucket("aaa"), key("key"), later),
        ] {
            assert_eq!(record.own_side(&bucket, &key, &meta), None);
        }
        // As those that were written before.
        let old = Record { owner: None, ..record };
        assert_eq!(old.own_side(&bucket("aaa"), &key("key"), &meta), None);
    }

    proptest! {
        #[test]
        fn rubbish_in_an_attribute_is_no_record(bytes: Vec<u8>) {
            let _record: Option<Record> = decode(&bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(&bytes);
            let _record: Option<Record> = decode(&versioned);
        }
    }
}
