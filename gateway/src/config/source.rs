//! Where values come from, as figment's providers: the file, the environment, the command line.

use std::{fs, path::Path};

use figment::{
    Metadata, Profile, Provider,
    util::nest,
    value::{Dict, Map, Value},
};

use super::{ConfigError, Overrides};

/// What every variable of ours starts with.
pub(super) const PREFIX: &str = "T2GATE_";
/// The log's level, under a name that can be typed.
const LOG_LEVEL: &str = "T2GATE_LOG";

pub(super) const ENVIRONMENT: &str = "environment";
pub(super) const COMMAND_LINE: &str = "command line";

/// Sections that may stand in a list, and the keys under which those lists are kept. A single `[backend]` has the plain
/// key.
const LISTS: [(&str, &str); 2] = [("backend", BACKENDS), ("bucket", "bucket")];
/// The key of the list of `[[backend]]`: one that no file and no variable can give by itself.
pub(super) const BACKENDS: &str = "backend[]";

/// A key as it is written: that of an entry of a list has its number.
pub(super) fn written(key: &str) -> String {
    key.replacen("[]", "", 1)
}

/// The configuration file. Parsed here and not by figment, whose message for a syntax error quotes the line, which
/// may hold a secret.
#[derive(Debug)]
pub(super) struct TomlFile(Dict);

impl TomlFile {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let source = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|error| ConfigError::one(&source, "", format!("cannot read: {error}")))?;
        match text.parse::<toml::Table>() {
            Ok(table) => Ok(Self(
                table.into_iter().map(|(key, value)| section(key, value)).collect(),
            )),
            Err(error) => {
                let line = error
                    .span()
                    .map(|span| 1 + text.bytes().take(span.start).filter(|&b| b == b'\n').count());
                let at = line.map_or(source.clone(), |line| format!("{source}:{line}"));
                Err(ConfigError::one(
                    at,
                    "",
                    error.message().lines().collect::<Vec<_>>().join(", "),
                ))
            }
        }
    }
}

/// A section of the file; a list of them by their numbers.
fn section(key: String, value: toml::Value) -> (String, Value) {
    let list = LISTS.iter().find(|(name, _)| *name == key);
    match (list, value) {
        (Some(&(_, list)), toml::Value::Array(items)) => {
            let items = items.into_iter().enumerate();
            let dict: Dict = items.map(|(i, item)| (i.to_string(), from_toml(item))).collect();
            (list.to_owned(), Value::from(dict))
        }
        // Known to nobody with its quotation marks, and so refused.
        (None, value) if key == BACKENDS => (format!("\"{key}\""), from_toml(value)),
        (_, value) => (key, from_toml(value)),
    }
}

fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(on) => Value::from(on),
        // Times are read from strings, quoted or not.
        toml::Value::Datetime(time) => Value::from(time.to_string()),
        toml::Value::Array(items) => Value::from(items.into_iter().map(from_toml).collect::<Vec<_>>()),
        toml::Value::Table(table) => Value::from(
            table
                .into_iter()
                .map(|(key, value)| (key, from_toml(value)))
                .collect::<Dict>(),
        ),
    }
}

impl Provider for TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::named("file")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

/// `T2GATE_SECTION__KEY`, and `T2GATE_BACKEND__0__KEY` for an entry of a list. Every value stays the string that it is; the raw types read numbers, switches and lists
/// (with commas) out of it.
#[derive(Debug)]
pub(super) struct Environment(Dict);

impl Environment {
    /// A variable with our prefix that is no key of ours is a fault, as in the file.
    pub(super) fn new(variables: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let mut dict = Dict::new();
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if name == LOG_LEVEL {
                merge(&mut dict, nest("log.level", Value::from(value)));
            } else if let Some((section, key)) = key
                .split_once("__")
                .filter(|(section, key)| !section.is_empty() && !key.is_empty() && !section.contains('['))
            {
                let numbered = key
                    .split("__")
                    .next()
                    .is_some_and(|first| first.parse::<usize>().is_ok());
                let section = section.to_lowercase();
                let list = LISTS.iter().find(|(name, _)| numbered && *name == section);
                let section = list.map_or(&*section, |&(_, list)| list);
                let path = format!("{section}.{}", key.replace("__", ".").to_lowercase());
                merge(&mut dict, nest(&path, Value::from(value)));
            } else if !is_service_link(key) {
                let problem = "unknown variable: keys are written T2GATE_SECTION__KEY, with two underscores between";
                return Err(ConfigError::one(name, "", problem));
            }
        }
        Ok(Self(dict))
    }
}

/// The name of the variable that gives `key`.
pub(super) fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", written(key).replace('.', "__").to_uppercase())
}

/// Kubernetes tells every pod about every Service of its namespace: with one called `t2gate` or `t2gate-*`, names
/// like `T2GATE_PORT_8443_TCP_ADDR` and `T2GATE_SERVICE_HOST` are there without anybody having set them.
fn is_service_link(key: &str) -> bool {
    let words: Vec<&str> = key.split('_').collect();
    words
        .windows(2)
        .any(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]))
        || words.last() == Some(&"PORT")
        || words
            .windows(3)
            .any(|three| matches!(three, ["PORT", number, "TCP" | "UDP" | "SCTP"] if number.parse::<u16>().is_ok()))
}

fn merge(into: &mut Dict, value: Value) {
    let Some(dict) = value.into_dict() else {
        return;
    };
    for (key, value) in dict {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, inner)), value @ Value::Dict(..)) => merge(inner, value),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(ENVIRONMENT)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

/// What the command line says.
#[derive(Debug)]
pub(super) struct Overlay(Dict);

impl Overlay {
    /// With several backends the data directory is that of the first.
    pub(super) fn new(overrides: &Overrides, several_backends: bool) -> Self {
        let mut dict = Dict::new();
        let mut set = |key, value: Option<String>| {
            if let Some(value) = value {
                merge(&mut dict, nest(key, Value::from(value)));
            }
        };
        let root = if several_backends {
            format!("{BACKENDS}.0.root")
        } else {
            "backend.root".to_owned()
        };
        set(
            &root,
            overrides.data.as_ref().map(|path| path.to_string_lossy().into_owned()),
        );
        set("listen.address", overrides.listen.clone());
        set("listen.admin_address", overrides.admin_listen.clone());
        set("s3.dialect", overrides.dialect.clone());
        Self(dict)
    }
}

impl Provider for Overlay {
    fn metadata(&self) -> Metadata {
        Metadata::named(COMMAND_LINE)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}
