//! What the store keeps, found out by trying: what an adapter sends is not what a server honours.

mod conditions;
mod names;
mod report;
mod versions;

use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use md5::{Digest as _, Md5};

pub use self::report::{ProbeLine, ProbeOutcome, ProbeReport, StoreLevel};
use super::{
    StoreLayout,
    answer::heard,
    key::{StoreDir, StoreKey},
    record::METADATA,
    store::{self, Dress, Piece, Precondition, Store, StoreError},
};
use crate::{BackendError, ObjectAttributes, Stamp, VersionId};

const WRITE: &str = "takes an object";
const READ: &str = "gives it back, whole and in part";
const LIST: &str = "lists it";
const DELETE: &str = "deletes it";
const NEEDED: [&str; 4] = [WRITE, READ, LIST, DELETE];
const METADATA_KEPT: &str = "keeps metadata with an object";
const MD5_TAGS: &str = "tags what is written in one piece with its MD5, no other";
const READ_SAME: &str = "refuses to read what has been replaced since";
const APART: &str = "keeps names apart that differ in case, or in how they are composed";
const ORDER: &str = "lists in byte order";
const START_AFTER: &str = "lists after a given name";
const CREATE: &str = "create if absent: refuses the second, keeps the first";
const SWAP: &str = "compare and set on write: refuses the stale, takes the good";
const JOIN: &str = "joins objects inside the store";
const JOIN_CREATE: &str = "create if absent, joining";
const JOIN_SWAP: &str = "compare and set, joining";
const COPY_SWAP: &str = "compare and set on copy (not used)";
const DELETE_SWAP: &str = "compare and set on delete";
const VERSIONS: &str = "keeps versions by itself: lists, gives, removes them by id";
const VERSIONS_AFTER: &str = "lists versions after a given name";
const ROLLS_UP: &str = "rolls up nothing that is deleted";
const NAMES_MARKERS: &str = "says of what is deleted that a delete marker is there";
const WRITES_WHOLE: &str = "known to show no object half written";
const UPLOAD_RULE: &str = "lifecycle rule for uploads that a killed gateway leaves";
const UNIQUE: &str = "a token is of one write: stale behind the same bytes again";

/// How often a question is asked at most.
const ATTEMPTS: usize = 4;

/// What the backend asks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) metadata: bool,
    pub(super) md5_etags: bool,
    pub(super) ordered: bool,
    pub(super) starts_after: bool,
    pub(super) copies: bool,
    /// Reads can be of one object, however often they are gone on with.
    pub(super) reads_same: bool,
    /// No two names are one.
    pub(super) names_apart: bool,
    pub(super) conditional_deletes: bool,
    /// What the store rolls up into a common prefix is there.
    pub(super) rolls_up: bool,
    /// As `starts_after`, of a listing of versions.
    pub(super) versions_start_after: bool,
    /// A missing object's answer tells of the delete marker that is there.
    pub(super) names_markers: bool,
    pub(super) level: StoreLevel,
}

/// Whether something holds; an error says why nobody knows.
type Answer = Result<Option<bool>, StoreError>;

struct Probe<'s> {
    store: &'s Store,
    layout: StoreLayout,
    run: Stamp,
    lines: Vec<ProbeLine>,
}

/// Asks the store everything, below a name that nobody else uses, and removes what it wrote.
pub(super) async fn probe(store: &Store, layout: StoreLayout, run: Stamp) -> (ProbeReport, Profile) {
    let mut probe = Probe {
        store,
        layout,
        run,
        lines: Vec::new(),
    };
    let profile = probe.run().await;
    let report = ProbeReport {
        service: store.service(),
        level: profile.level,
        writes_whole: !store.shows_half_written(),
        upload_rule: store::upload_rule(store.service()),
        lines: probe.lines,
    };
    (report, profile)
}

