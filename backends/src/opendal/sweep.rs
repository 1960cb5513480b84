//! What crashes leave, and uploads that nobody goes on with. Nothing of a write under way is touched: only what is as
//! old as no write gets, and what nothing names.

use std::{collections::HashSet, panic::AssertUnwindSafe, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::task::JoinHandle;

use super::{
    Core, DEFAULT_ABANDONED_UPLOAD_AGE, StoreLayout, blob,
    bucket::MAX_RECORD_BYTES,
    history::Target,
    key::{StoreDir, StoreKey},
    record::{Kind, Owner, Record},
    store::Precondition,
};
use crate::{BackendError, BucketName, Key, Stamp, Timestamp, UploadId, UploadRef};

/// Between two looks.
const INTERVAL: Duration = Duration::from_hours(6);
/// Before the first: gateways that start again and again have other work, and those that start each day sweep too.
const FIRST: Duration = Duration::from_mins(15);
/// No write is under way for so long: nothing younger is touched.
const LEAST_AGE: Duration = Duration::from_hours(24);
/// So many versions of a key are looked at at once.
const KEPT: usize = 100;
/// So many blobs are remembered as those of one key.
const MAX_KNOWN: usize = 100_000;

/// How old is what the sweeper touches, where uploads are abandoned at that age, if at any.
pub(super) fn least_age(abandoned: Option<Duration>) -> Duration {
    abandoned.unwrap_or(DEFAULT_ABANDONED_UPLOAD_AGE).max(LEAST_AGE)
}

impl Core {
    pub(super) fn sweep_now_and_then(self, age: Option<Duration>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut pause = FIRST;
            loop {
                tokio::time::sleep(pause).await;
                pause = INTERVAL;
                // No adapter's panic ends it for good.
                let swept = AssertUnwindSafe(self.sweep(age.map(|age| age.max(LEAST_AGE))));
                let Ok(swept) = swept.catch_unwind().await else {
                    tracing::error!("looking for what is to be swept has panicked; it is tried again");
                    continue;
                };
                match swept {
                    Ok(0) => {}
                    Ok(swept) => tracing::info!(swept, "what crashes and abandoned uploads had left is removed"),
                    Err(error) => tracing::warn!(%error, "the store could not be swept; it is tried again"),
                }
            }
        })
    }

    /// Uploads are abandoned at that age, if at any.
    pub(super) async fn sweep(&self, age: Option<Duration>) -> Result<usize, BackendError> {
        let now = self.clock.now().unix_nanos();
        let ago = |age: Duration| {
            let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            Timestamp::from_unix_nanos(now.saturating_sub(nanos))
        };
        let before = ago(age.unwrap_or(DEFAULT_ABANDONED_UPLOAD_AGE));
        // Each for itself: what fails in one is no reason to leave the others.
        let swept = [
            self.sweep_uploads(age.map(ago), ago(LEAST_AGE)).await,
            self.sweep_parts(before).await,
            self.sweep_tombstones(before).await,
            self.sweep_probes(before).await,
            self.sweep_asides(before).await,
            self.sweep_sides(before).await,
            // Last: to find who names a blob can take long.
            self.sweep_blobs(before).await,
        ];
        swept.into_iter().sum()
    }

    /// Ends uploads without activity since `abandoned`, and removes those that were ended before `ended`.
    async fn sweep_uploads(&self, abandoned: Option<Timestamp>, ended: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut buckets = self.store.list(&StoreDir::all_uploads(), "", false, None, None);
        while let Some(found) = buckets.next().await? {
            let name = found.name.trim_end_matches('/').to_owned();
            let Ok(bucket) = BucketName::parse(name) else { continue };
            let mut uploads = self.store.list(&StoreDir::uploads(&bucket), "", false, None, None);
            while let Some(found) = uploads.next().await? {
                let Ok(id) = UploadId::parse(found.name) else { continue };
                match self.sweep_upload(&bucket, &id, abandoned, ended).await {
                    Ok(did) => swept += usize::from(did),
                    Err(error) => tracing::warn!(%bucket, upload = %id, %error, "an upload is left to the next sweep"),
                }
            }
        }
        Ok(swept)
    }

    /// Whether there was anything to do.
    async fn sweep_upload(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        abandoned: Option<Timestamp>,
        ended: Timestamp,
    ) -> Result<bool, BackendError> {
        let _upload = self.locks.upload(id).await;
        let Some(record) = self.recorded_upload(bucket, id).await? else {
            return Ok(false);
        };
        if let Some(since) = record.ended {
            let is_old = Timestamp::from_unix_nanos(since) <= ended;
            if is_old {
                self.remove_ended(bucket, &record).await?;
            }
            return Ok(is_old);
        }
        let (Some(abandoned), Ok(key)) = (abandoned, Key::parse(record.key.clone())) else {
            return Ok(false);
        };
        let upload = UploadRef {
            bucket: bucket.clone(),
            key,
            upload_id: id.clone(),
        };
        let begun = Timestamp::from_unix_nanos(record.initiated);
        let is_old = self.last_activity(&upload, begun).await? <= abandoned;
        if is_old {
            self.end_upload(bucket, &record).await?;
        }
        Ok(is_old)
    }

    /// Parts whose upload is gone: whoever removed it did not come to its end.
    async fn sweep_parts(&self, before: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut buckets = self.store.list(&StoreDir::all_parts(), "", false, None, None);
        while let Some(found) = buckets.next().await? {
            let name = found.name.trim_end_matches('/').to_owned();
            let Ok(bucket) = BucketName::parse(name) else { continue };
            let mut uploads = self.store.list(&StoreDir::bucket_parts(&bucket), "", false, None, None);
            while let Some(found) = uploads.next().await? {
                let Ok(id) = UploadId::parse(found.name.trim_end_matches('/')) else {
                    continue;
                };
                match self.sweep_parts_of(&bucket, &id, before).await {
                    Ok(removed) => swept += removed,
                    Err(error) => tracing::warn!(%bucket, upload = %id, %error, "parts are left to the next sweep"),
                }
            }
        }
        Ok(swept)
    }

    async fn sweep_parts_of(
        &self,
        bucket: &BucketName,
        id: &UploadId,
        before: Timestamp,
    ) -> Result<usize, BackendError> {
        let _upload = self.locks.upload(id).await;
        let newest = self.newest_part(bucket, id).await?;
        if newest.is_none_or(|newest| newest > before) || self.recorded_upload(bucket, id).await?.is_some() {
            return Ok(0);
        }
        // Their blobs may be an object's by now: those are looked at by themselves.
        let numbers = self.part_numbers(bucket, id).await?;
        for number in &numbers {
            let key = StoreKey::part(bucket, id, *number);
            self.store.delete(&key, &Precondition::None).await?;
        }
        Ok(numbers.len())
    }

    async fn sweep_blobs(&self, before: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut known = HashSet::new();
        let mut blobs = self.store.list(&StoreDir::blobs(), "", false, None, None);
        while let Some(found) = blobs.next().await? {
            let Some(id) = Stamp::parse(found.name.trim_end_matches('/')) else {
                continue;
            };
            if id.time() > before {
                continue;
            }
            match self.is_named(id, &mut known).await {
                Ok(false) => {}
                Ok(true) => continue,
                Err(error) => {
                    tracing::warn!(%id, %error, "whether anything consists of this cannot be told, and it stays");
                    continue;
                }
            }
            match blob::remove_all(&self.store, id).await {
                Ok(()) => swept += 1,
                Err(error) => tracing::warn!(%id, ?error, "what nothing consists of is left to the next sweep"),
            }
        }
        Ok(swept)
    }

    /// Tombstones, and heads of keys that have nothing, on which nobody comes late any more.
    async fn sweep_tombstones(&self, before: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut notes = self.store.list(&StoreDir::burials(), "", false, None, None);
        while let Some(found) = notes.next().await? {
            let Some(note) = Stamp::parse(&found.name).filter(|note| note.time() <= before) else {
                continue;
            };
            let place = StoreKey::burial(note);
            let Some((found, _)) = self.store.read_as(&place, MAX_RECORD_BYTES, Record::of_object).await? else {
                continue;
            };
            let buried = found.and_then(|(record, _)| {
                let bucket = BucketName::parse(record.bucket.clone()?).ok()?;
                Some((bucket, Key::parse(record.key.clone()?).ok()?, record))
            });
            let none = Precondition::None;
            // Of a later version, perhaps.
            let Some((bucket, key, record)) = buried else { continue };
            match (record.kind(), record.version()) {
                (Some(Kind::Nothing), _) => {
                    let at = Target {
                        bucket: &bucket,
                        key: &key,
                    };
                    self.drop_empty_head(at, &record).await?;
                }
                (Some(Kind::Tombstone), Some(version)) => {
                    // What lies there is dead, whether or not the tombstone ever came.
                    let dead = StoreKey::history(&bucket, &key, version.stamp);
                    self.store.delete(&dead, &none).await?;
                }
                _ => continue,
            }
            self.store.delete(&place, &none).await?;
            swept += 1;
        }
        Ok(swept)
    }

    /// Whether an object consists of the blob, or a part. `known`: blobs that were found to be named, to be trusted in
    /// that alone.
    async fn is_named(&self, id: Stamp, known: &mut HashSet<Stamp>) -> Result<bool, BackendError> {
        if known.contains(&id) {
            return Ok(true);
        }
        let of = |bytes: &Bytes| Owner::of_bytes(bytes);
        let read = self
            .store
            .read_as(&StoreKey::blob_owner(id), MAX_RECORD_BYTES, of)
            .await?;
        // Written first and removed last: what has none is being removed, or was.
        let Some((owner, _)) = read else { return Ok(false) };
        let parsed = owner.and_then(|owner| {
            let bucket = BucketName::parse(owner.bucket.clone()).ok()?;
            Some((bucket, Key::parse(owner.key.clone()).ok()?, owner.part))
        });
        let Some((bucket, key, part)) = parsed else {
            // Of a later version, perhaps.
            return Ok(true);
        };
        // Also one that another has replaced: who makes an object of the upload may have read of it before.
        if let Some((upload, _)) = part
            && let Ok(upload) = UploadId::parse(upload)
            && self.recorded_upload(&bucket, &upload).await?.is_some()
        {
            return Ok(true);
        }
        let names = |record: &Record| record.blobs.iter().any(|blob| blob.id() == Some(id));
        if self.layout == StoreLayout::Transparent {
            let record = self.current(&bucket, &key).await?.and_then(|current| current.record);
            return Ok(record.is_some_and(|record| names(&record)));
        }
        // The head first: what it stops being lies in the history by then.
        let Some(head) = self.head(&bucket, &key).await? else {
            return Ok(false);
        };
        if names(&head.record) {
            return Ok(true);
        }
        let Some(keeping) = head.keeping() else {
            return Ok(false);
        };
        let at = Target {
            bucket: &bucket,
            key: &key,
        };
        known.clear();
        let mut below = None;
        loop {
            let kept = self.kept_below(at, keeping, below, KEPT).await?;
            for (_, kept) in &kept {
                if names(&kept.record) {
                    known.insert(id);
                }
                let blobs = kept.record.blobs.iter().filter_map(blob::Blob::id);
                known.extend(blobs.take(MAX_KNOWN.saturating_sub(known.len())));
            }
            match kept.last() {
                Some((version, _)) if !known.contains(&id) => below = Some(version.stamp),
                _ => return Ok(known.contains(&id)),
            }
        }
    }

    /// What a start was cut off in.
    async fn sweep_probes(&self, before: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut runs = self.store.list(&StoreDir::probes(), "", false, None, None);
        while let Some(found) = runs.next().await? {
            let run = Stamp::parse(found.name.trim_end_matches('/'));
            let Some(run) = run.filter(|run| run.time() <= before) else {
                continue;
            };
            if self.is_native() {
                swept += self.store.delete_all_in(&StoreDir::probe(run)).await?;
                continue;
            }
            let mut names = self.store.list(&StoreDir::probe(run), "", true, None, None);
            while let Some(found) = names.next().await? {
                // Directories end in a slash, and no such name is given.
                if let Some(key) = StoreKey::left_by_probe(run, &found.name) {
                    self.store.delete(&key, &Precondition::None).await?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    async fn sweep_asides(&self, before: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut asides = self.store.list(&StoreDir::asides(), "", false, None, None);
        while let Some(found) = asides.next().await? {
            if let Some(id) = Stamp::parse(&found.name).filter(|id| id.time() <= before) {
                self.store.delete(&StoreKey::aside(id), &Precondition::None).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    async fn sweep_sides(&self, before: Timestamp) -> Result<usize, BackendError> {
        let mut swept = 0;
        let mut known = HashSet::new();
        let mut sides = self.store.list(&StoreDir::sides(), "", false, None, None);
        while let Some(found) = sides.next().await? {
            let Some(nonce) = Stamp::parse(&found.name).filter(|nonce| nonce.time() <= before) else {
                continue;
            };
            let Some(side) = self.side(nonce).await? else { continue };
            let named = side.bucket.clone().and_then(|bucket| BucketName::parse(bucket).ok());
            let named = named.zip(side.key.clone().and_then(|key| Key::parse(key).ok()));
            let Some((bucket, key)) = named else { continue };
            let is_named = if self.is_native() {
                self.is_side_of_version(&bucket, &key, nonce, &mut known).await
            } else {
                let current = self.current(&bucket, &key).await;
                current.map(|current| {
                    let record = current.and_then(|current| current.record);
                    record.is_some_and(|record| record.nonce == side.nonce)
                })
            };
            let is_named = match is_named {
                Ok(is_named) => is_named,
                Err(error) => {
                    tracing::warn!(%nonce, %error, "whether anything has these attributes cannot be told, and they stay");
                    continue;
                }
            };
            if !is_named {
                self.store.delete(&StoreKey::side(nonce), &Precondition::None).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}
