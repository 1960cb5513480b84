//! What a root must be, and what is found in it again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use t2gate_backends::{
    AccountId, Backend, BackendError, BucketName, BucketSetting, CannedAcl, CopyObject, CreateBucket, DeleteObject,
    FsBackend, FsOpenError, FsOptions, Key, ListObjectVersions, ObjectBody, ObjectRef, SystemClock, VersionEntry,
    Versioned, VersioningStatus, WriteCondition,
    conformance::{Subject, read_whole},
};

use crate::{Tree, again, open_at};

#[tokio::test]
async fn a_second_process_is_refused() {
    let tree = Tree::new().await;
    assert!(matches!(open_at(tree.root.path()), Err(FsOpenError::Locked(_))));
}

#[tokio::test]
async fn an_unknown_format_is_refused_with_words() {
    let root = tempfile::tempdir().unwrap();
    drop(open_at(root.path()).unwrap());
    fs::write(root.path().join(".t2/format"), "7\n").unwrap();
    let error = open_at(root.path()).unwrap_err();
    assert!(matches!(&error, FsOpenError::UnknownFormat { found, .. } if found == "7"));
    assert!(error.to_string().contains("format"));
}

#[tokio::test]
async fn versions_and_folded_names_are_not_served_together() {
    let root = tempfile::tempdir().unwrap();
    let backend = Arc::new(open_at(root.path()).unwrap());
    let subject = Subject::with_versioning(backend, Some(VersioningStatus::Enabled)).await;
    let bucket = subject.bucket.clone();
    drop(subject);
    let format = root.path().join(".t2/format");
    fs::write(&format, "2\n").unwrap();
    let refused = (0..500).find_map(|_| match open_at(root.path()) {
        Err(FsOpenError::Locked(_)) => {
            std::thread::sleep(std::time::Duration::from_millis(10));
            None
        }
        outcome => Some(outcome),
    });
    assert!(matches!(
        refused,
        Some(Err(FsOpenError::FoldedVersions { bucket: named, .. })) if named == bucket
    ));
    fs::write(&format, "1\n").unwrap();
    drop(again(|| open_at(root.path())));
    assert_eq!(fs::read(&format).unwrap(), b"1\n");
}

#[tokio::test]
async fn names_of_a_folding_file_system_are_understood_wherever_the_format_says_so() {
    let tree = Tree::new().await;
    fs::create_dir(tree.path(".t2~64")).unwrap();
    fs::write(tree.path(".t2~64/x"), "lower").unwrap();
    tree.put("D/x", "upper").await;
    // Of the format that is made here they are nothing.
    assert_eq!(fs::read(tree.root.path().join(".t2/format")).unwrap(), b"1\n");
    assert_eq!(tree.all_keys().await, ["D/x"]);
    assert_eq!(tree.get("d/x").await, None);
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    fs::write(root.path().join(".t2/format"), "2\n").unwrap();
    let backend: Arc<dyn Backend> = Arc::new(again(|| open_at(root.path())));
    let subject = Subject::of(backend, bucket).await;
    assert_eq!(subject.all_keys().await, ["D/x", "d/x"]);
    assert_eq!(subject.get("d/x").await.unwrap(), "lower");
    subject.put("d/y", "there").await;
    assert!(root.path().join(subject.bucket.as_str()).join(".t2~64/y").exists());
    subject.put("K", "1").await;
    subject.put("k", "2").await;
    assert!(
        root.path().join(subject.bucket.as_str()).join("k").exists(),
        "nothing folds here"
    );
    assert_eq!(fs::read(root.path().join(".t2/format")).unwrap(), b"2\n");
}

#[tokio::test]
async fn a_root_is_made_and_what_others_keep_in_its_space_stays() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("made/here");
    fs::create_dir_all(root.join(".t2/tls")).unwrap();
    fs::write(root.join(".t2/tls/ca.pem"), "x").unwrap();
    drop(open_at(&root).unwrap());
    assert_eq!(fs::read_to_string(root.join(".t2/tls/ca.pem")).unwrap(), "x");
}

