//! Copies inside the store.

use super::{
    Subject,
    objects::attributes,
    subject::{if_absent, if_match, if_present, noise, try_read_whole},
};
use crate::{
    BackendError, BodySummary, ChecksumAlgorithm, CopyObject, ETag, ObjectAttributes, ObjectBody, ObjectInfo,
    ObjectRef, PutObject, VersionId, WriteCondition,
};

/// Whether the backend copies within a bucket.
async fn copies(s: &Subject) -> bool {
    copies_to(s, s).await
}

/// Whether the backend copies from the one bucket to the other; where it does not it has to say so.
async fn copies_to(s: &Subject, other: &Subject) -> bool {
    let supported = s.copies_between(&s.bucket, &other.bucket);
    if !supported {
        let source = s.put("source", "x").await;
        assert_refused!(
            s.copy_object(copy(s, &source, other, "copy")).await,
            BackendError::NotSupported { .. }
        );
        assert!(other.get("copy").await.is_none());
    }
    supported
}

/// A copy of an object of `from` with its attributes.
fn copy(from: &Subject, source: &ObjectInfo, to: &Subject, key: &str) -> CopyObject {
    CopyObject {
        source: from.object(source.key.as_str()),
        source_etag: source.etag.clone(),
        bucket: to.bucket.clone(),
        key: to.key(key),
        attributes: source.attributes.clone(),
        condition: WriteCondition::default(),
        versions: None,
    }
}

pub async fn a_copy_has_the_bytes_and_the_given_attributes(s: Subject) {
    if !copies(&s).await {
        return;
    }
    let bytes = noise(300_000, 1);
    let put = PutObject {
        attributes: attributes(),
        ..s.put_request("source")
    };
    let source = s.put_object(put, ObjectBody::from_bytes(bytes.clone())).await.unwrap();
    let copied = s.copy_object(copy(&s, &source, &s, "dir/copy")).await.unwrap();
    assert_eq!(copied.key, s.key("dir/copy"));
    assert_eq!((copied.size, &copied.etag), (source.size, &source.etag));
    assert_eq!(copied.attributes, source.attributes);
    assert_eq!(s.info("dir/copy").await, copied);
    assert!(s.get("dir/copy").await.unwrap() == bytes);
    assert_eq!(s.info("source").await, source);
    let bare = CopyObject {
        attributes: ObjectAttributes {
            checksum: source.attributes.checksum.clone(),
            ..ObjectAttributes::default()
        },
        ..copy(&s, &source, &s, "bare")
    };
    let expected = bare.attributes.clone();
    s.copy_object(bare).await.unwrap();
    assert_eq!(s.info("bare").await.attributes, expected);
}

pub async fn a_copy_lives_by_itself(s: Subject) {
    if !copies(&s).await {
        return;
    }
    let source = s.put("source", "bytes").await;
    s.copy_object(copy(&s, &source, &s, "copy")).await.unwrap();
    s.put("source", "other").await;
    assert_eq!(s.get("copy").await.unwrap(), "bytes");
    s.delete("source").await;
    assert_eq!(s.get("copy").await.unwrap(), "bytes");
    let copied = s.info("copy").await;
    s.copy_object(copy(&s, &copied, &s, "source")).await.unwrap();
    s.delete("copy").await;
    assert_eq!(s.get("source").await.unwrap(), "bytes");
}

