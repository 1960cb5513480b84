//! What `doctor` finds in a root, and what is left after it has repaired that.

use std::{
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::{FlockOperation, flock};
use t2gate_backends::{
    BucketSetting,
    FsFindingKind::{self, *},
    FsOpenError, FsReport, ObjectAttributes, ObjectBody, PutObject, SystemClock, Versioned, VersioningStatus,
    conformance::{Subject, read_whole},
    examine_fs,
};

use crate::{Tree, again, open_at};

fn examine(root: &Path, repair: bool) -> FsReport {
    again(|| examine_fs(root, repair))
}

/// Kind, path and whether it was repaired, without the bucket's name.
fn findings(report: &FsReport) -> Vec<(FsFindingKind, String, bool)> {
    let found = report.findings.iter().map(|finding| {
        let path = match finding.path.split_once('/') {
            Some((bucket, path)) if bucket.starts_with("subject-") => path,
            _ => &finding.path,
        };
        (finding.kind, path.to_owned(), finding.repaired)
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

/// Too large for the file's own.
fn large_attributes() -> ObjectAttributes {
    let value = "x".repeat(1000);
    ObjectAttributes {
        user_metadata: (0..5)
            .map(|n| (format!("m{n}").into(), value.as_str().into()))
            .collect(),
        ..ObjectAttributes::default()
    }
}

async fn put_large(tree: &Tree, key: &str) {
    let request = PutObject {
        attributes: large_attributes(),
        ..tree.put_request(key)
    };
    tree.put_object(request, ObjectBody::from_bytes("large")).await.unwrap();
}

#[tokio::test]
async fn a_root_as_the_gateway_leaves_it_is_whole() {
    let tree = Tree::new().await;
    let long = "ö".repeat(300);
    for key in ["a", "a/b", "a//b", "../x", ".t2=x", "d/", &long, &format!("{long}/x")] {
        tree.put(key, key.to_owned()).await;
    }
    put_large(&tree, "large").await;
    tree.upload("pending").await;
    fs::write(tree.path("theirs"), "x").unwrap();
    fs::create_dir(tree.path("their directory")).unwrap();
    let Tree { subject, root } = tree;
    assert!(matches!(examine_fs(root.path(), false), Err(FsOpenError::Locked(_))));
    drop(subject);
    let report = examine(root.path(), false);
    assert_eq!(findings(&report), []);
    assert_eq!((report.buckets, report.objects), (1, 10));
    assert_eq!(examine(root.path(), true), report);
}

#[tokio::test]
async fn what_is_no_data_directory_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(examine_fs(dir.path(), true), Err(FsOpenError::NoRoot(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::create_dir(dir.path().join(".t2")).unwrap();
    fs::write(dir.path().join(".t2/format"), "9\n").unwrap();
    assert!(matches!(
        examine_fs(dir.path(), true),
        Err(FsOpenError::UnknownFormat { .. })
    ));
}

#[tokio::test]
async fn everything_wrong_is_found_and_repaired_where_that_loses_nothing() {
    let tree = Tree::new().await;
    tree.put("changed", "by us").await;
    tree.put("a", "shown").await;
    tree.put("dir/below", "x").await;
    put_large(&tree, "lost").await;
    let side = fs::read_dir(tree.root.path().join(".t2/attributes"))
        .unwrap()
        .next()
        .unwrap();
    fs::remove_file(side.unwrap().path()).unwrap();
    put_large(&tree, "large").await;

    fs::write(tree.path("changed"), "by others").unwrap();
    fs::write(tree.path(".t2!a"), "hidden").unwrap();
    fs::remove_file(tree.path("dir/below")).unwrap();
    fs::write(tree.path(".t2~61"), "no spelling").unwrap();
    fs::write(tree.path("").join(std::ffi::OsStr::from_bytes(b"\xff")), "no text").unwrap();
    rustix::fs::setxattr(tree.path("large"), "user.other", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    fs::write(tree.path("damaged"), "x").unwrap();
    let space = tree.root.path().join(".t2");
    fs::write(space.join("attributes/ffff"), "x").unwrap();
    fs::write(space.join("staging/half"), "x").unwrap();
    let uploads = space.join("uploads").join(tree.bucket.as_str()).join("0000");
    fs::create_dir_all(uploads).unwrap();
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);

    let kept = fs::read(root.path().join(bucket.as_str()).join(".t2!a")).unwrap();
    let expected = |repaired| {
        vec![
            (TwoFiles, ".t2!a".to_owned(), repaired),
            (OrphanedSideFile, ".t2/attributes/ffff".to_owned(), repaired),
            (Staging, ".t2/staging/half".to_owned(), repaired),
            (AbandonedUpload, format!(".t2/uploads/{bucket}/0000"), repaired),
            (UnusableName, "(not UTF-8)".to_owned(), false),
            (UnusableName, ".t2~61".to_owned(), false),
            (StaleAttributes, "changed".to_owned(), repaired),
            (EmptyDirectory, "dir".to_owned(), repaired),
            (MissingSideFile, "lost".to_owned(), false),
        ]
    };
    let sorted = |mut expected: Vec<(FsFindingKind, String, bool)>| {
        expected.sort_by(|a, b| a.1.cmp(&b.1));
        expected
    };
    assert_eq!(findings(&examine(root.path(), false)), sorted(expected(false)));
    assert_eq!(
        findings(&examine(root.path(), false)),
        sorted(expected(false)),
        "looking changes nothing"
    );
    assert_eq!(findings(&examine(root.path(), true)), sorted(expected(true)));
    let left: Vec<_> = expected(true)
        .into_iter()
        .filter(|(_, _, repaired)| !repaired)
        .collect();
    assert_eq!(findings(&examine(root.path(), true)), sorted(left));

    let lost = fs::read_dir(root.path().join(".t2/lost"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(fs::read(lost.path()).unwrap(), kept);
    let in_bucket = |name: &str| fs::read_to_string(root.path().join(bucket.as_str()).join(name)).unwrap();
    assert_eq!(
        (in_bucket("a"), in_bucket("changed")),
        ("shown".to_owned(), "by others".to_owned())
    );
    drop(again(|| open_at(root.path())));
}

/// A repair takes several steps, and between two of them the root is nobody else's.
#[tokio::test]
async fn nobody_else_serves_a_root_before_all_is_repaired() {
    let Tree { subject, root } = Tree::new().await;
    drop(subject);
    let space = root.path().join(".t2");
    let (first, last) = (space.join("staging/half"), space.join("attributes/ffff"));
    for _ in 0..20 {
        fs::write(&first, "x").unwrap();
        fs::write(&last, "x").unwrap();
        let done = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let file = fs::File::open(space.join("lock")).unwrap();
                while !done.load(Ordering::Relaxed) {
                    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                        assert_eq!(first.exists(), last.exists(), "in the middle of it");
                        flock(&file, FlockOperation::Unlock).unwrap();
                    }
                    std::thread::yield_now();
                }
            });
            let report = examine(root.path(), true);
            done.store(true, Ordering::Relaxed);
            others.join().unwrap();
            report
        });
        let kinds: Vec<_> = report.findings.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [OrphanedSideFile, Staging]);
    }
}

/// Somebody put a file where an object had stepped aside: that is a version like any that a write displaces.
#[tokio::test]
async fn of_two_files_the_hidden_one_stays_a_version_where_it_is_one() {
    for is_kept in [false, true] {
        let Tree { subject, root } = Tree::new().await;
        let bucket = subject.bucket.clone();
        drop(subject);
        let open = async || {
            let versioned = Versioned::new(again(|| open_at(root.path())), Arc::new(SystemClock)).unwrap();
            Subject::of(Arc::new(versioned), bucket.clone()).await
        };
        let subject = open().await;
        let setting = BucketSetting::Versioning(VersioningStatus::Enabled);
        subject.put_bucket_setting(&bucket, setting).await.unwrap();
        let large = PutObject {
            attributes: large_attributes(),
            ..subject.put_request("key")
        };
        let body = ObjectBody::from_bytes("ours");
        let id = subject.put_object(large, body).await.unwrap().version_id.unwrap();
        let in_bucket = |name: &str| root.path().join(bucket.as_str()).join(name);
        if is_kept {
            subject.put("key", "newer").await;
            let kept = kept_files(&root.path().join(".t2/versions"));
            fs::hard_link(&kept[0], in_bucket(".t2!key")).unwrap();
        } else {
            fs::rename(in_bucket("key"), in_bucket(".t2!key")).unwrap();
            fs::write(in_bucket("key"), "theirs").unwrap();
        }
        fs::write(in_bucket("other"), "shown").unwrap();
        fs::write(in_bucket(".t2!other"), "hidden").unwrap();
        drop(subject);
        // While nobody can say whether the bucket has versions, nothing is moved.
        let record = root.path().join(".t2/buckets").join(bucket.as_str());
        let whole = fs::read(&record).unwrap();
        fs::write(&record, "rubbish").unwrap();
        let found = findings(&examine(root.path(), true));
        for name in [".t2!key", ".t2!other"] {
            assert!(found.contains(&(TwoFiles, name.to_owned(), false)), "{found:?}");
        }
        fs::write(&record, whole).unwrap();
        for repair in [false, true] {
            let found = findings(&examine(root.path(), repair));
            let two = |name: &str| (TwoFiles, name.to_owned(), repair);
            assert_eq!(found, [two(".t2!key"), two(".t2!other")], "kept: {is_kept}");
        }
        assert_eq!(findings(&examine(root.path(), false)), []);
        let subject = open().await;
        let mut object = subject.object("key");
        object.version_id = Some(id);
        let open = subject.open_object(&object).await.unwrap();
        assert_eq!(open.info.attributes.user_metadata, large_attributes().user_metadata);
        assert_eq!(read_whole(open).await, "ours");
        let shown = if is_kept { "newer" } else { "theirs" };
        assert_eq!(subject.get("key").await.unwrap(), shown);
        let lost = fs::read_dir(root.path().join(".t2/lost")).unwrap();
        let lost: Vec<_> = lost.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert_eq!(lost, [b"hidden"]);
    }
}

#[tokio::test]
async fn side_files_of_kept_versions_are_nobodys_litter() {
    let Tree { subject, root } = Tree::new().await;
    let bucket = subject.bucket.clone();
    drop(subject);
    let versioned = Versioned::new(again(|| open_at(root.path())), Arc::new(SystemClock));
    let tree = Tree {
        subject: Subject::of(Arc::new(versioned.unwrap()), bucket).await,
        root,
    };
    let setting = BucketSetting::Versioning(VersioningStatus::Enabled);
    tree.put_bucket_setting(&tree.bucket, setting).await.unwrap();
    for key in ["large", "large", "gone/below"] {
        put_large(&tree, key).await;
    }
    tree.delete("gone/below").await;
    let Tree { subject, root } = tree;
    drop(subject);
    assert_eq!(findings(&examine(root.path(), true)), []);
    let sides = || fs::read_dir(root.path().join(".t2/attributes")).unwrap().count();
    assert_eq!(sides(), 3);
    // One whose attributes cannot be read may have any of them.
    let kept = kept_files(&root.path().join(".t2/versions"));
    assert_eq!(kept.len(), 2, "{kept:?}");
    rustix::fs::setxattr(&kept[0], "user.t2gate", b"\x09", rustix::fs::XattrFlags::empty()).unwrap();
    let found = findings(&examine(root.path(), true));
    assert!(
        matches!(&*found, [(DamagedAttributes, path, false)] if path.starts_with(".t2/versions/")),
        "{found:?}"
    );
    assert_eq!(sides(), 3);
}

/// With something in them.
fn kept_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(kept_files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            files.push(path);
        }
    }
    files
}

