//! What `x-amz-content-sha256` and its companions announce of a body (S3 User Guide, "Authenticating requests").

use http::{HeaderMap, header::CONTENT_ENCODING};

use super::AuthError;
use crate::s3::{S3Error, S3ErrorCode};

/// At most so many trailers may be announced.
pub const MAX_TRAILERS: usize = 16;

/// How a body is framed, and what vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadMode {
    /// Raw; its SHA-256.
    Sha256([u8; 32]),
    /// Raw; TLS alone vouches for it.
    Unsigned,
    /// aws-chunked, with a checksum in a trailer.
    StreamingUnsignedTrailer,
    /// aws-chunked, each chunk signed.
    StreamingSigned,
    /// aws-chunked, each chunk and the trailers signed.
    StreamingSignedTrailer,
}

impl PayloadMode {
    /// Parses a value of `x-amz-content-sha256`.
    ///
    /// # Errors
    /// [`AuthError::InvalidContentSha256`], [`AuthError::UnsupportedPayloadSignature`].
    pub fn parse(value: &str) -> Result<Self, AuthError> {
        match value {
            "UNSIGNED-PAYLOAD" => Ok(Self::Unsigned),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Self::StreamingUnsignedTrailer),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Self::StreamingSigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Self::StreamingSignedTrailer),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" | "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => {
                Err(AuthError::UnsupportedPayloadSignature)
            }
            _ => {
                let mut digest = [0; 32];
                hex::decode_to_slice(value, &mut digest).map_err(|_| AuthError::InvalidContentSha256)?;
                Ok(Self::Sha256(digest))
            }
        }
    }

    /// The mode of a request without credentials: raw unless `x-amz-content-sha256` says otherwise.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); [`AuthError::SignedChunksNeedHeader`].
    pub fn of_anonymous(headers: &HeaderMap) -> Result<Self, AuthError> {
        match content_sha256(headers)? {
            Some(value) => Self::parse(value)?.without_header_signature(),
            None => Ok(Self::Unsigned),
        }
    }

    /// Refuses signed chunks: only the signature of an `Authorization` header can start their chain.
    pub(super) fn without_header_signature(self) -> Result<Self, AuthError> {
        if self.is_signed_streaming() {
            return Err(AuthError::SignedChunksNeedHeader);
        }
        Ok(self)
    }

    /// Whether the body is framed as aws-chunked.
    pub fn is_streaming(self) -> bool {
        matches!(self, Self::StreamingUnsignedTrailer) || self.is_signed_streaming()
    }

    /// Whether each chunk carries a signature.
    pub fn is_signed_streaming(self) -> bool {
        matches!(self, Self::StreamingSigned | Self::StreamingSignedTrailer)
    }

    /// Whether trailers may follow the last chunk.
    pub fn has_trailer(self) -> bool {
        matches!(self, Self::StreamingUnsignedTrailer | Self::StreamingSignedTrailer)
    }
}

/// The one value of `x-amz-content-sha256`, if it was sent.
pub(super) fn content_sha256(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all("x-amz-content-sha256").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthError::InvalidContentSha256);
    }
    value.to_str().map(Some).map_err(|_| AuthError::InvalidContentSha256)
}

/// The length of the object in an aws-chunked body, in bytes: `x-amz-decoded-content-length`.
///
/// # Errors
/// `MissingContentLength` when there is none, `InvalidArgument` when it is not one decimal number.
pub fn decoded_content_length(headers: &HeaderMap) -> Result<u64, S3Error> {
    const NAME: &str = "x-amz-decoded-content-length";
    let mut values = headers.get_all(NAME).iter();
    let value = values.next().ok_or_else(|| {
        S3Error::new(
            S3ErrorCode::MissingContentLength,
            "You must provide the x-amz-decoded-content-length HTTP header.",
        )
    })?;
    let number = value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    match (number, values.next()) {
        (Some(number), None) => Ok(number),
        _ => Err(S3Error::new(
            S3ErrorCode::InvalidArgument,
            "x-amz-decoded-content-length is not a length.",
        )
        .with_field("ArgumentName", NAME)),
    }
}

/// The trailers that `x-amz-trailer` announces, lower-case, in its order.
///
/// # Errors
/// `MalformedTrailerError` when a name is no header name or stands there twice, or there are more than [`MAX_TRAILERS`].
pub fn announced_trailers(headers: &HeaderMap) -> Result<Vec<Box<str>>, S3Error> {
    let malformed = || {
        S3Error::new(
            S3ErrorCode::MalformedTrailerError,
            "The request contained trailing data that was not well-formed or did not conform to our published schema.",
        )
    };
    let mut names: Vec<Box<str>> = Vec::new();
    for value in headers.get_all("x-amz-trailer") {
        for name in value.to_str().map_err(|_| malformed())?.split(',') {
            let name = http::HeaderName::from_bytes(name.trim_ascii().as_bytes()).map_err(|_| malformed())?;
            if names.len() == MAX_TRAILERS || names.iter().any(|other| **other == *name.as_str()) {
                return Err(malformed());
            }
            names.push(name.as_str().into());
        }
    }
    Ok(names)
}

/// Whether `Content-Encoding` names `aws-chunked`. Its absence says nothing: the header is optional even where a body is
/// framed so, and [`PayloadMode::is_streaming`] alone decides how a body is read.
pub fn names_aws_chunked(headers: &HeaderMap) -> bool {
    codings(headers).any(is_aws_chunked)
}

