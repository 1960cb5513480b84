//! Multipart uploads: a directory `.t2/uploads/BUCKET/ID` with the record `upload` and the parts: most in place in one
//! file ([`slots`]), some as a file `part.N`, which then is the part.
//!
//! An upload comes and goes as a whole: its directory is renamed into place when it is created and renamed away when it
//! is completed or aborted. Writers of parts hold its lock shared for their steps, Complete and Abort hold it
//! exclusively, so that no part arrives where nobody looks for it any more.

mod slots;

use std::{
    collections::{BTreeMap, HashMap},
    sync::PoisonError,
};

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, Mode, OFlags, XattrFlags},
    io::Errno,
};

pub(super) use self::slots::{Placed, Slot, receive};
use super::{
    Store,
    attributes::{self, NewObject, Record, Rest, StoredChecksum},
    bucket::Bucket,
    dir::{self, Meta},
    error::Error,
    locks::UploadLock,
    staging::{self, Staged},
};
use crate::{
    AccountId, BackendError, BodySummary, BucketName, CompleteMultipartUpload, CreateMultipartUpload, ETag, Key,
    ListParts, MultipartUpload, ObjectAttributes, ObjectInfo, ObjectPart, Part, PartNumber, PartPage, StoredPart,
    Timestamp, UploadId, UploadRef, assemble,
};

/// The record of an upload in its directory.
const UPLOAD: &str = "upload";
const PART_PREFIX: &str = "part.";
/// On the file of a part. Apart from the attributes of objects, so that a part can become one without losing it.
const PART_ATTRIBUTE: &str = "user.t2gate.part";
/// The most bytes that a record has.
const MAX_RECORD: usize = 1024 * 1024;

#[derive(Debug, Encode, Decode)]
struct UploadRecord {
    #[n(0)]
    key: Box<str>,
    #[n(1)]
    initiator: Box<str>,
    /// Nanoseconds.
    #[n(2)]
    initiated: i64,
    /// Algorithm and type.
    #[n(3)]
    checksum: Option<(u8, u8)>,
    #[n(4)]
    rest: Rest,
}

impl UploadRecord {
    fn to_upload(&self, upload_id: UploadId) -> Option<MultipartUpload> {
        Some(MultipartUpload {
            key: Key::parse(self.key.clone()).ok()?,
            upload_id,
            initiated: Timestamp::from_unix_nanos(self.initiated),
            initiator: AccountId::parse(self.initiator.clone()).ok()?,
            checksum: match self.checksum {
                Some(codes) => Some(attributes::from_checksum_codes(codes)?),
                None => None,
            },
        })
    }
}

#[derive(Debug, Encode, Decode)]
struct PartRecord {
    #[n(0)]
    size: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    md5: [u8; 16],
    #[n(2)]
    checksum: Option<StoredChecksum>,
}

impl PartRecord {
    fn load(file: &OwnedFd) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(1024);
        fs::fgetxattr(file, PART_ATTRIBUTE, rustix::buffer::spare_capacity(&mut bytes))
            .map_err(Error::io("could not read a part's record"))?;
        attributes::decode(&bytes).ok_or(Error::Damaged {
            what: "a part's record",
        })
    }
}

/// An upload that is there.
pub(super) struct Upload {
    dir: OwnedFd,
    record: UploadRecord,
    pub(super) info: MultipartUpload,
}

