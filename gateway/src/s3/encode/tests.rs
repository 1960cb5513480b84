use futures::FutureExt;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE};
use proptest::prelude::*;
use quick_xml::{Reader, events::Event};
use t2gate_backends::{
    BucketInfo, BucketName, CannedAcl, ChecksumAlgorithm, ChecksumType, ContentHeaders, DeleteObjectOutcome, Key,
    ListEntry, MultipartUpload, ObjectAttributes, ObjectInfo, ObjectPage, ObjectRef, Part, PartNumber, PartPage,
    ReadCondition, ReadRefusal, UploadEntry, UploadId, UploadPage, UploadRef,
};

use super::*;
use crate::s3::{
    operation::{
        GetObject, GetObjectAttributes, ListBuckets, ListMultipartUploads, ListObjects, ListObjectsV2, ListParts,
        ResponseOverrides, UnsetConfiguration,
    },
    target::percent_decode_text,
    token,
    xml::parse_access_control_policy,
};

mod versions;

const PROLOG: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const NS: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

fn body(response: Response<ResponseBody>) -> String {
    let bytes = response
        .into_body()
        .collect()
        .now_or_never()
        .unwrap()
        .unwrap()
        .to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The text of every element of that name, read as a strict reader does.
fn texts(xml: &str, name: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let mut texts = Vec::new();
    let mut current: Option<String> = None;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) if start.local_name().as_ref() == name => current = Some(String::new()),
            Event::Text(text) => current.iter_mut().for_each(|c| c.push_str(&text.xml10_content())),
            Event::GeneralRef(reference) => {
                let c = reference
                    .resolve_char_ref()
                    .unwrap()
                    .unwrap_or_else(|| match &*reference {
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        _ => '&',
                    });
                current.iter_mut().for_each(|text| text.push(c));
            }
            Event::End(end) if end.local_name().as_ref() == name => texts.extend(current.take()),
            Event::Eof => return texts,
            _ => {}
        }
    }
}

fn bucket() -> BucketName {
    BucketName::parse("bkt").unwrap()
}

fn account() -> AccountId {
    AccountId::parse("acme").unwrap()
}

fn at(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp::from_unix(seconds, nanos)
}

fn crc32(text: &str) -> Checksum {
    Checksum::parse(ChecksumAlgorithm::Crc32, text).unwrap()
}

fn info(key: &str) -> ObjectInfo {
    ObjectInfo {
        key: Key::parse(key).unwrap(),
        version_id: None,
        size: 10,
        etag: ETag::parse("abc").unwrap(),
        last_modified: at(1_767_323_045, 6_789_000),
        attributes: ObjectAttributes {
            checksum: Some(crc32("NhCmhg==")),
            ..ObjectAttributes::default()
        },
        parts_count: None,
    }
}

fn get() -> GetObject {
    GetObject {
        object: ObjectRef {
            bucket: bucket(),
            key: Key::parse("k").unwrap(),
            version_id: None,
        },
        condition: ReadCondition::default(),
        range: None,
        if_range: None,
        part_number: None,
        checksum_mode: true,
        overrides: ResponseOverrides::default(),
    }
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| str::from_utf8(value.as_bytes()).unwrap())
}

#[test]
fn a_whole_read_has_all_its_headers() {
    let response = get_object(&get(), &info("k"), &Selection::Whole);
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("content-length", "10"),
        ("etag", "\"abc\""),
        ("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT"),
        ("accept-ranges", "bytes"),
        ("content-type", "binary/octet-stream"),
        ("x-amz-checksum-crc32", "NhCmhg=="),
        ("x-amz-checksum-type", "FULL_OBJECT"),
    ] {
        assert_eq!(header(&response, name), Some(value), "{name}");
    }
    assert_eq!(response.headers().len(), 7);
}

