//! What of a store's options nobody is to read in a log or an error.
//!
//! Some adapters put what they are given into addresses: a signature of Azure's, a token of WebHDFS. An address is part of an error's
//! text where no answer came. So the text of every error is looked through before it leaves the store's layers.

use std::{borrow::Cow, fmt, fmt::Write as _};

/// What stands for a secret.
const MASK: &str = "***";
/// What is shorter would be found everywhere, and is no secret.
const LEAST_BYTES: usize = 4;

/// The secrets among the options of a store.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    /// The longest first, as one can contain another.
    texts: Vec<String>,
}

/// Not what they are.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.texts.len())
    }
}

impl Secrets {
    pub(super) fn among(options: &[(String, String)]) -> Self {
        let mut texts = Vec::new();
        for (name, value) in options {
            if is_secret(name) {
                texts.push(value.clone());
                // In an address the parts of a shared access signature may come in another order.
                let signature = value.split(['&', '?']).find_map(|part| part.strip_prefix("sig="));
                texts.extend(signature.map(str::to_owned));
            }
            texts.extend(password(value).map(str::to_owned));
        }
        let encoded: Vec<String> = texts.iter().map(|text| percent_encoded(text)).collect();
        texts.extend(encoded);
        texts.retain(|text| text.len() >= LEAST_BYTES);
        texts.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        Self { texts }
    }

    pub(super) fn are_in(&self, text: &str) -> bool {
        self.texts.iter().any(|secret| text.contains(secret.as_str()))
    }

    /// `text` without them.
    pub(super) fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.texts {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), MASK));
            }
        }
        text
    }
}

/// By its name. `key` alone is the path of a file, of sftp.
fn is_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    let says = ["secret", "password", "token", "credential", "key", "delegation"]
        .iter()
        .any(|word| option.contains(word));
    let names_another = ["_id", "_path", "_file", "_name", "_md5", "_sha256"]
        .iter()
        .any(|end| option.ends_with(end));
    says && !names_another && option != "key"
}

/// That of `scheme://user:password@host`.
fn password(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

/// As in the query of an address.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // A String takes everything.
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(options: &[(&str, &str)]) -> Secrets {
        let options: Vec<_> = options
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Secrets::among(&options)
    }

    #[test]
    fn what_every_service_calls_a_secret_is_one() {
        for name in [
            "secret_access_key",
            "session_token",
            "server_side_encryption_customer_key",
            "credential",
            "token",
            "account_key",
            "encryption_key",
            "sas_token",
            "client_secret",
            "application_key",
            "access_key_secret",
            "security_token",
            "secret_key",
            "temp_url_key",
            "password",
            "delegation",
        ] {
            let secrets = secrets(&[(name, "hunter2")]);
            assert!(secrets.are_in("it is hunter2."), "{name}");
            assert_eq!(secrets.masked("it is hunter2."), "it is ***.", "{name}");
            assert!(!format!("{secrets:?}").contains("hunter2"), "{name}");
        }
        for name in [
            "bucket",
            "endpoint",
            "region",
            "root",
            "username",
            "account_name",
            "access_key_id",
            "application_key_id",
            "secret_id",
            "credential_path",
            "oidc_token_file",
            "key",
        ] {
            assert!(!secrets(&[(name, "hunter2")]).are_in("it is hunter2."), "{name}");
        }
    }

    #[test]
    fn a_secret_is_found_as_an_address_has_it() {
        let signed = secrets(&[("sas_token", "sv=2024&sp=rw&sig=ab/cd+ef%3D")]);
        for address in [
            "http://a/b?x=1&sv=2024&sp=rw&sig=ab/cd+ef%3D",
            "http://a/b?sig=ab/cd+ef%3D&sv=2024",
            "http://a/b?sig=ab%2Fcd%2Bef%253D",
        ] {
            assert!(!signed.masked(address).contains("cd"), "{}", signed.masked(address));
        }
        let user = secrets(&[("endpoint", "https://user:p%40ss:word@host:8443/path")]);
        assert_eq!(user.masked("https://user:p%40ss:word@host"), "https://user:***@host");
        assert!(!secrets(&[("endpoint", "https://host:8443/a:b@c")]).are_in("8443/a:b@c"));
    }

    #[test]
    fn the_longer_secret_goes_first_and_what_is_short_is_left() {
        let both = secrets(&[("token", "abcd"), ("password", "abcdefgh"), ("secret_key", "ab")]);
        assert_eq!(both.masked("abcdefgh abcd ab"), "*** *** ab");
    }
}
