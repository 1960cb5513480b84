//! Versions over a store that compares and sets, from two gateways: raced, stopped between any two calls of the store,
//! and cut off there.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use opendal::{Error, ErrorKind, Result};
use t2gate_backends::{
    Backend, BackendError, BucketSetting, Clock as _, ListObjectVersions, OpendalBackend, OpendalOptions, StoreLevel,
    SystemClock, TestClock, Timestamp, VersionEntry, VersionId, Versioned, VersioningStatus,
    conformance::{
        Subject,
        race::{DirectClient, RaceOptions, race},
        read_whole,
    },
    versions_suite,
};
use tokio::sync::Notify;

use super::simulated::{Call, Hook, Simulated};

fn open() -> (Arc<dyn Backend>, ()) {
    (gateway(&Simulated::new(), None), ())
}

versions_suite!(open);

/// A store that can do less: what has gone leaves heads behind, and every listing is looked through.
mod unordered {
    use super::*;

    fn open() -> (Arc<dyn Backend>, ()) {
        let store = Simulated::new().without_conditional_deletes().unordered();
        (gateway(&store, None), ())
    }

    t2gate_backends::conformance_version_cases!([t2gate_backends::conformance_tests](open, None));
}

fn gateway(store: &Simulated, hook: Option<Arc<dyn Hook>>) -> Arc<dyn Backend> {
    over(super::open_store(store.options(hook)))
}

fn over(store: OpendalBackend) -> Arc<dyn Backend> {
    assert_eq!(store.report().level, StoreLevel::CompareAndSet, "{}", store.report());
    Arc::new(Versioned::new(store, Arc::new(SystemClock)).unwrap())
}

async fn subject(backend: Arc<dyn Backend>) -> Subject {
    Subject::with_versioning(backend, Some(VersioningStatus::Enabled)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_of_two_gateways_see_can_have_happened() {
    for store in [Simulated::new(), Simulated::new().without_conditional_deletes()] {
        let first = subject(gateway(&store, None)).await;
        let second = Subject::of(gateway(&store, None), first.bucket.clone()).await;
        for seed in 1..=3 {
            let clients = [&first, &second].map(|s| Arc::new(DirectClient(s.clone())) as Arc<_>);
            let options = RaceOptions {
                clients: 8,
                keys: 3,
                operations: 60,
                seed,
            };
            race(clients.into(), &options).await;
            empty(&first).await;
        }
    }
}

// ---- stopped, and cut off

/// What becomes of the call that is counted, and of those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// It waits until it is let go.
    Wait,
    /// It fails, and so does everything after it.
    CutBefore,
    /// It takes effect, and the answer is lost; everything after it fails.
    CutAfter,
}

/// Counts calls from when it is armed.
struct Counter {
    at: At,
    /// Which call; the first is 0.
    call: AtomicUsize,
    count: AtomicUsize,
    reached: Arc<Notify>,
    go: Arc<Notify>,
}

const UNARMED: usize = usize::MAX / 2;

impl Counter {
    fn new(at: At) -> Arc<Self> {
        Arc::new(Self {
            at,
            call: AtomicUsize::new(0),
            count: AtomicUsize::new(UNARMED),
            reached: Arc::default(),
            go: Arc::default(),
        })
    }

    fn arm(&self, call: usize) {
        self.call.store(call, Ordering::SeqCst);
        self.count.store(0, Ordering::SeqCst);
    }

    /// Whether the call came.
    fn came(&self) -> bool {
        let count = self.count.load(Ordering::SeqCst);
        count < UNARMED && count > self.call.load(Ordering::SeqCst)
    }
}

fn cut() -> Error {
    Error::new(ErrorKind::Unexpected, "cut off")
}

impl Hook for Counter {
    fn before(&self, call: Call, _: &str) -> BoxFuture<'static, Result<()>> {
        if call == Call::ReadOn {
            return ready(Ok(())).boxed();
        }
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let call = self.call.load(Ordering::SeqCst);
        if count >= UNARMED {
            return ready(Ok(())).boxed();
        }
        match self.at {
            At::Wait if count == call => {
                let (reached, go) = (Arc::clone(&self.reached), Arc::clone(&self.go));
                async move {
                    reached.notify_one();
                    go.notified().await;
                    Ok(())
                }
                .boxed()
            }
            At::CutBefore if count >= call => ready(Err(cut())).boxed(),
            At::CutAfter if count > call => ready(Err(cut())).boxed(),
            _ => ready(Ok(())).boxed(),
        }
    }

    fn after(&self, _: Call, _: &str) -> BoxFuture<'static, Result<()>> {
        // Of the call that was counted last: calls come one after the other, where it matters.
        let count = self.count.load(Ordering::SeqCst);
        let is_cut = self.at == At::CutAfter && count < UNARMED && count > self.call.load(Ordering::SeqCst);
        ready(if is_cut { Err(cut()) } else { Ok(()) }).boxed()
    }
}

