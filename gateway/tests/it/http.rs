//! HTTP itself: requests that two parsers could read in two ways, and 100-continue.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::support::{APP, CREATOR, Connection, KNOWN, PATIENCE, Request, Streamed, TestGateway, TestKey, head_of};

/// A gateway whose writes do not wait for a disk: what the clients here take for silence is none.
async fn quick() -> TestGateway {
    let backend = "[backend]\nroot = \"ROOT/data\"\ndurability = \"process-safe\"\n";
    let gateway = TestGateway::with_backends("", backend, "").await;
    gateway.make_bucket().await;
    gateway
}

/// All that comes on one connection after these bytes, as (status, body) of each answer, until it is closed. When
/// nothing more comes, the client says that it has nothing more to say either.
async fn answers(gateway: &TestGateway, bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut connection = gateway.connect().await;
    connection.send(bytes).await;
    let mut answers = Vec::new();
    let mut closing = false;
    loop {
        let wait = if closing { PATIENCE / 2 } else { Duration::from_secs(1) };
        match timeout(wait, connection.try_answer("GET")).await {
            Ok(None) => return answers,
            Ok(Some(answer)) => {
                let last = answer.closes();
                answers.push((answer.status, answer.body));
                if last {
                    assert!(connection.is_closed().await, "more than was announced");
                    return answers;
                }
            }
            Err(_) => {
                assert!(!closing, "the gateway neither answers nor closes");
                closing = true;
                drop(connection.stream.shutdown().await);
            }
        }
    }
}

/// With the head of a good request changed before its end, where nothing is signed.
fn with_line(request: &Request, gateway: &TestGateway, line: &str) -> Vec<u8> {
    let (head, body) = request.signed(&gateway.host());
    let head = String::from_utf8(head).unwrap();
    let head = format!("{}{line}\r\n\r\n", head.strip_suffix("\r\n").unwrap());
    [head.into_bytes(), body].concat()
}

