//! The order of names that is kept from one listing to the next never shows: every page is the one of the tree as it
//! is, whoever changed it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use proptest::{prelude::*, sample::Index};
use t2gate_backends::{Backend, FsBackend, ListObjects, ObjectPage, conformance::Subject};

use crate::{Tree, options};

#[derive(Debug, Clone)]
enum Step {
    Put(String),
    Delete(Index),
    /// By somebody else.
    Write(String),
    Remove(Index),
    Rename(Index, String),
    RenameDirectory(Index, String),
    MakeDirectory(String),
    RemoveDirectory(Index),
    /// Sets the modification time of a directory to what it was at the beginning, as `rsync -t` does.
    SetBack(Index),
    List {
        start_after: Option<(Index, bool)>,
        delimiter: bool,
        max_keys: usize,
    },
}

fn name() -> impl Strategy<Value = String> {
    "[abc]{1,3}(/[abc]{1,2}){0,2}"
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => name().prop_map(Step::Put),
        2 => any::<Index>().prop_map(Step::Delete),
        2 => name().prop_map(Step::Write),
        2 => any::<Index>().prop_map(Step::Remove),
        1 => (any::<Index>(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (any::<Index>(), "[abc]{1,3}").prop_map(|(from, to)| Step::RenameDirectory(from, to)),
        1 => name().prop_map(Step::MakeDirectory),
        1 => any::<Index>().prop_map(Step::RemoveDirectory),
        1 => any::<Index>().prop_map(Step::SetBack),
        8 => (proptest::option::of(any::<(Index, bool)>()), any::<bool>(), 1_usize..40).prop_map(
            |(start_after, delimiter, max_keys)| Step::List { start_after, delimiter, max_keys }
        ),
    ]
}

/// Files and directories below `dir`, by their names from there.
fn walk(dir: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut files, mut dirs, mut left) = (BTreeSet::new(), BTreeSet::new(), vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if entry.file_type().unwrap().is_dir() {
                dirs.insert(name);
                left.push(entry.path());
            } else {
                // The second name of an object beside a directory.
                files.insert(name.replace(".t2!", ""));
            }
        }
    }
    (files, dirs)
}

/// The names on a page, from all keys.
fn expected(
    keys: &BTreeSet<String>,
    start_after: Option<&str>,
    delimiter: bool,
    max_keys: usize,
) -> (Vec<String>, bool) {
    let roll = |key: &str| match key.find('/') {
        Some(at) if delimiter => key[..=at].to_owned(),
        _ => key.to_owned(),
    };
    let rolled: BTreeSet<String> = keys
        .iter()
        .filter(|key| {
            start_after.is_none_or(|after| {
                let is_common = delimiter && after.find('/') == Some(after.len() - 1);
                key.as_str() > after && !(is_common && key.starts_with(after))
            })
        })
        .map(|key| roll(key))
        .collect();
    let is_truncated = rolled.len() > max_keys;
    (rolled.into_iter().take(max_keys).collect(), is_truncated)
}

fn names(page: &ObjectPage) -> (Vec<String>, bool) {
    let names = page.entries.iter().map(|entry| entry.name().to_owned());
    (names.collect(), page.is_truncated)
}

