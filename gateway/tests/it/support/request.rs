//! Requests, signed and written out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use t2gate::sigv4::{
    ChunkSigner,
    client::{Signer, Target, encode_chunks, sha256_hex},
};
use t2gate_backends::{BodySummary, ChecksumAlgorithm, Timestamp};

use super::{APP, TestKey, now};

/// A request to be. Signed in its header by [`APP`] with the body's hash, unless told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it will stand on the request line.
    pub(crate) path: String,
    pub(crate) query: String,
    /// That of the gateway, where there is none.
    pub(crate) host: Option<String>,
    /// Signed.
    headers: HeaderMap,
    /// Added after signing: lines without their ends.
    unsigned: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
    streamed: Option<Streamed>,
    chunk_size: Option<usize>,
    content_length: Option<String>,
    content_sha256: Option<String>,
    signing: Signing,
    pub(crate) key: TestKey,
    region: &'static str,
    now: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signing {
    Header,
    Query(Duration),
    Nobody,
}

/// How a body is framed as aws-chunked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streamed {
    /// With a CRC32 in the trailer.
    Unsigned,
    Signed,
    /// With a CRC32 in the trailer.
    SignedTrailer,
}

impl Streamed {
    pub(crate) const ALL: [Self; 3] = [Self::Unsigned, Self::Signed, Self::SignedTrailer];

