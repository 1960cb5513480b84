//! Versions (S3 User Guide, "How S3 Versioning works"): every write is kept; by name the newest is there, by id each.
//!
//! For backends with [`Capabilities::versioning`](crate::Capabilities::versioning). One without fails every case.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{
    Subject,
    conditional::conditional,
    keys::hostile,
    objects::attributes,
    race::{DirectClient, RaceOptions, race},
    subject::{if_absent, if_match, if_present, noise, read_whole, try_read_whole},
};
use crate::{
    BackendError, BucketSetting, CopyObject, DeleteObjectOutcome, ListObjectVersions, ObjectBody, ObjectInfo,
    OpenObject, PutObject, VersionEntry, VersionId, VersioningStatus, WriteCondition,
};

pub(super) const ENABLED: VersioningStatus = VersioningStatus::Enabled;
pub(super) const SUSPENDED: VersioningStatus = VersioningStatus::Suspended;

/// What a listing says of one version, in short: its key, whether it is `null`, its size (`None` for a delete marker),
/// whether it is the latest.
pub(super) type Line = (String, bool, Option<u64>, bool);

pub(super) fn line(entry: &VersionEntry) -> Line {
    let null = entry.version_id().is_some_and(VersionId::is_null);
    let (size, is_latest) = match entry {
        VersionEntry::Object { info, is_latest } => (Some(info.size), *is_latest),
        VersionEntry::DeleteMarker(marker) => (None, marker.is_latest),
        VersionEntry::CommonPrefix(_) => (None, false),
    };
    (entry.name().to_owned(), null, size, is_latest)
}

/// Versions of one key, given as sizes, the newest first; `None` for a marker. None of them is `null`.
fn own(key: &str, sizes: &[Option<u64>]) -> Vec<Line> {
    let lines = sizes.iter().enumerate();
    lines
        .map(|(at, size)| (key.to_owned(), false, *size, at == 0))
        .collect()
}

impl Subject {
    /// The same backend, with a new bucket.
    pub(super) async fn versioned(&self, status: VersioningStatus) -> Self {
        assert!(
            self.capabilities(Some(&self.bucket)).versioning,
            "this backend keeps no versions"
        );
        Self::with_versioning(self.backend.clone(), Some(status)).await
    }

    /// Every bucket has versioning, and keeps it.
    pub(super) fn is_always_versioned(&self) -> bool {
        self.capabilities(Some(&self.bucket)).always_versioned
    }

    pub(super) async fn set_versioning(&self, status: VersioningStatus) {
        let setting = BucketSetting::Versioning(status);
        self.put_bucket_setting(&self.bucket, setting).await.unwrap();
    }

    pub(super) fn all_versions(&self) -> ListObjectVersions {
        ListObjectVersions {
            bucket: self.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            key_marker: None,
            version_id_marker: None,
            max_keys: 10_000,
        }
    }

    pub(super) async fn entries(&self) -> Vec<VersionEntry> {
        let page = self.list_object_versions(self.all_versions()).await.unwrap();
        assert!(!page.is_truncated);
        page.entries
    }

    pub(super) async fn lines(&self) -> Vec<Line> {
        self.entries().await.iter().map(line).collect()
    }

    async fn open_version(&self, key: &str, id: &VersionId) -> Result<OpenObject, BackendError> {
        let mut object = self.object(key);
        object.version_id = Some(id.clone());
        self.open_object(&object).await
    }

    async fn get_version(&self, key: &str, id: &VersionId) -> Bytes {
        let open = self.open_version(key, id).await.unwrap();
        assert_eq!(open.info.version_id.as_ref(), Some(id));
        read_whole(open).await
    }

    pub(super) async fn delete_version(&self, key: &str, id: &VersionId) -> DeleteObjectOutcome {
        let condition = WriteCondition::default();
        self.delete_version_if(condition, key, id).await.unwrap()
    }

    async fn delete_version_if(
        &self,
        condition: WriteCondition,
        key: &str,
        id: &VersionId,
    ) -> Result<DeleteObjectOutcome, BackendError> {
        let mut request = self.delete_request(key);
        request.object.version_id = Some(id.clone());
        request.condition = condition;
        self.delete_object(request).await
    }

