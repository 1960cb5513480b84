//! Deletes: by name a delete marker comes, by id what is named goes.

use super::subject::{ENABLED, id, own};
use crate::{BackendError, DeleteObjectOutcome, conformance::Subject};

pub async fn a_delete_by_name_adds_a_marker(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = s.put("key", "bytes").await;
    let outcome = s.delete("key").await;
    assert!(outcome.existed && outcome.delete_marker);
    let marker = outcome.version_id.unwrap();
    assert!(s.get("key").await.is_none() && s.all_keys().await.is_empty());
    assert_eq!(s.lines().await, own("key", &[None, Some(5)]));
    for named in [None, Some(&marker)] {
        let opened = match named {
            None => s.open("key").await,
            Some(id) => s.open_version("key", id).await,
        };
        match opened {
            Err(BackendError::DeleteMarker { version_id, .. }) => assert_eq!(version_id, marker),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(s.get_version("key", &id(&put)).await, "bytes");
    // Gone once more: only who asks for it adds another marker.
    assert_eq!(s.delete("key").await, DeleteObjectOutcome::default());
    assert_eq!(s.delete("never there").await, DeleteObjectOutcome::default());
    let mut marked = Vec::new();
    for key in ["key", "never there"] {
        let mut request = s.delete_request(key);
        request.mark_missing = true;
        let outcome = s.delete_object(request).await.unwrap();
        assert!(!outcome.existed);
        assert_eq!(outcome.delete_marker, outcome.version_id.is_some());
        // A store that keeps versions by itself may make none where nothing is.
        assert!(outcome.delete_marker || s.is_always_versioned());
        marked.push(outcome.delete_marker);
    }
    let mut of_key = vec![None, Some(5)];
    of_key.splice(..0, marked[0].then_some(None));
    let of_other = marked[1].then_some(None);
    let all = |of_key: &[Option<u64>]| [own("key", of_key), own("never there", of_other.as_slice())].concat();
    assert_eq!(s.lines().await, all(&of_key));
    // A new object lies on top.
    s.put("key", "anew").await;
    assert_eq!(s.get("key").await.unwrap(), "anew");
    of_key.insert(0, Some(4));
    assert_eq!(s.lines().await, all(&of_key));
}

pub async fn deleting_the_marker_brings_the_object_back(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = s.put("dir/key", "bytes").await;
    let marker = s.delete("dir/key").await.version_id.unwrap();
    let outcome = s.delete_version("dir/key", &marker).await;
    assert_eq!(
        outcome,
        DeleteObjectOutcome {
            existed: true,
            version_id: Some(marker.clone()),
            delete_marker: true
        }
    );
    assert_eq!(s.info("dir/key").await, put);
    assert_eq!(s.get("dir/key").await.unwrap(), "bytes");
    assert_eq!(s.all_keys().await, ["dir/key"]);
    assert_eq!(s.lines().await, own("dir/key", &[Some(5)]));
    assert_refused!(s.open_version("dir/key", &marker).await, BackendError::NoSuchVersion);
}

pub async fn deleting_the_current_version_makes_the_next_one_current(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    let marker = s.delete("key").await.version_id.unwrap();
    let two = s.put("key", "22").await;
    let three = s.put("key", "333").await;
    let outcome = s.delete_version("key", &id(&three)).await;
    assert!(outcome.existed && !outcome.delete_marker);
    assert_eq!(outcome.version_id, three.version_id);
    assert_eq!(s.info("key").await, two);
    assert_eq!(s.lines().await, own("key", &[Some(2), None, Some(1)]));
    // Under it lies a marker: then nothing is current.
    s.delete_version("key", &id(&two)).await;
    assert!(s.get("key").await.is_none() && s.all_keys().await.is_empty());
    assert_eq!(s.lines().await, own("key", &[None, Some(1)]));
    s.delete_version("key", &marker).await;
    assert_eq!(s.info("key").await, one);
    s.delete_version("key", &id(&one)).await;
    assert_refused!(s.open("key").await, BackendError::NoSuchKey);
    assert!(s.lines().await.is_empty());
}

pub async fn deleting_an_older_version_changes_nothing_else(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    let two = s.put("key", "22").await;
    let marker = s.delete("key").await.version_id.unwrap();
    let three = s.put("key", "333").await;
    s.delete_version("key", &id(&two)).await;
    assert_eq!(s.lines().await, own("key", &[Some(3), None, Some(1)]));
    s.delete_version("key", &marker).await;
    assert_eq!(s.info("key").await, three);
    assert_eq!(s.lines().await, own("key", &[Some(3), Some(1)]));
    assert_eq!(s.get_version("key", &id(&one)).await, "1");
    for gone in [&id(&two), &marker] {
        assert_refused!(s.open_version("key", gone).await, BackendError::NoSuchVersion);
        assert_eq!(s.delete_version("key", gone).await, DeleteObjectOutcome::default());
    }
}

pub async fn a_bucket_goes_only_without_any_version(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = s.put("dir/key", "x").await;
    let marker = s.delete("dir/key").await.version_id.unwrap();
    assert_refused!(s.delete_bucket(&s.bucket).await, BackendError::BucketNotEmpty);
    s.delete_version("dir/key", &id(&put)).await;
    assert_refused!(s.delete_bucket(&s.bucket).await, BackendError::BucketNotEmpty);
    s.delete_version("dir/key", &marker).await;
    s.delete_bucket(&s.bucket).await.unwrap();
    let anew = Subject::of(s.backend.clone(), s.bucket.clone()).await;
    assert!(anew.lines().await.is_empty());
    let versioning = s.is_always_versioned().then_some(ENABLED);
    assert_eq!(anew.head_bucket(&anew.bucket).await.unwrap().versioning, versioning);
}
