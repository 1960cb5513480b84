//! Versions whose attributes are in side files: which file of a key they are of, and when they go.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use t2gate_backends::{
    BackendError, Clock, FsBackend, FsFindingKind, FsOptions, ListEntry, ObjectInfo, OpenObject, SystemClock,
    TestClock, Timestamp, VersionEntry, VersionId, Versioned, VersioningStatus,
    conformance::{Subject, read_whole},
    crash_points::{Call, disarm, fail, syncs},
    examine_fs,
};

use super::{ROOT, TICK, XATTRS, in_whole_seconds, put_with, side_files, writers::Writers};
use crate::{
    again, dir_in_memory, is_child,
    ops::list,
    versioned::{Tree, id, open},
};

impl Tree {
    /// A root with side files, wherever it lies.
    pub(super) async fn beside(versioning: Option<VersioningStatus>, clock: Arc<dyn Clock>) -> Self {
        let root = dir_in_memory();
        fs::create_dir(root.path().join(".t2")).unwrap();
        fs::write(root.path().join(".t2/format"), "1 side-files\n").unwrap();
        Self::with(root, versioning, clock).await
    }

    pub(super) async fn versioned() -> Self {
        Self::beside(Some(VersioningStatus::Enabled), Arc::new(SystemClock)).await
    }

    /// The file of a version that is kept.
    pub(super) fn kept(&self, key: &str, id: &VersionId) -> PathBuf {
        let history = self.root.path().join(".t2/versions").join(self.bucket.as_str());
        let turned = !u128::from_str_radix(id.as_str(), 16).unwrap();
        history.join(format!(".t2!{key}/{turned:032x}"))
    }

    /// With its bytes as metadata.
    pub(super) async fn put_named(&self, key: &str, body: &str) -> ObjectInfo {
        put_with(self, key, body).await
    }

    pub(super) async fn remove(&self, key: &str, id: &VersionId) {
        assert!(self.delete_version(key, id).await.existed);
    }

