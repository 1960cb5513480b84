//! What a page of 1000 keys costs, in CPU time, from directories of different sizes:
//!
//!     cargo bench -p t2gate-backends --bench listing [-- FILES...]
//!
//! The trees are made below the directory for temporary files (`TMPDIR`). Ratios are to the first size of the same run.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails says so")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use rustix::time::{ClockId, clock_gettime};
use t2gate_backends::{
    AccountId, Backend, BucketName, CannedAcl, CreateBucket, Durability, FsBackend, FsOptions, Key, ListObjects,
    ObjectAttributes, ObjectBody, PutObject, SystemClock, WriteCondition,
};

const PAGE: usize = 1000;
const ROUNDS: usize = 60;
const WRITER: &str = "--write-into";

struct Bench {
    backend: FsBackend,
    root: tempfile::TempDir,
    bucket: BucketName,
    files: usize,
}

/// CPU time of the whole process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

impl Bench {
    async fn new(files: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = FsOptions {
            durability: Durability::ProcessSafe,
            ..FsOptions::new(root.path(), Arc::new(SystemClock))
        };
        let backend = FsBackend::open(options).unwrap();
        let bucket = BucketName::parse("bench").unwrap();
        let request = CreateBucket {
            bucket: bucket.clone(),
            owner: AccountId::parse("owner").unwrap(),
            acl: CannedAcl::Private,
            max_buckets: 1,
            versioning: None,
        };
        backend.create_bucket(request).await.unwrap();
        let bench = Self {
            backend,
            root,
            bucket,
            files,
        };
        stream::iter(0..files)
            .for_each_concurrent(4, |n| bench.put(bench.name(n)))
            .await;
        bench
    }

    /// Spread over the order of names.
    fn name(&self, n: usize) -> String {
        format!("{:08x}-object-{n}.bin", (n as u32).wrapping_mul(2_654_435_761))
    }

    async fn put(&self, key: String) {
        let request = PutObject {
            bucket: self.bucket.clone(),
            key: Key::parse(key).unwrap(),
            attributes: ObjectAttributes::default(),
            condition: WriteCondition::default(),
            versions: None,
        };
        self.backend
            .put_object(request, ObjectBody::from_bytes("x"))
            .await
            .unwrap();
    }

    async fn page(&self, prefix: &str, start_after: Option<String>, delimiter: bool) -> Duration {
        self.page_to(prefix, start_after, delimiter).await.0
    }

    /// With the last name.
    async fn page_to(&self, prefix: &str, start_after: Option<String>, delimiter: bool) -> (Duration, String) {
        let request = ListObjects {
            bucket: self.bucket.clone(),
            prefix: prefix.into(),
            delimiter: delimiter.then(|| "/".into()),
            start_after: start_after.map(Into::into),
            max_keys: PAGE,
        };
        let before = cpu();
        let page = self.backend.list_objects(request).await.unwrap();
        let took = cpu() - before;
        assert_eq!(page.entries.len(), PAGE);
        (took, page.entries[PAGE - 1].name().to_owned())
    }

    /// Each page, on the way through all.
    async fn walk(&self) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut after = None;
        for _ in 0..self.files / PAGE {
            let (took, last) = self.page_to("", after, false).await;
            times.push(took);
            after = Some(last);
        }
        times
    }

    /// From anywhere but the end.
    fn start(&self, round: usize) -> Option<String> {
        Some(format!("{:08x}", (round as u32).wrapping_mul(0x9E37_79B9) / 10 * 7))
    }

    async fn measure(&self) -> Vec<(&'static str, Duration)> {
        let mut figures = Vec::new();
        tokio::time::sleep(Duration::from_millis(100)).await;
        figures.push(("the first page", self.page("", None, false).await));
        for what in ["a page, the first time", "a page, the second time"] {
            figures.push((what, median(self.walk().await)));
        }
        for (what, delimiter) in [("a page from anywhere", false), ("the same with a delimiter", true)] {
            let mut times = Vec::new();
            for round in 0..ROUNDS {
                times.push(self.page("", self.start(round), delimiter).await);
            }
            figures.push((what, median(times)));
        }
        for (what, ours) in [("after 10 writes of ours", true), ("after 10 writes of others", false)] {
            let mut times = Vec::new();
            for round in 0..ROUNDS {
                for n in 0..10 {
                    let name = format!("{:08x}-new-{ours}-{round}-{n}", (n * 31 + round) * 7_654_321);
                    if ours {
                        self.put(name).await;
                    } else {
                        fs::write(self.root.path().join("bench").join(name), "x").unwrap();
                    }
                }
                times.push(self.page("", self.start(round), false).await);
            }
            figures.push((what, median(times)));
        }
        let written = self.root.path().join("bench");
        let mut writer = Command::new(std::env::current_exe().unwrap());
        let mut writer = writer
            .arg(WRITER)
            .arg(written)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It has begun.
        let mut line = String::new();
        BufReader::new(writer.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        figures.push(("while others write all the time", median(self.walk().await)));
        drop(writer.stdin.take());
        assert!(writer.wait().unwrap().success());
        // Common prefixes, each of a directory that holds one object.
        let top = self.root.path().join("bench/directories");
        for n in 0..(self.files / 10).max(PAGE * 2) {
            let dir = top.join(format!("{n:07}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), "x").unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            times.push(self.page("directories/", None, true).await);
        }
        figures.push(("common prefixes, first", times[0]));
        figures.push(("common prefixes, again", median(times)));
        figures
    }
}

/// Another process: its CPU time is not ours. A new file about every millisecond, anywhere in the order of names, until
/// nobody holds the other end of its input.
fn write_into(dir: &Path) {
    let done = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
    let mut n = 0_u32;
    while !done.is_finished() {
        let name = format!("{:08x}-constant-{n}", n.wrapping_mul(0x9E37_79B9));
        fs::write(dir.join(name), "x").unwrap();
        if n == 0 {
            println!("begun");
        }
        n += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(WRITER) {
        return write_into(Path::new(&arguments.next().unwrap()));
    }
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![10_000, 100_000, 1_000_000]
    } else {
        sizes
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut first: Option<Vec<(&str, Duration)>> = None;
    for files in sizes {
        let figures = runtime.block_on(async { Bench::new(files).await.measure().await });
        println!("{files} files, {PAGE} keys a page");
        let base = first.get_or_insert_with(|| figures.clone());
        for ((what, took), (_, base)) in figures.iter().zip(base) {
            let millis = took.as_secs_f64() * 1e3;
            let ratio = took.as_secs_f64() / base.as_secs_f64();
            println!("  {what:32} {millis:9.2} ms of CPU   x{ratio:.2}");
        }
    }
}
