//! P1 and P4 as far as they are of this backend: no litter, whatever ends a write, and nothing lost between writers
//! who share a directory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use t2gate_backends::{
    BackendError, ChecksumAlgorithm, IfMatch, ObjectBody, WriteCondition,
    conformance::{FailingBody, ScriptedBody, gate},
};

use crate::{Tree, crash::litter};

#[tokio::test]
async fn a_failed_body_leaves_the_old_object_and_no_litter() {
    let tree = Tree::new().await;
    tree.put("key", "old").await;
    for size in [10, 100_000, 700_000] {
        for fail_at in [0, size / 2, size] {
            let refused = tree.put_body("key", FailingBody::at(vec![1; size], fail_at)).await;
            assert!(matches!(refused, Err(BackendError::Body(_))));
            assert_eq!(tree.get("key").await.unwrap(), "old");
            assert_eq!((tree.count("staging"), tree.extra_sides(1)), (0, 0));
        }
    }
}

#[tokio::test]
async fn an_object_that_comes_back_to_its_name_leaves_no_directories_behind() {
    let tree = Tree::new().await;
    // Too long for one name with an escape before it, so that has a directory of its own.
    let (key, below) = ("n".repeat(252), format!("{}/a", "n".repeat(252)));
    let nothing = Vec::<String>::new();
    for again in [true, false] {
        tree.put(&key, "first").await;
        tree.put(&below, "below").await;
        tree.delete(&below).await;
        assert_eq!(litter(tree.root.path()), nothing);
        if again {
            tree.put(&key, "second").await;
            assert_eq!(tree.get(&key).await.unwrap(), "second");
            assert_eq!(litter(tree.root.path()), nothing);
        }
        tree.delete(&key).await;
        assert_eq!(litter(tree.root.path()), nothing);
    }
}

#[tokio::test]
async fn a_refused_condition_leaves_no_litter() {
    let tree = Tree::new().await;
    tree.put("key", "old").await;
    let create = WriteCondition {
        if_none_match: true,
        ..WriteCondition::default()
    };
    let refused = tree.put_if(create.clone(), "key", vec![1; 300_000]).await;
    assert!(matches!(refused, Err(BackendError::PreconditionFailed)));
    let upload = tree.upload("key").await;
    let parts = vec![tree.part(&upload, 1, "a").await, tree.part(&upload, 2, "b").await];
    let mut request = tree.complete_request(&upload, parts);
    request.condition = create;
    let refused = tree.complete_multipart_upload(request).await;
    assert!(matches!(refused, Err(BackendError::PreconditionFailed)));
    assert_eq!(tree.get("key").await.unwrap(), "old");
    assert_eq!((tree.count("staging"), tree.extra_sides(1)), (0, 0));
}

