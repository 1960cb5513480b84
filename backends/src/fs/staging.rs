//! Where writes are prepared, on the same file system as what they become: nothing here is visible, and what a crash
//! leaves is removed at the next start.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    Store, blocking,
    crash::{self, Call},
    dir,
    error::Error,
    sys,
};
use crate::{BackendError, BodyEvent, BodySummary, ObjectBody};

/// Data is written in pieces of at least so many bytes. Two pieces of an upload are in memory at a time.
pub(super) const PIECE: usize = 256 * 1024;
/// What arrives in smaller pieces is copied together, so that it costs no more memory than it has bytes.
const SMALL: usize = 4 * 1024;
/// How much of an upload is gathered in the system's memory before it is written to the disk, beside the upload. Twice as
/// much is there alone at most: whoever syncs meanwhile may have to wait for that. And what is left at the end is what the
/// client waits for.
const DIRTY: u64 = 16 * 1024 * 1024;

/// A name that nobody guesses and nothing else has.
pub(super) fn random_name() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Closes a file that may have no name any more. The last close gives the blocks back, which can take a while: too long
/// for a thread of the runtime, and for whoever waits for an answer.
pub(super) fn close_later(file: impl Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn_blocking(move || drop(file)));
    }
}

/// Drops what changes the disk, or waits for it, as it is dropped.
pub(super) async fn drop_blocking(what: impl Send + 'static) {
    // An error is that of a drop that panicked.
    drop(spawn_blocking(move || drop(what)).await);
}

/// A file in staging, removed when this is dropped before it was [moved](Self::moved).
#[derive(Debug)]
pub(super) struct Staged {
    dir: Arc<OwnedFd>,
    name: String,
    file: Option<Arc<OwnedFd>>,
    /// Has another name, outside of staging.
    linked: bool,
    moved: bool,
}

impl Staged {
    pub(super) fn create(store: &Store) -> Result<Self, Error> {
        let name = random_name()?;
        let file = dir::create_file(&store.staging, &name).map_err(Error::io("could not create a staging file"))?;
        Ok(Self {
            dir: Arc::clone(&store.staging),
            name,
            file: Some(Arc::new(file)),
            linked: false,
            moved: false,
        })
    }

    /// A second name for `name` in `from`, which is open as `file`.
    pub(super) fn link(store: &Store, from: impl AsFd, name: &str, file: OwnedFd) -> Result<Self, Errno> {
        let link = random_name().map_err(|_| Errno::IO)?;
        crash::fault(Call::Add)?;
        crash::link_fault()?;
        sys::linkat(from, name, &store.staging, &link)?;
        crash::point();
        Ok(Self {
            dir: Arc::clone(&store.staging),
            name: link,
            file: Some(Arc::new(file)),
            linked: true,
            moved: false,
        })
    }

    pub(super) fn file(&self) -> &Arc<OwnedFd> {
        self.file.as_ref().expect("open until dropped")
    }

    /// Gives it a name in `dir`, replacing what has it.
    pub(super) fn rename(&self, dir: impl AsFd, name: &str) -> Result<(), Errno> {
        crash::fault(Call::Add)?;
        sys::renameat(&self.dir, &self.name, dir, name)?;
        crash::point();
        // Between two names of one file a rename does nothing, and ours is still there.
        if self.linked
            && let Err(error) = dir::unlink(&self.dir, &self.name)
        {
            tracing::warn!(%error, name = self.name, "could not remove a staging file");
        }
        Ok(())
    }

    /// To be called when it has got its name.
    pub(super) fn moved(mut self) {
        self.moved = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        if let Err(error) = dir::unlink(&self.dir, &self.name) {
            tracing::warn!(%error, name = self.name, "could not remove a staging file");
        }
        close_later(self.file.take());
    }
}

/// A body that has come to its good end: in part or as a whole still in memory.
#[derive(Debug)]
pub(super) struct Received {
    sink: Option<Sink>,
    rest: Piece,
    pub(super) summary: BodySummary,
}

