//! The raw stream of a request's body: who holds it, and how slow it may be.

use std::{
    any::Any,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep, sleep};

use crate::s3::{S3Error, S3ErrorCode};

/// A body of any origin.
pub type BoxBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// How slow a request's body may be. Only the time spent waiting for the client counts, not that spent storing.
#[derive(Debug, Clone, Copy)]
pub struct BodyPace {
    /// The longest wait for the next bytes.
    pub idle_timeout: Duration,
    /// How long the client is waited for, all in all, before the least throughput is asked for, and again each time.
    pub grace: Duration,
    /// The least throughput, in bytes a second; 0 for none.
    pub min_bytes_per_second: u64,
}

/// A handle on a request's body. The body itself lies in a slot that the outermost layer shares: what an inner one
/// did not read is still there when the answer goes out.
#[derive(Clone)]
pub struct RequestBody {
    slot: Arc<Mutex<Slot>>,
    pace: BodyPace,
}

struct Slot {
    body: Option<BoxBody>,
    /// A reader has taken the body out.
    is_read: bool,
    /// Dropped when nobody has a handle on the body any more.
    kept_alive: Vec<Box<dyn Any + Send>>,
}

impl RequestBody {
    pub fn new(body: BoxBody, pace: BodyPace) -> Self {
        let slot = Slot {
            body: Some(body),
            is_read: false,
            kept_alive: Vec::new(),
        };
        Self {
            slot: Arc::new(Mutex::new(slot)),
            pace,
        }
    }

    /// Takes the stream out; when the reader is dropped it goes back into the slot.
    pub(super) fn reader(&self) -> BodyReader {
        let mut slot = self.slot();
        slot.is_read = true;
        BodyReader {
            body: slot.body.take(),
            slot: self.slot.clone(),
            timer: PaceTimer::new(self.pace),
        }
    }

    /// Keeps `what` until the last handle on the body and its reader are gone.
    pub fn keep_alive(&self, what: impl Any + Send) {
        self.slot().kept_alive.push(Box::new(what));
    }

    /// Whether the request came with a body that is not known to be empty.
    pub fn is_announced(&self) -> bool {
        self.slot().body.as_ref().is_some_and(|body| !body.is_end_stream())
    }

