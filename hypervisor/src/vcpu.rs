//! The run loop of a processor: decide, enter the guest, find out why it came back, act.
//!
//! A processor holds the registers of at most one virtual processor. It keeps them while it is idle,
//! if the virtual one only waits for an interrupt: then coming back costs next to nothing.

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::Caller;
use crate::irq;
use crate::machine::{GuestSpace, VcpuContext};
use crate::state::{Hypervisor, Processor};
use crate::switch::Taken;
use crate::trap;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hv_arch::stage2::{self, Space};
use hv_arch::{ExitReason, gic, power};
use hv_core::ids::{VcpuId, VcpuRef};
use hv_core::time::Nanos;
use hv_core::vgic::Looks;

/// What a processor has in its registers.
pub struct Loaded {
    /// The domain.
    pub domain: Arc<Domain>,
    /// Its virtual processor.
    pub vcpu: Arc<Vcpu>,
    context: Box<VcpuContext>,
}

impl Loaded {
    /// Returns the number of the virtual processor.
    pub fn id(&self) -> VcpuId {
        self.vcpu.who.vcpu
    }
}

/// A processor at work.
pub struct Runner {
    hv: &'static Hypervisor,
    processor: &'static Processor,
    loaded: Option<Loaded>,
    /// Whether the loaded one runs; if not, the processor is idle.
    running: bool,
    /// When the scheduler wants to be asked again.
    until: Nanos,
    /// When to look for interrupts that the controller did not signal.
    looks: Looks,
    /// What the EL2 timer is set to.
    programmed: Nanos,
}

impl Runner {
    /// Prepares processor `processor`.
    pub fn new(hv: &'static Hypervisor, processor: &'static Processor) -> Self {
        Self {
            hv,
            processor,
            loaded: None,
            running: false,
            until: Nanos::NEVER,
            looks: Looks::new(gic::overlooks()),
            programmed: Nanos::NEVER,
        }
    }

    /// Works for ever.
    pub fn run(mut self) -> ! {
        loop {
            if self.processor.must_ask() {
                self.reschedule();
                self.program_timer();
            }
            if self.running {
                self.run_guest();
            } else {
                if !self.hv.scrub_some() {
                    self.sleep();
                }
                self.take_interrupts();
            }
        }
    }

    /// Enters the guest, and again after each trap, until there is something else to do.
    ///
    /// A function of its own: each entry leaves no register to what is around it, which would be stored and
    /// loaded at every trap.
    #[inline(never)]
    fn run_guest(&mut self) {
        let Some(Loaded { domain, vcpu, context }) = &mut self.loaded else {
            self.running = false;
            return;
        };
        let guest = GuestSpace::current();
        let caller = Caller { hv: self.hv, domain, vcpu, guest: &guest };
        loop {
            if vcpu.must_refill() {
                irq::fill(self.hv, domain, vcpu.who.vcpu);
            }
            match context.enter() {
                ExitReason::Sync { esr } => trap::handle(&caller, context, esr),
                ExitReason::Irq => return self.take_interrupts(),
                ExitReason::Serror { esr } => {
                    let vcpu = vcpu.who.vcpu.0;
                    let line =
                        format_args!("SError on virtual processor {vcpu}, syndrome {esr:#x}");
                    self.hv.warn(domain, line);
                    context.inject_serror();
                }
            }
            if self.processor.is_to_ask() {
                return;
            }
        }
    }

    fn sleep(&self) {
        if self.looks.needed_before_sleep() {
            gic::look_again();
        }
        power::wait_for_interrupt();
    }

    fn take_interrupts(&mut self) {
        let timer = irq::take_all(self.hv, self.processor, self.loaded.as_ref());
        if timer {
            self.programmed = Nanos::NEVER;
            self.expire_timers();
            self.program_timer();
        }
    }

    fn expire_timers(&mut self) {
        let now = self.hv.machine.now();
        self.looks.interrupted(now, self.running);
        if self.until <= now {
            self.processor.ask_scheduler();
        }
        loop {
            let expired = self.processor.timers.lock().expired(now);
            let Some(timer) = expired else { break };
            self.hv.timer_expired(timer, now);
        }
    }