impl Received {
    /// Writes what is not written yet.
    pub(super) fn finish(self, store: &Store) -> Result<(Staged, BodySummary), Error> {
        let mut sink = self.sink.map_or_else(|| Sink::create(store), Ok)?;
        sink.write(&self.rest.into_slices())?;
        if sink.written != self.summary.size {
            return Err(Error::Length {
                announced: self.summary.size,
                came: sink.written,
            });
        }
        Ok((sink.staged, self.summary))
    }
}

/// Takes a body in. What is more than one piece goes to a staging file, a piece being written while the next one comes;
/// and what is written goes to the disk meanwhile.
pub(super) async fn receive(store: &Arc<Store>, mut body: ObjectBody) -> Result<Received, BackendError> {
    let mut writing = Writing::default();
    let mut piece = Piece::default();
    loop {
        match body.next().await {
            Ok(BodyEvent::Data(bytes)) => piece.push(bytes),
            Ok(BodyEvent::End(summary)) => {
                return Ok(Received {
                    sink: writing.finish().await?,
                    rest: piece,
                    summary,
                });
            }
            Err(error) => {
                // So that nothing is left when we answer.
                drop_blocking(writing.finish().await).await;
                return Err(error.into());
            }
        }
        if piece.len >= PIECE {
            writing.write(store, std::mem::take(&mut piece)).await?;
        }
    }
}

/// What is under way for an upload on threads that may block: at most one write, and one sync.
#[derive(Debug, Default)]
struct Writing {
    write: Option<JoinHandle<Result<Sink, Error>>>,
    flush: Option<JoinHandle<Result<(), Error>>>,
}

impl Writing {
    /// Begins to write a piece, after the one before.
    async fn write(&mut self, store: &Arc<Store>, piece: Piece) -> Result<(), BackendError> {
        let mut sink = self.written().await?;
        if let Some(sink) = &mut sink
            && sink.written - sink.flushed >= DIRTY
        {
            self.flushed().await?;
            let (store, file) = (Arc::clone(store), Arc::clone(sink.staged.file()));
            self.flush = Some(spawn_blocking(move || store.durable.flush_data(&*file)));
            sink.flushed = sink.written;
        }
        let store = Arc::clone(store);
        self.write = Some(spawn_blocking(move || {
            let mut sink = sink.map_or_else(|| Sink::create(&store), Ok)?;
            sink.write(&piece.into_slices())?;
            Ok(sink)
        }));
        Ok(())
    }

    /// Waits for all that is under way. An error that a sync has told is not told again by the next one.
    async fn finish(&mut self) -> Result<Option<Sink>, BackendError> {
        let sink = self.written().await;
        self.flushed().await?;
        sink
    }

    async fn written(&mut self) -> Result<Option<Sink>, BackendError> {
        match self.write.take() {
            Some(write) => blocking(write).await.map(Some),
            None => Ok(None),
        }
    }

    async fn flushed(&mut self) -> Result<(), BackendError> {
        match self.flush.take() {
            Some(flush) => blocking(flush).await,
            None => Ok(()),
        }
    }
}

impl Drop for Writing {
    /// Where nobody waits for the end: what was written is removed by a thread that may block.
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            close_later(write);
        }
    }
}

#[derive(Debug)]
struct Sink {
    staged: Staged,
    written: u64,
    flushed: u64,
}

impl Sink {
    fn create(store: &Store) -> Result<Self, Error> {
        Ok(Self {
            staged: Staged::create(store)?,
            written: 0,
            flushed: 0,
        })
    }

    fn write(&mut self, slices: &[Bytes]) -> Result<(), Error> {
        dir::write_slices_at(self.staged.file(), slices, self.written).map_err(Error::io("could not write data"))?;
        self.written += slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        Ok(())
    }
}

/// Data on its way to one write.
#[derive(Debug, Default)]
pub(super) struct Piece {
    slices: Vec<Bytes>,
    /// Small ones, together.
    tail: BytesMut,
    len: usize,
}

impl Piece {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if bytes.len() < SMALL {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.flush();
            self.slices.push(bytes);
        }
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.slices.push(self.tail.split().freeze());
        }
    }

    pub(super) fn into_slices(mut self) -> Vec<Bytes> {
        self.flush();
        self.slices
    }
}
