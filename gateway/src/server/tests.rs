//! Real sockets and real TLS, with clients that trust the made authority and check names.

use std::{io, net::Ipv4Addr, path::Path, sync::OnceLock};

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use socket2::SockRef;
use t2gate_backends::Timestamp;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    self_signed::{SelfSigned, ensure, names},
    tls::TlsOptions,
    *,
};
use crate::config::TlsVersion;

/// Longer than anything here should take, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(10);

fn now() -> Timestamp {
    use t2gate_backends::Clock as _;
    t2gate_backends::SystemClock.now()
}

/// One authority for all tests.
fn certificate() -> &'static SelfSigned {
    static MADE: OnceLock<(TempDir, SelfSigned)> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let own = ensure(
            dir.path(),
            &names(Ipv4Addr::LOCALHOST.into(), &["s3.localhost".into()]),
            now(),
        )
        .unwrap();
        (dir, own)
    };
    &MADE.get_or_init(make).1
}

struct TestServer {
    address: SocketAddr,
    stats: Arc<ConnectionStats>,
    trigger: ShutdownTrigger,
    ended: JoinHandle<Drained>,
}

fn options() -> ServerOptions {
    ServerOptions {
        connections: 100,
        header_bytes: 16 * 1024,
        handshake_timeout: Duration::from_secs(5),
        header_timeout: Duration::from_secs(5),
        keep_alive_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(5),
        least_throughput: 1,
        throughput_grace: Duration::from_secs(5),
        drain_deadline: Duration::from_secs(5),
    }
}

async fn start(options: ServerOptions) -> TestServer {
    start_with(
        options,
        TlsOptions {
            min_version: TlsVersion::V1_2,
            http2: true,
        },
    )
    .await
}

async fn start_with(options: ServerOptions, tls: TlsOptions) -> TestServer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(Tls::load(&certificate().files, tls, now()).unwrap());
    let stats = Arc::new(ConnectionStats::default());
    let (trigger, shutdown) = Shutdown::new();
    let service = tower::service_fn(answer);
    let ended = tokio::spawn(run(listener, tls, service, options, Arc::clone(&stats), shutdown));
    TestServer {
        address,
        stats,
        trigger,
        ended,
    }
}

type TestBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// `/echo` gives the body back, `/slow` answers after a while, `/endless` never ends, `/peer` says who asked.
async fn answer(request: Request<Incoming>) -> Result<Response<TestBody>, Infallible> {
    let text = |text: String| Full::from(text).map_err(|never| match never {}).boxed_unsync();
    let body = match request.uri().path() {
        "/echo" => request.into_body().boxed_unsync(),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            text("slow".to_owned())
        }
        "/endless" => {
            let piece = Bytes::from(vec![7; 64 * 1024]);
            let pieces = futures::stream::repeat_with(move || Ok(http_body::Frame::data(piece.clone())));
            StreamBody::new(pieces).boxed_unsync()
        }
        "/peer" => {
            let info = request
                .extensions()
                .get::<ConnectionInfo>()
                .expect("every request has it");
            text(format!("{} {}", info.peer, info.tls_version))
        }
        _ => text("hello".to_owned()),
    };
    Ok(Response::new(body))
}

fn client(alpn: &[&str], authority: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

impl TestServer {
    async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_as("localhost", &[]).await.unwrap()
    }

    async fn connect_as(&self, name: &str, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        client(alpn, &certificate().authority).connect(name, stream).await
    }

    fn count(&self, counter: impl Fn(&ConnectionStats) -> &AtomicU64) -> u64 {
        counter(&self.stats).load(Relaxed)
    }
}

/// Reads one answer with a Content-Length: head and body.
async fn read_answer(stream: &mut TlsStream<TcpStream>) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            timeout(PATIENCE, stream.read_u8())
                .await
                .expect("an answer in time")
                .expect("an answer"),
        );
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