#[test]
fn a_range_is_206_and_its_checksum_is_that_of_nothing() {
    let response = get_object(&get(), &info("k"), &Selection::Range(2..5));
    assert_eq!(response.status(), 206);
    assert_eq!(header(&response, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(header(&response, "content-length"), Some("3"));
    assert_eq!(header(&response, "x-amz-checksum-crc32"), None);
    assert_eq!(header(&response, "x-amz-checksum-type"), None);
    let whole = get_object(&get(), &info("k"), &Selection::Range(0..10));
    assert_eq!(
        (whole.status().as_u16(), header(&whole, "x-amz-checksum-crc32")),
        (206, Some("NhCmhg=="))
    );
}

#[test]
fn checksums_are_told_when_asked_for() {
    let op = GetObject {
        checksum_mode: false,
        ..get()
    };
    assert_eq!(
        header(&get_object(&op, &info("k"), &Selection::Whole), "x-amz-checksum-crc32"),
        None
    );
}

#[test]
fn a_part_has_its_own_checksum_and_the_count() {
    let part = |number, size, text| ObjectPart {
        part_number: PartNumber::new(number).unwrap(),
        size,
        checksum: Some(crc32(text)),
    };
    let mut object = info("k");
    object.parts_count = Some(2);
    object.attributes.checksum = Some(crc32("NhCmhg==-2"));
    let parts = [part(1, 6, "AAAAAA=="), part(3, 4, "AAAAAQ==")];
    let select = |number| select_part(&object, &parts, PartNumber::new(number).unwrap());
    let selection = select(3).unwrap();
    assert_eq!(selection.bytes(10), 6..10);
    let response = head_object(&get(), &object, &selection);
    assert_eq!(response.status(), 206);
    assert_eq!(header(&response, "content-range"), Some("bytes 6-9/10"));
    assert_eq!(header(&response, "content-length"), Some("4"));
    assert_eq!(header(&response, "x-amz-mp-parts-count"), Some("2"));
    assert_eq!(header(&response, "x-amz-checksum-crc32"), Some("AAAAAQ=="));
    assert_eq!(header(&response, "x-amz-checksum-type"), Some("COMPOSITE"));
    assert_eq!(select(2).unwrap_err().code(), S3ErrorCode::InvalidPartNumber);
}

#[test]
fn an_object_written_in_one_piece_is_its_own_part_1() {
    let one = PartNumber::new(1).unwrap();
    let selection = select_part(&info("k"), &[], one).unwrap();
    let response = head_object(&get(), &info("k"), &selection);
    assert_eq!(response.status(), 206);
    assert_eq!(header(&response, "x-amz-mp-parts-count"), None);
    assert_eq!(header(&response, "x-amz-checksum-crc32"), Some("NhCmhg=="));
    let mut empty_object = info("k");
    empty_object.size = 0;
    let selection = select_part(&empty_object, &[], one).unwrap();
    let response = head_object(&get(), &empty_object, &selection);
    assert_eq!(
        (response.status().as_u16(), header(&response, "content-length")),
        (200, Some("0"))
    );
    assert_eq!(
        select_part(&info("k"), &[], PartNumber::new(2).unwrap())
            .unwrap_err()
            .code(),
        S3ErrorCode::InvalidPartNumber
    );
}

#[test]
fn what_was_said_of_an_object_comes_back_and_overrides_stand_above_it() {
    let mut object = info("k");
    object.attributes.content = ContentHeaders {
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        cache_control: Some("no-cache".into()),
        content_disposition: Some("attachment; filename=\"ä\"".into()),
        ..ContentHeaders::default()
    };
    object.attributes.user_metadata = vec![("a".into(), "zwölf".into()), ("b".into(), "".into())];
    let mut op = get();
    op.overrides.0.content_type = Some("text/html".into());
    let response = get_object(&op, &object, &Selection::Whole);
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-encoding", "gzip"),
        ("cache-control", "no-cache"),
        ("content-disposition", "attachment; filename=\"ä\""),
        ("x-amz-meta-a", "zwölf"),
        ("x-amz-meta-b", ""),
    ] {
        assert_eq!(header(&response, name), Some(value), "{name}");
    }
}

#[test]
fn values_that_can_be_no_header_are_left_out_and_counted() {
    let mut object = info("k");
    object.last_modified = at(-1, 0);
    object.attributes.content.content_language = Some("a\r\nb: c".into());
    object.attributes.user_metadata = vec![
        ("good".into(), "1".into()),
        ("bad name".into(), "1".into()),
        ("bad".into(), "a\nb".into()),
    ];
    let response = get_object(&get(), &object, &Selection::Whole);
    assert_eq!(header(&response, "content-language"), None);
    assert_eq!(header(&response, "x-amz-meta-good"), Some("1"));
    assert_eq!(header(&response, "x-amz-missing-meta"), Some("2"));
    assert_eq!(
        header(&response, "last-modified"),
        Some("Thu, 01 Jan 1970 00:00:00 GMT")
    );
}

#[test]
fn a_refused_conditional_read_keeps_what_a_cache_needs() {
    let error = read_refused(ReadRefusal::NotModified, &info("k"));
    assert_eq!(error.code(), S3ErrorCode::NotModified);
    let names: Vec<&str> = error.headers().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["etag", "last-modified"]);
    assert_eq!(
        read_refused(ReadRefusal::PreconditionFailed, &info("k")).code(),
        S3ErrorCode::PreconditionFailed
    );
}

