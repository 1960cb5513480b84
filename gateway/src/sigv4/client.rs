//! The other side: signs requests and bodies. For the tests and the benchmark; the gateway itself calls nothing here.

use std::{fmt, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use t2gate_backends::Timestamp;

use super::{
    AmzDate, AuthError, ChunkSigner, CredentialScope, Signature, SignedHeaders, SignedRequest, SigningKey,
    canonical::{ALGORITHM, Parts, Query, string_to_sign, uri_encode},
};

/// A key with which to sign, for one region.
#[derive(Debug)]
pub struct Signer {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub region: String,
}

/// The target of a request, raw: as it will stand on the request line.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub method: &'a str,
    pub host: &'a str,
    /// Percent-encoded ([`encode_path`]).
    pub raw_path: &'a str,
    /// Percent-encoded ([`encode_query`]), without `?`.
    pub raw_query: &'a str,
}

impl Signer {
    /// Adds `x-amz-date`, `x-amz-content-sha256` and `Authorization` to `headers`, and signs the host and all of them
    /// but those that proxies rewrite. `content_sha256` is the hash in hexadecimal or one of S3's words for a payload
    /// that has none. The [`ChunkSigner`] is for [`encode_chunks`] when the payload is signed in chunks.
    ///
    /// # Errors
    /// When the path or the query is not percent-encoded.
    ///
    /// # Panics
    /// When a key, region or payload hash cannot stand in a header.
    pub fn sign(
        &self,
        target: Target<'_>,
        headers: &mut HeaderMap,
        content_sha256: &str,
        now: Timestamp,
    ) -> Result<ChunkSigner, AuthError> {
        let timestamp = AmzDate::from(now);
        headers.remove(AUTHORIZATION);
        headers.insert("x-amz-date", header_value(timestamp.as_str()));
        headers.insert("x-amz-content-sha256", header_value(content_sha256));
        let signed_headers = signed_headers(headers);
        let (key, signature) = self.signature(target, headers, &signed_headers, content_sha256, &timestamp)?;
        let scope = self.scope(&timestamp);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
            self.access_key_id,
            signed_headers.as_str(),
            signature.to_hex()
        );
        headers.insert(AUTHORIZATION, header_value(&authorization));
        Ok(ChunkSigner::new(key, &timestamp, &scope, signature))
    }

    /// The query of a presigned URL: that of `target` with the parameters of the signature. Signs the host and all
    /// `headers`, which have to be sent as they are.
    ///
    /// # Errors
    /// When the path or the query is not percent-encoded.
    pub fn presign(
        &self,
        target: Target<'_>,
        headers: &HeaderMap,
        now: Timestamp,
        expires: Duration,
    ) -> Result<String, AuthError> {
        let timestamp = AmzDate::from(now);
        let signed_headers = signed_headers(headers);
        let credential = format!("{}/{}", self.access_key_id, self.scope(&timestamp));
        let mut raw_query = encode_query(&[
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", timestamp.as_str()),
            ("X-Amz-Expires", &expires.as_secs().to_string()),
            ("X-Amz-SignedHeaders", signed_headers.as_str()),
        ]);
        if !target.raw_query.is_empty() {
            raw_query = format!("{}&{raw_query}", target.raw_query);
        }
        let target = Target {
            raw_query: &raw_query,
            ..target
        };
        let content_sha256 = content_sha256(target.raw_query, headers)?;
        let (_, signature) = self.signature(target, headers, &signed_headers, &content_sha256, &timestamp)?;
        Ok(format!("{raw_query}&X-Amz-Signature={}", signature.to_hex()))
    }

    fn signature(
        &self,
        target: Target<'_>,
        headers: &HeaderMap,
        signed_headers: &SignedHeaders,
        content_sha256: &str,
        timestamp: &AmzDate,
    ) -> Result<(SigningKey, Signature), AuthError> {
        let request = SignedRequest {
            method: target.method,
            raw_path: target.raw_path,
            raw_query: target.raw_query,
            headers,
            host: target.host,
        };
        let parts = Parts::new(&request, signed_headers, content_sha256, false)?;
        let scope = self.scope(timestamp);
        let key = SigningKey::derive(&self.secret_access_key, &scope);
        let string_to_sign = string_to_sign(timestamp.as_str(), &scope, &parts.canonical_request());
        let signature = key.sign(string_to_sign.as_bytes());
        Ok((key, signature))
    }

    fn scope(&self, timestamp: &AmzDate) -> CredentialScope {
        CredentialScope {
            date: timestamp.date().into(),
            region: self.region.as_str().into(),
            service: "s3".into(),
        }
    }
}

