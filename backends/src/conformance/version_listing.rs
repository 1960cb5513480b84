//! Listings of versions and delete markers: their order, their pages, their markers. What each key's versions are is in
//! `versions`.

use std::collections::BTreeSet;

use super::{
    Subject,
    subject::noise,
    versions::{ENABLED, SUSPENDED, line},
};
use crate::{BackendError, ListObjectVersions, VersionEntry, VersionId, VersionPage};

/// A few keys with a few versions each, some of them markers; all that a listing of them says.
async fn populated(s: &Subject) -> Vec<VersionEntry> {
    // Not every backend holds the one.
    let below = if s.holds("b//").await { "b//" } else { "b/b" };
    for key in ["a", "a!", "a/b", "a/b/c", "a/c", "b", below, "ä/x"] {
        for n in 0..3_usize {
            s.put(key, noise(n + key.len(), 3)).await;
        }
        s.delete(key).await;
        if key != "a/c" {
            s.put(key, "back").await;
        }
    }
    s.delete("b").await;
    let all = s.entries().await;
    let names: Vec<_> = all.iter().map(VersionEntry::name).collect();
    assert!(names.is_sorted(), "{names:?}");
    all
}

/// How many versions [`populated`] makes.
const POPULATED: usize = 7 * 5 + 4 + 1;

fn follow(request: &mut ListObjectVersions, page: &VersionPage) {
    let last = page.entries.last().expect("what is truncated has entries");
    request.key_marker = Some(last.name().into());
    request.version_id_marker = last.version_id().cloned();
}

pub async fn versions_come_by_key_and_the_newest_first(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let all = populated(&s).await;
    assert_eq!(all.len(), POPULATED);
    let mut latest = BTreeSet::new();
    let mut before: Option<&VersionEntry> = None;
    for entry in &all {
        let first = before.is_none_or(|before| before.name() != entry.name());
        assert_eq!(line(entry).3, first, "{entry:?}");
        assert_eq!(first, latest.insert(entry.name()));
        before = Some(entry);
    }
    let objects = all.iter().filter(|entry| line(entry).2.is_some() && line(entry).3);
    let current: Vec<_> = objects.map(|entry| entry.name().to_owned()).collect();
    assert_eq!(s.all_keys().await, current);
}

pub async fn pages_of_versions_of_any_size_give_each_once(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let all = populated(&s).await;
    for (prefix, delimiter) in [
        ("", None),
        ("a", None),
        ("a/", Some("/")),
        ("", Some("/")),
        ("a/b", Some("b")),
    ] {
        let mut request = s.all_versions();
        request.prefix = prefix.into();
        request.delimiter = delimiter.map(Into::into);
        let whole = s.list_object_versions(request.clone()).await.unwrap().entries;
        if delimiter.is_none() {
            let expected: Vec<_> = all.iter().filter(|entry| entry.name().starts_with(prefix)).collect();
            assert_eq!(whole.iter().collect::<Vec<_>>(), expected);
        }
        for max_keys in [1, 2, 3, 7, whole.len(), whole.len() + 1] {
            let mut request = request.clone();
            request.max_keys = max_keys;
            let mut pages = Vec::new();
            loop {
                let page = s.list_object_versions(request.clone()).await.unwrap();
                assert!(page.entries.len() <= max_keys);
                follow(&mut request, &page);
                let is_truncated = page.is_truncated;
                pages.extend(page.entries);
                assert_eq!(is_truncated, pages.len() < whole.len());
                if !is_truncated {
                    break;
                }
            }
            assert_eq!(pages, whole, "{prefix:?} {delimiter:?} by {max_keys}");
        }
    }
    let mut nothing = s.all_versions();
    nothing.max_keys = 0;
    assert_eq!(s.list_object_versions(nothing).await.unwrap(), VersionPage::default());
}

