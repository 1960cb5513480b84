//! Request headers: read one, know them all. A header that changes what a request means is done or refused, so every
//! `x-amz-*` name has its row here.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Query, S3Error, S3ErrorCode};

/// The prefix of user metadata.
pub const META_PREFIX: &str = "x-amz-meta-";

/// The parameters of a presigned request that belong to its signature, in lower case. Every other `x-amz-*` parameter
/// is the header of that name.
const SIGNATURE_PARAMETERS: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// What is done with an `x-amz-*` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handling {
    /// Read somewhere.
    Read,
    /// Means nothing here, and its answer is the same without it.
    Ignored,
    /// Accepted with this value alone, in any case, else 501.
    Only(&'static str),
    /// Accepted with one of two values, in any case, else 501.
    OneOf(&'static str, &'static str),
}

/// All that are known; any other is 501.
const KNOWN: &[(&str, Handling)] = &[
    ("x-amz-acl", Handling::Read),
    ("x-amz-bucket-namespace", Handling::Only("global")),
    ("x-amz-bucket-object-lock-enabled", Handling::Only("false")),
    // Without object lock there is nothing to bypass.
    ("x-amz-bypass-governance-retention", Handling::Ignored),
    ("x-amz-checksum-algorithm", Handling::Read),
    ("x-amz-checksum-crc32", Handling::Read),
    ("x-amz-checksum-crc32c", Handling::Read),
    ("x-amz-checksum-crc64nvme", Handling::Read),
    ("x-amz-checksum-mode", Handling::Read),
    ("x-amz-checksum-sha1", Handling::Read),
    ("x-amz-checksum-sha256", Handling::Read),
    ("x-amz-checksum-type", Handling::Read),
    ("x-amz-content-sha256", Handling::Read),
    ("x-amz-copy-source", Handling::Read),
    ("x-amz-copy-source-if-match", Handling::Read),
    ("x-amz-copy-source-if-modified-since", Handling::Read),
    ("x-amz-copy-source-if-none-match", Handling::Read),
    ("x-amz-copy-source-if-unmodified-since", Handling::Read),
    ("x-amz-copy-source-range", Handling::Read),
    ("x-amz-date", Handling::Read),
    ("x-amz-decoded-content-length", Handling::Read),
    ("x-amz-expected-bucket-owner", Handling::Read),
    ("x-amz-max-parts", Handling::Read),
    ("x-amz-metadata-directive", Handling::Read),
    ("x-amz-mp-object-size", Handling::Read),
    ("x-amz-object-attributes", Handling::Read),
    // The owner of a bucket owns what is written to it, and ACLs are live: that is what these two come to here.
    (
        "x-amz-object-ownership",
        Handling::OneOf("BucketOwnerPreferred", "ObjectWriter"),
    ),
    ("x-amz-optional-object-attributes", Handling::Ignored),
    ("x-amz-part-number-marker", Handling::Read),
    // Refused where signatures are judged.
    ("x-amz-region-set", Handling::Read),
    ("x-amz-request-payer", Handling::Ignored),
    ("x-amz-sdk-checksum-algorithm", Handling::Read),
    // Refused where signatures are judged.
    ("x-amz-security-token", Handling::Read),
    ("x-amz-source-expected-bucket-owner", Handling::Read),
    ("x-amz-storage-class", Handling::Read),
    ("x-amz-tagging", Handling::Only("")),
    // No object has tags: copied or replaced by none, the outcome is the same.
    ("x-amz-tagging-directive", Handling::OneOf("COPY", "REPLACE")),
    // An offer to take a trailing MD5 with an answer, which need not be taken up.
    ("x-amz-te", Handling::Ignored),
    ("x-amz-trailer", Handling::Read),
    ("x-amz-user-agent", Handling::Ignored),
];

/// The value of a header that stands there once at most. Errors: `InvalidArgument` where it is repeated, or is not
/// UTF-8.
pub fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid(name, "must not be given more than once"));
    }
    text(name, value).map(Some)
}

/// All values of a header as the one list that they are.
pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, S3Error> {
    let mut whole: Option<Cow<'a, str>> = None;
    for value in headers.get_all(name) {
        let value = text(name, value)?;
        whole = Some(match whole {
            None => Cow::Borrowed(value),
            Some(so_far) => Cow::Owned(format!("{so_far},{value}")),
        });
    }
    Ok(whole)
}

/// A header's value as it was sent: UTF-8.
pub(super) fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, S3Error> {
    str::from_utf8(value.as_bytes()).map_err(|_| invalid(name, "is not valid UTF-8"))
}

/// Whom the client believes to own the bucket; if it is somebody else, the request is 403.
pub fn expected_bucket_owner(headers: &HeaderMap) -> Result<Option<&str>, S3Error> {
    one(headers, &HeaderName::from_static("x-amz-expected-bucket-owner"))
}

