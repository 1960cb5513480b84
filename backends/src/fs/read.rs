//! Reading an opened object.

use std::{io::IoSliceMut, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use rustix::{
    fd::OwnedFd,
    io::{ReadWriteFlags, preadv2},
};
use tokio::task::JoinHandle;

use super::{
    attributes::{self, Record},
    blocking,
    dir::{self, Meta},
    error::Error,
    side::Side,
};
use crate::{BackendError, ByteStream, Key, ObjectInfo, ObjectPart, ObjectReader, VersionId};

/// Data is read in blocks of so many bytes. Two of them are in memory: one at the client, one on its way.
const BLOCK: u64 = 256 * 1024;
/// What is no longer than this is copied on the thread that asks for it, if the system has it in memory.
const AT_ONCE: u64 = 64 * 1024;

/// A file with what is known of it, all of one version.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) meta: Meta,
    pub(super) record: Option<Record>,
    pub(super) side: Option<Side>,
    pub(super) version_id: Option<VersionId>,
}

impl Opened {
    pub(super) fn into_parts(mut self, key: Key) -> (ObjectInfo, OwnedFd, Option<Side>) {
        let inline = self.record.as_mut().and_then(|record| record.rest.take());
        let rest = inline.or_else(|| self.side.as_mut().and_then(Side::take_rest));
        let info = ObjectInfo {
            version_id: self.version_id,
            ..attributes::describe(key, &self.meta, self.record.as_ref(), rest)
        };
        (info, self.file, self.side)
    }
}

#[derive(Debug)]
pub(super) struct FsReader {
    file: Arc<OwnedFd>,
    side: Option<Arc<Side>>,
}

impl FsReader {
    pub(super) fn new(file: OwnedFd, side: Option<Side>) -> Self {
        Self {
            file: Arc::new(file),
            side: side.map(Arc::new),
        }
    }
}

#[async_trait]
impl ObjectReader for FsReader {
    fn read(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let reading = Reading {
            file: self.file,
            left: range,
            next: None,
        };
        Box::pin(stream::unfold(reading, async |mut reading| {
            if let Some(all) = reading.at_once() {
                return Some((Ok(all), reading));
            }
            let block = reading.next.take().or_else(|| reading.begin())?;
            let outcome = blocking(block).await;
            match outcome {
                Ok(_) => reading.next = reading.begin(),
                Err(_) => reading.left = 0..0,
            }
            Some((outcome, reading))
        }))
    }

    async fn parts(&self, part_number_marker: u16, max_parts: usize) -> Result<Vec<ObjectPart>, BackendError> {
        match self.side.clone() {
            Some(side) => {
                let reading = tokio::task::spawn_blocking(move || side.parts(part_number_marker, max_parts));
                blocking(reading).await
            }
            None => Ok(Vec::new()),
        }
    }
}

struct Reading {
    file: Arc<OwnedFd>,
    /// Not asked for yet.
    left: Range<u64>,
    next: Option<JoinHandle<Result<Bytes, Error>>>,
}

impl Reading {
    /// All that is left, if it is little and can be had without waiting.
    fn at_once(&mut self) -> Option<Bytes> {
        let len = self.left.end.saturating_sub(self.left.start);
        if len == 0 || len > AT_ONCE || self.next.is_some() {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        // Where it does not get all of it, not from memory, or not by this call, it is the other way's to say why.
        let count = preadv2(&*self.file, slices, self.left.start, ReadWriteFlags::NOWAIT).ok()?;
        if count < bytes.len() {
            return None;
        }
        self.left.start = self.left.end;
        Some(bytes.into())
    }

    /// Sets out to read the next block.
    fn begin(&mut self) -> Option<JoinHandle<Result<Bytes, Error>>> {
        let offset = self.left.start;
        let len = self.left.end.saturating_sub(offset).min(BLOCK);
        if len == 0 {
            return None;
        }
        self.left.start += len;
        let file = Arc::clone(&self.file);
        Some(tokio::task::spawn_blocking(move || {
            let len = usize::try_from(len).map_err(|_| Error::Shortened)?;
            let bytes = dir::read_at(&*file, offset, len).map_err(Error::io("could not read data"))?;
            if bytes.len() < len {
                return Err(Error::Shortened);
            }
            Ok(bytes.into())
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::StreamExt as _;

    use super::*;

    fn read(runtime: &tokio::runtime::Runtime, file: &std::fs::File, range: Range<u64>) -> Vec<Bytes> {
        let reader = FsReader::new(file.try_clone().unwrap().into(), None);
        let stream = Box::new(reader).read(range);
        runtime.block_on(stream.map(Result::unwrap).collect())
    }

    #[test]
    fn what_is_in_memory_is_read_while_no_thread_is_free() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        std::fs::write(&path, b"in memory").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let probe = preadv2(&file, &mut [IoSliceMut::new(&mut [0; 1])], 0, ReadWriteFlags::NOWAIT);
        // Not every file system can say what is in memory.
        assert_eq!(
            probe,
            Ok(1),
            "this needs ext4, XFS, btrfs or the like: set TMPDIR to such a directory"
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (release, held) = mpsc::channel::<()>();
        let busy = runtime.spawn_blocking(move || held.recv());
        assert_eq!(read(&runtime, &file, 3..9), ["memory"]);
        release.send(()).unwrap();
        runtime.block_on(busy).unwrap().unwrap();
    }

    #[test]
    fn large_bodies_come_in_large_blocks() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let blocks = read(&runtime, &file, 10..999_990);
        assert_eq!(blocks.concat(), bytes[10..999_990]);
        assert!(
            blocks[..blocks.len() - 1]
                .iter()
                .all(|block| block.len() as u64 == BLOCK)
        );
    }
}
