//! Writes of objects, and what they leave to later reads.

use super::*;

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

/// Whose it is cannot be told any more, so neither that it was refused: who counts up would count twice.
#[tokio::test]
async fn a_conditional_write_that_took_effect_is_not_told_that_it_did_not() {
    for layout in [StoreLayout::Encoded, StoreLayout::Transparent] {
        let store = Simulated::new().dressed();
        let script = Arc::<Script>::default();
        let options = |script: Option<&Arc<Script>>| OpendalOptions {
            layout: Some(layout),
            ..store.options(script.map(|script| Arc::clone(script) as Arc<dyn Hook>))
        };
        let s = Subject::new(Arc::new(opened(options(Some(&script))).await)).await;
        let second = Subject::of(Arc::new(opened(options(None)).await), s.bucket.clone()).await;
        let old = s.put(KEY, "old").await;
        let condition = WriteCondition {
            if_match: Some(IfMatch::OneOf(vec![old.etag])),
            ..WriteCondition::default()
        };
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
        let outcome = s.put_if(condition.clone(), KEY, "small").await;
        assert!(
            matches!(outcome, Err(BackendError::Internal { .. })),
            "{layout:?}: {outcome:?}"
        );
        assert_eq!(came.load(Ordering::SeqCst), 1);
        assert_eq!(read(&s).await, "newest");
        // Where every reply came it is known.
        let outcome = s.put_if(condition, KEY, "small").await;
        assert!(
            matches!(outcome, Err(BackendError::PreconditionFailed)),
            "{layout:?}: {outcome:?}"
        );
    }
}

/// Likewise where it was deleted since, and there had been nothing before: then too something has to be there that tells.
#[tokio::test]
async fn a_write_that_was_deleted_does_not_come_again_without_its_data() {
    for versioning in BOTH {
        let store = Simulated::new();
        let (s, script, second) = two(&store, versioning).await;
        let came = script.once(
            |when, call, path| (when, call) == (When::After, Call::Write) && is_head(path),
            || {
                async move {
                    second.delete(KEY).await;
                    Err(passes())
                }
                .boxed()
            },
        );
        let outcome = put(&s, large(1)).await;
        assert_eq!(came.load(Ordering::SeqCst), 1);
        match versioning {
            // What lies under the marker is the version that was acknowledged.
            Some(_) => assert!(outcome.is_ok(), "{outcome:?}"),
            None => assert!(matches!(outcome, Err(BackendError::Internal { .. })), "{outcome:?}"),
        }
        assert!(s.all_keys().await.is_empty());
        assert!(s.open(KEY).await.is_err());
        if versioning.is_none() {
            let left = store.names(&format!("{}/", s.bucket));
            assert_eq!(left.len(), 1, "{left:?}");
            sweeper(&store, None).await.sweep(DAY).await.unwrap();
            assert!(store.names(&format!("{}/", s.bucket)).is_empty());
            assert!(store.names(".t2/gone/").is_empty() && store.names(".t2/data/").is_empty());
        }
    }
}

/// A bucket's versioning is switched on, and used, while a write is under way that found it suspended.
#[tokio::test]
async fn who_found_versioning_suspended_replaces_no_version_that_is_kept_since() {
    for deletes in [false, true] {
        let store = Simulated::new();
        let (s, script, second) = two(&store, Some(VersioningStatus::Suspended)).await;
        s.put(KEY, "null").await;
        let came = script.once(
            |when, call, path| (when, call) == (When::Before, Call::Read) && is_head(path),
            || {
                async move {
                    let enabled = BucketSetting::Versioning(VersioningStatus::Enabled);
                    second.put_bucket_setting(&second.bucket, enabled).await.unwrap();
                    put(&second, "newer".into()).await.unwrap();
                    Ok(())
                }
                .boxed()
            },
        );
        if deletes {
            s.delete(KEY).await;
        } else {
            put(&s, "newest".into()).await.unwrap();
        }
        assert_eq!(came.load(Ordering::SeqCst), 1);
        let mut object = s.object(KEY);
        object.version_id = Some(VersionId::null());
        assert_eq!(read_whole(s.open_object(&object).await.unwrap()).await, "null");
    }
}

