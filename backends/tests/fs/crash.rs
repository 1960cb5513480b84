//! P1 and P2 when the process ends in the middle: killed behind every system call that changes the disk, and started
//! again. Every acknowledged write is there byte for byte, nothing is half there, and nothing is left behind.
//!
//! The test runs itself as a child, which kills itself at the point that it was told. `T2GATE_TEST_CRASHES=200` adds so
//! many scenarios made at random. Where names fold, all of the test is a child in which they do.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use t2gate_backends::{
    BackendError, BucketName, Durability, FsBackend, FsOptions, UploadEntry, conformance::Subject, crash_points,
};

use crate::{
    FOLDING, again,
    beside::{has_side_files, mark_of, side_files},
    dir_in_memory, is_child_with, names_fold, open_at,
    ops::{Op, Ops, Seen, clear, expect, list, perform, see, subject_of},
};

const ROOT: &str = "T2GATE_CRASH_ROOT";
const SCENARIO: &str = "T2GATE_CRASH_SCENARIO";
const POINT: &str = "T2GATE_CRASH_POINT";
/// Whether the root is shared.
const SHARED: &str = "T2GATE_CRASH_SHARED";
/// Whether what is acknowledged is synced.
const SYNCED: &str = "T2GATE_CRASH_SYNCED";
/// The scenario in which a root is opened, and nothing else.
const START: &str = "start";
/// Scenarios made at random, in addition.
const MORE: &str = "T2GATE_TEST_CRASHES";

struct Scenario {
    before: Vec<Op>,
    /// Those that the child is killed in.
    ops: Vec<Op>,
    /// They may have nothing to do.
    random: bool,
}

impl Scenario {
    fn needs_versions(&self) -> bool {
        self.before.iter().chain(&self.ops).any(|op| op == "enable")
    }
}

