//! P4 and P9 among processes: the test runs itself as children that serve one root, and looks at what they tell.
//! `T2GATE_TEST_SHARED=20` makes everything so many times as long.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use t2gate_backends::{
    AccountId, Backend, BackendError, BodySummary, BucketName, CannedAcl, ChecksumAlgorithm, CreateBucket, ETag,
    FsBackend, ListObjects, ListParts, UploadId, WriteCondition,
    conformance::{Subject, completed},
    crash_points,
};
use tempfile::TempDir;

use super::open_shared;
use crate::{
    again,
    crash::litter,
    dir_in_memory, open_at,
    register::{Call, Did, judge, play},
    winners::Write,
};

const ROOT: &str = "T2GATE_SHARED_ROOT";
/// What the child is to do, and its arguments.
const ROLE: &str = "T2GATE_SHARED_ROLE";
/// How many times as long everything goes on.
const LONGER: &str = "T2GATE_TEST_SHARED";
/// Begins what a child tells, among what the test harness prints.
const TELLS: char = '@';

/// How long changes take, where processes are to meet between what is judged and what is done then.
const RACE: Duration = Duration::from_micros(300);

fn longer() -> u64 {
    std::env::var(LONGER).map_or(1, |longer| longer.parse().expect("a number"))
}

/// Nanoseconds, of one clock for all processes.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

// ---- the side of the test

struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    told: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(root: &Path, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "shared::processes::child",
                "--test-threads",
                "1",
                "--nocapture",
            ])
            .env(ROOT, root)
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take(),
            told: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// The next that it tells, `None` when it has ended.
    fn next(&mut self) -> Option<String> {
        self.told
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once(TELLS)?.1.to_owned()))
    }

    fn wait_for(&mut self, word: &str) {
        assert_eq!(self.next().as_deref(), Some(word));
    }

    fn go(&mut self) {
        self.orders.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// All that it still tells, up to its good end.
    fn finish(&mut self) -> Vec<String> {
        let told = std::iter::from_fn(|| self.next()).collect();
        assert!(self.child.wait().unwrap().success());
        told
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts one process for each role, and lets them go when all are there.
fn start(root: &Path, roles: impl IntoIterator<Item = String>) -> Vec<Process> {
    let mut processes: Vec<Process> = roles.into_iter().map(|role| Process::start(root, &role)).collect();
    processes.iter_mut().for_each(|process| process.wait_for("ready"));
    processes.iter_mut().for_each(Process::go);
    processes
}

async fn root() -> (TempDir, Arc<FsBackend>, Subject) {
    let root = dir_in_memory();
    let backend = Arc::new(open_shared(root.path()));
    let bucket = BucketName::parse("bucket").unwrap();
    let subject = Subject::of(Arc::clone(&backend) as Arc<dyn Backend>, bucket).await;
    (root, backend, subject)
}

// ---- the side of the child

fn tell(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{TELLS}{what}").unwrap();
    out.flush().unwrap();
}

fn ready() {
    tell("ready");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    assert_eq!(line, "go\n");
}

#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let role = std::env::var(ROLE).unwrap();
    let words: Vec<&str> = role.split(' ').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(open_shared(Path::new(&root)));
        let subject = Subject::of(backend, BucketName::parse("bucket").unwrap()).await;
        let number = |word: &str| word.parse::<u64>().unwrap();
        match *words {
            ["register", own, count] => register(&subject, number(own), number(count)).await,
            ["create", own, count] => create(&subject, own, number(count)).await,
            ["compete", own, count] => compete(&subject, own, number(count)).await,
            ["buckets", own, count] => buckets(&subject, own, number(count)).await,
            ["multipart", own, id, parts] => multipart(&subject, number(own), id, number(parts)).await,
            ["writes", own] => writes(&subject, own).await,
            ["beside", which, count] => beside(&subject, which, number(count)).await,
            _ => panic!("{role}"),
        }
    });
}

// ---- a register for each key

#[tokio::test]
async fn histories_of_several_processes_are_those_of_registers() {
    let (root, _backend, _) = root().await;
    let calls = 120 * longer();
    let mut processes = start(root.path(), (0..3).map(|own| format!("register {own} {calls}")));
    let told: Vec<String> = processes.iter_mut().flat_map(Process::finish).collect();
    judge(told.iter().map(|line| parse(line)));
}

