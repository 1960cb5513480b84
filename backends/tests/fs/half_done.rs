//! P3 and P2 in the middle of a change: in which order names become durable, what others do meanwhile, and what is sent
//! again after a crash.

mod synced;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustix::io::Errno;
use t2gate_backends::{
    Backend, BackendError, CompletedPart, DeleteObject, Durability, FsBackend, FsOptions, IfMatch, ListParts,
    SystemClock, UploadEntry, UploadRef, VersionId, Versioned, VersioningStatus, WriteCondition,
    conformance::{Subject, completed},
    crash_points::{Call, delay_changes, disarm, fail, hold_syncs, syncs},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    again,
    crash::{How, litter, run_child},
    dir_in_memory, is_child, is_child_with, open_at,
    ops::{clear, list, perform, see, subject, try_perform},
};

/// While this is there, no sync comes to its end.
struct Held;

impl Held {
    fn begin() -> Self {
        hold_syncs(true);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        hold_syncs(false);
    }
}

struct Tree {
    subject: Subject,
    root: TempDir,
}

impl Tree {
    /// On a disk that is synced.
    async fn new(shared: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let versioned = open(root.path(), shared, Durability::PowerSafe);
        let subject = Subject::with_versioning(versioned, Some(VersioningStatus::Enabled)).await;
        Self { subject, root }
    }

    /// Another one on the same root, which does not sync.
    async fn other(&self) -> Subject {
        let versioned = open(self.root.path(), true, Durability::ProcessSafe);
        Subject::of(versioned, self.subject.bucket.clone()).await
    }

    /// Of a key.
    fn path(&self, key: &str) -> PathBuf {
        self.root.path().join(self.subject.bucket.as_str()).join(key)
    }

    fn history_path(&self, key: &str) -> PathBuf {
        let versions = self.root.path().join(".t2/versions");
        versions.join(self.subject.bucket.as_str()).join(format!(".t2!{key}"))
    }

    /// In the history of a key.
    fn history(&self, key: &str) -> Option<Vec<String>> {
        names(&self.history_path(key))
    }

    /// Deletes a version in the background, and waits until a sync of that is held.
    async fn delete_held(&self, key: &'static str, id: VersionId) -> JoinHandle<()> {
        let before = syncs();
        let subject = self.subject.clone();
        let deleting = tokio::spawn(async move {
            subject.delete_object(by_id(&subject, key, id)).await.unwrap();
        });
        while syncs() == before {
            tokio::task::yield_now().await;
        }
        deleting
    }
}

/// What lies in a directory, in order.
fn names(dir: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(dir).ok()?;
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    Some(names)
}

fn open(root: &Path, shared: bool, durability: Durability) -> Arc<dyn Backend> {
    let options = FsOptions {
        shared,
        durability,
        ..FsOptions::new(root, Arc::new(SystemClock))
    };
    let backend = again(|| FsBackend::open(options.clone()));
    Arc::new(Versioned::new(backend, Arc::new(SystemClock)).unwrap())
}

async fn ids(subject: &Subject) -> Vec<VersionId> {
    let listed = list(subject).await.unwrap();
    listed.iter().map(|entry| entry.version_id().unwrap().clone()).collect()
}

/// The two names lie in two directories, whose changes may reach the disk in either order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_comes_back_keeps_its_name_in_the_history_until_the_other_is_durable() {
    const TEST: &str = "half_done::a_version_that_comes_back_keeps_its_name_in_the_history_until_the_other_is_durable";
    if !is_child(TEST) {
        return;
    }
    let tree = Tree::new(false).await;
    let first = tree.subject.put("key", "first").await.version_id.unwrap();
    let second = tree.subject.put("key", "second").await.version_id.unwrap();
    let held = Held::begin();
    let deleting = tree.delete_held("key", second).await;
    assert_eq!(tree.subject.get("key").await.unwrap(), "first", "it is back");
    assert_eq!(tree.history("key").unwrap().len(), 1, "and its other name is there");
    drop(held);
    deleting.await.unwrap();
    assert_eq!(tree.history("key").unwrap().len(), 0);
    // The same beneath a delete marker.
    let marker = tree.subject.delete("key").await.version_id.unwrap();
    let held = Held::begin();
    let deleting = tree.delete_held("key", marker).await;
    assert_eq!(tree.subject.get("key").await.unwrap(), "first", "it is back");
    assert_eq!(tree.history("key").unwrap().len(), 1, "and its other name is there");
    drop(held);
    deleting.await.unwrap();
    assert_eq!(tree.history("key").unwrap().len(), 0);
    assert_eq!(ids(&tree.subject).await, [first]);
}