#[test]
fn writes_answer_with_tag_and_checksum() {
    let response = put_object(&info("k"));
    assert_eq!(header(&response, "etag"), Some("\"abc\""));
    assert_eq!(header(&response, "x-amz-checksum-crc32"), Some("NhCmhg=="));
    assert_eq!(
        body(copy_object(&info("k"), None)),
        format!(
            "{PROLOG}<CopyObjectResult {NS}><LastModified>2026-01-02T03:04:05.006Z</LastModified>\
             <ETag>&quot;abc&quot;</ETag><ChecksumType>FULL_OBJECT</ChecksumType>\
             <ChecksumCRC32>NhCmhg==</ChecksumCRC32></CopyObjectResult>"
        )
    );
    let response = delete_object(&DeleteObjectOutcome::default());
    assert_eq!((response.status().as_u16(), response.headers().len()), (204, 0));
}

fn page(keys: &[&str], prefixes: &[&str], is_truncated: bool) -> ObjectPage {
    let mut entries: Vec<ListEntry> = keys.iter().map(|key| ListEntry::Object(info(key))).collect();
    entries.extend(prefixes.iter().map(|prefix| ListEntry::CommonPrefix((*prefix).into())));
    entries.sort_by(|a, b| a.name().cmp(b.name()));
    ObjectPage { entries, is_truncated }
}

fn v1() -> ListObjects {
    ListObjects {
        bucket: bucket(),
        prefix: "".into(),
        delimiter: None,
        marker: None,
        max_keys: 1000,
        encoding_type: EncodingType::Plain,
    }
}

fn v2() -> ListObjectsV2 {
    ListObjectsV2 {
        bucket: bucket(),
        prefix: "".into(),
        delimiter: None,
        continuation_token: None,
        continue_after: None,
        start_after: None,
        fetch_owner: false,
        max_keys: 2,
        encoding_type: EncodingType::Plain,
    }
}

#[test]
fn version_1_names_the_next_marker_with_a_delimiter_only() {
    let list = |op: &ListObjects, page: &ObjectPage| body(list_objects(op, page, &account()).unwrap());
    let truncated = page(&["a", "b"], &["c/"], true);
    let xml = list(&v1(), &truncated);
    assert_eq!(texts(&xml, "NextMarker"), [""; 0]);
    assert_eq!(texts(&xml, "IsTruncated"), ["true"]);
    assert_eq!(texts(&xml, "ID"), ["acme", "acme"]);
    let op = ListObjects {
        delimiter: Some("/".into()),
        ..v1()
    };
    assert_eq!(texts(&list(&op, &truncated), "NextMarker"), ["c/"]);
    assert_eq!(texts(&list(&op, &page(&["a"], &[], false)), "NextMarker"), [""; 0]);
}

