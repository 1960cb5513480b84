//! A store in memory that compares and sets, as a service of opendal's. Its tokens are of the bytes alone, as those of
//! S3 unless it is said otherwise, or of each write, as those of Google's. Each of its clients can be stopped, or cut off,
//! before or after any call.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures::future::BoxFuture;
use md5::{Digest as _, Md5};
use opendal::{
    Buffer, Builder, BytesRange, Capability, Configurator, Error, ErrorKind, Metadata, MetadataBuilder,
    OperationContext, OperatorRegistry, OperatorUri, Result,
    raw::{
        OpCompose, OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir,
        RpPresign, RpRead, RpRename, RpStat, Service, ServiceInfo, oio,
    },
};
use serde::{Deserialize, Serialize};
use t2gate_backends::OpendalOptions;

const SCHEME: &str = "simulated";
/// An answer of a listing has so many entries at most.
const STORE_PAGE: usize = 1000;

/// A call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Stat,
    Read,
    /// Of what does not begin the object.
    ReadRest,
    /// What follows the first half of a body that was read.
    ReadOn,
    Write,
    /// By the name of what is made.
    Compose,
    Delete,
    List,
    Copy,
}

/// What the store's tokens are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    Bytes,
    Writes,
    /// Of writes, and in conditions those of other writes of the same bytes are taken too.
    WritesUnjudged,
    /// Of bytes, and in conditions none is taken that another write of the same bytes was told of.
    BytesOverjudged,
}

/// What the store does with a copy that has a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    Judged,
    AllTaken,
    AllRefused,
}

/// Told before and after each call, of which name it is, and may keep it waiting or fail it.
pub(super) trait Hook: Send + Sync {
    fn before(&self, call: Call, path: &str) -> BoxFuture<'static, Result<()>>;
    fn after(&self, call: Call, path: &str) -> BoxFuture<'static, Result<()>>;
}

/// A store whose tokens are ETags.
pub(super) type Simulated = SimulatedBy<false>;

/// What several clients reach. With `VERSIONS` its tokens are versions, which it names without keeping the old ones, and
/// it composes objects of others: as Google's. Then no condition can be about an ETag.
#[derive(Debug, Clone)]
pub(super) struct SimulatedBy<const VERSIONS: bool>(Store);

#[derive(Debug, Clone)]
struct Store {
    name: String,
    objects: Arc<Mutex<BTreeMap<String, Stored>>>,
    versions: bool,
    conditional_deletes: bool,
    /// Whether listings come in byte order and start after a name; else they come the other way round.
    ordered: bool,
    /// Whether a listing goes deeper than one directory.
    deep: bool,
    /// Whether writes and deletes can be conditional.
    compares: bool,
    /// Whether objects have metadata, and reads can be conditional: what the transparent layout needs.
    dressed: bool,
    /// Whether the condition of a read is ignored.
    reads_any: bool,
    /// Whether a read gives the bytes without a token.
    reads_untold: bool,
    /// Whether names are told apart by their letters' case.
    folds: bool,
    /// Whether a delete does nothing, and says that it did.
    keeps_all: bool,
    tokens: Tokens,
    /// `None`: it makes no copies.
    copies: Option<Copies>,
    /// What listings have given so far.
    answers: Arc<AtomicUsize>,
    listed: Arc<AtomicUsize>,
}

/// An object, with the metadata that a client has given it.
#[derive(Debug, Clone)]
struct Stored {
    bytes: Buffer,
    user: HashMap<String, String>,
    /// No two writes have the same.
    version: u64,
    /// It took the place of the same bytes.
    again: bool,
}

struct Client {
    store: Store,
    hook: Option<Arc<dyn Hook>>,
}

static CLIENTS: LazyLock<Mutex<HashMap<String, Arc<Client>>>> = LazyLock::new(|| {
    OperatorRegistry::get().register::<SimulatedBuilder>(SCHEME);
    Mutex::default()
});
static NEXT: AtomicU64 = AtomicU64::new(1);
/// As many objects one of others is composed of, as at Google's.
const MAX_COMPONENTS: usize = 32;

