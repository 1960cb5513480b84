//! What lies under the root, and its opening.
//!
//! ```text
//! BUCKET/KEY                  an object
//! .t2/format                  the version of all this
//! .t2/lock                    held by whoever serves the root: alone, or by several who share it
//! .t2/locks/                  what those who share it lock (`locks`)
//! .t2/staging/                writes not yet done, of those who share it in a directory each; what has no owner any
//!                             more is swept
//! .t2/attributes/ID           what is too large for an extended attribute
//! .t2/attributes/XX/REST      with side files alone: the attributes of an object
//! .t2/directories/MARK        with side files alone: a directory that the gateway made
//! .t2/buckets/BUCKET          a bucket's record; a directory without one is no bucket
//! .t2/uploads/BUCKET/ID/      multipart uploads under way:
//!     upload                  what it was begun with
//!     data.SIZE, slots.SIZE   parts in place, and which of them are there
//!     part.N                  a part in a file of its own
//!     record.N.INODE          with side files alone: what is known of it
//!     completing.STAMP        with side files alone: its object may be there, newer than this
//!     gate, lock, claims      locks between processes
//!     claim.N                 locked by who writes part N in place
//! .t2/versions/BUCKET/KEY/    what is kept of a key beside its current object (`versions`)
//! .t2/lost/                   files that `doctor` took out of the tree
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    FsOptions, Store,
    bucket::{self, Bucket},
    dir,
    durable::Durable,
    error::Error,
    keeping::{Attributes, Keeping},
    listing::{ListingCache, is_local},
    locks::{
        KeyLocks, Moves, UploadLocks,
        file::{FileLock, LockFile},
    },
    marks::{Marks, Registry},
    names::Folding,
    peers::{self, Peers},
    sys,
};
use crate::BucketName;

/// The formats that this code reads and writes. Who does not know one of them refuses the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    One,
    /// As the first, and the attributes of objects lie in side files alone.
    SideFiles,
    /// As the first, and names may be those of a file system that folds names, wherever they lie now.
    Two,
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "1" => Some(Self::One),
            "1 side-files" => Some(Self::SideFiles),
            "2" => Some(Self::Two),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::SideFiles => "1 side-files",
            Self::Two => "2",
        }
    }

    /// Where attributes lie.
    pub(super) fn keeping(self) -> Keeping {
        match self {
            Self::One | Self::Two => Keeping::Extended,
            Self::SideFiles => Keeping::SideFiles,
        }
    }
}
pub(super) const SPACE: &str = ".t2";
/// Where files go that are not to be served and may still be somebody's.
pub(super) const LOST: &str = "lost";

/// Why a root cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FsOpenError {
    #[error("{}: {action}: {source}", root.display())]
    Io {
        root: PathBuf,
        action: &'static str,
        source: std::io::Error,
    },
    #[error("{}: another process serves this directory (it holds .t2/lock); several can, if all of them share it", .0.display())]
    Locked(PathBuf),
    #[error("{}: a process that does not share it serves this directory (it holds .t2/lock)", .0.display())]
    NotShared(PathBuf),
    #[error("{}: .t2/format says {found:?}, and this version of t2gate knows formats 1 and 2 alone", root.display())]
    UnknownFormat { root: PathBuf, found: String },
    #[error(
        "{}: the attributes of the objects were kept in user extended attributes, which this file system has not; \
         `t2gate doctor --repair` gives up what is lost and goes on with side files",
        .0.display()
    )]
    NoExtendedAttributes(PathBuf),
    #[error(
        "{}: names are folded here, and bucket {bucket} has had versions kept where they are not: of keys that differ in \
         spelling alone the histories would be one; move it back, or copy its objects through the gateway",
        root.display()
    )]
    FoldedVersions { root: PathBuf, bucket: BucketName },
    #[error(
        "{}: names are folded here, or were once, and the attributes of objects would have to lie in side files, as the \
         file system has no room for them in user extended attributes; the gateway does not serve the two together",
        .0.display()
    )]
    FoldedSideFiles(PathBuf),
    #[error(
        "{}: several processes cannot share it: the attributes of its objects lie in side files, as the file system has \
         no room for them in user extended attributes",
        .0.display()
    )]
    CannotShare(PathBuf),
    #[error("{}: no data directory: there is no .t2/format", .0.display())]
    NoRoot(PathBuf),
    #[error("{}: {what} is damaged", root.display())]
    Damaged { root: PathBuf, what: String },
}

