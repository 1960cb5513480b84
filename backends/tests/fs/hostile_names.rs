//! P6 and P7 for names that look like the gateway's escapes: what others call so is an object under its own name, and
//! no key is two files, nor a file two keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use proptest::prelude::*;
use t2gate_backends::{FsFindingKind, SystemClock, Versioned, VersioningStatus, conformance::Subject, examine_fs};

use crate::{Tree, again, open_at};

#[tokio::test]
async fn what_only_looks_like_an_escape_is_an_object_under_its_own_name() {
    let tree = Tree::new().await;
    let long = format!(".t2+{}", "x".repeat(247));
    let names = [
        ".t2x", ".T2=", ".T2!a", ".t2=a", ".t2==", ".t2==3d", ".t2=a=2E", ".t2=.t2x", ".t2+a", ".t2~6", ".t2~ff", &long,
    ];
    for name in names {
        fs::write(tree.path(name), name).unwrap();
        fs::create_dir(tree.path(&format!("{name}.d"))).unwrap();
    }
    // In directories that are called so, too.
    for dir in [".t2y", ".t2=b", ".t2==", ".T2!c"] {
        let dir = format!("in/{dir}");
        fs::create_dir_all(tree.path(&dir)).unwrap();
        fs::write(tree.path(&format!("{dir}/.t2=c")), &dir).unwrap();
    }
    let mut expected: Vec<String> = names.map(str::to_owned).into();
    expected.extend([".t2y", ".t2=b", ".t2==", ".T2!c"].map(|dir| format!("in/{dir}/.t2=c")));
    expected.sort_unstable();
    assert_eq!(tree.all_keys().await, expected);
    for name in names {
        assert_eq!(tree.get(name).await.unwrap(), name);
        tree.put(name, "again").await;
        assert_eq!(
            fs::read_to_string(tree.path(name)).unwrap(),
            "again",
            "{name}: in its place"
        );
    }
    assert_eq!(tree.all_keys().await, expected);
    for key in &expected {
        assert!(tree.delete(key).await.existed, "{key}");
        assert_eq!(tree.get(key).await, None, "{key}");
        assert!(!tree.path(key).exists(), "{key}");
    }
    assert!(tree.all_keys().await.is_empty());
}

#[tokio::test]
async fn a_key_that_only_looks_like_an_escape_has_its_own_name_from_the_start() {
    let tree = Tree::new().await;
    for key in [".t2x", ".t2=a", ".t2==/b", "c/.T2=."] {
        tree.put(key, key.to_owned()).await;
        assert_eq!(fs::read_to_string(tree.path(key)).unwrap(), key);
    }
    // And steps aside for a directory like any other.
    tree.put(".t2=a/b", "below").await;
    assert_eq!(fs::read_to_string(tree.path(".t2!.t2=3Da")).unwrap(), ".t2=a");
    assert_eq!(tree.get(".t2=a").await.unwrap(), ".t2=a");
    assert_eq!(tree.get(".t2=a/b").await.unwrap(), "below");
}

#[tokio::test]
async fn what_is_an_escape_and_stands_for_nothing_is_for_the_doctor_to_tell() {
    let tree = Tree::new().await;
    let piece = format!(".t2+{}", "x".repeat(251));
    let other_piece = format!(".t2+{}", "y".repeat(251));
    for dir in [".t2", ".t2!dir", &other_piece] {
        fs::create_dir(tree.path(dir)).unwrap();
        fs::write(tree.path(&format!("{dir}/file")), "x").unwrap();
    }
    for file in [".T2", ".t2=", ".t2!", ".t2~61", ".T2~61", &piece] {
        fs::write(tree.path(file), "x").unwrap();
    }
    fs::write(tree.path(".t2x"), "x").unwrap();
    fs::write(tree.path("seen"), "x").unwrap();
    assert_eq!(tree.all_keys().await, [".t2x", "seen"]);
    // The keys that are called so work all the same.
    let keys = [".t2", ".t2/file", ".t2!dir/file", ".T2", ".t2~61", &piece];
    for key in keys {
        assert_eq!(tree.get(key).await, None, "{key}");
        assert!(!tree.delete(key).await.existed, "{key}");
        tree.put(key, key.to_owned()).await;
        assert_eq!(tree.get(key).await.unwrap(), key);
        assert!(tree.delete(key).await.existed, "{key}");
    }
    assert_eq!(tree.all_keys().await, [".t2x", "seen"]);

    let Tree { subject, root } = tree;
    let bucket = subject.bucket.to_string();
    drop(subject);
    let report = again(|| examine_fs(root.path(), true));
    let found: BTreeSet<_> = report
        .findings
        .iter()
        .map(|f| (f.kind.as_str(), f.path.clone()))
        .collect();
    let expected: BTreeSet<_> = [
        ".t2",
        ".t2!dir",
        &format!("{other_piece}/file"),
        ".T2",
        ".t2=",
        ".t2!",
        ".t2~61",
        ".T2~61",
        &piece,
    ]
    .map(|name| (FsFindingKind::UnusableName.as_str(), format!("{bucket}/{name}")))
    .into();
    assert_eq!(found, expected);
    assert_eq!(report.objects, 2);
}

