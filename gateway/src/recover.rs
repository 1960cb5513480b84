//! Bringing back what was deleted or overwritten in a bucket with versioning.
//!
//! Both ways go through a listing of versions page by page and change one key at a time, by what any S3 client could do
//! too; nothing that is kept is lost. Either can be broken off and run again.

mod copy;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use t2gate_backends::{
    Backend, BackendError, BucketName, DeleteObject, ETag, Key, ListObjectVersions, ObjectRef, Timestamp, VersionEntry,
    VersionId, VersioningStatus, WriteCondition,
};

use self::copy::copy_version;

/// Keys that are changed at the same time, so that they share what the disk takes.
const AT_ONCE: usize = 16;
/// Versions in one page of the listing.
const PAGE: usize = 1000;
/// The most delete markers on top of an object that are taken away, so that a key's memory is bounded. Such a key has to
/// be done again.
const MAX_MARKERS: usize = 10_000;

/// Which keys, and whether anything is changed.
#[derive(Debug, Clone)]
pub struct Scope {
    pub bucket: BucketName,
    /// All keys that begin so.
    pub prefix: Box<str>,
    /// Nothing is changed; what would be is told.
    pub dry_run: bool,
}

/// Why it stopped. What was told until then is done.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the storage of this bucket keeps no versions")]
    NoVersions,
    #[error("the bucket {0} has no versioning, or it is suspended: what is replaced there is lost")]
    NotEnabled(BucketName),
    #[error("{key:?}: {source}")]
    Key { key: Box<str>, source: BackendError },
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What becomes of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The delete markers on top go, newest first: the object below is current again.
    Undelete { key: Key, markers: Vec<VersionId> },
    /// That version is copied on top of the others.
    Restore { key: Key, version_id: VersionId },
    /// Not there at that time: a delete marker comes on top.
    Delete { key: Key },
}

