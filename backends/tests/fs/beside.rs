//! Attributes in side files, where the file system has no extended attributes or too little room for them.
//!
//! All that the backend promises holds there too, so all of these tests run once more, each by itself, as a process for
//! which such attributes fail; and, if that is asked for with `--ignored`, on file systems that have none. What is of side
//! files alone is below.

mod look_alikes;
mod versions;
mod writers;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use t2gate_backends::{
    BucketName, CopyObject, FsBackend, FsFindingKind::*, FsOpenError, ListEntry, ObjectAttributes, ObjectBody,
    ObjectInfo, PutObject, WriteCondition, conformance::Subject, examine_fs,
};
use tempfile::TempDir;

use self::writers::Writers;
use crate::{Tree, again, mounted::Mounted, open_at, shared::shared};

const XATTRS: &str = "T2GATE_TEST_XATTRS";
const TICK: &str = "T2GATE_TEST_TICK";
const ROOT: &str = "T2GATE_BESIDE_ROOT";
/// These are of extended attributes alone.
const OF_EXTENDED: &[&str] = &[
    "copied::",
    "crash::the_same_of_a_process_that_shares_its_root",
    "crash::the_same_of_such_versions_in_a_root_that_is_shared",
    // Where names fold attributes have to be extended ones.
    "crash::the_same_where_names_fold",
    "faults::the_same_where_names_fold",
    "faults::the_same_of_a_process_that_shares_its_root",
    "faults::the_same_on_the_disk_that_tests_have",
    // A side file that could not be put away may stay: see "Limits" in docs/filesystem.md.
    "faults::the_same_where_it_fails_from_then_on",
    "damaged::",
    "doctor::damaged_attributes_keep_every_side_file",
    "doctor::everything_wrong_is_found_and_repaired_where_that_loses_nothing",
    "doctor::side_files_of_kept_versions_are_nobodys_litter",
    "opening::names_of_a_folding_file_system_are_understood_wherever_the_format_says_so",
    "look::a_look_makes_no_lock_files",
    // A copy of a root has other directories than those whose marks are in it.
    "half_done::what_a_crash_left_is_tidied_up_by_the_next_start_if_this_one_cannot",
    // With side files no root is shared.
    "half_done::a_history_stays_while_its_key_has_a_version_again",
    "power_cut::the_same_of_a_root_that_is_shared",
    "shared::",
];

/// Runs the tests of this program again, without those whose names begin with one of `skipped`, and of this file. How many
/// there were.
fn run_again(set: &[(&str, &str)], skipped: &[&str]) -> usize {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.envs(set.iter().copied());
    for name in skipped.iter().chain(OF_EXTENDED).chain(&["beside::"]) {
        command.args(["--skip", name]);
    }
    let output = command.env("RUST_BACKTRACE", "0").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counted = said.split("test result: ok. ").nth(1).unwrap();
    counted.split(' ').next().unwrap().parse().unwrap()
}

fn memory() -> String {
    if tempfile::tempdir_in("/dev/shm").is_ok() {
        return "/dev/shm".to_owned();
    }
    std::env::temp_dir().to_str().unwrap().to_owned()
}

#[test]
fn without_extended_attributes_all_is_kept() {
    let ran = run_again(&[(XATTRS, "none"), ("TMPDIR", &memory())], &[]);
    assert!(ran > 450, "{ran}");
}

#[test]
fn with_too_little_room_for_extended_attributes_and_times_in_seconds_all_is_kept() {
    let slow = ["crash::", "faults::", "register::", "kept_order::"];
    let ran = run_again(&[(XATTRS, "900"), (TICK, "1000000000"), ("TMPDIR", &memory())], &slow);
    assert!(ran > 440, "{ran}");
}

