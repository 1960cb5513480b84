//! Ends calls of the store that take too long: each by itself, so that it is tried again.
//!
//! A layer of our own, and not opendal's: that one gives a part of 5 MiB and a copy of 5 GiB the same time.

use std::{sync::Arc, time::Duration};

use opendal::{
    Buffer, BytesRange, Capability, Error, ErrorKind, Metadata, OperationContext, Result,
    raw::{
        Layer, OpCompose, OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpRestore, OpStat,
        OpWrite, RpCreateDir, RpPresign, RpRead, RpRename, RpRestore, RpStat, Service, ServiceInfo, Servicer, oio,
    },
};

tokio::task_local! {
    static COMPOSED: u64;
}

/// Gives what composes objects in `call` the time that so many bytes have. opendal does not tell how large its sources are.
pub(super) async fn composing<T>(bytes: u64, call: impl Future<Output = T>) -> T {
    COMPOSED.scope(bytes, call).await
}

/// How long one call of a store may take. What takes longer has failed, and is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTimeouts {
    /// A call that asks about one object, or renames it.
    pub call: Duration,
    /// Any other call, and each piece of a body that is read: so a body may come as slowly as it does, but not stop for
    /// longer.
    pub transfer: Duration,
    /// What a write has beside [`transfer`](Self::transfer), for each MiB that it sends.
    pub sent_mib: Duration,
    /// The same for each MiB that the store copies, or joins, by itself.
    pub copied_mib: Duration,
}

/// 20 seconds; a minute, with half a minute for each MiB that is sent (8 MiB at 30 KiB/s), and a quarter of a second for
/// each MiB that the store moves by itself (5 GiB at 4 MiB/s).
impl Default for StoreTimeouts {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(20),
            transfer: Duration::from_secs(60),
            sent_mib: Duration::from_secs(30),
            copied_mib: Duration::from_millis(250),
        }
    }
}

impl StoreTimeouts {
    /// Of a call that sends so many bytes, and makes the store move so many.
    fn transfer_of(&self, sent: u64, copied: u64) -> Duration {
        self.transfer
            .saturating_add(share(self.sent_mib, sent))
            .saturating_add(share(self.copied_mib, copied))
    }
}

/// What `bytes` have of so long for each MiB.
fn share(mib: Duration, bytes: u64) -> Duration {
    let nanos = mib.as_nanos().saturating_mul(u128::from(bytes)) >> 20;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let error = Error::new(ErrorKind::Unexpected, "the store did not answer in time");
        Err(error
            .with_context("timeout", format!("{} s", limit.as_secs_f64()))
            .set_temporary())
    })
}

#[derive(Debug)]
pub(super) struct TimeoutLayer(pub(super) StoreTimeouts);

impl Layer for TimeoutLayer {
    fn apply_service(&self, inner: Servicer) -> Servicer {
        Arc::new(TimedService {
            inner,
            timeouts: self.0,
        })
    }
}

#[derive(Debug)]
struct TimedService {
    inner: Servicer,
    timeouts: StoreTimeouts,
}

impl TimedService {
    fn timed<T>(&self, inner: Result<T>) -> Result<Timed<T>> {
        Ok(Timed {
            inner: inner?,
            limit: self.timeouts.transfer,
        })
    }
}

impl Service for TimedService {
    type Reader = Timed<oio::Reader>;
    type Writer = TimedWriter;
    type Lister = Timed<oio::Lister>;
    type Deleter = Timed<oio::Deleter>;
    type Copier = Timed<oio::Copier>;
    type Composer = TimedComposer;

    fn info(&self) -> ServiceInfo {
        self.inner.info()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    async fn create_dir(&self, ctx: &OperationContext, path: &str, args: OpCreateDir) -> Result<RpCreateDir> {
        within(self.timeouts.call, self.inner.create_dir(ctx, path, args)).await
    }

    async fn stat(&self, ctx: &OperationContext, path: &str, args: OpStat) -> Result<RpStat> {
        within(self.timeouts.call, self.inner.stat(ctx, path, args)).await
    }

    fn read(&self, ctx: &OperationContext, path: &str, args: OpRead) -> Result<Self::Reader> {
        self.timed(self.inner.read(ctx, path, args))
    }

    fn write(&self, ctx: &OperationContext, path: &str, args: OpWrite) -> Result<Self::Writer> {
        Ok(TimedWriter {
            inner: self.inner.write(ctx, path, args)?,
            timeouts: self.timeouts,
            in_parts: self.capability().write_can_multi,
            held: 0,
            total: 0,
        })
    }

    fn delete(&self, ctx: &OperationContext) -> Result<Self::Deleter> {
        self.timed(self.inner.delete(ctx))
    }

    fn list(&self, ctx: &OperationContext, path: &str, args: OpList) -> Result<Self::Lister> {
        self.timed(self.inner.list(ctx, path, args))
    }

    fn copy(&self, ctx: &OperationContext, from: &str, to: &str, args: OpCopy) -> Result<Self::Copier> {
        self.timed(self.inner.copy(ctx, from, to, args))
    }

    fn compose(&self, ctx: &OperationContext, to: &str, args: OpCompose) -> Result<Self::Composer> {
        Ok(TimedComposer {
            inner: self.inner.compose(ctx, to, args)?,
            timeouts: self.timeouts,
        })
    }

    async fn rename(&self, ctx: &OperationContext, from: &str, to: &str, args: OpRename) -> Result<RpRename> {
        within(self.timeouts.call, self.inner.rename(ctx, from, to, args)).await
    }

    async fn restore(&self, ctx: &OperationContext, path: &str, args: OpRestore) -> Result<RpRestore> {
        within(self.timeouts.call, self.inner.restore(ctx, path, args)).await
    }

    async fn presign(&self, ctx: &OperationContext, path: &str, args: OpPresign) -> Result<RpPresign> {
        within(self.timeouts.call, self.inner.presign(ctx, path, args)).await
    }
}

/// Each of its calls ends after as long.
struct Timed<T> {
    inner: T,
    limit: Duration,
}

impl<R: oio::Read> oio::Read for Timed<R> {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (reply, inner) = within(self.limit, self.inner.open(range)).await?;
        let limit = self.limit;
        Ok((reply, Box::new(Timed { inner, limit })))
    }

