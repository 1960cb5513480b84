//! The validated words of S3. Each is made by one `parse`; from there on the type is the proof.

mod account;
mod acl;
mod bucket;
mod etag;
mod key;
mod metadata;
mod part_number;
mod timestamp;
mod upload_id;
mod version;
mod version_id;

pub use account::{AccountId, InvalidAccountId};
pub use acl::{CannedAcl, UnknownCannedAcl};
pub use bucket::{BucketName, InvalidBucketName};
pub use etag::{ETag, InvalidETag};
pub use key::{InvalidKey, Key, MAX_KEY_BYTES};
pub use metadata::{ContentHeaders, ObjectAttributes, UserMetadata};
pub use part_number::{InvalidPartNumber, MAX_PART_NUMBER, PartNumber};
pub use timestamp::Timestamp;
pub use upload_id::{InvalidUploadId, UploadId};
pub use version::{Stamp, Version, VersioningStatus};
pub use version_id::{InvalidVersionId, VersionId};
