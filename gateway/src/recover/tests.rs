use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use t2gate_backends::{
    AccountId, BucketSetting, CannedAcl, ChecksumAlgorithm, ChecksumType, Clock, CompletedPart, CopyObject,
    CreateBucket, CreateMultipartUpload, ListEntry, ListObjects, MemoryBackend, ObjectAttributes, ObjectBody,
    OpendalBackend, OpendalOptions, PartNumber, PutObject, TestClock, Versioned,
    conformance::{Subject, completed},
};

use super::*;
use crate::body::copied_body;

struct Bucket {
    backend: Versioned<MemoryBackend>,
    clock: Arc<TestClock>,
    scope: Scope,
}

impl Bucket {
    async fn new() -> Self {
        let clock = Arc::new(TestClock::new(at(0)));
        let backend = Versioned::new(MemoryBackend::new(clock.clone()), clock.clone()).expect("memory keeps versions");
        let bucket = BucketName::parse("bucket").unwrap();
        let create = CreateBucket {
            bucket: bucket.clone(),
            owner: AccountId::parse("owner").unwrap(),
            acl: CannedAcl::Private,
            versioning: Some(VersioningStatus::Enabled),
            max_buckets: 1,
        };
        backend.create_bucket(create).await.unwrap();
        let scope = Scope {
            bucket,
            prefix: "".into(),
            dry_run: false,
        };
        Self { backend, clock, scope }
    }

    async fn put(&self, second: i64, key: &str, bytes: &'static str) {
        self.clock.set(at(second));
        let request = PutObject {
            bucket: self.scope.bucket.clone(),
            key: Key::parse(key).unwrap(),
            attributes: Default::default(),
            condition: WriteCondition::default(),
            versions: None,
        };
        self.backend
            .put_object(request, ObjectBody::from_bytes(bytes))
            .await
            .unwrap();
    }

    async fn delete(&self, second: i64, key: &str) {
        self.clock.set(at(second));
        let key = Key::parse(key).unwrap();
        delete(&self.backend, &self.scope.bucket, &key, None, WriteCondition::default())
            .await
            .unwrap();
    }

    async fn set(&self, status: VersioningStatus) {
        let setting = BucketSetting::Versioning(status);
        self.backend
            .put_bucket_setting(&self.scope.bucket, setting)
            .await
            .unwrap();
    }

    /// What is there by name: keys and sizes.
    async fn current(&self) -> BTreeMap<String, u64> {
        let request = ListObjects {
            bucket: self.scope.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            start_after: None,
            max_keys: 10_000,
        };
        let page = self.backend.list_objects(request).await.unwrap();
        let objects = page.entries.into_iter().map(|entry| match entry {
            ListEntry::Object(info) => (info.key.as_str().to_owned(), info.size),
            ListEntry::CommonPrefix(prefix) => panic!("{prefix}"),
        });
        objects.collect()
    }

    async fn versions(&self) -> usize {
        let request = ListObjectVersions {
            bucket: self.scope.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            key_marker: None,
            version_id_marker: None,
            max_keys: 100_000,
        };
        self.backend.list_object_versions(request).await.unwrap().entries.len()
    }

    async fn undelete(&self) -> (Progress, Vec<Change>) {
        let mut changes = Vec::new();
        let told = |_, change: Option<&Change>| changes.extend(change.cloned());
        let progress = undelete(&self.backend, &self.scope, told).await.unwrap();
        (progress, changes)
    }

