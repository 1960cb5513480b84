//! Names in the store. Only what is made here reaches the store as a name.

mod encoded;
mod layout;

use std::fmt;

use sha2::{Digest as _, Sha256};

use self::encoded::{base32, decode};
pub(super) use self::layout::Named;
pub use self::layout::StoreLayout;
use crate::{BucketName, Key, PartNumber, Stamp, UploadId};

/// What the gateway keeps for itself lies under this. No bucket's name begins with a dot, so no key reaches it.
const RESERVED: &str = ".t2/";
/// The longest name that is sent to a store, with the root that its configuration may add. S3, GCS and Azure hold so
/// many bytes.
pub(super) const MAX_NAME_BYTES: usize = 1024;

/// A name in the store, safe to send: no empty, `.` or `..` segment, no white space at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoreKey(String);

impl StoreKey {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What is noted of the store itself.
    pub(super) fn note() -> Self {
        Self(format!("{RESERVED}store"))
    }

    /// The record of a bucket.
    pub(super) fn bucket_record(bucket: &BucketName) -> Self {
        Self(format!("{RESERVED}buckets/{bucket}"))
    }

    /// The record of a multipart upload.
    pub(super) fn upload(bucket: &BucketName, id: &UploadId) -> Self {
        Self(format!("{RESERVED}uploads/{bucket}/{id}"))
    }

    /// The record of an uploaded part.
    pub(super) fn part(bucket: &BucketName, id: &UploadId, number: PartNumber) -> Self {
        Self(format!("{RESERVED}parts/{bucket}/{id}/{:05}", number.get()))
    }

    /// One of the objects that hold the bytes of a blob.
    pub(super) fn blob_segment(id: Stamp, segment: u64) -> Self {
        Self(format!("{RESERVED}data/{id}/{segment:08}"))
    }

    /// Says what a blob was written for.
    pub(super) fn blob_owner(id: Stamp) -> Self {
        Self(format!("{RESERVED}data/{id}/owner"))
    }

    /// What of an object's attributes does not fit into the store's metadata.
    pub(super) fn side(nonce: Stamp) -> Self {
        Self(format!("{RESERVED}attributes/{nonce}"))
    }

    /// A version of `key` that is kept, or its tombstone. Of one key the newest sorts first.
    pub(super) fn history(bucket: &BucketName, key: &Key, stamp: Stamp) -> Self {
        Self(format!(
            "{}{:032x}",
            StoreDir::history(bucket, key).as_str(),
            !stamp.to_bits()
        ))
    }

    /// Says of a tombstone where it lies.
    pub(super) fn burial(note: Stamp) -> Self {
        Self(format!("{RESERVED}gone/{note}"))
    }

    /// What [`StoreLayout::key`] called [`Named::Cut`].
    pub(super) fn cut(bucket: &BucketName, name: &str) -> Self {
        debug_assert_eq!(decode(name), Some(Named::Cut));
        Self(format!("{bucket}/{name}"))
    }

    /// For what gets its name when it is whole.
    pub(super) fn aside(id: Stamp) -> Self {
        Self(format!("{RESERVED}new/{id}"))
    }

    /// What a probe has left under a name that was listed. `None` for a name that no probe gives.
    pub(super) fn left_by_probe(run: Stamp, name: &str) -> Option<Self> {
        refuse_transparent(name).is_ok().then(|| Self::probe(run, name))
    }

