//! Versions where there never were any.

use crate::{
    BackendError, ListEntry, ListObjectVersions, ListObjects, ObjectInfo, ObjectPage, VersionEntry, VersionId,
    VersionPage,
};

/// The versions of a bucket that never had versioning, from a listing of its objects: each is its version `null`.
pub(crate) async fn list_unversioned<F>(
    request: ListObjectVersions,
    list_objects: impl FnOnce(ListObjects) -> F,
) -> Result<VersionPage, BackendError>
where
    F: Future<Output = Result<ObjectPage, BackendError>>,
{
    let page = list_objects(ListObjects {
        bucket: request.bucket,
        prefix: request.prefix,
        delimiter: request.delimiter,
        start_after: request.key_marker,
        max_keys: request.max_keys,
    })
    .await?;
    let entries = page.entries.into_iter().map(|entry| match entry {
        ListEntry::Object(info) => VersionEntry::Object {
            info: ObjectInfo {
                version_id: Some(VersionId::null()),
                ..info
            },
            is_latest: true,
        },
        ListEntry::CommonPrefix(prefix) => VersionEntry::CommonPrefix(prefix),
    });
    Ok(VersionPage {
        entries: entries.collect(),
        is_truncated: page.is_truncated,
    })
}
