//! Tells somebody of every call of the store: which, how it went, how long it took, how much it moved. Takes secrets
//! out of what errors say.
//!
//! A layer of our own, and not opendal's for metrics: that one counts the time that a client takes to read as the
//! store's, and a download that the client leaves as an error. This one lies between timeouts and retries, so that a call that
//! was cut off is seen as failed, and each attempt by itself.

use std::{fmt, mem, sync::Arc, time::Duration};

use opendal::{
    Buffer, BytesRange, Capability, Error, ErrorKind, Metadata, OperationContext, Result,
    layers::{RetryEvent, RetryInterceptor},
    raw::{
        Layer, OpCompose, OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpRestore, OpStat,
        OpWrite, Operation, RpCreateDir, RpPresign, RpRead, RpRename, RpRestore, RpStat, Service, ServiceInfo,
        Servicer, oio,
    },
};
use tokio::time::Instant;

use super::{
    answer,
    secrets::Secrets,
    store::{as_unavailable, is_unavailable},
};

/// How one attempt of a call of a store went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreCallOutcome {
    Ok,
    /// What was asked for is not there.
    NotFound,
    /// A condition does not hold, or the store cannot do this. The store is well.
    Refused,
    /// The gateway's own credentials are not taken, or may not do this.
    Denied,
    /// The store asks to come back later.
    Busy,
    /// Anything else: no answer, none in time, or an error.
    Failed,
}

impl StoreCallOutcome {
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::NotFound,
        Self::Refused,
        Self::Denied,
        Self::Busy,
        Self::Failed,
    ];

    /// One lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    fn of<T>(result: &Result<T>) -> Self {
        let Err(error) = result else {
            return Self::Ok;
        };
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::ConditionNotMatch
            | ErrorKind::Conflict
            | ErrorKind::AlreadyExists
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::IsSameFile
            | ErrorKind::RangeNotSatisfied
            | ErrorKind::Unsupported => Self::Refused,
            ErrorKind::PermissionDenied => Self::Denied,
            ErrorKind::RateLimited => Self::Busy,
            _ if is_unavailable(error) => Self::Busy,
            _ => Self::Failed,
        }
    }
}

/// Who is told of the calls of a store. It must not block.
///
/// The names of operations are words of this module, never of a client's:
///
/// - `stat`, `delete`, `copy`, `list` (one listing, all its pages; of each directory where the store looks no deeper);
/// - `read_open`, until the store begins to answer, and `read`, the body that follows;
/// - `write`, bytes that are handed over (kept in memory where they do not fill a part yet), `write_copy`, a part that
///   the store takes from an object of its own, `write_close`, which makes the object, `write_abort`;
/// - `compose`, an object that the store makes of others.
pub trait StoreObserver: fmt::Debug + Send + Sync + 'static {
    /// One attempt has ended. `time` leaves out what was waited for a client. One whose future is dropped is not told
    /// of; a body or a listing that is left in the middle went well as far as it went.
    fn call(&self, operation: &'static str, outcome: StoreCallOutcome, time: Duration);

    /// So many bytes of objects were moved: by `read` and `write` between gateway and store, by `copy`, `compose` and
    /// `write_copy` within it, as far as the store's interface tells.
    fn bytes(&self, operation: &'static str, bytes: u64);

    /// What had failed is about to be tried again. `operation` is `stat`, `read`, `write`, `delete`, `copy`, `compose` or
    /// `list`.
    fn retry(&self, operation: &'static str);
}

const COMPOSE: &str = "compose";
const COPY: &str = "copy";
const DELETE: &str = "delete";
const LIST: &str = "list";
const READ: &str = "read";
const WRITE: &str = "write";
const WRITE_COPY: &str = "write_copy";

/// Logs that something is tried again, and tells of it.
#[derive(Debug)]
pub(super) struct Retries(pub(super) Option<Arc<dyn StoreObserver>>);

impl RetryInterceptor for Retries {
    fn intercept(&self, event: RetryEvent<'_>) {
        tracing::warn!(
            operation = %event.op,
            attempt = event.attempt,
            error = %event.err,
            "a call of the store is tried again"
        );
        if event.op == Operation::Write {
            answer::asked_again();
        }
        if let Some(observer) = &self.0 {
            observer.retry(event.op.into_static());
        }
    }
}

/// Watches every call that passes.
#[derive(Debug)]
pub(super) struct WatchLayer(Arc<Watch>);

impl WatchLayer {
    pub(super) fn new(observer: Option<Arc<dyn StoreObserver>>, secrets: Secrets) -> Self {
        Self(Arc::new(Watch { observer, secrets }))
    }
}

impl Layer for WatchLayer {
    fn apply_service(&self, inner: Servicer) -> Servicer {
        Arc::new(WatchedService {
            inner,
            watch: self.0.clone(),
        })
    }
}

/// Who is told, and what nobody is.
#[derive(Debug)]
struct Watch {
    observer: Option<Arc<dyn StoreObserver>>,
    secrets: Secrets,
}

impl Watch {
    fn call(&self, operation: &'static str, outcome: StoreCallOutcome, time: Duration) {
        if let Some(observer) = &self.observer {
            observer.call(operation, outcome, time);
        }
    }

    fn bytes(&self, operation: &'static str, bytes: u64) {
        if let Some(observer) = &self.observer {
            observer.bytes(operation, bytes);
        }
    }

    /// A call that was begun at `start` has ended.
    fn ended<T>(&self, operation: &'static str, start: Instant, result: Result<T>) -> Result<T> {
        let result = self.masked(result);
        self.call(operation, StoreCallOutcome::of(&result), start.elapsed());
        result
    }

    fn masked<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error.kind() {
            // Nobody reads what these say.
            ErrorKind::NotFound | ErrorKind::ConditionNotMatch => error,
            kind if self.secrets.are_in(&format!("{error:?}")) => {
                // By what its message begins with it is told what it is.
                let mut told = Error::new(kind, self.secrets.masked(error.message()))
                    .with_context("told", self.secrets.masked(&error.to_string()));
                if is_unavailable(&error) {
                    told = as_unavailable(told);
                }
                if error.is_temporary() {
                    told.set_temporary()
                } else {
                    told
                }
            }
            _ => error,
        })
    }
}

