//! The xenstore daemon: sockets, rings and event channels around the pure server.
//!
//! Single-threaded. Each round of [`service::Service`] gives every connection that has something
//! to say one message, so that nobody keeps others waiting.

mod domains;
mod handover;
mod service;
mod sockets;
mod state_file;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rustix::process::Resource;
use xenstore::cage::Cage;
use xenstore::client::SOCKET_PATH;
use xenstore::daemon::{self, Log, PidFile};

use crate::service::{Service, Settings};

/// What `--version` prints of any xenstored that can go on with this one's state.
const VERSION_LINE: &str = concat!("xenstored ", env!("CARGO_PKG_VERSION"));

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
    /// Keep in this file what a daemon after this one needs to go on (default: `state` beside the socket).
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Keep no such file.
    #[arg(long, conflicts_with = "state")]
    no_state: bool,
    /// Start with an empty store, whatever an earlier daemon left.
    #[arg(long)]
    fresh: bool,
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
    let adopted = handover::received()?;
    allow_many_files();
    let _pid_file = arguments.pid_file.as_deref().map(PidFile::create).transpose()?;
    let state = arguments.state.clone().unwrap_or_else(|| arguments.socket.with_file_name("state"));
    let settings = Settings {
        socket: arguments.socket.clone(),
        with_domains: !arguments.no_domain_init,
        state: (!arguments.no_state).then_some(state),
        // Who hands over has written the state a moment ago.
        fresh: arguments.fresh && adopted.is_none(),
    };
    let mut service = Service::new(&settings, Log::open("xenstored"), adopted)?;
    daemon::announce_ready()?;
    cage(&settings, arguments.pid_file.as_deref()).close(service.log());
    service.run()
}

/// Returns what the daemon needs from now on, and the one that a live update begins in its place:
/// that one opens the devices and the pid file once more.
fn cage<'settings>(
    settings: &'settings Settings,
    pid_file: Option<&'settings Path>,
) -> Cage<'settings> {
    let files = [Some(&*settings.socket), settings.state.as_deref(), pid_file];
    let directories = files.into_iter().flatten().filter_map(Path::parent);
    let system = ["/dev", "/proc", daemon::LOG_DIRECTORY].map(Path::new);
    Cage {
        writes: directories.chain(system).collect(),
        reads: vec![Path::new("/")],
        runs_programs: true,
    }
}

/// Each program that is connected takes a descriptor.
fn allow_many_files() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the usual limit a few hundred are served all the same.
    let _raised = rustix::process::setrlimit(Resource::Nofile, limit);
}
