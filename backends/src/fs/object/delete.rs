//! Deleting, by name and by version id.

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

use super::{DisplacedSide, MAX_ATTEMPTS, prune, split, strs};
use crate::{
    BackendError, DeleteObject, DeleteObjectOutcome, DeletePlan, Displaced, ETag, Key, Stamp, Version, VersionClock,
    fs::{
        Store,
        attributes::{self, Record},
        bucket::Bucket,
        crash::{self, Call},
        dir,
        error::Error,
        intent::Intent,
        staging::Staged,
        sys,
        versions::{Changed, Current, History, Kept, KeyVersions, Linked},
    },
    key_codec::StorageName,
};

/// So often others may be faster at one key. Then a delete holds its lock across a sync.
const MAX_LOST_RACES: usize = 6;

/// What is to be deleted.
struct Deletion<'a> {
    request: &'a DeleteObject,
    key: &'a Key,
    name: StorageName,
    stamp: Option<Stamp>,
    /// The current object's name in the history, durable.
    linked: Option<Linked>,
    lost_races: usize,
    /// Directories for an object that comes back have to be made, which takes locks of other keys.
    make_directories: bool,
    intent: Option<Intent>,
}

/// How far it came.
enum Step {
    Done(Deleted),
    /// A directory went away or came meanwhile; or is needed.
    Again,
    /// What it displaces has to be durable in the history first.
    Keep(Linked),
}

/// What was done.
#[derive(Default)]
struct Deleted {
    outcome: DeleteObjectOutcome,
    changed: Vec<Changed>,
    sides: Vec<DisplacedSide>,
    /// The key has no version any more.
    all_gone: bool,
}

impl Store {
    pub(in crate::fs) fn delete_object(
        &self,
        bucket: &Bucket,
        request: &DeleteObject,
    ) -> Result<DeleteObjectOutcome, Error> {
        let key = &request.object.key;
        let mut deletion = Deletion {
            request,
            key,
            name: StorageName::of(key.as_str()),
            stamp: request.versions.as_ref().map(VersionClock::stamp).transpose()?,
            linked: None,
            lost_races: 0,
            make_directories: false,
            intent: None,
        };
        for _ in 0..MAX_ATTEMPTS {
            self.durable.check_writable()?;
            let alive = self.enter(bucket)?;
            let bucket_dir = self.bucket_dir(bucket)?;
            let step = match &request.object.version_id {
                None => self.delete_by_name(bucket, &bucket_dir, &mut deletion),
                Some(_) => self.delete_by_id(bucket, &bucket_dir, &mut deletion),
            };
            drop(alive);
            match step {
                Ok(Step::Done(deleted)) => return self.settle(bucket, &bucket_dir, deletion, deleted),
                Ok(Step::Again) => {}
                Ok(Step::Keep(linked)) => {
                    // With it the note that tells of what may be half done next.
                    let spot = linked.place.spot(self, bucket_dir.as_fd());
                    self.durable.before_spots(&[self.staging.as_fd()], &[spot])?;
                    deletion.linked = Some(linked);
                    deletion.lost_races += 1;
                }
                Err(error) => {
                    if deletion.make_directories {
                        self.prune_names(&bucket_dir, &deletion.name);
                    }
                    return Err(error);
                }
            }
        }
        Err(BackendError::Conflict.into())
    }

    /// Makes durable what was done, and tidies up.
    fn settle(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        deletion: Deletion<'_>,
        deleted: Deleted,
    ) -> Result<DeleteObjectOutcome, Error> {
        let spots = deleted
            .changed
            .iter()
            .map(|changed| changed.spot(self, bucket_dir.as_fd()));
        let durable = self.durable.after_spots(&[], &spots.collect::<Vec<_>>());
        for side in deleted.sides {
            side.settle(&self.attributes, durable.is_ok());
        }
        if let Err(error) = durable {
            deletion.intent.into_iter().for_each(Intent::leave);
            return Err(error);
        }
        for changed in deleted.changed.iter().filter(|changed| changed.is_in_bucket()) {
            prune(&self.marks, bucket_dir, &changed.names);
        }
        if deleted.all_gone {
            self.prune_history(bucket, &deletion.name);
        }
        Ok(deleted.outcome)
    }

    fn prune_names(&self, bucket_dir: &OwnedFd, name: &StorageName) {
        for last in [&name.forced, &name.plain] {
            prune(&self.marks, bucket_dir, &split(&name.parents, last).1);
        }
    }