    async fn delete_careful(&self, key: &str) -> Result<DeleteObjectOutcome, BackendError> {
        self.delete_if(keep_all(), key).await
    }
}

/// For a backend with [`Capabilities::always_versioned`](crate::Capabilities::always_versioned).
pub(super) async fn assert_no_suspension(s: &Subject) {
    let suspended = BucketSetting::Versioning(SUSPENDED);
    assert_refused!(
        s.put_bucket_setting(&s.bucket, suspended).await,
        BackendError::NotSupported { .. }
    );
    let bucket = s.head_bucket(&s.bucket).await.unwrap();
    assert_eq!(bucket.versioning, Some(ENABLED), "it is as it was");
}

fn keep_all() -> WriteCondition {
    WriteCondition {
        keep_all: true,
        ..WriteCondition::default()
    }
}

fn id(info: &ObjectInfo) -> VersionId {
    info.version_id.clone().expect("a bucket with versioning gives ids")
}

fn copy_of(s: &Subject, source: &ObjectInfo, key: &str) -> CopyObject {
    let mut object = s.object(source.key.as_str());
    object.version_id = source.version_id.clone();
    CopyObject {
        source: object,
        source_etag: source.etag.clone(),
        bucket: s.bucket.clone(),
        key: s.key(key),
        attributes: source.attributes.clone(),
        condition: WriteCondition::default(),
        versions: None,
    }
}

pub async fn a_bucket_says_whether_it_keeps_versions(s: Subject) {
    let status = async |s: &Subject| s.head_bucket(&s.bucket).await.unwrap().versioning;
    assert_eq!(status(&s.versioned(ENABLED).await).await, Some(ENABLED));
    let never = Subject::with_versioning(s.backend.clone(), None).await;
    if s.is_always_versioned() {
        assert_eq!(status(&never).await, Some(ENABLED));
        never.set_versioning(ENABLED).await;
        assert_no_suspension(&never).await;
        return;
    }
    assert_eq!(status(&never).await, None);
    for next in [ENABLED, SUSPENDED, SUSPENDED, ENABLED] {
        let before = never.head_bucket(&never.bucket).await.unwrap();
        never.set_versioning(next).await;
        let after = never.head_bucket(&never.bucket).await.unwrap();
        assert_eq!(after.versioning, Some(next));
        assert_eq!(
            (after.acl, after.created, &after.owner),
            (before.acl, before.created, &before.owner)
        );
        let listed = never
            .list_buckets(&never.owner, never.bucket.as_str(), None, 1)
            .await
            .unwrap();
        assert_eq!(listed, [after]);
    }
}

pub async fn without_versioning_each_object_is_its_version_null(s: Subject) {
    let s = Subject::with_versioning(s.backend.clone(), None).await;
    if s.is_always_versioned() {
        // There is no bucket without: an object has an id from its first write on.
        let put = s.put("b", "one").await;
        assert!(!id(&put).is_null());
        assert_eq!(s.lines().await, own("b", &[Some(3)]));
        return;
    }
    let put = s.put("b", "one").await;
    s.put("a", "three").await;
    assert_eq!(put.version_id, None);
    assert_eq!(
        s.lines().await,
        [("a".into(), true, Some(5), true), ("b".into(), true, Some(3), true)]
    );
    assert_eq!(
        read_whole(s.open_version("b", &VersionId::null()).await.unwrap()).await,
        "one"
    );
    let outcome = s.delete("b").await;
    assert_eq!(
        outcome,
        DeleteObjectOutcome {
            existed: true,
            ..DeleteObjectOutcome::default()
        }
    );
    assert_eq!(s.lines().await, [("a".into(), true, Some(5), true)]);
}

