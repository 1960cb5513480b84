//! The bytes of a write on their way to the store.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::{Checksum, ChecksumAlgorithm, ChecksumHasher, error::BoxError};

/// What the end of a good body says of it. A body ends in this or in an error, and a backend commits only after this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySummary {
    /// Length in bytes: of the object, also where an overlay stores other bytes.
    pub size: u64,
    /// MD5 of the object's bytes, and so its ETag.
    pub md5: [u8; 16],
    /// The checksum to keep with the object: the client's own, verified, or one computed on the way.
    pub checksum: Checksum,
}

impl BodySummary {
    /// The summary of bytes at hand.
    pub fn of(bytes: &[u8], algorithm: ChecksumAlgorithm) -> Self {
        let mut checksum = ChecksumHasher::new(algorithm);
        checksum.update(bytes);
        Self {
            size: bytes.len() as u64,
            md5: Md5::digest(bytes).into(),
            checksum: checksum.finalize(),
        }
    }
}

/// One step of a body.
#[derive(Debug)]
pub enum BodyEvent {
    /// The next bytes, at least one, in pieces of any size.
    Data(Bytes),
    /// All bytes have come, and every signature, checksum and length holds. Nothing follows.
    End(BodySummary),
}

/// Why a body did not end well. The gateway knows the inside; a backend hands it back as
/// [`BackendError::Body`](crate::BackendError::Body).
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(pub BoxError);

/// A body that verifies itself as it flows.
pub trait BodySource: Send {
    /// The next event. After an error or [`BodyEvent::End`] it is not polled again.
    fn poll_event(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>>;
}

/// A write's body: a stream of bytes that ends in an error or in a [`BodySummary`]. Never held whole.
pub struct ObjectBody {
    length: u64,
    source: Pin<Box<dyn BodySource>>,
}

impl ObjectBody {
    /// `length` is what was announced; the source ends in an error unless exactly so many bytes come.
    pub fn new(length: u64, source: impl BodySource + 'static) -> Self {
        Self {
            length,
            source: Box::pin(source),
        }
    }

    /// A body of bytes at hand, with a CRC64NVME.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let summary = BodySummary::of(&bytes, ChecksumAlgorithm::Crc64Nvme);
        Self::new(
            summary.size,
            Whole {
                bytes: Some(bytes).filter(|b| !b.is_empty()),
                summary,
            },
        )
    }

    /// The announced length in bytes, before any has come.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<BodyEvent, BodyError> {
        poll_fn(|cx| self.source.as_mut().poll_event(cx)).await
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

struct Whole {
    bytes: Option<Bytes>,
    summary: BodySummary,
}

impl BodySource for Whole {
    fn poll_event(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
        Poll::Ready(Ok(match self.bytes.take() {
            Some(bytes) => BodyEvent::Data(bytes),
            None => BodyEvent::End(self.summary.clone()),
        }))
    }
}
