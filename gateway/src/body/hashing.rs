//! Digests of a body, computed beside the I/O: MD5 alone is slower than the disk and the network, so it must not
//! stand in line with them.

use std::{
    fmt,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use t2gate_backends::{Checksum, ChecksumAlgorithm, ChecksumHasher};
use tokio::task::spawn_blocking;

use crate::s3::S3Error;

/// Bytes that are gathered before another thread is asked to hash them. Twice as many are held at most: one block being
/// hashed, one gathered.
const BLOCK: usize = 256 * 1024;

/// What arrives in smaller pieces is copied together, so that it costs no more memory than it has bytes: a piece keeps
/// all that it was received with.
const SMALL: usize = 4 * 1024;

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

/// Computes digests; at most one block behind. Whoever hashes goes on for as long as there is something to hash, and
/// never waits: neither for the reader, nor on a thread for a slow client.
pub(super) struct Hashing(Arc<Mutex<Queue>>);

struct Queue {
    gathered: Vec<Bytes>,
    /// Small ones, together.
    tail: BytesMut,
    gathered_len: usize,
    /// None while a [`Worker`] has them, once they have become digests, and if they were lost with a worker.
    hashers: Option<Box<Hashers>>,
    /// A worker has the hashers and will bring them back.
    is_away: bool,
    /// Who waits for room, or for the end.
    waiting: Option<Waker>,
}

impl Hashing {
    pub(super) fn new(sha256: bool, algorithms: &[ChecksumAlgorithm]) -> Self {
        let hashers = Hashers {
            md5: Md5::new(),
            sha256: sha256.then(Sha256::new),
            checksums: algorithms.iter().map(|a| ChecksumHasher::new(*a)).collect(),
        };
        Self(Arc::new(Mutex::new(Queue {
            gathered: Vec::new(),
            tail: BytesMut::new(),
            gathered_len: 0,
            hashers: Some(Box::new(hashers)),
            is_away: false,
            waiting: None,
        })))
    }

    /// Ready when [`push`](Self::push) may be called.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        let mut queue = lock(&self.0);
        if queue.gathered_len < BLOCK {
            return Poll::Ready(Ok(()));
        }
        match queue.hashers.take() {
            Some(hashers) => {
                self.start(queue, hashers);
                Poll::Ready(Ok(()))
            }
            None => queue.wait(cx),
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        let mut queue = lock(&self.0);
        queue.gathered_len += bytes.len();
        if bytes.len() < SMALL {
            queue.tail.extend_from_slice(&bytes);
        } else {
            queue.flush();
            queue.gathered.push(bytes);
        }
    }

    /// All digests, once, after the last push.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Digests, S3Error>> {
        let mut queue = lock(&self.0);
        if queue.gathered_len > INLINE
            && let Some(hashers) = queue.hashers.take()
        {
            self.start(queue, hashers);
            queue = lock(&self.0);
        }
        match queue.hashers.take() {
            Some(mut hashers) => {
                hashers.update(&queue.take_block());
                Poll::Ready(Ok(hashers.finalize()))
            }
            None => queue.wait(cx),
        }
    }

    /// Gives what is gathered to another thread. Not under the lock: a runtime that ends drops the worker at once.
    fn start(&self, mut queue: MutexGuard<'_, Queue>, hashers: Box<Hashers>) {
        let block = queue.take_block();
        queue.is_away = true;
        drop(queue);
        let worker = Worker {
            queue: Arc::clone(&self.0),
            done: false,
        };
        spawn_blocking(move || worker.run(hashers, block));
    }
}

/// Nobody wants the digests any more: a worker ends with its block.
impl Drop for Hashing {
    fn drop(&mut self) {
        lock(&self.0).take_block();
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing")
            .field("gathered_len", &lock(&self.0).gathered_len)
            .finish_non_exhaustive()
    }
}

