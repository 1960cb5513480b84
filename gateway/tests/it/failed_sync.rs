//! What clients, probes and the log are told when a change is visible and nobody knows whether the disk has it.

use std::{fs, process::Command};

use t2gate_backends::{
    FsBackend, FsOptions, SystemClock,
    crash_points::{self, Call},
};

use crate::support::{Answer, KNOWN, Request, TestGateway, log};

const EIO: i32 = 5;

fn put(body: &str) -> Request {
    Request::put("/bkt/k").body(body)
}

fn logged(answer: &Answer) -> String {
    let id = answer.header("x-amz-request-id").unwrap();
    log::lines_with(id).join("\n")
}

/// By a process of its own: what makes a sync fail does so for all of the process.
#[tokio::test]
async fn after_a_failed_sync_the_gateway_serves_and_takes_nothing_until_it_is_started_again() {
    const CHILD: &str = "GATEWAY_TEST_FAILED_SYNC";
    if std::env::var_os(CHILD).is_none() {
        let outcome = Command::new(std::env::current_exe().unwrap())
            .arg("--exact")
            .arg("failed_sync::after_a_failed_sync_the_gateway_serves_and_takes_nothing_until_it_is_started_again")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&outcome.stdout);
        let is_good = outcome.status.success() && said.contains("1 passed");
        assert!(is_good, "{said}{}", String::from_utf8_lossy(&outcome.stderr));
        return;
    }
    let gateway = TestGateway::with_bucket().await;
    gateway.does(put("first")).await;
    let before = crash_points::syncs();
    gateway.does(put("again")).await;
    let syncs = crash_points::syncs() - before;
    assert!(syncs >= 2, "{syncs}");

    // Before the object has its name nothing has happened.
    crash_points::fail(&[Call::Sync], EIO, 0);
    let answer = gateway.answer(put("other")).await;
    assert!(crash_points::disarm());
    assert_eq!(answer.status, 500, "{answer:?}");
    assert_eq!(gateway.does(Request::get("/bkt/k")).await.body, b"again");
    assert!(gateway.admin("/readyz").await.starts_with("HTTP/1.1 200"));
    gateway.does(put("third")).await;

    crash_points::fail(&[Call::Sync], EIO, syncs - 1);
    let answer = gateway.answer(put("last!")).await;
    assert!(crash_points::disarm());
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.text().starts_with("{\"code\": \"internal_error\""), "{answer:?}");
    let why = logged(&answer);
    assert!(why.contains("ERROR") && why.contains("Input/output error"), "{why}");

    // The disk is well again, and is not believed.
    for request in [
        put("later"),
        Request::put("/bkt/new").body("x"),
        Request::delete("/bkt/known"),
        Request::put("/more"),
        Request::put("/bkt?acl").header("x-amz-acl", "public-read"),
        Request::post("/bkt/k?uploads"),
    ] {
        let answer = gateway.answer(request).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        let why = logged(&answer);
        assert!(why.contains("read-only"), "{why}");
    }
    assert_eq!(gateway.does(Request::get("/bkt/k")).await.body, b"last!");
    assert_eq!(gateway.does(Request::get("/bkt/known")).await.body, KNOWN);
    assert_eq!(
        gateway.does(Request::get("/bkt")).await.text().matches("<Key>").count(),
        2
    );
    let ready = gateway.admin("/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503")
            && ready.contains("read-only after a fault, until the gateway is started again"),
        "{ready}"
    );
    assert!(gateway.admin("/healthz").await.starts_with("HTTP/1.1 200"));

    let (_, dir) = gateway.stop().await;
    drop(
        FsBackend::open(FsOptions::new(
            dir.path().join("data"),
            std::sync::Arc::new(SystemClock),
        ))
        .unwrap(),
    );
    let staging = fs::read_dir(dir.path().join("data/.t2/staging")).unwrap();
    assert_eq!(staging.count(), 0);
}