/// ramfs has no extended attributes and no times of birth; ext4 with blocks of 1 KiB has little room, and with inodes of
/// 128 bytes its times are whole seconds.
#[test]
#[ignore = "mounts file systems: needs root, loop devices and mkfs.ext4"]
fn on_file_systems_without_room_for_attributes_all_is_kept() {
    const MAKE: &str = "truncate -s 300M \"$1/image\"; mkfs.ext4 -q -b 1024 -N 100000 \"$1/image\"";
    const MOUNT: &str = "mount -o loop \"$1/image\" \"$1/mounted\"";
    let made = [
        ("ramfs", "mount -t ramfs none \"$1/mounted\"".to_owned()),
        ("ext4, 1 KiB", format!("{MAKE}; {MOUNT}")),
        (
            "ext4, 1 KiB, whole seconds",
            format!("{MAKE} -I 128 2>/dev/null; {MOUNT}"),
        ),
    ];
    for (kind, script) in made {
        let mounted = Mounted::by(&script);
        let mut skipped = vec!["faults::", "kept_order::", "register::", "pages::"];
        if std::env::var("T2GATE_TEST_CRASHES").is_err() {
            skipped.push("crash::");
        }
        if kind == "ramfs" {
            // It does not give the room of parts back.
            skipped.push("parts::a_part_that_comes_again_replaces_and_its_room_is_given_back");
        }
        let ran = run_again(&[("TMPDIR", mounted.path().to_str().unwrap())], &skipped);
        assert!(ran > 430, "{kind}: {ran}");
        let opened = tempfile::tempdir_in(mounted.path()).unwrap();
        drop(open_at(opened.path()).unwrap());
        assert!(has_side_files(opened.path()), "{kind}");
    }
}

/// Opens a root, as a process that was told what extended attributes there are.
#[test]
fn opening_child() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    match again_or(|| open_at(Path::new(&root))) {
        Ok(_) => {}
        Err(FsOpenError::NoExtendedAttributes(_)) => std::process::exit(3),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn again_or<T>(open: impl Fn() -> Result<T, FsOpenError>) -> Result<T, FsOpenError> {
    loop {
        match open() {
            // Also here a process that another test is just starting may hold the lock for a moment.
            Err(FsOpenError::Locked(_) | FsOpenError::NotShared(_)) => std::thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
}

/// The code that the child exits with.
fn open_with(xattrs: &str, root: &Path) -> Option<i32> {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "beside::opening_child"])
        .env(XATTRS, xattrs)
        .env(ROOT, root)
        .output()
        .unwrap();
    status.status.code()
}

#[test]
fn the_first_start_chooses_and_what_is_chosen_stays() {
    for (xattrs, chosen) in [("none", "1 side-files\n"), ("900", "1 side-files\n"), ("4000", "1\n")] {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(open_with(xattrs, root.path()), Some(0));
        let format = || fs::read_to_string(root.path().join(".t2/format")).unwrap();
        assert_eq!(format(), chosen, "{xattrs}");
        assert_eq!(open_with("60000", root.path()), Some(0));
        assert_eq!(format(), chosen, "{xattrs}");
    }
    // A little room was enough when the root was made.
    let root = tempfile::tempdir().unwrap();
    assert_eq!(open_with("4000", root.path()), Some(0));
    assert_eq!(open_with("900", root.path()), Some(0));
    assert_eq!(open_with("none", root.path()), Some(3));
}

/// A root with side files, wherever it lies.
async fn beside() -> Tree {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join(".t2")).unwrap();
    fs::write(root.path().join(".t2/format"), "1 side-files\n").unwrap();
    Tree::with(root, |_| {}).await
}

async fn reopen(tree: Tree) -> Tree {
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    at(root, bucket).await
}

async fn at(root: TempDir, bucket: BucketName) -> Tree {
    let backend = Arc::new(again(|| open_at(root.path())));
    let subject = Subject::of(backend, bucket).await;
    Tree { subject, root }
}

/// With its bytes as metadata.
async fn put_with(subject: &Subject, key: &str, body: &str) -> ObjectInfo {
    let request = PutObject {
        attributes: ObjectAttributes {
            user_metadata: vec![("name".into(), body.into())],
            ..ObjectAttributes::default()
        },
        ..subject.put_request(key)
    };
    let body = ObjectBody::from_bytes(body.to_owned());
    subject.put_object(request, body).await.unwrap()
}

