//! What the gateway writes down: of objects, parts, uploads and buckets.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{BufMut as _, Bytes, BytesMut};
use minicbor::{Decode, Encode};

use super::{blob::Blob, store::Meta};
use crate::{
    AccountId, BucketInfo, BucketName, CannedAcl, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Key,
    MultipartUpload, ObjectAttributes, ObjectInfo, ObjectPart, PartNumber, Stamp, StoredPart, Timestamp, UploadId,
    Version, VersioningStatus,
    stored::{Rest, StoredChecksum, checksum_codes, decode, encode, from_checksum_codes},
};

/// The name under which the store's metadata holds the record of an object. Azure takes only what is an identifier of
/// C#.
pub(super) const METADATA: &str = "t2gate";
/// S3 holds 2 KiB of names and values. What does not fit lies in a side object.
const MAX_METADATA: usize = 1900;
/// Leads an object of the encoded layout; then the length of the record in four bytes, the record, the bytes.
const MAGIC: &[u8; 8] = b"T2GATE\0\x01";
/// The most that leads an object: a record with 10,000 parts, each of a blob and with a checksum.
pub(super) const MAX_HEADER_BYTES: u64 = 4 << 20;

/// An object's record. Indexes are for ever.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Record {
    /// Another one for every write: by it a write knows its own work again.
    #[n(0)]
    pub(super) nonce: Box<str>,
    /// Of the object. In the transparent layout, where the store's object has another size, something else wrote that.
    #[n(1)]
    pub(super) size: u64,
    #[n(2)]
    pub(super) etag: Box<str>,
    #[n(3)]
    pub(super) checksum: Option<StoredChecksum>,
    #[n(4)]
    pub(super) parts_count: Option<u16>,
    /// Of the multipart upload that made the object.
    #[n(5)]
    pub(super) upload_id: Option<Box<str>>,
    /// `None`: lies in the side object of this nonce.
    #[n(6)]
    pub(super) rest: Option<Rest>,
    /// Whose record it is. Left out of the store's metadata, where it has no room.
    #[n(7)]
    pub(super) key: Option<Box<str>>,
    #[n(8)]
    pub(super) bucket: Option<Box<str>>,
    /// Of an object in the encoded layout; elsewhere the store's time counts.
    #[n(9)]
    pub(super) modified: Option<i64>,
    /// In the encoded layout the blobs, one after the other, are the object. None: its bytes follow the header.
    #[n(10)]
    pub(super) blobs: Vec<Blob>,
    #[n(11)]
    pub(super) parts: Vec<PartEntry>,
    /// There is a side object of this nonce.
    #[n(12)]
    pub(super) has_side: bool,
    /// `None`: written without versioning.
    #[n(13)]
    pub(super) version: Option<StoredVersion>,
    /// `None`: an object. See [`Kind`].
    #[n(14)]
    pub(super) kind_code: Option<u8>,
    /// Of a head, where the key has or had versions.
    #[n(15)]
    pub(super) keeping: Option<Keeping>,
}

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    DeleteMarker,
    /// A head whose key has nothing.
    Nothing,
    /// A version that is gone for ever, whoever comes late with it.
    Tombstone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct StoredVersion {
    #[n(0)]
    stamp: (u64, u64),
    #[n(1)]
    null: bool,
}

impl From<Version> for StoredVersion {
    fn from(version: Version) -> Self {
        Self {
            stamp: halves(version.stamp),
            null: version.null,
        }
    }
}

impl From<StoredVersion> for Version {
    fn from(stored: StoredVersion) -> Self {
        Self {
            stamp: whole(stored.stamp),
            null: stored.null,
        }
    }
}

fn halves(stamp: Stamp) -> (u64, u64) {
    let bits = stamp.to_bits();
    let low = bits & u128::from(u64::MAX);
    (u64::try_from(bits >> 64).unwrap_or(0), u64::try_from(low).unwrap_or(0))
}

