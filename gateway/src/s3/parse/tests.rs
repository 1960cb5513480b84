use proptest::prelude::*;
use t2gate_backends::{CannedAcl, ChecksumAlgorithm, ChecksumType, IfMatch};

use super::*;
use crate::s3::{
    operation::{AnonymousAccess, EncodingType, ListObjects, ObjectAcl, OperationClass, Range, Scope, delete_access},
    token,
};

/// A request as a test writes it: method, path with query, header lines, whether a body follows.
fn parse_in(
    dialect: Dialect,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    has_body: bool,
) -> Result<Operation, S3Error> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let target = Target::parse(path, None)?;
    let query = Query::parse(query)?;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    let headers = headers::effective_headers(&query, &map)?;
    parse(&ParseInput {
        method: &method.parse().unwrap(),
        target: &target,
        url: &format!("https://s3.localhost{path}"),
        query: &query,
        headers: &headers,
        dialect,
        has_body,
    })
}

fn ask(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Operation, S3ErrorCode> {
    parse_in(Dialect::T2, method, uri, headers, false).map_err(|error| error.code())
}

fn code(method: &str, uri: &str, headers: &[(&str, &str)]) -> S3ErrorCode {
    ask(method, uri, headers).unwrap_err()
}

const COPY: &[(&str, &str)] = &[("x-amz-copy-source", "/src/k")];
const ACL: &[(&str, &str)] = &[("x-amz-acl", "private")];
const MD5: &[(&str, &str)] = &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
const ATTRIBUTES: &[(&str, &str)] = &[("x-amz-object-attributes", "ETag,ObjectSize")];

type RouteRow = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    bool,
);

