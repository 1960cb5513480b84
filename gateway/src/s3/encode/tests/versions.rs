//! Answers that tell of versions.

use t2gate_backends::{DeleteMarker, VersionEntry, VersionPage, VersioningStatus};

use super::*;
use crate::s3::operation::ListObjectVersions;

fn id(text: &str) -> VersionId {
    VersionId::parse(text).unwrap()
}

fn version(key: &str, version_id: &str, is_latest: bool) -> VersionEntry {
    VersionEntry::Object {
        info: ObjectInfo {
            version_id: Some(id(version_id)),
            ..info(key)
        },
        is_latest,
    }
}

fn marker(key: &str, version_id: &str, is_latest: bool) -> VersionEntry {
    VersionEntry::DeleteMarker(DeleteMarker {
        key: Key::parse(key).unwrap(),
        version_id: id(version_id),
        last_modified: at(0, 0),
        is_latest,
    })
}

fn listing() -> ListObjectVersions {
    ListObjectVersions {
        bucket: bucket(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 1000,
        encoding_type: EncodingType::Plain,
    }
}

fn list(op: &ListObjectVersions, entries: Vec<VersionEntry>, is_truncated: bool) -> String {
    let page = VersionPage { entries, is_truncated };
    body(list_object_versions(op, &page, &account()).unwrap())
}

#[test]
fn versions_and_markers_stand_in_one_order_and_prefixes_behind_them() {
    let op = ListObjectVersions {
        delimiter: Some("/".into()),
        key_marker: Some("a".into()),
        version_id_marker: Some(id("v9")),
        ..listing()
    };
    let entries = vec![
        marker("b", "v3", true),
        version("b", "v2", false),
        VersionEntry::CommonPrefix("b/".into()),
        version("c", "null", true),
    ];
    let owner = "<Owner><ID>acme</ID><DisplayName>acme</DisplayName></Owner>";
    let object = format!(
        "<LastModified>2026-01-02T03:04:05.006Z</LastModified><ETag>&quot;abc&quot;</ETag>\
         <ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>10</Size>{owner}\
         <StorageClass>STANDARD</StorageClass>"
    );
    assert_eq!(
        list(&op, entries, true),
        format!(
            "{PROLOG}<ListVersionsResult {NS}><Name>bkt</Name><Prefix></Prefix><KeyMarker>a</KeyMarker>\
             <VersionIdMarker>v9</VersionIdMarker><NextKeyMarker>c</NextKeyMarker>\
             <NextVersionIdMarker>null</NextVersionIdMarker><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter>\
             <IsTruncated>true</IsTruncated>\
             <DeleteMarker><Key>b</Key><VersionId>v3</VersionId><IsLatest>true</IsLatest>\
             <LastModified>1970-01-01T00:00:00.000Z</LastModified>{owner}</DeleteMarker>\
             <Version><Key>b</Key><VersionId>v2</VersionId><IsLatest>false</IsLatest>{object}</Version>\
             <Version><Key>c</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>{object}</Version>\
             <CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></ListVersionsResult>"
        )
    );
}

#[test]
fn a_page_of_versions_names_where_to_go_on() {
    let next = |entries, is_truncated| {
        let xml = list(&listing(), entries, is_truncated);
        (texts(&xml, "NextKeyMarker"), texts(&xml, "NextVersionIdMarker"))
    };
    let one = |text: &str| vec![text.to_owned()];
    assert_eq!(next(vec![version("k", "v1", true)], true), (one("k"), one("v1")));
    assert_eq!(next(vec![marker("k", "v1", true)], true), (one("k"), one("v1")));
    // There is no version to go on from.
    let prefix = VersionEntry::CommonPrefix("a/".into());
    assert_eq!(next(vec![prefix], true), (one("a/"), vec![]));
    assert_eq!(next(vec![version("k", "v1", true)], false), (vec![], vec![]));
    assert_eq!(next(vec![], false), (vec![], vec![]));
    let xml = list(&listing(), vec![], false);
    assert_eq!(texts(&xml, "KeyMarker"), [""]);
    assert_eq!(texts(&xml, "VersionIdMarker"), [""]);
}

#[test]
fn url_encoding_covers_versions_and_markers() {
    let op = ListObjectVersions {
        prefix: "a b".into(),
        delimiter: Some("+".into()),
        key_marker: Some("ä".into()),
        encoding_type: EncodingType::Url,
        ..listing()
    };
    let entries = vec![
        version("a b/\u{1}", "v2", true),
        marker("a b/é", "v1", true),
        VersionEntry::CommonPrefix("a b+".into()),
    ];
    let xml = list(&op, entries, true);
    assert_eq!(texts(&xml, "Prefix"), ["a%20b", "a%20b%2B"]);
    assert_eq!(texts(&xml, "Delimiter"), ["%2B"]);
    assert_eq!(texts(&xml, "KeyMarker"), ["%C3%A4"]);
    assert_eq!(texts(&xml, "NextKeyMarker"), ["a%20b%2B"]);
    assert_eq!(texts(&xml, "Key"), ["a%20b/%01", "a%20b/%C3%A9"]);
    assert_eq!(texts(&xml, "EncodingType"), ["url"]);
}

#[test]
fn a_key_that_xml_cannot_say_fails_the_plain_listing_of_versions() {
    let entries = vec![marker("a\u{1}", "v1", true)];
    let page = VersionPage {
        entries,
        is_truncated: false,
    };
    let error = list_object_versions(&listing(), &page, &account()).unwrap_err();
    assert_eq!(error.code(), S3ErrorCode::InvalidRequest);
}

/// What the memory budget counts with.
#[test]
fn a_version_takes_no_more_than_is_set_apart_for_it() {
    let longest = "\u{1}".repeat(1024);
    let owner = AccountId::parse("a".repeat(64)).unwrap();
    let op = ListObjectVersions {
        encoding_type: EncodingType::Url,
        ..listing()
    };
    let versions = |count: usize| {
        let entry = VersionEntry::Object {
            info: ObjectInfo {
                version_id: Some(id(&"v".repeat(128))),
                size: u64::MAX,
                etag: ETag::parse("&".repeat(128)).unwrap(),
                ..info(&longest)
            },
            is_latest: false,
        };
        let page = VersionPage {
            entries: vec![entry; count],
            is_truncated: false,
        };
        body(list_object_versions(&op, &page, &owner).unwrap()).len()
    };
    let one = versions(2) - versions(1);
    // An ETag that is not the gateway's may grow when it is escaped; there are no such.
    let escaped = 128 * ("&amp;".len() - 1);
    assert!(one - escaped <= 3 * 1024 + 640 + 192, "{one}");
}

#[test]
fn a_marker_is_404_by_name_and_405_by_its_id() {
    let told = |by_id| {
        let error = delete_marker(by_id, &id("v1"), at(0, 0));
        let mut headers: Vec<_> = error
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        (error.code(), headers)
    };
    let common = ["x-amz-delete-marker: true", "x-amz-version-id: v1"];
    assert_eq!(
        told(false),
        (S3ErrorCode::NoSuchKey, common.map(str::to_owned).to_vec())
    );
    let mut all = vec!["allow: DELETE", "last-modified: Thu, 01 Jan 1970 00:00:00 GMT"];
    all.extend(common);
    let all: Vec<_> = all.into_iter().map(str::to_owned).collect();
    assert_eq!(told(true), (S3ErrorCode::MethodNotAllowed, all));
}

#[test]
fn the_versioning_of_a_bucket_is_told_as_it_is() {
    let status = |status| texts(&body(get_bucket_versioning(status)), "Status");
    assert_eq!(status(None), [""; 0]);
    assert_eq!(status(Some(VersioningStatus::Enabled)), ["Enabled"]);
    assert_eq!(status(Some(VersioningStatus::Suspended)), ["Suspended"]);
}

#[test]
fn acls_tell_which_version_they_are_of() {
    let version_id = id("v1");
    let got = get_object_acl(&account(), CannedAcl::Private, Some(&version_id));
    assert_eq!(header(&got, "x-amz-version-id"), Some("v1"));
    assert_eq!(body(got), body(get_bucket_acl(&account(), CannedAcl::Private)));
    assert_eq!(
        header(&put_object_acl(Some(&version_id)), "x-amz-version-id"),
        Some("v1")
    );
    assert_eq!(header(&put_object_acl(None), "x-amz-version-id"), None);
}
