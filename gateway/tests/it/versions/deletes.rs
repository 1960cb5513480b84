//! Delete markers, and deletes by id.

use super::{entry, id, in_both_dialects, put, read, versions};
use crate::support::Request;

#[tokio::test]
async fn a_delete_by_name_hides_and_a_delete_of_the_marker_brings_back() {
    for gateway in in_both_dialects().await {
        let kept = put(&gateway, "/bkt/k", "kept").await;
        let deleted = gateway.does(Request::delete("/bkt/k")).await;
        assert_eq!(deleted.status, 204);
        assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
        let marker = id(&deleted);

        let by_name = |sub: &str| format!("/bkt/k{sub}");
        let by_id = |sub: &str| format!("/bkt/k?{sub}versionId={marker}");
        let attributes = |target: String| Request::get(&target).header("x-amz-object-attributes", "ETag");
        for request in [
            Request::get(&by_name("")),
            Request::head(&by_name("")),
            Request::get(&by_name("?acl")),
            Request::put(&by_name("?acl")).header("x-amz-acl", "private"),
            Request::get(&by_name("?tagging")),
            Request::get(&by_name("?legal-hold")),
            attributes(by_name("?attributes")),
            Request::put("/bkt/copy").header("x-amz-copy-source", "/bkt/k"),
        ] {
            let answer = gateway.refuses(request, 404, "NoSuchKey").await;
            assert_eq!(answer.header("x-amz-delete-marker"), Some("true"), "{answer:?}");
            assert_eq!(id(&answer), marker);
            assert_eq!(answer.header("last-modified"), None);
        }
        for request in [
            Request::get(&by_id("")),
            Request::head(&by_id("")),
            Request::get(&by_id("acl&")),
            Request::put(&by_id("acl&")).header("x-amz-acl", "private"),
            Request::get(&by_id("tagging&")),
            Request::get(&by_id("retention&")),
            attributes(by_id("attributes&")),
        ] {
            let answer = gateway.refuses(request, 405, "MethodNotAllowed").await;
            assert_eq!(answer.header("x-amz-delete-marker"), Some("true"), "{answer:?}");
            assert_eq!(id(&answer), marker);
            assert_eq!(answer.header("allow"), Some("DELETE"));
            assert!(answer.header("last-modified").is_some());
        }
        let copy = Request::put("/bkt/copy").header("x-amz-copy-source", by_id(""));
        let answer = gateway.refuses(copy, 400, "InvalidRequest").await;
        assert!(answer.text().contains("delete marker by version id"), "{answer:?}");
        assert_eq!(answer.header("x-amz-version-id"), None);

        assert_eq!(read(&gateway, &format!("/bkt/k?versionId={kept}")).await, "kept");
        let list = gateway.does(Request::get("/bkt?list-type=2")).await;
        assert!(!list.text().contains("<Key>k</Key>"), "{list:?}");

        let removed = gateway.does(Request::delete(&by_id(""))).await;
        assert_eq!((removed.status, id(&removed)), (204, marker.clone()));
        assert_eq!(removed.header("x-amz-delete-marker"), Some("true"));
        let back = gateway.does(Request::get("/bkt/k")).await;
        assert_eq!((back.text(), id(&back)), ("kept", kept.clone()));
        // By its id a version is gone, and the next one is the newest.
        let newer = put(&gateway, "/bkt/k", "newer").await;
        let removed = gateway
            .does(Request::delete(&format!("/bkt/k?versionId={newer}")))
            .await;
        assert_eq!(
            (removed.header("x-amz-delete-marker"), id(&removed)),
            (None, newer.clone())
        );
        assert_eq!(read(&gateway, "/bkt/k").await, "kept");
        gateway
            .refuses(Request::get(&format!("/bkt/k?versionId={newer}")), 404, "NoSuchVersion")
            .await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_an_error_in_t2_and_marked_in_aws() {
    let [t2, aws] = in_both_dialects().await;
    let unknown = put(&t2, "/bkt/other", "x").await;
    t2.does(Request::delete("/bkt/known")).await;
    for (request, code) in [
        (Request::delete("/bkt/none"), "NoSuchKey"),
        // There is a marker already.
        (Request::delete("/bkt/known"), "NoSuchKey"),
        (
            Request::delete(&format!("/bkt/known?versionId={unknown}")),
            "NoSuchVersion",
        ),
        (Request::delete("/bkt/known?versionId=null"), "NoSuchVersion"),
        (Request::delete("/bkt/none?versionId=never-given"), "NoSuchVersion"),
    ] {
        let answer = t2.refuses(request, 404, code).await;
        assert_eq!(answer.header("x-amz-version-id"), None, "{answer:?}");
    }
    let listed: Vec<_> = versions(&t2, "")
        .await
        .into_iter()
        .map(|entry| (entry.0, entry.1))
        .collect();
    let known = [("DeleteMarker", "known"), ("Version", "known"), ("Version", "other")];
    assert_eq!(listed, known.map(|(element, key)| (element.to_owned(), key.to_owned())));

    for key in ["none", "known", "known"] {
        let answer = aws.does(Request::delete(&format!("/bkt/{key}"))).await;
        assert_eq!(
            (answer.status, answer.header("x-amz-delete-marker")),
            (204, Some("true"))
        );
        assert_eq!(
            versions(&aws, "").await.iter().filter(|e| e.2 == id(&answer)).count(),
            1
        );
    }
    let before = versions(&aws, "").await;
    assert_eq!(before.len(), 4);
    for target in ["/bkt/known?versionId=null", "/bkt/none?versionId=never-given"] {
        let answer = aws.does(Request::delete(target)).await;
        assert_eq!((answer.status, answer.header("x-amz-delete-marker")), (204, None));
    }
    assert_eq!(versions(&aws, "").await, before);
}

#[tokio::test]
async fn a_bulk_delete_tells_of_versions_and_markers() {
    for gateway in in_both_dialects().await {
        let version = put(&gateway, "/bkt/v", "x").await;
        put(&gateway, "/bkt/m", "x").await;
        let marker = id(&gateway.does(Request::delete("/bkt/m")).await);
        put(&gateway, "/bkt/n", "x").await;
        let document = format!(
            "<Delete><Object><Key>n</Key></Object><Object><Key>v</Key><VersionId>{version}</VersionId></Object>\
             <Object><Key>m</Key><VersionId>{marker}</VersionId></Object>\
             <Object><Key>v</Key><VersionId>never-given</VersionId></Object>\
             <Object><Key>v</Key><VersionId>a/b</VersionId></Object></Delete>"
        );
        let answer = gateway.does(Request::post("/bkt?delete").document(document)).await;
        let added = answer.element("DeleteMarkerVersionId").unwrap();
        let expected = format!(
            "<Deleted><Key>n</Key><DeleteMarker>true</DeleteMarker>\
             <DeleteMarkerVersionId>{added}</DeleteMarkerVersionId></Deleted>\
             <Deleted><Key>v</Key><VersionId>{version}</VersionId></Deleted>\
             <Deleted><Key>m</Key><VersionId>{marker}</VersionId><DeleteMarker>true</DeleteMarker>\
             <DeleteMarkerVersionId>{marker}</DeleteMarkerVersionId></Deleted>\
             <Deleted><Key>v</Key><VersionId>never-given</VersionId></Deleted>\
             <Error><Key>v</Key><VersionId>a/b</VersionId><Code>InvalidArgument</Code>\
             <Message>Invalid version id specified</Message></Error></DeleteResult>"
        );
        assert!(answer.text().ends_with(&expected), "{answer:?}\n{expected}");
        assert_eq!(read(&gateway, "/bkt/m").await, "x");
        gateway.refuses(Request::get("/bkt/v"), 404, "NoSuchKey").await;
        let hidden = gateway.refuses(Request::get("/bkt/n"), 404, "NoSuchKey").await;
        assert_eq!(id(&hidden), added);
    }
}

#[tokio::test]
async fn a_bulk_delete_of_what_is_not_there_is_done_already() {
    let [t2, aws] = in_both_dialects().await;
    let document = "<Delete><Object><Key>none</Key></Object></Delete>";
    let request = || Request::post("/bkt?delete").document(document);
    let answer = t2.does(request()).await;
    assert!(
        answer
            .text()
            .ends_with("<Deleted><Key>none</Key></Deleted></DeleteResult>"),
        "{answer:?}"
    );
    assert_eq!(versions(&t2, "&prefix=none").await, []);
    let answer = aws.does(request()).await;
    let added = answer.element("DeleteMarkerVersionId").unwrap();
    assert_eq!(
        versions(&aws, "&prefix=none").await,
        [entry("DeleteMarker", "none", &added, true)]
    );
}

#[tokio::test]
async fn a_bucket_is_not_empty_while_it_holds_a_version_or_a_marker() {
    for gateway in in_both_dialects().await {
        let known = id(&gateway.does(Request::head("/bkt/known")).await);
        let marker = id(&gateway.does(Request::delete("/bkt/known")).await);
        let answer = gateway.refuses(Request::delete("/bkt"), 409, "BucketNotEmpty").await;
        assert!(answer.text().contains("all versions"), "{answer:?}");
        gateway
            .does(Request::delete(&format!("/bkt/known?versionId={known}")))
            .await;
        gateway.refuses(Request::delete("/bkt"), 409, "BucketNotEmpty").await;
        gateway
            .does(Request::delete(&format!("/bkt/known?versionId={marker}")))
            .await;
        gateway.does(Request::delete("/bkt")).await;
    }
}
