//! The one place where decisions meet the machine: waking, kicking, flushing, delivering events.

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::lock::Guard;
use crate::machine::Relax;
use crate::state::Hypervisor;
use core::sync::atomic::Ordering;
use hv_core::evtchn::{Arrival, Delivery, Event, Notify, Virq};
use hv_core::ids::{CpuId, VcpuId};
use hv_core::lifecycle::{Change, ShutdownReason};
use hv_core::p2m::{Flush, P2m, Released, Stale};
use hv_core::sched::{Hold, Kick};
use hv_core::vgic::{self, HardwareWork, Source, Vgic};
use log::Level;
use spin::RelaxStrategy;

impl Hypervisor {
    /// Makes a processor ask the scheduler anew.
    pub fn kick_cpu(&self, kick: Kick) {
        let Kick::Cpu(cpu) = kick else { return };
        let Some(processor) = self.processor(cpu) else { return };
        processor.ask_scheduler();
        if cpu != self.machine.this_cpu() {
            self.machine.kick(cpu);
        }
    }

    /// Tells virtual processors of `domain` that interrupts wait for them.
    pub fn wake(&self, domain: &Domain, kick: vgic::Kick) {
        kick.each(|id| {
            if let Some(vcpu) = domain.vcpu(id) {
                vcpu.ask_for_refill();
                self.rouse(vcpu);
            }
        });
    }

    /// Tells virtual processors that interrupts wait for them, when `me` is one of them that runs
    /// here: its list registers are filled at once, under the lock that is held anyway.
    #[inline]
    pub fn wake_from(
        &self,
        domain: &Domain,
        me: &Vcpu,
        mut vgic: Guard<'_, Vgic>,
        kick: vgic::Kick,
    ) {
        if kick.is_only(me.who.vcpu) {
            let filled = vgic.fill(me.who.vcpu, &mut self.machine.lists());
            drop(vgic);
            self.machine.set_maintenance(filled.maintenance);
            self.wake(domain, filled.kick);
        } else {
            drop(vgic);
            self.wake(domain, kick);
        }
    }

    /// Carries out what a change of the domain's interrupts asks of the physical ones, and of others.
    pub fn carry_out(&self, domain: &Domain, work: vgic::Work) {
        if !work.hardware.is_nothing() {
            self.carry_out_hardware(domain, &work.hardware);
        }
        self.wake(domain, work.kick);
    }

    /// Changes physical interrupts as a guest changed its virtual ones.
    pub fn carry_out_hardware(&self, domain: &Domain, work: &HardwareWork) {
        let machine = &self.machine;
        for irq in work.irqs(work.disable) {
            machine.enable_irq(irq, false);
        }
        for irq in work.irqs(work.edge) {
            machine.configure_irq(irq, true);
        }
        for irq in work.irqs(work.level) {
            machine.configure_irq(irq, false);
        }
        for irq in work.irqs(work.deactivate) {
            machine.deactivate(irq);
        }
        for route in work.route {
            if let Some(vcpu) = domain.vcpu(route.to) {
                for irq in work.irqs(route.irqs) {
                    machine.route_irq(irq, vcpu.last_on());
                }
            }
        }
        for irq in work.irqs(work.enable) {
            machine.enable_irq(irq, true);
        }
    }

    /// Puts the calling virtual processor to sleep until an interrupt comes (`WFI`).
    pub fn wait_for_interrupt(&self, domain: &Domain, vcpu: &Vcpu) {
        self.block(vcpu, || self.has_interrupt(domain, vcpu));
    }

    /// Says whether an interrupt waits for the calling virtual processor.
    pub fn has_interrupt(&self, domain: &Domain, vcpu: &Vcpu) -> bool {
        let mask = self.machine.priority_mask();
        domain.vgic.lock().deliverable(vcpu.who.vcpu, &self.machine.lists(), mask)
    }

    /// Carries out a change of the domain's translations, whose lock the caller holds. The frames that
    /// come back are in no TLB any more and can be let go of.
    pub fn flush(&self, domain: &Domain, p2m: &P2m, flush: Flush) -> Released {
        flush.carry_out(self.machine.memory(), |stale| self.invalidate(domain, p2m, stale))
    }

    /// Has every processor forget translations of the domain's, whose lock the caller holds.
    pub fn invalidate(&self, domain: &Domain, p2m: &P2m, stale: Stale) {
        // Before the tag is looked at: a processor that gives the domain another one afterwards, or
        // its first, walks the tables as they are now, and needs no flush of ours.
        self.machine.complete_table_writes();
        if matches!(stale, Stale::Range { .. })
            && let Some(tag) = domain.tag(p2m)
        {
            self.machine.flush_stage2(tag, stale);
        }
    }