    /// All that is said of the versions, by every kind of read the same. What each has as its name, and its bytes.
    pub(super) async fn seen(&self) -> Vec<(VersionId, Option<String>, String)> {
        let mut seen = Vec::new();
        for entry in list(&self.subject).await.unwrap() {
            let VersionEntry::Object { info, is_latest } = entry else {
                continue;
            };
            let id = info.version_id.clone().unwrap();
            let open = self.open_version(info.key.as_str(), &id).await.unwrap();
            assert_eq!((&open.info.etag, &open.info.version_id), (&info.etag, &info.version_id));
            if is_latest {
                assert_eq!(self.info(info.key.as_str()).await, open.info);
                let page = self.list_objects(self.everything()).await.unwrap();
                let listed = page.entries.into_iter().find_map(|entry| match entry {
                    ListEntry::Object(listed) => (listed.key == info.key).then_some(listed),
                    ListEntry::CommonPrefix(_) => None,
                });
                assert_eq!(listed.as_ref(), Some(&info));
            }
            let metadata = open.info.attributes.user_metadata.first();
            let name = metadata.map(|(_, value)| value.to_string());
            // What has attributes has the tag of its bytes, and what has none says so.
            let is_ours = open.info.etag.as_md5().is_some();
            let bytes = read_whole(open).await;
            assert_eq!(is_ours, name.is_some());
            assert!(name.is_none() || info.etag == t2gate_backends::ETag::from_md5(md5(&bytes)));
            seen.push((id, name, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        seen
    }

    pub(super) fn sides(&self) -> usize {
        side_files(self.root.path()).len()
    }

    pub(super) fn findings(self) -> (Vec<FsFindingKind>, Self) {
        let Self { subject, root } = self;
        let bucket = subject.bucket.clone();
        drop(subject);
        let report = again(|| examine_fs(root.path(), false));
        let kinds = report.findings.iter().map(|finding| finding.kind).collect();
        let runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(Self::at(root, bucket))
        });
        (kinds, runtime.join().unwrap())
    }
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::{Digest as _, Md5};
    Md5::digest(bytes).into()
}

fn cp(how: &str, from: &Path, to: &Path) {
    let done = Command::new("cp").arg(how).args([from, to]).status().unwrap();
    assert!(done.success());
}

/// Puts a file there that has the size and the time of another.
pub(super) fn imitate(model: &Path, bytes: &str, to: &Path) {
    let time = fs::metadata(model).unwrap().modified().unwrap();
    assert_eq!(fs::metadata(model).unwrap().len(), bytes.len() as u64);
    let aside = to.with_extension("aside");
    fs::write(&aside, bytes).unwrap();
    set_time(&aside, time);
    fs::rename(aside, to).unwrap();
}

fn set_time(path: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[tokio::test]
async fn every_version_has_its_side_file_until_it_is_deleted_for_good() {
    let tree = Tree::versioned().await;
    let first = tree.put_named("key", "first").await;
    let second = tree.put_named("key", "second").await;
    let marker = tree.delete("key").await.version_id.unwrap();
    assert_eq!(tree.ids().await, [marker.clone(), id(&second), id(&first)]);
    let seen =
        [(&second, "second"), (&first, "first")].map(|(info, name)| (id(info), Some(name.to_owned()), name.to_owned()));
    assert_eq!(tree.seen().await, seen);
    assert_eq!(tree.sides(), 2);

    // A copy of the root has all of it, with the ids.
    let copy = tempfile::tempdir().unwrap();
    cp("-aT", tree.root.path(), copy.path());
    let copy = Tree::at(copy, tree.bucket.clone()).await;
    assert_eq!(copy.seen().await, seen);
    copy.delete_version("key", &marker).await;
    assert_eq!(copy.info("key").await.version_id, second.version_id);
    copy.put_named("key", "third").await;
    assert_eq!((copy.ids().await.len(), copy.sides()), (3, 3));
    copy.delete_version("key", &id(&second)).await;
    assert_eq!(copy.sides(), 2);
    let (found, _) = copy.findings();
    assert!(
        found.iter().all(|kind| *kind == FsFindingKind::OrphanedMark),
        "{found:?}"
    );

    let tree = tree.again().await;
    tree.remove("key", &marker).await;
    assert_eq!(tree.seen().await, seen);
    let (found, tree) = tree.findings();
    assert_eq!(found, []);
    tree.remove("key", &id(&second)).await;
    assert_eq!((tree.seen().await, tree.sides()), (seen[1..].to_vec(), 1));
    tree.remove("key", &id(&first)).await;
    assert_eq!((tree.seen().await, tree.sides()), (Vec::new(), 0));
    tree.delete_bucket(&tree.bucket).await.unwrap();
    assert!(tree.findings().0.is_empty());
}

#[tokio::test]
async fn what_was_there_before_versioning_keeps_its_attributes_as_the_version_null() {
    let tree = Tree::beside(None, Arc::new(SystemClock)).await;
    tree.put_named("key", "before").await;
    tree.set_versioning(VersioningStatus::Enabled).await;
    let null = VersionId::null();
    let before = (null.clone(), Some("before".to_owned()), "before".to_owned());
    assert_eq!(tree.seen().await, std::slice::from_ref(&before));
    let after = tree.put_named("key", "after").await;
    assert_eq!(tree.seen().await[1], before);
    // Somebody's file that looks like it, while it is kept, is another.
    let kept = tree.kept("key", &id(&after)).with_file_name("null");
    let kept = fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    imitate(&kept, "theirs", &tree.path("key"));
    let seen = tree.seen().await;
    assert_eq!(seen[1], before);
    assert_eq!((seen[0].1.as_deref(), &*seen[0].2), (None, "theirs"));
    tree.put_named("key", "newest").await;
    assert_eq!(tree.seen().await[1..], seen);
    tree.remove("key", &null).await;
    assert_eq!(tree.seen().await[1..], seen[..1]);
    // With the one that had gone from under its name.
    assert_eq!(tree.sides(), 2);
}

/// A copy, or a file of other bytes: that cannot be told.
#[tokio::test]
async fn a_file_with_size_and_time_of_a_kept_version_is_somebody_elses() {
    for bytes in ["first", "other"] {
        let tree = Tree::versioned().await;
        let first = tree.put_named("key", "first").await;
        let second = tree.put_named("key", "second").await;
        imitate(&tree.kept("key", &id(&first)), bytes, &tree.path("key"));
        // Whoever reads it by its name first.
        let info = tree.info("key").await;
        assert!(info.etag.as_md5().is_none(), "{info:?}");
        let page = tree.list_objects(tree.everything()).await.unwrap();
        assert!(matches!(&*page.entries, [ListEntry::Object(listed)] if listed.etag == info.etag));
        let null = VersionId::null();
        let theirs = (null.clone(), None, bytes.to_owned());
        let ours = (id(&first), Some("first".to_owned()), "first".to_owned());
        assert_eq!(tree.seen().await, [theirs.clone(), ours.clone()]);
        let gone = tree.open_version("key", &id(&second)).await;
        assert!(matches!(gone, Err(BackendError::NoSuchVersion)));
        // Its own attributes go with the version alone, also when the other is displaced, and again when that goes.
        let third = tree.put_named("key", "third").await;
        let newest = (id(&third), Some("third".to_owned()), "third".to_owned());
        assert_eq!(tree.seen().await, [newest.clone(), theirs.clone(), ours.clone()]);
        let tree = tree.again().await;
        assert_eq!(tree.seen().await, [newest.clone(), theirs.clone(), ours.clone()]);
        tree.remove("key", &null).await;
        assert_eq!(tree.seen().await, [newest, ours.clone()]);
        imitate(&tree.kept("key", &id(&first)), bytes, &tree.path("key"));
        assert_eq!(tree.seen().await, [theirs.clone(), ours]);
        tree.remove("key", &id(&first)).await;
        assert_eq!(tree.seen().await, [theirs]);
        // Those of what somebody has overwritten are left.
        assert_eq!(tree.sides(), 2);
    }
}

/// Also while the version is being deleted for good that it looks like.
#[tokio::test]
async fn a_file_of_others_never_has_the_tag_of_a_version_that_is_deleted() {
    if !is_child("beside::versions::a_file_of_others_never_has_the_tag_of_a_version_that_is_deleted") {
        return;
    }
    let mut failed = 0;
    for after in 0.. {
        let tree = Tree::versioned().await;
        let first = tree.put_named("key", "first").await;
        tree.put_named("key", "second").await;
        imitate(&tree.kept("key", &id(&first)), "other", &tree.path("key"));
        let mut request = tree.delete_request("key");
        request.object.version_id = first.version_id.clone();
        fail(&[Call::Remove], rustix::io::Errno::IO.raw_os_error(), after);
        let outcome = tree.delete_object(request).await;
        let happened = disarm();
        failed += usize::from(outcome.is_err());
        let info = tree.info("key").await;
        assert!(info.etag.as_md5().is_none(), "{after}: {info:?}");
        let tree = tree.again().await;
        assert_eq!(tree.info("key").await.etag, info.etag, "{after}");
        if !happened {
            break;
        }
    }
    assert!(failed > 0, "{failed}");
}

#[tokio::test]
async fn what_is_brought_back_has_its_attributes_and_an_id_of_its_own() {
    let tree = Tree::versioned().await;
    let upload = tree.upload("key").await;
    let parts = vec![tree.part(&upload, 2, "fi").await, tree.part(&upload, 5, "rst").await];
    let first = tree.complete(&upload, parts).await.unwrap();
    let aside = tree.path("aside");
    fs::rename(tree.path("key"), &aside).unwrap();
    let second = tree.put_named("key", "second").await;
    let third = tree.put_named("key", "third").await;
    fs::rename(&aside, tree.path("key")).unwrap();
    let ids = tree.ids().await;
    assert_eq!(ids[1..], [id(&second)], "what it replaced is lost");
    assert!(ids[0] != id(&first) && ids[0] != id(&third));
    let numbers = async |open: OpenObject| -> Vec<u16> {
        let parts = open.reader.parts(0, 10).await.unwrap();
        parts.iter().map(|part| part.part_number.get()).collect()
    };
    for _ in 0..2 {
        let open = tree.open("key").await.unwrap();
        assert_eq!(
            (&open.info.etag, &open.info.version_id),
            (&first.etag, &Some(ids[0].clone()))
        );
        assert_eq!(numbers(open).await, [2, 5]);
        let gone = tree.open_version("key", &id(&first)).await;
        assert!(matches!(gone, Err(BackendError::NoSuchVersion)));
    }
    let fourth = tree.put_named("key", "fourth").await;
    let tree = tree.again().await;
    assert_eq!(tree.ids().await, [id(&fourth), ids[0].clone(), id(&second)]);
    let open = tree.open_version("key", &ids[0]).await.unwrap();
    assert_eq!(open.info.etag, first.etag);
    assert_eq!(numbers(open).await, [2, 5]);
    assert_eq!(tree.sides(), 4);
    tree.remove("key", &ids[0]).await;
    assert_eq!(tree.sides(), 3);
}

/// And is synced before the object that has it is there.
#[tokio::test]
async fn a_side_file_that_is_written_again_is_durable_before_its_object() {
    if !is_child("beside::versions::a_side_file_that_is_written_again_is_durable_before_its_object") {
        return;
    }
    let mut counts = Vec::new();
    for is_back in [false, true] {
        let start = Timestamp::from_unix(2_000_000_000, 0);
        let clock = Arc::new(TestClock::new(start));
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".t2")).unwrap();
        fs::write(root.path().join(".t2/format"), "1 side-files\n").unwrap();
        let fs = FsBackend::open(FsOptions::new(root.path(), clock.clone())).unwrap();
        let versioned = Arc::new(Versioned::new(fs, clock.clone()).unwrap());
        let subject = Subject::with_versioning(versioned, Some(VersioningStatus::Enabled)).await;
        for _ in 0..2 {
            subject.put("key", "first").await;
        }
        if is_back {
            clock.set(Timestamp::from_unix(1_000_000_000, 0));
        } else {
            clock.set(Timestamp::from_unix(2_000_000_001, 0));
        }
        let before = syncs();
        subject.put("key", "second").await;
        counts.push(syncs() - before);
    }
    assert_eq!(counts[1], counts[0] + 1, "{counts:?}");
}

