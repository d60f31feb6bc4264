//! The process that stays behind for each domain and does what its configuration says when it stops.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use toolstack::Error as ToolstackError;
use toolstack::build::{self, Built};
use toolstack::config::domain::{Action, Actions, DomainConfig};
use toolstack::config::{Config, Error};
use toolstack::domain::{self, End};
use toolstack::userdata::Item;
use uuid::Uuid;
use xen_sys::DomId;
use xen_sys::domctl::ShutdownReason;

use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

/// The hidden command that this process is.
pub const COMMAND: &str = "monitor-domain";
const LOGS: &str = "/var/log/xen";

/// Starts a monitor for a domain in the background, with a log of its own.
pub fn spawn(built: Built, name: &str) -> Outcome {
    let failed = |what: &str, error: std::io::Error| {
        Failure::Failed(FAILURE, format!("xl: cannot {what}: {error}"))
    };
    let log = open_log(name).map_err(|error| failed("open the domain's log", error))?;
    let errors = log.try_clone().map_err(|error| failed("open the domain's log", error))?;
    let program =
        std::env::current_exe().map_err(|error| failed("find the program itself", error))?;
    Command::new(program)
        .args([COMMAND, &built.domain.to_string(), &built.uuid.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map(drop)
        .map_err(|error| failed("start the domain's monitor", error))
}

/// The log of a domain's monitor; logs of earlier domains of that name are kept, numbered.
fn open_log(name: &str) -> std::io::Result<File> {
    /// How many earlier logs are kept.
    const KEPT: u32 = 9;
    fs::create_dir_all(LOGS)?;
    let path = |number: u32| -> PathBuf {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        Path::new(LOGS).join(format!("xl-{name}.log{suffix}"))
    };
    for number in (0..KEPT).rev() {
        if path(number).exists() {
            fs::rename(path(number), path(number + 1))?;
        }
    }
    OpenOptions::new().create(true).append(true).open(path(0))
}

/// Watches a domain and those made anew from it, until there is nothing left to watch.
pub fn run(context: &Context, domain: DomId, uuid: Uuid) -> Outcome {
    let mut built = Built { domain, uuid };
    loop {
        let name = context.name(built.domain)?;
        let pid = std::process::id();
        say(&format!("Waiting for domain {name} (domid {}) to die [pid {pid}]", built.domain));
        let (xen, store) = (context.xen()?, context.store()?);
        let info = match domain::wait_for_end(xen, store, built.domain, built.uuid)? {
            End::Destroyed => {
                say(&format!("Domain {} has been destroyed.", built.domain));
                return Ok(());
            }
            End::ShutDown(info) => info,
        };
        let reason = info.shutdown.unwrap_or(ShutdownReason::Poweroff);
        let code = reason.code();
        say(&format!("Domain {} has shut down, reason code {code} {code:#x}", built.domain));
        match settle(context, built, reason)? {
            Some(next) => built = next,
            None => return Ok(()),
        }
    }
}

/// Does what the configuration says for `reason`; returns the domain that was made anew, if one was.
///
/// All of it happens under the lock: a command that destroys the domain comes before, and it stays
/// destroyed, or after, and destroys the one made anew.
fn settle(context: &Context, built: Built, reason: ShutdownReason) -> Outcome<Option<Built>> {
    let _alone = context.lock()?;
    // Somebody may have destroyed it since it was seen to shut down.
    if domain::end(context.xen()?, built.domain, built.uuid)? == Some(End::Destroyed) {
        say(&format!("Domain {} has been destroyed.", built.domain));
        return Ok(None);
    }
    let Some(text) = context.files.read(built.domain, built.uuid, Item::Config) else {
        say("Its configuration is gone: leaving the domain as it is.");
        return Ok(None);
    };
    let name = context.name(built.domain)?;
    let mut config = parse(&name, &text)?;
    config.name.clone_from(&name); // it may have been renamed since
    config.uuid = Some(built.uuid);
    let action = choose(config.on, reason);
    let code = reason.code();
    say(&format!("Action for shutdown reason code {code} is {}", action.name()));
    let (xen, store) = (context.xen()?, context.store()?);
    let remove = || {
        say(&format!("Domain {} needs to be cleaned up: destroying the domain", built.domain));
        domain::destroy(xen, store, &context.files, built.domain)
    };
    match action {
        Action::Preserve => return Ok(None),
        Action::Destroy | Action::CoredumpDestroy => {
            core_dump(action);
            remove()?;
            return Ok(None);
        }
        Action::Restart | Action::CoredumpRestart | Action::SoftReset => {
            core_dump(action);
            remove()?;
        }
        Action::RenameRestart => {
            let uuid = Uuid::new_v4();
            let kept = format!("{name}-{}", seconds_now());
            domain::preserve(
                xen,
                store,
                &context.files,
                &context.info(built.domain)?,
                &kept,
                uuid,
            )?;
            say(&format!("Domain {} is kept as {kept}", built.domain));
        }
    }
    say("Done. Rebooting now");
    let next = build::create(xen, store, &context.files, &config, &text)?;
    build::unpause(xen, next.domain).inspect_err(|_| {
        // Why it cannot run is what the log must say.
        let _ = domain::take_back(xen, store, &context.files, next.domain, next.uuid);
    })?;
    build::finish(&context.files, next)?;
    Ok(Some(next))
}

fn core_dump(action: Action) {
    if matches!(action, Action::CoredumpDestroy | Action::CoredumpRestart) {
        say("Dumping a domain's memory is not supported yet: going on without");
    }
    if action == Action::SoftReset {
        say("A soft reset is not supported yet: restarting the domain");
    }
}

/// What is to be done for `reason`.
fn choose(on: Actions, reason: ShutdownReason) -> Action {
    match reason {
        ShutdownReason::Poweroff => on.poweroff,
        ShutdownReason::Reboot => on.reboot,
        ShutdownReason::Crash => on.crash,
        ShutdownReason::Watchdog => on.watchdog,
        ShutdownReason::SoftReset => on.soft_reset,
        // Whoever asked for these waits for the domain.
        ShutdownReason::Suspend => Action::Preserve,
        ShutdownReason::Other(_) => on.crash,
    }
}

fn parse(name: &str, text: &str) -> Outcome<DomainConfig> {
    let config =
        Config::parse(name, text, &[]).map_err(Error::from).map_err(ToolstackError::from)?;
    let parsed = DomainConfig::from_config(&config).map_err(ToolstackError::from)?;
    Ok(parsed.0)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A line in the log. The monitor goes on even where the log cannot be written.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
