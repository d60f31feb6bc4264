//! `xenstore control`, called `xenstore-control` too: commands to the daemon itself.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use xenstore::client::{Client, Error};
use xenstore::wire::Failure;

/// The exit code of a command line that makes no sense, as Xen's xenstore-control has it.
const USAGE: u8 = 2;
/// The exit code of a command that failed.
const FAILED: u8 = 3;
/// How long a live update may take where the caller sets no limit.
const UPDATE_LIMIT: u64 = 60;

/// Sends a command and prints what the daemon says.
pub(crate) fn perform(client: &Client, words: &[String]) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some((&"live-update", options)) = words.split_first() {
        return live_update(client, options);
    }
    match client.control(&words) {
        Ok(reply) if reply.is_empty() => {}
        Ok(reply) => writeln!(io::stdout(), "{reply}")?,
        Err(error) if error.failure() == Some(Failure::EINVAL) => {
            let help = client.control(&["help"])?;
            let mut errors = io::stderr();
            writeln!(errors, "Command not supported. Valid commands are:\n{help}")?;
            return Ok(ExitCode::from(FAILED));
        }
        Err(error @ Error::Refused { .. }) => {
            writeln!(io::stderr(), "Error when trying to execute command: {error}")?;
            return Ok(ExitCode::from(FAILED));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is asked of a live update.
#[derive(Debug, Eq, PartialEq)]
struct Update<'a> {
    program: &'a str,
    arguments: Option<&'a str>,
    limit: u64,
    force: bool,
}

impl<'a> Update<'a> {
    fn parse(options: &[&'a str]) -> Result<Self, &'static str> {
        let (mut program, mut arguments, mut limit, mut force) = (None, None, UPDATE_LIMIT, false);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "-c" => arguments = Some(*options.next().ok_or("Missing command line value")?),
                "-t" => {
                    let value = options.next().ok_or("Missing timeout value")?;
                    limit = value.parse().map_err(|_| "The timeout is no number of seconds")?;
                }
                "-F" => force = true,
                word => program = Some(word),
            }
        }
        let program = program.ok_or("Missing binary specification")?;
        Ok(Self { program, arguments, limit, force })
    }
}

fn live_update(client: &Client, options: &[&str]) -> anyhow::Result<ExitCode> {
    let update = match Update::parse(options) {
        Ok(update) => update,
        Err(complaint) => {
            writeln!(io::stderr(), "{complaint}")?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    let complain = |what: &str, reply: &str| -> anyhow::Result<ExitCode> {
        writeln!(io::stderr(), "{what} failed:\n{reply}")?;
        Ok(ExitCode::from(FAILED))
    };
    let settings = [("-f", Some(update.program)), ("-c", update.arguments)];
    for (option, value) in settings {
        let Some(value) = value else { continue };
        let reply = client.control(&["live-update", option, value])?;
        if reply != "OK" {
            return complain("Setting update binary", &reply);
        }
    }
    let limit = update.limit.to_string();
    let mut start = vec!["live-update", "-s", "-t", &limit];
    start.extend(update.force.then_some("-F"));
    let end = Instant::now() + Duration::from_secs(update.limit);
    loop {
        let reply = client.control(&start)?;
        if reply == "OK" {
            return Ok(ExitCode::SUCCESS);
        }
        if reply != "BUSY" || Instant::now() >= end {
            client.control(&["live-update", "-a"])?;
            return complain("Starting live update", &reply);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_update_is_written_as_xens_is() {
        let update = Update::parse(&["-c", "-N -v", "-t", "5", "-F", "/usr/sbin/xenstored"]);
        let expected = Update {
            program: "/usr/sbin/xenstored",
            arguments: Some("-N -v"),
            limit: 5,
            force: true,
        };
        assert_eq!(update, Ok(expected));
        assert_eq!(Update::parse(&["/x"]).unwrap().limit, 60);
        for wrong in [&["-c"][..], &["-t"], &["-t", "soon", "/x"], &["-F"]] {
            assert!(Update::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
