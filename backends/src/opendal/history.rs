//! The versions that are kept beside a key's head: a record each, which names the same blobs as when it was the head.
//!
//! A record is written before the head stops being that version, and only where there is none; so it does not matter
//! who writes it, how often, or how late. Which of them are there the head says ([`Keeping::keeps`]). What is deleted
//! leaves a tombstone, on which a record that comes late fails; tombstones are swept when nothing can be that late.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Core, Level,
    head::Recorded,
    key::{StoreDir, StoreKey},
    record::{Keeping, Kind, Record, StoredVersion},
    store::{Dress, Precondition, StoreError},
};
use crate::{BackendError, BucketName, Key, Stamp, Version, VersionId};

/// So many records are read at once.
const READS: usize = 16;
/// So many names of a history are held at least, where a store gives them in no order.
const LEAST_NAMES: usize = 100;

/// A key whose versions are in question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) bucket: &'a BucketName,
    pub(super) key: &'a Key,
}

impl Core {
    /// Whether what a commit displaces can be kept.
    pub(super) fn keeps_history(&self) -> bool {
        self.layout == super::StoreLayout::Encoded
    }

    /// The version that lies in the history under this id, if `keeping` says that it is there.
    pub(super) async fn kept(
        &self,
        at: Target<'_>,
        keeping: &Keeping,
        id: &VersionId,
    ) -> Result<Option<(Version, Recorded)>, BackendError> {
        let named = match id.stamp() {
            Some(stamp) => Some(Version { stamp, null: false }),
            None if id.is_null() => keeping.null().map(|stamp| Version { stamp, null: true }),
            None => None,
        };
        match named.filter(|version| keeping.keeps(*version)) {
            Some(version) => Ok(self
                .kept_at(at, version.stamp)
                .await?
                .filter(|(found, _)| *found == version)),
            None => Ok(None),
        }
    }

    /// What lies in the history there, if it is a version.
    pub(super) async fn kept_at(
        &self,
        at: Target<'_>,
        stamp: Stamp,
    ) -> Result<Option<(Version, Recorded)>, BackendError> {
        let place = StoreKey::history(at.bucket, at.key, stamp);
        let found = self.recorded(place, at.key).await?;
        Ok(found.and_then(|found| {
            let version = found.record.version().filter(|version| version.stamp == stamp)?;
            matches!(found.kind, Kind::Object | Kind::DeleteMarker).then_some((version, found))
        }))
    }

    /// The versions that `keeping` says are there, older than `below`, the newest first; at most `max`. Without the bytes
    /// that lie behind their records: a page of them would be much.
    pub(super) async fn kept_below(
        &self,
        at: Target<'_>,
        keeping: &Keeping,
        below: Option<Stamp>,
        max: usize,
    ) -> Result<Vec<(Version, Recorded)>, BackendError> {
        let mut kept = Vec::new();
        let Some(newest) = keeping.newest() else {
            return Ok(kept);
        };
        let mut below = below;
        let room = max.max(LEAST_NAMES);
        while kept.len() < max {
            let stamps = self.history_stamps(at, newest, below, room).await?;
            let was_last = stamps.len() < room;
            below = stamps.last().copied();
            let found = stream::iter(stamps)
                .map(|stamp| self.kept_at(at, stamp))
                .buffered(READS);
            let mut found = std::pin::pin!(found);
            while kept.len() < max
                && let Some(found) = found.try_next().await?
            {
                if let Some((version, mut found)) = found.filter(|(version, _)| keeping.keeps(*version)) {
                    found.inline = Bytes::new();
                    kept.push((version, found));
                }
            }
            if was_last {
                break;
            }
        }
        Ok(kept)
    }

    /// What lies in the history, dead or not, from `newest` down and older than `below`, the newest first.
    async fn history_stamps(
        &self,
        at: Target<'_>,
        newest: Stamp,
        below: Option<Stamp>,
        room: usize,
    ) -> Result<Vec<Stamp>, BackendError> {
        let dir = StoreDir::history(at.bucket, at.key);
        let ordered = self.profile.ordered;
        let start_after = below
            .filter(|_| ordered && self.profile.starts_after)
            .map(|below| StoreKey::history(at.bucket, at.key, below).to_string());
        let mut entries = self.store.list(&dir, "", false, start_after.as_deref(), Some(room));
        let mut stamps = std::collections::BTreeSet::new();
        while let Some(found) = entries.next().await? {
            let stamp = StoreDir::history_stamp(&found.name);
            let Some(stamp) = stamp.filter(|stamp| *stamp <= newest && below.is_none_or(|below| *stamp < below)) else {
                continue;
            };
            stamps.insert(stamp);
            if stamps.len() > room {
                stamps.pop_first();
            }
            if ordered && stamps.len() == room {
                break;
            }
        }
        Ok(stamps.into_iter().rev().collect())
    }

