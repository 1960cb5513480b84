//! Multipart uploads: a directory `.t2/uploads/BUCKET/ID` with the record `upload` and a file `part.N` for each part.
//!
//! An upload comes and goes as a whole: its directory is renamed into place when it is created and renamed away when it
//! is completed or aborted. Writers of parts hold its lock shared for their last step, Complete and Abort hold it
//! exclusively, so that no part arrives where nobody looks for it any more.

use std::{collections::HashMap, sync::PoisonError};

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, Mode, OFlags, XattrFlags},
    io::Errno,
};

use super::{
    Store,
    attributes::{self, NewObject, Record, Rest, StoredChecksum},
    bucket::Bucket,
    dir::{self, Meta},
    error::Error,
    staging::{self, Staged},
};
use crate::{
    AccountId, BackendError, BodySummary, BucketName, CompleteMultipartUpload, CreateMultipartUpload, ETag, Key,
    ListParts, MultipartUpload, ObjectAttributes, ObjectInfo, Part, PartNumber, PartPage, StoredPart, Timestamp,
    UploadId, UploadRef, assemble,
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
        let dir = {
            let lock = self.upload_locks.of(&upload.upload_id);
            let _shared = lock.read().unwrap_or_else(PoisonError::into_inner);
            let _alive = bucket.enter()?;
            let there = self.open_upload(upload)?;
            staged
                .rename(&there.dir, &part_name(part_number))
                .map_err(Error::io("could not put a part in its place"))?;
            there.dir
        };
        staged.moved();
        self.durable.after(dir)?;
        Ok(Part {
            part_number,
            size: summary.size,
            etag: ETag::from_md5(summary.md5),
            last_modified: meta.last_modified(),
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
        let _exclusive = lock.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = self.completed(bucket, &request.upload)? {
            // Where a crash came between the object and the end of its upload.
            self.drop_upload(&request.upload)?;
            return Ok(done);
        }
        let upload = self.open_upload(&request.upload)?;
        let stored = stored_parts(&upload.dir, request)?;
        let assembled = assemble(request, upload.info.checksum, |number| stored.get(&number).cloned())
            .map_err(BackendError::from)?;
        let staged = match assembled.parts.as_slice() {
            [only] => self.take_part(&upload.dir, only.part_number)?,
            _ => None,
        };
        let staged = match staged {
            Some(staged) => staged,
            None => {
                let staged = Staged::create(self)?;
                let mut offset = 0;
                for part in &assembled.parts {
                    let file = open_part(&upload.dir, part.part_number)?;
                    let copied = dir::copy_range(&file, staged.file(), offset, part.size)
                        .map_err(Error::io("could not join parts"))?;
                    if copied != part.size {
                        return Err(Error::Damaged { what: "a part" });
                    }
                    offset += copied;
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
        let info = self.publish(bucket, key, &request.condition, staged, new)?;
        self.drop_upload(&request.upload)?;
        Ok(info)
    }

    pub(super) fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), Error> {
        self.durable.check_writable()?;
        let lock = self.upload_locks.of(&upload.upload_id);
        let _exclusive = lock.write().unwrap_or_else(PoisonError::into_inner);
        self.open_upload(upload)?;
        self.drop_upload(upload)
    }

    pub(super) fn list_parts(&self, request: &ListParts) -> Result<PartPage, Error> {
        let upload = self.open_upload(&request.upload)?;
        let mut numbers: Vec<PartNumber> = dir::names(&upload.dir)
            .map_err(Error::io("could not list parts"))?
            .iter()
            .filter_map(|name| PartNumber::parse(name.strip_prefix(PART_PREFIX)?).ok())
            .filter(|number| number.get() > request.part_number_marker)
            .collect();
        numbers.sort_unstable();
        let is_truncated = request.max_parts > 0 && numbers.len() > request.max_parts;
        numbers.truncate(request.max_parts);
        let mut parts = Vec::with_capacity(numbers.len());
        for part_number in numbers {
            let file = match open_part(&upload.dir, part_number) {
                // Completed or aborted meanwhile.
                Err(Error::Io {
                    source: Errno::NOENT, ..
                }) => return Err(BackendError::NoSuchUpload.into()),
                outcome => outcome?,
            };
            let record = PartRecord::load(&file)?;
            let meta = Meta::of(&file).map_err(Error::io("could not look at a part"))?;
            parts.push(Part {
                part_number,
                size: record.size,
                etag: ETag::from_md5(record.md5),
                last_modified: meta.last_modified(),
                checksum: record.checksum.as_ref().and_then(StoredChecksum::to_checksum),
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

    /// The one part as a staging file, without copying. `None` where the file system has no second names.
    fn take_part(&self, dir: &OwnedFd, number: PartNumber) -> Result<Option<Staged>, Error> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW;
        let file = dir::resolve(dir.as_fd(), [part_name(number).as_str()], flags)
            .map_err(Error::io("could not open a part"))?;
        match Staged::link(self, dir, &part_name(number), file) {
            Ok(staged) => Ok(Some(staged)),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => Ok(None),
            Err(error) => Err(Error::io("could not take a part")(error)),
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

/// Those of the named parts that are there.
fn stored_parts(dir: &OwnedFd, request: &CompleteMultipartUpload) -> Result<HashMap<PartNumber, StoredPart>, Error> {
    let mut parts = HashMap::with_capacity(request.parts.len());
    for named in &request.parts {
        let part_number = named.part_number;
        let file = match open_part(dir, part_number) {
            Err(Error::Io {
                source: Errno::NOENT, ..
            }) => continue,
            outcome => outcome?,
        };
        let record = PartRecord::load(&file)?;
        let part = StoredPart {
            part_number,
            size: record.size,
            md5: record.md5,
            checksum: record.checksum.as_ref().and_then(StoredChecksum::to_checksum),
        };
        parts.insert(part_number, part);
    }
    Ok(parts)
}
