//! Configuration: load, check, say what is wrong.
//!
//! Defaults, then the TOML file, then `T2GATE_*` variables, then the command line. Each section has a file with its
//! raw form (what can be written, and the defaults) and its checked form (real types). No default lives anywhere else.

mod accounts;
mod backend;
mod backends;
mod fault;
mod limits;
mod listen;
mod log;
mod rate_limit;
mod raw;
mod s3;
mod source;
mod tls;

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    error::{Actual, Kind},
    value::{Dict, Value},
};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use t2gate_backends::AccountId;

pub use self::{
    backend::{Backend, BackendKind, Store, StoreOptions},
    backends::Backends,
    fault::{ConfigError, Fault},
    limits::Limits,
    listen::Listen,
    log::{Log, LogFormat},
    rate_limit::RateLimit,
    s3::S3,
    tls::{CertificateFiles, Tls, TlsVersion},
};
use self::{
    fault::Faults,
    raw::Numbered,
    source::{BACKENDS, COMMAND_LINE, ENVIRONMENT, Environment, Overlay, TomlFile, written},
};
use crate::{
    keys::{Account, ApplicationKey, CapabilitySet, KeyKind, KeyTable, is_access_key_id, is_secret},
    rate_limit::KeyLimits,
};

/// The account that exists where none is configured.
pub const DEFAULT_ACCOUNT: &str = "default";

const ACCESS_KEY_ID: &str = "T2GATE_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "T2GATE_SECRET_ACCESS_KEY";

/// A configuration that was checked as a whole.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Listen,
    pub tls: Tls,
    pub limits: Limits,
    pub rate_limit: RateLimit,
    pub s3: S3,
    pub backends: Backends,
    pub log: Log,
    /// Accounts and keys from the configuration or the environment. `None`: those of the key file below the data
    /// directory, which is made where it is missing.
    pub keys: Option<KeyTable>,
    /// The file that was read, for messages.
    pub file: Option<PathBuf>,
}

/// What the command line says; it goes before everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub data: Option<PathBuf>,
    pub listen: Option<String>,
    pub admin_listen: Option<String>,
    pub dialect: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    listen: listen::RawListen,
    tls: tls::RawTls,
    limits: limits::RawLimits,
    rate_limit: rate_limit::RawRateLimit,
    s3: s3::RawS3,
    backend: backend::RawBackend,
    /// Those of `[[backend]]`, which the sources keep under a key of its own.
    #[serde(rename = "backend[]")]
    backends: Numbered<backend::RawBackend>,
    bucket: Numbered<backends::RawBucket>,
    log: log::RawLog,
    account: Vec<accounts::RawAccount>,
}

/// The key file: accounts and nothing else.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKeyFile {
    account: Vec<accounts::RawAccount>,
}

impl Config {
    /// Loads and checks: the file, if one is named, this process's environment, and the command line. The error holds
    /// every fault that was found.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut variables = Vec::new();
        for (name, value) in environment {
            if !name.starts_with(source::PREFIX) {
                continue;
            }
            let value = value
                .into_string()
                .map_err(|_| ConfigError::one(&name, "", "is not UTF-8"))?;
            variables.push((name, value));
        }
        Self::load_from(file, variables, overrides)
    }

    /// As [`load`](Self::load), with these variables for the environment.
    pub fn load_from(
        file: Option<&Path>,
        variables: Vec<(String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(path) = file {
            figment = figment.merge(TomlFile::read(path)?);
        }
        let (access_key, variables) = AccessKeyVariables::split(variables);
        figment = figment.merge(Environment::new(variables)?);
        let several_backends = figment.find_value(BACKENDS).is_ok();
        figment = figment.merge(Overlay::new(overrides, several_backends));
        let single_keys = figment.find_value("backend").ok().and_then(Value::into_dict);

        let mut faults = Vec::new();
        let raw: RawConfig = extract(&figment, file, &mut faults);

        let mut found = Vec::new();
        macro_rules! check {
            ($section:ident) => {{
                let mut faults = Faults::of(stringify!($section));
                let checked = raw.$section.check(&mut faults);
                found.extend(faults.into_found());
                checked
            }};
        }
        let (listen, tls, limits) = (check!(listen), check!(tls), check!(limits));
        let rate_limit = check!(rate_limit);
        let (s3, log) = (check!(s3), check!(log));
        let backends = backends::RawBackends {
            single: raw.backend,
            single_keys: single_keys.unwrap_or_default().into_keys().collect(),
            listed: several_backends.then_some(raw.backends),
            buckets: raw.bucket,
        };
        let backends = backends.check(&mut found);
        let accounts_are_configured = !raw.account.is_empty();
        let configured = accounts::check(raw.account, &mut found);
        faults.extend(found.into_iter().map(|(key, problem)| {
            let source = source_of(&figment, file, &key);
            let key = written(&key);
            Fault { source, key, problem }
        }));
        let from_environment = access_key.check(accounts_are_configured, &mut faults);

        let ready = (listen, tls, limits, rate_limit, s3, backends, log);
        match ready {
            (Some(listen), Some(tls), Some(limits), Some(rate_limit), Some(s3), Some(backends), Some(log))
                if faults.is_empty() =>
            {
                let keys = configured.or(from_environment);
                let of_backends = backends.iter().enumerate().filter_map(|(i, backend)| {
                    let key = if several_backends {
                        format!("{BACKENDS}.{i}.adopt_account")
                    } else {
                        "backend.adopt_account".to_owned()
                    };
                    Some((key, backend.adoption.others()?))
                });
                let of_buckets = backends.accounts.iter();
                let of_buckets = of_buckets.map(|(i, account)| (format!("bucket.{i}.account"), account));
                for (key, account) in of_backends.chain(of_buckets) {
                    let Some(problem) = unknown_account(account, keys.as_ref()) else {
                        continue;
                    };
                    let source = source_of(&figment, file, &key);
                    let key = written(&key);
                    faults.push(Fault { source, key, problem });
                }
                if !faults.is_empty() {
                    return Err(ConfigError { faults });
                }
                Ok(Self {
                    listen,
                    tls,
                    limits,
                    rate_limit,
                    s3,
                    backends,
                    log,
                    keys,
                    file: file.map(Path::to_owned),
                })
            }
            _ => Err(ConfigError { faults }),
        }
    }
}

