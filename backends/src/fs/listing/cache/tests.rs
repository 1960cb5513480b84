use std::path::Path;

use super::*;

struct Fixture {
    temp: tempfile::TempDir,
    dir: OwnedFd,
    cache: ListingCache,
    moves: Moves,
}

impl Fixture {
    fn new(files: usize, limit: usize) -> Self {
        let temp = tempfile::tempdir().unwrap();
        for n in 0..files {
            std::fs::write(temp.path().join(format!("{n:06}")), "").unwrap();
        }
        Self {
            dir: open(temp.path()),
            temp,
            cache: ListingCache::new(limit, false),
            moves: Moves::default(),
        }
    }

    fn names(&self) -> Vec<String> {
        let snapshot = self.cache.entries(Tree::Objects, &self.dir, &self.moves, "").unwrap();
        snapshot.entries().map(|entry| entry.name.to_owned()).collect()
    }

    fn reads(&self) -> u64 {
        self.cache.reads.load(Ordering::SeqCst)
    }
}

fn open(path: &Path) -> OwnedFd {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

#[test]
fn a_directory_that_rests_is_read_once() {
    let fixture = Fixture::new(10, 1 << 20);
    std::thread::sleep(2 * TICK);
    for _ in 0..5 {
        assert_eq!(fixture.names().len(), 10);
    }
    assert_eq!(fixture.reads(), 1);
}

#[test]
fn a_reading_within_a_tick_of_a_change_is_not_trusted() {
    let fixture = Fixture::new(10, 1 << 20);
    std::thread::sleep(2 * TICK);
    let began = Instant::now();
    std::fs::write(fixture.temp.path().join("new"), "").unwrap();
    let (first, second) = (fixture.names(), fixture.names());
    assert!(first.len() == 11 && second.len() == 11);
    assert!(fixture.reads() == 2 || began.elapsed() > TICK);
}

#[test]
fn a_change_is_seen_though_the_times_are_set_back() {
    let fixture = Fixture::new(10, 1 << 20);
    let before = std::fs::metadata(fixture.temp.path()).unwrap();
    std::thread::sleep(2 * TICK);
    assert_eq!(fixture.names().len(), 10);
    std::fs::write(fixture.temp.path().join("new"), "").unwrap();
    let times = std::fs::FileTimes::new().set_modified(before.modified().unwrap());
    std::fs::File::open(fixture.temp.path())
        .unwrap()
        .set_times(times)
        .unwrap();
    assert_eq!(fixture.names().len(), 11);
}

#[test]
fn a_large_directory_that_changes_is_not_read_each_time() {
    let fixture = Fixture::new(WATCHED_FROM, 1 << 20);
    let mut expected = fixture.names();
    for n in 0..100 {
        let (new, old) = (format!("new-{n}"), format!("{n:06}"));
        std::fs::rename(fixture.temp.path().join(&old), fixture.temp.path().join(&new)).unwrap();
        expected.retain(|name| *name != old);
        expected.push(new);
        expected.sort_unstable();
        assert_eq!(fixture.names(), expected);
    }
    // The first, the one from which on it is watched, and what the machine's scheduling adds.
    assert!(fixture.reads() <= 4, "{}", fixture.reads());
}

#[test]
fn a_change_that_nothing_told_of_is_one_all_the_same() {
    let fixture = Fixture::new(WATCHED_FROM, 1 << 20);
    for n in 0..2 {
        std::fs::write(fixture.temp.path().join(n.to_string()), "").unwrap();
        fixture.names();
    }
    let reads = fixture.reads();
    fixture.names();
    assert_eq!(fixture.reads(), reads);
    // Changes the change time, and no name.
    rustix::fs::fchmod(&fixture.dir, rustix::fs::Mode::from_raw_mode(0o750)).unwrap();
    fixture.names();
    assert_eq!(fixture.reads(), reads + 1);
}

#[test]
fn memory_is_bounded_and_what_was_used_last_stays() {
    let fixture = Fixture::new(0, 4 * DIRECTORY_COST + 2000);
    std::thread::sleep(2 * TICK);
    let dirs: Vec<_> = (0..20)
        .map(|n| {
            let path = fixture.temp.path().join(n.to_string());
            std::fs::create_dir(&path).unwrap();
            open(&path)
        })
        .collect();
    std::thread::sleep(2 * TICK);
    let list = |dir: &OwnedFd| fixture.cache.entries(Tree::Objects, dir, &fixture.moves, "").unwrap();
    for dir in &dirs {
        list(&dirs[0]);
        list(dir);
        assert!(fixture.cache.kept().bytes <= fixture.cache.limit);
    }
    assert_eq!(fixture.reads(), 20);
    let kept = fixture.cache.kept();
    assert!(kept.directories.len() < 10 && kept.directories.len() == kept.order.len());
}

#[test]
fn what_is_known_to_hold_an_object_is_forgotten_when_it_changes() {
    let fixture = Fixture::new(1, 1 << 20);
    std::thread::sleep(2 * TICK);
    let meta = Meta::of(&fixture.dir).unwrap();
    assert!(!fixture.cache.holds_object(&meta, 1024));
    fixture.cache.found_object(&fixture.dir, &meta, 6);
    assert!(fixture.cache.holds_object(&meta, 6));
    assert!(!fixture.cache.holds_object(&meta, 5));
    std::fs::remove_file(fixture.temp.path().join("000000")).unwrap();
    assert!(!fixture.cache.holds_object(&Meta::of(&fixture.dir).unwrap(), 1024));
}

#[test]
fn a_directory_that_is_let_go_is_watched_no_more() {
    let fixture = Fixture::new(WATCHED_FROM, 1 << 20);
    for n in 0..3 {
        std::fs::write(fixture.temp.path().join(n.to_string()), "").unwrap();
        fixture.names();
    }
    let id = Id::from(&Meta::of(&fixture.dir).unwrap());
    let mut kept = fixture.cache.kept();
    assert_eq!(kept.watched.len(), 1);
    fixture.cache.let_go(&mut kept, id);
    assert!(kept.watched.is_empty() && kept.bytes == 0 && kept.order.is_empty());
    drop(kept);
    std::fs::write(fixture.temp.path().join("after"), "").unwrap();
    assert!(fixture.names().contains(&"after".to_owned()));
}
