//! Deleting what is current: a delete marker takes its place where there is versioning.

use rustix::fd::{AsFd, OwnedFd};

use super::{Deleted, Deletion, MAX_LOST_RACES, Step};
use crate::{
    DeleteObjectOutcome, DeletePlan, Displaced,
    fs::{
        Store,
        bucket::Bucket,
        dir,
        error::Error,
        intent::Intent,
        versions::{History, Kept},
    },
};

impl Store {
    pub(super) fn delete_by_name(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        deletion: &mut Deletion<'_>,
    ) -> Result<Step, Error> {
        let (key, request) = (deletion.key, deletion.request);
        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        self.name_again(bucket_dir, deletion)?;
        let mut versions = self.key_versions(bucket, bucket_dir.as_fd(), key, &deletion.name)?;
        if let (Some(current), Some(linked)) = (&mut versions.current, &deletion.linked) {
            current.take_tag_of(linked);
        }
        let existed = versions.current.is_some();
        let plan = versions
            .state()
            .delete(&request.condition, deletion.stamp, request.mark_missing)?;
        let (marker, displaced, drops_kept_null) = match plan {
            DeletePlan::Nothing => return self.found_nothing(bucket, bucket_dir, deletion),
            DeletePlan::Remove => {
                let outcome = DeleteObjectOutcome {
                    existed,
                    ..DeleteObjectOutcome::default()
                };
                return self.remove_current(bucket, bucket_dir, deletion, &versions, outcome);
            }
            DeletePlan::Mark {
                marker,
                displaced,
                drops_kept_null,
            } => (marker, displaced, drops_kept_null),
        };
        self.note(bucket, deletion);
        let name = &deletion.name;
        let (mut away, mut kept_just_now) = (None, false);
        if let (Some(current), Some(version)) = (&versions.current, versions.current_version()) {
            let is_kept = deletion
                .linked
                .as_ref()
                .is_some_and(|linked| current.is_linked_as(linked));
            if !is_kept {
                // Also what will not be kept: so it is known again while its name and the marker are both there.
                kept_just_now = true;
                match self.keep(bucket, bucket_dir.as_fd(), key, name, &versions, version)? {
                    Some(linked) if deletion.lost_races < MAX_LOST_RACES => return Ok(Step::Keep(linked)),
                    Some(linked) => {
                        let spot = linked.place.spot(self, bucket_dir.as_fd());
                        self.durable.before_spots(&[self.staging.as_fd()], &[spot])?;
                    }
                    None => {
                        deletion.moved_away = true;
                        away = Some(self.move_away(bucket, bucket_dir, key, name, &versions, version)?);
                    }
                }
            }
        }
        // What comes after the marker must not fail for want of anything.
        let history = if kept_just_now {
            History::open(self, bucket, name)
        } else {
            Ok(versions.history.take())
        };
        let had_history = history.as_ref().is_ok_and(Option::is_some);
        let marked = history.and_then(|history| Ok((history, self.add_marker(bucket, name, marker)?)));
        let mut changed = match marked {
            Ok((history, place)) => {
                versions.history = history;
                vec![place]
            }
            Err(error) => {
                match away {
                    Some(away) => self.bring_back(away),
                    None if !had_history => self.prune_history(bucket, name),
                    None => {}
                }
                return Err(error);
            }
        };
        // From here on it is deleted, and the names that the key still has are to go.
        let mut sides = Vec::new();
        match away {
            Some(away) => changed.extend(self.keep_away(away)),
            None => match self.drop_names(bucket_dir.as_fd(), name, &versions) {
                Ok(dropped) => changed.extend(dropped),
                Err(error) => {
                    // Or is not, after all.
                    let marker = Kept {
                        version: marker,
                        marker: true,
                    };
                    if let Err(source) = dir::unlink(&changed[0].dir, &marker.name()) {
                        deletion.intent.take().into_iter().for_each(Intent::leave);
                        return Err(Error::io("could not take a marker back")(source));
                    }
                    return Err(error);
                }
            },
        }
        let mut gone: Vec<Kept> = drops_kept_null.then_some(versions.null).flatten().into_iter().collect();
        if displaced == Displaced::Dropped
            && let Some(version) = versions.current_version()
        {
            // By that it is known again where the marker is on the disk and its other name is still there, too.
            let spots = changed.iter().map(|changed| changed.spot(self, bucket_dir.as_fd()));
            if let Err(error) = self.durable.after_spots(&[], &spots.collect::<Vec<_>>()) {
                deletion.intent.take().into_iter().for_each(Intent::leave);
                return Err(error);
            }
            gone.push(Kept { version, marker: false });
        }
        self.clear_kept(bucket, key, name, &versions, gone, &mut changed, &mut sides);
        Ok(Step::Done(Deleted {
            outcome: DeleteObjectOutcome {
                existed,
                version_id: Some(marker.id()),
                delete_marker: true,
            },
            changed,
            sides,
            ..Deleted::default()
        }))
    }
}