/// What is done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Put,
    /// The bytes that the current version has.
    PutEqual,
    PutLarge,
    Complete,
    Delete,
    /// Of the current version, by id.
    DeleteNewest,
    /// Of the one below it.
    DeleteOlder,
    /// Of the version `null`.
    DeleteNull,
    /// All that is there, the newest first.
    DeleteAll,
}

const OPS: [Op; 9] = [
    Op::Put,
    Op::PutEqual,
    Op::PutLarge,
    Op::Complete,
    Op::Delete,
    Op::DeleteNewest,
    Op::DeleteOlder,
    Op::DeleteNull,
    Op::DeleteAll,
];

/// How the key is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// One version.
    One,
    /// `null`, a large one, a small one.
    Three,
    /// Those, and a marker on top.
    Marked,
    /// The one on top was deleted, and so the large one lies in both places.
    Promoted,
}

const BEFORES: [Before; 4] = [Before::One, Before::Three, Before::Marked, Before::Promoted];

/// What is known of the key's versions: of each its bytes, `None` for a marker.
type Known = BTreeMap<VersionId, Option<Bytes>>;

fn large(seed: u8) -> Bytes {
    vec![seed; 200_000].into()
}

const KEY: &str = "dir/key";

async fn prepare(s: &Subject, before: Before) {
    if before != Before::One {
        s.put(KEY, "null").await;
    }
    let enabled = BucketSetting::Versioning(VersioningStatus::Enabled);
    s.put_bucket_setting(&s.bucket, enabled).await.unwrap();
    if before != Before::One {
        s.put(KEY, large(1)).await;
    }
    let small = s.put(KEY, "small").await;
    match before {
        Before::One | Before::Three => {}
        Before::Marked => {
            s.delete(KEY).await;
        }
        Before::Promoted => delete_version(s, &small.version_id.unwrap()).await.unwrap(),
    }
}

async fn delete_version(s: &Subject, id: &VersionId) -> std::result::Result<(), BackendError> {
    let mut request = s.delete_request(KEY);
    request.object.version_id = Some(id.clone());
    s.delete_object(request).await.map(drop)
}

fn all_of(s: &Subject) -> ListObjectVersions {
    ListObjectVersions {
        bucket: s.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 1000,
    }
}

async fn entries(s: &Subject) -> Vec<VersionEntry> {
    s.list_object_versions(all_of(s)).await.unwrap().entries
}

fn ids(entries: &[VersionEntry]) -> Vec<VersionId> {
    entries.iter().filter_map(VersionEntry::version_id).cloned().collect()
}

async fn empty(s: &Subject) {
    for entry in entries(s).await {
        let mut request = s.delete_request(entry.name());
        request.object.version_id = entry.version_id().cloned();
        assert!(s.delete_object(request).await.unwrap().existed);
    }
    assert!(entries(s).await.is_empty());
}

