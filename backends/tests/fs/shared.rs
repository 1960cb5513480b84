//! Several that serve one root: the contract holds whichever of them is asked, and each knows what others have done.

use std::{fs, sync::Arc};

use t2gate_backends::{
    Backend, BackendError, BodySummary, BucketName, BucketSetting, CannedAcl, ChecksumAlgorithm, CreateBucket,
    Durability, FsBackend, FsOpenError, FsOptions, ObjectBody, PartNumber, SystemClock, UploadRef, Versioned,
    conformance::{Gate, ScriptedBody, Subject, completed, gate},
    conformance_suite, examine_fs, versions_suite,
};
use tempfile::TempDir;

use crate::{again, dir_in_memory, in_turn::InTurn, open_at, options};

mod processes;

pub(crate) fn shared(root: &std::path::Path) -> FsOptions {
    FsOptions {
        shared: true,
        ..options(root)
    }
}

pub(crate) fn open_shared(root: &std::path::Path) -> FsBackend {
    again(|| FsBackend::open(shared(root)))
}

/// The contract, kept by one who shares its root with nobody.
mod one {
    use super::*;

    fn open() -> (Arc<dyn Backend>, TempDir) {
        let root = dir_in_memory();
        (Arc::new(open_shared(root.path())), root)
    }

    conformance_suite!(open);
}

/// The contract, kept by two in turn.
mod two {
    use super::*;

    fn open() -> (Arc<dyn Backend>, TempDir) {
        let root = dir_in_memory();
        let open = || -> Arc<dyn Backend> {
            let versioned = Versioned::new(open_shared(root.path()), Arc::new(SystemClock));
            Arc::new(versioned.expect("fs keeps what is displaced"))
        };
        (Arc::new(InTurn::new(vec![open(), open()])), root)
    }

    versions_suite!(open);
}

/// Two on one root.
struct Two {
    one: Subject,
    other: Subject,
    backends: [Arc<FsBackend>; 2],
    root: TempDir,
}

impl Two {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let backends = [(); 2].map(|()| Arc::new(open_shared(root.path())));
        let one = Subject::new(Arc::clone(&backends[0]) as Arc<dyn Backend>).await;
        let other = Subject::of(Arc::clone(&backends[1]) as Arc<dyn Backend>, one.bucket.clone()).await;
        Self {
            one,
            other,
            backends,
            root,
        }
    }

    fn names(&self, part: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.path().join(".t2").join(part)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn of_upload(&self, upload: &UploadRef, name: &str) -> std::path::PathBuf {
        let uploads = self.root.path().join(".t2/uploads").join(upload.bucket.as_str());
        uploads.join(upload.upload_id.as_str()).join(name)
    }
}

#[tokio::test]
async fn those_who_share_a_root_and_those_who_do_not_refuse_each_other() {
    let root = tempfile::tempdir().unwrap();
    let alone = open_at(root.path()).unwrap();
    let refused = FsBackend::open(shared(root.path())).unwrap_err();
    assert!(matches!(&refused, FsOpenError::NotShared(_)));
    assert!(refused.to_string().contains("does not share"), "{refused}");
    drop(alone);
    let first = open_shared(root.path());
    let second = open_shared(root.path());
    drop(first);
    let refused = open_at(root.path()).unwrap_err();
    assert!(matches!(&refused, FsOpenError::Locked(_)));
    assert!(refused.to_string().contains("share"), "{refused}");
    assert!(matches!(examine_fs(root.path(), false), Err(FsOpenError::Locked(_))));
    drop(second);
    again(|| open_at(root.path()));
}

#[tokio::test]
async fn a_root_that_is_not_shared_has_no_lock_files() {
    let tree = crate::Tree::new().await;
    tree.put("a", "1").await;
    tree.put("a/b", "1").await;
    let upload = tree.upload("c").await;
    let part = tree.part(&upload, 1, "3").await;
    assert!(!tree.root.path().join(".t2/locks").exists());
    let names: Vec<_> = fs::read_dir(
        tree.root
            .path()
            .join(".t2/uploads")
            .join(tree.bucket.as_str())
            .join(upload.upload_id.as_str()),
    )
    .unwrap()
    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
    .filter(|name| !name.starts_with("data.") && !name.starts_with("slots."))
    .collect();
    assert_eq!(names, ["upload"]);
    tree.complete(&upload, vec![part]).await.unwrap();
}

#[tokio::test]
async fn each_who_ends_takes_its_staging_with_it() {
    let two = Two::new().await;
    two.one.put("a", "1").await;
    assert_eq!(two.names("staging").len(), 2);
    let Two {
        one,
        other,
        backends,
        root,
    } = two;
    drop((one, other, backends));
    let left = |part: &str| fs::read_dir(root.path().join(".t2").join(part)).unwrap();
    assert_eq!(left("staging").count(), 0);
    let locks = left("locks").map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(locks.filter(|name| name.starts_with("process.")).count(), 0);
    assert_eq!(examine_fs(root.path(), false).unwrap().findings, []);
}

