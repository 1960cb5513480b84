//! A body that is held to what its headers promised.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use t2gate_backends::{BodyError, BodyEvent, BodySource, BodySummary, Checksum, ChecksumAlgorithm, ObjectBody};

use super::{
    expectation::{Expectation, ExpectedChecksum},
    hashing::{Digests, Hashing},
    incoming::{BodyReader, RequestBody},
};
use crate::{
    s3::{S3Error, S3ErrorCode},
    sigv4::{ChunkSigner, ChunkedDecoder, ChunkedEvent, PayloadMode},
};

/// The checksum that a client sent and that held, once the body has ended.
pub type VerifiedChecksum = Arc<OnceLock<Checksum>>;

/// A request's body with what its headers promised of it, not read yet.
pub struct UnverifiedBody {
    pub body: RequestBody,
    pub headers: HeaderMap,
    pub payload: PayloadMode,
    /// For signed chunks: what their signatures are checked with.
    pub signer: Option<ChunkSigner>,
}

/// Without headers, in which signatures stand.
impl fmt::Debug for UnverifiedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedBody")
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

impl UnverifiedBody {
    /// Judges the headers alone. Nothing is read, so that the client is not asked to send what would be refused.
    pub fn expectation(&self, max_length: u64) -> Result<Expectation, S3Error> {
        let expectation = Expectation::from_headers(&self.headers, self.payload, self.body.is_announced())?;
        if expectation.length > max_length {
            let error = S3Error::new(
                S3ErrorCode::EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size.",
            );
            return Err(error
                .with_field("ProposedSize", expectation.length.to_string())
                .with_field("MaxSizeAllowed", max_length.to_string()));
        }
        Ok(expectation)
    }

    /// What [`collect`](Self::collect) with that bound takes at most: the announced length, or the bound where none is
    /// understood.
    pub fn document_length(&self, max_length: u64) -> u64 {
        let length = Expectation::announced_length(&self.headers, self.payload, self.body.is_announced());
        length.map_or(max_length, |length| length.min(max_length))
    }

    /// The body of an object or a part. `keep` is the algorithm whose value is stored; without it the client's own,
    /// or CRC64NVME.
    pub fn into_object_body(
        self,
        expectation: Expectation,
        keep: Option<ChecksumAlgorithm>,
    ) -> Result<(ObjectBody, VerifiedChecksum), S3Error> {
        let theirs = expectation.checksum.as_ref().map(ExpectedChecksum::algorithm);
        let keep = keep.or(theirs).unwrap_or(ChecksumAlgorithm::Crc64Nvme);
        let algorithms: Vec<_> = std::iter::once(keep).chain(theirs.filter(|a| *a != keep)).collect();
        let (length, sha256) = match self.payload {
            PayloadMode::Sha256(expected) => (expectation.length, Some(expected)),
            _ => (expectation.length, None),
        };
        let verified = VerifiedChecksum::default();
        let source = VerifiedBody {
            reader: self.body.reader(),
            decoder: decoder(self.payload, &expectation, self.signer)?,
            undecoded: Bytes::new(),
            hashing: Hashing::new(sha256.is_some(), &algorithms),
            received: 0,
            sha256,
            trailer: None,
            expectation,
            at_end: false,
            verified: verified.clone(),
        };
        Ok((ObjectBody::new(length, source), verified))
    }

    /// The same body where `x-amz-checksum-*` headers speak of something else than it, and do not bind it.
    pub fn without_checksum_headers(mut self) -> Self {
        for algorithm in ChecksumAlgorithm::ALL {
            self.headers.remove(algorithm.header_name());
        }
        self
    }

    /// The whole of a small document, verified. At most `max_length` bytes.
    pub async fn collect(self, max_length: usize) -> Result<Bytes, S3Error> {
        let expectation = self.expectation(max_length as u64)?;
        let mut collected = BytesMut::new();
        let (mut body, _) = self.into_object_body(expectation, None)?;
        loop {
            match body.next().await? {
                BodyEvent::Data(bytes) => collected.extend_from_slice(&bytes),
                BodyEvent::End(_) => return Ok(collected.freeze()),
            }
        }
    }
}

