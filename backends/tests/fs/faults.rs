//! P1 when the disk is full, breaks, or descriptors run out: each system call of a write fails in turn. The error is
//! clear, what was there stays, nothing is left behind, and the backend goes on.
//!
//! Faults are for the whole process, so the test runs itself as a child that runs nothing else.

use std::process::Command;

use rustix::io::Errno;
use t2gate_backends::{
    BackendError, Durability,
    crash_points::{Call, disarm, fail},
};

use crate::{
    again,
    beside::has_side_files,
    dir_in_memory, open_at,
    ops::{Seen, content_of, expect, see, subject, try_perform},
};

const CHILD: &str = "T2GATE_FAULTS_CHILD";
const LINKS: &str = "T2GATE_TEST_LINKS";

/// What is there, and what is then tried.
const CASES: [(&[&str], &str); 26] = [
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
];

const ANY: &[Call] = &[Call::Open, Call::Add, Call::Remove, Call::Sync];
/// An error, the calls that give it, and the words that it must have.
const FAULTS: [(Errno, &[Call], &str); 3] = [
    (Errno::NOSPC, &[Call::Add, Call::Sync], "the disk is full"),
    (Errno::MFILE, &[Call::Open], "too many files are open"),
    (Errno::IO, ANY, "could not"),
];

#[test]
fn whatever_system_call_fails_the_old_object_stays_and_the_backend_goes_on() {
    run_child(None);
}

#[test]
fn the_same_where_files_cannot_have_two_names() {
    run_child(Some((LINKS, "none")));
}

fn run_child(env: Option<(&str, &str)>) {
    let outcome = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::faulty_child", "--nocapture"])
        .env(CHILD, "1")
        .envs(env)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{said}");
}

#[test]
fn faulty_child() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let probed = dir_in_memory();
    drop(again(|| open_at(probed.path())));
    let can_keep_versions = !has_side_files(probed.path());
    let mut faults = 0;
    for (before, op) in CASES {
        let is_versioned = before.contains(&"enable");
        // Where nothing would be linked it is all the same.
        let links = is_versioned || op.starts_with("multipart") || op.starts_with("repeated");
        if is_versioned && !can_keep_versions || !links && std::env::var_os(LINKS).is_some() {
            continue;
        }
        for (errno, calls, words) in FAULTS {
            for after in 0.. {
                if !runtime.block_on(one_fault(before, op, errno, calls, words, after)) {
                    break;
                }
                faults += 1;
            }
        }
    }
    assert!(faults > 300, "{faults}");
}

/// Whether the fault happened.
async fn one_fault(before: &[&str], op: &str, errno: Errno, calls: &'static [Call], words: &str, after: u64) -> bool {
    let root = dir_in_memory();
    // It goes through the motions, on whatever file system this is.
    let subject_then = subject(root.path(), "bucket", Durability::PowerSafe).await;
    let mut old = Seen::default();
    for op in before {
        try_perform(&subject_then, op).await.unwrap();
        expect(&mut old, op);
    }
    let mut new = old.clone();
    expect(&mut new, op);
    let at = format!("{errno:?} at call {after} of {op:?} after {before:?}");

    fail(calls, errno.raw_os_error(), after);
    let outcome = try_perform(&subject_then, op).await;
    let happened = disarm();
    let found = see(&subject_then).await;
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
            let half = op.starts_with("unbucket") || op.starts_with("multipart") || op.starts_with("repeated");
            assert!(found == old || half && found == new, "{at}: {}", found.in_short());
        }
    }
    let litter = || crate::crash::litter(root.path());
    // What nobody knows the outcome of is for the next start to judge, and what could not be tidied up, to tidy up.
    if !happened || outcome.is_err() && errno != Errno::IO && !read_only {
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
    }
    drop(subject_then);
    let subject = subject(root.path(), "bucket", Durability::ProcessSafe).await;
    let again = see(&subject).await;
    let known = again == found || read_only && (again == old || again == new);
    assert!(known, "{at}, after a restart");
    // An empty directory that could not be removed is seen by nobody, and not noted any more.
    if !happened || outcome.is_err() && errno != Errno::IO {
        assert_eq!(litter(), Vec::<String>::new(), "{at}, after a restart");
    }
    happened
}
