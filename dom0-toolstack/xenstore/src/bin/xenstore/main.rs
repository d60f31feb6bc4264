//! The store's client for people and scripts.
//!
//! `xenstore read …` and, by another name of the program, `xenstore-read …` do the same. Output
//! and exit codes are those of Debian's xenstore-utils: scripts read them.

mod arguments;
mod commands;
mod control;
mod listing;
mod quoting;

use std::io::{self, Write};
use std::process::ExitCode;

use xenstore::client::Client;

use crate::arguments::{Invocation, Refusal, parse};

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            let name = words.first().map_or("xenstore", |name| base_name(name));
            let _written = writeln!(io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let Invocation { command, options, operands } = match parse(words) {
        Ok(invocation) => invocation,
        Err(Refusal::Wrong(usage)) => anyhow::bail!("{usage}"),
        Err(Refusal::Help(usage)) => {
            writeln!(io::stdout(), "{usage}")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let client = Client::connect()?;
    commands::perform(command, &options, &operands, &client)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
