//! What is refused, and with which code; what is let through although it looks odd.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::s3::{S3Error, S3ErrorCode};

const HOST: &str = "gate.example.com:8443";
const TARGET: &str = "/bucket/a%20b?x-id=GetObject";

fn unsigned() -> Request {
    Request::new("GET", TARGET, HOST)
}

fn target(request: &Request) -> client::Target<'_> {
    client::Target {
        method: &request.method,
        host: &request.host,
        raw_path: &request.path,
        raw_query: &request.query,
    }
}

/// Signs `request` in the header, with whatever headers it has.
fn signed_as(mut request: Request, content_sha256: &str) -> Request {
    let mut headers = request.headers.clone();
    let now = Timestamp::from_unix(NOW, 0);
    signer()
        .sign(target(&request), &mut headers, content_sha256, now)
        .unwrap();
    request.headers = headers;
    request
}

fn signed(request: Request) -> Request {
    signed_as(request, &client::sha256_hex(b""))
}

/// Signs `request` in the query.
fn presigned(mut request: Request) -> Request {
    let now = Timestamp::from_unix(NOW, 0);
    let query = signer().presign(target(&request), &request.headers, now, Duration::from_secs(600));
    request.query = query.unwrap();
    request
}

/// A good presigned request with `from` in its query replaced.
fn presigned_with(from: &str, to: &str) -> Request {
    let mut request = presigned(unsigned());
    assert!(request.query.contains(from), "{from} in {}", request.query);
    request.query = request.query.replacen(from, to, 1);
    request
}

/// A good request with `from` in its Authorization header replaced.
fn signed_with(from: &str, to: &str) -> Request {
    let mut request = signed(unsigned());
    let authorization = request.headers["authorization"].to_str().unwrap().to_owned();
    assert!(authorization.contains(from), "{from} in {authorization}");
    request.set("authorization", &authorization.replacen(from, to, 1));
    request
}

#[track_caller]
fn refused(request: &Request) -> AuthError {
    match request.verify(SECRET, &options()) {
        Ok(_) => panic!("accepted: {request:?}"),
        Err(error) => error,
    }
}

fn at(seconds: i64, nanos: u32) -> VerifyOptions<'static> {
    VerifyOptions {
        now: Timestamp::from_unix(NOW + seconds, nanos),
        ..options()
    }
}

fn header_fault(fault: Fault) -> AuthError {
    AuthError::header(fault)
}

fn query_fault(fault: Fault) -> AuthError {
    AuthError::query(fault)
}

#[test]
fn good_signatures_are_accepted() {
    for request in [signed(unsigned()), presigned(unsigned())] {
        let credentials = request.credentials().unwrap();
        assert_eq!(&*credentials.access_key_id, "AKIDTEST");
        let verified = request.verify(SECRET, &options()).unwrap();
        assert!(verified.chunk_signer.is_none());
    }
    let payload = |request: Request| request.verify(SECRET, &options()).unwrap().payload;
    assert_eq!(payload(presigned(unsigned())), PayloadMode::Unsigned);
    assert_eq!(
        payload(signed_as(unsigned(), "UNSIGNED-PAYLOAD")),
        PayloadMode::Unsigned
    );
    assert!(matches!(payload(signed(unsigned())), PayloadMode::Sha256(_)));
}

#[test]
fn only_a_request_without_any_trace_of_credentials_is_anonymous() {
    let anonymous = |request: &Request| matches!(credentials(&request.signed()), Ok(Credentials::Anonymous));
    assert!(anonymous(&unsigned()));
    let mut with_hash = unsigned();
    with_hash
        .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        .header("x-amz-date", "20130524T000000Z");
    assert!(anonymous(&with_hash));
    for parameter in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "x-amz-signature",
        "X%2DAmz-Signature",
        "AWSAccessKeyId",
        "Signature",
    ] {
        for query in [
            parameter.to_owned(),
            format!("{parameter}="),
            format!("a=b&{parameter}=c"),
        ] {
            let request = Request::new("GET", &format!("/b/k?{query}"), HOST);
            assert!(credentials(&request.signed()).is_err(), "{query}");
        }
    }
    for value in ["", " ", "x", "Bearer abc", "AWS4-HMAC-SHA256"] {
        let mut request = unsigned();
        request.header("authorization", value);
        assert!(credentials(&request.signed()).is_err(), "{value:?}");
    }
}

