//! Stores that keep versions by themselves.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU32, Ordering},
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
    seaweedfs,
    server::{Server, s3_options, send, set_versioning},
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

conformance_version_cases!([t2gate_backends::conformance_tests](open, None));

mod every_case {
    use super::*;

    conformance_cases!([t2gate_backends::conformance_tests](
        open,
        Some(VersioningStatus::Enabled)
    ));
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

/// How many versions and delete markers the store has of what does not begin with one of `but`.
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
        .filter(|name| !but.iter().any(|but| name.starts_with(but)))
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