impl Queue {
    fn take_block(&mut self) -> Vec<Bytes> {
        self.flush();
        self.gathered_len = 0;
        take(&mut self.gathered)
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.gathered.push(tail);
        }
    }

    /// Until the worker has taken a block or ended.
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<Result<T, S3Error>> {
        if !self.is_away {
            let error = S3Error::internal("a body was finished twice, or its digests are lost");
            return Poll::Ready(Err(error));
        }
        self.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Nothing panics while it is held but for want of memory.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unlocks it, and wakes who waits.
fn release(mut queue: MutexGuard<'_, Queue>) {
    let waiting = queue.waiting.take();
    drop(queue);
    if let Some(waker) = waiting {
        waker.wake();
    }
}

/// Has the hashers on a thread that may block. However it ends, whoever waits for it hears of that.
struct Worker {
    queue: Arc<Mutex<Queue>>,
    /// The hashers are back.
    done: bool,
}

impl Worker {
    fn run(mut self, mut hashers: Box<Hashers>, mut block: Vec<Bytes>) {
        loop {
            hashers.update(&block);
            // Not held any more when the next block may be gathered.
            drop(block);
            let mut queue = lock(&self.queue);
            block = queue.take_block();
            if block.is_empty() {
                queue.hashers = Some(hashers);
                queue.is_away = false;
                self.done = true;
                return release(queue);
            }
            release(queue);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            let mut queue = lock(&self.queue);
            queue.is_away = false;
            release(queue);
        }
    }
}

struct Hashers {
    md5: Md5,
    sha256: Option<Sha256>,
    checksums: Vec<ChecksumHasher>,
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
    async fn small_pieces_cost_no_more_memory_than_they_have_bytes() {
        let mut hashing = Hashing::new(true, &[]);
        let whole: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let received = Bytes::from(whole.clone());
        for at in 0..received.len() {
            hashing.push(received.slice(at..=at));
        }
        {
            let queue = lock(&hashing.0);
            assert!(
                queue.gathered.is_empty() && queue.tail.capacity() <= 2 * BLOCK,
                "{}",
                queue.tail.capacity()
            );
        }
        // Small ones between large ones come in their order.
        let large = Bytes::from(vec![7; SMALL]);
        hashing.push(large.clone());
        hashing.push(Bytes::from_static(b"end"));
        let digests = poll_fn(|cx| hashing.poll_finish(cx)).await.unwrap();
        let expected = [&whole[..], &large, b"end"].concat();
        assert_eq!(digests.sha256.unwrap(), *Sha256::digest(&expected));
    }

    #[tokio::test]
    async fn an_empty_body_has_digests_too() {
        let mut hashing = Hashing::new(false, &[]);
        let digests = poll_fn(|cx| hashing.poll_finish(cx)).await.unwrap();
        assert_eq!(hex::encode(digests.md5), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(poll_fn(|cx| hashing.poll_finish(cx)).await.is_err());
    }

    #[tokio::test]
    async fn a_worker_takes_what_came_meanwhile_and_brings_the_hashers_back() {
        let whole = vec![7; 3 * BLOCK];
        let mut hashing = Hashing::new(false, &[]);
        let hashers = lock(&hashing.0).hashers.take().unwrap();
        lock(&hashing.0).is_away = true;
        for block in whole.chunks(BLOCK).skip(1) {
            hashing.push(Bytes::copy_from_slice(block));
        }
        // More than a block is not gathered.
        assert!(poll_once(|cx| hashing.poll_room(cx)).is_pending());
        let worker = worker_of(&hashing);
        worker.run(hashers, vec![Bytes::copy_from_slice(&whole[..BLOCK])]);
        assert_eq!(lock(&hashing.0).gathered_len, 0);
        assert!(poll_once(|cx| hashing.poll_room(cx)).is_ready());
        let digests = poll_fn(|cx| hashing.poll_finish(cx)).await.unwrap();
        assert_eq!(digests.md5, *Md5::digest(&whole));
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_worker_that_was_lost() {
        let mut hashing = Hashing::new(false, &[]);
        hashing.push(Bytes::from(vec![0; BLOCK]));
        lock(&hashing.0).hashers = None;
        lock(&hashing.0).is_away = true;
        let worker = worker_of(&hashing);
        let room = tokio::spawn(async move { poll_fn(|cx| hashing.poll_room(cx)).await });
        // It waits by now.
        tokio::task::yield_now().await;
        drop(worker);
        assert!(room.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_nobody_wants_is_not_hashed() {
        let mut hashing = Hashing::new(false, &[]);
        hashing.push(Bytes::from(vec![0; BLOCK]));
        let queue = Arc::clone(&hashing.0);
        drop(hashing);
        let queue = lock(&queue);
        assert!(queue.gathered.is_empty() && queue.gathered_len == 0);
    }

    fn worker_of(hashing: &Hashing) -> Worker {
        Worker {
            queue: Arc::clone(&hashing.0),
            done: false,
        }
    }

    fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(Waker::noop()))
    }
}
