//! P3 and P2 in the middle of a change: in which order names become durable, what others do meanwhile, and what is sent
//! again after a crash.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use t2gate_backends::{
    Backend, CompletedPart, DeleteObject, Durability, FsBackend, FsOptions, ListParts, SystemClock, UploadEntry,
    UploadRef, VersionId, Versioned, VersioningStatus,
    conformance::{Subject, completed},
    crash_points::{hold_syncs, syncs},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    again,
    beside::has_extended_attributes,
    crash::{How, run_child},
    is_child,
    ops::{clear, list, perform, see, subject},
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

    /// In the history of a key.
    fn history(&self, key: &str) -> Option<Vec<String>> {
        let versions = self.root.path().join(".t2/versions");
        let entries = fs::read_dir(versions.join(self.subject.bucket.as_str()).join(format!(".t2!{key}"))).ok()?;
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        Some(names.collect())
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
    if !has_extended_attributes()
        || !is_child("half_done::a_version_that_comes_back_keeps_its_name_in_the_history_until_the_other_is_durable")
    {
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
    if !has_extended_attributes() || !is_child("half_done::a_history_stays_while_its_key_has_a_version_again") {
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
    if !has_extended_attributes() {
        return;
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

/// A Complete that is sent again after a crash and another write makes no second version of the object.
#[tokio::test]
async fn a_complete_that_is_sent_again_is_known_by_what_it_made() {
    if !has_extended_attributes() {
        return;
    }
    const PARTS: usize = 2;
    let (mut published, mut not_yet) = (0, 0);
    for (op, is_suspended) in [
        ("multipart d/m 1 2", false),
        ("multipart d/m 1 2", true),
        ("repeated d/m 1", false),
    ] {
        for point in 1.. {
            let root = tempfile::tempdir().unwrap();
            let tree = subject(root.path(), "bucket", Durability::ProcessSafe).await;
            perform(&tree, "enable").await;
            if is_suspended {
                perform(&tree, "suspend").await;
            }
            drop(tree);
            if !run_child(root.path(), &[op.to_owned()], point, How::ALONE) {
                break;
            }
            let tree = subject(root.path(), "bucket", Durability::ProcessSafe).await;
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
