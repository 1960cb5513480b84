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
    BackendError, CompleteMultipartUpload, Key, ObjectAttributes, ObjectInfo, ObjectPart, ObjectRef, PartNumber, Stamp,
    UploadRef, VersionId, assemble,
    fs::{
        Store,
        attributes::{NewObject, Record},
        bucket::Bucket,
        crash::{self, Call},
        dir::{self, Meta},
        error::Error,
        keeping::Keeping,
        locks::UploadLock,
        read::Opened,
        staging::Staged,
        xattr,
    },
};

/// Of the directory of an upload whose object may be there: the stamp of the version that was the newest before it, in 16
/// bytes.
const COMPLETING: &str = "user.t2gate.completing";
/// With side files: the name of an empty file in it, which goes on with the stamp.
const COMPLETING_FILE: &str = "completing.";

fn completing(dir: &OwnedFd, keeping: Keeping) -> Result<Option<Stamp>, Error> {
    if keeping == Keeping::SideFiles {
        let names = dir::names(dir).map_err(Error::io("could not look at an upload"))?;
        let mut stamps = names.iter().filter_map(|name| name.strip_prefix(COMPLETING_FILE));
        return Ok(stamps.find_map(Stamp::parse));
    }
    let mut bytes = Vec::with_capacity(16);
    match xattr::get(dir, COMPLETING, &mut bytes) {
        Ok(_) => {}
        Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
        Err(error) => return Err(Error::io("could not look at an upload")(error)),
    }
    let bits = bytes.try_into().map_err(|_| Error::Damaged { what: "an upload" })?;
    Ok(Some(Stamp::from_bits(u128::from_be_bytes(bits))))
}

/// Durable when the directory is synced.
fn note_completing(dir: &OwnedFd, keeping: Keeping, newest: Stamp) -> Result<(), Error> {
    const FAILED: &str = "could not begin to complete an upload";
    match keeping {
        Keeping::Extended => {
            crash::fault(Call::Add)
                .and_then(|()| xattr::set(dir, COMPLETING, &newest.to_bits().to_be_bytes()))
                .map_err(Error::io(FAILED))?;
            crash::point();
        }
        Keeping::SideFiles => {
            dir::create_file(dir, &format!("{COMPLETING_FILE}{newest}")).map_err(Error::io(FAILED))?;
        }
    }
    Ok(())
}

fn forget_completing(dir: &OwnedFd, keeping: Keeping) -> Result<(), Error> {
    const FAILED: &str = "could not take back that an upload is completed";
    match keeping {
        Keeping::Extended => crash::fault(Call::Remove).and_then(|()| xattr::remove(dir, COMPLETING)),
        Keeping::SideFiles => match completing(dir, keeping)? {
            Some(newest) => dir::unlink(dir, &format!("{COMPLETING_FILE}{newest}")),
            None => Ok(()),
        },
    }
    .map_err(Error::io(FAILED))
}

/// Whether an upload is noted as perhaps completed, and by which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Unversioned,
    Before,
    Now,
}