    async fn restore(&self, second: i64) -> (Progress, Vec<Change>) {
        let mut changes = Vec::new();
        let told = |_, change: Option<&Change>| changes.extend(change.cloned());
        let progress = restore(&self.backend, &self.scope, at(second), told).await.unwrap();
        (progress, changes)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix(second, 0)
}

fn sizes<const N: usize>(sizes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    sizes.map(|(key, size)| (key.to_owned(), size)).into()
}

#[tokio::test]
async fn undelete_brings_back_what_is_deleted_under_the_prefix() {
    let mut bucket = Bucket::new().await;
    for key in ["a", "dir/b", "dir/c", "dir/d", "e"] {
        bucket.put(1, key, "12").await;
    }
    bucket.put(2, "dir/b", "123").await;
    for key in ["a", "dir/b", "dir/c"] {
        bucket.delete(3, key).await;
    }
    bucket.scope.prefix = "dir/".into();
    bucket.scope.dry_run = true;
    let versions = bucket.versions().await;
    let (progress, would) = bucket.undelete().await;
    assert_eq!((progress.examined, progress.changed), (3, 2));
    assert_eq!(
        (bucket.current().await, bucket.versions().await),
        (sizes([("dir/d", 2), ("e", 2)]), versions)
    );
    bucket.scope.dry_run = false;
    assert_eq!(bucket.undelete().await, (progress, would));
    assert_eq!(
        bucket.current().await,
        sizes([("dir/b", 3), ("dir/c", 2), ("dir/d", 2), ("e", 2)])
    );
    assert_eq!(bucket.versions().await, versions - 2);
    let (progress, _) = bucket.undelete().await;
    assert_eq!(
        (progress.examined, progress.changed),
        (3, 0),
        "there is nothing left to do"
    );
}

#[tokio::test]
async fn undelete_takes_all_markers_on_top_and_none_below() {
    let bucket = Bucket::new().await;
    bucket.put(1, "key", "1").await;
    bucket.delete(2, "key").await;
    bucket.put(3, "key", "22").await;
    let marked = |key: &str| DeleteObject {
        object: version(&bucket.scope.bucket, &Key::parse(key).unwrap(), None),
        condition: WriteCondition::default(),
        mark_missing: true,
        versions: None,
    };
    for _ in 0..3 {
        bucket.backend.delete_object(marked("key")).await.unwrap();
        bucket
            .backend
            .delete_object(marked("nothing but markers"))
            .await
            .unwrap();
    }
    let (progress, changes) = bucket.undelete().await;
    assert_eq!((progress.examined, progress.changed), (2, 1));
    assert!(matches!(&changes[..], [Change::Undelete { markers, .. }] if markers.len() == 3));
    assert_eq!(bucket.current().await, sizes([("key", 2)]));
    assert_eq!(bucket.versions().await, 3 + 3);
}

#[tokio::test]
async fn restore_makes_the_bucket_what_it_was() {
    let bucket = Bucket::new().await;
    bucket.put(10, "changed", "1").await;
    bucket.put(10, "same", "12").await;
    bucket.put(10, "deleted", "123").await;
    bucket.put(5, "deleted then", "x").await;
    bucket.delete(8, "deleted then").await;
    bucket.put(10, "twice", "old").await;
    bucket.put(15, "twice", "older").await;
    // After.
    bucket.put(30, "changed", "1234").await;
    bucket.delete(30, "deleted").await;
    bucket.put(30, "new", "12345").await;
    bucket.put(30, "deleted then", "123456").await;
    bucket.put(30, "new and gone", "x").await;
    bucket.delete(31, "new and gone").await;
    let versions = bucket.versions().await;
    bucket.clock.set(at(40));
    let (progress, changes) = bucket.restore(20).await;
    let then = sizes([("changed", 1), ("same", 2), ("deleted", 3), ("twice", 5)]);
    assert_eq!(bucket.current().await, then);
    assert_eq!((progress.examined, progress.changed), (7, 4), "{changes:?}");
    assert_eq!(bucket.versions().await, versions + 4, "nothing is lost");
    assert_eq!(bucket.restore(20).await.0.changed, 0, "there is nothing left to do");
    assert_eq!(bucket.current().await, then);
    bucket.restore(9).await;
    assert_eq!(bucket.current().await, sizes([]));
    bucket.restore(35).await;
    assert_eq!(
        bucket.current().await,
        sizes([
            ("changed", 4),
            ("same", 2),
            ("new", 5),
            ("deleted then", 6),
            ("twice", 5)
        ])
    );
}

#[tokio::test]
async fn restore_brings_attributes_back_too() {
    let bucket = Bucket::new().await;
    bucket.put(10, "key", "same bytes").await;
    let opened = async || {
        let key = Key::parse("key").unwrap();
        bucket
            .backend
            .open_object(&version(&bucket.scope.bucket, &key, None))
            .await
            .unwrap()
            .info
    };
    let then = opened().await;
    bucket.clock.set(at(30));
    let mut attributes = then.attributes.clone();
    attributes.content.content_type = Some("text/plain".into());
    let request = CopyObject {
        source: version(&bucket.scope.bucket, &then.key, None),
        source_etag: then.etag.clone(),
        bucket: bucket.scope.bucket.clone(),
        key: then.key.clone(),
        attributes,
        condition: WriteCondition::default(),
        versions: None,
    };
    bucket.backend.copy_object(request).await.unwrap();
    bucket.clock.set(at(40));
    assert_eq!(bucket.restore(20).await.0.changed, 1);
    assert_eq!(opened().await.attributes, then.attributes);
}

#[tokio::test]
async fn what_comes_back_of_parts_has_its_parts_whatever_the_store_can() {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::new(at(1)));
    let memory = OpendalBackend::open(OpendalOptions::new("memory", clock.clone())).await;
    let stores: [Arc<dyn Backend>; 2] = [Arc::new(MemoryBackend::new(clock)), Arc::new(memory.unwrap())];
    for (store, copies) in stores.into_iter().zip([true, false]) {
        let s = Subject::new(store).await;
        assert_eq!(s.copies_between(&s.bucket, &s.bucket), copies);
        for declared in [
            None,
            Some((ChecksumAlgorithm::Sha256, ChecksumType::Composite)),
            Some((ChecksumAlgorithm::Crc32c, ChecksumType::FullObject)),
        ] {
            let attributes = ObjectAttributes {
                user_metadata: vec![("a".into(), "b".into())],
                ..ObjectAttributes::default()
            };
            let create = CreateMultipartUpload {
                attributes,
                checksum: declared,
                ..s.create_upload_request("key")
            };
            let upload = s.upload_ref("key", s.create_multipart_upload(create).await.unwrap());
            let algorithm = declared.map_or(ChecksumAlgorithm::Crc64Nvme, |(algorithm, _)| algorithm);
            let mut parts = Vec::new();
            for (number, bytes) in [(2, "one "), (3, "two"), (9, "!")] {
                let bytes = Bytes::from_static(bytes.as_bytes());
                let stream = stream::iter([Ok(bytes.clone())]);
                let body = copied_body(bytes.len() as u64, Box::pin(stream), algorithm);
                let part = s.upload_part(&upload, PartNumber::new(number).unwrap(), body).await;
                let part = part.unwrap();
                parts.push(CompletedPart {
                    checksum: part.checksum.clone(),
                    ..completed(&part)
                });
            }
            let made = s.complete(&upload, parts).await.unwrap();
            let of_then = s.open("key").await.unwrap().reader.parts(0, 10).await.unwrap();
            let key = s.key("key");
            copy_version(&*s, &s.bucket, &key, &VersionId::null(), WriteCondition::default())
                .await
                .unwrap();
            let restored = s.open("key").await.unwrap();
            assert_eq!(restored.info.etag, made.etag);
            assert_eq!(restored.info.attributes, made.attributes);
            assert_eq!(restored.info.parts_count, Some(3));
            assert_eq!(restored.reader.parts(0, 10).await.unwrap(), of_then);
            assert_eq!(s.get("key").await.unwrap(), "one two!");
        }
    }
}