pub async fn versions_are_rolled_up_by_delimiter(s: Subject) {
    let s = s.versioned(ENABLED).await;
    populated(&s).await;
    let mut request = s.all_versions();
    request.delimiter = Some("/".into());
    let page = s.list_object_versions(request.clone()).await.unwrap();
    let prefixes: Vec<_> = page
        .entries
        .iter()
        .filter(|entry| entry.version_id().is_none())
        .collect();
    let names: Vec<_> = prefixes.iter().map(|entry| entry.name()).collect();
    // Also where all below it is deleted.
    assert_eq!(names, ["a/", "b/", "ä/"]);
    request.key_marker = Some("a/".into());
    let page = s.list_object_versions(request.clone()).await.unwrap();
    let mut names: Vec<_> = page.entries.iter().map(VersionEntry::name).collect();
    names.dedup();
    assert_eq!(names, ["b", "b/", "ä/"]);
    // From the middle of a key on, what is left of it is rolled up as well.
    let of_c: Vec<_> = s
        .entries()
        .await
        .into_iter()
        .filter(|entry| entry.name() == "a/c")
        .collect();
    request.key_marker = Some("a/c".into());
    for (version, next) in [(&of_c[0], "a/"), (&of_c[of_c.len() - 1], "b")] {
        request.version_id_marker = version.version_id().cloned();
        let page = s.list_object_versions(request.clone()).await.unwrap();
        assert_eq!(page.entries[0].name(), next);
    }
}

pub async fn markers_of_a_version_listing(s: Subject) {
    let s = s.versioned(ENABLED).await;
    let all = populated(&s).await;
    let after = async |key: &str, id: Option<VersionId>| {
        let mut request = s.all_versions();
        request.key_marker = Some(key.into());
        request.version_id_marker = id;
        s.list_object_versions(request).await.unwrap().entries
    };
    // A key alone leaves out all of its versions.
    let rest: Vec<_> = all.iter().filter(|entry| entry.name() > "a/b").cloned().collect();
    assert_eq!(after("a/b", None).await, rest);
    // A version that is gone meanwhile still has its place; a store's own has none to anybody but the store.
    let of_b: Vec<_> = all.iter().filter(|entry| entry.name() == "b").collect();
    let gone = of_b[2].version_id().unwrap().clone();
    s.delete_version("b", &gone).await;
    let from = if s.is_always_versioned() {
        vec![of_b[0], of_b[1]]
    } else {
        Vec::new()
    };
    let rest = from.iter().chain(&of_b[3..]);
    let mut rest: Vec<_> = rest.map(|entry| (*entry).clone()).collect();
    rest.extend(all.iter().filter(|entry| entry.name() > "b").cloned());
    assert_eq!(after("b", Some(gone)).await, rest);
    // One of another key, or none of ours: the key is begun anew, so that nothing is missed.
    let from_b: Vec<_> = s
        .entries()
        .await
        .into_iter()
        .filter(|entry| entry.name() >= "b")
        .collect();
    assert_eq!(after("b", Some(VersionId::null())).await, from_b);
    // Without a key it says nothing.
    let mut request = s.all_versions();
    request.version_id_marker = of_b[2].version_id().cloned();
    assert_eq!(
        s.list_object_versions(request).await.unwrap().entries,
        s.entries().await
    );
}

pub async fn deleting_page_by_page_reaches_every_version(s: Subject) {
    // Without any that is `null`, where no bucket can be suspended.
    let always = s.is_always_versioned();
    let s = s.versioned(if always { ENABLED } else { SUSPENDED }).await;
    for key in ["a", "b/c", "d"] {
        s.put(key, "null").await;
    }
    s.set_versioning(ENABLED).await;
    assert_eq!(populated(&s).await.len(), POPULATED + 3);
    let mut request = s.all_versions();
    request.max_keys = 3;
    loop {
        let page = s.list_object_versions(request.clone()).await.unwrap();
        for entry in &page.entries {
            let id = entry.version_id().unwrap();
            assert!(s.delete_version(entry.name(), id).await.existed);
        }
        if !page.is_truncated {
            break;
        }
        follow(&mut request, &page);
    }
    assert!(s.lines().await.is_empty());
    assert!(s.all_keys().await.is_empty());
    s.delete_bucket(&s.bucket).await.unwrap();
}

pub async fn a_listing_of_versions_needs_its_bucket(s: Subject) {
    let mut request = s.all_versions();
    request.bucket = crate::BucketName::parse("no-such-bucket").unwrap();
    assert_refused!(s.list_object_versions(request).await, BackendError::NoSuchBucket);
}
