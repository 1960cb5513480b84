//! Canned access control lists of a bucket.

use std::str::FromStr;

/// The canned ACLs that a T2 bucket can have (S3 User Guide, "Canned ACL"; T2 has just these two).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CannedAcl {
    /// The owner's keys alone. The default.
    #[default]
    Private,
    /// Everybody may read objects.
    PublicRead,
}

/// The text is not one of the two canned ACLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the canned ACLs are private and public-read")]
pub struct UnknownCannedAcl;

impl CannedAcl {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
        }
    }
}

impl FromStr for CannedAcl {
    type Err = UnknownCannedAcl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "private" => Ok(Self::Private),
            "public-read" => Ok(Self::PublicRead),
            _ => Err(UnknownCannedAcl),
        }
    }
}