/// Whoever lists versions reads the directory of the bucket first, then that of the histories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_stays_while_its_key_has_a_version_again() {
    if !is_child("half_done::a_history_stays_while_its_key_has_a_version_again") {
        return;
    }
    let tree = Tree::new(true).await;
    let other = tree.other().await;
    tree.subject.put("key", "first").await;
    let marker = tree.subject.delete("key").await.version_id.unwrap();
    let first = ids(&tree.subject).await[1].clone();
    other.delete_object(by_id(&other, "key", first)).await.unwrap();
    let held = Held::begin();
    let deleting = tree.delete_held("key", marker).await;
    let again = other.put("key", "again").await.version_id.unwrap();
    drop(held);
    deleting.await.unwrap();
    assert_eq!(tree.history("key"), Some(Vec::new()), "its directory");
    assert_eq!(ids(&tree.subject).await, std::slice::from_ref(&again));
    tree.subject
        .delete_object(by_id(&tree.subject, "key", again))
        .await
        .unwrap();
    assert_eq!(tree.history("key"), None, "gone with the last version");
}

fn by_id(subject: &Subject, key: &str, id: VersionId) -> DeleteObject {
    let mut request = subject.delete_request(key);
    request.object.version_id = Some(id);
    request
}

/// What it says is gone is gone for good, also where somebody else removed it who does not know yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_finds_nothing_answers_when_that_is_durable() {
    if !is_child("half_done::a_delete_that_finds_nothing_answers_when_that_is_durable") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let options = FsOptions::new(root.path(), Arc::new(SystemClock));
    let subject = Subject::new(Arc::new(FsBackend::open(options).unwrap())).await;
    subject.put("d/key", "x").await;
    subject.put("d/other", "x").await;
    subject.delete("d/key").await;
    for key in ["d/key", "d/e/f", "nothing", "d"] {
        let before = syncs();
        assert!(!subject.delete(key).await.existed);
        assert!(syncs() > before, "{key}");
    }
    let tree = Tree::new(false).await;
    let id = tree.subject.put("d/key", "x").await.version_id.unwrap();
    for _ in 0..2 {
        let before = syncs();
        let request = by_id(&tree.subject, "d/key", id.clone());
        tree.subject.delete_object(request).await.unwrap();
        assert!(syncs() > before);
    }
}

/// Where files have one name. A listing of versions that has read the directory of the bucket while an object was away
/// comes to its key by the history alone.
#[tokio::test]
async fn a_history_stays_while_an_object_is_brought_back() {
    const TEST: &str = "half_done::a_history_stays_while_an_object_is_brought_back";
    if !is_child_with(TEST, [("T2GATE_TEST_LINKS", "none")]) {
        return;
    }
    for op in ["put key 2 10", "delete key"] {
        for call in [&[Call::Sync], &[Call::Add]] {
            let mut histories = Vec::new();
            for after in 0.. {
                let tree = Tree::new(false).await;
                tree.subject.put("key", "first").await;
                fail(call, Errno::IO.raw_os_error(), after);
                let outcome = try_perform(&tree.subject, op).await;
                if !disarm() {
                    outcome.unwrap();
                    break;
                }
                if outcome.is_err() && tree.subject.ready().await.is_ok() {
                    assert_eq!(tree.subject.get("key").await.unwrap(), "first", "{op}, {call:?}");
                    histories.push(tree.history("key"));
                    tree.subject.put("key", "second").await;
                    clear(&tree.subject).await;
                    assert_eq!(tree.history("key"), None, "gone with the last version");
                }
            }
            assert!(histories.contains(&Some(Vec::new())), "{op}, {call:?}: {histories:?}");
        }
    }
}

/// What is refused has made nothing, so nobody need look for it among the versions.
#[tokio::test]
async fn a_complete_that_is_refused_is_not_noted_as_begun() {
    let tree = Tree::new(false).await;
    tree.subject.put("key", "there").await;
    let upload = tree.subject.upload("key").await;
    let part = tree.subject.part(&upload, 1, "part").await;
    let mut request = tree.subject.complete_request(&upload, vec![part]);
    request.condition.if_none_match = true;
    let refused = tree.subject.complete_multipart_upload(request.clone()).await;
    assert!(matches!(refused, Err(BackendError::PreconditionFailed)), "{refused:?}");
    let uploads = tree.root.path().join(".t2/uploads");
    let dir = uploads
        .join(tree.subject.bucket.as_str())
        .join(upload.upload_id.as_str());
    let noted = rustix::fs::getxattr(&dir, "user.t2gate.completing", &mut [0; 16]);
    assert!(matches!(noted, Err(Errno::NODATA | Errno::NOTSUP)), "{noted:?}");
    let noted = names(&dir).unwrap();
    assert!(!noted.iter().any(|name| name.starts_with("completing")), "{noted:?}");
    request.condition.if_none_match = false;
    tree.subject.complete_multipart_upload(request).await.unwrap();
    assert_eq!(tree.subject.get("key").await.unwrap(), "part");
}

