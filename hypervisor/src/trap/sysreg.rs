//! Trapped system registers: carries out what `hv_core::sysreg` decides.

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::Caller;
use crate::machine::VcpuContext;
use crate::state::Hypervisor;
use crate::trap::abort;
use hv_core::addr::{Gfn, PAGE_SIZE, to_index};
use hv_core::exit::RegisterAccess;
use hv_core::ids::Irq;
use hv_core::memory::FrameMemory;
use hv_core::sysreg::{self, SysregAction, TranslationRegister};
use hv_core::time::Nanos;
use hv_core::timer_queue::TimerKind;
use hv_core::vgic::SgiRequest;
use hv_core::vtimer::{Deadline, TimerRegister};

/// The physical timer's interrupt, in every domain: INTID 30.
const PHYSICAL_TIMER: Irq = Irq::ppi(14);
/// Frames whose caches are cleaned between two looks for interrupts: as many as
/// `XEN_DOMCTL_cacheflush` takes.
const CLEAN_AT_ONCE: u64 = 64;
const SPSR_LEVEL: u64 = 0b1100;
const SPSR_AARCH32: u64 = 1 << 4;

/// Handles a trapped access to a system register.
pub fn handle(caller: &Caller<'_>, context: &mut VcpuContext, access: RegisterAccess, esr: u64) {
    let value = context.gpr(access.register.number());
    let at_el0 = context.spsr() & SPSR_LEVEL == 0 || context.spsr() & SPSR_AARCH32 != 0;
    let read = match sysreg::decide(access, value, at_el0, &caller.hv.guest_id.lock()) {
        SysregAction::Undefined => return abort::undefined(context, esr),
        SysregAction::Read(value) => Some(value),
        SysregAction::ReadTimer(register) => {
            let now = caller.hv.machine.ticks();
            Some(caller.vcpu.physical_timer.lock().read(register, now))
        }
        SysregAction::Ignored => None,
        SysregAction::SendSgi(value) => {
            send_sgi(caller, value);
            None
        }
        SysregAction::WriteTimer(register, value) => {
            caller.hv.write_physical_timer(caller.domain, caller.vcpu, register, value);
            None
        }
        SysregAction::MaintainBySetWay => {
            // From here on what counts is when the guest turns its caches on or off (fact: a cache
            // that is off may hide what is in memory, one that is on may hide what is not).
            if !context.traps_memory_registers() {
                if !clean_memory(caller) {
                    return; // The guest executes it again.
                }
                context.trap_memory_registers(true);
            }
            None
        }
        SysregAction::WriteTranslation(register, value) => {
            if !write_translation(caller, context, register, value) {
                return; // The guest executes it again.
            }
            None
        }
    };
    if let Some(value) = read {
        context.set_gpr(access.register.number(), value);
    }
    context.skip_instruction(esr);
}

fn send_sgi(caller: &Caller<'_>, value: u64) {
    let request = SgiRequest::decode(value);
    let me = caller.vcpu.who.vcpu;
    let mut vgic = caller.domain.vgic.lock();
    let kick = vgic.send_sgi_from_here(me, request, &mut caller.hv.machine.lists());
    caller.hv.wake_from(caller.domain, caller.vcpu, vgic, kick);
}

/// Writes a register; says whether it is done.
fn write_translation(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    register: TranslationRegister,
    value: u64,
) -> bool {
    match register {
        TranslationRegister::Sctlr => {
            if sysreg::changes_caching(context.sctlr_el1(), value) && !clean_memory(caller) {
                return false;
            }
            context.set_sctlr_el1(value);
            if sysreg::is_cached(value) {
                context.trap_memory_registers(false);
            }
        }
        TranslationRegister::Ttbr0 => context.set_ttbr0_el1(value),
        TranslationRegister::Ttbr1 => context.set_ttbr1_el1(value),
        TranslationRegister::Tcr => context.set_tcr_el1(value),
        TranslationRegister::Afsr0 => context.set_afsr0_el1(value),
        TranslationRegister::Afsr1 => context.set_afsr1_el1(value),
        TranslationRegister::Esr => context.set_esr_el1(value),
        TranslationRegister::Far => context.set_far_el1(value),
        TranslationRegister::Mair => context.set_mair_el1(value),
        TranslationRegister::Amair => context.set_amair_el1(value),
        TranslationRegister::Contextidr => context.set_contextidr_el1(value),
    }
    true
}