/// How long the server takes to close; what it sends before that is thrown away.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Duration {
    let start = Instant::now();
    let mut scratch = vec![0; 64 * 1024];
    let read = async { while !matches!(stream.read(&mut scratch).await, Ok(0) | Err(_)) {} };
    timeout(PATIENCE, read).await.expect("the server closes");
    start.elapsed()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn requests_are_answered_over_tls_and_the_connection_is_kept() {
    let server = start(options()).await;
    let mut stream = server.connect().await;
    for body in ["one", "another"] {
        let request = format!(
            "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, echoed) = read_answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(echoed, body.as_bytes());
    }
    assert_eq!(server.count(|stats| &stats.handshakes), 1);
}

#[tokio::test]
async fn a_request_knows_its_peer() {
    let server = start(options()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let expected = format!("{} TLSv1_3", stream.get_ref().0.local_addr().unwrap());
    assert_eq!(read_answer(&mut stream).await.1, expected.as_bytes());
}

#[tokio::test]
async fn the_certificate_holds_for_its_names_and_no_other() {
    let server = start(options()).await;
    for name in ["localhost", "127.0.0.1", "::1", "s3.localhost", "bucket.s3.localhost"] {
        server.connect_as(name, &[]).await.expect(name);
    }
    for name in ["example.com", "a.b.s3.localhost"] {
        server.connect_as(name, &[]).await.expect_err(name);
    }
}

#[tokio::test]
async fn http2_is_offered_only_where_it_is_on() {
    let both = ["h2", "http/1.1"];
    let on = start(options()).await;
    let stream = on.connect_as("localhost", &both).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let off = start_with(
        options(),
        TlsOptions {
            min_version: TlsVersion::V1_3,
            http2: false,
        },
    )
    .await;
    let stream = off.connect_as("localhost", &both).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn plain_text_is_told_to_use_https() {
    let server = start(options()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // More than fits into one read: the answer must come through all the same.
    let request = format!(
        "PUT / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n{}",
        "x".repeat(500_000)
    );
    let (mut reading, mut writing) = stream.split();
    let mut answer = String::new();
    let (written, read) = tokio::join!(
        writing.write_all(request.as_bytes()),
        reading.read_to_string(&mut answer)
    );
    written.unwrap();
    read.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("HTTPS"), "{answer}");
    assert!(head.contains("Connection: close") && head.contains(&format!("Content-Length: {}\r\n", body.len())));
    assert_eq!(server.count(|stats| &stats.plain_text), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_shake_hands_is_cut() {
    let server = start(ServerOptions {
        handshake_timeout: Duration::from_millis(300),
        ..options()
    })
    .await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(until_closed(&mut silent).await >= Duration::from_millis(250));
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    assert!(until_closed(&mut half).await >= Duration::from_millis(250));
    assert_eq!(server.count(|stats| &stats.handshake_failures), 2);
}

#[tokio::test]
async fn headers_a_byte_at_a_time_are_cut_at_the_deadline() {
    let server = start(ServerOptions {
        header_timeout: Duration::from_millis(600),
        ..options()
    })
    .await;
    let mut stream = server.connect().await;
    let start = Instant::now();
    for byte in GET.iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        let mut scratch = [0; 16];
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(100), stream.read(&mut scratch)).await {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(3), "still served");
    }
    assert!(start.elapsed() >= Duration::from_millis(500), "cut too early");
    assert_eq!(server.count(|stats| &stats.timeouts), 1);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_its_time_and_then_closed() {
    let short = Duration::from_millis(200);
    let server = start(ServerOptions {
        header_timeout: short,
        keep_alive_timeout: Duration::from_millis(900),
        ..options()
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(GET).await.unwrap();
    read_answer(&mut stream).await;
    // Well past the header timeout, which must not count here.
    tokio::time::sleep(Duration::from_millis(600)).await;
    stream.write_all(GET).await.unwrap();
    read_answer(&mut stream).await;
    let idle = until_closed(&mut stream).await;
    assert!(
        (Duration::from_millis(700)..Duration::from_secs(3)).contains(&idle),
        "{idle:?}"
    );
    assert_eq!(server.count(|stats| &stats.timeouts), 1);
}

#[tokio::test]
async fn a_slow_answer_is_no_idle_connection() {
    let short = Duration::from_millis(100);
    let server = start(ServerOptions {
        header_timeout: short,
        keep_alive_timeout: short,
        write_timeout: short,
        ..options()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"slow");
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_one_after_a_close_is_not() {
    let server = start(ServerOptions {
        connections: 2,
        ..options()
    })
    .await;
    // Both are being served.
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for stream in [&mut first, &mut second] {
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        stream.read_u8().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    server
        .connect_as("localhost", &[])
        .await
        .expect_err("a third connection");
    assert_eq!(server.count(|stats| &stats.refused), 1);
    assert_eq!(server.count(|stats| &stats.displaced), 0);

    drop(first);
    let again = async {
        while server.connect_as("localhost", &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("a place came free");
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let server = start(ServerOptions {
        connections: 3,
        handshake_timeout: Duration::from_secs(600),
        header_timeout: Duration::from_secs(600),
        keep_alive_timeout: Duration::from_secs(600),
        ..options()
    })
    .await;
    // One amid its handshake, one between two requests, one on HTTP/2 that has asked nothing.
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut kept = server.connect().await;
    kept.write_all(GET).await.unwrap();
    read_answer(&mut kept).await;
    let _empty = server.connect_as("localhost", &["h2"]).await.unwrap();
    let mut served = Vec::new();
    let asked = async {
        for displaced in 1..=5 {
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let mut stream = server.connect().await;
            stream.write_all(GET).await.unwrap();
            read_answer(&mut stream).await;
            assert_eq!(server.count(|stats| &stats.displaced), displaced);
            // It stays open, as those before it have.
            served.push(stream);
        }
    };
    timeout(6 * PATIENCE, asked).await.expect("each is served");
    assert_eq!(server.count(|stats| &stats.refused), 0);
    assert!(server.count(|stats| &stats.open) <= 3);
    // Who waited has heard of its end.
    assert!(matches!(kept.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let server = start(ServerOptions {
        write_timeout: Duration::from_millis(500),
        ..options()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let cut = async {
        while server.count(|stats| &stats.open) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, cut).await.expect("cut");
    assert_eq!(server.count(|stats| &stats.timeouts), 1);
    drop(stream);
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut() {
    let grace = Duration::from_secs(1);
    let server = start(ServerOptions {
        least_throughput: 1 << 30,
        throughput_grace: grace,
        ..options()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let start = Instant::now();
    let mut scratch = [0; 256 * 1024];
    while matches!(stream.read(&mut scratch).await, Ok(read) if read > 0) {
        assert!(start.elapsed() < PATIENCE, "still served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(start.elapsed() >= grace);
    assert_eq!(server.count(|stats| &stats.timeouts), 1);
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_steadily_is_served() {
    let second = Duration::from_secs(1);
    let options = ServerOptions {
        write_timeout: 2 * second,
        least_throughput: 64 * 1024,
        throughput_grace: second,
        ..options()
    };
    let server = start(options).await;
    let mut stream = server.connect().await;
    // With a large one the kernel tells of the room in it more seldom than every two seconds.
    SockRef::from(stream.get_ref().0)
        .set_recv_buffer_size(64 * 1024)
        .unwrap();
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let start = Instant::now();
    let mut piece = [0; 32 * 1024];
    // About half a megabyte a second; the kernel hands it on in lumps.
    while start.elapsed() < 5 * second {
        stream.read_exact(&mut piece).await.expect("served on");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(server.count(|stats| &stats.timeouts), 0);
}

#[tokio::test]
async fn headers_over_the_limit_are_answered_with_431_and_a_close() {
    let server = start(ServerOptions {
        header_bytes: 8192,
        ..options()
    })
    .await;
    for over in [9_000, 200_000] {
        let mut stream = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(over));
        // The server may have closed before it was all sent.
        drop(stream.write_all(request.as_bytes()).await);
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 431"), "{over}: {head}");
        until_closed(&mut stream).await;
    }

    // With the host it is one too many. Metadata of 2 KiB may have a hundred names, beside what an SDK sends.
    for (headers, status) in [(255, "200"), (256, "431")] {
        let mut stream = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Y: z\r\n".repeat(headers));
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{headers}: {head}");
    }

    let mut stream = server.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(8000));
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_400_and_a_close() {
    let server = start(options()).await;
    for request in [
        "\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET  /\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 400"), "{head}");
        until_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = start(options()).await;
    let mut stream = server.connect().await;
    // Nobody reads this body: "/" answers at once.
    stream
        .write_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..4 {
        stream.write_all(&[b'x'; 100_000]).await.expect("what is sent is taken");
    }
    let (head, body) = read_answer(&mut stream).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, b"hello");
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let server = start(options()).await;
    let mut busy = server.connect().await;
    let mut idle = server.connect().await;
    let mut fresh = server.connect().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(GET).await.unwrap();
    read_answer(&mut idle).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    let start = Instant::now();
    server.trigger.trigger();
    let (head, body) = read_answer(&mut busy).await;
    assert_eq!(body, b"slow");
    assert!(head.contains("connection: close"), "{head}");
    until_closed(&mut idle).await;
    until_closed(&mut fresh).await;
    until_closed(&mut silent).await;
    TcpStream::connect(server.address)
        .await
        .expect_err("the listener is closed");
    drop((busy, idle, fresh));
    assert_eq!(
        timeout(PATIENCE, server.ended).await.unwrap().unwrap(),
        Drained { cut: 0 }
    );
    assert!(start.elapsed() < Duration::from_secs(4), "waited for a timeout");
    assert_eq!(server.stats.open.load(Relaxed), 0);
}

#[tokio::test]
async fn draining_cuts_what_does_not_finish_by_the_deadline() {
    let server = start(ServerOptions {
        drain_deadline: Duration::from_millis(300),
        ..options()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.trigger.trigger();
    assert_eq!(
        timeout(PATIENCE, server.ended).await.unwrap().unwrap(),
        Drained { cut: 1 }
    );
    assert_eq!(server.stats.open.load(Relaxed), 0);
}

#[tokio::test]
async fn a_reloaded_certificate_is_what_new_connections_see() {
    let dir = tempfile::tempdir().unwrap();
    let other = ensure(dir.path(), &names(Ipv4Addr::LOCALHOST.into(), &[]), now()).unwrap();
    let tls = Tls::load(
        &certificate().files,
        TlsOptions {
            min_version: TlsVersion::V1_2,
            http2: false,
        },
        now(),
    )
    .unwrap();
    let before = tls.server_config();
    tls.reload(&other.files, now()).unwrap();
    assert!(!Arc::ptr_eq(&before, &tls.server_config()));
    let mut broken = other.files.clone();
    broken.key = dir.path().join("nothing.pem");
    let after = tls.server_config();
    tls.reload(&broken, now()).unwrap_err();
    assert!(
        Arc::ptr_eq(&after, &tls.server_config()),
        "a bad one leaves the old one in force"
    );
}

#[test]
fn certificates_that_cannot_be_served_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let own = certificate();
    let options = TlsOptions {
        min_version: TlsVersion::V1_2,
        http2: false,
    };
    let load = |files: &crate::config::CertificateFiles, days: i64| {
        let at = Timestamp::from_unix(now().unix_seconds() + days * 86_400, 0);
        Tls::load(files, options, at).expect_err("refused").to_string()
    };
    assert!(load(&own.files, 400).contains("expired at"));
    assert!(load(&own.files, -3).contains("is not valid before"));
    let other = ensure(dir.path(), &names(Ipv4Addr::LOCALHOST.into(), &[]), now()).unwrap();
    let mut files = own.files.clone();
    files.key = other.files.key.clone();
    assert!(load(&files, 0).contains("do not go together"));
    files.key = dir.path().join("nothing.pem");
    assert!(load(&files, 0).contains("cannot read the private key"));
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    files.certificate = empty;
    assert!(load(&files, 0).contains("holds no certificate") || load(&files, 0).contains("cannot read"));
}

/// HTTP/2, by hyper's own client.
async fn http2(server: &TestServer) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = server.connect_as("localhost", &["h2"]).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn http2_get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn http2_requests_are_answered() {
    let server = start(options()).await;
    let mut sender = http2(&server).await;
    let answer = sender.send_request(http2_get("/")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn over_http2_a_request_that_expects_100_does_not_hang() {
    let server = start(options()).await;
    let mut sender = http2(&server).await;
    let request = Request::put("https://localhost/echo")
        .header("expect", "100-continue")
        .body("x".into())
        .unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x");
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let server = start(ServerOptions {
        keep_alive_timeout: Duration::from_millis(500),
        ..options()
    })
    .await;
    let mut sender = http2(&server).await;
    drop(
        sender
            .send_request(http2_get("/"))
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap(),
    );
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("closed");
}

#[tokio::test]
async fn an_http2_peer_that_opens_no_window_is_cut() {
    let server = start(ServerOptions {
        write_timeout: Duration::from_millis(500),
        ..options()
    })
    .await;
    let mut sender = http2(&server).await;
    let answer = sender.send_request(http2_get("/endless")).await.unwrap();
    // Not read: its window fills up and stays so.
    let cut = async {
        while server.count(|stats| &stats.timeouts) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, cut).await.expect("cut");
    drop(answer);
}

#[tokio::test]
async fn http2_headers_over_the_limit_are_refused() {
    let server = start(options()).await;
    let mut sender = http2(&server).await;
    let mut request = http2_get("/");
    request
        .headers_mut()
        .insert("x-long", "y".repeat(20_000).parse().unwrap());
    match sender.send_request(request).await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
}
