//! Telling what changed in a directory, by inotify: on file systems that nobody else writes to than this kernel, whoever
//! does it, and whatever times are set afterwards. A change has been told when the system call that made it returns.

use std::mem::MaybeUninit;

use rustix::{
    fd::{AsFd, AsRawFd, OwnedFd},
    fs::{
        IFlags, fstatfs,
        inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
        ioctl_getflags,
    },
    io::Errno,
};

const BUFFER: usize = 16 * 1024;

/// Names that come and go.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// What a watched directory has to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// Something may have come or gone under this name. `None`: under one that is no text.
    Name(i32, Option<&'a str>),
    /// This watch tells nothing more.
    Ended(i32),
    /// Changes were lost, of whatever directory.
    Lost,
}

/// Directories watched.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
}

impl Watches {
    /// `None` where the system has none to give: then all goes on without.
    pub(super) fn new() -> Option<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        Some(Self { inotify })
    }

    /// Watches a directory from now on.
    pub(super) fn add(&self, dir: &OwnedFd) -> Result<i32, Errno> {
        inotify::add_watch(
            &self.inotify,
            format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()),
            CHANGES,
        )
    }

    pub(super) fn remove(&self, watch: i32) {
        // It may have gone with its directory.
        if let Err(error) = inotify::remove_watch(&self.inotify, watch) {
            tracing::trace!(%error, "a directory was not watched any more");
        }
    }

    /// All that was told since the last time.
    pub(super) fn drain(&self, mut tell: impl FnMut(Change<'_>)) {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => tell(Change::Lost),
                Ok(event) if event.events().intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) => {
                    tell(Change::Ended(event.wd()));
                }
                Ok(event) => {
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    tell(Change::Name(event.wd(), name));
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return tell(Change::Lost),
            }
        }
    }
}

/// Whether only this kernel changes what is on the file system of `dir`.
pub(in crate::fs) fn is_local(dir: &OwnedFd) -> bool {
    // ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS, bcachefs.
    const LOCAL: [u32; 7] = [
        0xEF53,
        0x5846_5342,
        0x9123_683E,
        0x0102_1994,
        0xF2F5_2010,
        0x2FC1_2FC1,
        0xCA45_1A4E,
    ];
    // The kernel's type of the field differs between machines, its low half does not.
    fstatfs(dir).is_ok_and(|stat| {
        LOCAL
            .iter()
            .any(|magic| i128::from(stat.f_type) & 0xFFFF_FFFF == i128::from(*magic))
    })
}

/// Whether names in `dir` that differ in case alone are one, so that a change is not always told under the name that
/// is there.
pub(super) fn is_folding(dir: &OwnedFd) -> bool {
    const CASEFOLD: IFlags = IFlags::from_bits_retain(0x4000_0000);
    ioctl_getflags(dir).is_ok_and(|flags| flags.contains(CASEFOLD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_the_time_that_they_are_made() {
        let temp = tempfile::tempdir().unwrap();
        let dir = rustix::fs::open(
            temp.path(),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let watches = Watches::new().unwrap();
        let watch = watches.add(&dir).unwrap();
        let told = || {
            let mut told = Vec::new();
            watches.drain(|change| {
                told.push(match change {
                    Change::Name(from, Some(name)) if from == watch => name.to_owned(),
                    other => format!("{other:?}"),
                });
            });
            told
        };
        assert!(told().is_empty());
        std::fs::write(temp.path().join("a"), "").unwrap();
        assert_eq!(told(), ["a"]);
        std::fs::rename(temp.path().join("a"), temp.path().join("b")).unwrap();
        assert_eq!(told(), ["a", "b"]);
        std::fs::remove_file(temp.path().join("b")).unwrap();
        assert_eq!(told(), ["b"]);
        std::fs::remove_dir(temp.path()).unwrap();
        drop(dir);
        assert_eq!(told(), [format!("Ended({watch})")]);
    }
}
