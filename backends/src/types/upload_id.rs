//! Ids of multipart uploads.

use std::fmt;

/// An upload's id. Ours are 32 hex digits from the system's random source; what a client sends is any 1 to 128
/// bytes of `[A-Za-z0-9_-]`, so an id is always a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Box<str>);

/// The text is no upload id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the upload id is not one of this service")]
pub struct InvalidUploadId;

impl UploadId {
    /// A new id, unguessable.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes).into()))
    }

    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidUploadId> {
        let text = text.into();
        let valid = (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if valid { Ok(Self(text)) } else { Err(InvalidUploadId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
