//! Parts written in place: each where it will be in the object, in one file `data.SIZE`, part N from (N-1)·SIZE on. To
//! complete such an upload is to give that file the object's name.
//!
//! - SIZE is the announced length of the first part to come. One that is shorter is taken for the last and written in
//!   its place too; for a longer one there is a second such file, in case the first part to come was the last.
//! - A part is there when `slots.SIZE` says so, a table of [`RECORD`] bytes for each part, written when the data is
//!   durable.
//! - A place is written to once. While a part is written it is claimed; a part that is there already, or that is just
//!   coming, comes again into a file of its own, `part.N`. That one counts from then on.
//! - Every write is made under the upload's lock, shared, and not after the upload has ended: a writer that was held up
//!   somewhere and goes on when the object is there does not reach it. Nor does a later one: no place is given in a file
//!   that has another name as well.

use std::sync::Arc;

use bytes::Bytes;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, FallocateFlags, OFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::turn::{Claim, Stand};
use crate::{
    BackendError, BodyEvent, BodySummary, MAX_PART_NUMBER, ObjectBody, PartNumber, StoredPart, Timestamp, UploadRef,
    fs::{
        Store,
        attributes::{self, StoredChecksum},
        blocking,
        crash::{self, Call},
        dir::{self, Meta},
        durable::Durable,
        error::Error,
        locks::UploadLock,
        staging::{PIECE, Piece, close_later, drop_blocking},
    },
};

const DATA_PREFIX: &str = "data.";
const TABLE_PREFIX: &str = "slots.";
/// One for the parts, and one for a last part that came first.
const MAX_FILES: usize = 2;
/// No file is made longer than this, in bytes: file systems have limits, 16 TiB with ext4.
const MAX_LENGTH: u64 = 8 << 40;
/// Bytes of a record in a table: version (1), algorithm and type of the checksum (2), number (2), size (8), MD5 (16),
/// checksum (32), time in nanoseconds (8), zeros, and of a SHA-256 of all that the first bytes (8).
const RECORD: usize = 128;
const SEALED: usize = RECORD - 8;
const VERSION: u8 = 1;

/// The sizes for which an upload has a file, from the names in its directory.
pub(super) fn sizes(names: &[Box<str>]) -> Vec<u64> {
    let size = |name: &str| {
        let size: u64 = name.strip_prefix(TABLE_PREFIX)?.parse().ok()?;
        (size > 0).then_some(size)
    };
    names.iter().filter_map(|name| size(name)).collect()
}

pub(super) fn data_name(size: u64) -> String {
    format!("{DATA_PREFIX}{size}")
}

fn table_name(size: u64) -> String {
    format!("{TABLE_PREFIX}{size}")
}

/// Where part `number` begins.
pub(super) fn offset(size: u64, number: PartNumber) -> u64 {
    size.saturating_mul(u64::from(number.get()) - 1)
}

/// The file for parts of `size` bytes, if nothing but the upload has it.
pub(super) fn open_data(dir: &OwnedFd, size: u64) -> Result<Option<OwnedFd>, Errno> {
    let data = dir::resolve(dir.as_fd(), [data_name(size).as_str()], OFlags::RDWR)?;
    Ok((Meta::brief(&data)?.nlink == 1).then_some(data))
}

/// A place that is ours to write to, until this is dropped.
#[derive(Debug)]
pub(in crate::fs) struct Slot {
    lock: Arc<UploadLock>,
    /// Among other processes, if there are any; the claim is given back first.
    _claim: Option<Claim>,
    stand: Option<Stand>,
    data: OwnedFd,
    table: OwnedFd,
    size: u64,
    number: PartNumber,
    /// Bytes announced, and written.
    length: u64,
    written: u64,
}

