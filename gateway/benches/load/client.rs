//! One connection that signs and sends requests, one after another.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{CONTENT_LENGTH, HOST},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::SecretString;
use t2gate::sigv4::client::{Signer, Target};
use t2gate_backends::{Clock as _, SystemClock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gateway::{ACCESS_KEY_ID, Gateway, SECRET_ACCESS_KEY};

/// What is given to hyper at a time, so that it does not copy a large body into one buffer.
const SLICE: usize = 256 * 1024;

pub(crate) struct Client {
    sender: http1::SendRequest<Slices>,
    signer: Signer,
    host: String,
}

impl Client {
    pub(crate) async fn connect(gateway: &Gateway) -> Result<Self> {
        let tcp = TcpStream::connect(gateway.address).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(gateway.tls.clone());
        let tls = tls.connect(ServerName::try_from("localhost")?, tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        // Its error reaches the request that was on its way.
        tokio::spawn(connection);
        let signer = Signer {
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: SecretString::from(SECRET_ACCESS_KEY),
            region: "us-east-1".to_owned(),
        };
        let host = format!("localhost:{}", gateway.address.port());
        Ok(Self { sender, signer, host })
    }

    pub(crate) async fn put(&mut self, path: &str, body: Bytes) -> Result<()> {
        let size = self.send(Method::PUT, path, "", body).await?;
        ensure!(size == 0, "an answer of {size} bytes to a PUT");
        Ok(())
    }

    /// Reads an object or a listing to its end; gives its size.
    pub(crate) async fn get(&mut self, path: &str, query: &str) -> Result<usize> {
        self.send(Method::GET, path, query, Bytes::new()).await
    }

    async fn send(&mut self, method: Method, path: &str, query: &str, body: Bytes) -> Result<usize> {
        let uri = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(HOST, &self.host)
            .header(CONTENT_LENGTH, body.len())
            .body(Slices(body))?;
        let target = Target {
            method: method.as_str(),
            host: &self.host,
            raw_path: path,
            raw_query: query,
        };
        self.signer
            .sign(target, request.headers_mut(), "UNSIGNED-PAYLOAD", SystemClock.now())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let (size, last) = drain(response.into_body()).await?;
        ensure!(
            status == StatusCode::OK,
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&last)
        );
        Ok(size)
    }
}

/// Reads a body to its end without keeping it; gives its size and its last piece, which holds an error's text.
async fn drain(mut body: Incoming) -> Result<(usize, Bytes)> {
    let mut size = 0;
    let mut last = Bytes::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("reading an answer")?.into_data() {
            size += data.len();
            last = data;
        }
    }
    Ok((size, last))
}

/// Bytes that go out in slices.
struct Slices(Bytes);

impl Body for Slices {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let slice = self.0.len().min(SLICE);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(slice)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
