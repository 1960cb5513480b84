//! Conditions on writes and deletes, judged in the step that commits.

use super::{
    ScriptedBody, Subject, gate,
    subject::{etag_of, if_absent, if_match, if_present, soon},
};
use crate::{BackendError, BodySummary, ChecksumAlgorithm, CompleteMultipartUpload, PutObject, WriteCondition};

/// Whether the backend judges conditions; one that does not has to say so.
pub(super) async fn conditional(s: &Subject) -> bool {
    let supported = s.capabilities(Some(&s.bucket)).conditional_writes;
    if !supported {
        assert_refused!(
            s.put_if(if_absent(), "key", "x").await,
            BackendError::NotSupported { .. }
        );
        assert_refused!(s.open("key").await, BackendError::NoSuchKey);
    }
    supported
}

pub async fn if_none_match_creates_and_never_replaces(s: Subject) {
    if !conditional(&s).await {
        return;
    }
    let first = s.put_if(if_absent(), "key", "first").await.unwrap();
    assert_refused!(
        s.put_if(if_absent(), "key", "second").await,
        BackendError::PreconditionFailed
    );
    assert_eq!(s.info("key").await, first);
    assert_eq!(s.get("key").await.unwrap(), "first");
    s.delete("key").await;
    s.put_if(if_absent(), "key", "third").await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "third");
}

pub async fn if_match_replaces_only_what_it_names(s: Subject) {
    if !conditional(&s).await {
        return;
    }
    let (one, two) = (etag_of(b"one"), etag_of(b"two"));
    assert_refused!(s.put_if(if_match(&[&one]), "key", "x").await, BackendError::NoSuchKey);
    assert!(s.get("key").await.is_none());
    s.put("key", "one").await;
    assert_refused!(
        s.put_if(if_match(&[&two]), "key", "x").await,
        BackendError::PreconditionFailed
    );
    assert_eq!(s.get("key").await.unwrap(), "one");
    s.put_if(if_match(&[&one]), "key", "two").await.unwrap();
    assert_refused!(
        s.put_if(if_match(&[&one]), "key", "x").await,
        BackendError::PreconditionFailed
    );
    s.put_if(if_match(&[&one, &two]), "key", "three").await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "three");
}

pub async fn if_match_any_replaces_what_is_there(s: Subject) {
    if !conditional(&s).await {
        return;
    }
    assert_refused!(s.put_if(if_present(), "key", "x").await, BackendError::NoSuchKey);
    s.put("key", "one").await;
    s.put_if(if_present(), "key", "two").await.unwrap();
    assert_eq!(s.get("key").await.unwrap(), "two");
}

pub async fn a_condition_is_judged_when_the_body_has_ended(s: Subject) {
    if !conditional(&s).await {
        return;
    }
    let paused = |condition| {
        let (pause, gate) = gate();
        let body = ScriptedBody::new(4)
            .data("late", 2)
            .pause(pause)
            .end(BodySummary::of(b"late", ChecksumAlgorithm::Crc32));
        let request = PutObject {
            condition,
            ..s.put_request("key")
        };
        let writer = s.clone();
        (
            gate,
            tokio::spawn(async move { writer.put_object(request, body).await }),
        )
    };
    let (gate, put) = paused(if_absent());
    soon(gate.reached).await.unwrap();
    let one = soon(s.put("key", "one")).await;
    gate.open.send(()).unwrap();
    assert_refused!(
        put.await.unwrap(),
        BackendError::PreconditionFailed | BackendError::Conflict
    );
    assert_eq!(s.get("key").await.unwrap(), "one");

    let (gate, put) = paused(if_match(&[&one.etag]));
    soon(gate.reached).await.unwrap();
    soon(s.put("key", "two")).await;
    gate.open.send(()).unwrap();
    assert_refused!(
        put.await.unwrap(),
        BackendError::PreconditionFailed | BackendError::Conflict
    );
    assert_eq!(s.get("key").await.unwrap(), "two");

    let (gate, put) = paused(if_present());
    soon(gate.reached).await.unwrap();
    soon(s.delete("key")).await;
    gate.open.send(()).unwrap();
    assert_refused!(put.await.unwrap(), BackendError::NoSuchKey | BackendError::Conflict);
    assert!(s.get("key").await.is_none());
}

