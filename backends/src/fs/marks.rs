//! Which directories the gateway made: only those it removes when they become empty.
//!
//! Such a directory carries an extended attribute; or, where objects have [side files](super::keeping), there is an empty
//! file in `.t2/directories` of the name `INODE-SECONDS-NANOSECONDS`, the last two being its time of birth, in
//! hexadecimal. It is this that tells a directory from a later one with its inode number, which others made. A directory
//! that is copied or restored, or whose file system does not keep inode numbers, is not ours any more, and stays.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::AtFlags,
    io::Errno,
};

use super::{
    crash::{self, Call},
    dir::{self, Meta, resolve_dir},
    staging, sys, xattr,
};

/// Marks directories that the gateway made, and so may remove.
const MADE_BY_GATEWAY: &str = "user.t2gate.directory";
/// What a mark says that does not say the name.
const MARK: &[u8] = b"1";
/// In staging: the mark of a directory that is just being removed.
const REMOVING: &str = "mark.";
/// In staging: a directory that is just being made.
pub(super) const MAKING: &str = "directory.";
/// The umask says who may look into it.
const MODE: u32 = 0o777;

#[derive(Debug)]
pub(super) enum Marks {
    Attributes {
        /// With the name that the directory has: where names are folded that says more than its entry.
        named: bool,
    },
    Registry(Registry),
}

#[derive(Debug)]
pub(super) struct Registry {
    /// `.t2/directories`.
    marks: OwnedFd,
    staging: Arc<OwnedFd>,
    /// Until the start has tidied up, a mark counts that an interrupted removal has in staging.
    recovering: AtomicBool,
}

impl Registry {
    pub(super) fn new(marks: OwnedFd, staging: Arc<OwnedFd>) -> Self {
        Self {
            marks,
            staging,
            recovering: AtomicBool::new(true),
        }
    }

    pub(super) fn marks(&self) -> &OwnedFd {
        &self.marks
    }

    fn is_marked(&self, mark: &str) -> bool {
        Meta::in_dir(&self.marks, mark).is_ok() || self.is_being_removed(mark)
    }

    /// By a process that has ended.
    fn is_being_removed(&self, mark: &str) -> bool {
        self.recovering.load(Ordering::Acquire) && Meta::in_dir(&self.staging, &removing(mark)).is_ok()
    }

