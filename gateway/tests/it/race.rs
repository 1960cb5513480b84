//! The versions of few keys under many clients, over TLS: nothing is lost, mixed up or seen out of order.
//!
//! In the short form a few seconds. The long form, a hundred clients for about a minute on each set-up:
//! `T2_RACE_OPERATIONS=600 cargo test --release -p t2gate --test it race`

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
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

use crate::support::{ACCOUNTS, Answer, Connection, Request, SECRET, connect_to, trusting};

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
}

impl WireClient {
    fn new(address: SocketAddr, tls: &Arc<ClientConfig>) -> Self {
        Self {
            address,
            tls: Arc::clone(tls),
            connection: Mutex::default(),
        }
    }

    async fn ask(&self, request: Request) -> Answer {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect_to(self.address, &self.tls).await,
        };
        let answer = connection.ask(&request).await;
        if !answer.closes() {
            *slot = Some(connection);
        }
        answer
    }

    /// What a write was answered. Under the hands of many a write may be told to try again.
    fn written(answer: &Answer) -> Result<Reply, Lost> {
        match (answer.status, answer.code().as_deref()) {
            // What took long was answered before it was known.
            (200, _) if answer.header("transfer-encoding").is_some() => Err(Lost),
            (200, None) => Ok(Reply::Written(version_of(answer).expect("a version id"))),
            (412, Some("PreconditionFailed")) => Ok(Reply::PreconditionFailed),
            (404, Some("NoSuchKey")) => Ok(Reply::NotFound),
            (409, Some("ConditionalRequestConflict")) => Err(Lost),
            (503, None) => Err(Lost),
            _ => panic!("{answer:?}"),
        }
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
        Self::written(&self.ask(request).await)
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
        Self::written(&self.ask(complete).await)
    }

    async fn copy(&self, source: &str, version_id: &VersionId, key: &str) -> Result<Option<(Reply, Box<str>)>, Lost> {
        let request = Request::put(&target(key, None))
            .header("x-amz-copy-source", format!("/bkt/{source}?versionId={version_id}"))
            // As nothing else of an object changes by a copy onto itself.
            .header("x-amz-metadata-directive", "REPLACE");
        let answer = self.ask(request).await;
        match (answer.status, answer.code().as_deref()) {
            (200, Some(_)) if answer.header("transfer-encoding").is_some() => Err(Lost),
            (200, None) => {
                let etag = answer.element("ETag").unwrap().replace("&quot;", "").replace('"', "");
                Ok(Some((Self::written(&answer)?, etag.into())))
            }
            (404, Some("NoSuchVersion")) | (400, Some("InvalidRequest")) => Ok(None),
            (503, None) => Ok(None),
            _ => panic!("{answer:?}"),
        }
    }

    async fn get(&self, key: &str, version_id: Option<&VersionId>) -> Result<(Reply, Option<Bytes>), Lost> {
        let answer = self.ask(Request::get(&target(key, version_id))).await;
        let reply = Self::found(&answer, answer.body.len() as u64);
        let bytes = matches!(reply, Reply::Object(..)).then(|| answer.body.into());
        Ok((reply, bytes))
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
            (503, None) => Err(Lost),
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

/// So many processes on one directory.
async fn run(processes: usize, seed: u64) {
    let dir = TempDir::new().unwrap();
    let configuration = dir.path().join("t2gate.toml");
    let (root, shared) = (dir.path().join("data"), processes > 1);
    let text = format!(
        "[backend]\nroot = {root:?}\nshared = {shared}\n[limits]\nkeep_alive_timeout = \"600s\"\n[log]\nlevel = \"error\"\n{}",
        ACCOUNTS.replace("SECRET", SECRET)
    );
    fs::write(&configuration, text).unwrap();
    let processes: Vec<_> = (0..processes).map(|_| Process::start(&configuration)).collect();
    let tls = Arc::new(trusting(&root.join(".t2/tls/ca.pem")));
    let clients: Vec<_> = (0..100)
        .map(|n| WireClient::new(processes[n % processes.len()].address, &tls))
        .collect();
    let made = clients[0].ask(Request::put("/bkt")).await;
    assert_eq!(made.status, 200, "{made:?}");
    let versioning = clients[0].ask(Request::get("/bkt?versioning")).await;
    assert_eq!(
        versioning.element("Status").as_deref(),
        Some("Enabled"),
        "{versioning:?}"
    );

    let operations = match std::env::var("T2_RACE_OPERATIONS") {
        Ok(text) => text.parse().expect("T2_RACE_OPERATIONS is a number"),
        Err(_) => 12,
    };
    let options = RaceOptions {
        clients: 100,
        keys: 50,
        operations,
        seed,
    };
    let clients = clients
        .into_iter()
        .map(|client| Arc::new(client) as Arc<dyn RaceClient>);
    let done = race(clients.collect(), &options).await;
    assert!(done > 100 * operations / 2, "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hundred_clients_see_of_versions_can_have_happened() {
    run(1, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hundred_clients_see_through_two_gateways_can_have_happened() {
    run(2, 12).await;
}
