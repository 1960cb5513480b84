//! What a connection is waiting for, and until when. Pure but for its lock: the time is an argument.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::ServerOptions;

/// A peer that was blocked for less than this since it last took everything is still the one that is waited for.
const STILL_BEHIND: Duration = Duration::from_secs(1);

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// No request came.
    Idle,
    /// The headers of a request did not come to an end.
    SlowHeaders,
    /// The peer takes nothing of an answer.
    NotReading,
    /// The peer takes it too slowly.
    ReadingTooSlowly,
    /// It waited for its peer, and another one came.
    GaveWay,
}

impl Expired {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::SlowHeaders => "slow headers",
            Self::NotReading => "the peer does not read",
            Self::ReadingTooSlowly => "the peer reads too slowly",
            Self::GaveWay => "too many connections, and this one waited",
        }
    }
}

/// When to look again, or that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    LookAgain(Instant),
    Expired(Expired),
}

/// Shared by a connection's socket, which tells of bytes, its service, which tells of requests, and its task, which
/// asks for the verdict.
#[derive(Debug)]
pub(super) struct Activity {
    limits: PaceLimits,
    state: Mutex<State>,
    /// Of the task that asks for the verdict.
    task: AtomicWaker,
}

#[derive(Debug, Clone)]
struct PaceLimits {
    header_timeout: Duration,
    keep_alive_timeout: Duration,
    write_timeout: Duration,
    least_throughput: u64,
    throughput_grace: Duration,
    /// The longest time between two looks.
    longest: Duration,
}

#[derive(Debug)]
struct State {
    multiplexed: bool,
    /// Requests whose response bodies have not ended.
    requests: usize,
    had_request: bool,
    /// It is to end, should it still wait for its peer.
    gives_way: bool,
    /// Since when there has been nothing to do.
    idle_since: Instant,
    /// Since when a request's headers have been coming in. HTTP/1 only.
    head_since: Option<Instant>,
    writing: Option<Writing>,
    /// HTTP/2: streams that were given data and have not come back for more, by the number of their request.
    stalled: BTreeMap<u64, Instant>,
}

/// A time during which the peer is what an answer waits for.
#[derive(Debug)]
struct Writing {
    blocked: bool,
    /// The last change between blocked and not, or the last byte.
    progress: Instant,
    /// The start of the stretch over which throughput is measured, and what was taken in it.
    since: Instant,
    bytes: u64,
}

impl Activity {
    pub(super) fn new(options: &ServerOptions, now: Instant) -> Self {
        let limits = PaceLimits {
            header_timeout: options.header_timeout,
            keep_alive_timeout: options.keep_alive_timeout,
            write_timeout: options.write_timeout,
            least_throughput: options.least_throughput,
            throughput_grace: options.throughput_grace,
            longest: options
                .keep_alive_timeout
                .min(options.write_timeout)
                .min(options.header_timeout),
        };
        let state = State {
            multiplexed: false,
            requests: 0,
            had_request: false,
            gives_way: false,
            idle_since: now,
            head_since: None,
            writing: None,
            stalled: BTreeMap::new(),
        };
        Self {
            limits,
            state: Mutex::new(state),
            task: AtomicWaker::new(),
        }
    }

