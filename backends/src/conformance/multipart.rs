//! Multipart uploads: parts, what they make, and when they do not.

use super::{
    FailingBody, ScriptedBody, Subject, completed, gate,
    objects::attributes,
    subject::{etag_of, if_absent, if_match, if_present, noise, part_number, read_range, soon},
};
use crate::{
    AssembleError, BackendError, BodySummary, Checksum, ChecksumAlgorithm, ChecksumType, CompleteMultipartUpload,
    CompletedPart, CreateMultipartUpload, ETag, ListParts, MultipartUpload, ObjectBody, ObjectPart, UploadId,
    UploadRef, WriteCondition,
};

fn crc64(bytes: &[u8]) -> Option<Checksum> {
    Some(BodySummary::of(bytes, ChecksumAlgorithm::Crc64Nvme).checksum)
}

fn etag_of_parts(parts: &[&[u8]]) -> ETag {
    let md5s: Vec<_> = parts.iter().map(|p| etag_of(p).as_md5().unwrap()).collect();
    ETag::of_parts(&md5s)
}

/// An upload that declares its checksum.
async fn upload_with(s: &Subject, checksum: (ChecksumAlgorithm, ChecksumType)) -> UploadRef {
    let request = CreateMultipartUpload {
        checksum: Some(checksum),
        ..s.create_upload_request("key")
    };
    s.upload_ref("key", s.create_multipart_upload(request).await.unwrap())
}

/// Uploads a part with a checksum, and names it with that.
async fn checked_part(
    s: &Subject,
    upload: &UploadRef,
    number: u16,
    bytes: &'static [u8],
    algorithm: ChecksumAlgorithm,
) -> CompletedPart {
    let body = ScriptedBody::good(bytes, 2, algorithm);
    let part = s.upload_part(upload, part_number(number), body).await.unwrap();
    assert_eq!(part.checksum, Some(BodySummary::of(bytes, algorithm).checksum));
    CompletedPart {
        checksum: part.checksum.clone(),
        ..completed(&part)
    }
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
    match super::subject::try_read_whole(open).await {
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

/// Each refusal leaves the upload, and what is under the key, as they were.
pub async fn a_refused_complete_changes_nothing(s: Subject) {
    s.put("key", "old").await;
    let upload = s.upload("key").await;
    let one = s.part(&upload, 1, "one").await;
    let two = s.part(&upload, 2, "two").await;
    let good = s.complete_request(&upload, vec![one.clone(), two.clone()]);
    let with = |parts: Vec<CompletedPart>| CompleteMultipartUpload { parts, ..good.clone() };
    let wrong_etag = CompletedPart {
        etag: two.etag.clone(),
        ..one.clone()
    };
    let absent = CompletedPart {
        part_number: part_number(3),
        ..one.clone()
    };
    let wrong_checksum = CompletedPart {
        checksum: crc64(b"two"),
        ..one.clone()
    };
    let invalid_one = AssembleError::InvalidPart(part_number(1));
    let cases: Vec<(CompleteMultipartUpload, AssembleError)> = vec![
        (with(vec![]), AssembleError::NoParts),
        (with(vec![two.clone(), one.clone()]), AssembleError::InvalidPartOrder),
        (with(vec![one.clone(), one.clone()]), AssembleError::InvalidPartOrder),
        (with(vec![wrong_etag, two.clone()]), invalid_one.clone()),
        (
            with(vec![one.clone(), two.clone(), absent]),
            AssembleError::InvalidPart(part_number(3)),
        ),
        (with(vec![wrong_checksum, two.clone()]), invalid_one),
        (
            CompleteMultipartUpload {
                min_part_size: 4,
                ..good.clone()
            },
            AssembleError::EntityTooSmall {
                part_number: part_number(1),
                size: 3,
                min: 4,
            },
        ),
        (
            CompleteMultipartUpload {
                size: Some(7),
                ..good.clone()
            },
            AssembleError::SizeMismatch { expected: 7, actual: 6 },
        ),
        (
            CompleteMultipartUpload {
                checksum: crc64(b"other"),
                ..good.clone()
            },
            AssembleError::BadDigest,
        ),
        (
            CompleteMultipartUpload {
                checksum_type: Some(ChecksumType::Composite),
                ..good.clone()
            },
            AssembleError::ChecksumTypeMismatch(ChecksumType::FullObject),
        ),
    ];
    for (request, refusal) in cases {
        match s.complete_multipart_upload(request).await {
            Err(BackendError::Assemble(found)) => assert_eq!(found, refusal),
            other => panic!("expected {refusal:?}, not {other:?}"),
        }
        assert_parts(&s, &upload, &[(1, b"one"), (2, b"two")]).await;
        assert_eq!(s.get("key").await.unwrap(), "old");
    }
    let exact = CompleteMultipartUpload {
        size: Some(6),
        checksum: crc64(b"onetwo"),
        checksum_type: Some(ChecksumType::FullObject),
        min_part_size: 3,
        ..good
    };
    s.complete_multipart_upload(exact).await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "onetwo");
}

pub async fn the_last_part_may_be_small(s: Subject) {
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "large").await, s.part(&upload, 2, "s").await];
    let request = CompleteMultipartUpload {
        min_part_size: 5,
        ..s.complete_request(&upload, parts)
    };
    s.complete_multipart_upload(request).await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "larges");
}

