//! Who may do what where versions are kept.

use super::{AWS, ENABLED, STORAGE, SUSPENDED, entries, gateway, id, in_both_dialects, put, read, set, versions};
use crate::support::{BLIND, CREATOR, INSIDE, KNOWN, OTHER, Request, SECRET, TestGateway, TestKey};

#[tokio::test]
async fn a_key_that_cannot_destroy_overwrites_and_deletes_where_all_is_kept() {
    for gateway in in_both_dialects().await {
        let known = id(&gateway.does(Request::head("/bkt/known")).await);
        let source = ("x-amz-copy-source", "/bkt/known");
        gateway.does(Request::put("/bkt/known").body("mine").by(CREATOR)).await;
        gateway
            .does(
                Request::put("/bkt/known")
                    .body("mine")
                    .header("if-match", "*")
                    .by(CREATOR),
            )
            .await;
        gateway.does(Request::put("/bkt/k").body("x").by(CREATOR)).await;
        gateway
            .does(Request::put("/bkt/k").header(source.0, source.1).by(CREATOR))
            .await;
        let started = gateway.does(Request::post("/bkt/k?uploads").by(CREATOR)).await;
        let upload = started.element("UploadId").unwrap();
        let part = Request::put(&format!("/bkt/k?partNumber=1&uploadId={upload}")).body("x");
        let etag = gateway.does(part.by(CREATOR)).await.header("etag").unwrap().to_owned();
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
             </CompleteMultipartUpload>"
        );
        let complete = Request::post(&format!("/bkt/k?uploadId={upload}")).document(document);
        gateway.does(complete.by(CREATOR)).await;
        let marker = id(&gateway.does(Request::delete("/bkt/k").by(CREATOR)).await);
        let bulk = "<Delete><Object><Key>known</Key></Object></Delete>";
        let deleted = gateway
            .does(Request::post("/bkt?delete").document(bulk).by(CREATOR))
            .await;
        assert!(
            deleted.text().contains("<DeleteMarker>true</DeleteMarker>"),
            "{deleted:?}"
        );
        assert_eq!(
            read(&gateway, &format!("/bkt/known?versionId={known}"))
                .await
                .as_bytes(),
            KNOWN
        );

        let before = versions(&gateway, "").await;
        for request in [
            Request::delete(&format!("/bkt/known?versionId={known}")),
            Request::delete(&format!("/bkt/k?versionId={marker}")),
            Request::delete("/bkt/k?versionId=null"),
            set("bkt", SUSPENDED),
            set("bkt", ENABLED),
        ] {
            gateway.refuses(request.by(CREATOR), 403, "AccessDenied").await;
        }
        let bulk = format!("<Delete><Object><Key>known</Key><VersionId>{known}</VersionId></Object></Delete>");
        let refused = gateway
            .does(Request::post("/bkt?delete").document(bulk).by(CREATOR))
            .await;
        assert!(refused.text().contains("<Code>AccessDenied</Code>"), "{refused:?}");
        assert_eq!(versions(&gateway, "").await, before);

        // Suspended, the null version is what a write replaces.
        gateway.does(set("bkt", SUSPENDED)).await;
        put(&gateway, "/bkt/n", "null").await;
        for request in [
            Request::put("/bkt/n").body("x"),
            Request::put("/bkt/n").body("x").header("if-match", "*"),
            Request::put("/bkt/n").header("x-amz-copy-source", format!("/bkt/known?versionId={known}")),
            Request::delete("/bkt/n"),
        ] {
            let answer = gateway.refuses(request.by(CREATOR), 403, "AccessDenied").await;
            assert!(answer.text().contains("deleteFiles"), "{answer:?}");
        }
        assert_eq!(read(&gateway, "/bkt/n").await, "null");
        let made = Request::put("/bkt/new").body("x").by(CREATOR);
        assert_eq!(id(&gateway.does(made).await), "null");
        // Its null version is kept under a newer one.
        gateway.does(set("bkt", ENABLED)).await;
        put(&gateway, "/bkt/n", "newer").await;
        gateway.does(set("bkt", SUSPENDED)).await;
        let over = Request::put("/bkt/n").body("x").by(CREATOR);
        gateway.refuses(over, 403, "AccessDenied").await;
        assert_eq!(read(&gateway, "/bkt/n?versionId=null").await, "null");
    }
}

