//! What the store keeps, found out by trying: what an adapter sends is not what a server honours.

use std::fmt;

use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use md5::{Digest as _, Md5};

use super::{
    StoreLayout,
    answer::heard,
    key::{StoreDir, StoreKey},
    record::METADATA,
    store::{self, Dress, Meta, Piece, Precondition, Store, StoreError, Token},
};
use crate::{BackendError, ObjectAttributes, Stamp, VersionId};

/// How far writers can be kept apart by the store itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreLevel {
    /// L0: it replaces whatever is there.
    Blobs,
    /// L1: of many writers of a new object one wins.
    CreateIfAbsent,
    /// L2: an object is replaced only as long as it is what was read.
    CompareAndSet,
}

impl fmt::Display for StoreLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blobs => "L0, blobs",
            Self::CreateIfAbsent => "L1, create if absent",
            Self::CompareAndSet => "L2, compare and set",
        })
    }
}

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    Yes,
    No,
    /// The adapter does not even ask.
    Unasked,
    /// The question itself failed.
    Failed(String),
}

/// One line of a [`ProbeReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeLine {
    pub question: &'static str,
    pub outcome: ProbeOutcome,
}

/// What a probe has found. Displayed, it is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// As opendal calls it.
    pub service: &'static str,
    pub level: StoreLevel,
    /// Nobody sees an object half written, whatever happens. `false`: that is not known of the service, whose servers may
    /// write in place.
    pub writes_whole: bool,
    /// What ends the uploads that a killed gateway has left in the store: its lifecycle rule of this name. `None`: it keeps
    /// none for good.
    pub upload_rule: Option<&'static str>,
    pub lines: Vec<ProbeLine>,
}

impl ProbeReport {
    /// Whether the store can be served at all: it takes, gives back, lists and deletes.
    pub fn is_usable(&self) -> bool {
        self.lines
            .iter()
            .filter(|line| NEEDED.contains(&line.question))
            .all(|line| line.outcome == ProbeOutcome::Yes)
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let outcome: &dyn fmt::Display = match &line.outcome {
                ProbeOutcome::Yes => &"yes",
                ProbeOutcome::No => &"no",
                ProbeOutcome::Unasked => &"no, and cannot be asked for",
                ProbeOutcome::Failed(reason) => reason,
            };
            writeln!(f, "  {:<58} {outcome}", line.question)?;
        }
        let whole = if self.writes_whole {
            "yes"
        } else {
            "no: it may write in place"
        };
        writeln!(f, "  {WRITES_WHOLE:<58} {whole}")?;
        if let Some(rule) = self.upload_rule {
            writeln!(f, "  {UPLOAD_RULE:<58} {rule}: not looked for, see that it is set")?;
        }
        write!(f, "  {:<58} {}", "level", self.level)
    }
}

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
pub(super) const ATTEMPTS: usize = 4;

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
pub(super) type Answer = Result<Option<bool>, StoreError>;

