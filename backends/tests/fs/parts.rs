//! Parts that are written in place become the object without being copied, and nothing that comes late changes it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};
use rustix::io::Errno;
use t2gate_backends::{
    Backend as _, BackendError, BodySummary, ChecksumAlgorithm, CompletedPart, ETag, FsBackend, FsOptions, ListParts,
    MemoryBackend, ObjectBody, PartNumber, SystemClock, UploadRef, WriteCondition,
    conformance::{FailingBody, Gate, ScriptedBody, Subject, completed, gate},
    crash_points::{Call, disarm, fail},
};

use tempfile::TempDir;

use crate::{Tree, dir_in_memory, is_child, open_at, options};

fn number(number: u16) -> PartNumber {
    PartNumber::new(number).unwrap()
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(byte).collect()
}

impl Tree {
    /// In the directory of an upload.
    fn of_upload(&self, upload: &UploadRef, name: &str) -> PathBuf {
        let uploads = self.root.path().join(".t2/uploads").join(upload.bucket.as_str());
        uploads.join(upload.upload_id.as_str()).join(name)
    }
}

/// A body that stops after `given` bytes.
fn stalling(bytes: &Bytes, given: usize) -> (ObjectBody, Gate) {
    let (pause, gate) = gate();
    let body = ScriptedBody::new(bytes.len() as u64)
        .data(bytes.slice(..given), 64 * 1024)
        .pause(pause)
        .data(bytes.slice(given..), 64 * 1024)
        .end(BodySummary::of(bytes, ChecksumAlgorithm::Crc64Nvme));
    (body, gate)
}

#[tokio::test]
async fn parts_of_one_size_become_the_object_without_a_copy() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let mut parts = Vec::new();
    // The last one is shorter, and they come in no order.
    for n in [2_u16, 1, 4, 3] {
        let len = if n == 4 { 1000 } else { 300_000 };
        parts.push(tree.part(&upload, n, noise(n.into(), len)).await);
    }
    parts.sort_by_key(|part| part.part_number);
    let before = fs::metadata(tree.of_upload(&upload, "data.300000")).unwrap();
    let info = tree.complete(&upload, parts).await.unwrap();
    assert_eq!(info.size, 901_000);
    assert_eq!(fs::metadata(tree.path("key")).unwrap().ino(), before.ino());
    let whole: Vec<u8> = (1..=4)
        .flat_map(|n| noise(n, if n == 4 { 1000 } else { 300_000 }))
        .collect();
    assert_eq!(tree.get("key").await.unwrap(), whole);
    assert_eq!(
        (
            tree.count("staging"),
            tree.count(&format!("uploads/{}", upload.bucket.as_str()))
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn a_last_part_that_comes_first_or_is_longer_does_not_make_the_others_be_copied() {
    for last in [10_000, 500_000] {
        let tree = Tree::new().await;
        let upload = tree.upload("key").await;
        let mut parts = vec![tree.part(&upload, 3, noise(3, last)).await];
        for n in [1, 2] {
            parts.insert(
                usize::from(n) - 1,
                tree.part(&upload, n, noise(n.into(), 200_000)).await,
            );
        }
        let in_place = tree.of_upload(&upload, "data.200000");
        let before = fs::metadata(&in_place).map(|meta| meta.ino());
        tree.complete(&upload, parts).await.unwrap();
        if last == 10_000 {
            assert_eq!(fs::metadata(tree.path("key")).unwrap().ino(), before.unwrap());
        }
        let whole = [noise(1, 200_000), noise(2, 200_000), noise(3, last)].concat();
        assert_eq!(tree.get("key").await.unwrap(), whole);
    }
}

#[tokio::test]
async fn a_part_that_comes_again_replaces_and_its_room_is_given_back() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let size = 1 << 20;
    let first = tree.part(&upload, 1, noise(1, size)).await;
    tree.part(&upload, 2, noise(2, size)).await;
    let data = tree.of_upload(&upload, &format!("data.{size}"));
    let before = fs::metadata(&data).unwrap();
    // One that fails leaves what was there.
    let failed = tree
        .upload_part(&upload, number(2), FailingBody::at(noise(3, size), size / 2))
        .await;
    assert!(matches!(failed, Err(BackendError::Body(_))));
    let second = tree.part(&upload, 2, noise(4, size)).await;
    assert!(fs::metadata(&data).unwrap().blocks() < before.blocks());
    tree.complete(&upload, vec![first, second]).await.unwrap();
    assert_eq!(fs::metadata(tree.path("key")).unwrap().ino(), before.ino());
    assert_eq!(
        tree.get("key").await.unwrap(),
        [noise(1, size), noise(4, size)].concat()
    );
}

#[tokio::test]
async fn the_place_of_a_part_that_failed_is_used_again() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let failed = tree
        .upload_part(&upload, number(1), FailingBody::at(noise(1, 400_000), 390_000))
        .await;
    assert!(failed.is_err());
    let part = tree.part(&upload, 1, noise(2, 400_000)).await;
    assert!(!tree.of_upload(&upload, "part.1").exists());
    tree.complete(&upload, vec![part]).await.unwrap();
    assert_eq!(tree.get("key").await.unwrap(), noise(2, 400_000));
}