#[test]
fn version_2_counts_and_continues() {
    let op = ListObjectsV2 {
        continuation_token: Some("tok".into()),
        start_after: Some("0".into()),
        delimiter: Some("/".into()),
        ..v2()
    };
    let xml = body(list_objects_v2(&op, &page(&["a"], &["b/"], true), &account()).unwrap());
    assert_eq!(
        xml,
        format!(
            "{PROLOG}<ListBucketResult {NS}><Name>bkt</Name><Prefix></Prefix><StartAfter>0</StartAfter>\
             <ContinuationToken>tok</ContinuationToken><NextContinuationToken>{}</NextContinuationToken>\
             <KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>\
             <Contents><Key>a</Key><LastModified>2026-01-02T03:04:05.006Z</LastModified><ETag>&quot;abc&quot;</ETag>\
             <ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>10</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>\
             <CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></ListBucketResult>",
            token::encode("b/")
        )
    );
    let op = ListObjectsV2 {
        fetch_owner: true,
        ..v2()
    };
    let xml = body(list_objects_v2(&op, &page(&["a"], &[], false), &account()).unwrap());
    assert_eq!(texts(&xml, "DisplayName"), ["acme"]);
}

#[test]
fn url_encoding_covers_all_that_comes_from_keys() {
    let op = ListObjects {
        prefix: "a b".into(),
        delimiter: Some("+".into()),
        marker: Some("ä".into()),
        encoding_type: EncodingType::Url,
        ..v1()
    };
    let xml = body(list_objects(&op, &page(&["a b/\u{1}~"], &["a b+"], true), &account()).unwrap());
    assert_eq!(texts(&xml, "Prefix"), ["a%20b", "a%20b%2B"]);
    assert_eq!(texts(&xml, "Delimiter"), ["%2B"]);
    assert_eq!(texts(&xml, "Marker"), ["%C3%A4"]);
    assert_eq!(texts(&xml, "NextMarker"), ["a%20b/%01~"]);
    assert_eq!(texts(&xml, "Key"), ["a%20b/%01~"]);
    assert_eq!(texts(&xml, "EncodingType"), ["url"]);
}

#[test]
fn a_key_that_xml_cannot_say_fails_the_plain_listing() {
    let page = page(&["a\u{1}"], &[], false);
    assert_eq!(
        list_objects(&v1(), &page, &account()).unwrap_err().code(),
        S3ErrorCode::InvalidRequest
    );
    assert_eq!(
        list_objects_v2(&v2(), &page, &account()).unwrap_err().code(),
        S3ErrorCode::InvalidRequest
    );
}

#[test]
fn buckets_are_listed_with_owner_and_token() {
    let info = BucketInfo {
        bucket: bucket(),
        owner: account(),
        created: at(0, 0),
        acl: CannedAcl::Private,
        versioning: None,
    };
    let op = ListBuckets {
        prefix: "b".into(),
        start_after: None,
        max_buckets: Some(1),
        bucket_region: None,
    };
    let xml = body(list_buckets(&op, std::slice::from_ref(&info), true, &account(), "eu-1"));
    assert_eq!(texts(&xml, "Name"), ["bkt"]);
    assert_eq!(texts(&xml, "CreationDate"), ["1970-01-01T00:00:00.000Z"]);
    assert_eq!(texts(&xml, "BucketRegion"), ["eu-1"]);
    assert_eq!(texts(&xml, "ContinuationToken"), [token::encode("bkt")]);
    let xml = body(list_buckets(&op, &[info], false, &account(), "eu-1"));
    assert_eq!(texts(&xml, "ContinuationToken"), [""; 0]);
}

fn upload(key: &str) -> MultipartUpload {
    MultipartUpload {
        key: Key::parse(key).unwrap(),
        upload_id: UploadId::parse("u").unwrap(),
        initiated: at(1, 0),
        initiator: account(),
        checksum: Some((ChecksumAlgorithm::Sha256, ChecksumType::Composite)),
    }
}