fn scenarios() -> Vec<Scenario> {
    let long = "ö".repeat(300);
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["put a 1 10"]),
        (&["put a 1 10"], &["put a 2 20"]),
        (&[], &["put d/e/f 1 300000"]),
        (&["put a 1 10"], &["put a/b/c 2 10"]),
        (&["put a/b 1 10"], &["put a 2 10", "put a 3 10"]),
        (&["put a 1 10", "put a/b 2 10", "delete a/b"], &["put a 3 10"]),
        (&["put x/y/z 1 10", "put x/w 2 10"], &["delete x/y/z", "delete x/w"]),
        (&["put a/b 1 10", "put a 2 10"], &["delete a", "delete a/b"]),
        (&["large a 1"], &["large a 2", "put a 3 10"]),
        (&["large d/a 1"], &["delete d/a"]),
        (&[], &["multipart d/m 1 3"]),
        (&["multipart m 1 2"], &["multipart m 2 1", "delete m"]),
        (&["large a 1"], &["copy a d/b", "copy a d"]),
        (&["put m 1 10"], &["repeated m 2"]),
        (&[], &["bucket other", "unbucket other"]),
        (
            &["bucket other", "begin other"],
            &["unbucket other", "bucket other", "begin other"],
        ),
        (
            &["put LONG 1 10"],
            &["put LONG/x 2 10", "put LONG 3 10", "delete LONG", "delete LONG/x"],
        ),
        (&["put d/a 1 10"], &["enable", "put d/a 2 20", "put d/a 3 20"]),
        (&["enable", "put d/a 1 10"], &["put d/a 2 20", "delete d/a"]),
        (
            &["enable", "put d/a 1 10", "put d/a 2 10"],
            &["delete d/a", "put d/a 3 10"],
        ),
        (
            &["enable", "put d/a 1 10", "put d/a 2 10", "delete d/a"],
            &["delete-version d/a 0", "delete-version d/a 0", "delete-version d/a 0"],
        ),
        (
            &["enable", "put a 1 10", "delete a", "put a 2 10"],
            &["delete-version a 0", "delete-version a 0", "delete-version a 0"],
        ),
        // What was there before has no version of its own until it is displaced.
        (
            &["put d/a 1 10", "enable"],
            &["delete d/a", "delete-version d/a 0", "put d/a 2 20"],
        ),
        (
            &["put a 1 10", "enable", "put a 2 10"],
            &["delete-version a 0", "put a 3 20", "delete-version a 1"],
        ),
        (
            &["put a 1 10", "enable", "suspend"],
            &["put a 2 20", "delete a", "put a 3 10"],
        ),
        (
            &["enable", "put a 1 10", "suspend", "put a 2 10"],
            &["delete a", "put a 3 10", "delete-version a 0"],
        ),
        (
            &["put a 1 10", "enable", "put a 2 10", "suspend"],
            &["delete a", "delete-version a 1"],
        ),
        (
            &["large a 1", "enable", "put a 2 10", "suspend"],
            &["large a 3", "delete a", "delete-version a 1"],
        ),
        (
            &["enable", "large d/a 1", "large d/a 2"],
            &["delete-version d/a 1", "large d/a 3", "delete-version d/a 0"],
        ),
        (
            &["enable", "put a 1 10", "delete a"],
            &["put a/b 2 10", "delete-version a 0", "delete a", "delete a/b"],
        ),
        (
            &["enable", "put a/b 1 10", "put a 2 10"],
            &["delete a/b", "put a 3 10", "delete-version a/b 0"],
        ),
        (
            &["enable", "multipart d/m 1 3"],
            &["multipart d/m 2 2", "delete-version d/m 1", "copy d/m d/m"],
        ),
        (
            &["enable", "put LONG 1 10"],
            &["put LONG 2 10", "delete LONG", "delete-version LONG 0"],
        ),
        (
            &["initiate uploads/u", "part uploads/u 1"],
            &["part uploads/u 2", "abort uploads/u"],
        ),
        (&[], &["initiate uploads/u", "part uploads/u 1", "abort uploads/u"]),
        (&["put a 1 10"], &["acl public-read", "acl private"]),
        (&["put a 1 10"], &["enable", "suspend", "put a 2 10"]),
    ];
    let folded: &[(&[&str], &[&str])] = &[
        (&["put A 1 10"], &["put a 2 20", "put a 3 10"]),
        (&["put A/b 1 10"], &["put a/b 2 10", "delete a/b"]),
        (
            &["put A 1 10", "put a 2 10"],
            &["put a/b 3 10", "delete a", "delete a/b"],
        ),
        (
            &["put A 1 10", "put A/b 1 10"],
            &["put a 2 10", "put a/b 3 10", "delete A/b", "delete A"],
        ),
        (
            &["put LONG 1 10"],
            &["put SHOUT 2 10", "put SHOUT/x 3 10", "delete SHOUT", "delete SHOUT/x"],
        ),
        (
            &["enable", "put A 1 10", "put a 2 10"],
            &["put a 3 20", "delete a", "put a 4 10"],
        ),
        (
            &["enable", "put a 1 10", "delete a", "put A 2 10"],
            &["delete-version a 0", "delete-version a 0"],
        ),
        (
            &["enable", "put d/a 1 10", "put d/a 2 10", "delete d/a", "put D/a 3 10"],
            &["delete-version d/a 0", "delete-version d/a 0", "delete-version d/a 0"],
        ),
        (
            &["put A 1 10", "put a 2 10", "enable", "suspend"],
            &["put a 3 20", "delete a", "put a 4 10"],
        ),
        (
            &["enable", "large A 1", "large a 2"],
            &["large a 3", "delete-version a 1", "delete-version a 0"],
        ),
        (
            &["enable", "put A 1 10", "put a 2 10"],
            &["put a/b 3 10", "delete a", "delete-version a 0"],
        ),
        (
            &["enable", "put SHOUT 1 10", "put LONG 2 10"],
            &["put LONG 3 10", "delete LONG", "delete-version LONG 0"],
        ),
    ];
    let shout = long.to_uppercase();
    let expand = |ops: &[&str]| {
        let ops = ops.iter().map(|op| op.replace("LONG", &long).replace("SHOUT", &shout));
        ops.collect()
    };
    let more = std::env::var(MORE).ok();
    let tables = match names_fold() {
        false => vec![table],
        true if more.is_none() => vec![folded],
        true => vec![folded, table],
    };
    let mut all: Vec<Scenario> = tables
        .into_iter()
        .flatten()
        .map(|(before, ops)| Scenario {
            before: expand(before),
            ops: expand(ops),
            random: false,
        })
        .collect();
    let more = more.map_or(0, |more| more.parse().expect("a number"));
    all.extend((0..more).map(|seed| {
        let mut ops = Ops::new(seed);
        Scenario {
            before: ops.by_ref().take(4).collect(),
            ops: ops.take(3).collect(),
            random: true,
        }
    }));
    all
}