#[tokio::test]
async fn keys_with_more_versions_than_a_page_are_judged_whole() {
    let bucket = Bucket::new().await;
    bucket.put(1, "key", "first").await;
    for second in 0..2 * PAGE as i64 {
        bucket.put(10 + second, "key", "x").await;
    }
    bucket.put(1, "next", "1").await;
    bucket.clock.set(at(100_000));
    let (progress, changes) = bucket.restore(5).await;
    assert_eq!((progress.examined, progress.changed), (2, 1), "{changes:?}");
    assert_eq!(bucket.current().await, sizes([("key", 5), ("next", 1)]));
}

#[tokio::test]
async fn restore_needs_versioning() {
    let bucket = Bucket::new().await;
    bucket.put(1, "key", "1").await;
    bucket.set(VersioningStatus::Suspended).await;
    let refused = restore(&bucket.backend, &bucket.scope, at(0), |_, _| {}).await;
    assert!(matches!(refused, Err(RecoverError::NotEnabled(_))), "{refused:?}");
    assert_eq!(bucket.current().await.len(), 1);
    let plain = MemoryBackend::new(bucket.clock.clone());
    let refused = undelete(&plain, &bucket.scope, |_, _| {}).await;
    assert!(matches!(refused, Err(RecoverError::NoVersions)), "{refused:?}");
}

#[tokio::test]
async fn what_came_in_the_place_of_a_marker_is_not_touched() {
    let bucket = Bucket::new().await;
    bucket.put(1, "key", "1").await;
    bucket.set(VersioningStatus::Suspended).await;
    bucket.delete(2, "key").await;
    // The marker `null` was seen, and then the client wrote again.
    bucket.put(3, "key", "333").await;
    let key = Key::parse("key").unwrap();
    undelete_key(&bucket.backend, &bucket.scope.bucket, &key, &[VersionId::null()])
        .await
        .unwrap();
    assert_eq!(bucket.current().await, sizes([("key", 3)]));
}
