//! What the headers promise of a body, read before any of it is asked for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use t2gate_backends::{Checksum, ChecksumAlgorithm};

use crate::{
    s3::{S3Error, S3ErrorCode, checksum},
    sigv4::{PayloadMode, names_aws_chunked},
};

/// All that a body has to keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Length of the object's bytes, without framing.
    pub length: u64,
    /// `Content-MD5`
    pub md5: Option<[u8; 16]>,
    /// `x-amz-checksum-*`, as a header or announced as a trailer.
    pub checksum: Option<ExpectedChecksum>,
}

/// The checksum that the client computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedChecksum {
    Header(Checksum),
    /// The value follows the body.
    Trailer(ChecksumAlgorithm),
}

impl ExpectedChecksum {
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Self::Header(checksum) => checksum.algorithm,
            Self::Trailer(algorithm) => *algorithm,
        }
    }
}

impl Expectation {
    /// Reads the headers of a request whose body matters (S3 API reference, "Authenticating requests" and "Checking
    /// object integrity"). Whatever is malformed, doubled or contradictory is refused. `has_body` says whether there is
    /// one that is not known to be empty.
    pub fn from_headers(headers: &HeaderMap, payload: PayloadMode, has_body: bool) -> Result<Self, S3Error> {
        Ok(Self {
            length: length(headers, payload, has_body)?,
            md5: content_md5(headers)?,
            checksum: checksum(headers, payload)?,
        })
    }

    /// The length alone.
    pub(super) fn announced_length(headers: &HeaderMap, payload: PayloadMode, has_body: bool) -> Result<u64, S3Error> {
        length(headers, payload, has_body)
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::new(S3ErrorCode::InvalidRequest, message)
}

/// A header that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(format!("The header {name} must not be repeated.")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim())),
        Err(_) => Err(invalid(format!("The value of the header {name} is not valid."))),
    }
}

fn decimal(text: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn length(headers: &HeaderMap, payload: PayloadMode, has_body: bool) -> Result<u64, S3Error> {
    if names_aws_chunked(headers) && !payload.is_streaming() {
        let message = "aws-chunked encoding needs x-amz-content-sha256 to name a streaming payload.";
        return Err(S3Error::new(S3ErrorCode::InvalidArgument, message));
    }
    let missing = || {
        S3Error::new(
            S3ErrorCode::MissingContentLength,
            "You must provide the Content-Length HTTP header.",
        )
    };
    let decoded = single(headers, "x-amz-decoded-content-length")?;
    let announced = single(headers, CONTENT_LENGTH.as_str())?;
    // A body of HTTP chunks has no Content-Length, and one of HTTP/2 need not have one; some clients then say its length
    // in the other header.
    let unannounced = headers.contains_key(TRANSFER_ENCODING) || (announced.is_none() && has_body);
    let text = if payload.is_streaming() || unannounced {
        decoded.ok_or_else(missing)?
    } else {
        announced.unwrap_or("0")
    };
    decimal(text).ok_or_else(|| {
        S3Error::new(
            S3ErrorCode::InvalidArgument,
            "The length of the body is not a number of bytes.",
        )
    })
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(text) = single(headers, "content-md5")? else {
        return Ok(None);
    };
    let digest = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    digest.map(Some).ok_or_else(|| {
        S3Error::new(
            S3ErrorCode::InvalidDigest,
            "The Content-MD5 you specified is not valid.",
        )
    })
}

fn checksum(headers: &HeaderMap, payload: PayloadMode) -> Result<Option<ExpectedChecksum>, S3Error> {
    for name in headers.keys() {
        if let Some(algorithm) = name.as_str().strip_prefix("x-amz-checksum-") {
            known_algorithm(algorithm)?;
        }
    }
    let in_header = checksum::value(headers)?;
    // `base64-N` is of an object of parts, never of one body.
    if let Some(composite) = in_header.as_ref().filter(|checksum| checksum.parts.is_some()) {
        let name = composite.algorithm.header_name();
        return Err(invalid(format!("Value for {name} header is invalid.")));
    }
    let in_header = in_header.map(ExpectedChecksum::Header);
    let in_trailer = match single(headers, "x-amz-trailer")? {
        Some(_) if !payload.has_trailer() => {
            return Err(invalid("x-amz-trailer needs a streaming payload with a trailer."));
        }
        Some(announced) => Some(ExpectedChecksum::Trailer(trailer_algorithm(announced)?)),
        None => None,
    };
    let expected = match (in_header, in_trailer) {
        (Some(_), Some(_)) => return Err(several_checksums()),
        (in_header, in_trailer) => in_header.or(in_trailer),
    };
    for name in ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"] {
        let Some(named) = single(headers, name)? else { continue };
        let algorithm = checksum::algorithm(named)?;
        match &expected {
            Some(expected) if expected.algorithm() == algorithm => {}
            Some(_) => return Err(invalid(format!("Value for {name} header is invalid."))),
            None => {
                return Err(invalid(format!(
                    "{name} specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
                )));
            }
        }
    }
    Ok(expected)
}

