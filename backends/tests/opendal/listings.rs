//! Listings over a store in memory: what a page costs, and that it is the one of the memory backend, whatever the keys.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{prelude::*, sample::Index};
use t2gate_backends::{
    Backend, ListEntry, ListObjectVersions, ListObjects, MemoryBackend, OpendalBackend, OpendalOptions, StoreLayout,
    SystemClock, VersionEntry, VersionId, Versioned, VersioningStatus, conformance::Subject,
};

use super::simulated::Simulated;

const ENABLED: Option<VersioningStatus> = Some(VersioningStatus::Enabled);

async fn backend(store: &Simulated, layout: StoreLayout) -> Arc<dyn Backend> {
    let options = OpendalOptions {
        layout: Some(layout),
        ..store.options(None)
    };
    let opened = OpendalBackend::open(options).await.unwrap();
    match layout {
        StoreLayout::Transparent => Arc::new(opened),
        StoreLayout::Encoded => Arc::new(Versioned::new(opened, Arc::new(SystemClock)).unwrap()),
    }
}

fn all_versions(s: &Subject) -> ListObjectVersions {
    let everything = s.everything();
    ListObjectVersions {
        bucket: everything.bucket,
        prefix: everything.prefix,
        delimiter: everything.delimiter,
        key_marker: None,
        version_id_marker: None,
        max_keys: everything.max_keys,
    }
}

fn of_versions(request: &ListObjects) -> ListObjectVersions {
    ListObjectVersions {
        bucket: request.bucket.clone(),
        prefix: request.prefix.clone(),
        delimiter: request.delimiter.clone(),
        key_marker: request.start_after.clone(),
        version_id_marker: None,
        max_keys: request.max_keys,
    }
}

// ---- what a page costs

/// Most of them in directories, of which one is large.
fn many_keys() -> BTreeSet<String> {
    let plain = (0..400).map(|n| format!("key-{n:04}"));
    let large = (0..900).map(|n| format!("large/{n:04}"));
    let small = (0..100).flat_map(|dir| (0..3).map(move |n| format!("small/{dir:04}/{n}")));
    plain.chain(large).chain(small).collect()
}

/// What is asked, and what of the keys is on the page.
#[derive(Debug)]
struct Question {
    prefix: &'static str,
    delimiter: Option<&'static str>,
    marker: Option<&'static str>,
    first: &'static str,
    last: &'static str,
}

const MAX: usize = 10;

fn questions() -> Vec<Question> {
    let of = |prefix, delimiter, marker, first, last| Question {
        prefix,
        delimiter,
        marker,
        first,
        last,
    };
    vec![
        of("", None, None, "key-0000", "key-0009"),
        of("", None, Some("key-0333"), "key-0334", "key-0343"),
        of("", None, Some("large/0899"), "small/0000/0", "small/0003/0"),
        of("", None, Some("large/0"), "large/0000", "large/0009"),
        of("large/08", None, None, "large/0800", "large/0809"),
        of("large/", None, Some("large/0555"), "large/0556", "large/0565"),
        of("l", None, Some("a"), "large/0000", "large/0009"),
        of("", Some("/"), Some("key-0399"), "large/", "small/"),
        of("", Some("/"), Some("large/0100"), "large/", "small/"),
        of("", Some("/"), Some("large/"), "small/", "small/"),
        of("small/", Some("/"), Some("small/0050/"), "small/0051/", "small/0060/"),
        of("small/", Some("/"), Some("small/0050/1"), "small/0050/", "small/0059/"),
        of("large/", Some("0"), None, "large/0", "large/0"),
        of("", Some("e/"), Some("key-0399"), "large/", "small/0002/2"),
        of("", Some("arge"), Some("large/0800"), "large", "small/0002/2"),
    ]
}

