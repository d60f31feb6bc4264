//! Shared folders: Xen's own daemon, `xen-9pfsd`, serves them; the first folder starts it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use xen_sys::DomId;
use xenstore::client::{Client, Store};

use super::{Device, Kind};
use crate::config::p9::P9;
use crate::error::{Error, Result};
use crate::store::{self, domain_path};

/// The daemon's name.
const DAEMON: &str = "xen-9pfsd";
/// Where distributions keep Xen's daemons; `/usr/lib/xen-VERSION/bin` is Debian's place.
const PLACES: [&str; 3] = ["/usr/lib/xen/bin", "/usr/libexec/xen/bin", "/usr/local/lib/xen/bin"];
/// How long it may take to start.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked in that time whether it still runs.
const LOOKS: u32 = 20;

/// Checks, before anything is made, that somebody can serve a folder of `backend`'s.
pub fn check(store: &impl Store, backend: DomId) -> Result<()> {
    if backend != DomId::DOM0 || is_running(store)? {
        return Ok(());
    }
    find().map(drop).ok_or(Error::NoShareDaemon)
}

/// Gives `domain` a folder.
pub fn add(store: &Client, domain: DomId, folder: &P9, devid: u32, backend: DomId) -> Result<()> {
    if backend == DomId::DOM0 && !is_running(store)? {
        start(store)?;
    }
    let device = Device { domain, kind: Kind::P9, devid, backend };
    let back = [
        ("path", folder.path.clone()),
        ("security_model", "none".into()),
        ("max-space", folder.max_space.to_string()),
        ("max-files", folder.max_files.to_string()),
        ("max-open-files", folder.max_open_files.to_string()),
        ("auto-delete", if folder.auto_delete { "1" } else { "0" }.into()),
    ];
    device.publish(store, &[("tag", folder.tag.clone())], &back)?;
    if backend != DomId::DOM0 {
        return device.wait_taken(store);
    }
    let taken = served(
        |time| device.taken_within(store, time),
        || if is_running(store)? { Ok(()) } else { start(store) },
    )?;
    if taken { Ok(()) } else { Err(device.not_taken()) }
}

/// Waits until `taken`, seeing to it now and then by `revive` that the daemon runs; says whether it was taken in time.
///
/// One that has been told to end, or killed, looks alive for a while. The next finds what it left undone.
fn served(
    mut taken: impl FnMut(Duration) -> Result<bool>,
    mut revive: impl FnMut() -> Result<()>,
) -> Result<bool> {
    for _ in 0..LOOKS {
        if taken(TIMEOUT / LOOKS)? {
            return Ok(true);
        }
        revive()?;
    }
    Ok(false)
}

/// The daemon's nodes in Dom0.
fn nodes() -> String {
    format!("{}/libxl/xen-9pfs", domain_path(DomId::DOM0))
}

/// Whether the daemon says that it runs. If it was killed, what it said is removed: nobody else does that.
fn is_running(store: &impl Store) -> Result<bool> {
    let nodes = nodes();
    if store.read_optional(&format!("{nodes}/state"))?.is_none() {
        return Ok(false);
    }
    let Some(pid) = store.read_optional(&format!("{nodes}/pid"))? else {
        // Not started by a toolstack.
        return Ok(true);
    };
    let lives = is_daemon(Path::new("/proc"), &pid);
    if !lives {
        store.rm(&nodes)?;
    }
    Ok(lives)
}

/// Whether `pid` is a process of the daemon's, and not of whoever has the number since.
fn is_daemon(processes: &Path, pid: &str) -> bool {
    let name = fs::read_to_string(processes.join(pid).join("comm"));
    name.is_ok_and(|name| name.trim_end() == DAEMON)
}

fn start(store: &Client) -> Result<()> {
    let program = find().ok_or(Error::NoShareDaemon)?;
    let child = Command::new(&program)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| Error::file("run", &program, source))?;
    let nodes = nodes();
    store.write(&format!("{nodes}/pid"), &child.id().to_string())?;
    let state = format!("{nodes}/state");
    let running = store::wait_for(store, &state, TIMEOUT, || {
        Ok(store.read_optional(&state)?.filter(|state| state == "running"))
    })?;
    if running.is_some() {
        return Ok(());
    }
    Err(Error::ShareDaemonSilent { program, seconds: TIMEOUT.as_secs() })
}

/// Finds the program.
fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("xen-")))
        .map(|path| path.join("bin"))
        .collect();
    versions.sort();
    let places = env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    let places = places.chain(versions.into_iter().rev());
    places.map(|place| place.join(DAEMON)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_ends_while_it_is_waited_for_is_started_anew() {
        let mut looks = [false, false, true].into_iter();
        let mut revived = 0;
        let served = served(
            |_| Ok(looks.next().unwrap()),
            || {
                revived += 1;
                Ok(())
            },
        );
        assert_eq!((served.unwrap(), revived), (true, 2));
        assert!(!super::served(|_| Ok(false), || Ok(())).unwrap());
        let error = super::served(|_| Ok(false), || Err(Error::NoShareDaemon)).unwrap_err();
        assert!(matches!(error, Error::NoShareDaemon));
    }

    #[test]
    fn a_number_that_is_another_process_s_by_now_is_not_the_daemon() {
        let processes = tempfile::tempdir().unwrap();
        for (pid, name) in [("7", "xen-9pfsd\n"), ("8", "sleep\n")] {
            fs::create_dir(processes.path().join(pid)).unwrap();
            fs::write(processes.path().join(pid).join("comm"), name).unwrap();
        }
        assert!(is_daemon(processes.path(), "7"));
        assert!(!is_daemon(processes.path(), "8"));
        assert!(!is_daemon(processes.path(), "9"));
    }
}
