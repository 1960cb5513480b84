//! One connection, from its first byte to its close.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ProtocolVersion;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::Service;

use super::{
    ConnectionInfo, ConnectionStats, ServerOptions, Shutdown, Tls,
    activity::{Activity, Expired, Verdict},
    io::WatchedStream,
    service::ConnectionService,
};

/// The first byte of a TLS record that carries a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// What plain text is told (RFC 9110 has no status for it; nginx and Amazon say 400 too).
const PLAIN_TEXT_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS only: use https://\r\n";
/// Headers of one request. Botocore sends about 20; user metadata are 2 KiB at most.
const MAX_HEADERS: usize = 256;
/// hyper's buffers for reading and for writing, each.
const BUFFER_BYTES: usize = 64 * 1024;
/// What the kernel may hold unsent. Small, so that what the socket takes is what the peer takes, or about.
const UNSENT_BYTES: u32 = 128 * 1024;
/// How much, and how long, is read and thrown away after the last answer, so that the client reads that answer and not
/// a reset.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// HTTP/2: requests at a time on one connection.
const H2_STREAMS: u32 = 64;
/// HTTP/2: what a peer may send ahead on one stream, and on the connection.
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// HTTP/2: what is held per stream for a peer that does not take it.
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2: streams that the peer opened and reset before they were looked at (the "rapid reset" attack), and streams
/// that were reset for the peer's faults; one more ends the connection.
const H2_PENDING_RESETS: usize = 20;
const H2_ERROR_RESETS: usize = 100;
/// HTTP/2: how often a peer is asked whether it is there, and how long it may take to say so.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) tls: Arc<Tls>,
    pub(super) options: ServerOptions,
    pub(super) stats: Arc<ConnectionStats>,
    pub(super) shutdown: Shutdown,
}

/// Serves one connection to its end.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    context: &Context,
    activity: Arc<Activity>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Unpin + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let Ok(local) = stream.local_addr() else {
        return;
    };
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%peer, %error, "cannot set the socket's options");
    }
    let shaken = tokio::select! {
        shaken = handshake(stream, peer, Arc::clone(&activity), context) => shaken,
        () = activity.gave_way() => {
            context.stats.displaced.fetch_add(1, Relaxed);
            None
        }
    };
    let Some(stream) = shaken else {
        return;
    };
    let session = stream.get_ref().1;
    let tls_version = session
        .protocol_version()
        .as_ref()
        .and_then(ProtocolVersion::as_str)
        .unwrap_or("TLS");
    let multiplexed = session.alpn_protocol() == Some(b"h2");
    activity.begin(multiplexed, Instant::now());
    let info = ConnectionInfo {
        peer,
        local,
        tls_version,
    };
    let service = ConnectionService::new(service, info, Arc::clone(&activity));
    let shutdown = context.shutdown.clone();

    let ended = if multiplexed {
        let connection = http2_builder(&context.options).serve_connection(TokioIo::new(stream), service);
        drive(Box::pin(connection), &activity, shutdown).await.0
    } else {
        let connection = http1_builder(&context.options).serve_connection(TokioIo::new(stream), service);
        let (ended, connection) = drive(connection, &activity, shutdown).await;
        if !matches!(ended, Ended::Expired(_)) {
            linger(
                connection.into_parts().io.into_inner(),
                matches!(ended, Ended::Failed(_)),
            )
            .await;
        }
        ended
    };
    match ended {
        Ended::Finished => {}
        Ended::Failed(error) => tracing::debug!(%peer, error = %Chain(&error), "connection failed"),
        Ended::Expired(why) => {
            let count = match why {
                Expired::GaveWay => &context.stats.displaced,
                _ => &context.stats.timeouts,
            };
            count.fetch_add(1, Relaxed);
            tracing::debug!(%peer, why = why.as_str(), "connection cut");
        }
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)
}

