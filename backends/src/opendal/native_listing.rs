//! Listings of versions that the store keeps by itself.
//!
//! The store's own listing goes by key, and of each key from the newest on. What opendal gives of it has, of each answer
//! of the store's, the objects first and then the delete markers: times tell how they lie between each other. Where
//! those are of one second, the versions of that key are asked for one by one.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    ATTEMPTS, Core,
    key::{Named, StoreDir, StoreKey, is_name},
    listing::ASKED,
    object::last_modified,
    page::{Rules, is_key_after},
    store_versions::{FoundVersion, STORE_PAGE, Stated, merged, merged_by_time},
};
use crate::{
    BackendError, BucketName, DeleteMarker, Key, ListObjectVersions, ObjectInfo, VersionEntry, VersionId, VersionPage,
};

/// So many versions of a key are asked for one by one to learn their order. Those of one second that lie deeper, markers
/// and objects, are told in any order that stays the same.
const MAX_WALK: usize = 1000;
/// So many ids of a key are remembered while its versions change under a listing.
const MAX_ORDER: usize = 10_000;

/// An entry as the store tells it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are versions")]
enum Listed {
    Version(FoundVersion),
    CommonPrefix(String),
}

/// The ids of all versions of a key, the newest first, as they were a moment ago.
type Orders = HashMap<StoreKey, Vec<VersionId>>;

/// What is read of a name, each list in order.
#[derive(Debug, Default)]
struct Group {
    is_prefix: bool,
    objects: Vec<FoundVersion>,
    markers: Vec<FoundVersion>,
}

impl Group {
    fn push(&mut self, found: FoundVersion) {
        let list = if found.is_marker {
            &mut self.markers
        } else {
            &mut self.objects
        };
        list.push(found);
    }

    /// In the order of the key's versions as it was a moment ago: what has come since is newer than all of that. `None`
    /// where that is not enough.
    fn by(&self, order: &[VersionId]) -> Option<Vec<FoundVersion>> {
        let places: HashMap<&VersionId, usize> = order.iter().enumerate().map(|(at, id)| (id, at)).collect();
        let place = |found: &FoundVersion| places.get(&found.id()).copied();
        let known_from = |list: &[FoundVersion]| list.iter().take_while(|found| place(found).is_none()).count();
        let (new_objects, objects) = self.objects.split_at(known_from(&self.objects));
        let (new_markers, markers) = self.markers.split_at(known_from(&self.markers));
        let mut known = Vec::with_capacity(self.len());
        for found in objects.iter().chain(markers) {
            known.push((place(found)?, found));
        }
        known.sort_by_key(|(at, _)| *at);
        let mut all = merged(new_objects, new_markers)?;
        all.extend(known.into_iter().map(|(_, found)| found.clone()));
        Some(all)
    }

    fn len(&self) -> usize {
        self.objects.len() + self.markers.len()
    }
}

impl Core {
    pub(super) async fn list_native_versions(&self, request: ListObjectVersions) -> Result<VersionPage, BackendError> {
        let bucket = &request.bucket;
        // What the store lists and what it has when it is asked for more need not be of one moment: then once more.
        let mut orders = Orders::new();
        for _ in 0..ATTEMPTS {
            let (listed, is_truncated) = match self.native_page(&request, &mut orders).await {
                Err(BackendError::Conflict) => continue,
                page => page?,
            };
            let entries = stream::iter(listed).map(|listed| self.native_entry(bucket, listed));
            let entries: Vec<Option<VersionEntry>> = entries.buffered(ASKED).try_collect().await?;
            if let Some(entries) = entries.into_iter().collect() {
                return Ok(VersionPage { entries, is_truncated });
            }
        }
        Err(BackendError::Conflict)
    }

    /// What is on the page, and whether more follows it.
    async fn native_page(
        &self,
        request: &ListObjectVersions,
        orders: &mut Orders,
    ) -> Result<(Vec<Listed>, bool), BackendError> {
        let rules = Rules {
            prefix: &request.prefix,
            delimiter: request.delimiter.as_deref(),
            max: request.max_keys,
        };
        if rules.max == 0 {
            return Ok((Vec::new(), false));
        }
        let mut marker = request.key_marker.as_deref();
        let mut listed = self.rest_of_marked_native(request, rules, orders).await?;
        let rolled_up = match listed.first() {
            Some(Listed::CommonPrefix(prefix)) => Some(prefix.clone()),
            _ => None,
        };
        // What follows is rolled up into the same, which is told once.
        marker = rolled_up.as_deref().or(marker);
        let room = rules.max.saturating_add(1).saturating_sub(listed.len());
        if room > 0 {
            listed.extend(self.native_after(&request.bucket, rules, marker, room, orders).await?);
        }
        let is_truncated = listed.len() > rules.max;
        listed.truncate(rules.max);
        Ok((listed, is_truncated))
    }

