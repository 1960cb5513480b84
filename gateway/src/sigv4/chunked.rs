//! The aws-chunked framing of a streaming payload, taken apart without I/O.
//!
//! ```text
//! hex-size[;chunk-signature=64-hex] CRLF data CRLF ... 0[;chunk-signature=64-hex] CRLF *(name:value EOL) CRLF
//! ```
//!
//! A line of a trailer may end in CRLF, LF, or LF CRLF, for Amazon's own example has the last and clients copied it.
//! Signed chunks of any size are accepted: Amazon asks for 8 KiB at least, but nothing is won by refusing less.

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};

use super::{ChunkSigner, PayloadMode, payload::MAX_TRAILERS, signing_key::Signature};
use crate::s3::{S3Error, S3ErrorCode};

/// The longest line before a chunk, in bytes without its CRLF: 16 digits, `;chunk-signature=` and 64 digits.
const MAX_CHUNK_HEADER: usize = 16 + 17 + 64;
/// All trailers together, in bytes.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// The trailer that signs the others.
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// One step of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkedEvent {
    /// The next bytes of the object, at least one. The signature of their chunk is judged when it ends: nothing may be
    /// committed before [`Trailers`](Self::Trailers) has come and [`ChunkedDecoder::finish`] has agreed.
    Data(Bytes),
    /// The body is whole, all signatures hold, and these are its trailers, names in lower case, the signature left out.
    /// Comes once, with nothing in it when none were announced.
    Trailers(Vec<(Box<str>, Box<str>)>),
    /// The input is used up.
    NeedMore,
}

/// What is wrong with a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// Not that framing.
    #[error("The request body is not framed as aws-chunked.")]
    Framing,
    /// The body ends early, or goes on after its end.
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    Length,
    /// The chunks hold more or less than `x-amz-decoded-content-length`.
    #[error("You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header")]
    DecodedLength,
    /// The signature of a chunk or of the trailers does not match.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )]
    Signature,
    /// A trailer is missing, empty, not announced, given twice, or not `name:value`; or they are too long.
    #[error("The request contained trailing data that was not well-formed or did not conform to our published schema.")]
    Trailer,
}

impl ChunkedError {
    /// The code for the client.
    pub fn code(self) -> S3ErrorCode {
        match self {
            Self::Framing | Self::Length | Self::DecodedLength => S3ErrorCode::IncompleteBody,
            Self::Signature => S3ErrorCode::SignatureDoesNotMatch,
            Self::Trailer => S3ErrorCode::MalformedTrailerError,
        }
    }
}

impl From<ChunkedError> for S3Error {
    fn from(error: ChunkedError) -> Self {
        let s3 = Self::new(error.code(), error.to_string());
        let s3 = match error {
            ChunkedError::Signature => s3.unauthenticated(),
            ChunkedError::Framing | ChunkedError::Length | ChunkedError::DecodedLength | ChunkedError::Trailer => s3,
        };
        s3.with_source(error)
    }
}

/// Takes an aws-chunked body apart. Feed it the body in pieces of any size, until [`ChunkedEvent::NeedMore`] asks for the
/// next; at the end of the body ask [`finish`](Self::finish). After an error it gives the same error for ever.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    has_trailer: bool,
    signer: Option<ChunkSigner>,
    /// Bytes of the object that are still to come.
    remaining: u64,
    /// Trailers that are still to come.
    expected: Vec<Box<str>>,
    trailers: Vec<(Box<str>, Box<str>)>,
    trailer_signature: Option<Signature>,
    /// Whether the last line of the trailers ended in a bare LF.
    bare_lf: bool,
    /// A line that is not there whole.
    line: Vec<u8>,
    trailer_bytes: usize,
}

#[derive(Debug)]
enum State {
    ChunkHeader,
    /// In a chunk that has `left` more bytes.
    Data {
        left: u64,
        check: Option<ChunkCheck>,
    },
    /// In the CRLF after a chunk's data, `seen` bytes in.
    DataEnd {
        seen: usize,
    },
    TrailerLine,
    /// The body is whole. `slack` is what may still follow: the CRLF that senders of LF CRLF add.
    Done {
        slack: &'static [u8],
    },
    Failed(ChunkedError),
}