/// What all answers together say of the key; they have to agree.
async fn look(s: &Subject) -> Known {
    let entries = entries(s).await;
    let mut known = Known::new();
    let mut latest = None;
    for entry in &entries {
        let id = entry.version_id().unwrap().clone();
        let mut object = s.object(KEY);
        object.version_id = Some(id.clone());
        let opened = s.open_object(&object).await;
        let (bytes, is_latest) = match entry {
            VersionEntry::Object { info, is_latest } => {
                let open = opened.unwrap();
                assert_eq!((&open.info.etag, open.info.size), (&info.etag, info.size));
                assert_eq!(open.info.version_id.as_ref(), Some(&id));
                (Some(read_whole(open).await), *is_latest)
            }
            VersionEntry::DeleteMarker(marker) => {
                assert!(matches!(opened, Err(BackendError::DeleteMarker { .. })), "{opened:?}");
                (None, marker.is_latest)
            }
            VersionEntry::CommonPrefix(prefix) => panic!("{prefix}"),
        };
        assert!(known.insert(id.clone(), bytes).is_none(), "{id} is listed twice");
        if is_latest {
            assert!(latest.is_none(), "two are the latest");
            latest = Some(id);
        }
    }
    assert_eq!(latest.as_ref(), entries.first().and_then(VersionEntry::version_id));
    let by_name = match s.open(KEY).await {
        Ok(open) => open.info.version_id,
        Err(BackendError::DeleteMarker { version_id, .. }) => Some(version_id),
        Err(BackendError::NoSuchKey) => None,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(by_name, latest);
    let current = matches!(entries.first(), Some(VersionEntry::Object { .. }));
    assert_eq!(s.all_keys().await.len(), usize::from(current));
    known
}

/// What an operation has done for certain, if it was acknowledged.
#[derive(Debug, Default)]
struct Done {
    added: Known,
    removed: Vec<VersionId>,
    /// What it may have done, for it was cut off.
    maybe_removed: Vec<VersionId>,
}

/// Does it from what is there; with what came of it.
async fn perform(s: &Subject, op: Op) -> (Done, std::result::Result<(), BackendError>) {
    let mut done = Done::default();
    let before = ids(&entries(s).await);
    perform_on(s, op, before, &mut done).await
}

async fn perform_on(
    s: &Subject,
    op: Op,
    before: Vec<VersionId>,
    done: &mut Done,
) -> (Done, std::result::Result<(), BackendError>) {
    let mut outcome = Ok(());
    let put = async |bytes: Bytes, done: &mut Done| {
        let info = s.put_object(
            s.put_request(KEY),
            t2gate_backends::ObjectBody::from_bytes(bytes.clone()),
        );
        let id = info.await?.version_id.unwrap();
        done.added.insert(id, Some(bytes));
        Ok(())
    };
    match op {
        Op::Put => outcome = put("another".into(), done).await,
        Op::PutEqual => outcome = put("small".into(), done).await,
        Op::PutLarge => outcome = put(large(2), done).await,
        Op::Complete => {
            let completed = async {
                let upload = s.create_multipart_upload(s.create_upload_request(KEY)).await?;
                let upload = s.upload_ref(KEY, upload);
                let number = t2gate_backends::PartNumber::new(1).unwrap();
                let body = t2gate_backends::ObjectBody::from_bytes(large(3));
                let part = s.upload_part(&upload, number, body).await?;
                let part = t2gate_backends::conformance::completed(&part);
                s.complete(&upload, vec![part]).await
            };
            match completed.await {
                Ok(info) => {
                    done.added.insert(info.version_id.unwrap(), Some(large(3)));
                }
                Err(error) => outcome = Err(error),
            }
        }
        Op::Delete => match s.delete_object(s.delete_request(KEY)).await {
            Ok(outcome) => done.added.extend(outcome.version_id.map(|id| (id, None))),
            Err(error) => outcome = Err(error),
        },
        Op::DeleteNewest | Op::DeleteOlder | Op::DeleteNull | Op::DeleteAll => {
            let named = match op {
                Op::DeleteNewest => before.first().cloned().into_iter().collect(),
                Op::DeleteOlder => before.get(1).cloned().into_iter().collect(),
                Op::DeleteNull => vec![VersionId::null()],
                _ => before,
            };
            for id in named {
                done.maybe_removed.push(id.clone());
                match delete_version(s, &id).await {
                    Ok(()) => done.removed.push(id),
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
        }
    }
    (std::mem::take(done), outcome)
}

/// All that was there and was acknowledged, is there still, unless somebody was told that it is gone.
fn assert_kept(now: &Known, before: &Known, all: &[&Done], context: &str) {
    let removed = |id: &VersionId| all.iter().any(|done| done.removed.contains(id));
    let maybe = |id: &VersionId| all.iter().any(|done| done.maybe_removed.contains(id));
    let added = all.iter().flat_map(|done| &done.added);
    for (id, bytes) in before.iter().chain(added) {
        if removed(id) {
            assert!(!now.contains_key(id), "{context}: {id} came back");
        } else if !maybe(id) {
            assert!(now.get(id) == Some(bytes), "{context}: {id} is lost, or another");
        }
    }
}

/// Everything that is there is old, and then so is what the first look has ended.
async fn sweep(store: &Simulated) {
    sweep_at(store, 365).await;
    sweep_at(store, 368).await;
}

/// In so many days.
async fn sweep_at(store: &Simulated, days: i64) {
    let seconds = SystemClock.now().unix_seconds() + days * 86_400;
    let sweeper = super::open_store(OpendalOptions {
        clock: Arc::new(TestClock::new(Timestamp::from_unix(seconds, 0))),
        ..store.options(None)
    });
    sweeper.sweep(Duration::from_hours(24)).await.unwrap();
}

async fn emptied_and_swept(store: &Simulated, s: &Subject, context: &str) {
    empty(s).await;
    sweep(store).await;
    for prefix in [".t2/data/", ".t2/history/", ".t2/gone/", ".t2/parts/", ".t2/uploads/"] {
        let left = store.names(prefix);
        assert!(left.is_empty(), "{context}: {left:?}");
    }
    s.delete_bucket(&s.bucket).await.unwrap();
}

async fn other(store: &Simulated, s: &Subject) -> Subject {
    Subject::of(gateway(store, None), s.bucket.clone()).await
}

/// One gateway is stopped before each of its calls in turn; meanwhile another does something to the same key, and is
/// done. Then the first one goes on, however stale what it holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_late_loses_nothing_and_brings_nothing_back() {
    let mut stops = 0;
    for before in BEFORES {
        for slow in OPS {
            for fast in OPS {
                for call in 0.. {
                    let context = format!("{before:?}: {slow:?} stopped before call {call}, {fast:?} meanwhile");
                    let store = Simulated::new();
                    let counter = Counter::new(At::Wait);
                    let s = Subject::new(gateway(&store, Some(counter.clone()))).await;
                    prepare(&s, before).await;
                    let second = other(&store, &s).await;
                    let there = look(&second).await;
                    let names = ids(&entries(&second).await);
                    counter.arm(call);
                    let mut task = tokio::spawn({
                        let s = s.clone();
                        async move { perform_on(&s, slow, names, &mut Done::default()).await }
                    });
                    let finished = tokio::select! {
                        () = counter.reached.notified() => None,
                        done = &mut task => Some(done.unwrap()),
                    };
                    let (fast_done, fast_outcome) = perform(&second, fast).await;
                    fast_outcome.unwrap_or_else(|error| panic!("{context}: {error:?}"));
                    let amid = look(&second).await;
                    let came = finished.is_none();
                    if came {
                        assert_kept(&amid, &there, &[&fast_done, &maybe(&there, slow)], &context);
                    }
                    counter.go.notify_one();
                    let (slow_done, slow_outcome) = match finished {
                        Some(done) => done,
                        None => task.await.unwrap(),
                    };
                    slow_outcome.unwrap_or_else(|error| panic!("{context}: {error:?}"));
                    let now = look(&second).await;
                    assert_kept(&now, &there, &[&fast_done, &slow_done], &context);
                    assert_eq!(look(&s).await, now, "{context}");
                    // What lies in the history and does not count must not count later either.
                    let (more, outcome) = perform(&second, Op::Put).await;
                    outcome.unwrap();
                    let after = look(&second).await;
                    assert_kept(&after, &now, &[&more], &context);
                    assert_eq!(after.len(), now.len() + 1, "{context}: something came back");
                    if !came {
                        break;
                    }
                    stops += 1;
                }
            }
        }
    }
    assert!(stops > 1000, "{stops}");
}

/// What may be gone while an operation is under way.
fn maybe(there: &Known, op: Op) -> Done {
    let deletes = matches!(op, Op::DeleteNewest | Op::DeleteOlder | Op::DeleteNull | Op::DeleteAll);
    Done {
        maybe_removed: there.keys().filter(|_| deletes).cloned().collect(),
        ..Done::default()
    }
}

/// A gateway dies before or after each call in turn. The next one finds all that was acknowledged, and goes on; and in
/// the end nothing is left in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_anywhere_nothing_is_lost_and_nothing_is_left() {
    let mut cuts = 0;
    for at in [At::CutBefore, At::CutAfter] {
        for before in BEFORES {
            for op in OPS {
                for call in 0.. {
                    let context = format!("{before:?}: {op:?} cut off, {at:?} {call}");
                    let store = Simulated::new();
                    let counter = Counter::new(at);
                    let s = Subject::new(gateway(&store, Some(counter.clone()))).await;
                    prepare(&s, before).await;
                    let there = look(&s).await;
                    let names = ids(&entries(&s).await);
                    counter.arm(call);
                    let (done, outcome) = perform_on(&s, op, names, &mut Done::default()).await;
                    let came = counter.came();
                    assert!(came || outcome.is_ok(), "{context}: {outcome:?}");
                    drop(s.clone());
                    let next = other(&store, &s).await;
                    let now = look(&next).await;
                    assert_kept(&now, &there, &[&done], &context);
                    // Of what was not acknowledged there is all or nothing, once.
                    let unknown: Vec<_> = now
                        .keys()
                        .filter(|id| !there.contains_key(id) && !done.added.contains_key(id))
                        .collect();
                    assert!(unknown.len() <= usize::from(outcome.is_err()), "{context}: {unknown:?}");
                    // Whoever goes on from there finds nothing in the way.
                    let (more, outcome) = perform(&next, Op::Put).await;
                    outcome.unwrap();
                    let after = look(&next).await;
                    assert_kept(&after, &now, &[&more], &context);
                    assert_eq!(after.len(), now.len() + 1, "{context}: something came back");
                    // Nor does the sweeper.
                    sweep(&store).await;
                    assert!(look(&next).await == after, "{context}: swept");
                    emptied_and_swept(&store, &next, &context).await;
                    if !came {
                        break;
                    }
                    cuts += 1;
                }
            }
        }
    }
    assert!(cuts > 500, "{cuts}");
}

// ---- completes

/// How many versions there are of what the upload makes.
fn made(known: &Known) -> usize {
    known.values().filter(|bytes| **bytes == Some(large(3))).count()
}

/// Of a complete that was cut off nobody knows whether it was done. Asked for again, also when something was written
/// since, it is done once; and the sweeper takes nothing that an object consists of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_that_was_cut_off_is_done_once() {
    for (at, overwritten) in [
        (At::CutBefore, false),
        (At::CutBefore, true),
        (At::CutAfter, false),
        (At::CutAfter, true),
    ] {
        for call in 0.. {
            let context = format!("cut off, {at:?} {call}; overwritten: {overwritten}");
            let store = Simulated::new();
            let counter = Counter::new(at);
            let s = subject(gateway(&store, Some(counter.clone()))).await;
            let upload = s.upload(KEY).await;
            let parts = vec![s.part(&upload, 1, large(3)).await];
            counter.arm(call);
            let first = s.complete(&upload, parts.clone()).await;
            let came = counter.came();
            let next = other(&store, &s).await;
            if overwritten {
                next.put(KEY, "over").await;
            }
            let swept_before = call % 2 == 0;
            if swept_before {
                sweep(&store).await;
            }
            let second = next.complete(&upload, parts).await;
            sweep(&store).await;
            let known = look(&next).await;
            match &second {
                Ok(info) => assert!(known.contains_key(info.version_id.as_ref().unwrap()), "{context}"),
                Err(BackendError::NoSuchUpload) => {}
                Err(other) => panic!("{context}: {other:?}"),
            }
            assert!(made(&known) <= 1, "{context}: {known:?}");
            let done = first.is_ok() || second.is_ok();
            assert!(made(&known) == 1 || !done, "{context}");
            if !swept_before {
                assert_eq!(made(&known), 1, "{context}");
            }
            if !came {
                break;
            }
        }
    }
}