async fn run(many: bool, cache: usize, steps: Vec<Step>) {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree::with(root, |options| options.listing_cache_bytes = cache).await;
    let top = tree.path("");
    if many {
        // So many that the directory is watched once it has changed.
        for n in 0..600 {
            fs::write(top.join(format!("a{n}")), "x").unwrap();
        }
    }
    let old = fs::metadata(&top).unwrap().modified().unwrap();
    let path = |name: &str| -> PathBuf { top.join(name) };
    let pick = |names: &BTreeSet<String>, index: Index| -> Option<String> {
        (!names.is_empty()).then(|| index.get(&names.iter().cloned().collect::<Vec<_>>()).clone())
    };
    for step in steps {
        let (files, dirs) = walk(&top);
        // Not all can be done as the tree is, and what others do fails or does not.
        match step {
            Step::Put(key) => {
                tree.put(&key, "x").await;
            }
            Step::Delete(which) => {
                if let Some(key) = pick(&files, which) {
                    tree.delete(&key).await;
                }
            }
            Step::Write(name) => {
                // Over an object's second name nobody else writes.
                if !files.contains(&name) {
                    drop(fs::create_dir_all(path(&name).parent().unwrap()));
                    drop(fs::write(path(&name), "y"));
                }
            }
            Step::Remove(which) => drop(pick(&files, which).map(|name| fs::remove_file(path(&name)))),
            Step::Rename(which, to) => {
                drop(
                    pick(&files, which)
                        .filter(|_| !files.contains(&to))
                        .map(|name| fs::rename(path(&name), path(&to))),
                );
            }
            Step::RenameDirectory(which, to) => {
                drop(
                    pick(&dirs, which)
                        .filter(|_| !files.contains(&to))
                        .map(|name| fs::rename(path(&name), path(&to))),
                );
            }
            Step::MakeDirectory(name) => drop(fs::create_dir_all(path(&name))),
            Step::RemoveDirectory(which) => drop(pick(&dirs, which).map(|name| fs::remove_dir_all(path(&name)))),
            Step::SetBack(which) => {
                let dir = pick(&dirs, which).map_or(top.clone(), |name| path(&name));
                fs::File::open(dir)
                    .unwrap()
                    .set_times(fs::FileTimes::new().set_modified(old))
                    .unwrap();
            }
            Step::List {
                start_after,
                delimiter,
                max_keys,
            } => {
                let start_after = start_after.and_then(|(which, cut)| {
                    let mut key = pick(&files, which)?;
                    if cut {
                        key.truncate(key.len() / 2 + 1);
                    }
                    Some(key)
                });
                let request = ListObjects {
                    start_after: start_after.as_deref().map(Into::into),
                    delimiter: delimiter.then(|| "/".into()),
                    max_keys,
                    ..tree.everything()
                };
                let page = tree.list_objects(request.clone()).await.unwrap();
                let expected = expected(&files, start_after.as_deref(), delimiter, max_keys);
                assert_eq!(names(&page), expected, "{request:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_page_is_that_of_the_tree_as_it_is(
        many: bool,
        // Nothing kept, little, enough.
        cache in prop_oneof![Just(0_usize), Just(20_000), Just(1 << 20)],
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(many, cache, steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_is_on_every_listing_while_all_else_changes() {
    let tree = std::sync::Arc::new(Tree::new().await);
    let stays: BTreeSet<String> = (0..900).map(|n| format!("{:03}-stays", n * 7 % 1000)).collect();
    for key in &stays {
        fs::write(tree.path(key), "x").unwrap();
    }
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_done = |done: &std::sync::atomic::AtomicBool| done.load(std::sync::atomic::Ordering::SeqCst);
    let others = std::thread::spawn({
        let (top, done) = (tree.path(""), done.clone());
        move || {
            for n in 0.. {
                let name = top.join(format!("{:03}-others", n % 1000));
                if fs::write(&name, "x").is_err() || is_done(&done) {
                    break;
                }
                fs::rename(&name, top.join(format!("{:03}-renamed", n * 31 % 1000))).unwrap();
            }
        }
    });
    let ours = tokio::spawn({
        let (tree, done) = (tree.clone(), done.clone());
        async move {
            for n in 0.. {
                let key = format!("{:03}-ours", n % 1000);
                tree.put(&key, "x").await;
                if n % 3 == 0 {
                    tree.delete(&key).await;
                }
                // Between the two names of an object.
                tree.put("500-both", "x").await;
                tree.put("500-both/inside", "x").await;
                tree.delete("500-both/inside").await;
                if is_done(&done) {
                    break;
                }
            }
        }
    });
    tree.put("500-both", "x").await;
    for _ in 0..15 {
        let (mut seen, mut start_after) = (Vec::new(), None);
        loop {
            let request = ListObjects {
                start_after,
                max_keys: 100,
                ..tree.everything()
            };
            let page = tree.list_objects(request).await.unwrap();
            seen.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
            start_after = seen.last().map(|key| key.as_str().into());
            if !page.is_truncated {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a < b));
        let seen: BTreeSet<String> = seen.into_iter().collect();
        let missing: Vec<_> = stays.difference(&seen).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(seen.contains("500-both"));
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    ours.await.unwrap();
    others.join().unwrap();
}

/// With `T2GATE_LONG_TESTS` set, of 100,000 directories.
#[tokio::test]
async fn a_tree_of_many_directories_is_listed_whole_in_little_memory() {
    let directories = if std::env::var_os("T2GATE_LONG_TESTS").is_some() {
        100_000
    } else {
        3000
    };
    let root = tempfile::tempdir().unwrap();
    let limit = 256 * 1024;
    let mut options = options(root.path());
    options.listing_cache_bytes = limit;
    let backend = Arc::new(FsBackend::open(options).unwrap());
    let subject = Subject::new(Arc::clone(&backend) as Arc<dyn Backend>).await;
    let tree = Tree { subject, root };
    let mut keys = BTreeSet::new();
    for n in 0..directories {
        // Ten levels, with names that sort differently as directories and as files.
        let mut path = String::new();
        let mut rest = n;
        while rest > 0 {
            path.push_str(["a", "a-", "a0", "b.c", "ä"][rest % 5]);
            path.push('/');
            rest /= 5;
        }
        fs::create_dir_all(tree.path(&path)).unwrap();
        // Some are empty.
        if n % 7 != 0 {
            fs::write(tree.path(&path).join("a+"), "").unwrap();
            keys.insert(format!("{path}a+"));
        }
    }
    let held = open_below(tree.root.path());
    let done = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let (backend, root, done) = (Arc::clone(&backend), tree.root.path().to_owned(), Arc::clone(&done));
        move || {
            let (mut open, mut kept) = (0, 0);
            while !done.load(Ordering::SeqCst) {
                open = open.max(open_below(&root));
                kept = kept.max(backend.listing_cache_used());
            }
            (open, kept)
        }
    });
    let mut seen: Vec<String> = Vec::new();
    loop {
        let request = ListObjects {
            start_after: seen.last().map(|key| key.as_str().into()),
            max_keys: 1000,
            ..tree.everything()
        };
        let page = tree.list_objects(request).await.unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
        if !page.is_truncated {
            break;
        }
    }
    done.store(true, Ordering::SeqCst);
    let (open, kept) = watching.join().unwrap();
    assert_eq!(seen, keys.into_iter().collect::<Vec<_>>());
    // Far fewer than all the directories fit, so that the bound was reached.
    assert!(kept <= limit, "{kept} bytes are kept");
    assert!(backend.listing_cache_used() > limit / 8 * 3);
    // The bucket, a directory, the one that is being read in it, a file, and its side file where attributes lie in those.
    assert!(open <= held + 5, "{open} files are open, {held} before");
}

/// How many descriptors of this process lead below a directory.
fn open_below(root: &Path) -> usize {
    let is_below = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(root));
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(is_below)
        .count()
}
