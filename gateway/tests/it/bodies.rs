//! Bodies: every framing, whole and broken.

use std::{fs, time::Duration};

use tokio::io::AsyncWriteExt as _;

use crate::support::{KNOWN, Request, Streamed, TestGateway, http_chunks};

/// Several chunks of every framing, and a last one that is short.
fn data() -> Vec<u8> {
    (0..20_000_u32).map(|i| (i * 7 % 251) as u8).collect()
}

async fn stored(gateway: &TestGateway, target: &str) -> Vec<u8> {
    gateway.does(Request::get(target)).await.body
}

#[tokio::test]
async fn every_payload_mode_arrives_under_a_length_and_in_http_chunks() {
    let gateway = TestGateway::with_bucket().await;
    let data = data();
    let length = data.len().to_string();
    let mut forms = vec![
        ("hash", Request::put("/bkt/k").body(&data)),
        (
            "unsigned",
            Request::put("/bkt/k").body(&data).content_sha256("UNSIGNED-PAYLOAD"),
        ),
        ("presigned", Request::put("/bkt/k").body(&data).presigned()),
    ];
    for streamed in Streamed::ALL {
        forms.push(("streamed", Request::put("/bkt/k").streamed(&data, streamed)));
    }
    for (name, form) in forms {
        for (framing, request) in [("length", form.clone()), ("chunks", form.clone().chunked(3_000))] {
            // Where the length of the object is in no other header, it has to be in this one.
            let request = match (framing, name) {
                ("chunks", "hash" | "unsigned") => request.header("x-amz-decoded-content-length", &length),
                ("chunks", "presigned") => request
                    .header("x-amz-decoded-content-length", &length)
                    .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
                _ => request,
            };
            gateway.does(request).await;
            let answer = gateway.does(Request::get("/bkt/k")).await;
            assert!(answer.body == data, "{name} {framing}");
            // `aws-chunked` is how the body travelled, and no property of the object.
            assert_eq!(answer.header("content-encoding"), None, "{name} {framing}");
            gateway.does(Request::delete("/bkt/k")).await;
        }
    }
}

#[tokio::test]
async fn only_the_aws_chunked_token_is_taken_out_of_the_content_encoding() {
    let gateway = TestGateway::with_bucket().await;
    for (sent, kept) in [
        ("gzip,aws-chunked", Some("gzip")),
        ("aws-chunked, gzip", Some("gzip")),
        ("AWS-Chunked", None),
    ] {
        let request = Request::put("/bkt/k").header("content-encoding", sent);
        gateway.does(request.streamed("x", Streamed::Unsigned)).await;
        let answer = gateway.does(Request::get("/bkt/k")).await;
        assert_eq!(
            (answer.header("content-encoding"), &*answer.body),
            (kept, &b"x"[..]),
            "{sent}"
        );
    }
    // The word in x-amz-content-sha256 decides, not this one.
    let (head, body) = Request::put("/bkt/bare")
        .streamed("hello", Streamed::Unsigned)
        .signed(&gateway.host());
    assert!(String::from_utf8(head).unwrap().contains("aws-chunked"));
    let bare = Request::put("/bkt/bare")
        .header("x-amz-decoded-content-length", "5")
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .body(body);
    gateway.does(bare).await;
    assert_eq!(stored(&gateway, "/bkt/bare").await, b"hello");
    let without = Request::put("/bkt/k")
        .header("content-encoding", "gzip, aws-chunked")
        .body("x");
    gateway.refuses(without, 400, "InvalidArgument").await;
}

