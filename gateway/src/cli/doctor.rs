//! `t2gate doctor`: is this data directory whole?

use std::{fmt, path::Path, process::ExitCode};

use serde::Serialize;
use t2gate_backends::{FsReport, examine_fs};

use super::{CANNOT_EXAMINE, FOUND, complain, say};

/// Says what is found, as a table or as one JSON document. Whether anything was found is the exit code.
pub(super) fn run(data: &Path, repair: bool, json: bool) -> ExitCode {
    let report = match examine_fs(data, repair) {
        Ok(report) => report,
        Err(error) => {
            complain(error);
            return ExitCode::from(CANNOT_EXAMINE);
        }
    };
    let report = Report::from(&report);
    if json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => say(format_args!("{text}\n")),
            Err(error) => {
                complain(error);
                return ExitCode::from(CANNOT_EXAMINE);
            }
        }
    } else {
        say(&report);
    }
    if report.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND)
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    buckets: u64,
    objects: u64,
    findings: Vec<Finding<'a>>,
}

#[derive(Debug, Serialize)]
struct Finding<'a> {
    kind: &'static str,
    path: &'a str,
    repaired: bool,
}

impl<'a> From<&'a FsReport> for Report<'a> {
    fn from(report: &'a FsReport) -> Self {
        let findings = report.findings.iter().map(|finding| Finding {
            kind: finding.kind.as_str(),
            path: &finding.path,
            repaired: finding.repaired,
        });
        Self {
            buckets: report.buckets,
            objects: report.objects,
            findings: findings.collect(),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { kind, path, repaired } in &self.findings {
            let state = if *repaired { "repaired" } else { "" };
            // A name may hold line feeds, and what a terminal would obey.
            writeln!(f, "{kind:<20}  {state:<8}  {}", path.escape_debug())?;
        }
        let repaired = self.findings.iter().filter(|finding| finding.repaired).count();
        writeln!(
            f,
            "{} buckets, {} objects, {} findings, {repaired} of them repaired",
            self.buckets,
            self.objects,
            self.findings.len()
        )
    }
}