#[tokio::test]
async fn damaged_attributes_keep_every_side_file() {
    let tree = Tree::new().await;
    put_large(&tree, "large").await;
    rustix::fs::setxattr(
        tree.path("large"),
        "user.t2gate",
        b"\x09",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let Tree { subject, root } = tree;
    drop(subject);
    let found = findings(&examine(root.path(), true));
    assert_eq!(found, [(DamagedAttributes, "large".to_owned(), false)]);
    assert_eq!(fs::read_dir(root.path().join(".t2/attributes")).unwrap().count(), 1);
}

#[tokio::test]
async fn buckets_without_directories_or_records_are_found() {
    let tree = Tree::new().await;
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    fs::remove_dir(root.path().join(bucket.as_str())).unwrap();
    let found = findings(&examine(root.path(), true));
    let found: Vec<_> = found.into_iter().filter(|found| found.0 != OrphanedMark).collect();
    assert_eq!(found, [(MissingBucket, bucket.to_string(), false)]);
    fs::write(root.path().join(".t2/buckets").join(bucket.as_str()), "").unwrap();
    let found = findings(&examine(root.path(), false));
    assert!(found.contains(&(DamagedBucket, format!(".t2/buckets/{bucket}"), false)));

    let other = Tree::new().await;
    let Tree { subject, root } = other;
    let bucket = subject.bucket.clone();
    drop(subject);
    fs::remove_file(root.path().join(".t2/buckets").join(bucket.as_str())).unwrap();
    assert_eq!(
        findings(&examine(root.path(), true)),
        [(AbandonedBucket, bucket.to_string(), true)]
    );
    assert_eq!(findings(&examine(root.path(), true)), []);
}

#[tokio::test]
async fn histories_are_examined_too() {
    use t2gate_backends::{BucketSetting, VersionClock, VersioningStatus::Enabled};
    let tree = Tree::new().await;
    let clock = VersionClock::new(std::sync::Arc::new(t2gate_backends::SystemClock));
    tree.put_bucket_setting(&tree.bucket, BucketSetting::Versioning(Enabled))
        .await
        .unwrap();
    let put = async |key: &str, bytes: &'static str| {
        let value = "x".repeat(4000);
        let mut request = PutObject {
            versions: Some(clock.clone()),
            ..tree.put_request(key)
        };
        request.attributes.user_metadata = vec![("m".into(), value.as_str().into())];
        tree.put_object(request, ObjectBody::from_bytes(bytes)).await.unwrap()
    };
    for key in ["d/a", "b", "gone", "back"] {
        put(key, "one").await;
        put(key, "two").await;
    }
    for key in ["gone", "back"] {
        let mut request = tree.delete_request(key);
        request.versions = Some(clock.clone());
        tree.delete_object(request).await.unwrap();
    }
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.to_string();
    drop(subject);
    let whole = examine(root.path(), true);
    assert_eq!(
        (findings(&whole), whole.objects, whole.versions),
        (vec![], 2, 8),
        "side files are theirs"
    );

    let histories = root.path().join(".t2/versions");
    let of = |key: &str| histories.join(&bucket).join(key);
    let newest_object = |key: &str| {
        let mut names: Vec<_> = fs::read_dir(of(key))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort_unstable();
        names.into_iter().find(|path| path.extension().is_none()).unwrap()
    };
    // As a delete leaves it that was interrupted without a note.
    fs::hard_link(newest_object(".t2!gone"), root.path().join(&bucket).join("gone")).unwrap();
    // And of a file that cannot have two names.
    let away = newest_object(".t2!back").with_extension("away");
    fs::rename(newest_object(".t2!back"), &away).unwrap();
    let marker = fs::read_dir(of(".t2!back")).unwrap().map(|entry| entry.unwrap().path());
    let marker: Vec<_> = marker
        .filter(|path| path.extension().is_some_and(|d| d == "d"))
        .collect();
    fs::remove_file(&marker[0]).unwrap();
    let away = away.file_name().unwrap().to_str().unwrap();
    fs::create_dir(of(".t2!b/null")).unwrap();
    for stamp in [
        "ffffffffffffffff0000000000000000.d",
        "ffffffffffffffff0000000000000001.d",
    ] {
        fs::write(of(".t2!b/null").join(stamp), "").unwrap();
    }
    fs::create_dir_all(histories.join("no-bucket/.t2!key")).unwrap();
    fs::create_dir_all(of("empty")).unwrap();
    fs::write(of(".t2!b/no version"), "").unwrap();
    fs::create_dir(of(".t2~6e6f")).unwrap();
    let expected = |repaired| {
        vec![
            (UnusableName, format!(".t2/versions/{bucket}/.t2!b/no version"), false),
            (ReplacedVersion, format!(".t2/versions/{bucket}/.t2!b"), repaired),
            (Staging, format!(".t2/versions/{bucket}/.t2!back/{away}"), repaired),
            (DeletedObject, format!(".t2/versions/{bucket}/.t2!gone"), repaired),
            (UnusableName, format!(".t2/versions/{bucket}/.t2~6e6f"), false),
            (EmptyDirectory, format!(".t2/versions/{bucket}/empty"), repaired),
            (OrphanedHistory, ".t2/versions/no-bucket".to_owned(), repaired),
        ]
    };
    let sorted = |mut expected: Vec<(FsFindingKind, String, bool)>| {
        expected.sort_by(|a, b| a.1.cmp(&b.1));
        expected
    };
    assert_eq!(findings(&examine(root.path(), false)), sorted(expected(false)));
    assert_eq!(findings(&examine(root.path(), true)), sorted(expected(true)));
    let left: Vec<_> = expected(true).into_iter().filter(|finding| !finding.2).collect();
    assert_eq!(findings(&examine(root.path(), true)), sorted(left));
    assert!(!root.path().join(&bucket).join("gone").exists());
    assert_eq!(fs::read(newest_object(".t2!gone")).unwrap(), b"two");
    assert_eq!(fs::read(root.path().join(&bucket).join("back")).unwrap(), b"two");
}