fn whole((high, low): (u64, u64)) -> Stamp {
    Stamp::from_bits(u128::from(high) << 64 | u128::from(low))
}

/// What a head says of the versions that are kept under it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Keeping {
    /// Another one for each write of the head: so no two are equal in bytes, and a write knows its own work again.
    #[n(0)]
    pub(super) turn: Box<str>,
    /// Another one whenever a version that is kept was removed.
    #[n(1)]
    pub(super) epoch: Box<str>,
    /// What is newer than this is not kept. `None`: nothing is.
    #[n(2)]
    newest: Option<(u64, u64)>,
    /// Which of those that are kept is the version `null`; any other that says so is dead.
    #[n(3)]
    null: Option<(u64, u64)>,
    /// Dead, whatever lies in the history, until their tombstones are sure to lie there.
    #[n(4)]
    gone: Vec<(u64, u64)>,
    /// The history may hold the head's own version too.
    #[n(5)]
    pub(super) promoted: bool,
}

impl Keeping {
    /// For the next write of a head: what was there, without those that are gone.
    pub(super) fn after(before: Option<&Self>, turn: Stamp) -> Self {
        let turn: Box<str> = turn.to_string().into();
        Self {
            epoch: before.map_or_else(|| turn.clone(), |before| before.epoch.clone()),
            newest: before.and_then(|before| before.newest),
            null: before.and_then(|before| before.null),
            gone: Vec::new(),
            promoted: false,
            turn,
        }
    }

    pub(super) fn newest(&self) -> Option<Stamp> {
        self.newest.map(whole)
    }

    pub(super) fn set_newest(&mut self, newest: Option<Stamp>) {
        self.newest = newest.map(halves);
    }

    pub(super) fn null(&self) -> Option<Stamp> {
        self.null.map(whole)
    }

    pub(super) fn set_null(&mut self, null: Option<Stamp>) {
        self.null = null.map(halves);
    }

    pub(super) fn gone(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.gone.iter().copied().map(whole)
    }

    pub(super) fn add_gone(&mut self, stamp: Stamp) {
        self.gone.push(halves(stamp));
    }

