//! From a request that is understood to its answer: authorization and dispatch over the memory backend.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use t2gate_backends::{
    BucketSetting, CallOutcome, CannedAcl, Clock as _, CompleteMultipartUpload, CompletedPart, CreateBucket,
    CreateMultipartUpload, DeleteObject as BackendDelete, Key, MemoryBackend, Metered, ObjectAttributes, ObjectBody,
    ObjectRef, Observer, PartNumber, PutObject as BackendPut, ReadCondition, TestClock, Timestamp, UploadRef,
    Versioned, VersioningStatus, WriteCondition,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::{
    body::{BodyPace, BoxBody, RequestBody},
    keys::{ApplicationKey, CapabilitySet, KeyKind},
    layer::{authorize, parse::Parsed, record::RequestRecord},
    rate_limit::KeyLimits,
    s3::{
        S3ErrorCode,
        operation::{
            CopyObject, CopySource, CreateBucket as CreateBucketOperation, DeleteObjects, EncodingType,
            GetObjectAttributes, ListObjectVersions, PutBucketAcl,
        },
    },
    sigv4::PayloadMode,
};

/// A request's body, fed by hand.
type Feed = mpsc::Sender<&'static str>;

struct Gateway {
    backend: Arc<dyn Backend>,
    clock: Arc<TestClock>,
}

fn account(id: &str) -> AccountId {
    AccountId::parse(id).unwrap()
}

fn bucket() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

fn object(key: &str) -> ObjectRef {
    ObjectRef {
        bucket: bucket(),
        key: Key::parse(key).unwrap(),
        version_id: None,
    }
}

fn put_of(key: &str) -> BackendPut {
    BackendPut {
        bucket: bucket(),
        key: Key::parse(key).unwrap(),
        attributes: ObjectAttributes::default(),
        condition: WriteCondition::default(),
        versions: None,
    }
}

impl Gateway {
    /// Over storage without versions.
    fn new() -> Self {
        let clock = Arc::new(TestClock::new(Timestamp::from_unix(1_800_000_000, 0)));
        Self {
            backend: Arc::new(MemoryBackend::new(clock.clone())),
            clock,
        }
    }

    fn versioned() -> Self {
        let Self { clock, .. } = Self::new();
        let memory = MemoryBackend::new(clock.clone());
        Self {
            backend: Arc::new(Versioned::new(memory, clock.clone()).unwrap()),
            clock,
        }
    }

    /// A bucket that is younger than all before it.
    async fn bucket_of(&self, owner: &str) {
        let later = self.clock.now().unix_nanos() + 1;
        self.clock.set(Timestamp::from_unix_nanos(later));
        let create = CreateBucket {
            bucket: bucket(),
            owner: account(owner),
            acl: CannedAcl::Private,
            max_buckets: 100,
            versioning: None,
        };
        self.backend.create_bucket(create).await.unwrap();
    }

    async fn put(&self, key: &str) {
        self.backend
            .put_object(put_of(key), ObjectBody::from_bytes(Bytes::new()))
            .await
            .unwrap();
    }

    /// Sends a request with a key of `owner` and a body of `length` bytes, which has yet to come.
    fn send(
        &self,
        owner: &str,
        operation: Operation,
        length: usize,
    ) -> (JoinHandle<Result<Response<ResponseBody>, S3ErrorCode>>, Feed) {
        self.send_recorded(owner, operation, length, RequestRecord::default())
    }

    fn send_recorded(
        &self,
        owner: &str,
        operation: Operation,
        length: usize,
        record: RequestRecord,
    ) -> (JoinHandle<Result<Response<ResponseBody>, S3ErrorCode>>, Feed) {
        let key = ApplicationKey {
            id: "key".into(),
            secret: "very-secret-indeed".into(),
            name: None,
            account: account(owner),
            kind: KeyKind::Global,
            buckets: Vec::new(),
            prefix: None,
            capabilities: CapabilitySet::all(),
            expires: None,
            created: None,
            revoked: false,
            rate_limit: KeyLimits::default(),
        };
        let (feed, mut fed) = mpsc::channel::<&'static str>(8);
        let pieces = futures::stream::poll_fn(move |cx| {
            fed.poll_recv(cx)
                .map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
        });
        let pace = BodyPace {
            idle_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(60),
            min_bytes_per_second: 0,
        };
        let headers = HeaderMap::from_iter([(HeaderName::from_static("content-length"), HeaderValue::from(length))]);
        let request = Parsed {
            operation,
            requester: Requester::Key(Arc::new(key)),
            body: UnverifiedBody {
                body: RequestBody::new(BoxBody::new(StreamBody::new(pieces)), pace),
                headers,
                payload: PayloadMode::Unsigned,
                signer: None,
            },
            record,
        };
        let settings = Settings {
            dialect: Dialect::T2,
            region: "us-east-1".into(),
            keys: Arc::new(KeyStore::new(crate::keys::KeyTable::default())),
            max_buckets: 100,
            ignore_object_acl: false,
        };
        let service = authorize::layer(self.backend.clone(), Dialect::T2).layer(Dispatch::new(
            self.backend.clone(),
            settings,
            Writes::default(),
        ));
        let answer = tokio::spawn(async move { service.oneshot(request).await.map_err(|error| error.code()) });
        (answer, feed)
    }