/// A refusal that is certain comes before the body; one that is not certain does not.
#[tokio::test]
async fn a_writer_learns_before_its_body_what_is_certain() {
    let gateway = gateway("").await;
    let asks = async |request: Request| {
        let (head, _) = request.header("expect", "100-continue").signed(&gateway.host());
        let mut connection = gateway.connect().await;
        connection.send(&head).await;
        connection.answer_to("PUT").await.status
    };
    let over = || Request::put("/bkt/known").body("x");
    assert_eq!(asks(over().by(CREATOR)).await, 100);
    assert_eq!(asks(over().header("if-none-match", "*").by(CREATOR)).await, 412);
    gateway.does(Request::delete("/bkt/known")).await;
    assert_eq!(asks(over().header("if-none-match", "*").by(CREATOR)).await, 100);
    assert_eq!(asks(over().header("if-match", "*").by(CREATOR)).await, 404);
    gateway.does(set("bkt", SUSPENDED)).await;
    assert_eq!(asks(over().by(CREATOR)).await, 100);
    put(&gateway, "/bkt/known", "null").await;
    assert_eq!(asks(over().by(CREATOR)).await, 403);
    assert_eq!(asks(over()).await, 100);
    // The null version under a newer one goes too, but that is not looked for yet.
    gateway.does(set("bkt", ENABLED)).await;
    put(&gateway, "/bkt/known", "newer").await;
    gateway.does(set("bkt", SUSPENDED)).await;
    assert_eq!(asks(over().by(CREATOR)).await, 100);
}

