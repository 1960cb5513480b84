//! What the gateway writes down: of objects, and below of buckets, uploads and parts.

mod bucket;
mod keeping;
mod multipart;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{BufMut as _, Bytes, BytesMut};
use minicbor::{Decode, Encode};

pub(super) use self::{
    bucket::BucketRecord,
    keeping::{Keeping, StoredVersion},
    multipart::{PartRecord, UploadRecord},
};
use super::{blob::Blob, store::Meta};
use crate::{
    BucketName, ETag, Key, ObjectAttributes, ObjectInfo, ObjectPart, PartNumber, Stamp, Timestamp, UploadId, Version,
    stored::{Rest, StoredChecksum, decode, encode},
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
