//! Stores that keep versions by themselves.

use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use t2gate_backends::{
    Backend, BackendError, DeleteObjectOutcome, ListObjectVersions, ObjectAttributes, ObjectBody, OpendalOptions,
    PutObject, VersionEntry, VersionId, VersioningStatus,
    conformance::{Subject, run},
    conformance_cases, conformance_version_cases,
};

use super::{
    ops::{LARGE, content, fetch, nothing_is_left, open_on_day_0},
    proxy::{Fault, Proxy},
    seaweedfs,
    server::{Server, send, send_signed, set_versioning},
    service::s3_options,
};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    Server::start("venv/bin/moto_server", |_, port| {
        ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).into()
    })
});

fn make_versioned(server: &Server, bucket: &str) {
    send(server, &format!("PUT /{bucket}"), "");
    set_versioning(server, bucket, "Enabled");
}

fn in_bucket(server: &Server, bucket: &str) -> OpendalOptions {
    let mut options = s3_options(server);
    for (name, value) in &mut options.options {
        if name == "bucket" {
            *value = bucket.to_owned();
        }
    }
    options
}

/// A bucket of its own: moto looks through all of it for every listing.
fn options() -> OpendalOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let bucket = format!("versioned-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    make_versioned(&SERVER, &bucket);
    in_bucket(&SERVER, &bucket)
}

fn open() -> (Arc<dyn Backend>, ()) {
    (crate::open(options()), ())
}

/// What versions mean for each family, and what of a store's own is told otherwise than by a gateway that keeps them
/// itself.
mod short_form {
    use super::*;

    t2gate_backends::conformance_tests! { (open, Some(VersioningStatus::Enabled))
        objects {
            an_open_object_stays_readable_while_it_is_replaced_or_deleted
            all_answers_tell_the_same_of_an_object
        }
        conditional {
            if_none_match_creates_and_never_replaces
        }
        copy {
            a_copy_onto_itself_changes_the_attributes
        }
        listing {
            pages_of_common_prefixes_neither_repeat_nor_skip
        }
        multipart {
            completing_replaces_an_object
        }
        buckets {
            a_bucket_goes_only_when_it_is_empty
        }
    }

    t2gate_backends::conformance_tests! { (open, None)
        versions {
            a_bucket_says_whether_it_keeps_versions
            a_kept_version_is_all_that_it_was
            copies_and_completes_are_versions_too
            a_delete_by_name_adds_a_marker
            deleting_the_marker_brings_the_object_back
            deleting_the_current_version_makes_the_next_one_current
            a_version_is_of_its_key_and_bucket
            conditions_take_a_marker_for_nothing
            an_open_version_stays_readable
            a_bucket_goes_only_without_any_version
            a_key_and_those_below_it_have_versions
            racing_writes_are_all_kept
            racing_deletes_by_name_and_by_id_lose_nothing
            of_racing_deletions_of_the_newest_each_finds_the_next
        }
        version_listing {
            versions_come_by_key_and_the_newest_first
            versions_are_rolled_up_by_delimiter
            markers_of_a_version_listing
            deleting_page_by_page_reaches_every_version
        }
    }
}

mod long_form {
    use super::*;

    conformance_version_cases!([t2gate_backends::conformance_tests](
        open,
        None,
        ignore = "long form: moto takes a quarter of an hour"
    ));

    mod every_case {
        use super::*;

        conformance_cases!([t2gate_backends::conformance_tests](
            open,
            Some(VersioningStatus::Enabled),
            ignore = "long form: moto takes a quarter of an hour"
        ));
    }
}

fn bucket_of(options: &OpendalOptions) -> String {
    let bucket = options.options.iter().find(|(name, _)| name == "bucket");
    bucket.unwrap().1.clone()
}

fn at(s: &Subject, key: &str, id: &VersionId) -> t2gate_backends::ObjectRef {
    let mut object = s.object(key);
    object.version_id = Some(id.clone());
    object
}

async fn versions(s: &Subject) -> Vec<VersionEntry> {
    let request = ListObjectVersions {
        bucket: s.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 10_000,
    };
    s.list_object_versions(request).await.unwrap().entries
}

