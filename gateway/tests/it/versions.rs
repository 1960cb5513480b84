//! Versioned buckets: ids, delete markers, listings, who may destroy what; in both dialects.

mod access;
mod deletes;
mod listing;
mod objects;

use crate::support::{Answer, KNOWN, Request, TestGateway};

/// A backend that can keep versions.
const STORAGE: &str = "memory";
const AWS: &str = "[s3]\ndialect = \"aws\"\n";

const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
pub(crate) const SUSPENDED: &str = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";

/// With the bucket `bkt`, in which versioning is enabled, and in it the object `known`.
async fn gateway(toml: &str) -> TestGateway {
    let gateway = TestGateway::storing(STORAGE, toml, "").await;
    gateway.does(Request::put("/bkt")).await;
    gateway.does(set("bkt", ENABLED)).await;
    gateway.does(Request::put("/bkt/known").body(KNOWN)).await;
    gateway
}

async fn in_both_dialects() -> [TestGateway; 2] {
    [gateway("").await, gateway(AWS).await]
}

pub(crate) fn set(bucket: &str, document: &str) -> Request {
    Request::put(&format!("/{bucket}?versioning")).document(document)
}

pub(crate) fn id(answer: &Answer) -> String {
    answer.header("x-amz-version-id").expect("a version id").to_owned()
}

async fn put(gateway: &TestGateway, path: &str, body: &str) -> String {
    id(&gateway.does(Request::put(path).body(body)).await)
}

async fn status(gateway: &TestGateway, bucket: &str) -> Option<String> {
    let answer = gateway.does(Request::get(&format!("/{bucket}?versioning"))).await;
    answer.element("Status")
}

async fn read(gateway: &TestGateway, target: &str) -> String {
    gateway.does(Request::get(target)).await.text().to_owned()
}

/// Every `(element, key, version id, is latest)` of a listing of versions.
pub(crate) fn entries(answer: &Answer) -> Vec<(String, String, String, bool)> {
    let mut found = Vec::new();
    let mut rest = answer.text();
    while let Some(start) = ["<Version>", "<DeleteMarker>"]
        .into_iter()
        .filter_map(|tag| rest.find(tag))
        .min()
    {
        let (tag, entry) = rest[start + 1..].split_once('>').unwrap();
        let (entry, after) = entry.split_once(&format!("</{tag}>")).unwrap();
        let element = |name: &str| {
            let (_, value) = entry.split_once(&format!("<{name}>")).unwrap();
            value.split_once('<').unwrap().0.to_owned()
        };
        let is_latest = element("IsLatest") == "true";
        found.push((tag.to_owned(), element("Key"), element("VersionId"), is_latest));
        rest = after;
    }
    found
}

async fn versions(gateway: &TestGateway, query: &str) -> Vec<(String, String, String, bool)> {
    entries(&gateway.does(Request::get(&format!("/bkt?versions{query}"))).await)
}

/// Of one key.
async fn versions_of(gateway: &TestGateway, key: &str) -> Vec<(String, String, String, bool)> {
    let listed = versions(gateway, &format!("&prefix={key}")).await;
    listed.into_iter().filter(|entry| entry.1 == key).collect()
}

pub(crate) fn entry(element: &str, key: &str, id: &str, is_latest: bool) -> (String, String, String, bool) {
    (element.to_owned(), key.to_owned(), id.to_owned(), is_latest)
}

#[tokio::test]
async fn a_new_bucket_keeps_versions_in_t2_and_not_in_aws() {
    for (toml, expected) in [("", Some("Enabled")), (AWS, None)] {
        let gateway = TestGateway::storing(STORAGE, toml, "").await;
        gateway.does(Request::put("/new")).await;
        assert_eq!(status(&gateway, "new").await.as_deref(), expected);
        let stored = gateway.does(Request::put("/new/k").body("x")).await;
        assert_eq!(stored.header("x-amz-version-id").is_some(), expected.is_some());
    }
}