/// What is wrong with the account that is to adopt buckets, if it is none of those that there are.
fn unknown_account(id: &AccountId, keys: Option<&KeyTable>) -> Option<String> {
    let known = match keys {
        Some(keys) => keys.accounts().any(|account| account.id == *id),
        // The key file has one account.
        None => id.as_str() == DEFAULT_ACCOUNT,
    };
    (!known).then(|| format!("there is no account \"{id}\""))
}

impl ConfigError {
    fn one(source: impl Into<String>, key: &str, problem: impl Into<String>) -> Self {
        Self {
            faults: vec![Fault {
                source: source.into(),
                key: key.to_owned(),
                problem: problem.into(),
            }],
        }
    }
}

/// Reads a file that holds accounts and nothing else. A file without accounts is a fault.
pub(crate) fn read_key_file(path: &Path) -> Result<KeyTable, ConfigError> {
    let figment = Figment::from(TomlFile::read(path)?);
    let mut faults = Vec::new();
    let raw: RawKeyFile = extract(&figment, Some(path), &mut faults);
    let mut found = Vec::new();
    let table = accounts::check(raw.account, &mut found);
    let source = path.display().to_string();
    faults.extend(found.into_iter().map(|(key, problem)| Fault {
        source: source.clone(),
        key,
        problem,
    }));
    match table {
        Some(table) if faults.is_empty() => Ok(table),
        _ if faults.is_empty() => Err(ConfigError::one(
            source,
            "account",
            "is missing: the file holds no account",
        )),
        _ => Err(ConfigError { faults }),
    }
}

/// Deserializes, collecting every fault: what cannot be read is taken out and the rest is tried again.
fn extract<T: DeserializeOwned + Default>(figment: &Figment, file: Option<&Path>, faults: &mut Vec<Fault>) -> T {
    let mut value = match figment.extract::<Dict>() {
        Ok(dict) => Value::from(dict),
        Err(error) => {
            let source = file.map_or_else(String::new, |path| path.display().to_string());
            faults.push(Fault {
                source,
                key: String::new(),
                problem: error.kind.to_string(),
            });
            return T::default();
        }
    };
    loop {
        let error = match value.deserialize::<T>() {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let key = error.path.join(".");
        let source = source_of(figment, file, &key);
        faults.push(Fault {
            source,
            key: written(&key),
            problem: problem(&error.kind, &error.path),
        });
        if !remove(&mut value, &error.path) {
            return T::default();
        }
    }
}

/// Takes out what stands at `path`; in a list, the whole list. False if there is nothing.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    match value {
        Value::Dict(_, dict) if rest.is_empty() => dict.remove(first).is_some(),
        Value::Dict(_, dict) => {
            let Some(inner) = dict.get_mut(first) else {
                return false;
            };
            remove(inner, rest) || dict.remove(first).is_some()
        }
        Value::Array(_, items) if !rest.is_empty() => first
            .parse::<usize>()
            .ok()
            .and_then(|index| items.get_mut(index))
            .is_some_and(|item| remove(item, rest)),
        _ => false,
    }
}

