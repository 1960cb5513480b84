use std::{collections::BTreeSet, path::Path};

use proptest::prelude::*;

use super::*;

fn open(path: &Path) -> OwnedFd {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn owned(snapshot: &Snapshot) -> Vec<(String, Form)> {
    snapshot
        .entries()
        .map(|entry| (entry.name.to_owned(), entry.form))
        .collect()
}

#[test]
fn what_does_not_fit_is_read_window_by_window() {
    let temp = tempfile::tempdir().unwrap();
    let names: BTreeSet<String> = (0..2000).map(|n| format!("{:x}", n * 7919 % 100_003)).collect();
    for name in &names {
        std::fs::write(temp.path().join(name), "").unwrap();
    }
    let dir = open(temp.path());
    let (mut seen, mut from, mut windows) = (Vec::new(), String::new(), 0);
    loop {
        let (window, _) = read(Tree::Objects, &dir, false, &from, 8 * 1024).unwrap();
        assert!(window.covers(&from) && window.bytes() < 16 * 1024);
        seen.extend(window.entries().map(|entry| entry.name.to_owned()));
        windows += 1;
        match window.to() {
            Some(to) => from = to.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
    assert!(windows > 3);
}

#[test]
fn a_segment_in_pieces_cannot_be_looked_at_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = open(temp.path());
    let (mut snapshot, _) = read(Tree::Objects, &dir, false, "", 1 << 20).unwrap();
    assert!(snapshot.refresh(&dir, "plain").unwrap());
    assert!(snapshot.refresh(&dir, ".t2+short").unwrap());
    let piece = format!(".t2+{}", "n".repeat(251));
    assert!(!snapshot.refresh(&dir, &piece).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_refreshed_snapshot_is_the_one_that_is_read(
        steps in proptest::collection::vec((0_u32..800, 0_u8..4), 1..1500),
        first in 0_usize..1500,
    ) {
        let temp = tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let dir = open(temp.path());
        let mut kept = None;
        for (index, (number, what)) in steps.iter().enumerate() {
            if index == first.min(steps.len() - 1) {
                kept = Some(read(Tree::Objects, &dir, false, "", 1 << 20).unwrap().0);
            }
            let name = match number % 6 {
                0 => format!(".t2!{number}"),
                1 => format!(".t2=.t2!{number}"),
                2 => format!(".t2={number}"),
                _ => format!("{number}"),
            };
            let path = temp.path().join(&name);
            drop(std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)));
            match what {
                0 => {}
                1 => std::fs::create_dir(&path).unwrap(),
                _ => std::fs::write(&path, "").unwrap(),
            }
            if let Some(kept) = &mut kept {
                prop_assert!(kept.refresh(&dir, &name).unwrap());
            }
        }
        let (fresh, _) = read(Tree::Objects, &dir, false, "", 1 << 20).unwrap();
        let kept = kept.unwrap();
        prop_assert_eq!(owned(&kept), owned(&fresh));
        prop_assert_eq!(kept.len(), fresh.len());
        for entry in fresh.entries() {
            let at = kept.partition_point(|other| *other < entry);
            prop_assert_eq!(kept.get(at), Some(entry));
        }
    }
}