#[tokio::test]
async fn who_cannot_list_does_not_learn_of_markers() {
    for gateway in in_both_dialects().await {
        let marker = id(&gateway.does(Request::delete("/bkt/known")).await);
        let by_id = format!("/bkt/known?versionId={marker}");
        for request in [
            Request::get("/bkt/known"),
            Request::head("/bkt/known"),
            Request::get("/bkt/known?acl"),
            Request::get(&by_id),
            Request::head(&by_id),
            Request::get("/bkt/known?versionId=never-given"),
            Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known"),
            Request::put("/bkt/k").header("x-amz-copy-source", &by_id),
        ] {
            let answer = gateway.refuses(request.by(BLIND), 403, "AccessDenied").await;
            for name in ["x-amz-delete-marker", "x-amz-version-id", "last-modified", "allow"] {
                assert_eq!(answer.header(name), None, "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn everybody_reads_the_versions_of_what_is_public_and_lists_them_as_objects_are_listed() {
    let [t2, aws] = in_both_dialects().await;
    for (gateway, may_list) in [(&t2, false), (&aws, true)] {
        let old = id(&gateway.does(Request::head("/bkt/known")).await);
        let marker = id(&gateway.does(Request::delete("/bkt/known")).await);
        let by_id = || Request::get(&format!("/bkt/known?versionId={old}"));
        assert!(matches!(gateway.answer(by_id().anonymous()).await.status, 401 | 403));
        gateway
            .does(Request::put("/bkt?acl").header("x-amz-acl", "public-read"))
            .await;
        assert_eq!(gateway.does(by_id().anonymous()).await.body, KNOWN);
        assert_eq!(gateway.does(by_id().by(OTHER)).await.body, KNOWN);
        // That it was deleted is for those to know who may list.
        let by_name = Request::get("/bkt/known");
        let by_marker = Request::get(&format!("/bkt/known?versionId={marker}"));
        let copy = Request::put("/mine/k")
            .header("x-amz-copy-source", "/bkt/known")
            .by(OTHER);
        gateway.does(Request::put("/mine").by(OTHER)).await;
        let gone = (404, "NoSuchKey");
        let refused = if may_list {
            (405, "MethodNotAllowed")
        } else {
            (404, "NoSuchVersion")
        };
        for (request, (status, code)) in [
            (by_name.clone().anonymous(), gone),
            (by_name.by(OTHER), gone),
            (Request::head("/bkt/known").anonymous(), gone),
            (copy, gone),
            (by_marker.clone().anonymous(), refused),
            (by_marker.by(OTHER), refused),
        ] {
            let answer = gateway.refuses(request, status, code).await;
            let told = may_list.then_some(&*marker);
            assert_eq!(answer.header("x-amz-version-id"), told, "{answer:?}");
            assert_eq!(answer.header("x-amz-delete-marker"), told.map(|_| "true"), "{answer:?}");
            if !may_list {
                assert_eq!((answer.header("last-modified"), answer.header("allow")), (None, None));
            }
        }
        for request in [
            Request::delete(&format!("/bkt/known?versionId={old}")),
            set("bkt", SUSPENDED),
            Request::get("/bkt?versioning"),
        ] {
            let answer = gateway.answer(request.anonymous()).await;
            assert!(matches!(answer.status, 401 | 403), "{answer:?}");
        }
    }
    let list = || Request::get("/bkt?versions").anonymous();
    t2.refuses(list(), 401, "AccessDenied").await;
    assert_eq!(entries(&aws.does(list()).await).len(), 2);
}

/// What is there can be found out by `If-Match` no better than by a read.
#[tokio::test]
async fn a_condition_tells_no_more_than_its_sender_may_know() {
    let writer = TestKey {
        id: "acme-writer",
        secret: SECRET,
    };
    let keys = "[[account.key]]\nid = \"acme-writer\"\nsecret = \"SECRET\"\nkind = \"global\"\n\
                capabilities = [\"writeFiles\", \"deleteFiles\"]\n";
    for dialect in ["", AWS] {
        let gateway = TestGateway::storing(STORAGE, dialect, keys).await;
        gateway.does(Request::put("/bkt")).await;
        gateway.does(set("bkt", ENABLED)).await;
        gateway.does(Request::put("/bkt/known").body(KNOWN)).await;
        put(&gateway, "/bkt/deleted", "x").await;
        gateway.does(Request::delete("/bkt/deleted")).await;
        put(&gateway, "/bkt/source", "x").await;
        let requests = async |key: &str| {
            let path = format!("/bkt/{key}");
            let started = gateway.does(Request::post(&format!("{path}?uploads"))).await;
            let upload = started.element("UploadId").unwrap();
            let part = Request::put(&format!("{path}?partNumber=1&uploadId={upload}")).body("x");
            let etag = gateway.does(part).await.header("etag").unwrap().to_owned();
            let document = format!(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
                 </CompleteMultipartUpload>"
            );
            [
                Request::put(&path).body("x"),
                Request::post(&format!("{path}?uploadId={upload}")).document(document),
                Request::delete(&path),
            ]
            .map(|request| request.header("if-match", "\"0123456789abcdef0123456789abcdef\""))
        };
        for key in ["known", "deleted", "missing"] {
            let copy = Request::put(&format!("/bkt/{key}")).header("x-amz-copy-source", "/bkt/source");
            let copy = copy.header("if-match", "\"0123456789abcdef0123456789abcdef\"");
            let mut answers = Vec::new();
            for request in requests(key).await {
                let by_writer = gateway.refuses(request.clone().by(writer), 403, "AccessDenied").await;
                answers.push(by_writer.text().replace(key, ""));
                let (status, code) = match key {
                    "known" => (412, "PreconditionFailed"),
                    _ => (403, "AccessDenied"),
                };
                gateway.refuses(request.clone().by(BLIND), status, code).await;
                let (status, code) = match key {
                    "known" => (412, "PreconditionFailed"),
                    _ => (404, "NoSuchKey"),
                };
                gateway.refuses(request, status, code).await;
            }
            let (status, code) = match key {
                "known" => (412, "PreconditionFailed"),
                _ => (403, "AccessDenied"),
            };
            gateway.refuses(copy.by(BLIND), status, code).await;
            assert!(answers.iter().all(|text| text.contains("listFiles")), "{answers:?}");
        }
        gateway.still_answers().await;
    }
}

#[tokio::test]
async fn a_restricted_key_lists_the_versions_of_its_own_prefix() {
    let gateway = gateway("").await;
    gateway.does(Request::put("/bkt/in/k").body("x").by(INSIDE)).await;
    let list = gateway
        .does(Request::get("/bkt?versions&prefix=in%2F").by(INSIDE))
        .await;
    assert_eq!(entries(&list).len(), 1);
    for target in ["/bkt?versions", "/bkt?versions&prefix=in", "/bkt?versions&prefix=known"] {
        gateway
            .refuses(Request::get(target).by(INSIDE), 403, "AccessDenied")
            .await;
    }
    let known = id(&gateway.does(Request::head("/bkt/known")).await);
    let by_id = format!("/bkt/known?versionId={known}");
    for request in [
        Request::get(&by_id),
        Request::delete(&by_id),
        Request::put("/bkt/in/k").header("x-amz-copy-source", &by_id),
    ] {
        gateway.refuses(request.by(INSIDE), 403, "AccessDenied").await;
    }
}
