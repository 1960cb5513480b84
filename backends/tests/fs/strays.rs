//! Side files of files that lie where no bucket is: `doctor` leaves them.

use std::{fs, path::Path, sync::Arc};

use t2gate_backends::{
    FsFindingKind::{self, OrphanedSideFile},
    ObjectAttributes, ObjectBody, PutObject,
    conformance::Subject,
    examine_fs,
};

use crate::{
    Tree, again,
    beside::{has_side_files, side_files},
    open_at,
};

/// With a side file, wherever attributes lie; one object has a table of parts.
async fn root_with(beside: bool) -> Tree {
    let root = tempfile::tempdir().unwrap();
    if beside {
        drop(open_at(root.path()).unwrap());
        fs::write(root.path().join(".t2/format"), "1 side-files\n").unwrap();
    }
    let tree = Tree::with(root, |_| {}).await;
    let large = PutObject {
        attributes: ObjectAttributes {
            user_metadata: vec![("m".into(), "x".repeat(5000).into())],
            ..ObjectAttributes::default()
        },
        ..tree.put_request("dir/large")
    };
    tree.put_object(large, ObjectBody::from_bytes("large")).await.unwrap();
    let upload = tree.upload("parts").await;
    let parts = vec![tree.part(&upload, 1, "one").await, tree.part(&upload, 2, "two").await];
    tree.complete(&upload, parts).await.unwrap();
    tree
}

/// Puts a side file of nobody's where one could be.
fn litter(root: &Path) {
    let name = if has_side_files(root) { "ff/ff" } else { "ffff" };
    fs::write(root.join(".t2/attributes").join(name), "x").unwrap();
}

/// What a repair says of side files, twice: what the first does to the root must not deceive the second.
fn repair(root: &Path) -> Vec<FsFindingKind> {
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let found = again(|| examine_fs(root, true)).findings;
        kinds.extend(
            found
                .iter()
                .map(|found| found.kind)
                .filter(|kind| *kind == OrphanedSideFile),
        );
    }
    kinds
}

async fn is_whole(subject: &Subject) {
    assert_eq!(subject.info("dir/large").await.attributes.user_metadata.len(), 1);
    let open = subject.open("parts").await.unwrap();
    assert_eq!(open.reader.parts(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_bucket_without_a_record_keeps_its_side_files_under_whatever_name() {
    for beside in [false, true] {
        for name in [None, Some("b.old"), Some("others/b")] {
            let Tree { subject, root } = root_with(beside).await;
            let bucket = subject.bucket.clone();
            drop(subject);
            let at = |name: &str| root.path().join(name);
            let record = at(".t2/buckets").join(bucket.as_str());
            let held = fs::read(&record).unwrap();
            fs::remove_file(&record).unwrap();
            if let Some(name) = name {
                fs::create_dir_all(at(name).parent().unwrap()).unwrap();
                fs::rename(at(bucket.as_str()), at(name)).unwrap();
            }
            litter(root.path());
            assert_eq!(repair(root.path()), [OrphanedSideFile], "{name:?}");
            fs::write(&record, held).unwrap();
            if let Some(name) = name {
                fs::rename(at(name), at(bucket.as_str())).unwrap();
            }
            is_whole(&Subject::of(Arc::new(again(|| open_at(root.path()))), bucket).await).await;
        }
    }
}

#[tokio::test]
async fn while_a_bucket_is_somewhere_else_no_side_file_goes() {
    for beside in [false, true] {
        let Tree { subject, root } = root_with(beside).await;
        let bucket = subject.bucket.clone();
        drop(subject);
        let elsewhere = tempfile::tempdir_in(root.path().parent().unwrap()).unwrap();
        let (here, there) = (root.path().join(bucket.as_str()), elsewhere.path().join("b"));
        fs::rename(&here, &there).unwrap();
        litter(root.path());
        assert_eq!(repair(root.path()), []);
        fs::rename(&there, &here).unwrap();
        is_whole(&Subject::of(Arc::new(again(|| open_at(root.path()))), bucket).await).await;
    }
}

#[tokio::test]
async fn what_is_put_away_keeps_its_side_file() {
    for beside in [false, true] {
        let Tree { subject, root } = root_with(beside).await;
        let bucket = subject.bucket.clone();
        drop(subject);
        let at = |name: &str| root.path().join(bucket.as_str()).join(name);
        fs::rename(at("parts"), at(".t2!parts")).unwrap();
        fs::write(at("parts"), "theirs").unwrap();
        litter(root.path());
        assert_eq!(repair(root.path()), [OrphanedSideFile]);
        let lost = fs::read_dir(root.path().join(".t2/lost")).unwrap().next().unwrap();
        fs::rename(lost.unwrap().path(), at("parts")).unwrap();
        is_whole(&Subject::of(Arc::new(again(|| open_at(root.path()))), bucket).await).await;
    }
}

#[tokio::test]
async fn what_was_put_away_and_cannot_be_read_may_have_any_side_file() {
    let Tree { subject, root } = root_with(false).await;
    drop(subject);
    std::os::unix::fs::symlink("nowhere", root.path().join(".t2/lost")).unwrap();
    litter(root.path());
    let before = side_files(root.path()).len();
    assert_eq!(repair(root.path()), []);
    assert_eq!(side_files(root.path()).len(), before);
}