async fn register(subject: &Subject, own: u64, count: u64) {
    ready();
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let subject = subject.clone();
            let name = format!("{own}-{task}");
            tokio::spawn(async move { play(&subject, &name, own * 100 + task, count, now).await })
        })
        .collect();
    for task in tasks {
        for (key, call) in task.await.unwrap() {
            tell(format!("{key} {} {} {}", call.began, call.ended, words(&call.did)));
        }
    }
}

fn words(did: &Did) -> String {
    let tag = |etag: &Option<ETag>| etag.as_ref().map_or("-".to_owned(), |etag| etag.as_str().to_owned());
    match did {
        Did::Read(found) => format!("read {} -", tag(found)),
        Did::Swapped { from, to } => format!("swapped {} {}", tag(from), tag(to)),
        Did::Refused { from } => format!("refused {} -", tag(from)),
        Did::Put { to } => format!("put - {to}", to = to.as_str()),
        Did::Deleted { existed } => format!("deleted {existed} -"),
    }
}

fn parse(line: &str) -> (usize, Call) {
    let words: Vec<&str> = line.split(' ').collect();
    let [key, began, ended, kind, from, to] = *words else {
        panic!("{line}");
    };
    let tag = |word: &str| (word != "-").then(|| ETag::parse(word).unwrap());
    let did = match kind {
        "read" => Did::Read(tag(from)),
        "swapped" => Did::Swapped {
            from: tag(from),
            to: tag(to),
        },
        "refused" => Did::Refused { from: tag(from) },
        "put" => Did::Put { to: tag(to).unwrap() },
        "deleted" => Did::Deleted {
            existed: from == "true",
        },
        _ => panic!("{line}"),
    };
    let call = Call {
        began: began.parse().unwrap(),
        ended: ended.parse().unwrap(),
        did,
    };
    (key.parse().unwrap(), call)
}

// ---- one winner

#[tokio::test]
async fn of_creators_in_several_processes_one_wins() {
    let (root, _backend, subject) = root().await;
    let keys = 100 * longer();
    let mut processes = start(root.path(), (0..3).map(|own| format!("create {own} {keys}")));
    let mut winners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for process in &mut processes {
        for line in process.finish() {
            let (key, writer) = line.split_once(' ').unwrap();
            winners.entry(key.to_owned()).or_default().push(writer.to_owned());
        }
    }
    assert_eq!(winners.len() as u64, keys);
    for (key, winners) in winners {
        assert_eq!(winners.len(), 1, "{key}: {winners:?}");
        assert_eq!(subject.get(&key).await.unwrap(), winners[0], "{key}");
    }
}