pub async fn every_write_is_a_version(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let mut written = Vec::new();
    for n in 1..=5_u8 {
        let bytes = noise(usize::from(n) * 1000, u64::from(n));
        let info = s.put("key", bytes.clone()).await;
        assert_eq!(s.info("key").await, info);
        written.push((info, bytes));
    }
    assert_eq!(s.all_keys().await, ["key"], "by name there is one object");
    let ids: BTreeSet<_> = written.iter().map(|(info, _)| id(info)).collect();
    assert_eq!(ids.len(), 5);
    for (info, bytes) in &written {
        assert_eq!(s.open_version("key", &id(info)).await.unwrap().info, *info);
        assert!(s.get_version("key", &id(info)).await == *bytes);
        assert!(!id(info).is_null());
        assert!(
            id(info)
                .as_str()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        );
    }
    let listed: Vec<_> = s.entries().await;
    assert_eq!(listed.len(), 5);
    for (at, (entry, (info, _))) in listed.iter().zip(written.iter().rev()).enumerate() {
        let VersionEntry::Object {
            info: listed,
            is_latest,
        } = entry
        else {
            panic!("{entry:?}")
        };
        assert_eq!(
            (&listed.key, &listed.version_id, listed.size),
            (&info.key, &info.version_id, info.size)
        );
        assert_eq!((&listed.etag, listed.last_modified), (&info.etag, info.last_modified));
        assert_eq!(*is_latest, at == 0);
    }
}

pub async fn equal_bytes_are_two_versions(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let first = s.put("key", "same").await;
    let second = s.put("key", "same").await;
    assert_eq!(first.etag, second.etag);
    assert_ne!(first.version_id, second.version_id);
    s.delete_version("key", &id(&first)).await;
    assert_eq!(s.info("key").await, second);
    assert_eq!(s.lines().await, own("key", &[Some(4)]));
}

pub async fn a_kept_version_is_all_that_it_was(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = PutObject {
        attributes: attributes(),
        ..s.put_request("key")
    };
    let put = s.put_object(put, ObjectBody::from_bytes("some bytes")).await.unwrap();
    let upload = s.upload("key").await;
    let parts = vec![
        s.part(&upload, 1, noise(5000, 1)).await,
        s.part(&upload, 3, noise(7, 2)).await,
    ];
    let completed = s.complete(&upload, parts).await.unwrap();
    s.put("key", "the newest").await;
    for info in [&put, &completed] {
        let open = s.open_version("key", &id(info)).await.unwrap();
        assert_eq!(open.info, *info);
        let parts = open.reader.parts(0, 10).await.unwrap();
        assert_eq!(parts.len(), usize::from(info.parts_count.unwrap_or(0)));
    }
    assert_eq!(put.attributes.user_metadata, attributes().user_metadata);
    assert_eq!(s.get_version("key", &id(&completed)).await.len(), 5007);
}

pub async fn copies_and_completes_are_versions_too(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    let two = s.put("key", "22").await;
    let upload = s.upload("key").await;
    let parts = vec![s.part(&upload, 1, "333").await];
    let three = s.complete(&upload, parts.clone()).await.unwrap();
    assert_eq!(
        s.complete(&upload, parts).await.unwrap(),
        three,
        "repeated, it is the same version"
    );
    let mut expected = vec![Some(3), Some(2), Some(1)];
    if s.copies_between(&s.bucket, &s.bucket) {
        // An old version comes back as the newest, of its own key or of another.
        let back = s.copy_object(copy_of(&s, &one, "key")).await.unwrap();
        assert!(![&one, &two, &three].map(id).contains(&id(&back)));
        assert_eq!((&back.etag, back.size), (&one.etag, 1));
        assert_eq!(s.get("key").await.unwrap(), "1");
        let other = s.copy_object(copy_of(&s, &two, "other")).await.unwrap();
        assert_eq!(s.info("other").await, other);
        s.delete_version("other", &id(&other)).await;
        expected.insert(0, Some(1));
        let mut gone = copy_of(&s, &two, "other");
        gone.source.version_id = Some(id(&other));
        assert_refused!(s.copy_object(gone).await, BackendError::NoSuchVersion);
    }
    assert_eq!(s.lines().await, own("key", &expected));
    assert_eq!(s.get_version("key", &id(&three)).await, "333");
}

