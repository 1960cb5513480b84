//! Object keys.

use std::fmt;

/// The longest key, in bytes of UTF-8 (S3 User Guide, "Object key naming").
pub const MAX_KEY_BYTES: usize = 1024;

/// An object's key: 1 to 1024 bytes of UTF-8 without NUL. Anything else goes: `a//b`, `/a`, `a/../b` and `a/` are
/// keys, each a different one. What a dialect forbids beyond that is for the gateway to refuse.
///
/// Ordered by bytes, as S3 lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

/// The text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("a key has at least one byte")]
    Empty,
    #[error("a key has at most {MAX_KEY_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    #[error("a key does not hold NUL")]
    Nul,
}

impl Key {
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidKey> {
        let text = text.into();
        if text.is_empty() {
            Err(InvalidKey::Empty)
        } else if text.len() > MAX_KEY_BYTES {
            Err(InvalidKey::TooLong(text.len()))
        } else if text.contains('\0') {
            Err(InvalidKey::Nul)
        } else {
            Ok(Self(text))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