#[tokio::test]
async fn a_restart_finds_everything_and_clears_what_a_crash_left() {
    let Tree { subject, root } = Tree::new().await;
    subject.put("a", "1").await;
    subject.put("a/b", "2").await;
    let upload = subject.upload("c").await;
    let part = subject.part(&upload, 1, "3").await;
    let (bucket, owner) = (subject.bucket.clone(), subject.owner.clone());
    let before = subject.info("a").await;
    drop(subject);
    fs::write(root.path().join(".t2/staging/half"), "written").unwrap();
    fs::create_dir(root.path().join(".t2/staging/upload")).unwrap();
    fs::write(root.path().join(".t2/staging/upload/part.1"), "x").unwrap();

    let backend: Arc<dyn Backend> = Arc::new(again(|| open_at(root.path())));
    assert_eq!(fs::read_dir(root.path().join(".t2/staging")).unwrap().count(), 0);
    assert_eq!(backend.head_bucket(&bucket).await.unwrap().owner, owner);
    let mut subject = Subject::new(backend).await;
    subject.bucket = bucket;
    assert_eq!(subject.info("a").await, before);
    assert_eq!(subject.get("a/b").await.unwrap(), "2");
    subject.complete(&upload, vec![part]).await.unwrap();
    assert_eq!(subject.get("c").await.unwrap(), "3");
}

/// Everything below a directory, with all that tells of a change.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let what = format!(
            "{} {} {} {:o} {times:?}",
            meta.ino(),
            meta.nlink(),
            meta.len(),
            meta.mode()
        );
        found.insert(path, what);
    }
    found
}

/// The versions beside the current object that are no delete markers, the newest first.
fn kept_of(root: &Path, bucket: &BucketName, key: &str) -> Vec<PathBuf> {
    let history = root
        .join(".t2/versions")
        .join(bucket.as_str())
        .join(format!(".t2!{key}"));
    let entries = fs::read_dir(history).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = entries
        .filter(|path| path.is_file() && path.extension().is_none())
        .collect();
    kept.sort_unstable();
    kept
}

async fn entries_of(subject: &Subject) -> Vec<VersionEntry> {
    let request = ListObjectVersions {
        bucket: subject.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 1000,
    };
    subject.list_object_versions(request).await.unwrap().entries
}

fn is_latest(entry: &VersionEntry) -> bool {
    match entry {
        VersionEntry::Object { is_latest, .. } => *is_latest,
        VersionEntry::DeleteMarker(marker) => marker.is_latest,
        VersionEntry::CommonPrefix(_) => false,
    }
}

