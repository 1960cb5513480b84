//! ListObjectVersions.

use super::{AWS, entries, entry, gateway, id, in_both_dialects, put, versions};
use crate::support::{Answer, KNOWN, Request, TestGateway};

/// Lists by pages of `max_keys` until the end.
async fn pages(gateway: &TestGateway, query: &str, max_keys: usize) -> Vec<Answer> {
    let mut all = Vec::new();
    let mut next = String::new();
    loop {
        let target = format!("/bkt?versions&max-keys={max_keys}{query}{next}");
        let page = gateway.does(Request::get(&target)).await;
        let is_truncated = page.element("IsTruncated").unwrap() == "true";
        assert_eq!(page.element("NextKeyMarker").is_some(), is_truncated, "{page:?}");
        next = page
            .element("NextKeyMarker")
            .map(|key| format!("&key-marker={}", key.replace('/', "%2F")))
            .unwrap_or_default();
        if let Some(version) = page.element("NextVersionIdMarker") {
            next += &format!("&version-id-marker={version}");
        }
        all.push(page);
        assert!(all.len() < 100);
        if !is_truncated {
            return all;
        }
    }
}

#[tokio::test]
async fn every_version_is_listed_once_whatever_the_pages() {
    for gateway in in_both_dialects().await {
        let mut expected = Vec::new();
        for key in ["a/1", "a/2", "b", "known2"] {
            let older = put(&gateway, &format!("/bkt/{key}"), "1").await;
            let newer = put(&gateway, &format!("/bkt/{key}"), "2").await;
            let marker = id(&gateway.does(Request::delete(&format!("/bkt/{key}"))).await);
            expected.extend([
                entry("DeleteMarker", key, &marker, true),
                entry("Version", key, &newer, false),
                entry("Version", key, &older, false),
            ]);
        }
        let known = id(&gateway.does(Request::head("/bkt/known")).await);
        expected.insert(9, entry("Version", "known", &known, true));
        for max_keys in [1, 2, 3, 5, 13, 1000] {
            let pages = pages(&gateway, "", max_keys).await;
            assert_eq!(pages.len(), 13_usize.div_ceil(max_keys), "{max_keys}");
            let listed: Vec<_> = pages.iter().flat_map(entries).collect();
            assert_eq!(listed, expected, "{max_keys}");
        }
        for max_keys in [1, 2, 3] {
            let pages = pages(&gateway, "&delimiter=%2F", max_keys).await;
            let listed: Vec<_> = pages.iter().flat_map(entries).collect();
            assert_eq!(listed, expected[6..], "{max_keys}");
            let prefixes = pages.iter().filter(|page| page.text().contains("<CommonPrefixes>"));
            assert_eq!(prefixes.count(), 1);
        }
        let first = pages(&gateway, "&delimiter=%2F", 1).await.remove(0);
        assert_eq!(first.element("NextKeyMarker").as_deref(), Some("a/"));
        assert_eq!(first.element("NextVersionIdMarker"), None);
        let inside: Vec<_> = pages(&gateway, "&prefix=a%2F", 2)
            .await
            .iter()
            .flat_map(entries)
            .collect();
        assert_eq!(inside, expected[..6]);
        assert_eq!(versions(&gateway, "&key-marker=b").await, expected[9..]);
        let none = gateway.does(Request::get("/bkt?versions&max-keys=0")).await;
        assert_eq!(
            (entries(&none), none.element("IsTruncated").as_deref()),
            (vec![], Some("false"))
        );
        let encoded = gateway
            .does(Request::get("/bkt?versions&encoding-type=url&max-keys=1"))
            .await;
        assert_eq!(encoded.element("EncodingType").as_deref(), Some("url"));
        for bad in [
            "&version-id-marker=null",
            "&key-marker=k&version-id-marker=",
            "&key-marker=k&version-id-marker=a%2Fb",
            "&max-keys=x",
        ] {
            let request = Request::get(&format!("/bkt?versions{bad}"));
            gateway.refuses(request, 400, "InvalidArgument").await;
        }
    }
}

#[tokio::test]
async fn an_entry_tells_what_a_read_tells() {
    let gateway = gateway("").await;
    let list = gateway.does(Request::get("/bkt?versions")).await;
    let head = gateway
        .does(Request::head("/bkt/known").header("x-amz-checksum-mode", "ENABLED"))
        .await;
    let element = |name: &str| list.element(name).unwrap();
    assert_eq!(element("VersionId"), id(&head));
    assert_eq!(element("ETag").replace("&quot;", "\""), head.header("etag").unwrap());
    assert_eq!(element("Size"), head.header("content-length").unwrap());
    assert_eq!(element("ChecksumAlgorithm"), "CRC64NVME");
    assert_eq!(element("ChecksumType"), head.header("x-amz-checksum-type").unwrap());
    assert_eq!(
        (element("StorageClass"), element("ID")),
        ("STANDARD".into(), "acme".into())
    );
    assert_eq!((element("Name"), element("MaxKeys")), ("bkt".into(), "1000".into()));
}

#[tokio::test]
async fn without_versioning_there_is_one_version_and_its_name_is_null() {
    for toml in ["", AWS] {
        let gateway = TestGateway::configured_with_bucket(toml).await;
        let stored = gateway.does(Request::put("/bkt/a/k").body("x")).await;
        assert_eq!(stored.header("x-amz-version-id"), None);
        assert_eq!(
            versions(&gateway, "").await,
            [
                entry("Version", "a/k", "null", true),
                entry("Version", "known", "null", true)
            ]
        );
        let page = gateway
            .does(Request::get("/bkt?versions&max-keys=1&delimiter=%2F"))
            .await;
        assert_eq!(page.element("NextKeyMarker").as_deref(), Some("a/"));
        assert_eq!(
            versions(&gateway, "&key-marker=a%2Fk&version-id-marker=null")
                .await
                .len(),
            1
        );
        let read = gateway.does(Request::get("/bkt/known?versionId=null")).await;
        assert_eq!((&*read.body, read.header("x-amz-version-id")), (KNOWN, None));
        let deleted = gateway.does(Request::delete("/bkt/a/k?versionId=null")).await;
        assert_eq!(deleted.header("x-amz-version-id"), None);
        let deleted = gateway.does(Request::delete("/bkt/known")).await;
        assert_eq!(deleted.header("x-amz-delete-marker"), None);
        assert_eq!(versions(&gateway, "").await, []);
    }
}
