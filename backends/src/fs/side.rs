//! Files beside objects: for what an extended attribute cannot hold, large attributes and the tables of parts, or for all
//! that is known of an object ([`keeping`](super::keeping)). That of an object is never changed; which version it names can
//! be, by another file in its place.
//!
//! A version byte, the length of what leads as four bytes big-endian, then that in CBOR, then the parts, [`PART_LEN`]
//! bytes each, by number. What leads is a [`Rest`] (of length 0: the attribute has it) in a file named by a random id that
//! the object's record holds; the whole record in one that is named by the object.

use std::sync::Arc;

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, OFlags},
};

use super::{
    attributes::{self, Rest, StoredChecksum, VERSION},
    crash::{self, Call},
    dir::{self, Meta},
    error::Error,
    intent::Intent,
    staging, sys,
};
use crate::{MAX_PART_NUMBER, ObjectPart, PartNumber};

/// The most bytes that are read back of what leads.
const MAX_HEAD: usize = 1024 * 1024;
/// Version byte and length.
const SIDE_HEADER: usize = 5;
/// Read at first. Most have no more.
const FIRST: usize = 1024;
/// Number (2), size (8), algorithm (1), type (1), value (32, zeros behind).
const PART_LEN: usize = 44;
/// The most bytes of a whole one.
const MAX_SIDE: usize = SIDE_HEADER + MAX_HEAD + MAX_PART_NUMBER as usize * PART_LEN;

/// A side file, removed again unless it is [kept](Self::keep). Whoever makes it [syncs](Self::to_sync) it.
#[derive(Debug)]
pub(super) struct SideFile {
    dir: Arc<OwnedFd>,
    name: Box<str>,
    file: OwnedFd,
    kept: bool,
    /// Dropped last: tells of this file as long as it may have to go.
    _intent: Option<Intent>,
}

impl SideFile {
    /// `rest` where the attribute does not hold it.
    pub(super) fn write(
        sides: &Arc<OwnedFd>,
        intent: impl FnOnce(&str) -> Option<Intent>,
        rest: Option<&Rest>,
        parts: &[ObjectPart],
    ) -> Result<Self, Error> {
        let name = staging::random_name()?;
        let head = rest.map(attributes::minicbor_bytes).unwrap_or_default();
        let intent = intent(&name);
        Self::create(Arc::clone(sides), &name, intent, &head, parts)
    }

    /// Fails with EXIST where there is one of this name.
    pub(super) fn create(
        dir: Arc<OwnedFd>,
        name: &str,
        intent: Option<Intent>,
        head: &[u8],
        parts: &[ObjectPart],
    ) -> Result<Self, Error> {
        let mut bytes = leading(head);
        bytes.reserve(parts.len() * PART_LEN);
        for part in parts {
            encode_part(part, &mut bytes);
        }
        let file = dir::create_file(&dir, name).map_err(Error::io("could not create a file of attributes"))?;
        let side = Self {
            dir,
            name: name.into(),
            file,
            kept: false,
            _intent: intent,
        };
        dir::write_at(&side.file, &bytes, 0).map_err(Error::io("could not write a file of attributes"))?;
        Ok(side)
    }

    /// What has to be durable before the record that names it is an object's.
    pub(super) fn to_sync(&self) -> [BorrowedFd<'_>; 2] {
        [self.file.as_fd(), self.dir.as_fd()]
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes another head before the table of parts. What has to be synced.
    pub(super) fn set_head(&self, head: &[u8]) -> Result<BorrowedFd<'_>, Error> {
        let bytes = with_head(&self.file, head)?;
        dir::write_at(&self.file, &bytes, 0)
            .and_then(|()| crash::fault(Call::Add))
            .and_then(|()| fs::ftruncate(&self.file, bytes.len() as u64))
            .map_err(Error::io("could not write a file of attributes"))?;
        crash::point();
        Ok(self.file.as_fd())
    }

