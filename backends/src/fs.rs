//! Storage in a directory tree: an object is a file with the same bytes under its own name, and a file that something
//! else puts there is an object at once.
//!
//! - **Names.** The key's segments are directories and a file; what no file can be called is escaped (`key_codec`). A
//!   name that begins with `.t2` in any letter case without being such an escape, and one that is not UTF-8, is no
//!   object. Symbolic links are not followed and are no objects, nor are sockets, devices and what cannot be read.
//! - **Folded names.** Where the file system takes several spellings for one name, a key has an entry only under its exact
//!   spelling, and else an escape that nothing folds with (`names`).
//! - **`a` beside `a/b`.** Where a directory has the name `a`, the object `a` is `.t2!a` beside it. Lookup is in that
//!   order.
//! - **Writes** are prepared in `.t2/staging`, with their attributes, synced, and renamed into place in one step, under
//!   a lock of the key; then the directories are synced. A sync that fails after that step leaves an outcome that
//!   nobody knows: from then on all writes are refused. Writers who sync at the same time share one sync.
//! - **Attributes** lie in an extended attribute, bound to the file's size and modification time. A file that was changed
//!   by other means loses them, and has an ETag derived from what the file system knows of it. A change that keeps
//!   both goes unseen. `Last-Modified` is the file's modification time. Where the file system has no such attributes, or
//!   too little room for them, they lie in files of their own (`keeping`).
//! - **Directories** that the gateway made go when they become empty; others stay. A bucket's directory is no symbolic
//!   link, and what is mounted inside a bucket can be read, not written: a commit is a rename.
//! - **Listings** go by the names of directories in order, which are kept in memory, in so much and no more, as long as
//!   nothing says that a directory has changed (`listing/cache.rs` has what counts as that).
//! - **Versions** are other names of the same files, in a directory for each key (`versions`). What a commit displaces has its
//!   name there, durably, before it loses its own.
//! - **Parts** of one size are written in place into one file, which becomes the object by a rename
//!   (`multipart/slots.rs`). Uploads that nobody goes on with are ended after a time.
//! - **Crashes** leave nothing that is seen. The next start empties staging, and tidies up where a note there tells of
//!   side files, directories and second names that a write was about to make or to remove (`intent`).
//!
//! One process serves a root, and holds a lock. Or several share it, then they lock what they change against each other
//! (`locks`), each has staging of its own, which others clear when it has ended (`peers`), and buckets are what their
//! records say at each use. That writes are refused after a failed sync is a state of the one process.
//!
//! All waiting for the disk is on threads for blocking work; what needs no
//! waiting, because the system says that it has it in memory, may be read where it is asked for.

mod adopt;
mod attributes;
mod bucket;
mod content_type;
mod crash;
mod dir;
mod doctor;
mod durable;
mod error;
mod intent;
mod keeping;
mod layout;
mod listing;
mod locks;
mod look;
mod marks;
mod multipart;
mod names;
mod object;
mod peers;
mod read;
mod side;
#[cfg(feature = "simulated-folding")]
mod simulated_folding;
mod staging;
mod sys;
mod upkeep;
mod uploads;
mod versions;
mod xattr;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use rustix::fd::OwnedFd;
use tokio::task::JoinHandle;

#[cfg(feature = "crash-points")]
pub use self::crash::armed as crash_points;
#[cfg(feature = "simulated-folding")]
pub use self::simulated_folding::{SimulatedFolding, simulate_folding};
use self::{
    attributes::NewObject,
    bucket::Bucket,
    dir::Meta,
    durable::Durable,
    error::Error,
    keeping::Attributes,
    listing::ListingCache,
    locks::{KeyLocks, Moves, UploadLocks, file::FileLock},
    marks::Marks,
    names::Folding,
    peers::Peers,
    upkeep::Upkeep,
};
pub use self::{
    doctor::{FsFinding, FsFindingKind, FsReport, examine_fs},
    durable::Durability,
    layout::FsOpenError,
};
use crate::{
    AccountId, Adoption, Backend, BackendError, BucketInfo, BucketName, BucketSetting, Capabilities, Clock,
    CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload, DeleteObject, DeleteObjectOutcome, ETag,
    ListMultipartUploads, ListObjectVersions, ListObjects, ListParts, MultipartUpload, ObjectAttributes, ObjectBody,
    ObjectInfo, ObjectPage, ObjectRef, OpenObject, Part, PartNumber, PartPage, PutObject, UploadId, UploadPage,
    UploadRef, VersionPage, versioning::list_unversioned,
};

