//! What a request's path names.

use std::borrow::Cow;

use super::{S3Error, S3ErrorCode};

/// The bucket and key that a request names, decoded once and not yet judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    pub bucket: Option<String>,
    pub key: Option<String>,
}

impl Target {
    /// Reads a raw path. With `virtual_bucket`, from the host name, the whole path is the key; else the first segment
    /// is the bucket. `/b` and `/b/` both name the bucket; a key may begin with `/`, and hold `//`, `.` and `..`.
    ///
    /// Percent-encoding is undone once, after the path is cut, so that an encoded `/` never moves the cut. `+` stands
    /// for itself. Errors: `InvalidURI` for broken percent-encoding, for what is not UTF-8, and for a path without its
    /// first `/`.
    pub fn parse(raw_path: &str, virtual_bucket: Option<&str>) -> Result<Self, S3Error> {
        let path = match raw_path.strip_prefix('/') {
            Some(path) => path,
            None if raw_path.is_empty() => raw_path,
            None => return Err(invalid_uri()),
        };
        let (bucket, key) = match virtual_bucket {
            Some(bucket) => (Some(bucket.to_owned()), path),
            None if path.is_empty() => (None, ""),
            None => match path.split_once('/') {
                Some((bucket, key)) => (Some(decode(bucket)?), key),
                None => (Some(decode(path)?), ""),
            },
        };
        let key = if key.is_empty() { None } else { Some(decode(key)?) };
        Ok(Self { bucket, key })
    }

    /// `bucket` or `bucket/key`, as errors name it. Empty at the root.
    pub fn resource(&self) -> String {
        match (&self.bucket, &self.key) {
            (None, _) => String::new(),
            (Some(bucket), None) => bucket.clone(),
            (Some(bucket), Some(key)) => format!("{bucket}/{key}"),
        }
    }
}

/// Undoes percent-encoding once; in a query `+` is a space besides. `None` where a `%` is without its two hexadecimal
/// digits: that is an error, not a literal.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|&b| b == b'%' || (plus_is_space && b == b'+')) {
        return Some(Cow::Borrowed(bytes));
    }
    let digit = |at: usize| u8::try_from(char::from(*bytes.get(at)?).to_digit(16)?).ok();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                out.push(digit(at + 1)? << 4 | digit(at + 2)?);
                at += 3;
                continue;
            }
            b'+' if plus_is_space => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    Some(Cow::Owned(out))
}

/// The same as text; `None` also for what is not UTF-8.
pub(super) fn percent_decode_text(text: &str, plus_is_space: bool) -> Option<String> {
    String::from_utf8(percent_decode(text, plus_is_space)?.into_owned()).ok()
}

fn decode(text: &str) -> Result<String, S3Error> {
    percent_decode_text(text, false).ok_or_else(invalid_uri)
}

fn invalid_uri() -> S3Error {
    S3Error::new(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(bucket: Option<&str>, key: Option<&str>) -> Target {
        Target {
            bucket: bucket.map(Into::into),
            key: key.map(Into::into),
        }
    }

    #[test]
    fn paths_name_bucket_and_key() {
        for (path, bucket, key) in [
            ("", None, None),
            ("/", None, None),
            ("/b", Some("b"), None),
            ("/b/", Some("b"), None),
            ("/b//", Some("b"), Some("/")),
            ("/b//k", Some("b"), Some("/k")),
            ("/b/a//b/../.", Some("b"), Some("a//b/../.")),
            ("/b/a+b%20c%2Bd", Some("b"), Some("a+b c+d")),
            ("/b/%C3%A4%2Fk/", Some("b"), Some("ä/k/")),
            ("/b/%2525", Some("b"), Some("%25")),
            ("//k", Some(""), Some("k")),
            ("/b%2Fk", Some("b/k"), None),
        ] {
            assert_eq!(Target::parse(path, None).unwrap(), target(bucket, key), "{path}");
        }
    }

    #[test]
    fn a_bucket_in_the_host_leaves_the_whole_path_to_the_key() {
        for (path, key) in [("/", None), ("", None), ("/k/l", Some("k/l")), ("//k", Some("/k"))] {
            assert_eq!(
                Target::parse(path, Some("v")).unwrap(),
                target(Some("v"), key),
                "{path}"
            );
        }
    }

    #[test]
    fn broken_encoding_is_refused() {
        for path in [
            "/b/%", "/b/%4", "/b/%zz", "/b/%4g", "/b/%FF", "/b/%C3", "/%", "*", "b/k",
        ] {
            assert_eq!(
                Target::parse(path, None).unwrap_err().code(),
                S3ErrorCode::InvalidURI,
                "{path}"
            );
        }
    }

    #[test]
    fn resource_has_no_leading_slash() {
        assert_eq!(Target::parse("/", None).unwrap().resource(), "");
        assert_eq!(Target::parse("/b/", None).unwrap().resource(), "b");
        assert_eq!(Target::parse("/b/a/b", None).unwrap().resource(), "b/a/b");
    }

    proptest! {
        #[test]
        fn never_panics(path in "\\PC*", host in proptest::option::of("[a-z]{3}")) {
            let _target = Target::parse(&path, host.as_deref());
        }

        #[test]
        fn every_key_round_trips(key in "\\PC+") {
            let path = format!("/b/{}", percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC));
            prop_assert_eq!(Target::parse(&path, None).unwrap(), target(Some("b"), Some(&key)));
        }
    }
}