#[derive(Debug)]
struct WatchedService {
    inner: Servicer,
    watch: Arc<Watch>,
}

impl WatchedService {
    async fn observed<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let start = Instant::now();
        let result = call.await;
        self.watch.ended(operation, start, result)
    }

    fn watched<T>(&self, inner: Result<T>, operation: &'static str) -> Result<Watched<T>> {
        Ok(Watched {
            inner: self.watch.masked(inner)?,
            watch: self.watch.clone(),
            operation,
            waited: Duration::ZERO,
            is_open: false,
        })
    }
}

impl Service for WatchedService {
    type Reader = Watched<oio::Reader>;
    type Writer = Watched<oio::Writer>;
    type Lister = Watched<oio::Lister>;
    type Deleter = Watched<oio::Deleter>;
    type Copier = Watched<oio::Copier>;
    type Composer = Watched<oio::Composer>;

    fn info(&self) -> ServiceInfo {
        self.inner.info()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    async fn create_dir(&self, ctx: &OperationContext, path: &str, args: OpCreateDir) -> Result<RpCreateDir> {
        self.observed("create_dir", self.inner.create_dir(ctx, path, args))
            .await
    }

    async fn stat(&self, ctx: &OperationContext, path: &str, args: OpStat) -> Result<RpStat> {
        self.observed("stat", self.inner.stat(ctx, path, args)).await
    }

    fn read(&self, ctx: &OperationContext, path: &str, args: OpRead) -> Result<Self::Reader> {
        self.watched(self.inner.read(ctx, path, args), READ)
    }

    fn write(&self, ctx: &OperationContext, path: &str, args: OpWrite) -> Result<Self::Writer> {
        self.watched(self.inner.write(ctx, path, args), WRITE)
    }

    fn delete(&self, ctx: &OperationContext) -> Result<Self::Deleter> {
        self.watched(self.inner.delete(ctx), DELETE)
    }

    fn list(&self, ctx: &OperationContext, path: &str, args: OpList) -> Result<Self::Lister> {
        self.watched(self.inner.list(ctx, path, args), LIST)
    }

    fn copy(&self, ctx: &OperationContext, from: &str, to: &str, args: OpCopy) -> Result<Self::Copier> {
        self.watched(self.inner.copy(ctx, from, to, args), COPY)
    }

    fn compose(&self, ctx: &OperationContext, to: &str, args: OpCompose) -> Result<Self::Composer> {
        self.watched(self.inner.compose(ctx, to, args), COMPOSE)
    }

    // These the gateway does not use.
    async fn rename(&self, ctx: &OperationContext, from: &str, to: &str, args: OpRename) -> Result<RpRename> {
        self.inner.rename(ctx, from, to, args).await
    }

    async fn restore(&self, ctx: &OperationContext, path: &str, args: OpRestore) -> Result<RpRestore> {
        self.inner.restore(ctx, path, args).await
    }

    async fn presign(&self, ctx: &OperationContext, path: &str, args: OpPresign) -> Result<RpPresign> {
        self.inner.presign(ctx, path, args).await
    }
}

/// What several calls make one operation of.
struct Watched<T> {
    inner: T,
    watch: Arc<Watch>,
    operation: &'static str,
    /// What was waited for the store, and not told of yet.
    waited: Duration,
    is_open: bool,
}

impl<T> Watched<T> {
    /// One of the calls, begun at `start`, has ended. The operation has too with an error, or if `is_last`.
    fn note<R>(&mut self, start: Instant, result: Result<R>, is_last: bool) -> Result<R> {
        let result = self.watch.masked(result);
        self.waited += start.elapsed();
        self.is_open = true;
        if is_last || result.is_err() {
            self.tell(StoreCallOutcome::of(&result));
        }
        result
    }

