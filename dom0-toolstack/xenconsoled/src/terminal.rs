//! A pseudo-terminal: what `xl console` opens.
//!
//! The slave end is held open here too: the master would otherwise fail whenever nobody reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// A terminal for one console.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: File,
    _slave: File,
    name: PathBuf,
}

impl Terminal {
    /// Makes a terminal that passes bytes as they are.
    pub(crate) fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name =
            PathBuf::from(std::ffi::OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        let slave = open_slave(&name)?;
        let mut settings = tcgetattr(&slave)?;
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master: File::from(master), _slave: slave.into(), name })
    }

    /// Returns the name others open it by.
    pub(crate) fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// Returns the descriptor to wait for.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.master.as_fd().as_raw_fd()
    }

    /// Takes what was typed; fails with `WouldBlock` where nothing was.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.master.read(bytes)
    }

    /// Shows as many of `bytes` as there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.master.write(bytes)
    }
}

fn open_slave(name: &PathBuf) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or_default();
    Ok(OpenOptions::new().read(true).write(true).custom_flags(flags).open(name)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_and_typed_passes_unchanged() {
        let mut terminal = Terminal::open().unwrap();
        let mut user = OpenOptions::new().read(true).write(true).open(terminal.name()).unwrap();
        terminal.write(b"login:\r\n\x03").unwrap();
        let mut bytes = [0; 16];
        let count = user.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"login:\r\n\x03");
        user.write_all(b"root\n\x04").unwrap();
        let count = terminal.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"root\n\x04");
        drop(user);
        assert_eq!(terminal.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
