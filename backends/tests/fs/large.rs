//! Uploads of more data than is left in the system's memory: what has come goes to the disk while the rest comes.
//!
//! Syncs are held and made to fail for the whole process, so each test runs itself as a child that runs nothing else.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use rustix::io::Errno;
use t2gate_backends::{
    BackendError, BodyError, BodyEvent, BodySource, BodySummary, ChecksumAlgorithm, Durability, ObjectBody,
    conformance::Subject,
    crash_points::{Call, disarm, fail, hold_syncs},
};
use tempfile::TempDir;

use crate::is_child;

const MIB: usize = 1 << 20;
/// More than comes in before data is synced for the first time, but not for the second.
const SIZE: usize = 30 * MIB;

/// A body in pieces, and what happens when the last of them is asked for.
struct Pieces<F> {
    whole: Bytes,
    given: usize,
    at_the_last: F,
}

impl<F: FnMut() + Send + Unpin + 'static> Pieces<F> {
    fn body(whole: &Bytes, at_the_last: F) -> ObjectBody {
        let source = Self {
            whole: whole.clone(),
            given: 0,
            at_the_last,
        };
        ObjectBody::new(whole.len() as u64, source)
    }
}

impl<F: FnMut() + Send + Unpin> BodySource for Pieces<F> {
    fn poll_event(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
        let rest = self.whole.slice(self.given..);
        if rest.is_empty() {
            let summary = BodySummary::of(&self.whole, ChecksumAlgorithm::Crc64Nvme);
            return Poll::Ready(Ok(BodyEvent::End(summary)));
        }
        if rest.len() <= MIB {
            (self.at_the_last)();
        }
        let piece = rest.slice(..rest.len().min(MIB));
        self.given += piece.len();
        Poll::Ready(Ok(BodyEvent::Data(piece)))
    }
}

fn content(seed: u8) -> Bytes {
    (0..SIZE).map(|n| (n % 251) as u8 ^ seed).collect()
}

async fn open() -> (Subject, TempDir) {
    let root = tempfile::tempdir().unwrap();
    let subject = crate::ops::subject(root.path(), "bucket", Durability::PowerSafe).await;
    (subject, root)
}

#[tokio::test]
async fn a_body_comes_in_while_what_has_come_is_synced() {
    if !is_child("large::a_body_comes_in_while_what_has_come_is_synced") {
        return;
    }
    let (subject, _root) = open().await;
    let whole = content(1);
    hold_syncs(true);
    // No sync ends before the last piece is asked for.
    let body = Pieces::body(&whole, || hold_syncs(false));
    let put = tokio::time::timeout(Duration::from_secs(60), subject.put_body("a", body)).await;
    hold_syncs(false);
    put.expect("the body waited for a sync").unwrap();
    assert_eq!(subject.get("a").await, Some(whole));
}

#[tokio::test]
async fn a_sync_that_fails_while_a_body_comes_fails_the_write() {
    if !is_child("large::a_sync_that_fails_while_a_body_comes_fails_the_write") {
        return;
    }
    let (subject, root) = open().await;
    subject.put("a", "old").await;
    let whole = content(2);
    // The kernel tells an error once: the syncs after this one succeed.
    fail(&[Call::Sync], Errno::IO.raw_os_error(), 0);
    let error = subject.put_body("a", Pieces::body(&whole, || ())).await.unwrap_err();
    assert!(disarm());
    assert!(error.to_string().contains("could not sync"), "{error}");
    assert_eq!(subject.get("a").await, Some(Bytes::from("old")));
    assert_eq!(crate::crash::litter(root.path()), Vec::<String>::new());
    // Nothing of it was visible, so all goes on.
    subject.put_body("a", Pieces::body(&whole, || ())).await.unwrap();
    assert_eq!(subject.get("a").await, Some(whole));
    assert!(!matches!(subject.ready().await, Err(BackendError::ReadOnly)));
}