pub async fn full_object_checksums_are_those_of_the_whole(s: Subject) {
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
    ] {
        let upload = upload_with(&s, (algorithm, ChecksumType::FullObject)).await;
        let parts = vec![
            checked_part(&s, &upload, 1, b"hello, ", algorithm).await,
            checked_part(&s, &upload, 2, b"world", algorithm).await,
        ];
        let whole = BodySummary::of(b"hello, world", algorithm).checksum;
        let wrong = CompleteMultipartUpload {
            checksum: Some(BodySummary::of(b"other", algorithm).checksum),
            ..s.complete_request(&upload, parts.clone())
        };
        assert_refused!(
            s.complete_multipart_upload(wrong).await,
            BackendError::Assemble(AssembleError::BadDigest)
        );
        let request = CompleteMultipartUpload {
            checksum: Some(whole.clone()),
            checksum_type: Some(ChecksumType::FullObject),
            ..s.complete_request(&upload, parts)
        };
        let made = s.complete_multipart_upload(request).await.unwrap();
        assert_eq!(made.attributes.checksum, Some(whole));
        assert_eq!(s.info("key").await, made);
    }
}

pub async fn composite_checksums_are_those_of_the_parts(s: Subject) {
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let upload = upload_with(&s, (algorithm, ChecksumType::Composite)).await;
        let parts = vec![
            checked_part(&s, &upload, 1, b"hello, ", algorithm).await,
            checked_part(&s, &upload, 2, b"world", algorithm).await,
        ];
        let silent = CompletedPart {
            checksum: None,
            ..parts[0].clone()
        };
        assert_refused!(
            s.complete(&upload, vec![silent, parts[1].clone()]).await,
            BackendError::Assemble(AssembleError::MissingPartChecksum(_))
        );
        let of_parts: Vec<_> = parts.iter().map(|p| p.checksum.clone().unwrap()).collect();
        let composite = Checksum::composite(algorithm, of_parts.iter().map(|c| &*c.value));
        let made = s.complete(&upload, parts).await.unwrap();
        assert_eq!(made.attributes.checksum, Some(composite));
        assert_eq!(s.info("key").await, made);
    }
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

pub async fn a_repeated_complete_gives_the_same_answer(s: Subject) {
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "one").await, s.part(&upload, 2, "two").await];
    let request = CompleteMultipartUpload {
        condition: if s.capabilities(Some(&s.bucket)).conditional_writes {
            if_absent()
        } else {
            WriteCondition::default()
        },
        ..s.complete_request(&upload, parts)
    };
    let made = s.complete_multipart_upload(request.clone()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(s.complete_multipart_upload(request.clone()).await.unwrap(), made);
    }
    assert_eq!(s.info("key").await, made);
    s.put("key", "newer").await;
    assert_refused!(
        s.complete_multipart_upload(request.clone()).await,
        BackendError::NoSuchUpload
    );
    assert_eq!(s.get("key").await.unwrap(), "newer");
    s.delete("key").await;
    assert_refused!(s.complete_multipart_upload(request).await, BackendError::NoSuchUpload);
    assert!(s.get("key").await.is_none());
}

