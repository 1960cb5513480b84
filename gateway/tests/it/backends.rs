//! Several backends behind one gateway.

use std::fs;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep},
};

use crate::support::{PATIENCE, Request, TestGateway, head_of};

const TWO: &str = r#"
[[backend]]
name = "main"
root = "ROOT/data"
[[backend]]
name = "archive"
root = "ROOT/archive"
concurrent_requests = 4
[[bucket]]
name = "logs-*"
backend = "archive"
"#;

/// With the buckets `bkt`, in `main`, and `logs-a`, in `archive`.
async fn two(toml: &str, backends: &str) -> TestGateway {
    let gateway = TestGateway::with_backends(toml, backends, "").await;
    gateway.make_bucket().await;
    gateway.does(Request::put("/logs-a")).await;
    gateway
}

fn names(listing: &str) -> Vec<&str> {
    let names = listing.split("<Name>").skip(1);
    names.map(|rest| rest.split('<').next().unwrap()).collect()
}

#[tokio::test]
async fn each_bucket_lies_in_its_tree_and_all_are_listed_in_order() {
    let gateway = two("", TWO).await;
    for bucket in ["zzz", "aaa", "logs-z", "logsb"] {
        gateway.does(Request::put(&format!("/{bucket}"))).await;
    }
    gateway.does(Request::put("/logs-a/dir/key").body("archived")).await;
    let archived = gateway.root().join("archive/logs-a/dir/key");
    assert_eq!(fs::read(archived).unwrap(), b"archived");
    assert!(gateway.data().join("zzz").is_dir() && !gateway.data().join("logs-a").exists());

    let all = ["aaa", "bkt", "logs-a", "logs-z", "logsb", "zzz"];
    assert_eq!(names(gateway.does(Request::get("/")).await.text()), all);
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = gateway.does(Request::get(&format!("/?max-buckets=2{token}"))).await;
        seen.extend(names(page.text()).into_iter().map(str::to_owned));
        let Some(next) = page.element("ContinuationToken") else {
            break;
        };
        token = format!("&continuation-token={next}");
    }
    assert_eq!(seen, all);
    gateway.does(Request::delete("/logs-z")).await;
    assert!(!gateway.root().join("archive/logs-z").exists());
}

