//! P3 on the filesystem: what lies where, what others do to the tree, what races.

use std::{collections::BTreeSet, fs, sync::Arc};

use rustix::fs::{IFlags, ioctl_setflags};
use t2gate_backends::{
    Backend, BackendError, FsBackend, IfMatch, SystemClock, TestClock, Timestamp, VersionEntry, VersionId, Versioned,
    VersioningStatus, WriteCondition,
    conformance::{Subject, read_whole},
};

use crate::{
    dir_in_memory,
    mounted::Mounted,
    ops::list,
    options,
    versioned::{Tree, id, open},
};

impl Tree {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::with(root, Some(VersioningStatus::Enabled), Arc::new(SystemClock)).await
    }

    async fn on(mounted: &Mounted) -> Self {
        let root = tempfile::tempdir_in(mounted.path()).unwrap();
        Self::with(root, Some(VersioningStatus::Enabled), Arc::new(SystemClock)).await
    }

    /// The names in the history of a key.
    fn history(&self, key: &str) -> Vec<String> {
        let dir = self.root.path().join(".t2/versions").join(self.bucket.as_str());
        let Ok(entries) = fs::read_dir(dir.join(key)) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    async fn listed(&self) -> Vec<VersionEntry> {
        list(&self.subject).await.unwrap()
    }

    async fn get_version(&self, key: &str, id: &VersionId) -> Result<bytes::Bytes, BackendError> {
        Ok(read_whole(self.open_version(key, id).await?).await)
    }
}

fn inode(path: &std::path::Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).unwrap();
    (meta.ino(), meta.nlink())
}

#[tokio::test]
async fn an_overwrite_keeps_the_very_file_and_copies_nothing() {
    let tree = Tree::new().await;
    tree.put("d/key", "old").await;
    let (old, _) = inode(&tree.path("d/key"));
    tree.put("d/key", "new").await;
    let names = tree.history("d/.t2!key");
    assert_eq!(names.len(), 1);
    let kept = tree.root.path().join(".t2/versions").join(tree.bucket.as_str());
    assert_eq!(inode(&kept.join("d/.t2!key").join(&names[0])), (old, 1));
    assert_eq!(fs::read(tree.path("d/key")).unwrap(), b"new");
    // And back.
    let newest = tree.ids().await[0].clone();
    tree.delete_version("d/key", &newest).await;
    assert_eq!(inode(&tree.path("d/key")), (old, 1));
    assert_eq!(tree.history("d/.t2!key"), Vec::<String>::new());
    let last = tree.ids().await[0].clone();
    tree.delete_version("d/key", &last).await;
    assert_eq!(tree.history(""), Vec::<String>::new(), "nothing is left");
}

#[tokio::test]
async fn a_foreign_file_is_current_and_is_kept_when_it_is_displaced() {
    let tree = Tree::new().await;
    let first = tree.put("key", "first").await;
    fs::remove_file(tree.path("key")).unwrap();
    fs::write(tree.path("key"), "foreign").unwrap();
    // What it replaced is lost: a foreign removal.
    assert_eq!(tree.ids().await, [VersionId::null()]);
    assert_eq!(tree.info("key").await.version_id, Some(VersionId::null()));
    assert!(matches!(
        tree.get_version("key", &id(&first)).await,
        Err(BackendError::NoSuchVersion)
    ));
    let second = tree.put("key", "second").await;
    assert_eq!(tree.ids().await, [id(&second), VersionId::null()]);
    assert_eq!(tree.get_version("key", &VersionId::null()).await.unwrap(), "foreign");
    // There is one `null` at most: the next gets an id of its own, by every kind of read the same.
    fs::rename(tree.path("key"), tree.path("elsewhere")).unwrap();
    fs::write(tree.path("key"), "foreign again").unwrap();
    let ids = tree.ids().await;
    let by_name = tree.info("key").await;
    assert_eq!((by_name.version_id.clone(), ids.len()), (Some(ids[1].clone()), 3));
    assert!(!id(&by_name).is_null());
    assert_eq!(tree.get_version("key", &id(&by_name)).await.unwrap(), "foreign again");
    let in_listing = tree.list_objects(tree.everything()).await.unwrap();
    assert!(format!("{in_listing:?}").contains(id(&by_name).as_str()));
    let third = tree.put("key", "third").await;
    assert_eq!(tree.get_version("key", &id(&by_name)).await.unwrap(), "foreign again");
    // The file that was moved says what it was elsewhere, which counts for nothing here.
    assert!(tree.info("elsewhere").await.version_id.unwrap().is_null());
    // Uncovered, it still is what it was called.
    tree.delete_version("key", &id(&third)).await;
    assert_eq!(tree.info("key").await.version_id, by_name.version_id);
    assert_eq!(tree.listed().await.len(), 3);
    let tree = tree.again().await;
    assert_eq!(tree.info("key").await.version_id, by_name.version_id);
    tree.delete_version("key", &id(&by_name)).await;
    assert_eq!(tree.get("key").await.unwrap(), "foreign");
}