/// Says what is wrong in words that do not presume Rust, and without the value where that is a secret.
fn problem(kind: &Kind, path: &[String]) -> String {
    let secret = path.last().is_some_and(|key| key == "secret");
    match kind {
        Kind::UnknownField(_, known) => {
            let known: Vec<&str> = known.iter().copied().filter(|&key| key != BACKENDS).collect();
            format!("unknown key; known here are {}", known.join(", "))
        }
        Kind::InvalidType(..) | Kind::InvalidValue(..) if secret => "expected a string".to_owned(),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let expected = expected.to_string();
            let expected = match expected.as_str() {
                "sequence" | "a sequence" => "a list ([[...]] in the file)",
                other if other.starts_with("struct ") => "a section",
                other => other,
            };
            format!("expected {expected}, found {}", describe(found))
        }
        other => other.to_string(),
    }
}

fn describe(found: &Actual) -> String {
    match found {
        Actual::Str(text) => format!("\"{text}\""),
        Actual::Map => "a section".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        other => other.to_string(),
    }
}

/// Where the value of a key was given: the variable, the command line, or the file.
fn source_of(figment: &Figment, file: Option<&Path>, key: &str) -> String {
    // A key inside a list has the source of the list; one that is missing, that of what it is missing from.
    let mut known = key;
    let metadata = loop {
        match (figment.find_metadata(known), known.rsplit_once('.')) {
            (Some(metadata), _) => break Some(metadata),
            (None, Some((outer, _))) => known = outer,
            (None, None) => break None,
        }
    };
    match metadata.map(|metadata| metadata.name.as_ref()) {
        Some(ENVIRONMENT) => source::variable_name(known),
        Some(COMMAND_LINE) => COMMAND_LINE.to_owned(),
        Some(_) | None => file.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string()),
    }
}

/// The two variables that give one application key. They are read as the strings that they are.
#[derive(Debug, Default)]
struct AccessKeyVariables {
    id: Option<String>,
    secret: Option<SecretString>,
}

impl AccessKeyVariables {
    fn split(variables: Vec<(String, String)>) -> (Self, Vec<(String, String)>) {
        let mut access_key = Self::default();
        let mut others = Vec::new();
        for (name, value) in variables {
            // An empty variable is how a template says "not set".
            match name.as_str() {
                ACCESS_KEY_ID => access_key.id = Some(value).filter(|value| !value.is_empty()),
                SECRET_ACCESS_KEY => {
                    access_key.secret = Some(value).filter(|value| !value.is_empty()).map(SecretString::from);
                }
                _ => others.push((name, value)),
            }
        }
        (access_key, others)
    }

    /// One account with one key for everything in it.
    fn check(self, accounts_are_configured: bool, faults: &mut Vec<Fault>) -> Option<KeyTable> {
        use secrecy::ExposeSecret as _;

        let mut fault = |source: &str, problem: &str| {
            faults.push(Fault {
                source: source.to_owned(),
                key: String::new(),
                problem: problem.to_owned(),
            });
        };
        let (id, secret) = match (self.id, self.secret) {
            (None, None) => return None,
            (Some(_), None) => {
                fault(SECRET_ACCESS_KEY, &format!("is missing beside {ACCESS_KEY_ID}"));
                return None;
            }
            (None, Some(_)) => {
                fault(ACCESS_KEY_ID, &format!("is missing beside {SECRET_ACCESS_KEY}"));
                return None;
            }
            (Some(id), Some(secret)) => (id, secret),
        };
        if accounts_are_configured {
            fault(
                ACCESS_KEY_ID,
                "is set, but accounts are configured: give the key to one of them",
            );
            return None;
        }
        let valid = (is_access_key_id(&id), is_secret(secret.expose_secret()));
        if !valid.0 {
            fault(
                ACCESS_KEY_ID,
                "expected 3 to 128 ASCII letters, digits, '-', '_' and '.'",
            );
        }
        if !valid.1 {
            fault(SECRET_ACCESS_KEY, "expected 8 to 128 visible ASCII characters");
        }
        if valid != (true, true) {
            return None;
        }
        let account = AccountId::parse(DEFAULT_ACCOUNT).ok()?;
        let key = ApplicationKey {
            id: id.into(),
            secret,
            name: None,
            account: account.clone(),
            kind: KeyKind::Global,
            buckets: Vec::new(),
            prefix: None,
            capabilities: CapabilitySet::all(),
            expires: None,
            created: None,
            revoked: false,
            rate_limit: KeyLimits::default(),
        };
        KeyTable::new(
            vec![Account {
                id: account,
                name: None,
                max_buckets: None,
            }],
            vec![key],
        )
        .ok()
    }
}

#[cfg(test)]
mod tests;
