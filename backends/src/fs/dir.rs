//! Directories and the files in them, by descriptor. No path that a client had a part in is resolved in any other way
//! than [`resolve`]: beneath a directory at hand, through no symbolic link.

use std::{ffi::CStr, io::IoSlice, mem::MaybeUninit, ops::ControlFlow};

use bytes::Bytes;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags},
    io::Errno,
};

use super::{
    crash::{self, Call},
    sys,
};
use crate::Timestamp;

/// Paths go to the kernel in pieces of at most so many bytes: it takes 4095.
const MAX_PIECE: usize = 3800;
/// How often a system call is repeated that met another one: an openat2 a rename, of which it says so (AGAIN), or that
/// what it had found is not beneath the base any more (XDEV).
const MAX_ATTEMPTS: usize = 16;
/// Directory entries are read in so many bytes.
const ENTRIES_BUFFER: usize = 32 * 1024;
/// The most slices that one system call takes.
const MAX_SLICES: usize = 1024;

/// What `statx` says of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) file_type: FileType,
    pub(super) dev: (u32, u32),
    pub(super) ino: u64,
    /// How many names it has.
    pub(super) nlink: u64,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) ctime: (i64, u32),
    pub(super) btime: (i64, u32),
}

impl From<fs::Stat> for Meta {
    fn from(stat: fs::Stat) -> Self {
        let nanos = |nanos| u32::try_from(nanos).unwrap_or(0);
        Self {
            file_type: FileType::from_raw_mode(stat.st_mode),
            dev: (fs::major(stat.st_dev), fs::minor(stat.st_dev)),
            ino: stat.st_ino,
            nlink: stat.st_nlink,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            ctime: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
            btime: (0, 0),
        }
    }
}