    /// Whoever reads the history while this is written has to begin anew.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch = self.turn.clone();
    }

    /// Whether what the history holds of `version` is there.
    pub(super) fn keeps(&self, version: Version) -> bool {
        if version.null {
            return self.null() == Some(version.stamp);
        }
        self.newest().is_some_and(|newest| version.stamp <= newest) && self.gone().all(|gone| gone != version.stamp)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct PartEntry {
    #[n(0)]
    number: u16,
    #[n(1)]
    size: u64,
    #[n(2)]
    checksum: Option<StoredChecksum>,
}

/// What a write makes of an object.
#[derive(Debug, Clone)]
pub(super) struct NewObject {
    pub(super) nonce: Stamp,
    pub(super) size: u64,
    pub(super) etag: ETag,
    /// With the checksum.
    pub(super) attributes: ObjectAttributes,
    /// Empty unless a multipart upload made it.
    pub(super) parts: Vec<ObjectPart>,
    pub(super) upload_id: Option<UploadId>,
}

impl Record {
    pub(super) fn new(bucket: &BucketName, key: &Key, new: &NewObject) -> Self {
        Self {
            nonce: new.nonce.to_string().into(),
            size: new.size,
            etag: new.etag.as_str().into(),
            checksum: new.attributes.checksum.as_ref().map(StoredChecksum::from),
            parts_count: (!new.parts.is_empty()).then(|| u16::try_from(new.parts.len()).unwrap_or(u16::MAX)),
            upload_id: new.upload_id.as_ref().map(|id| id.as_str().into()),
            rest: Some(Rest::from(&new.attributes)),
            key: Some(key.as_str().into()),
            bucket: Some(bucket.as_str().into()),
            modified: None,
            blobs: Vec::new(),
            parts: new.parts.iter().map(PartEntry::from).collect(),
            has_side: false,
            version: None,
            kind_code: None,
            keeping: None,
        }
    }

    /// A record without bytes.
    pub(super) fn of_kind(kind: Kind, nonce: Stamp, bucket: &BucketName, key: &Key, modified: Timestamp) -> Self {
        Self {
            nonce: nonce.to_string().into(),
            size: 0,
            etag: "".into(),
            checksum: None,
            parts_count: None,
            upload_id: None,
            rest: None,
            key: Some(key.as_str().into()),
            bucket: Some(bucket.as_str().into()),
            modified: Some(modified.unix_nanos()),
            blobs: Vec::new(),
            parts: Vec::new(),
            has_side: false,
            version: None,
            kind_code: match kind {
                Kind::Object => None,
                Kind::DeleteMarker => Some(1),
                Kind::Nothing => Some(2),
                Kind::Tombstone => Some(3),
            },
            keeping: None,
        }
    }

    /// `None`: of a later version of the gateway.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.kind_code {
            None => Some(Kind::Object),
            Some(1) => Some(Kind::DeleteMarker),
            Some(2) => Some(Kind::Nothing),
            Some(3) => Some(Kind::Tombstone),
            Some(_) => None,
        }
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.version.map(Version::from)
    }

    pub(super) fn modified(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.modified.unwrap_or(0))
    }

    pub(super) fn nonce(&self) -> Option<Stamp> {
        Stamp::parse(&self.nonce)
    }

    /// For the store's metadata, and where that has no room for everything, the bytes of the side object.
    pub(super) fn to_metadata(&self) -> (HashMap<String, String>, Option<Bytes>) {
        let whole = Bytes::from(encode(self));
        let mut short = Self {
            key: None,
            bucket: None,
            has_side: !self.parts.is_empty(),
            parts: Vec::new(),
            ..self.clone()
        };
        let mut text = URL_SAFE_NO_PAD.encode(encode(&short));
        if text.len() > MAX_METADATA {
            short.rest = None;
            short.has_side = true;
            text = URL_SAFE_NO_PAD.encode(encode(&short));
        }
        (
            HashMap::from([(METADATA.to_owned(), text)]),
            short.has_side.then_some(whole),
        )
    }

    /// The record that goes with a store's object. `None` for what something else wrote.
    pub(super) fn of_metadata(meta: &Meta) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(meta.user.get(METADATA)?).ok()?;
        decode::<Self>(&bytes).filter(|record| record.size == meta.size)
    }

    pub(super) fn of_side(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    /// An object of the encoded layout.
    pub(super) fn to_object(&self, inline: &[u8]) -> Bytes {
        let record = encode(self);
        let mut object = BytesMut::with_capacity(MAGIC.len() + 4 + record.len() + inline.len());
        object.put_slice(MAGIC);
        object.put_u32(u32::try_from(record.len()).unwrap_or(u32::MAX));
        object.put_slice(&record);
        object.put_slice(inline);
        object.freeze()
    }

    /// The inverse of [`to_object`](Self::to_object): the record, and the bytes where they follow it. `None` for what
    /// is no object of ours, or damaged.
    pub(super) fn of_object(object: &Bytes) -> Option<(Self, Bytes)> {
        let rest = object.strip_prefix(MAGIC.as_slice())?;
        let (len, rest) = rest.split_at_checked(4)?;
        let len = usize::try_from(u32::from_be_bytes(len.try_into().ok()?)).ok()?;
        let record: Self = decode(rest.get(..len)?)?;
        let inline = object.slice(MAGIC.len() + 4 + len..);
        let in_blobs = || record.blobs.iter().map(|blob| blob.size).sum::<u64>() == record.size;
        let whole = if record.blobs.is_empty() {
            inline.len() as u64 == record.size
        } else {
            inline.is_empty() && in_blobs()
        };
        whole.then_some((record, inline))
    }

    /// `rest` is what the side object has, where this one has none.
    pub(super) fn describe(&self, key: Key, last_modified: Timestamp, rest: Option<Rest>) -> Option<ObjectInfo> {
        let rest = self.rest.clone().or(rest).unwrap_or_default();
        let mut attributes = ObjectAttributes::from(rest);
        attributes.checksum = self.checksum.as_ref().and_then(StoredChecksum::to_checksum);
        Some(ObjectInfo {
            key,
            version_id: None,
            size: self.size,
            etag: self.etag()?,
            last_modified: self.modified.map_or(last_modified, Timestamp::from_unix_nanos),
            attributes,
            parts_count: self.parts_count,
        })
    }

    pub(super) fn etag(&self) -> Option<ETag> {
        ETag::parse(self.etag.clone()).ok()
    }

    pub(super) fn object_parts(&self) -> Vec<ObjectPart> {
        let parts = self.parts.iter().filter_map(|part| {
            Some(ObjectPart {
                part_number: PartNumber::new(part.number).ok()?,
                size: part.size,
                checksum: part.checksum.as_ref().and_then(StoredChecksum::to_checksum),
            })
        });
        parts.collect()
    }
}

