//! The timestamps of signatures: `YYYYMMDDTHHMMSSZ`, or an HTTP date in the `Date` header.

use std::{fmt, time::SystemTime};

use jiff::{civil::DateTime, tz::Offset};
use t2gate_backends::Timestamp;

/// A point in time as a signature spells it, to the second, years 0 to 9999.
#[derive(Clone, PartialEq, Eq)]
pub struct AmzDate {
    unix_seconds: i64,
    text: Box<str>,
}

impl AmzDate {
    /// Parses `YYYYMMDDTHHMMSSZ`. Nothing else is accepted, leap seconds included.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let two = |at: usize| {
            let (tens, ones) = (bytes[at], bytes[at + 1]);
            (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| ((tens - b'0') * 10 + ones - b'0').cast_signed())
        };
        let year = i16::from(two(0)?) * 100 + i16::from(two(2)?);
        let time = DateTime::new(year, two(4)?, two(6)?, two(9)?, two(11)?, two(13)?, 0).ok()?;
        Some(Self {
            unix_seconds: Offset::UTC.to_timestamp(time).ok()?.as_second(),
            text: text.into(),
        })
    }

    /// Parses a `Date` header: an HTTP date, or the form of [`parse`](Self::parse).
    pub fn parse_date_header(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let time: SystemTime = httpdate::parse_http_date(text).ok()?;
            Some(Self::from(Timestamp::from(time)))
        })
    }

    /// `YYYYMMDDTHHMMSSZ`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `YYYYMMDD`, as in a credential scope.
    pub fn date(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(&self) -> i64 {
        self.unix_seconds
    }
}

impl From<Timestamp> for AmzDate {
    /// Rounds down to the second.
    fn from(time: Timestamp) -> Self {
        let unix_seconds = time.unix_seconds();
        let civil = civil(unix_seconds);
        let text = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second()
        );
        Self {
            unix_seconds,
            text: text.into(),
        }
    }
}

impl fmt::Debug for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, as error bodies have it.
pub(super) fn iso8601(unix_seconds: i64) -> String {
    format!("{}Z", civil(unix_seconds))
}

/// Clamped to the years that have four digits, so that it cannot fail.
fn civil(unix_seconds: i64) -> DateTime {
    let clamped = unix_seconds.clamp(-62_135_596_800, 253_402_300_799);
    jiff::Timestamp::from_second(clamped).map_or(DateTime::ZERO, |time| Offset::UTC.to_datetime(time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_spellings_of_a_date_give_the_same_time() {
        let amz = AmzDate::parse("20130524T000000Z").unwrap();
        assert_eq!(amz.unix_seconds(), 1_369_353_600);
        assert_eq!(amz.date(), "20130524");
        assert_eq!(AmzDate::parse_date_header("Fri, 24 May 2013 00:00:00 GMT"), Some(amz));
        assert_eq!(iso8601(1_369_353_600), "2013-05-24T00:00:00Z");
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in [
            "",
            "20130524T000000",
            "20130524T000000z",
            "20130532T000000Z",
            "20131324T000000Z",
            "20130524T240000Z",
            "20130524T006000Z",
            "20130524T000060Z",
            "2013-05-24T00:00:00Z",
            "+0130524T000000Z",
            "20130229T000000Z",
        ] {
            assert_eq!(AmzDate::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            if let Some(date) = AmzDate::parse_date_header(&text) {
                prop_assert_eq!(date.as_str().len(), 16);
            }
        }

        #[test]
        fn every_time_reads_back(seconds in -9_223_372_036i64..9_223_372_036) {
            let date = AmzDate::from(Timestamp::from_unix(seconds, 0));
            prop_assert_eq!(AmzDate::parse(date.as_str()), Some(date));
        }
    }
}
