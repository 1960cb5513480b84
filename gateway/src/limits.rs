//! Every fixed bound, with its source.

/// Entries in one page of objects, parts or uploads (S3 API reference, `max-keys`, `max-parts`, `max-uploads`).
pub const MAX_PAGE: usize = 1000;

/// Buckets in one page (S3 API reference, ListBuckets, `max-buckets`).
pub const MAX_BUCKETS_PAGE: usize = 10_000;

/// The greatest number that S3 takes where it asks for a page's size; greater ones are refused, not capped.
pub const MAX_INTEGER: u64 = i32::MAX as u64;

/// Keys in one DeleteObjects (S3 API reference).
pub const MAX_DELETE_KEYS: usize = 1000;

/// Parts in one CompleteMultipartUpload (S3 User Guide, "Multipart upload limits").
pub const MAX_PARTS: usize = 10_000;

/// Bytes of every part but the last (S3 User Guide, "Multipart upload limits").
pub const MIN_PART_BYTES: u64 = 5 << 20;

/// Bytes of one part, of one PutObject and of one copied source (S3 User Guide, "Uploading objects").
pub const MAX_PUT_BYTES: u64 = 5 << 30;

/// Bytes of an XML request body. 10,000 parts with a SHA-256 each come to about 1.8 MB.
pub const MAX_XML_BYTES: usize = 2 << 20;

/// Names and values of user metadata together, in bytes, prefix not counted (S3 User Guide, "User-defined object
/// metadata").
pub const MAX_USER_METADATA_BYTES: usize = 2048;

/// Bytes of a prefix, a delimiter or a marker: no key is longer.
pub const MAX_LIST_ARGUMENT_BYTES: usize = t2gate_backends::MAX_KEY_BYTES;

/// Query parameters in one request. A presigned request with full metadata has a few dozen.
pub const MAX_QUERY_PARAMETERS: usize = 256;

/// Entity tags in one `If-Match` or `If-None-Match`.
pub const MAX_ENTITY_TAGS: usize = 256;
