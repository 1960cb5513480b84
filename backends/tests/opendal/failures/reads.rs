//! Listings and reads.

use super::*;

/// Where directories are listed one at a time, each of those listings may fail.
#[tokio::test]
async fn a_directory_whose_listing_fails_once_is_listed_all_the_same() {
    let store = Simulated::new().shallow();
    let (s, script, _) = two(&store, None).await;
    // In several directories each, for a name's segments are shorter.
    let keys: Vec<String> = ["a", "b", "c"].map(|first| first.to_owned() + &"x".repeat(300)).into();
    for key in &keys {
        s.put(key, "bytes").await;
    }
    let mut failed = 0;
    for number in 0.. {
        let mut count = 0;
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        script.plan(move |when, call, _| {
            if (when, call) != (When::Before, Call::List) {
                return None;
            }
            count += 1;
            (count == number + 1).then(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                ready(Err(passes())).boxed()
            })
        });
        assert_eq!(s.all_keys().await, keys, "the listing {number} failed");
        script.clear();
        if came.load(Ordering::SeqCst) == 0 {
            break;
        }
        failed += 1;
    }
    assert!(failed > keys.len(), "{failed}");
}

#[tokio::test]
async fn an_answer_that_broke_off_is_not_gone_on_with_from_another_object() {
    let store = Simulated::new();
    let (s, script, second) = two(&store, None).await;
    s.put(KEY, vec![1; 2000]).await;
    let broken = Arc::new(AtomicUsize::new(0));
    let (counter, other) = (Arc::clone(&broken), second.clone());
    script.plan(move |_, call, path| match call {
        Call::ReadOn if is_head(path) && counter.fetch_add(1, Ordering::SeqCst) == 0 => {
            let other = other.clone();
            Some(
                async move {
                    put(&other, vec![2; 2000].into()).await.unwrap();
                    Err(passes())
                }
                .boxed(),
            )
        }
        Call::ReadRest => panic!("the rest of {path} was read by itself"),
        _ => None,
    });
    assert_eq!(read(&s).await, vec![2; 2000]);
    assert!(broken.load(Ordering::SeqCst) > 0);
}

/// A server that writes in place: what is not whole yet is read until it is.
#[tokio::test]
async fn what_is_half_written_is_read_again() {
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    s.put(KEY, vec![1; 2000]).await;
    let upload = s.upload("uploaded").await;
    s.part(&upload, 1, "part").await;
    let records: Vec<String> = store
        .names("")
        .into_iter()
        .filter(|name| !name.starts_with(".t2/data/") && name != ".t2/store")
        .collect();
    assert_eq!(records.len(), 4, "a bucket, an object, an upload, a part: {records:?}");
    for name in records {
        let whole = store.get(&name).unwrap();
        let mut seen = vec![Vec::new(), whole[..whole.len() / 2].to_vec()];
        if is_head(&name) {
            // The header, and bytes of another object.
            let mut torn = whole.clone();
            let at = torn.len() - 1000;
            torn[at..].fill(2);
            seen.push(torn);
        }
        for half in seen {
            store.set(&name, half);
            let reads = Arc::new(AtomicUsize::new(0));
            let (counter, writer, path, whole) = (Arc::clone(&reads), store.clone(), name.clone(), whole.clone());
            script.plan(move |when, call, read| {
                let is_read = (when, call) == (When::Before, Call::Read) && read == path;
                if is_read && counter.fetch_add(1, Ordering::SeqCst) == 3 {
                    writer.set(&path, whole.clone());
                }
                None
            });
            assert_eq!(read(&s).await, vec![1; 2000], "{name}");
            let parts = s.list_parts(t2gate_backends::ListParts {
                upload: upload.clone(),
                part_number_marker: 0,
                max_parts: 10,
            });
            assert_eq!(parts.await.unwrap().parts.len(), 1, "{name}");
            assert!(reads.load(Ordering::SeqCst) > 3, "{name}");
            script.clear();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_stays_damaged_is_given_up() {
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    s.put(KEY, "bytes").await;
    let head = store.names(&format!("{}/", s.bucket)).remove(0);
    let failed = async |at_least: u64, below: u64| {
        let begun = Instant::now();
        let Err(BackendError::Internal { context, .. }) = s.open(KEY).await else {
            panic!("it was read");
        };
        assert!(context.contains("damaged"), "{context}");
        let seconds = Duration::from_secs(at_least)..Duration::from_secs(below);
        assert!(seconds.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    };
    store.set(&head, b"rubbish".to_vec());
    failed(3, 4).await;
    let (writer, mut count) = (store.clone(), 0_u64);
    script.plan(move |when, call, path| {
        if (when, call) == (When::Before, Call::Read) && path == head {
            count += 1;
            writer.set(path, format!("rubbish {count}").into_bytes());
        }
        None
    });
    failed(15, 16).await;
}
