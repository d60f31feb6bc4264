//! What every daemon of the toolstack does: go to the background, own its pid file, log.
//!
//! There is no fork in safe code, so the foreground process starts itself again and waits until
//! the new one says on its standard output that it serves.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;

/// Has `poll` look at the event channel device anew before it waits.
///
/// The device tells of an event only where its queue was empty, which it looks at before it puts the
/// event in: one that comes while the queue is being emptied makes no edge, and neither does any
/// after it. A daemon that waits for edges only would be deaf from then on.
///
/// # Errors
///
/// What the kernel says.
pub fn look_again(
    poll: &mio::Poll,
    events: &impl std::os::fd::AsRawFd,
    token: mio::Token,
) -> io::Result<()> {
    let descriptor = events.as_raw_fd();
    let mut source = mio::unix::SourceFd(&descriptor);
    poll.registry().reregister(&mut source, token, mio::Interest::READABLE)
}

/// Set in the environment of the process that stays.
const DETACHED: &str = "DOMUS_DETACHED";
const READY: &[u8] = b"ready\n";

/// Where log lines go.
#[derive(Debug)]
pub struct Log {
    name: &'static str,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Syslog(UnixDatagram),
    File(File),
    StandardError,
}

/// Where a daemon in the background logs when the system has no log.
const LOG_DIRECTORY: &str = "/var/log/xen";

impl Log {
    /// Opens the system's log for a daemon in the background, or a file where there is no such
    /// log; standard error otherwise.
    pub fn open(name: &'static str) -> Self {
        let target = if !is_detached() {
            Target::StandardError
        } else if let Ok(socket) = connect_syslog() {
            Target::Syslog(socket)
        } else {
            open_file(name).map_or(Target::StandardError, Target::File)
        };
        Self { name, target }
    }

    /// Writes a line.
    pub fn line(&self, text: impl std::fmt::Display) {
        // There is nowhere left to say that a line could not be written.
        let _written = match &self.target {
            // `<30>`: facility daemon, severity informational (RFC 3164).
            Target::Syslog(socket) => {
                let line = format!("<30>{}[{}]: {text}", self.name, std::process::id());
                socket.send(line.as_bytes()).map(drop)
            }
            Target::File(file) => {
                let mut file = file;
                file.write_all(format!("{text}\n").as_bytes())
            }
            Target::StandardError => writeln!(io::stderr(), "{}: {text}", self.name),
        };
    }
}

fn open_file(name: &str) -> io::Result<File> {
    std::fs::create_dir_all(LOG_DIRECTORY)?;
    let path = Path::new(LOG_DIRECTORY).join(format!("{name}.log"));
    OpenOptions::new().create(true).append(true).open(path)
}

fn connect_syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect("/dev/log")?;
    Ok(socket)
}

/// Returns whether this process is the one in the background.
pub fn is_detached() -> bool {
    std::env::var_os(DETACHED).is_some()
}

/// Starts this program again in the background and waits until it serves.
///
/// # Errors
///
/// The background process ended before it served; it has said why on standard error.
pub fn detach() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find my own program file")?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(DETACHED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start in the background")?;
    let mut words = Vec::new();
    let mut output = child.stdout.take().context("no pipe to the background process")?;
    let mut byte = [0];
    while words != READY && output.read(&mut byte)? == 1 {
        words.extend_from_slice(&byte);
    }
    if words != READY {
        bail!("the background process gave up");
    }
    Ok(())
}

/// Leaves the caller's session; for the background process before it starts its work.
pub fn leave_session() {
    // A process that is a leader already has nothing to leave.
    let _session = rustix::process::setsid();
    let _directory = std::env::set_current_dir("/");
}

/// Says that the daemon serves: to who started it, and to a service manager.
///
/// # Errors
///
/// `/dev/null` cannot be opened.
pub fn announce_ready() -> anyhow::Result<()> {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        // A manager that does not listen is no reason to stop.
        let _told = notify(&path);
    }
    if is_detached() {
        io::stdout().write_all(READY).and_then(|()| io::stdout().flush())?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}

fn notify(path: &std::ffi::OsStr) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// A pid file, locked while the daemon runs and removed when it ends.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Writes the process's number.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or another daemon holds it.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open pid file {}", path.display()))?;
        if rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("already running: pid file {} is locked", path.display());
        }
        file.set_len(0)?;
        writeln!(&file, "{}", std::process::id())
            .with_context(|| format!("cannot write pid file {}", path.display()))?;
        Ok(Self { path: path.to_owned(), _locked: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _removed = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_holds_the_number_and_goes_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pid");
        std::fs::write(&path, "a number that is longer than any").unwrap();
        let file = PidFile::create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_service_manager_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str()).unwrap();
        let mut words = [0; 16];
        let count = manager.recv(&mut words).unwrap();
        assert_eq!(&words[..count], b"READY=1");
    }
}