impl<const VERSIONS: bool> SimulatedBy<VERSIONS> {
    pub(super) fn new() -> Self {
        Self(Store {
            name: format!("store-{}", next()),
            objects: Arc::default(),
            versions: VERSIONS,
            conditional_deletes: true,
            ordered: true,
            deep: true,
            compares: true,
            dressed: false,
            reads_any: false,
            reads_untold: false,
            folds: false,
            keeps_all: false,
            tokens: Tokens::Bytes,
            copies: None,
            answers: Arc::default(),
            listed: Arc::default(),
        })
    }

    /// What is deleted is there.
    pub(super) fn that_keeps_all(mut self) -> Self {
        self.0.keeps_all = true;
        self
    }

    /// Each write makes another token.
    pub(super) fn with_tokens_of_writes(mut self) -> Self {
        self.0.tokens = Tokens::Writes;
        self
    }

    /// The same, and what it was is good for a write as long as the bytes are the same.
    pub(super) fn that_takes_tokens_it_no_longer_shows(mut self) -> Self {
        self.0.tokens = Tokens::WritesUnjudged;
        self
    }

    /// Once the same bytes are written again, the token that it shows is not good for a write.
    pub(super) fn that_refuses_tokens_it_shows(mut self) -> Self {
        self.0.tokens = Tokens::BytesOverjudged;
        self
    }

    pub(super) fn that_copies(mut self, copies: Copies) -> Self {
        self.0.copies = Some(copies);
        self
    }

    pub(super) fn that_reads_any(mut self) -> Self {
        self.0.reads_any = true;
        self
    }

    /// A read does not say of what state of the object it is.
    pub(super) fn that_reads_without_tokens(mut self) -> Self {
        self.0.reads_untold = true;
        self
    }

    pub(super) fn that_folds(mut self) -> Self {
        self.0.folds = true;
        self
    }

    /// It replaces whatever is there.
    pub(super) fn without_conditions(mut self) -> Self {
        self.0.compares = false;
        self.without_conditional_deletes()
    }

    /// Objects keep metadata.
    pub(super) fn dressed(mut self) -> Self {
        self.0.dressed = true;
        self
    }

    /// Deletes cannot be conditional.
    pub(super) fn without_conditional_deletes(mut self) -> Self {
        self.0.conditional_deletes = false;
        self
    }

    pub(super) fn unordered(mut self) -> Self {
        self.0.ordered = false;
        self
    }

    /// Lists one directory at a time.
    pub(super) fn shallow(mut self) -> Self {
        self.0.deep = false;
        self
    }

    /// How many answers listings have had since this was asked last, and how many entries were in them.
    pub(super) fn take_listed(&self) -> (usize, usize) {
        (
            self.0.answers.swap(0, Ordering::SeqCst),
            self.0.listed.swap(0, Ordering::SeqCst),
        )
    }

    /// What opens a gateway on it.
    pub(super) fn options(&self, hook: Option<Arc<dyn Hook>>) -> OpendalOptions {
        let client = format!("client-{}", next());
        let options = super::options(SCHEME, &[("client", &client)]);
        let entry = Client {
            store: self.0.clone(),
            hook,
        };
        lock(&CLIENTS).insert(client, Arc::new(entry));
        options
    }

    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.0.objects().get(name).map(|found| found.bytes.to_vec())
    }

    /// Whoever writes it.
    pub(super) fn set(&self, name: &str, bytes: Vec<u8>) {
        let stored = Stored::new(bytes.into(), HashMap::new());
        self.0.place(&mut self.0.objects(), name, stored);
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.objects().remove(name);
    }

    /// What lies there under names that begin so.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        self.0.names(prefix)
    }
}