/// Whom the client believes to own the bucket of a copy's source.
pub fn source_expected_bucket_owner(headers: &HeaderMap) -> Result<Option<&str>, S3Error> {
    one(headers, &HeaderName::from_static("x-amz-source-expected-bucket-owner"))
}

/// Whether a query parameter is a header that a presigner moved there: `x-amz-*` in any case, outside the signature's
/// own.
fn is_hoisted(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"))
        && !SIGNATURE_PARAMETERS
            .iter()
            .any(|parameter| parameter.eq_ignore_ascii_case(name))
}

/// The headers of a request together with those that stand in its query string. Presigners move `x-amz-acl`,
/// `x-amz-copy-source`, checksums and metadata there; ignored, a presigned copy would be an empty overwrite.
///
/// To be called once, before the body and the operation are looked at; [`parse`](super::parse()) refuses what was not.
/// Errors: `InvalidArgument` where header and parameter disagree, where a parameter comes twice, and where
/// it can be no header.
pub fn effective_headers<'a>(query: &Query, headers: &'a HeaderMap) -> Result<Cow<'a, HeaderMap>, S3Error> {
    let mut effective = Cow::Borrowed(headers);
    let mut seen: Vec<HeaderName> = Vec::new();
    for (name, value) in query.iter().filter(|(name, _)| is_hoisted(name)) {
        let refuse = |why| Err(S3Error::invalid_argument(why, name, value));
        let (Ok(header), Ok(content)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) else {
            return refuse("The query parameter cannot stand for a header.");
        };
        if seen.contains(&header) {
            return refuse("The query parameter must not be given more than once.");
        }
        let mut sent = headers.get_all(&header).iter().peekable();
        if sent.peek().is_none() {
            effective.to_mut().insert(&header, content);
        } else if sent.any(|sent| *sent != content) {
            return refuse("The query parameter and the header of that name disagree.");
        }
        seen.push(header);
    }
    Ok(effective)
}

/// Refuses what is not in the table, and parameters that should be headers by now.
pub(super) fn check(query: &Query, headers: &HeaderMap) -> Result<(), S3Error> {
    for (name, _) in query.iter().filter(|(name, _)| is_hoisted(name)) {
        if !headers.contains_key(name.to_ascii_lowercase()) {
            return Err(S3Error::header_not_implemented(name));
        }
    }
    for (name, value) in headers {
        if name.as_str().starts_with("x-amz-") && !name.as_str().starts_with(META_PREFIX) {
            check_header(name, value)?;
        }
    }
    // Part of an object cannot be written, and taken for the whole it would be the wrong object.
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(S3Error::header_not_implemented("Content-Range"));
    }
    Ok(())
}

fn check_header(name: &HeaderName, value: &HeaderValue) -> Result<(), S3Error> {
    let known = KNOWN.iter().find(|(known, _)| *known == name.as_str());
    let accepted = match known.map(|(_, handling)| *handling) {
        Some(Handling::Read | Handling::Ignored) => true,
        Some(Handling::Only(only)) => value.as_bytes().eq_ignore_ascii_case(only.as_bytes()),
        Some(Handling::OneOf(one, other)) => {
            value.as_bytes().eq_ignore_ascii_case(one.as_bytes())
                || value.as_bytes().eq_ignore_ascii_case(other.as_bytes())
        }
        None => false,
    };
    if accepted {
        return Ok(());
    }
    // Keys managed elsewhere are refused for good, where other encryption is only not there.
    if name.as_str().starts_with("x-amz-server-side-encryption") {
        let kms_key = matches!(
            name.as_str(),
            "x-amz-server-side-encryption-aws-kms-key-id" | "x-amz-server-side-encryption-context"
        );
        if kms_key || value.as_bytes().starts_with(b"aws:") {
            return Err(S3Error::new(
                S3ErrorCode::InvalidEncryptionAlgorithmError,
                "The encryption method specified is not supported: there is no key management service here.",
            )
            .with_field("ArgumentName", name.as_str()));
        }
    }
    Err(S3Error::header_not_implemented(name.as_str()))
}

