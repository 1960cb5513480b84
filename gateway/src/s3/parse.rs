//! Request parts into an [`Operation`]. No I/O, no authentication; what is in a body is read later, by `xml`.

mod bucket;
mod list;
mod multipart;
mod object;

pub(super) use object::part_number;

use http::{HeaderMap, HeaderName, Method};
use t2gate_backends::{BucketName, Key, ObjectRef, UploadId, UploadRef, VersionId};

use super::{
    Operation, Query, S3Error, S3ErrorCode, Target, copy_source, headers,
    operation::{NotImplemented, UnsetConfiguration},
    route::{Level, Route, route},
};
use crate::dialect::Dialect;

/// What an operation is read from.
#[derive(Debug, Clone, Copy)]
pub struct ParseInput<'a> {
    pub method: &'a Method,
    pub target: &'a Target,
    /// Scheme, host and path as they were sent.
    pub url: &'a str,
    pub query: &'a Query,
    /// As [`effective_headers`](headers::effective_headers) gives them.
    pub headers: &'a HeaderMap,
    pub dialect: Dialect,
    /// Whether a body is announced that is not empty, or of which the length is not known.
    pub has_body: bool,
}

/// Understands a request, or refuses it. An action that S3 has and this service has not is an
/// [`Operation::NotImplemented`], so that it is authenticated, counted and answered like others.
pub fn parse(request: &ParseInput<'_>) -> Result<Operation, S3Error> {
    if request.method == Method::OPTIONS {
        return Err(S3Error::new(
            S3ErrorCode::AccessForbidden,
            "CORSResponse: CORS is not enabled for this bucket.",
        ));
    }
    let input = Input { request };
    if is_object_lambda_response(request) {
        return Ok(input.refused("WriteGetObjectResponse", None));
    }
    let level = match (&request.target.bucket, &request.target.key) {
        (None, _) => Level::Root,
        (Some(_), None) => Level::Bucket,
        (Some(_), Some(_)) => Level::Object,
    };
    let route = route(level, request.method, request.query)?;
    input.check_parameters(level, route)?;
    headers::check(request.query, request.headers)?;
    input.operation(route)
}

/// Judges the name of a bucket that is to be created. Error: `InvalidBucketName`.
pub fn new_bucket(name: &str, dialect: Dialect) -> Result<BucketName, S3Error> {
    BucketName::parse(name)
        .ok()
        .filter(|bucket| dialect.rules().dotted_bucket_names || !bucket.as_str().contains('.'))
        .ok_or_else(|| invalid_bucket_name(name))
}

/// Judges the name of a bucket that should be there, which may be one that somebody else made: a directory of two words
/// with a dot between them is served where no such bucket can be made. A name that S3 once allowed (upper case, `_`, longer
/// ones) is `NoSuchBucket`, as in the T2 text's example; anything else `InvalidBucketName`.
pub fn existing_bucket(name: &str) -> Result<BucketName, S3Error> {
    BucketName::parse(name).map_err(|_| {
        let once_allowed = (3..=255).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if once_allowed {
            S3Error::no_such_bucket(name)
        } else {
            invalid_bucket_name(name)
        }
    })
}

fn invalid_bucket_name(name: &str) -> S3Error {
    S3Error::new(S3ErrorCode::InvalidBucketName, "The specified bucket is not valid.").with_field("BucketName", name)
}

/// Judges a key. Errors: `KeyTooLongError`, `InvalidArgument` for NUL, and for control characters where the dialect
/// has none.
pub fn key(text: &str, dialect: Dialect) -> Result<Key, S3Error> {
    use t2gate_backends::{InvalidKey, MAX_KEY_BYTES};
    let key = Key::parse(text).map_err(|invalid| match invalid {
        InvalidKey::Empty => S3Error::new(S3ErrorCode::InvalidArgument, "A key must be specified."),
        InvalidKey::TooLong(size) => S3Error::new(S3ErrorCode::KeyTooLongError, "Your key is too long")
            .with_field("Size", size.to_string())
            .with_field("MaxSizeAllowed", MAX_KEY_BYTES.to_string()),
        InvalidKey::Nul => S3Error::new(S3ErrorCode::InvalidArgument, "A key must not hold a NUL character."),
    })?;
    if !dialect.rules().control_characters_in_keys && text.bytes().any(|b| b.is_ascii_control()) {
        return Err(S3Error::new(
            S3ErrorCode::InvalidArgument,
            "A key must not hold control characters.",
        ));
    }
    Ok(key)
}

