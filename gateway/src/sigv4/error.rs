//! Every way in which a signature, or what announces one, can be wrong.

use std::time::Duration;

use t2gate_backends::Timestamp;

use super::time::iso8601;
use crate::s3::{S3Error, S3ErrorCode};

/// Where the parameters of a signature stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the `Authorization` header.
    Header,
    /// In the query of a presigned URL.
    Query,
}

/// What is wrong with the parameters of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not `name=value` pairs between commas, or longer than [`MAX_AUTHORIZATION_LENGTH`](super::MAX_AUTHORIZATION_LENGTH).
    Syntax,
    UnknownParameter,
    DuplicateParameter,
    /// A parameter of the set is missing, or spelled in another case.
    MissingParameter,
    Algorithm,
    /// Not `key/YYYYMMDD/region/service/aws4_request`.
    Credential,
    /// The date in the scope is not that of the request.
    ScopeDate,
    Service,
    Terminator,
    /// Not lower-case header names between semicolons, one named twice, or more than
    /// [`MAX_SIGNED_HEADERS`](super::MAX_SIGNED_HEADERS).
    SignedHeaders,
    Signature,
    /// `X-Amz-Date` is not `YYYYMMDDTHHMMSSZ`.
    Date,
    /// `X-Amz-Expires` is not a number of seconds from 1 to 604800.
    Expires,
}

impl Fault {
    fn message(self, place: Place) -> &'static str {
        match self {
            Self::Syntax => "The authorization header is malformed; it is not a list of name=value pairs.",
            Self::UnknownParameter => {
                "The authorization header is malformed; only Credential, SignedHeaders and Signature belong into it."
            }
            Self::DuplicateParameter => "An authentication parameter is given more than once.",
            Self::MissingParameter => match place {
                Place::Header => {
                    "The authorization header is malformed; the authorization header requires three components: \
                     Credential, SignedHeaders, and Signature."
                }
                Place::Query => {
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                     X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
                }
            },
            Self::Algorithm => "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\".",
            Self::Credential => {
                "The Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
            }
            Self::ScopeDate => "The date in the Credential is not the date of the request.",
            Self::Service => "The service in the Credential is wrong; this endpoint belongs to \"s3\".",
            Self::Terminator => "The Credential must end in \"aws4_request\".",
            Self::SignedHeaders => "SignedHeaders must be lower-case header names, each once, separated by semicolons.",
            Self::Signature => "The Signature must be 64 lower-case hexadecimal digits.",
            Self::Date => "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\".",
            Self::Expires => "X-Amz-Expires must be a number of seconds from 1 to 604800 (one week).",
        }
    }
}

/// Why a request is not authenticated.
///
/// What it displays is fixed text for the client; [`explain`](super::explain) has more on a signature that does not
/// match, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Percent-encoding in the path or the query is broken.
    #[error("Couldn't parse the specified URI.")]
    InvalidUri,
    /// More than [`MAX_QUERY_PARAMETERS`](crate::limits::MAX_QUERY_PARAMETERS).
    #[error("The query has too many parameters.")]
    TooManyParameters,
    #[error("Only one Authorization header is allowed.")]
    SeveralAuthorizationHeaders,
    /// In the header and in the query, or of two versions in the query.
    #[error(
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header should \
         be specified"
    )]
    SeveralMechanisms,
    /// Signature version 2, in the header or the query, or version 4A.
    #[error("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")]
    UnsupportedMechanism,
    /// `Basic`, `Bearer`, nothing, or whatever else no S3 client sends.
    #[error("Unsupported Authorization Type")]
    UnsupportedAuthorizationType,
    /// There are no temporary credentials here.
    #[error("The provided token is malformed or otherwise invalid.")]
    SessionToken,
    /// The parameters of the signature are wrong.
    #[error("{}", fault.message(*place))]
    Malformed { place: Place, fault: Fault },
    /// A scope for another region; the region to sign for.
    #[error("The authorization header is malformed; the region is wrong")]
    WrongRegion { expected: Box<str> },
    /// Neither `x-amz-date` nor `Date` has a date, or one comes twice.
    #[error("AWS authentication requires a valid Date or x-amz-date header")]
    MissingDate,
    /// `host` or `x-amz-*` headers that were sent but not signed.
    #[error("There were headers present in the request which were not signed")]
    HeadersNotSigned { names: Vec<Box<str>> },
    #[error("Missing required header for this request: x-amz-content-sha256")]
    MissingContentSha256,
    /// `x-amz-content-sha256` says nothing known, or comes twice.
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
         STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
    )]
    InvalidContentSha256,
    /// `STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD[-TRAILER]`.
    #[error("Payloads signed with AWS4-ECDSA-P256-SHA256 are not supported. Please use AWS4-HMAC-SHA256.")]
    UnsupportedPayloadSignature,
    /// Signed chunks start from the signature of an `Authorization` header.
    #[error("A payload in signed chunks requires an Authorization header.")]
    SignedChunksNeedHeader,
    #[error("The difference between the request time and the server's time is too large.")]
    RequestTimeTooSkewed {
        request_time: i64,
        server_time: i64,
        max_skew: Duration,
    },
    /// A presigned URL from the future.
    #[error("Request is not valid yet")]
    NotYetValid { request_time: i64, server_time: i64 },
    /// A presigned URL whose time is over.
    #[error("Request has expired")]
    Expired {
        expires_in: u32,
        expired_at: i64,
        server_time: i64,
    },
    /// No key has that id. This module never finds out; whoever looks keys up does.
    #[error("The AWS Access Key Id you provided does not exist in our records.")]
    UnknownAccessKeyId,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )]
    SignatureDoesNotMatch,
}