#[test]
fn uploads_and_parts_are_listed_with_their_markers() {
    let op = ListMultipartUploads {
        bucket: bucket(),
        prefix: "".into(),
        delimiter: Some("/".into()),
        key_marker: None,
        upload_id_marker: None,
        max_uploads: 2,
        encoding_type: EncodingType::Plain,
    };
    let mut page = UploadPage {
        entries: vec![UploadEntry::CommonPrefix("a/".into()), UploadEntry::Upload(upload("b"))],
        is_truncated: true,
    };
    let xml = body(list_multipart_uploads(&op, &page, &account()).unwrap());
    assert_eq!(texts(&xml, "NextKeyMarker"), ["b"]);
    assert_eq!(texts(&xml, "NextUploadIdMarker"), ["u"]);
    assert_eq!(texts(&xml, "ChecksumType"), ["COMPOSITE"]);
    page.entries.pop();
    let xml = body(list_multipart_uploads(&op, &page, &account()).unwrap());
    assert_eq!(
        (texts(&xml, "NextKeyMarker"), texts(&xml, "NextUploadIdMarker")),
        (vec!["a/".into()], vec!["".into()])
    );

    let op = ListParts {
        upload: UploadRef {
            bucket: bucket(),
            key: Key::parse("b").unwrap(),
            upload_id: UploadId::parse("u").unwrap(),
        },
        part_number_marker: 1,
        max_parts: 1,
        encoding_type: EncodingType::Plain,
    };
    let part = Part {
        part_number: PartNumber::new(2).unwrap(),
        size: 7,
        etag: ETag::parse("abc").unwrap(),
        last_modified: at(2, 0),
        checksum: Some(crc32("NhCmhg==")),
    };
    let page = PartPage {
        upload: upload("b"),
        parts: vec![part],
        is_truncated: true,
    };
    let xml = body(list_parts(&op, &page, &account()).unwrap());
    assert_eq!(texts(&xml, "PartNumberMarker"), ["1"]);
    assert_eq!(texts(&xml, "NextPartNumberMarker"), ["2"]);
    assert_eq!(texts(&xml, "ETag"), ["\"abc\""]);
    assert_eq!(texts(&xml, "ChecksumCRC32"), ["NhCmhg=="]);
    assert_eq!(texts(&xml, "Size"), ["7"]);
}

#[test]
fn a_completed_upload_names_what_it_made() {
    let mut object = info("k<");
    object.attributes.checksum = Some(crc32("NhCmhg==-2"));
    let xml = body(complete_multipart_upload(&bucket(), &object, "https://host/bkt/k%3C"));
    assert_eq!(texts(&xml, "Key"), ["k<"]);
    assert_eq!(texts(&xml, "Location"), ["https://host/bkt/k%3C"]);
    assert_eq!(texts(&xml, "ETag"), ["\"abc\""]);
    assert_eq!(texts(&xml, "ChecksumCRC32"), ["NhCmhg==-2"]);
    assert_eq!(texts(&xml, "ChecksumType"), ["COMPOSITE"]);
}

#[test]
fn acls_are_written_as_they_are_read() {
    for acl in [CannedAcl::Private, CannedAcl::PublicRead] {
        let xml = body(get_bucket_acl(&account(), acl));
        assert_eq!(parse_access_control_policy(xml.as_bytes(), &account()).unwrap(), acl);
    }
}

#[test]
fn deletions_are_told_one_by_one() {
    let result = |key: &str, outcome| DeleteResult {
        key: key.into(),
        version_id: None,
        outcome,
    };
    let results = [
        result("a\u{1}", Ok(DeleteObjectOutcome::default())),
        result("b", Err(S3Error::new(S3ErrorCode::AccessDenied, "Access Denied"))),
    ];
    assert_eq!(
        body(delete_objects(&results, false)),
        format!(
            "{PROLOG}<DeleteResult {NS}><Deleted><Key>a&#x1;</Key></Deleted>\
             <Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>"
        )
    );
    assert_eq!(texts(&body(delete_objects(&results, true)), "Key"), ["b"]);
}

