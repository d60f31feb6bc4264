//! Deadlines of virtual processors: which processor watches them, and what happens when they come.

use crate::domain::vcpu::Vcpu;
use crate::machine::VcpuContext;
use crate::state::Hypervisor;
use hv_core::ids::VcpuId;
use hv_core::lifecycle::ShutdownReason;
use hv_core::time::Nanos;
use hv_core::timer_queue::{Timer, TimerKind};

/// `CNTV_CTL_EL0`: the timer is on.
const ENABLED: u64 = 1 << 0;
/// `CNTV_CTL_EL0`: it does not interrupt.
const MASKED: u64 = 1 << 1;

impl Hypervisor {
    /// Lets this processor watch a deadline for `vcpu`; [`Nanos::NEVER`] forgets it.
    pub fn set_timer(&self, vcpu: &Vcpu, kind: TimerKind, deadline: Nanos) {
        let Some(processor) = self.processor(self.machine.this_cpu()) else { return };
        processor.timers.lock().set(Timer { who: vcpu.who, kind }, deadline);
        // On its way through the scheduler it programs its timer anew.
        processor.ask_scheduler();
    }

    /// Returns when the virtual timer of a virtual processor that is not loaded interrupts.
    pub fn virtual_deadline(&self, context: &VcpuContext) -> Nanos {
        let timer = context.virtual_timer();
        if timer.control & (ENABLED | MASKED) != ENABLED {
            return Nanos::NEVER;
        }
        let ticks = timer.compare.saturating_add(context.counter_offset());
        self.machine.moment(ticks)
    }

    /// Does what a deadline that has come was for.
    pub fn timer_expired(&self, timer: Timer, _now: Nanos) {
        let Some(domain) = self.domain(timer.who.dom) else { return };
        let Some(vcpu) = domain.vcpu(timer.who.vcpu) else { return };
        match timer.kind {
            // Loaded again, it gets the interrupt from the hardware.
            TimerKind::Virtual => self.rouse(vcpu),
            TimerKind::Physical => self.physical_timer_due(&domain, vcpu),
            TimerKind::Poll => {
                domain.ports.lock().stop_polling(timer.who.vcpu);
                self.rouse(vcpu);
            }
            TimerKind::Watchdog(_) => {
                self.print(format_args!("{}: watchdog ran out", domain.id));
                self.shut_down(&domain, ShutdownReason::WATCHDOG);
            }
        }
    }

    /// Forgets every deadline of virtual processor `vcpu`, wherever it is watched.
    pub fn cancel_timers(&self, vcpu: &Vcpu) {
        for processor in &self.processors {
            processor.timers.lock().cancel_all(vcpu.who);
        }
    }
}

/// Watchdogs are the domain's and not one virtual processor's: the first stands for all.
pub const WATCHDOG_OWNER: VcpuId = VcpuId(0);
