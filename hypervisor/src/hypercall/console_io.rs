//! `HYPERVISOR_console_io` (`public/xen.h`): the machine's console, for the control domain.

use super::{Arguments, Caller, Outcome, word};
use hv_core::guest::GuestMemory;
use hv_core::privilege;
use hypercall_abi::console_io as abi;
use hypercall_abi::errno::Errno;

/// How much is copied at a time, and between two looks for interrupts.
const CHUNK: u32 = 128;

/// Carries out the command in x0 on x1 bytes at x2.
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
