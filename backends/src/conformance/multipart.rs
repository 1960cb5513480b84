//! Multipart uploads: parts, what they make, and when they do not.

mod complete;
mod parts;

pub use self::{complete::*, parts::*};
use super::{
    Subject,
    objects::attributes,
    subject::{etag_of, noise, part_number, read_range, try_read_whole},
};
use crate::{
    AssembleError, BackendError, BodySummary, Checksum, ChecksumAlgorithm, ChecksumType, CreateMultipartUpload, ETag,
    ListParts, MultipartUpload, ObjectBody, ObjectPart, UploadId, UploadRef,
};

fn crc64(bytes: &[u8]) -> Option<Checksum> {
    Some(BodySummary::of(bytes, ChecksumAlgorithm::Crc64Nvme).checksum)
}

fn etag_of_parts(parts: &[&[u8]]) -> ETag {
    let md5s: Vec<_> = parts.iter().map(|p| etag_of(p).as_md5().unwrap()).collect();
    ETag::of_parts(&md5s)
}

/// Asserts that the upload has these parts still.
async fn assert_parts(s: &Subject, upload: &UploadRef, expected: &[(u16, &[u8])]) {
    let request = ListParts {
        upload: upload.clone(),
        part_number_marker: 0,
        max_parts: 100,
    };
    let page = s.list_parts(request).await.unwrap();
    let found: Vec<_> = page
        .parts
        .iter()
        .map(|p| (p.part_number.get(), p.size, p.etag.clone()))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(n, b)| (*n, b.len() as u64, etag_of(b))).collect();
    assert_eq!(found, expected);
}

pub async fn parts_become_an_object(s: Subject) {
    let (one, two) = (noise(100_000, 1), noise(70_001, 2));
    let create = CreateMultipartUpload {
        attributes: attributes(),
        ..s.create_upload_request("dir/key")
    };
    let upload_id = s.create_multipart_upload(create).await.unwrap();
    let upload = s.upload_ref("dir/key", upload_id);
    let parts = vec![
        s.part(&upload, 1, one.clone()).await,
        s.part(&upload, 2, two.clone()).await,
    ];
    assert!(s.all_keys().await.is_empty(), "an upload is no object");
    assert_refused!(s.open("dir/key").await, BackendError::NoSuchKey);
    let made = s.complete(&upload, parts).await.unwrap();
    let whole = [one.clone(), two.clone()].concat();
    assert_eq!(made.key, s.key("dir/key"));
    assert_eq!(made.size, whole.len() as u64);
    assert_eq!(made.etag, etag_of_parts(&[&one, &two]));
    assert_eq!(made.parts_count, Some(2));
    assert_eq!(made.attributes.content, attributes().content);
    assert_eq!(made.attributes.user_metadata, attributes().user_metadata);
    assert_eq!(made.attributes.checksum, crc64(&whole));
    assert_eq!(s.info("dir/key").await, made);
    assert!(s.get("dir/key").await.unwrap() == whole);
    let across = read_range(s.open("dir/key").await.unwrap(), 99_990..100_020).await;
    assert!(across == whole[99_990..100_020]);
    assert_eq!(s.all_keys().await, ["dir/key"]);
}

