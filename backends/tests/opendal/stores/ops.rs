//! Requests of every kind, for tests that break something amid them, and looks at what they left in the store.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use opendal::{Operator, layers::RetryLayer};
use t2gate_backends::{
    BackendError, BucketInfo, BucketName, CannedAcl, CopyObject, CreateBucket, ETag, IfMatch, ObjectAttributes,
    ObjectBody, OpendalBackend, OpendalOptions, PartNumber, PutObject, TestClock, Timestamp, WriteCondition,
    conformance::{Subject, completed},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// One more than is sent to the store in one call.
pub(super) const LARGE: usize = (8 << 20) + 1;

/// What is done to one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Put,
    /// With attributes that do not fit into the store's metadata.
    PutAttributes,
    /// Of [`LARGE`] bytes.
    PutLarge,
    /// Where there is nothing.
    Create,
    /// What is there, and nothing else.
    Replace,
    /// What is not there any more: refused.
    ReplaceStale,
    Copy,
    /// Of two parts.
    Multipart,
    Abort,
    Delete,
    Read,
    ReadLarge,
    List,
    /// One is made and deleted again.
    Bucket,
}

impl Op {
    /// What is under the key before.
    pub(super) fn before(self, key: &str) -> Option<Bytes> {
        match self {
            Self::Create => None,
            Self::ReadLarge => Some(content(key, "old", LARGE)),
            _ => Some(content(key, "old", 1000)),
        }
    }

    /// What is under the key when it has succeeded.
    pub(super) fn after(self, key: &str) -> Option<Bytes> {
        match self {
            Self::PutLarge => Some(content(key, "new", LARGE)),
            Self::Delete => None,
            Self::ReplaceStale | Self::Abort | Self::Read | Self::ReadLarge | Self::List | Self::Bucket => {
                self.before(key)
            }
            _ => Some(content(key, "new", 2000)),
        }
    }

    /// Makes it so that it can be performed.
    pub(super) async fn prepare(self, s: &Subject, key: &str) {
        if let Some(bytes) = self.before(key) {
            s.put(key, bytes).await;
        } else {
            s.delete(key).await;
        }
        if self == Self::Copy {
            s.put("source", content(key, "new", 2000)).await;
        }
    }

    /// What comes of it; a read that gives something else panics.
    pub(super) async fn perform(self, s: &Subject, key: &str) -> Result<(), BackendError> {
        let put = |condition: WriteCondition, bytes: Bytes| {
            let request = PutObject {
                condition,
                ..s.put_request(key)
            };
            s.put_object(request, ObjectBody::from_bytes(bytes))
        };
        let none = WriteCondition::default();
        let new = self.after(key).unwrap_or_default();
        match self {
            Self::Put | Self::PutLarge => put(none, new).await.map(drop),
            Self::PutAttributes => {
                let request = PutObject {
                    attributes: ObjectAttributes {
                        user_metadata: vec![("name".into(), "x".repeat(2000).into())],
                        ..ObjectAttributes::default()
                    },
                    ..s.put_request(key)
                };
                s.put_object(request, ObjectBody::from_bytes(new)).await.map(drop)
            }
            Self::Create => put(if_absent(), new).await.map(drop),
            Self::Replace => put(if_match(&tag(&content(key, "old", 1000))), new).await.map(drop),
            Self::ReplaceStale => match put(if_match(&tag(b"never")), new).await {
                Err(BackendError::PreconditionFailed) => Ok(()),
                Err(error) => Err(error),
                Ok(info) => panic!("a stale write was taken: {info:?}"),
            },
            Self::Copy => {
                let source = s.open("source").await?.info;
                let request = CopyObject {
                    source: s.object("source"),
                    source_etag: source.etag,
                    bucket: s.bucket.clone(),
                    key: s.key(key),
                    attributes: source.attributes,
                    condition: none,
                    versions: None,
                };
                s.copy_object(request).await.map(drop)
            }
            Self::Multipart => {
                let upload_id = s.create_multipart_upload(s.create_upload_request(key)).await?;
                let upload = s.upload_ref(key, upload_id);
                let mut parts = Vec::new();
                for (number, bytes) in halves(&new) {
                    let part = s.upload_part(&upload, number, ObjectBody::from_bytes(bytes)).await?;
                    parts.push(completed(&part));
                }
                s.complete(&upload, parts).await.map(drop)
            }
            Self::Abort => {
                let upload_id = s.create_multipart_upload(s.create_upload_request(key)).await?;
                let upload = s.upload_ref(key, upload_id);
                for (number, bytes) in halves(&new) {
                    s.upload_part(&upload, number, ObjectBody::from_bytes(bytes)).await?;
                }
                s.abort_multipart_upload(&upload).await
            }
            Self::Delete => s.delete_if(none, key).await.map(drop),
            Self::Read | Self::ReadLarge => {
                let found = fetch(s, key).await?;
                assert!(found == self.before(key), "another object was read");
                Ok(())
            }
            Self::List => {
                let listed = list(s).await?;
                assert!(listed.contains(&(key.to_owned(), 1000)), "{listed:?}");
                Ok(())
            }
            Self::Bucket => {
                let bucket = BucketName::parse(format!("{}-b", s.bucket)).unwrap();
                let request = CreateBucket {
                    bucket: bucket.clone(),
                    owner: s.owner.clone(),
                    acl: CannedAcl::Private,
                    versioning: None,
                    max_buckets: 1000,
                };
                match s.create_bucket(request).await {
                    // Left there by one that was refused amid this.
                    Ok(_) | Err(BackendError::BucketAlreadyExists { .. }) => {}
                    Err(error) => return Err(error),
                }
                s.delete_bucket(&bucket).await?;
                assert_gone(s.head_bucket(&bucket).await)
            }
        }
    }
}