impl Probe<'_> {
    async fn run(&mut self) -> Profile {
        let mut profile = Profile {
            metadata: false,
            md5_etags: false,
            ordered: false,
            starts_after: false,
            copies: false,
            reads_same: false,
            names_apart: false,
            conditional_deletes: false,
            rolls_up: true,
            versions_start_after: false,
            names_markers: false,
            level: StoreLevel::Blobs,
        };
        if !self.note(WRITE, self.writes().await) || !self.note(READ, self.reads().await) {
            return profile;
        }
        profile.metadata = self.note(METADATA_KEPT, self.keeps_metadata().await);
        profile.reads_same = self.note(READ_SAME, self.reads_same().await);
        // Names of the encoded layout are no such pairs.
        if self.layout == StoreLayout::Transparent {
            profile.names_apart = self.note(APART, self.keeps_apart().await);
        }
        self.note(LIST, self.lists().await);
        profile.ordered = self.note(ORDER, self.orders().await);
        profile.starts_after = self.note(START_AFTER, self.starts_after().await);
        let creates = self
            .ask(CREATE, |probe, attempt| probe.creates(false, attempt).boxed())
            .await;
        let swaps = self.ask(SWAP, |probe, _| probe.swaps(false).boxed()).await;
        let tokens = self.tells_writes_apart().await;
        let swaps = swaps && tokens.is_ok();
        self.note(UNIQUE, tokens);
        profile.level = level(creates, swaps);
        // In the encoded layout nothing is joined.
        if self.layout == StoreLayout::Transparent && self.store.writes_in_parts() {
            profile.copies = self.ask(JOIN, |probe, _| probe.joins().boxed()).await;
            if !profile.copies {
                self.store.join_by_streaming();
            }
            let creates = self
                .ask(JOIN_CREATE, |probe, attempt| probe.creates(true, attempt).boxed())
                .await;
            let swaps = self.ask(JOIN_SWAP, |probe, _| probe.swaps(true).boxed()).await;
            profile.level = profile.level.min(level(creates, swaps));
        }
        profile.md5_etags = self.note(MD5_TAGS, self.tags(profile.copies).await);
        self.ask(COPY_SWAP, |probe, _| probe.copies_swapped().boxed()).await;
        let deletes = self.ask(DELETE_SWAP, |probe, _| probe.deletes_swapped().boxed()).await;
        profile.conditional_deletes = deletes && profile.level == StoreLevel::CompareAndSet;
        // In the encoded layout versions are the gateway's own.
        if self.layout == StoreLayout::Transparent {
            let kept = self.keeps_versions_undisturbed(profile).await;
            if self.note(VERSIONS, kept) {
                profile.rolls_up = self.note(ROLLS_UP, self.rolls_up().await);
                profile.versions_start_after = self.note(VERSIONS_AFTER, self.versions_start_after().await);
                profile.names_markers = self.note(NAMES_MARKERS, self.names_markers().await);
                self.store.keep_versions();
            }
        }
        self.note(DELETE, self.deletes().await);
        profile
    }

    fn key(&self, name: &str) -> StoreKey {
        StoreKey::probe(self.run, name)
    }

    /// Asks again where what has to be taken was refused: the reply to it may have been lost, and a retry refused for
    /// what the first attempt did. Taken for the store's answer, that would lower its level until the next start.
    async fn ask(
        &mut self,
        question: &'static str,
        ask: impl for<'p> Fn(&'p Self, usize) -> BoxFuture<'p, Answer>,
    ) -> bool {
        let mut answer = ask(self, 0).await;
        for attempt in 1..ATTEMPTS {
            if !matches!(answer, Err(StoreError::ConditionFailed | StoreError::NotFound)) {
                break;
            }
            answer = ask(self, attempt).await;
        }
        self.note(question, answer)
    }

    fn note(&mut self, question: &'static str, answer: Answer) -> bool {
        let outcome = match answer {
            Ok(Some(true)) => ProbeOutcome::Yes,
            Ok(Some(false)) => ProbeOutcome::No,
            Ok(None) | Err(StoreError::Unsupported) => ProbeOutcome::Unasked,
            Err(StoreError::NotFound) => ProbeOutcome::Failed("not found".to_owned()),
            Err(StoreError::ConditionFailed) => ProbeOutcome::Failed("refused where it has to be taken".to_owned()),
            Err(StoreError::Failed(error)) => ProbeOutcome::Failed(reason(&error)),
        };
        let yes = outcome == ProbeOutcome::Yes;
        self.lines.push(ProbeLine { question, outcome });
        yes
    }

    async fn put(
        &self,
        key: &StoreKey,
        bytes: &'static [u8],
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        let written = self
            .store
            .write(key, Bytes::from_static(bytes), Dress::default(), precondition);
        heard(written).await.0
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.read(key, 1 << 20).await?.map(|(bytes, _)| bytes))
    }

    async fn etag(&self, key: &StoreKey) -> Result<Option<Box<str>>, StoreError> {
        Ok(self.store.stat(key).await?.and_then(|meta| meta.etag))
    }

    async fn writes(&self) -> Answer {
        // Also in the place of another.
        for bytes in [&b"other bytes"[..], b"source bytes"] {
            self.put(&self.key("source"), bytes, &Precondition::None).await?;
        }
        // Its attributes are kept beside it, so it has to hold no bytes too.
        self.put(&self.key("a/nested/one"), b"x", &Precondition::None).await?;
        Ok(Some(true))
    }

    async fn reads(&self) -> Answer {
        let key = self.key("source");
        let whole = self.get(&key).await? == Some(Bytes::from_static(b"source bytes"));
        let part: Vec<Bytes> = self.store.stream(&key, 7..10, None, None).await?.try_collect().await?;
        let missing =
            self.get(&self.key("nothing")).await?.is_none() && self.store.stat(&self.key("nothing")).await?.is_none();
        Ok(Some(whole && part.concat() == b"byt" && missing))
    }

    async fn keeps_metadata(&self) -> Answer {
        let capability = self.store.capability();
        // Where they come after the bytes, an object would be seen without them.
        if !capability.write_with_user_metadata || self.store.service() == "webdav" {
            return Ok(None);
        }
        let key = self.key("dressed");
        let value = format!("{}-_", "a0".repeat(800));
        let user = [(METADATA.to_owned(), value.clone())].into();
        let dress = Dress::new(&ObjectAttributes::default(), user);
        self.store
            .write(&key, Bytes::from_static(b"x"), dress, &Precondition::None)
            .await?;
        let meta = self.store.stat(&key).await?;
        Ok(Some(meta.is_some_and(|meta| meta.user.get(METADATA) == Some(&value))))
    }

    async fn joins(&self) -> Answer {
        if !self.store.joins_inside() {
            return Ok(None);
        }
        let (source, joined) = (self.key("source"), self.key("joined"));
        self.put(&source, b"joined bytes", &Precondition::None).await?;
        let pieces = [piece(&source, b"joined bytes")];
        let user = [(METADATA.to_owned(), "joined".to_owned())].into();
        let dress = Dress::new(&ObjectAttributes::default(), user);
        self.store
            .join(&joined, &pieces, true, dress, &Precondition::None)
            .await?;
        let meta = self.store.stat(&joined).await?;
        let dressed = meta.is_some_and(|meta| meta.user.get(METADATA).map(String::as_str) == Some("joined"));
        Ok(Some(
            dressed && self.get(&joined).await?.as_deref() == Some(b"joined bytes"),
        ))
    }

    async fn tags(&self, joins: bool) -> Answer {
        let key = self.key("tagged");
        self.put(&key, b"tagged", &Precondition::None).await?;
        let md5 = hex::encode(Md5::digest(b"tagged"));
        let own = self.etag(&key).await?.is_some_and(|etag| *etag == md5);
        let joined = match joins {
            true => self.etag(&self.key("joined")).await?,
            false => None,
        };
        Ok(Some(own && joined.is_some_and(|etag| etag.contains('-'))))
    }

    /// Last: it removes all that the probe wrote.
    async fn deletes(&self) -> Answer {
        // What was replaced above lies there still, and so do delete markers.
        if self.store.keeps_versions() {
            self.store.delete_all_in(&StoreDir::probe(self.run)).await?;
        }
        for _ in 0..2 {
            let mut entries = self.store.list(&StoreDir::probe(self.run), "", true, None, None);
            let mut names = Vec::new();
            while let Some(found) = entries.next().await? {
                if !found.name.ends_with('/') {
                    names.push(found.name);
                }
            }
            if names.is_empty() {
                return Ok(Some(true));
            }
            for name in names {
                self.store.delete(&self.key(&name), &Precondition::None).await?;
            }
        }
        let gone = self.get(&self.key("source")).await?.is_none();
        Ok(Some(gone))
    }
}

fn level(creates: bool, swaps: bool) -> StoreLevel {
    match (creates, swaps) {
        (true, true) => StoreLevel::CompareAndSet,
        (true, false) => StoreLevel::CreateIfAbsent,
        (false, _) => StoreLevel::Blobs,
    }
}

fn piece(key: &StoreKey, bytes: &[u8]) -> Piece {
    Piece {
        key: key.clone(),
        size: bytes.len() as u64,
        token: None,
        version: None,
    }
}

/// In one line.
fn reason(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let line: String = text.chars().take(300).collect();
    line.replace(['\n', '\r'], " ")
}
