//! Conditions, of versions and of delete markers; and who may not destroy anything.

use super::subject::{ENABLED, SUSPENDED, assert_no_suspension, id, keep_all, own};
use crate::{
    BackendError, DeleteObjectOutcome,
    conformance::{
        Subject,
        conditional::conditional,
        subject::{if_absent, if_match, if_present},
    },
};

pub async fn conditions_take_a_marker_for_nothing(s: Subject) {
    let s = s.versioned(ENABLED).await;
    if !conditional(&s).await {
        return;
    }
    let one = s.put("key", "1").await;
    assert_refused!(
        s.put_if(if_absent(), "key", "x").await,
        BackendError::PreconditionFailed
    );
    s.delete("key").await;
    assert_refused!(s.put_if(if_present(), "key", "x").await, BackendError::NoSuchKey);
    assert_refused!(
        s.put_if(if_match(&[&one.etag]), "key", "x").await,
        BackendError::NoSuchKey
    );
    assert_refused!(s.delete_if(if_present(), "key").await, BackendError::NoSuchKey);
    let two = s.put_if(if_absent(), "key", "22").await.unwrap();
    assert_refused!(
        s.put_if(if_match(&[&one.etag]), "key", "x").await,
        BackendError::PreconditionFailed
    );
    s.put_if(if_match(&[&two.etag]), "key", "333").await.unwrap();
    assert_refused!(
        s.delete_if(if_match(&[&two.etag]), "key").await,
        BackendError::PreconditionFailed
    );
    // By id, against that version.
    let refused = s.delete_version_if(if_match(&[&one.etag]), "key", &id(&two)).await;
    assert_refused!(refused, BackendError::PreconditionFailed);
    s.delete_version_if(if_match(&[&two.etag]), "key", &id(&two))
        .await
        .unwrap();
    assert_eq!(s.lines().await, own("key", &[Some(3), None, Some(1)]));
}

pub async fn who_may_not_destroy_can_do_what_is_kept(s: Subject) {
    let careful = |key: &'static str, s: &Subject| {
        let s = s.clone();
        async move { s.put_if(keep_all(), key, "careful").await }
    };
    // A backend that judges no other condition judges this one: it is of what the backend itself keeps.
    let enabled = s.versioned(ENABLED).await;
    careful("key", &enabled).await.unwrap();
    let newest = careful("key", &enabled).await.unwrap();
    let refused = enabled.delete_version_if(keep_all(), "key", &id(&newest)).await;
    assert_refused!(refused, BackendError::WouldDestroy);
    let marker = enabled.delete_careful("key").await.unwrap().version_id.unwrap();
    let refused = enabled.delete_version_if(keep_all(), "key", &marker).await;
    assert_refused!(refused, BackendError::WouldDestroy);
    assert_eq!(enabled.lines().await, own("key", &[None, Some(7), Some(7)]));
    if s.is_always_versioned() {
        return assert_no_suspension(&enabled).await;
    }
    // The null version would be lost, wherever it lies.
    enabled.set_versioning(SUSPENDED).await;
    careful("key", &enabled).await.unwrap();
    assert_refused!(careful("key", &enabled).await, BackendError::WouldDestroy);
    assert_refused!(enabled.delete_careful("key").await, BackendError::WouldDestroy);
    enabled.set_versioning(ENABLED).await;
    careful("key", &enabled).await.unwrap();
    enabled.set_versioning(SUSPENDED).await;
    assert_refused!(careful("key", &enabled).await, BackendError::WouldDestroy);
    assert_eq!(enabled.lines().await.len(), 5);
    // Without versioning it can create, and nothing else.
    let never = Subject::with_versioning(s.backend.clone(), None).await;
    careful("key", &never).await.unwrap();
    assert_refused!(careful("key", &never).await, BackendError::WouldDestroy);
    assert_refused!(never.delete_careful("key").await, BackendError::WouldDestroy);
    assert_eq!(
        never.delete_careful("absent").await.unwrap(),
        DeleteObjectOutcome::default()
    );
    assert_eq!(never.get("key").await.unwrap(), "careful");
}
