//! P1 when the disk is full, breaks, or descriptors run out: each system call of a request fails in turn, once, or with
//! all that come behind it. The error is clear, what was there stays, nothing is left behind, and the backend goes on.
//!
//! Faults are for the whole process, so each test runs itself as a child that runs nothing else.
//! `T2GATE_TEST_FAULTS=all` tries every request in each of the ways, not only in the first.

use std::{path::Path, process::Command, sync::Arc};

use rustix::io::Errno;
use t2gate_backends::{
    BackendError, Durability, FsOptions, SystemClock,
    conformance::Subject,
    crash_points::{Call, disarm, fail, fail_from},
};
use tempfile::TempDir;

use crate::{
    FOLDING, dir_in_memory, names_fold,
    ops::{Seen, content_of, expect, list, see, subject, subject_of, try_perform},
};

/// What a child does: the words of a [`Way`].
const CHILD: &str = "T2GATE_FAULTS_CHILD";
const ALL: &str = "T2GATE_TEST_FAULTS";
const LINKS: &str = "T2GATE_TEST_LINKS";

/// What is there, and what is then tried.
const CASES: [(&[&str], &str); 35] = [
    (&[], "put a 1 10"),
    (&["put a 1 10"], "put a 2 10"),
    (&["put a 1 10"], "put a 2 300000"),
    (&["put a 1 10"], "put a/b/c 2 10"),
    (&["put a/b 1 10"], "put a 2 10"),
    (&["put a/b 1 10", "put a 2 10", "delete a/b"], "put a 3 10"),
    (&["large a 1"], "large a 2"),
    (&["large a 1"], "put d/e/f 2 10"),
    (&["put a 1 300000"], "copy a d/e"),
    (&["put a 1 10"], "multipart a 2 3"),
    (&["put a 1 10"], "repeated a 2"),
    (&["put d/e 1 10"], "delete d/e"),
    (&["large a 1", "put a/b 2 10"], "delete a"),
    (&[], "bucket other"),
    (&["bucket other"], "unbucket other"),
    (&["bucket other", "begin other"], "unbucket other"),
    (&["put d/a 1 10", "enable"], "put d/a 2 10"),
    (&["enable", "large d/a 1"], "large d/a 2"),
    (&["enable", "put d/a 1 10"], "delete d/a"),
    (&["put d/a 1 10", "enable"], "delete d/a"),
    (&["enable", "put d/a 1 10", "delete d/a"], "delete-version d/a 0"),
    (&["enable", "large d/a 1", "put d/a 2 10"], "delete-version d/a 0"),
    (&["enable", "large d/a 1", "put d/a 2 10"], "delete-version d/a 1"),
    (&["enable", "put d/a 1 10"], "delete-version d/a 0"),
    (&["enable", "large a 1", "suspend", "large a 2"], "large a 3"),
    (&["large a 1", "enable", "put a 2 10", "suspend"], "delete a"),
    (&["put a 1 10"], "enable"),
    (&["put a 1 10", "enable"], "suspend"),
    (&["put a 1 10"], "acl public-read"),
    (&[], "initiate uploads/u"),
    (&["initiate uploads/u"], "part uploads/u 1"),
    (&["initiate uploads/u", "part uploads/u 1"], "part uploads/u 2"),
    (&["initiate uploads/u"], "abort uploads/u"),
    (
        &["initiate uploads/u", "part uploads/u 1", "part uploads/u 2"],
        "abort uploads/u",
    ),
    (&["enable", "put a 1 10"], "repeated a 2"),
];

/// And where names fold.
const FOLDED: &[(&[&str], &str)] = &[
    (&["put A 1 10"], "put a 2 10"),
    (&["put A/b 1 10"], "put a/b 2 10"),
    (&["put A 1 10", "put a 2 10"], "put a/b 3 10"),
    (&["put A/b 1 10", "put a/b 2 10"], "delete a/b"),
    (&["enable", "put A 1 10", "large a 2"], "put a 3 10"),
    (&["enable", "put A 1 10", "put a 2 10"], "delete a"),
    (
        &["enable", "put a 1 10", "delete a", "put A 2 10"],
        "delete-version a 0",
    ),
    (
        &["enable", "put d/a 1 10", "delete d/a", "put D/a 2 10"],
        "delete-version d/a 0",
    ),
    (
        &["enable", "put A 1 10", "large a 2", "put a 3 10"],
        "delete-version a 0",
    ),
    (&["put A 1 10", "put a 2 10", "enable", "suspend"], "delete a"),
];

