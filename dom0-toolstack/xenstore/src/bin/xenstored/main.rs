//! The xenstore daemon: sockets, rings and event channels around the pure server.
//!
//! Single-threaded. Each round of [`service::Service`] gives every connection that has something
//! to say one message, so that nobody keeps others waiting.

mod domains;
mod service;
mod sockets;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use xenstore::client::SOCKET_PATH;
use xenstore::daemon::{self, Log, PidFile};

use crate::service::Service;

/// Keeps the store through which the domains of this host find each other.
#[derive(Debug, Parser)]
#[command(name = "xenstored", version)]
struct Arguments {
    /// Write the process's number to this file.
    #[arg(short = 'F', long = "pid-file", value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Stay in the foreground and log to standard error.
    #[arg(short = 'N', long = "no-fork")]
    no_fork: bool,
    /// Serve the socket only: no rings, no hypervisor.
    #[arg(short = 'D', long = "no-domain-init")]
    no_domain_init: bool,
    /// Listen here.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    socket: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenstored: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.no_fork {
        if !daemon::is_detached() {
            return daemon::detach();
        }
        daemon::leave_session();
    }
    let _pid_file = arguments.pid_file.as_deref().map(PidFile::create).transpose()?;
    let mut service =
        Service::new(&arguments.socket, !arguments.no_domain_init, Log::open("xenstored"))?;
    daemon::announce_ready()?;
    service.run()
}
