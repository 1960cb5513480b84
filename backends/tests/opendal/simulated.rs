//! A store in memory that compares and sets, as a service of opendal's. Its tokens are of the bytes alone, as those of
//! S3, unless it is said otherwise. Each of its clients can be stopped, or cut off, before or after any call.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use md5::{Digest as _, Md5};
use opendal::{
    Buffer, Builder, BytesRange, Capability, Configurator, Error, ErrorKind, Metadata, MetadataBuilder,
    OperationContext, OperatorRegistry, OperatorUri, Result,
    raw::{
        OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir, RpPresign,
        RpRead, RpRename, RpStat, Service, ServiceInfo, oio,
    },
};
use serde::{Deserialize, Serialize};
use t2gate_backends::OpendalOptions;

const SCHEME: &str = "simulated";

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

/// What several clients reach.
#[derive(Debug, Clone)]
pub(super) struct Simulated {
    name: String,
    objects: Arc<Mutex<BTreeMap<String, Stored>>>,
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
    /// Whether names are told apart by their letters' case.
    folds: bool,
    /// Whether a delete does nothing, and says that it did.
    keeps_all: bool,
    tokens: Tokens,
    /// `None`: it makes no copies.
    copies: Option<Copies>,
}

/// An object, with the metadata that a client has given it.
#[derive(Debug, Clone, Default)]
struct Stored {
    bytes: Buffer,
    user: HashMap<String, String>,
    /// The number of the write that made it.
    write: u64,
    /// It took the place of the same bytes.
    again: bool,
}

struct Client {
    store: Simulated,
    hook: Option<Arc<dyn Hook>>,
}

