//! Accounts and application keys: load, reload, look up, capabilities.

/// What an application key may do, in the words that users of this family of services know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    ListBuckets,
    ReadBuckets,
    WriteBuckets,
    DeleteBuckets,
    ReadBucketEncryption,
    WriteBucketEncryption,
    ReadBucketRetentions,
    WriteBucketRetentions,
    ListFiles,
    ReadFiles,
    WriteFiles,
    DeleteFiles,
    ReadFileRetentions,
    WriteFileRetentions,
    ReadFileLegalHolds,
    WriteFileLegalHolds,
    BypassGovernance,
}