    /// Makes the directory where nobody sees it, marks it, and gives it its name: a process that ends in between leaves none
    /// without a mark.
    fn make_dir(&self, dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
        match resolve_dir(dir, [name]) {
            Err(Errno::NOENT) => {}
            outcome => return outcome,
        }
        match self.make_aside(dir, name) {
            Err(Errno::EXIST) => resolve_dir(dir, [name]),
            // Where a rename cannot leave a taken name alone.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match sys::mkdirat(dir, name, MODE) {
                Ok(()) => {
                    let made = resolve_dir(dir, [name])?;
                    self.mark(&mark_of(&made)?)?;
                    Ok(made)
                }
                Err(Errno::EXIST) => resolve_dir(dir, [name]),
                Err(error) => Err(error),
            },
            outcome => outcome,
        }
    }

    fn make_aside(&self, dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
        let random = staging::random_name().map_err(|_| Errno::IO)?;
        let aside = format!("{MAKING}{random}");
        crash::fault(Call::Add)?;
        sys::mkdirat(&self.staging, &aside, MODE)?;
        crash::point();
        let made = resolve_dir(self.staging.as_fd(), [aside.as_str()]).and_then(|made| {
            self.mark(&mark_of(&made)?)?;
            crash::fault(Call::Add)?;
            sys::renameat_new(&self.staging, &aside, dir, name)?;
            crash::point();
            Ok(made)
        });
        if made.is_err()
            && let Err(error) = self.remove_aside(&aside)
        {
            tracing::warn!(%error, "a directory that was not made stays in staging until the next start");
        }
        made
    }

    /// Removes a directory in staging that is empty, with its mark if it has one.
    fn remove_aside(&self, aside: &str) -> Result<(), Errno> {
        let mark = resolve_dir(self.staging.as_fd(), [aside]).and_then(mark_of)?;
        match self.remove_if_marked(self.staging.as_fd(), aside, &mark) {
            Err(Errno::PERM) => {
                crash::fault(Call::Remove)?;
                sys::unlinkat(&self.staging, aside, AtFlags::REMOVEDIR)?;
                crash::point();
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn mark(&self, mark: &str) -> Result<(), Errno> {
        match dir::create_file(&self.marks, mark) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A mark goes with its directory. A process that ends in between leaves it in staging, where the next start finds it.
    fn remove_if_marked(&self, dir: BorrowedFd<'_>, name: &str, mark: &str) -> Result<(), Errno> {
        let removing = removing(mark);
        if !self.is_being_removed(mark) {
            let child = resolve_dir(dir, [name])?;
            if dir::scan_raw(child, |_, _| ControlFlow::Break(()))? {
                return Err(Errno::NOTEMPTY);
            }
            crash::fault(Call::Remove)?;
            match sys::renameat(&self.marks, mark, &self.staging, &removing) {
                Ok(()) => crash::point(),
                Err(Errno::NOENT) => return Err(Errno::PERM),
                Err(error) => return Err(error),
            }
        }
        let removed = crash::fault(Call::Remove).and_then(|()| sys::unlinkat(dir, name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) => {
                crash::point();
                if let Err(error) = dir::unlink(&self.staging, &removing) {
                    tracing::warn!(%error, "the mark of a directory that is gone stays until the next start");
                }
                Ok(())
            }
            Err(error) => {
                crash::fault(Call::Add)?;
                sys::renameat(&self.staging, &removing, &self.marks, mark)?;
                crash::point();
                Err(error)
            }
        }
    }
}

impl Marks {
    /// Creates a directory that is marked as ours, or opens the one that is there.
    pub(super) fn make_dir(&self, dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
        let mark = match self {
            Self::Registry(registry) => return registry.make_dir(dir, name),
            Self::Attributes { named: true } => name.as_bytes(),
            Self::Attributes { named: false } => MARK,
        };
        match crash::fault(Call::Add).and_then(|()| sys::mkdirat(dir, name, MODE)) {
            Ok(()) => {
                crash::point();
                let marked = resolve_dir(dir, [name]).and_then(|made| set_mark(&made, mark).map(|()| made));
                if marked.is_err()
                    && let Err(error) =
                        crash::fault(Call::Remove).and_then(|()| sys::unlinkat(dir, name, AtFlags::REMOVEDIR))
                {
                    // Without a mark nobody will remove it later.
                    tracing::warn!(%error, "a directory stays that could not be marked");
                }
                marked
            }
            Err(Errno::EXIST) => resolve_dir(dir, [name]),
            Err(error) => Err(error),
        }
    }

    /// Marks a directory as made by the gateway.
    pub(super) fn mark(&self, dir: impl AsFd) -> Result<(), Errno> {
        match self {
            Self::Attributes { .. } => set_mark(dir, MARK),
            Self::Registry(registry) => registry.mark(&mark_of(dir)?),
        }
    }

    /// Whether the gateway made this directory.
    pub(super) fn is_marked(&self, dir: impl AsFd) -> bool {
        match self {
            Self::Attributes { .. } => xattr::is_there(dir, MADE_BY_GATEWAY),
            Self::Registry(registry) => mark_of(dir).is_ok_and(|mark| registry.is_marked(&mark)),
        }
    }

    /// Whether the gateway made the directory `name` in `dir` under this very name, as far as marks tell.
    pub(super) fn is_marked_as(&self, dir: &OwnedFd, name: &str) -> Result<bool, Errno> {
        if !matches!(self, Self::Attributes { named: true }) {
            return Ok(false);
        }
        let child = match resolve_dir(dir.as_fd(), [name]) {
            Err(error) if dir::is_no_object(error) => return Ok(false),
            outcome => outcome?,
        };
        let mut mark = Vec::with_capacity(name.len() + 1);
        let read = xattr::get(&child, MADE_BY_GATEWAY, &mut mark);
        Ok(read.is_ok() && mark == name.as_bytes())
    }

    /// Removes the directory `name` in `dir` if it is empty and the gateway made it. Whether it did. A mount point stays:
    /// the kernel refuses.
    pub(super) fn remove_if_ours(&self, dir: BorrowedFd<'_>, name: &str) -> bool {
        self.try_remove(dir, name).unwrap_or(false)
    }

    /// As [`remove_if_ours`](Self::remove_if_ours). Fails for reasons that have nothing to do with the directory.
    pub(super) fn try_remove(&self, dir: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
        match self.remove(dir, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            Err(error) if dir::is_no_object(error) => Ok(false),
            outcome => outcome,
        }
    }

    fn remove(&self, dir: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
        let child = resolve_dir(dir, [name])?;
        match self {
            Self::Attributes { .. } => {
                if !self.is_marked(&child) {
                    return Ok(false);
                }
                crash::fault(Call::Remove)?;
                sys::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
                crash::point();
            }
            Self::Registry(registry) => registry.remove_if_marked(dir, name, &mark_of(child)?)?,
        }
        Ok(true)
    }

    /// To be called when the start has tidied up.
    pub(super) fn recovered(&self) {
        if let Self::Registry(registry) = self {
            registry.recovering.store(false, Ordering::Release);
        }
    }

    /// The name of the mark that a directory has, if marks have names.
    pub(super) fn name_of(&self, dir: impl AsFd) -> Option<String> {
        match self {
            Self::Attributes { .. } => None,
            Self::Registry(_) => mark_of(dir).ok(),
        }
    }
}

fn set_mark(dir: impl AsFd, mark: &[u8]) -> Result<(), Errno> {
    crash::fault(Call::Add)?;
    xattr::set(dir, MADE_BY_GATEWAY, mark)?;
    crash::point();
    Ok(())
}

fn removing(mark: &str) -> String {
    format!("{REMOVING}{mark}")
}

fn mark_of(dir: impl AsFd) -> Result<String, Errno> {
    let Meta { ino, btime, .. } = Meta::of(dir)?;
    Ok(format!("{ino:x}-{:x}-{:x}", btime.0, btime.1))
}