#[tokio::test]
async fn a_foreign_file_can_be_replaced_on_a_condition() {
    let tree = Tree::new().await;
    fs::write(tree.path("key"), "foreign").unwrap();
    let tag = tree.info("key").await.etag;
    let condition = |etag| WriteCondition {
        if_match: Some(IfMatch::OneOf(vec![etag])),
        ..WriteCondition::default()
    };
    // Its tag is derived from its change time, which a second name changes.
    tree.put_if(condition(tag), "key", "new").await.unwrap();
    assert_eq!(tree.get_version("key", &VersionId::null()).await.unwrap(), "foreign");
    fs::write(tree.path("other"), "foreign").unwrap();
    let tag = tree.info("other").await.etag;
    let outcome = tree.delete_if(condition(tag), "other").await.unwrap();
    assert!(outcome.delete_marker && outcome.existed);
}

#[tokio::test]
async fn a_foreign_removal_counts_as_a_delete() {
    let tree = Tree::new().await;
    let first = tree.put("key", "first").await;
    tree.put("key", "second").await;
    fs::remove_file(tree.path("key")).unwrap();
    assert!(tree.all_keys().await.is_empty());
    let Err(BackendError::DeleteMarker { version_id, .. }) = tree.open("key").await else {
        panic!("it was removed");
    };
    assert_eq!(tree.ids().await, [version_id.clone(), id(&first)]);
    let tree = tree.again().await;
    assert!(tree.get("key").await.is_none());
    tree.delete_version("key", &version_id).await;
    assert_eq!(tree.get("key").await.unwrap(), "first");
}

#[tokio::test]
async fn a_file_that_was_brought_back_is_current_whatever_it_says() {
    let tree = Tree::new().await;
    let first = tree.put("key", "first").await;
    fs::rename(tree.path("key"), tree.path("aside")).unwrap();
    tree.put("key", "second").await;
    tree.put("key", "third").await;
    fs::rename(tree.path("aside"), tree.path("key")).unwrap();
    let listed = tree.ids().await;
    assert_eq!(listed.len(), 2);
    assert_ne!(listed[0], id(&first));
    assert_eq!(tree.info("key").await.version_id.as_ref(), Some(&listed[0]));
    assert_eq!(tree.get("key").await.unwrap(), "first");
}

#[tokio::test]
async fn what_is_only_out_of_reach_is_not_taken_for_deleted() {
    let tree = Tree::new().await;
    tree.put("key", "first").await;
    let second = tree.put("key", "second").await;
    fs::rename(tree.path("key"), tree.root.path().join("aside")).unwrap();
    std::os::unix::fs::symlink("elsewhere", tree.path("key")).unwrap();
    assert!(matches!(tree.open("key").await, Err(BackendError::NoSuchKey)));
    assert_eq!(tree.listed().await.len(), 1);
    fs::rename(tree.root.path().join("aside"), tree.path("key")).unwrap();
    assert_eq!(tree.info("key").await, second);
    assert_eq!(tree.listed().await.len(), 2);
    // A directory is another thing.
    fs::remove_file(tree.path("key")).unwrap();
    fs::create_dir(tree.path("key")).unwrap();
    assert!(matches!(tree.open("key").await, Err(BackendError::DeleteMarker { .. })));
}