pub async fn a_delete_can_be_conditional(s: Subject) {
    let one = s.put("key", "one").await.etag;
    if !s.capabilities(Some(&s.bucket)).conditional_deletes {
        assert_refused!(
            s.delete_if(if_present(), "key").await,
            BackendError::NotSupported { .. }
        );
        assert_eq!(s.get("key").await.unwrap(), "one");
        return;
    }
    let other = etag_of(b"other");
    assert_refused!(
        s.delete_if(if_match(&[&other]), "key").await,
        BackendError::PreconditionFailed
    );
    assert_eq!(s.get("key").await.unwrap(), "one");
    assert!(s.delete_if(if_match(&[&one]), "key").await.unwrap().existed);
    assert!(s.get("key").await.is_none());
    assert_refused!(s.delete_if(if_match(&[&one]), "key").await, BackendError::NoSuchKey);
    assert_refused!(s.delete_if(if_present(), "key").await, BackendError::NoSuchKey);
    s.put("key", "two").await;
    assert!(s.delete_if(if_present(), "key").await.unwrap().existed);
    assert!(s.all_keys().await.is_empty());
}

pub async fn conditions_tell_a_key_from_its_neighbours(s: Subject) {
    if !conditional(&s).await {
        return;
    }
    s.put("a/b", "below").await;
    assert_refused!(s.put_if(if_present(), "a", "x").await, BackendError::NoSuchKey);
    let slash = s.holds("a/").await;
    if slash {
        assert_refused!(s.put_if(if_present(), "a/", "x").await, BackendError::NoSuchKey);
    }
    // A store that takes a directory for an object says so, and writes nothing.
    let above = match s.put_if(if_absent(), "a", "above").await {
        Ok(_) => true,
        Err(BackendError::NotSupported { .. }) => false,
        Err(error) => panic!("{error:?}"),
    };
    s.put_if(if_absent(), "A", "upper").await.unwrap();
    if slash {
        s.put_if(if_absent(), "a/", "slash").await.unwrap();
    }
    let mut keys = vec!["A", "a", "a/", "a/b"];
    keys.retain(|key| (slash || *key != "a/") && (above || *key != "a"));
    assert_eq!(s.all_keys().await, keys);
}

pub async fn who_may_not_destroy_writes_where_nothing_is(s: Subject) {
    let keep_all = WriteCondition {
        keep_all: true,
        ..WriteCondition::default()
    };
    let upload = s.upload("parts").await;
    let part = s.part(&upload, 1, "of one part").await;
    let complete = || CompleteMultipartUpload {
        condition: keep_all.clone(),
        ..s.complete_request(&upload, vec![part.clone()])
    };
    let first = s.put_if(keep_all.clone(), "key", "first").await.unwrap();
    s.put("parts", "there").await;
    if s.head_bucket(&s.bucket).await.unwrap().versioning.is_some() {
        s.put_if(keep_all.clone(), "key", "second").await.unwrap();
        s.complete_multipart_upload(complete()).await.unwrap();
        return;
    }
    let refused = s.put_if(keep_all.clone(), "key", "second").await;
    assert_refused!(refused, BackendError::WouldDestroy);
    assert_eq!(s.info("key").await, first);
    let refused = s.complete_multipart_upload(complete()).await;
    assert_refused!(refused, BackendError::WouldDestroy);
    assert_eq!(s.get("parts").await.unwrap(), "there");
    s.delete("parts").await;
    s.complete_multipart_upload(complete()).await.unwrap();
    assert_eq!(s.get("parts").await.unwrap(), "of one part");
}
