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
