//! Clients that take their time, or take nothing: all are cut, and what they held comes back.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{Connection, KNOWN, PATIENCE, Request, Streamed, TestGateway};

/// As many connections and requests as the tests below take up, and one more.
const LIMITS: &str = r#"
[limits]
connections = 9
concurrent_requests = 4
handshake_timeout = "600ms"
header_timeout = "600ms"
idle_body_timeout = "600ms"
keep_alive_timeout = "600ms"
write_timeout = "600ms"
least_throughput = 1000
throughput_grace = "1s"
"#;

const AT_ONCE: usize = 8;

async fn gateway() -> TestGateway {
    TestGateway::configured_with_bucket(LIMITS).await
}

/// Sends these bytes one every now and then, until the gateway has had enough.
async fn trickle(connection: &mut Connection, bytes: &[u8]) {
    for byte in bytes {
        let sent = async {
            connection.stream.write_all(&[*byte]).await?;
            connection.stream.flush().await
        };
        if sent.await.is_err() {
            return;
        }
        if !connection.is_silent(Duration::from_millis(50)).await {
            return;
        }
    }
    panic!("the gateway waited for all of it");
}

/// All of them are over in time, and after that requests are answered as ever.
async fn are_cut(gateway: &TestGateway, mut clients: JoinSet<()>) {
    let start = Instant::now();
    while let Some(ended) = timeout(PATIENCE, clients.join_next()).await.expect("cut in time") {
        ended.unwrap();
    }
    assert!(start.elapsed() < 3 * PATIENCE, "{:?}", start.elapsed());
    // Four at once, as many as there may be.
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(gateway.connect().await);
    }
    for connection in &mut connections {
        let answer = connection.ask(&Request::get("/bkt/known")).await;
        assert_eq!((answer.status, &*answer.body), (200, KNOWN));
    }
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed() {
    let gateway = gateway().await;
    let mut clients = JoinSet::new();
    for client in 0..AT_ONCE {
        let mut stream = gateway.tcp().await;
        clients.spawn(async move {
            // Silent from the start, or in the middle of a handshake.
            if client % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2]).await.unwrap();
            }
            let mut nothing = [0; 100];
            while !matches!(stream.read(&mut nothing).await, Ok(0) | Err(_)) {}
        });
    }
    are_cut(&gateway, clients).await;
    // The first of them is still there when the last has come.
    let patient = LIMITS.replace("header_timeout = \"600ms\"", "header_timeout = \"4s\"");
    assert_ne!(patient, LIMITS);
    let gateway = TestGateway::configured_with_bucket(&patient).await;
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let mut connection = gateway.connect().await;
        clients.spawn(async move { assert!(connection.is_closed().await) });
    }
    // One more than there may be is closed at once.
    let (one, more) = (gateway.tls(&[]).await, gateway.tls(&[]).await);
    assert!(one.is_ok() && more.is_err());
    drop(one);
    are_cut(&gateway, clients).await;
}

#[tokio::test]
async fn headers_have_to_come_to_an_end() {
    let gateway = gateway().await;
    let mut clients = JoinSet::new();
    let head = Request::get("/bkt/known").signed(&gateway.host()).0;
    for client in 0..AT_ONCE {
        let mut connection = gateway.connect().await;
        let head = head.clone();
        clients.spawn(async move {
            if client % 2 == 0 {
                trickle(&mut connection, &head).await;
            } else {
                connection.send(&head[..head.len() - 1]).await;
                assert!(connection.is_closed().await);
            }
        });
    }
    are_cut(&gateway, clients).await;
}

#[tokio::test]
async fn bodies_have_to_come_at_a_pace() {
    let gateway = gateway().await;
    let before = gateway.tree();
    for (at_first, trickles) in [(0, false), (0, true), (200_000, false), (200_000, true)] {
        let mut clients = JoinSet::new();
        let body = vec![7; 300_000];
        for request in [
            Request::put("/bkt/known").body(&body),
            Request::put("/bkt/slow")
                .streamed(&body, Streamed::Unsigned)
                .chunked(10_000),
            Request::put("/bkt/slow").streamed(&body, Streamed::Signed),
            Request::post("/bkt?delete").document(&body),
        ] {
            let (head, body) = request.signed(&gateway.host());
            let mut connection = gateway.connect().await;
            connection.send(&head).await;
            clients.spawn(async move {
                // Nothing, or more than is kept in memory, so that there is a file by now.
                connection.send(&body[..at_first]).await;
                if trickles {
                    trickle(&mut connection, &body[at_first..]).await;
                } else {
                    let answer = connection.answer_to("PUT").await;
                    let got = (answer.status, answer.code());
                    assert_eq!(got, (400, Some("RequestTimeout".to_owned())), "{answer:?}");
                    assert!(connection.is_closed().await);
                }
            });
        }
        are_cut(&gateway, clients).await;
        gateway.settles_to(&before).await;
    }
}