impl From<&ObjectPart> for PartEntry {
    fn from(part: &ObjectPart) -> Self {
        Self {
            number: part.part_number.get(),
            size: part.size,
            checksum: part.checksum.as_ref().map(StoredChecksum::from),
        }
    }
}

/// A bucket's record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct BucketRecord {
    /// Which bucket of its name it is.
    #[n(0)]
    pub(super) id: Box<str>,
    #[n(1)]
    owner: Box<str>,
    #[n(2)]
    created: i64,
    #[n(3)]
    acl: u8,
    #[n(4)]
    versioning: Option<u8>,
}

impl BucketRecord {
    pub(super) fn new(id: Stamp, info: &BucketInfo) -> Self {
        Self {
            id: id.to_string().into(),
            owner: info.owner.as_str().into(),
            created: info.created.unix_nanos(),
            acl: acl_code(info.acl),
            versioning: info.versioning.map(versioning_code),
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    pub(super) fn info(&self, bucket: &BucketName) -> Option<BucketInfo> {
        Some(BucketInfo {
            bucket: bucket.clone(),
            owner: AccountId::parse(self.owner.clone()).ok()?,
            created: Timestamp::from_unix_nanos(self.created),
            acl: match self.acl {
                1 => CannedAcl::PublicRead,
                _ => CannedAcl::Private,
            },
            // What is unknown keeps everything.
            versioning: self.versioning.map(|code| match code {
                2 => VersioningStatus::Suspended,
                _ => VersioningStatus::Enabled,
            }),
        })
    }

    pub(super) fn set_acl(&mut self, acl: CannedAcl) {
        self.acl = acl_code(acl);
    }

    pub(super) fn set_versioning(&mut self, status: VersioningStatus) {
        self.versioning = Some(versioning_code(status));
    }
}

/// In the store.
fn versioning_code(status: VersioningStatus) -> u8 {
    match status {
        VersioningStatus::Enabled => 1,
        VersioningStatus::Suspended => 2,
    }
}

/// In the store; what is unknown is private.
fn acl_code(acl: CannedAcl) -> u8 {
    match acl {
        CannedAcl::Private => 0,
        CannedAcl::PublicRead => 1,
    }
}

/// The record of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct UploadRecord {
    #[n(0)]
    pub(super) id: Box<str>,
    #[n(1)]
    pub(super) key: Box<str>,
    #[n(2)]
    pub(super) initiated: i64,
    #[n(3)]
    initiator: Box<str>,
    #[n(4)]
    checksum: Option<(u8, u8)>,
    #[n(5)]
    rest: Rest,
    /// Of the bucket that it was begun in.
    #[n(6)]
    pub(super) bucket_id: Box<str>,
    /// Since when it is no upload any more, and its parts only wait until no write can be under way that uses them.
    #[n(7)]
    pub(super) ended: Option<i64>,
}

impl UploadRecord {
    /// The same, ended then.
    pub(super) fn ended_at(&self, time: Timestamp) -> Self {
        Self {
            ended: Some(time.unix_nanos()),
            ..self.clone()
        }
    }

