//! The store, as far as this backend uses it: opendal's operator behind names, tokens and errors of our own.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use opendal::{
    Buffer, Capability, ErrorKind, Metadata, Operator,
    layers::{CapabilityCheckLayer, CapabilityOverrideLayer, RetryLayer, TimeoutLayer},
    options::{CopyOptions, DeleteOptions, ListOptions, ReadOptions, ReaderOptions, WriteOptions},
};

use super::{
    key::{StoreDir, StoreKey},
    secrets::Secrets,
    watch::{Retries, StoreObserver, WatchLayer},
};
use crate::{BackendError, Clock as _, ContentHeaders, ObjectAttributes, Stamp, SystemClock, Timestamp};

/// Set when it is known that a client for HTTP can be had: to find out takes a while.
static HAS_TLS: OnceLock<()> = OnceLock::new();

/// Services that are no matter of HTTP.
const WITHOUT_HTTP: [&str; 2] = ["memory", "sftp"];
/// Calls that carry no body end after so long, and are tried again.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// One part of a body, or a copy of up to 5 GiB inside the store, ends after so long: 8 MiB at 30 KiB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// Calls that fail for a passing reason are tried again so often.
const RETRIES: usize = 4;
/// Before the first of them, and up to twice as long: most often a connection has ended that was idle.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Each delay is so many times the one before: all of them are 8.5 seconds, and up to twice as long.
const RETRY_FACTOR: f32 = 4.0;
/// The smallest part that stores take in the middle of an upload.
const MIN_PART_BYTES: u64 = 5 << 20;
/// Stores take so many parts, and more than S3's number is not counted on.
const MAX_PARTS: u64 = 10_000;
/// What one copy inside the store may take.
const MAX_COPY_BYTES: u64 = 5 << 30;

/// Which state of an object a store's answer is about: an ETag, as the store says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl Token {
    /// Without the quotes.
    pub(super) fn text(&self) -> &str {
        self.0.trim_start_matches("W/").trim_matches('"')
    }
}

/// What has to hold in the store for a write or a delete to take place, judged by the store in the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Precondition {
    None,
    Absent,
    Is(Token),
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum StoreError {
    NotFound,
    /// A [`Precondition`] does not hold.
    ConditionFailed,
    /// The way to the store, or the store, cannot do this.
    Unsupported,
    /// Whether the call took effect is unknown, unless the error says that nothing was changed.
    Failed(BackendError),
}

/// For calls that no missing object and no condition can end.
impl From<StoreError> for BackendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => {
                Self::internal("something that the gateway keeps in the store is gone", "not found")
            }
            StoreError::ConditionFailed => Self::Conflict,
            StoreError::Unsupported => Self::internal("the store cannot do what its probe promised", "unsupported"),
            StoreError::Failed(error) => error,
        }
    }
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

fn failed(error: opendal::Error) -> StoreError {
    let internal = |context, error: opendal::Error| StoreError::Failed(BackendError::internal(context, error));
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound,
        ErrorKind::ConditionNotMatch => StoreError::ConditionFailed,
        ErrorKind::Unsupported => StoreError::Unsupported,
        ErrorKind::PermissionDenied => internal(
            "the store refuses the gateway's own credentials, or what they may do there",
            error,
        ),
        ErrorKind::RateLimited => StoreError::Failed(BackendError::Busy {
            context: "the store asks to slow down",
        }),
        ErrorKind::Conflict => StoreError::Failed(BackendError::Conflict),
        ErrorKind::ConfigInvalid => internal("the store's configuration is wrong", error),
        _ if error.to_string().contains("KeyTooLongError") => StoreError::Failed(BackendError::UnsupportedKey(
            "the store says that it, or a segment of it, is too long",
        )),
        _ if is_unavailable(&error) => StoreError::Failed(BackendError::Busy {
            context: "the store is not available",
        }),
        _ => internal("the store failed", error),
    }
}

/// A 503 that outlived its retries. opendal has no kind for it; the response is part of the error's text.
pub(super) fn is_unavailable(error: &opendal::Error) -> bool {
    error.to_string().contains("status: 503")
}

/// What the store says of an object.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) size: u64,
    pub(super) token: Option<Token>,
    pub(super) last_modified: Option<Timestamp>,
    /// As the store keeps them.
    pub(super) content: ContentHeaders,
    pub(super) user: HashMap<String, String>,
}

