//! Presigned URLs: the signature in the query.

use std::time::Duration;

use http::HeaderMap;

use super::{
    AmzDate, AuthError, Fault, PayloadMode, SignatureKind, SignedCredentials, SignedHeaders,
    canonical::{ALGORITHM, Query},
    payload,
    scope::parse_credential,
    signing_key::Signature,
};

/// The longest life of a presigned URL: a week.
pub const MAX_EXPIRES: Duration = Duration::from_secs(604_800);

/// The parameters that are the signature. Names compare in any case when it comes to noticing them, and exactly when it
/// comes to using them.
const PARAMETERS: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];

/// The credentials that a query carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    None,
    /// `AWSAccessKeyId` or `Signature`.
    Version2,
    /// Any parameter of a version 4 signature.
    Version4,
    Both,
}

/// Looks for credentials of any kind, complete or not.
pub(super) fn find(query: &Query<'_>) -> Found {
    let version4 = query.iter().any(|(name, _)| is_parameter(name));
    let version2 = query
        .iter()
        .any(|(name, _)| name == b"AWSAccessKeyId" || name == b"Signature");
    match (version4, version2) {
        (false, false) => Found::None,
        (false, true) => Found::Version2,
        (true, false) => Found::Version4,
        (true, true) => Found::Both,
    }
}

/// Whether a session token is among the parameters.
pub(super) fn has_session_token(query: &Query<'_>) -> bool {
    query
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(b"X-Amz-Security-Token"))
}

/// Parses the parameters of a version 4 signature.
pub(super) fn parse(query: &Query<'_>, headers: &HeaderMap) -> Result<SignedCredentials, AuthError> {
    let mut found: [Option<&str>; PARAMETERS.len()] = [None; PARAMETERS.len()];
    let mut seen = [false; PARAMETERS.len()];
    for (name, value) in query.iter() {
        let Some(at) = PARAMETERS.iter().position(|p| name.eq_ignore_ascii_case(p.as_bytes())) else {
            continue;
        };
        if std::mem::replace(&mut seen[at], true) {
            return Err(AuthError::query(Fault::DuplicateParameter));
        }
        if name == PARAMETERS[at].as_bytes() {
            found[at] = Some(str::from_utf8(value).map_err(|_| AuthError::query(Fault::Syntax))?);
        }
    }
    let [
        Some(algorithm),
        Some(credential),
        Some(date),
        Some(expires),
        Some(signed_headers),
        Some(signature),
        _,
    ] = found
    else {
        return Err(AuthError::query(Fault::MissingParameter));
    };
    match algorithm {
        ALGORITHM => {}
        _ if algorithm.starts_with("AWS4-") => return Err(AuthError::UnsupportedMechanism),
        _ => return Err(AuthError::query(Fault::Algorithm)),
    }
    let (access_key_id, scope) = parse_credential(credential).map_err(AuthError::query)?;
    let signed_headers = SignedHeaders::parse(signed_headers).map_err(AuthError::query)?;
    let signature = Signature::parse(signature).ok_or(AuthError::query(Fault::Signature))?;
    let timestamp = AmzDate::parse(date).ok_or(AuthError::query(Fault::Date))?;
    if timestamp.date() != &*scope.date {
        return Err(AuthError::query(Fault::ScopeDate));
    }
    let expires = parse_expires(expires).ok_or(AuthError::query(Fault::Expires))?;
    let content_sha256 = content_sha256(query, headers)?;
    let payload = PayloadMode::parse(&content_sha256)?.without_header_signature()?;
    Ok(SignedCredentials {
        access_key_id,
        scope,
        signed_headers,
        signature,
        timestamp,
        kind: SignatureKind::Presigned { expires },
        payload,
        content_sha256,
    })
}

fn is_parameter(name: &[u8]) -> bool {
    PARAMETERS.iter().any(|p| name.eq_ignore_ascii_case(p.as_bytes()))
}

/// `UNSIGNED-PAYLOAD`, unless the signer put something else into a header or the query. Of all the headers that a
/// presigner moves into the query, the one that the signature itself is about.
fn content_sha256(query: &Query<'_>, headers: &HeaderMap) -> Result<Box<str>, AuthError> {
    let mut value = payload::content_sha256(headers)?;
    for (_, hoisted) in query
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"x-amz-content-sha256"))
    {
        let hoisted = str::from_utf8(hoisted).map_err(|_| AuthError::InvalidContentSha256)?;
        if value.is_some_and(|sent| sent != hoisted) {
            return Err(AuthError::InvalidContentSha256);
        }
        value = Some(hoisted);
    }
    Ok(value.unwrap_or("UNSIGNED-PAYLOAD").into())
}

fn parse_expires(text: &str) -> Option<u32> {
    if text.len() > 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = text.parse().ok()?;
    (1..=MAX_EXPIRES.as_secs())
        .contains(&u64::from(seconds))
        .then_some(seconds)
}
