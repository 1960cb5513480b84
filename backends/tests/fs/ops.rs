//! Requests as words, what they do, and what must be seen after them: for tests that cut a process, or a machine, off in
//! the middle of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use md5::{Digest as _, Md5};
use t2gate_backends::{
    Backend, BackendError, BucketName, BucketSetting, CannedAcl, CompletedPart, CopyObject, CreateBucket, Durability,
    ETag, FsBackend, FsOptions, Key, ListObjectVersions, ListObjects, ListParts, ObjectAttributes, ObjectBody,
    PartNumber, PutObject, SystemClock, UploadEntry, UploadRef, VersionEntry, Versioned, VersioningStatus,
    WriteCondition,
    conformance::{Subject, completed, read_whole},
};

use crate::{again, names_fold};

/// One request, small enough to be written down: `put KEY SEED SIZE`, `large KEY SEED` (attributes too large for the
/// file's own), `multipart KEY SEED PARTS`, `repeated KEY SEED` (multipart, each part twice), `begin BUCKET` (an upload with a
/// part, that nobody goes on with), `copy FROM TO`, `delete KEY`, `delete-version KEY N` (the one that is listed so far from
/// the newest), `enable`, `suspend` (versioning), `acl ACL`, `bucket NAME`, `unbucket NAME`. And the steps of an upload alone,
/// of a key below `uploads/`: `initiate KEY`, `part KEY SEED` (part 1, each time), `abort KEY`.
pub(crate) type Op = String;

/// A version: whether it is `null`, and its bytes unless it is a delete marker.
pub(crate) type SeenVersion = (bool, Option<Bytes>);

const UPLOADS: &str = "uploads/";

/// What can be seen: buckets, and in the first one all keys with their versions, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) buckets: BTreeSet<String>,
    pub(crate) versioning: Option<VersioningStatus>,
    pub(crate) acl: CannedAcl,
    /// Those under way below [`UPLOADS`], each with the ETag of its part 1; others come and go within a request.
    pub(crate) uploads: BTreeMap<String, Option<ETag>>,
    pub(crate) versions: BTreeMap<String, Vec<SeenVersion>>,
}

impl Seen {
    /// In a few words.
    pub(crate) fn in_short(&self) -> String {
        let version = |(null, bytes): &SeenVersion| {
            let bytes = bytes.as_ref().map(|bytes| (bytes.len(), bytes.first().copied()));
            format!("{}{bytes:?}", if *null { "null " } else { "" })
        };
        let key = |(key, versions): (&String, &Vec<SeenVersion>)| {
            format!("{key}: {:?}", versions.iter().map(version).collect::<Vec<_>>())
        };
        format!(
            "{:?} {:?} {:?} {:?}",
            self.versioning,
            self.acl,
            self.uploads,
            self.versions.iter().map(key).collect::<Vec<_>>()
        )
    }

    fn current(&self, key: &str) -> Option<Bytes> {
        self.versions.get(key)?.first()?.1.clone()
    }

    /// What a write, or a delete by name, adds on top.
    fn add(&mut self, key: &str, bytes: Option<Bytes>) {
        let versions = self.versions.entry(key.into()).or_default();
        let null = self.versioning != Some(VersioningStatus::Enabled);
        if null {
            versions.retain(|version| !version.0);
        }
        versions.insert(0, (null, bytes));
    }
}

/// Requests without end; the same for the same seed. With every odd one there is versioning.
pub(crate) struct Ops {
    state: u64,
    count: u64,
    versioned: bool,
}

