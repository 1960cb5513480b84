//! Storage in any store that opendal reaches. No type of opendal's leaves this module.
//!
//! - **Probe.** What the store keeps is found out by trying, when it is opened (`probe`). It gets a level: L0 takes and
//!   gives back objects, L1 creates one only where there is none, L2 replaces one only as long as it is what was read.
//!   Conditional writes are judged by the store, in the step that commits; below L2 they are refused.
//! - **Transparent layout.** An object is a store's object with the same bytes under `BUCKET/KEY`. Its attributes lie in
//!   the store's own metadata, known in full before the object is seen: a small body is held in memory and sent in one
//!   write, another lies aside until it has ended and is then joined inside the store. What does not fit into metadata
//!   lies in a side object named by a nonce that the object holds, written before it.
//! - **Encoded layout.** For stores that keep no metadata, or not every key. An object begins with a header that has its
//!   attributes; a small body follows, a larger one lies in blobs that the header names. So one write of one small
//!   object is the step that commits, whatever the size.
//! - **Versions** (encoded layout). What lies under a key's name is its head: the newest version, and which others are
//!   kept. Those lie in a history, and name the same blobs. Each change is one write of the head, from what was read.
//! - **Versions of the store's own** (transparent layout). Where the store keeps them, found out by trying, they are the
//!   versions; the gateway writes down nothing of them.
//! - **Writes** know their own work again by a nonce that they carry: a reply that was lost is no second write.
//! - **Reserved names.** What the gateway keeps for itself lies under `.t2/`, which is no bucket's name: records of
//!   buckets, uploads and parts, blobs, side objects.
//! - **Crashes** leave nothing that is seen. What they leave under `.t2/` is swept when it is old and nothing names it.
//!
//! Within a process requests are kept apart by locks, so that below L2 one gateway keeps all that it promises; two on
//! one store need L2.

mod answer;
mod blob;
mod bucket;
mod budget;
mod head;
mod history;
mod key;
mod listing;
mod locks;
mod multipart;
mod native;
mod native_listing;
mod noted;
mod object;
mod page;
mod probe;
mod read;
mod record;
mod scan;
mod secrets;
mod store;
mod store_versions;
mod sweep;
mod timeouts;
mod version_listing;
mod versions;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use self::{
    budget::Budget,
    locks::Locks,
    probe::{Profile, StoreLevel as Level},
    store::Store,
};
pub use self::{
    key::StoreLayout,
    probe::{ProbeLine, ProbeOutcome, ProbeReport, StoreLevel},
    timeouts::StoreTimeouts,
    watch::{StoreCallOutcome, StoreObserver},
};
use crate::{
    AccountId, Adoption, Backend, BackendError, BucketInfo, BucketName, BucketSetting, Capabilities, Clock,
    CompleteMultipartUpload, CopyObject, CreateBucket, CreateMultipartUpload, DEFAULT_ABANDONED_UPLOAD_AGE,
    DeleteObject, DeleteObjectOutcome, ListMultipartUploads, ListObjectVersions, ListObjects, ListParts,
    MultipartUpload, ObjectBody, ObjectInfo, ObjectPage, ObjectRef, OpenObject, Part, PartNumber, PartPage, PutObject,
    UploadId, UploadPage, UploadRef, VersionPage,
};

/// [`OpendalOptions::memory_bytes`] unless it is set: with it a process stays below 128 MiB, however many upload.
pub const DEFAULT_STORE_MEMORY_BYTES: u64 = 64 << 20;
/// [`OpendalOptions::retry_delay`] unless it is set. Most often a connection has ended that was idle.
pub const DEFAULT_STORE_RETRY_DELAY: Duration = Duration::from_millis(100);
/// A commit that others were faster than, so often, gives up.
const ATTEMPTS: usize = 32;
/// The name for messages and logs.
const NAME: &str = "opendal";

