//! Files of others with the size and the time of a version, while that is deleted for good.

use std::{fs, sync::Arc};

use rustix::io::Errno;
use t2gate_backends::{
    Durability, FsFindingKind, SystemClock, VersionId, VersioningStatus,
    crash_points::{Call, disarm, fail},
};
use tempfile::TempDir;

use super::versions::imitate;
use crate::{
    crash::{How, run_child},
    dir_in_memory, is_child,
    ops::subject,
    versioned::{Tree, id},
};

/// A version that is kept, and a file that looks like it: current, or kept itself. Everything that is seen.
async fn with_look_alike(tree: &Tree, is_kept: bool) -> (VersionId, Vec<(VersionId, Option<String>, String)>) {
    let first = tree.put_named("key", "first").await;
    tree.put_named("key", "second").await;
    imitate(&tree.kept("key", &id(&first)), "other", &tree.path("key"));
    if is_kept {
        tree.put_named("key", "third").await;
    }
    (id(&first), tree.seen().await)
}

/// P1: the version is there as it was, and comes back with its attributes when it is the newest.
#[tokio::test]
async fn a_version_keeps_its_attributes_if_it_is_not_deleted_after_all() {
    if !is_child("beside::look_alikes::a_version_keeps_its_attributes_if_it_is_not_deleted_after_all") {
        return;
    }
    let mut failed = 0;
    for call in [&[Call::Open], &[Call::Look], &[Call::Add], &[Call::Remove]] {
        for after in 0.. {
            let tree = Tree::versioned().await;
            let (first, seen) = with_look_alike(&tree, false).await;
            let mut request = tree.delete_request("key");
            request.object.version_id = Some(first.clone());
            fail(call, Errno::IO.raw_os_error(), after);
            let outcome = tree.delete_object(request).await;
            if !disarm() {
                outcome.unwrap();
                break;
            }
            if outcome.is_ok() {
                continue;
            }
            failed += 1;
            let at = format!("{call:?} {after}");
            assert_eq!(tree.seen().await, seen, "{at}");
            let tree = tree.again().await;
            assert_eq!(tree.seen().await, seen, "{at}");
            tree.remove("key", &VersionId::null()).await;
            assert_eq!(tree.seen().await, seen[1..], "{at}");
            tree.remove("key", &first).await;
            // Those of what somebody has overwritten are left.
            assert_eq!((tree.seen().await, tree.sides()), (Vec::new(), 1), "{at}");
        }
    }
    assert!(failed > 5, "{failed}");
}

/// The same where the process is killed; and the file that looks like it has no attributes then or later, wherever it is.
#[tokio::test]
async fn wherever_a_deletion_is_killed_the_attributes_are_those_of_the_version() {
    for is_kept in [false, true] {
        let (mut gone, mut there) = (0, 0);
        for point in 1.. {
            let temp = dir_in_memory();
            let root = TempDir::new_in(temp.path()).unwrap();
            fs::create_dir(root.path().join(".t2")).unwrap();
            fs::write(root.path().join(".t2/format"), "1 side-files\n").unwrap();
            let subject = subject(root.path(), "bucket", Durability::ProcessSafe).await;
            let tree = Tree { subject, root };
            tree.set_versioning(VersioningStatus::Enabled).await;
            let (first, seen) = with_look_alike(&tree, is_kept).await;
            let Tree { subject, root } = tree;
            let bucket = subject.bucket.clone();
            drop(subject);
            let op = format!("delete-version key {}", seen.len() - 1);
            let killed = run_child(root.path(), &[op], point, How::ALONE);
            let at = format!("killed at {point}, {is_kept}");
            let tree = Tree::at(root, bucket).await;
            let mut left = tree.seen().await;
            if left == seen {
                there += 1;
            } else {
                gone += 1;
                assert_eq!(left, seen[..seen.len() - 1], "{at}");
            }
            let is_there = left == seen;
            while left.first().is_some_and(|(id, ..)| *id != first) {
                tree.remove("key", &left.remove(0).0).await;
                assert_eq!(tree.seen().await, left, "{at}");
            }
            assert_eq!(left.len(), usize::from(is_there), "{at}");
            let (found, tree) = tree.findings();
            assert_eq!(
                found,
                [FsFindingKind::OrphanedSideFile],
                "{at}: that of what was overwritten"
            );
            assert_eq!(tree.sides(), 1 + left.len(), "{at}");
            if !killed {
                break;
            }
        }
        assert!(gone > 1 && there > 0, "{gone} {there}");
    }
}

/// Of a version that was there before there was versioning the side file names none.
#[tokio::test]
async fn a_file_that_looks_like_the_version_null_has_no_attributes_when_that_is_deleted() {
    if !is_child("beside::look_alikes::a_file_that_looks_like_the_version_null_has_no_attributes_when_that_is_deleted")
    {
        return;
    }
    for after in 0.. {
        let tree = Tree::beside(None, Arc::new(SystemClock)).await;
        tree.put_named("key", "before").await;
        tree.set_versioning(VersioningStatus::Enabled).await;
        let second = tree.put_named("key", "second").await;
        let nulls = tree.kept("key", &id(&second)).with_file_name("null");
        let kept = fs::read_dir(nulls).unwrap().next().unwrap().unwrap().path();
        imitate(&kept, "theirs", &tree.path("key"));
        let seen = tree.seen().await;
        let mut request = tree.delete_request("key");
        request.object.version_id = Some(VersionId::null());
        fail(&[Call::Remove], Errno::IO.raw_os_error(), after);
        let outcome = tree.delete_object(request).await;
        let happened = disarm();
        let tree = tree.again().await;
        let left = tree.seen().await;
        if outcome.is_err() {
            assert_eq!(left, seen, "{after}");
        } else {
            assert_eq!((left.len(), &left[0].1, &*left[0].2), (1, &None, "theirs"), "{after}");
        }
        if !happened {
            break;
        }
    }
}
