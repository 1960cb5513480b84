//! A file system that folds names, for tests on those that do not, feature `simulated-folding`: between the gateway and
//! the kernel, for all roots and threads of the process.
//!
//! A directory holds one entry for all spellings that differ only in letter case or Unicode normal form, under the
//! spelling of its creation: whatever names it, to look, to make, to replace or to remove, gets that entry; reading the
//! directory gives the spelling. What tests do beside the gateway goes to the kernel directly.
//!
//! `T2GATE_TEST_FOLDING`, `folding` or `narrow`, asks for it for a whole run of the tests with all processes that they start.
#![expect(clippy::disallowed_methods, reason = "what lies below the simulation")]

use std::{
    borrow::Cow,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, Mode, OFlags, RawDir},
    io::Errno,
};
use unicode_normalization::UnicodeNormalization as _;

/// How names are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimulatedFolding {
    /// As the kernel takes them.
    Off,
    /// Case and normal form do not count.
    Folding,
    /// Nor do dots and spaces at the end, which are dropped; and some characters cannot be in a name.
    Narrow,
}

static MODE: LazyLock<AtomicU8> = LazyLock::new(|| {
    let asked = std::env::var("T2GATE_TEST_FOLDING").ok();
    AtomicU8::new(match asked.as_deref() {
        None => SimulatedFolding::Off,
        Some("folding") => SimulatedFolding::Folding,
        Some("narrow") => SimulatedFolding::Narrow,
        Some(other) => panic!("T2GATE_TEST_FOLDING: {other}"),
    } as u8)
});
/// A file system changes a directory in one step, under whatever names.
static NAMES: Mutex<()> = Mutex::new(());

/// From now on names are taken so.
pub fn simulate_folding(how: SimulatedFolding) {
    MODE.store(how as u8, Ordering::SeqCst);
}

fn mode() -> SimulatedFolding {
    match MODE.load(Ordering::SeqCst) {
        0 => SimulatedFolding::Off,
        1 => SimulatedFolding::Folding,
        _ => SimulatedFolding::Narrow,
    }
}

/// Held around every call, so that no other comes between the look at a directory and what is done there.
pub(super) fn hold_still() -> Option<MutexGuard<'static, ()>> {
    (mode() != SimulatedFolding::Off).then(|| NAMES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The path as its entries are spelled, as far as there are any.
pub(super) fn stored(dir: impl AsFd, path: &str) -> Result<Cow<'_, str>, Errno> {
    let mode = mode();
    // Of what is there as it is spelled there is no other spelling.
    if mode == SimulatedFolding::Off || fs::statat(&dir, path, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(path.into());
    }
    let mut spelled: Vec<Cow<'_, str>> = Vec::new();
    let mut reached: Option<OwnedFd> = None;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let from = reached.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        let entry = entry(from, name, mode)?;
        if names.peek().is_some() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match fs::openat(from, &*entry, flags, Mode::empty()) {
                Ok(next) => reached = Some(next),
                Err(_) => {
                    // The kernel says what is wrong with it.
                    spelled.push(entry);
                    spelled.extend(names.map(Cow::from));
                    break;
                }
            }
        }
        spelled.push(entry);
    }
    Ok(spelled.join("/").into())
}

/// The spelling that `name` has in a directory, or gets there.
fn entry<'a>(dir: BorrowedFd<'_>, name: &'a str, mode: SimulatedFolding) -> Result<Cow<'a, str>, Errno> {
    if matches!(name, "" | "." | "..") || fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(name.into());
    }
    let narrow = mode == SimulatedFolding::Narrow;
    if narrow && name.contains(|c: char| c.is_ascii_control() || "\"*:<>?\\|".contains(c)) {
        return Err(Errno::INVAL);
    }
    let kept = if narrow {
        name.trim_end_matches(['.', ' '])
    } else {
        name
    };
    let wanted = fold(kept);
    let readable = fs::openat(
        dir,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(&readable, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if let Ok(there) = entry?.file_name().to_str()
            && fold(there) == wanted
        {
            return Ok(there.to_owned().into());
        }
    }
    Ok(kept.into())
}

/// The same for all spellings of a name.
fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let cased: String = name.nfd().collect::<String>().to_uppercase().to_lowercase();
    cased.nfd().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one_and_others_are_not() {
        for (a, b) in [
            ("a", "A"),
            ("\u{e9}", "E\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            ("\u{212a}", "k"),
        ] {
            assert_eq!(fold(a), fold(b));
        }
        for (a, b) in [("a", "b"), ("e", "\u{e9}"), ("a", "a ")] {
            assert_ne!(fold(a), fold(b));
        }
    }
}