/// The child: does what it is told, says what was acknowledged.
#[test]
fn killed_child() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let point: u64 = std::env::var(POINT).unwrap().parse().unwrap();
    let scenario = std::env::var(SCENARIO).unwrap();
    let is_set = |name| std::env::var(name).unwrap() == "true";
    let how = FsOptions {
        durability: if is_set(SYNCED) {
            Durability::PowerSafe
        } else {
            Durability::ProcessSafe
        },
        ..options(Path::new(&root), is_set(SHARED))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    if scenario == START {
        crash_points::arm(point);
        drop(again(|| FsBackend::open(how.clone())));
        crash_points::arm(0);
        return;
    }
    runtime.block_on(async {
        let subject = subject_of(how, "bucket").await;
        let mut acknowledged = fs::File::create(Path::new(&root).with_extension("acknowledged")).unwrap();
        crash_points::arm(point);
        for op in scenario.lines() {
            perform(&subject, op).await;
            acknowledged.write_all(b".").unwrap();
        }
        crash_points::arm(0);
    });
}

/// How a child serves its root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    shared: bool,
    /// Whether a file can have two names there.
    links: bool,
    /// Whether what is acknowledged is synced: there is more to be done then, in another order.
    synced: bool,
}

impl How {
    pub(crate) const ALONE: Self = Self {
        shared: false,
        links: true,
        synced: false,
    };
}

