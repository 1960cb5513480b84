//! The parts that there are, and where.

use std::collections::{BTreeMap, HashMap};

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, OFlags, XattrFlags},
};

use super::slots;
use crate::{
    BodySummary, CompleteMultipartUpload, ObjectPart, PartNumber, StoredPart, Timestamp,
    fs::{
        attributes::{self, StoredChecksum},
        dir::{self, Meta},
        error::Error,
        staging::Staged,
    },
};

const PART_PREFIX: &str = "part.";
/// On the file of a part. Apart from the attributes of objects, so that a part can become one without losing it.
const PART_ATTRIBUTE: &str = "user.t2gate.part";

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
    pub(super) fn load(dir: &OwnedFd, number: PartNumber, found: Option<(u64, slots::Record)>) -> Result<Self, Error> {
        if let Some((size, record)) = found {
            return Ok(Self {
                part: record.part,
                modified: record.modified,
                place: Place::Slot(size),
            });
        }
        let file = open_part(dir, number)?;
        let record = PartRecord::load(&file)?;
        let meta = Meta::of(&file).map_err(Error::io("could not look at a part"))?;
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
) -> Result<HashMap<PartNumber, Stored>, Error> {
    let mut places = places(dir, 0)?;
    let mut parts = HashMap::with_capacity(request.parts.len());
    for named in &request.parts {
        if let Some(place) = places.remove(&named.part_number) {
            parts.insert(named.part_number, Stored::load(dir, named.part_number, place)?);
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
pub(super) struct PartRecord {
    #[n(0)]
    size: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    md5: [u8; 16],
    #[n(2)]
    checksum: Option<StoredChecksum>,
}

impl PartRecord {
    /// Says of a complete staging file that it is a part.
    pub(super) fn store(file: &OwnedFd, summary: &BodySummary) -> Result<(), Error> {
        let record = Self {
            size: summary.size,
            md5: summary.md5,
            checksum: Some(StoredChecksum::from(&summary.checksum)),
        };
        fs::fsetxattr(file, PART_ATTRIBUTE, &attributes::encode(&record), XattrFlags::empty())
            .map_err(Error::io("could not write a part's record"))
    }

    fn load(file: &OwnedFd) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(1024);
        fs::fgetxattr(file, PART_ATTRIBUTE, rustix::buffer::spare_capacity(&mut bytes))
            .map_err(Error::io("could not read a part's record"))?;
        attributes::decode(&bytes).ok_or(Error::Damaged {
            what: "a part's record",
        })
    }
}

pub(super) fn part_name(number: PartNumber) -> String {
    format!("{PART_PREFIX}{number}")
}

fn open_part(dir: &OwnedFd, number: PartNumber) -> Result<OwnedFd, Error> {
    dir::resolve(dir.as_fd(), [part_name(number).as_str()], OFlags::RDONLY).map_err(Error::io("could not open a part"))
}
