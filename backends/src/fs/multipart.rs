//! Multipart uploads: a directory `.t2/uploads/BUCKET/ID` with the record `upload` and the parts: most in place in one
//! file ([`slots`]), some as a file `part.N`, which then is the part.
//!
//! An upload comes and goes as a whole: its directory is renamed into place when it is created and renamed away when it
//! is completed or aborted. Writers of parts hold its lock shared for their steps, Complete and Abort hold it
//! exclusively ([`turn`]), so that no part arrives where nobody looks for it any more.

mod complete;
mod slots;
mod stored;
mod turn;

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::OFlags,
    io::Errno,
};

use self::stored::{RecordFile, Replaced, Stored, part_name, places};
pub(super) use self::{
    slots::{Placed, Slot, receive},
    stored::PartRecord,
    turn::claimed,
};
use super::{
    Store,
    attributes::{self, Rest},
    bucket::Bucket,
    crash::{self, Call},
    dir::{self, Meta},
    durable::Spot,
    error::Error,
    keeping::Keeping,
    staging::{self, Staged},
    sys,
};
use crate::{
    AccountId, BackendError, BodySummary, BucketName, CreateMultipartUpload, ETag, Key, ListParts, MultipartUpload,
    Part, PartNumber, PartPage, Timestamp, UploadId, UploadRef,
};

/// The record of an upload in its directory.
const UPLOAD: &str = "upload";
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

/// An upload that is there.
pub(super) struct Upload {
    pub(super) dir: OwnedFd,
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
        if self.peers.is_some() {
            // So that later their making is no change that an upload's age is told from.
            turn::open_gated(&prepared.dir).map_err(Error::io(FAILED))?;
        }
        self.durable.before(&file)?;
        self.durable.before(&prepared.dir)?;

        let uploads = {
            let _alive = self.enter(bucket)?;
            let made = crash::fault(Call::Add).and_then(|()| sys::mkdirat(&*self.uploads, bucket.name.as_str(), 0o700));
            let uploads = match made {
                Ok(()) | Err(Errno::EXIST) => self.uploads_of(&bucket.name),
                Err(error) => Err(error),
            }
            .map_err(Error::io(FAILED))?;
            prepared.rename(&uploads, id.as_str()).map_err(Error::io(FAILED))?;
            uploads
        };
        // The directory may be as new, whoever made it.
        self.durable.after_spots(
            &[],
            &[Spot {
                base: self.uploads.as_fd(),
                names: &[bucket.name.as_str().into()],
                dir: &uploads,
            }],
        )?;
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
        let lock = self.upload_locks.of(&upload.upload_id);
        let beside = match self.attributes.keeping {
            Keeping::Extended => {
                PartRecord::store(staged.file(), &summary)?;
                None
            }
            Keeping::SideFiles => {
                let _shared = self.under_way(&lock, upload)?;
                let there = self.open_upload(upload)?;
                Some(RecordFile::create(there.dir, part_number, &meta, &summary)?)
            }
        };
        let mut new_files = vec![staged.file().as_fd()];
        new_files.extend(beside.iter().flat_map(RecordFile::to_sync));
        self.durable.before_all(&new_files)?;
        let (dir, replaced) = {
            let _shared = self.under_way(&lock, upload)?;
            let _alive = self.enter(bucket)?;
            let there = self.open_upload(upload)?;
            let replaced = beside.as_ref().and_then(|_| Replaced::of(&there.dir, part_number));
            staged
                .rename(&there.dir, &part_name(part_number))
                .map_err(Error::io("could not put a part in its place"))?;
            (there.dir, replaced)
        };
        staged.moved();
        if let Some(record) = beside {
            record.keep();
        }
        self.durable.after(&dir)?;
        if let Some(replaced) = replaced {
            replaced.remove_record(&dir);
        }
        self.free_slots(upload, &dir, &lock, part_number);
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
        let _shared = self.under_way(&lock, upload)?;
        let there = self.open_upload(upload)?;
        let stand = self.stand(upload, &there.dir)?;
        Slot::claim(&there.dir, &lock, stand, &self.durable, part_number, length)
    }

    /// Ends a part that was written in place.
    pub(super) fn finish_part(&self, bucket: &Bucket, upload: &UploadRef, placed: Placed) -> Result<Part, Error> {
        let (slot, summary) = placed.finish()?;
        slot.sync(&summary, &self.durable)?;
        let last_modified = self.clock.now();
        let table = {
            let _shared = self.under_way(slot.lock(), upload)?;
            let _alive = self.enter(bucket)?;
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

    pub(super) fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), Error> {
        self.durable.check_writable()?;
        let lock = self.upload_locks.of(&upload.upload_id);
        let mut alone = self.alone(&lock, upload)?;
        self.open_upload(upload)?;
        let dropped = self.drop_upload(upload);
        // One that could not be ended goes on.
        *alone.ended = matches!(dropped, Ok(()) | Err(Error::NotDurable { .. }));
        dropped
    }

    pub(super) fn list_parts(&self, request: &ListParts) -> Result<PartPage, Error> {
        let upload = self.open_upload(&request.upload)?;
        let mut listed = places(&upload.dir, request.part_number_marker)?;
        let is_truncated = request.max_parts > 0 && listed.len() > request.max_parts;
        let mut parts = Vec::with_capacity(listed.len().min(request.max_parts));
        while parts.len() < request.max_parts
            && let Some((number, place)) = listed.pop_first()
        {
            let stored = match Stored::load(&upload.dir, number, place, self.attributes.keeping) {
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

    pub(super) fn open_upload(&self, upload: &UploadRef) -> Result<Upload, Error> {
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
    pub(super) fn drop_upload(&self, upload: &UploadRef) -> Result<(), Error> {
        let failed = || Error::io("could not remove an upload");
        let uploads = match self.uploads_of(&upload.bucket) {
            Err(Errno::NOENT) => return Ok(()),
            outcome => outcome.map_err(failed())?,
        };
        let away = staging::random_name()?;
        let renamed = crash::fault(Call::Add)
            .and_then(|()| sys::renameat(&uploads, upload.upload_id.as_str(), &self.staging, &away));
        match renamed {
            Err(Errno::NOENT) => return Ok(()),
            outcome => outcome.map_err(failed())?,
        }
        crash::point();
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
        crash::fault(Call::Add)?;
        sys::mkdirat(&store.staging, &name, 0o700)?;
        crash::point();
        let dir = match dir::resolve_dir(store.staging.as_fd(), [name.as_str()]) {
            Ok(dir) => dir,
            Err(error) => {
                dir::remove_tree(store.staging.as_fd(), &name, 1)?;
                return Err(error);
            }
        };
        Ok(Self {
            store,
            name,
            dir,
            renamed: false,
        })
    }

    fn rename(mut self, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        crash::fault(Call::Add)?;
        sys::renameat(&self.store.staging, &self.name, dir, name)?;
        crash::point();
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

/// Reads the record of an upload in the directory of its bucket's.
pub(super) fn load_upload(uploads: &OwnedFd, id: &UploadId) -> Result<Upload, Error> {
    // Ours have no such letters, and not everywhere is that another name.
    if id.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(BackendError::NoSuchUpload.into());
    }
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
