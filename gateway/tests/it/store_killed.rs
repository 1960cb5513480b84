//! A gateway before a store, killed amid the uploads of several clients, and started again: what it has acknowledged is there
//! byte for byte, nothing is half there, and when all is deleted and the sweeper was there, nothing is left in the store.
//!
//! The store is another gateway, which goes on. The sweeper runs in a child of this test, for it has to trust that.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;
use t2gate_backends::{OpendalBackend, OpendalOptions, StoreLayout, TestClock, Timestamp};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    behind::{ENDPOINT, QUIET, WITHOUT_LIMITS, configuration_over, opendal_over, options_over},
    race::{PATIENCE, Process},
    support::{Answer, Connection, Cut, Request, TestGateway, connect_to, trusting},
    versions::entries,
};

const CLIENTS: usize = 6;
/// So many requests are acknowledged, of all clients together, and then the gateway is killed.
const KILLED_AFTER: [usize; 3] = [25, 11, 40];
/// More than is sent to the store in one call.
const LARGE: usize = (8 << 20) + 1;
const LAYOUT: &str = "TEST_KILLED_LAYOUT";

/// What a client knows of a key.
#[derive(Debug, Default, Clone)]
struct Known {
    /// As it was acknowledged. `None`: there is nothing.
    is: Option<Vec<u8>>,
    /// Where that got no answer: what it may be instead.
    or: Option<Option<Vec<u8>>>,
    /// Acknowledged with an id.
    versions: BTreeMap<String, Vec<u8>>,
}

type State = BTreeMap<String, Known>;

struct Setup {
    layout: StoreLayout,
    configuration: PathBuf,
    store: TestGateway,
    dir: TempDir,
}

struct Front {
    process: Process,
    tls: Arc<ClientConfig>,
}

impl Setup {
    async fn new(layout: StoreLayout, dialect: &str) -> Self {
        let store = TestGateway::configured(&format!("{WITHOUT_LIMITS}\n[s3]\ndialect = \"aws\"\n")).await;
        store.make_bucket().await;
        store.does(Request::delete("/bkt/known")).await;
        let dir = TempDir::new().unwrap();
        let backend = format!("layout = {:?}\n{}", layout.word(), opendal_over(&store));
        let more = format!("{QUIET}{WITHOUT_LIMITS}\n[s3]\ndialect = {dialect:?}\n");
        let configuration = configuration_over(&backend, &more, dir.path());
        Self {
            layout,
            configuration,
            store,
            dir,
        }
    }

    fn authority(&self) -> PathBuf {
        self.store.data().join(".t2/tls/ca.pem")
    }

    fn start(&self) -> Front {
        let program = env!("CARGO_BIN_EXE_t2gate");
        let authority = self.authority();
        let process = Process::start_program(
            program,
            &self.configuration,
            &[("SSL_CERT_FILE", authority.as_os_str())],
        );
        let tls = Arc::new(trusting(&self.dir.path().join("data/.t2/tls/ca.pem")));
        Front { process, tls }
    }

    /// Runs [`sweeper`].
    async fn sweep(&self) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["store_killed::sweeper", "--exact", "--ignored"])
            .env(ENDPOINT, format!("https://{}", self.store.address))
            .env(LAYOUT, self.layout.word())
            .env("SSL_CERT_FILE", self.authority());
        let output = tokio::task::spawn_blocking(move || child.output())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(" 1 passed"), "{output:?}");
    }

    /// The names of all that lies in the store.
    async fn names(&self) -> BTreeSet<String> {
        let listing = self.store.does(Request::get("/bkt?list-type=2")).await;
        assert_eq!(listing.element("IsTruncated").as_deref(), Some("false"));
        keys(&listing)
    }
}

impl Front {
    async fn connect(&self) -> Connection {
        connect_to(self.process.address, &self.tls).await.patient(PATIENCE)
    }
}

fn keys(listing: &Answer) -> BTreeSet<String> {
    let keys = listing.text().split("<Key>").skip(1);
    keys.map(|rest| rest.split_once('<').unwrap().0.to_owned()).collect()
}