#[test]
fn attributes_have_a_tag_without_quotes() {
    let op = GetObjectAttributes {
        object: get().object,
        etag: true,
        checksum: true,
        object_parts: true,
        storage_class: true,
        object_size: true,
        max_parts: 1000,
        part_number_marker: 0,
    };
    let response = get_object_attributes(&op, &info("k"), &[], false);
    assert_eq!(
        header(&response, "last-modified"),
        Some("Fri, 02 Jan 2026 03:04:05 GMT")
    );
    let xml = body(response);
    assert_eq!(texts(&xml, "ETag"), ["abc"]);
    assert_eq!(texts(&xml, "ObjectSize"), ["10"]);
    assert_eq!(texts(&xml, "ObjectParts"), [""; 0]);
    let mut object = info("k");
    object.parts_count = Some(2);
    object.attributes.checksum = Some(crc32("NhCmhg==-2"));
    let part = ObjectPart {
        part_number: PartNumber::new(1).unwrap(),
        size: 5,
        checksum: Some(crc32("NhCmhg==")),
    };
    let xml = body(get_object_attributes(&op, &object, &[part], true));
    assert_eq!(
        (texts(&xml, "PartsCount"), texts(&xml, "NextPartNumberMarker")),
        (vec!["2".into()], vec!["1".into()])
    );
    assert_eq!(texts(&xml, "ChecksumCRC32"), ["NhCmhg==-2", "NhCmhg=="]);
}

#[test]
fn settings_that_are_not_there_answer_as_s3_does() {
    use UnsetConfiguration as Unset;
    let ask = |configuration| match get_unset_bucket_configuration(&bucket(), configuration) {
        Ok(response) => Ok(body(response)),
        Err(error) => Err((error.code().as_str(), error.code().status().as_u16())),
    };
    for (configuration, code) in [
        (Unset::Cors, "NoSuchCORSConfiguration"),
        (Unset::Encryption, "ServerSideEncryptionConfigurationNotFoundError"),
        (Unset::Lifecycle, "NoSuchLifecycleConfiguration"),
        (Unset::ObjectLock, "ObjectLockConfigurationNotFoundError"),
        (Unset::OwnershipControls, "OwnershipControlsNotFoundError"),
        (Unset::Policy, "NoSuchBucketPolicy"),
        (Unset::PolicyStatus, "NoSuchBucketPolicy"),
        (Unset::PublicAccessBlock, "NoSuchPublicAccessBlockConfiguration"),
        (Unset::Replication, "ReplicationConfigurationNotFoundError"),
        (Unset::Tagging, "NoSuchTagSet"),
        (Unset::Website, "NoSuchWebsiteConfiguration"),
        (Unset::Analytics, "NoSuchConfiguration"),
        (Unset::Inventory, "NoSuchConfiguration"),
        (Unset::Metrics, "NoSuchConfiguration"),
        (Unset::IntelligentTiering, "NoSuchConfiguration"),
    ] {
        assert_eq!(ask(configuration), Err((code, 404)), "{configuration:?}");
    }
    for (configuration, content) in [
        (
            Unset::Accelerate,
            format!("<AccelerateConfiguration {NS}></AccelerateConfiguration>"),
        ),
        (
            Unset::Logging,
            format!("<BucketLoggingStatus {NS}></BucketLoggingStatus>"),
        ),
        (
            Unset::Notification,
            format!("<NotificationConfiguration {NS}></NotificationConfiguration>"),
        ),
        (
            Unset::RequestPayment,
            format!("<RequestPaymentConfiguration {NS}><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"),
        ),
    ] {
        assert_eq!(
            ask(configuration),
            Ok(format!("{PROLOG}{content}")),
            "{configuration:?}"
        );
    }
    for configuration in [
        Unset::AnalyticsList,
        Unset::InventoryList,
        Unset::MetricsList,
        Unset::IntelligentTieringList,
    ] {
        assert_eq!(
            texts(&ask(configuration).unwrap(), "IsTruncated"),
            ["false"],
            "{configuration:?}"
        );
    }
    assert_eq!(
        body(get_bucket_versioning(None)),
        format!("{PROLOG}<VersioningConfiguration {NS}></VersioningConfiguration>")
    );
    assert_eq!(
        texts(&body(get_bucket_location("us-east-1")), "LocationConstraint"),
        [""]
    );
    assert_eq!(
        texts(&body(get_bucket_location("eu-1")), "LocationConstraint"),
        ["eu-1"]
    );
    assert_eq!(texts(&body(get_object_tagging(None)), "TagSet"), [""]);
}