/// The stamp that a write has prepared may be too old by the time that it takes effect: its side file is written again.
#[tokio::test]
async fn a_version_that_has_to_be_later_says_so_in_its_side_file() {
    let start = Timestamp::from_unix(2_000_000_000, 0);
    let clock = Arc::new(TestClock::new(start));
    let tree = Tree::beside(Some(VersioningStatus::Enabled), clock.clone()).await;
    tree.put_named("key", "first").await;
    clock.set(Timestamp::from_unix(1_000_000_000, 0));
    let upload = tree.upload("key").await;
    let parts = vec![tree.part(&upload, 3, "a").await, tree.part(&upload, 4, "b").await];
    let second = tree.complete(&upload, parts).await.unwrap();
    assert!(id(&second).stamp().unwrap().time() > start);
    let third = tree.put_named("key", "third").await;
    assert_eq!(tree.info("key").await.version_id, third.version_id);
    let open = tree.open_version("key", &id(&second)).await.unwrap();
    assert_eq!((&open.info.etag, open.info.parts_count), (&second.etag, Some(2)));
    let parts = open.reader.parts(0, 10).await.unwrap();
    assert_eq!(
        parts.iter().map(|part| part.part_number.get()).collect::<Vec<_>>(),
        [3, 4]
    );
    assert_eq!(read_whole(open).await, "ab");
    assert_eq!(tree.findings().0, []);
}