/// A client that gave up waiting asks another gateway, and the first one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_completes_at_two_gateways_one_does_the_work() {
    for overwritten in [false, true] {
        for call in 0.. {
            let context = format!("stopped before call {call}; overwritten: {overwritten}");
            let store = Simulated::new();
            let counter = Counter::new(At::Wait);
            let s = subject(gateway(&store, Some(counter.clone()))).await;
            let upload = s.upload(KEY).await;
            let parts = vec![s.part(&upload, 1, large(3)).await];
            let next = other(&store, &s).await;
            counter.arm(call);
            let mut task = tokio::spawn({
                let (s, upload, parts) = (s.clone(), upload.clone(), parts.clone());
                async move { s.complete(&upload, parts).await }
            });
            let finished = tokio::select! {
                () = counter.reached.notified() => None,
                done = &mut task => Some(done.unwrap()),
            };
            let came = finished.is_none();
            let second = next.complete(&upload, parts).await;
            if overwritten {
                next.put(KEY, "over").await;
            }
            counter.go.notify_one();
            let first = match finished {
                Some(done) => done,
                None => task.await.unwrap(),
            };
            for outcome in [&first, &second] {
                let fine = matches!(outcome, Ok(_) | Err(BackendError::NoSuchUpload));
                // The parts went while they were looked at.
                let gone = matches!(outcome, Err(BackendError::Assemble(_)));
                assert!(fine || gone, "{context}: {outcome:?}");
            }
            assert!(first.is_ok() || second.is_ok(), "{context}");
            let known = look(&next).await;
            assert_eq!(made(&known), 1, "{context}: {first:?}, {second:?}");
            if !came {
                break;
            }
        }
    }
}

