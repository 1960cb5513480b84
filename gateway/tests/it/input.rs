//! Input that no client should send: documents, names, numbers, headers.

use crate::support::{KNOWN, Request, Streamed, TestGateway};

const COMPLETE: &str = "CompleteMultipartUpload";

fn delete(document: impl AsRef<[u8]>) -> Request {
    Request::post("/bkt?delete").document(document)
}

#[tokio::test]
async fn documents_that_are_no_xml_or_more_than_that_change_nothing() {
    let gateway = TestGateway::with_bucket().await;
    let started = gateway.does(Request::post("/bkt/k?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    let part = gateway
        .does(Request::put(&format!("/bkt/k?partNumber=1&uploadId={upload}")).body("x"))
        .await;
    let etag = part.header("etag").unwrap().to_owned();
    let object = "<Object><Key>known</Key></Object>";
    let known_part = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
    for (root, good) in [("Delete", object), (COMPLETE, &*known_part)] {
        let whole = |inside: &str| format!("<{root}>{inside}</{root}>").into_bytes();
        let doctype = |declared: &str| format!("<!DOCTYPE {root} [{declared}]><{root}>{good}</{root}>").into_bytes();
        let laughs =
            "<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">";
        let mut utf16 = vec![0xff, 0xfe];
        utf16.extend(
            format!("<{root}>{good}</{root}>")
                .encode_utf16()
                .flat_map(u16::to_le_bytes),
        );
        let attributes: String = (0..20_000).map(|i| format!(" a{i}=\"\"")).collect();
        let documents = [
            Vec::new(),
            b" ".to_vec(),
            b"x".to_vec(),
            b"{}".to_vec(),
            b"<".to_vec(),
            b"\0".to_vec(),
            whole(""),
            format!("<{root}>{good}").into_bytes(),
            format!("<{root}>{good}</{root}").into_bytes(),
            format!("<{root}>{good}</Other>").into_bytes(),
            format!("<{root}>{good}</{root}><{root}>{good}</{root}>").into_bytes(),
            format!("<{root}>{good}</{root}>x").into_bytes(),
            format!("x<{root}>{good}</{root}>").into_bytes(),
            format!("<Other>{good}</Other>").into_bytes(),
            format!("<Other><{root}>{good}</{root}></Other>").into_bytes(),
            whole(&format!("{good}text")),
            whole(&format!("{good}<Unknown/>")),
            whole(&good.replacen("</", "<b/></", 1)),
            // Entities: declared, in an external file, multiplying, not declared at all, and characters that are none.
            doctype(""),
            doctype("<!ENTITY a \"known\">"),
            doctype("<!ENTITY a SYSTEM \"file:///etc/passwd\">"),
            doctype(laughs),
            whole(&good.replace("<Key>known", "<Key>&a;").replace("<ETag>", "<ETag>&a;")),
            whole(&good.replace("<Key>known", "<Key>&#0;").replace("<ETag>", "<ETag>&#0;")),
            whole(
                &good
                    .replace("<Key>known", "<Key>&#xD800;")
                    .replace("<ETag>", "<ETag>&#xD800;"),
            ),
            whole(
                &good
                    .replace("<Key>known", "<Key>&#1114112;")
                    .replace("<ETag>", "<ETag>&#1114112;"),
            ),
            whole(&good.replace("<Key>known", "<Key>&amp").replace("<ETag>", "<ETag>&amp")),
            format!("<?xml version=\"1.0\"?><?php exit ?><{root}>{good}</{root}>").into_bytes(),
            format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><{root}>{good}</{root}>").into_bytes(),
            [whole(good), b"\xff".to_vec()].concat(),
            [b"\xc0\xbc".to_vec(), whole(good)].concat(),
            utf16,
            "<a>".repeat(100_000).into_bytes(),
            format!("<{root}>{}", "<b>".repeat(100_000)).into_bytes(),
            format!("<{root}{attributes}>{good}</{root}>").into_bytes(),
            whole(&good.replacen('>', " a='1' a='2'>", 1)),
            whole(&format!("<![CDATA[{good}]]>")),
        ];
        for document in documents {
            let request = if root == "Delete" {
                delete(&document)
            } else {
                Request::post(&format!("/bkt/k?uploadId={upload}")).document(&document)
            };
            gateway.refuses(request, 400, "MalformedXML").await;
        }
    }
    // The upload is still there, and good.
    let document = format!("<{COMPLETE}>{known_part}</{COMPLETE}>");
    gateway
        .does(Request::post(&format!("/bkt/k?uploadId={upload}")).document(document))
        .await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn documents_have_a_largest_size_and_lists_in_them_a_longest_length() {
    let gateway = TestGateway::with_bucket().await;
    let keys = |count: usize| -> String {
        let objects: String = (0..count).map(|i| format!("<Object><Key>{i}</Key></Object>")).collect();
        format!("<Delete><Quiet>true</Quiet>{objects}</Delete>")
    };
    gateway.does(delete(keys(1000))).await;
    gateway.refuses(delete(keys(1001)), 400, "MalformedXML").await;
    let started = gateway.does(Request::post("/bkt/k?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    let part = |number| {
        format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
            "0".repeat(32)
        )
    };
    let complete = |parts: String| {
        Request::post(&format!("/bkt/k?uploadId={upload}")).document(format!("<{COMPLETE}>{parts}</{COMPLETE}>"))
    };
    gateway
        .refuses(complete((1..=10_001).map(part).collect()), 400, "MalformedXML")
        .await;
    gateway
        .refuses(complete((1..=10_000).map(part).collect()), 400, "InvalidPart")
        .await;
    gateway
        .refuses(complete(part(1).repeat(2)), 400, "InvalidPartOrder")
        .await;
    for number in ["0", "-1", "10001", "+1", "1.0", "99999999999999999999", "", "one"] {
        let answer = gateway
            .answer(complete(part(1).replacen(
                "<PartNumber>1",
                &format!("<PartNumber>{number}"),
                1,
            )))
            .await;
        assert_eq!(answer.status, 400, "{number}: {answer:?}");
    }
    // Refused by its announced size: nobody asks for the body.
    let large = format!("<Delete>{}</Delete>", " ".repeat(3 << 20));
    for request in [
        delete(&large),
        delete(&large)
            .chunked(1 << 16)
            .header("x-amz-decoded-content-length", large.len().to_string()),
        Request::post(&format!("/bkt/k?uploadId={upload}")).document(&large),
        Request::put("/another").document(&large),
        Request::put("/bkt?acl").document(&large),
        Request::post("/bkt?delete").streamed(&large, Streamed::Unsigned),
    ] {
        gateway.refuses(request, 400, "EntityTooLarge").await;
    }
    let undigested = Request::post("/bkt?delete")
        .body(keys(1))
        .content_sha256("UNSIGNED-PAYLOAD");
    gateway.refuses(undigested, 400, "InvalidRequest").await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn keys_are_up_to_1024_bytes_of_utf_8_without_control_characters() {
    let gateway = TestGateway::with_bucket().await;
    let path = |key: &str| format!("/bkt/{key}");
    for key in [
        "k".repeat(1024),
        "%C3%A9".repeat(512),
        format!("{}/k", "d/".repeat(511)),
    ] {
        gateway.does(Request::put(&path(&key)).body("x")).await;
        assert_eq!(gateway.does(Request::get(&path(&key))).await.body, b"x");
        gateway.does(Request::delete(&path(&key))).await;
    }
    for (key, code) in [
        ("k".repeat(1025), "KeyTooLongError"),
        (format!("{}k", "%C3%A9".repeat(512)), "KeyTooLongError"),
        ("%00".into(), "InvalidArgument"),
        ("a%00b".into(), "InvalidArgument"),
        ("a%0Ab".into(), "InvalidArgument"),
        ("a%1Fb".into(), "InvalidArgument"),
        ("a%7Fb".into(), "InvalidArgument"),
    ] {
        for method in ["PUT", "GET", "DELETE", "HEAD"] {
            gateway.refuses(Request::new(method, &path(&key)), 400, code).await;
        }
        let copy = Request::put("/bkt/k").header("x-amz-copy-source", path(&key));
        gateway.refuses(copy, 400, code).await;
        gateway
            .refuses(Request::post(&format!("{}?uploads", path(&key))), 400, code)
            .await;
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn broken_encoding_in_path_and_query_is_an_invalid_uri() {
    let gateway = TestGateway::with_bucket().await;
    for broken in ["%", "%4", "%zz", "a%", "%%41", "%u0041", "%-1", "%+1"] {
        // The signer refuses these as well: signed or not, they have to be refused first.
        for target in [
            format!("/bkt/{broken}"),
            format!("/{broken}/k"),
            format!("/bkt/known?versionId={broken}"),
            format!("/bkt?{broken}"),
        ] {
            for method in ["GET", "PUT", "DELETE"] {
                gateway
                    .refuses(Request::new(method, &target).anonymous(), 400, "InvalidURI")
                    .await;
            }
        }
    }
    // Well encoded, but no text.
    for bytes in ["%FF", "%C3", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "%80"] {
        for target in [
            format!("/bkt/{bytes}"),
            format!("/{bytes}/k"),
            format!("/bkt?prefix={bytes}"),
            format!("/bkt?{bytes}"),
        ] {
            gateway.refuses(Request::get(&target), 400, "InvalidURI").await;
            gateway.refuses(Request::put(&target), 400, "InvalidURI").await;
        }
        let copy = Request::put("/bkt/k").header("x-amz-copy-source", format!("/bkt/{bytes}"));
        gateway.refuses(copy, 400, "InvalidArgument").await;
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn numbers_are_numbers() {
    let gateway = TestGateway::with_bucket().await;
    let started = gateway.does(Request::post("/bkt/k?uploads")).await;
    let upload = started.element("UploadId").unwrap();
    let bad = [
        "-1",
        "%2B1",
        "1.5",
        "1e3",
        "0x10",
        "one",
        "2147483648",
        "99999999999999999999",
        "1%20",
        "%D9%A1",
    ];
    for number in bad {
        for target in [
            format!("/bkt?max-keys={number}"),
            format!("/bkt?list-type=2&max-keys={number}"),
            format!("/bkt?uploads&max-uploads={number}"),
            format!("/bkt/k?uploadId={upload}&max-parts={number}"),
            format!("/bkt/k?uploadId={upload}&part-number-marker={number}"),
            format!("/?max-buckets={number}"),
            format!("/bkt/known?partNumber={number}"),
        ] {
            gateway.refuses(Request::get(&target), 400, "InvalidArgument").await;
        }
        let part = Request::put(&format!("/bkt/k?partNumber={number}&uploadId={upload}")).body("x");
        gateway.refuses(part, 400, "InvalidArgument").await;
    }
    for number in ["0", "10001"] {
        let part = Request::put(&format!("/bkt/k?partNumber={number}&uploadId={upload}")).body("x");
        gateway.refuses(part, 400, "InvalidArgument").await;
        gateway
            .refuses(
                Request::get(&format!("/bkt/known?partNumber={number}")),
                400,
                "InvalidArgument",
            )
            .await;
    }
    // A range that cannot be read is none; one that lies behind the end is refused.
    for range in [
        "bytes=-",
        "bytes=1",
        "bytes=5-1",
        "bytes=a-b",
        "bytes=--1",
        "lines=0-1",
        "bytes=0-1,3-4",
        "",
        "bytes",
    ] {
        let answer = gateway.does(Request::get("/bkt/known").header("range", range)).await;
        assert_eq!((answer.status, &*answer.body), (200, KNOWN), "{range:?}");
    }
    for range in ["bytes=16-", "bytes=16-17", "bytes=18446744073709551615-", "bytes=-0"] {
        let answer = gateway
            .refuses(Request::get("/bkt/known").header("range", range), 416, "InvalidRange")
            .await;
        assert_eq!(answer.header("content-range"), Some("bytes */16"), "{range:?}");
    }
    for (range, part) in [
        ("bytes=15-99999999999999999999999", "t"),
        ("bytes=-1", "t"),
        ("bytes=-99999999999999999999", "the known object"),
    ] {
        let answer = gateway.answer(Request::get("/bkt/known").header("range", range)).await;
        let taken = answer.status == 206 && answer.body == part.as_bytes();
        // A number that no offset can be: as good as no range.
        let ignored = answer.status == 200 && answer.body == KNOWN;
        assert!(taken || ignored, "{range}: {answer:?}");
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn headers_that_may_come_once_come_once() {
    let gateway = TestGateway::with_bucket().await;
    let put = || Request::put("/bkt/known").body("hello");
    let copy = || Request::put("/bkt/k").header("x-amz-copy-source", "/bkt/known");
    for (request, name, value) in [
        (put(), "x-amz-acl", "private"),
        (put(), "content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
        (put(), "x-amz-checksum-crc32", "NhCmhg=="),
        (put(), "x-amz-sdk-checksum-algorithm", "CRC32"),
        (put(), "x-amz-storage-class", "STANDARD"),
        (put(), "x-amz-expected-bucket-owner", "acme"),
        (put(), "content-type", "text/plain"),
        (copy(), "x-amz-metadata-directive", "COPY"),
        (copy(), "x-amz-copy-source", "/bkt/known"),
        (
            Request::get("/bkt/known"),
            "if-modified-since",
            "Sun, 22 Nov 2020 09:44:44 GMT",
        ),
        (Request::get("/bkt/known"), "x-amz-expected-bucket-owner", "acme"),
        (
            put().streamed("hello", Streamed::Unsigned),
            "x-amz-decoded-content-length",
            "5",
        ),
        (
            put().streamed("hello", Streamed::Unsigned),
            "x-amz-trailer",
            "x-amz-checksum-crc32",
        ),
    ] {
        let before = gateway.tree();
        let answer = gateway.answer(request.header(name, value).header(name, value)).await;
        assert!((400..=412).contains(&answer.status), "{name}: {answer:?}");
        gateway.settles_to(&before).await;
    }
    // Two ranges are answered with the whole.
    let ranges = Request::get("/bkt/known")
        .header("range", "bytes=0-1")
        .header("range", "bytes=0-1");
    let answer = gateway.does(ranges).await;
    assert_eq!((answer.status, &*answer.body), (200, KNOWN));
    gateway.still_answers().await;
}

#[tokio::test]
async fn lists_of_headers_parameters_and_metadata_have_bounds() {
    let gateway = TestGateway::with_bucket().await;
    let put = || Request::put("/bkt/known").body("hello");
    gateway
        .refuses(put().header("x-amz-meta-a", "b".repeat(3000)), 400, "MetadataTooLarge")
        .await;
    let many = (0..60).fold(put(), |request, i| {
        request.header(&format!("x-amz-meta-{i}"), "b".repeat(40))
    });
    gateway.refuses(many, 400, "MetadataTooLarge").await;
    let query = vec!["a=1"; 300].join("&");
    gateway
        .refuses(
            Request::get(&format!("/bkt?{query}")).anonymous(),
            400,
            "InvalidArgument",
        )
        .await;
    // hyper refuses these by itself, without a body, and the connection ends.
    let long_line = Request::get(&format!("/bkt?prefix={}", "a".repeat(20_000)));
    let many = (0..300).fold(put(), |request, i| request.line(format!("a{i}: b")));
    let large = put().line(format!("a: {}", "b".repeat(20_000)));
    for request in [long_line, many, large] {
        let before = gateway.tree();
        let mut connection = gateway.connect().await;
        connection.send(&request.bytes(&gateway.host())).await;
        let answer = connection.answer_to("GET").await;
        assert_eq!((answer.status, answer.body.len()), (431, 0), "{answer:?}");
        assert!(connection.is_closed().await);
        gateway.settles_to(&before).await;
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn sub_resources_never_fall_through_to_the_object() {
    let gateway = TestGateway::with_bucket().await;
    for (name, status) in [
        ("tagging", 501),
        ("legal-hold", 501),
        ("retention", 501),
        ("encryption", 501),
        ("annotation", 501),
        ("renameObject", 501),
        ("restore", 405),
        ("select&select-type=2", 405),
        ("torrent", 405),
        ("attributes", 405),
        ("uploads", 405),
        ("policy", 400),
        ("lifecycle", 400),
        ("versioning", 400),
        ("uploadId=x", 400),
        ("partNumber=1", 400),
        ("acl&tagging", 400),
        ("tagging=&tagging=", 400),
        ("versionId=null", 400),
    ] {
        let before = gateway.tree();
        let answer = gateway
            .answer(Request::put(&format!("/bkt/known?{name}")).body("x"))
            .await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        gateway.settles_to(&before).await;
    }
    for name in ["tagging", "annotation", "legal-hold", "uploads", "attributes"] {
        let before = gateway.tree();
        let answer = gateway.answer(Request::delete(&format!("/bkt/known?{name}"))).await;
        assert!(matches!(answer.status, 400 | 405 | 501), "{name}: {answer:?}");
        gateway.settles_to(&before).await;
    }
    for name in [
        "lifecycle",
        "cors",
        "policy",
        "website",
        "versioning",
        "tagging",
        "metadataTable",
        "abac",
        "session",
    ] {
        let before = gateway.tree();
        for method in ["PUT", "DELETE", "POST"] {
            let answer = gateway.answer(Request::new(method, &format!("/bkt?{name}"))).await;
            // Of these it is known that there are none.
            let is_unset = method == "DELETE" && ["lifecycle", "cors"].contains(&name);
            let expected: &[u16] = if is_unset { &[404] } else { &[400, 405, 501] };
            assert!(expected.contains(&answer.status), "{method} {name}: {answer:?}");
        }
        gateway.settles_to(&before).await;
    }
    gateway.still_answers().await;
}
