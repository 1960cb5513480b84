//! Bodies that lie in the store by themselves: of parts, of objects before they are joined, and in the encoded layout
//! of all objects that are too large to lie behind their header.
//!
//! A blob's name is used once, and its bytes never change.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use minicbor::{Decode, Encode};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    budget::{Budget, Reserved},
    key::{StoreDir, StoreKey},
    record::Owner,
    store::{Dress, Piece, Precondition, Store, StoreError},
};
use crate::{BackendError, BodyEvent, BodySummary, ObjectBody, Stamp};

/// A body up to so many bytes is held in memory and goes to the store in one call.
pub(super) const WHOLE_BYTES: u64 = 8 << 20;

/// So many are removed at once.
pub(super) const REMOVALS: usize = 16;

/// Where the bytes are. Indexes are for ever.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Blob {
    #[n(0)]
    id: Box<str>,
    #[n(1)]
    pub(super) size: u64,
    /// Each object that holds some of them has so many, and the last one the rest. Not 0.
    #[n(2)]
    segment: u64,
}

impl Blob {
    pub(super) fn id(&self) -> Option<Stamp> {
        Stamp::parse(&self.id)
    }

    /// The objects that hold `range` of the bytes, with the range of each.
    pub(super) fn segments(&self, range: Range<u64>) -> impl Iterator<Item = (StoreKey, Range<u64>)> + use<> {
        let (segment, end) = (self.segment.max(1), range.end.min(self.size));
        let id = self.id();
        let mut at = range.start;
        std::iter::from_fn(move || {
            let id = id.filter(|_| at < end)?;
            let (number, from) = (at / segment, at % segment);
            let to = segment.min(from + (end - at));
            at += to - from;
            Some((StoreKey::blob_segment(id, number), from..to))
        })
    }

    /// All of it, to be joined.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> + use<> {
        self.segments(0..self.size).map(|(key, range)| Piece {
            key,
            size: range.end,
            token: None,
            version: None,
        })
    }
}

/// A blob that nothing names yet. Dropped, it goes.
#[derive(Debug)]
pub(super) struct NewBlob {
    blob: Option<Blob>,
    store: Arc<Store>,
}

impl NewBlob {
    pub(super) fn blob(&self) -> Option<&Blob> {
        self.blob.as_ref()
    }

    /// Something names it now.
    pub(super) fn keep(mut self) {
        self.blob = None;
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let (Some(blob), Ok(runtime)) = (self.blob.take(), tokio::runtime::Handle::try_current()) {
            let store = Arc::clone(&self.store);
            runtime.spawn(async move { remove(&store, &blob).await });
        }
    }
}

/// Removes what a blob consists of. What fails is left to the sweeper.
pub(super) async fn remove(store: &Store, blob: &Blob) {
    let Some(id) = blob.id() else { return };
    for (key, _) in blob.segments(0..blob.size) {
        if let Err(error) = store.delete(&key, &Precondition::None).await {
            tracing::warn!(%key, ?error, "what is no longer needed could not be removed");
            return;
        }
    }
    // Last: who finds it, knows what the rest was.
    if let Err(error) = store.delete(&StoreKey::blob_owner(id), &Precondition::None).await {
        tracing::warn!(%id, ?error, "what is no longer needed could not be removed");
    }
}

/// Removes blobs, some of them at once: an object may consist of ten thousand.
pub(super) async fn remove_each(store: &Store, blobs: &[Blob]) {
    for some in blobs.chunks(REMOVALS) {
        futures::future::join_all(some.iter().map(|blob| remove(store, blob))).await;
    }
}

/// Removes whatever lies under a blob's name.
pub(super) async fn remove_all(store: &Store, id: Stamp) -> Result<(), StoreError> {
    let mut entries = store.list(&StoreDir::blob(id), "", false, None, None);
    while let Some(found) = entries.next().await? {
        if let Ok(segment) = found.name.parse() {
            store
                .delete(&StoreKey::blob_segment(id, segment), &Precondition::None)
                .await?;
        }
    }
    store.delete(&StoreKey::blob_owner(id), &Precondition::None).await
}

/// Reads a body of at most [`WHOLE_BYTES`] to its end.
pub(super) async fn collect(
    mut body: ObjectBody,
    budget: &Budget,
) -> Result<(Bytes, BodySummary, Reserved), BackendError> {
    let length = body.length();
    let reserved = budget.take(length).await?;
    let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    loop {
        match body.next().await? {
            BodyEvent::Data(data) => bytes.extend_from_slice(&data),
            BodyEvent::End(summary) => return Ok((bytes.freeze(), summary, reserved)),
        }
    }
}

