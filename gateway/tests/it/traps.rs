//! Mistakes that gateways in front of S3 clients have made: one test for each, unless another family has it
//! (`aws-chunked` kept as a Content-Encoding, framing errors told as authorization errors, trailers that are not what
//! was announced: `bodies`; sub-resources that fall through to PutObject: `input`; credentials looked for in the header
//! alone: `credentials`; a copy's source read without permission, refusals without the bucket's region: `access`).

use std::{os::unix::fs::symlink, sync::Arc};

use tokio::task::JoinSet;

use crate::support::{KNOWN, Request, TestGateway, head_of};

/// s3cmd creates buckets with a slash behind the name; taken for an object with an empty key, or for another bucket,
/// the call fails.
#[tokio::test]
async fn a_slash_behind_a_buckets_name_changes_nothing() {
    let gateway = TestGateway::with_bucket().await;
    gateway.does(Request::put("/slashed/")).await;
    gateway.does(Request::head("/slashed/")).await;
    gateway.does(Request::get("/bkt/?prefix=k")).await;
    gateway.does(Request::get("/bkt/?location")).await;
    gateway.does(Request::delete("/slashed/")).await;
    gateway.refuses(Request::head("/slashed"), 404, "").await;
}

/// A directory is sorted by its name with the slash behind it; sorted without, `a-b` and `a.b` land on the wrong side
/// of `a/b`, and pages lose keys.
#[tokio::test]
async fn listings_are_in_the_byte_order_of_whole_keys_page_by_page() {
    let gateway = TestGateway::with_bucket().await;
    gateway.does(Request::delete("/bkt/known")).await;
    let mut keys = vec![
        "a", "a-b", "a.b", "a/b", "a/b/c", "a//b", "a0", "A", "é", "a b", "a+b", "ab/c", "ab", "ab-c/d",
    ];
    for key in &keys {
        let path = t2gate::sigv4::client::encode_path(key);
        gateway.does(Request::put(&format!("/bkt/{path}")).body(key)).await;
    }
    keys.sort_unstable();
    for page in [1, 2, 3, 1000] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let answer = gateway
                .does(Request::get(&format!("/bkt?list-type=2&max-keys={page}{token}")))
                .await;
            let text = answer.text();
            found.extend(
                text.split("<Key>")
                    .skip(1)
                    .map(|rest| rest.split_once("</Key>").unwrap().0.to_owned()),
            );
            match answer.element("NextContinuationToken") {
                Some(next) => {
                    token = format!(
                        "&continuation-token={}",
                        t2gate::sigv4::client::encode_query(&[("", next)]).trim_start_matches('=')
                    )
                }
                None => break,
            }
        }
        assert_eq!(found, keys, "pages of {page}");
    }
}

/// A delete that prunes the directory which it emptied, while an upload is about to put a file there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_a_directory_never_loses_an_upload_into_it() {
    let gateway = Arc::new(TestGateway::with_bucket().await);
    let mut tasks = JoinSet::new();
    for writer in 0..4 {
        let gateway = gateway.clone();
        tasks.spawn(async move {
            let mut connection = gateway.connect().await;
            for _ in 0..40 {
                let target = format!("/bkt/deep/er/{writer}");
                assert_eq!(
                    connection
                        .ask(&Request::put(&target).body(target.as_bytes()))
                        .await
                        .status,
                    200
                );
                let answer = connection.ask(&Request::get(&target)).await;
                assert_eq!((answer.status, &*answer.body), (200, target.as_bytes()));
                assert_eq!(connection.ask(&Request::delete(&target)).await.status, 204);
            }
        });
    }
    tasks.join_all().await;
    let listed = gateway.does(Request::get("/bkt")).await;
    assert_eq!(listed.text().matches("<Key>").count(), 1, "{listed:?}");
    assert!(!gateway.data().join("bkt/deep").exists(), "an empty directory is left");
}

/// Clients repeat a call whose answer they did not get; told that the upload is gone, they take a finished upload for a
/// failed one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completing_an_upload_again_gives_the_same_answer() {
    let gateway = Arc::new(TestGateway::with_bucket().await);
    let started = gateway.does(Request::post("/bkt/parts?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    let part = gateway
        .does(Request::put(&format!("/bkt/parts?partNumber=1&uploadId={upload}")).body("hello"))
        .await;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").unwrap()
    );
    let complete = Request::post(&format!("/bkt/parts?uploadId={upload}")).document(document);
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (gateway, complete) = (gateway.clone(), complete.clone());
        tasks.spawn(async move { gateway.answer(complete).await });
    }
    let mut tags: Vec<_> = tasks
        .join_all()
        .await
        .iter()
        .map(|answer| (answer.status, answer.element("ETag")))
        .collect();
    let again = gateway.answer(complete).await;
    tags.push((again.status, again.element("ETag")));
    assert_eq!(tags[0].0, 200, "{tags:?}");
    assert!(tags[0].1.as_ref().unwrap().contains("-1"), "{tags:?}");
    tags.dedup();
    assert_eq!(tags.len(), 1, "{tags:?}");
    assert_eq!(gateway.does(Request::get("/bkt/parts")).await.body, b"hello");
}

