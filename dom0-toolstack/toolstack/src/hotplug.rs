//! Runs the programs that connect a backend to the host: contract as in Xen's `/etc/xen/scripts`.
//!
//! A script is told by its environment where the backend stands in xenstore, and answers there:
//! `hotplug-status` says `connected`, or `hotplug-error` says why not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use xenstore::client::{Client, Store};

use crate::devices::Device;
use crate::error::{Error, Result};

/// Where scripts named without a path are.
pub const SCRIPTS: &str = "/etc/xen/scripts";
/// How long a script may take.
const TIMEOUT: Duration = Duration::from_secs(40);
/// How often we look whether it has ended, where the kernel does not tell.
const POLL: Duration = Duration::from_millis(5);

/// The path of a script given by name or path.
pub fn script_path(script: &str) -> PathBuf {
    if script.contains('/') { script.into() } else { Path::new(SCRIPTS).join(script) }
}

/// Runs `script` for `device` and waits for its end.
pub fn run(
    store: &Client,
    script: &Path,
    arguments: &[&str],
    device: &Device,
    environment: &[(&str, String)],
) -> Result<()> {
    let backend = device.backend_path();
    let bus_path = backend.splitn(5, '/').nth(4).unwrap_or(&backend).to_owned();
    let failed = |why: String| Error::Hotplug {
        script: script.display().to_string(),
        device: device.to_string(),
        why,
    };
    let mut child = Command::new(script)
        .args(arguments)
        .env("script", script)
        .env("XENBUS_TYPE", device.kind.name())
        .env("XENBUS_PATH", bus_path)
        .env("XENBUS_BASE_PATH", "backend")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("it cannot be run: {error}")))?;
    let Some(status) = wait(&mut child, TIMEOUT).map_err(|error| failed(error.to_string()))? else {
        // It may have ended since: then there is nothing to kill, and `wait` returns at once.
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!("it did not end within {} s", TIMEOUT.as_secs())));
    };
    if status.success() {
        return Ok(());
    }
    let said = store.read_optional(&format!("{backend}/hotplug-error"))?;
    Err(failed(said.filter(|said| !said.is_empty()).unwrap_or_else(|| status.to_string())))
}

/// Waits for a process to end; nothing when the time is up.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    let watched = Pid::from_child(child);
    let process = pidfd_open(watched, PidfdFlags::empty()).ok();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        match &process {
            Some(process) => {
                let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
                let mut fds = [PollFd::new(process, PollFlags::IN)];
                match poll(&mut fds, Some(&left)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Kernels before 5.3 tell nobody but the parent, and not by a descriptor.
            None => std::thread::sleep(POLL.min(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_waited_for_no_longer_than_it_takes() {
        let mut quick = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let status = wait(&mut quick, TIMEOUT).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        let mut slow = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(&mut slow, Duration::from_millis(20)).unwrap(), None);
        slow.kill().unwrap();
        assert!(!wait(&mut slow, TIMEOUT).unwrap().unwrap().success());
    }
}