static CLIENTS: LazyLock<Mutex<HashMap<String, Arc<Client>>>> = LazyLock::new(|| {
    OperatorRegistry::get().register::<SimulatedBuilder>(SCHEME);
    Mutex::default()
});
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Simulated {
    pub(super) fn new() -> Self {
        Self {
            name: format!("store-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            objects: Arc::default(),
            conditional_deletes: true,
            ordered: true,
            deep: true,
            compares: true,
            dressed: false,
            reads_any: false,
            folds: false,
            keeps_all: false,
            tokens: Tokens::Bytes,
            copies: None,
        }
    }

    /// What is deleted is there.
    pub(super) fn that_keeps_all(self) -> Self {
        Self {
            keeps_all: true,
            ..self
        }
    }

    /// Each write makes another token.
    pub(super) fn with_tokens_of_writes(self) -> Self {
        Self {
            tokens: Tokens::Writes,
            ..self
        }
    }

    /// The same, and what it was is good for a write as long as the bytes are the same.
    pub(super) fn that_takes_tokens_it_no_longer_shows(self) -> Self {
        Self {
            tokens: Tokens::WritesUnjudged,
            ..self
        }
    }

    /// Once the same bytes are written again, the token that it shows is not good for a write.
    pub(super) fn that_refuses_tokens_it_shows(self) -> Self {
        Self {
            tokens: Tokens::BytesOverjudged,
            ..self
        }
    }

    pub(super) fn that_copies(self, copies: Copies) -> Self {
        Self {
            copies: Some(copies),
            ..self
        }
    }

    pub(super) fn that_reads_any(self) -> Self {
        Self {
            reads_any: true,
            ..self
        }
    }

    pub(super) fn that_folds(self) -> Self {
        Self { folds: true, ..self }
    }

    /// It replaces whatever is there.
    pub(super) fn without_conditions(self) -> Self {
        Self {
            compares: false,
            conditional_deletes: false,
            ..self
        }
    }

    /// Objects keep metadata.
    pub(super) fn dressed(self) -> Self {
        Self { dressed: true, ..self }
    }

    /// Deletes cannot be conditional.
    pub(super) fn without_conditional_deletes(self) -> Self {
        Self {
            conditional_deletes: false,
            ..self
        }
    }

    pub(super) fn unordered(self) -> Self {
        Self { ordered: false, ..self }
    }

    /// Lists one directory at a time.
    pub(super) fn shallow(self) -> Self {
        Self { deep: false, ..self }
    }

    /// What opens a gateway on it.
    pub(super) fn options(&self, hook: Option<Arc<dyn Hook>>) -> OpendalOptions {
        let client = format!("client-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let options = super::options(SCHEME, &[("client", &client)]);
        let entry = Client {
            store: self.clone(),
            hook,
        };
        lock(&CLIENTS).insert(client, Arc::new(entry));
        options
    }

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

    pub(super) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.objects().get(name).map(|found| found.bytes.to_vec())
    }

    /// Whoever writes it.
    pub(super) fn set(&self, name: &str, bytes: Vec<u8>) {
        let stored = Stored {
            bytes: bytes.into(),
            ..Stored::default()
        };
        self.put(&mut self.objects(), name, stored);
    }

    fn put(&self, objects: &mut BTreeMap<String, Stored>, path: &str, stored: Stored) {
        let path = self.folded(path);
        let there = objects.get(&path).map(|there| there.bytes.to_bytes());
        let written = Stored {
            write: NEXT.fetch_add(1, Ordering::Relaxed),
            again: there.is_some_and(|there| there == stored.bytes.to_bytes()),
            ..stored
        };
        objects.insert(path, written);
    }

    fn etag(&self, found: &Stored) -> String {
        let md5 = hex::encode(Md5::digest(found.bytes.to_bytes()));
        match self.tokens {
            Tokens::Bytes | Tokens::BytesOverjudged => format!("\"{md5}\""),
            Tokens::Writes | Tokens::WritesUnjudged => format!("\"{md5}-{}\"", found.write),
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
        if !found.user.is_empty() {
            metadata.user_metadata(found.user.clone());
        }
        metadata.build()
    }

    pub(super) fn remove(&self, name: &str) {
        self.objects().remove(name);
    }

    /// What lies there under names that begin so.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let objects = self.objects();
        objects
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }
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
    type Composer = ();

    fn info(&self) -> ServiceInfo {
        ServiceInfo::new(SCHEME, "/", self.0.store.name.clone())
    }

    fn capability(&self) -> Capability {
        Capability {
            stat: true,
            read: true,
            write: true,
            write_can_empty: true,
            read_with_if_match: self.0.store.dressed,
            write_with_if_match: self.0.store.compares,
            write_with_if_not_exists: self.0.store.compares,
            write_with_user_metadata: self.0.store.dressed,
            copy: self.0.store.copies.is_some(),
            copy_with_if_match: self.0.store.copies.is_some(),
            delete: true,
            delete_with_if_match: self.0.store.conditional_deletes,
            list: true,
            list_with_recursive: self.0.store.deep,
            list_with_start_after: self.0.store.ordered,
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
            if_match: options.if_match().map(str::to_owned),
            service: self.clone(),
            path: path.to_owned(),
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

    async fn rename(&self, _: &OperationContext, _: &str, _: &str, _: OpRename) -> Result<RpRename> {
        Err(unsupported())
    }

    async fn presign(&self, _: &OperationContext, _: &str, _: OpPresign) -> Result<RpPresign> {
        Err(unsupported())
    }
}

struct Reader {
    if_match: Option<String>,
    service: SimulatedService,
    path: String,
}

impl oio::StreamRead for Reader {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (service, path) = (&self.service, &self.path);
        let call = if range.offset() > 0 { Call::ReadRest } else { Call::Read };
        let get = || {
            let found = service.get(path)?;
            match &self.if_match {
                Some(token) if *token != service.0.store.etag(&found) && !service.0.store.reads_any => Err(another()),
                _ => Ok(found),
            }
        };
        let found = service.call(call, path, get).await?;
        let metadata = service.0.store.metadata(&found);
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
        let written = Stored {
            bytes: self.pieces.iter().cloned().flatten().collect(),
            user: self.options.user_metadata().map_or_else(HashMap::new, |user| {
                user.into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            }),
            ..Stored::default()
        };
        let (options, service, path) = (&self.options, &self.service, &self.path);
        let set = || {
            let store = &service.0.store;
            let mut objects = store.objects();
            let there = objects.get(path);
            let holds = match options.if_match() {
                Some(token) => store.is(there, token),
                None => !options.if_not_exists() || there.is_none(),
            };
            if !holds {
                return Err(another());
            }
            store.put(&mut objects, path, written);
            objects.get(&store.folded(path)).cloned().ok_or_else(not_found)
        };
        let written = service.call(Call::Write, path, set).await?;
        Ok(service.0.store.metadata(&written))
    }

    async fn abort(&mut self) -> Result<()> {
        self.pieces.clear();
        Ok(())
    }
}

struct Lister {
    service: SimulatedService,
    path: String,
    start_after: Option<String>,
    names: Option<std::vec::IntoIter<String>>,
}

impl oio::List for Lister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        if self.names.is_none() {
            let store = &self.service.0.store;
            let list = || {
                let mut names = store.names(&self.path);
                if store.ordered {
                    names.retain(|name| self.start_after.as_ref().is_none_or(|after| name > after));
                } else {
                    names.reverse();
                }
                Ok(names)
            };
            self.names = Some(self.service.call(Call::List, &self.path, list).await?.into_iter());
        }
        let name = self.names.as_mut().and_then(Iterator::next);
        Ok(name.map(|name| oio::Entry::new(&name, MetadataBuilder::unknown().build())))
    }
}

struct Deleter(SimulatedService);

impl oio::OneShotDelete for Deleter {
    async fn delete_once(&self, path: String, options: OpDelete) -> Result<()> {
        let delete = || {
            let store = &self.0.0.store;
            let mut objects = store.objects();
            let there = objects.get(&path);
            if options.if_match().is_some_and(|token| !store.is(there, token)) {
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
            let metadata = store.metadata(&source);
            store.put(&mut objects, &self.to, source);
            Ok(metadata)
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