impl Change {
    pub fn key(&self) -> &Key {
        match self {
            Self::Undelete { key, .. } | Self::Restore { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// How many keys were looked at and changed, up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub examined: u64,
    pub changed: u64,
}

/// Takes away the delete markers that are the newest versions of keys with an object below them.
pub async fn undelete(
    backend: &dyn Backend,
    scope: &Scope,
    tell: impl FnMut(Progress, Option<&Change>),
) -> Result<Progress, RecoverError> {
    let versions = backend.capabilities(Some(&scope.bucket)).versioning;
    versions.then_some(()).ok_or(RecoverError::NoVersions)?;
    run(backend, scope, tell, Undeletion::default).await
}

/// Makes the bucket what it was at `time`: objects of then are current again, as new versions, and keys that were not
/// there then get a delete marker. A version counts from its `LastModified` on.
pub async fn restore(
    backend: &dyn Backend,
    scope: &Scope,
    time: Timestamp,
    tell: impl FnMut(Progress, Option<&Change>),
) -> Result<Progress, RecoverError> {
    let versions = backend.capabilities(Some(&scope.bucket)).versioning;
    versions.then_some(()).ok_or(RecoverError::NoVersions)?;
    let bucket = backend.head_bucket(&scope.bucket).await?;
    if bucket.versioning != Some(VersioningStatus::Enabled) {
        return Err(RecoverError::NotEnabled(bucket.bucket));
    }
    run(backend, scope, tell, || Restoration::new(time)).await
}

/// Judges one key by its versions, the newest first.
trait Judge {
    fn see(&mut self, version: &VersionEntry);
    fn change(self, key: Key) -> Option<Planned>;
}

struct Planned {
    change: Change,
    /// The newest version, where it has the bytes that are to be restored. If it has the attributes too, there is
    /// nothing to do: so a restoration that was broken off goes on where it was.
    alike: Option<VersionId>,
}

impl From<Change> for Planned {
    fn from(change: Change) -> Self {
        Self { change, alike: None }
    }
}

#[derive(Default)]
struct Undeletion {
    markers: Vec<VersionId>,
    has_object: bool,
}

impl Judge for Undeletion {
    fn see(&mut self, version: &VersionEntry) {
        match version {
            VersionEntry::DeleteMarker(marker) if !self.has_object && self.markers.len() < MAX_MARKERS => {
                self.markers.push(marker.version_id.clone());
            }
            VersionEntry::Object { .. } => self.has_object = true,
            VersionEntry::DeleteMarker(_) | VersionEntry::CommonPrefix(_) => {}
        }
    }

    fn change(self, key: Key) -> Option<Planned> {
        let markers = self.markers;
        (self.has_object && !markers.is_empty()).then_some(Change::Undelete { key, markers }.into())
    }
}

struct Restoration {
    time: Timestamp,
    newest: Option<Seen>,
    /// The version of then, once it was seen.
    then: Option<Seen>,
}

/// A version, as far as it matters.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    version_id: Option<VersionId>,
    /// `None` for a delete marker.
    bytes: Option<(ETag, u64)>,
}

impl Restoration {
    fn new(time: Timestamp) -> Self {
        Self {
            time,
            newest: None,
            then: None,
        }
    }
}

impl Judge for Restoration {
    fn see(&mut self, version: &VersionEntry) {
        let (bytes, last_modified) = match version {
            VersionEntry::Object { info, .. } => (Some((info.etag.clone(), info.size)), info.last_modified),
            VersionEntry::DeleteMarker(marker) => (None, marker.last_modified),
            VersionEntry::CommonPrefix(_) => return,
        };
        let seen = Seen {
            version_id: version.version_id().cloned(),
            bytes,
        };
        if self.then.is_none() && last_modified <= self.time {
            self.then = Some(seen.clone());
        }
        self.newest.get_or_insert(seen);
    }

    fn change(self, key: Key) -> Option<Planned> {
        let newest = self.newest?;
        let then = self.then.filter(|then| then.bytes.is_some());
        match then {
            Some(then) if then == newest => None,
            Some(then) => Some(Planned {
                alike: newest.version_id.filter(|_| newest.bytes == then.bytes),
                change: Change::Restore {
                    key,
                    version_id: then.version_id?,
                },
            }),
            None => newest.bytes.is_some().then_some(Change::Delete { key }.into()),
        }
    }
}

async fn run<J: Judge>(
    backend: &dyn Backend,
    scope: &Scope,
    mut tell: impl FnMut(Progress, Option<&Change>),
    begin: impl Fn() -> J,
) -> Result<Progress, RecoverError> {
    let mut progress = Progress::default();
    let mut request = ListObjectVersions {
        bucket: scope.bucket.clone(),
        prefix: scope.prefix.clone(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: PAGE,
    };
    // The key whose versions are being read; they may go on in the next page.
    let mut open: Option<(Key, J)> = None;
    loop {
        let page = backend.list_object_versions(request.clone()).await?;
        if let Some(last) = page.entries.last() {
            request.key_marker = Some(last.name().into());
            request.version_id_marker = last.version_id().cloned();
        }
        let mut changes = Vec::new();
        let mut close = |(key, judge): (Key, J)| {
            progress.examined += 1;
            changes.extend(judge.change(key));
        };
        for entry in &page.entries {
            let key = match entry {
                VersionEntry::Object { info, .. } => &info.key,
                VersionEntry::DeleteMarker(marker) => &marker.key,
                VersionEntry::CommonPrefix(_) => continue,
            };
            if open.as_ref().is_some_and(|(current, _)| current != key) {
                open.take().into_iter().for_each(&mut close);
            }
            let (_, judge) = open.get_or_insert_with(|| (key.clone(), begin()));
            judge.see(entry);
        }
        if !page.is_truncated {
            open.take().into_iter().for_each(&mut close);
        }
        let mut done = stream::iter(changes)
            .map(|planned| carry_out(backend, scope, planned))
            .buffered(AT_ONCE);
        while let Some(change) = done.try_next().await? {
            if let Some(change) = change {
                progress.changed += 1;
                tell(progress, Some(&change));
            }
        }
        tell(progress, None);
        if !page.is_truncated {
            return Ok(progress);
        }
    }
}

/// What was done, or would be.
async fn carry_out(backend: &dyn Backend, scope: &Scope, planned: Planned) -> Result<Option<Change>, RecoverError> {
    let Planned { change, alike } = planned;
    let bucket = &scope.bucket;
    let outcome = async {
        if let (Some(newest), Change::Restore { key, version_id }) = (&alike, &change) {
            let newest = backend.open_object(&version(bucket, key, Some(newest))).await?;
            let then = backend.open_object(&version(bucket, key, Some(version_id))).await?;
            if newest.info.attributes == then.info.attributes {
                return Ok(false);
            }
        }
        if !scope.dry_run {
            match &change {
                Change::Undelete { key, markers } => undelete_key(backend, bucket, key, markers).await?,
                Change::Restore { key, version_id } => {
                    copy_version(backend, bucket, key, version_id, nothing_lost()).await?;
                }
                Change::Delete { key } => delete(backend, bucket, key, None, nothing_lost()).await?,
            }
        }
        Ok(true)
    };
    match outcome.await {
        Ok(changes) => Ok(changes.then_some(change)),
        Err(source) => Err(RecoverError::Key {
            key: change.key().as_str().into(),
            source,
        }),
    }
}

async fn undelete_key(
    backend: &dyn Backend,
    bucket: &BucketName,
    key: &Key,
    markers: &[VersionId],
) -> Result<(), BackendError> {
    // Never an object that has come to have the marker's id meanwhile: `null` is whichever was written last.
    let condition = WriteCondition {
        if_none_match: true,
        ..WriteCondition::default()
    };
    for marker in markers {
        match delete(backend, bucket, key, Some(marker), condition.clone()).await {
            Ok(()) | Err(BackendError::PreconditionFailed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn delete(
    backend: &dyn Backend,
    bucket: &BucketName,
    key: &Key,
    version_id: Option<&VersionId>,
    condition: WriteCondition,
) -> Result<(), BackendError> {
    let request = DeleteObject {
        object: version(bucket, key, version_id),
        condition,
        mark_missing: false,
        versions: None,
    };
    backend.delete_object(request).await.map(drop)
}

/// Where versioning was suspended meanwhile, a write would replace the version `null`.
fn nothing_lost() -> WriteCondition {
    WriteCondition {
        keep_all: true,
        ..WriteCondition::default()
    }
}

fn version(bucket: &BucketName, key: &Key, version_id: Option<&VersionId>) -> ObjectRef {
    ObjectRef {
        bucket: bucket.clone(),
        key: key.clone(),
        version_id: version_id.cloned(),
    }
}

#[cfg(test)]
mod tests;
