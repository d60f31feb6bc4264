//! Physical interrupts: whose each is, and what it makes happen.
//!
//! The hypervisor keeps the EL2 timer, the serial port, the kicks between processors and the call of
//! the virtual interface for itself. The virtual timer belongs to the virtual processor that is
//! loaded, and every other shared interrupt to Dom0, or to a guest it lent it to, as the virtual interrupt of
//! the same number.

use crate::console::Input;
use crate::domain::Domain;
use crate::keys;
use crate::machine::KICK;
use crate::state::{Hypervisor, Processor};
use crate::vcpu::Loaded;
use hv_arch::gic::{self, MAINTENANCE_IRQ, ThisCpuLists};
use hv_arch::timer;
use hv_core::bits::ones;
use hv_core::evtchn::Virq;
use hv_core::ids::{DomId, Irq, VcpuId};
use hv_core::vgic::{Injected, Source};

/// Takes every interrupt that waits; says whether the EL2 timer was among them.
pub fn take_all(hv: &Hypervisor, processor: &Processor, loaded: Option<&Loaded>) -> bool {
    let mut timer_fired = false;
    while let Some(irq) = gic::acknowledge() {
        gic::drop_priority(irq);
        match irq {
            KICK => gic::deactivate(irq),
            timer::IRQ => {
                timer::clear_deadline();
                gic::deactivate(irq);
                timer_fired = true;
            }
            timer::VIRTUAL_IRQ => virtual_timer(hv, loaded),
            MAINTENANCE_IRQ => {
                // What it calls for has to be gone before it is ended, or it comes again at once.
                match loaded {
                    Some(loaded) => fill(hv, &loaded.domain, loaded.id()),
                    None => gic::set_maintenance(hv_core::vgic::Maintenance::empty()),
                }
                gic::deactivate(irq);
            }
            irq if Some(irq) == hv.host.serial_irq => {
                serial(hv);
                gic::deactivate(irq);
            }
            irq => device(hv, processor, irq),
        }
    }
    timer_fired
}

/// Brings the list registers of the virtual processor that is loaded here up to date.
pub fn fill(hv: &Hypervisor, domain: &Domain, vcpu: VcpuId) {
    let filled = domain.vgic.lock().fill(vcpu, &mut ThisCpuLists);
    gic::set_maintenance(filled.maintenance);
    hv.wake(domain, filled.kick);
}

/// Prepares this processor for a virtual one whose registers are about to be loaded.
pub fn loading(hv: &Hypervisor, domain: &Domain, vcpu: VcpuId) {
    let ppis = domain.vgic.lock().load(vcpu);
    for irq in private(ppis.0) {
        gic::set_active(irq, true);
    }
    let cpu = hv.machine.this_cpu();
    let moved = domain.vcpu(vcpu).is_some_and(|vcpu| vcpu.moved_to(cpu));
    if moved {
        for irq in domain.vgic.lock().hardware_aimed_at(vcpu) {
            gic::route(irq, cpu);
        }
    }
}

/// Takes the interrupts of the virtual processor that is loaded here back.
pub fn unloading(hv: &Hypervisor, domain: &Domain, vcpu: VcpuId) {
    let unloaded = domain.vgic.lock().unload(vcpu, &mut ThisCpuLists);
    for irq in private(unloaded.deactivate.0) {
        gic::set_active(irq, false);
    }
    hv.wake(domain, unloaded.kick);
}

fn private(set: u32) -> impl Iterator<Item = Irq> {
    ones(set).filter_map(Irq::new)
}

/// The timer of the virtual processor that is loaded: it has its interrupt until it ends it.
fn virtual_timer(hv: &Hypervisor, loaded: Option<&Loaded>) {
    let Some(loaded) = loaded else {
        gic::deactivate(timer::VIRTUAL_IRQ);
        return;
    };
    let vcpu = &*loaded.vcpu;
    let mut vgic = loaded.domain.vgic.lock();
    if vgic.renew(loaded.id(), timer::VIRTUAL_IRQ, Source::Physical, &mut ThisCpuLists) {
        drop(vgic);
        hv.rouse(vcpu);
        return;
    }
    match vgic.inject_hardware(loaded.id(), timer::VIRTUAL_IRQ) {
        Injected::Pending(kick) => {
            hv.wake_from(&loaded.domain, vcpu, vgic, kick);
            if kick.is_only(loaded.id()) {
                hv.rouse(vcpu);
            }
        }
        Injected::NotOurs => gic::deactivate(timer::VIRTUAL_IRQ),
    }
}

fn serial(hv: &Hypervisor) {
    while let Some(byte) = hv.machine.serial_read() {
        match hv.console.typed(byte) {
            Input::Nothing => {}
            Input::ForDom0 => hv.raise_global(Virq::CONSOLE),
            Input::Key(letter) => keys::press(hv, letter),
            Input::Switched { keys: true } => {
                hv.print(format_args!("input goes to the debug keys: 'h' lists them"));
            }
            Input::Switched { keys: false } => hv.print(format_args!("input goes to Dom0")),
        }
    }
}

/// A device's interrupt: Dom0's, or the guest's that Dom0 lent it to. It stays active until its virtual
/// one is ended.
fn device(hv: &Hypervisor, processor: &Processor, irq: Irq) {
    let Some(dom0) = hv.domain(DomId::DOM0) else {
        hv.print(format_args!("{irq:?} on {:?} has no owner: turned off", processor.id));
        gic::disable(irq);
        gic::deactivate(irq);
        return;
    };
    if !hv.inject_device(&dom0, irq) {
        gic::deactivate(irq);
    }
}
