//! What a key is, as a commit step finds it.

use rustix::{
    fd::{BorrowedFd, OwnedFd},
    fs::OFlags,
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{Kept, history::History};
use crate::{
    BackendError, CurrentVersion, ETag, Key, KeyState, Stamp, Timestamp, Version, VersionId, VersioningStatus,
    fs::{
        Store,
        attributes::{self, Record},
        bucket::Bucket,
        dir::{self, Entry, Meta},
        error::Error,
        keeping::Recorded,
        object::{LARGE, away_file, split, strs},
    },
    key_codec::{Names, StorageName},
};

/// How many kept versions are compared with a file that has two names and does not say what version it is.
const COMPARED: usize = 2;

/// So often at most something that was away is put where it belongs before a key is judged. Once would do.
const MAX_LOOKS: usize = 4;

/// The current object, open.
#[derive(Debug)]
pub(in crate::fs) struct Current {
    pub(in crate::fs) file: OwnedFd,
    pub(in crate::fs) meta: Meta,
    /// `None` where it does not hold any more.
    record: Option<Record>,
    /// The side file that has to go when this goes.
    pub(in crate::fs) side_id: Option<Box<str>>,
    pub(in crate::fs) etag: ETag,
    /// As recorded, or as it is kept.
    version: Option<Version>,
    /// The name that it has in the history too.
    pub(in crate::fs) linked: Option<Kept>,
    /// Under the `.t2!` name.
    forced: bool,
}

/// All that is there of a key. To be made, and used, under the lock of the key.
#[derive(Debug)]
pub(in crate::fs) struct KeyVersions {
    pub(in crate::fs) versioning: Option<VersioningStatus>,
    pub(in crate::fs) current: Option<Current>,
    /// The plain name is taken by what is no object.
    pub(in crate::fs) taken: bool,
    pub(in crate::fs) has_plain: bool,
    pub(in crate::fs) has_forced: bool,
    pub(in crate::fs) history: Option<History>,
    /// The newest of what is kept beside the current object.
    pub(in crate::fs) newest: Option<Kept>,
    /// The one that is named `null`.
    pub(in crate::fs) null: Option<Kept>,
    /// What has been named `null` before that, or before the current object, and is nothing any more.
    pub(in crate::fs) litter: Vec<Kept>,
}

impl Current {
    /// The file, if closing it for the last time may take a while.
    pub(in crate::fs) fn into_large_file(self) -> Option<OwnedFd> {
        (self.meta.size > LARGE).then_some(self.file)
    }

    fn load(
        store: &Store,
        bucket: &Bucket,
        key: &Key,
        (file, meta): (OwnedFd, Meta),
        forced: bool,
    ) -> Result<Self, Error> {
        let Recorded { record, side_id, .. } = store.recorded(bucket, key, (&file, &meta), None)?;
        Ok(Self {
            etag: attributes::etag(&meta, record.as_ref()),
            version: record.as_ref().and_then(|record| record.version(key)),
            record,
            side_id,
            file,
            meta,
            linked: None,
            forced,
        })
    }

    /// For a file that does not say what version it is: the same as long as it is the same file.
    fn derived_stamp(&self) -> Stamp {
        let mut hasher = Sha256::new();
        for number in [u64::from(self.meta.dev.0), u64::from(self.meta.dev.1), self.meta.ino] {
            hasher.update(number.to_be_bytes());
        }
        let random = hasher
            .finalize()
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Stamp::new(self.meta.last_modified(), random)
    }

    /// The name that it has in the history though its attributes say what it is.
    pub(in crate::fs) fn needless_name(&self) -> Option<Kept> {
        let recorded = self.record.as_ref()?;
        self.linked.filter(|kept| recorded.has_version(kept.version))
    }

    /// The directories on the way to it, and its name there.
    pub(in crate::fs) fn path<'a>(&self, name: &'a StorageName) -> (&'a str, Names) {
        split(&name.parents, if self.forced { &name.forced } else { &name.plain })
    }
}

