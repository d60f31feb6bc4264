//! Sets of processors and nodes, as the tools have them (`struct xenctl_bitmap`, `public/domctl.h`).

use crate::machine::GuestSpace;
use hv_core::guest::GuestMemory;
use hypercall_abi::domctl::XenctlBitmap;
use hypercall_abi::errno::Errno;

/// Members that a set copied out may have room for.
const MOST_MEMBERS: u32 = 1 << 16;

/// Copies a set out that has at most `valid` members, up to 64: whole bytes, as Xen does, as many as the
/// caller has room for; what there is room for beyond is zero.
///
/// Who has room for more members than any machine has is refused: to fill it could take minutes.
pub(super) fn store(
    guest: &GuestSpace,
    map: XenctlBitmap,
    bits: u64,
    valid: u32,
) -> Result<(), Errno> {
    if map.nr_bits > MOST_MEMBERS {
        return Err(Errno::EINVAL);
    }
    let mask = if valid >= u64::BITS { u64::MAX } else { (1 << valid) - 1 };
    let mut chunk = (bits & mask).to_le_bytes();
    let mut address = map.bitmap;
    let mut room = map.nr_bits.div_ceil(8) as usize;
    while room > 0 {
        let part = chunk.get(..room.min(chunk.len())).ok_or(Errno::EFAULT)?;
        guest.write(address, part)?;
        room -= part.len();
        address = address.checked_add(part.len() as u64).ok_or(Errno::EFAULT)?;
        chunk = [0; 8];
    }
    Ok(())
}

/// Copies a set of at most 64 members in.
pub(super) fn load(guest: &GuestSpace, map: XenctlBitmap) -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    let len = (map.nr_bits.div_ceil(8) as usize).min(bytes.len());
    let room = bytes.get_mut(..len).ok_or(Errno::EFAULT)?;
    guest.read(map.bitmap, room)?;
    let mask = if map.nr_bits >= u64::BITS { u64::MAX } else { (1 << map.nr_bits) - 1 };
    Ok(u64::from_le_bytes(bytes) & mask)
}
