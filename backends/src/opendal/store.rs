//! The store, as far as this backend uses it: opendal's operator behind names, tokens and errors of our own.

mod again;
mod compose;
mod error;
mod list;
mod open;
mod token;
mod write;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use opendal::{
    Buffer, Capability, ErrorKind, Metadata, Operator,
    options::{CopyOptions, DeleteOptions, ReaderOptions},
};
use tokio::time::Instant;

pub(super) use self::{
    error::{StoreError, as_unavailable, failed, is_unavailable},
    list::Entries,
    open::{services, upload_rule},
    token::{Precondition, Token, TokenKind},
};
use super::{key::StoreKey, watch::StoreObserver};
use crate::{BackendError, ContentHeaders, ObjectAttributes, Timestamp, VersionId};

/// The smallest part that stores take in the middle of an upload.
const MIN_PART_BYTES: u64 = 5 << 20;
/// Stores take so many parts, and more than S3's number is not counted on.
const MAX_PARTS: u64 = 10_000;
/// What one copy inside the store may take.
const MAX_COPY_BYTES: u64 = 5 << 30;

/// What is damaged is read again after so long, where the store shows what is half written, then after twice as long,
/// and so on up to the most.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MOST_PAUSE: Duration = Duration::from_millis(250);
/// Nobody writes what is damaged and has not changed for so long.
const SETTLED_FOR: Duration = Duration::from_secs(3);
/// What goes on changing and is never whole is given up after so long.
const CHANGING_FOR: Duration = Duration::from_secs(15);

/// What the store says of an object.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) size: u64,
    pub(super) token: Option<Token>,
    /// Without the quotes.
    pub(super) etag: Option<Box<str>>,
    pub(super) last_modified: Option<Timestamp>,
    /// `None` where the store names none.
    pub(super) version: Option<VersionId>,
    /// As the store keeps them.
    pub(super) content: ContentHeaders,
    pub(super) user: HashMap<String, String>,
}

impl Meta {
    pub(super) fn of(metadata: &Metadata, tokens: TokenKind) -> Self {
        let text = |text: Option<&str>| text.map(Box::from);
        let user = metadata.user_metadata().map(|user| {
            let pairs = user.into_iter();
            pairs
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect()
        });
        Self {
            size: metadata.content_length(),
            token: tokens.of(metadata),
            etag: metadata
                .etag()
                .map(|etag| etag.trim_start_matches("W/").trim_matches('"').into()),
            last_modified: metadata
                .last_modified()
                .map(|time| Timestamp::from(std::time::SystemTime::from(time))),
            version: version_of(metadata),
            content: ContentHeaders {
                content_type: text(metadata.content_type()),
                content_encoding: text(metadata.content_encoding()),
                content_disposition: text(metadata.content_disposition()),
                cache_control: text(metadata.cache_control()),
                ..ContentHeaders::default()
            },
            user: user.unwrap_or_default(),
        }
    }
}

/// One that clients could not be given is none.
fn version_of(metadata: &Metadata) -> Option<VersionId> {
    VersionId::parse(metadata.version()?).ok()
}

/// An entry of a listing.
#[derive(Debug)]
pub(super) struct Found {
    /// In the directory that was listed; a directory's ends in a slash.
    pub(super) name: String,
    /// The size is 0 where the store's listing does not tell it.
    pub(super) meta: Meta,
}

/// What a write gives the object beside its bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Dress {
    pub(super) user: Option<HashMap<String, String>>,
    pub(super) content: ContentHeaders,
}

impl Dress {
    /// The content headers for those who read the store directly, and `user`.
    pub(super) fn new(attributes: &ObjectAttributes, user: HashMap<String, String>) -> Self {
        Self {
            user: Some(user),
            content: attributes.content.clone(),
        }
    }
}

/// Bytes in the store that an object is joined from.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) key: StoreKey,
    pub(super) size: u64,
    /// What it must be.
    pub(super) token: Option<Token>,
    /// The version of the store's own that is meant. `None`: what is there.
    pub(super) version: Option<VersionId>,
}

#[derive(Debug)]
pub(super) struct Store {
    op: Operator,
    /// Tries nothing again.
    once: Operator,
    /// Copies inside the store also what is smaller than a part.
    joining: Operator,
    /// Joins by reading and writing.
    streaming: Operator,
    joins_inside: AtomicBool,
    /// It joins by composing, in a call for up to [`MAX_COMPONENTS`](compose::MAX_COMPONENTS) objects.
    composes: bool,
    tokens: TokenKind,
    keeps_versions: AtomicBool,
    /// What is being written would be seen, and would stay so if the writer were cut off.
    writes_in_place: bool,
    /// What is being written in place may be seen by who reads.
    shows_half_written: bool,
    observer: Option<Arc<dyn StoreObserver>>,
    retry_delay: Duration,
}