#[tokio::test]
async fn a_connection_stays_open_after_streamed_bodies_in_http_chunks() {
    let gateway = TestGateway::with_bucket().await;
    let mut connection = gateway.connect().await;
    for round in 0..3 {
        for streamed in Streamed::ALL {
            let request = Request::put("/bkt/k").streamed(data(), streamed).chunked(8_300);
            let answer = connection.ask(&request).await;
            assert_eq!(
                (answer.status, answer.closes()),
                (200, false),
                "{round} {streamed:?} {answer:?}"
            );
        }
        let answer = connection.ask(&Request::get("/bkt/known")).await;
        assert_eq!((answer.status, &*answer.body), (200, KNOWN));
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_was_promised_changes_nothing() {
    let gateway = TestGateway::with_bucket().await;
    let put = || Request::put("/bkt/known");
    let streamed = |how| put().streamed("hello", how);
    let refused = [
        (
            put().body("hello").content_sha256(&"0".repeat(64)),
            "XAmzContentSHA256Mismatch",
        ),
        (
            put().body("hello").header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            "BadDigest",
        ),
        (put().body("hello").header("content-md5", "x"), "InvalidDigest"),
        (
            put().body("hello").header("content-md5", "1B2M2Y8AsgTpgAmY7Ph="),
            "InvalidDigest",
        ),
        (
            put().body("hello").header("x-amz-checksum-crc32", "AAAAAA=="),
            "BadDigest",
        ),
        (
            put().body("hello").header("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            "BadDigest",
        ),
        (
            put().body("hello").header("x-amz-checksum-sha1", "AAAA"),
            "InvalidRequest",
        ),
        (
            put().body("hello").header("x-amz-sdk-checksum-algorithm", "CRC32"),
            "InvalidRequest",
        ),
        (
            put().body("hello").header("x-amz-checksum-algorithm", "CRC32"),
            "InvalidRequest",
        ),
        (
            put()
                .body("hello")
                .header("x-amz-checksum-crc32", "NhCmhg==")
                .header("x-amz-checksum-algorithm", "SHA1"),
            "InvalidRequest",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-checksum-algorithm", "SHA256"),
            "InvalidRequest",
        ),
        (
            put().body("hello").header("x-amz-checksum-type", "COMPOSITE"),
            "InvalidRequest",
        ),
        (put().body("hello").header("x-amz-checksum-type", "x"), "InvalidRequest"),
        (
            put().body("hello").header("x-amz-mp-object-size", "5"),
            "InvalidArgument",
        ),
        (
            put().body("hello").header("x-amz-metadata-directive", "COPY"),
            "InvalidArgument",
        ),
        (
            put().body("hello").header("x-amz-metadata-directive", "REPLACE"),
            "InvalidArgument",
        ),
        (
            put()
                .body("hello")
                .header("x-amz-checksum-crc32", "NhCmhg==")
                .header("x-amz-checksum-crc32c", "mnG7TA=="),
            "InvalidRequest",
        ),
        (
            put().body("hello").header("x-amz-trailer", "x-amz-checksum-crc32"),
            "InvalidRequest",
        ),
        // The chunks hold one byte more, or one less, than was said.
        (
            streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "4"),
            "IncompleteBody",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "6"),
            "IncompleteBody",
        ),
        (
            streamed(Streamed::Signed).header("x-amz-decoded-content-length", "4"),
            "IncompleteBody",
        ),
        (
            streamed(Streamed::Signed).header("x-amz-decoded-content-length", "6"),
            "IncompleteBody",
        ),
        (
            streamed(Streamed::SignedTrailer).header("x-amz-decoded-content-length", "0"),
            "IncompleteBody",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "-5"),
            "InvalidArgument",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "+5"),
            "InvalidArgument",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "5 5"),
            "InvalidArgument",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "18446744073709551616"),
            "InvalidArgument",
        ),
        // Announced: another trailer, none, two.
        (
            streamed(Streamed::Unsigned).header("x-amz-trailer", "x-amz-checksum-crc32c"),
            "MalformedTrailerError",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-trailer", "x-amz-meta-a"),
            "InvalidRequest",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1"),
            "InvalidRequest",
        ),
        // The value of an announced trailer is taken from the trailer alone.
        (
            streamed(Streamed::Unsigned).header("x-amz-checksum-crc32", "NhCmhg=="),
            "InvalidRequest",
        ),
        (
            streamed(Streamed::Unsigned).header("x-amz-sdk-checksum-algorithm", "SHA256"),
            "InvalidRequest",
        ),
    ];
    for (request, code) in refused {
        gateway.refuses(request.clone(), 400, code).await;
        if request.is_streamed() {
            gateway.refuses(request.chunked(3), 400, code).await;
        }
    }
    let too_long = streamed(Streamed::Unsigned).header("x-amz-decoded-content-length", "5368709121");
    gateway.refuses(too_long, 400, "EntityTooLarge").await;
    gateway
        .refuses(put().body("x").chunked(1), 411, "MissingContentLength")
        .await;
    let plain = |length| {
        put()
            .body("hello")
            .chunked(2)
            .header("x-amz-decoded-content-length", length)
    };
    gateway.refuses(plain("4"), 400, "IncompleteBody").await;
    gateway.refuses(plain("6"), 400, "IncompleteBody").await;
    gateway.still_answers().await;
}

