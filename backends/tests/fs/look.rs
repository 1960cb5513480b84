//! Looking at a root in which nothing may be changed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use t2gate_backends::{
    AccountId, BackendError, BucketName, BucketSetting, CannedAcl, CopyObject, CreateBucket, DeleteObject, FsBackend,
    FsOpenError, FsOptions, ListObjectVersions, ObjectBody, SystemClock, VersionEntry, Versioned, VersioningStatus,
    WriteCondition,
    conformance::{Subject, read_whole},
};

use crate::{again, beside::has_extended_attributes};

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

/// As a process leaves it that was killed between the marker and the name: of an object that says which version it is, and
/// of somebody else's, which does not.
#[test]
fn what_an_interrupted_delete_left_is_gone_also_where_nothing_may_be_changed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let looked = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), half_deleted()).await });
    // A thread that looks for ever would be waited for.
    runtime.shutdown_background();
    looked.unwrap();
}

async fn half_deleted() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let options = FsOptions::new(root.path(), clock.clone());
    let open = |options: FsOptions| {
        let backend = again(|| FsBackend::open(options.clone()));
        Arc::new(Versioned::new(backend, clock.clone()).unwrap())
    };
    let s = Subject::with_versioning(open(options.clone()), Some(VersioningStatus::Enabled)).await;
    let bucket = s.bucket.clone();
    let in_bucket = |key: &str| root.path().join(bucket.as_str()).join(key);
    s.put("ours", "x").await;
    fs::write(in_bucket("theirs"), "x").unwrap();
    let kept = [("theirs", "theirs/null"), ("ours", "ours")];
    for (key, history) in kept {
        s.delete(key).await;
        fs::hard_link(&kept_of(root.path(), &bucket, history)[0], in_bucket(key)).unwrap();
    }
    drop(s);
    for (key, _) in kept {
        let note = root.path().join(".t2/staging").join(format!("tidy.{key}"));
        symlink(format!("{bucket}/{key}"), note).unwrap();
    }
    let before = snapshot(root.path());
    for read_only in [true, false] {
        let options = FsOptions {
            read_only,
            ..options.clone()
        };
        let s = Subject::of(open(options), bucket.clone()).await;
        for (key, _) in kept {
            let gone = s.open(key).await;
            assert!(
                matches!(gone, Err(BackendError::DeleteMarker { .. })),
                "{key}, read-only {read_only}: {gone:?}"
            );
        }
        if read_only {
            assert_eq!(snapshot(root.path()), before);
        }
    }
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
        if let Some(left) = left {
            fs::write(locks.join(left), "").unwrap();
        }
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
        // With side files no root is shared.
        if shared && !has_extended_attributes() {
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let options = FsOptions {
            shared,
            adoption: AccountId::parse("owner").unwrap().into(),
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
