//! Loads the release gateway from outside, over TLS and with signed requests, and prints what it did and what that cost.
//!
//! `cargo bench -p t2gate --bench load -- [--quick] [NAME]`: `--quick` takes seconds instead of minutes, with figures to
//! match; NAME runs the scenarios whose name contains it. It reports and never judges: machines differ.
//!
//! Each scenario has a gateway process of its own, so that the peak of its memory is that scenario's. Its data lies
//! under `target/load`, on a disk that takes part in the figures; what the scenario reads is stored by an earlier process.

mod client;
mod gateway;
mod report;
mod scenario;

use std::{env, fs, hint::black_box, path::Path, time::Instant};

use anyhow::Result;
use md5::{Digest as _, Md5};

use self::{
    report::Report,
    scenario::{Operation, Scenario},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const ALONE: &str = "PUT 64 MiB, alone";
const CROWD: &str = "PUT 64 MiB, 64 at once";

/// Peak of the gateway's memory with 64 uploads of 64 MiB at once, in MiB.
const TARGET_PEAK_MIB: f64 = 96.0;
/// One upload of 64 MiB, as a part of what MD5 alone does on this core.
const TARGET_OF_MD5: f64 = 0.6;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted = arguments.iter().find(|argument| !argument.starts_with("--"));
    let seconds = if quick { 0.5 } else { 5.0 };

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/load");
    fs::create_dir_all(&root)?;
    let scenarios = [
        Scenario::new("PUT 4 KiB", Operation::Put, 4 * KIB, 32, seconds),
        Scenario::new("GET 4 KiB", Operation::Get, 4 * KIB, 32, seconds),
        Scenario::new("PUT 1 MiB", Operation::Put, MIB, 16, seconds),
        Scenario::new("GET 1 MiB", Operation::Get, MIB, 16, seconds),
        Scenario::new("PUT 64 MiB", Operation::Put, 64 * MIB, 4, seconds),
        Scenario::new("GET 64 MiB", Operation::Get, 64 * MIB, 4, seconds),
        Scenario::new("LIST 1000 keys", Operation::List { keys: 1000 }, 0, 4, seconds),
        Scenario::new(ALONE, Operation::Put, 64 * MIB, 1, seconds.max(2.0)),
        Scenario::new(CROWD, Operation::Put, 64 * MIB, 64, 0.0),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    println!("{}", Report::heading());
    let mut targets = Vec::new();
    for scenario in scenarios {
        if wanted.is_some_and(|name| !scenario.name.contains(name.as_str())) {
            continue;
        }
        let report = runtime.block_on(scenario.run(&root))?;
        println!("{report}");
        match report.name {
            ALONE => {
                // Right after it, so that both see the same machine.
                let md5 = md5_mib_per_second(if quick { 3 } else { 9 });
                targets.push(format!(
                    "one upload of 64 MiB: {:.2} of MD5 alone, {md5:.0} MiB/s (target: at least {TARGET_OF_MD5})",
                    report.best_mib_per_second() / md5
                ));
            }
            CROWD => targets.push(format!(
                "peak memory with 64 uploads of 64 MiB: {:.0} MiB (target: under {TARGET_PEAK_MIB})",
                report.peak_mib
            )),
            _ => {}
        }
    }
    println!();
    for target in targets {
        println!("{target}");
    }
    Ok(())
}

/// The best of some runs over 64 MiB in memory, as the best upload is compared with it.
fn md5_mib_per_second(runs: usize) -> f64 {
    let data = scenario::pattern(64 * MIB);
    let run = || {
        let begun = Instant::now();
        black_box(Md5::digest(black_box(&data)));
        64.0 / begun.elapsed().as_secs_f64()
    };
    (0..runs).map(|_| run()).fold(0.0, f64::max)
}
