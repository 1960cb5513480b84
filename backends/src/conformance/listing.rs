//! Listings: byte order, prefixes, delimiters, pages.

use std::collections::BTreeSet;

use super::Subject;
use crate::{ListEntry, ListObjects, ObjectInfo};

/// Keys whose order and roll-up go wrong where a directory is taken for a key or sorts by its bare name.
const TRICKY: [&str; 38] = [
    "A",
    "a",
    "a!",
    "a-",
    "a-/x",
    "a.b",
    "a.b/c",
    "a/",
    "a//",
    "a//b",
    "a/b",
    "a/b!",
    "a/b-c",
    "a/b/c",
    "a/b/d",
    "a/b0",
    "a/c",
    "a0",
    "a0/x",
    "aa/a",
    "aa/aa/aa",
    "aaa",
    "b",
    "b--c--d",
    "b--c/d",
    "b--e",
    "b-c",
    "c/",
    "d//e",
    "d//e//f",
    "d/e",
    "dir/sub/x",
    "dir/sub/y",
    "dir/z",
    "é/1",
    "é/2",
    "日/本",
    "\u{1f980}",
];

const PREFIXES: [&str; 14] = [
    "", "a", "a/", "a/b", "a/b/", "a//", "aa", "b-", "d//e", "di", "dir/sub", "é", "nothing", "a/b/c",
];

const DELIMITERS: [Option<&str>; 7] = [
    None,
    Some("/"),
    Some("//"),
    Some("--"),
    Some("b"),
    Some("/b"),
    Some("aa"),
];

/// What a listing has to hold, worked out from the words of the contract and not in the way of a backend.
fn expected(keys: &BTreeSet<&str>, request: &ListObjects) -> Vec<String> {
    let entry = |key: &str| match &request.delimiter {
        Some(delimiter) => match key[request.prefix.len()..].split_once(&**delimiter) {
            Some((head, _)) => format!("{}{head}{delimiter}", request.prefix),
            None => key.to_owned(),
        },
        None => key.to_owned(),
    };
    let after = |key: &&&str| match request.start_after.as_deref() {
        None => true,
        Some(start) if key.starts_with(start) => **key != start && entry(key) != start,
        Some(start) => **key > start,
    };
    let inside = keys.iter().filter(|key| key.starts_with(&*request.prefix));
    let names: BTreeSet<String> = inside.filter(after).map(|key| entry(key)).collect();
    names.into_iter().collect()
}

async fn put_tricky(s: &Subject) -> BTreeSet<&'static str> {
    let held = s.held(TRICKY).await;
    for key in &held {
        s.put(key, *key).await;
    }
    held.into_iter().collect()
}

fn request(s: &Subject, prefix: &str, delimiter: Option<&str>) -> ListObjects {
    ListObjects {
        prefix: prefix.into(),
        delimiter: delimiter.map(Into::into),
        ..s.everything()
    }
}

/// The names of all pages of `size` entries, each checked for the promises of a page.
async fn pages(s: &Subject, request: &ListObjects, size: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut next = ListObjects {
        max_keys: size,
        ..request.clone()
    };
    loop {
        let page = s.list_objects(next.clone()).await.unwrap();
        assert!(page.entries.len() <= size, "a page of more than {size}");
        assert!(page.entries.len() == size || !page.is_truncated, "a page cut short");
        names.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
        if !page.is_truncated {
            return names;
        }
        next.start_after = names.last().map(|name| name.as_str().into());
    }
}

pub async fn an_empty_bucket_lists_nothing(s: Subject) {
    let page = s.list_objects(request(&s, "", Some("/"))).await.unwrap();
    assert!(page.entries.is_empty() && !page.is_truncated);
}

pub async fn keys_come_in_byte_order(s: Subject) {
    let keys = put_tricky(&s).await;
    assert_eq!(s.all_keys().await, keys.into_iter().collect::<Vec<_>>());
}