    /// To be called when the record that names it is an object's.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

/// Puts a file with another head in the place of a side file, in one step; its table of parts stays. `sync` makes a file
/// durable.
pub(super) fn replace_head(
    shelf: &OwnedFd,
    name: &str,
    staging: &OwnedFd,
    head: &[u8],
    sync: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    const FAILED: &str = "could not write a file of attributes";
    let old = dir::resolve(shelf.as_fd(), [name], OFlags::RDONLY).map_err(Error::io(FAILED))?;
    let bytes = with_head(&old, head)?;
    let new = staging::random_name()?;
    let file = dir::create_file(staging, &new).map_err(Error::io(FAILED))?;
    let replaced = dir::write_at(&file, &bytes, 0)
        .map_err(Error::io(FAILED))
        .and_then(|()| sync(file.as_fd()))
        .and_then(|()| {
            crash::fault(Call::Add)
                .and_then(|()| sys::renameat(staging, &new, shelf, name))
                .map_err(Error::io(FAILED))
        });
    match replaced {
        Ok(()) => crash::point(),
        Err(_) => dir::unlink(staging, &new).map_err(Error::io(FAILED))?,
    }
    replaced
}

/// What a side file is with another head.
fn with_head(file: &OwnedFd, head: &[u8]) -> Result<Vec<u8>, Error> {
    let old = dir::read_small(file, MAX_SIDE).map_err(Error::io("could not read attributes"))?;
    let parts = match old.first_chunk::<SIDE_HEADER>() {
        Some(&[VERSION, a, b, c, d]) => old.get(SIDE_HEADER + u32::from_be_bytes([a, b, c, d]) as usize..),
        _ => None,
    };
    let parts = parts.ok_or(Error::Damaged {
        what: "a file of attributes",
    })?;
    let mut bytes = leading(head);
    bytes.extend_from_slice(parts);
    Ok(bytes)
}

/// With what tells its version and length.
fn leading(head: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SIDE_HEADER + head.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(head);
    bytes
}

impl Drop for SideFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = dir::unlink(&self.dir, &self.name)
        {
            tracing::warn!(%error, name = self.name, "could not remove a file of attributes");
        }
    }
}

/// What there is of a side file.
#[derive(Debug)]
pub(super) enum Found {
    /// With what leads.
    Whole(Side, Vec<u8>),
    Damaged,
    Absent,
}

/// What there is of a side file that an attribute names.
#[derive(Debug)]
pub(super) enum Named {
    /// Its table of parts is not looked at.
    Whole(Side),
    Damaged,
    Absent,
}

/// An open side file: it stays readable when its object is replaced.
#[derive(Debug)]
pub(super) struct Side {
    file: OwnedFd,
    parts_at: u64,
    rest: Option<Rest>,
}

