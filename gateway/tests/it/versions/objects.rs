//! Writing, reading and copying versions.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::task::JoinSet;

use super::{AWS, STORAGE, entry, gateway, id, in_both_dialects, put, read, versions, versions_of};
use crate::support::{KNOWN, Request, TestGateway};

#[tokio::test]
async fn each_write_tells_its_version_and_each_version_keeps_its_bytes() {
    for gateway in in_both_dialects().await {
        let mut written = Vec::new();
        for body in ["one", "two two", "three three three"] {
            let stored = gateway
                .does(Request::put("/bkt/k").body(body).header("x-amz-meta-says", body))
                .await;
            written.push((id(&stored), body, stored.header("etag").unwrap().to_owned()));
        }
        for (version, body, etag) in &written {
            for request in [Request::get, Request::head] {
                let got = gateway.does(request(&format!("/bkt/k?versionId={version}"))).await;
                assert_eq!(id(&got), *version);
                assert_eq!(got.header("etag"), Some(&**etag));
                assert_eq!(got.header("content-length"), Some(&*body.len().to_string()));
                assert_eq!(got.header("x-amz-meta-says"), Some(*body));
                assert_eq!(got.header("x-amz-delete-marker"), None);
            }
            assert_eq!(read(&gateway, &format!("/bkt/k?versionId={version}")).await, *body);
        }
        let newest = &written[2].0;
        let distinct: BTreeSet<_> = written.iter().map(|(version, ..)| version).collect();
        assert_eq!(distinct.len(), 3);
        for target in ["/bkt/k", "/bkt/k?acl", "/bkt/k?tagging"] {
            assert_eq!(id(&gateway.does(Request::get(target)).await), *newest, "{target}");
        }
        // Of one version all sub-resources tell.
        let oldest = &written[0].0;
        for sub in ["acl", "tagging"] {
            let answer = gateway
                .does(Request::get(&format!("/bkt/k?{sub}&versionId={oldest}")))
                .await;
            assert_eq!(id(&answer), *oldest, "{sub}");
        }
        let attributes = Request::get(&format!("/bkt/k?attributes&versionId={oldest}"));
        let attributes = gateway
            .does(attributes.header("x-amz-object-attributes", "ObjectSize"))
            .await;
        assert_eq!(id(&attributes), *oldest);
        assert_eq!(attributes.element("ObjectSize").as_deref(), Some("3"));
        let acl = Request::put(&format!("/bkt/k?acl&versionId={oldest}")).header("x-amz-acl", "private");
        assert_eq!(id(&gateway.does(acl).await), *oldest);
        for lock in ["legal-hold", "retention"] {
            let request = Request::get(&format!("/bkt/k?{lock}&versionId={oldest}"));
            gateway.refuses(request, 404, "NoSuchObjectLockConfiguration").await;
        }
        // A conditional read of one version is judged against that version.
        let (version, body, etag) = &written[1];
        let by_id = || Request::get(&format!("/bkt/k?versionId={version}"));
        let unchanged = gateway.answer(by_id().header("if-none-match", etag)).await;
        assert_eq!((unchanged.status, id(&unchanged)), (304, version.clone()));
        let part = gateway.does(by_id().header("range", "bytes=0-2")).await;
        assert_eq!(part.text(), &body[..3]);
    }
}

