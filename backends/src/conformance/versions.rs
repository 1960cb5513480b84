//! Versions (S3 User Guide, "How S3 Versioning works"): every write is kept; by name the newest is there, by id each.
//!
//! For backends with [`Capabilities::versioning`](crate::Capabilities::versioning). One without fails every case.
mod conditions;
mod deletes;
mod races;
mod subject;

use std::collections::BTreeSet;

pub(super) use self::subject::{ENABLED, SUSPENDED, line};
use self::subject::{assert_no_suspension, copy_of, id, own};
pub use self::{conditions::*, deletes::*, races::*};
use super::{
    Subject,
    keys::hostile,
    objects::attributes,
    subject::{noise, read_whole, try_read_whole},
};
use crate::{BackendError, DeleteObjectOutcome, ObjectBody, PutObject, VersionEntry, VersionId};

pub async fn a_bucket_says_whether_it_keeps_versions(s: Subject) {
    let status = async |s: &Subject| s.head_bucket(&s.bucket).await.unwrap().versioning;
    assert_eq!(status(&s.versioned(ENABLED).await).await, Some(ENABLED));
    let never = Subject::with_versioning(s.backend.clone(), None).await;
    if s.is_always_versioned() {
        assert_eq!(status(&never).await, Some(ENABLED));
        never.set_versioning(ENABLED).await;
        assert_no_suspension(&never).await;
        return;
    }
    assert_eq!(status(&never).await, None);
    for next in [ENABLED, SUSPENDED, SUSPENDED, ENABLED] {
        let before = never.head_bucket(&never.bucket).await.unwrap();
        never.set_versioning(next).await;
        let after = never.head_bucket(&never.bucket).await.unwrap();
        assert_eq!(after.versioning, Some(next));
        assert_eq!(
            (after.acl, after.created, &after.owner),
            (before.acl, before.created, &before.owner)
        );
        let listed = never
            .list_buckets(&never.owner, never.bucket.as_str(), None, 1)
            .await
            .unwrap();
        assert_eq!(listed, [after]);
    }
}

pub async fn without_versioning_each_object_is_its_version_null(s: Subject) {
    let s = Subject::with_versioning(s.backend.clone(), None).await;
    if s.is_always_versioned() {
        // There is no bucket without: an object has an id from its first write on.
        let put = s.put("b", "one").await;
        assert!(!id(&put).is_null());
        assert_eq!(s.lines().await, own("b", &[Some(3)]));
        return;
    }
    let put = s.put("b", "one").await;
    s.put("a", "three").await;
    assert_eq!(put.version_id, None);
    assert_eq!(
        s.lines().await,
        [("a".into(), true, Some(5), true), ("b".into(), true, Some(3), true)]
    );
    assert_eq!(
        read_whole(s.open_version("b", &VersionId::null()).await.unwrap()).await,
        "one"
    );
    let outcome = s.delete("b").await;
    assert_eq!(
        outcome,
        DeleteObjectOutcome {
            existed: true,
            ..DeleteObjectOutcome::default()
        }
    );
    assert_eq!(s.lines().await, [("a".into(), true, Some(5), true)]);
}

pub async fn every_write_is_a_version(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let mut written = Vec::new();
    for n in 1..=5_u8 {
        let bytes = noise(usize::from(n) * 1000, u64::from(n));
        let info = s.put("key", bytes.clone()).await;
        assert_eq!(s.info("key").await, info);
        written.push((info, bytes));
    }
    assert_eq!(s.all_keys().await, ["key"], "by name there is one object");
    let ids: BTreeSet<_> = written.iter().map(|(info, _)| id(info)).collect();
    assert_eq!(ids.len(), 5);
    for (info, bytes) in &written {
        assert_eq!(s.open_version("key", &id(info)).await.unwrap().info, *info);
        assert!(s.get_version("key", &id(info)).await == *bytes);
        assert!(!id(info).is_null());
        assert!(
            id(info)
                .as_str()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        );
    }
    let listed: Vec<_> = s.entries().await;
    assert_eq!(listed.len(), 5);
    for (at, (entry, (info, _))) in listed.iter().zip(written.iter().rev()).enumerate() {
        let VersionEntry::Object {
            info: listed,
            is_latest,
        } = entry
        else {
            panic!("{entry:?}")
        };
        assert_eq!(
            (&listed.key, &listed.version_id, listed.size),
            (&info.key, &info.version_id, info.size)
        );
        assert_eq!((&listed.etag, listed.last_modified), (&info.etag, info.last_modified));
        assert_eq!(*is_latest, at == 0);
    }
}

pub async fn equal_bytes_are_two_versions(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let first = s.put("key", "same").await;
    let second = s.put("key", "same").await;
    assert_eq!(first.etag, second.etag);
    assert_ne!(first.version_id, second.version_id);
    s.delete_version("key", &id(&first)).await;
    assert_eq!(s.info("key").await, second);
    assert_eq!(s.lines().await, own("key", &[Some(4)]));
}