/// Those of them that go another way each, for the ways in which not all are tried.
const CHOSEN: [usize; 12] = [1, 3, 4, 6, 10, 11, 15, 16, 21, 26, 31, 33];
/// And where each root has hundreds of lock files.
const SOME: [usize; 4] = [4, 11, 16, 33];
/// And for a disk.
const FEW: [usize; 3] = [1, 11, 16];

const ANY: &[Call] = &[Call::Open, Call::Look, Call::Lock, Call::Add, Call::Remove, Call::Sync];
/// An error, the calls that give it, and the words that it must have.
const FAULTS: [(Errno, &[Call], &str); 3] = [
    (Errno::NOSPC, &[Call::Add, Call::Sync], "the disk is full"),
    (Errno::MFILE, &[Call::Open], "too many files are open"),
    (Errno::IO, ANY, "could not"),
];

/// In what way they are tried.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Others may serve the root.
    shared: bool,
    /// What failed fails from then on.
    stays: bool,
    /// On the file system of the temporary directory: where that is a disk, writers may share syncs.
    on_disk: bool,
}

impl Way {
    const ONCE: Self = Self {
        shared: false,
        stays: false,
        on_disk: false,
    };

    fn parse(words: &str) -> Self {
        let has = |word| words.split(' ').any(|has| has == word);
        Self {
            shared: has("shared"),
            stays: has("stays"),
            on_disk: has("disk"),
        }
    }

    fn words(self) -> String {
        let words = [
            (true, "way"),
            (self.shared, "shared"),
            (self.stays, "stays"),
            (self.on_disk, "disk"),
        ];
        let words: Vec<_> = words
            .into_iter()
            .filter_map(|(has, word)| has.then_some(word))
            .collect();
        words.join(" ")
    }

    fn dir(self) -> TempDir {
        if self.on_disk {
            tempfile::tempdir().unwrap()
        } else {
            dir_in_memory()
        }
    }

    /// It goes through the motions of a sync, on whatever file system this is.
    async fn subject(self, root: &Path) -> Subject {
        let options = FsOptions {
            shared: self.shared,
            ..FsOptions::new(root, Arc::new(SystemClock))
        };
        subject_of(options, "bucket").await
    }
}

#[test]
fn whatever_system_call_fails_the_old_object_stays_and_the_backend_goes_on() {
    run_child(Way::ONCE, None);
}

#[test]
fn the_same_where_files_cannot_have_two_names() {
    run_child(Way::ONCE, Some((LINKS, "none")));
}

#[test]
fn the_same_where_names_fold() {
    run_child(Way::ONCE, Some((FOLDING, "folding")));
}

#[test]
fn the_same_of_a_process_that_shares_its_root() {
    run_child(
        Way {
            shared: true,
            ..Way::ONCE
        },
        None,
    );
}

/// What was begun cannot be cleared away either.
#[test]
fn the_same_where_it_fails_from_then_on() {
    run_child(
        Way {
            stays: true,
            ..Way::ONCE
        },
        None,
    );
}

/// And is for others to clear away.
#[test]
fn the_same_where_it_fails_from_then_on_in_a_process_that_shares_its_root() {
    run_child(
        Way {
            shared: true,
            stays: true,
            ..Way::ONCE
        },
        None,
    );
}

/// There a change is tried behind each sync.
#[test]
fn the_same_on_the_disk_that_tests_have() {
    run_child(
        Way {
            on_disk: true,
            ..Way::ONCE
        },
        None,
    );
}

fn run_child(way: Way, env: Option<(&str, &str)>) {
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::faulty_child", "--nocapture"])
        .env(CHILD, way.words())
        .envs(env)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{way:?}: {said}");
}

#[test]
fn faulty_child() {
    let Ok(way) = std::env::var(CHILD) else {
        return;
    };
    let way = Way::parse(&way);
    let all = std::env::var(ALL).is_ok();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut faults = 0;
    let folded = if names_fold() { FOLDED } else { &[] };
    for (n, (before, op)) in CASES.iter().chain(folded).copied().enumerate() {
        let is_tried = match way {
            _ if all => true,
            _ if names_fold() => n >= CASES.len(),
            Way { on_disk: true, .. } => FEW.contains(&n),
            Way { shared: true, .. } => SOME.contains(&n),
            Way { stays: true, .. } => CHOSEN.contains(&n),
            _ => true,
        };
        if !is_tried {
            continue;
        }
        let is_versioned = before.contains(&"enable") || op == "enable";
        // Where nothing would be linked it is all the same.
        let links = is_versioned || op.starts_with("multipart") || op.starts_with("repeated");
        if !links && std::env::var_os(LINKS).is_some() {
            continue;
        }
        for (errno, calls, words) in FAULTS {
            for after in 0.. {
                let fault = Fault {
                    errno,
                    calls,
                    words,
                    after,
                };
                if !runtime.block_on(one_fault(way, before, op, fault)) {
                    break;
                }
                faults += 1;
            }
        }
    }
    println!("{faults} faults");
    assert!(faults > 150, "{faults}");
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    errno: Errno,
    calls: &'static [Call],
    words: &'static str,
    after: u64,
}