/// Every action of S3's API: method, URI, headers, the action's name, and whether it is there.
#[rustfmt::skip]
const ROUTES: &[RouteRow] = &[
    ("GET", "/", &[], "ListBuckets", true),
    ("GET", "/?x-id=ListBuckets", &[], "ListBuckets", true),
    ("PUT", "/bkt", &[], "CreateBucket", true),
    ("PUT", "/bkt/", &[], "CreateBucket", true),
    ("HEAD", "/bkt", &[], "HeadBucket", true),
    ("DELETE", "/bkt", &[], "DeleteBucket", true),
    ("GET", "/bkt?location", &[], "GetBucketLocation", true),
    ("GET", "/bkt/?location=", &[], "GetBucketLocation", true),
    ("GET", "/bkt?acl", &[], "GetBucketAcl", true),
    ("PUT", "/bkt?acl", ACL, "PutBucketAcl", true),
    ("GET", "/bkt?versioning", &[], "GetBucketVersioning", true),
    ("PUT", "/bkt?versioning", MD5, "PutBucketVersioning", true),
    ("GET", "/bkt?cors", &[], "GetBucketCors", true),
    ("PUT", "/bkt?cors", &[], "PutBucketCors", false),
    ("DELETE", "/bkt?cors", &[], "DeleteBucketCors", true),
    ("GET", "/bkt?encryption", &[], "GetBucketEncryption", true),
    ("PUT", "/bkt?encryption", &[], "PutBucketEncryption", false),
    ("DELETE", "/bkt?encryption", &[], "DeleteBucketEncryption", true),
    ("GET", "/bkt?lifecycle", &[], "GetBucketLifecycleConfiguration", true),
    ("PUT", "/bkt?lifecycle", &[], "PutBucketLifecycleConfiguration", false),
    ("DELETE", "/bkt?lifecycle", &[], "DeleteBucketLifecycle", true),
    ("GET", "/bkt?object-lock", &[], "GetObjectLockConfiguration", true),
    ("PUT", "/bkt?object-lock", &[], "PutObjectLockConfiguration", false),
    ("GET", "/bkt?logging", &[], "GetBucketLogging", true),
    ("PUT", "/bkt?logging", &[], "PutBucketLogging", false),
    ("GET", "/bkt?tagging", &[], "GetBucketTagging", true),
    ("PUT", "/bkt?tagging", &[], "PutBucketTagging", false),
    ("DELETE", "/bkt?tagging", &[], "DeleteBucketTagging", false),
    ("GET", "/bkt?policy", &[], "GetBucketPolicy", true),
    ("PUT", "/bkt?policy", &[], "PutBucketPolicy", false),
    ("DELETE", "/bkt?policy", &[], "DeleteBucketPolicy", false),
    ("GET", "/bkt?policyStatus", &[], "GetBucketPolicyStatus", true),
    ("GET", "/bkt?website", &[], "GetBucketWebsite", true),
    ("PUT", "/bkt?website", &[], "PutBucketWebsite", false),
    ("DELETE", "/bkt?website", &[], "DeleteBucketWebsite", false),
    ("GET", "/bkt?replication", &[], "GetBucketReplication", true),
    ("PUT", "/bkt?replication", &[], "PutBucketReplication", false),
    ("DELETE", "/bkt?replication", &[], "DeleteBucketReplication", false),
    ("GET", "/bkt?notification", &[], "GetBucketNotificationConfiguration", true),
    ("PUT", "/bkt?notification", &[], "PutBucketNotificationConfiguration", false),
    ("GET", "/bkt?requestPayment", &[], "GetBucketRequestPayment", true),
    ("PUT", "/bkt?requestPayment", &[], "PutBucketRequestPayment", false),
    ("GET", "/bkt?accelerate", &[], "GetBucketAccelerateConfiguration", true),
    ("PUT", "/bkt?accelerate", &[], "PutBucketAccelerateConfiguration", false),
    ("GET", "/bkt?ownershipControls", &[], "GetBucketOwnershipControls", true),
    ("PUT", "/bkt?ownershipControls", &[], "PutBucketOwnershipControls", false),
    ("DELETE", "/bkt?ownershipControls", &[], "DeleteBucketOwnershipControls", false),
    ("GET", "/bkt?publicAccessBlock", &[], "GetPublicAccessBlock", true),
    ("PUT", "/bkt?publicAccessBlock", &[], "PutPublicAccessBlock", false),
    ("DELETE", "/bkt?publicAccessBlock", &[], "DeletePublicAccessBlock", false),
    ("GET", "/bkt?analytics", &[], "ListBucketAnalyticsConfigurations", true),
    ("GET", "/bkt?analytics&id=1", &[], "GetBucketAnalyticsConfiguration", true),
    ("PUT", "/bkt?analytics&id=1", &[], "PutBucketAnalyticsConfiguration", false),
    ("DELETE", "/bkt?analytics&id=1", &[], "DeleteBucketAnalyticsConfiguration", false),
    ("GET", "/bkt?inventory", &[], "ListBucketInventoryConfigurations", true),
    ("GET", "/bkt?inventory&id=1", &[], "GetBucketInventoryConfiguration", true),
    ("PUT", "/bkt?inventory&id=1", &[], "PutBucketInventoryConfiguration", false),
    ("DELETE", "/bkt?inventory&id=1", &[], "DeleteBucketInventoryConfiguration", false),
    ("GET", "/bkt?metrics", &[], "ListBucketMetricsConfigurations", true),
    ("GET", "/bkt?metrics&id=1", &[], "GetBucketMetricsConfiguration", true),
    ("PUT", "/bkt?metrics&id=1", &[], "PutBucketMetricsConfiguration", false),
    ("DELETE", "/bkt?metrics&id=1", &[], "DeleteBucketMetricsConfiguration", false),
    ("GET", "/bkt?intelligent-tiering", &[], "ListBucketIntelligentTieringConfigurations", true),
    ("GET", "/bkt?intelligent-tiering&id=1", &[], "GetBucketIntelligentTieringConfiguration", true),
    ("PUT", "/bkt?intelligent-tiering&id=1", &[], "PutBucketIntelligentTieringConfiguration", false),
    ("DELETE", "/bkt?intelligent-tiering&id=1", &[], "DeleteBucketIntelligentTieringConfiguration", false),
    ("GET", "/bkt?abac", &[], "GetBucketAbac", false),
    ("PUT", "/bkt?abac", &[], "PutBucketAbac", false),
    ("POST", "/bkt?metadataConfiguration", &[], "CreateBucketMetadataConfiguration", false),
    ("GET", "/bkt?metadataConfiguration", &[], "GetBucketMetadataConfiguration", false),
    ("DELETE", "/bkt?metadataConfiguration", &[], "DeleteBucketMetadataConfiguration", false),
    ("POST", "/bkt?metadataTable", &[], "CreateBucketMetadataTableConfiguration", false),
    ("GET", "/bkt?metadataTable", &[], "GetBucketMetadataTableConfiguration", false),
    ("DELETE", "/bkt?metadataTable", &[], "DeleteBucketMetadataTableConfiguration", false),
    ("PUT", "/bkt?metadataInventoryTable", &[], "UpdateBucketMetadataInventoryTableConfiguration", false),
    ("PUT", "/bkt?metadataJournalTable", &[], "UpdateBucketMetadataJournalTableConfiguration", false),
    ("PUT", "/bkt?metadataAnnotationTable", &[], "UpdateBucketMetadataAnnotationTableConfiguration", false),
    ("GET", "/bkt?session", &[], "CreateSession", false),
    ("GET", "/bkt", &[], "ListObjects", true),
    ("GET", "/bkt?prefix=a&delimiter=%2F", &[], "ListObjects", true),
    ("GET", "/bkt?list-type=2", &[], "ListObjectsV2", true),
    ("GET", "/bkt?versions", &[], "ListObjectVersions", true),
    ("GET", "/bkt?versions=&prefix=a&key-marker=k&version-id-marker=null", &[], "ListObjectVersions", true),
    ("GET", "/bkt?uploads", &[], "ListMultipartUploads", true),
    ("POST", "/bkt?delete", MD5, "DeleteObjects", true),
    ("POST", "/bkt", &[("content-type", "multipart/form-data; boundary=x")], "PostObject", false),
    ("POST", "/WriteGetObjectResponse", &[], "WriteGetObjectResponse", false),
    ("PUT", "/bkt/k", &[], "PutObject", true),
    ("PUT", "/bkt/k?x-id=PutObject&anything=else", &[], "PutObject", true),
    ("GET", "/bkt/k", &[], "GetObject", true),
    ("GET", "/bkt/k?versionId=null&partNumber=3", &[], "GetObject", true),
    ("HEAD", "/bkt/k", &[], "HeadObject", true),
    ("PUT", "/bkt/k", COPY, "CopyObject", true),
    ("PUT", "/bkt/k?x-amz-copy-source=%2Fsrc%2Fk", &[], "CopyObject", true),
    ("PUT", "/bkt/k?X-Amz-Copy-Source=src/k", &[], "CopyObject", true),
    ("DELETE", "/bkt/k", &[], "DeleteObject", true),
    ("DELETE", "/bkt/k?versionId=null", &[], "DeleteObject", true),
    ("GET", "/bkt/k?acl", &[], "GetObjectAcl", true),
    ("PUT", "/bkt/k?acl", ACL, "PutObjectAcl", true),
    ("GET", "/bkt/k?attributes", ATTRIBUTES, "GetObjectAttributes", true),
    ("GET", "/bkt/k?tagging", &[], "GetObjectTagging", true),
    ("PUT", "/bkt/k?tagging", &[], "PutObjectTagging", false),
    ("DELETE", "/bkt/k?tagging", &[], "DeleteObjectTagging", false),
    ("GET", "/bkt/k?legal-hold", &[], "GetObjectLegalHold", true),
    ("PUT", "/bkt/k?legal-hold", &[], "PutObjectLegalHold", false),
    ("GET", "/bkt/k?retention", &[], "GetObjectRetention", true),
    ("PUT", "/bkt/k?retention", &[], "PutObjectRetention", false),
    ("POST", "/bkt/k?uploads", &[], "CreateMultipartUpload", true),
    ("PUT", "/bkt/k?partNumber=1&uploadId=u", &[], "UploadPart", true),
    ("PUT", "/bkt/k?partNumber=1&uploadId=u", COPY, "UploadPartCopy", true),
    ("POST", "/bkt/k?uploadId=u", &[], "CompleteMultipartUpload", true),
    ("DELETE", "/bkt/k?uploadId=u", &[], "AbortMultipartUpload", true),
    ("GET", "/bkt/k?uploadId=u", &[], "ListParts", true),
    ("POST", "/bkt/k?restore", &[], "RestoreObject", false),
    ("POST", "/bkt/k?select&select-type=2", &[], "SelectObjectContent", false),
    ("GET", "/bkt/k?torrent", &[], "GetObjectTorrent", false),
    ("PUT", "/bkt/k?renameObject", &[], "RenameObject", false),
    ("PUT", "/bkt/k?encryption", &[], "UpdateObjectEncryption", false),
    ("GET", "/bkt/k?annotation", &[], "GetObjectAnnotation", false),
    ("PUT", "/bkt/k?annotation&annotationName=a", &[], "PutObjectAnnotation", false),
    ("DELETE", "/bkt/k?annotation", &[], "DeleteObjectAnnotation", false),
];