    /// The document that answers a request without a body.
    async fn ask(&self, owner: &str, operation: Operation) -> String {
        let (answer, feed) = self.send(owner, operation, 0);
        drop(feed);
        let body = answer.await.unwrap().unwrap().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap()
    }

    /// The key of an object that was uploaded in two parts.
    async fn object_of_two_parts(&self) -> &'static str {
        let (bucket, key) = (bucket(), Key::parse("parts").unwrap());
        let create = CreateMultipartUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            initiator: account("alice"),
            attributes: ObjectAttributes::default(),
            checksum: None,
        };
        let upload_id = self.backend.create_multipart_upload(create).await.unwrap();
        let upload = UploadRef { bucket, key, upload_id };
        let mut parts = Vec::new();
        for number in [1, 2] {
            let number = PartNumber::new(number).unwrap();
            let body = ObjectBody::from_bytes("bytes");
            let part = self.backend.upload_part(&upload, number, body).await.unwrap();
            parts.push(CompletedPart {
                part_number: number,
                etag: part.etag,
                checksum: None,
            });
        }
        let complete = CompleteMultipartUpload {
            upload,
            parts,
            condition: WriteCondition::default(),
            checksum: None,
            checksum_type: None,
            size: None,
            min_part_size: 1,
            versions: None,
        };
        self.backend.complete_multipart_upload(complete).await.unwrap();
        "parts"
    }
}

/// Lets every task go on until it waits for something.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

const SUSPENDED: &str = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
const DELETE: &str = "<Delete><Object><Key>theirs</Key></Object></Delete>";
const PUBLIC: &str = "<AccessControlPolicy><AccessControlList><Grant><Grantee><ID>mallory</ID><Type>CanonicalUser</Type>\
    </Grantee><Permission>FULL_CONTROL</Permission></Grant><Grant><Grantee><Type>Group</Type>\
    <URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>\
    </AccessControlList></AccessControlPolicy>";

/// A document may take its time, and meanwhile the bucket that was judged may have gone and its name be somebody else's.
#[tokio::test]
async fn what_was_permitted_in_one_bucket_is_not_done_in_another_of_its_name() {
    for (operation, document) in [
        (Operation::DeleteObjects(DeleteObjects { bucket: bucket() }), DELETE),
        (
            Operation::PutBucketAcl(PutBucketAcl {
                bucket: bucket(),
                acl: None,
            }),
            PUBLIC,
        ),
        (Operation::PutBucketVersioning(bucket()), SUSPENDED),
    ] {
        let gateway = Gateway::versioned();
        gateway.bucket_of("mallory").await;
        let (answer, feed) = gateway.send("mallory", operation, document.len());
        settle().await;
        gateway.backend.delete_bucket(&bucket()).await.unwrap();
        gateway.bucket_of("alice").await;
        gateway.put("theirs").await;
        feed.send(document).await.unwrap();
        drop(feed);

        assert_eq!(answer.await.unwrap().unwrap_err(), S3ErrorCode::NoSuchBucket);
        assert!(gateway.backend.open_object(&object("theirs")).await.is_ok());
        let info = gateway.backend.head_bucket(&bucket()).await.unwrap();
        assert_eq!((info.acl, info.versioning), (CannedAcl::Private, None));
    }
}

