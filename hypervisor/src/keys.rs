//! Debug keys: one letter, one report (`xl debug-keys`, or Ctrl-A three times and the letter).

use crate::domain::Domain;
use crate::state::Hypervisor;
use alloc::sync::Arc;
use core::fmt;
use hv_core::evtchn;
use hv_core::ids::{Irq, VcpuId};
use hv_core::lifecycle::{Dying, Lifecycle};

/// A key and what it prints.
struct Key {
    letter: u8,
    help: &'static str,
    action: fn(&Hypervisor),
}

const KEYS: &[Key] = &[
    Key { letter: b'h', help: "list the keys", action: help },
    Key { letter: b'q', help: "domains and their virtual processors", action: domains },
    Key { letter: b'r', help: "processors and what they run", action: processors },
    Key { letter: b'm', help: "memory in use and free", action: memory },
    Key { letter: b'e', help: "open event channels", action: ports },
    Key { letter: b'g', help: "grant tables", action: grants },
    Key { letter: b'i', help: "virtual interrupts", action: interrupts },
    Key { letter: b'a', help: "deadlines that are watched", action: timers },
    Key { letter: b'R', help: "restart the machine", action: restart },
];

/// Carries out debug key `letter`.
pub fn press(hv: &Hypervisor, letter: u8) {
    match KEYS.iter().find(|key| key.letter == letter) {
        Some(key) => (key.action)(hv),
        None => hv.print(format_args!(
            "no debug key '{}': 'h' lists them",
            char::from(letter).escape_default()
        )),
    }
}

fn help(hv: &Hypervisor) {
    hv.print(format_args!("debug keys:"));
    for key in KEYS {
        hv.print(format_args!("  {}  {}", char::from(key.letter), key.help));
    }
}

/// A domain's state in words.
struct State<'a>(&'a Lifecycle);

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.dying(), self.0.shutdown()) {
            (Dying::Done, _) => f.write_str("dead, its memory still in use by others"),
            (Dying::Underway, _) => f.write_str("dying"),
            (Dying::No, Some(reason)) => write!(f, "shut down (reason {})", reason.0),
            (Dying::No, None) if self.0.is_paused() => f.write_str("paused"),
            (Dying::No, None) => f.write_str("running"),
        }
    }
}

fn domains(hv: &Hypervisor) {
    for domain in in_order(hv) {
        let life = domain.life.lock().clone();
        let pages = hv.frames.lock().account(domain.id).map_or(0, |account| account.total);
        hv.print(format_args!("{}: {}, {pages} pages", domain.id, State(&life)));
        for vcpu in domain.vcpus() {
            let (holds, cpu) = {
                let scheduler = hv.scheduler.lock();
                (scheduler.holds(vcpu.sched), scheduler.cpu_of(vcpu.sched))
            };
            let waiting = vcpu.is_waiting();
            hv.print(format_args!(
                "  {:?}: on {cpu:?}, held by {holds:?}, waiting {waiting}",
                vcpu.who.vcpu
            ));
        }
    }
}

fn processors(hv: &Hypervisor) {
    let now = hv.machine.now();
    for processor in &hv.processors {
        let idle = hv.scheduler.lock().idle_time(processor.id, now);
        let loaded = *processor.loaded.lock();
        match loaded {
            Some(who) => hv.print(format_args!("{:?}: {who}, idle {} ns", processor.id, idle.0)),
            None => hv.print(format_args!("{:?}: nobody, idle {} ns", processor.id, idle.0)),
        }
    }
}

fn memory(hv: &Hypervisor) {
    let (free, aside, managed) = {
        let frames = hv.frames.lock();
        (frames.free(), frames.set_aside(), frames.managed())
    };
    hv.print(format_args!("{free} frames free of {managed}, {aside} of them set aside"));
    hv.print(format_args!("{} bytes of the heap free", hv.machine.heap_free()));
    for domain in in_order(hv) {
        let account = hv.frames.lock().account(domain.id).unwrap_or_default();
        hv.print(format_args!(
            "{}: {} bytes of the heap; set aside: {} frames for grants, {} for tables",
            domain.id,
            domain.heap,
            account.grants,
            account.pool.saturating_sub(account.tables)
        ));
    }
}

/// Goes through the domains by number, and needs no memory for it.
fn in_order(hv: &Hypervisor) -> impl Iterator<Item = Arc<Domain>> {
    core::iter::successors(hv.domain_from(0), |domain| {
        domain.id.0.checked_add(1).and_then(|next| hv.domain_from(next))
    })
}