impl Meta {
    pub(super) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        Self::at(fd, "", AtFlags::EMPTY_PATH)
    }

    /// Of a single name in a directory; a symbolic link is itself.
    pub(super) fn in_dir(dir: impl AsFd, name: &str) -> Result<Self, Errno> {
        Self::at(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn at(fd: impl AsFd, name: &str, flags: AtFlags) -> Result<Self, Errno> {
        let stat = sys::statx(fd, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        let has_btime = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Self {
            file_type: FileType::from_raw_mode(stat.stx_mode.into()),
            dev: (stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            nlink: stat.stx_nlink.into(),
            size: stat.stx_size,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            btime: if has_btime {
                (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
            } else {
                (0, 0)
            },
        })
    }

    /// Of an open file, without its birth time: costs less.
    pub(super) fn brief(fd: impl AsFd) -> Result<Self, Errno> {
        crash::fault(Call::Look)?;
        Ok(Self::from(fs::fstat(fd)?))
    }

    pub(super) fn is_file(&self) -> bool {
        self.file_type == FileType::RegularFile
    }

    pub(super) fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether both are of one file.
    pub(super) fn is_file_of(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    pub(super) fn last_modified(&self) -> Timestamp {
        Timestamp::from_unix(self.mtime.0, self.mtime.1)
    }
}

/// What a name was found to be.
#[derive(Debug)]
pub(super) enum Entry {
    File(OwnedFd, Meta),
    /// A directory, a symbolic link, a device, or a file that we may not read: there, and no object.
    Other,
    Absent,
}

impl Entry {
    pub(super) fn into_file(self) -> Option<(OwnedFd, Meta)> {
        match self {
            Self::File(file, meta) => Some((file, meta)),
            Self::Other | Self::Absent => None,
        }
    }
}

/// Opens what `names`, each in the one before, lead to from `base`. However long they are together; `base` itself where
/// there are none.
pub(super) fn resolve<'a>(
    base: BorrowedFd<'_>,
    names: impl IntoIterator<Item = &'a str>,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut path = String::new();
    for name in names {
        if path.len() + 1 + name.len() > MAX_PIECE {
            let from = held.as_ref().map_or(base, AsFd::as_fd);
            held = Some(open_beneath(from, &path, OFlags::PATH | OFlags::DIRECTORY)?);
            path.clear();
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(name);
    }
    let from = held.as_ref().map_or(base, AsFd::as_fd);
    open_beneath(from, if path.is_empty() { "." } else { &path }, flags)
}

/// A directory, open so that it can be read and synced.
pub(super) fn resolve_dir<'a>(
    base: BorrowedFd<'_>,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<OwnedFd, Errno> {
    resolve(base, names, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// A second descriptor of what is open. To be had before a change is visible: without, nobody could make that durable.
pub(super) fn again(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    crash::fault(Call::Open)?;
    rustix::io::fcntl_dupfd_cloexec(file, 0)
}

/// Looks for a regular file. Fails only for reasons that have nothing to do with the file.
pub(super) fn look_up<'a>(base: BorrowedFd<'_>, names: impl IntoIterator<Item = &'a str>) -> Result<Entry, Errno> {
    looked_up(resolve(base, names, LOOK_UP), |file| Meta::of(file))
}

/// As [`look_up`] for a single name that a directory was seen to hold, at less cost: of one name without `/` a plain
/// open resolves nothing but a symbolic link, which it is told not to.
pub(super) fn look_up_in(dir: BorrowedFd<'_>, name: &str) -> Result<Entry, Errno> {
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return look_up(dir, [name]);
    }
    let flags = LOOK_UP | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match crash::fault(Call::Open).and_then(|()| sys::openat(dir, name, flags, Mode::empty())) {
        // It has to be waited for.
        Err(Errno::AGAIN) => look_up(dir, [name]),
        opened => looked_up(opened, |file| Meta::brief(file)),
    }
}

/// What lies under a single name that a directory was seen to hold, without opening it; a symbolic link is itself. Without
/// the birth time.
pub(super) fn look_at(dir: &OwnedFd, name: &str) -> Result<Meta, Errno> {
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Err(Errno::INVAL);
    }
    sys::statat(dir, name).map(Meta::from)
}

/// A fifo must not make us wait, nor a terminal become ours.
const LOOK_UP: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn looked_up(
    opened: Result<OwnedFd, Errno>,
    look: impl FnOnce(&OwnedFd) -> Result<Meta, Errno>,
) -> Result<Entry, Errno> {
    match opened {
        Ok(file) => {
            let meta = look(&file)?;
            Ok(if meta.is_file() {
                Entry::File(file, meta)
            } else {
                Entry::Other
            })
        }
        Err(Errno::NOENT) => Ok(Entry::Absent),
        Err(error) if is_no_object(error) => Ok(Entry::Other),
        Err(error) => Err(error),
    }
}

/// Whether `names`, each in the one before, lead to anything from `base`.
pub(super) fn is_there(base: &OwnedFd, names: &[Box<str>]) -> Result<bool, Errno> {
    let found = match names {
        [name] => Meta::in_dir(base, name).map(drop),
        names => resolve(
            base.as_fd(),
            names.iter().map(|n| &**n),
            OFlags::PATH | OFlags::NOFOLLOW,
        )
        .map(drop),
    };
    match found {
        Ok(()) => Ok(true),
        Err(error) if is_no_object(error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a directory has an entry that is spelled so. Reads all of it.
pub(super) fn has_entry(dir: &OwnedFd, name: &str) -> Result<bool, Errno> {
    scan(dir, |there, _| {
        if there == name {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// Whether opening failed for what the name is, rather than for the state of the system.
pub(super) fn is_no_object(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NXIO
            | Errno::NODEV
            | Errno::XDEV
            | Errno::NAMETOOLONG
    )
}

fn is_file_beneath(dir: BorrowedFd<'_>, path: &str) -> Result<bool, Errno> {
    let found = open_beneath(dir, path, OFlags::PATH)?;
    Ok(Meta::brief(&found)?.is_file())
}

fn open_beneath(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    crash::fault(Call::Open)?;
    let mut attempt = 1;
    loop {
        match sys::openat2(dir, path, flags | OFlags::CLOEXEC, resolve) {
            Err(Errno::AGAIN | Errno::XDEV | Errno::INTR) if attempt < MAX_ATTEMPTS => attempt += 1,
            // Somebody has a lease on it, Samba say, and has to be waited for. Of a file that is no fifo.
            Err(Errno::AGAIN) if flags.contains(OFlags::NONBLOCK) && is_file_beneath(dir, path)? => {
                return open_beneath(dir, path, flags.difference(OFlags::NONBLOCK));
            }
            outcome => return outcome,
        }
    }
}

/// Creates a file that was not there, open for reading and writing. Who may read it is for the umask to say.
pub(super) fn create_file(dir: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    crash::fault(Call::Open)?;
    crash::fault(Call::Add)?;
    let file = sys::openat(dir, name, flags, Mode::from_raw_mode(0o666))?;
    crash::point();
    Ok(file)
}

/// Removes a name; that it is not there is no error.
pub(super) fn unlink(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    match crash::fault(Call::Remove).and_then(|()| sys::unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) => {
            crash::point();
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes `name` with all in it, at most `depth` directories deep. Only for what lies in the gateway's own space. Whoever
/// came just before it was put away, for the locks of an upload say, may put something in once more.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &str, depth: usize) -> Result<(), Errno> {
    match crash::fault(Call::Remove).and_then(|()| sys::unlinkat(dir, name, AtFlags::empty())) {
        Ok(()) => {
            crash::point();
            return Ok(());
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        Err(error) => return Err(error),
    }
    let child = match resolve_dir(dir, [name]) {
        Err(Errno::NOENT) => return Ok(()),
        outcome => outcome?,
    };
    let mut attempt = 1;
    loop {
        for name in names(&child)? {
            remove_tree(child.as_fd(), &name, depth - 1)?;
        }
        match crash::fault(Call::Remove).and_then(|()| sys::unlinkat(dir, name, AtFlags::REMOVEDIR)) {
            Ok(()) => {
                crash::point();
                return Ok(());
            }
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// All names in a directory of the gateway's own.
pub(super) fn names(dir: impl AsFd) -> Result<Vec<Box<str>>, Errno> {
    let mut names = Vec::new();
    scan(dir, |name, _| {
        names.push(name.into());
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// Reads a directory from its start, in no order, until `visit` breaks. Names that are not UTF-8 are left out, as are
/// `.` and `..`; the type may be unknown. Whether `visit` broke.
pub(super) fn scan(dir: impl AsFd, mut visit: impl FnMut(&str, FileType) -> ControlFlow<()>) -> Result<bool, Errno> {
    scan_raw(dir, |name, kind| match name.to_str() {
        Ok(name) => visit(name, kind),
        Err(_) => ControlFlow::Continue(()),
    })
}

/// As [`scan`], with all names.
pub(super) fn scan_raw(
    dir: impl AsFd,
    mut visit: impl FnMut(&CStr, FileType) -> ControlFlow<()>,
) -> Result<bool, Errno> {
    let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); ENTRIES_BUFFER];
    fs::seek(&dir, fs::SeekFrom::Start(0))?;
    let mut entries = RawDir::new(&dir, &mut buffer);
    loop {
        if entries.is_buffer_empty() {
            crash::fault(Call::Look)?;
        }
        let Some(entry) = entries.next() else {
            break;
        };
        let entry = match entry {
            // The directory was removed since it was opened.
            Err(Errno::NOENT) => break,
            entry => entry?,
        };
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") && visit(name, entry.file_type()).is_break() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a whole file of the gateway's own, which has at most `limit` bytes.
pub(super) fn read_small(file: impl AsFd, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(4096);
        let offset = bytes.len() as u64;
        let spare = rustix::buffer::spare_capacity(&mut bytes);
        match crash::fault(Call::Look).and_then(|()| rustix::io::pread(&file, spare, offset)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > limit => return Err(Errno::FBIG),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Up to `len` bytes from `offset` on; fewer where the file ends.
pub(super) fn read_at(file: impl AsFd, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let position = offset + bytes.len() as u64;
        let spare = rustix::buffer::spare_capacity(&mut bytes);
        match crash::fault(Call::Look).and_then(|()| rustix::io::pread(&file, spare, position)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_at(file: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match crash::fault(Call::Add).and_then(|()| rustix::io::pwrite(&file, bytes, offset)) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                crash::point();
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `slices`, one behind the other, from `offset` on.
pub(super) fn write_slices_at(file: impl AsFd, slices: &[Bytes], mut offset: u64) -> Result<(), Errno> {
    for some in slices.chunks(MAX_SLICES) {
        let mut io: Vec<IoSlice<'_>> = some.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut left = io.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match crash::fault(Call::Add).and_then(|()| rustix::io::pwritev(&file, left, offset)) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    crash::point();
                    offset += count as u64;
                    IoSlice::advance_slices(&mut left, count);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Copies `len` bytes of `from`, from its start, to `to` at `offset`; inside the kernel where it can. The number of
/// bytes that there were, at most `len`.
pub(super) fn copy_range(from: impl AsFd, to: impl AsFd, offset: u64, len: u64) -> Result<u64, Errno> {
    copy_between(from, 0, to, offset, len)
}

/// As [`copy_range`], from `source` on.
pub(super) fn copy_between(from: impl AsFd, source: u64, to: impl AsFd, target: u64, len: u64) -> Result<u64, Errno> {
    const STEP: u64 = 1 << 30;
    let (begin, end) = (source, source.saturating_add(len));
    let (mut source, mut target) = (source, target);
    while source < end {
        let step = usize::try_from((end - source).min(STEP)).unwrap_or(1 << 20);
        crash::fault(Call::Add)?;
        match fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), step) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => crash::point(),
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::BADF | Errno::PERM) => {
                source = copy_by_hand(from, to, source, target, end)?;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(source - begin)
}

/// Up to `end`; where it came to.
fn copy_by_hand(from: impl AsFd, to: impl AsFd, mut source: u64, mut target: u64, end: u64) -> Result<u64, Errno> {
    const STEP: u64 = 256 * 1024;
    while source < end {
        let step = usize::try_from((end - source).min(STEP)).unwrap_or(1 << 12);
        let buffer = read_at(&from, source, step)?;
        if buffer.is_empty() {
            break;
        }
        write_at(&to, &buffer, target)?;
        source += buffer.len() as u64;
        target += buffer.len() as u64;
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    /// As a process does that comes to lock what another one ends.
    #[test]
    fn what_is_removed_is_gone_though_somebody_puts_something_in_meanwhile() {
        let temp = tempfile::tempdir().unwrap();
        let base = fs::open(temp.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for round in 0..2000 {
            let dir = temp.path().join("tree");
            std::fs::create_dir(&dir).unwrap();
            for name in ["gate", "lock", "upload"] {
                std::fs::write(dir.join(name), name).unwrap();
            }
            let there = resolve_dir(base.as_fd(), ["tree"]).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..round % 50 {
                        std::hint::spin_loop();
                    }
                    for name in ["gate", "lock"] {
                        drop(sys::openat(&there, name, OFlags::RDWR | OFlags::CREATE, Mode::RUSR));
                    }
                });
                assert_eq!(remove_tree(base.as_fd(), "tree", 1), Ok(()), "{round}");
            });
        }
    }

    /// The kernel fails with XDEV if what was found is no longer beneath the base when it looks again.
    #[test]
    fn what_moves_away_while_it_is_looked_up_is_there_or_not() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("base");
        let moving = (base.join("parent/name"), temp.path().join("elsewhere"));
        std::fs::create_dir_all(&moving.0).unwrap();
        let base = fs::open(&base, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    std::fs::rename(&moving.0, &moving.1).unwrap();
                    std::fs::rename(&moving.1, &moving.0).unwrap();
                }
            });
            let mut found = [0; 2];
            let mut others = Vec::new();
            for _ in 0..500_000 {
                match resolve_dir(base.as_fd(), ["parent", "name"]) {
                    Ok(_) => found[0] += 1,
                    Err(Errno::NOENT) => found[1] += 1,
                    Err(error) => others.push(error),
                }
            }
            done.store(true, Ordering::SeqCst);
            assert_eq!(others, []);
            assert!(found.iter().all(|count| *count > 0), "{found:?}");
        });
    }
}
