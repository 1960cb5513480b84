//! `[[account]]` and `[[account.key]]`: who may use the gateway. The key file has the same form.

use std::{fs, path::Path};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use t2gate_backends::{AccountId, BucketName, Timestamp};

use super::{
    fault::Faults,
    rate_limit::RawKeyLimits,
    raw::{List, Switch, Whole},
};
use crate::{
    keys::{Account, ApplicationKey, Capability, CapabilitySet, KeyKind, KeyTable, is_access_key_id, is_secret},
    rate_limit::KeyLimits,
};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAccount {
    id: String,
    name: Option<String>,
    max_buckets: Option<Whole>,
    key: Vec<RawKey>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKey {
    id: String,
    name: Option<String>,
    secret: Option<SecretString>,
    secret_file: Option<String>,
    kind: String,
    buckets: List,
    prefix: Option<String>,
    capabilities: List,
    expires: Option<String>,
    created: Option<String>,
    revoked: Option<Switch>,
    rate_limit: Option<RawKeyLimits>,
}

/// Accounts and keys, or `None` where there are no accounts or where a fault was found.
pub(super) fn check(raw: Vec<RawAccount>, faults: &mut Vec<(String, String)>) -> Option<KeyTable> {
    if raw.is_empty() {
        return None;
    }
    let (mut accounts, mut keys) = (Vec::new(), Vec::new());
    let before = faults.len();
    for (i, raw) in raw.into_iter().enumerate() {
        let mut of_account = Faults::of(&format!("account.{i}"));
        let account = raw.check(&mut of_account);
        faults.extend(of_account.into_found());
        for (j, raw_key) in raw.key.into_iter().enumerate() {
            let mut of_key = Faults::of(&format!("account.{i}.key.{j}"));
            if let Some(account) = &account {
                keys.extend(raw_key.check(&account.id, &mut of_key));
            }
            faults.extend(of_key.into_found());
        }
        accounts.extend(account);
    }
    if faults.len() > before {
        return None;
    }
    KeyTable::new(accounts, keys)
        .map_err(|invalid| faults.push(("account".to_owned(), invalid.to_string())))
        .ok()
}

impl RawAccount {
    fn check(&self, faults: &mut Faults) -> Option<Account> {
        let id = match AccountId::parse(self.id.as_str()) {
            Ok(id) => Some(id),
            Err(invalid) => {
                faults.add("id", format!("{invalid}, found \"{}\"", self.id));
                None
            }
        };
        let max_buckets = match self.max_buckets {
            Some(Whole(most)) => Some(faults.within("max_buckets", most, 0, 1_000_000)?),
            None => None,
        };
        if self.key.is_empty() {
            faults.add("key", "is missing: an account has at least one key");
        }
        Some(Account {
            id: id?,
            name: self.name.as_deref().map(Into::into),
            max_buckets,
        })
    }
}

impl RawKey {
    fn check(self, account: &AccountId, faults: &mut Faults) -> Option<ApplicationKey> {
        let expected = "3 to 128 ASCII letters, digits, '-', '_' and '.'";
        let id = is_access_key_id(&self.id).then(|| self.id.as_str().into());
        let id = faults.expect("id", &self.id, expected, id);
        let kind = match self.kind.as_str() {
            "master" => Some(KeyKind::Master),
            "global" => Some(KeyKind::Global),
            "restricted" => Some(KeyKind::Restricted),
            other => faults.expect("kind", other, "\"master\", \"global\" or \"restricted\"", None),
        };
        let secret = self.secret(faults);
        let buckets = self.buckets(kind, faults);
        let capabilities = self.capabilities(kind, faults);
        if kind == Some(KeyKind::Master) && self.prefix.is_some() {
            faults.add("prefix", "is not for a master key, which reaches everything");
        }
        let mut time = |key, text: &Option<String>| match text {
            None => Some(None),
            Some(text) => faults.expect(
                key,
                text,
                "a time such as 2030-01-31T00:00:00Z",
                parse_time(text).map(Some),
            ),
        };
        let (expires, created) = (time("expires", &self.expires), time("created", &self.created));
        let rate_limit = match self.rate_limit {
            Some(limits) => limits.check(faults),
            None => Some(KeyLimits::default()),
        };
        Some(ApplicationKey {
            id: id?,
            secret: secret?,
            name: self.name.map(Into::into),
            account: account.clone(),
            kind: kind?,
            buckets,
            prefix: self.prefix.filter(|prefix| !prefix.is_empty()).map(Into::into),
            capabilities,
            expires: expires?,
            created: created?,
            revoked: self.revoked.is_some_and(|Switch(revoked)| revoked),
            rate_limit: rate_limit?,
        })
    }

    fn secret(&self, faults: &mut Faults) -> Option<SecretString> {
        let (key, secret) = match (&self.secret, &self.secret_file) {
            (Some(_), Some(_)) => {
                faults.add("secret_file", "is given beside secret: only one of them can hold");
                return None;
            }
            (None, None) => {
                faults.add("secret", "is missing: give secret or secret_file");
                return None;
            }
            (Some(secret), None) => ("secret", secret.clone()),
            (None, Some(file)) => match read_secret(Path::new(file)) {
                Ok(secret) => ("secret_file", secret),
                Err(error) => {
                    faults.add("secret_file", format!("cannot read {file}: {error}"));
                    return None;
                }
            },
        };
        // What was found is not said.
        if is_secret(secret.expose_secret()) {
            Some(secret)
        } else {
            faults.add(key, "expected a secret of 8 to 128 visible ASCII characters");
            None
        }
    }

    fn buckets(&self, kind: Option<KeyKind>, faults: &mut Faults) -> Vec<BucketName> {
        let named = &self.buckets.0;
        match kind {
            Some(KeyKind::Restricted) if named.is_empty() => {
                faults.add("buckets", "is missing: a restricted key names its buckets");
            }
            Some(KeyKind::Master | KeyKind::Global) if !named.is_empty() => {
                faults.add("buckets", "is only for a key of kind \"restricted\"");
            }
            Some(_) | None => {}
        }
        let mut buckets = Vec::new();
        for name in named {
            let bucket = BucketName::parse(name.as_str()).ok();
            buckets.extend(faults.expect("buckets", name, "the name of a bucket", bucket));
        }
        buckets
    }

    fn capabilities(&self, kind: Option<KeyKind>, faults: &mut Faults) -> CapabilitySet {
        let named = &self.capabilities.0;
        if kind == Some(KeyKind::Master) {
            if !named.is_empty() {
                faults.add("capabilities", "is not for a master key, which has all of them");
            }
            return CapabilitySet::all();
        }
        // Nothing is granted by leaving something out.
        if named.is_empty() {
            faults.add("capabilities", "is missing: name them, or \"all\"");
        }
        if matches!(named.as_slice(), [all] if all == "all") {
            return CapabilitySet::all();
        }
        let mut capabilities = Vec::new();
        for name in named {
            let names = Capability::ALL.map(Capability::as_str).join(", ");
            let expected = format!("\"all\" alone, or some of {names}");
            capabilities.extend(faults.expect("capabilities", name, &expected, Capability::parse(name)));
        }
        capabilities.into_iter().collect()
    }
}

/// The first line of a file, as secrets are mounted into containers.
fn read_secret(path: &Path) -> Result<SecretString, std::io::Error> {
    let mut text = fs::read_to_string(path)?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(text.into())
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_unix_nanos)
}
