//! Parts that fail, are dropped, or come when their upload has ended.

use tokio::task::JoinHandle;

use super::assert_parts;
use crate::{
    BackendError, BodySummary, ChecksumAlgorithm, Part, UploadRef,
    conformance::{
        FailingBody, Gate, ScriptedBody, Subject, gate,
        subject::{noise, part_number, soon},
    },
};

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
) -> (Gate, JoinHandle<Result<Part, BackendError>>) {
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