pub async fn a_copy_onto_itself_changes_the_attributes(s: Subject) {
    if !copies(&s).await {
        return;
    }
    let source = s.put("key", "bytes").await;
    let open = s.open("key").await.unwrap();
    let request = CopyObject {
        attributes: ObjectAttributes {
            checksum: source.attributes.checksum.clone(),
            ..attributes()
        },
        ..copy(&s, &source, &s, "key")
    };
    let copied = s.copy_object(request).await.unwrap();
    assert_eq!(copied.attributes.user_metadata, attributes().user_metadata);
    assert_eq!(copied.attributes.content, attributes().content);
    assert_eq!(copied.attributes.checksum, source.attributes.checksum);
    assert_eq!(copied.etag, source.etag);
    assert_eq!(s.info("key").await, copied);
    assert_eq!(s.get("key").await.unwrap(), "bytes");
    assert_eq!(open.info, source);
    match try_read_whole(open).await {
        Ok(bytes) => assert_eq!(bytes, "bytes"),
        Err(BackendError::Conflict) if !s.capabilities(Some(&s.bucket)).stable_reads => {}
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(s.all_keys().await, ["key"]);
}

pub async fn a_copy_may_go_to_another_bucket(s: Subject) {
    let other = s.with_another_bucket().await;
    if !copies_to(&s, &other).await {
        return;
    }
    let source = s.put("key", "bytes").await;
    other.put("key", "to be replaced").await;
    other.copy_object(copy(&s, &source, &other, "key")).await.unwrap();
    assert_eq!(other.get("key").await.unwrap(), "bytes");
    s.delete("key").await;
    s.delete_emptied_bucket().await;
    assert_eq!(other.get("key").await.unwrap(), "bytes");
}

pub async fn a_copy_needs_the_source_it_names(s: Subject) {
    if !copies(&s).await {
        return;
    }
    let source = s.put("source", "new").await;
    let old = CopyObject {
        source_etag: ETag::parse("0123456789abcdef0123456789abcdef").unwrap(),
        ..copy(&s, &source, &s, "copy")
    };
    assert_refused!(s.copy_object(old).await, BackendError::Conflict);
    let absent = CopyObject {
        source: s.object("absent"),
        ..copy(&s, &source, &s, "copy")
    };
    assert_refused!(s.copy_object(absent).await, BackendError::NoSuchKey);
    let version = CopyObject {
        source: ObjectRef {
            version_id: Some(VersionId::parse("absent").unwrap()),
            ..s.object("source")
        },
        ..copy(&s, &source, &s, "copy")
    };
    assert_refused!(s.copy_object(version).await, BackendError::NoSuchVersion);
    assert_eq!(s.all_keys().await, ["source"]);
}

pub async fn a_copy_may_depend_on_what_it_replaces(s: Subject) {
    if !copies(&s).await || !s.capabilities(Some(&s.bucket)).conditional_writes {
        return;
    }
    let source = s.put("source", "bytes").await;
    let conditional = |condition| CopyObject {
        condition,
        ..copy(&s, &source, &s, "copy")
    };
    assert_refused!(s.copy_object(conditional(if_present())).await, BackendError::NoSuchKey);
    assert!(s.get("copy").await.is_none());
    s.copy_object(conditional(if_absent())).await.unwrap();
    assert_refused!(
        s.copy_object(conditional(if_absent())).await,
        BackendError::PreconditionFailed
    );
    let there = s.put("copy", "there").await;
    assert_refused!(
        s.copy_object(conditional(if_match(&[&source.etag]))).await,
        BackendError::PreconditionFailed
    );
    assert_eq!(s.get("copy").await.unwrap(), "there");
    s.copy_object(conditional(if_match(&[&there.etag]))).await.unwrap();
    assert_eq!(s.get("copy").await.unwrap(), "bytes");
}

pub async fn a_multipart_object_can_be_copied(s: Subject) {
    if !copies(&s).await {
        return;
    }
    let upload = s.upload("source").await;
    let parts = vec![s.part(&upload, 2, "one").await, s.part(&upload, 7, "two").await];
    let source = s.complete(&upload, parts.clone()).await.unwrap();
    let of_source = s.open("source").await.unwrap().reader.parts(0, 10).await.unwrap();
    let copied = s.copy_object(copy(&s, &source, &s, "copy")).await.unwrap();
    assert_eq!((copied.size, &copied.etag), (6, &source.etag));
    assert_eq!((copied.parts_count, source.parts_count), (Some(2), Some(2)));
    let open = s.open("copy").await.unwrap();
    assert_eq!(open.info, copied);
    assert_eq!(open.reader.parts(0, 10).await.unwrap(), of_source);
    assert_eq!(
        copied.attributes.checksum,
        Some(BodySummary::of(b"onetwo", ChecksumAlgorithm::Crc64Nvme).checksum)
    );
    assert_eq!(s.get("copy").await.unwrap(), "onetwo");
    // The copy is not what the upload made, though it has the same ETag.
    s.copy_object(copy(&s, &source, &s, "source")).await.unwrap();
    assert_refused!(s.complete(&upload, parts).await, BackendError::NoSuchUpload);
}

pub async fn hostile_keys_can_be_copied(s: Subject) {
    let other = s.with_another_bucket().await;
    if !copies_to(&s, &other).await {
        return;
    }
    let keys = super::keys::put_all(&s, super::keys::hostile()).await;
    for key in &keys {
        let source = s.info(key).await;
        other.copy_object(copy(&s, &source, &other, key)).await.unwrap();
    }
    assert_eq!(other.all_keys().await, keys);
    for key in &keys {
        assert_eq!(other.get(key).await, s.get(key).await, "{key:?}");
    }
}