impl Store {
    pub(super) fn create_multipart_upload(
        &self,
        bucket: &Bucket,
        request: CreateMultipartUpload,
    ) -> Result<UploadId, Error> {
        const FAILED: &str = "could not create an upload";
        self.durable.check_writable()?;
        let id = UploadId::random()?;
        let record = UploadRecord {
            key: request.key.as_str().into(),
            initiator: request.initiator.as_str().into(),
            initiated: self.clock.now().unix_nanos(),
            checksum: request.checksum.map(attributes::checksum_codes),
            rest: Rest::from(&request.attributes),
        };
        let prepared = Prepared::create(self).map_err(Error::io(FAILED))?;
        let file = dir::create_file(&prepared.dir, UPLOAD).map_err(Error::io(FAILED))?;
        dir::write_at(&file, &attributes::encode(&record), 0).map_err(Error::io(FAILED))?;
        self.durable.before(&file)?;
        self.durable.before(&prepared.dir)?;

        let uploads = {
            let _alive = bucket.enter()?;
            let uploads = match fs::mkdirat(&self.uploads, bucket.name.as_str(), Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    self.durable.before(&self.uploads)?;
                    self.uploads_of(&bucket.name)
                }
                Err(Errno::EXIST) => self.uploads_of(&bucket.name),
                Err(error) => Err(error),
            }
            .map_err(Error::io(FAILED))?;
            prepared.rename(&uploads, id.as_str()).map_err(Error::io(FAILED))?;
            uploads
        };
        self.durable.after(uploads)?;
        Ok(id)
    }

    pub(super) fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, Error> {
        Ok(self.open_upload(upload)?.info)
    }

    /// Makes a complete staging file a part.
    pub(super) fn put_part(
        &self,
        bucket: &Bucket,
        upload: &UploadRef,
        part_number: PartNumber,
        staged: Staged,
        summary: BodySummary,
    ) -> Result<Part, Error> {
        let meta = Meta::of(staged.file()).map_err(Error::io("could not look at a new part"))?;
        let record = PartRecord {
            size: summary.size,
            md5: summary.md5,
            checksum: Some(StoredChecksum::from(&summary.checksum)),
        };
        fs::fsetxattr(
            staged.file(),
            PART_ATTRIBUTE,
            &attributes::encode(&record),
            XattrFlags::empty(),
        )
        .map_err(Error::io("could not write a part's record"))?;
        self.durable.before(staged.file())?;
        let lock = self.upload_locks.of(&upload.upload_id);
        let dir = {
            let _shared = lock.under_way()?;
            let _alive = bucket.enter()?;
            let there = self.open_upload(upload)?;
            staged
                .rename(&there.dir, &part_name(part_number))
                .map_err(Error::io("could not put a part in its place"))?;
            there.dir
        };
        staged.moved();
        self.durable.after(&dir)?;
        self.free_slots(&dir, &lock, part_number);
        Ok(Part {
            part_number,
            size: summary.size,
            etag: ETag::from_md5(summary.md5),
            last_modified: meta.last_modified(),
            checksum: Some(summary.checksum),
        })
    }

    /// Begins to take in a part: `Some` if that is to be written in place.
    pub(super) fn begin_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        length: u64,
    ) -> Result<Option<Slot>, Error> {
        self.durable.check_writable()?;
        let lock = self.upload_locks.of(&upload.upload_id);
        let _shared = lock.under_way()?;
        let there = self.open_upload(upload)?;
        Slot::claim(&there.dir, &lock, &self.durable, part_number, length)
    }

    /// Ends a part that was written in place.
    pub(super) fn finish_part(&self, bucket: &Bucket, upload: &UploadRef, placed: Placed) -> Result<Part, Error> {
        let (slot, summary) = placed.finish()?;
        slot.sync(&summary, &self.durable)?;
        let last_modified = self.clock.now();
        let table = {
            let _shared = slot.lock().under_way()?;
            let _alive = bucket.enter()?;
            self.open_upload(upload)?;
            slot.commit(&summary, last_modified)?
        };
        self.durable.after(table)?;
        Ok(Part {
            part_number: slot.number(),
            size: summary.size,
            etag: ETag::from_md5(summary.md5),
            last_modified,
            checksum: Some(summary.checksum),
        })
    }

    pub(super) fn complete_multipart_upload(
        &self,
        bucket: &Bucket,
        request: &CompleteMultipartUpload,
    ) -> Result<ObjectInfo, Error> {
        self.durable.check_writable()?;
        let lock = self.upload_locks.of(&request.upload.upload_id);
        let mut ended = lock.ended.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = self.completed(bucket, &request.upload)? {
            // Where a crash came between the object and the end of its upload.
            *ended = true;
            self.drop_upload(&request.upload)?;
            return Ok(done);
        }
        let upload = self.open_upload(&request.upload)?;
        let stored = stored_parts(&upload.dir, request)?;
        let assembled = assemble(request, upload.info.checksum, |number| {
            stored.get(&number).map(|stored| stored.part.clone())
        })
        .map_err(BackendError::from)?;
        let staged = match self.take_in_place(&upload.dir, &lock, &assembled.parts, &stored)? {
            Some(staged) => staged,
            None => {
                let staged = Staged::create(self)?;
                let mut offset = 0;
                for part in &assembled.parts {
                    copy_part(&upload.dir, part, &stored, &staged, offset)?;
                    offset += part.size;
                }
                staged
            }
        };
        let new = NewObject {
            etag: assembled.etag,
            attributes: ObjectAttributes {
                checksum: assembled.checksum,
                ..upload.record.rest.into()
            },
            parts: assembled.parts,
            upload_id: Some(request.upload.upload_id.clone()),
        };
        let key = request.upload.key.clone();
        let published = self.publish(bucket, key, &request.condition, staged, new);
        // Once the object may be there, no writer of a part comes near it any more.
        *ended = matches!(published, Ok(_) | Err(Error::NotDurable { .. }));
        let info = published?;
        self.drop_upload(&request.upload)?;
        Ok(info)
    }

    pub(super) fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), Error> {
        self.durable.check_writable()?;
        let lock = self.upload_locks.of(&upload.upload_id);
        let mut ended = lock.ended.write().unwrap_or_else(PoisonError::into_inner);
        self.open_upload(upload)?;
        *ended = true;
        self.drop_upload(upload)
    }

    pub(super) fn list_parts(&self, request: &ListParts) -> Result<PartPage, Error> {
        let upload = self.open_upload(&request.upload)?;
        let mut listed = places(&upload.dir, request.part_number_marker)?;
        let is_truncated = request.max_parts > 0 && listed.len() > request.max_parts;
        let mut parts = Vec::with_capacity(listed.len().min(request.max_parts));
        while parts.len() < request.max_parts
            && let Some((number, place)) = listed.pop_first()
        {
            let stored = match Stored::load(&upload.dir, number, place) {
                // Completed or aborted meanwhile.
                Err(Error::Io {
                    source: Errno::NOENT, ..
                }) => return Err(BackendError::NoSuchUpload.into()),
                outcome => outcome?,
            };
            parts.push(Part {
                part_number: number,
                size: stored.part.size,
                etag: ETag::from_md5(stored.part.md5),
                last_modified: stored.modified,
                checksum: stored.part.checksum,
            });
        }
        Ok(PartPage {
            upload: upload.info,
            parts,
            is_truncated,
        })
    }

    /// The object, if it is the one that this upload made.
    fn completed(&self, bucket: &Bucket, upload: &UploadRef) -> Result<Option<ObjectInfo>, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let Some((file, meta)) = self.find(bucket, bucket_dir.as_fd(), &upload.key)? else {
            return Ok(None);
        };
        let made_so = Record::load(&file, &meta)?
            .is_some_and(|record| record.upload_id.as_deref() == Some(upload.upload_id.as_str()));
        drop(file);
        if !made_so {
            return Ok(None);
        }
        match self.open_object(bucket, upload.key.clone()) {
            Ok(object) => Ok(Some(object.info)),
            Err(Error::Answer(BackendError::NoSuchKey)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The parts as they lie in one file, which becomes a staging file too, without copying more than what came again.
    /// `None` where they do not lie so, or where the file system has no second names.
    fn take_in_place(
        &self,
        dir: &OwnedFd,
        lock: &UploadLock,
        parts: &[ObjectPart],
        stored: &HashMap<PartNumber, Stored>,
    ) -> Result<Option<Staged>, Error> {
        const FAILED: &str = "could not take the parts together";
        let place = |part: &ObjectPart| stored.get(&part.part_number).map(|stored| stored.place);
        let Some((last, full)) = parts.split_last() else {
            return Ok(None);
        };
        if full.is_empty() && place(last) == Some(Place::Own) {
            let name = part_name(last.part_number);
            let file = dir::resolve(dir.as_fd(), [name.as_str()], OFlags::RDWR).map_err(Error::io(FAILED))?;
            return self.take(dir, &name, file);
        }
        // Of the files for parts of a size the one that has most of them.
        let mut held: BTreeMap<u64, u64> = BTreeMap::new();
        for part in parts {
            if let Some(Place::Slot(size)) = place(part) {
                *held.entry(size).or_default() += part.size;
            }
        }
        let Some((&size, _)) = held.iter().max_by_key(|(_, held)| **held) else {
            return Ok(None);
        };
        let number = last.part_number;
        let one_behind_the_other = parts.iter().zip(1..).all(|(part, n)| part.part_number.get() == n);
        let in_steps = full.iter().all(|part| part.size == size);
        // What comes after the last is cut off, and must not be anybody's: the object may yet be refused.
        let nothing_behind = !lock.claims().iter().any(|claim| claim.0 == size && claim.1 > number)
            && slots::records(dir, size, number.get())
                .map_err(Error::io(FAILED))?
                .is_empty();
        if !(one_behind_the_other && in_steps && nothing_behind) {
            return Ok(None);
        }
        let Some(file) = slots::open_data(dir, size).map_err(Error::io(FAILED))? else {
            return Ok(None);
        };
        let Some(staged) = self.take(dir, &slots::data_name(size), file)? else {
            return Ok(None);
        };
        for part in parts {
            if place(part) != Some(Place::Slot(size)) {
                // What was in this place does not count since the part came again.
                copy_part(dir, part, stored, &staged, slots::offset(size, part.part_number))?;
            }
        }
        let len = slots::offset(size, number).saturating_add(last.size);
        fs::ftruncate(staged.file(), len).map_err(Error::io(FAILED))?;
        // The object is new, however old its parts are.
        let now = fs::Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_NOW,
        };
        let times = fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        fs::futimens(staged.file(), &times).map_err(Error::io(FAILED))?;
        Ok(Some(staged))
    }

    /// A file of an upload's as a staging file. Not one that has another name still: what has that must not change.
    fn take(&self, dir: &OwnedFd, name: &str, file: OwnedFd) -> Result<Option<Staged>, Error> {
        let stat = fs::fstat(&file).map_err(Error::io("could not look at parts"))?;
        if stat.st_nlink != 1 {
            return Ok(None);
        }
        match Staged::link(self, dir, name, file) {
            Ok(staged) => Ok(Some(staged)),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => Ok(None),
            Err(error) => Err(Error::io("could not take parts")(error)),
        }
    }

    fn open_upload(&self, upload: &UploadRef) -> Result<Upload, Error> {
        let uploads = match self.uploads_of(&upload.bucket) {
            Err(Errno::NOENT) => return Err(BackendError::NoSuchUpload.into()),
            outcome => outcome.map_err(Error::io("could not open the uploads"))?,
        };
        let found = load_upload(&uploads, &upload.upload_id)?;
        if found.info.key != upload.key {
            return Err(BackendError::NoSuchUpload.into());
        }
        Ok(found)
    }

    /// Ends an upload: it is gone at once, durably, then its parts are. That it is not there is no error.
    fn drop_upload(&self, upload: &UploadRef) -> Result<(), Error> {
        let failed = || Error::io("could not remove an upload");
        let uploads = match self.uploads_of(&upload.bucket) {
            Err(Errno::NOENT) => return Ok(()),
            outcome => outcome.map_err(failed())?,
        };
        let away = staging::random_name()?;
        match fs::renameat(&uploads, upload.upload_id.as_str(), &self.staging, &away) {
            Err(Errno::NOENT) => return Ok(()),
            outcome => outcome.map_err(failed())?,
        }
        self.durable.after(&uploads)?;
        if let Err(error) = dir::remove_tree(self.staging.as_fd(), &away, 2) {
            tracing::warn!(%error, "parts of an ended upload stay in staging until the next start");
        }
        Ok(())
    }

    /// The directory of a bucket's uploads. Not there before the first.
    pub(super) fn uploads_of(&self, bucket: &BucketName) -> Result<OwnedFd, Errno> {
        dir::resolve_dir(self.uploads.as_fd(), [bucket.as_str()])
    }
}

