//! HTTP/2, where it is switched on: that it works, and what a peer can do to it.

use std::{str::FromStr as _, time::Duration};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::{HeaderName, HeaderValue, Response, Uri, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::client::TlsStream;

use crate::support::{KNOWN, PATIENCE, Request, Streamed, TestGateway};

const ON: &str = r#"
[tls]
http2 = true
[limits]
header_timeout = "1s"
idle_body_timeout = "2s"
keep_alive_timeout = "2s"
write_timeout = "1s"
"#;

async fn gateway() -> TestGateway {
    TestGateway::configured_with_bucket(ON).await
}

async fn client(gateway: &TestGateway) -> SendRequest<Bytes> {
    let stream = gateway.tls(&["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender.ready().await.unwrap()
}

/// The head of the same request as HTTP/2 has it.
fn converted(request: &Request, host: &str) -> http::Request<()> {
    signed(request, host).0
}

/// Head and body, of one signing: the chunks of a body are signed for the second that its head names.
fn signed(request: &Request, host: &str) -> (http::Request<()>, Vec<u8>) {
    let (head, body) = request.signed(host);
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let target = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut converted = http::Request::new(());
    *converted.method_mut() = request.method.parse().unwrap();
    *converted.uri_mut() = Uri::from_str(&format!("https://{host}{target}")).unwrap();
    *converted.version_mut() = Version::HTTP_2;
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        let name = HeaderName::from_str(name).unwrap();
        if name != "host" {
            converted
                .headers_mut()
                .append(name, HeaderValue::from_str(value).unwrap());
        }
    }
    (converted, body)
}

async fn body_of(response: Response<h2::RecvStream>) -> (u16, Vec<u8>) {
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(some) = timeout(PATIENCE, stream.data()).await.unwrap() {
        let Ok(some) = some else { break };
        stream.flow_control().release_capacity(some.len()).unwrap();
        body.extend(some);
    }
    (status, body)
}

/// Sends a request with its body after a while, and gives the answer.
async fn ask_after(
    sender: &mut SendRequest<Bytes>,
    request: http::Request<()>,
    body: Option<Vec<u8>>,
    wait: Duration,
) -> Result<(u16, Vec<u8>), h2::Error> {
    *sender = sender.clone().ready().await?;
    let (response, mut stream) = sender.send_request(request, body.is_none())?;
    if let Some(body) = body {
        sleep(wait).await;
        // The gateway may have said all by now.
        drop(stream.send_data(body.into(), true));
    }
    Ok(body_of(timeout(PATIENCE, response).await.expect("an answer in time")?).await)
}

async fn ask(
    sender: &mut SendRequest<Bytes>,
    gateway: &TestGateway,
    request: &Request,
) -> Result<(u16, Vec<u8>), h2::Error> {
    let (head, body) = signed(request, &gateway.host());
    let body = (!body.is_empty()).then_some(body);
    ask_after(sender, head, body, Duration::ZERO).await
}

fn is(answer: &(u16, Vec<u8>), status: u16, code: &str) -> bool {
    answer.0 == status && String::from_utf8_lossy(&answer.1).contains(&format!("<Code>{code}</Code>"))
}

#[tokio::test]
async fn objects_are_put_and_got() {
    let gateway = gateway().await;
    let mut sender = client(&gateway).await;
    let data = vec![7; 300_000];
    for request in [
        Request::put("/bkt/k").body(&data),
        Request::put("/bkt/k").streamed(&data, Streamed::Unsigned),
        Request::put("/bkt/k").streamed(&data, Streamed::SignedTrailer),
        // Without a Content-Length, as HTTP/2 allows.
        Request::put("/bkt/k")
            .streamed(&data, Streamed::Unsigned)
            .content_length(""),
    ] {
        let answer = ask(&mut sender, &gateway, &request).await.unwrap();
        assert_eq!(answer.0, 200, "{}", String::from_utf8_lossy(&answer.1));
        let got = ask(&mut sender, &gateway, &Request::get("/bkt/k")).await.unwrap();
        assert!(got == (200, data.clone()));
        assert_eq!(
            ask(&mut sender, &gateway, &Request::delete("/bkt/k")).await.unwrap().0,
            204
        );
    }
    let unsized_body = Request::put("/bkt/known").body("hello").content_length("");
    let answer = ask(&mut sender, &gateway, &unsized_body).await.unwrap();
    assert!(is(&answer, 411, "MissingContentLength"), "{answer:?}");
    gateway.still_answers().await;
}

/// hyper sends no 100 over HTTP/2: a client goes on after a while of its own, and a refusal does not wait for the body.
#[tokio::test]
async fn a_request_that_expects_100_does_not_hang() {
    let gateway = gateway().await;
    let mut sender = client(&gateway).await;
    let expecting = |request: &Request| {
        let mut request = converted(request, &gateway.host());
        request
            .headers_mut()
            .insert("expect", HeaderValue::from_static("100-continue"));
        request
    };
    let put = Request::put("/bkt/k").body("hello");
    let answer = ask_after(
        &mut sender,
        expecting(&put),
        Some(b"hello".to_vec()),
        Duration::from_millis(300),
    )
    .await;
    assert_eq!(answer.unwrap().0, 200);
    // Refused: at once.
    let refused = Request::put("/nowhere/k").body("hello");
    let (response, _stream) = sender.send_request(expecting(&refused), false).unwrap();
    let answer = body_of(timeout(PATIENCE, response).await.unwrap().unwrap()).await;
    assert!(is(&answer, 404, "NoSuchBucket"), "{answer:?}");
    // One that waits for ever is told so.
    let before = gateway.tree();
    let (response, _stream) = sender
        .send_request(expecting(&Request::put("/bkt/known").body("hello")), false)
        .unwrap();
    let answer = body_of(timeout(PATIENCE, response).await.unwrap().unwrap()).await;
    assert!(is(&answer, 400, "RequestTimeout"), "{answer:?}");
    gateway.settles_to(&before).await;
    // The connection is as good as ever.
    assert_eq!(
        ask(&mut sender, &gateway, &Request::get("/bkt/known")).await.unwrap(),
        (200, KNOWN.to_vec())
    );
}

#[tokio::test]
async fn bodies_that_are_not_what_was_announced_change_nothing() {
    let gateway = gateway().await;
    let before = gateway.tree();
    let put = Request::put("/bkt/known")
        .body("hello")
        .content_sha256("UNSIGNED-PAYLOAD");
    for body in ["hell", "hello!", ""] {
        let mut sender = client(&gateway).await;
        let request = converted(&put, &gateway.host());
        match ask_after(&mut sender, request, Some(body.into()), Duration::ZERO).await {
            Ok(answer) => assert!(is(&answer, 400, "IncompleteBody"), "{body:?} {answer:?}"),
            Err(error) => assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{body:?} {error:?}"),
        }
        gateway.settles_to(&before).await;
    }
    // Given up in the middle.
    let mut sender = client(&gateway).await;
    let large = Request::put("/bkt/known").body(vec![7; 400_000]);
    let (_, mut stream) = sender.send_request(converted(&large, &gateway.host()), false).unwrap();
    stream.send_data(vec![7; 200_000].into(), false).unwrap();
    sleep(Duration::from_millis(100)).await;
    stream.send_reset(Reason::CANCEL);
    gateway.settles_to(&before).await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn there_is_one_authority_here_too() {
    let gateway = gateway().await;
    let mut sender = client(&gateway).await;
    let get = Request::get("/bkt/known");
    let with_host = |host: &str| {
        let mut request = converted(&get, &gateway.host());
        request.headers_mut().insert("host", host.parse().unwrap());
        request
    };
    let answer = ask_after(&mut sender, with_host(&gateway.host()), None, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(answer, (200, KNOWN.to_vec()));
    let answer = ask_after(&mut sender, with_host("bkt.s3.localhost"), None, Duration::ZERO).await;
    assert!(
        answer.as_ref().map_or(true, |answer| is(answer, 400, "InvalidRequest")),
        "{answer:?}"
    );
    let mut sender = client(&gateway).await;
    let mut twice = with_host(&gateway.host());
    twice.headers_mut().append("host", "bkt.s3.localhost".parse().unwrap());
    let answer = ask_after(&mut sender, twice, None, Duration::ZERO).await;
    assert!(
        answer.as_ref().map_or(true, |answer| is(answer, 400, "InvalidRequest")),
        "{answer:?}"
    );
    gateway.still_answers().await;
}

/// Frames written by hand.
struct Raw {
    stream: TlsStream<TcpStream>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Raw {
    async fn connect(gateway: &TestGateway) -> Self {
        let mut stream = gateway.tls(&["h2"]).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut raw = Self { stream };
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// False when the gateway takes no more.
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let sent = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.expect("taken or refused in time").is_ok()
    }

    /// The kinds of all frames that come until the connection is closed, with the error of a GOAWAY.
    async fn until_closed(&mut self) -> (Vec<u8>, Option<u32>) {
        let mut bytes = Vec::new();
        // Reset or closed, it is over.
        let read = async { while !matches!(self.stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {} };
        timeout(PATIENCE, read).await.expect("the gateway closes");
        let (mut kinds, mut error, mut rest) = (Vec::new(), None, &bytes[..]);
        while rest.len() >= 9 {
            let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
            kinds.push(rest[3]);
            if rest[3] == GOAWAY && rest.len() >= 17 {
                error = Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
            }
            rest = rest.get(9 + length..).unwrap_or_default();
        }
        (kinds, error)
    }
}

/// Header fields as literals, which need no table.
fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(length @ ..127) => block.push(length),
                _ => {
                    block.push(127);
                    let mut left = text.len() - 127;
                    while left >= 128 {
                        block.push(128 | u8::try_from(left % 128).unwrap());
                        left /= 128;
                    }
                    block.push(u8::try_from(left).unwrap());
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

fn get(host: &str) -> Vec<u8> {
    fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", host),
        (":path", "/bkt/known"),
    ])
}

#[tokio::test]
async fn resetting_what_was_just_opened_ends_the_connection() {
    let gateway = gateway().await;
    let mut raw = Raw::connect(&gateway).await;
    let block = get(&gateway.host());
    // All in one piece, so that none is looked at before it is reset.
    let mut burst = Vec::new();
    for i in 0..20_000_u32 {
        let stream = 2 * i + 1;
        for (kind, flags, payload) in [
            (HEADERS, END_STREAM | END_HEADERS, &block[..]),
            (RST_STREAM, 0, &8_u32.to_be_bytes()),
        ] {
            burst.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
            burst.extend([kind, flags]);
            burst.extend(stream.to_be_bytes());
            burst.extend(payload);
        }
    }
    for piece in burst.chunks(16 * 1024) {
        if raw.stream.write_all(piece).await.is_err() {
            break;
        }
    }
    // ENHANCE_YOUR_CALM, unless the reset of the connection overtakes it.
    let (kinds, error) = raw.until_closed().await;
    assert!(matches!(error, None | Some(11)), "{error:?}");
    assert!(kinds.len() < 10_000, "{} frames in answer", kinds.len());
    gateway.still_answers().await;
}

#[tokio::test]
async fn streams_at_a_time_are_bounded() {
    let gateway = gateway().await;
    let mut raw = Raw::connect(&gateway).await;
    let put = fields(&[
        (":method", "PUT"),
        (":scheme", "https"),
        (":authority", &gateway.host()),
        (":path", "/bkt/known"),
    ]);
    // Never ended: those over the limit are refused one by one.
    for i in 0..200 {
        if !raw.send(HEADERS, END_HEADERS, 2 * i + 1, &put).await {
            break;
        }
    }
    let (kinds, _) = raw.until_closed().await;
    let refused = kinds.iter().filter(|kind| **kind == RST_STREAM).count();
    assert!(refused >= 100 || kinds.contains(&GOAWAY), "{kinds:?}");
    gateway.still_answers().await;
}

#[tokio::test]
async fn header_lists_are_bounded_in_one_frame_and_in_many() {
    let gateway = gateway().await;
    let large = "a".repeat(15_000);
    // Many frames for one list, that never ends.
    let mut raw = Raw::connect(&gateway).await;
    raw.send(HEADERS, END_STREAM, 1, &get(&gateway.host())).await;
    let piece = fields(&[("x-a", &large)]);
    let mut taken = 0;
    while taken < 2_000 && raw.send(CONTINUATION, 0, 1, &piece).await {
        taken += 1;
    }
    assert!(taken < 2_000, "30 MB of headers were taken");
    raw.until_closed().await;
    // Empty ones, which add nothing to any list.
    let mut raw = Raw::connect(&gateway).await;
    raw.send(HEADERS, END_STREAM, 1, &get(&gateway.host())).await;
    let mut taken = 0;
    while taken < 100_000 && raw.send(CONTINUATION, 0, 1, &[]).await {
        taken += 1;
    }
    assert!(taken < 100_000, "100,000 frames were taken");
    raw.until_closed().await;
    // One that does not go on.
    let mut raw = Raw::connect(&gateway).await;
    raw.send(HEADERS, END_STREAM, 1, &get(&gateway.host())).await;
    let start = Instant::now();
    raw.until_closed().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    gateway.still_answers().await;
}

#[tokio::test]
async fn frames_that_say_nothing_do_not_keep_anything() {
    let gateway = gateway().await;
    // A body of nothing, that never ends: signed, or it would be refused before.
    let mut raw = Raw::connect(&gateway).await;
    let request = Request::put("/bkt/known").body("hello");
    let converted = converted(&request, &gateway.host());
    let host = gateway.host();
    let mut pairs = vec![
        (":method", "PUT"),
        (":scheme", "https"),
        (":authority", &*host),
        (":path", "/bkt/known"),
    ];
    pairs.extend(
        converted
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap())),
    );
    raw.send(HEADERS, END_HEADERS, 1, &fields(&pairs)).await;
    let before = gateway.tree();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) && raw.send(DATA, 0, 1, &[]).await {
        sleep(Duration::from_millis(50)).await;
    }
    let (kinds, error) = raw.until_closed().await;
    // Refused as a body that does not come, or as a nuisance.
    assert!(kinds.contains(&HEADERS) || error == Some(11), "{kinds:?} {error:?}");
    gateway.settles_to(&before).await;
    // Pings without a request.
    let mut raw = Raw::connect(&gateway).await;
    let start = Instant::now();
    while raw.send(PING, 0, 0, &[0; 8]).await {
        assert!(start.elapsed() < Duration::from_secs(10), "pings keep a connection");
        sleep(Duration::from_millis(20)).await;
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn headers_of_http_1_have_no_place_here() {
    let gateway = gateway().await;
    let before = gateway.tree();
    let host = gateway.host();
    let request = Request::put("/bkt/known")
        .body("hello")
        .content_sha256("UNSIGNED-PAYLOAD");
    let good = converted(&request, &host);
    let with = |extra: &[(&str, &str)]| {
        let mut pairs = vec![
            (":method", "PUT"),
            (":scheme", "https"),
            (":authority", &*host),
            (":path", "/bkt/known"),
        ];
        pairs.extend(
            good.headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap())),
        );
        pairs.extend(extra);
        fields(&pairs)
    };
    for extra in [
        [("transfer-encoding", "chunked")],
        [("connection", "close")],
        [("content-length", "0")],
        [(":path", "/bkt/other")],
        [(":authority", "localhost")],
        [("Content-Type", "text/plain")],
        [("x-a", "b\r\nx-c: d")],
        [("x-a\r\n", "b")],
        [(":status", "200")],
    ] {
        let mut raw = Raw::connect(&gateway).await;
        raw.send(HEADERS, END_HEADERS, 1, &with(&extra)).await;
        raw.send(DATA, END_STREAM, 1, b"hello").await;
        raw.until_closed().await;
        gateway.settles_to(&before).await;
    }
    gateway.still_answers().await;
}
