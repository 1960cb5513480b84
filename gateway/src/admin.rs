//! The second listener: /metrics, /healthz, /readyz. Plain HTTP without authentication, so on loopback by default.

use std::{collections::VecDeque, convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder as _, Registry, TEXT_FORMAT, TextEncoder};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::server::Shutdown;

/// Connections at a time; for one more the oldest ends. Whoever asks for health asks briefly, and is not to be kept out by
/// those who ask nothing.
const CONNECTIONS: usize = 64;
/// From the start of a connection, or the last answer, to the next request's headers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// No connection lasts longer, whatever it does.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(3600);
/// A gateway that cannot tell within this whether it is ready is not.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

type ReadyFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What the admin listener asks.
#[derive(Clone)]
pub struct Admin {
    registry: Registry,
    ready: Arc<dyn Fn() -> ReadyFuture + Send + Sync>,
}

impl Admin {
    /// `ready` says why not, in words that may be seen by whoever reaches the listener.
    pub fn new<F>(registry: Registry, ready: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            registry,
            ready: Arc::new(move || Box::pin(ready())),
        }
    }

    /// Serves until `shutdown`. It should be the last that is told to stop, so that `/readyz` can say "draining".
    pub async fn run(self, listener: TcpListener, mut shutdown: Shutdown) {
        let mut connections = JoinSet::new();
        let mut oldest_first: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
        loop {
            let accepted = tokio::select! {
                () = shutdown.requested() => break,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    if oldest_first.len() == CONNECTIONS {
                        oldest_first.retain(|connection| !connection.is_finished());
                    }
                    if oldest_first.len() == CONNECTIONS
                        && let Some(oldest) = oldest_first.pop_front()
                    {
                        oldest.abort();
                    }
                    oldest_first.push_back(connections.spawn(self.clone().serve(stream)));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin listener: cannot accept");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        connections.shutdown().await;
    }

    async fn serve(self, stream: TcpStream) {
        let service = service_fn(move |request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        // A scraper that went away or spoke nonsense is no concern of ours.
        drop(timeout(CONNECTION_LIFETIME, connection).await);
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match timeout(READY_TIMEOUT, (self.ready)()).await {
                Ok(Ok(())) => text(StatusCode::OK, "ready\n"),
                Ok(Err(reason)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
                Err(_elapsed) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: no answer in time\n"),
            },
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut encoded = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut encoded) {
            tracing::error!(%error, "cannot encode the metrics");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded\n");
        }
        let mut response = text(StatusCode::OK, encoded);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
        response
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::server::ShutdownTrigger;

    async fn start(ready: Result<(), String>) -> (SocketAddr, ShutdownTrigger) {
        let registry = Registry::new();
        let counter = IntCounter::new("t2gate_test_total", "Counts.").unwrap();
        counter.inc_by(3);
        registry.register(Box::new(counter)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::new();
        let admin = Admin::new(registry, move || std::future::ready(ready.clone()));
        tokio::spawn(admin.run(listener, shutdown));
        (address, trigger)
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_and_metrics_are_told() {
        let (address, _trigger) = start(Ok(())).await;
        assert!(ask(address, "GET", "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "GET", "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = ask(address, "GET", "/metrics").await;
        assert!(metrics.contains("\nt2gate_test_total 3\n"), "{metrics}");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    }

    #[tokio::test]
    async fn what_is_not_ready_says_why() {
        let (address, _trigger) = start(Err("draining".to_owned())).await;
        let answer = ask(address, "GET", "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready: draining\n"),
            "{answer}"
        );
        assert!(ask(address, "GET", "/healthz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn who_asks_nothing_keeps_nobody_from_asking() {
        let (address, _trigger) = start(Ok(())).await;
        let mut silent = Vec::new();
        for _ in 0..3 * CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = timeout(Duration::from_secs(20), ask(address, "GET", "/healthz")).await;
        assert!(answer.expect("an answer in time").starts_with("HTTP/1.1 200"));
        // The oldest have ended.
        assert!(matches!(silent[0].read(&mut [0]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn only_reading_is_allowed_and_head_has_no_body() {
        let (address, _trigger) = start(Ok(())).await;
        assert!(ask(address, "POST", "/healthz").await.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "GET", "/").await.starts_with("HTTP/1.1 404"));
        let head = ask(address, "HEAD", "/healthz").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    }
}
