//! What lies where, and that nothing is ever another's.

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use proptest::{prelude::*, sample::select};
use t2gate_backends::{
    FsBackend, FsFindingKind, FsOpenError, FsOptions, ListObjects, conformance::Subject, examine_fs,
};

use crate::{Tree, open_at, options, simulate};

const ROOT: &str = "T2GATE_FOLDING_ROOT";

/// Everything that is there is there under its own key alone.
async fn assert_holds(tree: &Tree, expected: &BTreeMap<String, Bytes>) {
    let keys: Vec<&String> = expected.keys().collect();
    assert_eq!(tree.all_keys().await.iter().collect::<Vec<_>>(), keys);
    for (key, bytes) in expected {
        assert_eq!(tree.get(key).await.as_ref(), Some(bytes), "{key:?}");
        assert_eq!(tree.info(key).await.key.as_str(), key);
    }
}

#[tokio::test]
async fn what_comes_first_has_its_own_name_and_what_comes_next_an_escape() {
    let tree = Tree::new().await;
    tree.put("README.txt", "first").await;
    tree.put("readme.txt", "second").await;
    tree.put("Readme.txt", "third").await;
    let escaped = [".t2~526561646d652e747874", ".t2~726561646d652e747874", "README.txt"];
    assert_eq!(tree.entries(), escaped);
    assert_eq!(fs::read(tree.path("README.txt")).unwrap(), b"first");
    assert_eq!(fs::read(tree.path(".t2~726561646d652e747874")).unwrap(), b"second");
    assert_eq!(tree.all_keys().await, ["README.txt", "Readme.txt", "readme.txt"]);
    assert_eq!(tree.get("README.TXT").await, None);
    assert!(!tree.delete("README.TXT").await.existed);
    assert!(tree.delete("README.txt").await.existed);
    assert_eq!(tree.get("readme.txt").await.unwrap(), "second");
    // As long as it is there it keeps its name.
    tree.put("readme.txt", "again").await;
    assert_eq!(tree.entries(), escaped[..2]);
    for key in ["readme.txt", "Readme.txt"] {
        assert!(tree.delete(key).await.existed);
    }
    tree.put("readme.txt", "plain").await;
    assert_eq!(tree.entries(), ["readme.txt"]);
}

#[tokio::test]
async fn directories_are_never_shared() {
    let tree = Tree::new().await;
    for key in ["A/x", "a/x", "a/y", "A/B/c", "A/b/c", "a/B/c"] {
        tree.put(key, key.to_owned()).await;
    }
    assert_eq!(fs::read(tree.path("A/x")).unwrap(), b"A/x");
    assert_eq!(fs::read(tree.path(".t2~61/x")).unwrap(), b"a/x");
    assert_eq!(fs::read(tree.path("A/.t2~62/c")).unwrap(), b"A/b/c");
    assert_eq!(tree.all_keys().await, ["A/B/c", "A/b/c", "A/x", "a/B/c", "a/x", "a/y"]);
    let request = ListObjects {
        delimiter: Some("/".into()),
        prefix: "a/".into(),
        ..tree.everything()
    };
    let page = tree.list_objects(request).await.unwrap();
    let names: Vec<_> = page.entries.iter().map(|entry| entry.name()).collect();
    assert_eq!(names, ["a/B/", "a/x", "a/y"]);
    for key in ["A/x", "A/B/c", "A/b/c"] {
        tree.delete(key).await;
    }
    assert!(!tree.path("A").exists());
    // What goes on goes on where it was.
    tree.put("a/z", "z").await;
    assert_eq!(fs::read(tree.path(".t2~61/z")).unwrap(), b"z");
    for key in ["a/B/c", "a/x", "a/y", "a/z"] {
        tree.delete(key).await;
    }
    assert_eq!(tree.entries(), [""; 0]);
}

#[tokio::test]
async fn an_object_beside_directories_of_other_spellings_keeps_its_own() {
    let tree = Tree::new().await;
    let mut expected = BTreeMap::new();
    for key in [
        "a",
        "A",
        "a/b",
        "A/b",
        "A/B",
        "a/B",
        "\u{e9}",
        "e\u{301}/x",
        "E\u{301}",
        "\u{e9}/x",
        "e\u{301}",
    ] {
        tree.put(key, key.to_owned()).await;
        expected.insert(key.to_owned(), Bytes::from(key.to_owned()));
        assert_holds(&tree, &expected).await;
    }
    while let Some((key, _)) = expected.pop_first() {
        assert!(tree.delete(&key).await.existed);
        assert_holds(&tree, &expected).await;
    }
    assert_eq!(tree.entries(), [""; 0]);
}