pub async fn what_was_there_before_is_the_version_null(s: Subject) {
    let s = Subject::with_versioning(s.backend.clone(), None).await;
    if s.is_always_versioned() {
        // What was there before the store kept versions, no client of the backend can have made.
        assert_refused!(
            s.open_version("key", &VersionId::null()).await,
            BackendError::NoSuchVersion
        );
        return;
    }
    let before = s.put("key", "before").await;
    s.set_versioning(ENABLED).await;
    assert_eq!(s.info("key").await.version_id, Some(VersionId::null()));
    assert_eq!(s.get_version("key", &VersionId::null()).await, "before");
    let after = s.put("key", "later").await;
    assert_eq!(
        s.lines().await,
        [
            ("key".into(), false, Some(5), true),
            ("key".into(), true, Some(6), false)
        ]
    );
    let open = s.open_version("key", &VersionId::null()).await.unwrap();
    assert_eq!(
        (open.info.etag, open.info.last_modified),
        (before.etag, before.last_modified)
    );
    s.delete_version("key", &id(&after)).await;
    assert_eq!(s.get("key").await.unwrap(), "before");
    assert_eq!(s.info("key").await.version_id, Some(VersionId::null()));
    s.delete_version("key", &VersionId::null()).await;
    assert!(s.lines().await.is_empty());
}

