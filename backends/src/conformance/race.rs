//! Many clients at once on the versions of few keys, and what they saw judged by [`history`](super::history).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Subject,
    history::{Call, Content, Listed, Op, Reply, check},
    subject::{if_absent, if_match, noise, try_read_whole},
};
use crate::{
    BackendError, CopyObject, ETag, ObjectInfo, ObjectRef, OpenObject, VersionEntry, VersionId, WriteCondition,
};

/// Speaks to the store under test, in one bucket with versioning Enabled, in whatever way: directly, or over the wire.
/// `Err`: the answer was lost, and what was asked may happen still. Any other answer than those that an operation has
/// is a panic.
#[async_trait]
pub trait RaceClient: Send + Sync {
    /// Whether the store judges conditions; where not, none is asked of it.
    fn conditional(&self) -> bool {
        true
    }
    /// PutObject. [`Reply::Written`], [`Reply::PreconditionFailed`], [`Reply::NotFound`] (`If-Match`, and no object).
    async fn put(&self, key: &str, bytes: Bytes, condition: RaceCondition) -> Result<Reply, Lost>;
    /// CreateMultipartUpload, one part, CompleteMultipartUpload.
    async fn put_in_parts(&self, key: &str, bytes: Bytes) -> Result<Reply, Lost>;
    /// Copies a version of `source` to `key`; with the ETag of the copy. `None`: no such version, or it is a delete
    /// marker.
    async fn copy(&self, source: &str, version_id: &VersionId, key: &str) -> Result<Option<(Reply, Box<str>)>, Lost>;
    /// GetObject, with a version id or without, and the bytes where there are any.
    async fn get(&self, key: &str, version_id: Option<&VersionId>) -> Result<(Reply, Option<Bytes>), Lost>;
    async fn head(&self, key: &str, version_id: Option<&VersionId>) -> Result<Reply, Lost>;
    /// DeleteObject, with a version id or without.
    async fn delete(&self, key: &str, version_id: Option<&VersionId>) -> Result<Reply, Lost>;
    /// ListObjectVersions of this key, all pages.
    async fn list(&self, key: &str) -> Result<Vec<Listed>, Lost>;
}

/// The answer was lost.
#[derive(Debug, Clone, Copy)]
pub struct Lost;

#[derive(Debug, Clone)]
pub enum RaceCondition {
    None,
    IfAbsent,
    IfMatch(Box<str>),
}

/// So many clients, the first ones, read all that is there when all is done.
const LAST_READERS: usize = 4;

/// How much is raced.
#[derive(Debug, Clone)]
pub struct RaceOptions {
    pub clients: usize,
    pub keys: usize,
    /// Each client stops after so many operations.
    pub operations: usize,
    pub seed: u64,
}

/// What all clients share.
struct Race {
    keys: Vec<String>,
    clock: AtomicU64,
    /// For bytes that are written once only.
    serial: AtomicU64,
    calls: Vec<Mutex<Vec<Call>>>,
    /// Versions that clients know of, and ETags, by key.
    known: Vec<Mutex<Known>>,
    /// The bytes of every ETag that was ever written.
    bytes: Mutex<BTreeMap<Box<str>, Bytes>>,
}

#[derive(Default)]
struct Known {
    ids: Vec<VersionId>,
    etag: Option<Box<str>>,
}