    /// Wakes a virtual processor that waits, or interrupts it where it runs.
    ///
    /// Who goes to sleep first marks itself as waiting and then looks for interrupts, and who brings
    /// one first stores it and then looks for the mark: one of the two sees the other.
    pub fn rouse(&self, vcpu: &Vcpu) {
        if !self.end_wait(vcpu)
            && let Some(cpu) = vcpu.running_on()
            && cpu != self.machine.this_cpu()
        {
            self.machine.kick(cpu);
        }
    }

    /// Wakes a virtual processor if it waits; says whether it did.
    #[inline]
    fn end_wait(&self, vcpu: &Vcpu) -> bool {
        let waited = vcpu.end_wait();
        if waited {
            self.release(vcpu, Hold::BLOCKED);
        }
        waited
    }

    /// Puts the calling virtual processor to sleep until an interrupt wakes it.
    ///
    /// `has_reason_to_wake` is asked after it is marked as waiting; if it says yes, it stays awake.
    pub fn block(&self, vcpu: &Vcpu, has_reason_to_wake: impl FnOnce() -> bool) {
        let now = self.machine.now();
        let kick = self.scheduler.lock().hold(vcpu.sched, Hold::BLOCKED, now);
        vcpu.begin_wait();
        self.kick_cpu(kick);
        if has_reason_to_wake() {
            self.end_wait(vcpu);
        }
    }

    /// Lets others of the same processor go first.
    pub fn yield_now(&self, vcpu: &Vcpu) {
        let now = self.machine.now();
        self.scheduler.lock().yield_now(vcpu.sched, now);
        self.kick_cpu(Kick::Cpu(self.machine.this_cpu()));
    }

    /// Raises the interrupt that tells a virtual processor of events.
    pub fn raise_upcall(&self, domain: &Domain, vcpu: VcpuId) {
        let upcall = domain.settings.upcall;
        let here = Some(self.machine.this_cpu());
        let mut vgic = domain.vgic.lock();
        let Some(vcpu) = domain.vcpu(vcpu).filter(|vcpu| vcpu.running_on() == here) else {
            let kick = vgic.inject(vcpu, upcall);
            drop(vgic);
            return self.wake(domain, kick);
        };
        let me = vcpu.who.vcpu;
        if vgic.renew(me, upcall, Source::Software, &mut self.machine.lists()) {
            drop(vgic);
        } else {
            let kick = vgic.inject(me, upcall);
            self.wake_from(domain, vcpu, vgic, kick);
        }
        // It runs here: nobody has to be kicked.
        self.end_wait(vcpu);
    }

    /// Tells the virtual processors of `domain` that `notify` names: one, nearly always.
    #[inline]
    pub fn notify(&self, domain: &Domain, notify: Notify) {
        if let Some(vcpu) = notify.upcall() {
            self.raise_upcall(domain, vcpu);
        }
        if notify.has_more() {
            self.notify_more(domain);
        }
    }

    #[cold]
    #[inline(never)]
    fn notify_more(&self, domain: &Domain) {
        let told = domain.ports.lock().take_told();
        for vcpu in told.upcalls {
            self.raise_upcall(domain, vcpu);
        }
        for vcpu in told.pollers.filter_map(|id| domain.vcpu(id)) {
            self.rouse(vcpu);
        }
    }

    /// Carries out what a send from `domain` decided.
    #[inline]
    pub fn deliver(&self, domain: &Domain, delivery: Delivery) {
        match delivery {
            Delivery::Nowhere => {}
            Delivery::Here(notify) => self.notify(domain, notify),
            Delivery::To(event) => self.deliver_to(event),
        }
    }

    #[inline(never)]
    fn deliver_to(&self, event: Event) {
        let Some(target) = self.domain(event.dom) else { return };
        let arrival = target.ports.lock().receive(self.machine.memory(), event);
        match arrival {
            Arrival::Guest(notify) => self.notify(&target, notify),
            // The one thing that the hypervisor listens for.
            Arrival::Hypervisor(_) => self.hear_of_uart(&target),
        }
    }

    /// Raises a virtual interrupt that is the whole domain's.
    pub fn raise_virq(&self, domain: &Domain, virq: Virq) {
        let notify = domain.ports.lock().raise(self.machine.memory(), virq, VcpuId(0));
        self.notify(domain, notify);
    }