/// A request with a second one behind it in the bytes that only one of two readings takes for a body. All are signed as
/// they should be. Whatever the gateway makes of the first, the second is never carried out.
#[tokio::test]
async fn two_readings_of_a_length_end_the_connection() {
    let gateway = quick().await;
    let hidden = Request::delete("/bkt/known").bytes(&gateway.host());
    let put = Request::put("/bkt/smuggled").content_sha256("UNSIGNED-PAYLOAD");
    let in_chunks = [b"0\r\n\r\n".to_vec(), hidden.clone()].concat();
    let length = in_chunks.len().to_string();
    let sized = put.clone().content_length(&length);
    let decoded = put
        .clone()
        .content_length("")
        .header("x-amz-decoded-content-length", "0");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "length and chunked",
            [
                with_line(&sized, &gateway, "Transfer-Encoding: chunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "chunked and a length that is not signed",
            [
                with_line(
                    &decoded,
                    &gateway,
                    &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
                ),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a length that is not signed and chunked",
            [
                with_line(
                    &decoded,
                    &gateway,
                    &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
                ),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "two lengths",
            [with_line(&sized, &gateway, "Content-Length: 0"), in_chunks.clone()].concat(),
        ),
        (
            "two lengths in one",
            with_bad_length(&gateway, &put, &format!("{length}, 0"), &in_chunks),
        ),
        (
            "a length with a sign",
            with_bad_length(&gateway, &put, &format!("+{length}"), &in_chunks),
        ),
        ("a negative length", with_bad_length(&gateway, &put, "-1", &in_chunks)),
        (
            "a length in hexadecimal",
            with_bad_length(&gateway, &put, "0x10", &in_chunks),
        ),
        (
            "a length beyond 64 bits",
            with_bad_length(&gateway, &put, "18446744073709551616", &in_chunks),
        ),
        ("an empty length", with_bad_length(&gateway, &put, "", &in_chunks)),
        (
            "a length with a space",
            with_bad_length(&gateway, &put, "1 0", &in_chunks),
        ),
        (
            "chunked is not last",
            [
                with_line(&decoded, &gateway, "Transfer-Encoding: chunked, identity"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "not chunked",
            [
                with_line(&decoded, &gateway, "Transfer-Encoding: identity"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a coding nobody knows",
            [
                with_line(&decoded, &gateway, "Transfer-Encoding: xchunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a coding in quotes",
            [
                with_line(&decoded, &gateway, "Transfer-Encoding: \"chunked\""),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "no coding",
            [with_line(&decoded, &gateway, "Transfer-Encoding:"), in_chunks.clone()].concat(),
        ),
        (
            "chunked twice over",
            [
                with_line(
                    &decoded,
                    &gateway,
                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                ),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a tab before the colon",
            [
                with_line(&sized, &gateway, "Transfer-Encoding\t: chunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a space before the colon",
            [
                with_line(&sized, &gateway, "Transfer-Encoding : chunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a folded line",
            [
                with_line(&sized, &gateway, "X-A: b\r\n Transfer-Encoding: chunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a folded value",
            [
                with_line(&sized, &gateway, "Transfer-Encoding:\r\n chunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "a NUL in a value",
            [with_line(&sized, &gateway, "X-A: b\0"), in_chunks.clone()].concat(),
        ),
        (
            "a CR in a value",
            [
                with_line(&sized, &gateway, "X-A: b\rTransfer-Encoding: chunked"),
                in_chunks.clone(),
            ]
            .concat(),
        ),
        (
            "an empty name",
            [with_line(&sized, &gateway, ": b"), in_chunks.clone()].concat(),
        ),
        (
            "no colon",
            [with_line(&sized, &gateway, "nonsense"), in_chunks.clone()].concat(),
        ),
    ];
    for (what, bytes) in cases {
        let before = gateway.tree();
        let got = answers(&gateway, &bytes).await;
        let statuses: Vec<_> = got.iter().map(|(status, _)| *status).collect();
        assert!(
            !statuses.contains(&204),
            "{what}: the hidden request was carried out: {statuses:?}"
        );
        assert!(
            gateway.data().join("bkt/known").exists(),
            "{what}: the hidden request was carried out"
        );
        // One answer, and it is a refusal; or the body was what its length said, to the last byte.
        match statuses.as_slice() {
            [400..=501] => gateway.settles_to(&before).await,
            [200] => {
                gateway.does(Request::delete("/bkt/smuggled")).await;
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    gateway.still_answers().await;
}

fn with_bad_length(gateway: &TestGateway, request: &Request, length: &str, body: &[u8]) -> Vec<u8> {
    let request = request
        .clone()
        .content_length("")
        .line(format!("Content-Length: {length}"));
    [request.bytes(&gateway.host()), body.to_vec()].concat()
}

#[tokio::test]
async fn chunk_sizes_have_one_reading() {
    let gateway = quick().await;
    let hidden = Request::delete("/bkt/known").bytes(&gateway.host());
    let request = || {
        Request::put("/bkt/chunks")
            .header("x-amz-decoded-content-length", "5")
            .content_sha256("UNSIGNED-PAYLOAD")
    };
    let head = request().chunked(1).signed(&gateway.host()).0;
    // An extension is passed over by everybody.
    for body in [
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "05\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    ] {
        let got = answers(&gateway, &[&head, body.as_bytes()].concat()).await;
        assert_eq!(got.len(), 1, "{body:?}");
        assert!(matches!(got[0].0, 200 | 400), "{body:?} {got:?}");
        if got[0].0 == 200 {
            assert_eq!(gateway.does(Request::delete("/bkt/chunks")).await.status, 204);
        }
    }
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n: \r\n\r\n",
    ] {
        let before = gateway.tree();
        let got = answers(&gateway, &[&head, body.as_bytes(), &hidden].concat()).await;
        assert!(
            got.iter().all(|(status, _)| *status == 400) && got.len() <= 1,
            "{body:?}: {got:?}"
        );
        gateway.settles_to(&before).await;
    }
    // A size line, or an extension, without an end.
    for line in [format!("5;{}", "a".repeat(200_000)), "0".repeat(200_000)] {
        let before = gateway.tree();
        let got = answers(&gateway, &[&head, line.as_bytes()].concat()).await;
        assert!(
            got.len() <= 1 && got.iter().all(|(status, _)| *status == 400),
            "{got:?}"
        );
        gateway.settles_to(&before).await;
    }
    gateway.still_answers().await;
}

/// Request lines and hosts. Each is refused, or is what it says and nothing else.
#[tokio::test]
async fn a_target_has_one_reading() {
    let gateway = quick().await;
    let host = gateway.host();
    let good = head_of(&Request::get("/bkt/known"), &host);
    let line = |line: &str| good.replacen("GET /bkt/known HTTP/1.1", line, 1);
    for (what, head) in [
        ("lower case method", line("get /bkt/known HTTP/1.1")),
        ("a method nobody knows", line("BREW /bkt/known HTTP/1.1")),
        ("asterisk", line("GET * HTTP/1.1")),
        ("authority form", line(&format!("GET {host} HTTP/1.1"))),
        ("no slash", line("GET bkt/known HTTP/1.1")),
        ("two spaces", line("GET  /bkt/known HTTP/1.1")),
        ("a space in the target", line("GET /bkt/kno wn HTTP/1.1")),
        ("a tab", line("GET\t/bkt/known\tHTTP/1.1")),
        ("no version", line("GET /bkt/known")),
        ("HTTP/0.9", "GET /bkt/known\r\n".to_owned()),
        ("HTTP/2 by name", line("GET /bkt/known HTTP/2.0")),
        ("HTTP/1.2", line("GET /bkt/known HTTP/1.2")),
        (
            "bare LF",
            good.replace("\r\n", "\n").replace("/bkt/known", "/bkt/other"),
        ),
        (
            "another host in the target",
            line("GET https://example.com/bkt/known HTTP/1.1"),
        ),
        (
            "another scheme and host",
            line("GET ftp://example.com/bkt/known HTTP/1.1"),
        ),
        (
            "user in the target",
            line(&format!("GET https://user@{host}/bkt/known HTTP/1.1")),
        ),
        ("no host", good.replace(&format!("Host: {host}\r\n"), "")),
        ("an empty host", good.replace(&format!("Host: {host}"), "Host:")),
        (
            "two hosts",
            good.replace(&format!("Host: {host}"), &format!("Host: {host}\r\nHost: {host}")),
        ),
        (
            "two other hosts",
            good.replace(
                &format!("Host: {host}"),
                &format!("Host: {host}\r\nHost: bkt.s3.localhost"),
            ),
        ),
        (
            "a list of hosts",
            good.replace(&format!("Host: {host}"), &format!("Host: {host}, {host}")),
        ),
        (
            "a host with a path",
            good.replace(&format!("Host: {host}"), &format!("Host: {host}/bkt")),
        ),
        ("CONNECT", line(&format!("CONNECT {host} HTTP/1.1"))),
        ("TRACE", line("TRACE /bkt/known HTTP/1.1")),
        ("PATCH", line("PATCH /bkt/known HTTP/1.1")),
        ("OPTIONS *", line("OPTIONS * HTTP/1.1")),
    ] {
        let before = gateway.tree();
        let got = answers(&gateway, head.as_bytes()).await;
        let [(status, body)] = got.as_slice() else {
            panic!("{what}: {got:?}");
        };
        assert!((400..=501).contains(status), "{what}: {status}");
        assert_ne!(body, KNOWN, "{what}");
        gateway.settles_to(&before).await;
    }
    // `#`: hyper drops a fragment, so the signature of the whole does not hold, and that of what is left does.
    gateway.does(Request::put("/bkt/a%23b").body("with a hash")).await;
    let head = head_of(&Request::get("/bkt/a%23b"), &host).replace("a%23b", "a#b");
    let answer = gateway
        .refuses_bytes("GET", head.into_bytes(), 401, "SignatureDoesNotMatch")
        .await;
    assert_eq!(answer.element("Resource").as_deref(), Some("bkt/a"));
    let head = head_of(&Request::get("/bkt/known"), &host).replace("/bkt/known ", "/bkt/known#?acl ");
    let mut connection = gateway.connect().await;
    connection.send(head.as_bytes()).await;
    assert_eq!(connection.answer_to("GET").await.body, KNOWN);

    // An absolute target is its path, when the host is the same.
    let head = line(&format!("GET https://{host}/bkt/known HTTP/1.1"));
    let mut connection = gateway.connect().await;
    connection.send(head.as_bytes()).await;
    assert_eq!(connection.answer_to("GET").await.body, KNOWN);

    // `//host/path` is a path: an empty bucket's name, and no other host.
    gateway
        .refuses(Request::get("//example.com/known"), 400, "InvalidBucketName")
        .await;
    gateway
        .refuses(Request::put("//bkt/known").body("x"), 400, "InvalidBucketName")
        .await;
    gateway
        .refuses(Request::new("PATCH", "/bkt/known"), 405, "MethodNotAllowed")
        .await;
    gateway
        .refuses(Request::new("TRACE", "/bkt/known"), 405, "MethodNotAllowed")
        .await;
    gateway
        .refuses(Request::new("get", "/bkt/known"), 405, "MethodNotAllowed")
        .await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let gateway = quick().await;
    let head = head_of(&Request::get("/bkt/known"), &gateway.host()).replace("HTTP/1.1", "HTTP/1.0");
    let mut connection = gateway.connect().await;
    connection.send(head.as_bytes()).await;
    let answer = connection.answer_to("GET").await;
    assert_eq!((answer.status, &*answer.body), (200, KNOWN));
    assert!(connection.is_closed().await);
    // Without a length a body of HTTP/1.0 would end with the connection: it is an empty one.
    let put = Request::put("/bkt/old")
        .content_length("")
        .content_sha256("UNSIGNED-PAYLOAD");
    let head = head_of(&put, &gateway.host()).replace("HTTP/1.1", "HTTP/1.0");
    let mut connection = gateway.connect().await;
    connection
        .send(format!("{head}{}", "GET / HTTP/1.0\r\n\r\n").as_bytes())
        .await;
    let answer = connection.answer_to("PUT").await;
    assert!(matches!(answer.status, 200 | 400 | 411), "{answer:?}");
    if answer.status == 200 {
        assert_eq!(gateway.does(Request::get("/bkt/old")).await.body, b"");
    }
    // Chunks are not of HTTP/1.0.
    let put = Request::put("/bkt/old")
        .streamed("hello", Streamed::Unsigned)
        .chunked(100);
    let bytes = String::from_utf8(put.bytes(&gateway.host()))
        .unwrap()
        .replace("HTTP/1.1", "HTTP/1.0");
    let got = answers(&gateway, bytes.as_bytes()).await;
    assert!(
        got.len() <= 1 && got.iter().all(|(status, _)| *status >= 400),
        "{got:?}"
    );
    gateway.still_answers().await;
}

#[tokio::test]
async fn forwarded_hosts_count_from_nobody_unless_trusted() {
    let gateway = TestGateway::with_bucket().await;
    let request = Request::get("/bkt/known")
        .line("X-Forwarded-Host: evil.example")
        .line("Forwarded: host=evil.example");
    assert_eq!(gateway.does(request.clone()).await.body, KNOWN);
    let trusting = TestGateway::configured_with_bucket("[s3]\ntrusted_proxies = [\"127.0.0.0/8\"]\n").await;
    trusting.refuses(request, 401, "SignatureDoesNotMatch").await;
    // The proxy says what the client was told: that was signed, and that names the bucket.
    let outside = Request::get("/known").at_host("bkt.s3.localhost");
    let head = head_of(&outside, "").replace("Host: bkt.s3.localhost", &format!("Host: {}", trusting.host()));
    let head = format!(
        "{}X-Forwarded-Host: bkt.s3.localhost\r\n\r\n",
        head.strip_suffix("\r\n").unwrap()
    );
    let mut connection = trusting.connect().await;
    connection.send(head.as_bytes()).await;
    assert_eq!(connection.answer_to("GET").await.body, KNOWN);
}

#[tokio::test]
async fn hosts_are_signed_as_they_are_sent() {
    let gateway = TestGateway::with_bucket().await;
    // Ports are neither added nor taken away.
    for host in [
        "s3.localhost",
        "s3.localhost:443",
        "s3.localhost:8443",
        "S3.LocalHost",
        "any.name.at.all",
        "[::1]:8443",
    ] {
        gateway.does(Request::get("/bkt/known").at_host(host)).await;
    }
    for host in ["bkt.s3.localhost", "bkt.s3.localhost:443", "BKT.S3.localhost"] {
        let answer = gateway.answer(Request::get("/known").at_host(host)).await;
        if host.starts_with("bkt") {
            assert_eq!((answer.status, &*answer.body), (200, KNOWN), "{host}");
        } else {
            assert!(matches!(answer.status, 200 | 400 | 404), "{host}: {answer:?}");
        }
    }
    // `a` is an account's bucket named in two places: the host's counts, and the path is the key.
    gateway
        .refuses(Request::get("/bkt/known").at_host("bkt.s3.localhost"), 404, "NoSuchKey")
        .await;
    let signed = head_of(&Request::get("/bkt/known").at_host("s3.localhost:443"), "");
    let without = signed.replace("s3.localhost:443", "s3.localhost");
    gateway
        .refuses_bytes("GET", without.into_bytes(), 401, "SignatureDoesNotMatch")
        .await;
}

async fn expecting(gateway: &TestGateway, request: &Request) -> (Connection, Vec<u8>) {
    let (head, body) = request.clone().line("Expect: 100-continue").signed(&gateway.host());
    let mut connection = gateway.connect().await;
    connection.send(&head).await;
    (connection, body)
}

#[tokio::test]
async fn a_good_request_is_told_to_go_on_and_only_then_sends() {
    let gateway = TestGateway::with_bucket().await;
    for request in [
        Request::put("/bkt/k").body("hello"),
        Request::put("/bkt/k").body("hello").presigned(),
        Request::put("/bkt/k")
            .streamed("hello", Streamed::Unsigned)
            .chunked(1_000),
        Request::put("/bkt/k").streamed("hello", Streamed::Signed),
        Request::post("/bkt?delete").document("<Delete><Object><Key>none</Key></Object></Delete>"),
    ] {
        let (mut connection, body) = expecting(&gateway, &request).await;
        assert_eq!(connection.answer_to("PUT").await.status, 100);
        connection.send(&body).await;
        let answer = connection.answer_to("PUT").await;
        assert_eq!((answer.status, answer.closes()), (200, false), "{answer:?}");
        // Once more on the same connection.
        assert_eq!(connection.ask(&Request::get("/bkt/known")).await.body, KNOWN);
    }
    // One that does not wait is not made to.
    let request = Request::put("/bkt/k").body("hello").line("Expect: 100-continue");
    let mut connection = gateway.connect().await;
    connection.send(&request.bytes(&gateway.host())).await;
    let mut answer = connection.answer_to("PUT").await;
    if answer.status == 100 {
        answer = connection.answer_to("PUT").await;
    }
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn what_will_be_refused_is_not_asked_for() {
    let gateway = TestGateway::with_bucket().await;
    let nobody = TestKey { id: "nobody", ..APP };
    let wrong = TestKey {
        secret: "another-secret-of-the-same-length-000000",
        ..APP
    };
    let put = || Request::put("/bkt/known").body("hello");
    let streamed = || {
        Request::put("/bkt/known")
            .streamed("hello", Streamed::Unsigned)
            .chunked(100)
    };
    let large = "5368709121";
    for (request, status, code) in [
        (put().by(nobody), 401, "InvalidAccessKeyId"),
        (put().by(wrong), 401, "SignatureDoesNotMatch"),
        (put().anonymous(), 401, "AccessDenied"),
        (put().by(CREATOR), 403, "AccessDenied"),
        (streamed().by(CREATOR), 403, "AccessDenied"),
        (Request::put("/nowhere/k").body("hello"), 404, "NoSuchBucket"),
        (
            Request::put("/nowhere/k").streamed("hello", Streamed::Signed),
            404,
            "NoSuchBucket",
        ),
        (
            Request::put("/bkt/k?partNumber=1&uploadId=none").body("x"),
            404,
            "NoSuchUpload",
        ),
        (
            Request::put(&format!("/bkt/{}", "k".repeat(1025))).body("x"),
            400,
            "KeyTooLongError",
        ),
        (put().header("if-none-match", "*"), 412, "PreconditionFailed"),
        (put().header("if-match", "\"0\""), 412, "PreconditionFailed"),
        (
            Request::put("/bkt/none").body("x").header("if-match", "*"),
            404,
            "NoSuchKey",
        ),
        (streamed().header("if-none-match", "*"), 412, "PreconditionFailed"),
        (put().content_length(large), 400, "EntityTooLarge"),
        (
            streamed().header("x-amz-decoded-content-length", large),
            400,
            "EntityTooLarge",
        ),
        (put().header("content-md5", "nonsense"), 400, "InvalidDigest"),
        (put().header("x-amz-checksum-crc32", "nonsense"), 400, "InvalidRequest"),
        (
            put().header("x-amz-checksum-xxhash64", "AAAAAAAAAAA="),
            501,
            "NotImplemented",
        ),
        (put().header("x-amz-acl", "public-read"), 403, "AccessDenied"),
        (
            put().header("x-amz-server-side-encryption", "AES256"),
            501,
            "NotImplemented",
        ),
        (put().header("x-amz-meta-a", "b".repeat(3000)), 400, "MetadataTooLarge"),
        (put().header("x-amz-tagging", "a=b"), 501, "NotImplemented"),
        (Request::put("/bkt/known?tagging").body("x"), 501, "NotImplemented"),
        (
            Request::post("/bkt?delete").document("x").content_length("3000000"),
            400,
            "EntityTooLarge",
        ),
    ] {
        let before = gateway.tree();
        let (mut connection, body) = expecting(&gateway, &request).await;
        // The first answer is the last, and not a 100.
        let answer = connection.answer_to("PUT").await;
        let asked = format!("{} {}", request.method, request.path);
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (status, Some(code)),
            "{asked} {answer:?}"
        );
        assert!(
            answer.closes(),
            "{asked}: nobody knows whether the body comes: {answer:?}"
        );
        // A client that sends it nonetheless harms nobody.
        connection.send(&body).await;
        assert!(connection.is_closed().await);
        gateway.settles_to(&before).await;
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn expectations_that_nobody_knows_are_refused_or_passed_over() {
    let gateway = TestGateway::with_bucket().await;
    let request = Request::put("/bkt/k").body("hello").line("Expect: 200-ok");
    let answer = gateway.answer(request).await;
    assert!(matches!(answer.status, 200 | 417), "{answer:?}");
}