/// As a process leaves it that was killed while it moved an object that cannot have two names.
#[tokio::test]
async fn what_is_away_is_read_where_it_lies_if_nothing_may_be_changed() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let options = FsOptions::new(root.path(), clock.clone());
    let open = |options: FsOptions| {
        let backend = again(|| FsBackend::open(options.clone()));
        Arc::new(Versioned::new(backend, clock.clone()).unwrap())
    };
    let s = Subject::with_versioning(open(options.clone()), Some(VersioningStatus::Enabled)).await;
    let bucket = s.bucket.clone();
    s.put("current", "current").await;
    s.delete("current").await;
    s.put("displaced", "displaced").await;
    s.put("displaced", "new").await;
    s.put("deleted", "deleted").await;
    s.delete("deleted").await;
    fs::write(root.path().join(bucket.as_str()).join("null"), "null").unwrap();
    s.put("null", "new").await;
    drop(s);
    let away = |path: PathBuf| fs::rename(&path, path.with_extension("away")).unwrap();
    let of_current = kept_of(root.path(), &bucket, "current").remove(0);
    let history = of_current.parent().unwrap().to_owned();
    away(of_current);
    let marker = fs::read_dir(history).unwrap().map(|entry| entry.unwrap().path());
    marker
        .filter(|path| path.extension().is_some_and(|end| end == "d"))
        .for_each(|marker| fs::remove_file(marker).unwrap());
    away(kept_of(root.path(), &bucket, "displaced").remove(0));
    away(kept_of(root.path(), &bucket, "deleted").remove(0));
    away(kept_of(root.path(), &bucket, "null/null").remove(0));

    let before = snapshot(root.path());
    let mut seen = Vec::new();
    for read_only in [true, false] {
        let s = Subject::of(
            open(FsOptions {
                read_only,
                ..options.clone()
            }),
            bucket.clone(),
        )
        .await;
        assert_eq!(s.get("current").await.unwrap(), "current");
        assert_eq!(s.get("displaced").await.unwrap(), "new");
        assert!(matches!(
            s.open("deleted").await,
            Err(BackendError::DeleteMarker { .. })
        ));
        let entries = entries_of(&s).await;
        let mut contents = Vec::new();
        for entry in &entries {
            let mut object = s.object(entry.name());
            object.version_id = entry.version_id().cloned();
            if let VersionEntry::Object { info, .. } = entry {
                let open = s.open_object(&object).await.unwrap();
                assert_eq!(&open.info.etag, &info.etag);
                contents.push(read_whole(open).await);
            }
        }
        assert_eq!(contents, ["current", "deleted", "new", "displaced", "new", "null"]);
        // The tag of a stranger's file changes with its name.
        let seen_as = entries
            .iter()
            .map(|entry| (entry.name().to_owned(), entry.version_id().cloned(), is_latest(entry)));
        seen.push(seen_as.collect::<Vec<_>>());
        drop(s);
        if read_only {
            assert_eq!(snapshot(root.path()), before);
        }
    }
    assert_eq!(seen[0], seen[1], "as it is when somebody has ended what was begun");
}