#[test]
fn the_authorization_header_may_be_spaced_as_clients_do() {
    for (from, to) in [(", ", ","), (", ", " ,  "), ("HMAC-SHA256 ", "HMAC-SHA256   ")] {
        signed_with(from, to).verify(SECRET, &options()).unwrap();
    }
    let request = signed(unsigned());
    let authorization = request.headers["authorization"].to_str().unwrap();
    let (scheme, parameters) = authorization.split_once(' ').unwrap();
    let reversed: Vec<_> = parameters.rsplit(", ").collect();
    let mut reordered = request.clone();
    reordered.set("authorization", &format!("{scheme} {}", reversed.join(",")));
    reordered.verify(SECRET, &options()).unwrap();
}

#[test]
fn a_malformed_authorization_header_is_refused() {
    let long = format!("Credential={}", "x".repeat(MAX_AUTHORIZATION_LENGTH));
    for (from, to, fault) in [
        ("Credential=", "Credential", Fault::Syntax),
        ("Credential=", long.as_str(), Fault::Syntax),
        (", ", ", ,", Fault::Syntax),
        (", Signature=", ";Signature=", Fault::MissingParameter),
        (", ", ", Extra=1, ", Fault::UnknownParameter),
        ("Credential", "credential", Fault::UnknownParameter),
        (", ", ", SignedHeaders=host, ", Fault::DuplicateParameter),
        (", ", ", Signature=0, ", Fault::DuplicateParameter),
        ("AKIDTEST/", "", Fault::Credential),
        ("AKIDTEST/", "/", Fault::Credential),
        ("AKIDTEST/", "AKID/TEST/", Fault::Credential),
        ("AKIDTEST/", "AKID TEST/", Fault::Credential),
        ("/20130524/", "/2013-05-24/", Fault::Credential),
        ("/20130524/", "/20130525/", Fault::ScopeDate),
        ("/s3/", "/iam/", Fault::Service),
        ("/aws4_request", "/aws4_reply", Fault::Terminator),
        ("/aws4_request", "", Fault::Credential),
        ("SignedHeaders=", "SignedHeaders=;", Fault::SignedHeaders),
        ("SignedHeaders=host", "SignedHeaders=Host", Fault::SignedHeaders),
        ("SignedHeaders=host", "SignedHeaders=host;host", Fault::SignedHeaders),
        ("Signature=", "Signature=0", Fault::Signature),
        ("Signature=", "Signature=g", Fault::Signature),
    ] {
        assert_eq!(refused(&signed_with(from, to)), header_fault(fault), "{from} -> {to}");
    }
    let mut many: Vec<_> = (0..MAX_SIGNED_HEADERS).map(|i| format!("h{i}")).collect();
    assert!(SignedHeaders::parse(&many.join(";")).is_ok());
    many.push("h".to_owned());
    assert_eq!(SignedHeaders::parse(&many.join(";")), Err(Fault::SignedHeaders));

    for bare in ["AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256  "] {
        let mut request = unsigned();
        request.header("authorization", bare);
        assert_eq!(refused(&request), header_fault(Fault::MissingParameter));
    }
}

