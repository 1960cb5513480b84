//! A gateway before a store that keeps versions by itself, which is a bucket of another gateway.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::{
    behind::{QUIET, WITHOUT_LIMITS, configuration_over, opendal_over},
    race::Process,
    support::{Answer, Request, TestGateway, connect_to, trusting},
    versions::{SUSPENDED, entries, entry, id, set},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_t2gate");

/// Both gateways, with a bucket `photos`.
struct Front {
    process: Process,
    tls: Arc<ClientConfig>,
    configuration: PathBuf,
    store: TestGateway,
    _dir: TempDir,
}

impl Front {
    async fn start() -> Self {
        let store = TestGateway::configured(WITHOUT_LIMITS).await;
        store.does(Request::put("/bkt")).await;
        let dir = TempDir::new().unwrap();
        let configuration = configuration_over(&opendal_over(&store), QUIET, dir.path());
        let authority = authority(&store);
        let process = Process::start_program(PROGRAM, &configuration, &[("SSL_CERT_FILE", authority.as_os_str())]);
        let tls = Arc::new(trusting(&dir.path().join("data/.t2/tls/ca.pem")));
        let front = Self {
            process,
            tls,
            configuration,
            store,
            _dir: dir,
        };
        front.does(Request::put("/photos")).await;
        front
    }

    async fn ask(&self, request: &Request) -> Answer {
        connect_to(self.process.address, &self.tls).await.ask(request).await
    }

    async fn does(&self, request: Request) -> Answer {
        let answer = self.ask(&request).await;
        assert!((200..300).contains(&answer.status), "{request:?}: {answer:?}");
        answer
    }

    async fn refuses(&self, request: Request, status: u16, code: &str) -> Answer {
        let answer = self.ask(&request).await;
        let got = (answer.status, answer.code());
        assert_eq!(got, (status, Some(code.to_owned())), "{request:?}: {answer:?}");
        answer
    }

    async fn put(&self, body: &str) -> String {
        id(&self.does(Request::put("/photos/a").body(body)).await)
    }

    /// The object `a`, or a version of it.
    async fn get(&self, version: Option<&str>) -> String {
        self.does(Request::get(&target(version))).await.text().to_owned()
    }

    async fn listing(&self) -> Answer {
        self.does(Request::get("/photos?versions")).await
    }

    async fn versions(&self) -> Vec<(String, String, String, bool)> {
        entries(&self.listing().await)
    }

