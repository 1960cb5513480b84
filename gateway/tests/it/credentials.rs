//! Who asks: what must be signed, what a signature covers, and every form of credentials that is refused.

use crate::support::{
    APP, EXPIRED, KNOWN, MASTER, OTHER, REVOKED, Request, SECRET, Streamed, TestGateway, TestKey, head_of, now,
};
use t2gate_backends::Timestamp;

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix(now().unix_seconds() + seconds, 0)
}

/// Signs the request, changes its head, and hopes for a refusal.
async fn refuses_changed(gateway: &TestGateway, request: &Request, (from, to): (&str, &str), status: u16, code: &str) {
    let (head, body) = request.signed(&gateway.host());
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains(from), "{from} is not in {head}");
    let method = to
        .split_once(' ')
        .filter(|_| from.starts_with(&request.method))
        .map_or(&*request.method, |(m, _)| m);
    let bytes = [head.replacen(from, to, 1).into_bytes(), body].concat();
    gateway.refuses_bytes(method, bytes, status, code).await;
}

#[tokio::test]
async fn a_signature_holds_for_one_request_alone() {
    let gateway = TestGateway::with_bucket().await;
    gateway.does(Request::put("/bkt/other").body("x")).await;
    let host = gateway.host();
    let get = Request::get("/bkt/known?x-id=1").header("range", "bytes=0-1");
    let put = Request::put("/bkt/known")
        .header("x-amz-meta-a", "b")
        .header("content-type", "text/plain")
        .body("hello");
    let mismatch = "SignatureDoesNotMatch";
    for (request, change, status, code) in [
        (&get, ("GET /bkt/known", "GET /bkt/other"), 401, mismatch),
        (&get, ("/bkt/known", "/bkt//known"), 401, mismatch),
        (&get, ("/bkt/known", "/bkt/./known"), 401, mismatch),
        (&get, ("x-id=1", "x-id=2"), 401, mismatch),
        (&get, ("?x-id=1", ""), 401, mismatch),
        (&get, ("?x-id=1", "?x-id=1&versionId=null"), 401, mismatch),
        (&get, ("GET ", "DELETE "), 401, mismatch),
        (&get, ("GET ", "HEAD "), 401, mismatch),
        (&get, ("GET ", "PUT "), 401, mismatch),
        (&get, (&format!("Host: {host}"), "Host: localhost"), 401, mismatch),
        (
            &get,
            (&format!("Host: {host}"), "Host: bkt.s3.localhost"),
            401,
            mismatch,
        ),
        (&get, ("range: bytes=0-1", "range: bytes=0-2"), 401, mismatch),
        (
            &get,
            ("us-east-1/s3", "eu-west-1/s3"),
            400,
            "AuthorizationHeaderMalformed",
        ),
        (&get, ("/s3/", "/ec2/"), 400, "AuthorizationHeaderMalformed"),
        (
            &get,
            ("aws4_request", "aws5_request"),
            400,
            "AuthorizationHeaderMalformed",
        ),
        (&get, ("acme-app", "other-app"), 200, ""),
        (&put, ("x-amz-meta-a: b", "x-amz-meta-a: c"), 401, mismatch),
        (&put, ("x-amz-meta-a: b\r\n", ""), 401, mismatch),
        (
            &put,
            ("x-amz-meta-a: b", "x-amz-meta-a: b\r\nx-amz-meta-a: c"),
            401,
            mismatch,
        ),
        (
            &put,
            ("content-type: text/plain", "content-type: text/html"),
            401,
            mismatch,
        ),
        // Not signed, and it would count.
        (
            &put,
            ("x-amz-meta-a: b", "x-amz-meta-a: b\r\nx-amz-meta-b: c"),
            403,
            "AccessDenied",
        ),
        (
            &put,
            ("x-amz-meta-a: b", "x-amz-meta-a: b\r\nx-amz-acl: private"),
            403,
            "AccessDenied",
        ),
        (
            &put,
            ("x-amz-meta-a: b", "x-amz-meta-a: b\r\nX-AMZ-Copy-Source: /bkt/other"),
            403,
            "AccessDenied",
        ),
        (
            &put,
            ("content-type: text/plain", "x-amz-anything: at all"),
            403,
            "AccessDenied",
        ),
        (&put, (";x-amz-meta-a", ""), 403, "AccessDenied"),
        (&put, ("host;", ""), 403, "AccessDenied"),
    ] {
        // Another account's key has the same secret: this one signature holds for it, and its account for nothing here.
        if status == 200 {
            refuses_changed(&gateway, request, change, 403, "AccessDenied").await;
        } else {
            refuses_changed(&gateway, request, change, status, code).await;
        }
    }
    // Another body under the same signature.
    let (head, _) = put.signed(&host);
    gateway
        .refuses_bytes(
            "PUT",
            [head, b"jello".to_vec()].concat(),
            400,
            "XAmzContentSHA256Mismatch",
        )
        .await;
    // The announced hash made to fit the body: that is signed too.
    let (head, body) = Request::put("/bkt/known")
        .body("hello")
        .content_sha256("UNSIGNED-PAYLOAD")
        .signed(&host);
    let head = String::from_utf8(head).unwrap();
    let other = head.replace("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    gateway
        .refuses_bytes("PUT", [other.into_bytes(), body].concat(), 401, mismatch)
        .await;
    // Signed chunks of another request: the chain begins at the request's own signature.
    let (_, others) = Request::put("/bkt/other")
        .streamed("hello", Streamed::Signed)
        .signed(&host);
    let (head, _) = Request::put("/bkt/known")
        .streamed("hello", Streamed::Signed)
        .signed(&host);
    gateway
        .refuses_bytes("PUT", [head, others].concat(), 401, mismatch)
        .await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn credentials_that_are_not_whole_are_refused_and_never_anonymous() {
    let gateway = TestGateway::with_bucket().await;
    // Where anonymous reads are allowed, falling back would show.
    gateway
        .does(Request::put("/bkt?acl").header("x-amz-acl", "public-read"))
        .await;
    let anonymous = Request::get("/bkt/known").anonymous();
    assert_eq!(gateway.does(anonymous.clone()).await.body, KNOWN);

    for (line, code) in [
        ("Authorization:", "InvalidArgument"),
        ("Authorization: x", "InvalidArgument"),
        ("Authorization: Basic YTpi", "InvalidArgument"),
        ("Authorization: Bearer x", "InvalidArgument"),
        ("Authorization: AWS acme-app:c2lnbmF0dXJl", "InvalidRequest"),
        ("Authorization: AWS", "InvalidRequest"),
        (
            "Authorization: AWS4-ECDSA-P256-SHA256 Credential=a/20260101/s3/aws4_request",
            "InvalidRequest",
        ),
        ("Authorization: AWS4-HMAC-SHA512 Credential=a", "InvalidRequest"),
        ("Authorization: AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        (
            "Authorization: AWS4-HMAC-SHA256 Credential=",
            "AuthorizationHeaderMalformed",
        ),
        ("Authorization: AWS4-HMAC-SHA256 ,,,", "AuthorizationHeaderMalformed"),
    ] {
        let answer = gateway.refuses(anonymous.clone().line(line), 400, code).await;
        assert_ne!(answer.body, KNOWN);
    }
    for (query, code) in [
        ("X-Amz-Signature=0", "AuthorizationQueryParametersError"),
        ("X-Amz-Credential=a", "AuthorizationQueryParametersError"),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "AuthorizationQueryParametersError"),
        ("x-amz-algorithm=AWS4-HMAC-SHA256", "AuthorizationQueryParametersError"),
        ("X%2DAmz-Signature=0", "AuthorizationQueryParametersError"),
        ("X-Amz-Security-Token=t", "InvalidToken"),
        ("AWSAccessKeyId=acme-app", "InvalidRequest"),
        ("Signature=x", "InvalidRequest"),
        ("AWSAccessKeyId=a&Signature=b&Expires=1", "InvalidRequest"),
        ("AWSAccessKeyId=a&X-Amz-Signature=0", "InvalidArgument"),
    ] {
        let mut request = anonymous.clone();
        request.query = query.to_owned();
        gateway.refuses(request, 400, code).await;
    }
    let token = anonymous.clone().header("x-amz-security-token", "t");
    gateway.refuses(token, 400, "InvalidToken").await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn credentials_come_once_and_in_one_place() {
    let gateway = TestGateway::with_bucket().await;
    let get = Request::get("/bkt/known");
    let head = head_of(&get, &gateway.host());
    let authorization = head
        .split("\r\n")
        .find(|line| line.starts_with("authorization"))
        .unwrap();
    let refuse = |head: String, status, code| gateway.refuses_bytes("GET", head.into_bytes(), status, code);
    // Twice the same, in one way or the other.
    let twice = head.replace(authorization, &format!("{authorization}\r\n{authorization}"));
    refuse(twice, 400, "InvalidArgument").await;
    for (part, code) in [
        ("SignedHeaders=host", "AuthorizationHeaderMalformed"),
        ("Credential=a/b", "AuthorizationHeaderMalformed"),
    ] {
        refuse(
            head.replace(authorization, &format!("{authorization}, {part}")),
            400,
            code,
        )
        .await;
    }
    refuse(
        head.replace("Signature=", "Other=1, Signature="),
        400,
        "AuthorizationHeaderMalformed",
    )
    .await;
    refuse(head.replace("Signature=", "Sig="), 400, "AuthorizationHeaderMalformed").await;
    for word in ["x-amz-date", "x-amz-content-sha256"] {
        let line = head.split("\r\n").find(|line| line.starts_with(word)).unwrap();
        let bytes = head.replace(line, &format!("{line}\r\n{line}"));
        let mut connection = gateway.connect().await;
        connection.send(bytes.as_bytes()).await;
        let answer = connection.answer_to("GET").await;
        assert!((400..=403).contains(&answer.status), "{word}: {answer:?}");
    }
    let both = get.clone().presigned();
    let both = format!(
        "{}{authorization}\r\n\r\n",
        head_of(&both, &gateway.host()).strip_suffix("\r\n").unwrap()
    );
    refuse(both, 400, "InvalidArgument").await;
    // In the URL: each parameter twice, or not at all.
    let url = get.presigned().url(&gateway.host());
    let query = url.split_once('?').unwrap().1.to_owned();
    for parameter in query.split('&') {
        let name = parameter.split('=').next().unwrap();
        let doubled = format!("{query}&{parameter}");
        let in_another_case = format!("{query}&{}=1", name.to_lowercase());
        let without = query
            .split('&')
            .filter(|p| *p != parameter)
            .collect::<Vec<_>>()
            .join("&");
        for (what, query) in [
            ("doubled", doubled),
            ("in another case", in_another_case),
            ("without", without),
        ] {
            let request = Request::get(&format!("/bkt/known?{query}")).anonymous();
            let answer = gateway.answer(request).await;
            assert_eq!(answer.status, 400, "{name} {what}: {answer:?}");
            assert_eq!(
                answer.code().unwrap(),
                "AuthorizationQueryParametersError",
                "{name} {what}"
            );
        }
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn keys_that_are_not_good_are_told_apart_only_with_their_secret() {
    let gateway = TestGateway::with_bucket().await;
    let wrong = |key: TestKey| TestKey {
        secret: "another-secret-of-the-same-length-000000",
        ..key
    };
    for (key, code) in [
        (MASTER, "InvalidAccessKeyId"),
        (REVOKED, "InvalidAccessKeyId"),
        (EXPIRED, "InvalidAccessKeyId"),
        (
            TestKey {
                id: "acme-nobody",
                secret: SECRET,
            },
            "InvalidAccessKeyId",
        ),
        (wrong(APP), "SignatureDoesNotMatch"),
        (wrong(MASTER), "SignatureDoesNotMatch"),
        (wrong(REVOKED), "SignatureDoesNotMatch"),
    ] {
        for request in [
            Request::get("/bkt/known").by(key),
            Request::put("/bkt/known").body("x").by(key),
            Request::get("/bkt/known").by(key).presigned(),
            Request::head("/bkt/known").by(key),
        ] {
            let answer = gateway.refuses(request, 401, code).await;
            assert_eq!(answer.header("www-authenticate"), Some("AWS4-HMAC-SHA256"), "{key:?}");
        }
    }
    let answer = gateway
        .refuses(Request::get("/").by(MASTER), 401, "InvalidAccessKeyId")
        .await;
    assert!(
        answer
            .text()
            .contains("master keys are not accepted here: create an application key")
    );
    let answer = gateway
        .refuses(Request::get("/").by(REVOKED), 401, "InvalidAccessKeyId")
        .await;
    assert!(
        !answer.text().contains("revoked"),
        "the answer tells what is wrong with the key"
    );
    gateway.still_answers().await;
}

#[tokio::test]
async fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let gateway = TestGateway::with_bucket().await;
    let get = || Request::get("/bkt/known");
    gateway.does(get().at(later(-14 * 60))).await;
    gateway.does(get().at(later(14 * 60))).await;
    for seconds in [-16 * 60, 16 * 60, -86_400 * 400, 86_400] {
        let answer = gateway
            .refuses(get().at(later(seconds)), 403, "RequestTimeTooSkewed")
            .await;
        // From which SDKs find out how far off they are.
        assert!(answer.header("date").is_some(), "{answer:?}");
    }
    // The scope's day and the time's.
    let head = head_of(&get(), &gateway.host());
    let day = head.split("x-amz-date: ").nth(1).unwrap()[..8].to_owned();
    let other = head.replace(&format!("/{day}/"), "/20200101/");
    gateway
        .refuses_bytes("GET", other.into_bytes(), 400, "AuthorizationHeaderMalformed")
        .await;
}

#[tokio::test]
async fn a_presigned_url_holds_for_its_time() {
    let gateway = TestGateway::with_bucket().await;
    let get = || Request::get("/bkt/known");
    gateway.does(get().presigned()).await;
    gateway.does(get().presigned_for(604_800).at(later(-604_000))).await;
    gateway
        .refuses(get().presigned_for(1).at(later(-3)), 401, "AccessDenied")
        .await;
    gateway
        .refuses(get().presigned_for(600).at(later(-700)), 401, "AccessDenied")
        .await;
    for seconds in [0, 604_801, u64::MAX] {
        let request = get().presigned_for(seconds);
        gateway.refuses(request, 400, "AuthorizationQueryParametersError").await;
    }
    for expires in ["-1", "+600", "6e2", "", "99999999999999999999", "600%20"] {
        let url = get().presigned().url(&gateway.host());
        let url = url.replace("X-Amz-Expires=600", &format!("X-Amz-Expires={expires}"));
        gateway
            .refuses(Request::get(&url).anonymous(), 400, "AuthorizationQueryParametersError")
            .await;
    }
    // For another method, key, host.
    let url = get().presigned().url(&gateway.host());
    for request in [
        Request::put(&url).body("x"),
        Request::delete(&url),
        Request::head(&url),
        Request::get(&url.replace("/bkt/known", "/bkt/none")),
        Request::get(&url).at_host("localhost"),
        Request::get(&format!("{url}&response-content-type=text%2Fhtml")),
        Request::get(&format!("{url}&x-id=GetObject")),
    ] {
        gateway.refuses(request.anonymous(), 401, "SignatureDoesNotMatch").await;
    }
    gateway.still_answers().await;
}

#[tokio::test]
async fn what_a_presigner_moves_into_the_url_is_the_header_that_it_was() {
    let gateway = TestGateway::with_bucket().await;
    gateway
        .does(
            Request::put("/bkt/source")
                .header("x-amz-meta-a", "b")
                .body("the source"),
        )
        .await;
    // A presigned copy is a copy, not an empty overwrite.
    for name in ["x-amz-copy-source", "X-Amz-Copy-Source", "X-AMZ-COPY-SOURCE"] {
        let request = Request::put(&format!("/bkt/copy?{name}=%2Fbkt%2Fsource")).presigned();
        let answer = gateway.does(request).await;
        assert!(answer.text().contains("CopyObjectResult"), "{answer:?}");
        assert_eq!(gateway.does(Request::get("/bkt/copy")).await.body, b"the source");
        gateway.does(Request::delete("/bkt/copy")).await;
    }
    let meta = Request::put("/bkt/meta?X-Amz-Meta-Colour=blue&x-amz-acl=private")
        .presigned()
        .body("x");
    gateway.does(meta).await;
    let answer = gateway.does(Request::get("/bkt/meta")).await;
    assert_eq!(answer.header("x-amz-meta-colour"), Some("blue"));

    let put = |query: &str| Request::put(&format!("/bkt/known?{query}")).presigned().body("hello");
    gateway
        .does(
            Request::put("/bkt/k?x-amz-checksum-crc32=NhCmhg%3D%3D")
                .presigned()
                .body("hello"),
        )
        .await;
    for (request, status, code) in [
        (put("x-amz-checksum-crc32=AAAAAA%3D%3D"), 400, "BadDigest"),
        (put("x-amz-acl=public-read"), 403, "AccessDenied"),
        (put("x-amz-acl=nonsense"), 400, "InvalidArgument"),
        (
            put("x-amz-acl=private").header("x-amz-acl", "public-read"),
            400,
            "InvalidArgument",
        ),
        (
            put("x-amz-meta-a=b").header("x-amz-meta-a", "c"),
            400,
            "InvalidArgument",
        ),
        (put("x-amz-meta-a=b&x-amz-meta-a=b"), 400, "InvalidArgument"),
        (put("x-amz-meta-a=b&X-Amz-Meta-A=c"), 400, "InvalidArgument"),
        (
            put("x-amz-copy-source=%2Fbkt%2Fsource").header("x-amz-copy-source", "/bkt/known"),
            400,
            "InvalidArgument",
        ),
        (put("x-amz-meta-a=b%0D%0Ax"), 400, "InvalidArgument"),
        (put("x-amz-made-up=1"), 501, "NotImplemented"),
        (put("x-amz-tagging=a%3Db"), 501, "NotImplemented"),
        (put("x-amz-server-side-encryption=AES256"), 501, "NotImplemented"),
        (
            put("x-amz-server-side-encryption=aws%3Akms"),
            400,
            "InvalidEncryptionAlgorithmError",
        ),
        (
            put("x-amz-content-sha256=STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            400,
            "InvalidRequest",
        ),
    ] {
        gateway.refuses(request, status, code).await;
    }
    // The hash of the body in the URL binds the body.
    let hash = t2gate::sigv4::client::sha256_hex(b"hello");
    for name in ["X-Amz-Content-Sha256", "x-amz-content-sha256"] {
        let bound = |body: &str| Request::put(&format!("/bkt/k?{name}={hash}")).presigned().body(body);
        gateway.does(bound("hello")).await;
        gateway.refuses(bound("jello"), 400, "XAmzContentSHA256Mismatch").await;
    }
    // Names that are none of S3's are the client's business, as long as they are signed.
    gateway
        .does(Request::put("/bkt/k?x-id=PutObject&whatever=1").presigned().body("x"))
        .await;
    // The same parameters without credentials are refused, not looked over.
    gateway
        .does(Request::put("/bkt?acl").header("x-amz-acl", "public-read"))
        .await;
    let anonymous = Request::get("/bkt/known?x-amz-made-up=1").anonymous();
    gateway.refuses(anonymous, 501, "NotImplemented").await;
    gateway.still_answers().await;
}

#[tokio::test]
async fn streaming_signatures_need_a_seed() {
    let gateway = TestGateway::with_bucket().await;
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    for request in [
        Request::put("/bkt/known")
            .presigned()
            .header("x-amz-content-sha256", word)
            .header("x-amz-decoded-content-length", "5"),
        Request::put("/bkt/known")
            .anonymous()
            .content_sha256(word)
            .header("x-amz-decoded-content-length", "5"),
    ] {
        gateway
            .refuses(request.body("5\r\nhello\r\n0\r\n\r\n"), 400, "InvalidRequest")
            .await;
    }
    for word in [
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
    ] {
        let request = Request::put("/bkt/known").content_sha256(word).body("x");
        gateway.refuses(request, 400, "InvalidRequest").await;
    }
    for word in ["", "unsigned-payload", "x", "STREAMING-UNSIGNED-PAYLOAD"] {
        let request = Request::put("/bkt/known").content_sha256(word).body("x");
        let answer = gateway.answer(request).await;
        assert_eq!(answer.status, 400, "{word:?} {answer:?}");
    }
}

#[tokio::test]
async fn regions_are_the_configured_one_and_us_east_1() {
    let gateway = TestGateway::configured_with_bucket("[s3]\nregion = \"eu-test-1\"\n").await;
    gateway.does(Request::get("/bkt/known").region("eu-test-1")).await;
    gateway.does(Request::get("/bkt/known").region("us-east-1")).await;
    let other = Request::get("/bkt/known").region("eu-west-1");
    let answer = gateway
        .refuses(other.clone(), 400, "AuthorizationHeaderMalformed")
        .await;
    assert_eq!(answer.element("Region").as_deref(), Some("eu-test-1"));
    assert_eq!(answer.header("x-amz-bucket-region"), Some("eu-test-1"));
    gateway
        .refuses(other.presigned(), 400, "AuthorizationHeaderMalformed")
        .await;
    let any = TestGateway::configured_with_bucket("[s3]\nany_region = true\n").await;
    any.does(Request::get("/bkt/known").region("nowhere-7")).await;
}

#[tokio::test]
async fn signatures_of_another_account_are_good_for_its_own() {
    let gateway = TestGateway::with_bucket().await;
    gateway
        .refuses(Request::get("/bkt/known").by(OTHER), 403, "AccessDenied")
        .await;
    let answer = gateway.does(Request::get("/").by(OTHER)).await;
    assert!(!answer.text().contains("bkt"), "{}", answer.text());
}