#[test]
fn other_mechanisms_are_refused() {
    for (value, error) in [
        ("AWS AKIDTEST:c2lnbmF0dXJl", AuthError::UnsupportedMechanism),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", AuthError::UnsupportedMechanism),
        ("AWS4-HMAC-SHA512 Credential=a", AuthError::UnsupportedMechanism),
        ("Basic dTpw", AuthError::UnsupportedAuthorizationType),
        ("aws4-hmac-sha256 Credential=a", AuthError::UnsupportedAuthorizationType),
        ("", AuthError::UnsupportedAuthorizationType),
    ] {
        let mut request = unsigned();
        request.header("authorization", value);
        assert_eq!(refused(&request), error, "{value}");
    }
    let version2 = Request::new("GET", "/b/k?AWSAccessKeyId=a&Signature=s&Expires=1", HOST);
    assert_eq!(refused(&version2), AuthError::UnsupportedMechanism);
    let asymmetric = presigned_with("HMAC-SHA256", "ECDSA-P256-SHA256");
    assert_eq!(refused(&asymmetric), AuthError::UnsupportedMechanism);
    assert_eq!(AuthError::UnsupportedMechanism.code(), S3ErrorCode::InvalidRequest);
}

#[test]
fn more_than_one_set_of_credentials_is_refused() {
    let mut twice = signed(unsigned());
    let authorization = twice.headers["authorization"].clone();
    twice.headers.append("authorization", authorization);
    assert_eq!(refused(&twice), AuthError::SeveralAuthorizationHeaders);

    let mut both = presigned(unsigned());
    both.header("authorization", "AWS4-HMAC-SHA256 Credential=x");
    assert_eq!(refused(&both), AuthError::SeveralMechanisms);
    assert_eq!(refused(&both).code(), S3ErrorCode::InvalidArgument);

    let mut with_version2 = signed(unsigned());
    with_version2.query = "Signature=x".to_owned();
    assert_eq!(refused(&with_version2), AuthError::SeveralMechanisms);

    let mut mixed = presigned(unsigned());
    mixed.query.push_str("&AWSAccessKeyId=x");
    assert_eq!(refused(&mixed), AuthError::SeveralMechanisms);
}

#[test]
fn session_tokens_are_refused() {
    let mut in_header = unsigned();
    in_header.header("x-amz-security-token", "token");
    for request in [signed(in_header.clone()), presigned(in_header.clone()), in_header] {
        assert_eq!(refused(&request), AuthError::SessionToken);
    }
    let in_query = presigned_with("X-Amz-Algorithm", "X-Amz-Security-Token=t&X-Amz-Algorithm");
    assert_eq!(refused(&in_query), AuthError::SessionToken);
    assert_eq!(AuthError::SessionToken.code(), S3ErrorCode::InvalidToken);
}

#[test]
fn a_malformed_presigned_query_is_refused() {
    for (from, to, fault) in [
        ("X-Amz-Algorithm=", "Y=", Fault::MissingParameter),
        ("X-Amz-Credential=", "Y=", Fault::MissingParameter),
        ("X-Amz-Date=", "Y=", Fault::MissingParameter),
        ("X-Amz-Expires=", "Y=", Fault::MissingParameter),
        ("X-Amz-SignedHeaders=", "Y=", Fault::MissingParameter),
        ("X-Amz-Signature=", "Y=", Fault::MissingParameter),
        ("X-Amz-Signature=", "x-amz-signature=", Fault::MissingParameter),
        ("X-Amz-Date=", "X-Amz-Expires=5&X-Amz-Date=", Fault::DuplicateParameter),
        ("X-Amz-Date=", "x-amz-expires=5&X-Amz-Date=", Fault::DuplicateParameter),
        (
            "X-Amz-Date=",
            "X-Amz-Date=20130524T000000Z&X-Amz-Date=",
            Fault::DuplicateParameter,
        ),
        ("X-Amz-Algorithm=AWS4-HMAC", "X-Amz-Algorithm=HMAC", Fault::Algorithm),
        ("X-Amz-Date=20130524T", "X-Amz-Date=2013-05-24T", Fault::Date),
        ("X-Amz-Date=20130524T", "X-Amz-Date=20130525T", Fault::ScopeDate),
        ("X-Amz-Expires=600", "X-Amz-Expires=0", Fault::Expires),
        ("X-Amz-Expires=600", "X-Amz-Expires=604801", Fault::Expires),
        ("X-Amz-Expires=600", "X-Amz-Expires=-1", Fault::Expires),
        ("X-Amz-Expires=600", "X-Amz-Expires=%2B600", Fault::Expires),
        ("X-Amz-Expires=600", "X-Amz-Expires=", Fault::Expires),
        (
            "X-Amz-Expires=600",
            "X-Amz-Expires=99999999999999999999",
            Fault::Expires,
        ),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=", Fault::SignedHeaders),
        ("AKIDTEST%2F", "", Fault::Credential),
        ("X-Amz-Credential=", "X-Amz-Credential=%FF", Fault::Syntax),
        ("%2Fs3%2F", "%2Fsts%2F", Fault::Service),
        ("X-Amz-Signature=", "X-Amz-Signature=z", Fault::Signature),
    ] {
        assert_eq!(refused(&presigned_with(from, to)), query_fault(fault), "{from} -> {to}");
    }
    assert_eq!(
        query_fault(Fault::Expires).code(),
        S3ErrorCode::AuthorizationQueryParametersError
    );
}

