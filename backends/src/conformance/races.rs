//! Many at once: one winner, and no reader that sees half of anything.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Barrier, task::JoinHandle};

use super::{
    ScriptedBody, Subject,
    subject::{if_absent, if_match, if_present, noise, part_number},
};
use crate::{BackendError, ChecksumAlgorithm, ObjectInfo, PutObject, WriteCondition};

const WRITERS: usize = 16;

/// What the `i`th of some writers writes: each another length.
fn bytes_of(i: usize) -> bytes::Bytes {
    noise(1000 + i * 777, i as u64 + 1)
}

fn writers(s: &Subject, condition: &WriteCondition) -> Vec<JoinHandle<Result<ObjectInfo, BackendError>>> {
    let barrier = Arc::new(Barrier::new(WRITERS));
    let writer = |i| {
        let request = PutObject {
            condition: condition.clone(),
            ..s.put_request("key")
        };
        let (s, barrier) = (s.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            s.put_object(request, ScriptedBody::good(bytes_of(i), 500, ChecksumAlgorithm::Crc32))
                .await
        })
    };
    (0..WRITERS).map(writer).collect()
}

/// Waits for all and gives the winners; the losers have to be refused as losers are.
async fn winners(tasks: Vec<JoinHandle<Result<ObjectInfo, BackendError>>>) -> Vec<ObjectInfo> {
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(info) => winners.push(info),
            Err(BackendError::PreconditionFailed | BackendError::Conflict) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    winners
}

pub async fn of_racing_creators_one_wins(s: Subject) {
    if !s.capabilities(Some(&s.bucket)).conditional_writes {
        return;
    }
    for _ in 0..4 {
        let winners = winners(writers(&s, &if_absent())).await;
        assert_eq!(winners.len(), 1);
        assert_eq!(s.info("key").await, winners[0]);
        s.get("key").await.unwrap();
        s.delete("key").await;
    }
}

pub async fn of_racing_swaps_from_one_etag_one_wins(s: Subject) {
    if !s.capabilities(Some(&s.bucket)).conditional_writes {
        return;
    }
    let mut current = s.put("key", "start").await;
    for round in 0..4 {
        let winners = winners(writers(&s, &if_match(&[&current.etag]))).await;
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(s.info("key").await, winners[0]);
        s.get("key").await.unwrap();
        current = s.put("key", format!("round {round}")).await;
    }
}

pub async fn of_racing_deletes_one_finds_the_object(s: Subject) {
    let conditional = s.capabilities(Some(&s.bucket)).conditional_deletes;
    s.put("key", "x").await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            let s = s.clone();
            let condition = if conditional {
                if_present()
            } else {
                WriteCondition::default()
            };
            tokio::spawn(async move { s.delete_if(condition, "key").await })
        })
        .collect();
    let mut found = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(outcome) => found += usize::from(outcome.existed),
            Err(BackendError::NoSuchKey | BackendError::Conflict) if conditional => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(found, 1);
    assert!(s.get("key").await.is_none());
}

pub async fn racing_writes_leave_one_of_them_whole(s: Subject) {
    let tasks = writers(&s, &WriteCondition::default());
    let all = winners(tasks).await;
    assert_eq!(all.len(), WRITERS, "none had a condition to fail");
    let last = s.info("key").await;
    assert!(all.contains(&last));
    s.get("key").await.unwrap();
    assert_eq!(s.all_keys().await, ["key"]);
}

