//! What CompleteMultipartUpload costs where the parts lie in place, and where they have to be joined:
//!
//!     cargo bench -p t2gate-backends --bench complete
//!
//! The trees are made below the directory for temporary files (`TMPDIR`). The ratio is to the joining of the same parts.
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

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for durability in [Durability::ProcessSafe, Durability::PowerSafe] {
        for (parts, size) in [(9_999, 4 * 1024), (64, 4 << 20), (64, 16 << 20)] {
            if durability == Durability::PowerSafe && parts > 64 {
                continue;
            }
            let root = tempfile::tempdir().unwrap();
            let options = FsOptions {
                durability,
                ..FsOptions::new(root.path(), Arc::new(SystemClock))
            };
            let backend = Arc::new(FsBackend::open(options).unwrap());
            let (in_place, joined) = runtime.block_on(async {
                let subject = Subject::new(backend).await;
                let in_place = complete(&subject, parts, size, false).await;
                (in_place, complete(&subject, parts, size, true).await)
            });
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
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