impl KeyVersions {
    pub(in crate::fs) fn state(&self) -> KeyState<'_> {
        KeyState {
            versioning: self.versioning,
            current: self.current.as_ref().map(|current| CurrentVersion {
                etag: &current.etag,
                version: current.version,
                stamp: current.derived_stamp(),
            }),
            newest_kept: self.newest.map(|kept| kept.version.stamp),
            keeps_null: self.null.is_some(),
        }
    }

    /// The version that the current object is. Also in a bucket that never had any: there it is `null`.
    pub(in crate::fs) fn current_version(&self) -> Option<Version> {
        self.state().current_version()
    }

    /// Of those kept, the one with this id.
    pub(in crate::fs) fn kept(&self, id: &VersionId) -> Result<Option<Kept>, Error> {
        if id.is_null() {
            return Ok(self.null);
        }
        match (&self.history, id.stamp()) {
            (Some(history), Some(stamp)) => Ok(history.find(stamp)?.filter(|kept| !self.is_current(*kept))),
            _ => Ok(None),
        }
    }

    /// What is kept beside the current object, older than `after`, the newest first.
    pub(in crate::fs) fn all_kept<'a>(
        &'a self,
        store: &'a Store,
        after: Option<Stamp>,
    ) -> impl Iterator<Item = Result<Kept, Error>> + 'a {
        self.history
            .iter()
            .flat_map(move |history| history.all(store, after, &self.litter))
            .filter(|kept| kept.as_ref().map_or(true, |kept| !self.is_current(*kept)))
    }

    /// The newest of what is kept, but this.
    pub(in crate::fs) fn newest_but(&self, store: &Store, but: Kept) -> Result<Option<Kept>, Error> {
        self.all_kept(store, None)
            .find(|kept| kept.as_ref().map_or(true, |kept| *kept != but))
            .transpose()
    }

    /// Whether the key has no version.
    pub(in crate::fs) fn is_gone(&self) -> bool {
        self.current.is_none() && self.newest.is_none()
    }

    fn is_current(&self, kept: Kept) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.linked == Some(kept))
    }
}

/// What is said of a delete marker that was asked for.
pub(in crate::fs) fn marker_error(kept: Kept) -> Error {
    BackendError::DeleteMarker {
        version_id: kept.version.id(),
        last_modified: last_modified(kept),
    }
    .into()
}

pub(in crate::fs) fn last_modified(kept: Kept) -> Timestamp {
    kept.version.stamp.time()
}

impl Store {
    /// What a key has, for who changes it: where nothing may be changed, [`BackendError::ReadOnly`]. Under the key's lock.
    pub(in crate::fs) fn key_versions(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        key: &Key,
        name: &StorageName,
    ) -> Result<KeyVersions, Error> {
        let found = self.seen_versions(bucket, bucket_dir, key, name)?;
        // What is not put right is only seen as if it were.
        self.durable.check_writable()?;
        Ok(found)
    }

    /// Looks at a key, and puts right what an interrupted write or somebody else has left, where anything may be changed.
    /// Under the key's lock.
    pub(in crate::fs) fn seen_versions(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        key: &Key,
        name: &StorageName,
    ) -> Result<KeyVersions, Error> {
        for _ in 0..MAX_LOOKS {
            if let Some(found) = self.look_at_versions(bucket, bucket_dir, key, name)? {
                return Ok(found);
            }
        }
        Err(Error::Damaged { what: "a history" })
    }