    /// What of the versions of the marker's key comes after the marker.
    async fn rest_of_marked_native(
        &self,
        request: &ListObjectVersions,
        rules: Rules<'_>,
        orders: &mut Orders,
    ) -> Result<Vec<Listed>, BackendError> {
        let (Some(key), Some(id)) = (&request.key_marker, &request.version_id_marker) else {
            return Ok(Vec::new());
        };
        let prefix = rules.common_prefix(key);
        // A key that is itself a common prefix is passed with all that is rolled up into it.
        if !key.starts_with(rules.prefix) || prefix == Some(&**key) {
            return Ok(Vec::new());
        }
        let Ok(place) = Key::parse(key.clone())
            .map_err(drop)
            .and_then(|key| self.place(&request.bucket, &key).map_err(drop))
        else {
            return Ok(Vec::new());
        };
        let rest = self
            .native_below(&place, Some(id), rules.max.saturating_add(1), orders)
            .await?;
        Ok(match prefix {
            Some(prefix) if !rest.is_empty() => vec![Listed::CommonPrefix(prefix.to_owned())],
            _ => rest
                .into_iter()
                .map(|found| Listed::Version(named(found, key)))
                .collect(),
        })
    }

    /// The versions of one key that come after `id`, at most `room`; without one, or where the key has no such version,
    /// the first ones.
    async fn native_below(
        &self,
        place: &StoreKey,
        id: Option<&VersionId>,
        room: usize,
        orders: &mut Orders,
    ) -> Result<Vec<FoundVersion>, BackendError> {
        let mut id = id;
        loop {
            let mut versions = self.store.versions_of(place, STORE_PAGE).await?;
            let mut held = Group::default();
            let mut past = id.is_none();
            loop {
                let found = versions.next().await?;
                let ended = found.is_none();
                if let Some(found) = found {
                    held.push(found);
                }
                if !ended && held.len() < room.saturating_add(2 * STORE_PAGE) {
                    continue;
                }
                let mut all = self.in_order(place, &held, orders).await?;
                // Of the last answer of the store's the delete markers may be missing.
                let mut certain = if ended {
                    all.len()
                } else {
                    all.len().saturating_sub(STORE_PAGE)
                };
                if !past {
                    let at = all[..certain].iter().position(|found| Some(&found.id()) == id);
                    past = at.is_some();
                    let passed = at.map_or(certain, |at| at + 1);
                    all.drain(..passed);
                    certain -= passed;
                }
                if past && (ended || certain >= room) {
                    all.truncate(room);
                    return Ok(all);
                }
                if ended {
                    break;
                }
                held = Group::default();
                all.into_iter().for_each(|found| held.push(found));
            }
            // It was removed meanwhile, or never there.
            id = None;
        }
    }

    /// What was read of a key, in order. [`BackendError::Conflict`] where something of it has gone since; then `orders`
    /// helps with what is read next.
    async fn in_order(
        &self,
        place: &StoreKey,
        group: &Group,
        orders: &mut Orders,
    ) -> Result<Vec<FoundVersion>, BackendError> {
        if let Some(all) = merged(&group.objects, &group.markers) {
            return Ok(all);
        }
        if let Some(all) = orders.get(place).and_then(|order| group.by(order)) {
            return Ok(all);
        }
        let known = orders.remove(place).unwrap_or_default();
        let (walked, has_all) = self.walk(place, group, &known).await?;
        if walked.len() == MAX_WALK && !has_all {
            return Ok(merged_by_time(&group.objects, &group.markers));
        }
        let order = with_walk(&known, walked);
        let all = if has_all { group.by(&order) } else { None };
        if order.len() <= MAX_ORDER {
            orders.insert(place.clone(), order);
        }
        all.ok_or(BackendError::Conflict)
    }

