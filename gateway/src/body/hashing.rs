//! Digests of a body, computed beside the I/O: MD5 alone is slower than the disk and the network, so it must not
//! stand in line with them.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use t2gate_backends::{Checksum, ChecksumAlgorithm, ChecksumHasher};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::s3::S3Error;

/// Bytes hashed in one go on another thread. Twice as many are held at most: one block being hashed, one gathered.
const BLOCK: usize = 256 * 1024;

/// What is at most that long when a body ends is hashed on the spot: the hop costs more.
const INLINE: usize = 32 * 1024;

/// All digests of a body.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) md5: [u8; 16],
    pub(super) sha256: Option<[u8; 32]>,
    /// One for each algorithm asked for, in that order.
    pub(super) checksums: Vec<Checksum>,
}

/// Computes digests; at most one block behind.
pub(super) struct Hashing {
    state: State,
    gathered: Vec<Bytes>,
    gathered_len: usize,
}

enum State {
    Idle(Box<Hashers>),
    Running(JoinHandle<Box<Hashers>>),
    Done,
}

struct Hashers {
    md5: Md5,
    sha256: Option<Sha256>,
    checksums: Vec<ChecksumHasher>,
}

impl Hashing {
    pub(super) fn new(sha256: bool, algorithms: &[ChecksumAlgorithm]) -> Self {
        let hashers = Hashers {
            md5: Md5::new(),
            sha256: sha256.then(Sha256::new),
            checksums: algorithms.iter().map(|a| ChecksumHasher::new(*a)).collect(),
        };
        Self {
            state: State::Idle(Box::new(hashers)),
            gathered: Vec::new(),
            gathered_len: 0,
        }
    }

    /// Ready when [`push`](Self::push) may be called.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        if self.gathered_len >= BLOCK {
            ready!(self.poll_idle(cx))?;
            self.start();
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.gathered_len += bytes.len();
        self.gathered.push(bytes);
    }

    /// All digests, once, after the last push.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Digests, S3Error>> {
        loop {
            ready!(self.poll_idle(cx))?;
            if self.gathered_len > INLINE {
                self.start();
            } else {
                break;
            }
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(mut hashers) => {
                hashers.update(&self.gathered);
                self.gathered.clear();
                Poll::Ready(Ok(hashers.finalize()))
            }
            State::Running(_) | State::Done => Poll::Ready(Err(S3Error::internal("a body was finished twice"))),
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        if let State::Running(job) = &mut self.state {
            let hashers = ready!(Pin::new(job).poll(cx)).map_err(S3Error::internal)?;
            self.state = State::Idle(hashers);
        }
        Poll::Ready(Ok(()))
    }

    fn start(&mut self) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(mut hashers) => {
                let block = std::mem::take(&mut self.gathered);
                self.gathered_len = 0;
                self.state = State::Running(spawn_blocking(move || {
                    hashers.update(&block);
                    hashers
                }));
            }
            other => self.state = other,
        }
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing")
            .field("gathered_len", &self.gathered_len)
            .finish_non_exhaustive()
    }
}

impl Hashers {
    fn update(&mut self, block: &[Bytes]) {
        for bytes in block {
            self.md5.update(bytes);
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(bytes);
            }
            for checksum in &mut self.checksums {
                checksum.update(bytes);
            }
        }
    }

    fn finalize(self) -> Digests {
        Digests {
            md5: self.md5.finalize().into(),
            sha256: self.sha256.map(|sha256| sha256.finalize().into()),
            checksums: self.checksums.into_iter().map(ChecksumHasher::finalize).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use t2gate_backends::BodySummary;

    use super::*;

    #[tokio::test]
    async fn digests_do_not_depend_on_how_the_bytes_come() {
        let whole: Vec<u8> = (0..3_000_001_u32).map(|i| (i % 251) as u8).collect();
        let expected = BodySummary::of(&whole, ChecksumAlgorithm::Crc32c);
        for piece in [1_000, 65_536, 300_000, 3_000_001] {
            let mut hashing = Hashing::new(true, &[ChecksumAlgorithm::Crc32c]);
            for bytes in whole.chunks(piece) {
                poll_fn(|cx| hashing.poll_room(cx)).await.unwrap();
                hashing.push(Bytes::copy_from_slice(bytes));
            }
            let digests = poll_fn(|cx| hashing.poll_finish(cx)).await.unwrap();
            assert_eq!(digests.md5, expected.md5);
            assert_eq!(digests.sha256.unwrap(), *Sha256::digest(&whole));
            assert_eq!(digests.checksums, std::slice::from_ref(&expected.checksum));
        }
    }

    #[tokio::test]
    async fn an_empty_body_has_digests_too() {
        let mut hashing = Hashing::new(false, &[]);
        let digests = poll_fn(|cx| hashing.poll_finish(cx)).await.unwrap();
        assert_eq!(hex::encode(digests.md5), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(poll_fn(|cx| hashing.poll_finish(cx)).await.is_err());
    }
}
