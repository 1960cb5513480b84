//! Trees whose backend has versions.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use t2gate_backends::{
    BackendError, BucketName, BucketSetting, Clock, DeleteObjectOutcome, FsBackend, ObjectInfo, OpenObject,
    SystemClock, VersionId, Versioned, VersioningStatus, conformance::Subject,
};
use tempfile::TempDir;

use crate::{again, open_at, ops::list};

/// A backend with versions and a bucket, and the directory that it lies in. It does not sync, so that tests are quick.
pub(crate) struct Tree {
    pub(crate) subject: Subject,
    pub(crate) root: TempDir,
}

impl std::ops::Deref for Tree {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}

pub(crate) fn open(root: &Path, clock: Arc<dyn Clock>) -> Arc<Versioned<FsBackend>> {
    let fs = again(|| open_at(root));
    Arc::new(Versioned::new(fs, clock).unwrap())
}

impl Tree {
    pub(crate) async fn with(root: TempDir, versioning: Option<VersioningStatus>, clock: Arc<dyn Clock>) -> Self {
        let subject = Subject::with_versioning(open(root.path(), clock), versioning).await;
        Self { subject, root }
    }

    /// Of a root that has the bucket.
    pub(crate) async fn at(root: TempDir, bucket: BucketName) -> Self {
        let subject = Subject::of(open(root.path(), Arc::new(SystemClock)), bucket).await;
        Self { subject, root }
    }

    /// Closes it and opens it again.
    pub(crate) async fn again(self) -> Self {
        let Self { subject, root } = self;
        let bucket = subject.bucket.clone();
        drop(subject);
        Self::at(root, bucket).await
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.root.path().join(self.bucket.as_str()).join(key)
    }

    pub(crate) async fn set_versioning(&self, status: VersioningStatus) {
        let setting = BucketSetting::Versioning(status);
        self.put_bucket_setting(&self.bucket, setting).await.unwrap();
    }

    pub(crate) async fn open_version(&self, key: &str, id: &VersionId) -> Result<OpenObject, BackendError> {
        let mut object = self.object(key);
        object.version_id = Some(id.clone());
        self.open_object(&object).await
    }

    pub(crate) async fn delete_version(&self, key: &str, id: &VersionId) -> DeleteObjectOutcome {
        let mut request = self.delete_request(key);
        request.object.version_id = Some(id.clone());
        self.delete_object(request).await.unwrap()
    }

    /// Of all versions, in the order of a listing.
    pub(crate) async fn ids(&self) -> Vec<VersionId> {
        let listed = list(&self.subject).await.unwrap();
        listed.iter().map(|entry| entry.version_id().unwrap().clone()).collect()
    }
}

pub(crate) fn id(info: &ObjectInfo) -> VersionId {
    info.version_id.clone().unwrap()
}
