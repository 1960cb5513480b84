//! Deleting a version for good. If it was the newest, the next one comes back.

use rustix::fd::{AsFd, OwnedFd};

use super::{Deleted, Deletion, Step, uncover::Projected};
use crate::{
    BucketName, DeleteObjectOutcome,
    fs::{
        Store,
        attributes::{self, Record},
        bucket::Bucket,
        dir::{self, Meta},
        error::Error,
        object::{DisplacedSide, split, strs},
        versions::KeyVersions,
    },
};

impl Store {
    pub(super) fn delete_by_id(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        deletion: &mut Deletion<'_>,
    ) -> Result<Step, Error> {
        let (key, request) = (deletion.key, deletion.request);
        let Some(id) = &request.object.version_id else {
            return Ok(Step::Again);
        };
        if deletion.make_directories {
            self.name_again(bucket_dir, deletion)?;
            if self.parent_of(bucket_dir, &deletion.name)?.is_none()
                && self
                    .make_directories(bucket, bucket_dir, key, &deletion.name.plain)?
                    .is_none()
            {
                return Ok(Step::Again);
            }
        }
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        self.name_again(bucket_dir, deletion)?;
        let versions = self.key_versions(bucket, bucket_dir.as_fd(), key, &deletion.name)?;
        let outcome = |delete_marker| DeleteObjectOutcome {
            existed: true,
            // In a bucket that never had versioning there is nothing to be told of one.
            version_id: versions.versioning.map(|_| id.clone()),
            delete_marker,
        };
        if let Some(current) = &versions.current
            && versions.current_version().is_some_and(|version| version.id() == *id)
        {
            request.condition.judge(Some(&current.etag))?;
            request.condition.judge_loss(true)?;
            return self.remove_current(bucket, bucket_dir, deletion, &versions, outcome(false));
        }
        let Some((kept, history)) = versions.kept(id)?.zip(versions.history.as_ref()) else {
            request.condition.judge(None)?;
            return self.found_nothing(bucket, bucket_dir, deletion);
        };
        let file = if kept.marker { None } else { history.open_file(kept)? };
        let mut recorded = file
            .as_ref()
            .map(|(file, meta)| self.recorded(bucket, key, (file, meta), Some(kept)))
            .transpose()?
            .unwrap_or_default();
        let etag = file
            .as_ref()
            .map(|(_, meta)| attributes::etag(meta, recorded.record.as_ref()));
        request.condition.judge(etag.as_ref())?;
        request.condition.judge_loss(true)?;
        let (mut changed, mut sides) = (Vec::new(), Vec::new());
        let mut named_file = None;
        let is_newest = versions.current.is_none() && versions.newest == Some(kept);
        let next = versions.newest_but(self, kept)?;
        let mut uncovered = None;
        if let Some(next) = next.filter(|next| is_newest && !next.marker) {
            // It has its place in the bucket before the marker that hides it goes, and loses that in the history last, when
            // the other is durable: so at every moment it is known what it is.
            self.note(bucket, deletion);
            match self.project(bucket_dir, deletion, &versions, history, next)? {
                Projected::Linked(placed) => changed.push(placed),
                Projected::Unlinkable => {
                    let mut changed =
                        self.uncover_by_moving(bucket, bucket_dir, &deletion.name, &versions, kept, next)?;
                    self.clear_kept(bucket, key, &deletion.name, &versions, [], &mut changed, &mut sides);
                    return Ok(Step::Done(Deleted {
                        outcome: outcome(kept.marker),
                        changed,
                        sides,
                        ..Deleted::default()
                    }));
                }
                Projected::Again => {
                    deletion.make_directories = true;
                    return Ok(Step::Again);
                }
            }
            uncovered = Some(next);
        } else {
            let looks_like = |meta: &Meta| {
                let current = versions.current.as_ref().map(|current| &current.meta);
                current.is_some_and(|current| (current.size, current.mtime) == (meta.size, meta.mtime))
            };
            sides.extend(self.displaced_side(bucket, key, recorded.side_id.as_deref()));
            // Somebody's, which would have this one's attributes when this is gone, as long as they are there.
            if let (Some(record), Some(side)) = (&mut recorded.record, recorded.side_id.as_deref())
                && let Some((_, meta)) = file.as_ref().filter(|(_, meta)| looks_like(meta))
            {
                let own = Some((&bucket.name, meta));
                if let Err(error) = self.name_file(record, side, own) {
                    self.name_none(record, side, sides);
                    return Err(error);
                }
                named_file = Some((record, side));
            }
        }
        if next.is_none() && versions.current.is_none() {
            self.note(bucket, deletion);
        }
        let removed = self.remove_kept(bucket, &deletion.name, history, kept);
        match removed {
            Ok(place) => changed.extend(place),
            Err(error) => {
                // Hidden again.
                if uncovered.is_some() {
                    let now = self.key_versions(bucket, bucket_dir.as_fd(), key, &deletion.name)?;
                    debug_assert!(now.current.is_none());
                }
                if let Some((record, side)) = named_file {
                    self.name_none(record, side, sides);
                }
                return Err(error);
            }
        }
        self.clear_kept(bucket, key, &deletion.name, &versions, [], &mut changed, &mut sides);
        Ok(Step::Done(Deleted {
            outcome: outcome(kept.marker),
            changed,
            sides,
            second_name: uncovered,
            all_gone: next.is_none() && versions.current.is_none(),
            ..Deleted::default()
        }))
    }