/// Looks at the first byte, then shakes hands; both within one deadline. `None`: the connection is done with.
async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    activity: Arc<Activity>,
    context: &Context,
) -> Option<TlsStream<WatchedStream>> {
    let stats = &context.stats;
    let deadline = Instant::now() + context.options.handshake_timeout;
    let mut shutdown = context.shutdown.clone();
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = timeout_at(deadline, stream.peek(&mut first)) => peeked,
        // Nothing was asked yet, so there is nothing to finish.
        () = shutdown.requested() => return None,
    };
    match peeked {
        Ok(Ok(0) | Err(_)) => return None,
        Ok(Ok(_)) if first == [HANDSHAKE_RECORD] => {}
        Ok(Ok(_)) => {
            stats.plain_text.fetch_add(1, Relaxed);
            tracing::debug!(%peer, "plain text on the TLS port");
            refuse_plain_text(stream).await;
            return None;
        }
        Err(_elapsed) => {
            stats.handshake_failures.fetch_add(1, Relaxed);
            tracing::debug!(%peer, "no handshake in time");
            return None;
        }
    }
    let acceptor = TlsAcceptor::from(context.tls.server_config());
    match timeout_at(deadline, acceptor.accept(WatchedStream::new(stream, activity))).await {
        Ok(Ok(stream)) => {
            stats.handshakes.fetch_add(1, Relaxed);
            Some(stream)
        }
        Ok(Err(error)) => {
            stats.handshake_failures.fetch_add(1, Relaxed);
            tracing::debug!(%peer, %error, "handshake failed");
            None
        }
        Err(_elapsed) => {
            stats.handshake_failures.fetch_add(1, Relaxed);
            tracing::debug!(%peer, "no handshake in time");
            None
        }
    }
}

async fn refuse_plain_text(mut stream: TcpStream) {
    // The client may have sent a whole request: what it sends is read, so that it gets to read this.
    if let Ok(Ok(())) = timeout(LINGER_TIME, stream.write_all(PLAIN_TEXT_ANSWER)).await {
        close_write_and_discard(stream).await;
    }
}

/// After the last answer. hyper has closed the writing side unless it `failed`.
async fn linger(mut stream: TlsStream<WatchedStream>, failed: bool) {
    if failed {
        // What hyper had to say about the failure (400, 431) may still be on its way.
        drop(timeout(LINGER_TIME, stream.shutdown()).await);
    }
    close_write_and_discard(stream.into_inner().0).await;
}

async fn close_write_and_discard<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: T) {
    let discard = async {
        stream.shutdown().await?;
        let mut scratch = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut scratch).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<(), io::Error>(())
    };
    // Whatever comes of it, the connection ends here.
    drop(timeout(LINGER_TIME, discard).await);
}

fn http1_builder(options: &ServerOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Activity` has its own deadlines: hyper's would count the pause between requests as slow headers.
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(true)
        .max_headers(MAX_HEADERS)
        .max_header_size(options.header_bytes)
        .max_buf_size(BUFFER_BYTES);
    builder
}

fn http2_builder(options: &ServerOptions) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(u32::try_from(options.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .adaptive_window(false)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_local_error_reset_streams(H2_ERROR_RESETS)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    Finished,
    Failed(hyper::Error),
    Expired(Expired),
}

/// hyper's two kinds of connection.
trait HttpConnection: Future<Output = hyper::Result<()>> + Unpin {
    fn graceful_shutdown(&mut self);
}

impl<B, S> HttpConnection for http1::Connection<TokioIo<TlsStream<WatchedStream>>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
    Self: Future<Output = hyper::Result<()>> + Unpin,
{
    fn graceful_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<B, S> HttpConnection for Pin<Box<http2::Connection<TokioIo<TlsStream<WatchedStream>>, S, TokioExecutor>>>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
    Self: Future<Output = hyper::Result<()>>,
{
    fn graceful_shutdown(&mut self) {
        self.as_mut().graceful_shutdown();
    }
}

/// Runs a connection until it ends, or until its peer has kept it waiting for too long. Told to stop, it finishes the
/// request that runs. All that happens on an HTTP/1 connection happens within its poll, so that looking at the
/// deadline after each one is enough.
async fn drive<C: HttpConnection>(mut connection: C, activity: &Activity, mut shutdown: Shutdown) -> (Ended, C) {
    let ended = {
        let mut stop = pin!(shutdown.requested());
        let mut stopping = false;
        let mut look = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            if !stopping && stop.as_mut().poll(cx).is_ready() {
                stopping = true;
                connection.graceful_shutdown();
            }
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ended::Finished),
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Failed(error)),
                Poll::Pending => {}
            }
            poll_expired(activity, look.as_mut(), cx).map(Ended::Expired)
        })
        .await
    };
    (ended, connection)
}

fn poll_expired(activity: &Activity, mut look: Pin<&mut Sleep>, cx: &mut TaskContext<'_>) -> Poll<Expired> {
    activity.watched_by(cx);
    loop {
        match activity.verdict(Instant::now()) {
            Verdict::Expired(why) => return Poll::Ready(why),
            // An alarm that rings too early costs one look; setting it back on every byte would cost more.
            Verdict::LookAgain(next) => {
                if look.is_elapsed() || next < look.deadline() {
                    look.as_mut().reset(next);
                }
            }
        }
        if look.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
    }
}

/// An error with its sources, in one line.
struct Chain<'a>(&'a dyn StdError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