async fn name_of(tree: &Tree, key: &str) -> Option<String> {
    let attributes = tree.info(key).await.attributes;
    attributes.user_metadata.first().map(|(_, value)| value.to_string())
}

#[tokio::test]
async fn nothing_is_in_extended_attributes_and_all_is_there_after_a_restart() {
    let tree = beside().await;
    put_with(&tree, "d/key", "first").await;
    let upload = tree.upload("parts").await;
    let parts = vec![tree.part(&upload, 3, "a").await, tree.part(&upload, 7, "b").await];
    let made = tree.complete(&upload, parts).await.unwrap();
    for name in ["d/key", "d", "parts", ""] {
        let mut names = [0; 1024];
        let len = rustix::fs::listxattr(tree.path(name), &mut names[..]).unwrap();
        assert!(!String::from_utf8_lossy(&names[..len]).contains("t2gate"), "{name}");
    }
    let tree = reopen(tree).await;
    assert_eq!(name_of(&tree, "d/key").await.as_deref(), Some("first"));
    assert_eq!(tree.info("parts").await, made);
    let open = tree.open("parts").await.unwrap();
    let parts = open.reader.parts(0, 10).await.unwrap();
    assert_eq!(
        parts.iter().map(|part| part.part_number.get()).collect::<Vec<_>>(),
        [3, 7]
    );
    assert_eq!(side_files(tree.root.path()).len(), 2);
    tree.delete("d/key").await;
    assert!(!tree.path("d").exists(), "it was marked");
}

#[tokio::test]
async fn an_object_that_steps_aside_and_one_that_is_copied_keep_theirs() {
    let tree = beside().await;
    put_with(&tree, "a", "aside").await;
    tree.put("a/b", "below").await;
    assert!(tree.path(".t2!a").exists());
    assert_eq!(name_of(&tree, "a").await.as_deref(), Some("aside"));
    let source = tree.info("a").await;
    tree.copy_object(CopyObject {
        source: tree.object("a"),
        source_etag: source.etag,
        bucket: tree.bucket.clone(),
        key: tree.key("c"),
        attributes: source.attributes,
        condition: WriteCondition::default(),
        versions: None,
    })
    .await
    .unwrap();
    assert_eq!(name_of(&tree, "c").await.as_deref(), Some("aside"));
    put_with(&tree, "a", "again").await;
    assert_eq!(name_of(&tree, "a").await.as_deref(), Some("again"));
    assert_eq!(side_files(tree.root.path()).len(), 3);
}