    pub(super) fn new(upload: &MultipartUpload, attributes: &ObjectAttributes, bucket_id: Box<str>) -> Self {
        Self {
            id: upload.upload_id.as_str().into(),
            key: upload.key.as_str().into(),
            initiated: upload.initiated.unix_nanos(),
            initiator: upload.initiator.as_str().into(),
            checksum: upload.checksum.map(checksum_codes),
            rest: Rest::from(attributes),
            bucket_id,
            ended: None,
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    pub(super) fn info(&self) -> Option<MultipartUpload> {
        Some(MultipartUpload {
            key: Key::parse(self.key.clone()).ok()?,
            upload_id: UploadId::parse(self.id.clone()).ok()?,
            initiated: Timestamp::from_unix_nanos(self.initiated),
            initiator: AccountId::parse(self.initiator.clone()).ok()?,
            checksum: self.declared(),
        })
    }

    pub(super) fn declared(&self) -> Option<(ChecksumAlgorithm, ChecksumType)> {
        self.checksum.and_then(from_checksum_codes)
    }

    pub(super) fn attributes(&self, checksum: Option<Checksum>) -> ObjectAttributes {
        ObjectAttributes {
            checksum,
            ..ObjectAttributes::from(self.rest.clone())
        }
    }
}

/// The record of a part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct PartRecord {
    #[n(0)]
    pub(super) blob: Blob,
    #[cbor(n(1), with = "minicbor::bytes")]
    md5: Vec<u8>,
    #[n(2)]
    checksum: Option<StoredChecksum>,
    #[n(3)]
    modified: i64,
}

impl PartRecord {
    pub(super) fn new(blob: Blob, md5: [u8; 16], checksum: &Checksum, modified: Timestamp) -> Self {
        Self {
            blob,
            md5: md5.to_vec(),
            checksum: Some(StoredChecksum::from(checksum)),
            modified: modified.unix_nanos(),
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    pub(super) fn stored(&self, part_number: PartNumber) -> Option<StoredPart> {
        Some(StoredPart {
            part_number,
            size: self.blob.size,
            md5: self.md5.as_slice().try_into().ok()?,
            checksum: self.checksum.as_ref().and_then(StoredChecksum::to_checksum),
        })
    }

    pub(super) fn modified(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.modified)
    }
}

/// What a blob was written for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Owner {
    #[n(0)]
    pub(super) bucket: Box<str>,
    #[n(1)]
    pub(super) key: Box<str>,
    /// Of a part.
    #[n(2)]
    pub(super) part: Option<(Box<str>, u16)>,
}

impl Owner {
    pub(super) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{BodySummary, ContentHeaders};

    fn record(user: usize, parts: u16) -> Record {
        let summary = BodySummary::of(b"bytes", ChecksumAlgorithm::Sha256);
        let part = |number| ObjectPart {
            part_number: PartNumber::new(number).unwrap(),
            size: 5 << 30,
            checksum: Some(summary.checksum.clone()),
        };
        let new = NewObject {
            nonce: Stamp::new(Timestamp::from_unix_nanos(1), 2),
            size: summary.size,
            etag: ETag::from_md5(summary.md5),
            attributes: ObjectAttributes {
                content: ContentHeaders::default(),
                user_metadata: vec![("name".into(), "x".repeat(user).into())],
                checksum: Some(summary.checksum.clone()),
            },
            parts: (1..=parts).map(part).collect(),
            upload_id: None,
        };
        Record::new(&BucketName::parse("bucket").unwrap(), &Key::parse("key").unwrap(), &new)
    }

