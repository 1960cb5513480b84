//! Objects that were in a store before the gateway, or that something else writes into it (promise P6).

use bytes::Bytes;
use opendal::{Operator, options::WriteOptions};
use t2gate_backends::{
    AccountId, Backend as _, BackendError, BucketName, CopyObject, ETag, IfMatch, ListEntry, ListObjects,
    ObjectAttributes, OpendalBackend, OpendalOptions, Timestamp, WriteCondition,
    conformance::{Subject, read_whole},
};

use super::{azurite, moto, ops::past_the_gateway, seaweedfs, service};

/// What the store itself says of an object.
async fn known(store: &Operator, name: &str) -> (u64, ETag, Timestamp) {
    let meta = store.stat(name).await.unwrap();
    let seconds = meta.last_modified().unwrap().into_inner().as_second();
    let etag = meta.etag().unwrap().trim_matches('"');
    (
        meta.content_length(),
        ETag::parse(etag).unwrap(),
        Timestamp::from_unix(seconds, 0),
    )
}

const PLAIN: &str = "photos/plain";
const TOLD: &str = "photos/2026/a day/at the sea.txt";

/// `is_l2`: the store judges conditions. `copies`: it copies by itself; else that is for the gateway.
async fn what_is_there_is_served(options: OpendalOptions, is_l2: bool, copies: bool) {
    let empty = OpendalBackend::open(options.clone()).await.unwrap();
    assert!(empty.unclaimed().is_empty());
    drop(empty);
    let store = past_the_gateway(&options);
    let large = Bytes::from(vec![7; 3 << 20]);
    store.write(PLAIN, large.clone()).await.unwrap();
    let told = WriteOptions {
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        cache_control: Some("no-cache".to_owned()),
        user_metadata: Some([("camera".to_owned(), "x1".to_owned())].into()),
        ..WriteOptions::default()
    };
    store.write_options(TOLD, "hello", told).await.unwrap();
    let bucket = BucketName::parse("photos").unwrap();
    let owner = AccountId::parse("acme").unwrap();

    // Nobody's by accident.
    let backend = OpendalBackend::open(options.clone()).await.unwrap();
    assert_eq!(backend.unclaimed(), std::slice::from_ref(&bucket));
    assert!(matches!(
        backend.head_bucket(&bucket).await,
        Err(BackendError::NoSuchBucket)
    ));
    assert!(backend.list_buckets(&owner, "", None, 10).await.unwrap().is_empty());
    drop(backend);

    let adopting = OpendalOptions {
        adoption: owner.clone().into(),
        ..options.clone()
    };
    let backend = std::sync::Arc::new(OpendalBackend::open(adopting).await.unwrap());
    assert!(backend.unclaimed().is_empty());
    let owned = backend.list_buckets(&owner, "", None, 10).await.unwrap();
    assert_eq!(owned.iter().map(|info| &info.bucket).collect::<Vec<_>>(), [&bucket]);
    let s = Subject::of(backend, bucket).await;

    // Each as the store tells of it, whoever asks how.
    let (key, plain) = ("plain", known(&store, PLAIN).await);
    let told_key = TOLD.split_once('/').unwrap().1;
    let told = known(&store, TOLD).await;
    for (key, (size, etag, modified)) in [(key, &plain), (told_key, &told)] {
        let info = s.info(key).await;
        assert_eq!(
            (info.size, &info.etag, info.last_modified),
            (*size, etag, *modified),
            "{key}"
        );
        let page = s.list_objects(s.everything()).await.unwrap();
        let listed = page.entries.iter().find_map(|entry| match entry {
            ListEntry::Object(info) if info.key.as_str() == key => Some(info),
            ListEntry::Object(_) | ListEntry::CommonPrefix(_) => None,
        });
        let listed = listed.unwrap();
        assert_eq!(
            (listed.size, &listed.etag, listed.last_modified),
            (*size, etag, *modified),
            "{key}"
        );
    }
    assert_eq!(s.get(key).await.unwrap(), large);
    let opened = s.open(told_key).await.unwrap();
    let attributes = opened.info.attributes.clone();
    assert_eq!(
        attributes.content.content_type.as_deref(),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(attributes.content.cache_control.as_deref(), Some("no-cache"));
    assert_eq!(attributes.user_metadata, [("camera".into(), "x1".into())]);
    assert_eq!((attributes.checksum, opened.info.parts_count), (None, None));
    assert_eq!(read_whole(opened).await, "hello");
    let delimited = ListObjects {
        delimiter: Some("/".into()),
        ..s.everything()
    };
    assert_eq!(s.names(delimited).await, ["2026/", "plain"]);

    // Something else replaces one behind the gateway's back.
    store.write(TOLD, "replaced").await.unwrap();
    let (size, etag, _) = known(&store, TOLD).await;
    let info = s.info(told_key).await;
    assert_eq!((info.size, &info.etag), (size, &etag));
    assert!(info.attributes.user_metadata.is_empty());
    assert_ne!(etag, told.1);
    assert_eq!(s.get(told_key).await.unwrap(), "replaced");

    // One is a source like any other, and what the gateway makes lies there under its own name.
    let copy = CopyObject {
        source: s.object(told_key),
        source_etag: etag.clone(),
        bucket: s.bucket.clone(),
        key: s.key("copy"),
        attributes: ObjectAttributes::default(),
        condition: WriteCondition::default(),
        versions: None,
    };
    let copied = s.copy_object(copy).await;
    if copies {
        copied.unwrap();
        assert_eq!(store.read("photos/copy").await.unwrap().to_bytes(), "replaced");
    } else {
        assert!(matches!(copied, Err(BackendError::NotSupported { .. })), "{copied:?}");
        s.put("copy", "replaced").await;
    }
    if is_l2 {
        let stale = |etag: &ETag| WriteCondition {
            if_match: Some(IfMatch::OneOf(vec![etag.clone()])),
            ..WriteCondition::default()
        };
        let refused = s.put_if(stale(&told.1), told_key, "lost").await;
        assert!(matches!(refused, Err(BackendError::PreconditionFailed)), "{refused:?}");
        s.put_if(stale(&etag), told_key, "by the gateway").await.unwrap();
    } else {
        s.put(told_key, "by the gateway").await;
    }
    let written = store.read(TOLD).await.unwrap().to_bytes();
    assert_eq!(written, "by the gateway");
    s.delete(key).await;
    assert!(!store.exists(PLAIN).await.unwrap());
    assert_eq!(s.all_keys().await, [told_key, "copy"]);
}

#[tokio::test]
async fn what_is_in_seaweedfs_is_served() {
    what_is_there_is_served(service::s3_options_alone(&seaweedfs::SERVER), true, true).await;
}

#[tokio::test]
async fn what_is_in_azurite_is_served() {
    what_is_there_is_served(azurite::options_alone(), true, false).await;
}

#[tokio::test]
async fn what_is_in_moto_is_served() {
    what_is_there_is_served(moto::options_alone(), false, true).await;
}