pub async fn a_completed_upload_is_gone(s: Subject) {
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "x").await];
    s.complete(&upload, parts).await.unwrap();
    assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    assert_refused!(s.abort_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    assert_refused!(
        s.upload_part(&upload, part_number(2), ObjectBody::from_bytes("y"))
            .await,
        BackendError::NoSuchUpload
    );
    let request = ListParts {
        upload,
        part_number_marker: 0,
        max_parts: 10,
    };
    assert_refused!(s.list_parts(request).await, BackendError::NoSuchUpload);
    assert!(
        s.list_multipart_uploads(s.all_uploads())
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    assert_eq!(s.get("key").await.unwrap(), "x");
}

pub async fn parts_may_come_in_any_order_and_skip_numbers(s: Subject) {
    let upload = s.upload("key").await;
    let last = s.part(&upload, 10_000, "!").await;
    let first = s.part(&upload, 3, "hello, ").await;
    let middle = s.part(&upload, 77, "world").await;
    let made = s.complete(&upload, vec![first, middle, last]).await.unwrap();
    assert_eq!(made.parts_count, Some(3));
    assert_eq!(made.etag, etag_of_parts(&[b"hello, ", b"world", b"!"]));
    assert_eq!(s.get("key").await.unwrap(), "hello, world!");
}

pub async fn a_part_uploaded_again_replaces_the_first(s: Subject) {
    let upload = s.upload("key").await;
    let old = s.part(&upload, 1, noise(100_000, 1)).await;
    let second = s.part(&upload, 2, "second").await;
    let new = s.part(&upload, 1, "new, and shorter; ").await;
    assert_parts(&s, &upload, &[(1, b"new, and shorter; "), (2, b"second")]).await;
    assert_refused!(
        s.complete(&upload, vec![old, second.clone()]).await,
        BackendError::Assemble(AssembleError::InvalidPart(_))
    );
    let third = s.part(&upload, 2, noise(5000, 2)).await;
    s.complete(&upload, vec![new, third]).await.unwrap();
    let whole = [b"new, and shorter; ", &*noise(5000, 2)].concat();
    assert!(s.get("key").await.unwrap() == whole);
}

pub async fn parts_that_are_not_named_are_left_out(s: Subject) {
    let upload = s.upload("key").await;
    s.part(&upload, 1, "out").await;
    let two = s.part(&upload, 2, "in").await;
    s.part(&upload, 3, "out").await;
    let made = s.complete(&upload, vec![two]).await.unwrap();
    assert_eq!((made.size, made.parts_count), (2, Some(1)));
    assert_eq!(s.get("key").await.unwrap(), "in");
}

pub async fn parts_of_all_sizes_are_joined_right(s: Subject) {
    let upload = s.upload("key").await;
    let sizes = [65_536, 65_536, 65_536, 1, 65_535, 4096, 0, 1 << 20, 65_536, 3];
    let mut parts = Vec::new();
    let mut whole = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        let bytes = noise(size, i as u64);
        whole.extend_from_slice(&bytes);
        parts.push(s.part(&upload, i as u16 * 2 + 1, bytes).await);
    }
    let made = s.complete(&upload, parts).await.unwrap();
    assert_eq!(made.size, whole.len() as u64);
    assert_eq!(made.attributes.checksum, crc64(&whole));
    assert!(s.get("key").await.unwrap() == whole);
}

pub async fn an_upload_of_one_empty_part_is_an_empty_object(s: Subject) {
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "").await];
    let made = s.complete(&upload, parts).await.unwrap();
    assert_eq!((made.size, made.parts_count), (0, Some(1)));
    assert_eq!(made.etag, etag_of_parts(&[b""]));
    assert_eq!(s.get("key").await.unwrap(), "");
}