async fn costs_its_page(layout: StoreLayout, versioning: Option<VersioningStatus>) {
    let store = Simulated::new().dressed();
    let s = Subject::with_versioning(backend(&store, layout).await, versioning).await;
    let keys = many_keys();
    for key in &keys {
        s.put(key, "x").await;
    }
    for question in questions() {
        let request = ListObjects {
            prefix: question.prefix.into(),
            delimiter: question.delimiter.map(Into::into),
            start_after: question.marker.map(Into::into),
            max_keys: MAX,
            ..s.everything()
        };
        for of_objects in [true, false] {
            store.take_listed();
            let names: Vec<String> = if of_objects {
                let page = s.list_objects(request.clone()).await.unwrap();
                page.entries.iter().map(|entry| entry.name().to_owned()).collect()
            } else {
                let page = s.list_object_versions(of_versions(&request)).await.unwrap();
                page.entries.iter().map(|entry| entry.name().to_owned()).collect()
            };
            let (answers, entries) = store.take_listed();
            let told = (names.first().map(String::as_str), names.last().map(String::as_str));
            assert_eq!(told, (Some(question.first), Some(question.last)), "{question:?}");
            // The bucket's first names may be looked at for an answer or two; never all.
            assert!(
                answers <= 4 && entries <= 12 * MAX,
                "{answers} answers with {entries} entries, of objects: {of_objects}, {question:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_page_of_the_transparent_layout_costs_its_page() {
    costs_its_page(StoreLayout::Transparent, None).await;
}

#[tokio::test]
async fn a_page_of_the_encoded_layout_costs_its_page() {
    costs_its_page(StoreLayout::Encoded, None).await;
}

#[tokio::test]
async fn a_page_of_versions_costs_its_page() {
    costs_its_page(StoreLayout::Encoded, ENABLED).await;
}

/// Keys whose names are cut lie behind their neighbours in the store, in any order.
#[tokio::test]
async fn keys_with_long_beginnings_cost_those_that_are_cut() {
    const CUT: usize = 20;
    let store = Simulated::new();
    let s = Subject::new(backend(&store, StoreLayout::Encoded).await).await;
    let beginning = "long/".repeat(96);
    assert_eq!(beginning.len(), 480);
    let short = (0..600).map(|n| format!("{beginning}{n:04}"));
    let cut = (0..CUT).map(|n| format!("{beginning}{n:04}{}", "x".repeat(100)));
    let others = (0..600).map(|n| format!("other/{n:04}"));
    let keys: Vec<String> = short
        .chain(cut)
        .chain(others)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    for key in &keys {
        s.put(key, "x").await;
    }
    let mut seen: Vec<String> = Vec::new();
    loop {
        store.take_listed();
        let request = ListObjects {
            start_after: seen.last().map(|key| key.as_str().into()),
            max_keys: MAX,
            ..s.everything()
        };
        let page = s.list_objects(request).await.unwrap();
        let (answers, entries) = store.take_listed();
        assert!(answers <= 4 && entries <= 8 * MAX + 2 * CUT, "{answers}, {entries}");
        seen.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
        if !page.is_truncated {
            break;
        }
    }
    assert!(seen == keys, "each once, in order");
}

/// What is left of a directory may be known only by a key that lies in the store behind what is not.
#[tokio::test]
async fn what_is_rolled_up_is_found_among_keys_that_are_cut() {
    let beginning = "long/".repeat(96);
    let rolled_up = |s: &Subject, marker: Option<&str>| ListObjects {
        delimiter: Some("/".into()),
        start_after: marker.map(Into::into),
        max_keys: 1,
        ..s.everything()
    };
    let s = Subject::new(backend(&Simulated::new(), StoreLayout::Encoded).await).await;
    let cut: Vec<String> = (0..40)
        .map(|n| format!("{beginning}{n:04}{}", "x".repeat(100)))
        .collect();
    for key in &cut {
        s.put(key, "x").await;
    }
    for marker in &cut[..39] {
        assert_eq!(s.names(rolled_up(&s, Some(marker))).await, ["long/"]);
    }
    assert!(s.names(rolled_up(&s, Some(&cut[39]))).await.is_empty());

    let s = Subject::with_versioning(backend(&Simulated::new(), StoreLayout::Encoded).await, ENABLED).await;
    let gone = format!("{beginning}b");
    s.put(&gone, "x").await;
    s.delete(&gone).await;
    assert!(s.names(rolled_up(&s, None)).await.is_empty());
    s.put(&format!("{beginning}a{}", "x".repeat(100)), "x").await;
    assert_eq!(s.names(rolled_up(&s, None)).await, ["long/"]);
}

// ---- the pages

/// Around the lengths at which names change.
fn key() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => "[ab]{1,2}",
        1 => prop_oneof![
            Just(""), Just("."), Just(".."), Just("a "), Just("%2F"), Just("\u{1}"), Just("\u{7f}"), Just("a\\"),
            Just("ä"), Just("\u{10ffff}"), Just("-"), Just("0")
        ].prop_map(str::to_owned),
    ];
    let words = proptest::collection::vec(word, 1..4).prop_map(|words| words.join("/"));
    let long = prop_oneof![
        Just(0),
        120_usize..130,
        476_usize..484,
        556_usize..564,
        1000_usize..1010
    ];
    (
        long,
        prop_oneof![Just("a"), Just("a/"), Just("ä")],
        words.clone(),
        words,
    )
        .prop_map(|(len, filler, before, after)| match len {
            0 => before,
            _ => {
                let mut key = before;
                while key.len() + filler.len() <= len {
                    key.push_str(filler);
                }
                key + &after
            }
        })
        .prop_filter("no key", |key| !key.is_empty() && key.len() <= 1024)
}

/// What no layout refuses.
fn plain_key() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abä,]{1,2}", 1..4).prop_map(|words| words.join("/"))
}