pub(super) struct Probe<'s> {
    pub(super) store: &'s Store,
    layout: StoreLayout,
    pub(super) run: Stamp,
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

    pub(super) fn key(&self, name: &str) -> StoreKey {
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

    pub(super) async fn put(
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

    pub(super) async fn get(&self, key: &StoreKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.read(key, 1 << 20).await?.map(|(bytes, _)| bytes))
    }

    async fn token(&self, key: &StoreKey) -> Result<Option<Token>, StoreError> {
        Ok(self.store.stat(key).await?.and_then(|meta: Meta| meta.token))
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

    async fn reads_same(&self) -> Answer {
        if !self.store.asks_on_reads() {
            return Ok(None);
        }
        let key = self.key("read");
        self.put(&key, b"first", &Precondition::None).await?;
        let stale = self.token(&key).await?;
        self.put(&key, b"other", &Precondition::None).await?;
        let good = self.token(&key).await?;
        let (Some(stale), Some(good)) = (stale, good) else {
            return Ok(Some(false));
        };
        let read = async |token| {
            self.store
                .stream(&key, 0..5, Some(token), None)
                .await?
                .try_collect::<Vec<_>>()
                .await
        };
        let refused = match read(&stale).await {
            Ok(_) => false,
            Err(StoreError::ConditionFailed) => true,
            Err(error) => return Err(error),
        };
        Ok(Some(refused && read(&good).await?.concat() == b"other"))
    }

    async fn keeps_apart(&self) -> Answer {
        for (name, bytes) in NAMES_APART {
            self.put(&self.key(name), bytes.as_bytes(), &Precondition::None).await?;
        }
        for (name, bytes) in NAMES_APART {
            if self.get(&self.key(name)).await?.as_deref() != Some(bytes.as_bytes()) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
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

    async fn names(&self, start_after: Option<&str>) -> Result<Vec<String>, StoreError> {
        let dir = StoreDir::probe(self.run);
        let start_after = start_after.map(|name| format!("{}{name}", dir.as_str()));
        let mut entries = self.store.list(&dir, "order", true, start_after.as_deref(), None);
        let mut names = Vec::new();
        while let Some(found) = entries.next().await? {
            if !found.name.ends_with('/') {
                names.push(found.name);
            }
        }
        Ok(names)
    }

    /// What is there to be listed, in order.
    fn written(&self) -> Vec<&'static str> {
        let wide = WIDE_NAMES
            .into_iter()
            .filter(|_| self.layout == StoreLayout::Transparent);
        NAMES.into_iter().chain(wide).collect()
    }

    async fn lists(&self) -> Answer {
        let written = self.written();
        for name in &written {
            self.put(&self.key(name), b"x", &Precondition::None).await?;
        }
        let mut names = self.names(None).await?;
        names.sort();
        Ok(Some(names == written))
    }

    async fn orders(&self) -> Answer {
        Ok(Some(self.names(None).await? == self.written()))
    }

    async fn starts_after(&self) -> Answer {
        if !self.store.capability().list_with_start_after {
            return Ok(None);
        }
        let written = self.written();
        // Also where there is none of that name.
        let after_none = self.names(Some("order.")).await?;
        Ok(Some(
            after_none == written[2..] && self.names(Some(written[2])).await? == written[3..],
        ))
    }

    /// Writes `bytes`, where `joined` by joining what another object holds.
    async fn write(
        &self,
        key: &StoreKey,
        bytes: &'static [u8],
        joined: bool,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        if !joined {
            return self.put(key, bytes, precondition).await;
        }
        let source = self.key("source");
        self.put(&source, bytes, &Precondition::None).await?;
        let pieces = [piece(&source, bytes)];
        let inside = self.store.joins_inside();
        self.store
            .join(key, &pieces, inside, Dress::default(), precondition)
            .await
    }

    async fn creates(&self, joined: bool, attempt: usize) -> Answer {
        let name = if joined { "joined-created" } else { "created" };
        let key = self.key(&format!("{name}-{attempt}"));
        self.write(&key, b"first", joined, &Precondition::Absent).await?;
        let second = self.write(&key, b"second", joined, &Precondition::Absent).await;
        let refused = match second {
            Ok(_) => false,
            Err(StoreError::ConditionFailed) => true,
            Err(error) => return Err(error),
        };
        Ok(Some(refused && self.get(&key).await?.as_deref() == Some(b"first")))
    }

    async fn swaps(&self, joined: bool) -> Answer {
        if !self.store.asks_on_writes() {
            return Ok(None);
        }
        let key = self.key(if joined { "joined-swapped" } else { "swapped" });
        self.write(&key, b"first", joined, &Precondition::None).await?;
        let Some(stale) = self.token(&key).await? else {
            return Ok(Some(false));
        };
        self.write(&key, b"second", joined, &Precondition::Is(stale.clone()))
            .await?;
        let refused = |outcome| match outcome {
            Ok(_) => Ok(false),
            Err(StoreError::ConditionFailed) => Ok(true),
            Err(error) => Err(error),
        };
        let stale = Precondition::Is(stale);
        let kept_out = refused(self.write(&key, b"third", joined, &stale).await)?;
        let still = self.get(&key).await?.as_deref() == Some(b"second");
        // Nor does it create what is not there.
        let absent = self.key("never");
        let absent_refused = refused(self.write(&absent, b"third", joined, &stale).await)?;
        let nothing = self.get(&absent).await?.is_none();
        Ok(Some(kept_out && still && absent_refused && nothing))
    }

    /// Whether an overwrite with the same bytes makes the token from before it stale. Either will do, but what the store
    /// shows and what it takes have to agree: an error where they do not.
    async fn tells_writes_apart(&self) -> Answer {
        if !self.store.capability().write_with_if_match {
            return Ok(None);
        }
        let key = self.key("same");
        self.put(&key, b"same", &Precondition::None).await?;
        let Some(first) = self.token(&key).await? else {
            return Ok(None);
        };
        self.put(&key, b"same", &Precondition::None).await?;
        let is_shown = self.token(&key).await?.as_ref() == Some(&first);
        // The same bytes once more: where the token is taken, so it is when the reply was lost.
        let refused = match self.put(&key, b"same", &Precondition::Is(first)).await {
            Ok(_) => false,
            Err(StoreError::ConditionFailed) => true,
            Err(error) => return Err(error),
        };
        let lie = match (is_shown, refused) {
            (false, false) => "it takes a token that it no longer shows",
            (true, true) => "it refuses the token that it shows",
            (true, false) | (false, true) => return Ok(Some(refused)),
        };
        Err(StoreError::Failed(BackendError::internal(
            "the store contradicts itself",
            lie,
        )))
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

    async fn copies_swapped(&self) -> Answer {
        let (source, copied) = (self.key("source"), self.key("copied"));
        self.put(&copied, b"first", &Precondition::None).await?;
        let Some(stale) = self.token(&copied).await? else {
            return Ok(None);
        };
        self.put(&copied, b"second", &Precondition::None).await?;
        let Some(good) = self.token(&copied).await? else {
            return Ok(Some(false));
        };
        let kept = match self.store.copy(&source, &copied, &Precondition::Is(stale)).await {
            Ok(()) => false,
            Err(StoreError::ConditionFailed) => self.get(&copied).await?.as_deref() == Some(b"second"),
            Err(error) => return Err(error),
        };
        if !kept {
            return Ok(Some(false));
        }
        self.store.copy(&source, &copied, &Precondition::Is(good)).await?;
        Ok(Some(self.get(&copied).await? == self.get(&source).await?))
    }

    async fn deletes_swapped(&self) -> Answer {
        if !self.store.asks_on_deletes() {
            return Ok(None);
        }
        let key = self.key("deleted");
        self.put(&key, b"first", &Precondition::None).await?;
        let stale = self.token(&key).await?;
        self.put(&key, b"second", &Precondition::None).await?;
        let (Some(stale), Some(good)) = (stale, self.token(&key).await?) else {
            return Ok(Some(false));
        };
        let kept = match self.store.delete(&key, &Precondition::Is(stale)).await {
            Ok(()) => false,
            Err(StoreError::ConditionFailed) => self.get(&key).await?.is_some(),
            Err(error) => return Err(error),
        };
        if !kept {
            return Ok(Some(false));
        }
        self.store.delete(&key, &Precondition::Is(good)).await?;
        Ok(Some(self.get(&key).await?.is_none()))
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

/// In byte order, which is not that of a tree.
const NAMES: [&str; 5] = ["order-", "order-a", "order/a", "order/b", "order0"];
/// Likewise; by UTF-16 the second would come first. The encoded layout has no such names.
const WIDE_NAMES: [&str; 2] = ["order\u{ff5e}", "order\u{1f980}"];

/// With what is written there: `a` in both cases, and `e` with its accent in one character and in two.
const NAMES_APART: [(&str, &str); 4] = [
    ("apart/a", "small"),
    ("apart/A", "large"),
    ("apart/\u{e9}", "composed"),
    ("apart/e\u{301}", "decomposed"),
];

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
