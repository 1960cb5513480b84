//! A small file of the gateway's own that is damaged: what it was about is all that is missing.

use std::{fs, sync::Arc, time::Duration};

use t2gate_backends::{
    BucketSetting, CopyObject, FsBackend,
    FsFindingKind::DamagedAttributes,
    FsOptions, ObjectAttributes, ObjectBody, PutObject, UploadEntry, VersioningStatus, WriteCondition,
    conformance::{Subject, read_whole},
    examine_fs,
};

use crate::{Tree, again, beside::side_files, options};

#[tokio::test]
async fn a_damaged_side_file_takes_attributes_and_leaves_the_object() {
    for left in [0, 3, 20, 4000] {
        let tree = Tree::new().await;
        let large = PutObject {
            attributes: ObjectAttributes {
                user_metadata: vec![("m".into(), "x".repeat(5000).into())],
                ..ObjectAttributes::default()
            },
            ..tree.put_request("key")
        };
        let put = tree.put_object(large, ObjectBody::from_bytes("whole")).await.unwrap();
        let [side] = &*side_files(tree.root.path()) else {
            panic!("one side file");
        };
        let path = tree.root.path().join(".t2/attributes").join(side);
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(left)
            .unwrap();

        let open = tree.open("key").await.unwrap();
        assert_eq!(open.info.etag, put.etag);
        assert!(open.info.attributes.user_metadata.is_empty());
        assert_eq!(read_whole(open).await, "whole");
        let copy = CopyObject {
            source: tree.object("key"),
            source_etag: put.etag,
            bucket: tree.bucket.clone(),
            key: tree.key("copy"),
            attributes: ObjectAttributes::default(),
            condition: WriteCondition::default(),
            versions: None,
        };
        tree.copy_object(copy).await.unwrap();
        assert_eq!(tree.get("copy").await.unwrap(), "whole");
        let Tree { subject, root } = tree;
        let bucket = subject.bucket.clone();
        drop(subject);
        let found = again(|| examine_fs(root.path(), true)).findings;
        let found: Vec<_> = found.iter().map(|found| (found.kind, &*found.path)).collect();
        assert_eq!(found, [(DamagedAttributes, &*format!("{bucket}/key"))], "{left}");

        let backend = again(|| FsBackend::open(options(root.path())));
        let subject = Subject::of(Arc::new(backend), bucket).await;
        let upload = subject.upload("key").await;
        let part = subject.part(&upload, 1, "new").await;
        subject.complete(&upload, vec![part]).await.unwrap();
        assert_eq!(subject.get("key").await.unwrap(), "new");
    }
}

#[tokio::test]
async fn a_damaged_table_of_parts_is_no_hindrance_to_a_copy() {
    let tree = Tree::new().await;
    let upload = tree.upload("key").await;
    let parts = vec![tree.part(&upload, 1, "one").await, tree.part(&upload, 2, "two").await];
    let made = tree.complete(&upload, parts).await.unwrap();
    let [side] = &*side_files(tree.root.path()) else {
        panic!("one side file");
    };
    let path = tree.root.path().join(".t2/attributes").join(side);
    let mut bytes = fs::read(&path).unwrap();
    // No algorithm of checksums.
    bytes[5 + 10] = 0xff;
    fs::write(&path, bytes).unwrap();
    let copy = CopyObject {
        source: tree.object("key"),
        source_etag: made.etag,
        bucket: tree.bucket.clone(),
        key: tree.key("copy"),
        attributes: ObjectAttributes::default(),
        condition: WriteCondition::default(),
        versions: None,
    };
    tree.copy_object(copy).await.unwrap();
    assert_eq!(tree.get("copy").await.unwrap(), "onetwo");
}

#[tokio::test]
async fn a_damaged_upload_keeps_no_other_from_being_listed_and_swept() {
    let tree = Tree::new().await;
    for key in ["a", "b", "c", "d"] {
        tree.upload(key).await;
    }
    let damaged = tree.upload("damaged").await;
    tree.upload("stuck").await;
    let uploads = tree.root.path().join(".t2/uploads").join(tree.bucket.as_str());
    let of = |id: &str| uploads.join(id);
    let record = fs::File::options()
        .write(true)
        .open(of(damaged.upload_id.as_str()).join("upload"));
    record.unwrap().set_len(3).unwrap();
    let setting = BucketSetting::Versioning(VersioningStatus::Enabled);
    tree.put_bucket_setting(&tree.bucket, setting).await.unwrap();
    // No history can be opened there.
    let histories = tree.root.path().join(".t2/versions").join(tree.bucket.as_str());
    fs::create_dir_all(&histories).unwrap();
    fs::write(histories.join(".t2!stuck"), "").unwrap();

    let mut request = tree.all_uploads();
    let names = async |request| {
        let page = tree.list_multipart_uploads(request).await.unwrap();
        let name = |entry: UploadEntry| match entry {
            UploadEntry::Upload(upload) => upload.key.to_string(),
            UploadEntry::CommonPrefix(prefix) => prefix.to_string(),
        };
        page.entries.into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(request.clone()).await, ["a", "b", "c", "d", "stuck"]);
    request.key_marker = Some("c".into());
    request.upload_id_marker = Some(damaged.upload_id.clone());
    assert_eq!(names(request).await, ["c", "d", "stuck"]);

    let Tree { subject, root } = tree;
    drop(subject);
    let options = FsOptions {
        abandoned_upload_age: Some(Duration::ZERO),
        ..options(root.path())
    };
    let backend = again(|| FsBackend::open(options.clone()));
    assert_eq!(backend.sweep_uploads().await.unwrap(), 4);
    assert_eq!(fs::read_dir(uploads).unwrap().count(), 2);
}
