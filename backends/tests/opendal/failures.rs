//! Single calls of a store that go wrong, each at the worst moment.

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
    Backend, BackendError, Clock as _, ObjectBody, OpendalBackend, OpendalOptions, PartNumber, StoreCallOutcome,
    StoreLevel, StoreObserver, SystemClock, TestClock, Timestamp, UploadEntry, Versioned, VersioningStatus,
    conformance::{Subject, completed, read_whole},
};
use tokio::time::Instant;

use super::simulated::{Call, Hook, Simulated};

// ---- what goes wrong

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

type Done = BoxFuture<'static, Result<()>>;
type Plan = Box<dyn FnMut(When, Call, &str) -> Option<Done> + Send>;

/// Does what it is told about some calls, and lets the others pass.
#[derive(Default)]
struct Script(Mutex<Option<Plan>>);

impl Script {
    fn plan(&self, plan: impl FnMut(When, Call, &str) -> Option<Done> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(plan));
    }

    /// At the first of these calls alone.
    fn once(
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

    fn clear(&self) {
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
fn passes() -> Error {
    Error::new(ErrorKind::Unexpected, "the connection ended").set_temporary()
}

/// Not tried again.
fn stays() -> Error {
    Error::new(ErrorKind::Unexpected, "the store is ill")
}

fn is_head(path: &str) -> bool {
    !path.starts_with(".t2/")
}

// ---- gateways

async fn opened(options: OpendalOptions) -> OpendalBackend {
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

const KEY: &str = "dir/key";
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
async fn everything_spawned_is_done() {
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

const DAY: Duration = Duration::from_hours(24);

// ---- the probe

/// What was done is refused when it is tried again. That is no answer to what the probe asks.
#[tokio::test]
async fn a_reply_that_is_lost_while_the_store_is_probed_changes_nothing_of_what_is_found() {
    let store = Simulated::new();
    let found = opened(store.options(None)).await.report().clone();
    assert_eq!(found.level, StoreLevel::CompareAndSet, "{found}");
    let mut lost = 0;
    loop {
        let script = Arc::<Script>::default();
        let mut count = 0;
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        script.plan(move |when, call, _| {
            let changes = when == When::After && matches!(call, Call::Write | Call::Delete);
            count += usize::from(changes);
            (changes && count == lost + 1).then(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                ready(Err(passes())).boxed()
            })
        });
        let report = opened(store.options(Some(script))).await.report().clone();
        assert_eq!(report, found, "the reply to change {lost} was lost");
        if came.load(Ordering::SeqCst) == 0 {
            break;
        }
        lost += 1;
    }
    assert!(lost > 20, "{lost}");
}

// ---- listings

/// Where directories are listed one at a time, each of those listings may fail.
#[tokio::test]
async fn a_directory_whose_listing_fails_once_is_listed_all_the_same() {
    let store = Simulated::new().shallow();
    let (s, script, _) = two(&store, None).await;
    // In several directories each, for a name's segments are shorter.
    let keys: Vec<String> = ["a", "b", "c"].map(|first| first.to_owned() + &"x".repeat(300)).into();
    for key in &keys {
        s.put(key, "bytes").await;
    }
    let mut failed = 0;
    for number in 0.. {
        let mut count = 0;
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        script.plan(move |when, call, _| {
            if (when, call) != (When::Before, Call::List) {
                return None;
            }
            count += 1;
            (count == number + 1).then(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                ready(Err(passes())).boxed()
            })
        });
        assert_eq!(s.all_keys().await, keys, "the listing {number} failed");
        script.clear();
        if came.load(Ordering::SeqCst) == 0 {
            break;
        }
        failed += 1;
    }
    assert!(failed > keys.len(), "{failed}");
}

// ---- reads

#[tokio::test]
async fn an_answer_that_broke_off_is_not_gone_on_with_from_another_object() {
    let store = Simulated::new();
    let (s, script, second) = two(&store, None).await;
    s.put(KEY, vec![1; 2000]).await;
    let broken = Arc::new(AtomicUsize::new(0));
    let (counter, other) = (Arc::clone(&broken), second.clone());
    script.plan(move |_, call, path| match call {
        Call::ReadOn if is_head(path) && counter.fetch_add(1, Ordering::SeqCst) == 0 => {
            let other = other.clone();
            Some(
                async move {
                    put(&other, vec![2; 2000].into()).await.unwrap();
                    Err(passes())
                }
                .boxed(),
            )
        }
        Call::ReadRest => panic!("the rest of {path} was read by itself"),
        _ => None,
    });
    assert_eq!(read(&s).await, vec![2; 2000]);
    assert!(broken.load(Ordering::SeqCst) > 0);
}

/// A server that writes in place: what is not whole yet is read until it is.
#[tokio::test]
async fn what_is_half_written_is_read_again() {
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    s.put(KEY, vec![1; 2000]).await;
    let upload = s.upload("uploaded").await;
    s.part(&upload, 1, "part").await;
    let records: Vec<String> = store
        .names("")
        .into_iter()
        .filter(|name| !name.starts_with(".t2/data/"))
        .collect();
    assert_eq!(records.len(), 4, "a bucket, an object, an upload, a part: {records:?}");
    for name in records {
        let whole = store.get(&name).unwrap();
        let mut seen = vec![Vec::new(), whole[..whole.len() / 2].to_vec()];
        if is_head(&name) {
            // The header, and bytes of another object.
            let mut torn = whole.clone();
            let at = torn.len() - 1000;
            torn[at..].fill(2);
            seen.push(torn);
        }
        for half in seen {
            store.set(&name, half);
            let reads = Arc::new(AtomicUsize::new(0));
            let (counter, writer, path, whole) = (Arc::clone(&reads), store.clone(), name.clone(), whole.clone());
            script.plan(move |when, call, read| {
                let is_read = (when, call) == (When::Before, Call::Read) && read == path;
                if is_read && counter.fetch_add(1, Ordering::SeqCst) == 3 {
                    writer.set(&path, whole.clone());
                }
                None
            });
            assert_eq!(read(&s).await, vec![1; 2000], "{name}");
            let parts = s.list_parts(t2gate_backends::ListParts {
                upload: upload.clone(),
                part_number_marker: 0,
                max_parts: 10,
            });
            assert_eq!(parts.await.unwrap().parts.len(), 1, "{name}");
            assert!(reads.load(Ordering::SeqCst) > 3, "{name}");
            script.clear();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_stays_damaged_is_given_up() {
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    s.put(KEY, "bytes").await;
    let head = store.names(&format!("{}/", s.bucket)).remove(0);
    let failed = async |at_least: u64, below: u64| {
        let begun = Instant::now();
        let Err(BackendError::Internal { context, .. }) = s.open(KEY).await else {
            panic!("it was read");
        };
        assert!(context.contains("damaged"), "{context}");
        let seconds = Duration::from_secs(at_least)..Duration::from_secs(below);
        assert!(seconds.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    };
    store.set(&head, b"rubbish".to_vec());
    failed(3, 4).await;
    let (writer, mut count) = (store.clone(), 0_u64);
    script.plan(move |when, call, path| {
        if (when, call) == (When::Before, Call::Read) && path == head {
            count += 1;
            writer.set(path, format!("rubbish {count}").into_bytes());
        }
        None
    });
    failed(15, 16).await;
}

// ---- writes of heads

/// A write took effect, its reply was lost, and another gateway replaced the object and removed its data: it must not
/// come again.
#[tokio::test]
async fn a_write_that_was_displaced_does_not_come_again_without_its_data() {
    let store = Simulated::new();
    let (s, script, second) = two(&store, None).await;
    s.put(KEY, "old").await;
    let came = script.once(
        |when, call, path| (when, call) == (When::After, Call::Write) && is_head(path),
        || {
            async move {
                put(&second, "newest".into()).await.unwrap();
                Err(passes())
            }
            .boxed()
        },
    );
    let outcome = put(&s, large(1)).await;
    assert!(matches!(outcome, Err(BackendError::Internal { .. })), "{outcome:?}");
    assert_eq!(came.load(Ordering::SeqCst), 1);
    assert_eq!(read(&s).await, "newest");
}

/// What is told of retries.
#[derive(Debug, Default)]
struct Retries(Mutex<Vec<&'static str>>);

impl StoreObserver for Retries {
    fn call(&self, _: &'static str, _: StoreCallOutcome, _: Duration) {}

    fn bytes(&self, _: &'static str, _: u64) {}

    fn retry(&self, operation: &'static str) {
        self.0.lock().unwrap().push(operation);
    }
}

#[tokio::test]
async fn what_is_tried_again_as_a_whole_is_counted_as_the_rest() {
    let store = Simulated::new();
    let script = Arc::<Script>::default();
    let retries = Arc::<Retries>::default();
    let backend = opened(OpendalOptions {
        observer: Some(retries.clone()),
        ..store.options(Some(script.clone()))
    });
    let s = Subject::new(Arc::new(backend.await)).await;
    s.put(KEY, "bytes").await;
    assert!(retries.0.lock().unwrap().is_empty());
    for call in [Call::Write, Call::Read, Call::ReadOn] {
        let mut left = 2;
        script.plan(move |when, called, path| {
            if when == When::Before && called == call && is_head(path) && left > 0 {
                left -= 1;
                return Some(ready(Err(passes())).boxed());
            }
            None
        });
        put(&s, "others".into()).await.unwrap();
        script.clear();
        let told = std::mem::take(&mut *retries.0.lock().unwrap());
        let operation = if call == Call::Write { "write" } else { "read" };
        assert_eq!(told, [operation; 2], "{call:?}");
    }
}

// ---- uploads

/// The upload's record outlived its Complete. When the object has gone since, its data have too: asked for again, it is
/// not made of nothing.
#[tokio::test]
async fn a_complete_that_did_not_come_to_its_end_is_not_done_again_when_its_object_has_gone() {
    for versioning in BOTH {
        for overwritten in [true, false] {
            let store = Simulated::new();
            let (s, script, _) = two(&store, versioning).await;
            let upload = s.upload(KEY).await;
            let parts = vec![s.part(&upload, 1, large(1)).await];
            script.plan(|when, call, path| {
                let fails = (when, call) == (When::Before, Call::Delete) && path.starts_with(".t2/uploads/");
                fails.then(|| ready(Err(stays())).boxed())
            });
            let info = s.complete(&upload, parts.clone()).await.unwrap();
            script.clear();
            assert_eq!(store.names(".t2/uploads/").len(), 1);
            if overwritten && versioning.is_none() {
                s.put(KEY, "over").await;
            } else {
                if overwritten {
                    s.put(KEY, "over").await;
                }
                let mut request = s.delete_request(KEY);
                request.object.version_id = info.version_id;
                s.delete_object(request).await.unwrap();
            }
            let again = s.complete(&upload, parts).await;
            assert!(
                matches!(again, Err(BackendError::NoSuchUpload)),
                "{versioning:?}, {overwritten}: {again:?}"
            );
            let left = s.get(KEY).await;
            assert_eq!(left, overwritten.then(|| Bytes::from("over")), "{versioning:?}");
        }
    }
}

/// The part's record is there and nobody was told: what it names has to be.
#[tokio::test]
async fn a_part_whose_acknowledgement_was_lost_can_be_completed() {
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    let upload = s.upload(KEY).await;
    // As long as the other, so that its tag is known.
    let other = s.upload("other").await;
    let tagged = s.part(&other, 1, large(1)).await;
    let came = script.once(
        |when, call, path| (when, call) == (When::After, Call::Write) && path.starts_with(".t2/parts/"),
        || ready(Err(stays())).boxed(),
    );
    let number = PartNumber::new(1).unwrap();
    let part = s.upload_part(&upload, number, ObjectBody::from_bytes(large(1))).await;
    assert!(part.is_err() && came.load(Ordering::SeqCst) == 1, "{part:?}");
    everything_spawned_is_done().await;
    s.complete(&upload, vec![tagged]).await.unwrap();
    assert_eq!(read(&s).await, large(1));
}

/// One gateway makes an object of a part that another replaces meanwhile: both were read before.
#[tokio::test]
async fn a_part_that_is_replaced_while_it_becomes_an_object_keeps_its_bytes() {
    let store = Simulated::new();
    let (s, script, second) = two(&store, None).await;
    let upload = s.upload(KEY).await;
    let parts = vec![s.part(&upload, 1, large(1)).await];
    let (replaced, swept) = (upload.clone(), store.clone());
    let came = script.once(
        |when, call, path| (when, call) == (When::Before, Call::Write) && is_head(path),
        || {
            async move {
                let number = PartNumber::new(1).unwrap();
                let part = second.upload_part(&replaced, number, ObjectBody::from_bytes(large(2)));
                completed(&part.await.unwrap());
                sweeper(&swept, None).await.sweep(DAY).await.unwrap();
                Ok(())
            }
            .boxed()
        },
    );
    s.complete(&upload, parts).await.unwrap();
    assert_eq!(came.load(Ordering::SeqCst), 1);
    assert_eq!(read(&s).await, large(1));
    // What nobody named is the sweeper's, and nothing else.
    sweeper(&store, None).await.sweep(DAY).await.unwrap();
    assert_eq!(read(&s).await, large(1));
    s.delete(KEY).await;
    sweeper(&store, None).await.sweep(DAY).await.unwrap();
    assert_eq!(store.names(".t2/data/"), [""; 0]);
}

// ---- sweeps

#[tokio::test]
async fn what_cannot_be_looked_through_keeps_nothing_else_from_being_swept() {
    let dirs = ["uploads", "parts", "data", "gone", "probe", "new", "attributes"];
    for dir in dirs {
        let store = Simulated::new();
        let (s, script, second) = two(&store, None).await;
        s.upload("abandoned").await;
        s.put(KEY, large(1)).await;
        // Data of nobody's.
        let head = store.names(&format!("{}/", s.bucket)).remove(0);
        store.remove(&head);
        let backend = sweeper(&store, Some(&script)).await;
        let failing = format!(".t2/{dir}/");
        script.plan(move |when, call, path| {
            let fails = (when, call) == (When::Before, Call::List) && path == failing;
            fails.then(|| ready(Err(stays())).boxed())
        });
        backend.sweep(DAY).await.unwrap_err();
        assert_eq!(store.names(".t2/data/").is_empty(), dir != "data", "{dir}");
        let uploads = second.list_multipart_uploads(second.all_uploads()).await.unwrap();
        assert_eq!(uploads.entries.is_empty(), dir != "uploads", "{dir}");
    }
}

#[tokio::test(start_paused = true)]
async fn behind_what_is_damaged_the_sweeper_goes_on() {
    let store = Simulated::new();
    let (s, _, _) = two(&store, None).await;
    let mut data = Vec::new();
    for key in ["damaged", "gone"] {
        let before = store.names(".t2/data/");
        s.put(key, large(1)).await;
        let mut own = store.names(".t2/data/");
        own.retain(|name| !before.contains(name));
        data.push(own);
    }
    let heads = store.names(&format!("{}/", s.bucket));
    store.set(&heads[0], b"rubbish".to_vec());
    store.remove(&heads[1]);
    sweeper(&store, None).await.sweep(DAY).await.unwrap();
    // Of whom the damaged header does not say, so they stay.
    assert_eq!(store.names(".t2/data/"), data[0]);
}

/// Which upload comes first is chance: there are some behind each that cannot be ended.
#[tokio::test(start_paused = true)]
async fn behind_uploads_of_damaged_keys_the_sweeper_goes_on() {
    let store = Simulated::new();
    let (s, _, _) = two(&store, None).await;
    for _ in 0..3 {
        s.upload("damaged").await;
        s.upload("whole").await;
    }
    s.put("damaged", "old").await;
    let head = store.names(&format!("{}/", s.bucket)).remove(0);
    store.set(&head, b"rubbish".to_vec());
    sweeper(&store, None).await.sweep(DAY).await.unwrap();
    let left = s.list_multipart_uploads(s.all_uploads()).await.unwrap();
    let left: Vec<_> = left
        .entries
        .iter()
        .map(|entry| match entry {
            UploadEntry::Upload(upload) => upload.key.as_str(),
            UploadEntry::CommonPrefix(common) => common,
        })
        .collect();
    assert_eq!(left, ["damaged"; 3]);
}

/// A bucket is deleted by one gateway while another makes an object of an upload there: an object without a bucket, but no
/// broken one.
#[tokio::test]
async fn a_bucket_that_goes_while_an_upload_becomes_an_object_breaks_none() {
    let store = Simulated::new();
    let (s, script, second) = two(&store, None).await;
    let upload = s.upload(KEY).await;
    let parts = vec![s.part(&upload, 1, large(1)).await];
    let came = script.once(
        |when, call, path| (when, call) == (When::Before, Call::Write) && is_head(path),
        || {
            async move {
                second.delete_bucket(&second.bucket).await.unwrap();
                Ok(())
            }
            .boxed()
        },
    );
    s.complete(&upload, parts).await.unwrap();
    assert_eq!(came.load(Ordering::SeqCst), 1);
    // What lies there like a bucket becomes one for who adopts it.
    let adopting = OpendalOptions {
        adoption: s.owner.clone().into(),
        ..store.options(None)
    };
    let adopted = Subject::of(
        Arc::new(OpendalBackend::open(adopting).await.unwrap()),
        s.bucket.clone(),
    )
    .await;
    assert_eq!(read(&adopted).await, large(1));
}