/// Judges a version id. `InvalidArgument` in S3's words.
pub fn version_id(text: &str) -> Result<VersionId, S3Error> {
    version_id_of("versionId", text)
}

/// [`version_id`] of another parameter.
fn version_id_of(name: &'static str, text: &str) -> Result<VersionId, S3Error> {
    VersionId::parse(text).map_err(|_| {
        let message = if text.is_empty() {
            "Version id cannot be the empty string"
        } else {
            "Invalid version id specified"
        };
        S3Error::invalid_argument(message, name, text)
    })
}

/// S3 Object Lambda answers at a path that looks like a bucket's.
fn is_object_lambda_response(request: &ParseInput<'_>) -> bool {
    request.method == Method::POST
        && request.target.bucket.as_deref() == Some("WriteGetObjectResponse")
        && request.target.key.is_none()
}

/// The request with what all parsers ask of it.
#[derive(Debug, Clone, Copy)]
struct Input<'a> {
    request: &'a ParseInput<'a>,
}

impl<'a> Input<'a> {
    fn operation(self, route: Route) -> Result<Operation, S3Error> {
        let may_copy = matches!(route, Route::PutObject | Route::UploadPart);
        let is_copy = may_copy && self.header("x-amz-copy-source")?.is_some();
        if !is_copy && !matches!(route, Route::Refused(_)) {
            self.refuse_copy_headers()?;
        }
        self.refuse_misplaced_headers(route, is_copy)?;
        Ok(match route {
            Route::ListBuckets => Operation::ListBuckets(list::list_buckets(self)?),
            Route::CreateBucket => Operation::CreateBucket(bucket::create_bucket(self)?),
            Route::HeadBucket => Operation::HeadBucket(self.bucket()?),
            Route::DeleteBucket => {
                super::conditional::no_condition(self.request.headers)?;
                Operation::DeleteBucket(self.bucket()?)
            }
            Route::GetBucketLocation => Operation::GetBucketLocation(self.bucket()?),
            Route::GetBucketAcl => Operation::GetBucketAcl(self.bucket()?),
            Route::PutBucketAcl => Operation::PutBucketAcl(bucket::put_bucket_acl(self)?),
            Route::GetBucketVersioning => Operation::GetBucketVersioning(self.bucket()?),
            Route::PutBucketVersioning => Operation::PutBucketVersioning(bucket::put_bucket_versioning(self)?),
            Route::Unset(configuration) => self.unset(configuration)?,
            Route::DeleteUnset(configuration, action) => {
                Operation::DeleteUnsetBucketConfiguration(self.bucket()?, configuration, action)
            }
            Route::UnsetList(list, one) => {
                let configuration = if self.parameter("id")?.is_some() { one } else { list };
                self.unset(configuration)?
            }
            Route::ListObjects => list::list_objects(self)?,
            Route::ListObjectVersions => Operation::ListObjectVersions(list::list_object_versions(self)?),
            Route::DeleteObjects => Operation::DeleteObjects(bucket::delete_objects(self)?),
            Route::PutObject => match copy_source::copy_source(self.request.headers, self.request.dialect)? {
                Some(source) => Operation::CopyObject(object::copy_object(self, source)?),
                None => Operation::PutObject(object::put_object(self)?),
            },
            Route::GetObject => Operation::GetObject(object::get_object(self)?),
            Route::HeadObject => Operation::HeadObject(object::get_object(self)?),
            Route::DeleteObject => Operation::DeleteObject(object::delete_object(self)?),
            Route::GetObjectAcl => Operation::GetObjectAcl(self.object()?),
            Route::PutObjectAcl => Operation::PutObjectAcl(object::put_object_acl(self)?),
            Route::GetObjectAttributes => Operation::GetObjectAttributes(object::get_object_attributes(self)?),
            Route::GetObjectTagging => Operation::GetObjectTagging(self.object()?),
            Route::UnsetObjectLock(lock) => Operation::GetUnsetObjectLock(self.object()?, lock),
            Route::CreateMultipartUpload => Operation::CreateMultipartUpload(multipart::create(self)?),
            Route::UploadPart => match copy_source::copy_source(self.request.headers, self.request.dialect)? {
                Some(source) => Operation::UploadPartCopy(multipart::upload_part_copy(self, source)?),
                None => Operation::UploadPart(multipart::upload_part(self)?),
            },
            Route::CompleteMultipartUpload => Operation::CompleteMultipartUpload(multipart::complete(self)?),
            Route::AbortMultipartUpload => {
                super::conditional::no_condition(self.request.headers)?;
                Operation::AbortMultipartUpload(self.upload()?)
            }
            Route::ListParts => Operation::ListParts(multipart::list_parts(self)?),
            Route::ListMultipartUploads => Operation::ListMultipartUploads(list::list_multipart_uploads(self)?),
            Route::Refused(action) => self.refused(action, Some(self.bucket()?)),
        })
    }

