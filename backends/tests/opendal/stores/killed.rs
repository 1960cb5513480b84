//! A gateway's process that is killed amid its requests to the store: what it had acknowledged is whole, nothing is half
//! there, the next gateway goes on where clients do, and its sweeper leaves nothing.
//!
//! The test runs itself as a child. The line between that and the store kills it at the request that it was told: before
//! the store sees it, when the store has seen half of it, or when the store has done it.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use t2gate_backends::{
    BucketName, ObjectBody, OpendalBackend, OpendalOptions, StoreLayout, UploadId, conformance::Subject,
};
use tempfile::TempDir;

use super::{
    azurite,
    ops::{Op, fetch, halves, nothing_is_left, on_day, open_on_day_0, open_uploads, tag},
    proxy::{Fault, Proxy},
    seaweedfs,
    server::Server,
};

/// A file with what the child needs, line by line.
const TOLD: &str = "T2GATE_TEST_KILLED_TOLD";
/// Among the service's options, which have none of this name.
const LAYOUT: &str = "layout";
/// Each to a key of its own.
const OPS: [Op; 7] = [
    Op::Put,
    Op::PutAttributes,
    Op::Create,
    Op::PutLarge,
    Op::Multipart,
    Op::Delete,
    Op::Replace,
];

fn key(index: usize) -> String {
    format!("d/{index}")
}

/// The child: does all of [`OPS`] and notes what was acknowledged.
#[test]
fn killed_child() {
    t2gate_backends::conformance::run(async {
        let Ok(told) = std::env::var(TOLD) else {
            return;
        };
        let text = fs::read_to_string(&told).unwrap();
        let mut lines = text.lines();
        let (service, bucket) = (lines.next().unwrap(), lines.next().unwrap());
        let pairs: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').unwrap()).collect();
        let (layouts, options): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| *name == LAYOUT);
        let options = OpendalOptions {
            layout: layouts.first().map(|_| StoreLayout::Encoded),
            ..crate::options(service, &options)
        };
        let backend = OpendalBackend::open(options).await.unwrap();
        let s = Subject::of(Arc::new(backend), BucketName::parse(bucket).unwrap()).await;
        let mut noted = fs::File::create(format!("{told}.noted")).unwrap();
        let mut note = |line: String| noted.write_all(format!("{line}\n").as_bytes()).unwrap();
        note("begun".to_owned());
        // The parent says go.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        for (index, op) in OPS.into_iter().enumerate() {
            let key = key(index);
            if op == Op::Multipart {
                // As the operation does, but what it would be resumed by is noted.
                let upload_id = s.create_multipart_upload(s.create_upload_request(&key)).await.unwrap();
                let upload = s.upload_ref(&key, upload_id.clone());
                let mut parts = Vec::new();
                for (number, bytes) in halves(&op.after(&key).unwrap()) {
                    let part = s
                        .upload_part(&upload, number, ObjectBody::from_bytes(bytes))
                        .await
                        .unwrap();
                    parts.push(t2gate_backends::conformance::completed(&part));
                }
                note(format!("uploaded {}", upload_id.as_str()));
                s.complete(&upload, parts).await.unwrap();
            } else {
                op.perform(&s, &key).await.unwrap();
            }
            note("done".to_owned());
        }
    });
}