/// Whether the child was killed.
pub(crate) fn run_child(root: &Path, ops: &[Op], point: u64, how: How) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::killed_child", "--test-threads", "1"])
        .env(ROOT, root)
        .env(SCENARIO, ops.join("\n"))
        .env(POINT, point.to_string())
        .env(SHARED, how.shared.to_string())
        .env(SYNCED, how.synced.to_string())
        .envs((!how.links).then_some(("T2GATE_TEST_LINKS", "none")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(killed || status.success(), "the child failed at {point}: {ops:?}");
    killed
}

fn options(root: &Path, shared: bool) -> FsOptions {
    FsOptions {
        shared,
        ..crate::options(root)
    }
}

#[test]
fn wherever_the_process_is_killed_every_acknowledged_write_is_there_and_no_litter() {
    kill_everywhere(scenarios(), How::ALONE);
}

#[test]
fn the_same_of_a_process_that_shares_its_root() {
    let all = std::env::var(MORE).is_ok();
    let some = scenarios().into_iter().enumerate();
    let aborts = |scenario: &Scenario| scenario.ops.iter().any(|op| op.starts_with("abort"));
    let some = some.filter(|(n, scenario)| all || matches!(n, 3 | 5 | 7 | 9 | 11 | 13 | 14) || aborts(scenario));
    let how = How {
        shared: true,
        ..How::ALONE
    };
    kill_everywhere(some.map(|(_, scenario)| scenario), how);
}

#[test]
fn the_same_of_versions_whose_files_cannot_have_two_names() {
    let how = How {
        links: false,
        ..How::ALONE
    };
    kill_everywhere(scenarios().into_iter().filter(Scenario::needs_versions), how);
}

/// And what others see who look at it before anybody tidies up.
#[test]
fn the_same_of_such_versions_in_a_root_that_is_shared() {
    let how = How {
        shared: true,
        links: false,
        ..How::ALONE
    };
    kill_everywhere(scenarios().into_iter().filter(Scenario::needs_versions), how);
}

/// And what is only looked at, or done once more, where it has to be durable.
#[test]
fn the_same_where_what_is_acknowledged_is_synced() {
    let how = How {
        synced: true,
        ..How::ALONE
    };
    kill_everywhere(scenarios().into_iter().step_by(synced_step()), how);
}

#[test]
fn the_same_where_that_is_synced_and_files_cannot_have_two_names() {
    let how = How {
        links: false,
        synced: true,
        ..How::ALONE
    };
    let versioned = scenarios().into_iter().filter(Scenario::needs_versions);
    kill_everywhere(versioned.step_by(synced_step()), how);
}

/// They pass many more points.
fn synced_step() -> usize {
    if std::env::var(MORE).is_ok() { 1 } else { 3 }
}

#[test]
fn the_same_where_names_fold() {
    if is_child_with("crash::the_same_where_names_fold", [(FOLDING, "folding")]) {
        kill_everywhere(scenarios(), How::ALONE);
    }
}

#[test]
fn the_same_where_names_fold_and_files_cannot_have_two() {
    let how = How {
        links: false,
        ..How::ALONE
    };
    let test = "crash::the_same_where_names_fold_and_files_cannot_have_two";
    if is_child_with(test, [(FOLDING, "folding")]) {
        kill_everywhere(scenarios().into_iter().filter(Scenario::needs_versions), how);
    }
}

fn kill_everywhere(scenarios: impl IntoIterator<Item = Scenario>, how: How) {
    let shared = how.shared;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut crashes, mut starts) = (0, 0);
    let clean = dir_in_memory();
    runtime.block_on(prepare(clean.path(), &[], false));
    // Killed while it looks what the file system can, a start leaves something to the next one.
    let starting = How {
        synced: how.synced,
        ..How::ALONE
    };
    let is_killed = |point: &u64| {
        let killed = run_child(clean.path(), &[START.to_owned()], *point, starting);
        drop(again(|| open_at(clean.path())));
        killed
    };
    let points_of_a_start = (1..).take_while(is_killed).count() as u64;
    for scenario in scenarios {
        let temp = dir_in_memory();
        for point in 1.. {
            let root = temp.path().join(format!("{point}"));
            let before = runtime.block_on(prepare(&root, &scenario.before, shared));
            let witness = (shared && scenario.needs_versions())
                .then(|| runtime.block_on(subject_of(options(&root, true), "bucket")));
            if !run_child(&root, &scenario.ops, point, how) {
                assert!(scenario.random || point > 3, "no point was passed");
                break;
            }
            crashes += 1;
            let acknowledged = fs::read(root.with_extension("acknowledged")).unwrap().len();
            let mut seen = before.clone();
            scenario.ops[..acknowledged].iter().for_each(|op| expect(&mut seen, op));
            let mut or = seen.clone();
            scenario
                .ops
                .iter()
                .skip(acknowledged)
                .take(1)
                .for_each(|op| expect(&mut or, op));
            let at = format!(
                "killed at point {point} of {:?} after {:?}",
                scenario.ops, scenario.before
            );
            if let Some(witness) = witness {
                let found = runtime.block_on(async {
                    // A listing by name knows nothing of locks.
                    list(&witness).await.unwrap();
                    see(&witness).await
                });
                assert!(found == seen || found == or, "{at}, to others: {}", found.in_short());
            }
            // The start that tidies up is killed too, behind the first thing that it tidies, and the next one, which goes on
            // with the rest, until one comes to its end.
            let first = starts;
            // One that shares the root leaves something anew each time, which the next sweeps first.
            while !shared && run_child(&root, &[START.to_owned()], points_of_a_start + 1, starting) {
                starts += 1;
                assert!(starts < first + 100, "a start does not get on");
            }
            runtime.block_on(async {
                let subject = subject_of(options(&root, shared), "bucket").await;
                let found = see(&subject).await;
                assert!(found == seen || found == or, "{at}: {}", found.in_short());
                assert_eq!(litter(&root), Vec::<String>::new(), "{at}");
                // And everything goes on.
                for key in found.versions.keys() {
                    subject.put(key, "new").await;
                }
                clear(&subject).await;
                abort_all(&subject).await;
                assert_eq!(litter(&root), Vec::<String>::new(), "{at}, later");
                for bucket in found.buckets {
                    subject
                        .delete_bucket(&BucketName::parse(bucket).unwrap())
                        .await
                        .unwrap();
                }
                for empty in ["bucket", ".t2/versions"] {
                    let left = names(&root.join(empty));
                    assert!(left.is_empty() || left == ["bucket"], "{at}: {left:?} in {empty}");
                }
            });
            fs::remove_dir_all(&root).unwrap();
        }
    }
    let enough = if shared || names_fold() || how.synced {
        crashes > 80
    } else {
        crashes > 200 && starts > if how.links { 500 } else { 100 }
    };
    assert!(enough, "{crashes} {starts}");
    println!("killed {crashes} times, and {starts} times while starting again");
}

/// What is there before a child begins.
async fn prepare(root: &Path, ops: &[Op], shared: bool) -> Seen {
    let subject = subject_of(options(root, shared), "bucket").await;
    let mut seen = Seen::default();
    for op in ops {
        perform(&subject, op).await;
        expect(&mut seen, op);
    }
    assert_eq!(see(&subject).await, seen);
    seen
}

