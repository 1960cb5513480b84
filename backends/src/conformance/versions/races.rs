//! Many at once: no version is lost, and none comes twice.

use std::{collections::BTreeSet, sync::Arc};

use super::subject::{ENABLED, id, line, own};
use crate::{
    BackendError, VersionEntry,
    conformance::{
        Subject,
        race::{DirectClient, RaceOptions, race},
        subject::noise,
    },
};

pub async fn racing_writes_are_all_kept(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let tasks: Vec<_> = (0..16_usize)
        .map(|n| {
            let s = s.clone();
            tokio::spawn(async move {
                let bytes = noise(1000 + n % 3, 5);
                (s.put("key", bytes.clone()).await, bytes)
            })
        })
        .collect();
    let mut written = Vec::new();
    for task in tasks {
        written.push(task.await.unwrap());
    }
    let entries = s.entries().await;
    assert_eq!(entries.len(), 16);
    assert_eq!(entries.iter().filter(|entry| line(entry).3).count(), 1);
    for (info, bytes) in &written {
        assert!(s.get_version("key", &id(info)).await == *bytes);
    }
    assert_eq!(Some(&id(&s.info("key").await)), entries[0].version_id());
}

pub async fn racing_deletes_by_name_and_by_id_lose_nothing(s: Subject) {
    let s = s.versioned(ENABLED).await;
    for round in 0..8 {
        let doomed = s.put("dir/key", "doomed").await;
        let kept = s.put("dir/key", format!("kept {round}")).await;
        let writer = {
            let s = s.clone();
            tokio::spawn(async move { s.put("dir/key", "written").await })
        };
        let by_name = {
            let s = s.clone();
            tokio::spawn(async move { s.delete("dir/key").await })
        };
        let by_id: Vec<_> = (0..3)
            .map(|_| {
                let (s, doomed) = (s.clone(), id(&doomed));
                tokio::spawn(async move { s.delete_version("dir/key", &doomed).await })
            })
            .collect();
        let written = writer.await.unwrap();
        let marker = by_name.await.unwrap().version_id.unwrap();
        let mut found = 0;
        for task in by_id {
            found += usize::from(task.await.unwrap().existed);
        }
        assert_eq!(found, 1);
        let entries = s.entries().await;
        let ids: BTreeSet<_> = entries.iter().filter_map(VersionEntry::version_id).cloned().collect();
        assert_eq!(ids.len(), entries.len(), "none is listed twice");
        assert_eq!(entries.len(), 3 * (round + 1));
        for there in [&id(&written), &id(&kept), &marker] {
            assert!(ids.contains(there));
        }
        assert!(!ids.contains(&id(&doomed)));
        let latest: Vec<_> = entries.iter().filter(|entry| line(entry).3).collect();
        assert_eq!(latest.len(), 1);
        match (s.open("dir/key").await, latest[0]) {
            (Ok(open), VersionEntry::Object { info, .. }) => assert_eq!(open.info.version_id, info.version_id),
            (Err(BackendError::DeleteMarker { version_id, .. }), VersionEntry::DeleteMarker(marker)) => {
                assert_eq!(version_id, marker.version_id);
            }
            (open, latest) => panic!("{open:?} is not {latest:?}"),
        }
    }
}

pub async fn of_racing_deletions_of_the_newest_each_finds_the_next(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let mut written = Vec::new();
    for n in 0..12 {
        written.push(s.put("key", format!("{n}")).await);
    }
    let tasks: Vec<_> = written[2..]
        .iter()
        .map(|info| {
            let (s, id) = (s.clone(), id(info));
            tokio::spawn(async move { s.delete_version("key", &id).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().existed);
    }
    assert_eq!(s.info("key").await, written[1]);
    assert_eq!(s.lines().await, own("key", &[Some(1), Some(1)]));
}

pub async fn what_racing_clients_see_can_have_happened(s: Subject) {
    let s = s.versioned(ENABLED).await;
    for seed in 1..=2 {
        let options = RaceOptions {
            clients: 8,
            keys: 4,
            operations: 60,
            seed,
        };
        race(vec![Arc::new(DirectClient(s.clone()))], &options).await;
        for entry in s.entries().await {
            s.delete_version(entry.name(), entry.version_id().unwrap()).await;
        }
    }
}
