//! Loop devices: a file as a block device (`linux/loop.h`), for backends that serve block devices only.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::privcmd::errno_of;

const CONTROL: &str = "/dev/loop-control";
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CLR_FD: libc::Ioctl = 0x4c01;
const LOOP_SET_STATUS64: libc::Ioctl = 0x4c04;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
const LO_FLAGS_READ_ONLY: u32 = 1;
/// The device goes when nobody has it open any more.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// How often a free device may be taken from under us before we give up.
const TRIES: usize = 64;

/// A loop device of ours. Detached on drop, and when this process is killed, unless
/// [`LoopDevice::keep`] is called.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    node: File,
    kept: bool,
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const ZERO: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

impl LoopDevice {
    /// Makes a block device of the file at `path`.
    ///
    /// Direct I/O keeps a guest's data from being cached twice; where the file system has none, the
    /// device goes without.
    pub fn attach(path: &Path, readonly: bool) -> Result<Self> {
        const OPERATION: &str = "set up a loop device";
        let failed =
            |error: &std::io::Error| Error::Device { operation: OPERATION, errno: errno_of(error) };
        let backing = OpenOptions::new().read(true).write(!readonly).open(path);
        let backing = OwnedFd::from(backing.map_err(|error| failed(&error))?);
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL)
            .map_err(|error| Error::Open { path: CONTROL, errno: errno_of(&error) })?;
        for _ in 0..TRIES {
            // SAFETY: this ioctl takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(failed(&std::io::Error::last_os_error()));
            }
            let device = PathBuf::from(format!("/dev/loop{number}"));
            let node = OpenOptions::new().read(true).write(!readonly).open(&device);
            let node = node.map_err(|error| failed(&error))?;
            match configure(&node, &backing, path, readonly) {
                Ok(()) => return Ok(Self { path: device, node, kept: false }),
                Err(Errno::BUSY) => {} // somebody else took it since
                Err(errno) => return Err(Error::Device { operation: OPERATION, errno }),
            }
        }
        Err(Error::Device { operation: OPERATION, errno: Errno::BUSY })
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the device attached, for [`detach`] to find.
    pub fn keep(mut self) -> Result<PathBuf> {
        let failed = |_| Error::Device {
            operation: "keep a loop device",
            errno: errno_of(&std::io::Error::last_os_error()),
        };
        let mut info = LoopInfo::ZERO;
        let place: *mut LoopInfo = &raw mut info;
        // SAFETY: this ioctl fills the structure that its argument points to.
        let answer = unsafe { libc::ioctl(self.node.as_raw_fd(), LOOP_GET_STATUS64, place) };
        usize::try_from(answer).map_err(failed)?;
        info.flags &= !LO_FLAGS_AUTOCLEAR;
        let place: *const LoopInfo = &raw const info;
        // SAFETY: this ioctl reads the structure that its argument points to.
        let answer = unsafe { libc::ioctl(self.node.as_raw_fd(), LOOP_SET_STATUS64, place) };
        usize::try_from(answer).map_err(failed)?;
        self.kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to tell; a device that cannot be detached stays listed by losetup.
            let _ = detach(&self.path);
        }
    }
}

/// The file behind a loop device, if there is one.
pub fn backing_file(device: &Path) -> Option<PathBuf> {
    let name = device.file_name()?;
    let path = Path::new("/sys/block").join(name).join("loop/backing_file");
    Some(std::fs::read_to_string(path).ok()?.trim_end_matches('\n').into())
}

/// Gives a loop device back; one that is still open goes when its last user closes it.
pub fn detach(device: &Path) -> Result<()> {
    const OPERATION: &str = "detach a loop device";
    let node = OpenOptions::new().read(true).open(device);
    let node =
        node.map_err(|error| Error::Device { operation: OPERATION, errno: errno_of(&error) })?;
    // SAFETY: this ioctl takes no argument.
    let answer = unsafe { libc::ioctl(node.as_raw_fd(), LOOP_CLR_FD) };
    let error = std::io::Error::last_os_error();
    if answer == 0 || error.raw_os_error() == Some(libc::ENXIO) {
        return Ok(()); // ENXIO: it is detached already
    }
    Err(Error::Device { operation: OPERATION, errno: errno_of(&error) })
}

fn configure(
    node: &File,
    backing: &OwnedFd,
    path: &Path,
    readonly: bool,
) -> core::result::Result<(), Errno> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_negative| Errno::BADF)?;
    let mut file_name = [0; 64];
    let name = path.as_os_str().as_encoded_bytes();
    for (to, from) in file_name.iter_mut().take(63).zip(name) {
        *to = *from;
    }
    let readonly = if readonly { LO_FLAGS_READ_ONLY } else { 0 };
    for flags in [readonly | LO_FLAGS_DIRECT_IO, readonly] {
        let flags = flags | LO_FLAGS_AUTOCLEAR;
        let info = LoopInfo { flags, file_name, ..LoopInfo::ZERO };
        let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
        let argument = core::ptr::from_ref(&config);
        // SAFETY: this ioctl reads one `struct loop_config`.
        let answer = unsafe { libc::ioctl(node.as_raw_fd(), LOOP_CONFIGURE, argument) };
        if answer == 0 {
            return Ok(());
        }
        let errno = errno_of(&std::io::Error::last_os_error());
        if errno != Errno::INVAL {
            return Err(errno);
        }
    }
    Err(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel_headers() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
