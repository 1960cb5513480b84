//! What a client says of an object and gets back unchanged.

use crate::Checksum;

/// The content headers that S3 keeps with an object, as they were sent. `content_encoding` is without `aws-chunked`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentHeaders {
    pub content_type: Option<Box<str>>,
    pub content_encoding: Option<Box<str>>,
    pub content_language: Option<Box<str>>,
    pub content_disposition: Option<Box<str>>,
    pub cache_control: Option<Box<str>>,
    pub expires: Option<Box<str>>,
}

/// User metadata: names without `x-amz-meta-`, lower case, sorted, each once. Names and values together at most
/// 2 KiB (enforced by the gateway: S3 User Guide, "User-defined object metadata").
pub type UserMetadata = Vec<(Box<str>, Box<str>)>;

/// What is stored with an object beside its bytes and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectAttributes {
    pub content: ContentHeaders,
    pub user_metadata: UserMetadata,
    /// The one checksum kept with the object. None for what the gateway did not write.
    pub checksum: Option<Checksum>,
}
