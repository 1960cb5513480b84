//! Vectors at every stage, and one rejection for each way to be wrong.

mod rejections;
mod vectors;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use t2gate_backends::Timestamp;

use super::*;

/// 20130524T000000Z, the time of Amazon's examples.
const NOW: i64 = 1_369_353_600;

/// A request that owns its parts.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    query: String,
    host: String,
    headers: HeaderMap,
}

impl Request {
    fn new(method: &str, target: &str, host: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            host: host.to_owned(),
            headers: HeaderMap::new(),
        }
    }

    /// A request as it stands in a file.
    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
        let mut request = Self::new(method, rest.strip_suffix(" HTTP/1.1").unwrap(), "");
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            request.header(name, value.trim());
        }
        request.host = request.headers["host"].to_str().unwrap().to_owned();
        request
    }

    fn header(&mut self, name: &str, value: &str) -> &mut Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn set(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn signed(&self) -> SignedRequest<'_> {
        SignedRequest {
            method: &self.method,
            raw_path: &self.path,
            raw_query: &self.query,
            headers: &self.headers,
            host: &self.host,
        }
    }

    fn credentials(&self) -> Result<SignedCredentials, AuthError> {
        match credentials(&self.signed())? {
            Credentials::Signed(signed) => Ok(*signed),
            Credentials::Anonymous => panic!("anonymous"),
        }
    }

    fn verify(&self, secret: &str, options: &VerifyOptions<'_>) -> Result<Verified, AuthError> {
        verify(&self.signed(), &self.credentials()?, &secret.into(), options)
    }
}

fn options() -> VerifyOptions<'static> {
    VerifyOptions {
        now: Timestamp::from_unix(NOW, 0),
        region: "eu-central-1",
        any_region: false,
        max_skew: MAX_SKEW,
    }
}

fn signer() -> client::Signer {
    client::Signer {
        access_key_id: "AKIDTEST".to_owned(),
        secret_access_key: SecretString::from(SECRET),
        region: "eu-central-1".to_owned(),
    }
}

const SECRET: &str = "a secret";