/// Whether the child was killed, and what it noted.
async fn run_child(
    proxy: &Proxy,
    options: &OpendalOptions,
    s: &Subject,
    number: u64,
    fault: Fault,
) -> (bool, Vec<String>) {
    proxy.heal();
    let temp = TempDir::new().unwrap();
    let told = temp.path().join("told");
    let mut text = format!("{}\n{}\n", options.service, s.bucket);
    if options.layout.is_some() {
        text.push_str(&format!("{LAYOUT}=encoded\n"));
    }
    for (name, value) in &options.options {
        text.push_str(&format!("{name}={value}\n"));
    }
    fs::write(&told, text).unwrap();
    let said = temp.path().join("said");
    let output = fs::File::create(&said).unwrap();
    let words = || fs::read_to_string(&said).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "stores::killed::killed_child",
            "--test-threads",
            "1",
            "--nocapture",
        ])
        .env(TOLD, &told)
        .stdin(Stdio::piped())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let child = Arc::new(Mutex::new(child));
    let noted = temp.path().join("told.noted");
    while !fs::read_to_string(&noted).is_ok_and(|text| text.starts_with("begun\n")) {
        assert!(
            child.lock().unwrap().try_wait().unwrap().is_none(),
            "the child ended at once: {}",
            words()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let killer = Arc::clone(&child);
    proxy.break_one_and(number, fault, move || killer.lock().unwrap().kill().unwrap());
    let mut stdin = child.lock().unwrap().stdin.take().unwrap();
    stdin.write_all(b"go\n").unwrap();
    let status = loop {
        // Not waited for with the lock held: the killer needs it.
        if let Some(status) = Child::try_wait(&mut child.lock().unwrap()).unwrap() {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let was_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(
        was_killed || status.success(),
        "the child failed at {number}: {}",
        words()
    );
    proxy.heal();
    // What else was on its way then.
    proxy.delivered().await;
    let noted = fs::read_to_string(&noted).unwrap();
    (was_killed, noted.lines().map(str::to_owned).collect())
}

/// The `faults` take turns.
async fn killed_anywhere(server: &LazyLock<Server>, options: OpendalOptions, faults: &[Fault]) {
    let proxy = Proxy::before(server.address).await;
    let through = proxy.on_the_way(server.address, options.clone());
    // The other gateway: of what the child does it knows only what is in the store.
    let (backend, clock) = open_on_day_0(options.clone()).await;
    let mut kills = 0;
    for (kill, fault) in faults.iter().copied().cycle().enumerate() {
        let number = kill as u64 + 1;
        clock.set(on_day(0));
        let s = Subject::new(backend.clone()).await;
        for (index, op) in OPS.into_iter().enumerate() {
            op.prepare(&s, &key(index)).await;
        }
        let (was_killed, noted) = run_child(&proxy, &through, &s, number, fault).await;
        let done = noted.iter().filter(|line| *line == "done").count();
        let place = format!("killed at {number} with {fault:?}: {noted:?}");
        see(&s, done, &place).await;
        let multipart = OPS.iter().position(|op| *op == Op::Multipart).unwrap();
        let is_complete = fetch(&s, &key(multipart)).await.unwrap() == OPS[multipart].after(&key(multipart));
        let uploaded = noted.iter().find_map(|line| line.strip_prefix("uploaded "));
        if is_complete || uploaded.is_none() {
            // What it finds may belong to an object all the same.
            clock.set(on_day(20_000));
            backend.sweep(Duration::from_hours(24)).await.unwrap();
            see(&s, done, &format!("swept after {place}")).await;
        }
        if let Some(upload_id) = uploaded {
            resume(&s, &key(multipart), UploadId::parse(upload_id).unwrap()).await;
        }
        if !was_killed {
            assert!(kill > 30, "{kill}");
            assert_eq!(done, OPS.len());
            kills = kill;
            break;
        }
        for key in (0..OPS.len()).map(key) {
            s.delete(&key).await;
        }
        nothing_is_left(&backend, &clock, &options).await;
    }
    if options.service == "s3" {
        let open = open_uploads(server.address, &options).await;
        // Each child had begun one at most, whose id has died with it.
        assert!(
            open <= kills,
            "{open} uploads are open in the store after {kills} kills"
        );
    }
}

/// What was acknowledged is there, what was under way is there or not, and the rest is as it was.
async fn see(s: &Subject, done: usize, place: &str) {
    for (index, op) in OPS.into_iter().enumerate() {
        let key = key(index);
        let found = fetch(s, &key)
            .await
            .unwrap_or_else(|error| panic!("{op:?}, {place}: {error:?}"));
        if index < done {
            assert!(found == op.after(&key), "{op:?}, {place}: lost");
        } else if index > done {
            assert!(found == op.before(&key), "{op:?}, {place}: never asked for");
        } else {
            assert!(
                found == op.before(&key) || found == op.after(&key),
                "{op:?}, {place}: half there"
            );
        }
    }
}

/// The client sends its CompleteMultipartUpload again.
async fn resume(s: &Subject, key: &str, upload_id: UploadId) {
    let new = Op::Multipart.after(key).unwrap();
    let upload = s.upload_ref(key, upload_id);
    let parts = halves(&new).map(|(part_number, bytes)| t2gate_backends::CompletedPart {
        part_number,
        etag: tag(&bytes),
        checksum: None,
    });
    s.complete(&upload, parts.to_vec()).await.unwrap();
    assert!(fetch(s, key).await.unwrap() == Some(new));
}

const IN_TURN: [Fault; 3] = [Fault::LoseReply, Fault::CutBody, Fault::CutRequest];

#[test]
fn wherever_the_process_is_killed_what_it_acknowledged_is_there_and_nothing_is_left() {
    t2gate_backends::conformance::run(async {
        killed_anywhere(&seaweedfs::SERVER, seaweedfs::options(), &IN_TURN).await;
    });
}

#[test]
fn the_same_of_a_store_that_keeps_blocks() {
    t2gate_backends::conformance::run(async {
        killed_anywhere(&azurite::SERVER, azurite::options(), &IN_TURN).await;
    });
}

#[test]
fn the_same_where_objects_are_made_of_blobs() {
    t2gate_backends::conformance::run(async {
        let options = OpendalOptions {
            layout: Some(StoreLayout::Encoded),
            ..seaweedfs::options()
        };
        killed_anywhere(&seaweedfs::SERVER, options, &[Fault::CutRequest]).await;
    });
}
