//! Calls to firmware: carries out what `hv_core::vpsci` decides.

use crate::domain::Domain;
use crate::hypercall::Caller;
use crate::machine::VcpuContext;
use crate::state::Hypervisor;
use core::sync::atomic::Ordering;
use hv_core::ids::VcpuId;
use hv_core::lifecycle::ShutdownReason;
use hv_core::sched::Hold;
use hv_core::vpsci::{self, Mitigations, PsciAction};

/// What came of turning a virtual processor on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TurnedOn {
    Yes,
    /// It was on, or there is none to turn on.
    AlreadyOn,
    /// A processor still has its registers from before it was turned off.
    NotYetOff,
}

const INSTRUCTION_BYTES: u64 = 4;

/// Handles a call whose number is in x0; the guest's PC is past the instruction.
pub fn handle(caller: &Caller<'_>, context: &mut VcpuContext) {
    let registers = core::array::from_fn(|number| context.gpr(number));
    let vcpus = caller.domain.settings.max_vcpus;
    let is_on = |vcpu| caller.hv.is_on(caller.domain, vcpu);
    let action = vpsci::decide(registers, vcpus, is_on, Mitigations::default());
    match action {
        PsciAction::Answer(value) => context.set_gpr(0, value),
        PsciAction::Answers(values) => {
            for (number, value) in values.into_iter().enumerate() {
                context.set_gpr(number, value);
            }
        }
        PsciAction::Suspend => {
            context.set_gpr(0, vpsci::SUCCESS);
            caller.hv.wait_for_interrupt(caller.domain, caller.vcpu);
        }
        PsciAction::Off => caller.hv.hold(caller.vcpu, Hold::DOWN),
        PsciAction::On { vcpu, entry, context: argument } => {
            match caller.hv.turn_on(caller.domain, vcpu, entry, argument) {
                TurnedOn::Yes => context.set_gpr(0, vpsci::SUCCESS),
                TurnedOn::AlreadyOn => context.set_gpr(0, vpsci::ALREADY_ON),
                // Its processor is about to let go: the guest asks again.
                TurnedOn::NotYetOff => context.set_pc(context.pc().wrapping_sub(INSTRUCTION_BYTES)),
            }
        }
        PsciAction::SystemOff => caller.hv.shut_down(caller.domain, ShutdownReason::POWEROFF),
        PsciAction::SystemReset => caller.hv.shut_down(caller.domain, ShutdownReason::REBOOT),
    }
}

impl Hypervisor {
    fn is_on(&self, domain: &Domain, id: VcpuId) -> bool {
        let Some(vcpu) = domain.vcpu(id) else { return false };
        !self.scheduler.lock().holds(vcpu.sched).contains(Hold::DOWN)
    }

    /// Starts a virtual processor at `entry` with x0 = `argument`.
    fn turn_on(&self, domain: &Domain, id: VcpuId, entry: u64, argument: u64) -> TurnedOn {
        let Some(vcpu) = domain.vcpu(id) else { return TurnedOn::AlreadyOn };
        // Held until it is released, so that of two callers one finds it on.
        let mut slot = vcpu.context.lock();
        if self.is_on(domain, id) {
            return TurnedOn::AlreadyOn;
        }
        let Some(registers) = slot.as_deref_mut() else { return TurnedOn::NotYetOff };
        *registers = domain.fresh_context(id, entry);
        registers.set_gpr(0, argument);
        vcpu.initialised.store(true, Ordering::SeqCst);
        self.release(vcpu, Hold::DOWN);
        TurnedOn::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use hv_core::ids::DomId;

    const CPU_ON: u64 = 0xc400_0003;

    fn call(fixture: &Fixture, domain: &alloc::sync::Arc<Domain>, arguments: [u64; 4]) -> u64 {
        let mut context = VcpuContext::default();
        for (number, value) in arguments.into_iter().enumerate() {
            context.set_gpr(number, value);
        }
        fixture.call(domain, |caller| handle(caller, &mut context));
        context.gpr(0)
    }

    #[test]
    fn a_processor_is_turned_on_once_where_it_was_asked_to() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        let on = [CPU_ON, 1, 0x4000_0000, 0x77];
        assert_eq!(call(&fixture, &domain, on), vpsci::SUCCESS);
        assert_eq!(call(&fixture, &domain, on), vpsci::ALREADY_ON);
        let vcpu = domain.vcpu(VcpuId(1)).unwrap();
        let context = vcpu.context.lock();
        let context = context.as_deref().unwrap();
        assert_eq!((context.pc(), context.gpr(0)), (0x4000_0000, 0x77));
        assert_eq!((context.spsr(), context.sctlr_el1()), (0x3c5, 0x00c5_0078));
        assert_eq!(context.vmpidr(), 0x8000_0001);
    }

    #[test]
    fn a_processor_whose_registers_are_still_in_use_is_asked_for_again() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        let taken = domain.vcpu(VcpuId(1)).unwrap().context.lock().take();
        let mut context = VcpuContext::default();
        context.set_pc(0x1004);
        for (number, value) in [CPU_ON, 1, 0x4000_0000].into_iter().enumerate() {
            context.set_gpr(number, value);
        }
        fixture.call(&domain, |caller| handle(caller, &mut context));
        assert_eq!((context.pc(), context.gpr(0)), (0x1000, CPU_ON));
        drop(taken);
    }

    #[test]
    fn affinity_info_follows_turning_on_and_off() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        let info = [0xc400_0004, 0, 0, 0];
        assert_eq!(call(&fixture, &domain, info), 1);
        assert_eq!(call(&fixture, &domain, [CPU_ON, 0, 0x4000_0000, 0]), vpsci::SUCCESS);
        assert_eq!(call(&fixture, &domain, info), 0);
        call(&fixture, &domain, [0x8400_0002, 0, 0, 0]);
        assert_eq!(call(&fixture, &domain, info), 1);
    }

    #[test]
    fn system_off_shuts_the_domain_down() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        call(&fixture, &domain, [0x8400_0009, 0, 0, 0]);
        assert_eq!(domain.life.lock().shutdown(), Some(ShutdownReason::REBOOT));
    }

    #[test]
    fn the_hypervisor_answers_with_xens_identifier() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        assert_eq!(call(&fixture, &domain, [0x8600_ff01, 0, 0, 0]), 0xdc12_18a7);
        assert_eq!(call(&fixture, &domain, [0x8400_0050, 0, 0, 0]), vpsci::NOT_SUPPORTED);
    }
}