/// What has come of a body is for the sweeper when it is as old as no write gets: so no write may get that old.
#[tokio::test]
async fn a_body_that_takes_as_long_as_the_sweeper_waits_is_no_object() {
    let store = Simulated::new();
    let start = SystemClock.now();
    let clock = Arc::new(TestClock::new(start));
    let backend = opened(OpendalOptions {
        clock: clock.clone(),
        abandoned_upload_age: Some(DAY),
        ..store.options(None)
    })
    .await;
    let s = Subject::new(Arc::new(backend)).await;
    let upload = s.upload(KEY).await;
    for (hours, taken) in [(11, true), (13, false)] {
        for part in [false, true] {
            clock.set(start);
            let (pause, gate) = gate();
            let body = ScriptedBody::new(200_000)
                .data(large(1), 100_000)
                .pause(pause)
                .end(BodySummary::of(&large(1), ChecksumAlgorithm::Crc32));
            let writing = {
                let (s, upload) = (s.clone(), upload.clone());
                tokio::spawn(async move {
                    match part {
                        true => s
                            .upload_part(&upload, PartNumber::new(1).unwrap(), body)
                            .await
                            .map(drop),
                        false => s.put_body(KEY, body).await.map(drop),
                    }
                })
            };
            gate.reached.await.unwrap();
            clock.set(Timestamp::from_unix(start.unix_seconds() + hours * 3600, 0));
            gate.open.send(()).unwrap();
            let outcome = writing.await.unwrap();
            match outcome {
                Ok(()) => assert!(taken),
                Err(error) => assert!(!taken && matches!(error, BackendError::Busy { .. }), "{error}"),
            }
        }
    }
    // Of what was refused nothing is left.
    everything_spawned_is_done().await;
    assert_eq!(
        store.names(".t2/data/").len(),
        4,
        "an object and a part, each with its owner"
    );
}

/// In the transparent layout, where they have no room in the store's metadata.
#[tokio::test]
async fn an_object_is_never_served_without_its_attributes() {
    let store = Simulated::new().dressed();
    let script = Arc::<Script>::default();
    let transparent = |script: Option<&Arc<Script>>| OpendalOptions {
        layout: Some(StoreLayout::Transparent),
        ..store.options(script.map(|script| Arc::clone(script) as Arc<dyn Hook>))
    };
    let s = Subject::new(Arc::new(opened(transparent(Some(&script))).await)).await;
    let second = Subject::of(Arc::new(opened(transparent(None)).await), s.bucket.clone()).await;
    let dressed = async |s: &Subject, seed: u8| {
        let attributes = ObjectAttributes {
            user_metadata: vec![("name".into(), seed.to_string().repeat(2000).into())],
            ..ObjectAttributes::default()
        };
        let request = PutObject {
            attributes,
            ..s.put_request(KEY)
        };
        let body = ObjectBody::from_bytes(vec![seed; 10]);
        s.put_object(request, body).await.unwrap();
    };
    dressed(&s, 1).await;
    assert_eq!(store.names(".t2/attributes/").len(), 1);
    // Replaced, its attributes gone, while they are asked for.
    let side = store.names(".t2/attributes/").remove(0);
    let condition = WriteCondition {
        if_match: Some(IfMatch::Any),
        ..WriteCondition::default()
    };
    let came = script.once(
        move |when, call, path| (when, call) == (When::Before, Call::Read) && path == side,
        move || {
            async move {
                second.put_if(condition, KEY, "small").await.unwrap();
                Ok(())
            }
            .boxed()
        },
    );
    let found = s.open(KEY).await.unwrap();
    assert_eq!(came.load(Ordering::SeqCst), 1);
    assert_eq!((found.info.size, found.info.attributes.user_metadata.len()), (5, 0));

    // Renamed by something else, which knows nothing of what lies beside.
    dressed(&s, 2).await;
    let known = s.open(KEY).await.unwrap().info;
    assert_eq!(known.attributes.user_metadata.len(), 1);
    store.remove(&store.names(".t2/attributes/").remove(0));
    let found = s.open(KEY).await.unwrap().info;
    assert_eq!((found.size, found.attributes.user_metadata.len()), (10, 0));
    assert!(found.attributes.checksum.is_none());
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
