//! Who asks: verifies the signature, once and for everything behind it.

use std::{fmt, sync::Arc};

use http::HeaderMap;
use t2gate_backends::Clock;
use tracing::debug;

use super::{
    record::RequestRecord,
    route::Routed,
    step::{Step, StepLayer},
};
use crate::{
    acl::Requester,
    body::RequestBody,
    keys::{KeyKind, KeyStore},
    s3::{S3Error, S3ErrorCode, target::Target},
    sigv4::{self, AuthError, ChunkSigner, Credentials, PayloadMode, SignedRequest, VerifyOptions},
};

/// A request whose credentials hold, or that came without any.
pub struct Authenticated {
    pub method: http::Method,
    pub raw_query: String,
    pub headers: HeaderMap,
    pub target: Target,
    /// Scheme, host and path as they were sent.
    pub url: String,
    pub requester: Requester,
    pub payload: PayloadMode,
    pub signer: Option<ChunkSigner>,
    pub body: RequestBody,
    pub record: RequestRecord,
}

/// Without headers and query, in which signatures stand.
impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("requester", &self.requester)
            .field("payload", &self.payload)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Authenticate {
    pub keys: Arc<KeyStore>,
    pub clock: Arc<dyn Clock>,
    pub region: Box<str>,
    /// Accept any region in a credential scope.
    pub any_region: bool,
}

pub fn layer(authenticate: Authenticate) -> StepLayer<Authenticate> {
    StepLayer::new(authenticate)
}

impl Step<Routed> for Authenticate {
    type Next = Authenticated;

    fn step(&self, routed: Routed) -> Result<Authenticated, S3Error> {
        let Routed { received, host, target } = routed;
        let headers = received.parts.headers;
        let raw_query = received.parts.uri.query().unwrap_or_default().to_owned();
        let request = SignedRequest {
            method: received.parts.method.as_str(),
            raw_path: received.parts.uri.path(),
            raw_query: &raw_query,
            headers: &headers,
            host: &host,
        };
        let (requester, payload, signer) = self.authenticate(&request, &received.record).map_err(|refusal| {
            if let Some(reason) = refusal.reason {
                received.record.set_authentication_failure(reason);
            }
            refusal.error
        })?;
        let url = format!("https://{host}{}", received.parts.uri.path());
        Ok(Authenticated {
            url,
            method: received.parts.method,
            raw_query,
            headers,
            target,
            requester,
            payload,
            signer,
            body: received.body,
            record: received.record,
        })
    }
}

impl Authenticate {
    fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        record: &RequestRecord,
    ) -> Result<(Requester, PayloadMode, Option<ChunkSigner>), Refusal> {
        let credentials = match sigv4::credentials(request)? {
            Credentials::Anonymous => {
                let payload = PayloadMode::of_anonymous(request.headers).map_err(|error| Refusal {
                    error: error.into(),
                    reason: None,
                })?;
                return Ok((Requester::Anonymous, payload, None));
            }
            Credentials::Signed(credentials) => credentials,
        };
        let unknown = |reason| {
            let error = S3Error::new(
                S3ErrorCode::InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records.",
            )
            .unauthenticated();
            Refusal::new(error, reason)
        };
        record.set_access_key_id(credentials.access_key_id.clone());
        let key = self
            .keys
            .lookup(&credentials.access_key_id)
            .ok_or_else(|| unknown("unknown_key"))?;
        let now = self.clock.now();
        let options = VerifyOptions {
            now,
            region: &self.region,
            any_region: self.any_region,
            max_skew: sigv4::MAX_SKEW,
        };
        let verified = sigv4::verify(request, &credentials, &key.secret, &options).inspect_err(|error| {
            if matches!(error, AuthError::SignatureDoesNotMatch) && tracing::enabled!(tracing::Level::DEBUG) {
                let mismatch = sigv4::explain(request, &credentials, &key.secret);
                debug!(?mismatch, "the signature does not match");
            }
        })?;
        if !key.is_current(now) {
            return Err(unknown(if key.revoked { "revoked_key" } else { "expired_key" }));
        }
        // Only now, so that nobody without its secret can find out which key is a master key.
        if key.kind == KeyKind::Master {
            let error = S3Error::new(
                S3ErrorCode::InvalidAccessKeyId,
                "master keys are not accepted here: create an application key",
            );
            return Err(Refusal::new(error.unauthenticated(), "master_key"));
        }
        Ok((Requester::Key(key), verified.payload, verified.chunk_signer))
    }
}

/// What the client is told, and what is counted.
struct Refusal {
    error: S3Error,
    /// `None` where nothing is wrong with credentials, for there are none.
    reason: Option<&'static str>,
}

impl Refusal {
    fn new(error: S3Error, reason: &'static str) -> Self {
        Self {
            error,
            reason: Some(reason),
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let reason = match &error {
            AuthError::InvalidUri
            | AuthError::TooManyParameters
            | AuthError::SeveralAuthorizationHeaders
            | AuthError::SeveralMechanisms
            | AuthError::Malformed { .. }
            | AuthError::MissingDate
            | AuthError::MissingContentSha256
            | AuthError::InvalidContentSha256
            | AuthError::SignedChunksNeedHeader => "malformed",
            AuthError::UnsupportedMechanism
            | AuthError::UnsupportedAuthorizationType
            | AuthError::SessionToken
            | AuthError::UnsupportedPayloadSignature => "unsupported",
            AuthError::WrongRegion { .. } => "wrong_region",
            AuthError::HeadersNotSigned { .. } => "headers_not_signed",
            AuthError::RequestTimeTooSkewed { .. } => "clock_skew",
            AuthError::NotYetValid { .. } | AuthError::Expired { .. } => "expired_url",
            AuthError::UnknownAccessKeyId => "unknown_key",
            AuthError::SignatureDoesNotMatch => "signature_mismatch",
        };
        Self::new(error.into(), reason)
    }
}