/// What is to be served, and how.
#[derive(Clone)]
pub struct OpendalOptions {
    /// As opendal calls it: see [`store_services`].
    pub service: String,
    /// The service's own options, by opendal's names. Secrets are among them.
    pub options: Vec<(String, String)>,
    /// `None`: transparent where the service is known to hold it, else encoded.
    pub layout: Option<StoreLayout>,
    /// A store that keeps less does not open.
    pub least_level: StoreLevel,
    /// For the times of buckets and uploads, and in the encoded layout of objects.
    pub clock: Arc<dyn Clock>,
    /// Who gets what lies in the store as if in a bucket and is nobody's yet. What nobody gets is not served.
    pub adoption: Adoption,
    /// What bodies on their way to the store may have of memory, all together.
    pub memory_bytes: u64,
    /// A multipart upload that no part has come to for so long is ended, and what a crash has left is removed when it is
    /// as old. `None`: no upload is, and what a crash has left is removed after a week.
    pub abandoned_upload_age: Option<Duration>,
    /// Who is told of the calls of the store, also of those of the probe.
    pub observer: Option<Arc<dyn StoreObserver>>,
    /// What fails for a passing reason is tried again up to four times: after so long or up to twice as long, and each
    /// time after four times as long as before.
    pub retry_delay: Duration,
    /// How long each attempt of a call may take.
    pub timeouts: StoreTimeouts,
}

impl OpendalOptions {
    pub fn new(service: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            service: service.into(),
            options: Vec::new(),
            layout: None,
            least_level: StoreLevel::Blobs,
            clock,
            adoption: Adoption::default(),
            memory_bytes: DEFAULT_STORE_MEMORY_BYTES,
            abandoned_upload_age: Some(DEFAULT_ABANDONED_UPLOAD_AGE),
            observer: None,
            retry_delay: DEFAULT_STORE_RETRY_DELAY,
            timeouts: StoreTimeouts::default(),
        }
    }

    /// The layout that is chosen where none is named.
    fn layout(&self) -> StoreLayout {
        self.layout.unwrap_or(match self.service.as_str() {
            "s3" | "gcs" | "azblob" | "oss" | "cos" | "obs" | "swift" => StoreLayout::Transparent,
            _ => StoreLayout::Encoded,
        })
    }
}

/// Without the values of the options.
impl fmt::Debug for OpendalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("OpendalOptions")
            .field("service", &self.service)
            .field("options", &names)
            .field("layout", &self.layout)
            .field("least_level", &self.least_level)
            .finish_non_exhaustive()
    }
}

/// The services that this build reaches, in order.
pub fn store_services() -> Vec<String> {
    store::services()
}

/// Services that a build has if it was made with the Cargo feature of the same name.
const BY_FEATURE: [&str; 2] = ["sftp", "webhdfs"];

/// What there is to say of a service that this build does not reach.
pub fn missing_service(service: &str) -> String {
    let has = store_services().join(", ");
    if BY_FEATURE.contains(&service) {
        format!("the service \"{service}\" needs a build with the Cargo feature \"{service}\"; this one has {has}")
    } else {
        format!("there is no service \"{service}\"; this build has {has}")
    }
}

/// Why a store cannot be served. What the probe has found is not in the message: see [`report`](Self::report).
#[derive(Debug, thiserror::Error)]
pub enum OpendalOpenError {
    #[error("{}", missing_service(service))]
    UnknownService { service: String },
    /// The reason says none of the secrets.
    #[error("the service \"{service}\" cannot be used as it is configured: {reason}")]
    Configuration { service: String, reason: String },
    #[error("the store does not do what every store has to: take an object, give it back, list it and delete it")]
    Unusable { report: ProbeReport },
    #[error("the configuration asks for level {asked} (least_level), and the store has {}", report.level)]
    LevelTooLow { asked: StoreLevel, report: ProbeReport },
    #[error("the transparent layout needs a store that keeps metadata with objects; the layout \"encoded\" does not")]
    NoMetadata { report: ProbeReport },
    #[error(
        "the store was served in the layout \"{}\", and the configuration asks for \"{}\": objects of the one are none \
         in the other",
        .noted.word(), .asked.word()
    )]
    OtherLayout { noted: StoreLayout, asked: StoreLayout },
    /// Also where the probe met a store that was not well.
    #[error(
        "the store had {noted}, which other gateways may rely on, and has {} now. If that is so for good: remove the \
         object .t2/store from it when no gateway serves it",
        report.level
    )]
    LevelFell { noted: StoreLevel, report: ProbeReport },
    #[error("the object .t2/store in the store is damaged, or a later version of the gateway has written it")]
    UnknownFormat,
    #[error(
        "the transparent layout needs a store that refuses to read what has been replaced, and keeps names apart; the \
         layout \"encoded\" does not"
    )]
    NotTransparent { report: ProbeReport },
    #[error("what the gateway keeps in the store could not be read")]
    Backend(#[from] BackendError),
}

