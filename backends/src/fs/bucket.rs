//! Buckets: a directory under the root with a record in `.t2/buckets`.

mod record;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};

pub(super) use self::record::load;
use self::record::{Identity, Known};
use super::{
    Store,
    crash::{self, Call},
    dir::{self, Meta},
    error::Error,
    intent::Intent,
    layout,
    locks::file::{FileLock, Held},
    peers::Peers,
    staging, sys,
    versions::remove_empty_histories,
};
use crate::{AccountId, BackendError, BucketInfo, BucketName, BucketSetting, CreateBucket, VersioningStatus};

/// Stands for the owner of a directory that was there before and is nobody's bucket.
const NOBODY: &str = "-";

/// A bucket in use. What is made anew under the name of one that was deleted is another one.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: BucketName,
    identity: Identity,
    known: RwLock<Known>,
    /// False once it is deleted. Shared by what creates anything in it, for the step that makes it visible; exclusive
    /// for the deletion.
    alive: RwLock<bool>,
    /// Whether its record is known to be durable: who made it may be about to sync it.
    is_durable: AtomicBool,
}

impl Bucket {
    pub(super) fn new((info, identity): (BucketInfo, Identity)) -> Self {
        Self {
            name: info.bucket.clone(),
            identity,
            known: RwLock::new(Known {
                info,
                stamp: None,
                seen: None,
            }),
            alive: RwLock::new(true),
            is_durable: AtomicBool::new(false),
        }
    }

    pub(super) fn info(&self) -> BucketInfo {
        self.known().info.clone()
    }

    /// As it is now. Whoever [is inside](Store::enter) does not see it change.
    pub(super) fn versioning(&self) -> Option<VersioningStatus> {
        self.known().info.versioning
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this is held, the bucket is not deleted.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    /// Given back before the process's own.
    _others: Option<Held>,
    _alive: RwLockReadGuard<'a, bool>,
}

/// While this is held, nobody creates, changes or deletes a bucket.
#[derive(Debug)]
pub(super) struct Administering<'a> {
    _others: Option<FileLock>,
    _own: MutexGuard<'a, ()>,
}

impl Store {
    pub(super) fn bucket(&self, name: &BucketName) -> Result<Arc<Bucket>, Error> {
        let known = self.table().get(name).cloned();
        let bucket = match self.peers {
            Some(_) => self.current(name, known)?,
            None => known,
        };
        bucket.ok_or(BackendError::NoSuchBucket.into())
    }

    /// All buckets, by name.
    pub(super) fn all_buckets(&self) -> Result<Vec<Arc<Bucket>>, Error> {
        if self.peers.is_none() {
            return Ok(self.table().values().cloned().collect());
        }
        let names: BTreeSet<BucketName> = dir::names(&self.records)
            .map_err(Error::io("could not list the buckets' records"))?
            .into_iter()
            .filter_map(|name| BucketName::parse(name).ok())
            .collect();
        self.table_mut().retain(|name, _| names.contains(name));
        let mut buckets = Vec::with_capacity(names.len());
        for name in &names {
            let known = self.table().get(name).cloned();
            buckets.extend(self.current(name, known)?);
        }
        Ok(buckets)
    }

    /// Those of an owner whose names begin with `prefix` and come after `start_after`: the first `max`.
    pub(super) fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, Error> {
        let of_owner = |info: &BucketInfo| {
            let name = info.bucket.as_str();
            info.owner == *owner && name.starts_with(prefix) && start_after.is_none_or(|after| name > after)
        };
        let buckets = self.all_buckets()?;
        Ok(buckets
            .iter()
            .map(|bucket| bucket.info())
            .filter(of_owner)
            .take(max)
            .collect())
    }