#[test]
fn every_action_is_recognised() {
    for (method, uri, headers, action, there) in ROUTES {
        let operation = ask(method, uri, headers).unwrap_or_else(|code| panic!("{method} {uri}: {code:?}"));
        assert_eq!(operation.name(), *action, "{method} {uri}");
        assert_eq!(
            !matches!(operation, Operation::NotImplemented(_)),
            *there,
            "{method} {uri}"
        );
    }
}

#[test]
fn the_tables_agree_with_the_request() {
    for (method, uri, headers, action, there) in ROUTES {
        let operation = ask(method, uri, headers).unwrap();
        let path = uri.split('?').next().unwrap().trim_end_matches('/');
        let named = if path.contains("WriteGet") {
            0
        } else {
            path.matches('/').count()
        };
        assert_eq!(operation.bucket().is_some(), named >= 1, "{method} {uri}");
        assert_eq!(operation.key().is_some(), named == 2 && *there, "{method} {uri}");
        assert_eq!(
            operation.copy_source().is_some(),
            action.contains("Copy"),
            "{method} {uri}"
        );
        let writes = *there && matches!(*method, "PUT" | "POST" | "DELETE");
        assert_eq!(operation.is_write(), writes, "{method} {uri}");
        let lists = action.starts_with("List") && !action.ends_with("Configurations") && *there;
        assert_eq!(operation.class() == OperationClass::List, lists, "{method} {uri}");
        let access = operation.access();
        assert_eq!(access.scope == Scope::Nothing, !there, "{method} {uri}");
        let open = matches!(
            *action,
            "GetObject" | "HeadObject" | "ListObjects" | "ListObjectsV2" | "ListObjectVersions"
        );
        assert_eq!(
            operation.anonymous_access() != AnonymousAccess::Never,
            open,
            "{method} {uri}"
        );
    }
}

#[test]
fn deleting_a_version_takes_another_capability_than_deleting_by_name() {
    use crate::keys::Capability;
    let by_name = ask("DELETE", "/bkt/k", &[]).unwrap().access();
    assert_eq!(
        (by_name.needs, by_name.may_destroy),
        (&[Capability::WriteFiles][..], true)
    );
    let by_id = ask("DELETE", "/bkt/k?versionId=null", &[]).unwrap().access();
    assert_eq!(
        (by_id.needs, by_id.may_destroy),
        (&[Capability::DeleteFiles][..], false)
    );
    assert_eq!(by_id, delete_access(true));
}

#[test]
fn no_subresource_falls_through_whatever_the_method() {
    let names: std::collections::BTreeSet<&str> = ROUTES
        .iter()
        .filter_map(|row| row.1.split_once('?'))
        .map(|(_, query)| query.split(['&', '=']).next().unwrap())
        .filter(|name| !matches!(*name, "x-id" | "prefix" | "list-type" | "versionId" | "partNumber"))
        .filter(|name| !name.to_ascii_lowercase().starts_with("x-amz-"))
        .collect();
    assert!(names.len() > 40, "{names:?}");
    let itself = [
        "ListBuckets",
        "CreateBucket",
        "HeadBucket",
        "DeleteBucket",
        "ListObjects",
        "ListObjectsV2",
        "PutObject",
        "GetObject",
        "HeadObject",
        "DeleteObject",
        "CopyObject",
        "PostObject",
    ];
    for name in names {
        for path in ["/", "/bkt", "/bkt/k"] {
            for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"] {
                match ask(method, &format!("{path}?{name}"), &[]) {
                    Ok(operation) => assert!(!itself.contains(&operation.name()), "{method} {path}?{name}"),
                    Err(code) => assert_ne!(code, S3ErrorCode::InternalError, "{method} {path}?{name}"),
                }
            }
        }
    }
}

#[test]
fn a_method_that_a_thing_has_not_is_405_with_those_it_has() {
    for (method, uri, allow) in [
        ("PATCH", "/bkt/k", "PUT, GET, HEAD, DELETE"),
        ("TRACE", "/bkt/k", "PUT, GET, HEAD, DELETE"),
        ("POST", "/bkt/k", "PUT, GET, HEAD, DELETE"),
        ("POST", "/", "GET"),
        ("HEAD", "/bkt?location", "GET"),
        ("DELETE", "/bkt/k?acl", "GET, PUT"),
        ("GET", "/bkt?delete", "POST"),
        ("PUT", "/bkt/k?uploads", "POST"),
    ] {
        let error = parse_in(Dialect::T2, method, uri, &[], false).unwrap_err();
        assert_eq!(error.code(), S3ErrorCode::MethodNotAllowed, "{method} {uri}");
        assert_eq!(
            error.headers(),
            [(http::header::ALLOW, allow.parse().unwrap())],
            "{method} {uri}"
        );
    }
}