#[test]
fn broken_percent_encoding_is_refused_for_everybody() {
    let mut path = signed(unsigned());
    path.path = "/bucket/%zz".to_owned();
    assert_eq!(refused(&path), AuthError::InvalidUri);
    let mut query = unsigned();
    query.query = "a=%".to_owned();
    assert_eq!(credentials(&query.signed()).unwrap_err(), AuthError::InvalidUri);
    query.query = "a&".repeat(crate::limits::MAX_QUERY_PARAMETERS + 1);
    assert_eq!(credentials(&query.signed()).unwrap_err(), AuthError::TooManyParameters);
}

#[test]
fn whatever_is_changed_after_signing_breaks_the_signature() {
    for good in [signed(unsigned()), presigned(unsigned())] {
        let changes: [fn(&mut Request); 5] = [
            |r| r.method = "PUT".to_owned(),
            |r| r.path.push('/'),
            |r| r.query.push_str("&acl"),
            |r| r.host = "gate.example.com".to_owned(),
            |r| r.host = "gate.example.com:443".to_owned(),
        ];
        for change in changes {
            let mut request = good.clone();
            change(&mut request);
            assert_eq!(refused(&request), AuthError::SignatureDoesNotMatch, "{request:?}");
        }
        assert_eq!(
            good.verify("another", &options()).unwrap_err(),
            AuthError::SignatureDoesNotMatch
        );
    }
    let mut request = signed(unsigned());
    request.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(refused(&request), AuthError::SignatureDoesNotMatch);
    assert_eq!(
        refused(&presigned_with("X-Amz-Expires=600", "X-Amz-Expires=604800")),
        AuthError::SignatureDoesNotMatch
    );
}

#[test]
fn a_host_header_beside_the_effective_host_is_not_looked_at() {
    let mut request = signed(unsigned());
    request.set("host", "other.example.com");
    request.verify(SECRET, &options()).unwrap();
}

#[test]
fn equivalent_escapes_keep_the_signature() {
    let mut request = signed(unsigned());
    for path in ["/bucket/a b", "/%62ucket/a%20b", "/bucket/%61%20%62"] {
        request.path = path.to_owned();
        request.verify(SECRET, &options()).unwrap();
    }
    request.query = "x%2did=%47etObject".to_owned();
    request.verify(SECRET, &options()).unwrap();
    // Decoded once, not twice.
    request.path = "/bucket/a%2520b".to_owned();
    assert_eq!(refused(&request), AuthError::SignatureDoesNotMatch);
}