    /// Keeps a bucket from being deleted, or says that it is.
    pub(super) fn enter<'a>(&self, bucket: &'a Bucket) -> Result<Entered<'a>, Error> {
        if self.peers.is_some() && !bucket.is_durable.load(Ordering::Acquire) {
            self.durable.before_all(&[self.records.as_fd(), self.root.as_fd()])?;
            bucket.is_durable.store(true, Ordering::Release);
        }
        let alive = bucket.alive.read().unwrap_or_else(PoisonError::into_inner);
        if !*alive {
            return Err(BackendError::NoSuchBucket.into());
        }
        let others = match &self.peers {
            Some(peers) => {
                let held = peers.enter(&bucket.name)?;
                let now = self.bucket(&bucket.name)?;
                if now.identity != bucket.identity {
                    return Err(BackendError::NoSuchBucket.into());
                }
                // It may have been forgotten and read anew while it was in use.
                if !std::ptr::eq(&*now, bucket) {
                    bucket.known_mut().info = now.info();
                }
                Some(held)
            }
            None => None,
        };
        Ok(Entered {
            _others: others,
            _alive: alive,
        })
    }

    /// The directory of its objects.
    pub(super) fn bucket_dir(&self, bucket: &Bucket) -> Result<OwnedFd, Error> {
        match dir::resolve_dir(self.root.as_fd(), [bucket.name.as_str()]) {
            // Somebody removed it, or put something else in its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(BackendError::NoSuchBucket.into()),
            outcome => outcome.map_err(Error::io("could not open the bucket's directory")),
        }
    }

    pub(super) fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, Error> {
        self.durable.check_writable()?;
        let _serial = self.administer()?;
        let buckets = self.all_buckets()?;
        if let Some(there) = buckets.iter().find(|there| there.name == request.bucket) {
            let owner = there.info().owner;
            return Err(BackendError::BucketAlreadyExists { owner }.into());
        }
        let owned = buckets.iter().filter(|b| b.info().owner == request.owner).count();
        if owned >= request.max_buckets as usize {
            let limit = request.max_buckets;
            return Err(BackendError::TooManyBuckets { limit }.into());
        }
        let intent = Intent::tidy(&self.staging, &request.bucket, "");
        self.claim_directory(&request.bucket)?;
        let info = BucketInfo {
            bucket: request.bucket,
            owner: request.owner,
            created: self.clock.now(),
            acl: request.acl,
            versioning: request.versioning,
        };
        let made = self
            .put_leftovers_away(&info.bucket)
            .and_then(|()| self.durable.always_after(&self.root))
            .and_then(|()| self.make(&info));
        if let Err(error) = made {
            let is_undone = !matches!(error, Error::NotDurable { .. })
                && self.marks.try_remove(self.root.as_fd(), info.bucket.as_str()).is_ok();
            if !is_undone {
                intent.into_iter().for_each(Intent::leave);
            }
            return Err(error);
        }
        Ok(info)
    }

    /// Makes a bucket of a directory that is there: its record.
    pub(super) fn make(&self, info: &BucketInfo) -> Result<(), Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let identity = (Some(random), info.created.unix_nanos());
        self.write_record(info, identity)?;
        let bucket = Bucket::new((info.clone(), identity));
        bucket.is_durable.store(true, Ordering::Release);
        self.table_mut().insert(info.bucket.clone(), Arc::new(bucket));
        Ok(())
    }

    /// Makes the directory, or takes one that an interrupted creation or deletion left: marked as ours, and empty.
    fn claim_directory(&self, name: &BucketName) -> Result<(), Error> {
        let failed = || Error::io("could not create the bucket's directory");
        let taken = || {
            let owner = AccountId::parse(NOBODY).map_err(|_| BackendError::NoSuchBucket)?;
            Err(BackendError::BucketAlreadyExists { owner }.into())
        };
        match Meta::in_dir(&self.root, name.as_str()) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed()(error)),
            Ok(meta) if !meta.is_dir() => return taken(),
            Ok(_) => {
                let there = dir::resolve_dir(self.root.as_fd(), [name.as_str()]).map_err(failed())?;
                return if self.marks.is_marked(&there) && !self.has_objects(&there)? {
                    Ok(())
                } else {
                    taken()
                };
            }
        }
        self.marks
            .make_dir(self.root.as_fd(), name.as_str())
            .map_err(failed())?;
        Ok(())
    }

    /// What an earlier bucket of this name has left must not become this one's.
    pub(super) fn put_leftovers_away(&self, name: &BucketName) -> Result<(), Error> {
        self.put_histories_away(name)?;
        self.drop_uploads(name)
    }

    /// Versions of a bucket that somebody else removed are not ours to delete.
    pub(super) fn put_histories_away(&self, name: &BucketName) -> Result<(), Error> {
        const FAILED: &str = "could not put old versions away";
        remove_empty_histories(&self.versions, name.as_str());
        if matches!(Meta::in_dir(&self.versions, name.as_str()), Err(Errno::NOENT)) {
            return Ok(());
        }
        let space = dir::resolve_dir(self.root.as_fd(), [layout::SPACE]).map_err(Error::io(FAILED))?;
        let lost = layout::own_dir(&space, layout::LOST).map_err(Error::io(FAILED))?;
        let away = staging::random_name()?;
        crash::fault(Call::Add)
            .and_then(|()| sys::renameat(&self.versions, name.as_str(), &lost, &away))
            .map_err(Error::io(FAILED))?;
        crash::point();
        tracing::warn!(bucket = %name, to = format!(".t2/{}/{away}", layout::LOST), "put versions of no bucket away");
        self.durable.before_all(&[self.versions.as_fd(), lost.as_fd()])
    }

    pub(super) fn put_bucket_setting(&self, bucket: &Bucket, setting: BucketSetting) -> Result<(), Error> {
        self.durable.check_writable()?;
        let _serial = self.administer()?;
        drop(self.enter(bucket)?);
        // As it is on the disk: what is known may be from before somebody else's change.
        let (mut info, identity) = load(&self.records, &bucket.name)?;
        match setting {
            BucketSetting::Acl(acl) => info.acl = acl,
            BucketSetting::Versioning(status) => info.versioning = Some(status),
        }
        // Whoever commits has read the settings before, and is waited for, or reads the new ones.
        let _no_commits = bucket.alive.write().unwrap_or_else(PoisonError::into_inner);
        let _nor_others = self.peers.as_ref().map(|peers| peers.close(&bucket.name)).transpose()?;
        self.write_record(&info, identity)?;
        let _nobody_reads = self.table_mut();
        let known = &mut *bucket.known_mut();
        (known.info, known.stamp) = (info, None);
        Ok(())
    }

    pub(super) fn delete_bucket(&self, bucket: &Bucket) -> Result<(), Error> {
        self.durable.check_writable()?;
        let _serial = self.administer()?;
        drop(self.enter(bucket)?);
        let bucket_dir = match self.bucket_dir(bucket) {
            Err(Error::Answer(BackendError::NoSuchBucket)) => None,
            outcome => Some(outcome?),
        };
        // The histories first: a reader may just now be bringing an object back from there, and none goes the other way.
        let is_empty = || match &bucket_dir {
            _ if self.has_kept(bucket)? => Err(Error::from(BackendError::BucketNotEmpty)),
            Some(dir) if self.has_objects(dir)? => Err(BackendError::BucketNotEmpty.into()),
            _ => Ok(()),
        };
        // Most refusals come without stopping the writers.
        is_empty()?;
        let intent;
        {
            let mut alive = bucket.alive.write().unwrap_or_else(PoisonError::into_inner);
            let _others = self.peers.as_ref().map(|peers| peers.close(&bucket.name)).transpose()?;
            is_empty()?;
            intent = Intent::tidy(&self.staging, &bucket.name, "");
            dir::unlink(&self.records, bucket.name.as_str())
                .map_err(Error::io("could not remove the bucket's record"))?;
            *alive = false;
        }
        self.forget(bucket);
        if let Err(error) = self.durable.always_after(&self.records) {
            intent.into_iter().for_each(Intent::leave);
            return Err(error);
        }
        // From here on it is tidying: the bucket is gone.
        let is_tidy = bucket_dir.is_none_or(|dir| self.remove_bucket_directory(&bucket.name, dir));
        remove_empty_histories(&self.versions, bucket.name.as_str());
        let dropped = self.drop_uploads(&bucket.name);
        if let Err(error) = &dropped {
            tracing::warn!(%error, bucket = %bucket.name, "uploads of a deleted bucket stay behind");
        }
        if !is_tidy || dropped.is_err() {
            intent.into_iter().for_each(Intent::leave);
        }
        Ok(())
    }

    /// Removes the directory of what is no bucket, as far as it is ours and empty. `false` where that failed.
    pub(super) fn remove_bucket_directory(&self, name: &BucketName, dir: OwnedFd) -> bool {
        self.remove_empty_directories(&dir);
        drop(dir);
        self.marks.try_remove(self.root.as_fd(), name.as_str()).is_ok()
    }

    pub(super) fn administer(&self) -> Result<Administering<'_>, Error> {
        let own = self.administration.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Administering {
            _others: self.peers.as_ref().map(Peers::administer).transpose()?,
            _own: own,
        })
    }

    /// Uploads of a bucket that is gone. When this succeeds none of them is there any more, durably; what could not be
    /// removed of them is for the next start.
    pub(super) fn drop_uploads(&self, bucket: &BucketName) -> Result<(), Error> {
        let name = staging::random_name()?;
        let renamed =
            crash::fault(Call::Add).and_then(|()| sys::renameat(&self.uploads, bucket.as_str(), &self.staging, &name));
        match renamed {
            Err(Errno::NOENT) => return Ok(()),
            outcome => outcome.map_err(Error::io("could not remove uploads"))?,
        }
        crash::point();
        self.durable.before_all(&[self.uploads.as_fd(), self.staging.as_fd()])?;
        if let Err(error) = dir::remove_tree(self.staging.as_fd(), &name, 3) {
            tracing::warn!(%error, %bucket, "what uploads of a deleted bucket held is removed at the next start");
        }
        Ok(())
    }

    /// Removes the empty directories below `top` that the gateway made.
    fn remove_empty_directories(&self, top: &OwnedFd) {
        for_each_directory(top, &[], |parent, name| {
            self.marks.remove_if_ours(parent.as_fd(), name);
        });
    }
}

