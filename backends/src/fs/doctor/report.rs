//! What an examination tells.

/// What is wrong, or left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsFindingKind {
    /// Something in staging: left by a crash. Repair finishes or undoes it, as the next start does.
    Staging,
    /// A file of attributes of no object as it is. Repair removes it.
    OrphanedSideFile,
    /// The file system has no extended attributes, and the objects had theirs there. Repair says so in `.t2/format`; from
    /// then on attributes lie in side files.
    LostAttributes,
    /// A note in `.t2/directories` about a directory that is not there. Repair removes it.
    OrphanedMark,
    /// An object names a file of attributes that is not there: its metadata or parts are lost. Its bytes are not.
    MissingSideFile,
    /// The attributes are damaged or of another version: the file is served without them.
    DamagedAttributes,
    /// The file has changed since its attributes were written, and is served without them. Repair removes them.
    StaleAttributes,
    /// A key has two files, and this one is not served. Repair moves it to `.t2/lost`.
    TwoFiles,
    /// A segment has two directories, and what is in this one is not served.
    TwoDirectories,
    /// The name is an escape that stands for nothing where it is, is not UTF-8, or makes a key that is empty or too long:
    /// it is not served.
    UnusableName,
    /// An empty directory of the gateway's. Repair removes it.
    EmptyDirectory,
    /// A directory that the gateway made for a bucket, and no bucket. Repair removes it if it is empty.
    AbandonedBucket,
    /// A bucket without a directory: its objects are gone, or elsewhere.
    MissingBucket,
    /// The record of a bucket cannot be read: the gateway does not start.
    DamagedBucket,
    /// An upload of no bucket, or without a readable record. Repair removes it.
    AbandonedUpload,
    /// Versions of no bucket. Repair moves them to `.t2/lost`.
    OrphanedHistory,
    /// An object that was deleted and is kept still lies under its key's name, which hides that. Repair removes that name.
    DeletedObject,
    /// What was the version `null` before another was. Repair removes it.
    ReplacedVersion,
    /// It could not be examined.
    Unreadable,
}

impl FsFindingKind {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::OrphanedSideFile => "orphaned-side-file",
            Self::LostAttributes => "lost-attributes",
            Self::OrphanedMark => "orphaned-mark",
            Self::MissingSideFile => "missing-side-file",
            Self::DamagedAttributes => "damaged-attributes",
            Self::StaleAttributes => "stale-attributes",
            Self::TwoFiles => "two-files",
            Self::TwoDirectories => "two-directories",
            Self::UnusableName => "unusable-name",
            Self::EmptyDirectory => "empty-directory",
            Self::AbandonedBucket => "abandoned-bucket",
            Self::MissingBucket => "missing-bucket",
            Self::DamagedBucket => "damaged-bucket",
            Self::AbandonedUpload => "abandoned-upload",
            Self::OrphanedHistory => "orphaned-history",
            Self::DeletedObject => "deleted-object",
            Self::ReplacedVersion => "replaced-version",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsFinding {
    pub kind: FsFindingKind,
    /// Below the root; what is not UTF-8 is replaced.
    pub path: String,
    pub repaired: bool,
}

/// What an examination has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsReport {
    pub buckets: u64,
    /// Files that are served.
    pub objects: u64,
    /// Versions that are kept beside those, delete markers among them.
    pub versions: u64,
    pub findings: Vec<FsFinding>,
}

impl FsReport {
    pub(super) fn add(&mut self, kind: FsFindingKind, path: String, repaired: bool) {
        self.findings.push(FsFinding { kind, path, repaired });
    }
}