/// All keys of a group begin alike, so that many of them are cut, or not, at the same place.
fn keys() -> impl Strategy<Value = BTreeSet<String>> {
    let alone = proptest::collection::btree_set(key(), 0..10);
    let tail = (prop_oneof![Just(0_usize), 75_usize..85, 500_usize..520], "[ab/ä]{0,3}");
    let tails = proptest::collection::vec((tail, "[ab/]{0,2}"), 0..10);
    let beginning = (prop_oneof![Just("a"), Just("b/"), Just("ä")], 470_usize..485);
    (alone, beginning, tails).prop_map(|(mut keys, (filler, len), tails)| {
        let beginning = filler.repeat(len / filler.len());
        for ((len, first), last) in tails {
            let key = format!("{beginning}{first}{}{last}", "b".repeat(len));
            keys.insert(key);
        }
        keys.insert("a".to_owned());
        keys
    })
}

#[derive(Debug, Clone)]
struct Page {
    prefix: Option<(Index, Index)>,
    delimiter: Option<String>,
    marker: Option<(Index, Index, String)>,
    max_keys: usize,
}

fn page() -> impl Strategy<Value = Page> {
    let delimiter = prop_oneof![
        Just("/".to_owned()),
        Just("ä".to_owned()),
        "[ab/]{1,2}",
        Just("b".repeat(77))
    ];
    (
        proptest::option::of(any::<(Index, Index)>()),
        proptest::option::of(delimiter),
        proptest::option::of((any::<Index>(), any::<Index>(), "[a/]?")),
        prop_oneof![1_usize..6, Just(1000)],
    )
        .prop_map(|(prefix, delimiter, marker, max_keys)| Page {
            prefix,
            delimiter,
            marker,
            max_keys,
        })
}

/// The start of one of the keys; often all of it, or a directory.
fn start(keys: &[String], which: Index, len: Index) -> String {
    let key = which.get(keys);
    let places: Vec<usize> = (0..=key.len()).filter(|at| key.is_char_boundary(*at)).collect();
    let directories: Vec<usize> = key
        .match_indices('/')
        .map(|(at, _)| at + 1)
        .chain([key.len()])
        .collect();
    let at = match which.index(2) {
        0 => *len.get(&places),
        _ => *len.get(&directories),
    };
    key[..at].to_owned()
}

impl Page {
    fn request(&self, s: &Subject, keys: &[String]) -> ListObjects {
        let prefix = self.prefix.map(|(which, len)| start(keys, which, len));
        let marker = self.marker.as_ref();
        ListObjects {
            prefix: prefix.unwrap_or_default().into(),
            delimiter: self.delimiter.as_deref().map(Into::into),
            start_after: marker.map(|(which, len, end)| (start(keys, *which, *len) + end).into()),
            max_keys: self.max_keys,
            ..s.everything()
        }
    }
}

/// Of objects: names, and which are common prefixes.
async fn objects(s: &Subject, request: &ListObjects) -> (Vec<(String, bool)>, bool) {
    let request = ListObjects {
        bucket: s.bucket.clone(),
        ..request.clone()
    };
    let page = s.list_objects(request).await.unwrap();
    let entries = page.entries.iter();
    let told = entries.map(|entry| (entry.name().to_owned(), matches!(entry, ListEntry::CommonPrefix(_))));
    (told.collect(), page.is_truncated)
}

