//! The step in which a new object takes effect.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
};

use super::{DisplacedSide, MAX_ATTEMPTS, find_once, split, unsupported};
use crate::{
    BackendError, Displaced, Key, ObjectInfo, Stamp, Version, VersionClock, VersioningStatus, WriteCondition,
    fs::{
        Store,
        attributes::{NewObject, Record},
        bucket::Bucket,
        dir,
        error::Error,
        intent::Intent,
        keeping::{Keeping, Stored},
        side::SideFile,
        staging::{Staged, close_later},
        versions::{Changed, Current, History, Kept, KeyVersions, Linked},
    },
    key_codec::StorageName,
};

/// A file of more bytes than this is written to the disk before its writer joins others who sync.
pub(in crate::fs) const LARGE: u64 = 4 * 1024 * 1024;
/// So often others may be faster at one key. Then a writer holds its lock across a sync.
const MAX_LOST_RACES: usize = 6;

/// What a commit is to do.
struct Write<'a> {
    key: &'a Key,
    name: StorageName,
    condition: &'a WriteCondition,
    /// What the new version is ordered by, unless it has to be later.
    stamp: Option<Stamp>,
    /// What the record says.
    version: Option<Version>,
    record: Record,
    /// The attributes were changed after they were synced.
    stamped_anew: bool,
    staged: Staged,
    side: Option<SideFile>,
    /// The current object's name in the history, durable.
    linked: Option<Linked>,
    lost_races: usize,
    /// What it was to displace may be away, as it cannot have two names.
    moved_away: bool,
}

/// How far a commit came.
enum Step {
    Done(Committed),
    /// A directory went away or came meanwhile.
    Again,
    /// What it displaces has to be durable in the history first.
    Keep(Linked),
}

/// What a commit did.
struct Committed {
    version: Option<Version>,
    /// The directories whose names it has changed.
    changed: Vec<Changed>,
    /// The side files of what is gone.
    sides: Vec<DisplacedSide>,
    intent: Option<Intent>,
    /// Nothing empty may have stayed.
    is_tidy: bool,
    /// Why it is not known whether the new object is durable.
    failed: Option<Error>,
    /// What was there before and is gone, if it was large: closing it is for later.
    replaced: Option<OwnedFd>,
}

impl Store {
    /// Makes a complete staging file the object of `key`.
    pub(in crate::fs) fn publish(
        &self,
        bucket: &Bucket,
        key: Key,
        condition: &WriteCondition,
        versions: Option<&VersionClock>,
        staged: Staged,
        new: NewObject,
    ) -> Result<ObjectInfo, Error> {
        self.publish_with(bucket, key, condition, versions, staged, new, None)
    }

    /// The same, where something else must be durable before it is visible.
    #[expect(clippy::too_many_arguments, reason = "what there is to an object, and where it goes")]
    pub(in crate::fs) fn publish_with(
        &self,
        bucket: &Bucket,
        key: Key,
        condition: &WriteCondition,
        versions: Option<&VersionClock>,
        staged: Staged,
        mut new: NewObject,
        also: Option<BorrowedFd<'_>>,
    ) -> Result<ObjectInfo, Error> {
        let stamp = versions.map(VersionClock::stamp).transpose()?;
        new.version = bucket.versioning().zip(stamp).map(|(status, stamp)| Version {
            stamp,
            null: status == VersioningStatus::Suspended,
        });
        let name = self.own_name(key.as_str());
        let there = match self.attributes.keeping {
            Keeping::Extended => None,
            Keeping::SideFiles => find_once(self.bucket_dir(bucket)?.as_fd(), &name, self.is_folding())?,
        };
        let there = there.map(|(_, meta)| meta);
        let stored = self
            .attributes
            .store(staged.file(), (&bucket.name, &key), &new, there.as_ref(), |id| {
                Intent::side(&self.staging, id, &bucket.name, key.as_str())
            })?;
        let Stored { meta, record, side } = stored;
        if meta.size > LARGE {
            self.durable.flush_data(staged.file())?;
        }
        let mut write = Write {
            name,
            key: &key,
            condition,
            stamp,
            version: new.version,
            record,
            stamped_anew: false,
            staged,
            side,
            linked: None,
            lost_races: 0,
            moved_away: false,
        };
        write.linked = self.keep_current(bucket, &write)?;
        let mut new_files = vec![write.staged.file().as_fd()];
        new_files.extend(also);
        new_files.extend(write.side.iter().flat_map(SideFile::to_sync));
        let kept = write
            .linked
            .iter()
            .map(|linked| linked.place.spot(self, self.root.as_fd()));
        self.durable.before_spots(&new_files, &kept.collect::<Vec<_>>())?;
        let version = self.commit(bucket, write)?;
        Ok(ObjectInfo {
            version_id: version.map(Version::id),
            size: meta.size,
            etag: new.etag,
            last_modified: meta.last_modified(),
            attributes: new.attributes,
            parts_count: (!new.parts.is_empty()).then(|| u16::try_from(new.parts.len()).unwrap_or(u16::MAX)),
            key,
        })
    }

