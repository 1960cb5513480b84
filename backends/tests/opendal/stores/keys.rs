//! Generated sets of hostile keys, over stores: nothing of them lies outside their bucket, none meets another, each gives
//! its own bytes, and when they are deleted nothing is left. What lies in the store is looked at past the gateway.
//!
//! The sets are the same in every run. More of them: `T2GATE_TEST_KEY_SETS=500`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use t2gate_backends::{
    BackendError, Key, ObjectBody, OpendalBackend, OpendalOptions, StoreLayout, conformance::Subject,
};

use super::{
    azurite,
    ops::{content, names, nothing_is_left, open_on_day_0},
    seaweedfs,
    service::{option, s3_options_alone, set},
    webdav,
};
use crate::simulated::Simulated;

const SETS: u32 = 12;
/// Another number of them.
const SETS_VARIABLE: &str = "T2GATE_TEST_KEY_SETS";

/// Segments that a store, or the way to it, may take for something else, and some that may be taken for each other.
fn segment() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "",
        ".",
        "..",
        "...",
        ".t2",
        "a",
        "A",
        "a.",
        "a ",
        " a",
        "a b",
        "a+b",
        "a%20b",
        "%2e%2e",
        "%2F",
        "%2f",
        "%00",
        "%",
        "a\\b",
        "..\\b",
        "a:b",
        "a*?b",
        "a#b",
        "a?b=c",
        "a&b;c",
        "<a>",
        "\"a\"",
        "'a'",
        "~",
        "$a",
        "{a}",
        "a\u{1}b",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "a\u{7f}",
        "\u{85}",
        "\u{a0}",
        "a\u{2028}",
        "\u{feff}a",
        "\u{fffe}",
        "\u{e9}",
        "e\u{301}",
        "\u{c5}",
        "A\u{30a}",
        "\u{212b}",
        "\u{df}",
        "ss",
        "SS",
        "\u{131}",
        "i",
        "I",
        "\u{1f600}",
        "CON",
        "a-",
        "a-/",
        "0",
        "00",
        "w",
    ]);
    prop_oneof![
        8 => fixed.prop_map(str::to_owned),
        1 => "[a-zA-Z0-9._ -]{1,8}",
        1 => ".{1,4}",
        1 => "[0-9a-v]{198,260}",
    ]
}

/// Also of the most bytes that a key has, and in one segment.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => prop::collection::vec(segment(), 1..5).prop_map(|segments| segments.join("/")),
        1 => "[a-b]{1024}",
        1 => "[a-b]{1023}/",
        1 => "(a/){511}[ab]{2}",
        1 => "(\u{e9}){511}[ab]{2}",
    ]
}

/// Some keys, and of some of them what may be taken for it.
fn set_of_keys() -> impl Strategy<Value = BTreeSet<String>> {
    let alike = |key: &str, how: u8| match how {
        0 => format!("{key}/"),
        1 => format!("{key}/b"),
        2 => format!("/{key}"),
        3 => format!("{key} "),
        4 => format!("{key}."),
        5 => format!("./{key}"),
        6 => format!("../{key}"),
        7 => key.to_uppercase(),
        8 => key.to_lowercase(),
        9 => key.replace('/', "//"),
        10 => key.replace('/', "%2F"),
        11 => key.replace('%', "%25"),
        12 => key.replace(' ', "+"),
        _ => format!("{key}-"),
    };
    prop::collection::vec((key(), prop::collection::vec(0_u8..14, 0..4)), 2..6).prop_map(move |keys| {
        let all = keys.iter().flat_map(|(key, hows)| {
            let others = hows.iter().map(move |how| alike(key, *how));
            std::iter::once(key.clone()).chain(others)
        });
        all.filter(|key| Key::parse(key.as_str()).is_ok()).collect()
    })
}

/// A look at all names in a store, past the gateway.
enum Look {
    /// By the store's own listing, also of what is not below the root.
    Listing,
    /// In the directory whose files they are, but those of that first name, which are the server's.
    Files(PathBuf, &'static [&'static str]),
    Simulated(Simulated),
    /// Nobody else sees it.
    None,
}

