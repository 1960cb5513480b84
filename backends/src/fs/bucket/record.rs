//! The record of a bucket, and what is known of it: processes that share a root tell each other of buckets by nothing
//! but these files.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::OFlags,
    io::Errno,
};

use super::Bucket;
use crate::{
    AccountId, BucketInfo, BucketName, Timestamp, VersioningStatus,
    fs::{
        Store, attributes,
        dir::{self, Meta},
        error::Error,
        listing::is_settled,
        staging::Staged,
    },
};

/// The most bytes that a record has.
const MAX_RECORD: usize = 64 * 1024;

/// Which of the buckets that have had the name: what is random in its record, and for records from before that the time.
pub(super) type Identity = (Option<[u8; 16]>, i64);

/// What the record said when it was read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) info: BucketInfo,
    /// Of the record that was read, where another process may write the next.
    pub(super) stamp: Option<Stamp>,
    /// A change time of the record, and since when we know it.
    pub(super) seen: Option<(Time, Instant)>,
}

/// Seconds and nanoseconds.
type Time = (i64, u32);

/// Of a record's file that cannot have changed since without another change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    ino: u64,
    ctime: Time,
}

impl Stamp {
    fn of(meta: &Meta) -> Self {
        Self {
            ino: meta.ino,
            ctime: meta.ctime,
        }
    }
}

#[derive(Debug, Encode, Decode)]
struct Record {
    #[n(0)]
    owner: Box<str>,
    /// Nanoseconds.
    #[n(1)]
    created: i64,
    #[n(2)]
    acl: Box<str>,
    /// `enabled`, `suspended`; nothing where versioning was never on.
    #[n(3)]
    versioning: Option<Box<str>>,
    /// Random. What was written before this was kept has none.
    #[cbor(n(4), with = "minicbor::bytes")]
    identity: Option<[u8; 16]>,
}

impl Record {
    fn of(info: &BucketInfo, identity: Identity) -> Self {
        Self {
            owner: info.owner.as_str().into(),
            created: info.created.unix_nanos(),
            acl: info.acl.as_str().into(),
            versioning: info.versioning.map(|status| match status {
                VersioningStatus::Enabled => "enabled".into(),
                VersioningStatus::Suspended => "suspended".into(),
            }),
            identity: identity.0,
        }
    }

    fn into_info(self, bucket: BucketName) -> Option<(BucketInfo, Identity)> {
        let identity = (self.identity, self.created);
        let info = BucketInfo {
            bucket,
            owner: AccountId::parse(self.owner).ok()?,
            created: Timestamp::from_unix_nanos(self.created),
            acl: self.acl.parse().ok()?,
            versioning: match self.versioning.as_deref() {
                None => None,
                Some("enabled") => Some(VersioningStatus::Enabled),
                Some("suspended") => Some(VersioningStatus::Suspended),
                Some(_) => return None,
            },
        };
        Some((info, identity))
    }
}

/// Reads the record of a bucket.
pub(in crate::fs) fn load(records: &OwnedFd, name: &BucketName) -> Result<(BucketInfo, Identity), Error> {
    let open = || dir::resolve(records.as_fd(), [name.as_str()], OFlags::RDONLY);
    read(&open().map_err(Error::io(UNREADABLE))?, name)
}

const UNREADABLE: &str = "could not read a bucket's record";

fn read(file: &OwnedFd, name: &BucketName) -> Result<(BucketInfo, Identity), Error> {
    let bytes = dir::read_small(file, MAX_RECORD).map_err(Error::io(UNREADABLE))?;
    attributes::decode::<Record>(&bytes)
        .and_then(|record| record.into_info(name.clone()))
        .ok_or(Error::Damaged {
            what: "a bucket's record",
        })
}

impl Store {
    /// The bucket as its record on the disk says, which another process may have written: read, unless it is as it was
    /// and, when it was read, had not just been written.
    pub(super) fn current(&self, name: &BucketName, known: Option<Arc<Bucket>>) -> Result<Option<Arc<Bucket>>, Error> {
        let forget = || {
            if let Some(known) = &known {
                self.forget(known);
            }
            Ok(None)
        };
        let meta = match Meta::in_dir(&self.records, name.as_str()) {
            Err(Errno::NOENT) => return forget(),
            outcome => outcome.map_err(Error::io(UNREADABLE))?,
        };
        let stamp = Stamp::of(&meta);
        let mut seen = None;
        if let Some(bucket) = &known {
            let last = bucket.known();
            if last.stamp == Some(stamp) {
                drop(last);
                return Ok(known);
            }
            seen = last.seen;
        }
        let is_settled = is_settled(meta.ctime, self.has_local_records, &mut seen);
        // Read and remembered under one lock, or whoever is slow would put back what somebody else has read anew.
        let mut table = self.table_mut();
        let file = match dir::resolve(self.records.as_fd(), [name.as_str()], OFlags::RDONLY) {
            Err(Errno::NOENT) => {
                drop(table);
                return forget();
            }
            outcome => outcome.map_err(Error::io(UNREADABLE))?,
        };
        let is_same = Meta::of(&file).map_err(Error::io(UNREADABLE))?;
        let is_same = Stamp::of(&is_same) == stamp;
        let (info, identity) = read(&file, name)?;
        let bucket = match table.get(name) {
            Some(bucket) if bucket.identity == identity => Arc::clone(bucket),
            _ => {
                let bucket = Arc::new(Bucket::new((info.clone(), identity)));
                table.insert(name.clone(), Arc::clone(&bucket));
                bucket
            }
        };
        *bucket.known_mut() = Known {
            info,
            stamp: (is_settled && is_same).then_some(stamp),
            seen,
        };
        Ok(Some(bucket))
    }

    pub(super) fn forget(&self, bucket: &Bucket) {
        let mut table = self.table_mut();
        if table
            .get(&bucket.name)
            .is_some_and(|there| there.identity == bucket.identity)
        {
            table.remove(&bucket.name);
        }
    }

    pub(super) fn table(&self) -> RwLockReadGuard<'_, BTreeMap<BucketName, Arc<Bucket>>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn table_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<BucketName, Arc<Bucket>>> {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_record(&self, info: &BucketInfo, identity: Identity) -> Result<(), Error> {
        let staged = Staged::create(self)?;
        dir::write_at(staged.file(), &attributes::encode(&Record::of(info, identity)), 0)
            .map_err(Error::io("could not write a bucket's record"))?;
        self.durable
            .always(staged.file())
            .map_err(Error::io("could not sync a bucket's record"))?;
        staged
            .rename(&self.records, info.bucket.as_str())
            .map_err(Error::io("could not write a bucket's record"))?;
        staged.moved();
        self.durable.always_after(&self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_before_there_were_identities_is_read() {
        #[derive(Encode)]
        struct Old(#[n(0)] Box<str>, #[n(1)] i64, #[n(2)] Box<str>);
        let bytes = attributes::encode(&Old("owner".into(), 7, "private".into()));
        let record: Record = attributes::decode(&bytes).unwrap();
        let (info, identity) = record.into_info(BucketName::parse("bucket").unwrap()).unwrap();
        assert_eq!((info.owner.as_str(), identity), ("owner", (None, 7)));
        // And what is written now comes back.
        let new = Record::of(&info, (Some([3; 16]), 7));
        let record: Record = attributes::decode(&attributes::encode(&new)).unwrap();
        assert_eq!(record.into_info(info.bucket.clone()), Some((info, (Some([3; 16]), 7))));
    }
}
