//! Stores behind a line that breaks: what was acknowledged is there, nothing is half there, what a write did is told
//! truthfully, and nothing is left behind.
//!
//! Each operation is broken at each of its requests, and the faults take turns. `T2GATE_TEST_FAULTS=all` breaks each of
//! them in every way.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use t2gate_backends::{
    BackendError, ObjectBody, OpendalBackend, OpendalOptions, StoreTimeouts, TestClock, conformance::Subject,
};

use super::{
    ops::{
        LARGE, Op, content, fetch, halves, if_absent, if_match, list, nothing_is_left, open_on_day_0, open_uploads, tag,
    },
    proxy::{Fault, Proxy},
    server::Server,
};

/// The line is well again at once.
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// A store, and the way to it.
struct Line {
    server: SocketAddr,
    proxy: Proxy,
    options: OpendalOptions,
    backend: Arc<OpendalBackend>,
    clock: Arc<TestClock>,
    s: Subject,
}

impl Line {
    async fn to(server: &LazyLock<Server>, options: OpendalOptions) -> Self {
        let proxy = Proxy::before(server.address).await;
        let through = OpendalOptions {
            retry_delay: RETRY_DELAY,
            ..proxy.on_the_way(server.address, options.clone())
        };
        let (backend, clock) = open_on_day_0(through).await;
        let s = Subject::new(backend.clone()).await;
        Self {
            server: server.address,
            proxy,
            options,
            backend,
            clock,
            s,
        }
    }

    /// Deletes all objects; then nothing may be left but `lost` uploads, whose ids the store gave to nobody.
    async fn ends(self, lost: usize) {
        self.proxy.heal();
        for (key, _) in list(&self.s).await.unwrap() {
            self.s.delete(&key).await;
        }
        nothing_is_left(&self.backend, &self.clock, &self.options).await;
        if self.options.service == "s3" {
            let open = open_uploads(self.server, &self.options).await;
            assert!(
                open <= lost,
                "{open} uploads are open in the store, and {lost} were lost"
            );
        }
    }
}

/// Uploads in the store that were begun, and whose id nobody was told.
fn lost_uploads(broken: &[(String, Fault)]) -> usize {
    let lost = broken
        .iter()
        .filter(|(kind, fault)| kind == "POST uploads" && matches!(fault, Fault::LoseReply | Fault::TruncateReply));
    lost.count()
}

/// What passes by itself.
const PASSING: [Fault; 6] = [
    Fault::CutRequest,
    Fault::Answer(503),
    Fault::TruncateReply,
    Fault::CutBody,
    Fault::Answer(429),
    Fault::Delay,
];

/// Which faults take turns, each time that an operation goes through all its places. A lost reply is met at every place.
fn rows() -> Vec<Vec<Fault>> {
    let refused = Fault::Answer(403);
    match std::env::var("T2GATE_TEST_FAULTS") {
        Ok(all) => {
            assert_eq!(all, "all");
            let each = PASSING.into_iter().chain([Fault::LoseReply, refused]);
            each.map(|fault| vec![fault]).collect()
        }
        Err(_) => {
            let others = PASSING.into_iter().chain([refused]).collect();
            vec![vec![Fault::LoseReply], others]
        }
    }
}

/// Wherever the line breaks once, the request succeeds as if nothing had been. And wherever the store refuses once, it
/// has been done in full or not at all, and the answer says whose fault it is. Each operation goes through all its places
/// once for each of the [`rows`].
async fn broken_once_anywhere(server: &LazyLock<Server>, options: OpendalOptions, ops: &[Op]) {
    broken_once_anywhere_by(server, options, ops, &rows()).await;
}

async fn broken_once_anywhere_by(server: &LazyLock<Server>, options: OpendalOptions, ops: &[Op], rows: &[Vec<Fault>]) {
    let line = Line::to(server, options).await;
    let (s, key) = (&line.s, "d/key");
    let mut lost = 0;
    for (turn, op) in ops.iter().enumerate() {
        // Elsewhere the gateway reads and writes.
        if *op == Op::Copy && !s.copies_between(&s.bucket, &s.bucket) {
            continue;
        }
        for row in rows {
            // Another fault comes first for each.
            for (number, fault) in (1..).zip(row.iter().cycle().skip(turn % row.len())) {
                op.prepare(s, key).await;
                line.proxy.break_one(number, *fault);
                let outcome = op.perform(s, key).await;
                let broken = line.proxy.heal();
                lost += lost_uploads(&broken);
                let place = format!("{op:?}, {fault:?} at {number}: {broken:?}");
                let found = fetch(s, key).await.unwrap();
                match outcome {
                    Ok(()) => assert!(found == op.after(key), "{place}: not what was acknowledged"),
                    Err(error) => {
                        assert_eq!(*fault, Fault::Answer(403), "{place}: {error:?}");
                        assert!(blames_own_credentials(&error), "{place}: {error:?}");
                        assert!(found == op.before(key) || found == op.after(key), "{place}");
                    }
                }
                if broken.is_empty() {
                    assert!(number > 1, "nothing was sent");
                    break;
                }
            }
        }
    }
    line.ends(lost).await;
}

