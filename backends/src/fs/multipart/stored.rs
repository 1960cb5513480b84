//! The parts that there are, and where.

use std::collections::{BTreeMap, HashMap};

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::OFlags,
    io::Errno,
};

use super::slots;
use crate::{
    BodySummary, CompleteMultipartUpload, ObjectPart, PartNumber, StoredPart, Timestamp,
    fs::{
        attributes::{self, StoredChecksum},
        crash::{self, Call},
        dir::{self, Meta},
        error::Error,
        keeping::Keeping,
        staging::Staged,
        xattr,
    },
};

const PART_PREFIX: &str = "part.";
/// Where a part's file cannot hold its record: `record.N.INODE`, by the number of the part and of its file.
const RECORD_PREFIX: &str = "record.";
/// The most bytes of a record.
const MAX_RECORD: usize = 1024;

/// Where a part lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file of its own.
    Own,
    /// In the file for parts of this size.
    Slot(u64),
}

/// A part that is there.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) part: StoredPart,
    pub(super) modified: Timestamp,
    pub(super) place: Place,
}

impl Stored {
    pub(super) fn load(
        dir: &OwnedFd,
        number: PartNumber,
        found: Option<(u64, slots::Record)>,
        records: Keeping,
    ) -> Result<Self, Error> {
        if let Some((size, record)) = found {
            return Ok(Self {
                part: record.part,
                modified: record.modified,
                place: Place::Slot(size),
            });
        }
        let (meta, record) = PartRecord::load(dir, number, records)?;
        Ok(Self {
            part: StoredPart {
                part_number: number,
                size: record.size,
                md5: record.md5,
                checksum: record.checksum.as_ref().and_then(StoredChecksum::to_checksum),
            },
            modified: meta.last_modified(),
            place: Place::Own,
        })
    }
}

/// The parts that there are after `marker`, those in place with what is known of them, and those (`None`) that have a
/// file of their own: these go before.
pub(super) fn places(dir: &OwnedFd, marker: u16) -> Result<BTreeMap<PartNumber, Option<(u64, slots::Record)>>, Error> {
    let failed = || Error::io("could not list parts");
    // Tables first: a part that comes again meanwhile is in one or the other.
    let mut places = BTreeMap::new();
    for size in slots::sizes(&dir::names(dir).map_err(failed())?) {
        let there = slots::records(dir, size, marker).map_err(failed())?;
        places.extend(
            there
                .into_iter()
                .map(|record| (record.part.part_number, Some((size, record)))),
        );
    }
    for name in dir::names(dir).map_err(failed())? {
        let number = name
            .strip_prefix(PART_PREFIX)
            .and_then(|number| PartNumber::parse(number).ok());
        if let Some(number) = number.filter(|number| number.get() > marker) {
            places.insert(number, None);
        }
    }
    Ok(places)
}

/// Those of the named parts that are there.
pub(super) fn stored_parts(
    dir: &OwnedFd,
    request: &CompleteMultipartUpload,
    records: Keeping,
) -> Result<HashMap<PartNumber, Stored>, Error> {
    let mut places = places(dir, 0)?;
    let mut parts = HashMap::with_capacity(request.parts.len());
    for named in &request.parts {
        if let Some(place) = places.remove(&named.part_number) {
            parts.insert(named.part_number, Stored::load(dir, named.part_number, place, records)?);
        }
    }
    Ok(parts)
}

/// Copies a part to where it belongs.
pub(super) fn copy_part(
    dir: &OwnedFd,
    part: &ObjectPart,
    stored: &HashMap<PartNumber, Stored>,
    to: &Staged,
    offset: u64,
) -> Result<(), Error> {
    let number = part.part_number;
    let (file, source) = match stored.get(&number).map(|stored| stored.place) {
        Some(Place::Slot(size)) => {
            let name = slots::data_name(size);
            let file = dir::resolve(dir.as_fd(), [name.as_str()], OFlags::RDONLY)
                .map_err(Error::io("could not open parts"))?;
            (file, slots::offset(size, number))
        }
        _ => (open_part(dir, number)?, 0),
    };
    let copied =
        dir::copy_between(&file, source, to.file(), offset, part.size).map_err(Error::io("could not join parts"))?;
    if copied != part.size {
        return Err(Error::Damaged { what: "a part" });
    }
    Ok(())
}

#[derive(Debug, Encode, Decode)]
pub(in crate::fs) struct PartRecord {
    #[n(0)]
    size: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    md5: [u8; 16],
    #[n(2)]
    checksum: Option<StoredChecksum>,
}

impl PartRecord {
    /// On the file of a part. Apart from the attributes of objects, so that a part can become one without losing it.
    pub(in crate::fs) const ATTRIBUTE: &str = "user.t2gate.part";

    fn of(summary: &BodySummary) -> Self {
        Self {
            size: summary.size,
            md5: summary.md5,
            checksum: Some(StoredChecksum::from(&summary.checksum)),
        }
    }

