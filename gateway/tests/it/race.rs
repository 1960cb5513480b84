//! The versions of few keys under many clients, over TLS: nothing is lost, mixed up or seen out of order.
//!
//! In the short form a few seconds. The long form, a hundred clients for about a minute on each set-up on a disk, and for
//! longer over stores: `T2_RACE_OPERATIONS=600 cargo test --release -p t2gate --test it race`

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rustls::ClientConfig;
use t2gate_backends::{
    VersionId,
    conformance::{
        history::{Content, Listed, Reply},
        race::{Lost, RaceClient, RaceCondition, RaceOptions, race},
    },
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{
    behind::{QUIET, WITHOUT_LIMITS, configuration_over, opendal_over},
    support::{ACCOUNTS, Answer, Connection, Cut, Request, SECRET, TestGateway, connect_to, trusting},
};

/// For an answer, where many clients ask at once and the machine has other work too. A gateway that hangs takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A gateway in a process of its own. Killed when the test ends before it does.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    fn start(configuration: &Path) -> Self {
        Self::start_program(env!("CARGO_BIN_EXE_t2gate"), configuration, &[])
    }

    /// Another `program`, with these variables in its environment.
    pub(crate) fn start_program(program: &str, configuration: &Path, variables: &[(&str, &OsStr)]) -> Self {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("T2GATE_")) {
            command.env_remove(name);
        }
        let serve = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--config",
        ];
        command
            .args(serve)
            .arg(configuration)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let mut greeting = String::new();
        for line in output.lines() {
            let line = line.unwrap();
            if let Some((_, rest)) = line.split_once("https://") {
                process.address = rest.split_whitespace().next().unwrap().parse().unwrap();
                return process;
            }
            greeting.push_str(&line);
        }
        panic!("it has ended: {greeting}");
    }

    /// The most physical memory that it has held, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        kib >> 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client with a connection of its own.
struct WireClient {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    connection: Mutex<Option<Connection>>,
    tally: Arc<Tally>,
}

/// How often a client was told to come again, of all clients.
#[derive(Debug, Default)]
struct Tally {
    /// Writes that others were always faster than.
    conflicts: AtomicUsize,
    /// Bodies that broke off, for their version was deleted.
    cut: AtomicUsize,
}

impl WireClient {
    fn new(gateway: &Gateway, tally: &Arc<Tally>) -> Self {
        Self {
            address: gateway.process.address,
            tls: Arc::clone(&gateway.tls),
            connection: Mutex::default(),
            tally: Arc::clone(tally),
        }
    }

    async fn ask(&self, request: Request) -> Answer {
        let asked = format!("{} {}?{}", request.method, request.path, request.query);
        let answer = self.try_ask(request).await;
        answer.unwrap_or_else(|cut| panic!("{asked}: {cut:?}"))
    }

    async fn try_ask(&self, request: Request) -> Result<Answer, Cut> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect_to(self.address, &self.tls).await.patient(PATIENCE),
        };
        let answer = connection.try_ask(&request).await?;
        if !answer.closes() {
            *slot = Some(connection);
        }
        Ok(answer)
    }

    /// What a write was answered. Under the hands of many a write may be told to try again.
    fn written(&self, answer: &Answer) -> Result<Reply, Lost> {
        match (answer.status, answer.code().as_deref()) {
            // What took long was answered before it was known.
            (200, _) if answer.header("transfer-encoding").is_some() => Err(self.lost()),
            (200, None) => Ok(Reply::Written(version_of(answer).expect("a version id"))),
            (412, Some("PreconditionFailed")) => Ok(Reply::PreconditionFailed),
            (404, Some("NoSuchKey")) => Ok(Reply::NotFound),
            (409, Some("ConditionalRequestConflict")) => Err(self.lost()),
            (503, None) => Err(self.lost()),
            _ => panic!("{answer:?}"),
        }
    }

    fn lost(&self) -> Lost {
        self.tally.conflicts.fetch_add(1, Ordering::Relaxed);
        Lost
    }

    fn found(answer: &Answer, size: u64) -> Reply {
        let marker = answer.header("x-amz-delete-marker") == Some("true");
        match (answer.status, version_of(answer)) {
            (200, Some(id)) => {
                let etag = answer.header("etag").expect("an ETag").trim_matches('"').into();
                Reply::Object(id, Content { etag, size })
            }
            (404 | 405, Some(id)) if marker => Reply::DeleteMarker(id),
            (404, None) if !marker => Reply::NotFound,
            _ => panic!("{answer:?}"),
        }
    }
}

fn version_of(answer: &Answer) -> Option<VersionId> {
    answer.header("x-amz-version-id").map(id)
}

fn id(text: &str) -> VersionId {
    VersionId::parse(text).unwrap()
}