#[test]
fn host_and_every_amz_header_have_to_be_signed() {
    let mut added = signed(unsigned());
    added
        .header("x-amz-acl", "public-read")
        .header("x-amz-meta-a", "b")
        .header("content-type", "a/b");
    let names = vec!["x-amz-acl".into(), "x-amz-meta-a".into()];
    assert_eq!(refused(&added), AuthError::HeadersNotSigned { names });
    assert_eq!(refused(&added).code(), S3ErrorCode::AccessDenied);
    assert_eq!(
        refused(&added).fields(),
        [("HeadersNotSigned", "x-amz-acl, x-amz-meta-a".to_owned())]
    );

    let names = vec!["host".into()];
    let error = refused(&signed_with("SignedHeaders=host;", "SignedHeaders="));
    assert_eq!(error, AuthError::HeadersNotSigned { names });

    let mut added = presigned(unsigned());
    added.header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    let names = vec!["x-amz-content-sha256".into()];
    assert_eq!(refused(&added), AuthError::HeadersNotSigned { names });

    // Others may come along unsigned.
    let mut request = signed(unsigned());
    request.header("content-type", "a/b").header("range", "bytes=0-1");
    request.verify(SECRET, &options()).unwrap();
}

#[test]
fn a_signed_header_that_did_not_arrive_counts_as_empty() {
    let mut request = unsigned();
    request.header("x-amz-tagging", "").header("content-md5", "value");
    let mut request = signed(request);
    request.headers.remove("x-amz-tagging");
    request.verify(SECRET, &options()).unwrap();
    request.headers.remove("content-md5");
    assert_eq!(refused(&request), AuthError::SignatureDoesNotMatch);
}

#[test]
fn values_of_one_header_are_joined_in_their_order() {
    let mut request = unsigned();
    request.header("x-amz-meta-a", "  1   2").header("x-amz-meta-a", "3");
    let mut request = signed(request);
    request.set("x-amz-meta-a", "1 2,3");
    request.verify(SECRET, &options()).unwrap();
    request.set("x-amz-meta-a", "3,1 2");
    assert_eq!(refused(&request), AuthError::SignatureDoesNotMatch);
}

#[test]
fn the_date_is_that_of_x_amz_date_or_else_of_date() {
    let mut request = signed(unsigned());
    request.header("date", "Thu, 01 Jan 1970 00:00:00 GMT");
    request.verify(SECRET, &options()).unwrap();

    for bad in ["", "20130524", "Fri, 24 May 2013 00:00:00 GMT"] {
        request.set("x-amz-date", bad);
        assert_eq!(refused(&request), AuthError::MissingDate, "{bad}");
    }
    request
        .set("x-amz-date", "20130524T000000Z")
        .header("x-amz-date", "20130524T000000Z");
    assert_eq!(refused(&request), AuthError::MissingDate);
    request.headers.remove("x-amz-date");
    request.headers.remove("date");
    assert_eq!(refused(&request), AuthError::MissingDate);

    // Signed with Date alone.
    for date in ["Fri, 24 May 2013 00:00:00 GMT", "20130524T000000Z"] {
        let mut request = unsigned();
        let content_sha256 = client::sha256_hex(b"");
        request
            .header("date", date)
            .header("x-amz-content-sha256", &content_sha256);
        let list = SignedHeaders::parse("date;host;x-amz-content-sha256").unwrap();
        let parts = Parts::new(&request.signed(), &list, &content_sha256, false).unwrap();
        let scope = CredentialScope {
            date: "20130524".into(),
            region: "us-east-1".into(),
            service: "s3".into(),
        };
        let string_to_sign = string_to_sign("20130524T000000Z", &scope, &parts.canonical_request());
        let signature = SigningKey::derive(&SECRET.into(), &scope)
            .sign(string_to_sign.as_bytes())
            .to_hex();
        let list = list.as_str();
        let value = format!("AWS4-HMAC-SHA256 Credential=AKIDTEST/{scope},SignedHeaders={list},Signature={signature}");
        request.header("authorization", &value);
        request.verify(SECRET, &options()).unwrap();
    }
}

