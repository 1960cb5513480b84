//! Whether a store keeps versions by itself, and all that S3 says of them, found out by trying.

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{ATTEMPTS, Answer, Probe, Profile, StoreLevel};
use crate::{
    VersionId,
    opendal::{
        answer::heard,
        key::{StoreDir, StoreKey},
        store::{Precondition, StoreError},
        store_versions::Stated,
    },
};

/// The first is the beginning of the others, in byte order, which is not that of a tree.
fn kept_names(attempt: usize) -> [String; 3] {
    ["kept", "kept-", "kept/a"].map(|name| format!("{attempt}/{name}"))
}

const AFTER: [&str; 4] = ["after", "after-", "after/a", "after0"];

impl Probe<'_> {
    /// Asks again where a request was sent again, for each may have made a version: those that nobody was told of are
    /// not the store's fault. Taken for that, they would close buckets until the next start.
    pub(super) async fn keeps_versions_undisturbed(&self, profile: Profile) -> Answer {
        let mut attempt = 0;
        loop {
            let (kept, answer) = heard(self.keeps_versions(profile, attempt)).await;
            attempt += 1;
            if matches!(kept, Ok(Some(true))) || !answer.repeated || attempt == ATTEMPTS {
                return kept;
            }
        }
    }

    /// Whether the store keeps what is replaced and deleted, and every step by which the gateway goes by that is right.
    async fn keeps_versions(&self, profile: Profile, attempt: usize) -> Answer {
        if !self.store.asks_for_versions() {
            return Ok(None);
        }
        let mut written = Vec::new();
        for name in kept_names(attempt) {
            let mut ids = Vec::new();
            for bytes in [&b"first"[..], b"second"] {
                match self.put(&self.key(&name), bytes, &Precondition::None).await? {
                    // Without versioning there is none, and where it is suspended, it is always the same.
                    Some(id) if !id.is_null() && !ids.contains(&id) => ids.push(id),
                    _ => return Ok(Some(false)),
                }
            }
            written.push((name, ids));
        }
        let (name, ids) = &mut written[0];
        let key = self.key(name);
        let Some(marker) = self.store.mark_deleted(&key, &Precondition::None).await? else {
            return Ok(Some(false));
        };
        ids.push(marker.clone());
        // A delete marker is nothing to who creates.
        let absent = if profile.level >= StoreLevel::CreateIfAbsent {
            Precondition::Absent
        } else {
            Precondition::None
        };
        match self.put(&key, b"third", &absent).await? {
            Some(id) => ids.push(id),
            None => return Ok(Some(false)),
        }
        let ids = ids.clone();
        let newest_first = |(name, ids): &(String, Vec<VersionId>)| -> Vec<_> {
            ids.iter().rev().map(|id| (name.clone(), id.clone())).collect()
        };
        let expected: Vec<_> = written.iter().flat_map(newest_first).collect();
        let right = self
            .gives_versions(&key, &self.key(&written[1].0), &ids[0], &marker)
            .await?
            && self.lists_versions(&expected, &marker).await?
            && self.removes_versions(&key, &ids).await?;
        Ok(Some(right))
    }

    async fn gives_versions(
        &self,
        key: &StoreKey,
        other: &StoreKey,
        first: &VersionId,
        marker: &VersionId,
    ) -> Result<bool, StoreError> {
        let stream = self.store.stream(key, 0..5, None, Some(first)).await?;
        let bytes: Vec<Bytes> = stream.try_collect().await?;
        let old = self.store.stat_version(key, Some(first)).await?;
        let names = matches!(&old, Stated::Object(meta) if meta.size == 5 && meta.version.as_ref() == Some(first));
        let is_marker = matches!(
            self.store.stat_version(key, Some(marker)).await?,
            Stated::DeleteMarker(_)
        );
        // It is of this key alone.
        let elsewhere = self.store.stat_version(other, Some(first)).await?;
        let current = self.store.stat_version(key, None).await?;
        let is_current = matches!(&current, Stated::Object(meta) if meta.version.as_ref() != Some(first));
        Ok(bytes.concat() == b"first" && names && is_marker && matches!(elsewhere, Stated::Nothing) && is_current)
    }

    /// All of them, in order where pages are so small that opendal can tell, whatever the size of a page.
    async fn lists_versions(&self, expected: &[(String, VersionId)], marker: &VersionId) -> Result<bool, StoreError> {
        let dir = StoreDir::probe(self.run);
        for page in [1, 2, 5, 1000] {
            let mut listed = Vec::new();
            let mut latest = Vec::new();
            let mut entries = self.store.list_versions(&dir, &expected[0].0, true, None, page).await?;
            while let Some(found) = entries.next().await? {
                if found.is_latest {
                    latest.push(found.name.clone());
                }
                if found.is_marker != (found.id() == *marker) {
                    return Ok(false);
                }
                let id = found.id();
                listed.push((found.name, id));
                // Whoever tells an end never would be listened to for ever.
                if listed.len() > expected.len() {
                    return Ok(false);
                }
            }
            let mut expected = expected.to_vec();
            if page > 1 {
                expected.sort();
                listed.sort();
            }
            latest.sort();
            let mut names: Vec<String> = expected.iter().map(|(name, _)| name.clone()).collect();
            names.dedup();
            if listed != expected || latest != names {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn versions_start_after(&self) -> Answer {
        let dir = StoreDir::probe(self.run);
        for name in AFTER {
            self.put(&self.key(name), b"x", &Precondition::None).await?;
        }
        // Also after one that is not there. One that is may be told once more.
        for (after, expected) in [("after,", &AFTER[1..]), ("after-", &AFTER[2..])] {
            let start = format!("{}{after}", dir.as_str());
            let mut entries = self.store.list_versions(&dir, AFTER[0], true, Some(&start), 2).await?;
            let mut names = Vec::new();
            while let Some(found) = entries.next().await? {
                names.push(found.name);
            }
            names.retain(|name| name != after);
            // One was sent again.
            names.dedup();
            if names != expected {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// `ids` of `key` are two objects, a delete marker and an object, the oldest first.
    async fn removes_versions(&self, key: &StoreKey, ids: &[VersionId]) -> Result<bool, StoreError> {
        let next = [None, Some(&b"second"[..]), Some(b"first"), None];
        for (id, next) in ids.iter().rev().zip(next) {
            self.store.delete_version(key, id).await?;
            let gone = matches!(self.store.stat_version(key, Some(id)).await?, Stated::Nothing);
            if !gone || self.get(key).await?.as_deref() != next {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn rolls_up(&self) -> Answer {
        let key = self.key("rolled/up");
        self.put(&key, b"x", &Precondition::None).await?;
        self.store.mark_deleted(&key, &Precondition::None).await?;
        let dir = StoreDir::probe(self.run);
        let mut entries = self.store.list(&dir, "rolled", false, None, None);
        Ok(Some(entries.next().await?.is_none()))
    }

    pub(super) async fn names_markers(&self) -> Answer {
        let key = self.key("marked");
        self.put(&key, b"x", &Precondition::None).await?;
        let marker = self.store.mark_deleted(&key, &Precondition::None).await?;
        let stated = self.store.stat_version(&key, None).await?;
        Ok(Some(
            matches!(stated, Stated::DeleteMarker(named) if named.is_some() && named == marker),
        ))
    }
}
