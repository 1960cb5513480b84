//! What is said of an object: by its record, where that holds for the file, and by the file itself.

use minicbor::Decode;
use rustix::fd::AsFd;
use sha2::{Digest as _, Sha256};

use super::{Named, OwnerFile, Record, Rest, StoredChecksum, StoredVersion, decode, read};
use crate::{
    ETag, Key, ObjectAttributes, ObjectInfo, Version,
    fs::{content_type, dir::Meta, error::Error},
    stored::to_checksum,
};

/// What listings need of a [`Record`].
#[derive(Debug, Decode)]
struct Listed<'b> {
    #[n(0)]
    size: u64,
    #[n(1)]
    mtime: (i64, u32),
    #[b(2)]
    etag: &'b str,
    #[b(3)]
    checksum: Option<ListedChecksum<'b>>,
    #[b(4)]
    key: &'b str,
    #[n(5)]
    parts_count: Option<u16>,
    #[n(10)]
    version: Option<StoredVersion>,
    #[n(11)]
    owner: Option<OwnerFile>,
}

/// A [`StoredChecksum`] where it lies.
#[derive(Debug, Decode)]
struct ListedChecksum<'b> {
    #[n(0)]
    algorithm: u8,
    #[n(1)]
    kind: u8,
    #[cbor(b(2), with = "minicbor::bytes")]
    value: &'b [u8],
    #[n(3)]
    parts: Option<u16>,
}

/// What a listing says of the object `key`. Of its version, what its record says, if anything. `buffer` is for what is read, from one to the next.
pub(in crate::fs) fn describe_listed(
    key: Key,
    file: impl AsFd,
    meta: &Meta,
    buffer: &mut Vec<u8>,
) -> Result<ObjectInfo, Error> {
    let there = read(file, buffer)?;
    let known = decode::<Listed<'_>>(buffer).filter(|_| there);
    Ok(describe_known(key, meta, known))
}

/// As [`describe_listed`] with the record of a side file, in CBOR. The key again where that is none, or not this file's,
/// which `is_own` judges by what it names.
pub(in crate::fs) fn describe_head(
    key: Key,
    meta: &Meta,
    head: &[u8],
    is_own: impl FnOnce(&Key, Named) -> Result<bool, Error>,
) -> Result<Result<ObjectInfo, Key>, Error> {
    match minicbor::decode::<Listed<'_>>(head) {
        Ok(known) if known.holds_for(meta) && is_own(&key, known.named())? => {
            Ok(Ok(describe_known(key, meta, Some(known))))
        }
        _ => Ok(Err(key)),
    }
}

/// What a listing says of a file of which nothing is recorded.
pub(in crate::fs) fn describe_unknown(key: Key, meta: &Meta) -> ObjectInfo {
    describe_known(key, meta, None)
}

impl Listed<'_> {
    fn holds_for(&self, meta: &Meta) -> bool {
        self.size == meta.size && self.mtime == meta.mtime
    }

    fn named(&self) -> Named {
        Named {
            version: self.version.map(Version::from),
            owner: self.owner,
        }
    }
}

fn describe_known(key: Key, meta: &Meta, known: Option<Listed<'_>>) -> ObjectInfo {
    let known = known
        .filter(|record| record.holds_for(meta))
        .and_then(|record| Some((ETag::parse(record.etag).ok()?, record)));
    let (etag, checksum, parts_count, version) = match known {
        Some((etag, record)) => {
            let checksum = record
                .checksum
                .and_then(|stored| to_checksum(stored.algorithm, stored.kind, stored.value, stored.parts));
            let version = record.version.filter(|_| record.key == key.as_str());
            (etag, checksum, record.parts_count, version)
        }
        None => (derived_etag(meta), None, None, None),
    };
    ObjectInfo {
        key,
        version_id: version.map(|version| Version::from(version).id()),
        size: meta.size,
        etag,
        last_modified: meta.last_modified(),
        attributes: ObjectAttributes {
            checksum,
            ..ObjectAttributes::default()
        },
        parts_count,
    }
}

/// Everything but the bytes and the version: from a record with its rest, or of a file that has none.
pub(in crate::fs) fn describe(key: Key, meta: &Meta, record: Option<&Record>, rest: Option<Rest>) -> ObjectInfo {
    let known = record.and_then(|record| Some((record, ETag::parse(record.etag.clone()).ok()?)));
    let mut info = ObjectInfo {
        key,
        version_id: None,
        size: meta.size,
        etag: derived_etag(meta),
        last_modified: meta.last_modified(),
        attributes: ObjectAttributes::default(),
        parts_count: None,
    };
    match known {
        Some((record, etag)) => {
            info.etag = etag;
            info.parts_count = record.parts_count;
            if let Some(rest) = rest {
                info.attributes = rest.into();
            }
            info.attributes.checksum = record.checksum.as_ref().and_then(StoredChecksum::to_checksum);
        }
        None => info.attributes.content.content_type = content_type::guess(info.key.as_str()).map(Into::into),
    }
    info
}

/// The tag of an object: as recorded, or derived from the file.
pub(in crate::fs) fn etag(meta: &Meta, record: Option<&Record>) -> ETag {
    record
        .and_then(|record| ETag::parse(record.etag.clone()).ok())
        .unwrap_or_else(|| derived_etag(meta))
}

/// The tag of a file that the gateway did not write: another one for every change that the file system can show, and
/// nothing that a client would compare with an MD5.
fn derived_etag(meta: &Meta) -> ETag {
    let mut hasher = Sha256::new();
    for number in [
        u64::from(meta.dev.0),
        u64::from(meta.dev.1),
        meta.ino,
        meta.size,
        meta.mtime.0.cast_unsigned(),
        u64::from(meta.mtime.1),
        meta.ctime.0.cast_unsigned(),
        u64::from(meta.ctime.1),
    ] {
        hasher.update(number.to_be_bytes());
    }
    let text = format!("t2-{}", hex::encode(&hasher.finalize()[..20]));
    ETag::parse(text).unwrap_or_else(|_| ETag::from_md5([0; 16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_derived_tag_is_no_md5() {
        let meta = Meta {
            file_type: rustix::fs::FileType::RegularFile,
            dev: (1, 2),
            ino: 3,
            nlink: 1,
            size: 4,
            mtime: (-5, 6),
            ctime: (7, 8),
            btime: (9, 10),
        };
        let tag = derived_etag(&meta);
        assert!(tag.as_str().starts_with("t2-") && tag.as_md5().is_none());
        let changed = Meta { ctime: (7, 9), ..meta };
        assert_ne!(derived_etag(&changed), tag);
    }
}