/// A chunk's data so far, and its signature.
#[derive(Debug)]
struct ChunkCheck {
    sha256: Sha256,
    signature: Signature,
}

impl ChunkedDecoder {
    /// A decoder for a body of `decoded_length` bytes without its framing. `expected_trailers` are the names that
    /// `x-amz-trailer` announced, in lower case. Chunks are signed if
    /// and only if there is a `signer`, so for the modes that want one pass that of [`Verified`](super::Verified).
    ///
    /// # Errors
    /// [`ChunkedError::Framing`] when mode and signer do not go together, [`ChunkedError::Trailer`] when trailers are
    /// announced for a mode that has none.
    pub fn new(
        mode: PayloadMode,
        decoded_length: u64,
        expected_trailers: &[Box<str>],
        signer: Option<ChunkSigner>,
    ) -> Result<Self, ChunkedError> {
        if !mode.is_streaming() || mode.is_signed_streaming() != signer.is_some() {
            return Err(ChunkedError::Framing);
        }
        if !expected_trailers.is_empty() && !mode.has_trailer() || expected_trailers.len() > MAX_TRAILERS {
            return Err(ChunkedError::Trailer);
        }
        Ok(Self {
            state: State::ChunkHeader,
            has_trailer: mode.has_trailer(),
            signer,
            remaining: decoded_length,
            expected: expected_trailers.to_vec(),
            trailers: Vec::new(),
            trailer_signature: None,
            bare_lf: false,
            line: Vec::new(),
            trailer_bytes: 0,
        })
    }

