//! What CompleteMultipartUpload costs where the parts lie in place, and where they have to be joined:
//!
//!     cargo bench -p t2gate-backends --bench complete [-- PARTS MIB]
//!
//! The trees are made below the directory for temporary files (`TMPDIR`). The ratio is to the joining of the same parts.
//! With a number of parts and a size, those alone, in place, power-safe: as large an object as there is room for.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails says so")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use t2gate_backends::{
    Durability, FsBackend, FsOptions, ObjectBody, PartNumber, SystemClock,
    conformance::{Subject, completed},
};

/// `skipped`: the first part has number 2, so that they do not lie in place.
async fn complete(subject: &Subject, parts: u16, size: usize, skipped: bool) -> Duration {
    let upload = subject.upload("key").await;
    let bytes = Bytes::from(vec![7; size]);
    let mut named = Vec::new();
    for number in 1..=parts {
        let number = PartNumber::new(number + u16::from(skipped)).unwrap();
        let body = ObjectBody::from_bytes(bytes.clone());
        named.push(completed(&subject.upload_part(&upload, number, body).await.unwrap()));
    }
    let began = Instant::now();
    subject.complete(&upload, named).await.unwrap();
    began.elapsed()
}

fn backend(root: &tempfile::TempDir, durability: Durability) -> Arc<FsBackend> {
    let options = FsOptions {
        durability,
        ..FsOptions::new(root.path(), Arc::new(SystemClock))
    };
    Arc::new(FsBackend::open(options).unwrap())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // cargo adds its own.
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [parts, mib] = &given[..] {
        let (parts, mib): (u16, usize) = (parts.parse().unwrap(), mib.parse().unwrap());
        let root = tempfile::tempdir().unwrap();
        let backend = backend(&root, Durability::PowerSafe);
        let time = runtime.block_on(async {
            let subject = Subject::new(backend).await;
            complete(&subject, parts, mib << 20, false).await
        });
        println!("PowerSafe, {parts} parts of {mib} MiB: {:.1} ms in place", millis(time));
        return;
    }
    assert!(given.is_empty(), "expected PARTS and MIB");
    for durability in [Durability::ProcessSafe, Durability::PowerSafe] {
        for (parts, size) in [(9_999, 4 * 1024), (64, 4 << 20), (64, 16 << 20)] {
            if durability == Durability::PowerSafe && parts > 64 {
                continue;
            }
            let root = tempfile::tempdir().unwrap();
            let backend = backend(&root, durability);
            let (in_place, joined) = runtime.block_on(async {
                let subject = Subject::new(backend).await;
                let in_place = complete(&subject, parts, size, false).await;
                (in_place, complete(&subject, parts, size, true).await)
            });
            println!(
                "{durability:?}, {parts} parts of {} KiB: {:.1} ms in place, {:.1} ms joined, x{:.3}",
                size / 1024,
                millis(in_place),
                millis(joined),
                millis(in_place) / millis(joined)
            );
        }
    }
}