/// Says where it was when something panics elsewhere.
struct Told<'a>(&'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Whether the fault happened.
async fn one_fault(way: Way, before: &[&str], op: &str, fault: Fault) -> bool {
    let Fault {
        errno,
        calls,
        words,
        after,
    } = fault;
    let root = way.dir();
    let subject_then = way.subject(root.path()).await;
    let mut old = Seen::default();
    for op in before {
        try_perform(&subject_then, op).await.unwrap();
        expect(&mut old, op);
    }
    let mut new = old.clone();
    expect(&mut new, op);
    let at = format!("{errno:?} at call {after} of {op:?} after {before:?}");
    let _told = Told(&at);

    if way.stays {
        fail_from(calls, errno.raw_os_error(), after);
    } else {
        fail(calls, errno.raw_os_error(), after);
    }
    let outcome = try_perform(&subject_then, op).await;
    let happened = disarm();
    if way.stays && outcome.is_err() {
        // Of a delete that could neither be ended nor undone a reader by name hears when somebody looks at the versions.
        list(&subject_then).await.unwrap();
    }
    let mut found = see(&subject_then).await;
    let read_only = matches!(subject_then.ready().await, Err(BackendError::ReadOnly));
    // To have no descriptor left is no failed sync.
    assert!(errno != Errno::MFILE || !read_only, "{at}: read only");
    match &outcome {
        // What is only tidying may fail.
        Ok(()) => assert!(found == new, "{at}: done, and not there: {}", found.in_short()),
        Err(error) if read_only => {
            assert!(error.to_string().contains("outcome is unknown"), "{at}: {error}");
            assert!(found == old || found == new, "{at}: {}", found.in_short());
        }
        Err(error) => {
            assert!(error.to_string().contains(words), "{at}: {error}");
            // Removing may have come half of its way; writing not.
            let half = op.starts_with("unbucket") || way.stays && op.starts_with("delete");
            assert!(found == old || half && found == new, "{at}: {}", found.in_short());
        }
    }
    let litter = || {
        let mut litter = crate::crash::litter(root.path());
        if way.stays {
            // Empty directories of histories go with their bucket at the latest.
            litter.retain(|path| !path.contains("/.t2/versions/"));
        }
        litter
    };
    // What nobody knows the outcome of is for the next start to judge, and what could not be tidied up, to tidy up.
    if !happened || outcome.is_err() && errno != Errno::IO && !read_only && !way.stays {
        assert_eq!(litter(), Vec::<String>::new(), "{at}");
    }
    if !read_only {
        try_perform(&subject_then, "put after 7 10")
            .await
            .unwrap_or_else(|error| panic!("{at}: then {error}"));
        assert_eq!(subject_then.get("after").await, Some(content_of("7", "10")));
        for _ in 0..2 {
            try_perform(&subject_then, "delete-version after 0").await.unwrap();
        }
        // An upload that did not end goes on.
        for upload in found.uploads.clone().keys() {
            let part = format!("part {upload} 9");
            let outcome = try_perform(&subject_then, &part).await;
            outcome.unwrap_or_else(|error| panic!("{at}: {part}, then {error}"));
            expect(&mut found, &part);
            assert_eq!(see(&subject_then).await, found, "{at}, {part}");
        }
    }
    drop(subject_then);
    let subject = match way.shared {
        true => way.subject(root.path()).await,
        false => subject(root.path(), "bucket", Durability::ProcessSafe).await,
    };
    let again = see(&subject).await;
    let known = again == found || read_only && (again == old || again == new);
    assert!(known, "{at}, after a restart");
    // An empty directory that could not be removed is seen by nobody, and not noted any more; or was not where there was no
    // room for a note.
    if !happened || outcome.is_err() && errno != Errno::IO && !(way.stays && read_only) {
        assert_eq!(litter(), Vec::<String>::new(), "{at}, after a restart");
    }
    happened
}
