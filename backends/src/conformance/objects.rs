//! Objects: what goes in comes out, and nothing but that.

use bytes::Bytes;

use super::{
    FailingBody, ScriptedBody, Subject, gate,
    subject::{etag_of, noise, read_range, read_whole, soon, try_read_range, try_read_whole},
};
use crate::{
    BackendError, BodySummary, ChecksumAlgorithm, ContentHeaders, DeleteObject, DeleteObjectOutcome, ListEntry,
    ObjectAttributes, ObjectBody, ObjectRef, PutObject, VersionId, WriteCondition,
};

/// Attributes with something in every place.
pub(super) fn attributes() -> ObjectAttributes {
    let text = |text: &str| Some(text.into());
    ObjectAttributes {
        content: ContentHeaders {
            content_type: text("text/plain; charset=\"utf-8\""),
            content_encoding: text("gzip, br"),
            content_language: text("de-AT, ja"),
            content_disposition: text("attachment; filename=\"a b.txt\"; filename*=UTF-8''%e2%82%ac"),
            cache_control: text("no-cache, max-age=0"),
            expires: text("not even a date"),
        },
        user_metadata: vec![
            ("author".into(), "Žofie 🦀 \"quoted\", \\ and = ".into()),
            ("empty".into(), "".into()),
            ("long".into(), "x".repeat(2000).into()),
        ],
        checksum: None,
    }
}

pub async fn get_gives_what_was_put(s: Subject) {
    let put = s.put("key", "some bytes").await;
    assert_eq!(put.key, s.key("key"));
    assert_eq!(put.size, 10);
    assert_eq!(put.etag, etag_of(b"some bytes"));
    assert_eq!(put.parts_count, None);
    let open = s.open("key").await.unwrap();
    assert_eq!(open.info, put);
    assert!(open.reader.parts(0, 100).await.unwrap().is_empty());
    assert_eq!(read_whole(open).await, "some bytes");
}