    fn word(self) -> &'static str {
        match self {
            Self::Unsigned => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            Self::Signed => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Self::SignedTrailer => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        }
    }

    fn encode(self, data: &[u8], signer: ChunkSigner) -> Bytes {
        const CHUNK: usize = 8192;
        let crc = crc32(data);
        let trailers = [("x-amz-checksum-crc32", &*crc)];
        match self {
            Self::Unsigned => encode_chunks(data, CHUNK, &trailers, None),
            Self::Signed => encode_chunks(data, CHUNK, &[], Some(signer)),
            Self::SignedTrailer => encode_chunks(data, CHUNK, &trailers, Some(signer)),
        }
    }
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            host: None,
            headers: HeaderMap::new(),
            unsigned: Vec::new(),
            body: Vec::new(),
            streamed: None,
            chunk_size: None,
            content_length: None,
            content_sha256: None,
            signing: Signing::Header,
            key: APP,
            region: "us-east-1",
            now: None,
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn head(target: &str) -> Self {
        Self::new("HEAD", target)
    }

    pub(crate) fn put(target: &str) -> Self {
        Self::new("PUT", target)
    }

    pub(crate) fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    pub(crate) fn delete(target: &str) -> Self {
        Self::new("DELETE", target)
    }

    /// A header that is signed, if there is a signature. The same name again adds a second line.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// A line put below the signed ones, as it is.
    pub(crate) fn line(mut self, line: impl AsRef<[u8]>) -> Self {
        self.unsigned.push(line.as_ref().to_vec());
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// A body with its MD5, as configuration documents need it.
    pub(crate) fn document(self, body: impl AsRef<[u8]>) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let md5 = BodySummary::of(body.as_ref(), ChecksumAlgorithm::Crc32).md5;
        self.header("content-md5", STANDARD.encode(md5)).body(body)
    }

    /// The body as aws-chunked.
    pub(crate) fn streamed(mut self, data: impl AsRef<[u8]>, how: Streamed) -> Self {
        self.streamed = Some(how);
        self.body(data)
    }

    /// The body in HTTP chunks of that size, without a Content-Length.
    pub(crate) fn chunked(mut self, size: usize) -> Self {
        self.chunk_size = Some(size);
        self
    }

    /// A Content-Length that is not the body's; empty for none.
    pub(crate) fn content_length(mut self, text: &str) -> Self {
        self.content_length = Some(text.to_owned());
        self
    }

    pub(crate) fn is_streamed(&self) -> bool {
        self.streamed.is_some()
    }

    pub(crate) fn content_sha256(mut self, text: &str) -> Self {
        self.content_sha256 = Some(text.to_owned());
        self
    }

    pub(crate) fn by(mut self, key: TestKey) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.signing = Signing::Nobody;
        self
    }

    pub(crate) fn presigned(mut self) -> Self {
        self.signing = Signing::Query(Duration::from_secs(600));
        self
    }

    pub(crate) fn presigned_for(mut self, seconds: u64) -> Self {
        self.signing = Signing::Query(Duration::from_secs(seconds));
        self
    }

    pub(crate) fn region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        self.now = Some(now);
        self
    }

    pub(crate) fn at_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The whole request as it goes over the wire.
    pub(crate) fn bytes(&self, gateway: &str) -> Vec<u8> {
        let (mut head, body) = self.signed(gateway);
        head.extend(body);
        head
    }

    /// Head and body apart.
    pub(crate) fn signed(&self, gateway: &str) -> (Vec<u8>, Vec<u8>) {
        let host = self.host.as_deref().unwrap_or(gateway);
        let now = self.now.unwrap_or_else(now);
        let signer = Signer {
            access_key_id: self.key.id.to_owned(),
            secret_access_key: self.key.secret.to_owned().into(),
            region: self.region.to_owned(),
        };
        let target = Target {
            method: &self.method,
            host,
            raw_path: &self.path,
            raw_query: &self.query,
        };
        let mut headers = self.headers.clone();
        let mut query = self.query.clone();
        let mut body = self.body.clone();
        let mut content_sha256 = sha256_hex(&body);
        if let Some(streamed) = self.streamed {
            content_sha256 = streamed.word().to_owned();
            let length = HeaderValue::from(body.len());
            headers.entry("x-amz-decoded-content-length").or_insert(length);
            headers
                .entry("content-encoding")
                .or_insert(HeaderValue::from_static("aws-chunked"));
            if streamed != Streamed::Signed {
                headers
                    .entry("x-amz-trailer")
                    .or_insert(HeaderValue::from_static("x-amz-checksum-crc32"));
            }
            // How long it is does not depend on what the signatures are.
            let any = signer.sign(target, &mut headers.clone(), &content_sha256, now).unwrap();
            body = streamed.encode(&self.body, any).to_vec();
        }
        match (&self.content_length, self.chunk_size) {
            (Some(length), _) if length.is_empty() => {}
            (Some(length), _) => {
                headers.insert("content-length", length.parse().unwrap());
            }
            (None, Some(_)) => {
                headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
            }
            (None, None) if !body.is_empty() || matches!(&*self.method, "PUT" | "POST") => {
                headers.insert("content-length", HeaderValue::from(body.len()));
            }
            (None, None) => {}
        }
        let content_sha256 = self.content_sha256.clone().unwrap_or(content_sha256);
        match self.signing {
            Signing::Header => {
                let chunk_signer = signer.sign(target, &mut headers, &content_sha256, now).unwrap();
                if let Some(streamed) = self.streamed {
                    body = streamed.encode(&self.body, chunk_signer).to_vec();
                }
            }
            Signing::Query(expires) => {
                // Clients do not sign these, for who uses the URL decides on them.
                let mut signed = headers.clone();
                for name in ["content-length", "transfer-encoding"] {
                    signed.remove(name);
                }
                query = signer.presign(target, &signed, now, expires).unwrap();
            }
            Signing::Nobody if self.streamed.is_some() || self.content_sha256.is_some() => {
                headers.insert("x-amz-content-sha256", content_sha256.parse().unwrap());
            }
            Signing::Nobody => {}
        }
        if let Some(size) = self.chunk_size {
            body = http_chunks(&body, size);
        }
        let question = if query.is_empty() { "" } else { "?" };
        let mut head = format!(
            "{} {}{question}{query} HTTP/1.1\r\nHost: {host}\r\n",
            self.method, self.path
        )
        .into_bytes();
        for (name, value) in &headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        for line in &self.unsigned {
            head.extend_from_slice(line);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        (head, body)
    }

    /// The target of a presigned URL.
    pub(crate) fn url(&self, gateway: &str) -> String {
        let head = String::from_utf8(self.signed(gateway).0).unwrap();
        head.split(' ').nth(1).unwrap().to_owned()
    }
}

/// The head of a request as text, to be tampered with.
pub(crate) fn head_of(request: &Request, gateway: &str) -> String {
    String::from_utf8(request.signed(gateway).0).unwrap()
}

/// `x-amz-checksum-crc32` of these bytes.
pub(crate) fn crc32(data: &[u8]) -> String {
    BodySummary::of(data, ChecksumAlgorithm::Crc32).checksum.to_string()
}

/// `Transfer-Encoding: chunked`.
pub(crate) fn http_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in body.chunks(size) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}