#[tokio::test]
async fn storage_that_keeps_no_versions_says_so() {
    let gateway = Gateway::new();
    let create = CreateBucketOperation {
        bucket: bucket(),
        acl: CannedAcl::Private,
    };
    gateway.ask("alice", Operation::CreateBucket(create)).await;
    assert_eq!(gateway.backend.head_bucket(&bucket()).await.unwrap().versioning, None);
    gateway.put("k").await;
    // Before anything of the document is waited for.
    let (answer, _feed) = gateway.send("alice", Operation::PutBucketVersioning(bucket()), SUSPENDED.len());
    assert_eq!(answer.await.unwrap().unwrap_err(), S3ErrorCode::NotImplemented);
    let got = gateway.ask("alice", Operation::GetBucketVersioning(bucket())).await;
    assert!(!got.contains("<Status>"), "{got}");
    let list = ListObjectVersions {
        bucket: bucket(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 1000,
        encoding_type: EncodingType::Plain,
    };
    let listed = gateway.ask("alice", Operation::ListObjectVersions(list)).await;
    assert!(
        listed.contains("<Key>k</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>"),
        "{listed}"
    );
}

#[tokio::test]
async fn a_new_bucket_has_the_versioning_of_its_dialect() {
    let gateway = Gateway::versioned();
    let create = CreateBucketOperation {
        bucket: bucket(),
        acl: CannedAcl::Private,
    };
    gateway.ask("alice", Operation::CreateBucket(create)).await;
    let versioning = async || gateway.backend.head_bucket(&bucket()).await.unwrap().versioning;
    assert_eq!(versioning().await, Some(VersioningStatus::Enabled));
    let (answer, feed) = gateway.send("alice", Operation::PutBucketVersioning(bucket()), SUSPENDED.len());
    feed.send(SUSPENDED).await.unwrap();
    drop(feed);
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(versioning().await, Some(VersioningStatus::Suspended));
    let enable = BucketSetting::Versioning(VersioningStatus::Enabled);
    gateway.backend.put_bucket_setting(&bucket(), enable).await.unwrap();
    let got = gateway.ask("alice", Operation::GetBucketVersioning(bucket())).await;
    assert!(got.contains("<Status>Enabled</Status>"), "{got}");
}

/// Acts in the moment after an object was opened, once.
#[derive(Debug)]
struct AfterOpening {
    backend: Arc<dyn Backend>,
    act: fn(&dyn Backend),
    /// How often it is still to be done.
    left: AtomicUsize,
}

impl Observer for AfterOpening {
    fn observe(&self, operation: &'static str, _: CallOutcome, _: Duration) {
        let is_left = |left: usize| left.checked_sub(1);
        if operation == "open_object"
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left)
                .is_ok()
        {
            (self.act)(&*self.backend);
        }
    }
}

fn overwrite(backend: &dyn Backend) {
    static BYTES: AtomicUsize = AtomicUsize::new(1);
    let put = put_of("k");
    let bytes = vec![b'x'; BYTES.fetch_add(1, Ordering::Relaxed)];
    let stored = backend.put_object(put, ObjectBody::from_bytes(bytes));
    stored.now_or_never().unwrap().unwrap();
}

fn delete_for_good(backend: &dyn Backend) {
    let opened = backend.open_object(&object("k")).now_or_never().unwrap().unwrap();
    let delete = BackendDelete {
        object: ObjectRef {
            version_id: opened.info.version_id,
            ..object("k")
        },
        condition: WriteCondition::default(),
        mark_missing: false,
        versions: None,
    };
    backend.delete_object(delete).now_or_never().unwrap().unwrap();
}

impl Gateway {
    /// What happens after each of so many openings.
    fn where_after_opening(self, act: fn(&dyn Backend), times: usize) -> Self {
        let observer = AfterOpening {
            backend: self.backend.clone(),
            act,
            left: AtomicUsize::new(times),
        };
        Self {
            backend: Arc::new(Metered::new(self.backend.clone(), Arc::new(observer))),
            ..self
        }
    }
}

fn copy_of_k(condition: WriteCondition) -> CopyObject {
    CopyObject {
        source: CopySource {
            object: object("k"),
            condition: ReadCondition::default(),
        },
        bucket: bucket(),
        key: Key::parse("copy").unwrap(),
        replace_metadata: None,
        checksum_algorithm: None,
        changes_something: false,
        condition,
        acl: None,
    }
}

/// Without versions what was opened is gone: what replaced it is copied, if it stays for long enough.
#[tokio::test]
async fn a_source_that_is_replaced_meanwhile_is_opened_again() {
    let if_none_match = WriteCondition {
        if_none_match: true,
        ..WriteCondition::default()
    };
    for (times, condition, expected) in [
        (2, WriteCondition::default(), Ok(StatusCode::OK)),
        (2, if_none_match.clone(), Ok(StatusCode::OK)),
        (3, WriteCondition::default(), Err(S3ErrorCode::SlowDown)),
        (3, if_none_match, Err(S3ErrorCode::ConditionalRequestConflict)),
    ] {
        let gateway = Gateway::new();
        gateway.bucket_of("alice").await;
        gateway.put("k").await;
        let gateway = gateway.where_after_opening(overwrite, times);
        let (answer, feed) = gateway.send("alice", Operation::CopyObject(copy_of_k(condition)), 0);
        drop(feed);
        let answer = answer.await.unwrap();
        assert_eq!(answer.as_ref().map(Response::status).map_err(|code| *code), expected);
        if answer.is_ok() {
            let copied = gateway.backend.open_object(&object("copy")).await.unwrap().info;
            let source = gateway.backend.open_object(&object("k")).await.unwrap().info;
            assert_eq!((copied.size, copied.etag), (source.size, source.etag));
        }
    }
}

