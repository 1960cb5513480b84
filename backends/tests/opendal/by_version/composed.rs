//! Objects that the store composes of others, in the transparent layout, and calls that go wrong meanwhile.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use t2gate_backends::{
    BackendError, Clock as _, CompletedPart, CopyObject, ObjectBody, OpendalBackend, OpendalOptions, ProbeOutcome,
    PutObject, StoreCallOutcome, StoreLayout, StoreLevel, StoreObserver, SystemClock, TestClock, Timestamp, UploadRef,
    WriteCondition,
    conformance::{Subject, read_whole},
};

use super::{
    failures::{DAY, KEY, Script, When, everything_spawned_is_done, is_head, opened, passes, stays},
    simulated::{Call, Hook, Simulated},
};

fn options(store: &Simulated, script: &Arc<Script>) -> OpendalOptions {
    OpendalOptions {
        layout: Some(StoreLayout::Transparent),
        ..store.options(Some(Arc::clone(script) as Arc<dyn Hook>))
    }
}

async fn gateway() -> (Simulated, Subject, Arc<Script>) {
    let (store, script) = (Simulated::new().dressed(), Arc::<Script>::default());
    let backend = opened(options(&store, &script)).await;
    assert_eq!(backend.report().level, StoreLevel::CompareAndSet);
    (store, Subject::new(Arc::new(backend)).await, script)
}

/// More than goes to the store in one write.
fn large() -> Bytes {
    vec![1; (8 << 20) + 1].into()
}

/// Counts calls, and lets none of what is to be joined through the gateway.
fn composing(script: &Script) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    script.plan(move |when, call, path| {
        let is_data = path.starts_with(".t2/data/") && !path.ends_with("/owner");
        assert!(call != Call::Read || !is_data, "{path} was read");
        assert!(call != Call::Write || !is_head(path), "{path} was written");
        counter.fetch_add(
            usize::from((when, call) == (When::Before, Call::Compose)),
            Ordering::SeqCst,
        );
        None
    });
    count
}

fn left(store: &Simulated) -> Vec<String> {
    let left = [".t2/data/", ".t2/new/", ".t2/probe/", "__opendal"];
    left.iter().flat_map(|prefix| store.names(prefix)).collect()
}

#[tokio::test]
async fn a_large_body_is_composed_into_its_object() {
    let (store, s, script) = gateway().await;
    let count = composing(&script);
    s.put(KEY, large()).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
    script.clear();
    everything_spawned_is_done().await;
    assert_eq!(left(&store), [""; 0]);
    assert!(read_whole(s.open(KEY).await.unwrap()).await == large());
}

/// With so many parts, each of bytes of its own.
async fn upload(s: &Subject, parts: u16) -> (UploadRef, Vec<CompletedPart>, Vec<u8>) {
    let upload = s.upload(KEY).await;
    let (mut named, mut whole) = (Vec::new(), Vec::new());
    for number in 1..=parts {
        let bytes = format!("the part {number}, ").into_bytes();
        whole.extend_from_slice(&bytes);
        named.push(s.part(&upload, number, bytes).await);
    }
    (upload, named, whole)
}

#[tokio::test]
async fn more_parts_than_one_call_takes_are_composed_in_steps() {
    for (parts, calls) in [(1, 1), (32, 1), (33, 2 + 1), (1025, 33 + 2 + 1)] {
        let (store, s, script) = gateway().await;
        let (upload, named, whole) = upload(&s, parts).await;
        let count = composing(&script);
        s.complete(&upload, named).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), calls, "{parts}");
        script.clear();
        everything_spawned_is_done().await;
        assert_eq!(left(&store), [""; 0], "{parts}");
        assert!(read_whole(s.open(KEY).await.unwrap()).await == whole, "{parts}");
        assert_eq!(s.info(KEY).await.parts_count, Some(parts));
    }
}

