//! Published signatures, and those of another implementation.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use super::*;

const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SUITE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

struct Case {
    name: String,
    request: Request,
    canonical_request: String,
    string_to_sign: String,
    signature: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sigv4")
}

fn cases(set: &str) -> Vec<Case> {
    let entries = fs::read_dir(folder().join(set)).unwrap();
    let mut cases: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
            Case {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                request: Request::read(&read("request")),
                canonical_request: read("canonical-request"),
                string_to_sign: read("string-to-sign"),
                signature: read("signature"),
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Makes each stage from the request and what the expected canonical request says is signed.
fn check_stages(case: &Case, secret: &str) {
    let Case { name, request, .. } = case;
    let mut last_lines = case.canonical_request.rsplit('\n');
    let (content_sha256, signed_headers) = (last_lines.next().unwrap(), last_lines.next().unwrap());
    let signed_headers = SignedHeaders::parse(signed_headers).unwrap();
    let presigned = request.query.contains("X-Amz-Signature");
    let parts = Parts::new(&request.signed(), &signed_headers, content_sha256, presigned).unwrap();
    let canonical_request = String::from_utf8(parts.canonical_request()).unwrap();
    assert_eq!(canonical_request, case.canonical_request, "{name}");

    let mut lines = case.string_to_sign.lines().skip(1);
    let (timestamp, scope) = (lines.next().unwrap(), lines.next().unwrap());
    let scope: Vec<_> = scope.split('/').collect();
    let scope = CredentialScope {
        date: scope[0].into(),
        region: scope[1].into(),
        service: scope[2].into(),
    };
    let string_to_sign = string_to_sign(timestamp, &scope, canonical_request.as_bytes());
    assert_eq!(string_to_sign, case.string_to_sign, "{name}");

    let key = SigningKey::derive(&secret.into(), &scope);
    assert_eq!(key.sign(string_to_sign.as_bytes()).to_hex(), case.signature, "{name}");
}

#[test]
fn every_stage_of_the_general_suite_is_reproduced() {
    let cases = cases("aws-suite");
    assert_eq!(cases.len(), 56);
    for case in cases {
        check_stages(&case, SUITE_SECRET);
    }
}

#[test]
fn every_stage_of_the_s3_examples_is_reproduced_and_the_requests_verify() {
    let cases = cases("s3-examples");
    assert_eq!(cases.len(), 7);
    for case in cases {
        check_stages(&case, S3_SECRET);
        let credentials = case.request.credentials().unwrap();
        assert_eq!(&*credentials.access_key_id, "AKIAIOSFODNN7EXAMPLE");
        let verified = case.request.verify(S3_SECRET, &options());
        let verified = verified.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(
            verified.chunk_signer.is_some(),
            case.name.starts_with("put-object-chunked"),
            "{}",
            case.name
        );
        assert_eq!(
            case.request.verify("another", &options()).unwrap_err(),
            AuthError::SignatureDoesNotMatch
        );
    }
}

#[derive(Deserialize)]
struct Botocore {
    access_key_id: String,
    secret_access_key: String,
    timestamp: String,
    region: String,
    request: Vec<BotocoreRequest>,
}

#[derive(Deserialize)]
struct BotocoreRequest {
    name: String,
    kind: String,
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
    canonical_request: String,
    string_to_sign: String,
    signature: String,
}

#[test]
fn requests_of_botocore_verify_at_every_stage() {
    let file = fs::read_to_string(folder().join("botocore.toml")).unwrap();
    let vectors: Botocore = toml::from_str(&file).unwrap();
    assert!(vectors.request.len() >= 80);
    let now = AmzDate::parse(&vectors.timestamp).unwrap().unix_seconds();
    let options = VerifyOptions {
        now: Timestamp::from_unix(now, 0),
        region: &vectors.region,
        ..options()
    };
    for vector in vectors.request {
        let mut request = Request::new(&vector.method, &vector.target, &vector.host);
        for (name, value) in &vector.headers {
            request.header(name, value);
        }
        let case = Case {
            name: vector.name,
            request,
            canonical_request: vector.canonical_request,
            string_to_sign: vector.string_to_sign,
            signature: vector.signature,
        };
        check_stages(&case, &vectors.secret_access_key);
        let credentials = case.request.credentials().unwrap();
        assert_eq!(*credentials.access_key_id, vectors.access_key_id);
        assert_eq!(
            credentials.kind == SignatureKind::Header,
            vector.kind == "header",
            "{}",
            case.name
        );
        let verified = case.request.verify(&vectors.secret_access_key, &options);
        verified.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}
