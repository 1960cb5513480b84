//! The signing key and the signatures made with it (S3 API reference, "Calculating a signature").

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString, zeroize::Zeroizing};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::CredentialScope;

/// A signature, compared only in constant time and never printed.
#[derive(Clone)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Parses 64 lower-case hexadecimal digits, as every signer writes them.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Takes the same time wherever the two differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// A secret key's derivative for one day, region and service. Wiped on drop, redacted in `Debug`.
pub struct SigningKey(SecretBox<[u8; 32]>);

impl SigningKey {
    /// The key for `scope`.
    pub fn derive(secret: &SecretString, scope: &CredentialScope) -> Self {
        let secret = secret.expose_secret().as_bytes();
        let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret);
        let date = Zeroizing::new(hmac_sha256(&first, scope.date.as_bytes()));
        let region = Zeroizing::new(hmac_sha256(&*date, scope.region.as_bytes()));
        let service = Zeroizing::new(hmac_sha256(&*region, scope.service.as_bytes()));
        Self(SecretBox::new(Box::new(hmac_sha256(&*service, b"aws4_request"))))
    }

    /// Signs a string to sign.
    pub fn sign(&self, string_to_sign: &[u8]) -> Signature {
        Signature(hmac_sha256(self.0.expose_secret(), string_to_sign))
    }
}

impl Clone for SigningKey {
    fn clone(&self) -> Self {
        Self(SecretBox::new(Box::new(*self.0.expose_secret())))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// SHA-256 as 64 lower-case hexadecimal digits.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_and_signatures_are_not_printed() {
        let key = SigningKey::derive(
            &SecretString::from("secret"),
            &CredentialScope {
                date: "20130524".into(),
                region: "us-east-1".into(),
                service: "s3".into(),
            },
        );
        assert_eq!(format!("{key:?} {:?}", key.sign(b"x")), "SigningKey(..) Signature(..)");
    }

    #[test]
    fn a_signature_is_64_lower_case_digits() {
        let good = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(Signature::parse(good).unwrap().to_hex(), good);
        for bad in [
            "",
            "f0",
            &good.to_uppercase(),
            &good[1..],
            &format!("{good}0"),
            &good.replace('f', "g"),
        ] {
            assert!(Signature::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn one_bit_makes_a_difference() {
        let (a, mut b) = (Signature([7; 32]), Signature([7; 32]));
        assert!(a.matches(&b));
        b.0[31] ^= 1;
        assert!(!a.matches(&b));
    }
}
