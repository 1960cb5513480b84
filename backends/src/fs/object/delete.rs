//! Deleting, by name and by version id.

mod by_id;
mod by_name;
mod uncover;

use rustix::fd::{AsFd, OwnedFd};

use super::{DisplacedSide, MAX_ATTEMPTS, prune, split, strs};
use crate::{
    BackendError, DeleteObject, DeleteObjectOutcome, Key, Stamp, VersionClock,
    fs::{
        Store,
        bucket::Bucket,
        dir,
        error::Error,
        intent::Intent,
        versions::{Changed, Current, Kept, Linked, NULL, path_of},
    },
    key_codec::{Names, StorageName},
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
    /// The object may be away, as it cannot have two names.
    moved_away: bool,
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
    /// What others may have changed so that there is nothing to delete.
    looked_at: Vec<Changed>,
    sides: Vec<DisplacedSide>,
    /// In the history, of a version that is current again.
    second_name: Option<Kept>,
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
            name: self.own_name(key.as_str()),
            stamp: request.versions.as_ref().map(VersionClock::stamp).transpose()?,
            linked: None,
            lost_races: 0,
            make_directories: false,
            moved_away: false,
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
                    if deletion.moved_away {
                        self.look_again(bucket, &bucket_dir, key);
                    }
                    if deletion.make_directories && !self.prune_names(&bucket_dir, deletion.key, &deletion.name) {
                        deletion.intent.into_iter().for_each(Intent::leave);
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
        let Deleted {
            outcome,
            changed,
            looked_at,
            sides,
            second_name,
            all_gone,
        } = deleted;
        let spots = changed.iter().chain(&looked_at);
        let spots = spots.map(|changed| changed.spot(self, bucket_dir.as_fd()));
        let durable = self.durable.after_spots(&[], &spots.collect::<Vec<_>>());
        for side in sides {
            side.settle(&self.attributes, durable.is_ok());
        }
        if let Err(error) = durable {
            deletion.intent.into_iter().for_each(Intent::leave);
            return Err(error);
        }
        let mut is_tidy =
            !changed.iter().any(Changed::is_in_bucket) || self.prune_names(bucket_dir, deletion.key, &deletion.name);
        if (all_gone || second_name.is_some())
            && let Err(error) = self.tidy_history(bucket, bucket_dir, &deletion, second_name, all_gone)
        {
            tracing::debug!(%error, "a history is to be tidied up at the next start");
            is_tidy = false;
        }
        if !is_tidy {
            deletion.intent.into_iter().for_each(Intent::leave);
        }
        Ok(outcome)
    }

    /// What can go from the history when the deletion is durable. Nobody relies on it.
    fn tidy_history(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        deletion: &Deletion<'_>,
        second_name: Option<Kept>,
        all_gone: bool,
    ) -> Result<(), Error> {
        let _alive = self.enter(bucket)?;
        let _guard = self.keys.lock(&bucket.name, deletion.key.as_str())?;
        let name = self.name_of(bucket_dir, deletion.key.as_str())?;
        let versions = self.key_versions(bucket, bucket_dir.as_fd(), deletion.key, &name)?;
        // A version that is current and says so in its attributes needs no other name. One that does not is known by that.
        let needless = versions.current.as_ref().and_then(Current::needless_name);
        if let (Some(history), Some(second)) = (&versions.history, second_name)
            && needless == Some(second)
        {
            self.remove_kept(bucket, &name, history, second)?;
        }
        // Somebody may have written since.
        if all_gone && versions.is_gone() {
            self.prune_history(bucket, &name);
        }
        Ok(())
    }

    /// That there is nothing is what the answer says: so it must be durable, also if it was somebody else who deleted it,
    /// and does not know yet.
    fn found_nothing(&self, bucket: &Bucket, bucket_dir: &OwnedFd, deletion: &Deletion<'_>) -> Result<Step, Error> {
        let mut deleted = Deleted::default();
        if self.durable.is_power_safe() {
            let name = &deletion.name;
            for dirs in self.directories_of_last(deletion.key, name) {
                deleted.looked_at.push(innermost(bucket_dir, dirs, Changed::in_bucket)?);
            }
            if bucket.versioning().is_some() {
                let mut names = path_of(bucket, name);
                let history = innermost(&self.versions, names.clone(), Changed::in_history)?;
                names.push(NULL.into());
                let nulls = innermost(&self.versions, names, Changed::in_history)?;
                let is_one = nulls.names == history.names;
                deleted.looked_at.extend((!is_one).then_some(nulls));
                deleted.looked_at.push(history);
            }
        }
        Ok(Step::Done(deleted))
    }

    /// Removes the directories of ours on the way to a key that are empty. As [`prune`] says.
    pub(super) fn prune_names(&self, bucket_dir: &OwnedFd, key: &Key, name: &StorageName) -> bool {
        let mut is_tidy = true;
        for dirs in self.directories_of_last(key, name) {
            is_tidy &= prune(&self.marks, bucket_dir, &dirs);
        }
        is_tidy
    }

    /// The directories that the object of a key is in, or may have been in while another spelling had its names.
    fn directories_of_last(&self, key: &Key, name: &StorageName) -> Vec<Names> {
        let names = self.last_names(key.as_str());
        let mut dirs: Vec<Names> = names.map(|last| split(&name.parents, &last).1).collect();
        dirs.dedup();
        dirs
    }

    /// The names that the key has now. To be acted on under its lock alone.
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
}

/// The innermost that is there of directories that lie in each other.
fn innermost(base: &OwnedFd, mut names: Names, place: fn(Names, OwnedFd) -> Changed) -> Result<Changed, Error> {
    loop {
        match dir::resolve_dir(base.as_fd(), strs(&names)) {
            Ok(dir) => return Ok(place(names, dir)),
            Err(error) if dir::is_no_object(error) && names.pop().is_some() => {}
            Err(error) => return Err(Error::io("could not look for what is to be deleted")(error)),
        }
    }
}
