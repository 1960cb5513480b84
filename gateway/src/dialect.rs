//! Where the T2 dialect and Amazon's differ, as one table. Nothing else asks which dialect is on.
//!
//! What both have in common (a marker on delete where versions are kept, 501 for what is missing, canned ACLs only) has
//! no row here.

use std::fmt;

use http::StatusCode;
use t2gate_backends::VersioningStatus;

use crate::s3::{S3Error, S3ErrorCode};

/// Whose behaviour a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// The T2 text.
    #[default]
    T2,
    /// Amazon's, for clients and suites that insist on it.
    Aws,
}

/// One column of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    /// DELETE of an object, version or setting that is not there: 404 with the code that names it, else 204, and an
    /// object that is not there gets a delete marker all the same where versions are kept. In DeleteObjects it is
    /// reported as deleted in both dialects, so that bulk deletes can be repeated.
    pub delete_missing_is_an_error: bool,
    /// 500, 502, 503 and 504 carry JSON, else XML. 501 is XML always: clients branch on its code.
    pub json_server_errors: bool,
    /// No valid credentials.
    pub unauthenticated: StatusCode,
    /// Over the rate limit.
    pub rate_limited: StatusCode,
    /// An object's `x-amz-acl` that differs from its bucket's is taken without effect, else 403; the configuration
    /// may turn it on where this is off. `public-read` on a private bucket is 403 in any case: taking it would promise
    /// what does not hold.
    pub ignore_object_acl: bool,
    /// Bucket names may hold dots.
    pub dotted_bucket_names: bool,
    /// Keys may hold code points below 32, and DEL.
    pub control_characters_in_keys: bool,
    /// A `public-read` bucket can be listed without credentials, as it can be read.
    pub anonymous_listing: bool,
    /// Of a new bucket, where the storage can keep versions.
    pub new_bucket_versioning: Option<VersioningStatus>,
    /// Buckets per account, unless the configuration says otherwise.
    pub max_buckets: u32,
}

static T2: Rules = Rules {
    delete_missing_is_an_error: true,
    json_server_errors: true,
    unauthenticated: StatusCode::UNAUTHORIZED,
    rate_limited: StatusCode::TOO_MANY_REQUESTS,
    ignore_object_acl: false,
    dotted_bucket_names: false,
    control_characters_in_keys: false,
    anonymous_listing: false,
    new_bucket_versioning: Some(VersioningStatus::Enabled),
    max_buckets: 100,
};

static AWS: Rules = Rules {
    delete_missing_is_an_error: false,
    json_server_errors: false,
    unauthenticated: StatusCode::FORBIDDEN,
    rate_limited: StatusCode::SERVICE_UNAVAILABLE,
    ignore_object_acl: true,
    dotted_bucket_names: true,
    control_characters_in_keys: true,
    anonymous_listing: true,
    new_bucket_versioning: None,
    max_buckets: 100,
};

/// What the body of an error is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    Xml,
    Json,
    /// 304 has none.
    Empty,
}

impl Dialect {
    pub fn rules(self) -> &'static Rules {
        match self {
            Self::T2 => &T2,
            Self::Aws => &AWS,
        }
    }

    /// As the configuration and the command line spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::T2 => "t2",
            Self::Aws => "aws",
        }
    }

    /// The status that the client sees.
    pub fn status(self, error: &S3Error) -> StatusCode {
        let rules = self.rules();
        if error.is_unauthenticated() {
            rules.unauthenticated
        } else if error.code() == S3ErrorCode::RateLimited {
            rules.rate_limited
        } else {
            error.code().status()
        }
    }

    /// What the error's body is written in. HEAD has no body whatever this says.
    pub fn error_format(self, error: &S3Error) -> ErrorFormat {
        let status = self.status(error);
        if status == StatusCode::NOT_MODIFIED {
            ErrorFormat::Empty
        } else if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && self.rules().json_server_errors {
            ErrorFormat::Json
        } else {
            ErrorFormat::Xml
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the dialects are t2 and aws")]
pub struct UnknownDialect;

impl std::str::FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::T2, Self::Aws]
            .into_iter()
            .find(|dialect| dialect.as_str() == text)
            .ok_or(UnknownDialect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: S3ErrorCode) -> S3Error {
        S3Error::new(code, "")
    }

    #[test]
    fn statuses_differ_where_the_dialects_do() {
        let both = |error: &S3Error| (Dialect::T2.status(error).as_u16(), Dialect::Aws.status(error).as_u16());
        assert_eq!(both(&of(S3ErrorCode::AccessDenied)), (403, 403));
        assert_eq!(both(&of(S3ErrorCode::AccessDenied).unauthenticated()), (401, 403));
        assert_eq!(
            both(&of(S3ErrorCode::SignatureDoesNotMatch).unauthenticated()),
            (401, 403)
        );
        assert_eq!(both(&of(S3ErrorCode::RateLimited)), (429, 503));
        assert_eq!(both(&of(S3ErrorCode::SlowDown)), (503, 503));
        assert_eq!(both(&of(S3ErrorCode::NotImplemented)), (501, 501));
    }

    #[test]
    fn only_server_errors_are_json_and_501_is_not() {
        let both = |code| {
            let error = of(code);
            (Dialect::T2.error_format(&error), Dialect::Aws.error_format(&error))
        };
        use ErrorFormat::{Empty, Json, Xml};
        assert_eq!(both(S3ErrorCode::InternalError), (Json, Xml));
        assert_eq!(both(S3ErrorCode::SlowDown), (Json, Xml));
        assert_eq!(both(S3ErrorCode::ServiceUnavailable), (Json, Xml));
        assert_eq!(both(S3ErrorCode::NotImplemented), (Xml, Xml));
        assert_eq!(both(S3ErrorCode::RateLimited), (Xml, Xml));
        assert_eq!(both(S3ErrorCode::NoSuchKey), (Xml, Xml));
        assert_eq!(both(S3ErrorCode::NotModified), (Empty, Empty));
    }

    #[test]
    fn a_new_bucket_keeps_versions_in_t2_alone() {
        let new = |dialect: Dialect| dialect.rules().new_bucket_versioning;
        assert_eq!(new(Dialect::T2), Some(VersioningStatus::Enabled));
        assert_eq!(new(Dialect::Aws), None);
    }

    #[test]
    fn names_round_trip() {
        assert_eq!("t2".parse(), Ok(Dialect::T2));
        assert_eq!("aws".parse(), Ok(Dialect::Aws));
        assert_eq!("T2".parse::<Dialect>(), Err(UnknownDialect));
    }
}
