//! The chain of signatures over the chunks of a streaming payload (S3 API reference, "Signature calculations for the
//! Authorization header: transferring payload in multiple chunks").

use super::{
    AmzDate, CredentialScope,
    signing_key::{Signature, SigningKey, sha256_hex},
};

/// SHA-256 of nothing, which the string to sign of a chunk has a line for.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Signs chunks and trailers, each signature resting on the one before; the first on that of the request.
#[derive(Debug, Clone)]
pub struct ChunkSigner {
    key: SigningKey,
    timestamp: Box<str>,
    scope: Box<str>,
    previous: Signature,
}

impl ChunkSigner {
    pub(super) fn new(key: SigningKey, timestamp: &AmzDate, scope: &CredentialScope, seed: Signature) -> Self {
        Self {
            key,
            timestamp: timestamp.as_str().into(),
            scope: scope.to_string().into(),
            previous: seed,
        }
    }

    /// The signature of the next chunk, given the SHA-256 of its data.
    pub fn sign_chunk(&mut self, sha256: &[u8; 32]) -> Signature {
        let digest = hex::encode(sha256);
        self.sign("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY_SHA256}\n{digest}"))
    }

    /// The signature of the trailers, which ends the chain. Names are lower-case, values trimmed, in any order.
    pub fn sign_trailers(&mut self, trailers: &[(Box<str>, Box<str>)]) -> Signature {
        // Sorted as pairs: as lines, `a-b:` would come before `a:`.
        let mut sorted: Vec<_> = trailers.iter().collect();
        sorted.sort_unstable();
        let lines: String = sorted.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        self.sign("AWS4-HMAC-SHA256-TRAILER", &sha256_hex(lines.as_bytes()))
    }

    fn sign(&mut self, algorithm: &str, digests: &str) -> Signature {
        let previous = self.previous.to_hex();
        let Self { timestamp, scope, .. } = self;
        let string_to_sign = format!("{algorithm}\n{timestamp}\n{scope}\n{previous}\n{digests}");
        self.previous = self.key.sign(string_to_sign.as_bytes());
        self.previous.clone()
    }
}