/// Makes the root where there is none, with the directories on the way, durably.
fn make_root(root: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = root.ancestors().take_while(|dir| !dir.exists()).collect();
    std::fs::create_dir_all(root)?;
    for made in missing {
        let holder = made.parent().filter(|holder| !holder.as_os_str().is_empty());
        std::fs::File::open(holder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl Store {
    pub(super) fn open(options: FsOptions) -> Result<Self, FsOpenError> {
        Self::open_with(options, None)
    }

    /// Opens a root whose lock is held already, alone.
    pub(super) fn open_locked(options: FsOptions, lock: Arc<FileLock>) -> Result<Self, FsOpenError> {
        Self::open_with(options, Some(lock))
    }

    fn open_with(options: FsOptions, lock: Option<Arc<FileLock>>) -> Result<Self, FsOpenError> {
        let root = options.root.as_path();
        let failed = |action| {
            move |source: Errno| FsOpenError::Io {
                root: root.into(),
                action,
                source: source.into(),
            }
        };
        make_root(root).map_err(|source| FsOpenError::Io {
            root: root.into(),
            action: "could not create the directory",
            source,
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_dir = fs::open(root, flags, Mode::empty()).map_err(failed("could not open the directory"))?;
        let space = own_dir(&root_dir, SPACE).map_err(failed("could not create .t2"))?;
        let lock = match lock {
            Some(lock) => lock,
            None => Arc::new(take_lock(&space, root, options.shared, LockFile::Made)?),
        };
        read_format(&space, root)?;

        let part = |name| own_dir(&space, name).map_err(failed("could not create a directory in .t2"));
        let locks = options.shared.then(|| part("locks")).transpose()?;
        let mut staging = part("staging")?;
        let attributes = part("attributes")?;
        let records = part("buckets")?;
        let uploads = part("uploads")?;
        let versions = part("versions")?;
        let mut peers = None;
        if let Some(locks) = locks {
            let joined = Peers::join(locks, staging).map_err(failed("could not create a directory in .t2/staging"))?;
            (peers, staging) = (Some(joined.0), joined.1);
        }
        let staging = Arc::new(staging);
        let locks = peers.as_ref().map(Peers::locks);
        let moves = locks
            .map(|dir| Moves::between_processes(dir, LockFile::Made))
            .transpose();
        let moves = moves
            .map_err(failed("could not open .t2/locks/moves"))?
            .unwrap_or_default();
        let buckets = load_buckets(&records, root)?;
        // In what nobody else clears meanwhile.
        let folding = Folding::probe(&staging).map_err(failed("could not try how names are taken"))?;
        let (format, folding) = {
            // Of several who start at once one writes it.
            let serial = locks.map(|locks| peers::administer(locks)).transpose();
            let _serial = serial.map_err(failed("could not take a lock in .t2/locks"))?;
            let known = read_format(&space, root)?;
            let keeping = choose_keeping(&staging, known.map(Format::keeping), root, options.shared)?;
            // What has been on such a file system may have its names anywhere.
            let folding = folding.or((known == Some(Format::Two)).then(Folding::default));
            let needed = match (folding, keeping) {
                (None, Keeping::Extended) => Format::One,
                (None, Keeping::SideFiles) => Format::SideFiles,
                (Some(_), Keeping::Extended) => Format::Two,
                (Some(_), Keeping::SideFiles) => return Err(FsOpenError::FoldedSideFiles(root.into())),
            };
            // Where they lie follows from the format.
            if needed == Format::Two
                && known != Some(Format::Two)
                && let Some(versioned) = buckets.values().find(|bucket| bucket.versioning().is_some())
            {
                return Err(FsOpenError::FoldedVersions {
                    root: root.into(),
                    bucket: versioned.name.clone(),
                });
            }
            if known != Some(needed) {
                write_format(&space, needed).map_err(failed("could not write .t2/format"))?;
            }
            (needed, folding)
        };
        let attributes =
            Attributes::new(format.keeping(), attributes).map_err(failed("could not create .t2/attributes"))?;
        let marks = marks(&space, &staging, format).map_err(failed("could not create .t2/directories"))?;
        for dir in [&records, &space, &root_dir] {
            fs::fsync(dir).map_err(failed("could not sync the directory"))?;
        }
        let store = Self {
            buckets: RwLock::new(buckets),
            durable: Durable::new(options.durability, &root_dir)
                .map_err(failed("could not try whether it is written to"))?,
            root: root_dir,
            staging,
            attributes,
            marks,
            has_local_records: is_local(&records),
            records,
            uploads: Arc::new(uploads),
            versions,
            lock,
            clock: options.clock,
            keys: KeyLocks::new(locks.cloned(), LockFile::Made, folding.is_some()),
            peers,
            moves,
            upload_locks: UploadLocks::default(),
            listing_cache: ListingCache::new(options.listing_cache_bytes, folding.is_some()),
            folding,
            abandoned_upload_age: options.abandoned_upload_age,
            administration: Mutex::new(()),
        };
        store.sweep().map_err(|error| FsOpenError::Io {
            root: root.into(),
            action: "could not clear .t2/staging",
            source: std::io::Error::other(error),
        })?;
        Ok(store)
    }
}

/// A directory of the gateway's own, for nobody else to look into.
pub(super) fn own_dir(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match sys::mkdirat(parent, name, 0o700) {
        Ok(()) | Err(Errno::EXIST) => dir::resolve_dir(parent.as_fd(), [name]),
        Err(error) => Err(error),
    }
}

/// Alone, or shared with others who share it.
pub(super) fn take_lock(
    space: &OwnedFd,
    root: &Path,
    shared: bool,
    lock_file: LockFile,
) -> Result<FileLock, FsOpenError> {
    let failed = |source: Errno| FsOpenError::Io {
        root: root.into(),
        action: "could not lock .t2/lock",
        source: source.into(),
    };
    let lock = lock_file.open(space, "lock").map_err(failed)?;
    let (operation, refused): (_, fn(PathBuf) -> FsOpenError) = if shared {
        (FlockOperation::NonBlockingLockShared, FsOpenError::NotShared)
    } else {
        (FlockOperation::NonBlockingLockExclusive, FsOpenError::Locked)
    };
    let taken = FileLock::take(lock, operation).map_err(failed)?;
    taken.ok_or_else(|| refused(root.into()))
}

/// `None` where there is none yet.
pub(super) fn read_format(space: &OwnedFd, root: &Path) -> Result<Option<Format>, FsOpenError> {
    let failed = |source: Errno| FsOpenError::Io {
        root: root.into(),
        action: "could not read .t2/format",
        source: source.into(),
    };
    let file = match dir::resolve(space.as_fd(), ["format"], OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        outcome => outcome.map_err(failed)?,
    };
    let found = String::from_utf8_lossy(&dir::read_small(&file, 4096).map_err(failed)?).into_owned();
    match Format::parse(found.trim()) {
        Some(format) => Ok(Some(format)),
        None => Err(FsOpenError::UnknownFormat {
            root: root.into(),
            found: found.trim().into(),
        }),
    }
}

/// Durable when the directory is synced.
pub(super) fn write_format(space: &OwnedFd, format: Format) -> Result<(), Errno> {
    dir::unlink(space, "format.new")?;
    let file = dir::create_file(space, "format.new")?;
    dir::write_at(&file, format!("{}\n", format.as_str()).as_bytes(), 0)?;
    fs::fsync(&file)?;
    sys::renameat(space, "format.new", space, "format")
}

/// Decides for a new root, and looks whether the file system still has what another one needs.
fn choose_keeping(
    staging: &OwnedFd,
    known: Option<Keeping>,
    root: &Path,
    shared: bool,
) -> Result<Keeping, FsOpenError> {
    let failed = |source: Errno| FsOpenError::Io {
        root: root.into(),
        action: "could not try extended attributes",
        source: source.into(),
    };
    let keeping = match known {
        None => Keeping::probe(staging).map_err(failed)?,
        Some(Keeping::Extended) if !Keeping::has_extended(staging).map_err(failed)? => {
            return Err(FsOpenError::NoExtendedAttributes(root.into()));
        }
        Some(keeping) => keeping,
    };
    if shared && keeping == Keeping::SideFiles {
        return Err(FsOpenError::CannotShare(root.into()));
    }
    Ok(keeping)
}

pub(super) fn marks(space: &OwnedFd, staging: &Arc<OwnedFd>, format: Format) -> Result<Marks, Errno> {
    match format {
        Format::One => Ok(Marks::Attributes { named: false }),
        Format::Two => Ok(Marks::Attributes { named: true }),
        Format::SideFiles => {
            let marks = own_dir(space, "directories")?;
            Ok(Marks::Registry(Registry::new(marks, Arc::clone(staging))))
        }
    }
}

pub(super) fn load_buckets(records: &OwnedFd, root: &Path) -> Result<BTreeMap<BucketName, Arc<Bucket>>, FsOpenError> {
    let failed = |source: Errno| FsOpenError::Io {
        root: root.into(),
        action: "could not read .t2/buckets",
        source: source.into(),
    };
    let mut buckets = BTreeMap::new();
    for name in dir::names(records).map_err(failed)? {
        let Ok(name) = BucketName::parse(name) else {
            continue;
        };
        match bucket::load(records, &name) {
            Ok(loaded) => {
                buckets.insert(name, Arc::new(Bucket::new(loaded)));
            }
            Err(Error::Io { source, .. }) => return Err(failed(source)),
            Err(_) => {
                return Err(FsOpenError::Damaged {
                    root: root.into(),
                    what: format!("the record of bucket {name} in .t2/buckets"),
                });
            }
        }
    }
    Ok(buckets)
}