#[tokio::test]
async fn a_writer_that_wakes_after_complete_changes_nothing() {
    let tree = Arc::new(Tree::new().await);
    let size = 400_000;
    // It stalls in the place of a part that is then uploaded again, or in one behind those that are named.
    for stalled in [1, 3] {
        let upload = tree.upload("key").await;
        let late = noise(9, size);
        let (body, gate) = stalling(&late, 300_000);
        let writer = tokio::spawn({
            let (tree, upload) = (Arc::clone(&tree), upload.clone());
            async move { tree.upload_part(&upload, number(stalled), body).await }
        });
        gate.reached.await.unwrap();
        let parts = vec![
            tree.part(&upload, 1, noise(1, size)).await,
            tree.part(&upload, 2, noise(2, size)).await,
        ];
        tree.complete(&upload, parts).await.unwrap();
        let whole = [noise(1, size), noise(2, size)].concat();
        assert_eq!(tree.get("key").await.unwrap(), whole);
        gate.open.send(()).unwrap();
        let outcome = writer.await.unwrap();
        assert!(matches!(outcome, Err(BackendError::NoSuchUpload)), "{outcome:?}");
        assert_eq!(tree.get("key").await.unwrap(), whole);
        assert_eq!(
            tree.info("key").await.etag,
            ETag::of_parts(
                [1, 2]
                    .map(|n| BodySummary::of(&noise(n, size), ChecksumAlgorithm::Crc32).md5)
                    .iter()
            )
        );
    }
}

#[tokio::test]
async fn a_writer_that_wakes_after_abort_changes_nothing() {
    let tree = Arc::new(Tree::new().await);
    let upload = tree.upload("key").await;
    let (body, gate) = stalling(&noise(9, 400_000), 300_000);
    let writer = tokio::spawn({
        let (tree, upload) = (Arc::clone(&tree), upload.clone());
        async move { tree.upload_part(&upload, number(1), body).await }
    });
    gate.reached.await.unwrap();
    tree.abort_multipart_upload(&upload).await.unwrap();
    gate.open.send(()).unwrap();
    assert!(matches!(writer.await.unwrap(), Err(BackendError::NoSuchUpload)));
    assert_eq!(tree.count("staging"), 0);
}

#[tokio::test]
async fn a_refused_complete_leaves_every_part_and_every_writer() {
    let tree = Arc::new(Tree::new().await);
    tree.put("key", "there").await;
    let upload = tree.upload("key").await;
    let size = 200_000;
    let mut parts = vec![tree.part(&upload, 1, noise(1, size)).await];
    let late = noise(2, size);
    let (body, gate) = stalling(&late, 150_000);
    let writer = tokio::spawn({
        let (tree, upload) = (Arc::clone(&tree), upload.clone());
        async move { tree.upload_part(&upload, number(2), body).await }
    });
    gate.reached.await.unwrap();
    let mut request = tree.complete_request(&upload, parts.clone());
    request.condition = WriteCondition {
        if_none_match: true,
        ..WriteCondition::default()
    };
    let refused = tree.complete_multipart_upload(request).await;
    assert!(matches!(refused, Err(BackendError::PreconditionFailed)), "{refused:?}");
    gate.open.send(()).unwrap();
    parts.push(completed(&writer.await.unwrap().unwrap()));
    parts.push(tree.part(&upload, 3, noise(3, size)).await);
    // The last is left out, and must not be cut off before it is sure that it is.
    let mut request = tree.complete_request(&upload, parts[..2].to_vec());
    request.condition = WriteCondition {
        if_none_match: true,
        ..WriteCondition::default()
    };
    assert!(tree.complete_multipart_upload(request).await.is_err());
    tree.complete(&upload, parts).await.unwrap();
    assert_eq!(
        tree.get("key").await.unwrap(),
        [noise(1, size), late, noise(3, size)].concat()
    );
}

