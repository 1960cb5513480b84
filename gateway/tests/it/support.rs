//! [`TestGateway`]: a gateway put together as `t2gate serve` does it, and looks at what it left on the disk.

mod client;
mod request;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use t2gate::{
    app::{self, Startup, Stopped},
    config::{Config, Overrides},
    keys::KeyStore,
    metrics::Metrics,
    server::{Shutdown, ShutdownTrigger, Tls, self_signed, tls::TlsOptions},
};
use t2gate_backends::{AccountId, Backend, BucketName, CannedAcl, Clock as _, CreateBucket, SystemClock, Timestamp};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) use self::{
    client::{Answer, Connection, Cut},
    request::{Request, Streamed, head_of, http_chunks},
};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An access key of the test's configuration. All have the same secret but for those that say otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestKey {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
}

pub(crate) const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD";

const fn key(id: &'static str) -> TestKey {
    TestKey { id, secret: SECRET }
}

/// Everything, in account `acme`.
pub(crate) const APP: TestKey = key("acme-app");
pub(crate) const MASTER: TestKey = key("acme-master");
pub(crate) const REVOKED: TestKey = key("acme-revoked");
pub(crate) const EXPIRED: TestKey = key("acme-expired");
/// Reads, lists, writes; destroys nothing.
pub(crate) const CREATOR: TestKey = key("acme-creator");
/// Reads and writes; cannot list.
pub(crate) const BLIND: TestKey = key("acme-blind");
/// Everything in bucket `bkt`, in keys that begin with `in/`.
pub(crate) const INSIDE: TestKey = key("acme-inside");
/// Everything, in account `other`.
pub(crate) const OTHER: TestKey = key("other-app");

pub(crate) const ACCOUNTS: &str = r#"
[[account]]
id = "acme"
[[account.key]]
id = "acme-master"
secret = "SECRET"
kind = "master"
[[account.key]]
id = "acme-app"
secret = "SECRET"
kind = "global"
capabilities = ["all"]
[[account.key]]
id = "acme-revoked"
secret = "SECRET"
kind = "global"
capabilities = ["all"]
revoked = true
[[account.key]]
id = "acme-expired"
secret = "SECRET"
kind = "global"
capabilities = ["all"]
expires = "2020-01-01T00:00:00Z"
[[account.key]]
id = "acme-creator"
secret = "SECRET"
kind = "global"
capabilities = ["listFiles", "readFiles", "writeFiles"]
[[account.key]]
id = "acme-blind"
secret = "SECRET"
kind = "global"
capabilities = ["readFiles", "writeFiles", "deleteFiles"]
[[account.key]]
id = "acme-inside"
secret = "SECRET"
kind = "restricted"
buckets = ["bkt"]
prefix = "in/"
capabilities = ["all"]
"#;

const OTHER_ACCOUNT: &str = r#"
[[account]]
id = "other"
[[account.key]]
id = "other-app"
secret = "SECRET"
kind = "global"
capabilities = ["all"]
"#;

/// A gateway over an empty directory. Dropped, it stops.
pub(crate) struct TestGateway {
    dir: TempDir,
    pub(crate) address: SocketAddr,
    backend: Arc<dyn Backend>,
    admin: SocketAddr,
    pub(crate) client: Arc<ClientConfig>,
    trigger: ShutdownTrigger,
    running: JoinHandle<Result<Stopped, anyhow::Error>>,
}

impl TestGateway {
    /// With these lines of TOML, which are sections of their own but for `[listen]`, `[backend]` and `[[account]]`.
    pub(crate) async fn configured(toml: &str) -> Self {
        Self::with_keys(toml, "").await
    }

    /// The same with more `[[account.key]]`s for the account `acme`.
    pub(crate) async fn with_keys(toml: &str, keys: &str) -> Self {
        Self::with_backends(toml, "[backend]\nroot = \"ROOT/data\"\n", keys).await
    }

    /// The same over that `kind` of backend.
    pub(crate) async fn storing(kind: &str, toml: &str, keys: &str) -> Self {
        let backend = format!("[backend]\nkind = {kind:?}\nroot = \"ROOT/data\"\n");
        Self::with_backends(toml, &backend, keys).await
    }

