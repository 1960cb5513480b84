//! The bytes of a stored object as the body of a new one.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use t2gate_backends::{BodyError, BodyEvent, BodySource, BodySummary, ByteStream, ChecksumAlgorithm, ObjectBody};

use super::hashing::Hashing;
use crate::s3::S3Error;

/// A body of `length` bytes from `source`, with MD5 and the checksum `keep` computed on the way.
pub fn copied_body(length: u64, source: ByteStream, keep: ChecksumAlgorithm) -> ObjectBody {
    let copied = Copied {
        source,
        hashing: Hashing::new(false, &[keep]),
        length,
        copied: 0,
        at_end: false,
    };
    ObjectBody::new(length, copied)
}

struct Copied {
    source: ByteStream,
    hashing: Hashing,
    length: u64,
    copied: u64,
    at_end: bool,
}

impl BodySource for Copied {
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
        let this = &mut *self;
        let failed = |error: S3Error| BodyError(Box::new(error));
        while !this.at_end {
            ready!(this.hashing.poll_room(cx)).map_err(failed)?;
            match ready!(this.source.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    this.copied += bytes.len() as u64;
                    this.hashing.push(bytes.clone());
                    return Poll::Ready(Ok(BodyEvent::Data(bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Err(failed(error.into()))),
                None => this.at_end = true,
            }
        }
        if this.copied != this.length {
            return Poll::Ready(Err(failed(S3Error::internal("the source of a copy ran short"))));
        }
        let digests = ready!(this.hashing.poll_finish(cx)).map_err(failed)?;
        let checksum = digests.checksums.into_iter().next();
        let checksum = checksum.ok_or_else(|| failed(S3Error::internal("no checksum was computed")))?;
        Poll::Ready(Ok(BodyEvent::End(BodySummary {
            size: this.copied,
            md5: digests.md5,
            checksum,
        })))
    }
}
