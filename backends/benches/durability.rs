//! What sixteen power-safe writers do beside one, and beside what the bare disk does when sixteen writes share a sync.
//!
//! `cargo bench -p t2gate-backends --bench durability -- [--quick] [DIR]`. DIR is where it writes, `target/durability`
//! unless given: the file system there is what is measured. Each round runs all kinds for the same time, one after the
//! other, and the ratios are those within a round: on a busy machine they say more than the rates. It reports and
//! never judges.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has nothing to report")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::XattrFlags;
use t2gate_backends::{
    AccountId, Backend, BucketName, CannedAcl, CreateBucket, FsBackend, FsOptions, Key, ObjectAttributes, ObjectBody,
    PutObject, SystemClock, WriteCondition,
};

const WRITERS: usize = 16;
const SIZE: usize = 4096;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let dir = arguments.iter().find(|argument| !argument.starts_with("--"));
    let dir = dir.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/durability"),
        PathBuf::from,
    );
    let (rounds, time) = if quick {
        (3, Duration::from_millis(500))
    } else {
        (9, Duration::from_secs(2))
    };
    fs::create_dir_all(&dir).unwrap();
    let scratch = tempfile::tempdir_in(&dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let power_safe = Subject::open(&runtime, &scratch.path().join("backend"));
    let bare = Bare::new(&scratch.path().join("bare"));

    println!("{SIZE} bytes a write, in {}", dir.display());
    println!(
        "writes/s: one writer | {WRITERS} writers | bare disk, {WRITERS} a sync | bare disk, {WRITERS} that share none"
    );
    let mut rows = Vec::new();
    for round in 0..rounds {
        let one = power_safe.run(&runtime, 1, time);
        let many = power_safe.run(&runtime, WRITERS, time);
        let limit = bare.run(time);
        let unshared = bare.run_unshared(time);
        println!(
            "  {:>8.0} | {:>8.0} | {:>8.0} | {:>8.0}   ({:.3} and {:.3} syncs a write)",
            one.rate, many.rate, limit, unshared, one.syncs, many.syncs
        );
        // The first one warms up.
        if round > 0 {
            rows.push([
                many.rate / one.rate,
                many.rate / limit,
                many.rate / unshared,
                many.syncs,
                one.syncs,
            ]);
        }
    }
    let column = |index: usize| median(rows.iter().map(|row| row[index]).collect());
    println!("medians of the ratios within a round:");
    println!("  {WRITERS} writers to one            {:.2}", column(0));
    println!("  {WRITERS} writers to the bare disk  {:.2}", column(1));
    println!("  {WRITERS} writers to {WRITERS} that share none  {:.2}", column(2));
    println!(
        "  syncs a write: {:.3} with {WRITERS} writers, {:.2} with one",
        column(3),
        column(4)
    );
}

struct Run {
    /// Writes a second.
    rate: f64,
    /// For each write.
    syncs: f64,
}

struct Subject {
    backend: Arc<FsBackend>,
    bucket: BucketName,
}

impl Subject {
    fn open(runtime: &tokio::runtime::Runtime, root: &Path) -> Self {
        let options = FsOptions::new(root, Arc::new(SystemClock));
        let backend = Arc::new(FsBackend::open(options).unwrap());
        let bucket = BucketName::parse("durability").unwrap();
        let request = CreateBucket {
            bucket: bucket.clone(),
            owner: AccountId::parse("owner").unwrap(),
            acl: CannedAcl::Private,
            max_buckets: 1,
            versioning: None,
        };
        runtime.block_on(backend.create_bucket(request)).unwrap();
        Self { backend, bucket }
    }

    fn run(&self, runtime: &tokio::runtime::Runtime, writers: usize, time: Duration) -> Run {
        let before = self.backend.syncs();
        let start = Instant::now();
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let (backend, bucket) = (Arc::clone(&self.backend), self.bucket.clone());
                runtime.spawn(async move {
                    let mut written = 0_u32;
                    while start.elapsed() < time {
                        let request = PutObject {
                            bucket: bucket.clone(),
                            key: Key::parse(format!("{writer}/{}", written % 500)).unwrap(),
                            attributes: ObjectAttributes::default(),
                            condition: WriteCondition::default(),
                            versions: None,
                        };
                        let body = ObjectBody::from_bytes(vec![7; SIZE]);
                        backend.put_object(request, body).await.unwrap();
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        let written: u32 = writers
            .into_iter()
            .map(|writer| runtime.block_on(writer).unwrap())
            .sum();
        let written = f64::from(written);
        let syncs = self.backend.syncs() - before;
        Run {
            rate: written / start.elapsed().as_secs_f64(),
            syncs: f64::from(u32::try_from(syncs).unwrap()) / written,
        }
    }
}

/// The same system calls with nothing around them, and a sync for sixteen.
struct Bare {
    dir: PathBuf,
    open: fs::File,
}

impl Bare {
    fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("staging")).unwrap();
        Self {
            dir: dir.into(),
            open: fs::File::open(dir).unwrap(),
        }
    }

    /// Writes a second. One sync makes the data of sixteen durable and the names of the sixteen before.
    fn run(&self, time: Duration) -> f64 {
        let start = Instant::now();
        let mut written = 0_u32;
        while start.elapsed() < time {
            for n in 0..WRITERS {
                drop(self.stage(n));
            }
            rustix::fs::syncfs(&self.open).unwrap();
            for n in 0..WRITERS {
                fs::rename(self.staged(n), self.dir.join(format!("{n}-{}", written % 500))).unwrap();
                written += 1;
            }
        }
        rustix::fs::syncfs(&self.open).unwrap();
        f64::from(written) / start.elapsed().as_secs_f64()
    }

    /// Writes a second of sixteen threads that sync their own files and directories.
    fn run_unshared(&self, time: Duration) -> f64 {
        let start = Instant::now();
        let written: u32 = std::thread::scope(|scope| {
            let writer = |n: usize| {
                let directory = self.dir.join(format!("unshared-{n}"));
                fs::create_dir_all(&directory).unwrap();
                let open = fs::File::open(&directory).unwrap();
                let mut written = 0_u32;
                while start.elapsed() < time {
                    let file = self.stage(n);
                    file.sync_all().unwrap();
                    fs::rename(self.staged(n), directory.join(format!("{}", written % 500))).unwrap();
                    open.sync_all().unwrap();
                    written += 1;
                }
                written
            };
            let threads: Vec<_> = (0..WRITERS).map(|n| scope.spawn(move || writer(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        f64::from(written) / start.elapsed().as_secs_f64()
    }

    fn stage(&self, n: usize) -> fs::File {
        let file = fs::File::create(self.staged(n)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; SIZE], 0).unwrap();
        rustix::fs::fsetxattr(&file, "user.bench", &[7; 150], XattrFlags::empty()).unwrap();
        file
    }

    fn staged(&self, n: usize) -> PathBuf {
        self.dir.join(format!("staging/{n}"))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