#[tokio::test]
async fn copies_name_both_versions_and_bring_old_ones_back() {
    for gateway in in_both_dialects().await {
        let first = put(&gateway, "/bkt/k", "first").await;
        let second = put(&gateway, "/bkt/k", "second").await;
        let copy = |to: &str, source: &str| Request::put(to).header("x-amz-copy-source", source);
        let by_name = gateway.does(copy("/bkt/copy", "/bkt/k")).await;
        assert_eq!(by_name.header("x-amz-copy-source-version-id"), Some(&*second));
        assert_eq!(read(&gateway, "/bkt/copy").await, "second");
        let source = format!("/bkt/k?versionId={first}");
        let by_id = gateway.does(copy("/bkt/copy", &source)).await;
        assert_eq!(by_id.header("x-amz-copy-source-version-id"), Some(&*first));
        assert_ne!(id(&by_id), id(&by_name));
        assert_eq!(read(&gateway, "/bkt/copy").await, "first");
        // With another checksum the bytes are streamed.
        let streamed = copy("/bkt/copy", &source).header("x-amz-checksum-algorithm", "SHA256");
        let streamed = gateway.does(streamed).await;
        assert_eq!(streamed.header("x-amz-copy-source-version-id"), Some(&*first));
        assert_eq!(read(&gateway, "/bkt/copy").await, "first");
        // An older version of the same key becomes the newest; the newest itself would be no change.
        gateway.refuses(copy("/bkt/k", "/bkt/k"), 400, "InvalidRequest").await;
        let restored = id(&gateway.does(copy("/bkt/k", &source)).await);
        assert_eq!(read(&gateway, "/bkt/k").await, "first");
        assert_eq!(
            versions_of(&gateway, "k").await,
            [
                entry("Version", "k", &restored, true),
                entry("Version", "k", &second, false),
                entry("Version", "k", &first, false),
            ]
        );
        let changed = copy("/bkt/k", "/bkt/k").header("x-amz-metadata-directive", "REPLACE");
        gateway.does(changed.header("x-amz-meta-a", "b")).await;
        assert_eq!(versions_of(&gateway, "k").await.len(), 4);

        let started = gateway.does(Request::post("/bkt/parts?uploads")).await;
        let upload = started.element("UploadId").unwrap();
        let part = copy(&format!("/bkt/parts?partNumber=1&uploadId={upload}"), &source);
        let part = gateway.does(part).await;
        assert_eq!(part.header("x-amz-copy-source-version-id"), Some(&*first));
        assert_eq!(part.header("x-amz-version-id"), None);
        let etag = part.element("ETag").unwrap();
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
             </CompleteMultipartUpload>"
        );
        let complete = Request::post(&format!("/bkt/parts?uploadId={upload}")).document(document);
        let completed = id(&gateway.does(complete.clone()).await);
        assert_eq!(
            read(&gateway, &format!("/bkt/parts?versionId={completed}")).await,
            "first"
        );
        // Repeated, it made the same version.
        assert_eq!(id(&gateway.does(complete).await), completed);
        gateway.still_answers().await;
    }
}

#[tokio::test]
async fn a_copy_onto_itself_by_the_one_id_that_there_is_changes_nothing_either() {
    let gateway = TestGateway::storing(STORAGE, AWS, "").await;
    gateway.does(Request::put("/bkt")).await;
    gateway.does(Request::put("/bkt/known").body(KNOWN)).await;
    let copy = Request::put("/bkt/known").header("x-amz-copy-source", "/bkt/known?versionId=null");
    gateway.refuses(copy, 400, "InvalidRequest").await;
}

#[tokio::test]
async fn ids_that_name_nothing_are_refused() {
    for gateway in in_both_dialects().await {
        let other = put(&gateway, "/bkt/other", "x").await;
        let started = gateway.does(Request::post("/bkt/parts?uploads")).await;
        let upload = started.element("UploadId").unwrap();
        let requests = |id: &str| {
            let by_id = |sub: &str| format!("/bkt/known?{sub}versionId={id}");
            let copy = |target: &str| Request::put(target).header("x-amz-copy-source", by_id(""));
            [
                Request::get(&by_id("")),
                Request::head(&by_id("")),
                Request::get(&by_id("acl&")),
                Request::get(&by_id("tagging&")),
                Request::get(&by_id("legal-hold&")),
                Request::get(&by_id("attributes&")).header("x-amz-object-attributes", "ETag"),
                copy("/bkt/copy"),
                copy(&format!("/bkt/parts?partNumber=1&uploadId={upload}")),
            ]
        };
        for id in ["", "a%2Fb", "a%20b", "%C3%A4", &"a".repeat(129)] {
            for request in requests(id) {
                gateway.refuses(request, 400, "InvalidArgument").await;
            }
            let delete = Request::delete(&format!("/bkt/known?versionId={id}"));
            gateway.refuses(delete, 400, "InvalidArgument").await;
        }
        let never = "f".repeat(32);
        for id in ["null", "never-given", &other, &never, &"A".repeat(128)] {
            for request in requests(id) {
                gateway.refuses(request, 404, "NoSuchVersion").await;
            }
        }
        for request in [
            Request::put("/bkt/known?versionId=null").body("x"),
            Request::post("/bkt/known?uploads&versionId=null"),
            Request::put("/bkt?versionId=null"),
        ] {
            gateway.refuses(request, 400, "InvalidArgument").await;
        }
        gateway.still_answers().await;
    }
}

