//! The `Range` header and `x-amz-copy-source-range`.

use std::ops::{self, RangeInclusive};

use http::{HeaderValue, header::CONTENT_RANGE};

use super::{S3Error, S3ErrorCode, operation::Range};

impl Range {
    /// Reads a `Range` header. `None` is "the whole object": other units, several ranges and bad syntax are ignored,
    /// as RFC 9110, section 14.2 has it and S3 does.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, spec) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = spec.trim().split_once('-')?;
        let (first, last) = (first.trim(), last.trim());
        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Self::Suffix(number(last)?)),
            (false, true) => Some(Self::From(number(first)?)),
            (false, false) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Inclusive(first..=last))
            }
        }
    }

    /// The bytes of an object of `size` bytes. Error: 416 `InvalidRange` where there are none, so for every range of
    /// an empty object.
    pub fn resolve(&self, size: u64) -> Result<ops::Range<u64>, S3Error> {
        let range = match self {
            Self::Inclusive(range) => *range.start()..range.end().saturating_add(1).min(size),
            Self::From(first) => *first..size,
            Self::Suffix(length) => size.saturating_sub(*length)..size,
        };
        if range.start < range.end {
            Ok(range)
        } else {
            Err(unsatisfiable(size))
        }
    }
}

/// The refusal of a range that an object of `size` bytes has not.
fn unsatisfiable(size: u64) -> S3Error {
    let error = S3Error::new(S3ErrorCode::InvalidRange, "The requested range is not satisfiable")
        .with_field("ActualObjectSize", size.to_string());
    match HeaderValue::try_from(format!("bytes */{size}")) {
        Ok(value) => error.with_header(CONTENT_RANGE, value),
        Err(_) => error,
    }
}

/// Reads `x-amz-copy-source-range`, which has one form only. `InvalidArgument` for any other.
pub fn parse_copy_source_range(text: &str) -> Result<RangeInclusive<u64>, S3Error> {
    match Range::parse(text) {
        Some(Range::Inclusive(range)) if text.starts_with("bytes=") => Ok(range),
        _ => Err(S3Error::new(
            S3ErrorCode::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        )
        .with_field("ArgumentName", "x-amz-copy-source-range")
        .with_field("ArgumentValue", text)),
    }
}

/// Digits alone. More than 64 bits hold is as good as the greatest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_are_understood() {
        assert_eq!(Range::parse("bytes=0-4"), Some(Range::Inclusive(0..=4)));
        assert_eq!(Range::parse("Bytes= 7 - 7 "), Some(Range::Inclusive(7..=7)));
        assert_eq!(Range::parse("bytes=5-"), Some(Range::From(5)));
        assert_eq!(Range::parse("bytes=-5"), Some(Range::Suffix(5)));
        assert_eq!(
            Range::parse("bytes=0-99999999999999999999999"),
            Some(Range::Inclusive(0..=u64::MAX))
        );
    }

    #[test]
    fn what_is_not_one_good_range_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=--1",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_object() {
        let resolve = |text: &str, size| Range::parse(text).unwrap().resolve(size).ok();
        assert_eq!(resolve("bytes=0-0", 10), Some(0..1));
        assert_eq!(resolve("bytes=5-100", 10), Some(5..10));
        assert_eq!(resolve("bytes=9-", 10), Some(9..10));
        assert_eq!(resolve("bytes=10-", 10), None);
        assert_eq!(resolve("bytes=-3", 10), Some(7..10));
        assert_eq!(resolve("bytes=-100", 10), Some(0..10));
        assert_eq!(resolve("bytes=-0", 10), None);
        assert_eq!(resolve("bytes=0-18446744073709551615", 10), Some(0..10));
    }

    #[test]
    fn no_range_of_an_empty_object_is_satisfiable() {
        for text in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
            let error = Range::parse(text).unwrap().resolve(0).unwrap_err();
            assert_eq!(error.code(), S3ErrorCode::InvalidRange, "{text}");
            assert_eq!(
                error.headers(),
                [(CONTENT_RANGE, HeaderValue::from_static("bytes */0"))]
            );
        }
    }

    #[test]
    fn a_copy_range_has_one_form_only() {
        assert_eq!(parse_copy_source_range("bytes=2-5").unwrap(), 2..=5);
        for bad in [
            "",
            "bytes=2-",
            "bytes=-2",
            "bytes=5-2",
            "2-5",
            "bytes=0-1,2-3",
            "BYTES=0-1",
        ] {
            assert_eq!(
                parse_copy_source_range(bad).unwrap_err().code(),
                S3ErrorCode::InvalidArgument,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(bytes=)?\\PC*", size: u64) {
            if let Some(range) = Range::parse(&text) && let Ok(range) = range.resolve(size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn resolved_ranges_lie_inside(first: u64, last: u64, size in 1_u64..) {
            if let Ok(range) = Range::Inclusive(first..=last).resolve(size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
