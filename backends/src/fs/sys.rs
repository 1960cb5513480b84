//! Every system call that takes a name, but for the one that opens the root: so that a test can put a file system
//! between that takes several spellings for one name. Without the feature `simulated-folding` they are the calls
//! themselves. Those that only look can fail for a test's sake here, those that change something where they are called.
#![expect(clippy::disallowed_methods, reason = "these are what to call instead")]

use rustix::{
    fd::{AsFd, OwnedFd},
    ffi::CString,
    fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Statx, StatxFlags},
    io::Errno,
};

#[cfg(not(feature = "simulated-folding"))]
use self::as_they_are::{hold_still, stored};
use super::crash::{self, Call};
#[cfg(feature = "simulated-folding")]
use super::simulated_folding::{hold_still, stored};

#[cfg(not(feature = "simulated-folding"))]
mod as_they_are {
    use std::borrow::Cow;

    use rustix::{fd::AsFd, io::Errno};

    /// In the place of the simulation's lock.
    pub(super) struct Still;

    #[inline(always)]
    pub(super) fn hold_still() -> Still {
        Still
    }

    #[inline(always)]
    pub(super) fn stored(_: impl AsFd, path: &str) -> Result<Cow<'_, str>, Errno> {
        Ok(Cow::Borrowed(path))
    }
}

pub(super) fn openat(dir: impl AsFd, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let _names = hold_still();
    fs::openat(&dir, &*stored(&dir, name)?, flags, mode)
}

/// `path` may be several names.
pub(super) fn openat2(dir: impl AsFd, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let _names = hold_still();
    fs::openat2(&dir, &*stored(&dir, path)?, flags, Mode::empty(), resolve)
}

pub(super) fn statx(dir: impl AsFd, name: &str, flags: AtFlags, mask: StatxFlags) -> Result<Statx, Errno> {
    crash::fault(Call::Look)?;
    let _names = hold_still();
    fs::statx(&dir, &*stored(&dir, name)?, flags, mask)
}

/// As [`statx`] with less to tell; a symbolic link is itself.
pub(super) fn statat(dir: impl AsFd, name: &str) -> Result<Stat, Errno> {
    crash::fault(Call::Look)?;
    let _names = hold_still();
    fs::statat(&dir, &*stored(&dir, name)?, AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn readlinkat(dir: impl AsFd, name: &str) -> Result<CString, Errno> {
    crash::fault(Call::Look)?;
    let _names = hold_still();
    fs::readlinkat(&dir, &*stored(&dir, name)?, Vec::new())
}

pub(super) fn mkdirat(dir: impl AsFd, name: &str, mode: u32) -> Result<(), Errno> {
    let _names = hold_still();
    fs::mkdirat(&dir, &*stored(&dir, name)?, Mode::from_raw_mode(mode))
}

pub(super) fn unlinkat(dir: impl AsFd, name: &str, flags: AtFlags) -> Result<(), Errno> {
    let _names = hold_still();
    fs::unlinkat(&dir, &*stored(&dir, name)?, flags)
}

pub(super) fn renameat(from: impl AsFd, name: &str, to: impl AsFd, new: &str) -> Result<(), Errno> {
    let _names = hold_still();
    fs::renameat(&from, &*stored(&from, name)?, &to, &*stored(&to, new)?)
}

/// As [`renameat`], but for a name that is taken: EXIST. Not every file system has it.
pub(super) fn renameat_new(from: impl AsFd, name: &str, to: impl AsFd, new: &str) -> Result<(), Errno> {
    let _names = hold_still();
    fs::renameat_with(
        &from,
        &*stored(&from, name)?,
        &to,
        &*stored(&to, new)?,
        RenameFlags::NOREPLACE,
    )
}

pub(super) fn linkat(from: impl AsFd, name: &str, to: impl AsFd, new: &str) -> Result<(), Errno> {
    let _names = hold_still();
    fs::linkat(
        &from,
        &*stored(&from, name)?,
        &to,
        &*stored(&to, new)?,
        AtFlags::empty(),
    )
}

pub(super) fn symlinkat(target: &str, dir: impl AsFd, name: &str) -> Result<(), Errno> {
    let _names = hold_still();
    fs::symlinkat(target, &dir, &*stored(&dir, name)?)
}