#[tokio::test]
async fn a_file_that_others_change_has_none_until_its_size_and_time_are_those_again() {
    let tree = beside().await;
    put_with(&tree, "key", "ours").await;
    let put = tree.info("key").await;
    let file = fs::File::options().write(true).open(tree.path("key")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.set_modified(time + Duration::from_nanos(1_000_000_000)).unwrap();
    let changed = tree.info("key").await;
    assert!(changed.etag.as_str().starts_with("t2-") && changed.attributes == ObjectAttributes::default());
    file.set_modified(time).unwrap();
    assert_eq!(tree.info("key").await, put);

    // What is replaced while it is a stranger's leaves its side file behind.
    fs::write(tree.path("key"), "theirs").unwrap();
    put_with(&tree, "key", "ours").await;
    put_with(&tree, "other", "other").await;
    fs::write(tree.path("other"), "").unwrap();
    assert_eq!(side_files(tree.root.path()).len(), 3);
    let Tree { subject, root } = tree;
    drop(subject);
    for (repair, left) in [(false, 3), (true, 1)] {
        let report = again(|| examine_fs(root.path(), repair));
        let found: Vec<_> = report.findings.iter().map(|f| (f.kind, f.repaired)).collect();
        assert_eq!(found, [(OrphanedSideFile, repair); 2]);
        assert_eq!(side_files(root.path()).len(), left);
    }
    assert_eq!(again(|| examine_fs(root.path(), true)).findings, []);
}

#[tokio::test]
async fn a_copied_tree_keeps_its_attributes_if_it_keeps_its_times() {
    let tree = beside().await;
    put_with(&tree, "d/key", "copied").await;
    let bucket = tree.bucket.clone();
    let Tree { subject, root } = tree;
    drop(subject);
    for (how, expected) in [("-a", Some("copied")), ("-r", None)] {
        let copy = tempfile::tempdir().unwrap();
        let done = Command::new("cp")
            .arg(how)
            .arg(root.path().join("."))
            .arg(copy.path())
            .status();
        assert!(done.unwrap().success());
        let tree = at(copy, bucket.clone()).await;
        assert_eq!(name_of(&tree, "d/key").await.as_deref(), expected);
        // Its directories are others' now.
        tree.delete("d/key").await;
        assert!(tree.path("d").is_dir());
    }
}

#[tokio::test]
async fn a_root_whose_extended_attributes_were_left_behind_is_refused_until_they_are_given_up() {
    let tree = Tree::new().await;
    put_with(&tree, "key", "left behind").await;
    let bucket = tree.bucket.clone();
    let Tree { subject, root } = tree;
    drop(subject);
    rustix::fs::removexattr(root.path().join(bucket.as_str()).join("key"), "user.t2gate").unwrap();
    assert_eq!(open_with("none", root.path()), Some(3));
    for (repair, format) in [("", "1\n"), ("repair", "1 side-files\n")] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "beside::examining_child", "--nocapture"])
            .env(XATTRS, "none")
            .env(ROOT, root.path())
            .env("T2GATE_BESIDE_REPAIR", repair)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("lost-attributes .t2/format;"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(root.path().join(".t2/format")).unwrap(), format);
    }
    assert_eq!(open_with("none", root.path()), Some(0));
    let tree = at(root, bucket).await;
    assert_eq!(tree.get("key").await.unwrap(), "left behind");
    assert_eq!(name_of(&tree, "key").await, None);
}

#[tokio::test]
async fn it_cannot_be_shared() {
    let Tree { subject, root } = beside().await;
    drop(subject);
    let refused = again_or(|| FsBackend::open(shared(root.path()))).unwrap_err();
    assert!(matches!(&refused, FsOpenError::CannotShare(_)), "{refused}");
    assert!(refused.to_string().contains("side files"), "{refused}");
    // Whoever shares a new root does not choose what could not be shared.
    let new = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "beside::sharing_child", "--nocapture"])
        .env(XATTRS, "none")
        .env(ROOT, new.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(!new.path().join(".t2/format").exists());
    drop(again(|| open_at(root.path())));
}

#[test]
fn sharing_child() {
    if let Ok(root) = std::env::var(ROOT) {
        let outcome = FsBackend::open(shared(Path::new(&root)));
        assert!(matches!(outcome, Err(FsOpenError::CannotShare(_))), "{outcome:?}");
    }
}

#[test]
fn examining_child() {
    if let (Ok(root), Ok(repair)) = (std::env::var(ROOT), std::env::var("T2GATE_BESIDE_REPAIR")) {
        let report = match again_or(|| examine_fs(Path::new(&root), !repair.is_empty())) {
            Ok(report) => report,
            Err(error) => return println!("refused: {error}"),
        };
        for found in report.findings {
            println!("{} {};", found.kind.as_str(), found.path);
        }
    }
}

#[tokio::test]
async fn a_directory_that_others_made_in_place_of_ours_is_not_ours() {
    let tree = beside().await;
    tree.put("d/key", "x").await;
    fs::remove_dir_all(tree.path("d")).unwrap();
    fs::create_dir(tree.path("d")).unwrap();
    tree.put("d/key", "x").await;
    tree.delete("d/key").await;
    assert!(tree.path("d").is_dir());
    let Tree { subject, root } = tree;
    drop(subject);
    let kinds = |repair| -> Vec<_> {
        let report = again(|| examine_fs(root.path(), repair));
        report.findings.iter().map(|finding| finding.kind).collect()
    };
    let found = kinds(true);
    assert!(found.contains(&OrphanedMark) && found.iter().all(|kind| matches!(kind, OrphanedMark | OrphanedSideFile)));
    assert_eq!(kinds(false), []);
}