/// `?versionId=` where there is one.
fn target(key: &str, version_id: Option<&VersionId>) -> String {
    match version_id {
        Some(id) => format!("/bkt/{key}?versionId={id}"),
        None => format!("/bkt/{key}"),
    }
}

#[async_trait]
impl RaceClient for WireClient {
    async fn put(&self, key: &str, bytes: Bytes, condition: RaceCondition) -> Result<Reply, Lost> {
        let request = Request::put(&target(key, None)).body(&bytes);
        let request = match condition {
            RaceCondition::None => request,
            RaceCondition::IfAbsent => request.header("if-none-match", "*"),
            RaceCondition::IfMatch(etag) => request.header("if-match", format!("\"{etag}\"")),
        };
        self.written(&self.ask(request).await)
    }

    async fn put_in_parts(&self, key: &str, bytes: Bytes) -> Result<Reply, Lost> {
        let begun = self.ask(Request::post(&format!("/bkt/{key}?uploads"))).await;
        let upload = begun.element("UploadId").unwrap();
        let part = Request::put(&format!("/bkt/{key}?partNumber=1&uploadId={upload}")).body(&bytes);
        let part = self.ask(part).await;
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
            part.header("etag").unwrap()
        );
        let complete = Request::post(&format!("/bkt/{key}?uploadId={upload}")).document(document);
        self.written(&self.ask(complete).await)
    }

    async fn copy(&self, source: &str, version_id: &VersionId, key: &str) -> Result<Option<(Reply, Box<str>)>, Lost> {
        let request = Request::put(&target(key, None))
            .header("x-amz-copy-source", format!("/bkt/{source}?versionId={version_id}"))
            // As nothing else of an object changes by a copy onto itself.
            .header("x-amz-metadata-directive", "REPLACE");
        let answer = self.ask(request).await;
        match (answer.status, answer.code().as_deref()) {
            (200, Some(_)) if answer.header("transfer-encoding").is_some() => Err(self.lost()),
            (200, None) => {
                let etag = answer.element("ETag").unwrap().replace("&quot;", "").replace('"', "");
                Ok(Some((self.written(&answer)?, etag.into())))
            }
            (404, Some("NoSuchVersion")) | (400, Some("InvalidRequest")) => Ok(None),
            (503, None) => Ok(None),
            _ => panic!("{answer:?}"),
        }
    }

    async fn get(&self, key: &str, version_id: Option<&VersionId>) -> Result<(Reply, Option<Bytes>), Lost> {
        loop {
            let answer = match self.try_ask(Request::get(&target(key, version_id))).await {
                Ok(answer) => answer,
                // A store keeps nothing for a reader. Of one version it cuts a reader off only when that is deleted.
                Err(Cut::Amid(head, read)) => {
                    let cut = version_of(&head).expect("a version id");
                    let again = self.ask(Request::head(&target(key, Some(&cut)))).await;
                    assert_eq!(again.status, 404, "{cut} was cut off after {read} bytes, and is there");
                    self.tally.cut.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(Cut::Before) => panic!("no answer to a GET of {key}"),
            };
            let reply = Self::found(&answer, answer.body.len() as u64);
            let bytes = matches!(reply, Reply::Object(..)).then(|| answer.body.into());
            return Ok((reply, bytes));
        }
    }

    async fn head(&self, key: &str, version_id: Option<&VersionId>) -> Result<Reply, Lost> {
        let answer = self.ask(Request::head(&target(key, version_id))).await;
        let size = answer.header("content-length").and_then(|length| length.parse().ok());
        Ok(Self::found(&answer, size.unwrap_or(0)))
    }

    async fn delete(&self, key: &str, version_id: Option<&VersionId>) -> Result<Reply, Lost> {
        let answer = self.ask(Request::delete(&target(key, version_id))).await;
        let was_marker = answer.header("x-amz-delete-marker") == Some("true");
        match (answer.status, answer.code().as_deref()) {
            (204, _) if version_id.is_some() => Ok(Reply::VersionDeleted { was_marker }),
            (204, _) if was_marker => Ok(Reply::Marked(version_of(&answer).expect("the marker's id"))),
            (404, Some("NoSuchKey" | "NoSuchVersion")) => Ok(Reply::NotFound),
            (503, None) => Err(self.lost()),
            _ => panic!("{answer:?}"),
        }
    }

    async fn list(&self, key: &str) -> Result<Vec<Listed>, Lost> {
        let answer = self.ask(Request::get(&format!("/bkt?versions&prefix={key}"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.element("IsTruncated").as_deref(),
            Some("false"),
            "more versions than a page holds"
        );
        let mut listed = Vec::new();
        let mut rest = answer.text();
        while let Some((start, is_marker)) = next_version(rest) {
            rest = &rest[start..];
            let end = rest
                .find(if is_marker { "</DeleteMarker>" } else { "</Version>" })
                .unwrap();
            let (entry, after) = rest.split_at(end);
            rest = after;
            let text = |name: &str| {
                let (_, value) = entry.split_once(&format!("<{name}>")).expect(entry);
                value.split_once('<').unwrap().0
            };
            if text("Key") != key {
                continue;
            }
            listed.push(Listed {
                version_id: id(text("VersionId")),
                content: (!is_marker).then(|| Content {
                    etag: text("ETag").replace("&quot;", "").replace('"', "").into(),
                    size: text("Size").parse().unwrap(),
                }),
                is_latest: text("IsLatest") == "true",
            });
        }
        Ok(listed)
    }
}

/// Where the next version or delete marker begins, and which it is.
fn next_version(text: &str) -> Option<(usize, bool)> {
    let (version, marker) = (text.find("<Version>"), text.find("<DeleteMarker>"));
    match (version, marker) {
        (Some(version), Some(marker)) if marker < version => Some((marker, true)),
        (Some(version), _) => Some((version, false)),
        (None, marker) => Some((marker?, true)),
    }
}

/// One of several on a store.
struct Gateway {
    process: Process,
    tls: Arc<ClientConfig>,
}

const KEPT_ALIVE: &str = "[limits]\nkeep_alive_timeout = \"600s\"\n";

/// So many processes on one directory.
async fn run(processes: usize, seed: u64) {
    let dir = TempDir::new().unwrap();
    let configuration = dir.path().join("t2gate.toml");
    let (root, shared) = (dir.path().join("data"), processes > 1);
    let text = format!(
        "[backend]\nroot = {root:?}\nshared = {shared}\n{KEPT_ALIVE}{QUIET}{}",
        ACCOUNTS.replace("SECRET", SECRET)
    );
    fs::write(&configuration, text).unwrap();
    let start = |_| Gateway {
        process: Process::start(&configuration),
        tls: Arc::new(trusting(&root.join(".t2/tls/ca.pem"))),
    };
    let gateways: Vec<_> = (0..processes).map(start).collect();
    let options = RaceOptions {
        clients: 100,
        keys: 50,
        operations: operations().unwrap_or(12),
        seed,
    };
    race_at(&gateways, &options).await;
}

/// How much the long form is.
fn operations() -> Option<usize> {
    let text = std::env::var("T2_RACE_OPERATIONS").ok()?;
    Some(text.parse().expect("T2_RACE_OPERATIONS is a number"))
}

/// The same of two processes on one store, as the `[backend]` names it; each has a directory of its own, as if on
/// a machine of its own.
pub(crate) async fn run_over(backend: &str, variables: &[(&str, &OsStr)], seed: u64) {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let gateways = dirs.each_ref().map(|dir| {
        let configuration = configuration_over(backend, &format!("{KEPT_ALIVE}{QUIET}{WITHOUT_LIMITS}"), dir.path());
        let process = Process::start_program(env!("CARGO_BIN_EXE_t2gate"), &configuration, variables);
        let tls = Arc::new(trusting(&dir.path().join("data/.t2/tls/ca.pem")));
        Gateway { process, tls }
    });
    // Each request costs several of the store.
    let options = match operations() {
        Some(operations) => RaceOptions {
            clients: 100,
            keys: 50,
            operations,
            seed,
        },
        None => RaceOptions {
            clients: 40,
            keys: 12,
            operations: 10,
            seed,
        },
    };
    race_at(&gateways, &options).await;
}

/// The clients have the gateways in turn.
async fn race_at(gateways: &[Gateway], options: &RaceOptions) {
    let tally = Arc::<Tally>::default();
    let clients: Vec<_> = (0..options.clients)
        .map(|n| WireClient::new(&gateways[n % gateways.len()], &tally))
        .collect();
    let made = clients[0].ask(Request::put("/bkt")).await;
    assert_eq!(made.status, 200, "{made:?}");
    let versioning = clients[0].ask(Request::get("/bkt?versioning")).await;
    assert_eq!(
        versioning.element("Status").as_deref(),
        Some("Enabled"),
        "{versioning:?}"
    );
    let clients = clients
        .into_iter()
        .map(|client| Arc::new(client) as Arc<dyn RaceClient>);
    let done = race(clients.collect(), options).await;
    println!("{done} operations: {tally:?}");
    assert!(done > options.clients * options.operations / 2, "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hundred_clients_see_of_versions_can_have_happened() {
    run(1, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hundred_clients_see_through_two_gateways_can_have_happened() {
    run(2, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_see_through_two_gateways_before_a_third_can_have_happened() {
    let store = TestGateway::configured(&format!("{WITHOUT_LIMITS}\n[s3]\ndialect = \"aws\"\n")).await;
    store.make_bucket().await;
    let authority = store.data().join(".t2/tls/ca.pem");
    let backend = format!("layout = \"encoded\"\n{}", opendal_over(&store));
    run_over(&backend, &[("SSL_CERT_FILE", authority.as_os_str())], 13).await;
}