fn invalid(name: &HeaderName, why: &str) -> S3Error {
    S3Error::new(S3ErrorCode::InvalidArgument, format!("The header {name} {why}."))
        .with_field("ArgumentName", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn verdict(name: &'static str, value: &str) -> Option<S3ErrorCode> {
        check(&Query::default(), &map(&[(name, value)]))
            .err()
            .map(|error| error.code())
    }

    #[test]
    fn the_table_is_sorted_so_that_nothing_stands_in_it_twice() {
        assert!(KNOWN.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn known_headers_pass() {
        for (name, value) in [
            ("x-amz-request-payer", "requester"),
            ("x-amz-meta-anything", "at all"),
            ("x-amz-tagging", ""),
            ("x-amz-tagging-directive", "COPY"),
            ("x-amz-bucket-object-lock-enabled", "false"),
            ("x-amz-bucket-namespace", "global"),
            ("x-amz-object-ownership", "ObjectWriter"),
            ("x-amzn-trace-id", "x"),
            ("range", "bytes=0-"),
        ] {
            assert_eq!(verdict(name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn headers_that_ask_for_what_is_not_there_are_501() {
        for (name, value) in [
            ("x-amz-tagging", "a=b"),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-website-redirect-location", "/"),
            ("x-amz-write-offset-bytes", "0"),
            ("x-amz-mfa", "1 2"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-legal-hold", "ON"),
            ("x-amz-object-lock-event-hold", "ON"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-bucket-namespace", "account-regional"),
            ("x-amz-object-ownership", "BucketOwnerEnforced"),
            ("x-amz-if-match-size", "1"),
            ("x-amz-if-match-last-modified-time", "1"),
            ("x-amz-checksum-xxhash64", "AAAAAAAAAAA="),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-rename-source", "a"),
            ("x-amz-made-up-yesterday", "1"),
            ("content-range", "bytes 0-1/2"),
        ] {
            assert_eq!(
                verdict(name, value),
                Some(S3ErrorCode::NotImplemented),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn kms_is_refused_for_good() {
        for (name, value) in [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption", "aws:kms:dsse"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
        ] {
            assert_eq!(
                verdict(name, value),
                Some(S3ErrorCode::InvalidEncryptionAlgorithmError),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn parameters_become_the_headers_that_they_are() {
        let query = Query::parse(
            "X-Amz-Signature=0&X-Amz-Date=1&x-amz-copy-source=%2Fb%2Fk&X-AMZ-Meta-A=x+y&x-id=PutObject&x-amz-acl=private",
        )
        .unwrap();
        let sent = map(&[("x-amz-acl", "private"), ("host", "h")]);
        let effective = effective_headers(&query, &sent).unwrap();
        assert_eq!(effective.len(), 4);
        assert_eq!(effective["x-amz-copy-source"], "/b/k");
        assert_eq!(effective["x-amz-meta-a"], "x y");
        assert!(check(&query, &effective).is_ok());
        assert_eq!(check(&query, &sent).unwrap_err().code(), S3ErrorCode::NotImplemented);
    }

    #[test]
    fn a_parameter_that_can_be_no_header_is_refused() {
        for raw in [
            "x-amz-acl=a%0D%0Ab",
            "x-amz-a%20b=c",
            "x-amz-%C3%A4=c",
            "x-amz-acl=a&X-Amz-Acl=a",
        ] {
            let query = Query::parse(raw).unwrap();
            let error = effective_headers(&query, &HeaderMap::new()).unwrap_err();
            assert_eq!(error.code(), S3ErrorCode::InvalidArgument, "{raw}");
        }
        assert_eq!(Query::parse("x-amz-%FF=c").unwrap_err().code(), S3ErrorCode::InvalidURI);
    }

    #[test]
    fn a_parameter_that_disagrees_with_its_header_is_refused() {
        for (raw, sent) in [
            ("x-amz-acl=public-read", "private"),
            ("x-amz-acl=private&X-Amz-Acl=public-read", "private"),
            ("x-amz-acl=a%0Ab", "private"),
        ] {
            let query = Query::parse(raw).unwrap();
            let error = effective_headers(&query, &map(&[("x-amz-acl", sent)])).unwrap_err();
            assert_eq!(error.code(), S3ErrorCode::InvalidArgument, "{raw}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_501_as_the_header_would_be() {
        let query = Query::parse("x-amz-website-redirect-location=%2F").unwrap();
        let headers = HeaderMap::new();
        let effective = effective_headers(&query, &headers).unwrap();
        assert_eq!(
            check(&query, &effective).unwrap_err().code(),
            S3ErrorCode::NotImplemented
        );
    }

    #[test]
    fn repeated_headers_are_refused_where_one_is_meant() {
        let twice = map(&[("x-amz-acl", "private"), ("x-amz-acl", "private")]);
        let name = HeaderName::from_static("x-amz-acl");
        assert_eq!(one(&twice, &name).unwrap_err().code(), S3ErrorCode::InvalidArgument);
        assert_eq!(joined(&twice, &name).unwrap().as_deref(), Some("private,private"));
        let mut raw = HeaderMap::new();
        raw.insert(&name, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(one(&raw, &name).unwrap_err().code(), S3ErrorCode::InvalidArgument);
    }
}