/// Aborts every upload under way.
pub(crate) async fn abort_all(subject: &Subject) {
    let uploads = subject.list_multipart_uploads(subject.all_uploads()).await.unwrap();
    for entry in uploads.entries {
        if let UploadEntry::Upload(upload) = entry {
            let upload = subject.upload_ref(upload.key.as_str(), upload.upload_id);
            match subject.abort_multipart_upload(&upload).await {
                Ok(()) | Err(BackendError::NoSuchUpload) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// Staging, side files that no object and no version names, marks of directories that are gone, empty directories,
/// directories and uploads of no bucket. A key that has an object and had versions may have an empty directory for them.
pub(crate) fn litter(root: &Path) -> Vec<String> {
    let mut litter = names(&root.join(".t2/staging"));
    // Whoever shares the root and lives has an empty directory there.
    if let Some(own) = litter.iter().position(|name| name.starts_with("process.")) {
        let own = litter.swap_remove(own);
        litter.extend(names(&root.join(".t2/staging").join(own)));
    }
    let mut sides: BTreeSet<String> = side_files(root).into_iter().collect();
    let beside = has_side_files(root);
    // Of a file that has two names one counts.
    let mut objects = BTreeSet::new();
    let mut marks: BTreeSet<String> = match beside {
        true => names(&root.join(".t2/directories")).into_iter().collect(),
        false => BTreeSet::new(),
    };
    let records = names(&root.join(".t2/buckets"));
    for bucket in names(&root.join(".t2/uploads")) {
        if !records.contains(&bucket) {
            litter.push(format!(".t2/uploads/{bucket}"));
        }
    }
    let mut keys = BTreeSet::new();
    for part in ["", ".t2/versions"] {
        for bucket in names(&root.join(part)).into_iter().filter(|name| name != ".t2") {
            if !records.contains(&bucket) {
                litter.push(format!("{part}/{bucket}"));
                continue;
            }
            // With what the keys below begin with; and of a history, its key.
            let mut directories = vec![(root.join(part).join(&bucket), format!("{bucket}/"), None)];
            while let Some((directory, prefix, history)) = directories.pop() {
                marks.remove(&mark_of(&directory));
                for name in names(&directory) {
                    let path = directory.join(&name);
                    let (text, lead) = parse(&name);
                    let key = format!("{prefix}{text}");
                    if path.is_dir() {
                        let is_history = !part.is_empty() && matches!(lead, Some('!' | '-'));
                        let history = is_history.then(|| key.clone()).or_else(|| history.clone());
                        let is_kept = history.as_ref().is_some_and(|key| keys.contains(key));
                        // It stays as long as its key has another version.
                        let is_of_nulls = !is_history && history.is_some() && names(&directory).len() > 1;
                        if names(&path).is_empty() && !is_kept && !is_of_nulls {
                            litter.push(path.display().to_string());
                        }
                        let goes_on = matches!(lead, Some('+' | '#'));
                        directories.push((path, key + if goes_on { "" } else { "/" }, history));
                    } else if name.ends_with(".d") && !part.is_empty() {
                        // A delete marker.
                    } else if beside {
                        keys.insert(key);
                        objects.insert(fs::metadata(&path).unwrap().ino());
                    } else {
                        keys.insert(key);
                        let mut value = vec![0; 65536];
                        let len = rustix::fs::getxattr(&path, "user.t2gate", &mut value[..]).unwrap();
                        let value = String::from_utf8_lossy(&value[..len]).into_owned();
                        sides.retain(|side| !value.contains(side.as_str()));
                    }
                }
            }
        }
    }
    if !beside || sides.len() != objects.len() {
        litter.extend(sides);
    }
    litter.extend(marks);
    litter
}

/// What a name says of the segment that it is of, and in which way.
fn parse(name: &str) -> (String, Option<char>) {
    let lead = name.strip_prefix(".t2").and_then(|rest| rest.chars().next());
    let text = name.get(4..).unwrap_or_default();
    match lead {
        Some('=' | '!' | '+') => (text.replace("=3D", "="), lead),
        Some('~' | '-' | '#') => (String::from_utf8(hex::decode(text).unwrap()).unwrap(), lead),
        _ => (name.to_owned(), None),
    }
}
