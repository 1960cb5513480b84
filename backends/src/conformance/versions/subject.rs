//! What the cases of versions do to a bucket, and how they say what it holds.

use bytes::Bytes;

use crate::{
    BackendError, BucketSetting, CopyObject, DeleteObjectOutcome, ListObjectVersions, ObjectInfo, OpenObject,
    VersionEntry, VersionId, VersioningStatus, WriteCondition,
    conformance::{Subject, subject::read_whole},
};

pub(in crate::conformance) const ENABLED: VersioningStatus = VersioningStatus::Enabled;
pub(in crate::conformance) const SUSPENDED: VersioningStatus = VersioningStatus::Suspended;

/// What a listing says of one version, in short: its key, whether it is `null`, its size (`None` for a delete marker),
/// whether it is the latest.
pub(in crate::conformance) type Line = (String, bool, Option<u64>, bool);

pub(in crate::conformance) fn line(entry: &VersionEntry) -> Line {
    let null = entry.version_id().is_some_and(VersionId::is_null);
    let (size, is_latest) = match entry {
        VersionEntry::Object { info, is_latest } => (Some(info.size), *is_latest),
        VersionEntry::DeleteMarker(marker) => (None, marker.is_latest),
        VersionEntry::CommonPrefix(_) => (None, false),
    };
    (entry.name().to_owned(), null, size, is_latest)
}

/// Versions of one key, given as sizes, the newest first; `None` for a marker. None of them is `null`.
pub(super) fn own(key: &str, sizes: &[Option<u64>]) -> Vec<Line> {
    let lines = sizes.iter().enumerate();
    lines
        .map(|(at, size)| (key.to_owned(), false, *size, at == 0))
        .collect()
}

impl Subject {
    /// The same backend, with a new bucket.
    pub(in crate::conformance) async fn versioned(&self, status: VersioningStatus) -> Self {
        assert!(
            self.capabilities(Some(&self.bucket)).versioning,
            "this backend keeps no versions"
        );
        Self::with_versioning(self.backend.clone(), Some(status)).await
    }

    /// Every bucket has versioning, and keeps it.
    pub(in crate::conformance) fn is_always_versioned(&self) -> bool {
        self.capabilities(Some(&self.bucket)).always_versioned
    }

    pub(in crate::conformance) async fn set_versioning(&self, status: VersioningStatus) {
        let setting = BucketSetting::Versioning(status);
        self.put_bucket_setting(&self.bucket, setting).await.unwrap();
    }

    pub(in crate::conformance) fn all_versions(&self) -> ListObjectVersions {
        ListObjectVersions {
            bucket: self.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            key_marker: None,
            version_id_marker: None,
            max_keys: 10_000,
        }
    }

    pub(in crate::conformance) async fn entries(&self) -> Vec<VersionEntry> {
        let page = self.list_object_versions(self.all_versions()).await.unwrap();
        assert!(!page.is_truncated);
        page.entries
    }

    pub(in crate::conformance) async fn lines(&self) -> Vec<Line> {
        self.entries().await.iter().map(line).collect()
    }

    pub(super) async fn open_version(&self, key: &str, id: &VersionId) -> Result<OpenObject, BackendError> {
        let mut object = self.object(key);
        object.version_id = Some(id.clone());
        self.open_object(&object).await
    }

    pub(super) async fn get_version(&self, key: &str, id: &VersionId) -> Bytes {
        let open = self.open_version(key, id).await.unwrap();
        assert_eq!(open.info.version_id.as_ref(), Some(id));
        read_whole(open).await
    }

    pub(in crate::conformance) async fn delete_version(&self, key: &str, id: &VersionId) -> DeleteObjectOutcome {
        let condition = WriteCondition::default();
        self.delete_version_if(condition, key, id).await.unwrap()
    }

    pub(super) async fn delete_version_if(
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

    pub(super) async fn delete_careful(&self, key: &str) -> Result<DeleteObjectOutcome, BackendError> {
        self.delete_if(keep_all(), key).await
    }
}

/// For a backend with [`Capabilities::always_versioned`](crate::Capabilities::always_versioned).
pub(in crate::conformance) async fn assert_no_suspension(s: &Subject) {
    let suspended = BucketSetting::Versioning(SUSPENDED);
    assert_refused!(
        s.put_bucket_setting(&s.bucket, suspended).await,
        BackendError::NotSupported { .. }
    );
    let bucket = s.head_bucket(&s.bucket).await.unwrap();
    assert_eq!(bucket.versioning, Some(ENABLED), "it is as it was");
}

pub(super) fn keep_all() -> WriteCondition {
    WriteCondition {
        keep_all: true,
        ..WriteCondition::default()
    }
}

pub(super) fn id(info: &ObjectInfo) -> VersionId {
    info.version_id.clone().expect("a bucket with versioning gives ids")
}

pub(super) fn copy_of(s: &Subject, source: &ObjectInfo, key: &str) -> CopyObject {
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
