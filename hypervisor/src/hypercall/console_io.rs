//! `HYPERVISOR_console_io` (`public/xen.h`): the machine's console, for the control domain.

use super::{Arguments, Caller, Outcome, word};
use hv_core::guest::GuestMemory;
use hv_core::privilege;
use hypercall_abi::console_io as abi;
use hypercall_abi::errno::Errno;

/// How much is copied at a time, and between two looks for interrupts.
const CHUNK: u32 = 128;

/// Carries out the command in x0 on x1 bytes at x2.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, count, buffer, ..] = *arguments;
    if let Err(error) = privilege::control(caller.subject()) {
        return Errno::from(error).into();
    }
    match word(command) {
        abi::CONSOLEIO_WRITE => write(caller, word(count), buffer),
        abi::CONSOLEIO_READ => read(caller, word(count), buffer).into(),
        _ => Errno::ENOSYS.into(),
    }
}

fn write(caller: &Caller<'_>, count: u32, buffer: u64) -> Outcome {
    let mut bytes = [0; CHUNK as usize];
    let mut done = 0;
    while done < count {
        if done != 0 && caller.hv.machine.interrupt_pending() {
            let rest = [
                u64::from(abi::CONSOLEIO_WRITE),
                u64::from(count - done),
                buffer.wrapping_add(u64::from(done)),
                0,
                0,
            ];
            return Outcome::Again(rest);
        }
        let step = (count - done).min(CHUNK);
        let Some(bytes) = bytes.get_mut(..step as usize) else { break };
        if let Err(fault) = caller.guest.read(buffer.wrapping_add(u64::from(done)), bytes) {
            return Errno::from(fault).into();
        }
        caller.hv.console.print_dom0(&caller.hv.machine, bytes);
        done += step;
    }
    Outcome::Done(Ok(0))
}

/// Hands over what was typed; what cannot be written stays for the next time.
fn read(caller: &Caller<'_>, count: u32, buffer: u64) -> Result<u64, Errno> {
    if count > i32::MAX.cast_unsigned() {
        return Err(Errno::E2BIG);
    }
    let mut done = 0;
    let mut bytes = [0; CHUNK as usize];
    while done < count {
        let room = (count - done).min(CHUNK) as usize;
        let Some(bytes) = bytes.get_mut(..room) else { break };
        let typed = caller.hv.console.peek_typed(bytes);
        let Some(bytes) = bytes.get(..typed).filter(|bytes| !bytes.is_empty()) else { break };
        caller.guest.write(buffer.wrapping_add(u64::from(done)), bytes)?;
        caller.hv.console.drop_typed(typed);
        done += u32::try_from(typed).unwrap_or(0);
    }
    Ok(u64::from(done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{REQUEST, Testbed};
    use hypercall_abi::hypercall::CONSOLE_IO;

    fn call(bed: &Testbed, caller: u16, command: u64, count: u64, buffer: u64) -> Outcome {
        bed.call(caller, CONSOLE_IO, [command, count, buffer, 0, 0])
    }

    #[test]
    fn dom0_writes_to_the_serial_port_and_a_guest_does_not() {
        let bed = Testbed::new();
        let text = [b'x'; 300];
        bed.put(&text);
        assert_eq!(call(&bed, 0, 0, 300, REQUEST), Outcome::Done(Ok(0)));
        assert_eq!(*bed.hv.machine.serial.lock(), text);
        assert_eq!(call(&bed, 1, 0, 300, REQUEST), Errno::EPERM.into());
        assert_eq!(call(&bed, 0, 0, 1 << 31, 8), Errno::EFAULT.into());
        assert_eq!(call(&bed, 0, 2, 1, REQUEST), Errno::ENOSYS.into());
    }

    #[test]
    fn a_long_write_lets_interrupts_in() {
        let bed = Testbed::new();
        bed.interrupt(true);
        let rest = call(&bed, 0, 0, 300, REQUEST);
        assert_eq!(rest, Outcome::Again([0, 172, REQUEST + 128, 0, 0]));
        assert_eq!(bed.hv.machine.serial.lock().len(), 128);
    }

    #[test]
    fn what_cannot_be_handed_over_stays() {
        let bed = Testbed::new();
        for byte in *b"ls\r" {
            let _ = bed.hv.console.typed(byte);
        }
        bed.write_protect(true);
        assert_eq!(call(&bed, 0, 1, 16, REQUEST), Errno::EFAULT.into());
        bed.write_protect(false);
        assert_eq!(call(&bed, 0, 1, 2, REQUEST), Outcome::Done(Ok(2)));
        assert_eq!(call(&bed, 0, 1, 16, REQUEST + 2), Outcome::Done(Ok(1)));
        assert_eq!(call(&bed, 0, 1, 16, REQUEST + 3), Outcome::Done(Ok(0)));
        assert_eq!(bed.reply::<[u8; 3]>(), *b"ls\r");
        assert_eq!(call(&bed, 0, 1, 1 << 31, REQUEST), Errno::E2BIG.into());
    }
}