/// What `x-amz-trailer` announces: one checksum and nothing else.
fn trailer_algorithm(announced: &str) -> Result<ChecksumAlgorithm, S3Error> {
    if announced.contains(',') {
        return Err(several_checksums());
    }
    let algorithm = announced.to_ascii_lowercase();
    let algorithm = algorithm
        .strip_prefix("x-amz-checksum-")
        .ok_or_else(|| invalid("The value specified in the x-amz-trailer header is not supported."))?;
    checksum::algorithm(algorithm)
}

/// 501 for an algorithm that S3 has and this service has not. What is no algorithm (`x-amz-checksum-type`) is none of
/// the body's business.
fn known_algorithm(name: &str) -> Result<(), S3Error> {
    match checksum::algorithm(name) {
        Err(error) if error.code() == S3ErrorCode::NotImplemented => Err(error),
        _ => Ok(()),
    }
}

fn several_checksums() -> S3Error {
    invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn read(payload: PayloadMode, pairs: &[(&'static str, &'static str)]) -> Result<Expectation, S3ErrorCode> {
        Expectation::from_headers(&headers(pairs), payload, false).map_err(|error| error.code())
    }

    const TRAILER: PayloadMode = PayloadMode::StreamingUnsignedTrailer;
    const PLAIN: PayloadMode = PayloadMode::Unsigned;

    #[test]
    fn what_boto3_sends_over_tls_is_understood() {
        let expectation = read(
            TRAILER,
            &[
                ("transfer-encoding", "chunked"),
                ("content-encoding", "aws-chunked"),
                ("x-amz-decoded-content-length", "5"),
                ("x-amz-trailer", "x-amz-checksum-crc32"),
                ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ],
        );
        let checksum = Some(ExpectedChecksum::Trailer(ChecksumAlgorithm::Crc32));
        assert_eq!(
            expectation,
            Ok(Expectation {
                length: 5,
                md5: None,
                checksum
            })
        );
    }

    #[test]
    fn the_length_is_that_of_the_object() {
        let length = |payload, pairs: &[_]| read(payload, pairs).map(|e| e.length);
        assert_eq!(length(PLAIN, &[("content-length", "7")]), Ok(7));
        assert_eq!(length(PLAIN, &[]), Ok(0));
        assert_eq!(
            length(
                TRAILER,
                &[("content-length", "70"), ("x-amz-decoded-content-length", "7")]
            ),
            Ok(7)
        );
        assert_eq!(
            length(TRAILER, &[("content-length", "70")]),
            Err(S3ErrorCode::MissingContentLength)
        );
        assert_eq!(
            length(PLAIN, &[("transfer-encoding", "chunked")]),
            Err(S3ErrorCode::MissingContentLength)
        );
        assert_eq!(
            length(
                PLAIN,
                &[("transfer-encoding", "chunked"), ("x-amz-decoded-content-length", "9")]
            ),
            Ok(9)
        );
        for bad in ["-1", "+1", "1.5", "", "18446744073709551616", "0x10"] {
            let bad = [("x-amz-decoded-content-length", bad)];
            assert_eq!(length(TRAILER, &bad), Err(S3ErrorCode::InvalidArgument), "{bad:?}");
        }
    }

    #[test]
    fn a_body_without_any_length_is_refused() {
        let read = |pairs| Expectation::from_headers(&headers(pairs), PLAIN, true).map(|e| e.length);
        assert_eq!(read(&[]).unwrap_err().code(), S3ErrorCode::MissingContentLength);
        assert_eq!(read(&[("content-length", "7")]).unwrap(), 7);
        assert_eq!(read(&[("x-amz-decoded-content-length", "9")]).unwrap(), 9);
    }

    #[test]
    fn aws_chunked_without_a_streaming_payload_is_refused() {
        for encoding in ["aws-chunked", "gzip, AWS-Chunked", "aws-chunked,gzip"] {
            let pairs = [("content-length", "7"), ("content-encoding", encoding)];
            assert_eq!(read(PLAIN, &pairs), Err(S3ErrorCode::InvalidArgument), "{encoding}");
        }
    }

    #[test]
    fn malformed_digests_are_refused() {
        let one = |pair| read(PLAIN, &[("content-length", "5"), pair]).map(|_| ());
        assert_eq!(one(("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")), Ok(()));
        assert_eq!(
            one(("content-md5", "XUFAKrxLKna5cZ2REBfF")),
            Err(S3ErrorCode::InvalidDigest)
        );
        assert_eq!(one(("content-md5", "")), Err(S3ErrorCode::InvalidDigest));
        assert_eq!(one(("x-amz-checksum-crc32", "NhCmhg==")), Ok(()));
        assert_eq!(
            one(("x-amz-checksum-crc32", "NhCmhg")),
            Err(S3ErrorCode::InvalidRequest)
        );
        assert_eq!(
            one(("x-amz-checksum-crc32", "NhCmhg==-2")),
            Err(S3ErrorCode::InvalidRequest)
        );
        assert_eq!(
            one(("x-amz-checksum-xxhash3", "AAAA")),
            Err(S3ErrorCode::NotImplemented)
        );
        for name in ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"] {
            assert_eq!(one((name, "CRC32")), Err(S3ErrorCode::InvalidRequest));
            let valued = |algorithm| {
                let value = ("x-amz-checksum-crc32", "NhCmhg==");
                read(PLAIN, &[("content-length", "5"), value, (name, algorithm)]).map(|_| ())
            };
            assert_eq!(valued("CRC32"), Ok(()));
            assert_eq!(valued("SHA256"), Err(S3ErrorCode::InvalidRequest));
        }
        assert_eq!(
            one(("x-amz-trailer", "x-amz-checksum-crc32")),
            Err(S3ErrorCode::InvalidRequest)
        );
    }

    #[test]
    fn one_checksum_is_enough() {
        let two = [
            ("content-length", "5"),
            ("x-amz-checksum-crc32", "NhCmhg=="),
            ("x-amz-checksum-crc32c", "mnG7TA=="),
        ];
        assert_eq!(read(PLAIN, &two), Err(S3ErrorCode::InvalidRequest));
        let repeated = [
            ("content-length", "5"),
            ("x-amz-checksum-crc32", "NhCmhg=="),
            ("x-amz-checksum-crc32", "NhCmhg=="),
        ];
        assert_eq!(read(PLAIN, &repeated), Err(S3ErrorCode::InvalidArgument));
        let header_and_trailer = [
            ("x-amz-decoded-content-length", "5"),
            ("x-amz-checksum-crc32", "NhCmhg=="),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        assert_eq!(read(TRAILER, &header_and_trailer), Err(S3ErrorCode::InvalidRequest));
        let unknown = [("x-amz-decoded-content-length", "5"), ("x-amz-trailer", "x-amz-meta-a")];
        assert_eq!(read(TRAILER, &unknown), Err(S3ErrorCode::InvalidRequest));
    }
}