    /// Takes what it can from the front of `input`.
    ///
    /// # Errors
    /// [`ChunkedError`]; it comes as soon as the bytes show it, and again on each further call.
    pub fn next(&mut self, input: &mut Bytes) -> Result<ChunkedEvent, ChunkedError> {
        let result = self.step(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Judges the end of the body.
    ///
    /// # Errors
    /// [`ChunkedError::Length`] when it comes too early, or the error that came before.
    pub fn finish(&self) -> Result<(), ChunkedError> {
        match self.state {
            // The extra CRLF is there whole or not at all.
            State::Done { slack: b"" | b"\r\n" } => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(ChunkedError::Length),
        }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<ChunkedEvent, ChunkedError> {
        loop {
            // A chunk that has all its data is judged at once, not when more input comes.
            if let State::Data { left: 0, check } = &self.state {
                if let Some(check) = check {
                    verify_chunk(self.signer.as_mut(), check)?;
                }
                self.state = State::DataEnd { seen: 0 };
            }
            if input.is_empty() && !matches!(self.state, State::Failed(_)) {
                return Ok(ChunkedEvent::NeedMore);
            }
            match &mut self.state {
                State::ChunkHeader => {
                    if self.take_line(input, MAX_CHUNK_HEADER + 2, ChunkedError::Framing)? {
                        self.chunk_header()?;
                    }
                }
                State::Data { left, check } => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(n);
                    *left -= n as u64;
                    if let Some(check) = check {
                        check.sha256.update(&data);
                    }
                    return Ok(ChunkedEvent::Data(data));
                }
                State::DataEnd { seen } => {
                    if input.get_u8() != b"\r\n"[*seen] {
                        return Err(ChunkedError::Framing);
                    }
                    *seen += 1;
                    if *seen == 2 {
                        self.state = State::ChunkHeader;
                    }
                }
                State::TrailerLine => {
                    let room = MAX_TRAILER_BYTES - self.trailer_bytes;
                    if self.take_line(input, room, ChunkedError::Trailer)? {
                        self.trailer_bytes += self.line.len();
                        if let Some(event) = self.trailer_line()? {
                            return Ok(event);
                        }
                    }
                }
                State::Done { slack } => match slack.split_first() {
                    Some((byte, rest)) if *byte == input.get_u8() => *slack = rest,
                    _ => return Err(ChunkedError::Length),
                },
                State::Failed(error) => return Err(*error),
            }
        }
    }
    /// Moves bytes from `input` up to and with the next LF into the line; true when the LF has come. A line longer than
    /// `limit`, LF included, is an `error`.
    fn take_line(&mut self, input: &mut Bytes, limit: usize, error: ChunkedError) -> Result<bool, ChunkedError> {
        let end = input.iter().take(limit).position(|&b| b == b'\n');
        let n = end.map_or(input.len(), |at| at + 1);
        if self.line.len().saturating_add(n) > limit {
            return Err(error);
        }
        self.line.extend_from_slice(&input.split_to(n));
        Ok(end.is_some())
    }

    fn chunk_header(&mut self) -> Result<(), ChunkedError> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r\n").ok_or(ChunkedError::Framing)?;
        let line = str::from_utf8(line).map_err(|_| ChunkedError::Framing)?;
        let (digits, extension) = match line.split_once(';') {
            Some((digits, extension)) => (digits, Some(extension)),
            None => (line, None),
        };
        // from_str_radix alone would take a sign.
        if digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ChunkedError::Framing);
        }
        let size = u64::from_str_radix(digits, 16).map_err(|_| ChunkedError::Framing)?;
        let check = match (&self.signer, extension) {
            (None, None) => None,
            (Some(_), Some(extension)) => {
                let signature = extension.strip_prefix("chunk-signature=").and_then(Signature::parse);
                Some(ChunkCheck {
                    sha256: Sha256::new(),
                    signature: signature.ok_or(ChunkedError::Framing)?,
                })
            }
            (None, Some(_)) | (Some(_), None) => return Err(ChunkedError::Framing),
        };
        if size == 0 {
            if self.remaining > 0 {
                return Err(ChunkedError::DecodedLength);
            }
            if let Some(check) = &check {
                verify_chunk(self.signer.as_mut(), check)?;
            }
            self.state = State::TrailerLine;
            return Ok(());
        }
        self.remaining = self.remaining.checked_sub(size).ok_or(ChunkedError::DecodedLength)?;
        self.state = State::Data { left: size, check };
        Ok(())
    }

    fn trailer_line(&mut self) -> Result<Option<ChunkedEvent>, ChunkedError> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let (line, crlf) = match line.strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let after_bare_lf = std::mem::replace(&mut self.bare_lf, !crlf && !line.is_empty());
        if !line.is_empty() {
            self.trailer(line)?;
            return Ok(None);
        }
        let wants_signature = self.has_trailer && self.signer.is_some() && self.trailer_signature.is_none();
        let complete = self.expected.is_empty() && !wants_signature;
        let lf_crlf = after_bare_lf && crlf;
        if !complete {
            // Either the rest of an LF CRLF, or the end, too early.
            return if lf_crlf { Ok(None) } else { Err(ChunkedError::Trailer) };
        }
        if let (Some(signer), Some(signature)) = (&mut self.signer, &self.trailer_signature)
            && !signer.sign_trailers(&self.trailers).matches(signature)
        {
            return Err(ChunkedError::Signature);
        }
        self.state = State::Done {
            slack: if lf_crlf { b"\r\n" } else { b"" },
        };
        Ok(Some(ChunkedEvent::Trailers(std::mem::take(&mut self.trailers))))
    }

    /// One `name:value`.
    fn trailer(&mut self, line: &[u8]) -> Result<(), ChunkedError> {
        // The signature is the last, or it would not cover what follows.
        if !self.has_trailer || self.trailer_signature.is_some() {
            return Err(ChunkedError::Trailer);
        }
        let line = str::from_utf8(line).map_err(|_| ChunkedError::Trailer)?;
        let (name, value) = line.split_once(':').ok_or(ChunkedError::Trailer)?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim_ascii());
        if value.is_empty() || !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(ChunkedError::Trailer);
        }
        if self.signer.is_some() && name == TRAILER_SIGNATURE {
            self.trailer_signature = Some(Signature::parse(value).ok_or(ChunkedError::Trailer)?);
            return Ok(());
        }
        let at = self.expected.iter().position(|expected| **expected == *name);
        let name = self.expected.swap_remove(at.ok_or(ChunkedError::Trailer)?);
        self.trailers.push((name, value.into()));
        Ok(())
    }
}

fn verify_chunk(signer: Option<&mut ChunkSigner>, check: &ChunkCheck) -> Result<(), ChunkedError> {
    let signer = signer.ok_or(ChunkedError::Signature)?;
    let sha256 = check.sha256.clone().finalize().into();
    if signer.sign_chunk(&sha256).matches(&check.signature) {
        Ok(())
    } else {
        Err(ChunkedError::Signature)
    }
}

#[cfg(test)]
mod tests;
