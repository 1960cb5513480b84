//! Multipart uploads.

use super::*;

/// An upload whose removal failed when it had become an object: what comes to it late must not touch that.
#[tokio::test]
async fn a_part_that_comes_when_its_upload_is_an_object_leaves_that_whole() {
    let store = Simulated::new().without_conditions();
    let (s, script, _) = two(&store, None).await;
    let upload = s.upload(KEY).await;
    let part = s.part(&upload, 1, large(1)).await;
    script.plan(|when, call, path| {
        let is_record = when == When::Before && call == Call::Delete && path.starts_with(".t2/uploads/");
        is_record.then(|| ready(Err(stays())).boxed())
    });
    s.complete(&upload, vec![part]).await.unwrap();
    script.clear();
    let number = PartNumber::new(1).unwrap();
    let late = s.upload_part(&upload, number, ObjectBody::from_bytes(large(2))).await;
    assert!(matches!(late, Err(BackendError::NoSuchUpload)), "{late:?}");
    assert_eq!(read(&s).await, large(1));
}

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

/// A client that was not answered asks another gateway. In the transparent layout, where nothing else holds the second
/// back: the encoded one has heads.
#[tokio::test]
async fn a_complete_at_a_second_gateway_replaces_nothing_that_came_behind_the_first() {
    // Before it is made, before its parts are read, and before it is looked at once more.
    for (calls, beginning) in [
        ([Call::Write, Call::Compose], "k"),
        ([Call::Read, Call::Compose], ".t2/data/"),
        ([Call::Read; 2], ".t2/uploads/"),
    ] {
        for newer in [true, false] {
            let store = Simulated::new().dressed();
            let script = Arc::<Script>::default();
            let transparent = |script: Option<&Arc<Script>>| OpendalOptions {
                layout: Some(StoreLayout::Transparent),
                ..store.options(script.map(|script| Arc::clone(script) as Arc<dyn Hook>))
            };
            let s = Subject::new(Arc::new(opened(transparent(Some(&script))).await)).await;
            let second = Subject::of(Arc::new(opened(transparent(None)).await), s.bucket.clone()).await;
            s.put("k", "old").await;
            let upload = s.upload("k").await;
            let parts = vec![s.part(&upload, 1, large(1)).await];
            let path_begins = match beginning {
                "k" => format!("{}/k", s.bucket),
                other => other.to_owned(),
            };
            let (other, of) = ((upload.clone(), parts.clone()), second.clone());
            let came = script.once(
                move |when, call, path| {
                    // A store that composes reads the parts by itself.
                    let is_there = path.starts_with(&path_begins) || call == Call::Compose;
                    when == When::Before && calls.contains(&call) && is_there
                },
                move || {
                    async move {
                        of.complete(&other.0, other.1).await.unwrap();
                        if newer {
                            of.put("k", "newer").await;
                        }
                        Ok(())
                    }
                    .boxed()
                },
            );
            let again = s.complete(&upload, parts).await;
            assert_eq!(came.load(Ordering::SeqCst), 1, "{beginning}");
            let context = format!("{beginning}, {newer}: {again:?}");
            let left = s.get("k").await.unwrap();
            if newer {
                assert!(matches!(again, Err(BackendError::NoSuchUpload)), "{context}");
                assert_eq!(left, "newer", "{context}");
            } else {
                assert!(again.is_ok(), "{context}");
                assert_eq!(left, large(1), "{context}");
            }
        }
    }
}

/// A store takes its time to join what is large. The bucket is there for everybody else meanwhile.
#[tokio::test]
async fn a_bucket_goes_on_while_an_object_is_joined_in_it() {
    let store = Simulated::new().dressed();
    let script = Arc::<Script>::default();
    let options = OpendalOptions {
        layout: Some(StoreLayout::Transparent),
        ..store.options(Some(Arc::clone(&script) as Arc<dyn Hook>))
    };
    let s = Subject::new(Arc::new(opened(options).await)).await;
    s.put("there", "old").await;
    let upload = s.upload("k").await;
    let parts = vec![s.part(&upload, 1, large(1)).await];
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let place = format!("{}/k", s.bucket);
    script.once(
        move |when, call, path| when == When::Before && matches!(call, Call::Write | Call::Compose) && path == place,
        move || {
            async move {
                begun.send(()).unwrap();
                may_go_on.await.unwrap();
                Ok(())
            }
            .boxed()
        },
    );
    let completing = tokio::spawn({
        let s = s.clone();
        async move { s.complete(&upload, parts).await }
    });
    has_begun.await.unwrap();
    let meanwhile = async {
        // Whoever makes sure of a bucket creates it once more.
        let create = CreateBucket {
            bucket: s.bucket.clone(),
            owner: s.owner.clone(),
            acl: CannedAcl::Private,
            versioning: None,
            max_buckets: 100,
        };
        let created = s.create_bucket(create).await;
        assert!(
            matches!(created, Err(BackendError::BucketAlreadyExists { .. })),
            "{created:?}"
        );
        let acl = BucketSetting::Acl(CannedAcl::PublicRead);
        s.put_bucket_setting(&s.bucket, acl).await.unwrap();
        let deleted = s.delete_bucket(&s.bucket).await;
        assert!(matches!(deleted, Err(BackendError::BucketNotEmpty)), "{deleted:?}");
        s.put("there", "new").await;
        s.delete("there").await;
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), meanwhile).await;
    go_on.send(()).unwrap();
    completing.await.unwrap().unwrap();
    outcome.expect("nobody waits for the join");
    assert_eq!(s.get("k").await.unwrap(), large(1));
}
