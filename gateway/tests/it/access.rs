//! Who may do what: capabilities, restricted keys, other accounts, nobody.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::{APP, BLIND, CREATOR, INSIDE, KNOWN, OTHER, Request, SECRET, TestGateway, TestKey};

const CAPABILITIES: [&str; 17] = [
    "listBuckets",
    "readBuckets",
    "writeBuckets",
    "deleteBuckets",
    "readBucketEncryption",
    "writeBucketEncryption",
    "readBucketRetentions",
    "writeBucketRetentions",
    "listFiles",
    "readFiles",
    "writeFiles",
    "deleteFiles",
    "readFileRetentions",
    "writeFileRetentions",
    "readFileLegalHolds",
    "writeFileLegalHolds",
    "bypassGovernance",
];

fn named(id: String) -> TestKey {
    TestKey {
        id: id.leak(),
        secret: SECRET,
    }
}

fn only(capability: &str) -> TestKey {
    named(format!("only-{capability}"))
}

fn without(capability: &str) -> TestKey {
    named(format!("without-{capability}"))
}

/// For each capability a key that has it alone, and one that has all the others.
async fn gateway_with_a_key_for_each_capability(storage: &str) -> TestGateway {
    let mut keys = String::new();
    for capability in CAPABILITIES {
        let others = CAPABILITIES
            .into_iter()
            .filter(|other| *other != capability)
            .collect::<Vec<_>>();
        for (key, capabilities) in [(only(capability), vec![capability]), (without(capability), others)] {
            keys += &format!(
                "[[account.key]]\nid = {:?}\nsecret = \"SECRET\"\nkind = \"global\"\ncapabilities = {capabilities:?}\n",
                key.id
            );
        }
    }
    let gateway = TestGateway::storing(storage, "", &keys).await;
    gateway.make_bucket().await;
    gateway
}

/// What it takes to do it, each time from the same beginning.
struct Row {
    prepare: Vec<Request>,
    request: Request,
    needs: &'static [&'static str],
}

fn row(request: Request, needs: &'static [&'static str]) -> Row {
    Row {
        prepare: Vec::new(),
        request,
        needs,
    }
}

fn after(prepare: Request, request: Request, needs: &'static [&'static str]) -> Row {
    Row {
        prepare: vec![prepare],
        request,
        needs,
    }
}

