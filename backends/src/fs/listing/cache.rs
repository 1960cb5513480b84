//! Directories' names, kept in order from one listing to the next, in so much memory and no more.
//!
//! What is kept is known to hold still in one of two ways:
//! - The directory's change time is that of the reading. Nobody can set a change time, but it is no finer than the tick
//!   of a clock: so one that was within a tick of the reading proves nothing, as another change may have it too.
//! - The directory is watched: then what changed is looked at again, name by name, and a busy directory costs what
//!   changes in it. This is for large directories that were seen to change, on file systems that this kernel alone
//!   writes to. Here a change time that nothing told explains why is taken for a change as well.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
    time::{ClockId, clock_gettime},
};

use super::{
    lines::{Lines, PageLines},
    snapshot::{self, Piece, Snapshot, Tree},
    watch::{self, Change, Watches},
};
use crate::fs::{
    dir::{self, Meta},
    locks::Moves,
};

/// Directories with fewer entries are read again rather than watched.
const WATCHED_FROM: usize = 512;
/// So many changes, and the directory is read again.
const MAX_CHANGES: usize = 16 * 1024;
/// No reading of a directory takes less memory than this, or more than that, in bytes; beyond it goes piece by piece.
const WINDOWS: std::ops::RangeInclusive<usize> = 256 * 1024..=512 * 1024 * 1024;
/// What a directory costs beside its names, in bytes.
const DIRECTORY_COST: usize = 384;
/// What is remembered of a directory that holds an object, in bytes, with the map around it.
const HOLDER_COST: usize = 96;
/// Longer than a tick of any kernel's clock.
const TICK: Duration = Duration::from_millis(20);
/// The tick where change times are whole seconds.
const COARSE_TICK: Duration = Duration::from_millis(2500);

/// Seconds and nanoseconds.
type Time = (i64, u32);

/// Which directory. An inode number is used again, a birth time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Id {
    dev: (u32, u32),
    ino: u64,
    btime: Time,
}

impl From<&Meta> for Id {
    fn from(meta: &Meta) -> Self {
        Self {
            dev: meta.dev,
            ino: meta.ino,
            btime: meta.btime,
        }
    }
}

/// The names of directories, kept, and what else is known of one listing at the next.
#[derive(Debug)]
pub(in crate::fs) struct ListingCache {
    /// Of all: half is for names, an eighth for holders, three eighths for lines.
    limit: usize,
    /// Whether names are folded: then a change is not always told under the name that is there, and nothing is watched.
    folded: bool,
    watches: Option<Watches>,
    kept: Mutex<Kept>,
    holders: Mutex<Holders>,
    lines: Lines,
    #[cfg(test)]
    reads: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    directories: HashMap<Id, Slot>,
    /// By the time of their last use.
    order: BTreeMap<u64, Id>,
    uses: u64,
    bytes: usize,
    watched: HashMap<i32, Id>,
    /// By device.
    local: HashMap<(u32, u32), bool>,
}

#[derive(Debug)]
struct Slot {
    directory: Arc<Directory>,
    last_use: u64,
    bytes: usize,
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    watch: i32,
    changes: Changes,
}

/// What was told of a directory.
#[derive(Debug, Default)]
struct Changes {
    any: bool,
    names: BTreeSet<Box<str>>,
}

#[derive(Debug, Default)]
struct Directory {
    /// How many readings have begun.
    readings: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// A change time, and since when we know it.
    seen: Option<(Time, Instant)>,
}

#[derive(Debug)]
struct Held {
    snapshot: Arc<Snapshot>,
    pieces: Vec<Piece>,
    ctime: Time,
    /// As long as the change time is this, nothing has changed.
    settled: bool,
    watch: Option<i32>,
}

impl ListingCache {
    /// Keeps at most about `limit` bytes.
    pub(in crate::fs) fn new(limit: usize, folded: bool) -> Self {
        Self {
            limit,
            folded,
            watches: if folded { None } else { Watches::new() },
            kept: Mutex::default(),
            holders: Mutex::default(),
            lines: Lines::new(limit / 8 * 3),
            #[cfg(test)]
            reads: AtomicU64::new(0),
        }
    }