#[tokio::test]
async fn a_complete_whose_step_failed_makes_nothing_and_can_be_asked_for_again() {
    for when in [When::Before, When::After] {
        for can_be_removed in [true, false] {
            let context = format!("{when:?}, {can_be_removed}");
            let (store, s, script) = gateway().await;
            let (upload, named, whole) = upload(&s, 100).await;
            let mut steps = 0;
            script.plan(move |at, call, path| {
                let is_step = path.starts_with(".t2/new/");
                steps += usize::from(is_step && (at, call) == (when, Call::Compose));
                let fails = match call {
                    Call::Compose => is_step && at == when && steps == 2,
                    Call::Delete => is_step && !can_be_removed,
                    _ => false,
                };
                fails.then(|| ready(Err(stays())).boxed())
            });
            let outcome = s.complete(&upload, named.clone()).await;
            assert!(
                matches!(outcome, Err(BackendError::Internal { .. })),
                "{context}: {outcome:?}"
            );
            script.clear();
            assert_eq!(s.get(KEY).await, None, "{context}");
            assert_eq!(store.names(".t2/new/").is_empty(), can_be_removed, "{context}");
            s.complete(&upload, named).await.unwrap();
            assert!(read_whole(s.open(KEY).await.unwrap()).await == whole, "{context}");
            let sweeper = opened(OpendalOptions {
                clock: Arc::new(TestClock::new(Timestamp::from_unix(
                    SystemClock.now().unix_seconds() + 365 * 86_400,
                    0,
                ))),
                ..options(&store, &Arc::default())
            });
            sweeper.await.sweep(DAY).await.unwrap();
            assert_eq!(left(&store), [""; 0], "{context}");
        }
    }
}

/// What is told of calls and retries.
#[derive(Debug, Default)]
struct Told {
    failed: AtomicUsize,
    fine: AtomicUsize,
    retries: AtomicUsize,
    bytes: AtomicUsize,
}

impl StoreObserver for Told {
    fn call(&self, operation: &'static str, outcome: StoreCallOutcome, _: Duration) {
        let count = match outcome {
            StoreCallOutcome::Ok => &self.fine,
            _ => &self.failed,
        };
        count.fetch_add(usize::from(operation == "compose"), Ordering::SeqCst);
    }

    fn bytes(&self, operation: &'static str, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap();
        self.bytes
            .fetch_add(if operation == "compose" { bytes } else { 0 }, Ordering::SeqCst);
    }

    fn retry(&self, operation: &'static str) {
        self.retries
            .fetch_add(usize::from(operation == "compose"), Ordering::SeqCst);
    }
}

/// Whether it took effect or not: tried again it is refused by its own first attempt, or replaces that.
#[tokio::test]
async fn a_composition_that_failed_for_a_passing_reason_is_tried_again() {
    for when in [When::Before, When::After] {
        for if_none_match in [false, true] {
            let context = format!("{when:?}, {if_none_match}");
            let (store, script, told) = (
                Simulated::new().dressed(),
                Arc::<Script>::default(),
                Arc::<Told>::default(),
            );
            let backend = opened(OpendalOptions {
                observer: Some(told.clone()),
                ..options(&store, &script)
            });
            let s = Subject::new(Arc::new(backend.await)).await;
            for count in [&told.fine, &told.failed, &told.retries, &told.bytes] {
                count.store(0, Ordering::SeqCst);
            }
            let came = script.once(
                move |at, call, path| (at, call) == (when, Call::Compose) && is_head(path),
                || ready(Err(passes())).boxed(),
            );
            let condition = WriteCondition {
                if_none_match,
                ..WriteCondition::default()
            };
            let request = PutObject {
                condition,
                ..s.put_request(KEY)
            };
            let put = s.put_object(request, ObjectBody::from_bytes(large())).await;
            let info = put.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!(came.load(Ordering::SeqCst), 1, "{context}");
            assert_eq!(s.info(KEY).await, info, "{context}");
            let told = [&told.failed, &told.retries, &told.fine, &told.bytes].map(|count| count.load(Ordering::SeqCst));
            let refused = usize::from(if_none_match && when == When::After);
            let composed = 1 - refused;
            assert_eq!(told, [1 + refused, 1, composed, composed * large().len()], "{context}");
            everything_spawned_is_done().await;
            assert_eq!(left(&store), [""; 0], "{context}");
        }
    }
}

