//! `/dev/xen/evtchn`: event channels for a program.
//!
//! A bound port that fires is masked until [`EventChannels::unmask`]: take it with [`EventChannels::pending`],
//! handle it, unmask it. The file descriptor is readable when a port is pending, so an event loop can wait on it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use hypercall_abi::ids::{VIRQ_CON_RING, VIRQ_CONSOLE, VIRQ_DOM_EXC};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::ids::{DomId, Port};
use crate::ioctl;
use crate::privcmd::errno_of;

const EVTCHN: &str = "/dev/xen/evtchn";

/// Interrupts that the hypervisor raises itself (`public/xen.h`, VIRQ_*).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Virq {
    /// Input on the hypervisor's console.
    Console,
    /// A domain shut down or died.
    DomainException,
    /// The hypervisor's log has more.
    ConsoleRing,
}

impl Virq {
    const fn number(self) -> u32 {
        match self {
            Self::Console => VIRQ_CONSOLE,
            Self::DomainException => VIRQ_DOM_EXC,
            Self::ConsoleRing => VIRQ_CON_RING,
        }
    }
}

/// An open `/dev/xen/evtchn`. Its ports are closed with it.
#[derive(Debug)]
pub struct EventChannels {
    device: File,
}

impl EventChannels {
    /// Opens the device, non-blocking.
    pub fn open() -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(EVTCHN)
            .map_err(|error| Error::Open { path: EVTCHN, errno: errno_of(&error) })?;
        Ok(Self { device })
    }

    /// Binds a new port to `virq`.
    pub fn bind_virq(&self, virq: Virq) -> Result<Port> {
        self.bind(0, &mut [virq.number()], "bind a virtual interrupt")
    }

    /// Binds a new port to `remote_port` of `remote`, which that domain has allocated for us.
    pub fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port> {
        let mut request = [u32::from(remote.0), remote_port.0];
        self.bind(1, &mut request, "bind an event channel to another domain")
    }

    /// Allocates a new port that `remote` may bind to.
    pub fn bind_unbound(&self, remote: DomId) -> Result<Port> {
        self.bind(2, &mut [u32::from(remote.0)], "allocate an event channel")
    }

    /// Closes `port`.
    pub fn unbind(&self, port: Port) -> Result<()> {
        self.issue(3, &mut [port.0], "close an event channel").map(drop)
    }

    /// Tells the other end of `port`.
    pub fn notify(&self, port: Port) -> Result<()> {
        self.issue(4, &mut [port.0], "notify through an event channel").map(drop)
    }

    /// Takes the next pending port, which stays masked; `None` when nothing is pending.
    pub fn pending(&self) -> Result<Option<Port>> {
        let mut port = [0; 4];
        match (&self.device).read_exact(&mut port) {
            Ok(()) => Ok(Some(Port(u32::from_ne_bytes(port)))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                Err(Error::Device { operation: "read pending events", errno: errno_of(&error) })
            }
        }
    }

    /// Lets `port` fire again.
    pub fn unmask(&self, port: Port) -> Result<()> {
        (&self.device).write_all(&port.0.to_ne_bytes()).map_err(|error| Error::Device {
            operation: "unmask an event channel",
            errno: errno_of(&error),
        })
    }

    fn bind<const N: usize>(
        &self,
        number: u8,
        request: &mut [u32; N],
        operation: &'static str,
    ) -> Result<Port> {
        let answer = self.issue(number, request, operation)?;
        let port = u32::try_from(answer)
            .map_err(|_negative| Error::Device { operation, errno: Errno::OVERFLOW })?;
        Ok(Port(port))
    }

    fn issue<const N: usize>(
        &self,
        number: u8,
        request: &mut [u32; N],
        operation: &'static str,
    ) -> Result<i32> {
        let opcode = ioctl::number::<[u32; N]>(b'E', number);
        // SAFETY: each structure of linux/xen/evtchn.h is one or two u32 and holds no address; the kernel
        // refuses an opcode whose size does not match.
        let answer = unsafe { ioctl::issue(&self.device, opcode, request) };
        answer.map_err(|errno| Error::Device { operation, errno })
    }
}

impl AsFd for EventChannels {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl AsRawFd for EventChannels {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}
