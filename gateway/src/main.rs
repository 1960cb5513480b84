//! The `t2gate` program. See `cli.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    t2gate::cli::main()
}