#[tokio::test]
async fn a_version_that_a_foreign_file_hides_is_kept() {
    let tree = Tree::new().await;
    let below = tree.put("a/b", "below").await;
    let first = tree.put("a", "first").await;
    assert!(tree.path(".t2!a").exists());
    tree.delete_version("a/b", &id(&below)).await;
    fs::write(tree.path("a"), "foreign").unwrap();
    let second = tree.put("a", "second").await;
    let ids = tree.ids().await;
    assert_eq!(ids, [id(&second), VersionId::null(), id(&first)]);
    assert_eq!(tree.get_version("a", &id(&first)).await.unwrap(), "first");
    assert!(!tree.path(".t2!a").exists());
}

#[tokio::test]
async fn a_copy_of_a_kept_file_by_other_means_is_another_version() {
    let tree = Tree::new().await;
    tree.put("key", "first").await;
    let copied = tree.root.path().join("copied");
    let cp = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status()
            .unwrap();
        assert!(done.success());
    };
    cp(&tree.path("key"), &copied);
    let second = tree.put("key", "second").await;
    cp(&copied, &tree.path("new"));
    fs::rename(tree.path("new"), tree.path("key")).unwrap();
    let ids: BTreeSet<_> = tree.ids().await.into_iter().collect();
    assert_eq!(ids.len(), 2, "what it replaced is lost, and it has an id of its own");
    assert!(!ids.contains(&id(&second)));
    assert_eq!(ids.first(), tree.ids().await.iter().min());
    assert_eq!(tree.get("key").await.unwrap(), "first");
}

/// Files that cannot have two names: here because they have as many as the file system allows.
#[tokio::test]
#[ignore = "mounts a file system with such a limit: needs root, loop devices and mkfs.ext4"]
async fn what_cannot_be_linked_is_moved() {
    let mounted = Mounted::image("ext4", "64M");
    let tree = Tree::on(&mounted).await;
    let written = tree.put("key", "one").await;
    let names = tree.root.path().join("names");
    fs::create_dir(&names).unwrap();
    let mut n = 0;
    while fs::hard_link(tree.path("key"), names.join(n.to_string())).is_ok() {
        n += 1;
        assert!(n < 70_000, "there is a limit");
    }
    let second = tree.put("key", "two").await;
    assert_eq!(tree.ids().await, [id(&second), id(&written)]);
    assert_eq!(tree.get_version("key", &id(&written)).await.unwrap(), "one");
    tree.delete_version("key", &id(&second)).await;
    assert_eq!(tree.info("key").await, written);
    let marker = tree.delete("key").await.version_id.unwrap();
    assert_eq!(tree.ids().await, [marker.clone(), id(&written)]);
    assert!(tree.get("key").await.is_none());
    tree.delete_version("key", &marker).await;
    assert_eq!(tree.info("key").await, written);
    assert_eq!(tree.ids().await, [id(&written)]);
}

#[tokio::test]
#[ignore = "mounts a file system where files can be made immutable: needs root, loop devices and mkfs.ext4"]
async fn a_refused_link_is_no_failure_where_the_file_cannot_be_moved_either() {
    let mounted = Mounted::image("ext4", "64M");
    let tree = Tree::on(&mounted).await;
    let written = tree.put("key", "one").await;
    let file = fs::File::open(tree.path("key")).unwrap();
    ioctl_setflags(&file, IFlags::IMMUTABLE).unwrap();
    let refused = tree.put_if(WriteCondition::default(), "key", "two").await;
    let deleted = tree.delete_if(WriteCondition::default(), "key").await;
    ioctl_setflags(&file, IFlags::empty()).unwrap();
    assert!(refused.is_err() && deleted.is_err());
    assert_eq!(tree.info("key").await, written);
    assert_eq!(tree.ids().await, [id(&written)]);
    tree.put("key", "two").await;
    assert_eq!(tree.listed().await.len(), 2);
}

#[tokio::test]
async fn clocks_that_step_back_do_not_reorder_versions() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::new(Timestamp::from_unix(2_000_000_000, 0)));
    let open = || open(root.path(), clock.clone());
    let subject = Subject::with_versioning(open(), Some(VersioningStatus::Enabled)).await;
    let mut written = Vec::new();
    for n in 0..6 {
        clock.set(Timestamp::from_unix(2_000_000_000 - n * 1000, 0));
        written.push(id(&subject.put("key", format!("{n}")).await));
    }
    written.reverse();
    assert!(written.is_sorted_by(|a, b| a > b), "ids sort as they were written");
    let bucket = subject.bucket.clone();
    drop(subject);
    let tree = Tree {
        subject: Subject::of(open(), bucket).await,
        root,
    };
    assert_eq!(tree.ids().await, written);
}