#[tokio::test]
async fn a_copy_to_another_backend_is_streamed() {
    let gateway = two("", TWO).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let put = Request::put("/bkt/source").body(&bytes);
    let put = put
        .header("x-amz-meta-of", "the source")
        .header("content-type", "text/odd");
    let etag = gateway.does(put).await.header("etag").unwrap().to_owned();

    let copy = |to: &str, from: &str| Request::put(to).header("x-amz-copy-source", from);
    let copied = gateway.does(copy("/logs-a/copy", "/bkt/source")).await;
    assert_eq!(copied.element("ETag").unwrap().replace("&quot;", "\""), etag);
    let got = gateway.does(Request::get("/logs-a/copy")).await;
    assert!(got.body == bytes);
    assert_eq!(got.header("x-amz-meta-of"), Some("the source"));
    assert_eq!(got.header("content-type"), Some("text/odd"));
    gateway.does(copy("/bkt/back", "/logs-a/copy")).await;
    gateway.does(copy("/bkt/beside", "/bkt/source")).await;
    gateway
        .refuses(
            copy("/logs-a/copy", "/bkt/source").header("if-none-match", "*"),
            412,
            "PreconditionFailed",
        )
        .await;

    let started = gateway.does(Request::post("/logs-a/parts?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    let part = copy(&format!("/logs-a/parts?partNumber=1&uploadId={upload}"), "/bkt/source");
    let part = gateway.does(part.header("x-amz-copy-source-range", "bytes=0-9")).await;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.element("ETag").unwrap()
    );
    let complete = Request::post(&format!("/logs-a/parts?uploadId={upload}")).document(document);
    gateway.does(complete).await;
    assert_eq!(gateway.does(Request::get("/logs-a/parts")).await.body, bytes[..10]);

    // Only the copy within a backend was left to it; the calls of each are counted under its name.
    let metrics = gateway.admin("/metrics").await;
    let copies: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("t2gate_backend_call_seconds_count") && line.contains("copy_object"))
        .collect();
    assert_eq!(
        copies,
        [r#"t2gate_backend_call_seconds_count{backend="main",operation="copy_object",result="ok"} 1"#]
    );
    assert!(
        metrics.contains(r#"{backend="archive",operation="put_object",result="ok"} 1"#),
        "{metrics}"
    );
}

const STORE: &str = r#"
[[backend]]
name = "main"
root = "ROOT/data"
[[backend]]
name = "cloud"
kind = "opendal"
service = "memory"
[[bucket]]
name = "cloud-*"
backend = "cloud"
"#;

/// One in memory takes no conditions.
#[tokio::test]
async fn what_a_store_cannot_judge_is_refused_with_words_and_changes_nothing() {
    let gateway = TestGateway::with_backends("", STORE, "").await;
    gateway.does(Request::put("/cloud-1")).await;
    gateway.does(Request::put("/cloud-1/key").body("first")).await;
    for (name, value) in [("if-match", "*"), ("if-none-match", "*"), ("if-match", "\"abc\"")] {
        for key in ["key", "new"] {
            let put = Request::put(&format!("/cloud-1/{key}"))
                .header(name, value)
                .body("second");
            let refused = gateway.refuses(put, 501, "NotImplemented").await;
            let words = "conditional write is not supported by the storage behind this bucket";
            assert!(refused.text().contains(words), "{name}: {value}: {refused:?}");
        }
    }
    assert_eq!(gateway.does(Request::get("/cloud-1/key")).await.text(), "first");
    gateway.refuses(Request::get("/cloud-1/new"), 404, "NoSuchKey").await;
}

/// The calls of a store count by backend, service and operation, those of the probe at the start among them.
#[tokio::test]
async fn calls_of_a_store_are_counted() {
    let gateway = TestGateway::with_backends("", STORE, "").await;
    let value = async |series: &str| -> u64 {
        let metrics = gateway.admin("/metrics").await;
        let found = metrics.lines().find_map(|line| line.strip_prefix(series));
        found.map_or(0, |value| value.trim().parse().unwrap())
    };
    let calls = |operation: &str, result: &str| {
        format!(
            "t2gate_store_call_seconds_count{{backend=\"cloud\",operation=\"{operation}\",result=\"{result}\",\
             service=\"memory\"}}"
        )
    };
    let bytes = |operation: &str| {
        format!("t2gate_store_bytes_total{{backend=\"cloud\",operation=\"{operation}\",service=\"memory\"}}")
    };
    // The probe has asked for what is there and for what is not, and has met a condition.
    let probed = value(&calls("write_close", "ok")).await;
    assert!(probed > 0 && value(&calls("write_close", "refused")).await > 0);
    let (written, read) = (value(&bytes("write")).await, value(&bytes("read")).await);

    gateway.does(Request::put("/cloud-a")).await;
    gateway.does(Request::put("/cloud-a/key").body([7; 50_000])).await;
    assert_eq!(gateway.does(Request::get("/cloud-a/key")).await.body.len(), 50_000);
    gateway.refuses(Request::get("/cloud-a/none"), 404, "NoSuchKey").await;
    assert!(value(&calls("write_close", "ok")).await >= probed + 2);
    assert!(value(&bytes("write")).await >= written + 50_000);
    assert!(value(&bytes("read")).await >= read + 50_000);
    // What no store is behind has none, and nothing is named after a bucket or an object.
    let metrics = gateway.admin("/metrics").await;
    let store: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("t2gate_store_"))
        .collect();
    assert!(store.iter().all(|line| line.contains("backend=\"cloud\"")), "{store:?}");
    assert!(
        !store
            .iter()
            .any(|line| line.contains("key") || line.contains("cloud-a")),
        "{store:?}"
    );
}

#[tokio::test]
async fn an_account_has_so_many_buckets_in_all_backends_together() {
    let gateway = two("[s3]\nmax_buckets_per_account = 3", TWO).await;
    gateway.does(Request::put("/logs-b")).await;
    for bucket in ["/logs-c", "/more"] {
        let answer = gateway.refuses(Request::put(bucket), 400, "TooManyBuckets").await;
        assert!(answer.text().contains("(3)"), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_not_ready_is_named_and_does_not_stop_the_others() {
    let gateway = two("", TWO).await;
    assert!(gateway.admin("/readyz").await.starts_with("HTTP/1.1 200"));
    fs::remove_file(gateway.root().join("archive/.t2/format")).unwrap();
    let answer = gateway.admin("/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("not ready: the storage archive does not answer: "),
        "{answer}"
    );
    assert!(!answer.contains("main"), "{answer}");
    gateway.still_answers().await;
}

#[tokio::test]
async fn a_backend_that_is_full_leaves_the_others_alone() {
    let gateway = two("", &TWO.replace("concurrent_requests = 4", "concurrent_requests = 1")).await;
    // A write that has its place: its body was asked for.
    let held = Request::put("/logs-a/slow")
        .body("bytes")
        .header("expect", "100-continue");
    let mut stream = gateway.tls(&[]).await.unwrap();
    stream
        .write_all(head_of(&held, &gateway.host()).as_bytes())
        .await
        .unwrap();
    let mut said = [0; 12];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 100");

    let copy = Request::put("/bkt/copy").header("x-amz-copy-source", "/logs-a/other");
    for request in [Request::get("/logs-a/other"), copy] {
        let answer = gateway.answer(request).await;
        assert!(
            answer.status == 503 && answer.text().contains("slow_down"),
            "{answer:?}"
        );
    }
    gateway.does(Request::put("/bkt/other").body("x")).await;
    gateway.does(Request::get("/")).await;

    stream.write_all(b"bytes").await.unwrap();
    let start = Instant::now();
    while gateway.answer(Request::get("/logs-a/slow")).await.status != 200 {
        assert!(start.elapsed() < PATIENCE, "the place is never given back");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_store_by_opendal_stands_beside_a_tree() {
    let beside = TWO.replace(
        "root = \"ROOT/archive\"",
        "kind = \"opendal\"\nservice = \"memory\"\nroot = \"ROOT/archive\"",
    );
    let gateway = two("", &beside).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    gateway.does(Request::put("/logs-a/dir/key").body(&bytes)).await;
    assert!(gateway.does(Request::get("/logs-a/dir/key")).await.body == bytes);
    assert!(
        !gateway.root().join("archive").exists(),
        "the tree of a store is not made"
    );
    for (to, from) in [("/bkt/copy", "/logs-a/dir/key"), ("/logs-a/copy", "/bkt/copy")] {
        gateway.does(Request::put(to).header("x-amz-copy-source", from)).await;
        assert!(gateway.does(Request::get(to)).await.body == bytes, "{to}");
    }
    let listing = gateway.does(Request::get("/logs-a?list-type=2")).await;
    let keys = listing.text().split("<Key>").skip(1);
    let keys: Vec<&str> = keys.map(|rest| rest.split('<').next().unwrap()).collect();
    assert_eq!(keys, ["copy", "dir/key"]);
    assert_eq!(names(gateway.does(Request::get("/")).await.text()), ["bkt", "logs-a"]);
    // What that store does not keep is refused there, and there alone.
    let create = |path: &str| Request::put(path).header("if-none-match", "*").body("x");
    gateway.does(create("/bkt/new")).await;
    gateway.refuses(create("/logs-a/new"), 501, "NotImplemented").await;
    let enable = |bucket: &str| {
        let document = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        Request::put(&format!("/{bucket}?versioning")).document(document)
    };
    // Versions it has, as it keeps objects in a layout of the gateway's own.
    for bucket in ["bkt", "logs-a"] {
        gateway.does(enable(bucket)).await;
    }
    gateway.does(Request::put("/logs-a/dir/key").body(b"newer")).await;
    let versions = gateway.does(Request::get("/logs-a?versions&prefix=dir/")).await;
    assert_eq!(versions.text().matches("<Version>").count(), 2);
    assert!(gateway.admin("/readyz").await.starts_with("HTTP/1.1 200"));
}