/// Percent-encodes a key or a bucket and key as a path; `/` stays.
pub fn encode_path(path: &str) -> String {
    uri_encode(path.as_bytes(), false)
}

/// Percent-encodes parameters as a query, in their order.
pub fn encode_query<N: AsRef<str>, V: AsRef<str>>(parameters: &[(N, V)]) -> String {
    let encode = |text: &str| uri_encode(text.as_bytes(), true);
    let pair = |(name, value): &(N, V)| format!("{}={}", encode(name.as_ref()), encode(value.as_ref()));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Frames `data` as aws-chunked in chunks of `chunk_size` bytes, signed when there is a `signer`. `trailers` are sent
/// when there are any, signed likewise.
///
/// # Panics
/// When `chunk_size` is 0.
pub fn encode_chunks(data: &[u8], chunk_size: usize, trailers: &[(&str, &str)], signer: Option<ChunkSigner>) -> Bytes {
    let mut signer = signer;
    let mut out = BytesMut::with_capacity(data.len() + 256);
    for chunk in data.chunks(chunk_size).chain(std::iter::once(&[][..])) {
        out.put_slice(format!("{:x}", chunk.len()).as_bytes());
        if let Some(signer) = &mut signer {
            let signature = signer.sign_chunk(&Sha256::digest(chunk).into());
            out.put_slice(format!(";chunk-signature={}", signature.to_hex()).as_bytes());
        }
        out.put_slice(b"\r\n");
        out.put_slice(chunk);
        if !chunk.is_empty() {
            out.put_slice(b"\r\n");
        }
    }
    for (name, value) in trailers {
        out.put_slice(format!("{name}:{value}\r\n").as_bytes());
    }
    if let Some(signer) = &mut signer
        && !trailers.is_empty()
    {
        let trailers: Vec<_> = trailers
            .iter()
            .map(|&(name, value)| (name.into(), value.into()))
            .collect();
        let signature = signer.sign_trailers(&trailers);
        out.put_slice(format!("x-amz-trailer-signature:{}\r\n", signature.to_hex()).as_bytes());
    }
    out.put_slice(b"\r\n");
    out.freeze()
}

/// SHA-256 in hexadecimal, as `x-amz-content-sha256` has it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    super::signing_key::sha256_hex(bytes)
}

/// `host` and every header but those that hop from node to node.
fn signed_headers(headers: &HeaderMap) -> SignedHeaders {
    const UNSIGNED: [&str; 6] = [
        "authorization",
        "connection",
        "expect",
        "host",
        "transfer-encoding",
        "user-agent",
    ];
    let mut names: Vec<_> = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| !UNSIGNED.contains(name))
        .collect();
    names.push("host");
    names.sort_unstable();
    SignedHeaders::parse(&names.join(";")).expect("header names are what SignedHeaders holds")
}

fn content_sha256(raw_query: &str, headers: &HeaderMap) -> Result<String, AuthError> {
    let query = Query::parse(raw_query)?;
    let in_query = query
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"x-amz-content-sha256"));
    let in_query = in_query.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let in_header =
        || super::payload::content_sha256(headers).map(|value| value.unwrap_or("UNSIGNED-PAYLOAD").to_owned());
    in_query.map_or_else(in_header, Ok)
}

fn header_value(value: impl fmt::Display) -> HeaderValue {
    HeaderValue::from_str(&value.to_string()).expect("keys, regions and hashes are visible ASCII")
}