/// `=`, `+`, `//` and letters beyond ASCII: decoded and encoded once, and never folded.
#[tokio::test]
async fn keys_are_signed_and_stored_letter_by_letter() {
    let gateway = TestGateway::with_bucket().await;
    let keys = [
        "a=b",
        "a+b",
        "a b",
        "a%20b",
        "a//b",
        "/a",
        "a/",
        "//",
        ".",
        "..",
        "./a",
        "a/../b",
        "é",
        "e\u{301}",
        "日本",
        "~*'()!$&,;:@",
    ];
    for key in keys {
        let target = format!("/bkt/{}", t2gate::sigv4::client::encode_path(key));
        gateway.does(Request::put(&target).body(key)).await;
    }
    for key in keys {
        let target = format!("/bkt/{}", t2gate::sigv4::client::encode_path(key));
        assert_eq!(gateway.does(Request::get(&target)).await.body, key.as_bytes(), "{key}");
    }
    let listed = gateway.does(Request::get("/bkt")).await;
    assert_eq!(listed.text().matches("<Key>").count(), keys.len() + 1, "{listed:?}");
    // Less encoded than Amazon would, which clients may do: the same key, and the signature holds.
    let head = head_of(&Request::get("/bkt/a%3Db"), &gateway.host());
    let plain = head.replace("a%3Db", "a=b");
    let mut connection = gateway.connect().await;
    connection.send(plain.as_bytes()).await;
    assert_eq!(connection.answer_to("GET").await.body, b"a=b");
    // Letters that are not encoded at all.
    let raw = head_of(&Request::get("/bkt/%C3%A9"), &gateway.host()).replace("%C3%A9", "é");
    let mut connection = gateway.connect().await;
    connection.send(raw.as_bytes()).await;
    let answer = connection.answer_to("GET").await;
    assert!(answer.status == 400 || answer.body == "é".as_bytes(), "{answer:?}");
}

/// The copy and its source are one object; emptied before it is read, it is lost.
#[tokio::test]
async fn copying_an_object_onto_itself_loses_nothing() {
    let gateway = TestGateway::with_bucket().await;
    let copy = || Request::put("/bkt/known").header("x-amz-copy-source", "/bkt/known");
    gateway.refuses(copy(), 400, "InvalidRequest").await;
    let replace = copy()
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-colour", "blue");
    gateway.does(replace).await;
    let answer = gateway.does(Request::get("/bkt/known")).await;
    assert_eq!(
        (&*answer.body, answer.header("x-amz-meta-colour")),
        (KNOWN, Some("blue"))
    );
    let checksum = copy().header("x-amz-checksum-algorithm", "SHA256");
    assert!(matches!(gateway.answer(checksum).await.status, 200 | 400));
    gateway.still_answers().await;
}

/// A key is a name and no path: neither `..` nor a symbolic link leads out of the bucket, and what the gateway keeps
/// for itself is no object.
#[tokio::test]
async fn no_key_leads_out_of_its_bucket() {
    let gateway = TestGateway::with_bucket().await;
    let outside = gateway.data().parent().unwrap().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "not yours").unwrap();
    symlink(&outside, gateway.data().join("bkt/link")).unwrap();
    symlink(outside.join("secret"), gateway.data().join("bkt/file")).unwrap();
    symlink("/etc", gateway.data().join("linked-bucket")).unwrap();
    for target in [
        "/bkt/../outside/secret",
        "/bkt/..%2Foutside%2Fsecret",
        "/bkt/../../outside/secret",
        "/bkt/link/secret",
        "/bkt/file",
        "/bkt/../.t2/tls/key.pem",
        "/bkt/..%2F.t2%2Ftls%2Fkey.pem",
        "/bkt/%2Fetc/passwd",
        "/bkt//etc/passwd",
    ] {
        let answer = gateway.answer(Request::get(target)).await;
        assert!(matches!(answer.status, 403 | 404), "{target}: {answer:?}");
        let put = gateway.answer(Request::put(target).body("mine")).await;
        assert!(put.status < 500, "{target}: {put:?}");
        let delete = gateway.answer(Request::delete(target)).await;
        assert!(delete.status < 500, "{target}: {delete:?}");
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"not yours", "{target}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{target}");
    }
    assert!(gateway.data().join(".t2/tls/key.pem").exists());
    for bucket in [
        "/.t2",
        "/.t2/tls/ca.pem",
        "/%2Et2/tls/ca.pem",
        "/../data",
        "/%2E%2E/outside/secret",
        "/linked-bucket/passwd",
        "/.",
    ] {
        for request in [
            Request::get(bucket),
            Request::put(bucket).body("x"),
            Request::delete(bucket),
        ] {
            let answer = gateway.answer(request).await;
            assert!((400..500).contains(&answer.status), "{bucket}: {answer:?}");
        }
    }
    let listed = gateway.does(Request::get("/bkt")).await;
    assert!(!listed.text().contains("secret"), "{listed:?}");
    gateway.still_answers().await;
}

