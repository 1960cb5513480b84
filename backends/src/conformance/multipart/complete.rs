//! CompleteMultipartUpload: what it refuses, which checksum it gives, and that it can be repeated.

use super::{assert_parts, crc64};
use crate::{
    AssembleError, BackendError, BodySummary, Checksum, ChecksumAlgorithm, ChecksumType, CompleteMultipartUpload,
    CompletedPart, CreateMultipartUpload, UploadRef, WriteCondition,
    conformance::{
        ScriptedBody, Subject, completed,
        subject::{etag_of, if_absent, if_match, if_present, part_number},
    },
};

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