/// A directory in staging, removed when this is dropped before it was renamed.
struct Prepared<'a> {
    store: &'a Store,
    name: String,
    dir: OwnedFd,
    renamed: bool,
}

impl<'a> Prepared<'a> {
    fn create(store: &'a Store) -> Result<Self, Errno> {
        let name = staging::random_name().map_err(|_| Errno::IO)?;
        fs::mkdirat(&store.staging, &name, Mode::from_raw_mode(0o700))?;
        let dir = dir::resolve_dir(store.staging.as_fd(), [name.as_str()])?;
        Ok(Self {
            store,
            name,
            dir,
            renamed: false,
        })
    }

    fn rename(mut self, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        fs::renameat(&self.store.staging, &self.name, dir, name)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        if let Err(error) = dir::remove_tree(self.store.staging.as_fd(), &self.name, 1) {
            tracing::warn!(%error, "could not remove an upload that was not created");
        }
    }
}

fn part_name(number: PartNumber) -> String {
    format!("{PART_PREFIX}{number}")
}

fn open_part(dir: &OwnedFd, number: PartNumber) -> Result<OwnedFd, Error> {
    dir::resolve(dir.as_fd(), [part_name(number).as_str()], OFlags::RDONLY).map_err(Error::io("could not open a part"))
}

