//! Runs a history on both sides, and compares.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use proptest::test_runner::{Config, TestRunner};
use t2gate_backends::{
    AssembleError, Backend, BackendError, CompletedPart, CopyObject, ETag, IfMatch, ListEntry, ListMultipartUploads,
    ListObjects, ListParts, ObjectBody, PartNumber, UploadEntry, UploadId, UploadRef, WriteCondition,
    conformance::{FailingBody, Subject},
};

use crate::{
    op::{self, Condition, Fault, Op},
    reference::{Answer, Page, Reference, Refusal, md5_of},
};

/// Runs `cases` histories, each in a bucket of its own, and shrinks one that fails.
pub(crate) fn check<G>(open: impl FnOnce() -> (Arc<dyn Backend>, G), cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (backend, _guard) = runtime.block_on(async { open() });
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&op::history(), |history| {
        runtime.block_on(run(Arc::clone(&backend), &history));
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

/// Runs one history, comparing after each step.
pub(crate) async fn run(backend: Arc<dyn Backend>, history: &[Op]) {
    let mut both = Both {
        subject: Subject::new(backend).await,
        reference: Reference::default(),
        upload_ids: Vec::new(),
    };
    for op in history {
        both.step(op).await;
        both.compare().await;
    }
}

struct Both {
    subject: Subject,
    reference: Reference,
    /// The ids of the reference's uploads.
    upload_ids: Vec<UploadId>,
}

impl Both {
    async fn step(&mut self, op: &Op) {
        let s = self.subject.clone();
        let (found, expected) = match op.clone() {
            Op::Put { key, body, condition } => {
                let given = self.condition(key, condition);
                (
                    done(s.put_if(given, key, body.bytes()).await),
                    self.reference.put(key, body.bytes(), condition),
                )
            }
            Op::PutFailing { key, body, at } => {
                let failing = FailingBody::at(body.bytes(), at.min(body.len));
                (done(s.put_body(key, failing).await), Answer::Refused(Refusal::Body))
            }
            Op::Delete { key, condition } => {
                let found = match s.delete_if(self.condition(key, condition), key).await {
                    Ok(outcome) => Answer::Deleted(outcome.existed),
                    Err(error) => Answer::Refused(refusal(error)),
                };
                (found, self.reference.delete(key, condition))
            }
            Op::Copy {
                from,
                to,
                stale,
                condition,
            } => {
                let request = self.copy(from, to, stale, condition);
                (
                    done(s.copy_object(request).await),
                    self.reference.copy(from, to, stale, condition),
                )
            }
            Op::Read { key, start, len } => return self.read(key, start, len).await,
            Op::List {
                prefix,
                delimiter,
                start_after,
                max_keys,
            } => {
                let request = ListObjects {
                    prefix: prefix.into(),
                    delimiter: delimiter.map(Into::into),
                    start_after: start_after.map(Into::into),
                    max_keys,
                    ..s.everything()
                };
                let expected = self.reference.list(prefix, delimiter, start_after, max_keys);
                assert_eq!(list(&s, request).await, expected, "{op:?}");
                return;
            }
            Op::CreateUpload { key } => {
                self.upload_ids.push(s.upload(key).await.upload_id);
                self.reference.uploads.push(crate::reference::Upload {
                    key,
                    ..Default::default()
                });
                return;
            }
            Op::Part { upload, number, body } => {
                let Some((index, upload)) = self.upload(upload) else {
                    return;
                };
                let number_checked = PartNumber::new(number).unwrap();
                let sent = ObjectBody::from_bytes(body.bytes());
                (
                    done(s.upload_part(&upload, number_checked, sent).await),
                    self.reference.part(index, number, body.bytes()),
                )
            }
            Op::Complete {
                upload,
                leave_out,
                fault,
                condition,
            } => {
                let Some((index, upload)) = self.upload(upload) else {
                    return;
                };
                let found = self.complete(index, &upload, leave_out, fault, condition).await;
                (found, self.reference.complete(index, leave_out, fault, condition))
            }
            Op::Abort { upload } => {
                let Some((index, upload)) = self.upload(upload) else {
                    return;
                };
                (
                    done(s.abort_multipart_upload(&upload).await),
                    self.reference.abort(index),
                )
            }
            Op::ListUploads {
                prefix,
                delimiter,
                max_uploads,
            } => {
                let request = ListMultipartUploads {
                    prefix: prefix.into(),
                    delimiter: delimiter.map(Into::into),
                    max_uploads,
                    ..s.all_uploads()
                };
                let expected = self.reference.list_uploads(prefix, delimiter, max_uploads);
                assert_eq!(list_uploads(&s, request).await, expected, "{op:?}");
                return;
            }
        };
        assert_eq!(found, expected, "{op:?}");
    }

    fn condition(&self, key: &str, condition: Condition) -> WriteCondition {
        let current = self.reference.etag(key).cloned().unwrap_or_else(other_etag);
        let (if_match, if_none_match) = match condition {
            Condition::None => (None, false),
            Condition::Absent => (None, true),
            Condition::Present => (Some(IfMatch::Any), false),
            Condition::MatchCurrent => (Some(IfMatch::OneOf(vec![other_etag(), current])), false),
            Condition::MatchOther => (Some(IfMatch::OneOf(vec![other_etag()])), false),
        };
        WriteCondition {
            if_match,
            if_none_match,
            keep_all: false,
        }
    }

    fn copy(&self, from: &str, to: &str, stale: bool, condition: Condition) -> CopyObject {
        let current = self.reference.etag(from).cloned().filter(|_| !stale);
        CopyObject {
            source: self.subject.object(from),
            source_etag: current.unwrap_or_else(other_etag),
            bucket: self.subject.bucket.clone(),
            key: self.subject.key(to),
            attributes: Default::default(),
            condition: self.condition(to, condition),
            versions: None,
        }
    }

    async fn read(&self, key: &str, start: u64, len: u64) {
        let Some(object) = self.reference.objects.get(key) else {
            assert!(self.subject.get(key).await.is_none());
            return;
        };
        let size = object.bytes.len() as u64;
        let start = start.min(size);
        let end = (start + len).min(size);
        let mut stream = self.subject.open(key).await.unwrap().reader.read(start..end);
        let mut read = Vec::new();
        while let Some(piece) = stream.next().await {
            read.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(read, object.bytes[start as usize..end as usize]);
    }

    fn upload(&self, upload: usize) -> Option<(usize, UploadRef)> {
        let index = upload.checked_rem(self.upload_ids.len())?;
        let key = self.reference.uploads[index].key;
        Some((index, self.subject.upload_ref(key, self.upload_ids[index].clone())))
    }

    async fn complete(
        &self,
        index: usize,
        upload: &UploadRef,
        leave_out: u8,
        fault: Fault,
        condition: Condition,
    ) -> Answer {
        let named = self.reference.named(index, leave_out);
        let size: u64 = named.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let part = |number, etag| CompletedPart {
            part_number: PartNumber::new(number).unwrap(),
            etag,
            checksum: None,
        };
        let mut parts: Vec<CompletedPart> = named
            .iter()
            .map(|(number, bytes)| part(*number, ETag::from_md5(md5_of(bytes))))
            .collect();
        match fault {
            Fault::Order => parts.reverse(),
            Fault::ETag => parts.iter_mut().take(1).for_each(|part| part.etag = other_etag()),
            Fault::Absent => parts.push(part(100, other_etag())),
            Fault::None | Fault::Size | Fault::MinPartSize => {}
        }
        let mut request = self.subject.complete_request(upload, parts);
        request.size = Some(size + u64::from(matches!(fault, Fault::Size)));
        request.min_part_size = if matches!(fault, Fault::MinPartSize) { 12 } else { 0 };
        request.condition = self.condition(upload.key.as_str(), condition);
        done(self.subject.complete_multipart_upload(request).await)
    }

    /// All that can be seen: the listing, each object's bytes and ETag, each upload's parts.
    async fn compare(&self) {
        let s = &self.subject;
        let page = s.list_objects(s.everything()).await.unwrap();
        let listed = page.entries.iter().map(|entry| match entry {
            ListEntry::Object(info) => (info.key.as_str(), info.size, &info.etag),
            ListEntry::CommonPrefix(_) => panic!("{entry:?} without a delimiter"),
        });
        let objects = self.reference.objects.iter();
        let expected = objects.map(|(key, object)| (*key, object.bytes.len() as u64, &object.etag));
        assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        for key in op::KEYS {
            let expected = self.reference.objects.get(key).map(|o| Bytes::from(o.bytes.clone()));
            assert_eq!(s.get(key).await, expected, "{key:?}");
        }
        for (index, upload) in self.reference.uploads.iter().enumerate() {
            let request = ListParts {
                upload: s.upload_ref(upload.key, self.upload_ids[index].clone()),
                part_number_marker: 0,
                max_parts: 100,
            };
            match s.list_parts(request).await {
                Err(BackendError::NoSuchUpload) => assert!(upload.gone, "an upload was lost"),
                Ok(page) => {
                    assert!(!upload.gone, "an upload is still there");
                    let found = page
                        .parts
                        .iter()
                        .map(|part| (part.part_number.get(), part.etag.clone()));
                    let parts = upload.parts.iter();
                    let expected = parts.map(|(number, bytes)| (*number, ETag::from_md5(md5_of(bytes))));
                    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

fn other_etag() -> ETag {
    ETag::parse("of-no-object").unwrap()
}

fn done<T>(result: Result<T, BackendError>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(error) => Answer::Refused(refusal(error)),
    }
}

fn refusal(error: BackendError) -> Refusal {
    match error {
        BackendError::NoSuchKey => Refusal::NoSuchKey,
        BackendError::NoSuchUpload => Refusal::NoSuchUpload,
        BackendError::PreconditionFailed => Refusal::PreconditionFailed,
        BackendError::Conflict => Refusal::Conflict,
        BackendError::Body(_) => Refusal::Body,
        BackendError::Assemble(AssembleError::NoParts) => Refusal::NoParts,
        BackendError::Assemble(AssembleError::InvalidPartOrder) => Refusal::InvalidPartOrder,
        BackendError::Assemble(AssembleError::InvalidPart(_)) => Refusal::InvalidPart,
        BackendError::Assemble(AssembleError::EntityTooSmall { .. }) => Refusal::EntityTooSmall,
        BackendError::Assemble(AssembleError::SizeMismatch { .. }) => Refusal::SizeMismatch,
        other => panic!("a refusal that no step of the history gives cause for: {other:?}"),
    }
}

async fn list(s: &Subject, request: ListObjects) -> Page {
    let page = s.list_objects(request).await.unwrap();
    let entries = page.entries.iter();
    let names = entries.map(|entry| (entry.name().to_owned(), matches!(entry, ListEntry::CommonPrefix(_))));
    (names.collect(), page.is_truncated)
}

async fn list_uploads(s: &Subject, request: ListMultipartUploads) -> Page {
    let page = s.list_multipart_uploads(request).await.unwrap();
    let names = page.entries.iter().map(|entry| match entry {
        UploadEntry::Upload(upload) => (upload.key.as_str().to_owned(), false),
        UploadEntry::CommonPrefix(prefix) => (prefix.to_string(), true),
    });
    (names.collect(), page.is_truncated)
}