impl Store {
    fn folded(&self, path: &str) -> String {
        if self.folds {
            path.to_lowercase()
        } else {
            path.to_owned()
        }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        lock(&self.objects)
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let objects = self.objects();
        objects
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Puts it there, if what is there is as it has to be.
    fn put(&self, path: &str, stored: Stored, wanted: &Wanted<'_>) -> Result<Metadata> {
        let mut objects = self.objects();
        if !wanted.holds(self, objects.get(path)) {
            return Err(another());
        }
        Ok(self.place(&mut objects, path, stored))
    }

    fn place(&self, objects: &mut BTreeMap<String, Stored>, path: &str, mut stored: Stored) -> Metadata {
        let path = self.folded(path);
        let there = objects.get(&path).map(|there| there.bytes.to_bytes());
        stored.version = next();
        stored.again = there.is_some_and(|there| there == stored.bytes.to_bytes());
        let metadata = self.metadata(&stored);
        objects.insert(path, stored);
        metadata
    }

    /// Google's are of no bytes, and have no quotes.
    fn etag(&self, found: &Stored) -> String {
        if self.versions {
            return format!("C{}Q=", found.version);
        }
        let md5 = hex::encode(Md5::digest(found.bytes.to_bytes()));
        match self.tokens {
            Tokens::Bytes | Tokens::BytesOverjudged => format!("\"{md5}\""),
            Tokens::Writes | Tokens::WritesUnjudged => format!("\"{md5}-{}\"", found.version),
        }
    }

    /// Whether a write on this condition is taken, whose object `there` is.
    fn is(&self, there: Option<&Stored>, token: &str) -> bool {
        there.is_some_and(|there| match self.tokens {
            Tokens::Bytes | Tokens::Writes => self.etag(there) == token,
            Tokens::WritesUnjudged => {
                let of = |token: &str| token.split('-').next().map(str::to_owned);
                of(&self.etag(there)) == of(token)
            }
            Tokens::BytesOverjudged => self.etag(there) == token && !there.again,
        })
    }

    fn metadata(&self, found: &Stored) -> Metadata {
        let mut metadata = MetadataBuilder::file(found.bytes.len() as u64);
        metadata.etag(self.etag(found));
        if self.versions {
            metadata.version(found.version.to_string());
        }
        if !found.user.is_empty() {
            metadata.user_metadata(found.user.clone());
        }
        metadata.build()
    }
}

impl Stored {
    fn new(bytes: Buffer, user: HashMap<String, String>) -> Self {
        Self {
            bytes,
            user,
            version: next(),
            again: false,
        }
    }
}

/// What has to be there.
struct Wanted<'a> {
    absent: bool,
    etag: Option<&'a str>,
    version: Option<&'a str>,
}

impl Wanted<'_> {
    fn holds(&self, store: &Store, there: Option<&Stored>) -> bool {
        let etag = |wanted| store.is(there, wanted);
        let version = |wanted| there.is_some_and(|found| found.version.to_string() == wanted);
        !(self.absent && there.is_some()) && self.etag.is_none_or(etag) && self.version.is_none_or(version)
    }
}

fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn another() -> Error {
    Error::new(ErrorKind::ConditionNotMatch, "it is another one")
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such object")
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "the store cannot do that")
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct SimulatedConfig {
    client: String,
}

impl Configurator for SimulatedConfig {
    type Builder = SimulatedBuilder;

    fn from_uri(uri: &OperatorUri) -> Result<Self> {
        Self::from_iter(uri.options().clone())
    }

    fn into_builder(self) -> SimulatedBuilder {
        SimulatedBuilder(self)
    }
}

#[derive(Debug, Default)]
struct SimulatedBuilder(SimulatedConfig);

impl Builder for SimulatedBuilder {
    type Config = SimulatedConfig;

    fn build(self) -> Result<impl Service> {
        let client = lock(&CLIENTS).get(&self.0.client).cloned();
        client.map(SimulatedService).ok_or_else(not_found)
    }
}

#[derive(Clone)]
struct SimulatedService(Arc<Client>);

impl fmt::Debug for SimulatedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimulatedService").field(&self.0.store.name).finish()
    }
}

impl SimulatedService {
    /// One call: whatever `work` does, it does at one moment.
    async fn call<T>(&self, call: Call, path: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(hook) = &self.0.hook {
            hook.before(call, path).await?;
        }
        let done = work();
        if let Some(hook) = &self.0.hook {
            hook.after(call, path).await?;
        }
        done
    }