impl Ops {
    pub(crate) fn new(seed: u64) -> Self {
        let state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self {
            state,
            count: 0,
            versioned: seed % 2 == 1,
        }
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
        const FOLDED: [&str; 9] = ["a", "A", "a/b", "A/b", "a/B", "A/", "\u{e9}", "e\u{301}/x", ".T2"];
        let keys = if names_fold() { FOLDED } else { KEYS };
        const KINDS: [&str; 8] = ["put", "put", "put", "large", "multipart", "copy", "delete", "delete"];
        const VERSIONED: [&str; 6] = [
            "delete-version",
            "delete-version",
            "delete-version",
            "delete",
            "enable",
            "suspend",
        ];
        self.count += 1;
        let (n, key, mut kind) = (self.count, self.pick(&keys), self.pick(&KINDS));
        if self.versioned && self.count > 1 && self.pick(&["", "versioned"]) == "versioned" {
            kind = self.pick(&VERSIONED);
        }
        Some(match kind {
            _ if self.versioned && self.count == 2 => "enable".to_owned(),
            "enable" | "suspend" => self.pick(&["enable", "enable", "suspend"]).to_owned(),
            "delete-version" => format!("delete-version {key} {}", self.pick(&["0", "0", "1", "2"])),
            "put" => format!("put {key} {n} {}", self.pick(&["0", "10", "5000", "200000"])),
            "large" => format!("large {key} {n}"),
            "multipart" => format!("multipart {key} {n} {}", self.pick(&["1", "3"])),
            "copy" => format!("copy {key} {}", self.pick(&keys)),
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
        ["repeated", key, seed] => {
            let upload_id = subject
                .create_multipart_upload(subject.create_upload_request(key))
                .await?;
            let upload = subject.upload_ref(key, upload_id);
            let mut named = Vec::new();
            for (number, body) in [(1, "old"), (1, seed), (2, "old"), (2, seed)] {
                let body = match body {
                    "old" => Bytes::from(vec![0; 1000]),
                    seed => content_of(seed, "1000"),
                };
                let number = PartNumber::new(number).unwrap();
                let part = subject
                    .upload_part(&upload, number, ObjectBody::from_bytes(body))
                    .await?;
                named.retain(|named: &CompletedPart| named.part_number != number);
                named.push(completed(&part));
            }
            subject.complete(&upload, named).await?;
        }
        ["begin", bucket] => {
            let mut subject = subject.clone();
            subject.bucket = BucketName::parse(bucket).unwrap();
            let upload_id = subject
                .create_multipart_upload(subject.create_upload_request("begun"))
                .await?;
            let upload = subject.upload_ref("begun", upload_id);
            let body = ObjectBody::from_bytes(content_of("1", "1000"));
            subject.upload_part(&upload, PartNumber::new(1).unwrap(), body).await?;
        }
        ["copy", from, to] => {
            let source = match subject.open(from).await {
                Err(BackendError::NoSuchKey | BackendError::DeleteMarker { .. }) => return Ok(()),
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
        ["delete-version", key, n] => {
            let mut request = subject.delete_request(key);
            request.object.version_id = list(subject)
                .await?
                .into_iter()
                .filter(|entry| entry.name() == key)
                .nth(n.parse().unwrap())
                .and_then(|entry| entry.version_id().cloned());
            if request.object.version_id.is_some() {
                subject.delete_object(request).await?;
            }
        }
        ["enable"] => set_versioning(subject, VersioningStatus::Enabled).await?,
        ["suspend"] => set_versioning(subject, VersioningStatus::Suspended).await?,
        ["acl", acl] => {
            let setting = BucketSetting::Acl(acl.parse().unwrap());
            subject.put_bucket_setting(&subject.bucket, setting).await?;
        }
        ["initiate", key] => {
            subject
                .create_multipart_upload(subject.create_upload_request(key))
                .await?;
        }
        ["part", key, seed] => {
            let body = ObjectBody::from_bytes(content_of(seed, "1000"));
            let upload = upload_of(subject, key).await?;
            subject.upload_part(&upload, PartNumber::new(1).unwrap(), body).await?;
        }
        ["abort", key] => {
            let upload = upload_of(subject, key).await?;
            subject.abort_multipart_upload(&upload).await?;
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

/// Those under way.
async fn uploads(subject: &Subject) -> Result<Vec<UploadRef>, BackendError> {
    let page = subject.list_multipart_uploads(subject.all_uploads()).await?;
    let upload = |entry| match entry {
        UploadEntry::Upload(upload) => Some(subject.upload_ref(upload.key.as_str(), upload.upload_id)),
        UploadEntry::CommonPrefix(_) => None,
    };
    Ok(page.entries.into_iter().filter_map(upload).collect())
}

async fn upload_of(subject: &Subject, key: &str) -> Result<UploadRef, BackendError> {
    let uploads = uploads(subject).await?;
    let found = uploads.into_iter().find(|upload| upload.key.as_str() == key);
    found.ok_or(BackendError::NoSuchUpload)
}

async fn set_versioning(subject: &Subject, status: VersioningStatus) -> Result<(), BackendError> {
    let setting = BucketSetting::Versioning(status);
    subject.put_bucket_setting(&subject.bucket, setting).await
}

/// What must be seen after it.
pub(crate) fn expect(seen: &mut Seen, op: &str) {
    let words: Vec<&str> = op.split(' ').collect();
    match *words {
        ["put", key, seed, size] => seen.add(key, Some(content_of(seed, size))),
        ["large", key, seed] => seen.add(key, Some(content_of(seed, "30"))),
        ["multipart", key, seed, parts] => {
            let part = content_of(seed, "1000");
            seen.add(key, Some(part.repeat(parts.parse().unwrap()).into()));
        }
        ["repeated", key, seed] => seen.add(key, Some(content_of(seed, "1000").repeat(2).into())),
        ["begin", _] => {}
        ["copy", from, to] => {
            if let Some(bytes) = seen.current(from) {
                seen.add(to, Some(bytes));
            }
        }
        ["delete", key] if seen.versioning.is_none() => drop(seen.versions.remove(key)),
        ["delete", key] => {
            if seen.current(key).is_some() {
                seen.add(key, None);
            }
        }
        ["delete-version", key, n] => {
            let n: usize = n.parse().unwrap();
            if let Some(versions) = seen.versions.get_mut(key).filter(|versions| n < versions.len()) {
                versions.remove(n);
                if versions.is_empty() {
                    seen.versions.remove(key);
                }
            }
        }
        ["enable"] => seen.versioning = Some(VersioningStatus::Enabled),
        ["suspend"] => seen.versioning = Some(VersioningStatus::Suspended),
        ["acl", acl] => seen.acl = acl.parse().unwrap(),
        ["initiate", key] => drop(seen.uploads.insert(key.into(), None)),
        ["part", key, seed] => {
            let md5 = Md5::digest(content_of(seed, "1000")).into();
            seen.uploads.insert(key.into(), Some(ETag::from_md5(md5)));
        }
        ["abort", key] => drop(seen.uploads.remove(key)),
        ["bucket", name] => drop(seen.buckets.insert(name.into())),
        ["unbucket", name] => drop(seen.buckets.remove(name)),
        _ => panic!("{op}"),
    }
}

pub(crate) async fn list(subject: &Subject) -> Result<Vec<VersionEntry>, BackendError> {
    let request = ListObjectVersions {
        bucket: subject.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 10_000,
    };
    Ok(subject.list_object_versions(request).await?.entries)
}

/// By name first, for that asks for the least. Panics where the kinds of reads do not agree.
pub(crate) async fn see(subject: &Subject) -> Seen {
    let buckets = subject.list_buckets(&subject.owner, "", None, 100).await.unwrap();
    let info = subject.head_bucket(&subject.bucket).await.unwrap();
    let mut seen = Seen {
        buckets: buckets
            .into_iter()
            .map(|info| info.bucket.as_str().to_owned())
            .filter(|name| name != subject.bucket.as_str())
            .collect(),
        versioning: info.versioning,
        acl: info.acl,
        uploads: BTreeMap::new(),
        versions: BTreeMap::new(),
    };
    for upload in uploads(subject).await.unwrap() {
        if upload.key.as_str().starts_with(UPLOADS) {
            let key = upload.key.as_str().to_owned();
            let request = ListParts {
                upload,
                part_number_marker: 0,
                max_parts: 2,
            };
            let parts = subject.list_parts(request).await.unwrap().parts;
            assert!(parts.len() < 2, "{parts:?} of {key}");
            let part = parts.into_iter().next().map(|part| part.etag);
            assert!(seen.uploads.insert(key.clone(), part).is_none(), "{key} twice");
        }
    }
    let mut objects = BTreeMap::new();
    let mut request: ListObjects = subject.everything();
    request.max_keys = 1000;
    for key in subject.names(request).await {
        let bytes = subject.get(&key).await.expect("what is listed is there");
        objects.insert(key, bytes);
    }
    let mut ids = BTreeSet::new();
    for entry in list(subject).await.unwrap() {
        let (key, id) = (entry.name().to_owned(), entry.version_id().unwrap().clone());
        assert!(ids.insert((key.clone(), id.clone())), "{id} of {key} is listed twice");
        let mut object = subject.object(&key);
        object.version_id = Some(id.clone());
        let bytes = match subject.open_object(&object).await {
            Ok(open) => Some(read_whole(open).await),
            Err(BackendError::DeleteMarker { .. }) => None,
            Err(error) => panic!("{id} of {key}: {error}"),
        };
        let (is_marker, is_latest) = match &entry {
            VersionEntry::Object { is_latest, .. } => (false, *is_latest),
            VersionEntry::DeleteMarker(marker) => (true, marker.is_latest),
            VersionEntry::CommonPrefix(_) => unreachable!("there is no delimiter"),
        };
        assert_eq!(bytes.is_none(), is_marker, "{id} of {key}");
        let versions = seen.versions.entry(key.clone()).or_default();
        assert_eq!(versions.is_empty(), is_latest, "{id} of {key}");
        if is_latest {
            assert_eq!(objects.remove(&key), bytes, "by name and by id, {key}");
        }
        versions.push((id.is_null(), bytes));
    }
    assert_eq!(
        objects.keys().collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "only by name"
    );
    seen
}

/// Deletes every version that is listed.
pub(crate) async fn clear(subject: &Subject) {
    for entry in list(subject).await.unwrap() {
        let mut request = subject.delete_request(entry.name());
        request.object.version_id = entry.version_id().cloned();
        subject.delete_object(request).await.unwrap();
    }
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
    let fs = again(|| FsBackend::open(options.clone()));
    let backend: Arc<dyn Backend> = if fs.capabilities(None).history {
        Arc::new(Versioned::new(fs, Arc::new(SystemClock)).unwrap())
    } else {
        Arc::new(fs)
    };
    Subject::of(backend, BucketName::parse(bucket).unwrap()).await
}