#[tokio::test]
async fn a_version_of_such_a_file_is_kept_like_any_other() {
    let root = tempfile::tempdir().unwrap();
    let backend = Versioned::new(open_at(root.path()).unwrap(), Arc::new(SystemClock)).unwrap();
    let subject = Subject::with_versioning(Arc::new(backend), Some(VersioningStatus::Enabled)).await;
    let top = root.path().join(subject.bucket.as_str());
    fs::create_dir(top.join(".t2=d")).unwrap();
    for key in [".t2x", ".t2=d/.t2=a"] {
        fs::write(top.join(key), "theirs").unwrap();
        let theirs = subject.info(key).await;
        subject.put(key, "ours").await;
        assert_eq!(fs::read_to_string(top.join(key)).unwrap(), "ours");
        assert!(subject.delete(key).await.delete_marker);
        assert!(!top.join(key).exists());
        assert_eq!(subject.get(key).await, None);
        let mut old = subject.object(key);
        old.version_id = theirs.version_id;
        assert_eq!(subject.open_object(&old).await.unwrap().info.size, 6);
    }
    assert!(subject.all_keys().await.is_empty());
    subject.delete_emptied_bucket().await;
}

fn hostile_name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just(".t2"),
        1 => Just(".T2"),
        3 => Just("="),
        3 => Just("=3D"),
        1 => Just("=3d"),
        2 => Just("!"),
        2 => Just("+"),
        1 => Just("~"),
        1 => Just("#"),
        2 => Just("."),
        2 => Just("a"),
        1 => Just("61"),
        1 => Just("\u{20ac}"),
        1 => Just(" "),
    ];
    let tail = prop_oneof![8 => Just(0_usize), 1 => 245_usize..256];
    (proptest::collection::vec(piece, 1..6), tail)
        .prop_map(|(pieces, len)| {
            let mut name = pieces.concat();
            while name.len() < len {
                name.push('x');
            }
            name
        })
        .prop_filter("no name", |name| !matches!(name.as_str(), "." | ".."))
}

