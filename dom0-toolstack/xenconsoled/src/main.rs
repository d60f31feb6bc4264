//! The console daemon: guests' console rings to terminals and logs.
//!
//! Watches xenstore for domains, gives each console a pseudo-terminal whose name it writes to
//! `console/tty`, and keeps logs of guests and hypervisor. [`service::Service`] is the loop; what
//! can be decided without a machine ([`output`], [`ring`], [`log_file`]) is tested without one.
#![forbid(unsafe_code)]

mod console;
mod log_file;
mod output;
mod ring;
mod service;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use xenstore::cage::Cage;
use xenstore::daemon::{self, Log, PidFile};

use crate::service::{Service, Settings};

/// Gives guests' consoles to terminals and logs.
#[derive(Debug, Parser)]
#[command(name = "xenconsoled", version)]
struct Arguments {
    /// Stay in the foreground and log to standard error.
    #[arg(short, long)]
    interactive: bool,
    /// Say more.
    #[arg(short, long)]
    verbose: bool,
    /// Whose output to keep in files.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    log: Sources,
    /// Where those files are.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/log/xen/console")]
    log_dir: PathBuf,
    /// Whose lines in files begin with the time.
    #[arg(short, long, value_name = "WHAT", default_value = "none")]
    timestamp: Sources,
    /// What to do with output nobody reads.
    #[arg(short, long, value_name = "HOW", default_value = "discard")]
    overflow_data: Overflow,
    /// Write escape characters to files as dots.
    #[arg(short = 'e', long)]
    replace_escape: bool,
    /// Write the process's number to this file.
    #[arg(long, value_name = "FILE", default_value = "/var/run/xenconsoled.pid")]
    pid_file: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Sources {
    None,
    Guest,
    Hv,
    All,
}

impl Sources {
    const fn guest(self) -> bool {
        matches!(self, Self::Guest | Self::All)
    }

    const fn hypervisor(self) -> bool {
        matches!(self, Self::Hv | Self::All)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Overflow {
    /// Drop the oldest.
    Discard,
    /// Let the guest wait.
    Keep,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenconsoled: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.interactive {
        if !daemon::is_detached() {
            return daemon::detach();
        }
        daemon::leave_session();
    }
    let _pid_file = PidFile::create(&arguments.pid_file)?;
    let settings = Settings {
        log_guests: arguments.log.guest(),
        log_hypervisor: arguments.log.hypervisor(),
        stamp_guests: arguments.timestamp.guest(),
        stamp_hypervisor: arguments.timestamp.hypervisor(),
        replace_escape: arguments.replace_escape,
        discard_overflow: arguments.overflow_data == Overflow::Discard,
        directory: arguments.log_dir.clone(),
        verbose: arguments.verbose,
    };
    let mut service = Service::new(settings, Log::open("xenconsoled"))?;
    daemon::announce_ready()?;
    // Only a directory that is there can be left to the daemon. Where it cannot be made, a line
    // for each guest will say that its log cannot.
    if arguments.log != Sources::None {
        let _made = std::fs::create_dir_all(&arguments.log_dir);
    }
    // Terminals are in `/dev`; a lost xenstored is reached through its socket, which is no file.
    let directories = [Some(&*arguments.log_dir), arguments.pid_file.parent()];
    let cage = Cage {
        writes: directories.into_iter().flatten().chain([Path::new("/dev")]).collect(),
        reads: Vec::new(),
        runs_programs: false,
    };
    cage.close(service.log());
    service.run()
}
