//! Answers to the letter, in both dialects.

use std::{collections::HashSet, fs, process::Command};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Answer, EXPIRED, KNOWN, MASTER, Request, TestGateway, log};

const AWS: &str = "[s3]\ndialect = \"aws\"\n";

fn id(answer: &Answer) -> String {
    answer.header("x-amz-request-id").unwrap().to_owned()
}

#[tokio::test]
async fn a_refusal_is_the_document_of_the_t2_text() {
    let gateway = TestGateway::with_bucket().await;
    let prolog = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";
    for (request, status, error) in [
        (
            Request::get("/NonExistentBucket"),
            404,
            "<Code>NoSuchBucket</Code><Message>The specified bucket does not exist: NonExistentBucket</Message>\
             <Resource>NonExistentBucket</Resource><BucketName>NonExistentBucket</BucketName>",
        ),
        (
            Request::get("/bkt/a/b%20%26%3C%C3%A9"),
            404,
            "<Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>\
             <Resource>bkt/a/b &amp;&lt;é</Resource>",
        ),
    ] {
        let answer = gateway.answer(request).await;
        let id = id(&answer);
        let rest = format!("<RequestId>{id}</RequestId><HostId>{id}</HostId></Error>");
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/xml"));
        let text = answer.text().replace("\n<Error>", "<Error>");
        assert_eq!(text, format!("{}<Error>{error}{rest}", prolog.trim_end()), "{answer:?}");
    }
    // Nothing is named at the root.
    let answer = gateway.answer(Request::put("/")).await;
    assert_eq!(answer.status, 405, "{answer:?}");
    assert!(
        answer.text().contains("<Resource></Resource>") || answer.text().contains("<Resource/>"),
        "{answer:?}"
    );
    assert_eq!(answer.header("allow"), Some("GET"));
    // A key that XML cannot say is still told about.
    let answer = gateway
        .refuses(Request::get("/bkt/a%01b"), 400, "InvalidArgument")
        .await;
    assert_eq!(answer.element("Resource").as_deref(), Some("bkt/a\u{fffd}b"));
}

