//! What tells one state of an object from another, and what is asked of the store about it.

use opendal::{Capability, Metadata};

use super::Store;

/// Which state of an object a store's answer is about, as the store says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::opendal) enum Token {
    /// Of the bytes alone, on some stores.
    ETag(String),
    /// A version of the object, also where the store keeps no other: what GCS calls a generation. Each write makes
    /// another.
    Version(String),
}

impl Token {
    /// As options of opendal's: the ETag that has to be there, and the version.
    pub(super) fn conditions(token: Option<&Self>) -> (Option<String>, Option<String>) {
        match token {
            Some(Self::ETag(etag)) => (Some(etag.clone()), None),
            Some(Self::Version(version)) => (None, Some(version.clone())),
            None => (None, None),
        }
    }
}

/// What has to hold in the store for a write or a delete to take place, judged by the store in the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::opendal) enum Precondition {
    None,
    Absent,
    Is(Token),
}

impl Precondition {
    /// As [`Token::conditions`]. `Absent` has an option of its own.
    pub(super) fn conditions(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Is(token) => Token::conditions(Some(token)),
            Self::None | Self::Absent => (None, None),
        }
    }
}

/// What the tokens of a store are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::opendal) enum TokenKind {
    ETag,
    Version,
}

impl TokenKind {
    /// What an adapter can have writes judged by. ETags where it can by both: every object has one, but a version only
    /// where the store keeps them.
    pub(super) fn by(capability: &Capability) -> Self {
        if capability.write_with_if_version_match && !capability.write_with_if_match {
            Self::Version
        } else {
            Self::ETag
        }
    }

    /// The token of what `metadata` is about, where the store tells it.
    pub(super) fn of(self, metadata: &Metadata) -> Option<Token> {
        match self {
            Self::ETag => metadata.etag().map(|etag| Token::ETag(etag.to_owned())),
            Self::Version => metadata.version().map(|version| Token::Version(version.to_owned())),
        }
    }
}

/// What an adapter can have judged by tokens.
impl Store {
    pub(in crate::opendal) fn asks_on_reads(&self) -> bool {
        let capability = self.capability();
        match self.tokens {
            TokenKind::ETag => capability.read_with_if_match,
            TokenKind::Version => capability.read_with_if_version_match,
        }
    }

    pub(in crate::opendal) fn asks_on_writes(&self) -> bool {
        let capability = self.capability();
        match self.tokens {
            TokenKind::ETag => capability.write_with_if_match,
            TokenKind::Version => capability.write_with_if_version_match,
        }
    }

    pub(in crate::opendal) fn asks_on_deletes(&self) -> bool {
        let capability = self.capability();
        match self.tokens {
            TokenKind::ETag => capability.delete_with_if_match,
            TokenKind::Version => capability.delete_with_if_version_match,
        }
    }
}