async fn delete_version(s: &Subject, key: &str, id: &VersionId) -> DeleteObjectOutcome {
    let mut request = s.delete_request(key);
    request.object.version_id = Some(id.clone());
    s.delete_object(request).await.unwrap()
}

/// The versions and delete markers that the store has of what does not begin with one of `but`, and is not what is noted
/// of itself.
async fn in_the_store(options: &OpendalOptions, but: &[&str]) -> Vec<String> {
    let store = opendal::Operator::via_iter(&options.service, options.options.clone()).unwrap();
    let listing = opendal::options::ListOptions {
        recursive: true,
        versions: true,
        deleted: true,
        ..opendal::options::ListOptions::default()
    };
    let entries: Vec<_> = store
        .lister_options("/", listing)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let names = entries.iter().map(|entry| entry.path().to_owned());
    names
        .filter(|name| name != ".t2/store" && !but.iter().any(|but| name.starts_with(but)))
        .collect()
}

#[test]
fn the_probe_says_whether_a_store_keeps_versions() {
    run(async {
        let options = options();
        let store = crate::open_store(options.clone());
        let report = store.report().to_string();
        let answer = |report: &str| {
            let line = report.lines().find(|line| line.contains("keeps versions by itself"));
            line.unwrap().ends_with("yes")
        };
        assert!(answer(&report), "{report}");
        let capabilities = store.capabilities(None);
        assert!(capabilities.versioning && capabilities.always_versioned && !capabilities.history);
        // It leaves no version either.
        assert_eq!(in_the_store(&options, &[]).await, [""; 0]);
        for status in [None, Some("Suspended")] {
            let bucket = format!("without-{}", status.unwrap_or("any").to_lowercase());
            send(&SERVER, &format!("PUT /{bucket}"), "");
            if let Some(status) = status {
                set_versioning(&SERVER, &bucket, status);
            }
            let store = crate::open_store(in_bucket(&SERVER, &bucket));
            let report = store.report().to_string();
            assert!(!answer(&report), "{report}");
            assert!(!store.capabilities(None).versioning);
        }
    });
}

/// A store behind a line that breaks, and gets well at once.
fn on_the_way(proxy: &Proxy, options: &OpendalOptions) -> OpendalOptions {
    OpendalOptions {
        retry_delay: Duration::from_millis(2),
        ..proxy.on_the_way(SERVER.address, options.clone())
    }
}

/// Versions that nobody was told of are made by requests that are sent again.
#[test]
fn a_lost_reply_does_not_take_a_stores_versions_for_wrong() {
    run(async {
        let proxy = Proxy::before(SERVER.address).await;
        let options = on_the_way(&proxy, &options());
        let kinds = Arc::new(Mutex::new(Vec::new()));
        let seen = kinds.clone();
        proxy.plan(move |request| {
            seen.lock().unwrap().push(request.kind.clone());
            None
        });
        assert!(crate::open_store(options.clone()).capabilities(None).always_versioned);
        let count = |kind: &str| kinds.lock().unwrap().iter().filter(|seen| *seen == kind).count() as u64;
        // The first write of the question, the one that creates, and the delete. What is asked after them takes six writes
        // and two deletes.
        for (kind, from_the_end) in [("PUT", 12), ("PUT", 6), ("DELETE", 2)] {
            let number = count(kind) - from_the_end;
            proxy.plan(move |seen| (seen.kind == kind && seen.of_kind == number).then_some(Fault::LoseReply));
            let store = crate::open_store(options.clone());
            assert_eq!(proxy.heal().len(), 1);
            assert!(store.capabilities(None).always_versioned, "{kind}: {}", store.report());
        }
        assert_eq!(in_the_store(&options, &[]).await, [""; 0]);
    });
}