#[tokio::test]
async fn racing_completes_give_one_result() {
    let tree = Arc::new(Tree::new().await);
    for _ in 0..10 {
        let upload = tree.upload("key").await;
        let parts = vec![tree.part(&upload, 1, "one").await, tree.part(&upload, 2, "two").await];
        let racers: Vec<_> = (0..6)
            .map(|_| {
                let (tree, upload, parts) = (Arc::clone(&tree), upload.clone(), parts.clone());
                tokio::spawn(async move { tree.complete(&upload, parts).await.unwrap().etag })
            })
            .collect();
        let mut etags = Vec::new();
        for racer in racers {
            etags.push(racer.await.unwrap());
        }
        etags.dedup();
        assert_eq!(etags.len(), 1);
        assert_eq!(tree.get("key").await.unwrap(), "onetwo");
    }
}

#[tokio::test]
async fn parts_survive_a_restart_and_a_part_that_did_not_end_is_none() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let first = tree.part(&upload, 1, noise(1, 200_000)).await;
    let failed = tree
        .upload_part(&upload, number(2), FailingBody::at(noise(2, 200_000), 190_000))
        .await;
    assert!(failed.is_err());
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    let mut subject = Subject::new(Arc::new(open_at(root.path()).unwrap())).await;
    subject.bucket = bucket;
    let request = ListParts {
        upload: upload.clone(),
        part_number_marker: 0,
        max_parts: 10,
    };
    let listed = subject.list_parts(request).await.unwrap().parts;
    assert!(listed.iter().map(completed).eq([first.clone()]));
    let second = subject.part(&upload, 2, noise(3, 200_000)).await;
    subject.complete(&upload, vec![first, second]).await.unwrap();
    assert_eq!(
        subject.get("key").await.unwrap(),
        [noise(1, 200_000), noise(3, 200_000)].concat()
    );
}

#[tokio::test]
async fn what_an_object_shares_with_an_upload_that_is_left_is_never_written_to() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let first = tree.part(&upload, 1, noise(1, 200_000)).await;
    // As a crash leaves it between the object and the end of its upload.
    fs::hard_link(tree.of_upload(&upload, "data.200000"), tree.path("other")).unwrap();
    let second = tree.part(&upload, 2, noise(2, 200_000)).await;
    assert!(tree.of_upload(&upload, "part.2").exists());
    assert_eq!(tree.get("other").await.unwrap(), noise(1, 200_000));
    tree.complete(&upload, vec![first, second]).await.unwrap();
    assert_eq!(tree.get("other").await.unwrap(), noise(1, 200_000));
    assert_eq!(
        tree.get("key").await.unwrap(),
        [noise(1, 200_000), noise(2, 200_000)].concat()
    );
}

/// A backend of its own on the tree's root, which calls uploads abandoned after `age`.
async fn reopened(tree: Tree, age: Option<Duration>) -> (Arc<FsBackend>, Subject, TempDir) {
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    let options = FsOptions {
        abandoned_upload_age: age,
        ..options(root.path())
    };
    let backend = Arc::new(FsBackend::open(options).unwrap());
    let mut subject = Subject::new(backend.clone()).await;
    subject.bucket = bucket;
    (backend, subject, root)
}

#[tokio::test]
async fn abandoned_uploads_are_listed_until_they_are_swept() {
    for (age, swept) in [(None, 0), (Some(Duration::from_hours(1)), 0), (Some(Duration::ZERO), 2)] {
        let tree = Tree::new().await;
        let upload = tree.upload("key").await;
        tree.part(&upload, 1, noise(1, 200_000)).await;
        tree.upload("empty").await;
        let (backend, subject, root) = reopened(tree, age).await;
        let listed = subject.list_multipart_uploads(subject.all_uploads()).await.unwrap();
        assert_eq!(listed.entries.len(), 2);
        assert_eq!(backend.sweep_uploads().await.unwrap(), swept);
        let listed = subject.list_multipart_uploads(subject.all_uploads()).await.unwrap();
        assert_eq!(listed.entries.len(), 2 - swept);
        let left = fs::read_dir(root.path().join(".t2/uploads").join(upload.bucket.as_str())).unwrap();
        assert_eq!(left.count(), 2 - swept);
    }
}

