//! Completing an upload: the step from parts to an object.

use std::collections::{BTreeMap, HashMap};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, OFlags},
    io::Errno,
};

use super::{
    slots,
    stored::{Place, Stored, copy_part, part_name, stored_parts},
    turn,
};
use crate::{
    BackendError, CompleteMultipartUpload, ObjectAttributes, ObjectInfo, ObjectPart, ObjectRef, PartNumber, UploadRef,
    assemble,
    fs::{Store, attributes::NewObject, bucket::Bucket, dir, error::Error, locks::UploadLock, staging::Staged},
};

impl Store {
    pub(in crate::fs) fn complete_multipart_upload(
        &self,
        bucket: &Bucket,
        request: &CompleteMultipartUpload,
    ) -> Result<ObjectInfo, Error> {
        self.durable.check_writable()?;
        let lock = self.upload_locks.of(&request.upload.upload_id);
        let mut alone = self.alone(&lock, &request.upload)?;
        if let Some(done) = self.completed(bucket, &request.upload)? {
            // Where a crash came between the object and the end of its upload.
            *alone.ended = true;
            self.drop_upload(&request.upload)?;
            return Ok(done);
        }
        let upload = self.open_upload(&request.upload)?;
        let stored = stored_parts(&upload.dir, request, self.attributes.keeping)?;
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
            version: None,
        };
        let key = request.upload.key.clone();
        let published = self.publish(bucket, key, &request.condition, request.versions.as_ref(), staged, new);
        // Once the object may be there, no writer of a part comes near it any more.
        *alone.ended = matches!(published, Ok(_) | Err(Error::NotDurable { .. }));
        let info = published?;
        self.drop_upload(&request.upload)?;
        Ok(info)
    }

    /// The object, if it is the one that this upload made.
    pub(in crate::fs) fn completed(&self, bucket: &Bucket, upload: &UploadRef) -> Result<Option<ObjectInfo>, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let object = ObjectRef {
            bucket: upload.bucket.clone(),
            key: upload.key.clone(),
            version_id: None,
        };
        let opened = match self.open_with_attributes(bucket, &bucket_dir, &object) {
            Ok(opened) => opened,
            Err(Error::Answer(BackendError::NoSuchKey | BackendError::DeleteMarker { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let made_so = opened
            .record
            .as_ref()
            .is_some_and(|record| record.upload_id.as_deref() == Some(upload.upload_id.as_str()));
        Ok(made_so.then(|| opened.into_parts(object.key).0))
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
        let claimed = turn::claimed(dir, lock).map_err(Error::io(FAILED))?;
        let nothing_behind = claimed.last().is_none_or(|claimed| *claimed <= number)
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
}
