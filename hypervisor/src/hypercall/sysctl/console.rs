//! The message buffer and the debug keys.

use super::Request;
use crate::keys;
use hv_core::guest::{GuestMemory, Handle};
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl::{DebugKeys, ReadConsole};

/// Bytes copied out at a time.
const PIECE: usize = 256;

/// Copies what is in the buffer from `index` on, or all of it.
///
/// Positions count every byte ever written, modulo 2^32.
pub(super) fn read(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: ReadConsole = request.sysctl.payload();
    let hv = request.caller.hv;
    let (oldest, newest) = hv.console.with_ring(|ring| (ring.oldest(), ring.newest()));
    let mut position =
        if wanted.incremental != 0 { oldest.max(widen(wanted.index, newest)) } else { oldest };
    let mut copied = 0_u32;
    let mut piece = [0; PIECE];
    while copied < wanted.count {
        let room = usize::try_from(wanted.count - copied).unwrap_or(PIECE).min(PIECE);
        let part = piece.get_mut(..room).ok_or(Errno::EINVAL)?;
        let (count, from) = hv.console.with_ring(|ring| ring.read(position, part));
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        let address = wanted.buffer.checked_add(u64::from(copied)).ok_or(Errno::EFAULT)?;
        request.caller.guest.write(address, bytes)?;
        position = from + count as u64;
        copied += u32::try_from(count).unwrap_or(0);
    }
    if wanted.clear != 0 {
        hv.console.with_ring(hv_core::console_ring::ConsoleRing::clear);
    }
    wanted.count = copied;
    wanted.index = low_half(position);
    request.sysctl.set_payload(&wanted);
    request.reply()
}

/// Returns the newest position before `newest` whose low half is `index`.
fn widen(index: u32, newest: u64) -> u64 {
    let behind = low_half(newest).wrapping_sub(index);
    newest.saturating_sub(u64::from(behind))
}

#[expect(clippy::cast_possible_truncation, reason = "the ABI has room for the low half only")]
const fn low_half(position: u64) -> u32 {
    position as u32
}

pub(super) fn debug_keys(request: &Request<'_>) -> Result<(), Errno> {
    let wanted: DebugKeys = request.sysctl.payload();
    let keys = Handle::<u8>::from_register(wanted.keys);
    for index in 0..wanted.nr_keys {
        let letter = keys.element(u64::from(index)).load(request.caller.guest)?;
        keys::press(request.caller.hv, letter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_again_from_its_low_half() {
        assert_eq!(widen(5, 10), 5);
        assert_eq!(widen(0xffff_fff0, 0x1_0000_0010), 0xffff_fff0);
        assert_eq!(widen(11, 10), 0, "from the future: start at the beginning");
    }
}