fn blames_own_credentials(error: &BackendError) -> bool {
    matches!(error, BackendError::Internal { context, .. } if context.contains("the gateway's own credentials"))
}

/// What may be under each key.
#[derive(Default)]
struct Model(BTreeMap<String, Vec<Option<Bytes>>>);

impl Model {
    fn of(&mut self, key: &str) -> &mut Vec<Option<Bytes>> {
        self.0.entry(key.to_owned()).or_insert_with(|| vec![None])
    }

    fn is(&mut self, key: &str, bytes: Option<Bytes>) {
        *self.of(key) = vec![bytes];
    }

    fn may_be(&mut self, key: &str, bytes: Option<Bytes>) {
        let possible = self.of(key);
        if !possible.contains(&bytes) {
            possible.push(bytes);
        }
    }

    fn saw(&mut self, key: &str, bytes: Option<Bytes>) {
        assert!(
            self.of(key).contains(&bytes),
            "{key:?} has {:?}, which it cannot have",
            bytes.map(|bytes| bytes.len())
        );
        self.is(key, bytes);
    }

    fn written(&mut self, key: &str, bytes: Option<Bytes>, outcome: Result<(), BackendError>) {
        match outcome {
            Ok(()) => self.is(key, bytes),
            Err(error) => {
                assert_passing(&error);
                self.may_be(key, bytes);
            }
        }
    }
}

/// What a client is to try again, and nobody's fault.
#[track_caller]
fn assert_passing(error: &BackendError) {
    let is = match error {
        BackendError::Busy { .. } => true,
        BackendError::Internal { context, .. } => !context.contains("credentials") && !context.contains("is gone"),
        _ => false,
    };
    assert!(is, "{error:?}");
}

/// Requests made at random over a line that breaks one request in `of`, judged by a model.
async fn broken_at_random(server: &LazyLock<Server>, options: OpendalOptions, seed: u64, of: u64) {
    const KEYS: [&str; 4] = ["a", "b/c", "b/d", "e"];
    let line = Line::to(server, options).await;
    let s = &line.s;
    let mut model = Model::default();
    let mut state = seed;
    let mut chance = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    line.proxy.break_some(seed, of);
    for round in 0..50 {
        let key = KEYS[chance(KEYS.len())];
        let new = content(
            key,
            &round.to_string(),
            [1000, 100_000, LARGE][[0, 0, 0, 0, 1, 1, 2][chance(7)]],
        );
        match chance(8) {
            0 | 1 => {
                let outcome = s.put_body(key, ObjectBody::from_bytes(new.clone())).await;
                model.written(key, Some(new), outcome.map(drop));
            }
            2 => match s.put_if(if_absent(), key, new.clone()).await {
                Err(BackendError::PreconditionFailed) => {
                    model.of(key).retain(Option::is_some);
                    assert!(!model.of(key).is_empty(), "{key:?} is not there, and was not created");
                }
                outcome => {
                    assert!(
                        outcome.is_err() || model.of(key).contains(&None),
                        "{key:?} was created, and had been there"
                    );
                    model.written(key, Some(new), outcome.map(drop));
                }
            },
            3 => {
                let Ok(found) = fetch(s, key).await else { continue };
                model.saw(key, found.clone());
                let Some(found) = found else { continue };
                // A tag of many parts is not of the bytes.
                let Ok(open) = s.open(key).await else { continue };
                let outcome = s.put_if(if_match(&open.info.etag), key, new.clone()).await;
                model.is(key, Some(found));
                model.written(key, Some(new), outcome.map(drop));
            }
            4 => {
                let outcome = s.put_if(if_match(&tag(b"stale")), key, new).await;
                match outcome {
                    Err(BackendError::PreconditionFailed | BackendError::NoSuchKey) => {}
                    Err(error) => assert_passing(&error),
                    Ok(info) => panic!("a stale write was taken: {info:?}"),
                }
            }
            5 => {
                let outcome = multipart(s, key, &new).await;
                model.written(key, Some(new), outcome);
            }
            6 => {
                let outcome = s.delete_if(t2gate_backends::WriteCondition::default(), key).await;
                model.written(key, None, outcome.map(drop));
            }
            _ => match (fetch(s, key).await, list(s).await) {
                (Ok(found), Ok(listed)) => {
                    model.saw(key, found);
                    for key in KEYS {
                        let listed = listed.iter().find(|(name, _)| name == key);
                        let size = listed.map(|(_, size)| *size);
                        let mut possible = model.of(key).iter();
                        assert!(
                            possible.any(|bytes| bytes.as_ref().map(|bytes| bytes.len() as u64) == size),
                            "{key:?} is listed as {size:?}"
                        );
                    }
                }
                (found, listed) => [found.map(drop), listed.map(drop)]
                    .into_iter()
                    .filter_map(Result::err)
                    .for_each(|error| assert_passing(&error)),
            },
        }
    }
    let broken = line.proxy.heal();
    assert!(broken.len() > 10, "{broken:?}");
    for key in KEYS {
        model.saw(key, fetch(s, key).await.unwrap());
    }
    line.ends(lost_uploads(&broken)).await;
}