    /// Whether nothing of it is still to come, and nobody waits for it.
    pub fn is_over(&self) -> bool {
        let slot = self.slot();
        !slot.is_read && slot.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    /// Drops what nobody has read, and says whether there was any.
    pub fn discard(&self) -> bool {
        self.slot().body.take().is_some_and(|body| !body.is_end_stream())
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        // The slot holds no invariant that a panic elsewhere could break.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// Reads a request's body at no less than its pace.
pub(super) struct BodyReader {
    body: Option<BoxBody>,
    slot: Arc<Mutex<Slot>>,
    timer: PaceTimer,
}

impl BodyReader {
    /// The next bytes, not empty; `None` at the end of the body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, S3Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(None) => {
                    // A body of chunks does not know of itself that it has ended: nothing is to go back to the slot.
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(source))) => {
                    let error = S3Error::new(S3ErrorCode::IncompleteBody, "The request body terminated unexpectedly.");
                    return Poll::Ready(Some(Err(error.with_source(source))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // HTTP's own trailers carry nothing in S3: its trailers are inside aws-chunked.
                    if let Some(data) = Frame::into_data(frame).ok().filter(|data| !data.is_empty()) {
                        self.timer.received(data.len());
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Pending => {
                    ready!(self.timer.poll_too_slow(cx));
                    let error = S3Error::new(
                        S3ErrorCode::RequestTimeout,
                        "Your socket connection to the server was not read from or written to within the timeout period.",
                    );
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_read = false;
        slot.body = self.body.take();
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").finish_non_exhaustive()
    }
}

/// Measures throughput over stretches of [`BodyPace::grace`], so that what was fast once does not count for ever.
struct PaceTimer {
    pace: BodyPace,
    /// Bytes in this stretch.
    received: u64,
    /// Waited for the client in this stretch, up to the last bytes.
    waited: Duration,
    waiting: Option<Waiting>,
}

/// A wait for the next bytes.
struct Waiting {
    began: Instant,
    /// When it began, or when the stretch did if that was later.
    in_stretch: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl PaceTimer {
    fn new(pace: BodyPace) -> Self {
        Self {
            pace,
            received: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    fn received(&mut self, len: usize) {
        self.received = self.received.saturating_add(len as u64);
        if let Some(waiting) = self.waiting.take() {
            self.waited += waiting.in_stretch.elapsed();
        }
    }

    /// Ready when the wait has become too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let waiting = self.waiting.get_or_insert_with(|| {
                let now = Instant::now();
                let mut longest = self.pace.idle_timeout;
                if self.pace.min_bytes_per_second > 0 {
                    longest = longest.min(self.pace.grace.saturating_sub(self.waited));
                }
                Waiting {
                    began: now,
                    in_stretch: now,
                    alarm: Box::pin(sleep(longest)),
                }
            });
            ready!(waiting.alarm.as_mut().poll(cx));
            let now = Instant::now();
            let least = u128::from(self.pace.min_bytes_per_second) * self.pace.grace.as_millis();
            let idle_at = waiting.began + self.pace.idle_timeout;
            if now >= idle_at || u128::from(self.received) * 1000 < least {
                return Poll::Ready(());
            }
            // It kept up: the next stretch begins.
            self.received = 0;
            self.waited = Duration::ZERO;
            waiting.in_stretch = now;
            waiting.alarm.as_mut().reset(idle_at.min(now + self.pace.grace));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    const PACE: BodyPace = BodyPace {
        idle_timeout: Duration::from_secs(10),
        grace: Duration::from_secs(20),
        min_bytes_per_second: 1000,
    };

    fn body_every(interval: Duration, bytes: usize) -> BoxBody {
        let frames = stream::repeat(()).then(move |()| async move {
            sleep(interval).await;
            Ok::<_, Box<dyn Error + Send + Sync>>(Frame::data(Bytes::from(vec![0; bytes])))
        });
        BoxBody::new(StreamBody::new(frames))
    }

    async fn seconds_until_refused(body: BoxBody) -> u64 {
        let start = Instant::now();
        let mut reader = RequestBody::new(body, PACE).reader();
        loop {
            match poll_fn(|cx| reader.poll_data(cx)).await {
                Some(Ok(_)) if start.elapsed() < Duration::from_secs(600) => {}
                Some(Err(error)) => {
                    assert_eq!(error.code(), S3ErrorCode::RequestTimeout);
                    return start.elapsed().as_secs();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_idle_timeout() {
        assert_eq!(
            seconds_until_refused(body_every(Duration::from_secs(3600), 1)).await,
            10
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_ends_at_the_grace() {
        assert_eq!(seconds_until_refused(body_every(Duration::from_secs(1), 1)).await, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_but_steady_body_may_go_on() {
        let mut reader = RequestBody::new(body_every(Duration::from_secs(1), 1001), PACE).reader();
        for _ in 0..600 {
            assert!(poll_fn(|cx| reader.poll_data(cx)).await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fast_once_does_not_count_for_ever() {
        let first = stream::iter([Ok(Frame::data(Bytes::from(vec![0; 1 << 20])))]);
        let rest = stream::repeat(()).then(|()| async {
            sleep(Duration::from_secs(5)).await;
            Ok::<_, Box<dyn Error + Send + Sync>>(Frame::data(Bytes::from("x")))
        });
        // The stretch that began with much, and one more.
        assert_eq!(
            seconds_until_refused(BoxBody::new(StreamBody::new(first.chain(rest)))).await,
            40
        );
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_the_store_takes_is_not_the_clients() {
        let mut reader = RequestBody::new(body_every(Duration::from_secs(1), 10), PACE).reader();
        for _ in 0..10 {
            assert!(poll_fn(|cx| reader.poll_data(cx)).await.unwrap().is_ok());
            sleep(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test]
    async fn what_is_left_unread_is_known() {
        let frames = || stream::iter([Ok::<_, Box<dyn Error + Send + Sync>>(Frame::data(Bytes::from("hello")))]);
        let chunks = || RequestBody::new(BoxBody::new(StreamBody::new(frames())), PACE);
        assert!(chunks().discard());

        let body = chunks();
        drop(body.reader());
        assert!(body.discard());
        assert!(!body.discard());

        let body = chunks();
        let mut reader = body.reader();
        assert_eq!(poll_fn(|cx| reader.poll_data(cx)).await.unwrap().unwrap(), "hello");
        assert!(poll_fn(|cx| reader.poll_data(cx)).await.is_none());
        drop(reader);
        assert!(!body.discard());

        let empty = || Full::<Bytes>::default().map_err(|never| match never {});
        assert!(!RequestBody::new(BoxBody::new(empty()), PACE).discard());
        assert!(RequestBody::new(BoxBody::new(empty()), PACE).is_over());
    }

    #[tokio::test]
    async fn a_body_is_over_when_its_end_was_read() {
        let frames = stream::iter([Ok::<_, Box<dyn Error + Send + Sync>>(Frame::data(Bytes::from("hello")))]);
        let body = RequestBody::new(BoxBody::new(StreamBody::new(frames)), PACE);
        assert!(!body.is_over());
        let mut reader = body.reader();
        assert!(!body.is_over());
        while poll_fn(|cx| reader.poll_data(cx)).await.is_some() {}
        assert!(!body.is_over(), "its reader may still refuse it");
        drop(reader);
        assert!(body.is_over());
    }
}
