//! Versions of keys that differ in spelling alone: each has a history of its own.

use std::{collections::BTreeMap, fs, process::Command};

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};
use t2gate_backends::{
    BackendError, BucketSetting, DeleteObject, FsBackend, FsFindingKind, FsOpenError, FsOptions, ListEntry,
    ListObjectVersions, ObjectRef, VersionEntry, VersionId, VersioningStatus, WriteCondition,
    conformance::{Subject, read_whole},
    examine_fs,
};

use crate::{
    Tree, entries_of, open_at, options, simulate,
    tree::{key, segment},
    versioned,
};

/// Of each key what its versions hold, the newest first; a delete marker nothing.
type Expected = BTreeMap<String, Vec<Option<Bytes>>>;

fn request(s: &Subject) -> ListObjectVersions {
    ListObjectVersions {
        bucket: s.bucket.clone(),
        prefix: "".into(),
        delimiter: None,
        key_marker: None,
        version_id_marker: None,
        max_keys: 10_000,
    }
}

async fn entries(s: &Subject) -> Vec<VersionEntry> {
    s.list_object_versions(request(s)).await.unwrap().entries
}

fn named(s: &Subject, entry: &VersionEntry) -> ObjectRef {
    ObjectRef {
        version_id: entry.version_id().cloned(),
        ..s.object(entry.name())
    }
}

/// Deletes the version of a key that is listed so far from the newest.
async fn delete_version(s: &Subject, key: &str, at: usize) {
    let all = entries(s).await;
    let entry = all.iter().filter(|entry| entry.name() == key).nth(at).unwrap();
    let request = DeleteObject {
        object: named(s, entry),
        condition: WriteCondition::default(),
        mark_missing: false,
        versions: None,
    };
    assert!(s.delete_object(request).await.unwrap().existed);
}