/// The size of a chunk, and what is passed over behind it, are no bytes of a body.
#[tokio::test]
async fn a_chunk_has_to_begin() {
    let gateway = gateway().await;
    let before = gateway.tree();
    let mut clients = JoinSet::new();
    let request = Request::put("/bkt/known")
        .streamed("hello", Streamed::Unsigned)
        .chunked(100);
    for filler in ["0", "5;aaaaaaaa", "5;\"aaaaaaa", "5         "] {
        let mut connection = gateway.connect().await;
        let head = request.signed(&gateway.host()).0;
        clients.spawn(async move {
            connection.send(&head).await;
            let last = &filler[filler.len() - 1..];
            connection.send(filler.as_bytes()).await;
            trickle(&mut connection, last.repeat(1000).as_bytes()).await;
        });
    }
    are_cut(&gateway, clients).await;
    gateway.settles_to(&before).await;
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_not_waited_for() {
    let gateway = gateway().await;
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE / 2 {
        let mut connection = gateway.connect().await;
        let (head, body) = Request::put("/nowhere/k")
            .body(vec![7; 100_000])
            .signed(&gateway.host());
        clients.spawn(async move {
            connection.send(&head).await;
            assert_eq!(connection.answer_to("PUT").await.status, 404);
            // It goes on as if nothing had been said.
            for byte in &body[..100] {
                if connection.stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    are_cut(&gateway, clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_to_be_taken_at_a_pace() {
    let gateway = gateway().await;
    gateway
        .does(
            Request::put("/bkt/large")
                .body(vec![7; 24 << 20])
                .content_sha256("UNSIGNED-PAYLOAD"),
        )
        .await;
    for trickles in [false, true] {
        let mut clients = JoinSet::new();
        let head = Request::get("/bkt/large").bytes(&gateway.host());
        for _ in 0..4 {
            let mut stream = gateway.tls(&[]).await.unwrap();
            socket2::SockRef::from(stream.get_ref().0)
                .set_recv_buffer_size(8 * 1024)
                .unwrap();
            stream.write_all(&head).await.unwrap();
            clients.spawn(async move {
                let start = Instant::now();
                let mut some = [0; 20];
                let mut taken = 0;
                // Cut, it still finds what was on its way; but never all.
                sleep(Duration::from_millis(if trickles { 0 } else { 2500 })).await;
                loop {
                    match timeout(PATIENCE, stream.read(&mut some)).await.expect("data or an end") {
                        Ok(0) | Err(_) => break,
                        Ok(read) => taken += read,
                    }
                    if start.elapsed() < Duration::from_secs(4) {
                        sleep(Duration::from_millis(if trickles { 50 } else { 0 })).await;
                    }
                    assert!(taken < 20 << 20, "it was waited for");
                }
            });
        }
        are_cut(&gateway, clients).await;
    }
}

#[tokio::test]
async fn a_kept_connection_is_not_kept_for_ever() {
    let gateway = gateway().await;
    let mut connection = gateway.connect().await;
    assert_eq!(connection.ask(&Request::get("/bkt/known")).await.status, 200);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(connection.ask(&Request::get("/bkt/known")).await.status, 200);
    assert!(connection.is_closed().await);
}

/// A copy goes on when its client has gone, and counts as a request until it is done: else a few clients that ask and
/// hang up would have the gateway copy without bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_holds_its_place_until_it_is_done() {
    let gateway = TestGateway::configured_with_bucket("[limits]\nconcurrent_requests = 1\n").await;
    let large = Request::put("/bkt/large")
        .body(vec![7; 64 << 20])
        .content_sha256("UNSIGNED-PAYLOAD");
    gateway.does(large).await;
    let mut second = gateway.connect().await;
    let mut first = gateway.connect().await;
    // Another checksum: the bytes have to be read.
    let copy = Request::put("/bkt/copy").header("x-amz-copy-source", "/bkt/large");
    let copy = copy.header("x-amz-checksum-algorithm", "SHA1");
    first.send(&copy.bytes(&gateway.host())).await;
    // It has begun when bytes are being put together.
    let staging = gateway.data().join(".t2/staging");
    let sent = Instant::now();
    while std::fs::read_dir(&staging).unwrap().count() == 0 && !gateway.data().join("bkt/copy").exists() {
        assert!(sent.elapsed() < PATIENCE, "the copy never began");
        sleep(Duration::from_millis(1)).await;
    }
    drop(first);
    loop {
        let answer = second.ask(&Request::get("/bkt/known")).await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(
        gateway.data().join("bkt/copy").exists(),
        "another request was let in while it ran"
    );
}
