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
const SPSR_LEVEL: u64 = 0b1100;
const SPSR_AARCH32: u64 = 1 << 4;

/// Handles a trapped access to a system register.
pub fn handle(caller: &Caller<'_>, context: &mut VcpuContext, access: RegisterAccess, esr: u64) {
    let value = context.gpr(access.register.number());
    let at_el0 = context.spsr() & SPSR_LEVEL == 0 || context.spsr() & SPSR_AARCH32 != 0;
    let read = match sysreg::decide(access, value, at_el0, &caller.hv.host.guest_id) {
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
                clean_memory(caller.hv, caller.domain);
                context.trap_memory_registers(true);
            }
            None
        }
        SysregAction::WriteTranslation(register, value) => {
            write_translation(caller, context, register, value);
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
    let kick = caller.domain.vgic.lock().send_sgi(caller.vcpu.who.vcpu, request);
    caller.hv.wake(caller.domain, kick);
}

fn write_translation(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    register: TranslationRegister,
    value: u64,
) {
    match register {
        TranslationRegister::Sctlr => {
            let old = context.sctlr_el1();
            context.set_sctlr_el1(value);
            if sysreg::changes_caching(old, value) {
                clean_memory(caller.hv, caller.domain);
            }
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
}

/// Writes the caches of all of a domain's own memory back, and forgets them.
fn clean_memory(hv: &Hypervisor, domain: &Domain) {
    let memory = hv.machine.memory();
    let Some(last) = domain.p2m.lock().max_mapped() else { return };
    let mut gfn = Gfn::new(0);
    while gfn <= last {
        let (mapping, rest) = domain.p2m.lock().entry(memory, gfn);
        let count = rest.min(last.number() - gfn.number() + 1);
        if let Some(mapping) = mapping.filter(|mapping| mapping.kind.is_ram()) {
            memory.clean_and_invalidate(mapping.mfn.base(), to_index(count * PAGE_SIZE));
        }
        let Some(next) = gfn.checked_add(count) else { return };
        gfn = next;
    }
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
    pub fn physical_timer_due(&self, domain: &Domain, vcpu: &Vcpu, _now: Nanos) {
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