/// Calls `visit` for each directory below the one at `start`, with the one that it lies in, the innermost first. What
/// cannot be read is passed over.
pub(super) fn for_each_directory(top: &OwnedFd, start: &[Box<str>], mut visit: impl FnMut(&OwnedFd, &str)) {
    struct Level {
        /// On the way from `top`.
        names: Vec<Box<str>>,
        left: Vec<Box<str>>,
    }
    let list = |names: &[Box<str>]| {
        let dir = dir::resolve_dir(top.as_fd(), names.iter().map(|n| &**n)).ok()?;
        dir::names(dir).ok()
    };
    let mut levels = vec![Level {
        names: start.to_vec(),
        left: list(start).unwrap_or_default(),
    }];
    while let Some(level) = levels.last_mut() {
        match level.left.pop() {
            Some(name) => {
                let mut names = level.names.clone();
                names.push(name);
                if let Some(left) = list(&names) {
                    levels.push(Level { names, left });
                }
            }
            None => {
                if level.names.len() > start.len()
                    && let Some((last, parents)) = level.names.split_last()
                    && let Ok(parent) = dir::resolve_dir(top.as_fd(), parents.iter().map(|n| &**n))
                {
                    visit(&parent, last);
                }
                levels.pop();
            }
        }
    }
}