#[tokio::test]
async fn what_others_put_there_is_found_by_its_own_spelling_alone() {
    let tree = Tree::new().await;
    fs::create_dir(tree.path("Photos")).unwrap();
    fs::write(tree.path("Photos/IMG_1.JPG"), "jpg").unwrap();
    assert_eq!(tree.get("Photos/IMG_1.JPG").await.unwrap(), "jpg");
    for other in ["photos/IMG_1.JPG", "Photos/img_1.jpg", "PHOTOS/img_1.JPG"] {
        assert_eq!(tree.get(other).await, None);
        assert!(!tree.delete(other).await.existed);
        tree.put(other, other.to_owned()).await;
        assert_eq!(tree.get(other).await.unwrap(), other);
    }
    assert_eq!(tree.get("Photos/IMG_1.JPG").await.unwrap(), "jpg");
    assert_eq!(fs::read(tree.path("Photos/IMG_1.JPG")).unwrap(), b"jpg");
    tree.put("Photos/IMG_1.JPG", "ours").await;
    assert_eq!(fs::read(tree.path("Photos/IMG_1.JPG")).unwrap(), b"ours");
}

#[tokio::test]
async fn a_writer_that_sees_no_object_is_not_fooled_by_another_spelling() {
    let tree = Tree::new().await;
    tree.put("KEY", "there").await;
    let absent = t2gate_backends::WriteCondition {
        if_none_match: true,
        ..Default::default()
    };
    tree.put_if(absent.clone(), "key", "new").await.unwrap();
    assert!(tree.put_if(absent.clone(), "key", "again").await.is_err());
    assert!(tree.put_if(absent, "KEY", "again").await.is_err());
    assert_eq!(tree.get("KEY").await.unwrap(), "there");
    assert_eq!(tree.get("key").await.unwrap(), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_writers_of_all_spellings_lose_nothing() {
    let tree = Tree::new().await;
    for round in 0..40 {
        let keys: Vec<String> = (0..8)
            .map(|n| {
                let of = |bit: u8, lower: &str, upper: &str| {
                    if n >> bit & 1 == 0 {
                        lower.to_owned()
                    } else {
                        upper.to_owned()
                    }
                };
                format!(
                    "{}{round}/{}/{}",
                    of(0, "d", "D"),
                    of(1, "\u{e9}", "e\u{301}"),
                    of(2, "k", "K")
                )
            })
            .collect();
        let put = keys.iter().map(|key| tree.put(key, key.clone()));
        futures::future::join_all(put).await;
        // Some go while others come.
        let (gone, stay) = keys.split_at(4);
        let delete = futures::future::join_all(gone.iter().map(|key| tree.delete(key)));
        let again = futures::future::join_all(stay.iter().map(|key| tree.put(key, key.clone())));
        futures::future::join(delete, again).await;
        for key in stay {
            assert_eq!(tree.get(key).await.unwrap(), *key);
        }
        for key in gone {
            assert_eq!(tree.get(key).await, None, "{key}");
        }
        let mut stay = stay.to_vec();
        stay.sort();
        assert_eq!(tree.all_keys().await, stay);
        for key in stay {
            tree.delete(&key).await;
        }
        assert_eq!(tree.entries(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_writers_of_several_processes_lose_nothing() {
    simulate();
    let root = tempfile::tempdir().unwrap();
    let open = || {
        let shared = FsOptions {
            shared: true,
            ..options(root.path())
        };
        Arc::new(FsBackend::open(shared).unwrap())
    };
    let one = Subject::new(open()).await;
    let other = Subject::of(open(), one.bucket.clone()).await;
    for round in 0..20 {
        let keys: Vec<String> = ["d/k", "D/k", "d/K", "D/K"]
            .map(|key| key.replace('/', &format!("{round}/")))
            .into();
        let put = keys.iter().zip([&one, &other, &other, &one]);
        futures::future::join_all(put.map(|(key, by)| by.put(key, key.clone()))).await;
        let mut sorted = keys.clone();
        sorted.sort();
        for seen_by in [&one, &other] {
            for key in &keys {
                assert_eq!(seen_by.get(key).await.unwrap(), *key);
            }
            assert_eq!(seen_by.all_keys().await, sorted);
        }
        // Some go by the one while others are replaced by the other.
        let (gone, stay) = keys.split_at(2);
        let delete = futures::future::join_all(gone.iter().map(|key| one.delete(key)));
        let again = futures::future::join_all(stay.iter().map(|key| other.put(key, "again")));
        futures::future::join(delete, again).await;
        for key in gone {
            assert_eq!(other.get(key).await, None, "{key}");
        }
        for key in stay {
            assert_eq!(one.get(key).await.unwrap(), "again");
            one.delete(key).await;
        }
        assert_eq!(other.all_keys().await, [""; 0]);
    }
}

#[tokio::test]
async fn an_older_root_is_brought_to_the_format_with_folded_names() {
    let tree = Tree::new().await;
    tree.put("a", "x").await;
    assert_eq!(fs::read(tree.root.path().join(".t2/format")).unwrap(), b"2\n");
    let tree = tree
        .reopened(|root| fs::write(root.join(".t2/format"), "1\n").unwrap())
        .await;
    assert_eq!(fs::read(tree.root.path().join(".t2/format")).unwrap(), b"2\n");
    assert_eq!(tree.get("a").await.unwrap(), "x");
    let Tree { subject, root } = tree;
    drop(subject);
    fs::write(root.path().join(".t2/format"), "3\n").unwrap();
    assert!(matches!(
        examine_fs(root.path(), false),
        Err(FsOpenError::UnknownFormat { .. })
    ));
}

/// Opens a root, and examines it, as a process for which extended attributes fail.
#[test]
fn child_without_extended_attributes() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    simulate();
    let root = Path::new(&root);
    let refused = FsBackend::open(options(root)).unwrap_err();
    println!("start: {refused};");
    if root.join(".t2/format").exists() {
        println!("doctor: {};", examine_fs(root, true).unwrap_err());
    }
}

#[test]
fn what_would_need_side_files_is_refused_with_words() {
    const WORDS: &str = "names are folded here";
    let refused_without = |root: &Path| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tree::child_without_extended_attributes", "--nocapture"])
            .env("T2GATE_TEST_XATTRS", "none")
            .env(ROOT, root)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    // A new one.
    let root = tempfile::tempdir().unwrap();
    let said = refused_without(root.path());
    assert!(said.contains("start: ") && said.contains(WORDS), "{said}");
    let format = root.path().join(".t2/format");
    assert!(!format.exists());
    // One that has them.
    simulate();
    fs::write(&format, "1 side-files\n").unwrap();
    let refused = FsBackend::open(options(root.path())).unwrap_err();
    assert!(matches!(&refused, FsOpenError::FoldedSideFiles(_)), "{refused}");
    assert!(refused.to_string().contains(WORDS), "{refused}");
    // One whose extended attributes were left behind: they are not given up for what would not be served.
    let root = tempfile::tempdir().unwrap();
    drop(open_at(root.path()));
    let said = refused_without(root.path());
    assert!(said.contains("doctor: ") && said.contains(WORDS), "{said}");
    assert_eq!(fs::read(root.path().join(".t2/format")).unwrap(), b"2\n");
}

#[tokio::test]
async fn doctor_finds_nothing_in_a_tree_of_ours_and_what_hides_behind_an_escape() {
    let tree = Tree::new().await;
    let long = "n".repeat(300);
    for key in [
        "a",
        "A",
        "a/b",
        "A/b",
        "a/B",
        &long,
        &long.to_uppercase(),
        "\u{e9}",
        "e\u{301}",
        "d/",
        "D/",
    ] {
        tree.put(key, "x").await;
    }
    let Tree { subject, root } = tree;
    let bucket = root.path().join(subject.bucket.as_str());
    drop(subject);
    let report = examine_fs(root.path(), true).unwrap();
    assert_eq!((report.objects, report.findings), (11, vec![]));

    fs::create_dir(bucket.join("q")).unwrap();
    fs::create_dir(bucket.join(".t2~71")).unwrap();
    fs::write(bucket.join(".t2~72"), "x").unwrap();
    fs::write(bucket.join("r"), "y").unwrap();
    let report = examine_fs(root.path(), true).unwrap();
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|f| (f.kind, f.path.rsplit('/').next().unwrap(), f.repaired))
        .collect();
    let expected = [
        (FsFindingKind::TwoDirectories, "q", false),
        (FsFindingKind::TwoFiles, "r", true),
    ];
    assert_eq!(found, expected);
    assert!(!bucket.join("r").exists());
}

pub(crate) fn segment() -> impl Strategy<Value = String> {
    let long = |end: &str| "n".repeat(252) + end;
    prop_oneof![
        6 => select(&["a", "A", "b", "B"][..]).prop_map(str::to_owned),
        4 => select(&["\u{e9}", "\u{c9}", "e\u{301}", "E\u{301}", "stra\u{df}e", "STRASSE", "k", "\u{212a}"][..])
            .prop_map(str::to_owned),
        3 => select(&["", ".", "..", ".t2=x", ".T2=X", ".t2!a", ".t2!A", ".t2~61", ".T2~61", ".t2-61"][..])
            .prop_map(str::to_owned),
        2 => select(&["a.", "a ", "a:", "A. ", "NUL", "nul"][..]).prop_map(str::to_owned),
        3 => select(&["m", "M", "", "mm", "mmM", "mmmm", "MMMM", "MMMMmmmm", "mmmmMMMM"][..])
            .prop_map(long),
    ]
}

#[tokio::test]
async fn an_object_that_steps_aside_leaves_no_directories_behind() {
    let tree = Tree::new().await;
    let stem = "n".repeat(252);
    let (first, second) = (format!("{stem}M"), format!("{stem}m"));
    tree.put(&first, "first").await;
    tree.put(&second, "second").await;
    tree.delete(&first).await;
    // The second has names for what is spelled otherwise; what comes below it has no need of them any more.
    let below = format!("{second}/a");
    tree.put(&below, "below").await;
    assert_eq!(tree.get(&second).await.unwrap(), "second");
    tree.delete(&second).await;
    tree.delete(&below).await;
    assert_eq!(tree.entries(), [""; 0]);
}

/// On a narrow file system each of these has an escape at once, also where there is no directory yet to look into.
#[tokio::test]
async fn what_is_made_in_a_directory_that_is_not_there_leaves_no_other_behind() {
    let tree = Tree::new().await;
    for key in [format!("d/{}.", "n".repeat(252)), format!("{}./a", "n".repeat(252))] {
        tree.put(&key, key.clone()).await;
        assert_eq!(tree.get(&key).await.unwrap(), key);
        tree.delete(&key).await;
        assert_eq!(tree.entries(), [""; 0]);
    }
}

#[tokio::test]
async fn an_object_that_comes_back_leaves_no_directories_behind() {
    let tree = Tree::new().await;
    // Too long for one name with an escape before it.
    for key in ["n".repeat(252), "n".repeat(253), "N".repeat(255)] {
        let below = format!("{key}/a");
        tree.put(&key, "first").await;
        tree.put(&below, "below").await;
        tree.delete(&below).await;
        tree.put(&key, "second").await;
        assert_eq!(tree.get(&key).await.unwrap(), "second");
        assert_eq!(tree.entries().len(), 1, "{:?}", tree.entries());
        tree.delete(&key).await;
        assert_eq!(tree.entries(), [""; 0]);
    }
}

pub(crate) fn key() -> impl Strategy<Value = String> {
    proptest::collection::vec(segment(), 1..4)
        .prop_map(|segments| segments.join("/"))
        .prop_filter("no key", |key| !key.is_empty() && key.len() <= 1024)
}

#[derive(Debug, Clone)]
enum Step {
    Put(String),
    Delete(prop::sample::Index),
    Reopen,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_spellings_every_key_is_itself(steps in proptest::collection::vec(
        prop_oneof![
            8 => key().prop_map(Step::Put),
            4 => any::<prop::sample::Index>().prop_map(Step::Delete),
            1 => Just(Step::Reopen),
        ],
        1..40,
    )) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tree = Tree::new().await;
            let mut expected: BTreeMap<String, Bytes> = BTreeMap::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(key) => {
                        let bytes = format!("{n} {key}");
                        tree.put(&key, bytes.clone()).await;
                        expected.insert(key, bytes.into());
                    }
                    Step::Delete(index) if !expected.is_empty() => {
                        let key = index.get(&expected.keys().cloned().collect::<Vec<_>>()).clone();
                        assert!(tree.delete(&key).await.existed, "{key:?}");
                        expected.remove(&key);
                    }
                    Step::Delete(_) => {}
                    Step::Reopen => tree = tree.reopened(|_| {}).await,
                }
                assert_holds(&tree, &expected).await;
            }
            for key in expected.keys() {
                tree.delete(key).await;
            }
            assert_eq!(tree.entries(), [""; 0], "something stays behind");
        });
    }
}
