//! What S3 says of versions, as pure decisions (S3 User Guide, "How S3 Versioning works").
//!
//! A backend asks in its commit step, with what it finds there, and does what it is told in that same step. So no
//! backend decides what a version is, and no decision is older than the commit that it is for.

use crate::{BackendError, ETag, Stamp, Version, VersioningStatus, WriteCondition};

/// What a commit step finds under a key.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyState<'a> {
    /// Of the bucket, at this moment.
    pub versioning: Option<VersioningStatus>,
    /// The current object. `None` where there is nothing, or the newest version is a delete marker.
    pub current: Option<CurrentVersion<'a>>,
    /// The newest of the versions that are kept beside the current object, delete markers among them.
    pub newest_kept: Option<Stamp>,
    /// One of those is the version `null`.
    pub keeps_null: bool,
}

/// The current object, as far as decisions ask.
#[derive(Debug, Clone, Copy)]
pub struct CurrentVersion<'a> {
    pub etag: &'a ETag,
    /// `None` where it was written without versioning, or by something else than the gateway.
    pub version: Option<Version>,
    /// For an object without a version: the same each time, as long as the object is the same.
    pub stamp: Stamp,
}

/// What becomes of the object that was current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Displaced {
    /// There was none.
    Nothing,
    /// It is gone, its bytes with it.
    Dropped,
    /// It is kept as this version.
    Kept(Version),
}

/// What the commit of a new object does, beside making it current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritePlan {
    /// What the new object is. `None` in a bucket that never had versioning.
    pub version: Option<Version>,
    pub displaced: Displaced,
    /// Of the versions that are kept, the one named `null` goes: the new one has that name.
    pub drops_kept_null: bool,
}

/// What a delete by name does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletePlan {
    /// There is nothing to delete, and nothing is added.
    Nothing,
    /// The object goes.
    Remove,
    /// A delete marker becomes the newest version.
    Mark {
        marker: Version,
        displaced: Displaced,
        drops_kept_null: bool,
    },
}

impl KeyState<'_> {
    /// The version that the current object is. One that has none recorded is `null`, unless a version that is kept has
    /// that name already; and it is newer than all that is kept, for it lies on top.
    pub fn current_version(&self) -> Option<Version> {
        let current = self.current?;
        Some(current.version.unwrap_or_else(|| Version {
            stamp: current.stamp.after(self.newest_kept),
            null: !self.keeps_null,
        }))
    }

    /// Decides on a new object. `stamp` is what it has been prepared with; the plan has that one, or a newer one where
    /// a clock has stepped back or another writer was faster. Without a stamp the write knows nothing of versions.
    pub fn write(&self, condition: &WriteCondition, stamp: Option<Stamp>) -> Result<WritePlan, BackendError> {
        self.judge(condition)?;
        let plan = match self.versioning.zip(stamp) {
            Some((status, stamp)) => self.add(status, stamp),
            None => WritePlan {
                version: None,
                displaced: self.current.map_or(Displaced::Nothing, |_| Displaced::Dropped),
                drops_kept_null: false,
            },
        };
        condition.judge_loss(plan.destroys())?;
        Ok(plan)
    }

    /// Decides on a delete by name. `stamp` is for the marker; `mark_missing`: one is added also where there is no
    /// object.
    pub fn delete(
        &self,
        condition: &WriteCondition,
        stamp: Option<Stamp>,
        mark_missing: bool,
    ) -> Result<DeletePlan, BackendError> {
        self.judge(condition)?;
        let plan = match self.versioning.zip(stamp) {
            Some((status, stamp)) if mark_missing || self.current.is_some() => self.add(status, stamp),
            None if self.current.is_some() => {
                condition.judge_loss(true)?;
                return Ok(DeletePlan::Remove);
            }
            _ => return Ok(DeletePlan::Nothing),
        };
        condition.judge_loss(plan.destroys())?;
        Ok(plan.version.map_or(DeletePlan::Nothing, |marker| DeletePlan::Mark {
            marker,
            displaced: plan.displaced,
            drops_kept_null: plan.drops_kept_null,
        }))
    }

    fn judge(&self, condition: &WriteCondition) -> Result<(), BackendError> {
        condition.judge(self.current.map(|current| current.etag))
    }

    /// A new version on top of all others.
    fn add(&self, status: VersioningStatus, stamp: Stamp) -> WritePlan {
        let null = status == VersioningStatus::Suspended;
        let current = self.current_version();
        let newest = current.map(|current| current.stamp).max(self.newest_kept);
        WritePlan {
            version: Some(Version {
                stamp: stamp.after(newest),
                null,
            }),
            displaced: match current {
                None => Displaced::Nothing,
                Some(current) if null && current.null => Displaced::Dropped,
                Some(current) => Displaced::Kept(current),
            },
            drops_kept_null: null && self.keeps_null,
        }
    }
}

impl WritePlan {
    fn destroys(&self) -> bool {
        self.displaced == Displaced::Dropped || self.drops_kept_null
    }
}
