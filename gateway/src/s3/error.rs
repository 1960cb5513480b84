//! What a client sees when a request is refused or fails.

use std::{borrow::Cow, error::Error, fmt};

use http::{HeaderName, HeaderValue, StatusCode};

/// Every error code that this service answers with (S3 API reference, "Error responses"; T2 text, statuses).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum S3ErrorCode {
    AccessDenied,
    AccessForbidden,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    BadDigest,
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    ConditionalRequestConflict,
    EntityTooLarge,
    EntityTooSmall,
    IllegalVersioningConfigurationException,
    IncompleteBody,
    /// Something failed here: 500, JSON in the T2 dialect.
    InternalError,
    InvalidAccessKeyId,
    InvalidArgument,
    InvalidBucketName,
    InvalidBucketState,
    InvalidDigest,
    InvalidEncryptionAlgorithmError,
    InvalidLocationConstraint,
    InvalidObjectState,
    InvalidPart,
    /// A read of a part that the object has not.
    InvalidPartNumber,
    InvalidPartOrder,
    InvalidRange,
    InvalidRequest,
    InvalidStorageClass,
    InvalidToken,
    InvalidURI,
    KeyTooLongError,
    MalformedTrailerError,
    MalformedXML,
    MetadataTooLarge,
    MethodNotAllowed,
    MissingContentLength,
    MissingSecurityHeader,
    NoSuchBucket,
    NoSuchBucketPolicy,
    NoSuchConfiguration,
    NoSuchCORSConfiguration,
    NoSuchKey,
    NoSuchLifecycleConfiguration,
    NoSuchObjectLockConfiguration,
    NoSuchPublicAccessBlockConfiguration,
    NoSuchTagSet,
    NoSuchUpload,
    NoSuchVersion,
    NoSuchWebsiteConfiguration,
    NotImplemented,
    /// The answer to a conditional read; it has no body.
    NotModified,
    ObjectLockConfigurationNotFoundError,
    OperationAborted,
    OwnershipControlsNotFoundError,
    PreconditionFailed,
    /// Over the rate limit: `SlowDown` with 429 (dialect `aws`: 503).
    RateLimited,
    ReplicationConfigurationNotFoundError,
    RequestHeaderSectionTooLarge,
    RequestTimeTooSkewed,
    RequestTimeout,
    ServerSideEncryptionConfigurationNotFoundError,
    /// Not now, or draining: 503.
    ServiceUnavailable,
    SignatureDoesNotMatch,
    /// Out of capacity: 503, JSON in the T2 dialect.
    SlowDown,
    TooManyBuckets,
    #[allow(clippy::upper_case_acronyms, reason = "S3 spells it so")]
    XAmzContentSHA256Mismatch,
}

impl S3ErrorCode {
    /// The code as it stands in `<Code>`.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The status with which Amazon answers; where the dialect has another, `dialect.rs` says so.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The one table of codes and statuses.
    fn row(self) -> (&'static str, u16) {
        match self {
            Self::AccessDenied => ("AccessDenied", 403),
            Self::AccessForbidden => ("AccessForbidden", 403),
            Self::AuthorizationHeaderMalformed => ("AuthorizationHeaderMalformed", 400),
            Self::AuthorizationQueryParametersError => ("AuthorizationQueryParametersError", 400),
            Self::BadDigest => ("BadDigest", 400),
            Self::BucketAlreadyExists => ("BucketAlreadyExists", 409),
            Self::BucketAlreadyOwnedByYou => ("BucketAlreadyOwnedByYou", 409),
            Self::BucketNotEmpty => ("BucketNotEmpty", 409),
            Self::ConditionalRequestConflict => ("ConditionalRequestConflict", 409),
            Self::EntityTooLarge => ("EntityTooLarge", 400),
            Self::EntityTooSmall => ("EntityTooSmall", 400),
            Self::IllegalVersioningConfigurationException => ("IllegalVersioningConfigurationException", 400),
            Self::IncompleteBody => ("IncompleteBody", 400),
            Self::InternalError => ("InternalError", 500),
            Self::InvalidAccessKeyId => ("InvalidAccessKeyId", 403),
            Self::InvalidArgument => ("InvalidArgument", 400),
            Self::InvalidBucketName => ("InvalidBucketName", 400),
            Self::InvalidBucketState => ("InvalidBucketState", 409),
            Self::InvalidDigest => ("InvalidDigest", 400),
            Self::InvalidEncryptionAlgorithmError => ("InvalidEncryptionAlgorithmError", 400),
            Self::InvalidLocationConstraint => ("InvalidLocationConstraint", 400),
            Self::InvalidObjectState => ("InvalidObjectState", 403),
            Self::InvalidPart => ("InvalidPart", 400),
            Self::InvalidPartNumber => ("InvalidPartNumber", 416),
            Self::InvalidPartOrder => ("InvalidPartOrder", 400),
            Self::InvalidRange => ("InvalidRange", 416),
            Self::InvalidRequest => ("InvalidRequest", 400),
            Self::InvalidStorageClass => ("InvalidStorageClass", 400),
            Self::InvalidToken => ("InvalidToken", 400),
            Self::InvalidURI => ("InvalidURI", 400),
            Self::KeyTooLongError => ("KeyTooLongError", 400),
            Self::MalformedTrailerError => ("MalformedTrailerError", 400),
            Self::MalformedXML => ("MalformedXML", 400),
            Self::MetadataTooLarge => ("MetadataTooLarge", 400),
            Self::MethodNotAllowed => ("MethodNotAllowed", 405),
            Self::MissingContentLength => ("MissingContentLength", 411),
            Self::MissingSecurityHeader => ("MissingSecurityHeader", 400),
            Self::NoSuchBucket => ("NoSuchBucket", 404),
            Self::NoSuchBucketPolicy => ("NoSuchBucketPolicy", 404),
            Self::NoSuchConfiguration => ("NoSuchConfiguration", 404),
            Self::NoSuchCORSConfiguration => ("NoSuchCORSConfiguration", 404),
            Self::NoSuchKey => ("NoSuchKey", 404),
            Self::NoSuchLifecycleConfiguration => ("NoSuchLifecycleConfiguration", 404),
            Self::NoSuchObjectLockConfiguration => ("NoSuchObjectLockConfiguration", 404),
            Self::NoSuchPublicAccessBlockConfiguration => ("NoSuchPublicAccessBlockConfiguration", 404),
            Self::NoSuchTagSet => ("NoSuchTagSet", 404),
            Self::NoSuchUpload => ("NoSuchUpload", 404),
            Self::NoSuchVersion => ("NoSuchVersion", 404),
            Self::NoSuchWebsiteConfiguration => ("NoSuchWebsiteConfiguration", 404),
            Self::NotImplemented => ("NotImplemented", 501),
            Self::NotModified => ("NotModified", 304),
            Self::ObjectLockConfigurationNotFoundError => ("ObjectLockConfigurationNotFoundError", 404),
            Self::OperationAborted => ("OperationAborted", 409),
            Self::OwnershipControlsNotFoundError => ("OwnershipControlsNotFoundError", 404),
            Self::PreconditionFailed => ("PreconditionFailed", 412),
            Self::RateLimited => ("SlowDown", 503),
            Self::ReplicationConfigurationNotFoundError => ("ReplicationConfigurationNotFoundError", 404),
            Self::RequestHeaderSectionTooLarge => ("RequestHeaderSectionTooLarge", 400),
            Self::RequestTimeTooSkewed => ("RequestTimeTooSkewed", 403),
            Self::RequestTimeout => ("RequestTimeout", 400),
            Self::ServerSideEncryptionConfigurationNotFoundError => {
                ("ServerSideEncryptionConfigurationNotFoundError", 404)
            }
            Self::ServiceUnavailable => ("ServiceUnavailable", 503),
            Self::SignatureDoesNotMatch => ("SignatureDoesNotMatch", 403),
            Self::SlowDown => ("SlowDown", 503),
            Self::TooManyBuckets => ("TooManyBuckets", 400),
            Self::XAmzContentSHA256Mismatch => ("XAmzContentSHA256Mismatch", 400),
        }
    }
}

