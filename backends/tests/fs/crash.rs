//! P1 and P2 when the process ends in the middle: killed behind every system call that changes the disk, and started
//! again. Every acknowledged write is there byte for byte, nothing is half there, and nothing is left behind.
//!
//! The test runs itself as a child, which kills itself at the point that it was told. `T2GATE_TEST_CRASHES=200` adds so
//! many scenarios made at random.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use t2gate_backends::{BackendError, BucketName, FsOptions, UploadEntry, conformance::Subject, crash_points};

use crate::ops::{Op, Ops, Seen, expect, perform, see, subject_of};

const ROOT: &str = "T2GATE_CRASH_ROOT";
const SCENARIO: &str = "T2GATE_CRASH_SCENARIO";
const POINT: &str = "T2GATE_CRASH_POINT";
/// Whether the root is shared.
const SHARED: &str = "T2GATE_CRASH_SHARED";
/// Scenarios made at random, in addition.
const MORE: &str = "T2GATE_TEST_CRASHES";

struct Scenario {
    before: Vec<Op>,
    /// Those that the child is killed in.
    ops: Vec<Op>,
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
        (&[], &["bucket other", "unbucket other"]),
        (
            &["put LONG 1 10"],
            &["put LONG/x 2 10", "put LONG 3 10", "delete LONG", "delete LONG/x"],
        ),
    ];
    let expand = |ops: &[&str]| ops.iter().map(|op| op.replace("LONG", &long)).collect();
    let mut all: Vec<Scenario> = table
        .iter()
        .map(|(before, ops)| Scenario {
            before: expand(before),
            ops: expand(ops),
        })
        .collect();
    let more = std::env::var(MORE).map_or(0, |more| more.parse().expect("a number"));
    all.extend((0..more).map(|seed| {
        let mut ops = Ops::new(seed);
        Scenario {
            before: ops.by_ref().take(4).collect(),
            ops: ops.take(3).collect(),
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
    let shared = std::env::var(SHARED).unwrap() == "true";
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let subject = subject_of(options(Path::new(&root), shared), "bucket").await;
        let mut acknowledged = fs::File::create(Path::new(&root).with_extension("acknowledged")).unwrap();
        crash_points::arm(point);
        for op in scenario.lines() {
            perform(&subject, op).await;
            acknowledged.write_all(b".").unwrap();
        }
        crash_points::arm(0);
    });
}

/// Whether the child was killed.
fn run_child(root: &Path, ops: &[Op], point: u64, shared: bool) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::killed_child", "--test-threads", "1"])
        .env(ROOT, root)
        .env(SCENARIO, ops.join("\n"))
        .env(POINT, point.to_string())
        .env(SHARED, shared.to_string())
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
    kill_everywhere(scenarios(), false);
}

#[test]
fn the_same_of_a_process_that_shares_its_root() {
    let all = std::env::var(MORE).is_ok();
    let some = scenarios().into_iter().enumerate();
    let some = some.filter(|(n, _)| all || matches!(n, 3 | 5 | 7 | 9 | 11 | 13));
    kill_everywhere(some.map(|(_, scenario)| scenario), true);
}

fn kill_everywhere(scenarios: impl IntoIterator<Item = Scenario>, shared: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut crashes = 0;
    for scenario in scenarios {
        let prepared = tempfile::tempdir().unwrap();
        let mut before = Seen::default();
        let original = prepared.path().join("root");
        runtime.block_on(async {
            let subject = subject_of(options(&original, shared), "bucket").await;
            for op in &scenario.before {
                perform(&subject, op).await;
                expect(&mut before, op);
            }
            assert_eq!(see(&subject).await, before);
        });
        for point in 1.. {
            let root = prepared.path().join(format!("{point}"));
            assert!(
                Command::new("cp")
                    .args(["-a"])
                    .args([&original, &root])
                    .status()
                    .unwrap()
                    .success()
            );
            if !run_child(&root, &scenario.ops, point, shared) {
                assert!(point > 3, "no point was passed");
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
            runtime.block_on(async {
                let subject = subject_of(options(&root, shared), "bucket").await;
                let found = see(&subject).await;
                assert!(found == seen || found == or, "{at}: {:?}", found.1.keys());
                assert_eq!(litter(&root), Vec::<String>::new(), "{at}");
                // And everything goes on.
                for key in found.1.keys() {
                    subject.put(key, "new").await;
                    subject.delete(key).await;
                }
                abort_all(&subject).await;
                assert_eq!(litter(&root), Vec::<String>::new(), "{at}, later");
                for bucket in found.0 {
                    subject
                        .delete_bucket(&BucketName::parse(bucket).unwrap())
                        .await
                        .unwrap();
                }
                let kept = fs::read_dir(root.join("bucket")).unwrap().count();
                assert_eq!(kept, 0, "{at}");
            });
            fs::remove_dir_all(&root).unwrap();
        }
    }
    assert!(crashes > if shared { 80 } else { 200 }, "{crashes}");
}

async fn abort_all(subject: &Subject) {
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

/// Staging, side files that no object names, empty directories, directories of no bucket.
pub(crate) fn litter(root: &Path) -> Vec<String> {
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let mut litter = names(&root.join(".t2/staging"));
    // Whoever shares the root and lives has an empty directory there.
    if let Some(own) = litter.iter().position(|name| name.starts_with("process.")) {
        let own = litter.swap_remove(own);
        litter.extend(names(&root.join(".t2/staging").join(own)));
    }
    let mut sides: BTreeSet<String> = names(&root.join(".t2/attributes")).into_iter().collect();
    let records = names(&root.join(".t2/buckets"));
    for bucket in names(root).into_iter().filter(|name| name != ".t2") {
        if !records.contains(&bucket) {
            litter.push(bucket);
            continue;
        }
        let mut directories = vec![root.join(bucket)];
        while let Some(directory) = directories.pop() {
            for name in names(&directory) {
                let path = directory.join(name);
                if path.is_dir() {
                    if names(&path).is_empty() {
                        litter.push(path.display().to_string());
                    }
                    directories.push(path);
                } else {
                    let mut value = vec![0; 65536];
                    let len = rustix::fs::getxattr(&path, "user.t2gate", &mut value[..]).unwrap();
                    let value = String::from_utf8_lossy(&value[..len]).into_owned();
                    sides.retain(|side| !value.contains(side.as_str()));
                }
            }
        }
    }
    litter.extend(sides);
    litter
}