/// Of versions: their names, kinds, and whether they are the latest.
async fn versions(s: &Subject, request: &ListObjectVersions) -> (Vec<(String, u8, bool)>, bool) {
    let request = ListObjectVersions {
        bucket: s.bucket.clone(),
        ..request.clone()
    };
    let page = s.list_object_versions(request).await.unwrap();
    let told = page.entries.iter().map(|entry| {
        let (kind, is_latest) = match entry {
            VersionEntry::Object { is_latest, .. } => (0, *is_latest),
            VersionEntry::DeleteMarker(marker) => (1, marker.is_latest),
            VersionEntry::CommonPrefix(_) => (2, false),
        };
        (entry.name().to_owned(), kind, is_latest)
    });
    (told.collect(), page.is_truncated)
}

async fn ids(s: &Subject) -> Vec<(String, VersionId)> {
    let page = s.list_object_versions(all_versions(s)).await.unwrap();
    let ids = page.entries.iter();
    ids.map(|entry| (entry.name().to_owned(), entry.version_id().unwrap().clone()))
        .collect()
}

async fn are_the_same(ours: &Subject, memory: &Subject, keys: &BTreeSet<String>, fates: &[Index], pages: &[Page]) {
    let list: Vec<String> = keys.iter().cloned().collect();
    for (key, fate) in list.iter().zip(fates.iter().cycle()) {
        for s in [ours, memory] {
            s.put(key, "x").await;
            match fate.index(4) {
                0 => drop(s.delete(key).await),
                1 => drop(s.put(key, "again").await),
                _ => {}
            }
        }
    }
    let (our_ids, their_ids) = (ids(ours).await, ids(memory).await);
    assert_eq!(our_ids.len(), their_ids.len());
    for page in pages {
        let mut request = page.request(ours, &list);
        // To the end, page by page.
        loop {
            let page = objects(ours, &request).await;
            assert_eq!(page, objects(memory, &request).await, "{request:?}");
            match page {
                (entries, true) => request.start_after = entries.last().map(|(last, _)| last.as_str().into()),
                _ => break,
            }
        }
        let mut ours_of = of_versions(&page.request(ours, &list));
        let mut theirs_of = ours_of.clone();
        assert_eq!(
            versions(ours, &ours_of).await,
            versions(memory, &theirs_of).await,
            "{ours_of:?}"
        );
        if let Some((which, ..)) = page.marker
            && !our_ids.is_empty()
        {
            let at = which.index(our_ids.len());
            assert_eq!(our_ids[at].0, their_ids[at].0);
            ours_of.key_marker = Some(our_ids[at].0.as_str().into());
            theirs_of.key_marker = ours_of.key_marker.clone();
            ours_of.version_id_marker = Some(our_ids[at].1.clone());
            theirs_of.version_id_marker = Some(their_ids[at].1.clone());
            assert_eq!(
                versions(ours, &ours_of).await,
                versions(memory, &theirs_of).await,
                "{ours_of:?}"
            );
        }
    }
}

async fn reference(versioning: Option<VersioningStatus>) -> Subject {
    let memory = MemoryBackend::new(Arc::new(SystemClock));
    let memory = Versioned::new(memory, Arc::new(SystemClock)).unwrap();
    Subject::with_versioning(Arc::new(memory), versioning).await
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_page_of_the_encoded_layout_is_the_one_of_the_memory_backend(
        keys in keys(),
        fates in proptest::collection::vec(any::<Index>(), 20),
        pages in proptest::collection::vec(page(), 8),
        is_versioned: bool,
        // Which store: the first two list in order.
        store in 0_usize..4,
    ) {
        let versioning = if is_versioned { ENABLED } else { None };
        let store = match store {
            0 => Simulated::new(),
            1 => Simulated::new().without_conditional_deletes(),
            2 => Simulated::new().shallow(),
            _ => Simulated::new().unordered(),
        };
        run(async {
            let ours = Subject::with_versioning(backend(&store, StoreLayout::Encoded).await, versioning).await;
            are_the_same(&ours, &reference(versioning).await, &keys, &fates, &pages).await;
        });
    }

    #[test]
    fn every_page_of_the_transparent_layout_is_the_one_of_the_memory_backend(
        keys in proptest::collection::btree_set(plain_key(), 1..16),
        fates in proptest::collection::vec(any::<Index>(), 20),
        pages in proptest::collection::vec(page(), 8),
        is_ordered: bool,
    ) {
        let store = Simulated::new().dressed();
        let store = if is_ordered { store } else { store.unordered() };
        run(async {
            let ours = Subject::new(backend(&store, StoreLayout::Transparent).await).await;
            are_the_same(&ours, &reference(None).await, &keys, &fates, &pages).await;
        });
    }
}
