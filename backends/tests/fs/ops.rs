//! Requests as words, what they do, and what must be seen after them: for tests that cut a process, or a machine, off in
//! the middle of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use t2gate_backends::{
    Backend, BackendError, BucketName, CannedAcl, CopyObject, CreateBucket, Durability, FsBackend, FsOptions, Key,
    ListObjects, ObjectAttributes, ObjectBody, PartNumber, PutObject, SystemClock, WriteCondition,
    conformance::{Subject, completed},
};

use crate::again;

/// One request, small enough to be written down: `put KEY SEED SIZE`, `large KEY SEED` (attributes too large for the
/// file's own), `multipart KEY SEED PARTS`, `copy FROM TO`, `delete KEY`, `bucket NAME`, `unbucket NAME`.
pub(crate) type Op = String;

/// What can be seen: buckets, and in the first one all keys with their bytes.
pub(crate) type Seen = (BTreeSet<String>, BTreeMap<String, Bytes>);

/// Requests without end; the same for the same seed.
pub(crate) struct Ops {
    state: u64,
    count: u64,
}

impl Ops {
    pub(crate) fn new(seed: u64) -> Self {
        let state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { state, count: 0 }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        from[usize::try_from((self.state >> 33) % from.len() as u64).unwrap()]
    }
}

impl Iterator for Ops {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        const KEYS: [&str; 9] = ["a", "a/b", "a/b/c", "d", "d/e", "a/", "a//b", ".t2", "f/../g"];
        const KINDS: [&str; 8] = ["put", "put", "put", "large", "multipart", "copy", "delete", "delete"];
        self.count += 1;
        let (n, key, kind) = (self.count, self.pick(&KEYS), self.pick(&KINDS));
        Some(match kind {
            "put" => format!("put {key} {n} {}", self.pick(&["0", "10", "5000", "200000"])),
            "large" => format!("large {key} {n}"),
            "multipart" => format!("multipart {key} {n} {}", self.pick(&["1", "3"])),
            "copy" => format!("copy {key} {}", self.pick(&KEYS)),
            _ => format!("delete {key}"),
        })
    }
}

pub(crate) fn content_of(seed: &str, size: &str) -> Bytes {
    let seed: usize = seed.parse().unwrap();
    let size: usize = size.parse().unwrap();
    (0..size).map(|n| ((n * 7 + n / 251 + seed) % 256) as u8).collect()
}

pub(crate) async fn perform(subject: &Subject, op: &str) {
    try_perform(subject, op)
        .await
        .unwrap_or_else(|error| panic!("{op}: {error}"));
}

pub(crate) async fn try_perform(subject: &Subject, op: &str) -> Result<(), BackendError> {
    let words: Vec<&str> = op.split(' ').collect();
    match *words {
        ["put", key, seed, size] => {
            let body = ObjectBody::from_bytes(content_of(seed, size));
            subject.put_body(key, body).await?;
        }
        ["large", key, seed] => {
            let value = "x".repeat(1000);
            let attributes = ObjectAttributes {
                user_metadata: (0..5)
                    .map(|n| (format!("m{n}").into(), value.as_str().into()))
                    .collect(),
                ..ObjectAttributes::default()
            };
            let request = PutObject {
                attributes,
                ..subject.put_request(key)
            };
            let body = ObjectBody::from_bytes(content_of(seed, "30"));
            subject.put_object(request, body).await?;
        }
        ["multipart", key, seed, parts] => {
            let upload_id = subject
                .create_multipart_upload(subject.create_upload_request(key))
                .await?;
            let upload = subject.upload_ref(key, upload_id);
            let mut named = Vec::new();
            for number in 1..=parts.parse().unwrap() {
                let body = ObjectBody::from_bytes(content_of(seed, "1000"));
                let number = PartNumber::new(number).unwrap();
                named.push(completed(&subject.upload_part(&upload, number, body).await?));
            }
            subject.complete(&upload, named).await?;
        }
        ["copy", from, to] => {
            let source = match subject.open(from).await {
                Err(BackendError::NoSuchKey) => return Ok(()),
                outcome => outcome?,
            };
            let request = CopyObject {
                source: subject.object(from),
                source_etag: source.info.etag,
                bucket: subject.bucket.clone(),
                key: Key::parse(to).unwrap(),
                attributes: source.info.attributes,
                condition: WriteCondition::default(),
                versions: None,
            };
            subject.copy_object(request).await?;
        }
        ["delete", key] => {
            subject.delete_if(WriteCondition::default(), key).await?;
        }
        ["bucket", name] => {
            let request = CreateBucket {
                bucket: BucketName::parse(name).unwrap(),
                owner: subject.owner.clone(),
                acl: CannedAcl::Private,
                max_buckets: 100,
                versioning: None,
            };
            subject.create_bucket(request).await?;
        }
        ["unbucket", name] => subject.delete_bucket(&BucketName::parse(name).unwrap()).await?,
        _ => panic!("{op}"),
    }
    Ok(())
}

/// What must be seen after it.
pub(crate) fn expect(seen: &mut Seen, op: &str) {
    let words: Vec<&str> = op.split(' ').collect();
    match *words {
        ["put", key, seed, size] => drop(seen.1.insert(key.into(), content_of(seed, size))),
        ["large", key, seed] => drop(seen.1.insert(key.into(), content_of(seed, "30"))),
        ["multipart", key, seed, parts] => {
            let part = content_of(seed, "1000");
            drop(seen.1.insert(key.into(), part.repeat(parts.parse().unwrap()).into()));
        }
        ["copy", from, to] => {
            if let Some(bytes) = seen.1.get(from).cloned() {
                seen.1.insert(to.into(), bytes);
            }
        }
        ["delete", key] => drop(seen.1.remove(key)),
        ["bucket", name] => drop(seen.0.insert(name.into())),
        ["unbucket", name] => drop(seen.0.remove(name)),
        _ => panic!("{op}"),
    }
}

pub(crate) async fn see(subject: &Subject) -> Seen {
    let buckets = subject.list_buckets(&subject.owner, "", None, 100).await.unwrap();
    let buckets = buckets
        .into_iter()
        .map(|info| info.bucket.as_str().to_owned())
        .filter(|name| name != subject.bucket.as_str())
        .collect();
    let mut objects = BTreeMap::new();
    let mut request: ListObjects = subject.everything();
    request.max_keys = 1000;
    for key in subject.names(request).await {
        let bytes = subject.get(&key).await.expect("what is listed is there");
        objects.insert(key, bytes);
    }
    (buckets, objects)
}

/// The backend at `root` with a bucket of this name.
pub(crate) async fn subject(root: &Path, bucket: &str, durability: Durability) -> Subject {
    let options = FsOptions {
        durability,
        ..FsOptions::new(root, Arc::new(SystemClock))
    };
    subject_of(options, bucket).await
}

pub(crate) async fn subject_of(options: FsOptions, bucket: &str) -> Subject {
    let backend: Arc<dyn Backend> = Arc::new(again(|| FsBackend::open(options.clone())));
    Subject::of(backend, BucketName::parse(bucket).unwrap()).await
}