#[test]
fn clocks_may_differ_by_fifteen_minutes() {
    let request = signed(unsigned());
    for (seconds, nanos) in [(-900, 0), (0, 0), (900, 0)] {
        request.verify(SECRET, &at(seconds, nanos)).unwrap();
    }
    for (seconds, nanos) in [(-901, 999_999_999), (900, 1), (86_400 * 365 * 100, 0), (-NOW * 2, 0)] {
        let error = request.verify(SECRET, &at(seconds, nanos)).unwrap_err();
        assert!(matches!(error, AuthError::RequestTimeTooSkewed { .. }), "{seconds}");
        assert_eq!(error.code(), S3ErrorCode::RequestTimeTooSkewed);
        assert!(!error.unauthenticated());
    }
    let error = request.verify(SECRET, &at(1000, 0)).unwrap_err();
    assert_eq!(
        error.fields(),
        [
            ("RequestTime", "2013-05-24T00:00:00Z".to_owned()),
            ("ServerTime", "2013-05-24T00:16:40Z".to_owned()),
            ("MaxAllowedSkewMilliseconds", "900000".to_owned()),
        ]
    );
}

#[test]
fn a_presigned_url_is_good_from_its_date_until_it_expires() {
    let request = presigned(unsigned());
    for seconds in [-900, 0, 600] {
        request.verify(SECRET, &at(seconds, 0)).unwrap();
    }
    let early = request.verify(SECRET, &at(-901, 0)).unwrap_err();
    assert!(matches!(early, AuthError::NotYetValid { .. }));
    let late = request.verify(SECRET, &at(600, 1)).unwrap_err();
    for error in [&early, &late] {
        assert_eq!(error.code(), S3ErrorCode::AccessDenied);
        assert!(error.unauthenticated());
    }
    assert_eq!(
        late.fields(),
        [
            ("X-Amz-Expires", "600".to_owned()),
            ("Expires", "2013-05-24T00:10:00Z".to_owned()),
            ("ServerTime", "2013-05-24T00:10:00Z".to_owned()),
        ]
    );
}

#[test]
fn a_presigned_url_may_live_a_week() {
    let request = unsigned();
    let now = Timestamp::from_unix(NOW, 0);
    let query = signer().presign(target(&request), &request.headers, now, MAX_EXPIRES);
    let request = Request {
        query: query.unwrap(),
        ..request
    };
    request.verify(SECRET, &at(604_800, 0)).unwrap();
    assert!(request.verify(SECRET, &at(604_801, 0)).is_err());
}

#[test]
fn the_region_is_the_configured_one_or_us_east_1() {
    let sign = |region: &str| {
        let mut request = unsigned();
        let mut headers = HeaderMap::new();
        let signer = client::Signer {
            region: region.to_owned(),
            ..signer()
        };
        let now = Timestamp::from_unix(NOW, 0);
        signer
            .sign(target(&request), &mut headers, "UNSIGNED-PAYLOAD", now)
            .unwrap();
        request.headers = headers;
        request
    };
    for region in ["eu-central-1", "us-east-1"] {
        sign(region).verify(SECRET, &options()).unwrap();
    }
    let error = refused(&sign("us-west-2"));
    assert_eq!(error.code(), S3ErrorCode::AuthorizationHeaderMalformed);
    assert_eq!(error.fields(), [("Region", "eu-central-1".to_owned())]);
    let any_region = VerifyOptions {
        any_region: true,
        ..options()
    };
    sign("us-west-2").verify(SECRET, &any_region).unwrap();
}

#[test]
fn the_payload_hash_is_required_and_one_of_the_known_words() {
    let mut request = signed(unsigned());
    request.headers.remove("x-amz-content-sha256");
    assert_eq!(refused(&request), AuthError::MissingContentSha256);
    assert_eq!(refused(&request).code(), S3ErrorCode::InvalidRequest);
    request.set("x-amz-content-sha256", "0123");
    assert_eq!(refused(&request), AuthError::InvalidContentSha256);
    request.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    request.header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(refused(&request), AuthError::InvalidContentSha256);
    request.set("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD");
    assert_eq!(refused(&request), AuthError::UnsupportedPayloadSignature);
}