/// Likewise where the object is deleted before the first one goes on, and nothing is kept of it: it does not come again,
/// without its data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_completes_late_brings_no_deleted_object_back() {
    let mut both = 0;
    for call in 0.. {
        let context = format!("stopped before call {call}");
        let store = Simulated::new();
        let counter = Counter::new(At::Wait);
        let s = Subject::new(gateway(&store, Some(counter.clone()))).await;
        let upload = s.upload(KEY).await;
        let parts = vec![s.part(&upload, 1, large(3)).await];
        let next = other(&store, &s).await;
        counter.arm(call);
        let mut task = tokio::spawn({
            let (s, upload, parts) = (s.clone(), upload.clone(), parts.clone());
            async move { s.complete(&upload, parts).await }
        });
        let finished = tokio::select! {
            () = counter.reached.notified() => None,
            done = &mut task => Some(done.unwrap()),
        };
        let came = finished.is_none();
        let second = next.complete(&upload, parts).await;
        next.delete(KEY).await;
        counter.go.notify_one();
        let first = match finished {
            Some(done) => done,
            None => task.await.unwrap(),
        };
        both += usize::from(came && second.is_ok());
        match next.open(KEY).await {
            Ok(open) => assert_eq!(read_whole(open).await, large(3), "{context}: {first:?}, {second:?}"),
            Err(error) => assert!(matches!(error, BackendError::NoSuchKey), "{context}: {error}"),
        }
        if !came {
            break;
        }
    }
    assert!(both > 5, "{both}");
}

