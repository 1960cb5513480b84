//! What can go wrong in storage, in storage's words.

use crate::{AccountId, BodyError, Timestamp, VersionId, multipart::AssembleError};

/// Any error as a source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The one error type of a [`Backend`](crate::Backend). Not `non_exhaustive`: the gateway answers for every variant.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("the bucket exists and belongs to {owner}")]
    BucketAlreadyExists { owner: AccountId },
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("the account has as many buckets as it may have ({limit})")]
    TooManyBuckets { limit: u32 },
    /// The key has no current object.
    #[error("no such key")]
    NoSuchKey,
    #[error("no such version")]
    NoSuchVersion,
    /// What was asked for is a delete marker: the version that was named, or, where none was, the newest one.
    #[error("that is a delete marker")]
    DeleteMarker {
        version_id: VersionId,
        last_modified: Timestamp,
    },
    /// The upload was never there, is aborted, or is completed and its object replaced since.
    #[error("no such multipart upload")]
    NoSuchUpload,
    /// A [`WriteCondition`](crate::WriteCondition) does not hold; nothing was changed.
    #[error("a precondition does not hold")]
    PreconditionFailed,
    /// [`WriteCondition::keep_all`](crate::WriteCondition::keep_all) does not hold; nothing was changed.
    #[error("the write would destroy what must be kept")]
    WouldDestroy,
    /// Another operation on the same thing is under way; nothing was changed, and trying again makes sense.
    #[error("a conflicting operation is under way")]
    Conflict,
    /// The parts named in CompleteMultipartUpload do not make an object; the upload is as it was.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The request's body ended in an error; nothing was changed.
    #[error("the body failed")]
    Body(#[from] BodyError),
    /// The key or prefix is a good one, but this backend cannot hold it.
    #[error("this backend cannot hold the key: {0}")]
    UnsupportedKey(&'static str),
    #[error("{operation} is not supported by the backend {backend}")]
    NotSupported {
        operation: &'static str,
        backend: &'static str,
    },
    /// Not now: too much is under way, or the store asks to slow down. Nothing was changed.
    #[error("the backend is busy: {context}")]
    Busy { context: &'static str },
    /// The backend has seen a fault after which it accepts no writes until it is checked.
    #[error("the backend is read-only after a fault, until the gateway is started again")]
    ReadOnly,
    /// The storage failed. Unless `context` says that the outcome is unknown, nothing was changed.
    #[error("{context}")]
    Internal {
        context: &'static str,
        #[source]
        source: BoxError,
    },
}

impl BackendError {
    pub fn internal(context: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Internal {
            context,
            source: source.into(),
        }
    }
}