    /// The ids of a key from the newest on, with a call for each, for only so is nothing of their order lost: until all
    /// of `group` that is not `known` was met. `false`: something of it has gone since.
    async fn walk(
        &self,
        place: &StoreKey,
        group: &Group,
        known: &[VersionId],
    ) -> Result<(Vec<VersionId>, bool), BackendError> {
        let known: HashSet<&VersionId> = known.iter().collect();
        let mut places = HashMap::with_capacity(group.len());
        let mut sought = 0_usize;
        for list in [&group.objects, &group.markers] {
            for (at, found) in list.iter().enumerate() {
                let id = found.id();
                sought += usize::from(!known.contains(&id));
                places.insert(id, at);
            }
        }
        // How many of each kind were met.
        let mut met = [0, 0];
        let mut walked = Vec::new();
        let mut versions = self.store.versions_of(place, 1).await?;
        while sought > 0
            && walked.len() < MAX_WALK
            && let Some(found) = versions.next().await?
        {
            let id = found.id();
            if let Some(at) = places.get(&id) {
                let met = &mut met[usize::from(found.is_marker)];
                // One that was before it is no more, and may be none of those that are known.
                if at != met {
                    break;
                }
                *met += 1;
                sought -= usize::from(!known.contains(&id));
            }
            walked.push(id);
        }
        Ok((walked, sought == 0))
    }

    /// What comes after `marker`, at most `room`.
    async fn native_after(
        &self,
        bucket: &BucketName,
        rules: Rules<'_>,
        marker: Option<&str>,
        room: usize,
        orders: &mut Orders,
    ) -> Result<Vec<Listed>, BackendError> {
        let dir = StoreDir::bucket(bucket);
        // A prefix that no key of this layout begins with is none that the store may be asked for.
        let beginning = if is_name(rules.prefix) { rules.prefix } else { "" };
        let rolls_up = rules.delimiter == Some("/") && beginning == rules.prefix;
        let start_after = marker
            .filter(|marker| self.profile.versions_start_after && is_name(marker))
            .map(|marker| format!("{}{marker}", dir.as_str()));
        let start_after = start_after.as_deref();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        // Of what the marker lies in, the store may not tell what comes after the marker.
        let split = marker.and_then(|marker| rules.common_prefix(marker).filter(|prefix| *prefix != marker));
        let split = split.filter(|_| rolls_up);
        if let Some(prefix) = split
            && self.version_follows_in(&dir, prefix, marker, start_after).await?
        {
            groups.entry(prefix.to_owned()).or_default().is_prefix = true;
        }
        let page = STORE_PAGE.min(room);
        let mut held = groups.len();
        let mut entries = self
            .store
            .list_versions(&dir, beginning, !rolls_up, start_after, page)
            .await?;
        // An answer of the store's is in order only when all of it has been read.
        while held < room.saturating_add(page)
            && let Some(found) = entries.next().await?
        {
            let name = &*found.name;
            if !name.starts_with(rules.prefix)
                || !rules.is_after(name, marker)
                || split.is_some_and(|split| split == name)
            {
                continue;
            }
            let is_dir = name.ends_with('/');
            match rules.common_prefix(name) {
                Some(prefix) if !is_dir || (rolls_up && prefix == name) => {
                    let group = groups.entry(prefix.to_owned()).or_default();
                    held += usize::from(!group.is_prefix);
                    group.is_prefix = true;
                }
                None if !is_dir && matches!(self.layout.key(name), Some(Named::Key(_))) => {
                    held += 1;
                    groups.entry(name.to_owned()).or_default().push(found);
                }
                _ => {}
            }
        }
        let mut listed = Vec::new();
        for (name, group) in groups {
            let left = room - listed.len();
            if left == 0 {
                break;
            }
            if group.is_prefix {
                listed.push(Listed::CommonPrefix(name));
                continue;
            }
            let key = Key::parse(name.as_str());
            let key = key.map_err(|error| BackendError::internal("a key that was listed is none", error))?;
            let mut all = self.in_order(&self.place(bucket, &key)?, &group, orders).await?;
            all.truncate(left);
            listed.extend(all.into_iter().map(|found| Listed::Version(named(found, &name))));
        }
        Ok(listed)
    }