    /// How many bytes of names are kept.
    pub(in crate::fs) fn used(&self) -> usize {
        self.kept().bytes
    }

    /// The most bytes that a snapshot has, about.
    pub(in crate::fs) fn window(&self) -> usize {
        (self.limit / 8 * 3).clamp(*WINDOWS.start(), *WINDOWS.end())
    }

    /// The entries of a directory from `from` on, or from before that, as they are now. A directory belongs to one
    /// tree.
    pub(in crate::fs) fn entries(
        &self,
        tree: Tree,
        dir: &OwnedFd,
        moves: &Moves,
        from: &str,
    ) -> Result<Arc<Snapshot>, Errno> {
        let meta = Meta::of(dir)?;
        let id = Id::from(&meta);
        let directory = self.directory(id);
        let arrived = directory.readings.load(Ordering::SeqCst);
        let mut state = directory.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waited for a reading that began later than this listing need not do it again.
        let read_meanwhile = directory.readings.load(Ordering::SeqCst) > arrived;
        if let Some(held) = &state.held
            && read_meanwhile
            && held.snapshot.covers(from)
        {
            return Ok(Arc::clone(&held.snapshot));
        }
        let before = state.held.take();
        let changed_before = before.as_ref().map(|held| held.snapshot.len());
        let held = match before {
            Some(held) if held.snapshot.covers(from) => self.bring_up_to_date(held, dir, id, moves)?,
            _ => None,
        };
        let held = match held {
            Some(held) => held,
            None => {
                directory.readings.fetch_add(1, Ordering::SeqCst);
                self.read(tree, dir, id, moves, from, changed_before, &mut state.seen)?
            }
        };
        let snapshot = Arc::clone(&held.snapshot);
        let pieces = held.pieces.len() * size_of::<Piece>() * 4;
        state.held = Some(held);
        self.account(id, DIRECTORY_COST + snapshot.bytes() + pieces);
        Ok(snapshot)
    }

    /// `None` where it has to be read again.
    fn bring_up_to_date(&self, mut held: Held, dir: &OwnedFd, id: Id, moves: &Moves) -> Result<Option<Held>, Errno> {
        let Some(watch) = held.watch else {
            let same = held.settled && Meta::of(dir)?.ctime == held.ctime && pieces_are(dir, &held.pieces)?;
            return Ok(same.then_some(held));
        };
        let Some(mut changes) = self.changes(id, watch) else {
            // Not watched any more.
            return Ok(None);
        };
        if !changes.any {
            if Meta::of(dir)?.ctime == held.ctime {
                return Ok(Some(held));
            }
            // It may have been told since.
            changes = self.changes(id, watch).unwrap_or_default();
        }
        if !changes.any || !apply(&changes, &mut held.snapshot, dir, moves)? {
            return Ok(None);
        }
        held.ctime = Meta::of(dir)?.ctime;
        Ok(Some(held))
    }