/// P3: two versions with the same ETag are two versions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_bytes_written_at_once_are_all_kept() {
    let tree = Arc::new(Tree::new().await);
    for _ in 0..5 {
        let writers = (0..8).map(|_| {
            let tree = Arc::clone(&tree);
            tokio::spawn(async move { id(&tree.put("key", "same").await) })
        });
        let ids: BTreeSet<_> = futures::future::join_all(writers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(ids.len(), 8);
        let listed: BTreeSet<_> = tree.ids().await.into_iter().collect();
        assert!(listed.is_superset(&ids));
        for id in &ids {
            assert_eq!(tree.get_version("key", id).await.unwrap(), "same");
        }
    }
    assert_eq!(tree.listed().await.len(), 40);
}

/// P3 under load: every acknowledged version is there with its bytes until it is deleted, exactly one is the latest, and a
/// listing never misses a key that has versions, whether its newest is an object or a marker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_where_writers_and_deleters_meet() {
    const KEYS: [&str; 3] = ["a", "a/b", "d/e"];
    let tree = Arc::new(Tree::new().await);
    // Of each key one version is never deleted by id.
    let mut anchors = Vec::new();
    for key in KEYS {
        anchors.push((key, id(&tree.put(key, format!("anchor of {key}")).await)));
    }
    let actors = (0..6_usize).map(|actor| {
        let tree = Arc::clone(&tree);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for n in 0..40_usize {
                let key = KEYS[(actor + n) % KEYS.len()];
                match (actor + n * 7) % 5 {
                    0 | 1 => {
                        let bytes = format!("{key} {actor} {n}");
                        kept.push((key, id(&tree.put(key, bytes.clone()).await), Some(bytes)));
                    }
                    2 => {
                        if let Some(marker) = tree.delete(key).await.version_id {
                            kept.push((key, marker, None));
                        }
                    }
                    3 => {
                        if let Some((key, id, _)) = (!kept.is_empty()).then(|| kept.swap_remove(n % kept.len())) {
                            assert!(tree.delete_version(key, &id).await.existed, "{id} of {key} is gone");
                        }
                    }
                    _ => {
                        let listed = tree.listed().await;
                        for key in KEYS {
                            let latest = listed.iter().filter(|entry| match entry {
                                VersionEntry::Object { info, is_latest } => *is_latest && info.key.as_str() == key,
                                VersionEntry::DeleteMarker(marker) => marker.is_latest && marker.key.as_str() == key,
                                VersionEntry::CommonPrefix(_) => false,
                            });
                            assert_eq!(latest.count(), 1, "{key} in {listed:?}");
                        }
                    }
                }
                for (key, id, bytes) in kept.iter().rev().take(2) {
                    match (tree.get_version(key, id).await, bytes) {
                        (Ok(found), Some(bytes)) => assert_eq!(found, bytes.as_bytes()),
                        (Err(BackendError::DeleteMarker { .. }), None) => {}
                        (found, _) => panic!("{id} of {key}: {found:?}"),
                    }
                }
            }
            kept
        })
    });
    let mut expected: BTreeSet<(String, VersionId)> =
        anchors.iter().map(|(key, id)| ((*key).into(), id.clone())).collect();
    for kept in futures::future::join_all(actors).await {
        expected.extend(kept.unwrap().into_iter().map(|(key, id, _)| (key.to_owned(), id)));
    }
    let listed = tree.listed().await;
    let found: BTreeSet<_> = listed
        .iter()
        .map(|entry| (entry.name().to_owned(), entry.version_id().unwrap().clone()))
        .collect();
    assert_eq!(found.len(), listed.len(), "none is listed twice");
    assert_eq!(found, expected);
    for (key, id) in anchors {
        assert_eq!(tree.get_version(key, &id).await.unwrap(), format!("anchor of {key}"));
    }
}