    fn get(&self, path: &str) -> Result<Stored> {
        let name = self.0.store.folded(path);
        self.0.store.objects().get(&name).cloned().ok_or_else(not_found)
    }
}

impl Service for SimulatedService {
    type Reader = oio::StreamReader<Reader>;
    type Writer = Writer;
    type Lister = oio::HierarchyLister<Lister>;
    type Deleter = oio::OneShotDeleter<Deleter>;
    type Copier = Copier;
    type Composer = Composer;

    fn info(&self) -> ServiceInfo {
        ServiceInfo::new(SCHEME, "/", self.0.store.name.clone())
    }

    fn capability(&self) -> Capability {
        let store = &self.0.store;
        let (etags, versions) = (!store.versions, store.versions);
        Capability {
            stat: true,
            read: true,
            write: true,
            write_can_empty: true,
            // What is joined inside is written in parts.
            write_can_multi: versions,
            read_with_if_match: store.dressed && etags,
            read_with_if_version_match: store.dressed && versions,
            write_with_if_match: store.compares && etags,
            write_with_if_version_match: store.compares && versions,
            write_with_if_not_exists: store.compares,
            write_with_user_metadata: store.dressed,
            copy: store.copies.is_some(),
            copy_with_if_match: store.copies.is_some() && etags,
            delete: true,
            delete_with_if_match: store.conditional_deletes && etags,
            delete_with_if_version_match: store.conditional_deletes && versions,
            compose: versions,
            compose_with_user_metadata: store.dressed,
            compose_with_source_version: versions,
            compose_with_if_not_exists: store.compares,
            compose_with_if_version_match: store.compares && versions,
            list: true,
            list_with_limit: true,
            list_with_recursive: store.deep,
            list_with_start_after: store.ordered,
            ..Capability::default()
        }
    }

    async fn create_dir(&self, _: &OperationContext, _: &str, _: OpCreateDir) -> Result<RpCreateDir> {
        Err(unsupported())
    }

    async fn stat(&self, _: &OperationContext, path: &str, _: OpStat) -> Result<RpStat> {
        let found = self.call(Call::Stat, path, || self.get(path)).await?;
        Ok(RpStat::new(self.0.store.metadata(&found)))
    }

    fn read(&self, _: &OperationContext, path: &str, options: OpRead) -> Result<Self::Reader> {
        Ok(oio::StreamReader::new(Reader {
            service: self.clone(),
            path: path.to_owned(),
            options,
        }))
    }

    fn write(&self, _: &OperationContext, path: &str, options: OpWrite) -> Result<Writer> {
        Ok(Writer {
            service: self.clone(),
            path: path.to_owned(),
            options,
            pieces: Vec::new(),
        })
    }

    fn delete(&self, _: &OperationContext) -> Result<Self::Deleter> {
        Ok(oio::OneShotDeleter::new(Deleter(self.clone())))
    }

    fn list(&self, _: &OperationContext, path: &str, options: OpList) -> Result<Self::Lister> {
        let lister = Lister {
            service: self.clone(),
            path: if path == "/" { String::new() } else { path.to_owned() },
            start_after: options.start_after().map(str::to_owned),
            rolls_up: !options.recursive(),
            limit: options.limit().unwrap_or(STORE_PAGE).clamp(1, STORE_PAGE),
            left: 0,
            names: None,
        };
        Ok(oio::HierarchyLister::new(lister, path, options.recursive()))
    }

    fn copy(&self, _: &OperationContext, from: &str, to: &str, options: OpCopy) -> Result<Copier> {
        let copies = self.0.store.copies.ok_or_else(unsupported)?;
        Ok(Copier {
            service: self.clone(),
            copies,
            from: from.to_owned(),
            to: to.to_owned(),
            if_match: options.if_match().map(str::to_owned),
            made: None,
        })
    }

    fn compose(&self, _: &OperationContext, to: &str, options: OpCompose) -> Result<Composer> {
        Ok(Composer {
            service: self.clone(),
            to: to.to_owned(),
            options,
            sources: Vec::new(),
            failed: false,
        })
    }

    async fn rename(&self, _: &OperationContext, _: &str, _: &str, _: OpRename) -> Result<RpRename> {
        Err(unsupported())
    }