/// Writes the caches of all of a domain's own memory back, and forgets them; says whether it is done.
///
/// If not, because an interrupt waits, it goes on from there when it is asked again.
fn clean_memory(caller: &Caller<'_>) -> bool {
    let (hv, domain) = (caller.hv, caller.domain);
    let memory = hv.machine.memory();
    let mut progress = caller.vcpu.cleaned.lock();
    let mut gfn = core::mem::replace(&mut *progress, Gfn::new(0));
    let Some(last) = domain.p2m.lock().max_mapped() else { return true };
    while gfn <= last {
        let (mapping, rest) = domain.p2m.lock().entry(memory, gfn);
        let mut count = rest.min(last.number() - gfn.number() + 1);
        if let Some(mapping) = mapping.filter(|mapping| mapping.kind.is_ram()) {
            count = count.min(CLEAN_AT_ONCE);
            memory.clean_and_invalidate(mapping.mfn.base(), to_index(count * PAGE_SIZE));
        }
        let Some(next) = gfn.checked_add(count) else { return true };
        gfn = next;
        if hv.machine.interrupt_pending() && gfn <= last {
            *progress = gfn;
            return false;
        }
    }
    true
}

impl Hypervisor {
    fn write_physical_timer(
        &self,
        domain: &Domain,
        vcpu: &Vcpu,
        register: TimerRegister,
        value: u64,
    ) {
        vcpu.physical_timer.lock().write(register, value, self.machine.ticks());
        self.watch_physical_timer(domain, vcpu);
    }

    /// Does what a physical timer's deadline was for.
    pub fn physical_timer_due(&self, domain: &Domain, vcpu: &Vcpu) {
        self.watch_physical_timer(domain, vcpu);
    }