    /// `None` where something that was away has been put where it belongs.
    fn look_at_versions(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        key: &Key,
        name: &StorageName,
    ) -> Result<Option<KeyVersions>, Error> {
        let look = |last: &Names| {
            dir::look_up(bucket_dir, name.parents.iter().chain(last).map(|n| &**n))
                .map_err(Error::io("could not look for the current object"))
        };
        let plain = look(&name.plain)?;
        let taken = matches!(plain, Entry::Other);
        let (plain, mut forced) = (plain.into_file(), look(&name.forced)?.into_file());
        if let Some((_, shown)) = &plain
            && let Some(hidden) = forced.take()
        {
            forced = self.keep_hidden(bucket, bucket_dir, key, name, shown, hidden)?;
        }
        let (has_plain, has_forced) = (plain.is_some(), forced.is_some());
        let current = plain
            .map(|found| Current::load(self, bucket, key, found, false))
            .or_else(|| forced.map(|found| Current::load(self, bucket, key, found, true)))
            .transpose()?;
        let mut found = KeyVersions {
            versioning: bucket.versioning(),
            current,
            taken,
            has_plain,
            has_forced,
            history: None,
            newest: None,
            null: None,
            litter: Vec::new(),
        };
        if found.versioning.is_none() {
            return Ok(Some(found));
        }
        found.history = History::open(self, bucket, name)?;
        if let Some(history) = &mut found.history
            && let Some(away) = history.away
        {
            let is_current = found.current.is_none() && self.is_newest(history, away)?;
            if self.durable.check_writable().is_ok() {
                self.end_away(bucket_dir, name, is_current.then_some(found.taken), history, away)?;
                return Ok(None);
            }
            // Where nothing may be changed it is seen as what it would become.
            match away_file(history, away)? {
                Some(there) if is_current => {
                    let current = Current::load(self, bucket, key, there, false)?;
                    found.current = Some(Current {
                        version: Some(away.version),
                        ..current
                    });
                }
                Some(_) => history.count_away(),
                None => {}
            }
        }
        let mut is_others = false;
        if let Some(history) = &found.history {
            if let Some(current) = &mut found.current {
                is_others = know_again(current, history)?;
            }
            let first = first_of(history, found.current.as_ref());
            if let (Some(current), Some(first)) = (&mut found.current, first)
                && current
                    .version
                    .is_some_and(|version| version.stamp < first.version.stamp)
            {
                if current.linked.is_some() {
                    // Not current any more, and kept.
                    if self.durable.check_writable().is_ok() {
                        self.drop_names(bucket_dir, name, &found)?;
                    }
                    found.current = None;
                    (found.has_plain, found.has_forced) = (false, false);
                } else {
                    // Somebody brought it back, or changed the order of what lies here: it is what they put there.
                    current.version = None;
                    is_others = true;
                }
            }
        }
        found.sort_out();
        if is_others {
            self.forget_version(&mut found);
        }
        if found.current.is_none()
            && let Some(newest) = found.newest.filter(|newest| !newest.marker)
            && self.durable.check_writable().is_ok()
            && (!taken || is_another_thing(bucket_dir, name))
        {
            // Somebody removed what was current. Not where it may only be out of reach for a while.
            let random = getrandom::u64()?;
            let marker = Version {
                stamp: Stamp::new(self.clock.now(), random).after(Some(newest.version.stamp)),
                null: false,
            };
            self.add_marker(bucket, name, marker)?;
            tracing::info!(bucket = %bucket.name, "an object was removed by something else, and has its delete marker now");
            found.history = History::open(self, bucket, name)?;
            found.sort_out();
        }
        Ok(Some(found))
    }