#[tokio::test]
async fn a_marker_counts_as_nothing_for_conditions() {
    for gateway in in_both_dialects().await {
        let create = |body: &str| Request::put("/bkt/k").body(body).header("if-none-match", "*");
        gateway.does(create("1")).await;
        gateway.refuses(create("2"), 412, "PreconditionFailed").await;
        gateway.does(Request::delete("/bkt/k")).await;
        let any = || Request::put("/bkt/k").body("3").header("if-match", "*");
        gateway.refuses(any(), 404, "NoSuchKey").await;
        let delete = Request::delete("/bkt/k").header("if-match", "*");
        gateway.refuses(delete, 404, "NoSuchKey").await;
        gateway.does(create("4")).await;
        gateway.does(any()).await;
        // Against the newest alone.
        let first = versions_of(&gateway, "k").await.pop().unwrap().2;
        let etag = gateway.does(Request::head(&format!("/bkt/k?versionId={first}"))).await;
        let etag = etag.header("etag").unwrap();
        let old = Request::put("/bkt/k").body("5").header("if-match", etag);
        gateway.refuses(old, 412, "PreconditionFailed").await;
        assert_eq!(versions_of(&gateway, "k").await.len(), 4);
    }
}

/// Whatever happens to a key at the same time, a version that was acknowledged has its own bytes, and one is the latest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_one_key_never_mix() {
    let gateway = Arc::new(gateway("").await);
    let mut tasks = JoinSet::new();
    for writer in 0..3_u8 {
        let gateway = gateway.clone();
        tasks.spawn(async move {
            let mut connection = gateway.connect().await;
            let mut acknowledged = HashMap::new();
            for round in 0..25_usize {
                let body = vec![b'a' + writer; 1 + (round * 7919 + usize::from(writer) * 50_021) % 100_000];
                let stored = connection.ask(&Request::put("/bkt/mixed").body(&body)).await;
                assert_eq!(stored.status, 200, "{stored:?}");
                assert!(acknowledged.insert(id(&stored), body).is_none());
                let status = match round % 5 {
                    // Of one that is overwritten meanwhile: what was opened is copied.
                    0 | 1 => {
                        let copy = Request::put("/bkt/copied").header("x-amz-copy-source", "/bkt/mixed");
                        connection.ask(&copy).await.status
                    }
                    2 => connection.ask(&Request::delete("/bkt/mixed")).await.status,
                    _ => connection.ask(&Request::get("/bkt?versions&prefix=mixed")).await.status,
                };
                assert!(matches!(status, 200 | 204 | 404), "{status}");
            }
            acknowledged
        });
    }
    let acknowledged: HashMap<_, _> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), 75, "an id came twice");
    let listed = versions(&gateway, "&prefix=mixed").await;
    let kept: BTreeSet<_> = listed.iter().filter(|e| e.0 == "Version").map(|e| &e.2).collect();
    assert_eq!(kept, acknowledged.keys().collect());
    let latest: Vec<_> = listed.iter().map(|e| e.3).collect();
    assert!(latest[0] && !latest[1..].contains(&true), "{latest:?}");
    let mut connection = gateway.connect().await;
    for (version, body) in acknowledged {
        let got = connection
            .ask(&Request::get(&format!("/bkt/mixed?versionId={version}")))
            .await;
        assert!(got.status == 200 && got.body == body, "{version}: {}", got.status);
    }
}