    /// Whether any version of a key that begins with `prefix` comes after `marker`.
    async fn version_follows_in(
        &self,
        dir: &StoreDir,
        prefix: &str,
        marker: Option<&str>,
        start_after: Option<&str>,
    ) -> Result<bool, BackendError> {
        let mut entries = self
            .store
            .list_versions(dir, prefix, true, start_after, STORE_PAGE)
            .await?;
        while let Some(found) = entries.next().await? {
            if is_key_after(&found.name, prefix, marker) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a listing tells. `None` where a version has gone meanwhile.
    async fn native_entry(&self, bucket: &BucketName, listed: Listed) -> Result<Option<VersionEntry>, BackendError> {
        let found = match listed {
            Listed::Version(found) => found,
            Listed::CommonPrefix(prefix) => return Ok(Some(VersionEntry::CommonPrefix(prefix.into()))),
        };
        let key = Key::parse(found.name.as_str());
        let key = key.map_err(|error| BackendError::internal("a key that was listed is none", error))?;
        let (version_id, is_latest) = (found.id(), found.is_latest);
        if found.is_marker {
            return Ok(Some(VersionEntry::DeleteMarker(DeleteMarker {
                key,
                version_id,
                last_modified: last_modified(&found.meta),
                is_latest,
            })));
        }
        let info = match self.told_by_listing(&key, &found.meta) {
            Some(info) => info,
            None => {
                let place = self.place(bucket, &key)?;
                let Stated::Object(meta) = self.store.stat_version(&place, Some(&version_id)).await? else {
                    return Ok(None);
                };
                self.plain(place, key, *meta).await?.info
            }
        };
        Ok(Some(VersionEntry::Object {
            info: ObjectInfo {
                version_id: Some(version_id),
                ..info
            },
            is_latest,
        }))
    }
}

/// What is known of the order of a key's versions, with what was met of them since, from the newest on. Nothing comes
/// but as the newest, and so the order of any two stays.
fn with_walk(known: &[VersionId], walked: Vec<VersionId>) -> Vec<VersionId> {
    let were_known: HashSet<&VersionId> = known.iter().collect();
    let met: HashSet<VersionId> = walked.iter().cloned().collect();
    let mut all = Vec::with_capacity(known.len() + walked.len());
    let mut walked = walked.into_iter().peekable();
    while let Some(new) = walked.next_if(|id| !were_known.contains(id)) {
        all.push(new);
    }
    for id in known {
        if met.contains(id) {
            // Up to where both are at the same one.
            all.extend(walked.by_ref().take_while(|next| next != id));
        }
        all.push(id.clone());
    }
    all.extend(walked);
    all
}

/// By its key, and not by its path.
fn named(found: FoundVersion, key: &str) -> FoundVersion {
    FoundVersion {
        name: key.to_owned(),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opendal::store_versions::tests::found;

    fn ids(text: &str) -> Vec<VersionId> {
        let ids = text.chars().map(|id| VersionId::parse(id.to_string()).unwrap());
        ids.collect()
    }

    #[test]
    fn what_is_known_of_an_order_is_kept() {
        for (known, walked, together) in [
            ("", "cba", "cba"),
            ("cba", "", "cba"),
            ("cba", "edcba", "edcba"),
            // The walk need not go as deep, nor meet what has gone since.
            ("cba", "ed", "edcba"),
            ("dcba", "eb", "edcba"),
            ("dc", "ecba", "edcba"),
            // Something of the middle was not looked at before.
            ("dba", "edcb", "edcba"),
        ] {
            assert_eq!(with_walk(&ids(known), ids(walked)), ids(together), "{known} {walked}");
        }
    }

    #[test]
    fn what_has_come_since_is_newer_than_what_was_in_order() {
        let order = ids("cmba");
        let group = |objects: &[&str], markers: &[&str]| Group {
            is_prefix: false,
            objects: objects.iter().map(|id| found(id, 1, false, false)).collect(),
            markers: markers.iter().map(|id| found(id, 1, true, false)).collect(),
        };
        let by = |objects: &[&str], markers: &[&str]| -> Option<String> {
            let all = group(objects, markers).by(&order)?;
            Some(all.iter().map(|found| found.id().to_string()).collect())
        };
        assert_eq!(by(&["c", "b", "a"], &["m"]).as_deref(), Some("cmba"));
        // Some have gone, and of one kind others have come.
        assert_eq!(by(&["e", "d", "a"], &["m"]).as_deref(), Some("edma"));
        assert_eq!(by(&["c"], &["n", "m"]).as_deref(), Some("ncm"));
        // How these lie, it does not say.
        assert_eq!(by(&["d", "c"], &["n", "m"]), None);
        assert_eq!(by(&["c", "x", "a"], &["m"]), None);
    }
}