fn assert_gone(bucket: Result<BucketInfo, BackendError>) -> Result<(), BackendError> {
    match bucket {
        Err(BackendError::NoSuchBucket) => Ok(()),
        Err(error) => Err(error),
        Ok(info) => panic!("it was deleted: {info:?}"),
    }
}

pub(super) fn if_absent() -> WriteCondition {
    WriteCondition {
        if_none_match: true,
        ..WriteCondition::default()
    }
}

pub(super) fn if_match(etag: &ETag) -> WriteCondition {
    WriteCondition {
        if_match: Some(IfMatch::OneOf(vec![etag.clone()])),
        ..WriteCondition::default()
    }
}

/// The tag of what was written in one piece.
pub(super) fn tag(bytes: &[u8]) -> ETag {
    let summary = t2gate_backends::BodySummary::of(bytes, t2gate_backends::ChecksumAlgorithm::Crc64Nvme);
    ETag::from_md5(summary.md5)
}

/// So many bytes, of this key and this name.
pub(super) fn content(key: &str, name: &str, len: usize) -> Bytes {
    let unit = format!("{key} {name} {len} ");
    unit.bytes().cycle().take(len).collect()
}

pub(super) fn halves(bytes: &Bytes) -> [(PartNumber, Bytes); 2] {
    let middle = bytes.len() / 2;
    let number = |number| PartNumber::new(number).unwrap();
    [(number(1), bytes.slice(..middle)), (number(7), bytes.slice(middle..))]
}

/// All bytes of an object, or why they cannot be had. What is there is whole.
pub(super) async fn fetch(s: &Subject, key: &str) -> Result<Option<Bytes>, BackendError> {
    let open = match s.open(key).await {
        Err(BackendError::NoSuchKey) => return Ok(None),
        open => open?,
    };
    let info = open.info;
    let mut stream = open.reader.read(0..info.size);
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    assert_eq!(bytes.len() as u64, info.size, "{key:?} runs short or over");
    if info.etag.as_md5().is_some() {
        assert_eq!(
            tag(&bytes),
            info.etag,
            "bytes and ETag of {key:?} are of different objects"
        );
    }
    Ok(Some(bytes.freeze()))
}

/// What is listed, with its size.
pub(super) async fn list(s: &Subject) -> Result<BTreeSet<(String, u64)>, BackendError> {
    let page = s.list_objects(s.everything()).await?;
    let entries = page.entries.iter().map(|entry| match entry {
        t2gate_backends::ListEntry::Object(info) => (info.key.as_str().to_owned(), info.size),
        t2gate_backends::ListEntry::CommonPrefix(prefix) => panic!("{prefix:?}"),
    });
    Ok(entries.collect())
}

pub(super) fn on_day(day: i64) -> Timestamp {
    Timestamp::from_unix(1_700_000_000 + day * 86_400, 0)
}

/// A gateway whose day can be set.
pub(super) async fn open_on_day_0(options: OpendalOptions) -> (Arc<OpendalBackend>, Arc<TestClock>) {
    let clock = Arc::new(TestClock::new(on_day(0)));
    let options = OpendalOptions {
        clock: clock.clone(),
        ..options
    };
    let backend = OpendalBackend::open(options).await;
    (Arc::new(backend.unwrap_or_else(|error| panic!("{error:?}"))), clock)
}

/// When all objects are deleted and the sweeper was there, nothing is left in the store but the buckets' records, and what is
/// noted of the store itself.
pub(super) async fn nothing_is_left(backend: &OpendalBackend, clock: &TestClock, options: &OpendalOptions) {
    // From the year 2078 on: what the first look ends, a later one removes.
    for day in [20_000, 20_003] {
        clock.set(on_day(day));
        backend.sweep(Duration::from_hours(24)).await.unwrap();
    }
    let left = names(options).await;
    let left: Vec<_> = left
        .iter()
        .filter(|name| !name.starts_with(".t2/buckets/") && *name != ".t2/store" && !name.ends_with('/'))
        .collect();
    if let Some(name) = left.first() {
        let store = past_the_gateway(options);
        let bytes = store.read(name).await.unwrap().to_bytes();
        panic!("{left:?} are left; in the first lies {bytes:?}");
    }
}

/// The store as it is without a gateway. To be asked when one has been opened: that makes the service known. It is asked
/// again as the gateway asks: a server may have closed the connection that the question goes out on.
pub(super) fn past_the_gateway(options: &OpendalOptions) -> Operator {
    let store = Operator::via_iter(&options.service, options.options.clone()).unwrap();
    store.layer(RetryLayer::new().with_min_delay(Duration::from_millis(10)))
}

/// All that lies in the store, below the root of these options.
pub(super) async fn names(options: &OpendalOptions) -> Vec<String> {
    let store = past_the_gateway(options);
    let listing = opendal::options::ListOptions {
        recursive: true,
        ..opendal::options::ListOptions::default()
    };
    let lister = store.lister_options("/", listing).await.unwrap();
    let entries: Vec<_> = lister.try_collect().await.unwrap();
    entries.iter().map(|entry| entry.path().to_owned()).collect()
}

/// How many multipart uploads are open in the bucket `store` of a server that speaks S3 and asks for no signature, below
/// the root of these options.
pub(super) async fn open_uploads(server: std::net::SocketAddr, options: &OpendalOptions) -> usize {
    let root = options.options.iter().find(|(name, _)| name == "root").unwrap();
    let mut connection = tokio::net::TcpStream::connect(server).await.unwrap();
    let request = format!("GET /store?uploads= HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("ListMultipartUploadsResult"), "{answer}");
    let key = format!("<Key>{}", root.1.trim_start_matches('/'));
    answer.matches(&key).count()
}