#[tokio::test]
async fn a_write_dropped_in_the_middle_leaves_no_litter() {
    let tree = Tree::new().await;
    let bytes = vec![5; 600_000];
    let (pause, at) = gate();
    let body = ScriptedBody::new(600_000).data(bytes, 10_000).pause(pause).fail();
    let subject = tree.subject.clone();
    let writing = tokio::spawn(async move { subject.put_body("key", body).await });
    at.reached.await.unwrap();
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    let mut tries = 0;
    while tree.count("staging") > 0 {
        tries += 1;
        assert!(tries < 3000, "a staging file stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(tree.get("key").await, None);
}

#[tokio::test]
async fn bodies_in_pieces_of_any_size_are_written_in_order() {
    let tree = Tree::new().await;
    let bytes: Vec<u8> = (0..900_001_u32).map(|n| (n % 251) as u8).collect();
    for piece in [1_000, 4_095, 4_096, 65_537, 900_001] {
        let body = ScriptedBody::good(bytes.clone(), piece, ChecksumAlgorithm::Crc32);
        tree.put_body("key", body).await.unwrap();
        assert_eq!(std::fs::read(tree.path("key")).unwrap(), bytes);
    }
    // More slices than one system call takes.
    let small: Vec<u8> = bytes[..200_000].to_vec();
    let body = ScriptedBody::good(small.clone(), 3, ChecksumAlgorithm::Crc32);
    tree.put_body("key", body).await.unwrap();
    assert_eq!(std::fs::read(tree.path("key")).unwrap(), small);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_is_lost_to_the_removal_of_an_empty_directory() {
    let tree = Arc::new(Tree::new().await);
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let tree = Arc::clone(&tree);
            tokio::spawn(async move {
                let key = format!("x/y/z/{worker}");
                for round in 0..60 {
                    tree.put(&key, format!("{round}")).await;
                    assert_eq!(tree.get(&key).await.unwrap(), format!("{round}"));
                    assert!(tree.delete(&key).await.existed);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(!tree.path("x").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_never_misses_an_object_that_changes_its_name() {
    let tree = Arc::new(Tree::new().await);
    tree.put("a", "0").await;
    let (done, mut stop) = tokio::sync::watch::channel(false);
    let reader = {
        let tree = Arc::clone(&tree);
        tokio::spawn(async move {
            let mut reads = 0_u32;
            while !*stop.borrow_and_update() {
                assert!(tree.get("a").await.is_some());
                reads += 1;
            }
            reads
        })
    };
    for round in 0..150 {
        tree.put("a/b", "below").await;
        tree.delete("a/b").await;
        tree.put("a", format!("{round}")).await;
        assert_eq!(tree.get("a").await.unwrap(), format!("{round}"));
    }
    done.send(true).unwrap();
    assert!(reader.await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_and_one_below_it_are_both_kept_whoever_comes_first() {
    let tree = Arc::new(Tree::new().await);
    for round in 0..60 {
        let (file, below) = (format!("k{round}"), format!("k{round}/x/y"));
        let (one, two) = tokio::join!(
            {
                let (tree, file) = (Arc::clone(&tree), file.clone());
                tokio::spawn(async move { tree.put_body(&file, ObjectBody::from_bytes("file")).await })
            },
            {
                let (tree, below) = (Arc::clone(&tree), below.clone());
                tokio::spawn(async move { tree.put_body(&below, ObjectBody::from_bytes("below")).await })
            }
        );
        one.unwrap().unwrap();
        two.unwrap().unwrap();
        assert_eq!(tree.get(&file).await.unwrap(), "file");
        assert_eq!(tree.get(&below).await.unwrap(), "below");
    }
    assert_eq!(tree.all_keys().await.len(), 120);
}

#[tokio::test]
async fn a_refused_write_makes_no_directories_and_moves_nothing() {
    let tree = Tree::new().await;
    let a = tree.put("a", "file").await;
    let replace = WriteCondition {
        if_match: Some(IfMatch::OneOf(vec![a.etag])),
        ..WriteCondition::default()
    };
    for key in ["new/dir/key", "a/b"] {
        let refused = tree.put_if(replace.clone(), key, "x").await;
        assert!(matches!(refused, Err(BackendError::NoSuchKey)));
    }
    let there: Vec<_> = std::fs::read_dir(tree.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(there, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listing_goes_on_when_directories_go_away_under_it() {
    let tree = Arc::new(Tree::new().await);
    tree.put("a", "0").await;
    tree.put("z", "0").await;
    let listings = Arc::new(AtomicU32::new(0));
    let lister = {
        let (tree, listings) = (Arc::clone(&tree), Arc::clone(&listings));
        tokio::spawn(async move {
            while listings.fetch_add(1, Ordering::Relaxed) < 500 {
                let names = tree.all_keys().await;
                assert_eq!(names.first().map(String::as_str), Some("a"));
                assert_eq!(names.last().map(String::as_str), Some("z"));
            }
        })
    };
    while !lister.is_finished() {
        tree.put("a/b/c", "below").await;
        tree.delete("a/b/c").await;
        tree.put("a", "1").await;
    }
    lister.await.unwrap();
}