pub async fn completing_replaces_an_object(s: Subject) {
    let old = noise(50_000, 9);
    s.put("key", old.clone()).await;
    let open = s.open("key").await.unwrap();
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "new").await];
    assert!(s.get("key").await.unwrap() == old);
    s.complete(&upload, parts).await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "new");
    match try_read_whole(open).await {
        Ok(bytes) => assert!(bytes == old),
        Err(BackendError::Conflict) if !s.capabilities(Some(&s.bucket)).stable_reads => {}
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(s.put("key", "newer").await.parts_count, None);
    assert!(
        s.open("key")
            .await
            .unwrap()
            .reader
            .parts(0, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn an_object_knows_its_parts(s: Subject) {
    let upload = s.upload("key").await;
    let pieces = [(2, "one"), (5, ""), (6, "three"), (9999, "four")];
    let mut parts = Vec::new();
    for (number, bytes) in pieces {
        parts.push(s.part(&upload, number, bytes).await);
    }
    s.complete(&upload, parts).await.unwrap();
    let expected: Vec<ObjectPart> = pieces
        .iter()
        .map(|(number, bytes)| ObjectPart {
            part_number: part_number(*number),
            size: bytes.len() as u64,
            checksum: crc64(bytes.as_bytes()),
        })
        .collect();
    let open = s.open("key").await.unwrap();
    assert_eq!(open.info.parts_count, Some(4));
    assert_eq!(open.reader.parts(0, 100).await.unwrap(), expected);
    assert_eq!(open.reader.parts(0, 2).await.unwrap(), expected[..2]);
    assert_eq!(open.reader.parts(2, 2).await.unwrap(), expected[1..3]);
    assert_eq!(open.reader.parts(3, 1).await.unwrap(), expected[1..2]);
    assert_eq!(open.reader.parts(6, 100).await.unwrap(), expected[3..]);
    assert!(open.reader.parts(9999, 100).await.unwrap().is_empty());
    assert!(open.reader.parts(0, 0).await.unwrap().is_empty());
    s.put("key", "replaced").await;
    assert_eq!(open.reader.parts(0, 100).await.unwrap(), expected);
}

pub async fn an_aborted_upload_is_gone(s: Subject) {
    s.put("key", "old").await;
    let upload = s.upload("key").await;
    let other = s.upload("key").await;
    let part = s.part(&upload, 1, "x").await;
    s.part(&other, 1, "y").await;
    s.abort_multipart_upload(&upload).await.unwrap();
    assert_refused!(s.abort_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    assert_refused!(s.complete(&upload, vec![part]).await, BackendError::NoSuchUpload);
    assert_refused!(
        s.upload_part(&upload, part_number(1), ObjectBody::from_bytes("x"))
            .await,
        BackendError::NoSuchUpload
    );
    assert_eq!(s.get("key").await.unwrap(), "old");
    assert_parts(&s, &other, &[(1, b"y")]).await;
}

pub async fn an_unknown_upload_is_no_upload(s: Subject) {
    let known = s.upload("key").await;
    let part = s.part(&known, 1, "x").await;
    let unknown = [
        s.upload_ref("key", UploadId::random().unwrap()),
        s.upload_ref("key", UploadId::parse("x").unwrap()),
        s.upload_ref("key", UploadId::parse("-".repeat(128)).unwrap()),
        s.upload_ref("other", known.upload_id.clone()),
    ];
    for upload in unknown {
        assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchUpload);
        assert_refused!(s.abort_multipart_upload(&upload).await, BackendError::NoSuchUpload);
        assert_refused!(
            s.complete(&upload, vec![part.clone()]).await,
            BackendError::NoSuchUpload
        );
        assert_refused!(
            s.upload_part(&upload, part_number(1), ObjectBody::from_bytes("y"))
                .await,
            BackendError::NoSuchUpload
        );
        let request = ListParts {
            upload,
            part_number_marker: 0,
            max_parts: 1,
        };
        assert_refused!(s.list_parts(request).await, BackendError::NoSuchUpload);
    }
    assert_parts(&s, &known, &[(1, b"x")]).await;
}

pub async fn an_upload_tells_what_it_was_created_with(s: Subject) {
    let declared = [
        None,
        Some((ChecksumAlgorithm::Sha256, ChecksumType::Composite)),
        Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject)),
    ];
    for checksum in declared {
        let request = CreateMultipartUpload {
            checksum,
            ..s.create_upload_request("dir/key")
        };
        let upload_id = s.create_multipart_upload(request).await.unwrap();
        let upload = s.upload_ref("dir/key", upload_id.clone());
        let head = s.head_multipart_upload(&upload).await.unwrap();
        let expected = MultipartUpload {
            key: s.key("dir/key"),
            upload_id,
            initiated: head.initiated,
            initiator: s.owner.clone(),
            checksum,
        };
        assert_eq!(head, expected);
        let request = ListParts {
            upload: upload.clone(),
            part_number_marker: 0,
            max_parts: 1,
        };
        assert_eq!(s.list_parts(request).await.unwrap().upload, expected);
    }
}
