//! How a virtual processor's registers come to a processor and leave it, in steps that others may
//! see.
//!
//! `vcpu` moves what is in the machine between these steps; `model` runs them on the host in many
//! orders.

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::machine::VcpuContext;
use crate::state::{Hypervisor, Processor};
use alloc::boxed::Box;
use alloc::sync::Arc;
use hv_core::ids::VcpuRef;
use hv_core::time::Nanos;
use hv_core::timer_queue::{Timer, TimerKind};

/// A virtual processor whose registers a processor has taken.
pub struct Taken {
    /// The domain.
    pub domain: Arc<Domain>,
    /// Its virtual processor.
    pub vcpu: Arc<Vcpu>,
    /// The registers.
    pub context: Box<VcpuContext>,
}

impl Hypervisor {
    /// Takes the registers of `who`, which the scheduler has chosen; nothing if there is no such
    /// one.
    ///
    /// `left` is the domain that this processor ran until now.
    pub fn take(&self, who: VcpuRef, left: Option<Arc<Domain>>) -> Option<Taken> {
        let domain = left.filter(|domain| domain.id == who.dom).or_else(|| self.domain(who.dom))?;
        let vcpu = domain.vcpu(who.vcpu)?.clone();
        let context = vcpu.context.lock().take()?;
        Some(Taken { domain, vcpu, context })
    }

    /// Notes that `processor` has the registers of `vcpu` loaded.
    pub fn taken(&self, processor: &Processor, vcpu: &Vcpu) {
        vcpu.ask_for_refill();
        *processor.loaded.lock() = Some(vcpu.who);
    }

    /// Says that `vcpu` runs on `processor` from now on.
    pub fn starts(&self, processor: &Processor, vcpu: &Vcpu, now: Nanos) {
        vcpu.starts_on(processor.id);
        self.write_runstate(vcpu, now);
    }

    /// Says that `vcpu` runs no more; its registers stay where they are.
    pub fn stops(&self, vcpu: &Vcpu, now: Nanos) {
        vcpu.stops();
        self.write_runstate(vcpu, now);
    }

    /// Puts the registers of `vcpu` back, which `processor` has saved. From then on another may
    /// take them.
    pub fn put(&self, processor: &Processor, vcpu: &Vcpu, context: Box<VcpuContext>, now: Nanos) {
        let deadline = self.virtual_deadline(&context);
        *vcpu.context.lock() = Some(context);
        *processor.loaded.lock() = None;
        if deadline != Nanos::NEVER {
            let timer = Timer { who: vcpu.who, kind: TimerKind::Virtual };
            processor.timers.lock().set(timer, deadline);
        }
        let kick = self.scheduler.lock().saved(vcpu.sched, now);
        self.kick_cpu(kick);
    }
}
