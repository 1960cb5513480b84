//! Canonical requests and strings to sign (S3 API reference, "Signature calculations for the Authorization header").
//!
//! S3's own rules, which differ from other services': the path is encoded once and never normalised, so that `a//b`,
//! `.` and `..` in keys stay what they are. Everything starts from the raw request target: it is percent-decoded once
//! and encoded again, so that a client may escape more or less than Amazon does.

use std::borrow::Cow;

use http::HeaderMap;

use super::{AuthError, CredentialScope, SignedHeaders, SignedRequest, signing_key::sha256_hex};
use crate::s3::{
    query::{BrokenQuery, Pair, pairs},
    target::percent_decode,
};

/// The algorithm's name in headers, parameters and strings to sign.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Encodes by AWS's rule: letters, digits and `-._~` stand for themselves, everything else becomes `%XX` with upper-case
/// digits. Encodes `/` too, except in paths.
pub fn uri_encode(bytes: &[u8], encode_slash: bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 4);
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if !encode_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// The canonical path of a raw path: `/` stays, `+` is a plus sign, an empty path is `/`.
///
/// # Errors
/// [`AuthError::InvalidUri`] when percent-encoding is broken.
pub fn canonical_path(raw_path: &str) -> Result<String, AuthError> {
    if raw_path.is_empty() {
        return Ok("/".to_owned());
    }
    let decoded = percent_decode(raw_path, false).ok_or(AuthError::InvalidUri)?;
    Ok(uri_encode(&decoded, false))
}

/// A query as `s3::query` reads it, in bytes and in the order of the wire: what is signed need not be text.
#[derive(Debug)]
pub struct Query<'a>(Vec<Pair<'a>>);

impl<'a> Query<'a> {
    /// Parses a raw query without its `?`.
    ///
    /// # Errors
    /// [`AuthError::InvalidUri`] when percent-encoding is broken, [`AuthError::TooManyParameters`].
    pub fn parse(raw_query: &'a str) -> Result<Self, AuthError> {
        pairs(raw_query).map(Self).map_err(|broken| match broken {
            BrokenQuery::Encoding => AuthError::InvalidUri,
            BrokenQuery::TooMany => AuthError::TooManyParameters,
        })
    }

    /// Decoded names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The canonical query: encoded, sorted by encoded name and then by value, without the parameter `except`.
    pub fn canonical(&self, except: Option<&str>) -> String {
        self.canonical_with(except, |_, value| uri_encode(value, true))
    }

    /// The same with values as `encode` gives them for a decoded name and value.
    pub(super) fn canonical_with(&self, except: Option<&str>, encode: impl Fn(&[u8], &[u8]) -> String) -> String {
        let mut encoded: Vec<_> = self
            .iter()
            .filter(|(name, _)| except.is_none_or(|except| *name != except.as_bytes()))
            .map(|(name, value)| (uri_encode(name, true), encode(name, value)))
            .collect();
        encoded.sort_unstable();
        let pairs: Vec<_> = encoded.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// The parts of a canonical request that can be had in more than one way, so that a mismatch can be explained.
#[derive(Debug, Clone)]
pub(super) struct Parts<'a> {
    pub(super) method: &'a str,
    pub(super) path: Cow<'a, str>,
    pub(super) query: Cow<'a, str>,
    pub(super) host: Cow<'a, str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) signed_headers: &'a SignedHeaders,
    pub(super) content_sha256: Cow<'a, str>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        request: &SignedRequest<'a>,
        signed_headers: &'a SignedHeaders,
        content_sha256: &'a str,
        presigned: bool,
    ) -> Result<Self, AuthError> {
        Ok(Self {
            method: request.method,
            path: canonical_path(request.raw_path)?.into(),
            query: Query::parse(request.raw_query)?
                .canonical(presigned.then_some("X-Amz-Signature"))
                .into(),
            host: request.host.into(),
            headers: request.headers,
            signed_headers,
            content_sha256: content_sha256.into(),
        })
    }

    /// The canonical request. It is bytes, not text, for header values may be.
    pub(super) fn canonical_request(&self) -> Vec<u8> {
        self.canonical_request_with(|_| true)
    }