/// Whether `service` takes names of so many segments.
fn takes_segments(service: &str, root: &str, name: &str) -> bool {
    let most = match service {
        "azblob" => 254,
        // A hierarchical namespace takes fewer, the container among them.
        "azdls" => 62,
        _ => return true,
    };
    let segments = root.split('/').chain(name.split('/'));
    segments.filter(|segment| !segment.is_empty()).count() <= most
}

impl Store {
    /// How long what the configuration puts before every name is.
    pub(super) fn root_bytes(&self) -> usize {
        self.op.info().root().trim_start_matches('/').len()
    }

    /// Whether the store takes a name of so many segments, beside those of the root. Azure does not take any number:
    /// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>.
    pub(super) fn takes_segments_of(&self, key: &StoreKey) -> bool {
        takes_segments(self.service(), &self.op.info().root(), key.as_str())
    }

    /// Whether joining is the store's own work, and not the gateway's.
    pub(super) fn joins_inside(&self) -> bool {
        self.joins_inside.load(Ordering::Relaxed)
    }

    /// The store cannot do what its adapter has.
    pub(super) fn join_by_streaming(&self) {
        self.joins_inside.store(false, Ordering::Relaxed);
    }

    /// The store keeps versions by itself, and the backend goes by them.
    pub(super) fn keep_versions(&self) {
        self.keeps_versions.store(true, Ordering::Relaxed);
    }

    pub(super) fn keeps_versions(&self) -> bool {
        self.keeps_versions.load(Ordering::Relaxed)
    }

    pub(super) fn operator(&self) -> &Operator {
        &self.op
    }

    /// What opendal has an adapter for. What the store behind it honours, only the probe knows.
    pub(super) fn capability(&self) -> Capability {
        self.op.info().capability()
    }