/// However many somebody has put there.
#[tokio::test]
async fn one_look_at_a_key_puts_few_things_in_their_places() {
    let tree = Tree::new(false).await;
    for n in 0..5 {
        tree.subject.put("key", format!("{n}")).await;
    }
    let (bucket, ids) = (tree.subject.bucket.clone(), ids(&tree.subject).await);
    let history = tree.history_path("key");
    let Tree { subject, root } = tree;
    drop(subject);
    for name in names(&history).unwrap() {
        fs::rename(history.join(&name), history.join(format!("{name}.away"))).unwrap();
    }
    let subject = Subject::of(open(root.path(), false, Durability::ProcessSafe), bucket).await;
    let damaged = list(&subject).await;
    assert!(matches!(damaged, Err(BackendError::Internal { .. })), "{damaged:?}");
    assert_eq!(super::half_done::ids(&subject).await, ids);
}

/// A Complete that is sent again after a crash and another write makes no second version of the object.
#[tokio::test]
async fn a_complete_that_is_sent_again_is_known_by_what_it_made() {
    const PARTS: usize = 2;
    let (mut published, mut not_yet) = (0, 0);
    for (op, is_suspended) in [
        ("multipart d/m 1 2", false),
        ("multipart d/m 1 2", true),
        ("repeated d/m 1", false),
    ] {
        for point in 1.. {
            let temp = dir_in_memory();
            let root = temp.path().join("root");
            let tree = subject(&root, "bucket", Durability::ProcessSafe).await;
            perform(&tree, "enable").await;
            if is_suspended {
                perform(&tree, "suspend").await;
            }
            drop(tree);
            if !run_child(&root, &[op.to_owned()], point, How::ALONE) {
                break;
            }
            let tree = subject(&root, "bucket", Durability::ProcessSafe).await;
            let made = ids(&tree).await;
            perform(&tree, "enable").await;
            for n in 0..3 {
                perform(&tree, &format!("put d/m {n} 10")).await;
            }
            for upload in uploads(&tree).await {
                let parts = parts(&tree, &upload).await;
                if parts.len() < PARTS {
                    continue;
                }
                let at = format!("{op:?} killed at {point}, {made:?}");
                let info = tree
                    .complete(&upload, parts)
                    .await
                    .unwrap_or_else(|e| panic!("{at}: {e}"));
                match &*made {
                    [] => not_yet += 1,
                    [made] => {
                        published += 1;
                        assert_eq!(info.version_id.as_ref(), Some(made), "{at}");
                    }
                    _ => panic!("{at}"),
                }
                let seen = see(&tree).await;
                let sizes = seen.versions["d/m"].iter().flat_map(|(_, bytes)| bytes).map(Bytes::len);
                assert_eq!(sizes.filter(|size| *size == PARTS * 1000).count(), 1, "{at}");
                assert!(uploads(&tree).await.is_empty(), "{at}");
            }
            clear(&tree).await;
        }
    }
    assert!(published >= 4 && not_yet >= 4, "{published} {not_yet}");
}

async fn uploads(subject: &Subject) -> Vec<UploadRef> {
    let listed = subject.list_multipart_uploads(subject.all_uploads()).await.unwrap();
    let uploads = listed.entries.into_iter().filter_map(|entry| match entry {
        UploadEntry::Upload(upload) => Some(subject.upload_ref(upload.key.as_str(), upload.upload_id)),
        UploadEntry::CommonPrefix(_) => None,
    });
    uploads.collect()
}

async fn parts(subject: &Subject, upload: &UploadRef) -> Vec<CompletedPart> {
    let request = ListParts {
        upload: upload.clone(),
        part_number_marker: 0,
        max_parts: 1000,
    };
    let listed = subject.list_parts(request).await.unwrap();
    listed.parts.iter().map(completed).collect()
}

/// An object that cannot have two names is away for a moment; its directory may be empty then, and others remove it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_is_judged_by_an_object_that_is_away_while_its_directory_goes() {
    const TEST: &str = "half_done::a_condition_is_judged_by_an_object_that_is_away_while_its_directory_goes";
    if !is_child_with(TEST, [("T2GATE_TEST_LINKS", "none")]) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let subject = subject(root.path(), "bucket", Durability::ProcessSafe).await;
    perform(&subject, "enable").await;
    let directory = root.path().join("bucket/a");
    // Whoever looks too late finds the new object there.
    for attempt in 0.. {
        assert!(attempt < 50);
        let condition = WriteCondition {
            if_match: Some(IfMatch::OneOf(vec![subject.put("a/b", "old").await.etag])),
            ..WriteCondition::default()
        };
        delay_changes(Duration::from_millis(100));
        let putting = tokio::spawn({
            let subject = subject.clone();
            async move { subject.put_if(condition, "a/b", "new").await }
        });
        while directory.join("b").exists() {
            tokio::task::yield_now().await;
        }
        let gone = fs::remove_dir(&directory);
        let put = putting.await.unwrap();
        delay_changes(Duration::ZERO);
        put.unwrap();
        assert_eq!(subject.get("a/b").await.unwrap(), "new");
        assert_eq!(subject.names(subject.everything()).await, ["a/b"]);
        if gone.is_ok() {
            break;
        }
    }
}

