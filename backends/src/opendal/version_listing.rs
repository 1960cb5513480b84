//! Listings of the encoded layout where a key's head need not be an object: of versions, and of what is current among
//! them.
//!
//! Names tell nothing of that, so heads are read: of each key on the page, and of one below each common prefix, or
//! more where those are deleted.

use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::{
    ATTEMPTS, Core, StoreLayout,
    head::Recorded,
    history::Target,
    listing::ASKED,
    page::Rules,
    record::{Keeping, Kind},
};
use crate::{
    BackendError, BucketName, DeleteMarker, Key, ListEntry, ListObjectVersions, ListObjects, ObjectPage, Stamp,
    Version, VersionEntry, VersionPage, VersioningStatus, versioning::list_unversioned,
};

/// So many names are held, where a page has fewer: a look at the bucket may be one at all of its names, and many of them
/// may have nothing for the page.
const LEAST_NAMES: usize = 1000;

/// A key, or a common prefix with a key below it.
struct Group {
    /// Of a common prefix.
    prefix: Option<String>,
    /// One of them.
    key: String,
}

impl Group {
    fn name(&self) -> &str {
        self.prefix.as_deref().unwrap_or(&self.key)
    }
}

type EntriesOf<'r, E> = Box<dyn Fn(Key) -> BoxFuture<'r, Result<Vec<E>, BackendError>> + Send + Sync + 'r>;

/// What a page is made of.
struct Listing<'r, E> {
    bucket: &'r BucketName,
    rules: Rules<'r>,
    /// The entries of a key; none where it is as if it were not there.
    entries: EntriesOf<'r, E>,
    rolled_up: fn(String) -> E,
}

impl Core {
    /// Whether a key's head may be something else than an object.
    pub(super) fn lists_heads(&self, versioning: Option<VersioningStatus>) -> bool {
        self.layout == StoreLayout::Encoded && (versioning.is_some() || !self.can_drop_heads())
    }

    pub(super) async fn list_current(
        &self,
        request: &ListObjects,
        versioning: Option<VersioningStatus>,
    ) -> Result<ObjectPage, BackendError> {
        let listing = Listing {
            bucket: &request.bucket,
            rules: Rules {
                prefix: &request.prefix,
                delimiter: request.delimiter.as_deref(),
                max: request.max_keys,
            },
            entries: Box::new(move |key| {
                async move {
                    let head = self.head(&request.bucket, &key).await?;
                    let info = head.and_then(|head| head.info(head.version().filter(|_| versioning.is_some())));
                    Ok(info.map(ListEntry::Object).into_iter().collect())
                }
                .boxed()
            }),
            rolled_up: |prefix| ListEntry::CommonPrefix(prefix.into()),
        };
        let marker = request.start_after.as_deref().map(str::to_owned);
        let (entries, is_truncated) = self.page_of(&listing, Vec::new(), marker).await?;
        Ok(ObjectPage { entries, is_truncated })
    }

