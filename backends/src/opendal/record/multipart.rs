//! The records of a multipart upload and of its parts.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::{
    AccountId, Checksum, ChecksumAlgorithm, ChecksumType, Key, MultipartUpload, ObjectAttributes, PartNumber,
    StoredPart, Timestamp, UploadId,
    opendal::blob::Blob,
    stored::{Rest, StoredChecksum, checksum_codes, decode, encode, from_checksum_codes},
};

/// The record of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(in crate::opendal) struct UploadRecord {
    #[n(0)]
    pub(in crate::opendal) id: Box<str>,
    #[n(1)]
    pub(in crate::opendal) key: Box<str>,
    #[n(2)]
    pub(in crate::opendal) initiated: i64,
    #[n(3)]
    initiator: Box<str>,
    #[n(4)]
    checksum: Option<(u8, u8)>,
    #[n(5)]
    rest: Rest,
    /// Of the bucket that it was begun in.
    #[n(6)]
    pub(in crate::opendal) bucket_id: Box<str>,
    /// Since when it is no upload any more, and its parts only wait until no write can be under way that uses them.
    #[n(7)]
    pub(in crate::opendal) ended: Option<i64>,
}

impl UploadRecord {
    /// The same, ended then.
    pub(in crate::opendal) fn ended_at(&self, time: Timestamp) -> Self {
        Self {
            ended: Some(time.unix_nanos()),
            ..self.clone()
        }
    }

    pub(in crate::opendal) fn new(
        upload: &MultipartUpload,
        attributes: &ObjectAttributes,
        bucket_id: Box<str>,
    ) -> Self {
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

    pub(in crate::opendal) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(in crate::opendal) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    pub(in crate::opendal) fn info(&self) -> Option<MultipartUpload> {
        Some(MultipartUpload {
            key: Key::parse(self.key.clone()).ok()?,
            upload_id: UploadId::parse(self.id.clone()).ok()?,
            initiated: Timestamp::from_unix_nanos(self.initiated),
            initiator: AccountId::parse(self.initiator.clone()).ok()?,
            checksum: self.declared(),
        })
    }

    pub(in crate::opendal) fn declared(&self) -> Option<(ChecksumAlgorithm, ChecksumType)> {
        self.checksum.and_then(from_checksum_codes)
    }

    pub(in crate::opendal) fn attributes(&self, checksum: Option<Checksum>) -> ObjectAttributes {
        ObjectAttributes {
            checksum,
            ..ObjectAttributes::from(self.rest.clone())
        }
    }
}

/// The record of a part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(in crate::opendal) struct PartRecord {
    #[n(0)]
    pub(in crate::opendal) blob: Blob,
    #[cbor(n(1), with = "minicbor::bytes")]
    md5: Vec<u8>,
    #[n(2)]
    checksum: Option<StoredChecksum>,
    #[n(3)]
    modified: i64,
}

impl PartRecord {
    pub(in crate::opendal) fn new(blob: Blob, md5: [u8; 16], checksum: &Checksum, modified: Timestamp) -> Self {
        Self {
            blob,
            md5: md5.to_vec(),
            checksum: Some(StoredChecksum::from(checksum)),
            modified: modified.unix_nanos(),
        }
    }

    pub(in crate::opendal) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(in crate::opendal) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    pub(in crate::opendal) fn stored(&self, part_number: PartNumber) -> Option<StoredPart> {
        Some(StoredPart {
            part_number,
            size: self.blob.size,
            md5: self.md5.as_slice().try_into().ok()?,
            checksum: self.checksum.as_ref().and_then(StoredChecksum::to_checksum),
        })
    }

    pub(in crate::opendal) fn modified(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.modified)
    }
}