#[tokio::test]
async fn versioning_is_suspended_and_enabled_again() {
    for gateway in in_both_dialects().await {
        for (document, expected) in [
            (SUSPENDED, "Suspended"),
            (SUSPENDED, "Suspended"),
            (ENABLED, "Enabled"),
            (ENABLED, "Enabled"),
        ] {
            gateway.does(set("bkt", document)).await;
            assert_eq!(status(&gateway, "bkt").await.as_deref(), Some(expected));
        }
        // Signed, and with no other digest.
        gateway.does(Request::put("/bkt?versioning").body(SUSPENDED)).await;
        assert_eq!(status(&gateway, "bkt").await.as_deref(), Some("Suspended"));
    }
}

#[tokio::test]
async fn a_wrong_versioning_document_changes_nothing() {
    for gateway in in_both_dialects().await {
        let of = |content: &str| format!("<VersioningConfiguration>{content}</VersioningConfiguration>");
        let long = of(&format!("<!--{}--><Status>Suspended</Status>", "c".repeat(2 << 20)));
        for (document, status, code) in [
            (of(""), 400, "IllegalVersioningConfigurationException"),
            (of("<Status/>"), 400, "IllegalVersioningConfigurationException"),
            (of("<Status>suspended</Status>"), 400, "MalformedXML"),
            (of("<Status>Off</Status>"), 400, "MalformedXML"),
            (of("<Status>Suspended</Status><Other/>"), 400, "MalformedXML"),
            (of("<Status>Suspended</Status>") + "x", 400, "MalformedXML"),
            ("<Status>Suspended</Status>".to_owned(), 400, "MalformedXML"),
            (String::new(), 400, "MalformedXML"),
            (
                of("<Status>Suspended</Status><MfaDelete>Enabled</MfaDelete>"),
                501,
                "NotImplemented",
            ),
            (long, 400, "EntityTooLarge"),
        ] {
            gateway.refuses(set("bkt", &document), status, code).await;
        }
        let mfa = set("bkt", SUSPENDED).header("x-amz-mfa", "serial 123456");
        gateway.refuses(mfa, 501, "NotImplemented").await;
        let digest = Request::put("/bkt?versioning").body(SUSPENDED);
        let digest = digest.header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        gateway.refuses(digest, 400, "BadDigest").await;
        gateway.refuses(set("none", SUSPENDED), 404, "NoSuchBucket").await;
        assert_eq!(status(&gateway, "bkt").await.as_deref(), Some("Enabled"));
    }
}

#[tokio::test]
async fn what_was_there_before_is_the_null_version_and_suspended_writes_replace_it() {
    let gateway = TestGateway::storing(STORAGE, AWS, "").await;
    gateway.does(Request::put("/bkt")).await;
    gateway.does(Request::put("/bkt/k").body("before")).await;
    gateway.does(set("bkt", ENABLED)).await;
    assert_eq!(id(&gateway.does(Request::get("/bkt/k")).await), "null");
    let enabled = put(&gateway, "/bkt/k", "enabled").await;
    assert_eq!(read(&gateway, "/bkt/k?versionId=null").await, "before");
    gateway.does(set("bkt", SUSPENDED)).await;
    assert_eq!(put(&gateway, "/bkt/k", "suspended").await, "null");
    assert_eq!(read(&gateway, "/bkt/k?versionId=null").await, "suspended");
    assert_eq!(
        versions(&gateway, "").await,
        [
            entry("Version", "k", "null", true),
            entry("Version", "k", &enabled, false)
        ]
    );
    let deleted = gateway.does(Request::delete("/bkt/k")).await;
    assert_eq!(
        (id(&deleted), deleted.header("x-amz-delete-marker")),
        ("null".into(), Some("true"))
    );
    assert_eq!(
        versions(&gateway, "").await,
        [
            entry("DeleteMarker", "k", "null", true),
            entry("Version", "k", &enabled, false)
        ]
    );
    gateway
        .refuses(Request::get("/bkt/k?versionId=null"), 405, "MethodNotAllowed")
        .await;
    gateway.does(Request::delete("/bkt/k?versionId=null")).await;
    assert_eq!(read(&gateway, "/bkt/k").await, "enabled");
}
