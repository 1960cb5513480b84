//! An upload of as many parts as there can be: what it costs in calls of the store, and how many of them are under way at
//! once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use opendal::Result;
use t2gate_backends::{ListParts, OpendalOptions, StoreLayout, conformance::Subject};

use super::simulated::{Call, Hook, Simulated};

const PARTS: u16 = 10_000;
/// Of calls for one request: enough that a far store is not waited for ten thousand times, and a bound.
const AT_ONCE: std::ops::RangeInclusive<usize> = 8..=32;
/// For all bodies together: what one that is large needs, and little more.
const MEMORY: u64 = 16 << 20;

#[derive(Default)]
struct Counting {
    calls: Mutex<BTreeMap<String, usize>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Counting {
    /// What came since the last time: calls of each kind, all of them, and the most at once. Of the simulated store's
    /// listings opendal asks for each entry, as of no other's: that is left out.
    fn take(&self) -> (String, usize, usize) {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.remove("Stat");
        let all = calls.values().sum();
        (format!("{calls:?}"), all, self.most.swap(0, Ordering::SeqCst))
    }
}

impl Hook for Counting {
    fn before(&self, call: Call, _: &str) -> BoxFuture<'static, Result<()>> {
        if call != Call::ReadOn {
            *self.calls.lock().unwrap().entry(format!("{call:?}")).or_default() += 1;
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
        }
        // So that all that is begun at once is under way at once.
        tokio::task::yield_now().map(Ok).boxed()
    }

    fn after(&self, call: Call, _: &str) -> BoxFuture<'static, Result<()>> {
        assert_ne!(call, Call::ReadOn);
        self.now.fetch_sub(1, Ordering::SeqCst);
        std::future::ready(Ok(())).boxed()
    }
}

fn bytes_of(number: u16) -> Bytes {
    format!("part {number:5}, ").into()
}

async fn of_most_parts(store: Simulated, layout: StoreLayout) {
    let counting = Arc::<Counting>::default();
    let options = OpendalOptions {
        layout: Some(layout),
        memory_bytes: MEMORY,
        ..store.options(Some(counting.clone()))
    };
    let s = Subject::new(Arc::new(super::open_store(options))).await;
    let upload = s.upload("many").await;
    let parts = futures::stream::iter(1..=PARTS)
        .map(|number| {
            let (s, upload) = (s.clone(), upload.clone());
            async move { s.part(&upload, number, bytes_of(number)).await }
        })
        .buffered(50);
    let parts: Vec<_> = parts.collect().await;
    let all = usize::from(PARTS);
    let (calls, count, _) = counting.take();
    println!("{layout:?}: parts {calls}");
    assert!(count < 12 * all, "{calls}");

    let page = ListParts {
        upload: upload.clone(),
        part_number_marker: 9_000,
        max_parts: 500,
    };
    let page = s.list_parts(page).await.unwrap();
    let numbers = page.parts.iter().map(|part| part.part_number.get());
    assert!(numbers.eq(9_001..=9_500) && page.is_truncated);
    let (calls, count, most) = counting.take();
    assert!(count < 520 && AT_ONCE.contains(&most), "{most} at once: {calls}");

    let info = s.complete(&upload, parts).await.unwrap();
    let (calls, count, most) = counting.take();
    println!("{layout:?}: completed with {calls}, {most} at once");
    // In the transparent layout the bytes of each are read, and removed with what says whose they were.
    let each = if layout == StoreLayout::Encoded { 3 } else { 6 };
    assert!(count < each * all + 100, "{calls}");
    assert!(AT_ONCE.contains(&most), "{most} at once: {calls}");
    assert!(info.etag.as_str().ends_with("-10000"), "{info:?}");

    let expected: Vec<u8> = (1..=PARTS).flat_map(bytes_of).collect();
    assert_eq!(info.size, expected.len() as u64);
    assert!(s.get("many").await.unwrap() == expected);
    let (calls, count, _) = counting.take();
    assert!(count < all + 100, "{calls}");
    let open = s.open("many").await.unwrap();
    let unit = bytes_of(1).len() as u64;
    let mut middle = open.reader.read(5_000 * unit..5_002 * unit);
    let mut read = Vec::new();
    while let Some(piece) = middle.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(read, [bytes_of(5_001), bytes_of(5_002)].concat());
    let (calls, count, _) = counting.take();
    assert!(count < 20, "{calls}");
    let header = store.names(&format!("{}/", s.bucket));
    assert!(store.get(&header[0]).unwrap().len() < 4 << 20);

    assert!(s.delete("many").await.existed);
    let (calls, count, most) = counting.take();
    println!("{layout:?}: deleted with {calls}, {most} at once");
    if layout == StoreLayout::Encoded {
        assert!(count < 2 * all + 100, "{calls}");
        assert!(AT_ONCE.contains(&most), "{most} at once: {calls}");
    }
    let left = store.names("");
    let is_noted = |name: &String| name.starts_with(".t2/buckets/") || *name == ".t2/store";
    // A head that says that something was there, and a note of it, for the sweeper.
    let left: Vec<_> = left.iter().filter(|name| !is_noted(name)).collect();
    assert!(left.len() <= 2, "{} are left: {:?}", left.len(), &left[..3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_parts_of_blobs_take_few_calls_and_little_memory() {
    of_most_parts(Simulated::new(), StoreLayout::Encoded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_parts_that_are_joined_take_few_calls_and_little_memory() {
    of_most_parts(Simulated::new().dressed(), StoreLayout::Transparent).await;
}
