//! What is durable before something else is done that relies on it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use rustix::io::Errno;
use t2gate_backends::{
    BucketName, Durability, FsBackend, FsOptions, SystemClock, VersionEntry, VersionId,
    conformance::Subject,
    crash_points::{Call, disarm, fail, syncs},
};
use tempfile::TempDir;

use super::{Held, Tree, by_id, names, open, parts, uploads};
use crate::{
    again,
    beside::{again_or, has_side_files},
    crash::{How, run_child},
    dir_in_memory, is_child, is_child_with,
    ops::{list, perform, subject},
};

const FAIL: i32 = Errno::IO.raw_os_error();

/// Roots in which these requests were cut off at each point in turn.
async fn cut_off(before: &[&str], op: &str) -> Vec<TempDir> {
    let mut roots = Vec::new();
    for point in 1.. {
        let temp = dir_in_memory();
        let root = temp.path().join("root");
        let tree = subject(&root, "bucket", Durability::ProcessSafe).await;
        for op in before {
            perform(&tree, op).await;
        }
        drop(tree);
        if !run_child(&root, &[op.to_owned()], point, How::ALONE) {
            break;
        }
        roots.push(temp);
    }
    roots
}

/// Whose object is there, and the upload too.
async fn completed_and_not_ended() -> (TempDir, Arc<FsBackend>, Subject) {
    for temp in cut_off(&["enable"], "multipart m 1 2").await {
        let root = temp.path().join("root");
        if !root.join("bucket/m").exists() || names(&root.join(".t2/uploads/bucket")) == Some(Vec::new()) {
            continue;
        }
        let options = FsOptions::new(&root, Arc::new(SystemClock));
        let backend = Arc::new(again(|| FsBackend::open(options.clone())));
        let subject = Subject::of(backend.clone(), BucketName::parse("bucket").unwrap()).await;
        return (temp, backend, subject);
    }
    panic!("no point lies between the object and the end of its upload");
}

/// After a crash an object may be seen that is not durable, and its parts are all that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_an_object_go_when_that_is_durable() {
    if !is_child("half_done::synced::the_parts_of_an_object_go_when_that_is_durable") {
        return;
    }
    for swept in [false, true] {
        let (temp, backend, subject) = completed_and_not_ended().await;
        let [upload] = <[_; 1]>::try_from(uploads(&subject).await).unwrap();
        let parts = parts(&subject, &upload).await;
        let left = || names(&temp.path().join("root/.t2/uploads/bucket")).unwrap();
        assert_eq!(left(), [upload.upload_id.as_str()]);
        let (held, before) = (Held::begin(), syncs());
        let ending = tokio::spawn(async move {
            if swept {
                assert_eq!(backend.sweep_uploads().await.unwrap(), 0);
            } else {
                subject.complete(&upload, parts).await.unwrap();
            }
        });
        while syncs() == before && !ending.is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(syncs() > before, "swept: {swept}");
        assert_eq!(left().len(), 1, "swept: {swept}");
        drop(held);
        ending.await.unwrap();
        assert_eq!(left().len(), 0, "swept: {swept}");
    }
}

/// After a crash the name that is left may be one that is not durable.
#[tokio::test]
async fn a_start_removes_a_second_name_when_the_other_is_durable() {
    if !is_child("half_done::synced::a_start_removes_a_second_name_when_the_other_is_durable") {
        return;
    }
    let mut seen = 0;
    for temp in cut_off(&["enable", "put key 1 10", "put key 2 10"], "delete-version key 0").await {
        let root = temp.path().join("root");
        let history = root.join(".t2/versions/bucket/.t2!key");
        let has_note = names(&root.join(".t2/staging"))
            .unwrap()
            .iter()
            .any(|name| name.starts_with("tidy."));
        // The object under the key's name is the one that is left in the history.
        let Ok([kept]) = <[String; 1]>::try_from(names(&history).unwrap_or_default()) else {
            continue;
        };
        let ino = |path: &Path| fs::metadata(path).unwrap().ino();
        if !has_note || ino(&root.join("bucket/key")) != ino(&history.join(&kept)) {
            continue;
        }
        seen += 1;
        fail(&[Call::Sync], FAIL, 0);
        let options = FsOptions::new(&root, Arc::new(SystemClock));
        // Where there is a note of a side file, all is synced before anything is done, and the start is refused.
        let opened = again_or(|| FsBackend::open(options.clone()));
        assert!(opened.is_ok() || has_side_files(&root), "{opened:?}");
        assert!(disarm(), "nothing was synced");
        assert_eq!(names(&history).unwrap(), [kept]);
        drop(opened);
    }
    assert!(seen > 0);
}