/// What is to be served, and how.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// Made if it is not there. Attributes are kept in user extended attributes where the file system has these, with room
    /// enough, when this is first opened; else in files beside.
    pub root: PathBuf,
    /// For the times of buckets and uploads. Objects have those of their files.
    pub clock: Arc<dyn Clock>,
    pub durability: Durability,
    /// Who gets the directories under the root that are nobody's bucket yet. What nobody gets is not served.
    pub adoption: Adoption,
    /// How many bytes of what listings have read are kept in memory from one to the next: names of directories, in order,
    /// and what was said of objects.
    pub listing_cache_bytes: usize,
    /// A multipart upload that no part has come to for so long, nor was begun since, is ended. `None`: never.
    pub abandoned_upload_age: Option<Duration>,
    /// Whether other processes may serve the root at the same time, which then all have to say so. They lock what they
    /// change against each other: a process that is stopped, and not ended, in the middle of a write holds others up.
    pub shared: bool,
    /// Nothing below the root is changed, put in order or adopted, and every write is
    /// [`BackendError::ReadOnly`]. The root has to be there. What an interrupted write has left is not tidied up: a listing
    /// by name may miss an object that the next start without this puts back in its place.
    pub read_only: bool,
}

/// [`FsOptions::listing_cache_bytes`] unless it is set.
pub const DEFAULT_LISTING_CACHE_BYTES: usize = 256 << 20;
/// [`FsOptions::abandoned_upload_age`] unless it is set: a week.
pub const DEFAULT_ABANDONED_UPLOAD_AGE: Duration = Duration::from_hours(7 * 24);

impl FsOptions {
    pub fn new(root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            root: root.into(),
            clock,
            durability: Durability::default(),
            adoption: Adoption::default(),
            listing_cache_bytes: DEFAULT_LISTING_CACHE_BYTES,
            abandoned_upload_age: Some(DEFAULT_ABANDONED_UPLOAD_AGE),
            shared: false,
            read_only: false,
        }
    }
}

/// A directory tree as a [`Backend`].
#[derive(Debug)]
pub struct FsBackend {
    store: Arc<Store>,
    unclaimed: Vec<BucketName>,
    #[expect(dead_code, reason = "held, never looked at: it ends when this is dropped")]
    upkeep: Option<Upkeep>,
}

/// All there is below the root. Its methods block.
#[derive(Debug)]
struct Store {
    root: OwnedFd,
    /// Our own.
    staging: Arc<OwnedFd>,
    attributes: Attributes,
    /// Which directories are ours.
    marks: Marks,
    /// The buckets' records.
    records: OwnedFd,
    /// Whether nobody but this kernel changes them.
    has_local_records: bool,
    uploads: Arc<OwnedFd>,
    /// What is kept beside current objects, by bucket.
    versions: OwnedFd,
    #[expect(dead_code, reason = "held, never looked at: the lock goes with it")]
    lock: Arc<FileLock>,
    clock: Arc<dyn Clock>,
    durable: Durable,
    /// `None` where nobody else serves the root.
    peers: Option<Peers>,
    /// Where the root takes several spellings for one name.
    folding: Option<Folding>,
    keys: KeyLocks,
    moves: Moves,
    upload_locks: UploadLocks,
    listing_cache: ListingCache,
    abandoned_upload_age: Option<Duration>,
    /// All buckets; where others change their records too, what was read of them.
    buckets: RwLock<BTreeMap<BucketName, Arc<Bucket>>>,
    /// Held while buckets are created, changed, deleted.
    administration: Mutex<()>,
}