/// A refusal or a failure on its way to the client. `layer/respond.rs` alone turns it into a response.
#[derive(Debug)]
pub struct S3Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: S3ErrorCode,
    /// For the client: never a path of the server, a secret or a source's text.
    message: Cow<'static, str>,
    unauthenticated: bool,
    fields: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log.
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl S3Error {
    pub fn new(code: S3ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            unauthenticated: false,
            fields: Vec::new(),
            headers: Vec::new(),
            source: None,
        }))
    }

    /// A failure of ours: the client gets an incident id, the log gets the source.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            S3ErrorCode::InternalError,
            "We encountered an internal error. Please try again.",
        )
        .with_source(source)
    }

    /// `InvalidArgument` that names the argument and what was sent.
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>, name: &str, value: &str) -> Self {
        Self::new(S3ErrorCode::InvalidArgument, message)
            .with_field("ArgumentName", name)
            .with_field("ArgumentValue", value)
    }

    /// 501: the request asks for something that this service has not.
    pub fn not_implemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(S3ErrorCode::NotImplemented, message)
    }

    /// 501 for a header, in S3's words.
    pub fn header_not_implemented(name: &str) -> Self {
        Self::not_implemented(format!(
            "A header you provided implies functionality that is not implemented: {name}"
        ))
        .with_field("Header", name)
    }

    pub fn malformed_xml() -> Self {
        Self::new(
            S3ErrorCode::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema",
        )
    }

    /// [`malformed_xml`](Self::malformed_xml) with what the parser said, for the log.
    pub fn malformed_xml_from(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::malformed_xml().with_source(source)
    }

    /// 404 in the words of the T2 text.
    pub fn no_such_bucket(name: &str) -> Self {
        Self::new(
            S3ErrorCode::NoSuchBucket,
            format!("The specified bucket does not exist: {name}"),
        )
        .with_field("BucketName", name)
    }

    /// No valid credentials came with the request: 401 in the T2 dialect, where Amazon says 403.
    pub fn unauthenticated(mut self) -> Self {
        self.0.unauthenticated = true;
        self
    }

    /// Adds an element to the XML body, after `Resource`.
    pub fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.fields.push((name, value.into()));
        self
    }

    /// Adds a header to the response.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub fn code(&self) -> S3ErrorCode {
        self.0.code
    }

    /// Whether something failed, as an operator would want to hear of: not what is not there yet.
    pub fn is_failure(&self) -> bool {
        self.code().status().is_server_error() && self.code() != S3ErrorCode::NotImplemented
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn is_unauthenticated(&self) -> bool {
        self.0.unauthenticated
    }

    pub fn fields(&self) -> &[(&'static str, String)] {
        &self.0.fields
    }

    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.message)
    }
}

impl Error for S3Error {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
