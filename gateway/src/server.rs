//! Accept loop, TLS, HTTP connections, drain. No S3 words.
//!
//! A connection costs a permit from the moment that it is accepted, and every step of it has a deadline: the first
//! byte and the handshake, the headers of a request, the pause between requests, the progress of an answer. The pace
//! at which a request's *body* arrives is for whoever reads it.

pub mod self_signed;
pub mod tls;

mod activity;
mod connection;
mod crowd;
mod io;
mod service;
mod shutdown;

use std::{
    convert::Infallible,
    error::Error as StdError,
    io::{Error, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tower::Service;

use self::{activity::Activity, crowd::Crowd};
pub use self::{
    shutdown::{Shutdown, ShutdownTrigger, signals},
    tls::Tls,
};
use crate::config::Limits;

/// What one listener allows its peers.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Connections at a time. When there are so many, the one that has waited for its peer the longest ends for a new one;
    /// where all are being served, the new one is closed.
    pub connections: usize,
    /// Bytes of request line and headers; one more is answered with 431.
    pub header_bytes: usize,
    /// From the accepted connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its headers, and from the handshake to that first byte.
    pub header_timeout: Duration,
    /// Between two requests.
    pub keep_alive_timeout: Duration,
    /// How long an answer may wait for its peer without any progress.
    pub write_timeout: Duration,
    /// Bytes a second that a peer has to take while an answer waits for it.
    pub least_throughput: u64,
    /// The time over which `least_throughput` is measured.
    pub throughput_grace: Duration,
    /// How long [`run`] waits for running requests once it was told to stop.
    pub drain_deadline: Duration,
}

impl From<&Limits> for ServerOptions {
    fn from(limits: &Limits) -> Self {
        Self {
            connections: limits.connections,
            header_bytes: limits.header_bytes,
            handshake_timeout: limits.handshake_timeout,
            header_timeout: limits.header_timeout,
            keep_alive_timeout: limits.keep_alive_timeout,
            write_timeout: limits.write_timeout,
            least_throughput: limits.least_throughput,
            throughput_grace: limits.throughput_grace,
            drain_deadline: limits.drain_deadline,
        }
    }
}

/// What is known of the connection that a request came by; an extension of every request.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// `TLSv1_3`, for logs.
    pub tls_version: &'static str,
}

/// Counts since the start, but for `open`.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    /// Connections that were accepted, refused ones too.
    pub accepted: AtomicU64,
    /// Closed at once, for there were too many.
    pub refused: AtomicU64,
    /// Closed while they waited for their peers, for there were too many and another one came.
    pub displaced: AtomicU64,
    /// Connections now.
    pub open: AtomicU64,
    /// Plain text where TLS was expected.
    pub plain_text: AtomicU64,
    pub handshakes: AtomicU64,
    /// Handshakes that failed or took too long.
    pub handshake_failures: AtomicU64,
    /// Connections that were cut because their peer was too slow or said nothing.
    pub timeouts: AtomicU64,
    /// Times that no connection could be accepted, for lack of file descriptors or memory.
    pub accept_errors: AtomicU64,
}

/// What became of the connections once [`run`] was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy at the deadline, and were cut.
    pub cut: usize,
}

/// How long a new connection waits for the one that makes room for it.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until `shutdown`, then finishes what runs. When it returns, the listener is closed and no connection is left.
///
/// A connection over the limit for which none makes room is accepted and closed at once: left waiting in the kernel it would look like a hang to
/// its client, whereas every S3 client tries again after a closed connection.
pub async fn run<S, B>(
    listener: TcpListener,
    tls: Arc<Tls>,
    service: S,
    options: ServerOptions,
    stats: Arc<ConnectionStats>,
    mut shutdown: Shutdown,
) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Unpin + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(options.connections.min(Semaphore::MAX_PERMITS)));
    let context = Arc::new(connection::Context {
        tls,
        options,
        stats: Arc::clone(&stats),
        shutdown: shutdown.clone(),
    });
    let crowd = Arc::new(Crowd::default());
    let mut connections = JoinSet::new();
    let mut pause = AcceptPause::default();
    let mut full = false;
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            () = sleep_until(pause.until()), if pause.is_on() => pause.end(),
            accepted = listener.accept(), if !pause.is_on() => match accepted {
                Ok((stream, peer)) => {
                    pause.reset();
                    stats.accepted.fetch_add(1, Relaxed);
                    let now = Instant::now();
                    let permit = Arc::clone(&permits).try_acquire_owned().ok();
                    if permit.is_none() {
                        if !std::mem::replace(&mut full, true) {
                            tracing::warn!(
                                limit = context.options.connections,
                                "too many connections: closing those that wait, or new ones"
                            );
                        }
                        if !crowd.make_room(now) {
                            stats.refused.fetch_add(1, Relaxed);
                            continue;
                        }
                    } else {
                        full = false;
                    }
                    let (context, service, permits) = (Arc::clone(&context), service.clone(), Arc::clone(&permits));
                    let activity = Arc::new(Activity::new(&context.options, now));
                    let crowd = Arc::clone(&crowd);
                    connections.spawn(async move {
                        let permit = match permit {
                            Some(permit) => permit,
                            None => match timeout(ROOM_TIMEOUT, permits.acquire_owned()).await {
                                Ok(Ok(permit)) => permit,
                                Ok(Err(_)) | Err(_) => {
                                    context.stats.refused.fetch_add(1, Relaxed);
                                    return;
                                }
                            },
                        };
                        let _open = Gauge::of(&context.stats.open);
                        let _member = crowd.join(Arc::clone(&activity));
                        connection::serve(stream, peer, service, &context, activity).await;
                        drop(permit);
                    });
                }
                // The peer went away while it waited in the queue: its own affair.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    stats.accept_errors.fetch_add(1, Relaxed);
                    pause.begin(&error);
                }
            },
        }
    }
    drop(listener);
    drain(connections, context.options.drain_deadline).await
}

async fn drain(mut connections: JoinSet<()>, deadline: Duration) -> Drained {
    let deadline = Instant::now() + deadline;
    loop {
        tokio::select! {
            ended = connections.join_next() => match ended {
                Some(ended) => report(ended),
                None => return Drained { cut: 0 },
            },
            () = sleep_until(deadline) => break,
        }
    }
    let cut = connections.len();
    tracing::warn!(cut, "the drain deadline has passed: cutting what still runs");
    connections.shutdown().await;
    Drained { cut }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

/// Errors of `accept` that say nothing about the next one (accept(2), "Error handling").
fn is_of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::WouldBlock
    )
}

/// Out of descriptors or memory: the connection stays in the queue, so that trying again at once would spin. Waits
/// longer each time, up to a second, and says so once.
#[derive(Debug, Default)]
struct AcceptPause {
    until: Option<Instant>,
    failures: u32,
}

impl AcceptPause {
    fn begin(&mut self, error: &Error) {
        if self.failures == 0 {
            tracing::error!(%error, "cannot accept connections; trying on");
        }
        let wait = Duration::from_millis(10 << self.failures.min(7)).min(Duration::from_secs(1));
        self.failures = self.failures.saturating_add(1);
        self.until = Some(Instant::now() + wait);
    }

    fn is_on(&self) -> bool {
        self.until.is_some()
    }

    fn until(&self) -> Instant {
        self.until.unwrap_or_else(Instant::now)
    }

    fn end(&mut self) {
        self.until = None;
    }

    fn reset(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("accepting connections again");
        }
    }
}

/// Counts up while it lives.
struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    fn of(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