/// Of a name in the bucket, or in a directory there, that is an escape as the documentation has it, and yet stands for
/// nothing.
fn stands_for_nothing(name: &str, is_dir: bool, top: bool) -> bool {
    let is_text = |text: &str| text.split('=').skip(1).all(|piece| piece.starts_with("3D"));
    let lower = name.to_ascii_lowercase();
    lower == ".t2"
        || [".t2~", ".t2-", ".t2#"].iter().any(|lead| {
            lower
                .strip_prefix(lead)
                .is_some_and(|rest| rest.len() % 2 == 0 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
        })
        || (top && !is_dir && matches!(name, ".t2=" | ".t2!"))
        || (is_dir && name.strip_prefix(".t2!").is_some_and(is_text))
        || (name.len() >= 252 && name.strip_prefix(".t2+").is_some_and(is_text))
}

/// The regular files below `top`, by their names from there, with what they hold.
fn files(top: &Path) -> BTreeMap<String, String> {
    let (mut files, mut left) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

async fn run(ours: Vec<String>, theirs: Vec<(Option<String>, String)>) {
    let tree = Tree::new().await;
    let top = tree.path("");
    for key in &ours {
        tree.put(key, format!("ours: {key}")).await;
    }
    assert_eq!(
        tree.all_keys().await,
        ours.iter()
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    let mut put = BTreeSet::new();
    for (dir, name) in theirs {
        if dir.as_ref().is_some_and(|dir| stands_for_nothing(dir, true, true))
            || stands_for_nothing(&name, false, dir.is_none())
        {
            continue;
        }
        let path = dir.map_or_else(|| name.clone(), |dir| format!("{dir}/{name}"));
        let parent = top.join(&path).parent().unwrap().to_owned();
        // What is there already stays as it is.
        if fs::create_dir_all(parent).is_ok() && !top.join(&path).exists() {
            fs::write(top.join(&path), format!("theirs: {path}")).unwrap();
            put.insert(path);
        }
    }
    let there = files(&top);
    let keys = tree.all_keys().await;
    assert!(keys.is_sorted_by(|a, b| a < b), "in order, and none twice: {keys:?}");
    let mut by_bytes = BTreeMap::new();
    for key in &keys {
        let bytes = String::from_utf8(tree.get(key).await.unwrap().to_vec()).unwrap();
        assert_eq!(tree.info(key).await.key.as_str(), key);
        assert!(
            by_bytes.insert(bytes, key.clone()).is_none(),
            "{key:?} has another's bytes"
        );
    }
    let mut hidden = BTreeSet::new();
    for (path, bytes) in &there {
        let key = by_bytes.get(bytes);
        let (dir, name) = path
            .rsplit_once('/')
            .map_or(("", path.as_str()), |(dir, name)| (dir, name));
        let Some(key) = key else {
            // Only beside the plain name of the same key.
            let text = name.strip_prefix(".t2!").expect(path).replace("=3D", "=");
            assert!(
                keys.iter().any(|key| key.rsplit('/').next() == Some(&text)),
                "{path:?} is no object"
            );
            hidden.insert(path.clone());
            continue;
        };
        if put.contains(path) {
            let is_escape = |name: &str| name.starts_with(".t2=") || name.starts_with(".t2!");
            assert!(key == path || is_escape(name) || is_escape(dir), "{path:?} is {key:?}");
        }
        let again = format!("{bytes}, again");
        tree.put(key, again.clone()).await;
        assert_eq!(tree.get(key).await.unwrap(), again);
        if !name.starts_with(".t2!") {
            assert_eq!(
                fs::read_to_string(top.join(path)).unwrap(),
                again,
                "{key:?}: in its place"
            );
        }
    }
    assert_eq!(tree.all_keys().await, keys);

    // Also as the doctor sees it.
    let Tree { subject, root } = tree;
    let bucket = subject.bucket.clone();
    drop(subject);
    let report = again(|| examine_fs(root.path(), false));
    let found: BTreeSet<_> = report
        .findings
        .iter()
        .filter(|finding| finding.kind != FsFindingKind::OrphanedSideFile)
        .map(|finding| (finding.kind.as_str(), finding.path.clone()))
        .collect();
    let left = files(&top);
    // A put removes what its object hides.
    let expected: BTreeSet<_> = hidden
        .iter()
        .filter(|path| left.contains_key(*path))
        .map(|path| (FsFindingKind::TwoFiles.as_str(), format!("{bucket}/{path}")))
        .collect();
    assert_eq!(found, expected);

    let subject = Subject::of(Arc::new(again(|| open_at(root.path()))), bucket).await;
    for key in &keys {
        assert!(subject.delete(key).await.existed, "{key:?}");
        assert_eq!(subject.get(key).await, None, "{key:?}");
    }
    assert!(subject.all_keys().await.is_empty());
    assert_eq!(files(&top), BTreeMap::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_file_of_others_is_one_object_and_every_key_one_file(
        ours in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![5 => hostile_name(), 1 => Just(String::new())], 1..3)
                .prop_map(|segments| segments.join("/"))
                .prop_filter("no key", |key| !key.is_empty()),
            0..6,
        ),
        theirs in proptest::collection::vec((proptest::option::of(hostile_name()), hostile_name()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(ours, theirs));
    }
}