#[test]
fn signed_chunks_need_the_authorization_header() {
    for (word, mode) in [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", PayloadMode::StreamingSigned),
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            PayloadMode::StreamingSignedTrailer,
        ),
    ] {
        let verified = signed_as(unsigned(), word).verify(SECRET, &options()).unwrap();
        assert_eq!(verified.payload, mode);
        assert!(verified.chunk_signer.is_some());

        let mut in_header = unsigned();
        in_header.header("x-amz-content-sha256", word);
        assert_eq!(refused(&presigned(in_header)), AuthError::SignedChunksNeedHeader);
        let mut in_query = unsigned();
        in_query.query = format!("X-Amz-Content-Sha256={word}");
        assert_eq!(refused(&presigned(in_query)), AuthError::SignedChunksNeedHeader);
    }
}

#[test]
fn a_presigned_payload_hash_is_honoured_wherever_it_stands() {
    let word = client::sha256_hex(b"hello");
    let mut in_header = unsigned();
    in_header.header("x-amz-content-sha256", &word);
    let mut in_query = unsigned();
    in_query.query = format!("X-Amz-Content-Sha256={word}");
    let mut in_both = in_header.clone();
    in_both.query = in_query.query.clone();
    for request in [in_header, in_query, in_both] {
        let payload = presigned(request).verify(SECRET, &options()).unwrap().payload;
        assert_eq!(payload, PayloadMode::parse(&word).unwrap());
    }
    let mut two_words = unsigned();
    two_words.header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    two_words.query = format!("X-Amz-Content-Sha256={word}");
    assert_eq!(refused(&presigned(two_words)), AuthError::InvalidContentSha256);
}

#[test]
fn the_client_learns_the_code_the_message_and_whether_to_log_in() {
    for (error, code, unauthenticated) in [
        (
            AuthError::SignatureDoesNotMatch,
            S3ErrorCode::SignatureDoesNotMatch,
            true,
        ),
        (AuthError::UnknownAccessKeyId, S3ErrorCode::InvalidAccessKeyId, true),
        (AuthError::MissingDate, S3ErrorCode::AccessDenied, false),
        (AuthError::InvalidUri, S3ErrorCode::InvalidURI, false),
        (
            header_fault(Fault::Syntax),
            S3ErrorCode::AuthorizationHeaderMalformed,
            false,
        ),
    ] {
        let message = error.to_string();
        let s3 = S3Error::from(error);
        assert_eq!((s3.code(), s3.is_unauthenticated()), (code, unauthenticated));
        assert_eq!(s3.message(), message);
    }
}

#[test]
fn a_mismatch_names_the_difference_that_explains_it() {
    let explained = |request: &Request| {
        assert_eq!(refused(request), AuthError::SignatureDoesNotMatch);
        let credentials = request.credentials().unwrap();
        explain(&request.signed(), &credentials, &SECRET.into())
            .unwrap()
            .explanations
            .join("; ")
    };
    for sign in [signed, presigned] {
        let mut request = sign(unsigned());
        request.host = "gate.example.com".to_owned();
        request.header("x-forwarded-host", HOST);
        assert!(explained(&request).contains("the host \"gate.example.com:8443\""));

        let mut request = sign(Request::new("GET", "/b/k", "gate.example.com"));
        request.host = "gate.example.com:443".to_owned();
        assert!(explained(&request).contains("the host \"gate.example.com\""));

        let mut request = sign(Request::new("GET", "/b/a/c", HOST));
        request.path = "/b//a/x/../c".to_owned();
        assert!(explained(&request).contains("the path normalised"));

        let mut request = sign(Request::new("GET", "/b/a%2520b", HOST));
        request.path = "/b/a%20b".to_owned();
        assert!(explained(&request).contains("the path encoded twice"));
    }
    let mut request = unsigned();
    request
        .header("accept-encoding", "identity")
        .header("content-length", "5");
    let mut request = signed(request);
    request.set("accept-encoding", "br");
    assert!(explained(&request).contains("the header accept-encoding as \"identity\""));
    request.headers.remove("content-length");
    let credentials = request.credentials().unwrap();
    let mismatch = explain(&request.signed(), &credentials, &SECRET.into()).unwrap();
    assert_eq!(mismatch.missing_headers, ["content-length"]);
    assert!(mismatch.explanations.is_empty());
}

