//! The account that owns a bucket.

use std::fmt;

/// An account's id: 1 to 64 bytes of ASCII letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Box<str>);

/// The text is no account id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an account id is 1 to 64 ASCII letters, digits, '-', '_' and '.'")]
pub struct InvalidAccountId;

impl AccountId {
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidAccountId> {
        let text = text.into();
        let valid = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if valid { Ok(Self(text)) } else { Err(InvalidAccountId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