async fn multipart(s: &Subject, key: &str, bytes: &Bytes) -> Result<(), BackendError> {
    let upload_id = s.create_multipart_upload(s.create_upload_request(key)).await?;
    let upload = s.upload_ref(key, upload_id);
    let mut parts = Vec::new();
    for (number, bytes) in halves(bytes) {
        let part = s.upload_part(&upload, number, ObjectBody::from_bytes(bytes)).await?;
        parts.push(t2gate_backends::conformance::completed(&part));
    }
    s.complete(&upload, parts).await.map(drop)
}

/// A store that goes on refusing: nothing is changed, and every request says so, each in the same words.
async fn refused_for_long(server: &LazyLock<Server>, options: OpendalOptions) {
    let line = Line::to(server, options).await;
    let s = &line.s;
    let old = content("key", "old", 1000);
    s.put("key", old.clone()).await;
    for status in [503, 429, 403] {
        line.proxy.break_all(Fault::Answer(status));
        let new = || content("key", "new", 2000);
        let (put, create, read, listed, deleted) = tokio::join!(
            s.put_body("key", ObjectBody::from_bytes(new())),
            s.put_if(if_absent(), "other", new()),
            fetch(s, "key"),
            list(s),
            s.delete_if(t2gate_backends::WriteCondition::default(), "key"),
        );
        let outcomes = [
            put.map(drop),
            create.map(drop),
            read.map(drop),
            listed.map(drop),
            deleted.map(drop),
            s.head_bucket(&s.bucket).await.map(drop),
            s.ready().await,
        ];
        for outcome in outcomes {
            let error = outcome.expect_err("the store refuses");
            match status {
                403 => assert!(blames_own_credentials(&error), "{error:?}"),
                _ => assert!(matches!(error, BackendError::Busy { .. }), "{status}: {error:?}"),
            }
        }
        line.proxy.heal();
        assert_eq!(fetch(s, "key").await.unwrap(), Some(old.clone()), "{status}");
        assert_eq!(fetch(s, "other").await.unwrap(), None, "{status}");
    }
    line.ends(0).await;
}

/// For a test to wait for. A store that has just started takes longer for its first write, so that has been done.
async fn with_timeouts(timeouts: StoreTimeouts, options: OpendalOptions) -> OpendalOptions {
    OpendalBackend::check(&options).await.unwrap();
    OpendalOptions { timeouts, ..options }
}

async fn impatient(options: OpendalOptions) -> OpendalOptions {
    let timeouts = StoreTimeouts {
        call: Duration::from_secs(2),
        transfer: Duration::from_secs(2),
        ..StoreTimeouts::default()
    };
    with_timeouts(timeouts, options).await
}

/// A connection that stays and says nothing more.
async fn silent_for_long(server: &LazyLock<Server>, options: OpendalOptions) {
    let line = Line::to(server, impatient(options).await).await;
    let s = &line.s;
    let old = content("key", "old", 1000);
    s.put("key", old.clone()).await;
    line.proxy.break_all(Fault::Stall);
    let (put, read, listed, ready) = tokio::join!(
        s.put_body("key", ObjectBody::from_bytes(content("key", "new", 2000))),
        fetch(s, "key"),
        list(s),
        s.ready(),
    );
    for outcome in [put.map(drop), read.map(drop), listed.map(drop), ready] {
        assert_passing(&outcome.expect_err("nothing answers"));
    }
    assert!(line.proxy.heal().len() > 4, "nothing was tried again");
    assert_eq!(fetch(s, "key").await.unwrap(), Some(old));
    line.ends(0).await;
}

