//! The record of a bucket.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::{
    AccountId, BucketInfo, BucketName, CannedAcl, Stamp, Timestamp, VersioningStatus,
    stored::{decode, encode},
};

/// A bucket's record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(in crate::opendal) struct BucketRecord {
    /// Which bucket of its name it is.
    #[n(0)]
    pub(in crate::opendal) id: Box<str>,
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
    pub(in crate::opendal) fn new(id: Stamp, info: &BucketInfo) -> Self {
        Self {
            id: id.to_string().into(),
            owner: info.owner.as_str().into(),
            created: info.created.unix_nanos(),
            acl: acl_code(info.acl),
            versioning: info.versioning.map(versioning_code),
        }
    }

    pub(in crate::opendal) fn to_bytes(&self) -> Bytes {
        encode(self).into()
    }

    pub(in crate::opendal) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }

    pub(in crate::opendal) fn info(&self, bucket: &BucketName) -> Option<BucketInfo> {
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

    pub(in crate::opendal) fn set_acl(&mut self, acl: CannedAcl) {
        self.acl = acl_code(acl);
    }

    pub(in crate::opendal) fn set_versioning(&mut self, status: VersioningStatus) {
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
