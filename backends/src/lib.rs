//! Storage behind t2gate: the [`Backend`] contract, the types that cross it, and the backends that keep it.
//!
//! This crate knows no HTTP, no XML and no signatures; the gateway crate depends on it, never the other way round.

mod backend;
mod body;
mod capability;
mod checksum;
mod clock;
mod condition;
#[cfg(feature = "conformance")]
pub mod conformance;
mod decorate;
mod error;
mod fs;
mod key_codec;
mod memory;
mod multipart;
mod opendal;
mod request;
mod routes;
mod stored;
mod types;
mod versioning;

pub use self::opendal::{
    DEFAULT_STORE_MEMORY_BYTES, DEFAULT_STORE_RETRY_DELAY, OpendalBackend, OpendalOpenError, OpendalOptions, ProbeLine,
    ProbeOutcome, ProbeReport, StoreCallOutcome, StoreCheck, StoreLayout, StoreLevel, StoreObserver, StoreTimeouts,
    missing_service, store_services,
};
pub use backend::{Backend, ByteStream, ObjectReader, OpenObject};
pub use body::{BodyError, BodyEvent, BodySource, BodySummary, ObjectBody};
pub use capability::Capabilities;
pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumHasher, ChecksumType, InvalidChecksum, combine_full_object};
pub use clock::{Clock, SystemClock, TestClock};
pub use condition::{IfMatch, ReadCondition, ReadRefusal, WriteCondition};
pub use decorate::{CallOutcome, Metered, NoSuchStore, Observer, Routed};
pub use error::{BackendError, BoxError};
#[cfg(feature = "crash-points")]
pub use fs::crash_points;
pub use fs::{
    DEFAULT_ABANDONED_UPLOAD_AGE, DEFAULT_LISTING_CACHE_BYTES, Durability, FsBackend, FsFinding, FsFindingKind,
    FsOpenError, FsOptions, FsReport, examine_fs,
};
#[cfg(feature = "simulated-folding")]
pub use fs::{SimulatedFolding, simulate_folding};
pub use memory::MemoryBackend;
pub use multipart::{AssembleError, Assembled, StoredPart, assemble};
pub use request::*;
pub use routes::{Adoption, BucketPattern, InvalidBucketPattern, Routes};
pub use types::*;
pub use versioning::{CurrentVersion, DeletePlan, Displaced, KeyState, VersionClock, Versioned, WritePlan};