/// One gateway completes an upload, and is stopped before each of its calls in turn; meanwhile another aborts it, or
/// sweeps it as abandoned. If the first one says that there is an object, it is whole and stays so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_ended_while_another_gateway_completes_it_leaves_no_broken_object() {
    let mut both = 0;
    for sweeps in [false, true] {
        for call in 0.. {
            let context = format!("stopped before call {call}; swept: {sweeps}");
            let store = Simulated::new();
            let counter = Counter::new(At::Wait);
            let s = subject(gateway(&store, Some(counter.clone()))).await;
            let upload = s.upload(KEY).await;
            let parts = vec![s.part(&upload, 1, large(3)).await];
            let next = other(&store, &s).await;
            counter.arm(call);
            let mut task = tokio::spawn({
                let (s, upload) = (s.clone(), upload.clone());
                async move { s.complete(&upload, parts).await }
            });
            let finished = tokio::select! {
                () = counter.reached.notified() => None,
                done = &mut task => Some(done.unwrap()),
            };
            let came = finished.is_none();
            let ended = if sweeps {
                sweep_at(&store, 365).await;
                Ok(())
            } else {
                next.abort_multipart_upload(&upload).await
            };
            if came && ended.is_ok() {
                let listed = next.list_multipart_uploads(next.all_uploads()).await.unwrap();
                assert!(listed.entries.is_empty(), "{context}: {listed:?}");
            }
            counter.go.notify_one();
            let completed = match finished {
                Some(done) => done,
                None => task.await.unwrap(),
            };
            assert!(
                completed.is_ok() || ended.is_ok(),
                "{context}: {completed:?}, {ended:?}"
            );
            both += usize::from(came && !sweeps && completed.is_ok() && ended.is_ok());
            sweep_at(&store, 368).await;
            sweep_at(&store, 371).await;
            match &completed {
                Ok(_) => assert!(next.get(KEY).await == Some(large(3)), "{context}"),
                Err(BackendError::NoSuchUpload) => assert_eq!(next.get(KEY).await, None, "{context}"),
                Err(error) => panic!("{context}: {error:?}"),
            }
            let aborted = next.abort_multipart_upload(&upload).await;
            assert!(
                matches!(aborted, Err(BackendError::NoSuchUpload)),
                "{context}: {aborted:?}"
            );
            emptied_and_swept(&store, &next, &context).await;
            if !came {
                break;
            }
        }
    }
    assert!(both > 0, "no abort came between the look at the upload and the commit");
}
