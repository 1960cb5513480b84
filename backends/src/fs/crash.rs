//! Where tests may kill the process or make a system call fail.
//!
//! A [`fault`] stands before each system call of a request that changes something, those too by which it looks at what is
//! there; a [`point`] behind each that has changed the disk. Without the feature `crash-points` they are nothing.

#[cfg(not(feature = "crash-points"))]
/// What a system call does, as far as it decides how it can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Takes a descriptor.
    Open,
    /// Reads what is there, and changes nothing.
    Look,
    /// Takes a lock between processes. To give it back is refused by no kernel.
    Lock,
    /// Needs room.
    Add,
    Remove,
    Sync,
}

/// The process ends here if a test has asked for that.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(super) fn point() {}

/// Fails if a test has asked for that.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(super) fn fault(_: Call) -> Result<(), rustix::io::Errno> {
    Ok(())
}

/// Fails if a test has asked for a file system that does not keep extended attributes of so many bytes.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(super) fn xattr_fault(_: usize) -> Result<(), rustix::io::Errno> {
    Ok(())
}

/// Fails if a test has asked for a file system where a file has one name.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(super) fn link_fault() -> Result<(), rustix::io::Errno> {
    Ok(())
}

/// A time that is set, in nanoseconds, as a file system keeps it that a test has asked for.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(super) fn rounded(nanos: i64) -> i64 {
    nanos
}

#[cfg(feature = "crash-points")]
pub(super) use armed::{Call, fault, link_fault, point, rounded, xattr_fault};

/// For tests that kill their own process or make its system calls fail, feature `crash-points`. For all roots and threads
/// of the process.
#[cfg(feature = "crash-points")]
pub mod armed {
    use std::{
        sync::{
            Condvar, LazyLock, Mutex, PoisonError,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use rustix::io::Errno;

    /// What a system call does, as far as it decides how it can fail.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Call {
        /// Takes a descriptor.
        Open,
        /// Reads what is there, and changes nothing.
        Look,
        /// Takes a lock between processes. To give it back is refused by no kernel.
        Lock,
        /// Needs room.
        Add,
        Remove,
        Sync,
    }

    static PASSED: AtomicU64 = AtomicU64::new(0);
    /// 0: never.
    static LAST: AtomicU64 = AtomicU64::new(0);
    static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());
    /// Of syncs, and of all else.
    static DELAY_NANOS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    static SYNCS: AtomicU64 = AtomicU64::new(0);
    static HELD: Mutex<bool> = Mutex::new(false);
    static RELEASED: Condvar = Condvar::new();
    /// What `T2GATE_TEST_XATTRS` asks for: `none`, or how many bytes an extended attribute can have. Of the environment, so
    /// that it holds for a whole run of the tests with all processes that they start.
    static XATTRS: LazyLock<Option<Result<usize, Errno>>> = LazyLock::new(|| {
        let asked = std::env::var("T2GATE_TEST_XATTRS").ok()?;
        Some(match asked.as_str() {
            "none" => Err(Errno::OPNOTSUPP),
            bytes => Ok(bytes.parse().expect("`none` or a number of bytes")),
        })
    });

    /// `T2GATE_TEST_LINKS=none`.
    static HAS_LINKS: LazyLock<bool> = LazyLock::new(|| {
        let asked = std::env::var("T2GATE_TEST_LINKS").ok();
        asked.is_none_or(|asked| {
            assert_eq!(asked, "none", "T2GATE_TEST_LINKS");
            false
        })
    });

    /// `T2GATE_TEST_TICK`: what times are multiples of, in nanoseconds.
    static TICK: LazyLock<i64> = LazyLock::new(|| {
        let asked = std::env::var("T2GATE_TEST_TICK").ok();
        asked.map_or(1, |tick| tick.parse().expect("a number of nanoseconds"))
    });

    #[derive(Debug)]
    struct Fault {
        calls: &'static [Call],
        errno: i32,
        /// How many such calls succeed before it.
        after: u64,
        /// Whether all that come behind it fail too.
        stays: bool,
        happened: bool,
    }