impl Slot {
    /// Claims the place of a part. `None` where it has to come into a file of its own. To be called with the lock
    /// shared.
    pub(super) fn claim(
        dir: &OwnedFd,
        lock: &Arc<UploadLock>,
        stand: Option<Stand>,
        durable: &Durable,
        number: PartNumber,
        length: u64,
    ) -> Result<Option<Self>, Error> {
        const FAILED: &str = "could not open the place of a part";
        // One at a time: a file is made once.
        let mut claims = lock.claims();
        let _others = stand.as_ref().map(Stand::claims).transpose()?;
        let names = dir::names(dir).map_err(Error::io(FAILED))?;
        if length == 0 || names.iter().any(|name| **name == *super::stored::part_name(number)) {
            return Ok(None);
        }
        let sizes = sizes(&names);
        // The smallest that it fits in.
        let size = match sizes.iter().copied().filter(|size| *size >= length).min() {
            Some(size) => size,
            None if sizes.len() < MAX_FILES => length,
            None => return Ok(None),
        };
        let is_claimed = claims.iter().any(|(_, claimed)| *claimed == number);
        if is_claimed || offset(size, number).saturating_add(size) > MAX_LENGTH {
            return Ok(None);
        }
        for size in &sizes {
            if record(dir, *size, number).map_err(Error::io(FAILED))?.is_some() {
                return Ok(None);
            }
        }
        if !sizes.contains(&size) {
            // The table last: it is by this that a file counts.
            for name in [data_name(size), table_name(size)] {
                match dir::create_file(dir, &name) {
                    Ok(_) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(Error::io(FAILED)(error)),
                }
            }
        }
        // Whoever made them may not have come to this.
        let mut named = lock.named();
        if !named.contains(&size) {
            durable.before(dir)?;
            named.insert(size);
        }
        drop(named);
        let Some(data) = open_data(dir, size).map_err(Error::io(FAILED))? else {
            return Ok(None);
        };
        let table = dir::resolve(dir.as_fd(), [table_name(size).as_str()], OFlags::RDWR).map_err(Error::io(FAILED))?;
        let claim = match &stand {
            Some(stand) => match stand.claim(number)? {
                None => return Ok(None),
                claim => claim,
            },
            None => None,
        };
        claims.insert((size, number));
        Ok(Some(Self {
            lock: Arc::clone(lock),
            _claim: claim,
            stand,
            data,
            table,
            size,
            number,
            length,
            written: 0,
        }))
    }

    /// Appends to what is written.
    fn write(&mut self, slices: &[Bytes]) -> Result<(), Error> {
        let len: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let came = self.written.saturating_add(len);
        // Behind it is the next part.
        if came > self.length {
            return Err(Error::Length {
                announced: self.length,
                came,
            });
        }
        let _shared = self.lock.under_way()?;
        let stand = self.stand.as_ref();
        let _others = stand
            .map(|stand| stand.under_way(&data_name(self.size), &self.data))
            .transpose()?;
        dir::write_slices_at(&self.data, slices, offset(self.size, self.number) + self.written)
            .map_err(Error::io("could not write data"))?;
        self.written = came;
        Ok(())
    }

    /// Makes the data durable, after its end.
    pub(super) fn sync(&self, summary: &BodySummary, durable: &Durable) -> Result<(), Error> {
        if self.written != summary.size {
            return Err(Error::Length {
                announced: summary.size,
                came: self.written,
            });
        }
        durable.before(&self.data)
    }

    /// Says that the part is there, which is durable when the table that this returns is synced. To be called with
    /// the lock shared, and after the upload was seen to be there.
    pub(super) fn commit(&self, summary: &BodySummary, modified: Timestamp) -> Result<&OwnedFd, Error> {
        let record = Record {
            part: StoredPart {
                part_number: self.number,
                size: summary.size,
                md5: summary.md5,
                checksum: Some(summary.checksum.clone()),
            },
            modified,
        };
        dir::write_at(&self.table, &record.encode(), record_offset(self.number))
            .map_err(Error::io("could not record a part"))?;
        Ok(&self.table)
    }

    pub(super) fn lock(&self) -> &Arc<UploadLock> {
        &self.lock
    }