/// The object is there, and its upload could not be removed.
#[tokio::test]
async fn a_completed_upload_that_is_left_is_swept() {
    if !is_child("parts::a_completed_upload_that_is_left_is_swept") {
        return;
    }
    let mut left = 0;
    for after in 0.. {
        let root = dir_in_memory();
        let backend = Arc::new(FsBackend::open(options(root.path())).unwrap());
        let subject = Subject::new(backend.clone()).await;
        let upload = subject.upload("key").await;
        let part = subject.part(&upload, 1, "part").await;
        fail(&[Call::Add], Errno::IO.raw_os_error(), after);
        let completed = subject.complete(&upload, vec![part]).await;
        if !disarm() {
            break;
        }
        let listed = async || {
            let page = subject.list_multipart_uploads(subject.all_uploads()).await;
            page.unwrap().entries.len()
        };
        if completed.is_ok() && listed().await > 0 {
            left += 1;
            assert_eq!(backend.sweep_uploads().await.unwrap(), 0, "none was abandoned");
            assert_eq!(listed().await, 0, "{after}");
            assert_eq!(subject.get("key").await.unwrap(), "part");
        }
    }
    assert_eq!(left, 1);
}

#[tokio::test]
async fn an_upload_that_a_part_is_coming_to_is_not_abandoned() {
    let (backend, subject, _root) = reopened(Tree::new().await, Some(Duration::ZERO)).await;
    let upload = subject.upload("key").await;
    let bytes = noise(1, 400_000);
    let (body, gate) = stalling(&bytes, 300_000);
    let writer = tokio::spawn({
        let (backend, upload) = (backend.clone(), upload.clone());
        async move { backend.upload_part(&upload, number(1), body).await }
    });
    gate.reached.await.unwrap();
    assert_eq!(backend.sweep_uploads().await.unwrap(), 0);
    gate.open.send(()).unwrap();
    let part = completed(&writer.await.unwrap().unwrap());
    subject.complete(&upload, vec![part]).await.unwrap();
    assert_eq!(subject.get("key").await.unwrap(), bytes);
}

#[tokio::test]
async fn what_an_interrupted_complete_left_of_an_upload_is_swept_and_the_object_stays() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let part = tree.part(&upload, 1, noise(1, 200_000)).await;
    // Kept as a crash would, and put back.
    let aside = tree.root.path().join("aside");
    fs::create_dir(&aside).unwrap();
    for file in ["upload", "data.200000", "slots.200000"] {
        fs::hard_link(tree.of_upload(&upload, file), aside.join(file)).unwrap();
    }
    fs::remove_file(aside.join("data.200000")).unwrap();
    tree.complete(&upload, vec![part]).await.unwrap();
    fs::hard_link(tree.path("key"), aside.join("data.200000")).unwrap();
    fs::rename(&aside, tree.of_upload(&upload, "")).unwrap();
    let (backend, subject, _root) = reopened(tree, None).await;
    assert_eq!(backend.sweep_uploads().await.unwrap(), 0);
    let listed = subject.list_multipart_uploads(subject.all_uploads()).await.unwrap();
    assert!(listed.entries.is_empty());
    assert_eq!(subject.get("key").await.unwrap(), noise(1, 200_000));
}

#[derive(Debug, Clone)]
enum Step {
    Part {
        number: u16,
        len: usize,
    },
    Fails {
        number: u16,
        len: usize,
    },
    /// Refused by its condition.
    Refused {
        upto: Index,
    },
    List {
        marker: u16,
        max_parts: usize,
    },
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(150_000_usize), 1 => Just(0), 1 => 1_usize..150_000, 1 => 150_000_usize..300_000]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u16..6, len()).prop_map(|(number, len)| Step::Part { number, len }),
        1 => (1_u16..6, len()).prop_map(|(number, len)| Step::Fails { number, len }),
        1 => any::<Index>().prop_map(|upto| Step::Refused { upto }),
        1 => (0_u16..6, 0_usize..5).prop_map(|(marker, max_parts)| Step::List { marker, max_parts }),
    ]
}