pub async fn entries_tell_what_objects_do(s: Subject) {
    put_tricky(&s).await;
    let page = s.list_objects(s.everything()).await.unwrap();
    for entry in page.entries {
        let ListEntry::Object(listed) = entry else {
            panic!("{entry:?}");
        };
        let info = s.info(listed.key.as_str()).await;
        let told = |info: &ObjectInfo| {
            let ObjectInfo {
                key,
                version_id,
                size,
                etag,
                last_modified,
                ..
            } = info.clone();
            (key, version_id, size, etag, last_modified)
        };
        let mut listed = listed;
        if s.is_always_versioned() && listed.version_id.is_none() {
            listed.version_id.clone_from(&info.version_id);
        }
        assert_eq!(told(&listed), told(&info));
        if listed.attributes.checksum.is_some() {
            assert_eq!(listed.attributes.checksum, info.attributes.checksum);
        }
    }
}

pub async fn prefixes_may_cut_anywhere(s: Subject) {
    let keys = put_tricky(&s).await;
    for key in TRICKY {
        for (cut, _) in key.char_indices() {
            let request = request(&s, &key[..cut], None);
            assert_eq!(s.names(request.clone()).await, expected(&keys, &request), "{request:?}");
        }
    }
}

pub async fn delimiters_of_any_length_roll_keys_up(s: Subject) {
    let keys = put_tricky(&s).await;
    for prefix in PREFIXES {
        for delimiter in DELIMITERS {
            let request = request(&s, prefix, delimiter);
            assert_eq!(s.names(request.clone()).await, expected(&keys, &request), "{request:?}");
        }
    }
}

pub async fn objects_and_common_prefixes_are_told_apart(s: Subject) {
    let held = s.held(["a", "a/b", "c/", "d//e"]).await;
    for key in &held {
        s.put(key, "x").await;
    }
    let kinds = |entries: Vec<ListEntry>| -> Vec<(bool, String)> {
        let kind = |entry: &ListEntry| (matches!(entry, ListEntry::CommonPrefix(_)), entry.name().to_owned());
        entries.iter().map(kind).collect()
    };
    let expect = |names: &[(bool, &str)]| -> Vec<(bool, String)> {
        names
            .iter()
            .filter(|(_, name)| held.iter().any(|key| key.starts_with(name)))
            .map(|(common, name)| (*common, (*name).to_owned()))
            .collect()
    };
    let page = s.list_objects(request(&s, "", Some("/"))).await.unwrap();
    assert_eq!(
        kinds(page.entries),
        expect(&[(false, "a"), (true, "a/"), (true, "c/"), (true, "d/")])
    );
    let page = s.list_objects(request(&s, "c/", Some("/"))).await.unwrap();
    assert_eq!(kinds(page.entries), expect(&[(false, "c/")]));
    let page = s.list_objects(request(&s, "d/", Some("/"))).await.unwrap();
    assert_eq!(kinds(page.entries), expect(&[(true, "d//")]));
    let page = s.list_objects(request(&s, "", Some("//"))).await.unwrap();
    assert_eq!(
        kinds(page.entries),
        expect(&[(false, "a"), (false, "a/b"), (false, "c/"), (true, "d//")])
    );
}

pub async fn pages_of_every_size_give_the_whole_listing(s: Subject) {
    let keys = put_tricky(&s).await;
    for delimiter in [None, Some("/")] {
        let request = request(&s, "", delimiter);
        let whole = expected(&keys, &request);
        for size in 1..=whole.len() + 1 {
            assert_eq!(pages(&s, &request, size).await, whole, "pages of {size}, {delimiter:?}");
        }
    }
}

pub async fn pages_of_common_prefixes_neither_repeat_nor_skip(s: Subject) {
    let keys = put_tricky(&s).await;
    for prefix in PREFIXES {
        for delimiter in DELIMITERS {
            let request = request(&s, prefix, delimiter);
            for size in [1, 2, 5] {
                let names = pages(&s, &request, size).await;
                assert_eq!(names, expected(&keys, &request), "pages of {size}, {request:?}");
            }
        }
    }
}

