//! Uploads in parts, when something goes wrong on the way.

use crate::support::{Answer, Request, Streamed, TestGateway};

async fn begin(gateway: &TestGateway, target: &str) -> String {
    let started = gateway.does(Request::post(&format!("{target}?uploads"))).await;
    started.element("UploadId").unwrap()
}

fn part(upload: &str, number: u32) -> Request {
    Request::put(&format!("/bkt/k?partNumber={number}&uploadId={upload}"))
}

fn complete(upload: &str, parts: &[(u32, &str)]) -> Request {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    Request::post(&format!("/bkt/k?uploadId={upload}")).document(document)
}

fn etag(answer: &Answer) -> String {
    answer.header("etag").unwrap().to_owned()
}

/// The numbers of the parts that are there.
async fn listed(gateway: &TestGateway, upload: &str) -> Vec<String> {
    let answer = gateway.does(Request::get(&format!("/bkt/k?uploadId={upload}"))).await;
    let numbers = answer.text().split("<PartNumber>").skip(1);
    numbers.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_part_that_is_not_what_was_promised_leaves_the_one_before_it() {
    let gateway = TestGateway::with_bucket().await;
    let upload = begin(&gateway, "/bkt/k").await;
    let good = etag(&gateway.does(part(&upload, 1).body("the first")).await);
    let large = vec![7; 300_000];
    for (request, code) in [
        (
            part(&upload, 1).body("x").content_sha256(&"0".repeat(64)),
            "XAmzContentSHA256Mismatch",
        ),
        (
            part(&upload, 1)
                .body(&large)
                .header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            "BadDigest",
        ),
        (
            part(&upload, 1).body(&large).header("x-amz-checksum-crc32", "AAAAAA=="),
            "BadDigest",
        ),
        (
            part(&upload, 2)
                .streamed(&large, Streamed::Unsigned)
                .header("x-amz-decoded-content-length", "299999"),
            "IncompleteBody",
        ),
        (
            part(&upload, 2)
                .streamed(&large, Streamed::Signed)
                .header("x-amz-decoded-content-length", "300001"),
            "IncompleteBody",
        ),
    ] {
        let answer = gateway.answer(request).await;
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (400, Some(code)),
            "{answer:?}"
        );
        assert_eq!(listed(&gateway, &upload).await, ["1"]);
    }
    // A client that goes away.
    for number in [1, 2] {
        let bytes = part(&upload, number).body(&large).bytes(&gateway.host());
        let mut connection = gateway.connect().await;
        connection.send(&bytes[..bytes.len() - 1000]).await;
        drop(connection);
        assert_eq!(listed(&gateway, &upload).await, ["1"]);
    }
    gateway.does(complete(&upload, &[(1, &good)])).await;
    assert_eq!(gateway.does(Request::get("/bkt/k")).await.body, b"the first");
    // What was prepared for them is gone with the upload.
    for below in ["staging", "uploads/bkt"] {
        let directory = gateway.data().join(".t2").join(below);
        assert_eq!(std::fs::read_dir(directory).map_or(0, Iterator::count), 0, "{below}");
    }
}

/// A writer of a part that stalls while the upload is finished or given up: whatever it is told, the object is what was
/// completed, and nothing is left of the rest.
#[tokio::test]
async fn a_part_that_comes_too_late_changes_nothing() {
    let gateway = TestGateway::with_bucket().await;
    let empty = gateway.tree();
    for gives_up in [false, true] {
        let upload = begin(&gateway, "/bkt/k").await;
        let good = etag(&gateway.does(part(&upload, 1).body("what was completed")).await);
        let mut late = Vec::new();
        for number in [1, 2] {
            let bytes = part(&upload, number).body(vec![7; 400_000]).bytes(&gateway.host());
            let mut connection = gateway.connect().await;
            connection.send(&bytes[..250_000]).await;
            late.push((connection, bytes));
        }
        if gives_up {
            gateway
                .does(Request::delete(&format!("/bkt/k?uploadId={upload}")))
                .await;
        } else {
            gateway.does(complete(&upload, &[(1, &good)])).await;
        }
        for (mut connection, bytes) in late {
            connection.send(&bytes[250_000..]).await;
            let answer = connection.answer_to("PUT").await;
            let got = (answer.status, answer.code());
            assert_eq!(got, (404, Some("NoSuchUpload".to_owned())), "{gives_up} {answer:?}");
        }
        if gives_up {
            gateway.refuses(Request::get("/bkt/k"), 404, "NoSuchKey").await;
        } else {
            assert_eq!(gateway.does(Request::get("/bkt/k")).await.body, b"what was completed");
            gateway.does(Request::delete("/bkt/k")).await;
        }
        assert_eq!(
            std::fs::read_dir(gateway.data().join(".t2/staging")).unwrap().count(),
            0
        );
    }
    let is = gateway.tree();
    let objects = |tree: &std::collections::BTreeMap<std::path::PathBuf, Option<Vec<u8>>>| {
        tree.keys()
            .filter(|path| !path.starts_with(".t2"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(objects(&is), objects(&empty));
}

#[tokio::test]
async fn an_upload_is_found_under_its_own_key_alone() {
    let gateway = TestGateway::with_bucket().await;
    let upload = begin(&gateway, "/bkt/k").await;
    gateway.does(Request::put("/other-bucket")).await;
    for target in ["/bkt/other", "/other-bucket/k"] {
        let target = format!("{target}?uploadId={upload}");
        gateway
            .refuses(
                Request::put(&format!("{target}&partNumber=1")).body("x"),
                404,
                "NoSuchUpload",
            )
            .await;
        gateway.refuses(Request::get(&target), 404, "NoSuchUpload").await;
        gateway.refuses(Request::delete(&target), 404, "NoSuchUpload").await;
    }
    for id in ["..", "../..", "%2E%2E%2Fuploads", "x", ".", "%00", &"a".repeat(5_000)] {
        let target = format!("/bkt/k?uploadId={id}");
        gateway
            .refuses(
                Request::put(&format!("{target}&partNumber=1")).body("x"),
                404,
                "NoSuchUpload",
            )
            .await;
        gateway.refuses(Request::get(&target), 404, "NoSuchUpload").await;
        gateway.refuses(Request::delete(&target), 404, "NoSuchUpload").await;
        gateway.refuses(Request::post(&target).document(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>",
        ), 404, "NoSuchUpload").await;
    }
    gateway.still_answers().await;
}