impl OpendalOpenError {
    /// What the probe has found, where that is why.
    pub fn report(&self) -> Option<&ProbeReport> {
        match self {
            Self::Unusable { report }
            | Self::LevelTooLow { report, .. }
            | Self::NoMetadata { report }
            | Self::LevelFell { report, .. }
            | Self::NotTransparent { report } => Some(report),
            Self::UnknownService { .. }
            | Self::Configuration { .. }
            | Self::OtherLayout { .. }
            | Self::UnknownFormat
            | Self::Backend(_) => None,
        }
    }
}

/// What a store was found to be, and whether it would be served.
#[derive(Debug)]
pub struct StoreCheck {
    pub report: ProbeReport,
    /// Why [`OpendalBackend::open`] would refuse it just now.
    pub refusal: Option<OpendalOpenError>,
}

/// A store as a [`Backend`].
pub struct OpendalBackend {
    core: Core,
    report: ProbeReport,
    unclaimed: Vec<BucketName>,
    sweeper: JoinHandle<()>,
}

/// What the requests of a backend share.
#[derive(Debug, Clone)]
struct Core {
    store: Arc<Store>,
    layout: StoreLayout,
    level: Level,
    profile: Profile,
    locks: Arc<Locks>,
    budget: Budget,
    clock: Arc<dyn Clock>,
    adoption: Adoption,
    /// A body that takes longer is refused: what has come of it is for the sweeper when it is twice as old.
    longest_body: Duration,
}

impl OpendalBackend {
    /// Reaches the store, probes it, and looks for what is there. To be called in a runtime of tokio's.
    pub async fn open(options: OpendalOptions) -> Result<Self, OpendalOpenError> {
        let found = Found::of(&options).await?;
        found.judge(&options).await?;
        let Found { store, report, profile } = found;
        let core = Core {
            store,
            layout: options.layout(),
            level: report.level,
            profile,
            locks: Arc::new(Locks::new()),
            budget: Budget::new(options.memory_bytes),
            clock: options.clock,
            adoption: options.adoption,
            longest_body: sweep::least_age(options.abandoned_upload_age) / 2,
        };
        core.note(&report).await?;
        let unclaimed = core.adopt().await?;
        let sweeper = core.clone().sweep_now_and_then(options.abandoned_upload_age);
        Ok(Self {
            core,
            report,
            unclaimed,
            sweeper,
        })
    }

    /// Asks the store what it keeps and whether [`open`](Self::open) would serve it, and leaves nothing there. An error
    /// says that it could not be asked.
    pub async fn check(options: &OpendalOptions) -> Result<StoreCheck, OpendalOpenError> {
        let found = Found::of(options).await?;
        let refusal = found.judge(options).await.err();
        Ok(StoreCheck {
            report: found.report,
            refusal,
        })
    }

    /// What the probe has found.
    pub fn report(&self) -> &ProbeReport {
        &self.report
    }

    pub fn layout(&self) -> StoreLayout {
        self.core.layout
    }

    /// What lies in the store as if in buckets, and is nobody's: not served.
    pub fn unclaimed(&self) -> &[BucketName] {
        &self.unclaimed
    }

    /// Removes what crashes have left that is older than `age`, and ends uploads that nobody has gone on with for so
    /// long. Gives how many of either there were.
    pub async fn sweep(&self, age: Duration) -> Result<usize, BackendError> {
        self.core.sweep(Some(age)).await
    }
}

/// A store that was reached, and what it keeps.
struct Found {
    store: Arc<Store>,
    report: ProbeReport,
    profile: Profile,
}

impl Found {
    async fn of(options: &OpendalOptions) -> Result<Self, OpendalOpenError> {
        if !store_services().contains(&options.service) {
            return Err(OpendalOpenError::UnknownService {
                service: options.service.clone(),
            });
        }
        let store = Store::open(
            &options.service,
            &options.options,
            options.observer.clone(),
            options.retry_delay,
            options.timeouts,
        );
        let store = Arc::new(store.map_err(|reason| OpendalOpenError::Configuration {
            service: options.service.clone(),
            reason,
        })?);
        let random =
            getrandom::u64().map_err(|error| BackendError::internal("no randomness for a name in the store", error))?;
        let run = crate::Stamp::new(options.clock.now(), random);
        let (report, profile) = probe::probe(&store, options.layout(), run).await;
        Ok(Self { store, report, profile })
    }