    /// Refuses parameters that would change what the request means if they were ignored.
    fn check_parameters(self, level: Level, route: Route) -> Result<(), S3Error> {
        let query = self.request.query;
        let takes_version = match route {
            Route::GetObject
            | Route::HeadObject
            | Route::DeleteObject
            | Route::GetObjectAcl
            | Route::PutObjectAcl
            | Route::GetObjectAttributes
            | Route::GetObjectTagging
            | Route::UnsetObjectLock(_)
            | Route::Refused(_) => level == Level::Object,
            Route::ListBuckets
            | Route::CreateBucket
            | Route::HeadBucket
            | Route::DeleteBucket
            | Route::GetBucketLocation
            | Route::GetBucketAcl
            | Route::PutBucketAcl
            | Route::GetBucketVersioning
            | Route::PutBucketVersioning
            | Route::Unset(_)
            | Route::DeleteUnset(..)
            | Route::UnsetList(..)
            | Route::ListObjects
            | Route::ListObjectVersions
            | Route::DeleteObjects
            | Route::PutObject
            | Route::CreateMultipartUpload
            | Route::UploadPart
            | Route::CompleteMultipartUpload
            | Route::AbortMultipartUpload
            | Route::ListParts
            | Route::ListMultipartUploads => false,
        };
        if !takes_version && let Some(value) = query.get("versionId")? {
            return Err(S3Error::invalid_argument(
                "This operation does not accept a version-id.",
                "versionId",
                value,
            ));
        }
        let takes_part = matches!(route, Route::GetObject | Route::HeadObject | Route::UploadPart);
        if !takes_part && let Some(value) = query.get("partNumber")? {
            return Err(S3Error::invalid_argument(
                "This operation does not accept a part number without an upload id.",
                "partNumber",
                value,
            ));
        }
        Ok(())
    }

    /// A request that says something of a source is a copy or a mistake: taken for a write of its own body, one whose
    /// `x-amz-copy-source` got lost would leave an empty object.
    fn refuse_copy_headers(self) -> Result<(), S3Error> {
        let headers = self.request.headers;
        match headers
            .iter()
            .find(|(name, _)| name.as_str().starts_with("x-amz-copy-source"))
        {
            None => Ok(()),
            Some((name, value)) => Err(S3Error::invalid_argument(
                "You can only specify a copy source header for copy requests.",
                name.as_str(),
                headers::text(name, value)?,
            )),
        }
    }