/// Runs the race, then checks every key. Gives the number of operations. Panics where anything is wrong.
pub async fn race(clients: Vec<Arc<dyn RaceClient>>, options: &RaceOptions) -> usize {
    let keys = (0..options.keys).map(|n| match n % 4 {
        // Some are directories of others.
        0 => format!("key-{n:02}"),
        1 => format!("key-{:02}/below", n - 1),
        _ => format!("dir/key-{n:02}"),
    });
    let race = Arc::new(Race {
        keys: keys.collect(),
        clock: AtomicU64::new(0),
        serial: AtomicU64::new(0),
        calls: (0..options.keys).map(|_| Mutex::default()).collect(),
        known: (0..options.keys).map(|_| Mutex::default()).collect(),
        bytes: Mutex::default(),
    });
    let tasks: Vec<_> = (0..options.clients)
        .map(|n| {
            let racer = Racer {
                race: Arc::clone(&race),
                client: Arc::clone(&clients[n % clients.len()]),
                number: n,
                random: (options.seed ^ (n as u64 + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            };
            tokio::spawn(racer.run(options.operations))
        })
        .collect();
    for task in tasks {
        task.await.expect("a client has seen what cannot be");
    }
    // At the end everything is read once more.
    for (n, client) in clients.iter().enumerate().take(LAST_READERS) {
        let mut last = Racer {
            race: Arc::clone(&race),
            client: Arc::clone(client),
            number: options.clients + n,
            random: 1,
        };
        for key in 0..options.keys {
            last.read_all(key).await;
        }
    }
    let mut operations = 0;
    for (key, calls) in race.keys.iter().zip(&race.calls) {
        let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        operations += calls.len();
        if let Err(violation) = check(&calls) {
            panic!("seed {}, key {key:?}: {violation:?}", options.seed);
        }
    }
    operations
}

/// One client at work.
struct Racer {
    race: Arc<Race>,
    client: Arc<dyn RaceClient>,
    number: usize,
    random: u64,
}

impl Racer {
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 16) % below as u64) as usize
    }

    fn tick(&self) -> u64 {
        self.race.clock.fetch_add(1, Ordering::SeqCst)
    }

    async fn run(mut self, operations: usize) {
        for _ in 0..operations {
            let key = self.random(self.race.keys.len());
            match self.random(100) {
                0..20 => self.put(key, RaceCondition::None).await,
                20..24 => self.put(key, RaceCondition::IfAbsent).await,
                24..30 => {
                    let etag = self.known(key).etag.clone();
                    let condition = etag.map_or(RaceCondition::IfAbsent, RaceCondition::IfMatch);
                    self.put(key, condition).await;
                }
                30..33 => self.put_equal_bytes(key).await,
                33..35 => self.put_in_parts(key).await,
                35..41 => self.copy(key).await,
                41..53 => self.get(key, None).await,
                53..57 => self.head(key, None).await,
                57..67 => {
                    let id = self.some_version(key);
                    self.get(key, id).await;
                }
                67..70 => {
                    let id = self.some_version(key);
                    self.head(key, id).await;
                }
                70..78 => self.delete(key, None).await,
                78..92 => {
                    if let Some(id) = self.some_version(key) {
                        self.delete(key, Some(id)).await;
                    }
                }
                _ => self.list(key).await,
            }
        }
    }

    /// Everything of one key, by list and by id.
    async fn read_all(&mut self, key: usize) {
        self.list(key).await;
        self.get(key, None).await;
        let ids = self.known(key).ids.clone();
        for id in ids {
            self.get(key, Some(id)).await;
        }
    }

    fn known(&self, key: usize) -> std::sync::MutexGuard<'_, Known> {
        self.race.known[key].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn some_version(&mut self, key: usize) -> Option<VersionId> {
        let count = self.known(key).ids.len();
        // Rather a new one: most of the old ones are gone.
        let at = count.checked_sub(1 + self.random(count.clamp(1, 12)))?;
        self.known(key).ids.get(at).cloned()
    }

    /// Remembers a call, and what it tells of versions.
    fn record(&self, key: usize, invoked: u64, op: Op, reply: Option<Reply>) {
        let returned = reply.map(|reply| (self.tick(), reply));
        if let Some((_, Reply::Written(id) | Reply::Marked(id))) = &returned {
            let mut known = self.known(key);
            known.ids.push(id.clone());
            if let Op::Put(content) | Op::PutIfAbsent(content) | Op::PutIfMatch(content, _) = &op {
                known.etag = Some(content.etag.clone());
            }
        }
        let call = Call {
            client: self.number,
            invoked,
            returned,
            op,
        };
        let mut calls = self.race.calls[key].lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
    }

    /// Before they are sent: somebody may read them before the answer comes.
    fn remember_bytes(&self, etag: &str, bytes: &Bytes) {
        let mut all = self.race.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(etag.into(), bytes.clone());
    }

    fn bytes_of(&self, etag: &str) -> Bytes {
        let all = self.race.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(etag).unwrap_or_else(|| panic!("nobody wrote {etag}")).clone()
    }

    fn new_bytes(&mut self) -> Bytes {
        let serial = self.race.serial.fetch_add(1, Ordering::SeqCst);
        let len = match self.random(20) {
            0 => 300_000 + self.random(100_000),
            1..4 => 16,
            _ => 100 + self.random(20_000),
        };
        let mut bytes = serial.to_be_bytes().to_vec();
        bytes.extend_from_slice(&noise(len, serial));
        bytes.into()
    }

    async fn put(&mut self, key: usize, condition: RaceCondition) {
        let bytes = self.new_bytes();
        self.put_bytes(key, bytes, condition).await;
    }

    /// Bytes that others write too: versions with one ETag.
    async fn put_equal_bytes(&mut self, key: usize) {
        self.put_bytes(key, Bytes::from_static(b"equal bytes"), RaceCondition::None)
            .await;
    }

    async fn put_bytes(&mut self, key: usize, bytes: Bytes, condition: RaceCondition) {
        let condition = if self.client.conditional() {
            condition
        } else {
            RaceCondition::None
        };
        let content = content_of(&bytes);
        self.remember_bytes(&content.etag, &bytes);
        let op = match &condition {
            RaceCondition::None => Op::Put(content),
            RaceCondition::IfAbsent => Op::PutIfAbsent(content),
            RaceCondition::IfMatch(etag) => Op::PutIfMatch(content, etag.clone()),
        };
        let invoked = self.tick();
        let reply = self.client.put(&self.race.keys[key], bytes, condition).await;
        self.record(key, invoked, op, reply.ok());
    }

    async fn put_in_parts(&mut self, key: usize) {
        let bytes = self.new_bytes();
        let content = Content {
            etag: multipart_etag(&bytes),
            size: bytes.len() as u64,
        };
        self.remember_bytes(&content.etag, &bytes);
        // What a copy of it may get.
        self.remember_bytes(&content_of(&bytes).etag, &bytes);
        let invoked = self.tick();
        let reply = self.client.put_in_parts(&self.race.keys[key], bytes).await;
        self.record(key, invoked, Op::Put(content), reply.ok());
    }

    async fn copy(&mut self, key: usize) {
        // As often as not an old version of the key itself comes back.
        let source = if self.random(2) == 0 {
            key
        } else {
            self.random(self.race.keys.len())
        };
        let Some(id) = self.some_version(source) else { return };
        let invoked = self.tick();
        let (from, to) = (&self.race.keys[source], &self.race.keys[key]);
        match self.client.copy(from, &id, to).await {
            Ok(Some((reply, etag))) => {
                let size = self.bytes_of(&etag).len() as u64;
                self.record(key, invoked, Op::Put(Content { etag, size }), Some(reply));
            }
            Ok(None) => {}
            // What it has made, if anything, cannot be known.
            Err(Lost) => panic!("the answer to a copy was lost"),
        }
    }

    async fn get(&mut self, key: usize, id: Option<VersionId>) {
        let invoked = self.tick();
        let reply = self.client.get(&self.race.keys[key], id.as_ref()).await;
        if let Ok((Reply::Object(_, content), bytes)) = &reply {
            let written = self.bytes_of(&content.etag);
            assert!(
                bytes.as_ref() == Some(&written),
                "the bytes of {content:?} are not those that were written"
            );
        }
        let op = id.map_or(Op::Get, Op::GetVersion);
        self.record(key, invoked, op, reply.ok().map(|(reply, _)| reply));
    }

    async fn head(&mut self, key: usize, id: Option<VersionId>) {
        let invoked = self.tick();
        let reply = self.client.head(&self.race.keys[key], id.as_ref()).await;
        self.record(key, invoked, id.map_or(Op::Get, Op::GetVersion), reply.ok());
    }

    async fn delete(&mut self, key: usize, id: Option<VersionId>) {
        let invoked = self.tick();
        let reply = self.client.delete(&self.race.keys[key], id.as_ref()).await;
        self.record(key, invoked, id.map_or(Op::Delete, Op::DeleteVersion), reply.ok());
    }

    async fn list(&mut self, key: usize) {
        let invoked = self.tick();
        let listed = self.client.list(&self.race.keys[key]).await;
        self.record(key, invoked, Op::List, listed.ok().map(Reply::Versions));
    }
}