/// A trailer that was announced, in every wrong form.
#[tokio::test]
async fn a_trailer_has_to_be_what_was_announced() {
    let gateway = TestGateway::with_bucket().await;
    let (name, value) = ("x-amz-checksum-crc32", "NhCmhg==");
    for (trailer, code) in [
        (String::new(), "MalformedTrailerError"),
        (format!("{name}:\r\n"), "MalformedTrailerError"),
        (format!("{name}: \r\n"), "MalformedTrailerError"),
        (format!("{name}\r\n"), "MalformedTrailerError"),
        (format!(":{value}\r\n"), "MalformedTrailerError"),
        (format!("x-amz-checksum-crc32c:{value}\r\n"), "MalformedTrailerError"),
        (format!("{name}:{value}\r\n{name}:{value}\r\n"), "MalformedTrailerError"),
        (format!("{name}:{value}\r\nx-amz-meta-a:b\r\n"), "MalformedTrailerError"),
        (
            format!("{name}:{value}\r\n{}", "a".repeat(10_000)),
            "MalformedTrailerError",
        ),
        (format!("{name}:{value}"), "IncompleteBody"),
        (format!("{name}:NhCmhg=\r\n"), "InvalidRequest"),
        (format!("{name}:NhCmhw==\r\n"), "BadDigest"),
        (format!("{name}:{value}\r\n\r\nmore"), "IncompleteBody"),
    ] {
        let end = if trailer.ends_with(value) { "" } else { "\r\n" };
        let body = format!("5\r\nhello\r\n0\r\n{trailer}{end}");
        let request = Request::put("/bkt/known")
            .header("x-amz-decoded-content-length", "5")
            .header("x-amz-trailer", name)
            .content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .body(&body);
        gateway.refuses(request.clone(), 400, code).await;
        gateway.refuses(request.chunked(7), 400, code).await;
    }
    gateway.still_answers().await;
}

