//! Listings of a tree are those of the memory backend, whatever the keys.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{prelude::*, sample::Index};
use t2gate_backends::{ListObjects, MemoryBackend, ObjectPage, SystemClock, conformance::Subject};

use crate::Tree;

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{1,2}",
        1 => Just(String::new()),
        1 => prop_oneof![Just("."), Just(".."), Just(".t2"), Just(".t2=a"), Just("a-"), Just("a."), Just("a0"), Just("ä")]
            .prop_map(str::to_owned),
        1 => (240_usize..300, "[a-c/]?").prop_map(|(n, end)| "a".repeat(n) + &end),
    ]
}

fn key() -> impl Strategy<Value = String> {
    proptest::collection::vec(segment(), 1..4)
        .prop_map(|segments| segments.join("/"))
        .prop_filter("no key", |key| !key.is_empty() && key.len() <= 1024)
}

#[derive(Debug, Clone)]
struct Page {
    prefix: Option<(Index, Index)>,
    delimiter: Option<String>,
    start_after: Option<(Index, Index, String)>,
    max_keys: usize,
}

fn page() -> impl Strategy<Value = Page> {
    (
        proptest::option::of(any::<(Index, Index)>()),
        proptest::option::of(prop_oneof![Just("/".to_owned()), "[ab/-]{1,2}"]),
        proptest::option::of((any::<Index>(), any::<Index>(), "[a/]?")),
        1_usize..6,
    )
        .prop_map(|(prefix, delimiter, start_after, max_keys)| Page {
            prefix,
            delimiter,
            start_after,
            max_keys,
        })
}

/// The start of one of the keys.
fn cut(keys: &[String], which: Index, len: Index) -> String {
    let key = which.get(keys);
    let mut len = len.index(key.len() + 1);
    while !key.is_char_boundary(len) {
        len -= 1;
    }
    key[..len].to_owned()
}

fn names(page: &ObjectPage) -> (Vec<&str>, bool) {
    (
        page.entries.iter().map(|entry| entry.name()).collect(),
        page.is_truncated,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_page_is_the_one_of_the_memory_backend(
        keys in proptest::collection::btree_set(key(), 1..24),
        pages in proptest::collection::vec(page(), 12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tree = Tree::new().await;
            let memory = Subject::new(Arc::new(MemoryBackend::new(Arc::new(SystemClock)))).await;
            let list: Vec<String> = keys.iter().cloned().collect();
            for key in &list {
                tree.put(key, "x").await;
                memory.put(key, "x").await;
            }
            assert_eq!(tree.all_keys().await, list);
            for page in pages {
                let request = ListObjects {
                    prefix: page.prefix.map(|(which, len)| cut(&list, which, len)).unwrap_or_default().into(),
                    delimiter: page.delimiter.map(Into::into),
                    start_after: page.start_after.map(|(which, len, end)| (cut(&list, which, len) + &end).into()),
                    max_keys: page.max_keys,
                    ..tree.everything()
                };
                let expected = ListObjects { bucket: memory.bucket.clone(), ..request.clone() };
                let ours = tree.list_objects(request.clone()).await.unwrap();
                let theirs = memory.list_objects(expected).await.unwrap();
                assert_eq!(names(&ours), names(&theirs), "{request:?}");
            }
        });
    }
}

#[tokio::test]
async fn a_deep_tree_is_listed_whole_page_by_page() {
    let tree = Tree::new().await;
    let mut keys = BTreeSet::new();
    for depth in 1..80 {
        keys.insert("d/".repeat(depth) + "file");
        keys.insert("d/".repeat(depth) + "z");
    }
    for key in &keys {
        tree.put(key, "x").await;
    }
    let mut seen = Vec::new();
    loop {
        let page = tree
            .list_objects(ListObjects {
                start_after: seen.last().map(|key: &String| key.as_str().into()),
                max_keys: 7,
                ..tree.everything()
            })
            .await
            .unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
        if !page.is_truncated {
            break;
        }
    }
    assert_eq!(seen, keys.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn empty_directories_roll_up_into_nothing() {
    let tree = Tree::new().await;
    std::fs::create_dir_all(tree.path("a/b/c")).unwrap();
    std::fs::create_dir_all(tree.path("b/c")).unwrap();
    std::fs::write(tree.path("b/c/file"), "x").unwrap();
    let request = ListObjects {
        delimiter: Some("/".into()),
        max_keys: 1,
        ..tree.everything()
    };
    let page = tree.list_objects(request).await.unwrap();
    assert_eq!(names(&page), (vec!["b/"], false));
}