    pub(super) fn number(&self) -> PartNumber {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lock.claims().remove(&(self.size, self.number));
    }
}

/// Takes a body into its place, a piece being written while the next one comes. What is less than a piece is left for
/// [`Placed::finish`], so that a small part is one trip to a thread that may block.
pub(in crate::fs) async fn receive(slot: Slot, mut body: ObjectBody) -> Result<Placed, BackendError> {
    let mut held = Held {
        slot: Some(slot),
        writing: None,
    };
    let mut piece = Piece::default();
    loop {
        match body.next().await {
            Ok(BodyEvent::Data(bytes)) => piece.push(bytes),
            Ok(BodyEvent::End(summary)) => {
                let slot = held.free().await?;
                let rest = piece.into_slices();
                return Ok(Placed { slot, rest, summary });
            }
            Err(error) => {
                // So that the place is free when we answer.
                drop_blocking(held.free().await).await;
                return Err(error.into());
            }
        }
        if piece.len() >= PIECE {
            let mut slot = held.free().await?;
            let slices = std::mem::take(&mut piece).into_slices();
            held.writing = Some(tokio::task::spawn_blocking(move || {
                slot.write(&slices)?;
                Ok(slot)
            }));
        }
    }
}

/// A slot at rest, or one that is being written to.
struct Held {
    slot: Option<Slot>,
    writing: Option<JoinHandle<Result<Slot, Error>>>,
}

impl Held {
    /// The slot, when nothing is written to it.
    async fn free(&mut self) -> Result<Slot, BackendError> {
        match (self.slot.take(), self.writing.take()) {
            (_, Some(writing)) => blocking(writing).await,
            (Some(slot), None) => Ok(slot),
            (None, None) => Err(BackendError::NoSuchUpload),
        }
    }
}

impl Drop for Held {
    /// Where nobody waits for the end: to give a place back one may have to wait for whoever claims another.
    fn drop(&mut self) {
        let left = (self.slot.take(), self.writing.take());
        if left.0.is_some() || left.1.is_some() {
            close_later(left);
        }
    }
}

/// A body that has come to its good end, but for what is still in memory.
#[derive(Debug)]
pub(in crate::fs) struct Placed {
    slot: Slot,
    rest: Vec<Bytes>,
    summary: BodySummary,
}

impl Placed {
    /// Writes what is not written yet.
    pub(in crate::fs) fn finish(mut self) -> Result<(Slot, BodySummary), Error> {
        self.slot.write(&self.rest)?;
        Ok((self.slot, self.summary))
    }
}

/// What a table says of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) part: StoredPart,
    pub(super) modified: Timestamp,
}

fn record_offset(number: PartNumber) -> u64 {
    (u64::from(number.get()) - 1) * RECORD as u64
}

/// What there is of a part in the file for `size`.
fn record(dir: &OwnedFd, size: u64, number: PartNumber) -> Result<Option<Record>, Errno> {
    let table = dir::resolve(dir.as_fd(), [table_name(size).as_str()], OFlags::RDONLY)?;
    Ok(Record::decode(&dir::read_at(&table, record_offset(number), RECORD)?))
}

/// The parts that lie in the file for `size`, those after `marker`.
pub(super) fn records(dir: &OwnedFd, size: u64, marker: u16) -> Result<Vec<Record>, Errno> {
    let table = dir::resolve(dir.as_fd(), [table_name(size).as_str()], OFlags::RDONLY)?;
    let len = usize::from(MAX_PART_NUMBER.saturating_sub(marker)) * RECORD;
    let bytes = dir::read_at(&table, u64::from(marker) * RECORD as u64, len)?;
    Ok(bytes.chunks_exact(RECORD).filter_map(Record::decode).collect())
}