    pub(super) async fn list_object_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        let versioning = self.bucket(&request.bucket).await?.info.versioning;
        if self.is_native() {
            return self.list_native_versions(request).await;
        }
        if self.layout == StoreLayout::Transparent || versioning.is_none() {
            return list_unversioned(request, |objects| self.list_objects(objects)).await;
        }
        let bucket = &request.bucket;
        let max = request.max_keys.saturating_add(1);
        let listing = Listing {
            bucket,
            rules: Rules {
                prefix: &request.prefix,
                delimiter: request.delimiter.as_deref(),
                max: request.max_keys,
            },
            entries: Box::new(move |key| {
                async move { self.versions_of(Target { bucket, key: &key }, None, max).await }.boxed()
            }),
            rolled_up: |prefix| VersionEntry::CommonPrefix(prefix.into()),
        };
        let mut marker = request.key_marker.as_deref().map(str::to_owned);
        let rest = self.rest_of_marked(&request, listing.rules).await?;
        // What follows is rolled up into the same, which is told once.
        if let Some(VersionEntry::CommonPrefix(prefix)) = rest.first() {
            marker = Some(prefix.to_string());
        }
        let (entries, is_truncated) = self.page_of(&listing, rest, marker).await?;
        Ok(VersionPage { entries, is_truncated })
    }

    /// What of the versions of the marker's key comes after the marker.
    async fn rest_of_marked(
        &self,
        request: &ListObjectVersions,
        rules: Rules<'_>,
    ) -> Result<Vec<VersionEntry>, BackendError> {
        let (Some(key), Some(id)) = (&request.key_marker, &request.version_id_marker) else {
            return Ok(Vec::new());
        };
        let prefix = rules.common_prefix(key);
        let Ok(parsed) = Key::parse(key.clone()) else {
            return Ok(Vec::new());
        };
        // A key that is itself a common prefix is passed with all that is rolled up into it.
        if !key.starts_with(rules.prefix) || prefix == Some(&**key) || rules.max == 0 {
            return Ok(Vec::new());
        }
        let at = Target {
            bucket: &request.bucket,
            key: &parsed,
        };
        let below = match id.stamp() {
            Some(stamp) => Some(stamp),
            None => self.null_stamp(at).await?,
        };
        let rest = self.versions_of(at, below, rules.max.saturating_add(1)).await?;
        Ok(match prefix {
            Some(prefix) if !rest.is_empty() => vec![VersionEntry::CommonPrefix(prefix.into())],
            _ => rest,
        })
    }

    async fn null_stamp(&self, at: Target<'_>) -> Result<Option<Stamp>, BackendError> {
        let head = self.head(at.bucket, at.key).await?;
        Ok(head.and_then(|head| {
            let own = head.version().filter(|version| version.null);
            own.map(|version| version.stamp)
                .or_else(|| head.keeping().and_then(Keeping::null))
        }))
    }

    /// The versions of a key older than `below`, the newest first; at most `max`. All of one moment: that at which the
    /// head was read, for nothing that is kept was removed until all was.
    async fn versions_of(
        &self,
        at: Target<'_>,
        below: Option<Stamp>,
        max: usize,
    ) -> Result<Vec<VersionEntry>, BackendError> {
        let mut read = self.head(at.bucket, at.key).await?;
        for _ in 0..ATTEMPTS {
            let Some(head) = read else { return Ok(Vec::new()) };
            let Some(own) = head.version() else {
                return Ok(Vec::new());
            };
            let is_after = |version: Version| below.is_none_or(|below| version.stamp < below);
            let mut entries = Vec::new();
            if is_after(own) {
                entries.extend(entry(at.key, own, &head, true));
            }
            let Some(keeping) = head.keeping().filter(|keeping| keeping.newest().is_some()) else {
                return Ok(entries);
            };
            let kept = self
                .kept_below(at, keeping, below, max.saturating_add(1).saturating_sub(entries.len()))
                .await?;
            // The head may lie there too.
            let kept = kept.iter().filter(|(version, _)| *version != own);
            entries.extend(kept.filter_map(|(version, kept)| entry(at.key, *version, kept, false)));
            entries.truncate(max);
            read = self.head(at.bucket, at.key).await?;
            let now = read.as_ref().and_then(Recorded::keeping);
            if now.is_some_and(|now| now.epoch == keeping.epoch) {
                return Ok(entries);
            }
        }
        Err(BackendError::Conflict)
    }

    /// The page: `entries`, and what comes after `marker`; and whether more follows.
    async fn page_of<E: Send>(
        &self,
        listing: &Listing<'_, E>,
        entries: Vec<E>,
        marker: Option<String>,
    ) -> Result<(Vec<E>, bool), BackendError> {
        let max = listing.rules.max;
        if max == 0 {
            return Ok((Vec::new(), false));
        }
        let (mut entries, mut marker) = (entries, marker);
        let wanted = max.saturating_add(1);
        let mut room = wanted.saturating_sub(entries.len()).max(1);
        if !self.seeks() {
            room = room.max(LEAST_NAMES);
        }
        loop {
            let groups = self
                .groups(listing.bucket, listing.rules, marker.as_deref(), room)
                .await?;
            let was_last = groups.len() < room;
            let after = marker;
            marker = groups.last().map(|group| group.name().to_owned());
            let found = groups
                .into_iter()
                .map(|group| self.entries_of(listing, group, after.as_deref()).boxed());
            let found = stream::iter(found);
            let mut found = found.buffered(ASKED);
            while entries.len() <= max
                && let Some(found) = found.try_next().await?
            {
                entries.extend(found);
            }
            if entries.len() > max {
                entries.truncate(max);
                return Ok((entries, true));
            }
            if was_last {
                return Ok((entries, false));
            }
            room = wanted.max(LEAST_NAMES);
        }
    }

    /// What the page says of a group, all of which comes after `marker`.
    async fn entries_of<E: Send>(
        &self,
        listing: &Listing<'_, E>,
        group: Group,
        marker: Option<&str>,
    ) -> Result<Vec<E>, BackendError> {
        let Some(prefix) = group.prefix else {
            return match Key::parse(group.key) {
                Ok(key) => (listing.entries)(key).await,
                Err(_) => Ok(Vec::new()),
            };
        };
        let below = Rules {
            prefix: &prefix,
            delimiter: None,
            max: LEAST_NAMES,
        };
        let mut keys = vec![group.key];
        // It need not be the first one after the marker.
        let mut marker = marker.map(str::to_owned);
        loop {
            let found = stream::iter(keys.into_iter().filter_map(|key| Key::parse(key).ok()));
            let mut found = found.map(|key| (listing.entries)(key)).buffered(ASKED);
            while let Some(found) = found.try_next().await? {
                if !found.is_empty() {
                    return Ok(vec![(listing.rolled_up)(prefix)]);
                }
            }
            let groups = self
                .groups(listing.bucket, below, marker.as_deref(), LEAST_NAMES)
                .await?;
            if groups.is_empty() {
                return Ok(Vec::new());
            }
            keys = groups.into_iter().map(|group| group.key).collect();
            marker = keys.last().cloned();
        }
    }

    /// The first keys and common prefixes after `marker`, whatever they hold; at most `room`.
    async fn groups(
        &self,
        bucket: &BucketName,
        rules: Rules<'_>,
        marker: Option<&str>,
        room: usize,
    ) -> Result<Vec<Group>, BackendError> {
        // By name: a common prefix could be a key's name too, and then comes first as it is in it.
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut scan = self.scan(bucket, rules, marker, room);
        loop {
            let greatest = groups.last_key_value().filter(|_| groups.len() >= room);
            let Some((key, _)) = scan.next(greatest.map(|(name, _)| name.as_str())).await? else {
                break;
            };
            let prefix = rules.common_prefix(&key).map(str::to_owned);
            let name = prefix.clone().unwrap_or_else(|| key.clone());
            let is_full = groups.len() >= room;
            if is_full && groups.last_key_value().is_some_and(|(last, _)| name > *last) {
                continue;
            }
            groups.entry(name).or_insert(Group { prefix, key });
            if groups.len() > room {
                groups.pop_last();
            }
        }
        Ok(groups.into_values().collect())
    }
}

fn entry(key: &Key, version: Version, found: &Recorded, is_latest: bool) -> Option<VersionEntry> {
    match found.kind {
        Kind::DeleteMarker => Some(VersionEntry::DeleteMarker(DeleteMarker {
            key: key.clone(),
            version_id: version.id(),
            last_modified: found.modified(),
            is_latest,
        })),
        _ => Some(VersionEntry::Object {
            info: found.info(Some(version))?,
            is_latest,
        }),
    }
}