    /// Sets the EL2 timer to the next deadline.
    fn program_timer(&mut self) {
        let next = self.processor.timers.lock().next();
        let deadline = self.until.min(next).min(self.looks.next());
        if deadline != self.programmed {
            hv_arch::timer::set_deadline(deadline);
            self.programmed = deadline;
        }
    }

    fn reschedule(&mut self) {
        let now = self.hv.machine.now();
        let decision = self.hv.scheduler.lock().schedule(self.processor.id, now);
        self.until = decision.until;
        self.hv.kick_cpu(decision.help);
        let was_running = core::mem::take(&mut self.running);
        let previous = self.loaded.as_ref().map(|loaded| loaded.vcpu.who);
        let next = decision.run.map(|chosen| chosen.who);
        if was_running && next == previous {
            self.running = true;
            return;
        }
        if was_running && let Some(loaded) = &self.loaded {
            self.hv.stops(&loaded.vcpu, now);
        }
        let leaves = next != previous && (next.is_some() || !decision.keep);
        let left = if leaves { self.unload(now) } else { None };
        if let Some(next) = next {
            self.running = self.start(next, left, now);
            if self.running {
                self.looks.guest_runs(now);
            }
        }
    }

    /// Puts `who` in charge; says whether it could. `left` is the domain that ran before.
    fn start(&mut self, who: VcpuRef, left: Option<Arc<Domain>>, now: Nanos) -> bool {
        if self.loaded.is_none() && !self.load(who, left) {
            return false;
        }
        if let Some(loaded) = &self.loaded {
            self.hv.starts(self.processor, &loaded.vcpu, now);
        }
        true
    }

    fn load(&mut self, who: VcpuRef, left: Option<Arc<Domain>>) -> bool {
        // While the scheduler runs one of its virtual processors, a domain keeps its number: the same number is
        // the same domain.
        let stays = left.as_ref().is_some_and(|domain| domain.id == who.dom);
        let Some(Taken { domain, vcpu, mut context }) = self.hv.take(who, left) else {
            return false;
        };
        if !stays {
            self.hv.activate(&domain);
        }
        self.hv.tell_apart(&domain, who.vcpu);
        // The timer's interrupt must be as the guest has it before the timer is started.
        irq::loading(self.hv, &domain, who.vcpu);
        context.load();
        self.hv.taken(self.processor, &vcpu);
        self.loaded = Some(Loaded { domain, vcpu, context });
        true
    }

    /// Takes what is loaded out of the registers; returns its domain.
    fn unload(&mut self, now: Nanos) -> Option<Arc<Domain>> {
        let Loaded { domain, vcpu, mut context } = self.loaded.take()?;
        irq::unloading(self.hv, &domain, vcpu.who.vcpu);
        context.save();
        self.hv.put(self.processor, &vcpu, context, now);
        Some(domain)
    }
}

impl Hypervisor {
    /// Makes `domain`'s memory what this processor's guest sees. It stays so, also when VMIDs are used anew, until
    /// another domain's is.
    fn activate(&self, domain: &Domain) {
        let cpu = self.machine.this_cpu();
        let root = domain.p2m.lock().root();
        let mut current = domain.vmid.lock();
        let vmid = self.vmids.lock().enter(cpu, *current).carry_out(
            || self.machine.flush_all_guests(),
            |vmid| stage2::activate(Space::new(root.base(), vmid.number())),
        );
        *current = Some(vmid);
    }

    /// Has this processor forget what another virtual processor of `domain` meant by an address and an ASID: they
    /// share a VMID.
    fn tell_apart(&self, domain: &Domain, vcpu: VcpuId) {
        let cpu = self.machine.this_cpu();
        if let Some(last) = domain.last_vcpu.get(cpu.index())
            && last.swap(vcpu.0, Ordering::Relaxed) != vcpu.0
        {
            stage2::flush_local_stage1();
        }
    }
}