/// What a directory of the key's name had hidden is nothing any more once that file is an object.
#[tokio::test]
async fn a_deleted_file_of_others_does_not_uncover_what_it_hid() {
    const TEST: &str = "half_done::a_deleted_file_of_others_does_not_uncover_what_it_hid";
    if !is_child_with(TEST, [("T2GATE_TEST_LINKS", "none")]) {
        return;
    }
    for op in ["delete a", "put a 7 10"] {
        let root = tempfile::tempdir().unwrap();
        let subject = subject(root.path(), "bucket", Durability::ProcessSafe).await;
        let path = root.path().join("bucket/a");
        fs::create_dir(&path).unwrap();
        subject.put("a", "beside the directory").await;
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "of others").unwrap();
        assert!(root.path().join("bucket/.t2!a").exists());
        perform(&subject, "enable").await;
        perform(&subject, op).await;
        assert!(!root.path().join("bucket/.t2!a").exists(), "{op}");
        let versions = list(&subject).await.unwrap();
        assert_eq!(versions.len(), 2, "{op}: {versions:?}");
        let current = subject.get("a").await;
        assert_eq!(current.is_some(), op != "delete a", "{op}: {current:?}");
    }
}

/// What could not be put back at once comes back before the answer: a listing by name does not look into histories.
#[tokio::test]
async fn an_object_that_is_away_is_back_when_the_write_is_refused() {
    const TEST: &str = "half_done::an_object_that_is_away_is_back_when_the_write_is_refused";
    if !is_child_with(TEST, [("T2GATE_TEST_LINKS", "none")]) {
        return;
    }
    for op in ["put d/key 2 10", "delete d/key"] {
        let mut refused = 0;
        for after in 0.. {
            let root = tempfile::tempdir().unwrap();
            let subject = subject(root.path(), "bucket", Durability::ProcessSafe).await;
            perform(&subject, "enable").await;
            subject.put("d/key", "first").await;
            // The step, and the one that takes the step before it back.
            for _ in 0..2 {
                fail(&[Call::Add], Errno::IO.raw_os_error(), after);
            }
            let outcome = try_perform(&subject, op).await;
            let happened = disarm();
            if outcome.is_ok() && !happened {
                break;
            }
            if outcome.is_err() {
                refused += 1;
                let names = subject.names(subject.everything()).await;
                assert_eq!(names, ["d/key"], "{op}, {after}");
                assert_eq!(subject.get("d/key").await.unwrap(), "first");
            }
        }
        assert!(refused > 1, "{op}: {refused}");
    }
}

/// A note that could not be followed is followed by the next start.
#[tokio::test]
async fn what_a_crash_left_is_tidied_up_by_the_next_start_if_this_one_cannot() {
    const TEST: &str = "half_done::what_a_crash_left_is_tidied_up_by_the_next_start_if_this_one_cannot";
    if !is_child(TEST) {
        return;
    }
    let mut failed = 0;
    for point in 1.. {
        let temp = dir_in_memory();
        let left = temp.path().join("left");
        let before = subject(&left, "bucket", Durability::ProcessSafe).await;
        perform(&before, "large d/e/f 1").await;
        drop(before);
        if !run_child(&left, &["delete d/e/f".to_owned()], point, How::ALONE) {
            break;
        }
        for call in [&[Call::Open], &[Call::Look], &[Call::Remove]] {
            for after in 0.. {
                let root = temp.path().join("root");
                let copied = Command::new("cp").arg("-aT").args([&left, &root]).status().unwrap();
                assert!(copied.success());
                fail(call, Errno::IO.raw_os_error(), after);
                let started = open_at(&root);
                let happened = disarm();
                failed += usize::from(happened && started.is_ok());
                drop(started);
                drop(again(|| open_at(&root)));
                assert_eq!(litter(&root), Vec::<String>::new(), "{point}, {call:?} {after}");
                fs::remove_dir_all(&root).unwrap();
                if !happened {
                    break;
                }
            }
        }
    }
    assert!(failed > 10, "{failed}");
}