    /// Refuses headers that say something to other operations alone: whoever sends them here believes that something is
    /// done which is not.
    fn refuse_misplaced_headers(self, route: Route, is_copy: bool) -> Result<(), S3Error> {
        let is_put = route == Route::PutObject;
        let creates_upload = route == Route::CreateMultipartUpload;
        let completes = route == Route::CompleteMultipartUpload;
        let has_checked_body = match route {
            Route::PutObject | Route::UploadPart => !is_copy,
            Route::DeleteObjects | Route::PutBucketAcl | Route::PutBucketVersioning | Route::PutObjectAcl => true,
            _ => false,
        };
        // s3cmd copies large objects in parts, and sends either value with the source's metadata, read before.
        let has_directive = || {
            let directive = self.header("x-amz-metadata-directive")?;
            Ok::<_, S3Error>(matches!(directive, Some("COPY" | "REPLACE")))
        };
        let taken = [
            (
                "x-amz-checksum-algorithm",
                has_checked_body || creates_upload || (is_put && is_copy),
            ),
            (
                "x-amz-checksum-type",
                (is_put && !is_copy) || creates_upload || completes,
            ),
            ("x-amz-mp-object-size", completes),
            (
                "x-amz-metadata-directive",
                (is_put && is_copy) || (creates_upload && has_directive()?),
            ),
        ];
        for (name, is_taken) in taken {
            if !is_taken
                && !matches!(route, Route::Refused(_))
                && let Some(value) = self.header(name)?
            {
                return Err(S3Error::invalid_argument(
                    "This operation does not take that header.",
                    name,
                    value,
                ));
            }
        }
        Ok(())
    }

    fn unset(self, configuration: UnsetConfiguration) -> Result<Operation, S3Error> {
        Ok(Operation::GetUnsetBucketConfiguration(self.bucket()?, configuration))
    }

    fn refused(self, action: &'static str, bucket: Option<BucketName>) -> Operation {
        let message = if action == "PostObject" {
            "POST of a browser form is not implemented; use a presigned PUT.".to_owned()
        } else {
            format!("{action} is not implemented.")
        };
        Operation::NotImplemented(NotImplemented {
            action,
            message,
            bucket,
        })
    }

    fn bucket(self) -> Result<BucketName, S3Error> {
        existing_bucket(self.raw_bucket())
    }

    /// Empty only where the path names no bucket, which no row that asks allows.
    fn raw_bucket(self) -> &'a str {
        self.request.target.bucket.as_deref().unwrap_or_default()
    }

    fn key(self) -> Result<Key, S3Error> {
        key(
            self.request.target.key.as_deref().unwrap_or_default(),
            self.request.dialect,
        )
    }

    fn object(self) -> Result<ObjectRef, S3Error> {
        Ok(ObjectRef {
            bucket: self.bucket()?,
            key: self.key()?,
            version_id: self.request.query.get("versionId")?.map(version_id).transpose()?,
        })
    }

    fn upload(self) -> Result<UploadRef, S3Error> {
        Ok(UploadRef {
            bucket: self.bucket()?,
            key: self.key()?,
            // What cannot be an id of ours is an upload that is not there.
            upload_id: UploadId::parse(self.request.query.get("uploadId")?.unwrap_or_default())
                .map_err(|_| no_such_upload())?,
        })
    }

    /// A query parameter; an empty one is none.
    fn parameter(self, name: &str) -> Result<Option<&'a str>, S3Error> {
        Ok(self.request.query.get(name)?.filter(|value| !value.is_empty()))
    }

    fn header(self, name: &'static str) -> Result<Option<&'a str>, S3Error> {
        headers::one(self.request.headers, &HeaderName::from_static(name))
    }

    /// Refuses a body that is protected by no digest. S3 asks for Content-MD5 or a checksum; `or_signed` takes the
    /// payload's signed SHA-256 as well, for clients that send just that.
    fn require_digest(self, or_signed: bool) -> Result<(), S3Error> {
        let headers = self.request.headers;
        let checksum = headers.contains_key("content-md5")
            || t2gate_backends::ChecksumAlgorithm::ALL
                .into_iter()
                .any(|algorithm| headers.contains_key(algorithm.header_name()));
        let trailer = self
            .header("x-amz-trailer")?
            .is_some_and(|names| names.split(',').any(|name| name.trim().starts_with("x-amz-checksum-")));
        let is_hash = |value: &str| value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
        let signed = or_signed && self.header("x-amz-content-sha256")?.is_some_and(is_hash);
        if checksum || trailer || signed {
            return Ok(());
        }
        Err(S3Error::new(
            S3ErrorCode::InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        ))
    }
}

/// 404 for an upload, in S3's words.
pub fn no_such_upload() -> S3Error {
    S3Error::new(
        S3ErrorCode::NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or \
         completed.",
    )
}

#[cfg(test)]
mod tests;