#[test]
fn an_error_can_be_read_whatever_key_it_names() {
    let error = S3Error::new(S3ErrorCode::InvalidArgument, "no").with_field("ArgumentValue", "\u{8}");
    let xml = String::from_utf8(xml_error(&error, "bucket/bell\u{7}", "1", "2").to_vec()).unwrap();
    assert_eq!(texts(&xml, "Resource"), ["bucket/bell\u{fffd}"]);
    assert_eq!(texts(&xml, "ArgumentValue"), ["\u{fffd}"]);
}

#[test]
fn errors_are_written_as_the_t2_text_shows() {
    let error = S3Error::no_such_bucket("NonExistentBucket");
    let xml = String::from_utf8(xml_error(&error, "NonExistentBucket", "1", "2").to_vec()).unwrap();
    assert_eq!(
        xml,
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Error><Code>NoSuchBucket</Code>\
         <Message>The specified bucket does not exist: NonExistentBucket</Message>\
         <Resource>NonExistentBucket</Resource><BucketName>NonExistentBucket</BucketName>\
         <RequestId>1</RequestId><HostId>2</HostId></Error>"
    );
    assert_eq!(
        json_error("internal_error", "incident id 2f0e432cc922-9c2c28e96a16711b", 500),
        "{\"code\": \"internal_error\", \"message\": \"incident id 2f0e432cc922-9c2c28e96a16711b\", \"status\": 500}"
    );
    assert_eq!(
        json_error("a", "\"\\\n\u{1}", 1),
        "{\"code\": \"a\", \"message\": \"\\\"\\\\\\u000a\\u0001\", \"status\": 1}"
    );
    assert_eq!(json_code(S3ErrorCode::SlowDown), "slow_down");
}

#[test]
fn an_invalid_range_says_how_long_the_object_is() {
    let error = crate::s3::operation::Range::From(10).resolve(10).unwrap_err();
    assert_eq!(
        error.headers(),
        [(CONTENT_RANGE, HeaderValue::from_static("bytes */10"))]
    );
    let response = get_object(&get(), &info("k"), &Selection::Whole);
    assert!(response.headers().contains_key(ACCEPT_RANGES));
}

proptest! {
    #[test]
    fn listed_keys_are_read_as_they_are(keys in proptest::collection::btree_set("[^\0]{1,24}", 1..8), url: bool) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let op = ListObjectsV2 {
            encoding_type: if url { EncodingType::Url } else { EncodingType::Plain },
            ..v2()
        };
        match list_objects_v2(&op, &page(&keys, &[], false), &account()) {
            Ok(response) => {
                let mut read = texts(&body(response), "Key");
                if url {
                    read.iter_mut().for_each(|key| *key = percent_decode_text(key, false).unwrap());
                }
                prop_assert_eq!(read, keys);
            }
            Err(_) => prop_assert!(!url && !keys.iter().all(|key| is_representable(key))),
        }
    }

    #[test]
    fn never_panics_on_what_a_disk_holds(
        nanos: i64,
        size: u64,
        content in "[\0-\u{ff}]{0,8}",
        name in "\\PC{0,8}",
        start: u64,
    ) {
        let mut object = info("k");
        object.size = size;
        object.last_modified = Timestamp::from_unix_nanos(nanos);
        object.attributes.content.content_type = Some(content.as_str().into());
        object.attributes.user_metadata = vec![(name.into(), content.into())];
        let _response = get_object(&get(), &object, &Selection::Whole);
        let start = start.min(size);
        let _response = get_object(&get(), &object, &Selection::Range(start..size));
        let _response = copy_object(&object, None);
    }
}

/// What is given away can wait in a connection for long, and nobody counts it then.
#[tokio::test]
async fn a_document_is_given_away_in_slices() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut body = full(bytes.clone());
    assert_eq!(body.size_hint().exact(), Some(1_000_000));
    let mut given = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= SLICE && !data.is_empty());
        given.extend_from_slice(&data);
        assert_eq!(body.is_end_stream(), given.len() == bytes.len());
    }
    assert_eq!(given, bytes);
    assert!(full(Bytes::new()).is_end_stream());

    // What is given away keeps nothing of the rest.
    let document = Bytes::from(bytes);
    let mut body = full(document.clone());
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    drop(body);
    assert_eq!(first.len(), SLICE);
    assert!(document.is_unique());
}