    /// From now on the `nth` point that any thread passes kills the process, as SIGKILL does. 0 kills nothing.
    pub fn arm(nth: u64) {
        PASSED.store(0, Ordering::SeqCst);
        LAST.store(nth, Ordering::SeqCst);
    }

    /// The first of these `calls` after so many fails with this error number. Once; beside what was asked for before.
    pub fn fail(calls: &'static [Call], errno: i32, after: u64) {
        add(calls, errno, after, false);
    }

    /// As [`fail`], and so does every such call behind it, until [`disarm`].
    pub fn fail_from(calls: &'static [Call], errno: i32, after: u64) {
        add(calls, errno, after, true);
    }

    fn add(calls: &'static [Call], errno: i32, after: u64, stays: bool) {
        FAULTS.lock().unwrap_or_else(PoisonError::into_inner).push(Fault {
            calls,
            errno,
            after,
            stays,
            happened: false,
        });
    }

    /// From now on every sync takes so much longer: disks differ, and on a fast one nobody waits for anybody.
    pub fn delay_syncs(by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        DELAY_NANOS[0].store(nanos, Ordering::SeqCst);
    }

    /// From now on every other change takes so much longer, before it is made: between what is judged and what is done
    /// then others have time.
    pub fn delay_changes(by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        DELAY_NANOS[1].store(nanos, Ordering::SeqCst);
    }

    /// Whether syncs that begin from now on wait until they are released.
    pub fn hold_syncs(held: bool) {
        *HELD.lock().unwrap_or_else(PoisonError::into_inner) = held;
        RELEASED.notify_all();
    }

    /// How many syncs have begun, held ones too; but those by which writers share one.
    pub fn syncs() -> u64 {
        SYNCS.load(Ordering::SeqCst)
    }

    /// Nothing fails any more. Whether all did that was to fail, if there was anything.
    pub fn disarm() -> bool {
        let faults = std::mem::take(&mut *FAULTS.lock().unwrap_or_else(PoisonError::into_inner));
        !faults.is_empty() && faults.iter().all(|fault| fault.happened)
    }

    pub(in crate::fs) fn point() {
        let last = LAST.load(Ordering::SeqCst);
        if last != 0 && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == last {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a process may kill itself");
            // It takes a moment, in which nothing more may happen.
            loop {
                std::thread::park();
            }
        }
    }

    pub(in crate::fs) fn rounded(nanos: i64) -> i64 {
        nanos - nanos.rem_euclid(*TICK)
    }

    pub(in crate::fs) fn link_fault() -> Result<(), Errno> {
        if *HAS_LINKS { Ok(()) } else { Err(Errno::PERM) }
    }

    pub(in crate::fs) fn xattr_fault(bytes: usize) -> Result<(), Errno> {
        match *XATTRS {
            None => Ok(()),
            Some(Ok(most)) if bytes <= most => Ok(()),
            Some(Ok(_)) => Err(Errno::NOSPC),
            Some(Err(errno)) => Err(errno),
        }
    }

    pub(in crate::fs) fn fault(call: Call) -> Result<(), Errno> {
        let delay = match call {
            Call::Open | Call::Look | Call::Lock => 0,
            Call::Sync => DELAY_NANOS[0].load(Ordering::SeqCst),
            Call::Add | Call::Remove => DELAY_NANOS[1].load(Ordering::SeqCst),
        };
        if delay > 0 {
            std::thread::sleep(Duration::from_nanos(delay));
        }
        if call == Call::Sync {
            SYNCS.fetch_add(1, Ordering::SeqCst);
            let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            drop(RELEASED.wait_while(held, |held| *held));
        }
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults
            .iter_mut()
            .filter(|fault| (fault.stays || !fault.happened) && fault.calls.contains(&call))
        {
            if fault.after == 0 {
                fault.happened = true;
                return Err(Errno::from_raw_os_error(fault.errno));
            }
            fault.after -= 1;
        }
        Ok(())
    }
}
