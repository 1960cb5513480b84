//! Part numbers of a multipart upload.

use std::fmt;

/// The greatest part number, and so the most parts (S3 User Guide, "Multipart upload limits").
pub const MAX_PART_NUMBER: u16 = 10_000;

/// 1 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

/// The number is no part number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a part number is an integer from 1 to {MAX_PART_NUMBER}")]
pub struct InvalidPartNumber;

impl PartNumber {
    pub fn new(number: u16) -> Result<Self, InvalidPartNumber> {
        if (1..=MAX_PART_NUMBER).contains(&number) {
            Ok(Self(number))
        } else {
            Err(InvalidPartNumber)
        }
    }

    /// Digits alone: no sign, no space.
    pub fn parse(text: &str) -> Result<Self, InvalidPartNumber> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidPartNumber);
        }
        text.parse().map_err(|_| InvalidPartNumber).and_then(Self::new)
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
