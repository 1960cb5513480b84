//! Entity tags.

use std::fmt;

use md5::{Digest, Md5};

/// An entity tag without its quotes: visible ASCII, 1 to 128 bytes, no `"`.
///
/// Of an object written in one piece it is the MD5 of its bytes in lower-case hex; of a multipart upload
/// the MD5 of the parts' MD5s, a dash, and their number; of a file that the gateway did not write something that
/// no client takes for an MD5.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(Box<str>);

/// The text is no entity tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an entity tag is 1 to 128 visible ASCII characters without quotes")]
pub struct InvalidETag;

impl ETag {
    /// `text` comes without the quotes that stand around it on the wire.
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidETag> {
        let text = text.into();
        let valid = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if valid { Ok(Self(text)) } else { Err(InvalidETag) }
    }

    pub fn from_md5(md5: [u8; 16]) -> Self {
        Self(hex::encode(md5).into())
    }

    /// The ETag of a completed multipart upload: MD5 over the parts' MD5s, `-`, number of parts.
    pub fn of_parts<'a>(md5s: impl IntoIterator<Item = &'a [u8; 16]>) -> Self {
        let mut hasher = Md5::new();
        let mut count = 0_usize;
        for md5 in md5s {
            hasher.update(md5);
            count += 1;
        }
        Self(format!("{}-{count}", hex::encode(hasher.finalize())).into())
    }

    /// The MD5 of the object's bytes, where this tag is one.
    pub fn as_md5(&self) -> Option<[u8; 16]> {
        let mut md5 = [0; 16];
        hex::decode_to_slice(self.0.as_bytes(), &mut md5).ok()?;
        Some(md5)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