impl AuthError {
    /// The code for the client.
    pub fn code(&self) -> S3ErrorCode {
        match self {
            Self::InvalidUri => S3ErrorCode::InvalidURI,
            Self::TooManyParameters
            | Self::SeveralAuthorizationHeaders
            | Self::SeveralMechanisms
            | Self::UnsupportedAuthorizationType
            | Self::InvalidContentSha256 => S3ErrorCode::InvalidArgument,
            Self::UnsupportedMechanism
            | Self::MissingContentSha256
            | Self::UnsupportedPayloadSignature
            | Self::SignedChunksNeedHeader => S3ErrorCode::InvalidRequest,
            Self::SessionToken => S3ErrorCode::InvalidToken,
            Self::Malformed {
                place: Place::Header, ..
            }
            | Self::WrongRegion { .. } => S3ErrorCode::AuthorizationHeaderMalformed,
            Self::Malformed {
                place: Place::Query, ..
            } => S3ErrorCode::AuthorizationQueryParametersError,
            Self::MissingDate | Self::HeadersNotSigned { .. } | Self::NotYetValid { .. } | Self::Expired { .. } => {
                S3ErrorCode::AccessDenied
            }
            Self::RequestTimeTooSkewed { .. } => S3ErrorCode::RequestTimeTooSkewed,
            Self::UnknownAccessKeyId => S3ErrorCode::InvalidAccessKeyId,
            Self::SignatureDoesNotMatch => S3ErrorCode::SignatureDoesNotMatch,
        }
    }

    /// Whether the credentials do not hold (401 in the T2 dialect), rather than being ill-formed or against a rule.
    pub fn unauthenticated(&self) -> bool {
        match self {
            Self::NotYetValid { .. }
            | Self::Expired { .. }
            | Self::UnknownAccessKeyId
            | Self::SignatureDoesNotMatch => true,
            Self::InvalidUri
            | Self::TooManyParameters
            | Self::SeveralAuthorizationHeaders
            | Self::SeveralMechanisms
            | Self::UnsupportedMechanism
            | Self::UnsupportedAuthorizationType
            | Self::SessionToken
            | Self::Malformed { .. }
            | Self::WrongRegion { .. }
            | Self::MissingDate
            | Self::HeadersNotSigned { .. }
            | Self::MissingContentSha256
            | Self::InvalidContentSha256
            | Self::UnsupportedPayloadSignature
            | Self::SignedChunksNeedHeader
            | Self::RequestTimeTooSkewed { .. } => false,
        }
    }

    /// The elements that S3 adds to the body of such an error.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::WrongRegion { expected } => vec![("Region", expected.to_string())],
            Self::HeadersNotSigned { names } => vec![("HeadersNotSigned", names.join(", "))],
            Self::MissingContentSha256 | Self::InvalidContentSha256 => {
                vec![("ArgumentName", "x-amz-content-sha256".to_owned())]
            }
            Self::RequestTimeTooSkewed {
                request_time,
                server_time,
                max_skew,
            } => vec![
                ("RequestTime", iso8601(*request_time)),
                ("ServerTime", iso8601(*server_time)),
                ("MaxAllowedSkewMilliseconds", max_skew.as_millis().to_string()),
            ],
            Self::NotYetValid {
                request_time,
                server_time,
            } => vec![
                ("RequestTime", iso8601(*request_time)),
                ("ServerTime", iso8601(*server_time)),
            ],
            Self::Expired {
                expires_in,
                expired_at,
                server_time,
            } => vec![
                ("X-Amz-Expires", expires_in.to_string()),
                ("Expires", iso8601(*expired_at)),
                ("ServerTime", iso8601(*server_time)),
            ],
            Self::InvalidUri
            | Self::TooManyParameters
            | Self::SeveralAuthorizationHeaders
            | Self::SeveralMechanisms
            | Self::UnsupportedMechanism
            | Self::UnsupportedAuthorizationType
            | Self::SessionToken
            | Self::Malformed { .. }
            | Self::MissingDate
            | Self::UnsupportedPayloadSignature
            | Self::SignedChunksNeedHeader
            | Self::UnknownAccessKeyId
            | Self::SignatureDoesNotMatch => Vec::new(),
        }
    }

    pub(super) fn header(fault: Fault) -> Self {
        Self::Malformed {
            place: Place::Header,
            fault,
        }
    }

    pub(super) fn query(fault: Fault) -> Self {
        Self::Malformed {
            place: Place::Query,
            fault,
        }
    }

    pub(super) fn too_skewed(request_time: i64, now: Timestamp, max_skew: Duration) -> Self {
        Self::RequestTimeTooSkewed {
            request_time,
            server_time: now.unix_seconds(),
            max_skew,
        }
    }
}

impl From<AuthError> for S3Error {
    fn from(error: AuthError) -> Self {
        let mut s3 = Self::new(error.code(), error.to_string());
        for (name, value) in error.fields() {
            s3 = s3.with_field(name, value);
        }
        if error.unauthenticated() {
            s3 = s3.unauthenticated();
        }
        s3.with_source(error)
    }
}
