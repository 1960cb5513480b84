//! What is wrong with a configuration, one line a fault.

use std::fmt;

/// One thing that is wrong, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, the environment variable, or the command line.
    pub source: String,
    /// The key as it is written, `limits.connections`; empty where the fault is in no key.
    pub key: String,
    /// What is wrong with it. Never holds a secret.
    pub problem: String,
}

/// All that is wrong with a configuration; never empty. Displayed as one line per fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub faults: Vec<Fault>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// Collects the faults of one section, so that a person sees all of them at once.
#[derive(Debug)]
pub(crate) struct Faults {
    prefix: String,
    found: Vec<(String, String)>,
}

impl Faults {
    /// `section` is what stands before every key: `limits`.
    pub(crate) fn of(section: &str) -> Self {
        Self {
            prefix: section.to_owned(),
            found: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, key: &str, problem: impl Into<String>) {
        let key = match (self.prefix.as_str(), key) {
            (prefix, "") => prefix.to_owned(),
            ("", key) => key.to_owned(),
            (prefix, key) => format!("{prefix}.{key}"),
        };
        self.found.push((key, problem.into()));
    }

    /// The value, or a fault that says what was expected.
    pub(crate) fn expect<T>(&mut self, key: &str, found: &str, expected: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(key, format!("expected {expected}, found \"{found}\""));
        }
        value
    }

    /// A number within bounds.
    pub(crate) fn within<T: TryFrom<u64>>(&mut self, key: &str, number: u64, least: u64, most: u64) -> Option<T> {
        let value = (least..=most)
            .contains(&number)
            .then(|| T::try_from(number).ok())
            .flatten();
        if value.is_none() {
            self.add(key, format!("must be between {least} and {most}, found {number}"));
        }
        value
    }

    /// Keys and problems, in the order in which they were found.
    pub(crate) fn into_found(self) -> Vec<(String, String)> {
        self.found
    }
}
