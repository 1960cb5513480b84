//! The versions that a store keeps by itself: named, listed, removed.

use std::collections::VecDeque;

use futures::TryStreamExt as _;
use opendal::{
    Metadata,
    options::{DeleteOptions, ListOptions, StatOptions},
};

use super::{
    answer::heard,
    key::{StoreDir, StoreKey},
    store::{Meta, Precondition, Store, StoreError, TokenKind, delete_options, failed},
};
use crate::VersionId;

/// Stores give so many entries in one answer.
pub(super) const STORE_PAGE: usize = 1000;

/// What is there.
#[derive(Debug)]
pub(super) enum Stated {
    Object(Box<Meta>),
    /// With its id, where the store tells it.
    DeleteMarker(Option<VersionId>),
    Nothing,
}

/// A version in a listing, or a directory: its name ends in a slash.
#[derive(Debug, Clone)]
pub(super) struct FoundVersion {
    /// In the directory that was listed.
    pub(super) name: String,
    pub(super) meta: Meta,
    pub(super) is_marker: bool,
    pub(super) is_latest: bool,
}

impl FoundVersion {
    fn of(name: &str, metadata: &Metadata, tokens: TokenKind) -> Self {
        Self {
            name: name.to_owned(),
            meta: Meta::of(metadata, tokens),
            is_marker: metadata.is_deleted(),
            is_latest: metadata.is_current() == Some(true),
        }
    }

    /// What the store does not name is the version `null`.
    pub(super) fn id(&self) -> VersionId {
        self.meta.version.clone().unwrap_or_else(VersionId::null)
    }
}

impl Store {
    /// Whether its adapter can ask for all of it.
    pub(super) fn asks_for_versions(&self) -> bool {
        let capability = self.capability();
        capability.list_with_versions
            && capability.list_with_deleted
            && capability.stat_with_version
            && capability.read_with_version
            && capability.delete_with_version
    }

