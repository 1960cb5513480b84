//! What others put into the tree, and what is written into the log: neither harms.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, process::Command};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{KNOWN, Request, SECRET, TestGateway, TestKey, log};

/// Names that XML or UTF-8 cannot say, and files that are none: a listing goes on, or says cleanly that it cannot.
#[tokio::test]
async fn odd_files_in_the_tree_neither_break_a_listing_nor_hold_a_reader() {
    let gateway = TestGateway::with_bucket().await;
    let bucket = gateway.data().join("bkt");
    fs::write(bucket.join(OsStr::from_bytes(b"not\xffutf-8")), "x").unwrap();
    fs::write(bucket.join("z"), "last").unwrap();
    fs::create_dir(bucket.join("directory")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(bucket.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(bucket.join("socket")).unwrap();
    let listed = gateway.does(Request::get("/bkt")).await;
    let text = listed.text();
    assert!(
        text.contains("<Key>known</Key>") && text.contains("<Key>z</Key>"),
        "{text}"
    );
    assert!(
        !text.contains("fifo") && !text.contains("socket") && !text.contains("directory"),
        "{text}"
    );
    for key in ["fifo", "socket", "directory", "not%EF%BF%BDutf-8"] {
        gateway
            .refuses(Request::get(&format!("/bkt/{key}")), 404, "NoSuchKey")
            .await;
        gateway
            .refuses(Request::head(&format!("/bkt/{key}")), 404, "NoSuchKey")
            .await;
    }
    // A key may have the name of any of them.
    gateway.does(Request::put("/bkt/directory").body("x")).await;
    assert_eq!(gateway.does(Request::get("/bkt/directory")).await.body, b"x");

    fs::write(bucket.join("a\u{1}b"), "x").unwrap();
    let plain = gateway.answer(Request::get("/bkt?list-type=2")).await;
    assert!(plain.status < 500, "{plain:?}");
    assert!(!plain.body.contains(&1), "not XML: {plain:?}");
    let encoded = gateway.does(Request::get("/bkt?encoding-type=url")).await;
    assert!(encoded.text().contains("<Key>a%01b</Key>"), "{encoded:?}");
    gateway.still_answers().await;
}

/// A file that shrinks while it is read: the client sees that something is missing.
#[tokio::test]
async fn an_answer_that_cannot_be_finished_is_cut_off() {
    let gateway = TestGateway::with_bucket().await;
    let size = 24 << 20;
    gateway
        .does(
            Request::put("/bkt/shrinks")
                .body(vec![7; size])
                .content_sha256("UNSIGNED-PAYLOAD"),
        )
        .await;
    let mut stream = gateway.tls(&[]).await.unwrap();
    stream
        .write_all(&Request::get("/bkt/shrinks").bytes(&gateway.host()))
        .await
        .unwrap();
    let mut some = vec![0; 4096];
    let mut taken = stream.read(&mut some).await.unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    let head = String::from_utf8_lossy(&some).into_owned();
    let (_, id) = head.split_once("x-amz-request-id: ").unwrap();
    let id = id.split("\r\n").next().unwrap();
    fs::File::options()
        .write(true)
        .open(gateway.data().join("bkt/shrinks"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    loop {
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => break,
            Ok(read) => taken += read,
        }
    }
    assert!(taken < size, "{taken} bytes came");
    // Whoever has the id finds the reason.
    let said = log::lines_with(id);
    let reason = said.iter().find(|line| line.contains("could not be read to its end"));
    assert!(reason.is_some_and(|line| line.contains("ERROR")), "{said:#?}");
    gateway.still_answers().await;
}

#[tokio::test]
async fn nothing_that_a_client_sends_makes_a_line_of_its_own_in_the_log() {
    let gateway = TestGateway::configured_with_bucket("[s3]\ndialect = \"aws\"\n").await;
    let forged = "2026-01-01T00:00:00Z ERROR forged";
    for target in [
        "/bkt/a%0D%0A2026-01-01T00:00:00Z%20ERROR%20forged",
        "/bkt%0A2026-01-01T00:00:00Z%20ERROR%20forged/k",
        "/bkt/a%1B%5B31mred",
    ] {
        gateway.answer(Request::get(target)).await;
        gateway.answer(Request::put(target).body("x")).await;
    }
    gateway
        .answer(Request::get("/bkt/known?X-Amz-Credential=a%0A2026-01-01T00:00:00Z%20ERROR%20forged").anonymous())
        .await;
    let lines = log::lines_with("forged");
    assert!(!lines.is_empty(), "nothing was logged");
    assert!(
        lines.iter().all(|line| !line.trim_start().starts_with(forged)),
        "{lines:?}"
    );
    assert!(log::lines_with("\u{1b}").is_empty(), "a terminal's escape in the log");
}

#[tokio::test]
async fn no_secret_and_no_signature_that_holds_is_in_the_log() {
    let gateway = TestGateway::with_bucket().await;
    gateway.does(Request::get("/bkt/known")).await;
    let url = Request::get("/bkt/known").presigned().url(&gateway.host());
    gateway.does(Request::get(&url).anonymous()).await;
    // Where a mismatch is explained.
    let wrong = TestKey {
        secret: "another-secret-of-the-same-length-000000",
        ..crate::support::APP
    };
    gateway
        .refuses(Request::get("/bkt/known").by(wrong), 401, "SignatureDoesNotMatch")
        .await;
    gateway
        .refuses(
            Request::get("/bkt/known").by(wrong).presigned(),
            401,
            "SignatureDoesNotMatch",
        )
        .await;
    let tampered = url.replace("/bkt/known", "/bkt/other");
    gateway
        .refuses(Request::get(&tampered).anonymous(), 401, "SignatureDoesNotMatch")
        .await;
    for secret in [SECRET, wrong.secret, url.split_once("X-Amz-Signature=").unwrap().1] {
        assert_eq!(log::lines_with(secret), Vec::<String>::new());
    }
    assert_eq!(gateway.does(Request::get("/bkt/known")).await.body, KNOWN);
}