/// A line on which a large object takes longer than a call may be silent: nothing is cut off, nothing is sent twice.
async fn slow_line(server: &LazyLock<Server>, options: OpendalOptions) {
    // One part takes longer.
    let timeouts = StoreTimeouts {
        transfer: Duration::from_secs(3),
        ..StoreTimeouts::default()
    };
    let line = Line::to(server, with_timeouts(timeouts, options).await).await;
    let s = &line.s;
    for op in [Op::PutLarge, Op::ReadLarge] {
        let mut requests = Vec::new();
        for fault in [None, Some(Fault::Trickle)] {
            op.prepare(s, "key").await;
            let seen = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
            let counter = Arc::clone(&seen);
            line.proxy.plan(move |request| {
                // What is replaced is removed behind the answer, at any time.
                if request.kind == "DELETE" {
                    return None;
                }
                *counter.lock().unwrap().entry(request.kind.clone()).or_default() += 1;
                fault
            });
            let begun = Instant::now();
            op.perform(s, "key").await.unwrap();
            line.proxy.heal();
            requests.push(std::mem::take(&mut *seen.lock().unwrap()));
            let is_slow = begun.elapsed() > timeouts.transfer;
            assert!(is_slow || fault.is_none(), "{op:?}: {:?}", begun.elapsed());
            assert_eq!(fetch(s, "key").await.unwrap(), op.after("key"));
        }
        assert_eq!(requests[1], requests[0], "{op:?}: something was sent twice");
    }
    line.ends(0).await;
}

macro_rules! behind_a_broken_line {
    ($store:ident) => {
        mod $store {
            use super::{super::$store, *};

            #[test]
            fn small_requests_broken_once_anywhere() {
                t2gate_backends::conformance::run(async {
                    let ops = [
                        Op::Put,
                        Op::PutAttributes,
                        Op::Create,
                        Op::Replace,
                        Op::ReplaceStale,
                        Op::Delete,
                        Op::Read,
                        Op::List,
                        Op::Bucket,
                    ];
                    broken_once_anywhere(&$store::SERVER, $store::options(), &ops).await;
                });
            }

            #[test]
            fn joined_objects_broken_once_anywhere() {
                t2gate_backends::conformance::run(async {
                    let ops = [Op::Multipart, Op::Abort, Op::Copy];
                    broken_once_anywhere(&$store::SERVER, $store::options(), &ops).await;
                });
            }

            #[test]
            fn large_bodies_broken_once_anywhere() {
                t2gate_backends::conformance::run(async {
                    let ops = [Op::PutLarge, Op::ReadLarge];
                    broken_once_anywhere(&$store::SERVER, $store::options(), &ops).await;
                });
            }

            #[test]
            fn a_line_that_breaks_at_random() {
                t2gate_backends::conformance::run(async {
                    broken_at_random(&$store::SERVER, $store::options(), 1, 6).await;
                });
            }

            #[test]
            fn a_line_that_breaks_often() {
                t2gate_backends::conformance::run(async {
                    broken_at_random(&$store::SERVER, $store::options(), 2, 3).await;
                });
            }

            #[test]
            fn requests_that_nothing_answers_once_anywhere() {
                t2gate_backends::conformance::run(async {
                    let ops = [Op::Put, Op::Read];
                    let options = impatient($store::options()).await;
                    broken_once_anywhere_by(&$store::SERVER, options, &ops, &[vec![Fault::Stall]]).await;
                });
            }

            #[test]
            fn a_line_that_falls_silent() {
                t2gate_backends::conformance::run(async {
                    silent_for_long(&$store::SERVER, $store::options()).await;
                });
            }

            #[test]
            fn a_line_that_is_slow() {
                t2gate_backends::conformance::run(async {
                    slow_line(&$store::SERVER, $store::options()).await;
                });
            }

            #[test]
            fn a_store_that_goes_on_refusing() {
                t2gate_backends::conformance::run(async {
                    refused_for_long(&$store::SERVER, $store::options()).await;
                });
            }
        }
    };
}

behind_a_broken_line!(seaweedfs);
behind_a_broken_line!(azurite);
