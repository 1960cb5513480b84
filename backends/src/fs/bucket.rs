//! Buckets: a directory under the root with a record in `.t2/buckets`.

use std::sync::{Arc, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use minicbor::{Decode, Encode};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, OFlags},
    io::Errno,
};

use super::{
    Store, attributes,
    dir::{self, Meta},
    error::Error,
    intent::Intent,
    layout,
    staging::{self, Staged},
    versions::remove_empty_histories,
};
use crate::{
    AccountId, BackendError, BucketInfo, BucketName, BucketSetting, CreateBucket, Timestamp, VersioningStatus,
};

/// The most bytes that a record has.
const MAX_RECORD: usize = 64 * 1024;
/// Stands for the owner of a directory that was there before and is nobody's bucket.
const NOBODY: &str = "-";

/// A bucket in use.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: BucketName,
    info: RwLock<BucketInfo>,
    /// False once it is deleted. Shared by what creates anything in it, for the step that makes it visible; exclusive
    /// for the deletion.
    alive: RwLock<bool>,
}

impl Bucket {
    pub(super) fn new(info: BucketInfo) -> Self {
        Self {
            name: info.bucket.clone(),
            info: RwLock::new(info),
            alive: RwLock::new(true),
        }
    }

    pub(super) fn info(&self) -> BucketInfo {
        self.info.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As it is now. Whoever [is inside](Self::enter) does not see it change.
    pub(super) fn versioning(&self) -> Option<VersioningStatus> {
        self.info.read().unwrap_or_else(PoisonError::into_inner).versioning
    }

    /// While this is held, the bucket is not deleted.
    pub(super) fn enter(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let alive = self.alive.read().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            Ok(alive)
        } else {
            Err(BackendError::NoSuchBucket.into())
        }
    }
}

#[derive(Debug, Encode, Decode)]
struct Record {
    #[n(0)]
    owner: Box<str>,
    /// Nanoseconds.
    #[n(1)]
    created: i64,
    #[n(2)]
    acl: Box<str>,
    /// `enabled`, `suspended`; nothing where versioning was never on.
    #[n(3)]
    versioning: Option<Box<str>>,
}

impl Record {
    fn of(info: &BucketInfo) -> Self {
        Self {
            owner: info.owner.as_str().into(),
            created: info.created.unix_nanos(),
            acl: info.acl.as_str().into(),
            versioning: info.versioning.map(|status| match status {
                VersioningStatus::Enabled => "enabled".into(),
                VersioningStatus::Suspended => "suspended".into(),
            }),
        }
    }

    fn into_info(self, bucket: BucketName) -> Option<BucketInfo> {
        Some(BucketInfo {
            bucket,
            owner: AccountId::parse(self.owner).ok()?,
            created: Timestamp::from_unix_nanos(self.created),
            acl: self.acl.parse().ok()?,
            versioning: match self.versioning.as_deref() {
                None => None,
                Some("enabled") => Some(VersioningStatus::Enabled),
                Some("suspended") => Some(VersioningStatus::Suspended),
                Some(_) => return None,
            },
        })
    }
}

/// Reads the record of a bucket.
pub(super) fn load(records: &OwnedFd, name: &BucketName) -> Result<BucketInfo, Error> {
    let read = || {
        let file = dir::resolve(records.as_fd(), [name.as_str()], OFlags::RDONLY)?;
        dir::read_small(file, MAX_RECORD)
    };
    let bytes = read().map_err(Error::io("could not read a bucket's record"))?;
    attributes::decode::<Record>(&bytes)
        .and_then(|record| record.into_info(name.clone()))
        .ok_or(Error::Damaged {
            what: "a bucket's record",
        })
}