    /// The same, with the values of headers left out for which `shown` is false.
    pub(super) fn canonical_request_with(&self, shown: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for line in [self.method, &self.path, &self.query] {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        for name in self.signed_headers.iter() {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            if !shown(name) {
                out.extend_from_slice(b"(not shown)");
            } else if name == "host" {
                push_trimmed(&mut out, self.host.as_bytes());
            } else {
                // A signed header that was not sent counts as empty, as with S3: some clients sign empty headers that
                // their HTTP library then leaves out.
                for (i, value) in self.headers.get_all(name).iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    push_trimmed(&mut out, value.as_bytes());
                }
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.as_str().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.content_sha256.as_bytes());
        out
    }
}

/// The string to sign of a request.
pub(super) fn string_to_sign(timestamp: &str, scope: &CredentialScope, canonical_request: &[u8]) -> String {
    format!("{ALGORITHM}\n{timestamp}\n{scope}\n{}", sha256_hex(canonical_request))
}

/// White space at both ends goes, runs of spaces inside become one.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let mut previous = b' ';
    for &byte in value.trim_ascii() {
        if byte != b' ' || previous != b' ' {
            out.push(byte);
        }
        previous = byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_encoded_once() {
        for (raw, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("/b/a b+c", "/b/a%20b%2Bc"),
            ("/b/a%20b%2bc", "/b/a%20b%2Bc"),
            ("/b/%2541", "/b/%2541"),
            ("/b/%41", "/b/A"),
            ("/b//x/./../y/", "/b//x/./../y/"),
            ("/b/ሴ", "/b/%E1%88%B4"),
            (
                "/b/a=b&c;d@e:f,g!h*i'j(k)",
                "/b/a%3Db%26c%3Bd%40e%3Af%2Cg%21h%2Ai%27j%28k%29",
            ),
            ("/b/~-_.", "/b/~-_."),
            ("/b/%ff", "/b/%FF"),
        ] {
            assert_eq!(canonical_path(raw), Ok(canonical.to_owned()), "{raw}");
        }
    }

    #[test]
    fn broken_percent_encoding_is_an_invalid_uri() {
        for raw in ["/%", "/%4", "/%zz", "/a%+1", "/%%41"] {
            assert_eq!(canonical_path(raw), Err(AuthError::InvalidUri), "{raw}");
            assert_eq!(Query::parse(raw).unwrap_err(), AuthError::InvalidUri, "{raw}");
        }
    }

    #[test]
    fn a_query_is_sorted_by_encoded_name_and_value() {
        for (raw, canonical) in [
            ("", ""),
            ("lifecycle", "lifecycle="),
            ("b=2&a=1&&a=0", "a=0&a=1&b=2"),
            ("prefix=a/b&delimiter=%2f", "delimiter=%2F&prefix=a%2Fb"),
            ("x=a=b", "x=a%3Db"),
            ("x=a+b%2Bc", "x=a%20b%2Bc"),
            ("a=1&A=2&%C3%A9=3", "%C3%A9=3&A=2&a=1"),
            // `-` sorts before `=`, so the pair must not be sorted as one text.
            ("a-b=1&a=2", "a=2&a-b=1"),
        ] {
            assert_eq!(Query::parse(raw).unwrap().canonical(None), canonical, "{raw}");
        }
    }

    #[test]
    fn too_many_parameters_are_refused() {
        let most = vec!["a"; crate::limits::MAX_QUERY_PARAMETERS].join("&");
        assert!(Query::parse(&most).is_ok());
        assert_eq!(
            Query::parse(&format!("{most}&a")).unwrap_err(),
            AuthError::TooManyParameters
        );
    }

    #[test]
    fn header_values_are_trimmed_and_their_spaces_collapsed() {
        for (value, canonical) in [
            ("  a   b  ", "a b"),
            ("a\tb", "a\tb"),
            ("\"a   b\"", "\"a b\""),
            ("   ", ""),
        ] {
            let mut out = Vec::new();
            push_trimmed(&mut out, value.as_bytes());
            assert_eq!(out, canonical.as_bytes(), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn encoding_reads_back(bytes in any::<Vec<u8>>(), slash in any::<bool>()) {
            let encoded = uri_encode(&bytes, slash);
            prop_assert_eq!(percent_decode(&encoded, true).unwrap(), Cow::Borrowed(&bytes[..]));
            prop_assert_eq!(percent_decode(&encoded, false).unwrap(), Cow::Borrowed(&bytes[..]));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            if let Ok(path) = canonical_path(&text) {
                prop_assert_eq!(canonical_path(&path), Ok(path));
            }
            if let Ok(query) = Query::parse(&text) {
                let canonical = query.canonical(None);
                prop_assert_eq!(Query::parse(&canonical).unwrap().canonical(None), canonical);
            }
        }
    }
}