#[test]
fn a_mismatch_shows_neither_the_signature_nor_keys() {
    let mut in_header = unsigned();
    in_header.header("x-amz-server-side-encryption-customer-key", "a2V5LWtleS1rZXk=");
    let mut in_query = unsigned();
    in_query.query = "X-Amz-Server-Side-Encryption-Customer-Key=a2V5LWtleS1rZXk%3D".to_owned();
    let with_method = |request: &Request, method: &str| Request {
        method: method.to_owned(),
        ..request.clone()
    };
    type Sign = fn(Request) -> Request;
    for (sign, request) in [
        (signed as Sign, &in_header),
        (presigned, &in_header),
        (presigned, &in_query),
    ] {
        let good = sign(with_method(request, "PUT"))
            .credentials()
            .unwrap()
            .signature
            .to_hex();
        let bad = with_method(&sign(request.clone()), "PUT");
        let credentials = bad.credentials().unwrap();
        let mismatch = explain(&bad.signed(), &credentials, &SECRET.into()).unwrap();
        for text in [
            mismatch.to_string(),
            format!("{mismatch:?}"),
            format!("{credentials:?}"),
        ] {
            assert!(
                !text.contains("a2V5LWtleS1rZXk") && !text.contains(SECRET) && !text.contains(&good),
                "{text}"
            );
        }
        assert!(mismatch.to_string().contains("(not shown)"));
    }
}

proptest! {
    #[test]
    fn never_panics(
        path in "[/%a-z0-9+. \u{80}-\u{fff}]{0,20}",
        query in "(X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature|Acl)=[%/a-z0-9;A-Z-]{0,20}&?){0,8}",
        authorization in proptest::option::of("(AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature)=[/a-z0-9;]{0,30}, ?){0,4}"),
        header in any::<Vec<u8>>(),
    ) {
        let mut request = Request::new("GET", "/", HOST);
        (request.path, request.query) = (path, query);
        if let Some(authorization) = authorization {
            request.header("authorization", &authorization);
        }
        if let Ok(value) = HeaderValue::from_bytes(&header) {
            request.headers.append("x-amz-date", value.clone());
            request.headers.append("x-amz-content-sha256", value.clone());
            if authorization_free(&request) {
                request.headers.append("authorization", value);
            }
        }
        if let Ok(Credentials::Signed(credentials)) = credentials(&request.signed()) {
            drop(verify(&request.signed(), &credentials, &SECRET.into(), &options()));
            explain(&request.signed(), &credentials, &SECRET.into());
        }
    }

    /// Bytes of a good request changed at random: either the change means nothing, or the request is refused.
    #[test]
    fn a_damaged_signature_never_panics(at in 0usize..400, byte in 32u8..127, header in any::<bool>()) {
        let mut request = if header { signed(unsigned()) } else { presigned(unsigned()) };
        let text = if header { request.headers["authorization"].to_str().unwrap() } else { &request.query };
        let mut bytes = text.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        if header {
            request.set("authorization", &text);
        } else {
            request.query = text;
        }
        if let Ok(credentials) = credentials(&request.signed())
            && let Credentials::Signed(credentials) = credentials
        {
            drop(verify(&request.signed(), &credentials, &SECRET.into(), &options()));
        }
    }
}

fn authorization_free(request: &Request) -> bool {
    !request.headers.contains_key("authorization")
}