pub async fn a_listing_may_start_after_any_text(s: Subject) {
    let keys = put_tricky(&s).await;
    let beside = [
        "",
        "0",
        "a/b/",
        "a/b/c0",
        "a-/",
        "b--",
        "d/",
        "d//",
        "dir",
        "dir/",
        "dir/sub/",
        "dir/sub/xx",
        "zzz",
        "é/",
        "é/15",
        "\u{10ffff}",
    ];
    for start_after in TRICKY.into_iter().chain(beside) {
        for (prefix, delimiter) in [
            ("", None),
            ("", Some("/")),
            ("a/", Some("/")),
            ("d", Some("//")),
            ("b", Some("--")),
            ("dir", None),
        ] {
            let request = ListObjects {
                start_after: Some(start_after.into()),
                ..request(&s, prefix, delimiter)
            };
            assert_eq!(s.names(request.clone()).await, expected(&keys, &request), "{request:?}");
        }
    }
}

pub async fn starting_after_a_common_prefix_skips_all_below_it(s: Subject) {
    for key in ["a/1", "a/2", "b"] {
        s.put(key, "x").await;
    }
    let after = |start: &str, delimiter: Option<&str>| ListObjects {
        start_after: Some(start.into()),
        ..request(&s, "", delimiter)
    };
    assert_eq!(s.names(after("a/", Some("/"))).await, ["b"]);
    assert_eq!(s.names(after("a/", None)).await, ["a/1", "a/2", "b"]);
    assert_eq!(s.names(after("a/1", Some("/"))).await, ["a/", "b"]);
    assert_eq!(s.names(after("a/2", Some("/"))).await, ["b"]);
}

pub async fn a_page_is_truncated_only_where_more_follows(s: Subject) {
    for key in ["a/1", "a/2", "b", "c/1", "c/2"] {
        s.put(key, "x").await;
    }
    for (max_keys, delimiter, truncated) in [
        (5, None, false),
        (4, None, true),
        (3, Some("/"), false),
        (2, Some("/"), true),
        (6, None, false),
    ] {
        let request = ListObjects {
            max_keys,
            ..request(&s, "", delimiter)
        };
        let page = s.list_objects(request).await.unwrap();
        assert_eq!(page.is_truncated, truncated, "{max_keys} {delimiter:?}");
    }
}

pub async fn a_page_of_nothing_is_not_truncated(s: Subject) {
    s.put("key", "x").await;
    let request = ListObjects {
        max_keys: 0,
        ..s.everything()
    };
    let page = s.list_objects(request).await.unwrap();
    assert!(page.entries.is_empty() && !page.is_truncated);
}

pub async fn a_directory_without_objects_is_not_listed(s: Subject) {
    s.put("dir/sub/key", "x").await;
    s.put("dir/other", "x").await;
    s.delete("dir/sub/key").await;
    assert_eq!(s.names(request(&s, "dir/", Some("/"))).await, ["dir/other"]);
    s.delete("dir/other").await;
    assert!(s.names(request(&s, "", Some("/"))).await.is_empty());
    assert!(s.names(request(&s, "dir/", Some("/"))).await.is_empty());
    assert!(s.names(request(&s, "dir", None)).await.is_empty());
}

pub async fn many_keys_in_one_directory_are_paged(s: Subject) {
    let keys: Vec<String> = (0..300).map(|i| format!("many/{:03}", (i * 7) % 300)).collect();
    for key in &keys {
        s.put(key, "x").await;
    }
    let mut sorted = keys;
    sorted.sort_unstable();
    assert_eq!(pages(&s, &s.everything(), 7).await, sorted);
    assert_eq!(pages(&s, &request(&s, "many/1", Some("/")), 9).await, sorted[100..200]);
    assert_eq!(s.names(request(&s, "", Some("/"))).await, ["many/"]);
}

pub async fn hostile_keys_are_paged_like_others(s: Subject) {
    let held = super::keys::put_all(&s, super::keys::hostile()).await;
    let keys: BTreeSet<&str> = held.iter().map(String::as_str).collect();
    for delimiter in [None, Some("/"), Some("."), Some("//")] {
        for prefix in ["", ".", ".t2", "a", "a/", "/", "//", "..", "%", "d/d/d/"] {
            let request = request(&s, prefix, delimiter);
            assert_eq!(pages(&s, &request, 11).await, expected(&keys, &request), "{request:?}");
        }
    }
}