    async fn read(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        within(self.limit, self.inner.read(range)).await
    }
}

impl<S: oio::ReadStream> oio::ReadStream for Timed<S> {
    async fn read(&mut self) -> Result<Buffer> {
        within(self.limit, self.inner.read()).await
    }
}

impl<L: oio::List> oio::List for Timed<L> {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        within(self.limit, self.inner.next()).await
    }
}

impl<D: oio::Delete> oio::Delete for Timed<D> {
    async fn delete(&mut self, path: &str, args: OpDelete) -> Result<()> {
        within(self.limit, self.inner.delete(path, args)).await
    }

    async fn close(&mut self) -> Result<()> {
        within(self.limit, self.inner.close()).await
    }
}

impl<C: oio::Copy> oio::Copy for Timed<C> {
    async fn next(&mut self) -> Result<Option<usize>> {
        within(self.limit, self.inner.next()).await
    }

    async fn close(&mut self) -> Result<Metadata> {
        within(self.limit, self.inner.close()).await
    }

    async fn abort(&mut self) -> Result<()> {
        within(self.limit, self.inner.abort()).await
    }
}

struct TimedComposer {
    inner: oio::Composer,
    timeouts: StoreTimeouts,
}

impl oio::Compose for TimedComposer {
    async fn compose(&mut self, path: &str, args: OpRead) -> Result<()> {
        within(self.timeouts.transfer, self.inner.compose(path, args)).await
    }

    async fn close(&mut self) -> Result<Metadata> {
        let copied = COMPOSED.try_with(|bytes| *bytes).unwrap_or_default();
        within(self.timeouts.transfer_of(0, copied), self.inner.close()).await
    }
}

struct TimedWriter {
    inner: oio::Writer,
    timeouts: StoreTimeouts,
    /// What is handed over is sent part by part; else it may be sent as a whole in the end.
    in_parts: bool,
    /// What a call may send at most: what is handed over waits, and goes with the next.
    held: u64,
    /// What the object has come to.
    total: u64,
}

impl oio::Write for TimedWriter {
    async fn write(&mut self, bytes: Buffer) -> Result<()> {
        let size = bytes.len() as u64;
        let held = if self.in_parts {
            self.held.max(size)
        } else {
            self.held.saturating_add(size)
        };
        within(self.timeouts.transfer_of(held, 0), self.inner.write(bytes)).await?;
        self.held = held;
        self.total = self.total.saturating_add(size);
        Ok(())
    }

    async fn copy_from(&mut self, path: &str, args: OpRead, range: BytesRange) -> Result<()> {
        let size = range.size().unwrap_or_default();
        let limit = self.timeouts.transfer_of(self.held, size);
        within(limit, self.inner.copy_from(path, args, range)).await?;
        self.total = self.total.saturating_add(size);
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        within(self.timeouts.transfer_of(self.held, self.total), self.inner.close()).await
    }

    async fn abort(&mut self) -> Result<()> {
        within(self.timeouts.transfer, self.inner.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_more_has_longer() {
        let timeouts = StoreTimeouts::default();
        let seconds = |sent, copied| timeouts.transfer_of(sent, copied).as_secs();
        assert_eq!(seconds(0, 0), 60);
        assert_eq!(seconds(8 << 20, 0), 300);
        assert_eq!(seconds(1 << 19, 0), 75);
        assert_eq!(seconds(0, 5 << 30), 1340);
        let forever = StoreTimeouts {
            sent_mib: Duration::MAX,
            ..timeouts
        };
        assert!(forever.transfer_of(u64::MAX, u64::MAX) > Duration::from_hours(24 * 365));
    }
}
