//! What listings have said is kept from one to the next and never shows: each line says what a look at the object itself
//! says, whoever changed it.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use proptest::{prelude::*, sample::Index};
use t2gate_backends::{
    BucketSetting, FsBackend, ListEntry, ObjectAttributes, ObjectInfo, SystemClock, Versioned, VersioningStatus,
    conformance::Subject,
};

use crate::{Tree, options};

const KEYS: [&str; 6] = ["a", "b", "c", "d/e", "d/f", "g"];

#[derive(Debug, Clone)]
enum Step {
    /// Of so many bytes.
    Put(Index, u8),
    Multipart(Index),
    Delete(Index),
    Version(VersioningStatus),
    /// By somebody else: in place, also of the same size; by a rename; and with the old time set again.
    Write(Index, u8),
    Replace(Index, u8),
    SetBack(Index, u8),
    Link(Index, Index),
    Rename(Index, Index),
    Remove(Index),
    Mode(Index),
    /// So that what is seen next is old enough to be kept.
    Rest,
    List,
}

fn step() -> impl Strategy<Value = Step> {
    let key = any::<Index>;
    prop_oneof![
        3 => (key(), 0_u8..4).prop_map(|(key, size)| Step::Put(key, size)),
        1 => key().prop_map(Step::Multipart),
        1 => key().prop_map(Step::Delete),
        1 => prop_oneof![Just(VersioningStatus::Enabled), Just(VersioningStatus::Suspended)].prop_map(Step::Version),
        2 => (key(), 0_u8..4).prop_map(|(key, size)| Step::Write(key, size)),
        2 => (key(), 0_u8..4).prop_map(|(key, size)| Step::Replace(key, size)),
        2 => (key(), 0_u8..4).prop_map(|(key, size)| Step::SetBack(key, size)),
        1 => (key(), key()).prop_map(|(from, to)| Step::Link(from, to)),
        1 => (key(), key()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => key().prop_map(Step::Remove),
        1 => key().prop_map(Step::Mode),
        3 => Just(Step::Rest),
        6 => Just(Step::List),
    ]
}

/// As lines are: of the attributes they have the checksum alone.
async fn looked_at(tree: &Tree) -> Vec<ObjectInfo> {
    let mut infos = Vec::new();
    for key in KEYS {
        if let Ok(open) = tree.open(key).await {
            let mut info = open.info;
            info.attributes = ObjectAttributes {
                checksum: info.attributes.checksum,
                ..ObjectAttributes::default()
            };
            infos.push(info);
        }
    }
    infos
}

async fn listed(tree: &Tree) -> Vec<ObjectInfo> {
    let page = tree.list_objects(tree.everything()).await.unwrap();
    let objects = page.entries.into_iter().map(|entry| match entry {
        ListEntry::Object(info) => info,
        ListEntry::CommonPrefix(common) => panic!("{common}"),
    });
    objects.collect()
}

async fn run(tree: Tree, steps: Vec<Step>) {
    let key = |index: Index| *index.get(&KEYS);
    let bytes = |size: u8, step: usize| format!("{step:04}{}", "x".repeat(size.into()));
    for (number, step) in steps.into_iter().enumerate() {
        // Not all that others do can be done as the tree is.
        match step {
            Step::Put(at, size) => drop(tree.put(key(at), bytes(size, number)).await),
            Step::Multipart(at) => {
                let upload = tree.upload(key(at)).await;
                let part = tree.part(&upload, 1, bytes(0, number)).await;
                tree.complete(&upload, vec![part]).await.unwrap();
            }
            Step::Delete(at) => drop(tree.delete(key(at)).await),
            Step::Version(status) => {
                // Only the overlay has any.
                drop(
                    tree.put_bucket_setting(&tree.bucket, BucketSetting::Versioning(status))
                        .await,
                );
            }
            Step::Write(at, size) => drop(fs::write(tree.path(key(at)), bytes(size, number))),
            Step::Replace(at, size) => {
                let aside = tree.root.path().join("aside");
                fs::write(&aside, bytes(size, number)).unwrap();
                drop(fs::rename(aside, tree.path(key(at))));
            }
            Step::SetBack(at, size) => {
                if let Ok(file) = fs::File::options().write(true).open(tree.path(key(at))) {
                    let before = file.metadata().unwrap().modified().unwrap();
                    file.set_len(0).unwrap();
                    fs::write(tree.path(key(at)), bytes(size, number)).unwrap();
                    file.set_modified(before).unwrap();
                }
            }
            Step::Link(from, to) => drop(fs::hard_link(tree.path(key(from)), tree.path(key(to)))),
            Step::Rename(from, to) => drop(fs::rename(tree.path(key(from)), tree.path(key(to)))),
            Step::Remove(at) => drop(fs::remove_file(tree.path(key(at)))),
            Step::Mode(at) => drop(fs::set_permissions(
                tree.path(key(at)),
                fs::Permissions::from_mode(0o600),
            )),
            Step::Rest => tokio::time::sleep(Duration::from_millis(30)).await,
            Step::List => {
                // A look at one key may put another right, whose file has another change time then.
                looked_at(&tree).await;
                let expected = looked_at(&tree).await;
                // The second has what the first has left.
                assert_eq!(listed(&tree).await, expected);
                assert_eq!(listed(&tree).await, expected);
            }
        }
    }
}

async fn with_versions() -> Tree {
    let root = tempfile::tempdir().unwrap();
    let fs = FsBackend::open(options(root.path())).unwrap();
    let versioned = Versioned::new(fs, Arc::new(SystemClock)).unwrap();
    let subject = Subject::new(Arc::new(versioned)).await;
    Tree { subject, root }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn lines_that_are_kept_never_show(steps in proptest::collection::vec(step(), 1..60)) {
        block_on(async { run(Tree::new().await, steps).await });
    }

    #[test]
    fn lines_of_versions_that_are_kept_never_show(steps in proptest::collection::vec(step(), 1..60)) {
        block_on(async { run(with_versions().await, steps).await });
    }
}