    /// Where the current object is going to be kept: gives it its name in the history now, so that one sync is enough
    /// for that and the new object.
    fn keep_current(&self, bucket: &Bucket, write: &Write<'_>) -> Result<Option<Linked>, Error> {
        if write.version.is_none() {
            return Ok(None);
        }
        self.durable.check_writable()?;
        let _alive = self.enter(bucket)?;
        let bucket_dir = self.bucket_dir(bucket)?;
        let _guard = self.keys.lock(&bucket.name, write.key.as_str())?;
        let name = self.name_of(&bucket_dir, write.key.as_str())?;
        let versions = self.key_versions(bucket, bucket_dir.as_fd(), write.key, &name)?;
        let plan = versions.state().write(write.condition, write.stamp)?;
        match (plan.displaced, &versions.current) {
            (Displaced::Kept(version), Some(_)) => {
                self.keep(bucket, bucket_dir.as_fd(), write.key, &name, &versions, version)
            }
            _ => Ok(None),
        }
    }

    fn commit(&self, bucket: &Bucket, mut write: Write<'_>) -> Result<Option<Version>, Error> {
        let mut attempt = 1;
        let mut intent = None;
        let (bucket_dir, committed) = loop {
            self.durable.check_writable()?;
            let mut alive = Some(self.enter(bucket)?);
            let bucket_dir = self.bucket_dir(bucket)?;
            if self.is_folding() {
                write.name = self.name_of(&bucket_dir, write.key.as_str())?;
            }
            let error = match self.try_commit(bucket, &bucket_dir, &mut write, &mut intent) {
                Ok(Step::Done(committed)) => break (bucket_dir, committed),
                Ok(Step::Keep(linked)) => {
                    alive = None;
                    let spot = linked.place.spot(self, bucket_dir.as_fd());
                    match self.durable.before_spots(&[], &[spot]) {
                        Ok(()) => {
                            write.linked = Some(linked);
                            write.lost_races += 1;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Ok(Step::Again) if attempt < MAX_ATTEMPTS => {
                    attempt += 1;
                    continue;
                }
                Ok(Step::Again) => BackendError::Conflict.into(),
                Err(error) => error,
            };
            drop(alive);
            if write.moved_away {
                self.look_again(bucket, &bucket_dir, write.key);
            }
            // Directories that were made for it are not left behind.
            if !self.prune_names(&bucket_dir, write.key, &write.name) {
                intent.into_iter().for_each(Intent::leave);
            }
            return Err(error);
        };
        if let Some(side) = write.side.take() {
            side.keep();
        }
        let files: Vec<BorrowedFd<'_>> = write
            .stamped_anew
            .then(|| write.staged.file().as_fd())
            .into_iter()
            .collect();
        let spots = committed
            .changed
            .iter()
            .map(|changed| changed.spot(self, bucket_dir.as_fd()));
        let durable = self.durable.after_spots(&files, &spots.collect::<Vec<_>>());
        let durable = committed.failed.map_or(durable, Err);
        write.staged.moved();
        if let Some(replaced) = committed.replaced {
            close_later(replaced);
        }
        for side in committed.sides {
            side.settle(&self.attributes, durable.is_ok());
        }
        if durable.is_err() || !committed.is_tidy {
            committed.intent.into_iter().for_each(Intent::leave);
        }
        durable.map(|()| committed.version)
    }

    fn try_commit(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        write: &mut Write<'_>,
        intent: &mut Option<Intent>,
    ) -> Result<Step, Error> {
        let key = write.key;
        let note = || Intent::tidy(&self.staging, &bucket.name, key.as_str());
        let parent = match self.parent_of(bucket_dir, &write.name)? {
            Some(parent) => parent,
            None => {
                // Without its directory there is no object, but perhaps one that is away, in its history. What would be refused
                // need not move anything.
                if bucket.versioning().is_none() {
                    write.condition.judge(None)?;
                }
                *intent = intent.take().or_else(note);
                match self.make_directories(bucket, bucket_dir, key, &write.name.plain)? {
                    Some(parent) => parent,
                    None => return Ok(Step::Again),
                }
            }
        };

        let _guard = self.keys.lock(&bucket.name, key.as_str())?;
        if self.is_folding() && self.name_of(bucket_dir, key.as_str())? != write.name {
            return Ok(Step::Again);
        }
        let mut versions = self.key_versions(bucket, bucket_dir.as_fd(), key, &write.name)?;
        if let (Some(current), Some(linked)) = (&mut versions.current, &write.linked) {
            current.take_tag_of(linked);
        }
        let plan = versions.state().write(write.condition, write.stamp)?;
        if plan.version != write.version {
            let side = write.side.as_ref();
            let to_sync = self
                .attributes
                .set_version(write.staged.file(), &mut write.record, side, plan.version)?;
            match to_sync {
                // It is not changed in one step, as an attribute is: so it has to be durable before it is anybody's.
                Some(side) => self.durable.before_all(&[side])?,
                None => write.stamped_anew = true,
            }
            write.version = plan.version;
        }
        // Nothing may fail from there on that does not bring it back.
        let mut moved_away = None;
        if let (Displaced::Kept(version), Some(current)) = (plan.displaced, &versions.current) {
            let is_kept = write.linked.as_ref().is_some_and(|linked| current.is_linked_as(linked));
            if !is_kept {
                match self.keep(bucket, bucket_dir.as_fd(), key, &write.name, &versions, version)? {
                    Some(linked) if write.lost_races < MAX_LOST_RACES => return Ok(Step::Keep(linked)),
                    Some(linked) => {
                        let spot = linked.place.spot(self, bucket_dir.as_fd());
                        self.durable.before_spots(&[], &[spot])?;
                    }
                    None => {
                        write.moved_away = true;
                        moved_away = Some(self.move_away(bucket, bucket_dir, key, &write.name, &versions, version)?)
                    }
                }
            }
        }
        if versions.taken || versions.has_forced || plan.drops_kept_null {
            *intent = intent.take().or_else(note);
        }
        let mut sides = Vec::new();
        if plan.displaced == Displaced::Dropped {
            let side = versions.current.as_ref().and_then(|current| current.side_id.as_deref());
            // What somebody put there just now may have the new object's size and time.
            let own = self.attributes.side_of_new(&bucket.name, &write.record);
            let side = side.filter(|side| own.as_deref() != Some(*side));
            sides.extend(self.displaced_side(bucket, key, side));
        }
        let placed = match self.place(bucket_dir, &write.name, &parent, &versions, &write.staged) {
            Ok(Some(placed)) => placed,
            failed => {
                if let Some(away) = moved_away {
                    self.bring_back(away);
                }
                return failed.map(|_| Step::Again);
            }
        };
        let mut changed = vec![placed];
        if let Some(away) = moved_away {
            changed.extend(self.keep_away(away));
        }
        // From here on it is done: what fails leaves what counts for nothing.
        let gone = plan.drops_kept_null.then_some(versions.null).flatten();
        let linked = versions.current.as_ref().and_then(|current| current.linked);
        let gone = gone
            .into_iter()
            .chain(linked.filter(|_| plan.displaced == Displaced::Dropped));
        // Another file is not removed from the disk before the new one is there.
        let failed = match (plan.drops_kept_null, versions.null) {
            (true, Some(_)) => {
                let spots = changed.iter().map(|changed| changed.spot(self, bucket_dir.as_fd()));
                self.durable.after_spots(&[], &spots.collect::<Vec<_>>()).err()
            }
            _ => None,
        };
        // Its other name may have had directories of its own.
        let is_tidy = versions.taken || !versions.has_forced || self.prune_names(bucket_dir, key, &write.name);
        if failed.is_none() {
            self.clear_kept(bucket, key, &write.name, &versions, gone, &mut changed, &mut sides);
        }
        let replaced = versions.current.filter(|_| plan.displaced == Displaced::Dropped);
        Ok(Step::Done(Committed {
            version: plan.version,
            changed,
            sides,
            intent: intent.take(),
            is_tidy,
            failed,
            replaced: replaced.and_then(Current::into_large_file),
        }))
    }

    /// Gives a staged file the key's name; the plain one, or the `.t2!` one where a directory has that. `None` where a
    /// directory went away or came meanwhile.
    pub(super) fn place(
        &self,
        bucket_dir: &OwnedFd,
        name: &StorageName,
        parent: &OwnedFd,
        versions: &KeyVersions,
        staged: &Staged,
    ) -> Result<Option<Changed>, Error> {
        const FAILED: &str = "could not put the object in its place";
        if !versions.taken {
            let (leaf, dirs) = split(&name.parents, &name.plain);
            let dir = dir::again(parent).map_err(Error::io(FAILED))?;
            let _moving = versions.has_forced.then(|| self.moves.begin()).transpose()?;
            match staged.rename(parent, leaf) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => return Ok(None),
                Err(error) => return Err(Error::io(FAILED)(error)),
            }
            if versions.has_forced {
                // What it held is replaced, and no longer seen: the plain name goes before it.
                let (leaf, dirs) = split(&name.parents, &name.forced);
                let removed =
                    dir::resolve_dir(bucket_dir.as_fd(), super::strs(&dirs)).and_then(|dir| dir::unlink(dir, leaf));
                if let Err(error) = removed
                    && error != Errno::NOENT
                {
                    tracing::warn!(%error, "could not remove an object's other name");
                }
            }
            return Ok(Some(Changed::in_bucket(dirs, dir)));
        }
        let (leaf, dirs) = split(&name.parents, &name.forced);
        let dir = match self.make_path(bucket_dir, &name.parents, &name.forced) {
            // Also where an object has just taken the name of a directory on the way, which went.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            outcome => outcome.map_err(Error::io("could not create a directory"))?,
        };
        match staged.rename(&dir, leaf) {
            Ok(()) => Ok(Some(Changed::in_bucket(dirs, dir))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => Err(unsupported()),
            Err(error) => Err(Error::io(FAILED)(error)),
        }
    }

    /// Removes from the history what `gone` names, and what is nothing any more. A failure leaves litter, nothing worse.
    #[expect(clippy::too_many_arguments, reason = "where it is, and what it adds to")]
    pub(super) fn clear_kept(
        &self,
        bucket: &Bucket,
        key: &Key,
        name: &StorageName,
        versions: &KeyVersions,
        gone: impl IntoIterator<Item = Kept>,
        changed: &mut Vec<Changed>,
        sides: &mut Vec<DisplacedSide>,
    ) {
        let Some(history) = &versions.history else {
            return;
        };
        for kept in gone.into_iter().chain(versions.litter.iter().copied()) {
            let removed = self.side_of(bucket, key, history, kept).and_then(|side| {
                let side = self.displaced_side(bucket, key, side.as_deref());
                let place = self.remove_kept(bucket, name, history, kept)?;
                Ok((side, place))
            });
            match removed {
                Ok((side, place)) => {
                    let known = |side: &DisplacedSide| sides.iter().any(|known| known.id == side.id);
                    let side = side.filter(|side| !known(side));
                    sides.extend(side);
                    changed.extend(place);
                }
                Err(error) => tracing::warn!(%error, "could not remove a version that is replaced"),
            }
        }
    }

    /// The side file of a kept version.
    fn side_of(&self, bucket: &Bucket, key: &Key, history: &History, kept: Kept) -> Result<Option<Box<str>>, Error> {
        match history.open_file(kept)? {
            Some((file, meta)) if !kept.marker => Ok(self.recorded(bucket, key, (&file, &meta), Some(kept))?.side_id),
            _ => Ok(None),
        }
    }
}