/// By name, by id and by list, and nothing of another key.
async fn assert_holds(s: &Subject, expected: &Expected) {
    let mut listed: Vec<(String, Option<Bytes>, bool)> = Vec::new();
    for entry in entries(s).await {
        let by_id = s.open_object(&named(s, &entry)).await;
        let (bytes, is_latest) = match &entry {
            VersionEntry::Object { is_latest, .. } => (Some(read_whole(by_id.unwrap()).await), *is_latest),
            VersionEntry::DeleteMarker(marker) => {
                assert!(matches!(by_id, Err(BackendError::DeleteMarker { .. })));
                (None, marker.is_latest)
            }
            VersionEntry::CommonPrefix(_) => unreachable!("there is no delimiter"),
        };
        listed.push((entry.name().to_owned(), bytes, is_latest));
    }
    let lines = expected.iter().flat_map(|(key, versions)| {
        let lines = versions.iter().enumerate();
        lines.map(move |(at, bytes)| (key.clone(), bytes.clone(), at == 0))
    });
    assert_eq!(listed, lines.collect::<Vec<_>>());
    let mut current = Vec::new();
    for (key, versions) in expected {
        let newest = versions.first().cloned().flatten();
        assert_eq!(s.get(key).await, newest, "{key:?}");
        current.extend(newest.is_some().then(|| key.clone()));
    }
    assert_eq!(s.all_keys().await, current);
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

#[tokio::test]
async fn spellings_of_one_name_have_histories_apart() {
    let tree = Tree::versioned().await;
    let keys = ["a", "A", "\u{e9}", "e\u{301}", "d/k", "D/k", "d/K"];
    let mut expected = Expected::new();
    for round in ["1", "2", "3"] {
        for key in keys {
            let text = format!("{key} {round}");
            tree.put(key, text.clone()).await;
            expected.entry(key.into()).or_default().insert(0, bytes(&text));
        }
    }
    assert_holds(&tree, &expected).await;
    for name in [".t2-61", ".t2-41", ".t2~64/.t2-6b", ".t2~44/.t2-6b", ".t2~64/.t2-4b"] {
        assert_eq!(fs::read_dir(tree.history(name)).unwrap().count(), 2, "{name}");
    }
    // An id is one of its own key alone.
    let all = entries(&tree).await;
    let ids = |key: &str| -> Vec<Option<VersionId>> {
        let of_key = all.iter().filter(|entry| entry.name() == key);
        of_key.map(|entry| entry.version_id().cloned()).collect()
    };
    for id in ids("a") {
        let other = ObjectRef {
            version_id: id,
            ..tree.object("A")
        };
        assert!(matches!(
            tree.open_object(&other).await,
            Err(BackendError::NoSuchVersion)
        ));
    }
    let tree = tree.reopened(|_| {}).await;
    assert_holds(&tree, &expected).await;
    for key in keys {
        tree.delete(key).await;
        expected.get_mut(key).unwrap().insert(0, None);
        assert_holds(&tree, &expected).await;
    }
    for key in keys {
        while let Some(at) = expected[key].len().checked_sub(1) {
            delete_version(&tree, key, at / 2).await;
            expected.get_mut(key).unwrap().remove(at / 2);
            assert_holds(&tree, &expected).await;
        }
    }
    assert_eq!(tree.entries(), [""; 0]);
    assert_eq!(entries_of(&tree.history("")), [""; 0]);
}

#[tokio::test]
async fn what_comes_back_finds_its_name_taken_and_has_another() {
    let tree = Tree::versioned().await;
    let mut expected = Expected::new();
    let pairs = [("README", "readme"), ("D/x", "d/x"), ("o/E/x", "o/e"), ("f", "F/x")];
    for (first, second) in pairs {
        for text in ["old", "new"] {
            tree.put(first, text).await;
        }
        tree.delete(first).await;
        tree.put(second, "second").await;
        expected.insert(first.into(), vec![None, bytes("new"), bytes("old")]);
        expected.insert(second.into(), vec![bytes("second")]);
    }
    assert_holds(&tree, &expected).await;
    assert_eq!(fs::read(tree.path("readme")).unwrap(), b"second");
    assert_eq!(fs::read(tree.path("d/x")).unwrap(), b"second");
    // Undeleted, then restored to the one before.
    for (first, _) in pairs {
        for _ in 0..2 {
            delete_version(&tree, first, 0).await;
            expected.get_mut(first).unwrap().remove(0);
            assert_holds(&tree, &expected).await;
        }
    }
    assert_eq!(fs::read(tree.path(".t2~524541444d45")).unwrap(), b"old");
    assert_eq!(fs::read(tree.path(".t2~44/x")).unwrap(), b"old");
    assert_eq!(fs::read(tree.path("readme")).unwrap(), b"second");
    // And what had the name goes.
    for (first, second) in pairs {
        tree.delete(second).await;
        expected.get_mut(second).unwrap().insert(0, None);
        tree.put(first, "newest").await;
        expected.get_mut(first).unwrap().insert(0, bytes("newest"));
    }
    let tree = tree.reopened(|_| {}).await;
    assert_holds(&tree, &expected).await;
}

#[tokio::test]
async fn versions_are_listed_in_the_order_of_keys_whatever_their_names() {
    let tree = Tree::versioned().await;
    let long = "n".repeat(300);
    let keys = [
        "A",
        "A/",
        "A/b",
        "Z",
        "a",
        "a!",
        "a-",
        "a.b",
        "a/",
        "a//",
        "a/B",
        "a/b",
        "a/b/c",
        "a0",
        "z",
        &long,
        &long.to_uppercase(),
        "\u{e9}",
        "\u{e9}/x",
        "e\u{301}",
        "e\u{301}/x",
    ];
    let mut expected = Expected::new();
    for (n, key) in keys.into_iter().rev().enumerate() {
        let versions = expected.entry(key.to_owned()).or_default();
        for round in 0..=n % 3 {
            let text = format!("{n} {round}");
            tree.put(key, text.clone()).await;
            versions.insert(0, bytes(&text));
        }
        // Some are in their histories alone.
        if n % 4 > 1 {
            tree.delete(key).await;
            versions.insert(0, None);
        }
    }
    assert_holds(&tree, &expected).await;
    let prefixes = ["", "a", "a/", "A/", "e\u{301}", "n"];
    for (prefix, delimiter) in prefixes.into_iter().flat_map(|p| [(p, None), (p, Some("/"))]) {
        let whole = ListObjectVersions {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            ..request(&tree)
        };
        let listed = tree.list_object_versions(whole.clone()).await.unwrap().entries;
        let mut names: Vec<String> = Vec::new();
        for (key, versions) in &expected {
            let Some(rest) = key.strip_prefix(prefix) else {
                continue;
            };
            match delimiter.and_then(|delimiter| rest.find(delimiter)) {
                Some(at) => {
                    let common = &key[..=prefix.len() + at];
                    if names.last().is_none_or(|last| last != common) {
                        names.push(common.into());
                    }
                }
                None => names.extend(versions.iter().map(|_| key.clone())),
            }
        }
        assert_eq!(listed.iter().map(VersionEntry::name).collect::<Vec<_>>(), names);
        for max_keys in [1, 2, 5] {
            let mut page = ListObjectVersions {
                max_keys,
                ..whole.clone()
            };
            let mut paged = Vec::new();
            loop {
                let answer = tree.list_object_versions(page.clone()).await.unwrap();
                paged.extend(answer.entries);
                if !answer.is_truncated {
                    break;
                }
                let last = paged.last().unwrap();
                page.key_marker = Some(last.name().into());
                page.version_id_marker = last.version_id().cloned();
            }
            assert_eq!(paged, listed, "{prefix:?} {delimiter:?} {max_keys}");
        }
    }
}

#[tokio::test]
async fn a_prefix_is_common_to_versions_of_its_own_spelling_alone() {
    let tree = Tree::versioned().await;
    tree.put("d/x", "x").await;
    tree.put("D/y", "y").await;
    tree.delete("D/y").await;
    let prefixes = async || {
        let rolled_up = ListObjectVersions {
            delimiter: Some("/".into()),
            ..request(&tree)
        };
        let page = tree.list_object_versions(rolled_up).await.unwrap();
        page.entries
            .iter()
            .map(|entry| entry.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(prefixes().await, ["D/", "d/"]);
    for _ in 0..2 {
        delete_version(&tree, "D/y", 0).await;
    }
    assert_eq!(prefixes().await, ["d/"]);
    // As something interrupted may leave it.
    fs::create_dir_all(tree.history(".t2~44/.t2-79")).unwrap();
    assert_eq!(prefixes().await, ["d/"]);
    assert_eq!(entries(&tree).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_writers_of_all_spellings_keep_every_version() {
    simulate();
    let root = tempfile::tempdir().unwrap();
    let open = || {
        let shared = FsOptions {
            shared: true,
            ..options(root.path())
        };
        versioned(FsBackend::open(shared).unwrap())
    };
    let one = Subject::with_versioning(open(), Some(VersioningStatus::Enabled)).await;
    let other = Subject::of(open(), one.bucket.clone()).await;
    let keys = ["k", "K", "d/k", "D/k", "d/K"];
    const ROUNDS: usize = 6;
    let write = async |by: &Subject, who: &str| {
        let all = (0..ROUNDS).flat_map(|round| keys.iter().map(move |key| (round, *key)));
        let puts = all.map(|(round, key)| async move {
            by.put(key, format!("{key} {who} {round}")).await;
            if round % 3 == 2 {
                by.delete(key).await;
            }
        });
        futures::future::join_all(puts).await;
    };
    futures::future::join(write(&one, "one"), write(&other, "other")).await;
    for seen_by in [&one, &other] {
        let mut found: BTreeMap<&str, Vec<Bytes>> = BTreeMap::new();
        let mut markers = 0;
        let all = entries(seen_by).await;
        for entry in &all {
            if let VersionEntry::Object { .. } = entry {
                let open = seen_by.open_object(&named(seen_by, entry)).await.unwrap();
                found.entry(entry.name()).or_default().push(read_whole(open).await);
            } else {
                markers += 1;
            }
        }
        for key in keys {
            let mut bytes = found.remove(key).unwrap();
            bytes.sort();
            let mut expected: Vec<_> = (0..ROUNDS)
                .flat_map(|round| ["one", "other"].map(|who| Bytes::from(format!("{key} {who} {round}"))))
                .collect();
            expected.sort();
            assert_eq!(bytes, expected, "{key}");
        }
        assert!(
            found.is_empty() && markers <= keys.len() * 2 * (ROUNDS / 3),
            "{found:?} {markers}"
        );
    }
}

#[tokio::test]
async fn versions_that_were_kept_under_names_of_their_own_are_not_taken_for_others() {
    let tree = Tree::versioned().await;
    tree.put("a", "x").await;
    tree.put("a", "y").await;
    let Tree { subject, root } = tree;
    drop(subject);
    // As a root that was copied from where names are not folded.
    fs::write(root.path().join(".t2/format"), "1\n").unwrap();
    let refused = FsBackend::open(options(root.path())).unwrap_err();
    assert!(matches!(&refused, FsOpenError::FoldedVersions { .. }), "{refused}");
    assert_eq!(fs::read(root.path().join(".t2/format")).unwrap(), b"1\n");
    fs::write(root.path().join(".t2/format"), "2\n").unwrap();
    drop(open_at(root.path()));
}

#[tokio::test]
async fn doctor_knows_histories_by_their_exact_names() {
    let tree = Tree::versioned().await;
    let long = "n".repeat(300);
    let mut expected = Expected::new();
    for key in [
        "a",
        "A",
        "a/b",
        "A/b",
        "\u{e9}",
        "e\u{301}",
        "d/x",
        "D/x",
        &long,
        &long.to_uppercase(),
    ] {
        for text in ["old", "new"] {
            tree.put(key, text).await;
        }
        expected.insert(key.into(), vec![bytes("new"), bytes("old")]);
    }
    tree.delete("D/x").await;
    expected.get_mut("D/x").unwrap().insert(0, None);
    let tree = tree
        .reopened(|root| {
            let report = examine_fs(root, true).unwrap();
            assert_eq!((report.versions, report.findings), (12, vec![]));
        })
        .await;
    assert_holds(&tree, &expected).await;
    let all = entries(&tree).await;
    let current = all.iter().find(|entry| entry.name() == "A").unwrap();
    let stamp = u128::from_str_radix(current.version_id().unwrap().as_str(), 16).unwrap();
    let kept = format!("{:032x}", !stamp);
    // What no key has, of another spelling, and of nobody.
    let (bucket, versions) = (tree.path(""), tree.history(""));
    let tree = tree
        .reopened(|root| {
            fs::create_dir(versions.join(".t2-78")).unwrap();
            fs::write(bucket.join("X"), "x").unwrap();
            fs::create_dir_all(versions.join("q/.t2!r")).unwrap();
            // A version that an interrupted delete has left under its key's name.
            fs::write(versions.join(".t2-41/00000000000000000000000000000000.d"), "").unwrap();
            fs::hard_link(bucket.join(".t2-41"), versions.join(".t2-41").join(&kept)).unwrap();
            let report = examine_fs(root, true).unwrap();
            let found = report.findings.iter().map(|found| {
                let name = found
                    .path
                    .split_once(&format!("{}/", bucket.file_name().unwrap().to_str().unwrap()));
                (found.kind, name.unwrap().1.to_owned(), found.repaired)
            });
            assert_eq!(
                found.collect::<Vec<_>>(),
                [
                    (FsFindingKind::DeletedObject, ".t2-41".to_owned(), true),
                    (FsFindingKind::EmptyDirectory, ".t2-78".to_owned(), true),
                    (FsFindingKind::UnusableName, "q".to_owned(), false),
                ]
            );
            fs::remove_dir_all(versions.join("q")).unwrap();
        })
        .await;
    assert_eq!(tree.get("A").await, None);
    assert_eq!(tree.get("a").await, bytes("new"));
}

#[tokio::test]
async fn a_version_that_doctor_finds_hidden_behind_an_escape_is_put_away_and_not_lost() {
    let tree = Tree::versioned().await;
    tree.put("A", "other").await;
    tree.put("a", "hidden").await;
    tree.delete("A").await;
    delete_version(&tree, "A", 0).await;
    delete_version(&tree, "A", 0).await;
    let bucket = tree.path("");
    let tree = tree
        .reopened(|root| {
            fs::rename(bucket.join(".t2~61"), bucket.join("a")).unwrap();
            fs::write(bucket.join(".t2~61"), "put there").unwrap();
            let report = examine_fs(root, true).unwrap();
            let found: Vec<_> = report
                .findings
                .iter()
                .map(|found| (found.kind, found.repaired))
                .collect();
            assert_eq!(found, [(FsFindingKind::TwoFiles, true)]);
            let lost = fs::read_dir(root.join(".t2/lost")).unwrap();
            let lost: Vec<_> = lost.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
            assert_eq!(lost, [b"hidden"]);
            assert_eq!(examine_fs(root, true).unwrap().findings, []);
        })
        .await;
    assert_holds(&tree, &Expected::from([("a".to_owned(), vec![bytes("put there")])])).await;
}

#[tokio::test]
async fn a_copy_of_a_version_that_doctor_finds_hidden_is_put_away() {
    let tree = Tree::versioned().await;
    for key in ["A", "a", "a"] {
        tree.put(key, key).await;
    }
    let kept = fs::read_dir(tree.history(".t2-61"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let copied = Command::new("cp").arg("-a").arg(kept).arg(tree.path(".t2!a")).status();
    assert!(copied.unwrap().success());
    tree.reopened(|root| {
        let report = examine_fs(root, true).unwrap();
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|found| (found.kind, found.repaired))
            .collect();
        assert_eq!(found, [(FsFindingKind::TwoFiles, true)]);
        assert_eq!(fs::read_dir(root.join(".t2/lost")).unwrap().count(), 1);
        assert_eq!(examine_fs(root, true).unwrap().findings, []);
    })
    .await;
}

/// What nobody wrote through the gateway says nothing of its version: a listing by name has to ask.
#[tokio::test]
async fn an_object_under_an_escape_that_something_else_changed_is_listed_with_its_version() {
    let tree = Tree::new().await;
    for key in ["A", "a"] {
        tree.put(key, "null").await;
    }
    let tree = tree.reopened(|_| {}).await;
    let enabled = BucketSetting::Versioning(VersioningStatus::Enabled);
    tree.put_bucket_setting(&tree.bucket, enabled).await.unwrap();
    tree.put("a", "own").await;
    fs::write(tree.path(".t2~61"), "another's").unwrap();
    let by_name = tree.info("a").await.version_id.unwrap();
    assert!(!by_name.is_null());
    let page = tree.list_objects(tree.everything()).await.unwrap();
    let listed = page.entries.iter().find_map(|entry| match entry {
        ListEntry::Object(info) if info.key.as_str() == "a" => info.version_id.clone(),
        _ => None,
    });
    assert_eq!(listed, Some(by_name));
}

#[tokio::test]
async fn what_something_else_renames_to_another_spelling_goes_over_to_that_one_when_it_is_written() {
    let tree = Tree::versioned().await;
    tree.put("README", "old").await;
    tree.put("README", "new").await;
    fs::rename(tree.path("README"), tree.path("readme")).unwrap();
    assert_eq!(tree.get("README").await, bytes("new"));
    assert_eq!(tree.get("readme").await, bytes("new"));
    tree.put("readme", "written").await;
    let mut expected = Expected::from([
        ("README".to_owned(), vec![None, bytes("old")]),
        ("readme".to_owned(), vec![bytes("written"), bytes("new")]),
    ]);
    assert_eq!(tree.get("README").await, None);
    assert_holds(&tree, &expected).await;
    tree.put("README", "again").await;
    expected.get_mut("README").unwrap().insert(0, bytes("again"));
    assert_holds(&tree, &expected).await;
}

#[derive(Debug, Clone)]
enum Step {
    Put(String),
    /// Of the keys that there are.
    PutAgain(Index),
    Delete(Index),
    DeleteVersion(Index, Index),
    Reopen,
}

fn pick<'a>(expected: &'a Expected, index: &Index) -> Option<&'a str> {
    let keys: Vec<&str> = expected.keys().map(String::as_str).collect();
    (!keys.is_empty()).then(|| *index.get(&keys))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_spellings_every_key_has_its_own_versions(steps in proptest::collection::vec(
        prop_oneof![
            6 => prop_oneof![key(), segment().prop_filter("no key", |key| !key.is_empty())].prop_map(Step::Put),
            4 => any::<Index>().prop_map(Step::PutAgain),
            4 => any::<Index>().prop_map(Step::Delete),
            6 => any::<(Index, Index)>().prop_map(|(key, at)| Step::DeleteVersion(key, at)),
            1 => Just(Step::Reopen),
        ],
        1..40,
    )) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tree = Tree::versioned().await;
            let mut expected = Expected::new();
            for (n, step) in steps.into_iter().enumerate() {
                match &step {
                    Step::Put(_) | Step::PutAgain(_) => {
                        let key = match &step {
                            Step::Put(key) => Some(key.as_str()),
                            Step::PutAgain(index) => pick(&expected, index),
                            _ => None,
                        };
                        if let Some(key) = key.map(str::to_owned) {
                            let text = format!("{n} {key}");
                            tree.put(&key, text.clone()).await;
                            expected.entry(key).or_default().insert(0, bytes(&text));
                        }
                    }
                    Step::Delete(index) => {
                        if let Some(key) = pick(&expected, index).map(str::to_owned) {
                            tree.delete(&key).await;
                            let versions = expected.get_mut(&key).unwrap();
                            if versions[0].is_some() {
                                versions.insert(0, None);
                            }
                        }
                    }
                    Step::DeleteVersion(index, at) => {
                        if let Some(key) = pick(&expected, index).map(str::to_owned) {
                            let at = at.index(expected[&key].len());
                            delete_version(&tree, &key, at).await;
                            let versions = expected.get_mut(&key).unwrap();
                            versions.remove(at);
                            if versions.is_empty() {
                                expected.remove(&key);
                            }
                        }
                    }
                    Step::Reopen => tree = tree.reopened(|_| {}).await,
                }
                assert_holds(&tree, &expected).await;
            }
            for key in expected.keys().cloned().collect::<Vec<_>>() {
                for _ in 0..expected[&key].len() {
                    delete_version(&tree, &key, 0).await;
                }
            }
            assert_eq!(tree.entries(), [""; 0], "something stays behind");
            let left = tree.history("");
            assert!(!left.exists() || entries_of(&left).is_empty(), "something stays behind");
        });
    }
}
