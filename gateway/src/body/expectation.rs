//! What the headers promise of a body, read before any of it is asked for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use t2gate_backends::{Checksum, ChecksumAlgorithm};

use crate::{
    s3::{S3Error, S3ErrorCode},
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
    /// object integrity"). Whatever is malformed, doubled or contradictory is refused.
    pub fn from_headers(headers: &HeaderMap, payload: PayloadMode) -> Result<Self, S3Error> {
        Ok(Self {
            length: length(headers, payload)?,
            md5: content_md5(headers)?,
            checksum: checksum(headers, payload)?,
        })
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

fn length(headers: &HeaderMap, payload: PayloadMode) -> Result<u64, S3Error> {
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
    // A body of HTTP chunks has no Content-Length; some clients then say its length in the other header.
    let text = if payload.is_streaming() || headers.contains_key(TRANSFER_ENCODING) {
        decoded.ok_or_else(missing)?
    } else {
        single(headers, CONTENT_LENGTH.as_str())?.unwrap_or("0")
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

/// Algorithms of April 2026 that this service does not compute.
const UNSUPPORTED: [&str; 5] = ["md5", "sha512", "xxhash64", "xxhash3", "xxhash128"];

fn unsupported(name: &str) -> Option<S3Error> {
    let algorithm = name.strip_prefix("x-amz-checksum-")?;
    UNSUPPORTED.contains(&algorithm).then(|| {
        S3Error::new(
            S3ErrorCode::NotImplemented,
            format!("The checksum algorithm {algorithm} is not implemented."),
        )
    })
}

fn checksum(headers: &HeaderMap, payload: PayloadMode) -> Result<Option<ExpectedChecksum>, S3Error> {
    if let Some(error) = headers.keys().find_map(|name| unsupported(name.as_str())) {
        return Err(error);
    }
    let mut found = Vec::new();
    for algorithm in ChecksumAlgorithm::ALL {
        if let Some(text) = single(headers, algorithm.header_name())? {
            let checksum = Checksum::parse(algorithm, text).ok().filter(|c| c.parts.is_none());
            let checksum =
                checksum.ok_or_else(|| invalid(format!("Value for {} header is invalid.", algorithm.header_name())))?;
            found.push(ExpectedChecksum::Header(checksum));
        }
    }
    if let Some(announced) = single(headers, "x-amz-trailer")? {
        if !payload.has_trailer() {
            return Err(invalid("x-amz-trailer needs a streaming payload with a trailer."));
        }
        for name in announced.split(',').map(|name| name.trim().to_ascii_lowercase()) {
            if let Some(error) = unsupported(&name) {
                return Err(error);
            }
            let algorithm = ChecksumAlgorithm::ALL.into_iter().find(|a| a.header_name() == name);
            let algorithm = algorithm
                .ok_or_else(|| invalid("The value specified in the x-amz-trailer header is not supported."))?;
            found.push(ExpectedChecksum::Trailer(algorithm));
        }
    }
    if found.len() > 1 {
        return Err(invalid(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    let found = found.pop();
    if let Some(named) = single(headers, "x-amz-sdk-checksum-algorithm")? {
        if let Some(error) = unsupported(&format!("x-amz-checksum-{}", named.to_ascii_lowercase())) {
            return Err(error);
        }
        let algorithm = ChecksumAlgorithm::from_name(named)
            .ok_or_else(|| invalid("Value for x-amz-sdk-checksum-algorithm header is invalid."))?;
        match &found {
            Some(found) if found.algorithm() == algorithm => {}
            Some(_) => return Err(invalid("Value for x-amz-sdk-checksum-algorithm header is invalid.")),
            None => {
                return Err(invalid(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer \
                     headers were found.",
                ));
            }
        }
    }
    Ok(found)
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
        Expectation::from_headers(&headers(pairs), payload).map_err(|error| error.code())
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
        assert_eq!(
            one(("x-amz-sdk-checksum-algorithm", "CRC32")),
            Err(S3ErrorCode::InvalidRequest)
        );
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
        assert_eq!(read(PLAIN, &repeated), Err(S3ErrorCode::InvalidRequest));
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