impl Side {
    /// Of an id that an attribute names.
    pub(super) fn open(sides: &OwnedFd, id: &str) -> Result<Named, Error> {
        if !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Named::Absent);
        }
        let (mut side, head) = match Self::open_whole(sides, [id])? {
            Found::Whole(side, head) => (side, head),
            Found::Damaged => return Ok(Named::Damaged),
            Found::Absent => return Ok(Named::Absent),
        };
        if !head.is_empty() {
            let Ok(rest) = minicbor::decode(&head) else {
                return Ok(Named::Damaged);
            };
            side.rest = Some(rest);
        }
        Ok(Named::Whole(side))
    }

    /// With what leads, which is not looked at.
    pub(super) fn open_whole<'a>(sides: &OwnedFd, names: impl IntoIterator<Item = &'a str>) -> Result<Found, Error> {
        let Some((file, _)) = dir::look_up(sides.as_fd(), names)
            .map_err(Error::io("could not open a file of attributes"))?
            .into_file()
        else {
            return Ok(Found::Absent);
        };
        let read = |offset, len| dir::read_at(&file, offset, len).map_err(Error::io("could not read attributes"));
        let mut bytes = read(0, FIRST)?;
        let Some(&[VERSION, a, b, c, d]) = bytes.first_chunk::<SIDE_HEADER>() else {
            return Ok(Found::Damaged);
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let end = SIDE_HEADER + len.min(MAX_HEAD);
        if bytes.len() == FIRST && end > FIRST {
            bytes.extend(read(FIRST as u64, end - FIRST)?);
        }
        if len > MAX_HEAD || bytes.len() < end {
            return Ok(Found::Damaged);
        }
        bytes.truncate(end);
        bytes.drain(..SIDE_HEADER);
        let side = Self {
            file,
            parts_at: end as u64,
            rest: None,
        };
        Ok(Found::Whole(side, bytes))
    }

    /// Whether it has a table of so many parts that can be read.
    pub(super) fn has_parts(&self, count: u16) -> Result<bool, Error> {
        match self.parts(0, usize::from(u16::MAX)) {
            Ok(parts) => Ok(parts.len() == usize::from(count)),
            Err(Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn take_rest(&mut self) -> Option<Rest> {
        self.rest.take()
    }

    /// Parts by number, at most `max`, after `marker`.
    pub(super) fn parts(&self, marker: u16, max: usize) -> Result<Vec<ObjectPart>, Error> {
        let size = Meta::of(&self.file).map_err(Error::io("could not read parts"))?.size;
        let count = size.saturating_sub(self.parts_at) / PART_LEN as u64;
        let at = |index: u64, n: usize| {
            dir::read_at(&self.file, self.parts_at + index * PART_LEN as u64, n * PART_LEN)
                .map_err(Error::io("could not read parts"))
        };
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match at(middle, 1)?.as_slice() {
                [a, b, ..] if u16::from_be_bytes([*a, *b]) > marker => high = middle,
                _ => low = middle + 1,
            }
        }
        let wanted = usize::try_from(count - low).unwrap_or(usize::MAX).min(max);
        let bytes = at(low, wanted)?;
        let parts: Option<Vec<_>> = bytes.chunks_exact(PART_LEN).map(decode_part).collect();
        parts.filter(|parts| parts.len() == wanted).ok_or(Error::Damaged {
            what: "a table of parts",
        })
    }
}

fn encode_part(part: &ObjectPart, out: &mut Vec<u8>) {
    out.extend_from_slice(&part.part_number.get().to_be_bytes());
    out.extend_from_slice(&part.size.to_be_bytes());
    let stored = part.checksum.as_ref().map(StoredChecksum::from);
    let mut value = [0; 32];
    if let Some(stored) = &stored {
        let len = stored.value.len().min(value.len());
        value[..len].copy_from_slice(&stored.value[..len]);
    }
    out.push(stored.as_ref().map_or(0, |stored| stored.algorithm));
    out.push(stored.as_ref().map_or(0, |stored| stored.kind));
    out.extend_from_slice(&value);
}

fn decode_part(bytes: &[u8]) -> Option<ObjectPart> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (&[code, kind], value) = rest.split_first_chunk::<2>()?;
    let checksum = match code {
        0 => None,
        code => {
            let len = attributes::algorithm(code)?.digest_len();
            let stored = StoredChecksum {
                algorithm: code,
                kind,
                value: value.get(..len)?.to_vec(),
                parts: None,
            };
            Some(stored.to_checksum()?)
        }
    };
    Some(ObjectPart {
        part_number: PartNumber::new(u16::from_be_bytes(*number)).ok()?,
        size: u64::from_be_bytes(*size),
        checksum,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Checksum, ChecksumAlgorithm};

    proptest! {
        #[test]
        fn rubbish_in_a_table_is_no_part(bytes: Vec<u8>) {
            let _part = decode_part(&bytes);
        }

        #[test]
        fn parts_round_trip(number in 1_u16..=10_000, size: u64, sum in proptest::option::of(0_usize..5)) {
            let checksum = sum.map(|index| {
                let algorithm = ChecksumAlgorithm::ALL[index];
                Checksum::full_object(algorithm, vec![7; algorithm.digest_len()])
            });
            let part = ObjectPart { part_number: PartNumber::new(number).unwrap(), size, checksum };
            let mut bytes = Vec::new();
            encode_part(&part, &mut bytes);
            prop_assert_eq!(bytes.len(), PART_LEN);
            prop_assert_eq!(decode_part(&bytes), Some(part));
        }
    }
}