#[tokio::test]
async fn a_sweep_leaves_the_staging_of_those_who_live() {
    let two = Two::new().await;
    let (pause, gate) = gate();
    let body = ScriptedBody::new(300_000)
        .data(vec![7; 200_000], 64 * 1024)
        .pause(pause)
        .data(vec![7; 100_000], 64 * 1024)
        .end(BodySummary::of(&[7; 300_000], ChecksumAlgorithm::Crc64Nvme));
    let one = two.one.clone();
    let put = tokio::spawn(async move { one.put_body("key", body).await });
    let Gate { reached, open: release } = gate;
    reached.await.unwrap();
    // What somebody left who has ended: a half-written file, and what was there before the root was shared.
    let dead = two.root.path().join(".t2/staging/process.0123");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("half"), "written").unwrap();
    fs::write(two.root.path().join(".t2/staging/old"), "written").unwrap();
    assert_eq!(two.backends[1].sweep_staging().await.unwrap(), 1);
    assert_eq!(two.backends[1].sweep_staging().await.unwrap(), 0);
    assert!(!dead.exists());
    assert_eq!(two.names("staging").len(), 2);
    assert!(!two.names("locks").contains(&"process.0123".to_owned()));
    release.send(()).unwrap();
    put.await.unwrap().unwrap();
    assert_eq!(two.other.get("key").await.unwrap(), vec![7; 300_000]);
}

#[tokio::test]
async fn a_bucket_is_what_the_last_change_made_of_it_for_everybody() {
    let two = Two::new().await;
    let bucket = two.one.bucket.clone();
    for acl in [CannedAcl::PublicRead, CannedAcl::Private, CannedAcl::PublicRead] {
        two.one
            .put_bucket_setting(&bucket, BucketSetting::Acl(acl))
            .await
            .unwrap();
        assert_eq!(two.other.head_bucket(&bucket).await.unwrap().acl, acl);
        let listed = two.other.list_buckets(&two.other.owner, "", None, 10).await.unwrap();
        assert_eq!(listed[0].acl, acl);
    }
    // Long after the last change nothing is read, and a change is seen all the same.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    for _ in 0..2 {
        assert_eq!(two.other.head_bucket(&bucket).await.unwrap().acl, CannedAcl::PublicRead);
    }
    two.one
        .put_bucket_setting(&bucket, BucketSetting::Acl(CannedAcl::Private))
        .await
        .unwrap();
    assert_eq!(two.other.head_bucket(&bucket).await.unwrap().acl, CannedAcl::Private);
}

#[tokio::test]
async fn what_others_made_is_made_durable_before_anything_in_it_is() {
    let root = tempfile::tempdir().unwrap();
    let power_safe = FsOptions {
        durability: Durability::PowerSafe,
        ..shared(root.path())
    };
    let maker = Subject::new(Arc::new(FsBackend::open(shared(root.path())).unwrap())).await;
    let writer = Arc::new(FsBackend::open(power_safe).unwrap());
    let subject = Subject::of(Arc::clone(&writer) as Arc<dyn Backend>, maker.bucket.clone()).await;
    let mut syncs = Vec::new();
    for n in 0..3 {
        let before = writer.syncs();
        subject.put("key", n.to_string()).await;
        syncs.push(writer.syncs() - before);
    }
    assert!(syncs[0] > syncs[1] && syncs[1] == syncs[2], "{syncs:?}");
}

#[tokio::test]
async fn a_write_that_began_before_its_bucket_was_made_anew_elsewhere_is_refused() {
    let two = Two::new().await;
    let (pause, gate) = gate();
    let body = ScriptedBody::new(1)
        .pause(pause)
        .data("x", 1)
        .end(BodySummary::of(b"x", ChecksumAlgorithm::Crc64Nvme));
    let one = two.one.clone();
    let put = tokio::spawn(async move { one.put_body("key", body).await });
    let Gate { reached, open: release } = gate;
    reached.await.unwrap();
    let bucket = two.one.bucket.clone();
    two.other.delete_bucket(&bucket).await.unwrap();
    assert!(matches!(
        two.one.head_bucket(&bucket).await,
        Err(BackendError::NoSuchBucket)
    ));
    two.other
        .create_bucket(bucket_request(&two.other, &bucket))
        .await
        .unwrap();
    release.send(()).unwrap();
    assert!(matches!(put.await.unwrap(), Err(BackendError::NoSuchBucket)));
    assert_eq!(two.other.get("key").await, None);
    two.other.put("key", "new").await;
    assert_eq!(two.one.get("key").await.unwrap(), "new");
}