pub async fn a_delete_by_name_adds_a_marker(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = s.put("key", "bytes").await;
    let outcome = s.delete("key").await;
    assert!(outcome.existed && outcome.delete_marker);
    let marker = outcome.version_id.unwrap();
    assert!(s.get("key").await.is_none() && s.all_keys().await.is_empty());
    assert_eq!(s.lines().await, own("key", &[None, Some(5)]));
    for named in [None, Some(&marker)] {
        let opened = match named {
            None => s.open("key").await,
            Some(id) => s.open_version("key", id).await,
        };
        match opened {
            Err(BackendError::DeleteMarker { version_id, .. }) => assert_eq!(version_id, marker),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(s.get_version("key", &id(&put)).await, "bytes");
    // Gone once more: only who asks for it adds another marker.
    assert_eq!(s.delete("key").await, DeleteObjectOutcome::default());
    assert_eq!(s.delete("never there").await, DeleteObjectOutcome::default());
    let mut marked = Vec::new();
    for key in ["key", "never there"] {
        let mut request = s.delete_request(key);
        request.mark_missing = true;
        let outcome = s.delete_object(request).await.unwrap();
        assert!(!outcome.existed);
        assert_eq!(outcome.delete_marker, outcome.version_id.is_some());
        // A store that keeps versions by itself may make none where nothing is.
        assert!(outcome.delete_marker || s.is_always_versioned());
        marked.push(outcome.delete_marker);
    }
    let mut of_key = vec![None, Some(5)];
    of_key.splice(..0, marked[0].then_some(None));
    let of_other = marked[1].then_some(None);
    let all = |of_key: &[Option<u64>]| [own("key", of_key), own("never there", of_other.as_slice())].concat();
    assert_eq!(s.lines().await, all(&of_key));
    // A new object lies on top.
    s.put("key", "anew").await;
    assert_eq!(s.get("key").await.unwrap(), "anew");
    of_key.insert(0, Some(4));
    assert_eq!(s.lines().await, all(&of_key));
}

pub async fn deleting_the_marker_brings_the_object_back(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = s.put("dir/key", "bytes").await;
    let marker = s.delete("dir/key").await.version_id.unwrap();
    let outcome = s.delete_version("dir/key", &marker).await;
    assert_eq!(
        outcome,
        DeleteObjectOutcome {
            existed: true,
            version_id: Some(marker.clone()),
            delete_marker: true
        }
    );
    assert_eq!(s.info("dir/key").await, put);
    assert_eq!(s.get("dir/key").await.unwrap(), "bytes");
    assert_eq!(s.all_keys().await, ["dir/key"]);
    assert_eq!(s.lines().await, own("dir/key", &[Some(5)]));
    assert_refused!(s.open_version("dir/key", &marker).await, BackendError::NoSuchVersion);
}

pub async fn deleting_the_current_version_makes_the_next_one_current(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    let marker = s.delete("key").await.version_id.unwrap();
    let two = s.put("key", "22").await;
    let three = s.put("key", "333").await;
    let outcome = s.delete_version("key", &id(&three)).await;
    assert!(outcome.existed && !outcome.delete_marker);
    assert_eq!(outcome.version_id, three.version_id);
    assert_eq!(s.info("key").await, two);
    assert_eq!(s.lines().await, own("key", &[Some(2), None, Some(1)]));
    // Under it lies a marker: then nothing is current.
    s.delete_version("key", &id(&two)).await;
    assert!(s.get("key").await.is_none() && s.all_keys().await.is_empty());
    assert_eq!(s.lines().await, own("key", &[None, Some(1)]));
    s.delete_version("key", &marker).await;
    assert_eq!(s.info("key").await, one);
    s.delete_version("key", &id(&one)).await;
    assert_refused!(s.open("key").await, BackendError::NoSuchKey);
    assert!(s.lines().await.is_empty());
}

pub async fn deleting_an_older_version_changes_nothing_else(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    let two = s.put("key", "22").await;
    let marker = s.delete("key").await.version_id.unwrap();
    let three = s.put("key", "333").await;
    s.delete_version("key", &id(&two)).await;
    assert_eq!(s.lines().await, own("key", &[Some(3), None, Some(1)]));
    s.delete_version("key", &marker).await;
    assert_eq!(s.info("key").await, three);
    assert_eq!(s.lines().await, own("key", &[Some(3), Some(1)]));
    assert_eq!(s.get_version("key", &id(&one)).await, "1");
    for gone in [&id(&two), &marker] {
        assert_refused!(s.open_version("key", gone).await, BackendError::NoSuchVersion);
        assert_eq!(s.delete_version("key", gone).await, DeleteObjectOutcome::default());
    }
}

pub async fn a_version_is_of_its_key_and_bucket(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let other = s.versioned(ENABLED).await;
    let mine = s.put("key", "mine").await;
    s.put("key", "newer").await;
    let unknown = VersionId::parse("0123456789abcdef0123456789abcdef").unwrap();
    let foreign = VersionId::parse("3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY_MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo").unwrap();
    s.put("other", "x").await;
    other.put("key", "x").await;
    for (subject, key, id) in [
        (&s, "other", &id(&mine)),
        (&other, "key", &id(&mine)),
        (&s, "never there", &id(&mine)),
        (&s, "key", &unknown),
        (&s, "key", &foreign),
        (&s, "key", &VersionId::null()),
    ] {
        assert_refused!(subject.open_version(key, id).await, BackendError::NoSuchVersion);
        assert_eq!(subject.delete_version(key, id).await, DeleteObjectOutcome::default());
    }
    assert_eq!(s.lines().await.len(), 3);
}

pub async fn suspended_writes_replace_the_version_null(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let one = s.put("key", "1").await;
    if s.is_always_versioned() {
        assert_no_suspension(&s).await;
        s.put("key", "22").await;
        assert_eq!(s.get_version("key", &id(&one)).await, "1");
        return;
    }
    s.set_versioning(SUSPENDED).await;
    let null = |size, latest| ("key".to_owned(), true, size, latest);
    let own = |size, latest| ("key".to_owned(), false, size, latest);
    let put = s.put("key", "22").await;
    assert_eq!(put.version_id, Some(VersionId::null()));
    assert_eq!(s.lines().await, [null(Some(2), true), own(Some(1), false)]);
    s.put("key", "333").await;
    assert_eq!(s.lines().await, [null(Some(3), true), own(Some(1), false)]);
    assert_eq!(s.get_version("key", &VersionId::null()).await, "333");
    // A marker is the version null as well.
    let outcome = s.delete("key").await;
    assert_eq!(
        (outcome.delete_marker, outcome.version_id),
        (true, Some(VersionId::null()))
    );
    assert_eq!(s.lines().await, [null(None, true), own(Some(1), false)]);
    assert_refused!(
        s.open_version("key", &VersionId::null()).await,
        BackendError::DeleteMarker { .. }
    );
    s.put("key", "4444").await;
    assert_eq!(s.lines().await, [null(Some(4), true), own(Some(1), false)]);
    // Enabled again, it is kept, wherever it lies: there is one at most.
    s.set_versioning(ENABLED).await;
    s.put("key", "55555").await;
    s.put("key", "666666").await;
    assert_eq!(
        s.lines().await,
        [
            own(Some(6), true),
            own(Some(5), false),
            null(Some(4), false),
            own(Some(1), false)
        ]
    );
    s.set_versioning(SUSPENDED).await;
    s.put("key", "7777777").await;
    assert_eq!(
        s.lines().await,
        [
            null(Some(7), true),
            own(Some(6), false),
            own(Some(5), false),
            own(Some(1), false)
        ]
    );
    s.delete_version("key", &VersionId::null()).await;
    assert_eq!(s.get("key").await.unwrap(), "666666");
    assert_eq!(s.get_version("key", &id(&one)).await, "1");
}

pub async fn conditions_take_a_marker_for_nothing(s: Subject) {
    let s = s.versioned(ENABLED).await;
    if !conditional(&s).await {
        return;
    }
    let one = s.put("key", "1").await;
    assert_refused!(
        s.put_if(if_absent(), "key", "x").await,
        BackendError::PreconditionFailed
    );
    s.delete("key").await;
    assert_refused!(s.put_if(if_present(), "key", "x").await, BackendError::NoSuchKey);
    assert_refused!(
        s.put_if(if_match(&[&one.etag]), "key", "x").await,
        BackendError::NoSuchKey
    );
    assert_refused!(s.delete_if(if_present(), "key").await, BackendError::NoSuchKey);
    let two = s.put_if(if_absent(), "key", "22").await.unwrap();
    assert_refused!(
        s.put_if(if_match(&[&one.etag]), "key", "x").await,
        BackendError::PreconditionFailed
    );
    s.put_if(if_match(&[&two.etag]), "key", "333").await.unwrap();
    assert_refused!(
        s.delete_if(if_match(&[&two.etag]), "key").await,
        BackendError::PreconditionFailed
    );
    // By id, against that version.
    let refused = s.delete_version_if(if_match(&[&one.etag]), "key", &id(&two)).await;
    assert_refused!(refused, BackendError::PreconditionFailed);
    s.delete_version_if(if_match(&[&two.etag]), "key", &id(&two))
        .await
        .unwrap();
    assert_eq!(s.lines().await, own("key", &[Some(3), None, Some(1)]));
}

pub async fn who_may_not_destroy_can_do_what_is_kept(s: Subject) {
    let careful = |key: &'static str, s: &Subject| {
        let s = s.clone();
        async move { s.put_if(keep_all(), key, "careful").await }
    };
    let enabled = s.versioned(ENABLED).await;
    if !conditional(&enabled).await {
        return;
    }
    careful("key", &enabled).await.unwrap();
    let newest = careful("key", &enabled).await.unwrap();
    let refused = enabled.delete_version_if(keep_all(), "key", &id(&newest)).await;
    assert_refused!(refused, BackendError::WouldDestroy);
    let marker = enabled.delete_careful("key").await.unwrap().version_id.unwrap();
    let refused = enabled.delete_version_if(keep_all(), "key", &marker).await;
    assert_refused!(refused, BackendError::WouldDestroy);
    assert_eq!(enabled.lines().await, own("key", &[None, Some(7), Some(7)]));
    if s.is_always_versioned() {
        return assert_no_suspension(&enabled).await;
    }
    // The null version would be lost, wherever it lies.
    enabled.set_versioning(SUSPENDED).await;
    careful("key", &enabled).await.unwrap();
    assert_refused!(careful("key", &enabled).await, BackendError::WouldDestroy);
    assert_refused!(enabled.delete_careful("key").await, BackendError::WouldDestroy);
    enabled.set_versioning(ENABLED).await;
    careful("key", &enabled).await.unwrap();
    enabled.set_versioning(SUSPENDED).await;
    assert_refused!(careful("key", &enabled).await, BackendError::WouldDestroy);
    assert_eq!(enabled.lines().await.len(), 5);
    // Without versioning it can create, and nothing else.
    let never = Subject::with_versioning(s.backend.clone(), None).await;
    careful("key", &never).await.unwrap();
    assert_refused!(careful("key", &never).await, BackendError::WouldDestroy);
    assert_refused!(never.delete_careful("key").await, BackendError::WouldDestroy);
    assert_eq!(
        never.delete_careful("absent").await.unwrap(),
        DeleteObjectOutcome::default()
    );
    assert_eq!(never.get("key").await.unwrap(), "careful");
}

pub async fn an_open_version_stays_readable(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let bytes = noise(300_000, 9);
    let first = s.put("key", bytes.clone()).await;
    let by_name = s.open("key").await.unwrap();
    s.put("key", "x").await;
    let by_id = s.open_version("key", &id(&first)).await.unwrap();
    s.delete_version("key", &id(&first)).await;
    s.delete("key").await;
    for open in [by_name, by_id] {
        match try_read_whole(open).await {
            Ok(read) => assert!(read == bytes),
            Err(BackendError::Conflict) if !s.capabilities(Some(&s.bucket)).stable_reads => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub async fn a_bucket_goes_only_without_any_version(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let put = s.put("dir/key", "x").await;
    let marker = s.delete("dir/key").await.version_id.unwrap();
    assert_refused!(s.delete_bucket(&s.bucket).await, BackendError::BucketNotEmpty);
    s.delete_version("dir/key", &id(&put)).await;
    assert_refused!(s.delete_bucket(&s.bucket).await, BackendError::BucketNotEmpty);
    s.delete_version("dir/key", &marker).await;
    s.delete_bucket(&s.bucket).await.unwrap();
    let anew = Subject::of(s.backend.clone(), s.bucket.clone()).await;
    assert!(anew.lines().await.is_empty());
    let versioning = s.is_always_versioned().then_some(ENABLED);
    assert_eq!(anew.head_bucket(&anew.bucket).await.unwrap().versioning, versioning);
}

pub async fn hostile_keys_have_versions(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let keys = hostile();
    let mut firsts = Vec::new();
    for key in &keys {
        let put = s.put_body(key, ObjectBody::from_bytes(format!("first of {key}"))).await;
        match put {
            Ok(info) => firsts.push((key, info)),
            Err(BackendError::UnsupportedKey(_)) => {}
            Err(other) => panic!("{key:?}: {other:?}"),
        }
    }
    for (key, _) in &firsts {
        s.put(key, format!("second of {key}")).await;
    }
    for (key, first) in &firsts {
        assert_eq!(s.get_version(key, &id(first)).await, format!("first of {key}"));
        assert_eq!(s.get(key).await.unwrap(), format!("second of {key}"));
    }
    for (key, _) in firsts.iter().skip(1).step_by(2) {
        s.delete(key).await;
    }
    let entries = s.entries().await;
    let names: Vec<_> = entries.iter().map(VersionEntry::name).collect();
    assert!(names.is_sorted());
    assert_eq!(names.len(), firsts.len() * 2 + firsts.len() / 2);
    // Back to the first of each.
    for entry in &entries {
        let id = entry.version_id().unwrap();
        if !firsts.iter().any(|(_, first)| first.version_id.as_ref() == Some(id)) {
            s.delete_version(entry.name(), id).await;
        }
    }
    for (key, first) in &firsts {
        assert_eq!(s.info(key).await, *first, "{key:?}");
        s.delete_version(key, &id(first)).await;
    }
    s.delete_bucket(&s.bucket).await.unwrap();
}

pub async fn a_key_and_those_below_it_have_versions(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let a = s.put("a", "a").await;
    s.delete("a").await;
    s.put("a/b", "a/b").await;
    let marker = s.entries().await[0].version_id().unwrap().clone();
    s.delete_version("a", &marker).await;
    assert_eq!(s.info("a").await, a);
    assert_eq!(s.get("a/b").await.unwrap(), "a/b");
    let deleted = s.delete("a/b").await.version_id.unwrap();
    s.put("a", "a again").await;
    s.delete_version("a/b", &deleted).await;
    assert_eq!(s.get("a/b").await.unwrap(), "a/b");
    assert_eq!(s.get("a").await.unwrap(), "a again");
    assert_eq!(s.all_keys().await, ["a", "a/b"]);
    let mut expected = own("a", &[Some(7), Some(1)]);
    expected.extend(own("a/b", &[Some(3)]));
    assert_eq!(s.lines().await, expected);
}

pub async fn racing_writes_are_all_kept(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let tasks: Vec<_> = (0..16_usize)
        .map(|n| {
            let s = s.clone();
            tokio::spawn(async move {
                let bytes = noise(1000 + n % 3, 5);
                (s.put("key", bytes.clone()).await, bytes)
            })
        })
        .collect();
    let mut written = Vec::new();
    for task in tasks {
        written.push(task.await.unwrap());
    }
    let entries = s.entries().await;
    assert_eq!(entries.len(), 16);
    assert_eq!(entries.iter().filter(|entry| line(entry).3).count(), 1);
    for (info, bytes) in &written {
        assert!(s.get_version("key", &id(info)).await == *bytes);
    }
    assert_eq!(Some(&id(&s.info("key").await)), entries[0].version_id());
}

pub async fn racing_deletes_by_name_and_by_id_lose_nothing(s: Subject) {
    let s = s.versioned(ENABLED).await;
    for round in 0..8 {
        let doomed = s.put("dir/key", "doomed").await;
        let kept = s.put("dir/key", format!("kept {round}")).await;
        let writer = {
            let s = s.clone();
            tokio::spawn(async move { s.put("dir/key", "written").await })
        };
        let by_name = {
            let s = s.clone();
            tokio::spawn(async move { s.delete("dir/key").await })
        };
        let by_id: Vec<_> = (0..3)
            .map(|_| {
                let (s, doomed) = (s.clone(), id(&doomed));
                tokio::spawn(async move { s.delete_version("dir/key", &doomed).await })
            })
            .collect();
        let written = writer.await.unwrap();
        let marker = by_name.await.unwrap().version_id.unwrap();
        let mut found = 0;
        for task in by_id {
            found += usize::from(task.await.unwrap().existed);
        }
        assert_eq!(found, 1);
        let entries = s.entries().await;
        let ids: BTreeSet<_> = entries.iter().filter_map(VersionEntry::version_id).cloned().collect();
        assert_eq!(ids.len(), entries.len(), "none is listed twice");
        assert_eq!(entries.len(), 3 * (round + 1));
        for there in [&id(&written), &id(&kept), &marker] {
            assert!(ids.contains(there));
        }
        assert!(!ids.contains(&id(&doomed)));
        let latest: Vec<_> = entries.iter().filter(|entry| line(entry).3).collect();
        assert_eq!(latest.len(), 1);
        match (s.open("dir/key").await, latest[0]) {
            (Ok(open), VersionEntry::Object { info, .. }) => assert_eq!(open.info.version_id, info.version_id),
            (Err(BackendError::DeleteMarker { version_id, .. }), VersionEntry::DeleteMarker(marker)) => {
                assert_eq!(version_id, marker.version_id);
            }
            (open, latest) => panic!("{open:?} is not {latest:?}"),
        }
    }
}

pub async fn of_racing_deletions_of_the_newest_each_finds_the_next(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let mut written = Vec::new();
    for n in 0..12 {
        written.push(s.put("key", format!("{n}")).await);
    }
    let tasks: Vec<_> = written[2..]
        .iter()
        .map(|info| {
            let (s, id) = (s.clone(), id(info));
            tokio::spawn(async move { s.delete_version("key", &id).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().existed);
    }
    assert_eq!(s.info("key").await, written[1]);
    assert_eq!(s.lines().await, own("key", &[Some(1), Some(1)]));
}

pub async fn what_racing_clients_see_can_have_happened(s: Subject) {
    let s = s.versioned(ENABLED).await;
    for seed in 1..=2 {
        let options = RaceOptions {
            clients: 8,
            keys: 4,
            operations: 60,
            seed,
        };
        race(vec![Arc::new(DirectClient(s.clone()))], &options).await;
        for entry in s.entries().await {
            s.delete_version(entry.name(), entry.version_id().unwrap()).await;
        }
    }
}
