//! What a root must be, and what is found in it again.

use std::{fs, sync::Arc};

use t2gate_backends::{
    AccountId, Adoption, Backend, BackendError, BucketName, BucketPattern, BucketSetting, CannedAcl, CreateBucket,
    Durability, FsBackend, FsOpenError, FsOptions, Key, ObjectRef, SystemClock, conformance::Subject,
};

use crate::{Tree, again, open_at, ops::perform, options};

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
        adoption: owner.clone().into(),
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

    // Some may have an owner, and others none.
    for name in ["logs-2026", "music"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let pattern = BucketPattern::parse("logs-*").unwrap();
    let other = AccountId::parse("other").unwrap();
    let options = FsOptions {
        adoption: Adoption::new(vec![(pattern, Some(other.clone()))], None),
        ..FsOptions::new(root.path(), Arc::new(SystemClock))
    };
    let backend = FsBackend::open(options).unwrap();
    let [logs, music] = ["logs-2026", "music"].map(|name| BucketName::parse(name).unwrap());
    assert_eq!(backend.unclaimed(), [music]);
    assert_eq!(backend.head_bucket(&logs).await.unwrap().owner, other);
}

/// Without a bucket's record nothing of it is served, and without its versioning versions would be lost.
#[tokio::test]
async fn records_of_buckets_are_synced_at_every_level() {
    let root = tempfile::tempdir().unwrap();
    let backend = FsBackend::open(FsOptions {
        durability: Durability::ProcessSafe,
        ..FsOptions::new(root.path(), Arc::new(SystemClock))
    })
    .unwrap();
    let bucket = BucketName::parse("bucket").unwrap();
    let mut before = backend.syncs();
    let mut synced = || {
        let count = backend.syncs() - before;
        before = backend.syncs();
        count
    };
    let request = CreateBucket {
        bucket: bucket.clone(),
        owner: AccountId::parse("owner").unwrap(),
        acl: CannedAcl::Private,
        versioning: None,
        max_buckets: 1,
    };
    backend.create_bucket(request).await.unwrap();
    assert!(synced() >= 3, "the root, the record, its directory");
    let public = BucketSetting::Acl(CannedAcl::PublicRead);
    backend.put_bucket_setting(&bucket, public).await.unwrap();
    assert!(synced() >= 2, "the record, its directory");
    backend.delete_bucket(&bucket).await.unwrap();
    assert!(synced() >= 1, "the directory of records");
}

/// Somebody removed a bucket by hand, and what was being uploaded to it is still there.
#[tokio::test]
async fn uploads_of_a_bucket_that_is_gone_are_not_those_of_the_next_one() {
    for adopted in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let mut subject = Subject::new(Arc::new(open_at(root.path()).unwrap())).await;
        for op in ["bucket other", "begin other"] {
            perform(&subject, op).await;
        }
        subject.bucket = BucketName::parse("other").unwrap();
        let under_way = |subject: &Subject| {
            let subject = subject.clone();
            async move {
                let page = subject.list_multipart_uploads(subject.all_uploads()).await.unwrap();
                page.entries.len()
            }
        };
        assert_eq!(under_way(&subject).await, 1);
        drop(subject);
        fs::remove_file(root.path().join(".t2/buckets/other")).unwrap();
        let mut options = options(root.path());
        if adopted {
            options.adoption = AccountId::parse("owner").unwrap().into();
        } else {
            fs::remove_dir_all(root.path().join("other")).unwrap();
        }
        let backend = again(|| FsBackend::open(options.clone()));
        let mut subject = Subject::new(Arc::new(backend)).await;
        if !adopted {
            perform(&subject, "bucket other").await;
        }
        subject.bucket = BucketName::parse("other").unwrap();
        assert_eq!(under_way(&subject).await, 0, "adopted: {adopted}");
        assert!(!root.path().join(".t2/uploads/other").exists());
    }
}
