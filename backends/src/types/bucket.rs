//! Bucket names.

use std::fmt;

/// A bucket's name by Amazon's rules for general-purpose buckets, which are the widest that any dialect allows:
/// 3 to 63 bytes of lower-case letters, digits, `-` and `.`, a letter or digit at both ends, no two dots in a row,
/// not in the form of an IPv4 address. (S3 User Guide, "General purpose bucket naming rules".)
///
/// Such a name is a safe file name: never empty, never hidden, no separator, not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Box<str>);

/// The text is no bucket name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the specified bucket is not valid")]
pub struct InvalidBucketName;

impl BucketName {
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidBucketName> {
        let text = text.into();
        let bytes = text.as_bytes();
        let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let valid = (3..=63).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
            && end(bytes.first())
            && end(bytes.last())
            && !text.contains("..")
            && text.parse::<std::net::Ipv4Addr>().is_err();
        if valid { Ok(Self(text)) } else { Err(InvalidBucketName) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_s3() {
        for good in ["abc", "a-b", "a.b", "0ab", &"a".repeat(63), "1.2.3"] {
            assert!(BucketName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "", "ab", &long, "Abc", "a_b", "-ab", "ab-", ".ab", "ab.", "a..b", "1.2.3.4", "a/b", "..", ".t2", "a b",
            "äbc",
        ] {
            assert!(BucketName::parse(bad).is_err(), "{bad}");
        }
    }
}