pub async fn a_kept_version_is_all_that_it_was(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = PutObject {
        attributes: attributes(),
        ..s.put_request("key")
    };
    let put = s.put_object(put, ObjectBody::from_bytes("some bytes")).await.unwrap();
    let upload = s.upload("key").await;
    let parts = vec![
        s.part(&upload, 1, noise(5000, 1)).await,
        s.part(&upload, 3, noise(7, 2)).await,
    ];
    let completed = s.complete(&upload, parts).await.unwrap();
    s.put("key", "the newest").await;
    for info in [&put, &completed] {
        let open = s.open_version("key", &id(info)).await.unwrap();
        assert_eq!(open.info, *info);
        let parts = open.reader.parts(0, 10).await.unwrap();
        assert_eq!(parts.len(), usize::from(info.parts_count.unwrap_or(0)));
    }
    assert_eq!(put.attributes.user_metadata, attributes().user_metadata);
    assert_eq!(s.get_version("key", &id(&completed)).await.len(), 5007);
}

pub async fn copies_and_completes_are_versions_too(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    let two = s.put("key", "22").await;
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "333").await];
    let three = s.complete(&upload, parts.clone()).await.unwrap();
    assert_eq!(
        s.complete(&upload, parts).await.unwrap(),
        three,
        "repeated, it is the same version"
    );
    let mut expected = vec![Some(3), Some(2), Some(1)];
    if s.copies_between(&s.bucket, &s.bucket) {
        // An old version comes back as the newest, of its own key or of another.
        let back = s.copy_object(copy_of(&s, &one, "key")).await.unwrap();
        assert!(![&one, &two, &three].map(id).contains(&id(&back)));
        assert_eq!((&back.etag, back.size), (&one.etag, 1));
        assert_eq!(s.get("key").await.unwrap(), "1");
        let other = s.copy_object(copy_of(&s, &two, "other")).await.unwrap();
        assert_eq!(s.info("other").await, other);
        s.delete_version("other", &id(&other)).await;
        expected.insert(0, Some(1));
        let mut gone = copy_of(&s, &two, "other");
        gone.source.version_id = Some(id(&other));
        assert_refused!(s.copy_object(gone).await, BackendError::NoSuchVersion);
    }
    assert_eq!(s.lines().await, own("key", &expected));
    assert_eq!(s.get_version("key", &id(&three)).await, "333");
}

pub async fn what_was_there_before_is_the_version_null(s: Subject) {
    let s = Subject::with_versioning(s.backend.clone(), None).await;
    if s.is_always_versioned() {
        // What was there before the store kept versions, no client of the backend can have made.
        assert_refused!(
            s.open_version("key", &VersionId::null()).await,
            BackendError::NoSuchVersion
        );
        return;
    }
    let before = s.put("key", "before").await;
    s.set_versioning(ENABLED).await;
    assert_eq!(s.info("key").await.version_id, Some(VersionId::null()));
    assert_eq!(s.get_version("key", &VersionId::null()).await, "before");
    let after = s.put("key", "later").await;
    assert_eq!(
        s.lines().await,
        [
            ("key".into(), false, Some(5), true),
            ("key".into(), true, Some(6), false)
        ]
    );
    let open = s.open_version("key", &VersionId::null()).await.unwrap();
    assert_eq!(
        (open.info.etag, open.info.last_modified),
        (before.etag, before.last_modified)
    );
    s.delete_version("key", &id(&after)).await;
    assert_eq!(s.get("key").await.unwrap(), "before");
    assert_eq!(s.info("key").await.version_id, Some(VersionId::null()));
    s.delete_version("key", &VersionId::null()).await;
    assert!(s.lines().await.is_empty());
}

pub async fn a_version_is_of_its_key_and_bucket(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let other = s.versioned(ENABLED).await;
    let mine = s.put("key", "mine").await;
    s.put("key", "newer").await;
    let unknown = VersionId::parse("0123456789abcdef0123456789abcdef").unwrap();
    let foreign = VersionId::parse("3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY_MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo").unwrap();
    s.put("other", "x").await;
    other.put("key", "x").await;
    for (subject, key, id) in [
        (&s, "other", &id(&mine)),
        (&other, "key", &id(&mine)),
        (&s, "never there", &id(&mine)),
        (&s, "key", &unknown),
        (&s, "key", &foreign),
        (&s, "key", &VersionId::null()),
    ] {
        assert_refused!(subject.open_version(key, id).await, BackendError::NoSuchVersion);
        assert_eq!(subject.delete_version(key, id).await, DeleteObjectOutcome::default());
    }
    assert_eq!(s.lines().await.len(), 3);
}

