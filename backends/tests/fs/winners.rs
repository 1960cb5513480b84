//! P4: of writes on one condition one wins, whatever kinds of writes they are.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use t2gate_backends::{
    BackendError, CompleteMultipartUpload, CopyObject, Durability, IfMatch, ObjectBody, PutObject, WriteCondition,
    conformance::Subject, crash_points,
};
use tokio::sync::Barrier;

use crate::{
    dir_in_memory, is_child,
    ops::{perform, subject},
};

/// One that is about to be made, on the condition that the key is as it was when it was prepared.
pub(crate) enum Write {
    Put(PutObject, Bytes),
    Copy(CopyObject),
    Complete(CompleteMultipartUpload),
}

impl Write {
    pub(crate) const KINDS: [&str; 3] = ["put", "copy", "complete"];

    pub(crate) async fn prepare(subject: &Subject, kind: &str, key: &str, bytes: &str) -> Self {
        let condition = match subject.open(key).await {
            Ok(there) => WriteCondition {
                if_match: Some(IfMatch::OneOf(vec![there.info.etag])),
                ..WriteCondition::default()
            },
            Err(BackendError::NoSuchKey) => WriteCondition {
                if_none_match: true,
                ..WriteCondition::default()
            },
            Err(error) => panic!("{error}"),
        };
        let bytes = Bytes::from(bytes.to_owned());
        match kind {
            "put" => {
                let request = PutObject {
                    condition,
                    ..subject.put_request(key)
                };
                Self::Put(request, bytes)
            }
            "copy" => {
                let source = subject.put(&format!("sources/{key}/{bytes:?}"), bytes).await;
                Self::Copy(CopyObject {
                    source: subject.object(source.key.as_str()),
                    source_etag: source.etag,
                    bucket: subject.bucket.clone(),
                    key: subject.key(key),
                    attributes: source.attributes,
                    condition,
                    versions: None,
                })
            }
            _ => {
                let upload = subject.upload(key).await;
                let part = subject.part(&upload, 1, bytes).await;
                Self::Complete(CompleteMultipartUpload {
                    condition,
                    ..subject.complete_request(&upload, vec![part])
                })
            }
        }
    }

    /// Whether it is made.
    pub(crate) async fn wins(self, subject: &Subject) -> bool {
        let outcome = match self {
            Self::Put(request, bytes) => subject.put_object(request, ObjectBody::from_bytes(bytes)).await,
            Self::Copy(request) => subject.copy_object(request).await,
            Self::Complete(request) => subject.complete_multipart_upload(request).await,
        };
        match outcome {
            Ok(_) => true,
            Err(BackendError::PreconditionFailed) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writes_of_all_kinds_one_wins() {
    if !is_child("winners::of_writes_of_all_kinds_one_wins") {
        return;
    }
    for is_versioned in [false, true] {
        let root = dir_in_memory();
        let subject = subject(root.path(), "bucket", Durability::ProcessSafe).await;
        if is_versioned {
            perform(&subject, "enable").await;
        }
        for round in 0..20 {
            let key = if round % 4 < 2 {
                "key".to_owned()
            } else {
                format!("new/{round}")
            };
            let mut writes = Vec::new();
            for kind in Write::KINDS {
                for n in 0..2 {
                    let bytes = format!("{kind} {n} of {round}");
                    writes.push((Write::prepare(&subject, kind, &key, &bytes).await, bytes));
                }
            }
            crash_points::delay_changes(Duration::from_micros(300));
            let barrier = Arc::new(Barrier::new(writes.len()));
            let racing: Vec<_> = writes
                .into_iter()
                .map(|(write, bytes)| {
                    let (subject, barrier) = (subject.clone(), Arc::clone(&barrier));
                    tokio::spawn(async move {
                        barrier.wait().await;
                        write.wins(&subject).await.then_some(bytes)
                    })
                })
                .collect();
            let mut winners = Vec::new();
            for racing in racing {
                winners.extend(racing.await.unwrap());
            }
            crash_points::delay_changes(Duration::ZERO);
            assert_eq!(winners.len(), 1, "{winners:?}");
            assert_eq!(subject.get(&key).await.unwrap(), winners[0]);
        }
    }
}
