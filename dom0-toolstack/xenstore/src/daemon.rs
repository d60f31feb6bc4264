//! What every daemon of the toolstack does: go to the background, own its pid file, log.
//!
//! There is no fork in safe code, so the foreground process starts itself again and waits until
//! the new one says on its standard output that it serves.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
pub const LOG_DIRECTORY: &str = "/var/log/xen";

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
    /// Writes the process's number, as soon as the daemon that did so before has let go of all it had.
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
        let lock = || rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        if !soon(KILLED_WITHIN, || lock().is_ok()) {
            bail!("already running: pid file {} is locked", path.display());
        }
        // A killed process gives its files back one by one: this one before the devices that we need.
        if let (Some(earlier), Some(name)) = (read_number(&file), name_if_alive("self")) {
            wait_for_end(earlier, &name);
        }
        file.set_len(0)?;
        (&file).rewind()?;
        writeln!(&file, "{}", std::process::id())
            .with_context(|| format!("cannot write pid file {}", path.display()))?;
        Ok(Self { path: path.to_owned(), _locked: file })
    }
}

/// How long a daemon that was just killed may hold the file.
const KILLED_WITHIN: Duration = Duration::from_millis(500);
/// How long it may take to end after that.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Waits until `done`, at most `limit`; says whether it came true.
fn soon(limit: Duration, done: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Waits until the process `number` has ended, if it is called `name`: others have nothing of ours.
fn wait_for_end(number: u32, name: &str) {
    let number = number.to_string();
    soon(ENDS_WITHIN, || name_if_alive(&number).as_deref() != Some(name));
}

/// The number in a pid file, unless it is this process's.
fn read_number(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|number| *number != std::process::id())
}

/// What the process `number` is called (`proc_pid_stat(5)`), unless it has come to its end.
fn name_if_alive(number: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(") ")?;
    let (_, name) = before.split_once('(')?;
    let ended = after.starts_with(['Z', 'X']);
    (!ended).then(|| name.to_owned())
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
    use std::process::Child;

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
    fn a_daemon_that_ends_is_waited_for_and_no_other() {
        let sleep = |time: &str| Command::new("sleep").arg(time).spawn().unwrap();
        let name = |process: &Child| name_if_alive(&process.id().to_string());
        let mut earlier = sleep("0.2");
        wait_for_end(earlier.id(), &name(&earlier).unwrap());
        assert_eq!(name(&earlier), None, "it ended, and waits for its parent");
        let mut other = sleep("60");
        wait_for_end(other.id(), "xenstored");
        assert!(name(&other).is_some());
        other.kill().unwrap();
        assert!(earlier.wait().unwrap().success() && !other.wait().unwrap().success());
    }

    #[test]
    fn a_file_that_is_given_back_soon_is_waited_for() {
        let (directory, lock) = (tempfile::tempdir().unwrap(), std::sync::Mutex::new(()));
        let path = directory.path().join("x.pid");
        std::fs::write(&path, "4294967295\n").unwrap();
        let text = File::open(&path).unwrap();
        assert_eq!(read_number(&text), Some(u32::MAX));
        let held = lock.lock().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| soon(Duration::from_secs(60), || lock.try_lock().is_ok()));
            drop(held);
            assert!(waiter.join().unwrap());
        });
        let _held = lock.lock().unwrap();
        assert!(!soon(Duration::from_millis(20), || lock.try_lock().is_ok()));
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
