//! Every decision, in every state that it can meet.

use super::*;
use crate::{ETag, IfMatch, Timestamp, Version, VersioningStatus, WriteCondition};

fn stamp(nanos: i64) -> Stamp {
    Stamp::new(Timestamp::from_unix_nanos(nanos), 7)
}

fn version(nanos: i64) -> Version {
    Version {
        stamp: stamp(nanos),
        null: false,
    }
}

fn null(nanos: i64) -> Version {
    Version {
        stamp: stamp(nanos),
        null: true,
    }
}

const ENABLED: Option<VersioningStatus> = Some(VersioningStatus::Enabled);
const SUSPENDED: Option<VersioningStatus> = Some(VersioningStatus::Suspended);

/// A key with this object, unless `None`, over what is kept.
struct Case {
    etag: ETag,
    versioning: Option<VersioningStatus>,
    current: Option<Option<Version>>,
    newest_kept: Option<i64>,
    keeps_null: bool,
}

impl Case {
    fn new(versioning: Option<VersioningStatus>, current: Option<Option<Version>>) -> Self {
        Self {
            etag: ETag::parse("tag").unwrap(),
            versioning,
            current,
            newest_kept: None,
            keeps_null: false,
        }
    }

    fn over(self, nanos: i64, keeps_null: bool) -> Self {
        Self {
            newest_kept: Some(nanos),
            keeps_null,
            ..self
        }
    }

    fn state(&self) -> KeyState<'_> {
        KeyState {
            versioning: self.versioning,
            current: self.current.map(|version| CurrentVersion {
                etag: &self.etag,
                version,
                stamp: stamp(10),
            }),
            newest_kept: self.newest_kept.map(stamp),
            keeps_null: self.keeps_null,
        }
    }

    fn write(&self) -> (Option<Version>, Displaced, bool) {
        let plan = self
            .state()
            .write(&WriteCondition::default(), Some(stamp(100)))
            .unwrap();
        (plan.version, plan.displaced, plan.drops_kept_null)
    }

    fn delete(&self, mark_missing: bool) -> DeletePlan {
        let none = WriteCondition::default();
        self.state().delete(&none, Some(stamp(100)), mark_missing).unwrap()
    }

    /// Whether a requester who may not destroy is refused: a write, a delete by name.
    fn refuses_loss(&self) -> (bool, bool) {
        let careful = WriteCondition {
            keep_all: true,
            ..WriteCondition::default()
        };
        let refused = |outcome: Result<(), BackendError>| match outcome {
            Ok(()) => false,
            Err(BackendError::WouldDestroy) => true,
            Err(other) => panic!("{other:?}"),
        };
        let stamp = Some(stamp(100));
        (
            refused(self.state().write(&careful, stamp).map(drop)),
            refused(self.state().delete(&careful, stamp, false).map(drop)),
        )
    }
}

#[test]
fn without_versioning_what_is_replaced_is_gone() {
    use Displaced::*;
    let absent = Case::new(None, None);
    assert_eq!(absent.write(), (None, Nothing, false));
    assert_eq!(absent.delete(true), DeletePlan::Nothing);
    assert_eq!(absent.refuses_loss(), (false, false));
    let there = Case::new(None, Some(None));
    assert_eq!(there.write(), (None, Dropped, false));
    assert_eq!(there.delete(false), DeletePlan::Remove);
    assert_eq!(there.refuses_loss(), (true, true));
}

#[test]
fn a_write_that_knows_no_versions_passes_over_the_status() {
    let there = Case::new(ENABLED, Some(Some(version(5))));
    let plan = there.state().write(&WriteCondition::default(), None).unwrap();
    assert_eq!((plan.version, plan.displaced), (None, Displaced::Dropped));
    let plan = there.state().delete(&WriteCondition::default(), None, true).unwrap();
    assert_eq!(plan, DeletePlan::Remove);
}