impl FsBackend {
    /// Opens a root: takes its lock, removes what a crash has left in staging. Blocks. From then on a thread of its own
    /// [ends abandoned uploads](Self::sweep_uploads), once an hour. But for none of this if it is to be
    /// [read only](FsOptions::read_only): then it just takes the lock.
    pub fn open(options: FsOptions) -> Result<Self, FsOpenError> {
        let (root, adoption) = (options.root.clone(), options.adoption.clone());
        if options.read_only {
            return Ok(Self {
                store: Arc::new(Store::look(&options)?),
                unclaimed: Vec::new(),
                upkeep: None,
            });
        }
        let failed = |action| {
            let root = root.clone();
            move |source| FsOpenError::Io { root, action, source }
        };
        let store = Arc::new(Store::open(options)?);
        let unclaimed = store
            .adopt(&adoption)
            .map_err(std::io::Error::other)
            .map_err(failed("could not look for buckets that were there before"))?;
        let upkeep = Upkeep::start(&store).map_err(failed("could not start a thread"))?;
        Ok(Self {
            store,
            unclaimed,
            upkeep: Some(upkeep),
        })
    }

    /// Ends the multipart uploads that have been abandoned for [`FsOptions::abandoned_upload_age`], and how many those
    /// were; with them, uncounted, what an interrupted completion has left of an upload whose object is there.
    pub async fn sweep_uploads(&self) -> Result<usize, BackendError> {
        self.run(Store::sweep_uploads).await
    }

    /// Clears what processes that have ended left in staging, and how many those were. Done from time to time anyway.
    pub async fn sweep_staging(&self) -> Result<usize, BackendError> {
        self.run(Store::sweep_peers).await
    }

    /// Directories under the root, as they were at the start, that could be buckets and are nobody's: they are not
    /// served until [`FsOptions::adoption`] names an owner. None where it is [read only](FsOptions::read_only).
    pub fn unclaimed(&self) -> &[BucketName] {
        &self.unclaimed
    }

    /// How many times the kernel was asked to sync since this was opened, in whatever way: `fsync` of one file or
    /// `syncfs` for many writers.
    pub fn syncs(&self) -> u64 {
        self.store.durable.syncs()
    }

    /// How many bytes of names of directories are kept in memory, at most [`FsOptions::listing_cache_bytes`].
    pub fn listing_cache_used(&self) -> usize {
        self.store.listing_cache.used()
    }

    /// `work` on a thread that may block. Once begun it goes on to its end, also if this future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, BackendError> {
        let store = Arc::clone(&self.store);
        blocking(tokio::task::spawn_blocking(move || work(&store))).await
    }

    /// As [`run`](Self::run), in the bucket that has the name when the work begins.
    async fn run_in<T: Send + 'static>(
        &self,
        bucket: &BucketName,
        work: impl FnOnce(&Store, &Bucket) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, BackendError> {
        let name = bucket.clone();
        self.run(move |store| work(store, &*store.bucket(&name)?)).await
    }

    /// The bucket that has the name now.
    async fn bucket(&self, name: &BucketName) -> Result<Arc<Bucket>, BackendError> {
        if self.store.peers.is_none() {
            return Ok(self.store.bucket(name)?);
        }
        let name = name.clone();
        self.run(move |store| store.bucket(&name)).await
    }
}

async fn blocking<T>(work: JoinHandle<Result<T, Error>>) -> Result<T, BackendError> {
    match work.await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(error) => Err(Error::CutOff(error).into()),
    }
}

#[async_trait]
impl Backend for FsBackend {
    fn capabilities(&self, _: Option<&BucketName>) -> Capabilities {
        Capabilities {
            name: "fs",
            conditional_writes: true,
            conditional_deletes: true,
            stable_reads: true,
            history: true,
            versioning: false,
            always_versioned: false,
            encryption: false,
        }
    }