fn ports(hv: &Hypervisor) {
    for domain in in_order(hv) {
        let (open, mut next) = {
            let ports = domain.ports.lock();
            (ports.open_ports(), ports.next_open(0, true))
        };
        hv.print(format_args!("{}: {open} open event channels", domain.id));
        while let Some(port) = next {
            let (status, flags) = {
                let ports = domain.ports.lock();
                next = ports.next_open(port + 1, true);
                (ports.status(port), ports.flags(hv.machine.memory(), port))
            };
            let Ok((status, vcpu)) = status else { continue };
            let pending = if flags.0 { ", pending" } else { "" };
            let masked = if flags.1 { ", masked" } else { "" };
            hv.print(format_args!("  {port}: {status:?}, tells v{}{pending}{masked}", vcpu.0));
        }
        for vcpu in domain.vcpus() {
            let info = domain.ports.lock().vcpu_info(vcpu.who.vcpu);
            let Some(info) = info else { continue };
            let called = evtchn::upcall_pending(hv.machine.memory(), info);
            hv.print(format_args!("  v{}: upcall pending {called}", vcpu.who.vcpu.0));
        }
    }
}

fn grants(hv: &Hypervisor) {
    for domain in in_order(hv) {
        let (frames, most, uses, mappings) = {
            let grants = domain.grants.lock();
            (grants.frames().len(), grants.max_frames(), grants.uses(), grants.mappings())
        };
        hv.print(format_args!(
            "{}: {frames} of {most} frames; others use its grants {uses} times, it has {mappings} of \
             others mapped",
            domain.id
        ));
    }
}

fn interrupts(hv: &Hypervisor) {
    let highest = 32 + hv.host.spis;
    for domain in in_order(hv) {
        hv.print(format_args!("{}: interrupts that are pending, active or listed", domain.id));
        for vcpu in domain.vcpus() {
            for irq in (0..32).filter_map(Irq::new) {
                interrupt(hv, &domain, vcpu.who.vcpu, irq);
            }
        }
        for irq in (32..highest).filter_map(Irq::new) {
            interrupt(hv, &domain, VcpuId(0), irq);
        }
    }
}

fn interrupt(hv: &Hypervisor, domain: &Domain, vcpu: VcpuId, irq: Irq) {
    let state = domain.vgic.lock().state(vcpu, irq);
    if let Some(state) = state
        && (state.pending || state.active || state.listed || state.queued)
    {
        hv.print(format_args!("  v{} {}: {state:?}", vcpu.0, irq.intid()));
    }
}

fn timers(hv: &Hypervisor) {
    let now = hv.machine.now();
    hv.print(format_args!("it is {} ns", now.0));
    for processor in &hv.processors {
        let queued = processor.timers.lock().queued().len();
        hv.print(format_args!("{:?}: {queued} deadlines", processor.id));
        for index in (0..queued).rev() {
            let timer = processor.timers.lock().queued().get(index).copied();
            if let Some((deadline, timer)) = timer {
                hv.print(format_args!("  {} {:?}: {} ns", timer.who, timer.kind, deadline.0));
            }
        }
    }
    for domain in in_order(hv) {
        for vcpu in domain.vcpus() {
            let deadline = vcpu.context.lock().as_ref().map(|context| hv.virtual_deadline(context));
            match deadline {
                Some(deadline) => {
                    hv.print(format_args!("{}: virtual timer {deadline:?}", vcpu.who))
                }
                None => hv.print(format_args!("{}: loaded", vcpu.who)),
            }
        }
    }
}

fn restart(hv: &Hypervisor) {
    hv.print(format_args!("restarting the machine, as the debug key says"));
    hv.machine.power_off(true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use hv_core::ids::DomId;

    fn pressed(fixture: &Fixture, letter: u8) -> String {
        fixture.hv.machine.serial.lock().clear();
        press(&fixture.hv, letter);
        String::from_utf8_lossy(&fixture.hv.machine.serial.lock()).into_owned()
    }

    #[test]
    fn each_key_reports_on_each_domain() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        let memory = fixture.hv.machine.memory();
        let port = domain.ports.lock().alloc_unbound(memory, DomId::DOM0).unwrap();
        for key in b"qegia" {
            let report = pressed(&fixture, *key);
            assert!(report.contains("d0") && report.contains("d1"), "{report}");
        }
        let ports = pressed(&fixture, b'e');
        assert!(ports.contains("d0: 0 open event channels"), "{ports}");
        assert!(ports.contains(&format!("{}: Unbound(d0), tells v0", port.number())), "{ports}");
        let help = pressed(&fixture, b'h');
        assert!(KEYS.iter().all(|key| help.contains(key.help)), "{help}");
        assert!(pressed(&fixture, b'?').contains("no debug key '?'"));
    }

    #[test]
    fn an_interrupt_that_waits_is_listed() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        assert!(!pressed(&fixture, b'i').contains("v1 31"));
        let irq = Irq::new(31).unwrap();
        let _nobody_runs = domain.vgic.lock().inject(VcpuId(1), irq);
        let report = pressed(&fixture, b'i');
        assert!(report.contains("v1 31: State { enabled: false, pending: true"), "{report}");
    }
}