    /// Raises a global virtual interrupt in the domain it goes to: Dom0, if there is one yet, unless
    /// another was named.
    pub fn raise_global(&self, virq: Virq) {
        let handler = self.virq_handlers.lock().of(virq);
        if let Some(domain) = self.domain(handler) {
            self.raise_virq(&domain, virq);
        }
    }

    /// Keeps one virtual processor from running, for `hold`.
    pub fn hold(&self, vcpu: &Vcpu, hold: Hold) {
        let now = self.machine.now();
        let kick = self.scheduler.lock().hold(vcpu.sched, hold, now);
        self.kick_cpu(kick);
    }

    /// Takes a reason away that kept one virtual processor from running.
    ///
    /// Never inlined: an event for one that does not wait saves no registers for it.
    #[inline(never)]
    pub fn release(&self, vcpu: &Vcpu, hold: Hold) {
        let now = self.machine.now();
        let kick = self.scheduler.lock().release(vcpu.sched, hold, now);
        self.kick_cpu(kick);
    }

    /// Stops or restarts all virtual processors of `domain`.
    pub fn apply(&self, domain: &Domain, change: Change, hold: Hold) {
        for vcpu in domain.vcpus() {
            match change {
                Change::Nothing => {}
                Change::Stop => self.hold(vcpu, hold),
                // One that was paused by itself stays so.
                Change::Go if hold == Hold::PAUSED && vcpu.pauses.load(Ordering::SeqCst) > 0 => {}
                Change::Go => self.release(vcpu, hold),
            }
        }
    }

    /// Shuts `domain` down for `reason`; Dom0 takes the machine with it.
    pub fn shut_down(&self, domain: &Domain, reason: ShutdownReason) {
        let change = domain.life.lock().shut_down(reason);
        self.apply(domain, change, Hold::SHUTDOWN);
        if domain.is_privileged() {
            self.dom0_is_down(reason);
        } else if change == Change::Stop {
            self.raise_global(Virq::DOM_EXC);
        }
    }

    /// Says whether no processor holds any of the domain's registers: it has really stopped.
    pub fn has_stopped(&self, domain: &Domain) -> bool {
        let scheduler = self.scheduler.lock();
        domain.vcpus().iter().all(|vcpu| !scheduler.is_loaded(vcpu.sched))
    }

    /// Waits for the other processors to leave `domain`, since its memory may be looked at next.
    ///
    /// They were told, hold nothing that this one waits for, and leave at once; should one not, the
    /// caller goes on after some ten milliseconds.
    pub fn wait_until_stopped(&self, domain: &Domain) {
        const TRIES: u32 = 1 << 20;
        for _ in 0..TRIES {
            // Not `Vcpu::running_on`: a processor that has chosen one, but not started it yet, is
            // not in there.
            if self.has_stopped(domain) {
                return;
            }
            Relax::relax();
        }
    }

    /// Says on which processor a deadline for `vcpu` is watched: where it last ran.
    pub fn home(&self, vcpu: &Vcpu) -> CpuId {
        self.scheduler.lock().cpu_of(vcpu.sched)
    }

    fn dom0_is_down(&self, reason: ShutdownReason) {
        let restart = reason != ShutdownReason::POWEROFF && !self.host.options.noreboot;
        let what = match reason {
            ShutdownReason::POWEROFF => "powered off",
            ShutdownReason::REBOOT => "asked for a restart",
            ShutdownReason::WATCHDOG => "was stopped by its watchdog",
            _ => "crashed",
        };
        let then = if restart { "restarting" } else { "halting" };
        self.print(format_args!("Dom0 {what}: {then} the machine"));
        self.machine.power_off(restart);
    }

    /// Prints a line about what a guest did wrong (`guest_loglvl=`); where such lines are limited, not
    /// when it did too much wrong lately.
    pub fn warn(&self, domain: &Domain, line: core::fmt::Arguments<'_>) {
        let shown = self.console.levels.lock().guests;
        let now = self.machine.now();
        let limited = || shown.limited >= Level::Warn && domain.complaints.lock().allow(now);
        if shown.always >= Level::Warn || limited() {
            self.console.print(&self.machine, format_args!("{}: {line}", domain.id));
        }
    }

    /// Prints one line on the console, if such lines are wanted (`loglvl=`).
    pub fn print(&self, line: core::fmt::Arguments<'_>) {
        if self.console.levels.lock().own.always >= Level::Info {
            self.console.print(&self.machine, line);
        }
    }
}