async fn create(subject: &Subject, own: &str, keys: u64) {
    crash_points::delay_changes(RACE);
    ready();
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            let (subject, writer) = (subject.clone(), format!("{own}-{task}"));
            tokio::spawn(async move {
                for n in 0..keys {
                    let key = format!("d/{n}");
                    let absent = WriteCondition {
                        if_match: None,
                        if_none_match: true,
                        keep_all: false,
                    };
                    match subject.put_if(absent, &key, writer.clone()).await {
                        Ok(_) => tell(format!("{key} {writer}")),
                        Err(BackendError::PreconditionFailed) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Whatever kinds of writes meet: of those that all come from one state.
#[tokio::test]
async fn of_writes_of_all_kinds_in_two_processes_one_wins() {
    let (root, _backend, subject) = root().await;
    let keys = 60 * longer();
    for n in (0..keys).step_by(2) {
        subject.put(&format!("d/{n}"), "there").await;
    }
    let mut processes = start(root.path(), (0..2).map(|own| format!("compete {own} {keys}")));
    let mut winners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for process in &mut processes {
        for line in process.finish() {
            let (key, bytes) = line.split_once(' ').unwrap();
            winners.entry(key.to_owned()).or_default().push(bytes.to_owned());
        }
    }
    assert_eq!(winners.len() as u64, keys);
    for (key, winners) in &winners {
        assert_eq!(winners.len(), 1, "{key}: {winners:?}");
        assert_eq!(subject.get(key).await.unwrap(), winners[0], "{key}");
    }
}

async fn compete(subject: &Subject, own: &str, keys: u64) {
    let mut rounds = Vec::new();
    for n in 0..keys {
        let key = format!("d/{n}");
        let mut writes = Vec::new();
        for kind in Write::KINDS {
            let bytes = format!("{kind} of {own}");
            writes.push((Write::prepare(subject, kind, &key, &bytes).await, bytes));
        }
        rounds.push((key, writes));
    }
    crash_points::delay_changes(RACE);
    ready();
    for (n, (key, writes)) in rounds.into_iter().enumerate() {
        let racing = writes.into_iter().enumerate().map(|(kind, (write, bytes))| {
            // Some are quicker than others: each kind is ahead in its turn.
            let behind = if n % Write::KINDS.len() == kind { 0 } else { 10 };
            let (subject, key) = (subject.clone(), key.clone());
            tokio::spawn(async move {
                tokio::time::sleep(RACE * behind).await;
                if write.wins(&subject).await {
                    tell(format!("{key} {bytes}"));
                }
            })
        });
        for racing in racing.collect::<Vec<_>>() {
            racing.await.unwrap();
        }
    }
}

// ---- buckets

/// How many an account may have in this test; some are made first.
const MAX_BUCKETS: u32 = 5;

#[tokio::test]
async fn buckets_that_several_processes_make_and_delete_are_one_thing() {
    let (root, _backend, subject) = root().await;
    let rounds = 60 * longer();
    let gone = |n: u64| BucketName::parse(format!("gone-{n}")).unwrap();
    for n in 0..rounds {
        subject
            .create_bucket(bucket_request(&gone(n), "racer", u32::MAX))
            .await
            .unwrap();
    }
    let mut processes = start(root.path(), (0..3).map(|own| format!("buckets {own} {rounds}")));
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    let mut put: Vec<String> = Vec::new();
    let mut deleted: Vec<String> = Vec::new();
    for process in &mut processes {
        for line in process.finish() {
            match line.split_once(' ').unwrap() {
                ("made", bucket) => *made.entry(bucket.to_owned()).or_default() += 1,
                ("put", bucket) => put.push(bucket.to_owned()),
                ("deleted", bucket) => deleted.push(bucket.to_owned()),
                _ => panic!("{line}"),
            }
        }
    }
    let of_round = |name: &str| made.iter().filter(|(bucket, _)| bucket.starts_with(name)).count();
    assert!(made.values().all(|winners| *winners == 1), "{made:?}");
    assert_eq!(of_round("race-") as u64, rounds);
    assert_eq!(of_round("limit-"), MAX_BUCKETS as usize);
    // Nobody's write was lost: what was written to is not deleted, and the other way round.
    for bucket in (0..rounds).map(gone) {
        let mut subject = subject.clone();
        subject.bucket = bucket.clone();
        if deleted.contains(&bucket.to_string()) {
            assert!(
                !put.contains(&bucket.to_string()),
                "{bucket} was deleted with an object in it"
            );
            assert!(!root.path().join(bucket.as_str()).exists(), "{bucket}");
        } else {
            assert!(
                put.contains(&bucket.to_string()),
                "{bucket} was neither deleted nor written to"
            );
            assert_eq!(subject.get("key").await.unwrap(), "x", "{bucket}");
        }
    }
}

fn bucket_request(bucket: &BucketName, owner: &str, max_buckets: u32) -> CreateBucket {
    CreateBucket {
        bucket: bucket.clone(),
        owner: AccountId::parse(owner).unwrap(),
        acl: CannedAcl::Private,
        max_buckets,
        versioning: None,
    }
}

async fn buckets(subject: &Subject, own: &str, rounds: u64) {
    crash_points::delay_changes(RACE);
    ready();
    for n in 0..rounds {
        let bucket = BucketName::parse(format!("race-{n}")).unwrap();
        match subject.create_bucket(bucket_request(&bucket, "racer", u32::MAX)).await {
            Ok(_) => tell(format!("made {bucket}")),
            Err(BackendError::BucketAlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // One deletes what the others write to.
        let bucket = BucketName::parse(format!("gone-{n}")).unwrap();
        let mut in_bucket = subject.clone();
        in_bucket.bucket = bucket.clone();
        if own == "0" {
            match subject.delete_bucket(&bucket).await {
                Ok(()) => tell(format!("deleted {bucket}")),
                Err(BackendError::BucketNotEmpty) => {}
                Err(error) => panic!("{error}"),
            }
        } else {
            match in_bucket.put_if(WriteCondition::default(), "key", "x").await {
                Ok(_) => tell(format!("put {bucket}")),
                Err(BackendError::NoSuchBucket) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let bucket = BucketName::parse(format!("limit-{own}-{n}")).unwrap();
        match subject
            .create_bucket(bucket_request(&bucket, "limited", MAX_BUCKETS))
            .await
        {
            Ok(_) => tell(format!("made {bucket}")),
            Err(BackendError::TooManyBuckets { limit: MAX_BUCKETS }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

// ---- multipart uploads

const PART: usize = 200_000;

fn part_of(own: u64, number: u16) -> Bytes {
    vec![u8::try_from(own * 50 + u64::from(number)).unwrap(); PART].into()
}

#[tokio::test]
async fn parts_and_completes_of_several_processes_make_one_object() {
    const PARTS: u16 = 12;
    for _ in 0..2 * longer() {
        let (root, _backend, subject) = root().await;
        let upload = subject.upload("key").await;
        let role = |own| format!("multipart {own} {} {PARTS}", upload.upload_id);
        let mut processes = start(root.path(), (0..3).map(role));
        processes.iter_mut().for_each(|process| process.wait_for("ready"));
        processes.iter_mut().for_each(Process::go);
        let told: Vec<Vec<String>> = processes.iter_mut().map(Process::finish).collect();
        assert!(told.iter().all(|each| each.len() == 1 && *each == told[0]), "{told:?}");
        let object = subject.get("key").await.unwrap();
        let md5s: Vec<[u8; 16]> = object
            .chunks(PART)
            .map(|part| BodySummary::of(part, ChecksumAlgorithm::Crc64Nvme).md5)
            .collect();
        assert_eq!(md5s.len(), usize::from(PARTS));
        assert_eq!(told[0][0], ETag::of_parts(&md5s).as_str());
        for (part, number) in object.chunks(PART).zip(1..) {
            assert!(
                (0..3).any(|own| *part == part_of(own, number)),
                "part {number} is mixed"
            );
        }
    }
}

async fn multipart(subject: &Subject, own: u64, id: &str, parts: u64) {
    let upload = subject.upload_ref("key", UploadId::parse(id).unwrap());
    let parts = u16::try_from(parts).unwrap();
    ready();
    // Each begins with another part, so that they meet.
    for n in 0..parts {
        let number = (n + u16::try_from(own).unwrap()) % parts + 1;
        subject.part(&upload, number, part_of(own, number)).await;
    }
    ready();
    let listed = subject
        .list_parts(ListParts {
            upload: upload.clone(),
            part_number_marker: 0,
            max_parts: 1000,
        })
        .await;
    // `None`: another one has completed it already.
    let named = match listed {
        Ok(page) => page.parts.iter().map(completed).collect(),
        Err(BackendError::NoSuchUpload) => Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let info = subject.complete(&upload, named).await.unwrap();
    tell(info.etag.as_str());
}

// ---- the end of a process

#[tokio::test]
async fn when_a_process_is_killed_others_clear_what_it_left_and_lose_nothing() {
    for kill_after in [20, 37, 64].repeat(usize::try_from(longer()).unwrap()) {
        let (root, backend, subject) = root().await;
        let mut processes = start(root.path(), (0..2).map(|own| format!("writes {own}")));
        let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
        let mut note = |line: String| {
            let (key, value) = line.split_once(' ').unwrap();
            acknowledged.insert(key.to_owned(), value.to_owned());
        };
        for _ in 0..kill_after {
            note(processes[0].next().unwrap());
        }
        processes[0].child.kill().unwrap();
        processes[0].child.wait().unwrap();
        while let Some(line) = processes[0].next() {
            note(line);
        }
        assert_eq!(backend.sweep_staging().await.unwrap(), 1);
        // The other one goes on.
        for _ in 0..20 {
            note(processes[1].next().unwrap());
        }
        processes[1].orders = None;
        processes[1].finish().into_iter().for_each(&mut note);
        for (key, value) in &acknowledged {
            let found = subject.get(key).await.unwrap();
            let n: u64 = value.parse().unwrap();
            let written = content(u64::from(found[0]) + 256 * u64::from(found[1]));
            assert_eq!(found, written, "{key} is torn");
            // One that was killed may have written once more than it could say.
            let last = u64::from(found[0]) + 256 * u64::from(found[1]);
            assert!(
                last == n || last > n && key.starts_with("0/"),
                "{key}: {last} after {n}"
            );
        }
        let keys = subject.all_keys().await;
        assert!(acknowledged.keys().all(|key| keys.contains(key)));
        drop((subject, backend));
        assert_eq!(litter(root.path()), Vec::<String>::new());
        drop(again(|| open_at(root.path())));
    }
}

fn content(n: u64) -> Bytes {
    let mut bytes = vec![u8::try_from(n % 251).unwrap(); 200_000];
    bytes[0] = u8::try_from(n % 256).unwrap();
    bytes[1] = u8::try_from(n / 256).unwrap();
    bytes.into()
}

/// Writes until there is nobody to order anything, or until it is killed. `K/x` comes and goes beside `K`.
async fn writes(subject: &Subject, own: &str) {
    ready();
    let (ended, mut end) = tokio::sync::watch::channel(false);
    std::thread::spawn(move || {
        let mut line = String::new();
        drop(std::io::stdin().lock().read_line(&mut line));
        ended.send(true)
    });
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            let (subject, key, end) = (subject.clone(), format!("{own}/{task}"), end.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    subject.put(&key, content(n)).await;
                    tell(format!("{key} {n}"));
                    if *end.borrow() {
                        break;
                    }
                    subject.put(&format!("{key}/x"), "beside").await;
                    subject.delete(&format!("{key}/x")).await;
                }
            })
        })
        .collect();
    end.changed().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
}

// ---- two names

/// Objects that change between their two names, and so many other files, of long names, that their directory is not read in
/// one go, and so few that it is read anew rather than watched.
const BESIDE: [&str; 4] = ["a", "b", "c", "d"];
const OTHERS: usize = 400;

#[tokio::test]
async fn objects_beside_directories_that_come_and_go_elsewhere_are_always_seen() {
    let (root, _backend, subject) = root().await;
    for n in 0..OTHERS {
        std::fs::write(root.path().join(format!("bucket/other-{n:0>200}")), "").unwrap();
    }
    for key in BESIDE {
        subject.put(key, "0").await;
    }
    let rounds = 200 * longer();
    let roles = ["below", "itself"].map(|which| format!("beside {which} {rounds}"));
    let mut processes = start(root.path(), roles);
    let ended = std::thread::spawn(move || processes.iter_mut().flat_map(Process::finish).collect::<Vec<_>>());
    let first = ListObjects {
        delimiter: Some("/".into()),
        max_keys: 2 * BESIDE.len(),
        ..subject.everything()
    };
    let mut looks = 0_u64;
    while !ended.is_finished() || looks < 10 {
        let page = subject.list_objects(first.clone()).await.unwrap();
        let names: Vec<&str> = page.entries.iter().map(|entry| entry.name()).collect();
        for key in BESIDE {
            assert!(subject.get(key).await.is_some(), "{key} is not there at look {looks}");
            let count = names.iter().filter(|name| **name == key).count();
            assert_eq!(count, 1, "{key} at look {looks}: {names:?}");
        }
        looks += 1;
    }
    assert_eq!(ended.join().unwrap(), Vec::<String>::new());
    for key in BESIDE {
        assert_eq!(subject.get(key).await.unwrap(), (rounds - 1).to_string());
    }
}

async fn beside(subject: &Subject, which: &str, rounds: u64) {
    ready();
    for n in 0..rounds {
        for key in BESIDE {
            if which == "itself" {
                subject.put(key, n.to_string()).await;
            } else {
                let below = format!("{key}/below");
                subject.put(&below, "x").await;
                assert!(subject.delete(&below).await.existed);
            }
        }
    }
}