/// Dialect D1: settings that cannot be made yet can be deleted as if they could.
#[tokio::test]
async fn a_setting_that_is_not_there_is_deleted_as_anything_that_is_not() {
    let (t2, aws) = (
        TestGateway::with_bucket().await,
        TestGateway::configured_with_bucket(AWS).await,
    );
    for (setting, code) in [
        ("cors", "NoSuchCORSConfiguration"),
        ("encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
    ] {
        let delete = || Request::delete(&format!("/bkt?{setting}"));
        t2.refuses(delete(), 404, code).await;
        t2.refuses(Request::delete(&format!("/nobucket?{setting}")), 404, "NoSuchBucket")
            .await;
        let answer = aws.answer(delete()).await;
        assert!(answer.status == 204 && answer.text().is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn every_answer_has_ids_of_its_own() {
    let gateway = TestGateway::with_bucket().await;
    let mut seen = HashSet::new();
    let mut connection = gateway.connect().await;
    for (request, status) in [
        (Request::get("/"), 200),
        (Request::head("/bkt"), 200),
        (Request::put("/bkt/k").body("x"), 200),
        (Request::get("/bkt/k"), 200),
        (Request::get("/bkt/k").header("range", "bytes=0-0"), 206),
        (Request::get("/bkt/k").header("if-none-match", "*"), 304),
        (Request::delete("/bkt/k"), 204),
        (Request::get("/bkt?max-keys=x"), 400),
        (Request::get("/bkt/%FF"), 400),
        (Request::get("/").anonymous(), 401),
        (Request::get("/").by(MASTER), 401),
        (
            Request::get("/bkt/known").header("x-amz-expected-bucket-owner", "x"),
            403,
        ),
        (Request::new("OPTIONS", "/bkt"), 403),
        (Request::get("/bkt/none"), 404),
        (Request::head("/bkt/none"), 404),
        (Request::new("PATCH", "/bkt"), 405),
        (Request::put("/bkt"), 409),
        (Request::get("/bkt/known").header("if-match", "\"0\""), 412),
        (Request::get("/bkt/known").header("range", "bytes=99-"), 416),
        (Request::get("/bkt/known?torrent"), 501),
        (Request::put("/bkt/k").body("x").header("content-md5", "x"), 400),
    ] {
        let answer = connection.ask(&request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(seen.insert(id(&answer)), "an id came twice");
        assert!(answer.header("x-amz-id-2").is_some(), "{answer:?}");
        assert!(answer.header("date").is_some(), "{answer:?}");
        if answer.closes() {
            connection = gateway.connect().await;
        }
    }
}

#[tokio::test]
async fn an_answer_to_head_and_one_of_304_have_no_body() {
    let gateway = TestGateway::with_bucket().await;
    let got = gateway.does(Request::get("/bkt/known")).await;
    let (etag, modified) = (got.header("etag").unwrap(), got.header("last-modified").unwrap());
    let mut connection = gateway.connect().await;
    for request in [
        Request::head("/bkt/none"),
        Request::head("/nowhere"),
        Request::head("/nowhere/k"),
        Request::head("/bkt/known").by(EXPIRED),
        Request::head("/bkt/known").header("range", "bytes=99-"),
        Request::head("/bkt/known").header("if-match", "\"0\""),
        Request::head("/bkt/known?torrent"),
        Request::head("/bkt/known"),
        Request::head("/bkt/known").header("if-none-match", etag),
        Request::get("/bkt/known").header("if-none-match", etag),
        Request::get("/bkt/known").header("if-modified-since", modified),
    ] {
        let answer = connection.ask(&request).await;
        assert!(answer.status != 500);
        // Were there a body, the next answer would begin with it.
        let next = connection.ask(&Request::get("/bkt/known")).await;
        assert_eq!((next.status, &*next.body), (200, KNOWN), "{answer:?}");
        if answer.status == 304 {
            assert_eq!(
                (answer.header("etag"), answer.header("last-modified")),
                (Some(etag), Some(modified))
            );
            assert!(
                !matches!(answer.header("content-length"), Some(length) if length != "16"),
                "{answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_failure_is_json_with_an_incident_id_that_is_in_the_log() {
    for (config, is_json) in [("", true), (AWS, false)] {
        let gateway = TestGateway::configured_with_bucket(config).await;
        // Nobody does that while it runs; it makes the store fail.
        fs::remove_dir(gateway.data().join(".t2/staging")).unwrap();
        let answer = gateway.answer(Request::put("/bkt/k").body("x")).await;
        assert_eq!(answer.status, 500, "{answer:?}");
        let id = id(&answer);
        assert_eq!(answer.header("x-amz-id-2"), Some(&*id));
        if is_json {
            let json = format!("{{\"code\": \"internal_error\", \"message\": \"incident id {id}\", \"status\": 500}}");
            assert_eq!(answer.text(), json);
            assert_eq!(answer.header("content-type"), Some("application/json"));
        } else {
            assert_eq!(answer.code().as_deref(), Some("InternalError"));
            assert_eq!(answer.header("content-type"), Some("application/xml"));
            assert_eq!(answer.element("RequestId"), Some(id.clone()));
        }
        let logged = log::lines_with(&id);
        let error = logged
            .iter()
            .find(|line| line.contains("ERROR"))
            .expect("an error in the log");
        assert!(error.contains("staging"), "the log does not say why: {error}");
        // The client is not told of paths.
        assert!(
            !answer.text().contains("staging") && !answer.text().contains("data"),
            "{answer:?}"
        );
        gateway.still_answers().await;
    }
}

/// On a small disk of its own, by a process that has its temporary files there.
#[tokio::test]
#[ignore = "mounts a file system: needs root"]
async fn a_full_disk_is_named_in_the_log_and_not_to_the_client() {
    const CHILD: &str = "GATEWAY_TEST_FULL_DISK";
    if std::env::var_os(CHILD).is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=32m", "none"]).arg(dir.path());
        assert!(mount.status().unwrap().success());
        let outcome = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "answers::a_full_disk_is_named_in_the_log_and_not_to_the_client",
            ])
            .args(["--ignored", "--nocapture"])
            .env(CHILD, "1")
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
        let said = String::from_utf8_lossy(&outcome.stdout);
        let is_good = outcome.status.success() && said.contains("1 passed");
        assert!(is_good, "{said}{}", String::from_utf8_lossy(&outcome.stderr));
        return;
    }
    let gateway = TestGateway::with_bucket().await;
    let body = vec![7; 1 << 20];
    let mut written = 0;
    let answer = loop {
        let put = Request::put(&format!("/bkt/{written}")).body(&body);
        let answer = gateway.answer(put).await;
        if answer.status != 200 {
            break answer;
        }
        written += 1;
        assert!(written < 100, "it does not become full");
    };
    assert_eq!(answer.status, 500, "{answer:?}");
    let id = id(&answer);
    let json = format!("{{\"code\": \"internal_error\", \"message\": \"incident id {id}\", \"status\": 500}}");
    assert_eq!(answer.text(), json);
    let logged = log::lines_with(&id);
    let error = logged.iter().find(|line| line.contains("ERROR"));
    let error = error.expect("an error in the log");
    assert!(error.contains("the disk is full"), "the log does not say why: {error}");
    // What is there is served, and when something is deleted there is room again.
    assert_eq!(gateway.does(Request::get("/bkt/known")).await.body, KNOWN);
    assert_eq!(gateway.does(Request::get("/bkt/0")).await.body, body);
    for n in 0..3 {
        gateway.does(Request::delete(&format!("/bkt/{n}"))).await;
    }
    gateway.does(Request::put("/bkt/again").body(&body)).await;
    assert_eq!(gateway.does(Request::get("/bkt/again")).await.body, body);
}

#[tokio::test]
async fn over_capacity_is_a_503_that_says_when_to_come_again() {
    for (dialect, is_json) in [("t2", true), ("aws", false)] {
        let config = format!("[s3]\ndialect = {dialect:?}\n[limits]\nconcurrent_requests = 1\n");
        let gateway = TestGateway::configured_with_bucket(&config).await;
        let (head, body) = Request::put("/bkt/k")
            .body("hello")
            .line("Expect: 100-continue")
            .signed(&gateway.host());
        let mut first = gateway.connect().await;
        first.send(&head).await;
        assert_eq!(first.answer_to("PUT").await.status, 100);
        // The one permit is taken.
        let mut second = gateway.connect().await;
        let answer = second.ask(&Request::get("/bkt/known")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("x-amz-retry-after"), Some("1000"));
        let id = id(&answer);
        if is_json {
            let json = format!("{{\"code\": \"slow_down\", \"message\": \"incident id {id}\", \"status\": 503}}");
            assert_eq!(answer.text(), json);
        } else {
            assert_eq!(answer.code().as_deref(), Some("SlowDown"));
        }
        assert!(!log::lines_with(&id).is_empty());
        assert_eq!(second.ask(&Request::head("/bkt/known")).await.status, 503);
        first.send(&body).await;
        assert_eq!(first.answer_to("PUT").await.status, 200);
        assert_eq!(second.ask(&Request::get("/bkt/known")).await.body, KNOWN);
    }
}

#[tokio::test]
async fn the_dialects_differ_where_they_should() {
    let t2 = TestGateway::with_bucket().await;
    let aws = TestGateway::configured_with_bucket(AWS).await;
    for gateway in [&t2, &aws] {
        gateway
            .does(Request::put("/public").header("x-amz-acl", "public-read"))
            .await;
        gateway.does(Request::put("/public/k").body("x")).await;
    }
    let acl = |bucket: &str, acl: &str| Request::put(&format!("/{bucket}/k")).body("x").header("x-amz-acl", acl);
    for (request, in_t2, in_aws) in [
        // D1: what is not there cannot be deleted, or is deleted already.
        (Request::delete("/bkt/none"), (404, "NoSuchKey"), (204, "")),
        (
            Request::delete("/bkt/none?versionId=null"),
            (404, "NoSuchVersion"),
            (204, ""),
        ),
        (
            Request::delete("/bkt/none?uploadId=none"),
            (404, "NoSuchUpload"),
            (404, "NoSuchUpload"),
        ),
        // D5: no credentials, or none that hold.
        (Request::get("/"), (200, ""), (200, "")),
        (
            Request::get("/").anonymous(),
            (401, "AccessDenied"),
            (403, "AccessDenied"),
        ),
        (
            Request::get("/").by(MASTER),
            (401, "InvalidAccessKeyId"),
            (403, "InvalidAccessKeyId"),
        ),
        (
            Request::get("/").by(EXPIRED),
            (401, "InvalidAccessKeyId"),
            (403, "InvalidAccessKeyId"),
        ),
        // D8: the ACL of an object.
        (acl("bkt", "private"), (200, ""), (200, "")),
        (acl("public", "public-read"), (200, ""), (200, "")),
        (acl("bkt", "public-read"), (403, "AccessDenied"), (403, "AccessDenied")),
        (acl("public", "private"), (403, "AccessDenied"), (200, "")),
        (acl("bkt", "authenticated-read"), (403, "AccessDenied"), (200, "")),
        (
            acl("bkt", "bucket-owner-full-control"),
            (403, "AccessDenied"),
            (200, ""),
        ),
        (
            acl("bkt", "nonsense"),
            (400, "InvalidArgument"),
            (400, "InvalidArgument"),
        ),
        (
            Request::put("/bkt/k").body("x").header("x-amz-grant-read", "id=1"),
            (501, "NotImplemented"),
            (501, "NotImplemented"),
        ),
        // D9: names of buckets.
        (Request::put("/with.dots.in"), (400, "InvalidBucketName"), (200, "")),
        (
            Request::put("/Upper"),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put("/ab"),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put("/-abc"),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put("/a..b"),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put("/.t2"),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put("/.."),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put("/%2E%2E%2Fetc"),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        (
            Request::put(&format!("/{}", "a".repeat(64))),
            (400, "InvalidBucketName"),
            (400, "InvalidBucketName"),
        ),
        // D10: control characters.
        (
            Request::put("/bkt/a%0Ab").body("x"),
            (400, "InvalidArgument"),
            (200, ""),
        ),
        (
            Request::put("/bkt/a%00b").body("x"),
            (400, "InvalidArgument"),
            (400, "InvalidArgument"),
        ),
        // D12: listing a public bucket.
        (Request::get("/public").anonymous(), (401, "AccessDenied"), (200, "")),
        (Request::get("/public/k").anonymous(), (200, ""), (200, "")),
        // The same in both.
        (
            Request::post("/bkt")
                .body("x")
                .header("content-type", "multipart/form-data"),
            (501, "NotImplemented"),
            (501, "NotImplemented"),
        ),
    ] {
        for (name, gateway, expected) in [("t2", &t2, in_t2), ("aws", &aws, in_aws)] {
            let answer = gateway.answer(request.clone()).await;
            let code = answer.code().unwrap_or_default();
            assert_eq!(
                (answer.status, &*code),
                expected,
                "{name}: {} {} {answer:?}",
                request.method,
                request.path
            );
            assert_eq!(
                answer.header("www-authenticate").is_some(),
                answer.status == 401,
                "{name} {answer:?}"
            );
        }
    }
    for gateway in [&t2, &aws] {
        let document = "<Delete><Object><Key>none</Key></Object></Delete>";
        let answer = gateway.does(Request::post("/bkt?delete").document(document)).await;
        assert!(
            answer.text().contains("<Deleted><Key>none</Key></Deleted>"),
            "{answer:?}"
        );
    }
    // A name that XML 1.0 cannot say is listed in an encoding that can.
    let answer = aws.does(Request::get("/bkt?encoding-type=url")).await;
    assert!(answer.text().contains("<Key>a%0Ab</Key>"), "{answer:?}");
}

#[tokio::test]
async fn an_account_has_so_many_buckets_and_no_more() {
    let gateway = TestGateway::configured("[s3]\nmax_buckets_per_account = 2\n").await;
    gateway.does(Request::put("/one-bucket")).await;
    gateway.does(Request::put("/two-buckets")).await;
    gateway
        .refuses(Request::put("/three-buckets"), 400, "TooManyBuckets")
        .await;
    gateway.does(Request::delete("/one-bucket")).await;
    gateway.does(Request::put("/three-buckets")).await;
}

#[tokio::test]
async fn plain_text_is_told_once_that_https_is_spoken_here() {
    let gateway = TestGateway::with_bucket().await;
    let mut stream = gateway.tcp().await;
    stream
        .write_all(b"GET /bkt/known HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("HTTPS"),
        "{answer}"
    );
    gateway.still_answers().await;
}

#[tokio::test]
async fn a_gateway_that_is_told_to_stop_finishes_what_runs() {
    let gateway = TestGateway::with_bucket().await;
    let (head, body) = Request::put("/bkt/last")
        .body("hello")
        .line("Expect: 100-continue")
        .signed(&gateway.host());
    let mut connection = gateway.connect().await;
    connection.send(&head).await;
    assert_eq!(connection.answer_to("PUT").await.status, 100);
    let stored = gateway.data().join("bkt/last");
    let client = tokio::spawn(async move {
        connection.send(&body).await;
        assert_eq!(connection.answer_to("PUT").await.status, 200);
        assert_eq!(fs::read(stored).unwrap(), b"hello");
    });
    let (stopped, _dir) = gateway.stop().await;
    client.await.unwrap();
    assert_eq!((stopped.cut, stopped.writes), (0, 0));
}
