//! The versions of a key: what becomes of them with each write.

use super::{Bucket, Object};
use crate::{
    BackendError, CurrentVersion, DeleteMarker, DeleteObject, DeleteObjectOutcome, DeletePlan, Displaced, Key,
    KeyState, ObjectInfo, ObjectRef, Stamp, Timestamp, Version, VersionClock, VersionEntry, VersionId, WriteCondition,
    WritePlan,
};

/// An object or a delete marker.
pub(super) struct Record {
    /// `None`: written where versioning was never on.
    pub(super) version: Option<Version>,
    /// `None` for a delete marker.
    pub(super) object: Option<Object>,
    pub(super) last_modified: Timestamp,
}

/// Where the versions after the one called `id` begin.
pub(super) fn position_after(records: &[Record], id: &VersionId) -> usize {
    match id.stamp() {
        Some(stamp) => records.partition_point(|record| record.stamp() >= stamp),
        None => records.iter().position(Record::is_null).map_or(0, |at| at + 1),
    }
}

impl Record {
    pub(super) fn is_null(&self) -> bool {
        self.version.is_none_or(|version| version.null)
    }

    pub(super) fn id(&self) -> VersionId {
        self.version.map_or_else(VersionId::null, Version::id)
    }

    pub(super) fn stamp(&self) -> Stamp {
        let unversioned = || Stamp::new(self.last_modified, 0);
        self.version.map_or_else(unversioned, |version| version.stamp)
    }

    pub(super) fn to_entry(&self, key: &Key, is_latest: bool) -> VersionEntry {
        match &self.object {
            Some(object) => VersionEntry::Object {
                info: ObjectInfo {
                    version_id: Some(self.id()),
                    ..object.info.clone()
                },
                is_latest,
            },
            None => VersionEntry::DeleteMarker(DeleteMarker {
                key: key.clone(),
                version_id: self.id(),
                last_modified: self.last_modified,
                is_latest,
            }),
        }
    }
}

impl Bucket {
    pub(super) fn current(&self, key: &Key) -> Option<&Object> {
        self.versions.get(key)?.first()?.object.as_ref()
    }

    /// What was written without versioning is the version `null` once there is versioning.
    pub(super) fn info_of(&self, object: &Object) -> ObjectInfo {
        let mut info = object.info.clone();
        if self.info.versioning.is_some() {
            info.version_id.get_or_insert_with(VersionId::null);
        }
        info
    }

    pub(super) fn object(&self, object: &ObjectRef) -> Result<&Object, BackendError> {
        let records = self.versions.get(&object.key).map_or(&[][..], Vec::as_slice);
        let found = match &object.version_id {
            None => records.first().ok_or(BackendError::NoSuchKey),
            Some(id) => {
                let named = records.iter().find(|record| record.id() == *id);
                named.ok_or(BackendError::NoSuchVersion)
            }
        }?;
        found.object.as_ref().ok_or_else(|| BackendError::DeleteMarker {
            version_id: found.id(),
            last_modified: found.last_modified,
        })
    }

    fn state<'a>(&self, records: &'a [Record]) -> KeyState<'a> {
        let current = records.first().filter(|record| record.object.is_some());
        let kept = records.get(usize::from(current.is_some())..).unwrap_or_default();
        KeyState {
            versioning: self.info.versioning,
            current: current.and_then(|record| {
                Some(CurrentVersion {
                    etag: &record.object.as_ref()?.info.etag,
                    version: record.version,
                    stamp: record.stamp(),
                })
            }),
            newest_kept: kept.first().map(Record::stamp),
            keeps_null: kept.iter().any(Record::is_null),
        }
    }

    fn records(&self, key: &Key) -> &[Record] {
        self.versions.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn plan(
        &self,
        key: &Key,
        condition: &WriteCondition,
        versions: Option<&VersionClock>,
    ) -> Result<WritePlan, BackendError> {
        let stamp = versions.map(VersionClock::stamp).transpose()?;
        self.state(self.records(key)).write(condition, stamp)
    }

    /// The one step of every write.
    pub(super) fn commit(&mut self, plan: WritePlan, mut object: Object) -> ObjectInfo {
        object.info.version_id = plan.version.map(Version::id);
        let info = object.info.clone();
        let record = Record {
            version: plan.version,
            last_modified: info.last_modified,
            object: Some(object),
        };
        self.push(&info.key, record, plan.displaced, plan.drops_kept_null);
        info
    }

    /// Puts a record on top of the others.
    fn push(&mut self, key: &Key, record: Record, displaced: Displaced, drops_kept_null: bool) {
        let records = self.versions.entry(key.clone()).or_default();
        match displaced {
            Displaced::Nothing => {}
            Displaced::Dropped => {
                records.remove(0);
            }
            Displaced::Kept(version) => {
                records[0].version = Some(version);
                if let Some(object) = &mut records[0].object {
                    object.info.version_id = Some(version.id());
                }
            }
        }
        if drops_kept_null {
            records.retain(|record| !record.is_null());
        }
        records.insert(0, record);
    }

    pub(super) fn delete_current(
        &mut self,
        request: &DeleteObject,
        now: Timestamp,
    ) -> Result<DeleteObjectOutcome, BackendError> {
        let key = &request.object.key;
        let stamp = request.versions.as_ref().map(VersionClock::stamp).transpose()?;
        let state = self.state(self.records(key));
        let existed = state.current.is_some();
        match state.delete(&request.condition, stamp, request.mark_missing)? {
            DeletePlan::Nothing => Ok(DeleteObjectOutcome::default()),
            DeletePlan::Remove => {
                self.remove(key, 0);
                Ok(DeleteObjectOutcome {
                    existed,
                    ..DeleteObjectOutcome::default()
                })
            }
            DeletePlan::Mark {
                marker,
                displaced,
                drops_kept_null,
            } => {
                let record = Record {
                    version: Some(marker),
                    object: None,
                    last_modified: now,
                };
                self.push(key, record, displaced, drops_kept_null);
                Ok(DeleteObjectOutcome {
                    existed,
                    version_id: Some(marker.id()),
                    delete_marker: true,
                })
            }
        }
    }

    pub(super) fn delete_version(
        &mut self,
        key: &Key,
        id: &VersionId,
        condition: &WriteCondition,
    ) -> Result<DeleteObjectOutcome, BackendError> {
        let records = self.records(key);
        let at = records.iter().position(|record| record.id() == *id);
        let object = at.and_then(|at| records[at].object.as_ref());
        condition.judge(object.map(|object| &object.info.etag))?;
        condition.judge_loss(at.is_some())?;
        let Some(at) = at else {
            return Ok(DeleteObjectOutcome::default());
        };
        let delete_marker = object.is_none();
        // In a bucket that never had versioning there is nothing to be told of one.
        let version_id = self.info.versioning.map(|_| id.clone());
        self.remove(key, at);
        Ok(DeleteObjectOutcome {
            existed: true,
            version_id,
            delete_marker,
        })
    }

    fn remove(&mut self, key: &Key, at: usize) {
        if let Some(records) = self.versions.get_mut(key) {
            records.remove(at);
            if records.is_empty() {
                self.versions.remove(key);
            }
        }
    }
}