/// Reads the record of an upload in the directory of its bucket's.
pub(super) fn load_upload(uploads: &OwnedFd, id: &UploadId) -> Result<Upload, Error> {
    let open = || -> Result<_, Errno> {
        let dir = dir::resolve_dir(uploads.as_fd(), [id.as_str()])?;
        let file = dir::resolve(dir.as_fd(), [UPLOAD], OFlags::RDONLY)?;
        Ok((dir, dir::read_small(file, MAX_RECORD)?))
    };
    let (dir, bytes) = match open() {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(BackendError::NoSuchUpload.into()),
        outcome => outcome.map_err(Error::io("could not read an upload's record"))?,
    };
    const DAMAGED: Error = Error::Damaged {
        what: "an upload's record",
    };
    let record: UploadRecord = attributes::decode(&bytes).ok_or(DAMAGED)?;
    let info = record.to_upload(id.clone()).ok_or(DAMAGED)?;
    Ok(Upload { dir, record, info })
}

/// Where a part lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a file of its own.
    Own,
    /// In the file for parts of this size.
    Slot(u64),
}

/// A part that is there.
#[derive(Debug)]
struct Stored {
    part: StoredPart,
    modified: Timestamp,
    place: Place,
}

impl Stored {
    fn load(dir: &OwnedFd, number: PartNumber, found: Option<(u64, slots::Record)>) -> Result<Self, Error> {
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
fn places(dir: &OwnedFd, marker: u16) -> Result<BTreeMap<PartNumber, Option<(u64, slots::Record)>>, Error> {
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
fn stored_parts(dir: &OwnedFd, request: &CompleteMultipartUpload) -> Result<HashMap<PartNumber, Stored>, Error> {
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
fn copy_part(
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