/// Nothing says that it is encrypted when it is not.
#[tokio::test]
async fn encryption_is_refused_and_never_claimed() {
    let gateway = TestGateway::with_bucket().await;
    let put = || Request::put("/bkt/known").body("x");
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        (
            "x-amz-server-side-encryption-customer-key",
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
    ] {
        gateway.refuses(put().header(name, value), 501, "NotImplemented").await;
        gateway
            .refuses(
                Request::post("/bkt/k?uploads").header(name, value),
                501,
                "NotImplemented",
            )
            .await;
        let copy = Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known");
        gateway.refuses(copy.header(name, value), 501, "NotImplemented").await;
    }
    let kms = put().header("x-amz-server-side-encryption", "aws:kms");
    gateway.refuses(kms, 400, "InvalidEncryptionAlgorithmError").await;
    let code = "ServerSideEncryptionConfigurationNotFoundError";
    gateway.refuses(Request::get("/bkt?encryption"), 404, code).await;
    let answer = gateway.does(Request::get("/bkt/known")).await;
    assert_eq!(answer.header("x-amz-server-side-encryption"), None);
    let versioning = gateway.does(Request::get("/bkt?versioning")).await;
    assert!(!versioning.text().contains("<Status>"), "{versioning:?}");
}

/// Readers see one write or another, and never the size of one with the bytes of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overwrites_and_deletes_of_one_key_never_mix() {
    let gateway = Arc::new(TestGateway::with_bucket().await);
    let mut tasks = JoinSet::new();
    for writer in 0..3_u8 {
        let gateway = gateway.clone();
        tasks.spawn(async move {
            let mut connection = gateway.connect().await;
            for round in 0..30_usize {
                let body = vec![b'a' + writer; 1 + (round * 7919 + usize::from(writer) * 50_021) % 200_000];
                assert_eq!(connection.ask(&Request::put("/bkt/mixed").body(body)).await.status, 200);
                if round % 10 == 9 {
                    let status = connection.ask(&Request::delete("/bkt/mixed")).await.status;
                    assert!(matches!(status, 204 | 404), "{status}");
                }
            }
        });
    }
    for _ in 0..2 {
        let gateway = gateway.clone();
        tasks.spawn(async move {
            let mut connection = gateway.connect().await;
            let mut other = gateway.connect().await;
            for _ in 0..60 {
                let answer = connection.ask(&Request::get("/bkt/mixed")).await;
                assert!(matches!(answer.status, 200 | 404), "{answer:?}");
                if answer.status == 200 {
                    use t2gate_backends::{BodySummary, ChecksumAlgorithm};
                    let md5 = BodySummary::of(&answer.body, ChecksumAlgorithm::Crc32).md5;
                    let etag: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(answer.header("etag"), Some(&*format!("\"{etag}\"")));
                    assert!(answer.body.iter().all(|byte| *byte == answer.body[0]));
                }
                let head = other.ask(&Request::head("/bkt/mixed")).await;
                assert!(matches!(head.status, 200 | 404), "{head:?}");
            }
        });
    }
    tasks.join_all().await;
    gateway.still_answers().await;
}

/// Tested, and then published without a lock: two winners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_conditional_writes_one_wins() {
    let gateway = Arc::new(TestGateway::with_bucket().await);
    let race = async |name: &'static str, value: String, target: String| {
        let mut tasks = JoinSet::new();
        for writer in 0..8 {
            let (gateway, target, value) = (gateway.clone(), target.clone(), value.clone());
            tasks.spawn(async move {
                // No two have the same bytes: who writes what was there leaves the tag as it was, and a second one wins.
                let body = format!("{target} {name} by writer {writer}");
                let request = Request::put(&target).body(&body).header(name, &value);
                (gateway.answer(request).await, body)
            });
        }
        let ended = tasks.join_all().await;
        let winners: Vec<_> = ended.iter().filter(|(answer, _)| answer.status == 200).collect();
        assert_eq!(winners.len(), 1, "{name} {target}: {ended:?}");
        assert!(
            ended.iter().all(|(answer, _)| matches!(answer.status, 200 | 409 | 412)),
            "{ended:?}"
        );
        assert_eq!(gateway.does(Request::get(&target)).await.body, winners[0].1.as_bytes());
        winners[0].0.header("etag").unwrap().to_owned()
    };
    for round in 0..4 {
        let target = format!("/bkt/new-{round}");
        let etag = race("if-none-match", "*".to_owned(), target.clone()).await;
        race("if-match", etag, target).await;
    }
}