    fn tell(&mut self, outcome: StoreCallOutcome) {
        self.is_open = false;
        self.watch.call(self.operation, outcome, mem::take(&mut self.waited));
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        // What else is dropped has not been done.
        if self.is_open && [READ, LIST].contains(&self.operation) {
            self.tell(StoreCallOutcome::Ok);
        }
    }
}

impl<R: oio::Read> oio::Read for Watched<R> {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let start = Instant::now();
        let result = self.inner.open(range).await;
        let (reply, stream) = self.watch.ended("read_open", start, result)?;
        let stream: Box<dyn oio::ReadStreamDyn> = Box::new(Watched {
            inner: stream,
            watch: self.watch.clone(),
            operation: READ,
            waited: Duration::ZERO,
            is_open: false,
        });
        Ok((reply, stream))
    }

    async fn read(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        let start = Instant::now();
        let result = self.inner.read(range).await;
        let (reply, bytes) = self.watch.ended(READ, start, result)?;
        self.watch.bytes(READ, bytes.len() as u64);
        Ok((reply, bytes))
    }
}

impl<S: oio::ReadStream> oio::ReadStream for Watched<S> {
    async fn read(&mut self) -> Result<Buffer> {
        let start = Instant::now();
        let result = self.inner.read().await;
        let bytes = result.as_ref().map_or(0, Buffer::len);
        if bytes > 0 {
            self.watch.bytes(READ, bytes as u64);
        }
        self.note(start, result, bytes == 0)
    }
}

impl<W: oio::Write> oio::Write for Watched<W> {
    async fn write(&mut self, bytes: Buffer) -> Result<()> {
        let (start, size) = (Instant::now(), bytes.len() as u64);
        let result = self.inner.write(bytes).await;
        self.watch.ended(WRITE, start, result)?;
        self.watch.bytes(WRITE, size);
        Ok(())
    }

    async fn copy_from(&mut self, path: &str, args: OpRead, range: BytesRange) -> Result<()> {
        let (start, size) = (Instant::now(), range.size());
        let result = self.inner.copy_from(path, args, range).await;
        self.watch.ended(WRITE_COPY, start, result)?;
        self.watch.bytes(WRITE_COPY, size.unwrap_or_default());
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        let start = Instant::now();
        let result = self.inner.close().await;
        self.watch.ended("write_close", start, result)
    }

    async fn abort(&mut self) -> Result<()> {
        let start = Instant::now();
        let result = self.inner.abort().await;
        self.watch.ended("write_abort", start, result)
    }
}

impl<L: oio::List> oio::List for Watched<L> {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        let start = Instant::now();
        let result = self.inner.next().await;
        let is_last = matches!(result, Ok(None));
        self.note(start, result, is_last)
    }
}

impl<D: oio::Delete> oio::Delete for Watched<D> {
    async fn delete(&mut self, path: &str, args: OpDelete) -> Result<()> {
        let start = Instant::now();
        let result = self.inner.delete(path, args).await;
        self.note(start, result, false)
    }

    async fn close(&mut self) -> Result<()> {
        let start = Instant::now();
        let result = self.inner.close().await;
        self.note(start, result, true)
    }
}

impl<C: oio::Copy> oio::Copy for Watched<C> {
    async fn next(&mut self) -> Result<Option<usize>> {
        let start = Instant::now();
        let result = self.inner.next().await;
        if let Ok(Some(bytes)) = &result {
            self.watch.bytes(COPY, *bytes as u64);
        }
        self.note(start, result, false)
    }

    async fn close(&mut self) -> Result<Metadata> {
        let start = Instant::now();
        let result = self.inner.close().await;
        self.note(start, result, true)
    }

    async fn abort(&mut self) -> Result<()> {
        let result = self.inner.abort().await;
        self.watch.masked(result)
    }
}

impl<C: oio::Compose> oio::Compose for Watched<C> {
    async fn compose(&mut self, path: &str, args: OpRead) -> Result<()> {
        let start = Instant::now();
        let result = self.inner.compose(path, args).await;
        self.note(start, result, false)
    }

    async fn close(&mut self) -> Result<Metadata> {
        let start = Instant::now();
        let result = self.inner.close().await;
        if let Ok(composed) = &result {
            self.watch.bytes(COMPOSE, composed.content_length());
        }
        self.note(start, result, true)
    }
}

#[cfg(test)]
mod tests;