/// A client without a wire between.
#[derive(Debug)]
pub struct DirectClient(pub Subject);

impl DirectClient {
    fn named(&self, key: &str, version_id: Option<&VersionId>) -> ObjectRef {
        ObjectRef {
            version_id: version_id.cloned(),
            ..self.0.object(key)
        }
    }

    async fn open(&self, key: &str, version_id: Option<&VersionId>) -> Result<OpenObject, Reply> {
        match self.0.open_object(&self.named(key, version_id)).await {
            Ok(open) => Ok(open),
            Err(BackendError::NoSuchKey | BackendError::NoSuchVersion) => Err(Reply::NotFound),
            Err(BackendError::DeleteMarker { version_id, .. }) => Err(Reply::DeleteMarker(version_id)),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn written(info: &ObjectInfo) -> Reply {
    Reply::Written(info.version_id.clone().expect("a version id"))
}

fn found(info: &ObjectInfo) -> Reply {
    let content = Content {
        etag: info.etag.as_str().into(),
        size: info.size,
    };
    Reply::Object(info.version_id.clone().expect("a version id"), content)
}

#[async_trait]
impl RaceClient for DirectClient {
    fn conditional(&self) -> bool {
        self.0.capabilities(Some(&self.0.bucket)).conditional_writes
    }

    async fn put(&self, key: &str, bytes: Bytes, condition: RaceCondition) -> Result<Reply, Lost> {
        let condition = match condition {
            RaceCondition::None => WriteCondition::default(),
            RaceCondition::IfAbsent => if_absent(),
            RaceCondition::IfMatch(etag) => if_match(&[&ETag::parse(etag).expect("an ETag of ours")]),
        };
        Ok(match self.0.put_if(condition, key, bytes).await {
            Ok(info) => written(&info),
            Err(BackendError::PreconditionFailed) => Reply::PreconditionFailed,
            Err(BackendError::NoSuchKey) => Reply::NotFound,
            Err(other) => panic!("{other:?}"),
        })
    }

    async fn put_in_parts(&self, key: &str, bytes: Bytes) -> Result<Reply, Lost> {
        let upload = self.0.upload(key).await;
        let part = self.0.part(&upload, 1, bytes).await;
        Ok(written(&self.0.complete(&upload, vec![part]).await.unwrap()))
    }

    async fn copy(&self, source: &str, version_id: &VersionId, key: &str) -> Result<Option<(Reply, Box<str>)>, Lost> {
        let Ok(opened) = self.open(source, Some(version_id)).await else {
            return Ok(None);
        };
        if !self.0.copies_between(&self.0.bucket, &self.0.bucket) {
            // As the gateway does it.
            let bytes = match try_read_whole(opened).await {
                Ok(bytes) => bytes,
                Err(BackendError::Conflict) => return Ok(None),
                Err(other) => panic!("{other:?}"),
            };
            let info = self.0.put(key, bytes).await;
            return Ok(Some((written(&info), info.etag.as_str().into())));
        }
        let request = CopyObject {
            source: self.named(source, Some(version_id)),
            source_etag: opened.info.etag,
            bucket: self.0.bucket.clone(),
            key: self.0.key(key),
            attributes: opened.info.attributes,
            condition: WriteCondition::default(),
            versions: None,
        };
        match self.0.copy_object(request).await {
            Ok(info) => Ok(Some((written(&info), info.etag.as_str().into()))),
            Err(BackendError::NoSuchVersion) => Ok(None),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn get(&self, key: &str, version_id: Option<&VersionId>) -> Result<(Reply, Option<Bytes>), Lost> {
        loop {
            let open = match self.open(key, version_id).await {
                Ok(open) => open,
                Err(reply) => return Ok((reply, None)),
            };
            let reply = found(&open.info);
            match try_read_whole(open).await {
                Ok(bytes) => return Ok((reply, Some(bytes))),
                // Deleted meanwhile.
                Err(BackendError::Conflict) if !self.0.capabilities(Some(&self.0.bucket)).stable_reads => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    async fn head(&self, key: &str, version_id: Option<&VersionId>) -> Result<Reply, Lost> {
        Ok(match self.open(key, version_id).await {
            Ok(open) => found(&open.info),
            Err(reply) => reply,
        })
    }

    async fn delete(&self, key: &str, version_id: Option<&VersionId>) -> Result<Reply, Lost> {
        let mut request = self.0.delete_request(key);
        request.object.version_id = version_id.cloned();
        let outcome = self.0.delete_object(request).await.unwrap();
        Ok(match (outcome.existed, version_id) {
            (false, _) => Reply::NotFound,
            (true, None) => Reply::Marked(outcome.version_id.expect("the marker's id")),
            (true, Some(_)) => Reply::VersionDeleted {
                was_marker: outcome.delete_marker,
            },
        })
    }

    async fn list(&self, key: &str) -> Result<Vec<Listed>, Lost> {
        let mut request = self.0.all_versions();
        request.prefix = key.into();
        let page = self.0.list_object_versions(request).await.unwrap();
        assert!(!page.is_truncated);
        let listed = page.entries.into_iter().filter(|entry| entry.name() == key);
        Ok(listed
            .map(|entry| match entry {
                VersionEntry::Object { info, is_latest } => match found(&info) {
                    Reply::Object(version_id, content) => Listed {
                        version_id,
                        content: Some(content),
                        is_latest,
                    },
                    other => panic!("{other:?}"),
                },
                VersionEntry::DeleteMarker(marker) => Listed {
                    version_id: marker.version_id,
                    content: None,
                    is_latest: marker.is_latest,
                },
                VersionEntry::CommonPrefix(prefix) => panic!("{prefix}"),
            })
            .collect())
    }
}

fn content_of(bytes: &[u8]) -> Content {
    Content {
        etag: super::subject::etag_of(bytes).as_str().into(),
        size: bytes.len() as u64,
    }
}

/// Of an object of one part.
fn multipart_etag(bytes: &[u8]) -> Box<str> {
    let part = super::subject::etag_of(bytes).as_md5().expect("an MD5");
    let whole = super::subject::etag_of(&part);
    format!("{whole}-1").into()
}