    pub(super) fn service(&self) -> &'static str {
        self.op.info().scheme()
    }

    /// Whether a body can be written in pieces. Elsewhere an object is what one call can carry: also where the pieces
    /// follow each other in a file, in which one that is sent again comes behind what has arrived of it.
    pub(super) fn writes_in_parts(&self) -> bool {
        self.capability().write_can_multi && !self.writes_in_place
    }

    pub(super) async fn stat(&self, key: &StoreKey) -> Result<Option<Meta>, StoreError> {
        tokio::task::consume_budget().await;
        match self.op.stat(key.as_str()).await.map_err(failed) {
            Ok(metadata) if metadata.is_dir() => Ok(None),
            Ok(metadata) => Ok(Some(Meta::of(&metadata, self.tokens))),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn tokens(&self) -> TokenKind {
        self.tokens
    }

    /// Whether what is read may be of a write that is under way.
    pub(super) fn shows_half_written(&self) -> bool {
        self.shows_half_written
    }

    /// All bytes, which are at most `max`, with the token that goes with them. They are of one answer: one that broke off
    /// is not gone on with, for the object may be another by then.
    pub(super) async fn read(&self, key: &StoreKey, max: u64) -> Result<Option<(Bytes, Option<Token>)>, StoreError> {
        let mut attempts = self.attempts("read");
        loop {
            // A store that never waits would let nobody else run.
            tokio::task::consume_budget().await;
            match self.read_once(key, max).await {
                Ok(Some(read)) => return Ok(Some(read)),
                Ok(None) => {
                    return Err(StoreError::Failed(BackendError::internal(
                        "an object of the gateway's own is larger than it makes them",
                        key.to_string(),
                    )));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) if error.is_temporary() && attempts.another(self, key.as_str(), &error).await => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// `None`: there are more than `max`.
    async fn read_once(&self, key: &StoreKey, max: u64) -> opendal::Result<Option<(Bytes, Option<Token>)>> {
        let reader = self.once.reader_options(key.as_str(), ReaderOptions::default()).await?;
        let mut stream = reader.into_stream(..).await?;
        let token = match stream.metadata().await {
            Ok(metadata) => self.tokens.of(&metadata),
            // Of sftp, which has no tokens either.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        let mut pieces = Vec::new();
        let mut size = 0;
        while let Some(piece) = stream.try_next().await? {
            size += piece.len() as u64;
            if size > max {
                return Ok(None);
            }
            pieces.extend(piece);
        }
        Ok(Some((Buffer::from(pieces).to_bytes(), token)))
    }

    /// What `of` makes of the bytes, which are at most `max`, with the token that goes with them; `None` in its place for
    /// what is damaged. Where the store shows what is half written, that is read again: until it is whole, or has not
    /// changed for 3 seconds, but no longer than 15.
    pub(super) async fn read_as<T>(
        &self,
        key: &StoreKey,
        max: u64,
        of: impl Fn(&Bytes) -> Option<T>,
    ) -> Result<Option<(Option<T>, Option<Token>)>, StoreError> {
        let begun = Instant::now();
        let mut seen = (Bytes::new(), begun);
        let mut pause = FIRST_PAUSE;
        loop {
            let Some((bytes, token)) = self.read(key, max).await? else {
                return Ok(None);
            };
            let made = of(&bytes);
            if made.is_some() || !self.shows_half_written {
                return Ok(Some((made, token)));
            }
            let now = Instant::now();
            if bytes != seen.0 {
                seen = (bytes, now);
                pause = FIRST_PAUSE;
            }
            if now - seen.1 >= SETTLED_FOR || now - begun >= CHANGING_FOR {
                return Ok(Some((None, token)));
            }
            tokio::time::sleep(pause).await;
            pause = MOST_PAUSE.min(2 * pause);
        }
    }

    /// The bytes of `range`, which lies within the object and is not empty, as long as it is as `token` says; of a
    /// version of the store's own, where one is named.
    pub(super) async fn stream(
        &self,
        key: &StoreKey,
        range: Range<u64>,
        token: Option<&Token>,
        version: Option<&VersionId>,
    ) -> Result<impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + use<>, StoreError> {
        let (if_match, if_version_match) = Token::conditions(token.filter(|_| self.asks_on_reads()));
        let options = ReaderOptions {
            if_match,
            if_version_match,
            version: version.map(VersionId::to_string),
            ..ReaderOptions::default()
        };
        let reader = self.op.reader_options(key.as_str(), options).await.map_err(failed)?;
        let stream = reader.into_stream(range).await.map_err(failed)?;
        let pieces = stream.map(|buffer| match buffer {
            Ok(buffer) => futures::stream::iter(Iterator::map(buffer, Ok).collect::<Vec<_>>()),
            Err(error) => futures::stream::iter(vec![Err(failed(error))]),
        });
        Ok(pieces.flatten())
    }

    /// Nothing there is no error. Where the store keeps versions by itself, all of them go.
    pub(super) async fn delete(&self, key: &StoreKey, precondition: &Precondition) -> Result<(), StoreError> {
        if self.keeps_versions() {
            return self.delete_all_versions(key, precondition).await;
        }
        let options = delete_options(precondition);
        match self.op.delete_options(key.as_str(), options).await.map_err(failed) {
            Err(StoreError::NotFound) => Ok(()),
            outcome => outcome,
        }
    }

    /// Copies as the store does by itself, metadata and all.
    pub(super) async fn copy(
        &self,
        from: &StoreKey,
        to: &StoreKey,
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let (if_match, if_version_match) = precondition.conditions();
        let options = CopyOptions {
            if_match,
            if_version_match,
            if_not_exists: *precondition == Precondition::Absent,
            ..CopyOptions::default()
        };
        let copied = self.op.copy_options(from.as_str(), to.as_str(), options).await;
        copied.map(drop).map_err(failed)
    }
}

pub(super) fn delete_options(precondition: &Precondition) -> DeleteOptions {
    let (if_match, if_version_match) = precondition.conditions();
    DeleteOptions {
        if_match,
        if_version_match,
        ..DeleteOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_takes_names_of_so_many_segments() {
        for (service, root, most) in [("azblob", "/", 254), ("azblob", "/a/b/", 252), ("azdls", "/a/", 61)] {
            let name = |segments: usize| vec!["s"; segments].join("/");
            assert!(takes_segments(service, root, &name(most)), "{service} {root}");
            assert!(!takes_segments(service, root, &name(most + 1)), "{service} {root}");
            assert!(takes_segments("s3", root, &name(most + 1)));
            // That it ends in a slash, as a folder's name does, makes it none longer.
            assert!(takes_segments(service, root, &(name(most) + "/")));
        }
    }
}
