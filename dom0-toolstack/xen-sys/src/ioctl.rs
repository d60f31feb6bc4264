//! One way to issue an ioctl that hands the kernel one structure.

use core::ffi::c_void;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// An ioctl number as Linux's `_IOC(_IOC_NONE, type, number, size)` forms it.
pub(crate) const fn number<T>(group: u8, number: u8) -> Opcode {
    // An ioctl argument is at most 16 KiB by the encoding itself; ours are below 64 bytes.
    #[expect(clippy::cast_possible_truncation, reason = "sizes below 64 by the structures used")]
    let size = size_of::<T>() as Opcode;
    (size << 16) | ((group as Opcode) << 8) | number as Opcode
}

/// Issues `opcode` on `fd` with `argument`, and returns the kernel's non-negative answer.
///
/// # Safety
/// `opcode` takes a pointer to a `T`, and every address inside `argument` is valid for what the
/// operation does with it.
pub(crate) unsafe fn issue<T>(
    fd: impl AsFd,
    opcode: Opcode,
    argument: &mut T,
) -> Result<i32, Errno> {
    let request = Request { opcode, argument };
    // SAFETY: the caller vouches for the pairing of opcode and argument, which is all `Request` adds.
    unsafe { ioctl(fd, request) }
}

struct Request<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: `issue`'s caller vouches that `opcode` takes a pointer to `T`; the answer is the plain return value.
unsafe impl<T> Ioctl for Request<'_, T> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        core::ptr::from_mut(self.argument).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        // linux/xen/privcmd.h: IOCTL_PRIVCMD_HYPERCALL, a structure of six u64.
        assert_eq!(number::<[u64; 6]>(b'P', 0), 0x0030_5000);
        // linux/xen/evtchn.h: IOCTL_EVTCHN_BIND_INTERDOMAIN, two u32.
        assert_eq!(number::<[u32; 2]>(b'E', 1), 0x0008_4501);
    }
}