    async fn presign(&self, _: &OperationContext, _: &str, _: OpPresign) -> Result<RpPresign> {
        Err(unsupported())
    }
}

struct Reader {
    service: SimulatedService,
    path: String,
    options: OpRead,
}

impl oio::StreamRead for Reader {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (service, path) = (&self.service, &self.path);
        let call = if range.offset() > 0 { Call::ReadRest } else { Call::Read };
        let get = || {
            let found = service.get(path)?;
            let store = &service.0.store;
            let etag = |wanted: &str| store.etag(&found) == wanted;
            let version = |wanted: &str| found.version.to_string() == wanted;
            let options = &self.options;
            let same = options.if_match().is_none_or(etag) && options.if_version_match().is_none_or(version);
            if same || store.reads_any {
                Ok(found)
            } else {
                Err(another())
            }
        };
        let found = service.call(call, path, get).await?;
        let metadata = match service.0.store.reads_untold {
            true => MetadataBuilder::file(found.bytes.len() as u64).build(),
            false => service.0.store.metadata(&found),
        };
        let bytes = found.bytes;
        let bytes = bytes.slice(range.to_content_range(bytes.len())?);
        let middle = bytes.len() / 2;
        let halves = Halves {
            service: service.clone(),
            path: path.clone(),
            first: Some(bytes.slice(..middle)).filter(|first| !first.is_empty()),
            second: Some(bytes.slice(middle..)).filter(|_| middle > 0 || !bytes.is_empty()),
        };
        Ok((RpRead::new(metadata), Box::new(halves)))
    }
}

/// A body, as it was when the reading of it began.
struct Halves {
    service: SimulatedService,
    path: String,
    first: Option<Buffer>,
    second: Option<Buffer>,
}

impl oio::ReadStream for Halves {
    async fn read(&mut self) -> Result<Buffer> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        if let (Some(_), Some(hook)) = (&self.second, &self.service.0.hook) {
            hook.before(Call::ReadOn, &self.path).await?;
        }
        Ok(self.second.take().unwrap_or_default())
    }
}

struct Writer {
    service: SimulatedService,
    path: String,
    options: OpWrite,
    pieces: Vec<Buffer>,
}

