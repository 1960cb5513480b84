//! A store that does not answer, or not soon.

use std::future::pending;

use t2gate_backends::StoreTimeouts;

use super::*;

/// What is done to these calls of the store, each time; gives how many there were.
fn each(
    script: &Script,
    which: impl Fn(Call, &str) -> bool + Send + 'static,
    done: impl Fn() -> Done + Send + 'static,
) -> Arc<AtomicUsize> {
    let came = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&came);
    script.plan(move |when, call, path| {
        (when == When::Before && which(call, path)).then(|| {
            counter.fetch_add(1, Ordering::SeqCst);
            done()
        })
    });
    came
}

fn takes(time: Duration) -> Done {
    async move {
        tokio::time::sleep(time).await;
        Ok(())
    }
    .boxed()
}

const ATTEMPTS: u32 = 5;

/// Nobody waits for ever, and who asked is told.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_is_tried_again_and_fails_in_bounded_time() {
    let StoreTimeouts { transfer, .. } = StoreTimeouts::default();
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    put(&s, large(1)).await.unwrap();
    for stalled in [Call::Read, Call::Write] {
        let came = each(
            &script,
            move |call, path| call == stalled && is_head(path),
            || pending().boxed(),
        );
        let begun = Instant::now();
        let outcome = match stalled {
            Call::Read => s.open(KEY).await.map(drop),
            _ => put(&s, large(2)).await,
        };
        let took = begun.elapsed();
        assert!(matches!(outcome, Err(BackendError::Internal { .. })), "{outcome:?}");
        assert_eq!(came.load(Ordering::SeqCst), ATTEMPTS as usize, "{stalled:?}");
        // The bytes of a head have some time too.
        let least = ATTEMPTS * transfer;
        assert!(
            took >= least && took < least + Duration::from_secs(2),
            "{stalled:?}: {took:?}"
        );
    }
    script.clear();
    assert_eq!(read(&s).await, large(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_once_is_done_all_the_same() {
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    for (number, stalled) in [Call::Write, Call::Read, Call::Delete, Call::List]
        .into_iter()
        .enumerate()
    {
        put(&s, large(1)).await.unwrap();
        let came = script.once(
            move |when, call, _| (when, call) == (When::Before, stalled),
            || pending().boxed(),
        );
        match stalled {
            Call::Write => put(&s, large(2)).await.unwrap(),
            Call::Read => assert_eq!(read(&s).await, large(1)),
            Call::Delete => drop(s.delete(KEY).await),
            _ => assert_eq!(s.all_keys().await, [KEY]),
        }
        assert_eq!(came.load(Ordering::SeqCst), 1, "{number}: {stalled:?}");
        script.clear();
    }
}

/// A line may be slow, as long as something passes.
#[tokio::test(start_paused = true)]
async fn what_is_sent_has_time_by_its_size_and_what_is_read_by_the_piece() {
    let timeouts = StoreTimeouts::default();
    let store = Simulated::new();
    let (s, script, _) = two(&store, None).await;
    let is_data = |call, path: &str| call == Call::Write && path.starts_with(".t2/data/") && !path.ends_with("/owner");
    // As slow as can be: the data is of 200,000 bytes.
    let share = timeouts.sent_mib.mul_f64(200_000.0 / f64::from(1 << 20));
    let (in_time, late) = (timeouts.transfer + share - MOMENT, timeouts.transfer + share + MOMENT);
    let came = each(&script, is_data, move || takes(in_time));
    put(&s, large(1)).await.unwrap();
    assert_eq!(came.load(Ordering::SeqCst), 1);
    let came = each(&script, is_data, move || takes(late));
    let outcome = put(&s, large(2)).await;
    assert!(matches!(outcome, Err(BackendError::Internal { .. })), "{outcome:?}");
    assert_eq!(came.load(Ordering::SeqCst), ATTEMPTS as usize);

    let came = each(
        &script,
        |call, _| call == Call::ReadOn,
        move || takes(timeouts.transfer - MOMENT),
    );
    assert_eq!(read(&s).await, large(1));
    // Of the head, and of the data.
    assert!(came.load(Ordering::SeqCst) > 0);
}

const MOMENT: Duration = Duration::from_secs(1);