fn decoder(
    payload: PayloadMode,
    expectation: &Expectation,
    signer: Option<ChunkSigner>,
) -> Result<Option<ChunkedDecoder>, S3Error> {
    if !payload.is_streaming() {
        return Ok(None);
    }
    let trailers: &[Box<str>] = match &expectation.checksum {
        Some(ExpectedChecksum::Trailer(algorithm)) => &[algorithm.header_name().into()],
        Some(ExpectedChecksum::Header(_)) | None => &[],
    };
    Ok(Some(ChunkedDecoder::new(
        payload,
        expectation.length,
        trailers,
        signer,
    )?))
}

struct VerifiedBody {
    reader: BodyReader,
    decoder: Option<ChunkedDecoder>,
    /// Read and not yet through the decoder.
    undecoded: Bytes,
    hashing: Hashing,
    received: u64,
    expectation: Expectation,
    sha256: Option<[u8; 32]>,
    /// The value that came in a trailer.
    trailer: Option<String>,
    at_end: bool,
    verified: VerifiedChecksum,
}

impl BodySource for VerifiedBody {
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
        self.poll(cx).map_err(|error| BodyError(Box::new(error)))
    }
}

impl VerifiedBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, S3Error>> {
        while !self.at_end {
            ready!(self.hashing.poll_room(cx))?;
            match ready!(self.poll_decoded(cx))? {
                Some(bytes) => {
                    self.received += bytes.len() as u64;
                    if self.received > self.expectation.length {
                        return Poll::Ready(Err(incomplete()));
                    }
                    self.hashing.push(bytes.clone());
                    return Poll::Ready(Ok(BodyEvent::Data(bytes)));
                }
                None => self.at_end = true,
            }
        }
        if self.received != self.expectation.length {
            return Poll::Ready(Err(incomplete()));
        }
        let digests = ready!(self.hashing.poll_finish(cx))?;
        Poll::Ready(self.judge(digests).map(BodyEvent::End))
    }

    /// The object's next bytes, without framing.
    fn poll_decoded(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, S3Error>> {
        let Some(decoder) = &mut self.decoder else {
            return self.reader.poll_data(cx).map(Option::transpose);
        };
        loop {
            match decoder.next(&mut self.undecoded)? {
                ChunkedEvent::Data(bytes) => return Poll::Ready(Ok(Some(bytes))),
                ChunkedEvent::Trailers(trailers) => {
                    self.trailer = trailers.into_iter().next().map(|(_, value)| value.into());
                }
                ChunkedEvent::NeedMore => match ready!(self.reader.poll_data(cx)).transpose()? {
                    Some(bytes) => self.undecoded = bytes,
                    None => {
                        decoder.finish()?;
                        return Poll::Ready(Ok(None));
                    }
                },
            }
        }
    }

    /// Holds the digests against what was promised.
    fn judge(&self, digests: Digests) -> Result<BodySummary, S3Error> {
        if self.sha256.is_some() && self.sha256 != digests.sha256 {
            return Err(S3Error::new(
                S3ErrorCode::XAmzContentSHA256Mismatch,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ));
        }
        if self.expectation.md5.is_some_and(|md5| md5 != digests.md5) {
            return Err(S3Error::new(
                S3ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        if let Some(expected) = &self.expectation.checksum {
            let expected = match expected {
                ExpectedChecksum::Header(checksum) => checksum.clone(),
                ExpectedChecksum::Trailer(algorithm) => self.trailer_checksum(*algorithm)?,
            };
            if !digests.checksums.contains(&expected) {
                return Err(S3Error::new(
                    S3ErrorCode::BadDigest,
                    format!(
                        "The {} you specified did not match the calculated checksum.",
                        expected.algorithm.as_str()
                    ),
                ));
            }
            // Set once: the body ends once.
            drop(self.verified.set(expected));
        }
        let checksum = digests.checksums.into_iter().next();
        Ok(BodySummary {
            size: self.received,
            md5: digests.md5,
            checksum: checksum.ok_or_else(|| S3Error::internal("no checksum was computed"))?,
        })
    }

    fn trailer_checksum(&self, algorithm: ChecksumAlgorithm) -> Result<Checksum, S3Error> {
        let value = self
            .trailer
            .as_deref()
            .and_then(|text| Checksum::parse(algorithm, text).ok());
        value.filter(|checksum| checksum.parts.is_none()).ok_or_else(|| {
            S3Error::new(
                S3ErrorCode::InvalidRequest,
                format!("Value for {} trailing header is invalid.", algorithm.header_name()),
            )
        })
    }
}

fn incomplete() -> S3Error {
    S3Error::new(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}