fn content(key: &str, serial: usize, len: usize) -> Vec<u8> {
    format!("{key} {serial} {len} ").bytes().cycle().take(len).collect()
}

/// A client at work, with keys of its own, until the gateway breaks off.
struct Client {
    number: usize,
    round: usize,
    connection: Connection,
    state: State,
    acknowledged: UnboundedSender<()>,
}

impl Client {
    async fn run(mut self) -> State {
        let mut serial = 0;
        while self.step(serial).await.is_ok() {
            serial += 1;
        }
        self.state
    }

    async fn step(&mut self, serial: usize) -> Result<(), Cut> {
        let (n, round) = (self.number, self.round);
        let same = format!("client-{n}/same");
        let new = format!("client-{n}/{round}-{serial}");
        match (n + serial) % 6 {
            0 => self.put(&new, serial, 1000).await,
            1 => self.put(&same, serial, 100_000).await,
            2 if n == 0 => self.put(&same, serial, LARGE).await,
            2 => self.put(&same, serial, 2000).await,
            3 => self.put_in_parts(&new, serial).await,
            4 if serial.is_multiple_of(4) => self.delete(&same).await,
            4 => self.put_in_parts(&same, serial).await,
            _ => self.put(&new, serial, 70_000).await,
        }
    }

    /// Sends what changes a key to what it is `then`.
    async fn changes(&mut self, key: &str, request: Request, then: Option<Vec<u8>>) -> Result<(), Cut> {
        let known = self.state.entry(key.to_owned()).or_default();
        known.or = Some(then.clone());
        let answer = self.connection.try_ask(&request).await?;
        // A delete of what is not there is 404 in one dialect.
        let is_done = matches!((answer.status, &then), (200, Some(_)) | (204 | 404, None));
        assert!(is_done, "{key}: {answer:?}");
        if let (Some(id), Some(bytes)) = (answer.header("x-amz-version-id"), &then) {
            known.versions.insert(id.to_owned(), bytes.clone());
        }
        known.is = then;
        known.or = None;
        // The test may have heard enough.
        self.acknowledged.send(()).ok();
        Ok(())
    }

    async fn put(&mut self, key: &str, serial: usize, len: usize) -> Result<(), Cut> {
        let bytes = content(key, serial, len);
        let request = Request::put(&format!("/photos/{key}")).body(&bytes);
        self.changes(key, request, Some(bytes)).await
    }

    async fn delete(&mut self, key: &str) -> Result<(), Cut> {
        self.changes(key, Request::delete(&format!("/photos/{key}")), None)
            .await
    }