impl Meta {
    fn of(metadata: &Metadata) -> Self {
        let text = |text: Option<&str>| text.map(Box::from);
        let user = metadata.user_metadata().map(|user| {
            let pairs = user.into_iter();
            pairs
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect()
        });
        Self {
            size: metadata.content_length(),
            token: metadata.etag().map(|etag| Token(etag.to_owned())),
            last_modified: metadata
                .last_modified()
                .map(|time| Timestamp::from(std::time::SystemTime::from(time))),
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
    /// What is being written would be seen, and would stay so if the writer were cut off.
    writes_in_place: bool,
}

impl Store {
    /// Opens the service `scheme` with its own options. No error says what is secret among them.
    pub(super) fn open(
        scheme: &str,
        options: &[(String, String)],
        observer: Option<Arc<dyn StoreObserver>>,
    ) -> Result<Self, String> {
        opendal::install_default();
        // opendal makes one for all, at the first call, and panics where there is none to be had.
        if !WITHOUT_HTTP.contains(&scheme) && HAS_TLS.get().is_none() {
            reqwest::Client::builder().build().map_err(|error| {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                format!("there can be no TLS, also SSL_CERT_FILE names no root certificates: {error}{cause}")
            })?;
            HAS_TLS.get_or_init(|| ());
        }
        let secrets = Secrets::among(options);
        let op = Operator::via_iter(scheme, options.iter().cloned())
            .map_err(|error| secrets.masked(&error.to_string()).into_owned())?;
        let writes_in_place = op.info().scheme() == "sftp";
        let op = op
            .layer(CapabilityOverrideLayer::new(move |mut capability| {
                // It makes the file first and writes it then.
                capability.write_with_if_not_exists &= !writes_in_place;
                capability
            }))
            .layer(CapabilityCheckLayer::default())
            .layer(
                TimeoutLayer::new()
                    .with_timeout(CALL_TIMEOUT)
                    .with_io_timeout(BODY_TIMEOUT),
            )
            .layer(WatchLayer::new(observer.clone(), secrets));
        let once = op.clone();
        let op = op.layer(
            RetryLayer::new()
                .with_jitter()
                .with_min_delay(RETRY_DELAY)
                .with_factor(RETRY_FACTOR)
                .with_max_times(RETRIES)
                .with_notify(Retries(observer)),
        );
        let joining = op.clone().layer(CapabilityOverrideLayer::new(|mut capability| {
            capability.write_multi_min_size = Some(1);
            capability
        }));
        let streaming = op.clone().layer(CapabilityOverrideLayer::new(|mut capability| {
            capability.write_can_copy_from = false;
            capability
        }));
        let joins_inside = AtomicBool::new(op.info().capability().write_can_copy_from);
        Ok(Self {
            op,
            once,
            joining,
            streaming,
            joins_inside,
            writes_in_place,
        })
    }

    /// How long what the configuration puts before every name is.
    pub(super) fn root_bytes(&self) -> usize {
        self.op.info().root().trim_start_matches('/').len()
    }

    /// Whether joining is the store's own work, and not the gateway's.
    pub(super) fn joins_inside(&self) -> bool {
        self.joins_inside.load(Ordering::Relaxed)
    }

    /// The store cannot do what its adapter has.
    pub(super) fn join_by_streaming(&self) {
        self.joins_inside.store(false, Ordering::Relaxed);
    }

    /// What opendal has an adapter for. What the store behind it honours, only the probe knows.
    pub(super) fn capability(&self) -> Capability {
        self.op.info().capability()
    }

    pub(super) fn service(&self) -> &'static str {
        self.op.info().scheme()
    }

    /// Whether a body can be written in pieces. Elsewhere an object is what one call can carry.
    pub(super) fn writes_in_parts(&self) -> bool {
        self.capability().write_can_multi
    }

    pub(super) async fn stat(&self, key: &StoreKey) -> Result<Option<Meta>, StoreError> {
        tokio::task::consume_budget().await;
        match self.op.stat(key.as_str()).await.map_err(failed) {
            Ok(metadata) if metadata.is_dir() => Ok(None),
            Ok(metadata) => Ok(Some(Meta::of(&metadata))),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All bytes, which are at most `max`, with the token that goes with them.
    pub(super) async fn read(&self, key: &StoreKey, max: u64) -> Result<Option<(Bytes, Option<Token>)>, StoreError> {
        // A store that never waits would let nobody else run.
        tokio::task::consume_budget().await;
        let reader = self.op.reader_options(key.as_str(), ReaderOptions::default()).await;
        let read = async {
            let reader = reader?;
            let mut stream = reader.into_stream(..).await?;
            let token = match stream.metadata().await {
                Ok(metadata) => metadata.etag().map(|etag| Token(etag.to_owned())),
                // Of sftp, which has no tags either.
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
        };
        match read.await.map_err(failed) {
            Ok(None) => Err(StoreError::Failed(BackendError::internal(
                "an object of the gateway's own is larger than it makes them",
                key.to_string(),
            ))),
            Ok(read) => Ok(read),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of `range`, which lies within the object and is not empty, as long as it is as `token` says.
    pub(super) async fn stream(
        &self,
        key: &StoreKey,
        range: Range<u64>,
        token: Option<&Token>,
    ) -> Result<impl futures::Stream<Item = Result<Bytes, StoreError>> + Send + use<>, StoreError> {
        let if_match = token
            .filter(|_| self.capability().read_with_if_match)
            .map(|token| token.0.clone());
        let options = ReaderOptions {
            if_match,
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

    /// One write of bytes at hand.
    pub(super) async fn write(
        &self,
        key: &StoreKey,
        bytes: impl Into<Buffer>,
        dress: Dress,
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let options = self.write_options(dress, precondition);
        if self.writes_in_place {
            return self.write_and_rename(key, bytes.into(), options).await;
        }
        let written = self.op.write_options(key.as_str(), bytes, options).await;
        written.map(drop).map_err(failed)
    }

    /// As [`write`](Self::write), in one attempt. `true` says of a failure that another may be given the store.
    pub(super) async fn write_once(
        &self,
        key: &StoreKey,
        bytes: Bytes,
        precondition: &Precondition,
    ) -> Result<(), (StoreError, bool)> {
        if self.writes_in_place {
            let written = self.write(key, bytes, Dress::default(), precondition).await;
            return written.map_err(|error| (error, false));
        }
        let options = self.write_options(Dress::default(), precondition);
        let written = self.once.write_options(key.as_str(), bytes, options).await;
        written.map(drop).map_err(|error| {
            let passing = error.is_temporary();
            (failed(error), passing)
        })
    }

    /// The pauses before each further attempt at a call.
    pub(super) fn pauses() -> impl Iterator<Item = Duration> {
        std::iter::successors(Some(RETRY_DELAY), |delay| Some(delay.mul_f32(RETRY_FACTOR))).take(RETRIES)
    }

    async fn write_and_rename(&self, key: &StoreKey, bytes: Buffer, options: WriteOptions) -> Result<(), StoreError> {
        let random =
            getrandom::u64().map_err(|error| BackendError::internal("no randomness for a name in the store", error))?;
        let aside = StoreKey::aside(Stamp::new(SystemClock.now(), random));
        let written = async {
            self.op.write_options(aside.as_str(), bytes, options).await?;
            self.op.rename(aside.as_str(), key.as_str()).await
        };
        let outcome = written.await.map_err(failed);
        if outcome.is_err()
            && let Err(error) = self.delete(&aside, &Precondition::None).await
        {
            tracing::warn!(key = %aside, ?error, "what was not renamed is left to the sweeper");
        }
        outcome
    }

    /// Makes an object of pieces: `inside` the store, or by reading and writing. Ends what it began, whatever happens; to
    /// be called where nothing drops it. Holds as much in memory as [`joining_bytes`](Self::joining_bytes) says.
    pub(super) async fn join(
        &self,
        key: &StoreKey,
        pieces: &[Piece],
        inside: bool,
        dress: Dress,
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let total: u64 = pieces.iter().map(|piece| piece.size).sum();
        // What is smaller than a part is read and written also inside: parts of the least size, so that little is.
        let (op, chunk) = match pieces {
            // Of any size it is a whole part.
            [piece] if inside => (&self.joining, piece.size.clamp(1, MIN_PART_BYTES)),
            _ if inside => (&self.op, MIN_PART_BYTES),
            _ => (&self.streaming, chunk_for(total) as u64),
        };
        let options = WriteOptions {
            chunk: usize::try_from(chunk).ok(),
            concurrent: 1,
            ..self.write_options(dress, precondition)
        };
        let mut writer = op.writer_options(key.as_str(), options).await.map_err(failed)?;
        let copied = async {
            for piece in pieces {
                let mut at = 0;
                while at < piece.size {
                    let end = piece.size.min(at + MAX_COPY_BYTES);
                    let options = ReadOptions {
                        range: (at..end).into(),
                        if_match: piece.token.as_ref().map(|token| token.0.clone()),
                        content_length_hint: Some(piece.size),
                        ..ReadOptions::default()
                    };
                    writer.copy_from_options(piece.key.as_str(), options).await?;
                    at = end;
                }
            }
            writer.close().await
        };
        let outcome = copied.await;
        if outcome.is_err() {
            end(&mut writer, key).await;
        }
        outcome.map(drop).map_err(failed)
    }

    /// A writer for `total` bytes that come in pieces. The second value is how much it may hold in memory.
    pub(super) async fn writer(&self, key: &StoreKey, total: u64) -> Result<Writer, StoreError> {
        let options = WriteOptions {
            chunk: Some(chunk_for(total)),
            concurrent: 1,
            ..WriteOptions::default()
        };
        let writer = self.op.writer_options(key.as_str(), options).await.map_err(failed)?;
        Ok(Writer {
            writer,
            key: key.clone(),
        })
    }

    /// What [`writer`](Self::writer) for so many bytes holds in memory at most.
    pub(super) fn writer_bytes(total: u64) -> u64 {
        3 * chunk_for(total) as u64
    }

    /// What [`join`](Self::join) of these pieces holds in memory at most.
    pub(super) fn joining_bytes(pieces: &[Piece], inside: bool) -> u64 {
        match pieces {
            // It does not pass through the gateway.
            [_] if inside => 0,
            _ if inside => 3 * MIN_PART_BYTES,
            _ => Self::writer_bytes(pieces.iter().map(|piece| piece.size).sum()),
        }
    }

    /// Nothing there is no error.
    pub(super) async fn delete(&self, key: &StoreKey, precondition: &Precondition) -> Result<(), StoreError> {
        let options = DeleteOptions {
            if_match: match precondition {
                Precondition::Is(token) => Some(token.0.clone()),
                Precondition::None | Precondition::Absent => None,
            },
            ..DeleteOptions::default()
        };
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
        let options = CopyOptions {
            if_match: match precondition {
                Precondition::Is(token) => Some(token.0.clone()),
                Precondition::None | Precondition::Absent => None,
            },
            if_not_exists: *precondition == Precondition::Absent,
            ..CopyOptions::default()
        };
        let copied = self.op.copy_options(from.as_str(), to.as_str(), options).await;
        copied.map(drop).map_err(failed)
    }

    /// What lies in `dir`, in the store's order: with `recursive` all that lies below, elsewhere directories for what
    /// lies deeper. After `start_after`, a path, where the store can; a hint of how many are wanted goes with it.
    pub(super) async fn list(
        &self,
        dir: &StoreDir,
        beginning: &str,
        recursive: bool,
        start_after: Option<&str>,
        wanted: Option<usize>,
    ) -> Result<Entries, StoreError> {
        let capability = self.capability();
        let options = ListOptions {
            recursive,
            start_after: start_after
                .filter(|_| capability.list_with_start_after)
                .map(str::to_owned),
            limit: wanted.filter(|_| capability.list_with_limit),
            ..ListOptions::default()
        };
        let path = match dir.as_str() {
            "" if beginning.is_empty() => "/".to_owned(),
            dir => format!("{dir}{beginning}"),
        };
        let lister = match self.op.lister_options(&path, options).await.map_err(failed) {
            Ok(lister) => Some(lister),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error),
        };
        Ok(Entries {
            lister,
            dir: dir.clone(),
        })
    }

    fn write_options(&self, dress: Dress, precondition: &Precondition) -> WriteOptions {
        let capability = self.capability();
        let header = |kept: bool, text: Option<Box<str>>| text.filter(|text| kept && is_plain(text)).map(String::from);
        WriteOptions {
            cache_control: header(capability.write_with_cache_control, dress.content.cache_control),
            content_type: header(capability.write_with_content_type, dress.content.content_type),
            content_disposition: header(
                capability.write_with_content_disposition,
                dress.content.content_disposition,
            ),
            content_encoding: header(capability.write_with_content_encoding, dress.content.content_encoding),
            user_metadata: dress.user,
            if_match: match precondition {
                Precondition::Is(token) => Some(token.0.clone()),
                Precondition::None | Precondition::Absent => None,
            },
            if_not_exists: *precondition == Precondition::Absent,
            ..WriteOptions::default()
        }
    }
}

/// How large the parts of a body of `total` bytes are.
fn chunk_for(total: u64) -> usize {
    // Some room is left below the number of parts that there can be.
    let needed = total.div_ceil(MAX_PARTS - 100).next_multiple_of(1 << 20);
    usize::try_from(needed.max(MIN_PART_BYTES)).unwrap_or(usize::MAX)
}

/// What every header can say.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// An upload that was begun is not left to the store.
async fn end(writer: &mut opendal::Writer, key: &StoreKey) {
    if let Err(error) = writer.abort().await {
        tracing::warn!(%key, %error, "an upload in the store could not be aborted");
    }
}

/// Writes one object in parts. To be held where nothing drops it before [`close`](Self::close) or
/// [`abort`](Self::abort).
pub(super) struct Writer {
    writer: opendal::Writer,
    key: StoreKey,
}

impl Writer {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.writer.write(bytes).await.map_err(failed)
    }

    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        self.writer.close().await.map(drop).map_err(failed)
    }

    pub(super) async fn abort(&mut self) {
        end(&mut self.writer, &self.key).await;
    }
}

/// A listing under way. Nothing of it is held but the store's page.
pub(super) struct Entries {
    lister: Option<opendal::Lister>,
    dir: StoreDir,
}

impl Entries {
    pub(super) async fn next(&mut self) -> Result<Option<Found>, StoreError> {
        tokio::task::consume_budget().await;
        let Some(lister) = &mut self.lister else {
            return Ok(None);
        };
        loop {
            let entry = match lister.try_next().await.map_err(failed) {
                Ok(Some(entry)) => entry,
                // A directory that is not there is empty.
                Ok(None) | Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            let (path, metadata) = entry.into_parts();
            if let Some(name) = self.dir.name(&path) {
                return Ok(Some(Found {
                    name: name.to_owned(),
                    meta: Meta::of(&metadata),
                }));
            }
        }
    }
}

/// What this build reaches, in order.
pub(super) fn services() -> Vec<String> {
    opendal::install_default();
    let mut services: Vec<String> = opendal::OperatorRegistry::get().schemes().into_iter().collect();
    services.sort_unstable();
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_body_and_never_number_more_than_there_can_be() {
        assert_eq!(chunk_for(0) as u64, MIN_PART_BYTES);
        for total in [1_u64, 5 << 30, 50 << 30, 5 << 40] {
            let chunk = chunk_for(total) as u64;
            assert!(total.div_ceil(chunk) <= MAX_PARTS, "{total}");
        }
    }

    #[test]
    fn a_refusal_of_the_store_is_the_fault_of_the_gateway() {
        let denied = failed(opendal::Error::new(ErrorKind::PermissionDenied, "403"));
        let StoreError::Failed(BackendError::Internal { context, .. }) = denied else {
            panic!("{denied:?}");
        };
        assert!(context.contains("gateway's own credentials"));
        let limited = failed(opendal::Error::new(ErrorKind::RateLimited, "429"));
        assert!(matches!(limited, StoreError::Failed(BackendError::Busy { .. })));
        let unavailable =
            opendal::Error::new(ErrorKind::Unexpected, "").with_context("response", "Parts { status: 503 }");
        assert!(matches!(
            failed(unavailable),
            StoreError::Failed(BackendError::Busy { .. })
        ));
        let long = failed(opendal::Error::new(
            ErrorKind::Unexpected,
            "S3Error { code: \"KeyTooLongError\" }",
        ));
        assert!(matches!(long, StoreError::Failed(BackendError::UnsupportedKey(_))));
        let other = failed(opendal::Error::new(ErrorKind::Unexpected, "500"));
        assert!(matches!(other, StoreError::Failed(BackendError::Internal { .. })));
    }
}
