//! Wire documents: request bodies read by hand from XML events, and the writer for answers.
//!
//! Every reader takes a whole body, which the caller has bounded ([`MAX_XML_BYTES`](crate::limits::MAX_XML_BYTES)) and
//! verified. Anything that a document has no place for is `MalformedXML`: what is not understood cannot be done.

mod acl;
mod complete;
mod create_bucket;
mod delete;
mod reader;
mod versioning;
pub(super) mod writer;

pub use acl::parse_access_control_policy;
pub use complete::parse_complete_multipart_upload;
pub use create_bucket::parse_create_bucket_configuration;
pub use delete::{Delete, DeleteEntry, DeleteTarget, parse_delete};
pub use versioning::parse_versioning_configuration;

use super::S3Error;

/// The namespace of all of S3's documents.
pub(super) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The namespace of `xsi:type`.
pub(super) const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Whoever asks, with credentials or without.
pub(super) const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// Fills what an element says once. A second one is `MalformedXML`: which of them counts would be a guess.
fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    if slot.replace(value).is_some() {
        return Err(S3Error::malformed_xml());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