impl oio::Write for Writer {
    async fn write(&mut self, bytes: Buffer) -> Result<()> {
        self.pieces.push(bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        // They stay: what failed may be tried again.
        let user = self.options.user_metadata().map_or_else(HashMap::new, given);
        let written = Stored::new(self.pieces.iter().cloned().flatten().collect(), user);
        let (options, service, path) = (&self.options, &self.service, &self.path);
        let wanted = Wanted {
            absent: options.if_not_exists(),
            etag: options.if_match(),
            version: options.if_version_match(),
        };
        let set = || service.0.store.put(path, written, &wanted);
        service.call(Call::Write, path, set).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.pieces.clear();
        Ok(())
    }
}

fn given<'a>(user: impl IntoIterator<Item = (&'a str, &'a str)>) -> HashMap<String, String> {
    let user = user.into_iter();
    user.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Of no use once it has failed, as Google's.
struct Composer {
    service: SimulatedService,
    to: String,
    options: OpCompose,
    /// With the version that is meant, where one is.
    sources: Vec<(String, Option<String>)>,
    failed: bool,
}

impl oio::Compose for Composer {
    async fn compose(&mut self, path: &str, options: OpRead) -> Result<()> {
        let version = options.version().map(str::to_owned);
        self.sources.push((path.to_owned(), version));
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        if std::mem::replace(&mut self.failed, true) || !(1..=MAX_COMPONENTS).contains(&self.sources.len()) {
            return Err(Error::new(ErrorKind::Unexpected, "that cannot be composed"));
        }
        let (options, service, to, sources) = (&self.options, &self.service, &self.to, &self.sources);
        let wanted = Wanted {
            absent: options.if_not_exists(),
            etag: options.if_match(),
            version: options.if_version_match(),
        };
        let set = || {
            let mut bytes = Vec::new();
            for (path, version) in sources {
                let found = service.get(path)?;
                if version
                    .as_ref()
                    .is_some_and(|version| found.version.to_string() != *version)
                {
                    return Err(not_found());
                }
                bytes.extend(found.bytes);
            }
            let user = options.user_metadata().map_or_else(HashMap::new, given);
            let composed = Stored::new(bytes.into_iter().collect(), user);
            service.0.store.put(to, composed, &wanted)
        };
        let composed = service.call(Call::Compose, to, set).await?;
        self.failed = false;
        Ok(composed)
    }
}

struct Lister {
    service: SimulatedService,
    path: String,
    start_after: Option<String>,
    /// Directories stand for what lies in them.
    rolls_up: bool,
    /// So many entries are in an answer.
    limit: usize,
    /// So many of the answer are to be given still.
    left: usize,
    /// All that is to be given still, as it was when the listing began.
    names: Option<std::vec::IntoIter<String>>,
}

impl Lister {
    fn all(&self) -> Vec<String> {
        let store = &self.service.0.store;
        let mut names = store.names(&self.path);
        if store.ordered {
            names.retain(|name| self.start_after.as_ref().is_none_or(|after| name > after));
        } else {
            names.reverse();
        }
        if self.rolls_up {
            for name in &mut names {
                if let Some(at) = name[self.path.len()..].find('/') {
                    name.truncate(self.path.len() + at + 1);
                }
            }
            names.dedup();
        }
        names
    }
}

impl oio::List for Lister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        let has_more = self.names.as_ref().is_none_or(|names| names.len() > 0);
        if self.left == 0 && has_more {
            let all = || Ok(self.names.is_none().then(|| self.all()));
            let all = self.service.call(Call::List, &self.path, all).await?;
            let names = self.names.get_or_insert_with(|| all.unwrap_or_default().into_iter());
            self.left = self.limit.min(names.len());
            let store = &self.service.0.store;
            store.answers.fetch_add(1, Ordering::SeqCst);
            store.listed.fetch_add(self.left, Ordering::SeqCst);
        }
        let name = self.names.as_mut().and_then(Iterator::next);
        self.left = self.left.saturating_sub(1);
        Ok(name.map(|name| {
            let metadata = if name.ends_with('/') {
                MetadataBuilder::dir()
            } else {
                MetadataBuilder::unknown()
            };
            oio::Entry::new(&name, metadata.build())
        }))
    }
}

struct Deleter(SimulatedService);

impl oio::OneShotDelete for Deleter {
    async fn delete_once(&self, path: String, options: OpDelete) -> Result<()> {
        let delete = || {
            let store = &self.0.0.store;
            let mut objects = store.objects();
            let wanted = Wanted {
                absent: false,
                etag: options.if_match(),
                version: options.if_version_match(),
            };
            if !wanted.holds(store, objects.get(&path)) {
                return Err(another());
            }
            if !store.keeps_all {
                objects.remove(&path);
            }
            Ok(())
        };
        self.0.call(Call::Delete, &path, delete).await
    }
}

struct Copier {
    service: SimulatedService,
    copies: Copies,
    from: String,
    to: String,
    if_match: Option<String>,
    made: Option<Metadata>,
}

impl oio::Copy for Copier {
    async fn next(&mut self) -> Result<Option<usize>> {
        if self.made.is_some() {
            return Ok(None);
        }
        let (service, copies) = (&self.service, self.copies);
        let copy = || {
            let source = service.get(&self.from)?;
            let store = &service.0.store;
            let mut objects = store.objects();
            let there = objects.get(&self.to);
            let holds = self.if_match.as_ref().is_none_or(|token| match copies {
                Copies::Judged => store.is(there, token),
                Copies::AllTaken => true,
                Copies::AllRefused => false,
            });
            if !holds {
                return Err(another());
            }
            Ok(store.place(&mut objects, &self.to, source))
        };
        let made = service.call(Call::Copy, &self.to, copy).await?;
        let size = usize::try_from(made.content_length()).ok();
        self.made = Some(made);
        Ok(size)
    }

    async fn close(&mut self) -> Result<Metadata> {
        self.made.clone().ok_or_else(not_found)
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