fn copy(s: &Subject, source: &t2gate_backends::ObjectInfo, key: &str) -> CopyObject {
    CopyObject {
        source: s.object(source.key.as_str()),
        source_etag: source.etag.clone(),
        bucket: s.bucket.clone(),
        key: s.key(key),
        attributes: source.attributes.clone(),
        condition: WriteCondition::default(),
        versions: None,
    }
}

/// opendal composes no object of itself.
#[tokio::test]
async fn an_object_is_copied_onto_itself_inside_the_store() {
    let (store, s, script) = gateway().await;
    let source = s.put(KEY, "bytes").await;
    let mut request = copy(&s, &source, KEY);
    request.attributes.user_metadata = vec![("name".into(), "value".into())];
    let count = composing(&script);
    s.copy_object(request.clone()).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
    script.clear();
    assert_eq!(s.info(KEY).await.attributes, request.attributes);
    assert_eq!(s.get(KEY).await.unwrap(), "bytes");
    assert_eq!(left(&store), [""; 0]);
}

/// Again and again, by another that is as long.
#[tokio::test]
async fn a_copy_is_not_made_of_what_has_replaced_its_source() {
    let (store, s, script) = gateway().await;
    let second = opened(options(&store, &Arc::default())).await;
    let second = Subject::of(Arc::new(second), s.bucket.clone()).await;
    let source = s.put(KEY, "bytes").await;
    script.plan(move |when, call, path| {
        let begins = (when, call) == (When::Before, Call::Compose) && path.ends_with("/copy");
        let second = second.clone();
        begins.then(|| {
            async move {
                second.put(KEY, "other").await;
                Ok(())
            }
            .boxed()
        })
    });
    let outcome = s.copy_object(copy(&s, &source, "copy")).await;
    assert!(matches!(outcome, Err(BackendError::Conflict)), "{outcome:?}");
    assert_eq!(s.get("copy").await, None);
    assert_eq!(s.get(KEY).await.unwrap(), "other");
}

/// What a store that only seems to compose can do is read and written.
#[tokio::test]
async fn a_store_that_does_not_compose_is_joined_through_the_gateway() {
    let (store, script) = (Simulated::new().dressed(), Arc::<Script>::default());
    script.plan(|when, call, _| {
        let fails = (when, call) == (When::Before, Call::Compose);
        fails.then(|| ready(Err(stays())).boxed())
    });
    let backend = opened(options(&store, &script)).await;
    let report = backend.report().clone();
    assert_eq!(report.level, StoreLevel::CompareAndSet, "{report}");
    let line = report.lines.iter().find(|line| line.question.contains("joins objects"));
    assert!(matches!(line.unwrap().outcome, ProbeOutcome::Failed(_)), "{report}");
    let s = Subject::new(Arc::new(backend)).await;
    let (upload, named, whole) = upload(&s, 40).await;
    s.complete(&upload, named).await.unwrap();
    assert!(read_whole(s.open(KEY).await.unwrap()).await == whole);
}

/// What was done is refused when it is tried again. That is no answer to what the probe asks.
#[tokio::test]
async fn a_reply_that_is_lost_while_composing_is_probed_changes_nothing_of_what_is_found() {
    let store = Simulated::new().dressed();
    let found: OpendalBackend = opened(options(&store, &Arc::default())).await;
    let mut lost = 0;
    loop {
        let (script, mut count) = (Arc::<Script>::default(), 0);
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        script.plan(move |when, call, _| {
            let composes = (when, call) == (When::After, Call::Compose);
            count += usize::from(composes);
            (composes && count == lost + 1).then(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                ready(Err(passes())).boxed()
            })
        });
        let report = opened(options(&store, &script)).await.report().clone();
        assert_eq!(&report, found.report(), "the reply to the composition {lost} was lost");
        if came.load(Ordering::SeqCst) == 0 {
            break;
        }
        lost += 1;
    }
    assert!(lost > 5, "{lost}");
}