pub async fn suspended_writes_replace_the_version_null(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    if s.is_always_versioned() {
        assert_no_suspension(&s).await;
        s.put("key", "22").await;
        assert_eq!(s.get_version("key", &id(&one)).await, "1");
        return;
    }
    s.set_versioning(SUSPENDED).await;
    let null = |size, latest| ("key".to_owned(), true, size, latest);
    let own = |size, latest| ("key".to_owned(), false, size, latest);
    let put = s.put("key", "22").await;
    assert_eq!(put.version_id, Some(VersionId::null()));
    assert_eq!(s.lines().await, [null(Some(2), true), own(Some(1), false)]);
    s.put("key", "333").await;
    assert_eq!(s.lines().await, [null(Some(3), true), own(Some(1), false)]);
    assert_eq!(s.get_version("key", &VersionId::null()).await, "333");
    // A marker is the version null as well.
    let outcome = s.delete("key").await;
    assert_eq!(
        (outcome.delete_marker, outcome.version_id),
        (true, Some(VersionId::null()))
    );
    assert_eq!(s.lines().await, [null(None, true), own(Some(1), false)]);
    assert_refused!(
        s.open_version("key", &VersionId::null()).await,
        BackendError::DeleteMarker { .. }
    );
    s.put("key", "4444").await;
    assert_eq!(s.lines().await, [null(Some(4), true), own(Some(1), false)]);
    // Enabled again, it is kept, wherever it lies: there is one at most.
    s.set_versioning(ENABLED).await;
    s.put("key", "55555").await;
    s.put("key", "666666").await;
    assert_eq!(
        s.lines().await,
        [
            own(Some(6), true),
            own(Some(5), false),
            null(Some(4), false),
            own(Some(1), false)
        ]
    );
    s.set_versioning(SUSPENDED).await;
    s.put("key", "7777777").await;
    assert_eq!(
        s.lines().await,
        [
            null(Some(7), true),
            own(Some(6), false),
            own(Some(5), false),
            own(Some(1), false)
        ]
    );
    s.delete_version("key", &VersionId::null()).await;
    assert_eq!(s.get("key").await.unwrap(), "666666");
    assert_eq!(s.get_version("key", &id(&one)).await, "1");
}

pub async fn an_open_version_stays_readable(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let bytes = noise(300_000, 9);
    let first = s.put("key", bytes.clone()).await;
    let by_name = s.open("key").await.unwrap();
    s.put("key", "x").await;
    let by_id = s.open_version("key", &id(&first)).await.unwrap();
    s.delete_version("key", &id(&first)).await;
    s.delete("key").await;
    for open in [by_name, by_id] {
        match try_read_whole(open).await {
            Ok(read) => assert!(read == bytes),
            Err(BackendError::Conflict) if !s.capabilities(Some(&s.bucket)).stable_reads => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub async fn hostile_keys_have_versions(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let keys = hostile();
    let mut firsts = Vec::new();
    for key in &keys {
        let put = s.put_body(key, ObjectBody::from_bytes(format!("first of {key}"))).await;
        match put {
            Ok(info) => firsts.push((key, info)),
            Err(BackendError::UnsupportedKey(_)) => {}
            Err(other) => panic!("{key:?}: {other:?}"),
        }
    }
    for (key, _) in &firsts {
        s.put(key, format!("second of {key}")).await;
    }
    for (key, first) in &firsts {
        assert_eq!(s.get_version(key, &id(first)).await, format!("first of {key}"));
        assert_eq!(s.get(key).await.unwrap(), format!("second of {key}"));
    }
    for (key, _) in firsts.iter().skip(1).step_by(2) {
        s.delete(key).await;
    }
    let entries = s.entries().await;
    let names: Vec<_> = entries.iter().map(VersionEntry::name).collect();
    assert!(names.is_sorted());
    assert_eq!(names.len(), firsts.len() * 2 + firsts.len() / 2);
    // Back to the first of each.
    for entry in &entries {
        let id = entry.version_id().unwrap();
        if !firsts.iter().any(|(_, first)| first.version_id.as_ref() == Some(id)) {
            s.delete_version(entry.name(), id).await;
        }
    }
    for (key, first) in &firsts {
        assert_eq!(s.info(key).await, *first, "{key:?}");
        s.delete_version(key, &id(first)).await;
    }
    s.delete_bucket(&s.bucket).await.unwrap();
}

pub async fn a_key_and_those_below_it_have_versions(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let a = s.put("a", "a").await;
    s.delete("a").await;
    s.put("a/b", "a/b").await;
    let marker = s.entries().await[0].version_id().unwrap().clone();
    s.delete_version("a", &marker).await;
    assert_eq!(s.info("a").await, a);
    assert_eq!(s.get("a/b").await.unwrap(), "a/b");
    let deleted = s.delete("a/b").await.version_id.unwrap();
    s.put("a", "a again").await;
    s.delete_version("a/b", &deleted).await;
    assert_eq!(s.get("a/b").await.unwrap(), "a/b");
    assert_eq!(s.get("a").await.unwrap(), "a again");
    assert_eq!(s.all_keys().await, ["a", "a/b"]);
    let mut expected = own("a", &[Some(7), Some(1)]);
    expected.extend(own("a/b", &[Some(3)]));
    assert_eq!(s.lines().await, expected);
}