#[test]
fn enabled_keeps_everything() {
    use Displaced::*;
    assert_eq!(Case::new(ENABLED, None).write(), (Some(version(100)), Nothing, false));
    let there = Case::new(ENABLED, Some(Some(version(5))));
    assert_eq!(there.write(), (Some(version(100)), Kept(version(5)), false));
    assert_eq!(there.refuses_loss(), (false, false));
    // One from before, or a foreign one, is null, and lies on top of what is kept.
    let older = Case::new(ENABLED, Some(None));
    assert_eq!(older.write(), (Some(version(100)), Kept(null(10)), false));
    let foreign = Case::new(ENABLED, Some(None)).over(50, false);
    assert_eq!(foreign.write(), (Some(version(100)), Kept(null(51)), false));
    // There is one null at most.
    let second = Case::new(ENABLED, Some(None)).over(50, true);
    assert_eq!(second.write(), (Some(version(100)), Kept(version(51)), false));
    assert_eq!(second.refuses_loss(), (false, false));
}

#[test]
fn suspended_replaces_the_null_version_and_no_other() {
    use Displaced::*;
    let there = Case::new(SUSPENDED, Some(Some(version(5))));
    assert_eq!(there.write(), (Some(null(100)), Kept(version(5)), false));
    assert_eq!(there.refuses_loss(), (false, false));
    let current_null = Case::new(SUSPENDED, Some(Some(null(5))));
    assert_eq!(current_null.write(), (Some(null(100)), Dropped, false));
    assert_eq!(current_null.refuses_loss(), (true, true));
    let kept_null = Case::new(SUSPENDED, Some(Some(version(60)))).over(50, true);
    assert_eq!(kept_null.write(), (Some(null(100)), Kept(version(60)), true));
    assert_eq!(kept_null.refuses_loss(), (true, true));
    let foreign = Case::new(SUSPENDED, Some(None));
    assert_eq!(foreign.write(), (Some(null(100)), Dropped, false));
    // A null marker on top, and nothing current.
    let marked = Case::new(SUSPENDED, None).over(50, true);
    assert_eq!(marked.write(), (Some(null(100)), Nothing, true));
}

#[test]
fn a_new_version_is_newer_than_all_others() {
    let ahead = Case::new(ENABLED, Some(Some(version(900))));
    assert_eq!(ahead.write().0, Some(version(901)));
    let ahead = Case::new(ENABLED, None).over(900, false);
    assert_eq!(ahead.write().0, Some(version(901)));
    let ahead = Case::new(ENABLED, Some(None)).over(900, false);
    assert_eq!(ahead.write(), (Some(version(902)), Displaced::Kept(null(901)), false));
}

#[test]
fn a_delete_by_name_adds_a_marker() {
    let mark = |marker, displaced, drops_kept_null| DeletePlan::Mark {
        marker,
        displaced,
        drops_kept_null,
    };
    let there = Case::new(ENABLED, Some(Some(version(5))));
    assert_eq!(
        there.delete(false),
        mark(version(100), Displaced::Kept(version(5)), false)
    );
    let there = Case::new(SUSPENDED, Some(Some(null(5))));
    assert_eq!(there.delete(false), mark(null(100), Displaced::Dropped, false));
    let there = Case::new(SUSPENDED, Some(Some(version(60)))).over(50, true);
    assert_eq!(there.delete(false), mark(null(100), Displaced::Kept(version(60)), true));
    let marked = Case::new(ENABLED, None).over(50, false);
    assert_eq!(marked.delete(false), DeletePlan::Nothing);
    assert_eq!(marked.delete(true), mark(version(100), Displaced::Nothing, false));
    assert_eq!(marked.refuses_loss(), (false, false));
}

#[test]
fn conditions_are_judged_against_the_current_object() {
    let condition = |if_match, if_none_match| WriteCondition {
        if_match,
        if_none_match,
        keep_all: false,
    };
    let create = condition(None, true);
    let there = Case::new(ENABLED, Some(Some(version(5))));
    let marked = Case::new(ENABLED, None).over(50, false);
    let write = |case: &Case, condition: &WriteCondition| case.state().write(condition, Some(stamp(100)));
    assert!(matches!(write(&there, &create), Err(BackendError::PreconditionFailed)));
    assert!(write(&marked, &create).is_ok(), "a marker counts as nothing");
    let any = condition(Some(IfMatch::Any), false);
    assert!(write(&there, &any).is_ok());
    assert!(matches!(write(&marked, &any), Err(BackendError::NoSuchKey)));
    let delete = marked.state().delete(&any, Some(stamp(100)), true);
    assert!(matches!(delete, Err(BackendError::NoSuchKey)));
}
