//! Reading what was opened.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Core,
    key::StoreKey,
    object::Current,
    store::{Store, StoreError, Token},
};
use crate::{BackendError, ByteStream, ObjectPart, ObjectReader, VersionId};

/// The store keeps nothing for those who read: an object that was replaced meanwhile ends in
/// [`BackendError::Conflict`].
#[derive(Debug)]
pub(super) struct StoredReader {
    core: Core,
    current: Current,
}

impl StoredReader {
    pub(super) fn new(core: Core, current: Current) -> Self {
        Self { core, current }
    }
}

#[async_trait]
impl ObjectReader for StoredReader {
    fn read(self: Box<Self>, range: Range<u64>) -> ByteStream {
        let size = self.current.info.size;
        if range.start > range.end || range.end > size {
            let error = BackendError::internal("read of a range", "the range is not within the object");
            return Box::pin(stream::iter([Err(error)]));
        }
        if range.is_empty() {
            return Box::pin(stream::empty());
        }
        let Current {
            place,
            token,
            version,
            record,
            inline,
            ..
        } = self.current;
        let blobs = record.map(|record| record.blobs).unwrap_or_default();
        let store = self.core.store;
        if !blobs.is_empty() {
            let mut at = 0;
            let mut segments = Vec::new();
            for blob in blobs {
                let (begin, end) = (at, at + blob.size);
                at = end;
                let (from, to) = (range.start.max(begin), range.end.min(end));
                if from < to {
                    segments.push(blob.segments(from - begin..to - begin));
                }
            }
            let segments = stream::iter(segments.into_iter().flatten());
            return Box::pin(segments.flat_map(move |(key, range)| piece(store.clone(), key, range, None, None)));
        }
        if !inline.is_empty() {
            let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let slice = slice.filter(|(_, end)| *end <= inline.len());
            let bytes = slice
                .map(|(start, end)| inline.slice(start..end))
                .ok_or_else(|| BackendError::internal("read of a range", "the range is not within the object"));
            return Box::pin(stream::iter([bytes]));
        }
        Box::pin(piece(store, place, range, token, version))
    }

    async fn parts(&self, part_number_marker: u16, max_parts: usize) -> Result<Vec<ObjectPart>, BackendError> {
        let parts = self.core.parts_of(&self.current).await?;
        let after = parts
            .into_iter()
            .filter(|part| part.part_number.get() > part_number_marker);
        Ok(after.take(max_parts).collect())
    }
}

impl Core {
    /// All parts of an object that a multipart upload made, by number.
    pub(super) async fn parts_of(&self, object: &Current) -> Result<Vec<ObjectPart>, BackendError> {
        let Some(record) = &object.record else {
            return Ok(Vec::new());
        };
        let beside = match record.nonce().filter(|_| record.has_side) {
            // Gone with the object.
            Some(nonce) => Some(self.side(nonce).await?.ok_or(BackendError::Conflict)?),
            None => None,
        };
        Ok(beside.as_ref().unwrap_or(record).object_parts())
    }
}

/// Exactly the bytes of `range` of one of the store's objects.
fn piece(
    store: std::sync::Arc<Store>,
    key: StoreKey,
    range: Range<u64>,
    token: Option<Token>,
    version: Option<VersionId>,
) -> impl futures::Stream<Item = Result<Bytes, BackendError>> + Send {
    let wanted = range.end - range.start;
    let opened = async move {
        let stream = store.stream(&key, range, token.as_ref(), version.as_ref());
        let stream = stream.await.map_err(replaced)?;
        Ok::<_, BackendError>(exactly(wanted, Box::pin(stream)))
    };
    stream::once(opened).try_flatten()
}

/// A stream that is shorter or longer ends in an error.
fn exactly(
    wanted: u64,
    stream: impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + Unpin,
) -> impl futures::Stream<Item = Result<Bytes, BackendError>> + Send {
    stream::try_unfold((stream, wanted), move |(mut stream, left)| async move {
        match stream.try_next().await.map_err(replaced)? {
            Some(piece) => {
                let left = left.checked_sub(piece.len() as u64);
                let left = left.ok_or_else(|| wrong_length(wanted))?;
                Ok(Some((piece, (stream, left))))
            }
            None if left == 0 => Ok(None),
            None => Err(wrong_length(wanted)),
        }
    })
}

fn replaced(error: StoreError) -> BackendError {
    match error {
        StoreError::NotFound | StoreError::ConditionFailed => BackendError::Conflict,
        other => other.into(),
    }
}

fn wrong_length(wanted: u64) -> BackendError {
    BackendError::internal(
        "the store gave another number of bytes than were asked for",
        wanted.to_string(),
    )
}