    /// The same with these sections for the storage, in which `ROOT` is a directory of its own. The first root has to be
    /// `ROOT/data`.
    pub(crate) async fn with_backends(toml: &str, backends: &str, keys: &str) -> Self {
        log::capture();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let file = dir.path().join("t2gate.toml");
        let backends = backends.replace("ROOT", dir.path().to_str().unwrap());
        let text = format!(
            "{toml}\n[listen]\naddress = \"127.0.0.1:0\"\nadmin_address = \"127.0.0.1:0\"\n{backends}\n\
             {ACCOUNTS}{keys}{OTHER_ACCOUNT}"
        );
        fs::write(&file, text.replace("SECRET", SECRET)).unwrap();
        let config = Config::load_from(Some(&file), Vec::new(), &Overrides::default()).unwrap();
        fs::create_dir(&data).unwrap();
        let metrics = Metrics::new().unwrap();
        let storage = app::open_storage(&config, &metrics).await.unwrap();
        let backend = storage.stores[0].backend.clone();
        let names = self_signed::names(config.listen.address.ip(), &config.s3.base_domains);
        let own = self_signed::ensure(&data.join(".t2/tls"), &names, now()).unwrap();
        let options = TlsOptions {
            min_version: config.tls.min_version,
            http2: config.tls.http2,
        };
        let tls = Tls::load(&own.files, options, now()).unwrap();
        let listener = TcpListener::bind(config.listen.address).await.unwrap();
        let admin_listener = TcpListener::bind(config.listen.admin_address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = admin_listener.local_addr().unwrap();
        let startup = Startup {
            keys: Arc::new(KeyStore::new(config.keys.clone().unwrap())),
            tls: Arc::new(tls),
            storage,
            metrics,
            listener,
            admin_listener,
        };
        let (trigger, shutdown) = Shutdown::new();
        let running = tokio::spawn(async move { app::run(&config, startup, shutdown).await });
        Self {
            client: Arc::new(trusting(&own.authority)),
            dir,
            address,
            backend,
            admin,
            trigger,
            running,
        }
    }

    /// With the bucket `bkt`, which never had versioning, and in it the object `known` that says `the known object`.
    pub(crate) async fn with_bucket() -> Self {
        Self::configured_with_bucket("").await
    }

    pub(crate) async fn configured_with_bucket(toml: &str) -> Self {
        let gateway = Self::configured(toml).await;
        gateway.make_bucket().await;
        gateway
    }

    /// Without versioning, as no client can make one in every dialect: what is replaced or deleted in it is gone.
    pub(crate) async fn make_bucket(&self) {
        let create = CreateBucket {
            bucket: BucketName::parse("bkt").unwrap(),
            owner: AccountId::parse("acme").unwrap(),
            acl: CannedAcl::Private,
            versioning: None,
            max_buckets: 100,
        };
        self.backend.create_bucket(create).await.unwrap();
        self.does(Request::put("/bkt/known").body(KNOWN)).await;
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::new(self.tls(&[]).await.unwrap(), self.host())
    }

    /// A connection that offers these protocols. The certificate is verified.
    pub(crate) async fn tls(&self, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = (*self.client).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        handshake(self.tcp().await, Arc::new(config)).await
    }

    /// What the admin listener answers, headers and all.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// What clients write into the `Host` header.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Sends a request on a connection of its own, and gives the answer to it.
    pub(crate) async fn answer(&self, request: Request) -> Answer {
        let mut connection = self.connect().await;
        connection.send(&request.bytes(&self.host())).await;
        let answer = connection.answer_to(&request.method).await;
        connection.ends_well(&answer).await;
        answer
    }

    /// Sends a request that has to succeed.
    #[track_caller]
    pub(crate) fn does(&self, request: Request) -> impl Future<Output = Answer> {
        let place = std::panic::Location::caller();
        async move {
            let asked = format!("{} {}?{}", request.method, request.path, request.query);
            let answer = self.answer(request).await;
            assert!((200..300).contains(&answer.status), "{place}: {asked}: {answer:?}");
            answer
        }
    }

    /// Sends a request that has to be refused with this status and code: nothing is changed by it, and the connection
    /// is good for another request or closed.
    #[track_caller]
    pub(crate) fn refuses(&self, request: Request, status: u16, code: &str) -> impl Future<Output = Answer> {
        let method = request.method.clone();
        self.refuses_bytes(method, request.bytes(&self.host()), status, code)
    }

    /// [`refuses`](Self::refuses) for what was written by hand.
    #[track_caller]
    pub(crate) fn refuses_bytes(
        &self,
        method: impl Into<String>,
        bytes: Vec<u8>,
        status: u16,
        code: &str,
    ) -> impl Future<Output = Answer> {
        let place = std::panic::Location::caller();
        let method = method.into();
        async move {
            let asked = || String::from_utf8_lossy(&bytes[..bytes.len().min(1500)]).into_owned();
            let before = self.tree();
            let mut connection = self.connect().await;
            connection.send(&bytes).await;
            let answer = connection.answer_to(&method).await;
            let code_in_body = answer.code().unwrap_or_default();
            let got = (answer.status, &*code_in_body);
            let expected = (status, if method == "HEAD" { "" } else { code });
            assert_eq!(got, expected, "{place}:\n{}\n{answer:?}", asked());
            connection.ends_well(&answer).await;
            self.settles_to(&before).await;
            answer
        }
    }

    /// What is stored: every file below the data directory with its bytes, and every directory; without the
    /// certificate.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut tree = BTreeMap::new();
        walk(&self.data(), Path::new(""), &mut tree);
        tree.retain(|path, _| !path.starts_with(".t2/tls"));
        tree
    }