#[tokio::test]
async fn a_version_that_others_remove_leaves_its_side_file_to_the_doctor() {
    let tree = Tree::versioned().await;
    let first = tree.put_named("key", "first").await;
    tree.put_named("key", "second").await;
    fs::remove_file(tree.kept("key", &id(&first))).unwrap();
    let (found, tree) = tree.findings();
    assert_eq!(found, [FsFindingKind::OrphanedSideFile]);
    assert_eq!(tree.seen().await.len(), 1);
}

/// Times may be whole seconds.
#[test]
fn what_is_written_has_another_time_than_the_file_that_it_replaces() {
    in_whole_seconds("beside::versions::replacing_child");
}

#[tokio::test]
async fn replacing_child() {
    if std::env::var(TICK).is_err() {
        return;
    }
    let tree = Tree::beside(None, Arc::new(SystemClock)).await;
    let seconds = |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap().as_secs());
    let mut met = 0;
    for _ in 0..100 {
        fs::write(tree.path("key"), "theirs").unwrap();
        let now = UNIX_EPOCH + seconds(fs::metadata(tree.path("key")).unwrap().modified().unwrap());
        set_time(&tree.path("key"), now);
        let put = tree.put_named("key", "ours..").await;
        let read = tree.info("key").await;
        assert_eq!(read.etag, put.etag);
        assert_eq!(read.attributes.user_metadata.len(), 1);
        let written = fs::metadata(tree.path("key")).unwrap().modified().unwrap();
        met += usize::from(written == now + Duration::from_secs(1));
        // What its last one left of it: its side file.
        for side in fs::read_dir(tree.root.path().join(".t2/attributes")).unwrap() {
            for side in fs::read_dir(side.unwrap().path()).unwrap() {
                fs::remove_file(side.unwrap().path()).unwrap();
            }
        }
    }
    assert!(met > 50, "{met}");
}

