//! Presigned URLs: the signature in the query, with headers that may have moved there too.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

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

/// The headers that moved into the query of a presigned request: every `x-amz-*` parameter that is not part of the
/// signature, whatever its case, is the header of that name. Nothing when the request is not presigned.
///
/// What is given back is to be merged into the request's headers; those that were sent as headers too, with the same
/// value, are left out.
///
/// # Errors
/// [`AuthError::HoistedHeaderDisagrees`] when a header of the name says something else,
/// [`AuthError::InvalidHoistedHeader`] when a parameter comes twice or cannot be a header, and whatever is wrong with the
/// query as such.
pub fn hoisted_headers(raw_query: &str, headers: &HeaderMap) -> Result<Vec<(HeaderName, HeaderValue)>, AuthError> {
    let query = Query::parse(raw_query)?;
    match find(&query) {
        Found::Version4 => hoisted(&query, headers),
        Found::Both => Err(AuthError::SeveralMechanisms),
        Found::None | Found::Version2 => Ok(Vec::new()),
    }
}

fn hoisted(query: &Query<'_>, headers: &HeaderMap) -> Result<Vec<(HeaderName, HeaderValue)>, AuthError> {
    let mut hoisted: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in query.iter() {
        let is_amz = name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-"));
        if !is_amz || is_parameter(name) {
            continue;
        }
        let invalid = || AuthError::InvalidHoistedHeader {
            name: String::from_utf8_lossy(name).to_ascii_lowercase().into(),
        };
        let header = HeaderName::from_bytes(name).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_| invalid())?;
        if hoisted.iter().any(|(other, _)| *other == header) {
            return Err(invalid());
        }
        hoisted.push((header, value));
    }
    for (name, value) in &hoisted {
        if headers.get_all(name).iter().any(|sent| sent != value) {
            return Err(AuthError::HoistedHeaderDisagrees {
                name: name.as_str().into(),
            });
        }
    }
    hoisted.retain(|(name, _)| !headers.contains_key(name));
    Ok(hoisted)
}

fn is_parameter(name: &[u8]) -> bool {
    PARAMETERS.iter().any(|p| name.eq_ignore_ascii_case(p.as_bytes()))
}

/// `UNSIGNED-PAYLOAD`, unless the signer put something else into a header or the query.
fn content_sha256(query: &Query<'_>, headers: &HeaderMap) -> Result<Box<str>, AuthError> {
    let hoisted = hoisted(query, headers)?;
    let from_query = hoisted.iter().find(|(name, _)| name == "x-amz-content-sha256");
    let value = match from_query {
        Some((_, value)) => Some(value.to_str().map_err(|_| AuthError::InvalidContentSha256)?),
        None => payload::content_sha256(headers)?,
    };
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
