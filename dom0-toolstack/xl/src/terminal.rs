//! Joins the user's terminal to a guest's console.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// Typed, this ends the session: Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Copies between the terminal and the console at `tty` until the escape is typed or the console ends.
pub fn attach(tty: &str) -> std::io::Result<()> {
    let no_control = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or(0);
    let console = OpenOptions::new().read(true).write(true).custom_flags(no_control).open(tty)?;
    if isatty(&console) {
        let mut settings = tcgetattr(&console)?;
        settings.make_raw();
        tcsetattr(&console, OptionalActions::Now, &settings)?;
    }
    let stdin = std::io::stdin();
    let _restored = Raw::enter(&stdin)?;
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&console, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            answer => answer?,
        };
        let [typed, printed] = fds.map(|fd| !fd.revents().is_empty());
        if printed {
            match (&console).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let mut stdout = std::io::stdout().lock();
                    stdout.write_all(buffer.get(..count).unwrap_or_default())?;
                    stdout.flush()?;
                }
                // The other side has closed: the domain is gone.
                Err(error) if error.raw_os_error() == Some(5) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if typed {
            let count = rustix::io::read(&stdin, &mut buffer)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == ESCAPE);
            (&console).write_all(bytes.get(..end.unwrap_or(count)).unwrap_or_default())?;
            if count == 0 || end.is_some() {
                return Ok(());
            }
        }
    }
}

/// The user's terminal without line editing, as long as this lives.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter(terminal: impl AsFd) -> std::io::Result<Self> {
        if !isatty(&terminal) {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that went away needs no settings.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