/// What is where after a sync that failed: each in turn.
async fn after_each_failed_sync<T>(
    prepare: &[&str],
    attempt: impl AsyncFn(&Tree),
    look: impl Fn(&Tree) -> T,
) -> Vec<T> {
    let mut found = Vec::new();
    for after in 0.. {
        let tree = Tree::new(false).await;
        for op in prepare {
            perform(&tree.subject, op).await;
        }
        fail(&[Call::Sync], FAIL, after);
        attempt(&tree).await;
        if !disarm() {
            break;
        }
        found.push(look(&tree));
    }
    found
}

#[tokio::test]
async fn a_null_version_that_a_marker_replaces_has_its_other_name_until_that_is_durable() {
    const TEST: &str =
        "half_done::synced::a_null_version_that_a_marker_replaces_has_its_other_name_until_that_is_durable";
    if !is_child(TEST) {
        return;
    }
    let delete = async |tree: &Tree| drop(tree.subject.delete_if(Default::default(), "key").await);
    let look = |tree: &Tree| {
        let nulls = names(&tree.history_path("key").join("null")).unwrap_or_default();
        let markers = nulls.iter().filter(|name| name.ends_with(".d")).count();
        (tree.path("key").exists(), nulls.len() - markers, markers)
    };
    let found = after_each_failed_sync(&["suspend", "put key 1 10"], delete, look).await;
    assert!(found.contains(&(false, 1, 1)), "{found:?}");
    assert!(found.contains(&(false, 0, 1)), "{found:?}");
}

/// Else it would be in the history alone on the disk, and newer there than nothing: as good as deleted by somebody else.
#[tokio::test]
async fn a_version_that_is_deleted_loses_its_name_in_the_history_durably_first() {
    const TEST: &str = "half_done::synced::a_version_that_is_deleted_loses_its_name_in_the_history_durably_first";
    if !is_child(TEST) {
        return;
    }
    // What says nothing of its version is known by its second name.
    let delete = async |tree: &Tree| {
        fs::write(tree.path("key"), "by others").unwrap();
        tree.subject.put("key", "ours").await;
        let [ours, _] = <[VersionId; 2]>::try_from(super::ids(&tree.subject).await).unwrap();
        let (of_ours, of_theirs) = (
            by_id(&tree.subject, "key", ours),
            by_id(&tree.subject, "key", VersionId::null()),
        );
        tree.subject.delete_object(of_ours).await.unwrap();
        assert_eq!(tree.subject.get("key").await.unwrap(), "by others");
        fail(&[Call::Sync], FAIL, 0);
        drop(tree.subject.delete_object(of_theirs).await);
    };
    let tree = Tree::new(false).await;
    delete(&tree).await;
    assert!(disarm());
    let nulls = names(&tree.history_path("key").join("null")).unwrap();
    assert_eq!((tree.path("key").exists(), nulls.len()), (true, 0));
}

/// Where files have one name a delete marker is removed before the version beneath it has its place. If that cannot be had
/// the marker is there again, durably: else the delete that was acknowledged would be undone by a loss of power.
#[tokio::test]
async fn a_marker_that_comes_back_is_durable() {
    const TEST: &str = "half_done::synced::a_marker_that_comes_back_is_durable";
    if !is_child_with(TEST, [("T2GATE_TEST_LINKS", "none")]) {
        return;
    }
    let mut unknown = 0;
    for add in 0..12 {
        for sync in 0..16 {
            let tree = Tree::new(false).await;
            tree.subject.put("key", "first").await;
            let marker = tree.subject.delete("key").await.version_id.unwrap();
            let before = tree.history("key");
            fail(&[Call::Add], FAIL, add);
            fail(&[Call::Sync], FAIL, sync);
            let outcome = tree.subject.delete_object(by_id(&tree.subject, "key", marker)).await;
            let happened = disarm();
            if happened && tree.history("key") == before && tree.subject.ready().await.is_err() {
                outcome.unwrap_err();
                unknown += 1;
                let root = tree.root;
                drop(tree.subject);
                let backend = open(root.path(), false, Durability::ProcessSafe);
                let listed = list(&Subject::of(backend, bucket_of(&root)).await).await.unwrap();
                assert!(
                    matches!(&*listed, [VersionEntry::DeleteMarker(_), VersionEntry::Object { .. }]),
                    "{listed:?}"
                );
            }
        }
    }
    assert!(unknown > 0);
}

/// The only one.
fn bucket_of(root: &TempDir) -> BucketName {
    let [name] = <[String; 1]>::try_from(names(&root.path().join(".t2/buckets")).unwrap()).unwrap();
    BucketName::parse(name).unwrap()
}