#[test]
fn a_listing_of_versions_goes_on_from_a_key_and_a_version() {
    let list = |query: &str| match ask("GET", &format!("/bkt?versions{query}"), &[]) {
        Ok(Operation::ListObjectVersions(list)) => Ok(list),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    let plain = list("").unwrap();
    assert_eq!((&*plain.prefix, plain.max_keys), ("", 1000));
    assert_eq!(
        (plain.delimiter, plain.key_marker, plain.version_id_marker),
        (None, None, None)
    );
    let all = list("&prefix=a%2F&delimiter=%2F&key-marker=a%2Fb&version-id-marker=v1&max-keys=0&encoding-type=url");
    let all = all.unwrap();
    assert_eq!((&*all.prefix, all.delimiter.as_deref()), ("a/", Some("/")));
    assert_eq!(all.key_marker.as_deref(), Some("a/b"));
    assert_eq!(all.version_id_marker.unwrap().as_str(), "v1");
    assert_eq!((all.max_keys, all.encoding_type), (0, EncodingType::Url));
    assert_eq!(list("&max-keys=5000").unwrap().max_keys, 1000);
    for bad in [
        "&version-id-marker=v1",
        "&key-marker=&version-id-marker=v1",
        "&key-marker=k&version-id-marker=",
        "&key-marker=k&version-id-marker=a%2Fb",
        "&max-keys=-1",
        "&max-keys=x",
        "&encoding-type=xml",
        "&versionId=null",
        "&key-marker=%00",
    ] {
        assert_eq!(list(bad).unwrap_err(), S3ErrorCode::InvalidArgument, "{bad}");
    }
}

#[test]
fn a_version_id_is_judged_wherever_one_may_stand() {
    for (method, query) in [
        ("GET", ""),
        ("HEAD", ""),
        ("DELETE", ""),
        ("GET", "&acl"),
        ("PUT", "&acl"),
        ("GET", "&attributes"),
        ("GET", "&tagging"),
        ("GET", "&legal-hold"),
        ("GET", "&retention"),
    ] {
        let with = |id: &str| {
            ask(
                method,
                &format!("/bkt/k?versionId={id}{query}"),
                &[ACL, ATTRIBUTES].concat(),
            )
        };
        assert!(with("null").is_ok(), "{method} {query}");
        for id in ["", "a%2Fb", "%C3%A4", "a+b", &"a".repeat(129)] {
            assert_eq!(
                with(id).unwrap_err(),
                S3ErrorCode::InvalidArgument,
                "{method} {id}{query}"
            );
        }
    }
}

#[test]
fn a_versioning_document_needs_a_digest_and_takes_no_condition() {
    assert_eq!(code("PUT", "/bkt?versioning", &[]), S3ErrorCode::InvalidRequest);
    let signed = [("x-amz-content-sha256", &*"0".repeat(64))];
    assert!(ask("PUT", "/bkt?versioning", &signed).is_ok());
    let condition = [MD5[0], ("if-match", "*")];
    assert_eq!(code("PUT", "/bkt?versioning", &condition), S3ErrorCode::NotImplemented);
    let mfa = [MD5[0], ("x-amz-mfa", "serial 123456")];
    assert_eq!(code("PUT", "/bkt?versioning", &mfa), S3ErrorCode::NotImplemented);
    assert_eq!(
        code("DELETE", "/bkt/k?versionId=null", &mfa),
        S3ErrorCode::NotImplemented
    );
}

#[test]
fn subresources_that_make_no_sense_are_refused() {
    for (method, uri) in [
        ("GET", "/bkt?acl&policy"),
        ("GET", "/bkt/k?acl&tagging"),
        ("PUT", "/bkt/k?uploadId=u&acl&partNumber=1"),
        ("GET", "/bkt/k?versions"),
        ("PUT", "/bkt/k?policy"),
        ("PUT", "/bkt?partNumber=1&uploadId=u"),
        ("GET", "/?location"),
        ("GET", "/bkt?acl&acl"),
        ("DELETE", "/bkt?versionId=null"),
        ("PUT", "/bkt/k?versionId=null"),
        ("PUT", "/bkt/k?partNumber=1"),
        ("DELETE", "/bkt/k?partNumber=1"),
        ("POST", "/bkt/k?uploads&versionId=null"),
    ] {
        assert_eq!(code(method, uri, &[]), S3ErrorCode::InvalidArgument, "{method} {uri}");
    }
}

#[test]
fn preflight_that_comes_here_is_refused() {
    assert_eq!(code("OPTIONS", "/bkt/k", &[]), S3ErrorCode::AccessForbidden);
}

#[test]
fn bucket_names_follow_the_dialect() {
    let create = |dialect, uri: &str| {
        parse_in(dialect, "PUT", uri, &[], false)
            .map_err(|error| error.code())
            .is_ok()
    };
    for (uri, t2, aws) in [
        ("/abc", true, true),
        ("/a.b", false, true),
        ("/Abc", false, false),
        ("/a_b", false, false),
        ("/ab", false, false),
        ("/-ab", false, false),
        ("//", false, false),
        ("/a%2Fb", false, false),
    ] {
        assert_eq!(create(Dialect::T2, uri), t2, "{uri}");
        assert_eq!(create(Dialect::Aws, uri), aws, "{uri}");
    }
    assert_eq!(code("PUT", "/Abc", &[]), S3ErrorCode::InvalidBucketName);
    assert_eq!(code("GET", "/a%20b", &[]), S3ErrorCode::InvalidBucketName);
    assert_eq!(code("GET", "//k", &[]), S3ErrorCode::InvalidBucketName);
}

#[test]
fn a_bucket_that_cannot_be_there_is_not_there() {
    let error = parse_in(Dialect::T2, "GET", "/NonExistentBucket", &[], false).unwrap_err();
    assert_eq!(error.code(), S3ErrorCode::NoSuchBucket);
    assert_eq!(
        error.message(),
        "The specified bucket does not exist: NonExistentBucket"
    );
    // A directory that was there before the gateway may have such a name.
    assert!(ask("GET", "/www.example.com", &[]).is_ok());
    assert!(ask("PUT", "/www.example.com/index.html", &[]).is_ok());
}

#[test]
fn keys_follow_the_dialect() {
    for method in ["PUT", "GET", "DELETE"] {
        assert_eq!(code(method, "/bkt/a%01b", &[]), S3ErrorCode::InvalidArgument);
        assert_eq!(code(method, "/bkt/a%7F", &[]), S3ErrorCode::InvalidArgument);
        assert_eq!(code(method, "/bkt/a%00", &[]), S3ErrorCode::InvalidArgument);
        let long = format!("/bkt/{}", "k".repeat(1025));
        assert_eq!(code(method, &long, &[]), S3ErrorCode::KeyTooLongError);
    }
    let aws = |uri| parse_in(Dialect::Aws, "PUT", uri, &[], false);
    assert!(aws("/bkt/a%01b%0A%7F").is_ok());
    assert_eq!(aws("/bkt/a%00").unwrap_err().code(), S3ErrorCode::InvalidArgument);
    for key in ["/k", "a//b", "../..", ".", "a/", " a ", "%E2%82%AC"] {
        assert!(
            ask("PUT", &format!("/bkt/{}", key.replace(' ', "%20")), &[]).is_ok(),
            "{key}"
        );
    }
    let long = format!("/bkt/{}", "k".repeat(1024));
    assert!(ask("PUT", &long, &[]).is_ok());
}

#[test]
fn listing_arguments_are_read() {
    let list = |query: &str| match ask("GET", &format!("/bkt?{query}"), &[]) {
        Ok(Operation::ListObjects(op)) => Ok(op),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    let plain = ListObjects {
        bucket: BucketName::parse("bkt").unwrap(),
        prefix: "".into(),
        delimiter: None,
        marker: None,
        max_keys: 1000,
        encoding_type: EncodingType::Plain,
    };
    assert_eq!(list(""), Ok(plain.clone()));
    assert_eq!(
        list("delimiter=&marker=&max-keys=&prefix=&encoding-type="),
        Ok(plain.clone())
    );
    assert_eq!(
        list("prefix=a%2Fb+c&delimiter=--&marker=m&max-keys=0&encoding-type=url&allow=other"),
        Ok(ListObjects {
            prefix: "a/b c".into(),
            delimiter: Some("--".into()),
            marker: Some("m".into()),
            max_keys: 0,
            encoding_type: EncodingType::Url,
            ..plain.clone()
        })
    );
    assert_eq!(list("max-keys=5000").unwrap().max_keys, 1000);
    for bad in ["-1", "2147483648", "99999999999999999999", "ten", "1.0", "+1", "0x10"] {
        assert_eq!(
            list(&format!("max-keys={bad}")),
            Err(S3ErrorCode::InvalidArgument),
            "{bad}"
        );
    }
    assert_eq!(list("encoding-type=base64"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(list("max-keys=1&max-keys=2"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(list("prefix=a&prefix=b"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(list("prefix=%00"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(list("list-type=3"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(
        list(&format!("prefix={}", "p".repeat(1025))),
        Err(S3ErrorCode::KeyTooLongError)
    );
}

#[test]
fn continuation_tokens_stand_above_start_after() {
    let list = |query: &str| match ask("GET", &format!("/bkt?list-type=2&{query}"), &[]) {
        Ok(Operation::ListObjectsV2(op)) => Ok(op),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    let token = token::encode("k/ä");
    let op = list(&format!("continuation-token={token}&start-after=a&fetch-owner=true")).unwrap();
    assert_eq!(op.continuation_token.as_deref(), Some(token.as_str()));
    assert_eq!(op.after(), Some("k/ä"));
    assert!(op.fetch_owner);
    let op = list("continuation-token=&start-after=a").unwrap();
    assert_eq!((op.continuation_token.as_deref(), op.after()), (Some(""), Some("a")));
    assert_eq!(list("continuation-token=a"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(list("fetch-owner=maybe"), Err(S3ErrorCode::InvalidArgument));
}

#[test]
fn buckets_are_listed_in_pages() {
    let list = |query: &str| match ask("GET", &format!("/?{query}"), &[]) {
        Ok(Operation::ListBuckets(op)) => Ok(op),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    let op = list(&format!(
        "max-buckets=10000&prefix=a&continuation-token={}",
        token::encode("abc")
    ))
    .unwrap();
    assert_eq!(
        (op.max_buckets, &*op.prefix, op.start_after.as_deref()),
        (Some(10_000), "a", Some("abc"))
    );
    for bad in [
        "max-buckets=0",
        "max-buckets=10001",
        "max-buckets=x",
        "continuation-token=x",
    ] {
        assert_eq!(list(bad), Err(S3ErrorCode::InvalidArgument), "{bad}");
    }
}

fn put(headers: &[(&str, &str)]) -> Result<crate::s3::operation::PutObject, S3ErrorCode> {
    match ask("PUT", "/bkt/k", headers) {
        Ok(Operation::PutObject(op)) => Ok(op),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    }
}

#[test]
fn only_the_framing_is_taken_out_of_content_encoding() {
    let encoding = |values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("content-encoding", *value)).collect();
        put(&headers).unwrap().content.content_encoding.map(String::from)
    };
    assert_eq!(encoding(&["aws-chunked"]), None);
    assert_eq!(encoding(&["AWS-Chunked"]), None);
    assert_eq!(encoding(&["aws-chunked,gzip"]).as_deref(), Some("gzip"));
    assert_eq!(encoding(&["gzip, aws-chunked , br"]).as_deref(), Some("gzip,br"));
    assert_eq!(encoding(&["aws-chunked", "gzip"]).as_deref(), Some("gzip"));
    assert_eq!(encoding(&["gzip,  br"]).as_deref(), Some("gzip,  br"));
    assert_eq!(encoding(&["aws-chunked-not"]).as_deref(), Some("aws-chunked-not"));
    assert_eq!(encoding(&[""]), None);
}

#[test]
fn what_a_client_says_of_an_object_is_kept_as_sent() {
    let op = put(&[
        ("content-type", "text/plain; charset=x"),
        ("cache-control", "no-cache"),
        ("content-disposition", "attachment; filename=\"ä\""),
        ("expires", "never"),
        ("x-amz-meta-b", "zwölf"),
        ("x-amz-meta-a", "1"),
        ("x-amz-meta-a", "2"),
        ("x-amz-meta-empty", ""),
    ])
    .unwrap();
    assert_eq!(op.content.content_type.as_deref(), Some("text/plain; charset=x"));
    assert_eq!(
        op.content.content_disposition.as_deref(),
        Some("attachment; filename=\"ä\"")
    );
    assert_eq!(op.content.expires.as_deref(), Some("never"));
    let pairs: Vec<(&str, &str)> = op.user_metadata.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(pairs, [("a", "1,2"), ("b", "zwölf"), ("empty", "")]);
}

#[test]
fn metadata_is_bounded() {
    let value = "v".repeat(2047);
    assert!(put(&[("x-amz-meta-a", &value)]).is_ok());
    let value = "v".repeat(2048);
    assert_eq!(put(&[("x-amz-meta-a", &value)]), Err(S3ErrorCode::MetadataTooLarge));
    assert_eq!(put(&[("x-amz-meta-", "v")]), Err(S3ErrorCode::InvalidArgument));
}

#[test]
fn headers_on_writes_are_done_or_refused() {
    assert_eq!(
        put(&[("x-amz-acl", "public-read")]).unwrap().acl,
        Some(ObjectAcl::Bucket(CannedAcl::PublicRead))
    );
    assert_eq!(
        put(&[("x-amz-acl", "bucket-owner-full-control")]).unwrap().acl,
        Some(ObjectAcl::Other)
    );
    assert_eq!(put(&[("x-amz-acl", "everybody")]), Err(S3ErrorCode::InvalidArgument));
    assert!(put(&[("x-amz-storage-class", "STANDARD")]).is_ok());
    assert_eq!(
        put(&[("x-amz-storage-class", "GLACIER")]),
        Err(S3ErrorCode::InvalidStorageClass)
    );
    assert!(put(&[("if-none-match", "*")]).unwrap().condition.if_none_match);
    assert_eq!(
        put(&[("if-match", "*")]).unwrap().condition.if_match,
        Some(IfMatch::Any)
    );
    assert_eq!(put(&[("if-none-match", "\"a\"")]), Err(S3ErrorCode::NotImplemented));
    assert_eq!(
        put(&[("if-match", "a"), ("if-none-match", "*")]),
        Err(S3ErrorCode::NotImplemented)
    );
    assert_eq!(
        put(&[("content-range", "bytes 0-1/2")]),
        Err(S3ErrorCode::NotImplemented)
    );
    assert_eq!(
        put(&[("content-type", "a"), ("content-type", "b")]),
        Err(S3ErrorCode::InvalidArgument)
    );
    for method_and_uri in [
        ("PUT", "/bkt"),
        ("PUT", "/bkt/k?partNumber=1&uploadId=u"),
        ("POST", "/bkt/k?uploads"),
    ] {
        assert_eq!(
            code(method_and_uri.0, method_and_uri.1, &[("if-none-match", "*")]),
            S3ErrorCode::NotImplemented
        );
    }
    // A copy source on what is no copy would be lost in silence.
    assert_eq!(code("DELETE", "/bkt/k", COPY), S3ErrorCode::InvalidArgument);
    assert_eq!(code("POST", "/bkt/k?uploads", COPY), S3ErrorCode::InvalidArgument);
}

#[test]
fn what_is_said_of_a_source_is_refused_where_none_is_named() {
    for (name, value) in [
        ("x-amz-copy-source-if-match", "\"a\""),
        ("x-amz-copy-source-if-none-match", "\"a\""),
        ("x-amz-copy-source-if-modified-since", "Fri, 01 Jan 2021 00:00:00 GMT"),
        ("x-amz-copy-source-if-unmodified-since", "Fri, 01 Jan 2021 00:00:00 GMT"),
        ("x-amz-copy-source-range", "bytes=0-1"),
    ] {
        for (method, uri) in [
            ("PUT", "/bkt/k"),
            ("PUT", "/bkt/k?partNumber=1&uploadId=u"),
            ("DELETE", "/bkt/k"),
        ] {
            assert_eq!(
                code(method, uri, &[(name, value)]),
                S3ErrorCode::InvalidArgument,
                "{method} {uri} {name}"
            );
        }
    }
}

#[test]
fn completing_keeps_the_url_as_it_was_written() {
    match ask("POST", "/bkt/a%20b?uploadId=u", &[]) {
        Ok(Operation::CompleteMultipartUpload(op)) => assert_eq!(&*op.url, "https://s3.localhost/bkt/a%20b"),
        other => panic!("{other:?}"),
    }
}

fn get(query: &str, headers: &[(&str, &str)]) -> Result<crate::s3::operation::GetObject, S3ErrorCode> {
    match ask("GET", &format!("/bkt/k?{query}"), headers) {
        Ok(Operation::GetObject(op)) => Ok(op),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    }
}

#[test]
fn reads_take_ranges_parts_conditions_and_overrides() {
    assert_eq!(
        get("", &[("range", "bytes=1-2")]).unwrap().range,
        Some(Range::Inclusive(1..=2))
    );
    assert_eq!(get("", &[("range", "bytes=1-2,4-5")]).unwrap().range, None);
    assert_eq!(
        get("", &[("range", "bytes=1-2"), ("range", "bytes=4-5")])
            .unwrap()
            .range,
        None
    );
    assert_eq!(get("partNumber=2", &[]).unwrap().part_number.unwrap().get(), 2);
    assert_eq!(
        get("partNumber=2", &[("range", "bytes=1-2")]),
        Err(S3ErrorCode::InvalidRequest)
    );
    for bad in ["", "0", "10001", "-1", "x", "1&partNumber=2"] {
        assert_eq!(
            get(&format!("partNumber={bad}"), &[]),
            Err(S3ErrorCode::InvalidArgument),
            "{bad}"
        );
    }
    assert!(get("", &[("x-amz-checksum-mode", "ENABLED")]).unwrap().checksum_mode);
    assert_eq!(
        get("", &[("x-amz-checksum-mode", "ON")]),
        Err(S3ErrorCode::InvalidArgument)
    );
    let op = get("response-content-type=text%2Fplain&response-expires=0", &[]).unwrap();
    assert_eq!(op.overrides.0.content_type.as_deref(), Some("text/plain"));
    assert!(!op.overrides.is_empty());
    assert_eq!(
        get("response-content-type=a%0D%0Ab:c", &[]),
        Err(S3ErrorCode::InvalidArgument)
    );
    assert!(get("versionId=null", &[]).unwrap().object.version_id.unwrap().is_null());
    assert_eq!(get("versionId=", &[]), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(get("versionId=%20", &[]), Err(S3ErrorCode::InvalidArgument));
}

#[test]
fn copies_say_what_becomes_of_the_metadata() {
    let copy = |headers: &[(&str, &str)]| {
        let headers = [COPY, headers].concat();
        match parse_in(Dialect::T2, "PUT", "/bkt/k", &headers, false) {
            Ok(Operation::CopyObject(op)) => Ok(op),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        }
    };
    let op = copy(&[("x-amz-meta-a", "1")]).unwrap();
    assert_eq!((op.replace_metadata, op.changes_something), (None, false));
    let op = copy(&[("x-amz-meta-a", "1"), ("x-amz-metadata-directive", "REPLACE")]).unwrap();
    assert_eq!(op.replace_metadata.unwrap().1, [("a".into(), "1".into())]);
    assert!(op.changes_something);
    assert!(copy(&[("x-amz-storage-class", "STANDARD")]).unwrap().changes_something);
    assert_eq!(
        copy(&[("x-amz-metadata-directive", "MERGE")]),
        Err(S3ErrorCode::InvalidArgument)
    );
    assert_eq!(
        copy(&[("x-amz-checksum-algorithm", "SHA256")])
            .unwrap()
            .checksum_algorithm,
        Some(ChecksumAlgorithm::Sha256)
    );
    assert_eq!(
        copy(&[("x-amz-checksum-algorithm", "XXHASH64")]),
        Err(S3ErrorCode::NotImplemented)
    );
    let op = copy(&[("x-amz-copy-source-if-match", "\"a\""), ("if-none-match", "*")]).unwrap();
    assert!(op.source.condition.if_match.is_some() && op.condition.if_none_match);
    let with_body = parse_in(Dialect::T2, "PUT", "/bkt/k", COPY, true).unwrap_err();
    assert_eq!(with_body.code(), S3ErrorCode::InvalidRequest);
}

/// A header that another operation takes is not passed over.
#[test]
fn headers_are_taken_where_they_mean_something() {
    const PUT: (&str, &str) = ("PUT", "/bkt/k");
    const PART: (&str, &str) = ("PUT", "/bkt/k?uploadId=u&partNumber=1");
    const CREATE: (&str, &str) = ("POST", "/bkt/k?uploads");
    const COMPLETE: (&str, &str) = ("POST", "/bkt/k?uploadId=u");
    const OTHERS: [(&str, &str); 9] = [
        ("GET", "/bkt/k"),
        ("HEAD", "/bkt/k"),
        ("DELETE", "/bkt/k"),
        ("GET", "/bkt/k?acl"),
        ("GET", "/bkt"),
        ("PUT", "/bkt"),
        ("GET", "/"),
        ("DELETE", "/bkt/k?uploadId=u"),
        ("GET", "/bkt/k?uploadId=u"),
    ];
    let verdict = |(method, uri): (&str, &str), headers: &[(&str, &str)]| ask(method, uri, headers).err();
    let algorithm = ("x-amz-checksum-algorithm", "CRC32");
    let full = ("x-amz-checksum-type", "FULL_OBJECT");
    let composite = ("x-amz-checksum-type", "COMPOSITE");
    let size = ("x-amz-mp-object-size", "5");
    let replace = ("x-amz-metadata-directive", "REPLACE");
    let copy = ("x-amz-metadata-directive", "COPY");
    for (request, taken) in [
        (PUT, &[&[algorithm][..], &[full]][..]),
        (PART, &[&[algorithm]]),
        (CREATE, &[&[algorithm], &[algorithm, full], &[replace], &[copy]]),
        (COMPLETE, &[&[full], &[composite], &[size]]),
    ] {
        for headers in taken {
            assert_eq!(verdict(request, headers), None, "{request:?}: {headers:?}");
        }
        let merge = ("x-amz-metadata-directive", "MERGE");
        for header in [algorithm, full, composite, size, replace, copy, merge] {
            if !taken.iter().any(|taken| taken.contains(&header)) {
                let code = verdict(request, &[header]);
                let expected = match header {
                    (_, "COMPOSITE") if request != PART => S3ErrorCode::InvalidRequest,
                    _ => S3ErrorCode::InvalidArgument,
                };
                assert_eq!(code, Some(expected), "{request:?}: {header:?}");
            }
        }
    }
    let as_copy = |request, header| verdict(request, &[COPY, &[header]].concat());
    for header in [algorithm, replace, copy] {
        assert_eq!(as_copy(PUT, header), None, "{header:?}");
    }
    for (request, header) in [
        (PUT, full),
        (PUT, size),
        (PART, algorithm),
        (PART, full),
        (PART, size),
        (PART, replace),
    ] {
        assert_eq!(
            as_copy(request, header),
            Some(S3ErrorCode::InvalidArgument),
            "{request:?}: {header:?}"
        );
    }
    for request in OTHERS {
        for header in [algorithm, full, size, replace] {
            assert_eq!(
                verdict(request, &[header]),
                Some(S3ErrorCode::InvalidArgument),
                "{request:?}: {header:?}"
            );
        }
    }
}

#[test]
fn parts_of_uploads_are_named_exactly() {
    for (uri, expected) in [
        ("/bkt/k?uploadId=u", S3ErrorCode::InvalidArgument),
        ("/bkt/k?uploadId=u&partNumber=0", S3ErrorCode::InvalidArgument),
        ("/bkt/k?uploadId=u&partNumber=10001", S3ErrorCode::InvalidArgument),
        ("/bkt/k?uploadId=&partNumber=1", S3ErrorCode::NoSuchUpload),
        ("/bkt/k?uploadId=..%2F..&partNumber=1", S3ErrorCode::NoSuchUpload),
    ] {
        assert_eq!(code("PUT", uri, &[]), expected, "{uri}");
    }
    let copy = |range| {
        let headers = [COPY, &[("x-amz-copy-source-range", range)]].concat();
        match parse_in(Dialect::T2, "PUT", "/bkt/k?uploadId=u&partNumber=1", &headers, false) {
            Ok(Operation::UploadPartCopy(op)) => Ok(op.range),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        }
    };
    assert_eq!(copy("bytes=0-4"), Ok(Some(0..=4)));
    assert_eq!(copy("bytes=0-"), Err(S3ErrorCode::InvalidArgument));
    let complete = |headers: &[(&str, &str)]| match ask("POST", "/bkt/k?uploadId=u", headers) {
        Ok(Operation::CompleteMultipartUpload(op)) => Ok(op),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    let op = complete(&[
        ("x-amz-checksum-crc32", "NhCmhg==-2"),
        ("x-amz-checksum-type", "COMPOSITE"),
        ("x-amz-mp-object-size", "5"),
    ])
    .unwrap();
    assert_eq!((op.size, op.checksum_type), (Some(5), Some(ChecksumType::Composite)));
    assert_eq!(op.checksum.unwrap().parts, Some(2));
    assert_eq!(
        complete(&[("x-amz-mp-object-size", "-5")]),
        Err(S3ErrorCode::InvalidRequest)
    );
    match ask("GET", "/bkt/k?uploadId=u&max-parts=2&part-number-marker=99999", &[]) {
        Ok(Operation::ListParts(op)) => assert_eq!((op.max_parts, op.part_number_marker), (2, u16::MAX)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn documents_need_a_digest() {
    let delete = |headers: &[(&str, &str)]| {
        parse_in(Dialect::T2, "POST", "/bkt?delete", headers, true).map_err(|error| error.code())
    };
    assert!(delete(MD5).is_ok());
    assert!(delete(&[("x-amz-checksum-crc32", "NhCmhg==")]).is_ok());
    assert!(delete(&[("x-amz-trailer", "x-amz-checksum-crc64nvme")]).is_ok());
    let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(
        delete(&[("x-amz-content-sha256", sha256)]).unwrap_err(),
        S3ErrorCode::InvalidRequest
    );
    assert_eq!(delete(&[]).unwrap_err(), S3ErrorCode::InvalidRequest);
    for uri in ["/bkt?acl", "/bkt/k?acl"] {
        let put = |headers: &[(&str, &str)], body| {
            parse_in(Dialect::T2, "PUT", uri, headers, body).map_err(|error| error.code())
        };
        assert!(put(ACL, false).is_ok());
        assert!(put(MD5, true).is_ok());
        assert!(put(&[("x-amz-content-sha256", sha256)], true).is_ok());
        assert_eq!(
            put(&[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")], true).unwrap_err(),
            S3ErrorCode::InvalidRequest
        );
        assert_eq!(
            put(&[ACL, MD5].concat(), true).unwrap_err(),
            S3ErrorCode::InvalidRequest
        );
        assert_eq!(put(&[], false).unwrap_err(), S3ErrorCode::MissingSecurityHeader);
    }
}

#[test]
fn bucket_acls_are_canned() {
    let create = |acl| match ask("PUT", "/bkt", &[("x-amz-acl", acl)]) {
        Ok(Operation::CreateBucket(op)) => Ok(op.acl),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    assert_eq!(create("public-read"), Ok(CannedAcl::PublicRead));
    assert_eq!(create("public-read-write"), Err(S3ErrorCode::NotImplemented));
    assert_eq!(create("mine"), Err(S3ErrorCode::InvalidArgument));
}

#[test]
fn attributes_are_chosen_by_name() {
    let ask = |value| match ask("GET", "/bkt/k?attributes", &[("x-amz-object-attributes", value)]) {
        Ok(Operation::GetObjectAttributes(op)) => Ok((op.etag, op.checksum, op.object_parts)),
        Ok(other) => panic!("{other:?}"),
        Err(code) => Err(code),
    };
    assert_eq!(ask("ETag, ObjectParts"), Ok((true, false, true)));
    assert_eq!(ask("etag"), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(ask(""), Err(S3ErrorCode::InvalidArgument));
    assert_eq!(code("GET", "/bkt/k?attributes", &[]), S3ErrorCode::InvalidRequest);
}

proptest! {
    #[test]
    fn never_panics(
        method in "(GET|PUT|POST|DELETE|HEAD)",
        path in "(/|/bkt|/bkt/k)\\PC{0,8}",
        query in proptest::collection::vec(
            ("(acl|uploads|uploadId|partNumber|versionId|list-type|max-keys|continuation-token|x-amz-acl|id)", "\\PC{0,8}"),
            0..4,
        ),
        headers in proptest::collection::vec(
            (
                "(range|if-match|if-none-match|x-amz-acl|x-amz-copy-source|x-amz-meta-a|x-amz-checksum-crc32|content-encoding)",
                "[ -~ä]{0,16}",
            ),
            0..4,
        ),
        has_body: bool,
    ) {
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let uri = format!("{}?{}", path.replace('?', ""), query.join("&"));
        let _operation = parse_in(Dialect::T2, &method, &uri, &headers, has_body);
    }
}
