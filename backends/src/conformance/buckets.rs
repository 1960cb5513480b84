//! Buckets: who owns them, what they hold, when they go.

use super::{Subject, subject::if_absent};
use crate::{
    AccountId, BackendError, BucketInfo, BucketName, BucketSetting, CannedAcl, CopyObject, CreateBucket, DeleteObject,
    ETag, ListParts, ObjectAttributes, ObjectBody, PutObject, UploadId, WriteCondition,
};

fn name(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

fn account(text: &str) -> AccountId {
    AccountId::parse(text).unwrap()
}

fn create(bucket: &str, owner: &str) -> CreateBucket {
    CreateBucket {
        bucket: name(bucket),
        owner: account(owner),
        acl: CannedAcl::Private,
        max_buckets: 100,
        versioning: None,
    }
}

async fn names(s: &Subject, owner: &str, prefix: &str, start_after: Option<&str>, max: usize) -> Vec<String> {
    let buckets = s.list_buckets(&account(owner), prefix, start_after, max).await.unwrap();
    buckets.iter().map(|info| info.bucket.as_str().to_owned()).collect()
}

pub async fn the_backend_is_ready_and_has_a_name(s: Subject) {
    s.ready().await.unwrap();
    assert!(!s.capabilities(Some(&s.bucket)).name.is_empty());
}

pub async fn a_created_bucket_is_found_as_it_was_made(s: Subject) {
    let request = CreateBucket {
        acl: CannedAcl::PublicRead,
        ..create("made", "alice")
    };
    let made = s.create_bucket(request).await.unwrap();
    assert_eq!(made.bucket, name("made"));
    assert_eq!(made.owner, account("alice"));
    assert_eq!(made.acl, CannedAcl::PublicRead);
    assert_eq!(s.head_bucket(&made.bucket).await.unwrap(), made);
    assert_eq!(s.list_buckets(&account("alice"), "", None, 10).await.unwrap(), [made]);
}

pub async fn creating_a_bucket_twice_names_its_owner(s: Subject) {
    let made = s.create_bucket(create("mine", "alice")).await.unwrap();
    for intruder in ["alice", "bob"] {
        let again = CreateBucket {
            acl: CannedAcl::PublicRead,
            ..create("mine", intruder)
        };
        match s.create_bucket(again).await {
            Err(BackendError::BucketAlreadyExists { owner }) => assert_eq!(owner, account("alice")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(s.head_bucket(&made.bucket).await.unwrap(), made);
}

pub async fn every_method_says_that_a_bucket_is_not_there(s: Subject) {
    let absent = Subject {
        bucket: name("absent"),
        ..s.clone()
    };
    let upload = absent.upload_ref("key", UploadId::random().unwrap());
    let put = ObjectBody::from_bytes("x");
    assert_refused!(s.head_bucket(&absent.bucket).await, BackendError::NoSuchBucket);
    let setting = BucketSetting::Acl(CannedAcl::PublicRead);
    assert_refused!(
        s.put_bucket_setting(&absent.bucket, setting).await,
        BackendError::NoSuchBucket
    );
    assert_refused!(s.delete_bucket(&absent.bucket).await, BackendError::NoSuchBucket);
    assert_refused!(absent.put_body("key", put).await, BackendError::NoSuchBucket);
    assert_refused!(absent.open("key").await, BackendError::NoSuchBucket);
    assert_refused!(
        absent.delete_if(WriteCondition::default(), "key").await,
        BackendError::NoSuchBucket
    );
    assert_refused!(s.list_objects(absent.everything()).await, BackendError::NoSuchBucket);
    assert_refused!(
        s.create_multipart_upload(absent.create_upload_request("key")).await,
        BackendError::NoSuchBucket
    );
    assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchBucket);
    let number = super::subject::part_number(1);
    assert_refused!(
        s.upload_part(&upload, number, ObjectBody::from_bytes("x")).await,
        BackendError::NoSuchBucket
    );
    let etag = super::subject::etag_of(b"x");
    let part = crate::CompletedPart {
        part_number: number,
        etag: etag.clone(),
        checksum: None,
    };
    assert_refused!(absent.complete(&upload, vec![part]).await, BackendError::NoSuchBucket);
    assert_refused!(s.abort_multipart_upload(&upload).await, BackendError::NoSuchBucket);
    let parts = ListParts {
        upload,
        part_number_marker: 0,
        max_parts: 10,
    };
    assert_refused!(s.list_parts(parts).await, BackendError::NoSuchBucket);
    assert_refused!(
        s.list_multipart_uploads(absent.all_uploads()).await,
        BackendError::NoSuchBucket
    );
    let here = s.put("key", "x").await;
    let copy = |from: &Subject, to: &Subject, source_etag: ETag| CopyObject {
        source: from.object("key"),
        source_etag,
        bucket: to.bucket.clone(),
        key: to.key("key"),
        attributes: ObjectAttributes::default(),
        condition: WriteCondition::default(),
        versions: None,
    };
    if s.copies_between(&absent.bucket, &s.bucket) {
        assert_refused!(s.copy_object(copy(&absent, &s, etag)).await, BackendError::NoSuchBucket);
    }
    if s.copies_between(&s.bucket, &absent.bucket) {
        assert_refused!(
            s.copy_object(copy(&s, &absent, here.etag)).await,
            BackendError::NoSuchBucket
        );
    }
    assert_refused!(s.head_bucket(&absent.bucket).await, BackendError::NoSuchBucket);
}

pub async fn an_account_lists_its_own_buckets_by_name(s: Subject) {
    for (bucket, owner) in [
        ("ccc", "alice"),
        ("aaa", "alice"),
        ("bbb", "bob"),
        ("a.a", "alice"),
        ("a-a", "alice"),
    ] {
        s.create_bucket(create(bucket, owner)).await.unwrap();
    }
    assert_eq!(names(&s, "alice", "", None, 100).await, ["a-a", "a.a", "aaa", "ccc"]);
    assert_eq!(names(&s, "bob", "", None, 100).await, ["bbb"]);
    assert!(names(&s, "nobody", "", None, 100).await.is_empty());
}

pub async fn bucket_listings_take_prefix_start_and_maximum(s: Subject) {
    let all = ["data-1", "data-2", "data-3", "logs"];
    for bucket in all {
        s.create_bucket(create(bucket, "alice")).await.unwrap();
    }
    assert_eq!(names(&s, "alice", "data", None, 100).await, all[..3]);
    assert_eq!(names(&s, "alice", "data-2", None, 100).await, all[1..2]);
    assert_eq!(names(&s, "alice", "", Some("data-1"), 100).await, all[1..]);
    assert_eq!(names(&s, "alice", "", Some("data-15"), 100).await, all[1..]);
    assert_eq!(names(&s, "alice", "data", Some("data-1"), 1).await, all[1..2]);
    assert!(names(&s, "alice", "", Some("zzz"), 100).await.is_empty());
    assert!(names(&s, "alice", "x", None, 100).await.is_empty());
    assert!(names(&s, "alice", "", None, 0).await.is_empty());
}

pub async fn bucket_pages_of_any_size_give_each_bucket_once(s: Subject) {
    let all: Vec<String> = (0..7).map(|i| format!("bucket-{i}")).collect();
    for bucket in &all {
        s.create_bucket(create(bucket, "alice")).await.unwrap();
    }
    for size in 1..=8 {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = names(&s, "alice", "", seen.last().map(String::as_str), size).await;
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {size}");
    }
}

pub async fn an_account_has_no_more_buckets_than_it_may(s: Subject) {
    let limited = |bucket: &str| CreateBucket {
        max_buckets: 2,
        ..create(bucket, "alice")
    };
    s.create_bucket(create("others", "bob")).await.unwrap();
    s.create_bucket(limited("one")).await.unwrap();
    s.create_bucket(limited("two")).await.unwrap();
    assert_refused!(
        s.create_bucket(limited("three")).await,
        BackendError::TooManyBuckets { limit: 2 }
    );
    assert_refused!(s.head_bucket(&name("three")).await, BackendError::NoSuchBucket);
    s.delete_bucket(&name("one")).await.unwrap();
    s.create_bucket(limited("three")).await.unwrap();
}

pub async fn racing_creations_do_not_pass_the_limit(s: Subject) {
    let tasks: Vec<_> = (0..16)
        .map(|i| {
            let (s, request) = (
                s.clone(),
                CreateBucket {
                    max_buckets: 3,
                    ..create(&format!("race-{i}"), "alice")
                },
            );
            tokio::spawn(async move { s.create_bucket(request).await })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => made += 1,
            Err(BackendError::TooManyBuckets { limit: 3 }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(made, 3);
    assert_eq!(names(&s, "alice", "", None, 100).await.len(), 3);
}

pub async fn of_racing_creations_of_one_name_one_wins(s: Subject) {
    let owners: Vec<String> = (0..16).map(|i| format!("owner-{i}")).collect();
    let tasks: Vec<_> = owners
        .iter()
        .map(|owner| {
            let (s, request) = (s.clone(), create("contested", owner));
            tokio::spawn(async move { s.create_bucket(request).await })
        })
        .collect();
    let mut winners = Vec::new();
    let mut named = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(BucketInfo { owner, .. }) => winners.push(owner),
            Err(BackendError::BucketAlreadyExists { owner }) => named.push(owner),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert!(named.iter().all(|owner| *owner == winners[0]));
    assert_eq!(s.head_bucket(&name("contested")).await.unwrap().owner, winners[0]);
}

pub async fn a_setting_replaces_itself_and_nothing_else(s: Subject) {
    s.put("key", "bytes").await;
    let before = s.head_bucket(&s.bucket).await.unwrap();
    for acl in [CannedAcl::PublicRead, CannedAcl::Private, CannedAcl::PublicRead] {
        let setting = BucketSetting::Acl(acl);
        s.put_bucket_setting(&s.bucket, setting).await.unwrap();
        let after = s.head_bucket(&s.bucket).await.unwrap();
        assert_eq!(after, BucketInfo { acl, ..before.clone() });
    }
    assert_eq!(s.get("key").await.unwrap(), "bytes");
}

pub async fn a_bucket_goes_only_when_it_is_empty(s: Subject) {
    s.put("deep/down/key", "x").await;
    assert_refused!(s.delete_bucket(&s.bucket).await, BackendError::BucketNotEmpty);
    assert_eq!(s.get("deep/down/key").await.unwrap(), "x");
    s.delete("deep/down/key").await;
    s.delete_emptied_bucket().await;
    assert_refused!(s.head_bucket(&s.bucket).await, BackendError::NoSuchBucket);
    assert!(names(&s, "owner", s.bucket.as_str(), None, 10).await.is_empty());
    assert_refused!(s.delete_bucket(&s.bucket).await, BackendError::NoSuchBucket);
}

pub async fn a_recreated_bucket_knows_nothing_of_the_old_one(s: Subject) {
    let setting = BucketSetting::Acl(CannedAcl::PublicRead);
    s.put_bucket_setting(&s.bucket, setting).await.unwrap();
    s.put("key", "old").await;
    s.delete("key").await;
    let upload = s.upload("key").await;
    let part = s.part(&upload, 1, "part").await;
    s.delete_emptied_bucket().await;
    let again = s.create_bucket(create(s.bucket.as_str(), "bob")).await.unwrap();
    assert_eq!(again.owner, account("bob"));
    assert_eq!(again.acl, CannedAcl::Private);
    assert!(s.all_keys().await.is_empty());
    let uploads = s.list_multipart_uploads(s.all_uploads()).await.unwrap();
    assert!(uploads.entries.is_empty());
    assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    assert_refused!(s.complete(&upload, vec![part]).await, BackendError::NoSuchUpload);
    s.put("key", "new").await;
    assert_eq!(s.get("key").await.unwrap(), "new");
}

pub async fn uploads_under_way_do_not_hold_a_bucket(s: Subject) {
    let upload = s.upload("key").await;
    s.part(&upload, 1, "part").await;
    s.delete_emptied_bucket().await;
    assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchBucket);
}

pub async fn buckets_do_not_see_each_others_objects(s: Subject) {
    let other = s.with_another_bucket().await;
    s.put("key", "here").await;
    assert!(other.get("key").await.is_none());
    other.put("key", "there").await;
    assert_eq!(s.get("key").await.unwrap(), "here");
    assert!(other.delete("key").await.existed);
    assert_eq!(s.get("key").await.unwrap(), "here");
    let upload = s.upload("key").await;
    let elsewhere = other.upload_ref("key", upload.upload_id.clone());
    assert_refused!(
        other.head_multipart_upload(&elsewhere).await,
        BackendError::NoSuchUpload
    );
    assert_refused!(
        other.abort_multipart_upload(&elsewhere).await,
        BackendError::NoSuchUpload
    );
    s.head_multipart_upload(&upload).await.unwrap();
}

pub async fn a_write_under_way_does_not_outlive_its_bucket(s: Subject) {
    let (pause, gate) = super::gate();
    let bytes = "too late";
    let body = super::ScriptedBody::new(8)
        .data(bytes, 3)
        .pause(pause)
        .end(crate::BodySummary::of(bytes.as_bytes(), crate::ChecksumAlgorithm::Sha1));
    let request = PutObject {
        condition: if s.capabilities(Some(&s.bucket)).conditional_writes {
            if_absent()
        } else {
            WriteCondition::default()
        },
        ..s.put_request("deep/key")
    };
    let writer = s.clone();
    let put = tokio::spawn(async move { writer.put_object(request, body).await });
    super::subject::soon(gate.reached).await.unwrap();
    s.delete_emptied_bucket().await;
    gate.open.send(()).unwrap();
    assert_refused!(put.await.unwrap(), BackendError::NoSuchBucket);
    assert_refused!(s.head_bucket(&s.bucket).await, BackendError::NoSuchBucket);
    let object = s.object("deep/key");
    let condition = WriteCondition::default();
    assert_refused!(
        s.delete_object(DeleteObject {
            object,
            condition,
            mark_missing: false,
            versions: None,
        })
        .await,
        BackendError::NoSuchBucket
    );
}

pub async fn a_write_under_way_does_not_land_in_another_bucket_of_the_name(s: Subject) {
    let (pause, gate) = super::gate();
    let body = super::ScriptedBody::new(4)
        .data("late", 2)
        .pause(pause)
        .end(crate::BodySummary::of(b"late", crate::ChecksumAlgorithm::Sha1));
    let (writer, request) = (s.clone(), s.put_request("key"));
    let put = tokio::spawn(async move { writer.put_object(request, body).await });
    super::subject::soon(gate.reached).await.unwrap();
    s.delete_emptied_bucket().await;
    s.create_bucket(create(s.bucket.as_str(), "bob")).await.unwrap();
    gate.open.send(()).unwrap();
    assert_refused!(put.await.unwrap(), BackendError::NoSuchBucket);
    assert!(s.all_keys().await.is_empty());
}
