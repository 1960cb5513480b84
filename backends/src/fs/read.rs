//! Reading an opened object.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use rustix::fd::OwnedFd;
use tokio::task::JoinHandle;

use super::{
    attributes::{self, Record},
    blocking,
    dir::{self, Meta},
    error::Error,
    side::Side,
};
use crate::{BackendError, ByteStream, Key, ObjectInfo, ObjectPart, ObjectReader};

/// Data is read in blocks of so many bytes. Two of them are in memory: one at the client, one on its way.
const BLOCK: u64 = 256 * 1024;

/// A file with what is known of it, all of one version.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) meta: Meta,
    pub(super) record: Option<Record>,
    pub(super) side: Option<Side>,
}

impl Opened {
    pub(super) fn into_parts(mut self, key: Key) -> (ObjectInfo, OwnedFd, Option<Side>) {
        let inline = self.record.as_mut().and_then(|record| record.rest.take());
        let rest = inline.or_else(|| self.side.as_mut().and_then(Side::take_rest));
        let info = attributes::describe(key, &self.meta, self.record.as_ref(), rest);
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
