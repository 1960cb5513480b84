//! The credential scope and the list of signed headers, which both kinds of signatures share.

use std::fmt;

use http::HeaderMap;

use super::{AuthError, Fault, MAX_ACCESS_KEY_ID_LENGTH, MAX_SIGNED_HEADERS};

/// What a signing key is good for: `date/region/service/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialScope {
    /// `YYYYMMDD`.
    pub date: Box<str>,
    pub region: Box<str>,
    /// Always `s3` in credentials that were accepted.
    pub service: Box<str>,
}

impl fmt::Display for CredentialScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// Parses `key/YYYYMMDD/region/s3/aws4_request`.
pub(super) fn parse_credential(text: &str) -> Result<(Box<str>, CredentialScope), Fault> {
    let mut parts = text.split('/');
    let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(Fault::Credential);
    let (access_key_id, date, region, service, terminator) = (part()?, part()?, part()?, part()?, part()?);
    let graphic = |text: &str| text.len() <= MAX_ACCESS_KEY_ID_LENGTH && text.bytes().all(|b| b.is_ascii_graphic());
    let is_date = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || !graphic(access_key_id) || !graphic(region) || !is_date {
        return Err(Fault::Credential);
    }
    if service != "s3" {
        return Err(Fault::Service);
    }
    if terminator != "aws4_request" {
        return Err(Fault::Terminator);
    }
    let scope = CredentialScope {
        date: date.into(),
        region: region.into(),
        service: service.into(),
    };
    Ok((access_key_id.into(), scope))
}

/// The names of the headers that a signature covers: lower-case, each once, in the client's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders(Box<str>);

impl SignedHeaders {
    /// Parses `host;x-amz-date`.
    ///
    /// # Errors
    /// [`Fault::SignedHeaders`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut names: Vec<_> = text.split(';').take(MAX_SIGNED_HEADERS + 1).collect();
        let is_name = |name: &&str| {
            // http::HeaderName would fold the case, and the canonical request has the names as they are written.
            let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
            !name.is_empty() && name.bytes().all(lower)
        };
        if names.len() > MAX_SIGNED_HEADERS || !names.iter().all(is_name) {
            return Err(Fault::SignedHeaders);
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Fault::SignedHeaders);
        }
        Ok(Self(text.into()))
    }

    /// As written, between semicolons.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(';')
    }

    /// `host` and every `x-amz-*` header that was sent have to be among them: an unsigned one could have been added by
    /// anybody.
    pub(super) fn cover(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        let sent = headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| name.starts_with("x-amz-"));
        let names: Vec<Box<str>> = std::iter::once("host")
            .chain(sent)
            .filter(|name| !self.iter().any(|signed| signed == *name))
            .map(Into::into)
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(AuthError::HeadersNotSigned { names })
        }
    }
}
