//! Objects that cannot have two names: the file system has no links, or the file is somebody else's and the system is told
//! to refuse (`fs.protected_hardlinks`), or it has too many already.
//!
//! Such an object goes into its history, and comes back, by a rename under the key's lock. In between it has a name there
//! that [says so](Kept::away_name): so it is known what it is at every moment, to everybody who has the lock. Readers who
//! miss it look again under that lock. The one thing that does not is a listing by name, so a note tells of it too.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
};

use super::{split, strs};
use crate::{
    BackendError, Key, Version,
    fs::{
        Store,
        bucket::Bucket,
        crash::{self, Call},
        dir::{self, Meta},
        error::Error,
        intent::Intent,
        sys,
        versions::{Changed, History, Kept, KeyVersions},
    },
    key_codec::StorageName,
};

const NOT_BACK: &str = "could not bring an object back";

/// An object that is away, while nothing has taken its place yet.
pub(super) struct Away {
    place: Changed,
    kept: Kept,
    from: Changed,
    leaf: Box<str>,
    /// Dropped when it is settled.
    intent: Option<Intent>,
}

impl Store {
    /// Takes an object out of its place, durably: what comes there instead must not be on the disk before that.
    pub(super) fn move_away(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        key: &Key,
        name: &StorageName,
        versions: &KeyVersions,
        version: Version,
    ) -> Result<Away, Error> {
        let current = versions.current.as_ref().ok_or(BackendError::Conflict)?;
        let (leaf, dirs) = current.path(name);
        let from =
            dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs)).map_err(Error::io("could not open a directory"))?;
        let intent = Intent::tidy(&self.staging, &bucket.name, key.as_str());
        let mut hidden_in = None;
        if versions.has_plain && versions.has_forced {
            // It would not be hidden any more.
            let (leaf, dirs) = split(&name.parents, &name.forced);
            let dir = dir::resolve_dir(bucket_dir.as_fd(), strs(&dirs))
                .and_then(|dir| dir::unlink(&dir, leaf).map(|()| dir))
                .map_err(Error::io("could not remove an object's other name"))?;
            hidden_in = Some(dir);
        }
        let kept = Kept { version, marker: false };
        let had_history = versions.history.is_some();
        let place = match self.move_into_history(bucket, name, (kept, &kept.away_name()), &from, leaf) {
            Ok(place) => place,
            Err(error) => {
                if !had_history {
                    self.prune_history(bucket, name);
                }
                return Err(error);
            }
        };
        let away = Away {
            place,
            kept,
            from: Changed::in_bucket(dirs, from),
            leaf: leaf.into(),
            intent,
        };
        let spot = away.place.spot(self, bucket_dir.as_fd());
        // Where the name is a long one that is cut, the other lies elsewhere.
        let left: Vec<BorrowedFd<'_>> = hidden_in.iter().chain([&away.from.dir]).map(AsFd::as_fd).collect();
        if let Err(error) = self.durable.before_spots(&left, &[spot]) {
            self.bring_back(away);
            return Err(error);
        }
        Ok(away)
    }

    /// Where nothing has taken its place. A failure, for its directory may have gone, leaves that to whoever looks at the key
    /// next: before the answer we [do](Self::look_again).
    ///
    /// The history stays, though it may be empty: a listing of versions that has read the object's directory while it was
    /// not there finds its key by that.
    pub(super) fn bring_back(&self, away: Away) {
        if let Err(error) = rename_new(&away.place.dir, &away.kept.away_name(), &away.from.dir, &away.leaf) {
            tracing::debug!(%error, "an object is to be brought back later");
            away.intent.into_iter().for_each(Intent::leave);
        }
    }

    /// Before a request that has moved an object away is answered with an error: what it has left away comes back. A failure
    /// leaves that to whoever looks at the key next. Under no lock.
    pub(super) fn look_again(&self, bucket: &Bucket, bucket_dir: &OwnedFd, key: &Key) {
        let look = || {
            let _alive = self.enter(bucket)?;
            let name = self.name_of(bucket_dir, key.as_str())?;
            // An object may have taken the name of a directory that went.
            if self.parent_of(bucket_dir, &name)?.is_none() {
                self.make_directories(bucket, bucket_dir, key, &name.plain)?;
            }
            let _guard = self.keys.lock(&bucket.name, key.as_str())?;
            let name = self.name_of(bucket_dir, key.as_str())?;
            self.key_versions(bucket, bucket_dir.as_fd(), key, &name).map(drop)
        };
        if let Err(error) = look() {
            tracing::warn!(%error, "an object may be in no listing until somebody looks at it, or the next start");
        }
    }

    /// Where something has taken its place, or its deletion counts: it is kept like others. A failure leaves that to whoever
    /// looks at the key next. The directories that have changed.
    pub(super) fn keep_away(&self, away: Away) -> [Changed; 2] {
        if let Err(error) = rename_in(&away.place.dir, &away.kept.away_name(), &away.kept.name()) {
            tracing::debug!(%error, "a version is to be given its name later");
        }
        [away.place, away.from]
    }

    /// Whether nothing in its history is newer than an object that is away.
    pub(in crate::fs) fn is_newest(&self, history: &History, away: Kept) -> Result<bool, Error> {
        let newest = history.all(self, None, &[]).next().transpose()?;
        Ok(newest.is_none_or(|newest| newest.version.stamp <= away.version.stamp))
    }

    /// Ends what an interrupted write has left of an object that was away. `current`: it is the current one, and whether
    /// something else has the plain name.
    pub(in crate::fs) fn end_away(
        &self,
        bucket_dir: BorrowedFd<'_>,
        name: &StorageName,
        current: Option<bool>,
        history: &History,
        away: Kept,
    ) -> Result<(), Error> {
        let Some(from) = history.dir_of(away) else {
            return Ok(());
        };
        // A rename would leave two names of one file as they are.
        if let (Ok(kept), Ok(there)) = (Meta::in_dir(from, &away.name()), Meta::in_dir(from, &away.away_name()))
            && kept.is_file_of(&there)
        {
            return dir::unlink(from, &away.away_name()).map_err(Error::io("could not keep a version"));
        }
        if let Some(taken) = current
            && self.to_its_place(bucket_dir, name, taken, from, away)?.is_some()
        {
            return Ok(());
        }
        rename_in(from, &away.away_name(), &away.name()).map_err(Error::io("could not keep a version"))
    }

    /// Gives what is away the key's own name, where nothing has that. `None` where something is in the way.
    fn to_its_place(
        &self,
        bucket_dir: BorrowedFd<'_>,
        name: &StorageName,
        taken: bool,
        from: &OwnedFd,
        away: Kept,
    ) -> Result<Option<Changed>, Error> {
        let (leaf, dirs) = split(&name.parents, if taken { &name.forced } else { &name.plain });
        let made = dir::resolve_dir(bucket_dir, []).and_then(|base| self.make_names(&base, &[], &dirs));
        let to = match made {
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            outcome => outcome.map_err(Error::io(NOT_BACK))?,
        };
        match rename_new(from, &away.away_name(), &to, leaf) {
            Ok(()) => Ok(Some(Changed::in_bucket(dirs, to))),
            Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => Ok(None),
            Err(error) => Err(Error::io(NOT_BACK)(error)),
        }
    }

    /// Removes the delete marker that hides a version that cannot have two names, and puts that in its place. Each step is
    /// durable before the next: the three may lie in three directories.
    pub(super) fn uncover_by_moving(
        &self,
        bucket: &Bucket,
        bucket_dir: &OwnedFd,
        name: &StorageName,
        versions: &KeyVersions,
        marker: Kept,
        next: Kept,
    ) -> Result<Vec<Changed>, Error> {
        const DAMAGED: Error = Error::Damaged { what: "a history" };
        let history = versions.history.as_ref().ok_or(DAMAGED)?;
        let place = self.place_of(bucket, name, history, next)?.ok_or(DAMAGED)?;
        // Hidden as it was until the marker goes.
        rename_in(&place.dir, &next.name(), &next.away_name()).map_err(Error::io(NOT_BACK))?;
        let hide_again = || {
            if let Err(error) = rename_in(&place.dir, &next.away_name(), &next.name()) {
                tracing::debug!(%error, "a version is to be given its name later");
            }
        };
        let removed = self
            .durable
            .before_spots(&[], &[place.spot(self, bucket_dir.as_fd())])
            .and_then(|()| self.remove_kept(bucket, name, history, marker));
        let removed = match removed {
            Ok(removed) => removed.ok_or(DAMAGED)?,
            Err(error) => {
                hide_again();
                return Err(error);
            }
        };
        let durable = self.durable.after_spots(&[], &[removed.spot(self, bucket_dir.as_fd())]);
        // Even if that is not known: it is not hidden any more.
        let back = self
            .to_its_place(bucket_dir.as_fd(), name, versions.taken, &place.dir, next)
            .and_then(|back| back.ok_or_else(|| BackendError::Conflict.into()));
        match (durable, back) {
            (Ok(()), Ok(back)) => Ok(vec![back, place]),
            (Err(error), _) => Err(error),
            (Ok(()), Err(error)) => {
                let marked = self.add_marker(bucket, name, marker.version)?;
                hide_again();
                let spot = marked.spot(self, bucket_dir.as_fd());
                self.durable.after_spots(&[], &[spot])?;
                Err(error)
            }
        }
    }
}

/// The file of an object that is away, if it has no other name there.
pub(in crate::fs) fn away_file(history: &History, away: Kept) -> Result<Option<(OwnedFd, Meta)>, Error> {
    match history.dir_of(away) {
        Some(dir) if history.meta(away)?.is_none() => {
            let entry = dir::look_up_in(dir.as_fd(), &away.away_name());
            Ok(entry.map_err(Error::io("could not open a version"))?.into_file())
        }
        _ => Ok(None),
    }
}

/// Gives `name` a name that nothing has.
pub(super) fn rename_new(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    crash::fault(Call::Add)?;
    match sys::renameat_new(from, name, to, new) {
        // Not every file system can do that in one step. What is at this name is changed under the key's lock alone.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match Meta::in_dir(to, new) {
            Err(Errno::NOENT) => sys::renameat(from, name, to, new)?,
            Ok(_) => return Err(Errno::EXIST),
            Err(error) => return Err(error),
        },
        outcome => outcome?,
    }
    crash::point();
    Ok(())
}

fn rename_in(dir: &OwnedFd, name: &str, new: &str) -> Result<(), Errno> {
    crash::fault(Call::Add)?;
    sys::renameat(dir, name, dir, new)?;
    crash::point();
    Ok(())
}
