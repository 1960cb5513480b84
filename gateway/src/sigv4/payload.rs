//! What `x-amz-content-sha256` and its companions announce of a body (S3 User Guide, "Authenticating requests").

use http::{HeaderMap, header::CONTENT_ENCODING};

use super::AuthError;

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

/// Whether `Content-Encoding` names `aws-chunked`. Its absence says nothing: the header is optional even where a body is
/// framed so, and [`PayloadMode::is_streaming`] alone decides how a body is read.
pub fn names_aws_chunked(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case("aws-chunked"))
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
    fn aws_chunked_may_be_one_of_several_codings() {
        let of = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|value| ("content-encoding", *value)).collect();
            names_aws_chunked(&headers(&pairs))
        };
        assert!(of(&["aws-chunked"]) && of(&["gzip, AWS-Chunked"]) && of(&["br", "aws-chunked,"]));
        assert!(!of(&[]) && !of(&["gzip"]) && !of(&["x-aws-chunked"]));
    }

    proptest! {
        #[test]
        fn never_panics(value in any::<String>()) {
            if let Ok(header) = HeaderValue::from_str(&value) {
                let mut headers = HeaderMap::new();
                for name in ["x-amz-content-sha256", "content-encoding"] {
                    headers.insert(name, header.clone());
                }
                drop(PayloadMode::of_anonymous(&headers));
                names_aws_chunked(&headers);
            }
        }
    }
}