    fn copies_between(&self, _: &BucketName, _: &BucketName) -> bool {
        true
    }

    async fn ready(&self) -> Result<(), BackendError> {
        self.run(|store| {
            store.durable.check_writable()?;
            Meta::in_dir(&store.root, ".t2/format").map_err(Error::io("could not look at the root"))?;
            Ok(())
        })
        .await
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        self.run(move |store| store.create_bucket(request)).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        Ok(self.bucket(bucket).await?.info())
    }

    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        let (owner, prefix) = (owner.clone(), prefix.to_owned());
        let start_after = start_after.map(str::to_owned);
        self.run(move |store| store.list_buckets(&owner, &prefix, start_after.as_deref(), max))
            .await
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        self.run_in(bucket, move |store, bucket| store.put_bucket_setting(bucket, setting))
            .await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        self.run_in(bucket, Store::delete_bucket).await
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        self.store.durable.check_writable()?;
        let bucket = self.bucket(&request.bucket).await?;
        let received = staging::receive(&self.store, body).await?;
        self.run(move |store| {
            let (staged, summary) = received.finish(store)?;
            let new = NewObject {
                etag: ETag::from_md5(summary.md5),
                attributes: ObjectAttributes {
                    checksum: Some(summary.checksum),
                    ..request.attributes
                },
                parts: Vec::new(),
                upload_id: None,
                version: None,
            };
            let versions = request.versions.as_ref();
            store.publish(&bucket, request.key, &request.condition, versions, staged, new)
        })
        .await
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        let named = object.clone();
        self.run_in(&object.bucket, move |store, bucket| store.open_object(bucket, &named))
            .await
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        let source = self.bucket(&request.source.bucket).await?;
        let target = self.bucket(&request.bucket).await?;
        self.run(move |store| store.copy_object(&source, &target, request))
            .await
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        let bucket = request.object.bucket.clone();
        self.run_in(&bucket, move |store, bucket| store.delete_object(bucket, &request))
            .await
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        let bucket = request.bucket.clone();
        self.run_in(&bucket, move |store, bucket| store.list_objects(bucket, &request))
            .await
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        let bucket = self.bucket(&request.bucket).await?;
        if bucket.versioning().is_none() {
            return list_unversioned(request, |request| self.list_objects(request)).await;
        }
        self.run(move |store| store.list_object_versions(&bucket, &request))
            .await
    }

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        let bucket = request.bucket.clone();
        self.run_in(&bucket, move |store, bucket| {
            store.create_multipart_upload(bucket, request)
        })
        .await
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        let named = upload.clone();
        self.run_in(&upload.bucket, move |store, _| store.head_multipart_upload(&named))
            .await
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        let bucket = self.bucket(&upload.bucket).await?;
        let upload = upload.clone();
        let (named, length) = (upload.clone(), body.length());
        let slot = self
            .run(move |store| store.begin_part(&named, part_number, length))
            .await?;
        if let Some(slot) = slot {
            let placed = multipart::receive(slot, body).await?;
            return self.run(move |store| store.finish_part(&bucket, &upload, placed)).await;
        }
        let received = staging::receive(&self.store, body).await?;
        self.run(move |store| {
            let (staged, summary) = received.finish(store)?;
            store.put_part(&bucket, &upload, part_number, staged, summary)
        })
        .await
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        let bucket = request.upload.bucket.clone();
        self.run_in(&bucket, move |store, bucket| {
            store.complete_multipart_upload(bucket, &request)
        })
        .await
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        let named = upload.clone();
        self.run_in(&upload.bucket, move |store, _| store.abort_multipart_upload(&named))
            .await
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        let bucket = request.upload.bucket.clone();
        self.run_in(&bucket, move |store, _| store.list_parts(&request)).await
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        let bucket = request.bucket.clone();
        self.run_in(&bucket, move |store, _| store.list_multipart_uploads(&request))
            .await
    }
}