pub async fn readers_see_whole_objects_while_they_are_replaced(s: Subject) {
    s.put("key", bytes_of(0)).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (s, done) = (s.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut reads = 0;
                while !done.load(Ordering::SeqCst) || reads == 0 {
                    // `get` compares size and ETag with the bytes.
                    assert!(s.get("key").await.is_some(), "an object vanished while it was replaced");
                    assert_eq!(s.all_keys().await, ["key"]);
                    reads += 1;
                }
            })
        })
        .collect();
    for i in 0..64 {
        s.put("key", bytes_of(i % WRITERS)).await;
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

pub async fn a_key_and_those_below_it_can_be_written_at_once(s: Subject) {
    let keys = ["a", "a/", "a/b", "a/b/", "a/b/c", "a//c", "A", "A/b"].map(str::to_owned);
    let mut sorted = keys.to_vec();
    for (at, key) in keys.iter().enumerate().rev() {
        if !s.holds(key).await {
            sorted.remove(at);
        }
    }
    sorted.sort_unstable();
    for round in 0..8 {
        let tasks: Vec<_> = sorted
            .iter()
            .cloned()
            .map(|key| {
                let s = s.clone();
                tokio::spawn(async move { s.put(&key, format!("{key} in round {round}")).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(s.all_keys().await, sorted);
        for key in &sorted {
            assert_eq!(s.get(key).await.unwrap(), format!("{key} in round {round}"));
        }
        let tasks: Vec<_> = sorted
            .iter()
            .cloned()
            .map(|key| {
                let s = s.clone();
                tokio::spawn(async move { s.delete(&key).await })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().existed);
        }
        assert!(s.all_keys().await.is_empty());
    }
}

pub async fn a_write_beside_the_deletion_of_its_last_neighbour_is_kept(s: Subject) {
    for round in 0..32 {
        s.put("dir/sub/old", "old").await;
        let (writer, deleter) = (s.clone(), s.clone());
        let put = tokio::spawn(async move { writer.put("dir/sub/new", format!("{round}")).await });
        let delete = tokio::spawn(async move { deleter.delete("dir/sub/old").await });
        put.await.unwrap();
        assert!(delete.await.unwrap().existed);
        assert_eq!(s.all_keys().await, ["dir/sub/new"]);
        assert_eq!(s.get("dir/sub/new").await.unwrap(), format!("{round}"));
        s.delete("dir/sub/new").await;
    }
}

pub async fn parts_can_come_at_once(s: Subject) {
    let upload = s.upload("key").await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|i| {
            let (s, upload) = (s.clone(), upload.clone());
            tokio::spawn(async move { s.part(&upload, i as u16 + 1, bytes_of(i)).await })
        })
        .collect();
    let mut parts = Vec::new();
    for task in tasks {
        parts.push(task.await.unwrap());
    }
    let info = s.complete(&upload, parts).await.unwrap();
    let whole: Vec<u8> = (0..WRITERS).flat_map(bytes_of).collect();
    assert_eq!(info.size, whole.len() as u64);
    assert!(s.get("key").await.unwrap() == whole);
}

pub async fn racing_uploads_of_one_part_leave_one_of_them_whole(s: Subject) {
    let upload = s.upload("key").await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|i| {
            let (s, upload) = (s.clone(), upload.clone());
            let body = ScriptedBody::good(bytes_of(i), 400, ChecksumAlgorithm::Crc64Nvme);
            tokio::spawn(async move { s.upload_part(&upload, part_number(1), body).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let page = s
        .list_parts(crate::ListParts {
            upload: upload.clone(),
            part_number_marker: 0,
            max_parts: 10,
        })
        .await
        .unwrap();
    let [part] = &page.parts[..] else { panic!("{page:?}") };
    s.complete(&upload, vec![super::completed(part)]).await.unwrap();
    let bytes = s.get("key").await.unwrap();
    let winner = (0..WRITERS).find(|i| bytes == bytes_of(*i)).expect("one of them");
    assert_eq!(part.etag, super::subject::etag_of(&bytes_of(winner)));
}

pub async fn of_racing_completes_one_does_the_work(s: Subject) {
    let upload = s.upload("key").await;
    let parts = vec![
        s.part(&upload, 1, bytes_of(1)).await,
        s.part(&upload, 2, bytes_of(2)).await,
    ];
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (s, request) = (s.clone(), s.complete_request(&upload, parts.clone()));
            tokio::spawn(async move { s.complete_multipart_upload(request).await })
        })
        .collect();
    let answers = winners(tasks).await;
    let made = s.info("key").await;
    assert!(!answers.is_empty());
    assert!(answers.iter().all(|info| *info == made), "{answers:?}");
    assert!(s.get("key").await.unwrap() == [bytes_of(1), bytes_of(2)].concat());
}

pub async fn of_complete_and_abort_one_wins(s: Subject) {
    for round in 0..16 {
        let key = format!("key-{round}");
        let upload = s.upload(&key).await;
        let parts = vec![s.part(&upload, 1, bytes_of(round)).await];
        let complete = {
            let (s, request) = (s.clone(), s.complete_request(&upload, parts));
            tokio::spawn(async move { s.complete_multipart_upload(request).await })
        };
        let abort = {
            let (s, upload) = (s.clone(), upload.clone());
            tokio::spawn(async move { s.abort_multipart_upload(&upload).await })
        };
        match (complete.await.unwrap(), abort.await.unwrap()) {
            (Ok(_), Err(BackendError::NoSuchUpload | BackendError::Conflict)) => {
                assert!(s.get(&key).await.unwrap() == bytes_of(round));
            }
            (Err(BackendError::NoSuchUpload | BackendError::Conflict), Ok(())) => {
                assert!(s.get(&key).await.is_none());
            }
            other => panic!("{other:?}"),
        }
        assert_refused!(s.head_multipart_upload(&upload).await, BackendError::NoSuchUpload);
    }
}
