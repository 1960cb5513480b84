//! AWS Signature Version 4, as S3 has it (S3 API reference, "Authenticating requests"). Pure: the time and the secret are
//! arguments.
//!
//! [`credentials`] reads what a request claims, [`verify`] tests the claim with the secret of the key that it names, and
//! [`ChunkedDecoder`] takes the body apart and tests its chunks. Between the first two stands the caller, who looks the
//! key up: nothing here knows any key.

pub mod canonical;
pub mod chunked;
pub mod client;

mod authorization;
mod chunk_signer;
mod error;
mod mismatch;
mod payload;
mod presigned;
mod scope;
mod signing_key;
mod time;

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use http::{HeaderMap, header::AUTHORIZATION};
use secrecy::SecretString;
use t2gate_backends::Timestamp;

use self::{
    canonical::{Parts, Query, string_to_sign},
    presigned::Found,
};
pub use self::{
    chunk_signer::ChunkSigner,
    chunked::{ChunkedDecoder, ChunkedError, ChunkedEvent},
    error::{AuthError, Fault, Place},
    mismatch::{Mismatch, explain},
    payload::{MAX_TRAILERS, PayloadMode, names_aws_chunked},
    presigned::MAX_EXPIRES,
    scope::{CredentialScope, SignedHeaders},
    signing_key::{Signature, SigningKey},
    time::AmzDate,
};

/// The longest `Authorization` header, in bytes: room for the longest list of signed headers that is accepted.
pub const MAX_AUTHORIZATION_LENGTH: usize = 16 * 1024;
/// At most so many headers may be signed: more than a server takes at all.
pub const MAX_SIGNED_HEADERS: usize = 256;
/// The longest access key id and the longest region, in bytes (IAM API reference, AccessKey: 128).
pub const MAX_ACCESS_KEY_ID_LENGTH: usize = 128;
/// How far a client's clock may be off (S3 API reference, RequestTimeTooSkewed).
pub const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// What is signed, as it came over the wire.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    pub method: &'a str,
    /// The path as it stands on the request line, not decoded.
    pub raw_path: &'a str,
    /// What follows the `?`, not decoded; empty when nothing does.
    pub raw_query: &'a str,
    pub headers: &'a HeaderMap,
    /// The one effective host, letter by letter, with a port only where the client sent one. It stands for the `host`
    /// header; one in `headers` is not looked at.
    pub host: &'a str,
}

/// Without headers and query, in which signatures stand.
impl fmt::Debug for SignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("raw_path", &self.raw_path)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// What a request claims about who sent it. Nothing is verified yet.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// No credential of any kind, not even part of one.
    Anonymous,
    Signed(Box<SignedCredentials>),
}

/// Well-formed credentials, not yet verified.
#[derive(Debug, Clone)]
pub struct SignedCredentials {
    pub access_key_id: Box<str>,
    pub scope: CredentialScope,
    pub signed_headers: SignedHeaders,
    pub signature: Signature,
    pub timestamp: AmzDate,
    pub kind: SignatureKind,
    pub payload: PayloadMode,
    /// The last line of the canonical request, as it was sent.
    content_sha256: Box<str>,
}

/// Where a signature stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureKind {
    /// In the `Authorization` header.
    Header,
    /// In the query; good for so many seconds.
    Presigned { expires: u32 },
}

/// What [`verify`] holds a request against.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions<'a> {
    pub now: Timestamp,
    /// The configured region. `us-east-1` is accepted beside it, for clients that were told none.
    pub region: &'a str,
    /// Accept whatever region was signed for.
    pub any_region: bool,
    /// [`MAX_SKEW`], unless there is reason for another.
    pub max_skew: Duration,
}

/// A request whose signature holds, and how to read its body.
#[derive(Debug)]
pub struct Verified {
    pub payload: PayloadMode,
    /// For [`ChunkedDecoder`]: there when the payload is in signed chunks.
    pub chunk_signer: Option<ChunkSigner>,
}