    /// What `ROOT` stands for.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Waits until what is stored is this again: what a client that went away left is removed behind its back.
    #[track_caller]
    pub(crate) fn settles_to(&self, expected: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let start = tokio::time::Instant::now();
            loop {
                let tree = self.tree();
                if tree == *expected {
                    return;
                }
                let (was, is): (Vec<_>, Vec<_>) = (expected.keys().collect(), tree.keys().collect());
                assert!(start.elapsed() < PATIENCE, "{place}: was {was:?}\nis {is:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The gateway goes on: a request on a new connection is answered.
    #[track_caller]
    pub(crate) fn still_answers(&self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let answer = self.answer(Request::get("/bkt/known")).await;
            assert_eq!((answer.status, &*answer.body), (200, KNOWN), "{place}");
            assert!(!self.running.is_finished(), "{place}: the gateway has ended");
        }
    }

    /// Tells it to stop, and waits. What it stored is there for as long as what is given back.
    pub(crate) async fn stop(self) -> (Stopped, TempDir) {
        self.trigger.trigger();
        (self.running.await.unwrap().unwrap(), self.dir)
    }
}

pub(crate) const KNOWN: &[u8] = b"the known object";

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// A connection to a gateway that is not of this process.
pub(crate) async fn connect_to(address: SocketAddr, client: &Arc<ClientConfig>) -> Connection {
    let stream = tls_to(address, Arc::clone(client)).await.unwrap();
    Connection::new(stream, address.to_string())
}

pub(crate) async fn tls_to(address: SocketAddr, client: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    handshake(TcpStream::connect(address).await?, client).await
}

async fn handshake(stream: TcpStream, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

fn walk(root: &Path, below: &Path, tree: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        // What goes away meanwhile is not there.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                tree.insert(path.clone(), None);
                walk(root, &path, tree);
            }
            Ok(kind) if kind.is_file() => {
                if let Ok(bytes) = fs::read(root.join(&path)) {
                    tree.insert(path, Some(bytes));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Trusts a gateway's own certificate authority.
pub(crate) fn trusting(authority: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The log of all gateways of this process.
pub(crate) mod log {
    use super::{Arc, LazyLock, Mutex, io};

    static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
        let log: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || Writer(writer.clone()))
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber in this process");
        log
    });

    pub(crate) fn capture() {
        LazyLock::force(&LOG);
    }

    /// The lines that hold this text.
    pub(crate) fn lines_with(text: &str) -> Vec<String> {
        let log = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let log = String::from_utf8_lossy(&log);
        log.lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }

    struct Writer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut log = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            log.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
