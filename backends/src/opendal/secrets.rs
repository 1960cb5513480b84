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
        self.texts.iter().any(|secret| text.contains(secret.as_str())) || granting(text).next().is_some()
    }

    /// `text` without them.
    pub(super) fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = without_grants(text);
        for secret in &self.texts {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), MASK));
            }
        }
        text
    }
}

/// What in the query of an address lets whoever has it do something: each of its values, wherever addresses are in a text.
fn granting(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    const NAMES: [&str; 6] = [
        // Of an upload to GCS that can be gone on with.
        "upload_id",
        "sig",
        "signature",
        "x-amz-signature",
        "x-amz-security-token",
        "x-goog-signature",
    ];
    text.match_indices(['?', '&']).filter_map(|(at, _)| {
        let (name, value) = text[at + 1..].split_once('=')?;
        NAMES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
        let begins = at + 1 + name.len() + 1;
        let ends = |c: char| c.is_whitespace() || "&#\"'<>()[]{},;\\".contains(c);
        let len = value.find(ends).unwrap_or(value.len());
        (len > 0 && &value[..len] != MASK).then_some(begins..begins + len)
    })
}

fn without_grants(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut at = 0;
    for value in granting(text) {
        // A value can look like another address.
        if value.start < at {
            continue;
        }
        masked.push_str(&text[at..value.start]);
        masked.push_str(MASK);
        at = value.end;
    }
    if at == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[at..]);
    Cow::Owned(masked)
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
    fn an_address_that_grants_something_is_not_told() {
        let none = Secrets::default();
        for (told, masked) in [
            (
                "error sending request for url (http://s/b/o?uploadType=resumable&upload_id=ABg5-Uv) at 1",
                "error sending request for url (http://s/b/o?uploadType=resumable&upload_id=***) at 1",
            ),
            ("\"http://a/b?sv=1&sig=ab%3D&sp=r\"", "\"http://a/b?sv=1&sig=***&sp=r\""),
            (
                "/o?X-Amz-Signature=a1&Signature=b?upload_id=c",
                "/o?X-Amz-Signature=***&Signature=***",
            ),
            ("?upload_id=a&upload_id=b", "?upload_id=***&upload_id=***"),
        ] {
            assert!(none.are_in(told), "{told}");
            assert_eq!(none.masked(told), masked);
            assert!(!none.are_in(masked), "{masked}");
        }
        // That of S3 is none without a signature.
        for told in [
            "http://s/b/o?uploadId=a&partNumber=1",
            "upload_id=a",
            "?upload_id=",
            "a?b&c",
        ] {
            assert!(!none.are_in(told) && none.masked(told) == told, "{told}");
        }
    }

    #[test]
    fn the_longer_secret_goes_first_and_what_is_short_is_left() {
        let both = secrets(&[("token", "abcd"), ("password", "abcdefgh"), ("secret_key", "ab")]);
        assert_eq!(both.masked("abcdefgh abcd ab"), "*** *** ab");
    }
}