impl Store {
    pub(super) fn bucket(&self, name: &BucketName) -> Result<Arc<Bucket>, Error> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned().ok_or(BackendError::NoSuchBucket.into())
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
        let _serial = self.administer();
        {
            let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(there) = buckets.get(&request.bucket) {
                let owner = there.info().owner;
                return Err(BackendError::BucketAlreadyExists { owner }.into());
            }
            let owned = buckets.values().filter(|b| b.info().owner == request.owner).count();
            if owned >= request.max_buckets as usize {
                let limit = request.max_buckets;
                return Err(BackendError::TooManyBuckets { limit }.into());
            }
        }
        let intent = Intent::tidy(&self.staging, &request.bucket, "");
        self.claim_directory(&request.bucket)?;
        self.put_histories_away(&request.bucket)?;
        let info = BucketInfo {
            bucket: request.bucket,
            owner: request.owner,
            created: self.clock.now(),
            acl: request.acl,
            versioning: request.versioning,
        };
        if let Err(error) = self.durable.after(&self.root).and_then(|()| self.write_record(&info)) {
            if matches!(error, Error::NotDurable { .. }) {
                intent.into_iter().for_each(Intent::leave);
            } else {
                dir::remove_if_ours(self.root.as_fd(), info.bucket.as_str());
            }
            return Err(error);
        }
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        buckets.insert(info.bucket.clone(), Arc::new(Bucket::new(info.clone())));
        Ok(info)
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
                return if dir::is_marked(&there) && !self.has_objects(&there)? {
                    Ok(())
                } else {
                    taken()
                };
            }
        }
        dir::make_dir(self.root.as_fd(), name.as_str()).map_err(failed())?;
        Ok(())
    }

    /// What a bucket of this name has left that somebody else removed: it must not become this one's, and is not ours to
    /// delete.
    fn put_histories_away(&self, name: &BucketName) -> Result<(), Error> {
        const FAILED: &str = "could not put old versions away";
        remove_empty_histories(&self.versions, name.as_str());
        if matches!(Meta::in_dir(&self.versions, name.as_str()), Err(Errno::NOENT)) {
            return Ok(());
        }
        let space = dir::resolve_dir(self.root.as_fd(), [layout::SPACE]).map_err(Error::io(FAILED))?;
        let lost = layout::own_dir(&space, layout::LOST).map_err(Error::io(FAILED))?;
        let away = staging::random_name()?;
        fs::renameat(&self.versions, name.as_str(), &lost, &away).map_err(Error::io(FAILED))?;
        tracing::warn!(bucket = %name, to = format!(".t2/{}/{away}", layout::LOST), "put versions of no bucket away");
        self.durable.before_all(&[self.versions.as_fd(), lost.as_fd()])
    }

    pub(super) fn put_bucket_setting(&self, bucket: &Bucket, setting: BucketSetting) -> Result<(), Error> {
        self.durable.check_writable()?;
        let _serial = self.administer();
        drop(bucket.enter()?);
        let mut info = bucket.info();
        match setting {
            BucketSetting::Acl(acl) => info.acl = acl,
            BucketSetting::Versioning(status) => info.versioning = Some(status),
        }
        self.write_record(&info)?;
        // Whoever commits has read the settings before, or reads the new ones.
        let _no_commits = bucket.alive.write().unwrap_or_else(PoisonError::into_inner);
        *bucket.info.write().unwrap_or_else(PoisonError::into_inner) = info;
        Ok(())
    }

    pub(super) fn delete_bucket(&self, bucket: &Bucket) -> Result<(), Error> {
        self.durable.check_writable()?;
        let _serial = self.administer();
        drop(bucket.enter()?);
        let bucket_dir = match self.bucket_dir(bucket) {
            Err(Error::Answer(BackendError::NoSuchBucket)) => None,
            outcome => Some(outcome?),
        };
        let is_empty = || match &bucket_dir {
            Some(dir) if self.has_objects(dir)? => Err(Error::from(BackendError::BucketNotEmpty)),
            _ if bucket.versioning().is_some() && self.has_kept(bucket)? => Err(BackendError::BucketNotEmpty.into()),
            _ => Ok(()),
        };
        // Most refusals come without stopping the writers.
        is_empty()?;
        let intent;
        {
            let mut alive = bucket.alive.write().unwrap_or_else(PoisonError::into_inner);
            is_empty()?;
            intent = Intent::tidy(&self.staging, &bucket.name, "");
            dir::unlink(&self.records, bucket.name.as_str())
                .map_err(Error::io("could not remove the bucket's record"))?;
            *alive = false;
        }
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        buckets.remove(&bucket.name);
        drop(buckets);
        if let Err(error) = self.durable.after(&self.records) {
            intent.into_iter().for_each(Intent::leave);
            return Err(error);
        }
        // From here on it is tidying: the bucket is gone.
        if let Some(dir) = bucket_dir {
            self.remove_bucket_directory(&bucket.name, dir);
        }
        remove_empty_histories(&self.versions, bucket.name.as_str());
        self.drop_uploads(&bucket.name);
        drop(intent);
        Ok(())
    }

    /// Removes the directory of what is no bucket, as far as it is ours and empty.
    pub(super) fn remove_bucket_directory(&self, name: &BucketName, dir: OwnedFd) {
        self.remove_empty_directories(&dir);
        drop(dir);
        dir::remove_if_ours(self.root.as_fd(), name.as_str());
    }

    pub(super) fn write_record(&self, info: &BucketInfo) -> Result<(), Error> {
        let staged = Staged::create(self)?;
        dir::write_at(staged.file(), &attributes::encode(&Record::of(info)), 0)
            .map_err(Error::io("could not write a bucket's record"))?;
        self.durable
            .always(staged.file())
            .map_err(Error::io("could not sync a bucket's record"))?;
        staged
            .rename(&self.records, info.bucket.as_str())
            .map_err(Error::io("could not write a bucket's record"))?;
        staged.moved();
        self.durable.after(&self.records)
    }

    fn administer(&self) -> MutexGuard<'_, ()> {
        self.administration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads of a bucket that is gone.
    pub(super) fn drop_uploads(&self, bucket: &BucketName) {
        let removed = staging::random_name().and_then(|name| {
            match fs::renameat(&self.uploads, bucket.as_str(), &self.staging, &name) {
                Ok(()) => dir::remove_tree(self.staging.as_fd(), &name, 3),
                Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(Error::io("could not remove uploads"))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, %bucket, "uploads of a deleted bucket stay behind");
        }
    }

    /// Removes the empty directories below `top` that the gateway made.
    fn remove_empty_directories(&self, top: &OwnedFd) {
        for_each_directory(top, &[], |parent, name| {
            dir::remove_if_ours(parent.as_fd(), name);
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
