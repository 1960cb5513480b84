//! Servers, for as long as this process lives.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A server that listens. It goes when this process does: its shell waits for the end of its input.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    _child: Child,
    dir: TempDir,
}

impl Server {
    /// Runs `program`, a path below `target/stores` or an absolute one, in a directory of its own. `arguments` is given the directory and
    /// the port to listen on.
    pub(super) fn start(program: &str, arguments: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        let program = stores().join(program);
        assert!(
            program.exists(),
            "{} is not there: run backends/tests/stores/install",
            program.display()
        );
        // It ends where somebody else has got a port of its meanwhile.
        let mut attempts = (0..5).map(|_| Self::attempt(&program, &arguments));
        attempts.find_map(Result::ok).unwrap_or_else(|| {
            let last = Self::attempt(&program, &arguments);
            last.unwrap_or_else(|log| panic!("{} ends: {log}", program.display()))
        })
    }

    /// Fails with what it has logged, if it ends before it listens.
    fn attempt(program: &Path, arguments: impl Fn(&Path, u16) -> Vec<String>) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = std::fs::File::create(dir.path().join("server.log")).unwrap();
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                "exec 3<&0; \"$0\" \"$@\" </dev/null & pid=$!; \
                 (cat <&3 >/dev/null; kill $pid) & watch=$!; exec 3<&-; wait $pid; kill $watch",
            ])
            .arg(program)
            .args(arguments(dir.path(), port))
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let logged = || std::fs::read_to_string(dir.path().join("server.log")).unwrap();
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if child.try_wait().unwrap().is_some() {
                return Err(logged());
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{} does not listen: {}",
                program.display(),
                logged()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self {
            address,
            _child: child,
            dir,
        })
    }

    /// What it was started in.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// One of two of a kind, in turn: an emulator is a single busy process, and most tests wait for it.
pub(super) fn in_turn(servers: [&'static LazyLock<Server>; 2]) -> &'static Server {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    servers[NEXT.fetch_add(1, Ordering::Relaxed) % servers.len()]
}

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/stores")
}

/// One that nobody listens on now.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A root in a store that no other test has.
pub(super) fn root() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("/run-{}-{}/", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes the bucket `store` of a server that speaks S3.
pub(super) fn make_bucket(server: &Server) {
    assert!(try_make_bucket(server), "{} has ended", server.url());
}

/// The same. False where the server has ended.
pub(super) fn try_make_bucket(server: &Server) -> bool {
    let endpoint = format!("endpoint=\"{}\"", server.url());
    let remote =
        format!(":s3,provider=Other,force_path_style=true,access_key_id=key,secret_access_key=secret,{endpoint}:store");
    try_make(&remote, || TcpStream::connect(server.address).is_ok())
}

/// Makes a bucket with rclone, whose name for it `remote` is: to make it is not under test.
pub(super) fn make(remote: &str) {
    assert!(try_make(remote, || true));
}

/// False where nothing `answers` any more.
fn try_make(remote: &str, answers: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        let made = Command::new(stores().join("venv/bin/rclone"))
            .args(["mkdir", "--config", "/dev/null", "--retries", "1", remote])
            .output()
            .unwrap();
        if made.status.success() {
            return true;
        }
        if !answers() {
            return false;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{made:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The number of a bucket or container that no other test has: emulators look through all of one for each page of a
/// listing.
pub(super) fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Sends a request without a signature to a server that asks for none, and gives its answer.
pub(super) fn send(server: &Server, request: &str, body: &str) -> String {
    let (status, answer) = exchange(server, request, "", body);
    assert_eq!(status, "200", "{request}: {answer}");
    answer
}

/// The same about an object, which moto gives to nobody but to who has any signature. The answer has to be a good one.
pub(super) fn send_signed(server: &Server, request: &str, body: &str) {
    let signature = "Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let signed = format!("authorization: AWS4-HMAC-SHA256 {signature}\r\n");
    let (status, answer) = exchange(server, request, &signed, body);
    assert!(status.starts_with('2'), "{request}: {answer}");
}

/// Waits until the bucket `store` takes objects: a server may make it before it has room for any.
pub(super) fn wait_until_it_takes_objects(server: &Server) {
    let begun = Instant::now();
    loop {
        let (status, answer) = exchange(server, "PUT /store/first", "", "first");
        if status == "200" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{answer}");
        std::thread::sleep(Duration::from_millis(200));
    }
    exchange(server, "DELETE /store/first", "", "");
}

/// The status of the answer, and all of it.
fn exchange(server: &Server, request: &str, header: &str, body: &str) -> (String, String) {
    let mut connection = TcpStream::connect(server.address).unwrap();
    let (host, length) = (server.address, body.len());
    let head =
        format!("{request} HTTP/1.1\r\nhost: {host}\r\n{header}connection: close\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap_or_default().to_owned(), answer)
}

/// `status` is `Enabled` or `Suspended`.
pub(super) fn set_versioning(server: &Server, bucket: &str, status: &str) {
    let body = format!(
        "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></VersioningConfiguration>"
    );
    send(server, &format!("PUT /{bucket}?versioning"), &body);
}