/// Writes a body to the store, under a name of its own.
pub(super) async fn write(
    store: &Arc<Store>,
    budget: &Budget,
    id: Stamp,
    owner: &Owner,
    body: ObjectBody,
) -> Result<(NewBlob, BodySummary), BackendError> {
    let length = body.length();
    let in_parts = length > WHOLE_BYTES && store.writes_in_parts();
    let segment = if in_parts { length } else { WHOLE_BYTES };
    let new = NewBlob {
        blob: Some(Blob {
            id: id.to_string().into(),
            size: length,
            segment,
        }),
        store: Arc::clone(store),
    };
    let none = Precondition::None;
    store
        .write(&StoreKey::blob_owner(id), owner.to_bytes(), Dress::default(), &none)
        .await?;
    let summary = if in_parts {
        stream(store, budget, &StoreKey::blob_segment(id, 0), body).await?
    } else {
        cut(store, budget, id, body).await?
    };
    if summary.size != length {
        return Err(BackendError::internal(
            "a body has another length than it announced",
            summary.size.to_string(),
        ));
    }
    Ok((new, summary))
}

/// Writes a body as objects of [`WHOLE_BYTES`] each.
async fn cut(store: &Store, budget: &Budget, id: Stamp, mut body: ObjectBody) -> Result<BodySummary, BackendError> {
    let size = usize::try_from(body.length().clamp(1, WHOLE_BYTES)).unwrap_or(1);
    let _reserved = budget.take(2 * size as u64).await?;
    let mut number = 0;
    let mut segment = BytesMut::with_capacity(size);
    loop {
        let event = body.next().await?;
        if let BodyEvent::Data(mut data) = event {
            while !data.is_empty() {
                let room = size - segment.len();
                segment.extend_from_slice(&data.split_to(room.min(data.len())));
                if segment.len() == size {
                    let key = StoreKey::blob_segment(id, number);
                    let bytes = std::mem::replace(&mut segment, BytesMut::with_capacity(size)).freeze();
                    store.write(&key, bytes, Dress::default(), &Precondition::None).await?;
                    number += 1;
                }
            }
        } else if let BodyEvent::End(summary) = event {
            if !segment.is_empty() {
                let key = StoreKey::blob_segment(id, number);
                let bytes = segment.freeze();
                store.write(&key, bytes, Dress::default(), &Precondition::None).await?;
            }
            return Ok(summary);
        }
    }
}

enum Message {
    Data(Bytes),
    Finish,
}

/// Writes a body as one object, in parts. The upload in the store is held by a task that always ends it, whatever
/// becomes of the request: a writer of opendal's that is dropped leaves it open.
async fn stream(
    store: &Store,
    budget: &Budget,
    key: &StoreKey,
    mut body: ObjectBody,
) -> Result<BodySummary, BackendError> {
    let reserved = budget.take(Store::writer_bytes(body.length())).await?;
    let mut writer = store.writer(key, body.length()).await?;
    let (sender, mut receiver) = mpsc::channel(1);
    let task: JoinHandle<Result<(), StoreError>> = tokio::spawn(async move {
        let _reserved = reserved;
        loop {
            let outcome = match receiver.recv().await {
                Some(Message::Data(data)) => writer.write(data).await,
                Some(Message::Finish) => {
                    let outcome = writer.close().await;
                    if outcome.is_err() {
                        writer.abort().await;
                    }
                    return outcome;
                }
                None => {
                    writer.abort().await;
                    return Ok(());
                }
            };
            if outcome.is_err() {
                writer.abort().await;
                return outcome;
            }
        }
    });
    let ended = async {
        loop {
            match body.next().await? {
                BodyEvent::Data(data) => {
                    if sender.send(Message::Data(data)).await.is_err() {
                        // The task has the reason.
                        return Ok(None);
                    }
                }
                BodyEvent::End(summary) => {
                    let sent = sender.send(Message::Finish).await.is_ok();
                    return Ok(sent.then_some(summary));
                }
            }
        }
    };
    let ended: Result<Option<BodySummary>, BackendError> = ended.await;
    drop(sender);
    let written = task
        .await
        .map_err(|error| BackendError::internal("the task that writes a body has ended", error))?;
    match ended? {
        Some(summary) => match written {
            // The reply that ended the upload was lost, and a second attempt found none to end. Nobody else writes
            // under this name.
            Err(StoreError::NotFound) if is_whole(store, key, summary.size).await => Ok(summary),
            written => Ok(written.map(|()| summary)?),
        },
        None => {
            written?;
            Err(BackendError::internal(
                "a body was not written",
                "its writer ended early",
            ))
        }
    }
}

async fn is_whole(store: &Store, key: &StoreKey, size: u64) -> bool {
    matches!(store.stat(key).await, Ok(Some(meta)) if meta.size == size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn a_range_is_cut_as_the_blob_is() {
        let id = Stamp::new(Timestamp::from_unix_nanos(1), 2);
        let blob = Blob {
            id: id.to_string().into(),
            size: 25,
            segment: 10,
        };
        let cut = |range: Range<u64>| -> Vec<_> { blob.segments(range).collect() };
        let key = |number| StoreKey::blob_segment(id, number);
        assert_eq!(cut(0..25), [(key(0), 0..10), (key(1), 0..10), (key(2), 0..5)]);
        assert_eq!(cut(9..11), [(key(0), 9..10), (key(1), 0..1)]);
        assert_eq!(cut(20..25), [(key(2), 0..5)]);
        assert_eq!(cut(3..3), []);
    }
}
