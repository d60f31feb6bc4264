//! The process that stays behind for each domain and does what its configuration says when it stops.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// How long a domain that ends again and again waits before it is made anew.
///
/// The first time it does not. A guest that crashes at once would keep Dom0 busy and fill its logs.
#[derive(Debug, Default)]
struct Pace {
    /// How often it ended soon after it had begun.
    soon: u32,
}

impl Pace {
    /// A domain that lived so long begins without a pause.
    const LONG: Duration = Duration::from_secs(60);
    /// The longest pause.
    const MOST: Duration = Duration::from_secs(60);

    /// Returns how long to wait after a life of `lived`.
    fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= Self::LONG {
            self.soon = 0;
        }
        let doublings = self.soon.checked_sub(1);
        self.soon = self.soon.saturating_add(1);
        let pause = |doublings| Duration::from_secs(1).saturating_mul(1_u32 << doublings);
        doublings.map_or(Duration::ZERO, |doublings| pause(doublings.min(6)).min(Self::MOST))
    }
}

/// What became of a domain that had stopped.
enum Settled {
    /// There is nothing left to watch.
    Over,
    /// It was made anew.
    Again(Built),
    /// It is to be made anew, but not yet.
    NotYet,
}

/// Watches a domain and those made anew from it, until there is nothing left to watch.
pub fn run(context: &Context, domain: DomId, uuid: Uuid) -> Outcome {
    let mut built = Built { domain, uuid };
    let mut pace = Pace::default();
    loop {
        let began = Instant::now();
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
        let pause = pace.pause(began.elapsed());
        let mut settled = settle(context, built, reason, pause)?;
        if matches!(settled, Settled::NotYet) {
            say(&format!("It ended soon, and not for the first time: waiting {pause:?}"));
            wait(context, built, pause)?;
            settled = settle(context, built, reason, Duration::ZERO)?;
        }
        match settled {
            Settled::Again(next) => built = next,
            Settled::Over | Settled::NotYet => return Ok(()),
        }
        bound_log();
    }
}

/// Waits for `pause`, or until somebody has destroyed the domain.
fn wait(context: &Context, built: Built, pause: Duration) -> Outcome {
    const STEP: Duration = Duration::from_millis(500);
    let until = Instant::now() + pause;
    while let Some(left) = until.checked_duration_since(Instant::now())
        && !left.is_zero()
        && domain::end(context.xen()?, built.domain, built.uuid)? != Some(End::Destroyed)
    {
        std::thread::sleep(left.min(STEP));
    }
    Ok(())
}

/// Does what the configuration says for `reason`.
///
/// Does nothing if that is to restart the domain and a `pause` comes first.
///
/// All of it happens under the lock: a command that destroys the domain comes before, and it stays
/// destroyed, or after, and destroys the one made anew.
fn settle(
    context: &Context,
    built: Built,
    reason: ShutdownReason,
    pause: Duration,
) -> Outcome<Settled> {
    let _alone = context.lock()?;
    // Somebody may have destroyed it since it was seen to shut down.
    if domain::end(context.xen()?, built.domain, built.uuid)? == Some(End::Destroyed) {
        say(&format!("Domain {} has been destroyed.", built.domain));
        return Ok(Settled::Over);
    }
    let Some(text) = context.files.read(built.domain, built.uuid, Item::Config) else {
        say("Its configuration is gone: leaving the domain as it is.");
        return Ok(Settled::Over);
    };
    let name = context.name(built.domain)?;
    let mut config = parse(&name, &text)?;
    config.name.clone_from(&name); // it may have been renamed since
    config.uuid = Some(built.uuid);
    let action = choose(config.on, reason);
    if restarts(action) && !pause.is_zero() {
        return Ok(Settled::NotYet);
    }
    let code = reason.code();
    say(&format!("Action for shutdown reason code {code} is {}", action.name()));
    let (xen, store) = (context.xen()?, context.store()?);
    let remove = || {
        say(&format!("Domain {} needs to be cleaned up: destroying the domain", built.domain));
        domain::destroy(xen, store, &context.files, built.domain)
    };
    match action {
        Action::Preserve => return Ok(Settled::Over),
        Action::Destroy | Action::CoredumpDestroy => {
            core_dump(action);
            remove()?;
            return Ok(Settled::Over);
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
    Ok(Settled::Again(next))
}

/// Says whether the domain is made anew.
const fn restarts(action: Action) -> bool {
    match action {
        Action::Restart | Action::CoredumpRestart | Action::SoftReset | Action::RenameRestart => {
            true
        }
        Action::Preserve | Action::Destroy | Action::CoredumpDestroy => false,
    }
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

/// Empties the log when it has grown large: a domain that is made anew for years must not fill the disk.
fn bound_log() {
    const MOST: i64 = 1 << 20;
    let log = std::io::stdout();
    let is_large = rustix::fs::fstat(&log).is_ok_and(|status| {
        rustix::fs::FileType::from_raw_mode(status.st_mode).is_file() && status.st_size > MOST
    });
    if is_large && rustix::fs::ftruncate(&log, 0).is_ok() {
        say("The log had grown large: what came before was removed.");
    }
}

/// A line in the log. The monitor goes on even where the log cannot be written.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_ends_at_once_waits_ever_longer_and_begins_afresh_after_a_long_life() {
        let mut pace = Pace::default();
        let mut seconds = |lived| pace.pause(Duration::from_secs(lived)).as_secs();
        let soon: Vec<u64> = (0..9).map(|_| seconds(0)).collect();
        assert_eq!(soon, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(59), 60);
        assert_eq!([seconds(60), seconds(3), seconds(3)], [0, 1, 2]);
    }

    #[test]
    fn only_what_makes_a_domain_anew_waits() {
        let waiting = [
            Action::Restart,
            Action::CoredumpRestart,
            Action::SoftReset,
            Action::RenameRestart,
            Action::Preserve,
            Action::Destroy,
            Action::CoredumpDestroy,
        ]
        .map(restarts);
        assert_eq!(waiting, [true, true, true, true, false, false, false]);
    }
}