    /// What is there: by name, or as a version. An id that the store cannot have names nothing.
    pub(super) async fn stat_version(&self, key: &StoreKey, id: Option<&VersionId>) -> Result<Stated, StoreError> {
        let options = StatOptions {
            version: id.map(VersionId::to_string),
            ..StatOptions::default()
        };
        let (stated, answer) = heard(self.operator().stat_options(key.as_str(), options)).await;
        match stated.map_err(failed) {
            Ok(metadata) if metadata.is_dir() => Ok(Stated::Nothing),
            Ok(metadata) => Ok(Stated::Object(Box::new(Meta::of(&metadata, self.tokens())))),
            Err(StoreError::NotFound) if answer.is_marker => Ok(Stated::DeleteMarker(id.cloned().or(answer.version))),
            Err(StoreError::NotFound) => Ok(Stated::Nothing),
            // HEAD of a delete marker by its id.
            Err(_) if id.is_some() && answer.status == 405 => Ok(Stated::DeleteMarker(id.cloned())),
            Err(_) if id.is_some() && answer.status == 400 => Ok(Stated::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Deletes by name. Gives the delete marker that the store has made; `None` where it made none.
    pub(super) async fn mark_deleted(
        &self,
        key: &StoreKey,
        precondition: &Precondition,
    ) -> Result<Option<VersionId>, StoreError> {
        let options = delete_options(precondition);
        let (deleted, answer) = heard(self.operator().delete_options(key.as_str(), options)).await;
        match deleted.map_err(failed) {
            Ok(()) => Ok(answer.version.filter(|_| answer.is_marker)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes one version. Nothing there is no error.
    pub(super) async fn delete_version(&self, key: &StoreKey, id: &VersionId) -> Result<(), StoreError> {
        let options = DeleteOptions {
            version: Some(id.to_string()),
            ..DeleteOptions::default()
        };
        match self
            .operator()
            .delete_options(key.as_str(), options)
            .await
            .map_err(failed)
        {
            Err(StoreError::NotFound) => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes an object of the gateway's own with all its versions. The one that is there goes last, so that no older
    /// one takes its place; with a condition, a delete marker goes there first, and what somebody has put there since
    /// stays.
    pub(super) async fn delete_all_versions(
        &self,
        key: &StoreKey,
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let is_conditional = matches!(precondition, Precondition::Is(_));
        if is_conditional {
            self.mark_deleted(key, precondition).await?;
        }
        let mut latest = None;
        let mut versions = self.versions_of(key, STORE_PAGE).await?;
        while let Some(found) = versions.next().await? {
            if found.is_latest {
                latest = Some(found);
            } else {
                self.delete_version(key, &found.id()).await?;
            }
        }
        match latest.filter(|latest| latest.is_marker || !is_conditional) {
            Some(latest) => self.delete_version(key, &latest.id()).await,
            None => Ok(()),
        }
    }

    /// Removes all that lies in a directory of the gateway's own, with all versions.
    pub(super) async fn delete_all_in(&self, dir: &StoreDir) -> Result<usize, StoreError> {
        let mut removed = 0;
        let mut versions = self.list_versions(dir, "", true, None, STORE_PAGE).await?;
        while let Some(found) = versions.next().await? {
            if let Some(key) = dir.key(&found.name) {
                self.delete_version(&key, &found.id()).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The versions and delete markers of one key: each of the two kinds in order, the newest first. How they lie
    /// between each other is lost within an answer of the store's, which has `page` of them: with 1 it is not.
    pub(super) async fn versions_of(&self, key: &StoreKey, page: usize) -> Result<KeyVersions, StoreError> {
        let entries = self.version_entries(key.as_str(), true, None, page, "").await?;
        Ok(KeyVersions {
            entries,
            key: key.as_str().to_owned(),
            page,
            others: 0,
        })
    }

    /// The versions and delete markers in `dir`, as [`list`](Self::list) does it with objects: by key, and of those in
    /// one answer of the store's, which has at most `page`, the delete markers last.
    pub(super) async fn list_versions(
        &self,
        dir: &StoreDir,
        beginning: &str,
        recursive: bool,
        start_after: Option<&str>,
        page: usize,
    ) -> Result<VersionEntries, StoreError> {
        let path = format!("{}{beginning}", dir.as_str());
        self.version_entries(&path, recursive, start_after, page, dir.as_str())
            .await
    }

    async fn version_entries(
        &self,
        path: &str,
        recursive: bool,
        start_after: Option<&str>,
        page: usize,
        dir: &str,
    ) -> Result<VersionEntries, StoreError> {
        let options = ListOptions {
            recursive,
            versions: true,
            deleted: true,
            start_after: start_after.map(str::to_owned),
            limit: Some(page.clamp(1, STORE_PAGE)),
        };
        let lister = match self.operator().lister_options(path, options).await.map_err(failed) {
            Ok(lister) => Some(lister),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error),
        };
        Ok(VersionEntries {
            lister,
            dir: dir.to_owned(),
            tokens: self.tokens(),
        })
    }
}

/// A listing of versions under way.
pub(super) struct VersionEntries {
    lister: Option<opendal::Lister>,
    dir: String,
    tokens: TokenKind,
}

impl VersionEntries {
    pub(super) async fn next(&mut self) -> Result<Option<FoundVersion>, StoreError> {
        tokio::task::consume_budget().await;
        let Some(lister) = &mut self.lister else {
            return Ok(None);
        };
        loop {
            let entry = match lister.try_next().await.map_err(failed) {
                Ok(Some(entry)) => entry,
                Ok(None) | Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            let (path, metadata) = entry.into_parts();
            match path.strip_prefix(&self.dir) {
                Some(name) if !name.is_empty() => return Ok(Some(FoundVersion::of(name, &metadata, self.tokens))),
                _ => {}
            }
        }
    }
}

/// A listing of the versions of one key under way.
pub(super) struct KeyVersions {
    entries: VersionEntries,
    key: String,
    page: usize,
    /// Keys that begin with the key come after it.
    others: usize,
}

impl KeyVersions {
    pub(super) async fn next(&mut self) -> Result<Option<FoundVersion>, StoreError> {
        // Its own delete markers come behind others in the same answer, not behind those of another.
        while self.others < self.page {
            match self.entries.next().await? {
                Some(found) if found.name == self.key => return Ok(Some(found)),
                Some(_) => self.others += 1,
                None => break,
            }
        }
        Ok(None)
    }
}

/// The versions of one key in the store's order, of objects and delete markers that are in order each. `None` where
/// times, which stores tell in seconds, leave it open.
pub(super) fn merged(objects: &[FoundVersion], markers: &[FoundVersion]) -> Option<Vec<FoundVersion>> {
    let seconds = |found: &FoundVersion| found.meta.last_modified.map(crate::Timestamp::unix_seconds);
    let in_time = |versions: &[FoundVersion]| versions.is_sorted_by_key(|found| std::cmp::Reverse(seconds(found)));
    if objects.is_empty() || markers.is_empty() {
        return Some([objects, markers].concat());
    }
    if !in_time(objects) || !in_time(markers) {
        return None;
    }
    let (mut objects, mut markers): (VecDeque<_>, VecDeque<_>) = (objects.iter().collect(), markers.iter().collect());
    let mut all = Vec::with_capacity(objects.len() + markers.len());
    while let (Some(object), Some(marker)) = (objects.front(), markers.front()) {
        let (at, deleted) = (seconds(object)?, seconds(marker)?);
        let is_object = object.is_latest || at > deleted;
        if !(is_object || marker.is_latest || deleted > at) {
            return None;
        }
        let from = if is_object { &mut objects } else { &mut markers };
        all.extend(from.pop_front().cloned());
    }
    all.extend(objects.into_iter().chain(markers).cloned());
    Some(all)
}

/// The same by time alone: of one second objects come first.
pub(super) fn merged_by_time(objects: &[FoundVersion], markers: &[FoundVersion]) -> Vec<FoundVersion> {
    let time = |found: &FoundVersion| found.meta.last_modified.map(crate::Timestamp::unix_seconds);
    let mut markers = markers.iter().peekable();
    let mut all = Vec::with_capacity(objects.len() + markers.len());
    for object in objects {
        while let Some(newer) = markers.next_if(|marker| time(marker) > time(object)) {
            all.push(newer.clone());
        }
        all.push(object.clone());
    }
    all.extend(markers.cloned());
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{ContentHeaders, Timestamp};

    pub(in crate::opendal) fn found(id: &str, at: i64, is_marker: bool, is_latest: bool) -> FoundVersion {
        FoundVersion {
            name: "key".to_owned(),
            meta: Meta {
                size: 0,
                token: None,
                etag: None,
                last_modified: Some(Timestamp::from_unix(at, 0)),
                version: VersionId::parse(id).ok(),
                content: ContentHeaders::default(),
                user: std::collections::HashMap::new(),
            },
            is_marker,
            is_latest,
        }
    }

    fn ids(objects: &[(&str, i64, bool)], markers: &[(&str, i64, bool)]) -> Option<String> {
        let of = |list: &[(&str, i64, bool)], is_marker: bool| -> Vec<_> {
            list.iter()
                .map(|(id, at, is_latest)| found(id, *at, is_marker, *is_latest))
                .collect()
        };
        let all = merged(&of(objects, false), &of(markers, true))?;
        Some(all.iter().map(|found| found.id().to_string()).collect())
    }

    #[test]
    fn times_tell_how_markers_lie_between_objects() {
        let objects = [("c", 5, true), ("b", 3, false), ("a", 1, false)];
        assert_eq!(
            ids(&objects, &[("n", 4, false), ("m", 2, false)]).as_deref(),
            Some("cnbma")
        );
        assert_eq!(ids(&objects, &[]).as_deref(), Some("cba"));
        assert_eq!(ids(&[], &[("n", 4, true), ("m", 4, false)]).as_deref(), Some("nm"));
        // The latest is first, whatever the time.
        assert_eq!(ids(&[("c", 5, true)], &[("n", 5, false)]).as_deref(), Some("cn"));
        assert_eq!(ids(&[("c", 5, false)], &[("n", 5, true)]).as_deref(), Some("nc"));
    }

    #[test]
    fn what_cannot_be_asked_for_is_in_an_order_that_stays() {
        let of = |list: &[(&str, i64)], is_marker: bool| -> Vec<_> {
            list.iter().map(|(id, at)| found(id, *at, is_marker, false)).collect()
        };
        let objects = of(&[("c", 5), ("b", 3), ("a", 3)], false);
        let markers = of(&[("o", 6), ("n", 3), ("m", 1)], true);
        let all = merged_by_time(&objects, &markers);
        let ids: String = all.iter().map(|found| found.id().to_string()).collect();
        assert_eq!(ids, "ocbanm");
    }

    #[test]
    fn what_is_of_one_second_is_left_open() {
        assert_eq!(ids(&[("c", 5, true), ("b", 3, false)], &[("n", 3, false)]), None);
        // A completed upload may have the time at which it was begun: its place is not that.
        assert_eq!(ids(&[("c", 1, true), ("b", 3, false)], &[("n", 2, false)]), None);
    }
}