    fn name_file(&self, record: &mut Record, side: &str, file: Option<(&BucketName, &Meta)>) -> Result<(), Error> {
        self.attributes.name_file(&self.staging, (record, side), file, |files| {
            self.durable.before_all(files)
        })
    }

    /// The version stays after all, and its record is what it was. A failure leaves that to the next start: until then it says
    /// which file it is of.
    fn name_none(&self, record: &mut Record, side: &str, sides: Vec<DisplacedSide>) {
        if let Err(error) = self.name_file(record, side, None) {
            tracing::debug!(%error, "a record names its file until the next start");
            sides.into_iter().for_each(DisplacedSide::leave);
        }
    }

    /// The current object goes. What is kept beneath takes its place.
    pub(super) fn remove_current(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        deletion: &mut Deletion<'_>,
        versions: &KeyVersions,
        outcome: DeleteObjectOutcome,
    ) -> Result<Step, Error> {
        let (key, Some(current)) = (deletion.key, &versions.current) else {
            return Ok(Step::Done(Deleted::default()));
        };
        let (mut changed, mut sides) = (Vec::new(), Vec::new());
        sides.extend(self.displaced_side(bucket, key, current.side_id.as_deref()));
        // A directory may become empty, and of two names one be left.
        let name = &deletion.name;
        if !name.parents.is_empty() || name.plain.len() > 1 || versions.has_forced || versions.history.is_some() {
            self.note(bucket, deletion);
        }
        let name = &deletion.name;
        let next = versions.newest.filter(|newest| !newest.marker);
        if let (Some(linked), Some(history)) = (current.linked, &versions.history) {
            let place = self.remove_kept(bucket, name, history, linked)?;
            // Not on the disk without its other name: it would be newer there than what is current, and so a delete.
            let spots = place.iter().map(|place| place.spot(self, bucket_dir.as_fd()));
            self.durable.before_spots(&[], &spots.collect::<Vec<_>>())?;
            changed.extend(place);
        }
        match (next, &versions.history) {
            (Some(next), Some(history)) => {
                changed.extend(self.replace(bucket, bucket_dir, name, current, history, next)?);
                if versions.has_plain && versions.has_forced {
                    let (leaf, dirs) = split(&name.parents, &name.forced);
                    let removed =
                        dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).and_then(|dir| dir::unlink(dir, leaf));
                    if let Err(error) = removed {
                        tracing::warn!(%error, "could not remove an object's other name");
                    }
                }
            }
            _ => changed.extend(self.drop_names(bucket_dir.as_fd(), name, versions)?),
        }
        self.clear_kept(bucket, key, &deletion.name, versions, [], &mut changed, &mut sides);
        Ok(Step::Done(Deleted {
            outcome,
            changed,
            sides,
            second_name: next,
            all_gone: versions.newest.is_none() && versions.history.is_some(),
            ..Deleted::default()
        }))
    }
}