    /// What `t2gate` prints, and whether it succeeded.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .args(["--bucket", "photos", "--config"])
            .arg(&self.configuration)
            .env("SSL_CERT_FILE", authority(&self.store));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

fn authority(store: &TestGateway) -> PathBuf {
    store.data().join(Path::new(".t2/tls/ca.pem"))
}

fn target(version: Option<&str>) -> String {
    version.map_or_else(|| "/photos/a".to_owned(), |id| format!("/photos/a?versionId={id}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_the_store_are_versions_of_the_bucket() {
    let front = Front::start().await;
    let versioning = front.does(Request::get("/photos?versioning")).await;
    assert_eq!(versioning.element("Status").as_deref(), Some("Enabled"));
    let (one, two) = (front.put("one").await, front.put("two").await);
    assert_eq!(front.get(None).await, "two");
    assert_eq!(front.get(Some(&one)).await, "one");
    assert_eq!(front.get(Some(&two)).await, "two");
    // They are the store's own, by its ids and for those who go there.
    let direct = front
        .store
        .does(Request::get(&format!("/bkt/photos/a?versionId={one}")))
        .await;
    assert_eq!(direct.text(), "one");
    let both = |latest| [entry("Version", "a", &two, latest), entry("Version", "a", &one, false)];
    assert_eq!(front.versions().await, both(true));

    let deleted = front.does(Request::delete("/photos/a")).await;
    assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
    let marker = id(&deleted);
    let gone = front.refuses(Request::get("/photos/a"), 404, "NoSuchKey").await;
    assert_eq!(gone.header("x-amz-delete-marker"), Some("true"));
    assert_eq!(gone.header("x-amz-version-id"), Some(&*marker));
    front
        .refuses(Request::get(&target(Some(&marker))), 405, "MethodNotAllowed")
        .await;
    let mut with_marker = vec![entry("DeleteMarker", "a", &marker, true)];
    with_marker.extend(both(false));
    assert_eq!(front.versions().await, with_marker);
    let deleted = front.does(Request::delete(&target(Some(&marker)))).await;
    assert_eq!(
        (deleted.header("x-amz-delete-marker"), &*id(&deleted)),
        (Some("true"), &*marker)
    );
    assert_eq!(front.get(None).await, "two");
    assert_eq!(front.versions().await, both(true));

    // Conditions are judged by the store, and what is refused leaves no version.
    let create = || Request::put("/photos/a").header("if-none-match", "*").body("three");
    front.refuses(create(), 412, "PreconditionFailed").await;
    assert_eq!(front.versions().await, both(true));
    front.does(Request::delete("/photos/a")).await;
    front.does(create()).await;
    assert_eq!(front.get(None).await, "three");
    assert_eq!(front.versions().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_cannot_do_for_one_bucket_is_refused() {
    let front = Front::start().await;
    let suspended = front.refuses(set("photos", SUSPENDED), 501, "NotImplemented").await;
    assert!(suspended.text().contains("by itself"), "{suspended:?}");
    let versioning = front.does(Request::get("/photos?versioning")).await;
    assert_eq!(versioning.element("Status").as_deref(), Some("Enabled"));
    let kept = front.put("kept").await;
    // Ids that the store does not know, or cannot have.
    for foreign in ["null", "never", &"x".repeat(128)] {
        for request in [Request::get, Request::delete] {
            front
                .refuses(request(&target(Some(foreign))), 404, "NoSuchVersion")
                .await;
        }
    }
    for wrong in ["", "a%2Fb", &"x".repeat(129)] {
        for request in [Request::get, Request::delete] {
            front
                .refuses(request(&target(Some(wrong))), 400, "InvalidArgument")
                .await;
        }
    }
    assert_eq!(front.versions().await, [entry("Version", "a", &kept, true)]);
    // Nor a key that it would change on the way.
    let put = Request::put("/photos/a//b").body("x");
    let refused = front.refuses(put, 400, "InvalidArgument").await;
    assert!(
        refused.text().contains("This storage cannot hold that key"),
        "{refused:?}"
    );
    front.refuses(Request::get("/photos/a//b"), 404, "NoSuchKey").await;
    front.refuses(Request::delete("/photos"), 409, "BucketNotEmpty").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_or_overwritten_comes_back_by_one_command() {
    let front = Front::start().await;
    front.put("1").await;
    let time = |listing: &Answer| listing.element("LastModified").unwrap();
    let then = time(&front.listing().await);
    // Until the store's clock shows another second.
    let mut written = 1;
    while time(&front.listing().await) == then {
        written += 1;
        front.put(&written.to_string()).await;
    }
    let newest = written.to_string();
    front.does(Request::delete("/photos/a")).await;
    let (done, said) = front.run(&["undelete"]);
    assert!(done && said.ends_with("1 keys examined, 1 changed\n"), "{said}");
    assert_eq!(front.get(None).await, newest);
    let versions = front.versions().await.len();
    let (done, said) = front.run(&["restore", "--at", &then]);
    assert!(done && said.ends_with("1 keys examined, 1 changed\n"), "{said}");
    assert_eq!(front.versions().await.len(), versions + 1);
    // Of those of that second, the last.
    assert_eq!(front.get(None).await, (written - 1).to_string());
    // What the store can do is found out by writing to it.
    let (done, said) = front.run(&["undelete", "--dry-run"]);
    assert!(!done && said.contains("no dry run"), "{said}");
}