#[tokio::test]
async fn a_suspended_bucket_has_one_null_whatever_was_left() {
    let tree = Tree::new().await;
    tree.set_versioning(VersioningStatus::Suspended).await;
    tree.put("key", "one").await;
    // As a crash leaves it that came before the older one went.
    let dir = tree
        .root
        .path()
        .join(".t2/versions")
        .join(tree.bucket.as_str())
        .join(".t2!key/null");
    fs::create_dir_all(&dir).unwrap();
    for (stamp, bytes) in [
        ("fffffffffffffffe0000000000000000", "zero"),
        ("ffffffffffffffff0000000000000000", "-1"),
    ] {
        fs::write(dir.join(stamp), bytes).unwrap();
    }
    assert_eq!(tree.ids().await, [VersionId::null()]);
    assert_eq!(tree.get_version("key", &VersionId::null()).await.unwrap(), "one");
    tree.put("key", "two").await;
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "the next write tidies up");
    tree.delete_version("key", &VersionId::null()).await;
    assert!(tree.listed().await.is_empty());
}

#[tokio::test]
async fn versions_of_a_bucket_that_somebody_else_removed_are_put_away() {
    let tree = Tree::new().await;
    tree.put("key", "one").await;
    tree.put("key", "two").await;
    fs::remove_dir_all(tree.root.path().join(tree.bucket.as_str())).unwrap();
    fs::remove_file(tree.root.path().join(".t2/buckets").join(tree.bucket.as_str())).unwrap();
    let tree = tree.again().await;
    assert!(tree.listed().await.is_empty(), "the new bucket knows nothing of them");
    assert_eq!(fs::read_dir(tree.root.path().join(".t2/lost")).unwrap().count(), 1);
}

/// Two windows of memory and more for the names of one key's versions, and pages that go on where the last ended.
#[tokio::test]
async fn a_key_of_many_versions_is_listed_whole_in_little_memory() {
    let root = dir_in_memory();
    let mut small = options(root.path());
    small.listing_cache_bytes = 0;
    let fs = FsBackend::open(small).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(Versioned::new(fs, Arc::new(SystemClock)).unwrap());
    let subject = Subject::with_versioning(backend, Some(VersioningStatus::Enabled)).await;
    let tree = Tree { subject, root };
    tree.put("key", "one").await;
    tree.put("key", "newest").await;
    let dir = tree
        .root
        .path()
        .join(".t2/versions")
        .join(tree.bucket.as_str())
        .join(".t2!key");
    // The least window holds some 6,000 names.
    const MARKERS: usize = 15_000;
    for n in 0..MARKERS {
        fs::write(dir.join(format!("f{n:031x}.d")), "").unwrap();
    }
    let mut request = t2gate_backends::ListObjectVersions {
        bucket: tree.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 999,
    };
    let mut ids = Vec::new();
    loop {
        let page = tree.list_object_versions(request.clone()).await.unwrap();
        ids.extend(page.entries.iter().map(|entry| entry.version_id().unwrap().clone()));
        request.key_marker = Some("key".into());
        request.version_id_marker = ids.last().cloned();
        if !page.is_truncated {
            break;
        }
    }
    assert_eq!(ids.len(), MARKERS + 2);
    assert!(ids.is_sorted_by(|a, b| a > b));
}

// ---- what steps aside

/// An object has its other name, for others lie below its first; somebody takes those away and puts a file there. The
/// next object below moves that aside, over the version that is nowhere else.
#[tokio::test]
async fn a_version_that_had_stepped_aside_is_not_lost_to_a_file_that_does() {
    let tree = Tree::new().await;
    let first = tree.put("a", "first").await.version_id.unwrap();
    tree.put("a/b", "below").await;
    fs::remove_dir_all(tree.path("a")).unwrap();
    fs::write(tree.path("a"), "foreign").unwrap();
    tree.put("a/c", "below").await;
    assert_eq!(tree.get("a").await.unwrap(), "foreign");
    let mut object = tree.object("a");
    object.version_id = Some(first);
    assert_eq!(read_whole(tree.open_object(&object).await.unwrap()).await, "first");
}

/// A rename does nothing where both names are of one file.
#[tokio::test]
async fn an_object_with_both_names_steps_aside() {
    let tree = Tree::new().await;
    tree.put("a", "bytes").await;
    fs::hard_link(tree.path("a"), tree.path(".t2!a")).unwrap();
    tree.put("a/b", "below").await;
    assert_eq!(tree.get("a").await.unwrap(), "bytes");
    assert_eq!(tree.get("a/b").await.unwrap(), "below");
}