    #[expect(clippy::too_many_arguments, reason = "all of one caller's")]
    fn read(
        &self,
        tree: Tree,
        dir: &OwnedFd,
        id: Id,
        moves: &Moves,
        from: &str,
        changed_before: Option<usize>,
        seen: &mut Option<(Time, Instant)>,
    ) -> Result<Held, Errno> {
        #[cfg(test)]
        self.reads.fetch_add(1, Ordering::SeqCst);
        let is_local = self.is_local(dir, id);
        let is_busy = changed_before.is_some_and(|len| len >= WATCHED_FROM);
        let read = || snapshot::read(tree, dir, self.folded, from, self.window());
        if is_busy
            && is_local
            && let Some(watch) = self.watch(dir, id)
        {
            // What changes or moves meanwhile is told of, and looked at again.
            let (snapshot, pieces) = read()?;
            let mut snapshot = Arc::new(snapshot);
            if pieces.is_empty()
                && let Some(changes) = self.changes(id, watch)
                && apply(&changes, &mut snapshot, dir, moves)?
            {
                return Ok(Held {
                    snapshot,
                    pieces,
                    ctime: Meta::of(dir)?.ctime,
                    settled: false,
                    watch: Some(watch),
                });
            }
        }
        let before = Meta::of(dir)?.ctime;
        let mut settled = is_settled(before, is_local, seen);
        let (snapshot, pieces) = moves.undisturbed(read)?;
        for piece in &pieces {
            settled &= is_local && piece.meta.is_some_and(|piece| is_settled(piece.ctime, true, &mut None));
        }
        let ctime = Meta::of(dir)?.ctime;
        Ok(Held {
            snapshot: Arc::new(snapshot),
            pieces,
            ctime,
            settled: settled && ctime == before,
            watch: None,
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, id: Id) -> Arc<Directory> {
        if let Some(slot) = self.kept().directories.get(&id) {
            return Arc::clone(&slot.directory);
        }
        let directory = Arc::clone(
            &self
                .kept()
                .directories
                .entry(id)
                .or_insert_with(|| Slot {
                    directory: Arc::default(),
                    last_use: 0,
                    bytes: 0,
                    watched: None,
                })
                .directory,
        );
        self.account(id, DIRECTORY_COST);
        directory
    }

    /// Notes a use, and lets go of those used longest ago where there is too much.
    fn account(&self, id: Id, bytes: usize) {
        let kept = &mut *self.kept();
        let Some(slot) = kept.directories.get_mut(&id) else {
            return;
        };
        kept.uses += 1;
        kept.order.remove(&slot.last_use);
        kept.order.insert(kept.uses, id);
        kept.bytes = kept.bytes - slot.bytes + bytes;
        slot.last_use = kept.uses;
        slot.bytes = bytes;
        while kept.bytes > self.limit / 2
            && let Some((_, oldest)) = kept.order.first_key_value()
        {
            let oldest = *oldest;
            self.let_go(kept, oldest);
        }
    }

    fn let_go(&self, kept: &mut Kept, id: Id) {
        let Some(slot) = kept.directories.remove(&id) else {
            return;
        };
        kept.order.remove(&slot.last_use);
        kept.bytes -= slot.bytes;
        if let Some(watched) = slot.watched {
            kept.watched.remove(&watched.watch);
            if let Some(watches) = &self.watches {
                watches.remove(watched.watch);
            }
        }
    }

    fn is_local(&self, dir: &OwnedFd, id: Id) -> bool {
        *self.kept().local.entry(id.dev).or_insert_with(|| watch::is_local(dir))
    }

    /// Watches a directory, if it can be: what was told of it before is forgotten.
    fn watch(&self, dir: &OwnedFd, id: Id) -> Option<i32> {
        let watches = self.watches.as_ref()?;
        if watch::is_folding(dir) {
            return None;
        }
        let kept = &mut *self.kept();
        let slot = kept.directories.get_mut(&id)?;
        let watch = watches.add(dir).ok()?;
        slot.watched = Some(Watched {
            watch,
            changes: Changes::default(),
        });
        kept.watched.insert(watch, id);
        Some(watch)
    }

    /// What was told of a directory. `None` where it is not watched, not by this watch, any more.
    fn changes(&self, id: Id, watch: i32) -> Option<Changes> {
        let kept = &mut *self.kept();
        if let Some(watches) = &self.watches {
            let mut lost = false;
            watches.drain(|change| {
                let (from, name) = match change {
                    Change::Name(from, name) => (from, name),
                    Change::Ended(from) => {
                        let slot = kept.watched.remove(&from).and_then(|id| kept.directories.get_mut(&id));
                        if let Some(slot) = slot {
                            slot.watched = None;
                        }
                        return;
                    }
                    Change::Lost => return lost = true,
                };
                let slot = kept.watched.get(&from).and_then(|id| kept.directories.get_mut(id));
                if let Some(watched) = slot.and_then(|slot| slot.watched.as_mut()) {
                    watched.changes.any = true;
                    watched.changes.names.extend(name.map(Into::into));
                }
            });
            let too_many = |slot: &Slot| {
                let watched = slot.watched.as_ref();
                watched.is_some_and(|watched| watched.changes.names.len() > MAX_CHANGES)
            };
            let gone: Vec<Id> = kept
                .watched
                .values()
                .filter(|id| lost || kept.directories.get(id).is_none_or(too_many))
                .copied()
                .collect();
            for id in gone {
                self.let_go(kept, id);
            }
        }
        let watched = kept.directories.get_mut(&id)?.watched.as_mut()?;
        (watched.watch == watch).then(|| std::mem::take(&mut watched.changes))
    }

    /// Whether the directory is known to hold a file of an object itself, whose name has at most `max_name` bytes.
    pub(super) fn holds_object(&self, meta: &Meta, max_name: usize) -> bool {
        let holders = &mut *self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Id::from(meta);
        let known = match holders.young.get(&id) {
            Some(known) => Some(*known),
            None => {
                let known = holders.old.remove(&id);
                if let Some(known) = known {
                    self.remember(holders, id, known);
                }
                known
            }
        };
        known.is_some_and(|(ctime, name)| ctime == meta.ctime && usize::from(name) <= max_name)
    }

    /// `meta` is from before the file was seen, whose name has `name` bytes.
    pub(super) fn found_object(&self, dir: &OwnedFd, meta: &Meta, name: usize) {
        let id = Id::from(meta);
        let Ok(name) = u16::try_from(name) else {
            return;
        };
        if self.is_local(dir, id) && is_settled(meta.ctime, true, &mut None) {
            let holders = &mut *self.holders.lock().unwrap_or_else(PoisonError::into_inner);
            self.remember(holders, id, (meta.ctime, name));
        }
    }

    /// The lines of objects that a page of the bucket with this directory may use. `with_files`: attributes go with files.
    pub(super) fn lines(&self, bucket_dir: &OwnedFd, with_files: bool) -> Result<PageLines<'_>, Errno> {
        let device = if with_files && !self.folded {
            let meta = Meta::of(bucket_dir)?;
            self.is_local(bucket_dir, Id::from(&meta)).then_some(meta.dev)
        } else {
            None
        };
        Ok(PageLines::new(&self.lines, device))
    }

    fn remember(&self, holders: &mut Holders, id: Id, known: (Time, u16)) {
        // A part of the memory is for these: half of that for the young, which then become the old.
        if holders.young.len() >= self.limit / 8 / 2 / HOLDER_COST {
            holders.old = std::mem::take(&mut holders.young);
        }
        holders.young.insert(id, known);
    }
}

/// Directories that hold an object: the change time that this is known for, and the length of its name.
#[derive(Debug, Default)]
struct Holders {
    young: HashMap<Id, (Time, u16)>,
    old: HashMap<Id, (Time, u16)>,
}

/// Looks at the names again that something was told of. `false` where that is not enough.
fn apply(changes: &Changes, snapshot: &mut Arc<Snapshot>, dir: &OwnedFd, moves: &Moves) -> Result<bool, Errno> {
    if changes.names.is_empty() {
        return Ok(true);
    }
    let snapshot = Arc::make_mut(snapshot);
    for name in &changes.names {
        if !moves.undisturbed(|| snapshot.refresh(dir, name))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a change that happens from now on gives another change time than this. `seen` is for where the clock that it
/// is from is not ours.
pub(in crate::fs) fn is_settled(ctime: Time, is_local: bool, seen: &mut Option<(Time, Instant)>) -> bool {
    let tick = if ctime.1 == 0 { COARSE_TICK } else { TICK };
    if is_local {
        // The clock that the kernel takes the times of files from.
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let since = nanos(now.tv_sec, now.tv_nsec) - nanos(ctime.0, i64::from(ctime.1));
        return since > i128::try_from(tick.as_nanos()).unwrap_or(i128::MAX);
    }
    match seen {
        Some((time, at)) if *time == ctime => at.elapsed() > tick,
        _ => {
            *seen = Some((ctime, Instant::now()));
            false
        }
    }
}

fn pieces_are(dir: &OwnedFd, pieces: &[Piece]) -> Result<bool, Errno> {
    for piece in pieces {
        let now = match dir::resolve_dir(dir.as_fd(), piece.names.iter().map(|n| &**n)) {
            Ok(piece) => Some(Meta::of(&piece)?),
            Err(error) if dir::is_no_object(error) => None,
            Err(error) => return Err(error),
        };
        if now.as_ref().map(|meta| (Id::from(meta), meta.ctime))
            != piece.meta.as_ref().map(|meta| (Id::from(meta), meta.ctime))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