fn made_by(record: &Record, upload: &UploadRef) -> bool {
    record.upload_id.as_deref() == Some(upload.upload_id.as_str())
}

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
            // Where a crash came between the object and the end of its upload: perhaps before the object was durable, whose
            // parts go now.
            self.durable.after_all_that_is_visible(&self.root)?;
            *alone.ended = true;
            self.drop_completed(&request.upload)?;
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
        let begun = self.begin_completing(bucket, &upload.dir, &request.upload.key)?;
        let published = self.publish_with(
            bucket,
            request.upload.key.clone(),
            &request.condition,
            request.versions.as_ref(),
            staged,
            new,
            (begun != Begun::Unversioned).then_some(upload.dir.as_fd()),
        );
        // What is refused has made nothing, and nobody need look for it.
        if begun == Begun::Now
            && matches!(published, Err(Error::Answer(_)))
            && let Err(error) = forget_completing(&upload.dir, self.attributes.keeping)
        {
            tracing::debug!(%error, "an upload stays noted as perhaps completed");
        }
        // Once the object may be there, no writer of a part comes near it any more.
        *alone.ended = matches!(published, Ok(_) | Err(Error::NotDurable { .. }));
        let info = published?;
        self.drop_completed(&request.upload)?;
        Ok(info)
    }

    /// Ends an upload whose object is there, durably. That it may not stay is no reason to say that the object is not there;
    /// that nobody knows whether it is gone for good, is.
    fn drop_completed(&self, upload: &UploadRef) -> Result<(), Error> {
        match self.drop_upload(upload) {
            Err(error @ Error::NotDurable { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, upload = upload.upload_id.as_str(), "a completed upload stays until it is swept");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The object, if it is the one that this upload made; or the version, where another write has displaced that since.
    pub(in crate::fs) fn completed(&self, bucket: &Bucket, upload: &UploadRef) -> Result<Option<ObjectInfo>, Error> {
        let bucket_dir = self.bucket_dir(bucket)?;
        let mut object = ObjectRef {
            bucket: upload.bucket.clone(),
            key: upload.key.clone(),
            version_id: None,
        };
        let mut opened = self.open_with_attributes(bucket, &bucket_dir, &object);
        let is_it = |opened: &Opened| opened.record.as_ref().is_some_and(|record| made_by(record, upload));
        if !opened.as_ref().is_ok_and(is_it)
            && let Some(id) = self.completed_version(bucket, &bucket_dir, upload)?
        {
            object.version_id = Some(id);
            opened = self.open_with_attributes(bucket, &bucket_dir, &object);
        }
        match opened {
            Ok(opened) => Ok(is_it(&opened).then(|| opened.into_parts(object.key).0)),
            Err(Error::Answer(
                BackendError::NoSuchKey | BackendError::NoSuchVersion | BackendError::DeleteMarker { .. },
            )) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes in the directory of an upload, where there are versions, that its object may be there from now on, and behind
    /// which version.
    fn begin_completing(&self, bucket: &Bucket, upload: &OwnedFd, key: &Key) -> Result<Begun, Error> {
        if bucket.versioning().is_none() {
            return Ok(Begun::Unversioned);
        }
        // An attempt before this one may have come to its end.
        if completing(upload, self.attributes.keeping)?.is_some() {
            return Ok(Begun::Before);
        }
        let bucket_dir = self.bucket_dir(bucket)?;
        let newest = {
            let _alive = self.enter(bucket)?;
            let _guard = self.keys.lock(&bucket.name, key.as_str())?;
            let name = self.name_of(&bucket_dir, key.as_str())?;
            let versions = self.key_versions(bucket, bucket_dir.as_fd(), key, &name)?;
            let kept = versions.newest.map(|kept| kept.version);
            kept.into_iter()
                .chain(versions.current_version())
                .map(|version| version.stamp)
                .max()
        };
        let newest = newest.unwrap_or(Stamp::from_bits(0));
        note_completing(upload, self.attributes.keeping, newest)?;
        Ok(Begun::Now)
    }

    /// The version that an upload has made that is still there, where that is not current any more.
    fn completed_version(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        upload: &UploadRef,
    ) -> Result<Option<VersionId>, Error> {
        let there = match self.open_upload(upload) {
            Err(Error::Answer(BackendError::NoSuchUpload)) => return Ok(None),
            outcome => outcome?,
        };
        let Some(behind) = completing(&there.dir, self.attributes.keeping)? else {
            return Ok(None);
        };
        let _alive = self.enter(bucket)?;
        let _guard = self.keys.lock(&bucket.name, upload.key.as_str())?;
        let name = self.name_of(bucket_dir, upload.key.as_str())?;
        let versions = self.key_versions(bucket, bucket_dir.as_fd(), &upload.key, &name)?;
        let Some(history) = &versions.history else {
            return Ok(None);
        };
        for kept in versions.all_kept(self, None) {
            let kept = kept?;
            if kept.version.stamp <= behind {
                break;
            }
            if !kept.marker
                && let Some((file, meta)) = history.open_file(kept)?
                && let Some(record) = self.recorded(bucket, &upload.key, (&file, &meta), Some(kept))?.record
                && made_by(&record, upload)
            {
                return Ok(Some(kept.version.id()));
            }
        }
        Ok(None)
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
            let staged = self.take(dir, &name, file)?;
            if let Some(staged) = &staged {
                make_new(staged)?;
            }
            return Ok(staged);
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
        crash::fault(Call::Add)
            .and_then(|()| fs::ftruncate(staged.file(), len))
            .map_err(Error::io(FAILED))?;
        crash::point();
        make_new(&staged)?;
        Ok(Some(staged))
    }

    /// A file of an upload's as a staging file. Not one that has another name still: what has that must not change.
    fn take(&self, dir: &OwnedFd, name: &str, file: OwnedFd) -> Result<Option<Staged>, Error> {
        let meta = Meta::brief(&file).map_err(Error::io("could not look at parts"))?;
        if meta.nlink != 1 {
            return Ok(None);
        }
        match Staged::link(self, dir, name, file) {
            Ok(staged) => Ok(Some(staged)),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => Ok(None),
            Err(error) => Err(Error::io("could not take parts")(error)),
        }
    }
}

/// The object is new, however old its parts are.
fn make_new(staged: &Staged) -> Result<(), Error> {
    let now = fs::Timespec {
        tv_sec: 0,
        tv_nsec: fs::UTIME_NOW,
    };
    let times = fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    crash::fault(Call::Add)
        .and_then(|()| fs::futimens(staged.file(), &times))
        .map_err(Error::io("could not take the parts together"))?;
    crash::point();
    Ok(())
}
