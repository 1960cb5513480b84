//! Files that something else has copied within a root, with all their attributes.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, sync::Arc};

use t2gate_backends::{
    ObjectAttributes,
    conformance::{Subject, read_whole},
};

use crate::{Tree, again, beside::side_files, open_at};

/// With more attributes than the file holds, and a table of parts.
async fn make(subject: &Subject, key: &str) {
    let mut request = subject.create_upload_request(key);
    request.attributes = ObjectAttributes {
        user_metadata: vec![("m".into(), "x".repeat(5000).into())],
        ..ObjectAttributes::default()
    };
    let id = subject.create_multipart_upload(request).await.unwrap();
    let upload = subject.upload_ref(key, id);
    let parts = vec![
        subject.part(&upload, 1, "one").await,
        subject.part(&upload, 2, "two").await,
    ];
    subject.complete(&upload, parts).await.unwrap();
}

async fn is_whole(subject: &Subject, key: &str) {
    let open = subject.open(key).await.unwrap();
    assert_eq!(open.info.attributes.user_metadata.len(), 1, "{key}");
    assert_eq!(open.reader.parts(0, 10).await.unwrap().len(), 2, "{key}");
    assert_eq!(read_whole(open).await, "onetwo");
}

fn cp(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn a_copy_that_goes_takes_nothing_from_the_original() {
    for replaced in [false, true] {
        let tree = Tree::new().await;
        let end = async |subject: &Subject| {
            if replaced {
                subject.put("key", "new").await;
            } else {
                subject.delete("key").await;
            }
        };
        make(&tree, "key").await;
        let other = tree.with_another_bucket().await;
        let in_other = tree.root.path().join(other.bucket.as_str()).join("key");
        cp(&tree.path("key"), &in_other);
        end(&other).await;
        is_whole(&tree, "key").await;

        // The same file, under the same key of another bucket.
        if replaced {
            fs::remove_file(&in_other).unwrap();
        }
        fs::hard_link(tree.path("key"), &in_other).unwrap();
        end(&other).await;
        is_whole(&tree, "key").await;

        fs::rename(tree.path("key"), tree.path("old")).unwrap();
        cp(&tree.path("old"), &tree.path("key"));
        end(&tree).await;
        is_whole(&tree, "old").await;

        // Its own go with it.
        fs::rename(tree.path("old"), tree.path("key")).unwrap();
        end(&tree).await;
        assert_eq!(side_files(tree.root.path()).len(), 0);
    }
}

/// As a crash leaves it: what is noted is looked at before it goes.
#[tokio::test]
async fn a_sweep_leaves_the_side_file_that_a_copy_names() {
    let tree = Tree::new().await;
    make(&tree, "key").await;
    fs::rename(tree.path("key"), tree.path("old")).unwrap();
    cp(&tree.path("old"), &tree.path("key"));
    let [side] = &*side_files(tree.root.path()) else {
        panic!("one side file");
    };
    let note = tree.root.path().join(".t2/staging").join(format!("side.{side}"));
    symlink(format!("{}/key", tree.bucket), &note).unwrap();
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    let subject = Subject::of(Arc::new(again(|| open_at(root.path()))), bucket).await;
    assert!(note.symlink_metadata().is_err());
    is_whole(&subject, "old").await;
    is_whole(&subject, "key").await;
}
