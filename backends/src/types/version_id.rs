//! Ids of object versions.

use std::fmt;

use super::Stamp;

/// The id of one version of an object. Opaque to clients: 1 to 128 bytes of `[A-Za-z0-9._-]`; `null` is the version
/// written while versioning was off or suspended, and whatever lay in the store before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(Box<str>);

/// The text is no version id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid version id specified")]
pub struct InvalidVersionId;

impl VersionId {
    /// The version that S3 calls `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Of a version that the gateway keeps itself.
    pub fn of(stamp: Stamp) -> Self {
        Self(stamp.to_string().into())
    }

    /// `None` for `null`, and for an id that the gateway never gave.
    pub fn stamp(&self) -> Option<Stamp> {
        Stamp::parse(&self.0)
    }

    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidVersionId> {
        let text = text.into();
        let valid = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if valid { Ok(Self(text)) } else { Err(InvalidVersionId) }
    }

    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
