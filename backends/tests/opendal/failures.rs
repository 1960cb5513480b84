//! Single calls of a store that go wrong, each at the worst moment.

#[path = "failures/opening.rs"]
mod opening;
#[path = "failures/reads.rs"]
mod reads;
#[path = "failures/sweeps.rs"]
mod sweeps;
#[path = "failures/timeouts.rs"]
mod timeouts;
#[path = "failures/uploads.rs"]
mod uploads;
#[path = "failures/writes.rs"]
mod writes;

use std::{
    future::ready,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use opendal::{Error, ErrorKind, Result};
use t2gate_backends::{
    Backend, BackendError, BodySummary, BucketSetting, CannedAcl, ChecksumAlgorithm, Clock as _, CreateBucket, IfMatch,
    ObjectAttributes, ObjectBody, OpendalBackend, OpendalOpenError, OpendalOptions, PartNumber, PutObject,
    StoreCallOutcome, StoreLayout, StoreLevel, StoreObserver, SystemClock, TestClock, Timestamp, UploadEntry,
    VersionId, Versioned, VersioningStatus, WriteCondition,
    conformance::{ScriptedBody, Subject, completed, gate, read_whole},
};
use tokio::{sync::oneshot, time::Instant};

use super::simulated::{Call, Copies, Hook, Simulated};

// ---- what goes wrong

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

type Done = BoxFuture<'static, Result<()>>;
type Plan = Box<dyn FnMut(When, Call, &str) -> Option<Done> + Send>;

/// Does what it is told about some calls, and lets the others pass.
#[derive(Default)]
pub(super) struct Script(Mutex<Option<Plan>>);

impl Script {
    pub(super) fn plan(&self, plan: impl FnMut(When, Call, &str) -> Option<Done> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(plan));
    }

    /// At the first of these calls alone.
    pub(super) fn once(
        &self,
        which: impl Fn(When, Call, &str) -> bool + Send + 'static,
        done: impl FnOnce() -> Done + Send + 'static,
    ) -> Arc<AtomicUsize> {
        let came = Arc::new(AtomicUsize::new(0));
        let (counter, mut done) = (Arc::clone(&came), Some(done));
        self.plan(move |when, call, path| {
            let done = done.take_if(|_| which(when, call, path))?;
            counter.fetch_add(1, Ordering::SeqCst);
            Some(done())
        });
        came
    }

    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn ask(&self, when: When, call: Call, path: &str) -> Done {
        let mut plan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = plan.as_mut().and_then(|plan| plan(when, call, path));
        done.unwrap_or_else(|| ready(Ok(())).boxed())
    }
}

impl Hook for Script {
    fn before(&self, call: Call, path: &str) -> Done {
        self.ask(When::Before, call, path)
    }

    fn after(&self, call: Call, path: &str) -> Done {
        self.ask(When::After, call, path)
    }
}

/// Tried again.
pub(super) fn passes() -> Error {
    Error::new(ErrorKind::Unexpected, "the connection ended").set_temporary()
}

/// Not tried again.
pub(super) fn stays() -> Error {
    Error::new(ErrorKind::Unexpected, "the store is ill")
}

pub(super) fn is_head(path: &str) -> bool {
    !path.starts_with(".t2/")
}

// ---- gateways

pub(super) async fn opened(options: OpendalOptions) -> OpendalBackend {
    let options = OpendalOptions {
        retry_delay: Duration::from_millis(1),
        ..options
    };
    OpendalBackend::open(options).await.unwrap()
}

async fn gateway(store: &Simulated, script: Option<&Arc<Script>>) -> Arc<dyn Backend> {
    let hook = script.map(|script| Arc::clone(script) as Arc<dyn Hook>);
    let opened = opened(store.options(hook)).await;
    Arc::new(Versioned::new(opened, Arc::new(SystemClock)).unwrap())
}

/// A gateway that follows a script, and another one.
async fn two(store: &Simulated, versioning: Option<VersioningStatus>) -> (Subject, Arc<Script>, Subject) {
    let script = Arc::<Script>::default();
    let first = Subject::with_versioning(gateway(store, Some(&script)).await, versioning).await;
    let second = Subject::of(gateway(store, None).await, first.bucket.clone()).await;
    (first, script, second)
}

pub(super) const KEY: &str = "dir/key";
const BOTH: [Option<VersioningStatus>; 2] = [None, Some(VersioningStatus::Enabled)];

/// More than lies behind a header.
fn large(seed: u8) -> Bytes {
    vec![seed; 200_000].into()
}

/// All bytes; without its data an object cannot be read.
async fn read(s: &Subject) -> Bytes {
    read_whole(s.open(KEY).await.unwrap()).await
}

async fn put(s: &Subject, bytes: Bytes) -> std::result::Result<(), BackendError> {
    s.put_body(KEY, ObjectBody::from_bytes(bytes)).await.map(drop)
}

/// What was spawned on this thread has run: the store in memory waits for nothing.
pub(super) async fn everything_spawned_is_done() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

/// A year from now.
async fn sweeper(store: &Simulated, script: Option<&Arc<Script>>) -> OpendalBackend {
    let hook = script.map(|script| Arc::clone(script) as Arc<dyn Hook>);
    let year = SystemClock.now().unix_seconds() + 365 * 86_400;
    opened(OpendalOptions {
        clock: Arc::new(TestClock::new(Timestamp::from_unix(year, 0))),
        ..store.options(hook)
    })
    .await
}

pub(super) const DAY: Duration = Duration::from_hours(24);