async fn compare(steps: Vec<Step>, left_out: Option<u16>) {
    let tree = Tree::new().await;
    let memory = Subject::new(Arc::new(MemoryBackend::new(Arc::new(SystemClock)))).await;
    let subjects: [&Subject; 2] = [&tree, &memory];
    let mut uploads = Vec::new();
    for subject in subjects {
        subject.put("key", "there").await;
        uploads.push(subject.upload("key").await);
    }
    let mut parts: std::collections::BTreeMap<u16, CompletedPart> = Default::default();
    for (seed, step) in steps.into_iter().enumerate() {
        let mut seen = Vec::new();
        for (subject, upload) in subjects.iter().zip(&uploads) {
            seen.push(match &step {
                Step::Part { number, len } => {
                    let part = subject.part(upload, *number, noise(seed as u64, *len)).await;
                    parts.insert(*number, part);
                    Vec::new()
                }
                Step::Fails { number: n, len } => {
                    let body = FailingBody::at(noise(seed as u64, *len), len / 2);
                    assert!(subject.upload_part(upload, number(*n), body).await.is_err());
                    Vec::new()
                }
                Step::Refused { upto } => {
                    let named: Vec<_> = parts.values().cloned().collect();
                    let mut request = subject.complete_request(upload, named[..upto.index(named.len() + 1)].to_vec());
                    request.condition.if_none_match = true;
                    assert!(subject.complete_multipart_upload(request).await.is_err());
                    Vec::new()
                }
                Step::List { marker, max_parts } => {
                    let request = ListParts {
                        upload: upload.clone(),
                        part_number_marker: *marker,
                        max_parts: *max_parts,
                    };
                    let page = subject.list_parts(request).await.unwrap();
                    let part = |part: &t2gate_backends::Part| {
                        (part.part_number.get(), part.size, part.etag.clone(), page.is_truncated)
                    };
                    page.parts.iter().map(part).collect()
                }
            });
        }
        assert_eq!(seen[0], seen[1]);
    }
    parts.retain(|number, _| Some(*number) != left_out);
    let mut objects = Vec::new();
    for (subject, upload) in subjects.iter().zip(&uploads) {
        let info = subject.complete(upload, parts.values().cloned().collect()).await;
        let info = info.ok().map(|info| (info.size, info.etag, info.attributes.checksum));
        objects.push((info, subject.get("key").await));
    }
    assert!(objects[0] == objects[1], "{:?} {:?}", objects[0].0, objects[1].0);
    assert_eq!(tree.count("staging"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_parts_come_the_object_is_that_of_the_memory_backend(
        steps in proptest::collection::vec(step(), 1..16),
        left_out in proptest::option::of(1_u16..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(steps, left_out));
    }
}

/// An object is as old as its Complete, also where it is just the file of its part.
#[tokio::test]
async fn an_object_of_a_part_in_a_file_of_its_own_is_new() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    tree.part(&upload, 1, "one").await;
    // Once more: into a file of its own.
    let part = tree.part(&upload, 1, "two").await;
    let uploads = tree.root.path().join(".t2/uploads").join(tree.bucket.as_str());
    let file = uploads.join(upload.upload_id.as_str()).join("part.1");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let info = tree.complete(&upload, vec![part]).await.unwrap();
    assert!(info.last_modified.unix_seconds() > 1_700_000_000, "{info:?}");
}

/// However many there are, nothing is written but what is said of them.
#[tokio::test]
async fn ten_thousand_parts_become_the_object_without_a_copy() {
    if !is_child("parts::ten_thousand_parts_become_the_object_without_a_copy") {
        return;
    }
    const PARTS: u16 = 10_000;
    const LEN: usize = 2000;
    let root = dir_in_memory();
    let tree = Tree::with(root, |_| {}).await;
    let upload = tree.upload("key").await;
    let bytes = noise(1, LEN + usize::from(PARTS));
    let part = |n: u16| bytes.slice(usize::from(n) - 1..usize::from(n) - 1 + LEN);
    let mut parts = Vec::new();
    for n in 1..=PARTS {
        parts.push(tree.part(&upload, n, part(n)).await);
    }
    let before = fs::metadata(tree.of_upload(&upload, &format!("data.{LEN}"))).unwrap();
    let written_before = bytes_written();
    tree.complete(&upload, parts).await.unwrap();
    let written = bytes_written() - written_before;
    assert_eq!(fs::metadata(tree.path("key")).unwrap().ino(), before.ino());
    // The table of parts has some 44 bytes of each.
    assert!(written < 60 * u64::from(PARTS), "{written} bytes");
    let whole: Vec<Bytes> = (1..=PARTS).map(part).collect();
    assert!(tree.get("key").await.unwrap() == whole.concat());
}

/// By this process so far, whatever way it did that.
fn bytes_written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    written.parse().unwrap()
}