    /// The names that the key has now, under its lock.
    fn name_again(&self, bucket_dir: &OwnedFd, deletion: &mut Deletion<'_>) -> Result<(), Error> {
        if self.is_folding() {
            deletion.name = self.name_of(bucket_dir, deletion.key.as_str())?;
        }
        Ok(())
    }

    /// Notes that names of the key come and go.
    fn note(&self, bucket: &Bucket, deletion: &mut Deletion<'_>) {
        let note = || Intent::tidy(&self.staging, &bucket.name, deletion.key.as_str());
        deletion.intent = deletion.intent.take().or_else(note);
    }

    fn delete_by_name(
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
            DeletePlan::Nothing => return Ok(Step::Done(Deleted::default())),
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
                    None => away = Some(self.move_away(bucket, bucket_dir, key, name, current, version)?),
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
                if let Some(away) = away {
                    self.bring_back(away)?;
                }
                if !had_history {
                    self.prune_history(bucket, name);
                }
                return Err(error);
            }
        };
        // From here on it is deleted, and the names that the key still has are to go.
        let mut sides = Vec::new();
        match away {
            Some(away) => changed.push(away.place),
            None => match self.drop_names(bucket_dir.as_fd(), name, &versions) {
                Ok(dropped) => changed.extend(dropped),
                Err(error) => {
                    // Or is not, after all.
                    let marker = Kept {
                        version: marker,
                        marker: true,
                    };
                    dir::unlink(&changed[0].dir, &marker.name()).map_err(Error::io("could not take a marker back"))?;
                    return Err(error);
                }
            },
        }
        let mut gone: Vec<Kept> = drops_kept_null.then_some(versions.null).flatten().into_iter().collect();
        if displaced == Displaced::Dropped
            && let Some(version) = versions.current_version()
        {
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
            all_gone: false,
        }))
    }

    fn delete_by_id(&self, bucket: &Bucket, bucket_dir: &OwnedFd, deletion: &mut Deletion<'_>) -> Result<Step, Error> {
        let (key, request) = (deletion.key, deletion.request);
        let Some(id) = &request.object.version_id else {
            return Ok(Step::Again);
        };
        if deletion.make_directories
            && self.parent_of(bucket_dir, &deletion.name)?.is_none()
            && self
                .make_directories(bucket, bucket_dir, key, &deletion.name.plain)?
                .is_none()
        {
            return Ok(Step::Again);
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
            return Ok(Step::Done(Deleted::default()));
        };
        let file = if kept.marker { None } else { history.open_file(kept)? };
        let etag = file.as_ref().map(|(file, meta)| -> Result<ETag, Error> {
            let record = Record::load(file, meta)?;
            Ok(attributes::etag(meta, record.as_ref()))
        });
        request.condition.judge(etag.transpose()?.as_ref())?;
        request.condition.judge_loss(true)?;
        let (mut changed, mut sides) = (Vec::new(), Vec::new());
        let is_newest = versions.current.is_none() && versions.newest == Some(kept);
        let next = versions.newest_but(self, kept)?;
        let mut uncovered = None;
        if let Some(next) = next.filter(|next| is_newest && !next.marker) {
            // It has its place in the bucket before the marker that hides it goes, and loses that in the history last: so
            // at every moment it is known what it is.
            self.note(bucket, deletion);
            match self.project(bucket_dir, deletion, &versions, history, next)? {
                Some(placed) => changed.push(placed),
                None => {
                    deletion.make_directories = true;
                    return Ok(Step::Again);
                }
            }
            uncovered = Some(next);
        } else {
            let recorded = file
                .as_ref()
                .map(|(file, meta)| self.attributes.recorded(&bucket.name, key, file, meta))
                .transpose()?;
            let side = recorded.and_then(|recorded| recorded.side_id);
            sides.extend(self.displaced_side(bucket, key, side.as_deref()));
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
                return Err(error);
            }
        }
        if let Some(uncovered) = uncovered {
            self.drop_second_name(bucket, deletion, history, uncovered, &mut changed);
        }
        self.clear_kept(bucket, key, &deletion.name, &versions, [], &mut changed, &mut sides);
        Ok(Step::Done(Deleted {
            outcome: outcome(kept.marker),
            changed,
            sides,
            all_gone: next.is_none() && versions.current.is_none(),
        }))
    }

    /// The current object goes. What is kept beneath takes its place.
    fn remove_current(
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
        if let (Some(linked), Some(history)) = (current.linked, &versions.history) {
            changed.extend(self.remove_kept(bucket, name, history, linked)?);
        }
        let next = versions.newest.filter(|newest| !newest.marker);
        match (next, &versions.history) {
            (Some(next), Some(history)) => {
                changed.push(self.replace(bucket_dir, name, current, history, next)?);
                if versions.has_plain && versions.has_forced {
                    let (leaf, dirs) = split(&name.parents, &name.forced);
                    let removed =
                        dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).and_then(|dir| dir::unlink(dir, leaf));
                    if let Err(error) = removed {
                        tracing::warn!(%error, "could not remove an object's other name");
                    }
                }
                self.drop_second_name(bucket, deletion, history, next, &mut changed);
            }
            _ => changed.extend(self.drop_names(bucket_dir.as_fd(), name, versions)?),
        }
        self.clear_kept(bucket, key, &deletion.name, versions, [], &mut changed, &mut sides);
        Ok(Step::Done(Deleted {
            outcome,
            changed,
            sides,
            all_gone: versions.newest.is_none(),
        }))
    }

    /// Puts a kept version in the place of the current object, in one step.
    fn replace(
        &self,
        bucket_dir: &OwnedFd,
        name: &StorageName,
        current: &Current,
        history: &History,
        next: Kept,
    ) -> Result<Changed, Error> {
        const FAILED: &str = "could not put a version in its place";
        let (leaf, dirs) = current.path(name);
        let to = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).map_err(Error::io(FAILED))?;
        let (from, file) = self.open_kept(history, next)?;
        match Staged::link(self, from, &next.name(), file) {
            Ok(staged) => {
                staged.rename(&to, leaf).map_err(Error::io(FAILED))?;
                staged.moved();
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {
                crash::fault(Call::Add)
                    .and_then(|()| sys::renameat(from, &next.name(), &to, leaf))
                    .map_err(Error::io(FAILED))?;
                crash::point();
            }
            Err(error) => return Err(Error::io(FAILED)(error)),
        }
        Ok(Changed::in_bucket(dirs, to))
    }

    /// Gives a kept version the key's own name, where nothing has that. `None` where a directory is missing.
    fn project(
        &self,
        bucket_dir: &OwnedFd,
        deletion: &Deletion<'_>,
        versions: &KeyVersions,
        history: &History,
        next: Kept,
    ) -> Result<Option<Changed>, Error> {
        const FAILED: &str = "could not put a version in its place";
        let name = &deletion.name;
        let Some(parent) = self.parent_of(bucket_dir, name)? else {
            return Ok(None);
        };
        let (from, file) = self.open_kept(history, next)?;
        match Staged::link(self, from, &next.name(), file) {
            Ok(staged) => {
                let placed = self.place(bucket_dir, name, &parent, versions, &staged)?;
                if placed.is_some() {
                    staged.moved();
                }
                Ok(placed)
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {
                let staged = Staged::take(self, from, &next.name()).map_err(Error::io(FAILED))?;
                match self.place(bucket_dir, name, &parent, versions, &staged) {
                    Ok(Some(placed)) => {
                        staged.moved();
                        Ok(Some(placed))
                    }
                    failed => {
                        let back = staged.rename(from, &next.name()).map_err(Error::io(FAILED));
                        // In no case removed: it may be the only copy.
                        staged.moved();
                        back?;
                        failed
                    }
                }
            }
            Err(error) => Err(Error::io(FAILED)(error)),
        }
    }

    fn open_kept<'h>(&self, history: &'h History, kept: Kept) -> Result<(&'h OwnedFd, OwnedFd), Error> {
        let file = history.open_file(kept)?.map(|(file, _)| file);
        history
            .dir_of(kept)
            .zip(file)
            .ok_or(Error::Damaged { what: "a history" })
    }

    /// A version that is current and says so in its attributes needs no name in the history. One that does not is known
    /// by that.
    fn drop_second_name(
        &self,
        bucket: &Bucket,
        deletion: &Deletion<'_>,
        history: &History,
        kept: Kept,
        changed: &mut Vec<Changed>,
    ) {
        let dropped = history.open_file(kept).and_then(|found| {
            let Some((file, meta)) = found else {
                return self.place_of(bucket, &deletion.name, history, kept);
            };
            let says_so = Record::load(&file, &meta)?
                .and_then(|record| record.version(deletion.key))
                .is_some_and(|version: Version| version == kept.version);
            if says_so {
                self.remove_kept(bucket, &deletion.name, history, kept)
            } else {
                Ok(None)
            }
        });
        match dropped {
            Ok(place) => changed.extend(place),
            Err(error) => tracing::debug!(%error, "a version keeps its second name"),
        }
    }
}