    /// Raises or lowers the physical timer's interrupt; if it is yet to come, watches for it.
    fn watch_physical_timer(&self, domain: &Domain, vcpu: &Vcpu) {
        let timer = *vcpu.physical_timer.lock();
        let due = timer.line(self.machine.ticks());
        let kick = domain.vgic.lock().set_line(vcpu.who.vcpu, PHYSICAL_TIMER, due);
        self.wake(domain, kick);
        let deadline = match timer.deadline() {
            Deadline::At(ticks) if !due => self.machine.moment(ticks),
            Deadline::At(_) | Deadline::Never => Nanos::NEVER,
        };
        self.set_timer(vcpu, TimerKind::Physical, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use core::sync::atomic::Ordering;
    use hv_core::exit::{Register, SysReg};
    use hv_core::ids::{DomId, VcpuId};
    use hv_core::p2m::Kind;

    const IL: u64 = 1 << 25;
    const KERNEL: u64 = 5;

    struct Guest {
        fixture: Fixture,
        domain: alloc::sync::Arc<Domain>,
        context: VcpuContext,
    }

    impl Guest {
        fn new() -> Self {
            let fixture = Fixture::new();
            let domain = fixture.domain(DomId(1));
            let mut context = VcpuContext::default();
            context.set_spsr(KERNEL);
            Self { fixture, domain, context }
        }

        fn access(&mut self, sysreg: SysReg, read: bool, value: u64) -> u64 {
            self.context.set_gpr(4, value);
            let access = RegisterAccess { sysreg, register: Register::new(4), read };
            let context = &mut self.context;
            self.fixture.call(&self.domain, |caller| handle(caller, context, access, IL));
            self.context.gpr(4)
        }

        fn is_pending(&self, intid: u32) -> bool {
            use hv_core::exit::Width;
            use hv_core::vgic::MmioRead;
            let mut vgic = self.domain.vgic.lock();
            let at = vgic.locate(hv_core::addr::GuestAddr::new(0x303_0200)).unwrap();
            let mut lists = self.fixture.hv.machine.lists();
            let read = vgic.read(VcpuId(0), at, Width::Word, &mut lists);
            matches!(read, MmioRead::Value(word) if word >> intid & 1 != 0)
        }
    }

    #[test]
    fn the_physical_timer_is_watched_and_raises_its_interrupt_when_due() {
        let mut guest = Guest::new();
        let [value, control] = [0, 1].map(|op2| SysReg::new(3, 3, 14, 2, op2));
        guest.access(value, false, 1_000);
        guest.access(control, false, 1);
        assert!(!guest.is_pending(30));
        assert_eq!(guest.fixture.hv.processors[0].timers.lock().next(), Nanos(1_000));
        guest.fixture.hv.machine.clock.store(1_000, Ordering::Relaxed);
        let expired = guest.fixture.hv.processors[0].timers.lock().expired(Nanos(1_000)).unwrap();
        guest.fixture.hv.timer_expired(expired, Nanos(1_000));
        assert!(guest.is_pending(30));
        assert_eq!(guest.access(control, true, 0), 0b101);
        guest.access(control, false, 0b11);
        assert!(!guest.is_pending(30));
        assert_eq!(guest.context.pc(), 16);
    }

    #[test]
    fn an_interrupt_to_oneself_becomes_pending() {
        let mut guest = Guest::new();
        guest.access(SysReg::new(3, 0, 12, 11, 5), false, 3 << 24 | 1);
        assert!(guest.is_pending(3));
    }

    #[test]
    fn an_unknown_register_is_an_undefined_instruction() {
        let mut guest = Guest::new();
        guest.context.set_vbar_el1(0x8000);
        assert_eq!(guest.access(SysReg::new(3, 0, 15, 0, 0), true, 7), 7);
        assert_eq!((guest.context.pc(), guest.context.esr_el1()), (0x8200, 0x200_0000));
    }

    #[test]
    fn a_set_way_operation_lets_interrupts_in_and_goes_on() {
        let mut guest = Guest::new();
        let block = guest.fixture.hv.frames.lock().alloc_for(DomId(1), 10, None).unwrap();
        let at = Gfn::new(0x4_0000);
        let hv = &guest.fixture.hv;
        hv.map_frames(&guest.domain, at, block.first, block.count(), Kind::RamRw).unwrap();
        hv.machine.interrupted.store(true, Ordering::Relaxed);
        let clean = SysReg::new(1, 0, 7, 14, 2);
        let mut times = 1;
        guest.access(clean, false, 0);
        while guest.context.pc() == 0 {
            assert!(!guest.context.traps_memory_registers());
            guest.access(clean, false, 0);
            times += 1;
        }
        // 256 KiB each, and one for what is not mapped below.
        assert_eq!(times, 1024 / 64 + 1);
        assert!(guest.context.traps_memory_registers());
        // What a register is to be set to waits as well.
        guest.access(SysReg::new(3, 0, 1, 0, 0), false, 5);
        assert_eq!((guest.context.sctlr_el1(), guest.context.pc()), (0, 4));
    }

    #[test]
    fn set_way_operations_watch_the_guests_caches_until_they_are_on() {
        let mut guest = Guest::new();
        guest.access(SysReg::new(1, 0, 7, 14, 2), false, 0);
        assert!(guest.context.traps_memory_registers());
        let sctlr = SysReg::new(3, 0, 1, 0, 0);
        guest.access(sctlr, false, 1);
        assert!(guest.context.traps_memory_registers());
        guest.access(sctlr, false, 5);
        assert!(!guest.context.traps_memory_registers());
        assert_eq!(guest.context.sctlr_el1(), 5);
    }
}