/// Where times are whole seconds the names of side files are used again and again, as soon as their version is deleted.
#[test]
fn readers_never_see_one_versions_bytes_with_anothers_attributes() {
    in_whole_seconds("beside::versions::reading_child");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_child() {
    if std::env::var(TICK).is_err() {
        return;
    }
    let tree = Arc::new(Tree::versioned().await);
    tree.put_named("key", "0000").await;
    let writers = Writers::start(|bodies| {
        let tree = Arc::clone(&tree);
        async move {
            let mut written: Vec<VersionId> = Vec::new();
            for body in bodies {
                written.push(id(&tree.put_named("key", &body).await));
                if written.len() > 3 {
                    tree.remove("key", &written.remove(0)).await;
                }
            }
        }
    });
    let check = async |open: OpenObject| {
        let named = open.info.attributes.user_metadata.first();
        let named = named.map(|(_, value)| Bytes::from(value.to_string()));
        let (size, version) = (open.info.size, open.info.version_id.clone().unwrap());
        let bytes: Vec<Bytes> = open.reader.read(0..size).try_collect().await.unwrap();
        let bytes = Bytes::from(bytes.concat());
        assert_eq!(named, Some(bytes.clone()));
        (version, bytes)
    };
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let tree = Arc::clone(&tree);
            tokio::spawn(async move {
                let mut seen: BTreeMap<VersionId, Bytes> = BTreeMap::new();
                for _ in 0..400 {
                    let mut found = vec![check(tree.open("key").await.unwrap()).await];
                    for listed in list(&tree.subject).await.unwrap() {
                        let VersionEntry::Object { info, .. } = listed else {
                            panic!("{listed:?}");
                        };
                        match tree.open_version("key", &id(&info)).await {
                            Ok(open) => found.push(check(open).await),
                            Err(BackendError::NoSuchVersion) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    for (version, bytes) in found {
                        assert_eq!(seen.entry(version).or_insert_with(|| bytes.clone()), &bytes);
                    }
                }
                assert!(seen.len() > 10, "{}", seen.len());
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    writers.end().await;
    assert_eq!(tree.sides(), tree.ids().await.len());
}

/// What is lost is what lay in the attributes: the bytes of all versions are there, and the ids of those that are kept.
#[tokio::test]
async fn a_root_with_versions_goes_on_with_side_files_where_its_attributes_were_left_behind() {
    assert!(
        super::has_extended_attributes(),
        "the temporary directory needs user extended attributes: set TMPDIR"
    );
    let root = tempfile::tempdir().unwrap();
    let subject = Subject::with_versioning(
        open(root.path(), Arc::new(SystemClock)),
        Some(VersioningStatus::Enabled),
    )
    .await;
    let first = subject.put("key", "first").await;
    subject.put("key", "second").await;
    let deleted = subject.put("gone", "gone").await;
    let marker = subject.delete("gone").await.version_id.unwrap();
    let bucket = subject.bucket.clone();
    drop(subject);
    let strip = Command::new("find")
        .arg(root.path())
        .args(["-type", "f"])
        .output()
        .unwrap();
    for path in String::from_utf8(strip.stdout).unwrap().lines() {
        // Those that have none.
        rustix::fs::removexattr(path, "user.t2gate").ok();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "beside::examining_child", "--nocapture"])
        .env(XATTRS, "none")
        .env(ROOT, root.path())
        .env("T2GATE_BESIDE_REPAIR", "repair")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("lost-attributes .t2/format;"), "{said}");
    let tree = Tree::at(root, bucket).await;
    assert_eq!(
        fs::read_to_string(tree.root.path().join(".t2/format")).unwrap(),
        "1 side-files\n"
    );
    let ids = tree.ids().await;
    assert_eq!(ids, [marker, id(&deleted), VersionId::null(), id(&first)]);
    assert_eq!(tree.get("key").await.unwrap(), "second");
    assert_eq!(
        read_whole(tree.open_version("key", &id(&first)).await.unwrap()).await,
        "first"
    );
    tree.put_named("key", "third").await;
    assert_eq!(tree.ids().await.len(), 5);
}
