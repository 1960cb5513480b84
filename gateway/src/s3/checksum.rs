//! Checksum headers.

use http::{HeaderMap, HeaderName};
use t2gate_backends::{Checksum, ChecksumAlgorithm, ChecksumType};

use super::{S3Error, S3ErrorCode, headers};

/// What S3 has had since 2026 and this service has not.
const NOT_IMPLEMENTED: [&str; 5] = ["MD5", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"];

/// The algorithm that a header names (`x-amz-checksum-algorithm`, `x-amz-sdk-checksum-algorithm`). Errors: 501 for one
/// that S3 has and this service has not, `InvalidRequest` for what is none.
pub fn algorithm(text: &str) -> Result<ChecksumAlgorithm, S3Error> {
    if let Some(algorithm) = ChecksumAlgorithm::from_name(text) {
        return Ok(algorithm);
    }
    if NOT_IMPLEMENTED.iter().any(|name| name.eq_ignore_ascii_case(text)) {
        return Err(S3Error::not_implemented(format!(
            "The checksum algorithm {text} is not implemented."
        )));
    }
    Err(S3Error::new(
        S3ErrorCode::InvalidRequest,
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, \
         CRC64NVME, SHA1, SHA256]",
    ))
}

/// The one checksum value in the headers. Error: `InvalidRequest` for two of them, for bad base64 and for a wrong
/// length.
pub fn value(headers: &HeaderMap) -> Result<Option<Checksum>, S3Error> {
    let mut found = None;
    for algorithm in ChecksumAlgorithm::ALL {
        let name = HeaderName::from_static(algorithm.header_name());
        let Some(text) = headers::one(headers, &name)? else {
            continue;
        };
        if found.is_some() {
            return Err(S3Error::new(
                S3ErrorCode::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        found = Some(Checksum::parse(algorithm, text).map_err(|_| invalid_header(&name))?);
    }
    Ok(found)
}

/// `x-amz-checksum-type`.
pub fn checksum_type(headers: &HeaderMap) -> Result<Option<ChecksumType>, S3Error> {
    let name = HeaderName::from_static("x-amz-checksum-type");
    headers::one(headers, &name)?
        .map(|text| ChecksumType::from_name(text).ok_or_else(|| invalid_header(&name)))
        .transpose()
}

/// `x-amz-checksum-algorithm`.
pub fn checksum_algorithm(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    headers::one(headers, &HeaderName::from_static("x-amz-checksum-algorithm"))?
        .map(algorithm)
        .transpose()
}

/// What an upload will be checked by, as CreateMultipartUpload declares it. Error: `InvalidRequest` for a type without
/// an algorithm, and for a pair that S3 has not.
pub fn declared(headers: &HeaderMap) -> Result<Option<(ChecksumAlgorithm, ChecksumType)>, S3Error> {
    let refuse = |message: String| Err(S3Error::new(S3ErrorCode::InvalidRequest, message));
    match (checksum_algorithm(headers)?, checksum_type(headers)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => refuse(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.".to_owned(),
        ),
        (Some(algorithm), kind) => {
            let kind = kind.unwrap_or_else(|| algorithm.default_multipart_type());
            if !algorithm.allows(kind) {
                return refuse(format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    kind.as_str(),
                    algorithm.as_str().to_ascii_lowercase()
                ));
            }
            Ok(Some((algorithm, kind)))
        }
    }
}

fn invalid_header(name: &HeaderName) -> S3Error {
    S3Error::new(
        S3ErrorCode::InvalidRequest,
        format!("Value for {name} header is invalid."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn algorithms_are_known_refused_or_none() {
        assert_eq!(algorithm("crc32c").unwrap(), ChecksumAlgorithm::Crc32c);
        assert_eq!(algorithm("XXHASH3").unwrap_err().code(), S3ErrorCode::NotImplemented);
        assert_eq!(algorithm("CRC16").unwrap_err().code(), S3ErrorCode::InvalidRequest);
    }

    #[test]
    fn there_is_one_value_or_none() {
        assert_eq!(value(&HeaderMap::new()).unwrap(), None);
        let one = [("x-amz-checksum-crc32", "NhCmhg==")];
        assert_eq!(value(&map(&one)).unwrap().unwrap().to_string(), "NhCmhg==");
        for bad in [
            &[("x-amz-checksum-crc32", "NhCmhg===")][..],
            &[("x-amz-checksum-crc32", "M3eFcAZSQlc=")],
            &[
                ("x-amz-checksum-crc32", "NhCmhg=="),
                ("x-amz-checksum-crc64nvme", "M3eFcAZSQlc="),
            ],
        ] {
            assert_eq!(
                value(&map(bad)).unwrap_err().code(),
                S3ErrorCode::InvalidRequest,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn uploads_declare_pairs_that_s3_has() {
        let declared = |pairs: &[(&'static str, &str)]| declared(&map(pairs)).map_err(|error| error.code());
        let (name, kind) = ("x-amz-checksum-algorithm", "x-amz-checksum-type");
        assert_eq!(declared(&[]), Ok(None));
        assert_eq!(
            declared(&[(name, "CRC32")]),
            Ok(Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite)))
        );
        assert_eq!(
            declared(&[(name, "CRC32"), (kind, "FULL_OBJECT")]),
            Ok(Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject)))
        );
        for bad in [
            &[(kind, "COMPOSITE")][..],
            &[(name, "SHA256"), (kind, "FULL_OBJECT")],
            &[(name, "CRC64NVME"), (kind, "COMPOSITE")],
            &[(name, "CRC32"), (kind, "HALF")],
        ] {
            assert_eq!(declared(bad), Err(S3ErrorCode::InvalidRequest), "{bad:?}");
        }
    }
}
