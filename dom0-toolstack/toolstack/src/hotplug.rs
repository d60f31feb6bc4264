//! Runs the programs that connect a backend to the host: contract as in Xen's `/etc/xen/scripts`.
//!
//! A script is told by its environment where the backend stands in xenstore, and answers there:
//! `hotplug-status` says `connected`, or `hotplug-error` says why not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use xenstore::client::{Client, Store};

use crate::devices::Device;
use crate::error::{Error, Result};

/// Where scripts named without a path are.
pub const SCRIPTS: &str = "/etc/xen/scripts";
/// How long a script may take.
const TIMEOUT: Duration = Duration::from_secs(40);
/// How often we look whether it has ended.
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
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(POLL),
            None => {
                // It may have ended since: then there is nothing to kill, and `wait` returns at once.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it did not end within {} s", TIMEOUT.as_secs())));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = store.read_optional(&format!("{backend}/hotplug-error"))?;
    Err(failed(said.filter(|said| !said.is_empty()).unwrap_or_else(|| status.to_string())))
}
