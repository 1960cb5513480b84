//! The `x-amz-copy-source` header.

use http::{HeaderMap, HeaderName};
use t2gate_backends::ObjectRef;

use super::{S3Error, conditional, headers, operation::CopySource, parse, target::percent_decode_text};
use crate::dialect::Dialect;

const NAME: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// The source of a copy with its conditions; `None` where the request is no copy.
pub fn copy_source(headers: &HeaderMap, dialect: Dialect) -> Result<Option<CopySource>, S3Error> {
    let Some(text) = headers::one(headers, &NAME)? else {
        return Ok(None);
    };
    Ok(Some(CopySource {
        object: parse_copy_source(text, dialect)?,
        condition: conditional::copy_source_condition(headers)?,
    }))
}

/// Reads `bucket/key` or `/bucket/key`, percent-encoded, with `?versionId=` behind it. `+` is a space, as in S3:
/// clients encode it where they mean it.
fn parse_copy_source(text: &str, dialect: Dialect) -> Result<ObjectRef, S3Error> {
    let invalid = |message: &'static str| S3Error::invalid_argument(message, NAME.as_str(), text);
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let path = percent_decode_text(path, true).ok_or_else(|| invalid("Invalid copy source encoding."))?;
    if path.starts_with("arn:") || path.starts_with("/arn:") {
        return Err(S3Error::not_implemented(
            "Copying from an access point or by ARN is not implemented; name the source as bucket/key.",
        ));
    }
    let (bucket, key) = path
        .strip_prefix('/')
        .unwrap_or(&path)
        .split_once('/')
        .filter(|(_, key)| !key.is_empty())
        .ok_or_else(|| invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey"))?;
    let version_id = match query {
        None => None,
        Some(query) => {
            let version_id = query
                .strip_prefix("versionId=")
                .filter(|version_id| !version_id.contains('&'))
                .ok_or_else(|| invalid("The copy source has an unknown parameter; only versionId is known."))?;
            let version_id =
                percent_decode_text(version_id, false).ok_or_else(|| invalid("Invalid copy source encoding."))?;
            Some(parse::version_id(&version_id)?)
        }
    };
    Ok(ObjectRef {
        bucket: parse::existing_bucket(bucket)?,
        key: parse::key(key, dialect)?,
        version_id,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::s3::S3ErrorCode;

    fn parse(text: &str) -> Result<(String, String, Option<String>), S3ErrorCode> {
        match parse_copy_source(text, Dialect::T2) {
            Ok(object) => Ok((
                object.bucket.to_string(),
                object.key.to_string(),
                object.version_id.map(|id| id.to_string()),
            )),
            Err(error) => Err(error.code()),
        }
    }

    #[test]
    fn sources_are_decoded_once() {
        for (text, key, version) in [
            ("src/k", "k", None),
            ("/src/k", "k", None),
            ("/src//k", "/k", None),
            ("src/a%2Fb%20c%2B%3F+d", "a/b c+? d", None),
            ("src/%2525", "%25", None),
            ("src/a/../b?versionId=null", "a/../b", Some("null")),
            ("%2Fsrc%2Fk", "k", None),
            ("src/%C3%A4", "ä", None),
        ] {
            assert_eq!(
                parse(text),
                Ok(("src".into(), key.into(), version.map(Into::into))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for text in [
            "",
            "/",
            "src",
            "src/",
            "/src/",
            "src/%",
            "src/%FF",
            "src/k?x=1",
            "src/k?versionId=",
            "src/k?versionId=a/b",
            "src/k?versionId=a&b",
            "s/k/l",
        ] {
            let code = parse(text).unwrap_err();
            assert!(
                matches!(code, S3ErrorCode::InvalidArgument | S3ErrorCode::InvalidBucketName),
                "{text}: {code:?}"
            );
        }
        assert_eq!(
            parse("arn:aws:s3:us-east-1:1:accesspoint/a/object/k"),
            Err(S3ErrorCode::NotImplemented)
        );
        assert_eq!(
            parse(&format!("src/{}", "k".repeat(1025))),
            Err(S3ErrorCode::KeyTooLongError)
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _source = parse(&text);
        }
    }
}