/// Who has made a version is told so, also where the reply was lost, another writer came, and then nothing could be sent
/// again.
#[test]
fn a_version_whose_reply_was_lost_is_found_beneath_another() {
    run(async {
        let options = options();
        let proxy = Proxy::before(SERVER.address).await;
        let s = Subject::new(crate::open(on_the_way(&proxy, &options))).await;
        let root = options.options.iter().find(|(name, _)| name == "root").unwrap();
        let path = format!("/{}{}{}", bucket_of(&options), root.1, s.bucket);
        for method in ["PUT", "DELETE"] {
            let key = method.to_lowercase();
            let request = format!("{method} {path}/{key}");
            // Behind that of the attributes, which are too long to lie with the object.
            proxy.plan(|seen| match (&*seen.kind, seen.of_kind) {
                ("PUT", 2) => Some(Fault::LoseReply),
                ("PUT", 3..) => Some(Fault::Answer(503)),
                _ => None,
            });
            proxy.hook(move || send_signed(&SERVER, &request, "another"));
            let request = PutObject {
                attributes: ObjectAttributes {
                    user_metadata: vec![("name".into(), "x".repeat(2000).into())],
                    ..ObjectAttributes::default()
                },
                ..s.put_request(&key)
            };
            let put = s.put_object(request, ObjectBody::from_bytes("created")).await.unwrap();
            assert_eq!(proxy.heal().len(), 5, "four times more");
            let listed: Vec<_> = versions(&s)
                .await
                .into_iter()
                .filter(|entry| entry.name() == key)
                .collect();
            assert_eq!(listed.len(), 2, "{listed:?}");
            assert_eq!(listed[1].version_id(), put.version_id.as_ref());
            let open = s.open_object(&at(&s, &key, &put.version_id.unwrap())).await.unwrap();
            assert_eq!(open.info.attributes.user_metadata.len(), 1);
            assert_eq!(t2gate_backends::conformance::read_whole(open).await, "created");
        }
    });
}

/// Its listing of versions, asked for in pages, leaves some out.
#[test]
fn versions_of_seaweedfs_are_not_used() {
    run(async {
        make_versioned(&seaweedfs::SERVER, "versioned");
        let store = crate::open_store(in_bucket(&seaweedfs::SERVER, "versioned"));
        assert!(!store.capabilities(None).versioning, "{}", store.report());
    });
}

#[test]
fn what_was_there_before_versioning_is_the_version_null() {
    run(async {
        let options = options();
        let bucket = bucket_of(&options).replace("versioned", "later");
        send(&SERVER, &format!("PUT /{bucket}"), "");
        let options = in_bucket(&SERVER, &bucket);
        let before = Subject::new(crate::open(options.clone())).await;
        let put = before.put("key", "before").await;
        assert_eq!(put.version_id, None);
        set_versioning(&SERVER, &bucket, "Enabled");
        let s = Subject::of(crate::open(options), before.bucket.clone()).await;
        assert_eq!(
            s.head_bucket(&s.bucket).await.unwrap().versioning,
            Some(VersioningStatus::Enabled)
        );
        let null = VersionId::null();
        assert_eq!(s.info("key").await.version_id, Some(null.clone()));
        let newer = s.put("key", "newer").await;
        let old = s.open_object(&at(&s, "key", &null)).await.unwrap();
        assert_eq!((&old.info.etag, old.info.size), (&put.etag, 6));
        assert_eq!(t2gate_backends::conformance::read_whole(old).await, "before");
        let ids: Vec<_> = versions(&s)
            .await
            .iter()
            .filter_map(VersionEntry::version_id)
            .cloned()
            .collect();
        assert_eq!(ids, [newer.version_id.clone().unwrap(), null.clone()]);
        delete_version(&s, "key", &newer.version_id.unwrap()).await;
        assert_eq!(s.get("key").await.unwrap(), "before");
        assert!(delete_version(&s, "key", &null).await.existed);
        assert!(versions(&s).await.is_empty());
    });
}

/// What would be replaced for good is left alone.
#[test]
fn where_the_store_keeps_no_versions_any_more_nothing_is_written() {
    run(async {
        let options = options();
        let s = Subject::new(crate::open(options.clone())).await;
        s.put("key", "kept").await;
        set_versioning(&SERVER, &bucket_of(&options), "Suspended");
        let s = Subject::of(crate::open(options), s.bucket.clone()).await;
        for _ in 0..2 {
            let put = s.put_body("key", ObjectBody::from_bytes("lost")).await;
            assert!(matches!(put, Err(BackendError::NotSupported { .. })), "{put:?}");
            let deleted = s.delete_object(s.delete_request("key")).await;
            assert!(matches!(deleted, Err(BackendError::NotSupported { .. })), "{deleted:?}");
        }
        assert_eq!(s.get("key").await.unwrap(), "kept");
    });
}

