//! The `Authorization` header: `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`.

use http::HeaderMap;

use super::{
    AmzDate, AuthError, CredentialScope, Fault, MAX_AUTHORIZATION_LENGTH, SignatureKind, SignedCredentials,
    SignedHeaders, canonical::ALGORITHM, payload, scope::parse_credential, signing_key::Signature,
};
use crate::sigv4::PayloadMode;

/// Parses the value of the one `Authorization` header, and what belongs to it in other headers.
pub(super) fn parse(value: &[u8], headers: &HeaderMap) -> Result<SignedCredentials, AuthError> {
    let text = str::from_utf8(value).map_err(|_| AuthError::UnsupportedAuthorizationType)?;
    let (scheme, parameters) = text.trim_ascii().split_once(' ').unwrap_or((text.trim_ascii(), ""));
    match scheme {
        ALGORITHM => {}
        // Version 2, version 4A, and whatever else of that family is to come.
        "AWS" => return Err(AuthError::UnsupportedMechanism),
        _ if scheme.starts_with("AWS4-") => return Err(AuthError::UnsupportedMechanism),
        _ => return Err(AuthError::UnsupportedAuthorizationType),
    }
    if value.len() > MAX_AUTHORIZATION_LENGTH {
        return Err(AuthError::header(Fault::Syntax));
    }
    let parameters = Parameters::parse(parameters).map_err(AuthError::header)?;
    let (access_key_id, scope) = parse_credential(parameters.credential).map_err(AuthError::header)?;
    let signed_headers = SignedHeaders::parse(parameters.signed_headers).map_err(AuthError::header)?;
    let signature = Signature::parse(parameters.signature).ok_or(AuthError::header(Fault::Signature))?;
    let timestamp = timestamp(headers, &scope)?;
    let content_sha256 = payload::content_sha256(headers)?.ok_or(AuthError::MissingContentSha256)?;
    let payload = PayloadMode::parse(content_sha256)?;
    Ok(SignedCredentials {
        access_key_id,
        scope,
        signed_headers,
        signature,
        timestamp,
        kind: SignatureKind::Header,
        payload,
        content_sha256: content_sha256.into(),
    })
}

/// `x-amz-date`, or else `Date`: exactly one value, of the scope's day.
fn timestamp(headers: &HeaderMap, scope: &CredentialScope) -> Result<AmzDate, AuthError> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?;
        Some(value.to_str().ok().filter(|_| values.next().is_none()))
    };
    let timestamp = match (one("x-amz-date"), one("date")) {
        (Some(value), _) => value.and_then(|text| AmzDate::parse(text.trim_ascii())),
        (None, Some(value)) => value.and_then(|text| AmzDate::parse_date_header(text.trim_ascii())),
        (None, None) => None,
    }
    .ok_or(AuthError::MissingDate)?;
    if timestamp.date() != &*scope.date {
        return Err(AuthError::header(Fault::ScopeDate));
    }
    Ok(timestamp)
}

struct Parameters<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Parameters<'a> {
    /// Each of the three once, in any order, with or without spaces around the commas.
    fn parse(text: &'a str) -> Result<Self, Fault> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for pair in text.split(',') {
            let pair = pair.trim_ascii();
            if pair.is_empty() {
                // Nothing at all has its own message below; a stray comma is a fault.
                if text.trim_ascii().is_empty() {
                    break;
                }
                return Err(Fault::Syntax);
            }
            let (name, value) = pair.split_once('=').ok_or(Fault::Syntax)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(Fault::UnknownParameter),
            };
            if slot.replace(value).is_some() {
                return Err(Fault::DuplicateParameter);
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(signed_headers), Some(signature)) => Ok(Self {
                credential,
                signed_headers,
                signature,
            }),
            _ => Err(Fault::MissingParameter),
        }
    }
}
