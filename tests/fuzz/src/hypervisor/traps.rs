//! Traps that are no hypercalls: registers of devices and of the processor, calls to firmware.

use super::Play;
use super::draw::Draw;
use hv_core::addr::GuestAddr;
use hv_core::exit::{
    Access, DataAbort, Fault, FaultAddress, Register, RegisterAccess, SysReg, Transfer, Width,
};
use hypervisor::testbed::REQUEST;
use hypervisor::trap::{self, abort, smc, sysreg};
use std::sync::Arc;

/// The distributor and the first redistributor of a campaign's domains, and where a UART is.
const DEVICES: [u64; 4] = [0x300_1000, 0x302_0000, 0x303_0000, 0x2200_0000];
/// `ESR_EL2.IL`: the instruction has 32 bits.
const IL: u64 = 1 << 25;
const KERNEL: u64 = 5;

impl Play {
    /// Has the acting processor trap; it holds its registers meanwhile.
    pub(super) fn trap(&mut self, draw: &mut Draw) {
        let vcpu = Arc::clone(&self.actor.vcpu);
        let Some(mut context) = vcpu.context.lock().take() else { return };
        self.bed
            .hv
            .machine
            .interrupt_period
            .store(u32::from(draw.below(4)), std::sync::atomic::Ordering::Relaxed);
        context.set_spsr(if draw.seldom(16) { draw.long() } else { KERNEL });
        let caller = self.caller();
        match draw.below(8) {
            0..3 => {
                let access = (!draw.seldom(8)).then(|| Access { transfer: transfer(draw) });
                let base = DEVICES[usize::from(draw.below(4))];
                let offset = match draw.below(4) {
                    0 => u64::from(draw.half()),
                    1 => 0x100 * u64::from(draw.byte()) + u64::from(draw.byte() % 8) * 4,
                    _ => u64::from(draw.byte()) * 4,
                };
                let address = base + offset;
                let (number, value) = (usize::from(draw.below(8)), draw.long());
                context.set_gpr(number, value);
                if access.is_none() {
                    let word = draw.word();
                    self.put(REQUEST, &word);
                    context.set_pc(REQUEST);
                }
                let abort = DataAbort {
                    virtual_address: address,
                    address: if draw.seldom(32) {
                        FaultAddress::MustTranslate
                    } else {
                        FaultAddress::Known(GuestAddr::new(address))
                    },
                    fault: if draw.seldom(8) { Fault::Permission } else { Fault::Translation },
                    write: draw.seldom(2),
                    on_walk: draw.seldom(32),
                    cache_maintenance: draw.seldom(32),
                    access,
                };
                abort::data(&caller, &mut context, abort, IL);
            }
            3 | 4 => {
                let [op1, crn, crm, op2] = match draw.below(4) {
                    // The physical timer, software-generated interrupts, set/way operations, translation.
                    0 => [3, 14, 2, u32::from(draw.below(3))],
                    1 => [0, 12, 11, u32::from(draw.below(8))],
                    2 => [0, u32::from(draw.below(3)), 0, u32::from(draw.below(3))],
                    _ => [draw.below(8), draw.below(16), draw.below(16), draw.below(8)]
                        .map(u32::from),
                };
                let op0 = if draw.seldom(4) { u32::from(draw.below(4)) } else { 3 };
                let register = Register::new(draw.below(8));
                context.set_gpr(register.number(), draw.long());
                let sysreg = SysReg::new(op0, op1, crn, crm, op2);
                let access = RegisterAccess { sysreg, register, read: draw.seldom(2) };
                sysreg::handle(&caller, &mut context, access, IL);
            }
            5 | 6 => {
                let base = if draw.seldom(2) { 0x8400_0000 } else { 0xc400_0000 };
                let number =
                    if draw.seldom(8) { draw.long() } else { base + u64::from(draw.below(24)) };
                context.set_gpr(0, number);
                for register in 1..4 {
                    let value = if draw.seldom(2) { u64::from(draw.below(3)) } else { draw.long() };
                    context.set_gpr(register, value);
                }
                smc::handle(&caller, &mut context);
            }
            _ => {
                let class = u64::from(draw.below(64));
                let syndrome = class << 26 | IL | (draw.long() & 0x1ff_ffff);
                context.set_gpr(16, u64::from(draw.below(50)));
                trap::handle(&caller, &mut context, syndrome);
            }
        }
        *vcpu.context.lock() = Some(context);
    }
}

fn transfer(draw: &mut Draw) -> Transfer {
    let widths = [Width::Word, Width::Word, Width::Double, Width::Half, Width::Byte];
    Transfer {
        register: Register::new(draw.below(8)),
        width: widths[usize::from(draw.below(5))],
        sign_extend: draw.seldom(8),
        wide: draw.seldom(4),
    }
}