/// Those who share a root make the lock files, and nobody who just looks.
#[tokio::test]
async fn a_look_makes_no_lock_files() {
    let root = tempfile::tempdir().unwrap();
    let options = FsOptions {
        shared: true,
        ..FsOptions::new(root.path(), Arc::new(SystemClock))
    };
    let backend = Arc::new(FsBackend::open(options.clone()).unwrap());
    let s = Subject::new(backend).await;
    s.put("key", "x").await;
    let bucket = s.bucket.clone();
    drop(s);
    let locks = root.path().join(".t2/locks");
    let clear = || {
        for entry in fs::read_dir(&locks).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    let look = FsOptions {
        read_only: true,
        ..options
    };
    for left in [None, Some("moves")] {
        clear();
        left.map(|left| fs::write(locks.join(left), "").unwrap());
        let before = snapshot(root.path());
        let s = Subject::of(Arc::new(again(|| FsBackend::open(look.clone()))), bucket.clone()).await;
        assert_eq!(s.all_keys().await, ["key"]);
        assert_eq!(s.get("key").await.unwrap(), "x");
        // Where it would have to be locked against others, and cannot be.
        let missing = s.open("missing").await;
        match left {
            None => assert!(matches!(missing, Err(BackendError::NoSuchKey)), "{missing:?}"),
            Some(_) => assert!(matches!(missing, Err(BackendError::Internal { .. })), "{missing:?}"),
        }
        drop(s);
        assert_eq!(snapshot(root.path()), before, "{left:?}");
    }
}

#[tokio::test]
async fn what_is_opened_read_only_is_not_changed_by_anything() {
    for shared in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let options = FsOptions {
            shared,
            adopt: Some(AccountId::parse("owner").unwrap()),
            ..FsOptions::new(root.path(), clock.clone())
        };
        let open =
            |options: FsOptions| Arc::new(Versioned::new(FsBackend::open(options).unwrap(), clock.clone()).unwrap());
        let s = Subject::with_versioning(open(options.clone()), Some(VersioningStatus::Enabled)).await;
        let first = s.put("dir/key", "first").await;
        let second = s.put("dir/key", "second").await;
        s.put("gone", "x").await;
        s.delete("gone").await;
        s.put("removed", "x").await;
        for n in 0..3 {
            s.put("copied", format!("{n}")).await;
            s.put("oldest", format!("{n}")).await;
        }
        let upload = s.upload("upload").await;
        let part = s.part(&upload, 1, "1").await;
        let bucket = s.bucket.clone();
        drop(s);
        // What a start would put in order or adopt, and what a listing would.
        fs::write(root.path().join(".t2/staging/half"), "written").unwrap();
        fs::create_dir(root.path().join("theirs")).unwrap();
        fs::remove_file(root.path().join(bucket.as_str()).join("removed")).unwrap();
        let in_bucket = |key: &str| root.path().join(bucket.as_str()).join(key);
        fs::hard_link(&kept_of(root.path(), &bucket, "gone")[0], in_bucket("gone")).unwrap();
        // What came back by other means: a copy, and the oldest of three in place of the newest.
        let copy = Command::new("cp")
            .arg("-a")
            .arg(&kept_of(root.path(), &bucket, "copied")[0])
            .arg(in_bucket("copied"))
            .status();
        assert!(copy.unwrap().success());
        fs::rename(&kept_of(root.path(), &bucket, "oldest")[1], in_bucket("oldest")).unwrap();
        let before = snapshot(root.path());
        assert!(before.len() > 20);

        let look = FsOptions {
            read_only: true,
            ..options.clone()
        };
        let again = || FsBackend::open(look.clone());
        let backend = Arc::new(Versioned::new(crate::again(again), clock.clone()).unwrap());
        let s = Subject::of(backend, bucket.clone()).await;
        assert_eq!(s.info("dir/key").await, second);
        let mut object = s.object("dir/key");
        object.version_id = first.version_id.clone();
        assert_eq!(s.open_object(&object).await.unwrap().info.size, 5);
        s.list_object_versions(ListObjectVersions {
            bucket: bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            key_marker: None,
            version_id_marker: None,
            max_keys: 1000,
        })
        .await
        .unwrap();
        s.all_keys().await;
        s.open("removed").await.unwrap_err();
        s.ready().await.unwrap_err();
        assert!(s.list_buckets(&s.owner, "theirs", None, 10).await.unwrap().is_empty());
        let refused = [
            s.put_body("new", ObjectBody::from_bytes("x")).await.map(drop),
            s.delete_if(WriteCondition::default(), "dir/key").await.map(drop),
            s.delete_object(DeleteObject {
                object,
                ..s.delete_request("dir/key")
            })
            .await
            .map(drop),
            s.copy_object(CopyObject {
                source: s.object("dir/key"),
                source_etag: second.etag.clone(),
                bucket: bucket.clone(),
                key: s.key("copy"),
                attributes: second.attributes.clone(),
                condition: WriteCondition::default(),
                versions: None,
            })
            .await
            .map(drop),
            s.create_multipart_upload(s.create_upload_request("new"))
                .await
                .map(drop),
            s.upload_part(&upload, part.part_number, ObjectBody::from_bytes("x"))
                .await
                .map(drop),
            s.complete(&upload, vec![part]).await.map(drop),
            s.abort_multipart_upload(&upload).await,
            s.put_bucket_setting(&bucket, BucketSetting::Acl(CannedAcl::PublicRead))
                .await,
            s.delete_bucket(&bucket).await,
            s.create_bucket(CreateBucket {
                bucket: BucketName::parse("theirs").unwrap(),
                owner: s.owner.clone(),
                acl: CannedAcl::Private,
                versioning: None,
                max_buckets: 100,
            })
            .await
            .map(drop),
        ];
        for (at, refused) in refused.into_iter().enumerate() {
            assert!(matches!(refused, Err(BackendError::ReadOnly)), "{at}: {refused:?}");
        }
        drop(s);
        assert_eq!(snapshot(root.path()), before, "shared: {shared}");
        // It has the lock as long as it is open, and no longer.
        let looking = again().unwrap();
        if !shared {
            assert!(matches!(FsBackend::open(options.clone()), Err(FsOpenError::Locked(_))));
        }
        drop(looking);
        drop(FsBackend::open(options).unwrap());
        assert!(!root.path().join(".t2/staging/half").exists());
    }
}

