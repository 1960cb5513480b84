//! What versions cost: an overwrite beside the size of what it displaces, and a page of a listing beside the number of
//! versions.
//!
//!     cargo bench -p t2gate-backends --bench versions [-- [--quick] [DIR]]
//!
//! In DIR, or the directory for temporary files. Ratios are to the first line of the same kind.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails says so")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use t2gate_backends::{
    AccountId, Backend, BucketName, CannedAcl, CreateBucket, Durability, FsBackend, FsOptions, Key, ListObjectVersions,
    ObjectAttributes, ObjectBody, PutObject, SystemClock, VersionId, Versioned, VersioningStatus, WriteCondition,
};

const PAGE: usize = 1000;

struct Bench {
    backend: Versioned<FsBackend>,
    root: tempfile::TempDir,
    bucket: BucketName,
}

impl Bench {
    async fn new(dir: &Path, durability: Durability) -> Self {
        let root = tempfile::tempdir_in(dir).unwrap();
        let options = FsOptions {
            durability,
            ..FsOptions::new(root.path(), Arc::new(SystemClock))
        };
        let backend = Versioned::new(FsBackend::open(options).unwrap(), Arc::new(SystemClock)).unwrap();
        let bucket = BucketName::parse("bench").unwrap();
        let request = CreateBucket {
            bucket: bucket.clone(),
            owner: AccountId::parse("owner").unwrap(),
            acl: CannedAcl::Private,
            max_buckets: 1,
            versioning: Some(VersioningStatus::Enabled),
        };
        backend.create_bucket(request).await.unwrap();
        Self { backend, root, bucket }
    }

    async fn put(&self, key: &str) -> Duration {
        let request = PutObject {
            bucket: self.bucket.clone(),
            key: Key::parse(key).unwrap(),
            attributes: ObjectAttributes::default(),
            condition: WriteCondition::default(),
            versions: None,
        };
        let start = Instant::now();
        let body = ObjectBody::from_bytes(vec![7; 4096]);
        self.backend.put_object(request, body).await.unwrap();
        start.elapsed()
    }

    fn file(&self, key: &str) -> PathBuf {
        self.root.path().join("bench").join(key)
    }

    fn history(&self, key: &str) -> PathBuf {
        self.root.path().join(".t2/versions/bench").join(format!(".t2!{key}"))
    }

    /// Of CPU, all threads.
    async fn page(&self, marker: Option<(&str, String)>, entries: usize) -> Duration {
        let request = ListObjectVersions {
            bucket: self.bucket.clone(),
            prefix: "".into(),
            delimiter: None,
            key_marker: marker.as_ref().map(|marker| marker.0.into()),
            version_id_marker: marker
                .filter(|marker| !marker.1.is_empty())
                .map(|marker| VersionId::parse(marker.1).unwrap()),
            max_keys: PAGE,
        };
        let before = cpu();
        let page = self.backend.list_object_versions(request).await.unwrap();
        assert_eq!(page.entries.len(), entries);
        cpu() - before
    }
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

struct Table(Option<Duration>);

impl Table {
    fn line(&mut self, what: &str, took: Duration) {
        let first = *self.0.get_or_insert(took);
        let ratio = took.as_secs_f64() / first.as_secs_f64();
        println!("  {what:44} {:9.2} ms   x{ratio:.2}", took.as_secs_f64() * 1e3);
    }
}

async fn overwrites(dir: &Path, rounds: usize) {
    println!("a PUT of 4 KiB, synced");
    let bench = Bench::new(dir, Durability::PowerSafe).await;
    let mut table = Table(None);
    let mut fresh = Vec::new();
    for round in 0..rounds {
        fresh.push(bench.put(&format!("fresh-{round}")).await);
    }
    table.line("of a new key", median(fresh));
    for (what, size) in [("4 KiB", 4096), ("1 GiB", 1 << 30)] {
        let mut times = Vec::new();
        for round in 0..rounds {
            let key = format!("{size}-{round}");
            bench.put(&key).await;
            bench.put(&key).await;
            // So many bytes on the disk, in the very file.
            let file = fs::OpenOptions::new().write(true).open(bench.file(&key)).unwrap();
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
            file.sync_all().unwrap();
            times.push(bench.put(&key).await);
            fs::remove_dir_all(bench.history(&key)).unwrap();
        }
        table.line(&format!("over {what}"), median(times));
    }
}

async fn versions_of_one_key(dir: &Path, counts: &[usize], rounds: usize) {
    println!("a page of {PAGE} versions of one key, CPU; and a PUT to it, not synced");
    let (mut pages, mut puts) = (Table(None), Table(None));
    for count in counts {
        let bench = Bench::new(dir, Durability::ProcessSafe).await;
        bench.put("key").await;
        bench.put("key").await;
        for n in 0..*count {
            fs::write(bench.history("key").join(format!("f{n:031x}.d")), "").unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.page(None, PAGE).await;
        let mut times = Vec::new();
        for round in 0..rounds {
            let after = count / 2 + round * 37 % (count / 4);
            let id = format!("0{:031x}", (1_u128 << 124) - 1 - after as u128);
            times.push(bench.page(Some(("key", id)), PAGE).await);
        }
        pages.line(&format!("a page from the middle of {count}"), median(times));
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(bench.put("key").await);
        }
        puts.line(&format!("a PUT over {count}"), median(times));
    }
}

async fn keys_with_versions(dir: &Path, counts: &[usize], rounds: usize) {
    println!("a page of {PAGE} versions of as many keys, CPU");
    let mut table = Table(None);
    for count in counts {
        let bench = Bench::new(dir, Durability::ProcessSafe).await;
        for n in 0..*count {
            let key = format!("{n:08}");
            if n % 2 == 0 {
                fs::write(bench.file(&key), "x").unwrap();
            } else {
                let history = bench.history(&key);
                fs::create_dir_all(&history).unwrap();
                fs::write(history.join(format!("f{n:031x}.d")), "").unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.page(None, PAGE).await;
        let mut times = Vec::new();
        for round in 0..rounds {
            let after = format!("{:08}", count / 2 + round * 37 % (count / 4));
            times.push(bench.page(Some((&after, String::new())), PAGE).await);
        }
        table.line(&format!("a page from the middle of {count}"), median(times));
    }
}

fn main() {
    let mut dir = std::env::temp_dir();
    let mut quick = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => quick = true,
            "--bench" => {}
            path => dir = path.into(),
        }
    }
    let (rounds, counts): (_, &[usize]) = if quick {
        (11, &[10_000, 100_000])
    } else {
        (41, &[10_000, 100_000, 1_000_000])
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        overwrites(&dir, rounds).await;
        versions_of_one_key(&dir, counts, rounds).await;
        keys_with_versions(&dir, counts, rounds).await;
    });
}
