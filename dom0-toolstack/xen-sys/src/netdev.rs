//! Network interfaces of the host (`netdevice(7)`, `linux/if_bridge.h`): what joins a backend's side to a bridge.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::error::{Error, Result};
use crate::privcmd::errno_of;

const SIOCGIFFLAGS: libc::Ioctl = 0x8913;
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
const SIOCSIFMTU: libc::Ioctl = 0x8922;
const SIOCSIFNAME: libc::Ioctl = 0x8923;
const SIOCSIFHWADDR: libc::Ioctl = 0x8924;
const SIOCGIFINDEX: libc::Ioctl = 0x8933;
const SIOCBRADDIF: libc::Ioctl = 0x89a2;
const SIOCBRDELIF: libc::Ioctl = 0x89a3;
/// The interface is up.
const IFF_UP: u16 = 1;
/// An Ethernet address follows.
const ARPHRD_ETHER: u16 = 1;
/// Room for a name, its closing zero included.
const NAME_ROOM: usize = 16;

/// `struct ifreq`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    name: [u8; NAME_ROOM],
    data: [u8; 24],
}

/// The kernel's interfaces, reached through a socket.
#[derive(Debug)]
pub struct Interfaces {
    socket: File,
}

impl Interfaces {
    /// Opens the way to them.
    pub fn open() -> Result<Self> {
        let opened = socket(AddressFamily::INET, SocketType::DGRAM, None);
        let failed = |errno| Error::Device { operation: "open a socket", errno };
        let socket: OwnedFd = opened.map_err(failed)?;
        Ok(Self { socket: socket.into() })
    }

    /// Turns an interface on or off.
    pub fn set_up(&self, name: &str, up: bool) -> Result<()> {
        let mut request = Request::of(name)?;
        self.issue("read an interface's flags", SIOCGIFFLAGS, &mut request)?;
        let [low, high, ..] = request.data;
        let flags = u16::from_ne_bytes([low, high]);
        let flags = if up { flags | IFF_UP } else { flags & !IFF_UP };
        let mut request = Request::of(name)?;
        request.put(&flags.to_ne_bytes());
        self.issue("turn an interface on or off", SIOCSIFFLAGS, &mut request)
    }

    /// Gives an interface another Ethernet address.
    pub fn set_address(&self, name: &str, address: [u8; 6]) -> Result<()> {
        let mut request = Request::of(name)?;
        let [a, b] = ARPHRD_ETHER.to_ne_bytes();
        let [c, d, e, f, g, h] = address;
        request.put(&[a, b, c, d, e, f, g, h]);
        self.issue("set an interface's address", SIOCSIFHWADDR, &mut request)
    }

    /// Sets the largest packet of an interface.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let mut request = Request::of(name)?;
        request.put(&mtu.to_ne_bytes());
        self.issue("set an interface's MTU", SIOCSIFMTU, &mut request)
    }

    /// Gives an interface, which must be off, another name.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        let mut request = Request::of(name)?;
        let new = Request::of(new)?.name;
        request.put(&new);
        self.issue("rename an interface", SIOCSIFNAME, &mut request)
    }

    /// Adds an interface to a bridge.
    pub fn join(&self, bridge: &str, name: &str) -> Result<()> {
        self.membership("add an interface to a bridge", SIOCBRADDIF, bridge, name)
    }

    /// Takes an interface out of a bridge.
    pub fn leave(&self, bridge: &str, name: &str) -> Result<()> {
        self.membership("take an interface out of a bridge", SIOCBRDELIF, bridge, name)
    }

    fn membership(
        &self,
        operation: &'static str,
        code: libc::Ioctl,
        bridge: &str,
        name: &str,
    ) -> Result<()> {
        let mut request = Request::of(name)?;
        self.issue("find an interface", SIOCGIFINDEX, &mut request)?;
        let [a, b, c, d, ..] = request.data;
        let mut request = Request::of(bridge)?;
        request.put(&[a, b, c, d]);
        self.issue(operation, code, &mut request)
    }

    fn issue(
        &self,
        operation: &'static str,
        code: libc::Ioctl,
        request: &mut Request,
    ) -> Result<()> {
        let place: *mut Request = &raw mut *request;
        // SAFETY: each of the codes above reads and writes one `struct ifreq`.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), code, place) };
        if answer == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        Err(Error::Device { operation, errno: errno_of(&error) })
    }
}

impl Request {
    /// An empty request about the interface of that name.
    fn of(name: &str) -> Result<Self> {
        let mut request = Self { name: [0; NAME_ROOM], data: [0; 24] };
        if name.is_empty() || name.len() >= NAME_ROOM || name.contains(['/', '\0']) {
            return Err(Error::Device { operation: "name an interface", errno: Errno::INVAL });
        }
        for (to, from) in request.name.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Ok(request)
    }

    fn put(&mut self, bytes: &[u8]) {
        for (to, from) in self.data.iter_mut().zip(bytes) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_size_of_the_kernel_headers() {
        assert_eq!(size_of::<Request>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        for name in ["", "sixteen-letters!", "a/b"] {
            assert!(Request::of(name).is_err(), "{name}");
        }
        assert_eq!(&Request::of("vif1.0").unwrap().name[..7], b"vif1.0\0");
    }

    #[test]
    fn an_interface_that_is_not_there_is_said_to_be_missing() {
        let interfaces = Interfaces::open().unwrap();
        assert!(interfaces.set_up("vif9999.9", true).unwrap_err().is(Errno::NODEV));
        assert!(interfaces.join("br9999", "vif9999.9").unwrap_err().is(Errno::NODEV));
    }
}