/// Reads the credentials of a request. Judges form only: that they are complete, of one kind, consistent, and that the
/// signature covers what it must.
///
/// # Errors
/// Whatever is wrong with them; only a request without any trace of credentials is anonymous.
pub fn credentials(request: &SignedRequest<'_>) -> Result<Credentials, AuthError> {
    let query = Query::parse(request.raw_query)?;
    // Broken encoding in the path is refused for everybody, before anything else looks at it.
    canonical::canonical_path(request.raw_path)?;
    let mut authorizations = request.headers.get_all(AUTHORIZATION).iter();
    let authorization = authorizations.next();
    if authorizations.next().is_some() {
        return Err(AuthError::SeveralAuthorizationHeaders);
    }
    let found = presigned::find(&query);
    if found == Found::Both || (authorization.is_some() && found != Found::None) {
        return Err(AuthError::SeveralMechanisms);
    }
    if request.headers.contains_key("x-amz-security-token") || presigned::has_session_token(&query) {
        return Err(AuthError::SessionToken);
    }
    let signed = match (authorization, found) {
        (Some(authorization), _) => authorization::parse(authorization.as_bytes(), request.headers)?,
        (None, Found::Version4 | Found::Both) => presigned::parse(&query, request.headers)?,
        (None, Found::Version2) => return Err(AuthError::UnsupportedMechanism),
        (None, Found::None) => return Ok(Credentials::Anonymous),
    };
    signed.signed_headers.cover(request.headers)?;
    Ok(Credentials::Signed(Box::new(signed)))
}

/// Tests credentials with the secret of the key that they name.
///
/// # Errors
/// A region that is not served, a time that is over or too far off, a signature that does not match.
pub fn verify(
    request: &SignedRequest<'_>,
    credentials: &SignedCredentials,
    secret: &SecretString,
    options: &VerifyOptions<'_>,
) -> Result<Verified, AuthError> {
    let region = &*credentials.scope.region;
    if !options.any_region && region != options.region && region != "us-east-1" {
        return Err(AuthError::WrongRegion {
            expected: options.region.into(),
        });
    }
    check_time(credentials, options)?;
    let key = SigningKey::derive(secret, &credentials.scope);
    let canonical_request = credentials.parts(request)?.canonical_request();
    let string_to_sign = string_to_sign(credentials.timestamp.as_str(), &credentials.scope, &canonical_request);
    if !key.sign(string_to_sign.as_bytes()).matches(&credentials.signature) {
        return Err(AuthError::SignatureDoesNotMatch);
    }
    let chunk_signer = credentials.payload.is_signed_streaming().then(|| {
        ChunkSigner::new(
            key,
            &credentials.timestamp,
            &credentials.scope,
            credentials.signature.clone(),
        )
    });
    Ok(Verified {
        payload: credentials.payload,
        chunk_signer,
    })
}

impl SignedCredentials {
    fn parts<'a>(&'a self, request: &SignedRequest<'a>) -> Result<Parts<'a>, AuthError> {
        let presigned = self.kind != SignatureKind::Header;
        Parts::new(request, &self.signed_headers, &self.content_sha256, presigned)
    }
}

/// A signature in the header is good while the clocks agree; a presigned one from its date on until it expires.
fn check_time(credentials: &SignedCredentials, options: &VerifyOptions<'_>) -> Result<(), AuthError> {
    const SECOND: i128 = 1_000_000_000;
    let request_time = credentials.timestamp.unix_seconds();
    let server_time = options.now.unix_seconds();
    let age = i128::from(options.now.unix_nanos()) - i128::from(request_time) * SECOND;
    let max_skew = i128::try_from(options.max_skew.as_nanos()).unwrap_or(i128::MAX);
    match credentials.kind {
        SignatureKind::Header if age > max_skew || age < -max_skew => {
            Err(AuthError::too_skewed(request_time, options.now, options.max_skew))
        }
        SignatureKind::Presigned { .. } if age < -max_skew => Err(AuthError::NotYetValid {
            request_time,
            server_time,
        }),
        SignatureKind::Presigned { expires } if age > i128::from(expires) * SECOND => Err(AuthError::Expired {
            expires_in: expires,
            expired_at: request_time + i64::from(expires),
            server_time,
        }),
        _ => Ok(()),
    }
}