#[tokio::test]
async fn what_is_no_root_is_not_made_by_looking() {
    let parent = tempfile::tempdir().unwrap();
    let look = |path: &Path| {
        FsBackend::open(FsOptions {
            read_only: true,
            ..FsOptions::new(path, Arc::new(SystemClock))
        })
    };
    assert!(matches!(look(parent.path()), Err(FsOpenError::NoRoot(_))));
    assert!(matches!(look(&parent.path().join("none")), Err(FsOpenError::Io { .. })));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_that_others_made_is_no_bucket() {
    let tree = Tree::new().await;
    fs::create_dir(tree.root.path().join("theirs")).unwrap();
    let bucket = BucketName::parse("theirs").unwrap();
    let refused = tree.head_bucket(&bucket).await;
    assert!(matches!(refused, Err(BackendError::NoSuchBucket)));
    let request = CreateBucket {
        bucket,
        owner: tree.owner.clone(),
        acl: CannedAcl::Private,
        max_buckets: 100,
        versioning: None,
    };
    let refused = tree.create_bucket(request).await;
    assert!(matches!(refused, Err(BackendError::BucketAlreadyExists { owner }) if owner != tree.owner));
    let listed = tree.list_buckets(&tree.owner, "", None, 100).await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn deleting_a_bucket_removes_its_directories_and_uploads_and_nothing_of_others() {
    let tree = Tree::new().await;
    tree.upload("key").await;
    fs::create_dir(tree.path("theirs")).unwrap();
    tree.delete_bucket(&tree.bucket).await.unwrap();
    assert!(tree.path("theirs").is_dir());
    assert_eq!(tree.count("uploads"), 0);
    assert_eq!(tree.count("buckets"), 0);
    assert_eq!(tree.count("staging"), 0);

    // What is left is ours, and empty: the name can be used again.
    let request = CreateBucket {
        bucket: tree.bucket.clone(),
        owner: tree.owner.clone(),
        acl: CannedAcl::Private,
        max_buckets: 100,
        versioning: None,
    };
    tree.create_bucket(request.clone()).await.unwrap();
    fs::remove_dir(tree.path("theirs")).unwrap();
    tree.delete_bucket(&tree.bucket).await.unwrap();
    assert!(!tree.path("").exists());
}

#[tokio::test]
async fn directories_that_were_there_are_told_of_and_served_once_they_have_an_owner() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("photos/2026")).unwrap();
    fs::write(root.path().join("photos/2026/a.jpg"), "picture").unwrap();
    fs::create_dir(root.path().join("Not A Bucket")).unwrap();
    fs::write(root.path().join("file"), "x").unwrap();
    let photos = BucketName::parse("photos").unwrap();

    let backend = open_at(root.path()).unwrap();
    assert_eq!(backend.unclaimed(), std::slice::from_ref(&photos));
    assert!(matches!(
        backend.head_bucket(&photos).await,
        Err(BackendError::NoSuchBucket)
    ));
    drop(backend);

    let owner = AccountId::parse("owner").unwrap();
    let options = FsOptions {
        adopt: Some(owner.clone()),
        ..FsOptions::new(root.path(), Arc::new(SystemClock))
    };
    let backend = FsBackend::open(options).unwrap();
    assert!(backend.unclaimed().is_empty());
    let info = backend.head_bucket(&photos).await.unwrap();
    assert_eq!((info.owner, info.acl), (owner, CannedAcl::Private));
    let object = ObjectRef {
        bucket: photos.clone(),
        key: Key::parse("2026/a.jpg").unwrap(),
        version_id: None,
    };
    assert_eq!(backend.open_object(&object).await.unwrap().info.size, 7);
    drop(backend);

    // Its owner is on record: it stays a bucket without being adopted again.
    assert!(open_at(root.path()).unwrap().head_bucket(&photos).await.is_ok());
}