struct Store {
    options: OpendalOptions,
    look: Look,
}

impl Store {
    /// The names of all objects below the root. Others are below roots of other tests, or there are none.
    async fn names(&self) -> BTreeSet<String> {
        let root = option(&self.options, "root").unwrap_or_default().to_owned();
        let root = root.trim_start_matches('/');
        let all: Vec<String> = match &self.look {
            Look::Listing => {
                let mut everything = self.options.clone();
                set(&mut everything, "root", "/");
                names(&everything).await
            }
            Look::Files(dir, except) => {
                let mut found = Vec::new();
                files(dir, &mut found);
                let names = found.iter().map(|path| {
                    let name = path.strip_prefix(dir).unwrap();
                    name.to_str().unwrap_or_else(|| panic!("{name:?}")).to_owned()
                });
                names
                    .filter(|name| !except.contains(&name.split('/').next().unwrap()))
                    .collect()
            }
            Look::Simulated(store) => store.names(""),
            Look::None => Vec::new(),
        };
        // The last segment of it is what differs between tests.
        let own = match &self.look {
            Look::Files(dir, _) => Path::new("/")
                .join(root)
                .strip_prefix(dir)
                .map_or(root.to_owned(), |below| format!("{}/", below.display())),
            _ => root.to_owned(),
        };
        let is_shared = matches!(self.look, Look::Files(..));
        let mut below = BTreeSet::new();
        for name in all.iter().filter(|name| !name.ends_with('/')) {
            match name.strip_prefix(&*own) {
                Some(name) => {
                    below.insert(name.to_owned());
                }
                None => assert!(is_shared && name.starts_with("run-"), "{name:?} is outside of {own:?}"),
            }
        }
        below
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    // What another test removes meanwhile is not there.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// All of a set in one bucket.
async fn is_kept(store: &Store, backend: &Arc<OpendalBackend>, keys: &BTreeSet<String>) {
    let s = Subject::new(backend.clone()).await;
    let mut taken = BTreeMap::new();
    for (n, key) in keys.iter().enumerate() {
        let bytes = content(key, &n.to_string(), 100 + n);
        let put = s
            .put_object(s.put_request(key), ObjectBody::from_bytes(bytes.clone()))
            .await;
        match put {
            Ok(_) => {
                taken.insert(key, bytes);
            }
            Err(BackendError::UnsupportedKey(_)) if backend.layout() == StoreLayout::Transparent => {
                let read = s.open(key).await;
                assert!(
                    matches!(read, Err(BackendError::UnsupportedKey(_) | BackendError::NoSuchKey)),
                    "{key:?}: {:?}",
                    read.map(|open| open.info)
                );
            }
            Err(error) => panic!("{key:?}: {error:?}"),
        }
    }
    lie_in_their_bucket(store, backend, &s, &taken).await;
    // Every other one goes, and none but that.
    let (gone, stay): (Vec<_>, Vec<_>) = taken.keys().copied().enumerate().partition(|(n, _)| n % 2 == 0);
    for (_, key) in &gone {
        assert!(s.delete(key).await.existed, "{key:?}");
        taken.remove(key);
    }
    lie_in_their_bucket(store, backend, &s, &taken).await;
    for (_, key) in &gone {
        assert_eq!(s.get(key).await, None, "{key:?}");
    }
    for (_, key) in &stay {
        assert!(s.delete(key).await.existed, "{key:?}");
    }
    lie_in_their_bucket(store, backend, &s, &BTreeMap::new()).await;
    s.delete_bucket(&s.bucket).await.unwrap();
}

/// Each gives its bytes; in the store there is an object for each in the bucket, and what else there is is the gateway's
/// own.
async fn lie_in_their_bucket(
    store: &Store,
    backend: &OpendalBackend,
    s: &Subject,
    expected: &BTreeMap<&String, Bytes>,
) {
    for (key, bytes) in expected {
        assert!(
            s.get(key).await.as_ref() == Some(bytes),
            "{key:?} has other bytes, or none"
        );
    }
    let listed = s.all_keys().await;
    assert!(
        listed.iter().eq(expected.keys().copied()),
        "{listed:?}, not {expected:?}"
    );
    if matches!(store.look, Look::None) {
        return;
    }
    let bucket = format!("{}/", s.bucket);
    let (own, objects): (Vec<_>, Vec<_>) = store
        .names()
        .await
        .into_iter()
        .partition(|name| name.starts_with(".t2/"));
    assert!(own.contains(&format!(".t2/buckets/{}", s.bucket)), "{own:?}");
    let objects = objects.iter().map(|name| {
        let name = name.strip_prefix(&*bucket);
        name.unwrap_or_else(|| panic!("outside of {bucket}: {objects:?}"))
    });
    let objects: Vec<_> = objects.collect();
    if backend.layout() == StoreLayout::Transparent {
        assert!(
            objects.iter().copied().eq(expected.keys().map(|key| &***key)),
            "{objects:?}, not {expected:?}"
        );
    } else {
        assert_eq!(objects.len(), expected.len(), "{objects:?} for {expected:?}");
    }
}

fn sets_are_kept(layout: StoreLayout, open: impl FnOnce() -> Store) {
    let mut store = open();
    store.options.layout = Some(layout);
    let (backend, clock) = t2gate_backends::conformance::run(open_on_day_0(store.options.clone()));
    let sets = std::env::var(SETS_VARIABLE).map_or(SETS, |sets| sets.parse().unwrap());
    let config = Config {
        cases: sets,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let ran = runner.run(&set_of_keys(), |keys| {
        t2gate_backends::conformance::run(is_kept(&store, &backend, &keys));
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    if !matches!(store.look, Look::None) {
        t2gate_backends::conformance::run(nothing_is_left(&backend, &clock, &store.options));
    }
}

fn of_seaweedfs() -> Store {
    Store {
        options: s3_options_alone(&seaweedfs::SERVER),
        look: Look::Listing,
    }
}

fn of_azurite() -> Store {
    Store {
        options: azurite::options_alone(),
        look: Look::Listing,
    }
}

fn of_files(options: OpendalOptions, dir: PathBuf, except: &'static [&'static str]) -> Store {
    Store {
        options,
        look: Look::Files(dir, except),
    }
}

fn of_simulated(store: Simulated) -> Store {
    Store {
        options: store.options(None),
        look: Look::Simulated(store),
    }
}

#[test]
fn seaweedfs_encoded() {
    sets_are_kept(StoreLayout::Encoded, of_seaweedfs);
}

#[test]
fn seaweedfs_transparent() {
    sets_are_kept(StoreLayout::Transparent, of_seaweedfs);
}

#[test]
fn azurite_encoded() {
    sets_are_kept(StoreLayout::Encoded, of_azurite);
}

#[test]
fn azurite_transparent() {
    sets_are_kept(StoreLayout::Transparent, of_azurite);
}

#[test]
fn webdav_encoded() {
    sets_are_kept(StoreLayout::Encoded, || {
        of_files(webdav::options(), webdav::SERVER.dir().join("data"), &[])
    });
}

#[cfg(feature = "sftp")]
#[test]
fn sftp_encoded() {
    use super::sftp;
    let own = &["host", "host.pub", "client", "client.pub", "config", "server.log"];
    sets_are_kept(StoreLayout::Encoded, || {
        of_files(sftp::options(), sftp::SERVER.dir().to_owned(), own)
    });
}

#[test]
fn memory_encoded() {
    sets_are_kept(StoreLayout::Encoded, || Store {
        options: crate::options("memory", &[]),
        look: Look::None,
    });
}

/// Of a store in memory that can be looked into.
#[test]
fn simulated_encoded() {
    for store in [
        Simulated::new(),
        Simulated::new().unordered().shallow(),
        Simulated::new().that_folds(),
    ] {
        sets_are_kept(StoreLayout::Encoded, || of_simulated(store));
    }
}

#[test]
fn simulated_transparent() {
    sets_are_kept(StoreLayout::Transparent, || of_simulated(Simulated::new().dressed()));
}