    /// Writes what the head is into the history, as `version`, if nothing lies there. A tombstone there means that the
    /// head is another one by now.
    pub(super) async fn keep(&self, at: Target<'_>, head: &Recorded, version: Version) -> Result<(), BackendError> {
        let place = StoreKey::history(at.bucket, at.key, version.stamp);
        let record = Record {
            version: Some(StoredVersion::from(version)),
            keeping: None,
            ..head.record.clone()
        };
        let absent = if self.level >= Level::CreateIfAbsent {
            Precondition::Absent
        } else {
            Precondition::None
        };
        let written = self
            .store
            .write(&place, record.to_object(&head.inline), Dress::default(), &absent)
            .await;
        match written {
            Ok(_) | Err(StoreError::ConditionFailed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes sure that a version, of which the head says that it is gone, does not come back. Where no other gateway is
    /// at work nobody can come late with it.
    pub(super) async fn bury(&self, at: Target<'_>, stamp: Stamp) -> Result<(), BackendError> {
        let place = StoreKey::history(at.bucket, at.key, stamp);
        let none = Precondition::None;
        if self.level < Level::CompareAndSet {
            return Ok(self.store.delete(&place, &none).await?);
        }
        let note = self.nonce()?;
        let mut tombstone = Record::of_kind(Kind::Tombstone, note, at.bucket, at.key, self.clock.now());
        tombstone.version = Some(StoredVersion::from(Version { stamp, null: false }));
        let tombstone = tombstone.to_object(&[]);
        // By the note the sweeper finds it.
        self.store
            .write(&StoreKey::burial(note), tombstone.clone(), Dress::default(), &none)
            .await?;
        self.store.write(&place, tombstone, Dress::default(), &none).await?;
        Ok(())
    }

    /// Those of which the last write of a head said so; nobody knows whether who wrote it came to do it.
    pub(super) async fn bury_again(&self, at: Target<'_>, before: Option<&Keeping>) -> Result<(), BackendError> {
        for stamp in before.into_iter().flat_map(Keeping::gone) {
            self.bury(at, stamp).await?;
        }
        Ok(())
    }

    /// Removes the version `null` that the last write of the head dropped, its data with it. What fails is left to the
    /// next write of the key, and to the sweeper.
    pub(super) async fn drop_null(&self, at: Target<'_>, stamp: Stamp) {
        let dropped = async {
            let found = self.kept_at(at, stamp).await?;
            self.bury(at, stamp).await?;
            if let Some((_, found)) = found {
                self.drop_data(&found.record).await;
            }
            Ok::<_, BackendError>(())
        };
        if let Err(error) = dropped.await {
            tracing::warn!(%error, "a version that is gone is left to the next write of its key");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{OpendalBackend, OpendalOptions, SystemClock, Versioned, VersioningStatus, conformance::Subject};

    #[tokio::test]
    async fn a_page_of_versions_is_without_their_bytes() {
        let clock = Arc::new(SystemClock);
        let backend = OpendalBackend::open(OpendalOptions::new("memory", clock.clone()))
            .await
            .unwrap();
        let core = backend.core.clone();
        let versioned = Arc::new(Versioned::new(backend, clock).unwrap());
        let s = Subject::with_versioning(versioned, Some(VersioningStatus::Enabled)).await;
        for seed in 0..3 {
            s.put("key", vec![seed; 1000]).await;
        }
        let key = s.key("key");
        let at = Target {
            bucket: &s.bucket,
            key: &key,
        };
        let head = core.head(at.bucket, at.key).await.unwrap().unwrap();
        let kept = core.kept_below(at, head.keeping().unwrap(), None, 10).await.unwrap();
        assert_eq!(kept.len(), 2);
        for (version, kept) in &kept {
            assert_eq!((kept.record.size, kept.inline.len()), (1000, 0));
            let (_, alone) = core.kept_at(at, version.stamp).await.unwrap().unwrap();
            assert_eq!(alone.inline.len(), 1000);
        }
    }
}