/// `Content-Encoding` as it is to be stored: without `aws-chunked`, which is no property of the object. `None` when
/// nothing is left.
pub fn stored_content_encoding(headers: &HeaderMap) -> Option<String> {
    let rest: Vec<_> = codings(headers).filter(|coding| !is_aws_chunked(coding)).collect();
    (!rest.is_empty()).then(|| rest.join(","))
}

fn codings(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim_ascii)
        .filter(|coding| !coding.is_empty())
}

fn is_aws_chunked(coding: &str) -> bool {
    coding.eq_ignore_ascii_case("aws-chunked")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn each_mode_has_its_word() {
        for (value, mode) in [
            ("UNSIGNED-PAYLOAD", PayloadMode::Unsigned),
            (
                "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                PayloadMode::StreamingUnsignedTrailer,
            ),
            ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", PayloadMode::StreamingSigned),
            (
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
                PayloadMode::StreamingSignedTrailer,
            ),
            (&"0a".repeat(32), PayloadMode::Sha256([10; 32])),
            (&"0A".repeat(32), PayloadMode::Sha256([10; 32])),
        ] {
            assert_eq!(PayloadMode::parse(value), Ok(mode), "{value}");
        }
        for value in ["", "unsigned-payload", "STREAMING", &"0a".repeat(31), &"0g".repeat(32)] {
            assert_eq!(
                PayloadMode::parse(value),
                Err(AuthError::InvalidContentSha256),
                "{value}"
            );
        }
        for value in [
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
        ] {
            assert_eq!(PayloadMode::parse(value), Err(AuthError::UnsupportedPayloadSignature));
        }
    }

    #[test]
    fn an_anonymous_body_is_raw_unless_it_says_otherwise() {
        let of = |value: &str| PayloadMode::of_anonymous(&headers(&[("x-amz-content-sha256", value)]));
        assert_eq!(PayloadMode::of_anonymous(&HeaderMap::new()), Ok(PayloadMode::Unsigned));
        assert_eq!(
            of("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            Ok(PayloadMode::StreamingUnsignedTrailer)
        );
        assert_eq!(of(&"00".repeat(32)), Ok(PayloadMode::Sha256([0; 32])));
        assert_eq!(
            of("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            Err(AuthError::SignedChunksNeedHeader)
        );
        assert_eq!(of("x"), Err(AuthError::InvalidContentSha256));
    }

    #[test]
    fn the_decoded_length_is_one_decimal_number() {
        let of = |pairs: &[(&'static str, &str)]| decoded_content_length(&headers(pairs)).map_err(|e| e.code());
        const NAME: &str = "x-amz-decoded-content-length";
        assert_eq!(of(&[(NAME, "66560")]), Ok(66_560));
        assert_eq!(of(&[]), Err(S3ErrorCode::MissingContentLength));
        for bad in ["", "-1", "+1", "1,1", "0x1", "18446744073709551616"] {
            assert_eq!(of(&[(NAME, bad)]), Err(S3ErrorCode::InvalidArgument), "{bad}");
        }
        assert_eq!(of(&[(NAME, "1"), (NAME, "1")]), Err(S3ErrorCode::InvalidArgument));
    }

    #[test]
    fn trailers_are_announced_once_each() {
        let of = |pairs: &[(&'static str, &str)]| announced_trailers(&headers(pairs)).map_err(|e| e.code());
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(
            of(&[
                ("x-amz-trailer", "X-Amz-Checksum-CRC32 , x-a"),
                ("x-amz-trailer", "x-b")
            ]),
            Ok(vec!["x-amz-checksum-crc32".into(), "x-a".into(), "x-b".into()])
        );
        for bad in ["", "a,,b", "a,A", "a b", "a:"] {
            assert_eq!(
                of(&[("x-amz-trailer", bad)]),
                Err(S3ErrorCode::MalformedTrailerError),
                "{bad}"
            );
        }
        let many: Vec<_> = (0..=MAX_TRAILERS).map(|i| format!("x-{i}")).collect();
        assert_eq!(
            of(&[("x-amz-trailer", &many.join(","))]),
            Err(S3ErrorCode::MalformedTrailerError)
        );
        assert!(of(&[("x-amz-trailer", &many[1..].join(","))]).is_ok());
    }

    #[test]
    fn only_the_aws_chunked_token_is_removed() {
        let of = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|value| ("content-encoding", *value)).collect();
            let headers = headers(&pairs);
            (names_aws_chunked(&headers), stored_content_encoding(&headers))
        };
        assert_eq!(of(&[]), (false, None));
        assert_eq!(of(&["aws-chunked"]), (true, None));
        assert_eq!(of(&["gzip, AWS-Chunked"]), (true, Some("gzip".to_owned())));
        assert_eq!(of(&["aws-chunked,", "gzip,br"]), (true, Some("gzip,br".to_owned())));
        assert_eq!(of(&["x-aws-chunked"]), (false, Some("x-aws-chunked".to_owned())));
    }

    proptest! {
        #[test]
        fn never_panics(value in any::<String>()) {
            if let Ok(header) = HeaderValue::from_str(&value) {
                let mut headers = HeaderMap::new();
                for name in ["x-amz-content-sha256", "x-amz-decoded-content-length", "x-amz-trailer", "content-encoding"] {
                    headers.insert(name, header.clone());
                }
                drop(PayloadMode::of_anonymous(&headers));
                drop(decoded_content_length(&headers));
                drop(announced_trailers(&headers));
                stored_content_encoding(&headers);
            }
        }
    }
}