    /// For the probe.
    pub(super) fn probe(run: Stamp, name: &str) -> Self {
        debug_assert!(refuse_transparent(name).is_ok());
        Self(format!("{RESERVED}probe/{run}/{name}"))
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A directory in the store; ends in a slash, or is empty and the whole store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreDir(String);

impl StoreDir {
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    /// All objects of a bucket.
    pub(super) fn bucket(bucket: &BucketName) -> Self {
        Self(format!("{bucket}/"))
    }

    pub(super) fn bucket_records() -> Self {
        Self(format!("{RESERVED}buckets/"))
    }

    pub(super) fn uploads(bucket: &BucketName) -> Self {
        Self(format!("{RESERVED}uploads/{bucket}/"))
    }

    pub(super) fn all_uploads() -> Self {
        Self(format!("{RESERVED}uploads/"))
    }

    pub(super) fn parts(bucket: &BucketName, id: &UploadId) -> Self {
        Self(format!("{RESERVED}parts/{bucket}/{id}/"))
    }

    /// A directory for each bucket that has, or had, uploads with parts.
    pub(super) fn all_parts() -> Self {
        Self(format!("{RESERVED}parts/"))
    }

    /// A directory for each upload.
    pub(super) fn bucket_parts(bucket: &BucketName) -> Self {
        Self(format!("{RESERVED}parts/{bucket}/"))
    }

    pub(super) fn blobs() -> Self {
        Self(format!("{RESERVED}data/"))
    }

    pub(super) fn blob(id: Stamp) -> Self {
        Self(format!("{RESERVED}data/{id}/"))
    }

    pub(super) fn sides() -> Self {
        Self(format!("{RESERVED}attributes/"))
    }

    pub(super) fn asides() -> Self {
        Self(format!("{RESERVED}new/"))
    }

    pub(super) fn probes() -> Self {
        Self(format!("{RESERVED}probe/"))
    }

    /// The versions of `key` that are kept. By a hash: a key's name leaves no room for more.
    pub(super) fn history(bucket: &BucketName, key: &Key) -> Self {
        let hash = base32(&Sha256::digest(key.as_str().as_bytes()));
        Self(format!("{RESERVED}history/{bucket}/{hash}/"))
    }

    pub(super) fn burials() -> Self {
        Self(format!("{RESERVED}gone/"))
    }

    /// Which version `name` in a key's history stands for.
    pub(super) fn history_stamp(name: &str) -> Option<Stamp> {
        let bits = u128::from_str_radix(name, 16).ok()?;
        let stamp = Stamp::from_bits(!bits);
        (format!("{bits:032x}") == name).then_some(stamp)
    }

    pub(super) fn probe(run: Stamp) -> Self {
        Self(format!("{RESERVED}probe/{run}/"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What is called `name` in this directory, in a listing of all that lies below. `None` for a directory.
    pub(super) fn key(&self, name: &str) -> Option<StoreKey> {
        refuse_transparent(name).ok()?;
        Some(StoreKey(format!("{}{name}", self.0)))
    }

    /// What `path`, which a listing of this directory gave, is called in it. A directory's name keeps its slash.
    pub(super) fn name<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.0.as_str()).filter(|name| !name.is_empty())
    }
}

/// Whether `text` goes to a store and comes back as it is.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '\\' | '\u{fffe}' | '\u{ffff}');
    let segments = text.strip_suffix('/').unwrap_or(text);
    text.chars().all(plain)
        && text.trim_end() == text
        && !text.starts_with('/')
        && (segments.is_empty() || segments.split('/').all(|s| !matches!(s, "" | "." | "..")))
}

/// What S3, the stores that speak it, and opendal on the way to them would change, cannot say in XML or take for
/// something else.
fn refuse_transparent(key: &str) -> Result<(), &'static str> {
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a segment of it is \".\" or \"..\"");
    }
    if key.split('/').any(str::is_empty) {
        return Err("it begins or ends with a slash, or has two in a row");
    }
    // White space at the ends is trimmed.
    if key.trim_end() != key {
        return Err("it ends in white space");
    }
    let unsayable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    if key.contains(unsayable) {
        return Err("it holds a control character");
    }
    // Some stores take it for a separator.
    if key.contains('\\') {
        return Err("it holds a backslash");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> BucketName {
        BucketName::parse("bucket").unwrap()
    }

    #[test]
    fn of_one_key_the_newest_version_sorts_first() {
        let key = Key::parse("a/b".repeat(300)).unwrap();
        let at = |nanos, random| Stamp::new(crate::Timestamp::from_unix_nanos(nanos), random);
        let stamps = [at(i64::MAX, 1), at(5, u64::MAX), at(5, 0), at(0, 0)];
        let names = stamps.map(|stamp| StoreKey::history(&bucket(), &key, stamp));
        assert!(names.is_sorted() && names[0].as_str().len() < 200);
        let dir = StoreDir::history(&bucket(), &key);
        for (name, stamp) in names.iter().zip(stamps) {
            let name = dir.name(name.as_str()).unwrap();
            assert_eq!(StoreDir::history_stamp(name), Some(stamp));
            assert_eq!(StoreDir::history_stamp(&name.to_uppercase()), None);
            assert_eq!(StoreDir::history_stamp(&name[1..]), None);
        }
        assert_ne!(dir, StoreDir::history(&bucket(), &Key::parse("a/b").unwrap()));
    }
}