/// An error of framing is told as that, and not as one of authorization.
#[tokio::test]
async fn broken_framing_is_an_incomplete_body() {
    let gateway = TestGateway::with_bucket().await;
    for body in [
        "",
        "5",
        "5\r\n",
        "5\r\nhel",
        "5\r\nhello",
        "5\r\nhello\r\n",
        "hello",
        "5\nhello\n0\n\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello!\r\n0\r\n\r\n",
        "4\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n",
    ] {
        let request = Request::put("/bkt/known")
            .header("x-amz-decoded-content-length", "5")
            .content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .body(body);
        gateway.refuses(request.clone(), 400, "IncompleteBody").await;
        if !body.is_empty() {
            gateway.refuses(request.chunked(1), 400, "IncompleteBody").await;
        }
        let signed = Request::put("/bkt/known")
            .header("x-amz-decoded-content-length", "5")
            .content_sha256("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
            .body(body);
        gateway.refuses(signed, 400, "IncompleteBody").await;
    }
    gateway.still_answers().await;
}

/// Whatever one byte does to a framed body: the object is the one that was meant, or the one that was there.
#[tokio::test]
async fn no_broken_byte_of_a_framed_body_gets_wrong_bytes_stored() {
    const MEANT: &[u8] = b"the bytes that were meant";
    let gateway = TestGateway::with_bucket().await;
    let object = gateway.data().join("bkt/known");
    for streamed in Streamed::ALL {
        let mut connection = gateway.connect().await;
        let whole = Request::put("/bkt/known").streamed(MEANT, streamed);
        let length = whole.signed(&gateway.host()).1.len();
        let mut accepted = 0;
        for at in 0..length {
            for change in 0..4 {
                let (head, mut body) = whole.clone().chunked(1_000).signed(&gateway.host());
                body = unframed(body);
                match change {
                    0 => body[at] ^= 1,
                    1 => body[at] ^= 0x20,
                    2 => drop(body.remove(at)),
                    _ => body.insert(at, b'0'),
                }
                connection.send(&[head, http_chunks(&body, 1_000)].concat()).await;
                let answer = connection.answer_to("PUT").await;
                let is = fs::read(&object).unwrap();
                match answer.status {
                    // A size with a zero before it, a name in capitals: it is still the same.
                    200 => {
                        assert_eq!(is, MEANT, "{streamed:?} {change} {at}");
                        accepted += 1;
                        let back = connection.ask(&Request::put("/bkt/known").body(KNOWN)).await;
                        assert_eq!(back.status, 200);
                    }
                    400 | 401 => assert_eq!(is, KNOWN, "{streamed:?} {change} {at}"),
                    other => panic!("{streamed:?} {change} {at}: {other} {answer:?}"),
                }
                if answer.closes() {
                    connection = gateway.connect().await;
                }
            }
        }
        assert!(accepted < length, "{streamed:?}: most changes are accepted");
    }
    assert_eq!(fs::read_dir(gateway.data().join(".t2/staging")).unwrap().count(), 0);
    gateway.still_answers().await;
}

/// Takes one HTTP chunk out of its frame.
fn unframed(body: Vec<u8>) -> Vec<u8> {
    let start = body.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    body[start..body.len() - 7].to_vec()
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let gateway = TestGateway::with_bucket().await;
    // More than is held in memory, so that there is a file in staging.
    let big: Vec<u8> = (0..400_000_u32).map(|i| (i % 253) as u8).collect();
    let before = gateway.tree();
    for request in [
        Request::put("/bkt/known").body(&big),
        Request::put("/bkt/new").body(&big).content_sha256("UNSIGNED-PAYLOAD"),
        Request::put("/bkt/known")
            .streamed(&big, Streamed::Unsigned)
            .chunked(9_000),
        Request::put("/bkt/new").streamed(&big, Streamed::Signed),
    ] {
        let bytes = request.bytes(&gateway.host());
        for part in [1, 2, 3] {
            let mut connection = gateway.connect().await;
            connection.send(&bytes[..bytes.len() * part / 4]).await;
            match part {
                // The end of the stream, properly said; then a look at what comes.
                1 => {
                    connection.stream.shutdown().await.unwrap();
                    if let Some(answer) = connection.try_answer("PUT").await {
                        assert_eq!(answer.status, 400, "{answer:?}");
                    }
                }
                // The TCP connection ends without TLS's good-bye.
                2 => connection.stream.get_mut().0.shutdown().await.unwrap(),
                _ => {}
            }
            drop(connection);
            gateway.settles_to(&before).await;
        }
    }
    gateway.still_answers().await;
}

/// Two hundred clients that go away before, at and after the last byte: the object is the old one or a new one, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_around_the_last_byte_leave_the_old_object_or_a_whole_new_one() {
    let gateway = std::sync::Arc::new(TestGateway::with_bucket().await);
    let body = |round: usize| vec![b'a' + (round % 26) as u8; 150_000];
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let gateway = gateway.clone();
        tasks.spawn(async move {
            for round in 0..25 {
                let round = worker * 25 + round;
                let request = match round % 3 {
                    0 => Request::put("/bkt/raced").body(body(round)),
                    1 => Request::put("/bkt/raced")
                        .streamed(body(round), Streamed::Unsigned)
                        .chunked(60_000),
                    _ => Request::put("/bkt/raced").streamed(body(round), Streamed::Signed),
                };
                let bytes = request.bytes(&gateway.host());
                let short = [0, 0, 1, 2, 5, 40][round % 6];
                let mut connection = gateway.connect().await;
                connection.send(&bytes[..bytes.len() - short]).await;
                if round % 2 == 0 {
                    tokio::time::sleep(Duration::from_micros(100 * (round as u64 % 40))).await;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let start = tokio::time::Instant::now();
    while fs::read_dir(gateway.data().join(".t2/staging")).unwrap().count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "litter in staging");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let is = gateway.does(Request::get("/bkt/raced")).await;
    let whole = is.body.len() == 150_000 && is.body.iter().all(|byte| *byte == is.body[0]);
    assert!(whole, "{} bytes", is.body.len());
    let expected = Request::put("/bkt/same").body(&is.body);
    let same = gateway.does(expected).await;
    assert_eq!(same.header("etag"), is.header("etag"));
    gateway.still_answers().await;
}

#[tokio::test]
async fn what_follows_a_body_is_the_next_request_and_no_part_of_it() {
    let gateway = TestGateway::with_bucket().await;
    // One byte too many: the object is what was announced, the rest is no request.
    let mut connection = gateway.connect().await;
    let mut bytes = Request::put("/bkt/k").body("hello").bytes(&gateway.host());
    bytes.extend(b"!\r\n\r\n");
    connection.send(&bytes).await;
    assert_eq!(connection.answer_to("PUT").await.status, 200);
    let next = connection.try_answer("GET").await;
    assert!(next.as_ref().is_none_or(|answer| answer.status == 400), "{next:?}");
    assert!(connection.is_closed().await);
    assert_eq!(stored(&gateway, "/bkt/k").await, b"hello");

    // A good request right behind it is answered.
    let mut connection = gateway.connect().await;
    let mut bytes = Request::put("/bkt/k").body("again").bytes(&gateway.host());
    bytes.extend(Request::get("/bkt/k").bytes(&gateway.host()));
    connection.send(&bytes).await;
    assert_eq!(connection.answer_to("PUT").await.status, 200);
    assert_eq!(connection.answer_to("GET").await.body, b"again");
}

/// The body of a refused request is never taken for a request.
#[tokio::test]
async fn a_request_hidden_in_an_unread_body_is_not_carried_out() {
    let gateway = TestGateway::with_bucket().await;
    let hidden = Request::delete("/bkt/known").bytes(&gateway.host());
    for request in [
        Request::put("/nowhere/k").body(&hidden),
        Request::put("/nowhere/k")
            .body(&hidden)
            .chunked(10_000)
            .header("x-amz-decoded-content-length", hidden.len().to_string()),
        Request::get("/bkt/none")
            .body(&hidden)
            .content_length(&hidden.len().to_string()),
        Request::put("/nowhere/k").streamed(&hidden, Streamed::Unsigned),
    ] {
        let before = gateway.tree();
        let mut connection = gateway.connect().await;
        connection.send(&request.bytes(&gateway.host())).await;
        let answer = connection.answer_to("PUT").await;
        assert_eq!(answer.status, 404, "{answer:?}");
        assert!(answer.closes(), "{answer:?}");
        assert!(connection.is_closed().await, "another answer came");
        gateway.settles_to(&before).await;
    }
    // A read whose body nobody asked for, and that succeeds.
    let mut connection = gateway.connect().await;
    let request = Request::get("/bkt/known")
        .body(&hidden)
        .content_length(&hidden.len().to_string());
    connection.send(&request.bytes(&gateway.host())).await;
    let answer = connection.answer_to("GET").await;
    assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
    assert!(connection.is_closed().await);
    gateway.still_answers().await;
}

/// Ten mebibytes come whether wanted or not: the client reads the refusal, not a reset.
#[tokio::test]
async fn a_client_that_sends_on_reads_the_refusal() {
    let gateway = TestGateway::with_bucket().await;
    let big = vec![7; 10 << 20];
    let request = || Request::put("/nowhere/k").body(&big).content_sha256("UNSIGNED-PAYLOAD");
    for form in [
        request(),
        request()
            .chunked(1 << 16)
            .header("x-amz-decoded-content-length", big.len().to_string()),
    ] {
        let (head, body) = form.signed(&gateway.host());
        // It reads while it writes.
        let mut connection = gateway.connect().await;
        connection.send(&head).await;
        connection.send(&body[..65_536]).await;
        let answer = connection.answer_to("PUT").await;
        assert_eq!((answer.status, answer.code().as_deref()), (404, Some("NoSuchBucket")));
        assert!(answer.closes());
        // It writes all it can, then reads.
        let mut connection = gateway.connect().await;
        connection.send(&head).await;
        connection.send(&body).await;
        let answer = connection.answer_to("PUT").await;
        assert_eq!((answer.status, answer.code().as_deref()), (404, Some("NoSuchBucket")));
        assert!(connection.is_closed().await);
    }
    gateway.still_answers().await;
}