pub async fn a_complete_can_be_conditional(s: Subject) {
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "made").await];
    let conditional = |condition| CompleteMultipartUpload {
        condition,
        ..s.complete_request(&upload, parts.clone())
    };
    if !s.capabilities(Some(&s.bucket)).conditional_writes {
        assert_refused!(
            s.complete_multipart_upload(conditional(if_absent())).await,
            BackendError::NotSupported { .. }
        );
        return;
    }
    assert_refused!(
        s.complete_multipart_upload(conditional(if_present())).await,
        BackendError::NoSuchKey
    );
    let there = s.put("key", "there").await;
    assert_refused!(
        s.complete_multipart_upload(conditional(if_absent())).await,
        BackendError::PreconditionFailed
    );
    assert_refused!(
        s.complete_multipart_upload(conditional(if_match(&[&etag_of(b"x")])))
            .await,
        BackendError::PreconditionFailed
    );
    assert_eq!(s.get("key").await.unwrap(), "there");
    assert_parts(&s, &upload, &[(1, b"made")]).await;
    s.complete_multipart_upload(conditional(if_match(&[&there.etag])))
        .await
        .unwrap();
    assert_eq!(s.get("key").await.unwrap(), "made");
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

pub async fn a_failed_part_leaves_the_old_one(s: Subject) {
    let upload = s.upload("key").await;
    for fail_at in [0, 5000, 10_000] {
        let body = FailingBody::at(noise(10_000, 1), fail_at);
        assert_refused!(
            s.upload_part(&upload, part_number(1), body).await,
            BackendError::Body(_)
        );
        assert_parts(&s, &upload, &[]).await;
    }
    let part = s.part(&upload, 1, "old").await;
    for fail_at in [0, 5000, 10_000] {
        let body = FailingBody::at(noise(10_000, 1), fail_at);
        assert_refused!(
            s.upload_part(&upload, part_number(1), body).await,
            BackendError::Body(_)
        );
        assert_parts(&s, &upload, &[(1, b"old")]).await;
    }
    s.complete(&upload, vec![part]).await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "old");
}

/// A part that comes to a pause after all of its bytes, and the task that uploads it.
fn paused_part(
    s: &Subject,
    upload: &UploadRef,
    bytes: &'static [u8],
) -> (super::Gate, tokio::task::JoinHandle<Result<crate::Part, BackendError>>) {
    let (pause, gate) = gate();
    let body = ScriptedBody::new(bytes.len() as u64)
        .data(bytes, 2)
        .pause(pause)
        .end(BodySummary::of(bytes, ChecksumAlgorithm::Crc64Nvme));
    let (s, upload) = (s.clone(), upload.clone());
    let task = tokio::spawn(async move { s.upload_part(&upload, part_number(1), body).await });
    (gate, task)
}

pub async fn a_dropped_part_leaves_the_old_one(s: Subject) {
    let upload = s.upload("key").await;
    let part = s.part(&upload, 1, "old").await;
    let (gate, task) = paused_part(&s, &upload, b"new bytes");
    soon(gate.reached).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    drop(gate.open);
    assert_parts(&s, &upload, &[(1, b"old")]).await;
    soon(s.complete(&upload, vec![part])).await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "old");
}

pub async fn a_part_still_being_written_fails_when_its_upload_is_aborted(s: Subject) {
    let upload = s.upload("key").await;
    let (gate, task) = paused_part(&s, &upload, b"bytes");
    soon(gate.reached).await.unwrap();
    soon(s.abort_multipart_upload(&upload)).await.unwrap();
    gate.open.send(()).unwrap();
    assert_refused!(task.await.unwrap(), BackendError::NoSuchUpload);
    assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    s.delete_emptied_bucket().await;
}

pub async fn a_part_still_being_written_does_not_reach_a_completed_object(s: Subject) {
    let upload = s.upload("key").await;
    let part = s.part(&upload, 1, "old bytes").await;
    let (gate, task) = paused_part(&s, &upload, b"new bytes");
    soon(gate.reached).await.unwrap();
    let made = soon(s.complete(&upload, vec![part])).await.unwrap();
    gate.open.send(()).unwrap();
    assert_refused!(task.await.unwrap(), BackendError::NoSuchUpload);
    assert_eq!(s.get("key").await.unwrap(), "old bytes");
    assert_eq!(s.info("key").await, made);
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