impl Record {
    fn encode(&self) -> [u8; RECORD] {
        let checksum = self.part.checksum.as_ref().map(StoredChecksum::from);
        let (algorithm, kind) = checksum.as_ref().map_or((0, 0), |sum| (sum.algorithm, sum.kind));
        let mut value = [0; 32];
        if let Some(checksum) = &checksum {
            let len = checksum.value.len().min(value.len());
            value[..len].copy_from_slice(&checksum.value[..len]);
        }
        let mut bytes = vec![VERSION, algorithm, kind];
        bytes.extend(self.part.part_number.get().to_be_bytes());
        bytes.extend(self.part.size.to_be_bytes());
        bytes.extend(self.part.md5);
        bytes.extend(value);
        bytes.extend(self.modified.unix_nanos().to_be_bytes());
        let mut record = [0; RECORD];
        record[..bytes.len()].copy_from_slice(&bytes);
        let seal = Sha256::digest(&record[..SEALED]);
        record[SEALED..].copy_from_slice(&seal[..RECORD - SEALED]);
        record
    }

    /// `None` where no part is, and for what a crash has left half written.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let record: &[u8; RECORD] = bytes.try_into().ok()?;
        let seal = Sha256::digest(&record[..SEALED]);
        if record[0] != VERSION || record[SEALED..] != seal[..RECORD - SEALED] {
            return None;
        }
        let (&[_, algorithm, kind], rest) = record.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (md5, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk::<32>()?;
        let (modified, _) = rest.split_first_chunk()?;
        let checksum = match algorithm {
            0 => None,
            algorithm => {
                let len = attributes::algorithm(algorithm)?.digest_len();
                let stored = StoredChecksum {
                    algorithm,
                    kind,
                    value: value.get(..len)?.to_vec(),
                    parts: None,
                };
                Some(stored.to_checksum()?)
            }
        };
        Some(Self {
            part: StoredPart {
                part_number: PartNumber::new(u16::from_be_bytes(*number)).ok()?,
                size: u64::from_be_bytes(*size),
                md5: *md5,
                checksum,
            },
            modified: Timestamp::from_unix_nanos(i64::from_be_bytes(*modified)),
        })
    }
}

impl Store {
    /// Gives back the room of a part that lies in a file of its own now, durably.
    pub(super) fn free_slots(&self, upload: &UploadRef, dir: &OwnedFd, lock: &UploadLock, number: PartNumber) {
        // The room of what has ended is not its own any more.
        let Ok(_shared) = self.under_way(lock, upload) else {
            return;
        };
        let free = || -> Result<(), Errno> {
            for size in sizes(&dir::names(dir)?) {
                let Some(record) = record(dir, size, number)? else {
                    continue;
                };
                if let Some(data) = open_data(dir, size)? {
                    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    crash::fault(Call::Add)?;
                    fs::fallocate(data, flags, offset(size, number), record.part.size)?;
                    crash::point();
                }
            }
            Ok(())
        };
        if let Err(error) = free() {
            tracing::debug!(%error, "the room of a part that came again is not free until its upload ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Checksum, ChecksumAlgorithm};

    proptest! {
        #[test]
        fn rubbish_in_a_table_is_no_part(bytes in proptest::collection::vec(any::<u8>(), RECORD)) {
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        #[test]
        fn records_round_trip_and_half_of_one_is_none(
            number in 1_u16..=10_000,
            size: u64,
            md5: [u8; 16],
            nanos: i64,
            sum in proptest::option::of(0_usize..5),
            cut in 0..RECORD,
        ) {
            let checksum = sum.map(|index| {
                let algorithm = ChecksumAlgorithm::ALL[index];
                Checksum::full_object(algorithm, vec![7; algorithm.digest_len()])
            });
            let part_number = PartNumber::new(number).unwrap();
            let record = Record {
                part: StoredPart { part_number, size, md5, checksum },
                modified: Timestamp::from_unix_nanos(nanos),
            };
            let whole = record.encode();
            prop_assert_eq!(Record::decode(&whole), Some(record));
            let mut bytes = whole;
            bytes[cut..].fill(0);
            prop_assert!(bytes == whole || Record::decode(&bytes).is_none());
        }
    }
}