#[tokio::test]
async fn a_part_that_comes_again_and_again_has_one_record_and_outlives_a_restart() {
    let tree = beside().await;
    let upload = tree.upload("key").await;
    let mut last = None;
    for n in 0..5 {
        last = Some(tree.part(&upload, 1, format!("part {n}")).await);
    }
    let uploads = tree.root.path().join(".t2/uploads").join(tree.bucket.as_str());
    let of_upload = fs::read_dir(uploads).unwrap().next().unwrap().unwrap().path();
    let records = fs::read_dir(of_upload).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("record.")
    });
    assert_eq!(records.count(), 1);
    let tree = reopen(tree).await;
    tree.complete(&upload, vec![last.unwrap()]).await.unwrap();
    assert_eq!(tree.get("key").await.unwrap(), "part 4");
}

/// Where times are whole seconds the names of side files are used again and again: a reader must not take another
/// version's.
#[test]
fn readers_never_see_one_versions_bytes_with_anothers_attributes() {
    in_whole_seconds("beside::reading_child");
}

/// Runs `test` in a process for which times are whole seconds.
fn in_whole_seconds(test: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(TICK, "1000000000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_child() {
    if std::env::var(TICK).is_err() {
        return;
    }
    let tree = Arc::new(beside().await);
    put_with(&tree, "key", "0000").await;
    let writers = Writers::start(|bodies| {
        let tree = Arc::clone(&tree);
        async move {
            for body in bodies {
                put_with(&tree, "key", &body).await;
            }
        }
    });
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let tree = Arc::clone(&tree);
            tokio::spawn(async move {
                let mut seen: BTreeSet<Bytes> = BTreeSet::new();
                for _ in 0..3000 {
                    let open = tree.open("key").await.unwrap();
                    let named = open
                        .info
                        .attributes
                        .user_metadata
                        .first()
                        .map(|(_, value)| value.to_string());
                    let size = open.info.size;
                    let bytes: Vec<Bytes> = open.reader.read(0..size).try_collect().await.unwrap();
                    let bytes = Bytes::from(bytes.concat());
                    assert_eq!(named.as_deref().map(str::as_bytes), Some(&*bytes));
                    seen.insert(bytes);
                    let listed = tree.list_objects(tree.everything()).await.unwrap();
                    let [ListEntry::Object(listed)] = listed.entries.as_slice() else {
                        panic!("{listed:?}");
                    };
                    assert!(listed.etag.as_md5().is_some(), "{listed:?}");
                }
                assert!(seen.len() > 10, "{}", seen.len());
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    writers.end().await;
    assert_eq!(side_files(tree.root.path()).len(), 1);
}

/// Whether roots have their attributes in extended ones, in this run of the tests and where it makes its files.
pub(crate) fn has_extended_attributes() -> bool {
    let root = tempfile::tempdir().unwrap();
    drop(again(|| open_at(root.path())));
    !has_side_files(root.path())
}

/// Whether the attributes of this root are in side files alone.
pub(crate) fn has_side_files(root: &Path) -> bool {
    fs::read_to_string(root.join(".t2/format"))
        .unwrap()
        .contains("side-files")
}

/// By their names, which may begin with that of a directory.
pub(crate) fn side_files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let top = root.join(".t2/attributes");
    for entry in fs::read_dir(&top).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            for entry in fs::read_dir(entry.path()).unwrap() {
                found.push(format!("{name}{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        } else {
            found.push(name);
        }
    }
    found
}

/// How `.t2/directories` calls a directory.
pub(crate) fn mark_of(directory: &Path) -> String {
    let metadata = fs::metadata(directory).unwrap();
    let born = metadata
        .created()
        .map_or_else(|_| Duration::ZERO, |born| born.duration_since(UNIX_EPOCH).unwrap());
    format!("{:x}-{:x}-{:x}", metadata.ino(), born.as_secs(), born.subsec_nanos())
}