fn bucket_request(subject: &Subject, bucket: &BucketName) -> CreateBucket {
    CreateBucket {
        bucket: bucket.clone(),
        owner: subject.owner.clone(),
        acl: CannedAcl::Private,
        max_buckets: 100,
        versioning: None,
    }
}

fn stalling(seed: u8, len: usize, given: usize) -> (ObjectBody, Gate) {
    let (pause, gate) = gate();
    let bytes = vec![seed; len];
    let body = ScriptedBody::new(len as u64)
        .data(bytes[..given].to_vec(), 64 * 1024)
        .pause(pause)
        .data(bytes[given..].to_vec(), 64 * 1024)
        .end(BodySummary::of(&bytes, ChecksumAlgorithm::Crc64Nvme));
    (body, gate)
}

#[tokio::test]
async fn a_place_that_one_writes_to_is_not_another_ones() {
    const LEN: usize = 300_000;
    let two = Two::new().await;
    let upload = two.one.upload("key").await;
    let (body, Gate { reached, open: release }) = stalling(1, LEN, 200_000);
    let (one, named) = (two.one.clone(), upload.clone());
    let late = tokio::spawn(async move { one.upload_part(&named, PartNumber::new(1).unwrap(), body).await });
    reached.await.unwrap();
    assert!(two.of_upload(&upload, "claim.1").exists());
    // The same part from another process has a file of its own; another part its place beside.
    let first = two.other.part(&upload, 1, vec![2; LEN]).await;
    let second = two.other.part(&upload, 2, vec![3; LEN]).await;
    assert!(two.of_upload(&upload, "part.1").exists());
    assert!(!two.of_upload(&upload, "part.2").exists());
    let data = two.of_upload(&upload, &format!("data.{LEN}"));
    let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&data).unwrap());
    let info = two.other.complete(&upload, vec![first, second]).await.unwrap();
    release.send(()).unwrap();
    assert!(matches!(late.await.unwrap(), Err(BackendError::NoSuchUpload)));
    let path = two.root.path().join(two.one.bucket.as_str()).join("key");
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap()),
        before
    );
    let object = two.one.get("key").await.unwrap();
    assert_eq!(info.size, object.len() as u64);
    assert_eq!(object, [vec![2; LEN], vec![3; LEN]].concat());
}

#[tokio::test]
async fn a_part_that_is_still_coming_elsewhere_is_not_cut_off_by_a_refused_complete() {
    const LEN: usize = 300_000;
    let two = Two::new().await;
    let upload = two.one.upload("key").await;
    let first = two.other.part(&upload, 1, vec![1; LEN]).await;
    let (body, Gate { reached, open: release }) = stalling(2, LEN, 200_000);
    let (one, named) = (two.one.clone(), upload.clone());
    let late = tokio::spawn(async move { one.upload_part(&named, PartNumber::new(2).unwrap(), body).await });
    reached.await.unwrap();
    two.one.put("key", "in the way").await;
    let mut request = two.other.complete_request(&upload, vec![first.clone()]);
    request.condition.if_none_match = true;
    let refused = two.other.complete_multipart_upload(request).await;
    assert!(matches!(refused, Err(BackendError::PreconditionFailed)));
    release.send(()).unwrap();
    let second = completed(&late.await.unwrap().unwrap());
    two.other.complete(&upload, vec![first, second]).await.unwrap();
    assert_eq!(two.one.get("key").await.unwrap(), [vec![1; LEN], vec![2; LEN]].concat());
}

#[tokio::test]
async fn an_upload_that_a_part_is_coming_to_elsewhere_is_not_abandoned() {
    let root = tempfile::tempdir().unwrap();
    let one = Subject::new(Arc::new(open_shared(root.path()))).await;
    let at_once = FsOptions {
        abandoned_upload_age: Some(std::time::Duration::ZERO),
        ..shared(root.path())
    };
    let sweeper = FsBackend::open(at_once).unwrap();
    let upload = one.upload("key").await;
    let (body, Gate { reached, open: release }) = stalling(1, 300_000, 200_000);
    let (writer, named) = (one.clone(), upload.clone());
    let part = tokio::spawn(async move { writer.upload_part(&named, PartNumber::new(1).unwrap(), body).await });
    reached.await.unwrap();
    assert_eq!(sweeper.sweep_uploads().await.unwrap(), 0);
    release.send(()).unwrap();
    part.await.unwrap().unwrap();
    assert_eq!(sweeper.sweep_uploads().await.unwrap(), 1);
    assert!(matches!(
        one.head_multipart_upload(&upload).await,
        Err(BackendError::NoSuchUpload)
    ));
}