    /// About the largest, as it is stored.
    pub(in crate::fs) fn largest() -> Vec<u8> {
        attributes::encode(&Self {
            size: u64::MAX,
            md5: [0; 16],
            checksum: Some(StoredChecksum {
                algorithm: u8::MAX,
                kind: u8::MAX,
                value: vec![0; 32],
                parts: Some(u16::MAX),
            }),
        })
    }

    /// Says of a complete staging file that it is a part.
    pub(super) fn store(file: &OwnedFd, summary: &BodySummary) -> Result<(), Error> {
        const FAILED: &str = "could not write a part's record";
        crash::fault(Call::Add).map_err(Error::io(FAILED))?;
        xattr::set(file, Self::ATTRIBUTE, &attributes::encode(&Self::of(summary))).map_err(Error::io(FAILED))?;
        crash::point();
        Ok(())
    }

    /// With what the part's file is.
    fn load(dir: &OwnedFd, number: PartNumber, records: Keeping) -> Result<(Meta, Self), Error> {
        const FAILED: &str = "could not read a part's record";
        /// How often the part may come again while it is looked at.
        const ATTEMPTS: usize = 16;
        const DAMAGED: Error = Error::Damaged {
            what: "a part's record",
        };
        for _ in 0..ATTEMPTS {
            let file = open_part(dir, number)?;
            let meta = Meta::of(&file).map_err(Error::io("could not look at a part"))?;
            let bytes = match records {
                Keeping::Extended => {
                    let mut bytes = Vec::with_capacity(MAX_RECORD);
                    xattr::get(&file, Self::ATTRIBUTE, &mut bytes).map_err(Error::io(FAILED))?;
                    bytes
                }
                Keeping::SideFiles => {
                    match dir::resolve(dir.as_fd(), [record_name(number, &meta).as_str()], OFlags::RDONLY) {
                        Ok(record) => dir::read_small(record, MAX_RECORD).map_err(Error::io(FAILED))?,
                        // The part came again, and this one's record is gone.
                        Err(Errno::NOENT) => continue,
                        Err(error) => return Err(Error::io(FAILED)(error)),
                    }
                }
            };
            return attributes::decode(&bytes).map(|record| (meta, record)).ok_or(DAMAGED);
        }
        Err(DAMAGED)
    }
}

/// The record of a part in a file beside it, bound to it by the number that the part's file has. Removed again unless it
/// is [kept](Self::keep).
#[derive(Debug)]
pub(super) struct RecordFile {
    /// The upload's.
    dir: OwnedFd,
    name: String,
    file: OwnedFd,
    kept: bool,
}

impl RecordFile {
    /// For the staging file that is to be the part.
    pub(super) fn create(
        dir: OwnedFd,
        number: PartNumber,
        staged: &Meta,
        summary: &BodySummary,
    ) -> Result<Self, Error> {
        const FAILED: &str = "could not write a part's record";
        let name = record_name(number, staged);
        // Of a file that had this number before.
        dir::unlink(&dir, &name).map_err(Error::io(FAILED))?;
        let file = dir::create_file(&dir, &name).map_err(Error::io(FAILED))?;
        let record = Self {
            dir,
            name,
            file,
            kept: false,
        };
        dir::write_at(&record.file, &attributes::encode(&PartRecord::of(summary)), 0).map_err(Error::io(FAILED))?;
        Ok(record)
    }

    /// What has to be durable before the part is there.
    pub(super) fn to_sync(&self) -> [BorrowedFd<'_>; 2] {
        [self.file.as_fd(), self.dir.as_fd()]
    }

    /// To be called when the part is there.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = dir::unlink(&self.dir, &self.name)
        {
            tracing::warn!(%error, "the record of a part that did not come to be stays until its upload ends");
        }
    }
}

/// The file of a part that is about to be replaced, held open so that no other file gets its number before
/// its record is [gone](Self::remove_record).
pub(super) struct Replaced {
    number: PartNumber,
    meta: Meta,
    _file: OwnedFd,
}

impl Replaced {
    pub(super) fn of(dir: &OwnedFd, number: PartNumber) -> Option<Self> {
        let file = open_part(dir, number).ok()?;
        let meta = Meta::of(&file).ok()?;
        Some(Self {
            number,
            meta,
            _file: file,
        })
    }

    pub(super) fn remove_record(self, dir: &OwnedFd) {
        if let Err(error) = dir::unlink(dir, &record_name(self.number, &self.meta)) {
            tracing::debug!(%error, "the record of a part that came again stays until its upload ends");
        }
    }
}

fn record_name(number: PartNumber, part: &Meta) -> String {
    format!("{RECORD_PREFIX}{number}.{}", part.ino)
}

pub(super) fn part_name(number: PartNumber) -> String {
    format!("{PART_PREFIX}{number}")
}

fn open_part(dir: &OwnedFd, number: PartNumber) -> Result<OwnedFd, Error> {
    dir::resolve(dir.as_fd(), [part_name(number).as_str()], OFlags::RDONLY).map_err(Error::io("could not open a part"))
}
