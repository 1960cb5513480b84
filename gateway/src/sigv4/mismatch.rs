//! Why a signature does not match: for the debug log, never for the client.

use std::fmt;

use http::{HeaderName, HeaderValue};
use secrecy::SecretString;

use super::{
    CredentialScope, Signature, SignatureKind, SignedCredentials, SignedRequest, SigningKey,
    canonical::{Parts, Query, string_to_sign, uri_encode},
    signing_key::sha256_hex,
};

/// What was canonicalised, and which difference between the client's view and ours would explain the signature.
///
/// Holds neither the secret nor the signature that would have matched. Customer keys for encryption are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// As [`verify`](super::verify) had it, but for the values left out.
    pub canonical_request: String,
    pub string_to_sign: String,
    /// Signed headers that did not arrive.
    pub missing_headers: Vec<String>,
    /// Changes to the canonical request, each of which alone makes the signature match.
    pub explanations: Vec<String>,
}

/// Looks for the reason of [`AuthError::SignatureDoesNotMatch`](super::AuthError::SignatureDoesNotMatch).
///
/// Costs some dozens of signatures: call it where the log level asks for it.
pub fn explain(
    request: &SignedRequest<'_>,
    credentials: &SignedCredentials,
    secret: &SecretString,
) -> Option<Mismatch> {
    let parts = credentials.parts(request).ok()?;
    let attempt = Attempt {
        key: SigningKey::derive(secret, &credentials.scope),
        timestamp: credentials.timestamp.as_str(),
        scope: &credentials.scope,
        signature: &credentials.signature,
    };
    let mut explanations: Vec<String> = variants(request, &parts, credentials.kind)
        .filter(|(_, variant)| attempt.matches(variant))
        .map(|(what, _)| what)
        .collect();
    explanations.extend(header_variants(request, &parts, &attempt));
    let mut shown = parts.clone();
    if credentials.kind != SignatureKind::Header {
        let query = Query::parse(request.raw_query).ok()?;
        let value = |name: &[u8], value: &[u8]| match str::from_utf8(name) {
            Ok(name) if is_secret(&name.to_ascii_lowercase()) => "(not shown)".to_owned(),
            _ => uri_encode(value, true),
        };
        shown.query = query.canonical_with(Some("X-Amz-Signature"), value).into();
    }
    Some(Mismatch {
        canonical_request: String::from_utf8_lossy(&shown.canonical_request_with(|name| !is_secret(name))).into_owned(),
        string_to_sign: attempt.string_to_sign(&parts),
        missing_headers: missing_headers(&parts),
        explanations,
    })
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            canonical_request,
            string_to_sign,
            missing_headers,
            explanations,
        } = self;
        writeln!(
            f,
            "canonical request:\n{canonical_request}\nstring to sign:\n{string_to_sign}"
        )?;
        for name in missing_headers {
            writeln!(f, "the header {name} is signed and did not arrive")?;
        }
        for explanation in explanations {
            writeln!(f, "the signature matches with {explanation}")?;
        }
        if explanations.is_empty() {
            writeln!(
                f,
                "no single difference that was tried makes the signature match; is the secret key right?"
            )?;
        }
        Ok(())
    }
}

struct Attempt<'a> {
    key: SigningKey,
    timestamp: &'a str,
    scope: &'a CredentialScope,
    signature: &'a Signature,
}

impl Attempt<'_> {
    fn string_to_sign(&self, parts: &Parts<'_>) -> String {
        string_to_sign(self.timestamp, self.scope, &parts.canonical_request())
    }

    fn matches(&self, parts: &Parts<'_>) -> bool {
        self.key
            .sign(self.string_to_sign(parts).as_bytes())
            .matches(self.signature)
    }
}

/// Other hosts, paths, queries and payloads, one change at a time.
fn variants<'a>(
    request: &SignedRequest<'a>,
    parts: &Parts<'a>,
    kind: SignatureKind,
) -> impl Iterator<Item = (String, Parts<'a>)> {
    let mut variants = Vec::new();
    for host in hosts(request) {
        let what = format!("the host {host:?} instead of {:?}", request.host);
        variants.push((
            what,
            Parts {
                host: host.into(),
                ..parts.clone()
            },
        ));
    }
    let path = |path: String| Parts {
        path: path.into(),
        ..parts.clone()
    };
    variants.push((
        "the path as it came, not encoded anew".to_owned(),
        path(request.raw_path.to_owned()),
    ));
    variants.push((
        "the path encoded twice".to_owned(),
        path(uri_encode(parts.path.as_bytes(), false)),
    ));
    variants.push(("the path normalised".to_owned(), path(normalised(&parts.path))));
    variants.push((
        "+ in the path as a space".to_owned(),
        path(parts.path.replace("%2B", "%20")),
    ));
    if kind == SignatureKind::Header {
        let query = |query: String| Parts {
            query: query.into(),
            ..parts.clone()
        };
        variants.push(("no query".to_owned(), query(String::new())));
        variants.push(("the query as it came".to_owned(), query(request.raw_query.to_owned())));
    }
    for payload in ["UNSIGNED-PAYLOAD", &sha256_hex(b"")] {
        let content_sha256 = payload.to_owned().into();
        variants.push((
            format!("the payload hash {payload}"),
            Parts {
                content_sha256,
                ..parts.clone()
            },
        ));
    }
    variants.into_iter()
}

/// Hosts that the client may have had in mind.
fn hosts(request: &SignedRequest<'_>) -> Vec<String> {
    let name = match request.host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => request.host,
    };
    let mut hosts = vec![
        name.to_owned(),
        format!("{name}:443"),
        format!("{name}:80"),
        request.host.to_ascii_lowercase(),
    ];
    for header in ["host", "x-forwarded-host", "x-original-host"] {
        let values = request
            .headers
            .get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok());
        hosts.extend(values.take(4).map(str::to_owned));
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts.retain(|host| host != request.host);
    hosts
}

/// `//`, `.` and `..` resolved, as clients made for other services do it.
fn normalised(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}", segments.join("/"))
}

/// Headers that something in between may have added or rewritten.
fn header_variants(request: &SignedRequest<'_>, parts: &Parts<'_>, attempt: &Attempt<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for name in parts.signed_headers.iter().filter(|name| *name != "host") {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        let others: &[&'static str] = match name {
            "accept-encoding" => &["", "identity", "gzip"],
            "connection" => &["", "keep-alive", "close"],
            "expect" => &["", "100-continue"],
            "content-length" => &["", "0"],
            "transfer-encoding" => &["", "chunked"],
            _ => &[""],
        };
        for value in others {
            let mut headers = request.headers.clone();
            headers.insert(header.clone(), HeaderValue::from_static(value));
            if attempt.matches(&Parts {
                headers: &headers,
                ..parts.clone()
            }) {
                found.push(format!("the header {name} as {value:?}"));
            }
        }
    }
    found
}

fn missing_headers(parts: &Parts<'_>) -> Vec<String> {
    let missing = |name: &&str| *name != "host" && !parts.headers.contains_key(*name);
    parts.signed_headers.iter().filter(missing).map(str::to_owned).collect()
}

/// Keys for encryption are in requests; the digest that goes with one is not secret.
fn is_secret(name: &str) -> bool {
    (name.contains("customer-key") && !name.ends_with("-md5")) || name == "authorization" || name == "cookie"
}