    /// A file under the `.t2!` name that another under the plain name hides. Where it is a version that is nowhere else, for
    /// somebody put the other there, it goes into the history. What is left of it.
    fn keep_hidden(
        &self,
        bucket: &Bucket,
        bucket_dir: BorrowedFd<'_>,
        key: &Key,
        name: &StorageName,
        shown: &Meta,
        (file, meta): (OwnedFd, Meta),
    ) -> Result<Option<(OwnedFd, Meta)>, Error> {
        if bucket.versioning().is_none() || meta.is_file_of(shown) || self.durable.check_writable().is_err() {
            return Ok(Some((file, meta)));
        }
        let hidden = Current::load(self, bucket, key, (file, meta), true)?;
        if let Some(version) = hidden.version
            && self.kept_file(bucket, name, version)?.is_none()
        {
            let (leaf, dirs) = hidden.path(name);
            let from = dir::resolve_dir(bucket_dir, strs(&dirs)).map_err(Error::io("could not open a directory"))?;
            let kept = Kept { version, marker: false };
            self.move_into_history(bucket, name, (kept, &kept.name()), &from, leaf)?;
            return Ok(None);
        }
        Ok(Some((hidden.file, meta)))
    }
    /// The current object is a file that came with another version's attributes.
    fn forget_version(&self, found: &mut KeyVersions) {
        let own = found.current_version();
        if self.durable.check_writable().is_ok()
            && let Some(current) = &mut found.current
            && let Some(record) = &mut current.record
            && let Err(error) = self.attributes.forget_version(
                &self.staging,
                &current.file,
                (record, current.side_id.as_deref()),
                own,
                |file| self.durable.before_all(&[file]),
            )
        {
            tracing::debug!(%error, "a file keeps the version of another");
        }
    }
}

/// Whether what has the plain name is known to be no object's file, readable or not.
fn is_another_thing(bucket_dir: BorrowedFd<'_>, name: &StorageName) -> bool {
    let path = name.parents.iter().chain(&name.plain).map(|n| &**n);
    match dir::resolve(bucket_dir, path, OFlags::PATH).and_then(|there| Meta::of(&there)) {
        Ok(meta) => !meta.is_file(),
        Err(Errno::NOENT | Errno::NOTDIR) => true,
        Err(_) => false,
    }
}

/// Finds out whether the current object is kept already, and as what. Whether it came with another version's attributes.
fn know_again(current: &mut Current, history: &History) -> Result<bool, Error> {
    let mut is_others = false;
    if let Some(version) = current.version {
        let kept = Kept { version, marker: false };
        match history.meta(kept)? {
            Some(meta) if meta.is_file_of(&current.meta) => current.linked = Some(kept),
            // A copy of it, by other means.
            Some(_) => {
                current.version = None;
                is_others = true;
            }
            None => {}
        }
    }
    if current.version.is_none() && current.meta.nlink > 1 {
        let candidates = history.nulls.iter().copied();
        for kept in candidates.chain(history.stamped(None).filter(|kept| !kept.marker).take(COMPARED)) {
            if history.meta(kept)?.is_some_and(|meta| meta.is_file_of(&current.meta)) {
                current.linked = Some(kept);
                current.version = Some(kept.version);
                break;
            }
        }
    }
    Ok(is_others)
}

/// The newest of all that is kept beside the current object.
fn first_of(history: &History, current: Option<&Current>) -> Option<Kept> {
    let linked = current.and_then(|current| current.linked);
    let null = history.nulls.iter().copied().find(|kept| Some(*kept) != linked);
    let stamped = history.stamped(None).find(|kept| Some(*kept) != linked);
    null.into_iter().chain(stamped).max_by_key(|kept| kept.version.stamp)
}

impl KeyVersions {
    /// What of the history counts.
    fn sort_out(&mut self) {
        let Some(history) = &self.history else {
            return;
        };
        let linked = self.current.as_ref().and_then(|current| current.linked);
        let is_null = self
            .current
            .as_ref()
            .is_some_and(|current| current.version.is_some_and(|version| version.null));
        let mut nulls = history.nulls.iter().copied().filter(|kept| Some(*kept) != linked);
        self.null = if is_null { None } else { nulls.next() };
        self.litter = nulls.collect();
        let stamped = history.stamped(None).find(|kept| Some(*kept) != linked);
        self.newest = self
            .null
            .into_iter()
            .chain(stamped)
            .max_by_key(|kept| kept.version.stamp);
    }
}