    fn meta_of(user: HashMap<String, String>, size: u64) -> Meta {
        Meta {
            size,
            token: None,
            etag: None,
            last_modified: None,
            version: None,
            content: ContentHeaders::default(),
            user,
        }
    }

    #[test]
    fn what_does_not_fit_into_metadata_lies_beside() {
        for (user, parts, beside) in [(10, 0, false), (2000, 0, true), (10, 10_000, true)] {
            let record = record(user, parts);
            let (metadata, side) = record.to_metadata();
            assert!(metadata.values().map(String::len).sum::<usize>() <= MAX_METADATA);
            assert_eq!(side.is_some(), beside, "{user} {parts}");
            let short = Record::of_metadata(&meta_of(metadata.clone(), 5)).unwrap();
            assert_eq!(short.has_side, beside);
            if let Some(side) = side {
                assert_eq!(Record::of_side(&side), Some(record));
            } else {
                assert_eq!(short.rest, record.rest);
            }
            assert_eq!(Record::of_metadata(&meta_of(metadata, 6)), None, "another size");
        }
    }

    #[test]
    fn an_object_is_its_record_and_its_bytes() {
        let record = record(10, 0);
        let object = record.to_object(b"bytes");
        assert_eq!(
            Record::of_object(&object),
            Some((record.clone(), Bytes::from_static(b"bytes")))
        );
        for len in 0..object.len() {
            assert_eq!(Record::of_object(&object.slice(..len)), None, "cut at {len}");
        }
        assert_eq!(Record::of_object(&record.to_object(b"longer than that")), None);
        assert_eq!(Record::of_object(&Bytes::from_static(b"somebody else's")), None);
        // The longest there is.
        assert!((self::record(2000, 10_000).to_object(b"").len() as u64) < MAX_HEADER_BYTES);
    }

    #[test]
    fn a_head_says_what_is_kept() {
        let at = |nanos| Stamp::new(Timestamp::from_unix_nanos(nanos), 7);
        let own = |nanos| Version {
            stamp: at(nanos),
            null: false,
        };
        let null = |nanos| Version {
            stamp: at(nanos),
            null: true,
        };
        let mut keeping = Keeping::after(None, at(100));
        assert!(!keeping.keeps(own(1)) && !keeping.keeps(null(1)));
        keeping.set_newest(Some(at(5)));
        keeping.set_null(Some(at(3)));
        keeping.add_gone(at(4));
        for (version, kept) in [
            (own(5), true),
            (own(4), false),
            (own(2), true),
            (own(6), false),
            (null(3), true),
            (null(2), false),
        ] {
            assert_eq!(keeping.keeps(version), kept, "{version:?}");
        }
        let mut record = record(10, 0);
        record.version = Some(own(9).into());
        record.keeping = Some(keeping.clone());
        let object = record.to_object(b"bytes");
        assert_eq!(Record::of_object(&object).unwrap().0, record);
        assert_eq!(record.version(), Some(own(9)));
        // What is gone is said once; the rest goes on.
        let next = Keeping::after(Some(&keeping), at(101));
        assert!(next.gone().next().is_none() && next.newest() == keeping.newest() && next.null() == keeping.null());
        assert!(next.epoch == keeping.epoch && next.turn != keeping.turn);
    }

    proptest! {
        #[test]
        fn rubbish_is_no_record(bytes: Vec<u8>, text: String) {
            let mut object = MAGIC.to_vec();
            object.extend(&bytes);
            Record::of_object(&object.into());
            Record::of_metadata(&meta_of(HashMap::from([(METADATA.to_owned(), text)]), 1));
            BucketRecord::of_bytes(&bytes);
            UploadRecord::of_bytes(&bytes);
            PartRecord::of_bytes(&bytes);
            Owner::of_bytes(&bytes);
        }
    }
}