    /// Whether it can be served as the options ask for, also by what an earlier start has noted. Changes nothing.
    async fn judge(&self, options: &OpendalOptions) -> Result<(), OpendalOpenError> {
        let (report, profile) = (|| self.report.clone(), &self.profile);
        let is_transparent = options.layout() == StoreLayout::Transparent;
        if !self.report.is_usable() {
            return Err(OpendalOpenError::Unusable { report: report() });
        }
        if is_transparent && !profile.metadata {
            return Err(OpendalOpenError::NoMetadata { report: report() });
        }
        if is_transparent && !(profile.reads_same && profile.names_apart) {
            return Err(OpendalOpenError::NotTransparent { report: report() });
        }
        if self.report.level < options.least_level {
            return Err(OpendalOpenError::LevelTooLow {
                asked: options.least_level,
                report: report(),
            });
        }
        noted::compare(&self.store, options.layout(), &self.report).await?;
        Ok(())
    }
}

impl Drop for OpendalBackend {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

impl fmt::Debug for OpendalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpendalBackend")
            .field("service", &self.report.service)
            .field("layout", &self.core.layout)
            .field("level", &self.report.level)
            .finish_non_exhaustive()
    }
}

impl Core {
    fn not_supported(&self, operation: &'static str) -> BackendError {
        BackendError::NotSupported {
            operation,
            backend: NAME,
        }
    }
}

#[async_trait]
impl Backend for OpendalBackend {
    fn capabilities(&self, _: Option<&BucketName>) -> Capabilities {
        Capabilities {
            name: NAME,
            conditional_writes: self.core.level >= Level::CompareAndSet,
            conditional_deletes: self.core.judges_deletes(),
            stable_reads: false,
            history: self.core.keeps_history(),
            versioning: self.core.is_native(),
            always_versioned: self.core.is_native(),
            encryption: false,
        }
    }

    fn copies_between(&self, _: &BucketName, _: &BucketName) -> bool {
        self.core.profile.copies
    }

    async fn ready(&self) -> Result<(), BackendError> {
        self.core.ready().await
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<BucketInfo, BackendError> {
        self.core.create_bucket(request).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo, BackendError> {
        Ok(self.core.bucket(bucket).await?.info)
    }

    async fn list_buckets(
        &self,
        owner: &AccountId,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<BucketInfo>, BackendError> {
        self.core.list_buckets(owner, prefix, start_after, max).await
    }

    async fn put_bucket_setting(&self, bucket: &BucketName, setting: BucketSetting) -> Result<(), BackendError> {
        self.core.put_bucket_setting(bucket, setting).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<(), BackendError> {
        self.core.delete_bucket(bucket).await
    }

    async fn put_object(&self, request: PutObject, body: ObjectBody) -> Result<ObjectInfo, BackendError> {
        self.core.put_object(request, body).await
    }

    async fn open_object(&self, object: &ObjectRef) -> Result<OpenObject, BackendError> {
        self.core.open_object(object).await
    }

    async fn copy_object(&self, request: CopyObject) -> Result<ObjectInfo, BackendError> {
        self.core.copy_object(request).await
    }

    async fn delete_object(&self, request: DeleteObject) -> Result<DeleteObjectOutcome, BackendError> {
        self.core.delete_object(request).await
    }

    async fn list_objects(&self, request: ListObjects) -> Result<ObjectPage, BackendError> {
        self.core.list_objects(request).await
    }

    async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        self.core.list_object_versions(request).await
    }

    async fn create_multipart_upload(&self, request: CreateMultipartUpload) -> Result<UploadId, BackendError> {
        self.core.create_multipart_upload(request).await
    }

    async fn head_multipart_upload(&self, upload: &UploadRef) -> Result<MultipartUpload, BackendError> {
        self.core.head_multipart_upload(upload).await
    }

    async fn upload_part(
        &self,
        upload: &UploadRef,
        part_number: PartNumber,
        body: ObjectBody,
    ) -> Result<Part, BackendError> {
        self.core.upload_part(upload, part_number, body).await
    }

    async fn complete_multipart_upload(&self, request: CompleteMultipartUpload) -> Result<ObjectInfo, BackendError> {
        self.core.complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(&self, upload: &UploadRef) -> Result<(), BackendError> {
        self.core.abort_multipart_upload(upload).await
    }

    async fn list_parts(&self, request: ListParts) -> Result<PartPage, BackendError> {
        self.core.list_parts(request).await
    }

    async fn list_multipart_uploads(&self, request: ListMultipartUploads) -> Result<UploadPage, BackendError> {
        self.core.list_multipart_uploads(request).await
    }
}
