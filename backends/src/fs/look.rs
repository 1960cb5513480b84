//! Opening a root in which nothing is to be changed: nothing is made, tried out, swept or synced.

use std::sync::{Arc, Mutex, RwLock};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{
    FsOpenError, FsOptions, Store, dir,
    durable::Durable,
    keeping::Attributes,
    layout::{self, Format},
    listing::{ListingCache, is_local},
    locks::{KeyLocks, Moves, UploadLocks, file::LockFile},
    marks::{Marks, Registry},
    names::Folding,
    peers::Peers,
};

impl Store {
    pub(super) fn look(options: &FsOptions) -> Result<Self, FsOpenError> {
        let root = options.root.as_path();
        let failed = |source: Errno| FsOpenError::Io {
            root: root.into(),
            action: "could not open the directory",
            source: source.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_dir = fs::open(root, flags, Mode::empty()).map_err(failed)?;
        let no_root = || FsOpenError::NoRoot(root.into());
        let space = match dir::resolve_dir(root_dir.as_fd(), [layout::SPACE]) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(no_root()),
            outcome => outcome.map_err(failed)?,
        };
        let format = layout::read_format(&space, root)?.ok_or_else(no_root)?;
        let lock = layout::take_lock(&space, root, options.shared, LockFile::Existing)?;
        let part = |name| dir::resolve_dir(space.as_fd(), [name]);
        let staging = part("staging").map_err(failed)?;
        let records = part("buckets").map_err(failed)?;
        let shared = || {
            let locks = part("locks")?;
            let moves = Moves::between_processes(&locks, LockFile::Existing)?;
            Ok((locks, moves))
        };
        let (peers, moves) = match options.shared.then(shared).transpose() {
            // Nobody has shared it yet.
            Ok(None) | Err(Errno::NOENT) => (None, Moves::default()),
            Ok(Some((locks, moves))) => {
                let common = staging.try_clone().map_err(|_| failed(Errno::MFILE))?;
                (Some(Peers::watch(locks, common)), moves)
            }
            Err(error) => return Err(failed(error)),
        };
        let locks = peers.as_ref().map(Peers::locks);
        let staging = Arc::new(staging);
        // What it takes to try how names are taken here is a file.
        let folding = (format == Format::Two).then(Folding::default);
        let attributes = Attributes {
            keeping: format.keeping(),
            dir: Arc::new(part("attributes").map_err(failed)?),
        };
        let marks = match format {
            Format::One => Marks::Attributes { named: false },
            Format::Two => Marks::Attributes { named: true },
            Format::SideFiles => {
                let marks: OwnedFd = part("directories").map_err(failed)?;
                Marks::Registry(Registry::new(marks, Arc::clone(&staging)))
            }
        };
        Ok(Self {
            buckets: RwLock::new(layout::load_buckets(&records, root)?),
            durable: Durable::refusing(),
            root: root_dir,
            staging,
            attributes,
            marks,
            has_local_records: is_local(&records),
            records,
            uploads: Arc::new(part("uploads").map_err(failed)?),
            versions: part("versions").map_err(failed)?,
            lock: Arc::new(lock),
            clock: Arc::clone(&options.clock),
            keys: KeyLocks::new(locks.cloned(), LockFile::Existing, folding.is_some()),
            peers,
            moves,
            upload_locks: UploadLocks::default(),
            listing_cache: ListingCache::new(options.listing_cache_bytes, folding.is_some()),
            folding,
            abandoned_upload_age: None,
            administration: Mutex::new(()),
        })
    }
}
