//! What a probe has found, as it is told.

use std::fmt;

use super::{NEEDED, UPLOAD_RULE, WRITES_WHOLE};

/// How far writers can be kept apart by the store itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreLevel {
    /// L0: it replaces whatever is there.
    Blobs,
    /// L1: of many writers of a new object one wins.
    CreateIfAbsent,
    /// L2: an object is replaced only as long as it is what was read.
    CompareAndSet,
}

impl fmt::Display for StoreLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blobs => "L0, blobs",
            Self::CreateIfAbsent => "L1, create if absent",
            Self::CompareAndSet => "L2, compare and set",
        })
    }
}

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    Yes,
    No,
    /// The adapter does not even ask.
    Unasked,
    /// The question itself failed.
    Failed(String),
}

/// One line of a [`ProbeReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeLine {
    pub question: &'static str,
    pub outcome: ProbeOutcome,
}

/// What a probe has found. Displayed, it is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// As opendal calls it.
    pub service: &'static str,
    pub level: StoreLevel,
    /// Nobody sees an object half written, whatever happens. `false`: that is not known of the service, whose servers may
    /// write in place.
    pub writes_whole: bool,
    /// What ends the uploads that a killed gateway has left in the store: its lifecycle rule of this name. `None`: it keeps
    /// none for good.
    pub upload_rule: Option<&'static str>,
    pub lines: Vec<ProbeLine>,
}

impl ProbeReport {
    /// Whether the store can be served at all: it takes, gives back, lists and deletes.
    pub fn is_usable(&self) -> bool {
        self.lines
            .iter()
            .filter(|line| NEEDED.contains(&line.question))
            .all(|line| line.outcome == ProbeOutcome::Yes)
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let outcome: &dyn fmt::Display = match &line.outcome {
                ProbeOutcome::Yes => &"yes",
                ProbeOutcome::No => &"no",
                ProbeOutcome::Unasked => &"no, and cannot be asked for",
                ProbeOutcome::Failed(reason) => reason,
            };
            writeln!(f, "  {:<58} {outcome}", line.question)?;
        }
        let whole = if self.writes_whole {
            "yes"
        } else {
            "no: it may write in place"
        };
        writeln!(f, "  {WRITES_WHOLE:<58} {whole}")?;
        if let Some(rule) = self.upload_rule {
            writeln!(f, "  {UPLOAD_RULE:<58} {rule}: not looked for, see that it is set")?;
        }
        write!(f, "  {:<58} {}", "level", self.level)
    }
}