/// What was opened is what is copied, and what the answer names.
#[tokio::test]
async fn a_source_that_is_replaced_meanwhile_is_copied_as_it_was() {
    for (act, expected) in [
        (overwrite as fn(&dyn Backend), Ok(StatusCode::OK)),
        (delete_for_good, Err(S3ErrorCode::NoSuchKey)),
    ] {
        let gateway = Gateway::versioned();
        gateway.bucket_of("alice").await;
        let enable = BucketSetting::Versioning(VersioningStatus::Enabled);
        gateway.backend.put_bucket_setting(&bucket(), enable).await.unwrap();
        gateway.put("k").await;
        let before = gateway.backend.open_object(&object("k")).await.unwrap().info;
        let gateway = gateway.where_after_opening(act, 1);
        let copy = copy_of_k(WriteCondition::default());
        let (answer, feed) = gateway.send("alice", Operation::CopyObject(copy), 0);
        drop(feed);
        let answer = answer.await.unwrap();
        assert_eq!(answer.as_ref().map(Response::status).map_err(|code| *code), expected);
        if let Ok(answer) = answer {
            let copied = gateway.backend.open_object(&object("copy")).await.unwrap().info;
            assert_eq!((copied.size, &copied.etag), (before.size, &before.etag));
            let named = &answer.headers()["x-amz-copy-source-version-id"];
            assert_eq!(*named, before.version_id.unwrap().as_str());
        }
    }
}

#[tokio::test]
async fn a_document_that_takes_its_time_is_carried_out() {
    let gateway = Gateway::new();
    gateway.bucket_of("alice").await;
    gateway.put("theirs").await;
    let delete = Operation::DeleteObjects(DeleteObjects { bucket: bucket() });
    let (answer, feed) = gateway.send("alice", delete, DELETE.len());
    settle().await;
    feed.send(DELETE).await.unwrap();
    drop(feed);
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(gateway.backend.open_object(&object("theirs")).await.is_err());
}

/// Not all of its clients look for an error of the whole under a 200, with which an answer begins that takes long.
#[tokio::test]
async fn many_deletes_are_known_to_take_long_when_each_has_a_result_of_its_own() {
    let gateway = Gateway::new();
    gateway.bucket_of("alice").await;
    for (document, status) in [
        ("<Delete><Object></Object></Delete>", Err(S3ErrorCode::MalformedXML)),
        (DELETE, Ok(StatusCode::OK)),
    ] {
        let delete = Operation::DeleteObjects(DeleteObjects { bucket: bucket() });
        assert!(!delete.takes_long());
        let record = RequestRecord::default();
        let (answer, feed) = gateway.send_recorded("alice", delete, document.len(), record.clone());
        settle().await;
        assert!(record.takes_long().is_none());
        feed.send(document).await.unwrap();
        drop(feed);
        let answer = answer.await.unwrap().map(|answer| answer.status());
        assert_eq!((answer, record.takes_long().is_some()), (status, status.is_ok()));
    }
}

#[tokio::test]
async fn a_page_of_no_parts_is_not_one_to_go_on_from() {
    let gateway = Gateway::new();
    gateway.bucket_of("alice").await;
    let key = gateway.object_of_two_parts().await;
    let attributes = |max_parts| {
        Operation::GetObjectAttributes(GetObjectAttributes {
            object: object(key),
            etag: false,
            checksum: false,
            object_parts: true,
            storage_class: false,
            object_size: false,
            max_parts,
            part_number_marker: 0,
        })
    };
    assert!(
        gateway
            .ask("alice", attributes(0))
            .await
            .contains("<IsTruncated>false</IsTruncated>")
    );
    let page = gateway.ask("alice", attributes(1)).await;
    assert!(
        page.contains("<NextPartNumberMarker>1</NextPartNumberMarker>"),
        "{page}"
    );
    assert!(page.contains("<IsTruncated>true</IsTruncated>"), "{page}");
}