    /// Since when it has waited for its peer to say something. `None`: it does not, or has been told to end.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.is_waiting() && !state.gives_way).then(|| state.head_since.unwrap_or(state.idle_since))
    }

    /// Ends it, if it still waits for its peer by the time that its task looks.
    pub(super) fn give_way(&self) {
        self.lock().gives_way = true;
        self.task.wake();
    }

    /// Ends once it [gives way](Self::give_way).
    pub(super) async fn gave_way(&self) {
        poll_fn(|cx| {
            self.watched_by(cx);
            let state = self.lock();
            if state.gives_way && state.is_waiting() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// That task looks again when it has to.
    pub(super) fn watched_by(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// The handshake is over: requests are awaited from now on.
    pub(super) fn begin(&self, multiplexed: bool, now: Instant) {
        let mut state = self.lock();
        state.multiplexed = multiplexed;
        state.idle_since = now;
        state.head_since = None;
        state.writing = None;
    }

    pub(super) fn read(&self, bytes: usize, now: Instant) {
        let mut state = self.lock();
        // On HTTP/2 bytes may be mere pings: only a request counts there.
        if bytes > 0 && state.requests == 0 && !state.multiplexed && state.head_since.is_none() {
            state.head_since = Some(now);
        }
    }

    /// `bytes` of `offered` were taken.
    pub(super) fn wrote(&self, bytes: usize, offered: usize, now: Instant) {
        let mut state = self.lock();
        let Some(writing) = &mut state.writing else {
            return;
        };
        if bytes > 0 {
            writing.progress = now;
            writing.bytes = writing.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        if bytes == offered {
            writing.blocked = false;
            if state.requests == 0 {
                state.idle_since = now;
            }
        }
    }

    pub(super) fn write_blocked(&self, now: Instant) {
        let mut state = self.lock();
        match &mut state.writing {
            Some(writing) if writing.blocked => {}
            Some(writing) if now.duration_since(writing.progress) < STILL_BEHIND => {
                writing.blocked = true;
                writing.progress = now;
            }
            Some(_) | None => {
                state.writing = Some(Writing {
                    blocked: true,
                    progress: now,
                    since: now,
                    bytes: 0,
                })
            }
        }
    }

    pub(super) fn request_started(&self) {
        let mut state = self.lock();
        state.requests += 1;
        state.had_request = true;
        state.gives_way = false;
        state.head_since = None;
    }

    /// The request of that number is over, its response's body too.
    pub(super) fn request_ended(&self, number: u64, now: Instant) {
        let mut state = self.lock();
        state.stalled.remove(&number);
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.idle_since = now;
        }
    }

    /// The response of that number was asked for more.
    pub(super) fn body_polled(&self, number: u64) {
        let mut state = self.lock();
        if state.multiplexed {
            state.stalled.remove(&number);
        }
    }

    /// The response of that number gave data. On HTTP/2 the next question for more comes only once the peer's window
    /// has room, which the socket does not tell.
    pub(super) fn body_gave(&self, number: u64, now: Instant) {
        let mut state = self.lock();
        if state.multiplexed {
            state.stalled.insert(number, now);
        }
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        self.lock().verdict(&self.limits, now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it did, the state would be no worse than stale.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Nothing is under way but what the peer has yet to say.
    fn is_waiting(&self) -> bool {
        self.requests == 0 && !self.writing.as_ref().is_some_and(|writing| writing.blocked)
    }

    fn verdict(&mut self, limits: &PaceLimits, now: Instant) -> Verdict {
        let mut next = now + limits.longest;
        let mut due = |at: Instant, expired| {
            next = next.min(at);
            (at <= now).then_some(Verdict::Expired(expired))
        };
        if let Some(writing) = self.writing.as_mut().filter(|writing| writing.blocked) {
            if let Some(expired) = due(writing.progress + limits.write_timeout, Expired::NotReading) {
                return expired;
            }
            let grace = limits.throughput_grace;
            if now.duration_since(writing.since) >= grace {
                let elapsed = now.duration_since(writing.since).as_millis();
                if u128::from(writing.bytes) * 1000 < u128::from(limits.least_throughput) * elapsed {
                    return Verdict::Expired(Expired::ReadingTooSlowly);
                }
                writing.since = now;
                writing.bytes = 0;
            }
            next = next.min(writing.since + grace);
        } else if self.requests == 0 {
            if self.gives_way {
                return Verdict::Expired(Expired::GaveWay);
            }
            let awaited = match self.head_since {
                Some(since) => due(since + limits.header_timeout, Expired::SlowHeaders),
                None if self.had_request => due(self.idle_since + limits.keep_alive_timeout, Expired::Idle),
                None => due(self.idle_since + limits.header_timeout, Expired::Idle),
            };
            if let Some(expired) = awaited {
                return expired;
            }
        }
        if let Some(&oldest) = self.stalled.values().min()
            && let Some(expired) = {
                next = next.min(oldest + limits.write_timeout);
                (oldest + limits.write_timeout <= now).then_some(Verdict::Expired(Expired::NotReading))
            }
        {
            return expired;
        }
        Verdict::LookAgain(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn activity() -> (Activity, Instant) {
        let now = Instant::now();
        let options = ServerOptions {
            connections: 1,
            header_bytes: 16 * 1024,
            handshake_timeout: SECOND,
            header_timeout: 10 * SECOND,
            keep_alive_timeout: 60 * SECOND,
            write_timeout: 30 * SECOND,
            least_throughput: 1000,
            throughput_grace: 20 * SECOND,
            drain_deadline: SECOND,
        };
        (Activity::new(&options, now), now)
    }

    #[track_caller]
    fn lives(activity: &Activity, at: Instant) {
        assert!(
            matches!(activity.verdict(at), Verdict::LookAgain(next) if next > at),
            "{:?}",
            activity.verdict(at)
        );
    }

    #[track_caller]
    fn expired(activity: &Activity, at: Instant, why: Expired) {
        assert_eq!(activity.verdict(at), Verdict::Expired(why));
    }

    #[test]
    fn a_connection_that_never_says_anything_ends_after_the_header_timeout() {
        let (activity, start) = activity();
        lives(&activity, start + 9 * SECOND);
        expired(&activity, start + 10 * SECOND, Expired::Idle);
    }

    #[test]
    fn headers_have_one_deadline_however_many_pieces_they_come_in() {
        let (activity, start) = activity();
        for second in 1..=10 {
            activity.read(1, start + second * SECOND);
            lives(&activity, start + second * SECOND);
        }
        expired(&activity, start + 11 * SECOND, Expired::SlowHeaders);
    }

    #[test]
    fn between_requests_the_keep_alive_timeout_holds_and_then_the_header_timeout() {
        let (activity, start) = activity();
        activity.read(100, start);
        activity.request_started();
        lives(&activity, start + 1000 * SECOND);
        let end = start + 1000 * SECOND;
        activity.request_ended(1, end);
        lives(&activity, end + 59 * SECOND);
        expired(&activity, end + 60 * SECOND, Expired::Idle);
        activity.read(1, end + 59 * SECOND);
        lives(&activity, end + 68 * SECOND);
        expired(&activity, end + 69 * SECOND, Expired::SlowHeaders);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_cut_and_progress_puts_it_off() {
        let (activity, start) = activity();
        activity.request_started();
        activity.write_blocked(start);
        activity.wrote(1_000_000, 2_000_000, start + 15 * SECOND);
        lives(&activity, start + 44 * SECOND);
        expired(&activity, start + 45 * SECOND, Expired::NotReading);
    }

    #[test]
    fn a_peer_that_trickles_is_cut_after_the_grace() {
        let (activity, start) = activity();
        activity.request_started();
        activity.write_blocked(start);
        for second in 1..20 {
            activity.wrote(999, 1_000_000, start + second * SECOND);
            lives(&activity, start + second * SECOND);
        }
        expired(&activity, start + 20 * SECOND, Expired::ReadingTooSlowly);
    }

    #[test]
    fn what_was_fast_once_does_not_count_for_ever() {
        let (activity, start) = activity();
        activity.request_started();
        activity.write_blocked(start);
        activity.wrote(1_000_000_000, 2_000_000_000, start + SECOND);
        lives(&activity, start + 20 * SECOND);
        activity.wrote(1, 2_000_000_000, start + 30 * SECOND);
        expired(&activity, start + 40 * SECOND, Expired::ReadingTooSlowly);
    }

    #[test]
    fn a_backend_that_takes_its_time_is_not_held_against_the_peer() {
        let (activity, start) = activity();
        activity.request_started();
        activity.write_blocked(start);
        activity.wrote(10, 10, start + SECOND);
        lives(&activity, start + 500 * SECOND);
        // Blocked again, but that is a new stretch.
        activity.write_blocked(start + 500 * SECOND);
        lives(&activity, start + 519 * SECOND);
    }

    #[test]
    fn an_answer_that_still_waits_for_its_peer_is_not_idle() {
        let (activity, start) = activity();
        activity.request_started();
        activity.write_blocked(start);
        activity.request_ended(1, start);
        for second in 1..200 {
            activity.wrote(100_000, 1_000_000, start + second * SECOND);
            lives(&activity, start + second * SECOND);
        }
        activity.wrote(1, 1, start + 200 * SECOND);
        lives(&activity, start + 259 * SECOND);
        expired(&activity, start + 260 * SECOND, Expired::Idle);
    }

    #[test]
    fn only_who_waits_gives_way() {
        let (activity, start) = activity();
        assert_eq!(activity.waiting_since(), Some(start));
        activity.read(1, start + SECOND);
        assert_eq!(activity.waiting_since(), Some(start + SECOND));
        activity.request_started();
        assert_eq!(activity.waiting_since(), None);
        // A request came between the look and the word.
        activity.give_way();
        lives(&activity, start + 2 * SECOND);
        activity.write_blocked(start + 3 * SECOND);
        activity.request_ended(1, start + 3 * SECOND);
        lives(&activity, start + 4 * SECOND);
        activity.wrote(9, 9, start + 5 * SECOND);
        expired(&activity, start + 5 * SECOND, Expired::GaveWay);
        assert_eq!(activity.waiting_since(), None, "it is told once");
        activity.request_started();
        activity.request_ended(2, start + 6 * SECOND);
        lives(&activity, start + 7 * SECOND);
        assert_eq!(activity.waiting_since(), Some(start + 6 * SECOND));
    }

    #[test]
    fn on_http2_pings_do_not_keep_a_connection_and_a_closed_window_ends_it() {
        let (activity, start) = activity();
        activity.begin(true, start);
        for second in 1..10 {
            activity.read(17, start + second * SECOND);
        }
        expired(&activity, start + 10 * SECOND, Expired::Idle);

        activity.request_started();
        activity.body_gave(7, start + 10 * SECOND);
        lives(&activity, start + 39 * SECOND);
        expired(&activity, start + 40 * SECOND, Expired::NotReading);
        activity.body_polled(7);
        lives(&activity, start + 40 * SECOND);
    }
}