pub async fn an_object_of_no_bytes_is_an_object(s: Subject) {
    let put = s.put("empty", "").await;
    assert_eq!(put.size, 0);
    assert_eq!(put.etag.as_str(), "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(s.info("empty").await, put);
    assert_eq!(s.get("empty").await.unwrap(), "");
    assert_eq!(s.all_keys().await, ["empty"]);
    s.put("full", "x").await;
    s.put("full", "").await;
    assert_eq!(s.get("full").await.unwrap(), "");
}

pub async fn large_bodies_come_back_whole(s: Subject) {
    for (len, piece) in [
        (5 * 1024 * 1024 + 1, 65_537),
        (3 << 20, 1 << 20),
        (1 << 20, 8191),
        (70_000, 7),
    ] {
        let bytes = noise(len, piece as u64);
        let body = ScriptedBody::good(bytes.clone(), piece, ChecksumAlgorithm::Crc64Nvme);
        let put = s.put_body("large", body).await.unwrap();
        assert_eq!(put.size, len as u64);
        assert!(s.get("large").await.unwrap() == bytes, "{len} bytes by {piece}");
    }
}

pub async fn overwriting_replaces_all_of_an_object(s: Subject) {
    let first = PutObject {
        attributes: attributes(),
        ..s.put_request("key")
    };
    s.put_object(first, ObjectBody::from_bytes(noise(100_000, 1)))
        .await
        .unwrap();
    let second = s.put("key", "short").await;
    assert_eq!(s.info("key").await, second);
    assert_eq!(second.attributes.content, ContentHeaders::default());
    assert!(second.attributes.user_metadata.is_empty());
    assert_eq!(s.get("key").await.unwrap(), "short");
    s.put("key", noise(100_000, 2)).await;
    assert!(s.get("key").await.unwrap() == noise(100_000, 2));
    assert_eq!(s.all_keys().await, ["key"]);
}

pub async fn attributes_come_back_as_they_went_in(s: Subject) {
    let request = PutObject {
        attributes: attributes(),
        ..s.put_request("key")
    };
    let put = s.put_object(request, ObjectBody::from_bytes("bytes")).await.unwrap();
    assert_eq!(put.attributes.content, attributes().content);
    assert_eq!(put.attributes.user_metadata, attributes().user_metadata);
    assert_eq!(s.info("key").await, put);
}

pub async fn each_content_header_is_kept_by_itself(s: Subject) {
    let value: Option<Box<str>> = Some("value".into());
    let none = ContentHeaders::default;
    let alone = [
        ContentHeaders {
            content_type: value.clone(),
            ..none()
        },
        ContentHeaders {
            content_encoding: value.clone(),
            ..none()
        },
        ContentHeaders {
            content_language: value.clone(),
            ..none()
        },
        ContentHeaders {
            content_disposition: value.clone(),
            ..none()
        },
        ContentHeaders {
            cache_control: value.clone(),
            ..none()
        },
        ContentHeaders {
            expires: value.clone(),
            ..none()
        },
        ContentHeaders {
            content_type: Some("".into()),
            ..none()
        },
        none(),
    ];
    for content in alone {
        let request = PutObject {
            attributes: ObjectAttributes {
                content: content.clone(),
                ..ObjectAttributes::default()
            },
            ..s.put_request("key")
        };
        s.put_object(request, ObjectBody::from_bytes("x")).await.unwrap();
        assert_eq!(s.info("key").await.attributes.content, content);
    }
}

pub async fn the_checksum_is_the_one_the_body_ends_in(s: Subject) {
    for algorithm in ChecksumAlgorithm::ALL {
        let expected = BodySummary::of(b"hello", algorithm).checksum;
        let wrong = BodySummary::of(b"other", ChecksumAlgorithm::Sha1).checksum;
        let request = PutObject {
            attributes: ObjectAttributes {
                checksum: Some(wrong),
                ..ObjectAttributes::default()
            },
            ..s.put_request(algorithm.as_str())
        };
        let put = s
            .put_object(request, ScriptedBody::good("hello", 2, algorithm))
            .await
            .unwrap();
        assert_eq!(put.attributes.checksum, Some(expected));
        assert_eq!(s.info(algorithm.as_str()).await, put);
    }
}

pub async fn what_is_not_there_is_no_such_key(s: Subject) {
    s.put("a/b", "x").await;
    for key in ["absent", "a", "a/", "a/b/", "a/b/c", "a/c", "A/b"] {
        assert_refused!(s.open(key).await, BackendError::NoSuchKey);
        assert_eq!(s.delete(key).await, DeleteObjectOutcome::default());
    }
    assert_eq!(s.get("a/b").await.unwrap(), "x");
}

pub async fn a_deleted_object_is_gone(s: Subject) {
    s.put("key", "x").await;
    let outcome = s.delete("key").await;
    assert!(outcome.existed);
    match s.open("key").await {
        Err(BackendError::NoSuchKey) if s.versioning.is_none() => {}
        Err(BackendError::DeleteMarker { .. }) if s.versioning.is_some() => {}
        other => panic!("{other:?}"),
    }
    assert!(s.all_keys().await.is_empty());
    assert_eq!(s.delete("key").await, DeleteObjectOutcome::default());
    s.put("key", "again").await;
    assert_eq!(s.get("key").await.unwrap(), "again");
}

pub async fn without_versions_null_names_the_object(s: Subject) {
    if s.versioning.is_some() {
        return;
    }
    let put = s.put("key", "x").await;
    assert_eq!(put.version_id, None);
    let version = |id: &str| ObjectRef {
        version_id: Some(VersionId::parse(id).unwrap()),
        ..s.object("key")
    };
    let delete = |object| {
        let condition = WriteCondition::default();
        s.delete_object(DeleteObject {
            object,
            condition,
            mark_missing: false,
            versions: None,
        })
    };
    assert_eq!(s.open_object(&version("null")).await.unwrap().info, put);
    assert_refused!(s.open_object(&version("other")).await, BackendError::NoSuchVersion);
    assert!(!delete(version("other")).await.unwrap().existed);
    assert_eq!(s.get("key").await.unwrap(), "x");
    assert!(delete(version("null")).await.unwrap().existed);
    assert_refused!(s.open("key").await, BackendError::NoSuchKey);
    assert_refused!(s.open_object(&version("null")).await, BackendError::NoSuchVersion);
}

pub async fn any_range_can_be_read(s: Subject) {
    let bytes = noise(200_003, 3);
    s.put("key", bytes.clone()).await;
    let end = bytes.len();
    for range in [
        0..0,
        0..1,
        0..end,
        1..end,
        end - 1..end,
        end..end,
        5..5,
        4095..4097,
        65_535..131_073,
        100_000..100_001,
    ] {
        let open = s.open("key").await.unwrap();
        let read = read_range(open, range.start as u64..range.end as u64).await;
        assert!(read == bytes[range.clone()], "{range:?}");
    }
}

pub async fn a_failed_body_leaves_the_old_object(s: Subject) {
    let old = s.put("key", "old").await;
    for (len, fail_at) in [
        (10, 0),
        (10, 5),
        (10, 10),
        (3 << 20, 2 << 20),
        (3 << 20, 3 << 20),
        (0, 0),
    ] {
        let body = FailingBody::at(noise(len, 4), fail_at);
        assert_refused!(s.put_body("key", body).await, BackendError::Body(_));
        assert_eq!(s.info("key").await, old, "{fail_at} of {len}");
        assert_eq!(s.get("key").await.unwrap(), "old");
    }
    assert_eq!(s.all_keys().await, ["key"]);
}

pub async fn a_failed_body_makes_no_object(s: Subject) {
    for key in s.held(["key", "deep/down/key", "deep/"]).await {
        for fail_at in [0, 5, 2000] {
            let body = FailingBody::at(noise(2000, 5), fail_at);
            assert_refused!(s.put_body(key, body).await, BackendError::Body(_));
            assert_refused!(s.open(key).await, BackendError::NoSuchKey);
        }
    }
    assert!(s.all_keys().await.is_empty());
    s.delete_emptied_bucket().await;
}

pub async fn nothing_is_seen_of_an_object_before_its_body_ends(s: Subject) {
    for old in [None, Some("old")] {
        if let Some(old) = old {
            s.put("deep/key", old).await;
        }
        let (pause, gate) = gate();
        let body = ScriptedBody::new(9)
            .data("new bytes", 4)
            .pause(pause)
            .end(BodySummary::of(b"new bytes", ChecksumAlgorithm::Crc32));
        let writer = s.clone();
        let put = tokio::spawn(async move { writer.put_body("deep/key", body).await });
        soon(gate.reached).await.unwrap();
        assert_eq!(s.get("deep/key").await, old.map(Bytes::from));
        let listed: Vec<&str> = old.iter().map(|_| "deep/key").collect();
        assert_eq!(s.all_keys().await, listed);
        gate.open.send(()).unwrap();
        put.await.unwrap().unwrap();
        assert_eq!(s.get("deep/key").await.unwrap(), "new bytes");
        s.delete("deep/key").await;
    }
}

pub async fn a_dropped_write_leaves_the_old_state(s: Subject) {
    for old in [None, Some("old")] {
        if let Some(old) = old {
            s.put("deep/key", old).await;
        }
        let (pause, gate) = gate();
        let body = ScriptedBody::new(3 << 20)
            .data(noise(3 << 20, 6), 100_000)
            .pause(pause)
            .end(BodySummary::of(&noise(3 << 20, 6), ChecksumAlgorithm::Crc32));
        let writer = s.clone();
        let put = tokio::spawn(async move { writer.put_body("deep/key", body).await });
        soon(gate.reached).await.unwrap();
        put.abort();
        assert!(put.await.unwrap_err().is_cancelled());
        drop(gate.open);
        assert_eq!(s.get("deep/key").await, old.map(Bytes::from));
        let listed: Vec<&str> = old.iter().map(|_| "deep/key").collect();
        assert_eq!(s.all_keys().await, listed);
    }
    s.delete("deep/key").await;
    s.delete_emptied_bucket().await;
}

pub async fn of_two_writes_the_later_commit_stays(s: Subject) {
    let (pause, gate) = gate();
    let body = ScriptedBody::new(5)
        .data("first", 2)
        .pause(pause)
        .end(BodySummary::of(b"first", ChecksumAlgorithm::Crc32));
    let writer = s.clone();
    let first = tokio::spawn(async move { writer.put_body("key", body).await });
    soon(gate.reached).await.unwrap();
    soon(s.put("key", "second, and whole before")).await;
    assert_eq!(s.get("key").await.unwrap(), "second, and whole before");
    gate.open.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(s.get("key").await.unwrap(), "first");
}

pub async fn an_open_object_stays_readable_while_it_is_replaced_or_deleted(s: Subject) {
    let old = noise(1 << 20, 7);
    let put = s.put("key", old.clone()).await;
    let opens = [
        s.open("key").await.unwrap(),
        s.open("key").await.unwrap(),
        s.open("key").await.unwrap(),
    ];
    let mut opens = opens.into_iter();
    let stable = s.capabilities(Some(&s.bucket)).stable_reads;
    // Where a reader may lose its object, it says so, and gives no other bytes.
    let check = |read: Result<Bytes, BackendError>, old: &[u8]| match read {
        Ok(bytes) => assert!(bytes == old),
        Err(BackendError::Conflict) if !stable => {}
        Err(error) => panic!("{error:?}"),
    };
    s.put("key", "new").await;
    let open = opens.next().unwrap();
    assert_eq!(open.info, put);
    check(try_read_whole(open).await, &old);
    s.delete("key").await;
    check(try_read_whole(opens.next().unwrap()).await, &old);
    s.put("key/below", "x").await;
    s.put("key", "x").await;
    check(
        try_read_range(opens.next().unwrap(), 1000..2000).await,
        &old[1000..2000],
    );
}

pub async fn all_answers_tell_the_same_of_an_object(s: Subject) {
    let put = s.put("dir/key", "bytes").await;
    let info = s.info("dir/key").await;
    assert_eq!(info, put);
    let page = s.list_objects(s.everything()).await.unwrap();
    let [ListEntry::Object(listed)] = &page.entries[..] else {
        panic!("{page:?}");
    };
    assert_eq!(
        (&listed.key, listed.size, &listed.etag),
        (&put.key, put.size, &put.etag)
    );
    assert_eq!(listed.last_modified, put.last_modified);
    // A store's listing of objects may not tell which of its own versions they are.
    if !s.is_always_versioned() || listed.version_id.is_some() {
        assert_eq!(listed.version_id, put.version_id);
    }
}