/// Each gateway is told of the delete marker that it has made itself, whoever comes between.
#[test]
fn a_delete_tells_of_its_own_marker() {
    run(async {
        let options = options();
        let s = Subject::new(crate::open(options.clone())).await;
        let gateways = [crate::open(options.clone()), crate::open(options)];
        s.put("key", "x").await;
        let deletes = (0..8).map(|n| {
            let gateway = gateways[n % 2].clone();
            let mut request = s.delete_request("key");
            request.mark_missing = true;
            async move { gateway.delete_object(request).await.unwrap().version_id.unwrap() }
        });
        let mut told: Vec<_> = futures::future::join_all(deletes).await;
        let mut there: Vec<_> = versions(&s)
            .await
            .iter()
            .filter(|entry| matches!(entry, VersionEntry::DeleteMarker(_)))
            .filter_map(|entry| entry.version_id().cloned())
            .collect();
        told.sort();
        there.sort();
        assert_eq!(told, there);
    });
}

/// Attributes that lie beside an object stay as long as a version names them, and no longer.
#[test]
fn the_sweeper_goes_by_all_versions() {
    run(async {
        let options = options();
        let (backend, clock) = open_on_day_0(options.clone()).await;
        let s = Subject::new(backend.clone()).await;
        let attributes = |n: usize| ObjectAttributes {
            user_metadata: vec![("name".into(), n.to_string().repeat(2000).into())],
            ..ObjectAttributes::default()
        };
        let mut written = Vec::new();
        for n in 0..3 {
            let request = PutObject {
                attributes: attributes(n),
                ..s.put_request("key")
            };
            written.push(s.put_object(request, ObjectBody::from_bytes("bytes")).await.unwrap());
        }
        s.delete("key").await;
        clock.set(super::ops::on_day(400));
        assert_eq!(backend.sweep(std::time::Duration::from_hours(24)).await.unwrap(), 0);
        for (n, info) in written.iter().enumerate() {
            let open = s
                .open_object(&at(&s, "key", info.version_id.as_ref().unwrap()))
                .await
                .unwrap();
            assert_eq!(open.info.attributes.user_metadata, attributes(n).user_metadata);
        }
        delete_version(&s, "key", written[1].version_id.as_ref().unwrap()).await;
        assert_eq!(backend.sweep(std::time::Duration::from_hours(24)).await.unwrap(), 1);
        for n in [0, 2] {
            let object = at(&s, "key", written[n].version_id.as_ref().unwrap());
            let open = s.open_object(&object).await.unwrap();
            assert_eq!(open.info.attributes.user_metadata, attributes(n).user_metadata);
        }
    });
}

/// Of what the gateway keeps for itself the store keeps no version.
#[test]
fn nothing_of_the_gateways_own_stays_as_a_version() {
    run(async {
        let options = options();
        let (backend, clock) = open_on_day_0(options.clone()).await;
        let s = Subject::new(backend.clone()).await;
        let large = content("key", "large", LARGE);
        s.put("key", large.clone()).await;
        let upload = s.upload("key").await;
        s.part(&upload, 1, "replaced").await;
        let parts = vec![s.part(&upload, 1, content("key", "part", 100)).await];
        s.complete(&upload, parts).await.unwrap();
        let aborted = s.upload("other").await;
        s.part(&aborted, 1, "part").await;
        s.abort_multipart_upload(&aborted).await.unwrap();
        assert_eq!(fetch(&s, "key").await.unwrap(), Some(content("key", "part", 100)));
        let of_object = format!("{}/", s.bucket);
        let own = [&*of_object, ".t2/buckets/", ".t2/attributes/"];
        assert_eq!(in_the_store(&options, &own).await, [""; 0]);
        for entry in versions(&s).await {
            delete_version(&s, entry.name(), entry.version_id().unwrap()).await;
        }
        nothing_is_left(&backend, &clock, &options).await;
        s.delete_bucket(&s.bucket).await.unwrap();
        assert_eq!(in_the_store(&options, &[]).await, [""; 0]);
    });
}