#[tokio::test]
async fn each_operation_takes_its_capabilities_and_no_other() {
    let gateway = gateway_with_a_key_for_each_capability("fs").await;
    let started = gateway.does(Request::post("/bkt/parts?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    let acl = |target| Request::put(target).header("x-amz-acl", "private");
    let known = || Request::put("/bkt/k").body("x");
    let rows = vec![
        row(Request::get("/"), &["listBuckets"]),
        row(Request::put("/another"), &["writeBuckets"]),
        after(Request::put("/gone"), Request::delete("/gone"), &["deleteBuckets"]),
        row(Request::head("/bkt"), &[]),
        row(Request::get("/bkt?location"), &["readBuckets"]),
        row(Request::get("/bkt?acl"), &["readBuckets"]),
        row(Request::get("/bkt?versioning"), &["readBuckets"]),
        row(Request::get("/bkt?cors"), &["readBuckets"]),
        row(Request::get("/bkt?lifecycle"), &["readBuckets"]),
        row(Request::get("/bkt?policy"), &["readBuckets"]),
        row(Request::get("/bkt?encryption"), &["readBucketEncryption"]),
        row(Request::get("/bkt?object-lock"), &["readBucketRetentions"]),
        row(acl("/bkt?acl"), &["writeBuckets"]),
        row(Request::get("/bkt"), &["listFiles"]),
        row(Request::get("/bkt?list-type=2"), &["listFiles"]),
        row(Request::get("/bkt?versions"), &["listFiles"]),
        row(Request::get("/bkt?uploads"), &["listFiles"]),
        row(Request::get("/bkt/known"), &["readFiles"]),
        row(Request::head("/bkt/known"), &["readFiles"]),
        row(Request::get("/bkt/known?acl"), &["readFiles"]),
        row(Request::get("/bkt/known?tagging"), &["readFiles"]),
        row(
            Request::get("/bkt/known?attributes").header("x-amz-object-attributes", "ETag"),
            &["readFiles"],
        ),
        row(Request::get("/bkt/known?legal-hold"), &["readFileLegalHolds"]),
        row(Request::get("/bkt/known?retention"), &["readFileRetentions"]),
        after(Request::delete("/bkt/k"), known(), &["writeFiles"]),
        after(known(), known(), &["writeFiles", "deleteFiles"]),
        after(known(), Request::delete("/bkt/k"), &["writeFiles", "deleteFiles"]),
        after(known(), Request::delete("/bkt/k?versionId=null"), &["deleteFiles"]),
        row(acl("/bkt/known?acl"), &["writeFiles"]),
        after(
            Request::delete("/bkt/k"),
            Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known"),
            &["writeFiles", "readFiles"],
        ),
        after(
            known(),
            Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known"),
            &["writeFiles", "readFiles", "deleteFiles"],
        ),
        row(Request::post("/bkt/more?uploads"), &["writeFiles"]),
        row(
            Request::put(&format!("/bkt/parts?partNumber=1&uploadId={upload}")).body("x"),
            &["writeFiles"],
        ),
        row(
            Request::put(&format!("/bkt/parts?partNumber=1&uploadId={upload}"))
                .header("x-amz-copy-source", "/bkt/known"),
            &["writeFiles", "readFiles"],
        ),
        row(Request::get(&format!("/bkt/parts?uploadId={upload}")), &["writeFiles"]),
    ];
    check(&gateway, rows).await;
}

/// Where versions are kept it takes less to overwrite, and more to stop keeping them.
#[tokio::test]
async fn operations_on_versions_take_their_capabilities_and_no_other() {
    let gateway = gateway_with_a_key_for_each_capability("memory").await;
    gateway.does(Request::put("/kept")).await;
    let stored = gateway.does(Request::put("/kept/k").body("x")).await;
    let by_id = format!("/kept/k?versionId={}", stored.header("x-amz-version-id").unwrap());
    let set = |status: &str| {
        let document = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        Request::put("/kept?versioning").document(document)
    };
    let over = || Request::put("/kept/k").body("x");
    let rows = vec![
        row(over(), &["writeFiles"]),
        row(
            Request::put("/kept/copy").header("x-amz-copy-source", "/kept/k"),
            &["writeFiles", "readFiles"],
        ),
        after(over(), Request::delete("/kept/k"), &["writeFiles"]),
        row(Request::get(&by_id), &["readFiles"]),
        row(Request::get(&format!("{by_id}&acl")), &["readFiles"]),
        row(
            Request::put("/kept/copy").header("x-amz-copy-source", &by_id),
            &["writeFiles", "readFiles"],
        ),
        row(Request::get("/kept?versions"), &["listFiles"]),
        row(Request::get("/kept?versioning"), &["readBuckets"]),
        row(set("Enabled"), &["writeBuckets"]),
        row(set("Suspended"), &["writeBuckets", "deleteFiles"]),
    ];
    check(&gateway, rows).await;
}

/// Each row with every key of one capability, and of all but one.
async fn check(gateway: &TestGateway, rows: Vec<Row>) {
    for row in rows {
        let mut connection = gateway.connect().await;
        for capability in CAPABILITIES {
            for (key, allowed) in [
                (without(capability), !row.needs.contains(&capability)),
                (only(capability), row.needs.iter().all(|needed| *needed == capability)),
            ] {
                for request in &row.prepare {
                    connection.ask(request).await;
                }
                let request = row.request.clone().by(key);
                let answer = connection.ask(&request).await;
                let asked = format!("{} {}?{} by {}", request.method, request.path, request.query, key.id);
                assert_ne!(answer.status, 401, "{asked}: {answer:?}");
                assert_eq!(answer.status != 403, allowed, "{asked}: {answer:?}");
                if !allowed && key.id.starts_with("without") && request.method != "HEAD" {
                    let message = answer.element("Message").unwrap();
                    assert!(message.contains(capability), "{asked}: {message}");
                }
                if answer.closes() {
                    connection = gateway.connect().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_cannot_delete_can_create_and_never_replace() {
    let gateway = TestGateway::with_bucket().await;
    let source = ("x-amz-copy-source", "/bkt/known");
    gateway.does(Request::put("/bkt/new").body("x").by(CREATOR)).await;
    gateway
        .does(Request::put("/bkt/copy").header(source.0, source.1).by(CREATOR))
        .await;
    for request in [
        Request::put("/bkt/known").body("x"),
        Request::put("/bkt/known").body("x").header("if-match", "*"),
        Request::put("/bkt/new").header(source.0, source.1),
        Request::put("/bkt/known")
            .header(source.0, source.1)
            .header("x-amz-metadata-directive", "REPLACE"),
        Request::delete("/bkt/known"),
        Request::delete("/bkt/known?versionId=null"),
        Request::put("/bkt/known")
            .streamed("x", crate::support::Streamed::Unsigned)
            .chunked(10),
    ] {
        gateway.refuses(request.by(CREATOR), 403, "AccessDenied").await;
    }
    let own = Request::put("/bkt/known").body("x").header("if-none-match", "*");
    gateway.refuses(own.by(CREATOR), 412, "PreconditionFailed").await;
    // In a bulk delete, each key is judged.
    let delete = "<Delete><Object><Key>known</Key></Object><Object><Key>new</Key></Object></Delete>";
    let answer = gateway
        .does(Request::post("/bkt?delete").document(delete).by(CREATOR))
        .await;
    assert_eq!(
        answer.text().matches("<Code>AccessDenied</Code>").count(),
        2,
        "{answer:?}"
    );
    // An upload in parts that would end in an object that is there by then.
    let started = gateway.does(Request::post("/bkt/known?uploads").by(CREATOR)).await;
    let upload = started.element("UploadId").unwrap();
    let part = Request::put(&format!("/bkt/known?partNumber=1&uploadId={upload}"))
        .body("x")
        .by(CREATOR);
    let etag = gateway.does(part).await.header("etag").unwrap().to_owned();
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let complete = Request::post(&format!("/bkt/known?uploadId={upload}")).document(document);
    gateway.refuses(complete.by(CREATOR), 403, "AccessDenied").await;
    gateway.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_creators_one_wins_and_nobody_is_replaced() {
    let gateway = Arc::new(TestGateway::with_bucket().await);
    for round in 0..5 {
        let mut tasks = JoinSet::new();
        for writer in 0..8 {
            let gateway = gateway.clone();
            tasks.spawn(async move {
                let body = format!("writer {writer}").repeat(1 + writer * 5_000);
                let request = Request::put(&format!("/bkt/raced-{round}")).body(&body).by(CREATOR);
                let answer = gateway.answer(request).await;
                (answer.status, body)
            });
        }
        let ended = tasks.join_all().await;
        let mut winners = ended.iter().filter(|(status, _)| *status == 200);
        let winner = winners.next().expect("one wins");
        assert!(winners.next().is_none(), "two win");
        assert!(ended.iter().all(|(status, _)| matches!(status, 200 | 403)));
        let is = gateway.does(Request::get(&format!("/bkt/raced-{round}"))).await;
        assert!(is.body == winner.1.as_bytes());
    }
}

#[tokio::test]
async fn whether_a_missing_key_is_told_depends_on_list_files_alone() {
    let gateway = TestGateway::with_bucket().await;
    for request in [
        Request::get("/bkt/missing"),
        Request::head("/bkt/missing"),
        Request::get("/bkt/missing?acl"),
        Request::get("/bkt/missing?tagging"),
        Request::get("/bkt/missing?versionId=null"),
        Request::get("/bkt/missing?attributes").header("x-amz-object-attributes", "ETag"),
        Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/missing"),
        Request::delete("/bkt/missing"),
    ] {
        let code = if request.query.contains("versionId") {
            "NoSuchVersion"
        } else {
            "NoSuchKey"
        };
        gateway.refuses(request.clone(), 404, code).await;
        gateway.refuses(request.by(BLIND), 403, "AccessDenied").await;
    }
    gateway.does(Request::get("/bkt/known").by(BLIND)).await;
    gateway.does(Request::put("/bkt/k").body("x").by(BLIND)).await;
    gateway.does(Request::delete("/bkt/k").by(BLIND)).await;
}

#[tokio::test]
async fn a_restricted_key_learns_nothing_of_what_it_cannot_reach() {
    let gateway = TestGateway::with_bucket().await;
    gateway.does(Request::put("/beside")).await;
    gateway.does(Request::put("/beside/in/k").body("x")).await;
    gateway.does(Request::put("/bkt/in/k").body("inside").by(INSIDE)).await;
    gateway.does(Request::get("/bkt/in/k").by(INSIDE)).await;
    gateway.does(Request::get("/bkt?prefix=in%2F").by(INSIDE)).await;
    gateway
        .does(Request::get("/bkt?list-type=2&prefix=in%2Fdeeper&delimiter=%2F").by(INSIDE))
        .await;
    gateway.does(Request::get("/bkt?uploads&prefix=in%2F").by(INSIDE)).await;
    gateway.does(Request::get("/bkt?location").by(INSIDE)).await;
    let source = |request: Request, source| request.header("x-amz-copy-source", source);
    for request in [
        Request::get("/bkt/known"),
        Request::get("/bkt/not-there"),
        Request::head("/bkt/known"),
        Request::put("/bkt/out").body("x"),
        Request::put("/bkt/in").body("x"),
        Request::put("/bkt/IN/k").body("x"),
        Request::put("/bkt//in/k").body("x"),
        Request::put("/bkt/./in/k").body("x"),
        Request::delete("/bkt/known"),
        Request::get("/bkt"),
        Request::get("/bkt?prefix=in"),
        Request::get("/bkt?prefix="),
        Request::get("/bkt?list-type=2&prefix=i"),
        Request::get("/bkt?uploads"),
        Request::post("/bkt/out?uploads"),
        Request::get("/beside/in/k"),
        Request::put("/beside/in/k").body("x"),
        Request::get("/beside?prefix=in%2F"),
        Request::head("/beside"),
        Request::get("/not-there-at-all/in/k"),
        Request::head("/not-there-at-all"),
        Request::put("/third-bucket"),
        Request::delete("/beside"),
        source(Request::put("/bkt/in/copy"), "/bkt/known"),
        source(Request::put("/bkt/in/copy"), "/beside/in/k"),
        source(Request::put("/bkt/in/copy"), "/not-there-at-all/in/k"),
        source(Request::put("/bkt/out"), "/bkt/in/k"),
    ] {
        gateway.refuses(request.by(INSIDE), 403, "AccessDenied").await;
    }
    // `..` is part of a name and leads nowhere.
    gateway
        .does(Request::put("/bkt/in/../known").body("a key of its own").by(INSIDE))
        .await;
    assert_eq!(gateway.does(Request::get("/bkt/known")).await.body, KNOWN);
    let buckets = gateway.does(Request::get("/").by(INSIDE)).await;
    assert!(
        buckets.text().contains("bkt") && !buckets.text().contains("beside"),
        "{buckets:?}"
    );
    let delete = "<Delete><Object><Key>known</Key></Object><Object><Key>in/k</Key></Object></Delete>";
    let answer = gateway
        .does(Request::post("/bkt?delete").document(delete).by(INSIDE))
        .await;
    assert!(answer.text().contains("<Deleted><Key>in/k</Key>"), "{answer:?}");
    assert!(answer.text().contains("<Error><Key>known</Key>"), "{answer:?}");
    gateway.still_answers().await;
}

#[tokio::test]
async fn another_accounts_bucket_is_closed_but_for_public_reads() {
    let gateway = TestGateway::with_bucket().await;
    let started = gateway.does(Request::post("/bkt/parts?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    gateway.does(Request::put("/theirs").by(OTHER)).await;
    let requests = || {
        [
            Request::head("/bkt"),
            Request::delete("/bkt"),
            Request::get("/bkt"),
            Request::get("/bkt?acl"),
            Request::put("/bkt?acl").header("x-amz-acl", "public-read"),
            Request::get("/bkt?policy"),
            Request::get("/bkt/known?acl"),
            Request::put("/bkt/k").body("x"),
            Request::put("/bkt/known").body("x"),
            Request::delete("/bkt/known"),
            Request::post("/bkt/k?uploads"),
            Request::get("/bkt?uploads"),
            Request::put(&format!("/bkt/parts?partNumber=1&uploadId={upload}")).body("x"),
            Request::get(&format!("/bkt/parts?uploadId={upload}")),
            Request::delete(&format!("/bkt/parts?uploadId={upload}")),
            Request::post("/bkt?delete").document("<Delete><Object><Key>known</Key></Object></Delete>"),
        ]
    };
    let reads = [
        Request::get("/bkt/known"),
        Request::head("/bkt/known"),
        Request::put("/theirs/k").header("x-amz-copy-source", "/bkt/known"),
    ];
    for request in requests().into_iter().chain(reads.clone()) {
        gateway.refuses(request.by(OTHER), 403, "AccessDenied").await;
    }
    gateway
        .refuses(Request::get("/bkt/missing").by(OTHER), 403, "AccessDenied")
        .await;
    gateway
        .refuses(Request::put("/bkt").by(OTHER), 409, "BucketAlreadyExists")
        .await;
    gateway
        .refuses(Request::put("/bkt"), 409, "BucketAlreadyOwnedByYou")
        .await;

    gateway
        .does(Request::put("/bkt?acl").header("x-amz-acl", "public-read"))
        .await;
    for request in requests() {
        gateway.refuses(request.by(OTHER), 403, "AccessDenied").await;
    }
    for request in reads {
        gateway.does(request.by(OTHER)).await;
    }
    gateway
        .refuses(Request::get("/bkt/missing").by(OTHER), 404, "NoSuchKey")
        .await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn nobody_reads_what_is_public_and_does_nothing_else() {
    let gateway = TestGateway::with_bucket().await;
    let all = || {
        [
            Request::get("/"),
            Request::get("/bkt"),
            Request::head("/bkt"),
            Request::get("/bkt?acl"),
            Request::get("/bkt?location"),
            Request::get("/bkt/known?acl"),
            Request::get("/bkt/known?attributes").header("x-amz-object-attributes", "ETag"),
            Request::put("/bkt/k").body("x"),
            Request::put("/bkt/known").body("x"),
            Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known"),
            Request::put("/new-bucket"),
            Request::delete("/bkt/known"),
            Request::delete("/bkt"),
            Request::post("/bkt/k?uploads"),
            Request::post("/bkt?delete").document("<Delete><Object><Key>known</Key></Object></Delete>"),
        ]
    };
    for request in all()
        .into_iter()
        .chain([Request::get("/bkt/known"), Request::get("/bkt/missing")])
    {
        let answer = gateway.refuses(request.clone().anonymous(), 401, "AccessDenied").await;
        assert_eq!(answer.header("www-authenticate"), Some("AWS4-HMAC-SHA256"));
        // From which clients find the region to sign for.
        if request.path != "/" {
            assert_eq!(answer.header("x-amz-bucket-region"), Some("us-east-1"), "{answer:?}");
        }
    }
    gateway
        .does(Request::put("/bkt?acl").header("x-amz-acl", "public-read"))
        .await;
    for request in all() {
        gateway.refuses(request.anonymous(), 401, "AccessDenied").await;
    }
    assert_eq!(gateway.does(Request::get("/bkt/known").anonymous()).await.body, KNOWN);
    assert_eq!(
        gateway
            .does(Request::head("/bkt/known").anonymous())
            .await
            .header("content-length"),
        Some("16")
    );
    gateway
        .refuses(Request::get("/bkt/missing").anonymous(), 404, "NoSuchKey")
        .await;
    gateway
        .refuses(Request::head("/bkt/missing").anonymous(), 404, "NoSuchKey")
        .await;
    let overrides = Request::get("/bkt/known?response-content-type=text%2Fhtml");
    gateway
        .refuses(overrides.clone().anonymous(), 400, "InvalidRequest")
        .await;
    assert_eq!(gateway.does(overrides).await.header("content-type"), Some("text/html"));
    gateway.still_answers().await;
}

#[tokio::test]
async fn the_expected_owner_has_to_be_the_owner() {
    let gateway = TestGateway::with_bucket().await;
    let expects = |request: Request, owner: &str| request.header("x-amz-expected-bucket-owner", owner);
    for request in [
        Request::get("/bkt/known"),
        Request::put("/bkt/known").body("x"),
        Request::delete("/bkt/known"),
        Request::head("/bkt"),
        Request::get("/bkt"),
        Request::delete("/bkt"),
        Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known"),
    ] {
        gateway.refuses(expects(request, "other"), 403, "AccessDenied").await;
    }
    gateway.does(expects(Request::get("/bkt/known"), "acme")).await;
    let copy = |owner: &str| {
        let request = Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known");
        request.header("x-amz-source-expected-bucket-owner", owner)
    };
    gateway.refuses(copy("other"), 403, "AccessDenied").await;
    gateway.does(copy("acme")).await;
    // Moved into a presigned URL it still counts.
    let presigned = Request::put("/bkt/known?x-amz-expected-bucket-owner=other")
        .presigned()
        .body("x");
    gateway.refuses(presigned.by(APP), 403, "AccessDenied").await;
    gateway.still_answers().await;
}