    /// Of one client's uploads the first part is of the least size that a part has, and another follows.
    async fn put_in_parts(&mut self, key: &str, serial: usize) -> Result<(), Cut> {
        let len = if self.number == 1 { (5 << 20) + 1000 } else { 90_000 };
        let bytes = content(key, serial, len);
        let created = Request::post(&format!("/photos/{key}?uploads"));
        let created = self.connection.try_ask(&created).await?;
        let upload = created.element("UploadId").unwrap();
        let mut document = String::from("<CompleteMultipartUpload>");
        for (at, part) in bytes.chunks(5 << 20).enumerate() {
            let number = at + 1;
            let request = Request::put(&format!("/photos/{key}?partNumber={number}&uploadId={upload}")).body(part);
            let answer = self.connection.try_ask(&request).await?;
            let etag = answer.header("etag").unwrap();
            document += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        document += "</CompleteMultipartUpload>";
        let complete = Request::post(&format!("/photos/{key}?uploadId={upload}")).document(document);
        self.changes(key, complete, Some(bytes)).await
    }
}

/// All is as the clients know it; what got no answer is there or not, and stays so.
async fn see(front: &Front, state: &mut State, place: &str) {
    let mut connection = front.connect().await;
    for (key, known) in state.iter_mut() {
        let answer = connection.ask(&Request::get(&format!("/photos/{key}"))).await;
        let found = match answer.status {
            200 => Some(answer.body),
            404 => None,
            _ => panic!("{place}: {key}: {answer:?}"),
        };
        if known.or.take().is_some_and(|or| or == found) {
            known.is = found;
        } else {
            assert!(known.is == found, "{place}: {key} is not what was acknowledged");
        }
        for (id, bytes) in &known.versions {
            let version = Request::get(&format!("/photos/{key}?versionId={id}"));
            let version = connection.ask(&version).await;
            assert!(
                version.status == 200 && version.body == *bytes,
                "{place}: {key}, {id}: lost"
            );
        }
    }
    let listing = connection.ask(&Request::get("/photos?list-type=2")).await;
    assert_eq!(listing.element("IsTruncated").as_deref(), Some("false"), "{listing:?}");
    let there = state.iter().filter(|(_, known)| known.is.is_some());
    let there: BTreeSet<_> = there.map(|(key, _)| key.clone()).collect();
    assert_eq!(keys(&listing), there, "{place}");
}

/// Deletes everything, with all versions.
async fn empty(front: &Front, state: &State) {
    let mut connection = front.connect().await;
    for key in state.keys() {
        let deleted = connection.ask(&Request::delete(&format!("/photos/{key}"))).await;
        assert!(matches!(deleted.status, 204 | 404), "{deleted:?}");
    }
    let listing = connection.ask(&Request::get("/photos?versions")).await;
    assert_eq!(listing.element("IsTruncated").as_deref(), Some("false"), "{listing:?}");
    for (_, key, id, _) in entries(&listing) {
        let version = Request::delete(&format!("/photos/{key}?versionId={id}"));
        let deleted = connection.ask(&version).await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
    }
}

async fn killed_and_started_again(setup: Setup) {
    let mut front = setup.start();
    let made = front.connect().await.ask(&Request::put("/photos")).await;
    assert_eq!(made.status, 200, "{made:?}");
    let mut state = State::new();
    for (round, count) in KILLED_AFTER.into_iter().enumerate() {
        let (sender, mut acknowledged) = unbounded_channel();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let own = state
                .iter()
                .filter(|(key, _)| key.starts_with(&format!("client-{number}/")));
            let client = Client {
                number,
                round,
                connection: front.connect().await,
                state: own.map(|(key, known)| (key.clone(), known.clone())).collect(),
                acknowledged: sender.clone(),
            };
            clients.push(tokio::spawn(client.run()));
        }
        for _ in 0..count {
            acknowledged.recv().await.expect("a client has failed");
        }
        // All of them are amid a request.
        drop(front);
        for client in clients {
            state.extend(client.await.unwrap());
        }
        let unanswered = state.values().filter(|known| known.or.is_some()).count();
        println!("round {round}: {unanswered} changes got no answer");
        front = setup.start();
        see(&front, &mut state, &format!("after round {round}")).await;
    }
    see(&front, &mut state, "at the end").await;
    setup.sweep().await;
    see(&front, &mut state, "swept").await;
    empty(&front, &state).await;
    drop(front);
    setup.sweep().await;
    let left = setup.names().await;
    // What is noted of the store, and the bucket.
    let noted: BTreeSet<_> = [".t2/buckets/photos", ".t2/store"].map(str::to_owned).into();
    assert_eq!(left, noted);
    setup.store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_there_and_nothing_is_left() {
    killed_and_started_again(Setup::new(StoreLayout::Transparent, "aws").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_of_versions_in_the_encoded_layout() {
    killed_and_started_again(Setup::new(StoreLayout::Encoded, "t2").await).await;
}

/// Removes what nobody has needed for decades, twice: what the first look ends, the second removes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a test that starts a gateway"]
async fn sweeper() {
    let layout = match std::env::var(LAYOUT).as_deref() {
        Ok("encoded") => StoreLayout::Encoded,
        _ => StoreLayout::Transparent,
    };
    let day = |day: i64| Timestamp::from_unix(1_700_000_000 + day * 86_400, 0);
    let clock = Arc::new(TestClock::new(day(20_000)));
    let options = OpendalOptions {
        clock: clock.clone(),
        ..options_over("/", layout)
    };
    let backend = OpendalBackend::open(options).await.unwrap();
    backend.sweep(Duration::from_hours(24)).await.unwrap();
    clock.set(day(20_003));
    backend.sweep(Duration::from_hours(24)).await.unwrap();
}
